"""Solvers find what is there to be found, and their shortcuts are the sums they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.base import window_weights
from mixlin.layers import Layer
from mixlin.mixture import Mixture, predict_windows
from mixlin.normalization import Normalization
from mixlin.routing import CalendarRouter, Gate, PeriodicRouter, StatisticsRouter
from mixlin.solvers import AlternatingSolver, FixedGatesSolver, WindowSource, fixed_gates
from mixlin.solvers.alternating import halved
from mixlin.solvers.corrections import (
    CorrectionSpace,
    ShrinkagePath,
    moments_of,
    most_coordinates,
    run_gate,
)
from mixlin.solvers.gate_fit import GateNetwork, cross_entropy, standardized
from mixlin.solvers.mixture_task import measured_from
from mixlin.windows import make_windows

from . import regimes

quick = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
L, H = 9, 4


def hours(n, start="2024-03-01T05"):
    return (np.datetime64(start, "h") + np.arange(n)).astype("datetime64[ns]")


def series(n_rows, n_channels=2, seed=0):
    """Return series whose law changes with the time of day."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n_rows, n_channels))
    for t in range(1, n_rows):
        drift = 0.6 * np.cos(2 * np.pi * (t % 24) / 24)
        out[t] = (0.2 + drift) * out[t - 1] + rng.normal(size=n_channels)
    return out * (1 + 4 * np.arange(n_channels)) + 10


# -- two kinds of days -------------------------------------------------------------------------

NEXT, EVERY_STEP = CalendarRouter(stamp="next"), CalendarRouter(stamp="horizon")


def test_the_oracle_of_the_days_leaves_noise_only():
    days = regimes.two_regimes(3000, noise=0.3)
    off = days.y - days.oracle
    assert regimes.error(days.oracle, days) == pytest.approx(
        (18 * 0.3**2 + 6 * (1 - regimes.STAY**2)) / 24, rel=0.03
    )
    flat = days.X[:, :, 0]
    shared = np.abs((flat - flat.mean(0)).T @ (off[:, :, 0] - off[:, :, 0].mean(0))) / len(flat)
    assert shared.max() < 0.05  # nothing in the window tells more
    wrong = days._replace(weekend=~days.weekend)
    assert regimes.error(days.oracle, days) < 0.5 * regimes.error(
        regimes.two_regimes(3000, noise=0.3, seed=1).oracle, wrong
    )


def against_the_oracle(model, past, future):
    """Return the errors of a mixture and of the single expert, in units of the oracle's."""
    best = regimes.error(future.oracle, future)
    single = LinearForecaster().fit(past.X, past.y).predict(future.X)
    mixed = model.predict(future.X, timestamps=future.stamps)
    return regimes.error(mixed, future) / best, regimes.error(single, future) / best


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("lookback", [24, 48])
@pytest.mark.parametrize("n_experts", [2, 4])
def test_weekdays_and_weekends_are_told_apart(seed, lookback, n_experts):
    """A gate per window: forecasts as good as those of one who knows the laws."""
    past, future = regimes.split(regimes.two_regimes(4400, lookback, seed=seed), 400)
    model = MoLEForecaster(base="linear", n_experts=n_experts, router=NEXT, random_state=0)
    model.fit(past.X, past.y, timestamps=past.stamps)
    mixed, single = against_the_oracle(model, past, future)
    assert model.n_experts_ >= 2
    assert mixed < 1.05
    assert single > 2
    right = regimes.right_gates(model, future)
    assert float(right.mean()) > 0.95
    assert float(right.min()) > 0.9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kinds_of_days_are_told_apart_within_a_long_horizon(seed):
    """A gate per step: four days ahead, of which some are weekdays and some weekends."""
    past, future = regimes.split(regimes.two_regimes(4400, 24, 96, seed=seed), 400)
    model = MoLEForecaster(base="linear", n_experts=2, router=EVERY_STEP, random_state=0)
    model.fit(past.X, past.y, timestamps=past.stamps)
    mixed, single = against_the_oracle(model, past, future)
    assert model.n_experts_ == 2
    assert mixed < 1.05
    assert single > 1.5
    # in the evening both laws are one, so that any gate will do
    morning = np.arange(96) % 24 < regimes.MORNING
    assert float(regimes.right_gates(model, future)[:, morning].mean()) > 0.95


def test_gates_that_know_the_wrong_day_are_noticed():
    past, future = regimes.split(regimes.two_regimes(2900), 400)
    model = MoLEForecaster(base="linear", n_experts=2, router=NEXT, random_state=0)
    model.fit(past.X, past.y, timestamps=past.stamps)
    late = future._replace(stamps=future.stamps + np.timedelta64(2, "D"))
    assert against_the_oracle(model, past, future)[0] < 1.1
    assert against_the_oracle(model, past, late)[0] > 1.5
    assert regimes.right_gates(model, late).mean() < 0.8


# -- moments -----------------------------------------------------------------------------------

