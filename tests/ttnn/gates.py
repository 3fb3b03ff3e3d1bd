"""Mixtures by the form of their gate, of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixlin.layers import Block, Layer
from mixlin.mixture import Mixture
from mixlin.normalization import Normalization
from mixlin.routing import Evidence, Gate, Router

FEATURES = 4


@dataclass(frozen=True)
class CalendarLikeRouter(Router):
    """Four numbers per window that all channels share, as if of the calendar."""

    per_step: bool = False

    def features(self, windows, timestamps, horizon):
        phases = windows[:, :1, :1] + np.arange(FEATURES) / 3
        out = np.cos(phases)
        if self.per_step:
            out = out[:, :, None] * np.cos(np.arange(horizon) / 5)[:, None]
        return out


def layer(rng, groups, n_inputs, n_outputs, activation=None):
    weight = rng.normal(size=(groups, n_inputs, n_outputs)) / np.sqrt(n_inputs)
    return Layer(weight, rng.normal(size=(groups, n_outputs)), activation)


def build(gate, channels, horizon, n_experts, lookback=336, seed=0):
    """Return a mixture; ``gate`` is a name of :data:`GATES`, or None for one expert."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(1, n_experts, lookback, horizon)) / np.sqrt(lookback)
    parts = {} if gate is None else GATES[gate](rng, channels, lookback, n_experts)
    return Mixture(
        weights,
        rng.normal(size=(1, n_experts, horizon)),
        **{"normalization": Normalization("mean"), **parts},
    )


def with_gate(*layers, per_step=False, **options):
    return {"gate": Gate(CalendarLikeRouter(per_step), layers, **options)}


def one_layer(rng, channels, lookback, n_experts, **options):
    return with_gate(layer(rng, 1, FEATURES, n_experts), **options)


def two_layers(rng, channels, lookback, n_experts):
    hidden = layer(rng, 1, FEATURES, 16, "relu")
    return with_gate(hidden, layer(rng, 1, 16, n_experts))


def a_gate_per_channel(rng, channels, lookback, n_experts):
    width = channels * n_experts
    hidden = layer(rng, 1, FEATURES, width, "relu")
    return with_gate(hidden, layer(rng, channels, width, n_experts))


def a_gate_per_step(rng, *sizes):
    return one_layer(rng, *sizes, per_step=True)


def the_two_best(rng, *sizes):
    return one_layer(rng, *sizes, top_k=2)


def the_best_per_step(rng, *sizes):
    return one_layer(rng, *sizes, per_step=True, top_k=1)


def energy(rng, channels, lookback, n_experts):
    factors = rng.normal(size=(n_experts, lookback, 16))
    return one_layer(
        rng, channels, lookback, n_experts, evidence=(Evidence("energy", factors, 1.0),)
    )


def backtest(rng, channels, lookback, n_experts):
    experts = rng.normal(size=(n_experts, lookback // 2, lookback // 14))
    evidence = (Evidence("backtest", experts, 1.0, step=lookback // 14),)
    return one_layer(rng, channels, lookback, n_experts, evidence=evidence)


def backtest_of_a_bank(rng, channels, lookback, n_experts):
    experts = rng.normal(size=(n_experts, lookback // 2, 6))
    ahead = tuple(range(1, lookback // 10, max(1, lookback // 60)))[:6]
    options = {"step": lookback // 20, "ahead": ahead, "floor": 1e-3, "power": 0.5}
    evidence = (Evidence("backtest", experts[..., : len(ahead)], 1.0, **options),)
    return one_layer(rng, channels, lookback, n_experts, evidence=evidence)


def residual_block_before(rng, channels, lookback, n_experts):
    block = Block((layer(rng, 1, lookback, 64, "relu"), layer(rng, 1, 64, lookback)), residual=True)
    return one_layer(rng, channels, lookback, n_experts) | {"pre": (block,)}


def gelu_layer_before(rng, channels, lookback, n_experts):
    block = Block((layer(rng, 1, lookback, lookback, "gelu"),))
    scaled = Normalization("mean", scaled=True)
    return one_layer(rng, channels, lookback, n_experts) | {
        "pre": (block,),
        "normalization": scaled,
    }


def channels_mixed_before(rng, channels, lookback, n_experts):
    over_channels = Layer(rng.normal(size=(1, channels, channels)), axis="channel")
    return one_layer(rng, channels, lookback, n_experts) | {"pre": (Block((over_channels,)),)}


def layer_after(rng, channels, lookback, n_experts):
    horizon = 96
    block = Block((layer(rng, 1, horizon, horizon),))
    return one_layer(rng, channels, lookback, n_experts) | {"post": (block,)}


DENSE = {
    "one layer": one_layer,
    "two layers": two_layers,
    "per channel": a_gate_per_channel,
}
OTHERS = {
    "per step": a_gate_per_step,
    "top 2": the_two_best,
    "top 1 per step": the_best_per_step,
    "energy": energy,
    "backtest": backtest,
    "backtest of a bank": backtest_of_a_bank,
    "residual block before": residual_block_before,
    "gelu layer before": gelu_layer_before,
    "channels mixed before": channels_mixed_before,
    "layer after": layer_after,
}
GATES = DENSE | OTHERS
