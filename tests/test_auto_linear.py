"""AutoLinearForecaster: the search as a user meets it."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ShuffleSplit, TimeSeriesSplit

from mixlin import AutoLinearForecaster, ExactSolver, NLinearForecaster, load
from mixlin.backtesting import evaluate_ltsf
from mixlin.datasets import make_seasonal
from mixlin.solvers import ExactSearch, SeasonalPrior, seasonal_prior

HOURS = np.datetime64("2021-03-01T00") + np.arange(20_000)
FEW = ExactSearch(alphas=(0.1, 10.0), betas=(1.0, 100.0), corrected=(10.0, np.inf))


def daily(n, n_channels=2, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    season = np.sin(2 * np.pi * t / 24 + np.arange(n_channels)) + 0.3 * np.cos(4 * np.pi * t / 24)
    walk = 0.05 * rng.standard_normal((n, n_channels)).cumsum(axis=0)
    return season + walk + noise * rng.standard_normal((n, n_channels))


def few(horizon=12, **options):
    return AutoLinearForecaster((24, 48), horizon, solver=FEW, **options)


# -- what is found -------------------------------------------------------------------------


def test_the_results_tell_what_was_tried():
    model = few().fit(daily(800))
    results = model.cv_results_
    sizes = {len(v) for v in results.values()}
    # 2 lookbacks x 2 half-lives; 2 kappas x (3 alphas shared, 2 corrected x 2 betas)
    assert sizes == {4 * 2 * (3 + 2 * 2)}
    best = int(np.argmin(results["mean_validation_error"]))
    assert results["rank"][best] == 1
    assert results["lookback"][best] == model.best_params_["lookback"]
    assert results["mean_validation_error"][best] == model.best_error_
    assert sorted(results["rank"]) == list(range(1, len(results["rank"]) + 1))
    # the best with shared weights and the best with channels' own, of every group
    assert len(model.groups_) == len(model.weights_of_groups_) == 4 * 2
    assert [np.isfinite(g["beta"]) for g in model.groups_] == [False, True] * 4
    assert model.weights_of_groups_.sum() == pytest.approx(1.0)
    assert model.periods_ == (24,)
    heaviest = model.groups_[int(np.argmax(model.weights_of_groups_))]
    assert heaviest["validation_error"] == pytest.approx(model.best_error_)


def test_the_matrix_is_the_sum_of_its_parts_and_its_rows_sum_to_one():
    model = few().fit(daily(800))
    assert model.coef_.shape == (2, 12, 48)
    assert np.abs(model.coef_.sum(axis=-1) - 1).max() < 1e-9
    own = model.plan_.fixed.weights[:, 0].transpose(0, 2, 1) - model.prior_coef_
    own = own - model.shared_coef_
    assert np.abs(own).max() < np.abs(model.prior_coef_).max()
    shared = few(shared=True).fit(daily(800))
    assert shared.coef_.shape == (12, 48)
    whole = shared.prior_coef_ + shared.shared_coef_
    assert np.allclose(shared.plan_.fixed.weights[0, 0].T, whole)


def test_the_average_is_that_of_forecasters_fitted_one_by_one():
    series = daily(900)
    model = few(refit=False).fit(series)
    parts = []
    for group in model.groups_:
        own = np.isfinite(group["beta"])
        alone = NLinearForecaster(
            group["lookback"],
            12,
            alpha=min(group["alpha"], 1e12),
            fit_intercept=False,
            individual="partial" if own else False,
            prior=SeasonalPrior(24, kappa=group["kappa"]),
            solver=ExactSolver(group["beta"], forgetting=group["forgetting"]),
        ).fit(series[:720])
        weights = np.broadcast_to(alone.plan_.fixed.weights, (2, 1, group["lookback"], 12))
        missing = model.lookback_ - group["lookback"]
        parts.append(np.pad(weights, ((0, 0), (0, 0), (missing, 0), (0, 0))))
    expected = np.tensordot(model.weights_of_groups_, np.array(parts), 1)
    assert np.abs(model.plan_.fixed.weights - expected).max() < 1e-7


def test_temperature_zero_takes_the_best_group():
    search = clone(FEW).set_params(temperature=0.0)
    model = AutoLinearForecaster((24, 48), 12, solver=search).fit(daily(800))
    assert sorted(model.weights_of_groups_) == [0.0] * 7 + [1.0]


def test_it_beats_a_plain_fit_on_a_season_with_little_data():
    pytest.importorskip("pandas")
    load_data = make_seasonal(24 * 120, n_channels=3, random_state=3, as_frame=True).frame
    auto = evaluate_ltsf(AutoLinearForecaster(), _bunch(load_data), None, 24)
    plain = evaluate_ltsf(NLinearForecaster(), _bunch(load_data), 168, 24)
    assert auto.mse < 0.95 * plain.mse
    assert auto.estimator.plan_.calendar is not None  # the frame has times


def _bunch(frame):
    from sklearn.utils import Bunch

    return Bunch(name="load", data=frame, feature_names=list(frame.columns))


def test_intervals_come_from_held_out_errors():
    series = daily(3000, noise=0.5)
    model = few().fit(series[:2500])
    inside = []
    for end in range(2500, 2988, 12):
        lower, upper = np.moveaxis(model.predict_interval(series[:end], coverage=0.8), -1, 0)
        truth = series[end : end + 12]
        inside.append(((truth >= lower) & (truth <= upper)).mean())
    assert 0.72 < np.mean(inside) < 0.88


@settings(deadline=None, max_examples=10)
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e3))
def test_forecasts_follow_shift_and_units(shift, unit):
    series = daily(300)
    search = clone(FEW).set_params(transform=None)
    base = AutoLinearForecaster((12, 30), 6, prior=SeasonalPrior(12), solver=search)
    plain = clone(base).fit(series).predict()
    moved = clone(base).fit(series * [unit, 2 * unit] + [shift, -shift]).predict()
    back = (moved - [shift, -shift]) / [unit, 2 * unit]
    assert np.abs(back - plain).max() < 1e-6 * (1 + abs(shift) / unit)


def test_the_order_of_channels_does_not_matter():
    series = daily(600, 3)
    order = [2, 0, 1]
    one, other = few().fit(series), few().fit(series[:, order])
    assert np.allclose(one.predict()[:, order], other.predict(), atol=1e-9)
    assert np.allclose(one.weights_of_groups_, other.weights_of_groups_, atol=1e-9)


# -- validation and refits -----------------------------------------------------------------


def test_validation_in_rows_shares_and_folds():
    series = daily(1000)
    rows, share = few(validation=200).fit(series), few(validation=0.2).fit(series)
    assert np.array_equal(rows.predict(), share.predict())
    folds = few(validation=TimeSeriesSplit(3)).fit(series)
    assert not np.allclose(
        folds.cv_results_["mean_validation_error"], rows.cv_results_["mean_validation_error"]
    )
    last = few(validation=TimeSeriesSplit(3), refit=False).fit(series)
    assert not np.allclose(last.predict(), folds.predict())
    with pytest.raises(ValueError, match="must train on the first rows"):
        few(validation=ShuffleSplit(2, random_state=0)).fit(series)


def test_folds_are_averaged_in_logarithms():
    series = daily(1000)
    both = few(validation=TimeSeriesSplit(2)).fit(series)
    singles = []
    for train, test in TimeSeriesSplit(2).split(series):
        singles.append(few(validation=len(test)).fit(series[: test[-1] + 1]))
        assert len(train) + len(test) == test[-1] + 1
    logs = [np.log(m.cv_results_["mean_validation_error"]) for m in singles]
    found = np.log(both.cv_results_["mean_validation_error"])
    assert found == pytest.approx(np.mean(logs, axis=0), rel=1e-9)


@pytest.mark.parametrize("bad", [0, 1.0, 1.5, -3, True, "last", None, [1, 2]])
def test_bad_validations_are_refused(bad):
    with pytest.raises(ValueError, match="'validation' parameter of AutoLinearForecaster"):
        few(validation=bad).fit(daily(300))


def test_what_is_left_must_be_enough():
    with pytest.raises(ValueError, match="holds 5 rows out, fewer than horizon=12"):
        few(validation=5).fit(daily(300))
    with pytest.raises(ValueError, match="leaves 10 of 300 rows to fit on"):
        few(validation=290).fit(daily(300))
    with pytest.raises(ValueError, match="30 rows to fit on"):
        few(validation=270).fit(daily(300))
    assert few(validation=260).fit(daily(300)).lookback_ == 24  # 48 + 12 do not fit


def test_the_protocol_of_the_benchmark_is_a_clone():
    model = few()
    held = model.with_validation(100)
    assert (held.validation, held.refit) == (100, False)
    assert model.validation == 0.2
    with pytest.raises(ValueError, match="n_rows must be an integer"):
        model.with_validation(0.5)


def test_without_a_refit_later_rows_are_not_learnt_from():
    series = daily(800)
    changed = series.copy()
    changed[700:760] += 5.0
    one, other = (few(refit=False, validation=160).fit(s) for s in (series, changed))
    a, b = (m.plan_.fixed.weights for m in (one, other))
    # the groups are weighed differently at most
    assert [g["lookback"] for g in one.groups_] == [g["lookback"] for g in other.groups_]
    assert one.refit is False
    assert a.shape == b.shape
    with pytest.raises(ValueError, match="refit=True"):
        one.update(series[:10])


# -- updates -------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_updates_solve_the_same_choice_on_all_rows(shared):
    series = daily(900)
    search = clone(FEW).set_params(forgetting=(None, 150.0))
    base = AutoLinearForecaster((24, 48), 12, shared=shared, solver=search)
    model = clone(base).fit(series[:800], timestamps=HOURS[:800])
    chosen = [dict(g) for g in model.groups_]
    before = model.coef_.copy()
    for a, b in ((800, 801), (801, 830), (830, 900)):
        model.update(series[a:b], timestamps=HOURS[a:b])
    assert [dict(g) for g in model.groups_] == chosen
    assert not np.allclose(model.coef_, before)
    # scales and levels are those of the first fit; a fit on all rows differs by its choice alone
    assert np.array_equal(model.context_, series[-48:])
    assert np.abs(model.predict() - model.predict(series, timestamps=HOURS[:900])).max() < 1e-12
    one = clone(base).fit(series[:800], timestamps=HOURS[:800])
    one.update(series[800:], timestamps=HOURS[800:900])
    assert np.abs(one.coef_ - model.coef_).max() < 1e-10


def test_updates_that_do_not_continue_are_refused_and_change_nothing():
    series = daily(800)
    model = few().fit(series, timestamps=HOURS[:800])
    before = pickle.dumps(model.predict())
    with pytest.raises(ValueError, match="continues at"):
        model.update(series[:10], timestamps=HOURS[805:815])
    with pytest.raises(ValueError, match=r"features|channels"):
        model.update(series[:10, :1], timestamps=HOURS[800:810])
    assert pickle.dumps(model.predict()) == before
    with pytest.raises(AttributeError, match="update"):
        _ = model.partial_fit
    assert not hasattr(model, "partial_fit")


# -- scikit-learn --------------------------------------------------------------------------


def test_grid_search_reaches_nested_parameters():
    grid = {"solver__temperature": [0.0, 0.05], "shared": [True, False]}
    search = GridSearchCV(few(), grid, cv=TimeSeriesSplit(2)).fit(daily(700))
    assert search.best_params_.keys() == grid.keys()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_clones_pickles_and_files(tmp_path):
    series = daily(700)
    model = few(prior=SeasonalPrior(24)).fit(series, timestamps=HOURS[:700])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(), model.predict())
    again.update(series[:5], timestamps=HOURS[700:705])
    model.save(tmp_path / "auto.safetensors")
    loaded = load(tmp_path / "auto.safetensors")
    assert np.array_equal(loaded.predict(), model.predict())
    assert np.array_equal(loaded.predict_interval(), model.predict_interval())
    assert loaded.groups_ == model.groups_
    assert loaded.get_params()["solver"].alphas == (0.1, 10.0)
    with pytest.raises(ValueError, match="loaded from a file"):
        loaded.update(series[:5], timestamps=HOURS[700:705])


def test_windows_are_searched_by_generalized_cross_validation():
    rng = np.random.default_rng(0)
    series = daily(400, 1)[:, 0]
    z = np.lib.stride_tricks.sliding_window_view(series, 36)
    x, y = z[:, :30], z[:, 30:]
    order = rng.permutation(len(x))
    search = ExactSearch(alphas=tuple(10.0 ** np.arange(-6, 4)))
    one = AutoLinearForecaster(solver=search).fit(x, y)
    other = AutoLinearForecaster(solver=search).fit(x[order], y[order])
    assert np.allclose(one.predict(x), other.predict(x), atol=1e-8)
    twice = AutoLinearForecaster(solver=search).fit(
        np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)
    )
    weighted = AutoLinearForecaster(solver=search).fit(x, y, sample_weight=np.full(len(x), 2.0))
    assert np.allclose(twice.predict(x), weighted.predict(x), atol=1e-8)
    few_rows = AutoLinearForecaster(solver=search).fit(x[::12], y[::12])
    assert few_rows.best_params_["alpha"] > one.best_params_["alpha"]
    held = AutoLinearForecaster(solver=search, validation=60).fit(x, y)
    assert held.predict(x).shape == y.shape
    with pytest.raises(ValueError, match="holds out all of"):
        AutoLinearForecaster(solver=search, validation=1000).fit(x, y)
    seasonal = AutoLinearForecaster(solver=search, prior=SeasonalPrior(24)).fit(x, y)
    assert seasonal.periods_ == (24,)


# -- unusual data --------------------------------------------------------------------------


def test_a_constant_channel_keeps_its_value_and_disturbs_nobody():
    series = daily(600)
    with_constant = np.column_stack([series, np.full(600, 7.0)])
    model = few().fit(with_constant)
    assert np.allclose(model.predict()[:, 2], 7.0)
    assert np.allclose(model.predict()[:, :2], few().fit(series).predict(), atol=1e-9)


def test_constant_series_are_continued():
    model = few().fit(np.full((300, 2), 3.0))
    assert np.allclose(model.predict(), 3.0)
    assert np.allclose(model.predict_interval(), 3.0)


def test_gaps_leave_windows_out():
    series = daily(900)
    series[300:310, 0] = series[650, 1] = np.nan
    model = few().fit(series, timestamps=HOURS[:900])
    assert np.isfinite(model.predict()).all()
    series[-3] = np.nan
    with pytest.raises(ValueError, match="missing value"):
        few().fit(series).predict()


def test_what_a_review_found():
    rng = np.random.default_rng(0)
    # a half-life that is short beside the series
    long = rng.standard_normal(30_000)
    fast = clone(FEW).set_params(forgetting=(24.0,))
    assert np.isfinite(AutoLinearForecaster(48, 4, solver=fast).fit(long).predict()).all()
    plain = NLinearForecaster(48, 4, solver=ExactSolver(forgetting=24)).fit(long)
    tail = NLinearForecaster(48, 4, solver=ExactSolver(forgetting=24)).fit(long[-5000:])
    assert np.allclose(plain.coef_, tail.coef_, atol=1e-2)
    # no penalty at all
    free = ExactSearch(alphas=(0.0, 1.0), corrected=(0.0,), betas=(1.0,))
    model = AutoLinearForecaster(24, 6, solver=free).fit(daily(400))
    assert np.isfinite(model.predict()).all()
    assert not np.isnan(model.cv_results_["mean_validation_error"]).any()
    # the season of most series is that of all, whichever is the longest
    noise = rng.standard_normal((900, 2))
    several = [noise, *(daily(800, seed=k) for k in range(4))]
    assert few().fit(several).periods_ == (24,)
    # numbers of rows are no times
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(daily(900))
    model = few().fit(frame)
    assert model.plan_.calendar is None
    again = model.predict(frame[-60:].reset_index(drop=True)).to_numpy()
    assert np.allclose(again, model.predict().to_numpy())
    # a period that was asked for is read
    asked = AutoLinearForecaster(horizon=24, prior=SeasonalPrior(168), solver=FEW).fit(daily(1000))
    assert asked.lookback_ >= 168


def test_held_out_windows_are_not_learnt_from_without_a_refit():
    z = np.lib.stride_tricks.sliding_window_view(daily(300, 1)[:, 0], 36)
    x, y = z[:, :30], z[:, 30:].copy()
    one = ExactSearch(alphas=(1.0,), betas=())
    model = AutoLinearForecaster(solver=one).with_validation(50)
    before = clone(model).fit(x, y).coef_
    y[-50:] += 100.0
    assert np.array_equal(clone(model).fit(x, y).coef_, before)
    assert not np.allclose(clone(model).set_params(refit=True).fit(x, y).coef_, before)


def test_intervals_of_short_and_constant_series_are_in_their_units():
    rows = daily(500, 1, noise=0.5)
    search = clone(FEW).set_params(transform=None)
    base = AutoLinearForecaster(24, 12, solver=search, validation=100)
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=500, freq="h")

    def long(**series):
        parts = [
            pd.DataFrame({"unique_id": name, "ds": index[-len(v) :], "y": v})
            for name, v in series.items()
        ]
        return pd.concat(parts)

    some = {f"s{k}": daily(500, 1, seed=k, noise=0.5)[:, 0] for k in range(4)}
    short = clone(base).fit(long(**some, short=1e4 * rows[-40:, 0]))
    width = short.predict_interval()
    width["width"] = width["upper"] - width["lower"]
    means = width.groupby("unique_id")["width"].mean()
    assert 2e3 < means["short"] / means["s0"] < 5e4
    new = long(new=rows[:, 0])
    alone = clone(base).fit(long(**some)).predict_interval(new)
    beside = {f"c{k}": np.full(500, 1.0) for k in range(8)}
    both = clone(base).fit(long(**some, **beside)).predict_interval(new)
    ratio = (both["upper"] - both["lower"]).mean() / (alone["upper"] - alone["lower"]).mean()
    assert 0.9 < ratio < 1.1


def test_many_series_of_different_lengths():
    series = [daily(n, seed=n) for n in (500, 300, 60, 900)]
    model = few().fit(series)
    found = model.predict()
    assert [f.shape for f in found] == [(12, 2)] * 4
    weighted = few().fit(series, sample_weight=[1.0, 1.0, 1.0, 1.0])
    assert np.allclose(weighted.predict()[0], found[0])
    other = few().fit(series, sample_weight=[1.0, 0.0, 0.0, 5.0])
    assert not np.allclose(other.predict()[0], found[0])


def test_rows_that_weigh_differently():
    series = daily(500)
    weight = np.ones(500)
    weight[:100] = 0.0
    model = few().fit(series, sample_weight=weight, timestamps=HOURS[:500])
    assert model.plan_.calendar is None
    assert np.isfinite(model.predict()).all()


@pytest.mark.parametrize("n", [1, 2, 5, 14, 40])
def test_short_series_are_fitted_or_refused_with_a_sentence(n):
    rows = daily(n, 1)
    model = AutoLinearForecaster(horizon=3)
    if n < 14:
        with pytest.raises(ValueError, match=r"rows|samples?|windows"):
            model.fit(rows)
        assert not hasattr(model, "plan_")
    else:
        assert model.fit(rows).predict().shape == (3, 1)


@pytest.mark.parametrize("bad", [0, -3, 2.5, "long", [], [24, 0], [True]])
def test_bad_lookbacks_are_refused(bad):
    with pytest.raises(ValueError, match="'lookback' parameter of AutoLinearForecaster"):
        AutoLinearForecaster(bad, 12).fit(daily(300))


def test_a_random_walk_is_forecast_by_its_last_value():
    walk = np.random.default_rng(2).standard_normal((4000, 4)).cumsum(axis=0)
    model = AutoLinearForecaster(horizon=24).fit(walk[:3000])
    assert model.periods_ == ()
    z = np.lib.stride_tricks.sliding_window_view(
        walk[3000 - model.lookback_ :], model.lookback_ + 24, axis=0
    )
    x, y = (
        z[:, :, : model.lookback_].transpose(0, 2, 1),
        z[:, :, model.lookback_ :].transpose(0, 2, 1),
    )
    ours, last = ((f - y) ** 2 for f in (model.predict(x), x[:, -1:]))
    assert ours.mean() < 1.03 * last.mean()


def test_long_frames_share_weights_with_series_that_were_not_seen(tmp_path):
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=700, freq="h")
    wide = pd.DataFrame(daily(700, 4), index=index, columns=list("abcd"))
    long = wide.reset_index(names="ds").melt("ds", var_name="unique_id", value_name="y")
    short = ~((long["unique_id"] == "d") & (long["ds"] < index[450]))
    long.loc[long["unique_id"] == "b", "y"] *= 1000.0
    model = few().fit(long[short])
    found = model.predict()
    assert len(found) == 4 * 12
    assert model.periods_ == (24,)
    new = long[long["unique_id"] == "b"].assign(unique_id="new")
    unseen = model.predict(new)["forecast"].to_numpy()
    known = model.predict(long[long["unique_id"] == "b"])["forecast"].to_numpy()
    assert np.abs(unseen - known).max() < 1000.0  # a part of the spread of the series
    shared = few(shared=True).fit(long[short])
    assert np.allclose(
        shared.predict(new)["forecast"],
        shared.predict(long[long["unique_id"] == "b"])["forecast"],
    )
    model.save(tmp_path / "panel.safetensors")
    assert load(tmp_path / "panel.safetensors").predict().equals(found)
    assert model.score(long) > 0.5
    later = long.assign(ds=long["ds"] + pd.Timedelta(700, "h"))
    with pytest.raises(ValueError, match="fitted anew"):
        model.update(later)


def test_a_panel_is_the_wide_frame_where_both_have_the_same_rows():
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=600, freq="h")
    wide = pd.DataFrame(daily(600, 3), index=index, columns=list("abc"))
    long = wide.reset_index(names="ds").melt("ds", var_name="unique_id", value_name="y")
    search = clone(FEW).set_params(calendar=0, transform=None)
    base = AutoLinearForecaster((24, 48), 12, solver=search)
    one, other = clone(base).fit(wide), clone(base).fit(long)
    assert np.allclose(one.weights_of_groups_, other.weights_of_groups_, atol=1e-9)
    assert np.allclose(one.predict().to_numpy().T.ravel(), other.predict()["forecast"], atol=1e-9)


@pytest.mark.data("ETTh1.csv")
def test_the_recipe_on_etth1(data_home, monkeypatch):
    search = ExactSearch()  # the settings of the first trials, written down in full
    search.set_params(
        alphas=(0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
        betas=(0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
        corrected=(1.0, 10.0, 100.0, np.inf),
        kappas=(np.inf, 0.3),
        forgetting=(None, 0.3),
        calendar=2,
        temperature=0.02,
    )
    monkeypatch.setattr(seasonal_prior, "RECENT", 1.0)
    seasonal_prior.prior_features.cache_clear()
    model = AutoLinearForecaster((336, 512, 720), solver=search)
    result = evaluate_ltsf(model, "ETTh1", None, 96, data_home=data_home)
    seasonal_prior.prior_features.cache_clear()
    assert result.mse == pytest.approx(0.3441, abs=1e-3)  # averaged over a few more candidates
