"""Second moments of windows against dense products in extended precision."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from mixlin.solvers import DenseSums, SeriesSums

SIZES = [(1, 1), (1, 5), (7, 1), (24, 8), (60, 20)]
T = 1200


def one_channel(kind, n_rows=T, seed=0):
    """Return values (n_rows, 1) and the level that is taken off."""
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)
    if kind == "random":
        values = rng.normal(size=n_rows)
    elif kind == "trending":
        values = 0.5 * steps + np.sin(steps / 4) + rng.normal(size=n_rows)
    elif kind == "constant":
        values = np.full(n_rows, 3.7)
    else:
        values = 1e6 + rng.normal(size=n_rows)
    return values[:, None], np.array([round(float(values.mean()), 2)])


def three_channels(n_rows=T, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, 3)).cumsum(axis=0) * [1.0, 0.1, 5.0] + [0.0, 50.0, -300.0]
    return values, values.mean(axis=0).round(1)


def with_gaps(values, seed=2, n_gaps=6):
    """Put missing values at different places of every channel."""
    rng = np.random.default_rng(seed)
    out = values.copy()
    for c in range(values.shape[1]):
        for start in rng.integers(0, len(values), n_gaps):
            out[start : start + int(rng.integers(1, 9)), c] = np.nan
    return out


def coordinates(values, lookback, horizon, level, eps=None):
    """Return (x, y[, s], 1) of every whole window of one channel, in extended precision."""
    v = values.astype(np.longdouble) - np.longdouble(level)
    length = lookback + horizon
    z = [v[t : t + length] for t in range(len(v) - length + 1)]
    z = np.array([w for w in z if np.isfinite(w).all()], dtype=np.longdouble)
    z = z.reshape(-1, length)
    columns = [z]
    if eps is not None:
        x = z[:, :lookback]
        variance = ((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
        columns.append(np.sqrt(variance + np.longdouble(eps))[:, None])
    columns.append(np.ones((len(z), 1), dtype=np.longdouble))
    return np.concatenate(columns, axis=1)


def pooled(tables, weights, scale, shift, n_values):
    """Return the moments of weighted coordinate tables, one table per selected channel."""
    total = 0
    for table, weight, s, delta in zip(tables, weights, scale, shift, strict=True):
        z = table.copy()
        z[:, :n_values] -= np.longdouble(delta)
        z[:, :-1] /= np.longdouble(s)
        total = total + (z * np.asarray(weight, dtype=np.longdouble).reshape(-1, 1)).T @ z
    return total


def plain_moments(values, lookback, horizon, level, eps=None, weights=None):
    """Return one dense Gram matrix per channel, scale one and shift zero."""
    C = values.shape[1]
    tables = [
        coordinates(values[:, c], lookback, horizon, level[c], None if eps is None else eps[c])
        for c in range(C)
    ]
    weights = [1.0] * C if weights is None else weights
    return np.array(
        [
            pooled([table], [w], [1.0], [0.0], lookback + horizon)
            for table, w in zip(tables, weights, strict=True)
        ]
    )


def each_channel(sums):
    C = sums.n_channels
    return np.array([sums.moments(np.ones(1), np.zeros(1), np.array([c])) for c in range(C)])


def assert_moments(got, expected, n_windows=0.0, ref=0.0, tolerance=1e-12):
    bound = tolerance * max(float(np.abs(expected).max()), n_windows * ref**2 * 1e-3)
    error = float(np.abs(got.astype(np.longdouble) - expected).max())
    assert error <= bound, f"error {error:.3g}, allowed {bound:.3g}"


# -- the recursion is the dense sum ----------------------------------------------------------


@pytest.mark.parametrize(("lookback", "horizon"), SIZES)
@pytest.mark.parametrize("kind", ["random", "trending", "constant", "offset"])
def test_moments_are_the_dense_sums(kind, lookback, horizon):
    values, level = one_channel(kind)
    sums = SeriesSums(lookback, horizon, level)
    sums.add(values)
    expected = plain_moments(values, lookback, horizon, level)
    n = T - lookback - horizon + 1
    assert sums.n_windows.tolist() == [n]
    assert_moments(each_channel(sums), expected, n, float(level[0]))
    # a level close to the mean leaves nothing to excuse: the values after it are exact
    assert_moments(each_channel(sums), expected)


def test_the_bound_is_tight_enough_to_see_one_window_too_many():
    values, level = one_channel("offset")
    sums = SeriesSums(24, 8, level)
    sums.add(values[:-1])
    with pytest.raises(AssertionError, match="allowed"):
        assert_moments(each_channel(sums), plain_moments(values, 24, 8, level))


@pytest.mark.parametrize("level", [0.0, 1e6 + 1000.0])
def test_a_level_that_is_far_off_stays_within_the_bound_of_the_reference_level(level):
    values, _ = one_channel("offset")
    sums = SeriesSums(24, 8, np.array([level]))
    sums.add(values)
    expected = plain_moments(values, 24, 8, [level])
    assert_moments(each_channel(sums), expected, T - 31, 1e6)


@pytest.mark.parametrize("n_rows", [16_000, 40_000])
def test_series_longer_than_a_transform(n_rows):
    values, level = one_channel("trending", n_rows)
    sums = SeriesSums(14, 2, level)
    sums.add(values)
    assert_moments(each_channel(sums), plain_moments(values, 14, 2, level))


def test_many_channels_and_float32_rows():
    values, level = three_channels()
    single = values.astype(np.float32)
    sums = SeriesSums(24, 8, level)
    sums.add(single)
    for got, expected in zip(
        each_channel(sums), plain_moments(single.astype(np.float64), 24, 8, level), strict=True
    ):
        assert_moments(got, expected)


def test_one_window_and_no_window():
    values, level = three_channels(32)
    sums = SeriesSums(24, 8, level)
    sums.add(values[:31])
    assert sums.n_windows.tolist() == [0, 0, 0]
    assert not each_channel(sums).any()
    sums.add(values)
    assert sums.n_windows.tolist() == [1, 1, 1]
    assert_moments(each_channel(sums), plain_moments(values, 24, 8, level))


# -- pooling, scale, shift, the window's scale as a coordinate -------------------------------


@pytest.mark.parametrize("eps", [None, np.array([1e-5, 1e-3, 2.0])])
@pytest.mark.parametrize("kind", [SeriesSums, DenseSums])
def test_pooling_with_scales_and_shifts(kind, eps):
    L, H = 24, 8
    values, level = three_channels()
    sums = kind(L, H, level, eps)
    if kind is SeriesSums:
        sums.add(values)
    else:
        windows = np.lib.stride_tricks.sliding_window_view(values, L + H, axis=0)
        sums.add(windows[:, :, :L], windows[:, :, L:])
    scale, shift, chosen = np.array([0.5, 20.0]), np.array([3.0, -0.25]), np.array([2, 0])
    tables = [
        coordinates(values[:, c], L, H, level[c], None if eps is None else eps[c]) for c in chosen
    ]
    expected = pooled(tables, [1.0, 1.0], scale, shift, L + H)
    assert sums.width == len(expected)
    got = sums.moments(scale, shift, chosen)
    assert_moments(got, expected)
    assert np.array_equal(got, got.T)


@pytest.mark.parametrize("kind", ["random", "trending", "constant", "offset"])
def test_the_scale_coordinate_is_the_standard_deviation_of_the_window(kind):
    values, level = one_channel(kind)
    eps = np.array([1e-5])
    sums = SeriesSums(24, 8, level, eps)
    sums.add(values)
    expected = plain_moments(values, 24, 8, level, eps)
    # running sums of squares cost some digits, of the series' own spread
    assert_moments(each_channel(sums), expected, tolerance=1e-11)
    assert_moments(each_channel(sums)[:, 32], expected[:, 32], tolerance=1e-10)


# -- gaps, chunks, stretches, weights --------------------------------------------------------


@pytest.mark.parametrize("eps", [None, np.full(3, 1e-4)])
def test_windows_that_touch_a_gap_are_left_out_channel_by_channel(eps):
    values, level = three_channels()
    gapped = with_gaps(values)
    gapped[:40, 1] = np.nan
    gapped[-3:, 2] = np.nan
    sums = SeriesSums(24, 8, level, eps)
    sums.add(gapped)
    expected = plain_moments(gapped, 24, 8, level, eps)
    assert sums.n_windows.tolist() == expected[:, -1, -1].astype(float).tolist()
    assert len(set(sums.n_windows)) == 3
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want, tolerance=1e-12 if eps is None else 1e-11)


def test_a_channel_without_values_adds_nothing():
    values, level = three_channels()
    values[:, 1] = np.nan
    sums = SeriesSums(24, 8, level)
    sums.add(values)
    assert sums.n_windows.tolist() == [T - 31, 0, T - 31]
    assert not each_channel(sums)[1].any()
    assert sums.input_variance()[1] == 0.0


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("eps", [None, np.full(3, 1e-4)])
@pytest.mark.parametrize("chunks", ["1", "5", "31", "32", "33", "ragged"])
def test_chunks_that_continue_are_one_series(chunks, eps, gaps):
    values, level = three_channels(400)
    if gaps:
        values = with_gaps(values, n_gaps=4)
    if chunks == "ragged":
        edges = np.sort(np.random.default_rng(5).integers(0, 400, 40))
    else:
        edges = np.arange(int(chunks), 400, int(chunks))
    sums = SeriesSums(24, 8, level, eps)
    for i, part in enumerate(np.split(values, edges)):
        if len(part):
            sums.add(part, continues=i > 0)
    expected = plain_moments(values, 24, 8, level, eps)
    assert sums.n_windows.tolist() == expected[:, -1, -1].astype(float).tolist()
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want, tolerance=1e-12 if eps is None else 1e-11)


def test_chunks_that_do_not_continue_are_series_of_their_own():
    values, level = three_channels(400)
    parts = np.split(values, [150, 170, 300])  # the second is too short for a window
    sums = SeriesSums(24, 8, level)
    for part in parts:
        sums.add(part)
    expected = sum(plain_moments(p, 24, 8, level) for p in parts if len(p) >= 32)
    assert sums.n_windows.tolist() == [119 + 99 + 69] * 3
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want)


@pytest.mark.parametrize("eps", [None, np.full(3, 1e-4)])
def test_many_stretches_are_folded_without_loss(eps):
    L, H = 10, 4
    values, level = three_channels(2400)
    values[::24, 0] = np.nan  # a hundred stretches: far past half of lookback + horizon
    values[5::40, 1] = np.nan
    sums = SeriesSums(L, H, level, eps)
    half = 1111
    sums.add(values[:half])
    sums.add(values[half:], continues=True)
    expected = plain_moments(values, L, H, level, eps)
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want, tolerance=1e-12 if eps is None else 1e-11)
    dense_x = [coordinates(values[:, c], L, H, 0.0)[:, :L] for c in range(3)]
    np.testing.assert_allclose(sums.input_variance(), [float(x.var()) for x in dense_x], rtol=1e-9)
    coef = np.random.default_rng(0).normal(size=(1, sums.width - 1, 2))
    constant = np.random.default_rng(1).normal(size=(3, 2))
    np.testing.assert_allclose(
        sums.quadratic(coef, constant),
        explicit_quadratic(values, L, H, level, eps, coef, constant),
        rtol=1e-10,
    )


def test_the_state_of_many_stretches_is_bounded():
    values, level = three_channels(40_000)
    values[::30] = np.nan
    sums = SeriesSums(10, 4, level)
    sums.add(values[:10_000])
    before = len(pickle.dumps(sums))
    sums.add(values[10_000:], continues=True)
    assert len(pickle.dumps(sums)) < 2 * before
    assert len(pickle.dumps(sums)) < 8 * 3 * 14 * (3 * 14 + 20) + 20_000


def test_weights_of_series():
    values, level = three_channels(600)
    gapped = with_gaps(values[300:], n_gaps=3)
    sums = SeriesSums(24, 8, level)
    sums.add(values[:300], 2.5)
    sums.add(gapped, 0.5)
    sums.add(values[:200], 0.0)
    expected = 2.5 * plain_moments(values[:300], 24, 8, level) + 0.5 * plain_moments(
        gapped, 24, 8, level
    )
    np.testing.assert_allclose(sums.n_windows, expected[:, -1, -1].astype(float), rtol=1e-14)
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want)


# -- the dense path --------------------------------------------------------------------------


def test_dense_sums_of_weighted_windows():
    L, H = 12, 3
    values, level = three_channels(300)
    eps = np.full(3, 1e-4)
    windows = np.lib.stride_tricks.sliding_window_view(values, L + H, axis=0)
    weight = np.random.default_rng(3).uniform(0, 2, len(windows))
    weight[:5] = 0
    sums = DenseSums(L, H, level, eps)
    for rows in (slice(0, 100), slice(100, None)):
        sums.add(windows[rows, :, :L], windows[rows, :, L:], weight[rows])
    expected = plain_moments(values, L, H, level, eps, [weight] * 3)
    np.testing.assert_allclose(sums.n_windows, weight.sum(), rtol=1e-13)
    for got, want in zip(each_channel(sums), expected, strict=True):
        assert_moments(got, want)


def test_dense_sums_of_a_series_with_gaps_are_those_of_the_recursion():
    L, H = 12, 3
    values, level = three_channels(300)
    values = with_gaps(values, n_gaps=3)
    dense, fast = DenseSums(L, H, level), SeriesSums(L, H, level)
    dense.add_series(values, np.full(len(values) - L - H + 1, 2.0))
    fast.add(values, 2.0)
    np.testing.assert_allclose(dense.n_windows, fast.n_windows, rtol=1e-14)
    for got, want in zip(each_channel(fast), each_channel(dense), strict=True):
        assert_moments(got, want)
    np.testing.assert_allclose(fast.input_variance(), dense.input_variance(), rtol=1e-11)


# -- sums that need no matrix ----------------------------------------------------------------


def explicit_quadratic(values, lookback, horizon, level, eps, coef, constant):
    out = []
    for c in range(values.shape[1]):
        z = coordinates(values[:, c], lookback, horizon, level[c], None if eps is None else eps[c])
        residual = z[:, :-1] @ coef[min(c, len(coef) - 1)].astype(np.longdouble) + constant[c]
        out.append((residual**2).sum(axis=0))
    return np.array(out, dtype=np.float64)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("eps", [None, np.full(3, 1e-4)])
@pytest.mark.parametrize("kind", [SeriesSums, DenseSums])
def test_quadratic_is_the_sum_of_squared_residuals(kind, eps, groups):
    L, H = 24, 8
    values, level = three_channels(700)
    values = with_gaps(values, n_gaps=3)
    sums = kind(L, H, level, eps)
    if kind is SeriesSums:
        sums.add(values[:250])
        sums.add(values[250:], continues=True)
    else:
        sums.add_series(values, np.ones(len(values) - L - H + 1))
    rng = np.random.default_rng(4)
    coef = rng.normal(size=(groups, sums.width - 1, H))
    constant = rng.normal(size=(3, H))
    np.testing.assert_allclose(
        sums.quadratic(coef, constant),
        explicit_quadratic(values, L, H, level, eps, coef, constant),
        rtol=1e-10,
    )


@pytest.mark.parametrize("kind", ["random", "trending", "constant", "offset"])
@pytest.mark.parametrize(("lookback", "horizon"), SIZES)
def test_input_variance_is_the_variance_of_all_inputs(kind, lookback, horizon):
    values, level = one_channel(kind)
    sums = SeriesSums(lookback, horizon, level)
    sums.add(values)
    x = coordinates(values[:, 0], lookback, horizon, 0.0)[:, :lookback]
    np.testing.assert_allclose(sums.input_variance(), float(x.var()), rtol=1e-10, atol=1e-24)


# -- cost ------------------------------------------------------------------------------------


def test_windows_are_never_materialized():
    L, H, n_rows = 168, 24, 120_000
    values = np.random.default_rng(0).normal(size=(n_rows, 2))
    tracemalloc.start()
    try:
        sums = SeriesSums(L, H, np.zeros(2), np.full(2, 1e-5))
        sums.add(values)
        sums.moments(np.ones(2), np.zeros(2), np.arange(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (n_rows * 2 * (L + H) * 8) / 20
    assert peak < 16 * 2**20


def test_the_state_grows_with_the_window_and_not_with_the_series():
    L, H = 96, 24
    sizes = []
    for n_rows in (500, 50_000):
        sums = SeriesSums(L, H, np.zeros(2), np.full(2, 1e-5))
        sums.add(np.random.default_rng(0).normal(size=(n_rows, 2)))
        sizes.append(len(pickle.dumps(sums)))
    assert abs(sizes[1] - sizes[0]) < 200
    assert sizes[1] < 48 * 2 * (L + H) + 4000


# ---------------------------------------------------------------------------------------------
# weights that decay, waves, channels one by one


def weighted_windows(v, length, decay):
    z = np.lib.stride_tricks.sliding_window_view(v, length)
    keep = np.isfinite(z).all(axis=1)
    weight = decay ** np.arange(len(z) - 1.0, -1.0, -1.0)
    return z[keep], weight[keep], np.arange(len(z))[keep]


@pytest.mark.parametrize("decay", [1.0, 0.99, 0.6])
@pytest.mark.parametrize("cuts", [(), (100,), (3, 9, 40, 41, 160)])
@pytest.mark.parametrize("gaps", [False, True])
def test_decaying_sums_and_waves_are_those_of_the_windows(decay, cuts, gaps):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((220, 2)).cumsum(axis=0) + 5.0
    if gaps:
        values[60:63, 0] = values[150, 1] = values[0, 1] = values[-2, 0] = np.nan
    L, H, level = 9, 5, np.array([5.0, 4.0])
    frequencies = 2 * np.pi * np.array([1, 2]) / 24
    sums = SeriesSums(L, H, level, decay=decay, frequencies=frequencies)
    for i, chunk in enumerate(np.split(values, cuts)):
        sums.add(chunk, continues=i > 0, at=7.0)
    each = sums.each_moments(np.array([1.0, 2.0]), np.zeros(2), np.arange(2))
    for c in range(2):
        z, w, at = weighted_windows(values[:, c], L + H, decay)
        z = z - level[c]
        last = at + 7.0 + L - 1
        phi = np.concatenate([f(np.outer(frequencies, last)) for f in (np.cos, np.sin)])
        dense = (z.T * w) @ z
        tolerance = 1e-10 * np.abs(dense).max()
        own = np.array([c])
        found = sums.moments(np.ones(1), np.zeros(1), own)
        assert np.abs(found[:-1, :-1] - dense).max() < tolerance
        assert np.abs(found[-1, :-1] - w @ z).max() < tolerance
        assert (
            np.abs(
                each[c] * np.r_[[(1 + c)] * (L + H), 1] * np.r_[[(1 + c)] * (L + H), 1][:, None]
                - found
            ).max()
            < tolerance
        )
        cross, gram = sums.waves(c)
        assert np.abs(cross[:, :-1] - (phi * w) @ z).max() < tolerance
        assert np.abs(cross[:, -1] - phi @ w).max() < tolerance
        assert np.abs(gram - (phi * w) @ phi.T).max() < tolerance
        variance = (
            np.average(z[:, :L].ravel() ** 2, weights=np.repeat(w, L))
            - np.average(z[:, :L].ravel(), weights=np.repeat(w, L)) ** 2
        )
        assert sums.input_variance()[c] == pytest.approx(variance, rel=1e-9)
        coef = rng.standard_normal((1, L + H, 3))
        residual = sums.quadratic(coef, np.zeros((2, 3)))[c]
        assert residual == pytest.approx((w[:, None] * (z @ coef[0]) ** 2).sum(axis=0), rel=1e-8)


def test_channels_are_added_one_by_one():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal(90), rng.standard_normal(140)
    sums = SeriesSums(6, 3, np.zeros(2), decay=0.97)
    sums.add(a[:50, None], channels=np.array([0]))
    sums.add(b[:, None], channels=np.array([1]))
    sums.add(a[50:, None], continues=True, channels=np.array([0]))
    for c, v in enumerate((a, b)):
        z, w, _ = weighted_windows(v, 9, 0.97)
        found = sums.moments(np.ones(1), np.zeros(1), np.array([c]))
        assert np.abs(found[:-1, :-1] - (z.T * w) @ z).max() < 1e-11
