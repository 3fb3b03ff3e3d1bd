"""Regressors in the exact solve: coefficients per channel and step, jointly with the weights.

For every step the regressors' columns (the value at the target, the last one in the window, the
mean at the target's phase) are profiled out of the normal equations, channel by channel
(Frisch-Waugh); what is left of the Gram matrix depends on the step. Either it is factorized for
every step, or the one without regressors once, with the columns as a border (Woodbury).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ..regressors import Regressors, past_columns
from ..threads import single_threaded
from . import exact
from .exact import LinearProblem, LinearSolution
from .gram import SeriesSums
from .regressor_sums import JointSums, RegressorSums
from .ridge import cholesky, penalized, pseudo_inverse, solve_ridge

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

RIDGE = 1e-6  # relative to a regressor's energy in the windows: columns that never change get 0
_BLOCK_VALUES = 2**24  # of Gram matrices that are held at a time
_KEPT_VALUES = 2**25  # products of features and columns


@dataclass(frozen=True, eq=False)
class RegressorProblem:
    """The regressors' part of what is asked of the exact solver.

    Parameters
    ----------
    sums : RegressorSums
        Over the same windows as the sums of the channels.
    center : array of shape (K,)
        Where regressors are measured from.
    known : array of shape (K,)
        False for regressors that never change, whose coefficients are zero.
    period : int or None
        Of the mean at the target's phase; at most the lookback.
    """

    sums: RegressorSums
    center: FloatArray
    known: npt.NDArray[np.bool_]
    period: int | None


@dataclass(frozen=True, eq=False)
class _Columns:
    """Products with the regressors' columns, in scaled units and with calendar terms profiled out.

    Parameters
    ----------
    features : array of shape (D, K, p + 1)
        Of all distinct columns with ``x - level[, s], 1``.
    right : array of shape (horizon, 3 K)
        Of every step's target with the columns of the step.
    gram : array of shape (horizon, 3 K, 3 K)
        The columns' products with each other, the ridge not counted.
    ridge : array of shape (3 K,)
    which : array of shape (3, horizon)
        The columns of every step.
    waves : array of shape (K, 2 F, D)
        Of the calendar's waves with the columns.
    """

    features: FloatArray
    right: FloatArray
    gram: FloatArray
    ridge: FloatArray
    which: IntArray
    waves: FloatArray | None

    @cached_property
    def system(self) -> FloatArray:
        """The columns' products with each other, ridge included."""
        return np.asarray(self.gram + np.diag(self.ridge))

    def at(self, step: int, products: FloatArray | None = None) -> FloatArray:
        """Return the products of a step's columns with the features, (3 K, p + 1)."""
        products = self.features if products is None else products
        return np.asarray(products[self.which[:, step]].reshape(-1, products.shape[2]))

    def less(self, coef: FloatArray) -> _Columns:
        """Return the products after ``features @ coef`` was taken off the targets."""
        steps = range(coef.shape[1])
        taken = np.array([self.at(h) @ coef[:, h] for h in steps])
        return replace(self, right=self.right - taken)


