"""What is kept of a partition: sums, a few rows of its ends, and where it stands in time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base.fingerprint import EMPTY, Fingerprint, fingerprint
from ..linear import ChannelStatistics
from ..solvers import SeriesSums
from ..timestamps import fill_gaps
from .chunks import Chunk, read_chunk
from .times import Grid

if TYPE_CHECKING:
    import pandas as pd

Float64Array = npt.NDArray[np.float64]

_MOST_RUNS = 2**12  # hashes of rows that travel, from either end of a partition
_RUN = 16  # rows of one hash


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """What every worker must know before it sums its rows.

    Parameters
    ----------
    sums : SeriesSums
        Without rows: lengths, levels, decay, waves.
    first : Chunk
        Without rows: channels that all chunks must have.
    grid : Grid, optional
        Of labeled rows.
    """

    sums: SeriesSums
    first: Chunk
    grid: Grid | None = None

    def summarize(self, chunks: Iterable[Any], name: str = "the partition") -> PartitionSummary:
        """Reduce a partition to what the fit needs of it.

        Parameters
        ----------
        chunks : iterable of array-like, frame or Chunk
            Consecutive rows.
        name : str
            What errors call them.

        Returns
        -------
        PartitionSummary
        """
        out = PartitionSummary(self)
        for item in chunks:
            chunk = read_chunk(item, name, ignore_index=self.grid is None)
            if chunk is not None:
                chunk.check_like(self.first)
                out.add(chunk)
        return out.trimmed()


class PartitionSummary:
    """Everything a fit needs of consecutive rows, in memory that their number has no part in.

    About ``8 * C * (6 * lookback + 5 * horizon)`` bytes for C channels, more where values are
    missing (see :class:`mixlin.solvers.SeriesSums`), and at most 64 KiB of hashes by which
    ``score`` knows training rows again. Summaries of adjacent partitions merge, in any order of
    brackets.

    Parameters
    ----------
    plan : StreamPlan

    Attributes
    ----------
    sums : SeriesSums
        Over the windows inside.
    statistics : ChannelStatistics
    n_rows, n_observed : int
        Steps of the grid, and rows that were there.
    first_rows : array of shape (min(n_rows, lookback + horizon - 1), C)
    last_rows : array of shape (min(n_rows, lookback), C)
    start, end : object
        Labels of the first and the last row, None without an index.
    dtype : numpy.dtype
        Of the values.
    """

    def __init__(self, plan: StreamPlan) -> None:
        self.sums = copy.deepcopy(plan.sums)
        self._grid = plan.grid
        n_channels = plan.sums.n_channels
        self.statistics = ChannelStatistics(n_channels)
        self.n_rows = 0
        self.n_observed = 0
        self.first_rows = np.empty((0, n_channels))
        self.last_rows = np.empty((0, n_channels))
        self.start: Any = None
        self.end: Any = None
        self.dtype: np.dtype[Any] | None = None
        self.known: Fingerprint = EMPTY

    # -- adding ----------------------------------------------------------------------------

    def add(self, chunk: Chunk) -> None:
        """Add rows that follow directly, or after a gap of missing rows.

        Parameters
        ----------
        chunk : Chunk

        Raises
        ------
        ValueError
            If times are not those of following rows.
        """
        values = chunk.values
        if self._grid is not None:
            assert chunk.labels is not None
            rows = self._grid.places(chunk.labels, chunk.name, self.end)
            self._pass_over(int(rows[0]) - 1)
            values = fill_gaps(values, rows - rows[0])
            self._set_ends(chunk.labels)
        self.sums.add(values, continues=True)
        self.statistics.add(values)
        self._remember(values)
        self.known = fingerprint(values, self.known, continues=True)
        self.n_rows += len(values)
        self.n_observed += len(chunk.values)
        own = chunk.values.dtype
        self.dtype = own if self.dtype is None else np.result_type(self.dtype, own)

    def _set_ends(self, labels: pd.Index[Any]) -> None:
        self.start = labels[0] if self.start is None else self.start
        self.end = labels[-1]

    def _remember(self, values: npt.NDArray[np.floating[Any]]) -> None:
        """Keep the first and the last rows."""
        wanted = self.sums.lookback + self.sums.horizon - 1 - len(self.first_rows)
        if wanted:
            self.first_rows = np.concatenate([self.first_rows, values[:wanted]])
        L = self.sums.lookback
        self.last_rows = np.concatenate([self.last_rows, values[-L:]])[-L:]

    def _pass_over(self, n_rows: int) -> None:
        """Count missing rows."""
        if not n_rows:
            return
        self.sums.skip(n_rows)
        longest = self.sums.lookback + self.sums.horizon
        missing = np.full((min(n_rows, longest), self.sums.n_channels), np.nan)
        self._remember(missing)
        odd = n_rows if n_rows < 2 * _RUN else _RUN + n_rows % _RUN  # whole runs are left out
        missing = np.full((odd, self.sums.n_channels), np.nan)
        self.known = fingerprint(missing, self.known, continues=True)
        self.n_rows += n_rows

    def trimmed(self) -> PartitionSummary:
        """Return the summary with no more hashes than are worth sending."""
        runs = self.known.runs
        if len(runs) <= 2 * _MOST_RUNS:
            return self
        out = copy.copy(self)
        runs = np.concatenate([runs[:_MOST_RUNS], runs[-_MOST_RUNS:]])
        out.known = Fingerprint(runs, self.known.rest)
        return out

    # -- merging ---------------------------------------------------------------------------

    def merged(self, other: PartitionSummary) -> PartitionSummary:
        """Return the summary of both partitions, neither being changed.

        Parameters
        ----------
        other : PartitionSummary
            Of the rows that follow.

        Returns
        -------
        PartitionSummary

        Raises
        ------
        ValueError
            If times overlap or are not sorted, or the two were made with other plans.
        """
        if not other.n_rows or not self.n_rows:
            return self if not other.n_rows else other
        out = copy.copy(self)
        if self._grid is not None:
            import pandas as pd

            label = pd.Index([other.start])
            gap = int(self._grid.places(label, "the next partition", self.end)[0]) - 1
            if gap:
                out.sums = copy.deepcopy(self.sums)
                out._pass_over(gap)
        out.sums = out.sums.merged(other.sums, other.first_rows, other.n_rows)
        out.statistics = merged_statistics(self.statistics, other.statistics)
        out.known = _merged_hashes(out.known, other)
        wanted = self.sums.lookback + self.sums.horizon - 1
        out.first_rows = np.concatenate([out.first_rows, other.first_rows])[:wanted]
        out.last_rows = np.concatenate([out.last_rows, other.last_rows])[-self.sums.lookback :]
        out.n_rows += other.n_rows
        out.n_observed += other.n_observed
        out.end = other.end
        assert self.dtype is not None
        assert other.dtype is not None
        out.dtype = np.result_type(self.dtype, other.dtype)
        return out


def merged_statistics(one: ChannelStatistics, two: ChannelStatistics) -> ChannelStatistics:
    """Return the statistics of both.

    Parameters
    ----------
    one, two : ChannelStatistics

    Returns
    -------
    ChannelStatistics
    """
    out = ChannelStatistics(len(one.count))
    total = np.maximum(one.count + two.count, np.finfo(np.float64).tiny)
    delta = two.mean - one.mean
    out.count = one.count + two.count
    out.mean = one.mean + delta * two.count / total
    out.deviation = one.deviation + two.deviation + delta * delta * one.count * (two.count / total)
    return out


def _merged_hashes(before: Fingerprint, other: PartitionSummary) -> Fingerprint:
    """Return hashes of rows, in runs that start anew with every long partition."""
    if len(other.first_rows) == other.n_rows:  # all rows are there
        return fingerprint(other.first_rows, before, continues=True)
    joined = Fingerprint(np.concatenate([before.runs, other.known.runs]), other.known.rest)
    return fingerprint(other.first_rows[:0], joined, continues=True)  # bounds their number


def summed(summaries: Sequence[PartitionSummary]) -> PartitionSummary:
    """Merge the summaries of adjacent partitions, in the order of time.

    Parameters
    ----------
    summaries : sequence of PartitionSummary
        At least one.

    Returns
    -------
    PartitionSummary
    """
    left = list(summaries)
    while len(left) > 1:
        pairs = [a.merged(b) for a, b in zip(left[::2], left[1::2], strict=False)]
        left = pairs + left[2 * len(pairs) :]
    return left[0]
