"""A look at a source before the sums are taken: channels, levels, frequency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..linear import ChannelStatistics
from .chunks import Chunk, read_chunk
from .summary import merged_statistics
from .times import check_kind, kind_of

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS = 3 * 336  # from which on the default lookback does not depend on their number
KEPT_ROWS = 2**14  # whose labels tell the frequency


@dataclass(frozen=True)
class Wanted:
    """How far a source is looked at.

    Parameters
    ----------
    all_rows : bool
        For the variance of all values, which sources that are read once can't tell.
    sample : bool
        Whether values of the first rows are looked at, too.
    ignore_index : bool
    """

    all_rows: bool = False
    sample: bool = False
    ignore_index: bool = False


@dataclass(eq=False)
class Survey:
    """What was seen of the first rows.

    Parameters
    ----------
    wanted : Wanted
    first : Chunk, optional
        The first chunk with rows, without them.
    statistics : ChannelStatistics, optional
    labels : list of pandas.Index
    sample : list of array of shape (n, C)
    n_rows, n_kept : int
        Rows, and how many of their labels are held.
    """

    wanted: Wanted
    first: Chunk | None = None
    statistics: ChannelStatistics | None = None
    labels: list[pd.Index[Any]] = field(default_factory=list)
    sample: list[npt.NDArray[np.floating[Any]]] = field(default_factory=list)
    n_rows: int = 0
    n_kept: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether further rows would not change the plan of a fit."""
        if self.statistics is None or self.n_rows < FEW_ROWS:
            return False
        needed = self.wanted.sample or bool(self.labels)
        return bool((self.statistics.count > 0).all()) and (not needed or self.n_kept >= KEPT_ROWS)

    def add(self, chunk: Chunk) -> None:
        """Look at further rows.

        Parameters
        ----------
        chunk : Chunk
        """
        if self.first is None or self.statistics is None:
            self.first = chunk.empty()
            self.statistics = ChannelStatistics(chunk.values.shape[1])
        chunk.check_like(self.first)
        self.statistics.add(chunk.values)
        self.n_rows += len(chunk.values)
        room = KEPT_ROWS - self.n_kept
        if room > 0 and (chunk.labels is not None or self.wanted.sample):
            if chunk.labels is not None:
                if self.labels:
                    check_kind(chunk.labels, kind_of(self.labels[0]), chunk.name)
                self.labels.append(chunk.labels[:room])
            if self.wanted.sample:
                self.sample.append(chunk.values[:room].copy())
            self.n_kept += min(room, len(chunk.values))

    def joined(self, other: Survey) -> Survey:
        """Return the survey of these rows and those that follow.

        Parameters
        ----------
        other : Survey

        Returns
        -------
        Survey
        """
        if self.first is None or self.statistics is None:
            return other
        if other.first is None or other.statistics is None:
            return self
        other.first.check_like(self.first)
        if self.labels and other.labels:
            check_kind(other.labels[0], kind_of(self.labels[0]), other.first.name)
        return Survey(
            self.wanted,
            self.first,
            merged_statistics(self.statistics, other.statistics),
            self.labels + other.labels if self.n_kept < KEPT_ROWS else self.labels,
            self.sample + other.sample if self.n_kept < KEPT_ROWS else self.sample,
            self.n_rows + other.n_rows,
            self.n_kept + other.n_kept if self.n_kept < KEPT_ROWS else self.n_kept,
        )


def survey_rows(items: Iterable[Any], wanted: Wanted, name: str, *, kept: bool = True) -> Survey:
    """Look at rows until nothing new is to be expected.

    Parameters
    ----------
    items : iterable of array-like, frame or Chunk
    wanted : Wanted
    name : str
        What errors call the rows.
    kept : bool
        Whether labels and values are kept.

    Returns
    -------
    Survey
    """
    out = Survey(wanted)
    out.n_kept = 0 if kept else KEPT_ROWS
    for item in items:
        chunk = read_chunk(item, name, ignore_index=wanted.ignore_index)
        if chunk is None:
            continue
        out.add(chunk)
        if out.is_settled and not wanted.all_rows:
            break
    return out
