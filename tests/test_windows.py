"""Cutting windows, filling holes, splitting over time, and telling containers apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.base.fingerprint import fingerprint, starts_inside
from mixlin.windows import (
    interpolate,
    is_many,
    is_pandas,
    make_windows,
    read_values,
    time_series_split,
)

lengths = st.integers(1, 8)


@settings(max_examples=60, deadline=None)
@given(lengths, lengths, st.integers(1, 5), st.integers(0, 30), st.sampled_from([None, 1, 3]))
def test_windows_are_the_rows_they_should_be(lookback, horizon, step, extra, n_channels):
    n_rows = lookback + horizon + extra
    rows = np.random.default_rng(0).normal(
        size=n_rows if n_channels is None else (n_rows, n_channels)
    )
    X, y = make_windows(rows, lookback, horizon, step=step)
    starts = range(0, extra + 1, step)
    assert len(X) == len(y) == len(starts)
    for k, start in enumerate(starts):
        np.testing.assert_array_equal(X[k], rows[start : start + lookback])
        np.testing.assert_array_equal(y[k], rows[start + lookback : start + lookback + horizon])
    assert np.shares_memory(X, rows)
    assert not X.flags.writeable


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=40), lengths, st.integers(1, 4))
def test_exactly_the_windows_that_touch_a_hole_are_left_out(holes, lookback, horizon):
    rows = np.arange(2.0 * len(holes)).reshape(-1, 2)
    rows[np.array(holes), 1] = np.nan
    X, y = make_windows(rows, lookback, horizon)
    length = lookback + horizon
    expected = [
        rows[k : k + length]
        for k in range(len(rows) - length + 1)
        if not any(holes[k : k + length])
    ]
    assert len(X) == len(expected)
    for k, window in enumerate(expected):
        np.testing.assert_array_equal(np.concatenate([X[k], y[k]]), window)


def test_windows_keep_float32_and_the_names_of_arguments():
    X, y = make_windows(series=np.arange(9, dtype=np.float32), lookback=3, horizon=2, step=2)
    assert X.dtype == y.dtype == np.float32
    assert X.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert y.tolist() == [[3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.arange(5.0), 4, 2), "needs at least 6 rows with horizon=2; the series has 5"),
        ((np.arange(5.0), 0, 2), "must be at least 1; got 0, 2 and 1"),
        ((np.arange(5.0), 2, -1), "must be at least 1; got 2, -1 and 1"),
        ((np.zeros((3, 2, 2)), 1, 1), r"got shape \(3, 2, 2\)"),
        (([[1.0], [2.0]], 1, 1), "list of lists"),
        (([1.0, np.inf, 2.0], 1, 1), "infinity"),
        ((["a", "b", "c"], 1, 1), "holds strings"),
    ],
)
def test_what_can_not_be_cut_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        make_windows(*arguments)


def test_a_step_is_at_least_one():
    with pytest.raises(ValueError, match="got 2, 2 and 0"):
        make_windows(np.arange(9.0), 2, 2, step=0)


# -- interpolation ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda h: not all(h)))
def test_interpolation_keeps_what_is_known_and_is_exact_on_lines(holes):
    holes = np.array(holes)
    line = 3.0 - 2.0 * np.arange(len(holes))
    noise = np.random.default_rng(0).normal(size=len(holes))
    rows = np.stack([line, noise], axis=1)
    rows[holes] = np.nan
    filled = interpolate(rows)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~holes], rows[~holes])
    known = np.flatnonzero(~holes)
    inner = slice(known[0], known[-1] + 1)
    np.testing.assert_allclose(filled[inner, 0], line[inner], atol=1e-12)
    np.testing.assert_array_equal(filled[: known[0]], np.tile(filled[known[0]], (known[0], 1)))
    assert (filled[known[-1] :] == filled[known[-1]]).all()
    np.testing.assert_array_equal(interpolate(rows[:, 1]), filled[:, 1])


def test_interpolation_copies_and_keeps_the_dtype():
    rows = np.array([1.0, np.nan, 2.0], dtype=np.float32)
    filled = interpolate(rows)
    assert filled.dtype == np.float32
    assert filled.tolist() == [1.0, 1.5, 2.0]
    assert np.isnan(rows[1])
    whole = np.ones(3)
    assert not np.shares_memory(interpolate(whole), whole)
    with pytest.raises(ValueError, match="channel 1 has no observed value"):
        interpolate(np.array([[1.0, np.nan], [2.0, np.nan]]))


# -- splitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 2, 24])
def test_no_target_of_training_is_a_target_of_testing(horizon):
    n_windows = 400
    targets = np.arange(n_windows)[:, None] + np.arange(horizon)
    cv = time_series_split(horizon, n_splits=4)
    for train, test in cv.split(targets):
        assert not set(targets[train].ravel()) & set(targets[test].ravel())
        assert targets[train].max() + 1 == targets[test].min()


def test_sizes_of_folds_are_scikit_learns():
    cv = time_series_split(6, 3, test_size=20, max_train_size=50)
    assert (cv.gap, cv.n_splits, cv.test_size, cv.max_train_size) == (5, 3, 20, 50)
    assert [len(test) for _, test in cv.split(np.zeros(200))] == [20, 20, 20]
    with pytest.raises(ValueError, match="horizon must be at least 1; got 0"):
        time_series_split(0)


# -- containers ---------------------------------------------------------------------------------


def test_many_series_are_lists_or_tuples_of_arrays_and_frames():
    one = np.zeros(3)
    assert is_many([one])
    assert is_many((one, one[:, None]))
    for other in (one, one.tolist(), [one.tolist()], [one, [1.0]], [], (), None, "ab", {"a": one}):
        assert not is_many(other)
    assert not is_many([np.float64(1.0), np.float64(2.0)])
    assert not is_many([np.array(1.0)])


def test_frames_are_told_from_arrays():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    assert is_pandas(frame)
    assert is_pandas(frame["a"])
    assert not is_pandas(frame.to_numpy())
    assert not is_pandas(frame.index)
    assert is_many([frame, frame["a"], np.zeros(3)])
    values, container = read_values(frame)
    assert values.tolist() == [[1, 3], [2, 4]]
    assert (container.kind, container.ndim) == ("frame", 2)
    values, container = read_values(frame["a"])
    assert values.shape == (2, 1)
    assert (container.kind, container.ndim, container.columns) == ("series", 1, "a")


def test_arrays_are_read_without_a_copy_where_possible():
    for dtype in (np.float32, np.float64):
        rows = np.ones((5, 2), dtype)
        values, container = read_values(rows)
        assert np.shares_memory(values, rows)
        assert values.dtype == dtype
        assert (container.kind, container.ndim) == ("array", 2)
    assert read_values([1, 2, None])[0].ravel()[:2].tolist() == [1.0, 2.0]
    assert np.isnan(read_values([1, 2, None])[0][2, 0])
    assert read_values(np.array([True, False]))[0].dtype == np.float64
    assert read_values(np.ones(3, np.float16))[0].dtype == np.float64


# -- fingerprints -------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(31, 300), st.integers(0, 200), st.integers(31, 90))
def test_rows_that_were_seen_are_recognized(n_rows, start, n_asked):
    rows = np.random.default_rng(n_rows).normal(size=(n_rows, 2))
    start = min(start, n_rows - 31)
    assert starts_inside(rows[start : start + n_asked], fingerprint(rows))
    assert not starts_inside(rows[start : start + n_asked] + 1e-9, fingerprint(rows))
    assert not starts_inside(rows[start : start + n_asked, ::-1], fingerprint(rows))


@pytest.mark.parametrize("n_rows", range(1, 34))
def test_the_first_rows_are_recognized_however_few(n_rows):
    rows = np.random.default_rng(0).normal(size=(n_rows, 1))
    assert starts_inside(rows, fingerprint(rows))
    assert not starts_inside(rows + 1.0, fingerprint(rows))
    assert starts_inside(rows.astype(np.float32), fingerprint(rows.astype(np.float32)))


def test_a_fingerprint_is_small():
    rows = np.random.default_rng(0).normal(size=(100_000, 7))
    assert fingerprint(rows).runs.nbytes <= rows.nbytes / 100
    many = fingerprint(np.random.default_rng(0).normal(size=(5_000_000, 1)))
    assert many.runs.nbytes <= 2**20  # and bounded


def test_a_fingerprint_of_chunks_is_that_of_the_whole():
    rows = np.random.default_rng(0).normal(size=(1000, 2))
    known = fingerprint(rows[:7])
    for start in range(7, 1000, 3):
        known = fingerprint(rows[start : start + 3], known, continues=True)
    whole = fingerprint(rows)
    np.testing.assert_array_equal(known.runs, whole.runs)
    np.testing.assert_array_equal(known.rest, whole.rest)


def test_rows_that_repeat_one_value_are_no_sign_of_training_rows():
    rng = np.random.default_rng(0)
    night, day = np.zeros((20, 1)), np.abs(rng.normal(size=(40, 1)))
    known = fingerprint(np.concatenate([night, day, night, day + 1]))
    assert not starts_inside(np.concatenate([night, day + 2]), known)
    assert starts_inside(np.concatenate([day[8:], night, day + 1]), known)
