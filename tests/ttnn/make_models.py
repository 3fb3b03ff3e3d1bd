"""The fitted models of the ttnn tests; ``python -m tests.ttnn.make_models`` writes the files.

Models are mostly fitted where ttnn can't be installed. The files of ``models`` were written by
CPython 3.11 with NumPy 2 and are read by the tests with whatever ttnn needs.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

import mixlin
from mixlin.datasets import make_seasonal
from mixlin.routing import CalendarRouter, StatisticsRouter
from mixlin.solvers import AlternatingSolver, FixedGatesSolver

FOLDER = Path(__file__).resolve().parent / "models"
CHANNELS = 5
TRAIN = 24 * 7 * 8

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2020-01-01T00", "ns")  # of the series

# name of the file: class, parameters, and how many spreads the series is away from zero
FILES = {
    "linear": (mixlin.LinearForecaster, {"lookback": 96, "horizon": 96}, 0.0),
    "nlinear": (mixlin.NLinearForecaster, {"lookback": 336, "horizon": 48}, 1e3),
    "dlinear": (
        mixlin.DLinearForecaster,
        {"lookback": 96, "horizon": 96, "normalization": "mean"},
        1e6,
    ),
    "rlinear": (
        mixlin.RLinearForecaster,
        {"lookback": 96, "horizon": 96, "fit_intercept": True},
        1e3,
    ),
    "channels": (
        mixlin.DLinearForecaster,
        {"lookback": 96, "horizon": 24, "individual": True},
        0.0,
    ),
}


def mixture(level, n_experts=3, **parameters):
    """Return an entry of MIXTURES: as many experts as asked for, whether they pay or not."""
    solver = AlternatingSolver(0.1, fewer_experts=False, n_iter=3)
    given = {"lookback": 96, "horizon": 24, "solver": solver, "random_state": 0}
    return mixlin.MoLEForecaster, {**given, "n_experts": n_experts, **parameters}, level


# the same of mixtures, by what their gates are
MIXTURES = {
    "mole_calendar": mixture(1e3, 4, router="calendar"),
    "mole_reference": mixture(
        0.0, 4, router=CalendarRouter("first", encoding="reference", hidden=16)
    ),
    "mole_steps": mixture(1e6, router=CalendarRouter("horizon")),
    "mole_statistics": mixture(1e6, 4, router="statistics"),
    "mole_channels": mixture(1e3, router=StatisticsRouter(hidden=None, per_channel=True)),
    "mole_spectral": mixture(1e3, router="spectral", base="nlinear"),
    "mole_periodic": mixture(1e3, solver=FixedGatesSolver(strength=0.1, fewer_experts=False)),
    "mole_top2": mixture(0.0, 4, router="calendar", top_k=2),
    "mole_revin": mixture(1e6, router="calendar", base="rlinear"),
    "mole_partial": mixture(0.0, router="calendar", individual="partial"),
}


@functools.cache
def series(level=0.0):
    """Return loads of a spread of 1, ``level`` away from zero; the last channel is small."""
    data = make_seasonal(TRAIN + 24 * 7 * 4, CHANNELS, random_state=0).data
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    data[:, -1] *= 0.1
    data += level
    data.flags.writeable = False
    return data


def windows(level, lookback, stride=29):
    """Return windows (n, lookback, channels) that no model was fitted on."""
    test = series(level)[TRAIN:]
    found = np.lib.stride_tricks.sliding_window_view(test, lookback, axis=0)[::stride]
    return np.ascontiguousarray(found.transpose(0, 2, 1))


def first_steps(n, stride=29):
    """Return the times of the first steps of ``windows``, shape (n,)."""
    return START + HOUR * (TRAIN + stride * np.arange(n))


def fit(cls, parameters, level):
    times = {"timestamps": START + HOUR * np.arange(TRAIN)} if cls is mixlin.MoLEForecaster else {}
    return cls(**parameters).fit(series(level)[:TRAIN], **times)


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, (cls, parameters, level) in (FILES | MIXTURES).items():
        fit(cls, parameters, level).save(FOLDER / f"{name}.safetensors")


if __name__ == "__main__":
    main()
