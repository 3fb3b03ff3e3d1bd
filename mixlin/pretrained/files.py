"""Files of published models: read without running anything that they hold, written whole."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save as save_tensors

Array = npt.NDArray[Any]

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names that are looked for in a folder, the first first."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# what foreign bytes may provoke
_UNREADABLE = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_deserialize: Any = safetensors.deserialize  # which has no types
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def find_files(
    source: str | os.PathLike[str], revision: str | None = None
) -> tuple[Path, Path | None]:
    """Find a model's weights and its configuration, at the hub where there is no such folder.

    Parameters
    ----------
    source : str or path-like
        A folder, a file of weights, or the hub's ``"owner/name"``.
    revision : str, optional
        Branch, tag or commit at the hub.

    Returns
    -------
    weights : Path
    config : Path or None

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ImportError
        If the hub is meant and ``huggingface_hub`` is missing.
    OSError
        If the hub can't be reached or has no such model.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if not _HUB_ID.fullmatch(os.fspath(source)):
            raise FileNotFoundError(
                f"there is no {os.fspath(source)!r}. Pass a folder with {CONFIG} and "
                f"{' or '.join(WEIGHTS)}, or the name of a model at the hub, 'owner/name'."
            )
        path = _download(os.fspath(source), revision)
    if path.is_dir():
        found = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{path} holds neither {' nor '.join(WEIGHTS)}.")
        path = found[0]
    config = path.parent / CONFIG
    return path, config if config.is_file() else None


def _download(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ImportError(
            f"there is no folder {name!r} here, and looking for it at the hub needs "
            "huggingface_hub (pip install 'mixlin[hub]')."
        ) from None
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, *WEIGHTS]))
    except (OSError, ValueError) as error:
        raise OSError(
            f"the hub gave no model {name!r}{f' at {revision!r}' if revision else ''}: {error}"
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Read a ``config.json``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If it holds no JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} can't be read as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(config).__name__}.")
    return config


def read_weights(path: Path) -> dict[str, Array]:
    """Read tensors by name; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        Of safetensors, or of ``torch.save`` where it doesn't end on ``.safetensors``.

    Returns
    -------
    dict of arrays

    Raises
    ------
    ValueError
        If the file is damaged, or holds something else than tensors.
    ImportError
        If it takes torch and that is missing.
    """
    if path.suffix == ".safetensors":
        try:
            entries = _deserialize(path.read_bytes())
            return dict(_safetensor(name, entry) for name, entry in entries)
        except _UNREADABLE as error:
            raise ValueError(
                f"{path} is damaged or holds no tensors: {error}. Fetch the file again."
            ) from error
    return as_arrays(_unpickled(path), str(path))


def _safetensor(name: str, entry: Mapping[str, Any]) -> tuple[str, Array]:
    dtype = entry["dtype"]
    if dtype not in _DTYPES:
        raise TypeError(f"{name!r} is of {dtype}, which is none of {', '.join(_DTYPES)}")
    array = np.frombuffer(entry["data"], dtype=_DTYPES[dtype]).reshape(entry["shape"])
    if dtype == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return name, array


def _unpickled(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"reading {path.name} needs torch (pip install 'mixlin[torch]'). Without it, weights "
            f"are read from {WEIGHTS[0]}."
        ) from None
    data = io.BytesIO(path.read_bytes())
    try:
        return torch.load(data, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, OSError) as error:  # whose own text says how to run the code
        if re.search(r"unsupported (global|class)|unrecognized function", str(error), re.I):
            raise ValueError(
                f"{path} holds more than tensors, and reading it would run code of its own; that "
                "is refused. Use a file of safetensors, from somebody you trust."
            ) from None
        raise ValueError(
            f"{path} is damaged or no file of torch.save. Fetch the file again."
        ) from None


def as_arrays(state: Any, where: str) -> dict[str, Array]:
    """Return numpy arrays or torch tensors by name as arrays.

    Parameters
    ----------
    state : mapping
    where : str
        What the errors call it.

    Returns
    -------
    dict of arrays

    Raises
    ------
    ValueError
        If it is no mapping from names to tensors.
    """
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{where} must hold tensors by name; got {type(state).__name__}.")
    return {key: _as_array(key, value, where) for key, value in state.items()}


def _as_array(key: str, value: Any, where: str) -> Array:
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
    except (TypeError, RuntimeError):  # tensors that are sparse, quantized or without values
        pass
    raise ValueError(f"{key!r} of {where} must be a dense tensor; got {type(value).__name__}.")


def write_folder(
    folder: str | os.PathLike[str], config: Mapping[str, Any], tensors: Mapping[str, Array]
) -> None:
    """Write ``config.json`` and ``model.safetensors``, each of them whole or not at all.

    Parameters
    ----------
    folder : str or path-like
        Made if it is not there.
    config : mapping
        Plain data.
    tensors : mapping of arrays
    """
    target = Path(folder).expanduser()
    text = json.dumps(dict(config), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    whole = {name: np.array(array, order="C") for name, array in tensors.items()}
    data = save_tensors(whole, metadata={"format": "pt"})
    target.mkdir(parents=True, exist_ok=True)
    _write(target / WEIGHTS[0], data)
    _write(target / CONFIG, text.encode())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
