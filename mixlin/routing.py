"""Gates and routers: which expert is weighed how, and what decides on it."""

from __future__ import annotations

from .gates import ConstantRouter, Evidence, Gate, Router, router_from_config
from .periodograms import (
    PeriodogramRouter,
    ValuesRouter,
    long_spectral_weight,
    short_spectral_layer,
)
from .routers import (
    NAMED_ROUTERS,
    CalendarRouter,
    PeriodicRouter,
    SpectralRouter,
    StatisticsRouter,
    named_router,
)

__all__ = [
    "NAMED_ROUTERS",
    "CalendarRouter",
    "ConstantRouter",
    "Evidence",
    "Gate",
    "PeriodicRouter",
    "PeriodogramRouter",
    "Router",
    "SpectralRouter",
    "StatisticsRouter",
    "ValuesRouter",
    "long_spectral_weight",
    "named_router",
    "router_from_config",
    "short_spectral_layer",
]
