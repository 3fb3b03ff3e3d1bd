"""Learning the gate, of experts as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..base import Training
from ..experts import ExpertBank, ExpertGate, SpectralGate
from ..experts.spectral_gate import SpectralWeights, gate_frequencies, shipped_for, shipped_weights
from ..mixture import PriorPlan
from ..mixture.prior import shared_matrices
from ..solvers.router_fit import RouterRows, choose_router, router_rows
from .data import FEWEST_ROWS, Learned, LearningData, LearningTask, folds_of, scored_places


def learn_router(training: Training, task: LearningTask) -> Learned:
    """Learn the gate of prior experts from the errors they make on targets.

    Parameters
    ----------
    training : Training
    task : LearningTask
    """
    lookback = training.lookback
    if training.series is not None:  # as many windows as values in one, at least
        longest = max(len(values) for values in training.series)
        lookback = min(lookback, max(1, (longest - training.horizon + 1) // 2))
    data = LearningData.of(training, lookback, "router")
    bank = data.extended(task)
    steps = scored_places(training.horizon)
    weights = (
        shared_matrices(bank).predictors(lookback, int(steps[-1]) + 1, steps=steps + 1).weights
    )
    rows = [router_rows(part, weights, steps) for part, _ in folds_of(data.source)]
    found, history = fitted_gate(rows, bank, task)
    plan = PriorPlan(
        training.lookback,
        training.horizon,
        data.source.n_channels,
        bank=bank,
        gate=SpectralGate(found),
        top_k=task.top_k,
        auto_period=task.auto_period,
        clean=task.clean,
    )
    return Learned(plan, history)


def fitted_gate(
    folds: list[RouterRows], bank: ExpertBank, task: LearningTask
) -> tuple[SpectralWeights, list[dict[str, Any]]]:
    """Return the gate that does best on rows left out; where rows are few, what it starts from."""
    start = _start(bank, task.gate)
    folds = [fold for fold in folds if fold.n_rows]
    if len(folds) < 2 or sum(fold.n_rows for fold in folds) < FEWEST_ROWS:
        return start, [{"gate": "start"}]
    found = choose_router(folds, start, log_priors=np.array(bank.log_priors), top_k=task.top_k)
    return found.weights, found.history


def _start(bank: ExpertBank, gate: ExpertGate | None) -> SpectralWeights:
    """Return the gate that fitting starts from: the one that is there, for the experts it knows."""
    if isinstance(gate, SpectralGate) and gate.weights is not None:
        known = gate.weights
    else:
        known = _shipped_part(bank)
    frequencies = gate_frequencies()
    weight = np.zeros((len(bank), len(frequencies)))
    bias = np.array(bank.log_priors)
    places = {name: i for i, name in enumerate(known.names)}
    rows = np.array([places.get(name, -1) for name in bank.names])
    if (rows >= 0).any():
        there = np.stack([np.interp(frequencies, known.frequencies, w) for w in known.weight])
        weight[rows >= 0], bias[rows >= 0] = there[rows[rows >= 0]], known.bias[rows[rows >= 0]]
    return SpectralWeights(weight, bias, tuple(bank.names), frequencies)


def _shipped_part(bank: ExpertBank) -> SpectralWeights:
    """Return the shipped gate for those experts of a bank that it knows."""
    names = set(shipped_weights().names)
    same = [expert for expert in bank if expert.name in names]
    if not same:
        return replace(
            shipped_weights(),
            weight=np.empty((0, len(gate_frequencies()))),
            bias=np.empty(0),
            names=(),
        )
    return shipped_for(ExpertBank(tuple(same)))
