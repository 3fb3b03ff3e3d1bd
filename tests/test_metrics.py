from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    median_absolute_error,
)
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mixlin.metrics import coverage, forecast_scorer, mae, mase, mse, pinball, smape, wape

quick = settings(max_examples=50, deadline=None)
TRAIN = np.array([0.0, 2.0, 1.0, 5.0, 3.0])  # mean absolute change 2.25; over two steps 2
POINT = {
    "mse": mse,
    "mae": mae,
    "mase": lambda y, f, **kwargs: mase(y, f, TRAIN, **kwargs),
    "smape": smape,
    "wape": wape,
}


def pair(shape):
    elements = st.floats(-1e3, 1e3, allow_subnormal=False)
    return st.tuples(*[hnp.arrays(np.float64, shape, elements=elements)] * 2)


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


# -- values ----------------------------------------------------------------------------------


def test_point_measures_by_hand():
    y, f = [1.0, -2.0, 3.0, 0.0], [2.0, 2.0, 3.0, 0.0]
    assert mse(y, f) == 17 / 4
    assert mae(y, f) == 5 / 4
    assert smape(y, f) == pytest.approx(200 * (1 / 3 + 1 + 0 + 0) / 4, rel=1e-15)
    assert wape(y, f) == 5 / 6
    assert mase(y, f, TRAIN) == pytest.approx(1.25 / 2.25, rel=1e-15)
    assert mase(y, f, TRAIN, period=2) == pytest.approx(1.25 / 2, rel=1e-15)


def test_pinball_and_coverage_by_hand():
    assert pinball([10.0], [[8.0, 13.0]], [0.1, 0.9]) == pytest.approx((0.2 + 0.3) / 2)
    assert pinball([10.0, 10.0], [8.0, 13.0], 0.9) == pytest.approx((1.8 + 0.3) / 2)
    ends = [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [-np.inf, np.inf]]
    assert coverage([1.0, 2.0, 2.5, 1e9], ends) == 0.75


@quick
@given(arrays=SHAPES.flatmap(pair))
def test_mse_mae_and_pinball_agree_with_scikit_learn(arrays):
    y, f = arrays
    flat_y, flat_f = y.ravel(), f.ravel()
    assert mse(y, f) == pytest.approx(mean_squared_error(flat_y, flat_f), rel=1e-12)
    assert mae(y, f) == pytest.approx(mean_absolute_error(flat_y, flat_f), rel=1e-12)
    loss = mean_pinball_loss(flat_y, flat_f, alpha=0.3)
    assert pinball(y, f, 0.3) == pytest.approx(loss, rel=1e-12, abs=1e-12)
    assert pinball(y, f[..., None], [0.3]) == pytest.approx(loss, rel=1e-12, abs=1e-12)
    assert pinball(y, f, 0.5) == pytest.approx(mae(y, f) / 2, rel=1e-12, abs=1e-12)


@quick
@given(arrays=SHAPES.flatmap(pair))
def test_smape_lies_between_0_and_200_and_is_symmetric(arrays):
    y, f = arrays
    assert 0 <= smape(y, f) <= 200 * (1 + 1e-12)
    assert smape(y, f) == pytest.approx(smape(f, y), rel=1e-12)
    assert smape(y, y) == 0


@quick
@given(arrays=SHAPES.flatmap(pair), scale=st.floats(1e-3, 1e3))
def test_units_cancel_where_they_should(arrays, scale):
    y, f = arrays[0] + 2000, arrays[1]
    assert mae(scale * y, scale * f) == pytest.approx(scale * mae(y, f), rel=1e-9)
    assert mse(scale * y, scale * f) == pytest.approx(scale**2 * mse(y, f), rel=1e-9)
    for measure in (smape, wape):
        assert measure(scale * y, scale * f) == pytest.approx(measure(y, f), rel=1e-9)
    assert mase(scale * y, scale * f, scale * TRAIN) == pytest.approx(mase(y, f, TRAIN), rel=1e-9)


