from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import check_random_state

from mixlin.datasets import make_seasonal

HOUR = np.timedelta64(1, "h")


def calendar(bunch):
    """Weekday (Monday is 0), hour and month of every row."""
    days = bunch.index.astype("datetime64[D]")
    hours = (bunch.index - days) / HOUR
    months = bunch.index.astype("datetime64[M]").astype(int) % 12 + 1
    return (days.astype(int) + 3) % 7, hours, months


def test_seasonal_stays_the_series_that_the_documentation_shows():
    data = make_seasonal(random_state=0).data[:, 0]
    frozen = [
        1434.5885935006768,
        1395.2428497812816,
        1306.221648701815,
        1284.6664460059396,
    ]
    np.testing.assert_allclose(data[[0, 1, 2, 100]], frozen, rtol=1e-9)


def test_seasonal_depends_on_its_random_state_only():
    shared = check_random_state(None)  # numpy's global state
    before = shared.get_state()
    first = make_seasonal(500, 2, random_state=7).data
    assert first.tolist() == make_seasonal(500, 2, random_state=7).data.tolist()
    instance = make_seasonal(500, 2, random_state=np.random.RandomState(7)).data
    assert first.tolist() == instance.tolist()
    np.testing.assert_equal(shared.get_state(), before)
    other = make_seasonal(500, 2, random_state=8).data
    assert np.abs(first / other - 1).max() > 0.1
    assert np.ptp([make_seasonal(5).data[0, 0] for _ in range(4)]) > 0  # None draws anew


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 400),
    st.integers(0, 400),
    st.integers(1, 3),
    st.sampled_from(["15min", "h", "6h", "D"]),
    st.integers(0, 2**32 - 1),
)
def test_more_rows_and_channels_leave_the_first_ones_as_they_were(rows, extra, channels, freq, s):
    small = make_seasonal(rows, channels, freq=freq, random_state=s)
    large = make_seasonal(rows + extra, channels + 1, freq=freq, random_state=s)
    np.testing.assert_allclose(large.data[:rows, :channels], small.data, rtol=1e-12)
    assert large.index[:rows].tolist() == small.index.tolist()


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 3000),
    st.sampled_from(["min", "15min", "45min", "h", "90min", "8h", "D"]),
    st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    st.floats(0, 0.5),
    st.floats(-0.5, 1),
)
def test_seasonal_is_finite_and_positive_at_any_time(rows, freq, start, noise, trend):
    bunch = make_seasonal(rows, freq=freq, start=start, noise=noise, trend=trend, random_state=0)
    assert np.isfinite(bunch.data).all()
    assert (bunch.data > 0).all()
    assert bunch.index[0] == np.datetime64(start).astype("datetime64[m]")
    steps = np.unique(np.diff(bunch.index))
    assert steps.size <= 1
    per_day = np.timedelta64(1, "D") // steps[0] if steps.size else None
    assert per_day is None or bunch.period == (per_day if per_day > 1 else 7)


def test_weekdays_saturdays_and_sundays_have_their_own_shapes():
    bunch = make_seasonal(24 * 364, random_state=0, holidays=False)
    weekday, hour, _ = calendar(bunch)
    shape = np.array([[bunch.data[(weekday == d) & (hour == h)].mean() for h in range(24)]
                      for d in range(7)])  # fmt: skip
    level = shape.mean(axis=1)
    assert level[1:4].min() > 1.05 * level[5] > 1.10 * level[6]
    assert shape[2].max() > 1.5 * shape[2].min()  # day and night
    assert 2 <= shape[2].argmin() <= 5
    sunday, wednesday = shape[6] / level[6], shape[2] / level[2]
    assert np.abs(sunday - wednesday).max() > 0.1  # another shape, not only another level


