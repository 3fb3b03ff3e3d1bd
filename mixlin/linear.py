"""What the exact linear forecasters share: from sums over windows to a plan with one expert."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from sklearn.utils._param_validation import Interval, StrOptions

from .base import BaseForecaster, ExogForecaster, Training, series_ordinal, window_weights
from .calendar_terms import CalendarTerms, wave_frequencies
from .mixture import FixedPlan, Mixture
from .normalization import REVIN_EPS, named_normalization
from .panels import learn_panel, panel_plan, standardized, standardized_plan
from .persistence import register_record
from .regressor_fits import learn_regressors, refuse_beside
from .solvers import (
    DenseSums,
    ExactSolver,
    LinearProblem,
    RegressorProblem,
    SeasonalPrior,
    SeriesSums,
    WindowSums,
    decay_of,
    prior_features,
    solve_linear,
    solve_with_regressors,
)
from .transforms import ChannelTransform

Float64Array = npt.NDArray[np.float64]

_BLOCK_ROWS = 2**16

register_record(ExactSolver)
register_record(SeasonalPrior)


class ChannelStatistics:
    """Count, mean and sum of squared deviations per channel, mergeable."""

    def __init__(self, n_channels: int) -> None:
        self.count = np.zeros(n_channels)
        self.mean = np.zeros(n_channels)
        self.deviation = np.zeros(n_channels)

    def add(self, values: npt.NDArray[Any], weight: Float64Array | None = None) -> None:
        """Add values (n, C, ...); NaN is passed over."""
        block = max(1, _BLOCK_ROWS // max(1, int(np.prod(values.shape[1:]))))
        for start in range(0, len(values), block):
            x = values[start : start + block].astype(np.float64)
            w = np.ones(len(x)) if weight is None else weight[start : start + block]
            w = np.where(np.isnan(x), 0.0, w.reshape(-1, *[1] * (x.ndim - 1)))
            x = np.where(w > 0, x, 0.0)
            axes = (0, *range(2, x.ndim))
            count = w.sum(axis=axes)
            safe = np.maximum(count, np.finfo(np.float64).tiny)
            mean = (w * x).sum(axis=axes) / safe
            off = x - mean.reshape(1, -1, *[1] * (x.ndim - 2))
            deviation = (w * off * off).sum(axis=axes)
            total = np.maximum(self.count + count, np.finfo(np.float64).tiny)
            delta = mean - self.mean
            self.mean = self.mean + delta * count / total
            self.deviation += deviation + delta * delta * self.count * count / total
            self.count = self.count + count

    def variance(self) -> Float64Array:
        """Return the population variance, zero where a channel is constant up to rounding."""
        variance = self.deviation / np.maximum(self.count, np.finfo(np.float64).tiny)
        rounding = 10 * np.finfo(np.float64).eps * np.abs(self.mean)
        return np.where(variance > rounding**2, variance, 0.0)


def _input_weights(weight: Float64Array, lookback: int, horizon: int) -> Float64Array:
    """Return for every row the weight of the windows that hold it; plain where there is none."""
    if np.ptp(weight) == 0 or len(weight) < lookback + horizon:
        return weight
    windows = window_weights(weight, lookback, horizon)
    total = np.concatenate([[0.0], np.cumsum(windows)])
    rows = np.arange(len(weight))
    newest = np.minimum(rows + 1, len(windows))
    oldest = np.clip(rows - lookback - horizon + 1, 0, len(windows))
    return np.asarray(np.maximum(total[newest] - total[oldest], 0.0))


@dataclass(frozen=True, eq=False)
class Seasons:
    """What a fit found out about its training rows before it solves.

    Parameters
    ----------
    periods : tuple of int
        In rows.
    frequencies : array of shape (F,)
        Radians per row, of the calendar terms.
    decay : float
        Weight of a window relative to the next one.
    transform : ChannelTransform, optional
    """

    periods: tuple[int, ...] = ()
    frequencies: Float64Array = field(default_factory=lambda: np.empty(0))
    decay: float = 1.0
    transform: ChannelTransform | None = None


@overload
def faded(weight: Float64Array, n_windows: int, decay: float) -> Float64Array: ...


@overload
def faded(weight: Float64Array | None, n_windows: int, decay: float) -> Float64Array | None: ...


def faded(weight: Float64Array | None, n_windows: int, decay: float) -> Float64Array | None:
    """Return weights of windows in the order of time that fade with their age.

    Parameters
    ----------
    weight : array of shape (n_windows,), or None
    n_windows : int
    decay : float
        Weight of a window relative to the next one.

    Returns
    -------
    array of shape (n_windows,), or None
    """
    if decay == 1.0:
        return weight
    age = decay ** np.arange(n_windows - 1.0, -1.0, -1.0)
    return age if weight is None else age * weight


class SingleExpertForecaster(ExogForecaster):
    """A forecaster whose plan holds one linear expert: its coefficients on the raw window."""

    individual: bool | str = False

    @property
    def coef_(self) -> Float64Array:
        """The matrix on the raw window, oldest lag first, (H, L) or (C, H, L)."""
        folded = self._folded().transpose(0, 2, 1)
        return np.asarray(folded[0] if len(folded) == 1 else folded)

    def _folded(self) -> Float64Array:
        mixture = self._fitted_mixture("coef_")
        weights = mixture.weights[:, 0]
        level = mixture.normalization.functional(weights.shape[1])
        rows = weights.sum(axis=1, keepdims=True)
        return np.asarray(weights + level[:, None] * (1.0 - rows))

    @property
    def intercept_(self) -> Float64Array:
        """The constant of every step in data units, (H,) or (C, H)."""
        mixture = self._fitted_mixture("intercept_")
        horizon = mixture.horizon
        bias = np.zeros((1, horizon)) if mixture.bias is None else mixture.bias[:, 0]
        if mixture.normalization.level == "none":
            rows = 1.0 - mixture.weights[:, 0].sum(axis=1)
            bias = bias + mixture.reference[:, None] * rows
        same = len(bias) == 1 or self.plan_.n_channels == 1
        if not same and not self.individual:  # one constant in data units, up to rounding
            spread = np.abs(mixture.reference).max() + np.abs(bias).max()
            same = bool(np.ptp(bias, axis=0).max() <= 1e-13 * spread * mixture.lookback)
        return bias[0] if same else bias

    @property
    def scale_coef_(self) -> Float64Array:
        """What a window's standard deviation is multiplied by, (H,) or (C, H)."""
        mixture = self._fitted_mixture("scale_coef_")
        if mixture.scale_coef is None:
            raise AttributeError(f"this {type(self).__name__} has no scale feature.")
        coef = mixture.scale_coef[:, 0]
        return coef[0] if len(coef) == 1 else coef

    def _fitted_mixture(self, name: str) -> Mixture:
        if "plan_" not in vars(self):
            raise AttributeError(
                f"this {type(self).__name__} has no {name} before it is fitted; call fit."
            )
        return self.plan_.mixture()


