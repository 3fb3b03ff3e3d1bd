"""`mixlin.forecast`: series of any kind go in, the same kind comes out, whatever the model."""

from __future__ import annotations

import builtins
import datetime
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.long_frames import Clock, find_steps, read_long_frame
from mixlin.timestamps import read_index
from mixlin.zero_shot import context_length, forecast

RNG = np.random.default_rng(0)


class RepeatsLast:
    """Stands for the model: what came last goes on, plus and minus one."""

    def __init__(self, lookback=None):
        self.lookback = lookback
        self.backend = None
        self.seen = self.levels = self.progress = None

    def set_params(self, backend):
        self.backend = backend
        return self

    def forecast_arrays(self, series, horizon, quantiles=None, *, progress=None):
        self.seen, self.levels, self.progress = series, quantiles, progress
        assert all(x.dtype == np.float64 and x.ndim == 1 and x.flags.c_contiguous for x in series)
        last = np.array([values[~np.isnan(values)][-1] for values in series])
        points = np.repeat(last[:, None], horizon, axis=1)
        halves = np.array_split(np.arange(len(series)), 2)
        list(halves if progress is None else progress(halves, 2))
        if quantiles is None:
            return points
        return points, points[:, :, None] + np.array([-1.0, 1.0])


def repeated(series, horizon=3, **options):
    return forecast(series, horizon, model=RepeatsLast(), **options)


def seen(series, **options):
    """Return the arrays that the model gets."""
    model = RepeatsLast()
    forecast(series, 1, model=model, **options)
    return model.seen


# -- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([1, 2, 3], [3.0, 3.0]),
        ([1.0, None, np.nan], [1.0, 1.0]),
        (np.arange(4), [3.0, 3.0]),
        (np.arange(6.0).reshape(3, 2), [[4.0, 5.0], [4.0, 5.0]]),
        (np.array([True, False]), [0.0, 0.0]),
        ([np.arange(3.0), np.arange(4.0)[:, None]], [[2.0, 2.0], [[3.0], [3.0]]]),
        ((np.arange(3.0),), [[2.0, 2.0]]),
    ],
    ids=["numbers", "missing", "integers", "channels", "booleans", "list", "tuple of one"],
)
def test_arrays_leave_as_they_came(series, expected):
    made = repeated(series, 2)
    if isinstance(made, list):
        assert [part.tolist() for part in made] == expected
    else:
        assert made.tolist() == expected


@pytest.mark.parametrize(("dtype", "out"), [("f4", "f4"), ("f8", "f8"), ("i4", "f8"), ("f2", "f8")])
def test_single_precision_stays(dtype, out):
    assert repeated(np.arange(5, dtype=dtype)).dtype == out
    assert repeated(np.arange(6, dtype=dtype).reshape(3, 2), interval=0.5).dtype == out


def test_intervals_stand_on_a_last_axis():
    model = RepeatsLast()
    one = forecast(np.arange(5.0), 2, interval=0.9, model=model)
    assert model.levels == [0.05, 0.95]
    assert one.tolist() == [[4.0, 3.0, 5.0]] * 2
    two = repeated(np.arange(6.0).reshape(3, 2), interval=0.8)
    assert two.shape == (3, 2, 3)
    assert two[0].tolist() == [[4.0, 3.0, 5.0], [5.0, 4.0, 6.0]]
    parts = repeated([np.arange(5.0), np.zeros((4, 2))], interval=0.8)
    assert [part.shape for part in parts] == [(3, 3), (3, 2, 3)]


def test_the_model_gets_every_channel_with_its_gaps():
    holed = np.arange(8.0).reshape(4, 2)
    holed[1, 0] = np.nan
    a, b, c = seen([holed, np.arange(3, dtype=np.float32)])
    np.testing.assert_array_equal(a, [0.0, np.nan, 4.0, 6.0])
    np.testing.assert_array_equal(b, [1.0, 3.0, 5.0, 7.0])
    np.testing.assert_array_equal(c, [0.0, 1.0, 2.0])


