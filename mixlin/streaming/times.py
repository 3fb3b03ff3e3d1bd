"""The grid that the rows of all chunks stand on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..timestamps import TimeIndex, read_index

if TYPE_CHECKING:
    import pandas as pd

    Labels = pd.Index[Any]

_DAY = 86_400_000_000_000  # nanoseconds


def kind_of(labels: Labels) -> tuple[str, str]:
    """Return what labels must have in common, as class name and time zone.

    Parameters
    ----------
    labels : pandas.Index

    Returns
    -------
    tuple of str
    """
    name = type(labels).__name__
    if name == "RangeIndex" or getattr(labels.dtype, "kind", "O") in "iu":
        return "integers", ""
    return name, str(getattr(labels, "tz", ""))


def check_kind(labels: Labels, kind: tuple[str, str], name: str) -> None:
    """Refuse labels of another kind than those of the first rows.

    Parameters
    ----------
    labels : pandas.Index
    kind : tuple of str
        From :func:`kind_of`.
    name : str
        What errors call the rows.

    Raises
    ------
    ValueError
    """
    own = kind_of(labels)
    if own != kind:
        texts = (" ".join(filter(None, k)) for k in (own, kind))
        raise ValueError(
            "the index of {} holds {}, that of the first rows {}. Give all chunks an index of one "
            "kind and time zone, or pass ignore_index=True.".format(name, *texts)
        )


@dataclass(frozen=True)
class Grid:
    """Frequency and first label of a series that comes in chunks.

    Parameters
    ----------
    index : TimeIndex
        Of the first rows; its last label is not used.
    first : object
        The first label.
    kind : tuple of str
        Class and time zone of the labels.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixlin.streaming.times import Grid
    >>> hours = pd.date_range("2026-01-01", periods=48, freq="h")
    >>> Grid.of(hours[:24]).places(hours[[30, 31, 35]], "rows", after=hours[23]).tolist()
    [7, 8, 12]
    """

    index: TimeIndex
    first: Any
    kind: tuple[str, str]

    @staticmethod
    def of(labels: Labels) -> Grid:
        """Find the grid of the first rows.

        Parameters
        ----------
        labels : pandas.Index

        Returns
        -------
        Grid

        Raises
        ------
        ValueError
            If labels can't be continued, are unsorted, repeated or irregular.
        """
        return Grid(read_index(labels)[0], labels[0], kind_of(labels))

    def at(self, label: Any) -> TimeIndex:
        """Return the index of a series that ends with a label.

        Parameters
        ----------
        label : object

        Returns
        -------
        TimeIndex
        """
        if self.index.kind == "integer":
            label = int(label)
        return replace(self.index, last=label)

    def places(self, labels: Labels, name: str, after: Any = None) -> npt.NDArray[np.int64]:
        """Return how many steps after a label rows stand.

        Parameters
        ----------
        labels : pandas.Index
        name : str
            What errors call the rows.
        after : object, optional
            The label before them; by default the first one is counted as 1.

        Returns
        -------
        array of shape (n,)

        Raises
        ------
        ValueError
            If labels are missing, of another kind, unsorted, repeated or off the grid.
        """
        import pandas as pd

        check_kind(labels, self.kind, name)
        if labels.hasnans:
            raise ValueError(f"the index of {name} holds missing labels; every row needs its time.")
        origin = labels[:1] if after is None else pd.Index([after])
        away = _ordinals(labels) - _ordinals(origin)[0]
        order = np.diff(away, prepend=-1 if after is None else 0)
        if (order < 0).any():
            i = int(np.flatnonzero(order < 0)[0])
            before = after if i == 0 else labels[i - 1]
            raise ValueError(
                f"{name} is not in the order of time: {labels[i]} follows {before}. Sort the rows "
                "(and the files) by time, or pass ignore_index=True if rows follow on each other."
            )
        if (order == 0).any():
            i = int(np.flatnonzero(order == 0)[0])
            raise ValueError(
                f"{name} repeats the time {labels[i]}: every time must occur once. Drop or "
                "aggregate the repeated rows."
            )
        rows = self._steps(labels, origin, away)
        if rows is None:
            raise ValueError(
                f"{name} does not step by {self.index.freq!r}, as the first rows do: a series has "
                "one frequency. Resample it, or fit on each frequency by itself."
            )
        return rows + 1 if after is None else rows

    def _steps(
        self, labels: Labels, origin: Labels, away: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64] | None:
        """Return steps between labels and the one of ``origin``; None if off the grid."""
        import pandas as pd

        freq: Any = self.index.freq
        wall: Any
        if isinstance(freq, int):
            length = freq
        elif self.index.kind == "period":
            period: Any = pd.PeriodIndex([], freq=freq).freq
            own: Any = labels.freq  # type: ignore[attr-defined]
            if own.base != period.base:
                return None
            length = int(period.n)
        else:
            offset = pd.tseries.frequencies.to_offset(freq)
            assert offset is not None
            if isinstance(offset, pd.offsets.Day):
                length = int(offset.n) * _DAY
            elif isinstance(offset, pd.offsets.Tick):
                length = int(pd.Timedelta(offset).as_unit("ns").value)
            else:
                wall = pd.date_range(origin[0], labels[-1], freq=offset)
                rows = wall.get_indexer(labels)
                return None if (rows < 0).any() else np.asarray(rows, dtype=np.int64)
            if self.index.kind == "datetime" and length % _DAY == 0:  # by the clock on the wall
                own, first = labels, origin
                away = _ordinals(own.tz_localize(None)) - _ordinals(first.tz_localize(None))[0]  # type: ignore[attr-defined]
        return None if (away % length).any() else np.asarray(away // length)


def _ordinals(labels: Labels) -> npt.NDArray[np.int64]:
    """Return labels as integers: nanoseconds for dates, whatever their unit."""
    made: Any = labels
    if hasattr(made, "as_unit"):
        made = made.as_unit("ns")
    return np.asarray(getattr(made, "asi8", made), dtype=np.int64)


def irregular(n_rows: int, n_observed: int) -> ValueError:
    """Return the error for a series most of whose rows are missing.

    Parameters
    ----------
    n_rows, n_observed : int

    Returns
    -------
    ValueError
    """
    return ValueError(
        f"the series has {n_observed} rows for {n_rows} steps of its frequency: most are missing. "
        "Resample to a regular frequency, or pass ignore_index=True if rows follow on each other."
    )