BASES = {
    "none": lambda: LinearForecaster(L, H, alpha=1e-3),
    "no intercept": lambda: LinearForecaster(L, H, alpha=1e-3, fit_intercept=False),
    "last": lambda: NLinearForecaster(L, H, alpha=1e-3),
    "mean": lambda: LinearForecaster(L, H, alpha=1e-3, normalization="mean"),
    "revin": lambda: RLinearForecaster(L, H, alpha=1e-3),
    "revin and intercept": lambda: RLinearForecaster(L, H, alpha=1e-3, fit_intercept=True),
    "per channel": lambda: LinearForecaster(L, H, alpha=1e-3, individual=True),
    "last, per channel": lambda: NLinearForecaster(L, H, alpha=1e-3, individual="partial"),
    "revin, per channel": lambda: RLinearForecaster(L, H, alpha=1e-3, individual=True),
}


def space_of(base, data, n_directions=5, scale=(1.5, 0.25), seed=0):
    """Return coordinates around an exact solution, in directions drawn at random."""
    model = BASES[base]().fit(data)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(L, L)))[0][:, :n_directions]
    with_constant = not base.startswith("revin") or "intercept" in base
    return CorrectionSpace(
        model.plan_.mixture(), np.array(scale)[: data[0].shape[1]], basis, with_constant
    )


def measured(space, window, target, c):
    """Return the coordinates of one window of a channel, and what the solution leaves over."""
    start = space.start
    rule, unit = start.normalization, space.scale[c]

    def own(tensor):
        return tensor[0] if len(tensor) == 1 else tensor[c]

    level = {"none": own(start.reference), "last": window[-1], "mean": window.mean()}[rule.level]
    forecast = level + (window - level) @ own(start.weights)[0]
    if start.bias is not None:
        forecast = forecast + own(start.bias)[0]
    z = list((window - level) @ space.basis / unit)
    if start.scale_coef is not None:
        eps = rule.eps if np.ndim(rule.eps) == 0 else rule.eps[c]
        scale = np.sqrt(window.var() + eps)
        forecast = forecast + scale * own(start.scale_coef)[0]
        z.append(scale / unit)
    if space.fit_intercept:
        z.append(1.0)
    return np.array(z), (target - forecast) / unit


def plain_moments(space, gate, data, stamps, weight=None):
    """Return the moments by a loop over windows and channels, in float64."""
    K, q = gate.n_experts, space.n_coordinates
    gram, cross, square, total = None, None, 0.0, 0.0
    for i, values in enumerate(data):
        for t in range(len(values) - L - H + 1):
            rows = values[t : t + L + H]
            filled = np.where(np.isnan(rows), 0.0, rows)[:L].T[None]
            features = gate.router.features(filled, stamps[i][None, t : t + L + H], H)
            gates = run_gate(gate, features)[0]  # (1 or C, E) or (1 or C, H, E)
            blocks = H if gates.ndim == 3 else 1
            if gram is None:
                gram, cross = np.zeros((blocks, K * q, K * q)), np.zeros((blocks, K * q, H))
            w = 1.0 if weight is None else weight[i][t]
            for c in range(values.shape[1]):
                if np.isnan(rows[:, c]).any():
                    continue
                z, off = measured(space, rows[:L, c], rows[L:, c], c)
                own = gates[min(c, len(gates) - 1)]
                for b in range(blocks):
                    joint = np.outer(own[b] if blocks > 1 else own, z).ravel()
                    gram[b] += w * np.outer(joint, joint)
                    cross[b] += w * np.outer(joint, off)
                square += w * off @ off
                total += w
    if len(cross) > 1:
        cross = np.stack([cross[b][:, b : b + 1] for b in range(H)])
    return gram, cross, square, total


def assert_moments(found, expected, tolerance):
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert np.shape(a) == np.shape(b), name
        error = np.abs(np.asarray(a) - b).max() / np.abs(b).max()
        assert error <= tolerance, f"{name} is off by {error:.3g}"


def with_gaps(data):
    out = [values.copy() for values in data]
    out[0][[40, 41, 90], 0] = np.nan
    out[0][57, 1] = np.nan
    out[0][120] = np.nan
    return out


def dated(data, jumps=False):
    """Return stamps of series that begin at different times; clocks may be changed on the way."""
    out = [hours(len(values), f"2024-03-0{1 + i}T1{i}") for i, values in enumerate(data)]
    if jumps:
        out[0][70:] += np.timedelta64(1, "h")
        out[-1][30:] -= np.timedelta64(1, "h")
    return out


