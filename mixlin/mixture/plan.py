"""Plans: fitted models as data, and the mixture they give for a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .record import Mixture

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A fitted model as data: what ``fit`` produces and everything else reads.

    Parameters
    ----------
    lookback, horizon : int
        Steps read and steps forecast.
    n_channels : int or None
        None for weights that serve any number of channels.
    rollout : {"direct"}
        How a request is answered: every step at once.
    residual : array of shape (C, horizon) or a callable that returns it, optional
        Variance of the training residuals in squared data units; a callable is asked once, when
        :attr:`residual_variance` is first read.
    """

    lookback: int
    horizon: int
    n_channels: int | None = None
    rollout: str = "direct"
    residual: FloatArray | Callable[[], FloatArray] | None = None

    @cached_property
    def residual_variance(self) -> FloatArray | None:
        """Variance of the training residuals, shape (C, horizon), in squared data units."""
        return self.residual() if callable(self.residual) else self.residual

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

    Parameters
    ----------
    fixed : Mixture

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import FixedPlan, Mixture
    >>> plan = FixedPlan(4, 2, fixed=Mixture(np.zeros((1, 1, 4, 2))))
    >>> plan.mixture() is plan.mixture(horizon=2)
    True
    """

    fixed: Mixture | None = None

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
