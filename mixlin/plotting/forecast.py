"""Plots of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..windows import is_many, is_pandas

Float64Array = npt.NDArray[np.float64]

__all__ = ["ForecastDisplay", "plot_forecast"]

_MAX_PANELS = 8
_HORIZONS_SHOWN = 4  # of history, per horizon forecast
_MIN_SHOWN = 48
_INK = "0.25"
_ACCENT = "#1f6fb4"
_ACTUAL = "#c4472b"
_LEGEND = {"history": 0, "actual": 1, "forecast": 2}  # intervals, named by coverage, come last


class _Table(NamedTuple):
    """One series as numbers, with where it stands on the horizontal axis."""

    values: Float64Array  # (T, C)
    index: Any  # pandas index, or None for arrays
    names: list[str] | None


class ForecastDisplay:
    """A forecast beside the series that it continues.

    Make it with :meth:`from_estimator`, or from arrays and frames at hand.

    Parameters
    ----------
    history : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame
        What was known; its end is drawn.
    forecast : array-like of shape (horizon,) or (horizon, n_channels), Series or DataFrame
        What ``predict`` returned.
    interval : array-like of shape (horizon, 2) or (horizon, n_channels, 2), DataFrame, optional
        What ``predict_interval`` returned.
    actual : array-like shaped like ``forecast``, optional
        What came in the end.
    channels : sequence of int or str, optional
        Which channels to draw, by place or by name; by default the first eight.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        After :meth:`plot`.
    axes_ : array of matplotlib.axes.Axes of shape (n_panels,)
        After :meth:`plot`, one per channel.

    Raises
    ------
    ValueError
        If shapes or channels do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.plotting import ForecastDisplay
    >>> series = np.sin(2 * np.pi * np.arange(400) / 24)
    >>> model = NLinearForecaster(lookback=48, horizon=24).fit(series)
    >>> display = ForecastDisplay.from_estimator(model, coverage=0.9)
    >>> display.forecast.shape, display.interval.shape
    ((24,), (24, 2))
    >>> display.plot()  # doctest: +SKIP
    """

    figure_: Any
    axes_: Any

    def __init__(
        self,
        history: Any,
        forecast: Any,
        *,
        interval: Any = None,
        actual: Any = None,
        channels: Sequence[int | str] | None = None,
    ) -> None:
        self.history = history
        self.forecast = forecast
        self.interval = interval
        self.actual = actual
        self.channels = channels
        self._past = _read(history, "history")
        self._ahead = _read(forecast, "forecast")
        n_channels = self._ahead.values.shape[1]
        if self._past.values.shape[1] != n_channels:
            raise ValueError(
                f"history has {self._past.values.shape[1]} channels, forecast {n_channels}; "
                "both must have the same."
            )
        self._band = None if interval is None else _read_interval(interval, self._ahead)
        self._outcome = None if actual is None else _read(actual, "actual")
        if self._outcome is not None and self._outcome.values.shape[1] != n_channels:
            raise ValueError(
                f"actual has {self._outcome.values.shape[1]} channels, forecast {n_channels}; "
                "both must have the same."
            )
        self._picked = self._pick(channels)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        horizon: int | None = None,
        coverage: float | None = None,
        actual: Any = None,
        channels: Sequence[int | str] | None = None,
    ) -> ForecastDisplay:
        """Forecast and keep what is to be drawn.

        Parameters
        ----------
        estimator : forecaster
            Fitted on a series.
        X : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame, optional
            The context to continue; by default the end of the training series.
        horizon : int, optional
            Steps to forecast, as in ``predict``.
        coverage : float, optional
            Coverage of an interval, between 0 and 1; none is drawn by default.
        actual : array-like, optional
            What came in the end.
        channels : sequence of int or str, optional
            Which channels to draw.

        Returns
        -------
        ForecastDisplay

        Raises
        ------
        ValueError
            If the estimator was fitted on windows or on many series and ``X`` is no one series.
        """
        if (X is None and isinstance(getattr(estimator, "context_", None), list)) or is_many(X):
            raise ValueError(
                "a plot shows one series; pass the one to continue as X, an array of shape "
                "(n_rows, n_channels) or a frame."
            )
        forecast = estimator.predict(X, horizon=horizon)
        interval = None
        if coverage is not None:
            interval = estimator.predict_interval(X, coverage, horizon=horizon)
        history = X if X is not None else _training_tail(estimator, forecast)
        return cls(history, forecast, interval=interval, actual=actual, channels=channels)

    def plot(self, *, ax: Any = None, figure: Any = None, n_history: int | None = None) -> Any:
        """Draw one panel per channel.

        Parameters
        ----------
        ax : matplotlib Axes, or a sequence of them, optional
            One per channel drawn; made by default.
        figure : matplotlib Figure or SubFigure, optional
            Where panels are made; by default a new figure of pyplot.
        n_history : int, optional
            Rows of history to draw; by default four times the horizon, at least 48.

        Returns
        -------
        ForecastDisplay
            Itself, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are more or fewer axes than channels.
        """
        _check_matplotlib()
        axes = self._axes(ax, figure)
        horizon = len(self._ahead.values)
        shown = n_history if n_history is not None else max(_HORIZONS_SHOWN * horizon, _MIN_SHOWN)
        start = max(0, len(self._past.values) - shown)
        past, ahead, is_time = self._places(start)
        for axis, channel in zip(axes, self._picked, strict=True):
            self._draw(axis, channel, start, past, ahead)
            if is_time:
                _format_time(axis)
            elif axis.get_subplotspec() is None or axis.get_subplotspec().is_last_row():
                axis.set_xlabel("step")
        n_all = len(self._names())
        if ax is None and self.channels is None and len(axes) < n_all:
            axes[0].figure.suptitle(
                f"the first {len(axes)} of {n_all} channels", x=0.01, ha="left", fontsize="medium"
            )
        _add_legend(axes, above=ax is None)
        self.axes_ = axes
        self.figure_ = axes[0].figure
        return self

    def _pick(self, channels: Sequence[int | str] | None) -> list[int]:
        names = self._names()
        if channels is None:
            return list(range(min(len(names), _MAX_PANELS)))
        if isinstance(channels, (int, str)):
            channels = [channels]
        picked = []
        for channel in channels:
            if isinstance(channel, str) and channel in names:
                picked.append(names.index(channel))
            elif not isinstance(channel, str) and -len(names) <= channel < len(names):
                picked.append(range(len(names))[channel])
            else:
                shown = [*names[:_MAX_PANELS], *(["..."] if len(names) > _MAX_PANELS else [])]
                raise ValueError(
                    f"channel {channel!r} is not there; the {len(names)} channels are "
                    f"{', '.join(shown)}."
                )
        if not picked:
            raise ValueError("channels must name at least one channel to draw; got none.")
        return picked

    def _names(self) -> list[str]:
        names = self._ahead.names or self._past.names
        if names is not None:
            return names
        n_channels = self._ahead.values.shape[1]
        return [""] if n_channels == 1 else [f"channel {c}" for c in range(n_channels)]

    def _axes(self, ax: Any, figure: Any) -> Any:
        n_panels = len(self._picked)
        if ax is not None:
            axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            if len(axes) != n_panels:
                raise ValueError(
                    f"{n_panels} channels need {n_panels} axes; got {len(axes)}. Choose with "
                    "channels=[...], or leave ax out."
                )
            return axes
        n_columns = 1 if n_panels < 4 else 2
        n_rows = -(-n_panels // n_columns)
        if figure is None:
            import matplotlib.pyplot as plt

            figure = plt.figure(layout="constrained")
        elif hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None:
            figure.set_layout_engine("constrained")  # the legend stands outside the panels
        if hasattr(figure, "set_size_inches"):
            figure.set_size_inches(9.0 if n_columns == 1 else 12.0, 1.2 + 2.3 * n_rows)
        grid = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
        for spare in grid.ravel()[n_panels:]:
            spare.set_visible(False)
            above = grid[-2, -1] if n_rows > 1 else grid[0, 0]
            above.tick_params(labelbottom=True)
        return grid.ravel()[:n_panels]

    def _places(self, start: int) -> tuple[Any, Any, bool]:
        """Return where history and forecast stand on the axis, and whether that is time."""
        past, ahead = _axis(self._past.index), _axis(self._ahead.index)
        if past is None or ahead is None or past.dtype.kind != ahead.dtype.kind:
            n_past = len(self._past.values)
            return (
                np.arange(start, n_past),
                n_past + np.arange(len(self._ahead.values)),
                False,
            )
        return past[start:], ahead, past.dtype.kind == "M"

    def _draw(self, axis: Any, channel: int, start: int, past: Any, ahead: Any) -> None:
        history = self._past.values[start:, channel]
        forecast = self._ahead.values[:, channel]
        axis.plot(past, history, color=_INK, linewidth=1.0, label="history")
        if self._band is not None:
            low, high = self._band[:, channel].T
            coverage = self._coverage()
            label = "interval" if coverage is None else f"{100 * coverage:g} % interval"
            axis.fill_between(ahead, low, high, color=_ACCENT, alpha=0.2, linewidth=0, label=label)
        if self._outcome is not None:
            n = min(len(ahead), len(self._outcome.values))
            axis.plot(
                ahead[:n],
                self._outcome.values[:n, channel],
                color=_ACTUAL,
                linewidth=1.0,
                label="actual",
            )
        # one step has no line; it is drawn as a point
        marker = "o" if len(ahead) == 1 else None
        axis.plot(ahead, forecast, color=_ACCENT, linewidth=1.6, marker=marker, label="forecast")
        axis.set_title(self._names()[channel], loc="left", fontsize="medium")
        axis.margins(x=0.01)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)

    def _coverage(self) -> float | None:
        """Read the coverage off the columns of an interval frame."""
        columns: Any = getattr(self.interval, "columns", None)
        if getattr(columns, "nlevels", 1) != 2:
            return None
        levels = columns.get_level_values(1)
        try:
            return round(float(levels[1]) - float(levels[0]), 6)
        except (TypeError, ValueError):
            return None


def plot_forecast(
    history: Any,
    forecast: Any,
    *,
    interval: Any = None,
    actual: Any = None,
    channels: Sequence[int | str] | None = None,
    ax: Any = None,
    n_history: int | None = None,
) -> ForecastDisplay:
    """Draw a forecast beside the end of the series that it continues.

    Parameters
    ----------
    history : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame
        What was known.
    forecast : array-like of shape (horizon,) or (horizon, n_channels), Series or DataFrame
        What ``predict`` returned.
    interval : array-like of shape (horizon, 2) or (horizon, n_channels, 2), DataFrame, optional
        What ``predict_interval`` returned; drawn as a shade.
    actual : array-like shaped like ``forecast``, optional
        What came in the end.
    channels : sequence of int or str, optional
        Which channels to draw, by place or by name; by default the first eight.
    ax : matplotlib Axes, or a sequence of them, optional
        One per channel drawn.
    n_history : int, optional
        Rows of history to draw; by default four times the horizon, at least 48.

    Returns
    -------
    ForecastDisplay
        With ``figure_`` and ``axes_``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If shapes or channels do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.plotting import plot_forecast
    >>> history = np.sin(np.arange(200) / 4)
    >>> forecast = np.sin(np.arange(200, 224) / 4)
    >>> plot_forecast(history, forecast).figure_.savefig("forecast.png")  # doctest: +SKIP
    """
    display = ForecastDisplay(
        history, forecast, interval=interval, actual=actual, channels=channels
    )
    display.plot(ax=ax, n_history=n_history)
    return display


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib, which is not installed: pip install 'mixlin[plot]'."
        ) from error


def _read(series: Any, what: str) -> _Table:
    values = np.asarray(series, dtype=np.float64)
    index = series.index if is_pandas(series) else None
    names = None
    if values.ndim == 1:
        values = values[:, None]
        if index is not None:
            names = ["" if series.name is None else str(series.name)]
    elif index is not None and values.ndim == 2:
        names = [str(c) for c in series.columns]
    if values.ndim != 2 or not len(values):
        raise ValueError(
            f"{what} must hold rows of shape (n_rows,) or (n_rows, n_channels); got shape "
            f"{np.shape(series)}. A plot shows one series."
        )
    return _Table(values, index, names)


def _read_interval(interval: Any, forecast: _Table) -> Float64Array:
    values = np.asarray(interval, dtype=np.float64)
    expected = (*forecast.values.shape, 2)
    if values.size != np.prod(expected) or len(values) != expected[0]:
        raise ValueError(
            f"interval must hold a lower and an upper limit for every value of the forecast, "
            f"shape {expected}; got {values.shape}. Pass what predict_interval returned."
        )
    return values.reshape(expected)


def _axis(index: Any) -> npt.NDArray[Any] | None:
    """Return an index as something that matplotlib draws to scale; None if it is none."""
    if index is None:
        return None
    if hasattr(index, "to_timestamp"):  # periods begin at their first instant
        index = index.to_timestamp()
    if getattr(index, "tz", None) is not None:
        index = index.tz_localize(None)  # the clock on the wall
    values = np.asarray(index)
    return values if values.dtype.kind in "iufM" else None


def _format_time(axis: Any) -> None:
    from matplotlib import dates

    locator: Any = dates.AutoDateLocator(  # type: ignore[no-untyped-call]
        minticks=3, maxticks=8
    )
    axis.xaxis.set_major_locator(locator)
    formatter = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_formatter(formatter)


def _add_legend(axes: Any, *, above: bool) -> None:
    """Put one legend above the panels of our own figure, or into the first of given axes."""
    handles, labels = axes[0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: _LEGEND.get(labels[i], len(_LEGEND)))
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    if above:
        place = {"loc": "outside upper right", "ncols": len(labels), "frameon": False}
        axes[0].figure.legend(handles, labels, **place)
    else:
        axes[0].legend(handles, labels, loc="upper left", frameon=False, fontsize="small")


def _training_tail(estimator: Any, forecast: Any) -> Any:
    """Return the end of the training series, on its index where it has one."""
    tail = estimator.context_
    if not is_pandas(forecast):
        return tail[:, 0] if np.ndim(forecast) == 1 else tail
    import pandas as pd

    labels, n, freq = forecast.index, len(tail), estimator.freq_
    if isinstance(labels, pd.DatetimeIndex):
        index: Any = pd.date_range(end=estimator.cutoff_, periods=n, freq=freq)
    elif isinstance(labels, pd.PeriodIndex):
        index = pd.period_range(end=estimator.cutoff_, periods=n, freq=freq)
    elif isinstance(labels, pd.TimedeltaIndex):
        index = pd.timedelta_range(end=estimator.cutoff_, periods=n, freq=freq)
    else:
        step = int(freq)
        stop = int(estimator.cutoff_) + step
        index = pd.RangeIndex(stop - n * step, stop, step)
    if forecast.ndim == 1:
        return pd.Series(tail[:, 0], index=index, name=forecast.name)
    return pd.DataFrame(tail, index=index, columns=forecast.columns)
