"""predict of the published Super-Linear configuration against a plain block of the same weights.

The block is written as the reference computes it: a complex transform of 5000 samples, all 49
linear experts in one einsum, the chosen ones gathered; float32, from numpy to numpy. Weights are
random, of the published shapes (51 experts, 512 -> 96 steps, the best 12), and both sides give the
same forecasts. Run alone on the machine::

    OMP_NUM_THREADS=2 python benchmarks/superlinear_speed.py [--backend torch] [--markdown FILE]

``--rollout`` leaves the estimator out: what its checks of the input take is the difference.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import Ratio, peak_mib, ratio

from mixlin.backends import resolve
from mixlin.mixture import rollout_forecast
from mixlin.pretrained import Settings, read_settings, read_superlinear, write_superlinear

TARGETS = {2048: 4.0, 256: 2.0, 1: None}  # times as fast
TARGET_MS = 0.5  # of one window
TARGET_MIB = 300
SHARPNESS = 300.0  # of the gate, so that windows differ in the experts that they choose


def make_state(settings: Settings, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights in the published form."""
    rng = np.random.default_rng(seed)
    L, H, n_experts = settings.lookback, settings.horizon, len(settings.experts)
    state = {}
    for e in range(n_experts):
        if not settings.is_constant(e):
            state[f"moe.experts.{e}.Linear.weight"] = rng.normal(size=(H, L)) / np.sqrt(L)
            state[f"moe.experts.{e}.Linear.bias"] = rng.normal(size=H) / 10
    bins = settings.padded_length // 2
    state["moe.gating_network.weight"] = rng.normal(size=(n_experts, bins)) * SHARPNESS / 10
    state["moe.gating_network.bias"] = rng.normal(size=n_experts) / 10
    return {key: value.astype(np.float32) for key, value in state.items()}


class DenseBlock:
    """One block as the reference computes it."""

    def __init__(self, state: dict[str, np.ndarray], settings: Settings) -> None:
        tensors = {key: torch.from_numpy(value) for key, value in state.items()}
        linear = [e for e in range(len(settings.experts)) if not settings.is_constant(e)]
        self.weight = torch.stack([tensors[f"moe.experts.{e}.Linear.weight"] for e in linear])
        self.bias = torch.stack([tensors[f"moe.experts.{e}.Linear.bias"] for e in linear])
        self.gate = tensors["moe.gating_network.weight"], tensors["moe.gating_network.bias"]
        self.settings = settings

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Forecast windows (n, 512) as (n, 96)."""
        x = torch.from_numpy(windows)
        n, horizon = self.settings.padded_length, self.settings.horizon
        mean = x.mean(dim=1, keepdim=True)
        spectrum = torch.fft.fft(x - mean, n=n, dim=1)[:, : n // 2] / n**0.5
        power = spectrum.abs() ** 2
        total = power.sum(dim=1, keepdim=True)
        total[total == 0] = 1
        logits = torch.nn.functional.linear(power / total, *self.gate)
        best, chosen = torch.topk(logits / self.settings.temperature, self.settings.top_k, dim=1)
        scale = x.std(dim=1, keepdim=True) + 1e-5
        unit = (x - mean) / scale
        experts = torch.einsum("bl,ehl->beh", unit, self.weight) + self.bias
        constant = torch.stack([unit.mean(dim=1), unit[:, -1]], dim=1)[:, :, None]
        every = torch.cat([constant.expand(-1, -1, horizon), experts], dim=1)
        kept = every.gather(1, chosen[:, :, None].expand(-1, -1, horizon))
        mixed = (torch.softmax(best, dim=1)[:, :, None] * kept).sum(dim=1)
        return (mixed * scale + mean).numpy()


def make_windows(n: int, lookback: int, seed: int = 1) -> np.ndarray:
    """Return seasons of several periods with noise, (n, lookback) in float32."""
    rng = np.random.default_rng(seed)
    period = rng.choice([7, 12, 24, 48, 96, 168, 336], size=(n, 1))
    season = np.sin(2 * np.pi * (np.arange(lookback) / period + rng.uniform(size=(n, 1))))
    walk = np.cumsum(rng.normal(size=(n, lookback)), axis=1) * 0.03
    noise = rng.normal(size=(n, lookback)) * rng.uniform(0.05, 0.5, (n, 1))
    return (season + walk + noise).astype(np.float32)


def forecaster(folder: str, backend: str, rollout: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps windows (n, 512) to forecasts (n, 96)."""
    if rollout:
        model, engine = read_superlinear(folder), resolve(backend)

        def forecast(windows: np.ndarray) -> np.ndarray:
            found = rollout_forecast(
                model.block,
                model.rollout,
                windows[:, None],
                model.block.horizon,
                engine,
                gates=False,
            )
            return found.forecast[:, 0]

        return forecast
    from mixlin import SuperLinearForecaster

    estimator = SuperLinearForecaster.from_pretrained(folder, backend=backend)
    return lambda windows: estimator.predict(windows[:, :, None])[:, :, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="numpy", help="of predict (default: numpy)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--rollout", action="store_true", help="without the estimator around it")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = read_settings()
    state = make_state(settings)
    reference = DenseBlock(state, settings)
    with tempfile.TemporaryDirectory() as folder:
        write_superlinear(folder, read_superlinear(state))
        ours = forecaster(folder, options.backend, options.rollout)
    lines = [
        f"# 512 -> 96 steps, 51 experts, the best 12; {options.backend}, {options.threads} "
        f"threads; Python {platform.python_version()}, numpy {np.__version__}, torch "
        f"{torch.__version__}",
        "",
        "| windows | times as fast as the dense block (target) | quartiles | ms | windows/s "
        "| most memory, MiB | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, target in TARGETS.items():
        windows = make_windows(n, settings.lookback)
        expected, found = reference(windows), ours(windows)
        off = np.abs(found - expected).max() / np.abs(expected).max()
        measured: Ratio = ratio(
            lambda w=windows: reference(w),
            lambda w=windows: ours(w),
            options.pairs if n > 1 else 20 * options.pairs,
        )
        wanted = f" ({target:.0f})" if target else f" ({TARGET_MS} ms)"
        lines.append(
            f"| {n} | {measured.median:.2f}{wanted} | {measured.low:.2f}-{measured.high:.2f} "
            f"| {1e3 * measured.against:.2f} against {1e3 * measured.seconds:.2f} "
            f"| {n / measured.against:.0f} | {peak_mib(lambda w=windows: ours(w)):.0f} "
            f"| {off:.1e} of the largest |"
        )
    lines += ["", f"Target of memory at 2048 windows: {TARGET_MIB} MiB."]
    print("\n".join(lines))
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
