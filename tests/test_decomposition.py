from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from mixlin import DLinearForecaster, LinearForecaster
from mixlin.decomposition import (
    SeriesDecomposer,
    decompose,
    fold_decomposition,
    moving_average,
    moving_average_matrix,
    split_coef,
    split_penalty,
)

EPS = np.finfo(np.float64).eps
KERNELS = st.integers(0, 30).map(lambda half: 2 * half + 1)


def values(shape, size=1e3):
    return hnp.arrays(np.float64, shape, elements=st.floats(-size, size, allow_subnormal=False))


SERIES = values(st.integers(1, 40))
WINDOWS = values(st.tuples(st.integers(1, 4), st.integers(1, 40)))
quick = settings(max_examples=60, deadline=None)


def exact_moving_average(x, kernel_size):
    """The definition, value by value in rational arithmetic."""
    half, last = (kernel_size - 1) // 2, len(x) - 1
    exact = [Fraction(float(v)) for v in x]
    return [
        sum(exact[min(max(u, 0), last)] for u in range(t - half, t + half + 1)) / kernel_size
        for t in range(len(x))
    ]


def max_error(computed, exact):
    return float(max(abs(Fraction(float(c)) - e) for c, e in zip(computed, exact, strict=True)))


# -- the operator ----------------------------------------------------------------------------


def test_the_definition_by_hand():
    assert moving_average([0.0, 3.0, 6.0, 0.0], 3).tolist() == [1.0, 3.0, 3.0, 2.0]
    # Width 5 on three steps: x0 x0 x0 x1 x2 | x0 x0 x1 x2 x2 | x0 x1 x2 x2 x2.
    assert moving_average([5.0, 10.0, 20.0], 5).tolist() == [9.0, 12.0, 15.0]
    assert moving_average([7.0], 9).tolist() == [7.0]


@quick
@given(x=SERIES, kernel_size=KERNELS)
def test_the_operator_is_the_definition_to_a_few_roundings(x, kernel_size):
    error = max_error(moving_average(x, kernel_size), exact_moving_average(x, kernel_size))
    assert error <= kernel_size * EPS * np.ptp(x) + EPS * np.abs(x).max()


@quick
@given(X=WINDOWS, kernel_size=KERNELS)
def test_the_operator_is_the_matrix(X, kernel_size):
    A = moving_average_matrix(X.shape[1], kernel_size)
    np.testing.assert_allclose(
        moving_average(X, kernel_size), X @ A.T, rtol=0, atol=1e-13 * max(1.0, np.abs(X).max())
    )


@pytest.mark.parametrize("kernel_size", [1, 3, 25, 33, 35, 1001])
def test_a_level_of_a_million_costs_no_digits(kernel_size):
    rng = np.random.default_rng(0)
    # Values on a grid of 2**-20 stay exact when the level is added, so that the two results
    # differ by arithmetic alone.
    x = np.round(rng.uniform(0, 1, 400) * 2**20) / 2**20
    low = moving_average(x, kernel_size)
    high = moving_average(x + 1e6, kernel_size)
    half_unit = np.spacing(1e6) / 2  # the trend itself is stored at the level's precision
    assert np.abs((high - 1e6) - low).max() <= half_unit + 1e-14
    assert max_error(low, exact_moving_average(x, kernel_size)) <= 4e-15
    lower, higher = decompose(x, kernel_size), decompose(x + 1e6, kernel_size)
    np.testing.assert_array_equal(higher.trend + higher.seasonal, x + 1e6)
    assert np.abs(higher.seasonal - lower.seasonal).max() <= half_unit + 1e-14


@pytest.mark.parametrize("position", [0, 250, 500, 999])
def test_an_outlier_is_felt_inside_its_window_only(position):
    x = np.random.default_rng(0).standard_normal(1000)
    spoiled = x.copy()
    spoiled[position] = 1e12
    clean, trend = moving_average(x, 25), moving_average(spoiled, 25)
    near = np.abs(np.arange(1000) - position) <= 12
    np.testing.assert_allclose(trend[~near], clean[~near], rtol=0, atol=1e-14)
    assert (trend[near] > 1e10).all()


