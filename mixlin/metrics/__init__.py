"""Measures of forecast accuracy, and scorers that evaluate forecasters on series.

Targets and forecasts are arrays of one shape: ``(horizon,)``, ``(n_windows, horizon)``,
``(n_windows, horizon, n_channels)`` or any other. By default a measure is the average over all
values; ``axis`` names the axes to average over, so that ``axis=(0, 1)`` leaves one figure per
channel and ``axis=0`` one per step. Data frames are taken too, if their labels agree.
"""

from .point import mae, mase, mse, smape, wape
from .probabilistic import coverage, pinball
from .scorer import forecast_scorer

__all__ = ["coverage", "forecast_scorer", "mae", "mase", "mse", "pinball", "smape", "wape"]
