"""How long zero-shot forecasts take: cold, one window, many series.

    OMP_NUM_THREADS=2 python benchmarks/zero_shot_speed.py [cold] [bank] [window] [series]

cold    a fresh interpreter: import mixlin, and the first forecast of 96 steps
bank    the matrices of the default bank, 1024 and 2048 values -> 96 steps, nothing kept
window  one window, 96 steps, through predict; published weights: benchmarks/superlinear_speed.py
series  10 000 series of 1000 values, 48 steps, through mixlin.forecast: of the simulated families,
        whose periods are found on the way
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import mixlin
from benchmarks.families import training
from mixlin.experts import BankMatrices, default_bank, detect_periods

COLD = """
import time
began = time.perf_counter()
import numpy as np
import mixlin
loaded = time.perf_counter()
x = np.sin(np.arange(2048) / 24) + np.random.default_rng(0).normal(size=2048) / 10
mixlin.forecast(x, 96)
done = time.perf_counter()
print(loaded - began, done - loaded)
"""


def quartiles(seconds: list[float]) -> str:
    low, middle, high = np.percentile(np.array(seconds) * 1e3, [25, 50, 75])
    return f"{middle:.3g} ms ({low:.3g} to {high:.3g})"


def timed(call: Callable[[], Any], repeats: int) -> list[float]:
    out = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        out.append(time.perf_counter() - began)
    return out


def cold() -> None:
    found = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", COLD], check=True, capture_output=True, text=True
        )
        found.append([float(part) for part in done.stdout.split()])
    loading, first = np.median(np.array(found), axis=0)
    print(f"cold: import {loading:.2f} s, first forecast {first:.2f} s, {loading + first:.2f} s")


def bank() -> None:
    for lookback in (1024, 2048):
        made = timed(lambda n=lookback: BankMatrices(default_bank()).predictors(n, 96), 5)
        print(f"bank: 127 experts, {lookback} -> 96: {quartiles(made)}")


def window() -> None:
    rng = np.random.default_rng(0)
    for lookback in (1024, 2048):
        x = np.sin(np.arange(lookback) / 24) + rng.normal(size=lookback) / 10
        model = mixlin.SuperLinearForecaster(lookback=lookback, horizon=96).fit(x)
        model.predict()
        print(f"window: default bank, {lookback} -> 96: {quartiles(timed(model.predict, 101))}")


def series() -> None:
    data = training.make_families(7, 10_000, 1000).data
    found = detect_periods(data[:, -960:], default_bank().periods)
    mixlin.forecast(list(data[:4]), 48)
    began = time.perf_counter()
    mixlin.forecast(list(data), 48)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"series: 10 000 x 1000 -> 48 in {seconds:.1f} s; {len(np.unique(found)) - 1} periods "
        f"found in {np.count_nonzero(found)} of them; peak of the process {peak:.2f} GiB"
    )


TASKS = {"cold": cold, "bank": bank, "window": window, "series": series}

if __name__ == "__main__":
    for name in sys.argv[1:] or TASKS:
        TASKS[name]()
