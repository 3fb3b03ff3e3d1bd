"""Forecasts without training: what they promise of any series, context, gap and horizon."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

import mixlin
from mixlin import SuperLinearForecaster
from mixlin.experts import (
    BacktestGate,
    EvidenceGate,
    ExpertBank,
    default_bank,
    period_experts,
    seasonless_experts,
)
from mixlin.metrics import forecast_scorer
from mixlin.mixture import prior, spreads
from mixlin.windows import make_windows

from .engines import assert_parity
from .superlinear_cases import make_config, make_series, make_state, official_forecast

L, H, C = 96, 12, 3
FEW = default_bank()[::9]


def series(n_rows=300, n_channels=C, seed=0):
    """Return a noisy season, a random walk and a spiky season on a slow level, side by side."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)
    walk = np.cumsum(rng.normal(size=n_rows))
    waves = np.sin(2 * np.pi * t / 24) + 0.3 * rng.normal(size=n_rows)
    spiky = np.resize(rng.normal(size=7), n_rows) + 0.05 * walk
    return np.stack([waves, walk, spiky], axis=1)[:, :n_channels]


def fitted(data=None, **params):
    data = series() if data is None else data
    return SuperLinearForecaster(L, H, **params).fit(data)


def same_state(estimator, before):
    after = vars(estimator)
    return after.keys() == before.keys() and all(after[k] is before[k] for k in before)


MODEL = fitted()
POINTS = MODEL.predict()
SPREAD = series()[-L:].std(axis=0)


# -- moved and scaled ---------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.sampled_from([1e-12, 1e-4, 0.3, 1.0, 7.0, 1e5, 1e12]),
    st.sampled_from([1.0, -1.0]),
    st.sampled_from([0.0, 1.0, -1e4, 1e9]),
    st.sampled_from(
        [
            {},
            {"gate": "evidence"},
            {"gate": "spectral"},
            {"bank": FEW, "top_k": None},
            {"clean": True},
        ]
    ),
)
def test_forecasts_move_and_scale_with_the_series(scale, sign, level, params):
    model = fitted(**params)
    expected = model.predict()
    moved = series() * (sign * scale) + level * scale
    error = np.abs(model.predict(moved) - (expected * (sign * scale) + level * scale))
    # numbers near the level are rounded to its last digit, once in the series, once at the end
    rounding = np.spacing(abs(level) * scale) / scale
    assert (error / scale <= 1e-11 * SPREAD + 50 * rounding).all()


@pytest.mark.parametrize(("scale", "level"), [(1e-12, 0.0), (1e12, 0.0), (-3.0, 5.0), (1.0, 1e6)])
def test_quantiles_and_weights_move_and_scale_with_the_series(scale, level):
    levels = [0.05, 0.5, 0.8]
    expected = MODEL.predict_quantiles(None, levels) * scale + level
    if scale < 0:
        levels = [round(1 - q, 2) for q in levels]
    moved = MODEL.predict_quantiles(series() * scale + level, levels)
    np.testing.assert_allclose(moved, expected, atol=1e-8 * abs(scale))
    gates = MODEL.gate_weights(series() * scale + level)
    np.testing.assert_allclose(gates, MODEL.gate_weights(), atol=1e-6 if level else 1e-10)


def test_a_level_far_beyond_the_spread_costs_its_own_digits_alone():
    """Values that the level's last digit rounds are forecast as these rounded values are."""
    level = 1e9
    rounded = (series() + level) - level
    assert np.abs(rounded - series()).max() > 1e-8
    np.testing.assert_allclose(
        MODEL.predict(series() + level) - level, MODEL.predict(rounded), atol=2 * np.spacing(level)
    )


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_numbers_near_the_ends_of_their_range_are_forecast(scale):
    np.testing.assert_allclose(MODEL.predict(series() * scale) / scale, POINTS, rtol=1e-9)


# -- what is read -------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([1.0, 1e6, np.nan]))
def test_what_is_older_than_the_lookback_does_not_matter(seed, n_rows, scale):
    older = scale * np.random.default_rng(seed).normal(size=(n_rows, C))
    recent = series()[-L:]
    assert (MODEL.predict(np.concatenate([older, recent])) == POINTS).all()
    windows = np.concatenate([np.nan_to_num(older), recent])[None]
    assert (MODEL.predict(windows) == MODEL.predict(recent[None])).all()


@settings(max_examples=20)
@given(st.integers(0, L - 1), st.integers(0, L - 1), st.integers(0, L - 1))
def test_a_gap_at_the_start_is_a_shorter_context(first, second, third):
    data, missing = series()[-L:], (first, second, third)
    for c, n in enumerate(missing):
        data[:n, c] = np.nan
    together = MODEL.predict(data)
    intervals = MODEL.predict_interval(data)
    alone = fitted(series()[:, :1])
    for c, n in enumerate(missing):
        assert (alone.predict(data[n:, [c]]) == alone.predict(data[:, [c]])).all()
        np.testing.assert_allclose(together[:, [c]], alone.predict(data[n:, [c]]), atol=1e-12)
        np.testing.assert_allclose(
            intervals[:, [c]], alone.predict_interval(data[n:, [c]]), atol=1e-9
        )


@pytest.mark.parametrize("n_rows", [*range(1, 42), 63, 64, 65, 95, 96, 97])
def test_contexts_of_any_length_are_forecast(n_rows):
    context = series()[-n_rows:]
    forecast, interval = MODEL.predict(context), MODEL.predict_interval(context, 0.8)
    assert forecast.shape == (H, C)
    assert np.isfinite(forecast).all()
    assert np.isfinite(interval).all()
    assert (interval[..., 0] <= interval[..., 1]).all()
    assert (MODEL.predict(context[None])[0] == forecast).all()
    reach = np.ptp(context, axis=0)
    assert (forecast <= context.max(axis=0) + 2 * reach).all()
    assert (forecast >= context.min(axis=0) - 2 * reach).all()
    gates = MODEL.gate_weights(context)
    np.testing.assert_allclose(gates.sum(axis=2), 1.0, rtol=1e-12)


