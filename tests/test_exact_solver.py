"""The exact solver against scikit-learn's Ridge on windows that exist."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.decomposition import moving_average_matrix
from mixlin.solvers import solve_ridge
from mixlin.solvers.ridge import degrees_of_freedom

L, H, C = 12, 4, 3
EVERY = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
NAMES = [None, "last", "mean", "revin"]


# -- plain references ------------------------------------------------------------------------


def make_series(n_rows=220, n_channels=C, seed=0):
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)[:, None]
    waves = np.sin(2 * np.pi * steps / 6 + np.arange(n_channels))
    noise = rng.normal(size=(n_rows, n_channels))
    drift = 0.2 * rng.normal(size=(n_rows, n_channels)).cumsum(axis=0)
    return (waves + 0.5 * noise + drift) * (1.0 + np.arange(n_channels)) + 4.0 * np.arange(
        n_channels
    )


def cut(series, lookback=L, horizon=H):
    """Return windows (n, L, C) and targets (n, H, C), one by one."""
    starts = range(len(series) - lookback - horizon + 1)
    x = np.array([series[t : t + lookback] for t in starts])
    y = np.array([series[t + lookback : t + lookback + horizon] for t in starts])
    return x, y


def level_of(x, normalization):
    """Return the level (n, C) of windows (n, L, C)."""
    if normalization == "last":
        return x[:, -1]
    if normalization in ("mean", "revin"):
        return x.mean(axis=1)
    return np.zeros(x[:, 0].shape)


def features(x, normalization, eps):
    """Return features (n, p, C) of windows (n, L, C); eps is (C,)."""
    centered = x - level_of(x, normalization)[:, None]
    if normalization != "revin":
        return centered
    spread = np.sqrt(x.var(axis=1) + eps)
    return np.concatenate([centered, spread[:, None]], axis=1)


def split_features(f, kernel_size):
    """Return (seasonal, trend) of features (n, L, C) as (n, 2 L, C)."""
    average = moving_average_matrix(f.shape[1], kernel_size)
    trend = np.einsum("ts,nsc->ntc", average, f)
    return np.concatenate([f - trend, trend], axis=1)


def stack(a):
    """Return (C * n, p) of (n, p, C), channel after channel."""
    return np.concatenate([a[:, :, c] for c in range(a.shape[2])])


def variances(x, weight=None):
    """Return the variance of the inputs of every channel around its own mean."""
    w = np.ones(len(x)) if weight is None else weight
    w = np.repeat(w[:, None], x.shape[1], axis=1)
    out = []
    for c in range(x.shape[2]):
        mean = np.average(x[:, :, c], weights=w)
        out.append(np.average((x[:, :, c] - mean) ** 2, weights=w))
    return np.array(out)


def ridge_fit(f, t, penalty, fit_intercept, weight=None):
    model = Ridge(alpha=penalty, fit_intercept=fit_intercept, solver="svd").fit(f, t, weight)
    if penalty == 0:  # normalized windows are collinear: the solution of least norm
        assert weight is None
        center = f.mean(axis=0) if fit_intercept else np.zeros(f.shape[1])
        offset = t.mean(axis=0) if fit_intercept else np.zeros(t.shape[1])
        model.coef_ = np.linalg.lstsq(f - center, t - offset, rcond=1e-11)[0].T
        model.intercept_ = offset - model.coef_ @ center
    return model


def reference_forecasts(
    x, y, new, normalization, alpha, fit_intercept, *, kernel_size=None, scale=None, center=None
):
    """Pooled ridge on explicit features; channels measured from center in units of scale."""
    n_channels = x.shape[2]
    scale = np.ones(n_channels) if scale is None else scale
    center = np.zeros(n_channels) if center is None else center
    eps = 1e-5 * variances(x) / scale**2
    x, y, new = (x - center) / scale, (y - center) / scale, (new - center) / scale
    f, f_new = features(x, normalization, eps), features(new, normalization, eps)
    if kernel_size is not None:
        f, f_new = split_features(f, kernel_size), split_features(f_new, kernel_size)
    t = stack(y - level_of(x, normalization)[:, None])
    penalty = alpha * len(t) * variances(x).mean()
    model = ridge_fit(stack(f), t, penalty, fit_intercept)
    out = np.stack([model.predict(f_new[:, :, c]) for c in range(n_channels)], axis=2)
    return (out + level_of(new, normalization)[:, None]) * scale + center


@pytest.fixture(scope="module")
def series():
    return make_series()


@pytest.fixture(scope="module")
def windows(series):
    return cut(series)


@pytest.fixture(scope="module")
def new():
    return cut(make_series(40, seed=9))[0]


def assert_close(got, expected, tolerance=1e-9):
    assert got.shape == expected.shape
    error = np.abs(got - expected).max()
    assert error <= tolerance * np.abs(expected).max(), error


# -- ridge on windows ------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 1e-2, 3.0])
def test_linear_on_windows_is_ridge_with_the_documented_penalty(windows, new, alpha, fit_intercept):
    x, y = windows[0][:, :, 1], windows[1][:, :, 1]
    ours = LinearForecaster(alpha=alpha, fit_intercept=fit_intercept).fit(x, y)
    ridge = ridge_fit(x, y, alpha * len(x) * x.var(), fit_intercept)
    assert_close(ours.coef_, ridge.coef_)
    np.testing.assert_allclose(ours.intercept_, ridge.intercept_, atol=1e-9)
    assert_close(ours.predict(new[:, :, 1]), ridge.predict(new[:, :, 1]))


def test_a_penalty_off_by_a_hundredth_would_be_seen(windows):
    x, y = windows[0][:, :, 1], windows[1][:, :, 1]
    ours = LinearForecaster(alpha=1e-2).fit(x, y)
    ridge = ridge_fit(x, y, 1.01e-2 * len(x) * x.var(), True)
    with pytest.raises(AssertionError):
        assert_close(ours.coef_, ridge.coef_, 1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("normalization", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 1e-1])
def test_pooled_windows_are_ridge_on_normalized_windows(
    windows, new, normalization, alpha, fit_intercept
):
    x, y = windows
    model = LinearForecaster(
        normalization=normalization, alpha=alpha, fit_intercept=fit_intercept
    ).fit(x, y)
    expected = reference_forecasts(x, y, new, normalization, alpha, fit_intercept)
    assert_close(model.predict(new), expected)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("normalization", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 1e-1])
def test_a_series_is_ridge_on_pooled_z_scored_windows(
    series, windows, new, normalization, alpha, fit_intercept
):
    model = LinearForecaster(
        L, H, normalization=normalization, alpha=alpha, fit_intercept=fit_intercept
    ).fit(series)
    x, y = windows
    eps_ratio = series.var(axis=0) / variances(x)  # the window's epsilon is that of the rows
    assert np.abs(eps_ratio - 1).max() < 0.5
    expected = reference_forecasts(
        x,
        y,
        new,
        normalization,
        alpha,
        fit_intercept,
        scale=series.std(axis=0),
        center=series.mean(axis=0),
    )
    assert_close(model.predict(new), expected, 1e-5 if normalization == "revin" else 1e-9)


def test_the_scale_parameter_decides_the_units_of_the_fit(series, windows, new):
    x, y = windows
    plain = LinearForecaster(L, H, scale=None, alpha=0.01).fit(series)
    assert_close(plain.predict(new), reference_forecasts(x, y, new, None, 0.01, True))
    scaled = LinearForecaster(scale="std", alpha=0.01).fit(x, y)
    mean, std = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
    assert_close(
        scaled.predict(new),
        reference_forecasts(x, y, new, None, 0.01, True, scale=std, center=mean),
    )
    assert np.abs(plain.predict(new) - scaled.predict(new)).max() > 1e-3


@pytest.mark.parametrize(
    ("cls", "normalization", "fit_intercept"),
    [
        (LinearForecaster, None, True),
        (NLinearForecaster, "last", True),
        (RLinearForecaster, "revin", False),
    ],
)
def test_named_models_are_their_normalization(windows, new, cls, normalization, fit_intercept):
    x, y = windows
    expected = reference_forecasts(x, y, new, normalization, 1e-3, fit_intercept)
    assert_close(cls(alpha=1e-3).fit(x, y).predict(new), expected)


# -- DLinear ---------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", NAMES[:3])
@pytest.mark.parametrize("kernel_size", [1, 5, 25])
def test_dlinear_is_ridge_on_the_seasonal_part_and_the_trend(
    windows, new, normalization, kernel_size
):
    x, y = windows
    model = DLinearForecaster(kernel_size=kernel_size, normalization=normalization, alpha=0.05)
    expected = reference_forecasts(x, y, new, normalization, 0.05, True, kernel_size=kernel_size)
    assert_close(model.fit(x, y).predict(new), expected)


def test_dlinear_penalizes_in_the_metric_of_its_decomposition(windows, new):
    x, y = windows
    dlinear = DLinearForecaster(kernel_size=5, alpha=0.05).fit(x, y)
    linear = LinearForecaster(alpha=0.05).fit(x, y)
    assert np.abs(dlinear.predict(new) - linear.predict(new)).max() > 1e-3
    free = DLinearForecaster(kernel_size=5, alpha=0.0).fit(x, y)
    assert_close(free.predict(new), LinearForecaster(alpha=0.0).fit(x, y).predict(new))


@pytest.mark.parametrize("mode", ["windows", "series"])
def test_seasonal_and_trend_coefficients_are_those_of_the_two_branch_ridge(series, windows, mode):
    x, y = windows
    if mode == "windows":
        model = DLinearForecaster(kernel_size=5, alpha=0.05).fit(x, y)
    else:
        model = DLinearForecaster(L, H, kernel_size=5, alpha=0.05).fit(series)
        mean, std = series.mean(axis=0), series.std(axis=0)
        x, y = (x - mean) / std, (y - mean) / std
    f, t = stack(split_features(x, 5)), stack(y)
    ridge = ridge_fit(f, t, 0.05 * len(t) * variances(x).mean(), True)
    assert_close(model.seasonal_coef_, ridge.coef_[:, :L], 1e-8)
    assert_close(model.trend_coef_, ridge.coef_[:, L:], 1e-8)
    average = moving_average_matrix(L, 5)
    folded = model.seasonal_coef_ @ (np.eye(L) - average) + model.trend_coef_ @ average
    assert_close(folded, model.coef_, 1e-12)


# -- individual channels ---------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("mode", ["windows", "series"])
def test_individual_weights_are_separate_fits(series, windows, new, cls, fit_intercept, mode):
    params = {"alpha": 0.01, "fit_intercept": fit_intercept}
    if mode == "windows":
        x, y = windows
        joint = cls(individual=True, **params).fit(x, y)
        alone = [cls(**params).fit(x[:, :, c], y[:, :, c]) for c in range(C)]
        apart = [m.predict(new[:, :, c]) for c, m in enumerate(alone)]
    else:
        joint = cls(L, H, individual=True, **params).fit(series)
        alone = [cls(L, H, **params).fit(series[:, c]) for c in range(C)]
        apart = [m.predict(new[:, :, c : c + 1])[:, :, 0] for c, m in enumerate(alone)]
    assert_close(joint.predict(new), np.stack(apart, axis=2))
    assert joint.coef_.shape == (C, H, L)
    for c in range(C):
        assert_close(joint.coef_[c], alone[c].coef_, 1e-8)
        np.testing.assert_allclose(joint.intercept_[c], alone[c].intercept_, atol=1e-8)


@pytest.mark.parametrize("pooling", [0.01, 10.0])
@pytest.mark.parametrize("normalization", ["last", "mean", None])
def test_partial_pooling_adds_a_shrunk_fit_of_every_channel_to_what_is_left(
    series, windows, new, normalization, pooling
):
    alpha = 0.02
    model = LinearForecaster(
        L,
        H,
        normalization=normalization,
        individual="partial",
        alpha=alpha,
        solver=ExactSolver(pooling=pooling),
    ).fit(series)
    mean, std = series.mean(axis=0), series.std(axis=0)
    x, y = (windows[0] - mean) / std, (windows[1] - mean) / std
    f, t = features(x, normalization, 0), y - level_of(x, normalization)[:, None]
    shared = ridge_fit(stack(f), stack(t), alpha * len(x) * C * variances(x).mean(), True)
    z = (new - mean) / std
    f_new = features(z, normalization, 0)
    out = np.empty((len(new), H, C))
    for c in range(C):
        left = t[:, :, c] - shared.predict(f[:, :, c])
        penalty = pooling * len(x) * variances(x)[c]
        own = ridge_fit(f[:, :, c], left, penalty, False)
        out[:, :, c] = shared.predict(f_new[:, :, c]) + own.predict(f_new[:, :, c])
    out = (out + level_of(z, normalization)[:, None]) * std + mean
    assert_close(model.predict(new), out)
    assert model.coef_.shape == (C, H, L)


@pytest.mark.parametrize("cls", EVERY)
def test_partial_pooling_ends_in_the_shared_fit_and_in_free_fits(series, new, cls):
    def fit(individual, pooling=1.0, **params):
        solver = ExactSolver(pooling=pooling)
        return cls(L, H, individual=individual, solver=solver, alpha=1e-3, **params).fit(series)

    shared = fit(False).predict(new)
    assert_close(fit("partial", np.inf).predict(new), shared, 1e-12)
    assert_close(fit("partial", 1e9).predict(new), shared, 1e-6)
    # without an intercept nothing stays shared: the corrections reach each least-squares fit
    free = fit("partial", 0.0, fit_intercept=False).predict(new)
    alone = cls(L, H, individual=True, alpha=0.0, fit_intercept=False).fit(series)
    assert_close(free, alone.predict(new), 1e-6)
    gap = [np.abs(fit("partial", p).predict(new) - shared).max() for p in (1e-4, 1e-2, 1.0, 100.0)]
    assert gap == sorted(gap, reverse=True)
    assert gap[0] > 10 * gap[-1]


@pytest.mark.parametrize("pooling", [-1.0, "much", float("nan")])
def test_pooling_out_of_range_gets_a_sentence(series, pooling):
    model = LinearForecaster(L, H, individual="partial", solver=ExactSolver(pooling=pooling))
    with pytest.raises(ValueError, match="'pooling' parameter of ExactSolver must be"):
        model.fit(series)


# -- priors ----------------------------------------------------------------------------------


def random_prior(n_channels=None, seed=3):
    """Return coefficients whose rows sum to one, so that no normalization changes them."""
    shape = (H, L) if n_channels is None else (n_channels, H, L)
    prior = np.random.default_rng(seed).normal(size=shape)
    return prior + (1.0 - prior.sum(axis=-1, keepdims=True)) / L


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True])
def test_a_large_penalty_gives_the_prior_and_none_ignores_it(series, cls, individual):
    prior = random_prior(C if individual else None)
    made = cls(L, H, prior=prior, individual=individual, alpha=1e12).fit(series)
    assert_close(made.coef_, prior, 1e-8)
    free = cls(L, H, prior=prior, individual=individual, alpha=0.0).fit(series)
    plain = cls(L, H, individual=individual, alpha=0.0).fit(series)
    assert_close(free.predict(), plain.predict(), 1e-8)


@pytest.mark.parametrize("alpha", [1e-3, 0.3])
@pytest.mark.parametrize("kernel_size", [None, 5])
def test_the_prior_is_what_the_penalty_measures_from(windows, new, alpha, kernel_size):
    x, y = windows
    prior = random_prior()
    if kernel_size is None:
        model = LinearForecaster(prior=prior, alpha=alpha).fit(x, y)
    else:
        model = DLinearForecaster(prior=prior, alpha=alpha, kernel_size=kernel_size).fit(x, y)
    left = stack(y) - stack(x) @ prior.T
    f = x if kernel_size is None else split_features(x, kernel_size)
    f_new = new if kernel_size is None else split_features(new, kernel_size)
    rest = ridge_fit(stack(f), left, alpha * len(left) * variances(x).mean(), True)
    expected = [new[:, :, c] @ prior.T + rest.predict(f_new[:, :, c]) for c in range(C)]
    assert_close(model.predict(new), np.stack(expected, axis=2))


def test_own_priors_need_individual_weights(windows):
    x, y = windows
    priors = random_prior(C)
    for individual in (False, "partial"):
        with pytest.raises(ValueError, match=r"a prior per channel.*needs individual=True"):
            LinearForecaster(prior=priors, individual=individual).fit(x, y)
    own = LinearForecaster(prior=priors, alpha=0.1, individual=True).fit(x, y)
    for c in range(C):
        alone = LinearForecaster(prior=priors[c], alpha=0.1).fit(x[:, :, c], y[:, :, c])
        assert_close(own.coef_[c], alone.coef_)


@pytest.mark.parametrize(
    "prior", [np.zeros((H, L + 1)), np.zeros((C + 1, H, L)), np.full((H, L), np.nan), np.zeros(L)]
)
def test_a_prior_of_another_shape_gets_a_sentence(windows, prior):
    with pytest.raises(ValueError, match="prior must be None or finite coefficients"):
        LinearForecaster(prior=prior).fit(*windows)


# -- weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("scale", [None, "std"])
def test_a_window_of_weight_two_is_two_windows_and_of_zero_none(windows, new, cls, scale):
    x, y = windows
    counts = np.random.default_rng(0).integers(0, 4, len(x))
    weighted = cls(alpha=0.01, scale=scale).fit(x, y, sample_weight=counts)
    repeated = cls(alpha=0.01, scale=scale).fit(
        np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0)
    )
    assert_close(weighted.predict(new), repeated.predict(new), 1e-10)
    np.testing.assert_allclose(
        weighted.plan_.residual_variance, repeated.plan_.residual_variance, rtol=1e-9
    )


def test_row_weights_of_a_series_weigh_every_window_by_its_targets(series, windows, new):
    x, y = windows
    rows = np.random.default_rng(0).uniform(0, 2, len(series))
    weight = np.array([rows[t + L : t + L + H].mean() for t in range(len(x))])
    model = LinearForecaster(L, H, scale=None, alpha=0.01).fit(series, sample_weight=rows)
    penalty = 0.01 * weight.sum() * C * variances(x, weight).mean()
    ridge = ridge_fit(stack(x), stack(y), penalty, True, np.tile(weight, C))
    assert_close(model.coef_, ridge.coef_)
    expected = np.stack([ridge.predict(new[:, :, c]) for c in range(C)], axis=2)
    assert_close(model.predict(new), expected)


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("scale", [None, "auto"])
def test_equal_row_weights_change_nothing(series, new, cls, scale):
    plain = cls(L, H, scale=scale).fit(series)
    weighted = cls(L, H, scale=scale).fit(series, sample_weight=np.full(len(series), 0.3))
    assert_close(weighted.predict(new), plain.predict(new), 1e-9)


@pytest.mark.parametrize("cls", EVERY[:3])
def test_row_weights_of_zero_remove_windows_next_to_gaps_too(series, new, cls):
    values = series.copy()
    values[100, 1] = np.nan
    rows = np.ones(len(series))
    rows[120:] = 0.0
    weighted = cls(L, H, scale=None).fit(values, sample_weight=rows)
    # a window counts while one of its targets does: with weights in between at the border
    border = np.array([rows[t + L : t + L + H].mean() for t in range(len(values) - L - H + 1)])
    x, y = cut(values)
    total_x, total_y, total_w = [], [], []
    for c in range(C):
        keep = np.isfinite(x[:, :, c]).all(axis=1) & np.isfinite(y[:, :, c]).all(axis=1)
        total_x.append(x[keep][:, :, c])
        total_y.append(y[keep][:, :, c])
        total_w.append(border[keep])
    if cls is LinearForecaster:
        v = [variances(a[:, :, None], w)[0] for a, w in zip(total_x, total_w, strict=True)]
        n = [w.sum() for w in total_w]
        penalty = 1e-6 * np.dot(n, v)
        ridge = ridge_fit(
            np.concatenate(total_x),
            np.concatenate(total_y),
            penalty,
            True,
            np.concatenate(total_w),
        )
        assert_close(weighted.coef_, ridge.coef_)
    changed = values.copy()
    changed[140:] += 100.0
    again = cls(L, H, scale=None).fit(changed, sample_weight=rows)
    assert_close(again.predict(new), weighted.predict(new), 1e-6)


@pytest.mark.parametrize("cls", EVERY)
def test_weights_of_a_list_of_series(series, new, cls):
    parts = [series[:90], series[90:]]
    weighted = cls(L, H, scale=None).fit(parts, sample_weight=[1.0, 2.0])
    repeated = cls(L, H, scale=None).fit([parts[0], parts[1], parts[1]])
    tolerance = 1e-5 if cls is RLinearForecaster else 1e-9  # epsilon is of the rows, unweighted
    assert_close(weighted.predict(new), repeated.predict(new), tolerance)


def test_partial_fit_with_another_weight_is_exact_or_refused(series, new):
    first, second = series[:120], series[120:]
    rows = np.r_[np.ones(120), np.full(100, 3.0)]
    expected = LinearForecaster(L, H, scale=None).fit(series, sample_weight=rows)
    model = LinearForecaster(L, H, scale=None).fit(first, sample_weight=rows[:120])
    refusal = ""
    try:
        model.partial_fit(second, sample_weight=rows[120:])
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "weight" in refusal
    else:
        assert_close(model.predict(new), expected.predict(new), 1e-9)


# -- residuals -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("gaps", [False, True])
def test_residual_variance_is_that_of_the_training_residuals(series, cls, individual, gaps):
    values = series.copy()
    if gaps:
        values[50:53, 0] = np.nan
        values[150, 2] = np.nan
    model = cls(L, H, individual=individual, alpha=1e-3).fit(values)
    assert model.plan_.residual_variance.shape == (C, H)
    x, y = cut(values)
    for c in range(C):
        keep = np.isfinite(x[:, :, c]).all(axis=1) & np.isfinite(y[:, :, c]).all(axis=1)
        filled = np.where(np.isfinite(x[keep]), x[keep], 0.0)
        residual = y[keep][:, :, c] - model.predict(filled)[:, :, c]
        square = (residual**2).mean(axis=0)
        ratio = model.plan_.residual_variance[c] / square
        assert np.ptp(ratio) < 1e-7
        # Akaike's factor of the degrees of freedom used, at most those of two full fits
        used = 2.2 * (L + 2) / keep.sum()
        assert 1.0 < ratio[0] < (1.0 + used) / (1.0 - used)


def test_residual_variance_is_that_of_errors_on_new_windows():
    rng = np.random.default_rng(0)
    promised, found = [], []
    for _ in range(40):
        x, y = rng.normal(size=(60, 15)), rng.normal(size=(60, 2))
        model = LinearForecaster(alpha=0.0).fit(x, y)
        promised.append(model.plan_.residual_variance.mean())
        new_x, new_y = rng.normal(size=(500, 15)), rng.normal(size=(500, 2))
        found.append(((model.predict(new_x) - new_y) ** 2).mean())
    assert np.mean(found) > 1.25  # the noise of the coefficients counts
    assert abs(np.mean(promised) / np.mean(found) - 1.0) < 0.08  # uncorrected: 0.55


@pytest.mark.parametrize("penalty", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("with_metric", [False, True])
def test_effective_degrees_of_freedom_are_the_trace_of_the_hat_matrix(penalty, with_metric):
    rng = np.random.default_rng(0)
    f, t = rng.normal(size=(80, 9)), rng.normal(size=(80, 2))
    root = rng.normal(size=(9, 9)) + 3 * np.eye(9)
    metric = root @ root.T if with_metric else None
    weights = solve_ridge(f.T @ f, f.T @ t, penalty, metric)
    dof = degrees_of_freedom(f.T @ f, penalty, metric)
    system = f.T @ f + penalty * (np.eye(9) if metric is None else metric)
    hat = f @ np.linalg.solve(system, f.T)
    assert abs(dof - np.trace(hat)) < 1e-9
    np.testing.assert_allclose(weights, np.linalg.solve(system, f.T @ t), rtol=1e-9, atol=1e-12)


def test_a_singular_system_without_penalty_gets_the_solution_of_least_norm():
    rng = np.random.default_rng(0)
    f = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 7))
    t = rng.normal(size=(50, 2))
    weights = solve_ridge(f.T @ f, f.T @ t, 0.0)
    np.testing.assert_allclose(weights, np.linalg.lstsq(f, t, rcond=None)[0], atol=1e-8)
    assert degrees_of_freedom(f.T @ f, 0.0) == 4.0


# -- degenerate data -------------------------------------------------------------------------


def test_collinear_windows_without_penalty_fit_as_well_as_least_squares(new):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 4))
    x, y = np.concatenate([base, base, base[:, :1] * 2], axis=1), rng.normal(size=(60, 2))
    model = LinearForecaster(alpha=0.0).fit(x, y)
    one = np.concatenate([x, np.ones((60, 1))], axis=1)
    best = one @ np.linalg.lstsq(one, y, rcond=None)[0]
    np.testing.assert_allclose(model.predict(x), best, atol=1e-8)


def test_fewer_windows_than_lags_are_reproduced_without_penalty():
    rng = np.random.default_rng(0)
    series = rng.normal(size=40)
    model = LinearForecaster(24, 4, alpha=0.0).fit(series)  # 13 windows of 24 lags
    x, y = cut(series[:, None], 24, 4)
    np.testing.assert_allclose(model.predict(x), y, atol=1e-7)
    assert np.isfinite(model.predict_interval()).all()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 1.0])
def test_one_window_is_enough_for_a_finite_forecast(cls, alpha):
    series = make_series(L + H)[:, :2]
    model = cls(L, H, alpha=alpha).fit(series)
    assert model.predict().shape == (H, 2)
    assert np.isfinite(model.predict_interval()).all()
    spread = np.ptp(series)
    assert np.abs(model.predict() - series.mean(axis=0)).max() < 3 * spread


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize(("lookback", "horizon"), [(1, 1), (1, 3), (5, 1)])
def test_the_smallest_sizes(cls, lookback, horizon):
    series = make_series(80, 2)
    model = cls(lookback, horizon).fit(series)
    assert model.coef_.shape == (horizon, lookback)
    assert model.predict().shape == (horizon, 2)
    assert np.isfinite(model.predict_interval()).all()
    x, y = cut(series, lookback, horizon)
    on_windows = cls(scale="std").fit(x, y)
    assert np.isfinite(on_windows.predict(x)).all()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e6 + 0.1, 1e-12, 1e12])
@pytest.mark.parametrize("params", [{}, {"alpha": 0.0}, {"fit_intercept": False, "alpha": 1.0}])
def test_a_constant_series_has_a_constant_forecast(cls, individual, value, params):
    model = cls(L, H, individual=individual, **params).fit(np.full((60, 2), value))
    np.testing.assert_allclose(model.predict(), np.full((H, 2), value), rtol=1e-9, atol=0)
    np.testing.assert_allclose(
        model.predict_interval(), np.full((H, 2, 2), value), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_constant_windows_have_a_constant_forecast(cls, fit_intercept, value):
    model = cls(fit_intercept=fit_intercept).fit(np.full((9, L), value), np.full((9, H), value))
    forecast = model.predict(np.full((2, L), value))
    np.testing.assert_allclose(forecast, np.full((2, H), value), rtol=1e-9, atol=0)


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e-6])
def test_a_constant_channel_among_others_has_a_constant_forecast(cls, individual, value):
    series = make_series(200, 3)
    series[:, 1] = value
    model = cls(L, H, individual=individual).fit(series)
    np.testing.assert_allclose(model.predict()[:, 1], np.full(H, value), rtol=1e-9, atol=1e-12)
    assert np.isfinite(model.predict_interval()).all()
    others = cls(L, H, individual=individual).fit(series[:, [0, 2]]).predict()
    assert np.abs(model.predict()[:, [0, 2]] - others).max() < 0.05 * series.std()


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize("scale", ["auto", None])
def test_tiny_and_huge_units_lose_nothing(cls, unit, scale):
    series = make_series(200, 2)
    plain = cls(L, H, scale=scale).fit(series)
    scaled = cls(L, H, scale=scale).fit(series * unit)
    np.testing.assert_allclose(
        scaled.predict() / unit, plain.predict(), rtol=0, atol=1e-9 * np.ptp(series)
    )
    np.testing.assert_allclose(
        scaled.predict_interval() / unit, plain.predict_interval(), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("cls", EVERY)
def test_integers_and_single_precision_are_read_as_numbers(cls):
    series = np.round(10 * make_series(150, 2))
    exact = cls(L, H).fit(series).predict()
    whole = cls(L, H).fit(series.astype(np.int32)).predict()
    assert whole.dtype == np.float64
    assert_close(whole, exact, 1e-12)
    single = cls(L, H).fit(series.astype(np.float32)).predict()
    assert single.dtype == np.float32
    assert_close(single.astype(np.float64), exact, 1e-6)
