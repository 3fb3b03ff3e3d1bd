"""Measures of point forecasts: MSE, MAE, MASE, sMAPE and WAPE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Axis, Figure, average, check_numbers, check_pair, first_index, plain


def mse(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Mean squared error, :math:`\operatorname{mean}\, (y - \hat y)^2`.

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_pred : array-like of y_true's shape
        Forecasts, finite.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes to average over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        In squared units of the data.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is missing, not finite or not a number.

    Examples
    --------
    >>> from mixlin.metrics import mse
    >>> mse([1.0, 2.0, 3.0], [1.0, 2.0, 6.0])
    3.0
    """
    target, forecast = check_pair(y_true, y_pred)
    return average((target - forecast) ** 2, sample_weight, axis)


def mae(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Mean absolute error, :math:`\operatorname{mean}\, |y - \hat y|`.

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_pred : array-like of y_true's shape
        Forecasts, finite.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes to average over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        In units of the data.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is missing, not finite or not a number.

    Examples
    --------
    >>> from mixlin.metrics import mae
    >>> mae([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [3.0, 7.0]], axis=0).tolist()
    [0.0, 2.0]
    """
    target, forecast = check_pair(y_true, y_pred)
    return average(np.abs(target - forecast), sample_weight, axis)


def mase(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    y_train: npt.ArrayLike,
    *,
    period: int = 1,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Mean absolute scaled error [1]_.

    The error of every channel is divided by the mean absolute error that the seasonal naive
    forecast one period ahead makes on the training series,

    .. math::

        \operatorname{mean}_{t, c} \frac{|y_{t, c} - \hat y_{t, c}|}{q_c}, \qquad
        q_c = \frac{1}{T - m} \sum_{t = m + 1}^{T} |x_{t, c} - x_{t - m, c}| ,

    with :math:`m` the ``period``. Below one the forecast is better than that naive one was in
    training. The scale comes from the training series alone, so it is one for all windows.

    Parameters
    ----------
    y_true : array-like of shape (..., horizon) or (..., horizon, n_channels)
        Targets, finite; with channels where ``y_train`` has them.
    y_pred : array-like of y_true's shape
        Forecasts, finite.
    y_train : array-like of shape (length,) or (length, n_channels)
        Training series, in the units of the targets. Pairs of values of which one is NaN are
        left out.
    period : int, default=1
        Steps of one season; 1 compares with repeating the last value.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes to average over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        Without unit.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is missing, not finite or not a number, ``period`` is
        not a positive integer below the length of ``y_train``, or the scale of a channel is zero
        or without a pair to take it from.

    References
    ----------
    .. [1] R. J. Hyndman, A. B. Koehler (2006). "Another look at measures of forecast accuracy."
       International Journal of Forecasting 22(4), 679-688.

    Examples
    --------
    >>> from mixlin.metrics import mase
    >>> mase([5.0, 6.0], [5.0, 7.0], y_train=[0.0, 2.0, 0.0, 2.0])
    0.25
    """
    target, forecast = check_pair(y_true, y_pred)
    scale = naive_error(y_train, period)
    if scale.ndim and (target.ndim == 0 or target.shape[-1] != len(scale)):
        raise ValueError(
            f"y_train has {len(scale)} channels, so y_true must have shape (..., horizon, "
            f"{len(scale)}); got {target.shape}."
        )
    return average(np.abs(target - forecast) / scale, sample_weight, axis)


def smape(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Symmetric mean absolute percentage error, from 0 to 200 [1]_.

    .. math:: 200 \operatorname{mean} \frac{|y - \hat y|}{|y| + |\hat y|}

    as in the M3 and M4 competitions. Where target and forecast are both zero the term is zero.
    Meant for positive data on a scale with a true zero.

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_pred : array-like of y_true's shape
        Forecasts, finite.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis.
    axis : int or tuple of int, default=None
        Axes to average over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        In per cent.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is missing, not finite or not a number.

    References
    ----------
    .. [1] S. Makridakis, M. Hibon (2000). "The M3-Competition: results, conclusions and
       implications." International Journal of Forecasting 16(4), 451-476.

    Examples
    --------
    >>> from mixlin.metrics import smape
    >>> smape([1.0, 0.0, 5.0], [3.0, 0.0, -5.0])
    100.0
    """
    target, forecast = check_pair(y_true, y_pred)
    size = np.abs(target) + np.abs(forecast)
    share = np.divide(np.abs(target - forecast), size, out=np.zeros_like(size), where=size > 0)
    return average(200.0 * share, sample_weight, axis)


def wape(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    axis: Axis = None,
) -> Figure:
    r"""Weighted absolute percentage error, as a fraction [1]_.

    .. math:: \frac{\sum |y - \hat y|}{\sum |y|}

    with both sums over the axes that are averaged over. Also known as the ratio of MAE to mean,
    and as ND.

    Parameters
    ----------
    y_true : array-like of any shape, e.g. (n_windows, horizon, n_channels)
        Targets, finite.
    y_pred : array-like of y_true's shape
        Forecasts, finite.
    sample_weight : array-like of shape (n_windows,), default=None
        Weights of the windows, i.e. of the first axis, in both sums.
    axis : int or tuple of int, default=None
        Axes to sum over; default all of them.

    Returns
    -------
    loss : float, or ndarray of the shape of the axes that are kept
        Without unit; 0.1 is ten per cent.

    Raises
    ------
    ValueError
        If the shapes differ, a value is missing, not finite or not a number, or all the targets
        of a sum are zero.

    References
    ----------
    .. [1] S. Kolassa, W. Schuetz (2007). "Advantages of the MAD/Mean ratio over the MAPE."
       Foresight: The International Journal of Applied Forecasting 6, 40-43.

    Examples
    --------
    >>> from mixlin.metrics import wape
    >>> wape([1.0, 3.0], [2.0, 3.0])
    0.25
    """
    target, forecast = check_pair(y_true, y_pred)
    size = np.asarray(average(np.abs(target), sample_weight, axis))
    if not size.all():
        where = "" if size.ndim == 0 else f" at index {first_index(size == 0)} of the kept axes"
        raise ValueError(
            f"all targets are zero{where}, and WAPE divides by their sum. Use mae or mase, or sum "
            "over more axes."
        )
    return plain(np.asarray(average(np.abs(target - forecast), sample_weight, axis)) / size)


def naive_error(y_train: Any, period: Any) -> npt.NDArray[np.float64]:
    """Mean absolute change over one period, shape () or (n_channels,), positive."""
    series = check_numbers(y_train, "y_train", allow_missing=True)
    if series.ndim not in (1, 2):
        raise ValueError(
            f"y_train has shape {series.shape}; it must be (length,) or (length, n_channels)."
        )
    if not isinstance(period, (int, np.integer)) or isinstance(period, bool) or period < 1:
        raise ValueError(f"period must be a positive integer (steps); got {period!r}.")
    if len(series) <= period:
        raise ValueError(
            f"period={period} needs a training series of more than {period} steps; y_train has "
            f"{len(series)}."
        )
    change = np.abs(series[int(period) :] - series[: -int(period)])
    seen = np.isfinite(change)
    n_seen = np.asarray(seen.sum(axis=0))
    scale: npt.NDArray[np.float64] = np.where(seen, change, 0.0).sum(axis=0) / np.maximum(n_seen, 1)
    if not np.all(scale > 0):
        worst = int(np.argmin(scale))
        channel = "" if series.ndim == 1 else f" in channel {worst}"
        why = "never changes" if n_seen.flat[worst] else "has no pair of values"
        raise ValueError(
            f"y_train {why} over period={period}{channel}, so MASE has no scale there. Leave that "
            "channel out, or use mae."
        )
    # One channel scales targets with and without an axis for it.
    return scale[0] if scale.shape == (1,) else scale
