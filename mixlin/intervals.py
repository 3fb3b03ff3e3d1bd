"""Intervals and quantiles of forecasts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

FloatArray = npt.NDArray[np.float64]


def check_quantiles(quantiles: npt.ArrayLike) -> list[float]:
    """Return quantile levels as a list of floats.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)

    Returns
    -------
    list of float

    Raises
    ------
    ValueError
        If there is none, or one does not lie strictly between 0 and 1.
    """
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    except (ValueError, TypeError):
        levels = np.empty(0)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be numbers between 0 and 1; got {quantiles!r}.")
    return [float(q) for q in levels]


def residual_quantiles(
    forecast: FloatArray, variance: FloatArray, quantiles: list[float]
) -> FloatArray:
    """Return normal quantiles around a forecast.

    Parameters
    ----------
    forecast : array of shape (n_windows, n_channels, horizon)
    variance : array of shape (n_channels, horizon)
        Variance of the training residuals, squared data units.
    quantiles : list of float

    Returns
    -------
    array of shape (n_windows, n_channels, horizon, n_quantiles)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.intervals import residual_quantiles
    >>> residual_quantiles(np.zeros((1, 1, 1)), np.ones((1, 1)), [0.05, 0.95]).round(2).tolist()
    [[[[-1.64, 1.64]]]]
    """
    spread = np.sqrt(variance)[None, :, :, None] * norm.ppf(quantiles)
    return np.asarray(forecast[..., None] + spread)
