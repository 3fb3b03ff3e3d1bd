"""Learning the experts, and then perhaps their gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import resolve
from ..base import Training
from ..experts import BacktestGate, ExpertBank, ExpertGate
from ..experts.spectral_gate import SpectralWeights
from ..mixture import LearnedPlan, PriorPlan
from ..mixture.prior import shared_matrices
from ..routing import Gate
from ..solvers.router_fit import router_rows
from .data import (
    COMPARED_ROWS,
    VALIDATION,
    Learned,
    LearningData,
    LearningTask,
    folds_of,
    plain_mixture,
    scored_places,
    thinned,
)
from .router import fitted_gate

Float64Array = npt.NDArray[np.float64]

_MOST_WEIGHTS = 2**27  # of all experts' matrices
_LEAST, _MOST = 1e-4, 10.0  # that spreads are multiplied by


class FittedExperts(NamedTuple):
    """Experts of a bank, fitted to all data.

    Attributes
    ----------
    data : LearningData
    bank : ExpertBank
    weights : array of shape (lookback, E, horizon)
    strengths : array of shape (E,)
    prior, part : array of shape (lookback, E, n_steps)
        Of some steps: prior matrices, and those fitted without the held-out rows.
    """

    data: LearningData
    bank: ExpertBank
    weights: Float64Array
    strengths: Float64Array
    prior: Float64Array
    part: Float64Array

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per expert, with how much it was pulled to its prior."""
        return [
            {"expert": name, "strength": float(strength)}
            for name, strength in zip(self.bank.names, self.strengths, strict=True)
        ]

    def plan(self, gate: Gate, rest: ExpertGate, task: LearningTask, *, joins: bool) -> LearnedPlan:
        """Return the plan of the experts under a gate."""
        source = self.data.source
        made = LearnedPlan(
            source.lookback,
            source.horizon,
            source.n_channels,
            bank=self.bank,
            gate=rest,
            top_k=task.top_k,
            auto_period=task.auto_period and joins,
            clean=task.clean,
            fixed=plain_mixture(self.weights, gate),
        )
        return replace(made, relative_error=self._relative_error(made))

    def _relative_error(self, plan: LearnedPlan) -> Float64Array:
        """Return what spreads are multiplied by, a power of the step.

        Spreads are made from what prior experts err by inside a window. The factor makes them as
        wide, relative to the errors on held-out rows, as those of the prior mixture are.
        """
        source = self.data.source
        steps = scored_places(source.horizon)
        held_out = thinned(source.split(VALIDATION)[1], COMPARED_ROWS)
        block = held_out.block(np.arange(held_out.n_windows))
        some = np.flatnonzero(block.weight.reshape(-1) > 0)
        x = block.x.reshape(-1, source.lookback)[some]
        y = block.y.reshape(-1, source.horizon)[some][:, steps]
        if not len(x):
            return np.ones(source.horizon)
        level = x.mean(axis=1, keepdims=True)
        packed = self.part.reshape(source.lookback, -1)
        learned = ((x - level) @ packed).reshape(len(x), len(self.bank), -1) + level[:, :, None]
        unit = np.maximum(x.std(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        prior = PriorPlan(
            plan.lookback,
            plan.horizon,
            plan.n_channels,
            bank=plan.bank,
            top_k=plan.top_k,
            auto_period=plan.auto_period,
            clean=plan.clean,
        )
        sizes = np.zeros((2, 2, len(steps)))  # learned and prior; errors and spreads
        for i, looks in enumerate((plan, prior)):
            for found in looks.predictive(x[:, None], source.horizon, resolve("numpy")):
                rows = found.rows
                means = found.means[:, :, steps]
                if looks is plan:
                    means[:, : len(self.bank)] = learned[rows]
                error = np.einsum("re,reh->rh", found.weights, means) - y[rows]
                told = np.einsum("re,reh->rh", found.weights, found.spreads[:, :, steps])
                sizes[i] += (np.stack([np.abs(error), told]) / unit[rows]).sum(axis=1)
        if not (sizes > 0).all():
            return np.ones(source.horizon)
        shares = np.log(sizes[:, 0] / sizes[:, 1])
        ratio, log_step = shares[0] - shares[1], np.log(steps + 1.0)
        slope, offset = np.polyfit(log_step, ratio, 1) if len(steps) > 1 else (0.0, ratio[0])
        factor = np.exp(offset + slope * np.log(np.arange(1.0, source.horizon + 1)))
        return np.asarray(np.clip(factor, _LEAST, _MOST))


def _fitted_experts(training: Training, task: LearningTask, mode: str) -> FittedExperts:
    L, H = training.lookback, training.horizon
    data = LearningData.of(training, L, mode)
    bank = data.extended(task)
    if len(bank) * L * H > _MOST_WEIGHTS:
        raise ValueError(
            f"the matrices of {len(bank)} experts from {L} values to {H} steps would hold "
            f"{len(bank) * L * H:.1e} numbers, more than {_MOST_WEIGHTS:.1e}. Shorten lookback or "
            "horizon (predict goes further than the horizon), or pass a smaller bank."
        )
    steps = scored_places(H)
    prior = shared_matrices(bank).predictors(L, H).weights
    some = np.ascontiguousarray(prior[:, :, steps])
    strengths, part = data.learner.choose(bank, some, steps, VALIDATION)
    weights = data.learner.solve(bank, prior, strengths)
    return FittedExperts(data, bank, weights, strengths, some, part)


def learn_experts(training: Training, task: LearningTask) -> Learned:
    """Learn the experts; the gate stays what it is for the prior ones.

    Parameters
    ----------
    training : Training
    task : LearningTask
    """
    gate = BacktestGate() if task.gate is None else task.gate
    if not gate.comparable:  # it knows the bank as it is
        task = replace(task, auto_period=False)
    found = _fitted_experts(training, task, "experts")
    made = gate.gate(shared_matrices(found.bank), training.lookback, training.horizon, task.top_k)
    return Learned(found.plan(made, gate, task, joins=True), found.history)


def learn_two_stage(training: Training, task: LearningTask) -> Learned:
    """Learn the experts, then their gate.

    Parameters
    ----------
    training : Training
    task : LearningTask
    """
    found = _fitted_experts(training, task, "two-stage")
    weights, history = _router_of(found, task)
    gate = weights.gate(training.lookback, task.top_k)
    plan = found.plan(gate, BacktestGate(), task, joins=False)
    return Learned(plan, [*found.history, *history])


def _router_of(
    found: FittedExperts, task: LearningTask
) -> tuple[SpectralWeights, list[dict[str, Any]]]:
    """Fit a gate to errors on rows that the experts scored there were not fitted to."""
    source, bank = found.data.source, found.bank
    steps = scored_places(source.horizon)
    rows = []
    for part, others in folds_of(source):
        fitted = found.data.learner.solve(bank, found.prior, found.strengths, steps, others)
        rows.append(router_rows(part, fitted, steps))
    return fitted_gate(rows, bank, task)
