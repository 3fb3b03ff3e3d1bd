"""The search on windows, which come in any order."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Training
from ..linear import ChannelStatistics
from ..solvers import DenseSums, ExactSearch, SeasonalPrior, single_threaded
from ..solvers.ridge import degrees_of_freedom
from .groups import Group, averaged, choices, features_of, group_losses, solve_group
from .search import Found, soft_shares

Float64Array = npt.NDArray[np.float64]

_LEAST_FREE = 1e-6  # share of the degrees of freedom; with fewer left, errors are rounding


def search_windows(
    training: Training,
    lookbacks: list[Any],
    options: ExactSearch,
    prior: SeasonalPrior | None,
    shared: bool,
    validation: Any,
    refit: bool,
    n_jobs: int,
) -> tuple[Found, int]:
    """Search on windows.

    Parameters
    ----------
    training : Training
        With windows.
    lookbacks : list of int
        The last columns are read.
    options : ExactSearch
    prior : SeasonalPrior or None
    shared : bool
    validation : object
        An integer holds the last windows out; else by generalized cross-validation.
    refit : bool
        Whether all windows are learnt from after the choice.
    n_jobs : int

    Returns
    -------
    found : Found
    n_channels : int
    """
    assert training.windows is not None
    x, y = training.windows
    n, C, _ = x.shape
    weight = np.ones(n) if training.weight is None else training.weight
    held = int(validation) if isinstance(validation, Integral) else 0
    if held >= n:
        raise ValueError(
            f"validation={held} holds out all of {n} windows. Hold fewer out, or pass a share, "
            "which chooses by generalized cross-validation instead."
        )
    fitted = slice(0, n - held - min(training.horizon - 1, (n - held) // 4) if held else n)
    judged = slice(n - held, n) if held else fitted
    statistics = ChannelStatistics(C)
    statistics.add(x[fitted], weight[fitted])
    scale, level = np.ones(C), statistics.mean
    active = np.ones(C, dtype=bool)
    periods: tuple[int, ...] = ()
    if prior is not None and not isinstance(prior.period, str):
        periods = prior.periods([])
    grid = options.grid(shared=shared or C == 1, prior=prior is not None)
    groups, chosen, tried, solutions, residuals = [], [], [], [], []
    with single_threaded():
        for lookback in sorted({int(k) for k in lookbacks}):
            for normalization in options.normalization:
                group = Group(lookback, None, normalization)
                features = features_of(group, prior, periods, training.horizon)
                sums, ahead = (
                    _sums(group, training.horizon, x[part], y[part], weight[part], level)
                    for part in (fitted, judged)
                )
                losses = group_losses(group, sums, ahead, scale, active, features, grid, n_jobs)
                if losses is None:
                    continue
                candidates = choices([losses], grid)
                if not held:
                    factor = _corrections(group, sums, grid.alphas)
                    candidates = [
                        c._replace(loss=c.loss * factor(c.alpha, c.beta)) for c in candidates
                    ]
                best = min(candidates, key=lambda c: c.loss)
                groups.append(group)
                chosen.append(best)
                tried += [(group, c) for c in candidates]
                whole = sums
                if held and refit:
                    whole = _sums(group, training.horizon, x, y, weight, level)
                solution = solve_group(group, [best], whole, scale, active, features)[0]
                solutions.append(solution)
                residuals.append(solution.residual_variance())
    if not groups:
        raise ValueError("all windows weigh nothing; nothing to learn from.")
    shares = soft_shares(np.array([c.loss for c in chosen]), options.temperature)
    residual = np.tensordot(shares, np.array(residuals), 1)
    found = Found(
        groups, chosen, shares, tried, averaged(groups, solutions, shares), residual, scale, active
    )
    return found, C


def _sums(
    group: Group,
    horizon: int,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    weight: Float64Array,
    level: Float64Array,
) -> DenseSums:
    out = DenseSums(group.lookback, horizon, level)
    out.add(x[:, :, x.shape[2] - group.lookback :], y, weight)
    return out


def _corrections(group: Group, sums: DenseSums, alphas: tuple[float, ...]) -> Any:
    """Return what training errors are multiplied by, for penalties on shared and own weights.

    Generalized cross-validation: ``1 / (1 - q) ** 2`` for q degrees of freedom per window.
    """
    L, C = group.lookback, sums.n_channels
    level = group.functional()[:, None]
    turn = np.eye(L) - level
    each = sums.each_moments(np.ones(C), np.zeros(C), np.arange(C))[:, :L, :L]
    grams = np.array([turn.T @ g @ turn for g in each])
    n = np.maximum(sums.n_windows, np.finfo(np.float64).tiny)
    variance = sums.input_variance()
    pooled = float(n @ variance)

    def factor(alpha: float, beta: float) -> float:
        shared = 0.0
        if np.isfinite(alpha):
            shared = degrees_of_freedom(grams.sum(axis=0), alpha * pooled)
        used = shared / n.sum()
        if np.isfinite(beta):
            own = [
                degrees_of_freedom(g, beta * k * v)
                for g, k, v in zip(grams, n, variance, strict=True)
            ]
            used += sum(own) / n.sum()
        free = 1.0 - used
        return float(1.0 / free**2) if free > _LEAST_FREE else np.inf

    return factor
