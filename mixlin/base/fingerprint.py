"""Hashes that tell whether an array's rows were seen before, since arrays carry no index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..persistence import register_record

FloatArray = npt.NDArray[np.floating[Any]]
Hashes = npt.NDArray[np.uint64]

_RUN = 16  # consecutive rows of one hash
_MOST = 2**17  # hashes kept, of two million rows: the oldest half and the newest half
_LOOK = 4096  # rows of a series that are looked at


@register_record
@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is remembered of the rows of training series, at most one MiB.

    Parameters
    ----------
    runs : array of shape (n_runs,)
        Hashes of every 16th run of 16 rows, half a byte per row. Runs of equal rows (a flat
        night, a stuck sensor) tell nothing and are left out.
    rest : array of fewer than 16
        Hashes of the rows since the last whole run.
    """

    runs: Hashes
    rest: Hashes


EMPTY = Fingerprint(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))


def _row_hashes(values: FloatArray) -> Hashes:
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, values.shape[1], dtype=np.uint64) * 2 + 1
    mixed = bits ^ (bits >> np.uint64(32))
    return np.asarray((mixed * odd).sum(axis=1, dtype=np.uint64))


def _run_hashes(rows: Hashes) -> Hashes:
    """Hash runs (n, 16) of rows; runs of equal rows are dropped."""
    rows = rows[(rows != rows[:, :1]).any(axis=1)]
    odd = np.random.default_rng(1).integers(1, 2**63, _RUN, dtype=np.uint64) * 2 + 1
    rows = rows ^ (rows >> np.uint64(29))
    return np.asarray((rows * odd).sum(axis=-1, dtype=np.uint64))


def fingerprint(
    values: FloatArray, before: Fingerprint = EMPTY, *, continues: bool = False
) -> Fingerprint:
    """Remember the rows of a series.

    Parameters
    ----------
    values : array of shape (T, C)
    before : Fingerprint, optional
        What was remembered so far.
    continues : bool
        Whether the rows follow directly on the last ones.

    Returns
    -------
    Fingerprint

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base.fingerprint import fingerprint, starts_inside
    >>> series = np.random.default_rng(0).normal(size=(100, 2))
    >>> known = fingerprint(series[:80])
    >>> starts_inside(series[40:], known), starts_inside(series[80:], known)
    (True, False)
    """
    rest = before.rest if continues else EMPTY.rest
    found = [before.runs]
    block = _RUN * 4096
    for start in range(0, len(values), block):
        rows = np.concatenate([rest, _row_hashes(values[start : start + block])])
        whole = len(rows) // _RUN * _RUN
        found.append(_run_hashes(rows[:whole].reshape(-1, _RUN)))
        rest = rows[whole:]
    runs = np.concatenate(found)
    if len(runs) > _MOST:
        runs = np.concatenate([runs[: _MOST // 2], runs[-_MOST // 2 :]])
    return Fingerprint(runs, rest)


def starts_inside(values: FloatArray, known: Fingerprint) -> bool:
    """Whether the first rows of a series are rows that were remembered.

    Parameters
    ----------
    values : array of shape (T, C)
    known : Fingerprint

    Returns
    -------
    bool
        Certain where 31 of the first rows vary; with fewer, rows are recognized that hold a
        remembered run whole, as the first rows of the known series do.
    """
    rows = _row_hashes(values[:_LOOK])
    if len(rows) < _RUN:
        whole = len(rows) > 0 and np.array_equal(rows, known.rest[: len(rows)])
        return whole and len(known.runs) == 0
    runs = _run_hashes(np.lib.stride_tricks.sliding_window_view(rows, _RUN))
    return bool(np.isin(runs[: 2 * _RUN], known.runs).any())
