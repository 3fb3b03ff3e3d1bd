"""Parameters of training by gradient descent; the loop itself imports torch."""

from __future__ import annotations

from numbers import Real
from typing import Any

from ..backends import BackendNotAvailableError
from ..gates import is_count
from .alternating import FEWEST_WINDOWS, check_validation, single_expert
from .balancing import Balancing, named_balancing
from .mixture_task import (
    MixtureSolution,
    MixtureSolver,
    MixtureTask,
    NothingToChooseOnError,
)

_LOSSES = ("mse", "mae", "huber")
_SCHEDULES = ("constant", "cosine", "exponential", "halving")
_STARTS = ("exact", "random")


class GradientSolver(MixtureSolver):
    """Training with torch: Adam on minibatches, through the forward pass that also predicts.

    Windows are cut out of the series batch by batch. Training starts from the exact single expert
    and ends with the weights that did best on held-out windows.

    Parameters
    ----------
    max_epochs : int, default=20
    batch_size : int, default=256
        Windows, each with all its channels.
    learning_rate : float, default=2e-3
    schedule : {"cosine", "constant", "exponential", "halving"}, default="cosine"
        Of the learning rate over the epochs; "exponential" multiplies it by 0.9 each.
    loss : {"mse", "mae", "huber"}, default="mse"
        In units of the channels; held-out errors are of the same kind.
    balancing : {"switch", "importance", "load", "z", "loss-free"}, Balancing or None
        What keeps experts in use; none by default.
    start : {"exact", "random"}, default="exact"
        "random" starts from uniform weights, as the reference does.
    start_noise : float, default=0.05
        How far experts are moved apart at the exact start, as a share of the norm of the matrix.
    min_gain : float or None, default=0.01
        Share of the single expert's held-out error by which the mixture must be better to be
        kept; None keeps it whatever its error is.
    refit : bool, default=True
        Whether the single expert, where it is kept, is that of all data.
    patience : int, default=4
        Epochs without a better held-out error after which training stops.
    validation : float or int, default=0.2
        Share, or number, of the last rows of every series (of the last windows, for arrays) that
        are held out. No training window reaches into them. Where fewer than 32 windows would be
        left on either side there is nothing to train on: the single expert of all data is kept.
    weight_decay : float, default=0.0
    warm_start : bool, default=False
        Whether a further ``fit`` goes on from the fitted weights; the state of Adam starts anew.
    device : str, default="cpu"
        Of torch, such as "cuda".
    verbose : bool, default=False
        Show a progress bar (needs tqdm).

    Notes
    -----
    If the error becomes NaN or infinite, and on an interrupt (Ctrl-C), training stops with a
    warning, and the best weights so far are kept.

    Examples
    --------
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.solvers import GradientSolver
    >>> model = MoLEForecaster(solver=GradientSolver(max_epochs=5))
    >>> model.set_params(solver__learning_rate=1e-4).solver.learning_rate
    0.0001
    """

    def __init__(
        self,
        max_epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        *,
        schedule: str = "cosine",
        loss: str = "mse",
        balancing: str | Balancing | None = None,
        start: str = "exact",
        start_noise: float = 0.05,
        min_gain: float | None = 0.01,
        refit: bool = True,
        patience: int = 4,
        validation: float | int = 0.2,
        weight_decay: float = 0.0,
        warm_start: bool = False,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.loss = loss
        self.balancing = balancing
        self.start = start
        self.start_noise = start_noise
        self.min_gain = min_gain
        self.refit = refit
        self.patience = patience
        self.validation = validation
        self.weight_decay = weight_decay
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose

    def check(self) -> None:
        checks: list[tuple[str, bool, str]] = [
            *(
                (name, is_count(getattr(self, name)), "an integer of at least 1")
                for name in ("max_epochs", "batch_size", "patience")
            ),
            *(
                (name, _at_least(getattr(self, name), 0.0), "a number that is not negative")
                for name in ("start_noise", "weight_decay")
            ),
            (
                "min_gain",
                self.min_gain is None or _at_least(self.min_gain, 0.0),
                "None or a number that is not negative",
            ),
            ("learning_rate", _at_least(self.learning_rate, 1e-300), "a positive number"),
            ("schedule", self.schedule in _SCHEDULES, f"one of {_SCHEDULES}"),
            ("loss", self.loss in _LOSSES, f"one of {_LOSSES}"),
            ("start", self.start in _STARTS, f"one of {_STARTS}"),
        ]
        for name, right, accepted in checks:
            if not right:
                raise ValueError(
                    f"{name} of GradientSolver must be {accepted}; got {getattr(self, name)!r}."
                )
        named_balancing(self.balancing)
        check_validation(self.validation, "GradientSolver")

    def solve(self, task: MixtureTask) -> MixtureSolution:
        self.check()
        training, held_out = task.windows.split(self.validation)
        if min(training.n_weighted, held_out.n_weighted) < FEWEST_WINDOWS:
            return single_expert(task, [])
        try:
            task.start(self.validation)
        except NothingToChooseOnError:
            return single_expert(task, [])
        try:
            from .gradient import train
        except ImportError as error:
            raise BackendNotAvailableError(
                f"solver='gradient' needs torch, which is not available here: {error}. Install it "
                "(pip install 'mixlin[torch]'), or use solver='alternating', which needs none."
            ) from error
        return train(self, task, training, held_out)


def _at_least(value: Any, least: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= least
