"""How long `import mixlin` takes beside `import sklearn.linear_model`.

Pairs of fresh interpreters, interleaved A B A B, so that a busy moment of the machine hits both;
the figure is the median of the ratios of the pairs. The clock runs inside the interpreter, around
the import alone: counting the start of the interpreter would only pull the ratio towards 1.

    python benchmarks/import_time.py [--pairs 15] [--limit 1.5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

OURS = "import mixlin"
THEIRS = "import sklearn.linear_model"
TIMED = """\
import time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""


def seconds(statement: str) -> float:
    """Run one import in a fresh interpreter and return the time it took."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15, help="measured pairs (default 15)")
    parser.add_argument("--limit", type=float, default=1.5, help="exit 1 above it (default 1.5)")
    options = parser.parse_args()

    for statement in (OURS, THEIRS):  # byte code and the disk's cache, not counted
        seconds(statement)
    ours, theirs = [], []
    for pair in range(options.pairs):
        order = ((OURS, ours), (THEIRS, theirs))
        for statement, times in order if pair % 2 == 0 else reversed(order):
            times.append(seconds(statement))

    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio = statistics.median(ratios)
    print(f"{OURS}: {1e3 * statistics.median(ours):.0f} ms (median of {options.pairs})")
    print(f"{THEIRS}: {1e3 * statistics.median(theirs):.0f} ms")
    print(f"ratio: median {ratio:.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    return int(ratio >= options.limit)


if __name__ == "__main__":
    sys.exit(main())
