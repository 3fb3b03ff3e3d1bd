"""Series on their regular grids: from what a caller passes to arrays with gaps as NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import validate_data

from ..timestamps import TimeIndex, check_step, fill_gaps, read_index, read_timestamps
from ..windows import Container, is_many, read_values, refuse_stacked_windows

FloatArray = npt.NDArray[np.floating[Any]]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series:
    """One series on its regular grid.

    Parameters
    ----------
    values : array of shape (T, C)
        NaN where a row is missing.
    container : Container
    index : TimeIndex, optional
    first : object, optional
        Label of the first row.
    rows : array of shape (n_given,)
        Place of every given row on the grid.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base import Series
    >>> from mixlin.windows import Container
    >>> Series(np.zeros((3, 1)), Container(), None, None, np.arange(3)).values.shape
    (3, 1)
    """

    values: FloatArray
    container: Container
    index: TimeIndex | None
    first: Any
    rows: npt.NDArray[np.intp]


def read_series(
    probe: Any, X: Any, timestamps: Any, *, reset: bool, like: TimeIndex | None = None
) -> list[Series]:
    """Read one series or many.

    Parameters
    ----------
    probe : estimator
        Whose number and names of channels are set (``reset=True``) or compared.
    X : array-like of shape (T,) or (T, C), pandas Series or DataFrame, or a list of these
    timestamps : array-like of shape (T,), or a list of these, optional
        For arrays.
    reset : bool
    like : TimeIndex, optional
        Of the training series: indexes of its kind must step as it does.

    Returns
    -------
    list of Series

    Raises
    ------
    ValueError
        If something is no series, channels differ, or an index is not regular.
    """
    many = is_many(X)
    if timestamps is None:
        stamps: list[Any] = [None] * (len(X) if many else 1)
    else:
        stamps = list(timestamps) if many else [timestamps]
        if many and len(stamps) != len(X):
            raise ValueError(
                f"timestamps must be a list with one array per series, {len(X)}; got {len(stamps)}."
            )
    out: list[Series] = []
    for i, (item, stamp) in enumerate(zip(X if many else [X], stamps, strict=True)):
        values, container = read_values(item, name=f"X[{i}]" if many else "X")
        if i and values.shape[1] != out[0].values.shape[1]:
            raise ValueError(
                f"all series must have the same channels; X[0] has {out[0].values.shape[1]}, "
                f"X[{i}] has {values.shape[1]}."
            )
        named = item if container.kind == "frame" else values
        validate_data(probe, named, reset=reset and i == 0, skip_check_array=True)
        placed = place_series(item, values, container, stamp, like)
        refuse_stacked_windows(values)
        out.append(placed)
    return out


def place_series(
    item: Any,
    values: FloatArray,
    container: Container,
    stamps: Any = None,
    like: TimeIndex | None = None,
) -> Series:
    """Put a series on its grid.

    Parameters
    ----------
    item : array-like, Series or DataFrame
        What the caller passed.
    values : array of shape (T, C)
    container : Container
        Both from :func:`mixlin.windows.read_values`.
    stamps : array-like of shape (T,), optional
        For arrays.
    like : TimeIndex, optional
        An index of its kind must step as it does.

    Returns
    -------
    Series

    Raises
    ------
    ValueError
        If the index is not regular, steps at first in one way and then in another, or a frame
        comes with stamps.
    """
    index: TimeIndex | None = None
    first: Any = None
    labels: Any = None
    rows = np.arange(len(values))
    if container.kind != "array":
        if stamps is not None:
            raise ValueError(
                "a frame's own index tells the time; timestamps= is for arrays. Make the stamps "
                "the index (frame.set_axis(timestamps)), or leave timestamps out."
            )
        labels = item.index
        index, rows = read_index(labels, like=like)
        first = labels[0]
    elif stamps is not None:
        index, rows = read_timestamps(stamps, len(values), like=like)
        labels = np.asarray(stamps, dtype="datetime64")
        first = labels[0]
    if index is not None:
        same = like is not None and (like.kind, like.freq) == (index.kind, index.freq)
        check_step(labels, rows, index.freq, like=same)
    return Series(fill_gaps(values, rows), container, index, first, rows)


def row_weights(sample_weight: Any, series: list[Series], many: bool) -> list[Float64Array]:
    """Return one weight per row and series, on the grid of the series.

    Parameters
    ----------
    sample_weight : array-like of shape (n_given,), or (n_series,) for many series
    series : list of Series
    many : bool
        Whether a list of series was passed.

    Returns
    -------
    list of array of shape (T,)
        Where a row is missing the common weight, or zero where weights differ.

    Raises
    ------
    ValueError
        For another shape, for values that are not finite or negative, for zeros only.
    """
    weight = np.asarray(sample_weight, dtype=np.float64)
    expected = (len(series),) if many else (len(series[0].rows),)
    if weight.shape != expected:
        what = "one weight per series" if many else "one weight per row"
        raise ValueError(f"sample_weight must hold {what}, {expected}; got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must be finite, not negative, and not all zero.")
    out = []
    for i, s in enumerate(series):
        given = np.full(len(s.rows), weight[i]) if many else weight
        even = given[0] if np.ptp(given) == 0 else 0.0  # absent rows leave even weights even
        on_grid = np.full(len(s.values), even)
        on_grid[s.rows] = given
        out.append(on_grid)
    return out


def window_weights(weight: Float64Array, lookback: int, horizon: int) -> Float64Array:
    """Return the mean weight of every window's targets.

    Parameters
    ----------
    weight : array of shape (T,)
    lookback, horizon : int

    Returns
    -------
    array of shape (T - lookback - horizon + 1,)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base import window_weights
    >>> window_weights(np.array([0.0, 0.0, 1.0, 3.0]), lookback=1, horizon=2).tolist()
    [0.5, 2.0]
    """
    targets = np.lib.stride_tricks.sliding_window_view(weight[lookback:], horizon)
    return np.asarray(targets.mean(axis=1))
