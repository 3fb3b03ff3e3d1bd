"""The one forward pass against plain loops over the canonical form, on hand-made mixtures."""

import copy
import gc
import math
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.backends import resolve
from mixlin.backends.numpy_backend import NumpyBackend
from mixlin.decomposition import fold_decomposition
from mixlin.layers import Block, Layer
from mixlin.mixture import FixedPlan, Mixture, Parts, forward, place, predict_windows
from mixlin.normalization import Normalization
from mixlin.routing import ConstantRouter, Evidence, Gate, Router

N, C, E, L, H, Z, F = 5, 3, 3, 12, 4, 2, 3
TOLERANCE = 1e-12


# -- comparing ---------------------------------------------------------------------------------


def assert_close(actual, expected, tolerance=TOLERANCE, unit=None):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    unit = np.abs(expected).max() if unit is None else unit
    error = np.abs(actual - expected).max() / unit
    assert error <= tolerance, f"off by {float(error):.3g}, allowed {tolerance}"


def assert_parity(actual, expected, tolerance=TOLERANCE, unit=None):
    """Compare, and show that ten tolerances at any one of three places would not pass."""
    assert_close(actual, expected, tolerance, unit)
    size = np.abs(expected).max() if unit is None else unit
    for place_ in (0, actual.size // 2, actual.size - 1):
        moved = np.array(actual, dtype=np.float64)
        moved.flat[place_] = np.asarray(expected).flat[place_] + 10 * tolerance * size
        with pytest.raises(AssertionError, match="off by"):
            assert_close(moved, expected, tolerance, unit)


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
    if evidence.kind == "energy":
        return sum(dot(row, w[:, r]) ** 2 for r in range(w.shape[1]))
    lookback, horizon = w.shape
    losses = []
    end = len(row)
    while end - lookback - horizon >= 0:
        seen = row[end - lookback - horizon : end - horizon]
        future = row[end - horizon : end]
        losses += [abs(dot(seen, w[:, h]) - future[h]) for h in range(horizon)]
        end -= evidence.step
    return sum(losses) / real(len(losses))


def softmax_of(logits, top_k, temperature):
    order = sorted(range(len(logits)), key=lambda e: (-logits[e], e))
    kept = order[: top_k or len(order)]
    best = max(logits[e] for e in kept)
    raw = [np.exp((v - best) / temperature) if e in kept else 0 for e, v in enumerate(logits)]
    return np.array([v / sum(raw) for v in raw])


class Reference(NamedTuple):
    forecast: np.ndarray
    gates: np.ndarray  # (n, C, K, E) always
    experts: np.ndarray  # (n, C, K, E)
    level: np.ndarray
    scale: np.ndarray
    evidence: list


def reference_forward(m, windows, extra=None, timestamps=None, real=np.float64):
    n, channels, _ = windows.shape
    n_experts, steps = m.weights.shape[1], m.weights.shape[3]
    blocks = m.pre + m.post
    reference = m.reference.astype(real)
    forecast, all_gates, all_experts, levels, scales = [], [], [], [], []
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
        all_experts.append(experts)
        levels.append(level)
        scales.append(scale)
    return Reference(
        np.array(forecast, dtype=real),
        np.array(all_gates),
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


# -- parity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_forecasts_equal_plain_loops(name):
    mixture, windows, inputs = build(name)
    expected = reference_forward(mixture, windows, **inputs).forecast
    assert_parity(forward(mixture, resolve(), windows, **inputs), expected)
    assert_parity(predict_windows(mixture, windows, **inputs), expected)


@pytest.mark.parametrize("name", CASES)
def test_parts_equal_plain_loops_and_add_up(name):
    mixture, windows, inputs = build(name, seed=1)
    expected = reference_forward(mixture, windows, **inputs)
    parts = forward(mixture, resolve(), windows, **inputs, parts=True)
    assert isinstance(parts, Parts)
    assert_parity(parts.forecast, expected.forecast)
    assert_parity(parts.experts, expected.experts)
    per_step = parts.gates if parts.gates.ndim == 4 else parts.gates[:, :, None, :]
    gates = np.broadcast_to(per_step, expected.gates.shape)
    assert_parity(gates, expected.gates)
    assert (gates >= 0).all()
    assert np.abs(gates.sum(axis=-1) - 1).max() < 1e-12
    if mixture.gate is not None and mixture.gate.top_k:
        assert ((gates > 0).sum(axis=-1) <= mixture.gate.top_k).all()
    assert_parity(np.broadcast_to(parts.level, (N, C)), expected.level, unit=10.0)
    if mixture.normalization.scaled:
        assert_parity(parts.scale, expected.scale)
    else:
        assert parts.scale is None
    assert len(parts.evidence) == len(expected.evidence)
    for loss, loop in zip(parts.evidence, expected.evidence, strict=True):
        assert_parity(loss, loop)
    if not mixture.post:
        assert_parity((gates * parts.experts).sum(axis=-1), parts.forecast)


GROUPS = st.sampled_from([1, C])
GROUPED = (
    *("weights", "bias", "scale_coef", "level_coef", "extra_coef", "extra", "reference"),
    *("gate", "gate_bias", "pre", "pre_bias", "post"),
)


@settings(max_examples=80, deadline=None)
@given(
    groups=st.fixed_dictionaries(dict.fromkeys(GROUPED, GROUPS)),
    activation=st.sampled_from([None, "relu", "gelu"]),
    level=st.sampled_from(["mean", "last"]),
    scaled=st.booleans(),
    router=st.builds(WindowRouter, shared=st.booleans(), per_step=st.booleans()),
    seed=st.integers(0, 2**16),
)
def test_every_tensor_is_shared_or_per_channel_on_its_own(
    groups, activation, level, scaled, router, seed
):
    rng = np.random.default_rng(seed)
    pre = Layer(draw(rng, groups["pre"], L, 5) / 3, draw(rng, groups["pre_bias"], 5), activation)
    post = Layer(draw(rng, groups["post"], H, H), draw(rng, 1, H))
    mixture = Mixture(
        make_weights(rng, groups["weights"], lookback=5),
        bias=draw(rng, groups["bias"], E, H),
        scale_coef=draw(rng, groups["scale_coef"], E, H) if scaled else None,
        level_coef=draw(rng, groups["level_coef"], E, H),
        extra_coef=draw(rng, groups["extra_coef"], Z, H),
        reference=draw(rng, groups["reference"]),
        normalization=Normalization(level, scaled=scaled),
        gate=Gate(
            router, (Layer(draw(rng, groups["gate"], F, E), draw(rng, groups["gate_bias"], E)),)
        ),
        pre=(Block((pre,)),),
        post=(Block((post,), residual=True),),
    )
    extra = draw(rng, 2, groups["extra"], Z)
    windows = make_windows(rng, n=2)
    expected = reference_forward(mixture, windows, extra).forecast
    assert_parity(predict_windows(mixture, windows, extra=extra), expected, tolerance=1e-11)


def test_a_changed_weight_changes_the_comparison():
    mixture, windows, _ = build("window_gates")
    weights = mixture.weights.copy()
    weights[0, 1, 2, 3] += 1e-6
    other = Mixture(weights, bias=mixture.bias, gate=mixture.gate)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(predict_windows(other, windows), reference_forward(mixture, windows).forecast)


# -- precision ---------------------------------------------------------------------------------

EXTENDED = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@pytest.mark.skipif(not EXTENDED, reason="this platform has no extended precision")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("window_gates", {}),
        ("step_gates", {}),
        ("channel_weights", {}),
        ("scale_coef_around_the_reference", {}),
        ("unnormalized_experts_in_a_normalized_mixture", {}),
        ("scale_of_super_linear", {}),
        ("relu_residual_block_rides_on_scale", {}),
    ],
)
@pytest.mark.parametrize("reference", [[1e6], [1e6, 1e6 + 2.0, 1e6 - 1.0]])
def test_nothing_is_lost_at_level_1e6(name, changes, reference):
    mixture, windows, inputs = build(name, seed=2, reference=np.array(reference))
    windows = windows + 1e6
    expected = reference_forward(mixture, windows, **inputs, real=np.longdouble).forecast
    spread = float(np.std(windows - windows.mean(axis=2, keepdims=True)))
    assert spread < 10
    assert_parity(predict_windows(mixture, windows, **inputs), expected, 1e-9, unit=spread)


