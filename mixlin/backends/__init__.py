"""Compute engines: how a spec becomes a backend, and the package-wide configuration."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Backend, BackendNotAvailableError, Tensor

__all__ = [
    "Backend",
    "BackendNotAvailableError",
    "Tensor",
    "available",
    "config_context",
    "get_config",
    "register",
    "resolve",
    "set_config",
]

_REGISTRY: dict[str, str] = {"numpy": "mixlin.backends.numpy_backend:NumpyBackend"}
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


def _load(name: str) -> type[Backend]:
    module, _, cls = _REGISTRY[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except ImportError as error:
        raise BackendNotAvailableError(
            f"backend {name!r} is not available here: {error}. Install what it needs "
            f"(pip install 'mixlin[{name}]'), or choose one of {_usable()}."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise TypeError(f"backend {name!r}: {_REGISTRY[name]} is not a mixlin Backend class.")
    return found


def _usable() -> list[str]:
    return [name for name, reason in available().items() if reason is None]


def available() -> dict[str, str | None]:
    """Return every registered backend with ``None``, or with the reason why it can't be used.

    Examples
    --------
    >>> from mixlin import backends
    >>> print(backends.available()["numpy"])
    None
    """
    reasons: dict[str, str | None] = {}
    for name, target in _REGISTRY.items():
        try:
            importlib.import_module(target.partition(":")[0])
        except ImportError as error:
            reasons[name] = str(error)
        else:
            reasons[name] = None
    return reasons


def resolve(spec: str | Backend | None = None) -> Backend:
    """Return the backend of a spec; one instance per spec and process.

    Parameters
    ----------
    spec : str, Backend or None
        ``"name[:device[:dtype]]"``, an instance (returned as it is), or ``None`` for the
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
            name, _, rest = spec.partition(":")
            if name not in _REGISTRY:
                raise ValueError(
                    f"unknown backend {spec!r}. Accepted: {', '.join(map(repr, _REGISTRY))}, with "
                    "an optional ':device' and ':dtype'."
                )
            device, _, dtype = rest.partition(":")
            backend = _load(name)(device or None, dtype or None)
            # one engine, one instance: "numpy" and "numpy:cpu" place weights once
            _INSTANCES[spec] = _INSTANCES.setdefault(backend.spec, backend)
        return _INSTANCES[spec]


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
