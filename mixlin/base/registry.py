"""Forecasters by name, so that a model file finds its class."""

from __future__ import annotations

from os import PathLike
from typing import Any

from ..persistence import read_record

FORECASTERS: dict[str, type[Any]] = {}
"""Classes that :func:`mixlin.load` finds, by name; every forecaster enters itself."""


def load(path: str | PathLike[str]) -> Any:
    """Read a forecaster from a file that its ``save`` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    forecaster
        Fitted, with bit-identical forecasts. The sums that ``partial_fit`` adds to are not saved.

    Raises
    ------
    ValueError
        If the file is damaged, no mixlin model, or of a class that is not known here.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import mixlin
    >>> model = mixlin.NLinearForecaster(8, 2).fit(np.arange(50.0) % 7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.safetensors"
    ...     model.save(path)
    ...     again = mixlin.load(path)
    >>> bool((again.predict() == model.predict()).all())
    True
    """
    record = read_record(path)
    try:
        cls = FORECASTERS[record["class"]]
        made = cls(**record["params"])
        vars(made).update(record["state"], _state=tuple(record["state"]))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds a {record.get('class')!r}, which this mixlin can't rebuild ({error}). "
            "Import the module that defines it, or upgrade mixlin."
        ) from error
    return made
