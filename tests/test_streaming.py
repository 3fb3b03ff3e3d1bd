"""Sums of partitions merge into those of the whole; fits on chunks equal fits in memory."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
    load,
)
from mixlin.solvers import ExactSolver, SeriesSums
from mixlin.streaming import PartitionSummary, StreamPlan, fit_stream, summed
from mixlin.streaming.chunks import read_chunk

FAMILY = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
L, H, T, C = 24, 6, 900, 3


def series(n_rows=T, n_channels=C, seed=0, gaps=True):
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)[:, None]
    values = np.sin(2 * np.pi * t / 24 + np.arange(n_channels)) + rng.normal(
        size=(n_rows, n_channels), scale=0.3
    )
    values = values * np.arange(1, n_channels + 1) + 100.0 * np.arange(n_channels)
    if gaps:
        values[n_rows // 4 : n_rows // 4 + 9, -1] = np.nan
        values[n_rows // 2] = np.nan
    return values


def cut(rows, seed=0, n=40):
    """Cut rows into chunks of which many are empty or one row long."""
    rng = np.random.default_rng(seed)
    edges = np.sort(np.concatenate([rng.integers(0, len(rows) + 1, n), np.arange(5, 9)]))
    edges = [0, *edges, len(rows)]
    take = rows.iloc.__getitem__ if hasattr(rows, "iloc") else rows.__getitem__
    return [take(slice(a, b)) for a, b in pairwise(edges)]


def assert_same(one, two, tolerance=1e-10):
    """Compare everything that fit leaves behind."""
    scale = np.abs(two.coef_).max()
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=0, atol=tolerance * scale)
    for name in ("predict", "predict_interval"):
        ours, theirs = (getattr(m, name)() for m in (one, two))
        assert type(ours) is type(theirs)
        if hasattr(ours, "index"):
            assert ours.index.equals(theirs.index)
            if ours.ndim == 2:
                assert ours.columns.equals(theirs.columns)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=1e-8)
    assert vars(one).keys() == vars(two).keys()
    for name in ("lookback_", "horizon_", "cutoff_", "freq_", "mode_", "n_channels_in_", "_dtypes"):
        assert getattr(one, name) == getattr(two, name)
    np.testing.assert_array_equal(one.context_, two.context_)


# ---------------------------------------------------------------------------------------------
# sums


@st.composite
def partitions(draw):
    """Draw lengths of windows, a series with gaps, borders of its parts and an order of merges."""
    lookback, horizon = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    n_rows = draw(st.integers(1, 90))
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, 2)).cumsum(axis=0)
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.01, 0.05, 0.3]))] = np.nan
    edges = draw(st.lists(st.integers(0, n_rows), max_size=12))
    edges += [e + 1 for e in edges if e < n_rows and draw(st.booleans())]  # single rows
    options = {
        "decay": draw(st.sampled_from([1.0, 0.97])),
        "frequencies": draw(st.sampled_from([None, np.array([0.3, 1.1])])),
    }
    eps = draw(st.sampled_from([None, np.array([0.1, 0.5])]))
    order = draw(st.sampled_from(["left", "right", "pairs", "any"]))
    make = lambda: SeriesSums(lookback, horizon, np.array([0.3, -1.0]), eps, **options)  # noqa: E731
    return make, values, sorted(edges), order, rng


def merged_in(order, parts, rng, M):
    """Merge (sums, first rows, number of rows) in some order of brackets."""

    def merge(a, b):
        first = np.concatenate([a[1], b[1]])[: M - 1]
        return a[0].merged(b[0], b[1], b[2]), first, a[2] + b[2]

    while len(parts) > 1:
        if order == "pairs":
            pairs = [merge(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[2 * len(pairs) :]
            continue
        last = len(parts) - 2
        i = {"left": 0, "right": last, "any": int(rng.integers(last + 1))}[order]
        parts[i : i + 2] = [merge(parts[i], parts[i + 1])]
    return parts[0][0]


def assert_same_sums(one, two):
    C = one.n_channels
    scale, shift, every = np.ones(C), np.array([0.5, 0.0]), np.arange(C)
    ours, theirs = (s.each_moments(scale, shift, every) for s in (one, two))
    tolerance = 1e-12 * max(1.0, float(np.abs(theirs).max())) * 10
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    for c in range(C):
        for a, b in zip(one.waves(c), two.waves(c), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@settings(max_examples=300)
@given(partitions())
def test_any_partition_merged_in_any_order_gives_the_sums_of_the_whole(drawn):
    make, values, edges, order, rng = drawn
    whole = make()
    M = whole.lookback + whole.horizon
    whole.add(values, 2.0)
    parts = []
    for rows in np.split(values, edges):
        sums = make()
        sums.add(rows, 2.0)
        parts.append((sums, rows[: M - 1], len(rows)))
    joined = merged_in(order, parts, rng, M)
    assert_same_sums(joined, whole)
    more = rng.normal(size=(7, 2))  # what is open at the end continues
    for sums in (joined, whole):
        sums.add(more, 2.0, continues=True)
    assert_same_sums(joined, whole)


def test_merging_changes_neither():
    one, two = (SeriesSums(3, 2, np.zeros(1)) for _ in range(2))
    rows = np.random.default_rng(0).normal(size=(40, 1))
    one.add(rows[:20])
    two.add(rows[20:])
    before = pickle.dumps((one, two))
    one.merged(two, rows[20:24], 20)
    assert pickle.dumps((one, two)) == before


def test_boundaries_cancel_so_that_memory_does_not_grow_with_the_partitions():
    rows = series(4000, 2, gaps=False)
    plan = StreamPlan(SeriesSums(L, H, rows.mean(axis=0)), read_chunk(rows[:5], "x").empty())
    parts = [plan.summarize([rows[i : i + 50]]) for i in range(0, 4000, 50)]
    total = summed(parts)
    assert total.sums._listed == [[], []]
    assert total.n_rows == 4000
    runs = total.known.runs.nbytes  # half a byte per row, bounded for long series
    assert len(pickle.dumps(total)) - runs < 8 * 2 * (7 * L + 6 * H) + 6000


def test_a_gap_of_any_length_costs_no_memory():
    sums = SeriesSums(3, 2, np.zeros(1), decay=0.9)
    plain = copy.deepcopy(sums)
    rows = np.random.default_rng(0).normal(size=(30, 1))
    for s in (sums, plain):
        s.add(rows)
    sums.skip(50)
    plain.add(np.full((50, 1), np.nan), continues=True)
    for s in (sums, plain):
        s.add(rows, continues=True)
    args = (np.ones(1), np.zeros(1), np.array([0]))
    np.testing.assert_allclose(sums.moments(*args), plain.moments(*args), rtol=1e-12)
    sums.skip(10**15)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("lookback", SeriesSums(4, 2, np.zeros(1))),
        ("horizon", SeriesSums(3, 3, np.zeros(1))),
        ("level", SeriesSums(3, 2, np.ones(1))),
        ("eps", SeriesSums(3, 2, np.zeros(1), np.ones(1))),
        ("decay", SeriesSums(3, 2, np.zeros(1), decay=0.5)),
        ("frequencies", SeriesSums(3, 2, np.zeros(1), frequencies=np.ones(1))),
    ],
)
def test_sums_of_another_kind_are_refused(name, other):
    with pytest.raises(ValueError, match=f"sums of different {name} can't be merged"):
        SeriesSums(3, 2, np.zeros(1)).merged(other, np.zeros((0, 1)), 0)


# ---------------------------------------------------------------------------------------------
# fits on arrays


@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("family", FAMILY)
def test_chunks_give_the_fit_in_memory(family, individual):
    model = family(lookback=L, horizon=H, individual=individual)
    values = series()
    assert_same(fit_stream(model, cut(values)), model.fit(values))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 200), max_size=20), st.sampled_from(FAMILY))
def test_any_chunks_give_the_fit_in_memory(edges, family):
    values = series(200, 2)
    model = family(lookback=8, horizon=3)
    found = fit_stream(model, np.split(values, sorted(edges)))
    assert_same(found, model.fit(values))


def test_one_row_at_a_time():
    values = series(300, 2)
    model = LinearForecaster(lookback=L, horizon=H)
    assert_same(fit_stream(model, (row[None] for row in values)), model.fit(values))


@pytest.mark.parametrize("n_rows", [90, 900, 1500])
def test_the_default_lookback_is_that_of_the_fit(n_rows):
    values = series(n_rows, 1, gaps=False)
    model = LinearForecaster(horizon=5)
    assert_same(fit_stream(model, iter(cut(values))), copy.deepcopy(model).fit(values))


def test_the_model_is_left_as_it_is():
    model = LinearForecaster(lookback=L, horizon=H).fit(series(seed=3))
    before = pickle.dumps(model)
    fit_stream(model, [series()])
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_arrays_and_memory_maps(tmp_path, dtype, n_jobs):
    values = (10 * series(gaps=False)).astype(dtype)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = LinearForecaster(lookback=L, horizon=H)
    whole = model.fit(values)
    for source in (values, mapped, tmp_path / "rows.npy", values[:, 0], mapped[:, 0]):
        expected = whole if source is not values[:, 0] and np.ndim(source) != 1 else None
        expected = expected or LinearForecaster(lookback=L, horizon=H).fit(values[:, 0])
        assert_same(fit_stream(model, source, n_jobs=n_jobs, block_rows=100), expected)


@pytest.mark.parametrize(
    "part", [np.s_[100:700], np.s_[100:700, 1:], np.s_[::2], np.s_[::-1], np.s_[5:, ::2]]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_parts_of_a_memory_map(tmp_path, part, order):
    values = series(gaps=False)
    file = np.lib.format.open_memmap(
        tmp_path / "rows.npy", "w+", float, values.shape, fortran_order=order == "F"
    )
    file[:] = values
    file.flush()
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = NLinearForecaster(lookback=L, horizon=H)
    assert_same(fit_stream(model, mapped[part], block_rows=64), model.fit(values[part]))


def test_a_memory_map_is_never_held_whole(tmp_path):
    import tracemalloc

    mapped = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", float, (400_000, 2))
    mapped[:] = np.random.default_rng(0).normal(size=mapped.shape)
    mapped.flush()
    model = LinearForecaster(lookback=L, horizon=H)
    fit_stream(model, mapped, block_rows=10_000)
    tracemalloc.start()
    try:
        fit_stream(model, mapped, block_rows=10_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mapped.nbytes / 2


def test_an_iterator_is_read_once_and_in_turn():
    values = series(5000, 2, gaps=False)
    held = []

    def chunks():
        for start in range(0, 5000, 10):
            held.append(start)
            yield values[start : start + 10]

    model = LinearForecaster(lookback=L, horizon=H)
    assert_same(fit_stream(model, chunks()), model.fit(values))
    assert held == list(range(0, 5000, 10))


def test_a_channel_that_starts_late_loses_no_digits():
    values = series(6000, 2, gaps=False)
    values[:, 1] += 1e7
    values[:4000, 1] = np.nan
    model = LinearForecaster(lookback=L, horizon=H, individual=True)
    whole = copy.deepcopy(model).fit(values)
    big = [np.repeat(values[:3000], 1, axis=0), *np.array_split(values[3000:], 50)]
    assert_same(fit_stream(model, iter(big)), whole, tolerance=1e-7)
    assert_same(fit_stream(model, values, block_rows=500), whole, tolerance=1e-7)


def test_the_epsilon_of_an_iterator_is_that_of_its_first_rows_unless_it_is_read_twice():
    values = np.concatenate([series(3000, 1, gaps=False), 5 * series(3000, 1, gaps=False)])
    model = RLinearForecaster(lookback=L, horizon=H)
    whole = copy.deepcopy(model).fit(values)
    parts = np.array_split(values, 60)
    assert_same(fit_stream(model, lambda: iter(parts)), whole)
    once = fit_stream(model, iter(parts))
    assert np.abs(once.predict() - whole.predict()).max() < 1e-3


@pytest.mark.parametrize("options", [{"prior": "seasonal"}, {"solver": ExactSolver(forgetting=50)}])
def test_options_of_the_exact_fit(options):
    values = series()
    model = LinearForecaster(lookback=30, horizon=H, **options)
    for source in (cut(values), iter(cut(values))):
        assert_same(fit_stream(model, source), copy.deepcopy(model).fit(values))
    assert_same(fit_stream(model, values, block_rows=90, n_jobs=2), model.fit(values))


def test_what_follows_a_fit(tmp_path):
    values, more = series(), series(100, seed=5, gaps=False)
    whole = LinearForecaster(lookback=L, horizon=H).fit(values)
    found = fit_stream(LinearForecaster(lookback=L, horizon=H), cut(values))
    assert found.score(values) == pytest.approx(whole.score(values), abs=1e-10)
    assert found.score(more) == pytest.approx(whole.score(more), abs=1e-10)
    found.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(), found.predict())
    assert_same(found.partial_fit(more), whole.partial_fit(more))
    assert_same(found.fit(more), whole.fit(more))


def test_score_knows_rows_of_every_partition_again():
    values = series(8000, 2, gaps=False)
    found = fit_stream(LinearForecaster(lookback=L, horizon=H), values, block_rows=500, n_jobs=2)
    whole = LinearForecaster(lookback=L, horizon=H).fit(values)
    for start in (0, 470, 3990, 7000):
        part = values[start : start + 300]
        assert found.score(part) == pytest.approx(whole.score(part), abs=1e-9)


def test_plain_partial_fit_over_chunks():
    values = series(1200, 2, gaps=False)
    model = LinearForecaster(lookback=L, horizon=H)
    for chunk in np.split(values, [100, 101, 700]):
        model.partial_fit(chunk)
    assert_same(model, LinearForecaster(lookback=L, horizon=H).fit(values))


# ---------------------------------------------------------------------------------------------
# frames and files


def frame(gaps=True, freq="h", n_rows=T):
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2026-01-01", periods=n_rows, freq=freq, name="ds")
    made = pd.DataFrame(series(n_rows, gaps=False), columns=["a", "b", "c"], index=index)
    if gaps:
        made = pd.concat([made.iloc[:200], made.iloc[231:600], made.iloc[601:]])
    return made


@pytest.mark.parametrize("freq", ["h", "15min", "D", "B", "MS", "2D"])
def test_frames_with_gaps(freq):
    whole = frame(freq=freq)
    model = LinearForecaster(lookback=L, horizon=H)
    expected = copy.deepcopy(model).fit(whole)
    for source in (cut(whole), iter(cut(whole)), whole):
        assert_same(fit_stream(model, source, block_rows=50), expected)
    assert_same(fit_stream(model, whole, block_rows=50, n_jobs=2), expected)


def test_a_calendar_is_counted_as_by_fit():
    whole = frame()
    model = LinearForecaster(lookback=L, horizon=H, solver=ExactSolver(calendar=2))
    expected = copy.deepcopy(model).fit(whole)
    assert_same(fit_stream(model, cut(whole)), expected, tolerance=1e-8)


def test_other_indexes():
    pd = pytest.importorskip("pandas")
    made = frame()
    model = LinearForecaster(lookback=L, horizon=H)
    zone = made.tz_localize("UTC").tz_convert("Europe/Berlin")
    counted = made.reset_index(drop=True)
    tens = made.set_axis(np.arange(len(made)) * 10)
    span = made.set_axis(pd.to_timedelta((made.index - made.index[0]).total_seconds(), "s"))
    for whole in (zone, made.to_period("h"), counted, tens, span, made["a"]):
        assert_same(fit_stream(model, cut(whole)), copy.deepcopy(model).fit(whole))
    restarting = [part.reset_index(drop=True) for part in cut(made)]
    assert_same(fit_stream(model, restarting, ignore_index=True), model.fit(counted))


def test_partial_fit_continues_the_index():
    whole = frame()
    model = LinearForecaster(lookback=L, horizon=H)
    found = fit_stream(model, cut(whole.iloc[:700])).partial_fit(whole.iloc[700:])
    assert_same(found, model.fit(whole))


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")
    made = frame()
    (tmp_path / "folder").mkdir()
    plain = made.reset_index()
    plain.to_parquet(tmp_path / "one.parquet", row_group_size=77, index=False)
    for i, start in enumerate(range(0, len(plain), 70)):
        part = plain.iloc[start : start + 70]
        part.to_parquet(tmp_path / "folder" / f"part.{i}.parquet", row_group_size=30, index=False)
    plain.iloc[:0].to_parquet(tmp_path / "folder" / "part.3b.parquet", index=False)
    return tmp_path, made


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_parquet(parquet, n_jobs):
    import pyarrow.parquet as pq

    place, made = parquet
    model = LinearForecaster(lookback=L, horizon=H)
    expected = copy.deepcopy(model).fit(made)
    opened = pq.ParquetFile(place / "one.parquet")
    for source in (place / "one.parquet", str(place / "folder"), opened):
        assert_same(fit_stream(model, source, time="ds", n_jobs=n_jobs, block_rows=20), expected)
    made.rename_axis(None).to_parquet(place / "unnamed.parquet", row_group_size=77)
    found = fit_stream(model, place / "unnamed.parquet", time="__index_level_0__", n_jobs=n_jobs)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-10)
    counted = copy.deepcopy(model).fit(made[["b", "a"]].reset_index(drop=True))
    found = fit_stream(model, place / "one.parquet", columns=["b", "a"], n_jobs=n_jobs)
    assert_same(found, counted)


def test_parquet_days_are_dates(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    made = frame(freq="D")
    columns = {"ds": pa.array(made.index.date, pa.date32()), **{c: made[c] for c in "abc"}}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    model = LinearForecaster(lookback=L, horizon=H)
    found = fit_stream(model, tmp_path / "x.parquet", time="ds")
    np.testing.assert_allclose(found.coef_, model.fit(made).coef_, atol=1e-10)
    assert found.predict().index[0] == model.predict().index[0]


def test_parquet_nulls_are_missing_values(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    values = pd.DataFrame(np.round(series(gaps=False)).astype(int)).astype("Int64")
    values.columns = ["a", "b", "c"]
    values.iloc[300:310, 1] = pd.NA
    values.to_parquet(tmp_path / "x.parquet", index=False)
    model = LinearForecaster(lookback=L, horizon=H)
    found = fit_stream(model, tmp_path / "x.parquet", block_rows=50)
    assert_same(found, model.fit(values.astype(float)))


# ---------------------------------------------------------------------------------------------
# bad input


def refused(source, message, **options):
    model = options.pop("model", LinearForecaster(lookback=L, horizon=H))
    with pytest.raises(ValueError, match=message):
        fit_stream(model, source, **options)


def test_bad_chunks():
    rows = series(100)
    refused([rows, rows[:, :2]], "chunk 1 has 2 channels, chunk 0 has 3")
    refused([rows] * 20 + [rows[:, :2]], "chunk 20 has 2 channels")
    refused([], "the source holds no rows")
    refused(iter(()), "the source holds no rows")
    refused([rows[:0], rows[:0]], "all of its chunks or partitions are")
    refused(rows[:0], "the source holds no rows")
    refused([rows[:10], rows[10:20]], "needs at least 30 rows")
    refused([rows, rows[None]], r"chunk 1 must be a series of shape")
    refused([rows, np.full((5, 3), np.inf)], "chunk 1 contains infinity")
    refused([np.array(["a"])], "chunk 0")
    refused([np.full((100, 3), np.nan)], "no window of lookback")
    refused(rows[None], "an array must have the shape")
    refused(3, "the source must be an iterable of chunks")


def test_bad_models_and_options():
    from mixlin import MoLEForecaster

    rows = series(100)
    refused(rows, "fit_stream fits LinearForecaster", model=MoLEForecaster(horizon=H))
    refused(rows, "the model has no horizon", model=LinearForecaster())
    refused(rows, "alpha", model=LinearForecaster(horizon=H, alpha=-1.0))
    refused(rows, "block_rows must be", block_rows=0)
    refused(rows, "time= and columns= are for Parquet", time="ds")
    for option in ({"transform": "log"}, {"forgetting": 0.5}):
        solver = ExactSolver(**option)
        model = LinearForecaster(lookback=L, horizon=H, solver=solver)
        refused(rows, next(iter(option)), model=model)
    model = LinearForecaster(lookback=L, horizon=H, solver=ExactSolver(calendar=2))
    refused(rows, "times", model=model)


def test_bad_times():
    pd = pytest.importorskip("pandas")
    made = frame(gaps=False)
    one, two = made.iloc[:500], made.iloc[500:]
    unsorted = "the index is not sorted|not in the order of time"
    refused([two, one], unsorted)
    refused([one, made.iloc[499:]], "duplicate label|repeats the time")
    refused([one, one], unsorted)
    halves = two.set_axis(pd.date_range(two.index[0], periods=len(two), freq="30min"))
    refused([one, halves], "one frequency|one is missing|irregular")
    # also where it is found long after the plan was made
    many = [made.set_axis(made.index + pd.Timedelta(hours=T * i)) for i in range(25)]
    late = many[-1].set_axis(many[-1].index + pd.Timedelta("7min"))
    refused(iter([*many[:-1], late]), "chunk 24 does not step by 'h'")
    counted = two.reset_index(drop=True)
    for before in (1, 20):
        chunks = [*many[:before], counted]
        refused(chunks, f"the index of chunk {before} holds integers, that of the first rows Date")
    refused([one, two.tz_localize("UTC")], "DatetimeIndex UTC")
    refused([one, two.to_numpy()], "chunk 1 is of kind 'array'")
    refused([one, two[["b", "a", "c"]]], "same columns in the same order")
    refused([*many[:20], many[-1].set_axis(many[-1].index + pd.Timedelta(days=9999))], "missing")


def test_bad_times_between_processes():
    pd = pytest.importorskip("pandas")
    made = frame(gaps=False)
    swapped = pd.concat([made.iloc[:300], made.iloc[600:], made.iloc[300:600]])
    refused(swapped, "not sorted|not in the order of time", n_jobs=2, block_rows=300)


def test_bad_parquet(parquet):
    pd = pytest.importorskip("pandas")
    place, made = parquet
    refused(place / "none.parquet", "there is no file or folder")
    (place / "empty").mkdir()
    refused(place / "empty", "holds no file that ends with")
    refused(place / "one.parquet", "has columns that are no numbers: ds")
    refused(place / "one.parquet", "has no column 'when'", time="when")
    refused(place / "one.parquet", "has no column 'd'", columns=["d"])
    parts = made.reset_index()
    parts.iloc[300:].to_parquet(place / "empty" / "1.parquet", index=False)
    parts.iloc[:300].to_parquet(place / "empty" / "2.parquet", index=False)
    for n_jobs in (None, 2):
        message = "2.parquet is not in the order of time|the index is not sorted|next partition"
        refused(place / "empty", message, time="ds", n_jobs=n_jobs)
    parts[["ds", "a"]].to_parquet(place / "empty" / "3.parquet", index=False)
    refused(place / "empty", "All files must hold the same columns", time="ds")
    everything = pd.concat([parts.iloc[:300], parts.iloc[299:]])
    everything.to_parquet(place / "twice.parquet", row_group_size=300, index=False)
    refused(place / "twice.parquet", "duplicate label|repeats the time", time="ds")
    parts.iloc[:0].to_parquet(place / "nothing.parquet", index=False)
    refused(place / "nothing.parquet", "the source holds no rows", time="ds")


def test_a_lost_worker_process(monkeypatch):
    class TerminatedWorkerError(Exception):
        pass

    def lose(self, tasks):
        list(tasks)
        raise TerminatedWorkerError

    monkeypatch.setattr(joblib.Parallel, "__call__", lose)
    with pytest.raises(RuntimeError, match="a worker process died"):
        fit_stream(LinearForecaster(lookback=L, horizon=H), series(), n_jobs=2, block_rows=50)


def test_summaries_of_other_plans_are_refused():
    rows = series(100, gaps=False)
    first = read_chunk(rows, "rows").empty()
    one = StreamPlan(SeriesSums(L, H, np.zeros(C)), first).summarize([rows])
    two = StreamPlan(SeriesSums(L, H, np.ones(C)), first).summarize([rows])
    assert isinstance(one, PartitionSummary)
    with pytest.raises(ValueError, match="different level"):
        one.merged(two)
