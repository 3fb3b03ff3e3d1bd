"""Hand-made mixtures of every form, and the forward pass as plain loops over its definition."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mixlin.layers import Block, Layer
from mixlin.mixture import Mixture
from mixlin.normalization import Normalization
from mixlin.routing import ConstantRouter, Evidence, Gate, Router

N, C, E, L, H, Z, F = 5, 3, 3, 12, 4, 2, 3


# -- the reference: loops over window, channel, expert and step --------------------------------

ACTIVATION = {
    None: lambda v: v,
    "relu": lambda v: max(v, 0.0),
    "gelu": lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2,
    "elu": lambda v: v if v > 0 else math.expm1(v),
    "tanh": math.tanh,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
}


def own(tensor, channel):
    """Return a channel's slice of a tensor with a group axis."""
    return tensor[0] if len(tensor) == 1 else tensor[channel]


def dot(row, column):
    return sum(a * b for a, b in zip(row, column, strict=True))


def level_and_scale(rule, window, channel, reference, real):
    if rule.level == "none":
        level = own(reference, channel)
    elif rule.level == "last":
        level = window[-1]
    else:
        level = sum(window) / real(len(window))
    if not rule.scaled:
        return level, None
    mean = sum(window) / real(len(window))
    variance = sum((v - mean) ** 2 for v in window) / real(len(window) - rule.ddof)
    eps = real(rule.eps if np.ndim(rule.eps) == 0 else rule.eps[channel])
    return level, np.sqrt(variance + eps) if rule.eps_inside else np.sqrt(variance) + eps


def run_layer(layer, rows, real):
    """Run one layer on the rows of all channels."""
    act = ACTIVATION[layer.activation]
    weight = layer.weight.astype(real)
    bias = None if layer.bias is None else layer.bias.astype(real)
    out = []
    if layer.axis == "time":
        for c, row in enumerate(rows):
            w = own(weight, c)
            b = np.zeros(w.shape[1], real) if bias is None else own(bias, c)
            out.append([act(dot(row, w[:, j]) + b[j]) for j in range(w.shape[1])])
    else:
        w = weight[0]
        for d in range(w.shape[1]):
            b = real(0) if bias is None else bias[0, d]
            steps = range(len(rows[0]))
            out.append([act(dot([row[t] for row in rows], w[:, d]) + b) for t in steps])
    return np.array(out, dtype=real)


def run_blocks(blocks, rows, real):
    for block in blocks:
        out = rows
        for layer in block.layers:
            out = run_layer(layer, out, real)
        rows = out + rows if block.residual else out
    return rows


def loss_of(evidence, e, row, real):
    """Return what one expert loses on one measured window."""
    w = evidence.weights[e].astype(real)
    lookback, n_steps = w.shape
    if evidence.kind == "energy":
        return sum(dot(row[-lookback:], w[:, r]) ** 2 for r in range(n_steps))
    ahead = evidence.ahead or range(1, n_steps + 1)
    losses, sizes = [], []
    start = len(row) - lookback - ahead[-1]
    while start >= 0:
        seen = row[start : start + lookback]
        future = [row[start + lookback - 1 + step] for step in ahead]
        errors = [abs(dot(seen, w[:, h]) - future[h]) for h in range(n_steps)]
        losses.append((sum(errors) / real(n_steps)) ** real(evidence.power))
        sizes += [abs(value) for value in future]
        start -= evidence.step
    mean = (sum(losses) / real(len(losses))) ** (1 / real(evidence.power))
    return mean + real(evidence.floor) * sum(sizes) / real(len(sizes))


def softmax_of(logits, top_k, temperature):
    order = sorted(range(len(logits)), key=lambda e: (-logits[e], e))
    kept = order[: top_k or len(order)]
    best = max(logits[e] for e in kept)
    raw = [np.exp((v - best) / temperature) if e in kept else 0 for e, v in enumerate(logits)]
    return np.array([v / sum(raw) for v in raw])


