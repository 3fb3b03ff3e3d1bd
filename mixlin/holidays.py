"""Holidays as columns that a forecaster can read beside a series."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Days = npt.NDArray[np.datetime64]


def holiday_columns(
    index: Any,
    holidays: Mapping[Any, str] | Iterable[Any],
    *,
    names: str | Sequence[str] | None = None,
) -> Any:
    """Mark the rows that lie on holidays, as regressors for ``exog`` and ``exog_future``.

    Parameters
    ----------
    index : pandas.DatetimeIndex or PeriodIndex, or array of datetime64 of shape (n_rows,)
        Wall-clock times of the rows; all rows of a day are marked.
    holidays : mapping of dates to names, or iterable of dates
        A dict, an object of the ``holidays`` package, or a list. Dates are ``datetime.date``,
        ``datetime64``, time stamps or strings such as "2024-12-25"; a name such as
        "Easter Monday; Labor Day" counts as two.
    names : str or sequence of str, optional
        A string is the name of one column for all holidays, as a list of dates has by default
        ("holiday"). A sequence chooses and orders the names of a mapping, which by default are all
        of them, sorted; those of the training rows make sure that later columns are the same.

    Returns
    -------
    columns : array of shape (n_rows, n_names)
        1.0 on holidays, else 0.0.
    names : list of str
    frame : DataFrame instead of both, for a pandas index

    Raises
    ------
    ValueError
        If ``index`` holds no dates, a date can't be read, or a list of dates comes with several
        names.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_features import holiday_columns
    >>> hours = np.arange("2024-12-24T12", "2024-12-26T12", 12, dtype="datetime64[h]")
    >>> dates = {"2024-12-25": "Christmas", "2025-01-01": "New Year"}
    >>> columns, names = holiday_columns(hours, dates)
    >>> names, columns.T.tolist()
    (['Christmas', 'New Year'], [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> holiday_columns(hours, ["2024-12-25", "2024-12-26"])[0].T.tolist()
    [[0.0, 1.0, 1.0, 1.0]]
    """
    frame_index, stamps = None, index
    if hasattr(index, "index") and hasattr(index, "iloc"):
        raise ValueError("index must hold the times of the rows; got a frame. Pass frame.index.")
    if hasattr(index, "to_timestamp"):  # periods stand at their start
        frame_index, stamps = index, index.to_timestamp().to_numpy()
    elif hasattr(index, "tz_localize"):
        frame_index, stamps = index, index.tz_localize(None).to_numpy()
    days = _days_of(stamps)
    marked = _named_days(holidays, days)
    if names is None:
        if isinstance(holidays, Mapping):
            listed = sorted({name for _, name in marked})
        else:
            listed, names = ["holiday"], "holiday"
    else:
        listed = [names] if isinstance(names, str) else list(names)
    if not isinstance(holidays, Mapping) and len(listed) != 1:
        raise ValueError(
            f"a list of dates makes one column; got names={names!r}. Pass a dict from dates to "
            "names."
        )
    every = isinstance(names, str) or not isinstance(holidays, Mapping)
    columns = np.zeros((len(days), len(listed)))
    for k, wanted in enumerate(listed):
        own = [day for day, name in marked if every or name == wanted]
        columns[:, k] = np.isin(days, np.array(own, dtype="datetime64[D]"))
    if frame_index is None:
        return columns, listed
    import pandas as pd

    return pd.DataFrame(columns, index=frame_index, columns=listed)


def _days_of(stamps: Any) -> Days:
    times = np.asarray(stamps)
    if times.dtype.kind != "M" or times.ndim != 1 or np.isnat(times).any():
        raise ValueError(
            "index must hold a datetime64 for every row, shape (n_rows,) and none missing; got "
            f"dtype {times.dtype} and shape {times.shape}."
        )
    return times.astype("datetime64[D]")


def _named_days(holidays: Any, days: Days) -> list[tuple[np.datetime64, str]]:
    """Return the days of holidays, with a name each."""
    if isinstance(holidays, str) or not isinstance(holidays, Iterable):
        raise ValueError(
            f"holidays must be a dict from dates to names or a list of dates; got {holidays!r}."
        )
    if not isinstance(holidays, Mapping):
        return [(_day_of(key), "holiday") for key in holidays]
    for day in np.unique(days).tolist():  # the holidays package fills years in when asked
        holidays.get(day)
    return [
        (_day_of(key), part)
        for key, name in list(holidays.items())
        for part in str(name).split("; ")
    ]


def _day_of(key: Any) -> np.datetime64:
    if isinstance(key, datetime.datetime):
        key = key.date()
    if isinstance(key, (str, datetime.date, np.datetime64)):
        try:
            day: Days = np.asarray(key, dtype="datetime64").astype("datetime64[D]")
        except ValueError:
            day = np.array("NaT", dtype="datetime64[D]")
        if not np.isnat(day):
            return cast("np.datetime64", day[()])
    raise ValueError(
        f"{key!r} is no date of a holiday. Pass datetime.date, datetime64 or strings such as "
        "'2024-12-25'."
    )
