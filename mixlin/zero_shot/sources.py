"""From what a caller passes to plain arrays, and from forecasts to the same containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base.series import Series, place_series
from ..long_frames import PARTS, Columns, LongFrame, is_long_frame, long_columns, read_long_frame
from ..long_frames.columns import listed
from ..windows import Container, is_many, is_pandas, read_values, refuse_stacked_windows

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WideSource:
    """An array, a pandas Series, or a frame with one column per channel.

    Parameters
    ----------
    series : Series
    labels : pandas.Index of shape (horizon,), or None
        Of the forecast; None for arrays.
    called : str
        What errors call it.
    """

    series: Series
    labels: Any
    called: str

    def name(self, channel: int) -> str:
        """Return what errors call a channel."""
        return _channel(self.called, self.series.container, channel)

    @property
    def values(self) -> list[Float64Array]:
        """One array of shape (T,) for every channel."""
        return list(np.ascontiguousarray(self.series.values.T, dtype=np.float64))

    def contained(self, forecast: Float64Array) -> Any:
        """Put forecasts into what the caller passed.

        Parameters
        ----------
        forecast : array of shape (n_channels, horizon) or (n_channels, horizon, 3)

        Returns
        -------
        array, Series or DataFrame
        """
        container = self.series.container
        rows = np.moveaxis(forecast, 0, 1).astype(self.series.values.dtype)  # (H, C[, 3])
        if container.kind == "array":
            return rows[:, 0] if container.ndim == 1 else rows
        import pandas as pd

        if container.kind == "series":
            if rows.ndim == 2:
                return pd.Series(rows[:, 0], index=self.labels, name=container.columns)
            return pd.DataFrame(rows[:, 0], index=self.labels, columns=list(PARTS))
        columns = container.columns
        if rows.ndim == 3:
            columns = pd.MultiIndex.from_product([columns, PARTS], names=["channel", "value"])
        return pd.DataFrame(rows.reshape(len(rows), -1), index=self.labels, columns=columns)


@dataclass(frozen=True, eq=False)
class LongSource:
    """A long frame.

    Parameters
    ----------
    frame : LongFrame
    labels : pandas.Index of shape (n_series * horizon,)
        Of the forecasts.
    time_column : str
    dtype : dtype
        Of the forecasts.
    """

    frame: LongFrame
    labels: Any
    time_column: str
    dtype: npt.DTypeLike

    def name(self, i: int) -> str:
        """Return what errors call a series."""
        return self.frame.name(i)

    @property
    def values(self) -> list[Float64Array]:
        """One array of shape (T,) for every series."""
        return self.frame.values

    def contained(self, forecast: Float64Array) -> Any:
        """Put forecasts into a long frame.

        Parameters
        ----------
        forecast : array of shape (n_series, horizon) or (n_series, horizon, 3)

        Returns
        -------
        DataFrame
        """
        import pandas as pd

        n_series, horizon = forecast.shape[:2]
        rows = forecast.reshape(n_series * horizon, -1).astype(self.dtype)
        table: dict[Any, Any] = {}
        if self.frame.ids is not None:
            table[self.frame.ids.name] = self.frame.ids.repeat(horizon)
        table[self.time_column] = self.labels
        table.update(zip(PARTS, rows.T, strict=False))
        return pd.DataFrame(table)


Source = WideSource | LongSource


def read_sources(
    series: Any, horizon: int, columns: Columns, timestamps: Any
) -> tuple[list[Source], bool]:
    """Read one series or many, of any kind.

    Parameters
    ----------
    series, timestamps
        As in :func:`mixlin.forecast`.
    horizon : int
    columns : Columns
        Of long frames.

    Returns
    -------
    sources : list of WideSource or LongSource
    many : bool
        Whether a list was passed.

    Raises
    ------
    ValueError
        If something is no series, is empty, infinite or without a value, or its times do not
        follow one step.
    """
    refuse_strangers(series, "series")
    if not is_many(series):
        return [_read(series, "series", horizon, columns, timestamps)], False
    if timestamps is None:
        stamps: list[Any] = [None] * len(series)
    else:
        stamps = list(timestamps)
        if len(stamps) != len(series):
            raise ValueError(
                "timestamps must be a list with one array per series, "
                f"{len(series)}; got {len(stamps)}."
            )
    return [
        _read(item, f"series[{i}]", horizon, columns, stamp)
        for i, (item, stamp) in enumerate(zip(series, stamps, strict=True))
    ], True


def refuse_strangers(series: Any, name: str) -> None:
    """Refuse what is no series, with what to do instead.

    Parameters
    ----------
    series : object
    name : str
        What errors call it.

    Raises
    ------
    ValueError
    """
    if isinstance(series, (list, tuple)):
        if not len(series):
            raise ValueError(f"{name} is empty; there is nothing to forecast from.")
        for i, item in enumerate(series):
            plain = (int, float, np.generic, np.ndarray, list, tuple, str)
            if item is not None and not isinstance(item, plain):
                refuse_strangers(item, f"{name}[{i}]")
        return
    instead = None
    if series is None or isinstance(series, (str, bytes, PathLike)):
        instead = "read the values first, for example with pandas.read_csv"
    elif isinstance(series, Mapping):
        instead = "pass a list of series, for example list(series.values())"
    elif type(series).__module__.partition(".")[0] == "polars":
        instead = f"pass {name}.to_pandas()"
    elif hasattr(series, "__next__"):
        instead = "pass a list of series"
    if instead is not None:
        raise ValueError(
            f"{name} must be an array, a pandas Series or DataFrame, or a list of these; got "
            f"{type(series).__name__}. Please {instead}."
        )


def _read(item: Any, name: str, horizon: int, columns: Columns, stamps: Any) -> Source:
    shape: tuple[int, ...] = getattr(item, "shape", ())
    if len(shape) > 2:
        raise ValueError(
            f"{name} has shape {shape}; one series has shape (n_rows,) or (n_rows, n_channels). "
            "Pass a list of arrays for many series."
        )
    if 0 in shape:
        raise ValueError(f"{name} has shape {shape} and is empty; there is nothing to forecast.")
    if hasattr(item, "columns") and is_pandas(item):
        if is_long_frame(item, columns):
            item, id_column = long_columns(item, columns)
            return _read_long(item, horizon, id_column, columns, stamps)
        _refuse_unknown_names(item, columns)
    if getattr(getattr(item, "dtype", None), "kind", "f") == "c":
        raise ValueError(
            f"{name} holds complex numbers. Pass real and imaginary parts as channels."
        )
    try:
        values, container = read_values(item, name=name)
    except ValueError as error:
        if "infinity" not in str(error):
            raise
        raise ValueError(
            f"{name} holds infinite values. Write NaN where a value is not known."
        ) from error
    refuse_stacked_windows(values, name=name, instead="")
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        what = _channel(name, container, int(empty[0]))
        raise ValueError(f"{what} has no value that is not missing. Leave it out.")
    if container.kind != "array" and len(item) == 1 and _lacks_step(item.index):
        raise ValueError(
            f"{name} has one row, which does not tell the step of its index. Give the index a "
            "frequency (frame.asfreq('D')), pass more rows, or the values alone as an array."
        )
    try:
        series = place_series(item, values, container, stamps)
    except ValueError as error:
        if name == "series":
            raise
        raise ValueError(f"{name}: {error}") from error
    labels = None
    if container.kind != "array":
        assert series.index is not None
        labels = _labels_after(series, horizon)
    return WideSource(series, labels, name)


def _channel(name: str, container: Container, channel: int) -> str:
    if container.kind == "frame":
        return f"column {str(container.columns[channel])!r} of {name}"
    return f"channel {channel} of {name}" if container.ndim == 2 else name


def _lacks_step(index: Any) -> bool:
    return index.dtype.kind in "mM" and getattr(index, "freq", None) is None


def _labels_after(series: Series, horizon: int) -> Any:
    assert series.index is not None
    try:
        return series.index.continued(horizon)
    except (OverflowError, ValueError) as error:  # pandas' own speaks of ranges
        raise ValueError(
            f"{horizon} steps of {series.index.freq!r} after {series.index.last} lead beyond the "
            "times that the index can hold. Shorten the horizon, or convert the index to a coarser "
            "unit (index.as_unit('s')) or to numbers (frame.reset_index(drop=True))."
        ) from error


def _refuse_unknown_names(frame: Any, columns: Columns) -> None:
    """Refuse a wide frame where columns of a long one were named that it does not have."""
    usual = Columns()
    for name, known in (
        (columns.id, usual.id),
        (columns.time, usual.time),
        (columns.target, usual.target),
    ):
        if name != known and name not in frame.columns:
            raise ValueError(
                f"the frame has no column {name!r}; its columns are {listed(frame)}. A long frame "
                "has a time_column and a target_column; a wide one has its times in the index."
            )


def _read_long(
    frame: Any, horizon: int, id_column: str | None, columns: Columns, stamps: Any
) -> LongSource:
    if stamps is not None:
        raise ValueError(
            f"the column {columns.time!r} of a long frame tells the time; timestamps= is for "
            "arrays. Leave timestamps out."
        )
    read = read_long_frame(frame, id_column, columns.time, columns.target)
    single = getattr(frame[columns.target].dtype, "name", "") == "float32"
    dtype = np.float32 if single else np.float64
    return LongSource(read, read.steps.continued(horizon), columns.time, dtype)
