"""The four linear forecasters: identities, shapes, equivariances, chunks, benchmark figures."""

from __future__ import annotations

import numpy as np
import pytest

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
    datasets,
)

L, H, C = 12, 4, 3
EVERY = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
FREE_OF_LEVEL = [NLinearForecaster, RLinearForecaster]
NAMES = [None, "last", "mean", "revin"]


def make_series(n_rows=220, n_channels=C, seed=0):
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)[:, None]
    waves = np.sin(2 * np.pi * steps / 6 + np.arange(n_channels))
    noise = rng.normal(size=(n_rows, n_channels))
    drift = 0.2 * rng.normal(size=(n_rows, n_channels)).cumsum(axis=0)
    return (waves + 0.5 * noise + drift) * (1.0 + np.arange(n_channels)) + 4.0 * np.arange(
        n_channels
    )


def cut(series, lookback=L, horizon=H):
    """Return windows (n, L[, C]) and targets (n, H[, C])."""
    starts = range(len(series) - lookback - horizon + 1)
    x = np.array([series[t : t + lookback] for t in starts])
    y = np.array([series[t + lookback : t + lookback + horizon] for t in starts])
    return x, y


def fit(model, mode, series):
    return model.fit(series) if mode == "series" else model.fit(*cut(series))


def assert_close(got, expected, tolerance=1e-9):
    assert got.shape == expected.shape
    error = np.abs(got - expected).max()
    assert error <= tolerance * np.abs(expected).max(), error


@pytest.fixture(scope="module")
def series():
    return make_series()


@pytest.fixture(scope="module")
def new():
    return cut(make_series(40, seed=9))[0]


# -- a fitted model is its coefficients ------------------------------------------------------


def by_hand(model, x, eps=None):
    """Evaluate coef_, intercept_ and scale_coef_ on windows (n, L, C)."""
    n_channels = x.shape[2]
    coef = np.broadcast_to(model.coef_, (n_channels, *model.coef_.shape[-2:]))
    intercept = np.broadcast_to(model.intercept_, (n_channels, model.coef_.shape[-2]))
    out = np.einsum("nlc,chl->nhc", x, coef) + intercept.T
    if eps is not None:
        riding = np.broadcast_to(model.scale_coef_, intercept.shape)
        out = out + np.sqrt(x.var(axis=1) + eps)[:, None, :] * riding.T
    return out


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("scale", ["std", None])
@pytest.mark.parametrize("mode", ["series", "windows"])
@pytest.mark.parametrize("normalization", NAMES)
@pytest.mark.parametrize("cls", [LinearForecaster, DLinearForecaster])
def test_predict_is_the_coefficients_on_the_window(
    series, new, cls, normalization, mode, scale, individual, fit_intercept
):
    model = fit(
        cls(
            L if mode == "series" else None,
            H if mode == "series" else None,
            normalization=normalization,
            scale=scale,
            individual=individual,
            fit_intercept=fit_intercept,
            alpha=1e-3,
        ),
        mode,
        series,
    )
    values = series[:, None] if mode == "series" else cut(series)[0]
    eps = 1e-5 * values.var(axis=(0, 1)) if normalization == "revin" else None
    assert_close(model.predict(new), by_hand(model, new, eps), 1e-12)
    assert model.coef_.shape == ((H, L) if individual is False else (C, H, L))
    assert model.intercept_.shape in [(H,), (C, H)]
    rows = model.coef_.sum(axis=-1)
    if normalization is not None:
        np.testing.assert_allclose(rows, 1.0, atol=1e-12)
    else:
        assert np.abs(rows - 1.0).max() > 1e-3
    if not fit_intercept and (scale is None or normalization is not None):
        assert not model.intercept_.any()
    if normalization == "revin":
        assert model.scale_coef_.shape == ((H,) if individual is False else (C, H))
    else:
        with pytest.raises(AttributeError, match="has no scale feature"):
            _ = model.scale_coef_


