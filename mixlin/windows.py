"""Series and windows: reading containers, cutting windows, splitting over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import TimeSeriesSplit
from sklearn.utils import check_array

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Container:
    """What a series came in, so that forecasts leave in the same.

    Parameters
    ----------
    kind : {"array", "frame", "series"}
    ndim : {1, 2}
    columns : object, optional
        Column index of a frame, name of a pandas Series.
    """

    kind: str = "array"
    ndim: int = 2
    columns: Any = None


def is_pandas(X: Any) -> bool:
    """Whether X is a pandas Series or DataFrame, without importing pandas.

    Parameters
    ----------
    X : object

    Returns
    -------
    bool
    """
    return hasattr(X, "iloc") and hasattr(X, "index") and hasattr(X, "to_numpy")


def is_many(X: Any) -> bool:
    """Whether X is a list or tuple of series.

    Parameters
    ----------
    X : object

    Returns
    -------
    bool
    """
    return (
        isinstance(X, (list, tuple))
        and len(X) > 0
        and all(is_pandas(item) or (isinstance(item, np.ndarray) and item.ndim > 0) for item in X)
    )


def read_values(X: Any, *, name: str = "X") -> tuple[FloatArray, Container]:
    """Read one series as an array.

    Parameters
    ----------
    X : array-like of shape (T,) or (T, C), pandas Series or DataFrame
        NaN marks missing values.
    name : str
        What errors call it.

    Returns
    -------
    values : array of shape (T, C)
        Float32 stays float32, everything else becomes float64. Not a copy where it can be
        avoided.
    container : Container

    Raises
    ------
    ValueError
        For strings, complex or infinite values, three dimensions, nested or ragged lists.
    """
    container = Container()
    if is_pandas(X):
        if X.ndim == 1:
            container = Container("series", 1, X.name)
            X = X.to_frame()
        else:
            container = Container("frame", 2, X.columns)
        text = [str(c) for c, t in zip(X.columns, X.dtypes, strict=True) if _not_numeric(t)]
        if text:
            raise ValueError(
                f"{name} has columns that are no numbers: {', '.join(text)}. Make the time "
                f"column the index (frame.set_index({text[0]!r})) and drop or convert the others."
            )
    elif isinstance(X, (list, tuple)):
        if any(np.ndim(item) > 0 for item in X):
            raise ValueError(
                f"{name} is a list of lists, which could mean one series or many. Pass "
                f"np.asarray({name}) for one series of several channels, or a list of arrays for "
                "many series."
            )
        X = np.asarray(X)
    refuse_text(X, name)
    if np.ndim(X) == 0 and not hasattr(X, "shape"):
        raise ValueError(
            f"{name} must be a series of shape (n_rows,) or (n_rows, n_channels); got {X!r}."
        )
    values = check_array(
        X,
        dtype=[np.float64, np.float32],
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite="allow-nan",
        input_name=name,
    )
    if values.ndim == 1:
        container = Container(container.kind, 1, container.columns)
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(
            f"{name} must be a series of shape (n_rows,) or (n_rows, n_channels); got shape "
            f"{values.shape}. Windows of shape (n_windows, lookback, n_channels) need y."
        )
    return values, container


def refuse_text(X: Any, name: str) -> None:
    """Refuse text and dates, which numpy would turn into numbers.

    Parameters
    ----------
    X : array-like
    name : str
        What errors call it.

    Raises
    ------
    ValueError
        If X is an array of strings, bytes, dates or durations, holds strings, or is ragged.
    """
    values = X
    if isinstance(X, (list, tuple)):
        try:
            values = np.asarray(X)
        except ValueError:
            raise ValueError(
                f"{name} is a ragged list: its parts differ in length. Pass an array with one "
                "row per time or per window."
            ) from None
    kind = getattr(getattr(values, "dtype", None), "kind", "f")
    if kind == "O" and isinstance(values, np.ndarray):
        kind = "U" if any(isinstance(item, (str, bytes)) for item in values.flat) else "O"
    if kind in "SU":
        raise ValueError(
            f"{name} holds strings; numbers are needed. Convert it first, for example with "
            f"np.asarray({name}, dtype=float)."
        )
    if kind in "mM":
        raise ValueError(
            f"{name} holds dates or durations; numbers are needed. Pass the values of the series "
            "here, and its times as the index of a frame or as timestamps=."
        )


def _not_numeric(dtype: Any) -> bool:
    return getattr(dtype, "kind", "O") not in "biuf"


def refuse_stacked_windows(
    values: FloatArray, *, name: str = "X", instead: str = "the targets as y, or "
) -> None:
    """Refuse a series whose rows are windows of another one.

    Parameters
    ----------
    values : array of shape (T, C)
    name : str
        What errors call it.
    instead : str
        What else could be passed, before the series itself.

    Raises
    ------
    ValueError
        If every row is the previous one moved by a fixed number of columns.
    """
    n_rows, n_columns = values.shape
    if n_columns < 3 or n_rows < 2:
        return
    for step in range(1, n_columns // 2 + 1):
        sample = values[:32]
        if not np.array_equal(sample[1:, :-step], sample[:-1, step:], equal_nan=True):
            continue
        if np.array_equal(values[1:, :-step], values[:-1, step:], equal_nan=True):
            repeated = values[1:, :-step]  # where nothing varies, nothing was moved
            low, high = np.nanmin(repeated, initial=np.inf), np.nanmax(repeated, initial=-np.inf)
            if low < high:
                raise ValueError(
                    f"{name} looks like stacked windows: every row repeats the previous one moved "
                    f"by {step} column{'s' if step > 1 else ''}. Pass {instead}the series itself, "
                    "of shape (n_rows, n_channels)."
                )


def make_windows(
    series: npt.ArrayLike, lookback: int, horizon: int, *, step: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Cut a series into windows and their targets.

    Parameters
    ----------
    series : array-like of shape (T,) or (T, C)
    lookback : int
        Steps that a window holds.
    horizon : int
        Steps that follow it.
    step : int, default=1
        Distance between windows.

    Returns
    -------
    X : array of shape (n_windows, lookback) or (n_windows, lookback, C)
    y : array of shape (n_windows, horizon) or (n_windows, horizon, C)
        Read-only views of the series; windows that touch a NaN are left out, which copies.

    Raises
    ------
    ValueError
        If the series is shorter than ``lookback + horizon``.

    Examples
    --------
    >>> from mixlin.windows import make_windows
    >>> X, y = make_windows([1.0, 2.0, 3.0, 4.0], lookback=2, horizon=1)
    >>> X.tolist(), y.tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [[3.0], [4.0]])
    """
    values, container = read_values(series, name="series")
    if min(lookback, horizon, step) < 1:
        raise ValueError(
            f"lookback, horizon and step must be at least 1; got {lookback}, {horizon} and {step}."
        )
    if len(values) < lookback + horizon:
        raise too_short(lookback, horizon, len(values))
    both = np.lib.stride_tricks.sliding_window_view(values, lookback + horizon, axis=0)[::step]
    missing = np.isnan(values).any(axis=1)
    if missing.any():
        touched = np.lib.stride_tricks.sliding_window_view(missing, lookback + horizon)[::step]
        both = both[~touched.any(axis=1)]
    both = both.transpose(0, 2, 1)
    if container.ndim == 1:
        both = both[:, :, 0]
    return both[:, :lookback], both[:, lookback:]


