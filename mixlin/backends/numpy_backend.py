"""The float64 reference engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft
from scipy.special import erf, expit, softmax

from .base import Backend, FloatArray, require_bins, require_fold

Float64Array = npt.NDArray[np.float64]

_BLOCK_ELEMENTS = 2**18  # 2 MiB of float64 columns: in cache, and enough for a threaded product


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
        for score, exponent in scores:
            evidence = exponent * np.log(np.maximum(score, np.finfo(np.float64).tiny))
            logits = logits - (evidence if logits.ndim == 3 else evidence[:, :, None, :])
        if top_k is not None and top_k < logits.shape[-1]:
            order = np.argsort(-logits, axis=-1, kind="stable")
            keep = np.zeros(logits.shape, dtype=bool)
            np.put_along_axis(keep, order[..., :top_k], True, axis=-1)
            logits = np.where(keep, logits, -np.inf)
        weights: Float64Array = softmax(logits / temperature, axis=-1)
        return weights

    def mix(
        self, x: Float64Array, w: Float64Array, b: Float64Array | None, g: Float64Array
    ) -> Float64Array:
        experts = self.linear(x, w, b)
        experts = experts.reshape(*experts.shape[:2], g.shape[-1], w.shape[2] // g.shape[-1])
        if g.ndim == 3:
            mixed: Float64Array = np.matmul(g[:, :, None, :], experts)[:, :, 0, :]
        else:
            spread = np.broadcast_to(g, (len(g), experts.shape[1], *g.shape[2:]))
            mixed = np.einsum("ncke,ncek->nck", spread, experts)
        return mixed

    def energy(self, x: Float64Array, u: Float64Array) -> Float64Array:
        projected = np.einsum("ncl,elr->ncer", x, u, optimize=True)
        return np.asarray(np.einsum("ncer,ncer->nce", projected, projected))

    def backtest(self, x: Float64Array, w: Float64Array, step: int) -> Float64Array:
        n_experts, lookback, horizon = w.shape
        length = lookback + horizon
        require_fold(x.shape[-1], lookback, horizon)
        folds = np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)[:, :, ::-1][
            :, :, ::step
        ]
        packed = w.transpose(1, 0, 2).reshape(lookback, n_experts * horizon)
        out = np.empty((*x.shape[:2], n_experts))
        for row, fold in enumerate(folds):  # bounds the memory of the folds' forecasts
            forecast = (fold[..., :lookback] @ packed).reshape(*fold.shape[:2], n_experts, horizon)
            error = np.abs(forecast - fold[:, :, None, lookback:])
            out[row] = error.mean(axis=(1, 3))
        return out

    def compile(self, fn: Callable[..., Any], key: object) -> Callable[..., Any]:
        return fn

    def close(self) -> None:
        return None