def test_stamps_show_where_rows_are_missing():
    stamps = np.array(["2024-01-01", "2024-01-02", "2024-01-04"], dtype="M8[D]")
    values = np.array([1.0, 2.0, 4.0])
    expected = [1.0, 2.0, np.nan, 4.0]
    np.testing.assert_array_equal(seen(values, timestamps=stamps)[0], expected)
    several = seen([values, values[:2]], timestamps=[stamps, stamps[:2]])
    np.testing.assert_array_equal(several[0], expected)
    with pytest.raises(ValueError, match="a list with one array per series, 1; got 2"):
        repeated([values], timestamps=[stamps, stamps])
    with pytest.raises(ValueError, match="one stamp per row"):
        repeated(values, timestamps=stamps[:2])


@given(st.permutations(range(5)), st.integers(1, 4))
def test_channels_and_lists_of_series_are_alike(order, horizon):
    data = np.random.default_rng(1).normal(size=(20, 5))
    together = repeated(data[:, order], horizon)
    np.testing.assert_array_equal(together, repeated(data, horizon)[:, order])
    apart = repeated([data[:, c] for c in order], horizon)
    np.testing.assert_array_equal(together, np.stack(apart, axis=1))


@pytest.mark.parametrize("horizon", [1, np.int32(7), 10**5])
def test_any_number_of_steps_is_forecast(horizon):
    assert len(repeated([1.0, 2.0], horizon)) == horizon


class Polars:
    """Stands for a frame of polars."""


