"""The container that every dataset is returned in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

__all__ = ["check_pandas", "series_bunch"]


def check_pandas(caller: str) -> Any:
    """Return the pandas module, or raise an ImportError that says what to do."""
    try:
        import pandas
    except ImportError as exc:
        raise ImportError(
            f"{caller} with as_frame=True needs pandas, which is not installed: install it "
            "(pip install pandas), or use as_frame=False for arrays."
        ) from exc
    return pandas


def series_bunch(
    data: npt.NDArray[np.float64],
    index: npt.NDArray[np.datetime64] | None,
    feature_names: list[str],
    name: str,
    freq: str | None,
    period: int | None,
    descr: str,
    *,
    as_frame: bool,
    **extra: Any,
) -> Bunch:
    """Return a series with its description, as arrays or as a DataFrame indexed by time.

    Parameters
    ----------
    data : array of shape (n_rows, n_channels)
        The series.
    index : array of shape (n_rows,) or None
        Time of each row, evenly spaced by `freq`.
    feature_names : list of str
        Names of the channels.
    name, freq, period, descr : str, str or None, int or None, str
        Name, step as pandas writes it, natural period in steps, and description.
    as_frame : bool
        Whether `data` becomes a DataFrame.
    **extra : object
        Further fields.

    Returns
    -------
    Bunch
        The dataset.
    """
    frame = None
    if as_frame:
        pandas = check_pandas(name)
        rows = None if index is None else pandas.DatetimeIndex(index, freq=freq, name="date")
        frame = pandas.DataFrame(data, index=rows, columns=feature_names)
    return Bunch(
        data=data if frame is None else frame,
        frame=frame,
        index=index,
        feature_names=feature_names,
        name=name,
        freq=freq,
        period=period,
        DESCR=descr,
        **extra,
    )
