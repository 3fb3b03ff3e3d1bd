"""What runs on the card: how many programs, between which transfers, made how often."""

import dataclasses

import numpy as np
import pytest

import mixlin
from mixlin.mixture import forward, predict_windows
from mixlin.routing import (
    CalendarRouter,
    Gate,
    PeriodicRouter,
    SpectralRouter,
    StatisticsRouter,
)
from mixlin.solvers import SeasonalPrior
from tests.mixture_cases import CASES
from tests.mixture_cases import build as build_case
from tests.ttnn.gates import DENSE, OTHERS, build, layer
from tests.ttnn.make_models import (
    FILES,
    FOLDER,
    HOUR,
    MIXTURES,
    START,
    first_steps,
    fit,
    series,
    windows,
)
from tests.ttnn.watched import TABLES, capture, flops, host_forbidden_between_transfers

CHANNELS = (1, 7, 21, 321)
EXPERTS, HORIZON, LOOKBACK = 4, 96, 336


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def kinds(events):
    return [event.kind for event in events if event.kind != "other"]


def tiled(n):
    return -(-n // 32) * 32


def count(what, channels, backend, run):
    """Return the names of the programs of a forward pass, and enter them into the table."""
    found = capture(run)
    with backend._tt.record() as events:
        run()
    ops = [event for event in events if event.kind == "op"]
    moved = sum(np.prod([*e.shape[:-2], *map(tiled, e.shape[-2:])]) * 2 for e in ops) / 1e6
    billions = flops(events) / 1e9
    TABLES["programs"].add(
        what, channels, len(found.names), f"{billions:.2g}", f"{moved:.2g}", " ".join(found.names)
    )
    return found.names


# -- counts ------------------------------------------------------------------------------------


def test_a_folded_dlinear_is_one_matrix_product(planned):
    model = fit(*FILES["dlinear"][:2], 0.0)
    backend = planned()
    X = windows(0.0, 96)
    model.set_params(backend=backend)
    assert count("DLinear", X.shape[2], backend, lambda: model.predict(X)) == ["Matmul"]


@pytest.mark.parametrize("normalization", [None, "last", "mean", "revin"])
@pytest.mark.parametrize("individual", [False, "partial", True])
@pytest.mark.parametrize("name", ["LinearForecaster", "DLinearForecaster"])
def test_every_normalization_is_one_matrix_product(planned, name, normalization, individual):
    parameters = {"lookback": 96, "horizon": 24, "individual": individual}
    model = fit(getattr(mixlin, name), parameters | {"normalization": normalization}, 0.0)
    backend = planned()
    X = windows(0.0, 96)
    model.set_params(backend=backend)
    assert capture(lambda: model.predict(X)).names == ["Matmul"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "bfloat8_b"])
