"""Forecasts further ahead than matrices are made for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from .kernels import FloatArray
from .predictors import BankMatrices


def far_forecasts(
    matrices: BankMatrices,
    expert: int,
    values: FloatArray,
    horizon: int,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
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
    if mask is not None and not mask.all():
        missing = np.flatnonzero(~mask)
        center = np.where(mask, values, 0.0).sum(axis=1, keepdims=True) / mask.sum()
        values = np.where(mask, values, center)
        columns = precision.columns(missing)
        # what is missing takes its mean given the rest, which leaves forecasts as they are
        values[:, missing] -= np.linalg.solve(columns[:, missing], columns @ values.T).T
    weights = precision.dot(values)
    kernel = matrices.bank[expert].covariances(n + horizon, n + 1)
    size = fft.next_fast_len(2 * n + horizon - 1, real=True)
    spread = fft.irfft(fft.rfft(weights, size) * fft.rfft(kernel, size), size)
    level = values @ precision.level
    return np.asarray(level[:, None] + spread[:, n : n + horizon])
