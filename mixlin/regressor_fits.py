"""What exact forecasters learn about regressors beside the sums of their series."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Training, series_ordinal
from .solvers import RegressorProblem, RegressorSums, SeriesSums, WindowSums

Float64Array = npt.NDArray[np.float64]

_ROUNDING = 10 * np.finfo(np.float64).eps


class RegressorStatistics:
    """Where regressors are measured from, mergeable.

    That is zero for those that are zero in half of the rows or more, such as holidays; the mean
    for others. So a holiday that was never seen has no effect, and a price is measured from its
    usual value.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.regressor_fits import RegressorStatistics
    >>> statistics = RegressorStatistics(2)
    >>> statistics.add(np.array([[0.0, 5.0], [1.0, 7.0], [0.0, 6.0]]))
    >>> statistics.center().tolist(), statistics.known().tolist()
    ([0.0, 6.0], [True, True])
    """

    def __init__(self, n_regressors: int) -> None:
        self.count = np.zeros(n_regressors)
        self.zeros = np.zeros(n_regressors)
        self.mean = np.zeros(n_regressors)
        self.lowest = np.full(n_regressors, np.inf)
        self.highest = np.full(n_regressors, -np.inf)

    def add(self, exog: npt.NDArray[np.floating]) -> None:
        """Add rows (T, K); those with NaN are passed over."""
        rows = exog[~np.isnan(exog).any(axis=1)]
        if not len(rows):
            return
        self.count = self.count + len(rows)
        self.zeros = self.zeros + (rows == 0).sum(axis=0)
        self.mean = self.mean + (rows.mean(axis=0) - self.mean) * len(rows) / self.count
        self.lowest = np.minimum(self.lowest, rows.min(axis=0))
        self.highest = np.maximum(self.highest, rows.max(axis=0))

    def center(self) -> Float64Array:
        """Return where regressors are measured from, shape (K,)."""
        return np.where(2 * self.zeros >= self.count, 0.0, self.mean)

    def known(self) -> npt.NDArray[np.bool_]:
        """Return which regressors have changed, up to rounding, shape (K,)."""
        size = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return np.asarray((self.count > 0) & (self.highest - self.lowest > _ROUNDING * size))


class LearntRegressors:
    """Sums and statistics of regressors.

    Parameters
    ----------
    sums : RegressorSums
    statistics : RegressorStatistics
    """

    def __init__(self, sums: RegressorSums, statistics: RegressorStatistics) -> None:
        self.sums = sums
        self.statistics = statistics

    def continued(self, values: npt.NDArray[np.floating], exog: npt.NDArray[np.floating]) -> None:
        """Add rows (T, C) and (T, K) that follow directly on the last ones."""
        self.statistics.add(exog)
        self.sums.add(values, exog, self.sums.open_weight, continues=True)

    def problem(self, periods: Sequence[int], lookback: int) -> RegressorProblem:
        """Return what the solver is asked.

        Parameters
        ----------
        periods : sequence of int
            That were given or found; the shortest one counts.
        lookback : int
        """
        fitting = [p for p in periods if 1 < p <= lookback]
        statistics = self.statistics
        return RegressorProblem(
            self.sums, statistics.center(), statistics.known(), min(fitting, default=None)
        )


def learn_regressors(
    before: LearntRegressors | None, training: Training, sums: WindowSums
) -> LearntRegressors:
    """Add the regressors of training series to what was learnt.

    Parameters
    ----------
    before : LearntRegressors or None
        Not changed.
    training : Training
        With ``exog``; its series in the units of the fit.
    sums : WindowSums
        Of these series, to which the training series were added already.

    Returns
    -------
    LearntRegressors

    Raises
    ------
    ValueError
        For rows that weigh differently.
    """
    assert training.exog is not None
    assert training.series is not None
    if not isinstance(sums, SeriesSums):
        raise ValueError(
            "regressors can't be fitted to rows that weigh differently. Leave sample_weight out, "
            "or exog."
        )
    learnt = copy.deepcopy(before)
    if learnt is None:
        statistics = RegressorStatistics(training.exog[0].shape[1])
        for rows in training.exog:
            statistics.add(rows)
        made = RegressorSums(
            sums.lookback,
            sums.horizon,
            sums.level,
            statistics.center(),
            sums.eps,
            decay=sums.decay,
            frequencies=sums.frequencies,
        )
        learnt = LearntRegressors(made, statistics)
    else:
        for rows in training.exog:
            learnt.statistics.add(rows)
    for i, (values, rows) in enumerate(zip(training.series, training.exog, strict=True)):
        weight = 1.0 if training.weight is None else float(training.weight[i][0])
        at = None
        if len(sums.frequencies):
            index = training.indexes[i] if training.indexes else None
            at = series_ordinal(index) - len(values) + 1
        learnt.sums.add(values, rows, weight, continues=training.continues, at=at)
    return learnt


def refuse_beside(training: Training, **options: Any) -> None:
    """Raise a ValueError where regressors can't be fitted along with an option.

    Parameters
    ----------
    training : Training
    **options
        Names of parameters and their values that rule regressors out, None where they don't.
    """
    if training.exog is None:
        return
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"exog is not supported with {name}={value!r}. Leave one of the two out."
            )
