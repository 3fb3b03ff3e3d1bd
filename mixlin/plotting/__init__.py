"""Plots of forecasts, of what the experts of a mixture do, and of searches."""

from .experts import ExpertsDisplay
from .forecast import ForecastDisplay, plot_forecast
from .routing import RoutingDisplay
from .search import SearchDisplay
from .weights import WeightsDisplay

__all__ = [
    "ExpertsDisplay",
    "ForecastDisplay",
    "RoutingDisplay",
    "SearchDisplay",
    "WeightsDisplay",
    "plot_forecast",
]
