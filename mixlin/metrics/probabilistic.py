"""Measures of quantiles and intervals: pinball loss and coverage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Axis, Figure, average, check_numbers, check_pair, check_stacked, first_index


def pinball(
    y_true: npt.ArrayLike,
    y_quantiles: npt.ArrayLike,
    quantiles: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Pinball (quantile) loss [1]_.

    .. math:: \operatorname{mean}\, \max(q (y - \hat y_q), (q - 1) (y - \hat y_q))

    Half the mean absolute error for ``q=0.5``. Twice the average over an even grid of quantiles
    approximates the CRPS.

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_quantiles : array-like of shape y_true.shape + (n_quantiles,)
        Forecasts of the quantiles, finite, as ``predict_quantiles`` returns them. Frames with
        columns (channel, quantile) are taken. For a single number ``quantiles``: of y_true's
        shape.
    quantiles : float or array-like of shape (n_quantiles,)
        The quantiles, strictly between 0 and 1.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes of ``y_quantiles`` to average over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        In units of the data.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is missing, not finite or not a number, or a quantile
        is not between 0 and 1.

    References
    ----------
    .. [1] R. Koenker, G. Bassett (1978). "Regression Quantiles." Econometrica 46(1), 33-50.

    Examples
    --------
    >>> from mixlin.metrics import pinball
    >>> pinball([10.0, 10.0], [[8.0, 11.0], [12.0, 12.0]], [0.25, 0.75], axis=0).tolist()
    [1.0, 0.375]
    """
    levels = check_numbers(quantiles, "quantiles")
    if levels.ndim > 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(
            f"quantiles must be one number or a list of numbers strictly between 0 and 1; got "
            f"{quantiles!r}."
        )
    target = check_numbers(y_true, "y_true")
    if levels.ndim == 0:
        target, forecast = check_pair(y_true, y_quantiles, "y_quantiles")
    else:
        forecast = check_stacked(y_true, target, y_quantiles, "y_quantiles", len(levels))
        target = target[..., np.newaxis]
    error = target - forecast
    return average(np.maximum(levels * error, (levels - 1) * error), sample_weight, axis)


def coverage(
    y_true: npt.ArrayLike,
    y_interval: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Share of the targets that lie inside their interval, ends included [1]_.

    .. math:: \operatorname{mean}\, [\,\mathrm{lower} \le y \le \mathrm{upper}\,]

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_interval : array-like of shape y_true.shape + (2,)
        Lower and upper ends, as ``predict_interval`` returns them. They may be infinite. Frames
        with columns (channel, quantile) are taken.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes of ``y_true`` to average over; default all of them.

    Returns
    -------
    share : float, or ndarray of the shape of the axes that are kept
        Between 0 and 1, to be compared with the nominal coverage.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is missing or not a number, or a lower end lies above
        its upper end.

    References
    ----------
    .. [1] P. F. Christoffersen (1998). "Evaluating Interval Forecasts." International Economic
       Review 39(4), 841-862.

    Examples
    --------
    >>> from mixlin.metrics import coverage
    >>> coverage([1.0, 2.0, 3.0, 9.0], [[0.0, 4.0]] * 4)
    0.75
    """
    target = check_numbers(y_true, "y_true")
    ends = check_stacked(y_true, target, y_interval, "y_interval", 2, allow_infinite=True)
    lower, upper = ends[..., 0], ends[..., 1]
    if (lower > upper).any():
        raise ValueError(
            f"y_interval has its lower end above its upper end at index "
            f"{first_index(lower > upper)}; its last axis must be (lower, upper)."
        )
    inside = (lower <= target) & (target <= upper)
    return average(inside.astype(np.float64), sample_weight, axis)
