"""Plots of who does the work in a mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from ..inspection import mixture_report
from .forecast import _ACCENT, _ACTUAL, _INK, _check_matplotlib

Float64Array = npt.NDArray[np.float64]

__all__ = ["RoutingDisplay"]

_CALENDAR = ("hour", "weekday", "month")
_COLORS = (
    *(_ACCENT, "#e8963a", "#4c9a6a", _ACTUAL),
    *("#8a6bb1", "#3fb0b5", "#a07a55", "#b9bec4"),
)
_MAX_NUMBERS = 12  # experts up to which distances are written out
_MAX_NAME = 16
_LOG_FROM = 10.0  # times the error of the mixture
_COLUMNS = 3


class RoutingDisplay:
    """Usage of the experts of a mixture, what each is worth, and how far they are apart.

    Make it with :meth:`from_estimator`, or with :meth:`from_report` from a report at hand.

    Parameters
    ----------
    report : Bunch
        From :func:`mixlin.inspection.mixture_report`.
    by : "auto", str or sequence of str, default="auto"
        What usage is broken down by: "hour", "weekday", "month", "level", "spread" or "trend". By
        default those of the calendar that vary, or else the statistics of the window.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        After :meth:`plot`.
    axes_ : dict of matplotlib.axes.Axes
        After :meth:`plot`: "usage", those of ``by``, "error" where errors are known, and
        "distance" for more than one expert.

    Raises
    ------
    ValueError
        If ``by`` names what the report does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.plotting import RoutingDisplay
    >>> series = np.sin(2 * np.pi * np.arange(600) / 24)
    >>> model = MoLEForecaster(48, 12, n_experts=2, random_state=0).fit(series)
    >>> display = RoutingDisplay.from_estimator(model, series)
    >>> len(display.report.usage) == model.n_experts_
    True
    >>> display.plot()  # doctest: +SKIP
    """

    figure_: Any
    axes_: dict[str, Any]

    def __init__(self, report: Bunch, *, by: str | Sequence[str] = "auto") -> None:
        self.report = report
        self.by = by
        self._by = _picked(report, by)

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        timestamps: Any = None,
        by: str | Sequence[str] = "auto",
    ) -> RoutingDisplay:
        """Make the report of a mixture and keep it.

        Parameters
        ----------
        model : forecaster
            Fitted, with ``gate_weights`` and ``expert_forecasts``.
        X, y, timestamps
            Windows or a series, as in :func:`mixlin.inspection.mixture_report`.
        by : "auto", str or sequence of str, default="auto"
            What usage is broken down by.

        Returns
        -------
        RoutingDisplay
        """
        return cls(mixture_report(model, X, y, timestamps=timestamps), by=by)

    @classmethod
    def from_report(cls, report: Bunch, *, by: str | Sequence[str] = "auto") -> RoutingDisplay:
        """Keep a report.

        Parameters
        ----------
        report : Bunch
            From :func:`mixlin.inspection.mixture_report`.
        by : "auto", str or sequence of str, default="auto"
            What usage is broken down by.

        Returns
        -------
        RoutingDisplay
        """
        return cls(report, by=by)

    def plot(self, *, figure: Any = None) -> RoutingDisplay:
        """Draw one panel per question; a color is an expert in all of them.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            Where panels are made; by default a new figure of pyplot.

        Returns
        -------
        RoutingDisplay
            Itself, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        _check_matplotlib()
        report = self.report
        names = ["usage", *self._by]
        names += ["error"] if report.error is not None else []
        names += ["distance"] if len(report.usage) > 1 else []
        figure, axes = _panels(figure, len(names), len(report.usage))
        self.axes_ = dict(zip(names, axes, strict=True))
        colors = _expert_colors(len(report.usage))
        for name, axis in self.axes_.items():
            if name == "usage":
                _draw_usage(axis, report, colors)
            elif name == "error":
                _draw_errors(axis, report)
            elif name == "distance":
                _draw_distances(axis, report)
            else:
                _draw_shares(axis, report, name, colors)
        self.figure_ = figure
        return self


def _picked(report: Bunch, by: str | Sequence[str]) -> list[str]:
    known = report.usage_by
    if isinstance(by, str) and by == "auto":
        if len(report.usage) == 1:
            return []  # one expert does it all, at any time
        varying = [unit for unit in _CALENDAR if unit in known and _varies(known[unit])]
        return varying or [unit for unit in known if unit not in _CALENDAR]
    picked = [by] if isinstance(by, str) else list(by)
    for unit in picked:
        if unit not in known:
            hint = " Pass timestamps for those of the calendar." if unit in _CALENDAR else ""
            raise ValueError(
                f"by must be 'auto' or among {', '.join(map(repr, known))}; got {unit!r}.{hint}"
            )
    return picked


def _varies(parts: Bunch) -> bool:
    return bool((parts.count > 0).sum() > 1)


def _panels(figure: Any, n_panels: int, n_experts: int) -> tuple[Any, Any]:
    n_columns = min(_COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure()
    if hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    if hasattr(figure, "set_size_inches"):
        height = 2.6 + 0.12 * max(0, min(n_experts, 60) - 4)
        figure.set_size_inches(4.2 * n_columns, height * n_rows)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for spare in grid[n_panels:]:
        spare.set_visible(False)
    return figure, grid[:n_panels]


def _expert_colors(n_experts: int) -> list[Any]:
    if n_experts <= len(_COLORS):
        return list(_COLORS[:n_experts])
    import matplotlib

    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, n_experts)))


