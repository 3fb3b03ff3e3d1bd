"""Rolling backtests: equal to independent fits, at every origin, whatever the options."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from mixlin import (
    AutoLinearForecaster,
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.backtesting import refits, rolling_backtest
from mixlin.datasets import make_seasonal
from mixlin.linear import ExactLinearForecaster
from mixlin.solvers import ExactSearch, RollingSums, SeasonalPrior, SeriesSums, rolling_sums

L, H = 10, 3
N = 130
STAMPS = np.datetime64("2024-01-01T00") + np.arange(400) * np.timedelta64(1, "h")


def series(n=N, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(n, channels)).cumsum(axis=0)
    season = np.sin(2 * np.pi * np.arange(n)[:, None] / 8 + np.arange(channels))
    return 50 + (walk + 3 * season) * np.geomspace(1, 20, channels)


def independent(model, X, origins, window=None, timestamps=None):
    """Forecast with a new fit at every origin."""
    out = []
    for origin in origins:
        rows = slice(0 if window is None else max(0, origin - window), origin)
        stamps = None if timestamps is None else timestamps[rows]
        out.append(clone(model).fit(X[rows], timestamps=stamps).predict())
    return np.array(out).reshape(len(origins), -1, np.shape(X)[1])


def check(model, X, *, timestamps=None, window=None, initial=100, **options):
    found = rolling_backtest(
        model, X, initial=initial, window=window, timestamps=timestamps, **options
    )
    expected = independent(model, X, found.origins, window, timestamps)
    scale = np.nanstd(X, axis=0)
    np.testing.assert_allclose(found.forecasts / scale, expected / scale, rtol=0, atol=1e-8)
    return found


SEASONAL = {"prior": SeasonalPrior(8), "alpha": 0.1}
FADING = {"solver": ExactSolver(forgetting=40.0)}
SHARE = {"solver": ExactSolver(forgetting=0.4)}
FOUND_ONCE = ("own scales", "transform", "forgetting a share", "seasonal found")
OPTIONS = {
    "plain": {},
    "unscaled": {"scale": None},
    "own scales": {"scale": "series"},
    "no intercept": {"fit_intercept": False},
    "individual": {"individual": True},
    "partial": {"individual": "partial"},
    "forgetting": FADING,
    "forgetting a share": SHARE,
    "seasonal": SEASONAL,
    "seasonal found": {"prior": "seasonal"},
    "own coefficients": {"prior": SeasonalPrior(8, kappa=0.5), "individual": "partial"},
    "calendar": {"solver": ExactSolver(calendar=2), "prior": SeasonalPrior(8)},
    "calendar and forgetting": {
        "solver": ExactSolver(calendar=1, forgetting=50.0),
        "prior": SeasonalPrior(8),
        "individual": True,
    },
    "transform": {"solver": ExactSolver(transform="log")},
}


@pytest.mark.parametrize("window", [None, 90])
@pytest.mark.parametrize("name", list(OPTIONS))
@pytest.mark.parametrize(
    "model", [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
)
def test_forecasts_are_those_of_independent_fits(model, name, window):
    X = np.exp(series() / 100) if name == "transform" else series()
    params = {"alpha": 1e-4, **OPTIONS[name]}
    check(model(L, H, **params), X, window=window, timestamps=STAMPS[:N])


@pytest.mark.parametrize("normalization", [None, "last", "mean", "revin"])
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_every_normalization(normalization, individual):
    model = LinearForecaster(L, H, normalization=normalization, individual=individual)
    check(model, series(), window=95)
    check(model, series())


@pytest.mark.parametrize("step", [1, 4, 20])
@pytest.mark.parametrize("window", [None, 60, 100])
def test_steps_between_origins(step, window):
    found = check(NLinearForecaster(L, H), series(), step=step, window=window)
    assert found.origins.tolist() == list(range(100, N - H + 1, step))


@pytest.mark.parametrize("solver", [None, ExactSolver(forgetting=30.0), ExactSolver(calendar=1)])
@pytest.mark.parametrize("window", [None, 80])
def test_gaps_are_left_out_of_the_fits(solver, window):
    X = series()
    X[20:23, 0] = np.nan
    X[60, 1] = np.nan
    X[85] = np.nan  # inside the rows that are added one by one from row 75 on
    model = NLinearForecaster(L, H, solver=solver, prior=SeasonalPrior(8))
    found = rolling_backtest(
        model, X, initial=75, window=window, timestamps=STAMPS[:N], n_origins=40
    )
    reads_gap = np.array([np.isnan(X[o - L : o]).any(axis=0) for o in found.origins])
    assert reads_gap.any()
    assert not reads_gap.all()
    np.testing.assert_array_equal(
        np.isnan(found.forecasts), np.repeat(reads_gap[:, None], H, axis=1)
    )
    for i in np.flatnonzero(~reads_gap.any(axis=1)):
        o = found.origins[i]
        rows = slice(0 if window is None else max(0, o - window), o)
        expected = clone(model).fit(X[rows], timestamps=STAMPS[rows]).predict()
        np.testing.assert_allclose(found.forecasts[i], expected, rtol=0, atol=1e-7)
    errors = found.forecasts - found.targets
    assert found.mse == pytest.approx(np.nanmean(errors**2))
    some = np.isfinite(errors).any(axis=(1, 2))
    np.testing.assert_allclose(found.per_origin[some], np.nanmean(errors[some] ** 2, axis=(1, 2)))
    assert np.isnan(found.per_origin[~some]).all()


def test_scores_are_means_over_the_errors():
    X = series()
    found = check(NLinearForecaster(L, H), X)
    for i, origin in enumerate(found.origins):
        np.testing.assert_array_equal(found.targets[i], X[origin : origin + H])
    errors = found.forecasts - found.targets
    assert found.mse == pytest.approx(np.mean(errors**2))
    assert found.mae == pytest.approx(np.mean(np.abs(errors)))
    np.testing.assert_allclose(found.per_step, np.mean(errors**2, axis=(0, 2)))
    np.testing.assert_allclose(found.per_channel, np.mean(errors**2, axis=(0, 1)))
    np.testing.assert_allclose(found.per_origin, np.mean(errors**2, axis=(1, 2)))


def test_a_channel_that_leaves_its_outlier_behind_keeps_its_digits():
    X = series()
    X[30, 0] = 1e9  # leaves the window of 60 rows again
    model = NLinearForecaster(L, H, individual=True, alpha=1e-4)
    found = rolling_backtest(model, X, initial=80, window=60)
    expected = independent(model, X, found.origins, 60)
    late = found.origins > 30 + 60
    scale = np.abs(expected[late]).max()
    np.testing.assert_allclose(found.forecasts[late], expected[late], rtol=0, atol=1e-8 * scale)


def test_a_channel_may_stop_changing():
    X = series(200)
    X[60:160, 1] = X[60, 1]
    check(NLinearForecaster(L, H), X, window=50)
    check(LinearForecaster(L, H, scale=None), X, window=50)


def test_the_lookback_grows_where_it_follows_the_rows():
    check(NLinearForecaster(None, H, alpha=1e-3), series(90), initial=50)


def test_moves_that_are_too_large_and_too_many_are_made_anew(monkeypatch):
    monkeypatch.setattr(rolling_sums, "_MOST_REMOVED", 5)
    check(NLinearForecaster(L, H), series(), window=70)


def test_many_channels_need_no_matrices(monkeypatch):
    monkeypatch.setattr(refits, "_MOST_BYTES", 100)
    made = []
    monkeypatch.setattr(RollingSums, "move", lambda *args: made.append(args))
    check(NLinearForecaster(L, H), series(), window=70)
    assert not made


def test_rows_are_not_summed_up_again_at_every_origin(monkeypatch):
    counted, plain = [], SeriesSums.add
    monkeypatch.setattr(
        SeriesSums, "add", lambda *args, **kw: counted.append(1) or plain(*args, **kw)
    )
    found = rolling_backtest(NLinearForecaster(L, H), series(), initial=90)
    assert len(found.origins) == 38
    assert len(counted) <= 3


def test_blocks_of_origins_give_the_same_forecasts():
    model = NLinearForecaster(L, H, prior="seasonal")
    one = rolling_backtest(model, series(), initial=90)
    two = rolling_backtest(model, series(), initial=90, n_jobs=2)
    np.testing.assert_allclose(one.forecasts, two.forecasts, rtol=1e-9)
    every = rolling_backtest(model, series(), initial=90, refit=4)
    np.testing.assert_allclose(
        rolling_backtest(model, series(), initial=90, refit=4, n_jobs=3).forecasts,
        every.forecasts,
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    "model",
    [
        NLinearForecaster(L, H),
        NLinearForecaster(L, H, solver=ExactSolver(calendar=1), prior=SeasonalPrior(8)),
        MoLEForecaster(L, H, n_experts=2, random_state=0),
        NLinearForecaster(L, H, scale="series"),
    ],
)
def test_between_fits_the_last_one_forecasts_from_the_newest_rows(model):
    X = series()
    for refit in (False, 5):
        found = rolling_backtest(
            model, X, initial=105, n_origins=12, refit=refit, timestamps=STAMPS[:N]
        )
        fitted = None
        for i, o in enumerate(found.origins):
            if i % (refit or 100) == 0:
                fitted = clone(model).fit(X[:o], timestamps=STAMPS[:o])
                expected = fitted.predict()
            else:
                expected = fitted.predict(X[o - L : o], timestamps=STAMPS[o - L : o])
            np.testing.assert_allclose(found.forecasts[i], expected, rtol=1e-7)


def test_other_models_are_cloned_and_fitted():
    model = MoLEForecaster(L, H, n_experts=2, random_state=0, router="calendar")
    X = series()
    found = rolling_backtest(
        model, X, initial=110, n_origins=3, step=6, window=100, timestamps=STAMPS[:N]
    )
    expected = independent(model, X, found.origins, 100, STAMPS[:N])
    np.testing.assert_allclose(found.forecasts, expected, rtol=1e-9)
    assert not hasattr(model, "plan_")


def test_other_models_skip_channels_with_gaps_in_their_context():
    X = series()
    X[112, 1] = np.nan
    found = rolling_backtest(
        MoLEForecaster(L, H, n_experts=2, random_state=0), X, initial=112, n_origins=3
    )
    assert np.isfinite(found.forecasts[0]).all()
    assert np.isfinite(found.forecasts[1:, :, 0]).all()
    assert np.isnan(found.forecasts[1:, :, 1]).all()


# -- AutoLinearForecaster ----------------------------------------------------------------------

SEARCH = ExactSearch(
    alphas=(0.01, 1.0), betas=(1.0,), corrected=(1.0,), kappas=(np.inf, 0.3), calendar=1
)


def searched(**params):
    return AutoLinearForecaster((16, 24), 4, solver=SEARCH, prior=SeasonalPrior(8), **params)


def test_choices_of_a_search_are_kept_as_update_keeps_them():
    load, stamps = series(400, 3), STAMPS
    model = searched()
    found = rolling_backtest(model, load, initial=360, n_origins=12, timestamps=stamps)
    fitted = clone(model).fit(load[:360], timestamps=stamps[:360])
    for i, o in enumerate(found.origins):
        if i:
            fitted.update(load[o - 1 : o], timestamps=stamps[o - 1 : o])
        np.testing.assert_allclose(found.forecasts[i], fitted.predict(), rtol=1e-7)
    parallel = rolling_backtest(model, load, initial=360, n_origins=12, timestamps=stamps, n_jobs=3)
    np.testing.assert_allclose(parallel.forecasts, found.forecasts, rtol=1e-9)


def test_a_search_may_be_repeated():
    load = series(400, 2)
    found = rolling_backtest(searched(), load, initial=360, n_origins=9, search_every=4)
    for i in (0, 4, 8):
        o = found.origins[i]
        expected = searched().fit(load[:o]).predict()
        np.testing.assert_allclose(found.forecasts[i], expected, rtol=1e-8)
    kept = searched().fit(load[:364]).update(load[364:366])
    np.testing.assert_allclose(found.forecasts[6], kept.predict(), rtol=1e-8)
    two = rolling_backtest(searched(), load, initial=360, n_origins=9, search_every=4, n_jobs=2)
    np.testing.assert_allclose(two.forecasts, found.forecasts, rtol=1e-9)


def test_a_search_slides_along(monkeypatch):
    load = series(400, 2)
    found = rolling_backtest(searched(), load, initial=300, n_origins=9, window=200)
    monkeypatch.setattr(refits, "_MOST_BYTES", 100)
    anew = rolling_backtest(searched(), load, initial=300, n_origins=9, window=200)
    np.testing.assert_allclose(found.forecasts, anew.forecasts, rtol=1e-8)
    growing = rolling_backtest(searched(), load[100:], initial=200, n_origins=9)
    np.testing.assert_allclose(found.forecasts[0], growing.forecasts[0], rtol=1e-8)
    assert np.abs(found.forecasts[8] - growing.forecasts[8]).max() > 1e-6


def test_a_search_without_refit_is_fitted_at_every_origin():
    load = series(300, 2)
    model = searched(refit=False)
    found = rolling_backtest(model, load, initial=290, n_origins=2)
    np.testing.assert_allclose(found.forecasts, independent(model, load, found.origins), rtol=1e-8)


# -- frames ------------------------------------------------------------------------------------


def test_frames_and_their_absent_rows():
    pd = pytest.importorskip("pandas")
    frame = make_seasonal(24 * 20, n_channels=2, random_state=0, as_frame=True).frame
    holes = frame.drop(frame.index[[100, 101, 300]])
    model = NLinearForecaster(30, 6, prior="seasonal", solver=ExactSolver(calendar=2))
    found = rolling_backtest(model, holes, initial=400, n_origins=6)
    for i, o in enumerate(found.origins):
        expected = clone(model).fit(holes[holes.index < frame.index[o]]).predict()
        np.testing.assert_allclose(found.forecasts[i], expected, rtol=1e-8)
    other = MoLEForecaster(30, 6, n_experts=2, router="calendar", random_state=0)
    one = rolling_backtest(other, frame["load_1"], initial=450, n_origins=2)
    expected = clone(other).fit(frame["load_1"].iloc[:451]).predict()
    np.testing.assert_allclose(one.forecasts[1, :, 0], expected, rtol=1e-9)
    plain = frame.set_axis(pd.RangeIndex(7, 7 + len(frame)))
    numbered = rolling_backtest(
        MoLEForecaster(30, 6, n_experts=2, random_state=0), plain, initial=450, n_origins=2
    )
    assert np.isfinite(numbered.forecasts).all()


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"initial": 0}, "initial must be an integer of at least 1; got 0"),
        ({"initial": 2.5}, "initial must be"),
        ({"initial": True}, "initial must be"),
        ({"initial": N}, f"need {N + H} rows; X has {N}"),
        ({"initial": 12}, "too short|rows"),
        ({"step": 0}, "step must be"),
        ({"window": -1}, "window must be"),
        ({"window": 12}, "13"),
        ({"n_origins": 29}, "n_origins=29, but 130 rows hold the targets of 28 origins"),
        ({"refit": 0}, "refit must be True, False or"),
        ({"refit": "no"}, "refit must be"),
        ({"search_every": 3}, "search_every=3 is for AutoLinearForecaster"),
    ],
)
def test_bad_parameters(options, words):
    with pytest.raises(ValueError, match=words):
        rolling_backtest(NLinearForecaster(L, H), series(), **{"initial": 100, **options})


def test_bad_models_and_data():
    from sklearn.linear_model import Ridge

    with pytest.raises(ValueError, match="Ridge has no parameter horizon and lookback"):
        rolling_backtest(Ridge(), series(), initial=100)
    with pytest.raises(ValueError, match="has no horizon; set it"):
        rolling_backtest(NLinearForecaster(L), series(), initial=100)
    with pytest.raises(ValueError, match="takes one series"):
        rolling_backtest(NLinearForecaster(L, H), [series(), series()], initial=100)
    with pytest.raises(ValueError, match="alpha"):
        rolling_backtest(NLinearForecaster(L, H, alpha=-1.0), series(), initial=100)
    with pytest.raises(ValueError, match="search_every=3 must be a multiple"):
        rolling_backtest(searched(), series(400), initial=390, search_every=3, refit=2)
    X = series()
    X[:, 0] = np.nan
    with pytest.raises(ValueError, match=r"channels \[0\] have no window"):
        rolling_backtest(NLinearForecaster(L, H, individual=True), X, initial=100)


# -- update ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in OPTIONS if n not in FOUND_ONCE])
@pytest.mark.parametrize(
    "model", [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
)
def test_updates_are_exact(model, name):
    X, params = series(), {"alpha": 1e-4, **OPTIONS[name]}
    fitted = model(L, H, **params).fit(X[:100], timestamps=STAMPS[:100])
    for stop in (101, 104, 130):
        start = {101: 100, 104: 101, 130: 104}[stop]
        assert fitted.update(X[start:stop], timestamps=STAMPS[start:stop]) is fitted
    whole = model(L, H, **params).fit(X, timestamps=STAMPS[:N])
    tolerance = 1e-8 if model is not RLinearForecaster else 1e-4  # epsilon of the first call
    np.testing.assert_allclose(fitted.predict(), whole.predict(), rtol=tolerance)


def test_an_update_leaves_copies_alone():
    import copy

    X = series()
    X[40, 0] = np.nan
    fitted = NLinearForecaster(L, H).fit(X[:100])
    other, before = copy.copy(fitted), fitted.predict()
    residual = other.plan_
    fitted.update(X[100:])
    np.testing.assert_array_equal(other.predict(), before)
    np.testing.assert_allclose(
        residual.residual_variance, NLinearForecaster(L, H).fit(X[:100]).plan_.residual_variance
    )
    other.update(X[100:])
    np.testing.assert_array_equal(other.predict(), fitted.predict())


def test_what_update_refuses():
    X = series()
    with pytest.raises(ValueError, match="this one is not fitted"):
        NLinearForecaster(L, H).update(X)
    on_windows = NLinearForecaster().fit(X[:20], X[:20])
    with pytest.raises(ValueError, match="this one is fitted on windows"):
        on_windows.update(X)
    fitted = NLinearForecaster(L, H).fit(X[:100], timestamps=STAMPS[:100])
    before = fitted.predict()
    for bad in ({"timestamps": STAMPS[101:111]}, {}):
        with pytest.raises(ValueError, match=r"rows start at|no index|an index"):
            fitted.update(X[100:110], **bad)
    with pytest.raises(ValueError, match="series were learnt"):
        NLinearForecaster(L, H).fit([X, X]).update(X)
    np.testing.assert_array_equal(fitted.predict(), before)
    assert hasattr(ExactLinearForecaster, "update")


# -- the sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [1.0, 0.97])
@pytest.mark.parametrize("frequencies", [None, np.array([0.3, 0.7])])
def test_moving_sums_are_those_of_their_rows(decay, frequencies):
    X = series(300, 3)
    X[100:103, 1] = np.nan
    X[250, 2] = np.nan
    level, eps = np.array([0.0, 50.0, 10.0]), np.array([0.1, 0.2, 0.3])
    moving = RollingSums(X, L, H, level, decay=decay, frequencies=frequencies, at=5.0)
    scale, shift, all_channels = (
        np.array([1.0, 2.0, 30.0]),
        np.array([0.3, -1.0, 0.1]),
        np.arange(3),
    )
    for start, stop in [
        (0, 8),
        (0, 90),
        (0, 91),
        (2, 96),
        (20, 130),
        (22, 133),
        (22, 300),
        (5, 90),
    ]:
        moving.move(start, stop)
        moving.measure_scale(eps)
        own = SeriesSums(L, H, moving.level, eps, decay=decay, frequencies=frequencies)
        own.add(X[start:stop], at=5.0 + start)
        np.testing.assert_allclose(moving.n_windows, own.n_windows, atol=1e-9)
        np.testing.assert_allclose(moving.input_variance(), own.input_variance(), rtol=1e-9)
        for channels in (all_channels, all_channels[1:2]):
            of = (scale[channels], shift[channels], channels)
            size = np.abs(own.moments(*of)).max()
            np.testing.assert_allclose(
                moving.moments(*of), own.moments(*of), rtol=0, atol=1e-12 * size
            )
        for c in range(3):
            for mine, theirs in zip(moving.waves(c), own.waves(c), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9 * np.abs(X[:, c]).size)
        coef = np.random.default_rng(0).normal(size=(1, moving.width - 1, 4))
        constant = np.ones((3, 4))
        np.testing.assert_allclose(
            moving.quadratic(coef, constant), own.quadratic(coef, constant), rtol=1e-9
        )
