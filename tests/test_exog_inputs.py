"""Regressors in frames, and every sentence about those that can't be used."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import mixlin
from mixlin import (
    AutoLinearForecaster,
    DLinearForecaster,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
    SuperLinearForecaster,
)

from .test_exog import H, L, make_data, stamps_of

READERS = [
    LinearForecaster,
    NLinearForecaster,
    DLinearForecaster,
    RLinearForecaster,
    AutoLinearForecaster,
]


@pytest.fixture
def frames():
    """Return a frame (300 rows), a frame of regressors of the same rows, and that of later ones."""
    pd = pytest.importorskip("pandas")
    values, exog = make_data(320)
    index = pd.date_range("2024-01-01", periods=320, freq="4h")
    known = pd.DataFrame(exog, index=index, columns=["promotion", "price"])
    return pd.DataFrame(values[:300], index=index[:300], columns=list("abc")), known


@pytest.mark.parametrize("cls", READERS)
def test_frames_are_aligned_by_their_labels(frames, cls):
    X, exog = frames
    reference = cls(L, H).fit(X, exog=exog.iloc[:300])
    expected = reference.predict(exog_future=exog.iloc[300:])
    assert reference.exog_names_ == ["promotion", "price"]
    rng = np.random.default_rng(0)
    shuffled = exog.iloc[rng.permutation(320)]  # labels count, not places; further rows are ignored
    model = cls(L, H).fit(X, exog=shuffled)
    found = model.predict(exog_future=shuffled[["price", "promotion"]])  # columns by their names
    assert_allclose(found, expected, rtol=1e-12)
    assert (found.index == exog.index[300 : 300 + H]).all()
    context = model.predict(X.iloc[-L - 2 :], exog=shuffled, exog_future=shuffled)
    if model.lookback_ <= L:
        assert_allclose(context, expected, rtol=1e-12)
    plain = cls(L, H).fit(X.to_numpy(), timestamps=stamps_of(300), exog=exog.to_numpy()[:300])
    assert_allclose(plain.predict(exog_future=exog.to_numpy()[300:]), expected, rtol=1e-6)


def test_frames_with_absent_labels(frames):
    X, exog = frames
    some = X.drop(X.index[[50, 51, 120]])
    model = NLinearForecaster(L, H).fit(some, exog=exog)
    gaps = X.copy()
    gaps.iloc[[50, 51, 120]] = np.nan
    reference = NLinearForecaster(L, H).fit(gaps, exog=exog)
    future = exog.iloc[300:]
    assert_allclose(
        model.predict(exog_future=future), reference.predict(exog_future=future), rtol=1e-10
    )
    by_place = NLinearForecaster(L, H).fit(some, exog=exog.loc[some.index].to_numpy())
    assert_allclose(
        by_place.predict(exog_future=future.to_numpy()),
        reference.predict(exog_future=future),
        rtol=1e-10,
    )


def test_series_and_lists_of_frames(frames):
    X, exog = frames
    parts, known = [X.iloc[:200], X.iloc[40:]], [exog["promotion"]] * 2
    model = NLinearForecaster(L, H).fit(parts, exog=known)
    assert model.exog_names_ == ["promotion"]
    found = model.predict(exog_future=known)
    assert [len(f) for f in found] == [H, H]
    assert (found[0].index == exog.index[200 : 200 + H]).all()
    assert_allclose(model.predict(parts, exog=known, exog_future=known), found, rtol=1e-12)
    model.partial_fit(X.iloc[:100], exog=exog[["promotion"]], new_series=True)


@pytest.mark.parametrize("cls", [NLinearForecaster, AutoLinearForecaster])
def test_scores_of_rows_that_continue(frames, cls):
    X, exog = frames
    model = cls(L, H).fit(X.iloc[:200], exog=exog)
    y, forecast = model._forecasts_for_scoring(X.iloc[200:], exog=exog)
    assert len(y) == 100 - H + 1
    assert_allclose(forecast[0], model.predict(exog_future=exog), rtol=1e-12)
    assert model.score(X.iloc[200:], exog=exog) > 0.8
    holed = exog.copy()
    holed.iloc[250] = np.nan
    fewer, _ = model._forecasts_for_scoring(X.iloc[200:], exog=holed)
    assert len(fewer) < len(y)


# -- bad input -------------------------------------------------------------------------------


def refused(match, call, model):
    """Assert that a call raises its sentence, and that the model is what it was."""
    before = dict(vars(model))
    with pytest.raises(ValueError, match=match):
        call()
    assert vars(model) == before


BAD_AT_FIT = {
    "shorter": (lambda u: u[:-1], "exog must have one row for every row of X, 300; got 299"),
    "longer": (lambda u: np.r_[u, u[:5]], "got 305. Rows that lie in the future belong into exog"),
    "text": (lambda u: u.astype(str), "exog holds strings"),
    "infinite": (lambda u: np.where(u > 4.2, np.inf, u), "infinity"),
    "three dimensions": (lambda u: u[None], "got shape"),
    "missing everywhere": (lambda u: u * np.nan, "a missing value in every row"),
}


@pytest.mark.parametrize("cls", READERS)
@pytest.mark.parametrize("case", BAD_AT_FIT)
def test_regressors_that_do_not_fit_to_the_rows_are_refused(cls, case):
    values, exog = make_data()
    spoil, match = BAD_AT_FIT[case]
    refused(match, lambda: model.fit(values, exog=spoil(exog)), model := cls(L, H))
    fitted = cls(L, H).fit(values, exog=exog)
    refused(match, lambda: fitted.fit(values, exog=spoil(exog)), fitted)


@pytest.mark.parametrize("cls", READERS)
def test_regressors_and_other_options(cls):
    values, exog = make_data()
    x = np.random.default_rng(0).normal(size=(40, L, 1))
    model = cls(L, H)
    refused(
        "exog needs a series or a list of them; got windows",
        lambda: model.fit(x, x[:, :H], exog=exog[:40]),
        model,
    )
    weight = np.linspace(1, 2, len(values))
    refused("weigh differently", lambda: model.fit(values, exog=exog, sample_weight=weight), model)
    refused("must be a list with", lambda: model.fit([values, values], exog=exog), model)
    refused("each of the 2 series; got 1", lambda: model.fit([values] * 2, exog=[exog]), model)
    if cls is not AutoLinearForecaster:
        own = cls(L, H, scale="series")
        refused("not supported with scale='series'", lambda: own.fit(values, exog=exog), own)


BAD_FUTURES = {
    "shorter": (lambda u: u[: H - 3], f"a row for every step to forecast, {H}; got {H - 3}"),
    "missing": (lambda u: np.where(u > 4, np.nan, u), "exog_future has .* missing values"),
    "fewer regressors": (lambda u: u[:, :1], r"the 2 regressors of the fit, \['x0', 'x1'\]; got 1"),
    "text": (lambda u: u.astype(str), "exog_future holds strings"),
    "absent": (lambda u: None, rf"fitted with the regressors .* shape \({H}, 2\)"),
}


@pytest.mark.parametrize("method", ["predict", "predict_quantiles", "predict_interval"])
@pytest.mark.parametrize("case", BAD_FUTURES)
def test_futures_that_can_not_be_used_are_refused(case, method):
    values, exog = make_data()
    model = NLinearForecaster(L, H).fit(values, exog=exog)
    spoil, match = BAD_FUTURES[case]
    call = getattr(model, method)
    refused(match, lambda: call(exog_future=spoil(exog)), model)
    refused(match, lambda: call(values, exog=exog, exog_future=spoil(exog)), model)


def test_contexts_need_theirs():
    values, exog = make_data()
    model = NLinearForecaster(L, H).fit(values, exog=exog)
    future = exog[:H]
    refused(
        "context needs those of its own rows",
        lambda: model.predict(values, exog_future=future),
        model,
    )
    refused(
        "without X the training series is continued",
        lambda: model.predict(exog=exog, exog_future=future),
        model,
    )
    refused(
        "one row for every row of X, 300; got 200",
        lambda: model.predict(values, exog=exog[:200], exog_future=future),
        model,
    )
    holed = exog.copy()
    holed[-3] = np.nan
    refused(
        f"exog has 2 missing values in the last {L} rows",
        lambda: model.predict(values, exog=holed, exog_future=future),
        model,
    )
    refused("which score needs, too", lambda: model.score(values), model)
    refused("the 2 regressors of the fit", lambda: model.score(values, exog=exog[:, :1]), model)
    refused("got no exog", lambda: model.partial_fit(values), model)
    refused(
        "the 2 regressors of the fit",
        lambda: model.partial_fit(values, exog=exog[:, :1]),
        model,
    )
    windows, beside = np.zeros((3, L, 3)), np.zeros((3, L, 2))
    refused(
        r"exog_future of windows must have shape .* \(3, 8, 2\); got \(3, 5, 2\)",
        lambda: model.predict(windows, exog=beside, exog_future=beside[:, :5]),
        model,
    )
    refused(
        r"exog of windows must have shape .* got \(3, 2\)",
        lambda: model.predict(windows, exog=beside[:, 0], exog_future=beside),
        model,
    )


@pytest.mark.parametrize("cls", READERS)
def test_models_without_regressors_refuse_them(cls):
    values, exog = make_data()
    model = cls(L, H).fit(values)
    for call in (
        lambda: model.predict(exog_future=exog),
        lambda: model.predict(values, exog=exog),
        lambda: model.predict_interval(exog_future=exog),
        lambda: model.score(values, exog=exog),
    ):
        refused("was fitted without regressors, and got exog", call, model)
    if hasattr(model, "partial_fit"):
        refused("fitted without exog", lambda: model.partial_fit(values, exog=exog), model)
    with pytest.raises(AttributeError, match="without regressors"):
        _ = model.exog_coef_
    with pytest.raises(AttributeError, match="before it is fitted"):
        _ = cls().exog_coef_
    x = np.random.default_rng(0).normal(size=(40, L))
    windows = cls().fit(x, x[:, :2])
    refused("fitted without", lambda: windows.score(x, x[:, :2], exog=exog), windows)
    refused("fitted without", lambda: windows.predict(x, exog=exog), windows)


@pytest.mark.parametrize("cls", [MoLEForecaster, SuperLinearForecaster])
def test_other_models_do_not_have_the_parameter(cls):
    values, exog = make_data()
    with pytest.raises(TypeError, match="exog"):
        cls(L, H).fit(values, exog=exog)


def test_labels_that_are_missing_are_named(frames):
    X, exog = frames
    model = NLinearForecaster(L, H)
    refused(
        "exog has no row for the label 2024-01-03 00:00:00 of X",
        lambda: model.fit(X, exog=exog.drop(exog.index[12])),
        model,
    )
    refused(
        "label 2024-02-14 00:00:00 and 35 others of X",
        lambda: model.fit(X, exog=exog.iloc[:264]),
        model,
    )
    model.fit(X, exog=exog)
    refused(
        "exog_future has no row for the label 2024-02-20 12:00:00 and 4 others to forecast",
        lambda: model.predict(exog_future=exog.iloc[:303]),
        model,
    )
    moved = exog.set_axis(exog.index.tz_localize("UTC"))
    refused("no row for the label 2024-02-20 00", lambda: model.predict(exog_future=moved), model)
    twice = exog.iloc[[*range(310), 305]]
    refused("duplicate labels, such as", lambda: model.predict(exog_future=twice), model)
    other = exog.rename(columns={"price": "cost"})
    refused(
        r"the regressors of the fit, \['promotion', 'price'\]; got \['promotion', 'cost'\]",
        lambda: model.predict(exog_future=other),
        model,
    )
    same = exog.set_axis(["a", "a"], axis=1)
    refused("two columns of one name", lambda: model.fit(X, exog=same), model)
    text = exog.assign(price="high")
    refused("columns that are no numbers: price", lambda: model.fit(X, exog=text), model)


def test_long_frames_are_refused(frames):
    pd = pytest.importorskip("pandas")
    X, exog = frames
    long = pd.concat(
        [pd.DataFrame({"unique_id": c, "ds": X.index, "y": X[c].to_numpy()}) for c in "ab"]
    )
    model = NLinearForecaster(L, H)
    refused("got a long frame", lambda: model.fit(long, exog=exog), model)
    model.fit(long)
    refused("without regressors", lambda: model.predict_interval(exog_future=exog), model)
    refused("without regressors", lambda: model.score(long, exog=exog), model)


def test_a_plan_says_what_it_needs():
    values, exog = make_data()
    plan = NLinearForecaster(L, H).fit(values, exog=exog).plan_
    assert plan.needs_exog
    assert not NLinearForecaster(L, H).fit(values).plan_.needs_exog
    with pytest.raises(ValueError, match="this model has regressors"):
        plan.forecast(np.zeros((1, 3, L)), H, mixlin.backends.resolve("numpy"))
