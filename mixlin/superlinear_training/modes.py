"""The modes of training of Super-Linear."""

from __future__ import annotations

from collections.abc import Callable

from ..base import Training
from ..experts import SpectralGate
from .data import Learned, LearningTask
from .experts import learn_experts, learn_two_stage
from .gradient import learn_all
from .router import learn_router

_MODES: dict[str, Callable[[Training, LearningTask], Learned]] = {
    "router": learn_router,
    "experts": learn_experts,
    "two-stage": learn_two_stage,
    "full": learn_all,
}
TRAININGS = tuple(_MODES)


def learn(mode: str, training: Training, task: LearningTask) -> Learned:
    """Learn a plan from training data.

    Parameters
    ----------
    mode : {"router", "experts", "two-stage", "full"}
    training : Training
    task : LearningTask

    Returns
    -------
    Learned

    Raises
    ------
    ValueError
        If there is no window to learn from, the gate is none that the mode can fit, or the
        experts' matrices would be too large.
    BackendNotAvailableError
        If ``mode="full"`` and torch is missing.
    """
    if mode != "experts" and not isinstance(task.gate, (SpectralGate, type(None))):
        raise ValueError(
            f"training={mode!r} fits a spectral gate; got gate={task.gate!r}. Leave the gate at "
            "'auto', or use training='experts' or None, which keep any gate."
        )
    return _MODES[mode](training, task)
