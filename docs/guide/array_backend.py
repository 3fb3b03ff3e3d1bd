"""A whole engine in one file: any array library that follows numpy's names."""

import importlib

import numpy as np

from mixlin.backends import Backend, BackendNotAvailableError

# the device part of the spec chooses the library: "arrays", "arrays:cupy", "arrays:jax"
LIBRARIES = {
    "numpy": ("numpy", "scipy.special"),
    "cupy": ("cupy", "cupyx.scipy.special"),
    "jax": ("jax.numpy", "jax.scipy.special"),
}


class ArrayBackend(Backend):
    """Arrays of numpy, CuPy or JAX; nothing is written in place, which JAX would refuse."""

    name = "arrays"
    dtypes = ("float64", "float32")
    spreads_missing = True

    def __init__(self, device=None, dtype=None, options=()):
        super().__init__(device, dtype, options)
        if (device or "numpy") not in LIBRARIES:
            raise ValueError(
                f"backend 'arrays' has no library {device!r}; accepted: {', '.join(LIBRARIES)}."
            )
        try:
            array, special = map(importlib.import_module, LIBRARIES[device or "numpy"])
        except ImportError as error:
            raise BackendNotAvailableError(f"backend {self.spec!r}: {error}.") from error
        self.xp = array
        self.activations = {
            "relu": lambda x: array.maximum(x, 0),
            "gelu": lambda x: x * (1 + special.erf(x / 2**0.5)) / 2,
            "elu": lambda x: array.where(x > 0, x, array.expm1(array.minimum(x, 0))),
            "tanh": array.tanh,
            "sigmoid": special.expit,
        }

    def put(self, array):
        return self.xp.asarray(array, dtype=self.dtype or "float64")

    def get(self, tensor):
        return np.asarray(tensor.get() if hasattr(tensor, "get") else tensor)

    def reshape(self, x, shape):
        return self.xp.reshape(x, tuple(shape))

    def concat(self, tensors):
        return self.xp.concatenate(tuple(tensors), axis=-1)

    def linear(self, x, w, b=None, *, activation=None, add=None, axis=-1):
        if axis == -2:  # channels to channels
            out = self.xp.matmul(w[0].T, x)
            out = out if b is None else out + b[0][:, None]
        else:  # channels in front: one group, or one per channel, broadcasts there
            rows = self.xp.moveaxis(x, 1, 0)
            out = self.xp.matmul(rows, w if rows.ndim == 3 else w[:, None])
            out = self.xp.moveaxis(out, 0, 1)
            if b is not None:
                out = out + (b if out.ndim == 3 else b[:, None])
        out = out if add is None else out + add
        return self.activations[activation](out) if activation else out

    def power(self, x, n_bins):
        if x.shape[-1] > 2 * n_bins:
            least = f"n_bins >= {-(-x.shape[-1] // 2)} for rows of length {x.shape[-1]}"
            raise ValueError(f"power needs {least}; got {n_bins=}.")
        spectrum = self.xp.abs(self.xp.fft.rfft(x, 2 * n_bins)[..., :n_bins]).astype(x.dtype)
        total = (spectrum**2).sum(axis=-1, keepdims=True)
        return spectrum**2 / self.xp.where(total > 0, total, 1)

    def gate(self, logits, top_k=None, temperature=1.0, scores=()):
        xp, logits = self.xp, self.penalize(logits, scores)
        n_experts = logits.shape[-1]
        if top_k is not None and top_k < n_experts:
            mine, other = logits[..., :, None], logits[..., None, :]
            earlier = xp.tril(xp.ones((n_experts, n_experts), dtype=bool), -1)
            rank = ((other > mine) | ((other == mine) & earlier)).sum(axis=-1)
            logits = xp.where(rank < top_k, logits, -np.inf)
        raised = xp.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
        return raised / raised.sum(axis=-1, keepdims=True)

    def penalize(self, logits, scores):
        for score, exponent in scores:
            loss = exponent * self.xp.log(self.xp.maximum(score, 1e-37))
            logits = logits - (loss if logits.ndim == 3 else loss[:, :, None])
        return logits

    def mix(self, x, w, b, g):
        experts = self.linear(x, w, b)
        experts = experts.reshape(*experts.shape[:2], g.shape[-1], w.shape[2] // g.shape[-1])
        return ((g[..., None] if g.ndim == 3 else g.swapaxes(2, 3)) * experts).sum(axis=2)

    def energy(self, x, u):
        packed = u.transpose(1, 0, 2).reshape(1, u.shape[1], -1)
        projected = self.linear(x, packed).reshape(*x.shape[:2], len(u), u.shape[2])
        return (projected**2).sum(axis=-1)

    def backtest(self, x, w, step, ahead=None, floor=0.0, power=1.0):
        n_experts, lookback, n_steps = w.shape
        steps = np.array(range(1, n_steps + 1) if ahead is None else ahead)
        starts = range(x.shape[-1] - lookback - steps[-1], -1, -step)
        if not starts:
            least = f"contexts of at least lookback + horizon = {lookback + steps[-1]} values"
            raise ValueError(f"backtest needs {least}; got {x.shape[-1]}.")
        packed = w.transpose(1, 0, 2).reshape(1, lookback, -1)
        total, aims = 0, 0
        for start in starts:
            forecast = self.linear(x[..., start : start + lookback], packed)
            target = x[..., None, start + lookback - 1 + steps]
            error = forecast.reshape(*x.shape[:2], n_experts, n_steps) - target
            total = total + self.xp.abs(error).mean(axis=-1) ** power
            aims = aims + self.xp.abs(target).mean(axis=-1)
        return (total / len(starts)) ** (1 / power) + floor / len(starts) * aims

    def compile(self, fn, key):
        return fn

    def close(self):
        pass
