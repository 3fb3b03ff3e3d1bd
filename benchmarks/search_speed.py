"""How long exact searches take.

    OMP_NUM_THREADS=2 python benchmarks/search_speed.py [defaults] [plain] [many]

``defaults``: whole fits by the protocol of the benchmark, with and without a refit. ``plain``: 500
candidates of shared ridge regressions against GridSearchCV over windows, timed on a sample of its
fits and extrapolated. ``many``: 862 channels of 17 000 rows. Needs the benchmark files in a folder
that MIXLIN_DATA_HOME names.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error

from mixlin import AutoLinearForecaster
from mixlin.datasets import fetch_ett, fetch_illness, ltsf_split, make_seasonal
from mixlin.solvers import ExactSearch

REPEATS = 3


def train_rows(data):
    split = ltsf_split(data)
    train = data.data[split.train]
    rows = (data.data[: split.val_end] - train.mean(axis=0)) / train.std(axis=0)
    return rows, np.asarray(data.index)[: split.val_end], split.val_end - split.train_end


def timed(model, rows, stamps) -> float:
    began = time.perf_counter()
    model.fit(rows, timestamps=stamps)
    return time.perf_counter() - began


def defaults() -> None:
    print("data, horizon: protocol, shared=True, with refit (median of", REPEATS, "runs, seconds)")
    cases = [
        (fetch_ett("ETTh1"), (96, 192, 336, 720)),
        (fetch_ett("ETTm1"), (96, 192, 336, 720)),
        (fetch_illness(), (24, 60)),
    ]
    for data, horizons in cases:
        rows, stamps, held = train_rows(data)
        for horizon in horizons:
            base = AutoLinearForecaster(horizon=horizon, validation=held)
            kinds = [{"refit": False}, {"refit": False, "shared": True}, {"refit": True}]
            seconds = [[] for _ in kinds]
            for _ in range(REPEATS):  # interleaved
                for kind, times in zip(kinds, seconds, strict=True):
                    model = AutoLinearForecaster(**{**base.get_params(deep=False), **kind})
                    times.append(timed(model, rows, stamps))
            shown = ", ".join(f"{np.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for t in seconds)
            print(f"{data.name}-{horizon}: {shown}", flush=True)


def plain() -> None:
    data = fetch_ett("ETTh1")
    rows, stamps, held = train_rows(data)
    lookbacks, alphas = (96, 192, 336, 512, 720), tuple(np.logspace(-6, 3, 100))
    search = ExactSearch(alphas=alphas, betas=(), forgetting=(None,), calendar=0, transform=None)
    model = AutoLinearForecaster(
        lookbacks, 96, prior=None, shared=True, validation=held, refit=False, solver=search
    )
    ours = [timed(model, rows, stamps) for _ in range(REPEATS)]
    assert len(model.cv_results_["alpha"]) == 500
    print(f"500 candidates: {np.median(ours):.2f} s ({min(ours):.2f}-{max(ours):.2f})")

    # the same search over windows: fit and score a Ridge for every candidate; a sample of them
    total = 0.0
    for lookback in lookbacks:
        z = np.lib.stride_tricks.sliding_window_view(rows, lookback + 96, axis=0)
        border = len(rows) - held - lookback - 96 + 1

        def flat(part, lookback=lookback):
            last = part[:, :, lookback - 1 : lookback]
            both = (part - last).reshape(-1, lookback + 96)
            return both[:, :lookback], both[:, lookback:]

        train, test = flat(z[:border]), flat(z[border + 96 - 1 :])
        began = time.perf_counter()
        for alpha in alphas[::50]:
            fitted = Ridge(alpha=alpha * len(train[0]), fit_intercept=False).fit(*train)
            mean_squared_error(test[1], fitted.predict(test[0]))
        total += (time.perf_counter() - began) * 50
    print(
        f"the same with Ridge on windows, 10 of 500 timed and extrapolated: {total:.0f} s, "
        f"{total / np.median(ours):.0f} times as long"
    )


def many() -> None:
    n_rows, n_channels = 17_000, 862
    few = make_seasonal(n_rows, n_channels=8, random_state=0).data
    rng = np.random.default_rng(0)
    mixed = few @ rng.dirichlet(np.ones(8), n_channels).T
    noise = rng.standard_normal(mixed.shape).cumsum(axis=0) * 0.2 + rng.standard_normal(mixed.shape)
    rows = (mixed + mixed.std(axis=0) * 0.1 * noise).astype(np.float64)
    stamps = np.datetime64("2020-01-01T00") + np.arange(n_rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    model = AutoLinearForecaster(512, 96, refit=False)
    seconds = timed(model, rows, stamps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"862 channels, 17 000 rows, 512 -> 96: {seconds:.0f} s, peak {peak:.2f} GiB")
    print(f"  ({before:.2f} GiB before the fit)")
    for group, share in zip(model.groups_, model.weights_of_groups_, strict=True):
        print(f"  {share:.2f} {group}")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["defaults", "plain", "many"]
    for name in chosen:
        {"defaults": defaults, "plain": plain, "many": many}[name]()
