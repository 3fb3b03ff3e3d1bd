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

import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg.blas import dgemm
from scipy.signal import lfilter

from .window_sums import WindowSums, dense_quadratic

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

_FFT_LENGTH = 2**14  # long enough that overlaps cost little, short enough to stay in cache
_FFT_ELEMENTS = 2**20  # channels are transformed together up to this many values


class Boundaries(NamedTuple):
    """Where the stretches of a channel begin and end: what the recursion takes off and adds.

    Attributes
    ----------
    rows : array of shape (k, M - 1)
        Heads, whose weights are negative, and tails.
    weight : array of shape (k,)
        Signed; a tail's is that of the window after the last one.
    at : array of shape (k,)
        Ordinal of the row that the window starts at.
    """

    rows: FloatArray
    weight: FloatArray
    at: FloatArray


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

    def __init__(
        self,
        lookback: int,
        horizon: int,
        level: FloatArray,
        eps: FloatArray | None = None,
        *,
        decay: float = 1.0,
        frequencies: FloatArray | None = None,
    ) -> None:
        super().__init__(lookback, horizon, level, eps)
        n_channels, length = len(level), lookback + horizon
        self.decay = decay
        self.frequencies = np.empty(0) if frequencies is None else np.asarray(frequencies)
        self._length = length
        self._first = np.zeros((n_channels, length))
        self._start_sum = np.zeros(n_channels)
        self._scale_cross = np.zeros((n_channels, length))
        self._scale_sum = np.zeros((n_channels, 2))  # of s and of s * s
        # products of waves with the first value of a window, with one, and with each other
        n_waves = len(self.frequencies)
        self._wave_start = np.zeros((n_channels, n_waves), dtype=np.complex128)
        self._wave_sum = np.zeros((n_channels, n_waves), dtype=np.complex128)
        self._wave_scale = np.zeros((n_channels, n_waves), dtype=np.complex128)
        self._wave_pairs = np.zeros((n_channels, 2, n_waves, n_waves), dtype=np.complex128)
        # boundaries of closed stretches, listed or folded
        self._listed: list[list[tuple[FloatArray, float, float]]] = [[] for _ in range(n_channels)]
        self._folded: dict[int, tuple[FloatArray, FloatArray, ComplexArray]] = {}
        # the open stretch: its head once it has one, and its last values
        self._open_head: list[tuple[FloatArray, float, float] | None] = [None] * n_channels
        self._open_tail: list[FloatArray] = [np.empty(0)] * n_channels
        self._tail_at = np.zeros(n_channels)  # ordinals of its first row, and of the next row
        self._next = np.zeros(n_channels)
        self._open_weight = np.ones(n_channels)

    # -- adding ----------------------------------------------------------------------------

    def add(
        self,
        values: npt.NDArray[np.floating],
        weight: float = 1.0,
        *,
        continues: bool = False,
        at: float | None = None,
        channels: npt.NDArray[np.intp] | None = None,
    ) -> None:
        """Add all windows of a series.

        Parameters
        ----------
        values : array of shape (T, C)
            NaN marks missing values; windows that hold one are left out.
        weight : float
            Of every window; of the newest one, where weights decay.
        continues : bool
            Whether ``values`` follow directly on the last call's, so that windows across the
            join count.
        at : float, optional
            Ordinal of the first row, which waves start from; 0 by default.
        channels : array of shape (C,), optional
            Which channels these are; all by default.
        """
        every = np.arange(self.n_channels) if channels is None else channels
        if not continues:
            for c in every:
                self._close_channel(c)
            self._next[every] = 0.0 if at is None else at
        elif any(len(self._open_tail[c]) and weight != self._open_weight[c] for c in every):
            raise ValueError(
                f"rows that continue a series must keep its weight "
                f"{self._open_weight[every[0]]:g}; got {weight}. Give the whole series to fit with "
                "its sample_weight, or start another one with new_series=True."
            )
        if continues and self.decay != 1.0:
            self._fade(self.decay ** len(values), every)
        self._open_weight[every] = weight
        start = float(self._next[every[0]])
        self._next[every] = start + len(values)
        missing = np.isnan(values)
        if not missing.any():
            self._add_stretch(values, every, start)
            return
        for i, c in enumerate(every):
            edges = np.flatnonzero(np.diff(missing[:, i], prepend=True, append=True))
            only = np.array([c])
            if missing[0, i]:
                self._close_channel(c)
            for begin, stop in zip(edges[::2], edges[1::2], strict=True):
                self._add_stretch(values[begin:stop, i : i + 1], only, start + begin)
                if stop < len(values):
                    self._close_channel(c)

    @property
    def open_weight(self) -> float:
        """Weight of the windows of the series that was added last."""
        return float(self._open_weight[-1])

    def _fade(self, factor: float, channels: npt.NDArray[np.intp]) -> None:
        """Multiply everything that was learnt about channels by a factor."""
        for sums in (
            self.n_windows,
            self._first,
            self._start_sum,
            self._scale_cross,
            self._scale_sum,
            self._wave_start,
            self._wave_sum,
            self._wave_scale,
            self._wave_pairs,
        ):
            sums[channels] *= factor
        for c in map(int, channels):
            self._listed[c] = [(row, w * factor, at) for row, w, at in self._listed[c]]
            if c in self._folded:
                outer, line, waves = self._folded[c]
                self._folded[c] = (outer * factor, line * factor, waves * factor)
            if (head := self._open_head[c]) is not None:
                self._open_head[c] = (head[0], head[1] * factor, head[2])

    def _add_stretch(
        self, rows: npt.NDArray[np.floating], channels: npt.NDArray[np.intp], start: float
    ) -> None:
        tails = [self._open_tail[c] for c in channels]
        lengths = {len(tail) for tail in tails}
        if len(lengths) > 1:  # the channels' gaps differ: their stretches have different lengths
            for i, c in enumerate(channels):
                self._add_stretch(rows[:, i : i + 1], np.array([c]), start)
            return
        if lengths != {0}:
            # only the start of the rows is needed for the windows across the join
            M, n_before = self._length, lengths.pop()
            if len(rows) >= M:
                across = np.concatenate([np.stack(tails, axis=1), rows[: M - 1]])
                self._accumulate(across, channels, start - n_before)
                self._accumulate(rows, channels, start)
                return
            rows = np.concatenate([np.stack(tails, axis=1), rows])
            start -= n_before
        self._accumulate(rows, channels, start)

    def _age_weight(self, c: int, start: float) -> float:
        """Return the weight of a channel's window that starts at a row."""
        weight = float(self._open_weight[c])
        if self.decay == 1.0:
            return weight
        return float(weight * self.decay ** (self._next[c] - self._length - start))

    def _accumulate(
        self, rows: npt.NDArray[np.floating], channels: npt.NDArray[np.intp], start: float
    ) -> None:
        """Add the windows of ``rows``, which hold the open stretch's last values if any."""
        M = self._length
        n_windows = len(rows) - M + 1
        if n_windows > 0:
            group = max(1, _FFT_ELEMENTS // min(2 * _FFT_LENGTH, n_windows + 2 * M))
            for at in range(0, len(channels), group):
                part = slice(at, at + group)
                self._correlate(rows[:, part], channels[part], n_windows, start)
        last = np.array(rows[-(M - 1) :] if M > 1 else rows[:0], dtype=np.float64)
        head = np.array(rows[: M - 1], dtype=np.float64) if n_windows > 0 else None
        for i, c in enumerate(channels):
            if self._open_head[c] is None and head is not None:
                off = head[:, i] - self.level[c]
                self._open_head[c] = (off, self._age_weight(c, start), start)
            self._open_tail[c] = last[:, i].copy()
            self._tail_at[c] = start + len(rows) - len(last)

    def _correlate(
        self,
        rows: npt.NDArray[np.floating],
        channels: npt.NDArray[np.intp],
        n_windows: int,
        first_row: float,
    ) -> None:
        M, weight = self._length, self._age_weight(int(channels[0]), first_row)
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
            w: Any = 1.0
            if self.decay != 1.0:  # relative to the first window, so that nothing overflows
                w = weight * self.decay ** -(start + np.arange(size, dtype=np.float64))
            else:
                w = np.full(size, weight)
            starts = w * starts
            spectrum += np.conj(rfft(starts, n_fft)) * ahead
            self.n_windows[channels] += w.sum()
            self._start_sum[channels] += starts.sum(axis=1)
            s = None if self.eps is None else self._window_scale(v, channels, size)
            if len(self.frequencies):
                self._add_waves(starts, s, w, channels, first_row + start)
            if s is not None:
                scale_spectrum += np.conj(rfft(w * s, n_fft)) * ahead
                self._scale_sum[channels, 0] += s @ w
                self._scale_sum[channels, 1] += (s * s) @ w
        self._first[channels] += irfft(spectrum, n_fft)[:, :M]
        if self.eps is not None:
            self._scale_cross[channels] += irfft(scale_spectrum, n_fft)[:, :M]

    def _add_waves(
        self,
        starts: FloatArray,
        scales: FloatArray | None,
        w: FloatArray,
        channels: npt.NDArray[np.intp],
        at: float,
    ) -> None:
        rows = at + np.arange(len(w))
        waves = np.exp(1j * np.outer(rows, self.frequencies))
        self._wave_start[channels] += starts @ waves
        weighted = waves * w[:, None]
        self._wave_sum[channels] += weighted.sum(axis=0)
        if scales is not None:
            self._wave_scale[channels] += scales @ weighted
        self._wave_pairs[channels, 0] += weighted.T @ waves
        self._wave_pairs[channels, 1] += weighted.T @ np.conj(waves)

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

    def _close_channel(self, c: int) -> None:
        if (ends := self._open_ends(c)) is not None:
            self._listed[c] += ends
            if len(self._listed[c]) > max(16, self._length):
                self._fold(c)
        self._open_head[c] = None
        self._open_tail[c] = np.empty(0)

    def _open_ends(self, c: int) -> list[tuple[FloatArray, float, float]] | None:
        """Return both boundaries of the open stretch, None if it has no window."""
        head = self._open_head[c]
        if head is None:
            return None
        tail, at = self._open_tail[c] - self.level[c], float(self._tail_at[c])
        rows, weight, start = head
        return [(rows, -weight, start), (tail, self._age_weight(c, at), at)]

    def _boundaries(self, c: int) -> Boundaries:
        """Return all boundaries of a channel that are not folded."""
        return self._stacked(self._listed[c] + (self._open_ends(c) or []))

    def _stacked(self, listed: list[tuple[FloatArray, float, float]]) -> Boundaries:
        rows = np.reshape([row for row, _, _ in listed], (len(listed), self._length - 1))
        weights, at = (np.array([entry[k] for entry in listed], dtype=float) for k in (1, 2))
        return Boundaries(rows, weights, at)

    def _fold(self, c: int) -> None:
        steps = self._length - 1
        outer, line, waves = self._folded.get(
            c,
            (
                np.zeros((steps, steps)),
                np.zeros(steps),
                np.zeros((len(self.frequencies), steps), dtype=np.complex128),
            ),
        )
        rows, w, at = self._stacked(self._listed[c])
        waved = np.exp(1j * np.outer(self.frequencies, at)) * w
        self._folded[c] = (
            outer + (w[:, None] * rows).T @ rows,
            line + w @ rows,
            waves + waved @ rows,
        )
        self._listed[c] = []

    # -- merging ---------------------------------------------------------------------------

    def copied(self) -> SeriesSums:
        """Return a copy that can be added to; rows and folded matrices are shared, unchanging."""
        out = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and name not in ("level", "eps", "frequencies"):
                setattr(out, name, value.copy())
        out._listed = [list(own) for own in self._listed]
        out._folded = dict(self._folded)
        out._open_head, out._open_tail = list(self._open_head), list(self._open_tail)
        return out

    def skip(self, n_rows: int) -> None:
        """Pass over rows that are missing in every channel.

        Parameters
        ----------
        n_rows : int
        """
        every = np.arange(self.n_channels)
        for c in range(self.n_channels):
            self._close_channel(c)
        if self.decay != 1.0:
            self._fade(self.decay**n_rows, every)
        self._next += n_rows

    def merged(self, other: SeriesSums, first: FloatArray, n_rows: int) -> SeriesSums:
        """Return the sums over these rows and those that follow directly, neither being changed.

        Parameters
        ----------
        other : SeriesSums
            Of one series, whose rows follow directly on the last ones of these sums. Its ordinals
            are moved so that they do, too.
        first : array of shape (min(n_rows, M - 1), C)
            The first rows that ``other`` was made from; M is ``lookback + horizon``.
        n_rows : int
            How many rows that were.

        Returns
        -------
        SeriesSums
            As if all rows had been added one after another, up to rounding.

        Raises
        ------
        ValueError
            If the two differ in lookback, horizon, level, eps, decay, waves or weight.

        Examples
        --------
        >>> import numpy as np
        >>> from mixlin.solvers import SeriesSums
        >>> rows = np.array([[1.0], [2.0], [3.0], [4.0]])
        >>> one, two = SeriesSums(2, 1, np.zeros(1)), SeriesSums(2, 1, np.zeros(1))
        >>> one.add(rows[:1])
        >>> two.add(rows[1:])
        >>> one.merged(two, rows[1:3], 3).n_windows.tolist()
        [2.0]
        """
        self._check_like(other)
        out, M, every = self.copied(), self._length, np.arange(self.n_channels)
        if not n_rows:
            return out
        # the windows that begin in these rows and end in those
        out.add(first, float(other._open_weight[0]), continues=True)
        if n_rows < M:
            return out
        rest = n_rows - len(first)
        if self.decay != 1.0:
            out._fade(self.decay**rest, every)
        out._next += rest
        moved = out._next - other._next
        turn = np.exp(1j * np.outer(moved, self.frequencies))
        out.n_windows += other.n_windows
        out._first += other._first
        out._start_sum += other._start_sum
        out._scale_cross += other._scale_cross
        out._scale_sum += other._scale_sum
        out._wave_start += turn * other._wave_start
        out._wave_sum += turn * other._wave_sum
        out._wave_scale += turn * other._wave_scale
        by, back = turn[:, :, None], turn[:, None, :]
        out._wave_pairs[:, 0] += by * back * other._wave_pairs[:, 0]
        out._wave_pairs[:, 1] += by * np.conj(back) * other._wave_pairs[:, 1]
        for c in map(int, every):
            out._take_boundaries(other, c, float(moved[c]), turn[c], float(out._next[c] - n_rows))
        return out

    def _take_boundaries(
        self, other: SeriesSums, c: int, moved: float, turn: ComplexArray, start: float
    ) -> None:
        """Append the boundaries of sums that begin at row ``start``, joining stretches there."""
        listed = [(row, w, at + moved) for row, w, at in other._listed[c]]
        head = other._open_head[c]
        head = None if head is None else (head[0], head[1], head[2] + moved)
        if (own := self._open_head[c]) is not None:
            # the tail of this stretch is the head of that one: the two cancel
            if listed and abs(listed[0][2] - start) < 0.5:
                listed[0] = (own[0], -own[1], own[2])
            elif head is not None and abs(head[2] - start) < 0.5:
                head = own
            else:
                listed = [*(self._open_ends(c) or []), *listed]
        self._listed[c] += listed
        self._open_head[c] = head
        self._open_tail[c] = other._open_tail[c].copy()
        self._tail_at[c] = other._tail_at[c] + moved
        self._open_weight[c] = other._open_weight[c]
        if c in other._folded or len(self._listed[c]) > max(16, self._length):
            self._fold(c)
        if c in other._folded:
            outer, line, waves = self._folded[c]
            plus = other._folded[c]
            self._folded[c] = (outer + plus[0], line + plus[1], waves + turn[:, None] * plus[2])

    def _check_like(self, other: SeriesSums) -> None:
        """Refuse sums that can't be added to these."""
        for name, own, their in (
            ("lookback", self.lookback, other.lookback),
            ("horizon", self.horizon, other.horizon),
            ("decay", self.decay, other.decay),
            ("level", self.level, other.level),
            ("eps", self.eps, other.eps),
            ("frequencies", self.frequencies, other.frequencies),
        ):
            if (own is None) != (their is None) or not np.array_equal(own, their):  # type: ignore[arg-type]
                raise ValueError(
                    f"sums of different {name} can't be merged: {own} and {their}. Make all "
                    f"of them with the same {name}."
                )

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
