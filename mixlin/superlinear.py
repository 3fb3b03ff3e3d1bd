"""Super-Linear: experts for periods, mixed by a gate, with nothing to train or with weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import Bunch, Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .backends import Backend, resolve
from .base import BaseForecaster, Training
from .base.contexts import Request, read_request
from .experts import BacktestGate, ExpertBank, ExpertGate, default_bank, named_gate
from .experts.bank import period_name
from .gates import is_count
from .intervals import check_quantiles, student_mixture_quantiles
from .mixture import Parts, Plan, PriorPlan, Rollout, RolloutPlan, forward, rollout_forecast
from .mixture.contexts import by_length, rounded_length
from .mixture.prior import PERIOD_EXPERT_NAMES
from .periodograms import PeriodogramRouter
from .persistence import register_record
from .pretrained import Pretrained, as_pretrained, read_superlinear, write_superlinear
from .superlinear_training import TRAININGS, LearningTask, learn

Float64Array = npt.NDArray[np.float64]

LONGEST_CONTEXT = 2048
TOP_K = 32
_WHOLE_CONTEXT = 2**20  # values: as many as any context has
_BLOCK_SERIES = 1024  # of one length that are forecast at a time
_DEGREES = 5.0  # of freedom: folds overlap, so they tell less than their number about the scale
_SPREAD = 0.90  # of the distributions, in units of what folds say; found on simulated series
_MOST_EXPERTS = 24  # of a row whose distributions are mixed

register_record(Pretrained)


class SuperLinearForecaster(BaseForecaster):
    """Forecast with linear experts for periods and levels, without training [1]_.

    Every expert is the best linear forecast under a Gaussian process: a season of some period that
    changes slowly, a level that wanders, reverts or trends, noise. Nothing is learnt and nothing
    downloaded; ``fit`` keeps the series. On every window the experts are back-tested, and those
    that would have forecast well are mixed. Contexts of any length, with gaps, are forecast for any
    horizon.

    Parameters
    ----------
    lookback : int, optional
        Values that a forecast reads at most. Series: 2048 by default, with ``training`` at most
        ``min(336, n_rows // 3)``. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows. ``predict`` takes any
        other.
    bank : ExpertBank or Pretrained, optional
        Experts; :func:`mixlin.experts.default_bank` by default. See :meth:`from_pretrained` for
        the weights of a published model.
    gate : {"auto", "backtest", "evidence", "spectral"} or ExpertGate, default="auto"
        How experts are weighed on a window: "backtest" by their errors inside it, "evidence" by
        how probable they make it, "spectral" by its periodogram. "auto" is "backtest", and for
        published weights the gate that comes with them.
    training : {None, "router", "experts", "two-stage", "full"}, default=None
        What ``fit`` learns. None: nothing. "router": a gate on the spectrum, by the errors that
        experts make on the training data. "experts": their matrices, by ridge regression on the
        data resampled to each expert's period, shrunk towards what the expert is without data.
        "two-stage": the experts, then the gate. "full": from there both, by gradient descent with
        torch.
    top_k : int, None or "auto", default="auto"
        Experts of the bank that get weight in a window; None for all. "auto" is 32, and for
        published weights the number that comes with them.
    auto_period : bool, default=True
        Whether experts join for a period that the bank does not know and a window shows.
    clean : bool, default=False
        Whether outliers, stuck runs and shifts of the level are taken out of windows first. For
        data of sensors that fail; where jumps are genuine, forecasts get worse.
    resampling : bool or "auto", default="auto"
        Whether contexts longer than the lookback are thinned out to the scale at which the gate's
        entropy is lowest, instead of reading their newest values. It needs a gate that reads the
        spectrum, and a ``lookback`` that is None or longer than 2048. "auto" is False, and for
        published weights what comes with them.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Of training by gradient descent.

    Attributes
    ----------
    expert_names_ : list of str
        Of the bank, then of the experts for a period found in the window.
    lookback_, horizon_, n_features_in_, n_channels_in_ : int
    feature_names_in_ : array of str
    mode_ : {"windows", "series"}
    context_ : array of shape (lookback, n_channels)
        The training series' last rows, fewer for a short one; a list for many series.
    cutoff_, freq_ : object
        Last label and frequency of the training index, None for arrays.
    history_ : list of dict
        What was tried in training, with errors; empty without.
    plan_ : mixlin.mixture.PriorPlan, mixlin.mixture.LearnedPlan or mixlin.mixture.RolloutPlan

    References
    ----------
    .. [1] L. Nochumsohn et al., "Super-Linear: a lightweight pretrained mixture of linear experts
       for time series forecasting", TMLR 2026.
    .. [2] C. E. Rasmussen and C. K. I. Williams, "Gaussian processes for machine learning",
       MIT Press, 2006, sections 2.2 and 2.7.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import SuperLinearForecaster
    >>> day = np.array([1.0, 1.0, 4.0, 9.0, 7.0, 2.0])
    >>> model = SuperLinearForecaster(horizon=6).fit(np.tile(day, 30))
    >>> model.predict().round().tolist()
    [1.0, 1.0, 4.0, 9.0, 7.0, 2.0]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseForecaster._parameter_constraints,
        "bank": [ExpertBank, Pretrained, None],
        "gate": [str, ExpertGate],
        "training": [StrOptions(set(TRAININGS)), None],
        "top_k": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "auto_period": ["boolean"],
        "clean": ["boolean"],
        "resampling": ["boolean", StrOptions({"auto"})],
    }

    plan_: Plan
    expert_names_: list[str]

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        bank: ExpertBank | Pretrained | None = None,
        gate: str | ExpertGate = "auto",
        training: str | None = None,
        top_k: int | str | None = "auto",
        auto_period: bool = True,
        clean: bool = False,
        resampling: bool | str = "auto",
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.bank = bank
        self.gate = gate
        self.training = training
        self.top_k = top_k
        self.auto_period = auto_period
        self.clean = clean
        self.resampling = resampling
        self.backend = backend
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # experts of a bank know no law but their own
        tags.regressor_tags.poor_score = self.training in (None, "router", "experts")
        return tags

    # -- fitting ---------------------------------------------------------------------------

    @property
    def partial_fit(self) -> Any:
        """Not there, as its absence is how scikit-learn tells.

        Raises
        ------
        AttributeError
            Always.
        """
        raise AttributeError(
            "there is nothing to update: forecasts read the context alone. Pass the longer context "
            "to predict."
        )

    @property
    def _longest_context(self) -> int | None:  # type: ignore[override]
        """Steps of a series that are read at most; None where a lookback is learnt for."""
        if self.training is not None:
            return None
        block = self.bank.block.lookback if isinstance(self.bank, Pretrained) else LONGEST_CONTEXT
        rollout = self._rollout()
        return block if rollout is None else _read_at_most(block, rollout)

    def _rollout(self) -> Rollout | None:
        """Return how contexts are rolled out, None where there is no need to."""
        if isinstance(self.bank, Pretrained):
            rollout = self.bank.rollout
            if self.resampling == "auto":
                return rollout
            return replace(rollout, resampling=bool(self.resampling))
        return Rollout() if self.resampling is True else None

    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        n_channels = (training.series or training.windows)[0].shape[1]  # type: ignore[index]
        if self.training is None:
            return self._fitted(self._plan(training.lookback, training.horizon, n_channels))
        if isinstance(self.bank, Pretrained) or self.resampling is True:
            raise ValueError(
                f"training={self.training!r} starts from prior experts that read the newest "
                "values; leave bank and resampling at what they are by default, or use "
                "training=None."
            )
        task = LearningTask(
            bank=self.bank or default_bank(),
            gate=None if self.gate == "auto" else clone(named_gate(self.gate)),
            top_k=TOP_K if isinstance(self.top_k, str) else self.top_k,
            auto_period=self.auto_period,
            clean=self.clean,
            random_state=check_random_state(self.random_state),
        )
        learned = learn(self.training, training, task)
        return self._fitted(learned.plan, learned.history)

    def _fitted(self, plan: Plan, history: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        if isinstance(plan, PriorPlan):
            names = [*plan.bank.names, *PERIOD_EXPERT_NAMES]
        elif isinstance(self.bank, Pretrained):
            names = list(self.bank.expert_names)
        else:
            names = (self.bank or default_bank()).names
        return {"plan_": plan, "expert_names_": names, "history_": history or []}

    def _plan(self, lookback: int, horizon: int, n_channels: int | None) -> Plan:
        rollout = self._rollout()
        if isinstance(self.bank, Pretrained):
            self._check_published()
            block = self.bank.block
            if not isinstance(self.top_k, str) and block.gate is not None:
                block = replace(block, gate=replace(block.gate, top_k=self.top_k))
            assert rollout is not None
            return RolloutPlan(lookback, horizon, n_channels, rollout=rollout, fixed=block)
        # a copy: what is set later must not change what was fitted
        gate = BacktestGate() if self.gate == "auto" else clone(named_gate(self.gate))
        plan = PriorPlan(
            lookback,
            horizon,
            n_channels,
            bank=self.bank or default_bank(),
            gate=gate,
            top_k=TOP_K if isinstance(self.top_k, str) else self.top_k,
            auto_period=self.auto_period,
            clean=self.clean,
        )
        if rollout is None:
            return plan
        read = min(lookback, LONGEST_CONTEXT)
        block = plan.mixture(read, horizon)
        assert block.gate is not None
        router = block.gate.router
        if block.gate.evidence or not isinstance(router, PeriodogramRouter):
            raise ValueError(
                f"resampling=True compares how sure a gate is of the spectrum; {gate!r} reads the "
                "window in another way. Use gate='spectral', or resampling=False."
            )
        rollout = replace(rollout, padded_length=router.padded_length)
        return RolloutPlan(lookback, horizon, n_channels, rollout=rollout, fixed=block)

    def _check_published(self) -> None:
        """Refuse what published weights have no place for."""
        if self.gate != "auto":
            raise ValueError(
                f"the gate of published weights comes with them; got gate={self.gate!r}. Leave it "
                "at 'auto', or use a bank of prior experts."
            )
        if self.clean:
            raise ValueError(
                "clean=True looks at windows with prior experts, and the bank holds published "
                "weights. Use a bank of prior experts, or clean=False."
            )
        E = self.bank.block.n_experts  # type: ignore[union-attr]
        if isinstance(self.top_k, Integral) and self.top_k > E:
            raise ValueError(f"top_k={self.top_k} is more than the {E} experts there are.")

    # -- forecasting -----------------------------------------------------------------------

    def forecast_arrays(
        self,
        series: Sequence[Float64Array],
        horizon: int,
        quantiles: npt.ArrayLike | None = None,
        *,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
    ) -> Any:
        """Forecast many series of one channel and of any lengths, fitted or not.

        Parameters
        ----------
        series : sequence of array of shape (length,)
            Oldest value first, NaN where a value is missing; at least one value each.
        horizon : int
        quantiles : array-like of shape (n_quantiles,), optional
        progress : callable, optional
            Gets the blocks of series and their number, and gives them back one by one.

        Returns
        -------
        forecast : array of shape (n_series, horizon)
        quantiles : array of shape (n_series, horizon, n_quantiles)
            If asked for.

        Raises
        ------
        ValueError
            If a series has no value, or the horizon is not a positive integer.

        Examples
        --------
        >>> import numpy as np
        >>> from mixlin import SuperLinearForecaster
        >>> model = SuperLinearForecaster()
        >>> model.forecast_arrays([np.ones(30), np.tile([0.0, 5.0], 20)], 2).round().tolist()
        [[1.0, 1.0], [0.0, 5.0]]
        """
        if not is_count(horizon):
            raise ValueError(f"horizon must be an integer of at least 1; got {horizon!r}.")
        plan = vars(self).get("plan_")
        if plan is None:
            self._validate_params()
            if self.training is not None:
                raise ValueError(
                    f"training={self.training!r} learns from a series; call fit first, or use "
                    "training=None."
                )
            plan = self._plan(self.lookback or self._longest_context or 1, int(horizon), None)
        backend = resolve(self.backend)
        levels = None if quantiles is None else check_quantiles(quantiles)
        kept = [np.asarray(x, dtype=np.float64)[-plan.lookback :] for x in series]
        first = [int(np.argmax(~np.isnan(x))) if len(x) else 0 for x in kept]
        for i, (x, at) in enumerate(zip(kept, first, strict=True)):
            if not len(x) or np.isnan(x[at]):
                raise ValueError(
                    f"series {i} has no value in its last {plan.lookback} rows; a forecast needs "
                    "at least one. Leave the series out."
                )
            seen = x[at:]
            if np.isinf(seen).any() or (not plan.reads_gaps and np.isnan(seen).any()):
                what = "an infinite" if np.isinf(seen).any() else "a missing"
                raise ValueError(
                    f"series {i} has {what} value in its last {plan.lookback} rows, which this "
                    "model can't read. Fill it, for example with mixlin.windows.interpolate."
                )
        lengths = np.array([len(x) - at for x, at in zip(kept, first, strict=True)], dtype=int)
        if isinstance(plan, PriorPlan):
            lengths = np.array([rounded_length(n, plan.lookback) for n in lengths], dtype=int)
            order = _by_period(plan, kept, lengths)
        else:
            order = np.argsort(lengths, kind="stable")
        blocks = []
        for n in np.unique(lengths):
            of_length = order[lengths[order] == n]
            blocks += [
                of_length[i : i + _BLOCK_SERIES] for i in range(0, len(of_length), _BLOCK_SERIES)
            ]
        forecast = np.empty((len(kept), horizon))
        spread = None if levels is None else np.empty((len(kept), horizon, len(levels)))
        for block in blocks if progress is None else progress(blocks, len(blocks)):
            windows = np.stack([kept[i][len(kept[i]) - lengths[i] :] for i in block])[:, None]
            if levels is None:
                forecast[block] = plan.forecast(windows, horizon, backend)[:, 0]
                continue
            points, found = self._distribution(plan, windows, horizon, levels)
            forecast[block], spread[block] = points[:, 0], found[:, 0]  # type: ignore[index]
        return forecast if levels is None else (forecast, spread)

    def _quantiles(
        self, request: Request, horizon: int | None, levels: list[float]
    ) -> npt.NDArray[Any]:
        steps = self._checked_horizon(horizon)
        return self._distribution(self.plan_, request.windows, steps, levels)[1]

    def _distribution(
        self, plan: Plan, windows: npt.NDArray[Any], horizon: int, levels: list[float]
    ) -> tuple[Float64Array, Float64Array]:
        """Forecast windows (n, C, L): points (n, C, H) and quantiles (n, C, H, Q)."""
        if not isinstance(plan, PriorPlan):
            raise ValueError(
                "these experts forecast points only: they bring no spread. Use prior experts "
                "(bank=None, resampling=False), or predict."
            )
        n_rows = windows.shape[0] * windows.shape[1]
        points = np.empty((n_rows, horizon))
        out = np.empty((n_rows, horizon, len(levels)))
        for found in plan.predictive(windows, horizon, resolve(self.backend)):
            points[found.rows] = np.einsum("re,reh->rh", found.weights, found.means)
            k = min(_MOST_EXPERTS, found.weights.shape[1])
            best = np.argpartition(-found.weights, k - 1, axis=1)[:, :k]
            means = np.take_along_axis(found.means, best[:, :, None], axis=1)
            spreads = _SPREAD * np.take_along_axis(found.spreads, best[:, :, None], axis=1)
            weights = np.take_along_axis(found.weights, best, axis=1)
            out[found.rows] = student_mixture_quantiles(means, spreads, weights, _DEGREES, levels)
        shape = windows.shape[:2]
        return points.reshape(*shape, horizon), out.reshape(*shape, horizon, len(levels))

    # -- looking inside --------------------------------------------------------------------

    def gate_weights(self, X: Any = None, *, timestamps: Any = None) -> Float64Array:
        """Return how the experts are weighed.

        Parameters
        ----------
        X, timestamps
            As in :meth:`predict`.

        Returns
        -------
        array of shape (n_windows, n_channels, n_experts)
            In the order of ``expert_names_``. A context is one window. Weights are not negative
            and sum to one.
        """
        plan = vars(self).get("plan_")
        if isinstance(plan, RolloutPlan):
            return self._rolled_gates(X, timestamps)
        request = read_request(self, X, timestamps)
        assert isinstance(self.plan_, PriorPlan)
        return self.plan_.weights(request.windows, resolve(self.backend))

    def expert_forecasts(self, X: Any = None, *, timestamps: Any = None) -> Float64Array:
        """Return the forecast of every expert by itself.

        Parameters
        ----------
        X, timestamps
            As in :meth:`predict`.

        Returns
        -------
        array of shape (n_windows, horizon, n_channels, n_experts)
            In data units; weighed by :meth:`gate_weights` they sum to the forecast. The last value
            for the experts of a period where none was found.
        """
        return np.ascontiguousarray(np.moveaxis(self._inside(X, timestamps), 3, 1))

    def _rolled_gates(self, X: Any, timestamps: Any) -> Float64Array:
        """Return the gates of the first block, (n, C, E)."""
        request = read_request(self, X, timestamps)
        plan = self.plan_
        assert isinstance(plan, RolloutPlan)
        assert isinstance(plan.rollout, Rollout)
        rows = request.windows.reshape(-1, request.windows.shape[2])
        out = np.empty((len(rows), len(self.expert_names_)))
        for n, some in by_length(rows):
            context = rows[some, None, rows.shape[1] - n :]
            found = rollout_forecast(
                plan.mixture(), plan.rollout, context, 1, resolve(self.backend)
            )
            assert found.gates is not None
            out[some] = found.gates[:, 0]
        return out.reshape(*request.windows.shape[:2], -1)

    def expert_weights(self, X: Any = None, *, by: str = "period", timestamps: Any = None) -> Bunch:
        """Return how the experts are weighed, with their names.

        Parameters
        ----------
        X, timestamps
            As in :meth:`predict`.
        by : {"period", "expert"}, default="period"
            Whether experts of the same period or periods are added up.

        Returns
        -------
        Bunch
            ``weights`` of shape (n_windows, n_channels, n_names), which sum to one, and ``names``,
            such as "period 24", "periods 24 and 168", "found period", "no period".

        Raises
        ------
        ValueError
            For another ``by``, and for the reasons of :meth:`predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from mixlin import SuperLinearForecaster
        >>> week = np.array([5.0, 5.0, 6.0, 5.0, 7.0, 2.0, 1.0])
        >>> model = SuperLinearForecaster(horizon=7).fit(np.tile(week, 60))
        >>> found = model.expert_weights()
        >>> found.names[int(found.weights[0, 0].argmax())]
        'period 7'
        """
        if by not in ("period", "expert"):
            raise ValueError(f"by must be 'period' or 'expert'; got {by!r}.")
        weights = self.gate_weights(X, timestamps=timestamps)
        if by == "expert":
            return Bunch(weights=weights, names=list(self.expert_names_))
        groups = [_period_of(name) for name in self.expert_names_]
        if isinstance(self.plan_, PriorPlan):  # whose experts may have any name
            groups[: len(self.plan_.bank)] = [period_name(*e.periods) for e in self.plan_.bank]
        names = list(dict.fromkeys(groups))
        summed = np.stack(
            [weights[:, :, [g == name for g in groups]].sum(axis=2) for name in names], axis=2
        )
        return Bunch(weights=summed, names=names)

    def _inside(self, X: Any, timestamps: Any) -> Float64Array:
        """Return the forecasts (n, C, E, H) of the experts."""
        request = read_request(self, X, timestamps)
        n, n_channels, length = request.windows.shape
        plan, backend, E = self.plan_, resolve(self.backend), len(self.expert_names_)
        means = np.empty((n * n_channels, E, self.horizon_))
        if isinstance(plan, PriorPlan):
            for found in plan.predictive(request.windows, self.horizon_, backend):
                means[found.rows] = found.means
        else:
            assert isinstance(plan, RolloutPlan)
            block = plan.mixture()
            if length != block.lookback or self.horizon_ > block.horizon:
                raise ValueError(
                    f"experts by themselves forecast {block.horizon} steps from {block.lookback} "
                    f"values; these contexts have {length} rows and the horizon is "
                    f"{self.horizon_}. Pass windows of {block.lookback} values."
                )
            rows = request.windows.reshape(n * n_channels, 1, length)
            parts = forward(block, backend, rows, parts=True)
            assert isinstance(parts, Parts)
            means[:] = parts.experts[:, 0, : self.horizon_].transpose(0, 2, 1)
        return means.reshape(n, n_channels, E, -1)

    # -- published weights -----------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        compat: str = "clean",
        config: Mapping[str, Any] | None = None,
        revision: str | None = None,
        backend: str | Backend | None = None,
    ) -> SuperLinearForecaster:
        """Make a fitted forecaster from the published weights, or others of their kind.

        Parameters
        ----------
        source : str, path-like or mapping
            A folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, one
            of these files, the name of a model at the hub (``"SequentialLearning/SuperLinear"``,
            which needs the extra ``hub``), or a state dict of numpy arrays or torch tensors.
        compat : {"clean", "official"}, default="clean"
            "official" reproduces the published code, "clean" mends its mistakes; see
            :class:`mixlin.mixture.Rollout`.
        config : mapping, optional
            What ``config.json`` would hold.
        revision : str, optional
            Branch, tag or commit at the hub.
        backend : str or Backend, optional

        Returns
        -------
        SuperLinearForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts of any length for any
            horizon, points only. ``fit`` keeps the weights: they are the parameter ``bank``.

        Raises
        ------
        ValueError
            If a file is damaged, or the tensors are not those of the configuration.
        OSError
            If there is no such file or model.
        ImportError
            If huggingface_hub is missing, or torch where weights are a ``.bin`` file.
        """
        bank = read_superlinear(source, config, compat=compat, revision=revision)
        block = bank.block
        made = cls(horizon=block.horizon, bank=bank, backend=backend)
        plan = made._plan(made._longest_context or block.lookback, block.horizon, None)
        state = {
            **made._fitted(plan),
            "lookback_": plan.lookback,
            "horizon_": block.horizon,
            "mode_": "series",
        }
        made.__dict__.update(state, _state=tuple(state))
        return made

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write experts and gate in the published form, which :meth:`from_pretrained` reads.

        Parameters
        ----------
        folder : str or path-like
            Gets ``config.json`` and ``model.safetensors``.

        Raises
        ------
        ValueError
            If the published form has no place for what the model does: it holds experts of one
            lookback and horizon under a gate on the spectrum.
        """
        check_is_fitted(self, "plan_")
        if isinstance(self.bank, Pretrained):
            write_superlinear(folder, self.bank)
            return
        if not isinstance(self.plan_, RolloutPlan):
            raise ValueError(
                f"the published form holds experts of one lookback and horizon under a gate on the "
                f"spectrum; this model has {self.plan_!r}. Use save, which keeps any model."
            )
        rollout = self.plan_.rollout
        assert isinstance(rollout, Rollout)
        block = as_pretrained(self.plan_.mixture(), rollout, self.expert_names_)
        write_superlinear(folder, block)


def _by_period(
    plan: PriorPlan, series: Sequence[Float64Array], lengths: npt.NDArray[np.int_]
) -> npt.NDArray[np.intp]:
    """Order series so that those of one length stand together, and among them those of a period."""
    periods = np.zeros(len(series))
    for n in np.unique(lengths):
        of_length = np.flatnonzero(lengths == n)
        for at in range(0, len(of_length), _BLOCK_SERIES):
            some = of_length[at : at + _BLOCK_SERIES]
            periods[some] = plan.found_periods(np.stack([series[i][-n:] for i in some]))
    return np.lexsort((periods, lengths))


def _read_at_most(lookback: int, rollout: Rollout) -> int:
    """Return how many values a rollout reads from contexts."""
    most = rollout.most_read(lookback)
    return _WHOLE_CONTEXT if most is None else most


def _period_of(name: str) -> str:
    """Return the part of an expert's name that tells its periods."""
    head = name.partition(",")[0]
    return head if head.startswith(("period", "found period")) else period_name()
