"""A gate on the window's spectrum, which costs one transform and one product."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save_file

from ..gates import Gate
from ..periodograms import PeriodogramRouter, short_spectral_layer
from .bank import ExpertBank, default_bank
from .gating import GATES, ExpertGate
from .predictors import BankMatrices

FloatArray = npt.NDArray[np.float64]

GATE_FILE = Path(__file__).with_name("spectral_gate.safetensors")
_FORMAT = "mixlin spectral gate 1"


@dataclass(frozen=True, eq=False, repr=False)
class SpectralWeights:
    """What a spectral gate has learnt: how much every expert gains from power at a frequency.

    Parameters
    ----------
    weight : array of shape (E, F)
        Added to an expert's logit by all of the window's power at frequency ``k / (2 F)``, in
        cycles per step, for ``k = 0 ... F - 1``.
    bias : array of shape (E,)
    names : tuple of str
        Of the experts.

    Raises
    ------
    ValueError
        If shapes don't fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import SpectralWeights
    >>> SpectralWeights(np.zeros((2, 64)), np.zeros(2), ("mean", "naive")).padded_length
    128
    """

    weight: FloatArray
    bias: FloatArray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.weight.ndim != 2 or len(self.weight) != n or self.bias.shape != (n,):
            raise ValueError(
                f"a spectral gate of {n} experts has a weight of shape ({n}, n_bins) and a bias of "
                f"shape ({n},); got {self.weight.shape} and {self.bias.shape}."
            )

    def __repr__(self) -> str:
        # a gate's parameters are told apart by how they print
        content = hashlib.sha256(np.ascontiguousarray(self.weight).tobytes())
        content.update(np.ascontiguousarray(self.bias).tobytes() + "\n".join(self.names).encode())
        n_bins = self.weight.shape[1]
        return (
            f"SpectralWeights({len(self.names)} experts, {n_bins} bins, {content.hexdigest()[:16]})"
        )

    @property
    def padded_length(self) -> int:
        """Samples of the padded window whose periodogram the weights are for."""
        return 2 * int(self.weight.shape[1])

    def of(self, names: list[str]) -> SpectralWeights:
        """Return the weights of some of the experts, in the order given.

        Parameters
        ----------
        names : list of str

        Raises
        ------
        ValueError
            If the gate has not learnt one of them.
        """
        known = {name: i for i, name in enumerate(self.names)}
        strangers = [name for name in names if name not in known]
        if strangers:
            raise _refused(strangers)
        places = [known[name] for name in names]
        return SpectralWeights(self.weight[places], self.bias[places], tuple(names))

    def at(self, lookback: int) -> tuple[FloatArray, int]:
        """Return the weights on the bins of a window padded long enough.

        Parameters
        ----------
        lookback : int

        Returns
        -------
        weight : array of shape (E, padded_length / 2)
            Between bins of the shorter transform where the window is longer than that allows.
        padded_length : int
        """
        n_bins = self.weight.shape[1]
        finer = -(-lookback // n_bins)
        if finer <= 1:
            return self.weight, 2 * n_bins
        places = np.arange(n_bins * finer) / finer
        weight = np.stack([np.interp(places, np.arange(n_bins), row) for row in self.weight])
        return weight, 2 * n_bins * finer

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that :meth:`load` reads, in float32.

        Parameters
        ----------
        path : str or path
        """
        tensors = {
            "weight": np.ascontiguousarray(self.weight, dtype=np.float32),
            "bias": np.ascontiguousarray(self.bias, dtype=np.float32),
        }
        save_file(tensors, path, {"format": _FORMAT, "names": json.dumps(self.names)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SpectralWeights:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ValueError
            If the file is none, or damaged.
        """
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != _FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}, not {_FORMAT!r}")
                names = tuple(str(name) for name in json.loads(about["names"]))
                weight, bias = (
                    np.asarray(file.get_tensor(name), dtype=np.float64)
                    for name in ("weight", "bias")
                )
            return cls(weight, bias, names)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise ValueError(
                f"{os.fspath(path)} is no file of a spectral gate: {error}. Write one with "
                "SpectralWeights.save."
            ) from error


def _refused(strangers: list[str]) -> ValueError:
    more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
    return ValueError(
        f"the spectral gate was not fitted for the expert {strangers[0]!r}{more}. Use "
        "gate=BacktestGate(), which serves any bank, or training='router', which fits a spectral "
        "gate for this one."
    )


@lru_cache(maxsize=1)
def shipped_weights() -> SpectralWeights:
    """Return the spectral gate of the default bank.

    It was fitted to simulated series, on which it imitates :class:`BacktestGate`.

    Returns
    -------
    SpectralWeights

    Examples
    --------
    >>> from mixlin.experts.spectral_gate import shipped_weights
    >>> len(shipped_weights().names)
    127
    """
    weights = SpectralWeights.load(GATE_FILE)
    weights.weight.flags.writeable = False
    return weights


def shipped_for(bank: ExpertBank) -> SpectralWeights:
    """Return the shipped gate for a bank of experts of the default one.

    Parameters
    ----------
    bank : ExpertBank

    Raises
    ------
    ValueError
        If the bank has other experts.
    """
    known = {expert.name: expert for expert in default_bank()}
    strangers = [expert.name for expert in bank if known.get(expert.name) != expert]
    if strangers:
        raise _refused(strangers)
    return shipped_weights().of(bank.names)


@dataclass(eq=False, repr=False)
class SpectralGate(ExpertGate):
    """Weigh every expert by the window's spectrum: logits linear in the normalized periodogram.

    Back-tests cost as much as a forecast of every expert; this costs a Fourier transform and one
    product. What it can't see is the order of things: a jump, a trend, and how fast a season
    changes, but for what these do to the spectrum.

    Windows of up to half of the padded length the weights are for (1024 values for those that come
    with the package) are transformed as they are. For longer ones, the weights are read off at
    frequencies as much finer, so that all values count.

    Parameters
    ----------
    weights : SpectralWeights, optional
        Those that come with the package by default, which know the experts of
        :func:`mixlin.experts.default_bank`, and no others.

    Examples
    --------
    >>> from mixlin.experts import BankMatrices, SpectralGate, default_bank
    >>> matrices = BankMatrices(default_bank()[:3])
    >>> SpectralGate().gate(matrices, lookback=32, horizon=8).n_experts
    3
    """

    weights: SpectralWeights | None = None

    comparable: ClassVar[bool] = False

    def check(self) -> None:
        if self.weights is not None and not isinstance(self.weights, SpectralWeights):
            raise ValueError(
                "weights of SpectralGate must be SpectralWeights, or None for those of the "
                f"default bank; got {self.weights!r}."
            )

    def weights_for(self, bank: ExpertBank) -> SpectralWeights:
        """Return the weights of a bank's experts.

        Parameters
        ----------
        bank : ExpertBank

        Raises
        ------
        ValueError
            If the gate was not fitted for one of them.
        """
        return shipped_for(bank) if self.weights is None else self.weights.of(bank.names)

    def gate(
        self, matrices: BankMatrices, lookback: int, horizon: int, top_k: int | None = None
    ) -> Gate:
        own = self.weights_for(matrices.bank)
        weight, padded_length = own.at(lookback)
        layer = short_spectral_layer(weight, own.bias, lookback, padded_length)
        some = None if top_k is None or top_k >= len(own.names) else top_k
        return Gate(PeriodogramRouter(padded_length), (layer,), some)


GATES["spectral"] = SpectralGate
