"""Forecasts of fitted models in the card's formats stay near those of numpy in float64."""

import dataclasses
import functools

import numpy as np
import pytest

import mixlin
from mixlin.datasets import fetch_ett, fetch_exchange_rate, fetch_illness
from mixlin.layers import Layer
from mixlin.mixture import predict_windows
from mixlin.routing import Gate
from tests.mixture_cases import HourRouter
from tests.ttnn.errors import (
    BOUNDS,
    DTYPES,
    LEVELS,
    assert_gates_near,
    assert_near,
    errors_of,
    gates_pcc,
)
from tests.ttnn.make_models import (
    FILES,
    FOLDER,
    HOUR,
    MIXTURES,
    TRAIN,
    first_steps,
    fit,
    series,
    windows,
)
from tests.ttnn.watched import TABLES


def check(title, level, dtype, actual, expected):
    found = errors_of(actual, expected)
    shares = (f"{100 * share:.2g}" for share in found[1:])
    TABLES["numbers"].add(
        title, level if isinstance(level, str) else f"{level:g}", dtype, f"{found.pcc:.6f}", *shares
    )
    assert_near(found, dtype)


def oldest_lag_moved(mixture, expected, X, **inputs):
    """Return the mixture with weights that move forecasts by ten bounds, in the RMS."""

    def moved(by):
        weights = mixture.weights.copy()
        weights[:, :, 0] += by
        return dataclasses.replace(mixture, weights=weights)

    effect = errors_of(predict_windows(moved(1.0), X, **inputs), expected).rms
    return moved(10 * BOUNDS["bfloat16"].rms / effect)


# -- forecasters -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FILES)
def test_models_that_were_fitted_elsewhere_come_as_files(computed, name, dtype):
    _, parameters, level = FILES[name]
    model = mixlin.load(FOLDER / f"{name}.safetensors")
    X = windows(level, parameters["lookback"])
    expected = model.set_params(backend="numpy").predict(X)
    actual = model.set_params(backend=computed(dtype)).predict(X)
    assert actual.dtype == expected.dtype
    check(f"{name}.safetensors", level, dtype, actual, expected)


@functools.cache
def fitted(name, level):
    cls, parameters, _ = FILES[name]
    return fit(cls, parameters, level)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", FILES)
def test_models_that_were_fitted_here(computed, name, level, dtype):
    model = fitted(name, level)
    X = windows(level, model.lookback_)
    expected = model.set_params(backend="numpy").predict(X)
    actual = model.set_params(backend=computed(dtype)).predict(X)
    check(
        type(model).__name__ + " of channels" * (name == "channels"), level, dtype, actual, expected
    )


@pytest.mark.parametrize("name", FILES)
def test_a_moved_weight_is_noticed(computed, name):
    model = fitted(name, 0.0)
    X = np.ascontiguousarray(windows(0.0, model.lookback_).swapaxes(1, 2))
    mixture, backend = model.plan_.mixture(), computed()
    expected = predict_windows(mixture, X)
    assert_near(errors_of(predict_windows(mixture, X, backend), expected), "bfloat16")
    moved = predict_windows(oldest_lag_moved(mixture, expected, X), X, backend)
    with pytest.raises(AssertionError, match=r"correlation|RMS error"):
        assert_near(errors_of(moved, expected), "bfloat16")


# -- fitted mixtures ---------------------------------------------------------------------------


def check_mixture(title, model, level, dtype, backend):
    X = windows(level, model.lookback_)
    times = first_steps(len(X))
    model.set_params(backend="numpy")
    expected, gates = model.predict(X, timestamps=times), model.gate_weights(X, timestamps=times)
    model.set_params(backend=backend)
    check(title, level, dtype, model.predict(X, timestamps=times), expected)
    pcc = gates_pcc(model.gate_weights(X, timestamps=times), gates)
    TABLES["gates"].add(title, f"{level:g}", dtype, f"{pcc:.6f}")
    assert_gates_near(pcc, dtype)
    return expected, gates


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_that_were_fitted_elsewhere_come_as_files(computed, name, dtype):
    _, parameters, level = MIXTURES[name]
    model = mixlin.load(FOLDER / f"{name}.safetensors")
    assert model.n_experts_ == parameters["n_experts"]
    _, gates = check_mixture(f"{name}.safetensors", model, level, dtype, computed(dtype))
    assert gates.std(axis=tuple(range(gates.ndim - 1))).min() > 0.02  # gates do change


@functools.cache
def fitted_mixture(name, level):
    cls, parameters, _ = MIXTURES[name]
    return fit(cls, parameters, level)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_that_were_fitted_here(computed, name, level, dtype):
    check_mixture(name, fitted_mixture(name, level), level, dtype, computed(dtype))