@pytest.mark.parametrize("period", [1, 24])
def test_the_seasonal_naive_forecast_has_mase_one_on_its_training_series(period):
    train = np.random.default_rng(0).standard_normal((200, 3)) * [1, 10, 1000]
    y, f = train[period:], train[:-period]
    assert_allclose(mase(y, f, train, period=period, axis=0), np.ones(3), rtol=1e-12)


def test_mase_scales_every_channel_by_its_own_training_series():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((50, 3)) * [1, 10, 100]
    y, f = rng.standard_normal((2, 8, 4, 3))
    per_channel = [mase(y[..., c], f[..., c], train[:, c], period=7) for c in range(3)]
    assert_allclose(mase(y, f, train, period=7, axis=(0, 1)), per_channel, rtol=1e-13)
    assert mase(y, f, train, period=7) == pytest.approx(np.mean(per_channel), rel=1e-13)
    assert mase(y, f, train[:, :1]) == pytest.approx(mase(y, f, train[:, 0]), rel=1e-13)


def test_gaps_in_the_training_series_are_left_out_of_the_scale():
    train = np.array([0.0, 1.0, np.nan, 7.0, 10.0])  # changes 1 and 3
    assert mase([2.0], [4.0], train) == 1.0


def test_pinball_is_least_at_the_quantile():
    y = np.random.default_rng(0).standard_normal(2000)
    for q in (0.1, 0.5, 0.9):
        best = pinball(y, np.full(2000, np.quantile(y, q)), q)
        for off in (-0.3, 0.3):
            assert pinball(y, np.full(2000, np.quantile(y, q) + off), q) > best


def test_float32_is_measured_in_float64():
    y = np.full(200_000, 0.1, dtype=np.float32)
    f = np.zeros_like(y)
    expected = float(np.float64(np.float32(0.1)))
    assert mae(y, f) == pytest.approx(expected, rel=1e-14)
    assert mse(y, f) == pytest.approx(expected**2, rel=1e-14)


# -- axes and weights ------------------------------------------------------------------------


@pytest.mark.parametrize("name", POINT)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (0, 2), (0, 1, 2), ()])
def test_axis_keeps_the_other_axes(name, axis):
    rng = np.random.default_rng(0)
    y, f = rng.standard_normal((2, 6, 4, 3)) + 5
    measure = POINT[name]
    result = measure(y, f, axis=axis)
    axes = {0, 1, 2} if axis is None else {a % 3 for a in np.atleast_1d(np.asarray(axis, int))}
    kept = [a for a in range(3) if a not in axes]
    assert np.shape(result) == tuple(y.shape[a] for a in kept)
    assert isinstance(result, float) == (not kept)
    for index in np.ndindex(np.shape(result)):
        picked = tuple(index[kept.index(a)] if a in kept else slice(None) for a in range(3))
        assert np.asarray(result)[index] == pytest.approx(
            measure(np.atleast_1d(y[picked]), np.atleast_1d(f[picked])), rel=1e-12
        )


def test_axis_of_quantiles_and_intervals():
    rng = np.random.default_rng(0)
    y, q = rng.standard_normal((6, 4)), np.sort(rng.standard_normal((6, 4, 3)), axis=-1)
    levels = [0.1, 0.5, 0.9]
    per_level = pinball(y, q, levels, axis=(0, 1))
    assert_allclose(per_level, [pinball(y, q[..., i], levels[i]) for i in range(3)], rtol=1e-13)
    assert pinball(y, q, levels) == pytest.approx(per_level.mean(), rel=1e-13)
    per_step = coverage(y, q[..., [0, 2]], axis=0)
    assert per_step.shape == (4,)
    assert coverage(y, q[..., [0, 2]]) == pytest.approx(per_step.mean(), rel=1e-13)


