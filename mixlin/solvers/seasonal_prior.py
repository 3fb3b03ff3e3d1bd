"""The structured prior: a few fitted numbers times averages over past cycles.

Weights are shrunk towards ``W0 = sum_i b_i V_i``, where ``V_i`` forecasts every step by an average
of the window: over all past cycles at the target's phase, over the recent ones, over the last
cycle, over the window; all relative to the level that the model takes off. The numbers ``b_i`` are
fitted by least squares, shared by all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from ..experts import detect_periods

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

RECENT = 0.5  # cycles over which the weights of the recent average fall by a factor e
_RIDGE = 1e-6  # relative, on the normal equations of the numbers
_NOTHING = 1e-12  # of the largest square: matrices that forecast the level itself
_SEARCHED_ROWS = 16384  # newest ones, that a period is looked for in
_SEARCHED_CHANNELS = 32
_REPEATED = 0.15  # repetition that makes a period a season
_MORE_NEARLY = 0.7  # share of what one season leaves over, that a second one must fall below
_NEARLY = 0.85  # share of a period's repetition that makes a part of it the period
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "D": 86400, "W": 604800}
_DAY = 86400


class SeasonalPrior(BaseEstimator):
    """A prior of averages over past cycles, with fitted coefficients.

    Parameters
    ----------
    period : "auto", int or sequence of int, default="auto"
        Rows of a season, several for several seasons. "auto" takes the natural period of the
        index's frequency (24 hours, 7 days, 52 weeks, 12 months, ...) if the training rows repeat
        after it, and the next longer one beside it (168 hours) if they repeat more nearly after
        that; else the period that stands out in their autocorrelation; else none: what is left
        then is the mean of the window. An "auto" period longer than the lookback is left out, a
        given one is refused.
    kappa : float, default=inf
        Strength with which every channel's own coefficients are shrunk towards the pooled ones;
        infinity shares them, 0 fits each channel on its own.

    Examples
    --------
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> from mixlin.solvers import SeasonalPrior
    >>> load = make_seasonal(24 * 60, n_channels=2, random_state=0).data
    >>> prior = SeasonalPrior(period=24)
    >>> model = NLinearForecaster(96, 24, alpha=1.0, prior=prior).fit(load)
    >>> model.predict().shape
    (24, 2)
    """

    def __init__(self, period: Any = "auto", *, kappa: float = np.inf) -> None:
        self.period = period
        self.kappa = kappa

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        given = self.period
        if not (isinstance(given, str) and given == "auto"):
            listed = list(given) if isinstance(given, (Sequence, np.ndarray)) else [given]
            whole = all(isinstance(p, Integral) and not isinstance(p, bool) for p in listed)
            if isinstance(given, str) or not listed or not whole or min(listed) < 1:
                raise ValueError(
                    f"The 'period' parameter of SeasonalPrior must be 'auto', an integer of at "
                    f"least 1 or a sequence of them, in rows. Got {given!r} instead."
                )
        if isinstance(self.kappa, bool) or not isinstance(self.kappa, Real) or not self.kappa >= 0:
            raise ValueError(
                f"The 'kappa' parameter of SeasonalPrior must be a number >= 0 (inf shares the "
                f"coefficients of all channels). Got {self.kappa!r} instead."
            )

    def periods(self, series: list[npt.NDArray[np.floating]], freq: Any = None) -> tuple[int, ...]:
        """Return the periods, found in training rows where they are not given.

        Parameters
        ----------
        series : list of array of shape (T, C)
        freq : str or int, optional
            Frequency of the index.

        Returns
        -------
        tuple of int
            Ascending, without 1; empty if there is no season.
        """
        if isinstance(self.period, str):
            return find_periods(series, natural_periods(freq))
        given = np.atleast_1d(np.asarray(self.period)).astype(int)
        return tuple(int(p) for p in np.unique(given) if p > 1)

    def kept_periods(self, periods: tuple[int, ...], lookback: int) -> tuple[int, ...]:
        """Return the periods that windows hold.

        Parameters
        ----------
        periods : tuple of int
        lookback : int

        Returns
        -------
        tuple of int

        Raises
        ------
        ValueError
            If a period that was given, not found, is longer than the lookback.
        """
        kept = tuple(p for p in periods if p <= lookback)
        if len(kept) < len(periods) and not isinstance(self.period, str):
            raise ValueError(
                f"period={max(periods)} of the seasonal prior is longer than lookback={lookback}, "
                "so that no window holds a cycle. Pass a longer lookback, or a shorter period."
            )
        return kept


def natural_periods(freq: Any) -> tuple[int, ...]:
    """Return the periods that a frequency suggests, the most usual first.

    Parameters
    ----------
    freq : str, int or None
        As :class:`~mixlin.timestamps.TimeIndex` has it.

    Returns
    -------
    tuple of int
        In rows.

    Examples
    --------
    >>> from mixlin.solvers.seasonal_prior import natural_periods
    >>> natural_periods("15min"), natural_periods("W-SUN"), natural_periods("MS")
    ((96, 672), (52,), (12,))
    """
    if not isinstance(freq, str):
        return ()
    digits = "".join(ch for ch in freq if ch.isdigit())
    unit, count = freq[len(digits) :].partition("-")[0], int(digits or 1)
    if unit in ("M", "MS", "ME", "Q", "QS", "QE"):
        months = count * (3 if unit[0] == "Q" else 1)
        return (12 // months,) if 12 % months == 0 and months < 12 else ()
    if unit == "B":
        return (5,) if count == 1 else ()
    if unit not in _SECONDS:
        return ()
    step = count * _SECONDS[unit]
    cycles = (3600, _DAY, 7 * _DAY) if step < 60 else (_DAY, 7 * _DAY, 364 * _DAY)
    return tuple(c // step for c in cycles if c % step == 0 and 4 <= c // step <= 10080)


def find_periods(
    series: list[npt.NDArray[np.floating]], natural: Sequence[int] = ()
) -> tuple[int, ...]:
    """Find the periods of training rows.

    Parameters
    ----------
    series : list of array of shape (T, C)
        The newest rows of some of them, and of their channels, are searched; the median counts.
    natural : sequence of int
        Tried first, ascending: the first one that the rows repeat after, and one more after which
        they repeat more nearly.

    Returns
    -------
    tuple of int
        None, one or two.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.seasonal_prior import find_periods
    >>> find_periods([np.tile([1.0, 5.0, 2.0, 4.0, 9.0], 40)[:, None]])
    (5,)
    """
    pairs = [(i, c) for i, values in enumerate(series) for c in range(values.shape[1])]
    by = max(1, -(-len(pairs) // _SEARCHED_CHANNELS))
    columns = [np.asarray(series[i][-_SEARCHED_ROWS:, c], float) for i, c in pairs[::by]]

    def repeats(period: int) -> float:
        long = [x for x in columns if 3 * period <= len(x)]
        if 2 * len(long) < len(columns):
            return 0.0
        return float(np.median([repetition(x[None], period) for x in long]))

    found: list[int] = []
    strength = 0.0
    for period in natural:
        if len(found) == 2:
            break
        own = repeats(period)
        if own > (_REPEATED if not found else 1.0 - _MORE_NEARLY * (1.0 - strength)):
            found.append(int(period))
            strength = own
    if found:
        return tuple(found)
    periods = np.rint([detect_periods(x[None])[0] for x in columns]).astype(int)
    distinct, counts = np.unique(periods[periods > 1], return_counts=True)
    for period in distinct[np.argsort(-counts, kind="stable")]:
        strength = repeats(int(period))
        if strength <= _REPEATED:
            continue
        parts = [d for d in range(3, period) if period % d == 0]
        near = [d for d in parts if repeats(d) >= _NEARLY * strength]
        return (int(min([*near, int(period)])),)  # the season, not a multiple of it
    return ()


def repetition(x: FloatArray, period: int) -> float:
    """Return how nearly series repeat after a period: the median over series.

    The correlation, at the lag of a period, of what a moving average over one period leaves over:
    around 0 for noise and for random walks, whatever the period, and 1 for a season.

    Parameters
    ----------
    x : array of shape (n_series, T)
        NaN is taken for the mean.
    period : int
        At most a third of T.

    Returns
    -------
    float
    """
    missing = np.isnan(x)
    if missing.any():
        count = np.maximum((~missing).sum(axis=1, keepdims=True), 1)
        mean = np.where(missing, 0.0, x).sum(axis=1, keepdims=True) / count
        x = np.where(missing, mean, x)
    x = x - x.mean(axis=1, keepdims=True)
    total = np.zeros((len(x), x.shape[1] + 1))
    np.cumsum(x, axis=1, out=total[:, 1:])
    average = (total[:, period:] - total[:, :-period]) / period
    left = x[:, period // 2 : period // 2 + average.shape[1]] - average
    before, after = left[:, :-period], left[:, period:]
    scale = np.sqrt((before * before).sum(axis=1) * (after * after).sum(axis=1))
    product = (before * after).sum(axis=1)
    found = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
    return float(np.median(found))


@dataclass(frozen=True, eq=False)
class PriorFeatures:
    """The matrices ``V_i`` by their distinct columns.

    Parameters
    ----------
    columns : array of shape (lookback, D)
    which : array of shape (m, horizon)
        Column of every matrix and step.
    names : tuple of str, one per matrix
    """

    columns: FloatArray
    which: IntArray
    names: tuple[str, ...]

    def matrix(self, coef: FloatArray) -> FloatArray:
        """Return ``sum_i coef_i V_i``, shape (..., lookback, horizon).

        Parameters
        ----------
        coef : array of shape (..., m)
        """
        return self.combined(self.columns, coef)

    def combined(self, columns: FloatArray, coef: FloatArray) -> FloatArray:
        """Return the combination of what was made of the columns, such as a product with them.

        Parameters
        ----------
        columns : array of shape (rows, D)
        coef : array of shape (..., m)

        Returns
        -------
        array of shape (..., rows, horizon)
        """
        parts = (coef[..., i, None, None] * columns[..., own] for i, own in enumerate(self.which))
        return np.asarray(sum(parts))

    def normal(self, gram: FloatArray, cross: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the normal equations of the coefficients.

        Parameters
        ----------
        gram : array of shape (lookback, lookback)
            Of windows measured from their level.
        cross : array of shape (lookback, horizon)

        Returns
        -------
        left : array of shape (m, m)
        right : array of shape (m,)
        """
        inner = self.columns.T @ gram @ self.columns
        outer = self.columns.T @ cross
        m, steps = len(self.which), np.arange(cross.shape[1])
        left = np.array(
            [[inner[self.which[i], self.which[j]].sum() for j in range(m)] for i in range(m)]
        )
        right = np.array([outer[self.which[i], steps].sum() for i in range(m)])
        return left.reshape(m, m), right


