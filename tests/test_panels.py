"""Long frames in the exact forecasters: the solve on materialized windows, series by series."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import mixlin
from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.decomposition import split_penalty
from mixlin.metrics import forecast_scorer
from mixlin.normalization import REVIN_EPS

pd = pytest.importorskip("pandas")

L, H, ALPHA = 8, 3, 1e-2
KINDS = {
    "linear": (LinearForecaster, {}),
    "no intercept": (LinearForecaster, {"fit_intercept": False}),
    "mean": (LinearForecaster, {"normalization": "mean"}),
    "last": (NLinearForecaster, {}),
    "decomposed": (DLinearForecaster, {"kernel_size": 5}),
    "revin": (RLinearForecaster, {"fit_intercept": True}),
}


def wave(n, seed, level=0.0, scale=1.0):
    noise = np.random.default_rng(seed).standard_normal(n)
    return level + scale * (np.sin(np.arange(n) / (2 + seed % 3)) + 0.3 * noise)


def series_of(seed=0):
    lengths = {"b": 60, "a": 35, "flat": 30, "short": 9, "c": 47}
    made = {
        key: wave(n, seed + i, level=10.0 * i - 20, scale=10.0 ** (i - 1))
        for i, (key, n) in enumerate(lengths.items())
    }
    made["flat"][:] = 7.0
    return made


def long_frame(series, start="2024-01-01", freq="D"):
    parts = [
        pd.DataFrame(
            {"unique_id": key, "ds": pd.date_range(start, periods=len(y), freq=freq), "y": y}
        )
        for key, y in series.items()
    ]
    return pd.concat(parts, ignore_index=True)


def model_of(kind, **params):
    cls, options = KINDS[kind]
    return cls(L, H, alpha=ALPHA, **options, **params)


def forecast_of(frame, key):
    return frame.loc[frame["unique_id"] == key, "forecast"].to_numpy()


# ---------------------------------------------------------------------------------------------
# what the solve is: a pooled ridge on windows, every series in its own units


class Windows:
    """Windows of one series in its own units, cut by hand."""

    def __init__(self, y, model, eps_scale=None):
        self.level, self.scale = np.nanmean(y), np.nanstd(y)
        z = (y - self.level) / (self.scale or 1.0)
        both = np.lib.stride_tricks.sliding_window_view(z, L + H)
        both = both[~np.isnan(both).any(axis=1)]
        self.raw, self.y = both[:, :L], both[:, L:]
        self.x, self.base = features(self.raw, model)
        self.y = self.y - self.base

    @property
    def variance(self):
        return ((self.raw - self.raw.mean()) ** 2).mean()


def features(raw, model):
    name = model._normalization_name()
    base = {None: np.zeros((len(raw), 1)), "last": raw[:, -1:]}.get(name)
    if base is None:
        base = raw.mean(axis=1, keepdims=True)
    x = raw - base
    if name == "revin":
        x = np.column_stack([x, np.sqrt(raw.var(axis=1) + REVIN_EPS)])
    return x, base


def penalty_of(model):
    metric = np.eye(L)
    if isinstance(model, DLinearForecaster):
        metric = np.linalg.inv(split_penalty(L, model.kernel_size))
    if isinstance(model, RLinearForecaster):
        metric = np.block([[metric, np.zeros((L, 1))], [np.zeros((1, L)), np.eye(1)]])
    return metric


def pooled_ridge(parts, model):
    """Solve for shared weights and intercept on stacked windows."""
    x, y = np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts])
    n = [len(p.x) for p in parts]
    strength = ALPHA * sum(n) * np.average([p.variance for p in parts], weights=n)
    mean_x = x.mean(axis=0) if model.fit_intercept else np.zeros(x.shape[1])
    mean_y = y.mean(axis=0) if model.fit_intercept else np.zeros(H)
    a, b = x - mean_x, y - mean_y
    weights = np.linalg.solve(a.T @ a + strength * penalty_of(model), a.T @ b)
    return weights, mean_y - mean_x @ weights


def by_hand(context, weights, bias, model, level, scale):
    raw = ((context[-L:] - level) / (scale or 1.0))[None]
    x, base = features(raw, model)
    return level + scale * (x @ weights + bias + base)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_shared_weights_are_a_ridge_on_the_windows_of_all_series(kind):
    series = series_of()
    model = model_of(kind).fit(long_frame(series))
    parts = [Windows(series[key], model) for key in ("b", "a", "c")]
    weights, bias = pooled_ridge(parts, model)
    found = model.predict()
    assert list(found["unique_id"].unique()) == list(series)
    for key, part in zip(("b", "a", "c"), parts, strict=True):
        wanted = by_hand(series[key], weights, bias, model, part.level, part.scale)
        np.testing.assert_allclose(
            (forecast_of(found, key) - wanted) / part.scale, 0, rtol=0, atol=1e-8
        )
    y = series["short"]  # no window, but a level, a scale and a context
    wanted = by_hand(y, weights, bias, model, y.mean(), y.std())
    np.testing.assert_allclose((forecast_of(found, "short") - wanted) / y.std(), 0, atol=1e-8)
    np.testing.assert_allclose(forecast_of(found, "flat"), 7.0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_partial_pooling_shrinks_corrections_towards_the_shared_weights(kind):
    series, pooling = series_of(), 0.3
    solver = ExactSolver(pooling=pooling)
    model = model_of(kind, individual="partial", solver=solver).fit(long_frame(series))
    parts = {key: Windows(series[key], model) for key in ("b", "a", "c")}
    shared, bias = pooled_ridge(list(parts.values()), model)
    found = model.predict()
    for key, part in parts.items():
        x, left = part.x, part.y - part.x @ shared - bias
        strength = pooling * len(x) * part.variance
        own = shared + np.linalg.solve(x.T @ x + strength * penalty_of(model), x.T @ left)
        wanted = by_hand(series[key], own, bias, model, part.level, part.scale)
        np.testing.assert_allclose((forecast_of(found, key) - wanted) / part.scale, 0, atol=1e-8)
    unseen = wave(25, 9, level=300.0, scale=40.0)
    new = model.predict(long_frame({"new": unseen, "b": series["b"]}))
    wanted = by_hand(unseen, shared, bias, model, unseen.mean(), unseen.std())
    np.testing.assert_allclose((forecast_of(new, "new") - wanted) / unseen.std(), 0, atol=1e-8)
    np.testing.assert_allclose(forecast_of(new, "b"), forecast_of(found, "b"), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_own_weights_are_those_of_every_series_alone(kind):
    series = {key: y for key, y in series_of().items() if key in "abc"}
    model = model_of(kind, individual=True).fit(long_frame(series))
    found = model.predict()
    for i, (key, y) in enumerate(series.items()):
        alone = model_of(kind).fit(y)
        np.testing.assert_allclose(forecast_of(found, key), alone.predict(), rtol=1e-8)
        np.testing.assert_allclose(model.coef_[i], alone.coef_, rtol=1e-6, atol=1e-9)


def test_gaps_leave_out_the_windows_that_touch_them():
    series = series_of()
    series["b"][20] = np.nan
    frame = long_frame(series)
    frame = frame.drop(index=frame.index[(frame["unique_id"] == "c")][25:28])
    series["c"][25:28] = np.nan
    model = model_of("linear").fit(frame)
    parts = [Windows(series[key], model) for key in ("b", "a", "c")]
    np.testing.assert_allclose(model.coef_.T, pooled_ridge(parts, model)[0], atol=1e-8)


def test_weights_of_series_count_windows():
    series = {key: y for key, y in series_of().items() if key in "abc"}
    frame = long_frame(series)
    weighted = model_of("linear").fit(frame, sample_weight=1.0 + (frame["unique_id"] == "a"))
    twice = frame[frame["unique_id"] == "a"].assign(unique_id="a again")
    repeated = model_of("linear").fit(pd.concat([frame, twice]))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-9)


def test_without_scaling_series_are_pooled_in_data_units():
    series = {key: y for key, y in series_of().items() if key in "abc"}
    model = model_of("linear", scale=None).fit(long_frame(series))
    listed = model_of("linear", scale=None).fit(list(series.values()))
    np.testing.assert_allclose(model.coef_, listed.coef_, rtol=1e-2)  # the penalty differs
    unseen = series["b"] + 5.0
    context = long_frame({"new": unseen})
    wanted = unseen[-L:] @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(model.predict(context)["forecast"], wanted, rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([False, "partial", True]))
def test_the_order_of_series_and_rows_does_not_matter(random, individual):
    series = {key: y for key, y in series_of().items() if individual is not True or key in "abc"}
    frame = long_frame(series)
    model = model_of("linear", individual=individual)
    wanted = model.fit(frame).predict()
    order = list(range(len(frame)))
    random.shuffle(order)
    found = model.fit(frame.iloc[order]).predict()
    for key in series:
        np.testing.assert_allclose(forecast_of(found, key), forecast_of(wanted, key), rtol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3)), min_size=5, max_size=5),
    st.sampled_from(list(KINDS)),
    st.sampled_from([False, "partial"]),
)
def test_units_of_a_series_do_not_matter_to_the_others(units, kind, individual):
    series = series_of()
    moved = {key: a + b * y for (key, y), (a, b) in zip(series.items(), units, strict=True)}
    model = model_of(kind, individual=individual)
    found = model.fit(long_frame(series)).predict()
    after = model.fit(long_frame(moved)).predict()
    for (key, y), (a, b) in zip(series.items(), units, strict=True):
        tolerance = 1e-6 * (abs(a) + b * (np.abs(y).max() + 1))
        wanted = a + b * forecast_of(found, key)
        np.testing.assert_allclose(forecast_of(after, key), wanted, rtol=0, atol=tolerance)


# ---------------------------------------------------------------------------------------------
# forecasts


def test_forecasts_are_long_frames_that_go_on():
    series = series_of()
    model = model_of("linear").fit(long_frame(series))
    found = model.predict(horizon=2)
    assert list(found.columns) == ["unique_id", "ds", "forecast"]
    assert len(found) == 2 * len(series)
    last = found[found["unique_id"] == "a"]["ds"].to_list()
    assert last == list(pd.date_range("2024-01-01", periods=37, freq="D")[-2:])
    assert model.mode_ == "panel"
    assert (model.n_features_in_, list(model.feature_names_in_)) == (1, ["y"])
    assert (model.freq_, list(model.series_ids_)) == ("D", list(series))
    assert model.cutoff_[1] == pd.Timestamp("2024-02-04")
    assert model.context_.shape == (L, 5)
    assert model.intercept_.shape == (5, H)


def test_a_context_is_continued_from_its_own_end():
    series = series_of()
    model = model_of("linear", individual="partial").fit(long_frame(series))
    cut = long_frame({key: series[key][:-5] for key in ("c", "b")})
    found = model.predict(cut)
    window = series["c"][-5 - L : -5]
    i = list(series).index("c")
    wanted = model.coef_[i] @ window + model.intercept_[i]
    np.testing.assert_allclose(forecast_of(found, "c"), wanted, rtol=1e-9)
    assert found["ds"].iloc[0] == pd.Timestamp("2024-01-01") + pd.Timedelta(days=42)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unseen_copy_of_a_series_gets_its_forecast(kind):
    series = series_of()
    model = model_of(kind).fit(long_frame(series))
    copies = long_frame({f"{key} again": y for key, y in series.items()})
    found, wanted = model.predict(copies), model.predict()
    for key, y in series.items():
        off = forecast_of(found, f"{key} again") - forecast_of(wanted, key)
        np.testing.assert_allclose(off, 0, atol=1e-9 * np.abs(y).max())


def test_windows_have_the_level_and_scale_of_their_values():
    series = series_of()
    model = model_of("linear").fit(long_frame(series))
    windows = np.stack([series["a"][:L], series["c"][:L]])[:, :, None]
    found = model.predict(windows)
    assert found.shape == (2, H, 1)
    new = long_frame({"x": windows[0, :, 0], "z": windows[1, :, 0]})
    np.testing.assert_allclose(found.ravel(), model.predict(new)["forecast"], rtol=1e-12)
    assert model.predict_interval(windows).shape == (2, H, 1, 2)


def test_intervals_have_the_columns_of_zero_shot_forecasts():
    series = series_of()
    frame = long_frame(series)
    model = model_of("linear").fit(frame)
    found = model.predict_interval(coverage=0.8)
    assert list(found.columns) == ["unique_id", "ds", "forecast", "lower", "upper"]
    quantiles = model.predict_quantiles(quantiles=(0.1, 0.9))
    assert list(quantiles.columns) == ["unique_id", "ds", "0.1", "0.9"]
    np.testing.assert_allclose(quantiles["0.9"], found["upper"])
    np.testing.assert_allclose(found["forecast"], model.predict()["forecast"])
    width = found["upper"] - found["lower"]
    assert (width[found["unique_id"] == "flat"] < 1e-6).all()
    # a copy of a series that was not seen has residuals of average size, in its own scale
    new = model.predict_interval(long_frame({"new": series["b"]}), coverage=0.8)
    taught = ["b", "a", "short", "c"]
    relative = np.mean(
        [((width[found["unique_id"] == k]) / series[k].std()).to_numpy() ** 2 for k in taught],
        axis=0,
    )
    wanted = np.sqrt(relative) * series["b"].std()
    np.testing.assert_allclose((new["upper"] - new["lower"]), wanted, rtol=1e-9)


def test_ids_may_be_numbers_or_in_the_index_or_absent():
    series = series_of()
    wanted = model_of("linear").fit(long_frame(series)).predict()["forecast"]
    numbered = long_frame(dict(enumerate(series.values())))
    model = model_of("linear").fit(numbered)
    assert model.predict()["unique_id"].to_list() == np.repeat(np.arange(5), H).tolist()
    np.testing.assert_allclose(model.predict()["forecast"], wanted)
    indexed = model_of("linear").fit(long_frame(series).set_index("unique_id"))
    np.testing.assert_allclose(indexed.predict()["forecast"], wanted)
    one = long_frame(series).query("unique_id == 'b'").drop(columns="unique_id")
    alone = model_of("linear").fit(one)
    assert list(alone.predict().columns) == ["ds", "forecast"]
    np.testing.assert_allclose(
        alone.predict()["forecast"], model_of("linear").fit(series["b"]).predict()
    )
    assert len(alone.partial_fit(one.assign(ds=one["ds"] + pd.Timedelta(days=60))).cutoff_) == 1


def test_single_precision_stays():
    frame = long_frame(series_of()).astype({"y": "float32"})
    model = model_of("linear").fit(frame)
    assert model.predict()["forecast"].dtype == np.float32
    assert model.predict(frame)["forecast"].dtype == np.float32


@pytest.mark.parametrize("freq", ["ME", "MS", "B", "W-MON", "3D", "h", "QE"])
def test_every_frequency_goes_on(freq):
    frame = long_frame(series_of(), freq=freq)
    model = model_of("last").fit(frame)
    found = model.predict()
    index = pd.date_range("2024-01-01", periods=60 + H, freq=freq)
    assert found["ds"].iloc[:H].to_list() == index[-H:].to_list()
    assert pd.tseries.frequencies.to_offset(model.freq_) == index.freq
    later = long_frame(series_of(1), start=index[60], freq=freq).query("unique_id == 'b'")
    assert model.partial_fit(later).cutoff_[0] == later["ds"].iloc[-1]


def test_series_of_integers_periods_and_zones():
    series = series_of()
    frame = long_frame(series)
    for times in (
        frame.groupby("unique_id").cumcount() * 5,
        frame["ds"].dt.to_period("D"),
        frame["ds"].dt.tz_localize("Europe/Berlin"),
    ):
        model = model_of("last").fit(frame.assign(ds=times))
        again = pickle.loads(pickle.dumps(model)).predict()
        assert again["ds"].dtype == times.dtype
        assert (model.predict(frame.assign(ds=times))["ds"] == again["ds"]).all()


# ---------------------------------------------------------------------------------------------
# learning on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("individual", [False, "partial"])
def test_rows_that_continue_series_are_learnt_exactly(kind, individual):
    series = series_of()
    frame = long_frame(series)
    place = frame.groupby("unique_id").cumcount()
    whole = model_of(kind, individual=individual).fit(frame)
    first = frame[(place < 25) & (frame["unique_id"] != "c")]
    model = model_of(kind, individual=individual).fit(first)
    model.partial_fit(frame[(place >= 25) & (place < 33)])  # the rows of "c" begin here
    model.partial_fit(frame[place >= 33])
    wanted = model_of(kind, individual=individual).fit(
        frame[~((frame["unique_id"] == "c") & (place < 25))]
    )
    tolerance = 1e-4 if kind == "revin" else 1e-9  # its epsilon is that of the first call
    for key, y in series.items():
        off = forecast_of(model.predict(), key) - forecast_of(wanted.predict(), key)
        np.testing.assert_allclose(off / (y.std() or 1), 0, atol=tolerance)
    assert model.cutoff_.to_list() == [
        whole.cutoff_[list(series).index(k)] for k in model.series_ids_
    ]


def test_rows_that_are_missing_in_between_are_a_gap():
    series = series_of()
    frame = long_frame(series)
    place = frame.groupby("unique_id").cumcount()
    model = model_of("linear").fit(frame[place < 20])
    model.partial_fit(frame[place >= 23])
    holed = model_of("linear").fit(frame[(place < 20) | (place >= 23)])
    np.testing.assert_allclose(model.coef_, holed.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.context_, holed.context_)


def test_a_short_series_grows_into_its_context():
    series = {"a": wave(50, 0), "b": wave(3, 1)}
    model = model_of("linear").fit(long_frame(series))
    with pytest.raises(ValueError, match="series 'b' has fewer rows than the lookback of 8"):
        model.predict()
    model.partial_fit(long_frame({"b": wave(6, 2)}, start="2024-01-04"))
    assert len(model.predict()) == 2 * H


# ---------------------------------------------------------------------------------------------
# scores


def test_a_score_pools_series_in_their_own_scale():
    series = series_of()
    model = model_of("linear", individual="partial").fit(long_frame(series))
    later = {
        key: wave(20, 5 + i, scale=y.std()) + y.mean() for i, (key, y) in enumerate(series.items())
    }
    true, pred = [], []
    for key in ("b", "a", "c"):
        c = list(series).index(key)
        y = np.concatenate([series[key][-L:], later[key]])
        windows = np.lib.stride_tricks.sliding_window_view(y, L + H)
        scale = series[key].std()
        found = windows[:, :L] @ model.coef_[c].T + model.intercept_[c]
        true.append((windows[:, L:] - later[key].mean()) / scale)
        pred.append((found - later[key].mean()) / scale)
    frame = pd.concat(
        long_frame(
            {k: later[k]}, start=f"{pd.Timestamp('2024-01-01') + pd.Timedelta(days=len(series[k]))}"
        )
        for k in ("b", "a", "c")
    )
    true, pred = np.concatenate(true), np.concatenate(pred)
    wanted = 1 - ((true - pred) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert model.score(frame) == pytest.approx(wanted, rel=1e-9)
    found = forecast_scorer("mae")(model, frame)
    truth, forecasts = model._forecasts_for_scoring(frame)
    assert found == -np.abs(truth - forecasts).mean()


def test_a_score_of_unseen_series_is_that_of_growing_contexts():
    model = model_of("linear").fit(long_frame(series_of()))
    y = wave(20, 8, level=50.0, scale=3.0)
    truth, forecasts = model._forecasts_for_scoring(long_frame({"new": y}))
    assert truth.shape == (20 - L - H + 1, H)
    for t in range(len(truth)):
        found = model.predict(long_frame({"new": y[: t + L]}))["forecast"]
        np.testing.assert_allclose(forecasts[t], found, rtol=1e-9)


# ---------------------------------------------------------------------------------------------
# round trips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("individual", [False, "partial"])
@pytest.mark.parametrize("numbered", [False, True])
def test_files_and_pickles_forecast_the_same(kind, individual, numbered, tmp_path):
    series = series_of()
    if numbered:
        series = dict(enumerate(series.values()))
    frame = long_frame(series)
    model = model_of(kind, individual=individual).fit(frame)
    model.save(tmp_path / "model.safetensors")
    new = long_frame({-1 if numbered else "new": wave(20, 3), next(iter(series)): wave(20, 4)})
    for other in (mixlin.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(other.predict(), model.predict())
        pd.testing.assert_frame_equal(other.predict(new), model.predict(new))
        pd.testing.assert_frame_equal(other.predict_interval(new), model.predict_interval(new))
        assert other.score(frame) == model.score(frame)
        assert (other.cutoff_ == model.cutoff_).all()
    assert not hasattr(clone(model), "plan_")


def test_a_refit_on_something_else_forgets_the_series():
    series = series_of()
    model = model_of("linear").fit(long_frame(series))
    model.fit(series["b"])
    assert model.mode_ == "series"
    assert not hasattr(model, "series_ids_")
    assert model.predict().shape == (H,)
    model.fit(long_frame(series))
    assert len(model.predict()) == 5 * H


def test_a_seasonal_prior_and_forgetting_serve_series_too():
    frame = long_frame({key: wave(200, i) for i, key in enumerate("abc")})
    solver = ExactSolver(forgetting=50)
    model = LinearForecaster(L, H, prior="seasonal", solver=solver).fit(frame)
    place = frame.groupby("unique_id").cumcount()
    late = LinearForecaster(L, H, solver=solver).fit(frame[place < 150])
    late.partial_fit(frame[place >= 150])
    whole = LinearForecaster(L, H, solver=solver).fit(frame)
    np.testing.assert_allclose(late.coef_, whole.coef_, rtol=1e-7, atol=1e-9)
    assert np.isfinite(model.predict()["forecast"]).all()
