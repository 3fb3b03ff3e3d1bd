"""The operations of the forward pass as calls of ttnn."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Backend, BackendNotAvailableError, FloatArray
from . import gates, matrices, products
from .calls import Calls
from .card import TRACE_REGION, Card
from .tiles import BUCKETS, Tile, Weight, pack
from .traces import Downloaded, Replay

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("relu", {}),
    "gelu": ("gelu", {"fast_and_approximate_mode": False}),
    "elu": ("elu", {"alpha": 1.0}),
    "tanh": ("tanh", {}),
    "sigmoid": ("sigmoid", {}),
}
_MOCK = "TT_METAL_MOCK_CLUSTER_DESC_PATH"
_STAND_INS = (_MOCK, "TT_METAL_SIMULATOR")


class TtnnBackend(Backend):
    """Tile tensors on one Tenstorrent chip.

    Specs: ``"ttnn"``, ``"ttnn:1"``, ``"ttnn:0:float32"``, ``"ttnn:0:bfloat8_b"`` (weights in
    8 bits, rows in bfloat16), ``"ttnn:0:bfloat16:trace,queues"``. Options: ``trace`` replays the
    forward pass of every bucket of rows as one recorded program, ``queues`` (with ``trace``)
    uploads the next block on a second queue meanwhile, ``l1`` and ``dram`` override where
    activations live.

    Parameters
    ----------
    device : str, optional
        Number of the chip.
    dtype : {"bfloat16", "float32", "bfloat8_b"}, optional
    options : sequence of {"trace", "queues", "l1", "dram"}
    module : object, optional
        What to call instead of ``ttnn``: a stand-in with the same names.

    Notes
    -----
    A device belongs to one process. It is opened by the first operation, closed by
    :meth:`close`, at the end of ``with mixlin.backends.open("ttnn:0")``, or at exit.
    """

    name = "ttnn"
    dtypes = ("bfloat16", "float32", "bfloat8_b")
    switches = ("dram", "l1", "queues", "trace")
    folds_channels = True
    rows_dtype = np.float32

    def __init__(
        self,
        device: str | None = None,
        dtype: str | None = None,
        options: Sequence[str] = (),
        *,
        module: Any = None,
    ) -> None:
        super().__init__(device, dtype, options)
        if device is not None and not device.isdecimal():
            raise ValueError(f"backend 'ttnn' takes the number of a chip; got device={device!r}.")
        if "l1" in self.options and "dram" in self.options:
            raise ValueError("options 'l1' and 'dram' exclude each other; choose one.")
        if "queues" in self.options and "trace" not in self.options:
            raise ValueError("option 'queues' overlaps transfers with traces; add 'trace'.")
        number = int(device or 0)
        # one engine has one spec, however it was asked for
        plain = dtype in (None, "bfloat16") and not self.options
        self.device = None if plain and number == 0 else str(number)
        self.dtype = None if plain else dtype or "bfloat16"
        self.coarse = dtype != "float32"
        self._rows_dtype = "float32" if dtype == "float32" else "bfloat16"
        self._weights_dtype = dtype or "bfloat16"
        self._memory = next((o for o in ("l1", "dram") if o in self.options), None)
        self.equal_blocks = "trace" in self.options  # another size would be another recording
        self.blocks_in_flight = 2 if "queues" in self.options else 1
        self._injected = module is not None
        self._tt = _import_ttnn() if module is None else module
        self._card = Card.of(self._tt, number)
        self._calls = Calls(self._card, self._rows_dtype, self._memory)

    def __reduce__(self) -> tuple[Callable[[str], Backend], tuple[str]]:
        if self._injected and type(self) is TtnnBackend:
            raise TypeError(
                "a ttnn backend with a module of its own can't be pickled: its spec means the "
                "real ttnn. Register a subclass that makes the module, and pass its spec."
            )
        return super().__reduce__()

    @classmethod
    def why_unavailable(cls) -> str | None:
        try:
            _import_ttnn()
        except BackendNotAvailableError as error:
            return str(error)
        # the driver's files: asking ttnn would wait for a card that another process uses
        stands_in = any(os.environ.get(name) for name in _STAND_INS)
        if stands_in or any(Path("/dev/tenstorrent").glob("*")):
            return None
        return "ttnn is installed, but no Tenstorrent card was found (/dev/tenstorrent is empty)"

    def open(self) -> None:
        self._open(in_worker=True)

    def _open(self, in_worker: bool = False) -> None:
        traced = "trace" in self.options
        if traced and os.environ.get(_MOCK):
            raise BackendNotAvailableError(
                f"backend {self.spec!r}: traces crash on a mock card. Leave the option 'trace' out."
            )
        region = TRACE_REGION if traced else 0
        self._card.open(region, self.blocks_in_flight, in_worker=in_worker)

    def close(self) -> None:
        self._card.close()

    def rows_per_block(self, n_channels: int, n_columns: int) -> int | None:
        return max(1, BUCKETS[-1] // n_channels)

    # -- transfers -------------------------------------------------------------------------

    def put(self, array: FloatArray) -> Weight:
        self._open()
        return Weight(array, self._weights_dtype)

    def rounded(self, array: FloatArray) -> FloatArray:
        # eight bits are rounded in blocks, which no element knows by itself
        return array if self._weights_dtype == "bfloat8_b" else matrices.bfloat16(array)

    def upload(self, *arrays: FloatArray) -> tuple[Tile, ...]:
        self._open()
        packed = pack(self._card, arrays, self._rows_dtype, self._memory)
        if "trace" not in self.options:
            _ = packed[0].source.tensor  # a trace writes into a tensor of its own instead
        return packed

    def get(self, tensor: Any) -> npt.NDArray[Any]:
        if isinstance(tensor, Downloaded):
            return tensor.array()
        if isinstance(tensor, Weight):
            rounded = tensor.placed(self._card, "as it is", lambda: np.atleast_2d(tensor.array))
            return self._read(rounded).reshape(tensor.shape)
        tile: Tile = tensor
        return tile.arranged(self._read(tile.source.tensor))

    def _read(self, tensor: Any) -> npt.NDArray[Any]:
        with self._card.lock:
            host = self._tt.to_dtype(self._tt.from_device(tensor), self._tt.float32)
            array: npt.NDArray[Any] = host.to_numpy()
            return array

    # -- shapes ----------------------------------------------------------------------------

    def columns(self, x: Tile, start: int, stop: int) -> Tile:
        return x.narrowed(start, stop)

    def reshape(self, x: Tile, shape: Sequence[int]) -> Tile:
        x = self._calls.by_rows(x)
        n, channels, *rest = shape
        groups, _, width = x.source.shape
        steps = (x.steps,) if x.steps else ()
        flat = [groups, x.n * max(1, x.steps), width]
        rows = self._calls.op("slice", x, [0, 0, 0], flat, shape=flat)
        if groups > 1:  # windows lead in the order of the elements
            rows = self._calls.op("reshape", rows, (groups, x.n, *steps, width), shape=(*flat,))
            rows = self._calls.op(
                "permute", rows, (1, 0, *range(2, len(rows.shape))), shape=(x.n, groups, width)
            )
        moved = self._calls.op("reshape", rows, tuple(shape), shape=tuple(shape))
        if channels > 1:
            moved = self._calls.op(
                "permute", moved, (1, 0, *range(2, 2 + len(rest))), shape=(channels, n, rest[-1])
            )
        rows_of_steps = rest[0] if len(rest) == 2 else 1
        final = (channels, n * rows_of_steps, rest[-1])
        done = self._calls.op("reshape", moved, final, shape=final)
        return Tile(
            done, n, channels, 0, rest[-1], rest[0] if len(rest) == 2 else 0, len(rest) == 2
        )

    def concat(self, tensors: Sequence[Tile]) -> Tile:
        tiles = [self._calls.whole(x) for x in tensors]
        first = tiles[0]
        width = sum(x.stop for x in tiles)
        shape = (*first.source.shape[:2], width)
        source = self._calls.op("concat", [x.source for x in tiles], -1, shape=shape)
        return replace(first, source=source, stop=width, ones=None)

    # -- operations ------------------------------------------------------------------------

    def linear(
        self,
        x: Tile,
        w: Weight,
        b: Weight | None = None,
        *,
        activation: str | None = None,
        add: Tile | None = None,
        axis: int = -1,
    ) -> Tile:
        if axis == -2:
            out = products.over_channels(self._calls, x, w, b)
        else:
            relu = activation == "relu" and add is None
            out = products.product(self._calls, x, w, b, relu=relu)
            activation = None if relu else activation
        if add is not None:
            out = self._calls.binary("add", out, self._calls.by_rows(add))
        if activation is None:
            return out
        name, options = _ACTIVATIONS[activation]
        return self._calls.unary(name, out, **options)

    def mix(self, x: Tile, w: Weight, b: Weight | None, g: Tile) -> Tile:
        return products.mix(self._calls, x, w, b, g)

    def gate(
        self,
        logits: Tile,
        top_k: int | None = None,
        temperature: float = 1.0,
        scores: Sequence[tuple[Tile, float]] = (),
    ) -> Tile:
        return gates.gate(self._calls, logits, top_k, temperature, scores)

    def penalize(self, logits: Tile, scores: Sequence[tuple[Tile, float]]) -> Tile:
        return gates.penalize(self._calls, logits, scores)

    def power(self, x: Tile, n_bins: int) -> Tile:
        return gates.power(self._calls, x, n_bins)

    def energy(self, x: Tile, u: Weight) -> Tile:
        return gates.energy(self._calls, x, u)

    def backtest(
        self,
        x: Tile,
        w: Weight,
        step: int,
        ahead: Sequence[int] | None = None,
        floor: float = 0.0,
        power: float = 1.0,
    ) -> Tile:
        return gates.backtest(self._calls, x, w, step, ahead, floor, power)

    def compile(self, fn: Callable[..., Tile], key: object) -> Callable[..., Any]:
        return Replay(self._card, fn, self.blocks_in_flight) if "trace" in self.options else fn


def _import_ttnn() -> Any:
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:  # a folder of that name is not the package
        raise BackendNotAvailableError(
            "backend 'ttnn' needs the package ttnn, which is not installed (it exists for CPython "
            "3.10 and 3.12 on Linux x86-64 and wants numpy < 2): pip install 'mixlin[ttnn]'."
        )
    try:
        return importlib.import_module("ttnn")
    except Exception as error:
        raise BackendNotAvailableError(
            f"backend 'ttnn': the package is installed, but importing it failed: {error}."
        ) from error