def test_long_series_carry_no_rounding_to_their_end():
    x = np.random.default_rng(0).standard_normal(300_000)
    tail = x[-100:]
    np.testing.assert_allclose(
        moving_average(x, 25)[-50:], moving_average(tail, 25)[-50:], rtol=0, atol=2e-15
    )


@pytest.mark.parametrize("kernel_size", [1, 3, 7, 9, 11, 13, 25])
def test_every_axis_and_layout_gives_the_same_average(kernel_size):
    X = np.random.default_rng(0).standard_normal((3, 11, 2))
    by_hand = np.stack(
        [[moving_average(X[n, :, c], kernel_size) for c in range(2)] for n in range(3)]
    ).transpose(0, 2, 1)
    for axis, moved in ((1, X), (0, X.transpose(1, 0, 2)), (2, X.transpose(0, 2, 1))):
        result = np.moveaxis(moving_average(moved, kernel_size, axis=axis), axis, 1)
        expected = by_hand
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(
            moving_average(moved, kernel_size, axis=axis - 3), np.moveaxis(by_hand, 1, axis)
        )
    np.testing.assert_array_equal(moving_average(np.asfortranarray(X), kernel_size), by_hand)
    np.testing.assert_array_equal(moving_average(X[1:2], kernel_size), by_hand[1:2])
    one_dimensional = [moving_average(X[0, :, 0], kernel_size, axis=axis) for axis in (-1, 0, 1)]
    for result in one_dimensional:
        np.testing.assert_array_equal(result, by_hand[0, :, 0])


def test_the_dtype_is_kept_and_the_arithmetic_is_float64():
    x = np.random.default_rng(0).standard_normal((2, 50)) + 1000
    single = x.astype(np.float32)
    result = moving_average(single, 25)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(
        result, moving_average(single.astype(np.float64), 25).astype(np.float32)
    )
    assert moving_average(x, 25).dtype == np.float64
    assert moving_average([[1, 2, 3]], 3).dtype == np.float64
    assert moving_average(x.astype(np.float16), 3).dtype == np.float64


def test_a_width_far_beyond_the_length_takes_no_memory():
    x = np.array([1.0, 5.0, 2.0, 4.0])
    # Half of the weight lies before the first step and half behind the last.
    np.testing.assert_allclose(moving_average(x, 10**15 + 1), np.full(4, 2.5), rtol=1e-12)
    np.testing.assert_allclose(
        moving_average_matrix(4, 10**15 + 1) @ x, np.full(4, 2.5), rtol=1e-12
    )


def test_the_input_is_not_written_to():
    x = np.arange(12.0).reshape(2, 6)
    x.setflags(write=False)
    moving_average(x, 3)
    decompose(x, 3)
    decomposer = SeriesDecomposer(3).fit(x)
    decomposer.inverse_transform(decomposer.transform(x))
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(2, 6))


# -- the matrix ------------------------------------------------------------------------------


@quick
@given(length=st.integers(1, 30), kernel_size=KERNELS)
def test_the_matrix_counts_clipped_indices(length, kernel_size):
    half = (kernel_size - 1) // 2
    expected = np.zeros((length, length))
    for t in range(length):
        for u in range(t - half, t + half + 1):
            expected[t, np.clip(u, 0, length - 1)] += 1
    A = moving_average_matrix(length, kernel_size)
    np.testing.assert_array_equal(A, expected / kernel_size)
    np.testing.assert_allclose(A.sum(axis=1), 1.0, rtol=0, atol=1e-14)


# -- the decomposition -----------------------------------------------------------------------


