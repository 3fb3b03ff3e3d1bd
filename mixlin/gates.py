"""Gates as data: the features of a router, the layers that turn them into logits, the softmax."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from .backends.base import fold_steps
from .layers import Layer

FloatArray = npt.NDArray[np.float64]
StampArray = npt.NDArray[np.datetime64]

_ROUTERS: dict[str, type[Router]] = {}


class Router(BaseEstimator, ABC):
    """What a gate looks at. A subclass is a dataclass of plain parameters.

    Subclasses are known by their class name, so that saved models find them again. From features
    to gates it is the solver's business: it fits the layers, and reads from the router, as
    attributes or as parameters of the subclass:

    Attributes
    ----------
    hidden : int or None, default=None
        Units of a hidden layer between features and logits; None for logits that are linear.
    per_channel : bool, default=False
        Whether every channel has a gate of its own. Parameters grow with the number of channels,
        not with its square.
    temperature : float, default=1.0
        Logits are divided by it.
    noise : float, default=0.0
        Standard deviation of what the gradient solver adds to logits in training.
    head_dropout : float, default=0.0
        Share of logits that the gradient solver leaves out of the gate in training.
    needs_timestamps : bool
        Whether features are read off the calendar.
    """

    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0
    needs_timestamps: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _ROUTERS.get(cls.__name__)
        own = cls.__module__.startswith("mixlin.")
        if known is None or own or not known.__module__.startswith("mixlin."):
            _ROUTERS[cls.__name__] = cls  # a namesake elsewhere does not replace mixlin's

    @abstractmethod
    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        """Compute the gate's features on the host.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, lookback)
        timestamps : array of shape (n_windows, lookback + horizon), or None
            Stamps of the window and of the steps to forecast.
        horizon : int

        Returns
        -------
        array of shape (n_windows, 1 or n_channels, n_features)
            With a gate per step ``(n_windows, 1 or n_channels, horizon, n_features)``.
        """

    def feature_names(self) -> list[str] | None:
        """Return names of the features, None where they have none."""
        return None

    def prepared(self, timestamps: StampArray | None) -> Router:
        """Return the router with what it has to learn from the training data filled in.

        Parameters
        ----------
        timestamps : array of shape (n,), or None
            Consecutive stamps of the training data.
        """
        return self

    def check(self) -> None:
        """Raise a ValueError if a parameter is out of range."""
        name = type(self).__name__
        if self.hidden is not None and not is_count(self.hidden):
            raise ValueError(
                f"hidden of {name} must be None or an integer of at least 1; got {self.hidden!r}."
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature of {name} must be positive; got {self.temperature!r}.")
        if not self.noise >= 0:
            raise ValueError(f"noise of {name} must not be negative; got {self.noise!r}.")
        if not 0 <= self.head_dropout < 1:
            raise ValueError(
                f"head_dropout of {name} must be at least 0 and less than 1; got "
                f"{self.head_dropout!r}."
            )

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain data."""
        names = [f.name for f in fields(self)] if is_dataclass(self) else self._get_param_names()
        return {name: getattr(self, name) for name in names}


