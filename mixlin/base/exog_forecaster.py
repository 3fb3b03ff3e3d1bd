"""Forecasters that read known-future regressors: the common methods with ``exog``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..intervals import check_quantiles
from .contexts import Request, contain, read_request
from .exog import add_exog, refuse_exog
from .forecaster import BaseForecaster, check_coverage
from .panel_requests import score_panel, scored_panel
from .scoring import r2, scored_windows
from .series import FloatArray


class ExogForecaster(BaseForecaster):
    """A forecaster whose series may come with regressors that are known ahead."""

    __metadata_request__fit = {"exog": True}
    __metadata_request__partial_fit = {"exog": True}
    __metadata_request__predict = {"exog": True, "exog_future": True}
    __metadata_request__score = {"exog": True}

    exog_names_: list[str]

    @property
    def exog_coef_(self) -> npt.NDArray[np.float64]:
        """The effect of a regressor at the step that is forecast, (n_channels, K, horizon)."""
        if "plan_" not in vars(self) or not self.plan_.needs_exog:
            state = "before it is fitted" if "plan_" not in vars(self) else "without regressors"
            raise AttributeError(
                f"this {type(self).__name__} has no exog_coef_ {state}; call fit with exog."
            )
        effects: npt.NDArray[np.float64] = self.plan_.regressors.future  # type: ignore[attr-defined]
        return effects

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        timestamps: Any = None,
        exog: Any = None,
    ) -> ExogForecaster:
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
        exog : array-like of shape (n_rows,) or (n_rows, n_regressors), optional
            Regressors of a series' rows that will be known ahead (holidays, promotions, prices,
            weather forecasts), which forecasts then need, too; a list of them for many series. A
            frame is aligned with X by its index and may hold further rows. Windows that touch a
            missing value are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data can't be used; the estimator is left as it was.
        """
        self._validate_params()
        self._refit(self._fit_state(X, y, sample_weight, timestamps, update=False, exog=exog))
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        timestamps: Any = None,
        new_series: bool = False,
        exog: Any = None,
    ) -> ExogForecaster:
        """Learn from further windows or rows, exactly as if all had been given at once.

        What is kept are sums, not data: about ``24 * n_channels * (lookback + horizon)`` bytes
        for series, ``8 * n_channels * (lookback + horizon + 2) ** 2`` for windows and for
        weighted series, whatever their number, and at most 1 MiB of hashes by which ``score``
        knows training rows again; with regressors as much again, times their number. The window
        scale's epsilon (RLinear) and periods that were found stay those of the first call.
        ``predict()`` continues the series of the last call.

        Parameters
        ----------
        X, y, sample_weight, timestamps, exog
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
        self._add(X, y, sample_weight, timestamps, new_series, exog=exog)
        return self

    def predict(
        self,
        X: Any = None,
        *,
        horizon: int | None = None,
        timestamps: Any = None,
        exog: Any = None,
        exog_future: Any = None,
    ) -> Any:
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
        exog : array-like of shape (n_rows, n_regressors), optional
            Fitted with regressors: those of the context's rows; of windows
            (n_windows, n_steps, n_regressors); none without X.
        exog_future : array-like of shape (horizon, n_regressors), optional
            Fitted with regressors: those of the steps to forecast, further rows are not read; a
            list for many series; of windows (n_windows, horizon, n_regressors). A frame is aligned
            by its index with the labels that continue that of the series.

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
            If the context is too short, holds missing values, or has other channels; if regressors
            are missing or misaligned, or the model was fitted without.
        """
        request = self._request(X, timestamps, exog, exog_future, horizon)
        return self._predicted(request, horizon)

    def _request(
        self, X: Any, timestamps: Any, exog: Any, exog_future: Any, horizon: int | None
    ) -> Request:
        request = read_request(self, X, timestamps)
        return add_exog(self, request, X, timestamps, exog, exog_future, horizon)

    def predict_quantiles(
        self,
        X: Any = None,
        quantiles: npt.ArrayLike = (0.1, 0.5, 0.9),
        *,
        horizon: int | None = None,
        timestamps: Any = None,
        exog: Any = None,
        exog_future: Any = None,
    ) -> Any:
        """Forecast quantiles, from the variance of the training residuals at every step.

        Parameters
        ----------
        X, horizon, timestamps, exog, exog_future
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
        request = self._request(X, timestamps, exog, exog_future, horizon)
        return contain(self, self._quantiles(request, horizon, levels), request, levels)

    def predict_interval(
        self,
        X: Any = None,
        coverage: float = 0.9,
        *,
        horizon: int | None = None,
        timestamps: Any = None,
        exog: Any = None,
        exog_future: Any = None,
    ) -> Any:
        """Forecast central intervals.

        Parameters
        ----------
        X, horizon, timestamps, exog, exog_future
            As in :meth:`predict`.
        coverage : float, default=0.9
            Share of values that the interval is meant to hold, between 0 and 1.

        Returns
        -------
        array or frame
            As :meth:`predict` with a last axis (lower, upper); frames have columns
            (channel, quantile), long ones "forecast", "lower" and "upper".
        """
        if vars(self).get("mode_") == "panel":
            refuse_exog(self, exog=exog, exog_future=exog_future)
            return super().predict_interval(X, coverage, horizon=horizon, timestamps=timestamps)
        return self.predict_quantiles(
            X,
            check_coverage(coverage),
            horizon=horizon,
            timestamps=timestamps,
            exog=exog,
            exog_future=exog_future,
        )

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: npt.ArrayLike | None = None,
        *,
        timestamps: Any = None,
        exog: Any = None,
    ) -> float:
        """Return the coefficient of determination of the forecasts.

        A series is scored on all its windows. Where it continues the training series, the
        training tail serves as context, so that ``horizon`` rows are enough: by the index of a
        frame or by timestamps; an array is taken to continue it unless its first rows are
        training rows.

        Parameters
        ----------
        X, y, timestamps, exog
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
            refuse_exog(self, exog=exog)
            return score_panel(self, X, sample_weight, timestamps)
        y_true, y_pred, weight = scored_windows(self, X, y, sample_weight, timestamps, exog)
        return r2(y_true, y_pred, weight, series=y is None)

    def _forecasts_for_scoring(
        self, X: Any, y: Any = None, *, timestamps: Any = None, exog: Any = None
    ) -> tuple[FloatArray, FloatArray]:
        if y is None and vars(self).get("mode_") == "panel":
            refuse_exog(self, exog=exog)
            return scored_panel(self, X, None, timestamps)[:2]
        return scored_windows(self, X, y, None, timestamps, exog)[:2]
