"""Calendar features against the reference code, pandas and Python's own calendar."""

from __future__ import annotations

import datetime
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin import calendar_features
from mixlin.calendar_features import (
    calendar_bins,
    cycles_of_freq,
    cyclic_feature_names,
    cyclic_features,
    freq_of_step,
    reference_feature_names,
    reference_features,
)

GOLDEN = Path(__file__).parent / "golden" / "time_features.npz"
TOLERANCE = 1e-6
STORED = ("s", "min", "h", "D", "B", "W")
FREQS = (*STORED, "M", "Q")
CYCLES = ("hour", "day", "week", "month", "year")
FIELDS = {
    "second of minute": lambda t: t.second / 59,
    "minute of hour": lambda t: t.minute / 59,
    "hour of day": lambda t: t.hour / 23,
    "day of week": lambda t: t.weekday() / 6,
    "day of month": lambda t: (t.day - 1) / 30,
    "day of year": lambda t: (t.timetuple().tm_yday - 1) / 365,
    "week of year": lambda t: (t.isocalendar()[1] - 1) / 52,
    "month of year": lambda t: (t.month - 1) / 11,
}
AWKWARD = [
    *("1900-02-28T23:59:59", "1900-03-01T00:00:00", "1969-12-31T23:59:59", "1970-01-01T00:00:00"),
    *("2000-02-29T12:34:56", "2015-12-31T05:00:01", "2016-01-03T23:00:00", "2016-01-04T00:00:00"),
    *("2016-12-31T23:59:59", "2018-12-31T00:00:00", "2020-12-31T00:00:00", "2021-01-03T10:10:10"),
    *("2026-12-31T08:00:00", "2027-01-01T08:00:00", "2100-02-28T23:59:59", "2100-12-31T23:59:59"),
]


def load_golden(freq):
    with np.load(GOLDEN) as file:
        return file[f"{freq}.stamps"].astype("datetime64[s]"), file[f"{freq}.features"]


def many_stamps(n=20_000):
    """Return seconds from 1900 to 2100 all over, with the awkward ones first."""
    first, end = np.array(["1900-01-01", "2101-01-01"], dtype="datetime64[s]").astype(np.int64)
    random = np.random.default_rng(0).integers(first, end, n).astype("datetime64[s]")
    return np.concatenate([np.array(AWKWARD, dtype="datetime64[s]"), random])


# -- the reference's encodings --------------------------------------------------------------------


@pytest.mark.parametrize("freq", STORED)
def test_features_are_those_of_the_reference(freq):
    stamps, expected = load_golden(freq)
    features = reference_features(stamps, freq)
    assert features.dtype == np.float64
    assert features.shape == expected.shape == (40, len(reference_feature_names(freq)))
    assert np.abs(features - expected).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("freq", "field"), [(freq, field) for freq in STORED for field in reference_feature_names(freq)]
)
def test_a_field_that_moves_by_ten_tolerances_is_noticed(freq, field, monkeypatch):
    stamps, expected = load_golden(freq)
    column = expected[:, reference_feature_names(freq).index(field)] + 0.5
    largest = calendar_features._LARGEST[field] / (1 + 10 * TOLERANCE / column.max())
    monkeypatch.setitem(calendar_features._LARGEST, field, largest)
    error = np.abs(reference_features(stamps, freq) - expected).max()
    assert 9 * TOLERANCE < error < 11 * TOLERANCE


@pytest.mark.parametrize("freq", STORED)
def test_another_reading_of_the_stamps_is_noticed(freq):
    stamps, expected = load_golden(freq)
    unit = {"min": "m", "B": "D"}.get(freq, freq)
    later = stamps + np.timedelta64(1, unit)
    assert np.abs(reference_features(later, freq) - expected).max() > 1e-3