class _Setup:
    """Makes the :class:`_Columns` of channels."""

    def __init__(self, sums: SeriesSums, problem: LinearProblem, given: RegressorProblem) -> None:
        self.sums, self.problem, self.given = sums, problem, given
        L, H = sums.lookback, sums.horizon
        self.columns, past = past_columns(L, H, given.period)
        self.which = np.concatenate([np.arange(H)[None], H + past])
        self._shared: dict[int, tuple[Any, ...]] = {}
        self._kept: dict[int, _Columns] = {}
        self._room = _KEPT_VALUES

    def _distinct(self, products: FloatArray, axis: int) -> FloatArray:
        """Turn an axis of window rows into one of distinct columns."""
        moved = np.moveaxis(products, axis, -1)
        L = self.sums.lookback
        out = np.concatenate([moved[..., L:], moved[..., :L] @ self.columns], axis=-1)
        return np.moveaxis(out, -1, axis)

    def _of_joint(self, joint: JointSums) -> tuple[Any, ...]:
        """Return what channels with the same gaps share."""
        if id(joint) in self._shared:
            return self._shared[id(joint)]
        K, C, M = joint.n_regressors, joint.n_series, self.sums.lookback + self.sums.horizon
        known, n = self.given.known, float(joint.n_windows[C])
        delta = self.given.center - joint.level[C:]
        plain = np.array([joint.coordinate_sums(C + k)[:M] for k in range(K)])  # (K, M)
        ones = self._distinct(plain, 1) - n * delta[:, None]
        ones[~known] = 0.0
        waves = turned = None
        if len(joint.frequencies):
            both = [joint.waves(C + k) for k in range(K)]
            waves = self._distinct(np.array([cross[:, :M] for cross, _ in both]), 2)
            waves -= delta[:, None, None] * both[0][0][:, -1:]
            waves[~known] = 0.0
            turned = pseudo_inverse(both[0][1]) @ waves
        H = self.which.shape[1]
        gram = np.zeros((H, 3, K, 3, K))
        ridge = np.ones(K)
        for k in map(int, np.flatnonzero(known)):
            for j in map(int, np.flatnonzero(known[: k + 1])):
                full = joint.regressor_products(k, j)
                full -= delta[k] * plain[j] + delta[j] * plain[k][:, None]
                full += n * delta[k] * delta[j]
                if k == j:
                    energy = max(float(np.diag(full).mean()), 0.0)
                    ridge[k] = RIDGE * energy if energy > 0 else 1.0
                part = self._distinct(self._distinct(full, 0), 1)
                if waves is not None:
                    assert turned is not None
                    part -= waves[k].T @ turned[j]
                for h in range(H):
                    own = part[np.ix_(self.which[:, h], self.which[:, h])]
                    gram[h, :, k, :, j] = own
                    gram[h, :, j, :, k] = own.T
        made = (
            delta, ones, waves, turned, gram.reshape(H, 3 * K, 3 * K), np.tile(ridge, 3)
        )  # fmt: skip
        self._shared[id(joint)] = made
        return made

    def of(self, c: int) -> _Columns:
        """Return the products of a channel, made again where there is no room to keep them."""
        if c in self._kept:
            return self._kept[c]
        made = self._made(c)
        if made.features.size <= self._room:
            self._room -= made.features.size
            self._kept[c] = made
        return made

    def _made(self, c: int) -> _Columns:
        sums, problem = self.sums, self.problem
        joint, place = self.given.sums.of_channel(c)
        delta, ones, waves, turned, gram, ridge = self._of_joint(joint)
        L, M = sums.lookback, sums.lookback + sums.horizon
        scale, shift = float(problem.scale[c]), float((problem.level - sums.level)[c])
        products = np.empty((joint.n_regressors, sums.width, self.columns.shape[1] + sums.horizon))
        products[:, :M] = self._distinct(joint.products(place), 2)
        if sums.eps is not None:
            products[:, M] = self._distinct(joint.scale_products(place), 1)
        line = joint.coordinate_sums(place)[:, None]
        products[:, :-1] -= delta[:, None, None] * line[:-1]
        products[:, -1] = ones
        products[:, :M] -= shift * ones[:, None]
        products[:, :-1] /= scale
        products[~self.given.known] = 0.0
        cross = None
        if waves is not None:
            cross = sums.waves(c)[0]
            cross[:, :M] -= shift * cross[:, -1:]
            cross[:, :-1] /= scale
            products -= cross.T @ turned
        if problem.functional.any():
            products[:, :M] -= np.einsum("l,kld->kd", problem.functional, products[:, :L])[:, None]
        features = np.r_[0:L, M : sums.width]
        steps = np.arange(sums.horizon)
        right = products[:, L + steps, self.which]  # (K, 3, horizon)
        return _Columns(
            np.ascontiguousarray(products[:, features].transpose(2, 0, 1)),
            right.transpose(2, 1, 0).reshape(sums.horizon, -1),
            gram,
            ridge,
            self.which,
            waves,
        )


