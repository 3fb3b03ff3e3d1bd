"""Forecasts from windows with gaps: conditional on exactly what was observed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg

from .kernels import FloatArray
from .recursion import IntArray, LevelSystem, Walk, inverse_rows

BoolArray = npt.NDArray[np.bool_]


class Steps(Protocol):
    """What writes the predictors of a few experts, step after step."""

    def advance(self, steps: IntArray, weights: FloatArray, variance: FloatArray) -> None:
        """Write the predictors of the next steps wanted; see :meth:`Walk.advance`."""


class SingularError(Exception):
    """A covariance matrix that can't be factorised.

    Parameters
    ----------
    expert : int
        Whose it is, by place.
    """

    def __init__(self, expert: int) -> None:
        super().__init__(expert)
        self.expert = expert


def _factors(matrices: Iterable[FloatArray]) -> list[tuple[FloatArray, bool]]:
    factors = []
    for e, matrix in enumerate(matrices):
        try:
            factors.append(linalg.cho_factor(matrix, lower=True, check_finite=False))
        except np.linalg.LinAlgError as error:
            raise SingularError(e) from error
    return factors


class ImputingWalk:
    """Predictors that have the missing values' conditional means inside.

    For few missing values: the forecast from a whole window is read with the mean of the missing
    values given the observed ones, which is linear in these.

    Parameters
    ----------
    system : LevelSystem
    covariances : array of shape (at least n + last step, E)
    observed : array of bool of shape (n,)
    """

    def __init__(self, system: LevelSystem, covariances: FloatArray, observed: BoolArray) -> None:
        self._walk = Walk(system, covariances)
        self._missing = np.flatnonzero(~observed)
        self._rows = inverse_rows(system, self._missing)
        self._factors = _factors(rows[:, self._missing] for rows in self._rows)

    def advance(self, steps: IntArray, weights: FloatArray, variance: FloatArray) -> None:
        """Write the predictors of the next steps wanted; see :meth:`Walk.advance`."""
        self._walk.advance(steps, weights, variance)
        for e, factor in enumerate(self._factors):
            lost = weights[self._missing, e]
            share = linalg.cho_solve(factor, lost, check_finite=False)
            weights[:, e] -= self._rows[e].T @ share
            variance[e] += np.einsum("mh,mh->h", lost, share)
        weights[self._missing] = 0.0


class ObservedSystem:
    """Predictors from the covariances of the observed values alone.

    For many missing values; the matrices have lost their structure and are factorised.

    Parameters
    ----------
    covariances : array of shape (at least n + last step, E)
    observed : array of bool of shape (n,)
    """

    def __init__(self, covariances: FloatArray, observed: BoolArray) -> None:
        self._covariances = covariances
        self._observed = observed
        self._places = np.flatnonzero(observed)
        lags = np.abs(self._places[:, None] - self._places)
        self._factors = _factors(k[lags] for k in covariances.T)

    def advance(self, steps: IntArray, weights: FloatArray, variance: FloatArray) -> None:
        """Write the predictors of the next steps wanted; see :meth:`Walk.advance`."""
        lags = len(self._observed) - 1 - self._places[:, None] + steps
        weights[:] = 0.0
        for e, factor in enumerate(self._factors):
            k = self._covariances[:, e]
            known = np.concatenate([k[lags], np.ones((len(lags), 1))], axis=1)
            solved = linalg.cho_solve(factor, known, check_finite=False)
            simple, level = solved[:, :-1], solved[:, -1]
            energy = level.sum()
            rest = 1.0 - simple.sum(axis=0)
            weights[self._places, e] = simple + np.outer(level / energy, rest)
            told = np.einsum("oh,oh->h", known[:, :-1], simple)
            variance[e] = k[0] - told + rest * rest / energy


def observed_span(mask: BoolArray | None, lookback: int) -> slice:
    """Return where a window starts and ends once the gaps at its ends are cut off.

    Parameters
    ----------
    mask : array of bool of shape (lookback,), or None
        True where observed, at least once; None for everywhere.
    lookback : int

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts.gaps import observed_span
    >>> observed_span(np.array([False, True, False, True, False, False]), 6)
    slice(1, 4, None)
    """
    if mask is None:
        return slice(0, lookback)
    seen = np.flatnonzero(mask)
    return slice(int(seen[0]), int(seen[-1]) + 1)