Polars.__module__ = "polars.dataframe.frame"


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ([], "series is empty"),
        (np.zeros(0), r"series has shape \(0,\) and is empty"),
        (np.zeros((0, 3)), "is empty"),
        (np.zeros((3, 0)), "is empty"),
        ([np.ones(3), np.zeros(0)], r"series\[1\] has shape \(0,\) and is empty"),
        (np.zeros((2, 3, 4)), r"Pass a list of arrays for many series"),
        ([np.nan, np.nan], "series has no value that is not missing"),
        (np.array([[1.0, np.nan]] * 3), "channel 1 of series has no value"),
        ([np.ones(2), np.full(3, np.nan)], r"series\[1\] has no value"),
        ([1.0, np.inf], "series holds infinite values. Write NaN"),
        ([np.ones(3), np.array([-np.inf, 1.0])], r"series\[1\] holds infinite values"),
        (["a", "b"], "series holds strings"),
        (np.array(["2024-01-01"], dtype="M8[D]"), "series holds dates"),
        (np.array([1 + 2j]), "series holds complex numbers"),
        ("load.csv", "got str. Please read the values first"),
        (None, "got NoneType"),
        ({"a": [1, 2]}, r"list\(series.values\(\)\)"),
        (iter([1.0]), "Please pass a list of series"),
        (Polars(), r"got Polars. Please pass series.to_pandas\(\)"),
        ([np.ones(3), Polars()], r"series\[1\] must be .* pass series\[1\].to_pandas\(\)"),
        ([[1, 2], [3, 4]], r"a list of lists, .* Pass np.asarray\(series\)"),
        ([[1, 2], [3]], "a list of lists"),
        (3.0, r"must be a series of shape .*; got 3.0"),
        (np.lib.stride_tricks.sliding_window_view(RNG.normal(size=20), 5),
         "series looks like stacked windows: .* Pass the series itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_series_gets_one_sentence(series, words):
    with pytest.raises(ValueError, match=words) as caught:
        repeated(series)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("horizon", [0, -1, 1.5, 2.0, True, "3", None, np.nan])
def test_horizons_that_are_no_numbers_of_steps_are_refused(horizon):
    with pytest.raises(ValueError, match="horizon must be a whole number of steps, at least 1"):
        repeated([1.0, 2.0], horizon)


@pytest.mark.parametrize("interval", [0, 1, True, 90, -0.5, "0.9", np.nan])
def test_intervals_that_are_no_coverages_are_refused(interval):
    with pytest.raises(ValueError, match=r"a coverage between 0 and 1, such as 0.9; got"):
        repeated([1.0, 2.0], interval=interval)


# -- the model ---------------------------------------------------------------------------------


def test_by_default_the_model_needs_no_training():
    load = 10 + 3 * np.sin(2 * np.pi * np.arange(240) / 12)
    made = forecast(load, 12)
    np.testing.assert_allclose(made, load[:12], atol=0.2)
    both = forecast([load, np.full(40, 7.0)], 12, interval=0.9)
    np.testing.assert_allclose(both[0][:, 0], made, atol=1e-6)
    assert (np.diff(both[0][:, [1, 0, 2]], axis=1) >= 0).all()
    np.testing.assert_allclose(both[1], 7.0)


def test_a_backend_is_set_on_a_copy_of_the_model():
    model = RepeatsLast()
    forecast([1.0, 2.0], 2, model=model, backend="torch")
    assert model.backend is None
    assert model.seen is None


@pytest.mark.parametrize("model", ["superlinear", RepeatsLast, object()])
def test_other_models_are_refused(model):
    with pytest.raises(ValueError, match="model must be a SuperLinearForecaster"):
        forecast([1.0, 2.0], 2, model=model)


def test_a_series_without_a_value_where_the_model_reads_is_named():
    ended = np.array([1.0, 2.0, np.nan, np.nan, np.nan])
    model = RepeatsLast(lookback=3)
    assert context_length(model) == 3
    with pytest.raises(ValueError, match=r"series\[1\] has no value in its last 3 rows"):
        forecast([np.ones(5), ended], 2, model=model)
    assert forecast(ended, 2, model=RepeatsLast(lookback=4)).tolist() == [2.0, 2.0]


# -- the bar -----------------------------------------------------------------------------------


@pytest.fixture
def bars(monkeypatch):
    """Replace tqdm; return what bars were made and how far they got."""
    made = []

    class Bar:
        def __init__(self, **options):
            self.options, self.n = options, 0
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.closed = True

        def update(self, n):
            self.n += n

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return made


def test_a_bar_counts_series(bars):
    repeated([np.ones(3)] * 7, progress=True)
    (bar,) = bars
    assert (bar.n, bar.options["total"], bar.closed) == (7, 7, True)
    assert not bar.options["disable"]


def test_unasked_a_bar_waits_and_needs_a_terminal(bars):
    repeated([1.0, 2.0])
    (bar,) = bars
    assert bar.options["disable"] is None  # tqdm then looks for a terminal
    assert bar.options["delay"] > 1
    repeated([1.0, 2.0], progress=False)
    assert len(bars) == 1


def test_no_bar_is_seen_outside_terminals(capsys):
    repeated([np.ones(3)] * 7)
    assert capsys.readouterr() == ("", "")


def test_tqdm_is_needed_only_where_a_bar_is_asked_for(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "tqdm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert len(repeated([1.0, 2.0])) == 3
    with pytest.raises(ImportError, match="progress=True shows a bar of tqdm"):
        repeated([1.0, 2.0], progress=True)


def test_progress_is_a_choice_of_three():
    with pytest.raises(ValueError, match="progress must be True, False or None; got 'yes'"):
        repeated([1.0, 2.0], progress="yes")


# -- pandas Series and wide frames -------------------------------------------------------------


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


def test_the_index_of_a_series_goes_on(pd):
    index = pd.date_range("2024-01-31", periods=5, freq="ME", name="month")
    given = pd.Series(np.arange(5.0), index=index, name="sales")
    made = repeated(given)
    assert (made.name, made.index.name) == ("sales", "month")
    assert list(made.index) == list(pd.date_range("2024-06-30", periods=3, freq="ME"))
    assert made.to_list() == [4.0] * 3
    limits = repeated(given, interval=0.9)
    assert list(limits.columns) == ["forecast", "lower", "upper"]
    assert limits.iloc[0].to_list() == [4.0, 3.0, 5.0]
    assert list(limits.index) == list(made.index)


def test_wide_frames_stay_wide(pd):
    index = pd.period_range("2024-01", periods=4, freq="M")
    given = pd.DataFrame({"a": np.arange(4.0), 7: 1}, index=index)
    made = repeated(given)
    assert list(made.columns) == ["a", 7]
    assert list(made.index) == list(pd.period_range("2024-05", periods=3, freq="M"))
    limits = repeated(given, interval=0.9)
    names = ["forecast", "lower", "upper"]
    assert list(limits.columns) == [(c, name) for c in ("a", 7) for name in names]
    assert limits["a"].iloc[1].to_list() == [3.0, 2.0, 4.0]
    assert limits[7].iloc[1].to_list() == [1.0, 0.0, 2.0]


def test_rows_that_an_index_lacks_are_missing_values(pd):
    hours = pd.date_range("2024-01-01", periods=6, freq="h")
    given = pd.Series(np.arange(6.0), index=hours).drop(hours[[2, 3]])
    np.testing.assert_array_equal(seen(given)[0], [0.0, 1.0, np.nan, np.nan, 4.0, 5.0])


def test_nullable_columns_are_read(pd):
    given = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")})
    np.testing.assert_array_equal(seen(given)[0], [1.0, np.nan, 3.0])
    assert list(repeated(given).index) == [3, 4, 5]


def test_one_row_is_continued_where_its_index_has_a_step(pd):
    day = pd.DatetimeIndex(["2024-01-01"])
    made = repeated(pd.Series([1.0], index=pd.DatetimeIndex(day, freq="D")))
    assert str(made.index[0].date()) == "2024-01-02"
    assert list(repeated(pd.Series([1.0], index=[4])).index) == [5, 6, 7]
    with pytest.raises(ValueError, match="series has one row, which does not tell the step"):
        repeated(pd.Series([1.0], index=day))


def wide(pd, **changes):
    index = pd.date_range("2024-01-01", periods=5, freq="h")
    return pd.DataFrame({"a": np.arange(5.0), "b": 1.0}, index=index).assign(**changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pd: wide(pd, t="x"), "columns that are no numbers: t. Make the time column the"),
        (lambda pd: wide(pd).iloc[[0, 2, 1]], "the index is not sorted"),
        (lambda pd: wide(pd).iloc[[0, 1, 1]], "1 duplicate label"),
        (lambda pd: wide(pd).set_axis(list("abcde")), "can't be continued: use dates"),
        (lambda pd: wide(pd).iloc[:0], "is empty"),
        (lambda pd: wide(pd).set_axis(np.array([0, 3, 4, 77, 999])), "the index is irregular"),
        (lambda pd: wide(pd, b=np.nan), "column 'b' of series has no value"),
        (lambda pd: wide(pd, b=-np.inf), "series holds infinite values"),
        (lambda pd: [wide(pd), wide(pd).iloc[[0, 2, 1]]], r"series\[1\]: the index is not sorted"),
    ],
)
def test_wide_frames_that_can_not_be_used_get_one_sentence(pd, change, words):
    with pytest.raises(ValueError, match=words):
        repeated(change(pd))


