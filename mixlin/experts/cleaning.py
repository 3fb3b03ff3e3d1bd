"""Spikes, stuck runs and shifts of level in a context, repaired by the expert that explains it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .precision import Precision
    from .predictors import BankMatrices

__all__ = ["Cleaned", "clean"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

SHORTEST_SERIES = 20  # observed values below which nothing is called an outlier
_SPIKE = 6.0  # robust standard deviations of the residuals
_OF_LARGEST = 0.5  # share of a series' largest residual that is looked at in the same round
_ROUNDS = 4
_TO_SIGMA = 1.4826  # of a median absolute value, for normal residuals
_LEAST_RESIDUAL = 1e-6  # standard deviations of the series that residuals are told apart by
_MOST_SPIKES = 0.05  # share of the values beyond which they are no outliers but the rule
_STUCK_RUN = 12  # equal values in a row
_OTHER_REPEATS = 0.05  # share of the values beyond which repeats are no fault
_STANDS_STILL = 0.5  # share of repeats beyond which the movements are the news
_MOST_REPLACED = 0.25  # share of the values beyond which too little is left to go by
_MOST_MISSING = 0.5
_REPEAT = 1e-9  # standard deviations within which a value repeats the one before
_PASSES = 2  # shifts that can be taken out of one series
_SHIFT = 10.0  # t statistic of a step
_LEAST_SHIFT = 0.7  # standard deviations of the series
_EDGE = 5  # values at either end between which no step is looked for
_BLOCK_VALUES = 2**19  # that are worked on at a time
_PRODUCT_VALUES = 2**14  # that are transformed at a time: they stay in cache


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Repaired series and what was repaired.

    Parameters
    ----------
    values : array of shape (n_series, length)
        The series; NaN stays NaN.
    replaced : bool array of shape (n_series, length)
        Where an outlier or a stuck value was replaced by what the rest makes of it.
    breaks : int array of shape (n_series, 2)
        First steps of new levels, in the order in which they were found; 0 for none.
    shifts : array of shape (n_series, 2)
        What was added to all values before the break.
    """

    values: FloatArray
    replaced: BoolArray
    breaks: IntArray
    shifts: FloatArray


