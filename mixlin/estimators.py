"""The public forecasters."""

from __future__ import annotations

from .linear_family import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from .mole import MoLEForecaster
from .superlinear import SuperLinearForecaster

__all__ = [
    "DLinearForecaster",
    "LinearForecaster",
    "MoLEForecaster",
    "NLinearForecaster",
    "RLinearForecaster",
    "SuperLinearForecaster",
]
