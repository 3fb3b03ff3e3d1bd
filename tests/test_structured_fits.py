"""Priors, calendar terms, forgetting and transforms of the exact solver."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
    load,
)
from mixlin.solvers import SeasonalPrior, prior_features
from mixlin.solvers.seasonal_prior import find_periods, natural_periods
from mixlin.timestamps import read_timestamps
from mixlin.transforms import ChannelTransform

MODELS = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
HOURS = np.datetime64("2021-03-01T00") + np.arange(5000)


def daily(n, n_channels=2, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    season = np.sin(2 * np.pi * t / 24 + np.arange(n_channels)) + 0.3 * np.cos(4 * np.pi * t / 24)
    walk = 0.05 * rng.standard_normal((n, n_channels)).cumsum(axis=0)
    return season + walk + noise * rng.standard_normal((n, n_channels))


def windows_of(series, lookback, horizon):
    z = np.lib.stride_tricks.sliding_window_view(series, lookback + horizon, axis=0)
    return z[:, :, :lookback], z[:, :, lookback:]


# -- prior ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    st.integers(4, 40), st.integers(1, 30), st.lists(st.integers(2, 15), max_size=2, unique=True)
)
def test_every_matrix_of_the_prior_forecasts_averages(lookback, horizon, periods):
    periods = tuple(sorted(p for p in periods if p <= lookback))
    features = prior_features(lookback, horizon, periods)
    x = np.random.default_rng(0).standard_normal(lookback)
    for i, name in enumerate(features.names):
        coef = np.eye(len(features.names))[i]
        matrix = features.matrix(coef)
        assert matrix.sum(axis=0) == pytest.approx(np.ones(horizon))
        if name.startswith("mean of cycles"):
            period = int(name.split()[-1])
            for h in range(horizon):
                back = np.arange(period - h % period, lookback // period * period + 1, period)
                assert x @ matrix[:, h] == pytest.approx(x[lookback - back].mean())
        if name.startswith("mean of the last"):
            assert x @ matrix[:, 0] == pytest.approx(x[-int(name.split()[-1]) :].mean())


def test_an_infinite_penalty_leaves_the_fitted_prior_alone():
    series = daily(900)
    prior = SeasonalPrior(24)
    model = NLinearForecaster(72, 30, alpha=1e12, prior=prior, fit_intercept=False).fit(series)
    L, H = 72, 30
    x, y = windows_of(series, L, H)
    features = prior_features(L, H, (24,))
    scale = series.std(axis=0)[:, None]
    parts = np.stack(
        [(x - x[:, :, -1:]) @ features.matrix(c) / scale for c in np.eye(len(features.names))], -1
    )
    target = (y - x[:, :, -1:]) / scale
    coef = np.linalg.lstsq(parts.reshape(-1, parts.shape[-1]), target.ravel(), rcond=None)[0]
    expected = features.matrix(coef)
    found = model.plan_.fixed.weights[0, 0]
    # up to the tiny ridge on the coefficients
    assert np.abs(found - expected)[:-1].max() < 2e-4 < np.abs(expected).max() / 10


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 0.3, np.inf])
def test_kappa_lies_between_own_and_pooled_coefficients(kappa):
    series = daily(700)
    series[:, 1] = np.random.default_rng(5).standard_normal(700).cumsum()
    prior = SeasonalPrior(24, kappa=kappa)
    model = NLinearForecaster(48, 24, alpha=1e12, prior=prior, fit_intercept=False).fit(series)
    groups = len(model.plan_.fixed.weights)
    assert groups == (1 if np.isinf(kappa) else 2)
    if kappa < 1e-6:
        for c in range(2):
            alone = NLinearForecaster(
                48, 24, alpha=1e12, prior=SeasonalPrior(24), fit_intercept=False
            ).fit(series[:, c])
            gap = model.plan_.fixed.weights[c] - alone.plan_.fixed.weights[0]
            assert np.abs(gap).max() < 1e-5


def test_a_season_without_noise_is_forecast_by_the_prior_alone():
    t = np.arange(480)
    series = np.sin(2 * np.pi * t / 24) + 0.5 * np.cos(2 * np.pi * t / 12)
    prior = SeasonalPrior(24)
    model = NLinearForecaster(48, 24, alpha=1e9, prior=prior, fit_intercept=False).fit(series)
    truth = np.sin(2 * np.pi * (480 + np.arange(24)) / 24) + 0.5 * np.cos(
        2 * np.pi * (480 + np.arange(24)) / 12
    )
    assert np.abs(model.predict() - truth).max() < 1e-4


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_the_prior_moves_every_forecaster_and_is_the_ridge_solution(model, individual):
    series = daily(600)
    L, H, alpha = 48, 12, 3.0
    options = {"alpha": alpha, "individual": individual, "fit_intercept": False}
    fitted = model(L, H, prior=SeasonalPrior(24), **options).fit(series)
    plain = model(L, H, **options).fit(series)
    assert not np.allclose(fitted.coef_, plain.coef_, atol=1e-3)
    if model is not NLinearForecaster or individual == "partial":
        return
    # the same as a matrix that was given
    groups = fitted.plan_.fixed.weights
    x, y = windows_of(series, L, H)
    scale = series.std(axis=0)
    z = [(x[:, c] - x[:, c, -1:]) / scale[c] for c in range(2)]
    target = [(y[:, c] - x[:, c, -1:]) / scale[c] for c in range(2)]
    features = prior_features(L, H, (24,))
    whole = [(z[c], target[c]) for c in range(2)]
    pooled = np.concatenate([a for a, _ in whole]), np.concatenate([b for _, b in whole])
    parts = np.stack([pooled[0] @ features.matrix(c) for c in np.eye(len(features.names))], -1)
    coef = np.linalg.lstsq(parts.reshape(-1, parts.shape[-1]), pooled[1].ravel(), rcond=None)[0]
    w0 = features.matrix(coef)
    for g, (a, b) in enumerate(whole if individual else [pooled]):
        raw = (
            x[:, g] / scale[g]
            if individual
            else np.concatenate([x[:, 0] / scale[0], x[:, 1] / scale[1]])
        )
        variance = (
            raw.var() if individual else np.mean([(x[:, c] / scale[c]).var() for c in range(2)])
        )
        strength = alpha * len(a) * variance
        gram = a.T @ a + strength * np.eye(L)
        expected = np.linalg.solve(gram, a.T @ b + strength * w0)
        assert np.abs(groups[g, 0] - expected).max() < 2e-4
        assert np.abs(plain.plan_.fixed.weights[g, 0] - expected).max() > 2e-3


def test_forecasts_do_not_change_far_from_zero():
    series = daily(900)
    solver = ExactSolver(calendar=2, forgetting=0.5)
    options = {"alpha": 1.0, "prior": SeasonalPrior(24), "fit_intercept": False, "solver": solver}
    near = NLinearForecaster(72, 24, **options).fit(series, timestamps=HOURS[:900]).predict()
    far = NLinearForecaster(72, 24, **options).fit(series + 1e6, timestamps=HOURS[:900]).predict()
    assert np.abs(far - 1e6 - near).max() < 1e-8 * 1e6


# -- periods -------------------------------------------------------------------------------


def test_natural_periods_come_first_and_only_where_the_rows_show_them():
    series = daily(24 * 60)
    assert find_periods([series], natural_periods("h")) == (24,)
    walk = np.random.default_rng(0).standard_normal((2000, 3)).cumsum(axis=0)
    assert find_periods([walk], natural_periods("h")) == ()
    assert find_periods([series]) == (24,)
    weekly = np.tile(np.random.default_rng(1).standard_normal(7), 60)[:, None]
    assert find_periods([weekly + 0.1 * walk[:420, :1]]) == (7,)
    week = np.repeat(np.tile([1.0, 1, 1, 1, 1, 0, 0], 9), 24)[:, None]
    both = np.sin(2 * np.pi * np.arange(len(week)) / 24)[:, None] * (0.5 + week)
    assert find_periods([both], natural_periods("h")) == (24, 168)
    holes = series.copy()
    holes[np.random.default_rng(2).random(len(holes)) < 0.1] = np.nan
    assert find_periods([holes], natural_periods("h")) == (24,)


@pytest.mark.parametrize(
    ("freq", "expected"),
    [("h", 24), ("15min", 96), ("D", 7), ("W-SUN", 52), ("MS", 12), ("QE-DEC", 4), ("B", 5)],
)
def test_natural_periods_of_frequencies(freq, expected):
    assert natural_periods(freq)[0] == expected


@pytest.mark.parametrize("freq", [None, 5, "YS", "7h", "13min"])
def test_frequencies_without_a_natural_period(freq):
    assert all(p > 3 for p in natural_periods(freq))


def test_a_period_longer_than_the_lookback():
    series = daily(600)
    with pytest.raises(ValueError, match=r"period=100 .* longer than lookback=48"):
        NLinearForecaster(48, 12, prior=SeasonalPrior(100)).fit(series)
    short = NLinearForecaster(12, 12, alpha=1.0, prior="seasonal").fit(series)  # found, left out
    assert short.predict().shape == (12, 2)


@pytest.mark.parametrize("period", ["daily", 0, 2.5, [], [24, True], None])
def test_bad_periods_are_refused(period):
    with pytest.raises(ValueError, match="'period' parameter of SeasonalPrior"):
        NLinearForecaster(48, 12, prior=SeasonalPrior(period)).fit(daily(300))


# -- calendar ------------------------------------------------------------------------------


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", [LinearForecaster, NLinearForecaster, RLinearForecaster])
def test_profiling_is_the_joint_regression_on_calendar_columns(model, gaps):
    series = daily(500, 1)
    if gaps:
        series[200:203] = np.nan
    L, H, first = 30, 6, 17
    solver = ExactSolver(calendar=2)
    stamps = HOURS[first : first + 500]
    fitted = model(L, H, alpha=0.0, prior=SeasonalPrior(24), solver=solver, scale=None)
    fitted.fit(series, timestamps=stamps)
    x, y = (part[:, 0] for part in windows_of(series, L, H))
    last = read_timestamps(stamps)[0].ordinal() - 500 + 1 + np.arange(len(x)) + L - 1
    keep = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y, last = x[keep], y[keep], last[keep]
    w = 2 * np.pi * np.array([1, 2]) / 24
    phi = np.concatenate([np.cos(np.outer(last, w)), np.sin(np.outer(last, w))], axis=1)
    level = {"NLinearForecaster": x[:, -1:], "RLinearForecaster": x.mean(axis=1, keepdims=True)}
    taken = level.get(model.__name__, np.zeros((len(x), 1)))
    columns = [x - taken, phi]
    if model is RLinearForecaster:
        variance = np.nanvar(series)
        columns.append(np.sqrt(x.var(axis=1, keepdims=True) + 1e-5 * variance))
    if model is not RLinearForecaster:
        columns.append(np.ones((len(x), 1)))
    design = np.concatenate(columns, axis=1)
    expected = design @ np.linalg.lstsq(design, y - taken, rcond=None)[0] + taken
    dates = np.datetime64(0, "h") + last.astype(int)
    found = fitted.predict(x[:, :, None], timestamps=dates[:, None] + np.arange(1 - L, 1))[:, :, 0]
    assert np.abs(found - expected).max() < 1e-6
    residual = np.mean((y - expected) ** 2, axis=0)
    q = design.shape[1] - (model is not LinearForecaster) * (model is NLinearForecaster)
    share = q / len(x)
    assert fitted.plan_.residual_variance[0] == pytest.approx(
        residual * (1 + share) / (1 - share), rel=2e-2
    )


def test_contexts_and_the_training_end_know_their_phase():
    series = daily(800)
    model = NLinearForecaster(48, 24, solver=ExactSolver(calendar=2), prior=SeasonalPrior(24))
    model.fit(series, timestamps=HOURS[:800])
    assert model.plan_.calendar is not None
    again = model.predict(series[-60:], timestamps=HOURS[740:800])
    assert np.abs(again - model.predict()).max() < 1e-12
    shifted = model.predict(series[-60:], timestamps=HOURS[745:805])
    assert np.abs(shifted - again).max() > 1e-3
    with pytest.raises(ValueError, match="calendar terms, and what it got has no times"):
        model.predict(series[-60:])
    with pytest.raises(ValueError, match="calendar terms, and what it got has no times"):
        model.predict(series[None, -48:])
    assert model.score(series[-200:], timestamps=HOURS[600:800]) > 0.5


def test_a_calendar_without_times_is_refused_and_changes_nothing():
    model = NLinearForecaster(48, 24, prior=SeasonalPrior(24)).fit(daily(400))
    before = dict(vars(model))
    model.solver = ExactSolver(calendar=1)
    with pytest.raises(ValueError, match="no times"):
        model.fit(daily(500))
    assert {k: v for k, v in vars(model).items() if k != "solver"} == {
        k: v for k, v in before.items() if k != "solver"
    }
    x, y = windows_of(daily(300, 1), 48, 24)
    with pytest.raises(ValueError, match="needs a series"):
        model.fit(x[:, 0], y[:, 0])


# -- forgetting ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("half_life", [40, 0.25])
def test_forgetting_is_a_weighted_regression(model, half_life):
    series = daily(400, 1)
    L, H = 20, 4
    fitted = model(L, H, solver=ExactSolver(forgetting=half_life), scale=None).fit(series)
    rows = half_life if half_life >= 1 else half_life * 400
    x, y = (part[:, 0] for part in windows_of(series, L, H))
    age = np.arange(len(x))[::-1]
    weighted = model(scale=None).fit(x, y, sample_weight=0.5 ** (age / rows))
    assert np.abs(fitted.predict(x[:, :, None])[:, :, 0] - weighted.predict(x)).max() < 1e-3
    in_order = model(solver=ExactSolver(forgetting=rows), scale=None).fit(x, y)
    assert np.abs(in_order.predict(x) - weighted.predict(x)).max() < 1e-6


def test_chunks_forget_as_the_whole_series_does():
    series = daily(600)
    options = {"solver": ExactSolver(forgetting=90, calendar=1), "prior": SeasonalPrior(24)}
    whole = NLinearForecaster(30, 6, alpha=0.1, **options).fit(series, timestamps=HOURS[:600])
    parts = NLinearForecaster(30, 6, alpha=0.1, **options)
    for a, b in ((0, 100), (100, 107), (107, 400), (400, 600)):
        parts.partial_fit(series[a:b], timestamps=HOURS[a:b])
    assert np.abs(whole.coef_ - parts.coef_).max() < 1e-9
    assert np.abs(whole.predict() - parts.predict()).max() < 1e-9


@pytest.mark.parametrize("bad", [0, -1, "10", True, np.nan])
def test_bad_half_lives_are_refused(bad):
    with pytest.raises(ValueError, match="'forgetting' parameter of ExactSolver"):
        NLinearForecaster(20, 4, solver=ExactSolver(forgetting=bad)).fit(daily(200))


# -- transforms ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([-1.0, -0.3, 0.0, 0.5, 1.0, 2.0]), st.floats(0.1, 1e4))
def test_a_transform_and_its_inverse_cancel(power, unit):
    x = unit * (1 + np.random.default_rng(0).random((3, 1, 20)))
    made = ChannelTransform(
        np.array([power]), np.array([0.1 * unit]), np.array([-np.inf]), np.array([20 * unit])
    )
    assert made.inverse(made.forward(x)) == pytest.approx(x, rel=1e-9)


def test_transforms_are_chosen_on_growth_and_left_out_elsewhere():
    rng = np.random.default_rng(0)
    growing = np.exp(np.linspace(0, 4, 800) + 0.2 * rng.standard_normal(800))
    series = np.stack([growing, 10 + rng.standard_normal(800), rng.standard_normal(800)], axis=1)
    made = ChannelTransform.fit([series], "auto", period=1)
    assert made.power.tolist() == [0.0, 1.0, 1.0]
    solver = ExactSolver(transform="auto")
    model = NLinearForecaster(24, 8, alpha=0.1, solver=solver).fit(series)
    assert model.plan_.transform.power.tolist() == [0.0, 1.0, 1.0]
    forecast = model.predict()
    plain = NLinearForecaster(24, 8, alpha=0.1).fit(np.log(growing + 0.3 * growing.std()))
    # channels share weights, so that only one by itself is comparable
    alone = NLinearForecaster(24, 8, alpha=0.1, solver=solver).fit(growing)
    assert alone.predict() == pytest.approx(np.exp(plain.predict()) - 0.3 * growing.std(), rel=1e-8)
    assert (forecast[:, 0] > 0).all()
    quantiles = alone.predict_quantiles(quantiles=[0.1, 0.5, 0.9])
    assert (np.diff(quantiles, axis=-1) > 0).all()
    assert quantiles[:, 1] == pytest.approx(alone.predict(), rel=1e-9)
    above, below = quantiles[:, 2] - quantiles[:, 1], quantiles[:, 1] - quantiles[:, 0]
    assert (above > below).all()  # multiplicative


def test_the_logarithm_of_what_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="transform='log' needs positive values; channel 0"):
        NLinearForecaster(20, 4, solver=ExactSolver(transform="log")).fit(daily(200))


def test_everything_survives_a_file(tmp_path):
    series = np.exp(daily(600) / 3)
    solver = ExactSolver(calendar=1, forgetting=200, transform="log")
    model = NLinearForecaster(48, 12, alpha=1.0, prior=SeasonalPrior(24, kappa=0.5), solver=solver)
    model.set_params(individual="partial").fit(series, timestamps=HOURS[:600])
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert np.array_equal(again.predict(), model.predict())
    assert np.array_equal(again.predict_interval(), model.predict_interval())
    assert again.get_params()["prior"].kappa == 0.5
