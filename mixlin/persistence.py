"""Records as files: safetensors with a JSON header and a checksum over every byte.

Nothing in a file is executed: it holds arrays, plain data, and names of the record types below.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from datetime import timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from .backends import Backend
from .calendar_terms import CalendarTerms
from .experts import (
    GATES,
    DampedTrend,
    ExpertBank,
    OrnsteinUhlenbeck,
    Periodic,
    PriorExpert,
    RandomWalk,
    SpectralWeights,
)
from .layers import Block, Layer
from .mixture import FixedPlan, LearnedPlan, Mixture, PriorPlan, Rollout, RolloutPlan
from .normalization import Normalization
from .regressors import Regressors
from .routing import Evidence, Gate, Router, router_from_config
from .timestamps import TimeIndex
from .transforms import ChannelTransform
from .windows import Container

FORMAT = 1
_KEY = "mixlin"
_MARK = b"mixlin-sha256="
_DIGITS = 64
_T = TypeVar("_T")
_RECORDS: dict[str, type[Any]] = {}
# what files with a valid checksum and foreign content may provoke
_UNREADABLE = (
    safetensors.SafetensorError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def register_record(cls: type[_T]) -> type[_T]:
    """Let files hold instances of a class, under its name.

    Parameters
    ----------
    cls : type
        A dataclass, or a class of parameters with scikit-learn's ``get_params``.

    Returns
    -------
    type
        The class, so that this serves as a decorator.
    """
    _RECORDS[cls.__name__] = cls
    return cls


for _record in (
    Block,
    CalendarTerms,
    ChannelTransform,
    Container,
    DampedTrend,
    Evidence,
    ExpertBank,
    FixedPlan,
    Gate,
    Layer,
    LearnedPlan,
    Mixture,
    Normalization,
    OrnsteinUhlenbeck,
    Periodic,
    PriorExpert,
    PriorPlan,
    RandomWalk,
    Regressors,
    Rollout,
    RolloutPlan,
    SpectralWeights,
    TimeIndex,
    *GATES.values(),
):
    register_record(_record)


class _Encoder:
    """Turn nested records into JSON data and a table of arrays."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray[Any, Any]] = {}

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
            return int(value)
        if isinstance(value, (float, np.floating)):
            return {"float": float(value).hex()}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.datetime64):
            unit, count = np.datetime_data(value.dtype)
            return {"datetime64": [int(value.astype(np.int64)), unit, count]}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.encode(item) for item in value]}
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError(f"only str keys can be saved in a model file; got {list(value)}.")
            return {"dict": {key: self.encode(item) for key, item in value.items()}}
        if isinstance(value, Backend):
            return value.spec
        if isinstance(value, Router):
            return {"router": type(value).__name__, "fields": self.encode(value.config())}
        if _RECORDS.get(type(value).__name__) is type(value):
            return {"record": type(value).__name__, "fields": self.encode(_fields(value))}
        return self._pandas(value)

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        text = value.ndim == 1 and value.dtype.kind not in "biufcmM"
        if text and all(isinstance(item, str) for item in value):
            return {"names": [str(item) for item in value]}
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise TypeError(
                f"an array of dtype {value.dtype} can't be saved in a model file: only booleans, "
                "integers, floats of at most 64 bits, and names can. Convert it first."
            )
        key = f"t{len(self.tensors):04d}"
        self.tensors[key] = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {"array": key}

    def _pandas(self, value: Any) -> Any:
        kind = type(value).__name__
        if not type(value).__module__.startswith("pandas"):
            pass
        elif kind in ("Timestamp", "Timedelta"):
            count = int(value.asm8.astype(np.int64))
            return {kind: [count, str(value.unit), _zone(value)]}
        elif kind == "Period":
            return {kind: [int(value.ordinal), value.freqstr]}
        elif hasattr(value, "to_list") and hasattr(value, "names"):  # column labels of a frame
            many = hasattr(value, "levels")
            names = list(value.names) if many else value.name
            return {"columns": self.encode(value.to_list()), "name": self.encode(names)}
        raise TypeError(
            f"a value of type {type(value).__name__} can't be saved in a model file. Use joblib "
            "to pickle estimators with parameters of your own."
        )


def _fields(value: Any) -> dict[str, Any]:
    if hasattr(value, "get_params"):
        return dict(value.get_params(deep=False))
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, FixedPlan):
        fields["residual"] = value.residual_variance
    return fields


def _zone(stamp: Any) -> str | None:
    """Return a name that pandas turns back into the stamp's time zone."""
    zone = getattr(stamp, "tz", None)
    if zone is None:
        return None
    fixed = zone.utcoffset(None)
    for name in [str(zone)] + ([] if fixed is None else [str(timezone(fixed))]):
        try:
            if stamp.tz_convert(name).utcoffset() == stamp.utcoffset():
                return name
        except (ValueError, LookupError):
            continue
    raise TypeError(
        f"the time zone {zone!r} has no name that can be saved in a model file. Give the index a "
        "named zone, for example frame.tz_convert('Europe/Berlin')."
    )


def _decode(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    if not value:
        raise ValueError("an empty entry")
    kind, content = next(iter(value.items()))
    if kind == "float":
        return float.fromhex(content)
    if kind == "array":
        return tensors[content]
    if kind == "names":
        return np.array(content, dtype=object)
    if kind == "datetime64":
        return np.datetime64(int(content[0]), (content[1], content[2]))
    if kind in ("list", "tuple"):
        items = [_decode(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content.items()}
    if kind == "router":
        return router_from_config(content, _decode(value["fields"], tensors))
    if kind == "record":
        return _RECORDS[content](**_decode(value["fields"], tensors))
    if kind not in ("Timestamp", "Timedelta", "Period", "columns"):
        raise KeyError(kind)
    try:
        import pandas as pd
    except ImportError:
        raise ImportError(
            "this model was fitted on a pandas frame; loading it needs pandas "
            "(pip install 'mixlin[pandas]')."
        ) from None
    if kind == "Timestamp":
        stamp = pd.Timestamp(np.datetime64(int(content[0]), content[1]))
        return stamp if content[2] is None else stamp.tz_localize("UTC").tz_convert(content[2])
    if kind == "Timedelta":
        return pd.Timedelta(np.timedelta64(int(content[0]), content[1]))
    if kind == "Period":
        return pd.Period(ordinal=content[0], freq=content[1])
    labels, names = _decode(content, tensors), _decode(value["name"], tensors)
    if isinstance(names, list):
        return pd.MultiIndex.from_tuples(labels, names=names)
    return pd.Index(labels, name=names)


def _digest(data: bytes, at: int) -> str:
    """Hash a file with the digits of its own checksum set to zero."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:at])
    digest.update(b"0" * _DIGITS)
    digest.update(view[at + _DIGITS :])
    return digest.hexdigest()


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
        If the record holds something else; nothing is written.
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

    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
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
        body.get("format")
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a mixlin model: its header can't be read.") from error
    if body.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {body.get('format')!r}, written by mixlin {body.get('mixlin')}; "
            f"this version reads format {FORMAT}. Upgrade mixlin."
        )
    try:
        record = _decode(body["record"], load_tensors(data))
    except _UNREADABLE as error:
        raise ValueError(f"{path} holds a record that can't be read: {error!r}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds a record that can't be read: it is no dict.")
    return record
