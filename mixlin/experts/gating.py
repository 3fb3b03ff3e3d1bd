"""How the experts of a bank are weighed on a window: by back-tests, or by their evidence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from ..gates import ConstantRouter, Evidence, Gate
from ..layers import Layer
from .predictors import BankMatrices

FloatArray = npt.NDArray[np.float64]

_GOLDEN = (5**0.5 - 1) / 2
_EVIDENCE_STEPS = 512  # newest values that the evidence is computed from


class Folds(NamedTuple):
    """Where a window is back-tested.

    Attributes
    ----------
    lookback : int
        Values that every fold's forecast reads.
    ahead : tuple of int
        Steps of the fold's horizon that are scored, from 1.
    step : int
        Distance from a fold to the next older one; the newest ends with the window.
    n_folds : int
    """

    lookback: int
    ahead: tuple[int, ...]
    step: int
    n_folds: int


class ExpertGate(BaseEstimator, ABC):
    """How the experts of a bank are weighed. A subclass is a dataclass of plain parameters.

    Attributes
    ----------
    comparable : bool
        Whether logits of two banks on one window are on one scale, so that experts can join for
        a period that was found in the window.
    """

    comparable: ClassVar[bool] = True

    @abstractmethod
    def gate(
        self, matrices: BankMatrices, lookback: int, horizon: int, top_k: int | None = None
    ) -> Gate:
        """Return the gate for windows of a length.

        Parameters
        ----------
        matrices : BankMatrices
        lookback, horizon : int
        top_k : int, optional
            Experts that get weight.

        Returns
        -------
        Gate
        """

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""


def prior_layer(matrices: BankMatrices, added: FloatArray | float = 0.0) -> Layer:
    """Return the layer from a constant feature to the log priors of a bank.

    Parameters
    ----------
    matrices : BankMatrices
    added : array of shape (E,), optional
        Joins the log priors.
    """
    bias = np.array(matrices.bank.log_priors)[None] + added
    return Layer(np.zeros((1, 1, bias.shape[1])), bias)


@dataclass(eq=False, repr=False)
class BacktestGate(ExpertGate):
    """Weigh every expert by its errors on folds inside the window.

    An expert's weight is its prior times ``score ** -exponent``, where the score is the power
    mean, over the folds, of the fold's mean absolute error. The gate does not depend on the
    horizon from ``max_horizon`` on.

    Parameters
    ----------
    exponent : float, default=17.0
        0 leaves the priors alone; the larger, the more the best expert gets.
    power : float, default=0.5
        Of the power mean over folds. Below 1 a fold with an outlier decides less.
    share : float, default=0.65
        Of the window that folds cover with their targets; the rest is what they read.
    max_horizon : int, default=96
        Steps of a fold's horizon at most; never more than a tenth of the window.
    n_steps : int, default=24
        Steps of a fold's horizon that are scored at most, spread evenly with irregular distances.
    max_folds : int, default=32
        Folds at most; they overlap by half where that gives fewer.
    evidence : float, default=0.0
        Share of an expert's log evidence per value that joins the logits; see
        :class:`EvidenceGate`.

    Examples
    --------
    >>> from mixlin.experts import BacktestGate
    >>> folds = BacktestGate(n_steps=4).folds(lookback=1024, horizon=96)
    >>> folds.lookback, folds.n_folds, folds.step
    (359, 12, 48)
    """

    exponent: float = 17.0
    power: float = 0.5
    share: float = 0.65
    max_horizon: int = 96
    n_steps: int = 24
    max_folds: int = 32
    evidence: float = 0.0

    floor: ClassVar[float] = 1e-3  # share of the mean absolute target that joins every score

    def check(self) -> None:
        for name, low, high in (
            ("exponent", 0.0, np.inf),
            ("evidence", 0.0, np.inf),
            ("power", 0.0, 1.0),
            ("share", 0.0, 1.0),
        ):
            value = getattr(self, name)
            strict = name in ("power", "share")
            if (
                not isinstance(value, Real)
                or not low <= float(value) <= high
                or (strict and not value)
            ):
                raise ValueError(
                    f"{name} of BacktestGate must be a number "
                    f"{'above 0, at most 1' if strict else 'of at least 0'}; got {value!r}."
                )
        for name in ("max_horizon", "n_steps", "max_folds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f"{name} of BacktestGate must be an integer of at least 1; got {value!r}."
                )

    def folds(self, lookback: int, horizon: int) -> Folds | None:
        """Return where windows of a length are back-tested, None where they are too short.

        Parameters
        ----------
        lookback, horizon : int
        """
        if lookback < 2:
            return None
        length = max(1, min(horizon, lookback // 10, self.max_horizon))
        covered = min(max(length, int(lookback * self.share)), lookback - 1)
        step = max(1, length // 2, -(-(covered - length) // max(1, self.max_folds - 1)))
        ahead = scored_steps(length, self.n_steps)
        return Folds(lookback - covered, ahead, step, (covered - length) // step + 1)

    def gate(
        self, matrices: BankMatrices, lookback: int, horizon: int, top_k: int | None = None
    ) -> Gate:
        folds = self.folds(lookback, horizon)
        evidence: list[Evidence] = []
        layer = prior_layer(matrices)
        if folds is not None:
            predictors = matrices.predictors(folds.lookback, folds.ahead[-1], steps=folds.ahead)
            evidence.append(
                Evidence(
                    "backtest",
                    predictors.weights.transpose(1, 0, 2),
                    self.exponent,
                    folds.step,
                    ahead=folds.ahead,
                    floor=self.floor,
                    power=self.power,
                )
            )
        if self.evidence and lookback > 2:
            constants, energy = log_evidence(matrices, lookback, self.evidence)
            layer = prior_layer(matrices, constants)
            evidence.append(energy)
        return Gate(ConstantRouter(), (layer,), _fewer(top_k, matrices), evidence=tuple(evidence))


@dataclass(eq=False, repr=False)
class EvidenceGate(ExpertGate):
    """Weigh every expert by how probable it makes the window.

    The weight is the prior times ``exp(tempering * log Z / n)``, with Z the density of the n newest
    values, level and scale integrated out. It reads up to 512 values, in memory of the square of
    that for every expert.

    Parameters
    ----------
    tempering : float, default=25.0
        Values that count as independent; n would be Bayes' rule, which trusts the kernels too
        much.

    Examples
    --------
    >>> from mixlin.experts import BankMatrices, EvidenceGate, default_bank
    >>> matrices = BankMatrices(default_bank()[:3])
    >>> EvidenceGate().gate(matrices, lookback=32, horizon=8).n_experts
    3
    """

    tempering: float = 25.0

    def check(self) -> None:
        if not isinstance(self.tempering, Real) or not self.tempering >= 0:
            raise ValueError(
                f"tempering of EvidenceGate must be a number of at least 0; got {self.tempering!r}."
            )

    def gate(
        self, matrices: BankMatrices, lookback: int, horizon: int, top_k: int | None = None
    ) -> Gate:
        layer = prior_layer(matrices)
        evidence: tuple[Evidence, ...] = ()
        if lookback > 2:
            constants, energy = log_evidence(matrices, lookback, self.tempering)
            layer, evidence = prior_layer(matrices, constants), (energy,)
        return Gate(ConstantRouter(), (layer,), _fewer(top_k, matrices), evidence=evidence)


GATES: dict[str, type[ExpertGate]] = {"backtest": BacktestGate, "evidence": EvidenceGate}
"""What a gate may be called."""


def named_gate(gate: str | ExpertGate) -> ExpertGate:
    """Return the gate of an estimator's parameter.

    Parameters
    ----------
    gate : {"backtest", "evidence", "spectral"} or ExpertGate

    Raises
    ------
    ValueError
        For another name or type, or a parameter out of range.

    Examples
    --------
    >>> from mixlin.experts import named_gate
    >>> named_gate("evidence")
    EvidenceGate()
    """
    if isinstance(gate, str) and gate in GATES:
        return GATES[gate]()
    if not isinstance(gate, ExpertGate):
        raise ValueError(
            f"gate must be one of {', '.join(map(repr, GATES))}, or a gate such as "
            f"BacktestGate(exponent=10); got {gate!r}."
        )
    gate.check()
    return gate


def _fewer(top_k: int | None, matrices: BankMatrices) -> int | None:
    return None if top_k is None or top_k >= len(matrices.bank) else top_k


@lru_cache(maxsize=256)
def scored_steps(length: int, n_steps: int) -> tuple[int, ...]:
    """Return which steps of a fold's horizon are scored: the last, and others spread evenly.

    Their distances differ, so that with the distance of the folds no phase of a season is left
    out.

    Parameters
    ----------
    length : int
        Steps of the horizon.
    n_steps : int
        How many are scored at most.

    Examples
    --------
    >>> from mixlin.experts.gating import scored_steps
    >>> scored_steps(3, 24), scored_steps(20, 5)
    ((1, 2, 3), (5, 9, 12, 17, 20))
    """
    if length <= n_steps:
        return tuple(range(1, length + 1))
    found = {length}
    i = 1
    while len(found) < n_steps:
        found.add(1 + int((i * _GOLDEN) % 1 * (length - 1)))
        i += 1
    return tuple(sorted(found))


def log_evidence(
    matrices: BankMatrices, lookback: int, tempering: float
) -> tuple[FloatArray, Evidence]:
    """Return the tempered log evidence of every expert as constants and a weighed loss.

    Parameters
    ----------
    matrices : BankMatrices
    lookback : int
    tempering : float

    Returns
    -------
    constants : array of shape (E,)
    evidence : Evidence
        Of the newest values, 512 at most.
    """
    n = min(lookback, _EVIDENCE_STEPS)
    whitening = matrices.whitening(n)
    energy = Evidence("energy", whitening.weights, (n - 1) / 2 * tempering / n)
    return whitening.constants * tempering / n, energy


def fold_forecasts(
    matrices: BankMatrices, folds: Folds, values: FloatArray, mask: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], FloatArray, FloatArray]]:
    """Yield what experts forecast on folds inside windows, newest fold first.

    Parameters
    ----------
    matrices : BankMatrices
    folds : Folds
    values : array of shape (n_windows, n)
        Measured from their level, gaps filled.
    mask : array of shape (n,)
        True where all of the windows have a value: what forecasts are held against. Folds
        without one are left out.

    Yields
    ------
    seen : array of bool of shape (n_steps,)
        Which scored steps have a value.
    forecast : array of shape (n_windows, E, n_seen)
    target : array of shape (n_windows, n_seen)
    """
    n, ahead = values.shape[1], np.array(folds.ahead)
    weights = matrices.predictors(folds.lookback, folds.ahead[-1], steps=folds.ahead).weights
    packed = weights.reshape(len(weights), -1)
    for i in range(folds.n_folds):
        start = n - i * folds.step - folds.lookback - folds.ahead[-1]
        places = start + folds.lookback - 1 + ahead
        seen = mask[places]
        if not mask[start : start + folds.lookback].any() or not seen.any():
            continue
        x = values[:, start : start + folds.lookback]
        forecast = (x @ packed).reshape(len(x), *weights.shape[1:])
        yield seen, forecast[:, :, seen], values[:, places[seen]]


def backtest_scores(
    matrices: BankMatrices,
    folds: Folds,
    power: float,
    floor: float,
    values: FloatArray,
    mask: npt.NDArray[np.bool_],
) -> FloatArray | None:
    """Score experts on windows with gaps.

    Parameters
    ----------
    matrices, folds, values, mask
        As of :func:`fold_forecasts`.
    power, floor : float
        As of :class:`BacktestGate`.

    Returns
    -------
    array of shape (n_windows, E), or None where there is no fold
    """
    total = np.zeros((len(values), len(matrices.bank)))
    targets = np.zeros(len(values))
    counted = 0.0
    for seen, forecast, target in fold_forecasts(matrices, folds, values, mask):
        weight = seen.mean()  # of a fold that is there in part
        total += weight * np.abs(forecast - target[:, None]).mean(axis=2) ** power
        targets += weight * np.abs(target).mean(axis=1)
        counted += weight
    if not counted:
        return None
    return np.asarray((total / counted) ** (1 / power) + floor * (targets / counted)[:, None])
