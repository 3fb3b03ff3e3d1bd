"""One chip of this process: opening, closing, memory, and errors in plain words."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import BackendMemoryError, BackendNotAvailableError

TILE = 32
TRACE_REGION = 2**24  # bytes of DRAM that recorded command streams may take
L1_SHARE = 0.5  # of every bank; the rest is for the circular buffers of programs
_TILE_BYTES = {"bfloat16": 2048, "float32": 4096, "bfloat8_b": 1088}

_OPENING = threading.Lock()


def tiles(n: int) -> int:
    """Return how many tiles cover ``n`` rows or columns."""
    return -(-n // TILE)


class Lease:
    """Bytes that an activation takes in every bank of L1, for as long as the lease is held.

    Parameters
    ----------
    n_bytes : int
    generation : int
        Of the card's openings; closing frees all memory.
    """

    def __init__(self, n_bytes: int, generation: int) -> None:
        self.n_bytes = n_bytes
        self.generation = generation


class Card:
    """A device that one process owns: opened on first use, closed at exit.

    Parameters
    ----------
    tt : module
        ``ttnn``, or what offers the same names.
    device_id : int

    Attributes
    ----------
    generation : int
        Counts openings; tensors of an earlier one are gone.
    l1_peak : int
        Bytes per bank that activations took at most since the device was opened.
    lock : RLock
        Held by every call, and across the calls of a replayed trace.
    """

    def __init__(self, tt: Any, device_id: int) -> None:
        self.tt = tt
        self.device_id = device_id
        self.device: Any = None
        self.generation = 0
        self.l1_peak = 0
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self.lock = threading.RLock()
        self.constants: dict[object, Any] = {}
        self._releases: list[Callable[[], None]] = []
        self._capturing = False
        self._pid = 0
        self._opened_with: tuple[int, int] = (0, 1)

    @classmethod
    def of(cls, tt: Any, device_id: int) -> Card:
        """Return the one card of this number; two handles on one chip break each other."""
        with _OPENING:
            card = _CARDS.get((id(tt), device_id))
            if card is None:
                card = _CARDS[id(tt), device_id] = cls(tt, device_id)
            return card

    def __repr__(self) -> str:
        return f"ttnn:{self.device_id}"

    # -- opening and closing ---------------------------------------------------------------

    def open(self, trace_region: int = 0, n_queues: int = 1, *, in_worker: bool = False) -> None:
        """Open the device unless it is.

        Parameters
        ----------
        trace_region : int
            Bytes for recorded programs.
        n_queues : int
        in_worker : bool
            Whether a worker process may open it, because its owner asked for that.

        Raises
        ------
        BackendNotAvailableError
            If there is no such card, or this is a worker process.
        """
        with self.lock:
            self._refuse_workers(in_worker)
            if self.device is not None:
                if trace_region > self._opened_with[0] or n_queues > self._opened_with[1]:
                    raise BackendNotAvailableError(
                        f"device {self} is open without the trace region or the second queue that "
                        "this backend needs. Close it first: "
                        f"mixlin.backends.resolve('{self}').close()."
                    )
                return
            try:
                self.device = self.tt.open_device(
                    device_id=self.device_id,
                    trace_region_size=trace_region,
                    num_command_queues=n_queues,
                )
            except RuntimeError as error:
                raise BackendNotAvailableError(
                    f"backend {str(self)!r} could not open its device: {_first_line(error)}. "
                    "mixlin.backends.available() says what can be used here; backend='numpy' "
                    "always can."
                ) from error
            self.generation += 1
            self.l1_peak = 0
            self._pid = os.getpid()
            self._opened_with = (trace_region, n_queues)
            view = self.tt.get_memory_view(self.device, self.tt.BufferType.L1)
            self.l1_banks = int(view.num_banks)
            self.l1_bytes_per_bank = int(view.total_bytes_per_bank)
            atexit.register(self.close)

    def _refuse_workers(self, in_worker: bool = False) -> None:
        forked = self.device is not None and os.getpid() != self._pid
        worker = multiprocessing.parent_process() is not None and self.device is None
        if forked or (worker and not in_worker):
            name = multiprocessing.current_process().name
            raise BackendNotAvailableError(
                f"backend {str(self)!r} computes on a device that one process owns, and this is "
                f"a worker process ({name}). Search with backend='numpy' and n_jobs, then set "
                "backend='ttnn' on the fitted model; or use n_jobs=1 or joblib's threading. Where "
                "this process is the only one to use the device, call "
                f"mixlin.backends.open('{self}') in it first."
            )

    def close(self) -> None:
        """Release traces and close the device; what was placed is uploaded again when needed."""
        with self.lock:
            if self.device is None or os.getpid() != self._pid:
                return
            device = self.device
            try:
                self.release_traces()
            finally:
                self.constants.clear()
                self.device = None
                self.tt.close_device(device)
                atexit.unregister(self.close)

    # -- calls -----------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a function of ttnn that allocates on the device.

        Raises
        ------
        BackendMemoryError
            If L1 or DRAM is exhausted.
        """
        with self.lock:
            if self.device is None or os.getpid() != self._pid:
                self._refuse_workers()
                raise RuntimeError(f"device {self} is closed, so {name} can't run on it.")
            if not self._capturing:
                self.release_traces()  # a replay would overwrite what is allocated now
            try:
                return getattr(self.tt, name)(*args, **kwargs)
            except RuntimeError as error:
                text = str(error)
                if "Out of Memory" in text or "clash with L1" in text:
                    self.constants.clear()  # they are made again when they are needed
                    raise BackendMemoryError(
                        f"device {self} is out of memory in {name}: {_first_line(error)}. "
                        "Forecast fewer windows at a time, use the option 'dram' (as in "
                        f"'{self}:bfloat16:dram') or bfloat8_b weights, or close other models."
                    ) from error
                raise

    # -- traces ----------------------------------------------------------------------------

    def release_traces(self) -> None:
        """Give up every recorded program; nothing may be allocated while one exists."""
        while self._releases:
            self._releases.pop()()

    def capture(self, record: Callable[[], Any], release: Callable[[Any], None]) -> Any:
        """Record a trace: run ``record`` between begin and end.

        Parameters
        ----------
        record : callable
            Issues the operations and returns their result.
        release : callable
            Told the trace's number when it is released.

        Returns
        -------
        tuple of (trace number, result of ``record``)
        """
        with self.lock:
            trace = self.tt.begin_trace_capture(self.device, cq_id=0)
            self._capturing = True
            self._releases.append(lambda: release(trace))  # also where recording fails
            try:
                result = record()
            finally:
                self._capturing = False
                self.tt.end_trace_capture(self.device, trace, cq_id=0)
            return trace, result

    # -- memory ----------------------------------------------------------------------------

    @property
    def l1_in_use(self) -> int:
        """Bytes per bank that live activations take."""
        return sum(x.n_bytes for x in self._leases if x.generation == self.generation)

    def bytes_per_bank(self, shape: Sequence[int], dtype: str) -> int:
        """Return what an interleaved tile tensor takes in its fullest bank of L1."""
        n_tiles = math.prod(shape[:-2]) * tiles(shape[-2]) * tiles(shape[-1])
        return -(-n_tiles // self.l1_banks) * _TILE_BYTES[dtype]

    def choose_memory(
        self, shape: Sequence[int], dtype: str, wanted: str | None
    ) -> tuple[Any, Lease | None]:
        """Decide where an activation lives.

        The rule: in L1 as long as all live activations, this one included, take at most half of
        every bank; else in DRAM. Weights always live in DRAM.

        Parameters
        ----------
        shape : sequence of int
        dtype : str
        wanted : {"l1", "dram"} or None
            Overrides the rule.

        Returns
        -------
        memory_config : object
        lease : Lease or None
            To be kept as long as the tensor; None in DRAM.
        """
        n_bytes = self.bytes_per_bank(shape, dtype)
        fits = self.l1_in_use + n_bytes <= L1_SHARE * self.l1_bytes_per_bank
        if wanted == "l1" or (wanted is None and fits):
            lease = Lease(n_bytes, self.generation)
            self._leases.add(lease)
            self.l1_peak = max(self.l1_peak, self.l1_in_use)
            return self.tt.L1_MEMORY_CONFIG, lease
        return self.tt.DRAM_MEMORY_CONFIG, None

    def upload(self, array: npt.NDArray[np.floating], dtype: str, memory: Any) -> Any:
        """Place a host array as a tile tensor."""
        host = np.ascontiguousarray(array, dtype=np.float32)  # anything else may end the process
        if not host.flags.writeable:
            host = host.copy()
        tt = self.tt
        return self.call("Tensor", host, getattr(tt, dtype), self.device, tt.TILE_LAYOUT, memory)


def _first_line(error: BaseException) -> str:
    """Return what an error of ttnn says, without its backtrace."""
    text = str(error).split("backtrace")[0].strip()
    return " ".join(text.split())[:300].rstrip(".")


# a card keeps its module alive, so the module's number is its own as long as the card is here
_CARDS: weakref.WeakValueDictionary[tuple[int, int], Card] = weakref.WeakValueDictionary()
