"""What a forecast starts from, and the container it leaves in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from ..backends import resolve
from ..mixture import KnownInputs, PlacedWindows, Plan
from ..windows import is_many, is_pandas, refuse_text
from .own_scales import plan_of_series
from .panel_requests import PanelOutput, read_panel_request, refuse_long_frame
from .series import Float64Array, FloatArray, Series, read_series
from .stamps import (
    fixed_step,
    missing_ordinals,
    missing_stamps,
    read_window_stamps,
    series_ordinal,
    series_stamps,
)
from .training import trained_index


@dataclass(frozen=True, eq=False)
class Request:
    """Windows to forecast, and what the forecasts leave in.

    Parameters
    ----------
    windows : array of shape (n_windows, C, lookback)
    contexts : list of Series, optional
        Where every window is the end of a series of its own.
    many : bool
        Whether forecasts of contexts leave as a list.
    stamps : array of shape (n_windows, lookback + horizon), optional
        Where the model reads them.
    known : KnownInputs, optional
        Where the model reads where windows stand in their seasons.
    plan : plan of these windows, optional
        Where it is not simply that of the model.
    panel : PanelOutput, optional
        Where forecasts leave in a long frame.
    """

    windows: FloatArray
    contexts: list[Series] | None = None
    many: bool = False
    stamps: npt.NDArray[np.datetime64] | None = None
    known: KnownInputs | None = None
    plan: Plan | PlacedWindows | None = None
    panel: PanelOutput | None = None


def read_request(estimator: Any, X: Any, timestamps: Any) -> Request:
    """Read what ``predict`` gets.

    Parameters
    ----------
    estimator : BaseForecaster
    X : None, windows, a context or a list of contexts
    timestamps : array-like, optional

    Returns
    -------
    Request

    Raises
    ------
    ValueError
        If X is of another kind or has other channels than in ``fit``, is too short, or holds
        missing values.
    """
    check_is_fitted(estimator, "plan_")
    name = type(estimator).__name__
    if estimator.mode_ == "panel":
        windows, plan, output = read_panel_request(estimator, X, timestamps)
        return Request(windows, plan=plan, panel=output)
    if estimator.mode_ == "windows":
        if X is None:
            raise ValueError(
                f"this {name} was fitted on windows, so there is no series to continue. Pass "
                "windows to predict."
            )
        refuse_text(X, "X")
        # where forecasts show it, they are checked instead: they are fewer than the inputs
        later = (
            estimator.plan_.spreads_missing
            and estimator.n_features_in_ == estimator.lookback_
            and resolve(estimator.backend).spreads_missing
        )
        X = validate_data(
            estimator,
            X,
            reset=False,
            dtype=[np.float64, np.float32],
            allow_nd=True,
            ensure_all_finite=not later,
        )
        windows = _channels_first(estimator, X if X.ndim > 2 else X[:, :, None])
        return _request_of_windows(estimator, windows, timestamps)
    if X is None:
        if timestamps is not None:
            raise ValueError(
                "timestamps are those of the context's rows; without X the training series is "
                "continued, whose times are known from fit. Leave timestamps out."
            )
        if not hasattr(estimator, "_tails"):
            raise ValueError(
                f"this {name} was made from a state dict, so there is no series to continue. Pass "
                "a context or windows to predict."
            )
        contexts = [
            Series(tail.astype(dtype), container, index, None, np.arange(len(tail)))
            for tail, dtype, container, index in zip(
                estimator._tails,
                estimator._dtypes,
                estimator._containers,
                estimator._indexes,
                strict=True,
            )
        ]
        many = isinstance(estimator.context_, list)
    elif not is_many(X) and not is_pandas(X) and np.ndim(X) == 3:
        refuse_text(X, "X")
        X = check_array(
            X, dtype=[np.float64, np.float32], allow_nd=True, input_name="X", estimator=estimator
        )
        windows = _channels_first(estimator, X)
        return _request_of_windows(estimator, windows, timestamps)
    else:
        _hint_at_windows(estimator, X)
        refuse_long_frame(estimator, X)
        contexts = read_series(estimator, X, timestamps, reset=False, like=trained_index(estimator))
        many = is_many(X)
    last = [_last_window(estimator, c, i, many) for i, c in enumerate(contexts)]
    stamps = None
    if estimator._reads_timestamps:
        L, H = estimator.lookback_, estimator.horizon_
        what = "the training series" if X is None else "the context"
        stamps = np.stack([series_stamps(c.index, L, H, what) for c in contexts])
    known = None
    if estimator._reads_ordinals:
        known = KnownInputs(np.array([series_ordinal(c.index) for c in contexts]))
    longest = max(window.shape[1] for window in last)
    windows = np.stack([_padded(w, longest) for w in last])
    plan = plan_of_series(estimator, None if X is None else [c.values for c in contexts])
    return Request(windows, contexts, many, stamps, known, plan)


def _request_of_windows(estimator: Any, windows: FloatArray, timestamps: Any) -> Request:
    plan = plan_of_series(estimator, [window.T for window in windows])
    if estimator._reads_ordinals:
        known = KnownInputs(_window_ordinals(estimator, windows, timestamps))
        return Request(windows, known=known, plan=plan)
    return Request(windows, stamps=_window_stamps(estimator, windows, timestamps), plan=plan)


def _window_ordinals(estimator: Any, windows: FloatArray, timestamps: Any) -> Float64Array:
    """Return the ordinals of the last inputs of windows."""
    if timestamps is None:
        raise missing_ordinals()
    index = trained_index(estimator)
    L, H = estimator.lookback_, estimator.horizon_
    assert index is not None
    if index.kind == "integer":
        raise ValueError(
            "the model was fitted on rows numbered by integers, so that times of windows say "
            "nothing about their place in the seasons. Pass a context with such an index instead."
        )
    stamps, _ = read_window_stamps(timestamps, len(windows), L, H, fixed_step(index))
    return index.ordinals_of(stamps[:, L - 1])


def _channels_first(estimator: Any, X: FloatArray) -> FloatArray:
    if X.ndim != 3:
        raise ValueError(
            f"windows have two or three dimensions, (n_windows, lookback[, n_channels]); got "
            f"shape {X.shape}."
        )
    expected = getattr(estimator, "n_channels_in_", None)
    if expected is not None and X.shape[2] != expected:
        raise ValueError(
            f"X has {X.shape[2]} channels, but {type(estimator).__name__} is expecting "
            f"{expected}, as in fit."
        )
    if X.shape[1] < estimator.lookback_:
        if estimator.plan_.any_length and X.shape[1]:
            return np.transpose(X, (0, 2, 1))
        raise _too_short_context(estimator, X.shape[1])
    return np.transpose(X[:, X.shape[1] - estimator.lookback_ :], (0, 2, 1))


def _window_stamps(
    estimator: Any, windows: FloatArray, timestamps: Any
) -> npt.NDArray[np.datetime64] | None:
    """Return the stamps of windows where the model reads them; elsewhere only check their shape."""
    n = len(windows)
    if estimator._reads_timestamps:
        if timestamps is None:
            raise missing_stamps("the windows have")
        index = trained_index(estimator)
        step = getattr(estimator, "_window_step", None) if index is None else fixed_step(index)
        L, H = estimator.lookback_, estimator.horizon_
        return read_window_stamps(timestamps, n, L, H, step)[0]
    if timestamps is not None and np.shape(timestamps)[:1] != (n,):
        raise ValueError(
            f"timestamps must have one entry per window, {n}; got shape {np.shape(timestamps)}."
        )
    return None


def _hint_at_windows(estimator: Any, X: Any) -> None:
    """Say what to do with two-dimensional windows where contexts are expected."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    channels = getattr(estimator, "n_channels_in_", None)
    if channels == 1 and len(shape) == 2 and shape[1] == estimator.lookback_ > 1:
        raise ValueError(
            f"X of shape {shape} has {shape[1]} features, but {type(estimator).__name__} is "
            f"expecting 1 features as input: a context of shape (n_rows, 1). For windows of a "
            f"model fitted on a series pass X[:, :, None]."
        )


