"""The period of a series, found in its autocorrelation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = ["detect_periods"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

SHORTEST_SERIES = 24  # steps; below, chance correlations are as high as those of a season
_SHORTEST_PERIOD = 3.0
_LOWEST_PEAK = 0.15  # autocorrelation below which a peak is no period
_NEARLY_HIGHEST = 0.85  # share of the highest peak that makes an earlier one the period
_UNSURE = 0.004  # of a period: peaks are as broad as it is long
_MAX_MULTIPLES = 256  # of a period that refine it
_ROUNDING = 1e-9  # a series whose movement is a smaller share of its values is a constant
_BLOCK_VALUES = 2**21  # that are transformed at a time


def detect_periods(
    series: npt.ArrayLike, known: Sequence[float] = (), *, tolerance: float = 0.02
) -> FloatArray:
    """Return the period of every series, 0 where none stands out.

    The straight line is taken off and the unbiased autocorrelation searched for peaks, from the
    first lag below its median up to a third of the length. The earliest peak of at least 85 % of
    the highest is the period, unless it turns out to be a multiple: the average over one period
    around every lag, which is what the level leaves, is taken off too, and an earlier peak may
    now reach 85 %. Multiples up to half of the length refine the period.

    Parameters
    ----------
    series : array-like of shape (n_series, length)
        Oldest value first. What is not finite is interpolated.
    known : sequence of float, default=()
        Periods in steps that need no finding: 0 is returned for them.
    tolerance : float, default=0.02
        How near a known period counts as that period, as a share of it.

    Returns
    -------
    array of shape (n_series,)
        Periods in steps, of at least 3 and at most half of the length: whole numbers, or
        quarters where the multiples tell them from a whole one. All 0 for series shorter than
        24 steps.

    Raises
    ------
    ValueError
        If ``series`` has not two axes.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts.periods import detect_periods
    >>> time = np.arange(400)
    >>> series = np.stack([np.sin(2 * np.pi * time / period) for period in (10.0, 28.5)])
    >>> detect_periods(series).tolist()
    [10.0, 28.5]
    >>> detect_periods(series, known=[10, 24]).tolist()
    [0.0, 28.5]
    """
    x = np.asarray(series, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"series must have shape (n_series, length); got shape {x.shape}.")
    n_series, length = x.shape
    periods = np.zeros(n_series)
    if length < SHORTEST_SERIES:
        return periods
    rows = max(1, _BLOCK_VALUES // length)
    for start in range(0, n_series, rows):
        block = slice(start, start + rows)
        correlation, moves = _autocorrelation(_interpolated(x[block]))
        periods[block] = np.where(moves, _period_of(correlation, length), 0.0)
    periods[periods < _SHORTEST_PERIOD] = 0.0
    for period in known:
        periods[np.abs(periods - period) < tolerance * period + 0.01] = 0.0
    return periods


def _interpolated(x: FloatArray) -> FloatArray:
    """Return series without gaps: straight lines within, the nearest value at the ends."""
    finite = np.isfinite(x)
    gaps = np.flatnonzero(~finite.all(axis=1))
    if not len(gaps):
        return x
    x = x.copy()
    steps = np.arange(x.shape[1])
    for row in gaps:
        seen = finite[row]
        x[row] = np.interp(steps, steps[seen], x[row, seen]) if seen.any() else 0.0
    return x


def _autocorrelation(x: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return correlations at lags 0 to length // 2 + 1, and which series move about their line.

    Parameters
    ----------
    x : array of shape (n_series, length)
    """
    length = x.shape[1]
    n_lags = length // 2 + 2
    largest = np.abs(x).max(axis=1)
    x = x / np.where(largest > 0.0, largest, 1.0)[:, None]  # squares of any scale stay finite
    x -= x.mean(axis=1, keepdims=True)
    line = np.linspace(-1.0, 1.0, length)
    x -= (x @ line / (line @ line))[:, None] * line
    moves = np.sqrt(np.einsum("nt,nt->n", x, x) / length) > _ROUNDING
    padded = fft.next_fast_len(length + n_lags, real=True)
    spectrum = fft.rfft(x, padded, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    correlation = fft.irfft(power, padded, axis=1)[:, :n_lags]
    correlation /= np.where(moves, correlation[:, 0], 1.0)[:, None]
    pairs = np.maximum(length - np.arange(n_lags), length // 4)
    return np.asarray(correlation * (length / pairs)), moves


def _period_of(correlation: FloatArray, length: int) -> FloatArray:
    """Return the period of every row of autocorrelations, 0 where there is none."""
    end = length // 3
    low = correlation[:, :end] < np.median(correlation[:, :end], axis=1, keepdims=True)
    first_low = np.where(low.any(axis=1), low.argmax(axis=1), end)
    heights = _peaks(correlation, end)
    heights[np.arange(end) <= first_low[:, None]] = -np.inf
    highest = heights.max(axis=1)
    periods = np.zeros(len(correlation))
    rows = np.flatnonzero(highest >= _LOWEST_PEAK)
    if not len(rows):
        return periods
    correlation = correlation[rows]
    near = heights[rows] >= _NEARLY_HIGHEST * highest[rows, None]
    period, multiple = _refined(correlation, near.argmax(axis=1).astype(np.float64), length // 2)

    every = np.broadcast_to(np.arange(correlation.shape[1]), correlation.shape)
    level = _surroundings(correlation, every, period)
    rises = correlation - level
    at = np.rint(period).astype(np.intp)[:, None]
    bound = np.maximum(_NEARLY_HIGHEST * np.take_along_axis(rises, at, axis=1), _LOWEST_PEAK)
    earlier = (_peaks(rises, end) >= bound) & (np.arange(end) < 0.9 * period[:, None])
    # a peak is higher than a value before it, by more than noise on the way down from lag 0 is
    earlier &= rises[:, :end] - np.minimum.accumulate(rises[:, :end], axis=1) >= _LOWEST_PEAK
    found = np.flatnonzero(earlier.any(axis=1))
    first = earlier[found].argmax(axis=1).astype(np.float64)
    period[found], multiple[found] = _refined(rises[found], first, length // 2)

    whole, quarter = np.rint(period), np.rint(4.0 * period) / 4.0
    unsure = np.maximum(np.maximum(0.12, 1.0 / multiple), _UNSURE * period)
    period = np.where(np.abs(period - whole) <= unsure, whole, quarter)
    at = np.rint(period).astype(np.intp)[:, None]
    rise = np.take_along_axis(correlation, at, axis=1) - _surroundings(correlation, at, period)
    periods[rows] = np.where(rise[:, 0] >= _LOWEST_PEAK, period, 0.0)
    return periods


def _peaks(correlation: FloatArray, end: int) -> FloatArray:
    """Return the values at local maxima from lag 2 to below ``end``, minus infinity elsewhere."""
    heights = np.full((len(correlation), end), -np.inf)
    inner = correlation[:, 2:end]
    peak = (inner > correlation[:, 1 : end - 1]) & (inner >= correlation[:, 3 : end + 1])
    heights[:, 2:] = np.where(peak, inner, -np.inf)
    return heights


def _surroundings(correlation: FloatArray, lags: IntArray, period: FloatArray) -> FloatArray:
    """Return the mean autocorrelation within half a period of lags of shape (n_series, m)."""
    n_lags = correlation.shape[1]
    both_sides = np.concatenate([correlation[:, :0:-1], correlation], axis=1)
    sums = np.zeros((len(correlation), 2 * n_lags))
    np.cumsum(both_sides, axis=1, out=sums[:, 1:])
    half = np.maximum(1, np.rint(period / 2.0).astype(np.intp))[:, None]
    first = np.maximum(lags + n_lags - 1 - half, 0)
    stop = np.minimum(lags + n_lags + half, 2 * n_lags - 1)
    total = np.take_along_axis(sums, stop, axis=1) - np.take_along_axis(sums, first, axis=1)
    return np.asarray(total / (stop - first))


def _refined(
    correlation: FloatArray, period: FloatArray, end: int
) -> tuple[FloatArray, FloatArray]:
    """Follow the peaks at multiples of the periods as long as each is found within its reach.

    Parameters
    ----------
    correlation : array of shape (n_series, at least end + 2)
    period : array of shape (n_series,)
    end : int
        Lag that the multiples stay below.

    Returns
    -------
    period : array of shape (n_series,)
    multiple : array of shape (n_series,)
        The last one that was found.
    """
    period = period.copy()
    reached = np.ones(len(period))
    rows = np.arange(len(period))
    for multiple in range(2, _MAX_MULTIPLES):
        rows = rows[multiple * period[rows] < end]
        centre = multiple * period[rows]
        reach = np.maximum(1.0, 0.15 * period[rows])
        first = np.rint(centre - reach).astype(np.intp)
        last = np.rint(centre + reach).astype(np.intp)
        inside = (first >= 2) & (last < end + 2)
        rows, first, last = rows[inside], first[inside], last[inside]
        if not len(rows):
            break
        lags = first[:, None] + np.arange((last - first).max() + 1)
        beyond = lags > last[:, None]
        near = correlation[rows[:, None], np.minimum(lags, last[:, None])]
        near[beyond] = -np.inf
        found = first + near.argmax(axis=1)
        between = (found > first) & (found < last)
        rows, found = rows[between], found[between]
        period[rows] = found / multiple
        reached[rows] = multiple
    return period, reached
