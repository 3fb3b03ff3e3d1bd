"""Balance has a price and a reward at the places where it should, and is forgotten in the end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from mixlin.solvers import (
    Balancing,
    ImportanceLoss,
    LoadLoss,
    LossFreeBias,
    SwitchLoss,
    ZLoss,
)
from mixlin.solvers.balancing import BALANCINGS, named_balancing, squared_variation

quick = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
EVERY = [ImportanceLoss, LoadLoss, LossFreeBias, SwitchLoss, ZLoss]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def batch(torch, seed=0, rows=40, n_experts=4, top_k=2, noise=0.0):
    """Return logits, the gates of the best k, and which these are."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(rows, n_experts)))
    return with_gates(torch, logits, top_k)


def with_gates(torch, logits, top_k):
    best = torch.topk(logits, top_k, dim=1).indices
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, best, True)
    gates = logits.masked_fill(~chosen, -math.inf).softmax(dim=1)
    return logits, gates, chosen


def in_turn(torch, rows=40, n_experts=4, size=3.0):
    """Return logits of rows that prefer every expert equally often, each by the same amount."""
    logits = torch.zeros(rows, n_experts, dtype=torch.float64)
    logits[torch.arange(rows), torch.arange(rows) % n_experts] = size
    return with_gates(torch, logits, 1)


def one_takes_all(torch, rows=40, n_experts=4, size=50.0):
    logits = torch.zeros(rows, n_experts, dtype=torch.float64)
    logits[:, 2] = size
    return with_gates(torch, logits, 1)


# -- without torch -----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("decay", [0.5, 1.0, 0.1])
def test_the_weight_falls_linearly_to_zero(cls, decay):
    balancing = cls(weight=0.2, decay=decay)
    progress = np.linspace(0, 1, 21)
    found = [balancing.weight_at(p) for p in progress]
    np.testing.assert_allclose(found, 0.2 * np.maximum(0.0, 1 - progress / decay), atol=1e-15)
    assert found[0] == 0.2
    assert found[-1] == 0.0


@pytest.mark.parametrize("cls", [ImportanceLoss, LoadLoss, SwitchLoss, ZLoss])
def test_the_weight_stays_where_nothing_decays(cls):
    assert [cls(weight=0.2, decay=None).weight_at(p) for p in (0.0, 0.7, 1.0)] == [0.2] * 3


def test_balancings_are_known_by_name_and_cloned():
    assert {type(named_balancing(name)) for name in BALANCINGS} == set(EVERY)
    assert named_balancing(None) is None
    for cls in EVERY:
        mine = cls(weight=0.3)
        assert named_balancing(mine) is mine
        assert clone(mine).get_params() == mine.get_params()


BAD = [
    ("even", "balancing must be None, one of 'importance', .*; got 'even'"),
    (SwitchLoss, "got <class"),
    (3, "got 3"),
    (SwitchLoss(weight=-1.0), "weight of SwitchLoss must not be negative; got -1.0"),
    (ZLoss(weight=float("nan")), "weight of ZLoss must not be negative; got nan"),
    (ImportanceLoss(weight="big"), "weight of ImportanceLoss must not be negative; got 'big'"),
    (LoadLoss(decay=0.0), r"decay of LoadLoss must be None or in \(0, 1\]; got 0.0"),
    (LossFreeBias(decay=1.5), r"decay of LossFreeBias must be None or in \(0, 1\]; got 1.5"),
]


@pytest.mark.parametrize(("balancing", "sentence"), BAD, ids=lambda v: repr(v)[:30])
def test_balancing_that_makes_no_sense_is_refused(balancing, sentence):
    with pytest.raises(ValueError, match=sentence):
        named_balancing(balancing)


# -- with torch --------------------------------------------------------------------------------


@quick
@given(seed=SEEDS, n_experts=st.integers(2, 6), top_k=st.integers(1, 6))
def test_torch_switch_loss_is_one_at_balance_and_as_defined_elsewhere(
    torch, seed, n_experts, top_k
):
    top_k = min(top_k, n_experts)
    logits, gates, chosen = batch(torch, seed, 4 * n_experts, n_experts, top_k)
    found = float(SwitchLoss().loss(logits, gates, chosen, 0.0))
    p = np.exp(logits.numpy())
    p /= p.sum(axis=1, keepdims=True)
    share = chosen.numpy().mean(axis=0) / top_k
    assert share.sum() == pytest.approx(1.0)
    assert found == pytest.approx(n_experts * float(share @ p.mean(axis=0)), rel=1e-12)
    even = in_turn(torch, 4 * n_experts, n_experts)
    assert float(SwitchLoss().loss(*even, 0.0)) == pytest.approx(1.0, abs=1e-12)
    alone = one_takes_all(torch, 4 * n_experts, max(3, n_experts))
    assert float(SwitchLoss().loss(*alone, 0.0)) == pytest.approx(max(3, n_experts), rel=1e-9)


def test_torch_importance_is_nothing_at_balance_and_most_where_one_takes_all(torch):
    loss = ImportanceLoss()
    assert float(loss.loss(*in_turn(torch), 0.0)) == pytest.approx(0.0, abs=1e-12)
    most = float(loss.loss(*one_takes_all(torch), 0.0))
    assert most == pytest.approx(3.0, rel=1e-6)  # n_experts - 1
    for seed in range(30):
        logits, gates, chosen = batch(torch, seed, n_experts=4, top_k=1 + seed % 4)
        found = float(loss.loss(logits, gates, chosen, 0.0))
        total = gates.numpy().sum(axis=0)
        assert found == pytest.approx(total.var() / total.mean() ** 2, rel=1e-9)
        assert 0 < found < most


