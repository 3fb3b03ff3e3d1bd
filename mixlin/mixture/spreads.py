"""How far forecasts of prior experts are off, at every step, fitted to the errors of folds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..experts import BankMatrices, Folds, far_variances, variance_of_filling

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ERROR_OF_MEAN = np.sqrt(np.pi / 2)  # standard deviation of a normal by its mean absolute value
_KNOWN_VARIANCES = 128  # steps of a very long horizon that variances are computed for
_TINY = float(np.finfo(np.float64).tiny)


def step_variances(
    matrices: BankMatrices,
    n: int,
    horizon: int,
    counted: list[int],
    mask: BoolArray | None,
    *,
    far: bool,
) -> FloatArray:
    """Return the variance of every step ahead, that of an expert's kernels being the unit.

    Parameters
    ----------
    matrices : BankMatrices
    n, horizon : int
        Values read, and steps ahead.
    counted : list of int
        Experts that matter; the others' variances may be those without gaps, or one.
    mask : array of shape (n,), optional
        True where a value was observed.
    far : bool
        Whether the matrices of the horizon are too large to be made: then variances between a
        few steps are interpolated.

    Returns
    -------
    array of shape (E, horizon)

    Examples
    --------
    >>> from mixlin.experts import BankMatrices, seasonless_experts
    >>> from mixlin.mixture.spreads import step_variances
    >>> walk = BankMatrices(seasonless_experts().select(["random walk, noise 0.01"]))
    >>> step_variances(walk, 64, 3, [0], None, far=False).round(1).tolist()
    [[1.0, 2.0, 3.0]]
    """
    if far:
        variance = np.ones((len(matrices.bank), horizon))
        steps = np.unique(np.geomspace(1, horizon, _KNOWN_VARIANCES).round().astype(int))
        for e in counted:
            known = far_variances(matrices, e, n, steps, mask=mask)
            variance[e] = np.interp(np.arange(1, horizon + 1), steps, known)
        return variance
    predictors = matrices.predictors(n, horizon)
    if mask is None:
        return predictors.variance
    variance = np.array(predictors.variance)
    for e in counted:
        own = predictors.weights[:, e]
        variance[e] += variance_of_filling(matrices.precision(e, n), own, mask)
    return variance


def error_spreads(matrices: BankMatrices, folds: Folds | None, variance: FloatArray) -> FloatArray:
    """Return the scale of errors at every step, for a back-test's score of one.

    Parameters
    ----------
    matrices : BankMatrices
    folds : Folds or None
        Of the back-test; None where windows are too short for one.
    variance : array of shape (E, horizon)
        As of :func:`step_variances`.

    Returns
    -------
    array of shape (E, horizon)
    """
    if folds is None:
        return np.sqrt(variance / variance[:, :1])
    tested = matrices.predictors(folds.lookback, folds.ahead[-1], steps=folds.ahead).variance
    scored = np.sqrt(tested).mean(axis=1, keepdims=True)
    return np.asarray(ERROR_OF_MEAN * np.sqrt(variance) / scored)


def calibration(
    errors: FloatArray, counted: FloatArray, folds: Folds, spread: FloatArray
) -> FloatArray:
    """Return what spreads are multiplied by, for errors of folds to fit them.

    Experts know the errors that they make by themselves. Those of their mixture are smaller, and
    grow with the step in another way: a power of it, found by least squares.

    Parameters
    ----------
    errors : array of shape (r, M)
        Sums of the mixture's absolute errors at the scored steps of the folds.
    counted : array of shape (M,)
        How many errors were summed.
    folds : Folds
    spread : array of shape (r, horizon)
        Mean spread of the experts, by their weights.

    Returns
    -------
    array of shape (r, horizon)
    """
    steps, horizon = np.array(folds.ahead), spread.shape[1]
    usable = counted > 0
    if not usable.any():
        return np.ones_like(spread)
    told = spread[:, np.minimum(steps, horizon) - 1] / ERROR_OF_MEAN
    found = errors[:, usable] / counted[usable]
    ratio = np.log(np.maximum(found, _TINY) / np.maximum(told[:, usable], _TINY))
    growth = np.log(steps[usable])
    center = growth.mean()
    scatter = ((growth - center) ** 2).sum()
    slope = ratio @ (growth - center) / scatter if scatter > 0 else np.zeros(len(spread))
    ahead = np.log(np.minimum(np.arange(1, horizon + 1), steps[-1])) - center
    return np.asarray(np.exp(ratio.mean(axis=1)[:, None] + slope[:, None] * ahead))