@pytest.mark.parametrize("freq", FREQS)
def test_fields_are_those_of_pythons_calendar(freq):
    stamps = many_stamps(3000)
    names = reference_feature_names(freq)
    expected = [[FIELDS[name](time) - 0.5 for name in names] for time in stamps.tolist()]
    np.testing.assert_allclose(reference_features(stamps, freq), expected, rtol=0, atol=1e-15)


def test_every_field_is_that_of_pandas():
    pd = pytest.importorskip("pandas")
    stamps = many_stamps()
    index = pd.DatetimeIndex(stamps)
    weeks = index.isocalendar().week.to_numpy(dtype=np.float64)
    assert {52, 53, 1} <= set(weeks)
    assert (index.day_of_year == 366).any()
    expected = {
        "second of minute": index.second / 59,
        "minute of hour": index.minute / 59,
        "hour of day": index.hour / 23,
        "day of week": index.day_of_week / 6,
        "day of month": (index.day - 1) / 30,
        "day of year": (index.day_of_year - 1) / 365,
        "week of year": (weeks - 1) / 52,
        "month of year": (index.month - 1) / 11,
    }
    seen = set()
    for freq in FREQS:
        features = reference_features(stamps, freq)
        assert np.abs(features).max() <= 0.5
        for k, name in enumerate(reference_feature_names(freq)):
            np.testing.assert_allclose(features[:, k], expected[name] - 0.5, rtol=0, atol=1e-15)
            seen.add(name)
    assert seen == set(expected)
    np.testing.assert_array_equal(calendar_bins(stamps, "hour"), index.hour)
    np.testing.assert_array_equal(calendar_bins(stamps, "weekday"), index.day_of_week)
    np.testing.assert_array_equal(calendar_bins(stamps, "month"), index.month)


@settings(max_examples=300, deadline=None)
@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 12, 31)))
def test_any_time_has_the_fields_of_pythons_calendar(time):
    stamp = np.datetime64(time, "us")
    for freq in FREQS:
        expected = [FIELDS[name](time) - 0.5 for name in reference_feature_names(freq)]
        np.testing.assert_allclose(reference_features(stamp, freq), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("year", range(1996, 2025))
def test_the_days_around_new_year_are_in_their_iso_week(year):
    days = np.datetime64(f"{year}-12-25", "D") + np.arange(15)
    weeks = [day.isocalendar()[1] for day in days.tolist()]
    found = (reference_features(days, "W")[:, 1] + 0.5) * 52 + 1
    np.testing.assert_allclose(found, weeks, rtol=0, atol=1e-12)


def test_centuries_beyond_nanoseconds_have_their_calendar():
    stamps = np.array(["1066-10-14T09:00:00", "3024-02-29T23:59:59"], "datetime64[s]")
    expected = [
        [FIELDS[name](t) - 0.5 for name in reference_feature_names("s")] for t in stamps.tolist()
    ]
    np.testing.assert_allclose(reference_features(stamps, "s"), expected, rtol=0, atol=1e-15)


def test_a_quarter_of_a_million_stamps_take_a_moment():
    stamps = np.datetime64("2016-01-01", "s") + 900 * np.arange(250_000)
    seconds = []
    for _ in range(3):
        start = perf_counter()
        reference_features(stamps, "h")
        seconds.append(perf_counter() - start)
    assert min(seconds) < 0.2  # pandas objects, one by one, take several seconds


# -- waves ----------------------------------------------------------------------------------------


def phases_by_hand(time):
    """Return the phase of a time in every cycle, from Python's calendar."""
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    month = midnight.replace(day=1)
    next_month = (month + datetime.timedelta(days=31)).replace(day=1)
    year = month.replace(month=1)
    monday = midnight - datetime.timedelta(days=time.weekday())
    hour = time.replace(minute=0, second=0, microsecond=0)
    return {
        "hour": (time - hour) / datetime.timedelta(hours=1),
        "day": (time - midnight) / datetime.timedelta(days=1),
        "week": (time - monday) / datetime.timedelta(days=7),
        "month": (time - month) / (next_month - month),
        "year": (time - year) / (year.replace(year=year.year + 1) - year),
    }


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 12, 31)),
    st.permutations(CYCLES),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_waves_are_those_of_the_phases(time, cycles, n_cycles, n_harmonics):
    cycles = tuple(cycles[:n_cycles])
    phases = phases_by_hand(time)
    expected = {}
    for cycle in cycles:
        for j in range(1, n_harmonics + 1):
            expected[f"cos {cycle} {j}"] = np.cos(2 * np.pi * j * phases[cycle])
            expected[f"sin {cycle} {j}"] = np.sin(2 * np.pi * j * phases[cycle])
    assert cyclic_feature_names(cycles, n_harmonics) == list(expected)
    features = cyclic_features(np.datetime64(time, "us"), cycles, n_harmonics)
    np.testing.assert_allclose(features, list(expected.values()), rtol=0, atol=1e-12)


