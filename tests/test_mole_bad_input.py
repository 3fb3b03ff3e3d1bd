"""A mixture that can't be fitted, or asked, says why, and is what it was before."""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import clone

import mixlin
from mixlin import MoLEForecaster
from mixlin.routing import CalendarRouter, Router, SpectralRouter, StatisticsRouter
from mixlin.solvers import (
    AlternatingSolver,
    FixedGatesSolver,
    GradientSolver,
    LoadLoss,
    SwitchLoss,
    alternating,
    corrections,
    expectation_maximization,
    fixed_gates,
)
from mixlin.solvers.mixture_task import FitInterruptedWarning
from mixlin.windows import make_windows

from .test_forecasters_bad_input import refused

L, H, C, T = 12, 3, 2, 240
NAN = float("nan")
ALTERNATING = AlternatingSolver(strength=0.1, fewer_experts=False, n_iter=2)


def series(n_rows=T, n_channels=C):
    wave = np.sin(np.arange(n_rows) / 3)[:, None]
    return wave + np.random.default_rng(0).normal(scale=0.3, size=(n_rows, n_channels))


def hours(n_rows=T):
    return np.datetime64("2024-01-01T00", "h") + np.arange(n_rows)


X, Y = make_windows(series(), L, H)
STEPS = np.lib.stride_tricks.sliding_window_view(hours(), L)[: len(X)]


def estimators(**params):
    """Return an estimator that is not fitted and two that are, all with the same parameters."""
    plain = {"n_experts": 2, "solver": ALTERNATING, "random_state": 0}
    fresh = MoLEForecaster(L, H, **{**plain, **params})
    on_series = MoLEForecaster(L, H, **plain).fit(series())
    on_windows = MoLEForecaster(router="calendar", **plain).fit(X, Y, timestamps=STEPS)
    return [fresh, *(e.set_params(**fresh.get_params(deep=False)) for e in (on_series, on_windows))]


def refused_at_fit(match, *, error=ValueError, data=None, timestamps=None, **params):
    data = series() if data is None else data
    times = hours(len(data)) if timestamps is None else timestamps
    for estimator in estimators(**params):
        refused(error, match, lambda e=estimator: e.fit(data, timestamps=times), estimator)


# -- parameters --------------------------------------------------------------------------------

