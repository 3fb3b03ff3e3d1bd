"""Closed-form ridge solutions from second moments of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ..regressors import Regressors
from ..threads import single_threaded
from .ridge import degrees_of_freedom, pseudo_inverse, solve_ridge, strength_of
from .seasonal_prior import PriorFeatures, prior_coefficients
from .window_sums import WindowSums

FloatArray = npt.NDArray[np.float64]

_PARALLEL_WIDTH = 1024
_KEPT_BYTES = 2**28  # of channels' moments
_MIN_FREE_SHARE = 0.05  # bounds the correction where there are hardly more windows than lags


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
    features : PriorFeatures, optional
        Instead of ``prior``: coefficients of these are fitted, and weights shrunk towards them.
    kappa : float
        Of :class:`SeasonalPrior`.
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
    features: PriorFeatures | None = None
    kappa: float = np.inf


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
    calendar : array of shape (C, 2 F, horizon), or None
        Coefficients of the waves of the sums.
    prior : array of shape (1 or C, lookback, horizon), or None
        What the weights were shrunk towards.
    common : array of shape (lookback, horizon), or None
        What all channels have on top of it.
    shared : tuple of arrays of shape (lookback[ + 1], horizon) and (horizon,), or None
        Weights and intercept of the pooled fit in scaled units, before any channel's corrections.
    regressors : Regressors, or None
        What known-future regressors add.
    """

    weights: FloatArray
    bias: FloatArray | None
    scale_coef: FloatArray | None
    residual_variance: Callable[[], FloatArray]
    calendar: FloatArray | None = None
    prior: FloatArray | None = None
    common: FloatArray | None = None
    shared: tuple[FloatArray, FloatArray] | None = None
    regressors: Regressors | None = None


class NormalEquations(NamedTuple):
    """Normal equations of features ``(x - level[, s])`` and targets ``y - level``.

    Attributes
    ----------
    gram : array of shape (p, p)
    cross : array of shape (p, horizon)
    feature_sum : array of shape (p,)
    target_sum : array of shape (horizon,)
    n : float
        Windows; less what calendar terms explain of a constant.
    """

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


def normal_equations(
    sums: WindowSums, problem: LinearProblem, channels: npt.NDArray[np.intp]
) -> NormalEquations:
    """Pool channels, and take calendar terms and the windows' level off.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    channels : array of shape (n_selected,)

    Returns
    -------
    NormalEquations
        In scaled units.
    """
    shift = (problem.level - sums.level)[channels]
    moments = sums.moments(problem.scale[channels], shift, channels)
    return _measured(sums, problem, moments, channels)


def _measured(
    sums: WindowSums,
    problem: LinearProblem,
    moments: FloatArray,
    channels: npt.NDArray[np.intp],
) -> NormalEquations:
    """Profile calendar terms out, take the windows' level off, and cut the moments up, in place."""
    L, M = sums.lookback, sums.lookback + sums.horizon
    if has_waves(sums):
        lines, solved = [], []
        for c in channels:
            cross, gram = sums.waves(c)
            cross[:, :M] -= (problem.level - sums.level)[c] * cross[:, -1:]
            cross[:, :-1] /= problem.scale[c]
            lines.append(cross)
            solved.append(pseudo_inverse(gram) @ cross)
        moments -= np.concatenate(lines).T @ np.concatenate(solved)
    if problem.functional.any():  # a rank-two change
        g = moments[:, :L] @ problem.functional
        level_square = problem.functional @ g[:L]
        moments[:M, :] -= g
        moments[:, :M] -= g[:, None]
        moments[:M, :M] += level_square
    features: Any = slice(0, L) if sums.eps is None else np.r_[:L, M]
    gram = moments[:L, :L] if sums.eps is None else moments[np.ix_(features, features)]
    return NormalEquations(
        gram,
        moments[features, L:M],
        moments[-1, features],
        moments[-1, L:M],
        float(moments[-1, -1]),
    )


class ChannelNormals:
    """Normal equations of channels, made together and kept where memory allows.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
        What it says of penalties is not read.
    """

    def __init__(self, sums: WindowSums, problem: LinearProblem) -> None:
        self._sums, self._problem = sums, problem
        self._kept: FloatArray | None = None
        self._keeps = 8 * sums.n_channels * sums.width**2 <= _KEPT_BYTES

    def __call__(self, c: int) -> NormalEquations:
        sums, problem, channels = self._sums, self._problem, np.arange(self._sums.n_channels)
        if not self._keeps:
            return normal_equations(sums, problem, channels[c : c + 1])
        if self._kept is None:
            shift = problem.level - sums.level
            self._kept = sums.each_moments(problem.scale, shift, channels)
        return _measured(sums, problem, self._kept[c].copy(), channels[c : c + 1])