@lru_cache(maxsize=32)
def prior_features(lookback: int, horizon: int, periods: tuple[int, ...]) -> PriorFeatures:
    """Return the matrices of a prior; read-only.

    Parameters
    ----------
    lookback, horizon : int
    periods : tuple of int
        At most the lookback.

    Returns
    -------
    PriorFeatures

    Examples
    --------
    >>> from mixlin.solvers.seasonal_prior import prior_features
    >>> prior_features(4, 1, (2,)).columns[:, :3].T.round(2).tolist()
    [[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.12, 0.0, 0.88, 0.0]]
    """
    blocks, which, names, at = [], [], [], 0
    steps = np.arange(horizon)
    for period in periods:
        cycles = lookback // period
        ages = np.arange(cycles)
        averages = [("mean of cycles", np.ones(cycles))]
        if cycles >= 2:
            averages.append(("recent cycles", np.exp(-ages / RECENT)))
        for name, weight in averages:
            block = np.zeros((lookback, period))
            for age, w in zip(ages, weight / weight.sum(), strict=True):
                start = lookback - (age + 1) * period
                block[start : start + period] += w * np.eye(period)
            blocks.append(block)
            which.append(at + steps % period)
            names.append(f"{name} of {period}")
            at += period
        blocks.append(_mean_of(lookback, period))
        which.append(np.full(horizon, at))
        names.append(f"mean of the last {period}")
        at += 1
    blocks.append(_mean_of(lookback, lookback))
    which.append(np.full(horizon, at))
    names.append("mean of the window")
    columns = np.concatenate(blocks, axis=1)
    found = np.array(which)
    columns.setflags(write=False)
    found.setflags(write=False)
    return PriorFeatures(columns, found, tuple(names))


