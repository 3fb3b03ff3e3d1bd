"""AutoLinearForecaster: parameters, documentation, and what a search leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from ..backends import Backend
from ..base import BaseForecaster, Training, read_training, series_ordinal
from ..base.exog import read_training_exog
from ..calendar_terms import wave_frequencies
from ..linear import SingleExpertForecaster
from ..mixture import FixedPlan, PanelPlan
from ..persistence import register_record
from ..solvers import ExactSearch, SeasonalPrior, SeriesSums, single_threaded
from ..solvers.exact_search import default_lookbacks, keeps_calendar
from ..threads import blas_threads
from ..transforms import ChannelTransform
from .folds import check_validation, make_folds
from .groups import (
    AveragedSolution,
    Choice,
    Group,
    SearchSeries,
    averaged,
    features_of,
    scaled,
    solve_group,
)
from .regressors import exog_statistics, learnt_regressors
from .search import Found, Search, by_group, make_plan
from .windows import search_windows

Float64Array = npt.NDArray[np.float64]

register_record(ExactSearch)

_SHORT_SERIES = 0.1  # share of the series that may be too short for the default lookbacks


class AutoLinearForecaster(SingleExpertForecaster):
    """The best linear forecaster for a series, found exactly and in seconds.

    Lookbacks and rates of forgetting are groups. In each of them weights are shrunk towards a
    seasonal prior with a few fitted coefficients, shared by all channels, plus a shared correction,
    plus corrections of every channel; additive calendar terms are solved along; all strengths are
    chosen on held-out rows, in closed form: no window is ever cut out, and a whole path of
    penalties costs little more than one solution. The best of every group are averaged,
    the better the heavier, into one matrix per channel.

    Parameters
    ----------
    lookback : int or sequence of int, optional
        Steps that a forecast reads, or several to try. By default 338, 511 and 720, or as much in
        proportion as makes the longest a sixth of the rows, and two and two and a half cycles
        where that holds no two of the season; without a season 32, 96 and 192. Never more than a
        fifth of the rows.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    prior : None, "seasonal" or SeasonalPrior, default="seasonal"
        What weights are shrunk towards: nothing, or averages over past cycles. Strengths of
        channels' own coefficients are those of the search, not the prior's ``kappa``.
    shared : bool, default=False
        Whether all channels have the same weights, in half the time. Calendar terms stay theirs.
    validation : int, float or splitter, default=0.2
        What the choice is made on: a number of rows, or a share of them, at the end of every
        series; or the test rows of a splitter such as ``TimeSeriesSplit``, whose errors are
        averaged in logarithms.
    refit : bool, default=True
        Whether the choice is solved again on all rows.
    solver : ExactSearch, optional
        What is tried.
    n_jobs : int, optional
        Threads over channels; by default as many as linear algebra would use.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Every forecaster has it; an exact fit uses no randomness.

    Attributes
    ----------
    coef_ : array of shape ``(horizon, lookback_)`` or ``(n_channels, horizon, lookback_)``
        The averaged matrix on the raw window, oldest lag first; its rows sum to one. In units of
        the transform, where a channel has one.
    prior_coef_, shared_coef_ : arrays of the same shapes, without the channels where shared
        What ``coef_`` is made of, but for the last lag, which windows are measured from: the fitted
        prior, and what is added for all channels; the rest is a channel's own.
    cv_results_ : dict of arrays of shape (n_candidates,)
        ``lookback``, ``forgetting`` (NaN for none), ``normalization``, ``kappa``, ``alpha``,
        ``beta`` (infinity for shared weights), ``mean_validation_error`` (mean squared error in
        units of the channels' deviation, after their transform; the geometric mean over folds) and
        ``rank``.
    best_params_ : dict
        The best candidate.
    best_error_ : float
        Its held-out error.
    groups_ : list of dict
        The best candidate of every group.
    weights_of_groups_ : array of shape (n_groups,)
        Their shares in the average.
    periods_ : tuple of int
        Periods that were given or found, in rows.
    lookback_, horizon_, plan_, ...
        As in :class:`LinearForecaster`.

    Notes
    -----
    Of a long frame (unique_id, ds, y) every series is a channel with its own scale; series that
    were not learnt from get the shared weights. It has no calendar terms and no transforms.

    Windows (``y`` given) come in any order, so nothing is held out by a share: penalties are chosen
    by generalized cross-validation, without forgetting, calendar and transform, and with a season
    only if the prior names it. An integer ``validation`` holds the last windows out.

    Regressors (``exog``) are solved jointly with the weights of every group, exactly; penalties and
    shares are chosen on the series as they are, without them.

    Examples
    --------
    >>> from mixlin import AutoLinearForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> load = make_seasonal(24 * 90, n_channels=2, random_state=0, as_frame=True).frame
    >>> model = AutoLinearForecaster(horizon=24).fit(load)
    >>> model.periods_, model.lookback_
    ((24, 168), 345)
    >>> model.predict().shape
    (24, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseForecaster._parameter_constraints,
        "lookback": ["array-like", Integral, None],
        "prior": [StrOptions({"seasonal"}), SeasonalPrior, None],
        "shared": ["boolean"],
        "validation": "no_validation",  # type: ignore[dict-item]
        "refit": ["boolean"],
        "solver": [ExactSearch, None],
        "n_jobs": [Integral, None],
    }

    _not_saved = ("_groups",)
    _reads_panels = True
    _takes_timestamps = True  # where there are any
    _units_matter = True  # to transforms
    _holds_out = True

    def __init__(
        self,
        lookback: int | Sequence[int] | None = None,
        horizon: int | None = None,
        *,
        prior: str | SeasonalPrior | None = "seasonal",
        shared: bool = False,
        validation: Any = 0.2,
        refit: bool = True,
        solver: ExactSearch | None = None,
        n_jobs: int | None = None,
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback  # type: ignore[assignment]
        self.horizon = horizon
        self.prior = prior
        self.shared = shared
        self.validation = validation
        self.refit = refit
        self.solver = solver
        self.n_jobs = n_jobs
        self.backend = backend
        self.random_state = random_state

    # -- parameters ------------------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        check_validation(self.validation)
        self._search_options.check()
        if isinstance(self.prior, SeasonalPrior):
            self.prior.check()
        for given in self._given_lookbacks or [1]:
            whole = isinstance(given, (Integral, np.integer)) and not isinstance(given, bool)
            if not whole or given < 1:
                raise ValueError(
                    "The 'lookback' parameter of AutoLinearForecaster must be None, an integer of "
                    f"at least 1 or a sequence of them. Got {self.lookback!r} instead."
                )
        if self.lookback is not None and not self._given_lookbacks:
            raise ValueError(
                "The 'lookback' parameter of AutoLinearForecaster names no lookback. Pass None for "
                "the defaults, or at least one integer."
            )

    @property
    def _search_options(self) -> ExactSearch:
        return ExactSearch() if self.solver is None else self.solver

    @property
    def _given_lookbacks(self) -> list[Any]:
        if self.lookback is None:
            return []
        if np.ndim(self.lookback) == 0:
            return [self.lookback]
        given: Any = self.lookback
        return list(given)

    @property
    def _prior_options(self) -> SeasonalPrior | None:
        return SeasonalPrior() if isinstance(self.prior, str) else self.prior

    def _lookbacks_read(self, lengths: Sequence[int]) -> tuple[int, int]:
        given = self._given_lookbacks
        if given:
            return int(max(given)), int(min(given))
        return max(max(lengths) - 1, 1), 1

    def with_validation(self, n_rows: int) -> AutoLinearForecaster:
        """Return a clone that chooses on the last rows, and is fitted on those before alone.

        For protocols that say which rows are held out, as that of
        :func:`mixlin.backtesting.evaluate_ltsf` does.

        Parameters
        ----------
        n_rows : int
            Rows of every series, or windows, that are held out at the end.

        Returns
        -------
        AutoLinearForecaster
            Not fitted.

        Raises
        ------
        ValueError
            If ``n_rows`` is not an integer of at least 1.

        Examples
        --------
        >>> from mixlin import AutoLinearForecaster
        >>> AutoLinearForecaster(horizon=24).with_validation(240)
        AutoLinearForecaster(horizon=24, refit=False, validation=240)
        """
        if isinstance(n_rows, bool) or not isinstance(n_rows, Integral) or n_rows < 1:
            raise ValueError(f"n_rows must be an integer of at least 1; got {n_rows!r}.")
        made: AutoLinearForecaster = clone(self)
        return made.set_params(validation=int(n_rows), refit=False)

    # -- fitting ---------------------------------------------------------------------------

    @property
    def partial_fit(self) -> Any:
        """Not there, as its absence is how scikit-learn tells; see :meth:`update`.

        Raises
        ------
        AttributeError
            Always.
        """
        raise AttributeError(
            "a search needs all rows to choose on. Call fit on all data, then update with further "
            "rows, which solves the same choice again."
        )

    def update(self, X: Any, *, timestamps: Any = None, exog: Any = None) -> AutoLinearForecaster:
        """Learn from rows that continue the training series, with the choices made by ``fit``.

        Lookbacks, penalties, shares, transforms, scales of channels and the widths of intervals
        stay; with them, every group is solved again from sums that the new rows are added to,
        exactly. Half-lives stay what they were in rows.

        Parameters
        ----------
        X : array-like of shape (n_rows,) or (n_rows, n_channels), Series or DataFrame
        timestamps : array-like of shape (n_rows,), optional
        exog : array-like of shape (n_rows, n_regressors), optional
            Where the model was fitted with regressors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the model was not fitted on series with ``refit=True``, or the rows do not continue
            them; the estimator is left as it was.
        """
        if "plan_" not in vars(self) or getattr(self, "_groups", None) is None:
            raise ValueError(
                f"this {type(self).__name__} holds no sums to add to: it is not fitted on series "
                "with refit=True, or was loaded from a file. Call fit."
            )
        if self.mode_ == "panel":
            raise ValueError(
                "update is for one series; a model of a long frame is fitted anew. Call fit."
            )
        probe = object.__new__(type(self))
        probe.__dict__.update(vars(self), lookback=self.lookback_)
        training, state = read_training(
            probe, X, None, None, timestamps, update=True, new_series=False
        )
        assert training.series is not None
        training, beside = read_training_exog(probe, training, X, exog, timestamps, update=True)
        assert training.series is not None
        rows = training.series[0]
        if self.plan_.transform is not None:  # type: ignore[attr-defined]
            rows = self.plan_.transform.forward(rows)  # type: ignore[attr-defined]
        kept = self._groups["sums"]
        if not all(isinstance(sums, SeriesSums) for sums, _ in kept):
            raise ValueError(
                "a series whose rows weigh differently can't be continued. Call fit on all rows, "
                "with their sample_weight."
            )
        groups = {**self._groups, "sums": [(sums.copied(), group) for sums, group in kept]}
        for sums, _ in groups["sums"]:
            sums.add(rows, sums.open_weight, continues=True)
        if training.exog is not None:
            groups["regressors"] = copy.deepcopy(groups["regressors"])
            for part in groups["regressors"]:
                part.continued(rows, training.exog[0])
        learnt = self._solved(groups)
        self.__dict__.update(state, **beside, **learnt)
        return self

    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        options, prior = self._search_options, self._prior_options
        n_jobs = self._threads()
        if training.windows is not None:
            asked = self._given_lookbacks or [training.lookback]
            found, channels = search_windows(
                training, asked, options, prior, self.shared, self.validation, self.refit, n_jobs
            )
            plan = make_plan(found.solution, np.empty(0), residual=found.residual)
            plan = replace(plan, n_channels=channels)
            return {"plan_": plan, "_groups": None, **_results(found, self._periods_given(prior))}
        assert training.series is not None
        series, weight, panel = training.series, training.weight, training.panel
        if panel is not None and weight is not None:
            weight = [np.full(len(v), w) for v, w in zip(series, weight, strict=True)]
        horizon, lengths = training.horizon, tuple(len(v) for v in training.series)
        folds = make_folds(lengths, self.validation, horizon)
        # transforms, periods and lookbacks follow from rows that every fold is fitted on
        stops = min((fold.stop for fold in folds), key=max)
        known = [v[:stop] for v, stop in zip(series, stops, strict=True)]
        index = training.indexes[0] if training.indexes else None
        periods = (prior or SeasonalPrior()).periods(known, None if index is None else index.freq)
        transform = None
        if options.transform is not None and panel is None:
            transform = ChannelTransform.fit(known, options.transform, min(periods, default=1))
            transform = transform if transform.changed.any() else None
        if transform is not None:
            series = [transform.forward(values) for values in series]
        data = SearchSeries(
            series,
            weight,
            *self._calendar_of(training, periods, max(stops)),
            periods,
            horizon,
            None if panel is None else panel.channels,
            training.exog,
        )
        lookbacks = self._lookbacks_tried(stops, horizon, periods)
        if max(stops) < min(lookbacks) + horizon:
            raise ValueError(
                f"validation={self.validation!r} leaves {max(stops)} rows to fit on; lookback + "
                f"horizon = {min(lookbacks) + horizon} are needed. Shorten lookback or horizon, or "
                "hold fewer rows out."
            )
        lookbacks = tuple(k for k in lookbacks if k + horizon <= max(stops))
        search = Search(data, folds, lookbacks, options, prior, self.shared, n_jobs, transform)
        found = search.run()
        state = _results(found, periods)
        if not self.refit:
            plan = make_plan(
                found.solution,
                data.frequencies,
                residual=found.residual,
                transform=transform,
                n_channels=data.n_channels,
            )
            state.update(_parts(found.solution), _groups=None)
        else:
            level = data.statistics(lengths)
            scale, active = scaled(level)
            every = [group for group, _ in by_group(found.groups, found.chosen)]
            sums = [(data.sums(g, level.mean, [0] * len(lengths), lengths), g) for g in every]
            groups = {
                "sums": sums,
                "groups": found.groups,
                "chosen": found.chosen,
                "shares": found.shares,
                "residual": found.residual,
                "scale": (scale, active),
                "frequencies": data.frequencies,
                "periods": periods,
                "prior": prior,
                "transform": transform,
                "regressors": None,
            }
            if data.exog is not None:
                counted = exog_statistics(data, lengths)
                groups["regressors"] = [
                    learnt_regressors(data, g, level.mean, counted, lengths) for g in every
                ]
            state.update(self._solved(groups))
            plan = state["plan_"]
        longest = plan.lookback
        if panel is not None:
            context = np.full((longest, len(series)), np.nan)
            for values, c in zip(series, panel.channels, strict=True):
                tail = values[-longest:, 0]
                context[longest - len(tail) :, c] = tail
            rows_of = data.statistics(lengths if self.refit else stops)
            plan = panel_plan_of(plan, state, np.sqrt(rows_of.variance()))
            return {**state, "plan_": plan, "lookback_": longest, "context_": context}
        tails = [np.array(v[-longest:], dtype=np.float64) for v in training.series]
        if training.exog is not None:
            state["_exog_tails"] = [rows[-longest:].copy() for rows in training.exog]
        return {
            **state,
            "plan_": plan,
            "lookback_": longest,
            "_tails": tails,
            "context_": tails if len(tails) > 1 else tails[0],
        }

    def _solved(self, groups: dict[str, Any]) -> dict[str, Any]:
        """Solve the chosen groups on all rows."""
        scale, active = groups["scale"]
        horizon = groups["sums"][0][0].horizon
        every = by_group(groups["groups"], groups["chosen"])
        beside: list[Any] = [None] * len(every)
        if groups["regressors"] is not None:
            beside = [
                part.problem(groups["periods"], group.lookback)
                for part, (group, _) in zip(groups["regressors"], every, strict=True)
            ]
        jobs = (
            delayed(solve_group)(
                group,
                chosen,
                sums,
                scale,
                active,
                features_of(group, groups["prior"], groups["periods"], horizon),
                regressors,
            )
            for (sums, _), (group, chosen), regressors in zip(
                groups["sums"], every, beside, strict=True
            )
        )
        threads = min(self._threads(), len(every))
        with single_threaded():
            solved = Parallel(n_jobs=threads, prefer="threads")(jobs)
        solutions = [solution for part in solved for solution in part]
        solution = averaged(groups["groups"], solutions, groups["shares"])
        plan = make_plan(
            solution,
            groups["frequencies"],
            residual=groups["residual"],
            transform=groups["transform"],
            n_channels=len(scale),
        )
        return {"plan_": plan, "_groups": groups, **_parts(solution)}

    def _calendar_of(
        self, training: Training, periods: tuple[int, ...], n_rows: int
    ) -> tuple[list[float] | None, Float64Array]:
        """Return ordinals of the first rows and frequencies of the calendar terms."""
        kept = tuple(float(p) for p in periods if keeps_calendar(n_rows, p))
        frequencies = wave_frequencies(kept, self._search_options.calendar)
        uneven = training.weight is not None and any(np.ptp(w) > 0 for w in training.weight)
        indexes = training.indexes
        if training.panel is not None or uneven or not len(frequencies):
            return None, np.empty(0)
        if not indexes or any(i is None or i.kind == "integer" for i in indexes):
            return None, np.empty(0)  # numbers of rows often start anew
        assert training.series is not None
        try:
            ends = [series_ordinal(index) for index in indexes]
        except ValueError:  # business days and the like, which have no count
            return None, np.empty(0)
        return [end - len(v) + 1 for end, v in zip(ends, training.series, strict=True)], frequencies

    def _lookbacks_tried(
        self, stops: Sequence[int], horizon: int, periods: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the lookbacks that are given, or those that follow from rows and seasons."""
        given = self._given_lookbacks
        if given:
            return tuple(sorted({int(k) for k in given}))
        rows = int(np.quantile(stops, _SHORT_SERIES, method="lower"))
        rows = rows if rows > horizon else max(stops)
        found = default_lookbacks(rows, horizon, tuple(p for p in periods if 2 * p <= rows))
        asked = self._periods_given(self._prior_options)
        if asked and max(asked) + horizon > max(stops):
            raise ValueError(
                f"period={max(asked)} of the seasonal prior is longer than a window can be: there "
                f"are {max(stops)} rows to fit on, and horizon={horizon}. Pass a shorter period, "
                "or more rows."
            )
        if asked:
            found = tuple(k for k in found if k >= max(asked)) or (max(asked),)
        return found

    def _threads(self) -> int:
        if self.n_jobs is None:
            return blas_threads()
        return max(1, int(effective_n_jobs(self.n_jobs)))

    @staticmethod
    def _periods_given(prior: SeasonalPrior | None) -> tuple[int, ...]:
        given = prior is not None and not isinstance(prior.period, str)
        return prior.periods([]) if prior is not None and given else ()


def _results(found: Found, periods: tuple[int, ...]) -> dict[str, Any]:
    """Return the attributes that tell what was tried."""
    tried = found.tried
    errors = np.array([c.loss for _, c in tried])
    half_lives = [np.nan if g.forgetting is None else float(g.forgetting) for g, _ in tried]
    results = {
        "lookback": np.array([g.lookback for g, _ in tried]),
        "forgetting": np.array(half_lives),
        "normalization": np.array([g.normalization for g, _ in tried]),
        "kappa": np.array([c.kappa for _, c in tried]),
        "alpha": np.array([c.alpha for _, c in tried]),
        "beta": np.array([c.beta for _, c in tried]),
        "mean_validation_error": errors,
        "rank": np.argsort(np.argsort(errors, kind="stable"), kind="stable") + 1,
    }
    best_group, best = tried[int(np.argmin(errors))]
    return {
        "cv_results_": results,
        "best_params_": _named(best_group, best),
        "best_error_": float(best.loss),
        "groups_": [
            {**_named(g, c), "validation_error": c.loss}
            for g, c in zip(found.groups, found.chosen, strict=True)
        ],
        "weights_of_groups_": found.shares,
        "periods_": periods,
        **_parts(found.solution),
    }


def panel_plan_of(plan: FixedPlan, state: dict[str, Any], scale: Float64Array) -> PanelPlan:
    """Return the plan that also forecasts series of a long frame which were not learnt from.

    Parameters
    ----------
    plan : FixedPlan
        Of those that were.
    state : dict
        With ``prior_coef_`` and ``shared_coef_``.
    scale : array of shape (n_series,)
        Standard deviations.
    """
    shared = np.asarray(state["shared_coef_"] + state["prior_coef_"])
    if shared.ndim == 3:  # priors of their own: their mean
        shared = shared.mean(axis=0)
    mixture = replace(plan.mixture(), weights=np.ascontiguousarray(shared.T)[None, None])
    return PanelPlan(
        plan.lookback,
        plan.horizon,
        plan.n_channels,
        residual=plan.residual,
        fixed=plan.fixed,
        shared=mixture,
        scale=scale,
    )


def _named(group: Group, choice: Choice) -> dict[str, Any]:
    return {
        "lookback": group.lookback,
        "forgetting": group.forgetting,
        "normalization": group.normalization,
        "kappa": choice.kappa,
        "alpha": choice.alpha,
        "beta": choice.beta,
    }


def _parts(solution: AveragedSolution) -> dict[str, Any]:
    """Return what the matrix is made of, shaped as ``coef_``."""

    def as_coef(part: Float64Array) -> Float64Array:
        turned = np.ascontiguousarray(part.transpose(0, 2, 1))
        return turned[0] if len(turned) == 1 else turned

    return {
        "prior_coef_": as_coef(solution.prior),
        "shared_coef_": as_coef(solution.common),
    }
