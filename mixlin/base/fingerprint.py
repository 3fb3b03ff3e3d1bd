"""Hashes that tell whether an array's rows were seen before, since arrays carry no index."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

_RUN = 16  # consecutive rows of one hash


def _row_hashes(values: FloatArray) -> npt.NDArray[np.uint64]:
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, values.shape[1], dtype=np.uint64) * 2 + 1
    mixed = bits ^ (bits >> np.uint64(32))
    return np.asarray((mixed * odd).sum(axis=1, dtype=np.uint64))


def _run_hashes(rows: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    odd = np.random.default_rng(1).integers(1, 2**63, _RUN, dtype=np.uint64) * 2 + 1
    rows = rows ^ (rows >> np.uint64(29))
    return np.asarray((rows * odd).sum(axis=-1, dtype=np.uint64))


def fingerprint(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Return hashes of every 16th run of 16 rows, half a byte per row.

    Parameters
    ----------
    values : array of shape (T, C)

    Returns
    -------
    array of shape (T // 16,)
        Sorted; one hash of all rows where there are fewer than 16.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base.fingerprint import fingerprint, starts_inside
    >>> series = np.random.default_rng(0).normal(size=(100, 2))
    >>> known = fingerprint(series[:80])
    >>> starts_inside(series[40:], known), starts_inside(series[80:], known)
    (True, False)
    """
    if len(values) < _RUN:
        return _whole_hash(values)
    n_runs = len(values) // _RUN
    out = np.empty(n_runs, dtype=np.uint64)
    block = 4096
    for start in range(0, n_runs, block):
        stop = min(start + block, n_runs)
        rows = _row_hashes(values[start * _RUN : stop * _RUN])
        out[start:stop] = _run_hashes(rows.reshape(-1, _RUN))
    return np.sort(out)


def _whole_hash(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Return one hash of fewer than 16 rows."""
    rows = np.zeros(_RUN, dtype=np.uint64)
    rows[: len(values)] = _row_hashes(values)
    return _run_hashes(rows[None])


def starts_inside(values: FloatArray, known: npt.NDArray[np.uint64]) -> bool:
    """Whether the first rows of a series are rows that were fingerprinted.

    Parameters
    ----------
    values : array of shape (T, C)
    known : array from :func:`fingerprint`

    Returns
    -------
    bool
        Certain from 31 rows on; with fewer, rows are recognized that hold a run whole, as the
        first rows of the known series do.
    """
    if len(values) < _RUN:
        return bool(np.isin(_whole_hash(values), known).any())
    rows = _row_hashes(values[: 2 * _RUN - 1])
    runs = np.lib.stride_tricks.sliding_window_view(rows, _RUN)
    return bool(np.isin(_run_hashes(runs), known).any())