def test_stamps_beside_an_index_are_refused(pd):
    frame = wide(pd)
    with pytest.raises(ValueError, match="a frame's own index tells the time"):
        repeated(frame, timestamps=frame.index)


def test_an_index_that_ends_before_the_forecast_does_is_refused(pd):
    days = pd.date_range("2200-01-01", periods=5).as_unit("ns")
    model = RepeatsLast()
    with pytest.raises(ValueError, match=r"100000 steps of 'D' after 2200-01-05 .* lead"):
        forecast(pd.Series(np.ones(5), index=days), 10**5, model=model)
    assert model.seen is None  # nothing was computed for nothing


# -- long frames -------------------------------------------------------------------------------


def long(pd, n_series=3, n_rows=6, freq="h"):
    """Return a long frame of series of different lengths that end at different times."""
    parts = []
    for i in range(n_series):
        times = pd.date_range("2024-01-29", periods=n_rows + 2 * i, freq=freq)[i:]
        values = 10.0 * i + np.arange(len(times))
        parts.append(pd.DataFrame({"unique_id": f"s{i}", "ds": times, "y": values}))
    return pd.concat(parts, ignore_index=True)


def test_long_frames_stay_long(pd):
    made = repeated(long(pd), 2)
    assert list(made.columns) == ["unique_id", "ds", "forecast"]
    assert made["unique_id"].to_list() == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert made["forecast"].to_list() == [5.0, 5.0, 16.0, 16.0, 27.0, 27.0]
    assert list(made["ds"][:2]) == list(pd.date_range("2024-01-29 06:00", periods=2, freq="h"))
    assert list(made["ds"][4:]) == list(pd.date_range("2024-01-29 10:00", periods=2, freq="h"))
    limits = repeated(long(pd), 2, interval=0.5)
    assert list(limits.columns) == ["unique_id", "ds", "forecast", "lower", "upper"]
    assert (limits["upper"] - limits["lower"]).to_list() == [2.0] * 6


