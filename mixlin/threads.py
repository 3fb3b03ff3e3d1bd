"""Linear algebra on one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

_ONE_AT_A_TIME = threading.Lock()


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def blas_threads() -> int:
    """Return how many threads linear algebra would use.

    Examples
    --------
    >>> from mixlin.threads import blas_threads, single_threaded
    >>> with single_threaded():
    ...     blas_threads()
    1
    """
    return max((int(part["num_threads"]) for part in _controller().info()), default=1)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run linear algebra on one thread inside a ``with`` block.

    numpy and scipy bring a BLAS each, whose idle threads spin in each other's way: on small
    matrices one thread is faster, and many times faster where other processes compute too.

    The number of threads is a setting of the process. A block inside another one, or beside one
    in another thread, leaves it alone: the first sets and restores it.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.threads import single_threaded
    >>> with single_threaded():
    ...     print(np.linalg.det(np.eye(3)))
    1.0
    """
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        yield
        return
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        _ONE_AT_A_TIME.release()
