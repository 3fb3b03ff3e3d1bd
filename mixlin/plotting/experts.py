"""Plots of how the experts of a bank are weighed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .forecast import _ACCENT, _INK, _check_matplotlib

Float64Array = npt.NDArray[np.float64]

__all__ = ["ExpertsDisplay"]

_REST = "#b9bec4"
_LINE = 44  # characters of a name before it goes on in another line
_SMALLEST = 0.01  # of the largest weight; a bar below can't be seen
_INCHES_PER_CHARACTER = 0.075


class ExpertsDisplay:
    """Who is asked: the weights of experts, or of their periods, largest first.

    Make it with :meth:`from_estimator`, or from weights at hand.

    Parameters
    ----------
    weights : array-like of shape (n_windows, n_experts) or (n_experts,)
        Not negative, and with a sum of one in every window; the mean over windows is drawn.
    names : sequence of str of length n_experts
    n_names : int, default=12
        Names drawn at most; the rest is one bar, "others".

    Attributes
    ----------
    weights : array of shape (n_experts,)
        Means over windows.
    figure_ : matplotlib.figure.Figure
        After :meth:`plot`.
    ax_ : matplotlib.axes.Axes
        After :meth:`plot`.

    Raises
    ------
    ValueError
        If shapes do not agree, weights are negative or not finite, or ``n_names`` is not a whole
        number of at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import SuperLinearForecaster
    >>> from mixlin.plotting import ExpertsDisplay
    >>> week = np.array([5.0, 5.0, 6.0, 5.0, 7.0, 2.0, 1.0])
    >>> model = SuperLinearForecaster(horizon=7).fit(np.tile(week, 60))
    >>> display = ExpertsDisplay.from_estimator(model)
    >>> display.names[int(display.weights.argmax())]
    'period 7'
    >>> display.plot()  # doctest: +SKIP
    """

    figure_: Any
    ax_: Any

    def __init__(self, weights: npt.ArrayLike, names: Sequence[str], *, n_names: int = 12) -> None:
        rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        if rows.ndim != 2 or not rows.size or rows.shape[1] != len(names):
            raise ValueError(
                f"weights must have shape (n_windows, {len(names)}) or ({len(names)},), one for "
                f"each of the {len(names)} names; got {np.shape(weights)}."
            )
        if not (rows >= 0).all() or not np.isfinite(rows).all():
            raise ValueError(
                "weights must be numbers of at least 0; some are negative or not finite. Pass what "
                "expert_weights returned."
            )
        if isinstance(n_names, bool) or not isinstance(n_names, (int, np.integer)) or n_names < 1:
            raise ValueError(f"n_names must be a whole number of at least 1; got {n_names!r}.")
        self.weights = rows.mean(axis=0)
        self.names = list(names)
        self.n_names = n_names
        self._n_windows = len(rows)

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any = None,
        *,
        by: str = "period",
        channel: int = 0,
        n_names: int = 12,
        timestamps: Any = None,
        ax: Any = None,
    ) -> ExpertsDisplay:
        """Weigh the experts on windows or a context, and keep what is to be drawn.

        Parameters
        ----------
        model : SuperLinearForecaster
            Fitted.
        X, timestamps
            As in ``predict``: by default the end of the training series.
        by : {"period", "expert"}, default="period"
            Whether experts of the same period or periods are added up.
        channel : int, default=0
            Whose weights.
        n_names : int, default=12
            Names drawn at most.
        ax : matplotlib Axes, optional
            Where to draw at once; without it :meth:`plot` does.

        Returns
        -------
        ExpertsDisplay

        Raises
        ------
        TypeError
            If the model has no ``expert_weights``.
        ValueError
            If the channel is not there, and for the reasons of ``expert_weights``.
        """
        if not hasattr(model, "expert_weights"):
            raise TypeError(
                "experts of a bank are drawn of a SuperLinearForecaster, which has expert_weights; "
                f"got {type(model).__name__}. RoutingDisplay draws those of other mixtures."
            )
        found = model.expert_weights(X, by=by, timestamps=timestamps)
        n_channels = found.weights.shape[1]
        whole = isinstance(channel, (int, np.integer)) and not isinstance(channel, bool)
        if not whole or not -n_channels <= channel < n_channels:
            raise ValueError(
                f"channel {channel!r} is not there; there are {n_channels}, counted from 0."
            )
        display = cls(found.weights[:, channel], found.names, n_names=n_names)
        return display if ax is None else display.plot(ax=ax)

    def plot(self, *, ax: Any = None, figure: Any = None) -> ExpertsDisplay:
        """Draw a bar for every name.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Made by default.
        figure : matplotlib Figure or SubFigure, optional
            Where the axes are made; by default a new figure of pyplot.

        Returns
        -------
        ExpertsDisplay
            Itself, with ``figure_`` and ``ax_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        _check_matplotlib()
        names, shares, n_others = self._bars()
        labels = [textwrap.fill(name, _LINE, break_on_hyphens=False) for name in names]
        if ax is None:
            ax = _axes(figure, labels)
        colors = [_ACCENT] * len(names)
        if n_others:
            colors[-1] = _REST
        bars = ax.barh(np.arange(len(names)), shares, height=0.7, color=colors)
        written = [f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %" for share in shares]
        ax.bar_label(bars, written, padding=4, fontsize="small", color=_INK)
        ax.set_yticks(np.arange(len(names)), labels, fontsize="small")
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(0, 1.15 * float(shares.max()) or 1.0)
        ax.set_xlabel(
            "share of the weight"
            if self._n_windows == 1
            else f"share of the weight, mean of {self._n_windows} windows",
            fontsize="small",
        )
        ax.tick_params(labelsize="small")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _bars(self) -> tuple[list[str], Float64Array, int]:
        """Return names and weights of the bars, and how many experts the last one stands for."""
        order = np.argsort(-self.weights, kind="stable")
        least = _SMALLEST * self.weights.max()
        n_seen = max(1, int((self.weights >= least).sum())) if least > 0 else 1
        # one name takes no more room than "others"
        n_shown = n_seen if n_seen == self.n_names + 1 else min(n_seen, self.n_names)
        shown, rest = order[:n_shown], order[n_shown:]
        names, shares = [self.names[e] for e in shown], self.weights[shown]
        n_others, others = int((self.weights[rest] > 0).sum()), float(self.weights[rest].sum())
        if others < least or not n_others:
            return names, shares, 0
        return [*names, f"others ({n_others})"], np.append(shares, others), n_others


def _axes(figure: Any, labels: Sequence[str]) -> Any:
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(layout="constrained")
    elif hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    if hasattr(figure, "set_size_inches"):
        lines = [line for label in labels for line in label.splitlines()]
        width = 4.5 + _INCHES_PER_CHARACTER * max(map(len, lines))
        figure.set_size_inches(width, 0.9 + 0.17 * len(lines) + 0.12 * len(labels))
    return figure.subplots()