@pytest.mark.parametrize("name", POINT)
def test_integer_weights_are_repetitions(name):
    rng = np.random.default_rng(0)
    y, f = rng.standard_normal((2, 5, 4, 3)) + 5
    weight = np.array([1, 3, 0, 2, 1])
    repeated = [np.repeat(v, weight, axis=0) for v in (y, f)]
    for axis in (None, (0, 1), 0):
        weighted = POINT[name](y, f, sample_weight=weight, axis=axis)
        assert_allclose(weighted, POINT[name](*repeated, axis=axis), rtol=1e-12)
    assert abs(POINT[name](y, f) - POINT[name](y, f, sample_weight=weight)) > 1e-6


def test_integer_weights_are_repetitions_for_quantiles_and_intervals():
    rng = np.random.default_rng(0)
    y, ends = rng.standard_normal((5, 4)), np.sort(rng.standard_normal((5, 4, 2)), axis=-1)
    weight = np.array([1, 3, 0, 2, 1])
    repeated = [np.repeat(v, weight, axis=0) for v in (y, ends)]
    assert coverage(y, ends, sample_weight=weight) == pytest.approx(coverage(*repeated))
    assert pinball(y, ends, [0.1, 0.9], sample_weight=weight) == pytest.approx(
        pinball(*repeated, [0.1, 0.9])
    )


# -- frames ----------------------------------------------------------------------------------


def test_frames_are_measured_when_their_labels_agree():
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=4, freq="h")
    y = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [0.0, 0, 0, 1]}, index=index)
    f = y + 1
    assert mae(y, f) == 1.0
    assert mae(y["a"], f["a"]) == 1.0
    assert mae(y, f.to_numpy()) == 1.0
    assert mae(y.astype("Float64"), f) == 1.0
    with pytest.raises(ValueError, match=r"different columns.*align them"):
        mae(y, f[["b", "a"]])
    with pytest.raises(ValueError, match=r"different index.*align them"):
        mae(y, f.set_axis(index + pd.Timedelta("1h")))
    with pytest.raises(ValueError, match="different index"):
        mae(y["a"], f["a"].reset_index(drop=True))
    with pytest.raises(ValueError, match="missing values"):
        mae(y.astype("Float64").replace(2.0, pd.NA), f)


def test_frames_of_intervals_and_quantiles_are_measured():
    pd = pytest.importorskip("pandas")
    y = pd.DataFrame({"a": [1.0, 2.0], "b": [10.0, 20.0]})
    columns = pd.MultiIndex.from_product([["a", "b"], [0.05, 0.95]], names=["channel", "quantile"])
    ends = pd.DataFrame([[0.0, 2.0, 11.0, 12.0], [0.0, 3.0, 19.0, 21.0]], columns=columns)
    stacked = ends.to_numpy().reshape(2, 2, 2)
    assert coverage(y, ends) == coverage(y, stacked) == 0.75
    assert coverage(y, ends, axis=0).tolist() == [1.0, 0.5]
    assert pinball(y, ends, [0.05, 0.95]) == pinball(y, stacked, [0.05, 0.95])
    assert coverage(y["a"], ends[["a"]]) == 1.0
    with pytest.raises(ValueError, match="different columns"):
        coverage(y[["b", "a"]], ends)


# -- bad input -------------------------------------------------------------------------------

