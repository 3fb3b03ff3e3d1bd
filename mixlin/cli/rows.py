"""How many rows a model reads and forecasts, and what is done about gaps in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import DEFAULT_LOOKBACK
from ..solvers.exact_search import default_lookbacks
from ..windows import interpolate
from .tables import listed

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it

DEFAULT_HORIZON = 96
_ENOUGH = 0.5  # share of windows free of gaps; with fewer, gaps are filled


def sizes(n_rows: int, horizon: int | None, lookback: int | None) -> tuple[int, int]:
    """Return horizon and lookback, shortened for few rows unless they were given.

    Parameters
    ----------
    n_rows : int
    horizon, lookback : int, optional

    Returns
    -------
    horizon, lookback : int

    Raises
    ------
    ValueError
        If the rows are too few for any lookback.
    """
    if horizon is None:
        horizon = max(1, min(DEFAULT_HORIZON, n_rows // 4))
    if lookback is None:
        if n_rows < horizon + 2:
            raise ValueError(
                f"{n_rows} row{'s are' if n_rows > 1 else ' is'} too few to forecast {horizon} "
                f"step{'s' if horizon > 1 else ''}; at least {horizon + 2} are needed. Pass more "
                "rows, or a shorter --horizon."
            )
        lookback = max(1, min(DEFAULT_LOOKBACK, n_rows // 3, (n_rows - horizon) // 2))
    return horizon, lookback


def search_sizes(
    n_rows: int, horizon: int | None, lookback: int | tuple[int, ...] | None
) -> tuple[int, int]:
    """Return the horizon of a search, and the most rows that its models read.

    Parameters
    ----------
    n_rows : int
    horizon : int, optional
    lookback : int or tuple of int, optional
        Left to the search by default.

    Returns
    -------
    horizon, most : int

    Raises
    ------
    ValueError
        If the rows are too few for any lookback.
    """
    if lookback is not None:
        return sizes(n_rows, horizon, int(np.max(lookback)))
    horizon, _ = sizes(n_rows, horizon, None)
    return horizon, max(default_lookbacks(n_rows, horizon, (n_rows,)))


def without_gaps(frame: Frame, lookback: int, horizon: int, notes: list[str]) -> Frame:
    """Return what to fit on: the frame itself unless gaps leave too few windows.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_channels)
    lookback, horizon : int
    notes : list of str
        Gets a sentence if gaps are filled.

    Returns
    -------
    DataFrame of shape (n_rows, n_channels)
    """
    length = lookback + horizon
    missing = frame.isna().to_numpy()
    if not missing.any() or len(frame) < length:
        return frame
    # a window counts for a channel where that channel has no gap
    before = np.concatenate([np.zeros((1, missing.shape[1]), int), missing.cumsum(axis=0)])
    free = (before[length:] == before[:-length]).mean(axis=0)
    if free.min() >= _ENOUGH:
        return frame
    worst = str(frame.columns[int(free.argmin())])
    notes.append(
        f"gaps filled on straight lines, also for the fit: they touch {100 - 100 * free.min():.0f} "
        f"% of the windows of {worst!r}"
    )
    return _filled(frame)


def context_of(frame: Frame, lookback: int, notes: list[str]) -> Frame:
    """Return the rows that a forecast starts from, without gaps.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_channels)
    lookback : int
    notes : list of str
        Gets a sentence if gaps are filled.

    Returns
    -------
    DataFrame of shape (lookback, n_channels)
    """
    missing = int(frame.iloc[-lookback:].isna().to_numpy().sum())
    if not missing:
        return frame.iloc[-lookback:]
    notes.append(
        f"{missing} missing value{'s' if missing > 1 else ''} in the last {lookback} rows filled "
        "on straight lines"
    )
    return _filled(frame).iloc[-lookback:]


def with_values(frame: Frame, reads: int, wanted: list[str] | None, notes: list[str]) -> Frame:
    """Return the columns that have a value in the rows that a forecast reads.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_channels)
    reads : int
        Rows that are read at most.
    wanted : list of str, optional
        Columns that were asked for by name.
    notes : list of str
        Gets a sentence for columns that are left out, and for values that stay missing.

    Returns
    -------
    DataFrame of shape (n_rows, n_kept)

    Raises
    ------
    ValueError
        If a column that was asked for has no value there.
    """
    missing = frame.iloc[-reads:].isna()
    empty = missing.all().to_numpy()
    names = [str(name) for name in frame.columns[empty]]
    if names and wanted is not None:
        raise ValueError(
            f"column {names[0]!r} has no value in the last {reads} rows, which a forecast reads; "
            "raise --lookback, or choose another --column."
        )
    if names:
        notes.append(f"left out, no value in the last {reads} rows: {listed(names)}")
    n_missing = int(missing.to_numpy()[:, ~empty].sum())
    if n_missing:
        notes.append(
            f"{n_missing} missing value{'s stay' if n_missing > 1 else ' stays'} missing: the "
            "forecast follows from the others"
        )
    return frame.loc[:, ~empty]


def _filled(frame: Frame) -> Frame:
    filled = frame.copy()
    filled.loc[:, :] = interpolate(frame.to_numpy())
    return filled
