"""Products of rows and weights, and mixtures of packed experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import matrices
from .calls import Calls
from .card import TILE
from .tiles import Tile, Weight

FloatArray = npt.NDArray[np.float64]

_FLOPS_PER_BYTE = 100.0  # how many operations cost as much as moving a byte


def product(
    calls: Calls,
    x: Tile,
    w: Weight,
    b: Weight | None,
    *,
    relu: bool = False,
    by_step: int = 0,
    plus: Any = None,
) -> Tile:
    """Return ``x @ w + b``; with ``by_step`` experts the columns are ordered by step.

    A hidden layer hands the column of ones on, so that the next bias is free as well. A constant
    may be added where biases are free.
    """
    if w.shape[1] != x.width:
        raise ValueError(f"rows of {x.width} columns meet weights of shape {w.shape}.")
    has_ones = x.in_parts or (x.ones is not None and not (x.steps and not x.by_rows))
    riding = b if has_ones else None
    added = None if riding is None else riding.array
    n_groups = max(len(w.array), 1 if added is None else len(added))
    if x.steps:
        x = calls.by_rows(x)
    elif n_groups == 1:
        x = calls.first_channel(x)
    groups, rows, total = x.source.shape
    apart = b if riding is None else None
    ones = x.ones if riding else None
    hands_on = relu and riding is not None

    def columns() -> FloatArray:
        if x.in_parts:
            return matrices.weights_in_parts(w.array, x.start, total, added, hands_on=hands_on)
        return matrices.embedded(
            w.array, x.start, total, ones, added, n_by_step=by_step, hands_on=hands_on
        )

    weight = w.placed(
        calls.card,
        ("product", x.start, total, x.in_parts, ones, riding, by_step, hands_on),
        columns,
        "bfloat16" if x.in_parts else None,
    )
    fused = apart if apart is not None and n_groups == len(apart.array) == 1 else None
    later = apart if fused is None else None
    shape = (max(groups, n_groups), rows, w.shape[2] + hands_on)
    source = calls.matmul(
        x.source,
        weight,
        shape,
        bias=plus if fused is None else _bias(calls, fused, by_step),
        relu=relu and later is None,
    )
    tile = Tile(source, x.n, shape[0], 0, w.shape[2], x.steps, bool(x.steps))
    tile = replace(tile, ones=w.shape[2]) if hands_on else tile
    if not relu and apart is None and w.shape[2] <= TILE:  # wide rows are not kept for it
        source.made_of = (x, w, b)
    if later is not None:
        grouped = (max(shape[0], len(later.array)), *shape[1:])
        source = calls.op("add", tile, _bias(calls, later, by_step), shape=grouped)
        tile = replace(tile, source=source, channels=grouped[0])
        tile = calls.unary("relu", tile) if relu else tile
    return tile


def differences(calls: Calls, logits: Tile, tiny: float) -> Tile:
    """Return differences of all pairs of logits, column ``e * E + f`` is f minus e.

    Of equal ones the first is larger by ``tiny``. Where logits are a product, differences are one
    of the same rows, so that they are rounded by themselves and near-ties stay apart.
    """
    n = logits.width
    ties = calls.constant(("ties", n), lambda: matrices.ties(n, tiny))
    made_of = logits.source.made_of
    if made_of is None:
        pairs = calls.constant(("pairs", n), lambda: matrices.pairs(n))
        shape = (*logits.source.shape[:2], n * n)
        return replace(logits, source=calls.matmul(logits.source, pairs, shape, ties), stop=n * n)
    x, w, b = made_of
    both = (None if a is None else a.combined("pairs", lambda: matrices.pairs(n)) for a in (w, b))
    apart_w, apart_b = both
    assert apart_w is not None
    return product(calls, x, apart_w, apart_b, plus=ties)


def _bias(calls: Calls, b: Weight, by_step: int) -> Any:
    def build() -> FloatArray:
        columns = matrices.by_step(b.array[:, None], by_step) if by_step else b.array[:, None]
        return columns[0] if len(columns) == 1 else columns

    return b.placed(calls.card, ("bias", by_step), build, calls.dtype)


def over_channels(calls: Calls, x: Tile, w: Weight, b: Weight | None) -> Tile:
    """Map channels instead of columns: the channel axis is brought to the end and back."""
    x = calls.whole(x)
    groups, rows, width = x.source.shape
    channels = w.shape[2]
    last = calls.op("permute", x, (1, 2, 0), shape=(rows, width, groups))
    weight = w.placed(calls.card, "over channels", lambda: w.array[0])
    bias = None if b is None else _bias(calls, b, 0)
    out = calls.matmul(last, weight, (rows, width, channels), bias)
    source = calls.op("permute", out, (2, 0, 1), shape=(channels, rows, width))
    return Tile(source, x.n, channels, 0, width)


def mix(calls: Calls, x: Tile, w: Weight, b: Weight | None, g: Tile) -> Tile:
    """Return the gate-weighted sum of packed experts, the cheaper of two ways round."""
    n_experts = g.width
    horizon = w.shape[2] // n_experts
    if g.steps:
        return _mix_by_step(calls, x, w, b, g)
    total = x.source.shape[2]
    free_bias = b is None or x.ones is not None
    in_line = total % TILE == 0  # else a concatenation leaves the tiles
    if free_bias and in_line and _weigh_inputs(total, n_experts, horizon):
        return _mix_inputs(calls, x, w, b, g)
    experts = product(calls, x, w, b)
    spread = calls.by_constant(
        g, ("spread", n_experts, horizon), lambda: matrices.spread(n_experts, horizon)
    )
    weighed = calls.binary("multiply", experts, spread)
    return calls.by_constant(
        weighed, ("collapse", n_experts, horizon), lambda: matrices.collapse(n_experts, horizon)
    )


def _mix_by_step(calls: Calls, x: Tile, w: Weight, b: Weight | None, g: Tile) -> Tile:
    n_experts, steps = g.width, g.steps
    experts = product(calls, x, w, b, by_step=n_experts)
    gates = calls.whole(g)
    if g.by_rows:
        groups, rows, _ = gates.source.shape
        shape = (groups, rows // steps, steps * n_experts)
        gates = replace(gates, source=calls.op("reshape", gates, shape, shape=shape))
    gates = replace(gates, stop=steps * n_experts, steps=0, by_rows=False)
    weighed = calls.binary("multiply", experts, gates)
    return calls.by_constant(
        weighed,
        ("collapse steps", n_experts, steps),
        lambda: matrices.sums(steps, n_experts),
    )


def _mix_inputs(calls: Calls, x: Tile, w: Weight, b: Weight | None, g: Tile) -> Tile:
    """Weigh the inputs instead of the outputs: fewer columns where the horizon is long."""
    n_experts = g.width
    x = calls.first_channel(x)
    groups, rows, total = x.source.shape
    shape = (groups, rows, n_experts * total)
    source = calls.op("concat", [x.source] * n_experts, -1, shape=shape)
    copies = Tile(source, x.n, groups, 0, shape[2])
    spread = calls.by_constant(
        g, ("spread", n_experts, total), lambda: matrices.spread(n_experts, total)
    )
    weighed = calls.binary("multiply", copies, spread)
    weight = w.placed(
        calls.card,
        ("stacked", x.start, total, x.ones if b else None, b, n_experts),
        lambda: matrices.stacked(
            matrices.embedded(w.array, x.start, total, x.ones, b.array if b else None),
            n_experts,
        ),
    )
    channels = groups if len(weight.shape) == 2 else weight.shape[0]
    out = (max(channels, weighed.channels), rows, w.shape[2] // n_experts)
    return Tile(calls.matmul(weighed.source, weight, out), x.n, out[0], 0, out[2])


def _weigh_inputs(n_columns: int, n_experts: int, horizon: int) -> bool:
    """Whether weighing the inputs of packed experts costs less than weighing their outputs.

    Both ways are a concatenation or product to E blocks, a product that spreads the gate, a
    multiplication, and a product that ends with H columns. Costs per row, in operations:
    """
    wide_out, wide_in = n_experts * horizon, n_experts * n_columns
    spread = 2 * TILE
    outputs = wide_out * (2 * n_columns + spread + 2 * horizon + 12 * _FLOPS_PER_BYTE)
    inputs = wide_in * (spread + 2 * horizon + 12 * _FLOPS_PER_BYTE)
    return inputs < outputs
