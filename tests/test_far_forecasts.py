"""Forecasts of windows by an expert's kernel against its matrices: gaps, and far ahead."""

from __future__ import annotations

import numpy as np
import pytest

from mixlin.experts import (
    BankMatrices,
    default_bank,
    far_forecasts,
    far_variances,
    filled,
    seasonless_experts,
    variance_of_filling,
)

BANK = default_bank()[:10] + seasonless_experts()
MATRICES = BankMatrices(BANK)
HORIZON = 150
STEPS = np.array([1, 2, 5, 24, 96, 150])


def patterns(n):
    rng = np.random.default_rng(n)
    made = {"none": np.ones(n, dtype=bool)}
    if n > 2:
        made["a run"] = (np.arange(n) < n // 3) | (np.arange(n) > n // 2)
        made["the end"] = np.arange(n) < n - 2
        made["most"] = rng.random(n) < 0.3
        made["one value"] = np.arange(n) == n // 2
    return {name: mask for name, mask in made.items() if mask.any()}


@pytest.mark.parametrize("n", [1, 2, 17, 96])
def test_forecasts_are_those_of_matrices(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(3, n)).cumsum(axis=1) + 5
    for mask in patterns(n).values():
        predictors = MATRICES.predictors(n, HORIZON, mask=mask)
        holes = np.where(mask, x, np.nan)
        expected = np.einsum("rn,neh->erh", np.where(mask, x, 0.0), predictors.weights)
        for e in range(len(BANK)):
            found = far_forecasts(MATRICES, e, holes, HORIZON, mask=mask)
            np.testing.assert_allclose(found, expected[e], rtol=0, atol=1e-8 * np.abs(x).max())


@pytest.mark.parametrize("n", [1, 2, 17, 96])
def test_variances_are_those_of_matrices(n):
    for mask in patterns(n).values():
        expected = MATRICES.predictors(n, HORIZON, steps=STEPS, mask=mask).variance
        for e in range(len(BANK)):
            found = far_variances(MATRICES, e, n, STEPS, mask=mask)
            np.testing.assert_allclose(found, expected[e], rtol=1e-7)
            assert far_variances(MATRICES, e, n, STEPS, mask=mask) is found  # is kept
        walk = BANK.names.index("random walk, noise 0.01")
        later = far_variances(MATRICES, walk, n, STEPS + 1, mask=mask)
        assert np.abs(later / expected[walk] - 1).min() > 1e-3


def test_variances_of_a_random_walk_grow_for_ever():
    walk = BANK.names.index("random walk, noise 0.01")
    steps = np.array([1, 10, 1000, 100_000])
    found = far_variances(MATRICES, walk, 64, steps)
    np.testing.assert_allclose(found - steps, found[0] - 1, atol=1e-6)


def test_what_missing_values_add_to_the_variance():
    n, mask = 60, np.arange(60) % 7 != 3
    whole = MATRICES.predictors(n, 20)
    expected = MATRICES.predictors(n, 20, mask=mask).variance
    for e in range(len(BANK)):
        added = variance_of_filling(MATRICES.precision(e, n), whole.weights[:, e], mask)
        assert (added >= 0).all()
        np.testing.assert_allclose(whole.variance[e] + added, expected[e], rtol=1e-8)
    assert not variance_of_filling(MATRICES.precision(0, n), whole.weights[:, 0], mask | True).any()


def test_filled_values_leave_forecasts_as_they_are_and_the_rest_untouched():
    n, mask = 40, np.isin(np.arange(40), [3, 20, 21, 22, 38, 39], invert=True)
    x = np.random.default_rng(0).normal(size=(2, n)).cumsum(axis=1)
    for e in range(len(BANK)):
        out = filled(MATRICES.precision(e, n), np.where(mask, x, np.nan), mask)
        np.testing.assert_array_equal(out[:, mask], x[:, mask])
        weights = MATRICES.predictors(n, 5, mask=mask).weights[:, e]
        forecast = out @ MATRICES.predictors(n, 5).weights[:, e]
        np.testing.assert_allclose(forecast, np.where(mask, x, 0.0) @ weights, atol=1e-8)
    assert filled(MATRICES.precision(0, n), x, mask | True) is x