BORDERS = [
    *("2024-01-01", "2023-01-01", "2024-03-01", "2023-03-01", "2000-03-01", "1900-03-01"),
    *("2024-05-01", "2024-12-31", "2024-02-29", "2024-06-17", "1970-01-01", "1969-12-29"),
]


@pytest.mark.parametrize("border", BORDERS)
def test_waves_do_not_jump_at_midnight_month_ends_and_new_year(border):
    border = np.datetime64(border, "s")
    around = border + np.array([-1, 0, 1])
    features = cyclic_features(around, ("day", "week", "month", "year"), 3)
    assert np.abs(np.diff(features, axis=0)).max() < 1e-3
    hours = cyclic_features(around, ("hour",), 1)
    assert np.abs(np.diff(hours, axis=0)).max() <= 2 * np.pi / 3600
    coded = reference_features(around, "h")  # whose fields do jump, which is why waves are here
    assert np.abs(np.diff(coded, axis=0)).max() > 0.5


def test_waves_close_their_circle():
    hours = np.datetime64("2024-01-01T00", "h") + np.arange(24 * 7)
    features = cyclic_features(hours, ("day", "week"), 2)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((features**2).mean(axis=0), 0.5, atol=1e-12)
    np.testing.assert_allclose(features[:24, :4], features[24:48, :4], atol=1e-12)


# -- shapes, units and limits ---------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["h", "m", "s", "ms", "us", "ns", "ps", "10m"])
def test_the_unit_of_the_stamps_does_not_matter(unit):
    stamps = np.array(["1970-03-05T07", "1970-01-01T00", "1969-12-30T23"], "datetime64[h]")
    other = stamps.astype(f"datetime64[{unit}]")
    for freq in FREQS:
        np.testing.assert_array_equal(
            reference_features(other, freq), reference_features(stamps, freq)
        )
    np.testing.assert_array_equal(
        cyclic_features(other, CYCLES, 2), cyclic_features(stamps, CYCLES, 2)
    )


@pytest.mark.parametrize("unit", ["fs", "as"])
def test_units_finer_than_a_day_can_hold_are_read(unit):
    stamps = np.array([0, -1_500_000_000], "datetime64[ns]")
    features = reference_features(stamps.astype(f"datetime64[{unit}]"), "s")
    np.testing.assert_array_equal(features, reference_features(stamps, "s"))


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D"])
def test_coarse_stamps_stand_at_midnight_of_their_first_day(unit):
    stamps = np.array(["2024-02-15", "1969-07-20"], "datetime64[D]").astype(f"datetime64[{unit}]")
    days = stamps.astype("datetime64[D]").astype("datetime64[ns]")
    np.testing.assert_array_equal(reference_features(stamps, "s"), reference_features(days, "s"))
    np.testing.assert_array_equal(
        cyclic_features(stamps, CYCLES, 1), cyclic_features(days, CYCLES, 1)
    )
    assert calendar_bins(stamps, "hour").tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3), (2, 3, 4)])
