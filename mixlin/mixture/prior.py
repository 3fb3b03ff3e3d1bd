"""Plans of prior experts: a mixture for every length, horizon, period and pattern of gaps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp, softmax

from ..backends import Backend, resolve
from ..experts import (
    BacktestGate,
    BankMatrices,
    ExpertBank,
    ExpertGate,
    backtest_scores,
    clean,
    default_bank,
    detect_periods,
    far_forecasts,
    filled,
    fold_forecasts,
    period_experts,
)
from ..experts.gating import prior_layer
from ..experts.matrix_cache import MemoryCache
from ..experts.periods import SHORTEST_SERIES
from ..normalization import Normalization
from ..routing import ConstantRouter, Gate
from .contexts import ContextGroup, grouped
from .forward import Parts, forward, predict_windows
from .plan import KnownInputs, Plan
from .record import Mixture
from .spreads import calibration, error_spreads, step_variances

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

PERIOD_EXPERT_NAMES = tuple(
    name.replace("period 2,", "found period,") for name in period_experts(2.0).names
)
N_PERIOD_EXPERTS = len(PERIOD_EXPERT_NAMES)
_MOST_WEIGHTS = 2**26  # of a bank's matrices; longer horizons are computed without them
_KEPT_BYTES = 8 * _MOST_WEIGHTS  # of the mixtures of a bank
_BLOCK_FORECASTS = 2**22  # of single experts that are held at a time
_CLIP = 4.0  # standard deviations: outliers must not decide which expert tells them
_TINY = float(np.finfo(np.float64).tiny)


class Predictive(NamedTuple):
    """Forecasts of every expert on some rows, and how they are weighed.

    Attributes
    ----------
    rows : array of shape (r,)
        Which rows.
    means, spreads : array of shape (r, E, horizon)
        Means and scales of the experts' predictive distributions, in data units.
    weights : array of shape (r, E)
    """

    rows: IntArray
    means: FloatArray
    spreads: FloatArray
    weights: FloatArray


@lru_cache(maxsize=32)
def shared_matrices(bank: ExpertBank) -> BankMatrices:
    """Return the matrices of a bank, the same for all models of a process.

    They are kept on disk too where the environment variable ``MIXLIN_CACHE_DIR`` names a folder.

    Parameters
    ----------
    bank : ExpertBank
    """
    return BankMatrices(bank, cache_dir=os.environ.get("MIXLIN_CACHE_DIR") or None)


@lru_cache(maxsize=32)
def _mixtures_of(bank: ExpertBank) -> MemoryCache:
    return MemoryCache(_KEPT_BYTES)


@dataclass(frozen=True, eq=False, repr=False)
class PriorPlan(Plan):
    """A bank of prior experts, mixed by what they are worth on the window itself.

    Parameters
    ----------
    lookback, horizon : int
        Values read at most, and the steps that are forecast if nothing else is asked for.
    n_channels : int or None
    bank : ExpertBank
    gate : ExpertGate
    top_k : int, optional
        Experts of the bank that get weight.
    auto_period : bool
        Whether experts join for a period that the bank does not know and a window shows.
    clean : bool
        Whether outliers, stuck runs and shifts of the level are taken out of windows first.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> from mixlin.mixture import PriorPlan
    >>> plan = PriorPlan(96, 4)
    >>> season = np.tile([0.0, 0.0, 3.0, 3.0], 24)[None, None]
    >>> plan.forecast(season, 4, resolve("numpy")).round().tolist()
    [[[0.0, 0.0, 3.0, 3.0]]]
    """

    bank: ExpertBank = field(default_factory=default_bank)
    gate: ExpertGate = field(default_factory=BacktestGate)
    top_k: int | None = 32
    auto_period: bool = True
    clean: bool = False

    any_length = True
    any_horizon = True
    reads_gaps = True
    spreads_missing = False
    needs_timestamps = False

    def __repr__(self) -> str:
        return f"PriorPlan({len(self.bank)} experts, {self.gate!r})"

    @cached_property
    def _test(self) -> BacktestGate:
        """What scores experts for gaps and intervals, whatever the gate."""
        return self.gate if isinstance(self.gate, BacktestGate) else BacktestGate()

    @cached_property
    def _gate_key(self) -> str:
        return repr(self.gate.get_params())

    # -- mixtures --------------------------------------------------------------------------

    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        """Return the mixture of the bank for windows of a length.

        Parameters
        ----------
        lookback, horizon : int, optional
            Those of the plan by default.
        mask : array of shape (lookback,), optional
            True where a value was observed. The experts condition on these; the gate then holds
            the priors alone, for what back-tests on what was observed say is not a function of
            the window that a gate could hold: :meth:`forecast` looks.

        Returns
        -------
        Mixture
        """
        n = self.lookback if lookback is None else lookback
        steps = self.horizon if horizon is None else horizon
        return self._mixture(self.bank, n, steps, mask)

    def _mixture(
        self,
        bank: ExpertBank,
        n: int,
        horizon: int,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        """Return a mixture; the gate is for the horizon of the plan, whatever is asked for."""
        top_k = self.top_k if bank is self.bank else None
        matrices = shared_matrices(bank)

        def make() -> Mixture:
            weights = matrices.predictors(n, horizon, mask=mask).weights.view()
            weights.flags.writeable = False  # all models of the process read it
            gate = (
                self.gate.gate(matrices, n, self.horizon, top_k)
                if mask is None
                else Gate(ConstantRouter(), (prior_layer(matrices),))
            )
            return Mixture(
                weights.transpose(1, 0, 2)[None], normalization=Normalization("mean"), gate=gate
            )

        if mask is not None:
            return make()
        key = (n, horizon, self.horizon, top_k, type(self.gate), self._gate_key)
        return _mixtures_of(bank).get(key, make)

    # -- forecasts -------------------------------------------------------------------------

    def forecast(
        self,
        windows: npt.NDArray[np.floating],
        horizon: int,
        backend: Backend,
        *,
        stamps: npt.NDArray[np.datetime64] | None = None,
        known: KnownInputs | None = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> npt.NDArray[Any]:
        """Forecast windows, each one by itself.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, length)
            NaN where a value is missing; a window without any value is refused before.
        horizon : int
            Any.
        backend : Backend
        stamps, known
            Not read.
        dtype : dtype, default=float64

        Returns
        -------
        array of shape (n_windows, n_channels, horizon)
        """
        rows = windows.reshape(-1, windows.shape[-1])
        out = np.empty((len(rows), horizon), dtype=dtype)
        for group in self._groups(rows):
            steps = self._computed(group.values.shape[1], horizon)
            points = self._points(group, steps, backend)[:, :horizon]
            out[group.rows] = group.in_units(points)
        return out.reshape(*windows.shape[:2], horizon)

    def predictive(
        self, windows: npt.NDArray[np.floating], horizon: int, backend: Backend
    ) -> Iterator[Predictive]:
        """Yield the predictive distributions of all experts, block by block.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, length)
        horizon : int
        backend : Backend

        Yields
        ------
        Predictive
            Of rows ``window * n_channels + channel``, each in one block. The experts for a period
            found in the window stand last, with weight 0 where there is none.
        """
        rows = windows.reshape(-1, windows.shape[-1])
        for group in self._groups(rows):
            steps = self._computed(group.values.shape[1], horizon)
            size = self._rows_at_a_time(steps)
            for at in range(0, len(group.rows), size):
                some = group.part(slice(at, at + size))
                found = self._details(some, steps, backend)
                moving = np.where(some.constant, 0.0, some.unit)[:, None, None]
                yield found._replace(
                    rows=some.rows,
                    means=some.in_units(found.means[:, :, :horizon]),
                    spreads=found.spreads[:, :, :horizon] * moving,
                )

    def _rows_at_a_time(self, horizon: int) -> int:
        """Return how many rows have the forecasts of all experts held."""
        return max(1, _BLOCK_FORECASTS // (horizon * (len(self.bank) + N_PERIOD_EXPERTS)))

    def _computed(self, n: int, horizon: int) -> int:
        """Return how many steps are computed: shorter horizons are the start of the plan's."""
        return max(horizon, self.horizon) if self._fits(n, self.horizon) else horizon

    def weights(self, windows: npt.NDArray[np.floating], backend: Backend) -> FloatArray:
        """Return how the experts are weighed.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, length)
        backend : Backend

        Returns
        -------
        array of shape (n_windows, n_channels, E)
            The experts for a period found in the window stand last.
        """
        rows = windows.reshape(-1, windows.shape[-1])
        out = np.empty((len(rows), len(self.bank) + N_PERIOD_EXPERTS))
        for group in self._groups(rows):
            periods = self._periods(group)
            logits = self._all_logits(group, periods, backend)[0]
            out[group.rows] = softmax(logits, axis=1)
        return out.reshape(*windows.shape[:2], -1)

    def _groups(self, rows: npt.NDArray[np.floating]) -> Iterator[ContextGroup]:
        for group in grouped(rows, self.lookback):
            if group.mask is not None:
                group = self._without_gaps(group, group.mask)
            yield self._cleaned(group) if self.clean else group

    def _without_gaps(self, group: ContextGroup, mask: npt.NDArray[np.bool_]) -> ContextGroup:
        """Fill gaps for back-tests to read: by the expert that is best with straight lines there.

        Forecasts do not read this: every expert fills gaps by itself.
        """
        steps = np.arange(len(mask))
        lines = np.stack([np.interp(steps, steps[mask], row[mask]) for row in group.values])
        best = self._weighed(self.bank, lines, mask, resolve("numpy"))[0].argmax(axis=1)
        matrices = shared_matrices(self.bank)
        out = np.empty_like(lines)
        for expert in np.unique(best):
            rows = best == expert
            out[rows] = filled(matrices.precision(int(expert), len(mask)), lines[rows], mask)
        return group._replace(values=out)

    def _cleaned(self, group: ContextGroup) -> ContextGroup:
        values = group.values
        center, deviation = values.mean(axis=1), values.std(axis=1)
        reach = _CLIP * deviation[:, None]
        clipped = np.clip(values, center[:, None] - reach, center[:, None] + reach)
        best = self._weighed(self.bank, clipped, group.mask, resolve("numpy"))[0].argmax(axis=1)
        if group.mask is not None:
            values = np.where(group.mask, values, np.nan)
        cleaned = clean(values, shared_matrices(self.bank), best).values
        if group.mask is not None:
            cleaned = np.where(group.mask, cleaned, group.values)
        return group._replace(values=cleaned)

    def found_periods(self, rows: FloatArray) -> FloatArray:
        """Return the periods that bring experts of their own, 0 where there is none.

        Forecasts are faster where rows of one period stand together.

        Parameters
        ----------
        rows : array of shape (n_rows, length)
            NaN where a value is missing.

        Returns
        -------
        array of shape (n_rows,)
        """
        if not (self.auto_period and self.gate.comparable) or rows.shape[1] < SHORTEST_SERIES:
            return np.zeros(len(rows))
        return detect_periods(rows, self.bank.periods)

    def _periods(self, group: ContextGroup) -> FloatArray:
        if group.mask is None:
            return self.found_periods(group.values)
        return self.found_periods(np.where(group.mask, group.values, np.nan))

    def _points(self, group: ContextGroup, horizon: int, backend: Backend) -> FloatArray:
        """Forecast a group in its units."""
        n = group.values.shape[1]
        if group.mask is not None or not self._fits(n, horizon):
            size = self._rows_at_a_time(horizon)
            found = [
                self._details(group.part(slice(i, i + size)), horizon, backend, spreads=False)
                for i in range(0, len(group.rows), size)
            ]
            return np.concatenate([np.einsum("re,reh->rh", d.weights, d.means) for d in found])
        windows = group.values[:, None]
        base = self._mixture(self.bank, n, horizon)
        forecast, logits = predict_windows(base, windows, backend, scores=True)
        periods = self._periods(group)
        for period in np.unique(periods[periods > 0]):
            some = np.flatnonzero(periods == period)
            own = self._mixture(period_experts(period), n, horizon)
            joined, added = predict_windows(own, windows[some], backend, scores=True)
            share = expit(
                logsumexp(added[:, 0], axis=1) - logsumexp(self._kept(logits[some, 0]), axis=1)
            )
            forecast[some] += share[:, None, None] * (joined - forecast[some])
        return np.asarray(forecast[:, 0])

    def _details(
        self, group: ContextGroup, horizon: int, backend: Backend, *, spreads: bool = True
    ) -> Predictive:
        """Forecast a group by every expert, in its units."""
        n = group.values.shape[1]
        periods = self._periods(group)
        r, E = len(group.rows), len(self.bank)
        logits, scores = self._all_logits(group, periods, backend)
        means = np.zeros((r, E + N_PERIOD_EXPERTS, horizon))
        spread = np.zeros_like(means) if spreads else means[:, :, :0]
        for bank, some, columns in self._looks(periods):
            values, kept = group.values[some], logits[some, columns]
            means[some, columns] = self._means(bank, values, group.mask, horizon, backend, kept)
            if spreads:
                told = scores[some, columns]
                if np.isnan(told).any():
                    told = self._scores(bank, values, group.mask)
                matrices, folds = shared_matrices(bank), self._test.folds(n, self.horizon)
                counted = [int(e) for e in np.flatnonzero(np.isfinite(kept).any(axis=0))]
                far = not self._fits(n, horizon)
                variance = step_variances(matrices, n, horizon, counted, group.mask, far=far)
                spread[some, columns] = told[:, :, None] * error_spreads(matrices, folds, variance)
        weights = np.asarray(softmax(logits, axis=1))
        if spreads:
            spread *= self._calibration(group, periods, weights, spread)[:, None]
        return Predictive(group.rows, means, spread, weights)

    def _looks(self, periods: FloatArray) -> Iterator[tuple[ExpertBank, IntArray, slice]]:
        """Yield the banks that look at rows, which rows, and the columns of their experts."""
        E = len(self.bank)
        yield self.bank, np.arange(len(periods)), slice(E)
        for period in np.unique(periods[periods > 0]):
            yield period_experts(period), np.flatnonzero(periods == period), slice(E, None)

    def _all_logits(
        self, group: ContextGroup, periods: FloatArray, backend: Backend
    ) -> tuple[FloatArray, FloatArray]:
        """Return logits, minus infinity without weight, and scores, NaN where unknown: (r, E)."""
        shape = (len(group.rows), len(self.bank) + N_PERIOD_EXPERTS)
        logits, scores = np.full(shape, -np.inf), np.full(shape, np.nan)
        for bank, some, columns in self._looks(periods):
            told, found = self._weighed(bank, group.values[some], group.mask, backend)
            logits[some, columns] = self._kept(told) if bank is self.bank else told
            if found is not None:
                scores[some, columns] = found
        return logits, scores

    def _calibration(
        self, group: ContextGroup, periods: FloatArray, weights: FloatArray, spread: FloatArray
    ) -> FloatArray:
        """Return what spreads (r, E, horizon) are multiplied by, (r, horizon)."""
        r, n = group.values.shape
        folds = self._test.folds(n, max(self.horizon, spread.shape[2]))
        if folds is None:
            return np.ones((r, spread.shape[2]))
        seen = np.ones(n, dtype=bool) if group.mask is None else group.mask
        values = group.values - group.values.mean(axis=1, keepdims=True)
        signed = np.zeros((folds.n_folds, r, len(folds.ahead)))  # of the mixture's errors
        counted = np.zeros((folds.n_folds, 1, len(folds.ahead)))
        for bank, some, columns in self._looks(periods):
            own = weights[some, columns][:, None]
            looks = fold_forecasts(shared_matrices(bank), folds, values[some], seen)
            for i, (scored, forecast, target) in enumerate(looks):
                mixed = np.matmul(own, forecast)[:, 0]
                known = target if bank is self.bank else 0.0  # which counts once
                signed[i][np.ix_(some, scored)] += mixed - known
                counted[i, 0, scored] = 1.0
        told = np.einsum("re,reh->rh", weights, spread)
        return calibration(np.abs(signed).sum(axis=0), counted.sum(axis=0)[0], folds, told)

    def _weighed(
        self,
        bank: ExpertBank,
        values: FloatArray,
        mask: npt.NDArray[np.bool_] | None,
        backend: Backend,
    ) -> tuple[FloatArray, FloatArray | None]:
        """Return the logits of a bank (r, E), and scores where the gate is made of these alone."""
        n, gate = values.shape[1], self.gate
        if mask is not None:
            scores = self._scores(bank, values, mask)
            priors = np.array(bank.log_priors)
            return priors - self._test.exponent * np.log(np.maximum(scores, _TINY)), scores
        mixture = self._mixture(bank, n, 1)
        _, logits = predict_windows(mixture, values[:, None], backend, scores=True)
        told = logits[:, 0]
        if isinstance(gate, BacktestGate) and not gate.evidence and gate.exponent:
            return told, np.exp((np.array(bank.log_priors) - told) / gate.exponent)
        return told, None

    def _scores(
        self,
        bank: ExpertBank,
        values: FloatArray,
        mask: npt.NDArray[np.bool_] | None,
    ) -> FloatArray:
        """Back-test experts on the host, (r, E)."""
        n = values.shape[1]
        test = self._test
        folds = test.folds(n, self.horizon)
        seen = np.ones(n, dtype=bool) if mask is None else mask
        moves = values - values.mean(axis=1, keepdims=True)
        scores = None
        if folds is not None:
            scores = backtest_scores(
                shared_matrices(bank), folds, test.power, test.floor, moves, seen
            )
        if scores is None:  # nothing to test on: the spread of the values themselves
            return np.broadcast_to(moves.std(axis=1, keepdims=True), (len(values), len(bank)))
        return scores

    def _means(
        self,
        bank: ExpertBank,
        values: FloatArray,
        mask: npt.NDArray[np.bool_] | None,
        horizon: int,
        backend: Backend,
        logits: FloatArray,
    ) -> FloatArray:
        """Return the forecasts of a bank's experts, (r, E, horizon)."""
        n = values.shape[1]
        if mask is not None or not self._fits(n, horizon):
            return self._far_means(bank, values, mask, horizon, logits)
        parts = forward(self._mixture(bank, n, horizon), backend, values[:, None], parts=True)
        assert isinstance(parts, Parts)
        return np.moveaxis(parts.experts, 3, 2).reshape(len(values), len(bank), horizon)

    def _far_means(
        self,
        bank: ExpertBank,
        values: FloatArray,
        mask: npt.NDArray[np.bool_] | None,
        horizon: int,
        logits: FloatArray,
    ) -> FloatArray:
        """Forecast by the kernels of the experts that count: past gaps, or very far ahead."""
        matrices = shared_matrices(bank)
        means = np.zeros((len(values), len(bank), horizon))
        for e in range(len(bank)):
            rows = np.flatnonzero(np.isfinite(logits[:, e]))
            if len(rows):
                means[rows, e] = far_forecasts(matrices, e, values[rows], horizon, mask=mask)
        return means

    def _fits(self, n: int, horizon: int) -> bool:
        """Whether the matrices of the bank are small enough to be made."""
        return n * horizon * len(self.bank) <= _MOST_WEIGHTS

    def _kept(self, logits: FloatArray) -> FloatArray:
        """Return logits with those of experts that get no weight at minus infinity."""
        if self.top_k is None or self.top_k >= logits.shape[1]:
            return logits
        order = np.argsort(-logits, axis=1, kind="stable")
        out = np.full_like(logits, -np.inf)
        keep = order[:, : self.top_k]
        np.put_along_axis(out, keep, np.take_along_axis(logits, keep, axis=1), axis=1)
        return out