def _too_short_context(estimator: Any, n_rows: int, which: str = "the context") -> ValueError:
    if estimator.plan_.any_length:
        return ValueError(f"{which} has no rows. Pass at least one observed value per channel.")
    return ValueError(
        f"{which} has {n_rows} row{'s' if n_rows != 1 else ''}; lookback="
        f"{estimator.lookback_} of them are needed. Pass a longer context, or fit with a shorter "
        "lookback."
    )


def _last_window(estimator: Any, context: Series, i: int, many: bool) -> FloatArray:
    lookback: int = estimator.lookback_
    values = context.values[-lookback:]
    which = f"context {i}" if many else "the context"
    if estimator.plan_.any_length:
        empty = np.isnan(values).all(axis=0)
        if empty.any():
            raise ValueError(
                f"{which} has no value in channel {int(np.argmax(empty))}. Pass at least one "
                "observed value per channel, or leave the channel out."
            )
        first = np.argmax(~np.isnan(values), axis=0)
        gaps = int(np.isnan(values).sum() - first.sum())  # not counting those before the first
        missing = 0 if estimator.plan_.reads_gaps else gaps
    elif len(values) < lookback:
        raise _too_short_context(estimator, len(values), which)
    else:
        missing = int(np.isnan(values).sum())
    if missing:
        raise ValueError(
            f"{which} has {missing} missing value"
            f"{'s' if missing > 1 else ''} in its last {lookback} rows. Fill them, for "
            "example with mixlin.windows.interpolate(X), or end the context before the gap."
        )
    return np.transpose(values)