def test_stamps_may_have_any_shape(shape):
    flat = np.datetime64("2024-02-28T22:15", "m") + 40 * np.arange(int(np.prod(shape)))
    stamps = flat.reshape(shape)
    features = reference_features(stamps, "min")
    assert features.shape == (*shape, 5)
    np.testing.assert_array_equal(features.reshape(-1, 5), reference_features(flat, "min"))
    features = cyclic_features(stamps, ("day", "year"), 3)
    assert features.shape == (*shape, 12)
    np.testing.assert_array_equal(
        features.reshape(-1, 12), cyclic_features(flat, ("day", "year"), 3)
    )
    for unit in ("hour", "weekday", "month"):
        bins = calendar_bins(stamps, unit)
        assert (bins.shape, bins.dtype) == (shape, np.dtype(np.int64))
        np.testing.assert_array_equal(bins.ravel(), calendar_bins(flat, unit))


def test_strided_and_read_only_stamps_are_read_as_they_are():
    stamps = np.datetime64("2024-01-01", "h") + np.arange(60).reshape(6, 10)
    stamps.flags.writeable = False
    part = stamps[::2, ::-3]
    np.testing.assert_array_equal(
        reference_features(part, "h"), reference_features(part.copy(), "h")
    )
    np.testing.assert_array_equal(
        cyclic_features(part.T, ("day",), 1), cyclic_features(part.T.copy(), ("day",), 1)
    )


READERS = {
    "reference_features": lambda stamps: reference_features(stamps, "h"),
    "cyclic_features": lambda stamps: cyclic_features(stamps, ("day",), 1),
    "calendar_bins": lambda stamps: calendar_bins(stamps, "hour"),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_date_is_refused(reader):
    read = READERS[reader]
    with pytest.raises(ValueError, match=r"must be datetime64 values; got dtype int64.*Convert"):
        read(np.arange(3, dtype=np.int64))
    with pytest.raises(ValueError, match="must be datetime64 values; got dtype <U10"):
        read(["2024-01-01"])
    with pytest.raises(ValueError, match="hold NaT"):
        read(np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"))
    with pytest.raises(ValueError, match="hold NaT"):
        read(np.datetime64("NaT"))


def test_dates_with_a_time_zone_are_refused_and_wall_clocks_read():
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="Europe/Berlin")
    with pytest.raises(ValueError, match=r"index\.tz_localize\(None\)"):
        reference_features(index.to_numpy(), "h")
    assert calendar_bins(index.tz_localize(None), "hour").tolist() == [0, 1, 2]


FREQUENCY_USERS = {
    "reference_features": lambda freq: reference_features(np.datetime64("2024-01-01"), freq),
    "reference_feature_names": reference_feature_names,
    "cycles_of_freq": cycles_of_freq,
}


@pytest.mark.parametrize("user", FREQUENCY_USERS)
def test_frequencies_without_features_are_refused(user):
    use = FREQUENCY_USERS[user]
    with pytest.raises(ValueError, match=r"freq='Y' has no calendar features: .*StatisticsRouter"):
        use("Y")
    for unknown in ("H", "15min", "", None, 3, ["h"]):
        with pytest.raises(ValueError, match=r"freq must be one of 's', 'min', .*freq_of_step"):
            use(unknown)


def test_frequencies_have_these_features_and_cycles():
    daily = ["day of week", "day of month", "day of year"]
    expected = {
        "s": ["second of minute", "minute of hour", "hour of day", *daily],
        "min": ["minute of hour", "hour of day", *daily],
        "h": ["hour of day", *daily],
        "D": daily,
        "B": daily,
        "W": ["day of month", "week of year"],
        "M": ["month of year"],
        "Q": ["month of year"],
    }
    assert {freq: reference_feature_names(freq) for freq in FREQS} == expected
    assert {freq: cycles_of_freq(freq) for freq in FREQS} == {
        "s": ("hour", "day", "week"),
        "min": ("day", "week"),
        "h": ("day", "week"),
        "D": ("week", "year"),
        "B": ("week", "year"),
        "W": ("year",),
        "M": ("year",),
        "Q": ("year",),
    }
    for freq in FREQS:
        assert len(cyclic_feature_names(cycles_of_freq(freq), 2)) == 4 * len(cycles_of_freq(freq))


@pytest.mark.parametrize(
    "function",
    [cyclic_feature_names, lambda *a: cyclic_features(np.datetime64("2024-01-01"), *a)],
    ids=["names", "features"],
)
def test_cycles_and_harmonics_are_checked(function):
    for cycles in ((), "day", ("day", "day")):
        with pytest.raises(ValueError, match=r"cycles must be a tuple of 'hour', .*; got"):
            function(cycles, 1)
    with pytest.raises(ValueError, match="got 'quarter' among them"):
        function(("day", "quarter"), 1)
    for n_harmonics in (0, -1, 1.0, True, None, "1"):
        with pytest.raises(ValueError, match="n_harmonics must be an integer of at least 1; got"):
            function(("day",), n_harmonics)
    assert len(function(["day"], np.int64(2))) == 4


@pytest.mark.parametrize("unit", ["day", "Hour", "", None, ["hour"]])
def test_an_unknown_unit_of_bins_is_refused(unit):
    with pytest.raises(ValueError, match="unit must be one of 'hour', 'weekday', 'month'; got"):
        calendar_bins(np.datetime64("2024-01-01"), unit)


# -- the frequency of a step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "unit", "freq"),
    [
        *((1, "ns", "s"), (1, "as", "s"), (1, "s", "s"), (59, "s", "s"), (59_999, "ms", "s")),
        *((60, "s", "min"), (1, "m", "min"), (15, "m", "min"), (3599, "s", "min")),
        *((60, "m", "h"), (1, "h", "h"), (23, "h", "h"), (86_399, "s", "h")),
        *((24, "h", "D"), (1, "D", "D"), (6, "D", "D"), (7 * 86_400 - 1, "s", "D")),
        *((7, "D", "W"), (1, "W", "W"), (3, "W", "W"), (27, "D", "W")),
        *((28, "D", "M"), (31, "D", "M"), (88, "D", "M"), (1, "M", "M"), (2, "M", "M")),
        *((89, "D", "Q"), (92, "D", "Q"), (364, "D", "Q"), (3, "M", "Q"), (11, "M", "Q")),
        *((365, "D", "Y"), (366, "D", "Y"), (12, "M", "Y"), (1, "Y", "Y"), (10, "Y", "Y")),
    ],
)
def test_a_step_has_the_largest_frequency_that_fits(count, unit, freq):
    assert freq_of_step(np.timedelta64(count, unit)) == freq


