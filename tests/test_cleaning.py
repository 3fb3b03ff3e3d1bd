"""Repairs of contexts: what is replaced, by what, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from mixlin.experts import BankMatrices, default_bank
from mixlin.experts.cleaning import clean

LENGTH = 240
BANK = default_bank().select(
    [
        "period 24, slow decay, slow random-walk level",
        "period 24, smooth, slow decay, slowly reverting level, some noise",
        "random walk, noise 0.3",
        "mean reversion over 10 steps, noise 0.01",
    ]
)
MATRICES = BankMatrices(BANK, n_jobs=1)
SEEDS = st.integers(0, 2**32 - 1)


def covariance(expert, length=LENGTH):
    return linalg.toeplitz(BANK[expert].covariances(length))


def draw_series(seed, expert, n_series=1, length=LENGTH):
    """Draw series of an expert's own model."""
    factor = np.linalg.cholesky(covariance(expert, length))
    x = np.random.default_rng(seed).normal(size=(n_series, length)) @ factor.T
    return 50 + 3 * (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def conditional_mean(x, kept, expert):
    """Return what the expert makes of the values that are not kept (universal kriging)."""
    full = covariance(expert, len(x))
    inverse = np.linalg.inv(full[np.ix_(kept, kept)])
    ones = np.ones(kept.sum())
    level = ones @ inverse @ x[kept] / (ones @ inverse @ ones)
    return level + full[np.ix_(~kept, kept)] @ inverse @ (x[kept] - level)


def dense_precision(expert, length=LENGTH):
    inverse = np.linalg.inv(covariance(expert, length))
    level = inverse.sum(axis=1)
    return inverse - np.outer(level, level) / level.sum()


def cleaned_one(x, expert, spike=6.0, shift=10.0):
    """Clean one series without gaps as the rules are written, with dense matrices."""
    n, precision = len(x), dense_precision(expert, len(x))
    center, scale = np.median(x), x.std()
    y = (x - center) / scale
    steps = np.triu(np.ones((n, n)))  # step k is 0 before value k
    inner = np.arange(5, n - 5)
    energy = np.full(n + 1, np.inf)  # of the steps that are looked at
    energy[inner] = np.einsum("ki,ij,kj->k", steps, precision, steps)[inner]
    found = stuck_values(y)
    if found.mean() > 0.25:
        found[:] = False
    bound = spike * (1.4826 * np.median(np.abs(precision @ y) / np.diag(precision)) + 1e-6)
    n_spikes = 0
    for number in range(4):
        product = precision @ y
        residual = np.abs(product) / np.diag(precision)
        evidence = residual * np.sqrt(np.diag(precision))
        height = np.abs(np.append(steps @ product, 0)) / np.sqrt(energy)
        highest = residual[~found].max()
        new = [
            k
            for k in np.flatnonzero(~found)
            if residual[k] > max(bound, 0.5 * highest)
            and residual[k] >= 0.5 * residual[max(0, k - 2) : k + 3].max()
            and max(height[k], height[k + 1]) < evidence[k]
        ]
        if n_spikes + len(new) > 0.05 * n:
            new = []
        n_spikes += len(new)
        found[new] = True
        if new or (number == 0 and found.any()):
            y[found] = conditional_mean(y, ~found, expert)
        if not new and number:
            break
    breaks = []
    for _ in range(2):
        product = precision @ y
        noise = np.sqrt(y @ product / (n - 1))
        height = np.append(steps @ product, 0)
        best = np.argmax(np.abs(height) / np.sqrt(energy))
        change = height[best] / energy[best]
        if abs(height[best]) / np.sqrt(energy[best]) <= shift * noise:
            break
        if abs(change) <= 0.7 * y.std():
            break
        breaks.append(int(best))
        y[:best] += change
    return y * scale + center, found, breaks


def stuck_values(y):
    repeats = np.abs(np.diff(y)) <= 1e-9
    found = np.zeros(len(y), bool)
    k = 0
    while k < len(repeats):
        stop = k
        while stop < len(repeats) and repeats[stop]:
            stop += 1
        if stop - k + 1 >= 12 and repeats.sum() - (stop - k) < 0.05 * len(y):
            found[k : stop + 1] = True
        k = max(stop, k + 1)
    return found


def corrupted(seed, expert):
    """Draw a series with spikes, a stuck run or a shift, or several of them."""
    rng = np.random.default_rng(seed)
    x = draw_series(seed, expert)[0]
    if rng.random() < 0.5:
        at = rng.choice(LENGTH, rng.integers(1, 8), replace=False)
        x[at] += rng.normal(size=len(at)) * 20
    if rng.random() < 0.4:
        start = rng.integers(0, LENGTH - 10)
        x[start : start + rng.integers(8, 70)] = x[start]
    if rng.random() < 0.4:
        x[: rng.integers(1, LENGTH)] += rng.normal() * 15
    return x


@pytest.mark.parametrize("expert", range(4))
def test_all_series_at_once_are_one_after_another(expert):
    series = np.stack([corrupted(seed, expert) for seed in range(40)])
    got = clean(series, MATRICES, np.full(40, expert))
    wanted = [cleaned_one(x, expert) for x in series]
    np.testing.assert_array_equal(got.replaced, [found for _, found, _ in wanted])
    np.testing.assert_allclose(got.values, [values for values, _, _ in wanted], atol=1e-6)
    breaks = [[*places, 0, 0][:2] for _, _, places in wanted]
    np.testing.assert_array_equal(got.breaks, breaks)
    assert got.replaced.any(axis=1).sum() > 10
    assert (got.breaks > 0).any() or expert != 1


@pytest.mark.parametrize("off", [{"spike": 5.0}, {"shift": 3.0}])
def test_the_comparison_sees_another_bound(off):
    series = np.stack([corrupted(seed, 1) for seed in range(40)])
    got = clean(series, MATRICES, np.full(40, 1))
    wanted = [cleaned_one(x, 1, **off) for x in series]
    different = [
        (found != a).any() or [*places, 0, 0][:2] != b.tolist()
        for (_, found, places), a, b in zip(wanted, got.replaced, got.breaks, strict=True)
    ]
    assert any(different)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, expert=st.integers(0, 3))
