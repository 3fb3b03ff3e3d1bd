"""Benchmark series in scikit-learn's manner, their splits, and a synthetic load series."""

from __future__ import annotations

from mixlin.datasets.benchmarks import fetch_ett, fetch_exchange_rate, fetch_illness
from mixlin.datasets.files import get_data_home
from mixlin.datasets.splits import LTSFSplit, ltsf_split
from mixlin.datasets.synthetic import make_seasonal

__all__ = [
    "LTSFSplit",
    "fetch_ett",
    "fetch_exchange_rate",
    "fetch_illness",
    "get_data_home",
    "ltsf_split",
    "make_seasonal",
]
