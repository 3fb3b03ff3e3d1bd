"""Fitted forecasters forecast the same on every engine, whatever the level of their series."""

import copy
import functools
import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

import mixlin
from mixlin.base import BaseForecaster
from mixlin.datasets import make_seasonal
from mixlin.experts import default_bank
from mixlin.routing import CalendarRouter, SpectralRouter, StatisticsRouter
from mixlin.solvers import AlternatingSolver, FixedGatesSolver

from .engines import ENGINES, assert_parity

LOOKBACK, HORIZON, CHANNELS = 168, 24, 5
LEVELS = [0.0, 1e3, 1e6]  # of the series, in units of their spread

FORECASTERS = {
    name: cls
    for name in mixlin.__all__
    if inspect.isclass(cls := getattr(mixlin, name)) and issubclass(cls, BaseForecaster)
}
NORMALIZED = ("LinearForecaster", "DLinearForecaster")  # those that have the parameter
MODELS = [
    *((name, {"normalization": n}) for name in NORMALIZED for n in (None, "last", "mean", "revin")),
    *((name, {}) for name in FORECASTERS if name not in NORMALIZED),
    ("RLinearForecaster", {"fit_intercept": True}),
]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in params.items())]) for name, params in MODELS]

# whatever held-out windows say, these have experts to mix
MIXED = AlternatingSolver(strength=0.3, fewer_experts=False, n_iter=2)
MIXTURES = {
    "statistics": {"router": StatisticsRouter()},
    "spectrum": {"router": SpectralRouter(hidden=6), "base": "rlinear"},
    "a gate per channel": {"router": StatisticsRouter(hidden=None), "base": "nlinear"},
    "constant": {"router": "constant", "base": "linear"},
}
for mixture, given in MIXTURES.items():
    MODELS.append(("MoLEForecaster", {**given, "solver": MIXED, "n_experts": 3, "random_state": 0}))
    IDS.append(f"MoLEForecaster-{mixture}")

FEW = default_bank()[::8]
ZERO_SHOT = {
    "evidence": {"gate": "evidence"},
    "cleaned": {"clean": True},
    "all of a bank": {"top_k": None},
    "two of a bank": {"top_k": 2},
}
for which, given in ZERO_SHOT.items():
    MODELS.append(("SuperLinearForecaster", {"bank": FEW, **given}))
    IDS.append(f"SuperLinearForecaster-{which}")


def kinds_of_sharing(name):
    """Return what a forecaster takes as ``individual``; only False where it takes nothing."""
    has = "individual" in inspect.signature(FORECASTERS[name]).parameters
    return (False, "partial", True) if has else (False,)


SHARING = [(name, individual) for name in FORECASTERS for individual in kinds_of_sharing(name)]
CHANNEL_MODELS = [
    pytest.param(name, params, individual, id=f"{which}-{individual}")
    for (name, params), which in zip(MODELS, IDS, strict=True)
    for individual in kinds_of_sharing(name)
]


@functools.cache
def series(level=0.0):
    """Return realistic loads, one channel of them small, ``level`` spreads from zero."""
    data = make_seasonal(24 * 7 * 8, CHANNELS, random_state=0).data
    data = (data - data.mean(axis=0)) / data.std(axis=0) + level
    data[:, -1] *= 1e-3
    data.flags.writeable = False
    return data


@functools.cache
def fitted(name, params, individual, many, level=0.0):
    """Fit a forecaster on a series or on windows of one channel; it is only read afterwards."""
    assert individual in kinds_of_sharing(name)
    given = {"individual": individual} if len(kinds_of_sharing(name)) > 1 else {}
    model = FORECASTERS[name](LOOKBACK, HORIZON, **given, **dict(params))
    train = series(level)[: 24 * 7 * 6]
    if many:
        return model.fit(train)
    windows = np.lib.stride_tricks.sliding_window_view(train[:, 0], LOOKBACK + HORIZON)
    return model.fit(windows[:, :LOOKBACK], windows[:, LOOKBACK:])


