from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
    SeriesDecomposer,
)
from mixlin.backtesting import evaluate_ltsf, score_ltsf, spans
from mixlin.backtesting.ltsf import as_protocol
from mixlin.datasets import ltsf_split, make_seasonal
from mixlin.solvers import AlternatingSolver, GradientSolver, MixtureSolver


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


# -- models that are fitted --------------------------------------------------------------------

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def load():
    return make_seasonal(24 * 80, n_channels=2, random_state=0)


def fitted(estimator, bunch, lookback=48, horizon=12):
    """Fit as the protocol does, but in data units."""
    model = clone(estimator).set_params(lookback=lookback, horizon=horizon)
    model, stop = as_protocol(model, ltsf_split(bunch))
    return model.fit(bunch.data[:stop], timestamps=bunch.index[:stop])


def same_score(found, expected):
    for name in ("mse", "mae", "per_step", "per_channel", "mae_per_step", "mae_per_channel"):
        np.testing.assert_allclose(found[name], expected[name], rtol=TOLERANCE, atol=0)
    for name in ("n_windows", "dataset", "split", "lookback", "horizon", "feature_names"):
        assert found[name] == expected[name]


@pytest.mark.parametrize(
    "estimator",
    [
        LinearForecaster(),
        RLinearForecaster(),
        MoLEForecaster(n_experts=3, router="spectral", random_state=0),
        MoLEForecaster(n_experts=3, router="calendar", random_state=0),
        MoLEForecaster(n_experts=3, solver="fixed-gates"),
        MoLEForecaster(n_experts=1),
    ],
    ids=["linear", "rlinear", "spectral", "calendar", "fixed gates", "single expert"],
)
@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_model_in_data_units_scores_as_one_that_is_fitted_and_scored(load, estimator, split):
    expected = evaluate_ltsf(estimator, load, 48, 12, split="test")
    if split == "validation":  # by hand, because there evaluate_ltsf fits otherwise
        inside = expected.estimator
        z = (load.data - expected.channel_mean) / expected.channel_scale
        z = Bunch(**{**load, "data": z})
        expected = score_ltsf(inside, z, split=split)
    found = score_ltsf(fitted(estimator, load), load, split=split)
    same_score(found, expected)
    moved = Bunch(**{**expected, "per_step": expected.per_step * (1 + 10 * TOLERANCE)})
    with pytest.raises(AssertionError):
        same_score(found, moved)


def test_scoring_leaves_the_model_alone_and_says_what_it_scored(load):
    model = fitted(NLinearForecaster(), load)
    before = model.predict()
    result = score_ltsf(model, load)
    assert result.estimator is model
    assert "fit_seconds" not in result
    assert result.predict_seconds > 0
    np.testing.assert_array_equal(model.predict(), before)
    train = load.data[ltsf_split(load).train]
    np.testing.assert_allclose(result.channel_mean, train.mean(axis=0))
    np.testing.assert_allclose(result.channel_scale, train.std(axis=0))


def test_a_model_of_windows_is_scored_too(load):
    one = Bunch(name="one", data=load.data[:, 0])
    train = one.data[ltsf_split(one).train]
    windows = np.lib.stride_tricks.sliding_window_view(train, 60)
    model = LinearForecaster().fit(windows[:, :48], windows[:, 48:])
    expected = score_ltsf(LinearForecaster(48, 12, scale=None).fit(train), one)
    np.testing.assert_allclose(score_ltsf(model, one).mse, expected.mse, rtol=1e-4)


def test_models_that_do_not_fit_the_dataset_get_a_sentence(load):
    with pytest.raises(NotFittedError):
        score_ltsf(NLinearForecaster(48, 12), load)
    model = NLinearForecaster(48, 12).fit(load.data[:, :1])
    with pytest.raises(ValueError, match="X has 2 channels, but NLinearForecaster is expecting 1"):
        score_ltsf(model, load)
    with pytest.raises(ValueError, match="longer than the test span"):
        score_ltsf(NLinearForecaster(48, 500).fit(load.data), load)


def test_channels_in_another_order_are_refused():
    pytest.importorskip("pandas")
    frame = make_seasonal(24 * 30, n_channels=2, as_frame=True, random_state=0)
    model = NLinearForecaster(24, 6).fit(frame.frame[["load_2", "load_1"]])
    with pytest.raises(ValueError, match="fitted on the channels 'load_2', 'load_1', but those of"):
        score_ltsf(model, frame)


# -- models that choose ------------------------------------------------------------------------


def altered(bunch, span):
    data = bunch.data.copy()
    rows = data[span]
    data[span] = rows[::-1] * 1.5
    return Bunch(**{**bunch, "data": data})


def test_mixtures_choose_on_the_validation_rows_and_learn_from_the_training_rows(load):
    mixture = MoLEForecaster(n_experts=2, router="calendar", random_state=0)
    result = evaluate_ltsf(mixture, load, 48, 12)
    borders = ltsf_split(load)
    assert result.estimator.solver.validation == borders.val_end - borders.train_end
    assert result.estimator.solver.refit is False
    assert mixture.solver == "alternating"
    assert result.estimator.n_experts_ == 2
    history = result.estimator.history_
    # the single expert among the candidates is the exact model of the training rows
    single = evaluate_ltsf(DLinearForecaster(), load, 48, 12, split="validation")
    deviation = (load.data[: borders.val_end] / single.channel_scale).std(axis=0)
    expected = (single.per_channel / deviation**2).mean()
    np.testing.assert_allclose(history[0]["validation_loss"], expected, rtol=1e-5)


def test_where_validation_rows_are_scored_no_mixture_sees_them(load):
    mixture = MoLEForecaster(n_experts=2, router="calendar", random_state=0)
    borders = ltsf_split(load)
    results = [
        evaluate_ltsf(mixture, bunch, 48, 12, split="validation")
        for bunch in (load, altered(load, borders.validation))
    ]
    first, second = (r.estimator.plan_.mixture().weights for r in results)
    np.testing.assert_array_equal(first, second)
    assert results[0].mse != results[1].mse
    assert results[0].estimator.solver == "alternating"


@pytest.mark.parametrize(
    ("mixture", "rows"),
    [
        (MoLEForecaster(n_experts=1), 1920),
        (MoLEForecaster(n_experts=3, random_state=0), 300),
        (MoLEForecaster(n_experts=3, solver=AlternatingSolver(min_gain=0.9)), 1920),
    ],
    ids=["one is asked for", "too few rows to choose on", "no gain"],
)
def test_a_single_expert_is_the_exact_model_of_the_training_rows(load, mixture, rows):
    bunch = Bunch(name="part", data=load.data[:rows])
    found = evaluate_ltsf(mixture, bunch, 24, 6)
    assert found.estimator.n_experts_ == 1
    expected = evaluate_ltsf(DLinearForecaster(), bunch, 24, 6)
    np.testing.assert_allclose(found.mse, expected.mse, rtol=1e-9)


def test_a_mixture_with_nothing_to_choose_is_fitted_on_the_training_rows(load):
    solver = AlternatingSolver(1.0, fewer_experts=False)
    mixture = MoLEForecaster(n_experts=2, solver=solver, random_state=0)
    first, second = (
        evaluate_ltsf(mixture, bunch, 24, 6).estimator.plan_.mixture().weights
        for bunch in (load, altered(load, ltsf_split(load).validation))
    )
    np.testing.assert_array_equal(first, second)


def test_with_validation_holds_out_what_it_says_and_leaves_the_rest():
    model = MoLEForecaster(24, 6, n_experts=3, solver=GradientSolver(max_epochs=7), random_state=1)
    held = model.with_validation(np.int64(50))
    assert held.solver.get_params() == {
        **model.solver.get_params(),
        "validation": 50,
        "refit": False,
    }
    assert model.solver.validation == 0.2
    others = {"lookback": 24, "horizon": 6, "n_experts": 3, "random_state": 1}
    assert {name: held.get_params()[name] for name in others} == others
    for wrong in (0, 0.2, True, None):
        with pytest.raises(ValueError, match="n_rows must be an integer of at least 1"):
            model.with_validation(wrong)


def test_a_solver_that_holds_nothing_out_is_left_as_it_is(load):
    class Fixed(MixtureSolver):
        def solve(self, task):
            return AlternatingSolver(1.0, fewer_experts=False).solve(task)

    model = MoLEForecaster(n_experts=2, solver=Fixed(), random_state=0)
    with pytest.raises(ValueError, match="Fixed has no parameter validation"):
        model.with_validation(10)
    result = evaluate_ltsf(model, load, 24, 6)
    assert isinstance(result.estimator.solver, Fixed)


def test_training_rows_too_few_for_a_window_get_a_sentence(load):
    bunch = Bunch(name="part", data=load.data[:100])
    with pytest.raises(ValueError, match="needs at least 72 rows with horizon=6"):
        evaluate_ltsf(MoLEForecaster(), bunch, 66, 6)


# -- models that read the calendar -------------------------------------------------------------


def test_models_routed_by_the_calendar_get_the_times(load):
    mixture = MoLEForecaster(n_experts=3, router="calendar", random_state=0)
    result = evaluate_ltsf(mixture, load, 48, 12)
    model, borders = result.estimator, ltsf_split(load)
    assert model.n_experts_ > 1
    z = (load.data - result.channel_mean) / result.channel_scale
    by_hand = clone(model).fit(z[: borders.val_end], timestamps=load.index[: borders.val_end])
    errors = []
    for t in range(borders.val_end, borders.test_end - 12 + 1):
        seen = slice(t - 48, t)
        forecast = by_hand.predict(z[seen], timestamps=load.index[seen])
        errors.append(forecast - z[t : t + 12])
    np.testing.assert_allclose(result.mse, np.square(errors).mean(), rtol=1e-9)
    off = Bunch(**{**load, "index": load.index + np.timedelta64(36, "h")})
    wrong = Bunch(**{**off, "data": z})
    assert score_ltsf(model, wrong).mse > 2 * result.mse  # the gate is a day and a half off


def test_times_of_a_frame_are_read_too(load):
    pd = pytest.importorskip("pandas")
    mixture = MoLEForecaster(n_experts=2, router="calendar", random_state=0)
    expected = evaluate_ltsf(mixture, load, 24, 6)
    assert expected.estimator.n_experts_ == 2
    index = pd.DatetimeIndex(load.index, freq="h")
    bunch = Bunch(name="x", data=pd.DataFrame(load.data, index, columns=["a", "b"]))
    found = evaluate_ltsf(mixture, bunch, 24, 6)
    np.testing.assert_allclose(found.mse, expected.mse, rtol=TOLERANCE)


def test_business_days_are_steps_where_a_frame_says_so():
    pd = pytest.importorskip("pandas")
    index = pd.bdate_range("2020-01-01", periods=500)
    rng = np.random.default_rng(0)
    level = np.where(index.day_of_week == 4, 5.0, 0.0)
    frame = pd.DataFrame({"a": level + 0.1 * rng.standard_normal(500)}, index)
    model = MoLEForecaster(n_experts=2, router="calendar", random_state=0)
    result = evaluate_ltsf(model, Bunch(name="x", data=frame), 10, 2)
    assert result.n_windows == 99
    assert result.mse < 0.1


@pytest.mark.parametrize("model", [{"router": "calendar"}, {"solver": "fixed-gates"}])
def test_data_without_times_get_a_sentence_from_models_that_read_them(load, model):
    bunch = Bunch(name="x", data=load.data)
    with pytest.raises(ValueError, match="routed by the calendar, but x has no times"):
        evaluate_ltsf(MoLEForecaster(**model), bunch, 24, 6)
    kept = np.delete(np.arange(len(load.index)), 900)
    with_gap = Bunch(**{**load, "data": load.data[kept], "index": load.index[kept]})
    assert evaluate_ltsf(LinearForecaster(), with_gap, 24, 6).n_windows > 0  # which reads none
    with pytest.raises(ValueError, match="the times of seasonal have gaps"):
        evaluate_ltsf(MoLEForecaster(**model), with_gap, 24, 6)
