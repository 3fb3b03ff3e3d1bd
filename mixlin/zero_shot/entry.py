"""One call from series to forecasts, without fitting."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..backends import Backend
from ..long_frames import Columns
from ..superlinear import LONGEST_CONTEXT, SuperLinearForecaster
from .sources import read_sources

_Follow = Callable[[Iterable[Any], int], Iterable[Any]]
_PATIENCE = 2.0  # seconds before a bar is shown that nobody asked for


def forecast(
    series: Any,
    horizon: int,
    *,
    interval: float | None = None,
    time_column: str = "ds",
    id_column: str = "unique_id",
    target_column: str = "y",
    timestamps: Any = None,
    model: Any = None,
    backend: str | Backend | None = None,
    progress: bool | None = None,
) -> Any:
    """Forecast series of any kind, without training.

    Every series, and every channel of one, is forecast from its own newest rows by
    :class:`~mixlin.SuperLinearForecaster`.

    Parameters
    ----------
    series : array-like, Series, DataFrame, or list of these
        - An array of shape (n_rows,) or (n_rows, n_channels).
        - A pandas Series, or a wide DataFrame: one column per channel, times in the index.
        - A long DataFrame: one row per series and time. It is known by its columns
          ``id_column``, ``time_column`` and ``target_column``; without the first it is one
          series. Rows may be in any order, and other columns are left aside.
        - A list of these: series of any lengths and kinds.

        NaN is a missing value, and so is a row that is missing between two others.
    horizon : int
        Steps to forecast.
    interval : float, optional
        Coverage of an interval, between 0 and 1; none by default.
    time_column, id_column, target_column : str
        Columns of a long frame. Times are dates, periods, time deltas, integers, or text such as
        "2024-01-31 12:00".
    timestamps : array-like of shape (n_rows,), optional
        ``datetime64`` stamps of an array's rows, which show where rows are missing; a list of
        them for a list.
    model : SuperLinearForecaster, optional
        With settings of its own, fitted or not; it is left as it is.
    backend : str or Backend, optional
        Engine that forecasts; by default that of the model, or of the configuration.
    progress : bool, optional
        Whether to show a bar (needs tqdm). By default in terminals, where it takes long.

    Returns
    -------
    array, Series, DataFrame, or list of these
        For an array (horizon,) or (horizon, n_channels); for pandas with the continued index; for
        a long frame a long frame with the columns ``id_column``, ``time_column`` and "forecast",
        series in the order of their first rows; for a list a list. Float32 stays float32.

        With ``interval`` arrays have a last axis of 3: forecast, lower and upper limit. Wide
        frames have columns (channel, "forecast" | "lower" | "upper"); a Series becomes a frame
        with these three columns, which long frames have too.

    Raises
    ------
    ValueError
        If a series is empty, is not made of numbers, is infinite or has no value at all; if times
        repeat or follow no step; or if a parameter is out of range.
    ImportError
        If ``progress=True`` and tqdm is not installed.

    See Also
    --------
    SuperLinearForecaster : The model, with weights of its experts and training.

    Examples
    --------
    >>> import numpy as np
    >>> import mixlin
    >>> load = 10 + np.sin(2 * np.pi * np.arange(240) / 24)
    >>> mixlin.forecast(load, horizon=48).shape
    (48,)
    >>> mixlin.forecast([load, load[:100]], horizon=12, interval=0.9)[1].shape
    (12, 3)
    """
    horizon = _whole(horizon)
    levels = None if interval is None else _levels(interval)
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise ValueError(f"progress must be True, False or None; got {progress!r}.")
    used = _model(model, backend)
    columns = Columns(id_column, time_column, target_column)
    sources, many = read_sources(series, horizon, columns, timestamps)
    groups = [source.values for source in sources]
    values = [channel for group in groups for channel in group]
    reads = context_length(used)
    for source, group in zip(sources, groups, strict=True):
        for i, channel in enumerate(group):
            if np.isnan(channel[-reads:]).all():
                raise ValueError(
                    f"{source.name(i)} has no value in its last {reads} rows, from which it would "
                    "be forecast. Leave it out, end it earlier, or let the model read more."
                )
    with _bar(len(values), progress) as shown:
        made = used.forecast_arrays(values, horizon, levels, progress=shown)
    if levels is not None:
        made = np.concatenate([made[0][:, :, None], made[1]], axis=2)
    out, start = [], 0
    for source, group in zip(sources, groups, strict=True):
        stop = start + len(group)
        out.append(source.contained(np.asarray(made[start:stop], dtype=np.float64)))
        start = stop
    return out if many else out[0]


def default_model(
    lookback: int | None = None, *, backend: str | Backend | None = None
) -> SuperLinearForecaster:
    """Return the model that forecasts where none is given.

    Parameters
    ----------
    lookback : int, optional
        Newest rows of a series that are read at most; by default those of the model.
    backend : str or Backend, optional

    Returns
    -------
    SuperLinearForecaster
        Not fitted.
    """
    return SuperLinearForecaster(lookback=lookback, backend=backend)


def context_length(model: Any) -> int:
    """Return how many of the newest rows a model reads at most.

    Parameters
    ----------
    model : SuperLinearForecaster

    Returns
    -------
    int
    """
    known = getattr(model, "lookback_", None) or getattr(model, "lookback", None)
    return int(known or getattr(model, "_longest_context", None) or LONGEST_CONTEXT)


def _whole(horizon: Any) -> int:
    if isinstance(horizon, (bool, np.bool_)) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(
            f"horizon must be a whole number of steps, at least 1; got {horizon!r}. Pass how many "
            "steps to forecast."
        )
    return int(horizon)


def _levels(interval: Any) -> list[float]:
    coverage = float(interval) if isinstance(interval, Real) else 0.0
    if not 0 < coverage < 1:  # True is 1
        raise ValueError(
            f"interval must be a coverage between 0 and 1, such as 0.9; got {interval!r}."
        )
    return [round((1 - coverage) / 2, 12), round((1 + coverage) / 2, 12)]


def _model(model: Any, backend: Any) -> Any:
    if model is None:
        return default_model(backend=backend)
    if isinstance(model, type) or not callable(getattr(model, "forecast_arrays", None)):
        raise ValueError(
            "model must be a SuperLinearForecaster, which forecasts without training; got "
            f"{model!r}. Other forecasters are fitted: model.fit(series).predict()."
        )
    return model if backend is None else copy.copy(model).set_params(backend=backend)


@contextmanager
def _bar(n_series: int, wanted: bool | None) -> Iterator[_Follow | None]:
    """Show a bar; yield what passes on the model's blocks of series and counts them."""
    if wanted is not None and not wanted:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if wanted:
            raise ImportError(
                "progress=True shows a bar of tqdm, which is not installed: pip install "
                "'mixlin[cli]'."
            ) from error
        yield None
        return
    options = {"disable": False} if wanted else {"disable": None, "delay": _PATIENCE}
    with tqdm(total=n_series, desc="forecast", unit=" series", **options) as bar:

        def follow(blocks: Iterable[Any], n_blocks: int) -> Iterator[Any]:
            for block in blocks:
                yield block
                bar.update(len(block))

        yield follow
