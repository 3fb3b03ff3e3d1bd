"""What thousands of series step by.

What :func:`mixlin.timestamps.read_index` finds for one index is found here for all series of a
long frame together, without an index of pandas for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..timestamps import regular_grid
from .clock import BUSINESS, FIXED, MONTH_ENDS, MONTHS, WALL, Clock
from .steps import RowArray, Steps

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_SHORTEST_MONTH = 27  # days, and some hours where clocks are changed
_SMALLEST, _LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def find_steps(
    clock: Clock,
    ordinals: IntArray,
    wall: IntArray,
    starts: IntArray,
    stops: IntArray,
    like: tuple[int, int] | None = None,
) -> Steps:
    """Find what every series steps by.

    Series of one or two rows step as most others do.

    Parameters
    ----------
    clock : Clock
    ordinals, wall : arrays of integers of shape (n_rows,)
        Labels, increasing within a series; on the clock on the wall too.
    starts, stops : arrays of integers of shape (n_series,)
        Rows of the series.
    like : tuple of int, optional
        What all of them step by, one of :meth:`Steps.frequencies`, instead of looking for it.

    Returns
    -------
    Steps
        With step 0 for a series that is irregular, steps otherwise than asked, or is of one row
        where nothing tells the step.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.long_frames import Clock, find_steps
    >>> labels = np.array([1, 2, 3, 5, 10, 20, 30])
    >>> clock = Clock(labels.dtype)
    >>> find_steps(clock, labels, labels, np.array([0, 4]), np.array([4, 7])).step.tolist()
    [1, 10]
    """
    search = _Search(clock, ordinals, wall, starts, stops)
    return search.run() if like is None else search.at(*like)


class _Search:
    """The state of :func:`find_steps`."""

    def __init__(
        self, clock: Clock, ordinals: IntArray, wall: IntArray, starts: IntArray, stops: IntArray
    ) -> None:
        self.clock, self.ordinals, self.wall = clock, ordinals, wall
        self.starts, self.stops, self.counts = starts, stops, stops - starts
        self.kind, self.last, self.step, self.rest = np.zeros((4, len(starts)), dtype=np.int64)
        self.rows: dict[int, RowArray] = {}

    def run(self) -> Steps:
        day, zoned = self.clock.per_day, self.clock.zone is not None
        many = self.counts > 1
        low, high = _extremes(self.ordinals, self.starts, self.stops)
        low_wall, high_wall = low, high
        if zoned:
            low_wall, high_wall = _extremes(self.wall, self.starts, self.stops)
        if day:
            for kind in (MONTH_ENDS, MONTHS):
                self._try(kind, many & (low >= _SHORTEST_MONTH * day))
        if zoned:
            self._settle(WALL, many & (low_wall == high_wall) & (low_wall % day == 0), low_wall)
        self._settle(FIXED, many & (low == high), low)
        if day:
            self._try(BUSINESS, (low_wall == day) & (high_wall > 2 * day))
        self._try(FIXED, many)
        if zoned:  # days go by the clock on the wall
            daily = (self.kind == FIXED) & (self.step > 0) & (self.step % day == 0)
            self.kind[daily], self.last[daily] = WALL, self.wall[self.stops[daily] - 1]
            self._try(WALL, many)
        if (self.counts < 3).any():
            self._borrow()
        return Steps(self.clock, self.kind, self.last, self.step, self.rest, self.rows)

    def at(self, kind: int, step: int) -> Steps:
        """Place all series on grids of one step."""
        if kind in (FIXED, WALL):  # most have no gaps, and need no places of rows
            labels = self.ordinals if kind == FIXED else self.wall
            low, high = _extremes(labels, self.starts, self.stops)
            self._settle(kind, (low == step) & (high == step), low)
        kinds = (MONTH_ENDS, MONTHS) if kind == MONTHS else (kind,)
        for each in kinds:
            self._place(each, step)
        return Steps(self.clock, self.kind, self.last, self.step, self.rest, self.rows)

    def _place(self, kind: int, step: int) -> None:
        """Place series that have no step yet, where all their rows fit to one."""
        which = np.flatnonzero(self.step == 0)
        if not len(which):
            return
        of = np.zeros(len(self.counts), dtype=bool)
        of[which] = True
        rows = np.flatnonzero(np.repeat(of, self.counts))
        measures, rest = self._measures(kind, rows)
        counts = self.counts[which]
        stops = np.cumsum(counts)
        starts = stops - counts
        places, off = np.divmod(measures - np.repeat(measures[starts], counts), step)
        fits = np.maximum.reduceat(off, starts) == 0
        fits &= np.minimum.reduceat(rest, starts) == np.maximum.reduceat(rest, starts)
        if kind == MONTH_ENDS:  # from the end only what is no further than a day from it
            fits &= rest[starts] <= self.clock.per_day
        if kind == BUSINESS:
            weekend = (self.wall[rows] // self.clock.per_day + 3) % 7 >= 5
            fits &= ~np.logical_or.reduceat(weekend, starts)
        length = places[stops - 1] + 1
        fits &= length <= 2 * counts  # otherwise most rows are missing
        for i in np.flatnonzero(fits & (length != counts)).tolist():
            self.rows[int(which[i])] = places[starts[i] : stops[i]].astype(np.intp)
        taken = which[fits]
        self.kind[taken], self.step[taken] = kind, step
        self.last[taken], self.rest[taken] = measures[stops - 1][fits], rest[stops - 1][fits]

    def _measures(self, kind: int, rows: Any) -> tuple[IntArray, IntArray]:
        labels = self.ordinals if kind == FIXED else self.wall
        return self.clock.measures(kind, labels[rows])

    def _settle(self, kind: int, of: BoolArray, step: IntArray) -> None:
        """Take a step for series that have none yet."""
        of = of & (self.step == 0)
        self.kind[of], self.step[of] = kind, step[of]
        self.last[of], self.rest[of] = self._measures(kind, self.stops[of] - 1)

    def _try(self, kind: int, of: BoolArray) -> None:
        """Look for a step in a measure, for series that have none yet."""
        of = of & (self.step == 0)
        if kind == MONTH_ENDS:  # one look at the last rows spares one at all of them
            of = of & (self._measures(kind, self.stops - 1)[1] <= self.clock.per_day)
        which = np.flatnonzero(of)
        if not len(which):
            return
        rows = np.flatnonzero(np.repeat(of, self.counts))
        measures, rest = self._measures(kind, rows)
        stops = np.cumsum(self.counts[which])
        starts = stops - self.counts[which]
        low, high = _extremes(measures, starts, stops)
        least, most = np.minimum.reduceat(rest, starts), np.maximum.reduceat(rest, starts)
        fits = (least == most) & (low > 0)
        if kind == BUSINESS:
            weekend = (self.wall[rows] // self.clock.per_day + 3) % 7 >= 5
            fits &= ~np.logical_or.reduceat(weekend, starts)
        step = np.where(fits & (low == high), low, 0)
        for place in np.flatnonzero(fits & (low != high)).tolist():
            found = regular_grid(measures[starts[place] : stops[place]])
            if found is not None and (kind != WALL or found[0] % self.clock.per_day == 0):
                step[place] = found[0]
                self.rows[int(which[place])] = found[1]
        if kind == BUSINESS:
            step[step > 1] = 0
        found_any = step > 0
        taken = which[found_any]
        self.kind[taken], self.step[taken] = kind, step[found_any]
        self.last[taken] = measures[stops[found_any] - 1]
        self.rest[taken] = rest[stops[found_any] - 1]

    def _borrow(self) -> None:
        """Let series of one or two rows step as most others do."""
        long = (self.counts > 2) & (self.step > 0)
        if long.any():
            known = np.stack([self.kind[long], self.step[long]])
            pairs, times = np.unique(known, axis=1, return_counts=True)
            kind, step = pairs[:, np.argmax(times)].tolist()
        elif self.clock.dtype.kind in "mM":
            return
        else:
            kind, step = FIXED, 1
        two = np.flatnonzero(self.counts == 2)
        before, rest_before = self._measures(kind, self.stops[two] - 2)
        last, rest = self._measures(kind, self.stops[two] - 1)
        apart, off = np.divmod(last - before, step)
        # more than two rows missing between two are rather another step
        fits = (off == 0) & (apart > 0) & (apart < 4) & (rest == rest_before)
        for i, n_steps in zip(two[fits].tolist(), apart[fits].tolist(), strict=True):
            self.rows.pop(i, None)
            if n_steps > 1:
                self.rows[i] = np.array([0, n_steps], dtype=np.intp)
        taken = np.concatenate([np.flatnonzero(self.counts == 1), two[fits]])
        self.kind[taken], self.step[taken] = kind, step
        self.last[taken], self.rest[taken] = self._measures(kind, self.stops[taken] - 1)


def _extremes(values: IntArray, starts: IntArray, stops: IntArray) -> tuple[IntArray, IntArray]:
    """Return the smallest and the largest step of every series; those of one row have none."""
    steps = np.empty(len(values), dtype=np.int64)
    np.subtract(values[1:], values[:-1], out=steps[:-1])
    steps[stops - 1] = _LARGEST
    low = np.minimum.reduceat(steps, starts)
    steps[stops - 1] = _SMALLEST
    return low, np.maximum.reduceat(steps, starts)
