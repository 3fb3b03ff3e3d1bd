"""A synthetic electricity load: the series that is there when no file is."""

from __future__ import annotations

import datetime as dt
import re
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from mixlin.datasets.bunch import check_pandas, series_bunch

__all__ = ["make_seasonal"]

_Floats = npt.NDArray[np.float64]
_DAY = 1440  # minutes

# Demand at 00:00, 01:00, ... on a working day and on a Sunday, of three classes of customers. Each
# is divided by its working-day mean before use.
_PROFILES = {
    "residential": (
        "62 55 51 49 49 54 70 92 95 88 84 85 90 88 84 85 94 112 132 140 135 121 100 78",
        "72 63 56 52 50 50 54 66 86 103 112 118 123 117 107 102 104 116 130 136 130 115 95 76",
    ),
    "commercial": (
        "46 44 43 43 45 53 74 105 135 150 156 158 155 156 156 153 146 134 115 96 78 63 54 49",
        "45 43 42 41 41 42 44 49 56 63 69 73 75 75 74 72 70 68 65 61 57 52 48 46",
    ),
    "industrial": (
        "84 83 83 84 87 95 107 115 118 118 117 116 112 115 116 114 110 106 102 98 95 92 89 86",
        "66 65 64 64 64 64 65 66 67 67 68 68 67 67 66 66 66 67 68 69 70 71 72 73",
    ),
}
# How much of a working day each class makes of Monday to Sunday; a holiday is like a Sunday.
_WORK = np.array(
    [
        [1.00, 1.00, 1.00, 1.00, 0.93, 0.15, 0.0],
        [0.97, 1.00, 1.00, 1.00, 0.92, 0.45, 0.0],
        [0.96, 1.00, 1.00, 1.00, 0.94, 0.35, 0.0],
    ]
)
_MIX = np.array([5.0, 3.5, 2.5])  # Dirichlet: channels differ in their customers
_HEATING = np.array([0.016, 0.011, 0.003])  # relative demand per degree below the threshold
_COOLING = np.array([0.012, 0.024, 0.006])
_LIGHTING = np.array([0.14, 0.06, 0.02])
_HOLIDAYS = ((1, 1), (5, 1), (8, 15), (11, 1), (12, 25), (12, 26))  # (month, day)

_TIME_PATTERN = r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?)?"
_WEATHER_PER_NOISE = 120.0  # degrees of unusual weather per unit of noise: 3 at the default
_MEMORY = 6 * 60.0  # minutes after which a disturbance has fallen to 1/e
_SHARED = 0.5  # share of the disturbance's variance that all channels have in common


