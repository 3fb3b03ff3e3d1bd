"""Forecasts from one origin after another, each with a model fitted on all rows before it."""

from __future__ import annotations

import time
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import clone
from sklearn.utils import Bunch

from ..base.series import Series, read_series
from ..long_frames import is_long_frame
from ..windows import is_many
from .refits import AutoRefits, refits_of

Float64Array = npt.NDArray[np.float64]

__all__ = ["rolling_backtest"]


def rolling_backtest(
    model: Any,
    X: Any,
    *,
    initial: int,
    n_origins: int | None = None,
    step: int = 1,
    window: int | None = None,
    refit: bool | int = True,
    search_every: int | None = None,
    timestamps: Any = None,
    n_jobs: int | None = None,
) -> Bunch:
    """Forecast a series from many origins, with the model fitted again at every one.

    As in use: at every origin the model knows the rows before it and forecasts those after it.

    The exact linear forecasters are not fitted anew: a row that enters the fit, or leaves it,
    changes the second moments of the windows by a matrix of low rank, and what remains is a solve.
    Forecasts are those of independent fits up to rounding, with all that these find out from
    their rows (scales, periods, half-lives). Half-lives that are a share of a growing number of
    rows, and transforms, change all windows at every origin; the sums are made anew then, which
    takes a few times as long.

    :class:`~mixlin.AutoLinearForecaster` searches on the rows of the first fit and keeps its
    choices, as its ``update`` does. Any other model is cloned and fitted at every origin.

    Parameters
    ----------
    model : forecaster
        With a ``horizon``. Fitted or not, it is not changed.
    X : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame
        One series; NaN and absent labels are missing values. Rows are counted on its grid, absent
        ones included.
    initial : int
        Rows of the first fit, and so the first origin.
    n_origins : int, optional
        As many as the rows have targets for, by default.
    step : int, default=1
        Rows from an origin to the next.
    window : int, optional
        Newest rows that a fit sees; the oldest are taken out as new ones come in. By default a
        fit sees all rows before its origin.
    refit : bool or int, default=True
        False fits at the first origin alone, k at every k-th origin; in between, the last fit
        forecasts from the newest rows.
    search_every : int, optional
        Origins after which :class:`~mixlin.AutoLinearForecaster` searches again, a multiple of
        those between fits.
    timestamps : array-like of shape (n_rows,), optional
        Times of an array's rows.
    n_jobs : int, optional
        Threads over blocks of origins; 1 by default. Another backend of joblib may be chosen with
        ``joblib.parallel_config``.

    Returns
    -------
    result : Bunch
        origins : array of shape (n_origins,)
            Row of every forecast's first step.
        forecasts, targets : arrays of shape (n_origins, horizon, n_channels)
            NaN where rows that a forecast reads are missing and the model does not read gaps, or
            where the targets are.
        mse, mae : float
            Means over all that is there, in the units of the data (mse: squared).
        per_step, per_channel, per_origin : arrays of shape (horizon,), (n_channels,), (n_origins,)
            Mean squared errors.
        seconds : float
            Wall-clock time.

    Raises
    ------
    ValueError
        If the rows are too few, X is not one series, or a parameter is out of range.

    See Also
    --------
    evaluate_ltsf : The benchmark's protocol, with one fit.

    Examples
    --------
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.backtesting import rolling_backtest
    >>> from mixlin.datasets import make_seasonal
    >>> load = make_seasonal(24 * 40, random_state=0).data
    >>> model = NLinearForecaster(lookback=48, horizon=24, alpha=1e-3)
    >>> rolled = rolling_backtest(model, load, initial=24 * 30, step=4)
    >>> rolled.origins[:3].tolist(), rolled.forecasts.shape
    ([720, 724, 728], (55, 24, 1))
    >>> alone = NLinearForecaster(lookback=48, horizon=24, alpha=1e-3).fit(load[:728])
    >>> bool(abs(alone.predict() - rolled.forecasts[2]).max() < 1e-8)
    True
    """
    began = time.perf_counter()
    horizon = _horizon_of(model)
    _check_whole("initial", initial)
    _check_whole("step", step)
    given = {"n_origins": n_origins, "window": window, "search_every": search_every}
    for name, value in given.items():
        if value is not None:
            _check_whole(name, value)
    series = _one_series(model, X, timestamps)
    n_rows = len(series.values)
    origins = np.arange(initial, n_rows - horizon + 1, step)
    if not len(origins):
        raise ValueError(
            f"initial={initial} rows and horizon={horizon} need {initial + horizon} rows; X has "
            f"{n_rows}. Fit on fewer rows first, or shorten the horizon."
        )
    if n_origins is not None and n_origins > len(origins):
        raise ValueError(
            f"n_origins={n_origins}, but {n_rows} rows hold the targets of {len(origins)} origins "
            f"from row {initial} on, {step} apart. Ask for fewer, or leave n_origins out."
        )
    origins = origins[:n_origins]
    every = _fits_every(refit, len(origins))
    forecasts = _forecasts(model, series, origins, window, every, search_every, n_jobs)
    ahead = origins[:, None] + np.arange(horizon)
    targets = np.asarray(series.values, dtype=np.float64)[ahead]
    errors = forecasts - targets
    squared = np.square(errors)
    return Bunch(
        origins=origins,
        forecasts=forecasts,
        targets=targets,
        mse=float(_mean(squared, (0, 1, 2))),
        mae=float(_mean(np.abs(errors), (0, 1, 2))),
        per_step=_mean(squared, (0, 2)),
        per_channel=_mean(squared, (0, 1)),
        per_origin=_mean(squared, (1, 2)),
        seconds=time.perf_counter() - began,
    )


