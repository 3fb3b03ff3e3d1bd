"""How models are fitted again and again on the rows of one series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from ..auto_linear import AutoLinearForecaster
from ..backends import resolve
from ..base import Series, Training, series_ordinal
from ..linear import ChannelStatistics, ExactLinearForecaster, Seasons
from ..mixture import FixedPlan, KnownInputs
from ..solvers import ExactSolver, RollingSums, SeriesSums, single_threaded
from ..windows import interpolate, too_short

Float64Array = npt.NDArray[np.float64]

_MOST_BYTES = 2**29  # matrices of moments that are kept; with more, sums are made anew


class Refits(ABC):
    """A model that is fitted on one stretch of rows after another.

    Parameters
    ----------
    model : forecaster
        Not changed.
    series : Series
    """

    def __init__(self, model: Any, series: Series) -> None:
        self.model = model
        self.series = series
        self.values = np.asarray(series.values, dtype=np.float64)

    def choose(self, start: int, stop: int) -> None:  # noqa: B027 (most models choose nothing)
        """Make the choices that are kept over several fits, on rows ``start`` to ``stop - 1``."""

    @abstractmethod
    def fit(self, start: int, stop: int) -> None:
        """Fit on rows ``start`` to ``stop - 1``."""

    @abstractmethod
    def forecast(self, stop: int) -> Float64Array:
        """Return what follows row ``stop - 1``, (horizon, C), by the last fit."""


class PlanRefits(Refits):
    """Fits that give a plan, which does all there is to a forecast."""

    plan: FixedPlan

    def ordinal(self, row: int) -> float:
        """Return the ordinal of a row."""
        return series_ordinal(self.series.index) - len(self.values) + 1 + row

    def forecast(self, stop: int) -> Float64Array:
        plan, known = self.plan, None
        if plan.needs_ordinals:
            known = KnownInputs(np.array([self.ordinal(stop - 1)]))
        window = self.values[stop - plan.lookback : stop].T[None]
        backend = resolve(self.model.backend)
        with np.errstate(invalid="ignore", over="ignore"):  # channels with gaps stay missing
            return np.asarray(plan.forecast(window, plan.horizon, backend, known=known)[0].T)


class ExactRefits(PlanRefits):
    """Fits of an exact linear forecaster: low-rank changes of the moments, and a solve each.

    Where the windows themselves change with every row, as their weights do with a half-life that is
    a share of them, or their values with a transform, the sums are made anew, without the windows.
    """

    def __init__(self, model: ExactLinearForecaster, series: Series) -> None:
        super().__init__(model, series)
        self._seen: tuple[Any, ...] = ()  # what the sums of the last fit were like
        self._sums: RollingSums | None = None
        self._statistics: ChannelStatistics | None = None
        self._rows = (0, 0)  # of the statistics

    def fit(self, start: int, stop: int) -> None:
        model, n_rows = self.model, stop - start
        L, H = model._lookbacks_read([n_rows])[0], model.horizon
        if n_rows < L + H:
            raise too_short(L, H, n_rows)
        solver = ExactSolver() if model.solver is None else model.solver
        index = self.series.index
        if index is not None and solver.calendar:
            index = index.before(len(self.values) - stop)
        training = Training(L, H, series=[self.values[start:stop]], indexes=[index])
        seasons = model._find_seasons(training, solver)
        like = (L, seasons.decay, *seasons.frequencies)
        repeated, self._seen = like == self._seen, like
        large = RollingSums.n_bytes(self.values.shape[1], L, H) > _MOST_BYTES
        if large or not repeated or seasons.transform is not None:
            self._sums = None
            self.plan = model._learn(training, update=False)["plan_"]
            return
        self.plan = self._rolled(start, stop, training, seasons)

    def _rolled(self, start: int, stop: int, training: Training, seasons: Seasons) -> FixedPlan:
        model: ExactLinearForecaster = self.model
        statistics = self._counted(start, stop)
        if self._sums is None:
            at = self.ordinal(0) if len(seasons.frequencies) else 0.0
            self._sums = RollingSums(
                self.values,
                training.lookback,
                training.horizon,
                statistics.mean.copy(),
                decay=seasons.decay,
                frequencies=seasons.frequencies,
                at=at,
            )
        with single_threaded():
            self._sums.move(start, stop)
            eps = model._scale_eps(statistics)
            if eps is not None:
                self._sums.measure_scale(eps)
        model._check_taught(self._sums)
        return model._solve(self._sums, statistics, seasons, series=True)

    def _counted(self, start: int, stop: int) -> ChannelStatistics:
        """Return mean and deviation of rows."""
        first, last = self._rows
        if self._statistics is None or start != first or not last <= stop:
            self._statistics, last = ChannelStatistics(self.values.shape[1]), start
        self._statistics.add(self.values[last:stop])
        self._rows = (start, stop)
        return self._statistics


class AutoRefits(PlanRefits):
    """Fits of a search: choices are made once and kept, its groups are solved again."""

    model: AutoLinearForecaster

    def __init__(self, model: AutoLinearForecaster, series: Series) -> None:
        super().__init__(model, series)
        self._groups: dict[str, Any] = {}
        self._sums: list[RollingSums] = []

    def choose(self, start: int, stop: int) -> None:
        self.model = clone(self.model)
        rows, stamps = given_rows(self.series, start, stop)
        self.model.fit(rows, timestamps=stamps)
        self._groups = self.model._groups
        self._sums = []

    def same_choices(self) -> AutoRefits:
        """Return refits that keep the choices of these, and share nothing that changes."""
        made = AutoRefits(self.model, self.series)
        made._groups = self._groups
        return made

    def fit(self, start: int, stop: int) -> None:
        kept = self._groups["sums"]
        if not self._sums:
            self._sums = [self._moving(sums) for sums, _ in kept]
        C = self.values.shape[1]
        needed = sum(RollingSums.n_bytes(C, s.lookback, s.horizon) for s in self._sums)
        moved: list[Any] = []
        with single_threaded():
            for sums, (_, group) in zip(self._sums, kept, strict=True):
                if needed <= _MOST_BYTES:
                    sums.move(start, stop)
                    moved.append((sums, group))
                    continue
                shape = (sums.lookback, sums.horizon, sums.level)
                made = SeriesSums(*shape, decay=sums.decay, frequencies=sums.frequencies)
                made.add(sums.values[start:stop], at=sums.at + start)
                moved.append((made, group))
        self.plan = self.model._solved({**self._groups, "sums": moved})["plan_"]

    def _moving(self, sums: SeriesSums) -> RollingSums:
        values, transform = self.values, self._groups["transform"]
        return RollingSums(
            values if transform is None else transform.forward(values),
            sums.lookback,
            sums.horizon,
            sums.level,
            decay=sums.decay,
            frequencies=sums.frequencies,
            at=self.ordinal(0) if len(sums.frequencies) else 0.0,
        )


class CloneRefits(Refits):
    """Fits of any other forecaster: of a clone, on the rows as the caller has them."""

    fitted: Any
    fitted_to: int = 0

    def fit(self, start: int, stop: int) -> None:
        rows, stamps = given_rows(self.series, start, stop)
        self.fitted = clone(self.model).fit(rows, timestamps=stamps)
        self.fitted_to = stop

    def forecast(self, stop: int) -> Float64Array:
        start = max(0, stop - self.fitted.lookback_)
        lacking = np.isnan(self.values[start:stop]).any(axis=0)
        if self.fitted.plan_.reads_gaps:
            lacking = np.zeros_like(lacking)
        if stop == self.fitted_to and not lacking.any():
            made = self.fitted.predict()
        else:
            rows, stamps = given_rows(self.series, start, stop, filled=bool(lacking.any()))
            made = self.fitted.predict(rows, timestamps=stamps)
        out = np.array(made, dtype=np.float64).reshape(len(made), -1)
        out[:, lacking] = np.nan
        return out


def given_rows(series: Series, start: int, stop: int, *, filled: bool = False) -> tuple[Any, Any]:
    """Return rows of a series as they were given, on its grid, and their times.

    Parameters
    ----------
    series : Series
    start, stop : int
    filled : bool
        Whether gaps are filled on straight lines, and with zeros where a channel has no value.

    Returns
    -------
    rows : array of shape (stop - start, C), Series or DataFrame
    timestamps : array of shape (stop - start,), or None
    """
    values, index = series.values[start:stop], series.index
    if filled:
        empty = np.isnan(values).all(axis=0)
        values = interpolate(np.where(empty, 0.0, values))
    if index is None:
        return values, None
    labels = index.before(len(series.values) - stop).past(stop - start)
    if index.kind == "stamps":
        return values, labels
    import pandas as pd

    container = series.container
    if container.kind == "series":
        return pd.Series(values[:, 0], index=labels, name=container.columns), None
    return pd.DataFrame(values, index=labels, columns=container.columns), None


def refits_of(model: Any, series: Series) -> Refits:
    """Return how a model is fitted again.

    Parameters
    ----------
    model : forecaster
    series : Series

    Returns
    -------
    Refits
    """
    if isinstance(model, AutoLinearForecaster) and model.refit:
        return AutoRefits(model, series)
    if isinstance(model, ExactLinearForecaster) and model.scale != "series":
        return ExactRefits(model, series)
    return CloneRefits(model, series)
