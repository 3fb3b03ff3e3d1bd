"""The chip of the stand-in for ttnn: memory, queues, traces and the record of calls."""

from __future__ import annotations

import enum
import itertools
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from tests.ttnn.fake_numbers import padded, round_bfloat8_b, round_bfloat16


class DataType(enum.Enum):
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    BFLOAT8_B = "bfloat8_b"
    UINT16 = "uint16"
    UINT32 = "uint32"
    INT32 = "int32"

    @property
    def tile_bytes(self):
        return {"bfloat16": 2048, "bfloat8_b": 1088, "uint16": 2048}.get(self.value, 4096)

    def store(self, values):
        """Return what a tensor of this type keeps of some numbers."""
        if self is DataType.BFLOAT16:
            return round_bfloat16(values)
        if self is DataType.BFLOAT8_B:
            return round_bfloat8_b(values)
        return np.array(values, dtype=self.value, order="C")


class Layout(enum.Enum):
    ROW_MAJOR = 0
    TILE = 1


class BufferType(enum.Enum):
    DRAM = 0
    L1 = 1


class StorageType(enum.Enum):
    HOST = 0
    DEVICE = 1


class TensorMemoryLayout(enum.Enum):
    INTERLEAVED = 0


class MathFidelity(enum.Enum):
    LoFi = 0
    HiFi2 = 2
    HiFi3 = 3
    HiFi4 = 4


class Arch(enum.Enum):
    WORMHOLE_B0 = 2
    BLACKHOLE = 3


class Shape(tuple):
    """A tuple under the name that ttnn gives it."""

    @property
    def rank(self):
        return len(self)


@dataclass(frozen=True)
class MemoryConfig:
    memory_layout: TensorMemoryLayout = TensorMemoryLayout.INTERLEAVED
    buffer_type: BufferType = BufferType.DRAM


@dataclass(frozen=True)
class CoreGrid:
    y: int
    x: int

    @property
    def num_cores(self):
        return self.x * self.y


@dataclass(frozen=True)
class ReuseRowsProgram:
    """Which cores compute what, in a product whose first operand may be repeated."""

    compute_with_storage_grid_size: tuple
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_M: int
    per_core_N: int
    fuse_batch: bool
    fused_activation: object
    mcast_in0: bool


@dataclass(frozen=True)
class ComputeConfig:
    math_fidelity: MathFidelity
    math_approx_mode: bool
    fp32_dest_acc_en: bool
    packer_l1_acc: bool


class Call(NamedTuple):
    """One call: its name and what else is known about it."""

    name: str
    details: dict[str, Any]


