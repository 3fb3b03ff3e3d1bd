"""The engines that the tests run on: what each is, how exact it is, and what is excused.

A test that takes the fixture ``engine`` runs on every line of :data:`ENGINES`. A further engine
is one line there; what it can't do is one line of :data:`EXCLUSIONS`.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from mixlin import backends
from mixlin.backends import Backend
from mixlin.backends.numpy_backend import NumpyBackend

Array = npt.NDArray[Any]


# -- a strict engine ---------------------------------------------------------------------------


def _read_only(array: Array) -> Array:
    view = np.asarray(array).view()  # the owner keeps its own flag
    view.flags.writeable = False
    return view


class StrictNumpyBackend(NumpyBackend):
    """The reference on arrays that nobody may write to; what is read back is a copy."""

    name = "strict"

    def get(self, tensor: Array) -> Array:
        return np.array(super().get(tensor))


def _strict(name: str) -> Any:
    operation = getattr(NumpyBackend, name)

    @functools.wraps(operation)
    def read_only(self: StrictNumpyBackend, *args: Any, **kwargs: Any) -> Array:
        return _read_only(operation(self, *args, **kwargs))

    return read_only


_OPERATIONS = ["concat", "linear", "power", "gate", "penalize", "mix", "energy", "backtest"]
for _name in ["put", "columns", "reshape", *_OPERATIONS]:
    setattr(StrictNumpyBackend, _name, _strict(_name))


# -- the list ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tolerance:
    """Largest errors allowed.

    Parameters
    ----------
    bits : int
        Significant binary digits of the numbers that the engine holds.
    operation, forward : float
        Of one operation and of a forward pass of a hand-made mixture, relative to the largest
        value of the result.
    fitted : float
        Of a fitted forecaster, relative to the standard deviation of its forecasts.
    chosen : float
        Of one that chooses few of many experts for a window, in the same unit.
    """

    bits: int
    operation: float
    forward: float
    fitted: float
    chosen: float


# float32: half a unit in the last place is 6e-8. A sum of L products is off by a few of them, a
# forward pass by the sum over its layers, times the exponents of the gate's evidence.
FLOAT64_REFERENCE = Tolerance(53, 1e-13, 1e-12, 1e-12, 1e-12)
FLOAT64 = Tolerance(53, 1e-12, 1e-10, 1e-10, 1e-10)
FLOAT32 = Tolerance(24, 2e-6, 1e-5, 1e-5, 1e-5)
# bfloat16: half a unit in the last place is 2e-3, and every step rounds to it. Errors of experts
# that differ by less are equal, and another one of them may be chosen, whose forecast differs.
BFLOAT16 = Tolerance(8, 2e-2, 5e-2, 5e-2, 2e-1)


@dataclass(frozen=True)
class Engine:
    """A backend under test.

    Parameters
    ----------
    spec : str
    tolerance : Tolerance
    target : str, optional
        What tests register under the spec's name.
    """

    spec: str
    tolerance: Tolerance
    target: str | None = None

    @property
    def name(self) -> str:
        return self.spec.partition(":")[0]

    @property
    def operation(self) -> float:
        return self.tolerance.operation

    @property
    def forward(self) -> float:
        return self.tolerance.forward

    @property
    def fitted(self) -> float:
        return self.tolerance.fitted

    @property
    def chosen(self) -> float:
        return self.tolerance.chosen

    @property
    def backend(self) -> Backend:
        return backends.resolve(self.spec)

    def why_missing(self) -> str | None:
        """Return why this engine can't be tested here, or None.

        Only what a machine or an environment lacks counts: an engine that is broken fails.
        """
        if self.name != "torch":
            return None
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        import torch

        if ":cuda" in self.spec and not torch.cuda.is_available():
            return "no CUDA device: torch.cuda.is_available() is False"
        return None

    def holds(self, array: npt.ArrayLike) -> Array:
        """Round to what the engine can hold, so that only its own arithmetic is compared."""
        fraction, exponent = np.frexp(np.asarray(array, dtype=np.float64))
        unit = 2.0**self.tolerance.bits
        exponent = np.where(exponent < -120, -10_000, exponent)  # float32 and bfloat16 end there
        return np.ldexp(np.rint(fraction * unit) / unit, exponent)

    def draw(self, rng: np.random.Generator, *shape: int) -> Array:
        """Draw normal numbers that the engine holds exactly."""
        return self.holds(rng.normal(size=shape))

    def run(self, operation: str, *args: Any, **kwargs: Any) -> Array:
        """Run one operation on host arrays: rows are uploaded, weights are placed."""
        backend = self.backend
        signature = inspect.signature(getattr(Backend, operation))
        given = signature.bind(backend, *args, **kwargs).arguments
        del given["self"]
        scores = given.pop("scores", None)
        lists = {k: v for k, v in given.items() if k == "tensors"}
        rows = {k: v for k, v in given.items() if k in _ROWS and v is not None}
        losses = [score for score, _ in scores or ()]
        uploads = [*rows.values(), *losses, *(t for v in lists.values() for t in v)]
        channels = {array.shape[1] for array in uploads} - {1}
        uploaded = iter(  # what has one number of channels goes together, as in a forward pass
            backend.upload(*uploads)
            if len(channels) <= 1
            else [tensor for array in uploads for tensor in backend.upload(array)]
        )
        for key in rows:
            given[key] = next(uploaded)
        if scores is not None:
            given["scores"] = [(next(uploaded), exponent) for _, exponent in scores]
        for key, value in lists.items():
            given[key] = [next(uploaded) for _ in value]
        for key in _WEIGHTS & given.keys():
            given[key] = None if given[key] is None else backend.put(given[key])
        return backend.get(getattr(backend, operation)(**given)).astype(np.float64)

    @contextmanager
    def registered(self) -> Iterator[Engine]:
        """Know the engine by name inside of the block."""
        with mock.patch.multiple(
            backends,
            _REGISTRY=dict(backends._REGISTRY),
            _INSTANCES=dict(backends._INSTANCES),
        ):
            if self.target is not None:
                backends.register(self.name, self.target)
            yield self


_ROWS = {"x", "add", "logits", "g"}
_WEIGHTS = {"w", "b", "u"}

ENGINES = [
    Engine("numpy", FLOAT64_REFERENCE),
    Engine("strict", FLOAT64_REFERENCE, target=f"{__name__}:StrictNumpyBackend"),
    Engine("torch:cpu:float64", FLOAT64),
    Engine("torch", FLOAT32),
    Engine("torch:cuda:0:float64", FLOAT64),
    Engine("torch:cuda:0", FLOAT32),
    Engine("tile", BFLOAT16, target="tests.tile_engine:TileBackend"),
    Engine("tile:0:float32", FLOAT32, target="tests.tile_engine:TileBackend"),
    Engine("tile:1:bfloat16:queues,trace", BFLOAT16, target="tests.tile_engine:TileBackend"),
]


_TOLERANCES = {"float64": FLOAT64, "float32": FLOAT32, "bfloat16": BFLOAT16}


def engine_of(text: str) -> Engine:
    """Read ``"spec=module:Class@dtype"``, as MIXLIN_TEST_ENGINE names an engine of one's own."""
    spec, _, rest = text.partition("=")
    target, _, dtype = rest.partition("@")
    if not spec or ":" not in target or dtype not in _TOLERANCES:
        raise pytest.UsageError(
            f"MIXLIN_TEST_ENGINE={text!r}; accepted is 'spec=module:Class@dtype' with one of the "
            f"dtypes {', '.join(_TOLERANCES)}."
        )
    return Engine(spec, _TOLERANCES[dtype], target=target)


