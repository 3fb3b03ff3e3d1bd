"""Whatever series and windows come in, forecasts leave in the same kind of container."""

from __future__ import annotations

import gc
import inspect
import pickle
import weakref

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.utils._testing import ignore_warnings

import mixlin
from mixlin.base import BaseForecaster, ExogForecaster
from mixlin.windows import make_windows

PUBLIC = [getattr(mixlin, name) for name in mixlin.__all__]
FORECASTERS = [c for c in PUBLIC if inspect.isclass(c) and issubclass(c, BaseForecaster)]
L, H, C, T = 24, 6, 3, 300

ZERO_SHOT = [mixlin.SuperLinearForecaster]  # these learn nothing
WITHOUT_UPDATES = [mixlin.AutoLinearForecaster, mixlin.MoLEForecaster, *ZERO_SHOT]


def each(classes):
    return pytest.mark.parametrize("cls", classes, ids=lambda c: c.__name__)


each_forecaster, each_zero_shot = each(FORECASTERS), each(ZERO_SHOT)


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


def series(n_rows=T, n_channels=C, dtype=np.float64, seed=0):
    t = np.arange(n_rows)[:, None]
    waves = 5 + np.sin(2 * np.pi * t / 12 + np.arange(n_channels)) * (1 + np.arange(n_channels))
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(n_rows, n_channels))
    return (waves + noise).astype(dtype)


def same_state(estimator, before):
    after = vars(estimator)
    return after.keys() == before.keys() and all(after[k] is before[k] for k in before)


# -- windows ------------------------------------------------------------------------------------


@each_forecaster
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_windows_forecast_in_the_shape_of_y_and_the_dtype_of_x(cls, dtype):
    X, y = make_windows(series(dtype=dtype), L, H)
    cases = [
        (X[:, :, 0], y[:, 0, 0], ()),
        (X[:, :, 0], y[:, :1, 0], (1,)),
        (X[:, :, 0], y[:, :, 0], (H,)),
        (X, y, (H, C)),
        (X[:, :, :1], y[:, :, :1], (H, 1)),
    ]
    for inputs, targets, shape in cases:
        model = cls().fit(inputs, targets)
        forecast = model.predict(inputs[:5])
        assert type(forecast) is np.ndarray
        assert forecast.shape == (5, *shape)
        assert forecast.dtype == dtype
        assert model.predict_quantiles(inputs[:5]).shape == (5, *shape, 3)
        assert model.predict_interval(inputs[:5]).shape == (5, *shape, 2)
        assert model.predict_interval(inputs[:5]).dtype == dtype
        assert model.mode_ == "windows"
        assert (model.lookback_, model.horizon_) == (L, shape[0] if shape else 1)
        assert model.n_features_in_ == L
        assert model.n_channels_in_ == (inputs.shape[2] if inputs.ndim == 3 else 1)
        assert not hasattr(model, "context_")


@each_forecaster
def test_integers_and_lists_are_numbers_too(cls):
    X, y = make_windows(np.round(series()[:, 0] * 100), L, H)
    expected = cls().fit(X, y).predict(X[:3])
    from_ints = cls().fit(X.astype(int), y.astype(int)).predict(X[:3].astype(int))
    assert from_ints.dtype == np.float64
    assert (from_ints == expected).all()
    assert (cls().fit(X.tolist(), y.tolist()).predict(X[:3].tolist()) == expected).all()
    as_list = np.round(series()[:, 0] * 100).tolist()
    forecast = cls(L, H).fit(as_list).predict()
    assert forecast.shape == (H,)
    assert (forecast == cls(L, H).fit(np.array(as_list)).predict(as_list)).all()


@each_forecaster
def test_a_shorter_lookback_reads_the_last_columns_of_windows(cls):
    X, y = make_windows(series(), L, H)
    model = cls(lookback=10).fit(X, y)
    direct = cls().fit(X[:, -10:], y)
    assert model.lookback_ == 10
    assert model.n_features_in_ == L
    np.testing.assert_allclose(model.predict(X), direct.predict(X[:, -10:]), rtol=1e-12)
    changed = X.copy()
    changed[:, :-10] = 1e3
    assert (model.predict(changed) == model.predict(X)).all()


