"""`scale="series"`: every series of a list is measured from its own level and in its own scale."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixlin
from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.base.own_scales import level_and_scale, running_level_and_scale

L, H = 8, 3
CLASSES = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]


def some_series(n_channels=2):
    rng = np.random.default_rng(0)
    made = []
    for i, n in enumerate((60, 35, 47)):
        waves = np.sin(np.arange(n)[:, None] / (2 + np.arange(n_channels)))
        noise = 0.3 * rng.standard_normal((n, n_channels))
        made.append(10.0 * i - 20 + 10.0**i * (waves + noise))
    return made


def inside(series):
    return [(y - y.mean(axis=0)) / y.std(axis=0) for y in series]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_it_is_a_fit_of_standardized_series(cls, individual):
    series = some_series()
    own = cls(L, H, scale="series", individual=individual).fit(series)
    plain = cls(L, H, individual=individual).fit(inside(series))
    np.testing.assert_allclose(own.coef_, plain.coef_, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(own.intercept_, plain.intercept_, atol=1e-10)
    for y, found, wanted in zip(series, own.predict(), plain.predict(), strict=True):
        np.testing.assert_allclose(found, y.mean(axis=0) + y.std(axis=0) * wanted, rtol=1e-9)
    spread = [q[..., 1] - q[..., 0] for q in own.predict_interval()]
    relative = plain.predict_interval()[0]
    for y, found in zip(series, spread, strict=True):
        wanted = y.std(axis=0) * (relative[..., 1] - relative[..., 0])
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_context_has_the_level_and_scale_of_its_rows():
    series = some_series()
    model = LinearForecaster(L, H, scale="series").fit(series)
    context = 5.0 + 100.0 * series[0][:20]
    z = (context - context.mean(axis=0)) / context.std(axis=0)
    wanted = context.mean(axis=0) + context.std(axis=0) * (
        model.coef_ @ z[-L:] + model.intercept_[:, None]
    )
    np.testing.assert_allclose(model.predict(context), wanted, rtol=1e-10)
    windows = np.stack([context[-L:], series[1][:L]])
    np.testing.assert_allclose(model.predict(windows)[0], model.predict(context[-L:]), rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CLASSES),
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3)), min_size=3, max_size=3),
)
def test_units_of_a_series_do_not_matter_to_the_others(cls, units):
    series = some_series()
    moved = [a + b * y for (a, b), y in zip(units, series, strict=True)]
    model = cls(L, H, scale="series", alpha=1e-3)
    found, after = model.fit(series).predict(), model.fit(moved).predict()
    for (a, b), y, f, g in zip(units, series, found, after, strict=True):
        tolerance = 1e-6 * (abs(a) + b * np.abs(y).max())
        np.testing.assert_allclose(g, a + b * f, rtol=0, atol=tolerance)


def test_further_series_are_learnt_exactly_and_rows_are_not_appended():
    series = some_series()
    model = LinearForecaster(L, H, scale="series").fit(series[:2]).partial_fit(series[2:])
    whole = LinearForecaster(L, H, scale="series").fit(series)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.predict()[0], whole.predict()[2], rtol=1e-9)
    one = LinearForecaster(L, H, scale="series").fit(series[0])
    with pytest.raises(ValueError, match=r"scale='series' rows can't continue.*new_series=True"):
        one.partial_fit(series[1])
    assert one.partial_fit(series[1], new_series=True).predict().shape == (H, 2)
    with pytest.raises(ValueError, match="changed to or from 'series'"):
        one.set_params(scale="std").partial_fit(series[1], new_series=True)


def test_what_never_changes_in_a_series_teaches_nothing():
    series = some_series()
    flat = series[1].copy()
    flat[:, 0] = 3.0
    model = NLinearForecaster(L, H, scale="series", individual=True).fit([series[0], flat])
    alone = NLinearForecaster(L, H, individual=True).fit(series[0][:, :1])
    np.testing.assert_allclose(model.coef_[0], alone.coef_, rtol=1e-6, atol=1e-9)
    assert model.predict()[1][:, 0].tolist() == [3.0] * H
    constant = LinearForecaster(L, H, scale="series").fit([np.full(30, 2.0), np.full(20, 5.0)])
    np.testing.assert_allclose(constant.predict(), [[2.0] * H, [5.0] * H])


def test_scores_are_those_of_growing_contexts_or_continue_the_fit():
    series = some_series()
    model = LinearForecaster(L, H, scale="series").fit(series[0])
    truth, found = model._forecasts_for_scoring(series[0][5:40])
    for t in range(0, len(truth), 7):
        wanted = model.predict(series[0][5:40][: t + L])
        np.testing.assert_allclose(found[t], wanted, rtol=1e-9)
    later = series[1]
    truth, found = model._forecasts_for_scoring(later)
    assert len(truth) == len(later) - H + 1
    np.testing.assert_allclose(found[0], model.predict(), rtol=1e-12)


def test_files_and_pickles_forecast_the_same(tmp_path):
    series = some_series()
    model = RLinearForecaster(L, H, scale="series").fit(series)
    model.save(tmp_path / "model.safetensors")
    for other in (mixlin.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(np.array(other.predict()), np.array(model.predict()))
        found, wanted = (m.predict_quantiles(series[1]) for m in (other, model))
        np.testing.assert_array_equal(found, wanted)


def test_bad_input_is_refused():
    series = some_series()
    rows = np.zeros((5, L))
    with pytest.raises(ValueError, match=r"scale='series' measures every series.*windows"):
        LinearForecaster(scale="series").fit(rows + np.arange(L), rows[:, :H])
    solver = ExactSolver(transform="log")
    with pytest.raises(ValueError, match=r"transform='log'\) is not supported with scale='series'"):
        LinearForecaster(L, H, scale="series", solver=solver).fit(series)


def test_level_and_scale_pass_over_gaps_and_see_constants():
    values = np.array([[0.1, 1.0], [0.1, np.nan], [0.1, 3.0], [0.1, 8.0]])
    level, scale = level_and_scale(values)
    np.testing.assert_allclose(level, [0.1, 4.0])
    np.testing.assert_allclose(scale, [0.0, np.std([1, 3, 8])], atol=0, rtol=1e-12)
    levels, scales = running_level_and_scale(values)
    for t in range(len(values)):
        np.testing.assert_allclose(levels[t], level_and_scale(values[: t + 1])[0], rtol=1e-12)
        np.testing.assert_allclose(scales[t], level_and_scale(values[: t + 1])[1], rtol=1e-9)
