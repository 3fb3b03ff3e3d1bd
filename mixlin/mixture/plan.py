"""Plans: fitted models as data, and the mixture they give for a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Backend
from ..calendar_terms import CalendarTerms
from ..intervals import residual_quantiles
from ..regressors import Regressors
from ..transforms import ChannelTransform
from .contexts import by_length
from .forward import predict_windows
from .record import Mixture
from .rollout import Rollout, rollout_forecast

FloatArray = npt.NDArray[np.float64]


class KnownInputs(NamedTuple):
    """What is known of windows beside their values.

    Attributes
    ----------
    ordinals : array of shape (n_windows,), or None
        Place of every window's last input row, see :meth:`mixlin.timestamps.TimeIndex.ordinal`.
    exog : array of shape (n_windows, K, lookback + n_steps), or None
        Regressors in the windows' rows and in at least the steps to forecast.
    """

    ordinals: FloatArray | None = None
    exog: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A fitted model as data: what ``fit`` produces and everything else reads.

    Parameters
    ----------
    lookback, horizon : int
        Steps read and steps forecast.
    n_channels : int or None
        None for weights that serve any number of channels.
    rollout : "direct" or Rollout
        How a request is answered: every step at once, or block by block.
    residual : array of shape (C, horizon) or a callable that returns it, optional
        Variance of the training residuals in squared data units; a callable is asked once, when
        :attr:`residual_variance` is first read.

    Attributes
    ----------
    any_length, any_horizon : bool
        Whether contexts may be shorter or longer than the lookback, and horizons longer than that
        of the plan.
    reads_gaps : bool
        Whether NaN in a window is a missing value to condition around.
    """

    any_length: ClassVar[bool] = False
    any_horizon: ClassVar[bool] = False
    reads_gaps: ClassVar[bool] = False

    lookback: int
    horizon: int
    n_channels: int | None = None
    rollout: str | Rollout = "direct"
    residual: FloatArray | Callable[[], FloatArray] | None = None

    @cached_property
    def residual_variance(self) -> FloatArray | None:
        """Variance of the training residuals, shape (C, horizon), in squared data units."""
        return self.residual() if callable(self.residual) else self.residual

    @property
    def spreads_missing(self) -> bool:
        """Whether a window that is not finite always gives a forecast that is not finite."""
        return self.mixture().spreads_missing

    @property
    def needs_timestamps(self) -> bool:
        """Whether forecasts depend on the calendar."""
        gate = self.mixture().gate
        return gate is not None and gate.router.needs_timestamps

    @property
    def needs_ordinals(self) -> bool:
        """Whether forecasts depend on where windows stand in the seasons."""
        return False

    @property
    def needs_exog(self) -> bool:
        """Whether forecasts depend on known-future regressors."""
        return False

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
        """Forecast windows.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, lookback)
        horizon : int
        backend : Backend
        stamps : array of shape (n_windows, lookback + horizon of the plan), optional
            Where :attr:`needs_timestamps` says so.
        known : KnownInputs, optional
            Where :attr:`needs_ordinals` says so.
        dtype : dtype, default=float64
            Of the forecasts.

        Returns
        -------
        array of shape (n_windows, n_channels, horizon)
        """
        mixture = self.mixture(self.lookback, horizon)
        out = predict_windows(mixture, windows, backend, timestamps=stamps, dtype=dtype)
        return out[:, :, :horizon]

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
        """Forecast quantiles from the variance of the training residuals.

        Parameters
        ----------
        windows, horizon, backend, stamps, known
            As in :meth:`forecast`.
        levels : list of float

        Returns
        -------
        array of shape (n_windows, n_channels, horizon, n_levels)
        """
        found = self.forecast(windows, horizon, backend, stamps=stamps, known=known)
        return self._around(found, levels)

    def _around(self, forecast: FloatArray, levels: list[float]) -> FloatArray:
        variance = self.residual_variance
        assert variance is not None
        return residual_quantiles(forecast, variance[:, : forecast.shape[2]], levels)

    @abstractmethod
    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        """Return the mixture for a request, cached.

        Parameters
        ----------
        lookback, horizon : int, optional
            Those of the plan by default.
        mask : array of shape (lookback,), optional
            True where a value was observed.

        Returns
        -------
        Mixture
        """


