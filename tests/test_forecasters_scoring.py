"""Which windows ``score`` counts, and what it makes of them, against values computed by hand."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from sklearn.metrics import r2_score

import mixlin
from mixlin.base import BaseForecaster
from mixlin.metrics import forecast_scorer
from mixlin.windows import make_windows

PUBLIC = [getattr(mixlin, name) for name in mixlin.__all__]
FORECASTERS = [c for c in PUBLIC if inspect.isclass(c) and issubclass(c, BaseForecaster)]
L, H, C, T = 12, 4, 2, 200

each_forecaster = pytest.mark.parametrize("cls", FORECASTERS, ids=lambda c: c.__name__)


def series(n_rows=T + 60, n_channels=C):
    t = np.arange(n_rows)[:, None]
    noise = np.random.default_rng(0).normal(scale=0.3, size=(n_rows, n_channels))
    return np.sin(2 * np.pi * t / 12 + np.arange(n_channels)) * [[1.0, 50.0]][:n_channels] + noise


def by_hand(model, rows):
    """Pool the steps of a channel, average the channels' coefficients of determination."""
    X, y = make_windows(rows, L, H)
    forecast = model.predict(X)
    figures = []
    for c in range(rows.shape[1]):
        error = ((forecast[:, :, c] - y[:, :, c]) ** 2).sum()
        spread = ((y[:, :, c] - y[:, :, c].mean()) ** 2).sum()
        figures.append(1 - error / spread)
    return float(np.mean(figures))


TRAIN, FOLD = series()[:T], series()[T:]


@each_forecaster
@pytest.mark.parametrize("n_targets", [None, 1, H])
def test_windows_are_scored_as_scikit_learn_does(cls, n_targets):
    X, y = make_windows(series()[:, 0], L, H)
    y = y[:, 0] if n_targets is None else y[:, :n_targets]
    model = cls().fit(X, y)
    assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)), rel=1e-12)
    weight = np.random.default_rng(1).uniform(size=len(X))
    expected = r2_score(y, model.predict(X), sample_weight=weight)
    assert model.score(X, y, weight) == pytest.approx(expected, rel=1e-12)
    assert model.score(X, y, sample_weight=weight) != model.score(X, y)


def test_windows_of_channels_are_scored_output_by_output():
    X, y = make_windows(series(), L, H)
    model = mixlin.LinearForecaster().fit(X, y)
    flat = r2_score(y.reshape(len(y), -1), model.predict(X).reshape(len(y), -1))
    assert model.score(X, y) == pytest.approx(flat, rel=1e-12)


@each_forecaster
def test_an_array_that_goes_on_is_glued_to_the_training_tail(cls):
    model = cls(L, H).fit(TRAIN)
    glued = by_hand(model, np.concatenate([TRAIN[-L:], FOLD]))
    inside = by_hand(model, FOLD)
    assert glued != pytest.approx(inside, rel=1e-6)
    assert model.score(FOLD) == pytest.approx(glued, rel=1e-9)
    assert model.score(FOLD[:H]) == pytest.approx(
        by_hand(model, np.concatenate([TRAIN[-L:], FOLD[:H]])), rel=1e-9
    )
    assert model.score([FOLD]) == pytest.approx(inside, rel=1e-9)  # a list is never glued


@each_forecaster
@pytest.mark.parametrize("start", [0, 1, 37, T - 40])
@pytest.mark.parametrize("n_rows", [31, 40, T])
def test_an_array_of_training_rows_is_scored_on_the_windows_inside(cls, start, n_rows):
    model = cls(L, H).fit(TRAIN)
    rows = series()[start : min(start + n_rows, T + 60)]
    assert model.score(rows) == pytest.approx(by_hand(model, rows), rel=1e-9)


@pytest.mark.parametrize("n_rows", [2, 5, 15, 16, 17, 30, 31, 100])
def test_the_training_series_itself_is_never_glued(n_rows):
    rows = series()[:n_rows]
    model = mixlin.NLinearForecaster(1, 1).fit(rows)
    X, y = make_windows(rows, 1, 1)
    assert forecasts(model, rows) == n_rows - 1
    if n_rows > 2:  # one target has no spread
        expected = r2_score(y[:, 0], model.predict(X)[:, 0])
        assert model.score(rows) == pytest.approx(expected, rel=1e-9)


