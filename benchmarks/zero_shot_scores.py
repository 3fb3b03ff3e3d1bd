"""Scores of zero-shot forecasts for benchmarks/zero_shot.py.

A forecast here is a function ``forecast(contexts, horizon, quantiles=None)``. Contexts are an
array (N, n), or a list of N arrays (n_i,) where lengths differ. It returns the forecasts
(N, horizon), and with quantiles a pair of these and (N, horizon, n_quantiles).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixlin.metrics import coverage, pinball
from mixlin.superlinear import LONGEST_CONTEXT

from .families import training
from .zero_shot_windows import Contexts, FloatArray, corrupt, windows

Forecast = Callable[..., Any]

SEED = 20_000  # of the series that are scored; no setting was chosen on them
LEVELS = (0.025, *(k / 10 for k in range(1, 10)), 0.975)
# relative to the standard deviation of a context: smaller errors count as this one
FLOOR = 1e-3


def seasonal_naive(contexts: Contexts, period: FloatArray, horizon: int) -> FloatArray:
    """Repeat the last season (N, horizon), of the nearest whole number of steps; 1: last value."""
    forecast = np.empty((len(contexts), horizon))
    for row, (context, steps) in enumerate(zip(contexts, whole(period, contexts), strict=True)):
        forecast[row] = context[len(context) - steps + np.arange(horizon) % steps]
    return forecast


def naive_quantiles(
    contexts: Contexts, period: FloatArray, horizon: int, quantiles: Sequence[float]
) -> FloatArray:
    """Put quantiles (N, horizon, n_quantiles) of seasonal naive errors around its forecast.

    For every step ahead they are those of the errors that the same forecast made on the context.
    Beyond half of a context, the errors of the farthest lag there are widened by the square root
    of the number of seasons, as those of a seasonal random walk.
    """
    points = seasonal_naive(contexts, period, horizon)
    spread = np.empty((len(contexts), horizon, len(quantiles)))
    lengths = np.array([len(context) for context in contexts])
    steps = whole(period, contexts)
    for length, season in set(zip(lengths.tolist(), steps.tolist(), strict=True)):
        rows = np.flatnonzero((lengths == length) & (steps == season))
        group = np.stack([contexts[row] for row in rows])
        farthest = max(1, length // 2 // season)
        for first in range(0, horizon, season):
            ahead = first // season + 1
            lag = min(ahead, farthest)
            errors = group[:, lag * season :] - group[:, : length - lag * season]
            # a context of one season has no error to show
            if not errors.shape[1]:
                errors = np.zeros((len(rows), 1))
            wide = np.sqrt(ahead / lag) * np.quantile(errors, quantiles, axis=1).T
            spread[rows, first : first + season] = wide[:, None]
    return points[:, :, None] + spread


def whole(period: FloatArray, contexts: Contexts) -> np.ndarray:
    lengths = np.array([len(context) for context in contexts])
    return np.clip(np.rint(period).astype(int), 1, lengths)


def deviations(contexts: Contexts) -> FloatArray:
    """Return the standard deviations (N,) of contexts."""
    return np.array([np.std(context) for context in contexts])


def ratios(error: FloatArray, naive: FloatArray, scale: FloatArray) -> tuple[FloatArray, int]:
    """Return error / naive (N,), both at least `FLOOR` times scale, and how many naive were less.

    Parameters
    ----------
    error, naive, scale : arrays (N,)
    """
    least = np.maximum(FLOOR * scale, np.finfo(float).tiny)
    return np.maximum(error, least) / np.maximum(naive, least), int((naive < least).sum())


def geometric_mean(values: Sequence[float] | FloatArray) -> float:
    return float(np.exp(np.mean(np.log(values))))


class Accuracy(NamedTuple):
    """Errors in standardized units, and those of repeating the last value."""

    n_windows: int
    mse: float
    mae: float
    last_mse: float
    last_mae: float
    per_second: float


class Ratios(NamedTuple):
    """Errors relative to the seasonal naive forecast, by family and over all series."""

    families: dict[str, float]
    total: float
    n_series: int
    n_floored: int


class Intervals(NamedTuple):
    """Coverage by level and quarter (2, 4), that of the naive (2,), relative widths and CRPS."""

    covered: FloatArray
    naive_covered: FloatArray
    width: tuple[float, float]
    crps: float
    n_series: int


def score_families(
    forecast: Forecast,
    families: Any = training,
    context: int = LONGEST_CONTEXT,
    horizon: int = 96,
    per_family: int = 200,
    names: Sequence[str] | None = None,
    seed: int = SEED,
    block: int = 1000,
) -> Ratios:
    """Score a forecast on simulated series.

    Parameters
    ----------
    forecast : callable
        See benchmarks/zero_shot_scores.py.
    families : module
        `training` or `disjoint`.
    context, horizon : int
    per_family : int
        Series of each family.
    names : sequence of str, optional
        Families; all by default.
    seed, block : int
    """
    names = tuple(families.FAMILIES) if names is None else tuple(names)
    bunch = families.make_families(seed, per_family * len(names), context + horizon, names)
    contexts, targets = bunch.data[:, :context], bunch.data[:, context:]
    errors = np.empty(len(targets))
    progress = Progress(f"{families.__name__}, {context} to {horizon}", len(targets))
    for start in range(0, len(targets), block):
        rows = slice(start, start + block)
        errors[rows] = np.abs(forecast(contexts[rows], horizon) - targets[rows]).mean(axis=1)
        progress.advance(len(errors[rows]))
    naive = np.abs(seasonal_naive(contexts, bunch.period, horizon) - targets).mean(axis=1)
    relative, n_floored = ratios(errors, naive, deviations(contexts))
    by_family = {name: geometric_mean(relative[bunch.family == name]) for name in names}
    return Ratios(by_family, geometric_mean(relative), len(targets), n_floored)


def score_ltsf(
    forecast: Forecast,
    name: str,
    horizon: int,
    split: str = "test",
    n_windows: int | None = None,
    context: int = LONGEST_CONTEXT,
) -> Accuracy:
    """Score a forecast on a benchmark file, block by block.

    Parameters
    ----------
    forecast : callable
    name : str
        A key of `HORIZONS`.
    horizon : int
    split : {"train", "validation", "test"}
    n_windows : int, optional
        Windows spread evenly over the span; every window by default.
    context : int
    """
    cut = windows(name, horizon, split, n_windows, context)
    progress = Progress(f"{name}, horizon {horizon}", cut.n_series)
    sums, seconds = np.zeros(4), 0.0
    for contexts, targets in cut.blocks():
        last = np.array([values[-1] for values in contexts])
        timer = Progress("", len(targets))
        error = forecast(contexts, horizon) - targets
        timer.advance(len(targets))
        seconds += timer.done / timer.per_second
        naive = last[:, None] - targets
        sums += [(error**2).sum(), np.abs(error).sum(), (naive**2).sum(), np.abs(naive).sum()]
        progress.advance(len(targets))
    return Accuracy(
        len(cut.starts), *(sums / (cut.n_series * horizon)).tolist(), cut.n_series / seconds
    )


def score_intervals(
    forecast: Forecast, contexts: Any, targets: FloatArray, period: FloatArray, block: int = 256
) -> Intervals:
    """Score the quantiles of a forecast against those of seasonal naive errors.

    Parameters
    ----------
    forecast : callable
    contexts : array (N, n) or list of arrays
    targets : array (N, horizon)
    period : array (N,)
    block : int
    """
    horizon = targets.shape[1]
    hits = np.zeros((2, 2, horizon))  # forecast and naive, 80 % and 95 %
    widths, losses = np.empty((2, 2, len(targets))), np.empty((2, len(targets)))
    middle, ends = slice(1, -1), ((1, -2), (0, -1))
    progress = Progress("intervals", len(targets))
    for start in range(0, len(targets), block):
        rows = slice(start, start + block)
        given, target = contexts[rows], targets[rows]
        both = (
            forecast(given, horizon, LEVELS)[1],
            naive_quantiles(given, period[rows], horizon, LEVELS),
        )
        for which, quantiles in enumerate(both):
            losses[which, rows] = 2 * pinball(
                target, quantiles[..., middle], LEVELS[middle], axis=(1, 2)
            )
            for level, pair in enumerate(ends):
                interval = quantiles[..., pair]
                hits[which, level] += coverage(target, interval, axis=0) * len(target)
                widths[which, level, rows] = np.diff(interval, axis=-1).mean(axis=(1, 2))
        progress.advance(len(target))
    scale = deviations(contexts)
    covered = hits / len(targets)
    quarters = [part.mean(axis=-1) for part in np.array_split(covered[0], 4, axis=-1)]
    relative = [geometric_mean(ratios(*widths[:, level], scale)[0]) for level in range(2)]
    return Intervals(
        np.stack(quarters, axis=-1),
        covered[1].mean(axis=-1),
        (relative[0], relative[1]),
        geometric_mean(ratios(*losses, scale)[0]),
        len(targets),
    )


def pooled(results: Sequence[Intervals]) -> Intervals:
    """Average the scores of groups of as many series each."""
    return Intervals(
        np.mean([result.covered for result in results], axis=0),
        np.mean([result.naive_covered for result in results], axis=0),
        tuple(geometric_mean([result.width[level] for result in results]) for level in range(2)),
        geometric_mean([result.crps for result in results]),
        sum(result.n_series for result in results),
    )


def score_corrupted(
    forecast: Forecast,
    kind: str,
    contexts: FloatArray,
    targets: FloatArray,
    zero: FloatArray,
    clip: float = 10.0,
) -> float:
    """Return the mean absolute error after damage, in deviations of the clean contexts.

    Parameters
    ----------
    forecast : callable
    kind : str
        One of `CORRUPTIONS`.
    contexts, targets : arrays (N, n), (N, horizon)
    zero : array (N,)
    clip : float
        Larger errors count as this one.
    """
    damaged, followed = corrupt(kind, contexts, targets, zero)
    error = np.abs(forecast(damaged, targets.shape[1]) - followed) / contexts.std(axis=1)[:, None]
    return float(np.minimum(error, clip).mean())


class Progress:
    """A line on the terminal that counts series; silent where the output goes to a file."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done, self.began = label, total, 0, time.perf_counter()

    def advance(self, n: int) -> None:
        self.done += n
        if sys.stderr.isatty():
            end = "\n" if self.done >= self.total else ""
            print(f"\r{self}{end}", end="", file=sys.stderr, flush=True)

    @property
    def per_second(self) -> float:
        return self.done / max(time.perf_counter() - self.began, 1e-9)

    def __str__(self) -> str:
        return f"{self.label}: {self.done} of {self.total} series, {self.per_second:.0f} per second"
