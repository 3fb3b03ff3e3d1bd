"""Sums over the windows of many series, each a channel of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .gram import SeriesSums

FloatArray = npt.NDArray[np.float64]


class Statistics(Protocol):
    """Count, mean and sum of squared deviations, arrays of shape (C,)."""

    count: FloatArray
    mean: FloatArray
    deviation: FloatArray


def add_series(
    statistics: Statistics, series: list[npt.NDArray[Any]], channels: npt.NDArray[np.intp]
) -> None:
    """Add series to the statistics of their channels.

    Parameters
    ----------
    statistics : Statistics
        Changed; it gets more channels where ``channels`` ask for them.
    series : list of array of shape (T, 1)
        NaN is passed over.
    channels : array of shape (n_series,)
    """
    lacking = int(channels.max()) + 1 - len(statistics.count)
    if lacking > 0:
        for name in ("count", "mean", "deviation"):
            setattr(statistics, name, np.append(getattr(statistics, name), np.zeros(lacking)))
    for values, c in zip(series, channels.tolist(), strict=True):
        x = values[~np.isnan(values)].astype(np.float64)
        if not len(x):
            continue
        mean = x.mean()
        x -= mean
        count, before = float(len(x)), statistics.count[c]
        delta = mean - statistics.mean[c]
        statistics.mean[c] += delta * count / (before + count)
        statistics.deviation[c] += x @ x + delta * delta * before * count / (before + count)
        statistics.count[c] += count


def add_windows(
    sums: SeriesSums,
    series: list[npt.NDArray[Any]],
    channels: npt.NDArray[np.intp],
    *,
    weight: list[float] | None = None,
    gaps: npt.NDArray[np.int64] | None = None,
) -> None:
    """Add the windows of series to the sums of their channels.

    Parameters
    ----------
    sums : SeriesSums
        Changed.
    series : list of array of shape (T, 1)
    channels : array of shape (n_series,)
    weight : list of float, one per series, optional
    gaps : array of shape (n_series,), optional
        Rows that are missing between what was added before and these; -1 for new series.
    """
    for i, (values, c) in enumerate(zip(series, channels, strict=True)):
        each, gap = 1.0 if weight is None else weight[i], -1 if gaps is None else int(gaps[i])
        if gap > 0:  # a window crosses none: more missing rows than fit in one make no difference
            missing = gap if sums.decay != 1.0 else min(gap, sums.lookback + sums.horizon)
            values = np.concatenate([np.full((missing, 1), np.nan), values])
        sums.add(values, each, continues=gap >= 0, channels=np.array([c]))


def extended(sums: SeriesSums, statistics: Any, made: Callable[[Any], SeriesSums]) -> SeriesSums:
    """Return sums with more channels, which nothing was added to yet.

    Parameters
    ----------
    sums : SeriesSums
        Its arrays are shared where it has enough channels.
    statistics : Statistics
        Of all channels.
    made : callable
        Makes empty sums from statistics.

    Returns
    -------
    SeriesSums
    """
    old = sums.n_channels
    if len(statistics.count) == old:
        return sums
    out = made(statistics)
    for name, empty in vars(out).items():
        had = getattr(sums, name)
        if isinstance(empty, list):
            setattr(out, name, [*had, *empty[old:]])
        elif isinstance(empty, dict):
            setattr(out, name, dict(had))
        elif isinstance(empty, np.ndarray) and name != "frequencies":
            setattr(out, name, np.concatenate([had, empty[old:]]))
    return out