@quick
@given(X=WINDOWS, kernel_size=KERNELS)
def test_trend_plus_seasonal_is_the_input(X, kernel_size):
    trend, seasonal = decompose(X, kernel_size)
    larger = np.maximum(np.abs(trend), np.abs(seasonal))
    assert (np.abs(trend + seasonal - X) <= np.spacing(larger)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trend_plus_seasonal_is_the_input_bit_for_bit_at_a_level(dtype):
    X = (np.random.default_rng(0).standard_normal((5, 100)) + 100).astype(dtype)
    parts = decompose(X, 25)
    assert parts.trend.dtype == parts.seasonal.dtype == dtype
    np.testing.assert_array_equal(parts.trend + parts.seasonal, X)


@quick
@given(x=SERIES, kernel_size=KERNELS, shift=st.floats(-1e6, 1e6))
def test_a_shift_moves_the_trend_and_leaves_the_seasonal_part(x, kernel_size, shift):
    trend, seasonal = decompose(x, kernel_size)
    moved = decompose(x + shift, kernel_size)
    atol = 1e-14 * (1e3 + abs(shift))
    np.testing.assert_allclose(moved.trend, trend + shift, rtol=0, atol=atol)
    np.testing.assert_allclose(moved.seasonal, seasonal, rtol=0, atol=atol)


@quick
@given(x=SERIES, kernel_size=KERNELS, scale=st.floats(-1e3, 1e3))
def test_a_factor_scales_both_parts(x, kernel_size, scale):
    trend, seasonal = decompose(x, kernel_size)
    scaled = decompose(scale * x, kernel_size)
    atol = 1e-13 * max(1.0, abs(scale) * np.abs(x).max())
    np.testing.assert_allclose(scaled.trend, scale * trend, rtol=0, atol=atol)
    np.testing.assert_allclose(scaled.seasonal, scale * seasonal, rtol=0, atol=atol)


@quick
@given(level=st.floats(-1e12, 1e12), length=st.integers(1, 40), kernel_size=KERNELS)
def test_a_constant_is_all_trend_exactly(level, length, kernel_size):
    trend, seasonal = decompose(np.full(length, level), kernel_size)
    assert (trend == level).all()
    assert (seasonal == 0).all()


@quick
@given(slope=st.floats(-10, 10), half=st.integers(0, 10))
def test_a_line_is_all_trend_away_from_the_edges(slope, half):
    line = slope * np.arange(41.0)
    seasonal = decompose(line, 2 * half + 1).seasonal
    np.testing.assert_allclose(seasonal[half : 41 - half], 0, rtol=0, atol=1e-12)


@quick
@given(x=SERIES, kernel_size=KERNELS)
def test_reversed_time_reverses_both_parts(x, kernel_size):
    forward, backward = decompose(x, kernel_size), decompose(x[::-1], kernel_size)
    np.testing.assert_allclose(backward.trend[::-1], forward.trend, rtol=0, atol=1e-10)
    np.testing.assert_allclose(backward.seasonal[::-1], forward.seasonal, rtol=0, atol=1e-10)


def test_edges_repeat_the_first_and_the_last_value():
    x = np.random.default_rng(0).standard_normal(60)
    padded = np.concatenate([np.full(12, x[0]), x, np.full(12, x[-1])])
    inner = np.convolve(padded, np.full(25, 1 / 25), mode="valid")
    np.testing.assert_allclose(decompose(x, 25).trend, inner, rtol=0, atol=1e-14)


def test_width_one_leaves_no_seasonal_part():
    x = np.random.default_rng(0).standard_normal((2, 9))
    trend, seasonal = decompose(x, 1)
    np.testing.assert_array_equal(trend, x)
    assert (seasonal == 0).all()


# -- folding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (3,), (2, 1)])
@pytest.mark.parametrize("kernel_size", [1, 5, 25, 101])
def test_folding_equals_the_two_branches(kernel_size, lead):
    rng = np.random.default_rng(0)
    on_seasonal, on_trend = rng.standard_normal((2, *lead, 6, 30))
    x = rng.standard_normal(30)
    trend, seasonal = decompose(x, kernel_size)
    folded = fold_decomposition(on_seasonal, on_trend, kernel_size)
    assert folded.shape == (*lead, 6, 30)
    assert folded.dtype == np.float64
    np.testing.assert_allclose(
        folded @ x, on_seasonal @ seasonal + on_trend @ trend, rtol=0, atol=1e-12
    )
    wrong_way = fold_decomposition(on_trend, on_seasonal, kernel_size)
    assert np.abs(wrong_way @ x - folded @ x).max() > 1e-3


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("kernel_size", [1, 5, 25, 101])
def test_splitting_then_folding_gives_the_matrix_back(kernel_size, lead):
    M = np.random.default_rng(0).standard_normal((*lead, 6, 40))
    on_seasonal, on_trend = split_coef(M, kernel_size)
    assert on_seasonal.shape == on_trend.shape == M.shape
    np.testing.assert_allclose(
        fold_decomposition(on_seasonal, on_trend, kernel_size), M, rtol=0, atol=1e-12
    )


def test_the_split_has_the_least_norm_and_the_penalty_is_that_norm():
    rng = np.random.default_rng(0)
    length, kernel_size = 30, 7
    M = rng.standard_normal((4, length))
    on_seasonal, on_trend = split_coef(M, kernel_size)
    norm = np.sum(on_seasonal**2) + np.sum(on_trend**2)
    penalty = np.trace(M @ np.linalg.solve(split_penalty(length, kernel_size), M.T))
    assert norm == pytest.approx(penalty, rel=1e-12)
    # Any other pair that folds to M differs by some (-D A, D (I - A)) and is longer.
    A = moving_average_matrix(length, kernel_size)
    D = 1e-2 * rng.standard_normal((4, length))
    other_seasonal, other_trend = on_seasonal - D @ A, on_trend + D @ (np.eye(length) - A)
    np.testing.assert_allclose(
        fold_decomposition(other_seasonal, other_trend, kernel_size), M, rtol=0, atol=1e-12
    )
    assert np.sum(other_seasonal**2) + np.sum(other_trend**2) > norm


def test_the_penalty_is_the_gram_matrix_of_the_decomposition():
    A = moving_average_matrix(12, 5)
    S = np.vstack([np.eye(12) - A, A])
    np.testing.assert_allclose(split_penalty(12, 5), S.T @ S, rtol=0, atol=1e-14)
    assert np.linalg.eigvalsh(split_penalty(336, 25)).min() > 0.4


# -- the transformer -------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [25, 3, 1])
def test_all_scikit_learn_checks_pass(kernel_size):
    results = check_estimator(SeriesDecomposer(kernel_size), on_skip=None, on_fail=None)
    by_status = {
        status: sorted(r["check_name"] for r in results if r["status"] == status)
        for status in {r["status"] for r in results}
    }
    # That one needs SCIPY_ARRAY_API=1 in the environment; no other reason is accepted.
    assert set(by_status.pop("skipped", [])) <= {"check_array_api_input"}
    assert list(by_status) == ["passed"], by_status
    assert len(by_status["passed"]) >= 46
    assert not any(r["expected_to_fail"] for r in results)


@pytest.fixture
def windows():
    return np.random.default_rng(0).standard_normal((200, 24)) + 10


def test_windows_come_out_as_seasonal_part_then_trend(windows):
    trend, seasonal = decompose(windows, 5)
    parts = SeriesDecomposer(5).fit_transform(windows)
    np.testing.assert_array_equal(parts, np.hstack([seasonal, trend]))
    stacked = np.stack([windows, 2 * windows, windows - 1], axis=2)
    parts = SeriesDecomposer(5).fit_transform(stacked)
    assert parts.shape == (200, 48, 3)
    for channel in range(3):
        np.testing.assert_array_equal(
            parts[:, :, channel], SeriesDecomposer(5).fit_transform(stacked[:, :, channel])
        )


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3), (20, 24, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_inverse_gives_windows_back(shape, dtype):
    X = (np.random.default_rng(0).standard_normal(shape) + 10).astype(dtype)
    decomposer = SeriesDecomposer(7)
    parts = decomposer.fit_transform(X)
    back = decomposer.inverse_transform(parts)
    assert parts.dtype == back.dtype == dtype
    np.testing.assert_array_equal(back, X)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_axis_zero_decomposes_a_whole_series_and_inverts(shape):
    X = np.random.default_rng(0).standard_normal(shape) + 10
    decomposer = SeriesDecomposer(7, axis=0).fit(X)
    parts = decomposer.transform(X)
    trend, seasonal = decompose(X.reshape(50, -1), 7, axis=0)
    np.testing.assert_array_equal(parts, np.hstack([seasonal, trend]))
    np.testing.assert_array_equal(decomposer.inverse_transform(parts), X)
    assert decomposer.n_features_in_ == decomposer.n_channels_in_ == trend.shape[1]
    # A series of another length is welcome.
    assert decomposer.transform(X[:30]).shape == (30, parts.shape[1])


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_a_ridge_on_the_parts_is_one_folded_matrix_with_the_split_penalty(windows, alpha):
    Y = np.random.default_rng(1).standard_normal((200, 4))
    pipeline = make_pipeline(SeriesDecomposer(5), Ridge(alpha, solver="cholesky")).fit(windows, Y)
    centered, targets = windows - windows.mean(axis=0), Y - Y.mean(axis=0)
    penalty = alpha * np.linalg.inv(split_penalty(24, 5))
    M = np.linalg.solve(centered.T @ centered + penalty, centered.T @ targets).T
    on_seasonal, on_trend = np.split(pipeline[-1].coef_, 2, axis=1)
    np.testing.assert_allclose(fold_decomposition(on_seasonal, on_trend, 5), M, atol=1e-9)
    for fitted, split in zip((on_seasonal, on_trend), split_coef(M, 5), strict=True):
        np.testing.assert_allclose(fitted, split, atol=1e-9)
    intercept = Y.mean(axis=0) - M @ windows.mean(axis=0)
    np.testing.assert_allclose(pipeline.predict(windows), windows @ M.T + intercept, atol=1e-9)
    plain = np.linalg.solve(centered.T @ centered + alpha * np.eye(24), centered.T @ targets).T
    if alpha == 1e3:
        assert np.abs(plain - M).max() > 1e-4


@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_a_linear_forecaster_on_the_parts_is_dlinear(windows, alpha):
    past, future = windows[:, :20], windows[:, 20:]
    decomposer = SeriesDecomposer(5)
    # alpha is relative to the variance of the inputs, which are the parts in the one case and
    # the windows in the other.
    ratio = past.var() / decomposer.fit_transform(past).var()
    pipeline = make_pipeline(decomposer, LinearForecaster(alpha=alpha * ratio)).fit(past, future)
    dlinear = DLinearForecaster(alpha=alpha, kernel_size=5).fit(past, future)
    np.testing.assert_allclose(pipeline.predict(past), dlinear.predict(past), rtol=0, atol=1e-10)
    on_seasonal, on_trend = np.split(pipeline[-1].coef_, 2, axis=1)
    np.testing.assert_allclose(
        fold_decomposition(on_seasonal, on_trend, 5), dlinear.coef_, rtol=0, atol=1e-10
    )
    linear = LinearForecaster(alpha=alpha).fit(past, future)
    if alpha == 1e-2:
        assert np.abs(linear.predict(past) - dlinear.predict(past)).max() > 1e-6


def test_it_works_in_a_grid_search(windows):
    Y = windows[:, -3:] * 2
    pipeline = make_pipeline(SeriesDecomposer(), LinearRegression())
    search = GridSearchCV(pipeline, {"seriesdecomposer__kernel_size": [3, 5]}, cv=2, n_jobs=2)
    search.fit(windows, Y)
    assert search.best_params_["seriesdecomposer__kernel_size"] in (3, 5)
    assert np.isfinite(search.best_score_)


def test_clone_and_pickle_keep_parameters_and_fit(windows):
    decomposer = SeriesDecomposer(5).fit(windows)
    assert clone(decomposer).get_params() == {"kernel_size": 5, "axis": 1}
    again = pickle.loads(pickle.dumps(decomposer))
    np.testing.assert_array_equal(again.transform(windows), decomposer.transform(windows))


def test_feature_names_say_part_and_column(windows):
    decomposer = SeriesDecomposer(3).fit(windows[:, :2])
    expected = ["seasonal_x0", "seasonal_x1", "trend_x0", "trend_x1"]
    names = decomposer.get_feature_names_out()
    assert names.tolist() == expected
    assert names.dtype == object
    assert decomposer.get_feature_names_out(["a", "b"]).tolist() == [
        "seasonal_a",
        "seasonal_b",
        "trend_a",
        "trend_b",
    ]
    with pytest.raises(ValueError, match="input_features"):
        decomposer.get_feature_names_out(["a"])
    with pytest.raises(NotFittedError):
        SeriesDecomposer().get_feature_names_out()


def test_frames_keep_names_and_index():
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=8, freq="h")
    frame = pd.DataFrame({"load": np.arange(8.0), "wind": np.ones(8)}, index=index)
    decomposer = SeriesDecomposer(3, axis=0).set_output(transform="pandas")
    parts = decomposer.fit_transform(frame)
    assert list(parts) == ["seasonal_load", "seasonal_wind", "trend_load", "trend_wind"]
    assert parts.index.equals(index)
    np.testing.assert_array_equal(decomposer.inverse_transform(parts), frame.to_numpy())
    series = decomposer.fit_transform(frame["load"])
    assert list(series) == ["seasonal_load", "trend_load"]
    assert series.index.equals(index)
    np.testing.assert_array_equal(decomposer.inverse_transform(series), frame["load"].to_numpy())
    lags = frame.T.set_axis([f"lag_{i}" for i in range(8)], axis=1)
    parts = SeriesDecomposer(3).set_output(transform="pandas").fit_transform(lags)
    assert parts.columns[0] == "seasonal_lag_0"
    assert parts.columns[-1] == "trend_lag_7"
    assert list(parts.index) == ["load", "wind"]


