"""Compute engines: how a spec becomes a backend, and the package-wide configuration."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Backend, BackendMemoryError, BackendNotAvailableError, Tensor

__all__ = [
    "Backend",
    "BackendMemoryError",
    "BackendNotAvailableError",
    "Tensor",
    "available",
    "config_context",
    "get_config",
    "open",
    "register",
    "resolve",
    "set_config",
]

_REGISTRY: dict[str, str] = {
    "numpy": "mixlin.backends.numpy_backend:NumpyBackend",
    "torch": "mixlin.backends.torch_backend:TorchBackend",
    "ttnn": "mixlin.backends.ttnn_backend:TtnnBackend",
}
_INSTANCES: dict[str, Backend] = {}
_LOCK = threading.RLock()
_GLOBAL_CONFIG: dict[str, str | None] = {"backend": None}
_THREAD = threading.local()


def register(name: str, target: str) -> None:
    """Make a backend known by name.

    Parameters
    ----------
    name : str
        The first part of the spec.
    target : str
        ``"module:Class"`` of a :class:`Backend`. The module is imported on first use; if that
        raises ImportError, the backend is reported as not available.

    Examples
    --------
    >>> from mixlin import backends
    >>> backends.register("numpy", "mixlin.backends.numpy_backend:NumpyBackend")
    >>> "numpy" in backends.available()
    True
    """
    module, _, cls = target.partition(":")
    if not name.isidentifier() or not module or not cls:
        raise ValueError(
            f"register takes an identifier and 'module:Class'; got {name!r} and {target!r}."
        )
    with _LOCK:
        _REGISTRY[name] = target
        for spec in [s for s in _INSTANCES if s.partition(":")[0] == name]:
            del _INSTANCES[spec]


def _find(name: str) -> type[Backend]:
    module, _, cls = _REGISTRY[name].partition(":")
    found = getattr(importlib.import_module(module), cls, None)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise TypeError(f"backend {name!r}: {_REGISTRY[name]} is not a mixlin Backend class.")
    return found


def _load(name: str) -> type[Backend]:
    try:
        return _find(name)
    except ImportError as error:
        raise BackendNotAvailableError(
            f"backend {name!r} is not available here: {error}. Install what it needs "
            f"(pip install 'mixlin[{name}]'), or choose another; mixlin.backends.available() says "
            "what can be used."
        ) from error


def available() -> dict[str, str | None]:
    """Return every registered backend with ``None``, or with the reason why it can't be used.

    Examples
    --------
    >>> from mixlin import backends
    >>> print(backends.available()["numpy"])
    None
    """
    reasons: dict[str, str | None] = {}
    for name in _REGISTRY:
        try:
            reasons[name] = _find(name).why_unavailable()
        except (ImportError, TypeError) as error:
            reasons[name] = str(error)
    return reasons


def _parse(spec: str) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """Split ``"name[:device[:dtype[:options]]]"``; "cuda:0" is one device."""
    name, *rest = spec.split(":")
    if len(rest) > 1 and rest[0] and not rest[0].isdigit() and rest[1].isdigit():
        rest[:2] = [":".join(rest[:2])]
    if len(rest) > 3:
        raise ValueError(
            f"backend spec {spec!r} has too many parts; accepted: "
            "'name[:device[:dtype[:options]]]'."
        )
    device, dtype, options = [*rest, "", "", ""][:3]
    return name, device or None, dtype or None, tuple(filter(None, options.split(",")))


def resolve(spec: str | Backend | None = None) -> Backend:
    """Return the backend of a spec; one instance per spec and process.

    Parameters
    ----------
    spec : str, Backend or None
        ``"name[:device[:dtype[:options]]]"``, an instance (returned as it is), or ``None`` for the
        configured one (:func:`set_config`), ``"numpy"`` unless changed.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If no backend of that name is registered.
    BackendNotAvailableError
        If its package is missing. Also an ImportError.

    Examples
    --------
    >>> from mixlin.backends import resolve
    >>> resolve(None) is resolve("numpy")
    True
    """
    if isinstance(spec, Backend):
        return spec
    if spec is None:
        spec = get_config()["backend"] or "numpy"
    if not isinstance(spec, str):
        raise TypeError(f"backend must be a str, a Backend or None; got {type(spec).__name__}.")
    with _LOCK:
        if spec not in _INSTANCES:
            name, device, dtype, options = _parse(spec)
            if name not in _REGISTRY:
                raise ValueError(
                    f"unknown backend {spec!r}. Accepted: {', '.join(map(repr, _REGISTRY))}, with "
                    "an optional ':device', ':dtype' and ':options'."
                )
            backend = _load(name)(device, dtype, *([options] if options else []))
            # one engine, one instance: "numpy" and "numpy:cpu" place weights once
            _INSTANCES[spec] = _INSTANCES.setdefault(backend.spec, backend)
        return _INSTANCES[spec]


def open(spec: str | Backend | None = None) -> Backend:
    """Open the device of a backend now; as a context manager, close it at the end.

    Without it a device is opened by the first forecast and closed when the process ends.

    Parameters
    ----------
    spec : str, Backend or None
        As in :func:`resolve`.

    Returns
    -------
    Backend

    Examples
    --------
    >>> from mixlin import backends
    >>> with backends.open("numpy") as backend:
    ...     print(backend)
    <mixlin backend 'numpy'>
    """
    backend = resolve(spec)
    backend.open()
    return backend


def get_config() -> dict[str, str | None]:
    """Return the configuration in force in this thread.

    Examples
    --------
    >>> import mixlin
    >>> mixlin.get_config()
    {'backend': None}
    """
    return {**_GLOBAL_CONFIG, **getattr(_THREAD, "config", {})}


def set_config(*, backend: str | None) -> None:
    """Set the backend of every estimator whose own ``backend`` is ``None``.

    Parameters
    ----------
    backend : str or None
        A spec; checked at once.

    Examples
    --------
    >>> import mixlin
    >>> mixlin.set_config(backend=None)
    """
    if backend is not None:
        resolve(backend)
    _GLOBAL_CONFIG["backend"] = backend


@contextmanager
def config_context(*, backend: str | None) -> Iterator[None]:
    """Set the backend inside a ``with`` block, for the current thread.

    Parameters
    ----------
    backend : str or None
        A spec; checked at once.

    Examples
    --------
    >>> import mixlin
    >>> with mixlin.config_context(backend="numpy"):
    ...     mixlin.get_config()["backend"]
    'numpy'
    """
    if backend is not None:
        resolve(backend)
    before = getattr(_THREAD, "config", {})
    _THREAD.config = {**before, "backend": backend}
    try:
        yield
    finally:
        _THREAD.config = before