CASES = {
    "one series": ([150], False, False),
    "gaps": ([150], True, False),
    "several series": ([150, L + H - 1, 60, L + H], False, False),
    "clocks that change": ([150, 60], False, True),
    "all of it": ([150, L + H - 1, 60], True, True),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("base", BASES)
def test_harmonic_moments_are_the_sums_over_windows(base, case):
    n_rows, gaps, jumps = CASES[case]
    data = [series(n, seed=i) for i, n in enumerate(n_rows)]
    data = with_gaps(data) if gaps else data
    stamps = dated(data, jumps)
    space = space_of(base, data)
    for router in (PeriodicRouter(3), PeriodicRouter(5, "week")):
        source = WindowSource.of_series(L, H, data, stamps=stamps)
        stretches = list(fixed_gates.even_stretches(source, router))
        found = fixed_gates.harmonic_moments(source, space, router, stretches)
        gate = Gate(router, (Layer(np.eye(router.n_experts)[None]),))
        expected = plain_moments(space, gate, data, stamps)
        assert_moments(found, expected, 1e-9)
        late = plain_moments(space, gate, data, [s + np.timedelta64(1, "h") for s in stamps])
        with pytest.raises(AssertionError, match="gram is off"):
            assert_moments(found, late, 1e-8)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_harmonic_moments_follow_the_weight_of_each_series(n_channels):
    data = [series(80, n_channels), series(60, n_channels, seed=1)]
    stamps, router = dated(data), PeriodicRouter(3)
    weight = [np.full(80 - L - H + 1, 2.0), np.full(60 - L - H + 1, 0.5)]
    space = space_of("last", data)
    source = WindowSource.of_series(L, H, data, stamps=stamps, weight=weight)
    stretches = list(fixed_gates.even_stretches(source, router))
    found = fixed_gates.harmonic_moments(source, space, router, stretches)
    gate = Gate(router, (Layer(np.eye(3)[None]),))
    assert_moments(found, plain_moments(space, gate, data, stamps, weight), 1e-9)
    with pytest.raises(AssertionError, match="is off"):
        assert_moments(found, plain_moments(space, gate, data, stamps), 1e-3)


@quick
@given(
    seed=SEEDS,
    n_experts=st.integers(2, 5),
    missing=st.sets(st.integers(0, 79), max_size=4),
    level=st.floats(-100, 100),
)
def test_harmonic_moments_hold_for_any_gaps(seed, n_experts, missing, level):
    data = [series(80, 1, seed) + level]
    space = space_of("mean", data, scale=(4.0,), seed=seed)
    data[0][sorted(missing)] = np.nan
    stamps, router = dated(data), PeriodicRouter(n_experts)
    source = WindowSource.of_series(L, H, data, stamps=stamps)
    stretches = list(fixed_gates.even_stretches(source, router))
    found = fixed_gates.harmonic_moments(source, space, router, stretches)
    gate = Gate(router, (Layer(np.eye(n_experts)[None]),))
    assert_moments(found, plain_moments(space, gate, data, stamps), 1e-9)


def gate_of(router, n_features, n_experts=3, seed=0, top_k=None, channels=1):
    rng = np.random.default_rng(seed)
    layer = Layer(
        rng.normal(size=(channels, n_features, n_experts)), rng.normal(size=(channels, n_experts))
    )
    return Gate(router, (layer,), top_k=top_k)


GATES = {
    "statistics": lambda: gate_of(StatisticsRouter(), 8),
    "statistics, a gate per channel": lambda: gate_of(StatisticsRouter(), 8, channels=2),
    "best two": lambda: gate_of(StatisticsRouter(), 8, top_k=2),
    "calendar": lambda: gate_of(CalendarRouter(freq="h"), 12),
    "a gate per step": lambda: gate_of(CalendarRouter(freq="h", stamp="horizon"), 12),
    "fixed": lambda: Gate(PeriodicRouter(3), (Layer(np.eye(3)[None]),)),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", GATES)
def test_moments_are_the_sums_over_windows(name, gaps, weighted):
    data = [series(150), series(50, seed=1)]
    data = with_gaps(data) if gaps else data
    stamps, gate, space = dated(data), GATES[name](), space_of("revin", data)
    weight = [np.random.default_rng(i).uniform(size=len(v) - L - H + 1) for i, v in enumerate(data)]
    weight = weight if weighted else None
    source = WindowSource.of_series(L, H, data, stamps=stamps, weight=weight)
    (found,) = moments_of(source, space, [gate])
    expected = plain_moments(space, gate, data, stamps, weight)
    assert_moments(found, expected, 1e-5)  # in float32
    later = [s + np.timedelta64(5, "h") for s in stamps]
    other = gate if gate.router.needs_timestamps else gate_of(StatisticsRouter(), 8, seed=1)
    with pytest.raises(AssertionError, match="gram is off"):
        assert_moments(found, plain_moments(space, other, data, later, weight), 1e-3)


def test_moments_of_several_gates_are_those_of_each():
    data = [series(150)]
    space, source = space_of("last", data), WindowSource.of_series(L, H, data)
    gates = [gate_of(StatisticsRouter(), 8, k, seed=k) for k in (2, 3)]
    both = moments_of(source, space, gates)
    for gate, found in zip(gates, both, strict=True):
        (alone,) = moments_of(source, space, [gate])
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_array_equal(a, b)
    assert both[0].gram.shape != both[1].gram.shape


# -- the shrinkage path ------------------------------------------------------------------------

STRENGTHS = [1e-3, 0.1, 1.0, 30.0]


@pytest.mark.parametrize("name", ["statistics", "a gate per step"])
def test_losses_of_all_strengths_are_those_of_the_forecasts(name):
    data, later = [series(200)], [series(90, seed=5)]
    gate, space = GATES[name](), space_of("last", data)
    E, q = gate.n_experts, space.n_coordinates
    source = WindowSource.of_series(L, H, data, stamps=dated(data))
    held_out = WindowSource.of_series(L, H, later, stamps=dated(later))
    (moments,), (kept,) = (moments_of(s, space, [gate]) for s in (source, held_out))
    path = ShrinkagePath(moments)
    losses = path.losses(STRENGTHS, kept)
    block = held_out.block(np.arange(held_out.n_windows))
    gates = run_gate(gate, gate.router.features(block.x, block.stamps, H))
    for strength, loss in zip(STRENGTHS, losses, strict=True):
        corrections = path.corrections(strength, E)
        direct = np.concatenate(
            [
                np.linalg.solve(gram / moments.n + strength * np.eye(E * q), cross / moments.n)
                for gram, cross in zip(moments.gram, moments.cross, strict=True)
            ],
            axis=1,
        ).reshape(E, q, H)
        np.testing.assert_allclose(corrections, direct, atol=1e-9 * np.abs(direct).max())
        total = 0.0
        for n, c in np.ndindex(*block.x.shape[:2]):
            z, off = measured(space, block.x[n, c], block.y[n, c], c)
            g = gates[n, min(c, gates.shape[1] - 1)]
            g = g if g.ndim == 2 else np.repeat(g[None], H, axis=0)  # (H, E)
            total += ((off - np.einsum("he,q,eqh->h", g, z, corrections)) ** 2).mean()
        assert loss == pytest.approx(total / (2 * held_out.n_windows), rel=1e-5)
    assert len(set(losses.round(6).tolist())) == len(STRENGTHS)


def test_the_mixture_of_a_path_forecasts_what_its_losses_say():
    """From moments to weights: what is left over is what the forecasts leave over."""
    data = [series(200)]
    for base in BASES:
        gate, space = GATES["statistics"](), space_of(base, data)
        source = WindowSource.of_series(L, H, data)
        (moments,) = moments_of(source, space, [gate])
        path = ShrinkagePath(moments)
        for strength in (0.01, 1.0):
            mixture = space.mixture(path.corrections(strength, gate.n_experts), gate)
            X, y = make_windows(data[0], L, H)
            from mixlin.mixture import predict_windows

            off = y.transpose(0, 2, 1) - predict_windows(mixture, X.transpose(0, 2, 1))
            expected = ((off / space.scale[:, None]) ** 2).mean()
            assert path.losses([strength], moments)[0] == pytest.approx(expected, rel=1e-5), base


def test_coordinates_are_as_many_as_memory_allows():
    assert most_coordinates(4, 1, 64) == 64
    few = most_coordinates(8, 336, 64)
    assert 4 < few < 64
    assert 16 * 336 * (8 * few) ** 2 <= 2**28 < 16 * 336 * (8 * (few + 1)) ** 2
    assert most_coordinates(8, 336, 64, n_gates=4) == few // 2
    assert most_coordinates(1000, 720, 64) == 4
    assert halved(8) == [8, 4, 2]
    assert halved(1) == []


def test_directions_are_the_principal_ones():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(L, L)))[0]
    spread = np.array([9.0, 4.0, 2.0, 1.0, 0.5, 1e-3, 1e-3, 1e-4, 1e-5])
    X = rng.normal(size=(400, L)) * spread @ basis.T
    source = WindowSource.of_windows(X[:, None], np.zeros((400, 1, H)))
    start = LinearForecaster(fit_intercept=False).fit(X, X[:, :H]).plan_.mixture()
    space = CorrectionSpace.of(start, np.ones(1), source, fit_intercept=False, most=64)
    assert space.basis.shape == (L, 5)  # the others hardly vary
    inside = space.basis.T @ basis[:, :5]
    np.testing.assert_allclose(inside @ inside.T, np.eye(5), atol=1e-3)
    two = CorrectionSpace.of(start, np.ones(1), source, fit_intercept=True, most=2)
    assert two.n_coordinates == 3
    np.testing.assert_allclose(np.abs(two.basis.T @ basis[:, :2]).max(axis=0), 1.0, atol=0.02)


