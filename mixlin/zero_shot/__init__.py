"""Forecasts without training: one call for series of any kind."""

from .entry import context_length, default_model, forecast

__all__ = ["context_length", "default_model", "forecast"]