def test_other_names_can_be_given(pd):
    frame = long(pd).rename(columns={"unique_id": "shop", "ds": "hour", "y": "sold"})
    names = {"id_column": "shop", "time_column": "hour", "target_column": "sold"}
    made = repeated(frame.assign(price=1.0, y=0.0), **names)
    assert list(made.columns) == ["shop", "hour", "forecast"]
    expected = repeated(long(pd))
    assert made["forecast"].to_list() == expected["forecast"].to_list()


def test_ids_may_be_in_the_index_and_one_series_needs_none(pd):
    frame = long(pd)
    expected = repeated(frame)
    pd.testing.assert_frame_equal(repeated(frame.set_index("unique_id")), expected)
    pd.testing.assert_frame_equal(repeated(frame.set_index(["unique_id", "ds"])), expected)
    alone = repeated(frame[frame["unique_id"] == "s1"].drop(columns="unique_id"))
    assert list(alone.columns) == ["ds", "forecast"]
    assert alone["forecast"].to_list() == [16.0] * 3


def test_frames_of_all_kinds_may_stand_in_one_list(pd):
    made = repeated([wide(pd), long(pd), np.arange(3.0), wide(pd)["a"]], 2)
    assert [part.shape for part in made] == [(2, 2), (6, 3), (2,), (2,)]
    assert made[3].to_list() == [4.0, 4.0]


FREQUENCIES = [
    "s", "15min", "h", "7h", "D", "B", "W-TUE", "28D", "MS", "ME", "2MS", "QS", "QE", "QE-FEB",
    "YS", "YE", "YE-MAR",
]  # fmt: skip


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("freq", FREQUENCIES)
@pytest.mark.parametrize("dropped", [(), (3,), (2, 3, 8)])
def test_times_go_on_as_those_of_an_index_do(pd, freq, zone, dropped):
    times = pd.date_range("2024-03-20", periods=24, freq=freq, tz=zone)
    kept = [i for i in range(20) if i not in dropped]
    frame = pd.DataFrame({"ds": times[kept], "y": np.arange(len(kept))})
    read = read_long_frame(frame, None, "ds", "y")
    assert list(read.steps.continued(4)) == list(times[20:])
    index, rows = read_index(pd.DatetimeIndex(times[kept]))
    assert list(read.steps.continued(4)) == list(index.continued(4))
    assert len(read.values[0]) == rows[-1] + 1 == 20
    assert np.flatnonzero(np.isnan(read.values[0])).tolist() == list(dropped)