def forecasts(model, rows):
    return len(model._forecasts_for_scoring(rows)[0])


def test_rows_seen_by_partial_fit_are_training_rows_too():
    model = mixlin.NLinearForecaster(L, H).partial_fit(TRAIN[:100]).partial_fit(TRAIN[100:])
    for start in (0, 20, 100, 130):
        assert forecasts(model, TRAIN[start:]) == T - start - L - H + 1
    assert forecasts(model, FOLD) == len(FOLD) - H + 1
    twice = mixlin.NLinearForecaster(L, H).partial_fit(TRAIN).partial_fit(FOLD, new_series=True)
    assert forecasts(twice, TRAIN) == T - L - H + 1
    assert forecasts(twice, FOLD) == len(FOLD) - L - H + 1


def test_models_of_many_series_have_no_tail_to_continue():
    model = mixlin.NLinearForecaster(L, H).fit([TRAIN[:90], TRAIN[90:]])
    assert forecasts(model, FOLD) == len(FOLD) - L - H + 1
    assert model.score(FOLD) == pytest.approx(by_hand(model, FOLD), rel=1e-9)
    both = model._forecasts_for_scoring([TRAIN, FOLD])
    assert len(both[0]) == T + len(FOLD) - 2 * (L + H - 1)


def test_one_channel_keeps_its_shape():
    model = mixlin.LinearForecaster(L, H).fit(TRAIN[:, 0])
    y_true, y_pred = model._forecasts_for_scoring(FOLD[:, 0])
    assert y_true.shape == y_pred.shape == (len(FOLD) - H + 1, H)
    windows = np.lib.stride_tricks.sliding_window_view(FOLD[:, 0], H)
    np.testing.assert_array_equal(y_true, windows)
    expected = 1 - ((y_true - y_pred) ** 2).sum() / ((y_true - y_true.mean()) ** 2).sum()
    assert model.score(FOLD[:, 0]) == pytest.approx(expected, rel=1e-12)


def test_a_naive_forecast_scores_what_it_should():
    state = {"Linear.weight": np.zeros((2, 3)), "Linear.bias": np.zeros(2)}
    naive = mixlin.NLinearForecaster.from_state_dict(state)  # repeats the last value
    rows = np.array([0.0, 1.0, 3.0, 2.0, 5.0, 4.0])
    targets = np.array([[2.0, 5.0], [5.0, 4.0]])
    last = np.array([[3.0], [2.0]])
    expected = 1 - ((targets - last) ** 2).sum() / ((targets - 4.0) ** 2).sum()
    assert naive.score(rows) == pytest.approx(expected)
    assert forecast_scorer("mae")(naive, rows) == pytest.approx(-np.abs(targets - last).mean())


# -- by index and by timestamps -----------------------------------------------------------------

FREQS = ["h", "D", "MS", "B", "QS", "W-MON"]


@pytest.mark.parametrize("freq", FREQS)
@pytest.mark.parametrize("kind", ["frame", "series"])
def test_frames_are_glued_where_their_index_continues(freq, kind):
    pd = pytest.importorskip("pandas")
    index = pd.date_range("1990-01-01", periods=T + 60, freq=freq)
    frame = pd.DataFrame(series(), index=index, columns=["a", "b"])
    whole = frame if kind == "frame" else frame["b"]
    model = mixlin.LinearForecaster(L, H).fit(whole.iloc[:T])
    for n_rows in (H, H + 1, 60):
        assert forecasts(model, whole.iloc[T : T + n_rows]) == n_rows - H + 1
    for start in (0, 50, T - 30, T + 1, T + 5):
        part = whole.iloc[start : start + 30]
        assert forecasts(model, part) == 30 - L - H + 1
    if kind == "frame":
        arrays = mixlin.LinearForecaster(L, H).fit(TRAIN)
        assert model.score(frame.iloc[T:]) == pytest.approx(arrays.score(FOLD), rel=1e-9)
        later = frame.iloc[T + 5 :]
        assert model.score(later) == pytest.approx(by_hand(arrays, FOLD[5:]), rel=1e-9)


