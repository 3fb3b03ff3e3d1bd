"""Gates as data: which features a router reads and how they become expert weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .layers import Layer

FloatArray = npt.NDArray[np.float64]

_ROUTERS: dict[str, type[Router]] = {}


class Router(ABC):
    """What a gate looks at. A subclass is a dataclass of plain parameters.

    Subclasses are known by their class name, so that saved models find them again.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _ROUTERS[cls.__name__] = cls

    @abstractmethod
    def features(
        self, windows: FloatArray, timestamps: npt.NDArray[np.datetime64] | None, horizon: int
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

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
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
        For "energy" the whitening factors, for "backtest" experts of a shorter lookback.
    exponent : float
        ``exponent * log(loss)`` is subtracted from the logits.
    step : int
        Distance of the folds of "backtest".
    """

    kind: str
    weights: FloatArray
    exponent: float
    step: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("energy", "backtest"):
            raise ValueError(f"kind must be 'energy' or 'backtest'; got {self.kind!r}.")
        if self.step < 1:
            raise ValueError(f"step must be at least 1; got {self.step}.")


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

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a gate has at least one layer.")
        if any(layer.axis != "time" for layer in self.layers):
            raise ValueError("the layers of a gate map features; they have axis='time'.")
        if self.top_k is not None and not 1 <= self.top_k <= self.n_experts:
            raise ValueError(f"top_k must be in 1 ... {self.n_experts}; got {self.top_k}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive; got {self.temperature}.")

    @property
    def n_experts(self) -> int:
        """Number of logits."""
        return int(self.layers[-1].weight.shape[2])
