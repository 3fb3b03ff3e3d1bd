"""What thousands of series step by, and how their times go on.

What :func:`mixlin.timestamps.read_index` finds for one index is found here for all series of a
long frame together, without an index of pandas for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..timestamps import regular_grid

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
RowArray = npt.NDArray[np.intp]

# What a series steps by: its labels as they are; days on the clock on the wall; months, with the
# same distance from their start or from their end; business days.
_FIXED, _WALL, _MONTHS, _MONTH_ENDS, _BUSINESS = range(5)
_DAYS = {_MONTHS: 30.44, _MONTH_ENDS: 30.44, _BUSINESS: 1.4}
_SHORTEST_MONTH = 27  # days, and some hours where clocks are changed
_SMALLEST, _LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Clock:
    """How labels of a time column are counted.

    Parameters
    ----------
    dtype : dtype
        Of the column. Labels are integers in its unit, with a time zone of universal time.
    per_day : int
        Units in a day; 0 where labels are no dates.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.zero_shot.steps import Clock
    >>> Clock(np.dtype("M8[D]"), 1).zone is None
    True
    """

    dtype: Any
    per_day: int = 0

    @property
    def zone(self) -> Any:
        """Time zone, or None."""
        return getattr(self.dtype, "tz", None)

    def measures(self, kind: int, ordinals: IntArray) -> tuple[IntArray, IntArray]:
        """Return labels in what a series steps by, and what is left of them.

        Parameters
        ----------
        kind : int
        ordinals : array of integers of shape (n,)
            On the clock on the wall, except for the fixed steps.

        Returns
        -------
        measures, rest : arrays of integers of shape (n,)
        """
        if kind in (_FIXED, _WALL):
            return ordinals, np.zeros_like(ordinals)
        day, clock = np.divmod(ordinals, self.per_day)
        if kind == _BUSINESS:
            week, weekday = np.divmod(day + 3, 7)  # the first day of 1970 was a Thursday
            return 5 * week + np.minimum(weekday, 4), clock
        month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        if kind == _MONTHS:
            return month, ordinals - self._month_start(month)
        return month, self._month_start(month + 1) - ordinals

    def ordinals(self, kind: int, measures: IntArray, rest: IntArray) -> IntArray:
        """Return labels as integers, the reverse of :meth:`measures`.

        Parameters
        ----------
        kind : int
        measures, rest : arrays of integers that broadcast

        Returns
        -------
        array of integers
            Of universal time.
        """
        if kind == _FIXED:
            return measures
        if kind == _WALL:
            wall = measures
        elif kind == _BUSINESS:
            week, weekday = np.divmod(measures, 5)
            wall = (7 * week + weekday - 3) * self.per_day + rest
        elif kind == _MONTHS:
            wall = self._month_start(measures) + rest
        else:
            wall = self._month_start(measures + 1) - rest
        if self.zone is None:
            return wall
        import pandas as pd

        made = pd.DatetimeIndex(wall.ravel().view(f"M8[{self.dtype.unit}]"))
        first = np.ones(len(made), dtype=bool)  # of the two hours when clocks go back
        placed = made.tz_localize(self.zone, nonexistent="shift_forward", ambiguous=first)
        return np.asarray(placed.asi8).reshape(wall.shape)

    def labels(self, ordinals: IntArray) -> Any:
        """Return integers as labels of the column's dtype.

        Parameters
        ----------
        ordinals : array of integers of shape (n,)

        Returns
        -------
        pandas.Index of shape (n,)
        """
        import pandas as pd

        if isinstance(self.dtype, pd.PeriodDtype):
            made: Any = pd.PeriodIndex
            return made.from_ordinals(ordinals, freq=self.dtype.freq)
        if self.zone is not None:
            utc = pd.DatetimeIndex(ordinals.view(f"M8[{self.dtype.unit}]"), tz="UTC")
            return utc.tz_convert(self.zone)
        return pd.Index(ordinals.view(self.dtype) if self.dtype.kind in "mM" else ordinals)

    def _month_start(self, month: IntArray) -> IntArray:
        day = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        return np.asarray(day * self.per_day)


@dataclass(frozen=True, eq=False)
class Steps:
    """The last labels of series, and what they step by.

    Parameters
    ----------
    clock : Clock
    kind, last, step, rest : arrays of integers of shape (n_series,)
        What a series steps by, its last label in that measure, the step (0 where none was found),
        and what is left of a label beside the measure.
    rows : dict of array
        For series with gaps, by their number: place of every row on the grid.
    """

    clock: Clock
    kind: IntArray
    last: IntArray
    step: IntArray
    rest: IntArray
    rows: dict[int, RowArray]

    def continued(self, n_steps: int) -> Any:
        """Return the labels of the next steps.

        Parameters
        ----------
        n_steps : int

        Returns
        -------
        pandas.Index of shape (n_series * n_steps,)
            Series after series.

        Raises
        ------
        ValueError
            If the dtype of the labels can't hold them.
        """
        unit = np.ones(len(self.kind))
        for kind, days in _DAYS.items():
            unit[self.kind == kind] = days * self.clock.per_day
        reached = unit * (self.last.astype(np.float64) + n_steps * self.step.astype(np.float64))
        if (np.abs(reached) > 0.999 * _LARGEST).any():
            raise ValueError(
                f"{n_steps} steps lead beyond the times that {self.clock.dtype} can hold. Shorten "
                "the horizon, or convert the times to a coarser unit (datetime64[s])."
            )
        measures = self.last[:, None] + self.step[:, None] * np.arange(1, n_steps + 1)
        ordinals = np.empty_like(measures)
        for kind in np.unique(self.kind).tolist():
            of = self.kind == kind
            ordinals[of] = self.clock.ordinals(kind, measures[of], self.rest[of, None])
        return self.clock.labels(ordinals.ravel())


def find_steps(
    clock: Clock, ordinals: IntArray, wall: IntArray, starts: IntArray, stops: IntArray
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

    Returns
    -------
    Steps
        With step 0 for a series that is irregular, or of one row where nothing tells the step.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.zero_shot.steps import Clock, find_steps
    >>> labels = np.array([1, 2, 3, 5, 10, 20, 30])
    >>> clock = Clock(labels.dtype)
    >>> find_steps(clock, labels, labels, np.array([0, 4]), np.array([4, 7])).step.tolist()
    [1, 10]
    """
    return _Search(clock, ordinals, wall, starts, stops).run()


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
            for kind in (_MONTH_ENDS, _MONTHS):
                self._try(kind, many & (low >= _SHORTEST_MONTH * day))
        if zoned:
            self._settle(_WALL, many & (low_wall == high_wall) & (low_wall % day == 0), low_wall)
        self._settle(_FIXED, many & (low == high), low)
        if day:
            self._try(_BUSINESS, (low_wall == day) & (high_wall > 2 * day))
        self._try(_FIXED, many)
        if zoned:  # days go by the clock on the wall
            daily = (self.kind == _FIXED) & (self.step > 0) & (self.step % day == 0)
            self.kind[daily], self.last[daily] = _WALL, self.wall[self.stops[daily] - 1]
            self._try(_WALL, many)
        if (self.counts < 3).any():
            self._borrow()
        return Steps(self.clock, self.kind, self.last, self.step, self.rest, self.rows)

    def _measures(self, kind: int, rows: Any) -> tuple[IntArray, IntArray]:
        labels = self.ordinals if kind == _FIXED else self.wall
        return self.clock.measures(kind, labels[rows])

    def _settle(self, kind: int, of: BoolArray, step: IntArray) -> None:
        """Take a step for series that have none yet."""
        of = of & (self.step == 0)
        self.kind[of], self.step[of] = kind, step[of]
        self.last[of], self.rest[of] = self._measures(kind, self.stops[of] - 1)

    def _try(self, kind: int, of: BoolArray) -> None:
        """Look for a step in a measure, for series that have none yet."""
        of = of & (self.step == 0)
        if kind == _MONTH_ENDS:  # one look at the last rows spares one at all of them
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
        if kind == _BUSINESS:
            weekend = (self.wall[rows] // self.clock.per_day + 3) % 7 >= 5
            fits &= ~np.logical_or.reduceat(weekend, starts)
        step = np.where(fits & (low == high), low, 0)
        for place in np.flatnonzero(fits & (low != high)).tolist():
            found = regular_grid(measures[starts[place] : stops[place]])
            if found is not None and (kind != _WALL or found[0] % self.clock.per_day == 0):
                step[place] = found[0]
                self.rows[int(which[place])] = found[1]
        if kind == _BUSINESS:
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
            kind, step = _FIXED, 1
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
