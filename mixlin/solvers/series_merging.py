"""Merging the sums of adjacent partitions of a series."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .series_adding import AddedSeries

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
_Sums = TypeVar("_Sums", bound="MergedSeries")


class MergedSeries(AddedSeries):
    """Sums of series that are copied and merged."""

    def copied(self: _Sums) -> _Sums:
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

    def merged(self: _Sums, other: MergedSeries, first: FloatArray, n_rows: int) -> _Sums:
        """Return the sums over these rows and those that follow directly, neither being changed.

        Parameters
        ----------
        other : MergedSeries
            Of one series, whose rows follow directly on the last ones of these sums. Its ordinals
            are moved so that they do, too.
        first : array of shape (min(n_rows, M - 1), C)
            The first rows that ``other`` was made from; M is ``lookback + horizon``.
        n_rows : int
            How many rows that were.

        Returns
        -------
        MergedSeries
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
        self, other: MergedSeries, c: int, moved: float, turn: ComplexArray, start: float
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

    def _check_like(self, other: MergedSeries) -> None:
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
