"""Mixtures fitted without gradient descent: experts given gates, gates given experts."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..gates import is_count
from ..mixture import FixedPlan, Mixture
from ..routing import Gate
from ..threads import single_threaded
from .corrections import (
    CorrectionSpace,
    Moments,
    ShrinkagePath,
    features_of,
    moments_of,
    most_coordinates,
    run_gate,
)
from .expectation_maximization import GateFit, gather
from .mixture_task import (
    FitInterruptedWarning,
    MixtureSolution,
    MixtureSolver,
    MixtureTask,
    NothingToChooseOnError,
)
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_EASE = 0.5  # of the shrinkage, from round to round: experts part only once gates know why
_POLISHED, _POLISH_STRENGTH = 2, 0.1
_GATES_PER_NUMBER = 4  # two beginnings, before and after polishing
_STEP_COORDINATES = 32  # at most with a gate per step, whose normal equations are one per step
FEWEST_WINDOWS = 32  # held out; with fewer nothing can be chosen, and the single expert is kept
_FEWEST_SPANS = 3  # of lookback + horizon windows that the held-out part is cut into
_USAGE_WINDOWS = 4096
_PAIRED_WINDOWS = 4096


class Candidate(NamedTuple):
    """A mixture and its loss on held-out windows."""

    gate: Gate
    strength: float
    loss: float
    space: CorrectionSpace
    corrections: Float64Array


@dataclass
class Progress:
    """What a search has found so far.

    Parameters
    ----------
    start : FixedPlan or None
        What the best candidate corrects.
    held_out : WindowSource or None
        That losses are measured on; None where nothing is held out.
    single : float
        Loss of the single expert.
    best : Candidate or None
    history : list of dict
    """

    start: FixedPlan | None = None
    held_out: WindowSource | None = None
    single: float = np.inf
    best: Candidate | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Loss of the best candidate over that of the single expert."""
        assert self.best is not None
        return self.best.loss / self.single if self.single > 0 else 1.0

    def told(self) -> list[dict[str, Any]]:
        """Return the history with the single expert in front."""
        if not self.history:
            return []
        return [_entry(1, "single expert", np.inf, self.single), *self.history]