def test_steps_of_stamps_have_a_frequency_that_features_accept():
    for unit, n_features in (("s", 6), ("m", 5), ("h", 4), ("D", 3), ("W", 2), ("M", 1)):
        stamps = np.datetime64("2020-01", unit) + np.arange(7)
        freq = freq_of_step(stamps[1] - stamps[0])
        assert reference_features(stamps, freq).shape == (7, n_features)
        assert cyclic_features(stamps, cycles_of_freq(freq), 1).shape[0] == 7


@pytest.mark.parametrize("step", [np.timedelta64(0, "s"), np.timedelta64(-1, "M")])
def test_a_step_that_goes_nowhere_is_refused(step):
    with pytest.raises(ValueError, match="step must be positive; got"):
        freq_of_step(step)


@pytest.mark.parametrize(
    "step",
    [3600, None, "1h", np.timedelta64(5), datetime.timedelta(hours=1), [np.timedelta64(1, "h")]],
)
def test_a_step_without_a_unit_is_refused(step):
    with pytest.raises(ValueError, match=r"step must be a timedelta64 with a unit.*got"):
        freq_of_step(step)


def test_a_step_that_is_missing_is_refused():
    with pytest.raises(ValueError, match="step must be positive; got"):
        freq_of_step(np.timedelta64("NaT", "s"))
