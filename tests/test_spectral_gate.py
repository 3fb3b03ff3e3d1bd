"""The gate on the spectrum: its fit, its weights as data, and what it promises of windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import mixlin
from mixlin import SuperLinearForecaster
from mixlin.backends import resolve
from mixlin.experts import (
    BankMatrices,
    ExpertBank,
    PriorExpert,
    SpectralGate,
    SpectralWeights,
    default_bank,
    named_gate,
    period_experts,
    seasonless_experts,
)
from mixlin.experts.spectral_gate import (
    gate_frequencies,
    shipped_for,
    shipped_weights,
    spectral_features,
)
from mixlin.mixture import PriorPlan
from mixlin.mixture.resampling import gate_logits
from mixlin.solvers import fit_spectral_layer
from mixlin.solvers.spectral import soft_targets

N, F, E = 60, 12, 5
GRID = gate_frequencies(64)


def rows(seed=0, n=N):
    rng = np.random.default_rng(seed)
    features = rng.dirichlet(np.full(F, 0.3), size=n)
    losses = np.exp(features @ rng.normal(size=(F, E)) + 0.1 * rng.normal(size=(n, E)))
    return features, losses


def cost(weight, bias, features, losses, priors, exponent, ridge, start, sample_weight):
    targets = softmax(priors - exponent * np.log(losses), axis=1)
    logits = features @ weight + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    entropy = np.log(np.exp(logits).sum(axis=1)) - (targets * logits).sum(axis=1)
    change = ((weight - start[0]) ** 2).sum() + ((bias - start[1]) ** 2).sum()
    return np.average(entropy, weights=sample_weight) + ridge / 2 * change


def small_weights(names, seed=0):
    rng = np.random.default_rng(seed)
    size = len(names), len(GRID)
    return SpectralWeights(3 * rng.normal(size=size), rng.normal(size=size[0]), tuple(names), GRID)


# -- the fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1e-1, 1e-4])
@pytest.mark.parametrize("started", [False, True])
def test_the_fit_is_where_the_cost_is_least(ridge, started):
    features, losses = rows()
    rng = np.random.default_rng(1)
    priors, weight = rng.normal(size=E), rng.uniform(0.5, 2.0, size=N)
    start = (rng.normal(size=(F, E)), rng.normal(size=E)) if started else None
    found = fit_spectral_layer(
        features,
        losses,
        log_priors=priors,
        exponent=3.0,
        ridge=ridge,
        start=start,
        sample_weight=weight,
    )
    begin = (np.zeros((F, E)), priors) if start is None else start
    about = (features, losses, priors, 3.0, ridge, begin, weight)
    least = cost(*found, *about)
    for step in (1e-3, -1e-3):
        for k, e in ((0, 0), (5, 2), (11, 4)):
            moved = found[0].copy()
            moved[k, e] += step
            assert cost(moved, found[1], *about) > least
        moved = found[1].copy()
        moved[1] += step
        assert cost(found[0], moved, *about) > least


def test_the_fit_does_not_depend_on_the_order_of_rows_or_experts():
    features, losses = rows()
    weight, bias = fit_spectral_layer(features, losses, exponent=8.0, ridge=1e-6)
    order, experts = np.random.default_rng(2).permutation(N), np.arange(E)[::-1]
    again = fit_spectral_layer(features[order], losses[order][:, experts], exponent=8.0, ridge=1e-6)
    scale = np.abs(weight).max()
    assert np.abs(again[0] - weight[:, experts]).max() < 1e-9 * scale
    assert np.abs(again[1] - bias[experts]).max() < 1e-9 * scale


def test_a_weight_of_two_is_a_row_given_twice():
    features, losses = rows()
    twice = np.r_[np.arange(N), np.arange(10)]
    weight = np.where(np.arange(N) < 10, 2.0, 1.0)
    one = fit_spectral_layer(features, losses, ridge=1e-3, sample_weight=weight)
    two = fit_spectral_layer(features[twice], losses[twice], ridge=1e-3)
    plain = fit_spectral_layer(features, losses, ridge=1e-3)
    np.testing.assert_allclose(one[0], two[0], atol=1e-9)
    assert np.abs(one[0] - plain[0]).max() > 1e-4


def test_a_large_ridge_keeps_the_start():
    features, losses = rows()
    start = np.ones((F, E)), np.arange(E, dtype=float)
    weight, bias = fit_spectral_layer(features, losses, ridge=1e6, start=start)
    np.testing.assert_allclose(weight, start[0], atol=1e-5)
    np.testing.assert_allclose(bias, start[1], atol=1e-5)


def test_targets_are_priors_times_powers_of_losses():
    losses = np.array([[0.0, 1.0], [2.0, 1.0]])
    targets = soft_targets(losses, np.log([1.0, 3.0]), 2.0)
    np.testing.assert_allclose(targets, [[1.0, 0.0], [1 / 13, 12 / 13]], atol=1e-12)


def test_too_few_steps_are_told():
    features, losses = rows()
    with pytest.warns(ConvergenceWarning, match="instead of 1.0e-30"):
        fit_spectral_layer(features, losses, ridge=1e-6, tolerance=1e-30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones(3)}, "of as many rows"),
        ({"losses": np.ones((N + 1, E))}, "of as many rows"),
        ({"losses": -np.ones((N, E))}, "not negative"),
        ({"features": np.full((N, F), np.nan)}, "must be finite"),
        ({"log_priors": np.ones(E + 1)}, "log_priors must be 5 finite numbers"),
        ({"sample_weight": np.zeros(N)}, "not zero everywhere"),
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"exponent": -1.0}, "exponent must not be negative"),
        ({"start": (np.zeros((F, E)), np.zeros(F))}, "start must be a weight of shape"),
    ],
)
def test_what_can_not_be_fitted_is_refused(change, message):
    features, losses = rows()
    given = {"features": features, "losses": losses, **change}
    with pytest.raises(ValueError, match=message):
        fit_spectral_layer(given.pop("features"), given.pop("losses"), **given)


# -- weights as data ---------------------------------------------------------------------------


def test_weights_come_back_from_a_file(tmp_path):
    weights = small_weights(["mean", "naïve"])
    weights.save(tmp_path / "gate.safetensors")
    again = SpectralWeights.load(tmp_path / "gate.safetensors")
    assert again.names == weights.names
    np.testing.assert_array_equal(again.weight, weights.weight.astype(np.float32))
    np.testing.assert_array_equal(again.frequencies, weights.frequencies)
    again.save(tmp_path / "second.safetensors")
    assert repr(SpectralWeights.load(tmp_path / "second.safetensors")) == repr(again)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "gate.safetensors"
    small_weights(["mean"]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="is no file of a spectral gate"):
        SpectralWeights.load(path)
    model = SuperLinearForecaster(8, 1, bank=default_bank()[:1]).fit(np.arange(30.0))
    model.save(path)
    with pytest.raises(ValueError, match="is no file of a spectral gate: its format is"):
        SpectralWeights.load(path)


def test_gates_print_alike_only_if_they_are():
    one, same, other = (small_weights(["a", "b"], seed) for seed in (0, 0, 1))
    assert repr(one) == repr(same) != repr(other)
    renamed = SpectralWeights(one.weight, one.bias, ("a", "c"), GRID)
    assert repr(renamed) != repr(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": np.zeros(3)}, "2 experts and"),
        ({"weight": np.zeros((2, 4))}, "2 experts and"),
        ({"frequencies": GRID[::-1]}, "must increase from 0 to 0.5"),
        ({"frequencies": GRID * 0.9}, "must increase from 0 to 0.5"),
    ],
)
def test_weights_fit_together(change, message):
    given = {"weight": np.zeros((2, len(GRID))), "bias": np.zeros(2), "frequencies": GRID, **change}
    with pytest.raises(ValueError, match=message):
        SpectralWeights(names=("a", "b"), **given)


# -- the gate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lookback", [1, 2, 7, 48, 1000, 1024, 1025, 1500, 2048])
def test_a_gate_gives_the_logits_that_its_weights_were_fitted_to(lookback):
    weights = small_weights(default_bank().names[:4])
    windows = np.cumsum(np.random.default_rng(3).normal(size=(6, lookback)), axis=1)
    direct = spectral_features(windows, GRID) @ weights.weight.T + weights.bias
    found = gate_logits(weights.gate(lookback), windows)
    np.testing.assert_allclose(found, direct, atol=1e-11)
    if lookback > 2:  # the twin: weights of another gate
        other = gate_logits(small_weights(weights.names, seed=1).gate(lookback), windows)
        assert np.abs(other - direct).max() > 0.1


def test_features_are_shares_of_power():
    t = np.arange(600)
    waves = np.stack([np.sin(2 * np.pi * t / p) for p in (50, 12, 3)])
    shares = spectral_features(waves, GRID)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-12)
    peak = GRID[shares.argmax(axis=1)]
    np.testing.assert_allclose(peak, [1 / 50, 1 / 12, 1 / 3], atol=1 / 64)
    assert not spectral_features(np.full((1, 50), 7.0), GRID).any()


@settings(deadline=None, max_examples=20)
@given(
    shift=st.floats(-1e3, 1e3),
    log_scale=st.floats(-6, 6),
    lookback=st.integers(3, 300),
    seed=st.integers(0, 99),
)
def test_gates_do_not_see_shift_and_scale(shift, log_scale, lookback, seed):
    gate = small_weights(default_bank().names[:4]).gate(lookback)
    x = np.random.default_rng(seed).normal(size=(3, lookback))
    moved = x * 10**log_scale + shift * 10**log_scale
    np.testing.assert_allclose(gate_logits(gate, moved), gate_logits(gate, x), atol=1e-7)


def test_the_shipped_gate_knows_the_default_bank_and_parts_of_it():
    bank = default_bank()
    assert shipped_weights().names == tuple(bank.names)
    few = bank.select(bank.names[40:10:-3])
    some = shipped_for(few)
    assert some.names == tuple(few.names)
    np.testing.assert_array_equal(some.weight[0], shipped_weights().weight[40])
    assert SpectralGate().gate(BankMatrices(few), 64, 8).n_experts == len(few)


@pytest.mark.parametrize(
    "bank",
    [period_experts(17.0), ExpertBank((PriorExpert("mean", (), 1.0),))],
    ids=["another period", "another expert of that name"],
)
def test_other_experts_are_refused(bank):
    with pytest.raises(ValueError, match=r"was not fitted for the expert .* training='router'"):
        SpectralGate().gate(BankMatrices(bank), 64, 8)
    with pytest.raises(ValueError, match="was not fitted for the expert 'a' and 1 more"):
        small_weights(["x"]).of(["a", "b"])


@pytest.mark.parametrize("lookback", [96, 512, 2048])
@pytest.mark.parametrize("period", [7, 12, 24])
def test_the_shipped_gate_prefers_experts_of_the_season(period, lookback):
    t = np.arange(lookback)
    x = np.sin(2 * np.pi * t / period) + 0.5 * np.sin(4 * np.pi * t / period + 1)
    x = x + 0.1 * np.random.default_rng(0).normal(size=lookback)
    gate = shipped_weights().gate(lookback)
    shares = softmax(gate_logits(gate, x[None])[0])
    own = [any(p % period == 0 for p in expert.periods) for expert in default_bank()]
    assert shares[own].sum() > 0.8


def test_the_shipped_gate_knows_a_random_walk():
    walks = np.cumsum(np.random.default_rng(0).normal(size=(20, 512)), axis=1)
    shares = softmax(gate_logits(shipped_weights().gate(512), walks), axis=1)
    seasonless = np.array([not expert.periods for expert in default_bank()])
    assert np.median(shares[:, seasonless].sum(axis=1)) > 0.5


def test_it_is_a_gate_like_others():
    gate = named_gate("spectral")
    assert isinstance(gate, SpectralGate)
    assert not gate.comparable
    assert repr(gate) == "SpectralGate()"
    weights = small_weights(default_bank().names[:4])
    fitted = SpectralGate(weights)
    assert repr(clone(fitted).weights) == repr(weights)
    with pytest.raises(ValueError, match="weights of SpectralGate must be SpectralWeights"):
        named_gate(SpectralGate(np.zeros((3, 4))))


def test_forecasts_with_a_spectral_gate(tmp_path):
    t = np.arange(400)
    x = np.sin(2 * np.pi * t / 24)
    model = SuperLinearForecaster(192, 24, gate="spectral").fit(x)
    truth = np.sin(2 * np.pi * np.arange(400, 424) / 24)
    assert np.abs(model.predict() - truth).mean() < 0.1
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        mixlin.load(tmp_path / "model.safetensors").predict(), model.predict()
    )
    assert model.predict(x[:50]).shape == (24,)
    own = SpectralGate(small_weights(default_bank().names[:4]))
    other = SuperLinearForecaster(192, 24, bank=default_bank()[:4], gate=own).fit(x)
    other.save(tmp_path / "other.safetensors")
    np.testing.assert_array_equal(
        mixlin.load(tmp_path / "other.safetensors").predict(), other.predict()
    )


def test_plans_of_two_gates_do_not_share_what_they_keep():
    bank = seasonless_experts()[:4]
    plans = [
        PriorPlan(32, 4, bank=bank, gate=SpectralGate(small_weights(bank.names, seed)))
        for seed in (0, 1)
    ]
    window = np.cumsum(np.random.default_rng(0).normal(size=(1, 1, 32)), axis=2)
    first, second = (plan.forecast(window, 4, resolve("numpy")) for plan in plans)
    assert np.abs(first - second).max() > 1e-6