# -- bad input -------------------------------------------------------------------------------

BAD_KERNELS = [
    (24, r"kernel_size=24 is even.*Use 23 or 25"),
    (0, "positive odd integer"),
    (-3, "positive odd integer"),
    (2.5, "positive odd integer"),
    (True, "positive odd integer"),
    ("25", "positive odd integer"),
    (None, "positive odd integer"),
]


@pytest.mark.parametrize(("kernel_size", "sentence"), BAD_KERNELS)
def test_a_bad_width_gets_its_sentence_everywhere(kernel_size, sentence):
    x = np.arange(12.0).reshape(2, 6)
    calls = [
        lambda: moving_average(x, kernel_size),
        lambda: moving_average_matrix(6, kernel_size),
        lambda: decompose(x, kernel_size),
        lambda: fold_decomposition(x, x, kernel_size),
        lambda: split_penalty(6, kernel_size),
        lambda: split_coef(x, kernel_size),
        lambda: SeriesDecomposer(kernel_size).fit(x),
        lambda: SeriesDecomposer(3).fit(x).set_params(kernel_size=kernel_size).transform(x),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=sentence):
            call()


def test_numpy_integers_are_widths():
    x = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(moving_average(x, np.int64(3)), moving_average(x, 3))
    np.testing.assert_array_equal(
        SeriesDecomposer(np.int32(3)).fit_transform(x), SeriesDecomposer(3).fit_transform(x)
    )


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1.0, np.inf]]), "infinity"),
        (np.array([[1.0, 1j]]), "Complex"),
        ([["a", "b"]], "could not convert|numeric"),
        (np.zeros((0, 3)), "at least one axis and one value"),
        (np.zeros((3, 0)), "at least one axis and one value"),
        (3.0, "at least one axis and one value"),
        ([[1.0, 2.0], [3.0]], "inhomogeneous"),
    ],
)
def test_bad_data_get_their_sentence_from_the_functions(X, sentence):
    for function in (moving_average, decompose):
        with pytest.raises(ValueError, match=sentence):
            function(X, 3)


