"""Where a time stands in the day, the week and the year: calendar features of stamps."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .holidays import holiday_columns

__all__ = [
    "calendar_bins",
    "cycles_of_freq",
    "cyclic_feature_names",
    "cyclic_features",
    "freq_of_step",
    "holiday_columns",
    "reference_feature_names",
    "reference_features",
]

IntArray = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]

_SECOND = 1_000_000_000  # nanoseconds
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR

# The largest value of each field, counted from zero.
_LARGEST = {
    "second of minute": 59,
    "minute of hour": 59,
    "hour of day": 23,
    "day of week": 6,
    "day of month": 30,
    "day of year": 365,
    "week of year": 52,
    "month of year": 11,
}
_CLOCK = {  # nanoseconds of one, and how many there are
    "second of minute": (_SECOND, 60),
    "minute of hour": (60 * _SECOND, 60),
    "hour of day": (_HOUR, 24),
}
_DAILY = ("day of week", "day of month", "day of year")
_FIELDS: dict[str, tuple[str, ...]] = {
    "s": ("second of minute", "minute of hour", "hour of day", *_DAILY),
    "min": ("minute of hour", "hour of day", *_DAILY),
    "h": ("hour of day", *_DAILY),
    "D": _DAILY,
    "B": _DAILY,
    "W": ("day of month", "week of year"),
    "M": ("month of year",),
    "Q": ("month of year",),
    "Y": (),
}
_CYCLES: dict[str, tuple[str, ...]] = {
    "s": ("hour", "day", "week"),
    "min": ("day", "week"),
    "h": ("day", "week"),
    "D": ("week", "year"),
    "B": ("week", "year"),
    "W": ("year",),
    "M": ("year",),
    "Q": ("year",),
    "Y": (),
}
_ALL_CYCLES = ("hour", "day", "week", "month", "year")
_BINS = {"hour": "hour of day", "weekday": "day of week", "month": "month of year"}
# Steps below so many seconds have this frequency, longer ones are years.
_BELOW = {
    "s": 60,
    "min": 3600,
    "h": 86400,
    "D": 7 * 86400,
    "W": 28 * 86400,
    "M": 89 * 86400,
    "Q": 365 * 86400,
}


def reference_features(stamps: npt.ArrayLike, freq: str) -> npt.NDArray[np.float64]:
    """Encode the calendar fields of stamps as MoLE's reference code does.

    Every field (hour of day, day of week, ...) is scaled to [-0.5, 0.5]; which ones there are
    depends on the frequency, see :func:`reference_feature_names`. Weeks are those of ISO 8601.

    Parameters
    ----------
    stamps : array of datetime64 of shape (...)
        Wall-clock times.
    freq : {"s", "min", "h", "D", "B", "W", "M", "Q"}
        Frequency of the series, which :func:`freq_of_step` finds.

    Returns
    -------
    array of shape (..., n_features)
        In float64.

    Raises
    ------
    ValueError
        If ``stamps`` are no dates or hold NaT, the frequency is unknown, or it is "Y": yearly
        stamps have no calendar features.

    References
    ----------
    .. [1] R. Ni, Z. Lin, S. Wang, G. Fanti, "Mixture-of-Linear-Experts for Long-term Time Series
       Forecasting", AISTATS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_features import reference_features
    >>> monday = np.array(["2024-01-01T00", "2024-01-01T23"], dtype="datetime64[h]")
    >>> reference_features(monday, "h")
    array([[-0.5, -0.5, -0.5, -0.5],
           [ 0.5, -0.5, -0.5, -0.5]])
    """
    fields = _of_freq(_FIELDS, freq)
    days, clock = _read(stamps)
    out = np.empty((*days.shape, len(fields)))
    for k, field in enumerate(fields):
        np.divide(_counted(field, days, clock), _LARGEST[field], out=out[..., k])
    out -= 0.5
    return out


def reference_feature_names(freq: str) -> list[str]:
    """Name the columns of :func:`reference_features`.

    Parameters
    ----------
    freq : {"s", "min", "h", "D", "B", "W", "M", "Q"}

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If the frequency is unknown, or "Y".

    Examples
    --------
    >>> from mixlin.calendar_features import reference_feature_names
    >>> reference_feature_names("h")
    ['hour of day', 'day of week', 'day of month', 'day of year']
    """
    return list(_of_freq(_FIELDS, freq))


def cyclic_features(
    stamps: npt.ArrayLike, cycles: Sequence[str], n_harmonics: int
) -> npt.NDArray[np.float64]:
    r"""Encode stamps by waves of the calendar's cycles, which have no jump at midnight.

    A time at phase :math:`p \in [0, 1)` of a cycle has the features :math:`\cos 2 \pi j p` and
    :math:`\sin 2 \pi j p` for every harmonic :math:`j`. Phases are continuous: half past eleven
    is half an hour from midnight on either side. Months and years are as long as they are, 28 to
    31 and 365 or 366 days; weeks start on Monday.

    Parameters
    ----------
    stamps : array of datetime64 of shape (...)
        Wall-clock times.
    cycles : tuple of {"hour", "day", "week", "month", "year"}
        :func:`cycles_of_freq` proposes some.
    n_harmonics : int
        Waves per cycle, at least 1.

    Returns
    -------
    array of shape (..., 2 * n_harmonics * len(cycles))
        In float64: cycle by cycle, cosine and sine of the first harmonic, then of the second.

    Raises
    ------
    ValueError
        If ``stamps`` are no dates or hold NaT, a cycle is unknown or named twice, there is none,
        or ``n_harmonics`` is no positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_features import cyclic_features
    >>> times = np.array(["2024-01-01T00", "2024-01-01T06"], dtype="datetime64[h]")
    >>> cyclic_features(times, ("day",), 1).round(6) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    cycles = _checked(cycles, n_harmonics)
    days, clock = _read(stamps)
    out = np.empty((*days.shape, 2 * n_harmonics * len(cycles)))
    for c, cycle in enumerate(cycles):
        angle = 2 * np.pi * _phase(cycle, days, clock)
        for j in range(n_harmonics):
            column = 2 * (c * n_harmonics + j)
            turned = (j + 1) * angle
            np.cos(turned, out=out[..., column])
            np.sin(turned, out=out[..., column + 1])
    return out


