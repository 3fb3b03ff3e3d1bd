"""What an exact search tries: parameters, and the defaults that follow from the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .exact_options import check_calendar, check_forgetting, check_transform, is_number
from .search import SearchGrid

LEVELS = ("last", "mean")
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

_LONGEST = 720  # rows; also at most the sixth part of the training rows
_SHARE = 6
_PARTS = (0.47, 0.71, 1.0)  # of the longest lookback
_PLAIN_LOOKBACKS = (32, 96, 192)  # without a season
_CYCLES = (2.0, 2.5)  # that are tried too where no lookback holds the latter
_MOST_OF_ROWS = 5  # a lookback is at most this part of the training rows
_CYCLES_FOR_CALENDAR = 16  # fewer can't tell a season's terms from chance


class ExactSearch(BaseEstimator):
    """What :class:`mixlin.AutoLinearForecaster` tries, and how it weighs what it found.

    Every lookback, rate of forgetting and level is a group; within a group the whole path of
    penalties costs little more than one solution. All defaults were chosen on validation spans,
    with each data set left out in turn.

    Parameters
    ----------
    alphas : sequence of float, default=(0.01, 0.03, 0.1, ..., 1000)
        Relative penalties on what shared weights add to the prior, as ``alpha`` of
        :class:`mixlin.LinearForecaster`. Infinity keeps the prior.
    betas : sequence of float, default=(0.01, 0.03, 0.1, ..., 1000)
        Relative penalties on what channels add of their own; shared weights are always tried too.
    corrected : sequence of float, default=(10, inf)
        Penalties on shared weights under which channels' own are tried.
    kappas : sequence of float, default=(inf, 1)
        Strengths of :class:`SeasonalPrior`.
    forgetting : sequence of float or None, default=(None, 0.3)
        Half-lives, in rows from 1 on, below as a share of the training rows.
    calendar : int, default=2
        Harmonics of every period in the calendar terms; only of periods that the training rows
        hold 16 times, and only with times.
    transform : {None, "auto", "log", "box-cox"}, default="auto"
        As in :class:`ExactSolver`.
    normalization : sequence of {"last", "mean"}, default=("last",)
        Levels that are taken off windows.
    temperature : float, default=0.05
        Groups are averaged with weights ``exp(-log(loss / best) / temperature)``; 0 takes the best.

    Examples
    --------
    >>> from mixlin import AutoLinearForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> from mixlin.solvers import ExactSearch
    >>> load = make_seasonal(24 * 60, n_channels=2, random_state=0).data
    >>> solver = ExactSearch(alphas=(0.1, 1.0, 10.0), forgetting=(None,))
    >>> model = AutoLinearForecaster((48, 96), 24, solver=solver).fit(load)
    >>> model.weights_of_groups_.round(2).tolist()
    [0.25, 0.34, 0.19, 0.22]
    """

    def __init__(
        self,
        alphas: Sequence[float] = PENALTIES,
        betas: Sequence[float] = PENALTIES,
        *,
        corrected: Sequence[float] = (10.0, np.inf),
        kappas: Sequence[float] = (np.inf, 1.0),
        forgetting: Sequence[float | None] = (None, 0.3),
        calendar: int = 2,
        transform: str | None = "auto",
        normalization: Sequence[str] = ("last",),
        temperature: float = 0.05,
    ) -> None:
        self.alphas = alphas
        self.betas = betas
        self.corrected = corrected
        self.kappas = kappas
        self.forgetting = forgetting
        self.calendar = calendar
        self.transform = transform
        self.normalization = normalization
        self.temperature = temperature

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        for name in ("alphas", "betas", "corrected", "kappas"):
            given = getattr(self, name)
            numbers = _listed(given)
            enough = len(numbers) > 0 or name in ("betas", "corrected")
            if not enough or not all(is_number(v) and v >= 0 for v in numbers):
                raise ValueError(
                    f"The {name!r} parameter of ExactSearch must be a sequence of numbers >= 0. "
                    f"Got {given!r} instead."
                )
        for value in _listed(self.forgetting) or ["nothing"]:
            check_forgetting(value, "ExactSearch")
        levels = _listed(self.normalization)
        if not levels or any(level not in LEVELS for level in levels):
            raise ValueError(
                f"The 'normalization' parameter of ExactSearch must be a sequence of {LEVELS}. Got "
                f"{self.normalization!r} instead."
            )
        check_calendar(self.calendar, "ExactSearch")
        check_transform(self.transform, "ExactSearch")
        if not is_number(self.temperature) or not self.temperature >= 0:
            raise ValueError(
                f"The 'temperature' parameter of ExactSearch must be a number >= 0. Got "
                f"{self.temperature!r} instead."
            )

    def grid(self, *, shared: bool, prior: bool) -> SearchGrid:
        """Return the penalties to try.

        Parameters
        ----------
        shared : bool
            Whether all channels have the same weights.
        prior : bool
            Whether there is a prior, whose coefficients channels may have of their own.
        """
        alphas = sorted({*map(float, self.alphas), *([] if shared else map(float, self.corrected))})
        corrected = [] if shared else [alphas.index(float(a)) for a in sorted(set(self.corrected))]
        finite = [float(b) for b in self.betas if np.isfinite(b)]
        return SearchGrid(
            tuple(alphas),
            tuple(finite) if corrected else (),
            tuple(map(float, self.kappas)) if prior and not shared else (np.inf,),
            tuple(corrected) if finite else (),
        )


def _listed(value: Any) -> list[Any]:
    """Return the entries of a sequence, one that no check passes for anything else."""
    several = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)
    return list(value) if several else ["nothing"]


def default_lookbacks(n_rows: int, horizon: int, periods: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lookbacks to try.

    Parameters
    ----------
    n_rows : int
        Training rows.
    horizon : int
    periods : tuple of int

    Returns
    -------
    tuple of int
        Ascending.

    Examples
    --------
    >>> from mixlin.solvers.exact_search import default_lookbacks
    >>> default_lookbacks(10_000, 96, (24,)), default_lookbacks(700, 24, (52,))
    ((338, 511, 720), (54, 82, 104, 116, 130))
    """
    most = max(1, min(n_rows // _MOST_OF_ROWS, n_rows - horizon))
    if not periods:
        wanted = [float(k) for k in _PLAIN_LOOKBACKS]
    else:
        wanted = [part * min(_LONGEST, n_rows / _SHARE) for part in _PARTS]
        if _CYCLES[-1] * max(periods) > wanted[-1]:
            wanted += [c * max(periods) for c in _CYCLES]
    return tuple(sorted({int(min(k, most)) for k in wanted}))


def keeps_calendar(n_rows: int, period: int) -> bool:
    """Whether training rows hold a season often enough for calendar terms.

    Parameters
    ----------
    n_rows, period : int
    """
    return n_rows >= _CYCLES_FOR_CALENDAR * period
