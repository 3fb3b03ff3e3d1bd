"""Balancing: what keeps a gate from leaving experts without windows while it is trained."""

from __future__ import annotations

from abc import ABC
from numbers import Real
from typing import Any

from sklearn.base import BaseEstimator

Tensor = Any  # of torch; only its methods are used here


class Balancing(BaseEstimator, ABC):
    """What is added to the loss of a batch, or to its logits.

    Forecasting needs no balance for its own sake: the weight falls linearly to zero over the first
    ``decay`` share of the epochs.

    Parameters
    ----------
    weight : float
    decay : float or None
        Share of the epochs after which nothing is left; None keeps the weight.
    """

    weight: float
    decay: float | None

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        name = type(self).__name__
        if not isinstance(self.weight, Real) or not self.weight >= 0:
            raise ValueError(f"weight of {name} must not be negative; got {self.weight!r}.")
        if self.decay is not None and not 0 < self.decay <= 1:
            raise ValueError(f"decay of {name} must be None or in (0, 1]; got {self.decay!r}.")

    def weight_at(self, progress: float) -> float:
        """Return the weight after a share of the epochs.

        Parameters
        ----------
        progress : float
            Between 0 and 1.
        """
        if self.decay is None:
            return float(self.weight)
        return float(self.weight * max(0.0, 1.0 - progress / self.decay))

    def loss(self, logits: Tensor, gates: Tensor, chosen: Tensor, noise: float) -> Tensor | None:
        """Return what is added to the loss at weight one; None if nothing is.

        Parameters
        ----------
        logits : tensor of shape (R, E)
            Before noise and dropout, divided by the temperature.
        gates : tensor of shape (R, E)
            Weights that the batch was mixed with.
        chosen : bool tensor of shape (R, E)
            Which experts are among the top k.
        noise : float
            Standard deviation of what was added to the logits.
        """
        return None

    def shift(self, load: Tensor, progress: float) -> Tensor | None:
        """Return what is added to the logits for the choice of experts; None if nothing is.

        Parameters
        ----------
        load : tensor of shape (E,)
            Share of the last batch's choices that fell on every expert.
        progress : float
        """
        return None


def squared_variation(values: Tensor) -> Tensor:
    """Return the squared coefficient of variation of (E,) values: 0 where all are equal."""
    mean = values.mean()
    return ((values - mean) ** 2).mean() / (mean**2 + 1e-10)


class ImportanceLoss(Balancing):
    """Squared coefficient of variation of the experts' total gates [1]_.

    Parameters
    ----------
    weight : float, default=0.01
    decay : float or None, default=0.5

    References
    ----------
    .. [1] N. Shazeer et al., "Outrageously large neural networks: the sparsely-gated
       mixture-of-experts layer", ICLR 2017.

    Examples
    --------
    >>> from mixlin.solvers import ImportanceLoss
    >>> ImportanceLoss(weight=0.1).weight_at(0.25)
    0.05
    """

    def __init__(self, weight: float = 0.01, decay: float | None = 0.5) -> None:
        self.weight = weight
        self.decay = decay

    def loss(self, logits: Tensor, gates: Tensor, chosen: Tensor, noise: float) -> Tensor:
        return squared_variation(gates.sum(dim=0))


class LoadLoss(Balancing):
    """Squared coefficient of variation of how likely noise is to choose each expert [1]_.

    Needs a router with ``noise`` and a ``top_k`` below the number of experts.

    Parameters
    ----------
    weight : float, default=0.01
    decay : float or None, default=0.5

    References
    ----------
    .. [1] N. Shazeer et al., "Outrageously large neural networks: the sparsely-gated
       mixture-of-experts layer", ICLR 2017.
    """

    def __init__(self, weight: float = 0.01, decay: float | None = 0.5) -> None:
        self.weight = weight
        self.decay = decay

    def loss(self, logits: Tensor, gates: Tensor, chosen: Tensor, noise: float) -> Tensor:
        k = int(chosen[0].sum())
        if not noise > 0 or k >= logits.shape[1]:
            raise ValueError(
                "LoadLoss needs noise in the router and top_k below n_experts: without them every "
                "choice is certain. Set them, or use ImportanceLoss or SwitchLoss."
            )
        ordered = logits.sort(dim=1, descending=True).values
        # of the others, the k-th: one place further down for those that are among the first k
        threshold = (ordered[:, k : k + 1] * chosen) + (ordered[:, k - 1 : k] * ~chosen)
        likely = 0.5 * (1.0 + ((logits - threshold) / (noise * 2**0.5)).erf())
        return squared_variation(likely.sum(dim=0))


