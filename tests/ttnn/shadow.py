"""Every call on two modules at once: the real ttnn plans it, the stand-in gives its numbers.

In mock mode the real ttnn checks what a chip would accept and computes nothing. ``Shadow(ttnn)``
is handed to the backend as its module: it calls both, compares what comes back, and returns the
numbers of the stand-in. It holds no table of operations.
"""

from __future__ import annotations

import numpy as np

from tests.ttnn.fake_device import Shape
from tests.ttnn.fake_ttnn import FakeTtnn
from tests.ttnn.fake_ttnn import Tensor as FakeTensor

# what the two may answer differently: ttnn compiles several programs for one call
UNCOMPARED = frozenset(
    {
        "__version__",
        "chip",
        "get_arch_name",
        "id",
        "largest_contiguous_bytes_free_per_bank",
        "nbytes",
        "num_program_cache_entries",
        "total_bytes_allocated_per_bank",
        "total_bytes_free_per_bank",
        "total_bytes_per_bank",
        "begin_trace_capture",
    }
)
PLAIN = (bool, int, float, str, bytes, type(None))


def real_of(value):
    """Return what the real ttnn knows of a value, inside lists and mappings too."""
    return unpack(value, "_real")


def fake_of(value):
    """Return what the stand-in knows of a value, inside lists and mappings too."""
    return unpack(value, "_fake")


def unpack(value, side):
    if isinstance(value, Pair):
        return object.__getattribute__(value, side)
    if isinstance(value, Shape) and side == "_real":
        return Pair.shape_type(list(value))
    if type(value) in (list, tuple):
        return type(value)(unpack(item, side) for item in value)
    if type(value) is dict:
        return {key: unpack(item, side) for key, item in value.items()}
    return value


def join(real, fake, what):
    """Compare two answers, and return the stand-in's or the two as a pair."""
    if isinstance(fake, PLAIN):
        if what not in UNCOMPARED and fake is not None:
            assert real == fake, f"{what}: ttnn says {real!r}, the stand-in {fake!r}"
        return fake
    if isinstance(fake, np.ndarray):
        shape = tuple(real.shape)
        assert shape == fake.shape, f"{what}: ttnn reads {shape}, the stand-in {fake.shape}"
        assert real.dtype == fake.dtype, f"{what}: ttnn reads {real.dtype}, not {fake.dtype}"
        return fake
    if isinstance(fake, (tuple, list)):
        parts = list(real)
        assert len(parts) == len(fake), f"{what}: ttnn says {parts}, the stand-in {fake}"
        joined = [join(r, f, what) for r, f in zip(parts, fake, strict=True)]
        return type(fake)(joined)
    if isinstance(fake, FakeTensor):
        compare_tensors(real, fake, what)
    return Pair(real, fake, what)


def compare_tensors(real, fake, what):
    for name, told in (
        ("shape", tuple),
        ("padded_shape", tuple),
        ("dtype", lambda value: value.name),
        ("layout", lambda value: value.name),
    ):
        planned, held = told(getattr(real, name)), told(getattr(fake, name))
        assert planned == held, f"{what}: {name} is {planned} in ttnn, {held} in the stand-in"
    where = real.storage_type().name, fake.storage_type().name
    assert where[0] == where[1], f"{what}: ttnn holds it on the {where[0]}, not {where[1]}"
    if where[0] == "DEVICE":
        memory = [tensor.memory_config().buffer_type.name for tensor in (real, fake)]
        assert memory[0] == memory[1], f"{what}: in {memory[0]} in ttnn, not in {memory[1]}"


class Pair:
    """Something of the real ttnn together with the same thing of the stand-in."""

    shape_type = tuple  # what the real one takes for a shape; set with the module

    def __init__(self, real, fake, what):
        vars(self).update(_real=real, _fake=fake, _what=what)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        # the stand-in first: it names what it does not have
        fake = getattr(self._fake, name)
        return join(getattr(self._real, name), fake, name)

    def __call__(self, *arguments, **keywords):
        return self._both(
            self._what,
            lambda side: unpack(self, side)(*unpack(arguments, side), **unpack(keywords, side)),
        )

    @staticmethod
    def _both(what, call):
        """Call both sides; both return or both raise.

        The stand-in comes first: what it refuses with an AssertionError may crash the real one.
        """
        answers, errors = {}, {}
        for side in ("_fake", "_real"):
            try:
                answers[side] = call(side)
            except AssertionError:
                raise
            except Exception as error:
                errors[side] = error
        if not errors:
            return join(answers["_real"], answers["_fake"], what)
        told = {side: str(error).split("backtrace")[0] for side, error in errors.items()}
        assert len(errors) == 2, f"{what}: only one side raises: {told}"
        assert type(errors["_fake"]) is type(errors["_real"]), f"{what}: other errors: {errors}"
        raise errors["_fake"] from errors["_real"]

    def _operator(name):
        def both(self, *operands):
            return self._both(
                name,
                lambda side: getattr(unpack(self, side), name)(*unpack(operands, side)),
            )

        return both

    __add__, __radd__ = _operator("__add__"), _operator("__radd__")
    __sub__, __rsub__ = _operator("__sub__"), _operator("__rsub__")
    __mul__, __rmul__ = _operator("__mul__"), _operator("__rmul__")
    __truediv__, __getitem__ = _operator("__truediv__"), _operator("__getitem__")

    def __eq__(self, other):
        equal = self._fake == fake_of(other)
        if isinstance(equal, bool) and isinstance(other, Pair):
            assert (self._real == other._real) == equal, f"{self._what}: equal on one side only"
        return equal

    def __hash__(self):
        return hash(self._fake)

    def __repr__(self):
        return f"Pair({self._what}: {self._fake!r})"


class Shadow(Pair):
    """The module that calls both.

    Parameters
    ----------
    real : module
        ttnn, in mock mode or with a card.
    arch : str, optional
        The chip that `real` has; the default asks it.
    """

    def __init__(self, real, arch=None, **options):
        fake = FakeTtnn(arch=arch or real.get_arch_name(), **options)
        super().__init__(real, fake, "ttnn")
        vars(self).update(__name__="ttnn")
        Pair.shape_type = real.Shape

    @property
    def real(self):
        return self._real

    @property
    def fake(self):
        return self._fake

    @property
    def calls(self):
        """The record of the stand-in."""
        return self._fake.calls