def clean(series: npt.ArrayLike, matrices: BankMatrices, best: npt.ArrayLike) -> Cleaned:
    """Replace outliers and stuck runs, and take out shifts of the level.

    Runs of 12 equal values in series that seldom repeat a value are no measurements. Every other
    value is compared with what the chosen expert makes of all others: where the residual is 6
    times its usual size, and no shift of the level explains it better, the value is an outlier.
    All of them are replaced by their conditional mean given the rest, the largest outliers first.
    Then a step of the level is searched for, twice; what lies before it is moved to the newest
    level.

    Of a series, no more than 5 % are outliers; one that stands still half of the time is left as
    it is, and so are stuck runs that make up more than a quarter.

    Parameters
    ----------
    series : array-like of shape (n_series, length)
        Oldest value first. NaN is missing, and stays missing.
    matrices : BankMatrices
        The matrices of the bank of experts.
    best : int array-like of shape (n_series,)
        Which expert of the bank explains each series best.

    Returns
    -------
    Cleaned

    Raises
    ------
    ValueError
        If ``series`` has not two axes or ``best`` not one number for every series.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, default_bank
    >>> from mixlin.experts.cleaning import clean
    >>> bank = default_bank().select(["period 24, slow decay, slow random-walk level"])
    >>> series = np.sin(2 * np.pi * np.arange(240) / 24)[None, :]
    >>> series[0, 100] = 9.0
    >>> cleaned = clean(series, BankMatrices(bank), best=[0])
    >>> np.flatnonzero(cleaned.replaced).tolist(), cleaned.values[0, 100].round(2).item()
    ([100], 0.87)
    """
    x = np.array(series, dtype=np.float64, order="C")
    experts = np.asarray(best)
    if x.ndim != 2 or experts.shape != x.shape[:1]:
        raise ValueError(
            "series must have shape (n_series, length) and best shape (n_series,); got "
            f"{x.shape} and {experts.shape}."
        )
    cleaned = Cleaned(
        values=x,
        replaced=np.zeros(x.shape, dtype=np.bool_),
        breaks=np.zeros((len(x), _PASSES), dtype=np.intp),
        shifts=np.zeros((len(x), _PASSES)),
    )
    length = x.shape[1]
    if length < SHORTEST_SERIES:
        return cleaned
    rows_of_block = max(1, _BLOCK_VALUES // length)
    for expert in np.unique(experts):
        rows = np.flatnonzero(experts == expert)
        precision = _KeptColumns(matrices.precision(int(expert), length))
        for start in range(0, len(rows), rows_of_block):
            _clean_block(cleaned, rows[start : start + rows_of_block], precision)
    return cleaned


class _KeptColumns:
    """A precision whose columns, once made, are kept: many series share them."""

    def __init__(self, precision: Precision) -> None:
        self.diagonal = precision.diagonal
        # steps too near the ends are not looked at
        self.step_energy = np.maximum(precision.step_energy[_EDGE:-_EDGE], 1e-9)
        self._precision = precision
        self._place = np.full(precision.lookback, -1, dtype=np.intp)
        self._columns = np.empty((0, precision.lookback))

    def dot(self, y: FloatArray) -> FloatArray:
        """Return series times the precision."""
        product = np.empty_like(y)
        rows = max(1, _PRODUCT_VALUES // y.shape[1])
        for start in range(0, len(y), rows):
            product[start : start + rows] = self._precision.dot(y[start : start + rows])
        return product

    def make(self, steps: IntArray) -> None:
        """Make those of the columns that are not there."""
        new = steps[self._place[steps] < 0]
        if len(new):
            self._place[new] = len(self._columns) + np.arange(len(new))
            self._columns = np.concatenate([self._columns, self._precision.columns(new)])

    def columns(self, steps: IntArray) -> FloatArray:
        """Return columns that were made, of shape (*steps.shape, length)."""
        return self._columns[self._place[steps]]


def _clean_block(cleaned: Cleaned, rows: IntArray, precision: _KeptColumns) -> None:
    """Clean rows of ``cleaned`` that one expert explains."""
    x = cleaned.values[rows]
    observed = np.isfinite(x)
    y, center, scale, usable = _standardised(x, observed)
    repeats = np.abs(np.diff(y, axis=1)) <= _REPEAT
    repeats &= observed[:, 1:] & observed[:, :-1]
    usable &= repeats.mean(axis=1) < _STANDS_STILL
    if not usable.any():
        return
    if not usable.all():
        rows, x, y, observed = rows[usable], x[usable], y[usable], observed[usable]
        center, scale, repeats = center[usable], scale[usable], repeats[usable]
    missing = ~observed
    found = _stuck(repeats)
    found[found.mean(axis=1) > _MOST_REPLACED] = False
    projected = precision.dot(y)
    _replace(y, projected, missing, precision)
    _replace_outliers(y, projected, found, missing, precision)
    breaks, shifts = _take_out_shifts(y, projected, observed, precision)
    changed = found.copy()
    for number in range(_PASSES):
        changed |= np.arange(x.shape[1]) < breaks[:, number, None]
    changed &= observed
    restored = y * scale[:, None] + center[:, None]
    cleaned.values[rows] = np.where(changed, restored, x)
    cleaned.replaced[rows] = found & observed
    cleaned.breaks[rows] = breaks
    cleaned.shifts[rows] = shifts * scale[:, None]


def _standardised(
    x: FloatArray, observed: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
    """Return series from their median in standard deviations, 0 where missing.

    Also the medians, the standard deviations, and which series vary and are observed enough.
    """
    length = x.shape[1]
    count = observed.sum(axis=1)
    usable = count >= max(SHORTEST_SERIES, (1.0 - _MOST_MISSING) * length)
    whole = bool((count == length).all())
    if not whole:
        x = np.where(observed, x, 0.0)
    exponent = np.frexp(np.abs(x).max(axis=1))[1]
    unit = np.ldexp(1.0, exponent - 1)  # a power of two: squares stay finite, and nothing rounds
    y = x / unit[:, None]
    center = _median(y, observed)
    y -= center[:, None]
    if not whole:
        y[~observed] = 0.0
    usable &= np.abs(y).max(axis=1) > _REPEAT * np.abs(center)
    count = np.maximum(count, 1)
    mean = y.sum(axis=1) / count
    deviation = np.sqrt(np.maximum(np.einsum("nt,nt->n", y, y) / count - mean * mean, 0.0))
    deviation = np.where(deviation > 0.0, deviation, 1.0)
    y /= deviation[:, None]
    return y, center * unit, unit * deviation, usable


def _median(values: FloatArray, observed: BoolArray) -> FloatArray:
    """Return the median of every row's observed values, 0 where there are none."""
    if observed.all():
        return np.asarray(np.median(values, axis=1))
    count = observed.sum(axis=1)
    ordered = np.sort(np.where(observed, values, np.inf), axis=1)
    rows = np.arange(len(values))
    upper = ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    lower = ordered[rows, np.maximum(count - 1, 0) // 2]
    present = count > 0
    return np.where(present, 0.5 * (np.where(present, lower, 0) + np.where(present, upper, 0)), 0.0)


def _replace_outliers(
    y: FloatArray,
    projected: FloatArray,
    found: BoolArray,
    missing: BoolArray,
    precision: _KeptColumns,
) -> None:
    """Replace what is found already, and outliers, the largest of every series first, in place.

    What an outlier makes of the residuals of other values, one period away or beside it, is gone
    once it is replaced; smaller ones come to light.

    Parameters
    ----------
    y, projected : arrays of shape (n_series, length)
        Series, and precision times series.
    found : bool array of shape (n_series, length)
        The outliers are added.
    missing : bool array of shape (n_series, length)
    """
    rows = np.arange(len(y))
    spikes = np.zeros(y.shape, dtype=np.bool_)
    typical = _median(np.abs(projected / precision.diagonal), ~missing)
    bound = _SPIKE * (_TO_SIGMA * typical + _LEAST_RESIDUAL)
    for number in range(_ROUNDS):
        kept = ~(found | missing)[rows]
        new = _largest_spikes(projected[rows], kept, bound[rows], precision)
        new[spikes[rows].sum(axis=1) + new.sum(axis=1) > _MOST_SPIKES * y.shape[1]] = False
        going = new.any(axis=1) if number else (new | found).any(axis=1)
        rows, new = rows[going], new[going]
        if not len(rows):
            return
        spikes[rows] |= new
        found[rows] |= new
        part_y, part_projected = y[rows], projected[rows]
        _replace(part_y, part_projected, (found | missing)[rows], precision)
        y[rows], projected[rows] = part_y, part_projected


def _largest_spikes(
    projected: FloatArray, kept: BoolArray, bound: FloatArray, precision: _KeptColumns
) -> BoolArray:
    """Return where the residuals given all other values stand out most.

    Parameters
    ----------
    projected : array of shape (n_series, length)
        Precision times series.
    kept : bool array of shape (n_series, length)
        Values that may be outliers.
    bound : array of shape (n_series,)
        What the residuals must exceed.
    """
    diagonal = precision.diagonal
    residual = np.abs(projected / diagonal)
    highest = np.where(kept, residual, 0.0).max(axis=1)
    bound = np.maximum(bound, _OF_LARGEST * highest)
    found = kept & (residual > bound[:, None])
    row, step = np.nonzero(found)
    # an outlier's neighbours inherit residuals from it
    around = np.clip(step[:, None] + np.arange(-2, 3), 0, residual.shape[1] - 1)
    inherited = residual[row, step] < 0.5 * residual[row[:, None], around].max(axis=1, initial=0.0)
    # and so do the values on both sides of a shift, which explains them better
    rows, place = np.unique(row, return_inverse=True)
    heights = np.abs(_step_heights(projected[rows])) / np.sqrt(precision.step_energy)
    heights = np.pad(heights, ((0, 0), (_EDGE, _EDGE + 1)))
    evidence = residual[row, step] * np.sqrt(diagonal[step])
    shifted = np.maximum(heights[place, step], heights[place, step + 1]) >= evidence
    found[row, step] = ~(inherited | shifted)
    return found


def _stuck(repeats: BoolArray) -> BoolArray:
    """Return which values are in long runs of equal ones of series that seldom repeat values.

    Parameters
    ----------
    repeats : bool array of shape (n_series, length - 1)
        Whether a value repeats the one before it.
    """
    n_series, n_steps = repeats.shape
    length = n_steps + 1
    stuck = np.zeros((n_series, length), dtype=np.bool_)
    total = repeats.sum(axis=1)
    rows = np.flatnonzero(total >= _STUCK_RUN - 1)
    padded = np.zeros((len(rows), length + 1), dtype=np.int8)
    padded[:, 1:-1] = repeats[rows]
    edges = np.diff(padded, axis=1)
    which, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1]
    others = total[rows[which]] - (last - first)
    chosen = (last - first >= _STUCK_RUN - 1) & (others < _OTHER_REPEATS * length)
    for row, start, stop in zip(rows[which[chosen]], first[chosen], last[chosen], strict=True):
        stuck[row, start : stop + 1] = True
    return stuck


def _replace(
    y: FloatArray, projected: FloatArray, replaced: BoolArray, precision: _KeptColumns
) -> None:
    """Replace values by their conditional mean given the others, in place.

    With the precision Q, the conditional mean of the values in M is y_M - Q_MM^-1 (Q y)_M.

    Parameters
    ----------
    y, projected : arrays of shape (n_series, length)
        The series, and the precision times the series.
    replaced : bool array of shape (n_series, length)
    """
    counts = replaced.sum(axis=1)
    if not counts.any():
        return
    precision.make(np.flatnonzero(replaced.any(axis=0)))
    for rows, count in _alike(counts, y.shape[1]):
        at = np.nonzero(replaced[rows])[1].reshape(len(rows), count)
        chosen = precision.columns(at)  # (rows, count, length)
        square = np.take_along_axis(chosen, at[:, None, :], axis=2)
        here = (rows[:, None], at)
        change = np.linalg.solve(square, projected[here][:, :, None])
        y[here] -= change[:, :, 0]
        projected[rows] -= (change.transpose(0, 2, 1) @ chosen)[:, 0]
        projected[here] = 0.0


def _alike(counts: IntArray, length: int) -> Iterator[tuple[IntArray, int]]:
    """Yield rows in which equally many values are replaced, a block of memory at a time."""
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    sizes, first = np.unique(counts[order], return_index=True)
    for size, start, stop in zip(sizes, first, [*first[1:], len(order)], strict=True):
        step = max(1, _BLOCK_VALUES // int(size * length))
        for begin in range(start, stop, step):
            yield order[begin : min(begin + step, stop)], int(size)


def _step_heights(projected: FloatArray) -> FloatArray:
    """Return each step's product with the precision times series, those near the ends left out."""
    return np.cumsum(projected[:, ::-1], axis=1)[:, ::-1][:, _EDGE:-_EDGE]


def _take_out_shifts(
    y: FloatArray, projected: FloatArray, observed: BoolArray, precision: _KeptColumns
) -> tuple[IntArray, FloatArray]:
    """Move what lies before a step of the level to the level after it, in place.

    Returns the first steps of the new levels (0: none) and what was added before them, of shape
    (n_series, 2).
    """
    n_series, length = y.shape
    breaks = np.zeros((n_series, _PASSES), dtype=np.intp)
    shifts = np.zeros((n_series, _PASSES))
    energy = precision.step_energy
    rows = np.arange(n_series)
    freedom = np.maximum(observed.sum(axis=1) - 1, 1)
    for number in range(_PASSES):
        z, product = y[rows], projected[rows]
        noise = np.sqrt(np.maximum(np.einsum("nt,nt->n", z, product), 0.0) / freedom[rows]) + 1e-9
        height = _step_heights(product)
        evidence = np.abs(height) / np.sqrt(energy)
        place = evidence.argmax(axis=1)
        one = np.arange(len(rows))
        change = height[one, place] / energy[place]
        found = (evidence[one, place] > _SHIFT * noise) & (
            np.abs(change) > _LEAST_SHIFT * z.std(axis=1)
        )
        rows, place, change = rows[found], place[found] + _EDGE, change[found]
        if not len(rows):
            break
        before = np.arange(length) < place[:, None]
        y[rows] += np.where(before, change[:, None], 0.0)
        projected[rows] = precision.dot(y[rows])
        breaks[rows, number], shifts[rows, number] = place, change
    return breaks, shifts
