"""The ttnn backend on a Tenstorrent card, or planned for a mock one: speed, errors, operations.

With a card (none of these figures is known yet; please send what you find)::

    python benchmarks/hardware.py --device real [--options trace,queues] [--models FOLDER]

Without one, in CPython 3.10 or 3.12 on Linux with ttnn installed::

    python benchmarks/hardware.py --device mock-wormhole --quick

A mock card plans every program and computes nothing. There the tables hold operations, memory and
bytes, and no times; errors come from a stand-in in numpy that rounds what the card would store, so
they show storage rounding only. Every series is synthetic and z-scored per channel.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hardware_models import Case, Data, makers, of_estimator, test_data
from timing import timed

import mixlin
from mixlin.backends import Backend, BackendNotAvailableError, resolve
from mixlin.backends.ttnn_backend.card import Card
from mixlin.mixture import forward

TARGETS = "800+ sequences/s at batch 8, < 15 ms at batch 1"
MOST_OPERATIONS = 8  # of a mixture of 4 experts whose gate reads the calendar
AT_MOST = ("shared", "calendar", "as in MoLE", "fixed", "by step")
TILE_BYTES = {"BFLOAT16": 2048, "FLOAT32": 4096, "BFLOAT8_B": 1088}
MOCKS = {"mock-wormhole": "wormhole_b0", "mock-blackhole": "blackhole"}


# -- the grid ----------------------------------------------------------------------------------


def shapes(arguments: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    for n_channels in arguments.channels:
        for lookback in arguments.lookbacks:
            for horizon in arguments.horizons:
                yield n_channels, lookback, horizon


def loaded(arguments: argparse.Namespace) -> Iterator[Case]:
    for path in sorted(arguments.models.glob("*.safetensors")) if arguments.models else ():
        estimator = mixlin.load(path)
        n_channels = estimator.plan_.n_channels or arguments.channels[0]
        shape = (n_channels, estimator.lookback_, estimator.horizon_)
        n = max(arguments.batch, arguments.windows)
        yield of_estimator(path.stem, estimator, test_data(*shape, n, 0.0))


# -- counting ----------------------------------------------------------------------------------


class Counted:
    """ttnn, counting what crosses to the card and back, and what its products cost."""

    def __init__(self, tt: Any) -> None:
        self._tt = tt
        self.reset()

    def reset(self) -> None:
        self.up = self.down = self.flops = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tt, name)
        setattr(self, name, value)  # found without this method from now on
        return value

    def Tensor(self, array: Any, dtype: Any, device: Any, *rest: Any) -> Any:
        tensor = self._tt.Tensor(array, dtype, device, *rest)
        self.up += 0 if device is None else size(tensor)
        return tensor

    def copy_host_to_device_tensor(self, host: Any, tensor: Any, **options: Any) -> Any:
        self.up += size(tensor)
        return self._tt.copy_host_to_device_tensor(host, tensor, **options)

    def from_device(self, tensor: Any, **options: Any) -> Any:
        self.down += size(tensor)
        return self._tt.from_device(tensor, **options)

    def linear(self, a: Any, b: Any, **options: Any) -> Any:
        out = self._tt.linear(a, b, **options)
        self.flops += 2 * math.prod(out.shape) * a.shape[-1]
        return out


def size(tensor: Any) -> int:
    return math.prod(tensor.padded_shape) // 1024 * TILE_BYTES[tensor.dtype.name]


class Plan(NamedTuple):
    """What one warmed forward pass does on the device."""

    operations: Counter[str]
    l1: int
    l1_by_rule: int
    up: int
    down: int
    weights: int
    flops: int


def planned(case: Case, data: Data, backend: Backend, tt: Counted) -> Plan:
    from ttnn._ttnn import graph

    card = Card.of(tt, int(backend.device or 0))
    tt.reset()
    with card.lock:
        card.constants.clear()  # what another model shares with this one counts for both
    case.forecast(data, backend)
    first = tt.up
    tt.reset()
    card.l1_peak = card.l1_in_use
    graph.begin_graph_capture(graph.RunMode.NORMAL)
    try:
        case.forecast(data, backend)
    finally:
        nodes = graph.end_graph_capture()
    names = [n["params"]["name"] for n in nodes if n["node_type"] == "function_start"]
    ran = [n for n in names if n.endswith("Operation")]
    launched = sum(n["node_type"] == "program_execution" for n in nodes)
    operations = Counter(n.removesuffix("Operation").removesuffix("Device") for n in ran)
    if launched != len(ran):
        operations["without a name"] = launched - len(ran)
    l1 = graph.extract_resource_usage_per_core(nodes).peak_l1
    return Plan(operations, l1, card.l1_peak, tt.up, tt.down, first - tt.up, tt.flops)


# -- tables ------------------------------------------------------------------------------------


class Table:
    """A Markdown table, printed row by row; columns are padded to their titles."""

    def __init__(self, title: str, *columns: str) -> None:
        self._widths = [len(c) for c in columns]
        print(f"\n## {title}\n")
        print(f"| {' | '.join(columns)} |")
        print("|" + "|".join("-" * (w + 2) for w in self._widths) + "|", flush=True)

    def add(self, *cells: object) -> None:
        padded = (str(c).ljust(w) for c, w in zip(cells, self._widths, strict=True))
        print(f"| {' | '.join(padded)} |", flush=True)

    def add_error(self, start: tuple[object, ...], said: str) -> None:
        empty = len(self._widths) - len(start) - 1
        self.add(*start, *[""] * empty, f"raised {said}")


WHAT = ("model       ", "gate       ", "C  ", "L  ", "H  ", "dtype    ")


def what(case: Case, dtype: str) -> tuple[object, ...]:
    _, n_channels, lookback = case.data.windows.shape
    return case.name, case.gate, n_channels, lookback, case.mixture.horizon, dtype


def kib(n_bytes: int) -> str:
    return f"{n_bytes / 1024:.0f}"


def timings(case: Case, backend: Backend, batch: int, repeats: int) -> tuple[str, ...]:
    """Return sequences per second and the latency of one window, host and transfers included."""
    one, many = case.data.first(1), case.data.first(batch)
    case.forecast(one, backend)
    case.forecast(many, backend)
    seconds = statistics.median(timed(lambda: case.forecast(many, backend)) for _ in range(repeats))
    latencies = [1e3 * timed(lambda: case.forecast(one, backend)) for _ in range(repeats)]
    tenths = statistics.quantiles(latencies, n=10)
    latency, rate = statistics.median(latencies), batch / seconds
    met = f"{'yes' if rate >= 800 else 'no'}, {'yes' if latency < 15 else 'no'}"
    return f"{rate:.0f}", f"{latency:.2f}", f"{tenths[0]:.2f}-{tenths[-1]:.2f}", met


def errors(case: Case, backend: Backend) -> tuple[str, ...]:
    """Compare forecasts and gates with the numpy backend's, in units of the forecasts' spread."""
    data, numpy = case.data, resolve("numpy")
    expected = case.forecast(data, numpy)
    actual = case.forecast(data, backend).astype(np.float64)
    off = np.abs(actual - expected)
    spread = expected.std()
    gates = "-"
    if case.mixture.n_experts > 1:
        both = [
            forward(case.mixture, b, data.windows, timestamps=data.stamps, parts=True).gates
            for b in (numpy, backend)
        ]
        gates = f"{np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1]:.6f}"
    worse = [
        (np.abs(actual - data.targets) ** p).mean() / (np.abs(expected - data.targets) ** p).mean()
        for p in (2, 1)
    ]
    return (
        f"{np.corrcoef(expected.ravel(), actual.ravel())[0, 1]:.6f}",
        gates,
        f"{100 * math.sqrt((off**2).mean()) / spread:.3f}",
        f"{100 * np.quantile(off, 0.999) / spread:.3f}",
        f"{100 * off.max() / spread:.3f}",
        *(f"{ratio:.5f}" for ratio in worse),
    )


# -- the benchmark -----------------------------------------------------------------------------


class Benchmark:
    """Backends by dtype, and which configurations went wrong."""

    def __init__(self, arguments: argparse.Namespace, tt: Counted, stand_in: Any) -> None:
        from mixlin.backends.ttnn_backend import TtnnBackend

        self._arguments = arguments
        self._tt = tt
        self.mock = stand_in is not None
        self.problems: list[str] = []

        def backends(module: Any) -> dict[str, Backend]:
            options = [] if self.mock else arguments.options
            number = str(arguments.chip)
            return {d: TtnnBackend(number, d, options, module=module) for d in arguments.dtypes}

        self.planning = backends(tt)
        self.computing = backends(stand_in) if self.mock else self.planning

    def attempt(
        self, table: Table, case: Case, dtype: str, cells: Callable[[], tuple[object, ...]]
    ) -> None:
        """Add a row; a configuration that raises is a row too, and fails the run at its end."""
        start = what(case, dtype)
        try:
            table.add(*start, *cells())
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).split('backtrace')[0].strip()[:300]}"
            self.problems.append(f"{' '.join(map(str, start))}: {said}")
            table.add_error(start, said)

    def _in_every_dtype(self, shape: tuple[int, int, int]) -> bool:
        lookbacks = self._arguments.lookbacks
        fewest = shape[0] == min(self._arguments.channels)
        return fewest and shape[1] == lookbacks[len(lookbacks) // 2]

    def cases(self, table: Table, row: Callable[[Table, Case, str], None]) -> None:
        """Run over the grid: all of it in the first dtype, a part of it in the others."""
        arguments = self._arguments
        for shape in shapes(arguments):
            for make in makers(arguments.experts, shape[2]):
                n = max(arguments.batch, arguments.windows)
                case = make(test_data(*shape, n, 0.0), 0.0)
                for dtype in arguments.dtypes:
                    if dtype == arguments.dtypes[0] or self._in_every_dtype(shape):
                        row(table, case, dtype)
        for case in loaded(arguments):
            for dtype in arguments.dtypes:
                row(table, case, dtype)

    def plans(self) -> None:
        table = Table(
            f"Plans of {self._arguments.batch} windows",
            *WHAT,
            *(
                "ops",
                "L1 KiB",
                "by rule",
                "up KiB",
                "down KiB",
                "weights KiB",
                "GFLOP",
                "operations",
            ),
        )

        def row(table: Table, case: Case, dtype: str) -> None:
            def cells() -> tuple[object, ...]:
                data = case.data.first(self._arguments.batch)
                plan = planned(case, data, self.planning[dtype], self._tt)
                count = sum(plan.operations.values())
                four = case.mixture.n_experts == 4 and case.gate in AT_MOST
                if four and count > MOST_OPERATIONS:
                    self.problems.append(f"{what(case, dtype)}: {count} operations")
                sizes = map(kib, (plan.l1, plan.l1_by_rule, plan.up, plan.down, plan.weights))
                names = ", ".join(f"{k} {n}" if n > 1 else k for k, n in plan.operations.items())
                return count, *sizes, f"{plan.flops / 1e9:.3f}", names

            self.attempt(table, case, dtype, cells)

        self.cases(table, row)
        print(
            "\nL1 KiB: peak of what activations take in one bank, captured on a second run, and "
            "what the rule that\nplaces them counted. Up and down: tile bytes of one pass. "
            "GFLOP: of the products, padded rows included."
        )

    def times(self) -> None:
        table = Table(
            f"Speed; targets {TARGETS}",
            *WHAT,
            *("sequences/s", "latency ms", "10 %-90 %   ", "targets met"),
        )

        def row(table: Table, case: Case, dtype: str) -> None:
            a = self._arguments
            self.attempt(
                table,
                case,
                dtype,
                lambda: timings(case, self.planning[dtype], a.batch, a.repeats),
            )

        self.cases(table, row)

    def accuracy(self) -> None:
        arguments = self._arguments
        unit = "rounding of what is stored, no card" if self.mock else "on the card"
        table = Table(
            f"Errors, {unit}, in % of the standard deviation of all forecasts",
            *WHAT,
            *(
                "level",
                "PCC     ",
                "gates   ",
                "RMS  ",
                "99.9 %",
                "max  ",
                "MSE ratio",
                "MAE ratio",
            ),
        )
        n_channels = min(arguments.channels)

        def add(case: Case, dtype: str, level: float) -> None:
            self.attempt(
                table,
                case,
                dtype,
                lambda: (f"{level:g}", *errors(case, self.computing[dtype])),
            )

        for shape in shapes(arguments):
            # more channels would take long in numpy, and round no differently
            if self.mock and shape[0] != n_channels:
                continue
            levels = arguments.levels if self._in_every_dtype(shape) else arguments.levels[:1]
            for make in makers(arguments.experts, shape[2]):
                for level in levels:
                    case = make(test_data(*shape, arguments.windows, level), level)
                    for dtype in arguments.dtypes:
                        add(case, dtype, level)
        for case in loaded(arguments):
            for dtype in arguments.dtypes:
                add(case, dtype, 0.0)


def prepare(arguments: argparse.Namespace, folder: str) -> tuple[Counted, Any]:
    """Import ttnn, for a mock card with its environment, and make the stand-in for numbers."""
    stand_in = None
    try:
        if arguments.device != "real":
            sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
            from tests.ttnn.fake_ttnn import FakeTtnn
            from tests.ttnn.mock_card import prepare as prepare_mock_card

            arch = MOCKS[arguments.device]
            prepare_mock_card(folder, arch)
            stand_in = FakeTtnn(arch=arch)
        import ttnn
    except ImportError as error:
        raise SystemExit(
            f"this benchmark needs ttnn: pip install 'mixlin[ttnn]' ({error})"
        ) from None
    return Counted(ttnn), stand_in


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("real", *MOCKS), required=True)
    add("--chip", type=int, default=0, help="number of the card (default: 0)")
    add("--options", type=lambda s: s.split(","), default=[], help="such as trace,queues (a card)")
    add("--models", type=Path, help="folder of saved models (.safetensors) to run as well")
    add("--quick", action="store_true", help="a small grid")
    add("--batch", type=int, default=8)
    add("--repeats", type=int, default=50, help="timed calls (default: 50)")
    add("--windows", type=int, default=32, help="windows that errors are measured on")
    add("--channels", type=numbers, default=[7, 21, 321])
    add("--lookbacks", type=numbers, default=[96, 336, 512])
    add("--horizons", type=numbers, default=[96, 192, 336, 720])
    add("--experts", type=numbers, default=[1, 2, 4, 8])
    add("--levels", type=lambda s: [float(v) for v in s.split(",")], default=[0.0, 1e3, 1e6])
    add("--dtypes", type=lambda s: s.split(","), default=["bfloat16", "float32", "bfloat8_b"])
    add("--skip", choices=("plans", "errors"), help="leave a part out")
    arguments = parser.parse_args()
    if arguments.quick:
        few = {"channels": [7, 321], "lookbacks": [336], "horizons": [96, 720]}
        vars(arguments).update(few, windows=16, levels=[0.0, 1e6])
    return arguments


def main() -> int:
    arguments = parse()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tt, stand_in = prepare(arguments, folder)
        benchmark = Benchmark(arguments, tt, stand_in)
        card = Card.of(tt, arguments.chip)
        first = benchmark.planning[arguments.dtypes[0]]
        try:
            first.open()
        except BackendNotAvailableError as error:
            raise SystemExit(str(error)) from None
        print(
            f"# {arguments.device}: {card.device.arch().name}, {card.l1_banks} banks of "
            f"{card.l1_bytes_per_bank} bytes; Python {platform.python_version()}, numpy "
            f"{np.__version__}, mixlin {mixlin.__version__}"
        )
        try:
            if not benchmark.mock:
                benchmark.times()
            if arguments.skip != "plans" and "trace" not in arguments.options:
                benchmark.plans()  # operations of a recorded trace are not seen one by one
            if arguments.skip != "errors":
                benchmark.accuracy()
        finally:
            for backend in (*benchmark.planning.values(), *benchmark.computing.values()):
                backend.close()
    for problem in benchmark.problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    if benchmark.mock:  # the only time worth telling here
        print(f"\nThis run took {time.perf_counter() - start:.0f} s.", file=sys.stderr)
    return int(bool(benchmark.problems))


if __name__ == "__main__":
    sys.exit(main())
