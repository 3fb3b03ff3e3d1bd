"""Statistics of windows that neither a shift nor a factor changes: what a gate can look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

STATISTICS = (
    "minimum",
    "maximum",
    "last value",
    "trend",
    "recent level",
    "recent spread",
    "roughness",
    "skewness",
)
"""Names of the columns of :func:`window_statistics`."""

_ROUNDING = 1e-9  # a window whose spread is a smaller share of its level is a constant


def window_statistics(windows: npt.NDArray[np.floating]) -> Float64Array:
    """Describe the shape of windows, free of their level and their scale.

    Parameters
    ----------
    windows : array of shape (n_windows, n_channels, lookback)

    Returns
    -------
    array of shape (n_windows, n_channels, 8)
        With the window measured from its mean in units of its standard deviation: minimum,
        maximum, last value; correlation with time; mean of the newest quarter; log of the
        standard deviation of the newest quarter; log of the mean absolute step; third moment.
        Zero for constant windows.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.window_statistics import window_statistics
    >>> window = np.array([[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]])
    >>> window_statistics(window).round(2)[0, 0, :4].tolist()
    [-1.53, 1.53, 1.53, 1.0]
    >>> bool(np.allclose(window_statistics(window), window_statistics(50 + 1e3 * window)))
    True
    """
    x = np.array(windows, dtype=np.float64, order="C")
    n, n_channels, length = x.shape
    mean = x.mean(axis=2, keepdims=True)
    x -= mean
    spread = np.sqrt(np.einsum("ncl,ncl->nc", x, x) / length)[:, :, None]
    varies = spread > _ROUNDING * np.abs(mean)
    x /= np.where(varies, spread, 1.0)
    recent = max(1, length // 4)
    time = np.arange(length) - (length - 1) / 2
    norm = max(np.sqrt((time * time).mean()), 1.0) * length
    tail = x[:, :, length - recent :]
    tail_mean = tail.mean(axis=2)
    square = np.einsum("ncl,ncl->nc", tail, tail) / recent
    out = np.empty((n, n_channels, len(STATISTICS)))
    out[:, :, 0] = x.min(axis=2)
    out[:, :, 1] = x.max(axis=2)
    out[:, :, 2] = x[:, :, -1]
    out[:, :, 3] = x @ (time / norm)
    out[:, :, 4] = tail_mean
    # floors: a quarter, or a window, that hardly moves is one without movement
    out[:, :, 5] = 0.5 * np.log(np.maximum(square - tail_mean**2, 0.0) + 1e-4)
    steps = np.abs(np.diff(x, axis=2)).mean(axis=2) if length > 1 else np.zeros((n, n_channels))
    out[:, :, 6] = np.log(steps + 1e-2)
    out[:, :, 7] = np.einsum("ncl,ncl,ncl->nc", x, x, x) / length
    return np.where(varies, out, 0.0)
