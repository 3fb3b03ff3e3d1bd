"""Plots of what a search tried, and how its groups share the forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .forecast import _ACCENT, _INK, _MAX_PANELS, _check_matplotlib

Float64Array = npt.NDArray[np.float64]

__all__ = ["SearchDisplay"]

_COLUMNS = 2
_WORST = 1.25  # times the smallest error; colors end there, as hopeless penalties tell nothing
_MAX_CELLS = 14  # penalties up to which errors are written out
_MAX_GROUPS = 16
_PANEL = ("forgetting", "kappa", "normalization")
_NEEDED = ("lookback", "alpha", "beta", "mean_validation_error", *_PANEL)


class SearchDisplay:
    """What a search tried: the held-out error over penalties and lookbacks, and the groups' shares.

    Make it with :meth:`from_estimator`, or from results at hand. A panel is a half-life and a
    strength of the prior, a cell the best of what was tried with its lookback and penalty. Left of
    the white line all channels share their weights, right of it they have corrections of their own.

    Parameters
    ----------
    results : mapping of str to array of shape (n_candidates,)
        As ``cv_results_`` of :class:`~mixlin.AutoLinearForecaster`.
    groups : sequence of mapping
        As ``groups_``.
    shares : array-like of shape (n_groups,)
        As ``weights_of_groups_``.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        After :meth:`plot`.
    axes_ : dict of str to matplotlib.axes.Axes or list of them
        After :meth:`plot`: "errors", a list with a panel each, and "shares".

    Raises
    ------
    ValueError
        If results lack a column, or shapes do not agree.

    Examples
    --------
    >>> from mixlin import AutoLinearForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> from mixlin.plotting import SearchDisplay
    >>> load = make_seasonal(24 * 60, n_channels=2, random_state=0).data
    >>> model = AutoLinearForecaster((48, 96), 24).fit(load)
    >>> display = SearchDisplay.from_estimator(model)
    >>> display.panels[0]["title"]
    'all rows count alike, one prior for all'
    >>> display.plot()  # doctest: +SKIP
    """

    figure_: Any
    axes_: dict[str, Any]

    def __init__(
        self,
        results: Mapping[str, Any],
        groups: Sequence[Mapping[str, Any]],
        shares: npt.ArrayLike,
    ) -> None:
        lacking = [name for name in _NEEDED if name not in results]
        if lacking:
            raise ValueError(
                f"results lack {', '.join(lacking)}; pass the cv_results_ of a fitted "
                "AutoLinearForecaster."
            )
        self.results = {name: np.asarray(results[name]) for name in _NEEDED}
        lengths = {name: len(column) for name, column in self.results.items()}
        if len(set(lengths.values())) > 1 or not lengths["alpha"]:
            raise ValueError(f"results must be columns of one length, at least 1; got {lengths}.")
        self.groups = [dict(group) for group in groups]
        self.shares = np.asarray(shares, dtype=np.float64)
        if self.shares.shape != (len(self.groups),) or not len(self.groups):
            raise ValueError(
                f"{len(self.groups)} groups need as many shares; got {self.shares.shape}."
            )
        self.panels = self._panels()

    @classmethod
    def from_estimator(cls, model: Any) -> SearchDisplay:
        """Keep what is to be drawn of a fitted search.

        Parameters
        ----------
        model : AutoLinearForecaster
            Fitted.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        TypeError
            If the model has no ``cv_results_`` and ``groups_``.
        """
        if not hasattr(model, "cv_results_") or not hasattr(model, "groups_"):
            raise TypeError(
                "a search is drawn of a fitted AutoLinearForecaster, which has cv_results_ and "
                f"groups_; got {type(model).__name__}. Call fit first."
            )
        return cls(model.cv_results_, model.groups_, model.weights_of_groups_)

    def plot(self, *, figure: Any = None) -> SearchDisplay:
        """Draw the panels of errors on one scale of colors, the best one marked, and the shares.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            Where panels are made; by default a new figure of pyplot.

        Returns
        -------
        SearchDisplay
            Itself, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        _check_matplotlib()
        drawn = sorted(self.panels, key=lambda panel: float(np.nanmin(panel["error"])))
        kept = [panel for panel in self.panels if panel in drawn[:_MAX_PANELS]]
        figure, axes, below = _axes(figure, kept, min(len(self.groups), _MAX_GROUPS))
        errors = np.concatenate([panel["error"].ravel() for panel in kept])
        lowest = float(np.nanmin(errors))
        highest = min(float(np.nanmax(errors)), _WORST * lowest) if lowest > 0 else 1.0
        image = None
        for axis, panel in zip(axes, kept, strict=True):
            image = axis.imshow(
                panel["error"], cmap="viridis_r", vmin=lowest, vmax=highest, aspect="auto"
            )
            self._name_cells(axis, panel)
            _write_errors(axis, panel["error"], lowest, highest)
            if float(np.nanmin(panel["error"])) == lowest:
                row, column = divmod(int(np.nanargmin(panel["error"])), panel["error"].shape[1])
                axis.add_patch(_rectangle(column, row))
        bar = figure.colorbar(
            image,
            ax=list(axes),
            extend="max" if float(np.nanmax(errors)) > highest else "neither",
            fraction=0.04,
            pad=0.015,
            label="held-out error",
        )
        bar.ax.tick_params(labelsize="small")
        self._draw_shares(below)
        if len(kept) < len(self.panels):
            figure.suptitle(
                f"the {len(kept)} best of {len(self.panels)} settings",
                x=0.01,
                ha="left",
                fontsize="medium",
            )
        self.figure_, self.axes_ = figure, {"errors": list(axes), "shares": below}
        return self

    def _panels(self) -> list[dict[str, Any]]:
        """Return the settings that were tried, each with its errors by lookback and penalty."""
        r = self.results
        error = r["mean_validation_error"].astype(np.float64)
        lookbacks = np.unique(r["lookback"])
        columns = sorted(
            set(zip(np.isfinite(r["beta"]).tolist(), r["alpha"].tolist(), strict=True))
        )
        levels = len(np.unique(r["normalization"])) > 1
        by = (_plain(r["forgetting"]), _plain(r["kappa"]), r["normalization"].tolist())
        keys = list(zip(*by, strict=True))
        panels = []
        for key in dict.fromkeys(keys):
            own = np.array([k == key for k in keys])
            surface = np.full((len(lookbacks), len(columns)), np.nan)
            for j, (corrected, alpha) in enumerate(columns):
                here = own & (np.isfinite(r["beta"]) == corrected) & (r["alpha"] == alpha)
                for i, lookback in enumerate(lookbacks):
                    cell = here & (r["lookback"] == lookback)
                    if cell.any():
                        surface[i, j] = error[cell].min()
            forgetting, kappa, level = key
            title = f"{_half_life(forgetting)}, {_prior(kappa)}"
            panels.append(
                {
                    "title": title + (f", from the {level}" if levels else ""),
                    "error": surface,
                    "lookbacks": lookbacks.tolist(),
                    "columns": columns,
                }
            )
        return panels

    def _name_cells(self, axis: Any, panel: dict[str, Any]) -> None:
        axis.set_title(panel["title"], loc="left", fontsize="medium")
        axis.spines[:].set_visible(False)
        columns, lookbacks = panel["columns"], panel["lookbacks"]
        every = -(-len(columns) // 16)
        places = range(0, len(columns), every)
        axis.set_xticks(places, [_number(columns[p][1]) for p in places], fontsize="small")
        n_shared = sum(not corrected for corrected, _ in columns)
        mixed = 0 < n_shared < len(columns)
        if mixed:
            axis.axvline(n_shared - 0.5, color="white", linewidth=4)
        every = -(-len(lookbacks) // 12)
        places = range(0, len(lookbacks), every)
        axis.set_yticks(places, [str(lookbacks[p]) for p in places], fontsize="small")
        place = axis.get_subplotspec()
        if place.is_first_col():
            axis.set_ylabel("lookback", fontsize="small")
        rest = "; right of the line with channels' own corrections" if mixed else ""
        axis.set_xlabel(f"alpha{rest}", fontsize="small")

    def _place_of(self, g: int) -> tuple[Any, ...]:
        """Return what groups are sorted by."""
        group = self.groups[g]
        forgetting = group["forgetting"]
        return group["lookback"], forgetting is not None, forgetting or 0.0

    def _draw_shares(self, axis: Any) -> None:
        order = np.argsort(-self.shares, kind="stable")
        kept = sorted(order[:_MAX_GROUPS], key=self._place_of)
        levels = len({group.get("normalization") for group in self.groups}) > 1
        names = []
        pairs = [(group["lookback"], group["forgetting"]) for group in self.groups]
        twice = len(set(pairs)) < len(pairs) and not levels
        for g in kept:
            group = self.groups[g]
            name = f"lookback {group['lookback']}, {_half_life(group['forgetting'])}"
            if twice and "beta" in group:
                name += ", shared" if np.isinf(group["beta"]) else ", with corrections"
            names.append(name + (f", from the {group['normalization']}" if levels else ""))
        axis.set_title("shares of the groups in the forecast", loc="left", fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize="small")
        bars = axis.barh(np.arange(len(kept)), self.shares[kept], height=0.7, color=_ACCENT)
        texts = []
        for g in kept:
            error = self.groups[g].get("validation_error")
            said = "" if error is None else f", error {error:.4g}"
            texts.append(f"{100 * self.shares[g]:.0f} %{said}")
        axis.bar_label(bars, texts, padding=4, fontsize="small", color=_INK)
        axis.set_yticks(range(len(kept)), names, fontsize="small")
        axis.set_ylim(len(kept) - 0.4, -0.6)
        axis.set_xlim(0, 1.35 * float(self.shares.max()))
        left_out = len(self.groups) - len(kept)
        rest = f"; {left_out} groups with less are left out" if left_out else ""
        axis.set_xlabel(f"share of the weight{rest}", fontsize="small")


def _plain(column: npt.NDArray[Any]) -> list[Any]:
    """Return numbers that can be compared, None for none."""
    return [None if value is None or np.isnan(value) else float(value) for value in column]


def _half_life(forgetting: float | None) -> str:
    if forgetting is None or np.isinf(forgetting) or np.isnan(forgetting):
        return "all rows count alike"
    if forgetting < 1:
        return f"half-life {100 * forgetting:.3g} % of the rows"
    return f"half-life {forgetting:.6g} rows"


def _prior(kappa: float | None) -> str:
    if kappa is None or np.isinf(kappa):
        return "one prior for all"
    return f"prior per channel (kappa {kappa:g})"


def _number(value: float) -> str:
    return "inf" if np.isinf(value) else f"{value:g}"


def _rectangle(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_INK, linewidth=2.5, clip_on=False
    )


def _write_errors(axis: Any, error: Float64Array, lowest: float, highest: float) -> None:
    if error.shape[1] > _MAX_CELLS or error.shape[0] > _MAX_CELLS:
        return
    size = "x-small" if error.shape[1] <= 9 else "xx-small"
    dark = lowest + 0.35 * (highest - lowest)
    for (i, j), value in np.ndenumerate(error):
        if np.isnan(value):
            axis.text(j, i, "-", ha="center", va="center", color=_INK, fontsize=size)
            continue
        color = _INK if value < dark else "white"
        text = f"{value:.3g}"
        axis.text(j, i, text, ha="center", va="center", color=color, fontsize=size)


def _axes(figure: Any, panels: list[dict[str, Any]], n_groups: int) -> tuple[Any, Any, Any]:
    """Return the figure, one axis per panel, and one below them."""
    n_columns = min(_COLUMNS, len(panels))
    n_rows = -(-len(panels) // n_columns)
    height = 0.9 + 0.32 * len(panels[0]["lookbacks"])
    below = 0.9 + 0.28 * n_groups
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(layout="constrained")
    elif hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    if hasattr(figure, "set_size_inches"):
        figure.set_size_inches(8.5 if n_columns == 1 else 13.0, n_rows * height + below)
    grid = figure.add_gridspec(n_rows + 1, n_columns, height_ratios=[*[height] * n_rows, below])
    places = [(i, j) for i in range(n_rows) for j in range(n_columns)][: len(panels)]
    axes = [figure.add_subplot(grid[i, j]) for i, j in places]
    return figure, axes, figure.add_subplot(grid[n_rows, :])
