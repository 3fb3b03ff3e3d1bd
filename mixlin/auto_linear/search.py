"""The search itself: from training rows to weighed groups and one averaged solution."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from ..backends import resolve
from ..calendar_terms import CalendarTerms
from ..linear import ChannelStatistics
from ..mixture import FixedPlan, KnownInputs, Mixture
from ..normalization import Normalization
from ..regressors import Regressors
from ..solvers import (
    ExactSearch,
    LinearSolution,
    SeasonalPrior,
    SeriesSums,
    WindowSums,
    single_threaded,
)
from ..solvers.search import GroupLosses, SearchGrid
from ..transforms import ChannelTransform
from .folds import Fold
from .groups import (
    AveragedSolution,
    Choice,
    Group,
    SearchSeries,
    averaged,
    choices,
    features_of,
    group_losses,
    held_out_squares,
    scaled,
    solve_group,
)
from .regressors import added_squares, exog_statistics, exog_sums, regressor_problem

Float64Array = npt.NDArray[np.float64]

_MOST_FORECASTS = 2**16  # of channels, per series, that a group is judged by in data units
_BLOCK_VALUES = 2**22  # held-out windows that are forecast at a time


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Parameters
    ----------
    groups : list of Group
    chosen : list of Choice, one per group
    shares : array of shape (n_groups,)
        Weights of the groups in the average.
    tried : list of (Group, Choice)
        Every candidate.
    solution : AveragedSolution
        Of the rows before the last fold's held-out ones.
    residual : array of shape (C, horizon)
        Mean squared errors on held-out windows.
    scale : array of shape (C,)
    active : array of shape (C,)
    """

    groups: list[Group]
    chosen: list[Choice]
    shares: Float64Array
    tried: list[tuple[Group, Choice]]
    solution: AveragedSolution
    residual: Float64Array
    scale: Float64Array
    active: npt.NDArray[np.bool_] = field(default_factory=lambda: np.ones(1, dtype=bool))


class _Judged(NamedTuple):
    """A group, its candidates, the best of them, and its solution."""

    group: Group
    candidates: list[Choice]
    best: Choice
    solution: LinearSolution


