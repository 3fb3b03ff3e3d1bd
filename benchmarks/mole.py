"""The long-horizon benchmark with mixtures of experts, the gain from mixing apart from pooling.

Run with the benchmark files in a folder that MIXLIN_DATA_HOME names::

    python benchmarks/mole.py [--data ETTh1] [--seeds 3] [--markdown FILE]

Nothing is chosen here. Lookbacks are those of the published tables (336; 104 on illness). Mixtures
are fitted by the benchmark's protocol: on the train span, with strength, number of experts and
epochs chosen on the validation span, the single expert among the candidates, and no refit. All
other settings are the defaults of mixlin, which were chosen on validation spans alone. Every test
window counts.

Rows: "single" is the exact DLinear with shared weights, "single, partial" the same with per-channel
corrections; "partial" behind a mixture means that its experts correct that one, so that rows with
the same pooling differ by mixing alone. In brackets the number of experts kept, seed by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixlin import DLinearForecaster, MoLEForecaster
from mixlin.backtesting import evaluate_ltsf
from mixlin.datasets import fetch_ett, fetch_exchange_rate, fetch_illness
from mixlin.solvers import FixedGatesSolver, GradientSolver

ETT, SHORT = (96, 192, 336, 720), (24, 36, 48, 60)
DATA = {
    "ETTh1": (lambda: fetch_ett("ETTh1"), 336, ETT),
    "ETTm1": (lambda: fetch_ett("ETTm1"), 336, ETT),
    "exchange_rate": (fetch_exchange_rate, 336, ETT),
    "national_illness": (fetch_illness, 104, SHORT),
}
PERIODS = {"h": "day", "15min": "day"}  # of fixed gates; the year for weekly data
# Figures of the reference that are confirmed, see the text beside the table.
PUBLISHED = {("ETTh1", 192): "0.453"}  # MoLE-DLinear; DLinear has .413


def models(period: str | None) -> Iterator[tuple[str, object, bool]]:
    """Yield name, estimator, and whether a seed matters; the period is that of fixed gates."""
    yield "single", DLinearForecaster(), False
    yield "single, partial", DLinearForecaster(individual="partial"), False
    yield "alternating, statistics (default)", MoLEForecaster(), True
    yield "alternating, statistics, partial", MoLEForecaster(individual="partial"), True
    if period is not None:
        yield "alternating, calendar", MoLEForecaster(router="calendar"), True
        solver = FixedGatesSolver(period)
        yield f"fixed gates, {period}", MoLEForecaster(n_experts=5, solver=solver), False
        yield (
            f"fixed gates, {period}, partial",
            MoLEForecaster(n_experts=5, solver=solver, individual="partial"),
            False,
        )
    yield "gradient, statistics", MoLEForecaster(solver=GradientSolver(max_epochs=10)), True


def spread(values: list[float]) -> str:
    mean = np.mean(values)
    if len(values) == 1 or np.ptp(values) < 5e-5:
        return f"{mean:.4f}"
    return f"{mean:.4f} ± {np.std(values, ddof=1):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", choices=list(DATA), help="all by default")
    parser.add_argument("--horizon", action="append", type=int, help="the benchmark's by default")
    parser.add_argument("--model", help="rows whose name holds this, all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    lines = [
        "| data | model | L | H | MSE | MAE | experts | seconds of a fit | published |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.data or DATA:
        fetch, lookback, horizons = DATA[name]
        data = fetch()
        # weekly data have no day; rows of the file without dates no calendar at all
        period = None if data.index is None else PERIODS.get(data.freq, "year")
        for horizon in options.horizon or horizons:
            for label, estimator, seeded in models(period):
                if (options.model or "") not in label:
                    continue
                squared, absolute, experts, seconds = [], [], [], []
                for seed in range(options.seeds if seeded else 1):
                    if seeded:
                        estimator.set_params(random_state=seed)
                    result = evaluate_ltsf(estimator, data, lookback, horizon, split=options.split)
                    squared.append(result.mse)
                    absolute.append(result.mae)
                    experts.append(str(getattr(result.estimator, "n_experts_", 1)))
                    seconds.append(result.fit_seconds)
                lines.append(
                    f"| {name} | {label} | {lookback} | {horizon} | {spread(squared)} | "
                    f"{spread(absolute)} | {', '.join(experts)} | {np.median(seconds):.2f} | "
                    f"{PUBLISHED.get((name, horizon), '')} |"
                )
                print(lines[-1], flush=True)
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
