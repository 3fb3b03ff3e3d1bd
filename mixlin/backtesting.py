"""Evaluation of forecasters on the long-horizon benchmark ("LTSF")."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import Bunch

from .datasets import fetch_ett, fetch_exchange_rate, fetch_illness, ltsf_split, make_seasonal

Float64Array = npt.NDArray[np.float64]

__all__ = ["evaluate_ltsf"]

_BLOCK_ELEMENTS = 2**19  # 4 MiB of float64: what one block of windows and targets may hold
_ETT = {name.lower(): name for name in ("ETTh1", "ETTh2", "ETTm1", "ETTm2")}
_SPLITS = ("test", "validation")


def evaluate_ltsf(
    estimator: Any,
    dataset: str | Bunch,
    lookback: int,
    horizon: int,
    *,
    split: str = "test",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Score a forecaster by the protocol of the long-horizon benchmark [1]_.

    Every channel is z-scored with the mean and the population standard deviation of the training
    rows, and errors stay in that scale. A clone of the estimator is fitted on the standardized
    training rows only; then *every* window whose targets lie inside the span is forecast, none is
    dropped to fill a batch. Contexts may reach back over the border of the span, so the number of
    windows does not depend on the lookback. Windows are cut and forecast block by block.

    Parameters
    ----------
    estimator : forecaster
        Not fitted, nor changed; a clone gets ``set_params(lookback=lookback, horizon=horizon)``.
    dataset : str or Bunch
        ``"ETTh1"``, ``"ETTh2"``, ``"ETTm1"``, ``"ETTm2"``, ``"exchange_rate"``,
        ``"national_illness"`` or ``"seasonal"`` (the synthetic load of
        :func:`~mixlin.datasets.make_seasonal`, which needs no file), in any case; or what a
        fetcher of :mod:`mixlin.datasets` returned: an object with ``name`` and ``data``, an array
        or a frame of shape (n_rows, n_channels).
    lookback, horizon : int
        Steps that a forecast reads, and steps to forecast.
    split : {"test", "validation"}, default="test"
        The span to score. Choose settings on the validation span, never on the test span.
    data_home : str or path-like, optional
        Folder of the benchmark files, as in the fetchers.
    download_if_missing : bool, default=True
        Whether a missing file is downloaded.

    Returns
    -------
    result : Bunch
        mse, mae : float
            Means over all windows, steps and channels, in units of the training standard
            deviation (mse: squared).
        n_windows : int
            Windows that were scored. Those that touch a missing value are left out.
        per_step : array of shape (horizon,)
            Mean squared error of every step.
        per_channel : array of shape (n_channels,)
            Mean squared error of every channel.
        mae_per_step, mae_per_channel : arrays of the same shapes
            The same for absolute errors.
        estimator : forecaster
            The fitted clone, in standardized units.
        fit_seconds, predict_seconds : float
            Wall-clock time of the fit and of all forecasts.
        dataset, split, lookback, horizon, feature_names
            What was scored.

    Raises
    ------
    ValueError
        If the dataset or the split is not known, the estimator has no ``lookback`` and
        ``horizon``, or the spans are too short for them.
    OSError
        If the file is missing and can't be downloaded.

    References
    ----------
    .. [1] Zhou, H., Zhang, S., Peng, J., Zhang, S., Li, J., Xiong, H. and Zhang, W. (2021).
       "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting". AAAI.

    Examples
    --------
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.backtesting import evaluate_ltsf
    >>> from mixlin.datasets import make_seasonal
    >>> load = make_seasonal(24 * 100, n_channels=2, random_state=0)
    >>> result = evaluate_ltsf(NLinearForecaster(), load, lookback=168, horizon=24)
    >>> result.n_windows, result.per_step.shape, result.per_channel.shape
    (457, (24,), (2,))
    >>> bool(result.mse < 1)  # better than the mean of the training rows
    True
    """
    for name, value in (("lookback", lookback), ("horizon", horizon)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {_SPLITS}; got {split!r}.")
    bunch = _load(dataset, data_home, download_if_missing)
    borders = ltsf_split(bunch)
    values = _values(bunch)
    targets = borders.test if split == "test" else borders.validation
    n_targets = targets.stop - targets.start
    if horizon > n_targets:
        raise ValueError(
            f"horizon={horizon} is longer than the {split} span of {bunch.name}, which has "
            f"{n_targets} rows. Shorten horizon."
        )
    model = _prepared(estimator, int(lookback), int(horizon))

    train = values[borders.train]
    if np.isnan(train).all(axis=0).any():
        raise ValueError(
            f"a channel of {bunch.name} has no value in its {len(train)} training rows; drop it."
        )
    mean = np.nanmean(train, axis=0)
    deviation = np.nanstd(train, axis=0)
    # a channel that is constant up to rounding is only centered, as in StandardScaler
    deviation[deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    began = time.perf_counter()
    model.fit((train - mean) / deviation)
    fitted = time.perf_counter()
    span = (values[borders.context(split, int(lookback))] - mean) / deviation
    squared, absolute, n_windows = _errors(model, span, int(lookback), int(horizon))
    return Bunch(
        mse=float(squared.mean()),
        mae=float(absolute.mean()),
        n_windows=n_windows,
        per_step=squared.mean(axis=1),
        per_channel=squared.mean(axis=0),
        mae_per_step=absolute.mean(axis=1),
        mae_per_channel=absolute.mean(axis=0),
        estimator=model,
        fit_seconds=fitted - began,
        predict_seconds=time.perf_counter() - fitted,
        dataset=str(bunch.name),
        split=split,
        lookback=int(lookback),
        horizon=int(horizon),
        feature_names=list(getattr(bunch, "feature_names", range(values.shape[1]))),
    )


def _load(
    dataset: str | Bunch, data_home: str | os.PathLike[str] | None, download_if_missing: bool
) -> Bunch:
    """Return the dataset of a name, and anything but a name as it is."""
    if not isinstance(dataset, str):
        return dataset  # ltsf_split refuses what is no dataset
    options: dict[str, Any] = {
        "data_home": data_home,
        "download_if_missing": download_if_missing,
    }
    key = dataset.lower()
    if key in _ETT:
        return fetch_ett(_ETT[key], **options)
    if key == "exchange_rate":
        return fetch_exchange_rate(**options)
    if key == "national_illness":
        return fetch_illness(**options)
    if key == "seasonal":
        return make_seasonal(random_state=0)
    known = [*_ETT.values(), "exchange_rate", "national_illness", "seasonal"]
    raise ValueError(
        f"dataset must be one of {', '.join(known)}, or the Bunch of a fetcher; got {dataset!r}."
    )


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


def _prepared(estimator: Any, lookback: int, horizon: int) -> Any:
    missing = {"lookback", "horizon"} - set(estimator.get_params(deep=False))
    if missing:
        raise ValueError(
            f"{type(estimator).__name__} has no parameter {' and '.join(sorted(missing))}, which "
            "the benchmark sets; pass a forecaster itself, not a Pipeline or a search around it."
        )
    return clone(estimator).set_params(lookback=lookback, horizon=horizon)


def _blocks(span: Float64Array, lookback: int, horizon: int) -> Iterator[Float64Array]:
    """Cut complete windows (n, lookback + horizon, C), a bounded number at a time."""
    length = lookback + horizon
    size = max(1, _BLOCK_ELEMENTS // (length * span.shape[1]))
    whole = np.asarray(~np.isnan(span).any(axis=1))
    for start in range(0, len(span) - length + 1, size):
        rows = span[start : start + size + length - 1]
        windows = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)
        present = np.lib.stride_tricks.sliding_window_view(
            whole[start : start + size + length - 1], length
        ).all(axis=1)
        if not present.all():
            windows = windows[present]
        if len(windows):
            yield windows.transpose(0, 2, 1)


def _errors(
    model: Any, span: Float64Array, lookback: int, horizon: int
) -> tuple[Float64Array, Float64Array, int]:
    """Return mean squared and absolute errors (horizon, C) and the number of windows."""
    squared = np.zeros((horizon, span.shape[1]))
    absolute = np.zeros_like(squared)
    n_windows = 0
    for windows in _blocks(span, lookback, horizon):
        error = model.predict(windows[:, :lookback]) - windows[:, lookback:]
        n_windows += len(error)
        squared += np.einsum("nhc,nhc->hc", error, error)
        absolute += np.abs(error, out=error).sum(axis=0)
    if not n_windows:
        raise ValueError("every window of the span touches a missing value; nothing to score.")
    return squared / n_windows, absolute / n_windows, n_windows