def has_waves(sums: WindowSums) -> bool:
    """Whether sums hold products with waves.

    Parameters
    ----------
    sums : WindowSums
    """
    return len(sums.frequencies) > 0


def solve_linear(
    sums: WindowSums, problem: LinearProblem, normals: ChannelNormals | None = None
) -> LinearSolution:
    """Solve a linear forecaster from its sums.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    normals : ChannelNormals, optional
        Of the same sums, for several problems that differ in their penalties alone.

    Returns
    -------
    LinearSolution
    """
    if sums.width >= _PARALLEL_WIDTH:
        return _solve(sums, problem, normals)
    with single_threaded():
        return _solve(sums, problem, normals)


def _solve(
    sums: WindowSums, problem: LinearProblem, normals: ChannelNormals | None
) -> LinearSolution:
    L, H, C = sums.lookback, sums.horizon, sums.n_channels
    metric = full_metric(sums, problem)
    extra = int(sums.eps is not None)
    variance = sums.input_variance() / problem.scale**2
    shift = problem.level - sums.level
    n = sums.n_windows

    def centered(normal: NormalEquations) -> tuple[FloatArray, FloatArray]:
        return normal.centered() if problem.fit_intercept else (normal.gram, normal.cross)

    own = ChannelNormals(sums, problem) if normals is None else normals

    def intercept(normal: NormalEquations, weights: FloatArray) -> FloatArray:
        if not problem.fit_intercept or normal.n <= 0:
            return np.zeros(H)
        return np.asarray((normal.target_sum - weights.T @ normal.feature_sum) / normal.n)

    addition = None
    pooled, penalty = (None, 0.0) if problem.individual is True else pooled_equations(sums, problem)
    prior = prior_matrices(sums, problem, own, centered, pooled)
    if prior is not None and extra:
        prior = np.concatenate([prior, np.zeros((len(prior), extra, H))], axis=1)
    common = None
    if pooled is None:
        weights, bias = np.empty((C, L + extra, H)), np.empty((C, H))
        for c in range(C):
            normal = own(c)
            w0 = None if prior is None else prior[min(c, len(prior) - 1)]
            strength = strength_of(problem.alpha, n[c] * variance[c])
            weights[c] = solve_ridge(*centered(normal), strength, metric, w0)
            bias[c] = intercept(normal, weights[c])
    else:
        if prior is not None and len(prior) > 1:  # what the channels' own priors leave over
            for c in pooled_channels(sums, problem):
                normal = own(c)
                pooled = pooled._replace(
                    cross=pooled.cross - normal.gram @ prior[c],
                    target_sum=pooled.target_sum - prior[c].T @ normal.feature_sum,
                )
            shared = solve_ridge(*centered(pooled), penalty, metric)
            weights, addition = prior + shared, shared[:L]
        else:
            w0 = None if prior is None else prior[0]
            shared = solve_ridge(*centered(pooled), penalty, metric, w0)
            weights = shared[None]
            addition = shared[:L] if prior is None else (shared - prior[0])[:L]
        bias = np.repeat(intercept(pooled, shared)[None], C, axis=0)
        common = weights.mean(axis=0), bias[0].copy()
        if problem.individual == "partial":
            weights = np.repeat(weights, C // len(weights), axis=0)
            corrected = problem.active & np.isfinite(problem.pooling)
            for c in map(int, np.flatnonzero(corrected)):
                normal = own(c)
                left = normal.cross - normal.gram @ weights[c]
                left -= np.outer(normal.feature_sum, bias[c])
                strength = problem.pooling * n[c] * variance[c]
                weights[c] += solve_ridge(normal.gram, left, strength, metric)

    bias = bias * problem.scale[:, None]
    if problem.individual is not True:
        bias[~problem.active] = 0.0
    if not problem.functional.any():
        bias = bias + shift[:, None] * (1.0 - weights[:, :L].sum(axis=1))
    calendar = calendar_coefficients(sums, problem, weights, bias) if has_waves(sums) else None
    residual = partial(variance_of_residuals, sums, problem, weights, bias)
    return assembled(sums, problem, weights, bias, residual, calendar, prior, addition, common)


def assembled(
    sums: WindowSums,
    problem: LinearProblem,
    weights: FloatArray,
    bias: FloatArray,
    residual: Callable[[], FloatArray],
    calendar: FloatArray | None,
    prior: FloatArray | None,
    common: FloatArray | None,
    shared: tuple[FloatArray, FloatArray] | None,
    regressors: Regressors | None = None,
) -> LinearSolution:
    """Put a solution together.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    weights : array of shape (1 or C, lookback[ + 1], horizon)
        With the row of the scale feature, where the sums have one.
    bias : array of shape (C, horizon)
        Data units.
    residual, calendar, prior, common, shared, regressors
        As in :class:`LinearSolution`; ``prior`` with the scale feature's row.

    Returns
    -------
    LinearSolution
    """
    L = sums.lookback
    if not problem.individual and not np.ptp(bias, axis=0).any():
        bias = bias[:1]
    return LinearSolution(
        np.ascontiguousarray(weights[:, :L]),
        bias if bias.any() else None,
        None if sums.eps is None else np.ascontiguousarray(weights[:, L]),
        residual,
        calendar,
        None if prior is None else prior[:, :L],
        common,
        shared,
        regressors,
    )


def prior_matrices(
    sums: WindowSums,
    problem: LinearProblem,
    own: Callable[[int], NormalEquations],
    centered: Callable[[NormalEquations], tuple[FloatArray, FloatArray]],
    pooled: NormalEquations | None,
) -> FloatArray | None:
    """Return what weights are shrunk towards.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    own : callable
        From a channel to its normal equations.
    centered : callable
        From normal equations to a Gram matrix and cross moments.
    pooled : NormalEquations or None
        Of all channels, where they are there already.

    Returns
    -------
    array of shape (1 or C, lookback, horizon), or None
    """
    if problem.features is None:
        given = problem.prior
        if given is None or problem.individual is True:
            return given
        return np.asarray(given.mean(axis=0)[None])
    L, features = sums.lookback, problem.features

    def normal(of: NormalEquations) -> tuple[FloatArray, FloatArray]:
        gram, cross = centered(of)
        return features.normal(gram[:L, :L], cross[:L])

    if np.isinf(problem.kappa):
        whole = pooled_equations(sums, problem)[0] if pooled is None else pooled
        left, right = normal(whole)
        coef = prior_coefficients(left[None], right[None], np.ones(1), np.inf)
        return features.matrix(coef)
    n = np.maximum(sums.n_windows, np.finfo(np.float64).tiny)
    parts = [normal(own(c)) for c in range(sums.n_channels)]
    left = np.array([a for a, _ in parts]) / n[:, None, None]
    right = np.array([r for _, r in parts]) / n[:, None]
    counted = np.zeros(sums.n_channels)
    counted[pooled_channels(sums, problem)] = 1.0
    coef = prior_coefficients(left, right, counted * sums.n_windows, problem.kappa)
    return features.matrix(coef)


def calendar_coefficients(
    sums: WindowSums, problem: LinearProblem, weights: FloatArray, bias: FloatArray
) -> FloatArray:
    """Return the coefficients of the waves that go with weights.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    weights : array of shape (1 or C, lookback[ + 1], horizon)
    bias : array of shape (C, horizon)

    Returns
    -------
    array of shape (C, 2 F, horizon)
        Data units.
    """
    coef = _residual_coef(weights, sums, problem.functional)
    out = []
    for c in range(sums.n_channels):
        cross, gram = sums.waves(c)
        whole = np.concatenate([coef[min(c, len(coef) - 1)], -bias[c : c + 1]])
        known = sums.n_windows[c] > 0 and problem.active[c]
        out.append(pseudo_inverse(gram) @ (cross @ whole) * float(known))
    return np.array(out)


def pooled_channels(sums: WindowSums, problem: LinearProblem) -> npt.NDArray[np.intp]:
    """Return the channels that shared weights are learnt from.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem

    Returns
    -------
    array of shape (n_selected,)
    """
    channels = np.flatnonzero(problem.active & (sums.n_windows > 0))
    return channels if len(channels) else np.arange(sums.n_channels)


def pooled_equations(sums: WindowSums, problem: LinearProblem) -> tuple[NormalEquations, float]:
    """Return the normal equations of the shared weights and their absolute penalty.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem

    Returns
    -------
    equations : NormalEquations
    penalty : float
    """
    channels = pooled_channels(sums, problem)
    normal = normal_equations(sums, problem, channels)
    variance = (sums.input_variance() / problem.scale**2)[channels]
    weights = sums.n_windows[channels]
    mean = float(np.average(variance, weights=weights)) if weights.any() else 0.0
    return normal, strength_of(problem.alpha, float(weights.sum()) * mean)


def variance_of_residuals(
    sums: WindowSums,
    problem: LinearProblem,
    weights: FloatArray,
    bias: FloatArray,
    *,
    explained: FloatArray | None = None,
    n_columns: int = 0,
) -> FloatArray:
    """Return the variance of the residuals on new windows (C, horizon), from the sums alone.

    The mean square of the training residuals times Akaike's (1 + q) / (1 - q), with q the
    degrees of freedom used per window: 1 / (1 - q) undoes the fit to the training noise, 1 + q
    adds the noise of the coefficients.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem
    weights : array of shape (1 or C, lookback[ + 1], horizon)
    bias : array of shape (C, horizon)
        Data units.
    explained : array of shape (C, horizon), optional
        Sums of squares that regressors explain, squared data units.
    n_columns : int
        Of the regressors, for every channel.

    Returns
    -------
    array of shape (C, horizon)
        Squared data units.
    """
    n = np.maximum(sums.n_windows, 1.0)
    coef = _residual_coef(weights, sums, problem.functional)
    square = sums.quadratic(coef, -bias)
    if has_waves(sums):
        calendar = calendar_coefficients(sums, problem, weights, bias)
        for c in range(sums.n_channels):  # what the calendar terms explain
            own = calendar[c]
            square[c] -= np.einsum("zh,zh->h", own, sums.waves(c)[1] @ own)
        square = np.maximum(square, 0.0)
    if explained is not None:  # by regressors, in so many columns of every channel
        square = np.maximum(square - explained, 0.0)
    used = _used_freedom(sums, problem) + n_columns / n
    lacking = sums.n_windows == 0
    if lacking.any() and not lacking.all():  # no residuals: those of the others, in their scale
        relative = square[~lacking] / (n[~lacking] * problem.scale[~lacking] ** 2)[:, None]
        square[lacking] = np.outer(problem.scale[lacking] ** 2, relative.mean(axis=0))
    correction = (1.0 + used) / np.maximum(1.0 - used, _MIN_FREE_SHARE)
    return np.asarray(square * (correction / n)[:, None])


def _used_freedom(sums: WindowSums, problem: LinearProblem) -> FloatArray:
    """Return the degrees of freedom per window that the fit used up, one for every channel."""
    C, n = sums.n_channels, np.maximum(sums.n_windows, 1.0)
    metric = full_metric(sums, problem)
    waves = 2 * len(sums.frequencies) / n
    variance = sums.input_variance() / problem.scale**2

    def used(normal: NormalEquations, penalty: float, centered: bool, count: float) -> float:
        gram = normal.centered()[0] if centered else normal.gram
        return (degrees_of_freedom(gram, penalty, metric) + centered) / max(count, 1.0)

    each = (normal_equations(sums, problem, np.array([c])) for c in range(C))  # one at a time
    if problem.individual is True:
        strengths = problem.alpha * n * variance
        return waves + [
            used(own, s, problem.fit_intercept, k)
            for own, s, k in zip(each, strengths, n, strict=True)
        ]
    pooled, penalty = pooled_equations(sums, problem)
    count = float(sums.n_windows[pooled_channels(sums, problem)].sum())
    out = waves + used(pooled, penalty, problem.fit_intercept, count)
    if problem.individual == "partial" and np.isfinite(problem.pooling):
        strengths = problem.pooling * n * variance
        out += [used(own, s, False, k) for own, s, k in zip(each, strengths, n, strict=True)]
    return out


def full_metric(sums: WindowSums, problem: LinearProblem) -> FloatArray | None:
    """Return the metric of the penalty with the scale feature's place added.

    Parameters
    ----------
    sums : WindowSums
    problem : LinearProblem

    Returns
    -------
    array of shape (lookback[ + 1], lookback[ + 1]), or None for the identity
    """
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
