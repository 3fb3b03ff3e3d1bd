"""Reading an index, finding its step and its gaps, and continuing it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.timestamps import TimeIndex, check_step, fill_gaps, read_index, read_timestamps


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


# -- stamps of arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("step", "freq"),
    [
        (np.timedelta64(15, "m"), "15m"),
        (np.timedelta64(60, "m"), "1h"),
        (np.timedelta64(36, "h"), "36h"),
        (np.timedelta64(24, "h"), "1D"),
        (np.timedelta64(14, "D"), "2W"),
        (np.timedelta64(90, "s"), "90s"),
    ],
)
def test_the_step_of_stamps_is_written_in_the_largest_whole_unit(step, freq, unit):
    stamps = np.datetime64("2024-01-01T00:00:00", unit) + np.arange(20) * step
    index, rows = read_timestamps(stamps, 20)
    assert index == TimeIndex("stamps", stamps[-1], freq)
    assert rows.tolist() == list(range(20))
    following = index.continued(3)
    assert following.dtype == stamps.dtype
    np.testing.assert_array_equal(following, stamps[-1] + step * np.arange(1, 4))


@pytest.mark.parametrize("dtype", ["datetime64[M]", "datetime64[D]", "datetime64[ns]"])
@pytest.mark.parametrize(("step", "freq"), [(1, "1M"), (3, "3M"), (12, "1Y")])
def test_months_have_no_fixed_length(dtype, step, freq):
    months = np.datetime64("2019-01", "M") + step * np.arange(30)
    stamps = months.astype(dtype)
    index, rows = read_timestamps(stamps)
    assert index.freq == freq
    assert rows.tolist() == list(range(30))
    np.testing.assert_array_equal(
        index.continued(2), (months[-1] + step * np.arange(1, 3)).astype(dtype)
    )
    some = np.r_[0:10, 12:30]
    index, rows = read_timestamps(stamps[some])
    assert rows.tolist() == some.tolist()
    assert index.freq == freq


def test_years_as_stamps():
    index, _ = read_timestamps(np.arange("1990", "2020", dtype="datetime64[Y]"))
    assert index.freq == "1Y"
    assert index.continued(2).tolist() == np.array(["2020", "2021"], "datetime64[Y]").tolist()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=3), st.integers(1, 7))
def test_rows_stand_at_their_place_on_the_grid(places, step):
    places = np.array(sorted(places))
    usual = np.diff(places)
    values, counts = np.unique(usual, return_counts=True)
    mode = values[np.argmax(counts)]
    stamps = np.datetime64("2024-01-01T00:00") + places * np.timedelta64(step, "m")
    regular = not (usual % mode).any()
    grid = (places - places[0]) // mode
    if regular and grid[-1] + 1 <= 2 * len(places):
        _, rows = read_timestamps(stamps)
        assert rows.tolist() == grid.tolist()
    else:
        with pytest.raises(ValueError, match="is irregular"):
            read_timestamps(stamps)


def test_strings_and_dates_of_numpy_are_stamps():
    index, _ = read_timestamps(["2024-01-01T00", "2024-01-01T06", "2024-01-01T12"])
    assert index.freq == "6h"
    assert index.first_after() == np.datetime64("2024-01-01T18")


def test_the_step_may_be_known_already():
    stamps = np.datetime64("2024-01-01T00") + np.arange(20) * np.timedelta64(1, "h")
    like, _ = read_timestamps(stamps)
    index, rows = read_timestamps(stamps[[3]], like=like)
    assert (index.freq, rows.tolist()) == ("1h", [0])
    _, rows = read_timestamps(stamps[[3, 5, 7]], like=like)
    assert rows.tolist() == [0, 2, 4]
    finer = stamps.astype("datetime64[ns]")
    assert read_timestamps(finer[[2, 4]], like=like)[1].tolist() == [0, 2]
    assert like.continues_as(*continuation(finer[-1:] + np.timedelta64(1, "h"), like))
    assert not like.continues_as(*continuation(finer[-1:] + np.timedelta64(2, "h"), like))
    with pytest.raises(ValueError, match="does not step by '1h', as the training series does"):
        read_timestamps(stamps + np.arange(20) * np.timedelta64(30, "m"), like=like)
    with pytest.raises(ValueError, match="misses most of its labels"):
        read_timestamps(stamps[[0, 19]], like=like)
    monthly, _ = read_timestamps(np.arange("2020-01", "2021-01", dtype="datetime64[M]"))
    days = np.array(["2021-01-01", "2021-03-01"], dtype="datetime64[D]")
    assert read_timestamps(days, like=monthly)[1].tolist() == [0, 2]
    with pytest.raises(ValueError, match="does not step by '1M'"):
        read_timestamps(days + np.timedelta64(1, "D"), like=monthly)


def continuation(stamps, like):
    return read_timestamps(stamps, like=like)[0], stamps[0]


# -- indexes of frames --------------------------------------------------------------------------

FREQS = [
    *("15min", "h", "3h", "D", "2D", "W-SUN", "W-WED", "B", "MS", "ME", "2MS"),
    *("QS", "QS-FEB", "QE", "QE-NOV", "YS", "YE", "YS-APR", "s", "250ms"),
]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("freq", FREQS)
def test_dates_are_continued_whether_or_not_they_bring_their_frequency(pd, freq, zone):
    whole = pd.date_range("2001-01-01", periods=90, freq=freq, tz=zone)
    for index in (whole[:80], pd.DatetimeIndex(whole[:80].to_list())):
        found, rows = read_index(index)
        assert rows.tolist() == list(range(80))
        assert found.kind == "datetime"
        assert found.continued(10).tolist() == whole[80:].tolist()
        assert found.first_after() == whole[80]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("freq", ["15min", "h", "D", "W-SUN", "B", "MS", "ME", "QS", "YS"])
def test_gaps_in_dates_keep_their_places(pd, freq, zone):
    whole = pd.date_range("2001-01-01", periods=90, freq=freq, tz=zone)
    keep = np.r_[0:30, 33:34, 36:60, 61:80]
    found, rows = read_index(whole[keep])
    assert rows.tolist() == keep.tolist()
    assert found.continued(10).tolist() == whole[80:].tolist()


@pytest.mark.parametrize("freq", ["h", "D", "B", "MS", "QS", "ME"])
def test_a_known_frequency_places_a_few_labels(pd, freq):
    whole = pd.date_range("2001-01-01", periods=90, freq=freq, tz="Europe/Berlin")
    like, _ = read_index(whole)
    for keep in ([4], [4, 5], [4, 6], [4, 5, 6], [10, 12, 13, 15]):
        found, rows = read_index(whole[keep], like=like)
        assert rows.tolist() == [k - keep[0] for k in keep]
        assert found.freq == like.freq
        assert found.first_after() == whole[keep[-1] + 1]
    shifted = whole + pd.Timedelta("20min")
    if freq != "h":
        shifted = whole[:3].append(whole[4:5] + pd.Timedelta("5h"))
        with pytest.raises(ValueError, match="does not step by"):
            read_index(shifted, like=like)
    else:
        assert read_index(shifted, like=like)[1].tolist() == list(range(90))


def test_equal_frequencies_under_other_names_are_equal(pd):
    quarters = pd.date_range("2001-01-01", periods=40, freq="QS")
    like, _ = read_index(quarters)
    plain = pd.DatetimeIndex(quarters.to_list())  # inferred as QS-OCT
    found, rows = read_index(plain, like=like)
    assert found.freq == like.freq
    assert rows.tolist() == list(range(40))
    business = pd.date_range("2024-01-01", periods=30, freq="B")
    like, _ = read_index(business)
    week = pd.DatetimeIndex(business[:3].to_list())  # three days in a row could be any days
    assert read_index(week, like=like)[0].freq == "B"


@pytest.mark.parametrize("start", ["2024-03-28", "2024-10-25"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_clocks_that_change_are_no_gap(pd, start, freq):
    whole = pd.date_range(start, periods=201, freq=freq, tz="Europe/Berlin")
    for index in (whole[:-1], whole[:-1].delete([50, 90])):
        found, rows = read_index(pd.DatetimeIndex(index.to_list()))
        assert rows[-1] == 199
        assert found.first_after() == whole[-1]


def test_business_days_without_holidays_stay_business_days(pd):
    days = pd.date_range("2024-01-01", periods=300, freq="B")
    holidays = pd.to_datetime(["2024-05-01", "2024-12-25", "2024-12-26"])
    found, rows = read_index(days.drop(holidays))
    assert found.freq == "B"
    assert len(rows) == 297
    assert rows[-1] == 299


def test_the_unit_of_dates_does_not_matter(pd):
    for unit in ("s", "ms", "us", "ns"):
        index = pd.date_range("2024-01-01", periods=20, freq="6h").as_unit(unit)
        found, rows = read_index(index.delete([7]))
        assert rows[-1] == 19
        assert found.first_after() == pd.Timestamp("2024-01-06")
        assert pd.tseries.frequencies.to_offset(found.freq) == pd.offsets.Hour(6)


@pytest.mark.parametrize("freq", ["M", "Q", "Y", "D", "W", "h", "2M"])
def test_periods_are_continued(pd, freq):
    whole = pd.period_range("2001-01", periods=60, freq=freq)
    found, rows = read_index(whole[:50])
    assert found.kind == "period"
    assert rows.tolist() == list(range(50))
    assert [str(p) for p in found.continued(10)] == [str(p) for p in whole[50:]]
    keep = np.r_[0:20, 23:50]
    gaps, rows = read_index(whole[keep])
    assert rows.tolist() == keep.tolist()
    assert [str(p) for p in gaps.continued(10)] == [str(p) for p in whole[50:]]
    few, rows = read_index(whole[[3, 5]], like=found)
    assert rows.tolist() == [0, 2]
    assert str(few.first_after()) == str(whole[6])
    other = pd.period_range("2001-01", periods=60, freq="min")
    with pytest.raises(ValueError, match="does not step by"):
        read_index(other, like=found)


def test_integers_and_durations_are_continued(pd):
    found, rows = read_index(pd.Index([10, 15, 20, 30, 35], name="k"))
    assert (found.kind, found.freq, rows.tolist()) == ("integer", 5, [0, 1, 2, 4, 5])
    assert found.continued(2).tolist() == [40, 45]
    assert found.continued(2).name == "k"
    assert read_index(pd.RangeIndex(4))[0].first_after() == 4
    assert read_index(pd.Index([50, 60]), like=found)[1].tolist() == [0, 2]
    with pytest.raises(ValueError, match="does not step by 5"):
        read_index(pd.Index([50, 53]), like=found)
    durations = pd.timedelta_range("1h", periods=30, freq="90min", name="since")
    for index in (durations, durations.delete([4, 9])):
        found, rows = read_index(index)
        assert rows[-1] == 29
        assert found.continued(2).tolist() == [durations[-1] + k * durations.freq for k in (1, 2)]
        assert found.continued(2).name == "since"


def test_continuing_asks_for_the_same_kind_step_and_place(pd):
    index = pd.date_range("2024-01-01", periods=20, freq="h")
    found, _ = read_index(index[:10])
    other, _ = read_index(index[10:])
    assert found.continues_as(other, index[10])
    assert not found.continues_as(other, index[11])
    slower, _ = read_index(pd.date_range(index[10], periods=9, freq="D"))
    assert not found.continues_as(slower, index[10])
    numbers, _ = read_index(pd.RangeIndex(10))
    assert not found.continues_as(numbers, 10)
    zoned, _ = read_index(index[10:].tz_localize("UTC"))
    assert not found.continues_as(zoned, index[10].tz_localize("UTC"))


@pytest.mark.parametrize("n_missing", [0, 1, 40, 41])
def test_an_index_with_more_holes_than_rows_is_no_index(pd, n_missing):
    index = pd.date_range("2024-01-01", periods=40 + n_missing, freq="h")
    some = index[:20].append(index[20 + n_missing :])
    if n_missing <= 40:
        assert read_index(some)[1][-1] == 39 + n_missing
    else:
        with pytest.raises(ValueError, match="most labels are missing"):
            read_index(some)


# -- filling ------------------------------------------------------------------------------------


def test_gaps_are_filled_with_nan_and_nothing_is_copied_without_one():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert fill_gaps(values, np.arange(3)) is values
    filled = fill_gaps(values, np.array([0, 2, 3]))
    assert filled.dtype == np.float32
    assert filled.shape == (4, 2)
    np.testing.assert_array_equal(filled[[0, 2, 3]], values)
    assert np.isnan(filled[1]).all()


# -- wall-clock times for the calendar ------------------------------------------------------------


def ns(labels):
    return np.asarray(labels).astype("datetime64[ns]")


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("freq", [*FREQS, "W-TUE", "24h", "30min"])
def test_dates_have_the_wall_clock_times_of_their_index(pd, freq, zone):
    whole = pd.date_range("2024-03-20 06:00", periods=120, freq=freq, tz=zone)
    wall = ns(whole.tz_localize(None))
    for unit in ("s", "us", "ns") if freq != "250ms" else ("ms", "ns"):
        found, _ = read_index(whole[:80].as_unit(unit))
        for n_before, n_after in ((80, 40), (80, 0), (0, 40), (1, 1), (1, 0), (0, 0), (30, 2)):
            times = found.stamps(n_before, n_after)
            assert times.dtype == np.dtype("datetime64[ns]")
            np.testing.assert_array_equal(times, wall[80 - n_before : 80 + n_after])


@pytest.mark.parametrize("start", ["2024-03-28", "2024-10-25"])
@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W-TUE"])
def test_times_follow_the_clock_through_its_changes(pd, start, freq):
    whole = pd.date_range(start, periods=400, freq=freq, tz="Europe/Berlin")
    wall = ns(whole.tz_localize(None))
    found, _ = read_index(pd.DatetimeIndex(whole[:300].to_list()))
    np.testing.assert_array_equal(found.stamps(300, 100), wall)
    within_days = np.diff(wall) != np.diff(wall)[0]
    assert within_days.any() == (freq in ("15min", "h", "B"))


def test_a_day_whose_hour_the_clock_skips_has_its_time_all_the_same(pd):
    days = pd.date_range("2024-03-01 02:30", periods=60, freq="D")
    skipped = days.get_loc("2024-03-31 02:30")
    found, rows = read_index(days.delete(skipped).tz_localize("Europe/Berlin"))
    assert rows[-1] == 59
    np.testing.assert_array_equal(found.stamps(60, 0), ns(days))


@pytest.mark.parametrize("freq", ["h", "B", "MS"])
def test_times_of_a_series_with_gaps_are_those_of_its_grid(pd, freq):
    whole = pd.date_range("2001-01-01", periods=90, freq=freq, tz="Europe/Berlin", name="when")
    found, rows = read_index(whole[np.r_[0:30, 33:34, 36:60, 61:80]])
    np.testing.assert_array_equal(found.stamps(rows[-1] + 1, 10), ns(whole.tz_localize(None)))


@pytest.mark.parametrize("freq", ["M", "Q", "Q-NOV", "Y", "D", "W", "W-TUE", "h", "2M", "ms"])
def test_periods_stand_at_their_start(pd, freq):
    whole = pd.period_range("2001-01", periods=60, freq=freq)
    starts = ns(whole.to_timestamp(how="start"))
    assert starts.tolist() == [period.start_time.as_unit("ns").value for period in whole]
    found, _ = read_index(whole[:50])
    np.testing.assert_array_equal(found.stamps(50, 10), starts)
    np.testing.assert_array_equal(found.stamps(0, 3), starts[50:53])
    every_other, _ = read_index(whole[:50:2])
    np.testing.assert_array_equal(every_other.stamps(25, 5), starts[::2])


@pytest.mark.parametrize("dtype", ["M", "D", "s", "ns"])
@pytest.mark.parametrize("step", [1, 3, 12])
def test_months_as_stamps_have_their_times(dtype, step):
    whole = (np.datetime64("1959-01", "M") + step * np.arange(40)).astype(f"datetime64[{dtype}]")
    index, _ = read_timestamps(whole[:30])
    np.testing.assert_array_equal(index.stamps(30, 10), ns(whole))


@pytest.mark.parametrize(("count", "unit"), [(15, "m"), (1, "h"), (1, "D"), (2, "W"), (90, "s")])
def test_stamps_have_their_times_without_pandas(count, unit, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # an import of it raises
    whole = np.datetime64("2024-02-25T07:00:00") + np.arange(40) * np.timedelta64(count, unit)
    index, _ = read_timestamps(whole[:30])
    for n_before, n_after in ((30, 10), (30, 0), (0, 10), (1, 0), (0, 0)):
        times = index.stamps(n_before, n_after)
        assert times.dtype == np.dtype("datetime64[ns]")
        np.testing.assert_array_equal(times, ns(whole)[30 - n_before : 30 + n_after])


def test_what_is_no_date_has_no_calendar(pd):
    for index in (pd.RangeIndex(10), pd.timedelta_range("1h", periods=10, freq="h")):
        found, _ = read_index(index)
        with pytest.raises(ValueError, match=r"needs dates.*DatetimeIndex.*timestamps="):
            found.stamps(3, 2)


@pytest.mark.parametrize("year", ["1500", "2400"])
def test_dates_beyond_nanoseconds_are_refused_rather_than_wrapped(year):
    whole = np.datetime64(year, "s") + np.arange(20) * np.timedelta64(1, "h")
    index, _ = read_timestamps(whole)
    with pytest.raises(ValueError, match="needs dates from 1678 to 2261"):
        index.stamps(5, 5)


# -- a step that changes -------------------------------------------------------------------------


def checked(rows, **like):
    rows = np.asarray(rows)
    check_step(rows, rows, "h", **like)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.55, 1.0))
def test_rows_that_are_missing_here_and_there_are_gaps(seed, share):
    rng = np.random.default_rng(seed)
    checked(np.flatnonzero(rng.random(2000) < share))
    checked(np.concatenate([np.arange(9) + 24 * day for day in range(50)]))  # office hours
    checked(np.concatenate([np.arange(40), np.arange(40, 80, 2), np.arange(80, 120)]))


def test_a_step_that_changes_for_long_is_named_with_its_rows():
    for rows in (
        np.concatenate([np.arange(0, 60, 3), np.arange(60, 64), np.arange(64, 164, 2)]),
        np.concatenate([np.arange(64), np.arange(64, 165, 2), np.arange(170, 190)]),
    ):
        with pytest.raises(ValueError, match=r"changes: from 6[34] to 16[24] .* by 2 x 'h', and"):
            checked(rows)
    with pytest.raises(ValueError, match="and the training series steps by 'h'"):
        checked(np.concatenate([np.arange(3), np.arange(3, 100, 2)]), like=True)


@pytest.mark.parametrize("factor", [2, 3, 24])
def test_rows_that_all_step_differently_are_told_so(factor):
    with pytest.raises(ValueError, match=rf"steps by {factor} x 'h', and the training series by"):
        checked(factor * np.arange(5), like=True)
    checked(factor * np.arange(4), like=True)  # too few to say