@pytest.mark.parametrize(
    ("freq", "start", "n"),
    [("YS", "2021-01", 3), ("MS", "2023-07", 3), ("QE", "2024-06", 2), ("MS", "2023-07", 2)],
)
def test_months_of_equal_length_are_months(pd, freq, start, n):
    times = pd.date_range(start, periods=n + 3, freq=freq)
    frame = pd.DataFrame({"ds": times[:n], "y": np.arange(float(n))})
    assert list(repeated(frame)["ds"]) == list(times[n:])


def test_days_at_the_same_hour_of_the_month_are_monthly(pd):
    times = pd.date_range("2024-01-01", periods=8, freq="MS") + pd.Timedelta("14 days 12 hours")
    made = repeated(pd.DataFrame({"ds": times[:5], "y": np.arange(5.0)}))
    assert list(made["ds"]) == list(times[5:])


@pytest.mark.parametrize(
    "convert",
    [
        lambda pd, times: times.astype("datetime64[s]"),
        lambda pd, times: times.astype("datetime64[ns]"),
        lambda pd, times: times.dt.tz_localize("UTC"),
        lambda pd, times: pd.Series(pd.PeriodIndex(times, freq="D")),
        lambda pd, times: times - times[0],
        lambda pd, times: (times - times[0]).dt.days,
        lambda pd, times: (times - times[0]).dt.days.astype("Int64"),
        lambda pd, times: (times - times[0]).dt.days * -7 + 100,
    ],
    ids=["s", "ns", "zone", "periods", "deltas", "integers", "nullable", "backwards"],
)
def test_times_of_all_kinds_go_on_in_theirs(pd, convert):
    times = convert(pd, pd.Series(pd.date_range("2024-02-27", periods=9)))
    kept = [0, 1, 2, 4, 5]
    frame = pd.DataFrame({"ds": times[kept], "y": np.arange(5.0)})
    made = repeated(frame)["ds"]
    if times.is_monotonic_increasing:
        assert made.to_list() == times[6:].to_list()
    else:  # rows are sorted, so that the first one comes last
        assert made.to_list() == [107, 114, 121]
    assert made.dtype == (np.int64 if str(times.dtype).lower() == "int64" else times.dtype)


@pytest.mark.parametrize("dtype", ["str", "object", "category", "dates"])
def test_text_is_read_as_dates_where_nothing_is_to_be_guessed(pd, dtype):
    frame = long(pd, freq="D")
    text = frame["ds"].astype("str")
    times = [datetime.date.fromisoformat(t[:10]) for t in text] if dtype == "dates" else text
    made = repeated(frame.assign(ds=times if dtype == "dates" else text.astype(dtype)))
    assert list(made["ds"]) == list(repeated(frame)["ds"])


@pytest.mark.parametrize("dtype", ["object", "category", "int64", "datetime64[s]"])
def test_ids_keep_their_dtype(pd, dtype):
    frame = long(pd)
    numbers = frame["unique_id"].str[1:].astype("int64")
    ids = frame["unique_id"] if dtype in ("object", "category") else numbers
    made = repeated(frame.assign(unique_id=ids.astype(dtype)))
    assert made["unique_id"].dtype == ids.astype(dtype).dtype
    assert made["unique_id"].nunique() == 3