# -- shrinkage towards the single expert -------------------------------------------------------

SINGLE = {
    "linear": LinearForecaster,
    "nlinear": NLinearForecaster,
    "dlinear": DLinearForecaster,
    "rlinear": RLinearForecaster,
}
SOLVERS = {
    "alternating": AlternatingSolver(strength=1e13, fewer_experts=False, n_iter=2),
    "fixed-gates": FixedGatesSolver(strength=1e13, fewer_experts=False),
}


@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("base", SINGLE)
def test_without_freedom_a_mixture_is_the_single_expert(base, solver, individual):
    data, stamps = series(300), hours(300)
    parameters = {"alpha": 1e-3, "individual": individual}
    single = SINGLE[base](L, H, **parameters).fit(data)
    X = np.stack([series(300, seed=3)[t : t + L] for t in range(40)])
    times = hours(40)

    def forecast(solver):
        model = MoLEForecaster(
            L, H, base=base, n_experts=3, solver=solver, random_state=0, **parameters
        )
        model.fit(data, timestamps=stamps)
        assert model.n_experts_ == 3
        return model.predict(X, timestamps=times)

    expected = single.predict(X)
    np.testing.assert_allclose(forecast(SOLVERS[solver]), expected, rtol=0, atol=1e-8)
    free = forecast(clone(SOLVERS[solver]).set_params(strength=0.1))
    assert np.abs(free - expected).max() > 1e-3
    one = MoLEForecaster(L, H, base=base, n_experts=1, **parameters).fit(data)
    assert (one.predict(X) == expected).all()


