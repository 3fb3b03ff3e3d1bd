"""Periods found in the autocorrelation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.experts.periods import detect_periods


def seasonal_series(seed, n_series=40, length=400):
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    period = rng.uniform(3, length / 4, (n_series, 1))
    wave = sum(
        rng.normal(size=(n_series, 1)) * np.sin(2 * np.pi * k * time / period + k) / k
        for k in (1, 2, 3)
    )
    noise = rng.normal(size=(n_series, length)) * np.exp(rng.uniform(-3, 1, (n_series, 1)))
    walk = np.cumsum(rng.normal(size=(n_series, length)), axis=1) * rng.uniform(0, 0.1)
    return wave + noise + walk + 0.01 * time * rng.normal(size=(n_series, 1))


def one_period(x, lowest=0.15, twice=True):
    """Return the period of one series as the rule is written, step by step."""
    n = len(x)
    time = np.linspace(-1, 1, n)
    x = x - x.mean()
    x = x - x @ time / (time @ time) * time
    r = np.correlate(x, x, "full")[n - 1 :]
    r = (r / r[0] * n / np.maximum(n - np.arange(n), n // 4))[: n // 2 + 2]
    end = n // 3
    low = [k for k in range(end) if r[k] < np.median(r[:end])]
    peaks = [k for k in peaks_of(r, end) if low and k > low[0]]
    if not peaks or max(r[peaks]) < lowest:
        return 0.0
    period, multiple = follow(r, next(k for k in peaks if r[k] >= 0.85 * max(r[peaks])), n)
    rises = [r[k] - around(r, k, period) for k in range(len(r))]
    bound = max(lowest, 0.85 * rises[round(period)])
    earlier = [
        k
        for k in peaks_of(rises, end)
        if k < 0.9 * period and rises[k] >= bound and rises[k] - min(rises[:k]) >= lowest
    ]
    if earlier and twice:
        period, multiple = follow(rises, earlier[0], n)
    whole, unsure = round(period), max(0.12, 1 / multiple, 0.004 * period)
    period = whole if abs(period - whole) <= unsure else round(4 * period) / 4
    rise = r[round(period)] - around(r, round(period), period)
    return float(period) if period >= 3 and rise >= lowest else 0.0


def peaks_of(r, end):
    return [k for k in range(2, end) if r[k] > r[k - 1] and r[k] >= r[k + 1]]


def around(r, k, period):
    half = max(1, round(period / 2))
    return np.mean([r[abs(j)] for j in range(k - half, k + half + 1) if abs(j) < len(r)])


def follow(r, period, n):
    multiple, reached = 2, 1
    while multiple * period < n // 2:
        reach = max(1.0, 0.15 * period)
        first, last = round(multiple * period - reach), round(multiple * period + reach)
        if first < 2 or last >= n // 2 + 2:
            break
        found = first + int(np.argmax(r[first : last + 1]))
        if found in (first, last):
            break
        period, reached = found / multiple, multiple
        multiple += 1
    return period, reached


@pytest.mark.parametrize("length", [24, 37, 100, 401])
def test_all_series_at_once_are_one_after_another(length):
    series = seasonal_series(length, length=length)
    got = detect_periods(series)
    np.testing.assert_array_equal(got, [one_period(x) for x in series])
    assert len(np.unique(got)) > 3
    assert (got != [one_period(x, lowest=0.6) for x in series]).any()
    assert length < 100 or (got != [one_period(x, twice=False) for x in series]).any()


@pytest.mark.parametrize("period", [3, 5, 10, 24.5, 30.25, 77, 120])
def test_the_period_of_a_noisy_season_is_found(period):
    rng = np.random.default_rng(0)
    time = np.arange(1000)
    shape = np.exp(2 * np.cos(2 * np.pi * time / period))
    series = shape / shape.std() + 0.4 * rng.normal(size=(20, 1000)) + 0.003 * time
    got = detect_periods(series)
    assert np.median(np.abs(got - period)) == 0
    assert (got > 0).mean() >= 0.9


def test_no_period_in_noise_or_random_walks():
    rng = np.random.default_rng(1)
    assert (detect_periods(rng.normal(size=(200, 1000))) > 0).mean() < 0.02
    walks = np.cumsum(rng.normal(size=(200, 1000)), axis=1)
    assert (detect_periods(walks) > 0).mean() < 0.2


def test_a_slow_level_does_not_turn_the_period_into_a_multiple():
    rng = np.random.default_rng(2)
    level = np.cumsum(rng.normal(size=(30, 1000)), axis=1)
    level /= level.std(axis=1, keepdims=True)
    series = 2 * level + np.sqrt(2) * np.sin(2 * np.pi * np.arange(1000) / 17)
    assert (detect_periods(series) == 17).mean() > 0.9


def test_known_periods_are_left_to_their_experts():
    time = np.arange(500)
    periods = np.array([20.0, 24.0, 24.25, 25.0, 48.0])
    series = np.sin(2 * np.pi * time / periods[:, None])
    np.testing.assert_array_equal(detect_periods(series), periods)
    np.testing.assert_array_equal(detect_periods(series, known=[24, 48]), [20, 0, 0, 25, 0])
    got = detect_periods(series, known=[24, 48], tolerance=0.1)
    np.testing.assert_array_equal(got, [20, 0, 0, 0, 0])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    power=st.integers(-200, 200),
    shift=st.floats(-1e3, 1e3),
    slope=st.floats(-1, 1),
)
def test_shift_scale_and_slope_do_not_matter(seed, power, shift, slope):
    series = seasonal_series(seed, n_series=6, length=200)
    moved = 2.0**power * (series + shift + slope * np.arange(200))
    # a peak that ties with another may be told apart by rounding, in one series at most
    assert (detect_periods(moved) != detect_periods(series)).sum() <= 1


def test_gaps_are_bridged():
    series = np.sin(2 * np.pi * np.arange(600) / 31)[None, :].repeat(4, axis=0)
    series[0, 100:130] = np.nan
    series[1, :50] = np.nan
    series[2, np.random.default_rng(0).random(600) < 0.2] = np.inf
    series[3] = np.nan
    before = series.copy()
    np.testing.assert_array_equal(detect_periods(series), [31, 31, 31, 0])
    np.testing.assert_array_equal(series, before)


def test_what_does_not_move_has_no_period():
    time = np.arange(300.0)
    still = np.stack([np.zeros(300), np.full(300, 1e12), 1e6 - 0.3 * time, np.full(300, 0.1)])
    np.testing.assert_array_equal(detect_periods(still), 0)


def test_short_and_empty():
    short = np.sin(2 * np.pi * np.arange(23) / 5)[None]
    np.testing.assert_array_equal(detect_periods(short), [0])
    assert detect_periods(np.empty((0, 100))).shape == (0,)
    assert detect_periods(np.empty((3, 0))).shape == (3,)
    with pytest.raises(ValueError, match=r"shape \(n_series, length\); got shape \(23,\)"):
        detect_periods(short[0])


def test_blocks_do_not_matter(monkeypatch):
    series = seasonal_series(3, n_series=23, length=90)
    whole = detect_periods(series)
    monkeypatch.setattr("mixlin.experts.periods._BLOCK_VALUES", 400)
    np.testing.assert_array_equal(detect_periods(series), whole)
