"""Whitening: windows as independent surprises, for the evidence of every expert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from .kernels import FloatArray
from .recursion import level_estimate, predictor_orders

_BLOCK = 32  # surprises gathered before they are turned over into the result


@dataclass(frozen=True, eq=False)
class Whitening:
    """What turns windows into one-step forecast errors of unit variance, and the evidence.

    Parameters
    ----------
    weights : array of shape (E, n, n - 1)
        A window times these is the errors of the forecasts of values 2 ... n, each from all
        values before it with the level unknown, over their standard deviations.
    constants : array of shape (E,)
        ``constants - (n - 1) / 2 * log(S)`` is the log evidence of an expert, S being the sum of
        the squared errors: the scale and the level are integrated out (level: flat prior; scale:
        flat prior on its logarithm).

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, seasonless_experts
    >>> bank = seasonless_experts()
    >>> whitening = BankMatrices(bank).whitening(lookback=64)
    >>> walks = np.random.default_rng(0).normal(size=(3, 64)).cumsum(axis=1)
    >>> bank.names[whitening.evidence(walks).mean(axis=0).argmax()]
    'random walk, noise 0.01'
    """

    weights: FloatArray
    constants: FloatArray

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return int(self.weights.nbytes + self.constants.nbytes)

    def evidence(self, windows: FloatArray) -> FloatArray:
        """Return the log evidence of every expert.

        Parameters
        ----------
        windows : array of shape (n_windows, n)

        Returns
        -------
        array of shape (n_windows, E)
            Minus infinity nowhere but plus infinity for a window without any departure from its
            level.
        """
        windows = windows - windows.mean(axis=1, keepdims=True)  # free, and digits are saved
        squares = np.stack([np.square(windows @ u).sum(axis=1) for u in self.weights], axis=1)
        with np.errstate(divide="ignore"):
            evidence: FloatArray = self.constants - self.weights.shape[2] / 2 * np.log(squares)
        return evidence


def whiten(covariances: FloatArray, weights: FloatArray) -> FloatArray:
    """Write the whitening of experts, and return the constants of their evidence.

    Parameters
    ----------
    covariances : array of shape (n, E)
        At lags 0 ... n - 1.
    weights : array of shape (E, n, n - 1)
        Is filled.

    Returns
    -------
    array of shape (E,)
    """
    n, n_experts = covariances.shape
    freedom = n - 1
    log_variance = np.zeros(n_experts)
    kept = np.zeros((n, min(_BLOCK, max(freedom, 1)), n_experts))
    for phi, error in predictor_orders(covariances):
        m = len(phi)
        if m == 0:
            continue
        level, energy = level_estimate(phi, error)
        rest = 1.0 - phi.sum(axis=0)
        variance = error + rest * rest / energy
        log_variance += np.log(variance)
        place = (m - 1) % _BLOCK
        kept[:m, place] = -(phi[::-1] + level * rest) / np.sqrt(variance)
        kept[m, place] = 1.0 / np.sqrt(variance)
        if place == _BLOCK - 1 or m == freedom:
            begin = m - 1 - place
            weights[:, :, begin:m] = kept[:, : place + 1].transpose(2, 0, 1)
    constants: FloatArray = gammaln(freedom / 2) - freedom / 2 * np.log(np.pi) - log_variance / 2
    return constants