class Reference(NamedTuple):
    forecast: np.ndarray
    gates: np.ndarray  # (n, C, K, E) always
    logits: np.ndarray  # of the same shape
    experts: np.ndarray  # (n, C, K, E)
    level: np.ndarray
    scale: np.ndarray
    evidence: list


def reference_forward(m, windows, extra=None, timestamps=None, real=np.float64):
    n, channels, _ = windows.shape
    n_experts, steps = m.weights.shape[1], m.weights.shape[3]
    blocks = m.pre + m.post
    reference = m.reference.astype(real)
    forecast, all_gates, all_logits, all_experts, levels, scales = [], [], [], [], [], []
    evidence = [[] for _ in (m.gate.evidence if m.gate else ())]
    for i in range(n):
        raw = windows[i].astype(real)
        taken = [
            level_and_scale(m.normalization, raw[c], c, reference, real) for c in range(channels)
        ]
        level = [t[0] for t in taken]
        scale = [t[1] for t in taken]
        # blocks live on values free of level and scale, whatever their activation
        unit = [s if blocks and s is not None else real(1) for s in scale]
        rows = np.array([(raw[c] - level[c]) / unit[c] for c in range(channels)], dtype=real)
        inputs = run_blocks(m.pre, rows, real)
        gates = np.ones((channels, steps, n_experts), real)
        logits = np.zeros_like(gates)
        if m.gate is not None:
            stamps = None if timestamps is None else timestamps[i : i + 1]
            features = m.gate.router.features(windows[i : i + 1].astype(float), stamps, steps)[0]
            losses = [
                np.array(
                    [
                        [loss_of(ev, e, rows[c], real) for e in range(n_experts)]
                        for c in range(channels)
                    ]
                )
                for ev in m.gate.evidence
            ]
            for kept, loss in zip(evidence, losses, strict=True):
                kept.append(loss)
            for c in range(channels):
                for h in range(steps):
                    row = own(features, c).astype(real)
                    row = row[h] if features.ndim == 3 else row
                    for layer in m.gate.layers:
                        w = own(layer.weight, c).astype(real)
                        b = real(0) if layer.bias is None else own(layer.bias, c).astype(real)
                        row = np.array([dot(row, w[:, j]) for j in range(w.shape[1])]) + b
                        row = np.array([ACTIVATION[layer.activation](v) for v in row])
                    for ev, loss in zip(m.gate.evidence, losses, strict=True):
                        row = row - ev.exponent * np.log(loss[c])
                    logits[c, h] = row
                    gates[c, h] = softmax_of(row, m.gate.top_k, m.gate.temperature)
        mixed = np.zeros((channels, steps), real)
        experts = np.zeros((channels, steps, n_experts), real)
        base = [
            own(reference, c) if m.level_coef is not None else level[c] for c in range(channels)
        ]
        for c in range(channels):
            for e in range(n_experts):
                for h in range(steps):
                    y = dot(inputs[c], own(m.weights, c)[e, :, h].astype(real))
                    if m.level_coef is not None:
                        y += (level[c] - own(reference, c)) / unit[c] * own(m.level_coef, c)[e, h]
                    if m.scale_coef is not None:
                        y += scale[c] / unit[c] * own(m.scale_coef, c)[e, h]
                    if m.bias is not None:
                        y += own(m.bias, c)[e, h] / unit[c]
                    if m.extra_coef is not None:
                        z = extra[i, c if extra.shape[1] > 1 else 0].astype(real)
                        y += dot(z, own(m.extra_coef, c)[:, h]) / unit[c]
                    mixed[c, h] += gates[c, h, e] * y
                    experts[c, h, e] = y * unit[c] + base[c]
        out = run_blocks(m.post, mixed, real)
        forecast.append([out[c] * unit[c] + base[c] for c in range(channels)])
        all_gates.append(gates)
        all_logits.append(logits)
        all_experts.append(experts)
        levels.append(level)
        scales.append(scale)
    return Reference(
        np.array(forecast, dtype=real),
        np.array(all_gates),
        np.array(all_logits),
        np.array(all_experts),
        np.array(levels, dtype=real),
        np.array(scales),
        [np.array(loss) for loss in evidence],
    )