if os.environ.get("MIXLIN_TEST_ENGINE"):
    ENGINES.append(engine_of(os.environ["MIXLIN_TEST_ENGINE"]))


class Exclusion(NamedTuple):
    """A test that must fail on an engine.

    Parameters
    ----------
    test : str
        Its name.
    parameters : str
        A regular expression for what pytest shows in brackets, the engine first.
    why : str
    """

    test: str
    parameters: str
    why: str


EXCLUSIONS = [
    Exclusion(
        "test_forecasts_equal_plain_loops",
        "tile(-1-.*)?-top_one_per_step",
        "two experts are closer than bfloat16 can tell, and one of them gets all the weight",
    ),
    Exclusion(
        "test_forecasts_do_not_depend_on_the_batch",
        "tile(-1-.*)?-top_one_per_step",
        "is held against numpy, as above",
    ),
]


def excuse(node_name: str) -> Exclusion | None:
    """Return why a test can't pass on an engine, or None."""
    test, _, parameters = node_name.removesuffix("]").partition("[")
    fitting = (e for e in EXCLUSIONS if e.test == test and re.fullmatch(e.parameters, parameters))
    return next(fitting, None)


def as_parameters(specs: list[str] | None = None) -> list[Any]:
    """Return engines as parameters of pytest, named by their specs."""
    chosen = [e for e in ENGINES if specs is None or e.spec in specs]
    return [
        pytest.param(engine, id=engine.spec.replace(":", "-").replace(",", "-"))
        for engine in chosen
    ]


# -- comparing ---------------------------------------------------------------------------------


def assert_close(
    actual: Array, expected: npt.ArrayLike, tolerance: float, unit: float | None = None
) -> None:
    """Compare with a tolerance relative to the largest value, or to ``unit``."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    assert np.isfinite(actual).all()
    unit = float(np.abs(expected).max()) if unit is None else unit
    error = float(np.abs(actual - expected).max()) / unit
    assert error <= tolerance, f"off by {error:.3g}, allowed {tolerance}"


def assert_parity(
    actual: Array, expected: npt.ArrayLike, tolerance: float, unit: float | None = None
) -> None:
    """Compare, and show that ten tolerances at any one of three places would not pass."""
    assert_close(actual, expected, tolerance, unit)
    expected = np.asarray(expected)
    size = float(np.abs(expected).max()) if unit is None else unit
    for place in (0, expected.size // 2, expected.size - 1):
        moved = np.array(actual, dtype=expected.dtype)
        moved.flat[place] = expected.flat[place] + 10 * tolerance * size
        with pytest.raises(AssertionError, match="off by"):
            assert_close(moved, expected, tolerance, unit)
