"""Precision matrices and whitening of prior experts against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from scipy.special import gammaln

from mixlin.experts import BankMatrices, default_bank

BANK = default_bank()
SOME = BANK[:10] + BANK[110:]
MATRICES = BankMatrices(SOME)
PARITY = 1e-8


def dense(expert, n, noise=None):
    """Return the precision of departures from the level, log |R|, and 1' R^-1 1."""
    k = expert.covariances(n)
    if noise is not None:
        k[0] += noise - expert.noise
    factor = linalg.cho_factor(linalg.toeplitz(k), lower=True)
    level = linalg.cho_solve(factor, np.ones(n))
    matrix = linalg.cho_solve(factor, np.eye(n)) - np.outer(level, level) / level.sum()
    return (matrix + matrix.T) / 2, 2 * np.log(np.diag(factor[0])).sum(), level.sum()


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def steps(n):
    """Return the n steps that are 0 before value k, then 1."""
    return (np.arange(n) >= np.arange(n)[:, None]).astype(float)


@pytest.mark.parametrize("n", [2, 3, 17, 96])
@pytest.mark.parametrize("e", range(len(SOME)), ids=SOME.names)
def test_a_precision_is_that_of_the_dense_matrix(e, n):
    precision = MATRICES.precision(e, n)
    matrix, log_determinant, energy = dense(SOME[e], n)
    y = np.random.default_rng(n).normal(size=(2, 3, n)).cumsum(axis=2) + 50
    assert precision.lookback == n
    assert relative(precision.dot(y), (y - y.mean(axis=2, keepdims=True)) @ matrix) < PARITY
    assert relative(precision.dot(y[0, 0]), precision.dot(y)[0, 0]) < 1e-12
    assert relative(precision.diagonal, np.diag(matrix)) < PARITY
    forms = np.einsum("ki,ij,kj->k", steps(n), matrix, steps(n), optimize=True)
    assert precision.step_energy[0] == 0.0
    assert np.abs(precision.step_energy[1:] / forms[1:] - 1).max() < PARITY
    assert relative(precision.columns(np.arange(n)), matrix) < PARITY
    assert relative(precision.columns([n - 1]), matrix[[n - 1]]) < PARITY

    # more noise is seen
    matrix, _, _ = dense(SOME[e], n, noise=1.01 * SOME[e].noise)
    assert relative(precision.diagonal, np.diag(matrix)) > 10 * PARITY
    # what the level is free to hold depends on the constant of kernels that grow; the sum does not
    together = precision.log_determinant + np.log(precision.level_energy)
    assert together == pytest.approx(log_determinant + np.log(energy), abs=1e-7)


def test_columns_come_in_the_order_asked_for():
    precision = MATRICES.precision(2, 40)
    matrix = precision.columns(np.arange(40))
    for indices in ([31], [5, 3], [0, 39, 7, 7], range(39, 4, -1), []):
        found = precision.columns(list(indices))
        assert found.shape == (len(indices), 40)
        np.testing.assert_allclose(found, matrix[list(indices)], atol=1e-9)


def test_missing_values_are_told_from_the_others():
    precision = MATRICES.precision(3, 60)
    k = SOME[3].covariances(60)
    y = np.random.default_rng(0).normal(size=60)
    lost, seen = np.array([20, 21, 45]), np.setdiff1d(np.arange(60), [20, 21, 45])
    columns = precision.columns(lost)
    told = -np.linalg.solve(columns[:, lost], columns[:, seen] @ y[seen])
    # kriging of the same values from the dense covariances of the others
    factor = linalg.cho_factor(linalg.toeplitz(k)[np.ix_(seen, seen)])
    ones = linalg.cho_solve(factor, np.ones(len(seen)))
    level = ones @ y[seen] / ones.sum()
    cross = k[np.abs(lost[:, None] - seen)]
    expected = level + cross @ linalg.cho_solve(factor, y[seen] - level)
    np.testing.assert_allclose(told, expected, atol=1e-9)


def test_a_window_of_one_value_says_nothing():
    precision = MATRICES.precision(0, 1)
    assert precision.dot([[5.0]]).tolist() == [[0.0]]
    assert precision.step_energy.tolist() == [0.0]
    assert abs(precision.diagonal[0]) < 1e-12


def test_a_level_is_without_effect():
    precision = MATRICES.precision(11, 64)
    y = np.random.default_rng(0).normal(size=64)
    np.testing.assert_allclose(precision.dot(y + 1e6), precision.dot(y), atol=1e-6)


def test_precisions_are_kept():
    assert MATRICES.precision(4, 33) is MATRICES.precision(4, 33)


@pytest.mark.parametrize("expert", [-1, len(SOME)])
def test_an_expert_that_is_not_there_is_refused(expert):
    with pytest.raises(ValueError, match=f"a place in a bank of {len(SOME)}"):
        MATRICES.precision(expert, 10)
    with pytest.raises(ValueError, match="lookback must be a whole number of at least 1"):
        MATRICES.precision(0, 0)


# ---------------------------------------------------------------------------------------------
# whitening


@pytest.mark.parametrize("n", [2, 3, 33, 100])
def test_whitening_gives_the_quadratic_form_and_the_evidence(n):
    whitening = MATRICES.whitening(n)
    assert whitening.weights.shape == (len(SOME), n, n - 1)
    assert whitening.constants.shape == (len(SOME),)
    y = np.random.default_rng(n).normal(size=(3, n)).cumsum(axis=1)
    evidence = whitening.evidence(y)
    half = (n - 1) / 2
    for e, expert in enumerate(SOME):
        matrix, log_determinant, energy = dense(expert, n)
        squares = np.einsum("ni,ij,nj->n", y, matrix, y)
        found = np.square(y @ whitening.weights[e]).sum(axis=1)
        np.testing.assert_allclose(found, squares, rtol=PARITY)
        # the density with level and scale integrated out
        expected = gammaln(half) - half * np.log(np.pi) - log_determinant / 2 - np.log(energy) / 2
        expected = expected - half * np.log(squares)
        np.testing.assert_allclose(evidence[:, e], expected, atol=1e-6)
        assert np.abs(evidence[:, e] - expected - 1e-4).min() > 1e-5


def test_surprises_see_only_the_past_and_have_unit_variance():
    n = 30
    for e, expert in enumerate(SOME):
        weights = MATRICES.whitening(n).weights[e]
        assert (np.tril(weights, -2) == 0).all()
        np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-9)
        covariance = weights.T @ linalg.toeplitz(expert.covariances(n)) @ weights
        np.testing.assert_allclose(covariance, np.eye(n - 1), atol=1e-8)


def test_the_evidence_recognises_what_made_a_series():
    rng = np.random.default_rng(3)
    whitening = MATRICES.whitening(128)
    reverting = "mean reversion over 3 steps, noise 0.01"
    for name in ("random walk, noise 0.3", reverting, "constant level"):
        e = SOME.names.index(name)
        factor = linalg.cholesky(linalg.toeplitz(SOME[e].covariances(128)), lower=True)
        series = 7 + 3 * rng.normal(size=(40, 128)) @ factor.T
        assert whitening.evidence(series).mean(axis=0).argmax() == e


def test_whitening_needs_two_values():
    with pytest.raises(ValueError, match="lookback must be a whole number of at least 2; got 1"):
        MATRICES.whitening(1)


def test_a_constant_window_has_unbounded_evidence():
    assert (MATRICES.whitening(8).evidence(np.full((1, 8), 5.0)) == np.inf).all()
