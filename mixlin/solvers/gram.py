"""Second moments of all windows of a series, without the windows.

With ``z_t = v[t : t + M]`` the Gram matrix ``G = sum_t z_t z_t'`` of N consecutive windows obeys
``G[i + 1, j + 1] = G[i, j] - v[i] v[j] + v[N + i] v[N + j]``. Its first row (a correlation), the
first M - 1 and the last M - 1 values of the stretch therefore determine it: 3 M numbers per
channel and stretch, which add up over stretches, chunks, series and machines.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg.blas import dgemm

from .window_sums import WindowSums, dense_quadratic

FloatArray = npt.NDArray[np.float64]

_FFT_LENGTH = 2**14  # long enough that overlaps cost little, short enough to stay in cache
_FFT_ELEMENTS = 2**20  # channels are transformed together up to this many values


class SeriesSums(WindowSums):
    """Sums over all windows of series, in O(T log M) time and O(M) memory per channel.

    Stretches without missing values are added one after another; windows never cross a gap.
    Memory is about ``24 * C * M`` bytes and ``16 * M`` more for every closed stretch; past
    ``M / 2`` closed stretches of a channel they are folded into one ``M x M`` matrix.

    Parameters
    ----------
    lookback, horizon : int
    level : array of shape (C,)
    eps : array of shape (C,), optional

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import SeriesSums
    >>> sums = SeriesSums(2, 1, np.zeros(1))
    >>> sums.add(np.array([[1.0], [2.0], [3.0], [4.0]]))  # windows 1 2 3 and 2 3 4
    >>> sums.moments(np.ones(1), np.zeros(1), np.array([0])).round(9)[:2, 2].tolist()
    [11.0, 18.0]
    """

    def __init__(
        self, lookback: int, horizon: int, level: FloatArray, eps: FloatArray | None = None
    ) -> None:
        super().__init__(lookback, horizon, level, eps)
        n_channels, length = len(level), lookback + horizon
        self._length = length
        self._first = np.zeros((n_channels, length))
        self._start_sum = np.zeros(n_channels)
        self._scale_cross = np.zeros((n_channels, length))
        self._scale_sum = np.zeros((n_channels, 2))  # of s and of s * s
        # closed stretches: weight times (tail tail' - head head'), listed or folded
        self._heads: list[list[FloatArray]] = [[] for _ in range(n_channels)]
        self._tails: list[list[FloatArray]] = [[] for _ in range(n_channels)]
        self._ends: list[list[float]] = [[] for _ in range(n_channels)]
        self._folded: dict[int, tuple[FloatArray, FloatArray]] = {}
        # the open stretch: its head once it has one, and its last values
        self._open_head: list[FloatArray | None] = [None] * n_channels
        self._open_tail: list[FloatArray] = [np.empty(0)] * n_channels
        self._open_weight = 1.0

    def add(
        self, values: npt.NDArray[np.floating], weight: float = 1.0, *, continues: bool = False
    ) -> None:
        """Add all windows of a series.

        Parameters
        ----------
        values : array of shape (T, C)
            NaN marks missing values; windows that hold one are left out.
        weight : float
            Of every window.
        continues : bool
            Whether ``values`` follow directly on the last call's, so that windows across the
            join count.
        """
        if not continues:
            self._close()
        elif weight != self._open_weight and any(len(tail) for tail in self._open_tail):
            raise ValueError(
                f"rows that continue a series must keep its weight {self._open_weight}; got "
                f"{weight}. Give the whole series to fit with its sample_weight, or start another "
                "one with new_series=True."
            )
        self._open_weight = weight
        missing = np.isnan(values)
        if not missing.any():
            self._add_stretch(values, np.arange(self.n_channels))
            return
        for c in range(self.n_channels):
            edges = np.flatnonzero(np.diff(missing[:, c], prepend=True, append=True))
            only = np.array([c])
            if missing[0, c]:
                self._close_channel(c)
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                self._add_stretch(values[start:stop, c : c + 1], only)
                if stop < len(values):
                    self._close_channel(c)

    def _add_stretch(self, rows: npt.NDArray[np.floating], channels: npt.NDArray[np.intp]) -> None:
        tails = [self._open_tail[c] for c in channels]
        lengths = {len(tail) for tail in tails}
        if len(lengths) > 1:  # the channels' gaps differ: their stretches have different lengths
            for i, c in enumerate(channels):
                self._add_stretch(rows[:, i : i + 1], np.array([c]))
            return
        if lengths != {0}:
            # only the start of the rows is needed for the windows across the join
            M = self._length
            if len(rows) >= M:
                across = np.concatenate([np.stack(tails, axis=1), rows[: M - 1]])
                self._accumulate(across, channels)
                self._accumulate(rows, channels)
                return
            rows = np.concatenate([np.stack(tails, axis=1), rows])
        self._accumulate(rows, channels)

    def _accumulate(self, rows: npt.NDArray[np.floating], channels: npt.NDArray[np.intp]) -> None:
        """Add the windows of ``rows``, which hold the open stretch's last values if any."""
        M, weight = self._length, self._open_weight
        n_windows = len(rows) - M + 1
        if n_windows > 0:
            self.n_windows[channels] += weight * n_windows
            group = max(1, _FFT_ELEMENTS // min(2 * _FFT_LENGTH, n_windows + 2 * M))
            for at in range(0, len(channels), group):
                part = slice(at, at + group)
                self._correlate(rows[:, part], channels[part], n_windows)
        last = np.array(rows[-(M - 1) :] if M > 1 else rows[:0], dtype=np.float64)
        head = np.array(rows[: M - 1], dtype=np.float64) if n_windows > 0 else None
        for i, c in enumerate(channels):
            if self._open_head[c] is None and head is not None:
                self._open_head[c] = head[:, i] - self.level[c]
            self._open_tail[c] = last[:, i].copy()

    def _correlate(
        self, rows: npt.NDArray[np.floating], channels: npt.NDArray[np.intp], n_windows: int
    ) -> None:
        M, weight = self._length, self._open_weight
        n_fft = next_fast_len(min(n_windows + M - 1, max(_FFT_LENGTH, 4 * M)), real=True)
        block = n_fft - M + 1
        level = self.level[channels][:, None]
        spectrum = np.zeros((len(channels), n_fft // 2 + 1), dtype=np.complex128)
        scale_spectrum = np.zeros_like(spectrum)
        for start in range(0, n_windows, block):
            size = min(block, n_windows - start)
            v = rows[start : start + size + M - 1].T - level
            ahead = rfft(v, n_fft)
            starts = v[:, :size]
            spectrum += np.conj(rfft(starts, n_fft)) * ahead
            self._start_sum[channels] += weight * starts.sum(axis=1)
            if self.eps is not None:
                s = self._window_scale(v, channels, size)
                scale_spectrum += np.conj(rfft(s, n_fft)) * ahead
                self._scale_sum[channels, 0] += weight * s.sum(axis=1)
                self._scale_sum[channels, 1] += weight * np.einsum("ct,ct->c", s, s)
        self._first[channels] += weight * irfft(spectrum, n_fft)[:, :M]
        if self.eps is not None:
            self._scale_cross[channels] += weight * irfft(scale_spectrum, n_fft)[:, :M]

    def _window_scale(self, v: FloatArray, channels: npt.NDArray[np.intp], size: int) -> FloatArray:
        assert self.eps is not None
        L = self.lookback
        v = v[:, : size + L - 1]
        v = v - v.mean(axis=1, keepdims=True)
        sums = np.zeros((2, len(v), v.shape[1] + 1))
        np.cumsum(v, axis=1, out=sums[0, :, 1:])
        np.cumsum(v * v, axis=1, out=sums[1, :, 1:])
        mean, square = (sums[:, :, L:] - sums[:, :, :-L]) / L
        variance = np.maximum(square - mean * mean, 0.0)
        return np.asarray(np.sqrt(variance + self.eps[channels][:, None]))

    def _close(self) -> None:
        for c in range(self.n_channels):
            self._close_channel(c)

    def _close_channel(self, c: int) -> None:
        head = self._open_head[c]
        if head is not None:
            self._heads[c].append(head)
            self._tails[c].append(self._open_tail[c] - self.level[c])
            self._ends[c].append(self._open_weight)
            if len(self._ends[c]) > max(8, self._length // 2):
                self._fold(c)
        self._open_head[c] = None
        self._open_tail[c] = np.empty(0)

    def _fold(self, c: int) -> None:
        steps = self._length - 1
        outer, line = self._folded.get(c, (np.zeros((steps, steps)), np.zeros(steps)))
        heads, tails = np.array(self._heads[c]), np.array(self._tails[c])
        w = np.array(self._ends[c])[:, None]
        self._folded[c] = (
            outer + (w * tails).T @ tails - (w * heads).T @ heads,
            line + (w * (tails - heads)).sum(axis=0),
        )
        self._heads[c], self._tails[c], self._ends[c] = [], [], []

    def _boundaries(self, c: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return heads, tails (k, M - 1) and weights (k,) of a channel, the open stretch too."""
        heads, tails, ends = self._heads[c], self._tails[c], self._ends[c]
        if (head := self._open_head[c]) is not None:
            heads = [*heads, head]
            tails = [*tails, self._open_tail[c] - self.level[c]]
            ends = [*ends, self._open_weight]
        shape = (len(ends), self._length - 1)
        return np.reshape(heads, shape), np.reshape(tails, shape), np.array(ends)

    def _lag_sums(self, c: int) -> FloatArray:
        """Return the sum over windows of every coordinate of (x, y)."""
        heads, tails, end = self._boundaries(c)
        line = end @ (tails - heads)
        if c in self._folded:
            line = line + self._folded[c][1]
        return np.asarray(self._start_sum[c] + np.concatenate([[0.0], np.cumsum(line)]))

    def moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        M, inverse = self._length, 1.0 / scale
        square = inverse * inverse
        bounds = [self._boundaries(c) for c in channels]
        heads = np.concatenate([b[0] for b in bounds])
        tails = np.concatenate([b[1] for b in bounds])
        end = np.concatenate([b[2] for b in bounds])
        owner = np.repeat(np.arange(len(channels)), [len(b[2]) for b in bounds])

        signed = np.concatenate([tails, heads])
        sign = np.concatenate([end, -end]) * np.tile(square[owner], 2)
        # scipy's BLAS, as for the factorization: numpy's own copy would leave threads spinning
        step = dgemm(1.0, signed.T, (signed * sign[:, None]).T, trans_b=True).T
        for i, c in enumerate(channels):
            if c in self._folded:
                step += square[i] * self._folded[c][0]

        out = np.empty((self.width, self.width))
        gram = out[:M, :M]
        gram[0] = square @ self._first[channels]
        for i in range(M - 1):
            np.add(gram[i, i:-1], step[i, i:], out=gram[i + 1, i + 1 :])
        _mirror(gram)
        n, lag_sums = self.n_windows[channels], np.array([self._lag_sums(c) for c in channels])
        if shift.any():
            cross = (square * shift) @ lag_sums
            gram -= cross
            gram -= cross[:, None]
            gram += (square * shift * shift) @ n
        out[-1, :M] = out[:M, -1] = inverse @ (lag_sums - (shift * n)[:, None])
        out[-1, -1] = n.sum()
        if self.eps is not None:
            scale_sum = self._scale_sum[channels]
            cross = square @ (self._scale_cross[channels] - (shift * scale_sum[:, 0])[:, None])
            out[M, :M] = out[:M, M] = cross
            out[M, M] = square @ scale_sum[:, 1]
            out[M, -1] = out[-1, M] = inverse @ scale_sum[:, 0]
        return out

    def quadratic(self, coef: FloatArray, constant: FloatArray) -> FloatArray:
        # q'Gq of G[i, j] = first[j - i] + sum_k tail[i - k] tail[j - k] - head[i - k] head[j - k]
        # is an autocorrelation of q and energies of q against the boundaries: no matrix needed
        M, size = self._length, coef.shape[2]
        n_fft = next_fast_len(2 * M, real=True)
        out = np.empty((self.n_channels, size))
        for c in range(self.n_channels):
            g = min(c, len(coef) - 1)
            if c < len(coef):
                rows_of = np.ascontiguousarray(coef[g].T)
                spectrum = rfft(rows_of[:, :M], n_fft)
                lags = irfft(spectrum.real**2 + spectrum.imag**2, n_fft)[:, :M]
                lags[:, 1:] *= 2
            if c in self._folded:
                only = np.array([c])
                out[c] = dense_quadratic(
                    self.moments(np.ones(1), np.zeros(1), only), coef[g], constant[c]
                )
                continue
            heads, tails, end = self._boundaries(c)
            total = lags @ self._first[c]
            for rows, sign in ((tails, 1.0), (heads, -1.0)):
                for row, w in zip(rows, end, strict=True):
                    overlap = irfft(spectrum * np.conj(rfft(row, n_fft)), n_fft)[:, 1:M]
                    total += sign * w * np.einsum("kt,kt->k", overlap, overlap)
            sums = self._lag_sums(c)
            q, plain = rows_of[:, :M], constant[c]
            total += plain * (2 * (q @ sums) + plain * self.n_windows[c])
            if self.eps is not None:
                riding = rows_of[:, M]
                by_scale, by_square = self._scale_sum[c]
                cross = q @ self._scale_cross[c] + plain * by_scale
                total += riding * (2 * cross + riding * by_square)
            out[c] = total
        return np.maximum(out, 0.0)

    def input_variance(self) -> FloatArray:
        L = self.lookback
        out = np.zeros(self.n_channels)
        for c in range(self.n_channels):
            heads, tails, end = self._boundaries(c)
            square = end @ (tails * tails - heads * heads)
            line = end @ (tails - heads)
            if c in self._folded:
                square = square + np.diag(self._folded[c][0])
                line = line + self._folded[c][1]
            remaining = np.arange(L - 1, 0, -1) / L  # the mean over lags of a running sum
            n = max(self.n_windows[c], np.finfo(np.float64).tiny)
            mean_square = (self._first[c, 0] + remaining @ square[: L - 1]) / n
            mean = (self._start_sum[c] + remaining @ line[: L - 1]) / n
            out[c] = max(mean_square - mean * mean, 0.0)
        return out


def _mirror(square: FloatArray) -> None:
    """Copy the upper triangle of a matrix onto the lower one, in blocks."""
    n, block = len(square), 64
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        square[rows.stop :, rows] = square[rows, rows.stop :].T
        corner = square[rows, rows]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
