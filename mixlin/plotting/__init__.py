"""Plots of forecasts, and of what the experts of a mixture do."""

from .experts import ExpertsDisplay
from .forecast import ForecastDisplay, plot_forecast
from .routing import RoutingDisplay
from .weights import WeightsDisplay

__all__ = [
    "ExpertsDisplay",
    "ForecastDisplay",
    "RoutingDisplay",
    "WeightsDisplay",
    "plot_forecast",
]