class Record(list):
    """The calls in their order; a slice of it answers the same questions."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Record(found) if isinstance(index, slice) else found

    def of_kind(self, kind):
        return Record(call for call in self if call.details["kind"] == kind)

    @property
    def names(self):
        return [call.name for call in self]

    @property
    def uploads(self):
        return self.of_kind("upload")

    @property
    def downloads(self):
        return self.of_kind("download")

    @property
    def device_ops(self):
        """Names of the calls that ran on the device; aliases and transfers are none."""
        return self.of_kind("op").names

    @property
    def uploaded_bytes(self):
        return sum(call.details["bytes"] for call in self.uploads)

    @property
    def downloaded_bytes(self):
        return sum(call.details["bytes"] for call in self.downloads)


class Banks:
    """Memory of one kind: equal banks that every buffer is spread over."""

    def __init__(self, kind, count, size):
        self.kind, self.count, self.size = kind, count, size
        self.live = {}
        self.keys = itertools.count()
        self.peak = 0

    @property
    def allocated(self):
        return sum(list(self.live.values()))

    def view(self):
        free = self.size - self.allocated
        return SimpleNamespace(
            num_banks=self.count,
            total_bytes_per_bank=self.size,
            total_bytes_allocated_per_bank=self.allocated,
            total_bytes_free_per_bank=free,
            largest_contiguous_bytes_free_per_bank=free,
        )


class Buffer:
    """Room on a device that goes back when it is freed or its last tensor goes."""

    def __init__(self, banks, pages, page_bytes):
        share = -(-pages // banks.count) * page_bytes
        free = banks.size - banks.allocated
        if share > free:
            raise RuntimeError(
                f"TT_FATAL: Out of Memory: Not enough space to allocate {pages * page_bytes} B "
                f"{banks.kind.name} buffer across {banks.count} banks, where each bank needs to "
                f"store {share} B, but bank size is {banks.size} B (allocated: "
                f"{banks.allocated} B, free: {free} B, largest free block: {free} B)"
            )
        self.tensors = weakref.WeakSet()
        key = next(banks.keys)
        banks.live[key] = share
        banks.peak = max(banks.peak, banks.allocated)
        self.free = weakref.finalize(self, banks.live.pop, key, None)
        self.free.atexit = False

    @property
    def alive(self):
        return self.free.alive


@dataclass(eq=False)
class Storage:
    """Numbers in row-major order, shared by the aliases of a tensor."""

    values: np.ndarray
    buffer: Any = None
    written: tuple[int, int] | None = None
    reads: dict[int, int] = field(default_factory=dict)


class Queues:
    """Who has to wait for whom: one clock per command queue, and one of the host."""

    def __init__(self, count):
        self.clocks = [[0] * count for _ in range(count)]
        self.host = [0] * count

    def number(self, cq_id):
        number = 0 if cq_id is None else int(cq_id)
        if not 0 <= number < len(self.clocks):
            raise RuntimeError(f"TT_FATAL: cq_id {number} is out of range")
        return number

    def issue(self, queue, reads=(), writes=()):
        """Put a command on a queue; refuse one that would race with another queue."""
        clock = self.clocks[queue] = list(map(max, self.clocks[queue], self.host))
        for storage in (*reads, *writes):
            self.require(clock, storage.written, queue, "was written")
        for storage in writes:
            for other in storage.reads.items():
                self.require(clock, other, queue, "is still read")
        clock[queue] += 1
        for storage in reads:
            storage.reads[queue] = clock[queue]
        for storage in writes:
            storage.written, storage.reads = (queue, clock[queue]), {}
        return queue, clock[queue]

    @staticmethod
    def require(clock, command, queue, what):
        if command is not None and clock[command[0]] < command[1]:
            raise AssertionError(
                f"race: queue {queue} uses a tensor that {what} on queue {command[0]}, and "
                "waits for no event of that queue"
            )

    def require_host(self, command):
        if command is not None and self.host[command[0]] < command[1]:
            raise AssertionError(
                "the host reads a transfer that did not block; synchronize its queue first"
            )

    def synchronize(self, queue):
        self.host = list(map(max, self.host, self.clocks[queue]))

    def wait(self, queue, clock):
        self.clocks[queue] = list(map(max, self.clocks[queue], clock))


class Step(NamedTuple):
    """One operation of a trace: what it computes, from where, to where."""

    compute: Any
    sources: list[tuple[Storage, tuple[int, ...]]]
    targets: list[tuple[Storage, DataType]]


class Trace:
    """Operations that were captured, to be run again on the same buffers."""

    def __init__(self, number):
        self.number = number
        self.steps = []
        self.outside = {}
        self.made = set()

    def add(self, step):
        for storage, _ in step.sources:
            if id(storage) not in self.made:
                self.outside[id(storage)] = storage
        self.made.update(id(storage) for storage, _ in step.targets)
        self.steps.append(step)

    def storages(self):
        return list(self.outside.values()), [s for step in self.steps for s, _ in step.targets]

    def run(self):
        for storage in self.outside.values():
            buffer = storage.buffer() if storage.buffer else None
            if buffer is None or not buffer.alive:
                raise AssertionError("the trace reads a buffer that was freed")
        for step in self.steps:
            results = step.compute(*[s.values.reshape(shape) for s, shape in step.sources])
            for (storage, dtype), result in zip(step.targets, results, strict=True):
                storage.values[...] = dtype.store(result).ravel()


CHIPS = {
    # grid of cores (x, y), L1 banks, bytes of one, DRAM banks, bytes of one
    "wormhole_b0": (Arch.WORMHOLE_B0, (8, 8), (64, 1_393_312), (12, 1_072_693_184)),
    "blackhole": (Arch.BLACKHOLE, (13, 10), (130, 1_461_120), (8, 4_277_141_376)),
}


class Device:
    """An open chip."""

    def __init__(self, chip, device_id, l1, dram, trace_region_size, num_command_queues):
        self._arch, (x, y), *_ = CHIPS[chip]
        self.core_grid = CoreGrid(x=x, y=y)
        self._id = device_id
        self.is_open = True
        self.banks = {BufferType.L1: l1, BufferType.DRAM: dram}
        self.queues = Queues(num_command_queues)
        self.trace_region_size = trace_region_size
        self.programs = set()
        self.traces = {}
        self.capturing = None
        self.numbers = itertools.count()

    def arch(self):
        return self._arch

    def id(self):
        return self._id + 1

    def get_device_ids(self):
        return [self._id]

    def get_num_devices(self):
        return 1

    def compute_with_storage_grid_size(self):
        return self.core_grid

    def dram_grid_size(self):
        return CoreGrid(x=self.banks[BufferType.DRAM].count, y=1)

    def num_program_cache_entries(self):
        return len(self.programs)

    def enable_program_cache(self):
        pass

    def clear_program_cache(self):
        self.programs.clear()

    def require_open(self, what="this call"):
        if not self.is_open:
            raise RuntimeError(
                "TT_THROW: SubDeviceManagerTracker is not initialized on MeshDevice "
                f"{self.id()}: {what} needs an open device"
            )

    def allocate(self, shape, dtype, layout, memory_config):
        """Return room for a tensor."""
        self.require_open("an allocation")
        if self.traces and self.capturing is None:
            raise AssertionError(
                "a buffer is allocated while a trace exists: a replay may overwrite it"
            )
        if layout is Layout.TILE:
            pages, page = int(np.prod(padded(shape))) // 1024, dtype.tile_bytes
        else:
            width = shape[-1] if shape else 1
            pages = int(np.prod(shape[:-1], dtype=int))
            page = -(-width * dtype.tile_bytes // 1024 // 32) * 32
        return Buffer(self.banks[memory_config.buffer_type], pages, page)

    def close(self):
        self.is_open = False
        self.traces.clear()
        self.capturing = None
        for banks in self.banks.values():
            banks.live.clear()
