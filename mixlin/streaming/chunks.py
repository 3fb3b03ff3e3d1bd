"""Chunks of a series: what a source yields, read and compared with the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..windows import Container, is_pandas, read_values

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a series.

    Parameters
    ----------
    values : array of shape (n, C)
        NaN marks missing values.
    labels : pandas.Index of length n, optional
    container : Container
    name : str
        What errors call it.
    """

    values: FloatArray
    labels: pd.Index[Any] | None
    container: Container
    name: str

    @property
    def columns(self) -> list[Any] | None:
        """Names of the channels of a frame."""
        if self.container.kind != "frame":
            return None
        return list(self.container.columns)

    def check_like(self, first: Chunk) -> None:
        """Refuse a chunk whose channels are not those of the first one.

        Parameters
        ----------
        first : Chunk

        Raises
        ------
        ValueError
        """
        n, expected = self.values.shape[1], first.values.shape[1]
        if n != expected:
            raise ValueError(
                f"{self.name} has {n} channel{'s' if n != 1 else ''}, {first.name} has {expected}. "
                "All chunks must hold the same channels; leave the others out."
            )
        kinds = (self.container.kind, first.container.kind)
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"{self.name} is of kind {kinds[0]!r}, {first.name} of kind {kinds[1]!r}. Pass "
                "arrays only, or frames only."
            )
        if self.columns != first.columns:
            raise ValueError(
                f"{self.name} has the columns {self.columns}, {first.name} has {first.columns}. "
                "All chunks must hold the same columns in the same order."
            )

    def empty(self) -> Chunk:
        """Return the chunk without its rows, for comparisons."""
        return Chunk(self.values[:0].copy(), None, self.container, self.name)


def read_chunk(item: Any, name: str, *, ignore_index: bool = False) -> Chunk | None:
    """Read what a source yields.

    Parameters
    ----------
    item : array-like of shape (n,) or (n, C), pandas Series or DataFrame, Chunk
    name : str
        What errors call it.
    ignore_index : bool
        Whether rows of frames simply follow on each other.

    Returns
    -------
    Chunk, or None if there are no rows

    Raises
    ------
    ValueError
        For text, infinite values, more than two dimensions.
    """
    if item is None or isinstance(item, Chunk):
        return item if item is not None and len(item.values) else None
    if not is_pandas(item):
        item = np.asarray(item)
    if item.ndim and len(item) == 0:
        return None
    values, container = read_values(item, name=name)
    if container.kind == "frame":
        container = Container("frame", 2, item.columns)
    labels = item.index if is_pandas(item) and not ignore_index else None
    return Chunk(values, labels, container, name)
