r"""Trend and seasonal part of a window: the moving average as operator and as matrix.

The trend of a window :math:`x` of length :math:`L` is the centered mean of odd width
:math:`k` with replicated edges,

.. math::

    t_i = \frac{1}{k} \sum_{u = i - (k-1)/2}^{i + (k-1)/2} x_{\min(\max(u, 0), L - 1)}
    = (A x)_i ,

and the seasonal part is what is left, :math:`x - A x`. Both are linear in the window, so two
linear maps on the two parts are one linear map on the window:

.. math:: W_s (I - A) x + W_t A x = M x, \qquad M = W_s (I - A) + W_t A .

This is the decomposition of DLinear [1]_, which took it from Autoformer [2]_.

References
----------
.. [1] A. Zeng, M. Chen, L. Zhang, Q. Xu (2023). "Are Transformers Effective for Time Series
   Forecasting?" AAAI 37(9), 11121-11128.
.. [2] H. Wu, J. Xu, J. Wang, M. Long (2021). "Autoformer: Decomposition Transformers with
   Auto-Correlation for Long-Term Series Forecasting." NeurIPS 34, 22419-22430.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from .moving_average import (
    check_kernel_size,
    check_series,
    moving_average,
    moving_average_matrix,
)

__all__ = [
    "Decomposition",
    "SeriesDecomposer",
    "decompose",
    "fold_decomposition",
    "moving_average",
    "moving_average_matrix",
    "split_coef",
    "split_penalty",
]

_FLOAT_DTYPES = [np.float64, np.float32]


class Decomposition(NamedTuple):
    """Seasonal-trend decomposition of windows or of a series.

    Attributes
    ----------
    trend : ndarray of the input's shape
        Centered moving average, edges replicated.
    seasonal : ndarray of the input's shape
        What the trend leaves, ``X - trend``.

    Examples
    --------
    >>> from mixlin.decomposition import decompose
    >>> parts = decompose([1.0, 2.0, 6.0, 4.0], kernel_size=3)
    >>> parts._fields
    ('trend', 'seasonal')
    """

    trend: npt.NDArray[Any]
    seasonal: npt.NDArray[Any]


def decompose(X: npt.ArrayLike, kernel_size: int = 25, axis: int = 1) -> Decomposition:
    """Split windows or a series into a moving-average trend and a seasonal rest.

    Parameters
    ----------
    X : array-like of shape (length,), (n_windows, lookback), (length, n_channels) or \
            (n_windows, lookback, n_channels)
        The data, finite. Any number of axes is accepted.
    kernel_size : int, default=25
        Width of the moving average in steps, odd. It may exceed the length.
    axis : int, default=1
        The axis of time: 1 for windows, 0 for one series of shape (length, n_channels). A 1-D
        ``X`` has one axis, which ``axis`` in (-1, 0, 1) names.

    Returns
    -------
    decomposition : Decomposition
        Named tuple ``(trend, seasonal)`` of arrays of X's shape, in X's dtype if that is float32
        or float64, else in float64. ``trend + seasonal`` is ``X`` to one rounding at the size of
        the larger part; in particular bit for bit where trend and value are within a factor of
        two of each other.

    Raises
    ------
    ValueError
        If ``kernel_size`` is not a positive odd integer, ``axis`` is not an axis of ``X``, or
        ``X`` is empty or holds NaN, infinity or anything but real numbers.

    See Also
    --------
    SeriesDecomposer : The same as a transformer.

    Examples
    --------
    >>> from mixlin.decomposition import decompose
    >>> trend, seasonal = decompose([0.0, 3.0, 6.0, 0.0], kernel_size=3)
    >>> trend.tolist()
    [1.0, 3.0, 3.0, 2.0]
    >>> seasonal.tolist()
    [-1.0, 0.0, 3.0, -2.0]
    """
    values = check_series(X)
    # Taken from the trend as returned, after its cast: the rounding of the trend is then in the
    # seasonal part too, and the sum gives the data back.
    trend = moving_average(values, kernel_size, axis)
    return Decomposition(trend=trend, seasonal=values - trend)


def fold_decomposition(
    seasonal_coef: npt.ArrayLike, trend_coef: npt.ArrayLike, kernel_size: int
) -> npt.NDArray[np.float64]:
    """Fold a pair of maps on seasonal part and trend into one map on the raw window.

    Parameters
    ----------
    seasonal_coef : array-like of shape (..., horizon, lookback)
        Coefficients :math:`W_s` on the seasonal part, oldest lag first.
    trend_coef : array-like of shape (..., horizon, lookback)
        Coefficients :math:`W_t` on the trend, oldest lag first.
    kernel_size : int
        Width of the moving average in steps, odd.

    Returns
    -------
    coef : ndarray of shape (..., horizon, lookback), float64
        :math:`M = W_s (I - A) + W_t A`.

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, or ``kernel_size`` is not a positive odd
        integer.

    See Also
    --------
    split_coef : The pair of least norm that folds to a given matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.decomposition import fold_decomposition
    >>> W = np.array([[0.0, 1.0, 2.0]])
    >>> fold_decomposition(W, W, kernel_size=3).tolist()
    [[0.0, 1.0, 2.0]]
    """
    on_seasonal = _check_coef(seasonal_coef, "seasonal_coef")
    on_trend = _check_coef(trend_coef, "trend_coef")
    if on_seasonal.shape != on_trend.shape:
        raise ValueError(
            f"seasonal_coef has shape {on_seasonal.shape} and trend_coef {on_trend.shape}; both "
            "must have the same shape (..., horizon, lookback)."
        )
    average = moving_average_matrix(on_seasonal.shape[-1], kernel_size)
    folded: npt.NDArray[np.float64] = on_seasonal + (on_trend - on_seasonal) @ average
    return folded


def split_penalty(length: int, kernel_size: int) -> npt.NDArray[np.float64]:
    r"""Return the Gram matrix of the decomposition, :math:`S'S` with :math:`S = [I - A; A]`.

    A ridge on both branches of DLinear, :math:`\|W_s\|^2 + \|W_t\|^2`, is at its least
    :math:`\operatorname{tr}(M (S'S)^{-1} M')` over all pairs that fold to :math:`M`. The best
    pair is therefore found as one matrix with that penalty.

    Parameters
    ----------
    length : int
        Length of the window in steps.
    kernel_size : int
        Width of the moving average in steps, odd.

    Returns
    -------
    gram : ndarray of shape (length, length), float64
        :math:`(I - A)'(I - A) + A'A`, symmetric and positive definite.

    Raises
    ------
    ValueError
        If ``length`` is not a positive integer or ``kernel_size`` not a positive odd one.

    Examples
    --------
    >>> from mixlin.decomposition import split_penalty
    >>> split_penalty(length=2, kernel_size=1).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    average = moving_average_matrix(length, kernel_size)
    rest = np.eye(len(average)) - average
    gram: npt.NDArray[np.float64] = rest.T @ rest + average.T @ average
    return gram


