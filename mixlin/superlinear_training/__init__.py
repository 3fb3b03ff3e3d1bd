"""What Super-Linear learns: the gate, the experts, one after the other, or all by gradient."""

from .data import Learned, LearningTask
from .modes import TRAININGS, learn

__all__ = ["TRAININGS", "Learned", "LearningTask", "learn"]
