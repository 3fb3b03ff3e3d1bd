"""Learning experts and gate together, by gradient descent from where the others end."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from ..backends import BackendNotAvailableError, resolve
from ..base import Training
from ..mixture import FixedPlan, LearnedPlan, Mixture, predict_windows
from ..routing import Gate
from ..solvers import GradientSolver, MixtureTask, WindowSource
from ..solvers.router_fit import router_gates
from .data import (
    COMPARED_ROWS,
    FEWEST_ROWS,
    VALIDATION,
    Learned,
    LearningData,
    LearningTask,
    thinned,
)
from .experts import learn_two_stage

_MOST_TRAINED = 16  # experts that are trained by gradient
_USED = 0.98  # share of the gates that these should have
_EPOCHS, _LEARNING_RATE = 10, 3e-4
_LEAST_SPREAD = 1e-3  # of a feature of the gate, as a share of the largest
_LEAST_GAIN = 0.02  # of the squared error: as much as fitting to the held-out rows too gains


def learn_all(training: Training, task: LearningTask) -> Learned:
    """Learn experts and gate in two stages, then both together.

    Gradient descent starts from what two stages find without the held-out rows, with the experts
    that carry the mixture. Where it gains little on these rows, two stages on all rows stay.

    Parameters
    ----------
    training : Training
    task : LearningTask

    Raises
    ------
    BackendNotAvailableError
        If torch is missing.
    """
    if find_spec("torch") is None:
        raise BackendNotAvailableError(
            "training='full' needs torch, which is not available here. Install it "
            "(pip install 'mixlin[torch]'), or use training='two-stage', which needs none."
        )
    whole = learn_two_stage(training, task)
    data = LearningData.of(training, training.lookback, "full")
    parts = data.source.split(VALIDATION)
    if min(part.n_weighted for part in parts) < FEWEST_ROWS:
        return whole
    begin = learn_two_stage(training.without_end(VALIDATION), task)
    assert isinstance(begin.plan, LearnedPlan)
    names, mixture = _used(begin.plan, data.source)
    gate = mixture.gate
    assert gate is not None
    single = np.ascontiguousarray(mixture.weights.mean(axis=1, keepdims=True))
    start = FixedPlan(
        training.lookback,
        training.horizon,
        fixed=replace(mixture, weights=single, gate=None),
        residual=np.ones((data.source.n_channels, training.horizon)),
    )
    solver = GradientSolver(
        _EPOCHS,
        learning_rate=_LEARNING_RATE,
        warm_start=True,
        min_gain=None,
        validation=VALIDATION,
    )
    solution = solver.solve(
        MixtureTask(
            windows=data.source,
            start=lambda held_out: start,
            router=gate.router,
            n_experts=len(names),
            top_k=gate.top_k,
            scale=data.unit,
            fit_intercept=False,
            random_state=task.random_state,
            previous=mixture,
        )
    )
    epochs = [entry for entry in solution.history if "epoch" in entry]
    history = [*whole.history, *epochs]
    losses = [entry["validation_loss"] for entry in epochs]
    if not np.nanmin(losses) < (1.0 - _LEAST_GAIN) * losses[0]:
        return Learned(whole.plan, history)
    plan = replace(
        begin.plan,
        bank=begin.plan.bank.select(names),
        top_k=None if gate.top_k is None else min(gate.top_k, len(names)),
        fixed=replace(mixture, weights=solution.mixture.weights, gate=solution.mixture.gate),
        relative_error=begin.plan.relative_error * float(np.sqrt(np.nanmin(losses) / losses[0])),
    )
    return Learned(plan, history)


def _used(plan: LearnedPlan, source: WindowSource) -> tuple[list[str], Mixture]:
    """Return the experts that carry a mixture, and the mixture of these alone."""
    mixture = plan.mixture()
    gate = mixture.gate
    assert gate is not None
    usage = np.zeros(mixture.n_experts)
    features = []
    looks = replace(mixture, weights=mixture.weights[..., :1])
    for block in thinned(source, COMPARED_ROWS).blocks(mixture.n_experts):
        rows = block.x.reshape(-1, 1, source.lookback)
        _, logits = predict_windows(looks, rows, resolve("numpy"), scores=True)
        usage += router_gates(logits[:, 0], gate.top_k).sum(axis=0)
        features.append(gate.router.features(rows, None, source.horizon)[:, 0])
    order = np.argsort(-usage, kind="stable")
    enough = int(np.searchsorted(np.cumsum(usage[order]), _USED * usage.sum())) + 1
    kept = np.sort(order[: min(_MOST_TRAINED, enough)])
    # features in units of their spread, so that all of the gate is trained at one pace
    seen = np.concatenate(features)
    center, spread = seen.mean(axis=0), seen.std(axis=0)
    largest = float(spread.max())
    spread = np.maximum(spread, _LEAST_SPREAD * largest) if largest > 0 else np.ones_like(spread)
    (layer,) = gate.layers
    weight = layer.weight[0][:, kept]
    assert layer.bias is not None
    small = Gate(
        gate.router,
        (
            replace(
                layer,
                weight=(weight * spread[:, None])[None],
                bias=layer.bias[:, kept] + center @ weight,
            ),
        ),
        top_k=None if gate.top_k is None or gate.top_k >= len(kept) else gate.top_k,
        center=center,
        spread=spread,
    )
    names = [plan.bank.names[i] for i in kept]
    return names, replace(mixture, weights=mixture.weights[:, kept], gate=small)