class CorrectionSolver(MixtureSolver):
    """What solvers share that correct the exact single expert, given gates.

    Subclasses say which gates there are.
    """

    strength: float | Sequence[float]
    fewer_experts: bool
    min_gain: float
    validation: float | int
    refit: bool
    n_coordinates: int

    @property
    def holds_out(self) -> bool:
        return self.fewer_experts or len(self._strengths()) > 1

    def check(self) -> None:
        name = type(self).__name__
        strengths = self._strengths()
        if not strengths or not all(_is_number(s) and s > 0 for s in strengths):
            raise ValueError(
                f"strength of {name} must be a positive number, or several to choose from; got "
                f"{self.strength!r}."
            )
        if not _is_number(self.min_gain) or not self.min_gain >= 0:
            raise ValueError(f"min_gain of {name} must not be negative; got {self.min_gain!r}.")
        if not is_count(self.n_coordinates):
            raise ValueError(
                f"n_coordinates of {name} must be an integer of at least 1; got "
                f"{self.n_coordinates!r}."
            )
        check_validation(self.validation, name)

    def _strengths(self) -> list[Any]:
        return list(np.atleast_1d(np.asarray(self.strength)).tolist())

    def solve(self, task: MixtureTask) -> MixtureSolution:
        self.check()
        # blocks are small, and threads of numpy's and scipy's BLAS spin in each other's way
        with single_threaded():
            return self._solve(task)

    def _solve(self, task: MixtureTask) -> MixtureSolution:
        progress = Progress()
        try:
            if self.holds_out:
                return self._chosen(task, progress)
            return self._without_choice(task, progress)
        except KeyboardInterrupt:
            return self._interrupted(task, progress)

    def _chosen(self, task: MixtureTask, progress: Progress) -> MixtureSolution:
        """Choose gates, strength and number of experts on held-out windows."""
        strengths = self._strengths()
        training, held_out = task.windows.split(self.validation)
        if min(training.n_weighted, held_out.n_weighted) < FEWEST_WINDOWS:
            keep = self.refit or not training.n_windows
            return single_expert(task, [], None if keep else task.start(self.validation))
        try:
            start = task.start(self.validation)
        except NothingToChooseOnError:
            return single_expert(task, [])
        numbers = halved(task.n_experts) if self.fewer_experts else [task.n_experts]
        centered = task.centered_start(self.validation)
        space, gates = self._gates(task, training, centered, numbers)
        every = list(gates.values())
        moments = self._moments(training, space, every)
        outside = self._moments(held_out, space, every)
        progress.start, progress.held_out = start, held_out
        for (name, gate), inside, kept in zip(gates.items(), moments, outside, strict=True):
            n_experts, path = gate.n_experts, ShrinkagePath(inside)
            progress.single = kept.square / (max(kept.n, 1.0) * task.windows.horizon)
            losses = path.losses(strengths, kept)
            i = int(np.argmin(losses))
            if progress.best is None or losses[i] < progress.best.loss:
                corrections = path.corrections(strengths[i], n_experts)
                progress.best = Candidate(
                    gate, float(strengths[i]), float(losses[i]), space, corrections
                )
            progress.history += [
                _entry(n_experts, name, strength, loss)
                for strength, loss in zip(strengths, losses, strict=True)
            ]
        best = progress.best
        assert best is not None
        if self.fewer_experts and not self._pays(best, progress.single, held_out):
            return single_expert(task, progress.told(), None if self.refit else start)
        if not self.refit:
            return self._solution(task, start, best, progress)
        whole = task.start(0)
        space = replace(best.space, start=task.centered_start(0))
        (inside,) = self._moments(task.windows, space, [best.gate])
        corrections = ShrinkagePath(inside).corrections(best.strength, best.gate.n_experts)
        final = best._replace(space=space, corrections=corrections)
        return self._solution(task, whole, final, progress)

    def _without_choice(self, task: MixtureTask, progress: Progress) -> MixtureSolution:
        """Fit on all data; of several gates take the one with the least training error."""
        strength = float(self._strengths()[0])
        whole = progress.start = task.start(0)
        space, gates = self._gates(task, task.windows, task.centered_start(0), [task.n_experts])
        moments = self._moments(task.windows, space, list(gates.values()))
        for gate, inside in zip(gates.values(), moments, strict=True):
            progress.single = inside.square / (max(inside.n, 1.0) * task.windows.horizon)
            path = ShrinkagePath(inside)
            loss = float(path.losses([strength], inside)[0])
            if progress.best is None or loss < progress.best.loss:
                corrections = path.corrections(strength, gate.n_experts)
                progress.best = Candidate(gate, strength, loss, space, corrections)
        assert progress.best is not None
        return self._solution(task, whole, progress.best, progress)

    def _interrupted(self, task: MixtureTask, progress: Progress) -> MixtureSolution:
        """Return the best candidate so far if it would be chosen, else the single expert."""
        best, start, held_out = progress.best, progress.start, progress.held_out
        kept = best if start is not None else None
        if kept is not None and held_out is not None and self.fewer_experts:
            kept = kept if self._pays(kept, progress.single, held_out) else None
        what = "the exact single expert" if kept is None else "the best that had been found"
        warnings.warn(
            f"the search for a mixture was interrupted; {what} is kept.",
            FitInterruptedWarning,
            stacklevel=2,
        )
        if kept is not None and start is not None:
            return self._solution(task, start, kept, progress)
        start = None
        if self.holds_out and not self.refit:
            with suppress(NothingToChooseOnError):
                start = task.start(self.validation)
        return single_expert(task, progress.told(), start)

    @abstractmethod
    def _gates(
        self, task: MixtureTask, training: WindowSource, start: Mixture, numbers: list[int]
    ) -> tuple[CorrectionSpace, dict[str, Gate]]:
        """Return the coordinates of corrections, and named gates of some numbers of experts."""

    def _moments(
        self, source: WindowSource, space: CorrectionSpace, gates: list[Gate]
    ) -> list[Moments]:
        return moments_of(source, space, gates)

    def _pays(self, best: Candidate, single: float, held_out: WindowSource) -> bool:
        """Whether a mixture beats the single expert by enough, and not by chance.

        Neighboring windows share nearly everything, so gains are averaged over spans of
        ``lookback + horizon`` windows, and must exceed their standard error.
        """
        if not best.loss <= (1.0 - self.min_gain) * single:
            return False
        n_spans = held_out.n_windows // (held_out.lookback + held_out.horizon)
        if n_spans < _FEWEST_SPANS:
            return False
        gains = []
        for block in held_out.thinned(_PAIRED_WINDOWS).blocks(best.space.n_coordinates):
            inputs, residuals = best.space.measure(block)
            features = features_of(best.gate.router, block, held_out.horizon)
            gates = run_gate(best.gate, features)
            mixed = mixed_corrections(inputs, best.corrections, gates)
            gain = (residuals**2 - (residuals - mixed) ** 2).mean(axis=2)
            gains.append((gain * block.weight).sum(axis=1))
        each = np.concatenate(gains)
        means = np.array([part.mean() for part in np.array_split(each, n_spans)])
        return bool(means.mean() > means.std(ddof=1) / np.sqrt(n_spans))

    def _solution(
        self,
        task: MixtureTask,
        start: FixedPlan,
        found: Candidate,
        progress: Progress,
    ) -> MixtureSolution:
        return MixtureSolution(
            found.space.mixture(found.corrections, found.gate),
            usage_of(task.windows, found.gate),
            partial(residual_of, start, float(progress.ratio)),
            progress.told(),
        )