PARAMETERS = {
    "no experts": ({"n_experts": 0}, r"'n_experts' parameter .* \[1, inf\).* Got 0"),
    "fewer than none": ({"n_experts": -3}, "'n_experts' parameter .* Got -3"),
    "half an expert": ({"n_experts": 2.5}, "'n_experts' parameter .* Got 2.5"),
    "a true number of experts": ({"n_experts": True}, "'n_experts' parameter .* Got True"),
    "no number of experts": ({"n_experts": None}, "'n_experts' parameter .* Got None"),
    "no best expert": ({"top_k": 0}, "'top_k' parameter .* Got 0"),
    "too many best": (
        {"top_k": 3},
        "top_k=3 is more than n_experts=2. Choose a top_k of at most n_experts, or None for all",
    ),
    "an unknown base": ({"base": "tree"}, "'base' parameter .*'dlinear'.* Got 'tree'"),
    "no base": ({"base": None}, "'base' parameter .* Got None"),
    "an unknown router": (
        {"router": "moon"},
        "router must be one of 'calendar', 'constant', 'spectral', 'statistics', or a Router such "
        r"as CalendarRouter\(stamp='first'\); got 'moon'",
    ),
    "a class of routers": ({"router": StatisticsRouter}, "'router' parameter .* Got <class"),
    "an unknown solver": (
        {"solver": "magic"},
        "solver must be one of 'alternating', 'fixed-gates', 'gradient', or a solver such as "
        r"GradientSolver\(max_epochs=20\); got 'magic'",
    ),
    "a solver of linear models": (
        {"solver": mixlin.ExactSolver()},
        r"'solver' parameter .* Got ExactSolver\(\)",
    ),
    "a negative penalty": ({"alpha": -1.0}, "'alpha' parameter .* Got -1.0"),
    "a router out of range": (
        {"router": SpectralRouter(n_bands=0)},
        "n_bands of SpectralRouter must be an integer of at least 1; got 0",
    ),
    "a gate without warmth": (
        {"router": StatisticsRouter(temperature=0)},
        "temperature of StatisticsRouter must be positive; got 0",
    ),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_out_of_range_are_refused(case):
    params, match = PARAMETERS[case]
    refused_at_fit(match, **params)


SOLVERS = {
    "no strength": (AlternatingSolver(0.0), "strength of AlternatingSolver must be a positive"),
    "negative strength": (FixedGatesSolver(strength=-1.0), "strength of FixedGatesSolver .*-1.0"),
    "one bad strength of many": (AlternatingSolver((0.1, -2.0)), r"got \(0.1, -2.0\)"),
    "no strengths": (AlternatingSolver(()), r"or several to choose from; got \(\)"),
    "a word for strength": (AlternatingSolver("strong"), "must be a positive number.*'strong'"),
    "strength that is no number": (AlternatingSolver(NAN), "must be a positive number.*nan"),
    "none held out": (
        AlternatingSolver(validation=0),
        "validation of AlternatingSolver must be a share between 0 and 1 or a number of rows; got",
    ),
    "all held out": (FixedGatesSolver(validation=1.0), "validation of FixedGatesSolver .* got 1.0"),
    "less than none held out": (GradientSolver(validation=-5), "validation of GradientSolver .*-5"),
    "true rows held out": (AlternatingSolver(validation=True), "number of rows; got True"),
    "a share above one": (AlternatingSolver(validation=1.5), "number of rows; got 1.5"),
    "no rounds": (AlternatingSolver(n_iter=0), "n_iter of AlternatingSolver must be an integer"),
    "half a round": (AlternatingSolver(n_iter=2.5), "an integer of at least 1; got 2.5"),
    "no sharpness": (AlternatingSolver(sharpness=0), "sharpness of AlternatingSolver must be posi"),
    "no gate penalty": (AlternatingSolver(gate_penalty=-1), "gate_penalty .* must be positive"),
    "a negative gain": (AlternatingSolver(min_gain=-0.1), "min_gain .* must not be negative"),
    "no coordinates": (
        FixedGatesSolver(n_coordinates=0),
        "n_coordinates .* must be an integer",
    ),
    "a foreign period": (FixedGatesSolver("moon"), "period must be 'day', 'week' or 'year'"),
    "no harmonics": (FixedGatesSolver(n_harmonics=0), "n_harmonics must be None or at least 1"),
    "more harmonics than experts": (
        FixedGatesSolver(n_harmonics=2),
        "gates of n_experts=2 don't sum to one with n_harmonics=2. Use more experts than harmonics",
    ),
    "no epochs": (GradientSolver(max_epochs=0), "max_epochs of GradientSolver must be an integer"),
    "half a batch": (GradientSolver(batch_size=0.5), "batch_size of GradientSolver must be"),
    "no patience": (GradientSolver(patience=0), "patience of GradientSolver must be an integer"),
    "no rate": (GradientSolver(learning_rate=0.0), "learning_rate .* must be a positive number"),
    "a true rate": (GradientSolver(learning_rate=True), "learning_rate .*; got True"),
    "another schedule": (GradientSolver(schedule="linear"), r"schedule .* one of \('constant'"),
    "another loss": (GradientSolver(loss="mape"), r"loss .* must be one of \('mse', 'mae', 'hub"),
    "another start": (GradientSolver(start="warm"), r"start .* must be one of \('exact', 'random'"),
    "negative noise at the start": (GradientSolver(start_noise=-1.0), "start_noise .*not negative"),
    "negative decay": (GradientSolver(weight_decay=-1.0), "weight_decay .* not negative"),
    "another balancing": (GradientSolver(balancing="even"), "balancing must be None, one of"),
    "balancing out of range": (
        GradientSolver(balancing=SwitchLoss(weight=-1)),
        "weight of SwitchLoss must not be negative; got -1",
    ),
}


@pytest.mark.parametrize("case", SOLVERS)
def test_parameters_of_solvers_out_of_range_are_refused(case):
    solver, match = SOLVERS[case]
    refused_at_fit(match, solver=solver)


@pytest.mark.parametrize("solver", [AlternatingSolver(), "alternating", "fixed-gates"])
def test_what_only_gradient_descent_can_do_is_refused_elsewhere(solver):
    match = r"base='rmlp' has a layer that \w+Solver can't fit. Use solver='gradient', or base='rl"
    refused_at_fit(match, base="rmlp", solver=solver)
    if solver != "fixed-gates":
        for router in (StatisticsRouter(noise=0.1), CalendarRouter(head_dropout=0.5)):
            match = (
                f"of {type(router).__name__} act in training by gradient descent; Alternating.* "
                "Use solver='gradient', or leave them at zero"
            )
            refused_at_fit(match, router=router, solver=solver)


def test_gates_that_are_fixed_are_not_cut():
    match = "top_k=1 would cut the smooth gates of FixedGatesSolver. Leave top_k at None, or use"
    refused_at_fit(match, top_k=1, solver="fixed-gates")


def test_a_balance_of_load_without_noise_is_refused_with_torch():
    pytest.importorskip("torch", reason="torch is not installed")
    match = "LoadLoss needs noise in the router and top_k below n_experts"
    for router, top_k in ((StatisticsRouter(), 1), (StatisticsRouter(noise=0.5), None)):
        solver = GradientSolver(max_epochs=1, balancing=LoadLoss())
        refused_at_fit(match, solver=solver, router=router, top_k=top_k)


def test_gradient_descent_needs_torch_and_says_so(monkeypatch):
    plain = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return plain(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "mixlin.solvers.gradient", raising=False)
    monkeypatch.delitem(sys.modules, "mixlin.backends.torch_backend", raising=False)
    monkeypatch.delattr(mixlin.solvers, "gradient", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_torch)
    match = (
        r"solver='gradient' needs torch, .* Install it \(pip install 'mixlin\[torch\]'\), or use "
        "solver='alternating', which needs none"
    )
    for error in (mixlin.BackendNotAvailableError, ImportError):
        refused_at_fit(match, error=error, solver="gradient")


# -- routers that break their promise ----------------------------------------------------------


@dataclass(eq=False, repr=False)
class Broken(Router):
    """A router whose features are not what a router returns."""

    how: str = "one axis"

    def features(self, windows, timestamps, horizon):
        n, channels, _ = windows.shape
        return {
            "one axis": np.zeros(n),
            "two axes": np.zeros((n, 3)),
            "other windows": np.zeros((n + 1, 1, 3)),
            "other channels": np.zeros((n, channels + 1, 3)),
            "other steps": np.zeros((n, 1, horizon + 1, 3)),
            "five axes": np.zeros((n, 1, horizon, 3, 1)),
            "nan": np.full((n, 1, 3), NAN),
            "infinity": np.full((n, channels, 3), np.inf),
        }[self.how]


@pytest.mark.parametrize("solver", ["alternating", "torch"])
@pytest.mark.parametrize(
    "how",
    [
        *("one axis", "two axes", "other windows", "other channels", "other steps", "five axes"),
        *("nan", "infinity"),
    ],
)
def test_a_router_that_breaks_its_promise_is_named(how, solver):
    if solver == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    match = (
        "Broken.features returned values that are not finite"
        if how in ("nan", "infinity")
        else r"Broken.features must return \(n_windows, 1 or n_channels, n_features\) or .*; got \("
    )
    solver = ALTERNATING if solver == "alternating" else GradientSolver(max_epochs=1)
    refused_at_fit(match, router=Broken(how), solver=solver)


# -- times -------------------------------------------------------------------------------------

HOW = r"Pass a frame whose index holds dates, or timestamps= .*router='statistics'\)"
CALENDARS = {
    "by name": {"router": "calendar", "solver": ALTERNATING},
    "by object": {"router": CalendarRouter(stamp="horizon"), "solver": ALTERNATING},
    "by solver": {"solver": FixedGatesSolver(strength=0.1, fewer_experts=False)},
}


@pytest.mark.parametrize("which", CALENDARS)
def test_a_calendar_needs_times_at_fit_and_at_predict(which):
    params = CALENDARS[which]
    for e in estimators(**params):
        match = f"this model is routed by the calendar, but the series has no timestamps. {HOW}"
        refused(ValueError, match, lambda e=e: e.fit(series()), e)
        match = f"but series 0 has no timestamps. {HOW}"
        refused(ValueError, match, lambda e=e: e.fit([series(), series()]), e)
    for e in estimators(**params):
        e.set_params(lookback=None, horizon=None)
        match = f"but the windows have no timestamps. {HOW}"
        refused(ValueError, match, lambda e=e: e.fit(X, Y), e)
    model = MoLEForecaster(L, H, n_experts=2, random_state=0, **params)
    model.fit(series(), timestamps=hours())
    assert model.n_experts_ == 2
    match = f"but the context has no timestamps. {HOW}"
    for ask in (model.predict, model.predict_interval, model.gate_weights, model.expert_forecasts):
        refused(ValueError, match, lambda ask=ask: ask(series(40)), model)
        refused(ValueError, match, lambda ask=ask: ask([series(40)]), model)
        message = f"but the windows have no timestamps. {HOW}"
        refused(ValueError, message, lambda ask=ask: ask(X), model)
        match_none = "timestamps are those of the context's rows; without X .* Leave timestamps out"
        refused(ValueError, match_none, lambda ask=ask: ask(None, timestamps=hours()), model)
    refused(ValueError, "no timestamps|no index", lambda: model.score(series(40)), model)


def test_one_expert_needs_no_times():
    model = MoLEForecaster(L, H, n_experts=1, router="calendar").fit(series())
    assert (model.predict() == mixlin.DLinearForecaster(L, H).fit(series()).predict()).all()
    model = MoLEForecaster(n_experts=1, router="calendar").fit(X, Y)
    assert model.predict(X).shape == Y.shape


def test_an_index_of_numbers_or_durations_is_no_calendar():
    pd = pytest.importorskip("pandas")
    for index in (pd.RangeIndex(T), pd.timedelta_range("0h", periods=T, freq="h")):
        frame = pd.DataFrame(series(), index=index)
        match = "routed by the calendar, but of the series: "
        for e in estimators(router="calendar"):
            refused(ValueError, match, lambda e=e, f=frame: e.fit(f), e)
        dated = frame.set_axis(pd.date_range("2024-01-01", periods=T, freq="h"))
        model = MoLEForecaster(L, H, n_experts=2, router="calendar", solver=ALTERNATING).fit(dated)
        refused(ValueError, "the context|index", lambda m=model, f=frame: m.predict(f), model)


def moved(places, by):
    out = hours()
    out[places] = out[places] + by
    return out


SERIES_STAMPS = {
    "duplicate": (moved(5, np.timedelta64(1, "h")), "1 duplicate label"),
    "unsorted": (hours()[::-1], "not sorted"),
    "NaT": (moved(5, np.timedelta64("NaT")), "hold NaT"),
    "one short": (hours()[:-1], r"one stamp per row, shape \(240,\); got shape \(239,\)"),
    "irregular": (
        np.datetime64("2024-01-01T00:00") + np.cumsum(np.arange(T) % 7 + 3),
        "is irregular",
    ),
    "yearly": (
        np.datetime64("1700", "Y") + np.arange(T),
        "freq|frequenc",
    ),
}


@pytest.mark.parametrize("case", SERIES_STAMPS)
def test_times_of_a_series_that_make_no_sense_are_refused(case):
    stamps, match = SERIES_STAMPS[case]
    refused_at_fit(match, timestamps=stamps, router="calendar")


@pytest.mark.parametrize("step", ["30min", "D"])
def test_times_of_another_frequency_are_refused_at_predict(step):
    count = {"30min": (30, "m"), "D": (1, "D")}[step]
    other = np.datetime64("2024-01-01T00:00", "m") + np.arange(T) * np.timedelta64(*count)
    params = {"n_experts": 2, "router": "calendar", "solver": ALTERNATING, "random_state": 0}
    model = MoLEForecaster(L, H, **params).fit(series(), timestamps=hours())
    refused(
        ValueError,
        "does not step by '1h'",
        lambda: model.predict(series(), timestamps=other),
        model,
    )
    windows = np.lib.stride_tricks.sliding_window_view(other, L)[: len(X)]
    on_windows = MoLEForecaster(**params).fit(X, Y, timestamps=STEPS)
    for fitted in (model, on_windows):
        match = "the timestamps step by .*, but the model was fitted on steps of 1:00:00. Resample"
        refused(ValueError, match, lambda m=fitted: m.predict(X, timestamps=windows), fitted)
    refused(ValueError, match, lambda: on_windows.score(X, Y, timestamps=windows), on_windows)


def changed(i, j, value):
    out = STEPS.copy()
    out[i, j] = value
    return out


WINDOW_STAMPS = {
    "wrong shape": (STEPS[:, :-1], r"must have one of the shapes \(226,\) .* got \(226, 11\)"),
    "other windows": (STEPS[:-1], r"one of the shapes \(226,\) .*; got \(225, 12\)"),
    "three axes": (STEPS[:, :, None], r"got \(226, 12, 1\)"),
    "one stamp": (hours(1)[0], r"got \(\)|one entry per window|len"),
    "NaT": (changed(3, 2, np.datetime64("NaT")), "timestamps hold NaT; every window needs"),
    "repeated": (changed(3, 2, STEPS[3, 1]), "must increase from step to step; some repeat"),
    "unsorted": (STEPS[:, ::-1], "must increase from step to step; some repeat or are not sorted"),
    "uneven": (
        STEPS.astype("datetime64[m]") + (np.arange(L) ** 2).astype("timedelta64[m]"),
        r"do not step evenly, .* Pass all of them, shape \(226, 15\), or windows of one frequency",
    ),
    "numbers": (np.arange(len(X)), "must be datetime64 values; got dtype int"),
    "words": (["monday"] * len(X), "must be datetime64 values; got dtype"),
    "all the same": (
        np.repeat(hours(1), len(X)),
        "the step between the rows can't be told from the first stamps .* all the same. Pass",
    ),
}


@pytest.mark.parametrize("case", WINDOW_STAMPS)
def test_times_of_windows_that_make_no_sense_are_refused(case):
    stamps, match = WINDOW_STAMPS[case]
    for e in estimators(router="calendar"):
        e.set_params(lookback=None, horizon=None)
        refused((ValueError, TypeError), match, lambda e=e: e.fit(X, Y, timestamps=stamps), e)
    params = {"n_experts": 2, "router": "calendar", "solver": ALTERNATING, "random_state": 0}
    on_windows = MoLEForecaster(**params).fit(X, Y, timestamps=STEPS)
    on_series = MoLEForecaster(L, H, **params).fit(series(), timestamps=hours())
    if case == "all the same":  # the step is known from fit
        assert np.isfinite(on_windows.predict(X, timestamps=stamps)).all()
        return
    for fitted in (on_windows, on_series):
        wanted = match if case != "uneven" else f"{match}|step by uneven lengths"
        refused(
            (ValueError, TypeError),
            wanted,
            lambda m=fitted: m.predict(X, timestamps=stamps),
            fitted,
        )


# -- a frequency that changes --------------------------------------------------------------------


def dated(pd, index):
    return pd.DataFrame(series(len(index)), index=index, columns=["a", "b"])


def test_a_frame_whose_frequency_changes_is_refused_at_fit():
    pd = pytest.importorskip("pandas")
    coarse = pd.date_range("2024-01-01", periods=100, freq="h")
    fine = pd.date_range(coarse[-1], periods=200, freq="30min")
    index = coarse.append(fine[1:])
    match = (
        "the frequency of the series changes: from 2024-01-01 00:00:00 to 2024-01-05 03:00:00 its "
        r"rows step by 2 x '30min', and the others step by '30min'\. Resample"
    )
    for router in ("calendar", "statistics"):
        model = MoLEForecaster(L, H, router=router, solver=ALTERNATING)
        refused(ValueError, match, lambda m=model: m.fit(dated(pd, index)), model)
        refused(
            ValueError,
            r"rows step by 2 x '30m'",
            lambda m=model: m.fit(series(len(index)), timestamps=index.to_numpy("M8[s]")),
            model,
        )


def test_a_context_of_another_frequency_is_told_so_and_not_of_missing_values():
    pd = pytest.importorskip("pandas")
    frame = dated(pd, pd.date_range("2024-01-01", periods=T, freq="h"))
    model = MoLEForecaster(L, H, router="calendar", solver=ALTERNATING).fit(frame)
    match = r"steps by 2 x 'h', and the training series by 'h'\. Resample"
    for method in (model.predict, model.gate_weights, model.expert_forecasts, model.score):
        refused(ValueError, match, lambda m=method: m(frame.iloc[::2]), model)
    changed = pd.concat([frame.iloc[:100], frame.iloc[101::2]])
    match = r"step by 2 x 'h', and the training series steps by 'h'"
    refused(ValueError, match, lambda: model.predict(changed), model)
    gappy = frame.drop(frame.index[[5, 9, 30]])
    assert model.predict(gappy).equals(model.predict(frame))  # gaps stay gaps


# -- an interrupt --------------------------------------------------------------------------------


def interrupt(monkeypatch, owner, name, at=1):
    """Let the ``at``-th call of a function end as Ctrl-C would."""
    plain, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


def daily(n_rows=24 * 40):
    """Return series whose law changes with the time of day."""
    rng, out = np.random.default_rng(0), np.zeros((n_rows, C))
    for t in range(1, n_rows):
        law = 0.2 + 0.7 * np.cos(2 * np.pi * (t % 24) / 24)
        out[t] = law * out[t - 1] + rng.normal(size=C)
    return out + 3.0


def fit_interrupted(solver, kept):
    model = MoLEForecaster(L, H, n_experts=4, router="calendar", solver=solver, random_state=0)
    with pytest.warns(FitInterruptedWarning, match=f"interrupted; the {kept} .*is kept"):
        model.fit(daily(), timestamps=hours(len(daily())))
    return model


def is_usable(model, tmp_path):
    model.save(tmp_path / "model")
    assert (mixlin.load(tmp_path / "model").predict() == model.predict()).all()
    np.testing.assert_allclose(model.gate_weights().sum(axis=-1), 1.0, rtol=1e-9)
    assert np.isfinite(model.predict_quantiles(quantiles=[0.1, 0.9])).all()


EARLY = {
    "gates": (AlternatingSolver, expectation_maximization.GateFit, "maximize", 3),
    "rows": (AlternatingSolver, alternating, "gather", 1),
    "moments": (AlternatingSolver, corrections, "joint_moments", 5),
    "fixed gates": (FixedGatesSolver, fixed_gates, "harmonic_moments", 2),
}


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("case", EARLY)
def test_an_early_interrupt_leaves_the_exact_single_expert(monkeypatch, tmp_path, case, refit):
    solver, owner, name, at = EARLY[case]
    interrupt(monkeypatch, owner, name, at)
    model = fit_interrupted(solver(refit=refit), "exact single expert")
    monkeypatch.undo()
    seen = daily() if refit else daily()[: len(daily()) - len(daily()) // 5]
    single = mixlin.DLinearForecaster(L, H).fit(seen)
    assert (model.predict(daily(), timestamps=hours(960)) == single.predict(daily())).all()
    assert (model.n_experts_, model.history_) == (1, [])
    is_usable(model, tmp_path)


def test_an_interrupt_of_the_choice_keeps_the_best_so_far(monkeypatch, tmp_path):
    interrupt(monkeypatch, corrections.ShrinkagePath, "losses", 4)
    model = fit_interrupted(AlternatingSolver(), "best that had been found")
    monkeypatch.undo()
    losses = [entry["validation_loss"] for entry in model.history_]
    assert model.history_[0]["gates"] == "single expert"
    assert len(losses) == 1 + 3 * len(alternating.STRENGTHS)
    assert min(losses) < 0.95 * losses[0]
    assert model.n_experts_ > 1
    held_out = daily()[-(len(daily()) // 5) :]
    single = mixlin.DLinearForecaster(L, H).fit(daily()[: -len(held_out)])
    times = hours(len(daily()))[-len(held_out) :]
    assert model.score(held_out, timestamps=times) > single.score(held_out) + 0.01
    is_usable(model, tmp_path)


def test_an_interrupt_of_the_last_solution_keeps_the_one_before(monkeypatch, tmp_path):
    interrupt(monkeypatch, fixed_gates, "harmonic_moments", 3)
    model = fit_interrupted(FixedGatesSolver(), "best that had been found")
    monkeypatch.undo()
    before = clone(model).set_params(solver=FixedGatesSolver(refit=False))
    before.fit(daily(), timestamps=hours(len(daily())))
    assert model.n_experts_ == before.n_experts_ == 4
    assert (model.predict() == before.predict()).all()
    is_usable(model, tmp_path)


def test_what_does_not_pay_is_not_kept_after_an_interrupt_either(monkeypatch):
    interrupt(monkeypatch, corrections.ShrinkagePath, "losses", 3)
    model = fit_interrupted(AlternatingSolver(min_gain=0.9), "exact single expert")
    assert model.n_experts_ == 1
    assert len(model.history_) == 1 + 2 * len(alternating.STRENGTHS)


def test_an_interrupt_without_a_choice(monkeypatch, tmp_path):
    solver = AlternatingSolver(0.1, fewer_experts=False, n_iter=2)
    interrupt(monkeypatch, corrections.ShrinkagePath, "losses", 2)
    model = fit_interrupted(solver, "best that had been found")
    assert model.n_experts_ == 4
    is_usable(model, tmp_path)
    monkeypatch.undo()
    interrupt(monkeypatch, alternating, "moments_of")
    assert fit_interrupted(solver, "exact single expert").n_experts_ == 1


def test_a_second_interrupt_ends_the_fit(monkeypatch):
    interrupt(monkeypatch, fixed_gates, "harmonic_moments")
    monkeypatch.setattr(alternating, "single_expert", lambda *_: _raise())
    model = MoLEForecaster(L, H, solver=FixedGatesSolver())
    with pytest.warns(FitInterruptedWarning), pytest.raises(KeyboardInterrupt):
        model.fit(daily(), timestamps=hours(len(daily())))
    assert not hasattr(model, "plan_")


def _raise():
    raise KeyboardInterrupt
