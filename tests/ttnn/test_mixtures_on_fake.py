"""Mixtures on the stand-in for ttnn: what is rewritten, split and kept apart for coarse numbers.

These tests run on every Python.
"""

import numpy as np
import pytest

import mixlin
from mixlin.backends import resolve
from mixlin.layers import Layer
from mixlin.mixture import Mixture, forward, predict_windows
from mixlin.mixture.placement import as_placed
from mixlin.normalization import Normalization
from mixlin.routing import ConstantRouter, Gate
from tests.engines import assert_close, assert_parity
from tests.ttnn.errors import assert_gates_near, assert_near, errors_of, gates_pcc
from tests.ttnn.fake_numbers import round_bfloat16
from tests.ttnn.gates import CalendarLikeRouter, layer
from tests.ttnn.make_models import FOLDER, HOUR, MIXTURES, first_steps, windows

LOOKBACK, HORIZON = 96, 24


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def saved(name):
    """Return the mixture of a file, windows that it was not fitted on, and their times."""
    model = mixlin.load(FOLDER / f"{name}.safetensors")
    X = np.ascontiguousarray(windows(MIXTURES[name][2], LOOKBACK).swapaxes(1, 2))
    times = first_steps(len(X))[:, None] + HOUR * np.arange(LOOKBACK + HORIZON)
    return model.plan_.mixture(), X, {"timestamps": times}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "bfloat8_b"])
@pytest.mark.parametrize("name", MIXTURES)
def test_fitted_mixtures_stay_near_numpy(faked, name, dtype):
    mixture, X, inputs = saved(name)
    expected = forward(mixture, resolve("numpy"), X, **inputs, parts=True)
    found = forward(mixture, faked(dtype), X, **inputs, parts=True)
    assert_near(errors_of(found.forecast, expected.forecast), dtype)
    assert_gates_near(gates_pcc(found.gates, expected.gates), dtype)
    np.testing.assert_array_equal(found.level, expected.level)
    assert_near(errors_of(found.experts, expected.experts), dtype)


# -- coordinates -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_in_other_coordinates_is_the_same_function(faked, name, dtype):
    mixture, X, inputs = saved(name)
    placed = as_placed(mixture, faked(dtype))
    assert as_placed(mixture, faked(dtype)) is placed
    expected, level = predict_windows(mixture, X, **inputs), X.mean(axis=2, keepdims=True)
    actual = predict_windows(placed, X, **inputs)
    assert_parity(actual - level, expected - level, 1e-8 if MIXTURES[name][2] == 1e6 else 1e-11)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_forecasts_that_hardly_follow_the_last_value_are_measured_from_the_mean(faked, weight):
    weights = draw(1, 1, 12, 4)
    weights[:, :, :-1] += (1 - weight - weights[:, :, :-1].sum(axis=2, keepdims=True)) / 11
    mixture, X = Mixture(weights, normalization=Normalization("last")), draw(6, 3, 12)
    placed = as_placed(mixture, faked())
    assert placed.normalization.level == ("mean" if weight < 0.5 else "last")
    assert_parity(predict_windows(placed, X), predict_windows(mixture, X), 1e-13)
    assert as_placed(mixture, faked("float32")) is mixture  # no level costs it anything


@pytest.mark.parametrize("name", ["mole_calendar", "mole_steps", "mole_statistics"])
def test_biases_of_channels_do_not_repeat_the_weights_for_each(faked, name):
    mixture, _, _ = saved(name)
    columns, bias = as_placed(mixture, faked()).packed
    assert (len(mixture.bias), len(columns), bias) == (5, 1, None)


def test_biases_of_channels_that_are_no_product_stay_with_their_channels(faked):
    gate = Gate(ConstantRouter(), (Layer(np.zeros((1, 1, 2)), draw(1, 2)),))
    mixture = Mixture(draw(1, 2, 12, 4), draw(3, 2, 4), gate=gate)
    placed, X = as_placed(mixture, faked("float32")), draw(6, 3, 12)
    assert placed is mixture
    actual = predict_windows(mixture, X, faked("float32"))
    assert_parity(actual, predict_windows(mixture, X), 1e-5)


# -- gates -------------------------------------------------------------------------------------


def test_logits_of_features_are_good_to_sixteen_bits(faked):
    # terms of 200 that cancel to logits of about one, as where features are far from zero
    x, w = 20 + 1e-2 * draw(64, 1, 8), 10 * draw(1, 8, 4)
    b = -(x.mean(axis=0) @ w[0])
    backend, exact = faked(), x @ w[0] + b
    _, features = backend.upload(draw(64, 1, LOOKBACK), x)
    logits = backend.get(backend.linear(features, backend.put(w), backend.put(b)))
    assert_close(logits, exact, 0.02, unit=1.0)
    rounded = [round_bfloat16(array).astype(float) for array in (x, w[0], b)]
    in_one_part = rounded[0] @ rounded[1] + rounded[2]
    with pytest.raises(AssertionError, match="off by"):
        assert_close(in_one_part, exact, 0.2, unit=1.0)


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_near_ties_are_told_apart(faked, top_k, groups):
    rng = np.random.default_rng(0)
    weight, bias = 4 + 1e-3 * rng.normal(size=(1, 4, 4)), 30 + 1e-2 * rng.normal(size=(groups, 4))
    gate = Gate(CalendarLikeRouter(), (Layer(weight, bias),), top_k=top_k)
    weights = np.repeat(np.arange(4.0)[None, :, None, None], 2, axis=3) * np.ones((1, 4, 12, 2))
    mixture, X = Mixture(weights, gate=gate), draw(50, 3, 12)
    expected = forward(mixture, resolve("numpy"), X, parts=True).gates
    found = forward(mixture, faked(), X, parts=True).gates
    np.testing.assert_array_equal(found > 0, expected > 0)


def test_of_equal_logits_the_first_are_kept(faked):
    one = layer(np.random.default_rng(0), 1, 4, 1)
    same = Layer(np.repeat(one.weight, 4, axis=2), np.repeat(one.bias, 4, axis=1))
    gate = Gate(CalendarLikeRouter(), (same,), top_k=2)
    mixture = Mixture(draw(1, 4, 12, 2), gate=gate)
    for dtype in ("bfloat16", "float32"):
        gates = forward(mixture, faked(dtype), draw(50, 3, 12), parts=True).gates
        np.testing.assert_array_equal(gates > 0, np.broadcast_to([1, 1, 0, 0], gates.shape))


def test_a_gate_of_few_features_has_the_same_weights_where_others_have_eight_bits(faked):
    mixture, X, inputs = saved("mole_calendar")
    both = [faked("bfloat16"), faked("bfloat8_b")]
    gates = [forward(mixture, backend, X, **inputs, parts=True).gates for backend in both]
    np.testing.assert_array_equal(*gates)
