"""Regressors in the search: the groups' final solutions, and their errors on held-out rows.

Penalties and shares are chosen on the series as they are; then every group is solved again jointly
with the regressors, exactly, and the solutions are averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..regressor_fits import LearntRegressors, RegressorStatistics
from ..regressors import Regressors
from ..solvers import RegressorProblem, RegressorSums, SeriesSums, decay_of
from .groups import AveragedSolution, Group, SearchSeries

Float64Array = npt.NDArray[np.float64]

_KEPT_VALUES = 2**24  # products of regressors with each other


def exog_statistics(data: SearchSeries, stops: Sequence[int]) -> RegressorStatistics:
    """Return the statistics of the regressors' rows before ``stops``.

    Parameters
    ----------
    data : SearchSeries
        With ``exog``.
    stops : sequence of int, one per series
    """
    assert data.exog is not None
    out = RegressorStatistics(data.exog[0].shape[1])
    for rows, stop in zip(data.exog, stops, strict=True):
        out.add(rows[:stop])
    return out


def exog_sums(
    data: SearchSeries,
    group: Group,
    level: Float64Array,
    center: Float64Array,
    begins: Sequence[int],
    ends: Sequence[int],
) -> RegressorSums:
    """Return the sums with regressors over the windows between rows, as :meth:`SearchSeries.sums`.

    Parameters
    ----------
    data : SearchSeries
        With ``exog``.
    group : Group
    level : array of shape (C,)
    center : array of shape (K,)
    begins, ends : sequence of int, one per series

    Raises
    ------
    ValueError
        If rows weigh differently.
    """
    assert data.exog is not None
    if data.weight is not None and any(np.ptp(w) > 0 for w in data.weight):
        raise ValueError(
            "regressors can't be fitted to rows that weigh differently. Leave sample_weight out, "
            "or exog."
        )
    longest = max(b - a for a, b in zip(begins, ends, strict=True))
    decay = decay_of(group.forgetting, longest)
    out = RegressorSums(
        group.lookback, data.horizon, level, center, decay=decay, frequencies=data.frequencies
    )
    for i, (values, rows) in enumerate(zip(data.series, data.exog, strict=True)):
        at = None if data.first is None else data.first[i] + begins[i]
        each = 1.0 if data.weight is None else float(data.weight[i][0])
        own = slice(begins[i], ends[i])
        out.add(values[own], rows[own], each, at=at)
    return out


def regressor_problem(
    data: SearchSeries,
    group: Group,
    level: Float64Array,
    statistics: RegressorStatistics,
    stops: Sequence[int],
) -> RegressorProblem:
    """Return the regressors' part of a group's problem on the rows before ``stops``.

    Parameters
    ----------
    data : SearchSeries
    group : Group
    level : array of shape (C,)
    statistics : RegressorStatistics
    stops : sequence of int, one per series
    """
    learnt = learnt_regressors(data, group, level, statistics, stops)
    return learnt.problem(data.periods, group.lookback)


def learnt_regressors(
    data: SearchSeries,
    group: Group,
    level: Float64Array,
    statistics: RegressorStatistics,
    stops: Sequence[int],
) -> LearntRegressors:
    """Return a group's sums with regressors over the rows before ``stops``.

    Parameters
    ----------
    data, group, level, statistics, stops
        As in :func:`regressor_problem`.
    """
    sums = exog_sums(data, group, level, statistics.center(), [0] * len(stops), stops)
    return LearntRegressors(sums, copy.deepcopy(statistics))


def added_squares(
    solution: AveragedSolution, sums: SeriesSums, regressors: Regressors, exog: RegressorSums
) -> Float64Array:
    """Return what regressors add to the sums of squared errors, negative where they help.

    Parameters
    ----------
    solution : AveragedSolution
    sums : SeriesSums
        Over held-out windows of the longest lookback.
    regressors : Regressors
    exog : RegressorSums
        Over the same windows.

    Returns
    -------
    array of shape (C, horizon)
    """
    L, H = sums.lookback, sums.horizon
    kept: dict[tuple[int, int, int], Float64Array] = {}  # few regressors: made once
    coef = np.zeros((L + H, H))
    out = np.zeros((sums.n_channels, H))
    for c in range(sums.n_channels):
        own = solution.weights[min(c, len(solution.weights) - 1)]
        coef[:L] = -own
        coef[L - 1] += own.sum(axis=0) - 1.0
        coef[L:] = np.eye(H)
        joint, place = exog.of_channel(c)
        effect = regressors.on_window(c)  # (K, L + H, H)
        K, C = len(effect), joint.n_series
        # the effects measure regressors from another center than the sums
        moved = np.einsum("kmh,k->h", effect, joint.level[C:] - regressors.center)
        plain = np.array([joint.coordinate_sums(C + k)[: L + H] for k in range(K)])
        alone = np.einsum("kmh,km->h", effect, plain)
        for k, products in enumerate(joint.products(place)):
            out[c] -= 2 * np.einsum("ih,ih->h", coef, products @ effect[k])
            for j in range(K):
                if (id(joint), k, j) in kept:
                    among = kept[id(joint), k, j]
                else:
                    among = joint.regressor_products(k, j)
                    if (len(kept) + 1) * among.size <= _KEPT_VALUES:
                        kept[id(joint), k, j] = among
                out[c] += np.einsum("ih,ih->h", effect[k], among @ effect[j])
        errors = joint.coordinate_sums(place)[: L + H] @ coef
        out[c] += moved * (2 * alone - 2 * errors + moved * joint.n_windows[place])
        if solution.calendar is not None and len(joint.frequencies):
            calendar = solution.calendar[c]
            for k in range(K):
                cross = joint.waves(C + k)[0]
                out[c] += 2 * np.einsum("zh,zh->h", calendar, cross[:, : L + H] @ effect[k])
            out[c] += 2 * moved * (cross[:, -1] @ calendar)
    return out
