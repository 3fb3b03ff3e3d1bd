"""Training with torch: it gets better than the single expert, and never leaves a mess behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

import mixlin
from mixlin import LinearForecaster, MoLEForecaster
from mixlin.backends import resolve
from mixlin.layers import Layer
from mixlin.mixture import Mixture, compute, place, predict_windows
from mixlin.normalization import Normalization
from mixlin.routing import CalendarRouter, Gate, SpectralRouter, StatisticsRouter
from mixlin.solvers import (
    GradientSolver,
    ImportanceLoss,
    LoadLoss,
    LossFreeBias,
    SwitchLoss,
    WindowSource,
    ZLoss,
)
from mixlin.windows import make_windows

from . import regimes

torch = pytest.importorskip("torch", reason="torch is not installed")
gradient = pytest.importorskip("mixlin.solvers.gradient")
gradient_batches = pytest.importorskip("mixlin.solvers.gradient_batches")

L, H, C = 12, 4, 2


def series(n_rows=500, n_channels=C, seed=0):
    """Return series whose wave is wider at weekends."""
    t = np.arange(n_rows)[:, None]
    wave = np.sin(2 * np.pi * t / 24 + np.arange(n_channels)) * (1 + 2 * ((t // 24) % 7 >= 5))
    noise = np.random.default_rng(seed).normal(scale=0.3, size=(n_rows, n_channels))
    return 10 + (wave + noise) * (1 + 3 * np.arange(n_channels))


def hours(n_rows=500, start="2024-01-01T00"):
    return np.datetime64(start, "h") + np.arange(n_rows)


def trained(data=None, *, router="statistics", n_experts=3, seed=0, weight=None, **solver):
    """Fit a mixture that is kept whatever its error is."""
    data = series() if data is None else data
    base = solver.pop("base", "dlinear")
    top_k = solver.pop("top_k", None)
    given = {"max_epochs": 3, "batch_size": 64, "min_gain": None, "start_noise": 0.3, **solver}
    model = MoLEForecaster(
        L,
        H,
        base=base,
        n_experts=n_experts,
        router=router,
        top_k=top_k,
        solver=GradientSolver(**given),
        random_state=seed,
    )
    return model.fit(data, timestamps=hours(len(data)), sample_weight=weight)


def losses(model):
    """Return the held-out errors of the epochs, that of the start first."""
    return [e["validation_loss"] for e in model.history_ if "epoch" in e]


def parameters(model):
    mixture = model.plan_.mixture()
    return np.concatenate(
        [mixture.weights.ravel(), *(layer.weight.ravel() for layer in mixture.gate.layers)]
    )


# -- two kinds of days -------------------------------------------------------------------------


@pytest.mark.parametrize(("stamp", "horizon"), [("next", 24), ("horizon", 48)])
def test_torch_tells_weekdays_from_weekends(stamp, horizon):
    past, future = regimes.split(regimes.two_regimes(1500, 24, horizon), 300)
    solver = GradientSolver(max_epochs=40, batch_size=32, learning_rate=0.01, patience=10)
    router = CalendarRouter(stamp=stamp)
    model = MoLEForecaster(
        base="linear", n_experts=2, router=router, solver=solver, random_state=0
    ).fit(past.X, past.y, timestamps=past.stamps)
    single = LinearForecaster().fit(past.X, past.y).predict(future.X)
    mixed = model.predict(future.X, timestamps=future.stamps)
    assert model.n_experts_ == 2
    assert regimes.error(mixed, future) < 0.6 * regimes.error(single, future)
    assert regimes.error(mixed, future) < 1.8 * regimes.error(future.oracle, future)
    late = future._replace(stamps=future.stamps + np.timedelta64(2, "D"))
    moved = model.predict(late.X, timestamps=late.stamps)
    assert regimes.error(moved, late) > 1.3 * regimes.error(mixed, future)


def test_torch_noise_leaves_the_single_expert():
    rows = np.random.default_rng(0).normal(size=(400, 2))
    model = trained(rows, min_gain=0.01)
    single, *epochs = model.history_
    assert model.n_experts_ == 1
    assert single["n_experts"] == 1
    assert [e["epoch"] for e in epochs] == list(range(len(epochs)))
    assert min(losses(model)) > 0.99 * single["validation_loss"]
    X, _ = make_windows(rows, L, H)
    everything = mixlin.DLinearForecaster(L, H).fit(rows)
    np.testing.assert_allclose(model.predict(X), everything.predict(X), rtol=1e-9)
    before = mixlin.DLinearForecaster(L, H).fit(rows[:-80])  # without what is held out
    kept = trained(rows, min_gain=0.01, refit=False)
    np.testing.assert_allclose(kept.predict(X), before.predict(X), rtol=1e-9)
    assert np.abs(before.predict(X) - everything.predict(X)).max() > 1e-3


# -- random states -----------------------------------------------------------------------------


def test_torch_training_is_reproducible():
    one, same, other = trained(seed=0), trained(seed=0), trained(seed=1)
    assert (parameters(one) == parameters(same)).all()
    assert one.history_ == same.history_
    assert (parameters(one) != parameters(other)).any()
    generator = np.random.RandomState(5)
    first, second = trained(seed=generator), trained(seed=generator)
    assert (parameters(first) == parameters(trained(seed=np.random.RandomState(5)))).all()
    assert (parameters(first) != parameters(second)).any()


def test_torch_and_numpy_keep_their_global_random_states():
    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002
    expected = float(torch.rand(())), np.random.uniform()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002
    trained(router=StatisticsRouter(noise=0.5, head_dropout=0.2))
    assert (float(torch.rand(())), np.random.uniform()) == expected  # noqa: NPY002
    torch.manual_seed(99)
    again = trained(seed=0)
    torch.manual_seed(100)
    assert (parameters(again) == parameters(trained(seed=0))).all()
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


# -- going on, stopping, and breaking off ------------------------------------------------------


def test_torch_training_goes_on_where_it_was():
    cold = trained(max_epochs=2, learning_rate=0.01, schedule="constant")
    warm = clone(cold).set_params(solver__warm_start=True).fit(series(), timestamps=hours())
    assert losses(warm) == losses(cold)  # nothing to go on from the first time
    first = min(losses(warm))
    before = [e["training_loss"] for e in warm.history_ if e.get("epoch")]
    warm.fit(series(), timestamps=hours())
    after = [e["training_loss"] for e in warm.history_ if e.get("epoch")]
    assert losses(warm)[0] == pytest.approx(first, rel=1e-4)
    assert min(losses(warm)) <= losses(warm)[0]
    assert min(after) < min(before)
    again = cold.fit(series(), timestamps=hours())
    assert losses(again)[0] != pytest.approx(first, rel=1e-4)
    # another number of experts, another router or another base starts anew
    bases = [{"base": base} for base in ("nlinear", "rlinear", "linear")]
    for changed in ({"n_experts": 2}, {"router": "spectral"}, *bases):
        anew = warm.set_params(**changed).fit(series(), timestamps=hours())
        fresh = clone(warm).fit(series(), timestamps=hours())
        assert losses(anew) == losses(fresh)


def test_torch_training_that_goes_on_takes_the_present_top_k():
    model = trained(max_epochs=1).set_params(solver__warm_start=True, top_k=1)
    model.fit(series(), timestamps=hours())
    X, _ = make_windows(series(seed=1), L, H)
    assert ((model.gate_weights(X) > 0).sum(axis=-1) == 1).all()


def test_torch_threads_train_alike():
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: parameters(trained(max_epochs=2)), range(3)))
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-4, atol=1e-6)


def test_torch_intervals_widen_where_a_mixture_is_worse():
    good, bad = trained(), trained(start="random", max_epochs=1, learning_rate=1e-5)
    width = [np.ptp(m.predict_interval(), axis=-1).mean() for m in (good, bad)]
    assert width[1] > 1.2 * width[0]


def test_torch_balancing_travels_in_a_file(tmp_path):
    model = trained(balancing=SwitchLoss(0.05), max_epochs=1)
    model.save(tmp_path / "model")
    loaded = mixlin.load(tmp_path / "model")
    assert loaded.solver.balancing.get_params() == SwitchLoss(0.05).get_params()
    assert (loaded.predict() == model.predict()).all()


def test_torch_a_rate_that_diverges_leaves_the_best_weights():
    with pytest.warns(RuntimeWarning, match=r"training stopped in epoch \d+: the loss is no long"):
        model = trained(learning_rate=1e18, max_epochs=30, patience=30, schedule="constant")
    found = losses(model)
    assert not np.isfinite(found[-1]) or found[-1] > 1e6 * found[0]
    assert np.isfinite(parameters(model)).all()
    start = trained(max_epochs=1, learning_rate=1e-12)
    assert min(f for f in found if np.isfinite(f)) == pytest.approx(min(losses(start)), rel=1e-3)
    np.testing.assert_allclose(model.predict(), start.predict(), atol=1e-3)


def test_torch_the_weights_of_the_best_epoch_are_kept():
    model = trained(learning_rate=0.3, max_epochs=8, patience=8, schedule="constant")
    found = losses(model)
    best = int(np.argmin(found))
    assert best < len(found) - 1
    stopped = trained(learning_rate=0.3, max_epochs=max(best, 1), patience=8, schedule="constant")
    if best:
        assert (parameters(model) == parameters(stopped)).all()
    assert held_out_error(model) == pytest.approx(min(found), rel=1e-3)
    assert held_out_error(model) < 0.99 * found[-1]


def held_out_error(model, share=0.2):
    """Return the error on held-out windows, in units of the channels."""
    data = series()
    n = len(data) - int(share * len(data))
    X, y = make_windows(data[n - L :], L, H)
    statistics = mixlin.DLinearForecaster(L, H).fit(data)._statistics
    off = (model.predict(X) - y) / np.sqrt(statistics.variance())
    return float((off**2).mean())


def test_torch_held_out_errors_are_those_of_the_forecasts():
    for solver in ({}, {"loss": "mae"}, {"loss": "huber"}):
        model = trained(**solver)
        data = series()
        X, y = make_windows(data[400 - L :], L, H)
        scale = np.sqrt(mixlin.DLinearForecaster(L, H).fit(data)._statistics.variance())
        for forecast, found in (
            (model.predict(X), min(losses(model))),
            (
                mixlin.DLinearForecaster(L, H).fit(data[:400]).predict(X),
                model.history_[0]["validation_loss"],
            ),
        ):
            off = np.abs((forecast - y) / scale)
            expected = {
                "mse": off**2,
                "mae": off,
                "huber": np.where(off < 1, 0.5 * off**2, off - 0.5),
            }[solver.get("loss", "mse")].mean()
            assert found == pytest.approx(expected, rel=1e-4)


def test_torch_patience_ends_training():
    model = trained(learning_rate=0.5, max_epochs=50, patience=2, schedule="constant")
    found = losses(model)
    assert len(found) < 50
    assert len(found) - 1 - int(np.argmin(found)) == 2


def test_torch_a_loss_that_is_no_number_stops_with_a_warning(monkeypatch):
    plain = gradient._Training._epoch
    calls = []

    def breaks(self, optimizer):
        calls.append(1)
        loss = plain(self, optimizer)
        if len(calls) == 2:
            with torch.no_grad():
                for tensor in self.tensors:
                    tensor.fill_(float("nan"))
            return float("nan")
        return loss

    monkeypatch.setattr(gradient._Training, "_epoch", breaks)
    match = "training stopped in epoch 2: the loss is no longer finite. .* Use a smaller learning"
    with pytest.warns(RuntimeWarning, match=match):
        model = trained(max_epochs=6, learning_rate=0.01)
    assert len(calls) == 2
    assert np.isfinite(parameters(model)).all()
    monkeypatch.undo()
    one = losses(model)[:2]
    assert held_out_error(model) == pytest.approx(min(one), rel=1e-3)
    assert model.score(series()) > 0


@pytest.mark.parametrize("at", [1, 3])
def test_torch_an_interrupt_leaves_a_usable_model(monkeypatch, at, tmp_path):
    plain = gradient._Training._epoch
    calls = []

    def interrupted(self, optimizer):
        calls.append(1)
        if len(calls) == at:
            with torch.no_grad():  # half a batch is done
                for tensor in self.tensors:
                    tensor += 100.0
            raise KeyboardInterrupt
        return plain(self, optimizer)

    monkeypatch.setattr(gradient._Training, "_epoch", interrupted)
    match = f"interrupted after {at - 1} epochs; the weights of the best one are kept"
    with pytest.warns(RuntimeWarning, match=match):
        model = trained(max_epochs=6, learning_rate=0.01, schedule="constant")
    monkeypatch.undo()
    assert len(losses(model)) == at
    assert held_out_error(model) == pytest.approx(min(losses(model)), rel=1e-3)
    if at > 1:
        whole = trained(max_epochs=at - 1, learning_rate=0.01, schedule="constant")
        assert (parameters(model) == parameters(whole)).all()
    model.save(tmp_path / "model")
    assert (mixlin.load(tmp_path / "model").predict() == model.predict()).all()
    gates = model.gate_weights()
    np.testing.assert_allclose(gates.sum(axis=-1), 1.0, rtol=1e-9)


def test_torch_an_error_of_the_user_leaves_the_estimator_as_it_was(monkeypatch):
    model = trained()
    before = dict(vars(model))

    def fails(self, optimizer):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gradient._Training, "_epoch", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.fit(series(), timestamps=hours())
    assert vars(model) == before


# -- every way to train ------------------------------------------------------------------------

ROUTES = {
    "statistics": {},
    "linear statistics": {"router": StatisticsRouter(hidden=None)},
    "spectrum": {"router": SpectralRouter(hidden=5)},
    "constant": {"router": "constant"},
    "calendar": {"router": "calendar"},
    "gates per step": {"router": CalendarRouter(stamp="horizon", hidden=4)},
    "gates per channel": {"router": StatisticsRouter(per_channel=True)},
    "hidden gates per channel": {"router": CalendarRouter(per_channel=True, hidden=4)},
    "top one": {"top_k": 1},
    "top two": {"top_k": 2},
    "warm gates": {"router": StatisticsRouter(temperature=4.0)},
    "noise": {"router": StatisticsRouter(noise=1.0), "top_k": 1},
    "dropout": {"router": StatisticsRouter(head_dropout=0.5)},
    "dropout of nearly all": {"router": StatisticsRouter(head_dropout=0.9), "top_k": 2},
    "linear": {"base": "linear"},
    "nlinear": {"base": "nlinear"},
    "rlinear": {"base": "rlinear"},
    "rmlp": {"base": "rmlp"},
    "one expert behind a layer": {"base": "rmlp", "n_experts": 1},
    "random start": {"start": "random"},
    "random rmlp": {"base": "rmlp", "start": "random"},
    "random rlinear": {"base": "rlinear", "start": "random"},
    "mae": {"loss": "mae"},
    "huber": {"loss": "huber"},
    "cosine": {"schedule": "cosine"},
    "exponential": {"schedule": "exponential"},
    "halving": {"schedule": "halving"},
    "decay": {"weight_decay": 1e-3},
    "switch": {"balancing": "switch", "top_k": 1},
    "importance": {"balancing": ImportanceLoss(weight=0.1, decay=None)},
    "load": {"balancing": LoadLoss(), "top_k": 1, "router": StatisticsRouter(noise=0.5)},
    "z": {"balancing": ZLoss(weight=0.1)},
    "loss-free": {"balancing": LossFreeBias(weight=0.05), "top_k": 1},
    "large batches": {"batch_size": 10**6},
    "small batches": {"batch_size": 7},
}


@pytest.mark.parametrize("which", ROUTES)
def test_torch_trains_every_way(which):
    model = trained(learning_rate=0.01, **ROUTES[which])
    found = losses(model)
    n_experts = ROUTES[which].get("n_experts", 3)
    assert model.n_experts_ == n_experts
    assert np.isfinite(found).all()
    assert len(found) >= 2
    X, _ = make_windows(series(seed=1), L, H)
    stamps = np.lib.stride_tricks.sliding_window_view(hours(), L)[: len(X)]
    forecast = model.predict(X, timestamps=stamps)
    assert np.isfinite(forecast).all()
    gates = model.gate_weights(X, timestamps=stamps)
    experts = model.expert_forecasts(X, timestamps=stamps)
    gates = gates[:, None] if gates.ndim == 3 else gates
    np.testing.assert_allclose((gates * experts).sum(-1), forecast, rtol=1e-9, atol=1e-9)
    assert ((gates > 0).sum(axis=-1) <= ROUTES[which].get("top_k", n_experts)).all()
    np.testing.assert_allclose(gates.sum(axis=-1), 1.0, rtol=1e-9)
    if ROUTES[which].get("start") != "random":
        assert model.score(series(seed=1), timestamps=hours()) > 0.2
    # what was trained is what forecasts
    if (
        ROUTES[which].get("loss", "mse") == "mse"
        and not model.plan_.mixture().gate.router.needs_timestamps
    ):
        assert held_out_error(model) == pytest.approx(min(found), rel=2e-3)
    again = trained(learning_rate=0.01, **ROUTES[which])
    assert (again.predict() == model.predict()).all()


@pytest.mark.parametrize("base", ["dlinear", "rlinear", "rmlp"])
@pytest.mark.parametrize("individual", [False, True, "partial"])
def test_torch_channels_of_their_own(individual, base):
    model = MoLEForecaster(
        L,
        H,
        base=base,
        individual=individual,
        n_experts=2,
        solver=GradientSolver(max_epochs=2, min_gain=None),
        random_state=0,
    ).fit(series())
    groups = 1 if individual is False else C
    assert model.plan_.mixture().weights.shape == (groups, 2, L, H)
    assert model.score(series(seed=1)) > 0.2


def test_torch_gates_and_experts_do_learn():
    """From experts that are alike, each of them and the gate go their own way."""
    model = trained(max_epochs=12, learning_rate=0.02, patience=12)
    start = trained(max_epochs=1, learning_rate=1e-12)
    assert min(losses(model)) < 0.97 * losses(start)[0]
    a, b = model.plan_.mixture(), start.plan_.mixture()
    for k in range(3):
        assert np.abs(a.weights[:, k] - b.weights[:, k]).max() > 1e-3
    for layer, other in zip(a.gate.layers, b.gate.layers, strict=True):
        assert np.abs(layer.weight - other.weight).max() > 1e-3


def test_torch_balancing_changes_who_is_used():
    data = series()
    plain = trained(data, top_k=1, max_epochs=6, learning_rate=0.02, patience=6)
    even = trained(
        data,
        top_k=1,
        max_epochs=6,
        learning_rate=0.02,
        patience=6,
        balancing=SwitchLoss(weight=5.0, decay=None),
    )
    assert np.abs(even.expert_usage_ - plain.expert_usage_).max() > 1e-3
    assert even.expert_usage_.max() < plain.expert_usage_.max() + 0.2
    # a balancing of the user is left alone, and may be used twice
    mine = LossFreeBias(weight=0.1)
    before = dict(vars(mine))
    one = trained(data, top_k=1, balancing=mine)
    assert vars(mine) == before
    assert (parameters(trained(data, top_k=1, balancing=mine)) == parameters(one)).all()


# -- data --------------------------------------------------------------------------------------


def test_torch_batches_are_the_windows_of_the_source():
    data = [series(60), series(40, seed=1)]
    data[0][30, 0] = np.nan
    stamps = [hours(60).astype("datetime64[ns]"), hours(40).astype("datetime64[ns]")]
    weight = [np.arange(1.0, 60 - L - H + 2), np.arange(1.0, 40 - L - H + 2)]
    source = WindowSource.of_series(L, H, data, stamps=stamps, weight=weight, fill=np.zeros(C))
    rng = np.random.default_rng(0)
    layer = Layer(rng.normal(size=(1, 12, 2)), rng.normal(size=(1, 2)))
    mixture = Mixture(
        rng.normal(size=(1, 2, L, H)),
        scale_coef=rng.normal(size=(1, 2, H)),
        normalization=Normalization("mean", True, 1e-5),
        gate=Gate(CalendarRouter(freq="h"), (layer,)),
    )
    center, scale = np.array([9.0, 11.0]), np.array([1.5, 5.0])
    batches = gradient.Batches(source, mixture, center, scale, torch.device("cpu"))
    numbers = np.random.default_rng(1).permutation(source.n_windows)
    (columns, riding, features), target, weights = batches.cut(torch.from_numpy(numbers))
    block = source.block(numbers)
    assert len(batches) == source.n_windows
    assert riding is None
    seen = block.weight > 0
    x, y = ((part - center[:, None]) / scale[:, None] for part in (block.x, block.y))
    level = x.mean(axis=2, keepdims=True)
    expected = np.concatenate([x - level, np.sqrt(x.var(axis=2, keepdims=True) + 1e-5)], axis=2)
    np.testing.assert_allclose(columns[seen], expected[seen], atol=1e-5)
    np.testing.assert_allclose(target[seen], (y - level)[seen], atol=1e-5)
    wanted = (
        block.weight
        / np.concatenate([w[: len(w)] for w in weight])[
            np.array([t + i * len(weight[0]) for i, t in source.places])
        ].mean()
    )
    np.testing.assert_allclose(weights, wanted, rtol=1e-5)
    assert not seen.all()
    by_router = CalendarRouter(freq="h").features(block.x, block.stamps, H)
    np.testing.assert_allclose(features, by_router, atol=1e-6)
    few = gradient_batches._FEATURE_ELEMENTS
    try:  # and where not all features are held, those of a batch are
        gradient_batches._FEATURE_ELEMENTS = 1
        lazy = gradient.Batches(source, mixture, center, scale, torch.device("cpu"))
        assert lazy._features is None
        for a, b in zip(
            lazy.cut(torch.from_numpy(numbers))[0], (columns, riding, features), strict=True
        ):
            assert (a is None and b is None) or (a == b).all()
    finally:
        gradient_batches._FEATURE_ELEMENTS = few


def test_torch_windows_are_trained_on_as_the_series_is():
    data = series(n_channels=1)
    X, y = make_windows(data, L, H)
    solver = GradientSolver(max_epochs=3, min_gain=None, learning_rate=0.01)
    model = MoLEForecaster(n_experts=2, solver=solver, random_state=0)
    on_windows = clone(model).fit(X, y)
    flat = clone(model).fit(X[:, :, 0], y[:, :, 0])
    assert on_windows.n_experts_ == 2
    np.testing.assert_allclose(flat.predict(X[:, :, 0]), on_windows.predict(X)[:, :, 0], rtol=1e-9)
    assert on_windows.score(X[:, :, :], y) > 0.3
    on_series = MoLEForecaster(L, H, n_experts=2, solver=solver, random_state=0).fit(data)
    # other windows are held out, but the models are of a kind
    np.testing.assert_allclose(on_series.predict(X), on_windows.predict(X), atol=0.5 * data.std())


def test_torch_gaps_and_weights_count():
    data = series()
    holes = data.copy()
    holes[100:120, 0] = np.nan
    holes[300, 1] = np.nan
    gappy = trained(holes, learning_rate=0.01)
    assert np.isfinite(losses(gappy)).all()
    assert gappy.score(series(seed=1)) > 0.2
    bad = data.copy()
    bad[100:120] += 1e4
    weight = np.ones(len(data))
    weight[85:140] = 0.0  # every window that reads or forecasts them
    spared = trained(bad, weight=weight, learning_rate=0.01)
    assert spared.score(series(seed=1)) > 0.2
    assert trained(bad, learning_rate=0.01).score(series(seed=1)) < spared.score(series(seed=1))
    doubled = trained(data, weight=np.full(len(data), 8.0))
    np.testing.assert_allclose(doubled.predict(), trained(data).predict(), rtol=1e-4)


def test_torch_many_series_are_trained_on_together():
    parts = [series(200), series(L + H - 1), series(150, seed=3)]
    model = MoLEForecaster(
        L, H, n_experts=2, solver=GradientSolver(max_epochs=2, min_gain=None), random_state=0
    ).fit(parts)
    assert model.n_experts_ == 2
    assert [f.shape for f in model.predict([parts[0], parts[2]])] == [(H, C)] * 2


def test_torch_few_windows_keep_the_single_expert():
    model = trained(series(80))
    assert model.n_experts_ == 1
    assert (model.predict() == mixlin.DLinearForecaster(L, H).fit(series(80)).predict()).all()


def test_torch_fits_on_any_engine_forecast_alike():
    model = trained(learning_rate=0.01)
    X, _ = make_windows(series(seed=1), L, H)
    expected = model.predict(X)
    for engine in ("torch", "torch:cpu:float64"):
        found = clone(model).set_params(backend=engine).fit(series(), timestamps=hours()).predict(X)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.std(expected))


# -- slopes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("top_k", [None, 2])
def test_torch_slopes_flow_through_the_forward_pass(per_step, top_k):
    """Against differences of the forecasts themselves, in float64."""
    rng = np.random.default_rng(0)
    router = CalendarRouter(stamp="horizon" if per_step else "next", freq="h")
    gate = Gate(
        router,
        (
            Layer(0.5 * rng.normal(size=(1, 12, 5)), rng.normal(size=(1, 5)), activation="relu"),
            Layer(rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 3))),
        ),
        top_k=top_k,
        temperature=0.7,
    )
    mixture = Mixture(rng.normal(size=(1, 3, L, H)), bias=rng.normal(size=(1, 3, H)), gate=gate)
    X = rng.normal(size=(5, C, L))
    stamps = (hours(5)[:, None] + np.arange(L + H)).astype("datetime64[ns]")
    features = router.features(X, stamps, H)
    backend = resolve("torch:cpu:float64")
    placed = place(mixture, backend)
    tensors = [t.requires_grad_() for t in gradient._tensors(placed)]
    given = (torch.from_numpy(X), None, torch.from_numpy(features))
    target = torch.from_numpy(rng.normal(size=(5, C, H)))

    def loss():
        return ((compute(placed, backend, *given).forecast - target) ** 2).mean()

    found = loss()
    plain = ((predict_windows(mixture, X, timestamps=stamps) - target.numpy()) ** 2).mean()
    assert found.item() == pytest.approx(plain, rel=1e-9)
    slopes = torch.autograd.grad(found, tensors)
    for tensor, slope in zip(tensors, slopes, strict=True):
        assert slope.shape == tensor.shape
        assert (slope != 0).any()
        for place_ in rng.choice(tensor.numel(), size=min(12, tensor.numel()), replace=False):
            flat = tensor.detach().view(-1)
            old = float(flat[place_])
            ends = []
            for step in (1e-5, -1e-5):
                flat[place_] = old + step
                ends.append(loss().item())
            flat[place_] = old
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(
                slope.reshape(-1)[place_].item(), abs=1e-6
            )
