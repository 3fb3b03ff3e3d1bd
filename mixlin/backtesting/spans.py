"""Datasets cut into spans, standardized by their training rows, and the windows of a span."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from ..datasets import (
    LTSFSplit,
    fetch_ett,
    fetch_exchange_rate,
    fetch_illness,
    ltsf_split,
    make_seasonal,
)
from ..timestamps import TimeIndex, read_index, read_timestamps
from ..windows import is_pandas

Float64Array = npt.NDArray[np.float64]
StampArray = npt.NDArray[np.datetime64]

_BLOCK_ELEMENTS = 2**19  # 4 MiB of float64: what one block of windows and targets may hold
_ETT = {name.lower(): name for name in ("ETTh1", "ETTh2", "ETTm1", "ETTm2")}
_SPLITS = ("test", "validation")

DATASETS = (*_ETT.values(), "exchange_rate", "national_illness", "seasonal")
"""Names of the datasets that need no Bunch."""


def load_dataset(
    name: str,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Load a dataset of the benchmark by its name.

    Parameters
    ----------
    name : str
        One of ``DATASETS``, in any case.
    data_home, download_if_missing
        As in the fetchers.

    Returns
    -------
    Bunch

    Raises
    ------
    ValueError
        For another name.
    OSError
        If the file is missing and can't be downloaded.

    Examples
    --------
    >>> from mixlin.backtesting.spans import load_dataset
    >>> load_dataset("seasonal").data.shape
    (17520, 1)
    """
    options: dict[str, Any] = {
        "data_home": data_home,
        "download_if_missing": download_if_missing,
    }
    key = name.lower()
    if key in _ETT:
        return fetch_ett(_ETT[key], **options)
    if key == "exchange_rate":
        return fetch_exchange_rate(**options)
    if key == "national_illness":
        return fetch_illness(**options)
    if key == "seasonal":
        return make_seasonal(random_state=0)
    raise ValueError(
        f"dataset must be one of {', '.join(DATASETS)}, or the Bunch of a fetcher; got {name!r}."
    )


@dataclass(frozen=True, eq=False)
class Spans:
    """A dataset, the borders of its spans, and what its training rows are like.

    Parameters
    ----------
    bunch : Bunch
    split : {"test", "validation"}
        The span to score.
    values : array of shape (n_rows, n_channels)
    borders : LTSFSplit
    mean, scale : arrays of shape (n_channels,)
        Mean and population standard deviation of the training rows.
    index : TimeIndex, optional
    stamps : array of datetime64 of shape (n_rows,), optional
        Both only where they are asked for, see :meth:`dated`.
    """

    bunch: Bunch
    split: str
    values: Float64Array
    borders: LTSFSplit
    mean: Float64Array
    scale: Float64Array
    index: TimeIndex | None = None
    stamps: StampArray | None = None

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return str(self.bunch.name)

    @property
    def feature_names(self) -> list[Any] | None:
        """Names of the channels, None where the dataset has none."""
        names = getattr(self.bunch, "feature_names", None)
        return None if names is None else list(names)

    @property
    def has_times(self) -> bool:
        """Whether the rows of the dataset have dates."""
        labels = getattr(self.bunch, "index", None)
        index = getattr(self.bunch.data, "index", None) if is_pandas(self.bunch.data) else None
        if labels is not None and not callable(labels):
            return True
        return index is not None and getattr(index, "dtype", np.dtype(int)).kind in "Mm"

    def dated(self, reader: str) -> Spans:
        """Return the spans with their times, for a model that is routed by the calendar.

        Parameters
        ----------
        reader : str
            What errors call the model.

        Returns
        -------
        Spans

        Raises
        ------
        ValueError
            If there are no times, or a row is missing between them.
        """
        labels, data = getattr(self.bunch, "index", None), self.bunch.data
        if labels is not None and not callable(labels):
            index, rows = read_timestamps(labels, len(self.values))
        elif is_pandas(data):
            index, rows = read_index(data.index)
        else:
            raise ValueError(
                f"this {reader} is routed by the calendar, but {self.name} has no times. Choose a "
                "router that needs none, such as router='statistics'."
            )
        if rows[-1] + 1 != len(rows):
            raise ValueError(
                f"the times of {self.name} have gaps, and windows of a model routed by the "
                "calendar can't reach over them. Put the rows on a regular grid, NaN where there "
                "is none (frame.asfreq)."
            )
        return replace(self, index=index, stamps=index.stamps(len(rows), 0))

    def fit(self, model: Any, stop: int, *, standardized: bool = True) -> None:
        """Fit a model on the rows before ``stop``, with their times if these are read.

        Parameters
        ----------
        model : forecaster
        stop : int
        standardized : bool, default=True
        """
        rows = self.values[:stop]
        if standardized:
            rows = (rows - self.mean) / self.scale
        if self.index is None:
            model.fit(rows)
        elif self.index.kind == "stamps":
            model.fit(rows, timestamps=np.asarray(self.bunch.index)[:stop])
        else:  # steps such as business days, which a frame's index alone can tell
            given = self.bunch.data
            frame = given.to_frame() if given.ndim == 1 else given
            model.fit(type(frame)(rows, index=frame.index[:stop], columns=frame.columns))

    def errors(
        self, model: Any, lookback: int, horizon: int, *, standardized: bool
    ) -> tuple[Float64Array, Float64Array, int]:
        """Forecast every window whose targets lie inside the span.

        Parameters
        ----------
        model : forecaster
            Fitted.
        lookback, horizon : int
        standardized : bool
            Whether the model forecasts standardized data; otherwise data as they are.

        Returns
        -------
        squared, absolute : arrays of shape (horizon, n_channels)
            Means over windows, in units of the training deviation.
        n_windows : int
        """
        rows = self.borders.context(self.split, lookback)
        span, unit = self.values[rows], self.scale
        if standardized:
            span, unit = (span - self.mean) / self.scale, np.ones_like(self.scale)
        stamps = None if self.stamps is None else self.stamps[rows]
        squared = np.zeros((horizon, span.shape[1]))
        absolute = np.zeros_like(squared)
        n_windows = 0
        for windows, dated in _blocks(span, stamps, lookback + horizon):
            times = {} if dated is None else {"timestamps": dated}
            target = windows[:, lookback:]
            error = np.reshape(model.predict(windows[:, :lookback], **times), target.shape)
            error = error - target
            n_windows += len(error)
            squared += np.einsum("nhc,nhc->hc", error, error)
            absolute += np.abs(error, out=error).sum(axis=0)
        if not n_windows:
            raise ValueError("every window of the span touches a missing value; nothing to score.")
        return squared / n_windows / unit**2, absolute / n_windows / unit, n_windows