@settings(max_examples=40)
@given(st.data())
def test_a_shuffled_long_frame_is_read_like_its_series_one_by_one(data):
    pd = pytest.importorskip("pandas")
    freqs = data.draw(st.lists(st.sampled_from(FREQUENCIES), min_size=1, max_size=4))
    parts, expected_times, expected = [], [], []
    for i, freq in enumerate(freqs):
        n = data.draw(st.integers(8, 14))
        times = pd.date_range("2024-02-02", periods=n + 2, freq=freq)  # a Friday
        dropped = data.draw(st.sets(st.integers(3, n - 2), max_size=2))
        kept = [j for j in range(n) if j not in dropped]
        values = np.full(n, np.nan)
        values[kept] = np.arange(len(kept)) + 100 * i
        parts.append(pd.DataFrame({"unique_id": i, "ds": times[kept], "y": values[kept]}))
        expected_times.append(list(times[n:]))
        expected.append(values)
    frame = pd.concat(parts)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(frame))
    shuffled = frame.iloc[order]
    read = read_long_frame(shuffled, "unique_id", "ds", "y")
    assert list(read.ids) == list(shuffled["unique_id"].unique())
    labels = read.steps.continued(2)
    for place, i in enumerate(read.ids):
        np.testing.assert_array_equal(read.values[place], expected[i])
        assert list(labels[2 * place : 2 * place + 2]) == expected_times[i]


def test_series_of_one_or_two_rows_step_as_the_others_do(pd):
    months = pd.date_range("2024-01-31", periods=6, freq="ME")
    rows = [("a", m) for m in months] + [("b", months[0]), ("c", months[0]), ("c", months[2])]
    frame = pd.DataFrame(rows, columns=["unique_id", "ds"]).assign(y=np.arange(9.0))
    made = repeated(frame, 1).set_index("unique_id")["ds"]
    assert str(made["b"].date()) == "2024-02-29"
    assert str(made["c"].date()) == "2024-04-30"
    np.testing.assert_array_equal(seen(frame)[2], [7.0, np.nan, 8.0])
    years = frame.assign(ds=frame["ds"].dt.month + 2000)
    assert repeated(years, 1)["ds"].to_list() == [2007, 2002, 2004]
    apart = frame.iloc[[0, 1, 2, 3, 7]].assign(ds=[1, 2, 3, 4, 9])
    assert repeated(apart, 1)["ds"].to_list() == [5, 10]


def test_rows_off_the_days_of_business_are_daily(pd):
    days = pd.date_range("2024-01-01", periods=12).delete([2, 3])  # a Wednesday and a Thursday
    made = repeated(pd.DataFrame({"ds": days, "y": np.arange(10.0)}))
    assert list(made["ds"]) == list(pd.date_range("2024-01-13", periods=3))


def test_hours_that_do_not_exist_on_the_clock_are_moved(pd):
    days = pd.date_range("2024-03-25 02:30", periods=6, tz="Europe/Berlin")
    made = repeated(pd.DataFrame({"ds": days, "y": np.arange(6.0)}), 2)["ds"]
    assert [str(t) for t in made] == ["2024-03-31 03:00:00+02:00", "2024-04-01 02:30:00+02:00"]