# -- weights -----------------------------------------------------------------------------------

FIXED = FixedGatesSolver(strength=0.1, fewer_experts=False)


def same_mixtures(a, b, tolerance=1e-5):
    a, b = a.plan_.mixture(), b.plan_.mixture()
    scale = np.abs(b.weights).max()
    return a.weights.shape == b.weights.shape and (
        np.abs(a.weights - b.weights).max() < tolerance * scale
    )


def test_a_window_that_counts_twice_is_there_twice():
    X, y = make_windows(series(300, 1)[:, 0], L, H)
    times = hours(300)[: len(X)]
    twice = np.arange(len(X)) % 3 == 0
    model = MoLEForecaster(n_experts=3, solver=FIXED)
    again = np.sort(np.r_[np.arange(len(X)), np.flatnonzero(twice)])
    steps = np.lib.stride_tricks.sliding_window_view(hours(300), L)[: len(X)]
    repeated = clone(model).fit(X[again], y[again], timestamps=steps[again])
    weighted = clone(model).fit(X, y, timestamps=times, sample_weight=1.0 + twice)
    plain = clone(model).fit(X, y, timestamps=times)
    assert same_mixtures(weighted, repeated)
    assert not same_mixtures(plain, repeated, 1e-3)


def test_a_series_that_counts_twice_is_there_twice():
    data = [series(200), series(150, seed=1)]
    stamps = dated(data)
    model = MoLEForecaster(L, H, n_experts=3, solver=FIXED)
    weighted = clone(model).fit(data, timestamps=stamps, sample_weight=[1.0, 2.0])
    repeated = clone(model).fit([*data, data[1]], timestamps=[*stamps, stamps[1]])
    plain = clone(model).fit(data, timestamps=stamps)
    assert same_mixtures(weighted, repeated)
    assert not same_mixtures(plain, repeated, 1e-3)


def test_windows_of_weighted_rows_have_the_weight_of_their_targets():
    data, stamps = series(250, 1), hours(250)
    rows = np.random.default_rng(0).uniform(0.01, 1, size=250) ** 3
    X, y = make_windows(data, L, H)
    steps = np.lib.stride_tricks.sliding_window_view(stamps, L)[: len(X)]
    weight = window_weights(rows, L, H)
    # units of the channel are those of rows in one, of what windows hold in the other; the strength
    # is relative to what windows hold in both
    of_rows = RLinearForecaster(L, H).fit(data, sample_weight=rows)._statistics.variance()
    of_windows = RLinearForecaster().fit(X, y, sample_weight=weight)._statistics.variance()
    assert abs(of_rows[0] / of_windows[0] - 1) > 0.01
    model = MoLEForecaster(base="rlinear", n_experts=3, solver=FIXED, scale=None)
    on_series = clone(model).set_params(lookback=L, horizon=H)
    on_series.fit(data, timestamps=stamps, sample_weight=rows)
    on_windows = clone(model).fit(X, y, timestamps=steps, sample_weight=weight)
    assert same_mixtures(on_series, on_windows)
    even = clone(on_series).fit(data, timestamps=stamps)
    assert not same_mixtures(even, on_windows, 0.05)


@pytest.mark.parametrize("router", ["statistics", "calendar"])
@pytest.mark.parametrize("solver", [FIXED, AlternatingSolver(strength=0.1, fewer_experts=False)])
def test_a_window_that_counts_nothing_is_not_there(solver, router):
    X, y = make_windows(series(300, 1)[:, 0], L, H)
    steps = np.lib.stride_tricks.sliding_window_view(hours(300), L)[: len(X)]
    weight = np.ones(len(X))
    weight[100:160] = 0.0
    model = MoLEForecaster(n_experts=3, solver=solver, router=router, random_state=0)
    y_bad = np.where(weight[:, None] > 0, y, 1e3)
    zero = clone(model).fit(X, y_bad, timestamps=steps, sample_weight=weight)
    kept = weight > 0
    without = clone(model).fit(X[kept], y[kept], timestamps=steps[kept])
    a, b = (m.predict(X[:50], timestamps=steps[:50]) for m in (zero, without))
    np.testing.assert_allclose(a, b, atol=1e-3)
    assert (
        np.abs(
            clone(model).fit(X, y_bad, timestamps=steps).predict(X[:50], timestamps=steps[:50]) - b
        ).max()
        > 1
    )