def cyclic_feature_names(cycles: Sequence[str], n_harmonics: int) -> list[str]:
    """Name the columns of :func:`cyclic_features`.

    Parameters
    ----------
    cycles : tuple of {"hour", "day", "week", "month", "year"}
    n_harmonics : int

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        As :func:`cyclic_features` does.

    Examples
    --------
    >>> from mixlin.calendar_features import cyclic_feature_names
    >>> cyclic_feature_names(("day", "week"), 1)
    ['cos day 1', 'sin day 1', 'cos week 1', 'sin week 1']
    """
    return [
        f"{wave} {cycle} {j}"
        for cycle in _checked(cycles, n_harmonics)
        for j in range(1, n_harmonics + 1)
        for wave in ("cos", "sin")
    ]


def cycles_of_freq(freq: str) -> tuple[str, ...]:
    """Return the cycles that matter to series of a frequency.

    Parameters
    ----------
    freq : {"s", "min", "h", "D", "B", "W", "M", "Q"}

    Returns
    -------
    tuple of str
        For :func:`cyclic_features`.

    Raises
    ------
    ValueError
        If the frequency is unknown, or "Y".

    Examples
    --------
    >>> from mixlin.calendar_features import cycles_of_freq
    >>> cycles_of_freq("h"), cycles_of_freq("D")
    (('day', 'week'), ('week', 'year'))
    """
    return _of_freq(_CYCLES, freq)


def calendar_bins(stamps: npt.ArrayLike, unit: str) -> IntArray:
    """Sort stamps by the hour, the day of the week or the month.

    Parameters
    ----------
    stamps : array of datetime64 of shape (...)
        Wall-clock times.
    unit : {"hour", "weekday", "month"}

    Returns
    -------
    array of int of shape (...)
        Hours from 0 to 23, weekdays from 0 (Monday) to 6, months from 1 to 12.

    Raises
    ------
    ValueError
        If ``stamps`` are no dates or hold NaT, or the unit is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_features import calendar_bins
    >>> days = np.array(["2024-02-29", "2024-03-01"], dtype="datetime64[D]")
    >>> calendar_bins(days, "weekday").tolist(), calendar_bins(days, "month").tolist()
    ([3, 4], [2, 3])
    """
    if not isinstance(unit, str) or unit not in _BINS:
        raise ValueError(f"unit must be one of {', '.join(map(repr, _BINS))}; got {unit!r}.")
    days, clock = _read(stamps)
    return np.asarray(_counted(_BINS[unit], days, clock) + int(unit == "month"))


def freq_of_step(step: np.timedelta64) -> str:
    """Return the frequency a step belongs to.

    Parameters
    ----------
    step : timedelta64
        Time from one row to the next, in any unit.

    Returns
    -------
    {"s", "min", "h", "D", "W", "M", "Q", "Y"}
        The largest that is no longer than the step: quarters of an hour are "min". Months may
        have 28 days, and quarters 89.

    Raises
    ------
    ValueError
        If the step is no ``timedelta64`` with a unit, or not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_features import freq_of_step
    >>> [freq_of_step(np.timedelta64(n, u)) for n, u in ((15, "m"), (6, "h"), (7, "D"), (1, "M"))]
    ['min', 'h', 'W', 'M']
    """
    value: Any = np.asarray(step)[()]
    unit = np.datetime_data(value.dtype)[0] if isinstance(value, np.timedelta64) else "generic"
    if unit == "generic":
        raise ValueError(
            "step must be a timedelta64 with a unit, such as np.timedelta64(15, 'm'); got "
            f"{step!r}."
        )
    if np.isnat(value) or value.astype(np.int64) <= 0:
        raise ValueError(
            f"step must be positive; got {step!r}. Sort the stamps by time, and take the step "
            "from two that follow each other."
        )
    if unit in ("Y", "M"):  # which have no length in seconds
        seconds = float(value.astype("m8[M]").astype(np.int64)) * 30.5 * 86400
    else:
        seconds = float(value.astype("m8[us]") / np.timedelta64(1, "s"))
    return next((freq for freq, below in _BELOW.items() if seconds < below), "Y")


