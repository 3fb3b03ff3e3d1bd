"""Where rows come from: iterators, arrays, memory maps and frames, read block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import joblib
import numpy as np

from ..windows import is_pandas
from .chunks import Chunk, read_chunk
from .summary import PartitionSummary, StreamPlan, summed
from .survey import Survey, Wanted, survey_rows

_BLOCK_ELEMENTS = 2**19  # values that are read at a time
_HELD_ELEMENTS = 2**22  # values of an iterator that wait until its plan is known
_PARTS_PER_JOB = 4  # so that a slow worker does not hold up the rest
_LOST = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker")

Settle = Callable[[PartitionSummary, Chunk], None]


class Source(ABC):
    """Rows of one series, in the order of time."""

    @abstractmethod
    def survey(self, wanted: Wanted) -> Survey:
        """Look at the rows before they are summed.

        Parameters
        ----------
        wanted : Wanted

        Returns
        -------
        Survey
        """

    @abstractmethod
    def summary(self, plan: StreamPlan, n_jobs: int | None, settle: Settle) -> PartitionSummary:
        """Sum all rows.

        Parameters
        ----------
        plan : StreamPlan
        n_jobs : int, optional
        settle : callable
            Sets the level of channels that the survey has not seen.

        Returns
        -------
        PartitionSummary
        """


class Blocks(Source):
    """Rows that can be read as often as need be, in blocks."""

    @abstractmethod
    def chunks(self, *, ignore_index: bool) -> Iterator[Chunk]:
        """Yield the rows in the order of time.

        Parameters
        ----------
        ignore_index : bool
        """

    @abstractmethod
    def split(self, n_parts: int) -> list[Blocks]:
        """Return about ``n_parts`` parts that other processes can read.

        Parameters
        ----------
        n_parts : int
        """

    def survey(self, wanted: Wanted) -> Survey:
        return survey_rows(self.chunks(ignore_index=wanted.ignore_index), wanted, "the source")

    def summary(self, plan: StreamPlan, n_jobs: int | None, settle: Settle) -> PartitionSummary:
        n_workers = joblib.effective_n_jobs(n_jobs)
        parts = self.split(_PARTS_PER_JOB * n_workers) if n_workers > 1 else [self]
        if len(parts) == 1:
            return _summarized(self, plan, trim=False)
        try:
            found = joblib.Parallel(n_jobs=n_jobs)(
                joblib.delayed(_summarized)(part, plan) for part in parts
            )
        except Exception as error:
            if type(error).__name__ in _LOST:
                raise lost_worker() from error
            raise
        return summed(found)


def _summarized(part: Blocks, plan: StreamPlan, *, trim: bool = True) -> PartitionSummary:
    summary = PartitionSummary(plan)
    for chunk in part.chunks(ignore_index=plan.grid is None):
        chunk.check_like(plan.first)
        summary.add(chunk)
    return summary.trimmed() if trim else summary


def lost_worker() -> RuntimeError:
    """Return the error for a worker that died.

    Returns
    -------
    RuntimeError
    """
    return RuntimeError(
        "a worker process died while it summed its rows, most often for lack of memory. Nothing "
        "was fitted. Use fewer workers (n_jobs), or smaller blocks (block_rows) or partitions."
    )


def rows_per_block(n_channels: int, block_rows: int | None) -> int:
    """Return how many rows are read at a time.

    Parameters
    ----------
    n_channels : int
    block_rows : int, optional
        What the caller wants.

    Returns
    -------
    int
    """
    if block_rows is not None:
        return block_rows
    return max(2**12, _BLOCK_ELEMENTS // max(1, n_channels))


def bounds(n_rows: int, n_parts: int, block: int) -> list[tuple[int, int]]:
    """Return where parts of whole blocks begin and end.

    Parameters
    ----------
    n_rows, n_parts, block : int

    Returns
    -------
    list of (start, stop)
    """
    n_blocks = -(-n_rows // block)
    edges = np.unique(np.linspace(0, n_blocks, min(n_parts, n_blocks) + 1).astype(int)) * block
    return [(int(a), min(int(b), n_rows)) for a, b in pairwise(edges)]


class ArrayBlocks(Blocks):
    """Rows of an array, a Series or a DataFrame in memory.

    Parameters
    ----------
    rows : array of shape (n,) or (n, C), pandas Series or DataFrame
    block : int
        Rows that are read at a time.
    """

    def __init__(self, rows: Any, block: int) -> None:
        self.rows = rows
        self.block = block

    def _cut(self, start: int, stop: int) -> Any:
        return self.rows.iloc[start:stop] if is_pandas(self.rows) else self.rows[start:stop]

    def chunks(self, *, ignore_index: bool) -> Iterator[Chunk]:
        for start in range(0, len(self.rows), self.block):
            item = self._cut(start, start + self.block)
            chunk = read_chunk(item, "the source", ignore_index=ignore_index)
            assert chunk is not None
            yield chunk

    def split(self, n_parts: int) -> list[Blocks]:
        parts = bounds(len(self.rows), n_parts, self.block)
        return [ArrayBlocks(self._cut(start, stop), self.block) for start, stop in parts]


class MemmapBlocks(Blocks):
    """Rows of a memory map, of which one block is held at a time.

    The file is opened anew for every block, here and in other processes, so that pages that were
    read count to no process.

    Parameters
    ----------
    rows : numpy.memmap of shape (n,) or (n, C)
    block : int
        Rows that are read at a time.
    start, stop : int, optional
        Which rows; all by default.
    """

    def __init__(self, rows: np.memmap[Any, Any], block: int) -> None:
        root: Any = rows
        while isinstance(root.base, np.memmap):
            root = root.base
        place = rows.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        self.file = str(rows.filename)
        self.offset = int(root.offset) + place
        self.shape, self.strides, self.dtype = rows.shape, rows.strides, rows.dtype
        self.block = block
        self.start, self.stop = 0, len(rows)

    def chunks(self, *, ignore_index: bool) -> Iterator[Chunk]:
        step = self.strides[0]
        for start in range(self.start, self.stop, self.block):
            n = min(self.block, self.stop - start)
            # a map of the bytes from the first to the last value of these rows
            width = sum((k - 1) * s for k, s in zip(self.shape[1:], self.strides[1:], strict=True))
            length = (n - 1) * step + width + self.dtype.itemsize
            raw = np.memmap(self.file, np.uint8, "r", self.offset + start * step, (length,))
            rows: Any = np.ndarray((n, *self.shape[1:]), self.dtype, raw, 0, self.strides)
            chunk = read_chunk(np.array(rows), f"rows {start} to {start + n - 1} of the memory map")
            del rows, raw
            assert chunk is not None
            yield chunk

    def split(self, n_parts: int) -> list[Blocks]:
        out: list[Blocks] = []
        for start, stop in bounds(self.stop - self.start, n_parts, self.block):
            part = object.__new__(MemmapBlocks)
            part.__dict__.update(vars(self), start=self.start + start, stop=self.start + stop)
            out.append(part)
        return out


class Stream(Source):
    """Chunks that an iterator yields, in this process and one after another.

    Parameters
    ----------
    chunks : iterable, or callable that returns one
    """

    def __init__(self, chunks: Any) -> None:
        self._make: Callable[[], Any] | None = chunks if callable(chunks) else None
        if self._make is None and iter(chunks) is not chunks:
            self._make = lambda: chunks
        self._items: Iterator[Any] = iter(()) if self._make is not None else iter(chunks)
        self._held: list[Chunk] = []
        self._n_read = 0
        self._last_name = "the source"

    def _read(self, ignore_index: bool) -> Iterator[Chunk]:
        for item in self._items:
            chunk = read_chunk(item, f"chunk {self._n_read}", ignore_index=ignore_index)
            self._n_read += 1
            if chunk is not None:
                yield chunk

    def _start(self) -> None:
        if self._make is not None:
            self._items, self._n_read = iter(self._make()), 0

    def survey(self, wanted: Wanted) -> Survey:
        self._start()
        if self._make is not None:
            return survey_rows(self._read(wanted.ignore_index), wanted, "the source")
        out, n_values = Survey(wanted), 0
        for chunk in self._read(wanted.ignore_index):
            out.add(chunk)
            self._held.append(chunk)
            n_values += chunk.values.size
            if out.is_settled or (n_values > _HELD_ELEMENTS and out.n_rows > 1):
                break
        return out

    def summary(self, plan: StreamPlan, n_jobs: int | None, settle: Settle) -> PartitionSummary:
        self._start()
        out = PartitionSummary(plan)
        held, self._held = self._held, []
        for chunks in (held, self._read(plan.grid is None)):
            for chunk in chunks:
                chunk.check_like(plan.first)
                settle(out, chunk)
                out.add(chunk)
        return out
