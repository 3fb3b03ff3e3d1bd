"""Bad input gets one sentence that says what to do, and leaves the estimator as it was."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from scipy import sparse

import mixlin
from mixlin import backends
from mixlin.base import BaseForecaster
from mixlin.windows import make_windows

PUBLIC = [getattr(mixlin, name) for name in mixlin.__all__]
FORECASTERS = [c for c in PUBLIC if inspect.isclass(c) and issubclass(c, BaseForecaster)]
L, H, C, T = 12, 3, 3, 120

ZERO_SHOT = [mixlin.SuperLinearForecaster]  # these learn nothing, and read contexts of any length
TRAINED = [c for c in FORECASTERS if c not in ZERO_SHOT]


def each(classes):
    return pytest.mark.parametrize("cls", classes, ids=lambda c: c.__name__)


each_forecaster, each_trained, each_zero_shot = each(FORECASTERS), each(TRAINED), each(ZERO_SHOT)


def series(n_rows=T, n_channels=C):
    return np.random.default_rng(0).normal(size=(n_rows, n_channels))


X, Y = make_windows(series(), L, H)
X1, Y1 = X[:, :, 0], Y[:, :, 0]


def with_value(array, value):
    out = np.array(array, dtype=np.result_type(array, type(value)))
    out.flat[out.size // 2] = value
    return out


def refused(error, match, call, estimator):
    """Assert that a call raises its sentence and that the estimator is what it was."""
    before = dict(vars(estimator))
    with pytest.raises(error, match=match) as caught:
        call()
    after = vars(estimator)
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    return str(caught.value)


def estimators(cls, **params):
    """Return an unfitted estimator and two fitted ones, all with the same parameters."""
    on_series = cls(lookback=L, horizon=H).fit(series())
    on_windows = cls().fit(X, Y)
    fresh = cls(**params)
    return [fresh, on_series.set_params(**fresh.get_params()), on_windows.set_params(**params)]


BAD_WINDOWS = {
    "nan": (with_value(X1, np.nan), Y1, "contains NaN"),
    "infinity": (with_value(X1, np.inf), Y1, "contains infinity"),
    "nan in 3-D": (with_value(X, np.nan), Y, "contains NaN"),
    "nan in y": (X1, with_value(Y1, np.nan), "contains NaN"),
    "infinity in y": (X1, with_value(Y1, -np.inf), "contains infinity"),
    "strings": (X1.astype(str), Y1, "X holds strings; numbers are needed"),
    "strings in a list": ([["1", "2"], ["3", "4"]], [1, 2], "X holds strings"),
    "strings in objects": (with_value(X1.astype(object), "a"), Y1, "X holds strings"),
    "strings in y": (X1, Y1.astype(str), "y holds strings"),
    "dates": (X1.astype("datetime64[s]"), Y1, "X holds dates"),
    "complex": (X1 + 1j, Y1, "Complex data not supported"),
    "ragged": ([[1.0, 2.0], [3.0]], [1, 2], "X is a ragged list"),
    "empty": (np.empty((0, L)), np.empty((0, H)), r"Found array with 0 sample\(s\)"),
    "no columns": (np.empty((9, 0)), np.zeros((9, H)), r"0 feature\(s\)"),
    "one row": (X1[:1], Y1[:1], "minimum of 2 is required"),
    "1-D": (X1[:, 0], Y1, "Expected 2D array, got 1D array"),
    "4-D": (X[..., None], Y, r"take y of shape .* got X \(106, 12, 3, 1\)"),
    "3-D with 2-D y": (X, Y1, r"take y of shape .* got X \(106, 12, 3\) and y \(106, 3\)"),
    "2-D with 3-D y": (X1, Y, r"take y of shape .* got X \(106, 12\) and y \(106, 3, 3\)"),
    "other channels in y": (X, Y[:, :, :2], "same channels; got 3 in X .* and 2 in y"),
    "unequal lengths": (X1, Y1[:-1], "inconsistent numbers of samples"),
    "sparse": (sparse.csr_matrix(X1), Y1, "(?i)sparse"),
}


@each_forecaster
@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_bad_windows_are_refused(cls, case):
    inputs, targets, match = BAD_WINDOWS[case]
    for estimator in estimators(cls):
        refused(
            (ValueError, TypeError), match, lambda e=estimator: e.fit(inputs, targets), estimator
        )
    if targets is Y1 and case not in ("one row", "unequal lengths", "3-D with 2-D y"):
        fitted = cls().fit(X1, Y1)
        refused((ValueError, TypeError), ".", lambda: fitted.predict(inputs), fitted)


BAD_SERIES = {
    "infinity": (with_value(series(), np.inf), "contains infinity"),
    "strings": (series().astype(str), "X holds strings; numbers are needed. Convert it first"),
    "a list of strings": (["a", "b"] * 20, "X holds strings"),
    "strings in objects": (with_value(series().astype(object), "a"), "X holds strings"),
    "dates": (np.arange(40).astype("datetime64[D]"), "X holds dates .* as the index of a frame"),
    "complex": (series() + 1j, "Complex data not supported"),
    "empty": (np.empty((0, C)), r"Found array with 0 sample\(s\)"),
    "an empty list": ([], r"Found array with 0 sample\(s\)"),
    "no channels": (np.empty((T, 0)), r"0 feature\(s\)"),
    "a number": (3.0, r"must be a series of shape \(n_rows,\) .*; got 3.0"),
    "text": ("series.csv", "must be a series of shape .*; got 'series.csv'"),
    "a dict": ({"a": [1.0]}, "must be a series of shape .*; got {'a'"),
    "3-D without y": (X, r"must be a series .* got shape \(106, 12, 3\). Windows .* need y"),
    "stacked windows": (X1, "looks like stacked windows: .* moved by 1 column. Pass the targets"),
    "lists of lists": (series().tolist(), r"list of lists, .* np.asarray\(X\) for one series"),
    "ragged lists": ([[1.0, 2.0], [3.0]], "list of lists, which could mean one series or many"),
    "arrays and numbers": ([series(), 3.0], "list of lists"),
    "channels of many": ([series(), series(T, 2)], r"X\[0\] has 3, X\[1\] has 2"),
    "a bad one of many": ([series(), series() + 1j], "Complex data not supported"),
    "a 3-D one of many": ([series(), X], r"X\[1\] must be a series"),
    "sparse": (sparse.csr_matrix(series()), "(?i)sparse"),
}


@each_forecaster
@pytest.mark.parametrize("case", BAD_SERIES)
def test_bad_series_are_refused(cls, case):
    data, match = BAD_SERIES[case]
    for estimator in estimators(cls, lookback=L, horizon=H):
        refused((ValueError, TypeError), match, lambda e=estimator: e.fit(data), estimator)


NO_WINDOW = {
    "one row": (series(1), "needs at least 15 rows with horizon=3; the series has 1. Shorten"),
    "too few rows": (series(14), "lookback=12 needs at least 15 rows .* has 14. Shorten lookback"),
    "only short ones": ([series(5), series(14)], "needs at least 15 rows .* has 14"),
    "nan every few rows": (
        np.where(np.arange(T)[:, None] % L == 5, np.nan, series()),
        "no window of lookback .horizon = 15 consecutive rows|no window of lookback",
    ),
    "nan everywhere": (np.full((T, C), np.nan), "no window .* is free of missing values"),
}


@each_trained
@pytest.mark.parametrize("case", NO_WINDOW)
def test_series_without_a_window_are_refused(cls, case):
    data, match = NO_WINDOW[case]
    for estimator in estimators(cls, lookback=L, horizon=H):
        refused((ValueError, TypeError), match, lambda e=estimator: e.fit(data), estimator)


@each_zero_shot
@pytest.mark.parametrize("case", NO_WINDOW)
def test_who_learns_nothing_needs_no_window_but_a_value(cls, case):
    data, _ = NO_WINDOW[case]
    for estimator in estimators(cls, lookback=L, horizon=H):
        estimator.fit(data)
        if case == "nan everywhere":
            match = "the context has no value in channel 0. Pass at least one observed value"
            for call in (estimator.predict, estimator.predict_interval):
                refused(ValueError, match, call, estimator)
            continue
        forecasts = estimator.predict()
        for forecast in forecasts if isinstance(data, list) else [forecasts]:
            assert forecast.shape == (H, C)
            assert np.isfinite(forecast).all()


@each_forecaster
def test_a_series_needs_a_horizon(cls):
    for estimator in estimators(cls, lookback=L):
        message = refused(
            ValueError, "set horizon=", lambda e=estimator: e.fit(series()), estimator
        )
        assert "requires y to be passed" in message


@each_forecaster
def test_parameters_and_shapes_of_windows_must_agree(cls):
    for estimator in estimators(cls, lookback=L + 1):
        match = "lookback=13 is longer than the windows, which have 12 columns"
        refused(ValueError, match, lambda e=estimator: e.fit(X1, Y1), estimator)
    for estimator in estimators(cls, horizon=H + 1):
        match = "horizon=4, but y has 3 steps. Leave horizon out"
        refused(ValueError, match, lambda e=estimator: e.fit(X1, Y1), estimator)


# -- parameters ---------------------------------------------------------------------------------

NAN = float("nan")
BAD_PARAMETERS = {
    "lookback": [0, -3, 2.0, NAN, "auto", True, False, [3]],
    "horizon": [0, -1, 1.5, NAN, "24", True, False],
    "alpha": [-1e-9, -1, NAN, float("inf"), None, "small", True, False],
    "fit_intercept": [None, "yes", 2, NAN],
    "individual": [None, "shared", 2, NAN],
    "scale": ["mean", 1.0, True, NAN],
    "normalization": ["max", 1, True, NAN],
    "kernel_size": [0, -1, 25.0, None, NAN, True, False, "25"],
    "solver": ["exact", 3, True],
    "bank": [3, "default", True],
    "gate": [3, None, True],
    "training": [3, True],
    "top_k": [0, -1, 2.0, NAN, True],
    "auto_period": [None, "yes", 2, NAN],
    "clean": [None, "yes", 2, NAN],
    "resampling": [None, "yes", 2, NAN],
    "backend": [3, True],
    "random_state": ["seed", -1.5],
}


@each_forecaster
@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters_out_of_range_are_refused(cls, name):
    if name not in inspect.signature(cls).parameters:
        pytest.skip(f"{cls.__name__} has no parameter {name}")
    for value in BAD_PARAMETERS[name]:
        if (cls, value) == (mixlin.AutoLinearForecaster, [3]):
            continue  # lookbacks to try
        params = {"lookback": L, "horizon": H, name: value}
        for estimator in estimators(cls, **params):
            match = rf"The '{name}' parameter of {cls.__name__} must be"
            got = rf"Got {re.escape(repr(value))} instead"
            if (cls, name, value) == (mixlin.MoLEForecaster, "solver", "exact"):
                match = (
                    "solver must be one of 'alternating', 'fixed-gates', 'gradient', or a solver"
                )
                got = "got 'exact'"
            message = refused(ValueError, match, lambda e=estimator: e.fit(series()), estimator)
            assert re.search(got, message)
            if hasattr(estimator, "partial_fit"):
                refused(ValueError, match, lambda e=estimator: e.partial_fit(series()), estimator)


def test_an_even_kernel_has_no_center():
    cls = mixlin.DLinearForecaster
    for estimator in estimators(cls, lookback=L, horizon=H, kernel_size=24):
        match = "must be odd.* Got 24 instead; use 23 or 25"
        refused(ValueError, match, lambda e=estimator: e.fit(series()), estimator)


@pytest.mark.parametrize("pooling", [-1.0, NAN, "strong", None])
def test_options_of_the_solver_are_checked(pooling):
    solver = mixlin.ExactSolver(pooling=pooling)
    for estimator in estimators(mixlin.LinearForecaster, lookback=L, horizon=H, solver=solver):
        match = "The 'pooling' parameter of ExactSolver must be a number >= 0"
        refused(ValueError, match, lambda e=estimator: e.fit(series()), estimator)


@pytest.mark.parametrize("prior", [np.zeros((L, H)), np.full((H, L), NAN), np.zeros((2, H, L))])
def test_a_prior_has_the_shape_of_the_coefficients(prior):
    for estimator in estimators(mixlin.LinearForecaster, lookback=L, horizon=H, prior=prior):
        match = r"prior must be .* \(3, 12\) or \(3, 3, 12\)"
        refused(ValueError, match, lambda e=estimator: e.fit(series()), estimator)


# -- sample weights and timestamps --------------------------------------------------------------


@each_forecaster
def test_bad_weights_are_refused(cls):
    n = len(X1)
    for_windows = {
        "has shape|must be 1D|sample_weight.shape": np.ones(n - 1),
        "contains NaN": np.full(n, NAN),
        "(?i)negative": -np.ones(n),
        "zero everywhere|at least one non-zero": np.zeros(n),
    }
    for match, weight in for_windows.items():
        for e in estimators(cls):
            refused(ValueError, match, lambda e=e, w=weight: e.fit(X1, Y1, sample_weight=w), e)
    not_usable = "must be finite, not negative, and not all zero"
    for_series = [
        (np.ones(T - 1), r"one weight per row, \(120,\); got \(119,\)"),
        (np.full(T, NAN), not_usable),
        (-np.ones(T), not_usable),
        (np.zeros(T), not_usable),
    ]
    for weight, match in for_series:
        for e in estimators(cls, lookback=L, horizon=H):
            refused(ValueError, match, lambda e=e, w=weight: e.fit(series(), sample_weight=w), e)
    for e in estimators(cls, lookback=L, horizon=H):
        match = r"one weight per series, \(2,\); got \(120,\)"
        many = [series(), series()]
        refused(ValueError, match, lambda e=e, m=many: e.fit(m, sample_weight=np.ones(T)), e)


STAMPS = np.datetime64("2024-01-01T00") + np.arange(T) * np.timedelta64(1, "h")


def moved(places, by):
    out = STAMPS.copy()
    out[places] = out[places] + by
    return out


BAD_STAMPS = {
    "one short": (STAMPS[:-1], r"one stamp per row, shape \(120,\); got shape \(119,\)"),
    "2-D": (np.stack([STAMPS, STAMPS], 1), "one stamp per row"),
    "words": (["monday"] * T, "must be datetime64 values"),
    "numbers": (np.arange(T), "must be datetime64 values; got dtype int"),
    "NaT": (moved(5, np.timedelta64("NaT")), "hold NaT"),
    "duplicate": (moved(5, np.timedelta64(1, "h")), "1 duplicate label: .* Drop or aggregate"),
    "unsorted": (STAMPS[::-1], r"not sorted: labels must increase. Sort the rows"),
    "irregular": (
        np.datetime64("2024-01-01T00:00") + np.cumsum(np.arange(T) % 7 + 3),
        "is irregular: .* Resample to a regular frequency",
    ),
}


@each_forecaster
@pytest.mark.parametrize("case", BAD_STAMPS)
def test_bad_timestamps_are_refused(cls, case):
    stamps, match = BAD_STAMPS[case]
    for e in estimators(cls, lookback=L, horizon=H):
        refused(ValueError, match, lambda e=e: e.fit(series(), timestamps=stamps), e)
    fitted = cls(L, H).fit(series(), timestamps=STAMPS)
    match = "does not step by '1h'" if case == "irregular" else match
    refused(ValueError, match, lambda: fitted.predict(series(), timestamps=stamps), fitted)


def test_windows_take_one_stamp_each():
    for e in estimators(mixlin.LinearForecaster):
        match = "one entry per window, 106; got 120"
        refused(ValueError, match, lambda e=e: e.fit(X1, Y1, timestamps=STAMPS), e)


# -- indexes of frames --------------------------------------------------------------------------


def bad_indexes(pd):
    hours = pd.date_range("2024-01-01", periods=T, freq="h")
    shuffled = hours.to_list()
    shuffled[3], shuffled[4] = shuffled[4], shuffled[3]
    twice = hours.to_list()
    twice[5] = twice[6]
    steps = np.cumsum(np.arange(T) % 7 + 3)
    return {
        "duplicate": (pd.Index(twice), "1 duplicate label: every time must occur once"),
        "unsorted": (pd.Index(shuffled), "not sorted: labels must increase"),
        "descending": (hours[::-1], "not sorted"),
        "irregular": (
            hours[0] + pd.to_timedelta(steps, unit="min"),
            "index is irregular: .*frame.asfreq",
        ),
        "irregular integers": (pd.Index(steps), "index is irregular"),
        "duplicate integers": (pd.Index(np.arange(T) // 2), "60 duplicate labels"),
        "words": (pd.Index([f"r{i}" for i in range(T)]), "dtype .* can't be continued: use dates"),
        "fractions": (pd.Index(np.arange(T) / 2), "dtype float64 can't be continued"),
        "NaT": (hours.insert(4, pd.NaT)[:T], "missing labels; every row needs its time"),
        "levels": (
            pd.MultiIndex.from_product([["a", "b"], range(T // 2)]),
            "can't be continued: use dates",
        ),
    }


CASES = [
    *("duplicate", "unsorted", "descending", "irregular", "irregular integers"),
    *("duplicate integers", "words", "fractions", "NaT", "levels"),
]


@each_forecaster
@pytest.mark.parametrize("case", CASES)
def test_a_bad_index_is_refused_at_fit_and_at_predict(cls, case):
    pd = pytest.importorskip("pandas")
    cases = bad_indexes(pd)
    assert set(CASES) == set(cases)
    index, match = cases[case]
    frame = pd.DataFrame(series(), index=index, columns=["a", "b", "c"])
    for estimator in estimators(cls, lookback=L, horizon=H):
        refused(ValueError, match, lambda e=estimator: e.fit(frame), estimator)
    good = frame.set_axis(pd.date_range("2024-01-01", periods=T, freq="h"))
    fitted = cls(L, H).fit(good)
    if case == "irregular":
        match = "does not step by 'h', as the training series does.* Resample"
    refused(ValueError, match, lambda: fitted.predict(frame), fitted)
    refused(ValueError, match, lambda: fitted.score(frame), fitted)


def test_a_context_of_another_frequency_is_refused():
    pd = pytest.importorskip("pandas")
    hours = pd.date_range("2024-01-01", periods=T, freq="h")
    frame = pd.DataFrame(series(), index=hours)
    fitted = mixlin.LinearForecaster(L, H).fit(frame)
    for freq in ("30min", "15min", "D", "MS"):
        other = frame.set_axis(pd.date_range("2024-01-01", periods=T, freq=freq))
        refused(ValueError, "does not step by 'h'", lambda o=other: fitted.predict(o), fitted)


def test_columns_that_are_no_numbers_are_named():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(series(), columns=["a", "b", "c"])
    frame.insert(0, "date", pd.date_range("2024-01-01", periods=T, freq="h"))
    frame["site"] = "north"
    for estimator in estimators(mixlin.LinearForecaster, lookback=L, horizon=H):
        match = (
            r"no numbers: date, site. Make the time column the index \(frame.set_index\('date'\)"
        )
        refused(ValueError, match, lambda e=estimator: e.fit(frame), estimator)


# -- at predict ---------------------------------------------------------------------------------


@each_forecaster
def test_an_unfitted_forecaster_says_so(cls):
    estimator = cls(L, H)
    for call in (estimator.predict, estimator.predict_quantiles, estimator.predict_interval):
        refused(ValueError, "is not fitted yet", call, estimator)
    refused(ValueError, "is not fitted yet", lambda: estimator.predict(series()), estimator)
    refused(ValueError, "is not fitted yet", lambda: estimator.score(series()), estimator)
    refused(ValueError, "is not fitted yet", lambda: estimator.save("never.written"), estimator)


@each_forecaster
def test_contexts_that_do_not_fit_are_refused(cls):
    fitted = cls(L, H).fit(series())
    bad = [
        (series(T, 2), "X has 2 features, but .* is expecting 3 features"),
        (series()[:, 0], "X has 1 features, but .* is expecting 3 features"),
        (X[:, :, :2], "X has 2 channels, but .* is expecting 3, as in fit"),
        (series(0), r"Found array with 0 sample\(s\)"),
        (X[:0], r"Found array with 0 sample\(s\)"),
        (X[..., None], "must be a series of shape"),
        (with_value(X, np.nan), "contains NaN"),
        (with_value(X, np.inf), "contains infinity"),
        (with_value(series(), np.inf), "contains infinity"),
        (series() + 1j, "Complex data not supported"),
        (series().astype(str), "X holds strings"),
        (X.astype(str), "X holds strings"),
        (series().tolist(), "list of lists"),
        ([series(), series(T, 2)], r"X\[0\] has 3, X\[1\] has 2"),
        ([], r"Found array with 0 sample\(s\)"),
    ]
    refuse_contexts(fitted, bad)
    earlier = series()
    earlier[: T - L] = np.nan
    assert (fitted.predict(earlier) == fitted.predict(series())).all()


def refuse_contexts(fitted, bad):
    for context, match in bad:
        refused((ValueError, TypeError), match, lambda c=context: fitted.predict(c), fitted)
        refused(
            (ValueError, TypeError), match, lambda c=context: fitted.predict_interval(c), fitted
        )


SHORT_CONTEXTS = [
    (series(L - 1), "the context has 11 rows; lookback=12 of them are needed. Pass a longer"),
    (series(1), "the context has 1 row; lookback=12"),
    (X[:, 1:], "the context has 11 rows"),
    ([series(), series(L - 1)], "context 1 has 11 rows"),
]


@each_trained
def test_contexts_that_are_short_or_have_gaps_are_refused(cls):
    fitted = cls(L, H).fit(series())
    refuse_contexts(fitted, SHORT_CONTEXTS)
    holes = series()
    holes[-2:, 1] = np.nan
    match = "the context has 2 missing values in its last 12 rows. Fill them, .*interpolate"
    refused(ValueError, match, lambda: fitted.predict(holes), fitted)
    match = "context 1 has 2 missing values"
    refused(ValueError, match, lambda: fitted.predict([series(), holes]), fitted)


@each_zero_shot
def test_contexts_that_are_short_or_have_gaps_are_forecast_where_there_is_a_value(cls):
    fitted = cls(L, H).fit(series())
    holes = series()
    holes[-2:, 1] = np.nan
    for context in [*(context for context, _ in SHORT_CONTEXTS), holes, [series(), holes]]:
        forecasts, intervals = fitted.predict(context), fitted.predict_interval(context)
        if not isinstance(context, list):
            forecasts, intervals = [forecasts], [intervals]
        for f, i in zip(forecasts, intervals, strict=True):
            assert f.shape[-2:] == (H, C)
            assert np.isfinite(f).all()
            assert i.shape == (*f.shape, 2)
            assert np.isfinite(i).all()
    nothing = series()
    nothing[:, 1] = np.nan
    late = series()
    late[-L:, 2] = np.nan  # what is older than the lookback is not read
    refuse_contexts(
        fitted,
        [
            (nothing, "the context has no value in channel 1. Pass at least one observed value"),
            (nothing[-1:], "the context has no value in channel 1"),
            (late, "the context has no value in channel 2"),
            ([series(), nothing], "context 1 has no value in channel 1"),
        ],
    )


@each_forecaster
def test_windows_that_do_not_fit_are_refused(cls):
    two, three = cls().fit(X1, Y1), cls().fit(X, Y)
    for fitted in (two, three):
        refused(ValueError, "fitted on windows, so there is no series", fitted.predict, fitted)
        match = "X has 11 features, but .* is expecting 12 features"
        refused(ValueError, match, lambda e=fitted: e.predict(X1[:, 1:]), fitted)
        refused(ValueError, match, lambda e=fitted: e.predict(X[:, 1:]), fitted)
    match = "X has 2 channels, but .* is expecting 3"
    refused(ValueError, match, lambda: three.predict(X[:, :, :2]), three)
    refused(ValueError, "X has 1 channels", lambda: three.predict(X1), three)
    refused(ValueError, "two or three dimensions", lambda: three.predict(X[..., None]), three)


@each_forecaster
def test_horizons_quantiles_and_coverages_have_a_range(cls):
    fitted = cls(L, H).fit(series())
    further = cls in ZERO_SHOT
    for horizon in (0, -1, 1.0, True, "3", NAN, *(() if further else (H + 1,))):
        match = "horizon must be an integer "
        match += "of at least 1; got" if further else "from 1 to 3, the horizon of the fit; got"
        for call in (fitted.predict, fitted.predict_quantiles, fitted.predict_interval):
            refused(ValueError, match, lambda c=call, h=horizon: c(horizon=h), fitted)
    if further:
        assert np.isfinite(fitted.predict(horizon=H + 1)).all()
        assert fitted.predict_interval(horizon=10 * H).shape == (10 * H, C, 2)
    for quantiles in ([0.0, 0.5], [0.5, 1.0], [], [NAN], [[0.5]], -0.1, "half", None):
        match = "quantiles must be numbers between 0 and 1; got"
        refused(ValueError, match, lambda q=quantiles: fitted.predict_quantiles(None, q), fitted)
    for coverage in (0, 1, 0.0, 1.0, -1, 90, NAN, True, "0.9", None, [0.9]):
        match = "coverage must be a number between 0 and 1; got"
        refused(ValueError, match, lambda c=coverage: fitted.predict_interval(None, c), fitted)


@each_forecaster
def test_score_takes_what_fit_took(cls):
    fitted = cls(L, H).fit(series())
    refused(ValueError, "fitted on series; score takes no y", lambda: fitted.score(X, Y), fitted)
    if cls in ZERO_SHOT:
        assert fitted.score([series(14)]) <= 1.0
        match = "scoring needs 4 rows; got 3"
        refused(ValueError, match, lambda: fitted.score([series(3)]), fitted)
    else:
        match = "scoring needs 15 rows; got 14"
        refused(ValueError, match, lambda: fitted.score([series(14)]), fitted)
    refused(ValueError, "scoring needs 3 rows; got 2", lambda: fitted.score(-series(2)), fitted)
    nothing = np.full((40, C), NAN)
    refused(
        ValueError, "every window touches a missing value", lambda: fitted.score(nothing), fitted
    )
    on_windows = cls().fit(X, Y)
    match = "fitted on windows; score takes y"
    refused(ValueError, match, lambda: on_windows.score(series()), on_windows)
    match = r"y must have the shape of the forecasts, \(106, 3, 3\); got \(106, 2, 3\)"
    refused(ValueError, match, lambda: on_windows.score(X, Y[:, :2]), on_windows)


@each_zero_shot
def test_who_learns_nothing_is_not_told_more(cls):
    fitted = cls(L, H).fit(series())
    for model in (cls(L, H), fitted):
        assert not hasattr(model, "partial_fit")
        match = "there is nothing to update: .* Pass the longer context to predict"
        refused(AttributeError, match, lambda m=model: m.partial_fit(series()), model)


@each([c for c in TRAINED if c not in (mixlin.AutoLinearForecaster, mixlin.MoLEForecaster)])
def test_further_data_must_fit_to_what_was_learnt(cls):
    fitted = cls(L, H).partial_fit(series())
    match = "was fitted on series; partial_fit got windows. Call fit to start anew"
    refused(ValueError, match, lambda: fitted.partial_fit(X, Y), fitted)
    match = "X has 2 features, but .* is expecting 3"
    refused(ValueError, match, lambda: fitted.partial_fit(series(T, 2)), fitted)
    refused(ValueError, "Complex", lambda: fitted.partial_fit(series() + 1j), fitted)
    fitted.set_params(horizon=H + 1)
    match = r"partial_fit got lookback, horizon and channels \(12, 4, 3\); learnt before with"
    refused(ValueError, match, lambda: fitted.partial_fit(series()), fitted)
    on_windows = cls().partial_fit(X1, Y1)
    refused(
        ValueError, "Call fit to start anew", lambda: on_windows.partial_fit(series()), on_windows
    )
    match = r"channels \(12, 2, 1\); learnt before with \(12, 3, 1\)"
    refused(ValueError, match, lambda: on_windows.partial_fit(X1, Y1[:, :2]), on_windows)
    match = "contains NaN"
    bad = with_value(X1, NAN)
    refused(ValueError, match, lambda: on_windows.partial_fit(bad, Y1), on_windows)
    flat = cls().partial_fit(X1, Y1[:, 0])
    match = "y of 2 dimensions; learnt before with 1"
    refused(ValueError, match, lambda: flat.partial_fit(X1, Y1[:, :1]), flat)


# -- backends -----------------------------------------------------------------------------------


@each_forecaster
def test_a_backend_that_is_not_known_is_refused(cls):
    for e in estimators(cls, lookback=L, horizon=H, backend="abacus"):
        match = "unknown backend 'abacus'. Accepted: 'numpy'"
        refused(ValueError, match, lambda e=e: e.fit(series()), e)
    fitted = cls(L, H).fit(series()).set_params(backend="abacus:0")
    refused(ValueError, "unknown backend 'abacus:0'", fitted.predict, fitted)
    assert cls(L, H, backend=None).fit(series()).predict().shape == (H, C)


@each_forecaster
def test_a_backend_that_is_not_installed_is_refused_when_used(cls, monkeypatch):
    monkeypatch.setattr(backends, "_REGISTRY", dict(backends._REGISTRY))
    backends.register("ghost", "mixlin_has_no_such_module:Ghost")
    for e in estimators(cls, lookback=L, horizon=H, backend="ghost"):
        match = r"backend 'ghost' is not available here: .*pip install 'mixlin\[ghost\]'"
        for error in (mixlin.BackendNotAvailableError, ImportError):
            refused(error, match, lambda e=e: e.fit(series()), e)
    fitted = cls(L, H).fit(series()).set_params(backend="ghost")
    refused(mixlin.BackendNotAvailableError, "ghost", fitted.predict, fitted)


# -- stacked windows ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [3, 4, 24, 200])
@pytest.mark.parametrize("step", [1, 2])
def test_stacked_windows_are_no_series(n_columns, step):
    if 2 * step > n_columns:
        pytest.skip("the columns of neighboring rows hardly overlap")
    rows = np.random.default_rng(0).normal(size=600)
    windows = np.lib.stride_tricks.sliding_window_view(rows, n_columns)[::step]
    for e in estimators(mixlin.NLinearForecaster, lookback=L, horizon=H):
        match = f"looks like stacked windows: .* moved by {step} column.* Pass the targets as y"
        refused(ValueError, match, lambda e=e: e.fit(windows), e)
        refused(ValueError, match, lambda e=e: e.fit([windows]), e)
    holes = np.where(rows > 1.5, np.nan, rows)
    windows = np.lib.stride_tricks.sliding_window_view(holes, n_columns)[::step]
    refused(ValueError, "stacked windows", lambda e=e: e.fit(windows), e)


SERIES = {
    "zeros": np.zeros((T, 5)),
    "constants": np.ones((T, 4)) * np.arange(4),
    "zeros but for the end": np.r_[np.zeros((T - 1, 5)), [[0, 0, 0, 0, 1.0]]],
    "zeros but for the start": np.r_[[[1.0, 0, 0, 0, 0]], np.zeros((T - 1, 5))],
    "zeros but for one channel": np.c_[series(T, 1), np.zeros((T, 4))],
    "zeros but for the last channel": np.c_[np.zeros((T, 4)), series(T, 1)],
    "nan in most channels": np.c_[series(T, 2), np.full((T, 2), 3.0)],
    "one column": series(T, 1),
    "one column that repeats": np.tile([[1.0], [2.0]], (T // 2, 1)),
    "two columns that repeat": np.tile([[1.0, 2.0], [2.0, 1.0]], (T // 2, 1)),
    "two columns, one the other's lag": np.c_[series()[:-1, 0], series()[1:, 0]],
    "random": series(),
    "random wide": series(T, 300),
    "random bits": np.random.default_rng(0).integers(0, 2, (T, 5)).astype(float),
    "one-hot": np.eye(7)[np.arange(T) % 7][:, ::-1] + np.arange(7),
    "equal channels": np.repeat(series(T, 1), 5, axis=1),
    "periodic": np.sin(2 * np.pi * np.arange(T)[:, None] / 12 * np.arange(1, 6)),
    "periodic counts": (np.arange(T)[:, None] % 24) * np.arange(1, 5),
    "trends": np.arange(T)[:, None] * np.arange(1.0, 5.0),
    "a ramp cut in rows": np.arange(5.0 * T).reshape(T, 5),
}


@pytest.mark.parametrize("kind", SERIES)
def test_series_are_not_taken_for_stacked_windows(kind):
    data = SERIES[kind]
    model = mixlin.NLinearForecaster(L, H).fit(data)
    assert np.isfinite(model.predict()).all()
    assert model.predict(data).shape == (H, data.shape[1])
