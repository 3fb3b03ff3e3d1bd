"""The engine on torch: CPU, CUDA or MPS, float32 or float64, differentiable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .base import (
    Backend,
    BackendMemoryError,
    BackendNotAvailableError,
    FloatArray,
    fold_steps,
    require_bins,
    require_fold,
)
from .torch_products import ROWS, mix_rows, product

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_BLOCK_ELEMENTS = 2**23  # 32 MiB of float32 columns
_FOLD_ELEMENTS = 2**21  # of forecasts of folds that are held at a time on a CPU


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1.0 + torch.erf(x * 0.5**0.5))


def _elu(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, torch.expm1(x.clamp(max=0.0)))


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1.0 + torch.tanh(0.5 * x))


# torch's own gelu, elu and sigmoid round the last few elements of an array in another way
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "gelu": _gelu,
    "elu": _elu,
    "tanh": torch.tanh,
    "sigmoid": _sigmoid,
}


def _dense_in_some_order(array: FloatArray) -> bool:
    """Whether an array fills its memory, so that a tensor may share it or copy its order."""
    flags = array.flags
    return flags.c_contiguous or array.transpose(np.argsort(array.strides)[::-1]).flags.c_contiguous


def _needs_gradient(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


class TorchBackend(Backend):
    """Tensors of torch on one device.

    Specs: ``"torch"``, ``"torch:cuda:0"``, ``"torch:mps"``, ``"torch:cpu:float64"``,
    ``"torch:cpu:float32:compile"``. Float32 is the default dtype. With ``compile`` the forward
    pass goes through :func:`torch.compile`, which fuses what it can; a row's result may then
    depend on the number of rows in the last digits.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("torch")
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> backend = resolve("torch:cpu:float64")
    >>> gates = backend.gate(backend.put(np.log([[1.0, 3.0, 6.0]])), top_k=2)
    >>> backend.get(gates).round(3).tolist()
    [[0.0, 0.333, 0.667]]
    """

    name = "torch"
    dtypes = tuple(_DTYPES)
    switches = ("compile",)
    spreads_missing = True

    def __init__(
        self, device: str | None = None, dtype: str | None = None, options: Sequence[str] = ()
    ) -> None:
        super().__init__(device, dtype, options)
        kind, _, number = (device or "cpu").partition(":")
        if kind not in ("cpu", "cuda", "mps") or not (number or "0").isdecimal():
            raise ValueError(
                f"backend 'torch' has no device {device!r}; accepted: 'cpu', 'cuda', 'cuda:0' and "
                "further numbers, 'mps'."
            )
        if kind == "mps" and dtype == "float64":
            raise ValueError("backend 'torch:mps' has no float64; use 'torch:mps:float32'.")
        # one engine has one spec, however it was asked for
        name = f"cuda:{int(number or 0)}" if kind == "cuda" else kind
        self._device = torch.device(name)
        self.dtype = None if dtype in (None, "float32") and not self.options else dtype or "float32"
        self.device = None if name == "cpu" and self.dtype is None else name
        self._dtype = _DTYPES[dtype or "float32"]
        self.rows_dtype = np.float64 if dtype == "float64" else np.float32
        self._opened = False

    def open(self) -> None:
        if self._opened:
            return
        kind = self._device.type
        if kind == "cuda" and not torch.cuda.is_available():
            raise BackendNotAvailableError(
                f"backend {self.spec!r} needs a CUDA device, and torch.cuda.is_available() is "
                "False here. Use backend='torch', or a torch built for CUDA on a machine with one."
            )
        if kind == "cuda" and (self._device.index or 0) >= torch.cuda.device_count():
            raise BackendNotAvailableError(
                f"backend {self.spec!r} names a CUDA device that is not here; there are "
                f"{torch.cuda.device_count()}, numbered from 0."
            )
        if kind == "mps" and not torch.backends.mps.is_available():
            raise BackendNotAvailableError(
                f"backend {self.spec!r} needs Apple's Metal, and torch.backends.mps.is_available() "
                "is False here. Use backend='torch'."
            )
        self._opened = True

    def rows_per_block(self, n_channels: int, n_columns: int) -> int | None:
        rows = max(1, _BLOCK_ELEMENTS // max(1, n_channels * n_columns))
        return rows if rows < ROWS else rows // ROWS * ROWS

    def put(self, array: FloatArray) -> torch.Tensor:
        self.open()
        if not array.flags.writeable or not _dense_in_some_order(array):
            array = np.array(array)  # torch warns of arrays that it could write to
        with self._out_of_memory():
            return torch.from_numpy(array).to(self._device, self._dtype)

    @contextmanager
    def _out_of_memory(self) -> Iterator[None]:
        """Say what to do where the device's memory is exhausted."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise BackendMemoryError(
                f"backend {self.spec!r}: no memory left on the device. Forecast fewer windows at a "
                "time, or close other programs that use it."
            ) from error

    def get(self, tensor: torch.Tensor) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
        return array

    def reshape(self, x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return x.reshape(tuple(shape))

    def concat(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(tuple(tensors), dim=-1)

    def linear(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        b: torch.Tensor | None = None,
        *,
        activation: str | None = None,
        add: torch.Tensor | None = None,
        axis: int = -1,
    ) -> torch.Tensor:
        if axis == -2:
            out = self._product(x.transpose(1, 2)[:, None], w)[:, 0].transpose(1, 2)
            if b is not None:
                out = out + b[0][:, None]
        else:
            out = self._product(x, w)
            if b is not None:
                out = out + (b if out.ndim == 3 else b[:, None, :])
        if add is not None:
            out = out + add
        return out if activation is None else _ACTIVATIONS[activation](out)

    def _product(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Multiply rows (n, C or 1, ..., K) by weights (G, K, M), G = 1 or C."""
        return product(x, w)

    def power(self, x: torch.Tensor, n_bins: int) -> torch.Tensor:
        require_bins(x.shape[-1], n_bins)
        spectrum = torch.fft.rfft(x, 2 * n_bins, dim=-1)[..., :n_bins]
        squares = spectrum.real**2 + spectrum.imag**2
        total = squares.sum(dim=-1, keepdim=True)
        normalized: torch.Tensor = squares / torch.where(total > 0, total, 1.0)
        return normalized

    def gate(
        self,
        logits: torch.Tensor,
        top_k: int | None = None,
        temperature: float = 1.0,
        scores: Sequence[tuple[torch.Tensor, float]] = (),
    ) -> torch.Tensor:
        logits = self.penalize(logits, scores)
        if top_k is not None and top_k < logits.shape[-1]:
            order = torch.argsort(logits, dim=-1, descending=True, stable=True)
            dropped = torch.ones_like(logits, dtype=torch.bool)
            dropped = dropped.scatter(-1, order[..., :top_k], False)
            logits = logits.masked_fill(dropped, -torch.inf)
        return torch.softmax(logits / temperature, dim=-1)

    def penalize(
        self, logits: torch.Tensor, scores: Sequence[tuple[torch.Tensor, float]]
    ) -> torch.Tensor:
        for score, exponent in scores:
            tiny = torch.finfo(score.dtype).tiny
            evidence = exponent * torch.log(score.clamp_min(tiny))
            logits = logits - (evidence if logits.ndim == 3 else evidence[:, :, None, :])
        return logits

    def mix(
        self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, g: torch.Tensor
    ) -> torch.Tensor:
        n_experts = g.shape[-1]
        horizon = w.shape[2] // n_experts
        one_gate = g.ndim == 3 and len(w) == 1 and g.shape[1] <= x.shape[1]
        many_calls = self._device.type == "cpu" and "compile" not in self.options
        if one_gate and many_calls and not _needs_gradient(x, w, b, g):
            gates = g.expand(*x.shape[:2], n_experts).reshape(-1, n_experts)
            mixed = mix_rows(x.reshape(-1, x.shape[2]), w[0], gates).reshape(*x.shape[:2], horizon)
            return mixed if b is None else mixed + product(g, b.reshape(-1, n_experts, horizon))
        experts = self.linear(x, w, b)
        experts = experts.reshape(*experts.shape[:2], n_experts, horizon)
        weights = g[..., None] if g.ndim == 3 else g.transpose(2, 3)
        return (weights * experts).sum(dim=2)

    def energy(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        n_experts, length, rank = u.shape
        packed = u.permute(1, 0, 2).reshape(1, length, n_experts * rank)
        projected = product(x, packed).reshape(*x.shape[:2], n_experts, rank)
        return (projected**2).sum(dim=-1)

    def backtest(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        step: int,
        ahead: Sequence[int] | None = None,
        floor: float = 0.0,
        power: float = 1.0,
    ) -> torch.Tensor:
        n_experts, lookback, n_steps = w.shape
        steps = fold_steps(n_steps, ahead)
        require_fold(x.shape[-1], lookback, steps[-1])
        length = lookback + steps[-1]
        rows = x.reshape(-1, x.shape[-1])
        start = (rows.shape[1] - length) % step  # the newest fold ends with the rows
        folds = rows[:, start:].unfold(1, length, step)
        packed = w.permute(1, 0, 2).reshape(1, lookback, n_experts * n_steps)
        aimed = torch.tensor([lookback - 1 + ahead for ahead in steps], device=x.device)

        def errors(block: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            """Return the mean absolute errors of every fold, (n, folds, E)."""
            forecast = product(block[:, :, :lookback], packed)
            forecast = forecast.reshape(*block.shape[:2], n_experts, n_steps)
            if _needs_gradient(forecast):
                error = (forecast - targets[:, :, None]).abs()
            else:
                error = forecast.sub_(targets[:, :, None]).abs_()
            return error.mean(dim=3)

        most = _FOLD_ELEMENTS * (1 if x.device.type == "cpu" else 64)
        some = max(1, most // (folds.shape[1] * packed.shape[2]))
        scores = []
        for block in torch.split(folds, some):
            targets = block[:, :, aimed]
            error = errors(block, targets)
            score = error.mean(dim=1) if power == 1 else (error**power).mean(dim=1) ** (1 / power)
            scores.append(score + floor * targets.abs().mean(dim=(1, 2))[:, None])
        return torch.cat(scores).reshape(*x.shape[:2], n_experts)

    def compile(self, fn: Callable[..., torch.Tensor], key: object) -> Callable[..., torch.Tensor]:
        run = torch.compile(fn) if "compile" in self.options else fn

        @functools.wraps(run, updated=())
        def guarded(*tensors: torch.Tensor) -> torch.Tensor:
            with self._out_of_memory():
                return run(*tensors)

        return guarded

    def close(self) -> None:
        self._opened = False
