"""Training of Super-Linear: what each mode gains, keeps and refuses."""

import pickle
import sys

import numpy as np
import pytest
from sklearn.base import clone

import mixlin
from mixlin import SuperLinearForecaster
from mixlin.backends import BackendNotAvailableError, resolve
from mixlin.experts import (
    BacktestGate,
    BankMatrices,
    SpectralGate,
    default_bank,
    seasonless_experts,
)
from mixlin.experts.spectral_gate import shipped_for
from mixlin.mixture import LearnedPlan, PriorPlan
from mixlin.solvers import WindowSource
from mixlin.solvers.expert_ridge import ExpertLearner, Span, dominant_period, resampled
from mixlin.solvers.router_fit import choose_router, mixture_loss, polished, router_rows
from mixlin.superlinear_training import TRAININGS, gradient

L, H = 64, 12
FEW = default_bank()[::9]
MODES = pytest.mark.parametrize("mode", TRAININGS)
CLOSED = pytest.mark.parametrize("mode", ["router", "experts", "two-stage"])
LEARNED = pytest.mark.parametrize("mode", ["experts", "two-stage"])


def odd_series(n_rows=1600, seed=0):
    """Return a series of a law that no prior expert has: a sparse recursion of period 13."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_rows + 500)
    for t in range(31, len(x)):
        x[t] = 0.5 * x[t - 13] - 0.45 * x[t - 31] + 0.3 * rng.normal()
    return x[500:]


def daily_series(n_rows=900, seed=0, n_channels=1):
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)[:, None] + 5 * np.arange(n_channels)
    x = np.sin(2 * np.pi * t / 24) + 0.3 * rng.normal(size=(n_rows, n_channels))
    return x[:, 0] if n_channels == 1 else x


def error(model, series):
    windows = np.lib.stride_tricks.sliding_window_view(series, L + H)[::3]
    forecast = model.predict(windows[:, :L, None])[:, :, 0]
    return float(((forecast - windows[:, L:]) ** 2).mean())


def fitted(mode, data, **params):
    if mode == "full":
        pytest.importorskip("torch")
    params = {"bank": FEW, "random_state": 0, **params}
    return SuperLinearForecaster(L, H, training=mode, **params).fit(data)


ODD, LATER = odd_series(), odd_series(700, seed=1)
PRIOR = error(fitted(None, ODD), LATER)
DAILY = daily_series()


# -- what is gained ----------------------------------------------------------------------------


@LEARNED
def test_learned_experts_find_a_law_that_no_prior_one_has(mode):
    assert error(fitted(mode, ODD), LATER) < 0.75 * PRIOR


def test_a_learned_gate_beats_a_uniform_one():
    model = fitted("router", ODD)
    uniform = BacktestGate(exponent=0.0)
    assert error(model, LATER) < 0.9 * error(fitted(None, ODD, gate=uniform, top_k=None), LATER)


def test_both_stages_are_better_than_the_gate_alone():
    assert error(fitted("two-stage", ODD), LATER) < error(fitted("router", ODD), LATER)


def test_a_law_that_prior_experts_have_is_kept():
    model = fitted("experts", DAILY, bank=None)
    later = daily_series(500, seed=1)
    assert error(model, later) < 1.02 * error(fitted(None, DAILY, bank=None), later)


def test_windows_teach_as_series_do():
    windows = np.lib.stride_tricks.sliding_window_view(ODD, L + H)[::2]
    X, y = windows[:, :L], windows[:, L:]
    model = SuperLinearForecaster(bank=FEW, training="two-stage").fit(X, y)
    later = np.lib.stride_tricks.sliding_window_view(LATER, L + H)[::3]
    assert ((model.predict(later[:, :L]) - later[:, L:]) ** 2).mean() < 0.75 * PRIOR


def test_gradient_descent_goes_on_from_two_stages(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gradient, "_LEAST_GAIN", -np.inf)  # also where it does not pay
    data = np.stack([ODD, 3 * odd_series(seed=5) + 10], axis=1)
    model = fitted("full", data)
    assert 1 <= len(model.plan_.bank) <= 16
    epochs = [entry for entry in model.history_ if "epoch" in entry]
    assert [entry["epoch"] for entry in epochs[:2]] == [0, 1]
    windows = np.stack([LATER[:L], 3 * LATER[:L] + 10], axis=1)[None]
    forecast = model.predict(windows)[0]
    np.testing.assert_allclose(forecast[:, 1], 3 * forecast[:, 0] + 10, rtol=1e-9)
    assert error(fitted("full", ODD), LATER) < 0.75 * PRIOR
    assert model.predict(horizon=30).shape == (30, 2)
    again = fitted("full", data)
    np.testing.assert_array_equal(again.predict(), model.predict())


def test_where_gradient_descent_gains_little_two_stages_stay(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(gradient, "_LEAST_GAIN", 1.0)
    whole = fitted("two-stage", DAILY)
    np.testing.assert_array_equal(fitted("full", DAILY).predict(), whole.predict())


# -- what the plans are ------------------------------------------------------------------------


@CLOSED
def test_plans_by_mode(mode):
    model = fitted(mode, DAILY)
    assert type(model.plan_) is (PriorPlan if mode == "router" else LearnedPlan)
    assert type(model.plan_.gate) is (SpectralGate if mode == "router" else BacktestGate)
    gates = {"router": None, "experts": 1, "two-stage": 0}
    if gates[mode] is not None:
        assert len(model.plan_.mixture().gate.evidence) == gates[mode]
    assert model.history_
    weights = model.gate_weights()
    assert weights.shape == (1, 1, len(model.expert_names_))
    np.testing.assert_allclose(weights.sum(axis=2), 1.0)
    mixed = np.einsum("nce,nhce->nhc", weights, model.expert_forecasts())
    np.testing.assert_allclose(mixed[0, :, 0], model.predict(), atol=1e-9)


@CLOSED
def test_experts_join_for_periods_of_the_training_data(mode):
    model = fitted(mode, daily_series() + np.resize(np.eye(17)[0] * 8, 900))
    assert any(name.startswith("period 17,") for name in model.expert_names_)
    alone = fitted(mode, daily_series() + np.resize(np.eye(17)[0] * 8, 900), auto_period=False)
    assert alone.plan_.bank.names == FEW.names


@LEARNED
def test_a_gate_that_knows_the_bank_alone_keeps_it(mode):
    model = fitted("experts", odd_series(), gate="spectral")
    assert model.plan_.bank.names == FEW.names
    assert model.plan_.mixture().gate.evidence == ()


@CLOSED
def test_shorter_contexts_gaps_and_any_horizon_are_forecast(mode):
    model = fitted(mode, DAILY)
    assert np.isfinite(model.predict(DAILY[:30])).all()
    gappy = DAILY[-L:].copy()
    gappy[[3, 20, 41]] = np.nan
    assert np.isfinite(model.predict(gappy)).all()
    np.testing.assert_array_equal(model.predict(horizon=5), model.predict()[:5])
    far = model.predict(horizon=4 * H + 3)
    np.testing.assert_allclose(far[:H], model.predict(), atol=1e-12)
    truth = np.sin(2 * np.pi * np.arange(900, 900 + len(far)) / 24)
    assert np.abs(far - truth).mean() < 0.3
    interval = model.predict_interval(horizon=4 * H + 3)
    assert (interval[:, 0] < far).all()
    assert (far < interval[:, 1]).all()
    np.testing.assert_allclose(model.predict(np.full(L, 4.0)), 4.0)


@LEARNED
def test_prior_experts_forecast_what_learned_ones_do_not_read(mode):
    model = fitted(mode, DAILY, auto_period=False)
    prior = fitted(None, DAILY, auto_period=False)
    np.testing.assert_allclose(model.predict(DAILY[:40]), prior.predict(DAILY[:40]))
    assert np.abs(model.predict() - prior.predict()).max() > 1e-6


@LEARNED
def test_further_blocks_spread_no_wider_than_their_window(mode):
    bank = seasonless_experts()
    model = fitted(mode, DAILY, bank=bank)
    far = model.predict(horizon=40 * H)
    assert far.std() < 1.5 * DAILY.std()


@CLOSED
def test_intervals_hold_what_they_say(mode):
    data = daily_series(1500)
    model = fitted(mode, data[:1000], bank=None)
    windows = np.lib.stride_tricks.sliding_window_view(data[1000 - L :], L + H)[::3]
    inside = model.predict_interval(windows[:, :L, None], 0.8)[:, :, 0]
    targets = windows[:, L:]
    share = ((inside[..., 0] <= targets) & (targets <= inside[..., 1])).mean()
    assert 0.7 < share < 0.95


@CLOSED
def test_forecasts_do_not_see_shift_and_scale(mode):
    plain = fitted(mode, DAILY).predict()
    moved = fitted(mode, 40.0 * DAILY - 7.0).predict()
    np.testing.assert_allclose(moved, 40.0 * plain - 7.0, atol=1e-4)


# -- how it is used ----------------------------------------------------------------------------


@MODES
def test_fits_are_repeatable_and_models_travel(mode, tmp_path):
    model = fitted(mode, DAILY)
    forecast = model.predict()
    np.testing.assert_array_equal(fitted(mode, DAILY).predict(), forecast)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(), forecast)
    assert clone(model).training == mode
    np.testing.assert_array_equal(clone(model).fit(DAILY).predict(), forecast)
    model.save(tmp_path / "model.safetensors")
    loaded = mixlin.load(tmp_path / "model.safetensors")
    assert type(loaded.plan_) is type(model.plan_)
    np.testing.assert_array_equal(loaded.predict(), forecast)
    np.testing.assert_array_equal(loaded.predict(horizon=30), model.predict(horizon=30))


@CLOSED
def test_series_with_gaps_weights_and_friends_teach(mode):
    gappy = daily_series(n_channels=2)
    gappy[300:330, 0] = np.nan
    gappy[500, 1] = np.nan
    assert np.isfinite(fitted(mode, gappy).predict()).all()
    many = [DAILY[:400], daily_series(300, seed=4), np.cumsum(odd_series(250))]
    assert all(np.isfinite(f).all() for f in fitted(mode, many).predict())
    weight = np.linspace(0.1, 1.0, 900)
    model = SuperLinearForecaster(L, H, bank=FEW, training=mode)
    weighted = model.fit(DAILY, sample_weight=weight).predict()
    assert np.isfinite(weighted).all()
    assert np.abs(weighted - fitted(mode, DAILY).predict()).max() > 1e-9


@CLOSED
@pytest.mark.parametrize("data", [np.ones(200), np.arange(100.0), DAILY[: L + H]])
def test_too_little_to_choose_on_leaves_what_is_there(mode, data):
    assert np.isfinite(fitted(mode, data).predict()).all()


# -- what is refused ---------------------------------------------------------------------------


@MODES
def test_too_short_series_are_refused(mode):
    if mode == "full":
        pytest.importorskip("torch")
    model = SuperLinearForecaster(L, H, training=mode, bank=FEW)
    with pytest.raises(ValueError, match=r"needs at least 76 rows|needs windows to learn from"):
        model.fit(DAILY[:50])
    assert "plan_" not in vars(model)


def test_series_without_a_whole_window_are_refused():
    data = DAILY[:200].copy()
    data[::20] = np.nan
    with pytest.raises(ValueError, match="needs windows to learn from, 76 rows without a gap"):
        fitted("experts", data)


@pytest.mark.parametrize("mode", ["router", "two-stage", "full"])
def test_a_gate_that_is_not_fitted_is_refused(mode):
    with pytest.raises(ValueError, match=f"training='{mode}' fits a spectral gate; got gate="):
        fitted(mode, DAILY, gate="backtest")


def test_matrices_that_are_too_large_are_refused():
    model = SuperLinearForecaster(500, 3000, training="experts")
    with pytest.raises(ValueError, match=r"numbers, more than 1\.3e\+08\. Shorten lookback"):
        model.fit(daily_series(4000))


def test_training_by_gradient_without_torch_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    model = SuperLinearForecaster(L, H, bank=FEW, training="full")
    with pytest.raises(BackendNotAvailableError, match="or use training='two-stage'"):
        model.fit(DAILY)


# -- the parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [5, 17, 24, 365])
def test_the_dominant_period_of_a_series(period):
    t = np.arange(3000)
    noise = np.random.default_rng(0).normal(size=3000)
    found = dominant_period(np.sin(2 * np.pi * t / period) + 0.2 * noise)
    assert found == (pytest.approx(period, rel=0.02) if period < 342 else 0.0)
    assert dominant_period(noise) == 0.0


def test_resampling_ends_with_the_last_value():
    x = np.random.default_rng(0).normal(size=40)
    np.testing.assert_array_equal(resampled(x, 0.5), x[1::2])
    np.testing.assert_array_equal(resampled(x, 1.0), x)
    np.testing.assert_allclose(resampled(x, 2.0)[-3:], [x[-2], (x[-2] + x[-1]) / 2, x[-1]])
    x[10] = np.nan
    thin = resampled(x, 0.5)
    assert np.isnan(resampled(x, 2.0)).sum() == 3
    assert not np.isnan(thin).any()  # the missing value is one of those left out


@pytest.mark.parametrize("as_windows", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_experts_solve_their_ridge_problem(as_windows, weighted):
    """Against plain least squares on all windows, with the pull as further rows."""
    x = odd_series(200)
    x = (x - x.mean()) / x.std()
    windows = np.lib.stride_tricks.sliding_window_view(x, 20 + 3)
    weight = np.linspace(0.5, 1.5, len(windows)) if weighted else None
    if as_windows:
        X, y = windows[:, None, :20], windows[:, None, 20:]
        source = WindowSource.of_windows(X, y, weight=weight)
    else:
        per_series = None if weight is None else [weight]
        source = WindowSource.of_series(20, 3, [x[:, None]], weight=per_series)
    bank = seasonless_experts()[:3]
    prior = BankMatrices(bank).predictors(20, 3).weights
    found = ExpertLearner(source, np.ones(1)).solve(bank, prior, np.array([1e-2, 1e-2, np.inf]))
    level = windows[:, :20].mean(axis=1, keepdims=True)
    root = np.ones((len(windows), 1)) if weight is None else np.sqrt(weight)[:, None]
    inputs, targets = (windows[:, :20] - level) * root, (windows[:, 20:] - level) * root
    pull = np.sqrt(1e-2 * (inputs**2).sum() / 20)
    rows = np.concatenate([inputs, pull * np.eye(20)])
    for e in range(2):
        ahead = np.concatenate([targets, pull * prior[:, e]])
        np.testing.assert_allclose(found[:, e], np.linalg.lstsq(rows, ahead)[0], atol=1e-8)
    np.testing.assert_array_equal(found[:, 2], prior[:, 2])


def test_parts_of_the_rows_share_no_window():
    x = odd_series(300)[:, None]
    learner = ExpertLearner(WindowSource.of_series(20, 3, [x]), np.ones(1))
    bank = seasonless_experts()[:1]
    prior = BankMatrices(bank).predictors(20, 3).weights
    strength = np.full(1, 1e-3)
    halves = [Span(0.0, 0.5), Span(0.5, 1.0)]
    both = learner.solve(bank, prior, strength, spans=halves)
    changed = x.copy()
    changed[160:] = np.cumsum(x[160:], axis=0)
    other = ExpertLearner(WindowSource.of_series(20, 3, [changed]), np.ones(1))
    assert np.abs(other.solve(bank, prior, strength, spans=halves) - both).max() > 1e-3
    # in units of the series' own deviation, which has changed too: compare directions
    first, again = (
        some.solve(bank, prior, np.full(1, 1e-9), spans=halves[:1]) for some in (learner, other)
    )
    np.testing.assert_allclose(again, first, atol=1e-6)


def test_a_series_teaches_experts_of_other_periods_thinned_out():
    t = np.arange(2000)
    x = np.resize([0.0, 0, 0, 5, 9, 5, 0, 0], 2000) + 0.1 * np.cos(t)
    learner = ExpertLearner(WindowSource.of_series(16, 4, [x[:, None]]), np.ones(1))
    bank = default_bank().select(lambda e: e.periods in ((4.0,), (24.0,)))
    prior = BankMatrices(bank).predictors(16, 4).weights
    found = learner.solve(bank, prior, np.full(len(bank), 1e-6))
    moved = np.abs(found - prior).max(axis=(0, 2))
    four = np.array([e.periods == (4.0,) for e in bank])
    assert (moved[four] > 1e-3).all()
    assert (moved[~four] == 0).all()  # nothing is made up between values
    thin = x[1::2]
    np.testing.assert_allclose(
        np.einsum("t,teh->eh", thin[:16] - thin[:16].mean(), found[:, four])[0],
        thin[16:20] - thin[:16].mean(),
        atol=0.3,
    )


def router_case(seed=0):
    x = np.concatenate([daily_series(400, seed), np.cumsum(odd_series(400, seed))])
    source = WindowSource.of_series(48, 6, [x[:, None]])
    bank = default_bank()[::12]
    steps = np.arange(6)
    weights = BankMatrices(bank).predictors(48, 6).weights
    parts = [source.subset(slice(i, None, 5)) for i in range(2)]
    return bank, [router_rows(part, weights, steps) for part in parts]


def test_a_chosen_router_beats_its_start_and_says_what_was_tried():
    bank, folds = router_case()
    start, priors = shipped_for(bank), np.array(bank.log_priors)
    found = choose_router(folds, start, log_priors=priors, top_k=None)
    losses = [entry["validation_loss"] for entry in found.history]
    assert found.history[0]["gate"] == "start"
    assert min(losses) < losses[0]
    before = mixture_loss(folds[1], start.weight.T, start.bias, None)
    assert mixture_loss(folds[1], found.weights.weight.T, found.weights.bias, None) < before


def test_polishing_lowers_the_error_of_the_mixture():
    bank, folds = router_case()
    start = shipped_for(bank)
    weight, bias = polished(folds[0], start.weight.T, start.bias, 1e-4)
    assert mixture_loss(folds[0], weight, bias, None) < mixture_loss(
        folds[0], start.weight.T, start.bias, None
    )


def test_a_learned_plan_holds_what_fits():
    bank = FEW[:3]
    prior = PriorPlan(24, 4, bank=bank)
    with pytest.raises(ValueError, match="holds a mixture of matrices alone"):
        LearnedPlan(24, 4, bank=bank)
    with pytest.raises(ValueError, match=r"\(2, 24, 4\); got \(3, 24, 4\)"):
        LearnedPlan(24, 4, bank=bank[:2], fixed=prior.mixture())
    plan = LearnedPlan(24, 4, bank=bank, fixed=prior.mixture())
    assert plan.mixture(horizon=9) is plan.fixed
    assert plan.mixture(horizon=2).horizon == 2
    assert plan.mixture(12).lookback == 12
    window = np.random.default_rng(0).normal(size=(2, 1, 24))
    np.testing.assert_allclose(
        plan.forecast(window, 4, resolve("numpy")), prior.forecast(window, 4, resolve("numpy"))
    )
