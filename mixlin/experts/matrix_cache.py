"""A cache of matrices: those used last, up to a size, and files."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

_T = TypeVar("_T")
_Array = npt.NDArray[Any]


class MemoryCache:
    """Values by key, at most so many bytes of them; the ones not used for longest leave first.

    Parameters
    ----------
    n_bytes : int

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts.matrix_cache import MemoryCache
    >>> cache = MemoryCache(1000)
    >>> cache.get("a", lambda: np.zeros(100)).shape, cache.get("b", lambda: np.zeros(100)).shape
    ((100,), (100,))
    >>> cache.keys()
    ['b']
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._makers: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def keys(self) -> list[Hashable]:
        """Return the keys, those used last at the end."""
        with self._lock:
            return list(self._values)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the value of a key, made if it is not there; by one thread, while others wait.

        Parameters
        ----------
        key : hashable
        make : callable
            Takes nothing and returns something with ``nbytes``. One that is larger than the cache
            is returned without being kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                value: _T = self._values[key]
                return value
            maker = self._makers.setdefault(key, threading.Lock())
        with maker:
            with self._lock:
                made: _T | None = self._values.get(key)
            if made is not None:
                return made
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._lock:
                    self._makers.pop(key, None)
            return made

    def _keep(self, key: Hashable, value: Any) -> None:
        if value.nbytes > self.n_bytes:
            return
        with self._lock:
            self._values[key] = value
            total = sum(kept.nbytes for kept in self._values.values())
            while total > self.n_bytes:
                total -= self._values.popitem(last=False)[1].nbytes


def file_name(*parts: object) -> str:
    """Return a file name that stands for a request.

    Parameters
    ----------
    *parts : object
        Told apart by what they print as.
    """
    digest = hashlib.sha256("\n".join(repr(part) for part in parts).encode())
    return f"experts-{digest.hexdigest()[:40]}.safetensors"


def write_arrays(path: Path, arrays: dict[str, _Array]) -> None:
    """Write arrays to a file, all or nothing; a folder that can't be written to is a warning.

    Parameters
    ----------
    path : Path
    arrays : dict of str to array
    """
    temporary = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        checks = {name: str(zlib.crc32(array.data)) for name, array in arrays.items()}
        save_file(arrays, temporary, metadata=checks)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"matrices of experts can't be kept in {str(path.parent)!r}: {error}. Name another "
            "folder as cache_dir, or None.",
            stacklevel=2,
        )
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, _Array] | None:
    """Read arrays from a file; None if it is missing, damaged, or holds something else.

    Parameters
    ----------
    path : Path
    shapes : dict of str to tuple of int
        Names of the arrays, and their shapes.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            checks = file.metadata() or {}
            arrays = {name: np.ascontiguousarray(file.get_tensor(name)) for name in shapes}
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    for name, array in arrays.items():
        if array.shape != shapes[name] or checks.get(name) != str(zlib.crc32(array.data)):
            return None
    return arrays