class AlternatingSolver(CorrectionSolver):
    """Experts in closed form given gates, and gates given experts, in turn.

    Every expert is the exact single one plus a correction, ``W + D_k``, shrunk towards it. Gates
    come from expectation and maximization: windows are shared among the experts by how well each
    explains them, each expert is fitted on its share by weighted ridge regression, and a
    multinomial logistic regression learns the shares from the router's features. Rounds begin with
    clusters of the features, and, as a second candidate, with clusters along those features on
    which the best linear map depends most. Gates are also polished: fitted to the squared error of
    the mixture itself, in turn with all corrections. For each of these gates all corrections are
    solved together, at several strengths from one eigendecomposition, and gates, strength and
    number of experts are chosen on held-out windows, the single expert among the candidates. No
    torch, no learning rate, no epochs.

    Parameters
    ----------
    strength : float or sequence of float, default=(0.001, 0.003, ..., 10)
        Ridge penalty on the corrections, relative to the number of windows and the variance of
        the channels; several are chosen from on held-out windows.
    fewer_experts : bool, default=True
        Whether fewer experts (halved, down to the single one) may be chosen.
    min_gain : float, default=0.01
        Share of the single expert's held-out error by which a mixture must be better to be
        chosen; it must also exceed its standard error over spans of ``lookback + horizon``
        windows. With fewer than three such spans held out no mixture is chosen.
    n_iter : int, default=6
        Rounds of expectation and maximization.
    sharpness : float, default=8.0
        How many independent errors the steps of one window are taken for when windows are shared
        among experts. With a gate per step it is not used.
    gate_penalty : float, default=1e-3
        Ridge penalty on the gate's weights, on standardized features.
    validation : float or int, default=0.2
        Share, or number, of the last rows of every series (of the last windows, for arrays) that
        are held out to choose on.
    refit : bool, default=True
        Whether experts are solved again on all data after the choice.
    n_coordinates : int, default=64
        Principal directions of the windows that corrections live in, at most; 32 at most with a
        gate per step.

    Notes
    -----
    On an interrupt (Ctrl-C) the search stops with a warning. The best mixture so far is kept if it
    would have been chosen, else the exact single expert.

    References
    ----------
    .. [1] R. Jacobs, M. Jordan, S. Nowlan and G. Hinton, "Adaptive mixtures of local experts",
       Neural Computation 3, 1991.
    .. [2] M. Jordan and R. Jacobs, "Hierarchical mixtures of experts and the EM algorithm",
       Neural Computation 6, 1994.

    Examples
    --------
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.solvers import AlternatingSolver
    >>> model = MoLEForecaster(n_experts=2, solver=AlternatingSolver(n_iter=3))
    >>> model.get_params()["solver__n_iter"]
    3
    """

    def __init__(
        self,
        strength: float | Sequence[float] = STRENGTHS,
        *,
        fewer_experts: bool = True,
        min_gain: float = 0.01,
        n_iter: int = 6,
        sharpness: float = 8.0,
        gate_penalty: float = 1e-3,
        validation: float | int = 0.2,
        refit: bool = True,
        n_coordinates: int = 64,
    ) -> None:
        self.strength = strength
        self.fewer_experts = fewer_experts
        self.min_gain = min_gain
        self.n_iter = n_iter
        self.sharpness = sharpness
        self.gate_penalty = gate_penalty
        self.validation = validation
        self.refit = refit
        self.n_coordinates = n_coordinates

    def check(self) -> None:
        super().check()
        if not is_count(self.n_iter):
            raise ValueError(
                "n_iter of AlternatingSolver must be an integer of at least 1; got "
                f"{self.n_iter!r}."
            )
        for key in ("sharpness", "gate_penalty"):
            if not isinstance(getattr(self, key), Real) or not getattr(self, key) > 0:
                raise ValueError(
                    f"{key} of AlternatingSolver must be positive; got {getattr(self, key)!r}."
                )

    def _gates(
        self, task: MixtureTask, training: WindowSource, start: Mixture, numbers: list[int]
    ) -> tuple[CorrectionSpace, dict[str, Gate]]:
        refuse_noise(task, "AlternatingSolver")
        probe = features_of(task.router, training.block(np.arange(1)), training.horizon)
        n_blocks = training.horizon if probe.ndim == 4 else 1
        space = CorrectionSpace.of(
            start,
            task.scale,
            training,
            fit_intercept=task.fit_intercept,
            most=most_coordinates(
                task.n_experts,
                n_blocks,
                self.n_coordinates if n_blocks == 1 else min(self.n_coordinates, _STEP_COORDINATES),
                _GATES_PER_NUMBER * len(numbers),
            ),
        )
        rows = gather(training, space, task.router)
        gates = {}
        for n_experts, by_laws in product(numbers, (False, True)):
            fit = GateFit(
                rows,
                task.router,
                n_experts,
                self.gate_penalty,
                task.random_state,
                by_laws=by_laws,
            )
            for i in range(self.n_iter):
                fit.expect(_EASE**i / n_experts, self.sharpness)
                fit.maximize()
            top_k = None if task.top_k is None else min(task.top_k, n_experts)
            name = f"{n_experts} experts, by {'laws' if by_laws else 'features'}"
            gates[name] = fit.gate(top_k, training.n_channels)
            for _ in range(_POLISHED):
                fit.polish(_POLISH_STRENGTH)
            gates[f"{name}, polished"] = fit.gate(top_k, training.n_channels)
        return space, gates


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _entry(n_experts: int, gates: str, strength: float, loss: float) -> dict[str, Any]:
    return {
        "n_experts": n_experts,
        "gates": gates,
        "strength": float(strength),
        "validation_loss": float(loss),
    }


