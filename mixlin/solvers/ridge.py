"""Ridge regressions from normal equations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg

FloatArray = npt.NDArray[np.float64]

_MIN_RCOND = 1e-14


def strength_of(alpha: float, unit: float) -> float:
    """Return an absolute penalty; infinity stays infinite where nothing varies.

    Parameters
    ----------
    alpha : float
        Relative.
    unit : float
        Sum of weights times variance of the inputs.

    Returns
    -------
    float
    """
    return np.inf if np.isinf(alpha) else alpha * unit


def pseudo_inverse(gram: FloatArray) -> FloatArray:
    """Return the inverse of the waves' products, zero where they tell nothing apart.

    Parameters
    ----------
    gram : array of shape (2 F, 2 F)

    Returns
    -------
    array of shape (2 F, 2 F)
    """
    return np.asarray(np.linalg.pinv(gram, rcond=1e-9, hermitian=True))


def solve_ridge(
    gram: FloatArray,
    cross: FloatArray,
    penalty: float,
    metric: FloatArray | None = None,
    prior: FloatArray | None = None,
) -> FloatArray:
    """Minimize ``tr(W'GW) - 2 tr(W'B) + penalty * tr((W - W0)' metric (W - W0))``.

    Parameters
    ----------
    gram : array of shape (p, p)
    cross : array of shape (p, horizon)
    penalty : float
        Absolute. With 0 and a singular Gram matrix the solution of least norm is returned.
    metric : array of shape (p, p), optional
        Positive definite; the identity by default.
    prior : array of shape (p, horizon), optional

    Returns
    -------
    array of shape (p, horizon)
    """
    if np.isinf(penalty):
        return np.zeros_like(cross) if prior is None else prior.copy()
    system = penalized(gram, penalty, metric)
    right = cross
    if penalty > 0 and prior is not None:
        right = cross + penalty * (prior if metric is None else metric @ prior)
    if not system.any():
        return np.zeros_like(cross) if prior is None else prior.copy()
    factor = cholesky(system)
    if factor is not None:
        weights, _ = linalg.lapack.dpotrs(factor, right, lower=0)
        return np.asarray(weights, order="C")
    values, vectors = linalg.eigh(system)
    keep = values > len(gram) * np.finfo(np.float64).eps * values[-1]
    return np.asarray(vectors[:, keep] @ ((vectors[:, keep].T @ right) / values[keep, None]))


def penalized(gram: FloatArray, penalty: float, metric: FloatArray | None) -> FloatArray:
    """Return ``gram + penalty * metric``.

    Parameters
    ----------
    gram : array of shape (p, p)
    penalty : float
    metric : array of shape (p, p), or None
        None for the identity.
    """
    if metric is not None:
        return np.asarray(gram + penalty * metric)
    system = gram.copy()
    system[np.diag_indices(len(gram))] += penalty
    return np.asarray(system)


def cholesky(system: FloatArray) -> FloatArray | None:
    """Return the upper factor of a symmetric matrix; None if it is singular up to rounding.

    Parameters
    ----------
    system : array of shape (p, p)
    """
    norm = float(np.abs(system).sum(axis=0).max())
    factor, info = linalg.lapack.dpotrf(system.T, lower=0)  # its own transpose, no copy
    if info != 0 or linalg.lapack.dpocon(factor, norm)[0] <= _MIN_RCOND:
        return None
    return np.asarray(factor)


def degrees_of_freedom(gram: FloatArray, penalty: float, metric: FloatArray | None = None) -> float:
    """Return the trace of the hat matrix of a ridge fit.

    Parameters
    ----------
    gram : array of shape (p, p)
    penalty : float
    metric : array of shape (p, p), optional

    Returns
    -------
    float
        Between 0 and p.
    """
    factor = cholesky(penalized(gram, penalty, metric))
    if factor is None:
        values = linalg.eigvalsh(gram)
        return float((values > len(gram) * np.finfo(np.float64).eps * values[-1]).sum())
    inverse, _ = linalg.lapack.dpotri(factor, lower=0)
    product = np.triu(inverse) if metric is None else np.triu(inverse * metric)
    trace = np.trace(product) if metric is None else 2 * product.sum() - np.trace(product)
    return len(gram) - penalty * float(trace)
