"""Families of series that no setting was chosen on.

They were written before the training families of this package were, from textbook models: growth
that saturates, nonlinear autoregressions, breaks, noise that depends on level and season,
calendars, counts, periods that drift, and tones whose periods have no common multiple.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.utils import Bunch

from .draws import Draws, FloatArray, make

WARM_UP = 256


def make_families(
    seed: int, n_series: int, length: int, families: Sequence[str] | None = None
) -> Bunch:
    """Draw series of the disjoint families.

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
        1 where there is no season.
    """
    return make(FAMILIES, seed, n_series, length, families)


def logistic_growth(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Sales of a new product: a saturating curve times a season, errors in proportion."""
    period = season_length(draws, length, (4, 7, 12, 24, 52))
    middle = column(draws.uniform(-0.2, 1.1) * length)
    width = column(draws.log_uniform(0.04, 0.3) * length)
    growth = 1.0 / (1.0 + np.exp(-(np.arange(length) - middle) / width))
    floor = column(draws.uniform(0.02, 0.4))
    season = column(draws.uniform(0.05, 0.35)) * profile(draws, period, length, harmonics=3)
    error = column(draws.log_uniform(0.01, 0.1)) * autoregression(draws, length, 0.0, 0.9)
    scale = column(draws.log_uniform(1.0, 1e5))
    return scale * (floor + growth) * np.maximum(1.0 + season + error, 0.02), period


