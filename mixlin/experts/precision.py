"""What an expert says about the values of one window: how probable each is, given the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import fft

from .kernels import FloatArray
from .recursion import LevelSystem, inverse_rows

_FEW = 16  # share of the columns up to which single ones cost less by transforms than all together


@dataclass(frozen=True, eq=False)
class Precision:
    """The precision matrix of a window's departures from its level, under one expert.

    That is ``R^-1 - R^-1 1 1' R^-1 / (1' R^-1 1)`` with R the covariance matrix of the window's
    values: what a quadratic form needs once the level is free. Kept as O(n) numbers; products
    cost ``O(n log n)`` by fast Fourier transforms (Gohberg and Semencul's formula).

    Parameters
    ----------
    first : array of shape (n,)
        First column of ``R^-1``.
    level : array of shape (n,)
        Weights of the level's estimate; they sum to one.
    level_energy : float
        ``1' R^-1 1``: the inverse of the variance of the level's estimate.
    log_determinant : float
        Of R.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, seasonless_experts
    >>> matrices = BankMatrices(seasonless_experts())
    >>> walk = matrices.bank.names.index("random walk, noise 0.01")
    >>> precision = matrices.precision(walk, lookback=6)
    >>> spike = np.array([1.0, 1.0, 1.0, 6.0, 1.0, 1.0])
    >>> away = precision.dot(spike) / precision.diagonal  # from what the others say of it
    >>> away[2:5].round(1).tolist()
    [-2.5, 5.0, -2.5]
    """

    first: FloatArray
    level: FloatArray
    level_energy: float
    log_determinant: float

    @classmethod
    def of_system(cls, system: LevelSystem, expert: int) -> Precision:
        """Take one expert's matrix from the solved systems of several.

        Parameters
        ----------
        system : LevelSystem
        expert : int
        """
        return cls(
            np.ascontiguousarray(system.first[:, expert]),
            np.ascontiguousarray(system.level[:, expert]),
            float(system.energy[expert]),
            float(system.log_determinant[expert]),
        )

    @property
    def lookback(self) -> int:
        """Number of values."""
        return len(self.first)

    @property
    def nbytes(self) -> int:
        """Memory of what products need."""
        return 10 * int(self.first.nbytes)

    @cached_property
    def _generators(self) -> tuple[FloatArray, FloatArray]:
        """R^-1 = A A' - B B' for the lower triangular Toeplitz matrices of these columns."""
        a = self.first / np.sqrt(self.first[0])
        b = np.zeros_like(a)
        b[1:] = a[:0:-1]
        return a, b

    @cached_property
    def _spectra(self) -> npt.NDArray[np.complex128]:
        spectra: npt.NDArray[np.complex128] = fft.rfft(np.stack(self._generators), self._size)
        return spectra

    @cached_property
    def _size(self) -> int:
        return int(fft.next_fast_len(2 * self.lookback - 1, real=True))

    def dot(self, y: npt.ArrayLike) -> FloatArray:
        """Multiply windows by the matrix.

        Parameters
        ----------
        y : array of shape (..., n)

        Returns
        -------
        array of shape (..., n)
            Divided by :attr:`diagonal`: how far each value lies from what the others say of it.
        """
        values = np.asarray(y, dtype=np.float64)
        n, size = self.lookback, self._size
        # the rows of the matrix sum to zero: without its level a window loses no digits
        values = values - values.mean(axis=-1, keepdims=True)
        spectrum = fft.rfft(values, size)
        total = None
        for generator, sign in zip(self._spectra, (1.0, -1.0), strict=True):
            half = fft.irfft(spectrum * generator.conj(), size)[..., :n]
            part = sign * fft.rfft(half, size) * generator
            total = part if total is None else total + part
        out: FloatArray = fft.irfft(total, size)[..., :n]
        out -= (self.level_energy * (values @ self.level))[..., None] * self.level
        return out

    @cached_property
    def diagonal(self) -> FloatArray:
        """Diagonal of the matrix, of shape (n,)."""
        a, b = self._generators
        return np.cumsum((a - b) * (a + b)) - self.level_energy * self.level**2

    def columns(self, indices: npt.ArrayLike) -> FloatArray:
        """Return columns of the matrix.

        Parameters
        ----------
        indices : array of int of shape (m,)
            In any order.

        Returns
        -------
        array of shape (m, n)
            Columns and rows are the same.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(wanted) * _FEW <= self.lookback:
            units = np.zeros((len(wanted), self.lookback))
            units[np.arange(len(wanted)), wanted] = 1.0
            return self.dot(units)
        increasing, place = np.unique(wanted, return_inverse=True)
        system = LevelSystem(
            self.first[:, None],
            self.first[:, None],
            self.level[:, None],
            np.array([self.level_energy]),
            np.array([self.log_determinant]),
        )
        rows: FloatArray = inverse_rows(system, increasing)[0, place]
        return rows

    @cached_property
    def step_energy(self) -> FloatArray:
        """Quadratic forms ``s_k' M s_k`` of the n steps that are 0 before value k, then 1.

        A step that is 1 before value k and 0 from there on has the same one: the level is free.
        The one of k = 0 is no step and has 0.
        """
        n, size = self.lookback, self._size
        forms = np.zeros(n)
        for generator, sign in zip(self._generators, (1.0, -1.0), strict=True):
            # G' s_k is a sum of G' 1 and a shift of it
            sums = np.cumsum(generator)
            spectrum = fft.rfft(sums, size)
            lagged = fft.irfft(spectrum * spectrum.conj(), size)[:n]
            squares = np.concatenate([[0.0], np.cumsum(sums**2)])
            cross = np.concatenate([[0.0], lagged[:0:-1]])
            forms += sign * (squares[n] - 2 * cross + squares[:n])
        tail = np.cumsum(self.level[::-1])[::-1]
        forms -= self.level_energy * tail**2
        forms[0] = 0.0
        return forms
