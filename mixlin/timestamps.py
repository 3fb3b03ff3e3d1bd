"""Where a series stands in time: reading an index, filling its gaps, continuing it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

_MAX_MISSING = 0.5  # more missing than observed rows: not a regular index with gaps
_LONG_RUN = 24  # steps in a row that skip as many places each: no gaps, but another step
_FEWEST_STEPS = 4  # of a series that has no others
_DAY = 86_400_000_000_000  # nanoseconds


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
    >>> stamps = np.datetime64("2024-01-01") + np.arange(8) * np.timedelta64(6, "h")
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
        return self._labels(0, n_steps)

    def before(self, n_rows: int) -> TimeIndex:
        """Return the index as it was some rows ago.

        Parameters
        ----------
        n_rows : int
        """
        return replace(self, last=self._labels(n_rows + 1, 0)[0])

    def past(self, n_rows: int) -> Any:
        """Return the labels of the last rows.

        Parameters
        ----------
        n_rows : int

        Returns
        -------
        pandas.Index, or array of datetime64 for "stamps"
        """
        return self._labels(n_rows, 0)

    def stamps(self, n_before: int, n_after: int) -> npt.NDArray[np.datetime64]:
        """Return the wall-clock times of the last steps and of the next ones.

        Parameters
        ----------
        n_before, n_after : int
            Steps up to the last label, which is one of them, and after it.

        Returns
        -------
        array of datetime64[ns] of shape (n_before + n_after,)
            Without time zone; a period stands at its start.

        Raises
        ------
        ValueError
            If labels are integers or time deltas, or times lie outside 1678 to 2261.
        """
        if self.kind in ("integer", "timedelta"):
            raise ValueError(
                f"a calendar needs dates, and the index is of kind {self.kind!r}. Make it a "
                "DatetimeIndex (pd.to_datetime on the index), or pass timestamps= with an array."
            )
        last = self.last
        if self.kind == "datetime" and str(self.freq)[-1].isupper():  # "D", "B", "MS", not "h"
            last = last.tz_localize(None)  # days and months go by the clock on the wall
        made = replace(self, last=last)._labels(n_before, n_after)
        if self.kind != "stamps":
            made = made.to_timestamp() if self.kind == "period" else made.tz_localize(None)
            made = made.to_numpy()
        beyond = "a calendar needs dates from 1678 to 2261; the index goes beyond."
        try:
            out: npt.NDArray[np.datetime64] = made.astype("M8[ns]")
        except OverflowError as error:  # numpy before 2.5 wraps around instead
            raise ValueError(beyond) from error
        if (out.astype(made.dtype) != made).any():
            raise ValueError(beyond)
        return out

    def ordinal(self) -> float:
        """Return the place of the last label on a count of steps that all series share.

        Rows of one frequency have consecutive ordinals, so that the phase of a season can be told
        for any of them: steps since 1970 (in time, not by the clock on the wall), months for
        months, the label over the step for integers.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If steps have no fixed length, as business days don't.

        Examples
        --------
        >>> import numpy as np
        >>> from mixlin.timestamps import read_timestamps
        >>> hours = np.datetime64("1970-01-02T00") + np.arange(5)
        >>> read_timestamps(hours)[0].ordinal()
        28.0
        """
        if self.kind == "integer":
            return int(self.last) / int(self.freq)
        if self.kind == "stamps":
            step = _parse_step(str(self.freq))
            if np.datetime_data(step.dtype)[0] in "YM":
                months = self.last.astype("datetime64[M]").astype(np.int64)
                return float(months / step.astype("timedelta64[M]").astype(np.int64))
            unit = np.promote_types(self.last.dtype, step.dtype.str.replace("m8", "M8"))
            finest = np.datetime_data(unit)[0]
            ticks = int(step.astype(f"timedelta64[{finest}]").astype(np.int64))
            return int(self.last.astype(unit).astype(np.int64)) / ticks
        import pandas as pd

        if self.kind == "period":
            freq: Any = pd.PeriodIndex([], freq=str(self.freq)).freq
            return float(self.last.ordinal / freq.n)
        offset: Any = pd.tseries.frequencies.to_offset(str(self.freq))
        length = _fixed_length(offset)
        if length is None and isinstance(offset, pd.offsets.Week):
            length = 7 * _DAY * int(offset.n)
        if length is None:
            months = _months_of(offset)
            if months is None:
                raise ValueError(
                    f"the steps of frequency {self.freq!r} have no fixed length, so that rows "
                    "can't be counted from one date to another. Resample to a fixed frequency."
                )
            return float((self.last.year * 12 + self.last.month - 1) / months)
        label: Any = self.last
        if self.kind == "datetime" and length % _DAY == 0:
            label = label.tz_localize(None)  # days by the clock on the wall
        return int(label.as_unit("ns").value) / length

    def ordinals_of(self, stamps: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
        """Return the ordinals of wall-clock times on the count of this index.

        Parameters
        ----------
        stamps : array of datetime64 of shape (n,)

        Returns
        -------
        array of shape (n,)
        """
        if self.kind == "stamps":
            step = _parse_step(str(self.freq))
            if np.datetime_data(step.dtype)[0] not in "YM":
                unit = np.promote_types(stamps.dtype, step.dtype.str.replace("m8", "M8"))
                finest = np.datetime_data(unit)[0]
                ticks = int(step.astype(f"timedelta64[{finest}]").astype(np.int64))
                return np.asarray(stamps.astype(unit).astype(np.int64) / ticks)
        distinct, which = np.unique(stamps, return_inverse=True)
        return np.array([self._ordinal_of(stamp) for stamp in distinct])[which]

    def _ordinal_of(self, stamp: np.datetime64) -> float:
        if self.kind == "stamps":
            return replace(self, last=stamp).ordinal()
        import pandas as pd

        label: Any = pd.Timestamp(stamp)
        if self.kind == "period":
            label = label.to_period(self.last.freq)
        elif self.kind == "timedelta":
            label = label - pd.Timestamp(0)
        elif self.kind == "datetime" and self.last.tz is not None:
            label = label.tz_localize(self.last.tz, ambiguous=True, nonexistent="shift_forward")
        return replace(self, last=label).ordinal()

    def _labels(self, n_before: int, n_after: int) -> Any:
        if self.kind == "stamps":
            step = _parse_step(str(self.freq))
            start = self.last
            if np.datetime_data(step.dtype)[0] in "YM":  # days can't be added to months
                start = start.astype(step.dtype.str.replace("m8", "M8"))
            return (start + step * np.arange(1 - n_before, n_after + 1)).astype(self.last.dtype)
        import pandas as pd

        if self.kind == "integer":
            by = int(self.freq)
            first, end = self.last + by * (1 - n_before), self.last + by * (n_after + 1)
            return pd.RangeIndex(first, end, by, name=self.name)
        makers: Any = {"period": pd.period_range, "timedelta": pd.timedelta_range}
        make = makers.get(self.kind, pd.date_range)
        made = make(self.last, periods=n_after + 1, freq=str(self.freq))[1:]
        if n_before:
            made = make(end=self.last, periods=n_before, freq=str(self.freq)).append(made)
        return made.rename(self.name)

    def first_after(self) -> Any:
        """Return the label of the step after the last one."""
        return self.continued(1)[0]

    def continues_as(self, other: TimeIndex, first: Any) -> bool:
        """Whether a series that starts at ``first`` with index ``other`` follows directly."""
        same = self.kind == other.kind and self.freq == other.freq
        return same and bool(self.first_after() == first)


def _parse_step(freq: str) -> Any:
    digits = "".join(ch for ch in freq if ch.isdigit())
    unit: Any = freq[len(digits) :]
    return np.timedelta64(int(digits or 1), unit)


def _format_step(count: int, unit: str) -> str:
    """Write a step in the largest unit that holds it whole."""
    if unit in ("Y", "M"):  # months have no length in days
        months = count * (12 if unit == "Y" else 1)
        return f"{months}M" if months % 12 else f"{months // 12}Y"
    step: Any = np.timedelta64(count, unit)  # type: ignore[call-overload]
    for larger in ("W", "D", "h", "m", "s", "ms", "us"):
        whole: Any = step.astype(f"timedelta64[{larger}]")
        if whole == step:
            return f"{int(whole.astype(np.int64))}{larger}"
    return f"{int(step.astype('timedelta64[ns]').astype(np.int64))}ns"


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


def regular_grid(values: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.intp]] | None:
    """Find the regular grid that labels stand on.

    Parameters
    ----------
    values : array of integers of shape (n_rows,)
        Increasing.

    Returns
    -------
    step : int
        The most frequent one.
    rows : array of shape (n_rows,)
        Place of every label on the grid; a jump by more than one is a gap.
    None instead, if a label lies off the grid or most of its places are empty.

    Raises
    ------
    ValueError
        If labels are unsorted or repeated.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.timestamps import regular_grid
    >>> step, rows = regular_grid(np.array([10, 20, 30, 50]))
    >>> step, rows.tolist()
    (10, [0, 1, 2, 4])
    """
    steps = _check_order(values)
    if not len(steps):
        return 1, np.zeros(len(values), dtype=np.intp)
    distinct, counts = np.unique(steps, return_counts=True)
    step = int(distinct[np.argmax(counts)])
    if (distinct % step).any():
        return None
    places = np.concatenate([[0], np.cumsum(steps // step)]).astype(np.intp)
    return None if _dense(places) is None else (step, places)


def _irregular(what: str) -> ValueError:
    return ValueError(
        f"the {what} is irregular: its steps are no multiples of one frequency, or most labels "
        "are missing. Resample to a regular frequency (frame.asfreq or frame.resample), or drop "
        "the index (frame.reset_index(drop=True))."
    )


def _other_frequency(what: str, freq: str | int) -> ValueError:
    return ValueError(
        f"the {what} does not step by {freq!r}, as the training series does, or misses most of its "
        "labels. Resample it to that frequency (frame.asfreq or frame.resample), or fit on a "
        "series of its own frequency."
    )


def _places(values: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.intp] | None:
    """Return each row's place on a grid of known step; None if off the grid."""
    steps = _check_order(values)
    if (steps % step).any():
        return None
    return _dense(np.concatenate([[0], np.cumsum(steps // step)]).astype(np.intp))


def _dense(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    return places if (places[-1] + 1) * (1 - _MAX_MISSING) <= len(places) else None


def read_timestamps(
    timestamps: npt.ArrayLike, n_rows: int | None = None, *, like: TimeIndex | None = None
) -> tuple[TimeIndex, npt.NDArray[np.intp]]:
    """Read the stamps that come with an array.

    Parameters
    ----------
    timestamps : array-like of shape (n_rows,)
        ``datetime64``, or what numpy turns into it.
    n_rows : int, optional
        Rows of the series.
    like : TimeIndex, optional
        Whose step is meant.

    Returns
    -------
    index : TimeIndex
    rows : array of shape (n_rows,)
        Place of every row on the regular grid; a jump by more than one is a gap.

    Raises
    ------
    ValueError
        If the length differs, or stamps are missing, unsorted, repeated or irregular, or do not
        step as ``like`` does.

    Examples
    --------
    >>> from mixlin.timestamps import read_timestamps
    >>> index, rows = read_timestamps(["2024-01-01", "2024-02-01", "2024-04-01"])
    >>> index.freq, rows.tolist()
    ('1M', [0, 1, 3])
    """
    stamps = np.asarray(timestamps)
    if stamps.dtype.kind != "M":
        try:
            if stamps.dtype.kind not in "OSU":
                raise TypeError  # numpy would take numbers for dates
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
    unit, count = np.datetime_data(stamps.dtype)
    if like is not None and like.kind == "stamps":
        return _stamps_like(stamps, like)
    months = stamps.astype("datetime64[M]")
    if len(stamps) > 1 and (months.astype(stamps.dtype) == stamps).all():
        unit, count, ordinals = "M", 1, months.astype(np.int64)
    else:
        ordinals = stamps.astype(np.int64)
    grid = regular_grid(ordinals)
    if grid is None:
        raise _irregular("series of timestamps")
    return TimeIndex("stamps", stamps[-1], _format_step(grid[0] * count, unit)), grid[1]


def _stamps_like(
    stamps: npt.NDArray[np.datetime64], like: TimeIndex
) -> tuple[TimeIndex, npt.NDArray[np.intp]]:
    step = _parse_step(str(like.freq))
    rows = None
    if np.datetime_data(step.dtype)[0] in "YM":
        months = stamps.astype("datetime64[M]")
        if (months.astype(stamps.dtype) == stamps).all():
            rows = _places(months.astype(np.int64), int(step.astype("timedelta64[M]").astype(int)))
    else:
        finer = np.promote_types(stamps.dtype, step.dtype.str.replace("m8", "M8"))
        unit = np.datetime_data(finer)[0]
        rows = _places(
            stamps.astype(finer).astype(np.int64),
            int(step.astype(f"timedelta64[{unit}]").astype(np.int64)),
        )
    if rows is None:
        raise _other_frequency("series of timestamps", like.freq)
    return TimeIndex("stamps", stamps[-1], like.freq), rows


def read_index(
    index: pd.Index, *, like: TimeIndex | None = None
) -> tuple[TimeIndex, npt.NDArray[np.intp]]:
    """Read the index of a frame.

    Parameters
    ----------
    index : pandas.Index
        Dates, periods, time deltas or integers, increasing; gaps are allowed.
    like : TimeIndex, optional
        Whose step is meant, if the index is of its kind.

    Returns
    -------
    index : TimeIndex
    rows : array of shape (n_rows,)
        Place of every row on the regular grid; a jump by more than one is a gap.

    Raises
    ------
    ValueError
        If labels are unsorted, repeated or irregular, of another kind, or do not step as ``like``
        does.
    """
    import pandas as pd

    last: Any
    if isinstance(index, pd.PeriodIndex):
        kind, last = "period", index[-1]
    elif isinstance(index, pd.DatetimeIndex):
        kind, last = "datetime", index[-1]
    elif isinstance(index, pd.TimedeltaIndex):
        kind, last = "timedelta", index[-1]
    elif pd.api.types.is_integer_dtype(index.dtype):
        kind, last = "integer", int(index[-1])
    else:
        raise ValueError(
            f"an index of dtype {index.dtype} can't be continued: use dates, periods or integers "
            "(pd.to_datetime on the index, or frame.reset_index(drop=True))."
        )
    if index.hasnans:
        raise ValueError("the index holds missing labels; every row needs its time.")
    _check_order(_ordinals(index))
    if like is not None and like.kind == kind:
        freq, rows = like.freq, _places_at(index, like.freq)
        if rows is None:
            raise _other_frequency("index", freq)
    else:
        found = _regular(index)
        if found is None:
            raise _irregular("index")
        freq, rows = found
    return TimeIndex(kind, last, freq, index.name), rows


def _ordinals(index: pd.Index) -> npt.NDArray[np.int64]:
    """Return labels as integers: nanoseconds for dates, whatever their unit."""
    if hasattr(index, "as_unit"):
        index = index.as_unit("ns")
    return np.asarray(getattr(index, "asi8", index), dtype=np.int64)


def _regular(index: pd.Index) -> tuple[str | int, npt.NDArray[np.intp]] | None:
    """Find the frequency of an index, and each row's place at it."""
    import pandas as pd

    everything = np.arange(len(index), dtype=np.intp)
    if isinstance(index, pd.PeriodIndex):
        grid = regular_grid(_ordinals(index))
        unit: Any = index.freq
        if grid is None:
            return None
        return str(pd.PeriodIndex([], freq=unit.base * grid[0]).freqstr), grid[1]
    if not isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        return regular_grid(_ordinals(index))
    freq = index.freqstr or _inferred(index)
    if freq is not None:
        return freq, everything
    if isinstance(index, pd.DatetimeIndex):
        for candidate in _calendar_steps(index):
            rows = _places_at(index, candidate)
            if rows is not None:
                return candidate, rows
        # wall-clock time: daily steps in a zone with daylight saving are still daily
        wall = regular_grid(_ordinals(index.tz_localize(None)))
        grid = regular_grid(_ordinals(index)) or (wall if wall and wall[0] % _DAY == 0 else None)
    else:
        grid = regular_grid(_ordinals(index))
    if grid is None:
        return None
    days, rest = divmod(grid[0], _DAY)
    step = pd.tseries.frequencies.to_offset(f"{days}D" if not rest else pd.Timedelta(grid[0]))
    assert step is not None
    return step.freqstr, grid[1]


def _inferred(index: pd.DatetimeIndex | pd.TimedeltaIndex) -> str | None:
    import pandas as pd

    if len(index) < 3:
        return None
    option = "future.infer_freq_returns_offset"  # which newer releases warn about when it is off
    known = hasattr(pd.options.future, option.partition(".")[2])
    with pd.option_context(option, True) if known else nullcontext():
        found: Any = pd.infer_freq(index)
    return None if found is None else str(getattr(found, "freqstr", found))


def _calendar_steps(index: pd.DatetimeIndex) -> list[str]:
    """Return frequencies of no fixed length that an index with gaps may have."""
    if len(index) < 3 or (index != index.normalize()).any():
        return []
    out = []
    for unit, matches in (("MS", index.is_month_start), ("ME", index.is_month_end)):
        if matches.all():
            months = regular_grid(np.asarray(index.year * 12 + index.month, dtype=np.int64))
            out += [f"{months[0]}{unit}"] if months is not None else []
    days = np.diff(_ordinals(index.tz_localize(None))) // _DAY
    weekend = index.day_of_week >= 5
    if not weekend.any() and np.median(days) == 1 and (days > 2).any():
        out.append("B")
    return out


def _places_at(index: pd.Index, freq: str | int) -> npt.NDArray[np.intp] | None:
    """Return each row's place at a known frequency; None if off the grid."""
    import pandas as pd

    values = _ordinals(index)
    if isinstance(freq, int):
        return _places(values, freq)
    if isinstance(index, pd.PeriodIndex):
        period: Any = pd.PeriodIndex([], freq=freq).freq
        unit: Any = index.freq
        same = unit.base == period.base
        return _places(values, int(period.n)) if same else None
    offset = pd.tseries.frequencies.to_offset(freq)
    assert offset is not None
    length = _fixed_length(offset)
    if length is not None:
        if isinstance(index, pd.DatetimeIndex) and length % _DAY == 0:
            values = _ordinals(index.tz_localize(None))  # days by the clock on the wall
        return _places(values, length)
    rows = pd.date_range(index[0], index[-1], freq=offset).get_indexer(index)
    return None if (rows < 0).any() else _dense(np.asarray(rows, dtype=np.intp))


def _fixed_length(offset: Any) -> int | None:
    """Return the nanoseconds of an offset, None for months and the like."""
    import pandas as pd

    if isinstance(offset, pd.offsets.Day):
        return int(offset.n) * _DAY
    if isinstance(offset, pd.offsets.Tick):
        return int(pd.Timedelta(offset).as_unit("ns").value)
    return None


def _months_of(offset: Any) -> int | None:
    """Return the months of an offset, None for business days and the like."""
    name = str(offset.name).partition("-")[0]
    months = {"MS": 1, "ME": 1, "QS": 3, "QE": 3, "YS": 12, "YE": 12}.get(name)
    return None if months is None else months * int(offset.n)


def check_step(
    labels: Any, rows: npt.NDArray[np.intp], freq: str | int, *, like: bool = False
) -> None:
    """Refuse labels that keep to another step for long: they step differently, with no gaps.

    Parameters
    ----------
    labels : sequence of length n
    rows : array of shape (n,)
        Their places on the grid, from :func:`read_index` or :func:`read_timestamps`.
    freq : str or int
        Its step.
    like : bool
        Whether that is the step of the training series.

    Raises
    ------
    ValueError
        If all labels, or many in a row, lie the same number of steps apart, and more than one.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.timestamps import check_step
    >>> check_step([0, 1, 2, 4, 5], np.array([0, 1, 2, 4, 5]), 1)
    >>> check_step([0, 2, 4, 6, 8], np.array([0, 2, 4, 6, 8]), 1, like=True)
    Traceback (most recent call last):
        ...
    ValueError: the series steps by 2 x 1, and the training series by 1. Resample it to that ...
    """
    steps = np.diff(rows)
    if not (steps > 1).any():
        return
    begins = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
    lengths = np.diff(begins, append=len(steps))
    enough = min(_LONG_RUN, max(_FEWEST_STEPS, len(steps)))
    other = np.flatnonzero((steps[begins] > 1) & (lengths >= enough))
    if not len(other):
        return
    i = int(other[np.argmax(lengths[other])])
    begin, end, factor = int(begins[i]), int(begins[i] + lengths[i]), int(steps[begins[i]])
    if lengths[i] == len(steps):
        raise ValueError(
            f"the series steps by {factor} x {freq!r}, and the training series by {freq!r}. "
            "Resample it to that frequency (frame.resample), or fit on a series of its own "
            "frequency."
        )
    others = "the training series steps" if like else "the others step"
    raise ValueError(
        f"the frequency of the series changes: from {labels[begin]} to {labels[end]} its rows "
        f"step by {factor} x {freq!r}, and {others} by {freq!r}. Resample it to one frequency "
        "(frame.resample), or pass the rows of one only."
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
