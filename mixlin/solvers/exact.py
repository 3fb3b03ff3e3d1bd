"""Closed-form ridge solutions from second moments of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg
from sklearn.base import BaseEstimator

from ..threads import single_threaded
from .window_sums import WindowSums

FloatArray = npt.NDArray[np.float64]

_MIN_RCOND = 1e-14
_PARALLEL_WIDTH = 1024
_MIN_FREE_SHARE = 0.05  # bounds the correction where there are hardly more windows than lags


class ExactSolver(BaseEstimator):
    """Options of the exact solver that linear forecasters share.

    Parameters
    ----------
    pooling : float, default=100.0
        For ``individual="partial"``: strength with which per-channel corrections are shrunk
        towards the shared matrix, relative as ``alpha`` is. 0 fits every channel on its own,
        infinity keeps the shared matrix. The default did best on the validation spans of
        several data sets.

    Examples
    --------
    >>> from mixlin import DLinearForecaster, ExactSolver
    >>> DLinearForecaster(individual="partial", solver=ExactSolver(pooling=3.0)).solver.pooling
    3.0
    """

    def __init__(self, pooling: float = 100.0) -> None:
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
    active : array of shape (C,)
        False for channels that never change: they teach nothing about shared weights, and a
        shared intercept in scaled units is zero for them.
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
    active: npt.NDArray[np.bool_]
    alpha: float
    fit_intercept: bool
    individual: bool | str = False
    pooling: float = 100.0
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
        Returns the variance of the residuals, shape (C, horizon), when asked for: it costs as
        much as the fit. Corrected for the degrees of freedom used (Akaike's final prediction
        error).
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


def _normal(sums: WindowSums, problem: LinearProblem, channels: npt.NDArray[np.intp]) -> _Normal:
    """Pool channels, take the windows' level off (a rank-two change), and cut the moments up."""
    L, M = sums.lookback, sums.lookback + sums.horizon
    shift = (problem.level - sums.level)[channels]
    moments = sums.moments(problem.scale[channels], shift, channels)
    if problem.functional.any():
        g = moments[:, :L] @ problem.functional
        level_square = problem.functional @ g[:L]
        moments[:M, :] -= g
        moments[:, :M] -= g[:, None]
        moments[:M, :M] += level_square
    features: Any = slice(0, L) if sums.eps is None else np.r_[:L, M]
    gram = moments[:L, :L] if sums.eps is None else moments[np.ix_(features, features)]
    return _Normal(
        gram,
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
) -> FloatArray:
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
    array of shape (p, horizon)
    """
    system = _penalized(gram, penalty, metric)
    right = cross
    if penalty > 0 and prior is not None:
        right = cross + penalty * (prior if metric is None else metric @ prior)
    if not system.any():
        return np.zeros_like(cross) if prior is None else prior.copy()
    factor = _cholesky(system)
    if factor is not None:
        weights, _ = linalg.lapack.dpotrs(factor, right, lower=0)
        return np.asarray(weights, order="C")
    values, vectors = linalg.eigh(system)
    keep = values > len(gram) * np.finfo(np.float64).eps * values[-1]
    return np.asarray(vectors[:, keep] @ ((vectors[:, keep].T @ right) / values[keep, None]))


def _penalized(gram: FloatArray, penalty: float, metric: FloatArray | None) -> FloatArray:
    if metric is not None:
        return np.asarray(gram + penalty * metric)
    system = gram.copy()
    system[np.diag_indices(len(gram))] += penalty
    return np.asarray(system)


def _cholesky(system: FloatArray) -> FloatArray | None:
    """Return the upper factor of a symmetric matrix; None if it is singular up to rounding."""
    norm = float(np.abs(system).sum(axis=0).max())
    factor, info = linalg.lapack.dpotrf(system.T, lower=0)  # its own transpose, no copy
    if info != 0 or linalg.lapack.dpocon(factor, norm)[0] <= _MIN_RCOND:
        return None
    return np.asarray(factor)


def degrees_of_freedom(gram: FloatArray, penalty: float, metric: FloatArray | None = None) -> float:
    """Return the trace of the hat matrix of a ridge fit.

    Parameters
    ----------
    gram : array of shape (p, p)
    penalty : float
    metric : array of shape (p, p), optional

    Returns
    -------
    float
        Between 0 and p.
    """
    factor = _cholesky(_penalized(gram, penalty, metric))
    if factor is None:
        values = linalg.eigvalsh(gram)
        return float((values > len(gram) * np.finfo(np.float64).eps * values[-1]).sum())
    inverse, _ = linalg.lapack.dpotri(factor, lower=0)
    product = np.triu(inverse) if metric is None else np.triu(inverse * metric)
    trace = np.trace(product) if metric is None else 2 * product.sum() - np.trace(product)
    return len(gram) - penalty * float(trace)


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
    if sums.width >= _PARALLEL_WIDTH:
        return _solve(sums, problem)
    with single_threaded():
        return _solve(sums, problem)


def _solve(sums: WindowSums, problem: LinearProblem) -> LinearSolution:
    L, H, C = sums.lookback, sums.horizon, sums.n_channels
    metric, prior = _full_metric(sums, problem), problem.prior
    extra = int(sums.eps is not None)
    if prior is not None and extra:
        prior = np.concatenate([prior, np.zeros((len(prior), extra, H))], axis=1)
    variance = sums.input_variance() / problem.scale**2
    shift = problem.level - sums.level

    n = sums.n_windows

    def fit(normal: _Normal, penalty: float, w0: FloatArray | None) -> FloatArray:
        gram, cross = normal.centered() if problem.fit_intercept else (normal.gram, normal.cross)
        return solve_ridge(gram, cross, penalty, metric, w0)

    def intercept(normal: _Normal, weights: FloatArray) -> FloatArray:
        if not problem.fit_intercept or normal.n <= 0:
            return np.zeros(H)
        return np.asarray((normal.target_sum - weights.T @ normal.feature_sum) / normal.n)

    if problem.individual is True:
        weights, bias = np.empty((C, L + extra, H)), np.empty((C, H))
        for c in range(C):
            own = _normal(sums, problem, np.array([c]))
            w0 = None if prior is None else prior[min(c, len(prior) - 1)]
            weights[c] = fit(own, problem.alpha * n[c] * variance[c], w0)
            bias[c] = intercept(own, weights[c])
    else:
        pooled, penalty = _pooled(sums, problem)
        shared = fit(pooled, penalty, None if prior is None else prior.mean(axis=0))
        weights = shared[None]
        bias = np.repeat(intercept(pooled, shared)[None], C, axis=0)
        if problem.individual == "partial":
            weights = np.repeat(weights, C, axis=0)
            corrected = problem.active & np.isfinite(problem.pooling)
            for c in map(int, np.flatnonzero(corrected)):
                own = _normal(sums, problem, np.array([c]))
                left = own.cross - own.gram @ shared - np.outer(own.feature_sum, bias[c])
                strength = problem.pooling * n[c] * variance[c]
                weights[c] += solve_ridge(own.gram, left, strength, metric)

    bias = bias * problem.scale[:, None]
    if problem.individual is not True:
        bias[~problem.active] = 0.0
    if not problem.functional.any():
        bias = bias + shift[:, None] * (1.0 - weights[:, :L].sum(axis=1))
    residual = partial(_residual_variance, sums, problem, weights, bias)
    if not problem.individual and not np.ptp(bias, axis=0).any():
        bias = bias[:1]
    return LinearSolution(
        np.ascontiguousarray(weights[:, :L]),
        bias if bias.any() else None,
        np.ascontiguousarray(weights[:, L]) if extra else None,
        residual,
    )


def _pooled(sums: WindowSums, problem: LinearProblem) -> tuple[_Normal, float]:
    """Return the normal equations of the shared weights and their absolute penalty."""
    channels = np.flatnonzero(problem.active & (sums.n_windows > 0))
    if not len(channels):
        channels = np.arange(sums.n_channels)
    normal = _normal(sums, problem, channels)
    variance = (sums.input_variance() / problem.scale**2)[channels]
    weights = sums.n_windows[channels]
    mean = float(np.average(variance, weights=weights)) if weights.any() else 0.0
    return normal, problem.alpha * normal.n * mean


def _residual_variance(
    sums: WindowSums, problem: LinearProblem, weights: FloatArray, bias: FloatArray
) -> FloatArray:
    """Return the variance of the residuals on new windows (C, horizon), from the sums alone.

    The mean square of the training residuals times Akaike's (1 + q) / (1 - q), with q the
    degrees of freedom used per window: 1 / (1 - q) undoes the fit to the training noise, 1 + q
    adds the noise of the coefficients.
    """
    n = np.maximum(sums.n_windows, 1.0)
    square = sums.quadratic(_residual_coef(weights, sums, problem.functional), -bias)
    used = _used_freedom(sums, problem)
    lacking = sums.n_windows == 0
    if lacking.any() and not lacking.all():  # no residuals: those of the others, in their scale
        relative = square[~lacking] / (n[~lacking] * problem.scale[~lacking] ** 2)[:, None]
        square[lacking] = np.outer(problem.scale[lacking] ** 2, relative.mean(axis=0))
    correction = (1.0 + used) / np.maximum(1.0 - used, _MIN_FREE_SHARE)
    return np.asarray(square * (correction / n)[:, None])


def _used_freedom(sums: WindowSums, problem: LinearProblem) -> FloatArray:
    """Return the degrees of freedom per window that the fit used up, one for every channel."""
    C, n = sums.n_channels, np.maximum(sums.n_windows, 1.0)
    metric = _full_metric(sums, problem)
    variance = sums.input_variance() / problem.scale**2

    def used(normal: _Normal, penalty: float, centered: bool) -> float:
        gram = normal.centered()[0] if centered else normal.gram
        return (degrees_of_freedom(gram, penalty, metric) + centered) / max(normal.n, 1.0)

    each = (_normal(sums, problem, np.array([c])) for c in range(C))  # one at a time
    if problem.individual is True:
        strengths = problem.alpha * n * variance
        return np.array(
            [used(own, s, problem.fit_intercept) for own, s in zip(each, strengths, strict=True)]
        )
    pooled, penalty = _pooled(sums, problem)
    out = np.full(C, used(pooled, penalty, problem.fit_intercept))
    if problem.individual == "partial" and np.isfinite(problem.pooling):
        strengths = problem.pooling * n * variance
        out += [used(own, s, False) for own, s in zip(each, strengths, strict=True)]
    return out


def _full_metric(sums: WindowSums, problem: LinearProblem) -> FloatArray | None:
    """Return the metric of the penalty with the scale feature's place added."""
    if problem.metric is None or sums.eps is None:
        return problem.metric
    return np.asarray(linalg.block_diag(problem.metric, np.eye(1)))


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