def too_short(lookback: int, horizon: int, n_rows: int) -> ValueError:
    """Return the error for a series without one complete window.

    Parameters
    ----------
    lookback, horizon, n_rows : int

    Returns
    -------
    ValueError
    """
    return ValueError(
        f"lookback={lookback} needs at least {lookback + horizon} rows with horizon={horizon}; "
        f"the series has {n_rows}. Shorten lookback, or pass more data."
    )


def interpolate(series: npt.ArrayLike) -> FloatArray:
    """Fill missing values on straight lines between their neighbors.

    Parameters
    ----------
    series : array-like of shape (T,) or (T, C)
        NaN marks missing values.

    Returns
    -------
    array of the same shape
        Gaps at an end repeat the nearest value.

    Raises
    ------
    ValueError
        If a channel has no value at all.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.windows import interpolate
    >>> interpolate([1.0, np.nan, 3.0, np.nan]).tolist()
    [1.0, 2.0, 3.0, 3.0]
    """
    values, container = read_values(series, name="series")
    filled = values.copy()
    places = np.arange(len(values))
    for c in range(values.shape[1]):
        known = np.isfinite(values[:, c])
        if not known.any():
            raise ValueError(f"channel {c} has no observed value.")
        filled[:, c] = np.interp(places, places[known], values[known, c])
    return np.asarray(filled[:, 0] if container.ndim == 1 else filled)


def time_series_split(
    horizon: int,
    n_splits: int = 5,
    *,
    test_size: int | None = None,
    max_train_size: int | None = None,
) -> TimeSeriesSplit:
    """Return a splitter for windows whose targets never overlap the training targets.

    Parameters
    ----------
    horizon : int
        Steps of a target; ``horizon - 1`` windows are left out between train and test.
    n_splits : int, default=5
    test_size, max_train_size : int, optional
        As in scikit-learn.

    Returns
    -------
    sklearn.model_selection.TimeSeriesSplit

    Examples
    --------
    >>> from mixlin.windows import time_series_split
    >>> time_series_split(24).gap
    23
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1; got {horizon}.")
    return TimeSeriesSplit(
        n_splits=n_splits, gap=horizon - 1, test_size=test_size, max_train_size=max_train_size
    )