def is_count(value: Any) -> bool:
    """Whether a parameter is a whole number of at least one.

    Parameters
    ----------
    value : object
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


@dataclass(eq=False, repr=False)
class ConstantRouter(Router):
    """A router that sees nothing: the gate is the softmax of its biases.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import ConstantRouter
    >>> ConstantRouter().features(np.zeros((2, 3, 8)), None, 4).shape
    (2, 1, 1)
    """

    def features(
        self, windows: FloatArray, timestamps: npt.NDArray[np.datetime64] | None, horizon: int
    ) -> FloatArray:
        return np.ones((len(windows), 1, 1))


def router_from_config(name: str, config: dict[str, Any]) -> Router:
    """Rebuild a router from its class name and :meth:`Router.config`.

    Parameters
    ----------
    name : str
    config : dict

    Returns
    -------
    Router

    Raises
    ------
    ValueError
        If no class of that name is known in this process.
    """
    if name not in _ROUTERS:
        raise ValueError(
            f"unknown router {name!r}. Known: {', '.join(sorted(_ROUTERS))}. Import the module "
            "that defines it first."
        )
    return _ROUTERS[name](**config)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A loss of every expert on the window itself, which lowers its logit.

    Parameters
    ----------
    kind : {"energy", "backtest"}
        "energy": sum of squares after whitening. "backtest": mean absolute error on folds.
    weights : array of shape (E, L, R)
        For "energy" the whitening factors of the newest ``L`` values, for "backtest" experts of a
        shorter lookback. Engines compute in the memory order (L, E, R): a "backtest" given as
        ``packed.transpose(1, 0, 2)`` of such an array is not copied on the host.
    exponent : float
        ``exponent * log(loss)`` is subtracted from the logits.
    step : int
        Distance of the folds of "backtest".
    ahead : tuple of R int, optional
        Steps of the folds' horizon that "backtest" scores, increasing from 1; ``1 ... R`` by
        default.
    floor : float
        Share of the mean absolute target that joins every loss of "backtest".
    power : float
        Of the power mean over the folds of "backtest"; 1 for the mean.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import Evidence
    >>> naive = np.array([[[0.0, 0.0], [1.0, 1.0]]])  # one expert, two values in, two steps out
    >>> Evidence("backtest", naive, exponent=20.0, step=6, ahead=(1, 12), floor=1e-3).ahead
    (1, 12)
    """

    kind: str
    weights: FloatArray
    exponent: float
    step: int = 1
    ahead: tuple[int, ...] | None = None
    floor: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("energy", "backtest"):
            raise ValueError(f"kind must be 'energy' or 'backtest'; got {self.kind!r}.")
        if self.step < 1:
            raise ValueError(f"step must be at least 1; got {self.step}.")
        if self.ahead is not None:
            if self.kind != "backtest":
                raise ValueError("ahead belongs to evidence of the kind 'backtest'; leave it out.")
            object.__setattr__(self, "ahead", fold_steps(self.weights.shape[2], self.ahead))
        if not 0 <= self.floor < np.inf:
            raise ValueError(f"floor must be a finite number of at least 0; got {self.floor}.")
        if not 0 < self.power < np.inf:
            raise ValueError(f"power must be a finite number above 0; got {self.power}.")


@dataclass(frozen=True, eq=False)
class Gate:
    """A router's features, the layers that turn them into logits, and the softmax.

    Parameters
    ----------
    router : Router
    layers : tuple of Layer
        From features to one logit per expert.
    top_k : int, optional
        Experts that get weight; all by default.
    temperature : float
    evidence : tuple of Evidence
        Losses measured on the window itself.
    center, spread : array of shape (F,), optional
        The layers read features measured from the one in units of the other. Taken off on the
        host in float64: features may lie far from zero.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.layers import Layer
    >>> from mixlin.routing import ConstantRouter, Gate
    >>> gate = Gate(ConstantRouter(), (Layer(np.zeros((1, 1, 3)), np.zeros((1, 3))),))
    >>> gate.n_experts
    3
    """

    router: Router
    layers: tuple[Layer, ...]
    top_k: int | None = None
    temperature: float = 1.0
    evidence: tuple[Evidence, ...] = ()
    center: FloatArray | None = None
    spread: FloatArray | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a gate has at least one layer.")
        if any(layer.axis != "time" for layer in self.layers):
            raise ValueError("the layers of a gate map features; they have axis='time'.")
        if self.top_k is not None and not 1 <= self.top_k <= self.n_experts:
            raise ValueError(f"top_k must be in 1 ... {self.n_experts}; got {self.top_k}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive; got {self.temperature}.")

    def standardized(self, features: FloatArray) -> FloatArray:
        """Return features of the router as the layers read them.

        Parameters
        ----------
        features : array of shape (..., F)
        """
        if self.center is not None:
            features = features - self.center
        return features if self.spread is None else features / self.spread

    @property
    def n_experts(self) -> int:
        """Number of logits."""
        return int(self.layers[-1].weight.shape[2])
