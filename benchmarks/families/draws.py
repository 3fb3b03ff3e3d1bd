"""Random numbers of the simulated families: the same on every version of numpy.

numpy promises that the raw output of a bit generator never changes, but not what its distributions
make of it. So every draw below starts from raw output and goes through an inverse distribution
function. Every series has a generator of its own: series 3 of a family is the same however many
others are drawn beside it.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import gammaincinv, ndtri, pdtr, pdtrik
from sklearn.utils import Bunch

FloatArray = np.ndarray


class Draws:
    """Independent draws for the m series of one family; every result begins with an axis of m.

    Parameters
    ----------
    family : str
    seed : int
    numbers : sequence of int
        The number of each series within its family.
    """

    def __init__(self, family: str, seed: int, numbers: Sequence[int]):
        key = zlib.crc32(family.encode())
        self._bits = [np.random.PCG64(np.random.SeedSequence([seed, key, k])) for k in numbers]

    @property
    def n_series(self) -> int:
        return len(self._bits)

    def of(self, chosen: np.ndarray) -> Draws:
        """Return the draws of some of the series, given by a mask or by positions."""
        some = copy.copy(self)
        some._bits = [self._bits[i] for i in np.arange(self.n_series)[chosen]]
        return some

    def uniform(self, low=0.0, high=1.0, size: tuple[int, ...] = ()) -> FloatArray:
        """Draw (m, *size) numbers above `low` and below `high`."""
        count = int(np.prod(size, dtype=int))
        raw = np.empty((self.n_series, count), dtype=np.uint64)
        for row, bits in zip(raw, self._bits, strict=True):
            row[:] = bits.random_raw(count)
        unit = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return low + (high - low) * unit.reshape(self.n_series, *size)

    def log_uniform(self, low: float, high: float, size: tuple[int, ...] = ()) -> FloatArray:
        return np.exp(self.uniform(np.log(low), np.log(high), size))

    def normal(self, size: tuple[int, ...] = ()) -> FloatArray:
        return ndtri(self.uniform(size=size))

    def student(self, degrees: int, size: tuple[int, ...] = ()) -> FloatArray:
        """Draw Student-t values, whose variance is degrees / (degrees - 2)."""
        squares = -2.0 * np.log(self.uniform(size=(*size, degrees // 2))).sum(axis=-1)
        if degrees % 2:
            squares += self.normal(size) ** 2
        return self.normal(size) * np.sqrt(degrees / squares)

    def flag(self, probability, size: tuple[int, ...] = ()) -> np.ndarray:
        return self.uniform(size=size) < probability

    def choice(self, options: Sequence[float], size: tuple[int, ...] = ()) -> FloatArray:
        table = np.asarray(options)
        return table[(self.uniform(size=size) * len(table)).astype(int)]

    def poisson(self, rate: FloatArray) -> FloatArray:
        """Draw counts of the given rates (m, ...)."""
        rate = np.maximum(rate, 1e-12)
        unit = self.uniform(size=rate.shape[1:])
        near = np.ceil(np.maximum(pdtrik(unit, rate), 0.0))
        # the inverse is rounded: step down where the count below already reaches the probability
        return np.where((near > 0) & (pdtr(np.maximum(near - 1, 0), rate) >= unit), near - 1, near)

    def gamma(self, shape: FloatArray) -> FloatArray:
        """Draw gamma values of scale one with the given shapes (m, ...)."""
        return gammaincinv(shape, self.uniform(size=np.shape(shape)[1:]))


Maker = Callable[[Draws, int], tuple[FloatArray, FloatArray]]


def make(
    makers: Mapping[str, Maker],
    seed: int,
    n_series: int,
    length: int,
    families: Sequence[str] | None,
) -> Bunch:
    """Draw `n_series` series, the families taking turns.

    Parameters
    ----------
    makers : mapping from name to function
        Each takes (draws, length) and returns values (m, length) and periods (m,).
    seed, n_series, length : int
    families : sequence of str or None
        Names among `makers`; None: all, in their order.

    Returns
    -------
    Bunch
        `data` (n_series, length), `family` (n_series,) names, `period` (n_series,) in steps,
        1 where there is no season.
    """
    names = tuple(makers) if families is None else tuple(families)
    unknown = [name for name in names if name not in makers]
    if unknown or not names:
        raise ValueError(f"unknown families {unknown}; choose among {', '.join(makers)}")
    if n_series < 1 or length < 16:
        raise ValueError(
            f"n_series={n_series} and length={length}: at least one series of 16 values is drawn"
        )
    data = np.empty((n_series, length))
    period = np.ones(n_series)
    for place, name in enumerate(names):
        rows = np.arange(place, n_series, len(names))
        if len(rows):
            draws = Draws(name, seed, range(len(rows)))
            data[rows], period[rows] = makers[name](draws, length)
            # a context without any change can't be judged relative to a naive forecast
            while len(same := np.flatnonzero(constant(data[rows]))):
                data[rows[same]], period[rows[same]] = makers[name](draws.of(same), length)
    return Bunch(data=data, family=np.array(names)[np.arange(n_series) % len(names)], period=period)


def constant(data: FloatArray) -> np.ndarray:
    """Tell which series (m, length) hardly move in their first seven eighths or at all."""
    head = data[:, : data.shape[1] - data.shape[1] // 8]
    spread = np.abs(data).max(axis=1)
    return ~(np.minimum(head.std(axis=1), data.std(axis=1)) > 1e-6 * spread)
