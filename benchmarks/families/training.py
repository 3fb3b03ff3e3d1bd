"""Families of series to choose settings on: calendars of business and of machines, random walks.

A series is a season (one period, often a second one), a level, noise and now and then an accident:
a jump, a few outliers, a stuck stretch, a round or a positive scale. What is drawn for one series
and not for another is drawn for the former alone (:meth:`Draws.of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from sklearn.utils import Bunch

from .draws import Draws, FloatArray, make

# seconds per step differ, what matters is the steps of a season and of the next longer one
SEASONS = {
    "15min": (96.0, 672.0),
    "30min": (48.0, 336.0),
    "hourly": (24.0, 168.0),
    "daily": (7.0, 365.25),
    "weekly": (52.18, None),
    "monthly": (12.0, None),
    "quarterly": (4.0, None),
    "other": (None, None),
}
MONTH = 30.44


def make_families(
    seed: int, n_series: int, length: int, families: Sequence[str] | None = None
) -> Bunch:
    """Draw series of the training families.

    Parameters
    ----------
    seed : int
    n_series : int
        The families take turns: series i is of family i modulo their number.
    length : int
        Values per series, context and target together.
    families : sequence of str, optional
        Names in `FAMILIES`; all by default.

    Returns
    -------
    Bunch
        `data` (n_series, length), `family` (n_series,) names, `period` (n_series,) in steps,
        1 for random walks.
    """
    return make(FAMILIES, seed, n_series, length, families)


def random_walk(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Sum heavy-tailed steps; some with bursts, drift, noise on top, or in logarithms."""
    steps = np.empty((draws.n_series, length))
    degrees = draws.choice((3, 5, 30))
    for d in (3, 5, 30):
        some = degrees == d
        steps[some] = draws.of(some).student(d, (length,))
    some = draws.flag(0.3)
    steps[some] *= np.exp(0.7 * memory(draws.of(some), length, np.full(some.sum(), 50.0)))
    values = np.cumsum(steps, axis=1)
    some = draws.flag(0.3)
    values[some] += 0.1 * draws.of(some).normal((1,)) * np.arange(length)
    some = draws.flag(0.3)
    values[some] += draws.of(some).uniform(0.2, 2.0, (1,)) * draws.of(some).normal((length,))
    some = draws.flag(0.3)
    values[some] = np.exp(standard(values[some]) * draws.of(some).uniform(0.05, 0.5, (1,)))
    return in_any_unit(draws, values), np.ones(draws.n_series)


