"""Interleaved timing shared by the benchmark scripts: pairs A B A B in one process."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple


class Ratio(NamedTuple):
    """Median and quartiles of the ratios of pairs, and both median times in seconds."""

    median: float
    low: float
    high: float
    seconds: float
    against: float

    def __str__(self) -> str:
        return (
            f"{self.median:.2f} (quartiles {self.low:.2f}-{self.high:.2f}; "
            f"{1e3 * self.seconds:.1f} ms against {1e3 * self.against:.1f} ms)"
        )


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio(function: Callable[[], object], other: Callable[[], object], pairs: int) -> Ratio:
    """Time two functions in turn after one call of each; ratios are ``function / other``."""
    function()
    other()
    both = [(timed(function), timed(other)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in both)
    low, _, high = statistics.quantiles(ratios, n=4)
    return Ratio(
        statistics.median(ratios),
        low,
        high,
        statistics.median(a for a, _ in both),
        statistics.median(b for _, b in both),
    )


def peak_mib(function: Callable[[], object]) -> float:
    """Return the peak of what a call allocates, in MiB, by tracemalloc."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