@pytest.mark.parametrize("axis", [2, -3, 1.0, "time", None])
def test_a_wrong_axis_gets_its_sentence(axis):
    with pytest.raises(ValueError, match="names an axis of X, which has shape"):
        moving_average(np.ones((2, 3)), 3, axis=axis)
    with pytest.raises(ValueError, match="names an axis of X, which has shape"):
        decompose(np.ones((2, 3)), 3, axis=axis)


def test_wrong_coefficients_get_their_sentence():
    with pytest.raises(ValueError, match="both must have the same shape"):
        fold_decomposition(np.ones((2, 3)), np.ones((2, 4)), 3)
    with pytest.raises(ValueError, match=r"\(\.\.\., horizon, lookback\); got \(3,\)"):
        split_coef(np.ones(3), 3)
    with pytest.raises(ValueError, match="trend_coef contains NaN"):
        fold_decomposition(np.ones((2, 3)), np.full((2, 3), np.nan), 3)
    for length in (0, 2.0, True):
        with pytest.raises(ValueError, match="length must be a positive integer"):
            moving_average_matrix(length, 3)


BAD_FITS = {
    "NaN": (np.array([[1.0, np.nan]]), {}, "NaN"),
    "infinity": (np.array([[1.0, np.inf]]), {}, "infinity"),
    "complex": (np.array([[1.0, 1j]]), {}, "Complex"),
    "strings": ([["a", "b"]], {}, "could not convert|numeric"),
    "ragged": ([[1.0, 2.0], [3.0]], {}, "inhomogeneous"),
    "empty": (np.zeros((0, 3)), {}, "0 sample"),
    "no columns": (np.zeros((3, 0)), {}, "0 feature"),
    "no channels": (np.zeros((3, 4, 0)), {}, "holds no values"),
    "one-dimensional windows": (np.ones(5), {}, "Expected 2D array"),
    "four axes": (np.ones((2, 2, 2, 2)), {}, "windows have shape"),
    "even width": (np.ones((2, 5)), {"kernel_size": 4}, "is even"),
    "axis": (np.ones((2, 5)), {"axis": 2}, "axis must be 1"),
    "axis name": (np.ones((2, 5)), {"axis": "time"}, "axis must be 1"),
    "three-dimensional series": (np.ones((2, 5, 2)), {"axis": 0}, "dim 3|dimension"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_bad_fit_gets_its_sentence_and_changes_nothing(case):
    X, params, sentence = BAD_FITS[case]
    decomposer = SeriesDecomposer(3).fit(np.ones((4, 6, 2))).set_params(**params)
    before = dict(vars(decomposer))
    with pytest.raises(ValueError, match=sentence):
        decomposer.fit(X)
    assert vars(decomposer) == before


def test_a_bad_frame_changes_nothing_and_a_good_array_drops_the_names():
    pd = pytest.importorskip("pandas")
    named = pd.DataFrame(np.ones((4, 2)), columns=["a", "b"])
    decomposer = SeriesDecomposer(3).fit(named)
    before = dict(vars(decomposer))
    with pytest.raises(ValueError, match="NaN"):
        decomposer.fit(pd.DataFrame({"c": [np.nan, 1.0]}))
    assert vars(decomposer) == before
    with pytest.raises(ValueError, match="feature names"):
        decomposer.transform(named.rename(columns={"a": "z"}))
    decomposer.fit(np.ones((4, 3)))
    assert not hasattr(decomposer, "feature_names_in_")
    assert decomposer.n_features_in_ == 3


@pytest.mark.parametrize(
    ("fitted", "X", "sentence"),
    [
        ((4, 6), (4, 7), "7 features, but SeriesDecomposer is expecting 6"),
        ((4, 6, 2), (4, 7, 2), "7 features, but SeriesDecomposer is expecting 6"),
        ((4, 6, 2), (4, 6, 3), "3 axes and 3 channels.*3 axes and 2 channels"),
        ((4, 6, 2), (4, 6), "2 axes and 1 channels.*3 axes and 2 channels"),
        ((4, 6), (4, 6, 1), "3 axes and 1 channels.*2 axes and 1 channels"),
    ],
)
def test_windows_of_another_form_are_refused(fitted, X, sentence):
    decomposer = SeriesDecomposer(3).fit(np.ones(fitted))
    before = dict(vars(decomposer))
    with pytest.raises(ValueError, match=sentence):
        decomposer.transform(np.ones(X))
    assert vars(decomposer) == before


def test_a_series_with_other_channels_is_refused():
    decomposer = SeriesDecomposer(3, axis=0).fit(np.ones((9, 2)))
    with pytest.raises(ValueError, match="3 features, but SeriesDecomposer is expecting 2"):
        decomposer.transform(np.ones((9, 3)))


@pytest.mark.parametrize(
    ("fitted", "X"),
    [((4, 6), (4, 6)), ((4, 6), (4, 12, 1)), ((4, 6, 2), (4, 12)), ((4, 6, 2), (4, 12, 3))],
)
def test_the_inverse_refuses_what_transform_does_not_return(fitted, X):
    decomposer = SeriesDecomposer(3).fit(np.ones(fitted))
    with pytest.raises(ValueError, match=r"inverse_transform takes shape \(n, 12"):
        decomposer.inverse_transform(np.ones(X))
    with pytest.raises(NotFittedError):
        SeriesDecomposer(3).inverse_transform(np.ones((4, 12)))
