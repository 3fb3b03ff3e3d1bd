"""Properties that hold for any data: sums, windows, equivariances, files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mixlin
from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.decomposition import decompose
from mixlin.solvers import DenseSums, SeriesSums
from mixlin.windows import make_windows

EVERY = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
quick = settings(max_examples=30, deadline=None)
light = settings(max_examples=10, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def random_series(seed, n_rows, n_channels):
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)[:, None]
    wave = np.sin(2 * np.pi * steps / rng.integers(3, 12) + rng.uniform(0, 6, n_channels))
    return wave + 0.5 * rng.normal(size=(n_rows, n_channels))


# -- sums over windows -----------------------------------------------------------------------


@st.composite
def gapped_series(draw):
    n_channels = draw(st.integers(1, 3))
    n_rows = draw(st.integers(1, 70))
    values = draw(
        hnp.arrays(
            np.float64,
            (n_rows, n_channels),
            elements=st.floats(-100, 100, allow_subnormal=False) | st.just(np.nan),
            fill=st.floats(-100, 100, allow_subnormal=False),
        )
    )
    edges = draw(st.lists(st.integers(1, n_rows), max_size=5))
    return values, np.unique(edges)


@quick
@given(
    data=gapped_series(),
    lookback=st.integers(1, 9),
    horizon=st.integers(1, 5),
    level=st.floats(-50, 50),
)
def test_the_recursion_is_the_dense_sum_in_any_chunks_with_any_gaps(data, lookback, horizon, level):
    values, edges = data
    M, n_channels = lookback + horizon, values.shape[1]
    sums = SeriesSums(lookback, horizon, np.full(n_channels, level))
    for i, part in enumerate(np.split(values, edges)):
        if len(part):
            sums.add(part, continues=i > 0)
    for c in range(n_channels):
        v = values[:, c].astype(np.longdouble) - np.longdouble(level)
        z = [np.r_[v[t : t + M], 1.0] for t in range(len(v) - M + 1)]
        z = np.array([w for w in z if np.isfinite(w).all()]).reshape(-1, M + 1)
        got = sums.moments(np.ones(1), np.zeros(1), np.array([c]))
        # of the squares of all values: a part of them may lie in no window
        size = max(1.0, float(np.nansum(v * v)))
        assert np.abs(got - z.T @ z).max() <= 1e-12 * size
        assert sums.n_windows[c] == len(z)


@quick
@given(seed=SEEDS, lookback=st.integers(1, 8), horizon=st.integers(1, 4), shift=st.floats(-5, 5))
def test_both_kinds_of_sums_agree(seed, lookback, horizon, shift):
    values = random_series(seed, 60, 2)
    level, eps = np.array([0.3, -0.2]), np.array([1e-3, 1e-2])
    fast, dense = (kind(lookback, horizon, level, eps) for kind in (SeriesSums, DenseSums))
    fast.add(values)
    dense.add_series(values, np.ones(60 - lookback - horizon + 1))
    scale, moved, chosen = np.array([2.0, 0.5]), np.array([shift, -shift]), np.array([1, 0])
    got, expected = (s.moments(scale, moved, chosen) for s in (fast, dense))
    assert np.abs(got - expected).max() <= 1e-10 * np.abs(expected).max()
    coef = np.random.default_rng(seed).normal(size=(1, fast.width - 1, 2))
    constant = np.full((2, 2), shift)
    np.testing.assert_allclose(
        fast.quadratic(coef, constant), dense.quadratic(coef, constant), rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(fast.input_variance(), dense.input_variance(), rtol=1e-9, atol=1e-12)


# -- windows ---------------------------------------------------------------------------------


@quick
@given(
    values=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=30),
        elements=st.floats(-1e6, 1e6),
    ),
    lookback=st.integers(1, 8),
    horizon=st.integers(1, 4),
    step=st.integers(1, 5),
)
def test_windows_hold_the_series_and_nothing_else(values, lookback, horizon, step):
    if len(values) < lookback + horizon:
        with pytest.raises(ValueError, match="needs at least"):
            make_windows(values, lookback, horizon, step=step)
        return
    x, y = make_windows(values, lookback, horizon, step=step)
    starts = range(0, len(values) - lookback - horizon + 1, step)
    assert len(x) == len(y) == len(starts)
    for i, t in enumerate(starts):
        assert np.array_equal(x[i], values[t : t + lookback])
        assert np.array_equal(y[i], values[t + lookback : t + lookback + horizon])
    if step == 1:  # and back: first values of the windows, then the last window's rest
        glued = np.concatenate([x[:-1, 0], x[-1], y[-1]])
        assert np.array_equal(glued, values)


@quick
@given(
    n_rows=st.integers(6, 40),
    missing=st.sets(st.integers(0, 39), max_size=6),
    lookback=st.integers(1, 4),
    horizon=st.integers(1, 2),
)
def test_windows_that_touch_a_gap_are_left_out(n_rows, missing, lookback, horizon):
    values = np.arange(float(n_rows))
    gaps = [t for t in missing if t < n_rows]
    values[gaps] = np.nan
    x, y = make_windows(values, lookback, horizon)
    both = np.concatenate([x, y], axis=1)
    expected = [
        list(range(t, t + lookback + horizon))
        for t in range(n_rows - lookback - horizon + 1)
        if not set(range(t, t + lookback + horizon)) & set(gaps)
    ]
    assert both.tolist() == expected


@light
@given(seed=SEEDS, lookback=st.integers(1, 10), horizon=st.integers(1, 4))
@pytest.mark.parametrize("cls", EVERY)
def test_a_fit_on_windows_is_the_fit_on_their_series(cls, seed, lookback, horizon):
    values = random_series(seed, 90, 2)
    x, y = make_windows(values, lookback, horizon)
    on_series = cls(lookback, horizon, scale=None, alpha=1e-2).fit(values)
    on_windows = cls(scale=None, alpha=1e-2).fit(x, y)
    # epsilon of the scale feature is relative to the rows in one and to the windows in the other
    tolerance = 1e-4 if cls is RLinearForecaster else 1e-9
    np.testing.assert_allclose(on_series.coef_, on_windows.coef_, atol=tolerance)


# -- equivariances ---------------------------------------------------------------------------


@light
@given(
    seed=SEEDS,
    shift=st.floats(-1e3, 1e3),
    power=st.floats(-6, 6),
    individual=st.sampled_from([False, True, "partial"]),
)
@pytest.mark.parametrize("cls", EVERY)
def test_forecasts_follow_shift_and_units(cls, seed, shift, power, individual):
    unit = 10.0**power
    values = random_series(seed, 120, 2)
    shifts = np.array([shift, -shift])
    plain = cls(10, 3, individual=individual, alpha=1e-3).fit(values)
    moved = cls(10, 3, individual=individual, alpha=1e-3).fit((values + shifts) * unit)
    np.testing.assert_allclose(moved.predict() / unit - shifts, plain.predict(), atol=1e-8)
    np.testing.assert_allclose(moved.coef_, plain.coef_, atol=1e-8)
    np.testing.assert_allclose(
        moved.plan_.residual_variance / unit**2, plain.plan_.residual_variance, rtol=1e-6
    )


@light
@given(seed=SEEDS, order=st.permutations(range(4)))
@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_forecasts_follow_the_order_of_channels(cls, individual, seed, order):
    values = random_series(seed, 100, 4)
    plain = cls(8, 3, individual=individual, alpha=1e-3).fit(values).predict()
    moved = cls(8, 3, individual=individual, alpha=1e-3).fit(values[:, order]).predict()
    np.testing.assert_allclose(moved, plain[:, order], atol=1e-9)


@light
@given(seed=SEEDS, copies=st.integers(2, 4), power=st.floats(-5, 5))
@pytest.mark.parametrize("cls", EVERY)
def test_alpha_does_not_depend_on_units_and_numbers(cls, seed, copies, power):
    values = random_series(seed, 90, 2)
    plain = cls(8, 3, alpha=0.1).fit(values)
    more = cls(8, 3, alpha=0.1).fit([values * 10.0**power] * copies)
    np.testing.assert_allclose(more.coef_, plain.coef_, atol=1e-9)


# -- folding ---------------------------------------------------------------------------------


@light
@given(
    seed=SEEDS,
    half=st.integers(0, 8),
    individual=st.sampled_from([False, True, "partial"]),
)
def test_dlinear_folded_is_its_two_branches(seed, half, individual):
    kernel_size = 2 * half + 1
    values = random_series(seed, 100, 2)
    model = DLinearForecaster(9, 3, kernel_size=kernel_size, individual=individual, alpha=1e-2)
    model.fit(values)
    x = random_series(seed + 1, 20, 2).reshape(2, 10, 2)[:, :9]
    trend, seasonal = decompose(x, kernel_size)
    seasonal_coef = np.broadcast_to(model.seasonal_coef_, (2, 3, 9))
    trend_coef = np.broadcast_to(model.trend_coef_, (2, 3, 9))
    intercept = np.broadcast_to(model.intercept_, (2, 3))
    branches = (
        np.einsum("nlc,chl->nhc", seasonal, seasonal_coef)
        + np.einsum("nlc,chl->nhc", trend, trend_coef)
        + intercept.T
    )
    np.testing.assert_allclose(model.predict(x), branches, atol=1e-10)


@light
@given(seed=SEEDS, half=st.integers(0, 8), n_channels=st.integers(1, 3))
def test_imported_branches_are_folded_without_loss(seed, half, n_channels):
    rng = np.random.default_rng(seed)
    kernel_size, lookback, horizon = 2 * half + 1, 9, 3
    state = {}
    for c in range(n_channels):
        for branch in ("Linear_Seasonal", "Linear_Trend"):
            state[f"{branch}.{c}.weight"] = rng.normal(size=(horizon, lookback))
            state[f"{branch}.{c}.bias"] = rng.normal(size=horizon)
    x = 10 * rng.normal(size=(4, lookback, n_channels))
    trend, seasonal = decompose(x, kernel_size)
    model = DLinearForecaster.from_state_dict(state, kernel_size=kernel_size)
    for c in range(n_channels):
        expected = (
            seasonal[:, :, c] @ state[f"Linear_Seasonal.{c}.weight"].T
            + trend[:, :, c] @ state[f"Linear_Trend.{c}.weight"].T
            + state[f"Linear_Seasonal.{c}.bias"]
            + state[f"Linear_Trend.{c}.bias"]
        )
        np.testing.assert_allclose(model.predict(x)[:, :, c], expected, atol=1e-10)


# -- files -----------------------------------------------------------------------------------


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=SEEDS,
    cls=st.sampled_from(EVERY),
    individual=st.sampled_from([False, True, "partial"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    many=st.booleans(),
)
def test_a_saved_model_forecasts_bit_for_bit(tmp_path, seed, cls, individual, dtype, many):
    values = random_series(seed, 80, 2).astype(dtype)
    data = [values[:50], values[20:]] if many else values
    model = cls(7, 2, individual=individual).fit(data)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = mixlin.load(path)
    for ask in ("predict", "predict_interval"):
        before, after = getattr(model, ask)(), getattr(again, ask)()
        assert np.array_equal(before, after)
        assert np.asarray(before).dtype == np.asarray(after).dtype
    x = random_series(seed + 1, 70, 2).reshape(10, 7, 2)
    assert np.array_equal(again.predict(x), model.predict(x))
