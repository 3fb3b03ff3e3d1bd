"""Fit a linear forecaster on rows that come in chunks, files or partitions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from ..backends import resolve
from ..base import Training
from ..base.stamps import series_ordinal
from ..base.training import DEFAULT_LOOKBACK
from ..linear import ChannelStatistics, ExactLinearForecaster
from ..solvers import ExactSolver, SeriesSums
from ..timestamps import TimeIndex, fill_gaps
from ..windows import Container, is_pandas, refuse_stacked_windows, too_short
from .chunks import Chunk
from .dask_collections import DaskPartitions, is_dask
from .parquet import ParquetBlocks
from .sources import ArrayBlocks, MemmapBlocks, Source, Stream, rows_per_block
from .summary import PartitionSummary, StreamPlan
from .survey import FEW_ROWS, Survey, Wanted
from .times import Grid, irregular

Forecaster = TypeVar("Forecaster", bound=ExactLinearForecaster)


def fit_stream(
    model: Forecaster,
    source: Any,
    *,
    time: str | None = None,
    columns: Sequence[str] | None = None,
    ignore_index: bool = False,
    n_jobs: int | None = None,
    block_rows: int | None = None,
) -> Forecaster:
    """Fit a copy of a linear forecaster on a series that need not fit in memory.

    The result is that of ``model.fit`` on all rows at once, up to rounding; windows across the
    borders of chunks, row groups and partitions count. ``predict()`` continues the series,
    ``partial_fit`` adds to it, ``save`` writes it.

    Parameters
    ----------
    model : LinearForecaster, NLinearForecaster, DLinearForecaster or RLinearForecaster
        With a horizon; left as it is.
    source : object
        One series in the order of time:

        - an iterator, a list or another iterable of chunks, each an array of shape (n,) or
          (n, C), a Series or a DataFrame; or a function without arguments that returns one;
        - an array, a memory map (or the path of an ``.npy`` file), a Series or a DataFrame;
        - the path of a Parquet file or of a folder of them, or a ``pyarrow.parquet.ParquetFile``;
        - a Dask array, Series or DataFrame.

        Chunks may be empty or shorter than a window. Missing values are NaN or absent labels of
        an index, also between chunks.
    time : str, optional
        Parquet: the column of the times, which becomes the index. Without it rows are counted.
    columns : sequence of str, optional
        Parquet: the channels; all columns but ``time`` by default.
    ignore_index : bool, default=False
        Whether rows follow on each other whatever the index of frames says, as after
        ``reset_index(drop=True)`` on the whole.
    n_jobs : int, optional
        Processes that sum arrays, memory maps and row groups, by joblib and the backend that
        ``joblib.parallel_config`` names, Dask's among them. Iterators are read in this process;
        Dask collections use their own scheduler.
    block_rows : int, optional
        Rows of arrays, memory maps and row groups that are read at a time; by default about half a
        million values.

    Returns
    -------
    forecaster
        A fitted copy of ``model``.

    Raises
    ------
    ValueError
        If the source holds no rows or too few, chunks differ in their channels, times are
        unsorted, repeated or of several frequencies, or the model needs all rows at once.
    RuntimeError
        If a worker process was lost for good.

    Notes
    -----
    The first rows (about a thousand, or 16 384 where they have an index) are read twice: for the
    levels that values are measured from, and for the frequency. RLinearForecaster (``"revin"``)
    needs the variance of all rows beforehand, so that everything is read twice; of an iterator,
    which can be read once, the epsilon of its window scale is that of the first rows, as with
    ``partial_fit``. Pass a function that returns the iterator to have it read twice.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import LinearForecaster
    >>> from mixlin.streaming import fit_stream
    >>> series = np.sin(2 * np.pi * np.arange(400) / 24)
    >>> chunks = (series[start : start + 7] for start in range(0, 400, 7))
    >>> model = fit_stream(LinearForecaster(lookback=48, horizon=3), chunks)
    >>> model.predict().round(3).tolist()
    [-0.866, -0.966, -1.0]
    """
    fitted: Forecaster = _checked_copy(model)
    if block_rows is not None and (
        isinstance(block_rows, bool) or not isinstance(block_rows, Integral) or block_rows < 1
    ):
        raise ValueError(
            f"block_rows must be None or an integer of at least 1; got {block_rows!r}."
        )
    opened = _open(source, time, None if columns is None else list(columns), block_rows)
    solver = ExactSolver() if fitted.solver is None else fitted.solver
    survey = opened.survey(
        Wanted(
            all_rows=fitted._normalization_name() == "revin",
            sample=fitted._seasonal_prior is not None or bool(solver.calendar),
            ignore_index=ignore_index,
        )
    )
    plan, seasons = _plan(fitted, survey, solver)
    summary = opened.summary(plan, n_jobs, _settle(fitted))
    _finish(fitted, plan, summary, seasons)
    return fitted


def _checked_copy(model: Any) -> Any:
    if not isinstance(model, ExactLinearForecaster):
        raise ValueError(
            "fit_stream fits LinearForecaster, NLinearForecaster, DLinearForecaster and "
            f"RLinearForecaster, whose optimum follows from sums; got {model!r}."
        )
    fitted = clone(model)
    fitted._validate_params()
    resolve(fitted.backend)
    if fitted.horizon is None:
        raise ValueError(
            "the model has no horizon, which a series does not tell: set horizon=..., for example "
            f"{type(fitted).__name__}(horizon=24)."
        )
    if fitted.scale == "series":
        raise ValueError(
            "scale='series' measures every series by itself, and a stream is one series. Pass "
            "scale='auto', 'std' or None."
        )
    solver = fitted.solver
    if solver is None:
        return fitted
    solver.check()
    if getattr(solver, "transform", None) is not None:
        raise ValueError(
            f"ExactSolver(transform={solver.transform!r}) looks at all rows before they are "
            "summed, which a stream does not allow. Leave transform out, and transform the chunks."
        )
    if solver.forgetting is not None and solver.forgetting < 1:
        raise ValueError(
            f"ExactSolver(forgetting={solver.forgetting!r}) is a share of the training rows, whose "
            "number a stream tells at its end. Give the half-life in rows, at least 1."
        )
    return fitted


def _open(source: Any, time: str | None, columns: list[str] | None, rows: int | None) -> Source:
    """Return what reads a source."""
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and Path(source).suffix == ".npy":
        source, is_path = np.load(source, mmap_mode="r"), False
    if is_path or type(source).__module__.startswith("pyarrow.parquet"):
        return ParquetBlocks.of(source, time, columns, rows)
    if time is not None or columns is not None:
        raise ValueError(
            "time= and columns= are for Parquet files. Make the times the index of frames "
            "(frame.set_index(...)), and choose their columns."
        )
    if is_dask(source):
        return DaskPartitions(source)
    if isinstance(source, np.ndarray) or is_pandas(source):
        if source.ndim not in (1, 2):
            raise ValueError(
                "an array must have the shape (n_rows,) or (n_rows, n_channels); got "
                f"{source.shape}. Chunks are passed as a list or an iterator."
            )
        block = rows_per_block(1 if source.ndim == 1 else source.shape[1], rows)
        on_disk = isinstance(source, np.memmap) and source.filename is not None
        if on_disk and all(step > 0 for step in source.strides) and len(source):
            return MemmapBlocks(source, block)
        return ArrayBlocks(source, block)
    if not isinstance(source, Iterable) and not callable(source):
        raise ValueError(
            "the source must be an iterable of chunks, an array, a frame, a Parquet file or folder "
            f"or a Dask collection; got {type(source).__name__}."
        )
    return Stream(source)


def _plan(fitted: Any, survey: Survey, solver: ExactSolver) -> tuple[StreamPlan, Any]:
    """Return what workers must know, and the seasons of the model."""
    if survey.first is None or survey.statistics is None:
        raise ValueError(
            "the source holds no rows: it is empty, or all of its chunks or partitions are."
        )
    horizon, lookback, n_rows = fitted.horizon, fitted.lookback, survey.n_rows
    grid, rows = None, None
    if survey.labels:
        labels = survey.labels[0].append(survey.labels[1:])
        grid = Grid.of(labels)
        rows = grid.places(labels, "the first rows") - 1
        n_rows = max(n_rows, int(rows[-1]) + 1)
    if lookback is None:
        few = n_rows < FEW_ROWS
        lookback = max(1, min(DEFAULT_LOOKBACK, n_rows // 3)) if few else DEFAULT_LOOKBACK
    sample: Any = np.empty((0, len(survey.statistics.count)))
    if survey.sample:
        sample = np.concatenate(survey.sample)
        sample = sample if rows is None else fill_gaps(sample, rows)
    index = _index(grid, survey.first, n_rows, None if grid is None else grid.first)
    training = Training(lookback, horizon, series=[sample], indexes=[index])
    seasons = fitted._find_seasons(training, solver)
    if len(seasons.frequencies):
        series_ordinal(index)  # refuses rows without times, before they are summed
    sums = fitted._new_sums(
        SeriesSums,
        lookback,
        horizon,
        survey.statistics,
        decay=seasons.decay,
        frequencies=seasons.frequencies,
    )
    return StreamPlan(sums, survey.first, grid), seasons


def _index(grid: Grid | None, first: Chunk, n_rows: int, end: Any) -> TimeIndex | None:
    """Return the index of a series that ends with a label, or counts its rows."""
    if grid is not None:
        return grid.at(end)
    return None if first.container.kind == "array" else TimeIndex("integer", n_rows - 1, 1)


def _settle(fitted: Any) -> Any:
    """Return what sets the level of channels that had no value before."""

    def settle(summary: PartitionSummary, chunk: Chunk) -> None:
        unseen = summary.statistics.count == 0
        if not summary.n_rows or not unseen.any():
            return
        found = ChannelStatistics(len(unseen))
        found.add(chunk.values)
        fresh, sums = unseen & (found.count > 0), summary.sums
        made = fitted._new_sums(SeriesSums, sums.lookback, sums.horizon, found)
        sums.level[fresh] = made.level[fresh]
        if sums.eps is not None:
            sums.eps[fresh] = made.eps[fresh]

    return settle


def _finish(fitted: Any, plan: StreamPlan, summary: PartitionSummary, seasons: Any) -> None:
    """Solve, and set what ``fit`` sets."""
    sums, first = summary.sums, plan.first
    lookback, horizon, n_rows = sums.lookback, sums.horizon, summary.n_rows
    if n_rows < lookback + horizon:
        raise too_short(lookback, horizon, n_rows)
    if n_rows > 2 * summary.n_observed:
        raise irregular(n_rows, summary.n_observed)
    refuse_stacked_windows(summary.first_rows)
    index = _index(plan.grid, first, n_rows, summary.end)
    if len(sums.frequencies):  # from now on rows are counted as the index does
        start = np.empty((0, sums.n_channels))
        counted = PartitionSummary(plan).sums
        counted.add(start, at=series_ordinal(index) - n_rows + 1)
        sums = counted.merged(sums, summary.first_rows, n_rows)
    n_channels = sums.n_channels
    sample: Any = np.zeros((1, n_channels))
    if first.container.kind == "frame":
        import pandas as pd

        sample = pd.DataFrame(sample, columns=first.container.columns)
    validate_data(fitted, sample, reset=True, skip_check_array=True)
    fitted.__dict__.update(_sums=sums, _statistics=summary.statistics, _seasons=seasons)
    nothing = Training(
        lookback,
        horizon,
        series=[np.empty((0, n_channels))],
        continues=True,
        indexes=[index],
    )
    kind = first.container
    state = {
        **fitted._learn(nothing, update=True),
        "n_channels_in_": n_channels,
        "context_": summary.last_rows,
        "cutoff_": None if index is None else index.last,
        "freq_": None if index is None else index.freq,
        "_tails": [summary.last_rows],
        "_indexes": [index],
        "_containers": [Container(kind.kind, kind.ndim, kind.columns)],
        "_dtypes": [np.dtype(summary.dtype).name],
        "_known": summary.known,
        "lookback_": lookback,
        "horizon_": horizon,
        "mode_": "series",
        "n_features_in_": fitted.n_features_in_,
    }
    names = getattr(fitted, "feature_names_in_", None)
    state = state if names is None else {**state, "feature_names_in_": names}
    fitted.__dict__.update(state, _state=tuple(state))
