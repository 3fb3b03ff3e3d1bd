"""The engine on torch: CPU, CUDA or MPS, float32 or float64, differentiable."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from .base import (
    Backend,
    BackendMemoryError,
    BackendNotAvailableError,
    FloatArray,
    fold_steps,
    require_bins,
    require_fold,
)
from .mixing import Folding, cheapest, most_selected

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Products add in another order when the number of rows changes. Blocks of one size, at least two
# at a time and none too small for the general kernel, make a row's result independent of its
# neighbors, and are faster than one tall product.
_ROWS = 32
_ROWS_OF_ONE = 16  # where the rows are those of one expert, and may be few
_LEAST_MULTIPLICATIONS = 400
_COLUMNS = 8  # of results, a multiple: the kernels for a few more add up rows in several ways
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


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad rows (c, R, K) with zeros; R becomes a multiple, and not zero."""
    n = rows.shape[1]
    missing = multiple - n if n == 0 else -n % multiple
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _block_size(n_weights: int, multiple: int = _ROWS) -> int:
    """Return how many rows a block has that is multiplied by a matrix."""
    return multiple * -(-_LEAST_MULTIPLICATIONS // (multiple * n_weights))


def _shared_product(rows: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Multiply rows (R, K) by weights (K, M) in blocks."""
    size = _block_size(w.numel())
    n, (n_columns, n_outputs) = len(rows), w.shape
    whole = n // size * size if n >= 2 * size else 0

    def multiply(part: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        blocks = part.reshape(-1, size, n_columns)
        many = w.expand(len(blocks), n_columns, n_outputs)
        target = None if out is None else out.view(-1, size, n_outputs)
        return torch.bmm(blocks, many, out=target).reshape(-1, n_outputs)

    if whole == n:
        return multiply(rows) if n else rows.new_empty((0, n_outputs))
    rest = multiply(_padded(rows[None, whole:], 2 * size)[0])[: n - whole]
    if not whole:
        return rest
    if torch.is_grad_enabled() and (rows.requires_grad or w.requires_grad):
        return torch.cat([multiply(rows[:whole]), rest])
    out = rows.new_empty((n, n_outputs))  # only the rest is copied
    multiply(rows[:whole], out[:whole])
    out[whole:] = rest
    return out


def _product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Multiply rows (n, C or 1, ..., K) by weights (G, K, M), G = 1 or C."""
    spare = -w.shape[2] % _COLUMNS
    if spare:
        return _product(x, functional.pad(w, (0, spare)))[..., :-spare]
    n_outputs = w.shape[2]
    if len(w) == 1:
        return _shared_product(x.reshape(-1, x.shape[-1]), w[0]).reshape(*x.shape[:-1], n_outputs)
    by_channel = x.movedim(1, 0)
    rows = by_channel.reshape(x.shape[1], -1, x.shape[-1])
    size = _block_size(w[0].numel())
    padded = _padded(rows, 2 * size).expand(len(w), -1, -1)
    out = torch.bmm(padded, w)[:, : rows.shape[1]]
    return out.reshape(len(w), *by_channel.shape[1:-1], n_outputs).movedim(0, 1)


def _dense_in_some_order(array: FloatArray) -> bool:
    """Whether an array fills its memory, so that a tensor may share it or copy its order."""
    flags = array.flags
    return flags.c_contiguous or array.transpose(np.argsort(array.strides)[::-1]).flags.c_contiguous


def _needs_gradient(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _mixed(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Weigh the experts of rows (R, K) by gates (R, E), in the cheapest way.

    In float32 that is decided row by row: the form of a product changes the last digits, which
    neighbors must not do.
    """
    n_experts = gates.shape[1]
    horizon = w.shape[1] // n_experts
    if x.dtype == torch.float64:
        form = cheapest(gates.detach().numpy(), len(w), horizon)
        if isinstance(form, Folding):
            return _folded(x, w, form)
        return _dense(x, w, gates) if form is None else _selected(x, w, gates)
    few = torch.count_nonzero(gates, dim=1) <= most_selected(len(w), n_experts, horizon)
    if few.all():
        return _selected(x, w, gates)
    if not few.any():
        return _dense(x, w, gates)
    out = x.new_empty((len(x), horizon))
    out[few] = _selected(x[few], w, gates[few])
    out[~few] = _dense(x[~few], w, gates[~few])
    return out


def _dense(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    experts = _product(x[:, None], w[None]).reshape(
        len(x), gates.shape[1], w.shape[1] // gates.shape[1]
    )
    return experts.mul_(gates[:, :, None]).sum(dim=1)


def _selected(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Multiply every expert by the rows that give it weight, in blocks."""
    n_experts, n_columns = gates.shape[1], len(w)
    horizon = w.shape[1] // n_experts
    # kernels want a multiple of columns: the spare ones are a neighbor's
    width = min(-(-horizon // _COLUMNS) * _COLUMNS, w.shape[1])
    size = _block_size(n_columns * width, _ROWS_OF_ONE)
    experts, rows = gates.T.nonzero().T
    if not len(rows):
        return x.new_zeros((len(x), horizon))
    counts = torch.bincount(experts, minlength=n_experts)
    active = counts > 0
    few = bool(counts.max() <= size) and bool(2 * active.sum() >= n_experts)
    one_call = few and width == horizon  # with a block of every expert
    n_blocks = torch.where(active, (-(-counts // size)).clamp(min=1 if one_call else 2), one_call)
    ends = torch.cumsum(n_blocks * size, 0)
    # the rows of an expert stand together, up to a whole number of blocks
    shift = ends - n_blocks * size - torch.cumsum(counts, 0) + counts
    slots = torch.arange(len(rows)) + shift[experts]
    held = slots.new_zeros(int(ends[-1]))
    held[slots] = rows
    results = x.new_empty((len(held), width))
    if one_call:
        blocks = x.index_select(0, held).view(n_experts, size, n_columns)
        matrices = w.view(n_columns, n_experts, horizon).transpose(0, 1)
        torch.bmm(blocks, matrices, out=results.view(n_experts, size, width))
    else:
        for expert, (start, stop) in enumerate(pairwise([0, *ends.tolist()])):
            if start == stop:
                continue
            first = min(expert * horizon, w.shape[1] - width)
            own = w[:, first : first + width]  # read where it stands
            blocks = x.index_select(0, held[start:stop]).view(-1, size, n_columns)
            out = results[start:stop]
            torch.bmm(blocks, own.expand(len(blocks), -1, -1), out=out.view(-1, size, width))
            if first < expert * horizon:
                out[:] = out.roll(first - expert * horizon, dims=1)
    # every row adds its results in the order of the experts, whatever the blocks
    slot_of = slots.new_zeros(gates.shape)
    slot_of[rows, experts] = slots
    used = gates != 0
    per_row = used.sum(dim=1)
    return functional.embedding_bag(
        slot_of[used],
        results,
        torch.cumsum(per_row, 0) - per_row,
        mode="sum",
        per_sample_weights=gates[used],
    )[:, :horizon]


def _folded(x: torch.Tensor, w: torch.Tensor, folding: Folding) -> torch.Tensor:
    """Multiply rows that share their gates by the matrix that their experts fold into."""
    gates = torch.from_numpy(folding.gates)
    experts = w.reshape(len(w), gates.shape[1], -1)
    horizon = experts.shape[2]
    out = x.new_empty((len(x), horizon))
    at_a_time = max(1, _FOLD_ELEMENTS // (len(w) * horizon))
    for start in range(0, len(gates), at_a_time):
        folded = torch.matmul(gates[start : start + at_a_time], experts)  # (K, D, H)
        for i, rows in enumerate(folding.rows[start : start + at_a_time]):
            index = torch.from_numpy(rows)
            out[index] = (x if len(gates) == 1 else x[index]) @ folded[:, i]
    return out


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
        return rows if rows < _ROWS else rows // _ROWS * _ROWS

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
        return _product(x, w)

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
            mixed = _mixed(x.reshape(-1, x.shape[2]), w[0], gates).reshape(*x.shape[:2], horizon)
            return mixed if b is None else mixed + _product(g, b.reshape(-1, n_experts, horizon))
        experts = self.linear(x, w, b)
        experts = experts.reshape(*experts.shape[:2], n_experts, horizon)
        weights = g[..., None] if g.ndim == 3 else g.transpose(2, 3)
        return (weights * experts).sum(dim=2)

    def energy(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        n_experts, length, rank = u.shape
        packed = u.permute(1, 0, 2).reshape(1, length, n_experts * rank)
        projected = _product(x, packed).reshape(*x.shape[:2], n_experts, rank)
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
            forecast = _product(block[:, :, :lookback], packed)
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