def _of_freq(table: dict[str, tuple[str, ...]], freq: str) -> tuple[str, ...]:
    if not isinstance(freq, str) or freq not in table:
        raise ValueError(
            f"freq must be one of {', '.join(map(repr, table))}; got {freq!r}. freq_of_step finds "
            "the one of a step."
        )
    if not table[freq]:
        raise ValueError(
            f"freq={freq!r} has no calendar features: every stamp has the same place in its year. "
            "Use a router that reads the window instead, such as StatisticsRouter()."
        )
    return table[freq]


def _checked(cycles: Sequence[str], n_harmonics: int) -> tuple[str, ...]:
    """Return the cycles as a tuple, once they and the number of harmonics make sense."""
    named = (cycles,) if isinstance(cycles, str) else tuple(cycles)
    accepted = f"a tuple of {', '.join(map(repr, _ALL_CYCLES))}, each at most once"
    if isinstance(cycles, str) or not named or any(named.count(c) > 1 for c in named):
        raise ValueError(f"cycles must be {accepted}; got {cycles!r}.")
    unknown = [c for c in named if c not in _ALL_CYCLES]
    if unknown:
        raise ValueError(f"cycles must be {accepted}; got {unknown[0]!r} among them.")
    if not isinstance(n_harmonics, Integral) or isinstance(n_harmonics, bool) or n_harmonics < 1:
        raise ValueError(f"n_harmonics must be an integer of at least 1; got {n_harmonics!r}.")
    return named


def _read(stamps: npt.ArrayLike) -> tuple[Days, IntArray]:
    """Return the day of every stamp, and the nanoseconds since its midnight."""
    times = np.asarray(stamps)
    if times.dtype.kind != "M":
        raise ValueError(
            f"stamps must be datetime64 values; got dtype {times.dtype}. Convert them with "
            "np.asarray(stamps, dtype='datetime64[s]'), dates with a time zone by "
            "index.tz_localize(None) first."
        )
    if np.isnat(times).any():
        raise ValueError("stamps hold NaT; every row needs its time.")
    if np.datetime_data(times.dtype)[0] in ("ps", "fs", "as"):  # a day overflows them
        times = times.astype("M8[ns]")
    days = times.astype("M8[D]")
    return days, (times - days).astype("m8[ns]").astype(np.int64)


def _counted(field: str, days: Days, clock: IntArray) -> IntArray:
    """Return the values of a calendar field, counted from zero."""
    if field in _CLOCK:
        unit, cycle = _CLOCK[field]
        return np.asarray(clock // unit % cycle)
    if field == "day of week":
        return np.asarray((days.astype(np.int64) + 3) % 7)  # 1970 began on a Thursday
    if field == "month of year":
        return np.asarray(days.astype("M8[M]").astype(np.int64) % 12)
    if field == "day of month":
        return np.asarray((days - days.astype("M8[M]")).astype(np.int64))
    if field == "week of year":  # a week belongs to the year of its Thursday
        to_thursday = (3 - _counted("day of week", days, clock)).astype("m8[D]")
        thursdays = days + to_thursday
        return np.asarray(_counted("day of year", thursdays, clock) // 7)
    return np.asarray((days - days.astype("M8[Y]")).astype(np.int64))


def _phase(cycle: str, days: Days, clock: IntArray) -> npt.NDArray[np.float64]:
    """Return where in a cycle every time is, from 0 to 1."""
    if cycle == "hour":
        return np.asarray(clock % _HOUR / _HOUR)
    time_of_day = np.asarray(clock / _DAY)
    if cycle == "day":
        return time_of_day
    if cycle == "week":
        return np.asarray((_counted("day of week", days, clock) + time_of_day) / 7)
    unit: Literal["M", "Y"] = "M" if cycle == "month" else "Y"
    start = days.astype(f"M8[{unit}]")
    following = start + np.timedelta64(1, unit)
    length = (following.astype("M8[D]") - start.astype("M8[D]")).astype(np.int64)
    return np.asarray(((days - start).astype(np.int64) + time_of_day) / length)
