"""Gates: logits to weights, with the losses of experts on the window itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import fold_steps, require_bins, require_fold
from . import matrices, products
from .calls import Calls
from .tiles import Tile, Weight

FloatArray = npt.NDArray[np.float64]

_TINY = 1e-30  # a normal number in bfloat16
_NEVER = -1e30  # a logit whose weight is zero
_DENSE_EXPERTS = 32  # up to here comparing all pairs of experts is cheaper than topk


def gate(
    calls: Calls,
    logits: Tile,
    top_k: int | None = None,
    temperature: float = 1.0,
    scores: Sequence[tuple[Tile, float]] = (),
) -> Tile:
    """Turn logits into weights."""
    logits = penalize(calls, logits, scores)
    if top_k is not None and top_k < logits.width:
        logits = _masked(calls, logits, top_k)
    if temperature != 1.0:
        logits = calls.scalar("multiply", logits, 1.0 / temperature)
    return calls.unary(
        "softmax", logits, dim=-1, numeric_stable=True, compute_kernel_config=calls.precision()
    )


def penalize(calls: Calls, logits: Tile, scores: Sequence[tuple[Tile, float]]) -> Tile:
    """Subtract the logarithms of losses from logits."""
    logits = calls.by_rows(logits)
    for score, exponent in scores:
        loss = calls.unary("log", calls.scalar("maximum", calls.whole(score), _TINY))
        loss = calls.scalar("multiply", loss, exponent)
        if logits.steps:
            loss = calls.by_rows(_over_steps(calls, loss, logits.steps))
        logits = calls.binary("subtract", logits, loss)
    return logits


def _over_steps(calls: Calls, x: Tile, steps: int) -> Tile:
    """Repeat rows (n, C, K) for every step, as columns."""
    repeated = calls.by_constant(
        x, ("repeat", x.width, steps), lambda: np.tile(np.eye(x.width), (1, steps))
    )
    return replace(repeated, steps=steps)


def _masked(calls: Calls, logits: Tile, top_k: int) -> Tile:
    """Give logits beyond the ``top_k`` largest the value that gets no weight."""
    n_experts = logits.width
    if n_experts > _DENSE_EXPERTS:
        keep = _scattered_top_k(calls, logits, top_k)
    else:  # an expert is kept if fewer than top_k stand before it
        differences = products.differences(calls, logits, _TINY)
        before = calls.scalar("gt", differences, 0.0)
        rank = _summed(calls, before, n_experts, n_experts)
        keep = calls.scalar("lt", rank, float(top_k))
    source = calls.op("where", keep, logits, _NEVER, shape=logits.source.shape)
    return replace(logits, source=source)


def _scattered_top_k(calls: Calls, logits: Tile, top_k: int) -> Any:
    """Return 1 where an expert is kept; scatter takes nothing finer than bfloat16."""
    card = calls.card
    groups, rows, n_experts = logits.source.shape
    _, indices = card.call("topk", logits.source.tensor, top_k, -1, True, True)
    full, kept = (groups, rows, n_experts), (groups, rows, top_k)
    zeros = calls.constant(("zeros", full), lambda: np.zeros(full), "bfloat16")
    ones = calls.constant(("ones", kept), lambda: np.ones(kept), "bfloat16")
    mask = card.call("scatter", zeros, -1, indices, ones)
    if calls.dtype != "bfloat16":
        mask = card.call("typecast", mask, getattr(card.tt, calls.dtype))
    return mask


def power(calls: Calls, x: Tile, n_bins: int) -> Tile:
    """Return the normalized periodogram: two products, squares, and a sum."""
    length = x.width
    require_bins(length, n_bins)
    x = calls.whole(x)
    squares = [
        calls.unary(
            "square",
            calls.by_constant(
                x, (kind, length, n_bins), partial(matrices.dft, length, n_bins, kind)
            ),
        )
        for kind in ("cosine", "sine")
    ]
    spectrum = calls.binary("add", *squares)
    total = calls.by_constant(spectrum, ("sum", n_bins), lambda: np.ones((n_bins, 1)))
    inverse = calls.unary("reciprocal", calls.scalar("maximum", total, _TINY))
    return calls.binary("multiply", spectrum, inverse)


def energy(calls: Calls, x: Tile, u: Weight) -> Tile:
    """Return the sum of squares of every expert's projection."""
    n_experts, _, rank = u.shape
    projected = _evidence(calls, x, u, "energy", lambda: matrices.packed(u.array))
    return _summed(calls, calls.unary("square", projected), n_experts, rank)


