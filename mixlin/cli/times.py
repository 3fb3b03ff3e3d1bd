"""The time column of a table: finding it, reading it, putting rows on a regular grid."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from ..timestamps import read_index

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it

_NAMES = {
    "date", "time", "datetime", "date_time", "date time", "timestamp", "timestamps", "ds", "dt",
    "datum", "zeit", "date_utc", "time_utc", "utc", "day", "month", "week", "year", "period",
    "index", "t",
}  # fmt: skip
_PARSED = 0.9  # share of entries that must be times
_REPEATED = 0.05  # more repeated times than that: several series under one another
_NICE_SECONDS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600]
_NICE_SECONDS += [7200, 10800, 14400, 21600, 28800, 43200, 86400, 604800]
_DAY_OR_MONTH = r"^(\d{1,2})[./-](\d{1,2})[./-]\d{2,4}"
_NAMELESS = re.compile(r"column_\d+|Unnamed: 0")
_CLOCK = re.compile(r"\d{1,2}[:.]\d{2}([:.]\d{2})?")


def take_time(table: Frame, name: str | None, notes: list[str]) -> tuple[Frame, Any | None]:
    """Take the time column out of a table.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
    name : str, optional
        The column; found by its name or its contents by default, and ``"none"`` for none.
    notes : list of str
        Gets a sentence for every guess that matters.

    Returns
    -------
    table : DataFrame
        Without the time column.
    times : DatetimeIndex or Index of integers of shape (n_rows,), or None
        NaT where a time can't be read.

    Raises
    ------
    ValueError
        If the column that was asked for is not there or can't be read as times.
    """
    if name is not None and name in table.columns:
        times = _read_times(table[name], notes)
        if times is None:
            raise ValueError(
                f"column {name!r} can't be read as times; name another --time-column, or 'none' to "
                "take the rows as evenly spaced."
            )
        return _join_clock(table, name, times, notes)
    if name is not None and name.lower() == "none":
        return table, None
    if name is not None:
        columns = ", ".join(repr(str(c)) for c in table.columns[:8])
        raise ValueError(f"there is no column {name!r} to take as time; the columns are {columns}.")
    first = str(table.columns[0])
    named = [c for c in table.columns if str(c).lower() in _NAMES]
    for column in dict.fromkeys([*named, first]):
        is_named = column in named
        if table[column].dtype.kind in "iuf" and not _counts(table[column], is_named):
            continue
        found: list[str] = []
        times = _read_times(table[column], found)
        if times is not None:
            notes.extend(found)
            return _join_clock(table, str(column), times, notes)
    return table, None


def _counts(column: Any, is_named: bool) -> bool:
    """Whether a column of numbers is a time: integers that increase, or dates like 20240131."""
    values = column.to_numpy(dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all() or (values != np.round(values)).any():
        return False
    steps = np.diff(values)
    if is_named:
        return bool((steps > 0).all()) or _compact_format(values) is not None
    # row numbers that a program wrote in front of the data
    unnamed = _NAMELESS.fullmatch(str(column.name)) is not None
    return unnamed and bool((steps == 1).all()) and values[0] in (0, 1)


def _compact_format(values: Any) -> str | None:
    """Return the format of dates such as 20240131 or 202401."""
    low, high = values.min(), values.max()
    month = values // 100 % 100
    if low > 19000101 and high < 21001231 and month.min() >= 1 and month.max() <= 12:
        return "%Y%m%d"
    month = values % 100
    if low > 190001 and high < 210012 and month.min() >= 1 and month.max() <= 12:
        return "%Y%m"
    return None


def _read_times(column: Any, notes: list[str]) -> Any | None:
    """Read a column as times; None if it is none."""
    import pandas as pd

    name = str(column.name)
    if column.dtype.kind in "iuf":
        values = column.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            return None
        compact = _compact_format(values)
        if compact is None:
            name = "row" if _NAMELESS.fullmatch(name) else name
            return pd.Index(values.astype(np.int64), name=name)
        dates = pd.to_datetime(column.astype("int64").astype("str"), format=compact)
        return pd.DatetimeIndex(dates, name=name)
    entries = column.astype("str").str.strip().where(column.notna())
    known = entries.dropna()
    if not len(known) or known.str.contains(r"\d").mean() < _PARSED:
        return None
    fields = known.str.extract(_DAY_OR_MONTH).dropna()
    if len(fields) < _PARSED * len(known):
        times = _parse(entries, day_first=False)
    else:
        times = _parse_either(entries, known.iloc[0], fields.astype("int64"), notes)
    if times.notna().sum() < _PARSED * len(known):
        return None
    return times.rename("time" if _NAMELESS.fullmatch(name) else name)


def _parse_either(entries: Any, example: str, fields: Any, notes: list[str]) -> Any:
    """Read dates such as 01/02/2024, with the day or the month first."""
    first, second = int((fields[0] > 12).sum()), int((fields[1] > 12).sum())
    if first or second:
        return _parse(entries, day_first=first > second)
    month_first, day_first = (_parse(entries, day_first=choice) for choice in (False, True))
    if month_first.equals(day_first):
        return month_first
    # no entry tells: right is what gives a series on a grid, else what the sign suggests
    dotted = "." in example[:3]
    chosen = (*_quality(day_first), dotted) > (*_quality(month_first), not dotted)
    order = "day before the month" if chosen else "month before the day"
    notes.append(f"times such as {example!r} read with the {order}")
    return day_first if chosen else month_first


def _parse(entries: Any, *, day_first: bool) -> Any:
    """Read text as times, NaT where it can't be done."""
    import pandas as pd

    read: Any = pd.to_datetime
    options: dict[str, Any] = {"errors": "coerce", "dayfirst": day_first}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats and day order, which is decided here
        for zone in ({}, {"utc": True}):  # offsets that change, as with daylight saving
            try:
                times = read(entries, **options, **zone)
                left = times.isna() & entries.notna()
                if left.any():  # midnights without a clock, for example
                    rest = read(entries[left], format="mixed", **options, **zone)
                    times = times.where(~left, rest)
                return pd.DatetimeIndex(times)
            except (ValueError, TypeError, OverflowError):
                continue
    return pd.DatetimeIndex([pd.NaT] * len(entries))