# -- hand-made mixtures ------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowRouter(Router):
    """Statistics of the window, per channel or of all channels, the same for all steps or not."""

    shared: bool = False
    per_step: bool = False

    def features(self, windows, timestamps, horizon):
        last = windows[:, :, -1:] - windows.mean(axis=2, keepdims=True)
        spread = windows.std(axis=2, keepdims=True)
        out = np.concatenate([last, spread, np.ones_like(last)], axis=2)
        if self.shared:
            out = out.mean(axis=1, keepdims=True)
        if self.per_step:
            phase = np.cos(np.arange(horizon))[:, None]
            out = out[:, :, None, :] * (1 + phase * np.array([1.0, 0.5, 0.2]))
        return out


@dataclass(frozen=True)
class HourRouter(Router):
    """The hour of the first step to forecast, or of every one."""

    per_step: bool = False

    def features(self, windows, timestamps, horizon):
        hours = timestamps.astype("datetime64[h]").astype(int) % 24
        hours = hours[:, -horizon:] if self.per_step else hours[:, -horizon]
        angle = 2 * np.pi * hours / 24
        out = np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], axis=-1)
        return out[:, None]


def draw(rng, *shape):
    return rng.normal(size=shape)


def make_weights(rng, groups=1, n_experts=E, lookback=L, horizon=H):
    return draw(rng, groups, n_experts, lookback, horizon) / np.sqrt(lookback)


def make_gate(rng, router=None, groups=1, **options):
    router = WindowRouter() if router is None else router
    return Gate(router, (Layer(draw(rng, groups, F, E), draw(rng, groups, E)),), **options)


def make_windows(rng, n=N, channels=C, lookback=L, level=3.0):
    steps = np.cumsum(draw(rng, n, channels, lookback), axis=2)
    return level + draw(rng, n, channels, 1) + steps


def make_stamps(n=N):
    start = np.datetime64("2024-03-01T00", "h") + 5 * np.arange(n)
    return start[:, None] + np.arange(L + H)


REVIN = Normalization("mean", scaled=True)
SUPER = Normalization("mean", scaled=True, eps=1e-5, ddof=1, eps_inside=False)


def case_one_expert(rng):
    return {"weights": make_weights(rng, n_experts=1), "bias": draw(rng, 1, 1, H)}


def case_window_gates(rng):
    return {"weights": make_weights(rng), "bias": draw(rng, 1, E, H), "gate": make_gate(rng)}


def case_gates_shared_by_channels(rng):
    return case_window_gates(rng) | {"gate": make_gate(rng, WindowRouter(shared=True))}


def case_gate_groups_on_shared_features(rng):
    gate = make_gate(rng, WindowRouter(shared=True, per_step=True), groups=C)
    return case_window_gates(rng) | {"gate": gate}


def case_gate_bias_groups_on_shared_features(rng):
    layers = (Layer(draw(rng, 1, F, E), draw(rng, C, E)),)
    return case_window_gates(rng) | {"gate": Gate(WindowRouter(shared=True), layers)}


def case_constant_gate(rng):
    gate = Gate(ConstantRouter(), (Layer(draw(rng, 1, 1, E)),))
    return case_window_gates(rng) | {"gate": gate}


def case_step_gates(rng):
    return case_window_gates(rng) | {"gate": make_gate(rng, WindowRouter(per_step=True))}


def case_calendar_gates(rng):
    return case_window_gates(rng) | {"gate": make_gate(rng, HourRouter())}


def case_calendar_step_gates(rng):
    return case_window_gates(rng) | {"gate": make_gate(rng, HourRouter(per_step=True))}


