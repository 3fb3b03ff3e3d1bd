"""Coverage of the residual intervals on spans that no fit has seen.

    python benchmarks/coverage.py

Prints the share of test values inside the 90 % intervals, averaged over windows, steps and
channels, and per channel.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from mixlin import LinearForecaster, RLinearForecaster
from mixlin.datasets import fetch_ett, fetch_illness, ltsf_split, make_seasonal


def covered(estimator: object, data: Bunch, lookback: int, horizon: int) -> np.ndarray:
    """Return the share of covered test values, one per channel."""
    split = ltsf_split(data, len(data.data))
    estimator.set_params(lookback=lookback, horizon=horizon).fit(data.data[: split.train_end])
    span = data.data[split.val_end - lookback : split.test_end]
    both = np.lib.stride_tricks.sliding_window_view(span, lookback + horizon, axis=0)
    inside = np.zeros(span.shape[1])
    for start in range(0, len(both), 256):
        windows = both[start : start + 256].transpose(0, 2, 1)
        interval = estimator.predict_interval(windows[:, :lookback], 0.9)
        actual = windows[:, lookback:]
        hit = (interval[..., 0] <= actual) & (actual <= interval[..., 1])
        inside += hit.sum(axis=(0, 1))
    return inside / (len(both) * horizon)


def main() -> None:
    print("| data | model | L | H | coverage at 90 % | per channel |")
    print("|---|---|---|---|---|---|")
    cases = [(make_seasonal(random_state=seed), 336, (96, 336)) for seed in range(3)]
    for fetch, lookback, horizons in (
        (lambda: fetch_ett("ETTh1", download_if_missing=False), 336, (96, 720)),
        (lambda: fetch_illness(download_if_missing=False), 104, (24, 60)),
    ):
        try:
            cases.append((fetch(), lookback, horizons))
        except OSError as error:
            print(f"not measured: {error}")
    for data, lookback, horizons in cases:
        for estimator in (LinearForecaster(), RLinearForecaster()):
            for horizon in horizons:
                share = covered(estimator, data, lookback, horizon)
                each = " ".join(f"{s:.2f}" for s in share)
                print(
                    f"| {data.name} | {type(estimator).__name__} | {lookback} | {horizon} | "
                    f"{share.mean():.3f} | {each} |"
                )


if __name__ == "__main__":
    main()
