"""The models of the hardware benchmark, and the windows that they forecast."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

import mixlin
from mixlin.backends import Backend
from mixlin.base.registry import FORECASTERS
from mixlin.datasets import make_seasonal
from mixlin.layers import Layer
from mixlin.mixture import Mixture, predict_windows
from mixlin.normalization import Normalization
from mixlin.routing import CalendarRouter, Gate, Router, StatisticsRouter
from mixlin.solvers import AlternatingSolver, FixedGatesSolver

TRAIN = 24 * 125
FITTED_CHANNELS = 7
LONGEST_BY_STEP = 96  # a gate per step is fitted step by step

# gates of MoLEForecaster: as many experts as asked for, whether they pay or not
ALTERNATING = AlternatingSolver(0.1, fewer_experts=False, n_iter=3)
FIXED = FixedGatesSolver(strength=0.1, fewer_experts=False)
REFERENCE = CalendarRouter("first", encoding="reference", hidden=16)
GATES: dict[str, dict[str, Any]] = {
    "calendar": {"router": "calendar"},
    "as in MoLE": {"router": REFERENCE},
    "fixed": {"solver": FIXED},
    "statistics": {"router": StatisticsRouter(hidden=8)},
    "top 2": {"router": "calendar", "top_k": 2},
    "RevIN": {"router": "calendar", "base": "rlinear"},
    "by step": {"router": CalendarRouter("horizon")},
}


@dataclass(frozen=True)
class FirstMark(Router):
    """The calendar at the window's first row, one feature in [-0.5, 0.5] per unit."""

    def features(
        self, windows: np.ndarray, timestamps: np.ndarray | None, horizon: int
    ) -> np.ndarray:
        hours = timestamps[:, 0].astype("datetime64[h]").astype(int)
        days = hours // 24
        first = timestamps[:, 0].astype("datetime64[Y]").astype("datetime64[D]").astype(int)
        units = ((hours % 24, 23), (days % 7, 6), (days % 30, 29), (days - first, 365))
        return np.stack([value / top - 0.5 for value, top in units], axis=1)[:, None, :]


class Data(NamedTuple):
    """Test windows (n, C, L), what followed them (n, C, H), and stamps (n, L + H)."""

    windows: np.ndarray
    targets: np.ndarray
    stamps: np.ndarray

    def first(self, n: int) -> Data:
        return Data(self.windows[:n], self.targets[:n], self.stamps[:n])


class Case(NamedTuple):
    """A model: its forward pass as data, and how a user would call it."""

    name: str
    gate: str
    mixture: Mixture
    data: Data
    forecast: Callable[[Data, Backend], np.ndarray]


