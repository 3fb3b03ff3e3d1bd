"""Groups of the search: sums, losses, the choice within a group, its solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..base import window_weights
from ..linear import ChannelStatistics, faded
from ..normalization import named_normalization
from ..regressors import Regressors
from ..solvers import (
    DenseSums,
    LinearProblem,
    LinearSolution,
    RegressorProblem,
    SeasonalPrior,
    SeriesSums,
    WindowSums,
    decay_of,
    prior_features,
    solve_linear,
    solve_with_regressors,
)
from ..solvers.exact import ChannelNormals
from ..solvers.panel_sums import add_series
from ..solvers.search import GroupLosses, GroupSearch, SearchGrid
from ..solvers.seasonal_prior import PriorFeatures

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """A lookback, a half-life and a level.

    Parameters
    ----------
    lookback : int
    forgetting : float or None
    normalization : {"last", "mean"}
    """

    lookback: int
    forgetting: float | None
    normalization: str

    def functional(self) -> Float64Array:
        """Return the weights of the windows' level."""
        return named_normalization(self.normalization, 1e-5).functional(self.lookback)


class Choice(NamedTuple):
    """Penalties that were chosen in a group."""

    kappa: float
    alpha: float
    beta: float
    loss: float


@dataclass(frozen=True, eq=False)
class SearchSeries:
    """Series as the search reads them.

    Parameters
    ----------
    series : list of array of shape (T, C)
        Transformed, where there is a transform.
    weight : list of array of shape (T,), or None
        Of rows; uneven ones count windows by the mean weight of their targets.
    first : list of float, or None
        Ordinals of the first rows, where there are calendar terms.
    frequencies : array of shape (F,)
    periods : tuple of int
    horizon : int
    channels : array of shape (n_series,), optional
        Of a long frame, each of whose series is a channel by itself.
    exog : list of array of shape (T, K), optional
        Regressors; where one is missing, so are the series.
    """

    series: list[npt.NDArray[np.floating]]
    weight: list[Float64Array] | None
    first: list[float] | None
    frequencies: Float64Array
    periods: tuple[int, ...]
    horizon: int
    channels: npt.NDArray[np.intp] | None = None
    exog: list[Float64Array] | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.series[0].shape[1]) if self.channels is None else len(self.series)

    def statistics(self, stops: Sequence[int]) -> ChannelStatistics:
        """Return mean and deviation of the rows before ``stops``."""
        out = ChannelStatistics(self.n_channels)
        if self.channels is not None:
            rows = [values[:stop] for values, stop in zip(self.series, stops, strict=True)]
            add_series(out, rows, self.channels)
            return out
        for i, (values, stop) in enumerate(zip(self.series, stops, strict=True)):
            out.add(values[:stop], None if self.weight is None else self.weight[i][:stop])
        return out

    @property
    def _uneven(self) -> bool:
        return self.weight is not None and any(np.ptp(w) > 0 for w in self.weight)

    def sums(
        self, group: Group, level: Float64Array, begins: Sequence[int], ends: Sequence[int]
    ) -> WindowSums:
        """Return the sums over the windows between rows; faded by the group's forgetting.

        Parameters
        ----------
        group : Group
        level : array of shape (C,)
        begins, ends : sequence of int, one per series
        """
        L, H = group.lookback, self.horizon
        longest = max(b - a for a, b in zip(begins, ends, strict=True))
        decay = decay_of(group.forgetting, longest)
        if self._uneven:
            return self._dense_sums(DenseSums(L, H, level), decay, begins, ends)
        out = SeriesSums(L, H, level, decay=decay, frequencies=self.frequencies)
        for i, values in enumerate(self.series):
            at = None if self.first is None else self.first[i] + begins[i]
            each = 1.0 if self.weight is None else float(self.weight[i][0])
            own = None if self.channels is None else self.channels[i : i + 1]
            out.add(values[begins[i] : ends[i]], each, at=at, channels=own)
        return out

    def _dense_sums(
        self, out: DenseSums, decay: float, begins: Sequence[int], ends: Sequence[int]
    ) -> DenseSums:
        assert self.weight is not None
        for values, weight, begin, end in zip(self.series, self.weight, begins, ends, strict=True):
            if end - begin < out.lookback + out.horizon:
                continue
            windows = window_weights(weight[begin:end], out.lookback, out.horizon)
            out.add_series(values[begin:end], faded(windows, len(windows), decay))
        return out


