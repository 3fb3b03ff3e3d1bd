"""Closed-form ridge solutions from second moments of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg
from sklearn.base import BaseEstimator

from .gram import WindowSums

FloatArray = npt.NDArray[np.float64]

_MIN_RCOND = 1e-14
_MIN_FREE_SHARE = 0.05  # residual variance is inflated at most twentyfold


class ExactSolver(BaseEstimator):  # type: ignore[misc]
    """Options of the exact solver that linear forecasters share.

    Parameters
    ----------
    pooling : float, default=10.0
        For ``individual="partial"``: strength with which per-channel corrections are shrunk
        towards the shared matrix, relative as ``alpha`` is. 0 fits every channel on its own,
        infinity keeps the shared matrix.

    Examples
    --------
    >>> from mixlin import DLinearForecaster, ExactSolver
    >>> DLinearForecaster(individual="partial", solver=ExactSolver(pooling=3.0)).solver.pooling
    3.0
    """

    def __init__(self, pooling: float = 10.0) -> None:
        self.pooling = pooling

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        if not isinstance(self.pooling, (int, float)) or not self.pooling >= 0:
            raise ValueError(
                f"The 'pooling' parameter of ExactSolver must be a number >= 0 (inf keeps the "
                f"shared matrix). Got {self.pooling!r} instead."
            )


@dataclass(frozen=True)
class LinearProblem:
    """What is asked of the exact solver.

    Parameters
    ----------
    functional : array of shape (lookback,)
        Weights of the window's level.
    level : array of shape (C,)
        Where the coordinates of the fit are measured from. It matters to models that take no
        level off a window and share their intercept.
    scale : array of shape (C,)
        Channels are divided by it, so that they count equally.
    alpha : float
        Relative penalty.
    fit_intercept : bool
    individual : {False, True, "partial"}
    pooling : float
        Of the corrections with ``individual="partial"``.
    metric : array of shape (lookback, lookback), optional
        The penalty is ``tr(W metric W')`` instead of ``tr(W W')``.
    prior : array of shape (1 or C, lookback, horizon), optional
        The weights are shrunk towards it instead of zero.
    """

    functional: FloatArray
    level: FloatArray
    scale: FloatArray
    alpha: float
    fit_intercept: bool
    individual: bool | str = False
    pooling: float = 10.0
    metric: FloatArray | None = None
    prior: FloatArray | None = None


class LinearSolution(NamedTuple):
    """Coefficients in data units, measured from ``sums.level``.

    Attributes
    ----------
    weights : array of shape (G, lookback, horizon)
    bias : array of shape (1 or C, horizon), or None
    scale_coef : array of shape (G, horizon), or None
    residual_variance : callable
        Returns the variance of the training residuals, shape (C, horizon), when asked for: it
        costs as much as the fit. Divided by the share of degrees of freedom that are left.
    """

    weights: FloatArray
    bias: FloatArray | None
    scale_coef: FloatArray | None
    residual_variance: Callable[[], FloatArray]


class _Normal(NamedTuple):
    """Normal equations of features ``(x - level[, s])`` and targets ``y - level``."""

    gram: FloatArray
    cross: FloatArray
    feature_sum: FloatArray
    target_sum: FloatArray
    n: float

    def centered(self) -> tuple[FloatArray, FloatArray]:
        """Return Gram and cross moments with the intercept profiled out."""
        if self.n <= 0:
            return self.gram, self.cross
        mean = self.feature_sum / self.n
        return (
            self.gram - np.outer(mean, self.feature_sum),
            self.cross - np.outer(mean, self.target_sum),
        )


def _normal(moments: FloatArray, sums: WindowSums, functional: FloatArray) -> _Normal:
    """Take the level off inside the moments (a rank-two change) and cut them up."""
    L, M = sums.lookback, sums.lookback + sums.horizon
    if functional.any():
        g = moments[:, :L] @ functional
        level_square = functional @ g[:L]
        moments = moments.copy()
        moments[:M, :] -= g
        moments[:, :M] -= g[:, None]
        moments[:M, :M] += level_square
    features = np.r_[:L, M : moments.shape[0] - 1]
    return _Normal(
        moments[np.ix_(features, features)],
        moments[features, L:M],
        moments[-1, features],
        moments[-1, L:M],
        float(moments[-1, -1]),
    )


def solve_ridge(
    gram: FloatArray,
    cross: FloatArray,
    penalty: float,
    metric: FloatArray | None = None,
    prior: FloatArray | None = None,
) -> tuple[FloatArray, float]:
    """Minimize ``tr(W'GW) - 2 tr(W'B) + penalty * tr((W - W0)' metric (W - W0))``.

    Parameters
    ----------
    gram : array of shape (p, p)
    cross : array of shape (p, horizon)
    penalty : float
        Absolute. With 0 and a singular Gram matrix the solution of least norm is returned.
    metric : array of shape (p, p), optional
        Positive definite; the identity by default.
    prior : array of shape (p, horizon), optional

    Returns
    -------
    weights : array of shape (p, horizon)
    dof : float
        Effective degrees of freedom, the trace of the hat matrix.
    """
    p = len(gram)
    system = gram.copy()
    right = cross
    if penalty > 0:
        if metric is None:
            system[np.diag_indices(p)] += penalty
        else:
            system += penalty * metric
        if prior is not None:
            right = cross + penalty * (prior if metric is None else metric @ prior)
    norm = float(np.abs(system).sum(axis=0).max())
    if norm == 0.0 or not np.isfinite(norm):
        return np.zeros_like(cross) if prior is None else prior.copy(), 0.0
    factor, info = linalg.lapack.dpotrf(system, lower=0)
    if info == 0:
        rcond, _ = linalg.lapack.dpocon(factor, norm)
        if rcond > _MIN_RCOND:
            weights, _ = linalg.lapack.dpotrs(factor, right, lower=0)
            inverse, _ = linalg.lapack.dpotri(factor, lower=0)
            if metric is None:
                dof = p - penalty * float(np.trace(inverse))
            else:
                upper = np.triu(inverse * metric)
                dof = p - penalty * float(2 * upper.sum() - np.trace(upper))
            return np.ascontiguousarray(weights), dof
    values, vectors = linalg.eigh(system)
    keep = values > p * np.finfo(np.float64).eps * values[-1]
    weights = vectors[:, keep] @ ((vectors[:, keep].T @ right) / values[keep, None])
    return weights, float(keep.sum())


def solve_linear(sums: WindowSums, problem: LinearProblem) -> LinearSolution:
    """Solve a linear forecaster from its sums.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem

    Returns
    -------
    LinearSolution
    """
    L, H, C = sums.lookback, sums.horizon, sums.n_channels
    metric, prior = problem.metric, problem.prior
    extra = int(sums.eps is not None)
    if metric is not None and extra:
        metric = linalg.block_diag(metric, np.eye(extra))
    if prior is not None and extra:
        prior = np.concatenate([prior, np.zeros((len(prior), extra, H))], axis=1)
    variance = sums.input_variance() / problem.scale**2
    shift = problem.level - sums.level

    def fit(normal: _Normal, penalty: float, w0: FloatArray | None) -> tuple[FloatArray, float]:
        gram, cross = normal.centered() if problem.fit_intercept else (normal.gram, normal.cross)
        return solve_ridge(gram, cross, penalty, metric, w0)

    def intercept(normal: _Normal, weights: FloatArray) -> FloatArray:
        if not problem.fit_intercept or normal.n <= 0:
            return np.zeros(H)
        return np.asarray((normal.target_sum - weights.T @ normal.feature_sum) / normal.n)

    def normal(channels: npt.NDArray[np.intp]) -> _Normal:
        moments = sums.moments(problem.scale[channels], shift[channels], channels)
        return _normal(moments, sums, problem.functional)

    n = sums.n_windows
    each = [normal(np.array([c])) for c in range(C)] if problem.individual else []
    if problem.individual is True:
        solved = []
        for c in range(C):
            w0 = None if prior is None else prior[min(c, len(prior) - 1)]
            solved.append(fit(each[c], problem.alpha * n[c] * variance[c], w0))
        weights = np.array([w for w, _ in solved])
        bias = np.array([intercept(each[c], weights[c]) for c in range(C)])
        used = np.array([d for _, d in solved]) / np.maximum(n, 1.0)
    else:
        pooled = normal(np.arange(C))
        penalty = problem.alpha * pooled.n * float(np.average(variance, weights=n))
        shared, dof = fit(pooled, penalty, None if prior is None else prior.mean(axis=0))
        weights = shared[None]
        bias = np.repeat(intercept(pooled, shared)[None], C, axis=0)
        used = np.full(C, dof / max(pooled.n, 1.0))
        if problem.individual == "partial":
            weights = np.repeat(weights, C, axis=0)
            for c, own in enumerate(each if np.isfinite(problem.pooling) else []):
                left = own.cross - own.gram @ shared - np.outer(own.feature_sum, bias[c])
                strength = problem.pooling * n[c] * variance[c]
                correction, dof = solve_ridge(own.gram, left, strength, metric)
                weights[c] += correction
                used[c] += dof / max(n[c], 1.0)

    bias = bias * problem.scale[:, None]
    if not problem.functional.any():
        bias = bias + shift[:, None] * (1.0 - weights[:, :L].sum(axis=1))
    inflation = 1.0 / np.maximum(1.0 - used, _MIN_FREE_SHARE)
    residual = partial(_residual_variance, sums, weights, bias, inflation, problem.functional)
    if not problem.individual and not np.ptp(bias, axis=0).any():
        bias = bias[:1]
    return LinearSolution(
        np.ascontiguousarray(weights[:, :L]),
        bias if bias.any() else None,
        np.ascontiguousarray(weights[:, L]) if extra else None,
        residual,
    )


def _residual_variance(
    sums: WindowSums,
    weights: FloatArray,
    bias: FloatArray,
    inflation: FloatArray,
    functional: FloatArray,
) -> FloatArray:
    """Return the variance of the training residuals (C, horizon), from the sums alone."""
    square = sums.quadratic(_residual_coef(weights, sums, functional), -bias)
    return np.asarray(square * (inflation / np.maximum(sums.n_windows, 1.0))[:, None])


def _residual_coef(weights: FloatArray, sums: WindowSums, functional: FloatArray) -> FloatArray:
    """Return the coefficients of the residual on the coordinates (x, y[, s])."""
    L, M = sums.lookback, sums.lookback + sums.horizon
    out = np.zeros((len(weights), sums.width - 1, sums.horizon))
    out[:, :L] = -weights[:, :L]
    if functional.any():
        out[:, :L] += functional[:, None] * (weights[:, :L].sum(axis=1, keepdims=True) - 1.0)
    out[:, L:M] = np.eye(sums.horizon)
    if sums.eps is not None:
        out[:, M] = -weights[:, L]
    return out
