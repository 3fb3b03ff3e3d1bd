"""What an operation takes and returns: rows on a card, and weights in the forms they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import TILE, Card, Lease, tiles
from .matrices import columns_in_parts, n_in_parts

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

BUCKETS = (32, 128, 512, 1024, 2048, 4096, 8192)
"""Numbers of rows that programs are made for; blocks are padded with zeros to the next one."""


def bucket(n: int) -> int:
    """Return the number of rows that ``n`` rows are padded to."""
    for size in BUCKETS:
        if n <= size:
            return size
    return -(-n // BUCKETS[-1]) * BUCKETS[-1]


class Source:
    """A tile tensor of shape (G, R, K) on a card, or the host array that will become one.

    Parameters
    ----------
    card : Card
    dtype : str
    tensor : object, optional
    lease : Lease, optional
        Kept as long as the tensor.
    host : array of shape (G, R, K), optional
        Uploaded when the tensor is first asked for.
    memory : str or None
        Override of the placement of ``host``.

    Attributes
    ----------
    made_of : tuple of (Tile, Weight, Weight or None), or None
        The product that the tensor is, where another one of the same rows may be better than one
        of its rounded result.
    """

    def __init__(
        self,
        card: Card,
        dtype: str,
        tensor: Any = None,
        lease: Lease | None = None,
        host: Float32Array | None = None,
        memory: str | None = None,
    ) -> None:
        self.card = card
        self.dtype = dtype
        self.host = host
        self.shape: tuple[int, ...] = tuple(tensor.shape if host is None else host.shape)
        self.memory = memory
        self.made_of: tuple[Tile, Weight, Weight | None] | None = None
        self._tensor = tensor
        self._lease = lease
        self._generation = card.generation

    @property
    def tensor(self) -> Any:
        """The tensor on the card."""
        with self.card.lock:
            if self._tensor is None:
                assert self.host is not None
                config, self._lease = self.card.choose_memory(self.shape, self.dtype, self.memory)
                self._tensor = self.card.upload(self.host, self.dtype, config)
                self.host = None
        # ttnn answers the use of a tensor of a closed device with a crash
        if self._generation != self.card.generation or self.card.device is None:
            raise RuntimeError(
                f"this tensor was made before device {self.card} was closed; upload it again."
            )
        return self._tensor


@dataclass(frozen=True, eq=False)
class Tile:
    """Rows on a card: columns ``start ... stop - 1`` of a tile tensor of shape (G, R, K).

    Channels lead, so that groups are the batch of a product and a block's rows fill tiles.

    Attributes
    ----------
    source : Source
    n : int
        Rows that are meant; the others are padding.
    channels : int
        ``G``, or 1 where all channels of the tensor hold the same.
    start, stop : int
    steps : int
        Forecast steps per row, 0 for none. Either the columns hold ``steps`` groups, or
        (``by_rows``) every row is ``steps`` rows of the tensor.
    ones : int or None
        Number of a column that holds 1.
    in_parts : bool
        Whether the columns behind hold what rounding took from these, these once more, and two
        ones; see :func:`pack`.
    """

    source: Source
    n: int
    channels: int
    start: int
    stop: int
    steps: int = 0
    by_rows: bool = False
    ones: int | None = None
    in_parts: bool = False

    @property
    def width(self) -> int:
        """Number of columns of a row, or of a step of a row."""
        columns = self.stop - self.start
        return columns // self.steps if self.steps and not self.by_rows else columns

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the protocol's order: (n, C, K) or (n, C, S, K)."""
        steps = (self.steps,) if self.steps else ()
        return (self.n, self.channels, *steps, self.width)

    @property
    def whole(self) -> bool:
        """Whether the tile is all of its tensor."""
        groups, _, columns = self.source.shape
        return (self.start, self.stop, self.channels) == (0, columns, groups)

    def arranged(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut the padding off a downloaded tensor; the axes come in the protocol's order."""
        array = array[: self.channels, :, self.start : self.stop]
        if self.steps and self.by_rows:
            array = array.reshape(self.channels, -1, self.steps, self.width)
        array = array[:, : self.n]
        if self.steps and not self.by_rows:
            array = array.reshape(self.channels, self.n, self.steps, self.width)
        return np.moveaxis(array, 0, 1)

    def narrowed(self, start: int, stop: int) -> Tile:
        """Return some of the columns, of the same tensor."""
        if not 0 <= start < stop <= self.width or self.steps:
            raise ValueError(
                f"columns {start} to {stop} are not in rows of shape {self.shape}; ttnn would "
                "read the padding."
            )
        return replace(self, start=self.start + start, stop=self.start + stop, in_parts=False)


def pack(
    card: Card, arrays: tuple[npt.NDArray[np.floating], ...], dtype: str, memory: str | None
) -> tuple[Tile, ...]:
    """Lay the arrays of a row block side by side, for one transfer.

    Parameters
    ----------
    card : Card
    arrays : tuple of arrays of shape (n, 1 or C, K) or (n, 1 or C, S, K)
    dtype : str
    memory : {"l1", "dram"} or None

    Returns
    -------
    tuple of Tile
        Views of one tensor. Products read all of its columns, with zeros in the weights of those
        that are not theirs, so that nothing is sliced.

    Notes
    -----
    In bfloat16 the arrays beside the first one, if they fit into a tile, travel as ``[high, low,
    high, 1, 1]`` with ``low`` what rounding to ``high`` takes away. With weights and biases
    ``[W, W, w, B, b]`` in two parts likewise, a product of them is good to 16 bits instead of 8.
    The features of a gate are such: they are few, they come as they are, and their weights are
    large.
    """
    n = len(arrays[0])
    groups = max(array.shape[1] for array in arrays)
    places, stop = [], 0
    for i, array in enumerate(arrays):
        # steps are taken out of the tensor by a slice, which wants to begin with a tile
        start = tiles(stop) * TILE if array.ndim == 4 else stop
        end = start + int(np.prod(array.shape[2:]))
        in_parts = dtype == "bfloat16" and i > 0 and array.ndim == 3 and end - start <= TILE
        places.append((start, end, in_parts))
        stop = start + n_in_parts(end - start) if in_parts else end
    # a column of ones makes biases rows of the weights; it is free where the last tile has room
    ones = stop if stop % TILE else None
    # whole tiles, so that nothing on the card is ever out of line; they are there anyway
    host = np.zeros((groups, bucket(n), tiles(stop) * TILE), dtype=np.float32)
    for array, (start, end, in_parts) in zip(arrays, places, strict=True):
        flat = array.reshape(n, array.shape[1], end - start).transpose(1, 0, 2)
        if in_parts:
            flat = columns_in_parts(flat)
        host[:, :n, start : start + flat.shape[2]] = flat
    if ones is not None:
        host[:, :, ones] = 1.0
    source = Source(card, dtype, host=host, memory=memory)
    return tuple(
        Tile(
            source,
            n,
            array.shape[1],
            start,
            end,
            steps=array.shape[2] if array.ndim == 4 else 0,
            ones=ones,
            in_parts=in_parts,
        )
        for array, (start, end, in_parts) in zip(arrays, places, strict=True)
    )


class Weight:
    """A tensor of a model: kept on the host, placed once in every form that a product needs.

    Parameters
    ----------
    array : array
        (G, K, M) for products, (G, M) for biases, (E, L, R) for evidence.
    dtype : str
        On the card.
    """

    def __init__(self, array: npt.NDArray[np.floating], dtype: str) -> None:
        self.array = np.asarray(array, dtype=np.float64)
        self.dtype = dtype
        self._placed: dict[object, tuple[int, Any]] = {}
        self._combined: dict[object, Weight] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the host array."""
        return self.array.shape

    def combined(self, name: object, build: Callable[[], FloatArray]) -> Weight:
        """Return the weight with its columns combined by a matrix, the same one for a name."""
        if name not in self._combined:
            self._combined[name] = Weight(self.array @ build(), self.dtype)
        return self._combined[name]

    def placed(
        self,
        card: Card,
        form: object,
        build: Callable[[], npt.NDArray[Any]],
        dtype: str | None = None,
    ) -> Any:
        """Return a form of the weight on the card, uploaded at the first call.

        Parameters
        ----------
        card : Card
        form : hashable
            Names the form.
        build : callable
            Returns the form as a host array.
        dtype : str, optional
            On the card; the weight's own by default.

        Returns
        -------
        tensor
        """
        with card.lock:
            generation, tensor = self._placed.get(form, (0, None))
            if tensor is None or generation != card.generation:
                tensor = card.upload(build(), dtype or self.dtype, card.tt.DRAM_MEMORY_CONFIG)
                self._placed[form] = (card.generation, tensor)
            return tensor