BAD = {
    "shapes": ([[1.0, 2.0]], [1.0, 2.0], r"y_true has shape \(1, 2\) and y_pred \(2,\)"),
    "no broadcasting": ([[1.0], [2.0]], [[1.0, 2.0]] * 2, "they must be the same"),
    "NaN target": ([1.0, np.nan], [1.0, 2.0], "y_true contains NaN, first at index 1"),
    "NaN forecast": ([[1.0]], [[np.nan]], r"y_pred contains NaN, first at index \(0, 0\)"),
    "infinity": ([1.0], [np.inf], "y_pred contains infinity, first at index 0"),
    "empty": (np.zeros((0, 3)), np.zeros((0, 3)), r"y_true is empty \(shape \(0, 3\)\)"),
    "strings": (["a"], [1.0], "y_true must hold real numbers; got dtype <U1"),
    "complex": ([1.0], [1j], "y_pred must hold real numbers; got dtype complex128"),
    "dates": (np.array(["2024-01-01"], "M8[D]"), [1.0], "y_true must hold real numbers"),
    "None": ([1.0, None], [1.0, 2.0], "y_true contains NaN, first at index 1"),
    "objects": (np.array([object()]), [1.0], "y_true must be an array of real numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], [1.0], "y_true must be an array of real numbers"),
}


@pytest.mark.parametrize("name", POINT)
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_get_their_sentence(name, case):
    y, f, sentence = BAD[case]
    with pytest.raises(ValueError, match=sentence):
        POINT[name](y, f)


@pytest.mark.parametrize(
    ("weight", "axis", "sentence"),
    [
        ([1.0], None, "one weight per entry of the first axis"),
        ([[1.0, 1.0]], None, "one weight per entry of the first axis"),
        ([1.0, -1.0], None, "must not be negative"),
        ([0.0, 0.0], None, "not all zero"),
        ([1.0, np.nan], None, "sample_weight contains NaN"),
        ([1.0, 1.0], 1, "weighs axis 0, which axis=1 keeps"),
        ([1.0, 1.0], (-1,), "weighs axis 0"),
    ],
)
def test_bad_weights_get_their_sentence(weight, axis, sentence):
    for measure in POINT.values():
        with pytest.raises(ValueError, match=sentence):
            measure(np.ones((2, 3)), np.ones((2, 3)), sample_weight=weight, axis=axis)


def test_an_axis_that_is_not_there_is_a_value_error():
    with pytest.raises(ValueError, match="out of bounds"):
        mae(np.ones((2, 3)), np.ones((2, 3)), axis=2)


@pytest.mark.parametrize(
    ("train", "period", "sentence"),
    [
        (np.ones(5), 1, "y_train never changes over period=1, so MASE has no scale"),
        ([[0, 1], [1, 1], [2, 1]], 1, "never changes over period=1 in channel 1"),
        ([[0, 1], [np.nan, 3], [2, 1]], 1, "has no pair of values over period=1 in channel 0"),
        ([1.0, 2.0], 2, "more than 2 training steps|more than 2 steps; y_train has 2"),
        ([1.0, 2.0], 0, "period must be a positive integer"),
        ([1.0, 2.0], 1.0, "period must be a positive integer"),
        ([1.0, 2.0], True, "period must be a positive integer"),
        ([1.0, np.inf], 1, "y_train contains infinity"),
        (np.ones((3, 2, 2)), 1, "y_train has shape"),
        ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], 1, r"y_train has 3 channels, so y_true must have"),
    ],
)
def test_a_bad_training_series_gets_its_sentence(train, period, sentence):
    with pytest.raises(ValueError, match=sentence):
        mase(np.ones((4, 2)), np.zeros((4, 2)), train, period=period)


def test_wape_of_zero_targets_gets_its_sentence():
    with pytest.raises(ValueError, match="all targets are zero, and WAPE"):
        wape(np.zeros(3), np.ones(3))
    y = np.ones((2, 3))
    y[:, 1] = 0
    with pytest.raises(ValueError, match="all targets are zero at index 1 of the kept axes"):
        wape(y, y, axis=0)
    assert wape(y, y) == 0


@pytest.mark.parametrize("quantiles", [0.0, 1.0, -0.1, [0.5, 1.5], [[0.5]]])
def test_bad_quantiles_get_their_sentence(quantiles):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        pinball(np.ones(3), np.ones((3, 2)), quantiles)


