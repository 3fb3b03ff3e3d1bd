"""The centered moving average of odd width with replicated edges, as operator and as matrix."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

__all__ = ["moving_average", "moving_average_matrix"]

_FLOAT_DTYPES = [np.float64, np.float32]


def moving_average(X: npt.ArrayLike, kernel_size: int, axis: int = 1) -> npt.NDArray[Any]:
    """Centered moving average of odd width with replicated edges.

    Costs O(1) additions per value whatever the width, and is computed in float64. The error is
    at most ``kernel_size`` roundings at the range of the data, not at their level: a level is
    subtracted first, and no running sum is carried along the series.

    Parameters
    ----------
    X : array-like of shape (length,), (n_windows, lookback), (length, n_channels) or \
            (n_windows, lookback, n_channels)
        The data, finite. Any number of axes is accepted.
    kernel_size : int
        Width of the average in steps, odd. It may exceed the length.
    axis : int, default=1
        The axis of time: 1 for windows, 0 for one series of shape (length, n_channels). A 1-D
        ``X`` has one axis, which ``axis`` in (-1, 0, 1) names.

    Returns
    -------
    trend : ndarray of X's shape
        In the dtype of ``X`` if that is float32 or float64, else in float64.

    Raises
    ------
    ValueError
        If ``kernel_size`` is not a positive odd integer, ``axis`` is not an axis of ``X``, or
        ``X`` is empty or holds NaN, infinity or anything but real numbers.

    See Also
    --------
    moving_average_matrix : The same operator as a matrix.
    decompose : Trend and seasonal part.

    Examples
    --------
    >>> from mixlin.decomposition import moving_average
    >>> moving_average([[0.0, 3.0, 6.0, 0.0]], kernel_size=3).tolist()
    [[1.0, 3.0, 3.0, 2.0]]
    """
    width = check_kernel_size(kernel_size)
    values = check_series(X)
    return _smooth(values, width, _check_axis(axis, values))


def moving_average_matrix(length: int, kernel_size: int) -> npt.NDArray[np.float64]:
    """Build the matrix of the centered moving average with replicated edges.

    Parameters
    ----------
    length : int
        Length of the window in steps.
    kernel_size : int
        Width of the average in steps, odd. It may exceed ``length``.

    Returns
    -------
    A : ndarray of shape (length, length), float64
        ``A @ x`` is the trend of a window ``x`` of shape (length,). Rows sum to one.

    Raises
    ------
    ValueError
        If ``length`` is not a positive integer or ``kernel_size`` not a positive odd one.

    See Also
    --------
    moving_average : The same operator without the matrix.

    Examples
    --------
    >>> from mixlin.decomposition import moving_average_matrix
    >>> (3 * moving_average_matrix(length=4, kernel_size=3)).tolist()
    [[2.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 2.0]]
    """
    width = check_kernel_size(kernel_size)
    if not _is_integer(length) or length < 1:
        raise ValueError(f"length must be a positive integer (steps); got {length!r}.")
    half = (width - 1) // 2
    steps = np.arange(int(length))
    counts = (np.abs(steps[:, np.newaxis] - steps) <= half).astype(np.float64)
    counts[:, 0] += np.maximum(half - steps, 0)
    counts[:, -1] += np.maximum(steps + half - (int(length) - 1), 0)
    matrix: npt.NDArray[np.float64] = counts / width
    return matrix


def check_kernel_size(kernel_size: Any) -> int:
    """Return the width as an int, or raise the ValueError that says what it must be."""
    if not _is_integer(kernel_size) or kernel_size < 1:
        raise ValueError(
            f"kernel_size must be a positive odd integer (steps); got {kernel_size!r}."
        )
    if kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size} is even, and a centered moving average needs an odd number "
            f"of steps. Use {kernel_size - 1} or {kernel_size + 1}."
        )
    return int(kernel_size)


def check_series(X: Any) -> npt.NDArray[Any]:
    """Return X as a finite float32 or float64 array of at least one axis and one value."""
    values: npt.NDArray[Any] = check_array(
        X,
        dtype=_FLOAT_DTYPES,
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=0,
        ensure_min_features=0,
        input_name="X",
    )
    if values.size == 0 or values.ndim == 0:
        raise ValueError(
            f"X has shape {values.shape}; a moving average needs at least one axis and one value."
        )
    return values


def _smooth(values: npt.NDArray[Any], width: int, axis: int) -> npt.NDArray[Any]:
    """Centered mean of odd width along one axis, edges replicated, float64 inside."""
    if width == 1:
        return np.array(values)  # exactly; a level taken off and put back would round
    length = values.shape[axis]
    n_before = int(np.prod(values.shape[:axis]))
    x = values.astype(np.float64).reshape(n_before, length, -1)
    # A level that is one of the values keeps constants exact; the median of three keeps one
    # outlier from being the level that all other values lose their digits to.
    level = np.median(x[:, [0, length // 2, length - 1]], axis=1, keepdims=True)
    x -= level
    half = (width - 1) // 2
    if half >= length - 1:
        # Every average covers the whole series: only the weights of the two edges change.
        steps = np.arange(length, dtype=np.float64)[:, np.newaxis]
        total = np.cumsum(x, axis=1)[:, -1:]
        sums = total + (half - steps) * x[:, :1] + (steps + half - (length - 1)) * x[:, -1:]
    else:
        sums = _window_sums(x, width)
    trend = sums / width + level
    returned: npt.NDArray[Any] = trend.reshape(values.shape).astype(values.dtype, copy=False)
    return returned


def _window_sums(x: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Sum of every centered window of shape (n, length, m) along axis 1, edges replicated.

    Cut into blocks as long as the window, every window is the end of one block and the start of
    the next: two sums of at most ``width`` terms, added. A running sum would cost as little but
    carry its rounding, and that of any outlier, to the end of the series.
    """
    n, length, m = x.shape
    half = (width - 1) // 2
    n_blocks = -(-length // width) + 1
    padded = np.zeros((n, n_blocks * width, m))
    padded[:, :half] = x[:, :1]
    padded[:, half : half + length] = x
    padded[:, half + length : length + 2 * half] = x[:, -1:]
    blocks = padded.reshape(n, n_blocks, width, m)
    sums = np.cumsum(blocks[:, :-1, ::-1], axis=2)[:, :, ::-1]
    sums[:, :, 1:] += np.cumsum(blocks[:, 1:, :-1], axis=2)
    return sums.reshape(n, -1, m)[:, :length]


def _check_axis(axis: Any, values: npt.NDArray[Any]) -> int:
    if _is_integer(axis):
        if values.ndim == 1 and axis in (-1, 0, 1):
            return 0
        if -values.ndim <= axis < values.ndim:
            return int(axis) % values.ndim
    raise ValueError(
        f"axis must be an integer that names an axis of X, which has shape {values.shape}; got "
        f"{axis!r}."
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
