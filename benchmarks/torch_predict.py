"""predict on torch against the bare product by hand, and against the numpy backend.

Run alone on the machine::

    OMP_NUM_THREADS=2 python benchmarks/torch_predict.py [--device cuda:0]

Both sides of a pair begin and end with float32 numpy arrays, and use the same number of threads.
"""

from __future__ import annotations

import argparse
import platform

import numpy as np
import torch
from timing import ratio
from torch.nn import functional

import mixlin
from mixlin.base.registry import FORECASTERS

LOOKBACK, HORIZON, TARGET = 336, 96, 1.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="of torch, such as cuda:0 (default: cpu)")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--level", type=float, default=0.0, help="what is added to every value")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    spec = f"torch:{arguments.device}"

    rng = np.random.default_rng(0)
    X = (arguments.level + rng.normal(size=(arguments.rows, LOOKBACK))).astype(np.float32)
    y = (arguments.level + rng.normal(size=(2000, HORIZON))).astype(np.float32)

    def median(found: object) -> str:
        return f"{found.median:.2f} | {found.low:.2f}-{found.high:.2f}"

    print(
        f"# {arguments.rows} float32 windows, {LOOKBACK} -> {HORIZON}, {arguments.device}, "
        f"{arguments.threads} threads; Python {platform.python_version()}, numpy "
        f"{np.__version__}, torch {torch.__version__}\n"
    )
    print(
        f"| model | backend | / functional.linear (target {TARGET}) | quartiles | ms "
        "| / numpy backend | quartiles | largest difference |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in (name for name in mixlin.__all__ if name in FORECASTERS):
        model = FORECASTERS[name]().fit(X[: len(y)], y)
        expected = model.set_params(backend="numpy").predict(X)
        weight = torch.from_numpy(model.coef_.astype(np.float32)).to(device)
        bias = torch.from_numpy(model.intercept_.astype(np.float32)).to(device)
        other = FORECASTERS[name](backend="numpy").fit(X[: len(y)], y)

        @torch.inference_mode()
        def by_hand(weight: torch.Tensor = weight, bias: torch.Tensor = bias) -> np.ndarray:
            return functional.linear(torch.from_numpy(X).to(device), weight, bias).cpu().numpy()

        options = (":float32:compile",) if arguments.compile else ()
        for backend in (spec, *(spec + o for o in options)):
            model.set_params(backend=backend)
            off = np.abs(model.predict(X) - expected).max() / expected.std()
            bare = ratio(lambda m=model: m.predict(X), by_hand, arguments.pairs)
            numpy = ratio(
                lambda m=model: m.predict(X), lambda o=other: o.predict(X), arguments.pairs
            )
            print(
                f"| {name.removesuffix('Forecaster')} | {backend} | {median(bare)} "
                f"| {1e3 * bare.seconds:.1f} against {1e3 * bare.against:.1f} "
                f"| {median(numpy)} | {off:.1e} of the spread |",
                flush=True,
            )


if __name__ == "__main__":
    main()
