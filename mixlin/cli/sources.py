"""Where a command's data come from: tables on a grid, benchmark datasets, made-up loads."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterable
from typing import Any

from sklearn.utils import Bunch

from ..backtesting.spans import DATASETS, load_dataset
from ..windows import is_pandas
from .tables import listed, numeric_columns, read_table
from .times import place_rows, take_time

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it


def check_pandas(command: str) -> None:
    """Raise an ImportError that says what to do where pandas is missing.

    Parameters
    ----------
    command : str
    """
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{command} needs pandas, which is not installed: pip install 'mixlin[cli]'."
        ) from error


def new_figure() -> Any:
    """Return a figure that no window belongs to.

    Returns
    -------
    matplotlib.figure.Figure
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "--plot needs matplotlib, which is not installed: pip install 'mixlin[cli]'."
        ) from error
    return Figure(layout="constrained")


def check_paths(written: Iterable[str | None], read: Iterable[str | None]) -> None:
    """Refuse what can't be written before anything is computed.

    Parameters
    ----------
    written, read : iterable of str or None

    Raises
    ------
    ValueError
        If a folder is missing, or a file would be read and written.
    OSError
        If a path is a folder.
    """
    sources = [path for path in read if path and os.path.exists(path)]
    for path in filter(None, written):
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise ValueError(f"{path} can't be written: there is no folder {folder}.")
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if os.path.exists(path) and any(os.path.samefile(path, source) for source in sources):
            raise ValueError(f"{path} is the input; write to another file.")


def read_file(
    path: str, columns: list[str] | None, time_column: str | None, notes: list[str]
) -> Frame:
    """Read the channels of a table onto their grid.

    Parameters
    ----------
    path : str
    columns : list of str, optional
    time_column : str, optional
    notes : list of str
        Gets a sentence for everything that was guessed or changed.

    Returns
    -------
    DataFrame of shape (n_steps, n_channels)
    """
    table, decimal = read_table(path)
    if columns is None and {"unique_id", "ds", "y"} <= set(table.columns):
        raise ValueError(
            f"{path} holds several series one under another (unique_id, ds, y), and this command "
            "reads one column per series. In Python, mixlin.forecast(pandas.read_csv(file), "
            "horizon) forecasts such a table; here, pivot it, or name its columns with --column."
        )
    table, times = take_time(table, time_column, notes)
    return place_rows(numeric_columns(table, columns, decimal, notes), times, notes)


def is_dataset(name: str) -> bool:
    """Whether a name is that of a benchmark dataset rather than of a file.

    Parameters
    ----------
    name : str
    """
    return name.lower() in {known.lower() for known in DATASETS}


def read_data(options: argparse.Namespace, command: str, notes: list[str]) -> Bunch:
    """Read the benchmark dataset or the table that a command got.

    Parameters
    ----------
    options : argparse.Namespace
        With what :func:`~mixlin.cli.arguments.add_data` adds.
    command : str
    notes : list of str
        Gets a sentence for everything that was guessed or changed.

    Returns
    -------
    Bunch
        name, data, feature_names; and index, freq for a dataset. Of a table the data are a frame.

    Raises
    ------
    ValueError
        If it is neither, or has other columns.
    OSError
        If a file can't be read.
    """
    name = options.dataset
    if not is_dataset(name):
        if not (os.path.exists(name) or name == "-" or {".", os.sep} & set(name)):
            raise ValueError(
                f"dataset must be one of {', '.join(DATASETS)}, or the file of a table; got "
                f"{name!r}."
            )
        check_pandas(f"{command} of a table")
        frame = read_file(name, options.column, options.time_column, notes)
        return Bunch(name=name, data=frame, feature_names=[str(c) for c in frame.columns])
    if options.time_column is not None:
        raise ValueError(f"--time-column is for tables; the times of {name} are known.")
    bunch = load_dataset(name, options.data_home)
    return bunch if options.column is None else with_channels(bunch, options.column)


def with_channels(bunch: Bunch, names: list[str]) -> Bunch:
    """Return a dataset with some of its channels, in the order of the names.

    Parameters
    ----------
    bunch : Bunch
    names : list of str

    Returns
    -------
    Bunch

    Raises
    ------
    ValueError
        If there is no such channel.
    """
    known = list(bunch.feature_names)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no column {name!r}; the columns are {listed(known)}.")
    picked = list(dict.fromkeys(names))
    places = [known.index(name) for name in picked]
    data = bunch.data.iloc[:, places] if is_pandas(bunch.data) else bunch.data[:, places]
    return Bunch(**{**bunch, "data": data, "feature_names": picked})


def as_frame(bunch: Bunch) -> Frame:
    """Return the data of a dataset or of a table as a frame under their times.

    Parameters
    ----------
    bunch : Bunch

    Returns
    -------
    DataFrame of shape (n_rows, n_channels)
    """
    import pandas as pd

    if is_pandas(bunch.data):
        return bunch.data
    index = None
    if bunch.index is not None:
        index = pd.DatetimeIndex(bunch.index, freq=bunch.freq, name="date")
    return pd.DataFrame(bunch.data, index=index, columns=bunch.feature_names)


def has_times(bunch: Bunch) -> bool:
    """Whether rows have dates.

    Parameters
    ----------
    bunch : Bunch
    """
    if is_pandas(bunch.data):
        return bool(bunch.data.index.dtype.kind == "M")
    return bunch.get("index") is not None


def check_times(reads: bool, bunch: Bunch, instead: str) -> None:
    """Refuse a model that is routed by the calendar where there is none.

    Parameters
    ----------
    reads : bool
        Whether the model reads times.
    bunch : Bunch
    instead : str
        What to do then.

    Raises
    ------
    ValueError
    """
    if reads and not has_times(bunch):
        column = "" if is_dataset(bunch.name) else "name their column with --time-column, or "
        raise ValueError(
            f"{bunch.name} has no times, which a model routed by the calendar reads; {column}"
            f"{instead}."
        )


def show_notes(notes: list[str]) -> None:
    """Print what was guessed and changed on stderr.

    Parameters
    ----------
    notes : list of str
    """
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def counted(n: int, what: str) -> str:
    """Return a number of things.

    Parameters
    ----------
    n : int
    what : str

    Returns
    -------
    str

    Examples
    --------
    >>> from mixlin.cli.sources import counted
    >>> counted(1, "channel"), counted(2, "channel")
    ('1 channel', '2 channels')
    """
    return f"{n} {what}{'s' if n != 1 else ''}"
