"""Plans of learned experts: matrices of one lookback and horizon, prior experts where they end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..backends import Backend
from ..experts import ExpertBank
from .contexts import ContextGroup
from .forward import predict_windows
from .prior import Predictive, PriorPlan
from .record import Mixture
from .rollout import Rollout, clamped

FloatArray = npt.NDArray[np.float64]

_CLAMP = Rollout(resampling=False)
_KEPT_MIXTURES = 4  # of one plan, cut to shorter horizons
_SHORTER: WeakKeyDictionary[LearnedPlan, dict[int, Mixture]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class LearnedPlan(PriorPlan):
    """Learned experts for windows of ``lookback`` values, and the prior experts they come from.

    Learned experts forecast ``horizon`` steps; further ones follow block by block, each from what
    was forecast before, and spread no wider than the window they are made from. Shorter contexts
    and those with gaps are forecast by the prior experts, under ``gate``.

    Parameters
    ----------
    fixed : Mixture
        The learned experts and their gate, for windows of ``lookback`` values.
    relative_error : array of shape (horizon,)
        What spreads are multiplied by: they are made from the errors of prior experts.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.backends import resolve
    >>> from mixlin.experts import BankMatrices, default_bank
    >>> from mixlin.mixture import LearnedPlan, PriorPlan
    >>> bank = default_bank()[:2]
    >>> prior = PriorPlan(24, 4, bank=bank)
    >>> plan = LearnedPlan(24, 4, bank=bank, fixed=prior.mixture())
    >>> wave = np.cos(np.arange(24) * np.pi / 2)[None, None]
    >>> engine = resolve("numpy")
    >>> bool(np.allclose(plan.forecast(wave, 4, engine), prior.forecast(wave, 4, engine)))
    True
    """

    fixed: Mixture | None = None
    relative_error: FloatArray = field(default_factory=lambda: np.ones(1))

    def __post_init__(self) -> None:
        if self.fixed is None or self.fixed.bias is not None or self.fixed.scale_coef is not None:
            raise ValueError("a LearnedPlan holds a mixture of matrices alone.")
        shape = (len(self.bank), self.lookback, self.horizon)
        found = (self.fixed.n_experts, self.fixed.lookback, self.fixed.horizon)
        if found != shape:
            raise ValueError(
                f"the mixture of a LearnedPlan has the bank's experts, its lookback and its "
                f"horizon, {shape}; got {found}."
            )

    def __repr__(self) -> str:
        return f"LearnedPlan({self.fixed!r})"

    # -- mixtures --------------------------------------------------------------------------

    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        """Return the learned mixture for windows it reads, else that of the prior experts.

        Parameters
        ----------
        lookback, horizon : int, optional
            Those of the plan by default. A longer horizon than that has the same mixture.
        mask : array of shape (lookback,), optional
            True where a value was observed.

        Returns
        -------
        Mixture
        """
        n = self.lookback if lookback is None else lookback
        steps = self.horizon if horizon is None else horizon
        if mask is not None and np.all(mask):
            mask = None
        if self._reads(n, mask):
            steps = min(steps, self.horizon)
        return self._mixture(self.bank, n, steps, mask)

    def _reads(self, n: int, mask: npt.NDArray[np.bool_] | None) -> bool:
        """Whether the learned experts forecast windows of a length and a pattern of gaps."""
        return n == self.lookback and mask is None

    def _mixture(
        self,
        bank: ExpertBank,
        n: int,
        horizon: int,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        if bank is not self.bank or not self._reads(n, mask) or horizon > self.horizon:
            return super()._mixture(bank, n, horizon, mask)
        whole = self.fixed
        assert whole is not None
        if horizon == self.horizon:
            return whole

        kept = _SHORTER.setdefault(self, {})
        made = kept.get(horizon)
        if made is None:
            if len(kept) >= _KEPT_MIXTURES:
                kept.clear()
            made = kept[horizon] = replace(whole, weights=whole.weights[..., :horizon])
        return made

    # -- forecasts -------------------------------------------------------------------------

    def _points(self, group: ContextGroup, horizon: int, backend: Backend) -> FloatArray:
        if horizon <= self.horizon or not self._reads(group.values.shape[1], group.mask):
            return super()._points(group, horizon, backend)
        first = super()._points(group, self.horizon, backend)
        return np.concatenate([first, self._further(group, first, horizon, backend)], axis=1)

    def _further(
        self, group: ContextGroup, first: FloatArray, horizon: int, backend: Backend
    ) -> FloatArray:
        """Go on from the first block, up to a horizon."""
        n, windows, blocks = self.lookback, group.values, [first]
        while sum(block.shape[1] for block in blocks) < horizon:
            windows = np.concatenate([windows, blocks[-1]], axis=1)[:, -n:]
            after = super()._points(group._replace(values=windows), self.horizon, backend)
            blocks.append(clamped(after, windows, _CLAMP))
        return np.concatenate(blocks, axis=1)[:, first.shape[1] : horizon]

    def _details(
        self, group: ContextGroup, horizon: int, backend: Backend, *, spreads: bool = True
    ) -> Predictive:
        n = group.values.shape[1]
        if not self._reads(n, group.mask):
            return super()._details(group, horizon, backend, spreads=spreads)
        near = min(horizon, self.horizon)
        found = super()._details(group, near, backend, spreads=spreads)
        if spreads:
            steps = np.arange(near)
            relative = np.broadcast_to(self.relative_error, (self.horizon,))[steps]
            found = found._replace(spreads=found.spreads * relative)
        if near == horizon:
            return found
        # further steps have one forecast
        first = np.einsum("re,reh->rh", found.weights, found.means)
        further = self._further(group, first, horizon, backend)[:, None]
        many = np.broadcast_to(further, (*found.means.shape[:2], further.shape[2]))
        means = np.concatenate([found.means, many], axis=2)
        if not spreads:
            return found._replace(means=means)
        spread = np.concatenate([found.spreads, _grown(found.spreads, further.shape[2])], axis=2)
        return found._replace(means=means, spreads=spread)

    def _weighed(
        self,
        bank: ExpertBank,
        values: FloatArray,
        mask: npt.NDArray[np.bool_] | None,
        backend: Backend,
    ) -> tuple[FloatArray, FloatArray | None]:
        assert self.fixed is not None
        assert self.fixed.gate is not None
        tested = any(e.kind == "backtest" for e in self.fixed.gate.evidence)
        if bank is not self.bank or tested or not self._reads(values.shape[1], mask):
            return super()._weighed(bank, values, mask, backend)
        mixture = self._mixture(bank, values.shape[1], 1)
        return predict_windows(mixture, values[:, None], backend, scores=True)[1][:, 0], None


def _grown(spreads: FloatArray, n_steps: int) -> FloatArray:
    """Let variances (r, E, H) grow further as they did over the last half of the horizon."""
    horizon = spreads.shape[2]
    variance = spreads**2
    before = horizon - 1 - horizon // 2
    slope = (variance[:, :, -1] - variance[:, :, before]) / max(1, horizon // 2)
    ahead = np.arange(1, n_steps + 1)
    grown = variance[:, :, -1:] + np.maximum(slope, 0.0)[:, :, None] * ahead
    return np.asarray(np.sqrt(grown))
