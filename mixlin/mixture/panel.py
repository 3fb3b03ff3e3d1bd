"""Plans of many series: weights that they share, in units of each one's own level and scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import Backend
from ..intervals import residual_quantiles
from ..normalization import REVIN_EPS
from .plan import FixedPlan, KnownInputs
from .record import Mixture

FloatArray = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False, repr=False)
class PanelPlan(FixedPlan):
    """A plan whose channels are series, and that also forecasts series which it never saw.

    Parameters
    ----------
    fixed : Mixture
        Of the series that were learnt from, one channel for each, in data units.
    shared : Mixture, optional
        Of one group, for other series: with ``standardized`` in units of their scale and
        measured from their level, else in data units. None where series share nothing.
    standardized : bool
    scale : array of shape (n_series,)
        Standard deviation of the series; 0 where one is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> from mixlin.mixture import Mixture, PanelPlan
    >>> mean = Mixture(np.full((1, 1, 2, 1), 0.5))
    >>> plan = PanelPlan(2, 1, 3, fixed=mean, shared=mean, scale=np.ones(3))
    >>> some = plan.taking(np.array([2, -1]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    >>> some.forecast(np.array([[[1.0, 2.0], [3.0, 4.0]]]), 1, resolve("numpy")).tolist()
    [[[1.5], [3.5]]]
    """

    shared: Mixture | None = None
    standardized: bool = True
    scale: FloatArray = field(default_factory=lambda: np.ones(0))

    def __repr__(self) -> str:
        return f"PanelPlan({self.fixed!r}, {self.n_channels} series)"

    def taking(self, series: Indices, level: FloatArray, scale: FloatArray) -> FixedPlan:
        """Return the plan of some series, each a channel.

        Parameters
        ----------
        series : array of shape (n,)
            Which of the series that were learnt from; -1 for another one.
        level, scale : array of shape (n,)
            Of the other ones; not read elsewhere.

        Returns
        -------
        FixedPlan

        Raises
        ------
        ValueError
            If there are other series and nothing is shared.
        """
        if np.array_equal(series, np.arange(self.n_channels or 0)):
            return self
        own, other = self.mixture(), series < 0
        new = self.shared if other.any() else own
        if new is None:
            raise ValueError("this model has no weights for series that it was not fitted on.")

        def rows(of: FloatArray | None, unseen: FloatArray | None, empty: FloatArray) -> FloatArray:
            """Take a row of every series, from the one or the other."""
            out = np.empty((len(series), *empty.shape))
            out[~other] = empty if of is None else (of[series[~other]] if len(of) > 1 else of)
            if other.any():
                out[other] = empty if unseen is None else unseen
            return out

        zero = np.zeros((1, self.horizon))
        bias, reference, scale_coef = new.bias, new.reference, own.scale_coef
        if other.any() and self.standardized:
            bias = None if bias is None else bias * scale[other, None, None]
            reference = level[other]
        if scale_coef is not None and len(scale_coef) > 1:
            assert new.scale_coef is not None
            scale_coef = rows(scale_coef, new.scale_coef[0], zero)
        weights = own.weights
        if len(weights) > 1:
            weights = rows(weights, new.weights[0], np.zeros(weights.shape[1:]))
        normalization = own.normalization
        if normalization.scaled:
            eps = np.broadcast_to(normalization.eps, self.n_channels or 1)
            unseen = np.maximum(REVIN_EPS * scale[other] ** 2, _TINY)
            normalization = replace(normalization, eps=rows(eps, unseen, np.zeros(())))
        mixture = replace(
            own,
            weights=weights,
            bias=rows(own.bias, bias, zero),
            reference=rows(own.reference, reference, np.zeros(())),
            scale_coef=scale_coef,
            normalization=normalization,
        )

        def residual() -> FloatArray:
            variance = self.residual_variance
            assert variance is not None
            known = np.broadcast_to(variance, (self.n_channels or 1, self.horizon))
            unseen = self.unseen_variance()
            if self.standardized:
                unseen = unseen * scale[other, None] ** 2
            return rows(known, unseen, zero[0])

        return FixedPlan(
            self.lookback,
            self.horizon,
            len(series),
            residual=None if self.residual is None else residual,
            fixed=mixture,
        )

    def unseen_variance(self) -> FloatArray:
        """Return the variance of residuals that other series are expected to have.

        Returns
        -------
        array of shape (horizon,)
            The mean over series; with ``standardized`` in units of their variance.
        """
        variance = self.residual_variance
        assert variance is not None
        if not self.standardized:
            return np.asarray(variance.mean(axis=0))
        varies = self.scale > 0
        if not varies.any():
            return np.zeros(self.horizon)
        return np.asarray((variance[varies] / self.scale[varies, None] ** 2).mean(axis=0))


@dataclass(frozen=True, eq=False, repr=False)
class StandardizedPlan(FixedPlan):
    """A plan in units of the level and scale of the series that a window is from.

    Parameters
    ----------
    fixed : Mixture
        Of values measured from a level and divided by a scale; ``residual`` too.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> from mixlin.mixture import Mixture, StandardizedPlan
    >>> plan = StandardizedPlan(2, 1, fixed=Mixture(np.zeros((1, 1, 2, 1))))
    >>> placed = plan.at(np.array([[5.0]]), np.array([[2.0]]))
    >>> placed.forecast(np.array([[[1.0, 2.0]]]), 1, resolve("numpy")).tolist()
    [[[5.0]]]
    """

    def __repr__(self) -> str:
        return f"StandardizedPlan({self.fixed!r})"

    def at(self, level: FloatArray, scale: FloatArray) -> PlacedWindows:
        """Return the plan of windows whose series have these levels and scales.

        Parameters
        ----------
        level, scale : array of shape (n_windows, n_channels)
            A scale of 0 stands for a series that never changes; so does its forecast.

        Returns
        -------
        PlacedWindows
        """
        return PlacedWindows(self, level, scale)


@dataclass(frozen=True, eq=False)
class PlacedWindows:
    """A :class:`StandardizedPlan` for windows of known series.

    Parameters
    ----------
    plan : StandardizedPlan
    level, scale : array of shape (n_windows, n_channels)
    """

    plan: StandardizedPlan
    level: FloatArray
    scale: FloatArray

    def forecast(
        self,
        windows: npt.NDArray[np.floating],
        horizon: int,
        backend: Backend,
        *,
        stamps: npt.NDArray[np.datetime64] | None = None,
        known: KnownInputs | None = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> npt.NDArray[Any]:
        """Forecast windows, as :meth:`Plan.forecast` does.

        Parameters
        ----------
        windows, horizon, backend, stamps, known, dtype

        Returns
        -------
        array of shape (n_windows, n_channels, horizon)
        """
        level, scale = self.level[:, :, None], self.scale[:, :, None]
        inside = (windows - level) / np.where(scale > 0, scale, 1.0)
        found = self.plan.forecast(inside, horizon, backend, stamps=stamps, known=known)
        return np.asarray(level + scale * found).astype(dtype, copy=False)

    def quantiles(
        self,
        windows: npt.NDArray[np.floating],
        horizon: int,
        backend: Backend,
        levels: list[float],
        *,
        stamps: npt.NDArray[np.datetime64] | None = None,
        known: KnownInputs | None = None,
    ) -> FloatArray:
        """Forecast quantiles, as :meth:`Plan.quantiles` does.

        Parameters
        ----------
        windows, horizon, backend, levels, stamps, known

        Returns
        -------
        array of shape (n_windows, n_channels, horizon, n_levels)
        """
        found = self.forecast(windows, horizon, backend, stamps=stamps, known=known)
        variance = self.plan.residual_variance
        assert variance is not None
        out = np.zeros((*found.shape, len(levels)))
        around = residual_quantiles(out[..., 0], variance[:, : found.shape[2]], levels)
        return found[..., None] + self.scale[:, :, None, None] * around