@pytest.mark.parametrize(
    ("cls", "normalization"), [(NLinearForecaster, "last"), (RLinearForecaster, "revin")]
)
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_named_models_are_linear_models_with_their_normalization(
    series, new, cls, normalization, individual
):
    named = cls(L, H, individual=individual, alpha=1e-3, fit_intercept=True).fit(series)
    linear = LinearForecaster(
        L, H, normalization=normalization, individual=individual, alpha=1e-3
    ).fit(series)
    assert np.array_equal(named.predict(new), linear.predict(new))
    np.testing.assert_allclose(named.coef_.sum(axis=-1), 1.0, atol=1e-12)
    eps = 1e-5 * series.var(axis=0) if normalization == "revin" else None
    assert_close(named.predict(new), by_hand(named, new, eps), 1e-12)


def test_the_shared_intercept_is_one_number_per_step_in_scaled_units(series):
    plain = LinearForecaster(L, H, scale=None).fit(series)
    assert plain.intercept_.shape == (H,)
    scaled = NLinearForecaster(L, H).fit(series)
    assert scaled.intercept_.shape == (C, H)
    in_units = scaled.intercept_ / series.std(axis=0)[:, None]
    np.testing.assert_allclose(in_units, np.tile(in_units[0], (C, 1)), atol=1e-14)
    individual = NLinearForecaster(L, H, individual=True).fit(series)
    in_units = individual.intercept_ / series.std(axis=0)[:, None]
    assert np.ptp(in_units, axis=0).max() > 1e-4


@pytest.mark.parametrize("name", ["coef_", "intercept_"])
def test_coefficients_before_fit_get_a_sentence(name):
    with pytest.raises(AttributeError, match="before it is fitted; call fit"):
        getattr(LinearForecaster(), name)


# -- shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
def windows_of_the_test_span_keep_the_shape_of_y(series, cls):
    x, y = cut(series[:, 0])
    assert cls().fit(x, y[:, 0]).predict(x[:5]).shape == (5,)
    assert cls().fit(x, y[:, :1]).predict(x[:5]).shape == (5, 1)
    assert cls().fit(x, y).predict(x[:5]).shape == (5, H)
    assert cls().fit(x, y).predict_interval(x[:5]).shape == (5, H, 2)
    assert cls().fit(x, y[:, 0]).predict_quantiles(x[:5], [0.1, 0.5, 0.9]).shape == (5, 3)
    x3, y3 = cut(series)
    model = cls().fit(x3, y3)
    assert model.predict(x3[:5]).shape == (5, H, C)
    assert model.predict_quantiles(x3[:5], [0.2, 0.8]).shape == (5, H, C, 2)
    assert (model.n_features_in_, model.n_channels_in_) == (L, C)
    assert (model.lookback_, model.horizon_, model.mode_) == (L, H, "windows")
    one = x3[:, :, :1], y3[:, :, :1]
    assert cls().fit(*one).predict(one[0][:5]).shape == (5, H, 1)


@pytest.mark.parametrize("cls", EVERY)
def test_series_keep_their_shape(series, cls):
    flat = cls(L, H).fit(series[:, 0])
    assert flat.predict().shape == (H,)
    assert flat.predict(series[:50, 0]).shape == (H,)
    assert flat.predict_interval().shape == (H, 2)
    assert cls(L, H).fit(series[:, :1]).predict().shape == (H, 1)
    model = cls(L, H).fit(series)
    assert model.predict().shape == (H, C)
    assert model.predict(series[:50]).shape == (H, C)
    assert model.predict(cut(series)[0][:7]).shape == (7, H, C)
    assert model.predict_quantiles(quantiles=[0.5]).shape == (H, C, 1)
    assert (model.n_features_in_, model.n_channels_in_, model.mode_) == (C, C, "series")
    assert model.context_.shape == (L, C)
    many = cls(L, H).fit([series[:100], series[100:]])
    assert [f.shape for f in many.predict()] == [(H, C), (H, C)]
    assert_close(many.predict()[1], many.predict(series))
    default = cls(horizon=2).fit(series)
    assert default.lookback_ == len(series) // 3