# -- what is chosen ----------------------------------------------------------------------------


def test_noise_gets_no_experts():
    rows = np.random.default_rng(0).normal(size=(1500, 2))
    for solver in ("alternating", "fixed-gates"):
        model = MoLEForecaster(L, H, solver=solver, random_state=0).fit(
            rows, timestamps=hours(1500)
        )
        assert model.n_experts_ == 1
        assert (model.predict() == DLinearForecaster(L, H).fit(rows).predict()).all()
        assert model.expert_usage_.tolist() == [1.0]
        assert min(e["validation_loss"] for e in model.history_) > 0


def test_the_history_shows_every_candidate_and_the_best_is_taken():
    past, _ = regimes.split(regimes.two_regimes(1200), 100)
    solver = AlternatingSolver(strength=(0.01, 1.0))
    model = MoLEForecaster(base="linear", n_experts=4, router=NEXT, solver=solver, random_state=0)
    model.fit(past.X, past.y, timestamps=past.stamps)
    first, *others = [(e["n_experts"], e["strength"]) for e in model.history_]
    assert first == (1, np.inf)
    assert set(others) == {(4, 0.01), (4, 1.0), (2, 0.01), (2, 1.0)}
    best = min(model.history_, key=lambda e: e["validation_loss"])
    assert model.n_experts_ == best["n_experts"]
    single = model.history_[0]["validation_loss"]
    held = WindowSource.of_windows(past.X.transpose(0, 2, 1), past.y.transpose(0, 2, 1))
    training, held_out = held.split(0.2)
    n, m = training.n_windows, held_out.n_windows
    alone = LinearForecaster().fit(past.X[:n], past.y[:n]).predict(past.X[-m:])
    variance = LinearForecaster().fit(past.X, past.y)._statistics.variance()
    assert single == pytest.approx(((alone - past.y[-m:]) ** 2).mean() / variance.mean(), rel=1e-4)
    # a gain that can't be reached leaves the single expert
    greedy = clone(model).set_params(solver__min_gain=0.9)
    assert greedy.fit(past.X, past.y, timestamps=past.stamps).n_experts_ == 1
    fixed = clone(model).set_params(solver__min_gain=0.9, solver__fewer_experts=False)
    assert fixed.fit(past.X, past.y, timestamps=past.stamps).n_experts_ == 4


def test_without_refit_nothing_of_what_is_held_out_is_learnt():
    past, _ = regimes.split(regimes.two_regimes(1200), 100)
    solver = AlternatingSolver(refit=False, strength=0.1, fewer_experts=True, validation=300)
    model = MoLEForecaster(base="linear", n_experts=2, router=NEXT, solver=solver, random_state=0)
    model.fit(past.X, past.y, timestamps=past.stamps)
    assert model.n_experts_ == 2
    # another law, learnt from what was held out, would be noticed; the choice stays the same
    y = past.y.copy()
    y[-300:] *= 1.01
    again = clone(model).fit(past.X, y, timestamps=past.stamps)
    assert again.n_experts_ == 2
    scale = np.abs(model.plan_.mixture().weights).max()
    off = np.abs(again.plan_.mixture().weights - model.plan_.mixture().weights).max() / scale
    refit = clone(model).set_params(solver__refit=True)
    moved = [
        refit.fit(past.X, target, timestamps=past.stamps).plan_.mixture().weights
        for target in (past.y, y)
    ]
    assert off < 1e-3 < np.abs(moved[1] - moved[0]).max() / scale * 10
    assert np.abs(moved[1] - moved[0]).max() / scale > 3 * off


def test_with_few_windows_the_single_expert_is_kept():
    rows = series(70)
    for solver in ("alternating", "fixed-gates"):
        model = MoLEForecaster(L, H, solver=solver).fit(rows, timestamps=hours(70))
        assert model.n_experts_ == 1
        assert model.history_ == []
        assert (model.predict() == DLinearForecaster(L, H).fit(rows).predict()).all()


@pytest.mark.parametrize("solver", ["alternating", "fixed-gates"])
def test_the_same_random_state_gives_the_same_mixture(solver):
    solver = {"alternating": AlternatingSolver(strength=0.1, fewer_experts=False)}.get(
        solver, FIXED
    )
    data, stamps = series(400), hours(400)

    def weights(random_state):
        model = MoLEForecaster(L, H, n_experts=3, solver=solver, random_state=random_state)
        return model.fit(data, timestamps=stamps).plan_.mixture().weights

    np.random.seed(7)  # noqa: NPY002
    expected = np.random.uniform()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert (weights(0) == weights(0)).all()
    assert np.random.uniform() == expected  # noqa: NPY002
    assert (weights(0) == weights(np.random.RandomState(0))).all()
    if solver is FIXED:
        assert (weights(0) == weights(1)).all()  # nothing is drawn
    else:
        assert (weights(0) != weights(1)).any()