def plain(name):
    """Return parameters for tests that any settings will do for: of 127 experts an eighth."""
    return (("bank", FEW),) if name == "SuperLinearForecaster" else ()


def unseen(many, level=0.0):
    test = series(level)[24 * 7 * 6 :]
    windows = np.lib.stride_tricks.sliding_window_view(test, LOOKBACK, axis=0)[::7]
    return np.ascontiguousarray(windows.transpose(0, 2, 1) if many else windows[:, 0])


def channels_first(forecasts):
    return forecasts.reshape(len(forecasts), HORIZON, -1).transpose(2, 0, 1)


def assert_same_forecasts(engine, actual, expected, level=0.0, *, chosen=False):
    """Compare every channel in units of the spread of its own forecasts."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    # forecasts are as far from zero as the series, and are rounded there once on every engine
    tolerance = max(engine.chosen if chosen else engine.fitted, 2 * np.spacing(level))
    for channel, reference in zip(channels_first(actual), channels_first(expected), strict=True):
        assert_parity(channel, reference, tolerance, unit=float(reference.std()))


def on(engine, model):
    """Return the same fitted model on another engine."""
    return pickle.loads(pickle.dumps(model)).set_params(backend=engine.spec)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "params", "individual"), CHANNEL_MODELS)
def test_forecasts_of_many_channels_equal_those_of_numpy(engine, name, params, individual, level):
    model = fitted(name, tuple(params.items()), individual, True, level)
    X = unseen(True, level)
    few = params.get("top_k") == 2
    actual, expected = on(engine, model).predict(X), model.predict(X)
    assert_same_forecasts(engine, actual, expected, level, chosen=few)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "params"), MODELS, ids=IDS)
def test_forecasts_of_windows_equal_those_of_numpy(engine, name, params, level):
    model = fitted(name, tuple(params.items()), False, False, level)
    X = unseen(False, level)
    few = params.get("top_k") == 2
    actual, expected = on(engine, model).predict(X), model.predict(X)
    assert_same_forecasts(engine, actual, expected, level, chosen=few)


@pytest.mark.parametrize("params", [{}, {"gate": "evidence", "clean": True}], ids=["", "evidence"])
def test_contexts_of_any_length_with_gaps_are_forecast_alike(engine, params):
    model = fitted("SuperLinearForecaster", (("bank", FEW), *params.items()), False, True)
    holes = np.array(series()[-LOOKBACK:])
    holes[:40, 1] = holes[60:75] = holes[-3:, 2] = np.nan
    contexts = [holes, series()[-50:], series()[-3:], series()[-400:]]
    other = on(engine, model)
    for horizon in (5, HORIZON, 3 * HORIZON):
        expected = model.predict(contexts, horizon=horizon)
        for actual, reference in zip(
            other.predict(contexts, horizon=horizon), expected, strict=True
        ):
            unit = reference.std(axis=0) + series()[-LOOKBACK:].std(axis=0)
            assert actual.shape == reference.shape
            assert (np.abs(actual - reference).max(axis=0) <= engine.fitted * unit).all()
    actual, expected = other.predict_interval(holes), model.predict_interval(holes)
    unit = np.ptp(expected, axis=2).max(axis=0)
    assert (np.abs(actual - expected).max(axis=(0, 2)) <= engine.chosen * unit).all()


@pytest.mark.parametrize("which", ZERO_SHOT)
def test_experts_chosen_on_an_engine_forecast_as_well_as_those_of_numpy(engine, which):
    model = fitted("SuperLinearForecaster", (("bank", FEW), *ZERO_SHOT[which].items()), False, True)
    test = series()[24 * 7 * 6 :]
    windows = np.lib.stride_tricks.sliding_window_view(test, LOOKBACK + HORIZON, axis=0)[::7]
    X, y = np.split(windows.transpose(0, 2, 1), [LOOKBACK], axis=1)

    def error(model):
        return (np.abs(model.predict(X) - y) / y.std(axis=(0, 1))).mean()

    assert error(on(engine, model)) == pytest.approx(error(model), rel=min(0.01, engine.chosen))


CALENDARS = {
    "a gate per window": {"router": CalendarRouter(), "solver": MIXED},
    "a gate per step": {"router": CalendarRouter(stamp="horizon", hidden=5), "solver": MIXED},
    "a gate per channel": {"router": CalendarRouter(per_channel=True), "solver": MIXED},
    "fixed gates": {"solver": FixedGatesSolver(strength=0.3, fewer_experts=False)},
}


@functools.cache
def routed(which, base, individual):
    """Fit a mixture that is routed by the calendar."""
    model = mixlin.MoLEForecaster(
        LOOKBACK, HORIZON, base=base, individual=individual, n_experts=3, random_state=0
    ).set_params(**CALENDARS[which])
    hours = np.datetime64("2024-01-01T00", "h") + np.arange(24 * 7 * 6)
    return model.fit(series(1e3)[: len(hours)], timestamps=hours)


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("base", ["dlinear", "rlinear"])
@pytest.mark.parametrize("which", CALENDARS)
def test_forecasts_by_the_calendar_equal_those_of_numpy(engine, which, base, individual):
    model = routed(which, base, individual)
    assert model.n_experts_ == 3
    X = unseen(True, 1e3)
    stamps = np.datetime64("2024-06-01T05", "h") + 7 * np.arange(len(X))
    every = stamps[:, None] + np.arange(LOOKBACK + HORIZON)
    other = on(engine, model)
    expected = model.predict(X, timestamps=every)
    assert_same_forecasts(engine, other.predict(X, timestamps=every), expected, 1e3)
    assert_same_forecasts(engine, other.predict()[None], model.predict()[None], 1e3)
    gates = other.gate_weights(X, timestamps=every)
    np.testing.assert_allclose(
        gates, model.gate_weights(X, timestamps=every), atol=10 * engine.operation
    )
    late = model.predict(X, timestamps=every + np.timedelta64(12, "h"))
    assert np.abs(late - expected).max() > 1e-6


@pytest.mark.parametrize(("name", "individual"), SHARING)
def test_series_are_continued_alike(engine, name, individual):
    model = fitted(name, plain(name), individual, True)
    other = on(engine, model)
    assert_same_forecasts(engine, other.predict()[None], model.predict()[None])
    contexts = [series()[:200], series()[-300:-50]]
    for actual, expected in zip(other.predict(contexts), model.predict(contexts), strict=True):
        assert_same_forecasts(engine, actual[None], expected[None])
    actual, expected = other.predict_interval(contexts[0]), model.predict_interval(contexts[0])
    for side in (0, 1):
        assert_same_forecasts(engine, actual[None, ..., side], expected[None, ..., side])
    assert other.score(series()[-200:]) == pytest.approx(
        model.score(series()[-200:]), abs=10 * engine.fitted
    )


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("name", FORECASTERS)
def test_forecasts_have_the_dtype_of_their_windows(engine, name, many):
    model = fitted(name, plain(name), False, many, 1e3)
    X = unseen(many, 1e3).astype(np.float32)
    expected = model.predict(X.astype(np.float64))
    actual = on(engine, model).predict(X)
    assert actual.dtype == np.float32
    for channel, reference in zip(channels_first(actual), channels_first(expected), strict=True):
        # one rounding of a forecast that is far from zero, and of what is added there
        allowed = engine.fitted * reference.std() + 1.5 * np.spacing(np.float32(reference.max()))
        assert np.abs(channel - reference).max() <= allowed


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_horizon_may_be_shortened(engine, name):
    model = on(engine, fitted(name, plain(name), False, True))
    X = unseen(True)
    assert (model.predict(X, horizon=5) == model.predict(X)[:, :5]).all()


@pytest.mark.parametrize(("name", "individual"), [s for s in SHARING if s[1] != "partial"])
def test_neighbors_do_not_matter(engine, name, individual):
    model = on(engine, fitted(name, plain(name), individual, True))
    X = unseen(True)
    expected = model.predict(X)
    others = X[::-1] * 1e4
    others[7] = X[7]
    assert (model.predict(others)[7] == expected[7]).all()
    assert not (model.predict(others)[8] == expected[8]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("name", FORECASTERS)
def test_missing_values_are_refused(engine, name, many, bad):
    model = on(engine, fitted(name, plain(name), False, many))
    X = unseen(many)
    model.predict(X)
    X[3, LOOKBACK // 2] = bad
    with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
        model.predict(X)


@pytest.mark.filterwarnings("error")
def test_windows_may_be_read_only_strided_or_mapped_from_a_file(engine, tmp_path):
    model = on(engine, fitted("LinearForecaster", (), False, True))
    X = unseen(True)
    expected, kept = model.predict(X), X.copy()
    frozen = X.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "windows.npy", X)
    mapped = np.load(tmp_path / "windows.npy", mmap_mode="r")
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    for view in (frozen, mapped, strided, np.asfortranarray(X)):
        assert_same_forecasts(engine, model.predict(view), expected)
    single = fitted("LinearForecaster", (), False, False)
    frozen = unseen(False)
    frozen.flags.writeable = False
    on(engine, single).predict(frozen)
    assert (kept == X).all()


@pytest.mark.filterwarnings("error")
def test_forecasts_belong_to_the_caller(engine):
    model = on(engine, fitted("LinearForecaster", (), False, True))
    for X in (unseen(True), unseen(True).astype(np.float32)):
        first = model.predict(X)
        kept = first.copy()
        first += 1.0
        assert (model.predict(X) == kept).all()


def test_threads_share_an_estimator(engine):
    model = on(engine, fitted("DLinearForecaster", (("normalization", "revin"),), True, True))
    X = unseen(True)
    expected = [model.predict(X[:n]) for n in range(1, 9)]
    fresh = on(engine, model)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(lambda n: fresh.predict(X[:n]), range(1, 9)))
            assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_models_carry_their_engine_by_name(engine, tmp_path):
    model = clone(on(engine, fitted("RLinearForecaster", (), "partial", True)))
    assert model.backend == engine.spec
    model.fit(series())
    expected = model.predict()
    model.save(tmp_path / "model.safetensors")
    loaded = mixlin.load(tmp_path / "model.safetensors")
    copied = pickle.loads(pickle.dumps(model))
    for again in (loaded, copied, clone(model).set_params(backend=engine.backend).fit(series())):
        assert (again.predict() == expected).all()
    assert pickle.loads(pickle.dumps(engine.backend)) is engine.backend
    assert clone(engine.backend) is engine.backend
    assert copy.deepcopy(engine.backend) is engine.backend
    assert engine.backend.spec == engine.spec
    with mixlin.config_context(backend=engine.spec):
        assert (model.set_params(backend=None).predict() == expected).all()
    with mixlin.config_context(backend="numpy"):
        assert_same_forecasts(engine, expected[None], model.predict()[None])


def test_other_weights_are_noticed():
    """What the comparisons above would not let pass."""
    engine = max(ENGINES, key=lambda e: e.fitted)
    model = fitted("LinearForecaster", (), False, True)
    X = unseen(True)
    expected = model.predict(X)
    other = pickle.loads(pickle.dumps(model))
    weights = other.plan_.mixture().weights
    weights[0, 0, 5, 3] += 100 * engine.fitted
    with pytest.raises(AssertionError, match="off by"):
        assert_same_forecasts(engine, other.predict(X), expected)
