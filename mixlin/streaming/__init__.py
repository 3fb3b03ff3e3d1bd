"""Fits on data that one machine does not hold: chunks, memory maps, Parquet files, Dask."""

from .fit import fit_stream
from .summary import PartitionSummary, StreamPlan, summed

__all__ = ["PartitionSummary", "StreamPlan", "fit_stream", "summed"]
