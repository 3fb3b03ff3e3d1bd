"""Every operation of the protocol and every mixture: shapes, types and numbers on the card."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mixlin.backends import Backend, resolve
from mixlin.mixture import forward, predict_windows
from tests.engines import Engine, assert_close
from tests.mixture_cases import CASES, build, expected_of
from tests.ttnn.fake_numbers import round_bfloat16

# largest error, relative to the largest value. bfloat16 keeps 8 bits: half a unit is 0.2 %, and a
# softmax of logits around 5 makes 2 % of that; bfloat8_b keeps 7 bits, for 16 weights together
TOLERANCE = {"bfloat16": 0.03, "float32": 1e-5, "bfloat8_b": 0.06}
DTYPES = list(TOLERANCE)
N, C, K, M, E = 5, 3, 40, 24, 4


@dataclass
class On:
    """Runs one operation on host arrays: uploads rows, places weights, reads back."""

    backend: Backend
    run = Engine.run


rng = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return round_bfloat16(scale * rng.normal(size=shape)).astype(np.float64)


def simplex(*shape):
    raw = rng.uniform(0.1, 1.0, size=shape)
    return round_bfloat16(raw / raw.sum(axis=-1, keepdims=True)).astype(np.float64)


def weights(*shape):
    return draw(*shape, scale=shape[-2] ** -0.5)


X = draw(N, C, K)
SHARED = draw(N, 1, K)
STEPS = draw(N, C, 6, K)
LOSSES = np.abs(draw(N, C, E)) + 0.5

OPERATIONS = {
    "linear": ("linear", (X, weights(1, K, M)), {}),
    "linear, bias": ("linear", (X, weights(1, K, M), draw(1, M)), {}),
    "linear, channels": ("linear", (X, weights(C, K, M), draw(C, M)), {}),
    "linear, biases of channels": ("linear", (X, weights(1, K, M), draw(C, M)), {}),
    "linear, bias of all channels": ("linear", (X, weights(C, K, M), draw(1, M)), {}),
    "linear, rows of all channels": ("linear", (SHARED, weights(C, K, M), draw(C, M)), {}),
    "linear, steps": ("linear", (STEPS, weights(1, K, M), draw(1, M)), {}),
    "linear, steps of channels": ("linear", (STEPS, weights(C, K, M), draw(C, M)), {}),
    "linear, whole tiles": ("linear", (draw(32, C, 64), weights(1, 64, 32), draw(1, 32)), {}),
    "linear, whole tiles of channels": (
        "linear",
        (draw(32, C, 64), weights(C, 64, 32), draw(C, 32)),
        {},
    ),
    "linear, add": ("linear", (X, weights(1, K, M)), {"add": draw(N, C, M)}),
    "linear, add and relu": (
        "linear",
        (X, weights(1, K, M), draw(1, M)),
        {"add": draw(N, C, M), "activation": "relu"},
    ),
    "linear, over channels": ("linear", (X, weights(1, C, 7), draw(1, 7)), {"axis": -2}),
    "linear, over channels, tanh": (
        "linear",
        (X, weights(1, C, C), draw(1, C)),
        {"axis": -2, "activation": "tanh"},
    ),
    **{
        f"linear, {name}": ("linear", (X, weights(1, K, M), draw(1, M)), {"activation": name})
        for name in ("relu", "gelu", "elu", "tanh", "sigmoid")
    },
    "mix": ("mix", (X, weights(1, K, E * M), draw(1, E * M), simplex(N, C, E)), {}),
    "mix, shared gate": ("mix", (X, weights(1, K, E * M), draw(1, E * M), simplex(N, 1, E)), {}),
    "mix, no bias": ("mix", (X, weights(C, K, E * M), None, simplex(N, C, E)), {}),
    "mix, channels": ("mix", (X, weights(C, K, E * M), draw(C, E * M), simplex(N, 1, E)), {}),
    "mix, long horizon": ("mix", (X, weights(1, K, E * 200), None, simplex(N, C, E)), {}),
    "mix, steps": ("mix", (X, weights(1, K, E * M), draw(1, E * M), simplex(N, C, M, E)), {}),
    "mix, shared steps": ("mix", (X, weights(1, K, E * M), None, simplex(N, 1, M, E)), {}),
    "gate": ("gate", (draw(N, C, E),), {}),
    "gate, steps": ("gate", (draw(N, C, 6, E),), {"temperature": 0.5}),
    "gate, top 2": ("gate", (draw(N, C, E),), {"top_k": 2}),
    "gate, ties": ("gate", (np.ones((N, C, E)),), {"top_k": 3, "temperature": 2.0}),
    "gate, scores": ("gate", (draw(N, C, E),), {"scores": [(LOSSES, 2.0), (LOSSES, 0.5)]}),
    "gate, scores and steps": ("gate", (draw(N, C, 6, E),), {"scores": [(LOSSES, 1.0)]}),
    "gate, many experts": ("gate", (draw(N, C, 40),), {"top_k": 7}),
    "power": ("power", (X, 20), {}),
    "power, padded": ("power", (X, 33), {}),
    "energy": ("energy", (X, weights(E, K, 9)), {}),
    "backtest": ("backtest", (X, weights(E, 11, 4), 3), {}),
    "concat": ("concat", ([X, draw(N, C, 5), draw(N, C, 32)],), {}),
    "reshape": ("reshape", (X, (N, C, 5, 8)), {}),
    "reshape, channels": ("reshape", (X, (N, 1, C * K)), {}),
    "penalize": ("penalize", (draw(N, C, E), [(LOSSES, 2.0), (LOSSES, 0.5)]), {}),
    "penalize, steps": ("penalize", (draw(N, C, 6, E), [(LOSSES, 1.0)]), {}),
    "backtest, far steps": ("backtest", (X, weights(E, 11, 3), 3, (1, 5, 9)), {}),
    "backtest, floor": ("backtest", (X, weights(E, 11, 4), 3), {"floor": 0.3}),
    **{
        f"backtest, power {power}": (
            "backtest",
            (X, weights(E, 11, 3), 2, (2, 3, 8)),
            {"floor": 0.2, "power": power},
        )
        for power in (0.5, 0.7, 2.0)
    },
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_those_of_numpy(computed, name, dtype):
    operation, given, options = OPERATIONS[name]
    expected = On(resolve("numpy")).run(operation, *given, **options)
    actual = On(computed(dtype)).run(operation, *given, **options)
    assert_close(actual, expected, TOLERANCE[dtype])
    with pytest.raises(AssertionError, match="off by"):
        assert_close(actual + 10 * TOLERANCE[dtype] * np.abs(expected).max(), expected,
                     TOLERANCE[dtype])  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_rows_of_the_dtype_whatever_the_weights_are(computed, dtype):
    backend = computed(dtype)
    (x,) = backend.upload(X)
    w = backend.put(weights(1, K, M))
    result = backend.linear(x, w)
    assert result.shape == (N, C, M)
    tt = backend._tt
    kind = tt.float32 if dtype == "float32" else tt.bfloat16
    assert result.source.tensor.dtype == kind
    assert x.source.tensor.dtype == kind
    placed = [tensor for _, tensor in w._placed.values()]
    assert [tensor.dtype for tensor in placed] == [getattr(tt, dtype)]
    assert backend.get(result).dtype == np.float32
    # tiles are whole, and rows come in few numbers
    assert tuple(result.source.tensor.padded_shape)[-2:] == (32, 32)


def test_columns_are_a_view(computed):
    backend = computed("float32")
    x, _ = backend.upload(X, draw(N, C, 5))
    with backend._tt.record() as events:
        part = backend.columns(x, 7, 19)
        assert part.shape == (N, C, 12)
        w = backend.put(weights(1, 12, M))
        out = backend.linear(part, w)
    assert [event.name for event in events if event.kind == "op"] == ["linear"]
    assert_close(backend.get(out), X[:, :, 7:19] @ w.array[0], 1e-5)
    assert_close(backend.get(part), X[:, :, 7:19], 1e-6)


# logits that differ by less than bfloat16 tells apart make another expert the best one
FLIPS = {"top_one_per_step"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_mixtures_equal_plain_loops(computed, name, dtype):
    mixture, windows, inputs = build(name)
    backend, expected = computed(dtype), expected_of(name).forecast
    actual = predict_windows(mixture, windows, backend, **inputs)
    if name in FLIPS and dtype != "float32":
        assert actual.shape == expected.shape
        wrong = np.abs(actual - expected) > TOLERANCE[dtype] * np.abs(expected).max()
        assert wrong.mean() < 0.2
        return
    assert_close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("name", CASES)
def test_parts_of_mixtures_equal_plain_loops(computed, name):
    mixture, windows, inputs = build(name)
    found = forward(mixture, computed("float32"), windows, parts=True, **inputs)
    expected = expected_of(name)
    assert_close(found.forecast, expected.forecast, 1e-5)
    assert_close(found.experts, expected.experts, 1e-5)
    for evidence, loops in zip(found.evidence, expected.evidence, strict=True):
        assert_close(evidence, loops, 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_its_neighbors(computed, name):
    mixture, windows, inputs = build(name)
    backend = computed()

    def forecast(rows):
        given = {key: value[rows] for key, value in inputs.items()}
        return predict_windows(mixture, windows[rows], backend, **given)

    together = forecast(slice(None))
    np.testing.assert_array_equal(forecast(slice(2, 3)), together[2:3])
    # so many that another bucket is taken
    many = forecast(np.arange(200) % len(windows))
    np.testing.assert_array_equal(many[: len(windows)], together)
    np.testing.assert_array_equal(many[len(windows) : 2 * len(windows)], together)


@pytest.mark.card_only("traces and events crash on a mock card")
@pytest.mark.parametrize("options", [("trace",), ("trace", "queues")])
@pytest.mark.parametrize("name", ["one_expert", "window_gates", "step_gates", "top_k"])
def test_a_replayed_forecast_is_the_one_that_was_not_recorded(computed, name, options):
    mixture, windows, inputs = build(name)
    plain, traced = computed(), computed("bfloat16", *options)
    expected = predict_windows(mixture, windows, plain, **inputs)
    plain.close()  # the chip is opened again, with room for traces
    for _ in range(3):
        np.testing.assert_array_equal(predict_windows(mixture, windows, traced, **inputs), expected)
