"""Windows of the benchmark files for benchmarks/zero_shot.py, and damage to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixlin.backtesting.spans import read_spans
from mixlin.superlinear import LONGEST_CONTEXT

from .families.draws import Draws

FloatArray = np.ndarray
Contexts = Any  # an array (N, n), or a list of N arrays where lengths differ


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a benchmark file, standardized by its training rows.

    Parameters
    ----------
    name : str
    values : array (n_rows, n_channels)
    zero : array (n_channels,)
        What the value zero of the file has become.
    starts : array (n_windows,)
        First target row of every window.
    horizon : int
    context : int
        A context is the newest so many values, or all there are.
    """

    name: str
    values: FloatArray
    zero: FloatArray
    starts: np.ndarray
    horizon: int
    context: int

    @property
    def n_series(self) -> int:
        return len(self.starts) * self.values.shape[1]

    def blocks(self, n_series: int = 2048) -> Iterator[tuple[Contexts, FloatArray]]:
        """Yield contexts and targets (N, horizon), the channels of a window side by side."""
        n_channels = self.values.shape[1]
        size = max(1, n_series // n_channels)
        for first in range(0, len(self.starts), size):
            starts = self.starts[first : first + size]
            ahead = starts[:, None] + np.arange(self.horizon)
            targets = self.values[ahead].transpose(0, 2, 1).reshape(-1, self.horizon)
            if starts.min() >= self.context:
                back = starts[:, None] + np.arange(-self.context, 0)
                contexts = self.values[back].transpose(0, 2, 1).reshape(-1, self.context)
            else:
                contexts = [
                    self.values[max(0, start - self.context) : start, channel]
                    for start in starts
                    for channel in range(n_channels)
                ]
            yield contexts, targets


def windows(
    name: str,
    horizon: int,
    split: str = "test",
    n_windows: int | None = None,
    context: int = LONGEST_CONTEXT,
) -> Windows:
    """Cut a span of a benchmark file into windows.

    Parameters
    ----------
    name : str
        As in :func:`mixlin.backtesting.evaluate_ltsf`.
    horizon : int
    split : {"train", "validation", "test"}
        Where the targets lie. Training targets begin where a whole context precedes them.
    n_windows : int, optional
        This many, spread evenly; all by default.
    context : int
    """
    spans = read_spans(name, "test" if split == "train" else split, horizon)
    if np.isnan(spans.values).any():
        raise ValueError(f"{name} has missing values, which these tables do not allow for")
    borders = spans.borders
    if split == "train":
        first, stop = min(context, borders.train_end // 2), borders.train_end
    else:
        span = borders.test if split == "test" else borders.validation
        first, stop = span.start, span.stop
    starts = np.arange(first, stop - horizon + 1)
    if n_windows is not None and n_windows < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, n_windows).round().astype(int)]
    values = (spans.values - spans.mean) / spans.scale
    return Windows(name, values, -spans.mean / spans.scale, starts, horizon, context)


def some_windows(cut: Windows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return contexts, targets and zeros of one channel per window, the channels taking turns."""
    n_channels = cut.values.shape[1]
    contexts, targets = zip(*cut.blocks(), strict=True)
    channel = np.arange(len(cut.starts)) % n_channels
    rows = np.arange(len(cut.starts)) * n_channels + channel
    return np.concatenate(contexts)[rows], np.concatenate(targets)[rows], cut.zero[channel]


def corrupt(
    kind: str, contexts: FloatArray, targets: FloatArray, zero: FloatArray, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Damage contexts; targets follow the shifts, which last, and stay as they are otherwise.

    Parameters
    ----------
    kind : str
        One of `CORRUPTIONS`.
    contexts, targets : arrays (N, n), (N, horizon)
    zero : array (N,)
        What a sensor without power records.
    seed : int
    """
    contexts, targets = contexts.copy(), targets.copy()
    draws = Draws(f"corruption: {kind}", seed, range(len(contexts)))
    n = contexts.shape[1]
    deviation = contexts.std(axis=1)
    sign = draws.choice((-1.0, 1.0))
    if kind == "1 % spikes of 8 sd":
        hit = draws.flag(0.01, (n,)) * draws.choice((-8.0, 8.0), (n,))
        contexts += hit * deviation[:, None]
    elif kind == "last value off by 6 sd":
        contexts[:, -1] += 6.0 * sign * deviation
    elif kind == "60 zeros in the middle":
        contexts[:, n // 2 - 30 : n // 2 + 30] = zero[:, None]
    elif kind == "last 24 values stuck":
        contexts[:, -24:] = contexts[:, -25, None]
    elif kind.startswith("shift of 3 sd at"):
        begin = int(n * (0.9 if "90" in kind else 0.97))
        contexts[:, begin:] += (3.0 * sign * deviation)[:, None]
        targets += (3.0 * sign * deviation)[:, None]
    elif kind != "none":
        raise ValueError(f"unknown corruption {kind!r}; choose among {', '.join(CORRUPTIONS)}")
    return contexts, targets


CORRUPTIONS = (
    "none",
    "1 % spikes of 8 sd",
    "last value off by 6 sd",
    "60 zeros in the middle",
    "last 24 values stuck",
    "shift of 3 sd at 90 %",
    "shift of 3 sd at 97 %",
)
