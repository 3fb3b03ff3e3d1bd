"""The four exact linear forecasters: parameters, documentation, reference weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg
from sklearn.utils._param_validation import Interval, StrOptions

from .backends import Backend
from .decomposition import fold_decomposition, split_coef, split_penalty
from .linear import ExactLinearForecaster
from .mixture import Mixture
from .normalization import REVIN_EPS, Normalization
from .solvers import ExactSolver, single_threaded
from .state_dicts import read_layer, read_tensor

Float64Array = npt.NDArray[np.float64]

__all__ = [
    "DLinearForecaster",
    "LinearForecaster",
    "NLinearForecaster",
    "RLinearForecaster",
]


@lru_cache(maxsize=8)
def _decomposition_metric(lookback: int, kernel_size: int) -> Float64Array:
    """Return the inverse of ``S'S``, S the stacked decomposition; read-only."""
    with single_threaded():
        factor = linalg.cho_factor(split_penalty(lookback, kernel_size))
        metric = np.asarray(linalg.cho_solve(factor, np.eye(lookback)))
    metric.setflags(write=False)
    return metric


_NORMALIZATION = [StrOptions({"last", "mean", "revin"}), None]


class LinearForecaster(ExactLinearForecaster):
    """One matrix from the window to the horizon, solved exactly [1]_.

    Parameters
    ----------
    lookback : int, optional
        Steps that a forecast reads. Series: ``min(336, n_rows // 3)`` by default, of the shortest
        one for many series. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    normalization : {None, "last", "mean", "revin"}, default=None
        What is taken off a window and added back to its forecast: nothing, its last value, or
        its mean; "revin" also gives the window's standard deviation as a further input.
    alpha : float, default=1e-6
        Relative ridge penalty: ``alpha * n * v`` with ``n`` the number (sum of weights) of
        windows over all channels and ``v`` the variance of the raw inputs over windows and lags,
        each channel around its own mean, after per-channel scaling and before window
        normalization. So it does not depend on units, lengths or folds;
        ``Ridge(alpha=alpha * n * v)`` on the same windows is the same model.
    fit_intercept : bool, default=True
        One unpenalized constant per step: shared in scaled units, per channel with
        ``individual=True``.
    individual : {False, True, "partial"}, default=False
        Weights shared by all channels, one matrix per channel, or the shared one with
        per-channel corrections shrunk towards it (``solver=ExactSolver(pooling=...)``).
    scale : {"auto", "std", "series", None}, default="auto"
        "std" divides every channel by its standard deviation inside the solve, so that pooled
        channels count equally; forecasts stay in data units. "auto" is "std" for series and None
        for windows.
        "series" measures every series of a list by itself: its channels from their own mean and
        in their own standard deviation, so that ``intercept_`` is in these units. Long frames do
        that by default.
    prior : array of shape (horizon, lookback) or (n_channels, horizon, lookback), optional
        Coefficients, as in ``coef_``, that the penalty shrinks towards instead of zero.
    solver : ExactSolver, optional
        Further options of the exact solver.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Every forecaster has it; an exact fit uses no randomness.

    Attributes
    ----------
    coef_ : array of shape (horizon, lookback) or (n_channels, horizon, lookback)
        The matrix on the raw window, oldest lag first, normalization folded in:
        ``predict(X) == X @ coef_.T + intercept_`` (``+ scale * scale_coef_`` with "revin").
    intercept_ : array of shape (horizon,) or (n_channels, horizon)
    scale_coef_ : array of shape (horizon,) or (n_channels, horizon)
        With "revin" only: what the window's standard deviation is multiplied by.
    lookback_, horizon_, n_features_in_, n_channels_in_ : int
    feature_names_in_ : array of str
    mode_ : {"windows", "series", "panel"}
        "panel" for long frames.
    context_ : array of shape (lookback, n_channels)
        The training series' last rows; a list for many series. Of a long frame
        (lookback, n_series), NaN before the first row of a short series.
    cutoff_, freq_ : object
        Last label and frequency of the training index, None for arrays; of a long frame the last
        labels (n_series,) and one frequency.
    series_ids_ : array of shape (n_series,)
        Of long frames only; ``intercept_`` and, with ``individual`` weights, ``coef_`` have an
        entry for each.
    plan_ : mixlin.mixture.FixedPlan

    References
    ----------
    .. [1] A. Zeng et al., "Are transformers effective for time series forecasting?", AAAI 2023.
    .. [2] W. Toner and L. Darlow, "An analysis of linear time series forecasting models",
       ICML 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import LinearForecaster
    >>> series = np.sin(2 * np.pi * np.arange(400) / 24)
    >>> model = LinearForecaster(lookback=48, horizon=3).fit(series)
    >>> model.predict().round(3).tolist()
    [-0.866, -0.966, -1.0]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **ExactLinearForecaster._parameter_constraints,
        "normalization": _NORMALIZATION,
    }

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        normalization: str | None = None,
        alpha: float = 1e-6,
        fit_intercept: bool = True,
        individual: bool | str = False,
        scale: str | None = "auto",
        prior: npt.ArrayLike | None = None,
        solver: ExactSolver | None = None,
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.normalization = normalization
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.individual = individual
        self.scale = scale
        self.prior = prior
        self.solver = solver
        self.backend = backend
        self.random_state = random_state

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Any], *, backend: str | Backend | None = None
    ) -> LinearForecaster:
        """Make a fitted forecaster from reference weights.

        Parameters
        ----------
        state_dict : mapping
            ``Linear.weight`` (horizon, lookback) and ``Linear.bias`` (horizon,), or
            ``Linear.0.weight`` ... for individual channels; numpy arrays or torch tensors.
        backend : str or Backend, optional

        Returns
        -------
        LinearForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts; it has no residuals,
            so no intervals.

        Raises
        ------
        ValueError
            If a tensor is missing, has another shape, or is not finite.
        """
        weights, bias = read_layer(state_dict, "Linear")
        mixture = Mixture(weights[:, None], bias=bias[:, None], normalization=Normalization("none"))
        made: LinearForecaster = cls._from_mixture(mixture, backend=backend)
        return made


class NLinearForecaster(ExactLinearForecaster):
    """A linear map of the window measured from its last value [1]_.

    Parameters
    ----------
    lookback : int, optional
        Steps that a forecast reads. Series: ``min(336, n_rows // 3)`` by default, of the shortest
        one for many series. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    alpha : float, default=1e-6
        Relative ridge penalty, see :class:`LinearForecaster`.
    fit_intercept : bool, default=True
        One unpenalized constant per step: shared in scaled units, per channel with
        ``individual=True``.
    individual : {False, True, "partial"}, default=False
        Weights shared by all channels, one matrix per channel, or the shared one with
        per-channel corrections shrunk towards it (``solver=ExactSolver(pooling=...)``).
    scale : {"auto", "std", "series", None}, default="auto"
        "std" divides every channel by its standard deviation inside the solve; forecasts stay in
        data units. "auto" is "std" for series and None for windows.
        "series" measures every series of a list by itself: its channels from their own mean and
        in their own standard deviation, so that ``intercept_`` is in these units. Long frames do
        that by default.
    prior : array of shape (horizon, lookback) or (n_channels, horizon, lookback), optional
        Coefficients, as in ``coef_``, that the penalty shrinks towards instead of zero.
    solver : ExactSolver, optional
        Further options of the exact solver.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Every forecaster has it; an exact fit uses no randomness.

    Attributes
    ----------
    coef_, intercept_, plan_, ...
        As in :class:`LinearForecaster`; every row of ``coef_`` sums to one.

    References
    ----------
    .. [1] A. Zeng et al., "Are transformers effective for time series forecasting?", AAAI 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import NLinearForecaster
    >>> series = 0.5 * np.arange(200.0)
    >>> NLinearForecaster(lookback=8, horizon=2).fit(series).predict().round(2).tolist()
    [100.0, 100.5]
    """

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        alpha: float = 1e-6,
        fit_intercept: bool = True,
        individual: bool | str = False,
        scale: str | None = "auto",
        prior: npt.ArrayLike | None = None,
        solver: ExactSolver | None = None,
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.individual = individual
        self.scale = scale
        self.prior = prior
        self.solver = solver
        self.backend = backend
        self.random_state = random_state

    def _normalization_name(self) -> str:
        return "last"

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Any], *, backend: str | Backend | None = None
    ) -> NLinearForecaster:
        """Make a fitted forecaster from reference weights.

        Parameters
        ----------
        state_dict : mapping
            ``Linear.weight`` (horizon, lookback) and ``Linear.bias`` (horizon,), or
            ``Linear.0.weight`` ... for individual channels; numpy arrays or torch tensors.
        backend : str or Backend, optional

        Returns
        -------
        NLinearForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts; it has no residuals,
            so no intervals.

        Raises
        ------
        ValueError
            If a tensor is missing, has another shape, or is not finite.
        """
        weights, bias = read_layer(state_dict, "Linear")
        mixture = Mixture(weights[:, None], bias=bias[:, None], normalization=Normalization("last"))
        made: NLinearForecaster = cls._from_mixture(mixture, backend=backend)
        return made


class DLinearForecaster(ExactLinearForecaster):
    """Linear maps of the trend and of the seasonal part of a window, solved as one [1]_.

    The trend is a centered moving average with replicated edges, the seasonal part what is left.
    Both maps fold into one matrix; a ridge penalty on both is a ridge penalty on that matrix in
    the metric of the decomposition, and so is solved exactly too.

    Parameters
    ----------
    lookback : int, optional
        Steps that a forecast reads. Series: ``min(336, n_rows // 3)`` by default, of the shortest
        one for many series. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    kernel_size : int, default=25
        Odd width of the moving average, in steps.
    normalization : {None, "last", "mean", "revin"}, default=None
        What is taken off a window and added back to its forecast: nothing, its last value, or
        its mean; "revin" also gives the window's standard deviation as a further input.
    alpha : float, default=1e-6
        Relative ridge penalty, see :class:`LinearForecaster`.
    fit_intercept : bool, default=True
        One unpenalized constant per step: shared in scaled units, per channel with
        ``individual=True``.
    individual : {False, True, "partial"}, default=False
        Weights shared by all channels, one matrix per channel, or the shared one with
        per-channel corrections shrunk towards it (``solver=ExactSolver(pooling=...)``).
    scale : {"auto", "std", "series", None}, default="auto"
        "std" divides every channel by its standard deviation inside the solve; forecasts stay in
        data units. "auto" is "std" for series and None for windows.
        "series" measures every series of a list by itself: its channels from their own mean and
        in their own standard deviation, so that ``intercept_`` is in these units. Long frames do
        that by default.
    prior : array of shape (horizon, lookback) or (n_channels, horizon, lookback), optional
        Coefficients, as in ``coef_``, that the penalty shrinks towards instead of zero.
    solver : ExactSolver, optional
        Further options of the exact solver.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Every forecaster has it; an exact fit uses no randomness.

    Attributes
    ----------
    coef_, intercept_, plan_, ...
        As in :class:`LinearForecaster`.
    seasonal_coef_, trend_coef_ : array of shape (horizon, lookback) or \
            (n_channels, horizon, lookback)
        The pair of least norm that folds into ``coef_``, on the raw window:
        ``seasonal @ seasonal_coef_.T + trend @ trend_coef_.T == X @ coef_.T``.

    References
    ----------
    .. [1] A. Zeng et al., "Are transformers effective for time series forecasting?", AAAI 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import DLinearForecaster
    >>> series = np.cos(2 * np.pi * np.arange(400) / 12) + 0.01 * np.arange(400)
    >>> model = DLinearForecaster(lookback=48, horizon=2, kernel_size=13).fit(series)
    >>> model.predict().round(2).tolist()
    [3.5, 3.14]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **ExactLinearForecaster._parameter_constraints,
        "normalization": _NORMALIZATION,
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        kernel_size: int = 25,
        normalization: str | None = None,
        alpha: float = 1e-6,
        fit_intercept: bool = True,
        individual: bool | str = False,
        scale: str | None = "auto",
        prior: npt.ArrayLike | None = None,
        solver: ExactSolver | None = None,
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.kernel_size = kernel_size
        self.normalization = normalization
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.individual = individual
        self.scale = scale
        self.prior = prior
        self.solver = solver
        self.backend = backend
        self.random_state = random_state

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"The 'kernel_size' parameter of DLinearForecaster must be odd, so that the "
                f"average is centered. Got {self.kernel_size} instead; use "
                f"{self.kernel_size - 1} or {self.kernel_size + 1}."
            )

    def _metric(self, lookback: int) -> Float64Array:
        return _decomposition_metric(lookback, self.kernel_size)

    @property
    def seasonal_coef_(self) -> Float64Array:
        """Coefficients of the seasonal part, (H, L) or (C, H, L)."""
        return split_coef(self.coef_, self.kernel_size)[0]

    @property
    def trend_coef_(self) -> Float64Array:
        """Coefficients of the trend, (H, L) or (C, H, L)."""
        return split_coef(self.coef_, self.kernel_size)[1]

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        *,
        kernel_size: int = 25,
        backend: str | Backend | None = None,
    ) -> DLinearForecaster:
        """Make a fitted forecaster from reference weights.

        Parameters
        ----------
        state_dict : mapping
            ``Linear_Seasonal.weight``, ``Linear_Seasonal.bias``, ``Linear_Trend.weight`` and
            ``Linear_Trend.bias``, or ``Linear_Seasonal.0.weight`` ... for individual channels.
        kernel_size : int, default=25
            Width of the moving average; the reference's is always 25.
        backend : str or Backend, optional

        Returns
        -------
        DLinearForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts; it has no residuals,
            so no intervals.

        Raises
        ------
        ValueError
            If a tensor is missing, has another shape, or is not finite.
        """
        seasonal, seasonal_bias = read_layer(state_dict, "Linear_Seasonal")
        trend, trend_bias = read_layer(state_dict, "Linear_Trend")
        if seasonal.shape != trend.shape:
            raise ValueError(
                "the seasonal and the trend layer must have one shape; got "
                f"{seasonal.shape} and {trend.shape} (channels, lookback, horizon)."
            )
        folded = fold_decomposition(
            seasonal.transpose(0, 2, 1), trend.transpose(0, 2, 1), kernel_size
        )
        bias = seasonal_bias + trend_bias
        mixture = Mixture(folded.transpose(0, 2, 1)[:, None], bias=bias[:, None])
        made: DLinearForecaster = cls._from_mixture(
            mixture, kernel_size=kernel_size, backend=backend
        )
        return made


