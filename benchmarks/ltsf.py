"""The long-horizon benchmark table: exact linear forecasters beside published figures.

Run with the benchmark files in a folder that MIXLIN_DATA_HOME names::

    python benchmarks/ltsf.py [--markdown FILE]

Nothing is chosen here: lookbacks are those of the published tables, alpha is 1e-5 on plain sums
of z-scored windows, and every test window counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sklearn.utils import Bunch

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.backtesting import evaluate_ltsf
from mixlin.datasets import fetch_ett, fetch_exchange_rate, fetch_illness, ltsf_split

PLAIN_ALPHA = 1e-5
ETT, SHORT = (96, 192, 336, 720), (24, 36, 48, 60)
# reference figures (MSE): published, or measured once with a dense solver in float64
REFERENCES = {
    ("ETTh1", "Linear", 336): (0.3702, 0.4042, 0.4334, 0.4714),
    ("ETTh1", "Linear, window mean removed", 512): (0.3672, 0.4009, 0.4272, 0.4402),
    ("ETTh1", "RLinear", 512): (0.3678, 0.4021, 0.4294, 0.4477),
    ("ETTm1", "Linear", 336): (0.2993, None, None, None),
    ("exchange_rate", "Linear", 96): (0.0802, None, None, None),
    ("national_illness", "Linear, window mean removed", 104): (1.959, None, None, None),
    ("national_illness", "RLinear", 104): (2.007, None, None, None),
}
PUBLISHED = {
    ("ETTh1", "DLinear", 336): (0.375, 0.405, 0.439, 0.472),
    ("ETTh1", "NLinear", 336): (0.374, 0.408, 0.429, 0.440),
    ("ETTm1", "DLinear", 336): (0.299, 0.335, 0.369, 0.425),
    ("ETTm1", "NLinear", 336): (0.306, 0.349, 0.375, 0.433),
    ("exchange_rate", "DLinear", 336): (0.081, 0.157, 0.305, 0.643),
    ("exchange_rate", "NLinear", 336): (0.089, 0.180, 0.331, 1.033),
}


def models(name: str) -> list[tuple[str, int, object]]:
    """Return (name, lookback, estimator) of every row of a data set."""
    mean = "Linear, window mean removed"
    long = {"national_illness": 104}.get(name, 512)
    usual = {"national_illness": 104}.get(name, 336)
    rows: list[tuple[str, int, object]] = [
        ("Linear", usual, LinearForecaster()),
        ("NLinear", usual, NLinearForecaster()),
        ("DLinear", usual, DLinearForecaster()),
        (mean, long, LinearForecaster(normalization="mean")),
        ("RLinear", long, RLinearForecaster()),
    ]
    if name == "exchange_rate":
        rows = [("Linear", 96, LinearForecaster()), *rows[:3]]
    return rows


def relative_alpha(data: Bunch, lookback: int, horizon: int) -> float:
    """Return the relative alpha that equals PLAIN_ALPHA on plain sums of z-scored windows."""
    n_windows = ltsf_split(data).train_end - lookback - horizon + 1
    return PLAIN_ALPHA / (n_windows * data.data.shape[1])


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    lines = [
        "| data | model | L | H | MSE | MAE | reference | published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worse = 0
    for fetch, horizons in (
        (lambda: fetch_ett("ETTh1"), ETT),
        (lambda: fetch_ett("ETTm1"), ETT),
        (fetch_exchange_rate, ETT),
        (fetch_illness, SHORT),
    ):
        data = fetch()
        for model, lookback, estimator in models(data.name):
            key = (data.name, model, lookback)
            for i, horizon in enumerate(horizons):
                estimator.set_params(alpha=relative_alpha(data, lookback, horizon))
                result = evaluate_ltsf(estimator, data, lookback, horizon)
                reference = REFERENCES.get(key, (None,) * 4)[i]
                published = PUBLISHED.get(key, (None,) * 4)[i]
                if reference is not None and abs(result.mse - reference) > 0.0015:
                    worse += result.mse > reference
                    print(f"differs from the reference: {key} {horizon}", file=sys.stderr)
                lines.append(
                    f"| {data.name} | {model} | {lookback} | {horizon} | {result.mse:.4f} | "
                    f"{result.mae:.4f} | {cell(reference)} | {cell(published)} |"
                )
                print(lines[-1], flush=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
