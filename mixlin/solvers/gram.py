"""Second moments of all windows of a series, without the windows.

With ``z_t = v[t : t + M]`` the Gram matrix ``G = sum_t z_t z_t'`` of N consecutive windows obeys
``G[i + 1, j + 1] = G[i, j] - v[i] v[j] + v[N + i] v[N + j]``. Its first row (a correlation), the
first M - 1 and the last M - 1 values of the stretch therefore determine it: 3 M numbers per
channel and stretch, which add up over stretches, chunks, series and machines.

With weights that decay, ``w_t = decay ** (age of window t)``, the right-hand side is multiplied by
``decay``. Products with a wave, ``sum_t w_t exp(i omega t) v[t + j]``, obey the same recursion in j
with the factor ``decay * exp(-i omega)``: one complex number per channel and wave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg.blas import dgemm
from scipy.signal import lfilter

from .series_merging import MergedSeries
from .window_sums import dense_quadratic

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]


class SeriesSums(MergedSeries):
    """Sums over all windows of series, in O(T log M) time and O(M) memory per channel.

    Stretches without missing values are added one after another; windows never cross a gap.
    Memory is about ``24 * C * M`` bytes and ``16 * M`` more for every closed stretch; past
    ``M / 2`` closed stretches of a channel they are folded into one ``M x M`` matrix.

    Parameters
    ----------
    lookback, horizon : int
    level : array of shape (C,)
    eps : array of shape (C,), optional
    decay : float, default=1.0
        Weight of a window relative to that of the next one. Rows that continue a series let
        everything that was learnt before fade.
    frequencies : array of shape (F,), optional
        Radians per row, of waves whose products with the windows are kept: see :meth:`waves`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import SeriesSums
    >>> sums = SeriesSums(2, 1, np.zeros(1))
    >>> sums.add(np.array([[1.0], [2.0], [3.0], [4.0]]))  # windows 1 2 3 and 2 3 4
    >>> sums.moments(np.ones(1), np.zeros(1), np.array([0])).round(9)[:2, 2].tolist()
    [11.0, 18.0]
    """

    # -- reading ---------------------------------------------------------------------------

    def _lag_sums(self, c: int) -> FloatArray:
        """Return the sum over windows of every coordinate of (x, y)."""
        rows, w, _ = self._boundaries(c)
        line = w @ rows
        if c in self._folded:
            line = line + self._folded[c][1]
        first = float(self._start_sum[c])
        if self.decay == 1.0:
            return np.asarray(first + np.concatenate([[0.0], np.cumsum(line)]))
        return np.asarray(_decayed(first, line, self.decay))

    def waves(self, c: int) -> tuple[FloatArray, FloatArray]:
        rows, weight, at = self._boundaries(c)
        w, M = self.frequencies, self._length
        lines = (np.exp(1j * np.outer(w, at)) * weight) @ rows
        if c in self._folded:
            lines = lines + self._folded[c][2]
        turn = self.decay * np.exp(-1j * w)
        cross = np.empty((len(w), self.width), dtype=np.complex128)
        for k, line in enumerate(lines):
            cross[k, :M] = _decayed(self._wave_start[c, k], line, turn[k])
        if self.eps is not None:
            cross[:, M] = self._wave_scale[c]
        cross[:, -1] = self._wave_sum[c]
        ahead = np.exp(1j * w * (self.lookback - 1))  # from the first row to the last input
        cross *= ahead[:, None]
        plus = self._wave_pairs[c, 0] * np.outer(ahead, ahead)
        minus = self._wave_pairs[c, 1] * np.outer(ahead, np.conj(ahead))
        cc, ss = (minus + plus).real / 2, (minus - plus).real / 2
        cs = (plus - minus).imag / 2  # cos a sin b = (sin(a + b) - sin(a - b)) / 2
        gram = np.block([[cc, cs], [cs.T, ss]])
        return np.concatenate([cross.real, cross.imag]), gram

    def scale_sums(self) -> tuple[FloatArray, FloatArray]:
        """Return the sums of the windows' scale times (x, y, 1), and of its square.

        Returns
        -------
        cross : array of shape (C, lookback + horizon + 1)
        square : array of shape (C,)
        """
        cross = np.concatenate([self._scale_cross, self._scale_sum[:, :1]], axis=1)
        return cross, self._scale_sum[:, 1].copy()

    def moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        out = np.empty((1, self.width, self.width))
        self._moments_into(out, scale, shift, [channels])
        return np.asarray(out[0])

    def each_moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        out = np.empty((len(channels), self.width, self.width))
        self._moments_into(out, scale, shift, [np.array([c]) for c in channels])
        return out

    def _moments_into(
        self,
        out: FloatArray,
        scale: FloatArray,
        shift: FloatArray,
        groups: list[npt.NDArray[np.intp]],
    ) -> None:
        """Write the moments of groups of channels; one recursion serves all groups."""
        M = self._length
        steps = np.empty((len(groups), M - 1, M - 1))
        at = 0
        for g, channels in enumerate(groups):
            own = slice(at, at + len(channels))
            at += len(channels)
            self._start_moments(out[g], steps[g], scale[own], shift[own], channels)
        gram = out[:, :M, :M]
        for i in range(M - 1):
            np.add(gram[:, i, i:-1], steps[:, i, i:], out=gram[:, i + 1, i + 1 :])
            if self.decay != 1.0:
                gram[:, i + 1, i + 1 :] *= self.decay
        at = 0
        for g, channels in enumerate(groups):
            own = slice(at, at + len(channels))
            at += len(channels)
            _mirror(gram[g])
            self._shift_moments(out[g], scale[own], shift[own], channels)

    def _start_moments(
        self,
        out: FloatArray,
        step: FloatArray,
        scale: FloatArray,
        shift: FloatArray,
        channels: npt.NDArray[np.intp],
    ) -> None:
        """Write the first row of a pooled Gram matrix, and what the recursion adds."""
        square = 1.0 / (scale * scale)
        bounds = [self._boundaries(c) for c in channels]
        rows = np.concatenate([b.rows for b in bounds])
        weight = np.concatenate([b.weight * s for b, s in zip(bounds, square, strict=True)])
        # scipy's BLAS, as for the factorization: numpy's own copy would leave threads spinning
        step[:] = dgemm(1.0, rows.T, (rows * weight[:, None]).T, trans_b=True).T
        for i, c in enumerate(channels):
            if c in self._folded:
                step += square[i] * self._folded[c][0]
        out[0, : self._length] = square @ self._first[channels]

    def _shift_moments(
        self,
        out: FloatArray,
        scale: FloatArray,
        shift: FloatArray,
        channels: npt.NDArray[np.intp],
    ) -> None:
        """Measure a pooled Gram matrix from shifted levels, and write the other coordinates."""
        M, inverse = self._length, 1.0 / scale
        square = inverse * inverse
        gram = out[:M, :M]
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

    def quadratic(self, coef: FloatArray, constant: FloatArray) -> FloatArray:
        # q'Gq of G[i, j] = first[j - i] + sum_k tail[i - k] tail[j - k] - head[i - k] head[j - k]
        # is an autocorrelation of q and energies of q against the boundaries: no matrix needed
        M, size = self._length, coef.shape[2]
        n_fft = next_fast_len(2 * M, real=True)
        out = np.empty((self.n_channels, size))
        spectrum = None  # of shared coefficients, taken once
        for c in range(self.n_channels):
            g = min(c, len(coef) - 1)
            if c in self._folded or self.decay != 1.0:
                only = np.array([c])
                out[c] = dense_quadratic(
                    self.moments(np.ones(1), np.zeros(1), only), coef[g], constant[c]
                )
                continue
            if c < len(coef) or spectrum is None:
                rows_of = np.ascontiguousarray(coef[g].T)
                spectrum = rfft(rows_of[:, :M], n_fft)
                lags = irfft(spectrum.real**2 + spectrum.imag**2, n_fft)[:, :M]
                lags[:, 1:] *= 2
            boundaries = self._boundaries(c)
            total = lags @ self._first[c]
            for row, w in zip(boundaries.rows, boundaries.weight, strict=True):
                overlap = irfft(spectrum * np.conj(rfft(row, n_fft)), n_fft)[:, 1:M]
                total += w * np.einsum("kt,kt->k", overlap, overlap)
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
            rows, w, _ = self._boundaries(c)
            square, line = w @ (rows * rows), w @ rows
            if c in self._folded:
                square = square + np.diag(self._folded[c][0])
                line = line + self._folded[c][1]
            n = max(self.n_windows[c], np.finfo(np.float64).tiny)
            if self.decay != 1.0:
                mean_square = _decayed(self._first[c, 0], square[: L - 1], self.decay).mean() / n
                mean = _decayed(self._start_sum[c], line[: L - 1], self.decay).mean() / n
            else:
                remaining = np.arange(L - 1, 0, -1) / L  # the mean over lags of a running sum
                mean_square = (self._first[c, 0] + remaining @ square[: L - 1]) / n
                mean = (self._start_sum[c] + remaining @ line[: L - 1]) / n
            out[c] = max(mean_square - mean * mean, 0.0)
        return out


def _decayed(first: Any, line: npt.NDArray[Any], factor: Any) -> npt.NDArray[Any]:
    """Return s with ``s[0] = first`` and ``s[j + 1] = factor * (s[j] + line[j])``."""
    return np.asarray(lfilter([1.0], [1.0, -factor], np.concatenate([[first], factor * line])))


def _mirror(square: FloatArray) -> None:
    """Copy the upper triangle of a matrix onto the lower one, in blocks."""
    n, block = len(square), 64
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        square[rows.stop :, rows] = square[rows, rows.stop :].T
        corner = square[rows, rows]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
