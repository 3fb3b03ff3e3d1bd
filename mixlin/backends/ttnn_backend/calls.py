"""Calls of ttnn on tiles: checked, placed by the memory rule, under the card's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import TILE, Card, tiles
from .tiles import Source, Tile

FloatArray = npt.NDArray[np.float64]


class Calls:
    """What operations are written with.

    Parameters
    ----------
    card : Card
    dtype : {"bfloat16", "float32"}
        Of rows.
    memory : {"l1", "dram"} or None
        Overrides where activations live.
    """

    def __init__(self, card: Card, dtype: str, memory: str | None) -> None:
        self.card = card
        self.dtype = dtype
        self.memory = memory
        self._config: tuple[int, Any] = (0, None)

    def op(self, name: str, *operands: Any, shape: Sequence[int], **options: Any) -> Source:
        """Call an operation; its result lives where the memory rule says."""
        sources = [s for s in map(_source_of, operands) if s is not None]
        if any(s.dtype != self.dtype for s in sources):
            got = sorted({s.dtype for s in sources})
            raise ValueError(f"{name} of rows in {got} on a backend of {self.dtype}.")
        with self.card.lock:
            memory, lease = self.card.choose_memory(shape, self.dtype, self.memory)
            tensor = self.card.call(
                name, *map(_tensor_of, operands), memory_config=memory, **options
            )
            return Source(self.card, self.dtype, tensor, lease)

    def unary(self, name: str, x: Tile, **options: Any) -> Tile:
        return replace(x, source=self.op(name, x, shape=x.source.shape, **options), ones=None)

    def scalar(self, name: str, x: Tile, value: float) -> Tile:
        return replace(x, source=self.op(name, x, value, shape=x.source.shape), ones=None)

    def binary(self, name: str, x: Tile, y: Tile) -> Tile:
        """Combine whole tiles; groups and single columns broadcast."""
        groups = max(x.source.shape[0], y.source.shape[0])
        shape = (groups, x.source.shape[1], x.source.shape[2])
        source = self.op(name, x, y, shape=shape)
        return replace(x, source=source, channels=groups, ones=None)

    def by_constant(
        self,
        x: Tile,
        key: object,
        build: Callable[[], FloatArray],
        bias: tuple[object, Callable[[], FloatArray]] | None = None,
    ) -> Tile:
        """Multiply rows by a matrix that belongs to no model."""
        x = self.whole(x)
        constant = self.constant(key, build)
        groups, rows, _ = x.source.shape
        shape = (groups, rows, constant.shape[-1])
        added = None if bias is None else self.constant(*bias)
        source = self.matmul(x.source, constant, shape, added)
        return replace(x, source=source, stop=shape[2])

    def constant(
        self, key: object, build: Callable[[], FloatArray], dtype: str | None = None
    ) -> Any:
        """Return a tensor that belongs to no model, placed at the first call."""
        card = self.card
        dtype = dtype or self.dtype
        with card.lock:
            if (key, dtype) not in card.constants:
                memory = card.tt.DRAM_MEMORY_CONFIG
                card.constants[key, dtype] = card.upload(build(), dtype, memory)
            return card.constants[key, dtype]

    def matmul(
        self,
        x: Source,
        weight: Any,
        shape: Sequence[int],
        bias: Any = None,
        relu: bool = False,
    ) -> Source:
        options: dict[str, Any] = {} if bias is None else {"bias": bias}
        batched = len(weight.shape) == 3
        if batched and x.shape[0] == 1:
            options["program_config"] = self.reusing_rows(x.shape, weight.shape)
        fused = relu and not batched
        if fused:
            options["activation"] = "relu"
        if fused or bias is not None:  # else ttnn takes a second operation for them
            options["core_grid"] = self.card.device.core_grid
        source = self.op(
            "linear", x, weight, shape=shape, compute_kernel_config=self.precision(), **options
        )
        return self.op("relu", source, shape=shape) if relu and not fused else source

    def reusing_rows(self, rows: Sequence[int], weight: Sequence[int]) -> Any:
        """Return the program that multiplies one batch of rows by many of weights.

        Left to itself, ttnn finds it for some numbers of rows only.
        """
        grid = self.card.device.compute_with_storage_grid_size()
        return self.card.tt.MatmulMultiCoreReuseMultiCast1DProgramConfig(
            compute_with_storage_grid_size=(grid.x, grid.y),
            in0_block_w=1,
            out_subblock_h=1,
            out_subblock_w=1,
            per_core_M=-(-tiles(rows[1]) // (grid.x * grid.y)),
            per_core_N=tiles(weight[2]),
            fuse_batch=False,
            fused_activation=None,
            mcast_in0=False,
        )

    def precision(self) -> Any:
        """Return the compute configuration of the chip's architecture."""
        generation, config = self._config
        if generation != self.card.generation:
            tt = self.card.tt
            arch = self.card.device.arch()
            # Wormhole computes wrong sums from HiFi4 with float32 accumulation (tt-metal 38306)
            wormhole = "WORMHOLE" in str(arch).upper()
            fidelity = tt.MathFidelity.HiFi3 if wormhole else tt.MathFidelity.HiFi4
            config = tt.init_device_compute_kernel_config(
                arch,
                math_fidelity=fidelity,
                math_approx_mode=False,
                fp32_dest_acc_en=True,
                packer_l1_acc=True,
            )
            self._config = (self.card.generation, config)
        return config

    def whole(self, x: Tile) -> Tile:
        """Return the tile as all of a tensor, sliced where it begins with a tile."""
        if x.whole:
            return x
        _, rows, total = x.source.shape
        width = x.stop - x.start
        shape = (x.channels, rows, width)
        if x.start % TILE == 0:
            source = self.op("slice", x, [0, 0, x.start], [*shape[:2], x.stop], shape=shape)
        else:  # picking columns by a product is exact, and cheaper than leaving the tiles
            pick = self.constant(
                ("pick", x.start, x.stop, total), lambda: np.eye(total)[:, x.start : x.stop]
            )
            source = self.matmul(self.first_channel(x).source, pick, shape)
        return replace(x, source=source, start=0, stop=width, ones=None, in_parts=False)

    def first_channel(self, x: Tile) -> Tile:
        """Return rows that all channels share as those of one channel."""
        groups, rows, total = x.source.shape
        if x.channels == groups:
            return x
        shape = (1, rows, total)
        return replace(x, source=self.op("slice", x, [0, 0, 0], list(shape), shape=shape))

    def by_rows(self, x: Tile) -> Tile:
        """Return a tile whose steps, if any, are rows."""
        if not x.steps or x.by_rows:
            return self.whole(x)
        x = self.whole(x)
        groups, rows, _ = x.source.shape
        shape = (groups, rows * x.steps, x.width)
        source = self.op("reshape", x, shape, shape=shape)
        return replace(x, source=source, stop=shape[2], by_rows=True)


def _source_of(operand: Any) -> Source | None:
    if isinstance(operand, Tile):
        return operand.source
    return operand if isinstance(operand, Source) else None


def _tensor_of(operand: Any) -> Any:
    if isinstance(operand, list):
        return [_tensor_of(o) for o in operand]
    source = _source_of(operand)
    return operand if source is None else source.tensor