class ExactLinearForecaster(SingleExpertForecaster):
    """A forecaster with one linear expert, solved exactly from sums over windows."""

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseForecaster._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "individual": ["boolean", StrOptions({"partial"})],
        "scale": [StrOptions({"auto", "std", "series"}), None],
        "prior": ["array-like", SeasonalPrior, StrOptions({"seasonal"}), None],
        "solver": [ExactSolver, None],
    }

    _not_saved = ("_sums", "_statistics", "_seasons", "_regressors")
    _reads_panels = True

    alpha: float
    fit_intercept: bool
    individual: bool | str
    scale: str | None
    prior: npt.ArrayLike | str | SeasonalPrior | None
    solver: ExactSolver | None

    def _normalization_name(self) -> str | None:
        return getattr(self, "normalization", None)

    def _metric(self, lookback: int) -> Float64Array | None:
        """Return the metric of the penalty; None for the identity."""
        return None

    def _prior(self, lookback: int, horizon: int, n_channels: int) -> Float64Array | None:
        if self.prior is None or self._seasonal_prior is not None:
            return None
        prior = np.asarray(self.prior, dtype=np.float64)
        shapes = [(horizon, lookback), (n_channels, horizon, lookback)]
        if prior.shape not in shapes or not np.isfinite(prior).all():
            raise ValueError(
                f"prior must be None or finite coefficients shaped like coef_, {shapes[0]} or "
                f"{shapes[1]}; got shape {prior.shape}."
            )
        if prior.ndim == 3 and n_channels > 1 and self.individual is not True:
            raise ValueError(
                f"a prior per channel, {prior.shape}, needs individual=True; got individual="
                f"{self.individual!r}. Pass one prior of shape {shapes[0]} for shared weights."
            )
        return np.asarray(prior.reshape(-1, horizon, lookback).transpose(0, 2, 1))

    @property
    def _seasonal_prior(self) -> SeasonalPrior | None:
        if isinstance(self.prior, str):
            return SeasonalPrior()
        return self.prior if isinstance(self.prior, SeasonalPrior) else None

    def _find_seasons(self, training: Training, solver: ExactSolver) -> Seasons:
        """Find what the options of the prior and of the solver ask for, in training rows."""
        prior = self._seasonal_prior
        solver.check()
        if prior is not None:
            prior.check()
        if training.windows is not None:
            for name in ("calendar", "transform"):
                if getattr(solver, name):
                    raise ValueError(
                        f"ExactSolver({name}={getattr(solver, name)!r}) needs a series; windows "
                        f"(y given) say nothing about it. Fit on a series, or leave {name} out."
                    )
            # windows in any order have no season to be found, only one that is given
            given = prior is not None and not isinstance(prior.period, str)
            periods = prior.periods([]) if prior is not None and given else ()
            return Seasons(periods, decay=decay_of(solver.forgetting, len(training.windows[0])))
        assert training.series is not None
        index = training.indexes[0] if training.indexes else None
        freq = None if index is None else index.freq
        periods = ()
        if prior is not None or solver.calendar or solver.transform or training.exog is not None:
            periods = (prior or SeasonalPrior()).periods(training.series, freq)
        transform = None
        if solver.transform is not None:
            blocks = min(periods, default=1)
            transform = ChannelTransform.fit(training.series, solver.transform, blocks)
            transform = transform if transform.changed.any() else None
        longest = max(len(values) for values in training.series)
        return Seasons(
            periods,
            wave_frequencies(tuple(map(float, periods)), solver.calendar),
            decay_of(solver.forgetting, longest),
            transform,
        )

    def _check_updatable(self) -> None:
        """Refuse where there are no sums, or sums of another model."""
        if not hasattr(self, "_sums"):
            raise ValueError(
                f"this {type(self).__name__} holds no sums to add to: it was loaded from a file "
                "or a state dict. Call fit to start anew."
            )
        if self.mode_ != "panel" and (self.scale == "series") != ("_own_scales" in vars(self)):
            raise ValueError(
                "scale was changed to or from 'series' since the last call, which needs other "
                "sums. Call fit to start anew."
            )
        revin = self._normalization_name() == "revin"
        if revin != (self._sums.eps is not None):
            raise ValueError(
                "the normalization was changed to or from 'revin' since the last call, which "
                "needs other sums. Call fit to start anew."
            )

    def update(self, X: Any, *, timestamps: Any = None, exog: Any = None) -> ExactLinearForecaster:
        """Learn from rows that continue the training series, exactly as if all had been given.

        As :meth:`partial_fit` on a series that was fitted, which it insists on: sums are added to
        and solved once, in about ``(lookback + horizon) ** 2`` operations per channel, whatever
        the number of rows learnt before. With forgetting these fade. For a refit at every origin
        of a backtest see :func:`mixlin.backtesting.rolling_backtest`.

        Parameters
        ----------
        X : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame
            One row is enough.
        timestamps : array-like of shape (n_rows,), optional
        exog : array-like of shape (n_rows, n_regressors), optional
            Where the model was fitted with regressors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the model was not fitted on one series, or the rows do not continue it; the
            estimator is left as it was.

        Examples
        --------
        >>> import numpy as np
        >>> from mixlin import NLinearForecaster
        >>> series = np.random.default_rng(0).normal(size=400).cumsum()
        >>> model = NLinearForecaster(lookback=48, horizon=3).fit(series[:300])
        >>> whole = NLinearForecaster(lookback=48, horizon=3).fit(series)
        >>> bool(np.allclose(model.update(series[300:]).predict(), whole.predict()))
        True
        """
        mode = self.mode_ if "plan_" in vars(self) else None
        if mode != "series":
            fits = {None: "not fitted", "panel": "fitted on a long frame"}
            was = fits.get(mode, "fitted on windows")
            raise ValueError(
                f"update adds rows to the series that a {type(self).__name__} was fitted on; this "
                f"one is {was}. Call fit on a series, or partial_fit."
            )
        self.partial_fit(X, timestamps=timestamps, exog=exog)
        return self

    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        L, H = training.lookback, training.horizon
        solver = ExactSolver() if self.solver is None else self.solver
        if training.panel is not None:
            return learn_panel(self, training, ChannelStatistics, update=update)
        own_scales = None
        if self.scale == "series":
            refuse_beside(training, scale=self.scale)
            training, own_scales = standardized(training, solver)
        if update:
            statistics, seasons = copy.deepcopy(self._statistics), self._seasons
            kept = self._sums
            sums: Any = kept.copied() if isinstance(kept, SeriesSums) else copy.deepcopy(kept)
        else:
            sums, statistics = None, None
            seasons = self._find_seasons(training, solver)
        if seasons.transform is not None and training.series is not None:
            moved = [seasons.transform.forward(values) for values in training.series]
            training = replace(training, series=moved)
        if training.windows is not None:
            x, y = training.windows
            statistics = statistics or ChannelStatistics(x.shape[1])
            statistics.add(x, training.weight)
            sums = sums or self._new_sums(DenseSums, L, H, statistics)
            if isinstance(sums, DenseSums) and seasons.decay != 1.0:
                sums.fade(seasons.decay ** len(x))
            sums.add(x, y, faded(training.weight, len(x), seasons.decay))
        else:
            assert training.series is not None
            statistics = statistics or ChannelStatistics(training.series[0].shape[1])
            weights = training.weight or [None] * len(training.series)
            for values, weight in zip(training.series, weights, strict=True):
                seen = None if weight is None else _input_weights(weight, L, H)
                statistics.add(values, seen)
            sums = self._add_series(sums, statistics, training, seasons)
        self._check_taught(sums)
        state = {"_sums": sums, "_statistics": statistics, "_seasons": seasons}
        beside = None
        if training.exog is not None:
            before = self._regressors if update else None
            state["_regressors"] = learnt = learn_regressors(before, training, sums)
            beside = learnt.problem(seasons.periods, L)
        plan = self._solve(
            sums, statistics, seasons, series=training.series is not None, regressors=beside
        )
        if own_scales is None:
            return {"plan_": plan, **state}
        return {"plan_": standardized_plan(plan), "_own_scales": own_scales, **state}

    def _check_taught(self, sums: WindowSums) -> None:
        """Raise a ValueError where sums hold no window to learn from."""
        needed = sums.lookback + sums.horizon
        lacking = np.flatnonzero(sums.n_windows == 0)
        if self.individual is True and 0 < len(lacking) < sums.n_channels:
            raise ValueError(
                f"channels {lacking.tolist()} have no window of lookback + horizon = {needed} "
                "consecutive rows free of missing values, so there is nothing to fit their own "
                "weights on. Fill their gaps, leave them out, or share weights (individual=False)."
            )
        if len(lacking) == sums.n_channels:
            raise ValueError(
                f"no window of lookback + horizon = {needed} consecutive rows is free of missing "
                "values. Shorten lookback or horizon, or fill the gaps, for example with "
                "mixlin.windows.interpolate(X)."
            )

    def _new_sums(
        self,
        kind: type[Any],
        lookback: int,
        horizon: int,
        statistics: ChannelStatistics,
        **options: Any,
    ) -> Any:
        eps = self._scale_eps(statistics)
        return kind(lookback, horizon, statistics.mean.copy(), eps, **options)

    def _scale_eps(self, statistics: ChannelStatistics) -> Float64Array | None:
        """Return what is added to a window's variance, where the model reads its scale."""
        if self._normalization_name() != "revin":
            return None
        # relative to the channel: free of units
        return np.asarray(np.maximum(REVIN_EPS * statistics.variance(), np.finfo(float).tiny))

    def _add_series(
        self,
        sums: WindowSums | None,
        statistics: ChannelStatistics,
        training: Training,
        seasons: Seasons,
    ) -> WindowSums:
        assert training.series is not None
        L, H, weight = training.lookback, training.horizon, training.weight
        uneven = weight is not None and any(np.ptp(w) > 0 for w in weight)
        if sums is None:
            if uneven and len(seasons.frequencies):
                raise ValueError(
                    "calendar terms can't be fitted to rows that weigh differently. Leave "
                    "sample_weight out, or the calendar (ExactSolver(calendar=0))."
                )
            kind = DenseSums if uneven else SeriesSums
            options = {} if uneven else {"decay": seasons.decay, "frequencies": seasons.frequencies}
            sums = self._new_sums(kind, L, H, statistics, **options)
        if isinstance(sums, SeriesSums) and not uneven:
            for i, values in enumerate(training.series):
                each = 1.0 if weight is None else float(weight[i][0])
                at = None
                if len(seasons.frequencies):
                    index = training.indexes[i] if training.indexes else None
                    at = series_ordinal(index) - len(values) + 1
                sums.add(values, each, continues=training.continues, at=at)
            return sums
        if isinstance(sums, SeriesSums) or training.continues:
            raise ValueError(
                "partial_fit with row weights can't be joined to what was learnt before. Give "
                "the whole series to fit, or pass new_series=True to weighted chunks from the "
                "start."
            )
        assert isinstance(sums, DenseSums)
        for i, values in enumerate(training.series):
            if len(values) < L + H:
                continue
            rows = np.ones(len(values)) if weight is None else weight[i]
            windows = window_weights(rows, L, H)
            sums.add_series(values, faded(windows, len(windows), seasons.decay))
        return sums

    def _solve(
        self,
        sums: WindowSums,
        statistics: ChannelStatistics,
        seasons: Seasons,
        *,
        series: bool,
        panel: bool = False,
        regressors: RegressorProblem | None = None,
    ) -> FixedPlan:
        L, H, C = sums.lookback, sums.horizon, sums.n_channels
        scaled = self.scale in ("std", "series") or (self.scale == "auto" and series)
        deviation = np.sqrt(statistics.variance())
        scale = np.where(deviation > 0, deviation, 1.0) if scaled else np.ones(C)
        if scaled:
            level = statistics.mean
        elif not self.fit_intercept:
            level = np.zeros(C)  # no intercept, in the units of the data
        elif self.individual is True:
            level = statistics.mean
        else:
            level = np.full(C, statistics.mean.mean())
        eps = REVIN_EPS if sums.eps is None else sums.eps
        normalization = named_normalization(self._normalization_name(), eps)
        solver = ExactSolver() if self.solver is None else self.solver
        prior, features = self._seasonal_prior, None
        if prior is not None:
            features = prior_features(L, H, prior.kept_periods(seasons.periods, L))
        problem = LinearProblem(
            functional=normalization.functional(L),
            level=level,
            scale=scale,
            active=(deviation > 0) | (not scaled) | (not series),
            alpha=float(self.alpha),
            fit_intercept=self.fit_intercept,
            individual=self.individual,
            pooling=solver.pooling,
            metric=self._metric(L),
            prior=self._prior(L, H, C),
            features=features,
            kappa=np.inf if prior is None else float(prior.kappa),
        )
        if regressors is None:
            solution = solve_linear(sums, problem)
        else:
            assert isinstance(sums, SeriesSums)
            solution = solve_with_regressors(sums, problem, regressors)
        # a channel around zero is measured from zero: nothing to gain, a pass over windows to save
        reference = np.where(np.abs(sums.level) > deviation, sums.level, 0.0)
        bias = solution.bias
        if normalization.level == "none" and (sums.level != reference).any():
            moved = (sums.level - reference)[:, None] * (1.0 - solution.weights.sum(axis=1))
            bias = moved if bias is None else bias + moved
        mixture = Mixture(
            solution.weights[:, None],
            bias=None if bias is None else bias[:, None],
            scale_coef=None if solution.scale_coef is None else solution.scale_coef[:, None],
            normalization=normalization,
            reference=reference,
        )
        calendar = None
        if solution.calendar is not None:
            calendar = CalendarTerms(seasons.frequencies, solution.calendar)
        plan = FixedPlan(
            L,
            H,
            C,
            residual=solution.residual_variance,
            fixed=mixture,
            calendar=calendar,
            transform=seasons.transform,
            regressors=solution.regressors,
        )
        if panel:
            return panel_plan(plan, solution, level, deviation, scaled=scaled)
        return plan
