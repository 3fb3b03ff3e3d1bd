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

FOLDER = Path(__file__).resolve().parent / "models"
CHANNELS = 5
TRAIN = 24 * 7 * 8

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


def fit(cls, parameters, level):
    return cls(**parameters).fit(series(level)[:TRAIN])


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, (cls, parameters, level) in FILES.items():
        fit(cls, parameters, level).save(FOLDER / f"{name}.safetensors")


if __name__ == "__main__":
    main()
