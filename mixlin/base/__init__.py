"""The contract of every forecaster: containers in, the fitted plan applied, containers out."""

from .exog_forecaster import ExogForecaster
from .forecaster import BaseForecaster
from .registry import FORECASTERS, load
from .series import Series, window_weights
from .stamps import series_ordinal
from .training import DEFAULT_LOOKBACK, Training, read_training

__all__ = [
    "DEFAULT_LOOKBACK",
    "FORECASTERS",
    "BaseForecaster",
    "ExogForecaster",
    "Series",
    "Training",
    "load",
    "read_training",
    "series_ordinal",
    "window_weights",
]