def test_the_reference_level_is_what_keeps_precision():
    """The same model written in raw coordinates is off by more than the bound above."""
    rng = np.random.default_rng(3)
    weights = draw(rng, 1, 1, 336, H)
    windows = 1e6 + draw(rng, 200, 1, 336)
    measured = Mixture(weights, reference=np.array([1e6]))
    raw = Mixture(weights, bias=1e6 * (1 - weights.sum(axis=2)))
    off = np.abs(predict_windows(measured, windows) - predict_windows(raw, windows)).max()
    assert 1e-9 < off < 1e-5


# -- inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_left_alone_and_may_be_read_only(name):
    mixture, windows, inputs = build(name)
    before = windows.copy()
    for array in [windows, *inputs.values()]:
        array.flags.writeable = False
    kept = {k: np.array(v) for k, v in vars(mixture).items() if isinstance(v, np.ndarray)}
    for array in (v for v in vars(mixture).values() if isinstance(v, np.ndarray)):
        array.flags.writeable = False
    first = predict_windows(mixture, windows, **inputs)
    parts = forward(mixture, resolve(), windows, **inputs, parts=True)
    assert (windows == before).all()
    assert all((getattr(mixture, k) == v).all() for k, v in kept.items())
    assert_close(parts.forecast, first)


@pytest.mark.parametrize("name", ["window_gates", "gelu_divides_by_scale", "energy_gate"])
def test_float32_windows_are_measured_in_float64(name):
    mixture, windows, inputs = build(name)
    windows = windows.astype(np.float32)
    out = predict_windows(mixture, windows, **inputs)
    assert out.dtype == np.float64
    assert_parity(out, reference_forward(mixture, windows.astype(np.float64), **inputs).forecast)


