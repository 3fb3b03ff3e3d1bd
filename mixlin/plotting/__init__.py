"""Plots of forecasts, and of what the experts of a mixture do."""

from .forecast import ForecastDisplay, plot_forecast
from .routing import RoutingDisplay
from .weights import WeightsDisplay

__all__ = ["ForecastDisplay", "RoutingDisplay", "WeightsDisplay", "plot_forecast"]