def case_channel_biases_on_shared_weights(rng):
    return case_window_gates(rng) | {"bias": draw(rng, C, E, H)}


def case_channel_weights(rng):
    return case_window_gates(rng) | {"weights": make_weights(rng, C)}


def case_extra_columns(rng):
    return case_window_gates(rng) | {"extra_coef": draw(rng, 1, Z, H)}


def case_extra_columns_of_channels(rng):
    return case_window_gates(rng) | {"extra_coef": draw(rng, C, Z, H), "normalization": REVIN}


def case_relu_layer_before(rng):
    layer = Layer(draw(rng, 1, L, 7) / 3, draw(rng, 1, 7), "relu")
    return {
        "weights": make_weights(rng, lookback=7),
        "bias": draw(rng, 1, E, H),
        "gate": make_gate(rng),
        "pre": (Block((layer,)),),
        "normalization": Normalization("last"),
    }


def case_relu_residual_block_rides_on_scale(rng):
    block = Block(
        (
            Layer(draw(rng, 1, L, 7) / 3, draw(rng, 1, 7), "relu"),
            Layer(draw(rng, C, 7, L), draw(rng, 1, L)),
        ),
        residual=True,
    )
    return {
        "weights": make_weights(rng, n_experts=1),
        "scale_coef": draw(rng, 1, 1, H),
        "pre": (block, block),
        "normalization": REVIN,
    }


def case_gelu_divides_by_scale(rng):
    layer = Layer(draw(rng, C, L, 7) / 3, draw(rng, C, 7), "gelu")
    return {
        "weights": make_weights(rng, lookback=7),
        "bias": draw(rng, C, E, H),
        "scale_coef": draw(rng, 1, E, H),
        "level_coef": draw(rng, 1, E, H),
        "extra_coef": draw(rng, 1, Z, H),
        "reference": 3 + draw(rng, C),
        "gate": make_gate(rng),
        "pre": (Block((layer,)),),
        "normalization": REVIN,
    }


def case_elu_tanh_sigmoid(rng):
    layers = (
        Layer(draw(rng, 1, L, L), draw(rng, 1, L), "elu"),
        Layer(draw(rng, 1, L, L), None, "tanh"),
        Layer(draw(rng, 1, L, L), draw(rng, C, L), "sigmoid"),
    )
    return case_window_gates(rng) | {"pre": (Block(layers),), "normalization": REVIN}


def case_post_block_over_time(rng):
    block = Block((Layer(draw(rng, 1, H, 9), draw(rng, 1, 9), "relu"), Layer(draw(rng, 1, 9, 6))))
    return case_window_gates(rng) | {"post": (block,), "normalization": REVIN}


def case_post_block_after_step_gates(rng):
    block = Block((Layer(draw(rng, 1, H, 6), draw(rng, C, 6)),))
    return case_step_gates(rng) | {"post": (block,)}


def case_layer_over_channels(rng):
    mix = Layer(draw(rng, 1, C, C), draw(rng, 1, C), "relu", axis="channel")
    return case_window_gates(rng) | {
        "pre": (Block((mix,)),),
        "normalization": Normalization("last"),
    }


def case_layer_over_channels_has_their_scales(rng):
    mix = Layer(draw(rng, 1, C, C), draw(rng, 1, C), axis="channel")
    return case_window_gates(rng) | {
        "pre": (
            Block(
                (
                    Layer(draw(rng, 1, C, 5), axis="channel"),
                    Layer(draw(rng, 1, 5, C), axis="channel"),
                )
            ),
        ),
        "post": (Block((mix,), residual=True),),
        "scale_coef": draw(rng, 1, E, H),
        "normalization": REVIN,
    }


def case_top_k(rng):
    return case_window_gates(rng) | {"gate": make_gate(rng, top_k=2, temperature=0.7)}


