"""Mixtures of linear experts: one exact solution, corrected by experts that a gate mixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .backends import Backend, resolve
from .base import BaseForecaster, Training, window_weights
from .base.contexts import read_request
from .linear import ExactLinearForecaster
from .linear_family import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from .mixture import FixedPlan, Parts, forward
from .persistence import register_record
from .routing import CalendarRouter, Router, named_router
from .solvers import (
    AlternatingSolver,
    FixedGatesSolver,
    GradientSolver,
    MixtureSolver,
    MixtureTask,
    NothingToChooseOnError,
    WindowSource,
    single_expert,
)
from .solvers.balancing import BALANCINGS
from .solvers.mixture_task import measured_from
from .state_dicts import read_mole

Float64Array = npt.NDArray[np.float64]

BASES: dict[str, type[ExactLinearForecaster]] = {
    "linear": LinearForecaster,
    "nlinear": NLinearForecaster,
    "dlinear": DLinearForecaster,
    "rlinear": RLinearForecaster,
    "rmlp": RLinearForecaster,  # which its residual layer leaves as it is, to begin with
}
SOLVERS: dict[str, type[MixtureSolver]] = {
    "alternating": AlternatingSolver,
    "fixed-gates": FixedGatesSolver,
    "gradient": GradientSolver,
}
_RESIDUAL_WIDTH = 512  # of RMLP, as in the reference
_PARTS_ELEMENTS = 2**22  # forecasts of all experts that are computed at a time

for _kept in (*SOLVERS.values(), *BALANCINGS.values()):
    register_record(_kept)


def named_solver(solver: str | MixtureSolver) -> MixtureSolver:
    """Return the solver of an estimator's parameter.

    Parameters
    ----------
    solver : {"alternating", "fixed-gates", "gradient"} or MixtureSolver

    Returns
    -------
    MixtureSolver

    Raises
    ------
    ValueError
        For another name or type, or a parameter out of range.
    """
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]()
    if not isinstance(solver, MixtureSolver):
        raise ValueError(
            f"solver must be one of {', '.join(map(repr, SOLVERS))}, or a solver such as "
            f"GradientSolver(max_epochs=20); got {solver!r}."
        )
    solver.check()
    return solver


_OBJECTS: dict[str, Callable[[Any], Any]] = {"router": named_router, "solver": named_solver}


class MoLEForecaster(BaseForecaster):
    """A mixture of linear experts: a gate weighs linear forecasts of one window [1]_.

    The experts are corrections of one exact solution, shrunk towards it, so that a mixture is
    never far from the best single linear model, and falls back to it where held-out windows do
    not ask for more. The gate reads the shape of the window, its spectrum, or the calendar.

    Parameters
    ----------
    lookback : int, optional
        Steps that a forecast reads. Series: ``min(336, n_rows // 3)`` by default, of the shortest
        one for many series. Windows: all columns by default; a smaller one reads the last
        columns.
    horizon : int, optional
        Steps to forecast. Needed for series; taken from ``y`` for windows.
    base : {"dlinear", "linear", "nlinear", "rlinear", "rmlp"}, default="dlinear"
        What an expert is: the model of that name. "rmlp" has a residual layer before the experts,
        which ``solver="gradient"`` alone can fit.
    n_experts : int, default=4
        Experts at most; with 1 this is the single expert. See ``n_experts_``.
    router : {"statistics", "calendar", "spectral", "constant"} or Router, default="statistics"
        What the gate looks at. "calendar" needs timestamps, in ``fit`` and in ``predict``.
    top_k : int, optional
        Experts that get weight in a window; all by default.
    solver : {"alternating", "fixed-gates", "gradient"} or MixtureSolver, default="alternating"
        "alternating" needs no torch. "fixed-gates" has gates that are smooth in the time of day
        or week, one linear solve. "gradient" trains with torch.
    alpha : float, default=1e-6
        Relative ridge penalty of the exact solution, see :class:`LinearForecaster`.
    individual : {False, True, "partial"}, default=False
        Whether the exact solution that experts correct is shared by all channels. Corrections
        are.
    scale : {"auto", "std", None}, default="auto"
        "std" divides every channel by its standard deviation inside the solve, so that pooled
        channels count equally; forecasts stay in data units. "auto" is "std" for series and None
        for windows.
    backend : str or Backend, optional
        Engine of ``predict``; by default that of the configuration, else "numpy".
    random_state : int, RandomState instance or None
        Of the gate's beginnings and of training by gradient descent.

    Attributes
    ----------
    n_experts_ : int
        Experts of the fitted mixture. Solvers that choose on held-out windows may find that fewer
        forecast better; 1 is the exact single expert. ``history_`` shows what was tried. A mixture
        needs enough to be chosen on: at least three spans of ``lookback + horizon`` held-out
        windows, by default 15 of them in all.
    expert_usage_ : array of shape ``(n_experts_,)``
        Mean gate over the training windows.
    expert_names_ : list of str
    history_ : list of dict
        Candidates or epochs with their errors on held-out windows, mean squares in units of the
        channels.
    lookback_, horizon_, n_features_in_, n_channels_in_ : int
    feature_names_in_ : array of str
    mode_ : {"windows", "series"}
    context_ : array of shape (lookback, n_channels)
        The training series' last rows; a list for many series.
    cutoff_, freq_ : object
        Last label and frequency of the training index, None for arrays.
    plan_ : mixlin.mixture.FixedPlan

    References
    ----------
    .. [1] R. Ni et al., "Mixture-of-linear-experts for long-term time series forecasting",
       AISTATS 2024.

    Examples
    --------
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> load = make_seasonal(24 * 200, n_channels=2, random_state=0).data
    >>> model = MoLEForecaster(lookback=48, horizon=24, random_state=0).fit(load)
    >>> model.predict().shape, model.gate_weights().shape[:2]
    ((24, 2), (1, 2))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseForecaster._parameter_constraints,
        "base": [StrOptions(set(BASES))],
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "router": [str, Router],
        "top_k": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [str, MixtureSolver],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "individual": ["boolean", StrOptions({"partial"})],
        "scale": [StrOptions({"auto", "std"}), None],
    }

    n_experts_: int
    expert_usage_: Float64Array

    def __init__(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        *,
        base: str = "dlinear",
        n_experts: int = 4,
        router: str | Router = "statistics",
        top_k: int | None = None,
        solver: str | MixtureSolver = "alternating",
        alpha: float = 1e-6,
        individual: bool | str = False,
        scale: str | None = "auto",
        backend: str | Backend | None = None,
        random_state: Any = None,
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.base = base
        self.n_experts = n_experts
        self.router = router
        self.top_k = top_k
        self.solver = solver
        self.alpha = alpha
        self.individual = individual
        self.scale = scale
        self.backend = backend
        self.random_state = random_state

    def set_params(self, **params: Any) -> MoLEForecaster:
        """Set parameters, those of the router and of the solver as ``router__hidden``.

        Parameters
        ----------
        **params
            Names and values.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that is none, or a parameter of a router or solver that is given by name.
        """
        for name in params:
            part, nested, _ = name.partition("__")
            given = params.get(part, getattr(self, part, None))
            if nested and part in ("router", "solver") and isinstance(given, str):
                raise ValueError(
                    f"{name} needs an object, and {part} is {given!r}. Pass one first, such as "
                    f"{part}={type(_OBJECTS[part](given)).__name__}()."
                )
        super().set_params(**params)
        return self

    # -- fitting ---------------------------------------------------------------------------

    @property
    def _wants_timestamps(self) -> bool:
        router = named_solver(self.solver).router_for(named_router(self.router), self.n_experts)
        return router.needs_timestamps and self._is_solved

    @property
    def _is_solved(self) -> bool:
        """Whether there is more to find than the exact single expert."""
        return self.n_experts > 1 or self.base == "rmlp"

    @property
    def _holds_out(self) -> bool:
        """Whether ``fit`` holds rows out to choose on."""
        return self._is_solved and named_solver(self.solver).holds_out

    def with_validation(self, n_rows: int) -> MoLEForecaster:
        """Return a clone whose solver chooses on the last rows, and fits on those before alone.

        For protocols that say which rows are held out, as that of
        :func:`mixlin.backtesting.evaluate_ltsf` does. A solver given by name becomes its object
        with ``validation=n_rows``, and ``refit=False`` where it has that parameter.

        Parameters
        ----------
        n_rows : int
            Rows of every series, or windows, that are held out at the end.

        Returns
        -------
        MoLEForecaster
            Not fitted.

        Raises
        ------
        ValueError
            If the solver holds nothing out, or ``n_rows`` is not an integer of at least 1.

        Examples
        --------
        >>> from mixlin import MoLEForecaster
        >>> model = MoLEForecaster(solver="fixed-gates").with_validation(240)
        >>> model.solver
        FixedGatesSolver(refit=False, validation=240)
        """
        if isinstance(n_rows, bool) or not isinstance(n_rows, Integral) or n_rows < 1:
            raise ValueError(f"n_rows must be an integer of at least 1; got {n_rows!r}.")
        solver = clone(named_solver(self.solver))
        known = solver.get_params(deep=False)
        if "validation" not in known:
            raise ValueError(
                f"{type(solver).__name__} has no parameter validation, so that no rows can be held "
                "out for it. Use one of mixlin.solvers, or fit on the rows meant for fitting."
            )
        fixed = {"refit": False} if "refit" in known else {}
        made: MoLEForecaster = clone(self)
        return made.set_params(solver=solver.set_params(validation=int(n_rows), **fixed))

    @property
    def partial_fit(self) -> Any:
        """Not there, as its absence is how scikit-learn tells.

        Raises
        ------
        AttributeError
            Always.
        """
        raise AttributeError(
            "a mixture can't be updated: its gate depends on all windows. Call fit on all data, "
            "or with solver=GradientSolver(warm_start=True), which goes on from the fitted model."
        )

    def _learn(self, training: Training, *, update: bool) -> dict[str, Any]:
        if self.top_k is not None and self.top_k > self.n_experts:
            raise ValueError(
                f"top_k={self.top_k} is more than n_experts={self.n_experts}. Choose a top_k of at "
                "most n_experts, or None for all."
            )
        solver = named_solver(self.solver)
        if self.base == "rmlp" and not isinstance(solver, GradientSolver):
            raise ValueError(
                f"base='rmlp' has a layer that {type(solver).__name__} can't fit. Use "
                "solver='gradient', or base='rlinear', which is the same without the layer."
            )
        router = solver.router_for(named_router(self.router), self.n_experts)
        router.check()  # that of the solver, which may depend on the number of experts
        stamps = training.stamps() if self._wants_timestamps else None
        if self._is_solved:
            router = clone(router, safe=False).prepared(None if stamps is None else stamps[0])

        whole = self._single(training, 0)

        @lru_cache(maxsize=2)
        def start(held_out: float | int) -> tuple[FixedPlan, Float64Array]:
            try:
                found = self._single(training, held_out) if held_out else whole
            except ValueError as error:  # all data were fine; what is left of them is not
                raise NothingToChooseOnError(str(error)) from error
            return found["plan_"], found["_statistics"].mean

        deviation = np.sqrt(whole["_statistics"].variance())
        active = deviation > 0
        if not self._scales(training):
            deviation = np.full_like(deviation, np.sqrt((deviation**2).mean()))
        task = MixtureTask(
            windows=replace(
                self._source(training, stamps, whole["_statistics"].mean),
                active=active if active.any() and not active.all() else None,
            ),
            start=lambda held_out: start(held_out)[0],
            level=lambda held_out: start(held_out)[1],
            router=router,
            n_experts=self.n_experts,
            top_k=self.top_k,
            scale=np.where(deviation > 0, deviation, 1.0),
            fit_intercept=BASES[self.base] is not RLinearForecaster,
            hidden=_RESIDUAL_WIDTH if self.base == "rmlp" else None,
            random_state=check_random_state(self.random_state),
            previous=self.plan_.mixture() if "plan_" in vars(self) else None,
        )
        solution = solver.solve(task) if self._is_solved else single_expert(task, [])
        mixture, residual = solution.mixture, solution.residual
        if mixture.gate is not None and not mixture.pre:
            # as the single expert: a level that is near zero would cost a pass over the windows
            mixture = measured_from(mixture, whole["plan_"].mixture().reference)
        if training.windows is not None and callable(residual):
            residual = residual()  # what it would be computed from later is large
        plan = FixedPlan(
            training.lookback,
            training.horizon,
            whole["plan_"].n_channels,
            residual=residual,
            fixed=mixture,
        )
        return {
            "plan_": plan,
            "n_experts_": mixture.n_experts,
            "expert_usage_": solution.usage,
            "expert_names_": [f"expert {k}" for k in range(mixture.n_experts)],
            "history_": solution.history,
        }

    def _scales(self, training: Training) -> bool:
        return self.scale == "std" or (self.scale == "auto" and training.series is not None)

    def _single(self, training: Training, held_out: float | int) -> dict[str, Any]:
        """Fit the exact single expert on all data but the last rows."""
        learner = BASES[self.base](
            alpha=self.alpha,
            individual=self.individual,
            scale=self.scale,
        )
        return learner._learn(training.without_end(held_out), update=False)

    def _source(self, training: Training, stamps: Any, level: Float64Array) -> WindowSource:
        L, H, weight = training.lookback, training.horizon, training.weight
        if training.windows is not None:
            x, y = training.windows
            return WindowSource.of_windows(x, y, stamps=stamps, weight=weight)
        assert training.series is not None
        if weight is not None:
            weight = [window_weights(w, L, H) if len(w) >= L + H else np.empty(0) for w in weight]
        return WindowSource.of_series(
            L, H, training.series, stamps=stamps, weight=weight, fill=level
        )

    # -- looking inside --------------------------------------------------------------------

    def gate_weights(self, X: Any = None, *, timestamps: Any = None) -> Float64Array:
        """Return how the experts are weighed.

        Parameters
        ----------
        X, timestamps
            As in :meth:`predict`.

        Returns
        -------
        array of shape ``(n_windows, n_channels, n_experts_)``
            Or ``(n_windows, horizon, n_channels, n_experts_)`` with a gate per step. A context is
            one window. Weights are not negative and sum to one.
        """
        gates = [p.gates for p in self._parts(X, timestamps)]
        whole = np.concatenate(gates)
        return whole if whole.ndim == 3 else np.ascontiguousarray(np.moveaxis(whole, 1, 2))

    def expert_forecasts(self, X: Any = None, *, timestamps: Any = None) -> Float64Array:
        """Return the forecast of every expert by itself.

        Parameters
        ----------
        X, timestamps
            As in :meth:`predict`.

        Returns
        -------
        array of shape ``(n_windows, horizon, n_channels, n_experts_)``
            In data units; weighed by :meth:`gate_weights` they sum to the forecast.
        """
        found = np.concatenate([p.experts for p in self._parts(X, timestamps)])
        return np.ascontiguousarray(np.moveaxis(found, 1, 2))

    def _parts(self, X: Any, timestamps: Any) -> list[Parts]:
        request = read_request(self, X, timestamps)
        mixture, backend = self.plan_.mixture(), resolve(self.backend)
        n, n_channels, _ = request.windows.shape
        size = max(1, _PARTS_ELEMENTS // (n_channels * mixture.horizon * mixture.n_experts))
        out = []
        for at in range(0, n, size):
            some = slice(at, at + size)
            stamps = None if request.stamps is None else request.stamps[some]
            parts = forward(mixture, backend, request.windows[some], timestamps=stamps, parts=True)
            assert isinstance(parts, Parts)
            gates = parts.gates
            whole = (len(gates), n_channels, *gates.shape[2:])
            out.append(parts._replace(gates=np.broadcast_to(gates, whole)))
        return out

    # -- reference weights -----------------------------------------------------------------

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, Any],
        *,
        router: Router | None = None,
        kernel_size: int = 25,
        n_experts: int | None = None,
        n_channels: int | None = None,
        horizon: int | None = None,
        backend: str | Backend | None = None,
    ) -> MoLEForecaster:
        """Make a fitted forecaster from reference weights.

        Parameters
        ----------
        state_dict : mapping
            Of MoLE_DLinear, MoLE_RLinear or MoLE_RMLP, told apart by their keys; numpy arrays or
            torch tensors.
        router : Router, optional
            What the gate was trained on: the reference's encoding of the time of the window's
            first step by default, hourly. Pass ``CalendarRouter(stamp="first",
            encoding="reference", freq="min")`` for another frequency.
        kernel_size : int, default=25
            Of the moving average of MoLE_DLinear.
        n_experts, n_channels, horizon : int, optional
            The layers of MoLE_DLinear, and of the others without an affine normalization, give
            ``n_experts * horizon`` and ``n_experts * n_channels`` only; one of the three settles
            the rest.
        backend : str or Backend, optional

        Returns
        -------
        MoLEForecaster
            Forecasts windows (n_windows, lookback, n_channels) and contexts, with timestamps; it
            has no residuals, so no intervals.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, of another shape, or not finite, or if the number of
            experts can't be told.
        """
        if router is None:
            router = CalendarRouter(stamp="first", encoding="reference", freq="h")
        mixture = read_mole(
            state_dict,
            router,
            kernel_size=kernel_size,
            n_experts=n_experts,
            n_channels=n_channels,
            horizon=horizon,
        )
        E = mixture.n_experts
        base = "rmlp" if mixture.pre else "rlinear" if mixture.normalization.scaled else "dlinear"
        made: MoLEForecaster = cls._from_mixture(
            mixture, base=base, router=router, n_experts=E, backend=backend
        )
        state = {
            "n_experts_": E,
            "expert_names_": [f"expert {k}" for k in range(E)],
            "history_": [],
        }
        made.__dict__.update(state, _state=(*made._state, *state))
        return made