def test_series_of_the_model_are_not_touched(seed, expert):
    series = draw_series(seed, expert, n_series=4)
    got = clean(series, MATRICES, np.full(4, expert))
    touched = (got.values != series).any(axis=1)
    assert touched.sum() <= 1  # one in many thousands has a residual of six deviations
    np.testing.assert_array_equal(got.values[~touched], series[~touched])
    np.testing.assert_array_equal(touched, (got.replaced.any(1) | got.breaks.any(1)))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, expert=st.integers(0, 3), place=st.integers(0, LENGTH - 1))
def test_a_spike_is_replaced_by_what_the_rest_says(seed, expert, place):
    series = draw_series(seed, expert)
    spiked = series.copy()
    spiked[0, place] += 100.0
    got = clean(spiked, MATRICES, [expert])
    assert got.replaced[0, place]
    assert got.replaced.sum() <= 3
    kept = ~got.replaced[0]
    np.testing.assert_allclose(
        got.values[0, ~kept], conditional_mean(series[0], kept, expert), atol=1e-6
    )
    np.testing.assert_array_equal(got.values[0, kept], series[0, kept])
    other = conditional_mean(series[0], kept, (expert + 1) % 4)
    assert np.abs(got.values[0, ~kept] - other).max() > 1e-4


@pytest.mark.parametrize(("start", "count"), [(100, 12), (60, 40), (0, 20), (LENGTH - 24, 24)])
def test_a_stuck_run_is_replaced(start, count):
    series = draw_series(4, 0)
    stuck = series.copy()
    stuck[0, start : start + count] = stuck[0, start]
    got = clean(stuck, MATRICES, [0])
    assert got.replaced[0, start : start + count].all()
    assert got.replaced.sum() <= count + 2
    before = np.abs(stuck - series)[0, start : start + count].mean()
    after = np.abs(got.values - series)[0, start : start + count].mean()
    assert after < 0.5 * before


def test_runs_that_are_too_short_or_the_rule_stay():
    series = draw_series(4, 0, n_series=3)
    series[0, 100:111] = series[0, 100]
    nights = np.arange(LENGTH) % 48 < 12
    series[1, nights] = 0.0  # every other day, so that one run's repeats are not the only ones
    series[2, 40:110] = series[2, 40]
    got = clean(series, MATRICES, np.zeros(3, int))
    assert got.replaced[0].sum() < 11
    assert not got.replaced[1, nights].any()
    assert not got.replaced[2].any()  # more than a quarter


@pytest.mark.parametrize("expert", [0, 1])
@pytest.mark.parametrize("place", [30, 120, 200])
def test_a_shift_is_taken_out(expert, place):
    series = draw_series(7, expert)
    moved = series.copy()
    moved[0, :place] -= 60.0
    got = clean(moved, MATRICES, [expert])
    assert got.breaks[0, 0] == place
    assert got.shifts[0, 0] == pytest.approx(60.0, abs=3.0)
    np.testing.assert_array_equal(got.values[0, place:], series[0, place:])
    np.testing.assert_allclose(got.values[0, :place] - moved[0, :place], got.shifts[0].sum())
    assert not got.replaced[0].any()


