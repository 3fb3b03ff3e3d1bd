"""mixlin: exact linear forecasters and mixtures of linear experts, scikit-learn style."""

from .backends import BackendNotAvailableError, config_context, get_config, set_config
from .base import load
from .decomposition import SeriesDecomposer, decompose
from .estimators import (
    AutoLinearForecaster,
    DLinearForecaster,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
    SuperLinearForecaster,
)
from .solvers import ExactSolver
from .zero_shot import forecast

__version__ = "0.1.0"

__all__ = [
    "AutoLinearForecaster",
    "BackendNotAvailableError",
    "DLinearForecaster",
    "ExactSolver",
    "LinearForecaster",
    "MoLEForecaster",
    "NLinearForecaster",
    "RLinearForecaster",
    "SeriesDecomposer",
    "SuperLinearForecaster",
    "config_context",
    "decompose",
    "forecast",
    "get_config",
    "load",
    "set_config",
]