@each_forecaster
def test_windows_in_a_frame_keep_their_column_names(cls, pd):
    X, y = make_windows(series()[:, 0], L, H)
    frame = pd.DataFrame(X, columns=[f"lag{k}" for k in range(L, 0, -1)])
    model = cls().fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    np.testing.assert_allclose(model.predict(frame), cls().fit(X, y).predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


# -- series of arrays ---------------------------------------------------------------------------


@each_forecaster
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_channels", [None, 1, C])
def test_series_forecast_in_their_own_shape_and_dtype(cls, dtype, n_channels):
    data = series(dtype=dtype)[:, 0] if n_channels is None else series(T, n_channels, dtype)
    width = () if n_channels is None else (n_channels,)
    model = cls(lookback=L, horizon=H).fit(data)
    assert (model.mode_, model.lookback_, model.horizon_) == ("series", L, H)
    assert model.n_features_in_ == model.n_channels_in_ == (n_channels or 1)
    assert model.cutoff_ is None
    assert model.freq_ is None
    assert model.context_.shape == (L, n_channels or 1)
    assert (model.context_ == data.reshape(T, -1)[-L:]).all()

    continued = model.predict()
    assert continued.shape == (H, *width)
    assert continued.dtype == dtype
    assert (model.predict(data) == continued).all()
    assert (model.predict(data[-L:]) == continued).all()
    assert (model.predict(data[-L - 5 :]) == continued).all()
    moved = model.predict(data[:-1])
    assert moved.shape == continued.shape
    assert not (moved == continued).all()

    windows = np.stack([data.reshape(T, -1)[k : k + L] for k in (0, 50, T - L)])
    stacked = model.predict(windows)
    assert stacked.shape == (3, H, n_channels or 1)
    assert stacked.dtype == dtype
    np.testing.assert_allclose(stacked[-1].reshape(continued.shape), continued, rtol=1e-6)
    longer = np.concatenate([np.full((3, 4, n_channels or 1), 9.0, dtype), windows], axis=1)
    assert (model.predict(longer) == stacked).all()


@each_forecaster
def test_a_shorter_horizon_is_the_first_steps(cls):
    model = cls(L, H).fit(series())
    whole = model.predict()
    for horizon in (1, np.int64(3), H):
        assert (model.predict(horizon=horizon) == whole[:horizon]).all()
        assert model.predict_quantiles(horizon=horizon).shape == (horizon, C, 3)
        assert model.predict(series()[None, :L], horizon=horizon).shape == (1, horizon, C)
    X, y = make_windows(series()[:, 0], L, H)
    on_windows = cls().fit(X, y)
    assert (on_windows.predict(X, horizon=2) == on_windows.predict(X)[:, :2]).all()


@each_forecaster
def test_quantiles_and_intervals_add_an_axis_and_are_ordered(cls):
    model = cls(L, H).fit(series())
    quantiles = model.predict_quantiles(None, [0.05, 0.5, 0.95])
    assert quantiles.shape == (H, C, 3)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    if cls in ZERO_SHOT:  # a mixture of distributions: its mean is forecast, which is no quantile
        assert (quantiles[..., 0] < model.predict()).all()
        assert (model.predict() < quantiles[..., 2]).all()
    else:
        np.testing.assert_allclose(quantiles[..., 1], model.predict(), rtol=1e-12)
    interval = model.predict_interval(coverage=0.9)
    assert (interval == quantiles[..., [0, 2]]).all()
    assert model.predict_quantiles(quantiles=0.5).shape == (H, C, 1)
    one = cls(L, H).fit(series()[:, 0])
    assert one.predict_interval().shape == (H, 2)
    assert one.predict_interval(series()[None, :L, :1]).shape == (1, H, 1, 2)


def test_lookback_defaults_to_a_third_of_the_series_up_to_336():
    cls = mixlin.NLinearForecaster
    rows = series(1300, 1)
    assert cls(horizon=3).fit(rows[:100]).lookback_ == 33
    assert cls(horizon=3).fit(rows[:1007]).lookback_ == 335
    assert cls(horizon=3).fit(rows[:1008]).lookback_ == 336
    assert cls(horizon=3).fit(rows).lookback_ == 336
    assert cls(horizon=3).fit([rows[:100], rows[:60]]).lookback_ == 20
    assert cls(horizon=1).fit(rows[:2]).lookback_ == 1


@each_forecaster
@pytest.mark.parametrize("container", [list, tuple])
def test_many_series_come_back_as_a_list(cls, container):
    data = series()
    many = container([data[:100], data[120:200].astype(np.float32), data[210:]])
    model = cls(L, H).fit(many)
    forecasts = model.predict()
    assert isinstance(forecasts, list)
    assert [f.shape for f in forecasts] == [(H, C)] * 3
    assert [f.dtype for f in forecasts] == [np.float64, np.float32, np.float64]
    assert isinstance(model.context_, list)
    assert (model.context_[0] == many[0][-L:]).all()
    assert model.cutoff_ == model.freq_ == [None] * 3
    again = model.predict(many)
    for a, b, item in zip(forecasts, again, many, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(model.predict(item), a, rtol=1e-6)
    assert [f.shape for f in model.predict_interval(coverage=0.5)] == [(H, C, 2)] * 3
    assert len(model.predict([data])) == 1


def test_windows_of_many_series_do_not_cross_their_ends():
    data = series()
    parts = [data[:150], data[150:]]
    joined = mixlin.LinearForecaster(L, H, scale=None).fit(parts)
    X, y = (np.concatenate(a) for a in zip(*(make_windows(p, L, H) for p in parts), strict=True))
    np.testing.assert_allclose(
        joined.predict(X), mixlin.LinearForecaster().fit(X, y).predict(X), rtol=1e-8
    )


@each([c for c in FORECASTERS if c not in (mixlin.AutoLinearForecaster, *ZERO_SHOT)])
def test_a_missing_value_leaves_out_exactly_the_windows_that_touch_it(cls):
    data = series()
    data[100, 1] = np.nan
    gap = cls(L, H, alpha=0.1).fit(data)
    # the other channels keep their windows; a lone channel falls into two series
    lone = cls(L, H, alpha=0.1).fit(data[:, [1]])
    split = cls(L, H, alpha=0.1).fit([data[:100, [1]], data[101:, [1]]])
    np.testing.assert_allclose(lone.predict(data[-L:, [1]]), split.predict(data[-L:, [1]]))
    assert np.isfinite(gap.predict()).all()


@each_zero_shot
def test_a_missing_value_matters_to_its_channel_alone_and_only_where_it_is_read(cls):
    whole = cls(L, H).fit(series())
    for row, read in ((T - L - 1, False), (T - L, True), (T - 5, True), (T - 1, True)):
        data = series()
        data[row, 1] = np.nan
        gap, others = cls(L, H).fit(data), [0, 2]
        assert np.isfinite(gap.predict()).all()
        np.testing.assert_allclose(gap.predict()[:, others], whole.predict()[:, others], rtol=1e-9)
        assert (gap.predict()[:, 1] != whole.predict()[:, 1]).any() == read
        assert (gap.predict() == whole.predict(data)).all()


# -- frames -------------------------------------------------------------------------------------


def indexes(pd):
    """Return indexes by name, and the first labels that continue each."""
    utc = pd.date_range("2024-01-01", periods=T, freq="h", tz="UTC")
    berlin = {"tz": "Europe/Berlin"}
    made = {
        "hours": pd.date_range("2024-01-01", periods=T + H, freq="h"),
        "15 minutes": pd.date_range("2024-01-01", periods=T + H, freq="15min"),
        "utc": utc.append(pd.date_range(utc[-1], periods=H + 1, freq="h")[1:]),
        "hours over spring": pd.date_range("2024-03-20", periods=T + H, freq="h", **berlin),
        "hours into spring": pd.date_range("2024-03-18 15:00", periods=T + H, freq="h", **berlin),
        "hours into autumn": pd.date_range("2024-10-14 16:00", periods=T + H, freq="h", **berlin),
        "days over spring": pd.date_range("2024-01-01", periods=T + H, freq="D", **berlin),
        "days into autumn": pd.date_range("2024-01-01", periods=T + H, freq="D", **berlin),
        "weeks": pd.date_range("2010-01-03", periods=T + H, freq="W-SUN"),
        "months": pd.date_range("1990-01-01", periods=T + H, freq="MS"),
        "month ends": pd.date_range("1990-01-31", periods=T + H, freq="ME"),
        "business days": pd.date_range("2020-01-01", periods=T + H, freq="B"),
        "quarters": pd.date_range("1930-01-01", periods=T + H, freq="QS"),
        "quarter ends": pd.date_range("1930-01-31", periods=T + H, freq="QE-JAN"),
        "years": pd.date_range("1700-01-01", periods=T + H, freq="YS", unit="s"),
        "periods": pd.period_range("1990-01", periods=T + H, freq="M"),
        "quarter periods": pd.period_range("1930Q1", periods=T + H, freq="Q"),
        "two-month periods": pd.period_range("1930-01", periods=T + H, freq="2M"),
        "durations": pd.timedelta_range("0h", periods=T + H, freq="30min"),
        "rows": pd.RangeIndex(T + H),
        "rows by five": pd.RangeIndex(7, 7 + 5 * (T + H), 5),
        "integers": pd.Index(np.arange(3, 3 + T + H)),
    }
    return {name: (index[:T], index[T:]) for name, index in made.items()}


INDEXES = [
    *("hours", "15 minutes", "utc", "hours over spring", "hours into spring", "hours into autumn"),
    *("days over spring", "days into autumn", "weeks", "months", "month ends", "business days"),
    *("quarters", "quarter ends", "years", "periods", "quarter periods", "two-month periods"),
    *("durations", "rows", "rows by five", "integers"),
]


def test_the_list_of_indexes_is_complete(pd):
    assert set(INDEXES) == set(indexes(pd))


@pytest.mark.parametrize("with_freq", [True, False], ids=["freq", "no freq"])
@pytest.mark.parametrize("name", INDEXES)
def test_forecasts_of_a_frame_continue_its_index(pd, name, with_freq):
    index, following = indexes(pd)[name]
    if not with_freq:
        index = pd.Index(index.to_list()) if "period" not in name else index
    index = index.rename("when")
    frame = pd.DataFrame(series(), index=index, columns=["a", "b", "c"])
    model = mixlin.NLinearForecaster(L, H).fit(frame)
    forecast = model.predict()
    assert isinstance(forecast, pd.DataFrame)
    assert forecast.index.tolist() == following.tolist()
    assert forecast.index.name == "when"
    assert forecast.columns.equals(frame.columns)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.cutoff_ == index[-1]
    assert model.freq_ is not None
    arrays = mixlin.NLinearForecaster(L, H).fit(series()).predict()
    np.testing.assert_allclose(forecast.to_numpy(), arrays, rtol=1e-10)
    pd.testing.assert_frame_equal(model.predict(frame.iloc[-L:]), forecast)
    earlier = model.predict(frame.iloc[:-H])
    assert earlier.index.tolist() == index[-H:].tolist()
    assert model.predict(horizon=2).index.tolist() == following[:2].tolist()


def test_a_pandas_series_comes_back_as_one(pd):
    index = pd.date_range("2024-01-01", periods=T, freq="h")
    load = pd.Series(series(dtype=np.float32)[:, 0], index=index, name="load")
    model = mixlin.DLinearForecaster(L, H).fit(load)
    forecast = model.predict()
    assert isinstance(forecast, pd.Series)
    assert forecast.name == "load"
    assert forecast.dtype == np.float32
    assert forecast.index.equals(pd.date_range(index[-1], periods=H + 1, freq="h")[1:])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 1
    # other containers of one channel are contexts too
    assert model.predict(load.to_numpy()).shape == (H,)
    assert model.predict(load.to_numpy()[:, None]).shape == (H, 1)
    renamed = model.predict(load.rename("other"))
    assert renamed.name == "other"


def test_quantiles_of_frames_have_a_column_per_channel_and_quantile(pd):
    index = pd.date_range("2024-01-01", periods=T, freq="h")
    frame = pd.DataFrame(series(), index=index, columns=["a", "b", "c"])
    model = mixlin.LinearForecaster(L, H).fit(frame)
    quantiles = model.predict_quantiles()
    assert quantiles.columns.tolist() == [(c, q) for c in "abc" for q in (0.1, 0.5, 0.9)]
    assert quantiles.columns.names == ["channel", "quantile"]
    pd.testing.assert_index_equal(quantiles.index, model.predict().index)
    arrays = mixlin.LinearForecaster(L, H).fit(series()).predict_quantiles()
    np.testing.assert_allclose(quantiles["b"].to_numpy(), arrays[:, 1], rtol=1e-9)
    np.testing.assert_allclose(quantiles[("c", 0.9)].to_numpy(), arrays[:, 2, 2], rtol=1e-9)
    interval = model.predict_interval(coverage=0.8)
    assert interval.columns.tolist() == [(c, q) for c in "abc" for q in (0.1, 0.9)]
    one = mixlin.LinearForecaster(L, H).fit(frame["a"]).predict_interval()
    assert one.columns.tolist() == [("a", 0.05), ("a", 0.95)]
    unnamed = mixlin.LinearForecaster(L, H).fit(frame["a"].rename(None)).predict_interval()
    assert unnamed.shape == (H, 2)


def test_columns_with_levels_and_numbers_come_back(pd):
    levels = pd.MultiIndex.from_product([["site"], ["a", "b", "c"]], names=["where", "what"])
    for columns in (levels, pd.RangeIndex(C), pd.Index([10, 20, 30], name="sensor")):
        frame = pd.DataFrame(series(), columns=columns)
        model = mixlin.NLinearForecaster(L, H).fit(frame)
        pd.testing.assert_index_equal(model.predict().columns, columns)
        assert model.predict_quantiles().shape == (H, 3 * C)
        assert not hasattr(model, "feature_names_in_")


def test_many_frames_each_keep_their_own_index(pd):
    frame = pd.DataFrame(series(), index=pd.date_range("2024-01-01", periods=T, freq="h"))
    frame.columns = ["a", "b", "c"]
    parts = [frame.iloc[:100], frame.iloc[150:], frame.iloc[:80].shift(freq="400D")]
    model = mixlin.NLinearForecaster(L, H).fit(parts)
    forecasts = model.predict()
    for part, forecast, cutoff in zip(parts, forecasts, model.cutoff_, strict=True):
        assert cutoff == part.index[-1]
        assert forecast.index[0] == part.index[-1] + pd.Timedelta("1h")
        assert forecast.columns.tolist() == ["a", "b", "c"]
    assert model.freq_ == ["h"] * 3
    mixed = mixlin.NLinearForecaster(L, H).fit([series()[:, 0], frame["a"]]).predict()
    assert isinstance(mixed[0], np.ndarray)
    assert isinstance(mixed[1], pd.Series)


@pytest.mark.parametrize("name", ["hours", "days over spring", "business days", "months", "rows"])
def test_missing_labels_are_gaps(pd, name):
    index, following = indexes(pd)[name]
    frame = pd.DataFrame(series(), index=index)
    keep = np.ones(T, dtype=bool)
    keep[[90, 91, 180]] = False
    holes = frame.copy()
    holes[~keep] = np.nan
    model = mixlin.LinearForecaster(L, H).fit(frame[keep])
    forecast = model.predict()
    assert forecast.index.tolist() == following.tolist()
    expected = mixlin.LinearForecaster(L, H).fit(holes).predict().to_numpy()
    np.testing.assert_allclose(forecast.to_numpy(), expected, rtol=1e-9)


def test_pandas_extension_dtypes_are_read(pd):
    frame = pd.DataFrame(np.round(series() * 100)).astype("Int64")
    frame.iloc[50, 0] = pd.NA
    plain = frame.astype(float)
    model = mixlin.NLinearForecaster(L, H)
    np.testing.assert_array_equal(model.fit(frame).predict(), model.fit(plain).predict())


def test_channels_of_a_frame_are_compared_by_name(pd):
    frame = pd.DataFrame(series(), columns=["a", "b", "c"])
    model = mixlin.NLinearForecaster(L, H).fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["c", "b", "a"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert type(model.predict(frame.to_numpy())) is np.ndarray


# -- timestamps ---------------------------------------------------------------------------------


def test_timestamps_say_where_an_array_ends_and_what_it_misses():
    stamps = np.datetime64("2024-01-01T00") + np.arange(T) * np.timedelta64(1, "h")
    model = mixlin.LinearForecaster(L, H).fit(series(), timestamps=stamps)
    assert model.cutoff_ == stamps[-1]
    assert model.freq_ == "1h"
    assert type(model.predict()) is np.ndarray
    keep = np.r_[0:100, 103:T]
    gaps = mixlin.LinearForecaster(L, H).fit(series()[keep], timestamps=stamps[keep])
    holes = series()
    holes[100:103] = np.nan
    expected = mixlin.LinearForecaster(L, H).fit(holes).predict()
    np.testing.assert_array_equal(gaps.predict(), expected)
    assert (gaps.predict(series()[-L:], timestamps=stamps[-L:]) == expected).all()
    with pytest.raises(ValueError, match="missing value"):
        gaps.predict(series()[keep][: 100 + 5], timestamps=stamps[keep][: 100 + 5])


def test_timestamps_of_many_series_are_a_list():
    stamps = np.datetime64("2024-01-01") + np.arange(T) * np.timedelta64(1, "D")
    many = [series(), series(seed=1)[:200]]
    model = mixlin.LinearForecaster(L, H).fit(many, timestamps=[stamps, stamps[100:]])
    assert model.cutoff_ == [stamps[-1], stamps[-1]]
    assert model.freq_ == ["1D", "1D"]
    with pytest.raises(ValueError, match="one array per series, 2; got 1"):
        model.fit(many, timestamps=[stamps])


def test_the_index_of_a_frame_is_not_overruled(pd):
    frame = pd.DataFrame(series())
    stamps = np.datetime64("2024-01-01") + np.arange(T) * np.timedelta64(1, "D")
    with pytest.raises(ValueError, match="a frame's own index tells the time"):
        mixlin.LinearForecaster(L, H).fit(frame, timestamps=stamps)


def test_timestamps_are_requested_from_metadata_routing():
    model = mixlin.LinearForecaster(L, H)
    with sklearn.config_context(enable_metadata_routing=True):
        requests = model.get_metadata_routing()
        for method in ("fit", "partial_fit", "predict", "score"):
            assert getattr(requests, method).requests["timestamps"] is True


# -- what an estimator is -----------------------------------------------------------------------


@each_forecaster
def test_predicting_leaves_the_estimator_untouched(cls):
    model = cls(L, H).fit(series())
    before = dict(vars(model))
    saved = pickle.dumps(model.context_)
    model.predict()
    model.predict(series()[:50])
    model.predict(series()[None, :L])
    model.predict_quantiles()
    model.predict_interval()
    model.score(series())
    assert same_state(model, before)
    assert pickle.dumps(model.context_) == saved
    X, y = make_windows(series(), L, H)
    on_windows = cls().fit(X, y)
    before = dict(vars(on_windows))
    on_windows.predict(X)
    on_windows.score(X, y)
    assert same_state(on_windows, before)


@each_forecaster
def test_neither_fit_nor_predict_writes_to_its_input(cls):
    data = series()
    copy = data.copy()
    data.flags.writeable = False
    model = cls(L, H).fit(data)
    forecast = model.predict(data)
    forecast[:] = 0.0
    assert (data == copy).all()
    assert (model.predict() != 0).any()
    X, y = make_windows(data, L, H)
    assert not X.flags.writeable
    cls().fit(X, y, sample_weight=np.ones(len(X))).predict(X)
    assert (data == copy).all()


@each_forecaster
def test_the_training_array_is_not_kept_alive(cls):
    data = series(2000)
    assert data.base is None
    base = weakref.ref(data)
    model = cls(L, H).fit(data)
    many = cls(L, H).fit([data, data])
    del data
    gc.collect()
    assert base() is None
    assert len(pickle.dumps(model)) < 2000 * C * 8
    assert model.predict().shape == (H, C)
    assert len(many.predict()) == 2


@each_forecaster
def test_a_second_fit_forgets_the_first(cls):
    X, y = make_windows(series(), L, H)
    model = cls(L, H).fit(series()[:, 0])
    model.set_params(lookback=None, horizon=None).fit(X, y)
    fresh = cls().fit(X, y)
    assert vars(model).keys() == vars(fresh).keys()
    assert not hasattr(model, "context_")
    assert (model.predict(X) == fresh.predict(X)).all()


@each_forecaster
def test_parameters_are_those_of_the_constructor(cls):
    model = cls(lookback=L, horizon=H)
    parameters = inspect.signature(cls).parameters
    assert list(model.get_params(deep=False)) == sorted(parameters)
    assert list(parameters)[:2] == ["lookback", "horizon"]
    assert parameters["lookback"].default is parameters["horizon"].default is None
    assert vars(model) == model.get_params(deep=False)
    assert repr(model) == f"{cls.__name__}(horizon={H}, lookback={L})"
    assert model.set_params(horizon=9) is model
    assert model.horizon == 9
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(depth=3)
    fitted = model.fit(series())
    copy = clone(fitted)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "plan_")
    if "solver" in parameters:
        nested = cls(solver=mixlin.ExactSolver(pooling=2.0))
        assert nested.get_params()["solver__pooling"] == 2.0
        assert clone(nested).set_params(solver__pooling=3.0).solver.pooling == 3.0


@each_forecaster
def test_the_methods_have_the_agreed_arguments(cls):
    def arguments(method):
        signature = inspect.signature(getattr(cls, method)).parameters.values()
        return [(p.name, p.kind.name == "KEYWORD_ONLY") for p in signature][1:]

    weight, stamps = ("sample_weight", True), ("timestamps", True)
    horizon = ("horizon", True)
    X, y = ("X", False), ("y", False)
    reads = issubclass(cls, ExogForecaster)
    exog = [("exog", True)] if reads else []
    both = [*exog, ("exog_future", True)] if reads else []
    assert arguments("fit") == [X, y, weight, stamps, *exog]
    assert hasattr(cls(), "partial_fit") == (cls not in WITHOUT_UPDATES)
    if cls not in WITHOUT_UPDATES:
        assert arguments("partial_fit") == [X, y, weight, stamps, ("new_series", True), *exog]
    assert arguments("predict") == [X, horizon, stamps, *both]
    assert arguments("predict_quantiles") == [X, ("quantiles", False), horizon, stamps, *both]
    assert arguments("predict_interval") == [X, ("coverage", False), horizon, stamps, *both]
    assert arguments("score") == [X, y, ("sample_weight", False), stamps, *exog]


@each([c for c in FORECASTERS if c not in WITHOUT_UPDATES])
def test_coefficients_and_intercept_say_what_predict_does(cls):
    X, y = make_windows(series(), L, H)
    for windows, targets in ((X, y), (X[:, :, 0], y[:, :, 0])):
        for individual in (False, True):
            model = cls(individual=individual, alpha=1e-3).fit(windows, targets)
            three = windows if windows.ndim == 3 else windows[:, :, None]
            coef = np.broadcast_to(model.coef_, (three.shape[2], H, L))
            forecast = np.einsum("nlc,chl->nhc", three, coef)
            forecast += np.broadcast_to(model.intercept_, (three.shape[2], H)).T
            if cls is mixlin.RLinearForecaster:
                variance = three.var(axis=1)
                eps = 1e-5 * three.var(axis=(0, 1))
                scale = np.sqrt(variance + eps)[:, None]
                forecast += scale * np.broadcast_to(model.scale_coef_, (three.shape[2], H)).T
            expected = model.predict(windows).reshape(forecast.shape)
            np.testing.assert_allclose(forecast, expected, rtol=1e-7, atol=1e-7)


# -- partial_fit and frames ---------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_chunks_of_a_frame_continue_its_index(pd, name, rows):
    index, following = indexes(pd)[name]
    frame = pd.DataFrame(series(), index=index)
    model = mixlin.LinearForecaster(L, H).partial_fit(frame.iloc[:-rows])
    model.partial_fit(frame.iloc[-rows:])
    whole = mixlin.LinearForecaster(L, H).fit(frame)
    assert model.cutoff_ == index[-1]
    assert model.predict().index.tolist() == following.tolist()
    np.testing.assert_allclose(
        model.predict().to_numpy(), whole.predict().to_numpy(), rtol=1e-7, atol=1e-7
    )


def test_a_chunk_that_does_not_follow_is_refused(pd):
    index = pd.date_range("2024-01-01", periods=T, freq="h")
    frame = pd.DataFrame(series(), index=index)
    model = mixlin.LinearForecaster(L, H).partial_fit(frame.iloc[:200])
    with pytest.raises(ValueError, match="continues at 2024-01-09 08:00:00"):
        model.partial_fit(frame.iloc[205:])
    model.partial_fit(frame.iloc[205:], new_series=True)
    assert model.cutoff_ == index[-1]


@ignore_warnings(category=UserWarning)
def test_a_context_of_one_row_is_enough_for_a_lookback_of_one(pd):
    index = pd.date_range("2024-01-01", periods=T, freq="MS")
    model = mixlin.LinearForecaster(1, 2).fit(pd.DataFrame(series(), index=index))
    forecast = model.predict(pd.DataFrame(series()[-1:], index=index[-1:]))
    assert forecast.index.tolist() == pd.date_range(index[-1], periods=3, freq="MS")[1:].tolist()
