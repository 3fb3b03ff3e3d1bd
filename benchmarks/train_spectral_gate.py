"""Fit the spectral gate that comes with the package, on simulated series alone.

::

    python benchmarks/train_spectral_gate.py             # writes the file of the package
    python benchmarks/train_spectral_gate.py --check     # a small case against its kept result
    python benchmarks/train_spectral_gate.py --check-all # everything again, against that file

Series are those of benchmarks/families/training.py. Every expert of the default bank is back-tested
on contexts of several lengths; the gate learns, from the spectrum of a context, to weigh experts as
the back-test does. Ridge and exponent were chosen on other draws of the same families.

The checks compare weights, which must agree to one part in a million, and the experts that a fixed
set of series selects, which must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.families.training import FAMILIES, make_families
from mixlin.experts import BankMatrices, ExpertBank, default_bank
from mixlin.experts.gating import BacktestGate, backtest_scores
from mixlin.experts.spectral_gate import (
    GATE_FILE,
    LONGEST_WAVE,
    SpectralWeights,
    gate_frequencies,
    spectral_features,
)
from mixlin.solvers.spectral import fit_spectral_layer

FloatArray = np.ndarray

KEPT = Path(__file__).with_name("train_spectral_gate.safetensors")  # result of the small case
AGREEMENT = 1e-6  # of weights, as a share of the largest
TOP_K = 32
FIXED_SEED, FIXED_SERIES = 4321, 20 * len(FAMILIES)  # on which selections are compared
BLOCK = 500  # series that are back-tested at a time


@dataclass(frozen=True)
class Setting:
    """What the gate is fitted to.

    Parameters
    ----------
    seed : int
    per_family : int
        Series of each family.
    lengths : tuple of int
        Every series gives a context of each length: its newest values.
    horizon : int
        Folds are those of forecasts as far as this.
    longest_wave : int
        In steps, that the gate tells from a constant.
    ridge, exponent : float
    experts : tuple of str, optional
        Names; all of the default bank by default.
    """

    seed: int = 1234
    per_family: int = 300
    lengths: tuple[int, ...] = (48, 96, 192, 384, 768, 1024, 2048)
    horizon: int = 96
    longest_wave: int = LONGEST_WAVE
    ridge: float = 1e-7
    exponent: float = BacktestGate().exponent
    experts: tuple[str, ...] | None = None

    @property
    def bank(self) -> ExpertBank:
        return default_bank() if self.experts is None else default_bank().select(self.experts)

    @property
    def frequencies(self) -> FloatArray:
        return gate_frequencies(self.longest_wave)

    @property
    def digest(self) -> str:
        """Of all that the result depends on, but for the code: setting, experts and back-test."""
        told = (self, tuple(self.bank), BacktestGate().get_params())
        return hashlib.sha256(repr(told).encode()).hexdigest()


SMALL = Setting(
    per_family=8,
    lengths=(64, 128),
    longest_wave=256,
    ridge=1e-4,
    experts=tuple(default_bank().names[::8]),
)


def rows_of(setting: Setting) -> tuple[FloatArray, FloatArray]:
    """Return the spectra (N, K) of contexts and the errors (N, E) of back-tests on them."""
    n_series = setting.per_family * len(FAMILIES)
    longest = max(setting.lengths)
    series = make_families(setting.seed, n_series, longest).data
    matrices, gate = BankMatrices(setting.bank), BacktestGate()
    spectra, losses = [], []
    for length in setting.lengths:
        folds = gate.folds(length, setting.horizon)
        whole = np.ones(length, dtype=bool)
        for start in range(0, n_series, BLOCK):
            x = series[start : start + BLOCK, longest - length :]
            x = x - x.mean(axis=1, keepdims=True)
            spread = x.std(axis=1, keepdims=True)
            moving = spread[:, 0] > 1e-9 * np.abs(series[start : start + BLOCK]).max(axis=1)
            x = x[moving] / spread[moving]
            losses.append(backtest_scores(matrices, folds, gate.power, gate.floor, x, whole))
            spectra.append(spectral_features(x, setting.frequencies))
        report(f"back-tested {n_series} contexts of {length} values")
    return np.concatenate(spectra), np.concatenate(losses)


def fitted(setting: Setting) -> SpectralWeights:
    """Return the gate of a setting."""
    spectra, losses = rows_of(setting)
    bank = setting.bank
    weight, bias = fit_spectral_layer(
        spectra,
        losses,
        log_priors=np.array(bank.log_priors),
        exponent=setting.exponent,
        ridge=setting.ridge,
    )
    report(f"fitted to {len(spectra)} contexts")
    return SpectralWeights(weight.T, bias, tuple(bank.names), setting.frequencies)


def stored(weights: SpectralWeights) -> SpectralWeights:
    """Return weights as they come back from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gate.safetensors"
        weights.save(path)
        return SpectralWeights.load(path)


def selected(weights: SpectralWeights, lengths: Sequence[int]) -> FloatArray:
    """Return which experts (N, TOP_K) a fixed set of series selects, as sorted numbers."""
    k = min(TOP_K, len(weights.names) // 2)
    longest = max(lengths)
    series = make_families(FIXED_SEED, FIXED_SERIES, longest).data
    spectra = np.concatenate(
        [
            spectral_features(series[:, longest - length :], weights.frequencies)
            for length in lengths
        ]
    )
    logits = spectra @ weights.weight.T + weights.bias
    return np.sort(np.argsort(-logits, axis=1, kind="stable")[:, :k], axis=1)


def disagreements(
    found: SpectralWeights, kept: SpectralWeights, lengths: Sequence[int]
) -> list[str]:
    """Return what differs between two gates, in words."""
    if found.names != kept.names or found.weight.shape != kept.weight.shape:
        return [f"it is for {kept!r}, not for {found!r}"]
    told = []
    for name in ("weight", "bias"):
        a, b = getattr(found, name), getattr(kept, name)
        difference = np.abs(a - b).max() / np.abs(b).max()
        report(f"{name}: largest difference {difference:.1e} of the largest entry")
        if not difference <= AGREEMENT:
            told.append(f"{name} differs by {difference:.1e} of the largest entry")
    same = (selected(found, lengths) == selected(kept, lengths)).all(axis=1)
    report(f"same experts selected on {same.sum()} of {len(same)} contexts")
    if not same.all():
        told.append(f"{(~same).sum()} of {len(same)} contexts select other experts")
    return told


def report(line: str) -> None:
    print(f"{time.perf_counter() - BEGAN:6.1f} s  {line}", flush=True)


BEGAN = time.perf_counter()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fit a small case and compare")
    what.add_argument("--check-all", action="store_true", help="fit everything and compare")
    what.add_argument("--keep", action="store_true", help="write the small case's result")
    parser.add_argument("--output", type=Path, default=GATE_FILE)
    given = parser.parse_args(arguments)
    setting = SMALL if given.check or given.keep else Setting()
    weights = stored(fitted(setting))
    if given.check or given.check_all:
        kept = SpectralWeights.load(KEPT if given.check else given.output)
        told = disagreements(weights, kept, setting.lengths)
        for line in told:
            print(line, file=sys.stderr)
        return 1 if told else 0
    path = KEPT if given.keep else given.output
    weights.save(path, setting.digest)
    report(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