def test_holidays_look_like_sundays_and_change_nothing_else():
    options = {"n_samples": 24 * 366, "noise": 0.0, "random_state": 0}
    with_them, without = make_seasonal(**options), make_seasonal(**options, holidays=False)
    assert [str(day) for day in with_them.holidays] == [
        "2020-01-01",
        "2020-05-01",
        "2020-08-15",
        "2020-11-01",
        "2020-12-25",
        "2020-12-26",
    ]
    assert without.holidays.size == 0
    changed = (with_them.data != without.data)[:, 0]
    days = with_them.index.astype("datetime64[D]")
    # A holiday lasts until people have slept.
    late = (with_them.index - 6 * HOUR).astype("datetime64[D]")
    assert not changed[
        ~np.isin(days, with_them.holidays) & ~np.isin(late, with_them.holidays)
    ].any()

    def noon_to_midnight(date):
        return with_them.data[(days == np.datetime64(date)) & (calendar(with_them)[1] >= 12)]

    friday, sunday = noon_to_midnight("2020-05-01"), noon_to_midnight("2020-05-03")
    next_friday = noon_to_midnight("2020-05-08")
    assert np.abs(friday / sunday - 1).max() < 0.01
    assert np.abs(next_friday / sunday - 1).max() > 0.1


def test_year_has_a_winter_and_load_grows_by_the_trend():
    options = {"n_samples": 24 * 7 * 52 * 2, "noise": 0.0, "holidays": False, "random_state": 0}
    bunch = make_seasonal(**options, trend=0.05)
    _, _, month = calendar(bunch)
    winter, summer = np.isin(month, [12, 1, 2]), np.isin(month, [6, 7, 8])
    assert bunch.data[winter].mean() > 1.05 * bunch.data[summer].mean()
    flat = make_seasonal(**options, trend=0.0)
    years = (bunch.index - bunch.index[0]) / np.timedelta64(1, "D") / 365.2425
    np.testing.assert_allclose((bunch.data / flat.data)[:, 0], 1.05**years, rtol=1e-12)
    half = len(flat.data) // 2
    assert abs(flat.data[half:].mean() / flat.data[:half].mean() - 1) < 0.005


def test_noise_has_its_size_and_a_memory():
    options = {"n_samples": 24 * 365, "random_state": 0}
    ratio = np.log(
        make_seasonal(**options, noise=0.05).data / make_seasonal(**options, noise=0.0).data
    )[:, 0]
    # Weather comes on top where lamps and heating answer to it; summer has hardly any.
    summer = ratio[24 * 160 : 24 * 230]
    assert 0.035 < summer.std() < 0.08
    lag = [np.corrcoef(ratio[:-k], ratio[k:])[0, 1] for k in (1, 6)]
    assert lag[0] > 0.75
    assert lag[0] > lag[1] > 0.1


def test_noise_free_series_knows_no_chance_but_the_channels():
    data = make_seasonal(24 * 28, noise=0.0, trend=0.0, holidays=False, start="2021-07-01",
                         random_state=0).data[:, 0]  # fmt: skip
    weekly = data.reshape(4, 168)
    assert np.abs(weekly / weekly.mean(axis=0) - 1).max() < 0.05


def test_spectrum_is_not_a_toy_sinusoid():
    data = make_seasonal(24 * 7 * 52, random_state=0).data[:, 0]
    power = np.abs(np.fft.rfft(data - data.mean())) ** 2
    floor = np.median(power)
    for harmonic in (1, 2, 3, 7, 14, 21, 28):  # cycles per week
        assert power[52 * harmonic] > 30 * floor, harmonic
    assert power[1] > 30 * floor  # the year
    assert power[52 * 7] < 0.85 * power[1:].sum()


def test_channels_go_together_but_differ():
    data = make_seasonal(24 * 365, 5, random_state=0).data
    off_diagonal = np.corrcoef(data.T)[np.triu_indices(5, 1)]
    assert off_diagonal.min() > 0.8
    assert off_diagonal.max() < 0.9995
    level = data.mean(axis=0)
    assert level.max() > 1.5 * level.min()
    assert np.ptp(data.std(axis=0) / level) > 0.01


def test_daily_values_are_the_means_of_hourly_ones():
    options = {"noise": 0.0, "random_state": 3, "n_channels": 2}
    daily = make_seasonal(90, freq="D", **options)
    hourly = make_seasonal(90 * 24, freq="h", **options)
    quarters = make_seasonal(90 * 96, freq="15min", **options)
    means = hourly.data.reshape(90, 24, 2).mean(axis=1)
    np.testing.assert_allclose(daily.data, means, rtol=1e-12)
    np.testing.assert_allclose(quarters.data.reshape(90, 96, 2).mean(axis=1), means, rtol=0.01)
    np.testing.assert_allclose(quarters.data[::4], hourly.data, rtol=1e-12)


