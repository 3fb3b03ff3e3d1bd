"""Products of windows with the windows of regressors, without the windows.

With windows ``a_t = v[t : t + M]`` of a series and ``b_t = u[t : t + M]`` of a regressor, the
cross-Gram matrix ``C = sum_t w_t a_t b_t'`` obeys the recursion of :mod:`mixlin.solvers.gram`,
``C[i + 1, j + 1] = decay * (C[i, j] + boundaries)``, from its first row and its first column, two
correlations.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg.blas import dgemm

from .gram import SeriesSums
from .series_adding import FFT_ELEMENTS, FFT_LENGTH

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_BY_CHANNEL = (
    *("n_windows", "level", "_first", "_start_sum", "_scale_cross", "_scale_sum"),
    *("_wave_start", "_wave_sum", "_wave_scale", "_wave_pairs"),
    *("_tail_at", "_next", "_open_weight"),
)


class JointSums(SeriesSums):
    """Sums over the windows of channels and of regressors that have the same gaps.

    The regressors are the last channels.

    Parameters
    ----------
    lookback, horizon : int
    level : array of shape (C + K,)
        The regressors' last.
    n_regressors : int
        K.
    eps : array of shape (C + K,), optional
    decay : float, default=1.0
    frequencies : array of shape (F,), optional

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.regressor_sums import JointSums
    >>> sums = JointSums(1, 1, np.zeros(2), 1)
    >>> sums.add(np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]))
    >>> sums.products(0).round(9).tolist()  # windows 1 2 and 2 3, against 0 1 and 1 0
    [[[2.0, 1.0], [3.0, 2.0]]]
    """

    def __init__(
        self,
        lookback: int,
        horizon: int,
        level: FloatArray,
        n_regressors: int,
        eps: FloatArray | None = None,
        *,
        decay: float = 1.0,
        frequencies: FloatArray | None = None,
    ) -> None:
        super().__init__(lookback, horizon, level, eps, decay=decay, frequencies=frequencies)
        C, K, M = len(level) - n_regressors, n_regressors, lookback + horizon
        self.n_regressors = n_regressors
        # sums of v[t] u[t + j], of v[t + i] u[t], of s[t] u[t + j], and of u[t] u'[t + j]
        self._row, self._column, self._scaled = (np.zeros((C, K, M)) for _ in range(3))
        self._regressor_row = np.zeros((K, K, M))
        self._folded_products: tuple[FloatArray, FloatArray] | None = None

    @property
    def n_series(self) -> int:
        """Number of channels that are no regressors."""
        return self.n_channels - self.n_regressors

    # -- adding ----------------------------------------------------------------------------

    def add(
        self,
        values: npt.NDArray[np.floating],
        weight: float = 1.0,
        *,
        continues: bool = False,
        at: float | None = None,
        channels: IntArray | None = None,
    ) -> None:
        """Add all windows of a series and its regressors.

        Parameters
        ----------
        values : array of shape (T, C + K)
            A row that holds NaN is a gap in all of them.
        weight, continues, at
            As in :meth:`SeriesSums.add`.
        channels : None
            All of them.
        """
        missing = np.isnan(values).any(axis=1)
        if not missing.any():
            super().add(values, weight, continues=continues, at=at)
            return
        super().add(values[:0], weight, continues=continues, at=at)
        edges = np.flatnonzero(np.diff(missing, prepend=~missing[:1], append=~missing[-1:]))
        for begin, stop in pairwise(edges):
            if missing[begin]:
                self.skip(int(stop - begin))
            else:
                super().add(values[begin:stop], weight, continues=True)

    def _fade(self, factor: float, channels: IntArray) -> None:
        super()._fade(factor, channels)
        for sums in (self._row, self._column, self._scaled, self._regressor_row):
            sums *= factor
        if self._folded_products is not None:
            cross, regressors = self._folded_products
            self._folded_products = cross * factor, regressors * factor

    def _accumulate(self, rows: npt.NDArray[np.floating], channels: IntArray, start: float) -> None:
        n_windows = len(rows) - self._length + 1
        if n_windows > 0:
            self._correlate_pairs(rows, n_windows, start)
        super()._accumulate(rows, channels, start)

    def _correlate_pairs(
        self, rows: npt.NDArray[np.floating], n_windows: int, first_row: float
    ) -> None:
        M, C = self._length, self.n_series
        n_fft = next_fast_len(min(n_windows + M - 1, max(FFT_LENGTH, 4 * M)), real=True)
        block = n_fft - M + 1
        group = max(1, FFT_ELEMENTS // (n_fft * self.n_regressors))
        for start in range(0, n_windows, block):
            size = min(block, n_windows - start)
            z = rows[start : start + size + M - 1].T - self.level[:, None]
            w = self._window_weights(0, first_row + start, size)
            u = z[C:]
            ahead, begins = rfft(u, n_fft), np.conj(rfft(w * u[:, :size], n_fft))
            self._regressor_row += irfft(begins[:, None] * ahead, n_fft)[:, :, :M]
            for at in range(0, C, group):
                part = slice(at, min(at + group, C))
                v = z[part]
                first = np.conj(rfft(w * v[:, :size], n_fft))[:, None]
                self._row[part] += irfft(first * ahead, n_fft)[:, :, :M]
                whole = rfft(v, n_fft)[:, None]
                self._column[part] += irfft(begins * whole, n_fft)[:, :, :M]
                if self.eps is not None:
                    s = self._window_scale(v, np.arange(C)[part], size)
                    first = np.conj(rfft(w * s, n_fft))[:, None]
                    self._scaled[part] += irfft(first * ahead, n_fft)[:, :, :M]

    def _close_channel(self, c: int) -> None:
        # all channels have the same stretches: they are closed, and folded, together
        if (ends := self._open_ends(c)) is not None:
            self._listed[c] += ends
        self._open_head[c] = None
        self._open_tail[c] = np.empty(0)
        if c == self.n_channels - 1 and len(self._listed[c]) > max(16, self._length):
            self._fold_products()

    def _fold_products(self) -> None:
        C, K = self.n_series, self.n_regressors
        cross = np.array([[self._steps(c, C + k) for k in range(K)] for c in range(C)])
        among = np.array([[self._steps(C + k, C + j) for j in range(K)] for k in range(K)])
        self._folded_products = cross, among  # with what was folded before
        for k in range(C, C + K):
            self._fold(k)
        for c in range(C):  # only the sums of these are read
            rows, weight, _ = self._stacked(self._listed[c])
            line = np.zeros(self._length - 1) if c not in self._folded else self._folded[c][1]
            none = np.zeros((0, self._length - 1))
            self._folded[c] = none, line + weight @ rows, none.astype(np.complex128)
            self._listed[c] = []

    def split(self, parts: list[IntArray]) -> list[JointSums]:
        """Return sums of some channels each, all with the regressors.

        Parameters
        ----------
        parts : list of arrays of int
            Channels.

        Returns
        -------
        list of JointSums
        """
        regressors = np.arange(self.n_series, self.n_channels)
        made = []
        for part in parts:
            kept = np.concatenate([part, regressors])
            out = copy.copy(self)
            for name in _BY_CHANNEL:
                setattr(out, name, getattr(self, name)[kept])
            out.eps = None if self.eps is None else self.eps[kept]
            for name in ("_listed", "_open_head", "_open_tail"):
                setattr(out, name, [copy.copy(getattr(self, name)[c]) for c in kept])
            places = {int(c): i for i, c in enumerate(kept)}
            out._folded = {places[c]: own for c, own in self._folded.items() if c in places}
            for name in ("_row", "_column", "_scaled"):
                setattr(out, name, getattr(self, name)[part])
            out._regressor_row = self._regressor_row.copy()
            if self._folded_products is not None:
                cross, among = self._folded_products
                out._folded_products = cross[part], among
            made.append(out)
        return made

    # -- reading ---------------------------------------------------------------------------

    def _steps(self, a: int, b: int) -> FloatArray:
        """Return what the recursion adds to the products of two channels, b a regressor."""
        one, other, C = self._boundaries(a), self._boundaries(b), self.n_series
        rows = (one.rows * one.weight[:, None]).T
        out = np.zeros((self._length - 1, self._length - 1))
        if len(one.rows):
            out = np.asarray(dgemm(1.0, rows, other.rows))
        if self._folded_products is not None:
            cross, among = self._folded_products
            out = out + (cross[a, b - C] if a < C else among[a - C, b - C])
        return out

    def _recursion(self, row: FloatArray, column: FloatArray, steps: FloatArray) -> FloatArray:
        M = self._length
        out = np.empty((M, M))
        out[0], out[:, 0] = row, column
        for i in range(M - 1):
            np.add(out[i, :-1], steps[i], out=out[i + 1, 1:])
            if self.decay != 1.0:
                out[i + 1, 1:] *= self.decay
        return out

    def products(self, c: int) -> FloatArray:
        """Return the products of a channel's windows with those of every regressor.

        Parameters
        ----------
        c : int

        Returns
        -------
        array of shape (K, M, M)
            Both measured from their level.
        """
        C = self.n_series
        return np.array(
            [
                self._recursion(self._row[c, k], self._column[c, k], self._steps(c, C + k))
                for k in range(self.n_regressors)
            ]
        )

    def regressor_products(self, k: int, j: int) -> FloatArray:
        """Return the products of the windows of two regressors.

        Parameters
        ----------
        k, j : int

        Returns
        -------
        array of shape (M, M)
        """
        C, rows = self.n_series, self._regressor_row
        return self._recursion(rows[k, j], rows[j, k], self._steps(C + k, C + j))

    def coordinate_sums(self, c: int) -> FloatArray:
        """Return the sums of the coordinates (x, y[, s], 1) of a channel's windows.

        Parameters
        ----------
        c : int

        Returns
        -------
        array of shape (width,)
        """
        scale = [] if self.eps is None else [self._scale_sum[c, :1]]
        return np.concatenate([self._lag_sums(c), *scale, self.n_windows[c : c + 1]])

    def scale_products(self, c: int) -> FloatArray:
        """Return the products of a window's scale with the windows of the regressors.

        Parameters
        ----------
        c : int

        Returns
        -------
        array of shape (K, M)
        """
        return np.asarray(self._scaled[c])


class RegressorSums:
    """Sums over the windows of channels, each with its own gaps, and of regressors.

    Parameters
    ----------
    lookback, horizon : int
    level : array of shape (C,)
    center : array of shape (K,)
        Regressors are measured from it.
    eps : array of shape (C,), optional
    decay : float, default=1.0
    frequencies : array of shape (F,), optional

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.regressor_sums import RegressorSums
    >>> sums = RegressorSums(1, 1, np.zeros(1), np.zeros(1))
    >>> sums.add(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0], [1.0], [0.0]]))
    >>> joint, place = sums.of_channel(0)
    >>> joint.products(place).round(9).tolist()
    [[[2.0, 1.0], [3.0, 2.0]]]
    """

    def __init__(
        self,
        lookback: int,
        horizon: int,
        level: FloatArray,
        center: FloatArray,
        eps: FloatArray | None = None,
        *,
        decay: float = 1.0,
        frequencies: FloatArray | None = None,
    ) -> None:
        self.center = center
        C, K = len(level), len(center)
        joint = JointSums(
            lookback,
            horizon,
            np.concatenate([level, center]),
            K,
            None if eps is None else np.concatenate([eps, np.ones(K)]),
            decay=decay,
            frequencies=frequencies,
        )
        # channels whose gaps were the same so far share one entry
        self._groups: list[tuple[IntArray, JointSums]] = [(np.arange(C), joint)]

    def add(
        self,
        values: npt.NDArray[np.floating],
        exog: npt.NDArray[np.floating],
        weight: float = 1.0,
        *,
        continues: bool = False,
        at: float | None = None,
    ) -> None:
        """Add all windows of a series and its regressors.

        Parameters
        ----------
        values : array of shape (T, C)
        exog : array of shape (T, K)
            NaN in either is a gap: in the channel, and in all of them.
        weight, continues, at
            As in :meth:`SeriesSums.add`.
        """
        missing = np.isnan(values)
        groups = []
        for channels, joint in self._groups:
            patterns: dict[bytes, list[int]] = {}
            for i, c in enumerate(channels):
                patterns.setdefault(np.packbits(missing[:, c]).tobytes(), []).append(i)
            parts = [np.array(part) for part in patterns.values()]
            made = [joint] if len(parts) == 1 else joint.split(parts)
            groups += [(channels[part], one) for part, one in zip(parts, made, strict=True)]
        self._groups = groups
        for channels, joint in groups:
            rows = np.concatenate([values[:, channels], exog], axis=1)
            joint.add(rows, weight, continues=continues, at=at)

    @property
    def open_weight(self) -> float:
        """Weight of the windows of the series that was added last."""
        return self._groups[0][1].open_weight

    def of_channel(self, c: int) -> tuple[JointSums, int]:
        """Return the sums that hold a channel, and its place among them.

        Parameters
        ----------
        c : int

        Returns
        -------
        sums : JointSums
        place : int
        """
        for channels, joint in self._groups:
            found = np.flatnonzero(channels == c)
            if len(found):
                return joint, int(found[0])
        raise IndexError(c)