def test_bad_quantile_and_interval_forecasts_get_their_sentence():
    y = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"it must be \(3, 4, 2\)"):
        pinball(y, np.ones((3, 4, 3)), [0.1, 0.9])
    with pytest.raises(ValueError, match="y_quantiles"):
        pinball(y, np.ones((3, 4, 1)), 0.5)
    with pytest.raises(ValueError, match="y_quantiles contains infinity"):
        pinball(y, np.full((3, 4, 1), np.inf), [0.5])
    with pytest.raises(ValueError, match=r"it must be \(3, 4, 2\)"):
        coverage(y, np.ones((3, 2)))
    with pytest.raises(ValueError, match="y_interval contains NaN"):
        coverage(y, np.full((3, 4, 2), np.nan))
    ends = np.zeros((3, 4, 2))
    ends[1, 2, 0] = 1
    with pytest.raises(ValueError, match=r"above its upper end at index \(1, 2\)"):
        coverage(y, ends)


# -- the scorer ------------------------------------------------------------------------------


class Drift(RegressorMixin, BaseEstimator):
    """Repeats the last value plus an offset; scores as the package's forecasters do."""

    def __init__(self, lookback=3, offset=0.0):
        self.lookback = lookback
        self.offset = offset

    def fit(self, X, y=None, sample_weight=None):
        self.fitted_on_ = np.shape(X)
        return self

    def predict(self, X):
        return np.repeat(np.asarray(X)[:, -1:], 2, axis=1) + self.offset

    def _forecasts_for_scoring(self, X, y=None, *, timestamps=None):
        self.seen_timestamps_ = timestamps
        X = np.asarray(X)
        if y is not None:
            return np.asarray(y), self.predict(X)
        starts = range(len(X) - self.lookback - 1)
        windows = np.stack([X[s : s + self.lookback] for s in starts])
        targets = np.stack([X[s + self.lookback : s + self.lookback + 2] for s in starts])
        return targets, self.predict(windows)


SERIES = np.cumsum(np.random.default_rng(0).standard_normal((60, 2)), axis=0) + 50


def expected_pair(series, offset=0.0):
    return Drift(offset=offset)._forecasts_for_scoring(series)


@pytest.mark.parametrize("name", ["mse", "mae", "smape", "wape"])
def test_named_scorers_are_negated_measures_of_the_windows(name):
    score = forecast_scorer(name)(Drift().fit(SERIES), SERIES)
    assert isinstance(score, float)
    assert score == -POINT[name](*expected_pair(SERIES))
    assert score < 0


def test_the_default_is_mae():
    assert forecast_scorer()(Drift(), SERIES) == forecast_scorer("mae")(Drift(), SERIES)


def test_mase_takes_the_training_series():
    scorer = forecast_scorer("mase", y_train=SERIES[:40], period=5)
    expected = -mase(*expected_pair(SERIES[40:]), SERIES[:40], period=5)
    assert scorer(Drift(), SERIES[40:]) == expected


