"""Which frames are long, and what their columns are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..windows import is_pandas

PARTS = ("forecast", "lower", "upper")
"""What stands beside one another where an interval is asked for."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a long frame.

    Parameters
    ----------
    id, time, target : str

    Examples
    --------
    >>> from mixlin.long_frames import Columns
    >>> Columns().target
    'y'
    """

    id: str = "unique_id"
    time: str = "ds"
    target: str = "y"

    def __post_init__(self) -> None:
        if len({self.id, self.time, self.target}) < 3:
            raise ValueError(
                "id_column, time_column and target_column must be three different columns; got "
                f"{self.id!r}, {self.time!r} and {self.target!r}."
            )
        for name in (self.id, self.time):
            if name in PARTS:
                raise ValueError(
                    f"id_column and time_column must not be {', '.join(map(repr, PARTS))}, which "
                    f"are columns of the result; got {name!r}. Rename the column."
                )


USUAL = Columns()


def is_long_frame(X: Any, columns: Columns = USUAL) -> bool:
    """Whether X is a DataFrame of many series one under another.

    Parameters
    ----------
    X : object
    columns : Columns

    Returns
    -------
    bool
        Whether it has the column of ids (or a level of its index of that name), or those of times
        and targets.
    """
    if not hasattr(X, "columns") or not (is_pandas(X) or _is_polars(X)):
        return False
    if columns.id in X.columns or (is_pandas(X) and columns.id in X.index.names):
        return True
    return columns.time in X.columns and columns.target in X.columns


def _is_polars(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] == "polars"


def long_columns(frame: Any, columns: Columns = USUAL) -> tuple[Any, str | None]:
    """Return a long frame with its ids among the columns.

    Parameters
    ----------
    frame : DataFrame
        For which :func:`is_long_frame` holds.
    columns : Columns

    Returns
    -------
    frame : DataFrame
    id_column : str or None
        None where there is none: one series.

    Raises
    ------
    ValueError
        If the column of times or of targets lacks, or the frame is one of polars.
    """
    if not is_pandas(frame):
        raise ValueError(
            f"long frames are read from pandas; got {type(frame).__name__} of polars. Pass "
            "frame.to_pandas()."
        )
    if columns.id in frame.index.names:
        frame = frame.reset_index()
    there = {name: name in frame.columns for name in (columns.id, columns.time, columns.target)}
    missing = [name for name in (columns.time, columns.target) if not there[name]]
    if missing:
        known = next(name for name, found in there.items() if found)
        raise ValueError(
            f"the frame has a column {known!r} as long ones have, but no "
            f"{' and no '.join(map(repr, missing))}; its columns are {listed(frame)}. Name "
            "the others with time_column= and target_column=."
        )
    return frame, columns.id if there[columns.id] else None


def listed(frame: Any) -> str:
    """Return what errors call the columns of a frame.

    Parameters
    ----------
    frame : DataFrame
    """
    names = [repr(str(name)) for name in frame.columns[:8]]
    return ", ".join([*names, "..."] if len(frame.columns) > 8 else names)