def test_a_walk_has_no_shift():
    series = draw_series(9, 2)
    series[0, :120] -= 3.0
    assert not clean(series, MATRICES, [2]).breaks.any()


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    expert=st.integers(0, 3),
    power=st.integers(-12, 12),
    sign=st.sampled_from([-1.0, 1.0]),
    shift=st.floats(-100, 100),
)
def test_shift_and_scale(seed, expert, power, sign, shift):
    series = np.stack([corrupted(seed, expert), corrupted(seed + 1, expert)])
    plain = clean(series, MATRICES, [expert, expert])
    factor = sign * 10.0**power
    moved = clean(factor * (series + shift), MATRICES, [expert, expert])
    np.testing.assert_array_equal(moved.replaced, plain.replaced)
    np.testing.assert_array_equal(moved.breaks, plain.breaks)
    np.testing.assert_allclose(moved.values / factor - shift, plain.values, atol=1e-6)
    np.testing.assert_allclose(moved.shifts / factor, plain.shifts, atol=1e-6)


def test_missing_values_stay_missing_and_are_conditioned_on():
    series = draw_series(3, 1, n_series=3)
    gaps = series.copy()
    gaps[0, 50:70] = np.nan
    gaps[1, np.random.default_rng(0).random(LENGTH) < 0.3] = np.nan
    gaps[1, [29, 31]], gaps[1, 30] = series[1, [29, 31]], np.nan
    gaps[0, 72] += 100.0
    gaps[1, 31] += 100.0
    gaps[2, -1] = np.nan
    before = gaps.copy()
    got = clean(gaps, MATRICES, [1, 1, 1])
    np.testing.assert_array_equal(gaps, before)
    np.testing.assert_array_equal(np.isnan(got.values), np.isnan(gaps))
    for row, step in ((0, 72), (1, 31)):
        assert np.flatnonzero(got.replaced[row]).tolist() == [step]
        kept = np.isfinite(gaps[row])
        kept[step] = False
        expected = np.full(LENGTH, np.nan)
        expected[~kept] = conditional_mean(gaps[row], kept, 1)
        assert got.values[row, step] == pytest.approx(expected[step], abs=1e-6)
    assert not got.replaced[2].any()
    assert not (got.replaced & np.isnan(gaps)).any()


def test_infinity_counts_as_missing():
    series = draw_series(3, 1)
    series[0, [20, 90]] = np.inf, -np.inf
    got = clean(series, MATRICES, [1])
    np.testing.assert_array_equal(got.values, series)


def test_series_that_cannot_be_judged_are_left_alone():
    rng = np.random.default_rng(0)
    series = np.full((9, LENGTH), 5.0)
    series[1] = np.nan
    series[2, 7:] = np.nan
    series[3] = 1e12 + 1e-4 * rng.normal(size=LENGTH)
    series[4] = np.where(rng.random(LENGTH) < 0.03, 40.0, 0.0)  # rare events are no outliers
    series[5] = draw_series(0, 1)[0] + 300 * (rng.random(LENGTH) < 0.15)  # nor are frequent ones
    series[6] = np.where(np.arange(LENGTH) < 100, 0.0, 1.0)
    series[7] = 1e308 * np.sign(rng.normal(size=LENGTH))
    series[8, 10:] = np.inf
    with np.errstate(all="raise"):
        got = clean(series, MATRICES, np.ones(9, int))
    np.testing.assert_array_equal(got.values, series)
    assert not got.replaced.any()
    assert not got.breaks.any()


@pytest.mark.parametrize("length", [0, 1, 5, 19, 20, 21, 33])
def test_short_series(length):
    series = np.random.default_rng(length).normal(size=(3, length))
    series[1, : length // 2] = np.nan
    got = clean(series, MATRICES, [0, 2, 3])
    assert got.values.shape == got.replaced.shape == (3, length)
    np.testing.assert_array_equal(np.isnan(got.values), np.isnan(series))
    if length < 20:
        np.testing.assert_array_equal(got.values, series)
    assert clean(np.empty((0, length)), MATRICES, []).values.shape == (0, length)


def test_a_series_does_not_depend_on_its_neighbours(monkeypatch):
    series = np.stack([corrupted(seed, seed % 4) for seed in range(24)])
    best = np.arange(24) % 4
    together = clean(series, MATRICES, best)
    monkeypatch.setattr("mixlin.experts.cleaning._BLOCK_VALUES", 700)
    monkeypatch.setattr("mixlin.experts.cleaning._PRODUCT_VALUES", 300)
    for row in range(24):
        alone = clean(series[row : row + 1], MATRICES, best[row : row + 1])
        np.testing.assert_array_equal(alone.replaced[0], together.replaced[row])
        np.testing.assert_allclose(alone.values[0], together.values[row], rtol=1e-9)
    blocks = clean(series, MATRICES, best)
    np.testing.assert_array_equal(blocks.replaced, together.replaced)
    np.testing.assert_allclose(blocks.values, together.values, rtol=1e-9)


@pytest.mark.parametrize(
    ("series", "best"), [(np.zeros(30), [0]), (np.zeros((2, 30)), [0]), (np.zeros((1, 30)), 0)]
)
def test_shapes_are_checked(series, best):
    with pytest.raises(ValueError, match=r"series must have shape \(n_series, length\)"):
        clean(series, MATRICES, best)
