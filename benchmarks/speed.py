"""Speed and memory of exact fits and of predict, against what a user would do by hand.

Run alone on the machine, with OMP_NUM_THREADS set::

    OMP_NUM_THREADS=2 python benchmarks/speed.py [--plot scaling.png]

ETTh1 is read from MIXLIN_DATA_HOME; without it a synthetic series of the same shape is used.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from timing import peak_mib, ratio, timed

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.datasets import fetch_ett, make_seasonal

LOOKBACK, HORIZON, TRAIN = 336, 96, 8640


def train_span() -> tuple[str, np.ndarray]:
    try:
        return "ETTh1", fetch_ett("ETTh1", download_if_missing=False).data[:TRAIN]
    except OSError:
        return "synthetic", make_seasonal(TRAIN, 7, random_state=0).data


def stacked(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Materialize the pooled z-scored windows of all channels."""
    z = (series - series.mean(axis=0)) / series.std(axis=0)
    both = np.lib.stride_tricks.sliding_window_view(z, LOOKBACK + HORIZON, axis=0)
    rows = both.reshape(-1, LOOKBACK + HORIZON)
    return np.ascontiguousarray(rows[:, :LOOKBACK]), np.ascontiguousarray(rows[:, LOOKBACK:])


def fits(pairs: int) -> None:
    name, series = train_span()
    X, y = stacked(series)
    alpha = 1e-5 / len(X)
    ridge = Ridge(alpha=1e-5, solver="cholesky")
    print(f"## Fit on {name}, {series.shape}, {LOOKBACK} -> {HORIZON}, windows {X.shape}")
    for model in (
        LinearForecaster(LOOKBACK, HORIZON, alpha=alpha),
        NLinearForecaster(LOOKBACK, HORIZON, alpha=alpha),
        DLinearForecaster(LOOKBACK, HORIZON, alpha=alpha),
        RLinearForecaster(LOOKBACK, HORIZON, alpha=alpha),
    ):
        found = ratio(lambda: ridge.fit(X, y), lambda m=model: m.fit(series), pairs)
        print(f"{type(model).__name__}: Ridge on windows takes {found} as long")
    difference = np.abs(
        LinearForecaster(LOOKBACK, HORIZON, alpha=alpha).fit(series).coef_ - ridge.coef_
    ).max()
    print(f"largest difference of a coefficient: {difference:.1e}")
    ours = peak_mib(lambda: LinearForecaster(LOOKBACK, HORIZON, alpha=alpha).fit(series))
    theirs = peak_mib(lambda: Ridge(alpha=1e-5, solver="cholesky").fit(*stacked(series)))
    print(f"peak memory: {ours:.1f} MiB against {theirs:.1f} MiB, 1/{theirs / ours:.1f}")


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope in log-log over the larger half, where constant costs have faded."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])


def scaling(plot: Path | None) -> None:
    rng = np.random.default_rng(0)
    lengths = [100_000 * 2**k for k in range(7)]
    channels = [16 * 2**k for k in range(7)]
    wide = make_seasonal(8640, 1, random_state=0).data
    long = rng.normal(size=(lengths[-1], 1)) + np.sin(np.arange(lengths[-1]) / 4)[:, None]
    model = LinearForecaster(LOOKBACK, HORIZON)

    def best(series: np.ndarray) -> float:
        return min(timed(lambda: model.fit(series)) for _ in range(5))

    by_length = [best(long[:n]) for n in lengths]
    by_channel = [best(wide + rng.normal(size=(len(wide), n)) * wide.std()) for n in channels]
    a, b = exponent(lengths, by_length), exponent(channels, by_channel)
    print("## Scaling")
    print(
        "rows:    ",
        ", ".join(f"{n}: {1e3 * t:.0f} ms" for n, t in zip(lengths, by_length, strict=True)),
    )
    print(
        "channels:",
        ", ".join(f"{n}: {1e3 * t:.0f} ms" for n, t in zip(channels, by_channel, strict=True)),
    )
    print(f"exponents: {a:.2f} in rows (1 channel), {b:.2f} in channels ({len(wide)} rows)")
    if plot is not None:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
        for ax, sizes, seconds, label, slope in (
            (axes[0], lengths, by_length, "rows (1 channel)", a),
            (axes[1], channels, by_channel, f"channels ({len(wide)} rows)", b),
        ):
            ax.loglog(sizes, seconds, "o-", label=f"fitted exponent {slope:.2f}")
            ax.set(xlabel=label)
            ax.set_xticks(sizes[::2], [f"{size:,}".replace(",", " ") for size in sizes[::2]])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
            ax.legend()
        axes[0].set(ylabel="seconds")
        figure.suptitle(f"Exact fit of LinearForecaster, {LOOKBACK} to {HORIZON} steps")
        figure.savefig(plot, dpi=120)


def large() -> None:
    n = 10_000_000
    series = np.random.default_rng(0).normal(size=n) + np.sin(np.arange(n) * 2 * np.pi / 24)
    model = LinearForecaster(LOOKBACK, HORIZON)
    model.fit(series[:10_000])
    seconds = sorted(timed(lambda: model.fit(series)) for _ in range(5))
    peak = peak_mib(lambda: model.fit(series))
    print("## 10 million rows, 1 channel")
    print(f"{seconds[2]:.2f} s (from {seconds[0]:.2f} to {seconds[-1]:.2f}), {peak:.0f} MiB on top")


def predictions(pairs: int) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, LOOKBACK)), rng.normal(size=(20_000, HORIZON))
    W = rng.normal(size=(LOOKBACK, HORIZON))
    print("## predict of 20 000 float64 windows against the bare product")
    for model in (
        LinearForecaster(),
        DLinearForecaster(),
        NLinearForecaster(),
        RLinearForecaster(),
    ):
        for level in (0.0, 1000.0):  # far from zero, windows are measured from their level
            raised = X + level
            model.fit(raised[:2000], y[:2000] + level)
            found = ratio(lambda m=model, x=raised: m.predict(x), lambda: X @ W, pairs)
            print(f"{type(model).__name__} at level {level:g}: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--plot", type=Path, help="write the scaling figure to this file")
    arguments = parser.parse_args()
    print(f"numpy {np.__version__}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    predictions(arguments.pairs)
    fits(arguments.pairs)
    scaling(arguments.plot)
    large()


if __name__ == "__main__":
    main()