def test_a_step_is_the_most_frequent_one_and_irregular_series_have_none(pd):
    labels = np.array([0, 2, 4, 8, 0, 3, 4, 9, 5])
    starts, stops = np.array([0, 4, 8]), np.array([4, 8, 9])
    found = find_steps(Clock(labels.dtype), labels, labels, starts, stops)
    assert found.step.tolist() == [2, 0, 2]
    assert found.rows[0].tolist() == [0, 1, 2, 4]
    assert found.continued(2).to_list()[:2] == [10, 12]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": ["ds"]}, "a column 'unique_id' as long ones have, but no 'ds'"),
        ({"drop": ["y"]}, "but no 'y'; its columns are 'unique_id', 'ds'. Name the others"),
        ({"drop": ["ds", "y"]}, "but no 'ds' and no 'y'"),
        ({"ds": lambda f: f["ds"].where(f.index != 1, f["ds"][0])},
         "1 row repeats 'unique_id' and 'ds' of another one, such as 2024-01-29 00:00:00 of "
         "series 's0'"),
        ({"ds": lambda f: f["ds"].where(f.index != 1)}, "column 'ds' is empty in 1 row"),
        ({"ds": lambda f: f["ds"] + (f["ds"] - f["ds"][0]) * np.arange(len(f)) ** 2},
         r"the times of series 's0' in column 'ds' are irregular \(3 series are like that\)"),
        ({"ds": "29/01/2024"}, "holds no times that are safe to read"),
        ({"ds": lambda f: np.arange(len(f)).astype(object)}, "no times that are safe to read"),
        ({"ds": 1.5}, "column 'ds' of dtype float64 can't be continued"),
        ({"y": lambda f: f["y"].where(f.index != 7, np.inf)},
         "column 'y' is infinite in 1 row, such as one of series 's1'"),
        ({"y": lambda f: f["y"].where(f["unique_id"] == "s1")},
         r"series 's0' has no value in column 'y' \(2 series are like that\)"),
        ({"y": "x"}, "column 'y' of dtype .* holds no numbers"),
        ({"unique_id": lambda f: f["unique_id"].where(f.index != 1)},
         "column 'unique_id' is empty in 1 row"),
        ({"rows": slice(0)}, "is empty"),
        ({"rows": slice(1)}, "series 's0' has one row, which does not tell the step"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_long_frames_that_can_not_be_used_get_one_sentence(pd, change, words):
    frame = long(pd)
    drop, rows = change.get("drop", []), change.get("rows", slice(None))
    changed = {name: v for name, v in change.items() if name in frame}
    given = frame.assign(**changed).drop(columns=drop).iloc[rows]
    with pytest.raises(ValueError, match=words) as caught:
        repeated(given)
    assert "\n" not in str(caught.value)


def test_names_that_do_not_fit_the_frame_get_one_sentence(pd):
    with pytest.raises(ValueError, match="but no 'date'; its columns are 'unique_id', 'ds', 'y'"):
        repeated(long(pd), time_column="date")
    with pytest.raises(ValueError, match="the frame has no column 'shop'; its columns are 'a'"):
        repeated(wide(pd), id_column="shop")
    with pytest.raises(ValueError, match="three different columns; got 'y', 'ds' and 'y'"):
        repeated(long(pd), id_column="y")
    twice = pd.concat([long(pd), long(pd)[["y"]]], axis=1)
    with pytest.raises(ValueError, match="the frame has 2 columns 'y'; keep one of them"):
        repeated(twice)
    with pytest.raises(ValueError, match="the column 'ds' of a long frame tells the time"):
        repeated(long(pd), timestamps=long(pd)["ds"])


@pytest.mark.parametrize("freq", ["D", "MS", "B"])
def test_long_frames_that_end_before_the_forecast_does_are_refused(pd, freq):
    frame = long(pd, freq=freq).astype({"ds": "datetime64[ns]"})
    with pytest.raises(ValueError, match=r"100000 steps lead beyond .* datetime64\[ns\] can hold"):
        repeated(frame, 10**5)
    assert len(repeated(frame.astype({"ds": "datetime64[s]"}), 10**5)) == 3 * 10**5


def test_single_precision_stays_in_long_frames(pd):
    frame = long(pd).astype({"y": "float32"})
    assert repeated(frame)["forecast"].dtype == np.float32
    assert repeated(long(pd))["forecast"].dtype == np.float64


def test_thousands_of_series_need_no_index_each(pd, monkeypatch):
    import mixlin.base.series
    import mixlin.timestamps

    def never(*arguments, **options):
        raise AssertionError("an index was read")

    monkeypatch.setattr(mixlin.timestamps, "read_index", never)
    monkeypatch.setattr(mixlin.base.series, "read_index", never)
    n_series, n_rows = 3000, 40
    months = pd.date_range("2000-01-01", periods=n_rows, freq="MS")
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(n_series), n_rows),
            "ds": np.tile(months, n_series),
            "y": np.arange(n_series * n_rows, dtype=float),
        }
    )
    made = repeated(frame, 12)
    assert len(made) == 12 * n_series
    assert (made["ds"][::12] == months[-1] + pd.offsets.MonthBegin()).all()