def test_the_index_decides_even_where_rows_repeat():
    pd = pytest.importorskip("pandas")
    rows = np.tile(series()[:24], (10, 1))
    frame = pd.DataFrame(rows)
    model = mixlin.LinearForecaster(L, H).fit(frame.iloc[:120])
    assert forecasts(model, frame.iloc[120:160]) == 40 - H + 1
    assert forecasts(model, frame.iloc[:40]) == 40 - L - H + 1
    arrays = mixlin.LinearForecaster(L, H).fit(rows[:120])  # all that an array can tell
    assert forecasts(arrays, rows[120:160]) == 40 - L - H + 1


def test_arrays_with_timestamps_are_glued_where_these_continue():
    stamps = np.datetime64("2024-01-01T00") + np.arange(T + 60) * np.timedelta64(1, "h")
    model = mixlin.LinearForecaster(L, H).fit(TRAIN, timestamps=stamps[:T])

    def n_windows(rows, stamps):
        return len(model._forecasts_for_scoring(rows, timestamps=stamps)[0])

    assert n_windows(FOLD, stamps[T:]) == 60 - H + 1
    assert n_windows(FOLD, stamps[T:] + np.timedelta64(1, "h")) == 60 - L - H + 1
    assert n_windows(TRAIN, stamps[:T]) == T - L - H + 1
    assert model.score(FOLD, timestamps=stamps[T:]) == pytest.approx(
        by_hand(model, np.concatenate([TRAIN[-L:], FOLD])), rel=1e-9
    )
    scorer = forecast_scorer("mse")
    y_true, y_pred = model._forecasts_for_scoring(FOLD, timestamps=stamps[T:])
    expected = -((y_true - y_pred) ** 2).mean()
    assert scorer(model, FOLD, timestamps=stamps[T:]) == pytest.approx(expected, rel=1e-12)


def test_windows_that_touch_a_gap_are_left_out_of_the_score():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(series())
    model = mixlin.LinearForecaster(L, H).fit(frame.iloc[:T])
    fold = frame.iloc[T:].drop(index=T + 30)
    parts = [np.concatenate([TRAIN[-L:], FOLD[:30]]), FOLD[31:]]
    X, y = (np.concatenate(p) for p in zip(*(make_windows(p, L, H) for p in parts), strict=True))
    y_true, y_pred = model._forecasts_for_scoring(fold)
    np.testing.assert_array_equal(y_true, y)
    np.testing.assert_allclose(y_pred, model.predict(X), rtol=1e-12)


# -- weights ------------------------------------------------------------------------------------


def test_a_window_counts_with_the_mean_weight_of_its_targets():
    model = mixlin.LinearForecaster(L, H).fit(TRAIN)
    weight = np.random.default_rng(2).uniform(size=len(FOLD))
    y_true, y_pred = model._forecasts_for_scoring(FOLD)
    each = np.array([weight[k : k + H].mean() for k in range(len(y_true))])
    expected = []
    for c in range(C):
        t, p = y_true[:, :, c], y_pred[:, :, c]
        w = each[:, None] * np.ones(H)
        center = (w * t).sum() / w.sum()
        expected.append(1 - (w * (t - p) ** 2).sum() / (w * (t - center) ** 2).sum())
    assert model.score(FOLD, sample_weight=weight) == pytest.approx(np.mean(expected), rel=1e-9)
    assert model.score(FOLD, sample_weight=np.full(len(FOLD), 3.0)) == pytest.approx(
        model.score(FOLD), rel=1e-9
    )


def test_many_series_have_a_weight_each():
    model = mixlin.LinearForecaster(L, H).fit(TRAIN)
    only = model.score([TRAIN, FOLD], sample_weight=[1.0, 0.0])
    assert only == pytest.approx(by_hand(model, TRAIN), rel=1e-9)
    both = model.score([TRAIN, FOLD], sample_weight=[2.0, 2.0])
    assert both == pytest.approx(model.score([TRAIN, FOLD]), rel=1e-9)
