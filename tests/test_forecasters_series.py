"""Series in practice: weights, channels that lack windows, chunks, namesakes, single precision."""

from __future__ import annotations

import numpy as np
import pytest

import mixlin
from mixlin import LinearForecaster, NLinearForecaster, RLinearForecaster
from mixlin.solvers import SeriesSums

L, H = 12, 3


@pytest.fixture
def walk():
    return np.random.default_rng(0).normal(size=(300, 2)).cumsum(axis=0)


@pytest.mark.parametrize("cls", [LinearForecaster, NLinearForecaster, RLinearForecaster])
def test_a_series_of_weight_zero_changes_nothing(cls, walk):
    junk = 1e3 * np.random.default_rng(1).normal(size=(300, 2)) * [1, 100]
    alone = cls(L, H).fit([walk], sample_weight=[1.0])
    with_junk = cls(L, H).fit([walk, junk], sample_weight=[1.0, 0.0])
    np.testing.assert_allclose(with_junk.coef_, alone.coef_, rtol=0, atol=1e-9)
    twice = cls(L, H).fit([walk, walk + 1], sample_weight=[3.0, 3.0])
    plain = cls(L, H).fit([walk, walk + 1])
    np.testing.assert_allclose(twice.coef_, plain.coef_, rtol=0, atol=1e-9)


def test_rows_outside_of_weighted_windows_change_nothing(walk):
    weight = np.ones(300)
    weight[200:] = 0.0
    bad = walk.copy()
    bad[200 + H :] = 1e6  # no window of positive weight reaches them
    expected = LinearForecaster(L, H).fit(walk, sample_weight=weight)
    found = LinearForecaster(L, H).fit(bad, sample_weight=weight)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=0, atol=1e-9)


def test_even_weights_with_a_missing_label_keep_the_structured_sums(walk):
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-01-01", periods=300, freq="h")
    frame = pd.DataFrame(walk, index).drop(index[100])
    weighted = LinearForecaster(L, H).fit(frame, sample_weight=np.full(299, 2.0))
    assert isinstance(weighted._sums, SeriesSums)
    plain = LinearForecaster(L, H).fit(frame)
    np.testing.assert_allclose(weighted.coef_, plain.coef_, rtol=0, atol=1e-10)


@pytest.mark.parametrize("individual", [False, "partial"])
def test_a_channel_without_a_whole_window_gets_the_others_relative_spread(individual):
    series = np.random.default_rng(0).normal(size=(300, 3)) * [1, 10, 100] + 5
    series[::10, 1] = np.nan
    model = LinearForecaster(L, H, individual=individual).fit(series)
    interval = model.predict_interval(np.full((L, 3), 5.0))
    width = interval[..., 1] - interval[..., 0]
    assert (width > 0).all()
    np.testing.assert_allclose(width[:, 1] / 10, width[:, 0], rtol=0.25)


def test_own_weights_of_a_channel_without_a_whole_window_are_refused():
    series = np.random.default_rng(0).normal(size=(300, 2))
    series[::10, 1] = np.nan
    with pytest.raises(ValueError, match=r"channels \[1\] have no window"):
        LinearForecaster(L, H, individual=True).fit(series)


def test_scores_after_a_stream_of_rows_are_those_after_one_fit(walk):
    whole = LinearForecaster(L, H).fit(walk[:200])
    stream = LinearForecaster(L, H).fit(walk[:100])
    for row in range(100, 200):
        stream.partial_fit(walk[row : row + 1])
    for fold in (walk[:150], walk[150:], walk[200:]):
        assert stream.score(fold) == pytest.approx(whole.score(fold), abs=1e-9)


def test_partial_fit_keeps_to_the_index_of_the_series(walk):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(walk, pd.date_range("2024-01-01", periods=300, freq="h"))
    model = LinearForecaster(L, H).fit(frame[:200])
    before = dict(vars(model))
    with pytest.raises(ValueError, match="has an index, the rows that continue it have none"):
        model.partial_fit(walk[200:])
    assert vars(model) == before
    assert model.partial_fit(frame[200:]).cutoff_ == frame.index[-1]


def test_partial_fit_after_many_series_asks_which_one(walk):
    model = LinearForecaster(L, H).fit([walk[:100], walk[100:200]])
    with pytest.raises(ValueError, match="not clear which one"):
        model.partial_fit(walk[200:])
    model.partial_fit(walk[200:], new_series=True)


def test_parameters_that_need_other_sums_are_refused_between_calls(walk):
    model = LinearForecaster(L, H).fit(walk[:200])
    with pytest.raises(ValueError, match="normalization was changed"):
        model.set_params(normalization="revin").partial_fit(walk[200:])
    model.set_params(normalization=None, lookback=L + 1)
    with pytest.raises(ValueError, match="lookback, horizon and channels"):
        model.partial_fit(walk[200:])


@pytest.mark.parametrize("windows", [False, True])
def test_single_precision_is_measured_in_double(windows):
    series = (1e6 + np.random.default_rng(0).normal(size=500).cumsum()).astype(np.float32)
    wide = series.astype(np.float64)
    if windows:
        pairs = [mixlin.windows.make_windows(x, L, H) for x in (series, wide)]
        single, double = (LinearForecaster(alpha=1e-2).fit(*pair) for pair in pairs)
    else:
        single, double = (LinearForecaster(L, H, alpha=1e-2).fit(x) for x in (series, wide))
    np.testing.assert_allclose(single.coef_, double.coef_, rtol=0, atol=1e-12)


def test_a_namesake_elsewhere_does_not_replace_a_forecaster(walk, tmp_path):
    path = tmp_path / "model.safetensors"
    LinearForecaster(L, H).fit(walk).save(path)

    type("LinearForecaster", (LinearForecaster,), {"__module__": "somewhere"})
    assert type(mixlin.load(path)) is LinearForecaster


def test_scoring_a_long_series_with_a_gap_copies_no_windows():
    import tracemalloc

    series = np.random.default_rng(0).normal(size=(20_000, 1))
    model = LinearForecaster(336, 4).fit(series)
    gappy = series.copy()
    gappy[10_000] = np.nan
    tracemalloc.start()
    try:
        model.score(gappy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20  # all windows would take 54 MiB


def test_windows_of_two_dimensions_get_a_hint(walk):
    model = LinearForecaster(L, H).fit(walk[:, 0])
    windows = np.lib.stride_tricks.sliding_window_view(walk[:, 0], L)
    with pytest.raises(ValueError, match=r"pass X\[:, :, None\]"):
        model.predict(windows)
    assert model.predict(windows[:, :, None]).shape == (len(windows), H, 1)


def test_timestamps_that_belong_to_nothing_are_refused(walk):
    model = LinearForecaster(L, H).fit(walk)
    with pytest.raises(ValueError, match="Leave timestamps out"):
        model.predict(timestamps=["2024-01-01"])
    with pytest.raises(ValueError, match="one entry per window"):
        model.predict(walk[None, :L], timestamps=["2024-01-01", "2024-01-02"])


def test_a_short_context_among_many_is_named(walk):
    model = LinearForecaster(L, H).fit([walk[:100], walk[100:105]])
    with pytest.raises(ValueError, match="context 1 has 5 rows"):
        model.predict()