@pytest.mark.parametrize("top_k", [1, 2])
def test_experts_beyond_the_best_k_have_no_weight(top_k):
    data = series(400)
    solver = AlternatingSolver(strength=0.1, fewer_experts=False)
    model = MoLEForecaster(L, H, n_experts=4, top_k=top_k, solver=solver, random_state=0).fit(data)
    gates = model.gate_weights(make_windows(data, L, H)[0])
    assert ((gates > 0).sum(axis=-1) == top_k).all()
    np.testing.assert_allclose(gates.sum(axis=-1), 1.0, rtol=1e-12)
    assert model.expert_usage_.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("solver", [FIXED, AlternatingSolver(strength=0.1, fewer_experts=False)])
def test_usage_is_the_mean_gate_over_training_windows(solver):
    data, stamps = series(300), hours(300)
    model = MoLEForecaster(L, H, n_experts=3, solver=solver, random_state=0)
    model.fit(data, timestamps=stamps)
    X, _ = make_windows(data, L, H)
    gates = model.gate_weights(X, timestamps=stamps[: len(X)])
    np.testing.assert_allclose(model.expert_usage_, gates.mean(axis=(0, 1)), atol=1e-6)


def test_gates_are_fixed_whatever_the_router_says():
    data, stamps = series(300), hours(300)
    models = [
        MoLEForecaster(L, H, n_experts=3, solver=FIXED, router=router).fit(data, timestamps=stamps)
        for router in ("statistics", "calendar")
    ]
    assert (models[0].predict() == models[1].predict()).all()
    assert isinstance(models[0].plan_.mixture().gate.router, PeriodicRouter)
    at = hours(48, "2024-06-01T00")
    gates = models[0].gate_weights(np.stack([data[:L]] * 48), timestamps=at)
    expected = np.exp(
        PeriodicRouter(3).features(
            np.zeros((48, 1, L)), at[:, None] + np.arange(L + H) * np.timedelta64(1, "h"), H
        )
    )
    np.testing.assert_allclose(gates, np.repeat(expected, 2, axis=1), atol=1e-9)


def test_fixed_gates_find_a_law_that_follows_the_hour():
    data = series(6000, 1, seed=2)
    stamps = hours(6000)
    single = DLinearForecaster(L, H).fit(data[:5000])
    model = MoLEForecaster(L, H, n_experts=5, solver="fixed-gates")
    model.fit(data[:5000], timestamps=stamps[:5000])
    assert model.n_experts_ == 5
    X, y = make_windows(data[5000:], L, H)
    off = [
        ((forecast - y)[:, 0] ** 2).mean()
        for forecast in (
            model.predict(X, timestamps=stamps[5000 : 5000 + len(X)]),
            single.predict(X),
            model.predict(X, timestamps=stamps[5012 : 5012 + len(X)]),
        )
    ]
    assert off[0] < 0.9 * off[1]
    assert off[2] > off[1]  # at the wrong time of day they harm


# -- fitting a gate ----------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [None, 5])
def test_the_slope_of_a_gate_is_that_of_its_cost(hidden):
    rng = np.random.default_rng(0)
    rows, shares = rng.normal(size=(30, 4)), rng.dirichlet(np.ones(3), size=30)
    cost = cross_entropy(shares, rng.uniform(0.5, 2, size=30), 0.7)
    logits = rng.normal(size=(3, 30))
    loss, slope = cost(logits)
    for k, r in ((0, 3), (2, 17)):
        moved = logits.copy()
        moved[k, r] += 1e-6
        assert (cost(moved)[0] - loss) / 1e-6 == pytest.approx(slope[k, r], abs=1e-5)
    network = GateNetwork(4, 3, hidden, np.random.RandomState(0))
    network.fit(rows, cost, 1e-2, 200)

    def penalized(arrays):
        network.arrays = arrays
        total = cost(np.ascontiguousarray(network.logits(rows).T))[0] / len(rows)
        return total + 0.5e-2 * sum((a**2).sum() for a in arrays[::2])

    found = [a.copy() for a in network.arrays]
    least = penalized(found)
    for i in range(len(found)):  # no small step from there leads further down
        for size in (0.02, -0.02):
            moved = [a.copy() for a in found]
            moved[i] = moved[i] + size * rng.normal(size=moved[i].shape)
            assert penalized(moved) > least - 1e-6