@pytest.mark.parametrize(
    ("asked", "got", "period"),
    [
        ("h", "h", 24),
        ("1h", "h", 24),
        ("60min", "h", 24),
        ("15min", "15min", 96),
        ("min", "min", 1440),
        ("1440min", "D", 7),
        ("24h", "D", 7),
        ("D", "D", 7),
        ("12h", "12h", 2),
    ],
)
def test_freq_is_canonical_and_gives_the_period(asked, got, period):
    bunch = make_seasonal(10, freq=asked, random_state=0)
    assert (bunch.freq, bunch.period) == (got, period)


def test_seasonal_frame_continues_in_pandas():
    pd = pytest.importorskip("pandas")
    for freq in ("15min", "h", "D"):
        bunch = make_seasonal(30, 2, freq=freq, as_frame=True, random_state=0)
        assert bunch.data is bunch.frame
        assert bunch.frame.index.freq == pd.tseries.frequencies.to_offset(freq)
        assert list(bunch.frame.columns) == ["load_1", "load_2"]
        assert bunch.frame.index.name == "date"
    stamped = make_seasonal(3, start=pd.Timestamp("2021-02-03 04:05:06"), random_state=0)
    assert str(stamped.index[0])[:19] == "2021-02-03T04:05:00"
    assert len(make_seasonal(1, as_frame=True, random_state=0).frame) == 1


@pytest.mark.parametrize(
    "start",
    [
        "2021-03-04",
        "2021-03-04T00:00",
        "2021-03-04 00:00:00",
        dt.date(2021, 3, 4),
        dt.datetime(2021, 3, 4),
        np.datetime64("2021-03-04"),
        np.datetime64("2021-03-04", "ns"),
    ],
)
def test_start_in_every_form_is_the_same_time(start):
    bunch = make_seasonal(5, start=start, random_state=0)
    assert bunch.index[0] == np.datetime64("2021-03-04")
    assert bunch.data.tolist() == make_seasonal(5, start="2021-03-04", random_state=0).data.tolist()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_samples": 0}, "'n_samples' parameter of make_seasonal must be.*Got 0"),
        ({"n_samples": 10.0}, "'n_samples' parameter"),
        ({"n_channels": 0}, "'n_channels' parameter"),
        ({"noise": -0.1}, "'noise' parameter"),
        ({"noise": float("nan")}, "'noise' parameter"),
        ({"trend": -1.0}, "'trend' parameter"),
        ({"holidays": "US"}, "'holidays' parameter"),
        ({"as_frame": "no"}, "'as_frame' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
        ({"freq": "W"}, "freq='W' must be"),
        ({"freq": "7h"}, "freq='7h' must be"),
        ({"freq": "0min"}, "freq='0min' must be"),
        ({"freq": "2D"}, "freq='2D' must be"),
        ({"freq": ""}, "freq='' must be"),
        ({"freq": 60}, "'freq' parameter"),
        ({"start": "soon"}, "start='soon' is not a time; use"),
        ({"start": "now"}, "start='now' is not a time; use"),
        ({"start": "2020-13-01"}, "start='2020-13-01' is not a time"),
        ({"start": "2020-01-01T00:00Z"}, "is not a time; use"),
        ({"start": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)}, "has a time zone"),
        ({"start": np.datetime64("NaT")}, "leaves the years"),
        ({"start": "1500-01-01"}, "leaves the years 1678 to 2261"),
        ({"start": "2261-12-31", "n_samples": 25}, "leaves the years 1678 to 2261"),
        ({"n_samples": 10**15}, "leaves the years 1678 to 2261"),
        ({"start": 2020}, "'start' parameter"),
    ],
)
def test_seasonal_refuses_with_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_seasonal(**{"n_samples": 10, **options})


def test_seasonal_reaches_the_last_allowed_hour():
    bunch = make_seasonal(24, start="2261-12-31", random_state=0)
    assert str(bunch.index[-1])[:16] == "2261-12-31T23:00"