def _quality(times: Any) -> tuple[float, bool, float]:
    """Return how much could be read, whether it lies on a grid, and how much is in order."""
    import pandas as pd

    known = times[times.notna()]
    if len(known) < 2:
        return len(known) / max(1, len(times)), False, 0.0
    steps = np.diff(np.asarray(known).astype("datetime64[s]").astype(np.int64))
    order = max((steps > 0).mean(), (steps < 0).mean())
    on_grid = _on_grid(pd.DataFrame(index=known.unique().sort_values())) is not None
    return round(len(known) / len(times), 3), on_grid, round(float(order), 3)


def _join_clock(table: Frame, name: str, times: Any, notes: list[str]) -> tuple[Frame, Any]:
    """Add the time of day from the next column where the date alone repeats."""
    import pandas as pd

    place = list(table.columns).index(name)
    rest = table.drop(columns=name)
    if not isinstance(times, pd.DatetimeIndex) or times.is_unique or place + 1 == table.shape[1]:
        return rest, times
    clock = table.iloc[:, place + 1]
    entries = clock.astype("str").str.strip()
    if clock.dtype.kind in "iufb" or entries.str.fullmatch(_CLOCK).mean() < _PARSED:
        return rest, times
    entries = entries.str.replace(".", ":", regex=False)
    entries = entries.where(entries.str.count(":") == 2, entries + ":00")
    offset = pd.to_timedelta(entries, errors="coerce")
    notes.append(f"time is {name!r} together with {str(clock.name)!r}")
    joined = pd.DatetimeIndex(times + pd.TimedeltaIndex(offset), name=times.name)
    return rest.drop(columns=clock.name), joined


