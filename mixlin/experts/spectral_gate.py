"""A gate on the window's spectrum, which costs one transform and one product."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save_file

from ..gates import Gate
from ..periodograms import PeriodogramRouter, normalized_periodogram, short_spectral_layer
from .bank import ExpertBank, default_bank
from .gating import GATES, ExpertGate
from .predictors import BankMatrices

FloatArray = npt.NDArray[np.float64]

GATE_FILE = Path(__file__).with_name("spectral_gate.safetensors")
LONGEST_WAVE = 4096  # steps
_PADDED_LENGTH = 2048  # of short windows
_RESOLUTION = 33  # weights stand this share of their frequency apart, but not closer than bins
_FORMAT = "mixlin spectral gate 1"
_BLOCK_VALUES = 2**22  # of padded windows that are transformed at a time


def gate_frequencies(longest_wave: int = LONGEST_WAVE) -> FloatArray:
    """Return the frequencies that a spectral gate has weights for.

    They are multiples of the lowest one, and from some point on a share of their frequency apart:
    seasons of many steps need not be told apart as closely by their overtones.

    Parameters
    ----------
    longest_wave : int, default=4096
        In steps; even.

    Returns
    -------
    array of shape (K,)
        In cycles per step, increasing from 0 to one half.

    Examples
    --------
    >>> from mixlin.experts.spectral_gate import gate_frequencies
    >>> gate_frequencies().size, (1 / gate_frequencies()[[1, -1]]).tolist()
    (173, [4096.0, 2.0])
    """
    multiples, last = [0.0], longest_wave / 2
    while multiples[-1] < last:
        multiples.append(min(multiples[-1] + max(1.0, multiples[-1] / _RESOLUTION), last))
    return np.array(multiples) / longest_wave


def _tents(frequencies: FloatArray, padded_length: int) -> FloatArray:
    """Return the shares (n_bins, K) of bins of a padded window that frequencies answer for."""
    bins = np.arange(padded_length // 2) / padded_length
    after = np.clip(np.searchsorted(frequencies, bins, side="right"), 1, len(frequencies) - 1)
    share = (bins - frequencies[after - 1]) / (frequencies[after] - frequencies[after - 1])
    tents = np.zeros((len(bins), len(frequencies)))
    rows = np.arange(len(bins))
    tents[rows, after - 1] = 1.0 - share
    tents[rows, after] = share
    return tents


def _padded(lookback: int) -> int:
    """Return how many samples a window is padded to: twice its length, and 2048 at least."""
    return _PADDED_LENGTH * max(1, -(-2 * lookback // _PADDED_LENGTH))


def spectral_features(rows: FloatArray, frequencies: FloatArray) -> FloatArray:
    """Return the shares of power at frequencies, between which bins are shared out.

    Parameters
    ----------
    rows : array of shape (N, length)
    frequencies : array of shape (K,)

    Returns
    -------
    array of shape (N, K)
        They sum to one; zeros for a row that is constant.
    """
    padded_length = _padded(rows.shape[1])
    tents = _tents(frequencies, padded_length)
    blocks = np.array_split(rows, max(1, rows.shape[0] * padded_length // _BLOCK_VALUES))
    return np.concatenate([normalized_periodogram(b, padded_length) @ tents for b in blocks])


@dataclass(frozen=True, eq=False, repr=False)
class SpectralWeights:
    """What a spectral gate has learnt: how much every expert gains from power at a frequency.

    Parameters
    ----------
    weight : array of shape (E, K)
        Added to an expert's logit by all of the window's power at a frequency; linear in between.
    bias : array of shape (E,)
    names : tuple of str
        Of the experts.
    frequencies : array of shape (K,)
        In cycles per step, increasing from 0 to one half.

    Raises
    ------
    ValueError
        If shapes don't fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import SpectralWeights
    >>> low = np.array([[1.0, 0.0], [0.0, 0.0]])  # the first expert is for slow waves
    >>> SpectralWeights(low, np.zeros(2), ("mean", "naive"), np.array([0.0, 0.5])).of(["naive"])
    SpectralWeights(1 expert, 2 frequencies, ...)
    """

    weight: FloatArray
    bias: FloatArray
    names: tuple[str, ...]
    frequencies: FloatArray = field(default_factory=gate_frequencies)

    def __post_init__(self) -> None:
        n, k = len(self.names), len(self.frequencies)
        if self.weight.shape != (n, k) or self.bias.shape != (n,):
            raise ValueError(
                f"a spectral gate of {n} experts and {k} frequencies has a weight of shape "
                f"({n}, {k}) and a bias of shape ({n},); got {self.weight.shape} and "
                f"{self.bias.shape}."
            )
        ends = self.frequencies[[0, -1]].tolist() if k > 1 else None
        if ends != [0.0, 0.5] or not (np.diff(self.frequencies) > 0).all():
            raise ValueError("frequencies must increase from 0 to 0.5 cycles per step.")

    def __repr__(self) -> str:
        # parameters of gates are told apart by how they print
        content = hashlib.sha256("\n".join(self.names).encode())
        for array in (self.weight, self.bias, self.frequencies):
            content.update(np.ascontiguousarray(array).tobytes())
        n = len(self.names)
        return (
            f"SpectralWeights({n} expert{'s' if n > 1 else ''}, {len(self.frequencies)} "
            f"frequencies, {content.hexdigest()[:16]})"
        )

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
        return replace(self, weight=self.weight[places], bias=self.bias[places], names=tuple(names))

    def gate(self, lookback: int, top_k: int | None = None) -> Gate:
        """Return the gate for windows of a length.

        Parameters
        ----------
        lookback : int
        top_k : int, optional
            Experts that get weight; all by default.
        """
        padded_length = _padded(lookback)
        weight = self.weight @ _tents(self.frequencies, padded_length).T
        layer = short_spectral_layer(weight, self.bias, lookback, padded_length)
        some = None if top_k is None or top_k >= len(self.names) else top_k
        return Gate(PeriodogramRouter(padded_length), (layer,), some)

    def save(self, path: str | os.PathLike[str], made_for: str = "") -> None:
        """Write a file that :meth:`load` reads, weight and bias in float32.

        Parameters
        ----------
        path : str or path-like
        made_for : str, default=""
            Kept in the file's metadata, under this name.
        """
        tensors: dict[str, npt.NDArray[Any]] = {
            "weight": np.ascontiguousarray(self.weight, dtype=np.float32),
            "bias": np.ascontiguousarray(self.bias, dtype=np.float32),
            "frequencies": np.ascontiguousarray(self.frequencies),
        }
        about = {"format": _FORMAT, "names": json.dumps(self.names), "made_for": made_for}
        save_file(tensors, path, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SpectralWeights:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like

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
                weight, bias, frequencies = (
                    np.asarray(file.get_tensor(name), dtype=np.float64)
                    for name in ("weight", "bias", "frequencies")
                )
            return cls(weight, bias, names, frequencies)
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

    Windows are padded to twice their length, and to 2048 values at least. Weights are a function of
    the frequency, so that one gate serves windows of any length; all their values count.

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
        return self.weights_for(matrices.bank).gate(lookback, top_k)


GATES["spectral"] = SpectralGate
