"""Plots of the experts' coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..mixture import Mixture
from .forecast import _MAX_PANELS, _check_matplotlib

Float64Array = npt.NDArray[np.float64]

__all__ = ["WeightsDisplay"]

_SHOWN_FULLY = 0.998  # share of the coefficients inside the color scale; a few spikes may exceed it
_COLUMNS = 2


class WeightsDisplay:
    """What every expert makes of the window: its matrix from lags to steps.

    Make it with :meth:`from_estimator`, or from matrices at hand.

    Parameters
    ----------
    coefficients : array-like of shape (n_experts, n_steps, lookback) or (n_steps, lookback)
        On the window as it is, oldest lag first.
    names : sequence of str of length n_experts, optional
    usage : array-like of shape (n_experts,), optional
        Share of the weight that each expert has; the eight most used are drawn.
    steps : sequence of int of length n_steps, optional
        Which steps of the forecast the rows are, 1 for the first.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        After :meth:`plot`.
    axes_ : array of matplotlib.axes.Axes of shape (n_panels,)
        After :meth:`plot`, one per expert drawn.

    Raises
    ------
    ValueError
        If shapes do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.plotting import WeightsDisplay
    >>> series = np.sin(2 * np.pi * np.arange(400) / 24)
    >>> model = NLinearForecaster(lookback=48, horizon=24).fit(series)
    >>> display = WeightsDisplay.from_estimator(model)
    >>> bool(np.allclose(display.coefficients[0], model.coef_))
    True
    >>> display.plot()  # doctest: +SKIP
    """

    figure_: Any
    axes_: Any

    def __init__(
        self,
        coefficients: npt.ArrayLike,
        *,
        names: Sequence[str] | None = None,
        usage: npt.ArrayLike | None = None,
        steps: Sequence[int] | None = None,
    ) -> None:
        matrices = np.asarray(coefficients, dtype=np.float64)
        matrices = matrices[None] if matrices.ndim == 2 else matrices
        if matrices.ndim != 3 or not matrices.size:
            raise ValueError(
                "coefficients must have shape (n_experts, n_steps, lookback) or (n_steps, "
                f"lookback); got {matrices.shape}."
            )
        n_experts, n_steps = matrices.shape[:2]
        self.coefficients = matrices
        self.names = [f"expert {e}" for e in range(n_experts)] if names is None else list(names)
        self.usage = None if usage is None else np.asarray(usage, dtype=np.float64)
        self.steps = list(range(1, n_steps + 1)) if steps is None else [int(s) for s in steps]
        if len(self.names) != n_experts or len(self.steps) != n_steps:
            raise ValueError(
                f"{n_experts} experts and {n_steps} steps need as many names and steps; got "
                f"{len(self.names)} names and {len(self.steps)} steps."
            )
        if self.usage is not None and self.usage.shape != (n_experts,):
            raise ValueError(f"usage must have shape ({n_experts},); got {self.usage.shape}.")

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        channel: int = 0,
        steps: int | Sequence[int] | None = None,
        *,
        parts: bool = False,
    ) -> WeightsDisplay:
        """Fold the normalization of a fitted model into its experts' weights.

        Parameters
        ----------
        model : forecaster
            Fitted.
        channel : int, default=0
            Whose weights, where channels have their own.
        steps : int or sequence of int, optional
            Steps of the forecast to draw, 1 for the first; all by default.
        parts : bool, default=False
            Whether the matrix of an :class:`~mixlin.AutoLinearForecaster` is taken apart: the
            prior, what all channels add to it, what the channel adds of its own, and the sum.
            The prior holds the last value, which forecasts start from.

        Returns
        -------
        WeightsDisplay

        Raises
        ------
        TypeError
            If the model has no ``plan_``.
        ValueError
            If the channel or a step is not there, layers before or after the experts leave no
            single matrix from window to forecast, or a model without parts is to be taken apart.
        """
        if not hasattr(model, "plan_"):
            raise TypeError(
                "weights are drawn of a fitted forecaster, which has a plan_; got "
                f"{type(model).__name__}. Call fit first."
            )
        folded = _folded(model.plan_.mixture(), channel, getattr(model, "n_channels_in_", None))
        names: Any = getattr(model, "expert_names_", None)
        if parts:
            folded, names = _parts(model, folded[0], channel)
        horizon = folded.shape[1]
        rows = range(1, horizon + 1) if steps is None else np.atleast_1d(steps).tolist()
        wrong = [step for step in rows if step not in range(1, horizon + 1)]
        if wrong or not len(rows):
            raise ValueError(
                f"steps must be among 1 (the first to forecast) to {horizon}; got "
                f"{wrong[0] if wrong else 'none'}."
            )
        picked = [int(step) for step in rows]
        if names is None and len(folded) == 1:
            names = [type(model).__name__]
        return cls(
            folded[:, np.array(picked) - 1],
            names=names,
            usage=getattr(model, "expert_usage_", None),
            steps=picked,
        )

    def plot(self, *, figure: Any = None) -> WeightsDisplay:
        """Draw one panel per expert, all on one scale of colors around zero.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            Where panels are made; by default a new figure of pyplot.

        Returns
        -------
        WeightsDisplay
            Itself, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        _check_matplotlib()
        drawn = self._drawn()
        figure, axes = _panels(figure, len(drawn))
        size = np.abs(self.coefficients[drawn])
        top = float(size.max())
        limit = float(np.quantile(size, _SHOWN_FULLY)) or top
        limit = limit if limit > 0 else 1.0
        n_steps, lookback = self.coefficients.shape[1:]
        extent = (lookback + 0.5, 0.5, n_steps + 0.5, 0.5)
        image = None
        for axis, e in zip(axes, drawn, strict=True):
            image = axis.imshow(
                self.coefficients[e],
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                aspect="auto",
                extent=extent,
            )
            title = self.names[e]
            if self.usage is not None and len(self.coefficients) > 1:
                title += f" ({100 * self.usage[e]:.0f} %)"
            axis.set_title(title, loc="left", fontsize="medium")
            axis.tick_params(labelsize="small")
            self._mark_steps(axis)
        for axis in axes:
            place = axis.get_subplotspec()
            if place.is_first_col():
                axis.set_ylabel("step to forecast", fontsize="small")
            if place.is_last_row():
                axis.set_xlabel("steps before the forecast", fontsize="small")
        if len(axes) % 2 and len(axes) > 1:  # above the panel that is not there
            axes[-2].set_xlabel("steps before the forecast", fontsize="small")
            axes[-2].tick_params(labelbottom=True)
        bar = figure.colorbar(
            image,
            ax=list(axes),
            extend="both" if top > limit else "neither",
            extendfrac=0.02,
            fraction=0.04,
            pad=0.015,
            aspect=18 * axes[0].get_gridspec().nrows,
        )
        bar.ax.tick_params(labelsize="small")
        n_all = len(self.coefficients)
        if len(drawn) < n_all:
            which = "first" if self.usage is None else "most used"
            figure.suptitle(
                f"the {len(drawn)} {which} of {n_all} experts", x=0.01, ha="left", fontsize="medium"
            )
        self.figure_, self.axes_ = figure, axes
        return self

    def _drawn(self) -> list[int]:
        n_experts = len(self.coefficients)
        if n_experts <= _MAX_PANELS or self.usage is None:
            return list(range(min(n_experts, _MAX_PANELS)))
        most = np.argsort(-self.usage, kind="stable")[:_MAX_PANELS]
        return [int(e) for e in most]

    def _mark_steps(self, axis: Any) -> None:
        """Name the rows, which may be a choice of steps."""
        if self.steps == list(range(1, len(self.steps) + 1)):
            from matplotlib.ticker import MaxNLocator

            axis.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 4, 5, 6, 10]))
            return
        every = -(-len(self.steps) // 8)
        places = range(0, len(self.steps), every)
        axis.set_yticks([p + 1 for p in places], [str(self.steps[p]) for p in places])


def _panels(figure: Any, n_panels: int) -> tuple[Any, Any]:
    n_columns = min(_COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(layout="constrained")
    elif hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    if hasattr(figure, "set_size_inches"):
        figure.set_size_inches(7.5 if n_columns == 1 else 12.0, 0.8 + 2.4 * n_rows)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in grid[n_panels:]:
        spare.set_visible(False)
    return figure, grid[:n_panels]


def _parts(model: Any, whole: Float64Array, channel: int) -> tuple[Float64Array, list[str]]:
    """Return what a matrix (H, L) on the raw window is the sum of, and itself; zeros left out."""
    if not hasattr(model, "prior_coef_"):
        raise ValueError(
            f"parts=True takes the matrix of an AutoLinearForecaster apart; {type(model).__name__} "
            "has one without parts. Leave parts out."
        )
    added = []
    for coef in (model.prior_coef_, model.shared_coef_):
        own = coef[channel] if coef.ndim == 3 else coef
        measured = own.copy()  # from the last value
        measured[:, -1] -= own.sum(axis=1)
        added.append(measured)
    prior, shared = added
    prior[:, -1] += 1.0
    rest = whole - prior - shared
    if np.abs(rest).max() <= 1e-12 * np.abs(whole).max():  # rounding
        rest = np.zeros_like(rest)
    named = {
        "prior": prior,
        "what all channels add": shared,
        "what the channel adds of its own": rest,
        "sum": whole,
    }
    kept = {name: part for name, part in named.items() if part.any()}
    return np.array(list(kept.values())), list(kept)


def _folded(mixture: Mixture, channel: int, n_channels: int | None) -> Float64Array:
    """Return the experts' matrices on the raw window, (E, H, L)."""
    if mixture.pre or mixture.post:
        raise ValueError(
            "this model has layers before or after its experts, so that no single matrix leads "
            "from the window to the forecast. Draw one whose experts read the window."
        )
    n_known = n_channels or mixture.groups
    whole = isinstance(channel, (int, np.integer)) and not isinstance(channel, bool)
    if not whole or not -n_known <= channel < n_known:
        raise ValueError(
            f"channel {channel!r} is not there; the model has {n_known}, counted from 0."
        )
    group = range(n_known)[channel]
    weights = mixture.weights[group % len(mixture.weights)]  # (E, L, H)
    level = mixture.normalization.functional(weights.shape[1])
    if mixture.level_coef is None:
        rest = 1.0 - weights.sum(axis=1)  # the level is added again
    else:
        rest = mixture.level_coef[group % len(mixture.level_coef)] - weights.sum(axis=1)
    return np.asarray((weights + level[:, None] * rest[:, None, :]).transpose(0, 2, 1))