@pytest.mark.parametrize("cls", EVERY)
def test_predicting_continues_the_training_series(series, cls):
    model = cls(L, H).fit(series)
    assert np.array_equal(model.predict(), model.predict(series))
    assert np.array_equal(model.predict(), model.predict(series[-L:]))
    assert_close(model.predict(), model.predict(series[None, -L:])[0], 1e-12)
    assert np.abs(model.predict() - model.predict(series[:-1])).max() > 1e-3


@pytest.mark.parametrize("cls", EVERY)
def test_a_shorter_horizon_is_a_prefix(series, new, cls):
    model = cls(L, H).fit(series)
    whole, spread = model.predict(new), model.predict_interval()
    for horizon in range(1, H + 1):
        assert np.array_equal(model.predict(new, horizon=horizon), whole[:, :horizon])
        part = model.predict_interval(horizon=horizon)
        assert np.array_equal(part, spread[:horizon])
    with pytest.raises(ValueError, match="horizon must be an integer from 1 to 4"):
        model.predict(new, horizon=H + 1)


@pytest.mark.parametrize("cls", EVERY)
def test_a_shorter_lookback_reads_the_last_columns_of_windows(series, cls):
    x, y = cut(series)
    short, cut_by_hand = cls(lookback=5).fit(x, y), cls().fit(x[:, -5:], y)
    assert np.array_equal(short.coef_, cut_by_hand.coef_)
    assert np.array_equal(short.predict(x[:9]), cut_by_hand.predict(x[:9, -5:]))


def test_quantiles_are_normal_around_the_forecast(series):
    model = LinearForecaster(L, H).fit(series)
    levels = [0.05, 0.25, 0.5, 0.95]
    quantiles = model.predict_quantiles(quantiles=levels)
    np.testing.assert_allclose(quantiles[..., 2], model.predict(), rtol=1e-12)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    np.testing.assert_allclose(model.predict_interval(coverage=0.9), quantiles[..., [0, 3]])
    deviation = np.sqrt(model.plan_.residual_variance).T
    np.testing.assert_allclose(
        quantiles[..., 3] - model.predict(), 1.6448536269514722 * deviation, rtol=1e-9
    )


# -- equivariances ---------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("mode", ["series", "windows"])
def test_channels_may_come_in_any_order(series, new, cls, individual, mode):
    order = [2, 0, 1]
    sizes = (L, H) if mode == "series" else (None, None)
    plain = fit(cls(*sizes, individual=individual), mode, series)
    moved = fit(cls(*sizes, individual=individual), mode, series[:, order])
    assert_close(moved.predict(new[:, :, order]), plain.predict(new)[:, :, order])
    np.testing.assert_allclose(
        moved.plan_.residual_variance, plain.plan_.residual_variance[order], rtol=1e-8
    )


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_series_forecasts_follow_shift_and_scale_of_every_channel(series, new, cls, individual):
    shift, unit = np.array([100.0, -3.0, 0.5]), np.array([0.01, 7.0, 300.0])
    plain = cls(L, H, individual=individual, alpha=1e-2).fit(series)
    moved = cls(L, H, individual=individual, alpha=1e-2).fit(series * unit + shift)
    assert_close((moved.predict(new * unit + shift) - shift) / unit, plain.predict(new))
    np.testing.assert_allclose(
        moved.plan_.residual_variance,
        plain.plan_.residual_variance * unit[:, None] ** 2,
        rtol=1e-8,
    )