@lru_cache(maxsize=4)
def series(n_channels: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    load = make_seasonal(n_rows, n_channels, random_state=0)
    train = load.data[:TRAIN]
    return (load.data - train.mean(axis=0)) / train.std(axis=0), load.index


def test_data(n_channels: int, lookback: int, horizon: int, n: int, level: float) -> Data:
    steps = 7  # hours between windows, so that a few of them see all hours of the day
    width = lookback + horizon
    values, index = series(n_channels, TRAIN + 3000)
    starts = TRAIN + steps * np.arange(n)
    if starts[-1] + width > len(values):
        raise SystemExit(f"{n} windows are more than the synthetic series holds.")
    both = np.stack([values[s : s + width].T for s in starts]) + level
    stamps = np.stack([index[s : s + width] for s in starts])
    return Data(np.ascontiguousarray(both[:, :, :lookback]), both[:, :, lookback:], stamps)


def of_estimator(name: str, estimator: Any, data: Data) -> Case:
    def forecast(given: Data, backend: Backend) -> np.ndarray:
        estimator.set_params(backend=backend)
        return estimator.predict(given.windows.transpose(0, 2, 1)).transpose(0, 2, 1)

    mixture = estimator.plan_.mixture(estimator.lookback_, estimator.horizon_)
    return Case(name, "-", mixture, data, forecast)


def fitted(name: str, data: Data, level: float) -> Case:
    _, n_channels, lookback = data.windows.shape
    values, _ = series(n_channels, TRAIN + 3000)
    estimator = FORECASTERS[name](lookback, data.targets.shape[2])
    return of_estimator(
        name.removesuffix("Forecaster"), estimator.fit(values[:TRAIN] + level), data
    )


@lru_cache(maxsize=32)
def expert(lookback: int, horizon: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (L, H) and bias (H,): a fit, moved a little in a direction of its own."""
    values, _ = series(7, TRAIN + 3000)
    model = mixlin.LinearForecaster(lookback, horizon, normalization="mean", scale=None)
    found = model.fit(values[:TRAIN]).plan_.mixture(lookback, horizon)
    own = np.random.default_rng(number).normal(size=(lookback, horizon))
    return found.weights[0, 0] + 0.2 * own / math.sqrt(lookback), found.bias[:, 0].mean(axis=0)


def mixture_of(n_experts: int, by_channel: bool, data: Data) -> Case:
    """Make experts and a gate of two layers, one for all channels or the last per channel."""
    _, n_channels, lookback = data.windows.shape
    horizon = data.targets.shape[2]
    both = [expert(lookback, horizon, e) for e in range(n_experts)]
    rng = np.random.default_rng(n_channels)
    groups = n_channels if by_channel else 1
    hidden = (n_channels if by_channel else 4) * n_experts
    layers = (
        Layer(2 * rng.normal(size=(1, 4, hidden)), rng.normal(size=(1, hidden)), "relu"),
        Layer(
            rng.normal(size=(groups, hidden, n_experts)) * 2 / math.sqrt(hidden),
            rng.normal(size=(groups, n_experts)),
        ),
    )
    mixture = Mixture(
        np.stack([weights for weights, _ in both])[None],
        bias=np.stack([bias for _, bias in both])[None],
        normalization=Normalization("mean"),
        gate=Gate(FirstMark(), layers),
    )

    def forecast(given: Data, backend: Backend) -> np.ndarray:
        return predict_windows(mixture, given.windows, backend, timestamps=given.stamps)

    gate = "per channel" if by_channel else "shared"
    return Case(f"mixture of {n_experts}", gate, mixture, data, forecast)


@lru_cache(maxsize=32)
def fitted_mixture(gate: str, n_experts: int, lookback: int, horizon: int, level: float) -> Mixture:
    values, index = series(FITTED_CHANNELS, TRAIN + 3000)
    parameters = {"solver": ALTERNATING, "random_state": 0, **GATES[gate]}
    model = mixlin.MoLEForecaster(lookback, horizon, n_experts=n_experts, **parameters)
    model.fit(values[:TRAIN] + level, timestamps=index[:TRAIN])
    return model.plan_.mixture()


def mole(gate: str, n_experts: int, data: Data, level: float) -> Case:
    """Take a fitted mixture; more channels have levels and biases of the fitted ones in turn."""
    _, n_channels, lookback = data.windows.shape
    mixture = fitted_mixture(gate, n_experts, lookback, data.targets.shape[2], level)
    turns = np.arange(n_channels) % FITTED_CHANNELS

    def of_channels(array: np.ndarray | None) -> np.ndarray | None:
        return array if array is None or len(array) == 1 else array[turns]

    normalization = replace(mixture.normalization, eps=np.mean(mixture.normalization.eps))
    mixture = replace(
        mixture,
        bias=of_channels(mixture.bias),
        reference=of_channels(mixture.reference),
        normalization=normalization,
    )

    def forecast(given: Data, backend: Backend) -> np.ndarray:
        return predict_windows(mixture, given.windows, backend, timestamps=given.stamps)

    return Case(f"MoLE of {n_experts}", gate, mixture, data, forecast)


def makers(experts: list[int], horizon: int) -> list[Callable[[Data, float], Case]]:
    """Return what makes a case from test data and the level it was raised by."""
    names = [name for name in mixlin.__all__ if name in FORECASTERS and "MoLE" not in name]
    made: list[Any] = [lambda data, level, n=name: fitted(n, data, level) for name in names]
    for by_channel in (False, True):
        for e in experts:  # mixtures keep only a mean level apart: any will do
            made.append(lambda data, level, e=e, b=by_channel: mixture_of(e, b, data))
    for gate in GATES:
        if gate != "by step" or horizon <= LONGEST_BY_STEP:
            for e in [e for e in experts if e > 1] if gate == "calendar" else [4]:
                made.append(lambda data, level, e=e, g=gate: mole(g, e, data, level))
    return made
