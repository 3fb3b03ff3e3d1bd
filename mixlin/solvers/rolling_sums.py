"""Second moments of the windows of a moving stretch of rows, kept as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dgemm

from .gram import SeriesSums
from .window_sums import FloatArray, WindowSums, dense_quadratic

_MOST_REMOVED = 512  # windows that are taken out before the sums are made anew
_LEAST_LEFT = 1e-2  # of the largest sum of squares, or what was taken out leaves its rounding
_FAR = 4.0  # of the variance: squared distance from the mean at which a level is moved
_FARTHEST = 100.0  # the same of a level that is in use


class RollingSums(WindowSums):
    """Sums over the windows of a stretch of a series, which moves on through the rows.

    A row that enters brings one window, a row that leaves takes one: a change of rank one or two,
    ``(lookback + horizon) ** 2`` operations per channel, where :class:`SeriesSums` would build the
    whole matrix from its recursion. In return memory is
    ``8 * C * (lookback + horizon + 1) ** 2`` bytes.

    Parameters
    ----------
    values : array of shape (T, C)
        All rows; NaN marks missing values, windows that hold one are left out. Not copied.
    lookback, horizon : int
    level : array of shape (C,)
        It is moved where the rows leave it behind.
    decay : float, default=1.0
        Weight of a window relative to that of the next one.
    frequencies : array of shape (F,), optional
        As in :class:`SeriesSums`.
    at : float, default=0.0
        Ordinal of the first row.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import RollingSums
    >>> sums = RollingSums(np.array([[1.0], [2.0], [3.0], [4.0]]), 2, 1, np.zeros(1))
    >>> sums.move(0, 3)  # the window 1 2 3
    >>> sums.move(1, 4)  # the window 2 3 4
    >>> moments = sums.moments(np.ones(1), np.zeros(1), np.array([0]))
    >>> (moments[-1, :3] + sums.level).tolist()
    [2.0, 3.0, 4.0]
    """

    def __init__(
        self,
        values: npt.NDArray[np.floating[Any]],
        lookback: int,
        horizon: int,
        level: FloatArray,
        *,
        decay: float = 1.0,
        frequencies: FloatArray | None = None,
        at: float = 0.0,
    ) -> None:
        super().__init__(lookback, horizon, level)
        self.decay = decay
        self.frequencies = np.empty(0) if frequencies is None else frequencies
        self.values = values
        self.at = at
        self.start = self.stop = 0
        self._removed = 0
        self._length = lookback + horizon
        # of (x, y, 1), and the waves' products with that and with each other
        n_channels, width, n_waves = len(level), self._length + 1, 2 * len(self.frequencies)
        self._plain = np.zeros((n_channels, width, width))
        self._cross = np.zeros((n_channels, n_waves, width))
        self._waves = np.zeros((n_channels, n_waves, n_waves))
        self._peak = np.zeros(n_channels)
        # of the windows' scale: with (x, y, 1), with itself, with the waves
        self._scale_cross = np.zeros((n_channels, width))
        self._scale_square = np.zeros(n_channels)
        self._scale_waves = np.zeros((n_channels, n_waves))

    @staticmethod
    def n_bytes(n_channels: int, lookback: int, horizon: int) -> int:
        """Return the memory that sums take.

        Parameters
        ----------
        n_channels, lookback, horizon : int
        """
        return 8 * n_channels * (lookback + horizon + 1) ** 2

    def move(self, start: int, stop: int) -> None:
        """Make these the sums over all windows of the rows from ``start`` to before ``stop``.

        Parameters
        ----------
        start, stop : int
            Moves forward by a few rows are low-rank updates; for any other the sums are made anew,
            and now and then all the same, so that rounding does not pile up.
        """
        M, old_start, old_stop = self._length, self.start, self.stop
        n_moved = start - old_start + stop - old_stop
        forward = old_start <= start <= old_stop - M and old_stop <= stop
        self._removed += start - old_start
        if not forward or n_moved > M // 2 or self._removed > _MOST_REMOVED:
            self._anew(start, stop)
            return
        self.start, self.stop = start, stop
        factor = self.decay ** (stop - old_stop)
        entering = np.arange(old_stop - M + 1, stop - M + 1)
        leaving = np.arange(old_start, start)
        firsts = np.concatenate([entering, leaving])
        sign = np.repeat([1.0, -1.0], [len(entering), len(leaving)])
        self._change(firsts, sign * self.decay ** (stop - M - firsts), factor)
        spread, offset = self._spread()
        self._peak = np.maximum(self._peak * factor, spread)
        if ((spread < _LEAST_LEFT * self._peak) | (offset > _FARTHEST * spread)).any():
            self._anew(start, stop)

    def measure_scale(self, eps: FloatArray) -> None:
        """Take the windows' scale ``sqrt(var(x) + eps)`` as a further coordinate.

        Parameters
        ----------
        eps : array of shape (C,)
            It enters every product, so that these are made anew at every call; :meth:`move` asks
            for another one.
        """
        sums = SeriesSums(
            self.lookback,
            self.horizon,
            self.level,
            eps,
            decay=self.decay,
            frequencies=self.frequencies,
        )
        sums.add(self.values[self.start : self.stop], at=self.at + self.start)
        self.eps = eps
        self._scale_cross, self._scale_square = sums.scale_sums()
        for c in range(self.n_channels if len(self.frequencies) else 0):
            self._scale_waves[c] = sums.waves(c)[0][:, self._length]

    def _anew(self, start: int, stop: int) -> None:
        self.level = self._near(self.values[start:stop])
        sums = SeriesSums(
            self.lookback,
            self.horizon,
            self.level,
            decay=self.decay,
            frequencies=self.frequencies,
        )
        sums.add(self.values[start:stop], at=self.at + start)
        for c in range(self.n_channels):
            one = np.array([c])
            self._plain[c] = sums.moments(np.ones(1), np.zeros(1), one)
            self._cross[c], self._waves[c] = sums.waves(c)
        self.n_windows = sums.n_windows.copy()
        self.start, self.stop, self._removed = start, stop, 0
        self._peak = self._spread()[0]

    def _near(self, rows: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Return the level, moved where rows have left it so far that digits would be lost."""
        seen = np.isfinite(rows)
        count = np.maximum(seen.sum(axis=0), 1)
        off = np.where(seen, rows - self.level, 0.0)
        mean = off.sum(axis=0) / count
        variance = np.square(off).sum(axis=0) / count - mean * mean
        return np.where(
            mean * mean > _FAR * np.maximum(variance, 0.0), self.level + mean, self.level
        )

    def _spread(self) -> tuple[FloatArray, FloatArray]:
        """Return the sums of squares around the means, and what the level's offset adds to them."""
        n = np.maximum(self.n_windows, np.finfo(np.float64).tiny)
        offset = np.square(self._plain[:, -1, :-1]).sum(axis=1) / n
        return np.einsum("cii->c", self._plain[:, :-1, :-1]) - offset, offset

    def _change(self, firsts: npt.NDArray[np.intp], weight: FloatArray, factor: float) -> None:
        """Multiply the sums by a factor and add weighted windows by their first rows."""
        M = self._length
        rows = self.values[firsts[:, None] + np.arange(M)] - self.level  # (k, M, C)
        angle = np.outer(self.at + firsts + self.lookback - 1, self.frequencies)
        waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        for c in range(self.n_channels):
            z = np.ones((len(firsts), M + 1))
            z[:, :M] = rows[:, :, c]
            w = weight
            seen = np.isfinite(z).all(axis=1)
            if not seen.all():
                z[~seen], w = 0.0, np.where(seen, weight, 0.0)
            weighted = z * w[:, None]
            # in place, on the transposed view that BLAS takes without a copy
            dgemm(
                1.0, z.T, weighted.T, trans_b=True, beta=factor, c=self._plain[c].T, overwrite_c=1
            )
            if len(self.frequencies):
                self._cross[c] = factor * self._cross[c] + waves.T @ weighted
                self._waves[c] = factor * self._waves[c] + (waves * w[:, None]).T @ waves
        self.n_windows = self._plain[:, -1, -1].copy()

    # -- reading ---------------------------------------------------------------------------

    def waves(self, c: int) -> tuple[FloatArray, FloatArray]:
        cross = self._cross[c]
        if self.eps is not None:
            cross = np.insert(cross, self._length, self._scale_waves[c], axis=1)
        return cross.copy(), self._waves[c]

    def moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        M, inverse = self._length, 1.0 / scale
        square = inverse * inverse
        plain = self._plain if len(channels) == self.n_channels else self._plain[channels]
        pooled = (square @ plain.reshape(len(channels), -1)).reshape(M + 1, M + 1)
        ones, n = plain[:, -1, :M], plain[:, -1, -1]
        if shift.any():
            cross = (square * shift) @ ones
            pooled[:M, :M] -= cross
            pooled[:M, :M] -= cross[:, None]
            pooled[:M, :M] += (square * shift * shift) @ n
        pooled[-1, :M] = pooled[:M, -1] = inverse @ (ones - (shift * n)[:, None])
        pooled[-1, -1] = n.sum()
        if self.eps is None:
            return np.asarray(pooled)
        out = np.empty((M + 2, M + 2))
        kept = np.r_[:M, M + 1]
        out[np.ix_(kept, kept)] = pooled
        scale_cross = self._scale_cross[channels]
        total = scale_cross[:, M]
        out[M, :M] = square @ (scale_cross[:, :M] - (shift * total)[:, None])
        out[M, M] = square @ self._scale_square[channels]
        out[M, -1] = inverse @ total
        out[:, M] = out[M]
        return out

    def quadratic(self, coef: FloatArray, constant: FloatArray) -> FloatArray:
        one = (np.ones(1), np.zeros(1))
        return np.array(
            [
                dense_quadratic(
                    self.moments(*one, np.array([c])), coef[min(c, len(coef) - 1)], constant[c]
                )
                for c in range(self.n_channels)
            ]
        )

    def input_variance(self) -> FloatArray:
        L = self.lookback
        n = np.maximum(self.n_windows, np.finfo(np.float64).tiny)
        square = np.einsum("cii->c", self._plain[:, :L, :L]) / L / n
        mean = self._plain[:, -1, :L].mean(axis=1) / n
        return np.asarray(np.maximum(square - mean * mean, 0.0))
