"""The fitted records, Plan and Mixture, and the one forward pass that every model runs.

On a window x with level l, scale s and reference level m the forecast is::

    y = base + sum_e g_e * ((x - l) W_e + (l - m) r_e + s c_e + d_e) + z V

with ``base = l`` where the experts are level-normalized (``level_coef is None``) and ``base = m``
otherwise. The level is taken off and the base added on the host in float64; ``x - l``, ``l - m``,
``s`` and ``z`` travel to the backend as the columns of one product.
"""

from .forward import Computed, Parts, compute, forward, predict_windows
from .learned import LearnedPlan
from .panel import PanelPlan, PlacedWindows, StandardizedPlan
from .placement import Placed, place
from .plan import FixedPlan, KnownInputs, Plan, RolloutPlan
from .prior import PriorPlan
from .record import Mixture
from .rollout import Rollout, RolloutForecast, rollout_forecast

__all__ = [
    "Computed",
    "FixedPlan",
    "KnownInputs",
    "LearnedPlan",
    "Mixture",
    "PanelPlan",
    "Parts",
    "Placed",
    "PlacedWindows",
    "Plan",
    "PriorPlan",
    "Rollout",
    "RolloutForecast",
    "RolloutPlan",
    "StandardizedPlan",
    "compute",
    "forward",
    "place",
    "predict_windows",
    "rollout_forecast",
]