def test_contexts_of_hardly_any_values():
    one = MODEL.predict(np.array([[3.0, -2.0, 0.0]]))
    assert (one == [[3.0, -2.0, 0.0]]).all()
    two = MODEL.predict(np.array([[1.0, 0.0, 5.0], [2.0, 0.0, 5.0]]))
    assert ((two[:, 0] > 1.0) & (two[:, 0] < 3.0)).all()
    assert (two[:, 1:] == [[0.0, 5.0]]).all()
    # a series to fit on may be as short
    for n_rows in (1, 2, 3):
        short = SuperLinearForecaster(horizon=4).fit(series()[:n_rows])
        assert short.context_.shape == (n_rows, C)
        np.testing.assert_allclose(short.predict(), MODEL.predict(series()[:n_rows])[:4])


def test_a_lookback_is_read_to_the_last_value_and_shorter_contexts_in_few_lengths():
    model = fitted(series()[:, :1])
    changed = series()[-L:, :1]
    changed[0] += 1.0
    assert (model.predict(changed) != model.predict()).any()
    shorter = SuperLinearForecaster(80, H).fit(series()[:, :1])
    assert (model.predict(series()[-90:, :1]) == shorter.predict()).all()


def test_frames_with_missing_rows_are_contexts_with_gaps():
    pd = pytest.importorskip("pandas")
    hours = pd.date_range("2024-01-01", periods=300, freq="h")
    frame = pd.DataFrame(series(), index=hours, columns=["a", "b", "c"])
    holes = frame.copy()
    holes.iloc[-20:-17] = np.nan
    model = fitted(frame)
    forecast = model.predict(frame.drop(index=hours[-20:-17]))
    assert (
        forecast.index.tolist()
        == (hours[-1] + pd.timedelta_range("1h", periods=H, freq="h")).tolist()
    )
    assert (forecast == model.predict(holes)).all(axis=None)
    np.testing.assert_array_equal(forecast.to_numpy(), MODEL.predict(holes.to_numpy()))
    bounds = model.predict_interval(holes, 0.8)
    assert bounds.columns.tolist() == [(c, q) for c in "abc" for q in (0.1, 0.9)]


# -- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 3.7, -0.1, 1e-300, 1e12])
@pytest.mark.parametrize("params", [{}, {"gate": "evidence"}, {"clean": True}])
def test_a_constant_goes_on(value, params):
    for n_rows in (1, 2, 5, 40, 200):
        model = SuperLinearForecaster(L, H, **params).fit(np.full(n_rows, value))
        assert (model.predict() == value).all()
        np.testing.assert_allclose(model.predict_interval(), value, rtol=1e-12)
    assert (fitted(np.full(L, value), bank=FEW, **params).predict(horizon=5000) == value).all()


@pytest.mark.parametrize("period", [4, 7, 12, 24])
def test_a_season_without_noise_repeats(period):
    t = np.arange(2 * L + 2 * period)
    wave = np.sin(2 * np.pi * t / period) + 0.5 * np.cos(4 * np.pi * t / period + 1)
    model = SuperLinearForecaster(2 * L, 2 * period).fit(wave[: 2 * L])
    error = np.abs(model.predict() - wave[2 * L :]).max() / wave.std()
    assert error < 0.1
    names, weights = (model.expert_weights()[k] for k in ("names", "weights"))
    periods = [name for name, w in zip(names, weights[0, 0], strict=True) if w > 0.01]
    assert all(any(int(p) % period == 0 for p in name.split() if p.isdigit()) for name in periods)


def test_a_random_walk_is_forecast_by_about_its_last_value():
    walks = np.cumsum(np.random.default_rng(0).normal(size=(60, 200)), axis=1)
    model = SuperLinearForecaster(L, H)
    moves = model.forecast_arrays(walks, H) - walks[:, -1:]
    assert np.sqrt((moves**2).mean()) < 0.5 * np.sqrt(H / 2)  # of what the walks will do
    weights = model.fit(walks[0]).expert_weights(walks[:, -L:, None])
    assert np.median(weights.weights[:, 0, weights.names.index("no period")]) > 0.6


def test_noise_is_forecast_by_about_its_mean():
    noise = np.random.default_rng(0).normal(size=(60, L))
    forecast = SuperLinearForecaster(L, H).forecast_arrays(noise, H)
    error = forecast - noise.mean(axis=1, keepdims=True)
    assert np.sqrt((error**2).mean()) < 0.35


def test_a_ramp_goes_on_rising():
    model = SuperLinearForecaster(L, H).fit(np.arange(200.0))
    forecast = model.predict()
    assert (np.diff(forecast) > 0).all()
    assert 199.0 < forecast[0] <= 200.5
    assert forecast[-1] < 212.0  # trends are damped


# -- any horizon --------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"gate": "evidence"}, {"bank": FEW, "auto_period": False}])
def test_a_shorter_horizon_is_the_start_of_a_longer_one(params):
    model = fitted(**params)
    whole, spread = model.predict(), model.predict_quantiles()
    for horizon in (1, np.int64(5), H):
        assert (model.predict(horizon=horizon) == whole[:horizon]).all()
        np.testing.assert_allclose(
            model.predict_quantiles(horizon=horizon), spread[:horizon], atol=1e-12
        )
    far = model.predict(horizon=10 * H)
    for horizon in (H, H + 1, 5 * H):
        np.testing.assert_allclose(far[:horizon], model.predict(horizon=horizon), atol=1e-12)
        np.testing.assert_allclose(
            model.predict_quantiles(horizon=10 * H)[:horizon],
            model.predict_quantiles(horizon=horizon),
            atol=1e-12,
        )
    assert (np.diff(model.predict_quantiles(horizon=10 * H), axis=2) > 0).all()