def _padded(window: FloatArray, length: int) -> FloatArray:
    """Put missing values before a window (C, T) that is shorter than others."""
    absent = length - window.shape[1]
    if not absent:
        return window
    return np.concatenate([np.full((len(window), absent), np.nan, window.dtype), window], axis=1)


def contain(
    estimator: Any, values: Float64Array, request: Request, quantiles: list[float] | None = None
) -> Any:
    """Put forecasts into what the caller passed.

    Parameters
    ----------
    estimator : BaseForecaster
    values : array of shape (n_windows, C, horizon) or (n_windows, C, horizon, n_quantiles)
    request : Request
    quantiles : list of float, optional
        Levels of the last axis.

    Returns
    -------
    array, frame, or list of these
        As ``predict`` and ``predict_quantiles`` promise.
    """
    if request.panel is not None:
        return request.panel.contained(values, quantiles)
    moved = np.moveaxis(values, 1, 2)  # (n, horizon, C[, Q])
    if request.contexts is None:
        moved = moved.astype(request.windows.dtype, copy=False)
        if estimator.mode_ == "series" or estimator._target_ndim == 3:
            return moved
        return moved[:, 0, 0] if estimator._target_ndim == 1 else moved[:, :, 0]
    out = [
        _contain_one(rows, context, quantiles)
        for rows, context in zip(moved, request.contexts, strict=True)
    ]
    return out if request.many else out[0]


def _contain_one(rows: Float64Array, context: Series, quantiles: list[float] | None) -> Any:
    """Put one forecast (horizon, C[, Q]) into the container of its context."""
    container = context.container
    rows = rows.astype(context.values.dtype, copy=False)
    if container.kind == "array":
        return rows[:, 0] if container.ndim == 1 else rows
    import pandas as pd

    assert context.index is not None
    index = context.index.continued(len(rows))
    if quantiles is None:
        if container.kind == "series":
            return pd.Series(rows[:, 0], index=index, name=container.columns)
        return pd.DataFrame(rows, index=index, columns=container.columns)
    names = [container.columns] if container.kind == "series" else list(container.columns)
    columns = pd.MultiIndex.from_product([names, quantiles], names=["channel", "quantile"])
    return pd.DataFrame(rows.reshape(len(rows), -1), index=index, columns=columns)