def seasonal(name: str, draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Add season, level and noise, then perhaps an accident or a curved scale."""
    fixed, longer = SEASONS[name]
    m = draws.n_series
    if fixed is None:
        period = np.floor(draws.log_uniform(3.0, 120.0))
    else:
        period = np.full(m, fixed)
    time = np.arange(length) + np.floor(draws.uniform(0.0, 10000.0, (1,)))
    values = season(draws, time, period)
    if name in ("15min", "30min", "hourly"):
        values = weekdays(draws, time, period, longer, values)
    elif name == "daily":
        some = draws.flag(0.5)
        values[some] += draws.of(some).uniform(0.3, 2.0, (1,)) * profile(
            draws.of(some), time[some], np.full(some.sum(), longer), 1.5, 4
        )
        some = draws.flag(0.3)
        values[some] += draws.of(some).uniform(0.1, 0.6, (1,)) * profile(
            draws.of(some), time[some], np.full(some.sum(), MONTH), 1.0, 3
        )
    some = draws.flag(0.4)  # the amplitude of the season wanders
    strength = draws.of(some).uniform(0.1, 0.6, (1,))
    lasting = period[some] * draws.of(some).log_uniform(3.0, 60.0)
    values[some] *= np.exp(strength * memory(draws.of(some), length, lasting))
    values += level(draws, length, period)
    values += noise(draws, length)
    return in_any_unit(draws, accidents(draws, values)), period


def season(draws: Draws, time: FloatArray, period: FloatArray) -> FloatArray:
    """Draw the main season (m, length), in half of the series with slowly changing shape."""
    u = draws.uniform()
    bounds = np.cumsum((0.05, 0.15, 0.25, 0.2, 0.15, 0.1))
    amplitude = np.array([0.0, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0])[np.searchsorted(bounds, u)]
    roughness = draws.uniform(0.5, 2.5)
    harmonics = np.floor(draws.uniform(1.0, 9.0))
    changing = draws.flag(0.5)
    lasting = np.where(changing, period * draws.log_uniform(5.0, 200.0), 0.0)
    shape = profile(draws, time, period, roughness, harmonics, lasting)
    return amplitude[:, None] * shape


def weekdays(
    draws: Draws, time: FloatArray, period: FloatArray, week: float, values: FloatArray
) -> FloatArray:
    """Tell the days of a week apart: by their amplitude, their level, a weekly wave, holidays."""
    m, length = values.shape
    day = np.floor(time / period[:, None]).astype(int)
    weekday = day % 7
    u = draws.uniform()
    factors = np.ones((m, 7))
    some = u < 0.3
    factors[some, 5:] = draws.of(some).uniform(0.1, 1.0, (2,))
    some = (u >= 0.3) & (u < 0.5)
    factors[some] = draws.of(some).uniform(0.5, 1.3, (7,))
    values = values * np.take_along_axis(factors, weekday, axis=1)
    levels = np.zeros((m, 7))
    some = draws.flag(0.3)
    levels[some] = draws.of(some).uniform(0.1, 0.8, (1,)) * draws.of(some).normal((7,))
    values += np.take_along_axis(levels, weekday, axis=1)
    some = draws.flag(0.3)
    values[some] += draws.of(some).uniform(0.1, 0.8, (1,)) * profile(
        draws.of(some), time[some], np.full(some.sum(), week), 1.0, 6
    )
    some = draws.flag(0.3)
    if some.any():
        free = draws.of(some).flag(0.03, (length // int(period[0]) + 3,))
        free = np.take_along_axis(free, day[some] - day[some, :1], axis=1)
        share, drop = (draws.of(some).uniform(0.0, top, (1,)) for top in (0.7, 0.5))
        values[some] = np.where(free, values[some] * share - drop, values[some])
    return values


def level(draws: Draws, length: int, period: FloatArray) -> FloatArray:
    """Draw a level: one to three memories, a random walk, a smooth path or none, and trends."""
    path = np.zeros((draws.n_series, length))
    u = draws.uniform()
    count = np.floor(draws.uniform(1.0, 4.0))
    for k in range(3):
        some = (u < 0.45) & (count > k)
        lasting = np.exp(draws.of(some).uniform() * np.log((40 * period[some] + 40) / 3)) * 3
        size = draws.of(some).choice((0.2, 0.5, 1.0, 1.5), (1,))
        path[some] += size * memory(draws.of(some), length, lasting)
    some = (u >= 0.45) & (u < 0.65)
    walk = np.cumsum(draws.of(some).normal((length,)), axis=1)
    path[some] = walk * draws.of(some).log_uniform(0.01, 0.3, (1,))
    some = (u >= 0.65) & (u < 0.75)
    smooth = np.cumsum(memory(draws.of(some), length, draws.of(some).log_uniform(3.0, 100.0)), 1)
    path[some] = draws.of(some).uniform(0.3, 3.0, (1,)) * smooth / deviation(smooth)
    some = draws.flag(0.35)
    path[some] += 2.0 * draws.of(some).normal((1,)) * np.arange(length) / length
    some = draws.flag(0.15)
    path[some] += jump(draws.of(some), length, length // 4, 2.0)
    some, count = draws.flag(0.1), np.floor(draws.uniform(1.0, 5.0))
    for k in range(4):
        still = some & (count > k)
        path[still] += jump(draws.of(still), length, 0, 1.0)
    return path


def noise(draws: Draws, length: int) -> FloatArray:
    """Draw noise (m, length): normal, heavy-tailed or with a short memory."""
    u, heavy = draws.uniform(), draws.flag(0.4)
    values = np.empty((draws.n_series, length))
    some = u < 0.4
    values[some] = memory(draws.of(some), length, draws.of(some).uniform(1.0, 6.0))
    some = (u >= 0.4) & heavy
    values[some] = draws.of(some).student(4, (length,)) / 1.4
    some = (u >= 0.4) & ~heavy
    values[some] = draws.of(some).normal((length,))
    return values * draws.log_uniform(0.02, 1.0, (1,))


def accidents(draws: Draws, values: FloatArray) -> FloatArray:
    """Add outliers to some series, and give some a positive, clipped, round or broken record."""
    length = values.shape[1]
    some = draws.flag(0.12)
    hit = draws.of(some).flag(0.005, (length,))
    values[some] += hit * 6.0 * draws.of(some).normal((length,))
    u = draws.uniform()
    some = u < 0.15
    values[some] = np.exp(0.4 * values[some])
    some = (u >= 0.15) & (u < 0.22)
    values[some] = np.maximum(values[some], 0.0)
    some = (u >= 0.22) & (u < 0.26)
    values[some] = np.round(np.maximum(2.0 * values[some], 0.0))
    some = (u >= 0.26) & (u < 0.29)
    start = np.floor(draws.of(some).uniform(0.0, length - 20.0, (1,)))
    stop = start + np.floor(draws.of(some).uniform(5.0, 60.0, (1,)))
    stuck = (np.arange(length) >= start) & (np.arange(length) < stop)
    values[some] = np.where(stuck, values[some].min(axis=1, keepdims=True), values[some])
    return values


def profile(
    draws: Draws,
    time: FloatArray,
    period: FloatArray,
    roughness: FloatArray | float,
    harmonics: FloatArray | int,
    lasting: FloatArray | float = 0.0,
) -> FloatArray:
    """Draw periodic curves of variance one.

    Parameters
    ----------
    draws : Draws
    time : (m, length)
    period : (m,)
    roughness : (m,)
        Harmonic h has an amplitude of h to the power of minus this.
    harmonics : (m,)
    lasting : (m,)
        Steps over which the shape changes; 0 for a shape that stays.
    """
    m, length = time.shape
    roughness, lasting = np.broadcast_to(roughness, m), np.broadcast_to(lasting, m)
    count = np.minimum(harmonics, np.maximum(1.0, np.floor(period / 2)))
    total = np.zeros((m, length))
    for h in range(1, int(count.max(initial=0.0)) + 1):
        some = count >= h
        pair = np.repeat(draws.of(some).normal((2, 1)), length, axis=2)
        alters = lasting[some] > 0
        for which in range(2):
            drift = memory(draws.of(some).of(alters), length, lasting[some][alters])
            pair[alters, which] += 0.5 * drift
        angle = 2 * np.pi * h * time[some] / period[some, None]
        wave = pair[:, 0] * np.cos(angle) + pair[:, 1] * np.sin(angle)
        total[some] += wave / h ** roughness[some, None]
    return total / deviation(total)


def memory(draws: Draws, length: int, steps: FloatArray) -> FloatArray:
    """Draw Ornstein-Uhlenbeck paths (m, length) of variance one that remember `steps` (m,)."""
    phi = np.exp(-1.0 / steps)
    shocks = draws.normal((length,)).T.copy()
    shocks[1:] *= np.sqrt(1.0 - phi**2)
    for t in range(1, length):
        shocks[t] += phi * shocks[t - 1]
    return shocks.T


def jump(draws: Draws, length: int, earliest: int, size: float) -> FloatArray:
    place = np.floor(draws.uniform(earliest, length, (1,)))
    return size * draws.normal((1,)) * (np.arange(length) >= place)


def deviation(values: FloatArray) -> FloatArray:
    return values.std(axis=1, keepdims=True) + 1e-9


def standard(values: FloatArray) -> FloatArray:
    return (values - values.mean(axis=1, keepdims=True)) / deviation(values)


def in_any_unit(draws: Draws, values: FloatArray) -> FloatArray:
    """Return standardized values in a drawn unit and with a drawn mean."""
    unit = np.exp(2.0 * draws.normal((1,)))
    return standard(values) * unit + 5.0 * draws.normal((1,))


FAMILIES = {
    "15min": partial(seasonal, "15min"),
    "30min": partial(seasonal, "30min"),
    "hourly": partial(seasonal, "hourly"),
    "daily": partial(seasonal, "daily"),
    "weekly": partial(seasonal, "weekly"),
    "monthly": partial(seasonal, "monthly"),
    "quarterly": partial(seasonal, "quarterly"),
    "random walk": random_walk,
    "other": partial(seasonal, "other"),
}
