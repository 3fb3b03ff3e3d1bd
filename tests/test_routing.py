"""Routers read what they say, and nothing else: shape, spectrum, calendar; gates are a simplex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from mixlin.backends import resolve
from mixlin.calendar_features import reference_features
from mixlin.layers import Layer
from mixlin.routing import (
    NAMED_ROUTERS,
    CalendarRouter,
    ConstantRouter,
    Gate,
    PeriodicRouter,
    Router,
    SpectralRouter,
    StatisticsRouter,
    named_router,
    router_from_config,
)
from mixlin.solvers.corrections import run_gate
from mixlin.window_statistics import STATISTICS, window_statistics

from .mixture_cases import softmax_of

quick = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
L, H = 24, 6


def windows(seed=0, n=5, channels=2, lookback=L):
    return np.random.default_rng(seed).normal(size=(n, channels, lookback))


def stamps(starts, step="h", lookback=L, horizon=H):
    steps = np.arange(lookback + horizon) * np.timedelta64(1, step)
    return (np.asarray(starts, "datetime64[ns]")[:, None] + steps).astype("datetime64[ns]")


# -- gates -------------------------------------------------------------------------------------


@quick
@given(
    seed=SEEDS,
    n_experts=st.integers(1, 6),
    data=st.data(),
    temperature=st.floats(0.05, 20),
    size=st.floats(-2, 3),
)
def test_gates_are_weights_of_at_most_top_k_experts(seed, n_experts, data, temperature, size):
    top_k = data.draw(st.none() | st.integers(1, n_experts))
    rng = np.random.default_rng(seed)
    layer = Layer(10**size * rng.normal(size=(1, 3, n_experts)), rng.normal(size=(1, n_experts)))
    gate = Gate(ConstantRouter(), (layer,), top_k=top_k, temperature=temperature)
    features = rng.normal(size=(7, 2, 3))
    gates = run_gate(gate, features)
    assert gates.shape == (7, 2, n_experts)
    assert (gates >= 0).all()
    np.testing.assert_allclose(gates.sum(axis=2), 1.0, rtol=1e-12)
    assert ((gates > 0).sum(axis=2) <= (top_k or n_experts)).all()
    logits = features @ layer.weight[0] + layer.bias[0]
    expected = [[softmax_of(row, top_k, temperature) for row in rows] for rows in logits]
    np.testing.assert_allclose(gates, expected, atol=1e-12)


def test_the_comparison_of_gates_notices_another_temperature():
    logits = np.array([0.0, 1.0, 3.0])
    gates = resolve("numpy").gate(logits[None, None], None, 1.0)[0, 0]
    np.testing.assert_allclose(gates, softmax_of(logits, None, 1.0), atol=1e-12)
    assert np.abs(gates - softmax_of(logits, None, 1.01)).max() > 1e-4


# -- statistics --------------------------------------------------------------------------------


@quick
@given(seed=SEEDS, shift=st.floats(-1e3, 1e3), power=st.floats(-4, 4), lookback=st.integers(2, 50))
def test_statistics_know_neither_level_nor_scale(seed, shift, power, lookback):
    x = windows(seed, lookback=lookback)
    factor = 10.0**power
    found = StatisticsRouter().features(x, None, H)
    assert found.shape == (5, 2, len(STATISTICS))
    np.testing.assert_allclose(
        StatisticsRouter().features(factor * (x + shift), None, H), found, atol=1e-6
    )
    assert not np.allclose(StatisticsRouter().features(-x, None, H), found, atol=1e-3)


def test_statistics_are_those_of_their_definition():
    x = windows(3)
    found = dict(zip(STATISTICS, np.moveaxis(window_statistics(x), 2, 0), strict=True))
    z = (x - x.mean(axis=2, keepdims=True)) / x.std(axis=2, keepdims=True)
    recent = z[:, :, -L // 4 :]
    time = np.arange(L)
    trend = [[np.corrcoef(row, time)[0, 1] for row in rows] for rows in z]
    np.testing.assert_allclose(found["minimum"], z.min(axis=2), rtol=1e-12)
    np.testing.assert_allclose(found["maximum"], z.max(axis=2), rtol=1e-12)
    np.testing.assert_allclose(found["last value"], z[:, :, -1], rtol=1e-12)
    np.testing.assert_allclose(found["trend"], trend, rtol=1e-10)
    np.testing.assert_allclose(found["recent level"], recent.mean(axis=2), rtol=1e-10)
    np.testing.assert_allclose(found["skewness"], (z**3).mean(axis=2), rtol=1e-10)
    spread = np.log(recent.std(axis=2))
    np.testing.assert_allclose(found["recent spread"], spread, atol=2e-3)  # but for a floor
    steps = np.log(np.abs(np.diff(z, axis=2)).mean(axis=2))
    np.testing.assert_allclose(found["roughness"], steps, atol=2e-2)


@pytest.mark.parametrize("level", [0.0, 3.0, 1e6, -1e-3])
@pytest.mark.parametrize("router", [StatisticsRouter(), SpectralRouter()])
def test_a_constant_window_has_no_shape(router, level):
    x = windows()
    x[1, 0] = level
    found = router.features(x, None, H)
    assert (found[1, 0] == 0).all()
    assert np.isfinite(found).all()
    assert (found[1, 1] != 0).any()


def test_level_and_spread_are_added_where_they_are_asked_for():
    x = 3 + 2 * windows()
    router = StatisticsRouter(level=True, spread=True)
    found = router.features(x, None, H)
    assert router.feature_names() == [*STATISTICS, "level", "log spread"]
    assert found.shape[2] == len(router.feature_names())
    np.testing.assert_array_equal(found[:, :, :-2], window_statistics(x))
    np.testing.assert_allclose(found[:, :, -2], x.mean(axis=2))
    np.testing.assert_allclose(found[:, :, -1], np.log(x.std(axis=2)))
    assert np.isfinite(router.features(np.ones((1, 1, L)), None, H)).all()


# -- spectrum ----------------------------------------------------------------------------------


@quick
@given(
    seed=SEEDS,
    n_bands=st.integers(1, 40),
    lookback=st.integers(2, 60),
    shift=st.floats(-1e3, 1e3),
    power=st.floats(-4, 4),
)
def test_bands_share_the_power_of_a_window(seed, n_bands, lookback, shift, power):
    x = windows(seed, lookback=lookback)
    router = SpectralRouter(n_bands=n_bands)
    found = router.features(x, None, H)
    assert found.shape[:2] == (5, 2)
    assert 1 <= found.shape[2] <= min(n_bands, lookback // 2)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=2), 1.0, rtol=1e-9)
    moved = router.features(10.0**power * (x + shift), None, H)
    np.testing.assert_allclose(moved, found, atol=1e-6)
    np.testing.assert_allclose(router.features(-x[:, :, ::-1], None, H), found, atol=1e-9)


def test_bands_are_sums_over_the_periodogram():
    x = windows(1)
    power = np.abs(np.fft.rfft(x, axis=2)[:, :, 1:]) ** 2
    share = power / power.sum(axis=2, keepdims=True)
    for n_bands in (1, 3, 5, 100):
        router = SpectralRouter(n_bands=n_bands)
        found, edges = router.features(x, None, H), router._edges(L // 2)
        assert (edges[0], edges[-1]) == (0, L // 2)  # every frequency is in a band
        assert (np.diff(edges) >= 1).all()
        assert found.shape[2] == len(edges) - 1
        if n_bands <= 3:
            assert found.shape[2] == n_bands
        for b in range(found.shape[2]):
            expected = share[:, :, edges[b] : edges[b + 1]].sum(axis=2)
            np.testing.assert_allclose(found[:, :, b], expected, rtol=1e-9)
    assert not np.allclose(found[:, :, 0], found[:, :, 1], rtol=1e-2)


def test_a_slow_and_a_fast_wave_are_told_apart():
    time = np.arange(64)
    waves = np.stack([np.sin(2 * np.pi * k * time / 64) for k in (1, 4, 31)])[:, None]
    found = SpectralRouter(n_bands=6).features(waves, None, H)[:, 0]
    assert (np.sort(found, axis=1)[:, -1] > 0.999).all()
    assert len(set(found.argmax(axis=1).tolist())) == 3


# -- calendar ----------------------------------------------------------------------------------

STARTS = np.array(["2024-02-28T20", "2023-12-31T11", "2024-03-31T01"], "datetime64[ns]")


@pytest.mark.parametrize("encoding", ["cyclic", "reference"])
def test_the_stamp_that_is_read_is_the_one_that_is_asked_for(encoding):
    times, x = stamps(STARTS), windows(n=3)
    read = {
        which: CalendarRouter(stamp=which, encoding=encoding).features(x, times, H)
        for which in ("first", "last", "next", "horizon")
    }
    assert read["first"].shape == read["next"].shape == read["last"].shape
    assert read["first"].shape[:2] == (3, 1)
    assert read["horizon"].shape == (3, 1, H, read["first"].shape[2])
    step = np.timedelta64(1, "h")
    # a window that begins where another one is read
    for which, offset in (("last", L - 1), ("next", L)):
        moved = CalendarRouter(stamp="first", encoding=encoding).features(
            x, times + offset * step, H
        )
        np.testing.assert_array_equal(read[which], moved)
        assert not np.array_equal(read[which], read["first"])
    for h in range(H):
        moved = CalendarRouter(stamp="next", encoding=encoding).features(x, times + h * step, H)
        np.testing.assert_array_equal(read["horizon"][:, :, h], moved)


def test_the_reference_encoding_is_that_of_the_reference():
    router = CalendarRouter(stamp="first", encoding="reference")
    times = stamps(STARTS)
    expected = reference_features(times[:, 0], "h")[:, None]
    np.testing.assert_array_equal(router.features(windows(n=3), times, H), expected)


@pytest.mark.parametrize("border", ["2024-01-01", "2024-03-01", "2023-07-15", "2024-12-31"])
def test_the_cyclic_calendar_does_not_jump(border):
    minutes = np.datetime64(border, "m") + np.arange(-30, 31)
    times = stamps(minutes, "m", 2, 2)
    names = CalendarRouter(freq="h").feature_names()
    found = CalendarRouter(freq="h").features(windows(n=61, lookback=2), times, 2)[:, 0]
    assert found.shape[1] == len(names)
    steps = np.abs(np.diff(found, axis=0)).max()
    assert 0 < steps <= 3 * 2 * np.pi / 1440 * 1.001  # the third harmonic of the day, per minute
    jumps = CalendarRouter(freq="h", encoding="reference").features(
        windows(n=61, lookback=2), times, 2
    )
    assert np.abs(np.diff(jumps[:, 0], axis=0)).max() > 0.1  # which the other one does


def test_three_harmonics_tell_any_seven_days_apart():
    days = stamps(np.datetime64("2024-01-01") + np.arange(7), "h")
    found = CalendarRouter(stamp="first").features(windows(n=7), days, H)[:, 0]
    for weekend in range(1, 2**7 - 1):
        wanted = np.array([weekend >> d & 1 for d in range(7)], dtype=float)
        coef = np.linalg.lstsq(np.c_[found, np.ones(7)], wanted, rcond=None)[0]
        np.testing.assert_allclose(np.c_[found, np.ones(7)] @ coef, wanted, atol=1e-9)


def test_the_frequency_is_that_of_the_training_data():
    hours, days = stamps(STARTS, "h")[0], stamps(STARTS, "D")[0]
    assert CalendarRouter().prepared(hours).freq == "h"
    assert CalendarRouter().prepared(days).freq == "D"
    assert CalendarRouter(freq="W").prepared(hours).freq == "W"
    assert CalendarRouter().prepared(hours).feature_names() != (
        CalendarRouter().prepared(days).feature_names()
    )
    router = CalendarRouter()
    router.prepared(hours)
    assert router.freq is None


# -- fixed gates -------------------------------------------------------------------------------

PERIODS = {"day": 24, "week": 168, "year": 8766}


def gates_at(router, times):
    """Return the gates (n, E) of the given times of the first step to forecast."""
    first = np.asarray(times, "datetime64[ns]") - np.timedelta64(L, "h")
    return np.exp(router.features(windows(n=len(first)), stamps(first), H)[:, 0])


@quick
@given(
    n_experts=st.integers(2, 9),
    period=st.sampled_from(sorted(PERIODS)),
    n_harmonics=st.none() | st.integers(1, 3),
    hours=st.lists(st.integers(0, 10**5), min_size=1, max_size=20),
)
def test_fixed_gates_are_a_partition_of_unity(n_experts, period, n_harmonics, hours):
    router = PeriodicRouter(n_experts, period, n_harmonics)
    if n_harmonics is not None and n_experts <= n_harmonics:
        with pytest.raises(ValueError, match=r"don't sum to one .* Use more experts"):
            router.check()
        return
    router.check()
    gates = gates_at(router, np.datetime64("2020-01-01T00", "h") + np.array(hours))
    assert gates.shape == (len(hours), n_experts)
    assert (gates >= 0).all()
    np.testing.assert_allclose(gates.sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize("period", sorted(PERIODS))
@pytest.mark.parametrize("n_experts", [2, 3, 4, 5, 8])
def test_fixed_gates_are_the_bumps_of_their_definition(period, n_experts):
    router = PeriodicRouter(n_experts, period)
    times = np.datetime64("2024-05-05T00", "h") + np.arange(0, 500, 7)
    phase = router.phases(times.astype("datetime64[ns]"))
    J = max(1, (n_experts - 1) // 2)
    assert router.degree == J
    expected = np.empty((len(times), n_experts))
    for k in range(n_experts):
        t = phase - 2 * np.pi * k / n_experts
        waves = sum((1 - j / (J + 1)) * np.cos(j * t) for j in range(1, J + 1))
        expected[:, k] = (1 + 2 * waves) / n_experts
    np.testing.assert_allclose(gates_at(router, times), expected, atol=2e-12)
    assert expected.max() <= 1 + 1e-12
    # the same as trigonometric polynomials, which the solver's moments are made of
    waves = np.exp(1j * np.outer(phase, np.arange(-J, J + 1)))
    np.testing.assert_allclose(waves @ router.amplitudes().T, expected, atol=1e-12)
    moved = np.exp(1j * np.outer(phase + 1e-3, np.arange(-J, J + 1))) @ router.amplitudes().T
    assert np.abs(moved - expected).max() > 1e-5


@pytest.mark.parametrize("period", sorted(PERIODS))
def test_phases_go_once_around_in_a_period(period):
    router = PeriodicRouter(3, period)
    times = (np.datetime64("2024-01-01T00", "h") + np.arange(400)).astype("datetime64[ns]")
    steps = np.angle(np.exp(1j * np.diff(router.phases(times))))
    hours = PERIODS[period] if period != "year" else 366 * 24
    np.testing.assert_allclose(steps, 2 * np.pi / hours, rtol=1e-6)


def test_bumps_stand_at_even_distances_in_the_day():
    router = PeriodicRouter(4)
    gates = gates_at(router, np.datetime64("2024-01-01T00", "h") + np.arange(24))
    assert gates.argmax(axis=0).tolist() == [0, 6, 12, 18]
    np.testing.assert_allclose(gates[6:, 1], gates[:-6, 0], atol=1e-12)


# -- routers as parameters ---------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Tide(Router):
    """A router of a user, with every parameter that solvers read."""

    period: float = 12.42
    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0

    def features(self, windows, timestamps, horizon):
        phase = 2 * np.pi * np.arange(windows.shape[2]) / self.period
        return np.stack([windows @ np.cos(phase), windows @ np.sin(phase)], axis=2)


ROUTERS = [
    *(cls() for cls in NAMED_ROUTERS.values()),
    CalendarRouter(stamp="horizon", encoding="reference", freq="D", hidden=3, temperature=0.5),
    StatisticsRouter(level=True, spread=True, per_channel=True, noise=0.1, head_dropout=0.2),
    SpectralRouter(n_bands=5, hidden=None),
    PeriodicRouter(5, "week", 2),
    Tide(24.84, hidden=7),
]


@pytest.mark.parametrize("router", ROUTERS, ids=repr)
def test_routers_are_cloned_and_rebuilt_from_plain_data(router):
    config = router.config()
    assert all(v is None or isinstance(v, (bool, int, float, str)) for v in config.values())
    again = router_from_config(type(router).__name__, config)
    assert type(again) is type(router)
    for made in (again, clone(router)):
        assert made is not router
        assert made.get_params() == router.get_params()
        assert repr(made) == repr(router)
        assert made.config() == config
    changed = clone(router).set_params(**{next(iter(config), "hidden"): None}) if config else None
    assert changed is None or changed.config() != config or None in config.values()


@pytest.mark.parametrize("router", ROUTERS, ids=repr)
def test_features_do_not_depend_on_other_windows(router):
    x, times = windows(n=6), stamps(np.datetime64("2024-03-08T00", "h") + 31 * np.arange(6))
    whole = router.features(x, times, H)
    assert len(whole) == 6
    assert whole.shape[1] in (1, 2)
    assert np.isfinite(whole).all()
    names = router.feature_names()
    assert names is None or len(names) == whole.shape[-1]
    for i in range(6):
        one = router.features(x[i : i + 1], times[i : i + 1], H)
        np.testing.assert_allclose(one[0], whole[i], atol=1e-12)


def test_routers_are_known_by_name():
    assert set(NAMED_ROUTERS) == {"calendar", "constant", "spectral", "statistics"}
    for name, cls in NAMED_ROUTERS.items():
        assert type(named_router(name)) is cls
    mine = Tide()
    assert named_router(mine) is mine


BAD_ROUTERS = [
    ("lunar", "router must be one of 'calendar', .*, or a Router such as .*; got 'lunar'"),
    (None, "got None"),
    (StatisticsRouter, "got <class"),
    (CalendarRouter(stamp="noon"), "stamp of CalendarRouter must be one of .*; got 'noon'"),
    (CalendarRouter(encoding="onehot"), "encoding of CalendarRouter must be one of .*'onehot'"),
    (
        CalendarRouter(n_harmonics=0),
        "n_harmonics of .* must be an integer of at least 1; got 0",
    ),
    (
        SpectralRouter(n_bands=0),
        "n_bands of SpectralRouter must be an integer of at least 1; got 0",
    ),
    (
        StatisticsRouter(hidden=0),
        "hidden of .* must be None or an integer of at least 1; got 0",
    ),
    (SpectralRouter(temperature=0.0), "temperature of SpectralRouter must be positive; got 0.0"),
    (SpectralRouter(temperature=float("nan")), "temperature of SpectralRouter must be positive"),
    (StatisticsRouter(noise=-1.0), "noise of StatisticsRouter must not be negative; got -1.0"),
    (StatisticsRouter(head_dropout=1.0), "head_dropout .* at least 0 and less than 1; got 1.0"),
    (PeriodicRouter(period="moon"), "period must be 'day', 'week' or 'year'; got 'moon'"),
    (PeriodicRouter(n_harmonics=0), "n_harmonics must be None or at least 1; got 0"),
    (Tide(temperature=-1.0), "temperature of Tide must be positive; got -1.0"),
]


@pytest.mark.parametrize(("router", "sentence"), BAD_ROUTERS, ids=lambda v: repr(v)[:40])
def test_routers_that_make_no_sense_are_refused(router, sentence):
    with pytest.raises(ValueError, match=sentence):
        named_router(router)


def test_a_router_that_nobody_knows_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"unknown router 'Moon'. Known: .*CalendarRouter.*Import"):
        router_from_config("Moon", {})


@pytest.mark.parametrize("router", [CalendarRouter(freq="h"), PeriodicRouter()], ids=repr)
def test_a_calendar_without_times_says_so(router):
    with pytest.raises(ValueError, match="reads timestamps; got none"):
        router.features(windows(), None, H)
