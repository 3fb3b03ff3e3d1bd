"""The windows that a forecaster is scored on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ..mixture import KnownInputs
from ..windows import is_many
from .exog import read_scored_exog, refuse_exog
from .fingerprint import starts_inside
from .own_scales import plan_of_windows
from .series import Float64Array, FloatArray, Series, read_series, row_weights, window_weights
from .stamps import series_ordinal, series_stamps
from .training import trained_index

_BLOCK_WINDOWS = 1024


def r2(
    y_true: FloatArray, y_pred: FloatArray, weight: Float64Array | None, *, series: bool
) -> float:
    """Return the coefficient of determination.

    Parameters
    ----------
    y_true, y_pred : array of shape (n_windows,), (n_windows, horizon) or \
            (n_windows, horizon, n_channels)
    weight : array of shape (n_windows,), optional
    series : bool
        Pool the steps of a channel, and average over channels. Otherwise average over all
        outputs, as scikit-learn does.

    Returns
    -------
    float
    """
    if series:
        n_channels = y_true.shape[2] if y_true.ndim == 3 else 1
        if weight is not None:
            weight = np.repeat(weight, y_true.shape[1])
        y_true, y_pred = y_true.reshape(-1, n_channels), y_pred.reshape(-1, n_channels)
    else:
        y_true, y_pred = y_true.reshape(len(y_true), -1), y_pred.reshape(len(y_pred), -1)
    return float(r2_score(y_true, y_pred, sample_weight=weight))


def scored_windows(
    estimator: Any, X: Any, y: Any, sample_weight: Any, timestamps: Any, exog: Any = None
) -> tuple[FloatArray, FloatArray, Float64Array | None]:
    """Forecast every window that ``score`` counts.

    Parameters
    ----------
    estimator : BaseForecaster
    X, y, sample_weight, timestamps, exog
        As in ``score``.

    Returns
    -------
    y_true, y_pred : array of shape (n_windows,), (n_windows, horizon) or \
            (n_windows, horizon, n_channels)
    weight : array of shape (n_windows,), or None

    Raises
    ------
    ValueError
        If ``y`` is given for a series or missing for windows, or if there is no window to score.
    """
    check_is_fitted(estimator, "plan_")
    if (y is not None) != (estimator.mode_ == "windows"):
        wants = "y" if estimator.mode_ == "windows" else "no y"
        raise ValueError(
            f"this {type(estimator).__name__} was fitted on {estimator.mode_}; score takes {wants}."
        )
    if y is not None:
        refuse_exog(estimator, exog=exog)
        y = check_array(y, ensure_2d=False, allow_nd=True, input_name="y", dtype="numeric")
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        forecast = estimator.predict(X, timestamps=timestamps)
        if forecast.shape != y.shape:
            raise ValueError(
                f"y must have the shape of the forecasts, {forecast.shape}; got {y.shape}."
            )
        return y, forecast, weight
    return _scored_series(estimator, X, sample_weight, timestamps, exog)


def _scored_series(
    estimator: Any, X: Any, sample_weight: Any, timestamps: Any, exog: Any
) -> tuple[FloatArray, FloatArray, Float64Array | None]:
    many = is_many(X)
    series = read_series(estimator, X, timestamps, reset=False, like=trained_index(estimator))
    weights = None if sample_weight is None else row_weights(sample_weight, series, many)
    regressors = read_scored_exog(estimator, X, timestamps, exog, len(series))
    lookback, H = estimator.lookback_, estimator.horizon_
    targets, forecasts, shares = [], [], []
    for i, item in enumerate(series):
        values, glued = item.values, not many and _continues(estimator, item)
        if glued:
            values = np.concatenate([estimator._tails[-1].astype(values.dtype), values])
        L = lookback
        if estimator.plan_.any_length:
            tail = len(estimator._tails[-1]) if glued else None
            L = _context_to_score(len(values) - H, tail, lookback)
        if len(values) < L + H:
            raise ValueError(
                f"scoring needs {H if glued else L + H} rows; got {len(item.values)}. Pass a "
                "longer series."
            )
        both = np.lib.stride_tricks.sliding_window_view(values, L + H, axis=0)
        missing, beside = np.asarray(np.isnan(values).any(axis=1)), None
        if regressors is not None:
            u = regressors[i]
            u = np.concatenate([estimator._exog_tails[-1], u]) if glued else u
            missing |= np.isnan(u).any(axis=1)
            beside = np.lib.stride_tricks.sliding_window_view(u, L + H, axis=0)
        if estimator.plan_.reads_gaps:  # then targets alone must be there, and something to read
            targets_missing = np.lib.stride_tricks.sliding_window_view(missing, H)[L:]
            nothing_read = np.any(np.isnan(both[:, :, :L]).all(axis=2), axis=1)
            whole = ~(targets_missing.any(axis=1) | nothing_read)
        else:
            whole = ~np.lib.stride_tricks.sliding_window_view(missing, L + H).any(axis=1)
        starts = np.flatnonzero(whole)
        stamps = None
        if estimator._reads_timestamps:
            stamps = np.lib.stride_tricks.sliding_window_view(
                series_stamps(item.index, len(values), 0, "the series"), L + H
            )
        end = series_ordinal(item.index) if estimator._reads_ordinals else 0.0
        for at in range(0, len(starts), _BLOCK_WINDOWS):  # never all windows at once
            some = starts[at : at + _BLOCK_WINDOWS]
            part = both[some]
            dated = None if stamps is None else stamps[some]
            known = KnownInputs(
                end - (len(values) - L) + 1.0 * some, None if beside is None else beside[some]
            )
            plan = plan_of_windows(estimator, values, some + L - 1, trained=glued)
            found = estimator._forecast(part[:, :, :L], stamps=dated, known=known, plan=plan)
            forecasts.append(np.moveaxis(found, 1, 2))
            targets.append(np.moveaxis(part[:, :, L:], 1, 2).copy())
        if weights is not None:
            padded = np.concatenate([np.zeros(len(values) - len(item.values)), weights[i]])
            shares.append(window_weights(padded, L, H)[whole])
    if not targets:
        raise ValueError(
            "every window touches a missing value; nothing to score. Pass a longer series, or "
            "fill the gaps, for example with mixlin.windows.interpolate(X)."
        )
    y_true, y_pred = np.concatenate(targets), np.concatenate(forecasts)
    if series[0].container.ndim == 1:
        y_true, y_pred = y_true[:, :, 0], y_pred[:, :, 0]
    return y_true, y_pred, np.concatenate(shares) if weights is not None else None


def _context_to_score(n_before: int, tail: int | None, lookback: int) -> int:
    """Return how long contexts are that are scored, where any length will do.

    Parameters
    ----------
    n_before : int
        Rows before the last target.
    tail : int or None
        Rows of the training series that stand before; all rows after are targets then.
    lookback : int
    """
    if tail is not None:
        return max(1, min(lookback, tail))
    return lookback if n_before >= lookback else max(1, (n_before + 1) // 2)


def _continues(estimator: Any, series: Series) -> bool:
    """Whether a series follows the (one) training series, so that its tail is context."""
    tails, indexes = getattr(estimator, "_tails", []), getattr(estimator, "_indexes", [])
    if len(tails) != 1 or not (estimator.plan_.any_length or len(tails[0]) == estimator.lookback_):
        return False
    if indexes[0] is not None and series.index is not None:
        return bool(indexes[0].continues_as(series.index, series.first))
    return not starts_inside(series.values, estimator._known)
