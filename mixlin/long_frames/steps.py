"""The last labels of thousands of series, and how their times go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .clock import BUSINESS, MONTH_ENDS, MONTHS, Clock

IntArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.intp]

_DAYS = {MONTHS: 30.44, MONTH_ENDS: 30.44, BUSINESS: 1.4}
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Steps:
    """The last labels of series, and what they step by.

    Parameters
    ----------
    clock : Clock
    kind, last, step, rest : arrays of integers of shape (n_series,)
        What a series steps by, its last label in that measure, the step (0 where none was found),
        and what is left of a label beside the measure.
    rows : dict of array
        For series with gaps, by their number: place of every row on the grid.
    """

    clock: Clock
    kind: IntArray
    last: IntArray
    step: IntArray
    rest: IntArray
    rows: dict[int, RowArray]

    def frequencies(self, rows: IntArray | None = None) -> list[tuple[int, int]]:
        """Return what series step by and the step, the most usual first.

        Months count alike from start and end.

        Parameters
        ----------
        rows : array of integers of shape (n_series,), optional
            How much every series counts; all the same by default.
        """
        weight = np.ones(len(self.step)) if rows is None else rows
        pairs, which = np.unique(self._alike(), axis=1, return_inverse=True)
        order = np.argsort(-np.bincount(which.ravel(), weight), kind="stable")
        return [(int(kind), int(step)) for kind, step in pairs[:, order].T if step > 0]

    def others(self, frequency: tuple[int, int]) -> npt.NDArray[np.intp]:
        """Return which series have another frequency.

        Parameters
        ----------
        frequency : tuple of int
            One of :meth:`frequencies`.
        """
        return np.flatnonzero((self._alike() != np.array(frequency)[:, None]).any(axis=0))

    def usual(self, frequency: tuple[int, int]) -> int:
        """Return the first series of a frequency.

        Parameters
        ----------
        frequency : tuple of int
        """
        return int(np.argmax((self._alike() == np.array(frequency)[:, None]).all(axis=0)))

    def _alike(self) -> IntArray:
        kind = np.where(self.kind == MONTH_ENDS, MONTHS, self.kind)
        return np.stack([kind, self.step])

    def taking(self, series: npt.NDArray[np.intp]) -> Steps:
        """Return the steps of some series.

        Parameters
        ----------
        series : array of shape (n_taken,)
        """
        rows = {i: self.rows[c] for i, c in enumerate(series.tolist()) if c in self.rows}
        kind, last, step, rest = (a[series] for a in (self.kind, self.last, self.step, self.rest))
        return Steps(self.clock, kind, last, step, rest, rows)

    def labels(self) -> Any:
        """Return the last labels, a pandas.Index of shape (n_series,)."""
        return self.clock.labels(self._ordinals(self.last[:, None])[:, 0])

    def continued(self, n_steps: int) -> Any:
        """Return the labels of the next steps.

        Parameters
        ----------
        n_steps : int

        Returns
        -------
        pandas.Index of shape (n_series * n_steps,)
            Series after series.

        Raises
        ------
        ValueError
            If the dtype of the labels can't hold them.
        """
        unit = np.ones(len(self.kind))
        for kind, days in _DAYS.items():
            unit[self.kind == kind] = days * self.clock.per_day
        reached = unit * (self.last.astype(np.float64) + n_steps * self.step.astype(np.float64))
        if (np.abs(reached) > 0.999 * _LARGEST).any():
            raise ValueError(
                f"{n_steps} steps lead beyond the times that {self.clock.dtype} can hold. Shorten "
                "the horizon, or convert the times to a coarser unit (datetime64[s])."
            )
        measures = self.last[:, None] + self.step[:, None] * np.arange(1, n_steps + 1)
        return self.clock.labels(self._ordinals(measures).ravel())

    def _ordinals(self, measures: IntArray) -> IntArray:
        """Return measures (n_series, k) as labels."""
        ordinals = np.empty_like(measures)
        for kind in np.unique(self.kind).tolist():
            of = self.kind == kind
            ordinals[of] = self.clock.ordinals(kind, measures[of], self.rest[of, None])
        return ordinals

    def follows(self, series: npt.NDArray[np.intp], later: Steps, counts: IntArray) -> IntArray:
        """Return how many steps lie between series and the rows that continue them.

        Parameters
        ----------
        series : array of shape (n_later,)
            Which series of these the later ones continue.
        later : Steps
        counts : array of shape (n_later,)
            Steps from before the first row to the last one of the later series.

        Returns
        -------
        array of shape (n_later,)
            Missing steps, 0 for rows that follow directly; -1 where rows do not lie after the
            series, -2 where they are off its grid.
        """
        first = later._ordinals((later.last - later.step * (counts - 1))[:, None])[:, 0]
        last = later._ordinals(later.last[:, None])[:, 0]
        out = np.full(len(series), -2)
        for kind in np.unique(self.kind[series]).tolist():
            of = np.flatnonzero(self.kind[series] == kind)
            mine = series[of]
            begin, rest = self.clock.measures(kind, self.clock.read(kind, first[of]))
            end, rest_end = self.clock.measures(kind, self.clock.read(kind, last[of]))
            gap, off = np.divmod(begin - self.last[mine], self.step[mine])
            fits = (off == 0) & (rest == self.rest[mine]) & (rest_end == self.rest[mine])
            fits &= end - begin == self.step[mine] * (counts[of] - 1)
            out[of] = np.where(fits, np.maximum(gap - 1, -1), -2)
        return out

    def extended(
        self, series: npt.NDArray[np.intp], gaps: IntArray, later: Steps, counts: IntArray
    ) -> Steps:
        """Return the steps after series were continued, and new ones came.

        Parameters
        ----------
        series : array of shape (n_later,)
            Which series of these the later ones continue; -1 for new ones.
        gaps : array of shape (n_later,)
            From :meth:`follows`; anything for new ones.
        later : Steps
        counts : array of shape (n_later,)

        Returns
        -------
        Steps
            Of all series, new ones at the end, without places of rows.
        """
        new, known = series < 0, series >= 0
        last = self.last.copy()
        last[series[known]] += self.step[series[known]] * (gaps + counts)[known]
        return Steps(
            self.clock,
            np.concatenate([self.kind, later.kind[new]]),
            np.concatenate([last, later.last[new]]),
            np.concatenate([self.step, later.step[new]]),
            np.concatenate([self.rest, later.rest[new]]),
            {},
        )