def read_spans(
    dataset: str | Bunch,
    split: str,
    horizon: int,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Spans:
    """Read a dataset and cut it into its spans.

    Parameters
    ----------
    dataset, split, data_home, download_if_missing
        As in :func:`mixlin.backtesting.evaluate_ltsf`.
    horizon : int

    Returns
    -------
    Spans

    Raises
    ------
    ValueError
        If the dataset or the split is not known, the span is shorter than the horizon, or a
        channel has no training row.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}; got {split!r}.")
    bunch: Any = dataset  # ltsf_split refuses what is no dataset
    if isinstance(dataset, str):
        bunch = load_dataset(dataset, data_home, download_if_missing)
    borders = ltsf_split(bunch)
    values = _values(bunch)
    targets = borders.test if split == "test" else borders.validation
    n_targets = targets.stop - targets.start
    if horizon > n_targets:
        raise ValueError(
            f"horizon={horizon} is longer than the {split} span of {bunch.name}, which has "
            f"{n_targets} rows. Shorten horizon."
        )
    train = values[borders.train]
    if np.isnan(train).all(axis=0).any():
        raise ValueError(
            f"a channel of {bunch.name} has no value in its {len(train)} training rows; drop it."
        )
    mean, scale = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    # a channel that is constant up to rounding is only centered, as in StandardScaler
    scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return Spans(bunch, split, values, borders, mean, scale)


def _values(bunch: Bunch) -> Float64Array:
    """Return the series of a dataset as (n_rows, n_channels)."""
    values = np.asarray(bunch.data, dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(
            f"the data of {bunch.name} must have shape (n_rows, n_channels); got {values.shape}."
        )
    if np.isinf(values).any():
        raise ValueError(f"the data of {bunch.name} hold infinite values; mark gaps as NaN.")
    return values


def _blocks(
    span: Float64Array, stamps: StampArray | None, length: int
) -> Iterator[tuple[Float64Array, StampArray | None]]:
    """Cut complete windows (n, length, C) and their times, a bounded number at once."""
    view = np.lib.stride_tricks.sliding_window_view
    size = max(1, _BLOCK_ELEMENTS // (length * span.shape[1]))
    whole = np.asarray(~np.isnan(span).any(axis=1))
    for start in range(0, len(span) - length + 1, size):
        rows = slice(start, start + size + length - 1)
        windows = view(span[rows], length, axis=0)
        present = view(whole[rows], length).all(axis=1)
        dated = None if stamps is None else view(stamps[rows], length)
        if not present.all():
            windows = windows[present]
            dated = None if dated is None else dated[present]
        if len(windows):
            yield windows.transpose(0, 2, 1), dated
