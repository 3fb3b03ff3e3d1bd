"""Where a series stands in time: reading an index, filling its gaps, continuing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

_MAX_MISSING = 0.5  # more missing than observed rows: not a regular index with gaps


@dataclass(frozen=True)
class TimeIndex:
    """The regular index of a series, by its end and its step.

    Parameters
    ----------
    kind : {"integer", "datetime", "period", "timedelta", "stamps"}
        "stamps" are ``datetime64`` values that came with an array.
    last : object
        The last label.
    freq : str or int
        A pandas frequency string, or the integer step (nanoseconds for "stamps").
    name : object, optional
        Name of the index.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.timestamps import read_timestamps
    >>> stamps = np.arange("2024-01-01", "2024-01-03", np.timedelta64(6, "h"))
    >>> index, rows = read_timestamps(stamps)
    >>> index.freq, index.first_after().item().isoformat()
    ('6h', '2024-01-03T00:00:00')
    """

    kind: str
    last: Any
    freq: str | int
    name: Any = None

    def continued(self, n_steps: int) -> Any:
        """Return the labels of the next steps.

        Parameters
        ----------
        n_steps : int

        Returns
        -------
        pandas.Index, or array of datetime64 for "stamps"
        """
        if self.kind == "stamps":
            step = _parse_step(str(self.freq))
            return self.last + step * np.arange(1, n_steps + 1)
        import pandas as pd

        if self.kind == "integer":
            step = int(self.freq)
            return pd.RangeIndex(
                self.last + step, self.last + step * (n_steps + 1), step, name=self.name
            )
        if self.kind == "period":
            made: Any = pd.period_range(self.last, periods=n_steps + 1, freq=self.freq)
        elif self.kind == "timedelta":
            made = pd.timedelta_range(self.last, periods=n_steps + 1, freq=str(self.freq))
        else:
            made = pd.date_range(self.last, periods=n_steps + 1, freq=str(self.freq))
        return made[1:].rename(self.name)

    def first_after(self) -> Any:
        """Return the label of the step after the last one."""
        return self.continued(1)[0]

    def continues_as(self, other: TimeIndex, first: Any) -> bool:
        """Whether a series that starts at ``first`` with index ``other`` follows directly."""
        return self.kind == other.kind and bool(self.first_after() == first)


def _parse_step(freq: str) -> np.timedelta64:
    digits = "".join(ch for ch in freq if ch.isdigit())
    return np.timedelta64(int(digits or 1), freq[len(digits) :])


def _format_step(step: np.timedelta64) -> str:
    for unit in ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"):
        try:
            whole = step.astype(f"timedelta64[{unit}]")
        except TypeError:  # months have no length in days
            continue
        if whole == step and whole.astype(np.int64) != 0:
            return f"{int(whole.astype(np.int64))}{unit}"
    return f"{int(step.astype(np.int64))}ns"


def _check_order(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    steps = np.diff(values)
    if (steps < 0).any():
        raise ValueError(
            "the index is not sorted: labels must increase. Sort the rows by time first "
            "(frame.sort_index())."
        )
    if (steps == 0).any():
        n = int((steps == 0).sum())
        raise ValueError(
            f"the index holds {n} duplicate label{'s' if n > 1 else ''}: every time must occur "
            "once. Drop or aggregate the repeated rows, or pass several series as a list."
        )
    return steps


def _grid(values: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.intp]] | None:
    """Return the usual step and each row's place on the regular grid; None if off the grid."""
    steps = _check_order(values)
    if not len(steps):
        return 1, np.zeros(len(values), dtype=np.intp)
    distinct, counts = np.unique(steps, return_counts=True)
    step = int(distinct[np.argmax(counts)])
    if (distinct % step).any():
        return None
    places = np.concatenate([[0], np.cumsum(steps // step)]).astype(np.intp)
    return (step, places) if (places[-1] + 1) * (1 - _MAX_MISSING) <= len(values) else None


def _irregular(what: str) -> ValueError:
    return ValueError(
        f"the {what} is irregular: its steps are no multiples of one frequency, or most labels "
        "are missing. Resample to a regular frequency (frame.asfreq or frame.resample), or drop "
        "the index (frame.reset_index(drop=True))."
    )


def read_timestamps(
    timestamps: npt.ArrayLike, n_rows: int | None = None
) -> tuple[TimeIndex, npt.NDArray[np.intp]]:
    """Read the stamps that come with an array.

    Parameters
    ----------
    timestamps : array-like of shape (n_rows,)
        ``datetime64``, or what numpy turns into it.
    n_rows : int, optional
        Rows of the series.

    Returns
    -------
    index : TimeIndex
    rows : array of shape (n_rows,)
        Place of every row on the regular grid; a jump by more than one is a gap.

    Raises
    ------
    ValueError
        If the length differs, or stamps are missing, unsorted, repeated or irregular.
    """
    stamps = np.asarray(timestamps)
    if stamps.dtype.kind != "M":
        try:
            stamps = stamps.astype("datetime64")
        except (ValueError, TypeError):
            raise ValueError(
                f"timestamps must be datetime64 values; got dtype {stamps.dtype}."
            ) from None
    if stamps.ndim != 1 or (n_rows is not None and len(stamps) != n_rows):
        raise ValueError(
            f"timestamps must have one stamp per row, shape ({n_rows},); got shape {stamps.shape}."
        )
    if np.isnat(stamps).any():
        raise ValueError("timestamps hold NaT; every row needs its time.")
    grid = _grid(stamps.astype(np.int64))
    if grid is None:
        raise _irregular("series of timestamps")
    unit = np.datetime_data(stamps.dtype)[0]
    freq = _format_step(np.timedelta64(grid[0] * np.datetime_data(stamps.dtype)[1], unit))
    return TimeIndex("stamps", stamps[-1], freq), grid[1]


def read_index(index: pd.Index) -> tuple[TimeIndex, npt.NDArray[np.intp]]:
    """Read the index of a frame.

    Parameters
    ----------
    index : pandas.Index
        Dates, periods, time deltas or integers, increasing; gaps are allowed.

    Returns
    -------
    index : TimeIndex
    rows : array of shape (n_rows,)
        Place of every row on the regular grid; a jump by more than one is a gap.

    Raises
    ------
    ValueError
        If labels are unsorted, repeated or irregular, or of another kind.
    """
    import pandas as pd

    if index.hasnans:
        raise ValueError("the index holds missing labels; every row needs its time.")
    name = index.name
    everything = np.arange(len(index), dtype=np.intp)
    if isinstance(index, pd.PeriodIndex):
        grid = _grid(np.asarray(index.asi8))
        if grid is None:
            raise _irregular("index")
        offset = index.freq * grid[0]
        return TimeIndex("period", index[-1], offset.freqstr, name), grid[1]
    if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        kind = "datetime" if isinstance(index, pd.DatetimeIndex) else "timedelta"
        _check_order(np.asarray(index.asi8))
        freq = index.freqstr or (pd.infer_freq(index) if len(index) > 2 else None)
        if freq is not None:
            return TimeIndex(kind, index[-1], freq, name), everything
        # wall-clock time: daily steps in a zone with daylight saving are still daily
        wall = index.tz_localize(None) if kind == "datetime" and index.tz is not None else index
        grid = _grid(np.asarray(index.asi8)) or _grid(np.asarray(wall.asi8))
        if grid is None:
            raise _irregular("index")
        step = pd.Timedelta(grid[0], unit=getattr(index, "unit", "ns"))
        offset = pd.tseries.frequencies.to_offset(step)
        assert offset is not None
        return TimeIndex(kind, index[-1], offset.freqstr, name), grid[1]
    if pd.api.types.is_integer_dtype(index.dtype):
        grid = _grid(index.to_numpy().astype(np.int64))
        if grid is None:
            raise _irregular("index")
        return TimeIndex("integer", int(index[-1]), grid[0], name), grid[1]
    raise ValueError(
        f"an index of dtype {index.dtype} can't be continued: use dates, periods or integers "
        "(pd.to_datetime on the index, or frame.reset_index(drop=True))."
    )


def fill_gaps(
    values: npt.NDArray[np.floating], rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.floating]:
    """Put rows on their regular grid, with NaN where a label is missing.

    Parameters
    ----------
    values : array of shape (T, C)
    rows : array of shape (T,)
        From :func:`read_index` or :func:`read_timestamps`.

    Returns
    -------
    array of shape (rows[-1] + 1, C)
        ``values`` itself where there is no gap.
    """
    if not len(rows) or rows[-1] + 1 == len(values):
        return values
    filled = np.full((int(rows[-1]) + 1, values.shape[1]), np.nan, dtype=values.dtype)
    filled[rows] = values
    return filled