@pytest.mark.parametrize("gap", [None, slice(-40, -25), slice(-4, None)])
@pytest.mark.parametrize("params", [{}, {"gate": EvidenceGate(10.0)}, {"bank": FEW, "top_k": 2}])
def test_horizons_beyond_any_matrix_are_forecast_alike(params, gap, monkeypatch):
    data = series()
    if gap is not None:
        data[gap] = np.nan
    model = fitted(**params)
    expected = model.predict(data, horizon=4 * H)
    spread = model.predict_quantiles(data, horizon=2 * H)
    monkeypatch.setattr(prior, "_MOST_WEIGHTS", L * 2 * H * 2)
    assert_parity(model.predict(data, horizon=4 * H), expected, 1e-9)
    for c in range(C):  # rows together or alone
        alone = fitted(data[:, [c]], **params).predict(horizon=4 * H)
        np.testing.assert_allclose(alone[:, 0], expected[:, c], atol=1e-9)
    assert_parity(model.predict_quantiles(data, horizon=2 * H), spread, 1e-8)
    monkeypatch.setattr(spreads, "_KNOWN_VARIANCES", 12)  # the others stand between them
    assert_parity(model.predict_quantiles(data, horizon=2 * H), spread, 1e-2)


def test_a_hundred_thousand_steps_are_forecast():
    model = fitted(series()[:, :1], bank=FEW, top_k=4)
    far = model.predict(horizon=100_000)
    assert far.shape == (100_000, 1)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far[: 5 * H], model.predict(horizon=5 * H), atol=1e-9)
    bounds = model.predict_interval(horizon=100_000)
    assert (bounds[..., 0] < far).all()
    assert (far < bounds[..., 1]).all()


def test_intervals_of_a_random_walk_widen_however_far(monkeypatch):
    model = fitted(np.cumsum(np.random.default_rng(0).normal(size=200)), bank=seasonless_experts())
    monkeypatch.setattr(prior, "_MOST_WEIGHTS", L * 50)
    width = np.ptp(model.predict_interval(horizon=6400), axis=1)
    assert (np.diff(width) >= 0).all()
    assert width[6399] == pytest.approx(2 * width[1599], rel=0.1)


# -- gaps ---------------------------------------------------------------------------------------

ALONE = [0, 2, 47, 63, 110, 117, 119, 121, 124]
PATTERNS = {
    "one": [L // 2],
    "inside": list(range(40, 60)),
    "the end": list(range(L - 5, L)),
    "both": [*range(20, 24), *range(L - 2, L)],
    "every third": list(range(1, L, 3)),
    "most": [i for i in range(L) if i % 5 not in (0, 3) and i > 2],
    "all but three": [i for i in range(L) if i not in (0, 30, 80)],
}


def dense_forecast(expert, values, horizon, *, noise=1.0):
    """Forecast by the expert's covariances of what was observed, and solve for the level."""
    n, seen = len(values), ~np.isnan(values)
    kernel = expert.covariances(n + horizon, n + 1)
    kernel[0] += (noise - 1.0) * expert.noise
    whole = toeplitz(kernel)
    past, ahead = whole[:n, :n][np.ix_(seen, seen)], whole[n:, :n][:, seen]
    solved = np.linalg.solve(past, np.stack([values[seen], np.ones(seen.sum())], axis=1))
    level = solved[:, 0].sum() / solved[:, 1].sum()
    return level + ahead @ (solved[:, 0] - level * solved[:, 1])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("place", ALONE)
def test_an_expert_conditions_on_exactly_what_was_observed(place, pattern):
    bank = default_bank()[place : place + 1]
    model = fitted(bank=bank, auto_period=False)
    data = series()[-L:]
    for c, shift in ((0, 0), (1, 1)):  # the third channel is whole
        missing = np.clip(np.array(PATTERNS[pattern]) - shift, 1, None)
        data[missing, c] = np.nan
    forecast = model.predict(data)
    expected = np.stack([dense_forecast(bank[0], data[:, c], H) for c in range(C)], axis=1)
    assert_parity(forecast, expected, 1e-9, unit=float(SPREAD.max()))


def test_the_comparison_notices_another_expert_and_filled_gaps():
    bank = default_bank()[ALONE[0] : ALONE[0] + 1]
    model = fitted(bank=bank, auto_period=False)
    data = series()[-L:]
    data[40:60] = np.nan
    forecast = model.predict(data)[:, 0]
    filled = mixlin.windows.interpolate(data)[:, 0]
    for other in (
        dense_forecast(bank[0], filled, H),
        dense_forecast(bank[0], data[:, 0], H, noise=1 + 1e-5),
    ):
        with pytest.raises(AssertionError, match="off by"):
            assert_parity(forecast, other, 1e-9)


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([0.02, 0.3, 0.7, 0.95]))
def test_channels_with_any_gaps_are_forecast_each_by_itself(seed, share):
    data = series()[-L:]
    missing = np.random.default_rng(seed).random(data.shape) < share
    missing[-7] = False
    data[missing] = np.nan
    model = fitted(bank=FEW)
    together, bounds = model.predict(data), model.predict_interval(data)
    weights = model.gate_weights(data)
    np.testing.assert_allclose(weights.sum(axis=2), 1.0, rtol=1e-12)
    for c in range(C):
        alone = fitted(series()[:, [c]], bank=FEW)
        np.testing.assert_allclose(alone.predict(data[:, [c]])[:, 0], together[:, c], atol=1e-9)
        np.testing.assert_allclose(
            alone.predict_interval(data[:, [c]])[:, 0], bounds[:, c], atol=1e-8
        )
    assert np.isfinite(bounds).all()
    assert (bounds[..., 0] <= bounds[..., 1]).all()


