"""Options of the exact solver, and what they may be."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ..transforms import RULES


class ExactSolver(BaseEstimator):
    """Options of the exact solver that linear forecasters share.

    Parameters
    ----------
    pooling : float, default=100.0
        For ``individual="partial"``: strength with which per-channel corrections are shrunk
        towards the shared matrix, relative as ``alpha`` is. 0 fits every channel on its own,
        infinity keeps the shared matrix. The default did best on the validation spans of
        several data sets.

    forgetting : float, optional
        Half-life of a window's weight: in rows from 1 on, below as a share of the training rows.
        Windows are in the order of time; None lets all count the same.
    calendar : int, default=0
        Harmonics of every period, whose cosines and sines, in the phase of the window's last
        input, add to the forecast of every step; coefficients per channel, solved jointly with the
        weights and not penalized. Needs series with times (a frame's index, or ``timestamps=``).
        Periods are those of the ``prior``, found as with ``period="auto"`` where it names none.
    transform : {None, "auto", "log", "box-cox"}, default=None
        Power transform of every channel, chosen on the training rows
        (:class:`mixlin.transforms.ChannelTransform`); forecasts are transformed back. Series only.

    Examples
    --------
    >>> from mixlin import DLinearForecaster, ExactSolver
    >>> DLinearForecaster(individual="partial", solver=ExactSolver(pooling=3.0)).solver.pooling
    3.0
    """

    def __init__(
        self,
        pooling: float = 100.0,
        *,
        forgetting: float | None = None,
        calendar: int = 0,
        transform: str | None = None,
    ) -> None:
        self.pooling = pooling
        self.forgetting = forgetting
        self.calendar = calendar
        self.transform = transform

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        if not is_number(self.pooling) or not self.pooling >= 0:
            raise ValueError(
                f"The 'pooling' parameter of ExactSolver must be a number >= 0 (inf keeps the "
                f"shared matrix). Got {self.pooling!r} instead."
            )
        check_forgetting(self.forgetting, "ExactSolver")
        check_calendar(self.calendar, "ExactSolver")
        check_transform(self.transform, "ExactSolver")


def is_number(value: Any) -> bool:
    """Whether a value is a real number that is not a truth value.

    Parameters
    ----------
    value : object
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def check_forgetting(value: Any, owner: str) -> None:
    """Raise a ValueError unless a value is a half-life or None.

    Parameters
    ----------
    value : object
    owner : str
        Class that has the parameter.
    """
    if value is None or (is_number(value) and value > 0):
        return
    raise ValueError(
        f"The 'forgetting' parameter of {owner} must be None or a half-life above 0, in rows "
        f"from 1 on, below a share of the training rows. Got {value!r} instead."
    )


def check_calendar(value: Any, owner: str) -> None:
    """Raise a ValueError unless a value is a number of harmonics.

    Parameters
    ----------
    value : object
    owner : str
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return
    raise ValueError(
        f"The 'calendar' parameter of {owner} must be a number of harmonics, an integer >= 0. "
        f"Got {value!r} instead."
    )


def check_transform(value: Any, owner: str) -> None:
    """Raise a ValueError unless a value names a transform or is None.

    Parameters
    ----------
    value : object
    owner : str
    """
    if value is not None and value not in RULES:
        raise ValueError(
            f"The 'transform' parameter of {owner} must be None or one of {list(RULES)}. Got "
            f"{value!r} instead."
        )


def decay_of(forgetting: float | None, n_rows: int) -> float:
    """Return the weight of a window relative to the next one.

    Parameters
    ----------
    forgetting : float or None
        Half-life in rows, or as a share of the training rows.
    n_rows : int
        Training rows.

    Returns
    -------
    float

    Examples
    --------
    >>> from mixlin.solvers import decay_of
    >>> decay_of(None, 100), decay_of(1, 100), decay_of(0.5, 100) == decay_of(50, 10)
    (1.0, 0.5, True)
    """
    if forgetting is None or np.isinf(forgetting):
        return 1.0
    half_life = forgetting if forgetting >= 1 else forgetting * n_rows
    return float(2.0 ** (-1.0 / half_life))