def _mean_of(lookback: int, n_last: int) -> FloatArray:
    column = np.zeros((lookback, 1))
    column[-n_last:] = 1.0 / n_last
    return column


def prior_coefficients(
    left: FloatArray, right: FloatArray, weight: FloatArray, kappa: float
) -> FloatArray:
    """Fit the coefficients of a prior, shared or per channel.

    Parameters
    ----------
    left : array of shape (C, m, m)
        Normal equations of every channel, per window.
    right : array of shape (C, m)
    weight : array of shape (C,)
        With which channels count in the pooled equations.
    kappa : float
        Of :class:`SeasonalPrior`.

    Returns
    -------
    array of shape (1 or C, m)
    """
    total = max(weight.sum(), np.finfo(np.float64).tiny)
    pooled, target = np.tensordot(weight, left, 1) / total, weight @ right / total
    if np.isinf(kappa):
        return _solved(pooled, target)[None]
    return np.array(
        [_solved(a + kappa * pooled, r + kappa * target) for a, r in zip(left, right, strict=True)]
    )


def _solved(left: FloatArray, right: FloatArray) -> FloatArray:
    square = np.diag(left)
    kept = np.flatnonzero(square > _NOTHING * square.max(initial=0.0))
    out = np.zeros(len(square))
    if len(kept):
        d = np.sqrt(square[kept])
        system = left[np.ix_(kept, kept)] / d / d[:, None] + _RIDGE * np.eye(len(d))
        out[kept] = np.linalg.solve(system, right[kept] / d) / d
    return out
