"""Gates as data: which features a router reads and how they become expert weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from .calendar_features import (
    cycles_of_freq,
    cyclic_feature_names,
    cyclic_features,
    freq_of_step,
    reference_feature_names,
    reference_features,
)
from .layers import Layer
from .window_statistics import STATISTICS, window_statistics

FloatArray = npt.NDArray[np.float64]
StampArray = npt.NDArray[np.datetime64]

_ROUTERS: dict[str, type[Router]] = {}
_STAMPS = ("first", "last", "next", "horizon")
_ENCODINGS = ("cyclic", "reference")
_SMALLEST_GATE = 1e-12  # where a fixed gate is closed; its logarithm is kept


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
        _ROUTERS[cls.__name__] = cls

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
        if self.hidden is not None and not self.hidden >= 1:
            raise ValueError(f"hidden of {name} must be None or at least 1; got {self.hidden!r}.")
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


@dataclass(eq=False, repr=False)
class CalendarRouter(Router):
    """The calendar as a gate sees it: hour of day, day of week, ... [1]_.

    Parameters
    ----------
    stamp : {"next", "first", "last", "horizon"}, default="next"
        Whose time is read: that of the first step to forecast, of the window's first or last
        step, or of every step to forecast, each of which then has a gate of its own.
    encoding : {"cyclic", "reference"}, default="cyclic"
        "cyclic": cosines and sines of the time within day, week or year, without a jump at
        midnight. "reference": the numbers of the public reference code, between -1/2 and 1/2.
    n_harmonics : int, default=3
        Of every cycle, for "cyclic". Three tell any seven days of the week apart.
    freq : {"s", "min", "h", "D", "B", "W", "M", "Q", "Y"}, optional
        Decides on the cycles or the reference's set of features; found from the training data's
        step by default.
    hidden, per_channel, temperature, noise, head_dropout
        As for every :class:`Router`.

    References
    ----------
    .. [1] R. Ni et al., "Mixture-of-linear-experts for long-term time series forecasting",
       AISTATS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import CalendarRouter
    >>> hours = np.datetime64("2024-01-01T00", "ns") + np.arange(8) * np.timedelta64(1, "h")
    >>> router = CalendarRouter(encoding="reference", freq="h")
    >>> router.features(np.zeros((1, 2, 6)), hours[None], 2).round(3).tolist()
    [[[-0.239, -0.5, -0.5, -0.5]]]
    """

    stamp: str = "next"
    encoding: str = "cyclic"
    n_harmonics: int = 3
    freq: str | None = None
    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0
    needs_timestamps: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.stamp not in _STAMPS:
            raise ValueError(
                f"stamp of CalendarRouter must be one of {_STAMPS}; got {self.stamp!r}."
            )
        if self.encoding not in _ENCODINGS:
            raise ValueError(
                f"encoding of CalendarRouter must be one of {_ENCODINGS}; got {self.encoding!r}."
            )
        if self.n_harmonics < 1:
            raise ValueError(
                f"n_harmonics of CalendarRouter must be at least 1; got {self.n_harmonics!r}."
            )

    def prepared(self, timestamps: StampArray | None) -> CalendarRouter:
        assert timestamps is not None
        freq = self.freq or freq_of_step(np.diff(timestamps[:2])[0])
        made = replace(self, freq=freq)
        made.feature_names()  # yearly stamps have none, and say so
        return made

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        if timestamps is None:
            raise ValueError("CalendarRouter reads timestamps; got none.")
        length = windows.shape[2]
        at = {"first": 0, "last": length - 1, "next": length}.get(self.stamp)
        stamps = timestamps[:, length:] if at is None else timestamps[:, at]
        freq = self.freq or freq_of_step(np.diff(timestamps[0, :2])[0])
        if self.encoding == "reference":
            found = reference_features(stamps, freq)
        else:
            found = cyclic_features(stamps, cycles_of_freq(freq), self.n_harmonics)
        return np.asarray(found[:, None])

    def feature_names(self) -> list[str]:
        freq = self.freq or "h"
        if self.encoding == "reference":
            return list(reference_feature_names(freq))
        return list(cyclic_feature_names(cycles_of_freq(freq), self.n_harmonics))


@dataclass(eq=False, repr=False)
class StatisticsRouter(Router):
    """The shape of the window itself, free of its level and its scale.

    Every channel has a gate of its own from parameters that all share.

    Parameters
    ----------
    level, spread : bool, default=False
        Also the mean and the log of the standard deviation of the window, in the data's units.
        Scale channels alike before.
    hidden : int or None, default=8
    per_channel, temperature, noise, head_dropout
        As for every :class:`Router`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import StatisticsRouter
    >>> StatisticsRouter().features(np.ones((2, 3, 8)), None, 4).shape
    (2, 3, 8)
    """

    level: bool = False
    spread: bool = False
    hidden: int | None = 8
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        found = [window_statistics(windows)]
        if self.level:
            found.append(windows.mean(axis=2)[:, :, None])
        if self.spread:
            deviation = windows.std(axis=2)
            tiny = np.finfo(np.float64).tiny
            found.append(np.log(np.maximum(deviation, tiny))[:, :, None])
        return np.concatenate(found, axis=2)

    def feature_names(self) -> list[str]:
        return [*STATISTICS, *["level"] * self.level, *["log spread"] * self.spread]


@dataclass(eq=False, repr=False)
class SpectralRouter(Router):
    """The window's normalized periodogram, in bands.

    Every channel has a gate of its own from parameters that all share.

    Parameters
    ----------
    n_bands : int, default=16
        Bands of frequencies, each a fixed factor wider than the one before; as many as there are
        frequencies if that is less.
    hidden, per_channel, temperature, noise, head_dropout
        As for every :class:`Router`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import SpectralRouter
    >>> wave = np.sin(np.pi * np.arange(32) / 2)[None, None]  # 8 cycles
    >>> SpectralRouter(n_bands=4).features(wave, None, 4).round(6).tolist()
    [[[0.0, 0.0, 0.0, 1.0]]]
    """

    n_bands: int = 16
    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0

    def check(self) -> None:
        super().check()
        if self.n_bands < 1:
            raise ValueError(f"n_bands of SpectralRouter must be at least 1; got {self.n_bands!r}.")

    def _edges(self, n_bins: int) -> npt.NDArray[np.intp]:
        edges = np.geomspace(1, n_bins + 1, min(self.n_bands, n_bins) + 1)
        return np.unique(np.round(edges).astype(np.intp)) - 1

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        length = windows.shape[2]
        if length < 2:
            return np.zeros((*windows.shape[:2], 1))
        mean = windows.mean(axis=2, keepdims=True)
        centered = windows - mean
        power = np.abs(np.fft.rfft(centered, axis=2)[:, :, 1:]) ** 2
        power = np.add.reduceat(power, self._edges(power.shape[2])[:-1], axis=2)
        total = power.sum(axis=2, keepdims=True)
        rounding = (length * 1e-12 * np.abs(mean)) ** 2
        return np.where(total > rounding, power / np.where(total > 0, total, 1.0), 0.0)


@dataclass(eq=False, repr=False)
class PeriodicRouter(Router):
    """Gates that are fixed: smooth bumps, evenly spaced over the day or the week.

    The gate of expert k is the Fejer kernel ``1 + 2 sum_j (1 - j / (J + 1)) cos(j (t - t_k))``
    over the number of experts, with ``t`` the phase of the first step to forecast. Kernels are
    not negative, sum to one, and span all trigonometric polynomials of degree J where there are
    at least 2 J + 1 of them.

    Parameters
    ----------
    n_experts : int, default=4
    period : {"day", "week", "year"}, default="day"
    n_harmonics : int, optional
        J, less than ``n_experts``; ``(n_experts - 1) // 2`` by default, at least one.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import PeriodicRouter
    >>> hours = np.datetime64("2024-01-01T00", "ns") + np.arange(4) * np.timedelta64(1, "h")
    >>> router = PeriodicRouter(n_experts=3)
    >>> np.exp(router.features(np.zeros((1, 1, 3)), hours[None], 1)).round(3).tolist()
    [[[0.569, 0.333, 0.098]]]
    """

    n_experts: int = 4
    period: str = "day"
    n_harmonics: int | None = None
    needs_timestamps: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if self.period not in ("day", "week", "year"):
            raise ValueError(f"period must be 'day', 'week' or 'year'; got {self.period!r}.")
        if self.n_harmonics is not None and not self.n_harmonics >= 1:
            raise ValueError(f"n_harmonics must be None or at least 1; got {self.n_harmonics!r}.")
        if 1 < self.n_experts <= self.degree:
            raise ValueError(
                f"gates of n_experts={self.n_experts} don't sum to one with n_harmonics="
                f"{self.n_harmonics}. Use more experts than harmonics."
            )

    @property
    def degree(self) -> int:
        """J, the harmonics of the gates."""
        return self.n_harmonics or max(1, (self.n_experts - 1) // 2)

    def amplitudes(self) -> npt.NDArray[np.complex128]:
        """Return the gates as ``sum_j a[k, j + J] exp(i j t)``, shape (n_experts, 2 J + 1)."""
        J, K = self.degree, self.n_experts
        j = np.arange(-J, J + 1)
        centers = 2 * np.pi * np.arange(K) / K
        return np.asarray((1 - np.abs(j) / (J + 1)) * np.exp(-1j * np.outer(centers, j)) / K)

    def phases(self, stamps: StampArray) -> FloatArray:
        """Return the phases of stamps in radians."""
        wave = cyclic_features(stamps, (self.period,), 1)
        return np.asarray(np.arctan2(wave[..., 1], wave[..., 0]))

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        if timestamps is None:
            raise ValueError("PeriodicRouter reads timestamps; got none.")
        t = self.phases(timestamps[:, windows.shape[2]])
        waves = np.exp(1j * np.outer(t, np.arange(-self.degree, self.degree + 1)))
        gates = (waves @ self.amplitudes().T).real
        return np.asarray(np.log(np.maximum(gates, _SMALLEST_GATE))[:, None])


NAMED_ROUTERS: dict[str, type[Router]] = {
    "calendar": CalendarRouter,
    "constant": ConstantRouter,
    "spectral": SpectralRouter,
    "statistics": StatisticsRouter,
}
"""What a router may be called."""


def named_router(router: str | Router) -> Router:
    """Return the router of an estimator's parameter.

    Parameters
    ----------
    router : {"statistics", "calendar", "spectral", "constant"} or Router

    Returns
    -------
    Router

    Raises
    ------
    ValueError
        For another name or type, or a parameter out of range.

    Examples
    --------
    >>> from mixlin.routing import named_router
    >>> named_router("spectral")
    SpectralRouter()
    """
    if isinstance(router, str) and router in NAMED_ROUTERS:
        return NAMED_ROUTERS[router]()
    if not isinstance(router, Router):
        raise ValueError(
            f"router must be one of {', '.join(map(repr, NAMED_ROUTERS))}, or a Router such as "
            f"CalendarRouter(stamp='first'); got {router!r}."
        )
    router.check()
    return router


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