def case_top_one_per_step(rng):
    gate = make_gate(rng, WindowRouter(per_step=True), top_k=1, temperature=3.0)
    return case_window_gates(rng) | {"gate": gate}


def case_gate_of_two_layers(rng):
    layers = (Layer(draw(rng, 1, F, 8), draw(rng, 1, 8), "tanh"), Layer(draw(rng, C, 8, E)))
    return case_window_gates(rng) | {"gate": Gate(WindowRouter(), layers)}


def case_energy_gate(rng):
    evidence = (Evidence("energy", draw(rng, E, L, 4), exponent=2.0),)
    gate = make_gate(rng, evidence=evidence)
    return case_window_gates(rng) | {"gate": gate, "normalization": Normalization("mean")}


def case_backtest_gate(rng):
    evidence = (Evidence("backtest", draw(rng, E, 4, 2), exponent=4.0, step=3),)
    gate = make_gate(rng, WindowRouter(per_step=True), evidence=evidence, top_k=2)
    return case_window_gates(rng) | {"gate": gate, "normalization": Normalization("last")}


def case_backtest_of_far_steps(rng):
    options = {"step": 2, "ahead": (2, 3, 5), "floor": 0.3, "power": 0.5}
    evidence = (Evidence("backtest", draw(rng, E, 3, 3), 3.0, **options),)
    gate = make_gate(rng, evidence=evidence)
    return case_window_gates(rng) | {"gate": gate, "normalization": Normalization("mean")}


def case_energy_of_the_newest_values(rng):
    evidence = (
        Evidence("energy", draw(rng, E, 5, 3), exponent=1.5),
        Evidence("backtest", draw(rng, E, 4, 2), 1.0, ahead=(1, 4), floor=0.2),
    )
    gate = make_gate(rng, WindowRouter(shared=True), evidence=evidence)
    return case_scale_of_super_linear(rng) | {"gate": gate}


def case_both_evidences_with_everything(rng):
    evidence = (
        Evidence("backtest", draw(rng, E, 5, 3), exponent=1.5, step=2),
        Evidence("energy", draw(rng, E, L, 2), exponent=0.5),
    )
    return case_gelu_divides_by_scale(rng) | {"gate": make_gate(rng, evidence=evidence)}


def case_unnormalized_experts_in_a_normalized_mixture(rng):
    weights = make_weights(rng)
    level_coef = np.ones((1, E, H))
    level_coef[0, 1:] = weights[0, 1:].sum(axis=1)  # experts 1 and 2 see x - m, not x - l
    return case_window_gates(rng) | {
        "weights": weights,
        "level_coef": level_coef,
        "reference": np.array([2.0, 3.0, 4.0]),
        "normalization": Normalization("mean"),
    }


def case_scale_coef_around_the_reference(rng):
    return case_window_gates(rng) | {
        "scale_coef": draw(rng, C, E, H),
        "reference": np.array([3.0]),
        "normalization": Normalization("none", scaled=True, eps=np.array([1e-5, 1e-4, 1e-3])),
    }


def case_scale_of_super_linear(rng):
    return case_window_gates(rng) | {"scale_coef": draw(rng, 1, E, H), "normalization": SUPER}


CASES = {name[5:]: made for name, made in list(globals().items()) if name.startswith("case_")}


def build(name, seed=0, **changes):
    rng = np.random.default_rng(seed)
    mixture = Mixture(**(CASES[name](rng) | changes))
    inputs = {}
    if mixture.extra_coef is not None:
        inputs["extra"] = draw(rng, N, 1 if "columns_of" in name else C, Z)
    if "calendar" in name:
        inputs["timestamps"] = make_stamps()
    return mixture, make_windows(rng), inputs


@functools.cache
def expected_of(name, seed=0):
    """Return what the loops compute for ``build(name, seed)``; do not write to it."""
    mixture, windows, inputs = build(name, seed)
    return reference_forward(mixture, windows, **inputs)
