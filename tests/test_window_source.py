"""Windows by number are the windows of the series, and a split lets nothing through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.base import Training
from mixlin.solvers import WindowSource, window_source
from mixlin.windows import make_windows

L, H, C = 7, 3, 2
quick = settings(max_examples=40, deadline=None)


def series(n_rows, n_channels=C, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_channels))


def stamps(n_rows, start="2024-03-30T05"):
    return (np.datetime64(start, "h") + np.arange(n_rows)).astype("datetime64[ns]")


def whole(source):
    """Return all windows of a source as one block."""
    return source.block(np.arange(source.n_windows))


def marked(n_rows, n_series=1):
    """Return series whose values are the number of their series and row, so that both show."""
    return [1e4 * i + np.arange(float(n_rows[i]))[:, None] + [0.0, 0.5] for i in range(n_series)]


# -- windows -----------------------------------------------------------------------------------


def test_windows_are_those_of_the_series():
    values = series(40)
    source = WindowSource.of_series(L, H, [values])
    X, y = make_windows(values, L, H)
    block = whole(source)
    assert source.n_windows == len(X) == 31
    assert source.n_channels == C
    np.testing.assert_array_equal(block.x, X.transpose(0, 2, 1))
    np.testing.assert_array_equal(block.y, y.transpose(0, 2, 1))
    assert (block.weight == 1).all()
    assert block.stamps is None
    assert not np.array_equal(block.x[1:], X[:-1].transpose(0, 2, 1))


def test_windows_of_several_series_never_cross_their_border():
    rows = [25, L + H - 1, 30]
    source = WindowSource.of_series(L, H, marked(rows, 3))
    block = whole(source)
    assert source.n_windows == 16 + 0 + 21
    values = np.concatenate([block.x, block.y], axis=2)[:, 0]
    assert (np.diff(values, axis=1) == 1).all()  # consecutive rows of one series
    assert sorted(set((values[:, 0] // 1e4).tolist())) == [0, 2]


def test_windows_that_came_as_arrays_stay_what_they_are():
    x, y = series(11, C * L).reshape(11, C, L), series(11, C * H, 1).reshape(11, C, H)
    times = stamps(11)[:, None] + np.arange(L + H) * np.timedelta64(1, "h")
    weight = np.arange(1.0, 12.0)
    source = WindowSource.of_windows(x.astype(np.float32), y, stamps=times, weight=weight)
    block = source.block(np.array([10, 0, 3]))
    assert block.x.dtype == np.float64
    np.testing.assert_array_equal(block.x, x.astype(np.float32)[[10, 0, 3]])
    np.testing.assert_array_equal(block.y, y[[10, 0, 3]])
    np.testing.assert_array_equal(block.stamps, times[[10, 0, 3]])
    np.testing.assert_array_equal(block.weight, np.repeat([[11.0], [1.0], [4.0]], C, axis=1))


@quick
@given(
    n_rows=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    missing=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 39), st.integers(0, 1))),
    lookback=st.integers(1, 6),
    horizon=st.integers(1, 4),
)
def test_gaps_close_the_channels_they_are_in_and_no_others(n_rows, missing, lookback, horizon):
    data = marked(n_rows, len(n_rows))
    for i, t, c in missing:
        if i < len(data) and t < len(data[i]):
            data[i][t, c] = np.nan
    length = lookback + horizon
    expected = []  # series, start, seen per channel
    for i, values in enumerate(data):
        for t in range(len(values) - length + 1):
            seen = ~np.isnan(values[t : t + length]).any(axis=0)
            if seen.any():
                expected.append((i, t, seen))
    fill = np.array([-7.0, -8.0])
    source = WindowSource.of_series(lookback, horizon, data, fill=fill)
    assert source.places.tolist() == [[i, t] for i, t, _ in expected]
    if not expected:
        return
    block = whole(source)
    for k, (i, t, seen) in enumerate(expected):
        assert block.weight[k].tolist() == seen.astype(float).tolist()
        for c in range(C):
            found = np.concatenate([block.x[k, c], block.y[k, c]])
            wanted = data[i][t : t + length, c] if seen[c] else np.full(length, fill[c])
            assert found.tolist() == wanted.tolist()


def test_weights_and_stamps_are_those_of_their_windows():
    rows = [30, 25]
    data = marked(rows, 2)
    data[0][12, 1] = np.nan
    weight = [np.arange(1.0, n - L - H + 2) + 100 * i for i, n in enumerate(rows)]
    times = [stamps(30), stamps(25, "2031-01-01T00")]
    source = WindowSource.of_series(L, H, data, stamps=times, weight=weight)
    numbers = np.random.default_rng(0).permutation(source.n_windows)
    block = source.block(numbers)
    for k, number in enumerate(numbers):
        i, t = source.places[number]
        assert block.stamps[k].tolist() == times[i][t : t + L + H].tolist()
        seen = ~np.isnan(data[i][t : t + L + H]).any(axis=0)
        assert block.weight[k].tolist() == (weight[i][t] * seen).tolist()
    assert (block.weight[:, 1] == 0).sum() == L + H


@pytest.mark.parametrize("elements", [1, 200, 10**9])
def test_blocks_in_turn_are_all_windows(monkeypatch, elements):
    source = WindowSource.of_series(L, H, marked([30, 25], 2), stamps=[stamps(30), stamps(25)])
    expected = whole(source)
    monkeypatch.setattr(window_source, "_BLOCK_ELEMENTS", elements)
    blocks = list(source.blocks(n_extra=5))
    assert (len(blocks) == 1) == (elements > 1e6)
    for k in range(4):
        np.testing.assert_array_equal(np.concatenate([b[k] for b in blocks]), expected[k])


@quick
@given(n_rows=st.integers(L + H, 80), most=st.integers(1, 90))
def test_thinned_windows_are_evenly_spread_and_end_with_the_newest(n_rows, most):
    source = WindowSource.of_series(L, H, [series(n_rows)])
    few = source.thinned(most)
    starts = few.places[:, 1]
    assert 1 <= few.n_windows <= most
    assert starts[-1] == source.places[-1, 1]
    assert few.n_windows == min(most, source.n_windows)
    steps = np.diff(starts)
    assert (steps > 0).all()
    if len(steps):
        assert steps.max() <= 2 * source.n_windows / few.n_windows + 1


@pytest.mark.parametrize("step", [24, 25, 48])
def test_thinned_windows_see_every_hour_of_the_day(step):
    source = WindowSource.of_series(L, H, [series(24 * 400)])
    starts = source.thinned(source.n_windows // step).places[:, 1]
    counts = np.bincount(starts % 24, minlength=24)
    assert counts.min() > 0.4 * counts.mean()
    assert np.bincount(source.places[::24, 1] % 24, minlength=24).min() == 0  # as an even step does


def test_subsets_keep_the_order_they_are_asked_in():
    source = WindowSource.of_series(L, H, [series(30)])
    numbers = np.array([5, 2, 19])
    np.testing.assert_array_equal(whole(source.subset(numbers)).x, source.block(numbers).x)
    assert not np.array_equal(whole(source.subset(numbers)).x, source.block(np.sort(numbers)).x)


# -- splits ------------------------------------------------------------------------------------


def n_held(validation, n):
    return validation if validation >= 1 else int(validation * n)


@quick
@given(
    n_rows=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    validation=st.integers(1, 50) | st.floats(0.01, 0.9),
    lookback=st.integers(1, 6),
    horizon=st.integers(1, 5),
    gaps=st.sets(st.integers(0, 59), max_size=4),
)
def test_no_training_window_reaches_into_what_is_held_out(
    n_rows, validation, lookback, horizon, gaps
):
    data = marked(n_rows, len(n_rows))
    for t in gaps:
        if t < len(data[0]):
            data[0][t] = np.nan
    source = WindowSource.of_series(lookback, horizon, data)
    training, held_out = source.split(validation)
    border = [len(v) - n_held(validation, len(v)) for v in data]
    for i, t in training.places:
        assert t + lookback + horizon <= border[i]
    for i, t in held_out.places:
        assert border[i] <= t + lookback
        assert t + lookback + horizon <= len(data[i])
    # and nothing more is left out than has to be: targets that straddle the border
    every = {tuple(p) for p in source.places.tolist()}
    kept = {tuple(p) for part in (training, held_out) for p in part.places.tolist()}
    for i, t in every - kept:
        assert t + lookback < border[i] < t + lookback + horizon
    # the single expert is fitted on the very rows that training windows lie in
    rows = Training(lookback, horizon, series=data).without_end(validation).series
    assert [len(v) for v in rows] == [b for b in border if b >= lookback + horizon]


@quick
@given(n=st.integers(2, 60), validation=st.integers(1, 50) | st.floats(0.01, 0.9))
def test_windows_of_arrays_are_split_with_a_gap(n, validation):
    x, y = np.arange(n * L, dtype=float).reshape(n, 1, L), np.zeros((n, 1, H))
    source = WindowSource.of_windows(x, y)
    training, held_out = source.split(validation)
    held = n_held(validation, n)
    first = max(0, n - held)
    assert held_out.places[:, 1].tolist() == list(range(first, n))
    between = first - training.n_windows
    assert training.places[:, 1].tolist() == list(range(training.n_windows))
    assert min(H - 1, first // 4) == between  # windows one step apart share H - 1 targets
    rows = Training(L, H, windows=(x, y)).without_end(validation).windows[0]
    if held:
        assert len(rows) == training.n_windows


def test_a_split_without_its_gap_would_be_noticed():
    source = WindowSource.of_series(L, H, [series(60)])
    training, held_out = source.split(12)
    border = 60 - 12
    assert training.places[-1, 1] + L + H == border
    assert held_out.places[0, 1] + L == border
    assert held_out.places[-1, 1] + L + H == 60
    touching = source.subset(slice(0, training.n_windows + 1))
    assert touching.places[-1, 1] + L + H > border


def test_series_that_are_too_short_to_hold_out_have_no_windows_there():
    data = [series(40), series(L + H), series(2)]
    training, held_out = WindowSource.of_series(L, H, data).split(0.2)
    assert set(training.places[:, 0].tolist()) == {0}
    assert set(held_out.places[:, 0].tolist()) == {0}
    nothing, _ = WindowSource.of_series(L, H, [series(20)]).split(15)
    assert nothing.n_windows == 0