@pytest.mark.parametrize("cls", EVERY)
def test_window_forecasts_follow_shift_and_units(series, new, cls):
    x, y = cut(series)
    plain = cls(alpha=1e-2, fit_intercept=True).fit(x, y)
    for unit, shift in [(1.0, 50.0), (1e-3, 0.0), (400.0, -7.0)]:
        moved = cls(alpha=1e-2, fit_intercept=True).fit(x * unit + shift, y * unit + shift)
        assert_close((moved.predict(new * unit + shift) - shift) / unit, plain.predict(new))


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_alpha_means_the_same_in_any_unit_and_for_any_number_of_windows(series, new, cls, alpha):
    x, y = cut(series)
    plain = cls(alpha=alpha).fit(x, y)
    twice = cls(alpha=alpha).fit(np.concatenate([x, x]), np.concatenate([y, y]))
    assert_close(twice.coef_, plain.coef_)
    copies = cls(L, H, alpha=alpha).fit([series, series, series])
    assert_close(copies.coef_, cls(L, H, alpha=alpha).fit(series).coef_)
    assert_close(cls(alpha=alpha).fit(1e4 * x, 1e4 * y).coef_, plain.coef_)
    other = cls(alpha=alpha * 1.01).fit(x, y)
    assert np.abs(other.coef_ - plain.coef_).max() > 1e-7


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("mode", ["series", "windows"])
@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_a_level_of_a_million_loses_nothing(cls, individual, mode, alpha):
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * np.arange(400) / 8)[:, None] * [1.0, 0.5]
    low = wave + rng.normal(size=(400, 2)) * 0.5
    low = np.round(low * 2**20) / 2**20  # exact when a million is added
    high = low + 1e6
    assert np.array_equal(high - 1e6, low)
    sizes = (L, H) if mode == "series" else (None, None)
    params = {"individual": individual, "alpha": alpha, "fit_intercept": True}
    at_zero = fit(cls(*sizes, **params), mode, low)
    at_million = fit(cls(*sizes, **params), mode, high)
    contexts = cut(low)[0]
    error = (at_million.predict(contexts + 1e6) - 1e6) - at_zero.predict(contexts)
    assert np.abs(error).max() <= 1e-9 * low.std()
    np.testing.assert_allclose(
        at_million.plan_.residual_variance, at_zero.plan_.residual_variance, rtol=1e-8
    )


# -- batches and chunks ----------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forecasts_do_not_depend_on_the_batch(series, cls, individual, dtype):
    model = cls(L, H, individual=individual).fit(series)
    windows = np.tile(cut(series)[0], (30, 1, 1)).astype(dtype)
    together = model.predict(windows).astype(np.float64)
    tolerance = 1e-12 if dtype is np.float64 else 2e-7
    for size in (1, 7, 1000):
        rows = slice(333, 333 + size)
        assert_close(model.predict(windows[rows]).astype(np.float64), together[rows], tolerance)
    strided = np.asfortranarray(windows)
    assert_close(model.predict(strided).astype(np.float64), together, tolerance)


CHUNKED = [LinearForecaster, NLinearForecaster, DLinearForecaster]


@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("scale", ["std", None])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("cls", CHUNKED)
def test_chunks_of_a_series_are_the_series(series, new, cls, gaps, scale, individual):
    values = series.copy()
    if gaps:
        values[40, 0] = values[77:80, 2] = values[78:90, 1] = np.nan
    whole = cls(L, H, scale=scale, individual=individual, alpha=1e-4).fit(values)
    chunked = cls(L, H, scale=scale, individual=individual, alpha=1e-4)
    for part in np.split(values, [30, 31, 40, 60, 78, 150, 219]):
        chunked.partial_fit(part)
    assert_close(chunked.predict(new), whole.predict(new), 1e-10)
    assert_close(chunked.predict(), whole.predict(), 1e-10)
    np.testing.assert_allclose(
        chunked.plan_.residual_variance, whole.plan_.residual_variance, rtol=1e-8
    )


