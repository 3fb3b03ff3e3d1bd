"""Contexts of any length, with gaps, as groups of rows that are forecast together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


def rounded_length(length: int, lookback: int) -> int:
    """Return how many of the newest values are read, so that lengths are few.

    Parameters
    ----------
    length : int
        Of the context.
    lookback : int
        What is read at most.

    Examples
    --------
    >>> from mixlin.mixture.contexts import rounded_length
    >>> [rounded_length(n, 1024) for n in (3, 30, 200, 1000, 5000)]
    [3, 28, 192, 960, 1024]
    """
    if length >= lookback:
        return lookback
    multiple = 1 if length < 16 else 4 if length < 64 else 16 if length < 256 else 64
    return length // multiple * multiple


class ContextGroup(NamedTuple):
    """Rows of one length and one pattern of gaps, measured from their last value.

    Attributes
    ----------
    rows : array of shape (r,)
    values : array of shape (r, n)
        In units of ``unit``; zero where nothing was observed.
    mask : array of shape (n,), or None where everything was
    origin, unit : array of shape (r,)
    constant : array of shape (r,)
        Whether all values of a row are equal.
    """

    rows: IntArray
    values: FloatArray
    mask: BoolArray | None
    origin: FloatArray
    unit: FloatArray
    constant: BoolArray

    def part(self, some: slice) -> ContextGroup:
        """Return some of the rows."""
        return ContextGroup(
            self.rows[some],
            self.values[some],
            self.mask,
            self.origin[some],
            self.unit[some],
            self.constant[some],
        )

    def in_units(self, forecast: FloatArray) -> FloatArray:
        """Return forecasts (r, ..., H) in data units; a constant goes on."""
        shape = (-1,) + (1,) * (forecast.ndim - 1)
        moved = np.where(self.constant.reshape(shape), 0.0, forecast) * self.unit.reshape(shape)
        return np.asarray(moved + self.origin.reshape(shape))


def by_length(rows: npt.NDArray[np.floating]) -> list[tuple[int, IntArray]]:
    """Return lengths after leading NaN, and which rows have them.

    Parameters
    ----------
    rows : array of shape (n_rows, length)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture.contexts import by_length
    >>> by_length(np.array([[np.nan, 1.0], [1.0, 2.0]]))
    [(1, array([0])), (2, array([1]))]
    """
    lengths = rows.shape[1] - np.argmax(~np.isnan(rows), axis=1)
    return [(int(n), np.flatnonzero(lengths == n)) for n in np.unique(lengths)]


def grouped(rows: npt.NDArray[np.floating], lookback: int) -> Iterator[ContextGroup]:
    """Yield rows of one length and one pattern of gaps together.

    Parameters
    ----------
    rows : array of shape (n_rows, length)
        NaN where a value is missing; at least one value in every row.
    lookback : int
        What is read at most.

    Yields
    ------
    ContextGroup

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture.contexts import grouped
    >>> rows = np.array([[np.nan, 1.0, 2.0], [3.0, 4.0, 8.0]])
    >>> [group.values.tolist() for group in grouped(rows, 3)]
    [[[-1.0, 0.0]], [[-1.25, -1.0, 0.0]]]
    """
    seen = ~np.isnan(rows)
    if seen.all():  # the common case, without a copy
        n = rounded_length(rows.shape[1], lookback)
        yield _measured(np.arange(len(rows)), rows[:, rows.shape[1] - n :], None)
        return
    lengths = np.array([_length_read(row, lookback) for row in seen])
    for n in np.unique(lengths):
        of_length = np.flatnonzero(lengths == n)
        part = seen[of_length, rows.shape[1] - n :]
        patterns, which = np.unique(part, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            some = of_length[which.reshape(-1) == i]
            mask = None if pattern.all() else pattern
            yield _measured(some, rows[some, rows.shape[1] - n :], mask)


def _length_read(seen: BoolArray, lookback: int) -> int:
    """Return how many of the newest values are read: the oldest of them is observed."""
    n = len(seen)
    while True:
        first = len(seen) - n + int(np.argmax(seen[len(seen) - n :]))
        read = rounded_length(len(seen) - first, lookback)
        if read == n:
            return n
        n = read


def _measured(
    rows: IntArray, values: npt.NDArray[np.floating], mask: BoolArray | None
) -> ContextGroup:
    values = np.asarray(values, dtype=np.float64)
    seen = values if mask is None else values[:, mask]
    origin = np.array(seen[:, -1])
    reach = np.abs(seen - origin[:, None]).max(axis=1)
    # a power of two, by which numbers are divided without rounding
    unit = np.where(reach > 0, np.exp2(np.floor(np.log2(np.where(reach > 0, reach, 1.0)))), 1.0)
    scaled = (values - origin[:, None]) / unit[:, None]
    if mask is not None:
        scaled = np.where(mask, scaled, 0.0)
    return ContextGroup(rows, scaled, mask, origin, unit, reach == 0)