@pytest.mark.parametrize("name", ["window_gates", "backtest_gate", "layer_over_channels"])
def test_memory_layout_does_not_matter(name):
    mixture, windows, inputs = build(name)
    expected = reference_forward(mixture, windows, **inputs).forecast
    channels_last = np.ascontiguousarray(windows.transpose(0, 2, 1)).transpose(0, 2, 1)
    backwards = windows[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    strided = np.zeros((N, C, 2 * L))
    strided[:, :, ::2] = windows
    series = np.cumsum(draw(np.random.default_rng(5), C, N + L - 1), axis=1)
    rolling = np.lib.stride_tricks.sliding_window_view(series, L, axis=1).transpose(1, 0, 2)
    for view in (channels_last, backwards, strided[:, :, ::2]):
        assert_parity(predict_windows(mixture, view, **inputs), expected)
    expected = reference_forward(mixture, rolling.copy(), **inputs).forecast
    assert_parity(predict_windows(mixture, rolling, **inputs), expected)


class BlockBackend(NumpyBackend):
    """A backend of small blocks."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def rows_per_block(self, n_channels, n_columns):
        return self.rows


@pytest.mark.parametrize("name", CASES)
def test_forecasts_do_not_depend_on_the_batch(name):
    mixture, _, _ = build(name)
    rng = np.random.default_rng(4)
    windows = make_windows(rng, n=41)
    inputs = {"extra": draw(rng, 41, C, Z)} if mixture.extra_coef is not None else {}
    if "calendar" in name:
        inputs["timestamps"] = make_stamps(41)
    whole = predict_windows(mixture, windows, BlockBackend(None), **inputs)
    for rows in (1, 7, 40):
        assert_parity(predict_windows(mixture, windows, BlockBackend(rows), **inputs), whole)
    one = {k: v[6:7] for k, v in inputs.items()}
    assert_parity(predict_windows(mixture, windows[6:7], **one), whole[6:7])
    assert_parity(predict_windows(mixture, windows, **inputs), whole)


def test_no_windows_give_no_forecasts():
    mixture, windows, _ = build("window_gates")
    assert predict_windows(mixture, windows[:0]).shape == (0, C, H)


# -- folding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("kernel_size", [3, 5, 25])
def test_hand_made_dlinear_equals_its_fold(groups, kernel_size):
    rng = np.random.default_rng(kernel_size)
    seasonal, trend = draw(rng, groups, H, L), draw(rng, groups, H, L)
    bias = draw(rng, groups, H)
    windows = make_windows(rng)
    folded = fold_decomposition(seasonal, trend, kernel_size)
    mixture = Mixture(folded.transpose(0, 2, 1)[:, None].copy(), bias=bias[:, None])
    expected = np.zeros((N, C, H))
    half = kernel_size // 2
    for i in range(N):
        for c in range(C):
            x = windows[i, c]
            for t in range(L):
                around = [x[min(max(s, 0), L - 1)] for s in range(t - half, t + half + 1)]
                mean = sum(around) / kernel_size
                for h in range(H):
                    s, w = own(seasonal, c)[h, t], own(trend, c)[h, t]
                    expected[i, c, h] += s * (x[t] - mean) + w * mean
            expected[i, c] += own(bias, c)
    assert_parity(predict_windows(mixture, windows), expected)


# -- placed weights ----------------------------------------------------------------------------


class CountingBackend(NumpyBackend):
    """A backend that counts what is put on it."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.puts = 0

    def put(self, array):
        with self.lock:
            self.puts += 1
        return super().put(array)


def n_tensors(mixture):
    layers = [la for block in mixture.pre + mixture.post for la in block.layers]
    if mixture.gate is not None:
        layers += mixture.gate.layers
    biases = sum(la.bias is not None for la in layers)
    elsewhere = mixture.bias_on_host or mixture.divides_by_scale
    packed_bias = mixture.bias is not None and not elsewhere
    evidence = 0 if mixture.gate is None else len(mixture.gate.evidence)
    return 1 + packed_bias + len(layers) + biases + evidence


@pytest.mark.parametrize("name", CASES)
def test_weights_are_uploaded_once(name):
    mixture, windows, inputs = build(name)
    backend = CountingBackend()
    forward(mixture, backend, windows, **inputs)
    first, backend.puts = backend.puts, 0
    forward(mixture, backend, windows, **inputs)
    second, backend.puts = backend.puts, 0
    assert first - second == n_tensors(mixture)
    for _ in range(3):
        forward(mixture, backend, windows, **inputs)
    assert backend.puts == 3 * second
    assert second <= 4  # window, its columns, the scale, the gate's features


def test_a_single_expert_uploads_one_array_a_call():
    mixture, windows, _ = build("one_expert")
    backend = CountingBackend()
    place(mixture, backend)
    backend.puts = 0
    forward(mixture, backend, windows)
    assert backend.puts == 1


def test_placed_weights_are_never_stale():
    backend = CountingBackend()
    rng = np.random.default_rng(6)
    windows = make_windows(rng)
    for _ in range(50):  # new mixtures reuse the addresses of old ones
        mixture = Mixture(make_weights(rng, n_experts=1))
        expected = np.einsum("ncl,lh->nch", windows, mixture.weights[0, 0])
        assert_close(predict_windows(mixture, windows, backend), expected)
        del mixture


def test_placed_weights_go_with_the_mixture():
    mixture, windows, _ = build("window_gates")
    backend = CountingBackend()
    predict_windows(mixture, windows, backend)
    held = weakref.ref(place(mixture, backend).weights)
    gc.collect()
    assert held() is not None
    del mixture
    gc.collect()
    assert held() is None


def test_placed_weights_go_with_the_backend():
    mixture, windows, _ = build("window_gates")
    backend = CountingBackend()
    predict_windows(mixture, windows, backend)
    held = weakref.ref(place(mixture, backend).weights)
    del backend
    gc.collect()
    assert held() is None
    assert_parity(predict_windows(mixture, windows), reference_forward(mixture, windows).forecast)


def test_two_backends_hold_their_own_weights():
    mixture, _, _ = build("window_gates")
    one, two = CountingBackend(), CountingBackend()
    assert place(mixture, one) is not place(mixture, two)
    assert place(mixture, one) is place(mixture, one)


@pytest.mark.parametrize("name", CASES)
def test_pickles_hold_no_placed_weights(name):
    mixture, windows, inputs = build(name)
    plan = FixedPlan(L, mixture.horizon, C, fixed=mixture)
    before, names = pickle.dumps(plan), set(vars(mixture))
    expected = predict_windows(plan.mixture(), windows, **inputs)
    assert set(vars(mixture)) == names
    assert pickle.dumps(plan) == before
    for again in (pickle.loads(before), copy.deepcopy(plan)):
        assert again.mixture() is not mixture
        assert (predict_windows(again.mixture(), windows, **inputs) == expected).all()


def test_threads_share_one_upload_and_agree():
    mixture, windows, inputs = build("both_evidences_with_everything")
    expected = predict_windows(mixture, windows, **inputs)
    backend = CountingBackend()
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [predict_windows(mixture, windows, backend, **inputs) for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        results = [out for outs in pool.map(work, range(8)) for out in outs]
    assert len(results) == 80
    assert all((out == expected).all() for out in results)
    once, backend.puts = backend.puts, 0
    predict_windows(mixture, windows, backend, **inputs)
    assert once == 80 * backend.puts + n_tensors(mixture)


# -- plans and refusals ------------------------------------------------------------------------


def test_a_fixed_plan_always_returns_its_mixture():
    mixture, _, _ = build("window_gates")
    plan = FixedPlan(L, H, fixed=mixture)
    assert plan.mixture() is mixture
    assert plan.mixture(L, 2) is mixture
    assert plan.mixture(mask=np.ones(L, dtype=bool)) is mixture
    with pytest.raises(ValueError, match="missing values"):
        plan.mixture(mask=np.arange(L) > 0)
    with pytest.raises(ValueError, match="holds a mixture"):
        FixedPlan(L, H)


def test_the_residual_variance_is_computed_once_when_asked_for():
    asked = []

    def residual():
        asked.append(1)
        return np.ones((C, H))

    plan = FixedPlan(L, H, C, residual=residual, fixed=build("window_gates")[0])
    assert not asked
    assert (plan.residual_variance == 1).all()
    assert plan.residual_variance is plan.residual_variance
    assert len(asked) == 1


def test_lookback_and_horizon_follow_the_layers():
    assert build("relu_layer_before")[0].lookback == L
    assert build("relu_layer_before")[0].weights.shape[2] == 7
    assert build("post_block_over_time")[0].horizon == 6
    assert build("window_gates")[0].groups == 1
    assert build("channel_weights")[0].groups == C


RNG = np.random.default_rng(7)
THREE = make_weights(RNG)
ONE = make_weights(RNG, n_experts=1)
BAD_MIXTURES = [
    ({"weights": np.zeros((1, L, H))}, "weights must be"),
    ({"weights": THREE}, "needs a gate"),
    ({"weights": ONE, "bias": np.zeros((1, 2, H))}, "bias must be"),
    ({"weights": ONE, "scale_coef": np.zeros((1, 1, H + 1)), "normalization": REVIN}, "scale_coef"),
    ({"weights": ONE, "scale_coef": np.zeros((1, 1, H))}, "takes a scale"),
    ({"weights": ONE, "level_coef": np.zeros((1, 1, H))}, "takes a level"),
    ({"weights": ONE, "extra_coef": np.zeros((1, Z, H + 1))}, "extra_coef must be"),
    ({"weights": ONE, "gate": make_gate(RNG)}, "3 logits for 1 experts"),
    ({"weights": make_weights(RNG, 3, 1), "bias": np.zeros((2, 1, H))}, "groups must be 1"),
    ({"weights": ONE, "lookback": L + 1}, "equal in pairs"),
    ({"weights": ONE, "pre": (Block((Layer(np.zeros((1, L, 5))),)),)}, "equal in pairs"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD_MIXTURES, ids=[s for _, s in BAD_MIXTURES])
def test_tensors_that_do_not_fit_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Mixture(**fields)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Layer(np.zeros((3, 2))), "groups, in, out"),
        (lambda: Layer(np.zeros((1, 3, 2)), np.zeros((1, 3))), "bias must be"),
        (lambda: Layer(np.zeros((1, 3, 2)), activation="swish"), "'swish'"),
        (lambda: Layer(np.zeros((1, 3, 2)), axis="width"), "'width'"),
        (lambda: Layer(np.zeros((2, 3, 2)), axis="channel"), "one group"),
        (lambda: Block(()), "at least one layer"),
        (
            lambda: Block((Layer(np.zeros((1, 3, 3)), activation="relu"),), residual=True),
            "last layer",
        ),
        (lambda: Gate(ConstantRouter(), ()), "at least one layer"),
        (lambda: make_gate(RNG, top_k=4), r"1 \.\.\. 3; got 4"),
        (lambda: make_gate(RNG, top_k=0), r"1 \.\.\. 3; got 0"),
        (lambda: make_gate(RNG, temperature=0.0), "temperature must be positive"),
        (
            lambda: Gate(ConstantRouter(), (Layer(np.zeros((1, 1, 1)), axis="channel"),)),
            "axis='time'",
        ),
        (lambda: Evidence("guess", np.zeros((1, 2, 1)), 1.0), "'guess'"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, step=0), "at least 1; got 0"),
    ],
)
def test_layers_and_gates_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_windows_that_do_not_fit_are_refused():
    mixture, windows, _ = build("channel_weights")
    with pytest.raises(ValueError, match=r"\(n_windows, 3, 12\); got \(5, 2, 12\)"):
        predict_windows(mixture, windows[:, :2])
    with pytest.raises(ValueError, match=r"\(n_windows, 3, 12\); got \(5, 1, 12\)"):
        predict_windows(mixture, windows[:, :1])
    with pytest.raises(ValueError, match=r"got \(5, 3, 11\)"):
        predict_windows(mixture, windows[:, :, 1:])


def test_extra_columns_that_do_not_fit_are_refused():
    mixture, windows, inputs = build("extra_columns")
    with pytest.raises(ValueError, match="needs 2 extra columns; got none"):
        predict_windows(mixture, windows)
    with pytest.raises(ValueError, match="needs 2 extra columns; got 1"):
        predict_windows(mixture, windows, extra=inputs["extra"][:, :, :1])


def test_a_backtest_longer_than_the_context_is_refused():
    evidence = (Evidence("backtest", np.zeros((E, L, 1)), exponent=1.0),)
    rng = np.random.default_rng(8)
    mixture = Mixture(make_weights(rng), gate=make_gate(rng, evidence=evidence))
    with pytest.raises(ValueError, match=r"at least lookback \+ horizon = 13 values; got 12"):
        predict_windows(mixture, make_windows(rng))
