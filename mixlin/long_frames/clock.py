"""How labels of a time column are counted: one by one, in months, in business days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# What a series steps by: its labels as they are; days on the clock on the wall; months, with the
# same distance from their start or from their end; business days.
FIXED, WALL, MONTHS, MONTH_ENDS, BUSINESS = range(5)


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
    >>> from mixlin.long_frames import Clock
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
        if kind in (FIXED, WALL):
            return ordinals, np.zeros_like(ordinals)
        day, clock = np.divmod(ordinals, self.per_day)
        if kind == BUSINESS:
            week, weekday = np.divmod(day + 3, 7)  # the first day of 1970 was a Thursday
            return 5 * week + np.minimum(weekday, 4), clock
        month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        if kind == MONTHS:
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
        if kind == FIXED:
            return measures
        if kind == WALL:
            wall = measures
        elif kind == BUSINESS:
            week, weekday = np.divmod(measures, 5)
            wall = (7 * week + weekday - 3) * self.per_day + rest
        elif kind == MONTHS:
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

    def read(self, kind: int, ordinals: IntArray) -> IntArray:
        """Return labels of universal time as :meth:`measures` reads them.

        Parameters
        ----------
        kind : int
        ordinals : array of integers of shape (n,)

        Returns
        -------
        array of integers of shape (n,)
            On the clock on the wall, except for the fixed steps.
        """
        if self.zone is None or kind == FIXED:
            return ordinals
        return np.asarray(self.labels(ordinals).tz_localize(None).asi8)

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
