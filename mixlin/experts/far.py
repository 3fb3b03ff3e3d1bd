"""Forecasts of single windows by an expert's kernel: with gaps, and for very long horizons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from .kernels import FloatArray
from .precision import Precision
from .predictors import BankMatrices

BoolArray = npt.NDArray[np.bool_]


def filled(precision: Precision, values: FloatArray, mask: BoolArray) -> FloatArray:
    """Put the means given the rest where values are missing: forecasts stay what they are.

    Parameters
    ----------
    precision : Precision
    values : array of shape (n_windows, n)
        What stands where nothing was observed is not read.
    mask : array of shape (n,)
        True where a value was observed; at least once.

    Returns
    -------
    array of shape (n_windows, n)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, filled, seasonless_experts
    >>> matrices = BankMatrices(seasonless_experts())
    >>> walk = matrices.precision(matrices.bank.names.index("random walk, noise 0.01"), 5)
    >>> filled(walk, np.array([[1.0, 2.0, 0.0, 4.0, 5.0]]), np.arange(5) != 2).round(2).tolist()
    [[1.0, 2.0, 3.0, 4.0, 5.0]]
    """
    missing = np.flatnonzero(~mask)
    if not len(missing):
        return values
    center = np.where(mask, values, 0.0).sum(axis=1, keepdims=True) / mask.sum()
    out = np.where(mask, values, center)
    columns = precision.columns(missing)
    out[:, missing] -= np.linalg.solve(columns[:, missing], columns @ out.T).T
    return out


def variance_of_filling(precision: Precision, weights: FloatArray, mask: BoolArray) -> FloatArray:
    """Return what missing values add to the variance of forecasts.

    Parameters
    ----------
    precision : Precision
    weights : array of shape (n, M)
        Of the forecasts of whole windows.
    mask : array of shape (n,)

    Returns
    -------
    array of shape (M,)
    """
    missing = np.flatnonzero(~mask)
    if not len(missing):
        return np.zeros(weights.shape[1])
    own = weights[missing]
    covariance = np.linalg.solve(precision.columns(missing)[:, missing], own)
    return np.asarray((own * covariance).sum(axis=0))


def far_forecasts(
    matrices: BankMatrices,
    expert: int,
    values: FloatArray,
    horizon: int,
    *,
    mask: BoolArray | None = None,
) -> FloatArray:
    """Forecast by an expert's kernel: time and memory grow with the horizon, not times the window.

    Parameters
    ----------
    matrices : BankMatrices
    expert : int
        Its place in the bank.
    values : array of shape (n_windows, n)
    horizon : int
    mask : array of shape (n,), optional
        True where a value was observed; what stands elsewhere is not read.

    Returns
    -------
    array of shape (n_windows, horizon)
        What the predictors of the expert give.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, default_bank, far_forecasts
    >>> matrices = BankMatrices(default_bank())
    >>> far_forecasts(matrices, 0, np.tile([0.0, 0.0, 1.0, 1.0], (1, 12)), 3).round(1).tolist()
    [[0.0, 0.0, 1.0]]
    """
    n = values.shape[1]
    precision = matrices.precision(expert, n)
    if mask is not None:
        values = filled(precision, values, mask)
    weights = precision.dot(values)
    kernel = matrices.bank[expert].covariances(n + horizon, n + 1)
    size = fft.next_fast_len(2 * n + horizon - 1, real=True)
    spread = fft.irfft(fft.rfft(weights, size) * fft.rfft(kernel, size), size)
    level = values @ precision.level
    return np.asarray(level[:, None] + spread[:, n : n + horizon])


def far_variances(
    matrices: BankMatrices,
    expert: int,
    lookback: int,
    steps: npt.NDArray[np.integer],
    *,
    mask: BoolArray | None = None,
) -> FloatArray:
    """Return the variance of an expert's forecasts at some steps, however far ahead.

    Parameters
    ----------
    matrices : BankMatrices
    expert : int
        Its place in the bank.
    lookback : int
    steps : array of int of shape (M,)
        From 1.
    mask : array of shape (lookback,), optional
        True where a value was observed.

    Returns
    -------
    array of shape (M,)
        As multiples of the scale; see :class:`Predictors`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, far_variances, seasonless_experts
    >>> matrices = BankMatrices(seasonless_experts())
    >>> walk = matrices.bank.names.index("random walk, noise 0.01")
    >>> far_variances(matrices, walk, 100, np.array([1, 1000])).round(1).tolist()
    [1.0, 1000.0]
    """
    precision = matrices.precision(expert, lookback)

    def make() -> FloatArray:
        kernel = matrices.bank[expert].covariances(lookback + int(steps[-1]), lookback + 1)
        past = kernel[np.arange(lookback - 1, -1, -1) + steps[:, None]]
        weights = precision.dot(past)  # of a window's departures from its level
        told = (past * weights).sum(axis=1) + 2 * past @ precision.level
        variance = kernel[0] - told + 1 / precision.level_energy
        if mask is not None:
            variance += variance_of_filling(precision, weights.T + precision.level[:, None], mask)
        return np.asarray(variance)

    gaps = b"" if mask is None else mask.tobytes()
    return matrices.kept(("far variances", expert, lookback, steps.tobytes(), gaps), make)
