"""The linear systems of prior experts: Levinson's recursion, and one step ahead after another.

Every array holds all experts along its last axis, so that one numpy operation serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .kernels import FloatArray

_ROOM = 64  # steps a buffer of weights moves before it is copied back
_BLOCK = 32  # steps gathered before they are turned over into the packed weights

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LevelSystem:
    """What the covariance matrices R of a lookback have to say, in O(lookback) numbers each.

    Parameters
    ----------
    first : array of shape (n, E)
        First columns of the inverses of R; they determine the inverses.
    ahead : array of shape (n, E)
        Weights of the forecast one step ahead were the level known to be 0, oldest first.
    level : array of shape (n, E)
        Weights of the level's estimate, ``R^-1 1 / (1' R^-1 1)``.
    energy : array of shape (E,)
        ``1' R^-1 1``: the inverse of the variance of the level's estimate.
    log_determinant : array of shape (E,)
        Of R.
    """

    first: FloatArray
    ahead: FloatArray
    level: FloatArray
    energy: FloatArray
    log_determinant: FloatArray

    @property
    def lookback(self) -> int:
        """Number of values."""
        return len(self.first)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(int(array.nbytes) for array in vars(self).values())


def predictor_orders(covariances: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the best forecasts of a value from the 0, 1, 2, ... values before it.

    Parameters
    ----------
    covariances : array of shape (n + 1, E)
        At lags 0 ... n.

    Yields
    ------
    weights : array of shape (m, E)
        Newest value first; overwritten by the next order.
    error : array of shape (E,)
        Variance of the forecast's error.
    """
    n, n_experts = len(covariances) - 1, covariances.shape[1]
    phi = np.zeros((n, n_experts))
    spare = np.empty((n, n_experts))
    error = covariances[0].copy()
    yield phi[:0], error
    for m in range(1, n + 1):
        known = phi[: m - 1]
        told = np.einsum("me,me->e", known, covariances[m - 1 : 0 : -1])
        reflection = (covariances[m] - told) / error
        np.multiply(known[::-1], reflection, out=spare[: m - 1])
        known -= spare[: m - 1]
        phi[m - 1] = reflection
        error = error * (1.0 - reflection) * (1.0 + reflection)
        yield phi[:m], error


