"""Long frames: many series one under another, put on their regular grids all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .clock import Clock
from .search import find_steps
from .steps import Steps

if TYPE_CHECKING:
    import pandas as pd

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_PER_DAY = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_NUMBERS = ("integer", "floating", "mixed-integer", "mixed-integer-float", "boolean", "decimal")


@dataclass(frozen=True, eq=False)
class LongFrame:
    """The series of a long frame on their grids.

    Parameters
    ----------
    ids : pandas.Index of shape (n_series,), or None
        None where no column names the series: there is one.
    values : list of array of shape (T,)
        NaN where a value or a row is missing.
    steps : Steps
        How their times go on.
    """

    ids: pd.Index | None
    values: list[Float64Array]
    steps: Steps

    def name(self, i: int) -> str:
        """Return what errors call a series."""
        return _name(self.ids, i)


def _name(ids: pd.Index | None, i: int) -> str:
    return "the series" if ids is None else f"series {str(ids[i])!r}"


def read_long_frame(
    frame: pd.DataFrame,
    id_column: str | None,
    time_column: str,
    target_column: str,
    *,
    one_frequency: bool = False,
    like: Steps | None = None,
) -> LongFrame:
    """Read the series of a long frame.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Rows in any order. A time that is missing between two rows of a series is a missing value.
    id_column : str, optional
        Names the series of a row; without it all rows are one series.
    time_column : str
        Dates, periods, time deltas, integers, or text such as "2024-01-31 12:00".
    target_column : str
        Numbers; NaN where one is missing.
    one_frequency : bool
        Refuse series that do not step as most do.
    like : Steps, optional
        Of series read before: all must step as they do, and times must be of their kind.

    Returns
    -------
    LongFrame
        Series in the order of their first rows.

    Raises
    ------
    ValueError
        If there is no row, an id or a time is missing, a series has a time twice or follows no
        step, or if the target is not made of numbers, is infinite, or lacks in a whole series; if
        steps differ where they must not.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixlin.long_frames import read_long_frame
    >>> frame = pd.DataFrame(
    ...     {"shop": ["b", "b", "b", "a", "a", "a"], "year": [3, 1, 2, 1, 2, 4], "sold": range(6)}
    ... )
    >>> read = read_long_frame(frame, "shop", "year", "sold")
    >>> list(read.ids), [series.tolist() for series in read.values]
    (['b', 'a'], [[1.0, 2.0, 0.0], [3.0, 4.0, nan, 5.0]])
    >>> list(read.steps.continued(2))
    [4, 5, 5, 6]
    """
    if not len(frame):
        raise ValueError("the long frame has no rows; there is nothing to forecast from.")
    values = _numbers(_only(frame, target_column), target_column)
    times = _only(frame, time_column)
    if like is not None:
        times = _like(times, like.clock, time_column)
    clock, ordinals, wall = _times(times, time_column)
    codes, ids = _codes(frame, id_column)
    order = _order(codes, ordinals)
    if order is not None:
        codes, values, ordinals = codes[order], values[order], ordinals[order]
        wall = ordinals if clock.zone is None else wall[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    stops = np.append(starts[1:], len(codes))
    _refuse_repeated(clock, ordinals, stops, ids, time_column)
    _refuse_values(values, starts, stops, ids, target_column)
    known = None if like is None else like.frequencies()[0]
    steps = find_steps(clock, ordinals, wall, starts, stops, known)
    frequencies = steps.frequencies(stops - starts)
    if one_frequency and len(frequencies) > 1 and (steps.step > 0).all():
        for frequency in frequencies:  # a series of few rows may step in more ways than one
            again = find_steps(clock, ordinals, wall, starts, stops, frequency)
            if (again.step > 0).all() and again.rows.keys() <= steps.rows.keys():
                steps = again
                break
        else:
            raise _mixed(ids, steps, frequencies[0])
    bad = np.flatnonzero(steps.step == 0)
    if len(bad) and like is not None:
        raise _unlike(ids, bad, like)
    if len(bad):
        raise _unreadable(ids, bad, stops - starts, time_column)
    on_grid = [values[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    for i, rows in steps.rows.items():
        filled = np.full(int(rows[-1]) + 1, np.nan)
        filled[rows] = on_grid[i]
        on_grid[i] = filled
    return LongFrame(ids, on_grid, steps)


def _like(column: Any, clock: Clock, name: str) -> Any:
    """Give times the dtype of those read before."""
    import pandas as pd

    text = getattr(column.dtype, "kind", "O") in "OSU" and not isinstance(
        column.dtype, (pd.CategoricalDtype, pd.PeriodDtype)
    )
    if text and clock.per_day:
        column = pd.Series(_parsed(column, name))
    kind, zone = getattr(column.dtype, "kind", "O"), getattr(column.dtype, "tz", None)
    wanted: Any = clock.dtype
    if isinstance(wanted, pd.PeriodDtype) or isinstance(column.dtype, pd.PeriodDtype):
        fits = column.dtype == wanted
    elif wanted.kind in "mM":
        fits = kind == wanted.kind and (zone is None) == (clock.zone is None)
        if fits and column.dtype != wanted:
            column = column.astype(wanted)
    else:
        fits = kind in "iu"
    if not fits:
        raise ValueError(
            f"column {name!r} holds times of dtype {column.dtype}, those of the fit are of dtype "
            f"{wanted}. Convert it first, for example with pd.to_datetime."
        )
    return column


def _only(frame: pd.DataFrame, name: str) -> Any:
    """Return the column of a name."""
    column: Any = frame[name]
    if column.ndim != 1:
        raise ValueError(f"the frame has {column.shape[1]} columns {name!r}; keep one of them.")
    return column


def _codes(frame: pd.DataFrame, id_column: str | None) -> tuple[IntArray, pd.Index | None]:
    """Return the number of every row's series, in the order of first rows."""
    import pandas as pd

    if id_column is None:
        return np.zeros(len(frame), dtype=np.int64), None
    codes, ids = pd.factorize(_only(frame, id_column))
    missing = int((codes < 0).sum())
    if missing:
        raise ValueError(
            f"column {id_column!r} is empty in {missing} row{'s' if missing > 1 else ''}: which "
            "series they belong to is not known. Fill or drop them (frame.dropna)."
        )
    return codes.astype(np.int64, copy=False), pd.Index(ids, name=id_column)