def make_seasonal(
    n_samples: int = 24 * 365 * 2,
    n_channels: int = 1,
    *,
    freq: str = "h",
    start: str | dt.date | np.datetime64 = "2020-01-01",
    noise: float = 0.025,
    trend: float = 0.02,
    holidays: bool = True,
    as_frame: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Make a series like the electricity load of a region, for trials without a data file.

    Each channel serves its own mix of households, commerce and industry. Their daily shapes
    differ between working days, Saturdays and Sundays; heating, cooling and lighting follow a
    simulated climate, which makes the yearly cycle and couples the channels through common
    weather; holidays look like Sundays; demand grows slowly; and a disturbance that forgets itself
    within hours, partly common to all channels, multiplies the result.

    The values are always positive. With the same integer `random_state`, a longer series continues
    a shorter one, and further channels leave the first ones as they were.

    Parameters
    ----------
    n_samples : int, default=17520
        Number of rows, in steps; two years of hours by default, so that a split at 70 % trains on
        every season.
    n_channels : int, default=1
        Number of channels.
    freq : str, default="h"
        Step as pandas writes it, a part of a day: ``"15min"``, ``"30min"``, ``"h"``, ``"6h"``,
        ``"D"``. A value is the mean load over its step.
    start : str, date, datetime or datetime64, default="2020-01-01"
        Time of the first row, without time zone; seconds are dropped.
    noise : float, default=0.025
        Standard deviation of the disturbance as a share of the load, in [0, 0.5]. Spells of
        unusual weather grow in proportion; 0 leaves only what the calendar explains.
    trend : float, default=0.02
        Relative growth per year, in (-1, 1].
    holidays : bool, default=True
        Whether a few fixed dates of the year look like Sundays.
    as_frame : bool, default=False
        Whether `data` is a DataFrame with the time as its index (needs pandas).
    random_state : int, RandomState instance or None, default=None
        Determines the channels, the weather and the disturbance. Pass an int for the same series
        at every call.

    Returns
    -------
    dataset : Bunch
        data : array or DataFrame of shape (n_samples, n_channels)
            The load in megawatts, float64.
        frame : DataFrame of shape (n_samples, n_channels) or None
            The same DataFrame with ``as_frame=True``, otherwise None.
        index : array of shape (n_samples,)
            Time at which each step begins, datetime64[ns].
        feature_names : list of str
            ``["load"]``, or ``["load_1", "load_2", ...]`` for several channels.
        name, freq, period : str, str, int
            ``"seasonal"``, the step, and the steps of a day (of a week for ``"D"``).
        holidays : array of shape (n_holidays,)
            Dates of the holidays in the series, datetime64[D].
        DESCR : str
            What the series is made of.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or the series would leave the years 1678 to 2261.
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    Examples
    --------
    >>> from mixlin.datasets import make_seasonal
    >>> load = make_seasonal(24 * 7, n_channels=3, random_state=0)
    >>> load.data.shape, load.period
    ((168, 3), 24)
    >>> load.feature_names
    ['load_1', 'load_2', 'load_3']
    >>> str(load.index[-1])[:16]
    '2020-01-07T23:00'
    """
    validate_parameter_constraints(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "n_channels": [Interval(Integral, 1, None, closed="left")],
            "freq": [str],
            "start": [str, dt.date, np.datetime64],
            "noise": [Interval(Real, 0, 0.5, closed="both")],
            "trend": [Interval(Real, -1, 1, closed="right")],
            "holidays": ["boolean"],
            "as_frame": ["boolean"],
            "random_state": ["random_state"],
        },
        {
            "n_samples": n_samples,
            "n_channels": n_channels,
            "freq": freq,
            "start": start,
            "noise": noise,
            "trend": trend,
            "holidays": holidays,
            "as_frame": as_frame,
            "random_state": random_state,
        },
        caller_name="make_seasonal",
    )
    if as_frame:
        check_pandas("make_seasonal")
    step, freq = _parse_freq(freq)
    first = _parse_start(start, step, n_samples)

    # Coarse steps are averages of finer ones, so that a daily value is a day's mean load.
    n_fine = -(-step // 60)
    fine = step // n_fine
    minutes = first.astype(np.int64) + fine * np.arange(n_samples * n_fine, dtype=np.int64)
    day = minutes // _DAY  # days since 1970-01-01, a Thursday
    hour = (minutes % _DAY) / 60.0
    year = (minutes - minutes[0]) / (_DAY * 365.2425)
    # Phase of the solar year, 0 on average at its beginning.
    phase = 2 * np.pi * (minutes / (_DAY * 365.2425) % 1.0)
    dates = np.arange(day[0] - 1, day[-1] + 1).astype("datetime64[D]")
    is_holiday = _is_holiday(dates) if holidays else np.zeros(dates.size, dtype=bool)

    # One seed per purpose, drawn in an order that more rows or channels only extend.
    seeds = check_random_state(random_state).randint(2**31 - 1, size=2 + n_channels)
    degrees = _temperature(day, hour, phase, noise, np.random.RandomState(seeds[0]))
    shared = _disturbance(day.size, fine, np.random.RandomState(seeds[1]))
    demand = _demand(day, hour, phase, dates, is_holiday)
    growth = np.exp(np.log1p(trend) * year)

    data = np.empty((n_samples, n_channels))
    for c, seed in enumerate(seeds[2:]):
        rng = np.random.RandomState(seed)
        mix = rng.dirichlet(_MIX)
        level = 900.0 * np.exp(0.5 * rng.standard_normal())
        local = degrees + 1.5 * rng.standard_normal()  # some places are warmer
        heating = _softplus(15.0 - local)[:, None] * _HEATING
        cooling = _softplus(local - 21.0)[:, None] * _COOLING
        load = ((demand + heating + cooling) * mix).sum(axis=1)
        own = _disturbance(day.size, fine, rng)
        swing = noise * (np.sqrt(_SHARED) * shared + np.sqrt(1.0 - _SHARED) * own)
        load = level * growth * load * np.exp(swing - 0.5 * noise**2)
        data[:, c] = load.reshape(n_samples, n_fine).mean(axis=1)

    per_day = _DAY // step
    index = minutes[::n_fine].astype("datetime64[m]").astype("datetime64[ns]")
    names = ["load"] if n_channels == 1 else [f"load_{c + 1}" for c in range(n_channels)]
    return series_bunch(
        data,
        index,
        names,
        "seasonal",
        freq,
        per_day if per_day > 1 else 7,
        _describe(n_samples, n_channels, freq, index),
        as_frame=as_frame,
        holidays=dates[1:][is_holiday[1:]],
    )


def _parse_freq(freq: str) -> tuple[int, str]:
    """Return a step in minutes, and its canonical name."""
    match = re.fullmatch(r"([1-9]\d{0,3})?(min|h|D)", freq)
    step = int(match[1] or 1) * {"min": 1, "h": 60, "D": _DAY}[match[2]] if match else 0
    if not step or _DAY % step:
        raise ValueError(
            f"freq={freq!r} must be a number of minutes or hours that divides a day, such as "
            "'15min', '30min', 'h' or '6h', or 'D' for days."
        )
    if step == _DAY:
        return step, "D"
    count, unit = (step // 60, "h") if step % 60 == 0 else (step, "min")
    return step, unit if count == 1 else f"{count}{unit}"


def _parse_start(start: Any, step: int, n_samples: int) -> np.datetime64:
    """Return the first time in minutes, after checking that every row fits datetime64[ns]."""
    if getattr(start, "tzinfo", None) is not None:
        raise ValueError(
            f"start={start!r} has a time zone; pass local time without one "
            "(start.replace(tzinfo=None))."
        )
    # A pattern, because numpy also reads "now", and warns about zones instead of refusing them.
    if isinstance(start, str) and not re.fullmatch(_TIME_PATTERN, start):
        raise ValueError(
            f"start={start!r} is not a time; use for example '2020-01-01' or '2020-01-01T06:00'."
        )
    try:
        first: np.datetime64 = np.datetime64(start).astype("datetime64[m]")
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"start={start!r} is not a time: {exc}.") from exc
    low, high = np.datetime64("1678-01-01T00:00"), np.datetime64("2262-01-01T00:00")
    last_allowed = high - np.timedelta64(step, "m")
    # Compared in Python's integers: the product may not fit 64 bits.
    end = int(first.astype(np.int64)) + step * (int(n_samples) - 1)
    if np.isnat(first) or first < low or end > int(last_allowed.astype(np.int64)):
        raise ValueError(
            f"start={start!r} with {n_samples} rows leaves the years 1678 to 2261; "
            "start within them, or pass fewer rows."
        )
    return first


def _is_holiday(dates: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
    """Whether each date is one of the fixed holidays."""
    months = dates.astype("datetime64[M]")
    month = months.astype(np.int64) % 12 + 1
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    return np.isin(100 * month + day, [100 * m + d for m, d in _HOLIDAYS])


def _demand(
    day: npt.NDArray[np.int64],
    hour: _Floats,
    phase: _Floats,
    dates: npt.NDArray[np.datetime64],
    is_holiday: npt.NDArray[np.bool_],
) -> _Floats:
    """Demand of the three classes without weather: (n_rows, 3), about 1 on a working day."""
    # (class, day type, hour)
    tables = np.array([[row.split() for row in pair] for pair in _PROFILES.values()], dtype=float)
    tables /= tables[:, :1].mean(axis=2, keepdims=True)
    knots = np.concatenate([tables, tables[:, :, :1]], axis=2)
    curves = CubicSpline(np.arange(25), knots, axis=2, bc_type="periodic")
    work, sunday = curves(hour).transpose(1, 2, 0)  # each (n_rows, class)

    weekday = (dates.astype(np.int64) + 3) % 7  # Monday is 0
    kind = np.where(is_holiday, 0.0, _WORK[:, weekday]).T  # (n_dates, class)
    # People go to bed on the day that they got up on: the day before fades until six o'clock.
    today = day - dates[0].astype(np.int64)
    fade = np.clip(hour / 6.0, 0.0, 1.0)[:, None]
    fade = fade * fade * (3.0 - 2.0 * fade)
    share = (1.0 - fade) * kind[today - 1] + fade * kind[today]

    # Lamps: awake and dark. The day lasts 16 hours in June and 8 in December.
    half_day = 6.0 - 2.0 * np.cos(phase + 2 * np.pi * 10 / 365.2425)
    dark = 1.0 / (1.0 + np.exp((half_day - np.abs(hour - 12.5)) / 0.5))
    awake = 1.0 / (1.0 + np.exp(-(hour - 6.5) / 0.4) + np.exp((hour - 22.5) / 0.6))
    lamps: _Floats = (dark * awake)[:, None] * _LIGHTING
    demand: _Floats = share * work + (1.0 - share) * sunday + lamps
    return demand


def _temperature(
    day: npt.NDArray[np.int64],
    hour: _Floats,
    phase: _Floats,
    noise: float,
    rng: np.random.RandomState,
) -> _Floats:
    """Outdoor temperature in degrees Celsius: (n_rows,)."""
    # Spells of weather that last some days: one value per day from noon to noon.
    first = day[0] - 1
    spells = _autoregression(rng.standard_normal(day[-1] - first + 2), 0.78)
    spells *= _WEATHER_PER_NOISE * noise
    at = day - first + (hour - 12.0) / 24.0
    climate = 10.5 - 9.5 * np.cos(phase - 2 * np.pi * 20 / 365.2425)
    daily = 3.0 * np.cos(2 * np.pi * (hour - 15.0) / 24.0)
    degrees: _Floats = climate + daily + np.interp(at, np.arange(spells.size), spells)
    return degrees


def _disturbance(n_rows: int, step: int, rng: np.random.RandomState) -> _Floats:
    """Stationary disturbance of unit variance, mostly remembered from step to step."""
    draws = rng.standard_normal((n_rows, 2))  # row by row: more rows only continue them
    slow = _autoregression(draws[:, 0], np.exp(-step / _MEMORY))
    mixed: _Floats = np.sqrt(0.9) * slow + np.sqrt(0.1) * draws[:, 1]
    return mixed


def _autoregression(draws: _Floats, phi: float) -> _Floats:
    """First-order autoregression of unit variance from its very first value."""
    from scipy.signal import lfilter  # not at the top: `import mixlin` stays quick

    steps = draws * np.sqrt(1.0 - phi * phi)
    steps[0] = draws[0]
    filtered: _Floats = lfilter([1.0], [1.0, -phi], steps)
    return filtered


def _softplus(x: _Floats) -> _Floats:
    """Return max(x, 0) with its corner rounded over about two degrees."""
    rounded: _Floats = 2.0 * np.logaddexp(0.0, x / 2.0)
    return rounded


def _describe(n_samples: int, n_channels: int, freq: str, index: npt.NDArray[np.datetime64]) -> str:
    first, last = np.datetime_as_string(index[[0, -1]], unit="m")
    return (
        "seasonal: synthetic electricity load\n"
        "------------------------------------\n"
        f"{n_samples} rows, {n_channels} channel(s), step {freq}, {first} to {last}, in "
        "megawatts.\n"
        "Made by mixlin.datasets.make_seasonal: daily shapes of households, commerce and "
        "industry on\nworking days, Saturdays, Sundays and holidays; heating, cooling and "
        "lighting under a simulated\nclimate; slow growth; autocorrelated disturbance. No "
        "measured data went into it.\n"
    )