def test_a_gap_costs_little_and_more_at_the_end():
    data = np.sin(2 * np.pi * np.arange(200) / 24) + 0.1 * np.random.default_rng(0).normal(size=200)
    truth = data[-H:]
    model = SuperLinearForecaster(120, H).fit(data[:-H])

    def error(missing):
        context = data[:-H].copy()
        context[missing] = np.nan
        return np.abs(model.predict(context) - truth).mean()

    whole = error([])
    assert error(slice(-70, -50)) < 1.3 * whole
    assert error(slice(-6, None)) < 2 * whole
    assert error(np.random.default_rng(1).random(len(data) - H) < 0.5) < 2 * whole


def test_gaps_leave_the_widths_of_intervals_plausible():
    data = series()[:, [1]]
    holes = data.copy()
    holes[-10:] = np.nan
    model = fitted(data)
    near, far = (np.ptp(model.predict_interval(x), axis=-1) for x in (data, holes))
    assert (far > near).all()  # ten more steps of a random walk


# -- distributions ------------------------------------------------------------------------------


def test_quantiles_are_ordered_and_hold_the_forecast():
    levels = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    quantiles = MODEL.predict_quantiles(None, levels)
    assert (np.diff(quantiles, axis=2) > 0).all()
    assert ((quantiles[..., 0] < POINTS) & (quantiles[..., -1] > POINTS)).all()
    assert (MODEL.predict_interval(coverage=0.8) == quantiles[..., [1, 5]]).all()
    several = MODEL.predict_quantiles([series(), series()[:150]], levels)
    np.testing.assert_allclose(several[0], quantiles, rtol=1e-12)


@pytest.mark.parametrize("kind", ["season", "walk", "noise"])
def test_intervals_cover_what_comes(kind):
    rng = np.random.default_rng(3)
    n, t = 150, np.arange(L + H)
    noise = rng.normal(size=(n, L + H))
    made = {
        "season": 2 * np.sin(2 * np.pi * (t + rng.uniform(0, 24, (n, 1))) / 24) + 0.5 * noise,
        "walk": np.cumsum(noise, axis=1),
        "noise": noise,
    }[kind]
    model = SuperLinearForecaster(L, H)
    _, bounds = model.forecast_arrays(made[:, :L], H, [0.1, 0.9])
    inside = (bounds[..., 0] <= made[:, L:]) & (made[:, L:] <= bounds[..., 1])
    assert 0.68 < inside.mean() < 0.93
    _, wide = model.forecast_arrays(made[:, :L], H, [0.025, 0.975])
    inside = (wide[..., 0] <= made[:, L:]) & (made[:, L:] <= wide[..., 1])
    assert 0.87 < inside.mean() < 0.995


def test_the_methods_for_arrays_and_for_contexts_agree():
    data = [series()[-n:, c] for n, c in ((300, 0), (96, 1), (50, 2), (3, 0), (77, 1), (300, 2))]
    data[5] = data[5].copy()
    data[5][-30:-20] = np.nan
    model = fitted(series()[:, 0])
    points, spread = model.forecast_arrays(data, H, [0.1, 0.5])
    np.testing.assert_allclose(points, np.stack(model.predict(data)), atol=1e-12)
    np.testing.assert_allclose(
        spread, np.stack(model.predict_quantiles(data, [0.1, 0.5])), atol=1e-9
    )
    unfitted = SuperLinearForecaster(L)
    np.testing.assert_allclose(unfitted.forecast_arrays(data, H), points, atol=1e-12)
    assert not hasattr(unfitted, "plan_")


# -- gates --------------------------------------------------------------------------------------


def plain_loops(bank, gate, window, horizon, top_k):
    """Back-test every expert on every fold, and mix the best, one value after another."""
    n = len(window)
    folds = gate.folds(n, H)
    moves = window - window.mean()
    ends = [n - folds.ahead[-1] - i * folds.step for i in range(folds.n_folds)]
    logits, forecasts = [], []
    for expert in bank:
        errors, sizes = [], []
        for end in ends:
            guess = dense_forecast(expert, moves[end - folds.lookback : end], folds.ahead[-1])
            targets = [moves[end + h - 1] for h in folds.ahead]
            errors.append(np.mean([abs(guess[h - 1] - moves[end + h - 1]) for h in folds.ahead]))
            sizes.append(np.mean(np.abs(targets)))
        score = np.mean(np.power(errors, gate.power)) ** (1 / gate.power)
        score += gate.floor * np.mean(sizes)
        logits.append(expert.log_prior - gate.exponent * np.log(score))
        forecasts.append(dense_forecast(expert, window, horizon))
    best = np.argsort(logits)[::-1][:top_k]
    raw = np.exp(np.array(logits)[best] - max(logits))
    return raw / raw.sum() @ np.array(forecasts)[best]


@pytest.mark.parametrize("top_k", [1, 3, None])
@pytest.mark.parametrize("gate", [BacktestGate(), BacktestGate(6.0, power=1.0, n_steps=3)])
def test_forecasts_are_those_of_plain_loops(gate, top_k):
    bank = default_bank()[::14]
    model = fitted(bank=bank, gate=gate, top_k=top_k, auto_period=False)
    for context in (series()[-L:], series()[100 : 100 + 48]):
        expected = np.stack(
            [plain_loops(bank, gate, context[:, c], H, top_k) for c in range(C)], axis=1
        )
        assert_parity(model.predict(context), expected, 1e-8)