def split_coef(
    coef: npt.ArrayLike, kernel_size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Split a map on the raw window into maps on its seasonal part and its trend.

    Of all pairs that fold to ``coef`` this is the one of least norm
    :math:`\|W_s\|^2 + \|W_t\|^2`:
    :math:`W_s = M (S'S)^{-1} (I - A)'` and :math:`W_t = M (S'S)^{-1} A'`.

    Parameters
    ----------
    coef : array-like of shape (..., horizon, lookback)
        Coefficients :math:`M` on the raw window, oldest lag first.
    kernel_size : int
        Width of the moving average in steps, odd.

    Returns
    -------
    seasonal_coef : ndarray of shape (..., horizon, lookback), float64
        Coefficients on the seasonal part.
    trend_coef : ndarray of shape (..., horizon, lookback), float64
        Coefficients on the trend.

    Raises
    ------
    ValueError
        If ``coef`` has fewer than two axes or an entry that is not finite, or ``kernel_size`` is
        not a positive odd integer.

    See Also
    --------
    fold_decomposition : The way back.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.decomposition import fold_decomposition, split_coef
    >>> M = np.array([[0.0, 1.0, 2.0], [1.0, -1.0, 1.0]])
    >>> seasonal_coef, trend_coef = split_coef(M, kernel_size=3)
    >>> bool(np.allclose(fold_decomposition(seasonal_coef, trend_coef, kernel_size=3), M))
    True
    """
    folded = _check_coef(coef, "coef")
    length = folded.shape[-1]
    average = moving_average_matrix(length, kernel_size)
    factor = cho_factor(split_penalty(length, kernel_size), lower=True)
    rows = folded.reshape(-1, length)
    half_way = cho_solve(factor, rows.T).T
    on_trend = half_way @ average.T
    on_seasonal = half_way - on_trend
    return on_seasonal.reshape(folded.shape), on_trend.reshape(folded.shape)


class SeriesDecomposer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Split windows into seasonal part and trend, side by side, as a transformer.

    With the default ``axis=1`` every row is a window, and the columns of the output are the
    seasonal part of the window followed by its trend. A linear forecaster on that output is
    DLinear [1]_: ``make_pipeline(SeriesDecomposer(25), LinearForecaster(alpha))``. As ``alpha``
    is relative to the variance of a forecaster's inputs, here the parts, it corresponds to
    ``alpha * parts.var() / windows.var()`` of ``DLinearForecaster``.

    Parameters
    ----------
    kernel_size : int, default=25
        Width of the moving average in steps, odd. It may exceed the length.
    axis : {0, 1}, default=1
        The axis of time. 1: ``X`` holds windows. 0: ``X`` is one whole series with time in rows;
        its rows then depend on their neighbors, ``(kernel_size - 1) / 2`` steps of the future
        included, so use it to look at a series and not to build features for forecasting.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns seen in ``fit``: the lookback for windows, the number of channels for a
        series.
    n_channels_in_ : int
        Number of channels seen in ``fit``; 1 for windows without a channel axis.
    n_dims_in_ : int
        Number of axes of the ``X`` seen in ``fit``.
    feature_names_in_ : ndarray of shape ``(n_features_in_,)``
        Names of the columns seen in ``fit``. Only if ``X`` had column names that are all strings.

    See Also
    --------
    decompose : The same as a function.

    Notes
    -----
    Nothing is learned: ``fit`` checks the data and remembers their shape. The output of
    three-dimensional windows is three-dimensional, so ``set_output`` serves two-dimensional ones
    and series.

    References
    ----------
    .. [1] A. Zeng, M. Chen, L. Zhang, Q. Xu (2023). "Are Transformers Effective for Time Series
       Forecasting?" AAAI 37(9), 11121-11128.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.decomposition import SeriesDecomposer
    >>> windows = np.array([[0.0, 3.0, 6.0, 0.0], [3.0, 6.0, 0.0, 3.0]])
    >>> decomposer = SeriesDecomposer(kernel_size=3)
    >>> parts = decomposer.fit_transform(windows)
    >>> parts[0].tolist()
    [-1.0, 0.0, 3.0, -2.0, 1.0, 3.0, 3.0, 2.0]
    >>> decomposer.inverse_transform(parts)[0].tolist()
    [0.0, 3.0, 6.0, 0.0]
    >>> decomposer.get_feature_names_out()[[0, 4]].tolist()
    ['seasonal_x0', 'trend_x0']
    """

    def __init__(self, kernel_size: int = 25, axis: int = 1) -> None:
        self.kernel_size = kernel_size
        self.axis = axis

    def fit(self, X: Any, y: Any = None) -> SeriesDecomposer:
        """Check the data and remember their shape.

        Parameters
        ----------
        X : array-like of shape (n_windows, lookback) or (n_windows, lookback, n_channels); with \
                ``axis=0`` of shape (length,) or (length, n_channels)
            Windows, or with ``axis=0`` one series. Finite.
        y : object, default=None
            Ignored, there for Pipelines.

        Returns
        -------
        self : SeriesDecomposer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter is out of its range or ``X`` is not as described. The transformer is
            then what it was before the call.
        """
        # All checks run on a copy, because validate_data writes attributes before it looks at
        # the values.
        checked = clone(self)
        values, n_dims = checked._check_input(X, reset=True)
        if not hasattr(checked, "feature_names_in_"):
            self.__dict__.pop("feature_names_in_", None)
        else:
            self.feature_names_in_ = checked.feature_names_in_
        self.n_features_in_ = int(checked.n_features_in_)
        self.n_channels_in_ = _n_channels(values, self.axis)
        self.n_dims_in_ = n_dims
        return self

    def transform(self, X: Any) -> Any:
        """Put seasonal part and trend side by side.

        Parameters
        ----------
        X : array-like of shape (n_windows, lookback) or (n_windows, lookback, n_channels); with \
                ``axis=0`` of shape (length,) or (length, n_channels)
            Windows with the lookback and the channels seen in ``fit``, or with ``axis=0`` a
            series with its channels, of any length.

        Returns
        -------
        parts : ndarray of shape (n_windows, 2 * lookback) or (n_windows, 2 * lookback, \
                n_channels); with ``axis=0`` of shape (length, 2 * n_channels)
            ``[seasonal | trend]`` along axis 1, in X's dtype if that is float32 or float64.

        Raises
        ------
        ValueError
            If ``X`` differs in shape from the data seen in ``fit``, or is not finite.
        """
        check_is_fitted(self)
        values, n_dims = self._check_input(X, reset=False)
        n_channels = _n_channels(values, self.axis)
        # validate_data has compared axis 1; a series of shape (length, 1) is as good as (length,).
        if self.axis == 1 and (n_dims, n_channels) != (self.n_dims_in_, self.n_channels_in_):
            raise ValueError(
                f"X has {n_dims} axes and {n_channels} channels, but SeriesDecomposer was fitted "
                f"on {self.n_dims_in_} axes and {self.n_channels_in_} channels. Pass windows of "
                "the same form, or fit again."
            )
        trend, seasonal = decompose(values, self.kernel_size, axis=self.axis)
        return np.concatenate([seasonal, trend], axis=1)

    def inverse_transform(self, X: Any) -> npt.NDArray[Any]:
        """Add seasonal part and trend.

        Parameters
        ----------
        X : array-like of shape (n_windows, 2 * lookback) or (n_windows, 2 * lookback, \
                n_channels); with ``axis=0`` of shape (length, 2 * n_channels)
            ``[seasonal | trend]`` as ``transform`` returns it.

        Returns
        -------
        X_original : ndarray of shape (n_windows, lookback) or (n_windows, lookback, n_channels); \
                with ``axis=0`` of shape (length,) or (length, n_channels)
            The windows or the series, in the form seen in ``fit``.

        Raises
        ------
        ValueError
            If ``X`` does not have the shape that ``transform`` returns, or is not finite.
        """
        check_is_fitted(self)
        parts = check_array(X, dtype=_FLOAT_DTYPES, allow_nd=True, input_name="X")
        expected: tuple[Any, ...] = ("n", 2 * self.n_features_in_)
        if self.n_dims_in_ == 3:
            expected = (*expected, self.n_channels_in_)
        if parts.ndim != len(expected) or parts.shape[1:] != expected[1:]:
            shape = ", ".join(map(str, expected))
            raise ValueError(
                f"X has shape {parts.shape}; inverse_transform takes shape ({shape}), seasonal "
                "part and trend side by side along axis 1, as transform returns them."
            )
        seasonal, trend = np.split(parts, 2, axis=1)
        total: npt.NDArray[Any] = trend + seasonal
        return total[:, 0] if self.n_dims_in_ == 1 else total

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Name the output columns.

        Parameters
        ----------
        input_features : array-like of str of shape ``(n_features_in_,)``, default=None
            Names of the input columns; default the names seen in ``fit``, else ``x0, x1, ...``.

        Returns
        -------
        names : ndarray of str objects of shape ``(2 * n_features_in_,)``
            ``seasonal_<name>`` for all columns, then ``trend_<name>``.

        Raises
        ------
        ValueError
            If ``input_features`` are not as many as, or are not, the names seen in ``fit``.
        """
        # The mixin knows scikit-learn's rules about input_features; only the prefixes are ours.
        names = super().get_feature_names_out(input_features)
        return np.asarray(
            [f"{part}_{name}" for part in ("seasonal", "trend") for name in names], object
        )

    def _check_input(self, X: Any, *, reset: bool) -> tuple[npt.NDArray[Any], int]:
        """Return X as a finite float array of two or three axes, and how many axes it came with."""
        check_kernel_size(self.kernel_size)
        if not isinstance(self.axis, Integral) or self.axis not in (0, 1):
            raise ValueError(
                f"axis must be 1 (every row is a window) or 0 (X is one series, time in rows); got "
                f"{self.axis!r}."
            )
        n_dims = None
        if self.axis == 0 and np.ndim(X) == 1:
            n_dims = 1
            # A frame of one column keeps the name of a pandas Series.
            X = X.to_frame() if hasattr(X, "to_frame") else np.asarray(X)[:, np.newaxis]
        values = validate_data(self, X, reset=reset, dtype=_FLOAT_DTYPES, allow_nd=self.axis == 1)
        if values.ndim > 3:
            raise ValueError(
                f"X has shape {values.shape}; windows have shape (n_windows, lookback) or "
                "(n_windows, lookback, n_channels)."
            )
        if values.size == 0:
            raise ValueError(
                f"X has shape {values.shape}, which holds no values; pass at least one."
            )
        return values, n_dims or values.ndim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        return tags


def _n_channels(values: npt.NDArray[Any], axis: int) -> int:
    """Count the channels of windows (axis=1) or of a series (axis=0)."""
    if axis == 0:
        return int(values.shape[1])
    return int(values.shape[2]) if values.ndim == 3 else 1


def _check_coef(coef: Any, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = check_array(
        coef,
        dtype=np.float64,
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=0,
        ensure_min_features=0,
        input_name=name,
    )
    if values.ndim < 2 or values.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., horizon, lookback); got {values.shape}.")
    return values