@dataclass(frozen=True, eq=False)
class Search:
    """A search over groups.

    Parameters
    ----------
    data : SearchSeries
    folds : list of Fold
        The last one decides the solution.
    lookbacks : tuple of int
    options : ExactSearch
    prior : SeasonalPrior or None
    shared : bool
    n_jobs : int
        Threads.
    transform : ChannelTransform or None
        That ``data`` went through.
    """

    data: SearchSeries
    folds: list[Fold]
    lookbacks: tuple[int, ...]
    options: ExactSearch
    prior: SeasonalPrior | None
    shared: bool
    n_jobs: int
    transform: ChannelTransform | None = None

    def run(self) -> Found:
        """Run the search.

        Returns
        -------
        Found

        Raises
        ------
        ValueError
            If no fold has windows to fit on and to judge on.
        """
        with single_threaded():
            return self._run()

    def _run(self) -> Found:
        options, data = self.options, self.data
        grid = options.grid(shared=self.shared, prior=self.prior is not None)
        statistics = [data.statistics(fold.stop) for fold in self.folds]
        scales = [scaled(each) for each in statistics]
        scale, active = scales[-1]
        every = [
            Group(lookback, forgetting, level)
            for lookback in sorted(self.lookbacks, reverse=True)  # the longest take longest
            for level, forgetting in product(options.normalization, options.forgetting)
        ]
        at_once = min(self.n_jobs, len(every))
        jobs = (delayed(self._judged)(g, statistics, scales, grid, at_once) for g in every)
        judged = Parallel(n_jobs=at_once, prefer="threads")(jobs)
        known = [part for parts in judged for part in parts]
        if not known:
            return self._nothing(statistics[-1], scale, active)
        groups = [part.group for part in known]
        chosen = [part.best for part in known]
        solutions = [part.solution for part in known]
        tried = [(part.group, candidate) for part in known for candidate in part.candidates]
        errors = np.array([c.loss for c in chosen])
        if self.transform is not None:  # in the units that count
            one = np.ones(1)
            errors = np.array(
                [
                    self._error_in_data_units(averaged([g], [s], one))
                    for g, s in zip(groups, solutions, strict=True)
                ]
            )
        shares = soft_shares(errors, options.temperature)
        if data.exog is not None:
            solutions = self._with_regressors(groups, chosen, statistics[-1].mean)
        solution = averaged(groups, solutions, shares)
        longest = Group(max(g.lookback for g in groups), None, "last")
        sums = self._held_out(longest, self.folds[-1], statistics[-1].mean)
        residual = held_out_squares(solution, sums, data.frequencies)
        if solution.regressors is not None:
            added = self._added_by_regressors(solution, longest, sums)
            residual = np.maximum(residual + added, 0.0)
        unknown = sums.n_windows == 0
        if unknown.any() and not unknown.all():  # no windows of their own: those of the others
            relative = (residual[~unknown] / scale[~unknown, None] ** 2).mean(axis=0)
            whole = scaled(data.statistics([len(values) for values in data.series]))[0]
            residual[unknown] = np.outer(whole[unknown] ** 2, relative)
        return Found(groups, chosen, shares, tried, solution, residual, scale, active)

    def _judged(
        self,
        group: Group,
        statistics: list[ChannelStatistics],
        scales: list[tuple[Float64Array, npt.NDArray[np.bool_]]],
        grid: SearchGrid,
        at_once: int,
    ) -> list[_Judged]:
        """Judge the candidates of a group on all folds; solve the best ones on the last.

        Shared weights and those with corrections of channels have a best one each: held-out rows
        of one span can't tell for sure whether what is a channel's own will last.
        """
        features, threads = self._features(group), max(1, self.n_jobs // at_once)
        losses: list[GroupLosses] = []
        for fold, s, (scale, active) in zip(self.folds, statistics, scales, strict=True):
            training = self.data.sums(group, s.mean, [0] * len(fold.stop), fold.stop)
            held = self._held_out(group, fold, s.mean)
            found = group_losses(group, training, held, scale, active, features, grid, threads)
            if found is not None:
                losses.append(found)
        if not losses:
            return []
        scale, active = scales[-1]
        every = choices(losses, grid)
        kinds = [[c for c in every if np.isfinite(c.beta) == own] for own in (False, True)]
        kinds = [candidates for candidates in kinds if candidates]
        best = [min(candidates, key=lambda c: c.loss) for candidates in kinds]
        solutions = solve_group(group, best, training, scale, active, features)
        return [_Judged(group, *parts) for parts in zip(kinds, best, solutions, strict=True)]

    def _with_regressors(
        self, groups: list[Group], chosen: list[Choice], level: Float64Array
    ) -> list[LinearSolution]:
        """Solve the groups again on the last fold, jointly with the regressors."""
        data, stops = self.data, self.folds[-1].stop
        statistics = exog_statistics(data, stops)
        scale, active = scaled(data.statistics(stops))
        out = []
        for group, own in by_group(groups, chosen):
            sums = data.sums(group, level, [0] * len(stops), stops)
            beside = regressor_problem(data, group, level, statistics, stops)
            out += solve_group(group, own, sums, scale, active, self._features(group), beside)
        return out

    def _added_by_regressors(
        self, solution: AveragedSolution, group: Group, sums: WindowSums
    ) -> Float64Array:
        """Return what regressors add to the mean squared errors on held-out windows."""
        fold, regressors = self.folds[-1], solution.regressors
        assert regressors is not None
        assert isinstance(sums, SeriesSums)
        begins = [max(0, first - group.lookback) for first in fold.first]
        exog = exog_sums(self.data, group, sums.level, regressors.center, begins, fold.last)
        added = added_squares(solution, sums, regressors, exog)
        return np.asarray(added / np.maximum(sums.n_windows, 1.0)[:, None])

    def _features(self, group: Group) -> Any:
        return features_of(group, self.prior, self.data.periods, self.data.horizon)

    def _held_out(self, group: Group, fold: Fold, level: Float64Array) -> WindowSums:
        group = Group(group.lookback, None, group.normalization)
        begins = [max(0, first - group.lookback) for first in fold.first]
        return self.data.sums(group, level, begins, fold.last)

    def _nothing(
        self,
        statistics: ChannelStatistics,
        scale: Float64Array,
        active: npt.NDArray[np.bool_],
    ) -> Found:
        """Return what is found where no channel changes: every forecast is the last value."""
        if active.any() or not (statistics.count > 0).any():
            raise ValueError(
                "no window of lookback + horizon consecutive rows is free of missing values both "
                "among the rows to fit on and among those to judge on. Shorten lookback or "
                "horizon, hold other rows out (validation=), or fill the gaps, for example with "
                "mixlin.windows.interpolate(X)."
            )
        group = Group(max(self.lookbacks), None, "last")
        zero = np.zeros((1, group.lookback, self.data.horizon))
        solution = AveragedSolution(zero, zero, zero, None)
        if self.data.exog is not None:
            solution = replace(solution, regressors=self._no_effects(group))
        return Found(
            [group],
            [Choice(np.inf, np.inf, np.inf, 0.0)],
            np.ones(1),
            [(group, Choice(np.inf, np.inf, np.inf, 0.0))],
            solution,
            np.zeros((len(scale), self.data.horizon)),
            scale,
            active,
        )

    def _no_effects(self, group: Group) -> Regressors:
        assert self.data.exog is not None
        C, K, H = self.data.n_channels, self.data.exog[0].shape[1], self.data.horizon
        columns = np.zeros((1, group.lookback, H))
        return Regressors(np.zeros((C, K, H)), np.zeros((1, C, K, H)), columns, np.zeros(K))

    def _error_in_data_units(self, solution: AveragedSolution) -> float:
        """Return the held-out error of a solution behind the transform, channels scaled alike."""
        assert self.transform is not None
        data, fold = self.data, self.folds[-1]
        plan = make_plan(solution, data.frequencies, transform=self.transform)
        total, count = np.zeros(data.n_channels), np.zeros(data.n_channels)
        spread = self._spread_in_data_units()
        L = plan.lookback
        for i, values in enumerate(data.series):
            begin = max(0, fold.first[i] - L)
            rows = self.transform.inverse(values[begin : fold.last[i]].T[None])[0].T
            if len(rows) < L + data.horizon:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(rows, L + data.horizon, axis=0)
            by = max(1, -(-len(windows) * rows.shape[1] // _MOST_FORECASTS))
            while by > 1 and any(np.gcd(by, period) > 1 for period in data.periods):
                by += 1  # windows of all phases
            windows = windows[::by]
            size = max(1, _BLOCK_VALUES // (windows.shape[1] * windows.shape[2]))
            for at in range(0, len(windows), size):
                z = windows[at : at + size]
                known = None
                if data.first is not None:
                    last = data.first[i] + begin + L - 1 + by * at
                    known = KnownInputs(last + by * np.arange(len(z), dtype=np.float64))
                found = plan.forecast(z[:, :, :L], data.horizon, resolve("numpy"), known=known)
                error = np.square(found - z[:, :, L:]).mean(axis=2)
                seen = np.isfinite(error)
                total += np.where(seen, error, 0.0).sum(axis=0)
                count += seen.sum(axis=0)
        known_channels = (count > 0) & (spread > 0)
        relative = total[known_channels] / count[known_channels] / spread[known_channels] ** 2
        return float(relative.mean())

    def _spread_in_data_units(self) -> Float64Array:
        assert self.transform is not None
        rows = np.concatenate(
            [v[:stop] for v, stop in zip(self.data.series, self.folds[-1].stop, strict=True)]
        )
        return np.asarray(np.nanstd(self.transform.inverse(rows.T[None])[0], axis=1))


def by_group(groups: list[Group], chosen: list[Choice]) -> list[tuple[Group, list[Choice]]]:
    """Return every group once, with what was chosen in it; the order stays.

    Parameters
    ----------
    groups : list of Group
        Equal ones side by side.
    chosen : list of Choice
    """
    out: list[tuple[Group, list[Choice]]] = []
    for group, choice in zip(groups, chosen, strict=True):
        if not out or out[-1][0] != group:
            out.append((group, []))
        out[-1][1].append(choice)
    return out


def soft_shares(losses: Float64Array, temperature: float) -> Float64Array:
    """Return the weights of groups in the average.

    Parameters
    ----------
    losses : array of shape (n_groups,)
    temperature : float

    Returns
    -------
    array of shape (n_groups,)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.auto_linear.search import soft_shares
    >>> soft_shares(np.array([1.0, 1.02]), 0.02).round(2).tolist()
    [0.73, 0.27]
    """
    log = np.log(np.maximum(losses, np.finfo(np.float64).tiny))
    gap = log - log.min()
    if temperature == 0.0:
        first = np.zeros(len(gap))
        first[np.argmin(gap)] = 1.0
        return first
    weight = np.exp(-gap / temperature)
    return np.asarray(weight / weight.sum())


def make_plan(
    solution: AveragedSolution,
    frequencies: Float64Array,
    *,
    residual: Float64Array | None = None,
    transform: ChannelTransform | None = None,
    n_channels: int | None = None,
) -> FixedPlan:
    """Return the plan of an averaged solution.

    Parameters
    ----------
    solution : AveragedSolution
    frequencies : array of shape (F,)
    residual : array of shape (C, horizon), optional
    transform : ChannelTransform, optional
    n_channels : int, optional
    """
    _, lookback, horizon = solution.weights.shape
    calendar = None
    if solution.calendar is not None and len(frequencies):
        calendar = CalendarTerms(frequencies, solution.calendar)
    mixture = Mixture(solution.weights[:, None], normalization=Normalization("last"))
    return FixedPlan(
        lookback,
        horizon,
        n_channels,
        residual=residual,
        fixed=mixture,
        calendar=calendar,
        transform=transform,
        regressors=solution.regressors,
    )