@pytest.mark.parametrize("name", MIXTURES)
def test_a_moved_weight_and_exchanged_gates_are_noticed(computed, name):
    model, backend = mixlin.load(FOLDER / f"{name}.safetensors"), computed()
    _, _, level = MIXTURES[name]
    X = np.ascontiguousarray(windows(level, model.lookback_).swapaxes(1, 2))
    inputs = {"timestamps": first_steps(len(X))[:, None] + HOUR * np.arange(96 + 24)}
    mixture = model.plan_.mixture()
    expected = predict_windows(mixture, X, **inputs)
    moved = oldest_lag_moved(mixture, expected, X, **inputs)
    last = mixture.gate.layers[-1]
    swapped = dataclasses.replace(
        last,
        weight=np.roll(last.weight, 1, axis=2),
        bias=None if last.bias is None else np.roll(last.bias, 1, axis=1),
    )
    gate = dataclasses.replace(mixture.gate, layers=(*mixture.gate.layers[:-1], swapped))
    for changed in (moved, dataclasses.replace(mixture, gate=gate)):
        found = errors_of(predict_windows(changed, X, backend, **inputs), expected)
        with pytest.raises(AssertionError, match=r"correlation|RMS error"):
            assert_near(found, "bfloat16")


# -- a mixture ---------------------------------------------------------------------------------


def mixture_of_four(data, lookback, horizon):
    """Return experts of four parts of a series, weighed by the hour."""
    parts = np.array_split(data, 4)
    models = [
        mixlin.DLinearForecaster(lookback, horizon, normalization="mean").fit(part)
        for part in parts
    ]
    mixtures = [model.plan_.mixture() for model in models]
    rng = np.random.default_rng(0)
    gate = Gate(HourRouter(), (Layer(rng.normal(size=(1, 3, 4)), rng.normal(size=(1, 4))),))
    weights = np.concatenate([m.weights for m in mixtures], axis=1)
    biases = [m.bias for m in mixtures]
    bias = None if any(b is None for b in biases) else np.concatenate(biases, axis=1)
    return dataclasses.replace(mixtures[0], weights=weights, bias=bias, gate=gate)


def hours(n, n_steps, stride):
    start = np.datetime64("2024-03-01T00", "h") + stride * np.arange(n)
    return start[:, None] + np.arange(n_steps)


@functools.cache
def synthetic_mixture(level):
    return mixture_of_four(series(level)[:TRAIN], 96, 96)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_mixture_of_four_experts(computed, level, dtype):
    mixture = synthetic_mixture(level)
    X = np.ascontiguousarray(windows(level, 96).swapaxes(1, 2))
    stamps = hours(len(X), 96 + 96, 29)
    expected = predict_windows(mixture, X, timestamps=stamps)
    actual = predict_windows(mixture, X, computed(dtype), timestamps=stamps)
    check("four DLinear experts, by the hour", level, dtype, actual, expected)
    alone = dataclasses.replace(mixture, weights=mixture.weights[:, ::-1])
    other = predict_windows(alone, X, timestamps=stamps)
    with pytest.raises(AssertionError, match=r"correlation|RMS error"):  # the experts do differ
        assert_near(errors_of(other, expected), dtype)


# -- benchmark data ----------------------------------------------------------------------------

BENCHMARKS = {
    "ETTh1": (functools.partial(fetch_ett, "ETTh1"), "ETTh1.csv", 336, 96),
    "exchange": (fetch_exchange_rate, "exchange_rate.txt", 336, 96),
    "illness": (fetch_illness, "national_illness.csv", 104, 24),
}


@functools.cache
def benchmark(name):
    """Return the training rows and windows (n, lookback, channels) of the last fifth."""
    fetch, _, lookback, _ = BENCHMARKS[name]
    data = np.asarray(fetch(download_if_missing=False).data, dtype=np.float64)
    cut = len(data) * 4 // 5
    rolling = np.lib.stride_tricks.sliding_window_view(data[cut:], lookback, axis=0)
    chosen = rolling[:: max(1, len(rolling) // 24)]
    return data[:cut], np.ascontiguousarray(chosen.transpose(0, 2, 1))


MODELS = ("LinearForecaster", "NLinearForecaster", "DLinearForecaster", "RLinearForecaster")


@functools.cache
def fitted_to_benchmark(name, model):
    _, _, lookback, horizon = BENCHMARKS[name]
    train, _ = benchmark(name)
    if model == "mixture":
        return mixture_of_four(train, lookback, horizon)
    return getattr(mixlin, model)(lookback, horizon).fit(train)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", [*MODELS, "mixture"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.data(file))
        for name, (_, file, *_) in BENCHMARKS.items()
    ],
)
def test_benchmark_data(computed, name, model, dtype):
    _, X = benchmark(name)
    fitted_model, backend = fitted_to_benchmark(name, model), computed(dtype)
    if model == "mixture":
        X = np.ascontiguousarray(X.swapaxes(1, 2))
        stamps = hours(len(X), X.shape[2] + fitted_model.horizon, 7)
        expected = predict_windows(fitted_model, X, timestamps=stamps)
        actual = predict_windows(fitted_model, X, backend, timestamps=stamps)
    else:
        expected = fitted_model.set_params(backend="numpy").predict(X)
        actual = fitted_model.set_params(backend=backend).predict(X)
    # channels have different units: each is measured in its own
    axis = 1 if model == "mixture" else 2
    center, unit = (f(expected, axis=(0, 3 - axis), keepdims=True) for f in (np.mean, np.std))
    actual, expected = (actual - center) / unit, (expected - center) / unit
    check(f"{name}, {model}", "data", dtype, actual, expected)