class SwitchLoss(Balancing):
    """Share of choices times mean probability, summed over experts: one at balance [1]_.

    Parameters
    ----------
    weight : float, default=0.01
    decay : float or None, default=0.5

    References
    ----------
    .. [1] W. Fedus, B. Zoph and N. Shazeer, "Switch transformers: scaling to trillion parameter
       models with simple and efficient sparsity", JMLR 23, 2022.
    """

    def __init__(self, weight: float = 0.01, decay: float | None = 0.5) -> None:
        self.weight = weight
        self.decay = decay

    def loss(self, logits: Tensor, gates: Tensor, chosen: Tensor, noise: float) -> Tensor:
        share = chosen.to(logits.dtype).mean(dim=0) / chosen[0].sum()
        return logits.shape[1] * (share * logits.softmax(dim=1).mean(dim=0)).sum()


class ZLoss(Balancing):
    """Mean squared log-sum-exp of the logits, which keeps them small [1]_.

    Parameters
    ----------
    weight : float, default=0.001
    decay : float or None, default=None

    References
    ----------
    .. [1] B. Zoph et al., "ST-MoE: designing stable and transferable sparse expert models",
       arXiv:2202.08906.
    """

    def __init__(self, weight: float = 0.001, decay: float | None = None) -> None:
        self.weight = weight
        self.decay = decay

    def loss(self, logits: Tensor, gates: Tensor, chosen: Tensor, noise: float) -> Tensor:
        return (logits.logsumexp(dim=1) ** 2).mean()


class LossFreeBias(Balancing):
    """A bias on the logits, for the choice of experts only, that follows their load [1]_.

    It moves by the weight per batch, against the load, and is taken back as the weight decays: what
    is fitted chooses without it. Matters with a ``top_k`` below the number of experts.

    Parameters
    ----------
    weight : float, default=0.001
    decay : float, default=0.5

    References
    ----------
    .. [1] L. Wang et al., "Auxiliary-loss-free load balancing strategy for mixture-of-experts",
       arXiv:2408.15664.
    """

    def __init__(self, weight: float = 0.001, decay: float = 0.5) -> None:
        self.weight = weight
        self.decay: float | None = decay
        self._bias: Tensor = None

    def shift(self, load: Tensor, progress: float) -> Tensor:
        if self._bias is None or len(self._bias) != len(load):
            self._bias = 0.0 * load
        self._bias = self._bias + self.weight * (load.mean() - load).sign()
        left = 1.0 if not self.weight else self.weight_at(progress) / self.weight
        return self._bias * left


BALANCINGS: dict[str, type[Balancing]] = {
    "importance": ImportanceLoss,
    "load": LoadLoss,
    "switch": SwitchLoss,
    "z": ZLoss,
    "loss-free": LossFreeBias,
}
"""What balancing may be called."""


def named_balancing(balancing: str | Balancing | None) -> Balancing | None:
    """Return the balancing of a solver's parameter.

    Parameters
    ----------
    balancing : {"importance", "load", "switch", "z", "loss-free"}, Balancing or None

    Raises
    ------
    ValueError
        For another name or type, or a parameter out of range.
    """
    if balancing is None:
        return None
    if isinstance(balancing, str) and balancing in BALANCINGS:
        return BALANCINGS[balancing]()
    if not isinstance(balancing, Balancing):
        raise ValueError(
            f"balancing must be None, one of {', '.join(map(repr, BALANCINGS))}, or an object such "
            f"as SwitchLoss(weight=0.01); got {balancing!r}."
        )
    balancing.check()
    return balancing
