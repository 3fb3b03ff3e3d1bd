"""Quantiles of mixtures of Student's t distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mixlin.intervals import student_mixture_quantiles

LEVELS = [0.001, 0.025, 0.1, 0.5, 0.8, 0.975]


def draw_mixture(seed, n=4, n_experts=5, horizon=3):
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, n_experts, horizon)) * np.exp(2 * rng.normal(size=(n, 1, 1)))
    spread = np.exp(rng.uniform(0, 2) * rng.normal(size=mean.shape))
    weights = rng.dirichlet(np.full(n_experts, 0.7), size=n)
    degrees = np.exp(rng.uniform(np.log(1.5), np.log(3000), n))
    return mean, spread, weights, degrees


def mixture_spread(mean, spread, weights):
    center = np.einsum("neh,ne->nh", mean, weights)
    square = np.einsum("neh,ne->nh", (mean - center[:, None]) ** 2 + spread**2, weights)
    return np.sqrt(square)


def bisected(mean, spread, weights, degrees, levels):
    """Return quantiles by bisection alone, from SciPy's distribution."""
    degrees = np.broadcast_to(np.reshape(degrees, (len(mean), -1)), weights.shape)
    result = []
    for level in levels:
        single = mean + spread * stats.t.ppf(level, degrees)[:, :, None]
        low, high = single.min(axis=1), single.max(axis=1)
        for _ in range(80):
            middle = 0.5 * (low + high)
            below = stats.t.cdf((middle[:, None] - mean) / spread, degrees[:, :, None])
            above = np.einsum("neh,ne->nh", below, weights) > level
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        result.append(0.5 * (low + high))
    return np.stack(result, axis=-1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_quantiles_are_those_of_bisection(seed):
    mixture = draw_mixture(seed)
    unit = mixture_spread(*mixture[:3])[:, :, None]
    error = np.abs(student_mixture_quantiles(*mixture, LEVELS) - bisected(*mixture, LEVELS))
    # where hardly any probability lies, a quantile is only as sure as its probability
    assert (error[:, :, 1:] / unit).max() < 1e-6
    assert (error / unit).max() < 1e-5


def test_the_comparison_sees_a_degree_of_freedom():
    mean, spread, weights, _ = mixture = draw_mixture(0)
    off = student_mixture_quantiles(mean, spread, weights, mixture[3] * 1.001, LEVELS)
    unit = mixture_spread(mean, spread, weights)[:, :, None]
    assert (np.abs(off - bisected(*mixture, LEVELS)) / unit).max() > 1e-5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-9, 9), shift=st.floats(-100, 100))
def test_shift_scale_and_reflection(seed, power, shift):
    mean, spread, weights, degrees = draw_mixture(seed)
    levels = np.array([0.05, 0.3, 0.5, 0.9])
    plain = student_mixture_quantiles(mean, spread, weights, degrees, levels)
    unit = mixture_spread(mean, spread, weights)[:, :, None]
    factor = 10.0**power
    moved = student_mixture_quantiles(
        factor * (mean + shift), factor * spread, weights, degrees, levels
    )
    assert (np.abs(moved / factor - shift - plain) / unit).max() < 1e-6
    mirrored = student_mixture_quantiles(-mean, spread, weights, degrees, 1 - levels)
    assert (np.abs(mirrored + plain) / unit).max() < 1e-6
    assert (np.diff(plain, axis=2) >= 0).all()


def test_one_expert_is_student_t():
    degrees = np.array([1.0, 2.5, 9.0, 40.0, 1e4, np.inf])
    mean, spread = np.full((6, 1, 1), 3.0), np.full((6, 1, 1), 2.0)
    got = student_mixture_quantiles(mean, spread, np.ones((6, 1)), degrees, LEVELS)[:, 0]
    expected = 3 + 2 * stats.t.ppf(LEVELS, degrees[:5, None])
    np.testing.assert_allclose(got[:5], expected, rtol=1e-7)
    np.testing.assert_allclose(got[5], 3 + 2 * stats.norm.ppf(LEVELS), rtol=1e-7)


def test_degrees_by_window_by_expert_and_by_both():
    mean, spread, weights, degrees = draw_mixture(3, n=5, n_experts=5)
    by_window = student_mixture_quantiles(mean, spread, weights, degrees, LEVELS)
    both = np.repeat(degrees[:, None], 5, axis=1)
    np.testing.assert_allclose(
        student_mixture_quantiles(mean, spread, weights, both, LEVELS), by_window, atol=1e-6
    )
    got = student_mixture_quantiles(mean, spread, weights, degrees[None, :], LEVELS)
    expected = bisected(mean, spread, weights, np.tile(degrees, (5, 1)), LEVELS)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(got - by_window).max() > 1e-3


