"""How an exact forecaster learns from many series, and the plan that comes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Training
from .base.own_scales import level_and_scale
from .base.panels import listed_ids
from .mixture import FixedPlan, Mixture, PanelPlan, StandardizedPlan
from .normalization import REVIN_EPS
from .solvers import ExactSolver, LinearSolution, SeriesSums
from .solvers.panel_sums import add_series, add_windows, extended

Float64Array = npt.NDArray[np.float64]


def learn_panel(
    estimator: Any, training: Training, new_statistics: Callable[[int], Any], *, update: bool
) -> dict[str, Any]:
    """Return the fitted state of an exact forecaster of many series.

    Parameters
    ----------
    estimator : ExactLinearForecaster
        Not changed.
    training : Training
        From a long frame.
    new_statistics : callable
        Makes statistics of a number of channels.
    update : bool

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If no series is long enough, or with ``individual=True`` one is not.
    """
    assert training.series is not None
    assert training.panel is not None
    L, H, rows = training.lookback, training.horizon, training.panel
    solver = ExactSolver() if estimator.solver is None else estimator.solver
    for name in ("calendar", "transform"):
        if getattr(solver, name):
            raise ValueError(
                f"ExactSolver({name}={getattr(solver, name)!r}) is not supported on long frames. "
                f"Leave {name} out, or fit a list of series."
            )
    if update:
        sums, statistics = copy.deepcopy((estimator._sums, estimator._statistics))
        seasons = estimator._seasons
    else:
        sums, statistics = None, new_statistics(0)
        seasons = estimator._find_seasons(training, solver)
    add_series(statistics, training.series, rows.channels)

    def made(statistics: Any) -> SeriesSums:
        sums: SeriesSums = estimator._new_sums(SeriesSums, L, H, statistics, decay=seasons.decay)
        return sums

    sums = made(statistics) if sums is None else extended(sums, statistics, made)
    add_windows(sums, training.series, rows.channels, weight=training.weight, gaps=rows.gaps)
    lacking = np.flatnonzero(sums.n_windows == 0)
    if len(lacking) == sums.n_channels:
        raise ValueError(
            f"no series has lookback + horizon = {L + H} consecutive rows free of missing values. "
            "Shorten lookback or horizon, fill the gaps, or pass longer series."
        )
    if estimator.individual is True and len(lacking):
        has = "has" if len(lacking) == 1 else "have"
        raise ValueError(
            f"{listed_ids(rows.panel.ids, lacking)} {has} no window of lookback + horizon = "
            f"{L + H} consecutive rows free of missing values, so there is nothing to fit weights "
            "of their own on. Leave them out, shorten lookback or horizon, or share weights "
            "(individual=False or 'partial')."
        )
    return {
        "plan_": estimator._solve(sums, statistics, seasons, series=True, panel=True),
        "_sums": sums,
        "_statistics": statistics,
        "_seasons": seasons,
    }


def panel_plan(
    plan: FixedPlan,
    solution: LinearSolution,
    level: Float64Array,
    deviation: Float64Array,
    *,
    scaled: bool,
) -> PanelPlan:
    """Return the plan that also forecasts series which were not learnt from.

    Parameters
    ----------
    plan : FixedPlan
        Of those that were, a channel for each.
    solution : LinearSolution
    level, deviation : array of shape (n_series,)
        What the solution measured from, and the standard deviations.
    scaled : bool
        Whether it divided by the latter.

    Returns
    -------
    PanelPlan
    """
    mixture, shared, L = plan.mixture(), None, plan.lookback
    if solution.shared is not None:
        weights, bias = solution.shared
        shared = Mixture(
            weights[None, None, :L],
            bias=bias[None, None],
            scale_coef=weights[None, None, L] if len(weights) > L else None,
            normalization=replace(mixture.normalization, eps=REVIN_EPS),
            reference=np.zeros(1) if scaled else level[:1].copy(),
        )
    return PanelPlan(
        L,
        plan.horizon,
        plan.n_channels,
        residual=plan.residual,
        fixed=mixture,
        shared=shared,
        standardized=scaled,
        scale=deviation,
    )


def standardized(training: Training, solver: ExactSolver | None) -> tuple[Training, Float64Array]:
    """Return training series in units of their own level and scale, and these.

    Parameters
    ----------
    training : Training
    solver : ExactSolver, optional

    Returns
    -------
    training : Training
        A channel that never changes within a series is missing there, and teaches nothing.
    scales : array of shape (2, n_series, C)
        Levels and scales.

    Raises
    ------
    ValueError
        For windows, for rows that continue a series, and with a transform.
    """
    if training.series is None:
        raise ValueError(
            "scale='series' measures every series by itself, and windows (y given) do not say "
            "which one they are from. Pass scale='std' or None, or fit on series."
        )
    if training.continues:
        raise ValueError(
            "with scale='series' rows can't continue a series: they would change the scale of what "
            "was learnt. Pass new_series=True, a list of further series, or call fit."
        )
    if solver is not None and solver.transform is not None:
        raise ValueError(
            f"ExactSolver(transform={solver.transform!r}) is not supported with scale='series'. "
            "Leave one of the two out."
        )
    scales = np.array([level_and_scale(values) for values in training.series]).swapaxes(0, 1)
    taught = (scales[1] > 0).any(axis=0)
    series = []
    for values, level, scale in zip(training.series, *scales, strict=True):
        inside = (values - level) / np.where(scale > 0, scale, 1.0)
        inside[:, (scale == 0) & taught] = np.nan
        series.append(inside)
    return replace(training, series=series), scales


def standardized_plan(plan: FixedPlan) -> StandardizedPlan:
    """Return a plan that was fitted on :func:`standardized` series, for data units.

    Parameters
    ----------
    plan : FixedPlan

    Returns
    -------
    StandardizedPlan
    """
    return StandardizedPlan(
        plan.lookback,
        plan.horizon,
        plan.n_channels,
        residual=plan.residual,
        fixed=plan.fixed,
        calendar=plan.calendar,
    )