@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("name", ["NLinearForecaster", "RLinearForecaster"])
def test_every_forecaster_is_one_matrix_product(planned, name, individual, dtype):
    model = fit(getattr(mixlin, name), {"lookback": 96, "horizon": 24, "individual": individual}, 0)
    backend = planned(dtype)
    X = windows(0.0, 96)
    model.set_params(backend=backend)
    what = f"{name}, individual={individual}, {dtype}"
    assert count(what, X.shape[2], backend, lambda: model.predict(X)) == ["Matmul"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_search_is_one_matrix_product(planned, shared):
    rows = series(0.0)[:900]
    stamps = np.datetime64("2024-01-01T00") + np.arange(len(rows))
    model = mixlin.AutoLinearForecaster((48, 96), 24, prior=SeasonalPrior(24), shared=shared)
    model.fit(rows, timestamps=stamps)
    assert model.plan_.calendar is not None
    X, times = windows(0.0, 96), stamps[:96]
    dated = np.broadcast_to(times, (len(X), 96))
    host = model.predict(X, timestamps=dated)
    model.set_params(backend=planned())
    found = capture(lambda: model.predict(X, timestamps=dated))
    assert found.names == ["Matmul"]
    assert host.shape == (len(X), 24, rows.shape[1])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("gate", DENSE)
def test_a_mixture_with_a_dense_gate_takes_at_most_eight_programs(planned, gate, channels):
    mixture, backend = build(gate, channels, HORIZON, EXPERTS), planned()
    X = draw(8, channels, LOOKBACK)
    run = lambda: predict_windows(mixture, X, backend)  # noqa: E731
    assert len(count(f"4 experts, gate of {gate}", channels, backend, run)) <= 8


ROUTED = {
    "cyclic calendar": CalendarRouter(freq="h"),
    "reference calendar": CalendarRouter("first", encoding="reference", freq="h"),
    "reference calendar, 16 hidden": CalendarRouter(
        "first", encoding="reference", freq="h", hidden=16
    ),
    "fixed gates": PeriodicRouter(EXPERTS),
    "statistics": StatisticsRouter(hidden=None),
    "statistics, 8 hidden": StatisticsRouter(hidden=8),
    "spectral": SpectralRouter(),
}


def routed(router, channels, groups=1, top_k=None):
    """Return a mixture with a gate of the library, and a forecast of 8 windows as a function."""
    rng = np.random.default_rng(0)
    X = draw(8, channels, LOOKBACK)
    times = START + HOUR * (13 * np.arange(8)[:, None] + np.arange(LOOKBACK + HORIZON))
    width = router.features(X, times, HORIZON).shape[-1]
    layers = [layer(rng, groups, width, EXPERTS)]
    if router.hidden is not None:
        layers = [
            layer(rng, groups, width, router.hidden, "relu"),
            layer(rng, groups, router.hidden, EXPERTS),
        ]
    mixture = build("one layer", channels, HORIZON, EXPERTS)
    mixture = dataclasses.replace(mixture, gate=Gate(router, tuple(layers), top_k=top_k))
    return mixture, lambda backend: predict_windows(mixture, X, backend, timestamps=times)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", ROUTED)
def test_a_gate_of_the_library_takes_six_programs_and_a_hidden_layer_one_more(
    planned, name, channels
):
    (mixture, run), backend = routed(ROUTED[name], channels), planned()
    names = count(f"4 experts, {name}", channels, backend, lambda: run(backend))
    assert len(names) == (6 if mixture.gate.router.hidden is None else 7)


@pytest.mark.parametrize(
    ("what", "router", "options", "most"),
    [
        ("a gate per channel", ROUTED["cyclic calendar"], {"groups": 7}, 6),
        ("a gate per step", CalendarRouter("horizon", freq="h"), {}, 8),
        ("top 2", ROUTED["cyclic calendar"], {"top_k": 2}, 11),
    ],
)
def test_the_programs_of_calendar_gates_of_other_forms(planned, what, router, options, most):
    (_, run), backend = routed(router, 7, **options), planned()
    title = f"4 experts, cyclic calendar, {what}"
    assert len(count(title, 7, backend, lambda: run(backend))) == most


@pytest.mark.parametrize("name", MIXTURES)
def test_the_programs_of_fitted_mixtures_are_counted(planned, name):
    model, backend = mixlin.load(FOLDER / f"{name}.safetensors"), planned()
    X = windows(MIXTURES[name][2], 96)[:8]
    model.set_params(backend=backend)
    names = count(
        f"{name}.safetensors",
        X.shape[2],
        backend,
        lambda: model.predict(X, timestamps=first_steps(8)),
    )
    assert len(names) <= (11 if name == "mole_top2" else 8)


@pytest.mark.parametrize("channels", [7, 321])
@pytest.mark.parametrize("gate", OTHERS)
def test_the_programs_of_other_mixtures_are_counted(planned, gate, channels):
    mixture, backend = build(gate, channels, HORIZON, EXPERTS), planned()
    X = draw(8, channels, LOOKBACK)
    names = count(
        f"4 experts, {gate}", channels, backend, lambda: predict_windows(mixture, X, backend)
    )
    # nothing is unpacked from tiles but where a gate per step regroups rows
    assert not {"Untilize", "Tilize", "UntilizeWithUnpadding", "TilizeWithValPadding"} & set(names)


@pytest.mark.parametrize("gate", ["one layer", "backtest", "backtest of a bank"])
@pytest.mark.parametrize("n_experts", [4, 40])
def test_the_programs_of_scores_are_counted(planned, gate, n_experts):
    mixture, backend = build(gate, 7, HORIZON, n_experts), planned()
    X = draw(8, 7, LOOKBACK)
    plain = capture(lambda: predict_windows(mixture, X, backend)).names
    run = lambda: predict_windows(mixture, X, backend, scores=True)  # noqa: E731
    names = count(f"{n_experts} experts, {gate}, with scores", 7, backend, run)
    assert names == [*plain, "Concat"]


def test_the_programs_of_a_power_spectrum_are_counted(planned):
    backend = planned()
    X = draw(8, 7, LOOKBACK)

    def run():
        (x,) = backend.upload(X)
        backend.get(backend.power(x, 168))

    assert len(count("power spectrum", 7, backend, run)) <= 10


# -- transfers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_rows_go_up_once_and_come_down_once(planned, name):
    mixture, X, inputs = build_case(name)
    backend = planned()
    predict_windows(mixture, X, backend, **inputs)
    with backend._tt.record() as events, host_forbidden_between_transfers(backend):
        predict_windows(mixture, X, backend, **inputs)
    found = kinds(events)
    # weights are there already; columns, scales and features travel together
    assert found == ["up", *["op"] * (len(found) - 2), "down"]
    assert len(found) > 2


@pytest.mark.parametrize("name", ["window_gates", "channel_weights", "backtest_of_far_steps"])
def test_scores_come_down_with_the_forecasts(planned, name):
    mixture, X, inputs = build_case(name)
    backend = planned()
    predict_windows(mixture, X, backend, **inputs, scores=True)
    with backend._tt.record() as events, host_forbidden_between_transfers(backend):
        predict_windows(mixture, X, backend, **inputs, scores=True)
    found = kinds(events)
    assert found == ["up", *["op"] * (len(found) - 2), "down"]


def test_a_tensor_that_travels_in_between_would_be_seen(planned):
    mixture, X, inputs = build_case("window_gates")
    backend = planned()
    mix = backend.mix

    def with_a_detour(x, w, b, g):
        return mix(x, w, b, *backend.upload(backend.get(g)))

    predict_windows(mixture, X, backend, **inputs)
    backend.mix = with_a_detour
    with backend._tt.record() as events:
        predict_windows(mixture, X, backend, **inputs)
    assert kinds(events).count("up") == kinds(events).count("down") == 2


def test_host_arithmetic_in_between_would_be_seen(planned):
    mixture, X, inputs = build_case("window_gates")
    backend = planned()
    with (
        host_forbidden_between_transfers(backend),
        pytest.raises(AssertionError, match="between the upload and the download"),
    ):
        predict_windows(mixture, X, backend, **inputs)  # weights are made ready here
    predict_windows(mixture, X, backend, **inputs)  # and numpy is back


def test_every_block_of_rows_goes_up_once_and_comes_down_once(planned):
    mixture, backend = build("one layer", 321, 24, EXPERTS, lookback=64), planned()
    block = backend.rows_per_block(321, 64)
    X = draw(2 * block + 1, 321, 64)
    predict_windows(mixture, X[:1], backend)
    with backend._tt.record() as events:
        predict_windows(mixture, X, backend)
    found = kinds(events)
    assert (found.count("up"), found.count("down")) == (3, 3)
    ups = [i for i, kind in enumerate(found) if kind == "up"]
    for start, stop in zip(ups, [*ups[1:], len(found)], strict=True):
        assert found[start:stop] == ["up", *["op"] * (stop - start - 2), "down"]


def test_weights_are_placed_once_for_any_number_of_rows(planned):
    mixture, backend = build("one layer", 7, 24, EXPERTS, lookback=64), planned()
    uploads = []
    for n in (3, 4, 40, 400):
        with backend._tt.record() as events:
            predict_windows(mixture, draw(n, 7, 64), backend)
        uploads.append(kinds(events).count("up"))
    assert uploads[0] > 2
    assert uploads[1:] == [1, 1, 1]


# -- cached programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_no_program_is_made_by_the_second_call(planned, name):
    mixture, X, inputs = build_case(name)
    backend = planned()
    forward(mixture, backend, X, **inputs)
    made = backend._card.device.num_program_cache_entries()
    assert made > 0
    forward(mixture, backend, X, **inputs)
    assert backend._card.device.num_program_cache_entries() == made


@pytest.mark.parametrize("gate", [None, *DENSE, "top 2", "per step"])
def test_other_numbers_of_rows_run_the_same_programs(planned, gate):
    mixture, backend = build(gate, 7, 24, 1 if gate is None else 4, lookback=64), planned()
    predict_windows(mixture, draw(8, 7, 64), backend)
    entries = backend._card.device.num_program_cache_entries
    made = entries()
    for n in (5, 6, 7, 10, 16):
        predict_windows(mixture, draw(n, 7, 64), backend)
    assert entries() == made
    predict_windows(mixture, draw(600, 7, 64), backend)  # another bucket has programs of its own
    assert entries() > made
