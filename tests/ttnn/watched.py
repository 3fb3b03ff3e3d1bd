"""ttnn under observation: the calls that were made, the programs that ran, and their memory."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from unittest import mock

TRANSFERS_UP = ("to_device", "copy_host_to_device_tensor")
TRANSFERS_DOWN = ("from_device",)
# no device work: questions, host conversions, opening
OTHERS = (
    "open_device",
    "close_device",
    "get_memory_view",
    "init_device_compute_kernel_config",
    "to_dtype",
    "GetNumAvailableDevices",
    "MatmulMultiCoreReuseMultiCast1DProgramConfig",
)
VALUES = ("device", "bfloat16", "float32", "bfloat8_b", "uint16", "uint32", "int32")


def why_missing():
    """Return why ttnn can't be imported here, or None."""
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:  # a folder of that name is not the package
        return (
            "ttnn is not installed (wheels exist for CPython 3.10 and 3.12 on Linux x86-64); "
            ".ci/run ttnn makes an environment that has it"
        )
    return None


class Event(NamedTuple):
    """One call: its name, "up", "down", "op" or "other", and the tensor it moved or made."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    memory: str = ""
    inner: int = 0  # of a product


class Watched:
    """A module that forwards every call to another one and writes it down.

    Parameters
    ----------
    module : module
        ttnn, or a stand-in for it.

    Attributes
    ----------
    events : list of Event
    """

    def __init__(self, module):
        self.module = module
        self.events = []

    def __getattr__(self, name):
        found = getattr(self.module, name)
        is_function = callable(found) and (name[0].islower() or name in ("Tensor", *OTHERS))
        if not is_function or name in VALUES:
            return found

        def call(*args, **kwargs):
            result = found(*args, **kwargs)
            self.events.append(self._event(name, args, result))
            return result

        return call

    def _event(self, name, args, result):
        if name == "Tensor":
            on_device = len(args) > 2 and args[2] is not None
            return self._placed(name, "up" if on_device else "other", result)
        if name in TRANSFERS_UP:
            return Event(name, "up", tuple(args[0].shape))
        if name in TRANSFERS_DOWN:
            return Event(name, "down", tuple(args[0].shape))
        if name in OTHERS or "trace" in name or "event" in name:
            return Event(name, "other")
        event = self._placed(name, "op", result[0] if isinstance(result, (tuple, list)) else result)
        return event._replace(inner=args[0].shape[-1]) if name == "linear" else event

    @staticmethod
    def _placed(name, kind, tensor):
        memory = tensor.memory_config().buffer_type.name if kind != "other" else ""
        return Event(name, kind, tuple(tensor.shape), memory)

    @contextmanager
    def record(self):
        """Write down the calls of a block only, as a list that it yields."""
        mark, found = len(self.events), []
        yield found
        found += self.events[mark:]


def flops(events):
    """Return what the products among some calls compute, multiplications and additions."""
    return sum(2 * math.prod(event.shape) * event.inner for event in events)


class _Nothing:
    """In the place of numpy while the device computes."""

    def __getattr__(self, name):
        raise AssertionError(f"numpy.{name} was used between the upload and the download")


@contextmanager
def host_forbidden_between_transfers(backend):
    """Let no module of the forward pass touch numpy between an upload and its download."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("mixlin.backends", "mixlin.mixture")) and hasattr(module, "np")
    ]
    kept = [(module, module.np) for module in modules]
    upload, get = backend.upload, backend.get

    def forbid(*arrays):
        uploaded = upload(*arrays)
        for module in modules:
            module.np = _Nothing()
        return uploaded

    def allow(tensor):
        restore()
        return get(tensor)

    def restore():
        for module, numpy in kept:
            module.np = numpy

    with mock.patch.multiple(backend, upload=forbid, get=allow):
        try:
            yield
        finally:
            restore()


class Programs(NamedTuple):
    """What ran on the device, and the bytes of tensors in the fullest bank of L1 at most."""

    names: list[str]
    l1_peak: int


def capture(run):
    """Run twice and return what graph capture saw the second time; real ttnn only."""
    from ttnn._ttnn import graph

    run()
    graph.begin_graph_capture(graph.RunMode.NORMAL)
    try:
        run()
    finally:  # a capture that is left open swallows the next one
        nodes = graph.end_graph_capture()
    started = [node["params"]["name"] for node in nodes if node["node_type"] == "function_start"]
    names = [name.removesuffix("Operation") for name in started if name.endswith("Operation")]
    names = [name.removesuffix("Device") for name in names]
    launched = sum(node["node_type"] == "program_execution" for node in nodes)
    assert launched == len(names), f"{launched} programs were launched by {names}"
    return Programs(names, graph.extract_resource_usage_per_core(nodes).peak_l1)


@dataclass
class Table:
    """Lines that are printed when the tests have run."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *row):
        self.rows.append(tuple(str(cell) for cell in row))

    def markdown(self):
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join([f"### {self.title}", "", *("| " + " | ".join(r) + " |" for r in lines)])


TABLES = {
    "numbers": Table(
        "Errors against numpy",
        ("model", "level", "dtype", "PCC", "RMS %", "99.9 % %", "max %"),
    ),
    "gates": Table("Gates against numpy", ("model", "level", "dtype", "PCC")),
    "programs": Table("Device programs", ("model", "channels", "count", "GFLOP", "MB", "programs")),
    "memory": Table(
        "L1", ("batch, channels, horizon, experts", "gate", "peak KB", "of KB", "in DRAM")
    ),
}


def write_tables(folder=None):
    """Return the tables as Markdown; write them to a file of a folder as well."""
    text = "\n\n".join(table.markdown() for table in TABLES.values() if table.rows)
    if folder and text:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "ttnn-tables.md"), "a", encoding="utf-8") as file:
            file.write(text + "\n")
    return text
