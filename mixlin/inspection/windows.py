"""The windows that a report is made of, with the times and the statistics they are sorted by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

from ..base.stamps import fixed_step, read_window_stamps
from ..base.training import trained_index
from ..timestamps import fill_gaps, read_index, read_timestamps
from ..windows import is_many, is_pandas, read_values, too_short

Float64Array = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.datetime64]

STATISTICS = ("level", "spread", "trend")

_UNDATED = ("integer", "timedelta")  # kinds of index without a calendar
_BLOCK_ELEMENTS = 2**20  # 8 MiB of float64: what one array of a block of windows may hold


class ReportWindows(NamedTuple):
    """Windows as views, and which of them count.

    Attributes
    ----------
    x : array of shape (n_windows, lookback, n_channels)
    y : array of shape (n_windows, horizon, n_channels), or None
    stamps : array of shape (n_windows, lookback + horizon), or None
    counted : array of int
        Windows free of missing values.
    horizon : int
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any] | None
    stamps: Stamps | None
    counted: npt.NDArray[np.intp]
    horizon: int

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.x.shape[2])

    def blocks(self, n_experts: int) -> Iterator[tuple[slice, Any, Any, Any]]:
        """Yield which windows, and copies of them, their targets and their times."""
        width = max(self.x.shape[1], self.horizon * n_experts)
        size = max(1, _BLOCK_ELEMENTS // (self.n_channels * width))
        for start in range(0, len(self.counted), size):
            rows = slice(start, start + size)
            i = self.counted[rows]
            x = np.asarray(self.x[i], dtype=np.float64)
            y = None if self.y is None else np.asarray(self.y[i], dtype=np.float64)
            yield rows, x, y, None if self.stamps is None else self.stamps[i]


def read_report_windows(model: Any, X: Any, y: Any, timestamps: Any) -> ReportWindows:
    """Read what a report is asked for, as views where it can be.

    Parameters
    ----------
    model : forecaster
    X, y, timestamps
        As in :func:`mixlin.inspection.mixture_report`.

    Returns
    -------
    ReportWindows

    Raises
    ------
    ValueError
        If shapes do not agree, or no window is free of missing values.
    """
    if y is None and is_many(X):
        raise ValueError(
            f"a report reads one series at a time; got a list of {len(X)}. Pass each by itself, or "
            "windows of all of them with y (mixlin.windows.make_windows)."
        )
    if y is None and not is_pandas(X):
        shape = np.shape(X)
        channels = getattr(model, "n_channels_in_", None) or 1
        as_windows = len(shape) == 2 and channels == 1 and shape[1] == model.lookback_ > 1
        if len(shape) < 3 and not as_windows:
            return _read_series(model, X, timestamps)
    elif y is None:
        return _read_series(model, X, timestamps)
    return _read_windows(model, X, y, timestamps)


def _read_series(model: Any, X: Any, timestamps: Any) -> ReportWindows:
    L, H = model.lookback_, model.horizon_
    values, container = read_values(X)
    _check_channels(model, values.shape[1])
    index = None
    if container.kind != "array":
        if timestamps is not None:
            raise ValueError(
                "a frame's own index tells the time; timestamps= is for arrays. Make the stamps "
                "the index (frame.set_axis(timestamps)), or leave timestamps out."
            )
        index, rows = read_index(X.index, like=trained_index(model))
        values = fill_gaps(values, rows)
    elif timestamps is not None:
        index, rows = read_timestamps(timestamps, len(values), like=trained_index(model))
        values = fill_gaps(values, rows)
    if len(values) < L + H:
        raise too_short(L, H, len(values))
    view = np.lib.stride_tricks.sliding_window_view
    missing = view(np.isnan(values).any(axis=1), L + H).any(axis=1)
    if missing.all():
        raise ValueError(
            "every window touches a missing value; nothing to report on. Pass a longer series, or "
            "fill the gaps, for example with mixlin.windows.interpolate(X)."
        )
    both = view(values, L + H, axis=0).transpose(0, 2, 1)
    stamps = None
    if index is not None and index.kind not in _UNDATED:
        stamps = view(index.stamps(len(values), 0), L + H)
    return ReportWindows(both[:, :L], both[:, L:], stamps, np.flatnonzero(~missing), H)


def _read_windows(model: Any, X: Any, y: Any, timestamps: Any) -> ReportWindows:
    L, H = model.lookback_, model.horizon_
    x = check_array(X, dtype=[np.float64, np.float32], allow_nd=True, input_name="X")
    x = x[:, :, None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[1] != L:
        raise ValueError(
            f"windows must have shape (n_windows, {L}, n_channels), or (n_windows, {L}) for one "
            f"channel; got {np.shape(X)}. For a series leave y out."
        )
    _check_channels(model, x.shape[2])
    expected = (len(x), H, x.shape[2])
    if y is not None:
        target = check_array(
            y, dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True, input_name="y"
        )
        shape = target.shape + (1,) * (3 - target.ndim)  # one step, or one channel
        if shape != expected:
            raise ValueError(
                f"y must have one target per window, shape {expected}, as (n_windows, horizon, "
                f"n_channels); got {target.shape}."
            )
        y = target.reshape(expected)
    stamps = None
    if timestamps is not None:
        index = trained_index(model)
        dated = index is not None and index.kind not in _UNDATED
        step = fixed_step(index) if index is not None and dated else None
        stamps = read_window_stamps(timestamps, len(x), L, H, step)[0]
    return ReportWindows(x, y, stamps, np.arange(len(x)), H)


def _check_channels(model: Any, n_channels: int) -> None:
    expected = getattr(model, "n_channels_in_", None)
    if expected is not None and n_channels != expected:
        raise ValueError(
            f"X has {n_channels} channels, but {type(model).__name__} is expecting {expected}, as "
            "in fit."
        )


def statistic_bins(windows: ReportWindows) -> dict[str, npt.NDArray[np.int8]]:
    """Sort windows into fifths by their level, spread and trend.

    Parameters
    ----------
    windows : ReportWindows

    Returns
    -------
    dict of array of shape (n_counted, n_channels)
        From 0 for the lowest fifth to 4; channels are standardised before they are pooled.
    """
    shape = (len(windows.counted), windows.n_channels)
    values = {name: np.empty(shape) for name in STATISTICS}
    L = windows.x.shape[1]
    time = np.linspace(-1.0, 1.0, L) if L > 1 else np.zeros(1)
    time /= max(float(np.sqrt((time * time).mean())), np.finfo(np.float64).tiny)
    for rows, x, _, _ in windows.blocks(1):
        values["level"][rows] = x.mean(axis=1)
        off = x - values["level"][rows][:, None]
        spread = np.sqrt((off * off).mean(axis=1))
        values["spread"][rows] = spread
        slope = np.einsum("l,nlc->nc", time, off) / L
        values["trend"][rows] = np.divide(slope, spread, out=np.zeros_like(slope), where=spread > 0)
    # a window without any spread has no logarithm; it comes last by a wide margin
    floor = 1e-6 * np.sqrt((values["spread"] ** 2).mean(axis=0)) + np.finfo(np.float64).tiny
    values["spread"] = np.log(np.maximum(values["spread"], floor))
    return {name: _fifths(value) for name, value in values.items()}


def _fifths(values: Float64Array) -> npt.NDArray[np.int8]:
    standardised = values - values.mean(axis=0)
    deviation = standardised.std(axis=0)
    rounding = 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    standardised = np.where(deviation > rounding, standardised, 0.0)
    standardised /= np.where(deviation > rounding, deviation, 1.0)
    edges = np.quantile(standardised, [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(edges, standardised).astype(np.int8)
