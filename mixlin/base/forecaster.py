"""The forecasters' common methods: fit, predict, score, save."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, assert_all_finite
from sklearn.utils._param_validation import Interval, InvalidParameterError
from sklearn.utils.validation import check_is_fitted

from ..backends import Backend, resolve
from ..intervals import check_quantiles
from ..long_frames import is_long_frame
from ..mixture import FixedPlan, KnownInputs, Mixture, PlacedWindows, Plan
from ..persistence import write_record
from .contexts import Request, contain, read_request
from .exog import read_training_exog
from .panel_requests import panel_interval, score_panel, scored_panel
from .panels import read_panel_training
from .registry import FORECASTERS
from .scoring import r2, scored_windows
from .series import FloatArray
from .training import DEFAULT_LOOKBACK, Training, read_training


class BaseForecaster(RegressorMixin, BaseEstimator):
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

    _longest_context: int | None = None  # steps that are read where any number will do
    _not_saved: tuple[str, ...] = ()  # state that only partial_fit reads
    _reads_panels: bool = False  # whether long frames are learnt from

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
        known = FORECASTERS.get(cls.__name__)
        own = cls.__module__.startswith("mixlin.")
        if known is None or own or not known.__module__.startswith("mixlin."):
            FORECASTERS[cls.__name__] = cls  # a namesake elsewhere does not replace mixlin's

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def _validate_params(self) -> None:
        super()._validate_params()
        for name, constraints in self._parameter_constraints.items():
            # True is an integer to Python, but never meant as a number of steps or a penalty
            numeric = any(isinstance(c, Interval) for c in constraints)
            value = getattr(self, name)
            if numeric and "boolean" not in constraints and isinstance(value, (bool, np.bool_)):
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number. Got "
                    f"{value!r} instead."
                )

    @property
    def _wants_timestamps(self) -> bool:
        """Whether ``fit`` needs times."""
        return False

    @property
    def _reads_timestamps(self) -> bool:
        """Whether forecasts of the fitted model depend on the calendar."""
        return self.plan_.needs_timestamps

    @property
    def _reads_ordinals(self) -> bool:
        """Whether forecasts of the fitted model depend on where a series stands in its seasons."""
        return self.plan_.needs_ordinals

    @abstractmethod
    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        """Return the fitted state, ``plan_`` among it, without touching ``self``.

        Parameters
        ----------
        training : Training
        update : bool
            Add to what was learnt before instead of starting anew.
        """

    def _lookbacks_read(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return the rows that forecasts may read, and the fewest that they need.

        Parameters
        ----------
        lengths : sequence of int
            Rows of every series.
        """
        lookback = self.lookback
        if lookback is None:
            lookback = self._longest_context
        if lookback is None:
            lookback = max(1, min(DEFAULT_LOOKBACK, min(lengths) // 3))
        return lookback, lookback

    def _check_updatable(self) -> None:
        """Raise a ValueError if what ``partial_fit`` adds to is not there."""

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
            series, or for some models a long DataFrame (``unique_id``, ``ds``, ``y``). Missing
            values (NaN, or absent labels of an index) are allowed in series: windows that touch
            them are left out.
        y : array-like of shape (n_windows,), (n_windows, horizon) or \
                (n_windows, horizon, n_channels), optional
            What follows each window.
        sample_weight : array-like, optional
            Shape (n_windows,). For a series (n_rows,): a window counts with the mean weight of
            its targets; for many series one weight each; for a long frame (n_rows,), the same in
            all rows of a series.
        timestamps : array-like of shape (n_rows,), optional
            ``datetime64`` stamps of an array's rows; a list of them for many series. A frame
            brings its own index. For windows shape (n_windows,), the time of each one's first
            step, (n_windows, lookback), or (n_windows, lookback + horizon).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data can't be used; the estimator is left as it was.
        """
        self._validate_params()
        self._refit(self._fit_state(X, y, sample_weight, timestamps, update=False))
        return self

    def _refit(self, state: dict[str, Any]) -> None:
        """Take a fitted state in place of the one before."""
        for name in vars(self).get("_state", ()):
            delattr(self, name)
        self.__dict__.update(state, _state=tuple(state))

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
        weighted series, whatever their number, and at most 1 MiB of hashes by which ``score``
        knows training rows again. The window scale's epsilon (RLinear) stays that of the first
        call. ``predict()`` continues the series of the last call.

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
        self._add(X, y, sample_weight, timestamps, new_series)
        return self

    def _add(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        timestamps: Any,
        new_series: bool,
        exog: Any = None,
    ) -> None:
        self._validate_params()
        known = "plan_" in vars(self)
        if known:
            self._check_updatable()
        state = self._fit_state(
            X, y, sample_weight, timestamps, update=known, new_series=new_series, exog=exog
        )
        names = {**dict.fromkeys(vars(self).get("_state", ())), **state}
        self.__dict__.update(state, _state=tuple(names))

    def _fit_state(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        timestamps: Any,
        *,
        update: bool,
        new_series: bool = False,
        exog: Any = None,
    ) -> dict[str, Any]:
        """Validate and learn into a dict; ``self`` is only read."""
        resolve(self.backend)
        probe = object.__new__(type(self))  # validate_data writes to what it is given
        probe.__dict__.update(vars(self))
        read = read_panel_training if y is None and is_long_frame(X) else read_training
        training, state = read(
            probe, X, y, sample_weight, timestamps, update=update, new_series=new_series
        )
        training, beside = read_training_exog(probe, training, X, exog, timestamps, update=update)
        return {**state, **beside, **self._learn(training, update=update)}

    # -- forecasting -----------------------------------------------------------------------

    def predict(self, X: Any = None, *, horizon: int | None = None, timestamps: Any = None) -> Any:
        """Forecast.

        Parameters
        ----------
        X : array-like, optional
            Fitted on windows: windows as in :meth:`fit`. Fitted on series: nothing to continue
            the training series, a context of shape (n_rows,) or (n_rows, n_channels) with at
            least ``lookback_`` rows, a frame, a list of contexts, or windows of shape
            ``(n_windows, lookback_, n_channels)``. Fitted on a long frame: nothing, a long frame
            with series that were seen in the fit or not, or windows ``(n_windows, lookback_, 1)``.
        horizon : int, optional
            A shorter one returns the first steps.
        timestamps : array-like, optional
            Times of the context's rows, shape (n_rows,); of windows as in :meth:`fit`.

        Returns
        -------
        array or frame
            Windows: shaped like ``y``, or (n_windows, horizon, n_channels). Contexts: (horizon,)
            or (horizon, n_channels), a frame with the continued index for a frame, a list for a
            list. Arrays have the dtype of ``X``. Long frames: a long frame with the columns
            ``unique_id``, ``ds`` and "forecast".

        Raises
        ------
        ValueError
            If the context is too short, holds missing values, or has other channels.
        """
        return self._predicted(read_request(self, X, timestamps), horizon)

    def _predicted(self, request: Request, horizon: int | None) -> Any:
        """Forecast a request, into what it leaves in."""
        dtype = request.windows.dtype
        forecast = self._forecast(
            request.windows, horizon, dtype, request.stamps, request.known, plan=request.plan
        )
        return contain(self, forecast, request)

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
            (channel, quantile), long ones a column for each, such as "0.1".

        Raises
        ------
        ValueError
            If the model was loaded from a state dict, which has no residuals.
        """
        levels = check_quantiles(quantiles)
        request = read_request(self, X, timestamps)
        return contain(self, self._quantiles(request, horizon, levels), request, levels)

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
            (channel, quantile), long ones "forecast", "lower" and "upper".
        """
        levels = check_coverage(coverage)
        if vars(self).get("mode_") == "panel":
            levels.insert(1, 0.5)
            found = self.predict_quantiles(X, levels, horizon=horizon, timestamps=timestamps)
            return panel_interval(found)
        return self.predict_quantiles(X, levels, horizon=horizon, timestamps=timestamps)

    def _quantiles(
        self, request: Request, horizon: int | None, levels: list[float]
    ) -> npt.NDArray[Any]:
        """Forecast quantiles (n, C, horizon, n_quantiles) of a request."""
        if self.plan_.residual is None:
            raise ValueError(
                f"this {type(self).__name__} has no training residuals: it was made from a state "
                "dict. Fit it, or forecast points only."
            )
        return self._forecast(
            request.windows,
            horizon,
            stamps=request.stamps,
            known=request.known,
            levels=levels,
            plan=request.plan,
        )

    def _checked_horizon(self, horizon: int | None) -> int:
        """Return a horizon that the model can forecast."""
        if horizon is None:
            return self.horizon_
        whole = isinstance(horizon, (int, np.integer)) and not isinstance(horizon, bool)
        if self.plan_.any_horizon and whole and horizon >= 1:
            return int(horizon)
        if not whole or not 1 <= horizon <= self.horizon_:
            allowed = (
                "of at least 1; got"
                if self.plan_.any_horizon
                else f"from 1 to {self.horizon_}, the horizon of the fit; got"
            )
            advice = "" if self.plan_.any_horizon else " Fit with a longer horizon to go further."
            raise ValueError(f"horizon must be an integer {allowed} {horizon!r}.{advice}")
        return int(horizon)

    def _forecast(
        self,
        windows: FloatArray,
        horizon: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        stamps: npt.NDArray[np.datetime64] | None = None,
        known: KnownInputs | None = None,
        levels: list[float] | None = None,
        plan: Plan | PlacedWindows | None = None,
    ) -> npt.NDArray[Any]:
        """Forecast windows (n, C, lookback) as (n, C, horizon), with levels their quantiles."""
        horizon = self._checked_horizon(horizon)
        plan, backend = plan or self.plan_, resolve(self.backend)
        with np.errstate(invalid="ignore", over="ignore"):  # refused below, with a sentence
            if levels is None:
                forecast = plan.forecast(
                    windows, horizon, backend, stamps=stamps, known=known, dtype=dtype
                )
            else:
                forecast = plan.quantiles(
                    windows, horizon, backend, levels, stamps=stamps, known=known
                )
            total = forecast.sum()
        if not np.isfinite(total):  # cheap; where only the sum overflows, nothing is refused
            name = type(self).__name__
            assert_all_finite(
                windows,
                allow_nan=self.plan_.reads_gaps,
                estimator_name=name,
                input_name="X",
            )
        return forecast

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
            steps pooled. Long frames: of all series together, each measured from its own level
            and in its own scale. 1 is perfect; the mean of the targets scores 0.
        """
        if y is None and vars(self).get("mode_") == "panel":
            return score_panel(self, X, sample_weight, timestamps)
        y_true, y_pred, weight = scored_windows(self, X, y, sample_weight, timestamps)
        return r2(y_true, y_pred, weight, series=y is None)

    def _forecasts_for_scoring(
        self, X: Any, y: Any = None, *, timestamps: Any = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return targets and forecasts on the windows that :meth:`score` uses."""
        if y is None and vars(self).get("mode_") == "panel":
            return scored_panel(self, X, None, timestamps)[:2]
        return scored_windows(self, X, y, None, timestamps)[:2]

    # -- reference weights -----------------------------------------------------------------

    @classmethod
    def _from_mixture(cls, mixture: Mixture, **params: Any) -> Any:
        """Return a fitted estimator around an imported mixture."""
        groups = max(
            len(t)
            for t in (mixture.weights, mixture.bias, mixture.scale_coef, mixture.reference)
            if t is not None
        )
        n_channels = None if groups == 1 else groups
        made = cls(lookback=mixture.lookback, horizon=mixture.horizon, **params)
        state = {
            "plan_": FixedPlan(mixture.lookback, mixture.horizon, n_channels, fixed=mixture),
            "lookback_": mixture.lookback,
            "horizon_": mixture.horizon,
            "mode_": "series",
        }
        if n_channels is not None:
            state.update(n_channels_in_=n_channels, n_features_in_=n_channels)
        made.__dict__.update(state, _state=tuple(state))
        return made

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


def check_coverage(coverage: Any) -> list[float]:
    """Return the levels of a central interval.

    Parameters
    ----------
    coverage : float
        Between 0 and 1.

    Returns
    -------
    list of float
        Lower and upper.

    Raises
    ------
    ValueError
        For anything else.
    """
    if not isinstance(coverage, (int, float, np.floating)) or not 0 < coverage < 1:
        raise ValueError(f"coverage must be a number between 0 and 1; got {coverage!r}.")
    return [round((1 - coverage) / 2, 12), round((1 + coverage) / 2, 12)]


def _version() -> str:
    from .. import __version__

    return __version__