def test_torch_importance_gives_weight_back_to_experts_that_lack_it(torch):
    logits = torch.zeros(20, 3, dtype=torch.float64)
    logits[:, 0] = 1.0
    logits.requires_grad_()
    gates = logits.softmax(dim=1)
    loss = ImportanceLoss().loss(logits, gates, torch.ones_like(gates, dtype=torch.bool), 0.0)
    (slope,) = torch.autograd.grad(loss, logits)
    assert (slope[:, 0] > 0).all()  # descent takes from the first
    assert (slope[:, 1:] < 0).all()


def test_torch_squared_variation_is_that_of_the_definition(torch):
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert float(squared_variation(values)) == pytest.approx((14 / 3) / 9, rel=1e-9)
    assert float(squared_variation(torch.zeros(3))) == 0.0


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_torch_load_is_how_likely_noise_chooses_an_expert(torch, top_k):
    """By sampling: noise on the expert's own logit, the others stay where they are."""
    rng = np.random.default_rng(0)
    noise = 0.7
    logits, gates, chosen = batch(torch, 3, 12, 4, top_k)
    rows = logits.numpy()
    likely = np.empty_like(rows)
    draws = noise * rng.normal(size=200_000)
    for i, k in np.ndindex(*rows.shape):
        others = np.sort(np.delete(rows[i], k))[::-1]
        likely[i, k] = (rows[i, k] + draws > others[top_k - 1]).mean()
    load = likely.sum(axis=0)
    expected = load.var() / load.mean() ** 2
    found = float(LoadLoss().loss(logits, gates, chosen, noise))
    assert found == pytest.approx(expected, rel=0.02)
    other = float(LoadLoss().loss(logits, gates, chosen, 2 * noise))
    assert other != pytest.approx(expected, rel=0.05)
    even = in_turn(torch)
    assert float(LoadLoss().loss(*even, noise)) == pytest.approx(0.0, abs=1e-12)


def test_torch_load_needs_noise_and_a_choice(torch):
    sentence = "LoadLoss needs noise in the router and top_k below n_experts.*or use Importance"
    with pytest.raises(ValueError, match=sentence):
        LoadLoss().loss(*batch(torch, top_k=2), 0.0)
    with pytest.raises(ValueError, match=sentence):
        LoadLoss().loss(*batch(torch, top_k=4), 0.5)


def test_torch_z_loss_is_the_mean_squared_log_of_the_partition(torch):
    logits, gates, chosen = batch(torch, 5)
    expected = (np.log(np.exp(logits.numpy()).sum(axis=1)) ** 2).mean()
    assert float(ZLoss().loss(logits, gates, chosen, 0.0)) == pytest.approx(expected, rel=1e-12)
    assert float(ZLoss().loss(3 * logits, gates, chosen, 0.0)) > 1.1 * expected


@quick
@given(seed=SEEDS, n_experts=st.integers(2, 6), steps=st.integers(1, 30))
def test_torch_the_bias_moves_against_the_load(torch, seed, n_experts, steps):
    rng = np.random.default_rng(seed)
    balancing = LossFreeBias(weight=0.01, decay=None)
    expected = np.zeros(n_experts)
    for _ in range(steps):
        load = rng.dirichlet(np.ones(n_experts))
        shift = balancing.shift(torch.from_numpy(load), 0.3).numpy()
        expected += 0.01 * np.sign(1 / n_experts - load)
        np.testing.assert_allclose(shift, expected, atol=1e-12)
        assert balancing.loss(*batch(torch), 0.0) is None


def test_torch_the_bias_evens_out_a_choice_that_it_drives(torch):
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 3)))
    logits[:, 0] += 1.0
    balancing, load = LossFreeBias(weight=0.02), torch.tensor([1.0, 0.0, 0.0])
    shares = []
    for _ in range(200):
        chosen = (logits + balancing.shift(load, 0.0)).argmax(dim=1)
        load = torch.bincount(chosen, minlength=3) / len(chosen)
        shares.append(load.numpy())
    assert shares[0].max() > 0.5
    assert np.abs(shares[-1] - 1 / 3).max() < 0.03


def test_torch_the_bias_is_taken_back(torch):
    balancing = LossFreeBias(weight=0.01, decay=0.5)
    load = torch.tensor([0.9, 0.05, 0.05], dtype=torch.float64)
    for _ in range(9):
        balancing.shift(load, 0.0)
    half = balancing.shift(load, 0.25)
    np.testing.assert_allclose(half, 0.5 * 0.1 * np.array([-1.0, 1.0, 1.0]), atol=1e-12)
    assert (balancing.shift(load, 0.5) == 0).all()
    assert (balancing.shift(load, 1.0) == 0).all()
    assert (clone(balancing).shift(load, 0.0).abs() <= 0.0101).all()  # and a clone starts anew


def test_torch_a_balancing_of_ones_own_takes_part(torch):
    class Entropy(Balancing):
        def __init__(self, weight=0.1, decay=None):
            self.weight = weight
            self.decay = decay

        def loss(self, logits, gates, chosen, noise):
            return (gates * gates.clamp_min(1e-9).log()).sum(dim=1).mean()

    assert named_balancing(Entropy()).loss(*in_turn(torch), 0.0) is not None
    assert named_balancing(Entropy()).shift(torch.ones(3), 0.0) is None
