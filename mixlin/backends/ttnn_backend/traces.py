"""Recorded forward passes: one program per bucket of rows, replayed without new calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import Card
from .tiles import Source, Tile


class Downloaded:
    """A result whose transfer to the host was begun.

    Parameters
    ----------
    card : Card
    host : object
        The host tensor that is being written.
    tile : Tile
        What it means.
    """

    def __init__(self, card: Card, host: Any, tile: Tile) -> None:
        self._card = card
        self._host = host
        self._event = card.tt.record_event(card.device, 0)
        self.tile = tile

    def array(self) -> npt.NDArray[Any]:
        """Wait for the transfer and return the array in the protocol's order."""
        with self._card.lock:
            self._card.tt.event_synchronize(self._event)
            host = self._card.tt.to_dtype(self._host, self._card.tt.float32)
            return self.tile.arranged(np.array(host.to_numpy()))


class _Recording:
    """One trace: the tensor that it reads, and the tile that it leaves."""

    def __init__(self, source: Source, staging: Any) -> None:
        self.source = source
        self.staging = staging
        self.trace: Any = None
        self.result: Tile | None = None
        self.taken: Any = None  # the event after which staging may be written again


class Replay:
    """The device's share of a forward pass, recorded at the first call of every bucket.

    While a trace exists nothing may be allocated on the device, so recording another one, or any
    other operation, releases it; it is recorded again when it is needed.

    Parameters
    ----------
    card : Card
    fn : callable
        From tiles to a tile.
    n_queues : int
        With 2, rows are uploaded on the second queue while the first one computes.
    """

    def __init__(self, card: Card, fn: Callable[..., Tile], n_queues: int) -> None:
        self._card = card
        self._fn = fn
        self._n_queues = n_queues
        self._recordings: dict[tuple[int, ...], _Recording] = {}

    def __call__(self, *tiles: Tile) -> Downloaded:
        source = tiles[0].source
        with self._card.lock:
            recording = self._recordings.get(source.shape)
            if recording is None:
                recording = self._recordings[source.shape] = self._record(tiles)
            self._send(recording, source)
            tt = self._card.tt
            tt.execute_trace(self._card.device, recording.trace, cq_id=0, blocking=False)
            result = recording.result
            assert result is not None
            host = tt.from_device(result.source.tensor, blocking=False, cq_id=0)
            return Downloaded(self._card, host, replace(result, n=tiles[0].n))

    def _send(self, recording: _Recording, source: Source) -> None:
        """Write rows into the tensor that the trace reads."""
        card, tt = self._card, self._card.tt
        host = tt.Tensor(source.host, getattr(tt, source.dtype), None, tt.TILE_LAYOUT)
        if self._n_queues == 1:
            tt.copy_host_to_device_tensor(host, recording.source.tensor, cq_id=0)
            return
        if recording.taken is not None:  # the block before was taken out of the staging tensor
            tt.wait_for_event(1, recording.taken)
        tt.copy_host_to_device_tensor(host, recording.staging, cq_id=1)
        tt.wait_for_event(0, tt.record_event(card.device, 1))
        tt.copy(recording.staging, recording.source.tensor)
        recording.taken = tt.record_event(card.device, 0)

    def _record(self, tiles: tuple[Tile, ...]) -> _Recording:
        card = self._card
        card.release_traces()
        source = tiles[0].source
        assert source.host is not None
        host = source.host
        staging = None
        if self._n_queues == 2:
            staging = card.upload(host, source.dtype, card.tt.DRAM_MEMORY_CONFIG)
        # the rows stay on the host for the sending that every call begins with
        recording = _Recording(Source(card, source.dtype, host=host, memory=source.memory), staging)
        moved = [replace(tile, source=recording.source) for tile in tiles]
        self._fn(*moved)  # compiles programs and places weights

        def release(trace: Any) -> None:
            self._recordings.pop(source.shape, None)  # its tensors and their leases go with it
            card.tt.release_trace(card.device, trace)

        recording.trace, recording.result = card.capture(lambda: self._fn(*moved), release)
        if staging is not None:  # it was filled on the first queue
            recording.taken = card.tt.record_event(card.device, 0)
        return recording