def _order(codes: IntArray, ordinals: IntArray) -> npt.NDArray[np.intp] | None:
    """Return the order of rows by series and time; None if they are in it."""
    order: npt.NDArray[np.intp] | None = None
    if (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        codes, ordinals = codes[order], ordinals[order]
    backwards = np.flatnonzero((np.diff(ordinals) < 0) & (np.diff(codes) == 0))
    if not len(backwards):
        return order
    if order is None:
        order = np.arange(len(codes))
    stops = np.cumsum(np.bincount(codes))
    # series by series in cache, which is faster than all rows by two keys
    for i in np.flatnonzero(np.bincount(codes[backwards])).tolist():
        block = slice(stops[i - 1] if i else 0, stops[i])
        order[block] = order[block][np.argsort(ordinals[block])]
    return order


def _numbers(column: Any, name: str) -> Float64Array:
    if getattr(column.dtype, "kind", "O") not in "biuf":
        raise ValueError(
            f"column {name!r} of dtype {column.dtype} holds no numbers. Convert it first, for "
            "example with pd.to_numeric, or name another target_column."
        )
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _times(column: Any, name: str) -> tuple[Clock, IntArray, IntArray]:
    """Read the time column as integers, also on the clock on the wall."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(
            f"column {name!r} is empty in {missing} row{'s' if missing > 1 else ''}; every row "
            "needs its time. Fill or drop them (frame.dropna)."
        )
    kind = getattr(column.dtype, "kind", "O")
    if kind in "iu":
        ordinals = column.to_numpy(dtype=np.int64)
        return Clock(ordinals.dtype), ordinals, ordinals
    index: Any
    if kind in "mM" or isinstance(column.dtype, pd.PeriodDtype):
        index = pd.Index(column)
    elif kind in "OSU":
        index = pd.Index(_parsed(column, name))
    else:
        raise ValueError(
            f"column {name!r} of dtype {column.dtype} can't be continued: use dates, periods or "
            "integers (pd.to_datetime), or name another time_column."
        )
    ordinals = np.asarray(index.asi8)
    if not isinstance(index, pd.DatetimeIndex):
        return Clock(index.dtype), ordinals, ordinals
    wall = ordinals if index.tz is None else np.asarray(index.tz_localize(None).asi8)
    return Clock(index.dtype, _PER_DAY[index.unit]), ordinals, wall


def _parsed(column: Any, name: str) -> Any:
    """Read text, and objects such as datetime.date, as dates; nothing is guessed."""
    import pandas as pd

    try:
        if pd.api.types.infer_dtype(column, skipna=False) in _NUMBERS:
            raise ValueError  # pandas would take them for nanoseconds
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError):
        raise ValueError(
            f"column {name!r} of dtype {column.dtype} holds no times that are safe to read, such "
            f"as '2024-01-31 12:00'. Convert it first: frame[{name!r}] = "
            f"pd.to_datetime(frame[{name!r}], ...)."
        ) from None


def _refuse_repeated(
    clock: Clock, ordinals: IntArray, stops: IntArray, ids: pd.Index | None, time_column: str
) -> None:
    same = np.diff(ordinals) == 0
    same[stops[:-1] - 1] = False
    places = np.flatnonzero(same)
    if len(places):
        row = int(places[0])
        name = _name(ids, int(np.searchsorted(stops, row, side="right")))
        by = repr(time_column) if ids is None else f"{ids.name!r} and {time_column!r}"
        raise ValueError(
            f"{len(places)} row{'s repeat' if len(places) > 1 else ' repeats'} {by} of another "
            f"one, such as {clock.labels(ordinals[row : row + 1])[0]} of {name}. Drop or aggregate "
            "them (frame.drop_duplicates, frame.groupby)."
        )


def _refuse_values(
    values: Float64Array, starts: IntArray, stops: IntArray, ids: pd.Index | None, target: str
) -> None:
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        name = _name(ids, int(np.searchsorted(stops, infinite[0], side="right")))
        raise ValueError(
            f"column {target!r} is infinite in {len(infinite)} "
            f"row{'s' if len(infinite) > 1 else ''}, such as one of {name}. Write NaN where a "
            "value is not known."
        )
    empty = np.flatnonzero(~np.logical_or.reduceat(~np.isnan(values), starts))
    if len(empty):
        others = f" ({len(empty)} series are like that)" if len(empty) > 1 else ""
        raise ValueError(
            f"{_name(ids, int(empty[0]))} has no value in column {target!r}{others}. Drop what "
            "can't be forecast."
        )


def _spoken(steps: Steps, i: int) -> str:
    """Return what errors call the step of a series."""
    before, after = steps.taking(np.array([i])).continued(2)
    if isinstance(before, (int, np.integer)):
        return str(int(after - before))
    return f"from {before} to {after}"


def _mixed(ids: pd.Index | None, steps: Steps, frequency: tuple[int, int]) -> ValueError:
    others = steps.others(frequency)
    first, usual = int(others[0]), steps.usual(frequency)
    like = f" ({len(others)} series differ)" if len(others) > 1 else ""
    return ValueError(
        f"all series must have one frequency: {_name(ids, first)} steps {_spoken(steps, first)}, "
        f"{_name(ids, usual)} and others {_spoken(steps, usual)}{like}. Resample them to one "
        "frequency, add the rows that are missing with NaN, or fit a model to each."
    )


def _unlike(ids: pd.Index | None, bad: npt.NDArray[np.intp], like: Steps) -> ValueError:
    usual = like.usual(like.frequencies()[0])
    others = f" ({len(bad)} series are like that)" if len(bad) > 1 else ""
    return ValueError(
        f"{_name(ids, int(bad[0]))} does not step as the series of the fit do, "
        f"{_spoken(like, usual)}, or most of its rows are missing{others}. Resample to that "
        "frequency, or fit again."
    )


def _unreadable(
    ids: pd.Index | None, bad: npt.NDArray[np.intp], counts: IntArray, time_column: str
) -> ValueError:
    first = int(bad[0])
    others = f" ({len(bad)} series are like that)" if len(bad) > 1 else ""
    if counts[first] == 1:
        return ValueError(
            f"{_name(ids, first)} has one row, which does not tell the step from row to row"
            f"{others}. Pass more rows, or the values alone as arrays."
        )
    return ValueError(
        f"the times of {_name(ids, first)} in column {time_column!r} are irregular{others}: their "
        "steps are no multiples of one frequency, or most rows are missing. Resample to a regular "
        "frequency, or pass the values alone as arrays."
    )