def test_names_and_weights_of_experts():
    bank = default_bank()
    assert MODEL.expert_names_[: len(bank)] == bank.names
    assert all(name.startswith("found period, ") for name in MODEL.expert_names_[len(bank) :])
    assert len(MODEL.expert_names_) == len(set(MODEL.expert_names_))
    gates = MODEL.gate_weights()
    assert gates.shape == (1, C, len(MODEL.expert_names_))
    assert (gates >= 0).all()
    np.testing.assert_allclose(gates.sum(axis=2), 1.0, rtol=1e-12)
    assert ((gates > 0).sum(axis=2) <= 32 + len(period_experts(17))).all()
    experts = MODEL.expert_forecasts()
    assert experts.shape == (1, H, C, len(MODEL.expert_names_))
    mixed = (experts * gates[:, None]).sum(axis=3)[0]
    np.testing.assert_allclose(mixed, POINTS, atol=1e-12)
    each, by_period = MODEL.expert_weights(by="expert"), MODEL.expert_weights()
    assert each.names == MODEL.expert_names_
    assert (each.weights == gates).all()
    np.testing.assert_allclose(by_period.weights.sum(axis=2), 1.0, rtol=1e-12)
    top = [by_period.names[i] for i in by_period.weights[0].argmax(axis=1)]
    assert [name.split(" and ")[0] for name in top] == ["period 24", "no period", "periods 7"]
    assert len(by_period.names) == len(set(by_period.names))
    with pytest.raises(ValueError, match="by must be 'period' or 'expert'; got 'name'"):
        MODEL.expert_weights(by="name")


@pytest.mark.parametrize("period", [17, 31])
def test_a_period_that_the_bank_does_not_know_is_found(period):
    rng = np.random.default_rng(0)
    shape = np.convolve(np.tile(rng.normal(size=period), 3), [0.3, 0.4, 0.3], "same")
    data = np.resize(shape[period : 2 * period], 330) + 0.1 * rng.normal(size=330)
    train, truth = data[:-24], data[-24:]
    model, blind = (SuperLinearForecaster(288, 24, auto_period=a).fit(train) for a in (True, False))
    found, other = model.expert_weights(), blind.expert_weights()
    weight = dict(zip(found.names, found.weights[0, 0], strict=True))
    assert weight["found period"] > 0.9
    assert dict(zip(other.names, other.weights[0, 0], strict=True))["found period"] == 0
    error, blindly = (np.abs(m.predict() - truth).mean() for m in (model, blind))
    assert error < 0.5 * blindly
    mixed = (model.expert_forecasts() * model.gate_weights()[:, None]).sum(axis=3)[0, :, 0]
    np.testing.assert_allclose(mixed, model.predict(), atol=1e-12)
    # the same in windows of many, where others have no such period
    windows = np.stack([train[-288:], rng.normal(size=288), train[-288:][::-1]])[:, :, None]
    together = model.predict(windows)
    np.testing.assert_allclose(together[0, :, 0], model.predict(), atol=1e-12)
    alone = np.stack([model.predict(w[None])[0] for w in windows])
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_a_pruned_bank_forecasts_as_its_experts_do():
    bank = default_bank().select(lambda expert: 24.0 in expert.periods) + seasonless_experts()
    model = fitted(bank=bank)
    assert model.expert_names_[: len(bank)] == bank.names
    assert np.abs(model.predict() - POINTS)[:, 0].max() < 0.5
    few = MODEL.expert_forecasts()[..., [MODEL.expert_names_.index(n) for n in bank.names]]
    np.testing.assert_allclose(few, model.expert_forecasts()[..., : len(bank)], atol=1e-12)
    one = fitted(bank=default_bank().select(["random walk, noise 0.01"]), auto_period=False)
    np.testing.assert_allclose(one.predict()[-1], series()[-1], atol=0.05)
    own = ExpertBank(tuple(period_experts(9)))
    assert "period 9" in fitted(bank=own).expert_weights().names


@pytest.mark.parametrize(
    "gate",
    ["evidence", EvidenceGate(5.0), BacktestGate(evidence=4.0), BacktestGate(0.0, evidence=10.0)],
    ids=["evidence", "tempered", "both", "no back-test"],
)
def test_gates_on_the_evidence_forecast_and_tell_a_season_from_a_walk(gate):
    model = fitted(gate=gate)
    assert np.isfinite(model.predict()).all()
    bounds = model.predict_interval()
    assert (bounds[..., 0] < bounds[..., 1]).all()
    found = model.expert_weights()
    weights = [dict(zip(found.names, w, strict=True)) for w in found.weights[0]]
    daily = [sum(w for name, w in each.items() if " 24" in name) for each in weights]
    assert daily[0] > 2 * max(daily[1:])
    assert weights[1]["no period"] > 1.5 * max(weights[0]["no period"], weights[2]["no period"])
    data = series()
    data[-30:-20] = np.nan
    assert np.isfinite(model.predict_interval(data)).all()
    assert (model.predict() != POINTS).any()


def test_a_gate_of_nothing_leaves_the_priors():
    model = fitted(bank=FEW, gate=BacktestGate(exponent=0.0), top_k=None, auto_period=False)
    priors = np.exp(FEW.log_priors)
    np.testing.assert_allclose(
        model.gate_weights()[0, :, : len(FEW)], np.tile(priors / priors.sum(), (C, 1))
    )