def _forecasts(
    model: Any,
    series: Series,
    origins: npt.NDArray[np.intp],
    window: int | None,
    every: int,
    search_every: int | None,
    n_jobs: int | None,
) -> Float64Array:
    """Return the forecasts from all origins, (n_origins, horizon, C)."""

    def first_row(origin: int) -> int:
        return 0 if window is None else max(0, origin - window)

    first = refits_of(model, series)
    if search_every is not None:
        if not isinstance(first, AutoRefits):
            raise ValueError(
                f"search_every={search_every} is for AutoLinearForecaster, which chooses among "
                f"candidates; {type(model).__name__} makes no choice to keep. Leave it out."
            )
        if search_every % every:
            raise ValueError(
                f"search_every={search_every} must be a multiple of the origins between fits, "
                f"{every}, as a search is a fit."
            )
    begin = int(origins[0])
    if search_every is None:
        first.choose(first_row(begin), begin)

    def run(places: range) -> list[Float64Array]:
        refits: Any = first
        if search_every is None and isinstance(first, AutoRefits):
            refits = first.same_choices()
        elif places.start:
            refits = refits_of(model, series)
        out = []
        for place in places:
            origin = int(origins[place])
            start = first_row(origin)
            if search_every is not None and place % search_every == 0:
                refits.choose(start, origin)
            if place % every == 0:
                refits.fit(start, origin)
            out.append(refits.forecast(origin))
        return out

    n = len(origins)
    unit = every if search_every is None else search_every
    workers = 1 if n_jobs is None else max(1, int(effective_n_jobs(n_jobs)))
    units = -(-n // unit)
    size = -(-units // workers) * unit
    blocks = [range(i, min(i + size, n)) for i in range(0, n, size)]
    if len(blocks) == 1:
        return np.array(run(blocks[0]))
    parts = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(run)(block) for block in blocks)
    return np.concatenate([np.array(part) for part in parts])


def _horizon_of(model: Any) -> int:
    known = model.get_params(deep=False) if hasattr(model, "get_params") else {}
    missing = {"lookback", "horizon"} - set(known)
    if missing:
        raise ValueError(
            f"{type(model).__name__} has no parameter {' and '.join(sorted(missing))}; pass a "
            "forecaster itself, not a Pipeline or a search around it."
        )
    if model.horizon is None:
        raise ValueError(
            f"this {type(model).__name__} has no horizon; set it: {type(model).__name__}(horizon="
            "...)."
        )
    return int(model.horizon)


def _check_whole(name: str, value: Any) -> None:
    whole = isinstance(value, (Integral, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not whole or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")


def _fits_every(refit: Any, n_origins: int) -> int:
    """Return the number of origins from a fit to the next."""
    if isinstance(refit, (bool, np.bool_)):
        return 1 if refit else n_origins
    if isinstance(refit, (Integral, np.integer)) and int(refit) >= 1:
        return min(int(refit), n_origins)
    raise ValueError(
        "refit must be True, False or the number of origins from a fit to the next, at least 1; "
        f"got {refit!r}."
    )


def _one_series(model: Any, X: Any, timestamps: Any) -> Series:
    if is_many(X) or is_long_frame(X):
        raise ValueError(
            "rolling_backtest takes one series, (n_rows, n_channels); got "
            f"{'a list of series' if is_many(X) else 'a long frame of several series'}. Backtest "
            "them one by one."
        )
    probe = clone(model)
    if hasattr(probe, "_validate_params"):
        probe._validate_params()
    return read_series(probe, X, timestamps, reset=True)[0]


def _mean(values: Float64Array, axes: tuple[int, ...]) -> Any:
    """Return the mean of what is there, NaN where nothing is."""
    seen = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(seen, values, 0.0).sum(axis=axes) / seen.sum(axis=axes)
