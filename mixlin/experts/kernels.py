"""Kernels: what a prior expert assumes about a series, as covariances of its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ive

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Periodic:
    """A season of mean zero that changes its shape slowly.

    Parameters
    ----------
    amplitude : float
        Its variance.
    period : float
        In steps; any positive number.
    smoothness : float
        Below 0.5 a season with spikes, near 1 little more than a sine wave.
    decay : float
        Steps after which the season is correlated by ``1/e`` with what it was.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import Periodic
    >>> season = Periodic(amplitude=2.0, period=4.0, smoothness=0.8, decay=400.0)
    >>> season.covariance(np.arange(5.0), 5).round(2).tolist()
    [2.0, -0.46, -0.98, -0.46, 1.98]
    """

    amplitude: float
    period: float
    smoothness: float
    decay: float

    def covariance(self, lags: FloatArray, n_lags: int) -> FloatArray:
        """Return the covariance of two values.

        Parameters
        ----------
        lags : array
            Distances of the two, in steps, at least 0.
        n_lags : int
            Number of values the covariance matrix is wanted for; matters to kernels that grow.

        Returns
        -------
        array of the shape of `lags`
        """
        sharpness = 1.0 / self.smoothness**2
        mean = ive(0, sharpness)
        wave = np.exp((np.cos(2 * np.pi * lags / self.period) - 1.0) * sharpness)
        season: FloatArray = self.amplitude * (wave - mean) / (1.0 - mean)
        return season * np.exp(-lags / self.decay)


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """A level that returns to its mean.

    Parameters
    ----------
    amplitude : float
        Its variance.
    memory : float
        Steps after which a departure from the mean has shrunk to ``1/e``.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import OrnsteinUhlenbeck
    >>> OrnsteinUhlenbeck(1.0, memory=2.0).covariance(np.arange(3.0), 3).round(3).tolist()
    [1.0, 0.607, 0.368]
    """

    amplitude: float
    memory: float

    def covariance(self, lags: FloatArray, n_lags: int) -> FloatArray:
        """Return the covariance of two values; see :meth:`Periodic.covariance`."""
        return self.amplitude * np.exp(-lags / self.memory)


@dataclass(frozen=True)
class RandomWalk:
    """A level that wanders.

    Its covariance holds a constant that grows with the number of values. An expert's level is
    free, which removes the constant from everything the expert computes.

    Parameters
    ----------
    amplitude : float
        Variance of one step.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import RandomWalk
    >>> RandomWalk(2.0).covariance(np.arange(4.0), 4).tolist()
    [8.0, 7.0, 6.0, 5.0]
    """

    amplitude: float

    def covariance(self, lags: FloatArray, n_lags: int) -> FloatArray:
        """Return the covariance of two values; see :meth:`Periodic.covariance`."""
        return self.amplitude * (n_lags - lags / 2)


@dataclass(frozen=True)
class DampedTrend:
    """A trend whose slope returns to zero: the integral of an Ornstein-Uhlenbeck process.

    As for a :class:`RandomWalk`, the constant in its covariance is without effect.

    Parameters
    ----------
    amplitude : float
        Variance of the slope, per step.
    memory : float
        Steps after which a slope has shrunk to ``1/e``.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import DampedTrend
    >>> trend = DampedTrend(1.0, memory=10.0)
    >>> k = trend.covariance(np.arange(3.0), 3)
    >>> variance_of_a_step = 2 * (k[0] - k[1])
    >>> round(float(variance_of_a_step), 3)
    0.967
    """

    amplitude: float
    memory: float

    def _variogram(self, lags: FloatArray) -> FloatArray:
        ratio = lags / self.memory
        # expm1 keeps what a short lag leaves of three terms that cancel
        bend: FloatArray = self.memory**2 * (ratio + np.expm1(-ratio))
        return bend

    def covariance(self, lags: FloatArray, n_lags: int) -> FloatArray:
        """Return the covariance of two values; see :meth:`Periodic.covariance`."""
        top = self._variogram(np.array(float(n_lags)))
        return self.amplitude * (2 * top + 1.0 - self._variogram(lags))


Kernel = Periodic | OrnsteinUhlenbeck | RandomWalk | DampedTrend


@dataclass(frozen=True)
class PriorExpert:
    """An expert that needs no training: a sum of kernels, noise, and a level that is free.

    Parameters
    ----------
    name : str
    terms : tuple of Periodic, OrnsteinUhlenbeck, RandomWalk or DampedTrend
        Only their ratios matter: the scale of a series is found from the series.
    noise : float
        Variance of the noise on every value; positive.
    periods : tuple of float
        Of its seasons, for reading.
    log_prior : float
        Added to the expert's logit in a gate.

    Raises
    ------
    ValueError
        If the noise is not positive, or a parameter of a term is not positive and finite.

    Examples
    --------
    >>> from mixlin.experts import PriorExpert, RandomWalk
    >>> naive = PriorExpert("random walk", (RandomWalk(1.0),), noise=0.01)
    >>> naive.covariances(3).tolist()
    [3.01, 2.5, 2.0]
    """

    name: str
    terms: tuple[Kernel, ...]
    noise: float
    periods: tuple[float, ...] = ()
    log_prior: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise > 0):
            raise ValueError(
                f"the noise of an expert must be positive and finite; got {self.noise!r} for "
                f"{self.name!r}. A value like 0.01 stands for series that hardly have any."
            )
        for term in self.terms:
            for name, value in vars(term).items():
                if not (np.isfinite(value) and value > 0):
                    raise ValueError(
                        f"{name} of {type(term).__name__} must be positive and finite; got "
                        f"{value!r} for {self.name!r}. Leave the term out instead."
                    )

    def covariances(self, n: int, n_lags: int | None = None) -> FloatArray:
        """Return the covariances of a value with the values after it.

        Parameters
        ----------
        n : int
            Number of lags, 0 ... n - 1.
        n_lags : int, optional
            Number of values the covariance matrix is wanted for, `n` by default. It fixes the
            constant of the kernels that grow, which is without effect on forecasts; beyond that
            lag only differences of covariances mean something.

        Returns
        -------
        array of shape (n,)
            The noise counts at lag 0.
        """
        lags = np.arange(n, dtype=np.float64)
        total = np.zeros(n)
        for term in self.terms:
            total += term.covariance(lags, n if n_lags is None else n_lags)
        total[:1] += self.noise
        return total
