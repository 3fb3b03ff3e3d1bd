"""The times of windows: what a caller gives becomes one stamp per step."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ..timestamps import TimeIndex

StampArray = npt.NDArray[np.datetime64]

_NEIGHBORS = 64  # pairs of windows that are looked at

_HOW = (
    "Pass a frame whose index holds dates, or timestamps= (one datetime64 per row of a series, the "
    "first one of every window), or choose a router that needs none (router='statistics')."
)


def missing_stamps(what: str) -> ValueError:
    """Return the error for data without times.

    Parameters
    ----------
    what : str
        Which data.

    Returns
    -------
    ValueError
    """
    return ValueError(f"this model is routed by the calendar, but {what} no timestamps. {_HOW}")


def series_stamps(index: TimeIndex | None, n_before: int, n_after: int, what: str) -> StampArray:
    """Return the stamps of the end of a series and of the steps that follow.

    Parameters
    ----------
    index : TimeIndex or None
    n_before, n_after : int
    what : str
        What errors call the series.

    Returns
    -------
    array of shape (n_before + n_after,)
        datetime64[ns]

    Raises
    ------
    ValueError
        If the series has no dates.
    """
    if index is None:
        raise missing_stamps(f"{what} has")
    try:
        return index.stamps(n_before, n_after)
    except ValueError as error:
        raise ValueError(f"this model is routed by the calendar, but of {what}: {error}") from error


def missing_ordinals() -> ValueError:
    """Return the error for data without a place in the seasons.

    Returns
    -------
    ValueError
    """
    return ValueError(
        "this model has calendar terms, and what it got has no times. Pass a frame with an index, "
        "or timestamps= (one datetime64 per row), or fit without them (calendar=0)."
    )


def series_ordinal(index: TimeIndex | None) -> float:
    """Return the ordinal of the last row of a series.

    Parameters
    ----------
    index : TimeIndex or None

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the series has no times, or steps of no fixed length.
    """
    if index is None:
        raise missing_ordinals()
    return index.ordinal()


def fixed_step(index: TimeIndex) -> int | None:
    """Return the nanoseconds of an index's step, None where it has no fixed length.

    Parameters
    ----------
    index : TimeIndex
    """
    steps = np.diff(index.stamps(1, 60).astype(np.int64))
    return int(steps[0]) if (steps == steps[0]).all() else None


def read_window_stamps(
    timestamps: Any, n_windows: int, lookback: int, horizon: int, step: int | None
) -> tuple[StampArray, int | None]:
    """Read the times of windows.

    Parameters
    ----------
    timestamps : array-like of shape (n,), (n, lookback) or (n, lookback + horizon)
        Of every window's first step, of its steps, or also of those to forecast.
    n_windows, lookback, horizon : int
    step : int, optional
        Nanoseconds between steps, where the model knows them.

    Returns
    -------
    stamps : array of shape (n, lookback + horizon)
        datetime64[ns]
    step : int or None
        None where steps differ in length, as months do.

    Raises
    ------
    ValueError
        For another shape or dtype, for missing, repeated, unsorted or irregular stamps, or for
        another step than the model's.
    """
    length = lookback + horizon
    given = np.asarray(timestamps)
    if given.dtype.kind != "M":
        try:
            if given.dtype.kind not in "OSU":
                raise TypeError  # numpy would take numbers for dates
            given = given.astype("datetime64")
        except (ValueError, TypeError):
            raise ValueError(
                f"timestamps must be datetime64 values; got dtype {given.dtype}."
            ) from None
    accepted = [(n_windows,), (n_windows, lookback), (n_windows, length)]
    if given.shape not in accepted:
        raise ValueError(
            f"timestamps of windows must have one of the shapes {accepted[0]} (of every window's "
            f"first step), {accepted[1]} or {accepted[2]} (also of the steps to forecast); got "
            f"{given.shape}."
        )
    if np.isnat(given).any():
        raise ValueError("timestamps hold NaT; every window needs its times.")
    counts = given.astype("datetime64[ns]").astype(np.int64)
    if counts.ndim == 2 and counts.shape[1] > 1:
        steps = np.diff(counts, axis=1)
        if (steps <= 0).any():
            raise ValueError(
                "the timestamps of a window must increase from step to step; some repeat or are "
                "not sorted. Pass them in the order of the window's columns."
            )
        even = bool((steps == steps.flat[0]).all()) if steps.size else True
        if not even and counts.shape[1] < length:
            raise ValueError(
                "the timestamps of the windows do not step evenly, so those of the steps to "
                f"forecast can't be told. Pass all of them, shape {accepted[2]}, or windows of one "
                "frequency."
            )
        found = int(steps.flat[0]) if even and steps.size else None
        if step is not None and steps.size and found != step:
            raise ValueError(
                f"the timestamps step by {_spoken(found)}, but the model was fitted on steps of "
                f"{_spoken(step)}. Resample the windows to that frequency, or fit again."
            )
        if counts.shape[1] == length:
            return counts.astype("datetime64[ns]"), found
        step = found
        counts = counts[:, 0]
    counts = counts.reshape(n_windows)
    if step is None:
        gaps = np.diff(np.unique(counts))
        if not len(gaps):
            raise ValueError(
                "the step between the rows can't be told from the first stamps of the windows, "
                f"which are all the same. Pass those of all steps, shape {accepted[2]}."
            )
        distinct, times = np.unique(gaps, return_counts=True)
        step = int(distinct[np.argmax(times)])
    stamps = counts[:, None] + step * np.arange(length)
    return stamps.astype("datetime64[ns]"), step


def check_neighbors(windows: npt.NDArray[np.floating], first: StampArray, step: int | None) -> None:
    """Refuse a step that was told from the first stamps of windows which are not one step apart.

    Parameters
    ----------
    windows : array of shape (n_windows, lookback) or (n_windows, lookback, n_channels)
    first : array of shape (n_windows,)
    step : int
        Nanoseconds.

    Raises
    ------
    ValueError
        If no window repeats the one before it, moved by one step.
    """
    if windows.shape[1] < 2:
        return
    order = np.argsort(first, kind="stable")
    apart = np.diff(first[order].astype(np.int64)) == step
    for i in np.flatnonzero(apart)[:_NEIGHBORS]:
        if np.array_equal(windows[order[i], 1:], windows[order[i + 1], :-1]):
            return
    raise ValueError(
        "the step of the windows can't be told from their first stamps: windows that start one "
        f"after another, {_spoken(step)} apart, don't repeat each other's values. Pass the times "
        "of all their steps, shape (n_windows, lookback)."
    )


def _spoken(step: int | None) -> str:
    return "uneven lengths" if step is None else str(datetime.timedelta(microseconds=step / 1e3))
