"""Dask arrays and frames: every worker reduces its partitions, only summaries travel."""

from __future__ import annotations

from typing import Any

from .sources import _LOST, Settle, Source, lost_worker
from .summary import PartitionSummary, StreamPlan
from .survey import KEPT_ROWS, Survey, Wanted, survey_rows


def is_dask(source: Any) -> bool:
    """Whether a source is a Dask collection, without importing Dask.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    module = type(source).__module__.partition(".")[0]
    return module in ("dask", "dask_expr") and hasattr(source, "to_delayed")


def _survey(part: Any, wanted: Wanted, name: str, kept: bool) -> Survey:
    return survey_rows([part], wanted, name, kept=kept)


def _summarize(part: Any, plan: StreamPlan, name: str) -> PartitionSummary:
    return plan.summarize([part], name)


def _merge(one: PartitionSummary, two: PartitionSummary) -> PartitionSummary:
    return one.merged(two)


class DaskPartitions(Source):
    """Partitions of a Dask array, Series or DataFrame, in the order of time.

    Parameters
    ----------
    collection : dask.array.Array of shape (n,) or (n, C), dask Series or DataFrame
        Channels are brought together; rows stay as they are partitioned.
    """

    def __init__(self, collection: Any) -> None:
        if hasattr(collection, "rechunk"):
            if collection.ndim not in (1, 2):
                raise ValueError(
                    "a Dask array must have the shape (n_rows,) or (n_rows, n_channels); got "
                    f"{collection.shape}."
                )
            if collection.ndim == 2:
                collection = collection.rechunk({1: -1})
            self.parts = list(collection.to_delayed().ravel())
        else:
            self.parts = list(collection.to_delayed())

    def survey(self, wanted: Wanted) -> Survey:
        from dask import compute, delayed

        out = Survey(wanted)
        rest = list(enumerate(self.parts))
        task = delayed(_survey)
        while rest and not out.is_settled:
            i, part = rest.pop(0)
            out = out.joined(_computed(compute, task(part, wanted, f"partition {i}", True))[0])
        if wanted.all_rows and rest:
            kept = out.n_kept < KEPT_ROWS
            later = [task(part, wanted, f"partition {i}", kept) for i, part in rest]
            for found in _computed(compute, *later):
                out = out.joined(found)
        return out

    def summary(self, plan: StreamPlan, n_jobs: int | None, settle: Settle) -> PartitionSummary:
        from dask import compute, delayed

        if n_jobs is not None:
            raise ValueError(
                f"a Dask collection is computed by its own scheduler; got n_jobs={n_jobs!r}. Leave "
                "n_jobs out, and choose the workers of the cluster."
            )
        shared = delayed(plan, pure=True)
        summarize, merge = delayed(_summarize), delayed(_merge)
        left = [summarize(part, shared, f"partition {i}") for i, part in enumerate(self.parts)]
        while len(left) > 1:
            pairs = [merge(a, b) for a, b in zip(left[::2], left[1::2], strict=False)]
            left = pairs + left[2 * len(pairs) :]
        summary: PartitionSummary = _computed(compute, left[0])[0]
        return summary


def _computed(compute: Any, *tasks: Any) -> Any:
    try:
        return compute(*tasks)
    except Exception as error:
        if type(error).__name__ in _LOST:
            raise lost_worker() from error
        raise