def threshold_autoregression(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """SETAR: one autoregression above a threshold, another one below, with delay 1 or 2."""
    m = draws.n_series
    # means on the far side of the threshold make limit cycles, on the near side two states
    cycles = draws.flag(0.5)
    distance = draws.uniform(0.5, 2.5)
    means = np.where(cycles, distance, -distance), np.where(cycles, -distance, distance)
    memory = draws.uniform(0.3, 0.95), draws.uniform(0.3, 0.95)
    spread = draws.log_uniform(0.1, 1.0), draws.log_uniform(0.1, 1.0)
    late = draws.flag(0.5)
    noise = draws.normal((WARM_UP + length,)).T
    values = np.empty((WARM_UP + length, m))
    last = before = np.zeros(m)
    for t, shock in enumerate(noise):
        low = np.where(late, before, last) <= 0.0
        mean, phi, sigma = (np.where(low, *pair) for pair in (means, memory, spread))
        before, last = last, mean + phi * (last - mean) + sigma * shock
        values[t] = last
    return values[WARM_UP:].T, np.ones(m)


def level_shifts(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """A season on a level that jumps a few times and rests in between."""
    period = season_length(draws, length, (7, 12, 24, 48, 96))
    jumps = draws.flag(column(draws.uniform(1.0, 6.0) / length), (length,))
    sizes = column(draws.uniform(1.0, 4.0)) * draws.normal((length,))
    season = column(draws.uniform(0.3, 1.5)) * profile(draws, period, length, harmonics=4)
    noise = column(draws.uniform(0.1, 0.6)) * draws.normal((length,))
    return np.cumsum(jumps * sizes, axis=1) + season + noise, period


def seasonal_noise(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Prices: level times season times errors whose size has a season of its own."""
    period = season_length(draws, length, (12, 24, 48, 96))
    level = np.cumsum(0.02 * draws.normal((length,)), axis=1)
    level -= level[:, :1]
    drift = column(draws.uniform(0.0, 0.5)) * level
    season = column(draws.uniform(0.1, 0.6)) * profile(draws, period, length, harmonics=3)
    spread = column(draws.log_uniform(0.05, 0.3)) * np.exp(
        0.7 * profile(draws, period, length, harmonics=1)
    )
    error = spread * autoregression(draws, length, 0.3, 0.95)
    return column(draws.log_uniform(1.0, 1e3)) * np.exp(drift + season + error), period


def calendar_holidays(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Daily visitors: weekdays, a year, fixed holidays with the days beside them, a lunar feast."""
    m = draws.n_series
    day = np.arange(length) + np.floor(draws.uniform(0.0, 2922.0))[:, None]
    of_year = np.floor(np.mod(day, 365.25))
    weekday = np.mod(day, 7).astype(int)
    week = np.take_along_axis(0.5 * draws.normal((7,)), weekday, axis=1)
    angle = 2 * np.pi * (day - column(draws.uniform(0.0, 365.25))) / 365.25
    year = column(draws.uniform(0.05, 0.5)) * np.cos(angle)
    effect = np.zeros((m, 366))
    dates = np.floor(draws.uniform(0.0, 365.0, (9,))).astype(int)
    sizes = draws.choice((-1.0, -1.0, 1.0), (9,)) * draws.uniform(0.4, 1.5, (9,))
    rows = np.arange(m)
    for holiday in range(9):
        for shift, share in ((-1, 0.3), (0, 1.0), (1, 0.2)):
            effect[rows, (dates[:, holiday] + shift) % 366] += share * sizes[:, holiday]
    holidays = np.take_along_axis(effect, of_year.astype(int), axis=1)
    lunar = np.mod(day - column(draws.uniform(0.0, 354.37)), 354.37) < 3.0
    feast = column(draws.uniform(-1.0, 1.0)) * lunar
    noise = column(draws.uniform(0.05, 0.3)) * autoregression(draws, length, 0.0, 0.8)
    log_scale = column(draws.uniform(2.0, 9.0))
    return np.exp(log_scale + 0.4 * (week + year + holidays + feast + noise)), np.full(m, 7.0)


def seasonal_counts(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Calls: negative binomial counts with a seasonal rate."""
    period = season_length(draws, length, (7, 12, 24, 48))
    rate = column(draws.log_uniform(0.5, 50.0)) * np.exp(
        column(draws.uniform(0.3, 0.9)) * profile(draws, period, length, harmonics=3)
    )
    shape = np.broadcast_to(column(draws.log_uniform(2.0, 50.0)), rate.shape)
    return draws.poisson(rate * draws.gamma(shape) / shape), period


def intermittent_demand(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Spare parts: mostly nothing, now and then an order, orders in clusters."""
    m = draws.n_series
    share, clustering = draws.uniform(0.1, 0.5), draws.uniform(0.0, 0.6)
    unit = draws.uniform(size=(length,)).T
    ordered = np.empty((length, m), dtype=bool)
    active = draws.flag(share)
    for t, row in enumerate(unit):
        active = row < share * (1.0 - clustering) + clustering * active
        ordered[t] = active
    sizes = 1.0 + draws.poisson(np.repeat(column(draws.log_uniform(0.5, 20.0)), length, axis=1))
    return ordered.T * sizes, np.ones(m)


def drifting_period(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """A heartbeat: the period wanders or glides by some per cent, and so does the amplitude."""
    period = np.exp(draws.uniform(np.log(8.0), np.log(min(120.0, length / 5))))
    glide = column(draws.uniform(-0.15, 0.15)) * np.linspace(-1.0, 1.0, length)
    wander = column(draws.log_uniform(0.003, 0.05)) * autoregression(draws, length, 0.98, 0.999)
    phase = 2 * np.pi * np.cumsum(np.exp(glide + wander) / column(period), axis=1)
    phase += column(draws.uniform(0.0, 2 * np.pi))
    amplitude = np.exp(column(draws.uniform(0.0, 0.4)) * autoregression(draws, length, 0.99, 0.999))
    second = column(draws.uniform(0.0, 0.6)) * np.cos(2 * phase + column(draws.uniform(0.0, 6.3)))
    noise = column(draws.log_uniform(0.03, 0.4)) * draws.normal((length,))
    # the local period at the end of a series that glides
    return amplitude * (np.cos(phase) + second) + noise, period / np.exp(glide[:, -1])


def regime_switching(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Two states that last for a while, each with a mean, a memory and a spread of its own."""
    m = draws.n_series
    state = switches(draws, length, draws.log_uniform(20.0, 300.0))
    mean = np.where(state, column(draws.uniform(0.5, 4.0)), 0.0)
    phi = np.where(state, column(draws.uniform(0.0, 0.9)), column(draws.uniform(0.0, 0.9)))
    spread = np.where(
        state, column(draws.log_uniform(0.2, 1.5)), column(draws.log_uniform(0.2, 1.5))
    )
    shocks = spread * draws.normal((length,))
    values = np.empty((length, m))
    last = np.zeros(m)
    for t in range(length):
        last = phi[:, t] * last + shocks[:, t]
        values[t] = last
    return mean + values.T, np.ones(m)


def volatile_walk(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """An asset price: a geometric random walk with stochastic volatility and heavy tails."""
    wave = column(draws.uniform(0.2, 0.8)) * autoregression(draws, length, 0.9, 0.995)
    steps = column(draws.log_uniform(1e-3, 3e-2)) * np.exp(wave) * draws.student(6, (length,))
    path = np.cumsum(np.clip(steps, -0.5, 0.5), axis=1)
    return column(draws.log_uniform(0.1, 1e4)) * np.exp(path), np.ones(draws.n_series)


def tides(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """A water level: four tones of sun and moon without a common period, and weather."""
    per_hour = draws.choice((1.0, 1.0, 2.0) if length >= 512 else (1.0,))
    hour = np.arange(length) / column(per_hour)
    tones = (12.4206, 12.0, 23.9345, 25.8193)
    strength = draws.uniform(0.0, 1.0, (4,)) * np.array([1.5, 0.6, 0.6, 0.5])
    strength[:, 0] += 0.3
    phase = draws.uniform(0.0, 2 * np.pi, (4,))
    level = sum(
        strength[:, i, None] * np.cos(2 * np.pi * hour / tone + phase[:, i, None])
        for i, tone in enumerate(tones)
    )
    weather = column(draws.uniform(0.02, 0.4)) * autoregression(draws, length, 0.95, 0.995)
    gauge = column(draws.log_uniform(0.01, 0.05)) * draws.normal((length,))
    # two semidiurnal cycles: the lunar day, after which the water comes back
    return level + weather + gauge, 24.8412 * per_hour


def duty_cycle(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """A machine: on for a share of every period, at a power that differs from run to run."""
    period = np.round(np.exp(draws.uniform(np.log(6.0), np.log(min(150.0, length / 5)))))
    time = (np.arange(length) + column(draws.uniform(0.0, 1e3))) / column(period)
    on = np.mod(time, 1.0) < column(draws.uniform(0.2, 0.8))
    runs = np.floor(time - time[:, :1]).astype(int)
    power = 1.0 + column(draws.uniform(0.0, 0.3)) * draws.normal((length,))
    power = np.take_along_axis(power, runs, axis=1)
    heat = 1.0 - column(draws.uniform(0.0, 0.9))
    load = np.empty((length, draws.n_series))
    last = np.zeros(draws.n_series)
    for t, target in enumerate((on * power).T):
        last = last + heat[:, 0] * (target - last)
        load[t] = last
    idle = column(draws.uniform(0.0, 0.3))
    noise = column(draws.log_uniform(0.005, 0.1)) * draws.normal((length,))
    return column(draws.log_uniform(1.0, 500.0)) * (idle + load.T + noise), period


def irradiance(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """Sunlight: zero at night, a bell by day, dimmed by clouds that stay for hours or days."""
    period = season_length(draws, length, (24, 24, 48, 96))
    angle = 2 * np.pi * (np.arange(length) / column(period) + column(draws.uniform()))
    bell = np.maximum(np.cos(angle) + column(draws.uniform(-0.4, 0.4)), 0.0)
    hours = autoregression(draws, length, 0.5, 0.9)
    days = autoregression(draws, length, 0.97, 0.995)
    clouds = column(draws.uniform(0.2, 1.0)) * hours + column(draws.uniform(0.2, 1.5)) * days
    clear = 1.0 / (1.0 + np.exp(clouds - column(draws.uniform(0.0, 2.0))))
    return column(draws.log_uniform(1.0, 1e3)) * bell * clear, period


def delayed_feedback(draws: Draws, length: int) -> tuple[FloatArray, FloatArray]:
    """The Mackey-Glass equation, a chaotic loop with a delay, measured with noise."""
    m = draws.n_series
    delay = np.round(draws.uniform(12.0, 30.0)).astype(int)
    growth, decay = draws.uniform(0.18, 0.24), draws.uniform(0.09, 0.11)
    total = WARM_UP + length
    # the first 32 values are the history that the delay looks back on
    path = np.empty((32 + total, m))
    path[:32] = draws.uniform(0.5, 1.3)
    rows = np.arange(m)
    for t in range(32, 32 + total):
        past = path[t - delay, rows]
        path[t] = path[t - 1] + growth * past / (1.0 + past**10) - decay * path[t - 1]
    noise = column(draws.log_uniform(0.005, 0.1)) * draws.normal((length,))
    return path[-length:].T + noise, np.ones(m)


FAMILIES = {
    "logistic growth": logistic_growth,
    "threshold autoregression": threshold_autoregression,
    "level shifts": level_shifts,
    "seasonal noise": seasonal_noise,
    "calendar holidays": calendar_holidays,
    "seasonal counts": seasonal_counts,
    "intermittent demand": intermittent_demand,
    "drifting period": drifting_period,
    "regime switching": regime_switching,
    "volatile walk": volatile_walk,
    "tides": tides,
    "duty cycle": duty_cycle,
    "irradiance": irradiance,
    "delayed feedback": delayed_feedback,
}


def column(values: FloatArray) -> FloatArray:
    return values[:, None]


def season_length(draws: Draws, length: int, options: Sequence[float]) -> FloatArray:
    """Draw periods that a series of this length shows five times or more."""
    return draws.choice([option for option in options if 5 * option <= length] or options[:1]) * 1.0


def profile(draws: Draws, period: FloatArray, length: int, harmonics: int) -> FloatArray:
    """A periodic curve of variance one whose harmonics fade."""
    angle = 2 * np.pi * np.arange(length) / period[:, None]
    shape = draws.normal((harmonics, 2)) / np.arange(1, harmonics + 1)[:, None]
    shape /= np.sqrt(0.5 * (shape**2).sum(axis=(1, 2), keepdims=True))
    return sum(
        shape[:, k, 0, None] * np.cos((k + 1) * angle)
        + shape[:, k, 1, None] * np.sin((k + 1) * angle)
        for k in range(harmonics)
    )


def autoregression(draws: Draws, length: int, low: float, high: float) -> FloatArray:
    """A stationary autoregression of variance one with its coefficient between `low` and `high`."""
    phi = draws.uniform(low, high)
    shocks = draws.normal((length + 1,)).T
    values = np.empty((length, draws.n_series))
    last, rest = shocks[0], np.sqrt(1.0 - phi**2)
    for t in range(length):
        last = phi * last + rest * shocks[t + 1]
        values[t] = last
    return values.T


def switches(draws: Draws, length: int, stay: FloatArray) -> np.ndarray:
    """A two-state Markov chain that stays `stay` steps in a state on average."""
    changes = draws.flag(column(1.0 / stay), (length,))
    return (np.cumsum(changes, axis=1) + column(draws.flag(0.5))) % 2 == 1
