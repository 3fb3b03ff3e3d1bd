"""Time of a whole fit against a plain training loop, until both are equally good.

The loop is written as the reference trains: two wide linear layers on trend and seasonal part, a
gate of two layers on the calendar features of the window's first step, uniform weights to begin
with, Adam, mean squared error, the learning rate halved every epoch, patience 6, all channels of a
window in a batch. It is a lean one: windows are views of one tensor, and no batch is copied twice.

The time of a loop is that until its held-out error is within 1 % of its own best; ours is that of
the whole fit, Gram matrices included, and counts only if the error is within 1 % of the best of the
loop's runs. Run alone on the machine, with the benchmark files in a folder that
MIXLIN_DATA_HOME names::

    OMP_NUM_THREADS=2 python benchmarks/mole_speed.py [--data ETTh1] [--repeats 3] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mixlin import MoLEForecaster
from mixlin.calendar_features import reference_features
from mixlin.datasets import fetch_ett, ltsf_split
from mixlin.routing import CalendarRouter
from mixlin.solvers import AlternatingSolver, FixedGatesSolver, GradientSolver

L, H, EXPERTS, KERNEL = 336, 96, 4, 25
WITHIN = 1.01
PATIENCE, MOST_EPOCHS = 6, 40


class ReferenceLike(nn.Module):
    """Linear experts on trend and season, mixed by the calendar of the window's first step."""

    def __init__(self, n_channels: int, n_features: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.seasonal = nn.Linear(L, H * EXPERTS)
        self.trend = nn.Linear(L, H * EXPERTS)
        width = EXPERTS * n_channels
        self.gate = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, width))
        self.average = nn.AvgPool1d(KERNEL, stride=1)

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Map windows (B, C, L) and features (B, F) to forecasts (B, C, H)."""
        half = KERNEL // 2
        padded = nn.functional.pad(x, (half, half), mode="replicate")
        trend = self.average(padded)
        out = self.seasonal(x - trend) + self.trend(trend)
        experts = out.reshape(*x.shape[:2], H, EXPERTS)
        gates = self.gate(features).reshape(-1, self.n_channels, EXPERTS).softmax(dim=2)
        return (experts * gates[:, :, None]).sum(dim=3)


class Spans:
    """Standardized windows of the train and the validation span."""

    def __init__(self, name: str) -> None:
        data = fetch_ett(name)
        split = ltsf_split(data)
        values = np.asarray(data.data, dtype=np.float64)
        train = values[: split.train_end]
        self.values = ((values - train.mean(axis=0)) / train.std(axis=0))[: split.val_end]
        self.stamps = np.asarray(data.index).astype("datetime64[ns]")[: split.val_end]
        self.n_held = split.val_end - split.train_end
        self.n_channels = values.shape[1]
        freq = "h" if data.freq == "h" else "min"
        rows = torch.from_numpy(self.values.T.astype(np.float32).copy())
        self.windows = rows.unfold(1, L + H, 1).transpose(0, 1)
        features = reference_features(self.stamps[: len(self.windows)], freq)
        self.features = torch.from_numpy(features.astype(np.float32))
        self.train = torch.arange(split.train_end - L - H + 1)
        self.held = torch.arange(split.train_end - L, len(self.windows))

    def batch(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        window = self.windows[numbers]
        return window[:, :, :L], window[:, :, L:], self.features[numbers]


def held_out_error(model: nn.Module, spans: Spans) -> float:
    total = 0.0
    with torch.no_grad():
        for numbers in spans.held.split(512):
            x, y, features = spans.batch(numbers)
            total += float(((model(x, features) - y) ** 2).mean()) * len(numbers)
    return total / len(spans.held)


def run_loop(spans: Spans, batch_size: int, rate: float, seed: int) -> list[tuple[float, float]]:
    """Return (seconds of training so far, held-out error) after every epoch."""
    torch.manual_seed(seed)
    model = ReferenceLike(spans.n_channels, spans.features.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    seconds, trace, since, best = 0.0, [], 0, np.inf
    for epoch in range(MOST_EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5**epoch
        began = time.perf_counter()
        for numbers in spans.train[torch.randperm(len(spans.train))].split(batch_size):
            x, y, features = spans.batch(numbers)
            loss = ((model(x, features) - y) ** 2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        error = held_out_error(model, spans)
        seconds += time.perf_counter() - began
        trace.append((seconds, error))
        since = 0 if error < best else since + 1
        best = min(best, error)
        if since >= PATIENCE:
            break
    return trace


def reached(trace: list[tuple[float, float]], target: float) -> float:
    return next(seconds for seconds, error in trace if error <= target)


def ours(spans: Spans) -> dict[str, MoLEForecaster]:
    held = {"validation": spans.n_held}
    reference = CalendarRouter(stamp="first", encoding="reference", hidden=EXPERTS * 7)
    trained = {"router": reference, "random_state": 0}
    return {
        "alternating, statistics": MoLEForecaster(
            L, H, solver=AlternatingSolver(refit=False, **held), random_state=0
        ),
        "alternating, calendar": MoLEForecaster(
            L, H, router="calendar", solver=AlternatingSolver(refit=False, **held), random_state=0
        ),
        "fixed gates": MoLEForecaster(L, H, solver=FixedGatesSolver(refit=False, **held)),
        # a few epochs each; min_gain=None keeps what was trained whatever it is worth
        "gradient, exact start": MoLEForecaster(
            L, H, solver=GradientSolver(1, 64, 1e-3, min_gain=None, **held), **trained
        ),
        "gradient, random start": MoLEForecaster(
            L,
            H,
            solver=GradientSolver(2, 256, 5e-3, start="random", min_gain=None, **held),
            **trained,
        ),
    }


def held_out_errors(model: MoLEForecaster, spans: Spans) -> float:
    """Return the held-out error of a fitted model on every window."""
    total = 0.0
    for numbers in spans.held.split(512):
        first = int(numbers[0])
        rows = spans.values[first : int(numbers[-1]) + L + H]
        windows = np.lib.stride_tricks.sliding_window_view(rows, L + H, axis=0).transpose(0, 2, 1)
        stamps = np.lib.stride_tricks.sliding_window_view(
            spans.stamps[first : first + len(rows)], L + H
        )
        found = model.predict(windows[:, :L], timestamps=stamps)
        total += float(((found - windows[:, L:]) ** 2).mean()) * len(numbers)
    return total / len(spans.held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", help="ETTh1 and ETTm1 by default")
    parser.add_argument("--repeats", type=int, default=3, help="of every fit of ours")
    parser.add_argument("--loops", type=int, default=2, help="runs of every loop")
    parser.add_argument("--rate", type=float, default=5e-3, help="of the loop")
    parser.add_argument("--batch", type=int, action="append", help="8 and 64 by default")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    lines = [
        "| data | model | held-out error | seconds, median and range | times faster than the loop "
        "of batch 8 | of batch 64 |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.data or ["ETTh1", "ETTm1"]:
        spans = Spans(name)
        sizes = options.batch or [8, 64]
        loops, targets = {}, {}
        for size in sizes:
            traces = [run_loop(spans, size, options.rate, seed) for seed in range(options.loops)]
            bests = [min(error for _, error in trace) for trace in traces]
            times = [
                reached(trace, WITHIN * best) for trace, best in zip(traces, bests, strict=True)
            ]
            loops[size], targets[size] = statistics.median(times), WITHIN * min(bests)
            lines.append(
                f"| {name} | plain loop, batch {size} | {min(bests):.4f} | {loops[size]:.1f} "
                f"({min(times):.1f}-{max(times):.1f}) | | |"
            )
            print(lines[-1], flush=True)
        for label, model in ours(spans).items():
            seconds = []
            for _ in range(options.repeats):
                began = time.perf_counter()
                model.fit(spans.values, timestamps=spans.stamps)
                seconds.append(time.perf_counter() - began)
            error = held_out_errors(model, spans)
            middle = statistics.median(seconds)
            ratios = [
                f"{loops[size] / middle:.0f}" if error <= targets[size] else "not as good"
                for size in sizes
            ]
            lines.append(
                f"| {name} | {label} ({model.n_experts_} experts) | {error:.4f} | {middle:.2f} "
                f"({min(seconds):.2f}-{max(seconds):.2f}) | {' | '.join(ratios)} |"
            )
            print(lines[-1], flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{name}: peak memory of this process {peak:.0f} MiB", flush=True)
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
