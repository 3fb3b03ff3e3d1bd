"""The published Super-Linear model as plain loops over its definition, and random weights."""

import json
import math
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "superlinear_small.npz"
CASES = (
    "plain",
    "one_step",
    "long_horizon",
    "short_context",
    "resampled",
    "resampled_long",
    "block",
    "constant",
)


def load_golden():
    """Return the stored arrays, the configuration and the state dict."""
    with np.load(GOLDEN) as file:
        arrays = {key: file[key] for key in file}
    state = {key[3:]: value for key, value in arrays.items() if key.startswith("sd.")}
    return arrays, json.loads(str(arrays["config"])), state


# -- one block ---------------------------------------------------------------------------------


def dot(a, b):
    return sum(u * v for u, v in zip(a, b, strict=True))


def periodogram(x, n):
    """Return the normalized periodogram of a window padded, or cut, to n samples."""
    mean = sum(x) / len(x)
    z = np.array([value - mean for value in x[:n]])
    t = np.arange(len(z))
    power = [abs((z * np.exp(-2j * np.pi * k * t / n)).sum()) ** 2 / n for k in range(n // 2)]
    total = sum(power)
    if total <= 1e-20 * max(abs(mean), 1e-300) ** 2:  # rounding
        return [0.0] * len(power)
    return [value / total for value in power]


def expert_tokens(config):
    given = config["freq_experts"]
    tokens = given.split("_") if isinstance(given, str) else list(given)
    n = config["comp_moe"]
    tokens += ["comp"] if n == 1 else [f"comp_{i}" for i in range(n)]
    return list(dict.fromkeys(tokens))


def logits_of(state, config, x):
    """Return what a window's gate says of every expert, the temperature included."""
    weight, bias = state["moe.gating_network.weight"], state["moe.gating_network.bias"]
    seen = periodogram(x, config["fft_len"]) if config["use_fft"] else x
    out = [dot(weight[e], seen) + bias[e] for e in range(len(bias))]
    if config["moe_norm"]:
        for e in range(len(out)):
            norm = {
                kind: state[f"moe.batch_norm.{kind}"][e]
                for kind in ("weight", "bias", "running_mean", "running_var")
            }
            unit = (out[e] - norm["running_mean"]) / math.sqrt(norm["running_var"] + 1e-5)
            out[e] = unit * norm["weight"] + norm["bias"]
    return [value / config["moe_temp"] for value in out]


def softmax(values):
    raw = [math.exp(value - max(values)) for value in values]
    return [value / sum(raw) for value in raw]


def spread_of(x):
    mean = sum(x) / len(x)
    return math.sqrt(sum((value - mean) ** 2 for value in x) / (len(x) - 1))


def block_forecast(state, config, x, eps=1e-5):
    """Return the forecast (H,) of one window and how the experts are weighed, (E,)."""
    L, H = config["train_seq_len"], config["train_pred_len"]
    assert len(x) == L
    tokens, logits = expert_tokens(config), logits_of(state, config, x)
    order = sorted(range(len(tokens)), key=lambda e: (-logits[e], e))
    kept = order[: config["top_k_experts"]]
    gates = dict(zip(kept, softmax([logits[e] for e in kept]), strict=True))
    mean, scale = sum(x) / L, spread_of(x) + eps
    unit = [(value - mean) / scale for value in x]
    y = [0.0] * H
    for e, gate in gates.items():
        if tokens[e].lower() == "mean":
            own = [sum(unit) / L] * H
        elif tokens[e].lower() == "naive":
            own = [unit[-1]] * H
        else:
            weight = state[f"moe.experts.{e}.Linear.weight"]
            own = [dot(weight[h], unit) for h in range(H)]
            own = [a + b for a, b in zip(own, state[f"moe.experts.{e}.Linear.bias"], strict=True)]
        y = [total + gate * value for total, value in zip(y, own, strict=True)]
    return [scale * value + mean for value in y], [gates.get(e, 0.0) for e in range(len(tokens))]


# -- around the block, as published --------------------------------------------------------------


def half_pixel(x, factor):
    """Interpolate between the centers of values that become ``factor`` times as many."""
    n = math.floor(len(x) * factor)
    return [between(x, max((i + 0.5) / factor - 0.5, 0.0)) for i in range(n)]


def end_to_end(x, factor):
    """Interpolate so that the first and the last value are kept."""
    n = math.floor(len(x) * factor)
    return [between(x, i * (len(x) - 1) / (n - 1) if n > 1 else 0.0) for i in range(n)]


def between(x, position):
    before = min(int(position), len(x) - 1)
    after = min(before + 1, len(x) - 1)
    share = position - int(position)
    return x[before] * (1 - share) + x[after] * share


def entropy(state, config, x):
    return -sum(p * math.log(p + 1e-10) for p in softmax(logits_of(state, config, x)))


def search(state, config, x):
    """Return the window of a long context and its scale."""
    L, n = config["train_seq_len"], config["fft_len"]
    window, scale = x[-L:], 1.0
    power = periodogram(x, n)
    frequencies = [0.5 * k / (n // 2 - 1) for k in range(n // 2)]
    total, edge = 0.0, frequencies[0]
    for value, frequency in zip(power, frequencies, strict=True):
        total += value
        if total > 1 - config["threshold"]:
            edge = frequency
            break
    largest = math.floor(config["freq_bound"] / (edge or config["freq_bound"]))
    if config["threshold"] == 0:
        largest = math.inf
    best = entropy(state, config, window)
    given = config["scale_list"]
    for s in [float(v) for v in given.split(",")] if isinstance(given, str) else given:
        thinned = end_to_end(x, 1 / s)
        if len(thinned) < L:
            continue
        lost = sum(p for p, f in zip(power, frequencies, strict=True) if s > 1 and f > 0.5 / s)
        score = entropy(state, config, thinned[-L:]) + config["penalty_scale"] * lost
        if score < best and s <= largest:
            window, scale, best = thinned[-L:], s, score
    return window, scale


def official_forecast(state, config, x, horizon):
    """Return forecasts of one series of any length, the scale, and the first block's gates.

    One step is missing where the published model loses it to rounding.
    """
    L, H = config["train_seq_len"], config["train_pred_len"]
    x, wanted, factor, scale = list(x), horizon, None, 1.0
    if len(x) < L:
        factor = -(-L // len(x))
        x, wanted = half_pixel(x, factor)[-L:], horizon * factor
    elif len(x) > L:
        x, scale = search(state, config, x) if config["lookback_resampling"] else (x[-L:], 1.0)
    y, gates = block_forecast(state, config, x)
    while wanted > H and len(y) < wanted:
        x = (x + y[-H:])[-L:]
        new, _ = block_forecast(state, config, x)
        if config["long_horizon_scaling"] and H > 1:
            wide, old, mean = spread_of(new), spread_of(x), sum(new) / H
            if wide > old:
                new = [(value - mean) * old / (wide + 1e-8) + mean for value in new]
        y = y + new
    y = y[: max(wanted, H)]
    if scale > 1:
        y = end_to_end(y, scale)
    if factor is not None:
        y = half_pixel(y, 1 / factor)
        scale = 1 / factor
    return y[:horizon], scale, gates


# -- random weights ------------------------------------------------------------------------------


def make_config(**changes):
    return {
        "train_seq_len": 24,
        "train_pred_len": 6,
        "top_k_experts": 3,
        "moe_temp": 1.0,
        "moe_norm": False,
        "comp_moe": 2,
        "use_fft": True,
        "fft_len": 100,
        "freq_experts": "mean_naive_1/4_1/12",
        "long_horizon_scaling": 1,
        "lookback_resampling": 1,
        "scale_list": "2,4",
        "threshold": 0.2,
        "freq_bound": 0.25,
        "penalty_scale": 2.0,
        **changes,
    }


def make_state(config, seed=0, sharpness=8.0, dtype=np.float64):
    """Return random weights; gates differ from window to window."""
    rng = np.random.default_rng(seed)
    L, H, tokens = config["train_seq_len"], config["train_pred_len"], expert_tokens(config)
    state = {}
    for e, token in enumerate(tokens):
        if token.lower() not in ("mean", "naive"):
            state[f"moe.experts.{e}.Linear.weight"] = rng.normal(size=(H, L)) / np.sqrt(L)
            state[f"moe.experts.{e}.Linear.bias"] = rng.normal(size=H) / 4
    n_seen = config["fft_len"] // 2 if config["use_fft"] else L
    state["moe.gating_network.weight"] = rng.normal(size=(len(tokens), n_seen)) * sharpness
    state["moe.gating_network.bias"] = rng.normal(size=len(tokens)) / 4
    if config["moe_norm"]:
        for kind in ("weight", "bias", "running_mean"):
            state[f"moe.batch_norm.{kind}"] = rng.normal(size=len(tokens))
        state["moe.batch_norm.running_var"] = rng.uniform(0.5, 2.0, len(tokens))
    state = {key: value.astype(dtype) for key, value in state.items()}
    if config["moe_norm"]:
        state["moe.batch_norm.num_batches_tracked"] = np.array(7)
    return state


def make_series(n, length, seed=0):
    """Return series (n, 2, length): slow and fast seasons, noise, walks, levels far from zero."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    period = rng.choice([4, 7, 12, 24, 50, 90], size=(n, 2, 1))
    season = np.sin(2 * np.pi * t / period + rng.uniform(0, 6, (n, 2, 1)))
    noise = rng.normal(size=(n, 2, length)) * rng.uniform(0.01, 0.5, (n, 2, 1))
    walk = np.cumsum(rng.normal(size=(n, 2, length)), axis=2) * rng.choice([0, 0.05], (n, 2, 1))
    series = season + noise + walk + rng.normal(size=(n, 2, 1)) * 5
    series[0, 1] = 3.25  # a constant
    return series * 10.0 ** rng.integers(-1, 3, (n, 2, 1))
