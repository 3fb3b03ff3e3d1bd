"""Adding series to their sums: correlations, boundaries of stretches, waves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft

from .window_sums import WindowSums

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

FFT_LENGTH = 2**14  # long enough that overlaps cost little, short enough to stay in cache
FFT_ELEMENTS = 2**20  # channels are transformed together up to this many values


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


class AddedSeries(WindowSums):
    """What :class:`SeriesSums` keeps of series, and how series are added to it."""

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
            group = max(1, FFT_ELEMENTS // min(2 * FFT_LENGTH, n_windows + 2 * M))
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
        M = self._length
        n_fft = next_fast_len(min(n_windows + M - 1, max(FFT_LENGTH, 4 * M)), real=True)
        block = n_fft - M + 1
        level = self.level[channels][:, None]
        spectrum = np.zeros((len(channels), n_fft // 2 + 1), dtype=np.complex128)
        scale_spectrum = np.zeros_like(spectrum)
        for start in range(0, n_windows, block):
            size = min(block, n_windows - start)
            v = rows[start : start + size + M - 1].T - level
            ahead = rfft(v, n_fft)
            starts = v[:, :size]
            w = self._window_weights(int(channels[0]), first_row + start, size)
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

    def _window_weights(self, c: int, first_row: float, size: int) -> FloatArray:
        """Return the weights of a channel's windows from a row on, the oldest perhaps zero."""
        weight = float(self._open_weight[c])
        if self.decay == 1.0:
            return np.full(size, weight)
        age = self._next[c] - self._length - first_row - np.arange(size, dtype=np.float64)
        return np.asarray(weight * self.decay**age)

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