def level_estimate(weights: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the estimate of the level of m values from the forecast of the value after them.

    Parameters
    ----------
    weights : array of shape (m, E)
        Of the forecast, newest value first.
    error : array of shape (E,)
        Variance of its error.

    Returns
    -------
    level : array of shape (m, E)
        Weights of the estimate, which sum to one.
    energy : array of shape (E,)
        Inverse of the variance of the estimate.
    """
    ends = np.concatenate([np.ones((1, weights.shape[1])), -weights])
    # R^-1 1 and its own shift differ by the antisymmetric part of the forecast's error filter
    level = np.cumsum(ends - ends[::-1], axis=0)[:-1]
    level = level + level[::-1]
    total = level.sum(axis=0)
    return level / total, ends.sum(axis=0) / error * total / 2


def solve_systems(covariances: FloatArray) -> LevelSystem:
    """Solve for all predictors of a lookback by Levinson's recursion [1]_.

    Parameters
    ----------
    covariances : array of shape (n + 1, E)
        Covariances at lags 0 ... n of E experts, positive definite.

    Returns
    -------
    LevelSystem
        Of lookback n. Costs about ``2 n^2`` multiplications an expert.

    References
    ----------
    .. [1] G. Golub and C. Van Loan, "Matrix Computations", section 4.7.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts.recursion import solve_systems
    >>> system = solve_systems(np.array([[2.0], [1.0], [0.5]]))
    >>> system.first[:, 0].round(3).tolist()
    [0.667, -0.333]
    >>> system.level[:, 0].tolist()
    [0.5, 0.5]
    """
    n, n_experts = len(covariances) - 1, covariances.shape[1]
    log_determinant = np.zeros(n_experts)
    first = np.empty((n, n_experts))
    for phi, error in predictor_orders(covariances):
        if len(phi) < n:
            log_determinant += np.log(error)
        if len(phi) == n - 1:
            first[0] = 1.0
            np.negative(phi, out=first[1:])
            first /= error
    level, energy = level_estimate(phi, error)
    return LevelSystem(first, np.ascontiguousarray(phi[::-1]), level, energy, log_determinant)


def inverse_rows(system: LevelSystem, indices: IntArray) -> FloatArray:
    """Return rows of the experts' precision of departures from the level.

    That is ``R^-1 - R^-1 1 1' R^-1 / (1' R^-1 1)``, whose diagonals are cumulative sums of what
    the first column of the inverse gives (Trench).

    Parameters
    ----------
    system : LevelSystem
    indices : array of shape (m,)
        Increasing.

    Returns
    -------
    array of shape (E, m, n)
    """
    n, n_experts = system.first.shape
    rows = np.empty((n_experts, len(indices), n))
    if len(indices) and indices[-1] > n - 1 - indices[0]:
        # the matrix reads the same from its other end, which is nearer
        return inverse_rows(system, n - 1 - indices[::-1])[:, ::-1, ::-1]
    root = np.sqrt(system.first[0])
    a = system.first / root
    b = np.zeros_like(a)
    b[1:] = a[:0:-1]
    buffer = np.zeros((2 * n, n_experts))
    spare = np.empty((n, n_experts))
    start, done = n, 0
    for i in range(int(indices[-1]) + 1 if len(indices) else 0):
        row = buffer[start : start + n]
        row += np.multiply(a, a[i], out=spare)
        row -= np.multiply(b, b[i], out=spare)
        if i == indices[done]:
            rows[:, done] = row.T
            done += 1
        start -= 1
    for e, level in enumerate(system.level.T):
        rows[e] -= np.outer(level[indices] * system.energy[e], level)
    return rows


class Walk:
    """Forecasts 1, 2, 3, ... steps ahead, each found from the one before.

    The covariances of step h + 1 with the window are those of step h one lag on, and R is the same
    along its diagonals, so a step costs ``O(n)`` an expert instead of a triangular solve.

    Parameters
    ----------
    system : LevelSystem
    covariances : array of shape (at least n + last step, E)
        At lags 0, 1, ...

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts.recursion import Walk, solve_systems
    >>> covariances = 0.5 ** np.arange(6.0)[:, None]
    >>> walk = Walk(solve_systems(covariances[:4]), covariances)
    >>> weights, variance = np.empty((3, 1, 2)), np.empty((1, 2))
    >>> walk.advance(np.array([1, 3]), weights, variance)
    >>> weights[:, 0].T.round(3).tolist()
    [[0.2, 0.1, 0.7], [0.35, 0.175, 0.475]]
    """

    def __init__(self, system: LevelSystem, covariances: FloatArray) -> None:
        self._system = system
        self._covariances = covariances
        n, n_experts = system.first.shape
        self._room = min(_ROOM, len(covariances) - n)
        # a step on shifts the weights: the view moves down the buffer instead
        self._buffer = np.zeros((n + self._room, n_experts))
        self._start = self._room
        self._buffer[self._start :] = system.ahead
        self._spare = np.empty((n, n_experts))
        self._step = 1

    def _shift(self) -> FloatArray:
        n = self._system.lookback
        if self._start == 0:
            self._buffer[self._room :] = self._buffer[:n].copy()
            self._start = self._room
        self._start -= 1
        self._buffer[self._start] = 0.0
        return self._weights()

    def _weights(self) -> FloatArray:
        return self._buffer[self._start : self._start + self._system.lookback]

    def _next(self) -> None:
        k, n, h = self._covariances, self._system.lookback, self._step
        weights = self._weights()
        newest = weights[-1].copy()
        excess = np.einsum("te,te->e", k[1:n], weights[: n - 1])
        excess += newest * k[n] - k[n + h]
        weights = self._shift()
        weights += np.multiply(self._system.ahead, newest, out=self._spare)
        weights -= np.multiply(self._system.first, excess, out=self._spare)
        self._step += 1

    def advance(self, steps: IntArray, weights: FloatArray, variance: FloatArray) -> None:
        """Write the predictors of the next steps wanted.

        Parameters
        ----------
        steps : array of shape (M,)
            Increasing, none of them before the last one written.
        weights : array of shape (n, E, M)
            Is filled.
        variance : array of shape (E, M)
            Is filled.
        """
        system, k = self._system, self._covariances
        n, n_experts = system.first.shape
        kept = np.empty((n, min(len(steps), _BLOCK), n_experts))
        for begin in range(0, len(steps), _BLOCK):
            block = steps[begin : begin + _BLOCK]
            for i, step in enumerate(block):
                while self._step < step:
                    self._next()
                w = self._weights()
                told = np.einsum("te,te->e", w, k[n + step - 1 : step - 1 : -1])
                rest = 1.0 - w.sum(axis=0)
                variance[:, begin + i] = k[0] - told + rest * rest / system.energy
                np.multiply(system.level, rest, out=self._spare)
                np.add(w, self._spare, out=kept[:, i])
            weights[:, :, begin : begin + len(block)] = kept[:, : len(block)].transpose(0, 2, 1)