def test_chunks_of_the_scale_feature_differ_by_their_epsilon_alone(series, new):
    whole = RLinearForecaster(L, H).fit(series)
    chunked = RLinearForecaster(L, H)
    for part in np.split(series, [60, 150]):
        chunked.partial_fit(part)
    assert_close(chunked.predict(new), whole.predict(new), 1e-4)


@pytest.mark.parametrize("cls", CHUNKED)
def test_new_series_are_as_a_list_of_series(series, new, cls):
    whole = cls(L, H).fit([series[:90], series[90:]])
    apart = cls(L, H).fit(series[:90]).partial_fit(series[90:], new_series=True)
    assert_close(apart.predict(new), whole.predict(new), 1e-10)
    joined = cls(L, H).fit(series[:90]).partial_fit(series[90:])
    assert np.abs(joined.predict(new) - whole.predict(new)).max() > 1e-7
    assert_close(joined.predict(new), cls(L, H).fit(series).predict(new), 1e-10)


@pytest.mark.parametrize("cls", CHUNKED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_chunks_of_windows_are_the_windows(series, new, cls, weighted, individual):
    x, y = cut(series)
    weight = np.random.default_rng(0).uniform(0, 2, len(x)) if weighted else None
    whole = cls(individual=individual).fit(x, y, sample_weight=weight)
    chunked = cls(individual=individual)
    for rows in (slice(0, 50), slice(50, 52), slice(52, None)):
        chunked.partial_fit(
            x[rows], y[rows], sample_weight=None if weight is None else weight[rows]
        )
    assert_close(chunked.predict(new), whole.predict(new), 1e-10)


def test_a_failed_chunk_changes_nothing(series, new):
    model = LinearForecaster(L, H).fit(series)
    before = model.predict(new)
    for bad in (series[:, :2], series.astype(str), series[:0]):
        with pytest.raises(ValueError):
            model.partial_fit(bad)
    assert np.array_equal(model.predict(new), before)
    model.partial_fit(series[:50])
    again = LinearForecaster(L, H).fit(np.concatenate([series, series[:50]]))
    assert_close(model.predict(new), again.predict(new), 1e-10)


# -- what linear models can represent --------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
def test_a_cycle_is_continued(cls):
    steps = np.arange(300)
    series = np.sin(2 * np.pi * steps / 12) + 0.3 * np.cos(2 * np.pi * steps / 4) + 5.0
    model = cls(24, 12, alpha=1e-10, fit_intercept=True).fit(series[:280])
    np.testing.assert_allclose(model.predict(), series[280:292], atol=1e-4)


@pytest.mark.parametrize("cls", FREE_OF_LEVEL)
def test_a_line_is_continued_far_beyond_the_training_level(cls):
    model = cls(8, 3, fit_intercept=True).fit(0.5 * np.arange(200.0))
    far = model.predict(1e4 + 0.5 * np.arange(8.0))
    np.testing.assert_allclose(far, 1e4 + 0.5 * np.arange(8, 11), atol=1e-2)


# -- the benchmark's figures -----------------------------------------------------------------


def benchmark_data(name):
    """Return z-scored values and the borders of training and test."""
    if name.startswith("ETT"):
        bunch = datasets.fetch_ett(name, download_if_missing=False)
        n = 4 if name.startswith("ETTm") else 1
        train, start, stop = 8640 * n, 11520 * n, 14400 * n
    else:
        fetch = {"exchange": datasets.fetch_exchange_rate, "illness": datasets.fetch_illness}
        bunch = fetch[name](download_if_missing=False)
        rows = len(bunch.data)
        train, start, stop = int(0.7 * rows), rows - int(0.2 * rows), rows
    values = np.asarray(bunch.data, dtype=np.float64)
    values = (values - values[:train].mean(axis=0)) / values[:train].std(axis=0)
    return values, train, start, stop


def windows_of_the_test_span(model, values, start, stop):
    """Yield blocks of windows and targets; every window with its targets in the test span."""
    lookback, horizon = model.lookback_, model.horizon_
    span = values[start - lookback : stop]
    both = np.lib.stride_tricks.sliding_window_view(span, lookback + horizon, axis=0)
    assert len(both) == stop - start - horizon + 1
    both = both.transpose(0, 2, 1)
    for first in range(0, len(both), 500):
        block = both[first : first + 500]
        yield block[:, :lookback], block[:, lookback:]


def mean_square_error(model, values, start, stop):
    total, count = 0.0, 0
    for x, y in windows_of_the_test_span(model, values, start, stop):
        error = (model.predict(x) - y).ravel()
        total += float(error @ error)
        count += error.size
    return total / count


ETTH1 = pytest.mark.data("ETTh1.csv")
ETTM1 = pytest.mark.data("ETTm1.csv")
EXCHANGE = pytest.mark.data("exchange_rate.txt")
ILLNESS = pytest.mark.data("national_illness.csv")
FIGURES = [
    *[
        pytest.param("ETTh1", LinearForecaster, {}, 336, h, m, marks=ETTH1)
        for h, m in [(96, 0.3702), (192, 0.4042), (336, 0.4334), (720, 0.4714)]
    ],
    pytest.param("ETTm1", LinearForecaster, {}, 336, 96, 0.2993, marks=ETTM1),
    pytest.param("exchange", LinearForecaster, {}, 96, 96, 0.0802, marks=EXCHANGE),
    *[
        pytest.param("ETTh1", LinearForecaster, {"normalization": "mean"}, 512, h, m, marks=ETTH1)
        for h, m in [(96, 0.3672), (192, 0.4009), (336, 0.4272), (720, 0.4402)]
    ],
    pytest.param(
        "illness", LinearForecaster, {"normalization": "mean"}, 104, 24, 1.959, marks=ILLNESS
    ),
    *[
        pytest.param("ETTh1", RLinearForecaster, {}, 512, h, m, marks=ETTH1)
        for h, m in [(96, 0.3678), (192, 0.4021), (336, 0.4294), (720, 0.4477)]
    ],
    pytest.param("illness", RLinearForecaster, {}, 104, 24, 2.007, marks=ILLNESS),
]


@pytest.mark.parametrize(("name", "cls", "params", "lookback", "horizon", "figure"), FIGURES)
def test_benchmark_figures(name, cls, params, lookback, horizon, figure):
    values, train, start, stop = benchmark_data(name)
    n = (train - lookback - horizon + 1) * values.shape[1]
    variance = np.mean(
        [v.var() for v in values[: train - horizon].T]  # of the inputs, to a part in a hundred
    )
    model = cls(lookback, horizon, alpha=1e-5 / (n * variance), **params).fit(values[:train])
    mse = mean_square_error(model, values, start, stop)
    assert figure - 0.003 <= mse <= figure + 0.0015


def covered(model, values, start, stop):
    """Return the share of test values inside the 90 % interval."""
    inside, count = 0, 0
    for x, y in windows_of_the_test_span(model, values, start, stop):
        interval = model.predict_interval(x, 0.9)
        inside += int(((y >= interval[..., 0]) & (y <= interval[..., 1])).sum())
        count += y.size
    return inside / count


@pytest.mark.data("ETTh1.csv")
@pytest.mark.parametrize("cls", EVERY)
def test_intervals_cover_what_they_say_on_the_test_span(cls):
    values, train, start, stop = benchmark_data("ETTh1")
    model = cls(336, 96).fit(values[:train])
    assert 0.85 <= covered(model, values, start, stop) <= 0.95


@pytest.mark.parametrize("cls", EVERY)
def test_intervals_cover_what_they_say_on_a_seasonal_load(cls):
    values = datasets.make_seasonal(n_channels=2, random_state=0).data
    train, start = int(0.7 * len(values)), int(0.8 * len(values))
    model = cls(336, 96).fit(values[:train])
    assert 0.85 <= covered(model, values, start, len(values)) <= 0.95
