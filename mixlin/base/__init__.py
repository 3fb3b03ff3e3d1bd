"""The contract of every forecaster: containers in, the fitted plan applied, containers out."""

from .forecaster import BaseForecaster
from .registry import FORECASTERS, load
from .series import Series, window_weights
from .training import Training

__all__ = ["FORECASTERS", "BaseForecaster", "Series", "Training", "load", "window_weights"]