def halved(n_experts: int) -> list[int]:
    """Return numbers of experts to try: all, half of them, ... two.

    Examples
    --------
    >>> from mixlin.solvers.alternating import halved
    >>> halved(5)
    [5, 2]
    """
    out = []
    while n_experts >= 2:
        out.append(n_experts)
        n_experts //= 2
    return out


def check_validation(validation: float | int, name: str) -> None:
    """Raise a ValueError unless ``validation`` is a share or a number of rows."""
    share = isinstance(validation, Real) and not isinstance(validation, Integral)
    right = (share and 0 < validation < 1) or (
        isinstance(validation, Integral) and not isinstance(validation, bool) and validation >= 1
    )
    if not right:
        raise ValueError(
            f"validation of {name} must be a share between 0 and 1 or a number of rows; got "
            f"{validation!r}."
        )


def refuse_noise(task: MixtureTask, name: str) -> None:
    """Refuse routers that ask for randomness in training."""
    router = task.router
    if router.noise or router.head_dropout:
        raise ValueError(
            f"noise={router.noise} and head_dropout={router.head_dropout} of "
            f"{type(router).__name__} act in training by gradient descent; {name} has none. Use "
            "solver='gradient', or leave them at zero."
        )


def mixed_corrections(
    inputs: npt.NDArray[np.float32], corrections: Float64Array, gates: Float64Array
) -> npt.NDArray[np.float32]:
    """Return the gate-weighted corrections of windows, (n, C, H).

    Parameters
    ----------
    inputs : array of shape (n, C, q)
    corrections : array of shape (E, q, H)
    gates : array of shape (n, 1 or C, E) or (n, 1 or C, H, E)
    """
    out = np.zeros((*inputs.shape[:2], corrections.shape[2]), dtype=np.float32)
    for k, correction in enumerate(corrections.astype(np.float32)):
        share = gates[..., k].astype(np.float32)
        out += (share if gates.ndim == 4 else share[:, :, None]) * (inputs @ correction)
    return out


def usage_of(source: WindowSource, gate: Gate) -> Float64Array:
    """Return the mean gate over windows, evenly spread."""
    total = np.zeros(gate.n_experts)
    n = 0
    for block in source.thinned(_USAGE_WINDOWS).blocks():
        gates = run_gate(gate, features_of(gate.router, block, source.horizon))
        total += gates.reshape(-1, gate.n_experts).mean(axis=0) * len(gates)
        n += len(gates)
    return np.asarray(total / max(1, n))


def single_expert(
    task: MixtureTask, history: list[dict[str, Any]], start: FixedPlan | None = None
) -> MixtureSolution:
    """Return the exact single expert as the solution.

    Parameters
    ----------
    task : MixtureTask
    history : list of dict
    start : FixedPlan, optional
        By default that of all data.
    """
    plan = task.start(0) if start is None else start
    return MixtureSolution(plan.mixture(), np.ones(1), partial(residual_of, plan, 1.0), history)


def residual_of(start: FixedPlan, ratio: float) -> Float64Array:
    """Return the variance of the residuals of a mixture from that of the single expert.

    Parameters
    ----------
    start : FixedPlan
    ratio : float
        Mean squared error of the mixture over that of the single expert.

    Returns
    -------
    array of shape (C, horizon)
    """
    variance = start.residual_variance
    assert variance is not None
    return np.asarray(variance * ratio)
