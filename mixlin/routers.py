"""The routers: what a gate looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .calendar_features import (
    cycles_of_freq,
    cyclic_feature_names,
    cyclic_features,
    freq_of_step,
    reference_feature_names,
    reference_features,
)
from .gates import ConstantRouter, FloatArray, Router, StampArray, is_count
from .window_statistics import STATISTICS, window_statistics

_STAMPS = ("first", "last", "next", "horizon")
_ENCODINGS = ("cyclic", "reference")
_SEEN = 100  # stamps that a step is told from
_SMALLEST_GATE = 1e-12  # where a fixed gate is closed; its logarithm is kept


def _usual_step(stamps: StampArray) -> np.timedelta64:
    """Return the median step of stamps; a clock on the wall is moved twice a year."""
    steps = np.diff(stamps[:_SEEN])
    middle: np.timedelta64 = np.sort(steps)[len(steps) // 2]
    return middle


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
        if not is_count(self.n_harmonics):
            raise ValueError(
                "n_harmonics of CalendarRouter must be an integer of at least 1; got "
                f"{self.n_harmonics!r}."
            )

    def prepared(self, timestamps: StampArray | None) -> CalendarRouter:
        assert timestamps is not None
        freq = self.freq or freq_of_step(_usual_step(timestamps))
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
        freq = self.freq or freq_of_step(_usual_step(timestamps[0]))
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
        Bands of frequencies at most, each about a fixed factor wider than the one before and none
        narrower than a frequency of the window.
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
        if not is_count(self.n_bands):
            raise ValueError(
                f"n_bands of SpectralRouter must be an integer of at least 1; got {self.n_bands!r}."
            )

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
    [[[0.569, 0.42, 0.011]]]
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
