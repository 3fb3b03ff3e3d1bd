"""Rows of Parquet files, by row groups."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..windows import Container
from .chunks import Chunk, read_chunk
from .sources import Blocks, rows_per_block

_ENDINGS = (".parquet", ".pq")
_INDEX = re.compile(r"__(index_level_\d+|null_dask_index)__")  # columns of an index without name


def _pyarrow() -> Any:
    try:
        import pandas  # noqa: F401  (forecasts leave as frames)
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files are read with pyarrow and pandas; install them with "
            "pip install 'mixlin[parquet]'."
        ) from error
    return pyarrow.parquet


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts part.2 before part.10."""
    return [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", path.as_posix())]


def parquet_files(path: str | os.PathLike[str]) -> list[str]:
    """Return the files of a folder in the order of their names, numbers as numbers.

    Parameters
    ----------
    path : str or path-like
        A file or a folder.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If there is nothing of that name, or no Parquet file in the folder.
    """
    place = Path(path)
    if place.is_file():
        return [str(place)]
    if not place.is_dir():
        raise ValueError(
            f"there is no file or folder {str(place)!r}; pass a Parquet file or folder."
        )
    inside = (p for p in place.rglob("*") if p.suffix in _ENDINGS and p.is_file())
    found = [p for p in inside if not p.name.startswith((".", "_"))]
    if not found:
        raise ValueError(
            f"the folder {str(place)!r} holds no file that ends with {' or '.join(_ENDINGS)}."
        )
    return [str(p) for p in sorted(found, key=lambda p: _natural(p.relative_to(place)))]


class ParquetBlocks(Blocks):
    """Row groups of Parquet files.

    Parameters
    ----------
    files : list of str, or list of one pyarrow.parquet.ParquetFile
    groups : list of (file, row group, rows)
    time : str, optional
        Column of the times.
    columns : list of str
        Channels.
    block : int
        Rows that are read at a time.
    """

    def __init__(
        self,
        files: list[Any],
        groups: list[tuple[int, int, int]],
        time: str | None,
        columns: list[str],
        block: int,
    ) -> None:
        self.files = files
        self.groups = groups
        self.time = time
        self.columns = columns
        self.block = block

    @staticmethod
    def of(
        source: Any, time: str | None, columns: list[str] | None, block_rows: int | None
    ) -> ParquetBlocks:
        """Open a file, a folder or a ParquetFile.

        Parameters
        ----------
        source : str, path-like or pyarrow.parquet.ParquetFile
        time : str, optional
        columns : list of str, optional
        block_rows : int, optional

        Returns
        -------
        ParquetBlocks

        Raises
        ------
        ValueError
            If files or columns are missing, or columns are no numbers.
        """
        parquet = _pyarrow()
        files = parquet_files(source) if isinstance(source, (str, os.PathLike)) else [source]
        groups, names = [], None
        for i, file in enumerate(files):
            opened = parquet.ParquetFile(file) if isinstance(file, str) else file
            own = _channels(opened.schema_arrow, time, columns, _name(file))
            if names is not None and own != names:
                raise ValueError(
                    f"{_name(file)} has the columns {own}, {_name(files[0])} has {names}. All "
                    "files must hold the same columns in the same order; choose with columns=."
                )
            names = own
            for g in range(opened.num_row_groups):
                groups.append((i, g, opened.metadata.row_group(g).num_rows))
            if isinstance(file, str):
                opened.close()
        assert names is not None
        return ParquetBlocks(files, groups, time, names, rows_per_block(len(names), block_rows))

    def chunks(self, *, ignore_index: bool) -> Iterator[Chunk]:
        parquet, opened, at = _pyarrow(), None, -1
        for i, g, _ in self.groups:
            if i != at:
                file = self.files[i]
                if opened is not None and isinstance(self.files[at], str):
                    opened.close()
                opened, at = parquet.ParquetFile(file) if isinstance(file, str) else file, i
            assert opened is not None
            name = f"row group {g} of {_name(self.files[i])}"
            wanted = [*self.columns, *([] if self.time is None else [self.time])]
            batches = opened.iter_batches(
                batch_size=self.block, row_groups=[g], columns=wanted, use_threads=False
            )
            for batch in batches:
                chunk = self._chunk(batch, name, ignore_index)
                if chunk is not None:
                    yield chunk

    def _chunk(self, batch: Any, name: str, ignore_index: bool) -> Chunk | None:
        import pandas as pd

        if not batch.num_rows:
            return None
        arrays = [batch.column(c).to_numpy(zero_copy_only=False) for c in self.columns]
        values = np.empty((batch.num_rows, len(arrays)), np.result_type(*arrays))
        for c, column in enumerate(arrays):
            values[:, c] = column
        read = read_chunk(values, name)
        assert read is not None
        labels = None
        if self.time is not None and not ignore_index:
            times = batch.column(self.time)
            if str(times.type).startswith("date"):
                times = times.cast("timestamp[ms]")
            labels = pd.Index(times.to_pandas(), name=self.time)
        return Chunk(read.values, labels, Container("frame", 2, pd.Index(self.columns)), name)

    def split(self, n_parts: int) -> list[Blocks]:
        if not all(isinstance(file, str) for file in self.files) or not self.groups:
            return [self]  # an open file does not travel
        stops = np.cumsum([rows for _, _, rows in self.groups])
        edges = np.searchsorted(stops, np.linspace(0, stops[-1], n_parts + 1)[1:-1])
        parts = np.split(np.arange(len(self.groups)), np.unique(edges + 1))
        return [
            ParquetBlocks(
                self.files, [self.groups[i] for i in part], self.time, self.columns, self.block
            )
            for part in parts
            if len(part)
        ]


def _name(file: Any) -> str:
    return Path(file).name if isinstance(file, str) else "the Parquet file"


def _channels(schema: Any, time: str | None, columns: list[str] | None, name: str) -> list[str]:
    """Return the names of the channels of a file."""
    import pyarrow as pa

    known = list(schema.names)
    for column in ([] if time is None else [time]) + list(columns or []):
        if column not in known:
            raise ValueError(f"{name} has no column {column!r}; it has {known}.")
    data = [c for c in known if c != time and not _INDEX.fullmatch(c)]
    chosen = data if columns is None else list(columns)
    types = {c: schema.field(c).type for c in chosen}
    numbers = (pa.types.is_integer, pa.types.is_floating)
    text = [c for c, t in types.items() if not any(is_one(t) for is_one in numbers)]
    if text or not chosen:
        what = f"columns that are no numbers: {', '.join(text)}" if text else "no channels"
        raise ValueError(
            f"{name} has {what}. Name the column of the times (time=...) and the channels "
            "(columns=[...])."
        )
    return chosen
