"""The public forecasters."""

from __future__ import annotations

from .auto_linear import AutoLinearForecaster
from .linear_family import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from .mole import MoLEForecaster
from .superlinear import SuperLinearForecaster

__all__ = [
    "AutoLinearForecaster",
    "DLinearForecaster",
    "LinearForecaster",
    "MoLEForecaster",
    "NLinearForecaster",
    "RLinearForecaster",
    "SuperLinearForecaster",
]
