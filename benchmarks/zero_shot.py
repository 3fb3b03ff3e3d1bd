"""Zero-shot forecasts of series of any kind: accuracy, coverage, robustness.

Run with the benchmark files in a folder that MIXLIN_DATA_HOME names::

    python benchmarks/zero_shot.py families|ltsf|coverage|corruption [--quick] [--markdown FILE]

One estimator with its default settings forecasts everything; nothing is fitted. ``--set`` gives
other settings, ``--baseline`` the last value or the season instead.

families
    Simulated series (benchmarks/families). Mean absolute errors relative to the seasonal naive
    forecast that knows the true period, which is the ratio of both MASE; geometric means over
    series. Naive errors below a thousandth of the deviation of a context count as that.
ltsf
    The long-horizon benchmark: every test window, standardized by the training rows, contexts of
    the newest 2048 values or all there are. Beside it repeating the last value, and published
    zero-shot figures.
coverage
    Shares of values inside the 80 % and 95 % intervals, per quarter of the horizon, on windows
    spread evenly over the test span and on simulated series. Widths and CRPS relative to intervals
    from the seasonal naive errors on the context, geometric means. CRPS: nine quantiles.
corruption
    Mean absolute errors in deviations of the clean context, each clipped at 10, after damage. On
    training spans and simulated series; a shift lasts, so the targets follow it.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.families import disjoint, training
from benchmarks.zero_shot_scores import (
    SEED,
    Forecast,
    Intervals,
    naive_quantiles,
    pooled,
    score_corrupted,
    score_families,
    score_intervals,
    score_ltsf,
    seasonal_naive,
)
from benchmarks.zero_shot_windows import CORRUPTIONS, some_windows, windows

SETS = {"training": training, "disjoint": disjoint}
# in a context of 128 values the days of 15 minutes to an hour have no week to show
SHORT = {
    "training": ("daily", "weekly", "monthly", "quarterly", "random walk"),
    "disjoint": None,
}
SHAPES = ((2048, 96), (1024, 96), (128, 24))
HORIZONS = {
    "ETTh1": (96, 192, 336, 720),
    "ETTm1": (96, 192, 336, 720),
    "exchange_rate": (96, 192, 336, 720),
    "national_illness": (24, 36, 48, 60),
}
PERIODS = {"ETTh1": 24, "ETTm1": 96, "exchange_rate": 1, "national_illness": 52}
# MSE as the papers print them: base, large and ultra of Time-MoE, and others at ETTh1-96
TIME_MOE = {
    "ETTh1": (".357 .350 .349", ".384 .388 .395", ".411 .411 .447", ".449 .427 .457"),
    "ETTm1": (".338 .309 .281", ".353 .346 .305", ".381 .373 .369", ".504 .475 .469"),
}
OTHERS = {("ETTh1", 96): "Moirai-base .376, TimesFM .414, Chronos-large .441"}


def families_table(forecast: Forecast, quick: bool = False) -> Iterator[str]:
    heads = " | ".join(f"{n} values, {h} ahead" for n, h in SHAPES)
    yield f"| set | family | {heads} |"
    yield "|---|---" + "|---" * len(SHAPES) + "|"
    notes = []
    for name, module in SETS.items():
        cells = [
            score_families(forecast, module, *shape, 20 if quick else 200, names=names)
            for shape, names in zip(SHAPES, (None, None, SHORT[name]), strict=True)
        ]
        for family in module.FAMILIES:
            row = (f"{c.families[family]:.3f}" if family in c.families else "-" for c in cells)
            yield f"| {name} | {family} | {' | '.join(row)} |"
        totals = " | ".join(f"**{cell.total:.3f}**" for cell in cells)
        yield f"| {name} | all | {totals} |"
        floored = " and ".join(f"{cell.n_floored} of {cell.n_series}" for cell in cells)
        notes.append(f"Naive errors that were raised to the floor, {name}: {floored} series.")
    yield ""
    yield from notes


def ltsf_table(
    forecast: Forecast, quick: bool = False, names: Sequence[str] | None = None, split: str = "test"
) -> Iterator[str]:
    yield (
        "| data | H | windows | MSE | MAE | last value: MSE | MAE | series per second "
        "| Time-MoE base, large, ultra: MSE | others: MSE |"
    )
    yield "|" + "---|" * 10
    for name in names or HORIZONS:
        for place, horizon in enumerate(HORIZONS[name]):
            result = score_ltsf(forecast, name, horizon, split, 40 if quick else None)
            known = split == "test"
            moe = TIME_MOE[name][place] if known and name in TIME_MOE else "-"
            others = OTHERS.get((name, horizon), "-") if known else "-"
            yield (
                f"| {name} | {horizon} | {result.n_windows} | {result.mse:.4f} | {result.mae:.4f} "
                f"| {result.last_mse:.4f} | {result.last_mae:.4f} | {result.per_second:.0f} "
                f"| {moe} | {others} |"
            )


def coverage_table(
    forecast: Forecast, quick: bool = False, names: Sequence[str] | None = None, split: str = "test"
) -> Iterator[str]:
    yield (
        "| data | H | series | 80 %: quarters 1-4 | 95 %: quarters 1-4 | naive: 80, 95 % "
        "| width: 80, 95 % | CRPS |"
    )
    yield "|" + "---|" * 8
    for name in names or HORIZONS:
        for horizon in (HORIZONS[name][0], HORIZONS[name][-1]):
            cut = windows(name, horizon, split, 12 if quick else 200)
            contexts, targets = zip(*cut.blocks(), strict=True)
            contexts = [context for block in contexts for context in block]
            period = np.full(len(contexts), float(PERIODS[name]))
            yield line(
                name, horizon, score_intervals(forecast, contexts, np.concatenate(targets), period)
            )
    context, horizon = SHAPES[0]
    for name, module in SETS.items():
        n_series = (8 if quick else 100) * len(module.FAMILIES)
        bunch = module.make_families(SEED, n_series, context + horizon)
        contexts, targets = bunch.data[:, :context], bunch.data[:, context:]
        results = []
        for family in module.FAMILIES:
            rows = bunch.family == family
            results.append(
                score_intervals(forecast, contexts[rows], targets[rows], bunch.period[rows])
            )
            yield line(f"{name}: {family}", horizon, results[-1])
        yield line(f"{name}: all", horizon, pooled(results))


def line(label: str, horizon: int, result: Intervals) -> str:
    quarters = " | ".join(" ".join(f"{share:.3f}" for share in row) for row in result.covered)
    naive = ", ".join(f"{share:.3f}" for share in result.naive_covered)
    width = ", ".join(f"{ratio:.3f}" for ratio in result.width)
    return (
        f"| {label} | {horizon} | {result.n_series} | {quarters} | {naive} | {width} "
        f"| {result.crps:.3f} |"
    )


def corruption_table(
    forecast: Forecast, quick: bool = False, split: str = "train"
) -> Iterator[str]:
    n_series = 30 if quick else 300
    context, horizon = SHAPES[0]
    bunch = training.make_families(SEED, n_series, context + horizon)
    cases = [(bunch.data[:, :context], bunch.data[:, context:], np.zeros(n_series))]
    names = ("ETTh1", "ETTm1", "exchange_rate")
    cases += [some_windows(windows(name, horizon, split, n_series)) for name in names]
    yield f"| damage | training families | {' | '.join(names)} |"
    yield "|---|---|---|---|---|"
    for kind in CORRUPTIONS:
        cells = " | ".join(f"{score_corrupted(forecast, kind, *case):.3f}" for case in cases)
        yield f"| {kind} | {cells} |"


def default_forecast(**settings: Any) -> Forecast:
    """Return the forecast of a SuperLinearForecaster that has seen no other data."""
    from mixlin import SuperLinearForecaster

    model = SuperLinearForecaster(**settings)

    def forecast(contexts: Any, horizon: int, quantiles: Sequence[float] | None = None) -> Any:
        return model.forecast_arrays(list(contexts), horizon, quantiles)

    return forecast


def baseline(period: float) -> Forecast:
    """Return the seasonal naive forecast of one period for everything; 1: the last value."""

    def forecast(contexts: Any, horizon: int, quantiles: Sequence[float] | None = None) -> Any:
        periods = np.full(len(contexts), period)
        points = seasonal_naive(contexts, periods, horizon)
        if quantiles is None:
            return points
        return points, naive_quantiles(contexts, periods, horizon, quantiles)

    return forecast


TABLES = {
    "families": families_table,
    "ltsf": ltsf_table,
    "coverage": coverage_table,
    "corruption": corruption_table,
}


def setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--quick", action="store_true", help="few series, to try the script")
    parser.add_argument("--data", action="append", choices=list(HORIZONS), help="all by default")
    parser.add_argument("--split", choices=["train", "validation", "test"])
    parser.add_argument("--set", action="append", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--baseline", type=float, metavar="PERIOD", help="1: the last value")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    extra = {}
    if options.data and options.table in ("ltsf", "coverage"):
        extra["names"] = options.data
    if options.split and options.table != "families":
        extra["split"] = options.split
    if options.baseline is not None:
        forecast = baseline(options.baseline)
    else:
        forecast = default_forecast(**dict(options.set))
    lines = []
    for row in TABLES[options.table](forecast, options.quick, **extra):
        print(row, flush=True)
        lines.append(row)
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