def _shortened(names: Sequence[str]) -> list[str]:
    return [n if len(n) <= _MAX_NAME else f"{n[: _MAX_NAME - 7]}…{n[-6:]}" for n in names]


def _start(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize="medium")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize="small")


def _list_experts(axis: Any, report: Bunch) -> None:
    """Name the experts down the vertical axis, first on top."""
    n_experts = len(report.usage)
    every = max(1, -(-n_experts // 40))
    places = range(0, n_experts, every)
    names = _shortened(report.expert_names)
    axis.set_yticks(places, [names[e] for e in places], fontsize="small")
    axis.set_ylim(n_experts - 0.5, -0.5)


def _draw_usage(axis: Any, report: Bunch, colors: list[Any]) -> None:
    n_experts = len(report.usage)
    used = f"{report.n_effective:.1f} of {n_experts} experts in effect"
    _start(axis, "usage" if n_experts == 1 else f"usage: {used}")
    bars = axis.barh(np.arange(n_experts), report.usage, height=0.7, color=colors)
    if n_experts <= _MAX_NUMBERS:
        shares = [f"{100 * share:.0f} %" for share in report.usage]
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # of the line behind
        axis.bar_label(bars, shares, padding=4, fontsize="small", color=_INK, bbox=clear)
    if n_experts > 1:
        axis.axvline(1 / n_experts, color=_INK, linewidth=0.8, linestyle=":", zorder=0.5)
    axis.set_xlim(0, 1.15 * float(report.usage.max()))
    axis.set_xlabel("mean share of the weight", fontsize="small")
    _list_experts(axis, report)


def _draw_shares(axis: Any, report: Bunch, unit: str, colors: list[Any]) -> None:
    parts = report.usage_by[unit]
    shares = np.nan_to_num(parts.usage)
    n_bins = len(shares)
    _start(axis, f"usage by {unit} (information {report.information[unit]:.2f})")
    bottom = np.zeros(n_bins)
    width = 1.0 if n_bins > 12 else 0.9
    for e, color in enumerate(colors):
        axis.bar(np.arange(n_bins), shares[:, e], width, bottom=bottom, color=color, linewidth=0)
        bottom = bottom + shares[:, e]
    every = 6 if n_bins > 12 else (2 if n_bins > 7 else 1)
    places = np.arange(0, n_bins, every)
    axis.set_xticks(places, [parts.labels[place] for place in places], fontsize="small")
    axis.set_xlim(-0.5, n_bins - 0.5)
    axis.set_ylim(0, 1)
    axis.set_ylabel("share of the weight", fontsize="small")


def _draw_errors(axis: Any, report: Bunch) -> None:
    """Draw errors as bars that start at the mixture's own."""
    measured = float(report.error)
    n_experts = len(report.usage)
    relative = measured > 0 and n_experts > 1
    start = 1.0 if relative else 0.0
    factor = 1 / measured if relative else 1.0
    places = np.arange(n_experts)
    shift = 0.2 if n_experts > 1 else 0.0
    kinds = [("alone", report.solo_error * factor, _INK, -shift)]
    if n_experts > 1:
        kinds.append(("left out", report.drop_one_error * factor, _ACCENT, shift))
    _start(axis, "error of one expert" + (" alone, or left out" if n_experts > 1 else ""))
    for label, errors, color, shift in kinds:
        axis.barh(places + shift, errors - start, 0.36, left=start, color=color, label=label)
    axis.axvline(start, color=_INK, linewidth=0.8)
    top = max(float(np.max(errors)) for _, errors, _, _ in kinds)
    if relative and top > _LOG_FROM:
        axis.set_xscale("log")
    unit = "MSE, times that of the mixture" if relative else "MSE"
    axis.set_xlabel(unit, fontsize="small")
    axis.grid(axis="x", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    if n_experts > 1:
        axis.legend(fontsize="small", edgecolor="none", framealpha=0.8)
    _list_experts(axis, report)


def _draw_distances(axis: Any, report: Bunch) -> None:
    distance = np.asarray(report.distance)
    n_experts = len(distance)
    top = float(distance.max())
    power = int(np.floor(np.log10(top))) if top > 0 else 0
    power = 0 if -2 <= power <= 2 else power
    shown = distance / 10.0**power
    _start(axis, "distance of the forecasts" + (f", 1e{power}" if power else ""))
    image = axis.imshow(shown, cmap="Blues", vmin=0, vmax=max(top / 10.0**power, 1e-300))
    axis.spines[:].set_visible(False)
    _list_experts(axis, report)
    if n_experts > _MAX_NUMBERS:
        axis.figure.colorbar(image, ax=axis)
        axis.set_xticks([])
        return
    names = _shortened(report.expert_names)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if n_experts > 2 else {}
    axis.set_xticks(range(n_experts), names, fontsize="small", **slanted)
    decimals = 2 - int(np.clip(np.floor(np.log10(shown.max() or 1.0)), -1, 2))
    size = "small" if n_experts <= 4 else "x-small"
    for (i, j), value in np.ndenumerate(shown):
        color = "white" if value > 0.6 * shown.max() else _INK
        axis.text(
            j, i, f"{value:.{decimals}f}", ha="center", va="center", color=color, fontsize=size
        )