def test_fewer_experts_are_those_of_most_weight():
    whole = fitted(bank=FEW, top_k=None, auto_period=False).gate_weights()
    for k in (1, 4):
        gates = fitted(bank=FEW, top_k=k, auto_period=False).gate_weights()
        assert ((gates > 0).sum(axis=2) == k).all()
        order = np.argsort(-whole, axis=2)
        kept = np.take_along_axis(gates, order[..., :k], axis=2)
        shares = np.take_along_axis(whole, order[..., :k], axis=2)
        np.testing.assert_allclose(kept, shares / shares.sum(axis=2, keepdims=True), atol=1e-12)


def test_a_gate_on_the_spectrum_tells_seasons_apart():
    model = fitted(gate="spectral")
    found = model.expert_weights()
    weights = [dict(zip(found.names, w, strict=True)) for w in found.weights[0]]
    daily = [sum(w for name, w in each.items() if " 24" in name) for each in weights]
    weekly = [sum(w for name, w in each.items() if "7" in name.split()) for each in weights]
    assert daily[0] > 0.5 > max(daily[1:])
    assert weekly[2] > 0.5 > max(weekly[:2])
    assert found.weights[0, :, found.names.index("found period")].max() == 0
    bounds = model.predict_interval()
    assert (bounds[..., 0] < bounds[..., 1]).all()
    holes = series()
    holes[-30:-20] = np.nan
    assert np.isfinite(model.predict_interval(holes, horizon=50)).all()
    for n_rows in (1, 2, 3, 5, 17, 50):
        assert np.isfinite(model.predict(series()[:n_rows])).all()


def test_contexts_may_be_thinned_out(tmp_path):
    model = fitted(gate="spectral", resampling=True)
    plain = fitted(gate="spectral", auto_period=False)
    assert np.isfinite(model.predict()).all()
    assert model.predict(horizon=40).shape == (40, C)
    assert model.gate_weights().shape == (1, C, len(default_bank()))
    np.testing.assert_allclose(model.predict(), plain.predict(), atol=1e-9)  # nothing is longer
    with pytest.raises(ValueError, match=r"Use prior experts \(bank=None, resampling=False\)"):
        model.predict_interval()
    model.save_pretrained(tmp_path)
    again = SuperLinearForecaster.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict(series()[-L:]), model.predict(), atol=1e-9)
    assert again.expert_names_ == model.expert_names_


# -- cleaning -----------------------------------------------------------------------------------


def test_cleaning_repairs_a_spike_at_the_end_and_a_stuck_sensor():
    rng = np.random.default_rng(0)
    data = 2 * np.sin(2 * np.pi * np.arange(300) / 24) + 0.2 * rng.normal(size=300)
    truth, context = data[-24:], data[:-24]
    plain, cleaned = (SuperLinearForecaster(240, 24, clean=c).fit(context) for c in (False, True))

    def error(model, context):
        return np.abs(model.predict(context) - truth).mean()

    base = error(plain, context)
    assert error(cleaned, context) == pytest.approx(base, rel=0.05)
    spike = context.copy()
    spike[-1] += 15.0
    assert error(cleaned, spike) < 1.5 * base < error(plain, spike)
    stuck = context.copy()
    stuck[-40:-20] = 5.0
    assert error(cleaned, stuck) < error(plain, stuck)
    holes = spike.copy()
    holes[-60:-50] = np.nan
    assert error(cleaned, holes) < 2 * base
    bounds = cleaned.predict_interval(spike)
    assert (np.ptp(bounds, axis=1) < 0.7 * np.ptp(plain.predict_interval(spike), axis=1)).all()


# -- choosing, copying, saving ------------------------------------------------------------------


def test_parameters_are_searched_on_a_series():
    model = SuperLinearForecaster(L, H, bank=FEW, gate=BacktestGate())
    grid = {"gate__exponent": [0.0, 17.0], "top_k": [1, None]}
    search = GridSearchCV(model, grid, cv=TimeSeriesSplit(3), error_score="raise")
    search.fit(series()[:, 0])
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    assert np.isfinite(scores).all()
    assert search.best_params_["gate__exponent"] == 17.0
    assert (scores[1] > scores[0]).all()
    assert search.best_estimator_.predict().shape == (H,)
    assert model.gate.exponent == 17.0
    negated = GridSearchCV(model, grid, cv=TimeSeriesSplit(3), scoring=forecast_scorer("mae"))
    assert (negated.fit(series()).cv_results_["mean_test_score"] < 0).all()


def test_parameters_set_after_fitting_count_from_the_next_fit(tmp_path):
    gate = BacktestGate()
    model = fitted(gate=gate, bank=FEW)
    expected = model.predict()
    model.set_params(gate__exponent=0.0, top_k=1, auto_period=False, clean=True)
    model.save(tmp_path / "model.safetensors")
    for again in (model, mixlin.load(tmp_path / "model.safetensors")):
        assert (again.predict() == expected).all()
        assert (again.predict(horizon=3) == expected[:3]).all()
    assert (model.fit(series()).predict() != expected).any()


SETTINGS = {
    "default": {},
    "evidence": {"gate": "evidence"},
    "spectral": {"gate": "spectral"},
    "resampled": {"gate": "spectral", "resampling": True},
    "own gate": {"gate": BacktestGate(8.0, evidence=2.0), "top_k": None},
    "own bank": {"bank": FEW + period_experts(9.5), "auto_period": False},
    "clean": {"clean": True, "top_k": 3},
}


