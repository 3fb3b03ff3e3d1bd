"""Where training by gradient descent starts from, in units of the channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..layers import Block, Layer
from ..mixture import Mixture
from ..routing import Gate
from .corrections import features_of
from .gate_fit import GateNetwork, stacked, standardized
from .mixture_task import MixtureTask, measured_from
from .window_source import WindowSource

if TYPE_CHECKING:
    from .gradient_solver import GradientSolver

Float64Array = npt.NDArray[np.float64]

_SAMPLE = 4096  # windows that features are standardized on


def in_units(mixture: Mixture, center: Float64Array, scale: Float64Array) -> Mixture:
    """Return a mixture for data that are measured from ``center`` in units of ``scale``."""
    mixture = measured_from(mixture, center)
    bias = mixture.bias
    if bias is not None:
        bias = bias / scale[:, None, None]
        if np.ptp(bias, axis=0).max() <= 1e-9 * max(1.0, float(np.abs(bias).max())):
            bias = bias[:1]
    eps = np.asarray(mixture.normalization.eps) / scale**2
    normalization = replace(mixture.normalization, eps=eps)
    return replace(mixture, bias=bias, normalization=normalization, reference=np.zeros(1))


def fits(previous: Mixture | None, start: Mixture, task: MixtureTask) -> bool:
    """Whether training can go on from a mixture."""
    if previous is None or previous.gate is None:
        return False
    n_channels = len(task.scale)
    groups = {1, n_channels}

    def shape(mixture: Mixture, n_experts: int) -> tuple[object, ...]:
        rule = mixture.normalization
        return (
            n_experts,
            mixture.lookback,
            mixture.horizon,
            (rule.level, rule.scaled, rule.ddof, rule.eps_inside),
            mixture.scale_coef is None,
            len(mixture.weights),
        )

    same_router = repr(previous.gate.router) == repr(task.router)
    whole = all(len(layer.weight) in groups for layer in previous.gate.layers)
    alike = shape(previous, previous.n_experts) == shape(start, task.n_experts)
    with_bias = (previous.bias is not None) == task.fit_intercept
    return alike and with_bias and same_router and whole and bool(previous.pre) == bool(task.hidden)


def beginning(
    solver: GradientSolver,
    task: MixtureTask,
    training: WindowSource,
    start: Mixture,
    rng: np.random.RandomState,
) -> Mixture:
    """Return the mixture that training starts from."""
    groups, _, L, H = start.weights.shape
    E = task.n_experts
    sample = [
        features_of(task.router, b, training.horizon) for b in training.thinned(_SAMPLE).blocks()
    ]
    flat = np.concatenate(sample)
    flat = flat.reshape(-1, flat.shape[-1])
    _, mean, spread = standardized(flat, np.ones(len(flat)))
    n_gates = training.n_channels if task.router.per_channel else 1
    stacks = [
        GateNetwork(flat.shape[1], E, task.router.hidden, rng).layers() for _ in range(n_gates)
    ]
    gate = Gate(
        task.router,
        stacked(stacks),
        top_k=task.top_k,
        temperature=task.router.temperature,
        center=mean,
        spread=spread,
    )
    bound = L**-0.5
    if solver.start == "random":
        weights = rng.uniform(-bound, bound, (1, E, L, H))
        bias = rng.uniform(-bound, bound, (1, E, H))
    else:
        size = solver.start_noise * np.sqrt((start.weights**2).mean())
        weights = start.weights + size * rng.standard_normal((groups, E, L, H))
        bias = np.zeros((1, E, H)) if start.bias is None else np.repeat(start.bias, E, axis=1)
    scale_coef = start.scale_coef
    if scale_coef is not None:
        scale_coef = np.repeat(scale_coef, E, axis=1)
        if solver.start == "random":
            scale_coef = bias
    pre: tuple[Block, ...] = ()
    if task.hidden is not None:
        first = Layer(
            rng.uniform(-bound, bound, (1, L, task.hidden)),
            rng.uniform(-bound, bound, (1, task.hidden)),
            activation="relu",
        )
        second = Layer(np.zeros((1, task.hidden, L)), np.zeros((1, L)))
        if solver.start == "random":
            wide = task.hidden**-0.5
            second = Layer(
                rng.uniform(-wide, wide, (1, task.hidden, L)), rng.uniform(-wide, wide, (1, L))
            )
        pre = (Block((first, second), residual=True),)
    return replace(
        start,
        weights=weights,
        bias=bias if task.fit_intercept else None,
        scale_coef=scale_coef,
        gate=gate,
        pre=pre,
    )
