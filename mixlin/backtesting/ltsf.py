"""Fitting and scoring by the protocol of the benchmark."""

from __future__ import annotations

import os
import time
from numbers import Integral
from typing import Any

from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..datasets import LTSFSplit
from ..windows import too_short
from .spans import Spans, read_spans

__all__ = ["evaluate_ltsf", "score_ltsf"]


def evaluate_ltsf(
    estimator: Any,
    dataset: str | Bunch,
    lookback: int | None,
    horizon: int,
    *,
    split: str = "test",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Fit and score a forecaster by the protocol of the long-horizon benchmark [1]_.

    Every channel is z-scored with the mean and the population standard deviation of the training
    rows, and errors stay in that scale. A clone of the estimator is fitted on the standardized
    training rows only; then *every* window whose targets lie inside the span is forecast, none is
    dropped to fill a batch. Contexts may reach back over the border of the span, so the number of
    windows does not depend on the lookback. Windows are cut and forecast block by block.

    Models that choose on held-out rows, as mixtures do, get the validation rows for it where the
    test span is scored: they are fitted on the training rows, and choose on the validation rows
    (``MoLEForecaster.with_validation``). Where the validation span is scored, they never see it:
    they hold out their own share of the training rows. Models routed by the calendar get the
    times of the dataset. :class:`~mixlin.AutoLinearForecaster`, which may take logarithms, is
    fitted in data units; its errors are divided by the deviations of the training rows.

    Parameters
    ----------
    estimator : forecaster
        Not fitted, nor changed; a clone gets ``set_params(lookback=lookback, horizon=horizon)``.
    dataset : str or Bunch
        ``"ETTh1"``, ``"ETTh2"``, ``"ETTm1"``, ``"ETTm2"``, ``"exchange_rate"``,
        ``"national_illness"`` or ``"seasonal"`` (the synthetic load of
        :func:`~mixlin.datasets.make_seasonal`, which needs no file), in any case; or what a
        fetcher of :mod:`mixlin.datasets` returned: an object with ``name`` and ``data``, an array
        or a frame of shape (n_rows, n_channels). Times are its ``index`` of shape (n_rows,), or
        that of the frame.
    lookback : int or None
        Steps that a forecast reads; None leaves it to the estimator, which may try several.
    horizon : int
        Steps to forecast.
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
        channel_mean, channel_scale : arrays of shape (n_channels,)
            What channels were standardized with.
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
        ``horizon``, the spans are too short for them, or a model routed by the calendar finds no
        times without gaps.
    OSError
        If the file is missing and can't be downloaded.

    See Also
    --------
    score_ltsf : For a model that is fitted.

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
        if value is None and name == "lookback":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
    spans = read_spans(dataset, split, int(horizon), data_home, download_if_missing)
    model = _prepared(estimator, lookback, int(horizon))
    stop = spans.borders.train_end
    if split == "test":
        model, stop = as_protocol(model, spans.borders)
    optional = getattr(model, "_takes_timestamps", False) and spans.has_times
    if optional or getattr(model, "_wants_timestamps", False):
        spans = spans.dated(type(model).__name__)
    began = time.perf_counter()
    standardized = not getattr(model, "_units_matter", False)
    spans.fit(model, stop, standardized=standardized)
    fitted = time.perf_counter()
    result = _scored(spans, model, int(model.lookback_), int(horizon), standardized=standardized)
    seconds = {"fit_seconds": fitted - began, "predict_seconds": time.perf_counter() - fitted}
    return Bunch(**result, **seconds)


def score_ltsf(
    model: Any,
    dataset: str | Bunch,
    *,
    split: str = "test",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Score a fitted forecaster by the protocol of the long-horizon benchmark.

    As :func:`evaluate_ltsf`, but nothing is fitted: a model that was fitted on a series in data
    units, and perhaps loaded from a file, forecasts every window of the span. Errors are divided
    by the population standard deviation of the training rows of their channel. Which rows the
    model was fitted on is not known here: fit on ``ltsf_split(dataset).train`` for a fair score.

    Parameters
    ----------
    model : forecaster
        Fitted in data units; lookback and horizon are its own.
    dataset, split, data_home, download_if_missing
        As in :func:`evaluate_ltsf`.

    Returns
    -------
    result : Bunch
        As from :func:`evaluate_ltsf`, without ``fit_seconds``; ``estimator`` is the model.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    ValueError
        If the model has other channels than the dataset, or for the reasons of
        :func:`evaluate_ltsf`.
    OSError
        If the file is missing and can't be downloaded.

    Examples
    --------
    >>> from mixlin import NLinearForecaster
    >>> from mixlin.backtesting import score_ltsf
    >>> from mixlin.datasets import ltsf_split, make_seasonal
    >>> load = make_seasonal(24 * 100, n_channels=2, random_state=0)
    >>> model = NLinearForecaster(lookback=168, horizon=24).fit(load.data[ltsf_split(load).train])
    >>> result = score_ltsf(model, load)
    >>> result.n_windows, bool(result.mse < 1)
    (457, True)
    """
    check_is_fitted(model, "plan_")
    lookback, horizon = int(model.lookback_), int(model.horizon_)
    spans = read_spans(dataset, split, horizon, data_home, download_if_missing)
    names, learnt = spans.feature_names, getattr(model, "feature_names_in_", None)
    if names is not None and learnt is not None and list(learnt) != names:
        raise ValueError(
            f"this {type(model).__name__} was fitted on the channels {_listed(list(learnt))}, but "
            f"those of {spans.name} are {_listed(names)}. Pass a dataset with the same channels "
            "in the same order."
        )
    if model._reads_timestamps or model._reads_ordinals:
        spans = spans.dated(type(model).__name__)
    began = time.perf_counter()
    result = _scored(spans, model, lookback, horizon, standardized=False)
    return Bunch(**result, predict_seconds=time.perf_counter() - began)


def as_protocol(model: Any, borders: LTSFSplit) -> tuple[Any, int]:
    """Return a model as the protocol fits it for the test span, and the end of its rows.

    Parameters
    ----------
    model : forecaster
        Not fitted, with lookback and horizon.
    borders : LTSFSplit

    Returns
    -------
    model : forecaster
        A clone that chooses on the validation rows, where it chooses on rows at all.
    stop : int
        It is fitted on the rows before this one.

    Raises
    ------
    ValueError
        If the training rows are too few for one window, and the model needs one.

    Examples
    --------
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.backtesting.ltsf import as_protocol
    >>> from mixlin.datasets import ltsf_split
    >>> model, stop = as_protocol(MoLEForecaster(336, 96), ltsf_split("ETTh1"))
    >>> model.solver.validation, stop
    (2880, 11520)
    """
    any_length = getattr(model, "_longest_context", None) is not None  # such models learn nothing
    if not any_length:
        needed = model._lookbacks_read([borders.train_end])[1]
        if borders.train_end < needed + model.horizon:
            raise too_short(needed, model.horizon, borders.train_end)
    if not getattr(model, "_holds_out", False):
        return model, borders.train_end
    return model.with_validation(borders.val_end - borders.train_end), borders.val_end


def _scored(
    spans: Spans, model: Any, lookback: int, horizon: int, *, standardized: bool
) -> dict[str, Any]:
    squared, absolute, n_windows = spans.errors(model, lookback, horizon, standardized=standardized)
    names = spans.feature_names
    return {
        "mse": float(squared.mean()),
        "mae": float(absolute.mean()),
        "n_windows": n_windows,
        "per_step": squared.mean(axis=1),
        "per_channel": squared.mean(axis=0),
        "mae_per_step": absolute.mean(axis=1),
        "mae_per_channel": absolute.mean(axis=0),
        "channel_mean": spans.mean,
        "channel_scale": spans.scale,
        "estimator": model,
        "dataset": spans.name,
        "split": spans.split,
        "lookback": lookback,
        "horizon": horizon,
        "feature_names": list(range(squared.shape[1])) if names is None else names,
    }


def _prepared(estimator: Any, lookback: int | None, horizon: int) -> Any:
    missing = {"lookback", "horizon"} - set(estimator.get_params(deep=False))
    if missing:
        raise ValueError(
            f"{type(estimator).__name__} has no parameter {' and '.join(sorted(missing))}, which "
            "the benchmark sets; pass a forecaster itself, not a Pipeline or a search around it."
        )
    if lookback is None:
        return clone(estimator).set_params(horizon=horizon)
    return clone(estimator).set_params(lookback=int(lookback), horizon=horizon)


def _listed(names: list[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown
