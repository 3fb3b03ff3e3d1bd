from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
    SeriesDecomposer,
)
from mixlin.backtesting import evaluate_ltsf, spans
from mixlin.datasets import ltsf_split, make_seasonal


def walk(n_rows, n_channels, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((n_rows, n_channels)).cumsum(axis=0)
    return Bunch(name="walk", data=data * np.arange(1, n_channels + 1) + 100)


def by_hand(estimator, bunch, lookback, horizon, split):
    """Score with all windows written out one by one."""
    data = np.asarray(bunch.data, dtype=float)
    borders = ltsf_split(bunch)
    train = data[: borders.train_end]
    scaled = (data - train.mean(axis=0)) / train.std(axis=0)
    model = clone(estimator).set_params(lookback=lookback, horizon=horizon)
    model.fit(scaled[: borders.train_end])
    start, stop = {
        "test": (borders.val_end, borders.test_end),
        "validation": (borders.train_end, borders.val_end),
    }[split]
    errors = []
    for t in range(start, stop - horizon + 1):
        forecast = model.predict(scaled[t - lookback : t])
        errors.append(forecast - scaled[t : t + horizon])
    return np.array(errors)


@pytest.mark.data("ETTh1.csv")
@pytest.mark.parametrize(
    ("estimator", "lookback", "expected"),
    [(LinearForecaster(alpha=1e-10), 336, 0.3702), (RLinearForecaster(alpha=1e-10), 512, 0.3678)],
)
def test_etth1_gives_the_measured_figures(estimator, lookback, expected):
    result = evaluate_ltsf(estimator, "ETTh1", lookback, 96)
    assert result.mse == pytest.approx(expected, abs=1e-4)
    assert result.n_windows == 2785
    assert result.dataset == "ETTh1"
    assert result.feature_names[-1] == "OT"


@pytest.mark.data("national_illness.csv")
def test_illness_counts_every_window_of_a_short_test_span():
    result = evaluate_ltsf(RLinearForecaster(alpha=1e-10), "National_Illness", 104, 24)
    assert result.mse == pytest.approx(2.007, abs=1e-3)
    assert result.n_windows == 170


@pytest.mark.data("exchange_rate.txt")
def test_exchange_rate_gives_the_measured_figure():
    result = evaluate_ltsf(LinearForecaster(alpha=1e-10), "exchange_rate", 96, 96)
    assert result.mse == pytest.approx(0.0802, abs=1.5e-3)


@settings(deadline=None, max_examples=15)
@given(
    n_rows=st.integers(60, 120),
    n_channels=st.integers(1, 3),
    lookback=st.integers(1, 20),
    horizon=st.integers(1, 6),
    split=st.sampled_from(["test", "validation"]),
    block=st.sampled_from([1, 200, 10**6]),
)
def test_blocks_give_what_single_windows_give(n_rows, n_channels, lookback, horizon, split, block):
    bunch = walk(n_rows, n_channels, seed=n_rows)
    before = spans._BLOCK_ELEMENTS
    spans._BLOCK_ELEMENTS = block
    try:
        result = evaluate_ltsf(NLinearForecaster(), bunch, lookback, horizon, split=split)
    finally:
        spans._BLOCK_ELEMENTS = before
    errors = by_hand(NLinearForecaster(), bunch, lookback, horizon, split)
    assert result.n_windows == len(errors)
    np.testing.assert_allclose(result.mse, (errors**2).mean(), rtol=1e-9)
    np.testing.assert_allclose(result.mae, np.abs(errors).mean(), rtol=1e-9)
    np.testing.assert_allclose(result.per_step, (errors**2).mean(axis=(0, 2)), rtol=1e-9)
    np.testing.assert_allclose(result.per_channel, (errors**2).mean(axis=(0, 1)), rtol=1e-9)
    np.testing.assert_allclose(result.mae_per_step, np.abs(errors).mean(axis=(0, 2)), rtol=1e-9)
    np.testing.assert_allclose(result.mae_per_channel, np.abs(errors).mean(axis=(0, 1)), rtol=1e-9)


def test_number_of_windows_does_not_depend_on_the_lookback():
    bunch = walk(200, 2)
    counts = {evaluate_ltsf(NLinearForecaster(), bunch, L, 5).n_windows for L in (1, 7, 50)}
    assert counts == {40 - 5 + 1}


def test_test_rows_change_neither_fit_nor_scale():
    bunch, changed = walk(200, 2), walk(200, 2)
    changed.data[ltsf_split(changed).val_end :] *= 3.0
    first, second = (evaluate_ltsf(DLinearForecaster(), b, 20, 4) for b in (bunch, changed))
    np.testing.assert_array_equal(first.estimator.coef_, second.estimator.coef_)
    assert first.mse != second.mse
    assert (
        evaluate_ltsf(DLinearForecaster(), bunch, 20, 4, split="validation").mse
        == evaluate_ltsf(DLinearForecaster(), changed, 20, 4, split="validation").mse
    )


def test_estimator_is_left_alone():
    estimator = NLinearForecaster(lookback=3, horizon=2)
    evaluate_ltsf(estimator, walk(100, 1), 10, 4)
    assert estimator.get_params() == NLinearForecaster(lookback=3, horizon=2).get_params()
    assert not hasattr(estimator, "plan_")


def test_frames_and_one_dimensional_data_are_series_too():
    pd = pytest.importorskip("pandas")
    bunch = walk(100, 1)
    expected = evaluate_ltsf(NLinearForecaster(), bunch, 10, 4).mse
    for data in (bunch.data[:, 0], pd.DataFrame(bunch.data, columns=["a"])):
        assert evaluate_ltsf(NLinearForecaster(), Bunch(name="x", data=data), 10, 4).mse == expected


def test_a_constant_channel_is_finite():
    bunch = walk(200, 2)
    bunch.data[:, 1] = 0.1
    result = evaluate_ltsf(NLinearForecaster(), bunch, 10, 4)
    assert np.isfinite(result.mse)
    assert result.per_channel[1] < 1e-2


def test_windows_that_touch_a_gap_are_left_out():
    bunch = walk(200, 2)
    bunch.data[180, 1] = np.nan
    result = evaluate_ltsf(NLinearForecaster(), bunch, 10, 4)
    assert result.n_windows == 37 - (10 + 4)
    assert np.isfinite(result.mse)


def test_memory_does_not_grow_with_the_number_of_windows():
    peaks = []
    for n_rows in (4_000, 20_000):
        bunch = make_seasonal(n_rows, n_channels=4, random_state=0)
        tracemalloc.start()
        evaluate_ltsf(NLinearForecaster(), bunch, 336, 96)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    all_windows = (4_000 - 95) * (336 + 96) * 4 * 8
    assert peaks[1] < all_windows / 1.5
    # what grows is the series and its copies, not windows of 432 rows
    assert peaks[1] - peaks[0] < 12 * 16_000 * 4 * 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dataset": "ETTh9"}, "one of ETTh1, ETTh2"),
        ({"split": "train"}, "split must be one of"),
        ({"horizon": 0}, "horizon must be an integer of at least 1; got 0"),
        ({"lookback": 2.5}, r"lookback must be an integer of at least 1; got 2.5"),
        ({"horizon": True}, "got True"),
        ({"horizon": 41}, "longer than the test span of walk, which has 40 rows"),
        ({"lookback": 138}, "needs at least"),
    ],
)
def test_bad_requests_get_a_sentence(change, sentence):
    request = {"dataset": walk(200, 1), "lookback": 10, "horizon": 4, **change}
    with pytest.raises(ValueError, match=sentence):
        evaluate_ltsf(NLinearForecaster(), **request)


def test_what_is_no_forecaster_gets_a_sentence():
    pipeline = make_pipeline(SeriesDecomposer(25), NLinearForecaster())
    with pytest.raises(ValueError, match="Pipeline has no parameter horizon and lookback"):
        evaluate_ltsf(pipeline, walk(200, 1), 10, 4)


def test_what_is_no_dataset_gets_a_sentence():
    with pytest.raises(TypeError, match="must be a name or the Bunch"):
        evaluate_ltsf(NLinearForecaster(), np.zeros((100, 2)), 10, 4)
    empty = walk(200, 2)
    empty.data[:150, 1] = np.nan
    with pytest.raises(ValueError, match="has no value in its 140 training rows"):
        evaluate_ltsf(NLinearForecaster(), empty, 10, 4)
    endless = walk(200, 2)
    endless.data[3] = np.inf
    with pytest.raises(ValueError, match="hold infinite values"):
        evaluate_ltsf(NLinearForecaster(), endless, 10, 4)


def test_a_missing_file_is_not_downloaded_when_that_is_not_wanted(tmp_path):
    with pytest.raises(FileNotFoundError):
        evaluate_ltsf(
            NLinearForecaster(), "ETTh1", 10, 4, data_home=tmp_path, download_if_missing=False
        )


def test_seasonal_needs_no_file():
    result = evaluate_ltsf(NLinearForecaster(), "seasonal", 168, 24)
    assert result.mse < 0.1
    assert result.n_windows == 3504 - 24 + 1
