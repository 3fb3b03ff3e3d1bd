"""The float64 reference engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft
from scipy.special import erf, expit, softmax

from .base import Backend, FloatArray, fold_steps, require_bins, require_fold
from .mixing import Folding, cheapest

Float64Array = npt.NDArray[np.float64]

_BLOCK_ELEMENTS = 2**18  # 2 MiB of float64 columns: in cache, and enough for a threaded product
_RESULT_ELEMENTS = 2**20  # of forecasts of folds, and of folded experts, that are held at a time
_FULL_ROWS = 128  # of a product, from which on it is fast


def _elu(x: Float64Array) -> Float64Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


_ACTIVATIONS: dict[str, Callable[[Float64Array], Float64Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + erf(x / np.sqrt(2.0))),
    "elu": _elu,
    "tanh": np.tanh,
    "sigmoid": expit,
}


def _product(x: Float64Array, w: Float64Array) -> Float64Array:
    """Multiply rows (n, C or 1, ..., K) by weights (G, K, M), G = 1 or C."""
    if w.shape[0] == 1:
        flat: Float64Array = x.reshape(-1, x.shape[-1]) @ w[0]
        return flat.reshape(*x.shape[:-1], w.shape[2])
    by_channel = np.moveaxis(x, 1, 0)
    rows = by_channel.reshape(x.shape[1], -1, x.shape[-1])
    out = np.matmul(rows, w).reshape(-1, *by_channel.shape[1:-1], w.shape[2])
    return np.moveaxis(out, 0, 1)


def _mixed(x: Float64Array, w: Float64Array, gates: Float64Array) -> Float64Array:
    """Weigh the experts of rows (R, K) by gates (R, E), in the cheapest way."""
    n_experts = gates.shape[1]
    horizon = w.shape[1] // n_experts
    if len(x) == 1:  # only experts with weight are read
        one = np.zeros(horizon)
        for chosen in np.flatnonzero(gates[0]):
            own = w[:, chosen * horizon : (chosen + 1) * horizon]
            one += gates[0, chosen] * (x[0] @ own)
        return one[None]
    form = cheapest(gates, x.shape[1], horizon)
    if form is None:
        experts = (x @ w).reshape(len(x), n_experts, horizon)
        dense: Float64Array = np.matmul(gates[:, None, :], experts)[:, 0]
        return dense
    if isinstance(form, Folding):
        return _folded(x, w, form)
    out = np.zeros((len(x), horizon))
    for expert, rows in zip(*form, strict=True):
        own = w[:, expert * horizon : (expert + 1) * horizon]  # read where it stands
        if len(rows) == len(x):
            out += gates[:, expert, None] * (x @ own)
        else:
            out[rows] += gates[rows, expert, None] * (x[rows] @ own)
    return out


def _folded(x: Float64Array, w: Float64Array, folding: Folding) -> Float64Array:
    """Multiply rows that share their gates by the matrix that their experts fold into."""
    gates = folding.gates
    experts = w.reshape(len(w), gates.shape[1], -1)
    horizon = experts.shape[2]
    out = np.empty((len(x), horizon))
    at_a_time = max(1, _RESULT_ELEMENTS // (len(w) * horizon))
    for start in range(0, len(gates), at_a_time):
        folded = np.matmul(gates[start : start + at_a_time], experts)  # (K, D, H)
        for i, rows in enumerate(folding.rows[start : start + at_a_time]):
            out[rows] = (x if len(gates) == 1 else x[rows]) @ folded[:, i]
    return out


def _block_of_folds(n_folds: int, width: int) -> tuple[int, int]:
    """Return how many rows, and how many folds of each, are back-tested in one product."""
    most = max(1, 4 * _RESULT_ELEMENTS // width)  # 32 MiB, whatever the width
    n = min(most, max(_FULL_ROWS, _RESULT_ELEMENTS // width))
    return max(1, n // n_folds), min(n, n_folds)


class NumpyBackend(Backend):
    """Reference implementation on numpy arrays, always in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> backend = resolve("numpy")
    >>> backend.gate(np.log([[1.0, 3.0, 6.0]]), top_k=2).round(3).tolist()
    [[0.0, 0.333, 0.667]]
    """

    name = "numpy"
    dtypes = ("float64",)
    spreads_missing = True

    def __init__(
        self, device: str | None = None, dtype: str | None = None, options: Sequence[str] = ()
    ) -> None:
        super().__init__(None, dtype, options)
        if device not in (None, "cpu"):
            raise ValueError(
                f"backend 'numpy' computes on the CPU in float64; got device={device!r}. Use "
                "backend='numpy'."
            )
        self.dtype = None  # there is one, so that a spec that names it is the same engine

    def rows_per_block(self, n_channels: int, n_columns: int) -> int | None:
        return max(1, _BLOCK_ELEMENTS // max(1, n_channels * n_columns))

    def put(self, array: FloatArray) -> Float64Array:
        return np.asarray(array, dtype=np.float64)

    def get(self, tensor: Any) -> Float64Array:
        return np.asarray(tensor, dtype=np.float64)

    def reshape(self, x: Float64Array, shape: Sequence[int]) -> Float64Array:
        return x.reshape(tuple(shape))

    def concat(self, tensors: Sequence[Float64Array]) -> Float64Array:
        return np.concatenate(tuple(tensors), axis=-1)

    def linear(
        self,
        x: Float64Array,
        w: Float64Array,
        b: Float64Array | None = None,
        *,
        activation: str | None = None,
        add: Float64Array | None = None,
        axis: int = -1,
    ) -> Float64Array:
        if axis == -2:
            out = np.matmul(w[0].T, x)
            if b is not None:
                out += b[0][:, None]
        else:
            out = _product(x, w)
            if b is not None:
                if b.shape[0] > out.shape[1]:  # per-channel biases on rows that channels share
                    out = np.repeat(out, b.shape[0], axis=1)
                out += b if out.ndim == 3 else b[:, None, :]
        if add is not None:
            out += add
        return out if activation is None else _ACTIVATIONS[activation](out)

    def power(self, x: Float64Array, n_bins: int) -> Float64Array:
        require_bins(x.shape[-1], n_bins)
        spectrum = np.abs(rfft(x, 2 * n_bins, axis=-1)[..., :n_bins]) ** 2
        total = spectrum.sum(axis=-1, keepdims=True)
        return np.asarray(np.divide(spectrum, total, out=np.zeros_like(spectrum), where=total > 0))

    def gate(
        self,
        logits: Float64Array,
        top_k: int | None = None,
        temperature: float = 1.0,
        scores: Sequence[tuple[Float64Array, float]] = (),
    ) -> Float64Array:
        logits = self.penalize(logits, scores)
        if top_k is not None and top_k < logits.shape[-1]:
            order = np.argsort(-logits, axis=-1, kind="stable")
            keep = np.zeros(logits.shape, dtype=bool)
            np.put_along_axis(keep, order[..., :top_k], True, axis=-1)
            logits = np.where(keep, logits, -np.inf)
        weights: Float64Array = softmax(logits / temperature, axis=-1)
        return weights

    def penalize(
        self, logits: Float64Array, scores: Sequence[tuple[Float64Array, float]]
    ) -> Float64Array:
        for score, exponent in scores:
            evidence = exponent * np.log(np.maximum(score, np.finfo(np.float64).tiny))
            logits = logits - (evidence if logits.ndim == 3 else evidence[:, :, None, :])
        return logits

    def mix(
        self, x: Float64Array, w: Float64Array, b: Float64Array | None, g: Float64Array
    ) -> Float64Array:
        n_experts = g.shape[-1]
        horizon = w.shape[2] // n_experts
        if g.ndim == 3 and len(w) == 1 and g.shape[1] <= x.shape[1]:
            gates = np.broadcast_to(g, (*x.shape[:2], n_experts)).reshape(-1, n_experts)
            mixed = _mixed(x.reshape(-1, x.shape[2]), w[0], gates).reshape(*x.shape[:2], horizon)
            return mixed if b is None else mixed + _product(g, b.reshape(-1, n_experts, horizon))
        experts = self.linear(x, w, b)
        experts = experts.reshape(*experts.shape[:2], n_experts, horizon)
        if g.ndim == 3:
            return np.asarray(np.matmul(g[:, :, None, :], experts)[:, :, 0, :])
        spread = np.broadcast_to(g, (len(g), experts.shape[1], *g.shape[2:]))
        return np.asarray(np.einsum("ncke,ncek->nck", spread, experts))

    def energy(self, x: Float64Array, u: Float64Array) -> Float64Array:
        rows = x.reshape(-1, x.shape[2])
        out = np.empty((len(rows), len(u)))
        for expert, factor in enumerate(u):  # copies none of them
            projected = rows @ factor
            out[:, expert] = np.einsum("nr,nr->n", projected, projected)
        return out.reshape(*x.shape[:2], len(u))

    def backtest(
        self,
        x: Float64Array,
        w: Float64Array,
        step: int,
        ahead: Sequence[int] | None = None,
        floor: float = 0.0,
        power: float = 1.0,
    ) -> Float64Array:
        n_experts, lookback, n_steps = w.shape
        steps = fold_steps(n_steps, ahead)
        require_fold(x.shape[-1], lookback, steps[-1])
        rows = x.reshape(-1, x.shape[-1])
        start = (rows.shape[1] - lookback - steps[-1]) % step  # the newest fold ends with the rows
        folds = np.lib.stride_tricks.sliding_window_view(
            rows[:, start:], lookback + steps[-1], axis=1
        )[:, ::step]
        packed = w.transpose(1, 0, 2).reshape(lookback, n_experts * n_steps)
        aimed = lookback - 1 + np.array(steps)
        totals, aims = np.zeros((len(rows), n_experts)), np.zeros((len(rows), 1))
        some_rows, some_folds = _block_of_folds(folds.shape[1], packed.shape[1])
        forecasts = np.empty((min(some_rows, len(rows)) * some_folds, packed.shape[1]))
        for i, j in product(range(0, len(rows), some_rows), range(0, folds.shape[1], some_folds)):
            block = folds[i : i + some_rows, j : j + some_folds]
            n, n_folds = block.shape[:2]
            targets = block[:, :, aimed]
            seen = block[:, :, :lookback].reshape(-1, lookback)
            forecast = np.matmul(seen, packed, out=forecasts[: len(seen)])
            error = forecast.reshape(len(seen), n_experts, n_steps)
            error -= targets.reshape(-1, 1, n_steps)
            np.abs(forecast, out=forecast)
            mean = forecast.reshape(-1, n_steps) @ np.full(n_steps, 1 / n_steps)
            totals[i : i + n] += (mean**power).reshape(n, n_folds, n_experts).sum(axis=1)
            aims[i : i + n] += np.abs(targets).mean(axis=2).sum(axis=1, keepdims=True)
        means, aim = totals / folds.shape[1], aims / folds.shape[1]
        return np.asarray(means ** (1 / power) + floor * aim).reshape(*x.shape[:2], n_experts)

    def compile(self, fn: Callable[..., Any], key: object) -> Callable[..., Any]:
        return fn

    def close(self) -> None:
        return None