@pytest.mark.parametrize("which", SETTINGS)
def test_copies_forecast_the_same(which, tmp_path):
    model = fitted(**SETTINGS[which])
    data = series()
    if "resampling" not in SETTINGS[which]:
        data[-20:-15, 1] = np.nan
    kept = io.BytesIO()
    joblib.dump(model, kept)
    kept.seek(0)
    model.save(tmp_path / "model.safetensors")
    if "resampling" not in SETTINGS[which]:  # no matrix is kept
        assert (tmp_path / "model.safetensors").stat().st_size < 500_000
        assert len(pickle.dumps(model)) < 200_000
    copies = {
        "pickle": pickle.loads(pickle.dumps(model)),
        "joblib": joblib.load(kept),
        "file": mixlin.load(tmp_path / "model.safetensors"),
        "clone": clone(model).fit(series()),
    }
    for copy in copies.values():
        assert type(copy) is SuperLinearForecaster
        assert (copy.predict() == model.predict()).all()
        assert (copy.predict(data) == model.predict(data)).all()
        assert (copy.predict(horizon=3 * H) == model.predict(horizon=3 * H)).all()
        if "resampling" not in SETTINGS[which]:
            assert (copy.predict_quantiles() == model.predict_quantiles()).all()
        assert (copy.gate_weights() == model.gate_weights()).all()
        assert copy.expert_names_ == model.expert_names_
        assert copy.get_params().keys() == model.get_params().keys()
        assert repr(copy.gate) == repr(model.gate)
    assert not hasattr(clone(model), "plan_")


def test_predicting_leaves_the_model_as_it_was():
    model = fitted(bank=FEW)
    before, data = dict(vars(model)), series()
    data[-9:-5, 2] = np.nan
    kept = data.copy()
    for call in (model.predict, model.predict_quantiles, model.gate_weights, model.expert_weights):
        call()
        call(data)
    model.predict(horizon=200)
    model.expert_forecasts(data)
    model.score(series())
    model.forecast_arrays([data[:, 0]], 5)
    assert same_state(model, before)
    assert np.array_equal(data, kept, equal_nan=True)


def test_the_same_windows_in_another_order_are_forecast_alike():
    windows = np.stack([series()[k : k + L] for k in range(0, 200, 11)])
    whole = MODEL.predict(windows)
    order = np.random.default_rng(0).permutation(len(windows))
    np.testing.assert_allclose(MODEL.predict(windows[order]), whole[order], atol=1e-12)
    single = np.concatenate([MODEL.predict(w[None]) for w in windows])
    np.testing.assert_allclose(single, whole, atol=1e-12)


def test_threads_share_a_model():
    contexts = [series(seed=s)[-n:] for s, n in enumerate([*range(20, 96, 7)] * 3)]
    expected = [MODEL.predict_interval(x) for x in contexts]
    model = fitted(bank=ExpertBank(default_bank().experts))
    for made in (prior.shared_matrices, prior._mixtures_of):
        made.cache_clear()  # so that all of them want the same matrices at once
    with ThreadPoolExecutor(8) as pool:
        for found, whole in zip(pool.map(model.predict_interval, contexts), expected, strict=True):
            np.testing.assert_allclose(found, whole, atol=1e-12)


# -- scoring ------------------------------------------------------------------------------------


def test_windows_with_gaps_are_scored_on_targets_that_are_there():
    data, later = series()[:200], series()[200:260]
    later[20, 1] = np.nan
    model = fitted(data, bank=FEW)
    y_true, y_pred = model._forecasts_for_scoring(later)
    rows = np.concatenate([data[-L:], later])
    both = np.lib.stride_tricks.sliding_window_view(rows, L + H, axis=0).transpose(0, 2, 1)
    X, y = both[:, :L], both[:, L:]
    whole = ~np.isnan(y).any(axis=(1, 2))
    assert whole.sum() == len(later) - H + 1 - H  # as many targets hold the gap
    assert np.isnan(X[whole]).any()
    np.testing.assert_array_equal(y_true, y[whole])
    expected = np.stack([model.predict(x) for x in X[whole]])
    np.testing.assert_allclose(y_pred, expected, atol=1e-9)


def test_a_short_training_series_is_context_of_what_follows():
    data, later = series()[:30], series()[30:60]
    model = SuperLinearForecaster(horizon=H, bank=FEW).fit(data)
    y_true, y_pred = model._forecasts_for_scoring(later)
    np.testing.assert_array_equal(y_true[0], later[:H])  # no row of the training series
    np.testing.assert_allclose(y_pred[0], model.predict(), atol=1e-12)
    assert len(y_true) == len(later) - H + 1
    with pytest.raises(ValueError, match="scoring needs 12 rows; got 11"):
        model.score(later[: H - 1])


# -- published weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    config = make_config()
    return config, make_state(config)


def channels_last(rows):
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


