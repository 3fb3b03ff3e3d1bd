"""What models of many series forecast and are scored on, and how forecasts leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ..long_frames import PARTS, LongFrame, is_long_frame
from ..windows import is_pandas, refuse_text
from .own_scales import level_and_scale, running_level_and_scale
from .panels import Panel, listed_ids, read_frame
from .scoring import r2

FloatArray = npt.NDArray[np.floating[Any]]
Float64Array = npt.NDArray[np.float64]

_MIDDLE = 0.5


@dataclass(frozen=True, eq=False)
class PanelOutput:
    """Where forecasts of many series leave.

    Parameters
    ----------
    ids : pandas.Index of shape (n_series,), or None
    steps : Steps or None
        None for windows, whose forecasts leave as arrays.
    dtype : str
    """

    ids: Any
    steps: Any
    dtype: str

    def contained(self, values: Float64Array, quantiles: list[float] | None) -> Any:
        """Put forecasts into a long frame.

        Parameters
        ----------
        values : array of shape (1, n_series, horizon) or (1, n_series, horizon, n_quantiles)
        quantiles : list of float, optional

        Returns
        -------
        DataFrame, or array of shape (n_series, horizon, 1) or (n_series, horizon, 1, n_quantiles)
        """
        values = values[0].astype(self.dtype, copy=False)
        if self.steps is None:
            return values[:, :, None]
        import pandas as pd

        horizon = values.shape[1]
        names = PARTS[:1] if quantiles is None else [str(q) for q in quantiles]
        columns = values.reshape(len(values) * horizon, -1).T
        table: dict[Any, Any] = {}
        if self.ids is not None:
            table["unique_id"] = self.ids.repeat(horizon)
        table["ds"] = self.steps.continued(horizon)
        table.update(zip(names, columns, strict=True))
        return pd.DataFrame(table)


def panel_interval(quantiles: Any) -> Any:
    """Return intervals from quantiles (lower, middle, upper) of :meth:`PanelOutput.contained`.

    Parameters
    ----------
    quantiles : DataFrame or array of shape (n, horizon, 1, 3)

    Returns
    -------
    DataFrame or array of shape (n, horizon, 1, 2)
        Frames have the columns of :func:`mixlin.forecast` with an interval.
    """
    if not is_pandas(quantiles):
        return quantiles[..., [0, 2]]
    lower, middle, upper = quantiles.columns[-3:]
    forecast, *limits = PARTS
    renamed = quantiles.rename(columns=dict(zip((middle, lower, upper), PARTS, strict=True)))
    return renamed[[*quantiles.columns[:-3], forecast, *limits]]


def read_panel_request(
    estimator: Any, X: Any, timestamps: Any
) -> tuple[FloatArray, Any, PanelOutput]:
    """Read what ``predict`` of a model of many series gets.

    Parameters
    ----------
    estimator : BaseForecaster
    X : None, long frame, or windows (n_windows, lookback, 1)
    timestamps
        Refused.

    Returns
    -------
    windows : array of shape (1, n_series, lookback)
    plan : FixedPlan
        Of these series.
    output : PanelOutput

    Raises
    ------
    ValueError
        If X is something else, or a series is too short, has missing values in its last rows, or
        is not known while series share nothing.
    """
    panel: Panel = estimator._panel
    L = estimator.lookback_
    if timestamps is not None:
        raise ValueError(
            "the column 'ds' of a long frame tells the time, and windows need none. Leave "
            "timestamps out."
        )
    if X is None:
        every = np.arange(panel.n_series)
        windows = estimator.context_.T
        _refuse_incomplete(windows, panel.length, panel.ids, L)
        output = PanelOutput(panel.index(), panel.steps, panel.dtype)
        nothing = np.zeros(len(every))
        return windows[None], estimator.plan_.taking(every, nothing, nothing), output
    if is_long_frame(X):
        read, dtype = read_frame(X, None, panel.steps)
        found = panel.find(read.ids)
        _refuse_unseen(estimator, read, found)
        windows = np.full((len(found), L), np.nan)
        level, scale = np.zeros((2, len(found)))
        for i, values in enumerate(read.values):
            tail = values[-L:]
            windows[i, L - len(tail) :] = tail
            if found[i] < 0:
                level[i : i + 1], scale[i : i + 1] = level_and_scale(values[:, None])
        lengths = np.array([len(values) for values in read.values])
        _refuse_incomplete(windows, lengths, read.ids, L)
        output = PanelOutput(read.ids, read.steps, dtype)
        return windows[None], estimator.plan_.taking(found, level, scale), output
    shape: tuple[int, ...] = np.shape(X) if hasattr(X, "shape") else ()
    if len(shape) != 3 or shape[1] < L or shape[2] != 1:
        got = f"{type(X).__name__} of shape {shape}" if shape else type(X).__name__
        raise ValueError(
            f"this {type(estimator).__name__} was fitted on a long frame. predict takes nothing "
            "(to continue its series), a long frame (unique_id, ds, y), or windows of shape "
            f"(n_windows, {L}, 1); got {got}."
        )
    refuse_text(X, "X")
    dtypes = [np.float64, np.float32]
    X = check_array(X, dtype=dtypes, allow_nd=True, input_name="X", estimator=estimator)
    windows = X[:, X.shape[1] - L :, 0]
    other = np.full(len(windows), -1)
    if estimator.plan_.shared is None:
        raise _shares_nothing(estimator, "windows")
    plan = estimator.plan_.taking(other, *level_and_scale(windows.T))
    return windows[None], plan, PanelOutput(None, None, windows.dtype.name)


def refuse_long_frame(estimator: Any, X: Any) -> None:
    """Refuse a long frame where the model was fitted on something else.

    Parameters
    ----------
    estimator : BaseForecaster
    X : object
        What ``predict`` or ``score`` got.
    """
    if is_long_frame(X):
        raise ValueError(
            f"X is a long frame (unique_id, ds, y), but this {type(estimator).__name__} was fitted "
            "on something else. Fit it on a long frame, or pass a context as in fit."
        )


def _shares_nothing(estimator: Any, what: str) -> ValueError:
    return ValueError(
        f"{what} can't be forecast: this {type(estimator).__name__} has weights of its own for "
        "every series that it was fitted on and none that they share. Fit with individual=False "
        "or individual='partial'."
    )


def _refuse_unseen(estimator: Any, read: LongFrame, found: npt.NDArray[np.intp]) -> None:
    new = np.flatnonzero(found < 0)
    if len(new) and estimator.plan_.shared is None:
        raise _shares_nothing(estimator, f"{listed_ids(read.ids, new)}, not seen in the fit,")


def _refuse_incomplete(
    windows: Float64Array, lengths: npt.NDArray[Any], ids: Any, lookback: int
) -> None:
    """Refuse series that are too short to forecast, or have missing values where they end."""
    short = np.flatnonzero(lengths < lookback)
    if len(short):
        has = "has" if len(short) == 1 else "have"
        raise ValueError(
            f"{listed_ids(ids, short)} {has} fewer rows than the lookback of {lookback} that a "
            f"forecast reads ({listed_ids(ids, short[:1])}: {int(lengths[short[0]])}). Pass a long "
            "frame of the others, or fit with a shorter lookback."
        )
    missing = np.isnan(windows).sum(axis=1)
    holed = np.flatnonzero(missing)
    if len(holed):
        first = int(holed[0])
        count = f"{missing[first]} missing value{'s' if missing[first] > 1 else ''}"
        others = f" ({len(holed)} series are like that)" if len(holed) > 1 else ""
        raise ValueError(
            f"{listed_ids(ids, holed[:1])} has {count} in its last {lookback} rows{others}. Fill "
            "them, for example with mixlin.windows.interpolate(y), end the series before the gap, "
            "or pass a long frame of the others."
        )


def score_panel(estimator: Any, X: Any, sample_weight: Any, timestamps: Any) -> float:
    """Return the coefficient of determination, every series in units of its own scale.

    Parameters
    ----------
    estimator, X, sample_weight, timestamps
        As in :func:`scored_panel`.

    Returns
    -------
    float
    """
    y_true, y_pred, level, scale = scored_panel(estimator, X, sample_weight, timestamps)
    level, scale = level[:, None], np.where(scale > 0, scale, 1.0)[:, None]
    return r2((y_true - level) / scale, (y_pred - level) / scale, None, series=True)


def scored_panel(
    estimator: Any, X: Any, sample_weight: Any, timestamps: Any
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Forecast every window of a long frame.

    Series that continue those of the fit have their last rows as context. Others are forecast from
    windows inside them; those that were not seen in the fit have the level and scale of their rows
    up to the end of each window.

    Parameters
    ----------
    estimator : BaseForecaster
    X : long frame
    sample_weight, timestamps
        Refused.

    Returns
    -------
    y_true, y_pred : array of shape (n_windows, horizon)
    level, scale : array of shape (n_windows,)
        Of every window's series.

    Raises
    ------
    ValueError
        If X is no long frame, or has no window.
    """
    check_is_fitted(estimator, "plan_")
    if sample_weight is not None:
        raise ValueError(
            "sample_weight is not supported in scores of long frames. Leave it out, or score the "
            "series one by one."
        )
    if not is_long_frame(X):
        raise ValueError(
            f"this {type(estimator).__name__} was fitted on a long frame; score takes another one "
            f"(unique_id, ds, y). Got {type(X).__name__}."
        )
    panel: Panel = estimator._panel
    L, H = estimator.lookback_, estimator.horizon_
    read, _ = read_frame(X, timestamps, panel.steps)
    found = panel.find(read.ids)
    _refuse_unseen(estimator, read, found)
    counts = np.array([len(values) for values in read.values])
    known = np.flatnonzero(found >= 0)
    gaps = np.full(len(found), -1)
    gaps[known] = panel.steps.follows(found[known], read.steps.taking(known), counts[known])
    plan, parts = estimator.plan_, []
    for i, values in enumerate(read.values):
        c, glued = found[i], values
        if gaps[i] >= 0:
            between = np.full(min(int(gaps[i]), L), np.nan)
            glued = np.concatenate([estimator.context_[:, c], between, values])
        if len(glued) < L + H:
            continue
        both = np.lib.stride_tricks.sliding_window_view(glued, L + H)
        starts = np.flatnonzero(~np.isnan(both).any(axis=1))
        if not len(starts):
            continue
        level, scale = level_and_scale(values[:, None])
        windows = both[starts]
        if c >= 0:
            taken = plan.taking(np.array([c]), level, scale)
            forecast = estimator._forecast(windows[:, None, :L], plan=taken)[:, 0]
            if plan.scale[c] > 0:
                scale = plan.scale[c : c + 1]
        else:
            levels, scales = running_level_and_scale(values[:, None])
            ends = starts + L - 1
            taken = plan.taking(np.full(len(starts), -1), levels[ends, 0], scales[ends, 0])
            forecast = estimator._forecast(windows[None, :, :L], plan=taken)[0]
        ones = np.ones(len(starts))
        parts.append((windows[:, L:].copy(), forecast, ones * level, ones * scale))
    if not parts:
        raise ValueError(
            f"no series has {L + H} rows free of missing values, or continues one of the fit with "
            f"{H}; nothing to score. Pass longer series."
        )
    y_true, y_pred, level, scale = (np.concatenate(part) for part in zip(*parts, strict=True))
    return y_true, y_pred, level, scale
