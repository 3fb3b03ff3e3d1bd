"""Records as files: safetensors with a JSON header and a checksum over every byte.

Nothing in a file is executed: it holds arrays, plain data, and names of the record types below.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from .backends import Backend
from .layers import Block, Layer
from .mixture import FixedPlan, Mixture
from .normalization import Normalization
from .routing import Evidence, Gate, Router, router_from_config
from .solvers import ExactSolver
from .timestamps import TimeIndex
from .windows import Container

FORMAT = 1
_KEY = "mixlin"
_MARK = b"mixlin-sha256="
_DIGITS = 64
_RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Block,
        Container,
        Evidence,
        ExactSolver,
        FixedPlan,
        Gate,
        Layer,
        Mixture,
        Normalization,
        TimeIndex,
    )
}


class _Encoder:
    """Turn nested records into JSON data and a table of arrays."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray[Any, Any]] = {}

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, (int, np.integer)):
            return int(value)
        if isinstance(value, (float, np.floating)):
            return {"float": float(value).hex()}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.datetime64):
            unit, count = np.datetime_data(value.dtype)
            return {"datetime64": [int(value.astype(np.int64)), unit, count]}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__: [self.encode(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": {key: self.encode(item) for key, item in value.items()}}
        if isinstance(value, Backend):
            return value.spec
        if isinstance(value, Router):
            return {"router": type(value).__name__, "fields": self.encode(value.config())}
        if type(value).__name__ in _RECORDS and isinstance(value, _RECORDS[type(value).__name__]):
            return {"record": type(value).__name__, "fields": self.encode(_fields(value))}
        return self._pandas(value)

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.kind in "OU":
            return {"names": [str(item) for item in value]}
        key = f"t{len(self.tensors):04d}"
        self.tensors[key] = np.ascontiguousarray(value)
        return {"array": key}

    def _pandas(self, value: Any) -> Any:
        kind = type(value).__name__
        if kind in ("Timestamp", "Timedelta") and type(value).__module__.startswith("pandas"):
            zone = getattr(value, "tz", None)
            return {kind: [int(value.value), str(value.unit), None if zone is None else str(zone)]}
        if kind == "Period":
            return {kind: [str(value), value.freqstr]}
        if hasattr(value, "to_list") and hasattr(value, "names"):  # column labels of a frame
            return {"columns": self.encode(value.to_list()), "name": self.encode(value.name)}
        raise TypeError(
            f"a value of type {type(value).__name__} can't be saved in a model file. Use joblib "
            "to pickle estimators with parameters of your own."
        )


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, ExactSolver):
        return dict(value.get_params(deep=False))
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, FixedPlan):
        fields["residual"] = value.residual_variance
    return fields


def _decode(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "float":
        return float.fromhex(content)
    if kind == "array":
        return tensors[content]
    if kind == "names":
        return np.array(content, dtype=object)
    if kind == "datetime64":
        return np.datetime64(content[0], (content[1], content[2]))
    if kind in ("list", "tuple"):
        items = [_decode(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content.items()}
    if kind == "router":
        return router_from_config(content, _decode(value["fields"], tensors))
    if kind == "record":
        return _RECORDS[content](**_decode(value["fields"], tensors))
    try:
        import pandas as pd
    except ImportError:
        raise ImportError(
            "this model was fitted on a pandas frame; loading it needs pandas "
            "(pip install 'mixlin[pandas]')."
        ) from None
    if kind == "Timestamp":
        stamp = pd.Timestamp(content[0], unit="ns").as_unit(content[1])
        return stamp if content[2] is None else stamp.tz_localize("UTC").tz_convert(content[2])
    if kind == "Timedelta":
        return pd.Timedelta(content[0], unit="ns").as_unit(content[1])
    if kind == "Period":
        return pd.Period(content[0], freq=content[1])
    if kind == "columns":
        return pd.Index(_decode(content, tensors), name=_decode(value["name"], tensors))
    raise KeyError(kind)


def _digest(data: bytes, at: int) -> str:
    """Hash a file with the digits of its own checksum set to zero."""
    zeroed = data[:at] + b"0" * _DIGITS + data[at + _DIGITS :]
    return hashlib.sha256(zeroed).hexdigest()


def write_record(record: dict[str, Any], path: str | os.PathLike[str], version: str) -> None:
    """Write a record to a file, all of it or nothing.

    Parameters
    ----------
    record : dict
        Plain data, arrays and the record types of this module, nested.
    path : str or path-like
    version : str
        Version of mixlin.

    Raises
    ------
    TypeError
        If the record holds something else.
    OSError
        If the file can't be written; an older file of that name is left as it was.
    """
    encoder = _Encoder()
    body = {
        "format": FORMAT,
        "mixlin": version,
        "numpy": np.__version__,
        "record": encoder.encode(record),
    }
    text = json.dumps(body, sort_keys=False, ensure_ascii=True, allow_nan=False)
    header = {_KEY: f"{_MARK.decode()}{'0' * _DIGITS}\n{text}"}
    data = save_tensors(encoder.tensors or {"empty": np.zeros(0)}, metadata=header)
    at = data.index(_MARK) + len(_MARK)
    data = data[:at] + _digest(data, at).encode() + data[at + _DIGITS :]

    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a record that :func:`write_record` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the file is damaged, of a newer format, or no mixlin model.
    OSError
        If it can't be read.
    """
    data = Path(path).read_bytes()
    at = data.find(_MARK)
    if at < 0:
        raise ValueError(
            f"{path} is not a mixlin model: it has no mixlin header. mixlin.load reads what "
            "save() wrote; reference weights go through from_state_dict."
        )
    at += len(_MARK)
    if data[at : at + _DIGITS] != _digest(data, at).encode():
        raise ValueError(
            f"{path} is damaged: its checksum does not match its content. Save the model again, "
            "or fetch the file again."
        )
    try:
        size = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + size])["__metadata__"][_KEY].partition("\n")[2]
        body = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a mixlin model: its header can't be read.") from error
    if body.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {body.get('format')!r}, written by mixlin {body.get('mixlin')}; "
            f"this version reads format {FORMAT}. Upgrade mixlin."
        )
    try:
        record = _decode(body["record"], load_tensors(data))
    except ImportError:
        raise
    except (
        safetensors.SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ) as error:
        raise ValueError(f"{path} holds a record that can't be read: {error}") from error
    assert isinstance(record, dict)
    return record