def test_a_callable_metric_has_a_direction():
    def largest(y_true, y_pred, power=1):
        return np.max(np.abs(y_true - y_pred)) ** power

    y, f = expected_pair(SERIES)
    value = np.max(np.abs(y - f))
    assert forecast_scorer(largest)(Drift(), SERIES) == -value
    assert forecast_scorer(largest, greater_is_better=False)(Drift(), SERIES) == -value
    assert forecast_scorer(largest, greater_is_better=True)(Drift(), SERIES) == value
    assert forecast_scorer(largest, power=2)(Drift(), SERIES) == -(value**2)
    assert forecast_scorer(mae)(Drift(), SERIES) == forecast_scorer("mae")(Drift(), SERIES)
    univariate = SERIES[:, 0]
    assert forecast_scorer(median_absolute_error)(Drift(), univariate) == pytest.approx(
        -median_absolute_error(*expected_pair(univariate))
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_it_scores_a_series_in_cross_validation(n_jobs):
    cv = TimeSeriesSplit(3)
    scores = cross_val_score(
        Drift(), SERIES, cv=cv, scoring=forecast_scorer("mse"), n_jobs=n_jobs, error_score="raise"
    )
    expected = [-mse(*expected_pair(SERIES[test])) for _, test in cv.split(SERIES)]
    assert_allclose(scores, expected, rtol=1e-13)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_it_chooses_in_a_grid_search_with_several_metrics(n_jobs):
    search = GridSearchCV(
        Drift(),
        {"offset": [0.0, 3.0, 10.0]},
        cv=TimeSeriesSplit(3),
        scoring={"mae": forecast_scorer("mae"), "mse": forecast_scorer("mse")},
        refit="mae",
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(SERIES)
    assert search.best_params_ == {"offset": 0.0}
    assert (np.diff(search.cv_results_["mean_test_mse"]) < 0).all()
    # A fitted search is scored as its best forecaster.
    assert forecast_scorer("mae")(search, SERIES) == -mae(*expected_pair(SERIES))
    nested = cross_val_score(
        clone(search), SERIES, cv=2, scoring=forecast_scorer(), error_score="raise"
    )
    assert np.isfinite(nested).all()


def test_it_goes_beside_scikit_learn_scorers_on_windows():
    X, y = SERIES[:, :1] + np.arange(3), np.repeat(SERIES[:, :1] + 2, 2, axis=1)
    scores = cross_validate(
        Drift(offset=1.0),
        X,
        y,
        cv=3,
        scoring={"ours": forecast_scorer("mae"), "theirs": "neg_mean_absolute_error"},
        error_score="raise",
    )
    assert_allclose(scores["test_ours"], scores["test_theirs"], rtol=1e-12)
    assert_allclose(scores["test_ours"], -1.0, rtol=1e-12)


def test_windows_go_through_the_earlier_steps_of_a_pipeline():
    X, y = np.random.default_rng(0).standard_normal((2, 20, 2)) * [1, 5] + 3
    scaler = StandardScaler()
    for steps in ([scaler], [scaler, "passthrough"], ["passthrough"], []):
        pipeline = Pipeline([(f"step{i}", step) for i, step in enumerate([*steps, Drift()])]).fit(
            X, y
        )
        expected = -mae(y, pipeline.predict(X))
        assert forecast_scorer("mae")(pipeline, X, y) == pytest.approx(expected, rel=1e-13)
    scores = cross_val_score(
        make_pipeline(StandardScaler(), Drift()),
        X,
        y,
        scoring=forecast_scorer("mae"),
        cv=3,
        error_score="raise",
    )
    assert np.isfinite(scores).all()


def test_weights_of_windows_reach_the_metric():
    X, y = np.random.default_rng(0).standard_normal((2, 20, 2))
    weight = np.random.default_rng(1).uniform(size=20)
    expected = -mae(y, Drift().predict(X), sample_weight=weight)
    assert forecast_scorer("mae")(Drift(), X, y, sample_weight=weight) == expected
    assert expected != forecast_scorer("mae")(Drift(), X, y)
    with pytest.raises(ValueError, match="on a series leave it out"):
        forecast_scorer("mae")(Drift(), SERIES, sample_weight=np.ones(60))


@pytest.mark.filterwarnings("ignore:The scoring .* does not support sample_weight:UserWarning")
def test_a_search_fitted_with_weights_still_scores_a_series():
    search = GridSearchCV(
        Drift(),
        {"offset": [0.0, 3.0]},
        cv=TimeSeriesSplit(2),
        scoring={"mae": forecast_scorer()},
        refit="mae",
        error_score="raise",
    )
    search.fit(SERIES, sample_weight=np.ones(60))
    assert search.best_params_ == {"offset": 0.0}


def test_timestamps_reach_the_forecaster():
    stamps = np.arange(60).astype("datetime64[h]")
    forecaster = Drift()
    forecast_scorer()(forecaster, SERIES, timestamps=stamps)
    np.testing.assert_array_equal(forecaster.seen_timestamps_, stamps)
    forecast_scorer()(forecaster, SERIES)
    assert forecaster.seen_timestamps_ is None


class Clocked(Drift):
    def _forecasts_for_scoring(self, X, y=None, *, timestamps=None):
        if timestamps is None or len(timestamps) != len(X):
            raise ValueError(f"timestamps of the fold are missing: {timestamps!r}")
        return super()._forecasts_for_scoring(X, y)


@pytest.mark.parametrize("several", [False, True])
def test_metadata_routing_hands_the_timestamps_of_the_fold_to_the_scorer(several):
    scorer = forecast_scorer()
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(
            Clocked(),
            SERIES,
            cv=TimeSeriesSplit(3),
            scoring={"score": scorer, "mse": forecast_scorer("mse")} if several else scorer,
            params={"timestamps": np.arange(60).astype("datetime64[h]")},
            error_score="raise",
        )
    assert np.isfinite(scores["test_score"]).all()


@pytest.mark.parametrize(
    ("scorer", "shown"),
    [
        (forecast_scorer(), "forecast_scorer('mae')"),
        (forecast_scorer("mse"), "forecast_scorer('mse')"),
        (
            forecast_scorer("mase", y_train=TRAIN, period=2),
            "forecast_scorer('mase', y_train=<shape (5,)>, period=2)",
        ),
        (
            forecast_scorer(mean_squared_error, greater_is_better=True),
            "forecast_scorer(mean_squared_error, greater_is_better=True)",
        ),
    ],
)
def test_it_shows_and_pickles(scorer, shown):
    assert repr(scorer) == shown
    again = pickle.loads(pickle.dumps(scorer))
    assert repr(again) == shown
    univariate = SERIES[:, 0]
    assert again(Drift(), univariate) == scorer(Drift(), univariate)
    # A search clones what it is given, scorers included.
    cloned = clone(GridSearchCV(Drift(), {}, scoring=scorer)).get_params()["scoring"]
    assert cloned(Drift(), univariate) == scorer(Drift(), univariate)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "sentence"),
    [
        (("rmse",), {}, ValueError, "metric='rmse' is not among ['mae', 'mase', 'mse'"),
        (("pinball",), {}, ValueError, "measures of point forecasts"),
        ((3,), {}, ValueError, "or a callable metric(y_true, y_pred); got 3"),
        (("mase",), {}, ValueError, "pass y_train="),
        (("mase",), {"y_train": np.ones(5)}, ValueError, "never changes"),
        (("mase",), {"y_train": TRAIN, "period": 9}, ValueError, "more than 9 steps"),
        (("mae",), {"axis": 0}, TypeError, "metric='mae' got ['axis']"),
        (("mase",), {"y_train": TRAIN, "m": 2}, TypeError, "it takes y_train, period"),
        (("mae",), {"greater_is_better": True}, ValueError, "'mae' is a loss"),
    ],
)
def test_a_scorer_that_cannot_be_made_gets_its_sentence(args, kwargs, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        forecast_scorer(*args, **kwargs)


def test_what_cannot_be_scored_gets_its_sentence():
    X, y = np.random.default_rng(0).standard_normal((2, 20, 2))
    scorer = forecast_scorer()
    with pytest.raises(TypeError, match=r"got LinearRegression\. For other estimators use"):
        scorer(LinearRegression().fit(X, y), X, y)
    with pytest.raises(TypeError, match="got LinearRegression"):
        scorer(make_pipeline(StandardScaler(), LinearRegression()).fit(X, y), X, y)
    with pytest.raises(TypeError, match="a Pipeline on windows only, with X and y"):
        scorer(make_pipeline(StandardScaler(), Drift()).fit(SERIES), SERIES)
    with pytest.raises(ValueError, match="returns one number; got array"):
        forecast_scorer(lambda y, f: np.abs(y - f))(Drift(), X, y)