@pytest.mark.parametrize("compat", ["clean", "official"])
def test_published_weights_go_through_files(published, compat, tmp_path):
    config, state = published
    model = SuperLinearForecaster.from_pretrained(state, config=config, compat=compat)
    assert (model.horizon_, model.mode_) == (6, "series")
    windows = channels_last(make_series(4, 60))
    expected = model.predict(windows)
    assert expected.shape == (4, 6, 2)
    model.save_pretrained(tmp_path / "published")
    model.save(tmp_path / "model.safetensors")
    for again in (
        SuperLinearForecaster.from_pretrained(tmp_path / "published", compat=compat),
        mixlin.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert (again.predict(windows) == expected).all()
        assert again.expert_names_ == model.expert_names_
        assert (again.gate_weights(windows) == model.gate_weights(windows)).all()


def test_published_weights_forecast_as_the_published_code(published):
    config, state = published
    model = SuperLinearForecaster.from_pretrained(state, config=config, compat="official")
    for length in (10, 24, 60, 110):
        windows = channels_last(make_series(3, length, seed=length))
        forecast = model.predict(windows, horizon=15)
        gates = model.gate_weights(windows)
        for i, window in enumerate(windows):
            for c in range(2):
                expected, _, gate = official_forecast(state, config, window[:, c], 15)
                got = forecast[i, : len(expected), c]
                np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
                np.testing.assert_allclose(gates[i, c], gate, atol=1e-6)


def test_fit_keeps_published_weights(published):
    config, state = published
    model = SuperLinearForecaster.from_pretrained(state, config=config)
    with pytest.raises(ValueError, match="there is no series to continue"):
        model.predict()
    data = make_series(1, 150)[0].T
    copy = clone(model)
    assert copy.fit(data) is copy
    np.testing.assert_array_equal(copy.predict(), model.predict(data))
    assert copy.predict(horizon=20).shape == (20, 2)
    assert copy.context_.shape == (copy.lookback_, 2)
    X, y = make_windows(data[:, 0], 24, 6)
    on_windows = SuperLinearForecaster(bank=model.bank).fit(X, y)
    np.testing.assert_allclose(on_windows.predict(X)[:, :, None], model.predict(X[:, :, None]))
    experts, gates = model.expert_forecasts(X[:, :, None]), model.gate_weights(X[:, :, None])
    np.testing.assert_allclose(
        (experts * gates[:, None]).sum(axis=3), model.predict(X[:, :, None]), atol=1e-9
    )
    few = SuperLinearForecaster(bank=model.bank, top_k=1).fit(X, y)
    assert ((few.gate_weights(X) > 0).sum(axis=2) == 1).all()
    assert model.expert_weights(X[:, :, None]).names[:2] == ["no period", "period 4"]


def test_what_published_weights_have_no_place_for_is_refused(published):
    config, state = published
    model = SuperLinearForecaster.from_pretrained(state, config=config)
    data = make_series(1, 60)[0].T
    for params, match in (
        (
            {"gate": "backtest"},
            "the gate of published weights comes with them; got gate='backtest'",
        ),
        ({"clean": True}, "clean=True looks at windows with prior experts"),
        ({"top_k": 7}, "top_k=7 is more than the 6 experts there are"),
    ):
        wrong = SuperLinearForecaster(horizon=6, bank=model.bank, **params)
        with pytest.raises(ValueError, match=match):
            wrong.fit(data)
    with pytest.raises(ValueError, match="these experts forecast points only"):
        model.predict_interval(data)
    with pytest.raises(ValueError, match="has 1 missing value in its last"):
        model.predict(np.array([[1.0, 2.0], [np.nan, 3.0], [2.0, 2.0]]))
    assert np.isfinite(model.predict(np.array([[np.nan, 2.0], [1.0, 3.0], [2.0, 2.0]]))).all()
    with pytest.raises(ValueError, match="experts by themselves forecast 6 steps from 24 values"):
        model.expert_forecasts(data)


def test_prior_experts_have_no_published_form(tmp_path):
    with pytest.raises(ValueError, match="the published form holds experts of one lookback"):
        MODEL.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


# -- bad input ----------------------------------------------------------------------------------


def refused(match, call, model, error=ValueError):
    before = dict(vars(model))
    with pytest.raises(error, match=match):
        call()
    assert same_state(model, before)


def test_contexts_of_nothing_are_refused():
    model = fitted(bank=FEW)
    nothing = series()
    nothing[:, 1] = np.nan
    endless = series()
    endless[-3, 0] = np.inf
    calls = (model.predict, model.predict_interval, model.gate_weights, model.expert_forecasts)
    for call in calls:
        refused("channel 1. Pass at least one observed value", lambda c=call: c(nothing), model)
        refused("contains infinity", lambda c=call: c(endless), model)
        refused(r"0 sample\(s\)", lambda c=call: c(np.empty((0, C))), model)
        refused("contains NaN", lambda c=call: c(nothing[None]), model)
        refused("the context has no rows", lambda c=call: c(np.empty((2, 0, C))), model)
    for horizon in (0, -1, 2.5, "all", True):
        refused(
            "horizon must be an integer of at least 1",
            lambda h=horizon: model.predict(horizon=h),
            model,
        )


def test_series_of_nothing_are_named():
    model = SuperLinearForecaster(L)
    data = [np.ones(5), np.full(7, np.nan), np.ones(3)]
    refused(
        "series 1 has no value in its last 96 rows", lambda: model.forecast_arrays(data, 3), model
    )
    data[1] = np.empty(0)
    refused("series 1 has no value", lambda: model.forecast_arrays(data, 3), model)
    for horizon in (0, -2, 2.0, True, "all"):
        match = f"horizon must be an integer of at least 1; got {horizon!r}"
        refused(match, lambda h=horizon: model.forecast_arrays(data[::2], h), model)
    assert model.forecast_arrays([], 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"gate": "loudest"}, "gate must be one of 'backtest', 'evidence'.* got 'loudest'"),
        ({"gate": BacktestGate(exponent=-1.0)}, "exponent of BacktestGate must be .* got -1.0"),
        ({"gate": BacktestGate(power=0.0)}, "power of BacktestGate must be .* got 0.0"),
        ({"gate": BacktestGate(n_steps=0)}, "n_steps of BacktestGate must be .* got 0"),
        ({"gate": EvidenceGate(-2.0)}, "tempering of EvidenceGate must be .* got -2.0"),
        ({"resampling": True}, "resampling=True .* Use gate='spectral', or resampling=False"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(params, match):
    model = SuperLinearForecaster(L, H, **params)
    refused(match, lambda: model.fit(series()), model)
    X, y = make_windows(series()[:, 0], L, H)
    windows = SuperLinearForecaster(**params)
    refused(match, lambda: windows.fit(X, y), windows)
    refused(match, lambda: model.forecast_arrays([series()[:, 0]], 3), model)
