"""Tensors of the stand-in for ttnn."""

from __future__ import annotations

import weakref

import numpy as np

from tests.ttnn import fake_numbers as numbers
from tests.ttnn.fake_device import DataType, Layout, MemoryConfig, Shape, Storage, StorageType


class Tensor:
    """Numbers on the host or on a device; ``tt.Tensor`` is a subclass that knows its module."""

    tt = None

    def __init__(self, array, dtype=None, device=None, layout=None, memory_config=None):
        values = self.tt.read_array(array, dtype)
        dtype = DataType.FLOAT32 if dtype is None else dtype
        layout = Layout.ROW_MAJOR if layout is None else layout
        if dtype is DataType.BFLOAT8_B and layout is not Layout.TILE:
            raise RuntimeError("TT_FATAL: Layout must be Layout::TILE for bfloat8_b or bfloat4_b!")
        self._set(values.shape, Storage(dtype.store(values).ravel()), dtype, layout)
        if device is not None:
            self._move(device, memory_config or MemoryConfig())
            self.tt.transfer("upload", "Tensor", self, 0, self._storage)

    def _set(self, shape, storage, dtype, layout):
        self.shape = Shape(int(size) for size in shape)
        self.dtype, self.layout = dtype, layout
        self._storage, self._buffer, self._device, self._config = storage, None, None, None

    def _move(self, device, memory_config):
        self._buffer = device.allocate(self.shape, self.dtype, self.layout, memory_config)
        self._storage.buffer = weakref.ref(self._buffer)
        self._buffer.tensors.add(self)
        self._device, self._config = device, memory_config

    def _alias(self, shape):
        """Return the same buffer under another shape."""
        other = object.__new__(type(self))
        other._set(shape, self._storage, self.dtype, self.layout)
        other._buffer, other._device, other._config = self._buffer, self._device, self._config
        self._buffer.tensors.add(other)
        return other

    @property
    def values(self):
        """What the tensor holds, in its own shape; for tests."""
        return self._storage.values.reshape(self.shape)

    @property
    def padded_shape(self):
        return Shape(numbers.padded(self.shape) if self.layout is Layout.TILE else self.shape)

    @property
    def nbytes(self):
        if self.layout is Layout.TILE:
            return int(np.prod(self.padded_shape)) // 1024 * self.dtype.tile_bytes
        return int(np.prod(self.shape)) * self.dtype.tile_bytes // 1024

    def device(self):
        return self._device

    def memory_config(self):
        return self._config or MemoryConfig()

    def storage_type(self):
        return StorageType.HOST if self._device is None else StorageType.DEVICE

    def is_allocated(self):
        # closing the device changes nothing here, as in the real one
        return self._device is None or (self._buffer is not None and self._buffer.alive)

    def to_numpy(self):
        if self._device is not None:
            raise AssertionError("to_numpy of a tensor on a device; call from_device first")
        if self.dtype in (DataType.BFLOAT16, DataType.BFLOAT8_B):
            raise AssertionError(
                f"to_numpy of {self.dtype.value} gives an object of no use; call to_dtype first"
            )
        self.tt.require_arrived(self)
        return self.values.copy()

    def cpu(self, blocking=True, cq_id=None):
        return self.tt.from_device(self, blocking=blocking, cq_id=cq_id)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, slice) for part in index):
            raise AssertionError("index a tensor with slices only")
        index += (slice(None),) * (len(self.shape) - len(index))
        parts = [part.indices(n) for part, n in zip(index, self.shape, strict=True)]
        starts, ends, steps = (list(part) for part in zip(*parts, strict=True))
        return self.tt.slice(self, starts, ends, steps)

    def __repr__(self):
        where = self.storage_type().name
        return f"Tensor({tuple(self.shape)}, {self.dtype.value}, {self.layout.name}, {where})"

    def __add__(self, other):
        return self.tt.add(self, other)

    def __sub__(self, other):
        return self.tt.subtract(self, other)

    def __mul__(self, other):
        return self.tt.multiply(self, other)

    def __truediv__(self, other):
        return self.tt.divide(self, other)

    def __rsub__(self, other):
        return self.tt.rsub(self, other)

    __radd__, __rmul__ = __add__, __mul__
