"""A refit at every one of many origins, and how far it is from independent fits.

Run alone on the machine, with OMP_NUM_THREADS set::

    OMP_NUM_THREADS=2 python benchmarks/rolling.py [--origins 1000] [--jobs 1]

ETTh1 is read from MIXLIN_DATA_HOME, its training and validation rows alone; without it a synthetic
series of the same shape is used. Differences are in standard deviations of the channels.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.base import clone
from timing import timed

from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.backtesting import rolling_backtest
from mixlin.datasets import fetch_ett, make_seasonal
from mixlin.solvers import SeasonalPrior

LOOKBACK, HORIZON, INITIAL = 336, 96, 8640

SEASONAL = {"prior": SeasonalPrior(24), "alpha": 1.0}
CASES: dict[str, tuple[type[Any], dict[str, Any], int | None]] = {
    "Linear": (LinearForecaster, {}, None),
    "NLinear": (NLinearForecaster, {}, None),
    "DLinear": (DLinearForecaster, {}, None),
    "RLinear": (RLinearForecaster, {}, None),
    "NLinear, the last 4320 rows": (NLinearForecaster, {}, 4320),
    "NLinear, seasonal prior": (NLinearForecaster, SEASONAL, None),
    "NLinear, forgetting over 2000 rows": (
        NLinearForecaster,
        {"solver": ExactSolver(forgetting=2000)},
        None,
    ),
    "NLinear, forgetting over a share": (
        NLinearForecaster,
        {"solver": ExactSolver(forgetting=0.3)},
        None,
    ),
    "NLinear, individual": (NLinearForecaster, {"individual": True}, None),
    "NLinear, partial": (NLinearForecaster, {"individual": "partial"}, None),
}


def rows(n_rows: int) -> tuple[str, np.ndarray]:
    try:
        name, series = "ETTh1", fetch_ett("ETTh1", download_if_missing=False).data
    except OSError:
        name, series = "synthetic", make_seasonal(n_rows, 7, random_state=0).data
    return name, series[:n_rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--origins", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sample", type=int, default=8, help="origins fitted independently")
    options = parser.parse_args()
    name, series = rows(INITIAL + options.origins + HORIZON - 1)
    print(
        f"{name}, {series.shape[1]} channels, {LOOKBACK} -> {HORIZON}, first fit on {INITIAL} rows"
    )
    print(f"{options.origins} origins, {options.jobs} thread(s) over origins")
    print(f"{'model':<36} seconds  a fit by itself, all origins  largest difference")
    scale = series.std(axis=0)
    for label, (kind, params, window) in CASES.items():
        model = kind(LOOKBACK, HORIZON, **params)
        found = rolling_backtest(model, series, initial=INITIAL, window=window, n_jobs=options.jobs)
        sample = np.linspace(0, options.origins - 1, options.sample).astype(int)
        largest, seconds = 0.0, 0.0
        for i in sample:
            origin = int(found.origins[i])
            start = 0 if window is None else origin - window
            made = clone(model)
            seconds += timed(lambda m=made, a=start, b=origin: m.fit(series[a:b]))
            gap = np.abs(made.predict() - found.forecasts[i]) / scale
            largest = max(largest, float(gap.max()))
        whole = seconds / len(sample) * options.origins
        print(f"{label:<36} {found.seconds:7.1f}  {whole:28.1f}  {largest:18.1e}", flush=True)


if __name__ == "__main__":
    main()
