"""What a solver of mixtures is asked for, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from ..mixture import FixedPlan, Mixture
from ..routing import Router
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]


class NothingToChooseOnError(ValueError):
    """What is left without the held-out rows can't be fitted."""


class FitInterruptedWarning(RuntimeWarning):
    """A fit was interrupted (Ctrl-C), and the best that it had found is kept."""


@dataclass(frozen=True, eq=False)
class MixtureTask:
    """A mixture to be fitted.

    Parameters
    ----------
    windows : WindowSource
        Of all training data.
    start : callable
        From a number of rows (or a share of them) to leave out at the end to the exact single
        expert of the rest: a plan. Raises :class:`NothingToChooseOnError` if there is too little.
    router : Router
        Prepared.
    n_experts : int
    top_k : int or None
    scale : array of shape (C,)
        Channels count in these units.
    fit_intercept : bool
    hidden : int or None
        Units of a residual layer before the experts, which only the gradient solver can train.
    random_state : numpy.random.RandomState
    previous : Mixture or None
        Fitted before, for a solver that goes on from there.
    level : callable, optional
        From what ``start`` takes to the means (C,) of the channels there; by default the reference
        levels of the start.
    """

    windows: WindowSource
    start: Callable[[float | int], FixedPlan]
    router: Router
    n_experts: int
    top_k: int | None
    scale: Float64Array
    fit_intercept: bool
    random_state: np.random.RandomState
    hidden: int | None = None
    previous: Mixture | None = None
    level: Callable[[float | int], Float64Array] | None = None

    def centered_start(self, held_out: float | int) -> Mixture:
        """Return the exact single expert, measured from the means of the channels.

        What corrects it must not depend on which level a channel happens to have.

        Parameters
        ----------
        held_out : float or int
            As ``start`` takes it.

        Returns
        -------
        Mixture
            It forecasts what that of ``start`` forecasts.
        """
        mixture = self.start(held_out).mixture()
        return mixture if self.level is None else measured_from(mixture, self.level(held_out))


def measured_from(mixture: Mixture, reference: Float64Array) -> Mixture:
    """Return a mixture with the same forecasts and another reference level.

    Parameters
    ----------
    mixture : Mixture
        Without layers before or after its experts, or with a level of every window.
    reference : array of shape (C,)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import Mixture, predict_windows
    >>> from mixlin.solvers.mixture_task import measured_from
    >>> half = Mixture(np.array([[[[0.5]]]]))
    >>> moved = measured_from(half, np.array([3.0]))
    >>> moved.bias.tolist(), predict_windows(moved, np.array([[[4.0]]])).tolist()
    ([[[-1.5]]], [[[2.0]]])
    """
    reference = np.asarray(reference, dtype=np.float64)
    bias = mixture.bias
    off = mixture.reference - reference
    if mixture.normalization.level == "none" and off.any():
        moved = off[:, None, None] * (1.0 - mixture.weights.sum(axis=2))
        bias = moved if bias is None else bias + moved
    return replace(mixture, bias=bias, reference=reference)


@dataclass(frozen=True, eq=False)
class MixtureSolution:
    """A fitted mixture.

    Parameters
    ----------
    mixture : Mixture
    usage : array of shape (E,)
        Mean gate over the training windows.
    residual : array of shape (C, horizon) or callable, optional
        Variance of the residuals on new windows, squared data units.
    history : list of dict
        What was tried: one entry per candidate or epoch, with its validation loss.
    """

    mixture: Mixture
    usage: Float64Array
    residual: Any = None
    history: list[dict[str, Any]] = field(default_factory=list)


class MixtureSolver(BaseEstimator, ABC):
    """How experts and gates are found. A subclass is an object of plain parameters."""

    needs_timestamps: bool = False

    @abstractmethod
    def solve(self, task: MixtureTask) -> MixtureSolution:
        """Fit a mixture.

        Parameters
        ----------
        task : MixtureTask

        Returns
        -------
        MixtureSolution
        """

    @property
    def holds_out(self) -> bool:
        """Whether windows are held out to choose on."""
        return "validation" in self.get_params(deep=False)

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""

    def router_for(self, router: Router, n_experts: int) -> Router:
        """Return the router that the solver uses: the given one, unless it brings its own."""
        return router