@dataclass(frozen=True, eq=False, repr=False)
class FixedPlan(Plan):
    """A plan whose mixture does not depend on the request.

    What a mixture can't do with windows alone is added to its forecasts on the host.

    Parameters
    ----------
    fixed : Mixture
    calendar : CalendarTerms, optional
        Added to the forecasts.
    transform : ChannelTransform, optional
        Of the windows, undone on the forecasts; ``residual`` and everything else is in transformed
        units then.
    regressors : Regressors, optional
        Added to the forecasts.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import FixedPlan, Mixture
    >>> plan = FixedPlan(4, 2, fixed=Mixture(np.zeros((1, 1, 4, 2))))
    >>> plan.mixture() is plan.mixture(horizon=2)
    True
    """

    fixed: Mixture | None = None
    calendar: CalendarTerms | None = None
    transform: ChannelTransform | None = None
    regressors: Regressors | None = None

    def __repr__(self) -> str:
        return f"FixedPlan({self.fixed!r})"

    def __post_init__(self) -> None:
        if self.fixed is None:
            raise ValueError("a FixedPlan holds a mixture.")

    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        assert self.fixed is not None
        if mask is not None and not np.all(mask):
            raise ValueError("this model has no forecast for windows with missing values.")
        return self.fixed

    @property
    def needs_ordinals(self) -> bool:
        return self.calendar is not None

    @property
    def needs_exog(self) -> bool:
        return self.regressors is not None

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
        if self.calendar is None and self.transform is None and self.regressors is None:
            return super().forecast(windows, horizon, backend, stamps=stamps, dtype=dtype)
        found = self._transformed_forecast(windows, horizon, backend, stamps, known)
        if self.transform is not None:
            found = self.transform.inverse(found)
        return found.astype(dtype, copy=False)

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
        if self.transform is None:
            return super().quantiles(windows, horizon, backend, levels, stamps=stamps, known=known)
        found = self._transformed_forecast(windows, horizon, backend, stamps, known)
        return self.transform.inverse(self._around(found, levels))

    def _transformed_forecast(
        self,
        windows: npt.NDArray[np.floating],
        horizon: int,
        backend: Backend,
        stamps: npt.NDArray[np.datetime64] | None,
        known: KnownInputs | None,
    ) -> FloatArray:
        """Forecast, in transformed units where there are any."""
        if self.transform is not None:
            windows = self.transform.forward(windows)
        found = np.asarray(super().forecast(windows, horizon, backend, stamps=stamps))
        if self.calendar is not None:
            if known is None or known.ordinals is None:
                raise ValueError("this model has calendar terms; windows need their ordinals.")
            found = found + self.calendar.values(known.ordinals)[:, :, :horizon]
        if self.regressors is not None:
            if known is None or known.exog is None:
                raise ValueError("this model has regressors; windows need theirs.")
            found = found + self.regressors.values(known.exog)[:, :, :horizon]
        return found


@dataclass(frozen=True, eq=False, repr=False)
class RolloutPlan(FixedPlan):
    """A mixture of one lookback and horizon, rolled out to contexts and horizons of any length.

    Parameters
    ----------
    fixed : Mixture
        Forecasts a block; ``lookback`` of the plan is what is read at most.
    rollout : Rollout

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> from mixlin.mixture import Mixture, RolloutPlan
    >>> from mixlin.normalization import Normalization
    >>> naive = Mixture(np.zeros((1, 1, 4, 2)), normalization=Normalization("last"))
    >>> plan = RolloutPlan(4, 2, fixed=naive)
    >>> plan.forecast(np.arange(8.0)[None, None], 5, resolve("numpy")).tolist()
    [[[7.0, 7.0, 7.0, 7.0, 7.0]]]
    """

    any_length = True
    any_horizon = True

    rollout: str | Rollout = field(default_factory=Rollout)

    def __repr__(self) -> str:
        return f"RolloutPlan({self.fixed!r}, {self.rollout!r})"

    @property
    def spreads_missing(self) -> bool:
        return False

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
        """Forecast contexts of any length, NaN before a row's first value.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, length)
        horizon : int
            Any.
        backend : Backend
        stamps, known
            Not read.
        dtype : dtype, default=float64

        Returns
        -------
        array of shape (n_windows, n_channels, horizon)
        """

        def rolled_out(context: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
            assert self.fixed is not None
            assert isinstance(self.rollout, Rollout)
            found = rollout_forecast(
                self.fixed, self.rollout, context, horizon, backend, gates=False
            )
            return found.forecast

        if not np.isnan(windows[:, :, 0]).any():
            return rolled_out(windows).astype(dtype, copy=False)
        rows = windows.reshape(-1, windows.shape[-1])
        out = np.empty((len(rows), horizon), dtype=dtype)
        for n, some in by_length(rows):
            out[some] = rolled_out(rows[some, None, rows.shape[1] - n :])[:, 0]
        return out.reshape(*windows.shape[:2], horizon)
