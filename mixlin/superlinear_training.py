"""What Super-Linear learns: the gate, the experts, one after the other, or all by gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .backends import BackendNotAvailableError, resolve
from .base import Training, window_weights
from .experts import BacktestGate, ExpertBank, ExpertGate, SpectralGate, period_experts
from .experts.gating import scored_steps
from .experts.spectral_gate import SpectralWeights, gate_frequencies, shipped_for, shipped_weights
from .mixture import FixedPlan, LearnedPlan, Mixture, PriorPlan, predict_windows
from .mixture.prior import shared_matrices
from .normalization import Normalization
from .routing import Gate
from .solvers import GradientSolver, MixtureTask, WindowSource
from .solvers.expert_ridge import ExpertLearner, Span
from .solvers.router_fit import RouterRows, choose_router, router_gates, router_rows

Float64Array = npt.NDArray[np.float64]

TRAININGS = ("router", "experts", "two-stage", "full")
_VALIDATION = 0.2  # share of the last rows that choices are made on
_SCORED = 24  # steps of the horizon that errors are compared at
_FOLDS = 4  # of the rows, on which experts are scored that were fitted without them
_FEWEST_ROWS = 32  # windows of single channels, to learn from and to choose on
_ROWS, _COMPARED_ROWS = 3072, 512  # of them at most
_NEW_PERIODS = 3  # at most, that join the bank
_MOST_WEIGHTS = 2**27  # of all experts' matrices
_MOST_TRAINED = 16  # experts that are trained by gradient
_USED = 0.98  # share of the gates that these should have
_EPOCHS, _LEARNING_RATE = 10, 3e-4
_LEAST_ERROR, _MOST_ERROR = 1e-3, 3.0  # of learned experts, as a share of that of prior ones


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


def learn(mode: str, training: Training, task: LearningTask) -> Learned:
    """Learn a plan from training data.

    Parameters
    ----------
    mode : {"router", "experts", "two-stage", "full"}
    training : Training
    task : LearningTask

    Returns
    -------
    Learned

    Raises
    ------
    ValueError
        If there is no window to learn from, the gate is none that the mode can fit, or the
        experts' matrices would be too large.
    BackendNotAvailableError
        If ``mode="full"`` and torch is missing.
    """
    functions: dict[str, Callable[[Training, LearningTask], Learned]] = {
        "router": _router,
        "experts": _experts,
        "two-stage": _two_stage,
        "full": _full,
    }
    if mode != "experts" and not isinstance(task.gate, (SpectralGate, type(None))):
        raise ValueError(
            f"training={mode!r} fits a spectral gate; got gate={task.gate!r}. Leave the gate at "
            "'auto', or use training='experts' or None, which keep any gate."
        )
    return functions[mode](training, task)


# -- the gate ----------------------------------------------------------------------------------


def _router(training: Training, task: LearningTask) -> Learned:
    lookback = training.lookback
    if training.series is not None:  # as many windows as values in one, at least
        longest = max(len(values) for values in training.series)
        lookback = min(lookback, max(1, (longest - training.horizon + 1) // 2))
    data = _Data.of(training, lookback, "router")
    bank = data.extended(task)
    steps = _steps(training.horizon)
    weights = (
        shared_matrices(bank).predictors(lookback, int(steps[-1]) + 1, steps=steps + 1).weights
    )
    rows = [router_rows(part, weights, steps) for part, _ in _folds(data.source)]
    found, history = _fitted_gate(rows, bank, task)
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


def _fitted_gate(
    folds: list[RouterRows], bank: ExpertBank, task: LearningTask
) -> tuple[SpectralWeights, list[dict[str, Any]]]:
    """Return the gate that does best on rows left out; where rows are few, what it starts from."""
    start = _start(bank, task.gate)
    folds = [fold for fold in folds if fold.n_rows]
    if len(folds) < 2 or sum(fold.n_rows for fold in folds) < _FEWEST_ROWS:
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


# -- the experts -------------------------------------------------------------------------------


class _FittedExperts(NamedTuple):
    """Experts of a bank, fitted to all data.

    Attributes
    ----------
    bank : ExpertBank
    weights : array of shape (lookback, E, horizon)
    strengths : array of shape (E,)
    prior, part : array of shape (lookback, E, n_steps)
        Of some steps: prior matrices, and those fitted without the held-out rows.
    """

    data: _Data
    learner: ExpertLearner
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
        fixed = _mixture(self.weights, gate)
        return LearnedPlan(
            source.lookback,
            source.horizon,
            source.n_channels,
            bank=self.bank,
            gate=rest,
            top_k=task.top_k,
            auto_period=task.auto_period and joins,
            clean=task.clean,
            fixed=fixed,
            relative_error=self._relative_error(gate),
        )

    def _relative_error(self, gate: Gate) -> Float64Array:
        """Return errors of learned experts as shares of prior ones', a power of the step."""
        source = self.data.source
        steps = _steps(source.horizon)
        held_out = _thinned(source.split(_VALIDATION)[1], _COMPARED_ROWS)
        errors = np.zeros((2, len(steps)))
        looks = _mixture(self.prior[:, :, :1], gate)
        for block in held_out.blocks(len(self.bank) * len(steps)):
            some = np.flatnonzero(block.weight.reshape(-1) > 0)
            x = block.x.reshape(-1, source.lookback)[some]
            y = block.y.reshape(-1, source.horizon)[some][:, steps]
            level = x.mean(axis=1, keepdims=True)
            _, logits = predict_windows(looks, x[:, None], resolve("numpy"), scores=True)
            gates = router_gates(logits[:, 0], gate.top_k)
            unit = np.maximum(x.std(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            for i, weights in enumerate((self.part, self.prior)):
                packed = weights.reshape(source.lookback, -1)
                forecasts = ((x - level) @ packed).reshape(len(x), -1, len(steps))
                mixed = np.matmul(gates[:, None], forecasts)[:, 0]
                errors[i] += (np.abs(mixed - (y - level)) / unit).sum(axis=0)
        if not (errors > 0).all():
            return np.ones(source.horizon)
        log_step, ratio = np.log(steps + 1.0), np.log(errors[0] / errors[1])
        slope, offset = np.polyfit(log_step, ratio, 1) if len(steps) > 1 else (0.0, ratio[0])
        relative = np.exp(offset + slope * np.log(np.arange(1.0, source.horizon + 1)))
        return np.asarray(np.clip(relative, _LEAST_ERROR, _MOST_ERROR))


def _fitted_experts(training: Training, task: LearningTask, mode: str) -> _FittedExperts:
    L, H = training.lookback, training.horizon
    data = _Data.of(training, L, mode)
    bank = data.extended(task)
    if len(bank) * L * H > _MOST_WEIGHTS:
        raise ValueError(
            f"the matrices of {len(bank)} experts from {L} values to {H} steps would hold "
            f"{len(bank) * L * H:.1e} numbers, more than {_MOST_WEIGHTS:.1e}. Shorten lookback or "
            "horizon (predict goes further than the horizon), or pass a smaller bank."
        )
    steps = _steps(H)
    prior = shared_matrices(bank).predictors(L, H).weights
    some = np.ascontiguousarray(prior[:, :, steps])
    strengths, part = data.learner.choose(bank, some, steps, _VALIDATION)
    weights = data.learner.solve(bank, prior, strengths)
    return _FittedExperts(data, data.learner, bank, weights, strengths, some, part)


def _experts(training: Training, task: LearningTask) -> Learned:
    gate = BacktestGate() if task.gate is None else task.gate
    if not gate.comparable:  # it knows the bank as it is
        task = replace(task, auto_period=False)
    found = _fitted_experts(training, task, "experts")
    made = gate.gate(shared_matrices(found.bank), training.lookback, training.horizon, task.top_k)
    return Learned(found.plan(made, gate, task, joins=True), found.history)


def _two_stage(training: Training, task: LearningTask) -> Learned:
    found = _fitted_experts(training, task, "two-stage")
    weights, history = _router_of(found, task)
    gate = weights.gate(training.lookback, task.top_k)
    plan = found.plan(gate, BacktestGate(), task, joins=False)
    return Learned(plan, [*found.history, *history])


def _router_of(
    found: _FittedExperts, task: LearningTask
) -> tuple[SpectralWeights, list[dict[str, Any]]]:
    """Fit a gate to errors on rows that the experts scored there were not fitted to."""
    source, bank = found.data.source, found.bank
    steps = _steps(source.horizon)
    rows = []
    for part, others in _folds(source):
        fitted = found.learner.solve(bank, found.prior, found.strengths, steps, others)
        rows.append(router_rows(part, fitted, steps))
    return _fitted_gate(rows, bank, task)


# -- all by gradient ---------------------------------------------------------------------------


def _full(training: Training, task: LearningTask) -> Learned:
    whole = _two_stage(training, task)
    try:
        early = training.without_end(_VALIDATION)
        begin = _two_stage(early, task)
    except ValueError:  # too little is left without the held-out rows
        return whole
    assert isinstance(whole.plan, LearnedPlan)
    assert isinstance(begin.plan, LearnedPlan)
    data = _Data.of(training, training.lookback, "full")
    names, mixture = _used(begin.plan, data.source)
    solver = GradientSolver(
        _EPOCHS,
        learning_rate=_LEARNING_RATE,
        warm_start=True,
        min_gain=None,
        validation=_VALIDATION,
    )
    gate = mixture.gate
    assert gate is not None
    single = np.ascontiguousarray(mixture.weights.mean(axis=1, keepdims=True))
    start = FixedPlan(
        training.lookback,
        training.horizon,
        fixed=replace(mixture, weights=single, gate=None),
        residual=np.ones((data.source.n_channels, training.horizon)),
    )
    parts = data.source.split(_VALIDATION)
    if min(part.n_weighted for part in parts) < _FEWEST_ROWS:
        return whole
    try:
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
    except BackendNotAvailableError as error:
        raise BackendNotAvailableError(
            "training='full' needs torch, which is not available here. Install it "
            "(pip install 'mixlin[torch]'), or use training='two-stage', which needs none."
        ) from error
    epochs = [entry for entry in solution.history if "epoch" in entry]
    losses = [entry["validation_loss"] for entry in epochs]
    history = [*whole.history, *epochs]
    if int(np.argmin(losses)) == 0:  # nothing gained: what was fitted to all rows is better
        return Learned(whole.plan, history)
    gain = float(np.sqrt(min(losses) / losses[0]))
    plan = replace(
        whole.plan,
        bank=begin.plan.bank.select(names),
        top_k=None if gate.top_k is None else min(gate.top_k, len(names)),
        fixed=solution.mixture,
        relative_error=begin.plan.relative_error * gain,
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
    for block in _thinned(source, _COMPARED_ROWS).blocks(mixture.n_experts):
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
    spread = np.where(spread > 0, spread, 1.0)
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


# -- data --------------------------------------------------------------------------------------


class _Data(NamedTuple):
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
    def of(cls, training: Training, lookback: int, mode: str) -> _Data:
        source, unit = _source(training, lookback)
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


def _source(training: Training, lookback: int) -> tuple[WindowSource, Float64Array]:
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


def _folds(source: WindowSource) -> list[tuple[WindowSource, list[Span]]]:
    """Return windows of consecutive parts of the rows, and the rows before and after each."""
    edges = np.linspace(0.0, 1.0, _FOLDS + 1)
    return [
        (
            _thinned(_between(source, start, stop), _ROWS // _FOLDS),
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


def _thinned(source: WindowSource, n_rows: int) -> WindowSource:
    """Return at most so many windows of single channels."""
    return source.thinned(max(1, n_rows // source.n_channels))


def _steps(horizon: int) -> npt.NDArray[np.intp]:
    """Return places in the horizon that errors are compared at."""
    return np.array(scored_steps(horizon, _SCORED), dtype=np.intp) - 1


def _mixture(weights: Float64Array, gate: Gate) -> Mixture:
    """Return the mixture of matrices (lookback, E, horizon) on windows measured from their mean."""
    return Mixture(weights.transpose(1, 0, 2)[None], normalization=Normalization("mean"), gate=gate)