def test_a_linear_gate_is_a_multinomial_logistic_regression():
    rng = np.random.default_rng(1)
    rows, _, _ = standardized(rng.normal(size=(300, 3)), np.ones(300))
    owner = (rows @ rng.normal(size=(3, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1)
    weight = np.where(owner == 0, 2.0, 1.0)
    penalty = 0.05
    network = GateNetwork(3, 3, None, np.random.RandomState(0))
    network.fit(rows, cross_entropy(np.eye(3)[owner], weight, 1.0), penalty, 500)
    reference = LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-10, max_iter=2000)
    reference.fit(rows, owner, sample_weight=weight)

    def centered(logits):
        return logits - logits.mean(axis=1, keepdims=True)

    found = centered(network.logits(rows))
    np.testing.assert_allclose(found, centered(reference.decision_function(rows)), atol=2e-3)
    assert np.abs(found).max() > 0.5


def test_layers_of_a_gate_read_features_as_they_are():
    rng = np.random.default_rng(2)
    raw = 50 + 3 * rng.normal(size=(40, 1, 4)) * [1, 10, 0, 1e-3]
    rows, mean, spread = standardized(raw[:, 0], np.ones(40))
    assert spread[2] == 1.0
    for hidden in (None, 6):
        network = GateNetwork(4, 3, hidden, np.random.RandomState(1))
        network.arrays = [a + 0.1 * rng.normal(size=a.shape) for a in network.arrays]
        gate = Gate(StatisticsRouter(), network.layers(), center=mean, spread=spread)
        logits = network.logits(rows)
        expected = np.exp(logits - logits.max(1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(run_gate(gate, raw)[:, 0], expected, atol=1e-9)


# -- levels and units of channels ----------------------------------------------------------------

BRIEF = {"fewer_experts": False, "n_iter": 2}
MIXTURES = {
    "calendar": ("calendar", AlternatingSolver(**BRIEF)),
    "calendar per step": (CalendarRouter(stamp="horizon"), AlternatingSolver(**BRIEF)),
    # hidden units make more of roundings, as they do of another seed
    "statistics": (StatisticsRouter(hidden=None), AlternatingSolver(**BRIEF)),
    "fixed gates": ("statistics", FixedGatesSolver(fewer_experts=False)),
    "fixed gates without refit": ("statistics", FixedGatesSolver(fewer_experts=False, refit=False)),
}
# in deviations of the channel: on both sides of where a single expert begins to take levels off
LEVELS = st.sampled_from([-1000.0, -3.0, -1.01, -0.99, 0.0, 0.5, 0.999, 1.001, 1.5, 1000.0])
UNITS = st.sampled_from([1e-3, 0.7, 1.0, 20.0, 1e4])


def mixture_on(values, name):
    router, solver = MIXTURES[name]
    model = MoLEForecaster(L, H, n_experts=2, router=router, solver=clone(solver), random_state=0)
    return model.fit(values, timestamps=hours(len(values)))


def centered_series(n_rows=500):
    values = series(n_rows, seed=3)
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.fixture(scope="module")
def fitted_on_zero():
    return {name: mixture_on(centered_series(), name) for name in MIXTURES}


@pytest.mark.parametrize("name", MIXTURES)
@settings(max_examples=5, deadline=None)
@given(level=st.tuples(LEVELS, LEVELS), unit=st.tuples(UNITS, UNITS))
def test_mixtures_move_with_the_levels_and_the_units_of_channels(fitted_on_zero, name, level, unit):
    level, unit, values = np.array(level), np.array(unit), centered_series()
    fresh = {"timestamps": hours(100)}
    plain = fitted_on_zero[name]
    moved = mixture_on((values + level) * unit, name)
    assert plain.n_experts_ == moved.n_experts_ == 2
    expected = plain.predict(values[:100], **fresh)
    found = moved.predict((values[:100] + level) * unit, **fresh) / unit - level
    np.testing.assert_allclose(found, expected, atol=1e-6)
    single = DLinearForecaster(L, H).fit(values).predict(values[:100])
    assert np.abs(expected - single).max() > 1e-2  # there is a correction that could depend on it
    each = plain.expert_forecasts(values[:100], **fresh)
    by_expert = moved.expert_forecasts((values[:100] + level) * unit, **fresh)
    np.testing.assert_allclose(by_expert / unit[:, None] - level[:, None], each, atol=1e-6)
    single = DLinearForecaster(L, H).fit((values + level) * unit)
    taken_off = single.plan_.mixture().reference != 0
    assert (moved.plan_.mixture().reference != 0).tolist() == taken_off.tolist()


@pytest.mark.parametrize("level", ["none", "last", "mean"])
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_a_mixture_measured_from_elsewhere_forecasts_the_same(level, seed):
    rng = np.random.default_rng(seed)
    mixture = Mixture(
        rng.normal(size=(int(rng.choice([1, 3])), 1, L, H)),
        bias=rng.normal(size=(1, 1, H)) if rng.random() < 0.5 else None,
        normalization=Normalization(level),
        reference=rng.normal(size=int(rng.choice([1, 3]))),
    )
    moved = measured_from(mixture, 5 * rng.normal(size=3))
    windows = 10 * rng.normal(size=(4, 3, L))
    expected = predict_windows(mixture, windows)
    np.testing.assert_allclose(predict_windows(moved, windows), expected, rtol=1e-9, atol=1e-9)
