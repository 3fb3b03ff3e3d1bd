"""What the guides show works as written: searches, cross-validation, pipelines, files, jobs."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TimeSeriesSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mixlin
from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
    SeriesDecomposer,
)
from mixlin.metrics import forecast_scorer
from mixlin.windows import interpolate, make_windows, time_series_split

T, C = 500, 3
LINEAR = [DLinearForecaster, LinearForecaster, NLinearForecaster, RLinearForecaster]


def series(n_channels=C):
    t = np.arange(T)[:, None]
    waves = 20 + 3 * np.sin(2 * np.pi * t / 24 + np.arange(n_channels)) + 0.01 * t
    return waves + np.random.default_rng(0).normal(size=(T, n_channels))


def contained(kind):
    if kind == "1-D":
        return series()[:, 0]
    if kind == "2-D":
        return series()
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-03-20", periods=T, freq="h", tz="Europe/Berlin")
    return pd.DataFrame(series(), index=index, columns=["a", "b", "c"])


KINDS = ["1-D", "2-D", "DataFrame"]


# -- model selection over a series --------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_search_over_lookback_and_alpha(kind, n_jobs):
    data = contained(kind)
    grid = {"lookback": [1, 24, 48], "alpha": [1e-6, 1e-1]}
    search = GridSearchCV(
        LinearForecaster(horizon=12),
        grid,
        cv=TimeSeriesSplit(n_splits=3),
        return_train_score=True,
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(search.cv_results_["mean_train_score"]).all()
    assert search.best_params_["lookback"] > 1
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    refit = LinearForecaster(horizon=12, **search.best_params_).fit(data)
    np.testing.assert_array_equal(
        np.asarray(search.best_estimator_.predict()), np.asarray(refit.predict())
    )
    # training folds are scored on the windows inside them
    train = data[: T - 3 * (T // 4)]
    expected = LinearForecaster(lookback=24, horizon=12, alpha=1e-1).fit(train).score(train)
    results = search.cv_results_
    [row] = [
        i for i, p in enumerate(results["params"]) if (p["lookback"], p["alpha"]) == (24, 1e-1)
    ]
    np.testing.assert_allclose(results["split0_train_score"][row], expected, rtol=1e-12)


def test_searches_agree_whatever_the_container_and_the_number_of_processes():
    scores = []
    for data, n_jobs in ((series(), None), (series(), 2), (contained("DataFrame"), 2)):
        search = GridSearchCV(
            DLinearForecaster(horizon=12),
            {"lookback": [24, 48], "kernel_size": [5, 25]},
            cv=TimeSeriesSplit(n_splits=3),
            n_jobs=n_jobs,
        ).fit(data)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-9)


def test_parameters_of_the_solver_can_be_searched():
    search = GridSearchCV(
        LinearForecaster(24, 6, individual="partial", solver=mixlin.ExactSolver()),
        {"solver__pooling": [0.1, 10.0]},
        cv=TimeSeriesSplit(n_splits=2),
        error_score="raise",
    ).fit(series())
    assert search.best_estimator_.solver.pooling in (0.1, 10.0)
    drawn = RandomizedSearchCV(
        RLinearForecaster(24, 6),
        {"alpha": [1e-6, 1e-3, 1.0]},
        n_iter=2,
        cv=TimeSeriesSplit(n_splits=2),
        random_state=0,
        error_score="raise",
    ).fit(series())
    assert np.isfinite(drawn.best_score_)


@pytest.mark.parametrize("kind", KINDS)
def test_cross_validation_with_a_forecast_scorer(kind):
    data = contained(kind)
    model = NLinearForecaster(lookback=48, horizon=12)
    cv = TimeSeriesSplit(n_splits=3)
    maes = -cross_val_score(model, data, cv=cv, scoring=forecast_scorer("mae"), error_score="raise")
    values = np.asarray(data)
    expected = []
    for train, test in cv.split(values):
        fitted = clone(model).fit(values[train])
        # the fold continues the training series, whose tail is context
        X, y = make_windows(values[np.r_[train[-48:], test]], 48, 12)
        X, y = (a if a.ndim == 3 else a[:, :, None] for a in (X, y))
        expected.append(np.abs(fitted.predict(X) - y).mean())
    np.testing.assert_allclose(maes, expected, rtol=1e-9)
    both = cross_validate(
        model,
        data,
        cv=cv,
        scoring={"mae": forecast_scorer("mae"), "mse": forecast_scorer("mse")},
        error_score="raise",
    )
    np.testing.assert_allclose(-both["test_mae"], expected, rtol=1e-9)
    assert (both["test_mse"] < 0).all()


# -- model selection and pipelines over windows -------------------------------------------------


def test_windows_are_split_with_a_gap():
    X, y = make_windows(series(), 48, 12)
    cv = time_series_split(12, n_splits=3)
    for train, test in cv.split(X):
        assert test[0] - train[-1] == 12  # the last target of training ends where testing starts
    scores = cross_val_score(LinearForecaster(), X, y, cv=cv, error_score="raise")
    search = GridSearchCV(
        LinearForecaster(), {"lookback": [24, 48]}, cv=cv, scoring=forecast_scorer("mae")
    ).fit(X, y)
    assert scores.shape == (3,)
    assert (scores > 0.3).all()
    assert search.best_params_["lookback"] in (24, 48)


def relative_difference(a, b, X):
    return np.abs(a.predict(X) - b.predict(X)).max() / X.std()


@pytest.mark.parametrize("kernel_size", [3, 25])
@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 1.0])
def test_decomposer_and_linear_in_a_pipeline_are_dlinear(kernel_size, alpha):
    """Exactly so with the penalty converted: it is relative to the variance of the inputs.

    ``alpha`` stands for ``alpha * n * v`` with ``v`` the variance over everything that a
    forecaster reads: the windows for DLinear, trend and seasonal part side by side here.
    """
    X, y = make_windows(series()[:, 0], 72, 12)
    dlinear = DLinearForecaster(kernel_size=kernel_size, alpha=alpha).fit(X, y)
    parts = SeriesDecomposer(kernel_size).fit_transform(X)
    converted = LinearForecaster(alpha=alpha * X.var() / parts.var())
    pipeline = make_pipeline(SeriesDecomposer(kernel_size), converted).fit(X, y)
    assert relative_difference(pipeline, dlinear, X) < 1e-9
    other = LinearForecaster(alpha=2 * alpha * X.var() / parts.var())
    other = make_pipeline(SeriesDecomposer(kernel_size), other).fit(X, y)
    assert relative_difference(other, dlinear, X) > 1e-8


@pytest.mark.parametrize("alpha", [1e-9, 1e-12])
def test_without_a_penalty_to_speak_of_no_conversion_is_needed(alpha):
    X, y = make_windows(series()[:, 0], 72, 12)
    centered = X - X.mean()
    dlinear = DLinearForecaster(alpha=alpha).fit(centered, y)
    pipeline = make_pipeline(SeriesDecomposer(25), LinearForecaster(alpha=alpha))
    pipeline.fit(centered, y)
    assert relative_difference(pipeline, dlinear, centered) < 1e-6


def test_the_folded_coefficients_of_the_pipeline_are_those_of_dlinear():
    X, y = make_windows(series()[:, 0], 72, 12)
    alpha = 1e-2
    dlinear = DLinearForecaster(alpha=alpha).fit(X, y)
    decomposer = SeriesDecomposer(25).fit(X)
    parts = decomposer.transform(X)
    linear = LinearForecaster(alpha=alpha * X.var() / parts.var()).fit(parts, y)
    by_unit = linear.coef_ @ decomposer.transform(np.eye(72)).T
    np.testing.assert_allclose(by_unit, dlinear.coef_, atol=1e-9)
    np.testing.assert_allclose(linear.intercept_, dlinear.intercept_, rtol=1e-6)


def test_pipelines_are_scored_searched_and_cloned():
    X, y = make_windows(series()[:, 0], 72, 12)
    pipeline = make_pipeline(SeriesDecomposer(25), LinearForecaster())
    grid = {"seriesdecomposer__kernel_size": [5, 25], "linearforecaster__alpha": [1e-8, 1e-2]}
    for scoring in (None, forecast_scorer("mse"), "neg_mean_absolute_error"):
        search = GridSearchCV(
            pipeline, grid, cv=time_series_split(12, 2), scoring=scoring, error_score="raise"
        ).fit(X, y)
        assert set(search.best_params_) == set(grid)
        assert search.predict(X).shape == y.shape
    assert clone(search.best_estimator_).get_params()["steps"][0][0] == "seriesdecomposer"


def test_transformers_of_windows_and_targets_may_surround_a_forecaster():
    X, y = make_windows(series()[:, 0], 24, 6)
    scaled = make_pipeline(StandardScaler(), LinearForecaster(alpha=1e-10)).fit(X, y)
    plain = LinearForecaster(alpha=1e-10).fit(X, y)
    assert relative_difference(scaled, plain, X) < 1e-5
    target = TransformedTargetRegressor(LinearForecaster(), transformer=StandardScaler())
    assert relative_difference(target.fit(X, y), plain, X) < 1e-3


def test_scaling_a_series_in_a_pipeline_returns_z_scores_and_scale_does_not():
    data = series()
    z_scores = make_pipeline(StandardScaler(), NLinearForecaster(48, 12)).fit(data)
    forecast = z_scores.predict(data)
    scaler = z_scores[0]
    inside = NLinearForecaster(48, 12, scale="std").fit(data).predict(data)
    assert np.abs(forecast).max() < 4
    assert inside.min() > 10
    np.testing.assert_allclose(scaler.inverse_transform(forecast), inside, rtol=1e-6)


# -- files and processes ------------------------------------------------------------------------


@pytest.mark.parametrize("cls", LINEAR, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_models_survive_pickle_joblib_and_files(cls, kind, tmp_path):
    data = contained(kind)
    model = cls(lookback=48, horizon=12, individual=kind == "2-D").fit(data)
    expected = model.predict_quantiles()
    joblib.dump(model, tmp_path / "model.joblib")
    model.save(tmp_path / "model.safetensors")
    again = [
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib"),
        mixlin.load(tmp_path / "model.safetensors"),
    ]
    for other in again:
        assert type(other) is cls
        assert other.get_params() == model.get_params()
        got = other.predict_quantiles()
        assert type(got) is type(expected)
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
        assert getattr(got, "index", np.arange(12)).tolist() == (
            getattr(expected, "index", np.arange(12)).tolist()
        )
        np.testing.assert_array_equal(
            np.asarray(other.predict(data[:100])), np.asarray(model.predict(data[:100]))
        )
        assert other.score(data) == model.score(data)
        assert not hasattr(clone(other), "plan_")


def forecast(model, data):
    return model.predict(data)


def test_fitted_models_work_in_other_processes():
    model = DLinearForecaster(48, 12).fit(series())
    contexts = [series()[k : k + 48] for k in range(4)]
    parallel = joblib.Parallel(n_jobs=2)(joblib.delayed(forecast)(model, c) for c in contexts)
    np.testing.assert_array_equal(parallel, [model.predict(c) for c in contexts])


def test_partial_fit_goes_on_after_a_pickle():
    data = series()
    model = LinearForecaster(48, 12).partial_fit(data[:300])
    copy = pickle.loads(pickle.dumps(model))
    for each in (model, copy):
        each.partial_fit(data[300:])
    np.testing.assert_array_equal(model.predict(), copy.predict())
    whole = LinearForecaster(48, 12).fit(data)
    np.testing.assert_allclose(model.predict(), whole.predict(), rtol=1e-8)


# -- contexts with holes ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["1-D", "2-D"])
def test_a_context_with_holes_is_forecast_after_interpolation(kind):
    data = contained(kind)
    model = NLinearForecaster(48, 12).fit(data)
    holes = data.copy()
    holes[[T - 3, T - 20, T - 19]] = np.nan
    with pytest.raises(ValueError, match=r"mixlin.windows.interpolate\(X\)"):
        model.predict(holes)
    filled = interpolate(holes)
    by_hand = data.copy()
    by_hand[T - 3] = (data[T - 4] + data[T - 2]) / 2
    by_hand[T - 20] = data[T - 21] + (data[T - 18] - data[T - 21]) / 3
    by_hand[T - 19] = data[T - 21] + (data[T - 18] - data[T - 21]) * 2 / 3
    np.testing.assert_allclose(model.predict(filled), model.predict(by_hand), rtol=1e-12)
