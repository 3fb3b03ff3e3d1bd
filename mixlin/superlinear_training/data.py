"""What Super-Linear learns from: windows, their parts, and the settings of the task."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..base import Training, window_weights
from ..experts import ExpertBank, ExpertGate, period_experts
from ..experts.gating import scored_steps
from ..mixture import Mixture, PriorPlan
from ..normalization import Normalization
from ..routing import Gate
from ..solvers import WindowSource
from ..solvers.expert_ridge import ExpertLearner, Span

Float64Array = npt.NDArray[np.float64]

VALIDATION = 0.2  # share of the last rows that choices are made on
FEWEST_ROWS = 32  # windows of single channels, to learn from and to choose on
COMPARED_ROWS = 256  # of them at most, where errors are compared
_ROWS = 3072  # of them at most, that a gate is fitted to
_FOLDS = 4  # of the rows, on which experts are scored that were fitted without them
_SCORED = 24  # steps of the horizon that errors are compared at
_NEW_PERIODS = 3  # at most, that join the bank


@dataclass(frozen=True, eq=False)
class LearningTask:
    """What a mode of training needs beside the data.

    Parameters
    ----------
    bank : ExpertBank
    gate : ExpertGate or None
        None for the mode's own.
    top_k : int or None
    auto_period : bool
        Whether experts join for periods of the training data that the bank does not know.
    clean : bool
    random_state : numpy.random.RandomState
        Of training by gradient descent.
    """

    bank: ExpertBank
    gate: ExpertGate | None
    top_k: int | None
    auto_period: bool
    clean: bool
    random_state: np.random.RandomState


class Learned(NamedTuple):
    """A plan, and what was tried on the way.

    Attributes
    ----------
    plan : PriorPlan
        With the prior experts and a gate of its own, or a :class:`~mixlin.mixture.LearnedPlan`.
    history : list of dict
    """

    plan: PriorPlan
    history: list[dict[str, Any]]


class LearningData(NamedTuple):
    """Training windows of one lookback.

    Attributes
    ----------
    source : WindowSource
    unit : array of shape (C,)
        Deviations of the channels.
    learner : ExpertLearner
    """

    source: WindowSource
    unit: Float64Array
    learner: ExpertLearner

    @classmethod
    def of(cls, training: Training, lookback: int, mode: str) -> LearningData:
        source, unit = _source_of(training, lookback)
        if not source.n_windows:
            rows = max(len(values) for values in training.series or [])
            raise ValueError(
                f"training={mode!r} needs windows to learn from, {lookback + training.horizon} "
                f"rows without a gap for lookback={lookback} and horizon={training.horizon}; the "
                f"longest series has {rows} rows. Pass more data, shorten lookback or horizon, or "
                "use training=None, which needs none."
            )
        return cls(source, unit, ExpertLearner(source, unit))

    def extended(self, task: LearningTask) -> ExpertBank:
        """Return the bank with experts for periods of the data that it does not know."""
        bank = task.bank
        if not task.auto_period:
            return bank
        for period in self.learner.new_periods(bank.periods, _NEW_PERIODS):
            names = set(bank.names)
            new = tuple(x for x in period_experts(period) if x.name not in names)
            bank = ExpertBank(bank.experts + new)
        return bank


def _source_of(training: Training, lookback: int) -> tuple[WindowSource, Float64Array]:
    H, weight = training.horizon, training.weight
    if training.windows is not None:
        x, y = training.windows
        source = WindowSource.of_windows(x[:, :, x.shape[2] - lookback :], y, weight=weight)
        deviation = np.std(x, axis=(0, 2), dtype=np.float64)
        return source, np.where(deviation > 0, deviation, 1.0)
    assert training.series is not None
    if weight is not None:
        M = lookback + H
        weight = [window_weights(w, lookback, H) if len(w) >= M else np.empty(0) for w in weight]
    rows = np.concatenate(training.series).astype(np.float64, copy=False)
    seen = ~np.isnan(rows)
    n = np.maximum(seen.sum(axis=0), 1)
    level = np.where(seen, rows, 0.0).sum(axis=0) / n
    deviation = np.sqrt((np.where(seen, rows - level, 0.0) ** 2).sum(axis=0) / n)
    source = WindowSource.of_series(lookback, H, training.series, weight=weight, fill=level)
    return source, np.where(deviation > 0, deviation, 1.0)


def folds_of(source: WindowSource) -> list[tuple[WindowSource, list[Span]]]:
    """Return windows of consecutive parts of the rows, and the rows before and after each."""
    edges = np.linspace(0.0, 1.0, _FOLDS + 1)
    return [
        (
            thinned(_between(source, start, stop), _ROWS // _FOLDS),
            [Span(*ends) for ends in ((0.0, start), (stop, 1.0)) if ends[0] < ends[1]],
        )
        for start, stop in pairwise(edges.tolist())
    ]


def _between(source: WindowSource, start: float, stop: float) -> WindowSource:
    """Return the windows whose targets lie between two shares of the rows of every series."""
    if source.windows is not None:
        n = source.n_windows
        return source.subset(slice(round(start * n), round(stop * n)))
    lengths = np.array([len(values) for values in source.series])[source.places[:, 0]]
    first = source.places[:, 1] + source.lookback
    inside = (first >= np.rint(start * lengths)) & (
        first + source.horizon <= np.rint(stop * lengths)
    )
    return source.subset(np.flatnonzero(inside))


def thinned(source: WindowSource, n_rows: int) -> WindowSource:
    """Return at most so many windows of single channels."""
    return source.thinned(max(1, n_rows // source.n_channels))


def scored_places(horizon: int) -> npt.NDArray[np.intp]:
    """Return places in the horizon that errors are compared at."""
    return np.array(scored_steps(horizon, _SCORED), dtype=np.intp) - 1


def plain_mixture(weights: Float64Array, gate: Gate) -> Mixture:
    """Return the mixture of matrices (lookback, E, horizon) on windows measured from their mean."""
    return Mixture(weights.transpose(1, 0, 2)[None], normalization=Normalization("mean"), gate=gate)
