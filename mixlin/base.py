"""The contract of every forecaster: containers in, the fitted plan applied, containers out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_array, check_consistent_length
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .backends import Backend, resolve
from .intervals import check_quantiles, residual_quantiles
from .mixture import Plan, predict_windows
from .persistence import read_record, write_record
from .timestamps import TimeIndex, fill_gaps, read_index, read_timestamps
from .windows import (
    Container,
    fingerprint,
    is_many,
    is_pandas,
    read_values,
    refuse_stacked_windows,
    starts_inside,
    too_short,
)

FloatArray = npt.NDArray[np.floating[Any]]
Float64Array = npt.NDArray[np.float64]

_DEFAULT_LOOKBACK = 336

FORECASTERS: dict[str, type[BaseForecaster]] = {}
"""Classes that :func:`mixlin.load` finds, by name."""


@dataclass(frozen=True, eq=False)
class Series:
    """One series on its regular grid.

    Parameters
    ----------
    values : array of shape (T, C)
        NaN where a row is missing.
    container : Container
    index : TimeIndex, optional
    first : object, optional
        Label of the first row.
    rows : array of shape (n_given,)
        Place of every given row on the grid.
    """

    values: FloatArray
    container: Container
    index: TimeIndex | None
    first: Any
    rows: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Training:
    """Validated training data, series or windows.

    Parameters
    ----------
    lookback, horizon : int
    series : list of array of shape (T, C), or None
    windows : tuple of arrays of shape (n, C, lookback) and (n, C, horizon), or None
    weight : list of array of shape (T,), array of shape (n,), or None
    continues : bool
        Whether the (one) series follows directly on what was learnt before.
    """

    lookback: int
    horizon: int
    series: list[FloatArray] | None = None
    windows: tuple[FloatArray, FloatArray] | None = None
    weight: Any = None
    continues: bool = False


@dataclass(frozen=True, eq=False)
class _Request:
    """Windows to forecast, and what the forecasts leave in."""

    windows: FloatArray  # (n, C, lookback)
    shape: Literal["one", "many", "stacked"]
    contexts: list[Series] | None = None


class BaseForecaster(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Fit, predict and score on windows and on series.

    Subclasses say how training data become a :class:`~mixlin.mixture.Plan` (``_learn``).
    """

    __metadata_request__fit = {"timestamps": True}
    __metadata_request__partial_fit = {"timestamps": True}
    __metadata_request__predict = {"timestamps": True}
    __metadata_request__score = {"timestamps": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "lookback": [Interval(Integral, 1, None, closed="left"), None],
        "horizon": [Interval(Integral, 1, None, closed="left"), None],
        "backend": [str, Backend, None],
        "random_state": ["random_state"],
    }

    _not_saved: tuple[str, ...] = ()  # state that only partial_fit reads

    lookback: int | None
    horizon: int | None
    backend: str | Backend | None
    _state: tuple[str, ...]  # names of the fitted attributes
    plan_: Plan
    lookback_: int
    horizon_: int
    mode_: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        FORECASTERS[cls.__name__] = cls

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    @abstractmethod
    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        """Return the fitted state, ``plan_`` among it, without touching ``self``.

        Parameters
        ----------
        training : Training
        update : bool
            Add to what was learnt before instead of starting anew.
        """

    # -- fitting ---------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        timestamps: Any = None,
    ) -> BaseForecaster:
        """Fit on windows (``y`` given) or on series.

        Parameters
        ----------
        X : array-like
            With ``y``: windows of shape (n_windows, lookback) or (n_windows, lookback,
            n_channels). Without: a series of shape (n_rows,) or (n_rows, n_channels), a pandas
            Series or DataFrame (one column per channel), or a list or tuple of these for many
            series. Missing values (NaN, or absent labels of an index) are allowed in series:
            windows that touch them are left out.
        y : array-like of shape (n_windows,), (n_windows, horizon) or \
                (n_windows, horizon, n_channels), optional
            What follows each window.
        sample_weight : array-like, optional
            Shape (n_windows,). For a series (n_rows,): a window counts with the mean weight of
            its targets; for many series one weight each.
        timestamps : array-like of shape (n_rows,), optional
            ``datetime64`` stamps of an array's rows; a list of them for many series. A frame
            brings its own index.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data can't be used; the estimator is left as it was.
        """
        self._validate_params()
        state = self._fit_state(X, y, sample_weight, timestamps, update=False)
        for name in vars(self).get("_state", ()):
            delattr(self, name)
        vars(self).update(state, _state=tuple(state))
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        timestamps: Any = None,
        new_series: bool = False,
    ) -> BaseForecaster:
        """Learn from further windows or rows, exactly as if all had been given at once.

        What is kept are sums, not data: about ``24 * n_channels * (lookback + horizon)`` bytes
        for series, ``8 * n_channels * (lookback + horizon + 2) ** 2`` for windows and for
        weighted series, whatever their number. The window scale's epsilon (RLinear) stays that
        of the first call.

        Parameters
        ----------
        X, y, sample_weight, timestamps
            As in :meth:`fit`.
        new_series : bool, default=False
            By default rows continue the series of the last call, and windows across the join
            count. True starts another series.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data do not fit to what was learnt before; the estimator is left as it was.
        """
        self._validate_params()
        known = "plan_" in vars(self)
        state = self._fit_state(
            X, y, sample_weight, timestamps, update=known, new_series=new_series
        )
        names = {**dict.fromkeys(vars(self).get("_state", ())), **state}
        vars(self).update(state, _state=tuple(names))
        return self

    def _fit_state(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        timestamps: Any,
        *,
        update: bool,
        new_series: bool = False,
    ) -> dict[str, Any]:
        resolve(self.backend)
        mode = "windows" if y is not None else "series"
        if update and mode != self.mode_:
            raise ValueError(
                f"this {type(self).__name__} was fitted on {self.mode_}; partial_fit got {mode}. "
                "Call fit to start anew."
            )
        probe = object.__new__(type(self))  # validate_data writes to what it is given
        vars(probe).update(vars(self))
        if mode == "windows":
            state = self._fit_windows(probe, X, y, sample_weight, timestamps, update)
        else:
            state = self._fit_series(probe, X, sample_weight, timestamps, update, new_series)
        names = getattr(probe, "feature_names_in_", None)
        return {
            **state,
            "mode_": mode,
            "n_features_in_": probe.n_features_in_,
            **({} if names is None else {"feature_names_in_": names}),
        }

    def _fit_windows(
        self, probe: Any, X: Any, y: Any, sample_weight: Any, timestamps: Any, update: bool
    ) -> dict[str, Any]:
        accept = {"dtype": [np.float64, np.float32], "allow_nd": True, "ensure_min_samples": 2}
        target = {
            "dtype": [np.float64, np.float32],
            "ensure_2d": False,
            "allow_nd": True,
        }
        X, y = validate_data(probe, X, y, reset=not update, validate_separately=(accept, target))
        check_consistent_length(X, y)
        if X.ndim > 3 or (X.ndim == 3 and y.ndim != 3) or (X.ndim == 2 and y.ndim > 2):
            raise ValueError(
                f"windows (n_windows, lookback) take y of shape (n_windows,) or (n_windows, "
                f"horizon), windows (n_windows, lookback, n_channels) take y of shape "
                f"(n_windows, horizon, n_channels); got X {X.shape} and y {y.shape}."
            )
        if X.ndim == 3 and X.shape[2] != y.shape[2]:
            raise ValueError(
                f"X and y must have the same channels; got {X.shape[2]} in X {X.shape} and "
                f"{y.shape[2]} in y {y.shape}."
            )
        n, length = X.shape[:2]
        lookback = length if self.lookback is None else self.lookback
        if lookback > length:
            raise ValueError(
                f"lookback={lookback} is longer than the windows, which have {length} columns. "
                "Shorten lookback, or pass longer windows."
            )
        horizon = 1 if y.ndim == 1 else y.shape[1]
        if self.horizon is not None and self.horizon != horizon:
            raise ValueError(
                f"horizon={self.horizon}, but y has {horizon} step{'s' if horizon > 1 else ''}. "
                "Leave horizon out when fitting on windows."
            )
        if timestamps is not None and len(timestamps) != n:
            raise ValueError(f"timestamps must have one entry per window, {n}.")
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not weight.any():
                raise ValueError("sample_weight is zero everywhere; nothing to learn from.")
        three = X if X.ndim == 3 else X[:, :, None]
        targets = y.reshape(n, horizon, -1)
        self._check_same(update, lookback, horizon, three.shape[2], y.ndim)
        training = Training(
            lookback,
            horizon,
            windows=(
                three[:, length - lookback :].transpose(0, 2, 1),
                targets.transpose(0, 2, 1),
            ),
            weight=weight,
        )
        return {
            **self._learn(training, update=update),
            "lookback_": lookback,
            "horizon_": horizon,
            "n_channels_in_": three.shape[2],
            "_target_ndim": y.ndim,
        }

    def _fit_series(
        self,
        probe: Any,
        X: Any,
        sample_weight: Any,
        timestamps: Any,
        update: bool,
        new_series: bool,
    ) -> dict[str, Any]:
        horizon = self.horizon
        if horizon is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: pass y "
                "to fit on windows, or set horizon=... to fit on a series."
            )
        many = is_many(X)
        series = self._read_series(probe, X, timestamps, reset=not update)
        weights = None if sample_weight is None else _series_weights(sample_weight, series, many)
        n_channels = series[0].values.shape[1]
        n_rows = min(len(s.values) for s in series)
        if update:
            lookback = self.lookback_
        elif self.lookback is None:
            lookback = max(1, min(_DEFAULT_LOOKBACK, n_rows // 3))
        else:
            lookback = self.lookback
        self._check_same(update, lookback, horizon, n_channels, None)
        continues = update and not many and not new_series
        if not update and all(len(s.values) < lookback + horizon for s in series):
            raise too_short(lookback, horizon, max(len(s.values) for s in series))
        if continues:
            self._check_follows(series[0])
        training = Training(
            lookback,
            horizon,
            series=[s.values for s in series],
            weight=weights,
            continues=continues,
        )
        state = self._learn(training, update=update)

        tails = [s.values[-lookback:] for s in series]
        known = [fingerprint(s.values) for s in series]
        if update:
            known.append(self._known)
            if continues:
                tails = [np.concatenate([self._tails[-1], tails[0]])[-lookback:]]
        contexts = [np.array(t, dtype=np.float64) for t in tails]
        indexes = [s.index for s in series]
        last = [None if i is None else i.last for i in indexes]
        freq = [None if i is None else i.freq for i in indexes]
        containers = [
            Container(s.container.kind, s.container.ndim, s.container.columns) for s in series
        ]
        return {
            **state,
            "lookback_": lookback,
            "horizon_": horizon,
            "n_channels_in_": n_channels,
            "context_": contexts if many else contexts[0],
            "cutoff_": last if many else last[0],
            "freq_": freq if many else freq[0],
            "_tails": contexts,
            "_indexes": indexes,
            "_containers": containers,
            "_dtypes": [s.values.dtype.name for s in series],
            "_known": np.unique(np.concatenate(known)),
        }

    def _check_same(
        self, update: bool, lookback: int, horizon: int, n_channels: int, ndim: int | None
    ) -> None:
        if not update:
            return
        now = (lookback, horizon, n_channels)
        before = (self.lookback_, self.horizon_, self.n_channels_in_)
        if now != before or (ndim is not None and ndim != self._target_ndim):
            raise ValueError(
                f"partial_fit got lookback, horizon and channels {now}; learnt before with "
                f"{before}. Call fit to start anew."
            )

    def _check_follows(self, series: Series) -> None:
        index = self._indexes[-1]
        if index is None or series.index is None:
            return
        if not index.continues_as(series.index, series.first):
            raise ValueError(
                f"the rows start at {series.first}, but the series learnt before ends at "
                f"{index.last} and continues at {index.first_after()}. Pass the rows in between, "
                "or new_series=True."
            )

    # -- reading series --------------------------------------------------------------------

    def _read_series(self, probe: Any, X: Any, timestamps: Any, *, reset: bool) -> list[Series]:
        many = is_many(X)
        if timestamps is None:
            stamps: list[Any] = [None] * (len(X) if many else 1)
        else:
            stamps = list(timestamps) if many else [timestamps]
            if many and len(stamps) != len(X):
                raise ValueError(
                    f"timestamps must be a list with one array per series, {len(X)}; got "
                    f"{len(stamps)}."
                )
        out = []
        for i, (item, stamp) in enumerate(zip(X if many else [X], stamps, strict=True)):
            values, container = read_values(item, name=f"X[{i}]" if many else "X")
            named = item if container.kind == "frame" else values
            validate_data(probe, named, reset=reset and i == 0, skip_check_array=True)
            if i and values.shape[1] != out[0].values.shape[1]:
                raise ValueError(
                    f"all series must have the same channels; X[0] has {out[0].values.shape[1]}, "
                    f"X[{i}] has {values.shape[1]}."
                )
            out.append(_place(item, values, container, stamp))
        return out

    # -- forecasting -----------------------------------------------------------------------

    def predict(self, X: Any = None, *, horizon: int | None = None, timestamps: Any = None) -> Any:
        """Forecast.

        Parameters
        ----------
        X : array-like, optional
            Fitted on windows: windows as in :meth:`fit`. Fitted on series: nothing to continue
            the training series, a context of shape (n_rows,) or (n_rows, n_channels) with at
            least ``lookback_`` rows, a frame, a list of contexts, or windows of shape
            (n_windows, lookback_, n_channels).
        horizon : int, optional
            A shorter one returns the first steps.
        timestamps : array-like, optional
            Stamps of the context's rows.

        Returns
        -------
        array or frame
            Windows: shaped like ``y``, or (n_windows, horizon, n_channels). Contexts: (horizon,)
            or (horizon, n_channels), a frame with the continued index for a frame, a list for a
            list. Arrays have the dtype of ``X``.

        Raises
        ------
        ValueError
            If the context is too short, holds missing values, or has other channels.
        """
        request = self._request(X, timestamps)
        forecast = self._forecast(request, horizon)
        return self._wrap(forecast, request, None)

    def predict_quantiles(
        self,
        X: Any = None,
        quantiles: npt.ArrayLike = (0.1, 0.5, 0.9),
        *,
        horizon: int | None = None,
        timestamps: Any = None,
    ) -> Any:
        """Forecast quantiles, from the variance of the training residuals at every step.

        Parameters
        ----------
        X, horizon, timestamps
            As in :meth:`predict`.
        quantiles : array-like of shape (n_quantiles,)
            Strictly between 0 and 1.

        Returns
        -------
        array or frame
            As :meth:`predict` with a last axis of n_quantiles; frames have columns
            (channel, quantile).

        Raises
        ------
        ValueError
            If the model was loaded from a state dict, which has no residuals.
        """
        levels = check_quantiles(quantiles)
        request = self._request(X, timestamps)
        forecast = self._forecast(request, horizon)
        variance = self.plan_.residual_variance
        if variance is None:
            raise ValueError(
                f"this {type(self).__name__} has no training residuals: it was made from a state "
                "dict. Fit it, or forecast points only."
            )
        spread = residual_quantiles(forecast, variance[:, : forecast.shape[2]], levels)
        return self._wrap(spread, request, levels)

    def predict_interval(
        self,
        X: Any = None,
        coverage: float = 0.9,
        *,
        horizon: int | None = None,
        timestamps: Any = None,
    ) -> Any:
        """Forecast central intervals.

        Parameters
        ----------
        X, horizon, timestamps
            As in :meth:`predict`.
        coverage : float, default=0.9
            Share of values that the interval is meant to hold, between 0 and 1.

        Returns
        -------
        array or frame
            As :meth:`predict` with a last axis (lower, upper); frames have columns
            (channel, quantile).
        """
        if not isinstance(coverage, (int, float, np.floating)) or not 0 < coverage < 1:
            raise ValueError(f"coverage must be a number between 0 and 1; got {coverage!r}.")
        levels = [round((1 - coverage) / 2, 12), round((1 + coverage) / 2, 12)]
        return self.predict_quantiles(X, levels, horizon=horizon, timestamps=timestamps)

    def _forecast(self, request: _Request, horizon: int | None) -> Float64Array:
        if horizon is None:
            horizon = self.horizon_
        whole = isinstance(horizon, (int, np.integer)) and not isinstance(horizon, bool)
        if not whole or not 1 <= horizon <= self.horizon_:
            raise ValueError(
                f"horizon must be an integer from 1 to {self.horizon_}, the horizon of the fit; "
                f"got {horizon!r}. Fit with a longer horizon to forecast further."
            )
        mixture = self.plan_.mixture(self.lookback_, int(horizon))
        forecast = predict_windows(mixture, request.windows, resolve(self.backend))
        return forecast[:, :, :horizon]

    def _request(self, X: Any, timestamps: Any) -> _Request:
        check_is_fitted(self, "plan_")
        if self.mode_ == "windows":
            if X is None:
                raise ValueError(
                    f"this {type(self).__name__} was fitted on windows, so there is no series to "
                    "continue. Pass windows to predict."
                )
            X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], allow_nd=True)
            return _Request(self._channels_first(X if X.ndim > 2 else X[:, :, None]), "stacked")
        if X is None:
            contexts = [
                Series(tail.astype(dtype), container, index, None, np.arange(len(tail)))
                for tail, dtype, container, index in zip(
                    self._tails, self._dtypes, self._containers, self._indexes, strict=True
                )
            ]
            many = isinstance(self.context_, list)
        elif not is_many(X) and not is_pandas(X) and np.ndim(X) == 3:
            X = check_array(
                X, dtype=[np.float64, np.float32], allow_nd=True, input_name="X", estimator=self
            )
            if X.shape[1] < self.lookback_:
                raise self._short_context(X.shape[1])
            return _Request(self._channels_first(X), "stacked")
        else:
            contexts = self._read_series(self, X, timestamps, reset=False)
            many = is_many(X)
            self._check_frequency(contexts)
        windows = np.stack([self._window_of(c, i, many) for i, c in enumerate(contexts)])
        return _Request(windows, "many" if many else "one", contexts)

    def _channels_first(self, X: FloatArray) -> FloatArray:
        if X.ndim != 3:
            raise ValueError(
                f"windows have two or three dimensions, (n_windows, lookback[, n_channels]); got "
                f"shape {X.shape}."
            )
        expected = getattr(self, "n_channels_in_", None)
        if expected is not None and X.shape[2] != expected:
            raise ValueError(
                f"X has {X.shape[2]} channels, but {type(self).__name__} is expecting {expected}, "
                "as in fit."
            )
        return X[:, X.shape[1] - self.lookback_ :].transpose(0, 2, 1)

    def _short_context(self, n_rows: int) -> ValueError:
        return ValueError(
            f"the context has {n_rows} rows; lookback={self.lookback_} of them are needed. Pass a "
            "longer context, or fit with a shorter lookback."
        )

    def _window_of(self, context: Series, i: int, many: bool) -> FloatArray:
        values = context.values[-self.lookback_ :]
        if len(values) < self.lookback_:
            raise self._short_context(len(values))
        if np.isnan(values).any():
            which = f"context {i}" if many else "the context"
            raise ValueError(
                f"{which} has {int(np.isnan(values).sum())} missing values in its last "
                f"{self.lookback_} rows. Fill them, for example with "
                "mixlin.windows.interpolate(X), or end the context before the gap."
            )
        return values.T

    def _check_frequency(self, contexts: list[Series]) -> None:
        trained = next((i for i in getattr(self, "_indexes", []) if i is not None), None)
        for context in contexts:
            index = context.index
            if trained is None or index is None or index.kind != trained.kind:
                continue
            if len(context.rows) > 2 and index.freq != trained.freq:
                raise ValueError(
                    f"the context's index steps by {index.freq!r}, the training series by "
                    f"{trained.freq!r}. Resample the context, or fit on its frequency."
                )

    def _wrap(self, values: Float64Array, request: _Request, quantiles: list[float] | None) -> Any:
        """Turn (n, C, horizon[, Q]) into what the caller passed."""
        moved = np.moveaxis(values, 1, 2)  # (n, horizon, C[, Q])
        if request.contexts is None:
            moved = moved.astype(request.windows.dtype, copy=False)
            if self.mode_ == "series" or self._target_ndim == 3:
                return moved
            return moved[:, 0, 0] if self._target_ndim == 1 else moved[:, :, 0]
        out = [
            _contain(rows, context, quantiles)
            for rows, context in zip(moved, request.contexts, strict=True)
        ]
        return out if request.shape == "many" else out[0]

    # -- scoring ---------------------------------------------------------------------------

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: npt.ArrayLike | None = None,
        *,
        timestamps: Any = None,
    ) -> float:
        """Return the coefficient of determination of the forecasts.

        A series is scored on all its windows. Where it continues the training series, the
        training tail serves as context, so that ``horizon`` rows are enough: by the index of a
        frame or by timestamps; an array is taken to continue it unless its first rows are
        training rows.

        Parameters
        ----------
        X, y, timestamps
            As in :meth:`fit`.
        sample_weight : array-like of shape (n_windows,), or (n_rows,) for a series, optional

        Returns
        -------
        float
            Windows: the mean over outputs, as in scikit-learn. Series: the mean over channels,
            steps pooled. 1 is perfect; the mean of the targets scores 0.
        """
        y_true, y_pred, weight = self._scored(X, y, sample_weight, timestamps)
        if y is None:
            n_channels = y_true.shape[2] if y_true.ndim == 3 else 1
            if weight is not None:
                weight = np.repeat(weight, y_true.shape[1])
            y_true, y_pred = y_true.reshape(-1, n_channels), y_pred.reshape(-1, n_channels)
        else:
            y_true, y_pred = y_true.reshape(len(y_true), -1), y_pred.reshape(len(y_pred), -1)
        return float(r2_score(y_true, y_pred, sample_weight=weight))

    def _forecasts_for_scoring(
        self, X: Any, y: Any = None, *, timestamps: Any = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return targets and forecasts on the windows that :meth:`score` uses."""
        return self._scored(X, y, None, timestamps)[:2]

    def _scored(
        self, X: Any, y: Any, sample_weight: Any, timestamps: Any
    ) -> tuple[FloatArray, FloatArray, Float64Array | None]:
        check_is_fitted(self, "plan_")
        if (y is not None) != (self.mode_ == "windows"):
            wants = "y" if self.mode_ == "windows" else "no y"
            raise ValueError(
                f"this {type(self).__name__} was fitted on {self.mode_}; score takes {wants}."
            )
        if y is not None:
            y = check_array(y, ensure_2d=False, allow_nd=True, input_name="y", dtype="numeric")
            weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
            return y, self.predict(X), weight
        many = is_many(X)
        series = self._read_series(self, X, timestamps, reset=False)
        weights = None if sample_weight is None else _series_weights(sample_weight, series, many)
        L, H = self.lookback_, self.horizon_
        targets, forecasts, shares = [], [], []
        for i, item in enumerate(series):
            values, glued = item.values, not many and self._continues(item)
            if glued:
                values = np.concatenate([self._tails[-1].astype(values.dtype), values])
            if len(values) < L + H:
                raise ValueError(
                    f"scoring needs {H if glued else L + H} rows; got {len(item.values)}. Pass a "
                    "longer series."
                )
            both = np.lib.stride_tricks.sliding_window_view(values, L + H, axis=0)
            whole = np.isfinite(both).all(axis=(1, 2))
            both = both[whole] if not whole.all() else both
            request = _Request(both[:, :, :L], "stacked")
            forecasts.append(np.moveaxis(self._forecast(request, None), 1, 2))
            targets.append(np.moveaxis(both[:, :, L:], 1, 2))
            if weights is not None:
                offset = len(values) - len(item.values)
                padded = np.concatenate([np.zeros(offset), weights[i]])
                shares.append(window_weights(padded, L, H)[whole])
        y_true, y_pred = np.concatenate(targets), np.concatenate(forecasts)
        if not len(y_true):
            raise ValueError("every window touches a missing value; nothing to score.")
        if series[0].container.ndim == 1:
            y_true, y_pred = y_true[:, :, 0], y_pred[:, :, 0]
        return y_true, y_pred, np.concatenate(shares) if weights is not None else None

    def _continues(self, series: Series) -> bool:
        trained = getattr(self, "_indexes", [None])
        if len(trained) != 1 or not hasattr(self, "_tails"):
            return False
        if len(self._tails[-1]) < self.lookback_:
            return False
        if trained[0] is not None and series.index is not None:
            return bool(trained[0].continues_as(series.index, series.first))
        return not starts_inside(series.values, self._known)

    # -- persistence -----------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted model to a file that :func:`mixlin.load` reads.

        Parameters
        ----------
        path : str or path-like
            A safetensors file; nothing in it is executed when it is read.
        """
        check_is_fitted(self, "plan_")
        state = {name: vars(self)[name] for name in self._state if name not in self._not_saved}
        record = {
            "class": type(self).__name__,
            "params": self.get_params(deep=False),
            "state": state,
        }
        write_record(record, path, _version())


def load(path: str | PathLike[str]) -> Any:
    """Read a forecaster from a file that its ``save`` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    forecaster
        Fitted, with bit-identical forecasts. The sums that ``partial_fit`` adds to are not saved.

    Raises
    ------
    ValueError
        If the file is damaged, no mixlin model, or of a class that is not known here.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import mixlin
    >>> model = mixlin.NLinearForecaster(8, 2).fit(np.arange(50.0) % 7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.safetensors"
    ...     model.save(path)
    ...     again = mixlin.load(path)
    >>> bool((again.predict() == model.predict()).all())
    True
    """
    record = read_record(path)
    try:
        cls = FORECASTERS[record["class"]]
        made = cls(**record["params"])
        vars(made).update(record["state"], _state=tuple(record["state"]))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds a {record.get('class')!r}, which this mixlin can't rebuild ({error}). "
            "Import the module that defines it, or upgrade mixlin."
        ) from error
    return made


