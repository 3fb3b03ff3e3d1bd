"""The level and scale that a series has by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..mixture import PlacedWindows, StandardizedPlan

Float64Array = npt.NDArray[np.float64]

_ROUNDING = 10 * np.finfo(np.float64).eps


def level_and_scale(values: npt.NDArray[np.floating]) -> tuple[Float64Array, Float64Array]:
    """Return the mean and the standard deviation of a series.

    Parameters
    ----------
    values : array of shape (T, C)
        NaN is passed over.

    Returns
    -------
    level, scale : arrays of shape (C,)
        The scale is 0 for a channel that is constant up to rounding, or has no value.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base.own_scales import level_and_scale
    >>> level, scale = level_and_scale(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    >>> level.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    there = ~np.isnan(values)
    count = np.maximum(there.sum(axis=0), 1)
    level = np.where(there, values, 0.0).sum(axis=0, dtype=np.float64) / count
    off = np.where(there, values - level, 0.0)
    return level, _scale((off * off).sum(axis=0) / count, level)


def running_level_and_scale(
    values: npt.NDArray[np.floating],
) -> tuple[Float64Array, Float64Array]:
    """Return the mean and the standard deviation of a series up to every row.

    Parameters
    ----------
    values : array of shape (T, C)

    Returns
    -------
    level, scale : arrays of shape (T, C)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base.own_scales import running_level_and_scale
    >>> running_level_and_scale(np.array([[1.0], [3.0], [5.0]]))[0].ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    there = ~np.isnan(values)
    columns = np.arange(values.shape[1])
    start = values[np.argmax(there, axis=0), columns].astype(np.float64)
    start = np.where(np.isnan(start), 0.0, start)
    off = np.where(there, values - start, 0.0)  # exactly zero as long as nothing changes
    count = np.maximum(np.cumsum(there, axis=0), 1)
    mean = np.cumsum(off, axis=0) / count
    variance = np.maximum(np.cumsum(off * off, axis=0) / count - mean * mean, 0.0)
    return start + mean, _scale(variance, start + mean)


def _scale(variance: Float64Array, level: Float64Array) -> Float64Array:
    return np.where(variance > (_ROUNDING * np.abs(level)) ** 2, np.sqrt(variance), 0.0)


def plan_of_series(
    estimator: Any, series: list[npt.NDArray[np.floating]] | None
) -> PlacedWindows | None:
    """Return the plan of windows that end series, None where it is that of the model.

    Parameters
    ----------
    estimator : BaseForecaster
    series : list of array of shape (T, C), or None
        One for every window; None for those of the last fit.
    """
    if not isinstance(estimator.plan_, StandardizedPlan):
        return None
    if series is None:
        return estimator.plan_.at(*estimator._own_scales)
    every = [level_and_scale(values) for values in series]
    return estimator.plan_.at(*(np.array(part) for part in zip(*every, strict=True)))


def plan_of_windows(
    estimator: Any,
    values: npt.NDArray[np.floating],
    ends: npt.NDArray[np.intp],
    *,
    trained: bool,
) -> PlacedWindows | None:
    """Return the plan of windows inside a series, None where it is that of the model.

    Parameters
    ----------
    estimator : BaseForecaster
    values : array of shape (T, C)
    ends : array of shape (n_windows,)
        Rows of their last inputs, up to which a series is known.
    trained : bool
        Whether the series continues that of the fit, and keeps its level and scale.
    """
    if not isinstance(estimator.plan_, StandardizedPlan):
        return None
    if trained:
        level, scale = (np.tile(part[-1], (len(ends), 1)) for part in estimator._own_scales)
        return estimator.plan_.at(level, scale)
    level, scale = running_level_and_scale(values)
    return estimator.plan_.at(level[ends], scale[ends])
