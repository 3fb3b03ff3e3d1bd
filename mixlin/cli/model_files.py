"""Saved models: reading them, and whether data have the channels that they forecast."""

from __future__ import annotations

from typing import Any

from sklearn.utils import Bunch

from .. import load
from .sources import with_channels
from .tables import listed


def read_model(path: str) -> Any:
    """Read a model that forecasts series.

    Parameters
    ----------
    path : str

    Returns
    -------
    forecaster
        Fitted.

    Raises
    ------
    ValueError
        If the file holds no model, or one that was fitted on windows.
    OSError
        If it can't be read.
    """
    model = load(path)
    if model.mode_ == "panel":
        raise ValueError(
            f"{path} holds a model that was fitted on a long frame; the command line forecasts "
            "series. In Python: mixlin.load(path).predict()."
        )
    if model.mode_ != "series":
        raise ValueError(
            f"{path} holds a model that was fitted on windows cut by hand; the command line "
            "forecasts series. Fit one with mixlin fit."
        )
    return model


def reads_times(model: Any) -> bool:
    """Whether a model is routed by the calendar.

    Parameters
    ----------
    model : forecaster
        Fitted or not.
    """
    return bool(model._reads_timestamps if hasattr(model, "plan_") else model._wants_timestamps)


def forecasts_anything(model: Any) -> bool:
    """Whether a model forecasts series of any length, with gaps, whatever it was fitted on.

    Parameters
    ----------
    model : forecaster
        Fitted or not.
    """
    return hasattr(model, "forecast_arrays")


def matched(model: Any, bunch: Bunch, path: str) -> Bunch:
    """Return data with their channels in the order of a model.

    Parameters
    ----------
    model : forecaster
        Fitted.
    bunch : Bunch
        With name, data and feature_names.
    path : str
        File of the model.

    Returns
    -------
    Bunch

    Raises
    ------
    ValueError
        If the channels are others than the model's.
    """
    names = [str(name) for name in bunch.feature_names]
    known = getattr(model, "feature_names_in_", None)
    if known is None:
        n_known = getattr(model, "n_channels_in_", len(names))
        if len(names) != n_known:
            raise ValueError(
                f"{path} was fitted on {n_known} channel{'s' if n_known > 1 else ''}, but "
                f"{bunch.name} has {len(names)}: {listed(names)}; pick with --column."
            )
        return bunch
    wanted = [str(name) for name in known]
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if not missing and not extra:
        return bunch if names == wanted else with_channels(bunch, wanted)
    parts = [f"has no {listed(missing)}"] if missing else []
    parts += [f"also has {listed(extra)}"] if extra else []
    raise ValueError(
        f"{path} was fitted on {listed(wanted)}, but {bunch.name} {' and '.join(parts)}; pick its "
        "channels with --column, or fit a model on these."
    )