def _version() -> str:
    from . import __version__

    return __version__


def _place(item: Any, values: FloatArray, container: Container, stamps: Any) -> Series:
    """Put a series on its grid and refuse what is no series."""
    index: TimeIndex | None = None
    first: Any = None
    rows = np.arange(len(values))
    if container.kind != "array":
        index, rows = read_index(item.index)
        first = item.index[0]
    elif stamps is not None:
        index, rows = read_timestamps(stamps, len(values))
        first = np.asarray(stamps, dtype="datetime64")[0]
    refuse_stacked_windows(values)
    return Series(fill_gaps(values, rows), container, index, first, rows)


def _series_weights(sample_weight: Any, series: list[Series], many: bool) -> list[Float64Array]:
    """Return one weight per row and series, on the grid of the series."""
    given = [len(s.rows) for s in series]
    weight = np.asarray(sample_weight, dtype=np.float64)
    expected = (len(series),) if many else (given[0],)
    if weight.shape != expected:
        what = "one weight per series" if many else "one weight per row"
        raise ValueError(f"sample_weight must hold {what}, {expected}; got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must be finite, not negative, and not all zero.")
    out = []
    for i, s in enumerate(series):
        on_grid = np.zeros(len(s.values))
        on_grid[s.rows] = weight[i] if many else weight
        out.append(on_grid)
    return out