def features_of(
    group: Group, prior: SeasonalPrior | None, periods: tuple[int, ...], horizon: int
) -> PriorFeatures | None:
    """Return what a group's weights are shrunk towards.

    Parameters
    ----------
    group : Group
    prior : SeasonalPrior or None
    periods : tuple of int
    horizon : int
    """
    if prior is None:
        return None
    kept = prior.kept_periods(periods, group.lookback)
    return prior_features(group.lookback, horizon, kept)


def scaled(statistics: ChannelStatistics) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    """Return what channels are divided by, and which ones change."""
    deviation = np.sqrt(statistics.variance())
    return np.where(deviation > 0, deviation, 1.0), deviation > 0


def group_losses(
    group: Group,
    training: WindowSums,
    held_out: WindowSums,
    scale: Float64Array,
    active: npt.NDArray[np.bool_],
    features: PriorFeatures | None,
    grid: SearchGrid,
    n_jobs: int,
) -> GroupLosses | None:
    """Return held-out losses of all penalties of a group, None where there is nothing to learn."""
    known = active & (training.n_windows > 0) & (held_out.n_windows > 0)
    if not known.any():
        return None
    search = GroupSearch(
        training, held_out, scale, group.functional(), features, np.flatnonzero(known), n_jobs
    )
    return search.losses(grid)


def choices(losses: list[GroupLosses], grid: SearchGrid) -> list[Choice]:
    """Return every candidate with its loss, averaged over folds in logarithms.

    Parameters
    ----------
    losses : list of GroupLosses, one per fold
    grid : SearchGrid
    """
    tiny = np.finfo(np.float64).tiny

    def mean(parts: list[Float64Array]) -> Float64Array:
        if len(parts) == 1:
            return parts[0]
        return np.asarray(np.exp(np.mean(np.log(np.maximum(parts, tiny)), axis=0)))

    shared, own = mean([f.shared for f in losses]), mean([f.own for f in losses])
    found = []
    for k, kappa in enumerate(grid.kappas):
        for a, alpha in enumerate(grid.alphas):
            found.append(Choice(kappa, alpha, np.inf, _loss(shared[k, a])))
        for j, a in enumerate(grid.corrected):
            for b, beta in enumerate(grid.betas):
                found.append(Choice(kappa, grid.alphas[a], beta, _loss(own[k, j, b])))
    return found


def _loss(value: np.float64) -> float:
    """Return a loss that can be compared: what is no number is never chosen."""
    return float(value) if np.isfinite(value) else np.inf


def solve_group(
    group: Group,
    chosen: Sequence[Choice],
    sums: WindowSums,
    scale: Float64Array,
    active: npt.NDArray[np.bool_],
    features: PriorFeatures | None,
    regressors: RegressorProblem | None = None,
) -> list[LinearSolution]:
    """Solve a group with the penalties that were chosen.

    Parameters
    ----------
    group : Group
    chosen : sequence of Choice
    sums : WindowSums
    scale, active : array of shape (C,)
    features : PriorFeatures or None
    regressors : RegressorProblem, optional

    Returns
    -------
    list of LinearSolution
        One for every choice.
    """
    normals, solutions = None, []
    for choice in chosen:
        problem = LinearProblem(
            functional=group.functional(),
            level=sums.level,
            scale=scale,
            active=active,
            alpha=choice.alpha,
            fit_intercept=False,
            individual="partial" if np.isfinite(choice.beta) else False,
            pooling=choice.beta,
            features=features,
            kappa=choice.kappa,
        )
        if regressors is not None:
            assert isinstance(sums, SeriesSums)
            solutions.append(solve_with_regressors(sums, problem, regressors))
            continue
        normals = normals or ChannelNormals(sums, problem)
        solutions.append(solve_linear(sums, problem, normals))
    return solutions