def backtest(
    calls: Calls,
    x: Tile,
    w: Weight,
    step: int,
    ahead: Sequence[int] | None = None,
    floor: float = 0.0,
    power: float = 1.0,
) -> Tile:
    """Return every expert's error on folds: one product for many folds.

    With a floor, the targets stand there as the errors of one more expert.
    """
    n_experts, lookback, n_steps = w.shape
    steps = fold_steps(n_steps, ahead)
    length = x.width
    require_fold(length, lookback, steps[-1])
    floored = floor > 0
    width = (n_experts + floored) * n_steps
    chunks = matrices.fold_chunks(length, lookback + steps[-1], step, width)
    n_folds = sum(map(len, chunks))
    share = floor * n_folds ** (1 / power - 1)  # in units of what is multiplied at the end
    total: Tile | None = None
    targets: Tile | None = None
    for starts in chunks:
        errors = calls.unary(
            "abs",
            _evidence(
                calls,
                x,
                w,
                ("backtest", length, starts, steps, floored),
                partial(matrices.fold_errors, w.array, length, starts, steps, targets=floored),
            ),
        )
        n = len(starts) * n_steps
        behind = n * floored
        if power == 1:
            scores = _summed(calls, errors, n_experts, n, behind, share)
        else:
            folds = _summed(calls, errors, n_experts * len(starts), n_steps, behind)
            scores = _summed(calls, _raised(calls, folds, power), n_experts, len(starts))
            if floored:
                aims = _summed(calls, errors, n_experts, n, behind, share, 0.0)
                targets = _plus(calls, targets, aims)
        total = _plus(calls, total, scores)
    assert total is not None
    if power != 1:
        total = _raised(calls, total, 1 / power)
    if targets is not None:
        total = calls.binary("add", total, targets)
    return calls.scalar("multiply", total, 1.0 / (n_folds ** (1 / power) * n_steps))


def _plus(calls: Calls, x: Tile | None, y: Tile) -> Tile:
    return y if x is None else calls.binary("add", x, y)


def _summed(
    calls: Calls,
    x: Tile,
    n: int,
    width: int,
    behind: int = 0,
    share: float = 0.0,
    own: float = 1.0,
) -> Tile:
    """Sum groups of columns, as :func:`matrices.sums` does."""
    sizes = (n, width, behind, share, own)
    return calls.by_constant(x, ("sums", *sizes), lambda: matrices.sums(*sizes))


def _raised(calls: Calls, x: Tile, power: float) -> Tile:
    name = {0.5: "sqrt", 2.0: "square"}.get(power)  # exact, where a power is made of logarithms
    return calls.scalar("pow", x, power) if name is None else calls.unary(name, x)


def _evidence(
    calls: Calls, x: Tile, w: Weight, form: object, build: Callable[[], FloatArray]
) -> Tile:
    """Multiply rows by what ``build`` makes of an evidence's weights, shape (L, M)."""
    x = calls.first_channel(x)
    groups, rows, total = x.source.shape
    weight = w.placed(
        calls.card,
        (form, x.start, total),
        lambda: matrices.embedded(build()[None], x.start, total),
    )
    shape = (groups, rows, weight.shape[-1])
    source = calls.matmul(x.source, weight, shape)
    return Tile(source, x.n, groups, 0, shape[2])