def test_experts_without_weight_are_not_read():
    mean, spread, weights, degrees = draw_mixture(5, n_experts=6)
    weights[:, [1, 4]] = 0.0
    weights[0, 2] = 0.0
    kept = weights > 0
    expected = bisected(mean, spread, weights / weights.sum(1, keepdims=True), degrees, LEVELS)
    for nothing in (np.nan, np.inf, 1e300):
        broken = np.where(kept[:, :, None], mean, nothing)
        wide = np.where(kept[:, :, None], spread, nothing)
        got = student_mixture_quantiles(broken, wide, weights, degrees, LEVELS)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        by_expert = np.repeat(degrees[:, None], 6, axis=1)
        got = student_mixture_quantiles(broken, wide, weights, by_expert, LEVELS)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_no_spread_is_the_mean():
    mean = np.full((2, 3, 4), 7.25)
    got = student_mixture_quantiles(mean, 0 * mean, np.ones((2, 3)), 10, [0.01, 0.99])
    np.testing.assert_array_equal(got, np.full((2, 4, 2), 7.25))


def test_points_are_quantiles_of_points():
    mean = np.array([[[1.0], [5.0], [100.0]]])
    got = student_mixture_quantiles(mean, 0 * mean, [[0.2, 0.3, 0.5]], 10, [0.1, 0.4, 0.9])
    np.testing.assert_allclose(got, [[[1.0, 5.0, 100.0]]], atol=1e-4)


def test_one_expert_without_spread_among_others():
    mean, spread = np.array([[[0.0], [1.0]]]), np.array([[[1.0], [0.0]]])
    got = student_mixture_quantiles(mean, spread, [[0.5, 0.5]], np.inf, [0.2, 0.6, 0.95])[0, 0]
    expected = [stats.norm.ppf(0.4), 1.0, stats.norm.ppf(0.9)]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_scales_that_differ_a_thousandfold():
    mean = np.array([[[0.0], [0.3], [2.0]]])
    spread = np.array([[[1.0], [1e-3], [1e-5]]])
    mixture = mean, spread, np.array([[0.5, 0.3, 0.2]]), np.array([7.0])
    levels = np.linspace(0.02, 0.98, 49)
    error = student_mixture_quantiles(*mixture, levels) - bisected(*mixture, levels)
    assert np.abs(error).max() < 1e-6


def test_a_step_over_a_sharp_expert_is_no_answer():
    # where the slope of the density is 0 by chance, its neighbourhood looks flat
    found = [draw_mixture(seed) for seed in (4139, 444565)]
    for mixture in found:
        unit = mixture_spread(*mixture[:3])[:, :, None]
        levels = [0.05, 0.3, 0.5, 0.9]
        error = np.abs(student_mixture_quantiles(*mixture, levels) - bisected(*mixture, levels))
        assert (error / unit).max() < 1e-6


def test_missing_forecasts_stay_missing_alone():
    mean, spread, weights, degrees = draw_mixture(8)
    plain = student_mixture_quantiles(mean, spread, weights, degrees, [0.1, 0.9])
    mean[1, 2, 0] = np.nan
    spread[2, 0, 1] = np.nan
    weights[3] = 0.0
    got = student_mixture_quantiles(mean, spread, weights, degrees, [0.1, 0.9])
    gone = np.zeros((4, 3), bool)
    gone[1, 0] = gone[2, 1] = gone[3] = True
    assert np.isnan(got[gone]).all()
    np.testing.assert_allclose(got[~gone], plain[~gone], atol=1e-7)


def test_a_window_does_not_depend_on_its_neighbours():
    mean, spread, weights, _ = draw_mixture(2, n=600, n_experts=9, horizon=5)
    together = student_mixture_quantiles(mean, spread, weights, 30, [0.05, 0.95])
    alone = student_mixture_quantiles(mean[7:8], spread[7:8], weights[7:8], 30, [0.05, 0.95])
    unit = mixture_spread(mean[7:8], spread[7:8], weights[7:8])[:, :, None]
    assert (np.abs(together[7:8] - alone) / unit).max() < 1e-7


def test_nothing_to_do():
    nothing = np.empty((0, 3, 2))
    assert student_mixture_quantiles(nothing, nothing, np.empty((0, 3)), 5, [0.5]).shape == (
        *(0, 2),
        1,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((2, 2))}, "weights shape"),
        ({"spread": -np.ones((2, 3, 4))}, "must not be negative"),
        ({"weights": -np.ones((2, 3))}, "must not be negative"),
        ({"degrees": 0}, "degrees must be positive"),
        ({"degrees": np.nan}, "degrees must be positive"),
        ({"degrees": np.ones(3)}, r"degrees must be a number or have shape \(2,\)"),
        ({"degrees": np.ones((2, 3, 1))}, "degrees must be a number"),
        ({"quantiles": [0.0]}, "between 0 and 1"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {
        "mean": np.ones((2, 3, 4)),
        "spread": np.ones((2, 3, 4)),
        "weights": np.ones((2, 3)),
        "degrees": 5,
        "quantiles": [0.5],
    }
    student_mixture_quantiles(**good)
    with pytest.raises(ValueError, match=message):
        student_mixture_quantiles(**{**good, **change})