def window_weights(weight: Float64Array, lookback: int, horizon: int) -> Float64Array:
    """Return the mean weight of every window's targets.

    Parameters
    ----------
    weight : array of shape (T,)
    lookback, horizon : int

    Returns
    -------
    array of shape (T - lookback - horizon + 1,)
    """
    targets = np.lib.stride_tricks.sliding_window_view(weight[lookback:], horizon)
    return np.asarray(targets.mean(axis=1))


def _contain(rows: Float64Array, context: Series, quantiles: list[float] | None) -> Any:
    """Put one forecast (horizon, C[, Q]) into the container of its context."""
    container = context.container
    rows = rows.astype(context.values.dtype, copy=False)
    if container.kind == "array":
        return rows[:, 0] if container.ndim == 1 else rows
    import pandas as pd

    assert context.index is not None
    index = context.index.continued(len(rows))
    if quantiles is None:
        if container.kind == "series":
            return pd.Series(rows[:, 0], index=index, name=container.columns)
        return pd.DataFrame(rows, index=index, columns=container.columns)
    names = [container.columns] if container.kind == "series" else list(container.columns)
    columns = pd.MultiIndex.from_product([names, quantiles], names=["channel", "quantile"])
    return pd.DataFrame(rows.reshape(len(rows), -1), index=index, columns=columns)