class RLinearForecaster(ExactLinearForecaster):
    """A linear map under reversible instance normalization [1]_, at its least-squares optimum [2]_.

    The window is measured from its mean, and its standard deviation is a further input: the
    exact optimum of a linear layer between normalizing and denormalizing.

    Parameters
    ----------
    lookback : int, optional
        Steps that a forecast reads. Series: ``min(336, n_rows // 3)`` by default, of the shortest
        one for many series. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    alpha : float, default=1e-6
        Relative ridge penalty, see :class:`LinearForecaster`.
    fit_intercept : bool, default=False
        One unpenalized constant per step: shared in scaled units, per channel with
        ``individual=True``.
    individual : {False, True, "partial"}, default=False
        Weights shared by all channels, one matrix per channel, or the shared one with
        per-channel corrections shrunk towards it (``solver=ExactSolver(pooling=...)``).
    scale : {"auto", "std", "series", None}, default="auto"
        "std" divides every channel by its standard deviation inside the solve; forecasts stay in
        data units. "auto" is "std" for series and None for windows.
        "series" measures every series of a list by itself: its channels from their own mean and
        in their own standard deviation, so that ``intercept_`` is in these units. Long frames do
        that by default.
    prior : array of shape (horizon, lookback) or (n_channels, horizon, lookback), optional
        Coefficients, as in ``coef_``, that the penalty shrinks towards instead of zero.
    solver : ExactSolver, optional
        Further options of the exact solver.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Every forecaster has it; an exact fit uses no randomness.

    Attributes
    ----------
    coef_, intercept_, plan_, ...
        As in :class:`LinearForecaster`; every row of ``coef_`` sums to one.
    scale_coef_ : array of shape (horizon,) or (n_channels, horizon)
        ``predict(X) == X @ coef_.T + s * scale_coef_ + intercept_`` with
        ``s = sqrt(var(x) + eps)``, ``eps`` 1e-5 of the channel's variance.

    References
    ----------
    .. [1] Z. Li et al., "Revisiting long-term time series forecasting: an investigation on linear
       mapping", arXiv:2305.10721.
    .. [2] W. Toner and L. Darlow, "An analysis of linear time series forecasting models",
       ICML 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import RLinearForecaster
    >>> series = 100 + np.sin(2 * np.pi * np.arange(400) / 24)
    >>> RLinearForecaster(lookback=48, horizon=2).fit(series).predict().round(2).tolist()
    [99.13, 99.03]
    """

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        alpha: float = 1e-6,
        fit_intercept: bool = False,
        individual: bool | str = False,
        scale: str | None = "auto",
        prior: npt.ArrayLike | None = None,
        solver: ExactSolver | None = None,
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.individual = individual
        self.scale = scale
        self.prior = prior
        self.solver = solver
        self.backend = backend
        self.random_state = random_state

    def _normalization_name(self) -> str:
        return "revin"

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Any], *, backend: str | Backend | None = None
    ) -> RLinearForecaster:
        """Make a fitted forecaster from reference weights.

        Parameters
        ----------
        state_dict : mapping
            ``Linear.weight`` and ``Linear.bias`` (or one pair per channel, ``Linear.0.weight``
            ...), and where the normalization is affine ``rev.affine_weight`` and
            ``rev.affine_bias`` of shape (n_channels,).
        backend : str or Backend, optional

        Returns
        -------
        RLinearForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts; it has no residuals,
            so no intervals.

        Raises
        ------
        ValueError
            If a tensor is missing, has another shape, or is not finite.
        """
        weights, bias = read_layer(state_dict, "Linear")
        gain, offset = np.ones(1), np.zeros(1)
        if "rev.affine_weight" in state_dict or "rev.affine_bias" in state_dict:
            gain = read_tensor(state_dict, "rev.affine_weight").reshape(-1)
            offset = read_tensor(state_dict, "rev.affine_bias").reshape(-1)
            if len(gain) != len(offset) or len(weights) not in (1, len(gain)):
                raise ValueError(
                    f"the affine normalization has {len(gain)} weights and {len(offset)} biases "
                    f"for {len(weights)} linear layer(s)."
                )
        inverse = gain + REVIN_EPS**2  # the reference divides by this
        if (inverse == 0).any():
            raise ValueError("an affine weight makes the reference divide by zero.")
        rows = weights.sum(axis=1)
        scale_coef = (offset[:, None] * (rows - 1.0) + bias) / inverse[:, None]
        ratio = gain / inverse
        if np.abs(ratio - 1.0).max() > 1e-9:
            weights = weights * ratio[:, None, None]
        mixture = Mixture(
            weights[:, None],
            scale_coef=scale_coef[:, None],
            normalization=Normalization("mean", scaled=True, eps=REVIN_EPS),
        )
        made: RLinearForecaster = cls._from_mixture(mixture, backend=backend)
        return made
