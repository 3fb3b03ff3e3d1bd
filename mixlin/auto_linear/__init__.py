"""The exact model search: lookbacks, forgetting, priors and penalties, averaged into one matrix."""

from .estimator import AutoLinearForecaster

__all__ = ["AutoLinearForecaster"]