@dataclass(frozen=True, eq=False)
class AveragedSolution:
    """The average of the groups' solutions, on windows of the longest lookback.

    Parameters
    ----------
    weights : array of shape (1 or C, lookback, horizon)
        On windows measured from their last value.
    prior, common : array of shape (1 or C, lookback, horizon)
        What the weights are made of: the prior, and what all channels have on top of it; the rest
        are channels' own corrections.
    calendar : array of shape (C, 2 F, horizon), or None
    regressors : Regressors, or None
    """

    weights: Float64Array
    prior: Float64Array
    common: Float64Array
    calendar: Float64Array | None
    regressors: Regressors | None = None


def averaged(
    groups: list[Group], solutions: list[LinearSolution], shares: Float64Array
) -> AveragedSolution:
    """Average solutions of groups.

    Parameters
    ----------
    groups : list of Group
    solutions : list of LinearSolution
    shares : array of shape (n_groups,)
        Sum to one.
    """
    longest = max(g.lookback for g in groups)
    total: dict[str, Any] = {"weights": 0.0, "prior": 0.0, "common": 0.0}
    calendar: Any = None
    for group, found, share in zip(groups, solutions, shares, strict=True):
        if share == 0.0:
            continue
        horizon = found.weights.shape[2]
        level = group.functional()[:, None]
        prior = np.zeros((1, group.lookback, horizon)) if found.prior is None else found.prior
        common = np.zeros_like(prior[:1]) if found.common is None else found.common[None]
        for name, part in (("weights", found.weights), ("prior", prior), ("common", common)):
            if group.normalization != "last":  # a sum of raw inputs whose weights sum to one
                part = part - level * part.sum(axis=1, keepdims=True)
                part = part + (level if name != "common" else 0.0)
            padded = np.pad(part, ((0, 0), (longest - group.lookback, 0), (0, 0)))
            total[name] = total[name] + share * padded
        if found.calendar is not None:
            calendar = share * found.calendar + (0.0 if calendar is None else calendar)
    parts = [found.regressors for found in solutions if found.regressors is not None]
    regressors = Regressors.averaged(parts, shares) if parts else None
    return AveragedSolution(calendar=calendar, regressors=regressors, **total)


def held_out_squares(
    solution: AveragedSolution, sums: WindowSums, frequencies: Float64Array
) -> Float64Array:
    """Return the mean squared error of a solution over the windows of sums.

    Parameters
    ----------
    solution : AveragedSolution
    sums : WindowSums
        Of windows of the longest lookback, not faded.
    frequencies : array of shape (F,)

    Returns
    -------
    array of shape (C, horizon)
        Squared data units.
    """
    L, H, weights = sums.lookback, sums.horizon, solution.weights
    coef = np.zeros((len(weights), L + H, H))
    coef[:, :L] = -weights
    coef[:, L - 1] += weights.sum(axis=1) - 1.0
    coef[:, L:] = np.eye(H)
    n = np.maximum(sums.n_windows, 1.0)
    square = sums.quadratic(coef, np.zeros((sums.n_channels, H)))
    if solution.calendar is not None and len(frequencies):
        assert isinstance(sums, SeriesSums)
        for c, own in enumerate(solution.calendar):
            cross, gram = sums.waves(c)
            line = cross[:, :-1] @ coef[min(c, len(coef) - 1)]
            square[c] += np.einsum("zh,zh->h", own, gram @ own - 2 * line)
    return np.asarray(np.maximum(square, 0.0) / n[:, None])