def place_rows(frame: Frame, times: Any | None, notes: list[str]) -> Frame:
    """Put channels on a regular grid of times.

    Rows are sorted, rows with the same time averaged, and absent times become rows of NaN. Rows
    after the last one with a value are cut off: the forecast starts there.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_channels)
    times : DatetimeIndex or Index of integers of shape (n_rows,), optional
    notes : list of str
        Gets a sentence for everything that was changed.

    Returns
    -------
    DataFrame of shape (n_steps, n_channels)
        Its index has a frequency, or is a range of integers.

    Raises
    ------
    ValueError
        If times repeat too often or follow no grid.
    """
    import pandas as pd

    if times is None:
        return _without_ends(frame.reset_index(drop=True), notes)
    frame = frame.set_axis(times, axis=0)
    frame = frame[frame.index.notna() | frame.notna().any(axis=1)]  # the rest are empty lines
    unknown = int(frame.index.isna().sum())
    if unknown:
        notes.append(f"{_rows(unknown)} left out: the time can't be read")
        frame = frame[frame.index.notna()]
    if not frame.index.is_monotonic_increasing:
        notes.append("rows were not in order of time and have been sorted")
        frame = frame.sort_index(kind="stable")
    repeated = int(frame.index.duplicated().sum())
    if repeated > _REPEATED * len(frame):
        raise ValueError(
            f"{repeated} of {len(frame)} rows repeat a time of {times.name!r}: this looks like "
            "several series one under another; give one column per series, or --time-column none."
        )
    if repeated:
        notes.append(f"{_rows(repeated)} with a repeated time; the mean is taken")
        frame = frame.groupby(level=0).mean()
    frame = _without_ends(frame, notes)
    on_grid = _on_grid(frame)
    if on_grid is None and isinstance(frame.index, pd.DatetimeIndex):
        on_grid = _snapped(frame, notes)
    if on_grid is None:
        raise ValueError(
            f"the times of {times.name!r} are irregular: no one step leads from row to row; "
            "resample the file to a fixed step, or say --time-column none to take the rows as "
            "evenly spaced."
        )
    absent = len(on_grid) - len(frame)
    if absent > 0:
        notes.append(f"{_rows(absent)} missing in between")
    return on_grid


def _without_ends(frame: Frame, notes: list[str]) -> Frame:
    """Cut rows without any value off both ends."""
    known = np.flatnonzero(frame.notna().any(axis=1).to_numpy())
    if not len(known):
        raise ValueError("no row has both a time and a value; there is nothing to forecast from.")
    after = len(frame) - 1 - int(known[-1])
    if after:
        notes.append(f"{_rows(after)} without any value cut off at the end")
    if known[0]:
        notes.append(f"{_rows(int(known[0]))} without any value cut off at the beginning")
    return frame.iloc[known[0] : known[-1] + 1]


def _on_grid(frame: Frame) -> Frame | None:
    """Return the frame with all steps between its first and its last; None if off any grid."""
    import pandas as pd

    try:
        found, places = read_index(frame.index)
    except ValueError:
        return None
    n_steps, first = int(places[-1]) + 1, frame.index[0]
    grid: Any
    if isinstance(frame.index, pd.DatetimeIndex):
        grid = pd.date_range(first, periods=n_steps, freq=str(found.freq))
    else:
        step = int(found.freq)
        grid = pd.RangeIndex(first, first + n_steps * step, step)
    if not (grid[places] == frame.index).all():
        return None
    return frame.reindex(grid.rename(frame.index.name))


def _snapped(frame: Frame, notes: list[str]) -> Frame | None:
    """Move times that miss a grid by a little onto it."""
    import pandas as pd

    index = frame.index
    assert isinstance(index, pd.DatetimeIndex)
    median = float(np.median(np.diff(np.asarray(index)) / np.timedelta64(1, "s")))
    seconds = min(_NICE_SECONDS, key=lambda nice: abs(np.log(max(median, 1e-9) / nice)))
    if abs(median / seconds - 1) > 0.1:
        return None
    step = pd.Timedelta(seconds=seconds)
    try:
        rounded = index.round(step)
    except ValueError:  # an hour that does not exist in this zone, or exists twice
        return None
    moved = (index - rounded).map(abs)
    if rounded.duplicated().mean() > 0.1 or moved.to_series().quantile(0.9) > 0.3 * step:
        return None
    snapped = frame.set_axis(rounded.rename(index.name), axis=0).groupby(level=0).mean()
    on_grid = _on_grid(snapped)
    if on_grid is not None:
        notes.append(f"times are uneven; rows were moved to the nearest {_spoken(step)}")
    return on_grid


def _spoken(step: Any) -> str:
    seconds = int(step.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            n = seconds // size
            return unit if n == 1 else f"{n} {unit}s"
    return f"{seconds} seconds" if seconds > 1 else "second"


def _rows(n: int) -> str:
    return f"{n} row{'s' if n > 1 else ''}"