@dataclass(frozen=True, eq=False)
class _Ridge:
    """A ridge problem for every step, with the columns of some channels.

    Parameters
    ----------
    gram : array of shape (p + 1, p + 1)
        Of the features and the constant.
    cross : array of shape (p + 1, horizon)
    channels : sequence of int
    columns : callable
        Returns the :class:`_Columns` of a channel.
    intercept : bool
    """

    gram: FloatArray
    cross: FloatArray
    channels: Sequence[int]
    columns: Callable[[int], _Columns]
    intercept: bool

    def solve(
        self, penalty: float, metric: FloatArray | None = None, prior: FloatArray | None = None
    ) -> FloatArray:
        """Return weights and intercepts, (p + 1, horizon)."""
        p, H = len(self.gram) - 1, self.cross.shape[1]
        if np.isinf(penalty):
            return self._given(np.zeros((p, H)) if prior is None else prior)
        if len(self.channels):
            one = self.columns(self.channels[0])
            distinct = len(self.channels) * one.features.shape[0] * one.features.shape[1]
            rank = len(self.channels) * len(one.ridge) + 1
            border = p**3 / 3 + 2.0 * p * p * distinct + H * (2.0 * p * rank**2 + rank**3)
            if penalty > 0 and border < H * (p**3 / 3 + p * p * rank):
                found = self._bordered(penalty, metric, prior)
                if found is not None:
                    return found
        return self._stepwise(penalty, metric, prior)

    def _given(self, weights: FloatArray) -> FloatArray:
        """Return weights that are known with the intercepts that go with them."""
        p, H = weights.shape
        out = np.concatenate([weights, np.zeros((1, H))])
        if not self.intercept or self.gram[p, p] <= 0:
            return out
        count = np.full(H, self.gram[p, p])
        total = self.cross[p] - self.gram[p, :p] @ weights
        for c in self.channels:
            own = self.columns(c).less(out)
            for h in range(H):
                line = own.at(h)[:, p]
                turned = linalg.solve(own.system[h], line, assume_a="pos")
                count[h] -= turned @ line
                total[h] -= turned @ own.right[h]
        out[p] = np.where(count > 0, total / np.where(count > 0, count, 1.0), 0.0)
        return out

    def _bordered(
        self, penalty: float, metric: FloatArray | None, prior: FloatArray | None
    ) -> FloatArray | None:
        p, H = len(self.gram) - 1, self.cross.shape[1]
        system = penalized(self.gram[:p, :p], penalty, metric)
        factor = cholesky(system) if system.any() else None
        if factor is None:
            return None
        target = self.cross[:p].copy()
        if prior is not None:
            target += penalty * (prior if metric is None else metric @ prior)

        def solved(right: FloatArray) -> FloatArray:
            return np.asarray(linalg.lapack.dpotrs(factor, right, lower=0)[0])

        parts = [self.columns(c) for c in self.channels]
        inverse = []
        for own in parts:
            D, K, _ = own.features.shape
            flat = solved(own.features[:, :, :p].reshape(D * K, p).T)
            inverse.append(np.ascontiguousarray(flat.T).reshape(D, K, p))
        plain, constant = solved(target), solved(self.gram[:p, p:])
        n_border = 1 if self.intercept and self.gram[p, p] > 0 else 0
        out = np.zeros((p + 1, H))
        for h in range(H):
            border = [own.at(h) for own in parts]
            turned = [own.at(h, of) for own, of in zip(parts, inverse, strict=True)]
            corner = linalg.block_diag(*[own.system[h] for own in parts])
            right = np.concatenate([own.right[h] for own in parts])
            B, X = np.concatenate(border), np.concatenate(turned)
            B, line = B[:, :p], B[:, p]
            if n_border:
                corner = np.block([[corner, line[:, None]], [line[None], self.gram[p:, p:]]])
                right = np.append(right, self.cross[p, h])
                B = np.concatenate([B, self.gram[p:, :p]])
                X = np.concatenate([X, constant.T])
            y = linalg.solve(corner - B @ X.T, right - B @ plain[:, h])
            out[:p, h] = plain[:, h] - y @ X
            if n_border:
                out[p, h] = y[-1]
        return out

    def _stepwise(
        self, penalty: float, metric: FloatArray | None, prior: FloatArray | None
    ) -> FloatArray:
        p, H = len(self.gram) - 1, self.cross.shape[1]
        out = np.zeros((p + 1, H))
        block = max(1, _BLOCK_VALUES // self.gram.size)
        for start in range(0, H, block):
            steps = range(start, min(start + block, H))
            grams = np.repeat(self.gram[None], len(steps), axis=0)
            cross = self.cross[:, start : steps.stop].T.copy()
            for c in self.channels:
                own = self.columns(c)
                for i, h in enumerate(steps):
                    lower = np.linalg.cholesky(own.system[h])
                    both = np.concatenate([own.at(h), own.right[h][:, None]], axis=1)
                    turned = linalg.solve_triangular(lower, both, lower=True)
                    grams[i] -= turned[:, :-1].T @ turned[:, :-1]
                    cross[i] -= turned[:, -1] @ turned[:, :-1]
            for i, h in enumerate(steps):
                gram, right = grams[i, :p, :p], cross[i, :p]
                mean = np.zeros(p)
                if self.intercept and grams[i, p, p] > 0:
                    mean = grams[i, p, :p] / grams[i, p, p]
                    gram = gram - np.outer(mean, grams[i, p, :p])
                    right = right - mean * cross[i, p]
                w0 = None if prior is None else prior[:, h : h + 1]
                out[:p, h] = solve_ridge(gram, right[:, None], penalty, metric, w0)[:, 0]
                if self.intercept and grams[i, p, p] > 0:
                    out[p, h] = cross[i, p] / grams[i, p, p] - mean @ out[:p, h]
        return out


def solve_with_regressors(
    sums: SeriesSums, problem: LinearProblem, given: RegressorProblem
) -> LinearSolution:
    """Solve a linear forecaster with regressors from its sums.

    Parameters
    ----------
    sums : SeriesSums
    problem : LinearProblem
    given : RegressorProblem

    Returns
    -------
    LinearSolution
        With ``regressors``. A fitted prior's few coefficients are those without regressors.
    """
    with single_threaded():
        return _solve(sums, problem, given)


def _solve(sums: SeriesSums, problem: LinearProblem, given: RegressorProblem) -> LinearSolution:
    L, H, C = sums.lookback, sums.horizon, sums.n_channels
    setup = _Setup(sums, problem, given)
    metric = exact.full_metric(sums, problem)
    extra = int(sums.eps is not None)
    variance = sums.input_variance() / problem.scale**2
    shift, n = problem.level - sums.level, sums.n_windows
    active = problem.active & (n > 0)

    def own(c: int) -> exact.NormalEquations:
        return exact.normal_equations(sums, problem, np.array([c]))

    def centered(normal: exact.NormalEquations) -> tuple[FloatArray, FloatArray]:
        return normal.centered() if problem.fit_intercept else (normal.gram, normal.cross)

    def ridge(
        normal: exact.NormalEquations, channels: Sequence[int], less: FloatArray | None = None
    ) -> _Ridge:
        """Pose a problem, ``less`` (1 or C, p + 1, horizon) taken off the targets before."""
        gram = np.block(
            [[normal.gram, normal.feature_sum[:, None]], [normal.feature_sum, normal.n]]
        )
        cross = np.concatenate([normal.cross, normal.target_sum[None]])

        def columns(c: int) -> _Columns:
            made = setup.of(c)
            return made if less is None else made.less(less[min(c, len(less) - 1)])

        return _Ridge(gram, cross, channels, columns, problem.fit_intercept)

    pooled, penalty = (
        (None, 0.0) if problem.individual is True else exact.pooled_equations(sums, problem)
    )
    prior = exact.prior_matrices(sums, problem, own, centered, pooled)
    if prior is not None and extra:
        prior = np.concatenate([prior, np.zeros((len(prior), extra, H))], axis=1)
    p = L + extra
    found = np.zeros((C, p + 1, H))  # weights and intercepts, in scaled units
    addition = common = None
    if pooled is None:
        for c in range(C):
            strength = problem.alpha * n[c] * variance[c]
            w0 = None if prior is None else prior[min(c, len(prior) - 1)]
            found[c] = ridge(own(c), [c] if active[c] else []).solve(strength, metric, w0)
    else:
        channels = [int(c) for c in exact.pooled_channels(sums, problem)]
        if prior is not None and len(prior) > 1:  # what the channels' own priors leave over
            start = np.concatenate([prior, np.zeros((C, 1, H))], axis=1)
            for c in channels:
                normal = own(c)
                pooled = pooled._replace(
                    cross=pooled.cross - normal.gram @ prior[c],
                    target_sum=pooled.target_sum - prior[c].T @ normal.feature_sum,
                )
            shared = ridge(pooled, channels, start).solve(penalty, metric)
            found += shared + start
            addition = shared[:L]
        else:
            w0 = None if prior is None else prior[0]
            shared = ridge(pooled, channels).solve(penalty, metric, w0)
            found += shared
            addition = shared[:L] if w0 is None else (shared[:p] - w0)[:L]
        common = found[:, :p].mean(axis=0), shared[p].copy()
        if problem.individual == "partial" and np.isfinite(problem.pooling):
            for c in map(int, np.flatnonzero(problem.active)):
                normal, start = own(c), found[c]
                left = normal._replace(
                    cross=normal.cross
                    - normal.gram @ start[:p]
                    - np.outer(normal.feature_sum, start[p]),
                    target_sum=normal.target_sum
                    - start[:p].T @ normal.feature_sum
                    - normal.n * start[p],
                )
                posed = ridge(left, [c] if active[c] else [], found)
                posed = replace(posed, intercept=False)
                strength = problem.pooling * n[c] * variance[c]
                found[c] = start + posed.solve(strength, metric)

    coef, explained, waved = _profiled(setup, found, active)
    bias = found[:, p] * problem.scale[:, None]
    if problem.individual is not True:
        bias[~problem.active] = 0.0
    weights = found[:, :p]
    each = problem.individual is not False or (prior is not None and len(prior) > 1)
    weights = weights if each else weights[:1]
    if not problem.functional.any():
        bias = bias + shift[:, None] * (1.0 - weights[:, :L].sum(axis=1))
    calendar = None
    if exact.has_waves(sums):
        calendar = exact.calendar_coefficients(sums, problem, weights, bias)
        assert waved is not None
        calendar = calendar - waved
    residual = partial(
        exact.variance_of_residuals,
        *(sums, problem, weights, bias),
        explained=explained,
        n_columns=coef.shape[1] * coef.shape[2],
    )
    record = _record(setup, coef)
    return exact.assembled(
        sums, problem, weights, bias, residual, calendar, prior, addition, common, record
    )


def _profiled(
    setup: _Setup, found: FloatArray, active: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Return the coefficients (C, K, 3, horizon) that go with weights, in data units.

    And the sum of squares that they explain (C, horizon), and what the calendar terms lose to them
    (C, 2 F, horizon).
    """
    C, H, K = len(found), found.shape[2], len(setup.given.center)
    coef, explained, waved = np.zeros((C, K, 3, H)), np.zeros((C, H)), None
    if len(setup.sums.frequencies):
        waved = np.zeros((C, 2 * len(setup.sums.frequencies), H))
    for c in map(int, np.flatnonzero(active)):
        own = setup.of(c).less(found[c])
        scale = float(setup.problem.scale[c])
        inverse = None if waved is None else pseudo_inverse(setup.sums.waves(c)[1])
        for h in range(H):
            g = linalg.solve(own.system[h], own.right[h], assume_a="pos")
            explained[c, h] = scale**2 * (2 * g @ own.right[h] - g @ own.gram[h] @ g)
            coef[c, :, :, h] = scale * g.reshape(3, K).T
            if waved is not None:
                assert inverse is not None
                assert own.waves is not None
                picked = own.waves[:, :, own.which[:, h]]
                waved[c, :, h] = inverse @ np.einsum("kza,ka->z", picked, coef[c, :, :, h])
    return coef, explained, waved


def _record(setup: _Setup, coef: FloatArray) -> Regressors:
    past = setup.columns[:, setup.which[1:] - setup.sums.horizon]  # (lookback, 2, horizon)
    return Regressors(
        np.ascontiguousarray(coef[:, :, 0]),
        np.ascontiguousarray(coef[:, :, 1:].transpose(2, 0, 1, 3)),
        np.ascontiguousarray(past.transpose(1, 0, 2)),
        setup.given.center.copy(),
    )
