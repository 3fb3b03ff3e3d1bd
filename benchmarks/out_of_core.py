"""Fits on 100 million observations from disk, and how exact fits scale.

Run alone on the machine, with room for two gigabytes in the folder of the files::

    OMP_NUM_THREADS=1 python benchmarks/out_of_core.py [--folder DIR] [--jobs 1 2]
    OMP_NUM_THREADS=1 python benchmarks/out_of_core.py --scaling [--plot scaling_search.png]

Every fit runs in a process of its own, whose peak of resident memory is reported. Parquet needs the
extra ``parquet``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import timed

from mixlin import LinearForecaster
from mixlin.streaming import fit_stream

LOOKBACK, HORIZON = 336, 96
SHAPES = ((10_000_000, 10), (100_000_000, 1))
COMPARED = 2_000_000  # observations that are fitted in memory, too
BLOCK = 2**18


def rows(start: int, stop: int, n_channels: int) -> np.ndarray:
    """Return a seasonal series of hours, block by block the same."""
    t = np.arange(start, stop)[:, None] + 7 * np.arange(n_channels)
    noise = np.random.default_rng([start, n_channels]).normal(size=t.shape)
    day, week = np.sin(2 * np.pi * t / 24), np.sin(2 * np.pi * t / 168)
    return 20.0 + 3.0 * day + week + 0.5 * noise


def write_files(folder: Path, n_rows: int, n_channels: int) -> tuple[Path, Path]:
    """Write the same rows as a memory map and as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    mapped = folder / f"{n_rows}x{n_channels}.npy"
    parquet = mapped.with_suffix(".parquet")
    out = np.lib.format.open_memmap(mapped, "w+", np.float64, (n_rows, n_channels))
    names = [f"c{i}" for i in range(n_channels)]
    schema = pa.schema([("time", pa.timestamp("ns")), *((name, pa.float64()) for name in names)])
    with pq.ParquetWriter(parquet, schema) as writer:
        for start in range(0, n_rows, BLOCK):
            stop = min(start + BLOCK, n_rows)
            values = rows(start, stop, n_channels)
            out[start:stop] = values
            stamps = np.datetime64("1990-01-01", "ns") + np.arange(start, stop) * np.timedelta64(
                1, "m"
            )
            columns = [pa.array(stamps), *(pa.array(column) for column in values.T)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    out.flush()
    return mapped, parquet


def peak_mib() -> float:
    """Return the peak of resident memory of this process since it started."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak / (2**20 if sys.platform == "darwin" else 2**10))
    return float(next(s for s in status.splitlines() if s.startswith("VmHWM")).split()[1]) / 2**10


def model() -> LinearForecaster:
    return LinearForecaster(lookback=LOOKBACK, horizon=HORIZON)


def fit_file(path: str, n_jobs: int) -> None:
    """Fit a file, and print what it took as JSON; runs in a process of its own."""
    options = {"time": "time"} if path.endswith(".parquet") else {}
    before, start = peak_mib(), time.perf_counter()
    fitted = fit_stream(model(), path, n_jobs=n_jobs, **options)
    seconds = time.perf_counter() - start
    workers = 0.0
    if n_jobs > 1:
        import resource

        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown()
        workers = n_jobs * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak": peak_mib() + workers,
                "before": before,
                "coef": float(np.abs(fitted.coef_).sum()),
            }
        )
    )


def out_of_core(folder: Path, jobs: list[int], shrink: int) -> None:
    header = ("rows", "channels", "source", "jobs", "seconds", "peak MiB", "at import")
    print(("{:>12} {:>8} {:>9} {:>5} {:>8} {:>9} {:>9}").format(*header))
    for n_rows, n_channels in SHAPES:
        n_rows //= shrink
        files = write_files(folder, n_rows, n_channels)
        for path in files:
            for n_jobs in jobs:
                command = [sys.executable, __file__, "--fit", str(path), str(n_jobs)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{n_rows:>12} {n_channels:>8} {path.suffix[1:]:>9} {n_jobs:>5} "
                    f"{found['seconds']:>8.1f} {found['peak']:>9.0f} {found['before']:>9.0f}",
                    flush=True,
                )
        for path in files:
            path.unlink()


def equality(folder: Path) -> None:
    """Compare with the fit in memory on a size that fits."""
    for n_channels in (10, 1):
        n_rows = COMPARED // n_channels
        mapped, parquet = write_files(folder, n_rows, n_channels)
        whole = model().fit(np.load(mapped))
        for path, options in ((mapped, {}), (parquet, {"time": "time"})):
            for n_jobs in (1, 2):
                fitted = fit_stream(model(), str(path), n_jobs=n_jobs, **options)
                worst = np.abs(fitted.coef_ - whole.coef_).max() / np.abs(whole.coef_).max()
                ahead = np.abs(np.asarray(fitted.predict()) - whole.predict()).max()
                print(
                    f"{n_rows} x {n_channels}, {path.suffix[1:]}, {n_jobs} jobs: coefficients "
                    f"differ by {worst:.1e} (relative), forecasts by {ahead:.1e}"
                )
                assert worst < 1e-10
                assert ahead < 1e-10
            path.unlink()


# (what is varied, its values); the others stay at these
BASE = {"T": 100_000, "C": 4, "L": 336, "H": 96}
VARIED = {
    "T": (30_000, 100_000, 300_000, 1_000_000, 3_000_000),
    "C": (4, 12, 36, 108),
    "L": (96, 192, 384, 768, 1536, 3072),
    "H": (24, 96, 384, 768),
}
WHAT = {"T": "rows", "C": "channels", "L": "lookback", "H": "horizon"}


def scaling(plot: Path | None) -> None:
    """Time exact fits over rows, channels, lookback and horizon, and fit exponents."""
    found = {}
    for name, values in VARIED.items():
        seconds = []
        for value in values:
            size = {**BASE, name: value}
            series = rows(0, size["T"], size["C"])
            exact = LinearForecaster(lookback=size["L"], horizon=size["H"])
            exact.fit(series[: 4 * (size["L"] + size["H"])])  # loads and warms what it needs
            seconds.append(min(timed(lambda s=series, e=exact: e.fit(s)) for _ in range(3)))
            print(f"{WHAT[name]:>9} {value:>9} {seconds[-1]:>8.3f} s", flush=True)
        upper = slice(len(values) // 2 - 1, None)  # small sizes are constant costs
        slope = np.polyfit(np.log(values[upper]), np.log(seconds[upper]), 1)[0]
        print(f"{WHAT[name]:>9} exponent {slope:.2f}")
        found[name] = (seconds, slope)
    if plot is None:
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(VARIED), figsize=(11, 3), layout="constrained", sharey=True)
    for axis, (name, values) in zip(axes, VARIED.items(), strict=True):
        seconds, slope = found[name]
        axis.loglog(values, seconds, "o-", label=f"exponent {slope:.2f}")
        others = ", ".join(f"{k} = {v:,}" for k, v in BASE.items() if k != name)
        axis.set_xlabel(f"{WHAT[name]} {name}")
        axis.set_title(others, fontsize=7)
        axis.xaxis.set_minor_formatter("")
        axis.legend(frameon=False, loc="upper left")
    axes[0].set_ylabel("seconds of an exact fit")
    figure.savefig(plot, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where files are written; a temporary one")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shrink", type=int, default=1, help="divide the number of rows by this")
    parser.add_argument("--scaling", action="store_true", help="time exact fits instead")
    parser.add_argument("--plot", type=Path, help="write the scaling figure to this file")
    parser.add_argument("--fit", nargs=2, metavar=("FILE", "JOBS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit_file(arguments.fit[0], int(arguments.fit[1]))
        return
    if arguments.scaling or arguments.plot:
        scaling(arguments.plot)
        return
    print(f"{os.cpu_count()} processors, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        equality(Path(folder))
        out_of_core(Path(folder), arguments.jobs, arguments.shrink)


if __name__ == "__main__":
    main()
