"""Matrices of prior experts against dense systems, their limits, gaps, and the cache."""

from __future__ import annotations

import pickle
import threading
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy import linalg

from mixlin.experts import (
    BankMatrices,
    OrnsteinUhlenbeck,
    Periodic,
    PriorExpert,
    RandomWalk,
    Template,
    default_bank,
    period_experts,
)
from mixlin.experts import ExpertBank as Bank
from mixlin.experts.gaps import ImputingWalk, ObservedSystem
from mixlin.experts.matrix_cache import MemoryCache, read_arrays
from mixlin.experts.recursion import solve_systems

BANK = default_bank() + period_experts(17.25)
# every kind of kernel, for tests that need not go through all experts
FEW = BANK[:10] + BANK[70:73] + BANK.select(lambda e: not e.periods)[7:15]
PARITY = 1e-8  # of the largest weight


def dense(expert, lookback, steps, mask=None, noise=None):
    """Return weights (n, M) and variances (M,) from one dense system of what was observed."""
    steps = np.asarray(steps)
    n = lookback + int(steps[-1])
    k = expert.covariances(n)
    if noise is not None:
        k[0] += noise - expert.noise
    seen = np.arange(lookback) if mask is None else np.flatnonzero(mask)
    factor = linalg.cho_factor(k[np.abs(seen[:, None] - seen)], lower=True)
    cross = k[lookback - 1 - seen[:, None] + steps]
    simple = linalg.cho_solve(factor, cross)
    level = linalg.cho_solve(factor, np.ones(len(seen)))
    rest = 1 - simple.sum(axis=0)
    weights = np.zeros((lookback, len(steps)))
    weights[seen] = simple + np.outer(level, rest) / level.sum()
    variance = k[0] - (cross * simple).sum(axis=0) + rest**2 / level.sum()
    return weights, variance


def worst(predictors, bank, lookback, **options):
    """Return the largest relative errors of weights and of variances over the experts."""
    errors = []
    for e, expert in enumerate(bank):
        weights, variance = dense(expert, lookback, predictors.steps, **options)
        largest = np.abs(weights).max()
        errors.append(
            (
                np.abs(predictors.weights[:, e] - weights).max() / largest,
                np.abs(predictors.variance[e] / variance - 1).max(),
            )
        )
    return np.max(errors, axis=0)


@cache
def matrices_of(bank):
    return BankMatrices(bank, cache_bytes=2**28)


# ---------------------------------------------------------------------------------------------
# parity with dense systems


@pytest.mark.parametrize(("lookback", "horizon"), [(1, 5), (2, 3), (16, 96), (130, 24), (359, 24)])
def test_predictors_are_those_of_dense_systems(lookback, horizon):
    predictors = matrices_of(BANK).predictors(lookback, horizon)
    assert predictors.weights.shape == (lookback, len(BANK), horizon)
    assert predictors.variance.shape == (len(BANK), horizon)
    assert predictors.weights.flags.c_contiguous
    assert predictors.steps.tolist() == list(range(1, horizon + 1))
    assert (worst(predictors, BANK, lookback) < PARITY).all()


def test_a_bit_more_noise_is_seen():
    predictors = matrices_of(FEW).predictors(60, 12)
    for e, expert in enumerate(FEW):
        one = Bank((expert,))
        weights, variance = dense(expert, 60, predictors.steps, noise=1.03 * expert.noise)
        assert np.abs(predictors.weights[:, e] - weights).max() > 10 * PARITY
        assert np.abs(predictors.variance[e] / variance - 1).max() > 10 * PARITY
        assert (worst(matrices_of(one).predictors(60, 12), one, 60) < PARITY).all()


@pytest.mark.slow
def test_predictors_of_the_default_lookback():
    some = BANK[::6]
    assert (worst(BankMatrices(BANK).predictors(1024, 96), BANK, 1024)[0] < PARITY).all()
    assert (worst(BankMatrices(some).predictors(1024, 720), some, 1024) < PARITY).all()


@pytest.mark.slow
def test_predictors_of_a_long_lookback():
    some = BANK[::16]
    assert (worst(BankMatrices(some).predictors(4096, 24), some, 4096) < 1e-7).all()


def test_a_long_horizon_keeps_its_digits():
    steps = np.array([1, 96, 720, 2000, 4999, 5000])
    predictors = matrices_of(FEW).predictors(48, 5000, steps=steps)
    assert predictors.weights.shape == (48, len(FEW), 6)
    assert (worst(predictors, FEW, 48) < PARITY).all()


def test_some_steps_and_blocks_are_parts_of_the_whole():
    matrices = matrices_of(FEW)
    whole = matrices.predictors(40, 150)
    steps = [1, 2, 33, 64, 65, 66, 150]
    some = matrices.predictors(40, 150, steps=steps)
    chosen = np.array(steps) - 1
    np.testing.assert_array_equal(some.weights, whole.weights[:, :, chosen])
    np.testing.assert_array_equal(some.variance, whole.variance[:, chosen])
    mask = np.arange(40) % 9 != 4
    for pattern, expected in ((None, whole), (mask, matrices.predictors(40, 150, mask=mask))):
        blocks = list(matrices.predictor_blocks(40, 150, size=70, mask=pattern))
        assert [b.weights.shape[2] for b in blocks] == [70, 70, 10]
        joined = np.concatenate([b.weights for b in blocks], axis=2)
        np.testing.assert_allclose(joined, expected.weights, rtol=0, atol=1e-13)
        joined = np.concatenate([b.variance for b in blocks], axis=1)
        np.testing.assert_allclose(joined, expected.variance, rtol=1e-12)


def test_a_longer_horizon_starts_with_the_shorter_one():
    matrices = matrices_of(FEW)
    long, short = matrices.predictors(50, 90), matrices.predictors(50, 7)
    np.testing.assert_array_equal(long.weights[:, :, :7], short.weights)
    np.testing.assert_array_equal(long.variance[:, :7], short.variance)


def test_an_expert_does_not_depend_on_its_bank_or_the_threads():
    whole = BankMatrices(BANK, n_jobs=2).predictors(400, 30)
    alone = BankMatrices(BANK, n_jobs=1).predictors(400, 30)
    np.testing.assert_array_equal(whole.weights, alone.weights)
    part = BankMatrices(BANK[40:47]).predictors(400, 30)
    np.testing.assert_allclose(part.weights, whole.weights[:, 40:47], rtol=0, atol=1e-12)


@given(
    period=st.floats(2, 400),
    smoothness=st.floats(0.2, 1.5),
    cycles=st.floats(1, 200),
    level=st.sampled_from(["ou", "ou2", "rw", "rws", "dt", "dtl"]),
    noise=st.floats(0.01, 10),
    lookback=st.integers(1, 70),
    horizon=st.integers(1, 100),
)
@settings(max_examples=40, deadline=None)
def test_any_template(period, smoothness, cycles, level, noise, lookback, horizon):
    bank = Bank((Template(smoothness, cycles, level, noise).expert(period),))
    predictors = BankMatrices(bank).predictors(lookback, horizon)
    np.testing.assert_allclose(predictors.weights.sum(axis=0), 1.0, atol=1e-10)
    assert (predictors.variance > 0.999 * noise).all()
    assert (worst(predictors, bank, lookback) < PARITY).all()


# ---------------------------------------------------------------------------------------------
# experts whose forecasts are known


def only(*terms, noise):
    return BankMatrices(Bank((PriorExpert("it", terms, noise),)))


def test_white_noise_gives_the_mean():
    predictors = only(noise=3.0).predictors(20, 4)
    np.testing.assert_allclose(predictors.weights, 1 / 20, rtol=1e-12)
    np.testing.assert_allclose(predictors.variance, 3.0 * (1 + 1 / 20), rtol=1e-12)


@pytest.mark.parametrize("term", [OrnsteinUhlenbeck(1.0, 1e7), RandomWalk(1.0)])
def test_a_level_that_wanders_gives_the_last_value(term):
    step = 2 * float(term.covariance(np.array([0.0]), 1)[0] - term.covariance(np.ones(1), 1)[0])
    predictors = only(term, noise=1e-6 * step).predictors(20, 3)
    expected = np.zeros((20, 1, 3))
    expected[-1] = 1.0
    np.testing.assert_allclose(predictors.weights, expected, atol=1e-4)
    np.testing.assert_allclose(predictors.variance[0], step * np.array([1, 2, 3]), rtol=1e-4)


def test_a_season_for_ever_gives_the_mean_of_the_phase():
    predictors = only(Periodic(1.0, 6.0, 0.1, 1e12), noise=1e-5).predictors(24, 6)
    same_phase = np.arange(24)[:, None] % 6 == np.arange(6)
    np.testing.assert_allclose(predictors.weights[:, 0], same_phase / 4, atol=1e-4)


def test_a_season_that_fades_weighs_cycles_exponentially():
    predictors = only(Periodic(1.0, 6.0, 0.1, 60.0), noise=0.5).predictors(48, 6)
    for h in range(6):
        # cycles, oldest first; what goes beyond the level's weights is that of the season
        cycles = np.roll(predictors.weights[:, 0, h].reshape(8, 6), -h, axis=1)
        excess = cycles[:, 0] - cycles[:, 1:].mean(axis=1)
        shrinks = excess[3:-1] / excess[4:]
        assert ((shrinks > 0.45) & (shrinks < 0.6)).all()
    naive = only(Periodic(1.0, 6.0, 0.1, 12.0), noise=1e-6).predictors(48, 6)
    last_cycle = naive.weights[-6:, 0]
    assert (
        np.diag(last_cycle) > 10 * np.abs(last_cycle - np.diag(np.diag(last_cycle))).max()
    ).all()


# ---------------------------------------------------------------------------------------------
# gaps


def gap_pattern(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones(n, dtype=bool)
    if kind == "a few":
        mask[rng.choice(n, 5, replace=False)] = False
    elif kind == "a run":
        mask[n // 3 : n // 3 + n // 5] = False
    elif kind == "half":
        mask[1:-1:2] = False
    elif kind == "most":
        mask = rng.random(n) > 0.8
    elif kind == "ends":
        mask[: n // 4] = mask[-7:] = False
        mask[n // 2] = False
    else:
        mask[:] = False
        mask[n // 2] = True
    return mask


@pytest.mark.parametrize("kind", ["a few", "a run", "half", "most", "ends", "one value"])
@pytest.mark.parametrize("n", [24, 150])
def test_forecasts_condition_on_what_was_observed(kind, n):
    mask = gap_pattern(kind, n)
    predictors = matrices_of(FEW).predictors(n, 20, mask=mask)
    assert (predictors.weights[~mask] == 0).all()
    assert (worst(predictors, FEW, n, mask=mask) < PARITY).all()
    moved = np.roll(mask, 1)
    assert worst(predictors, FEW, n, mask=moved)[0] > 10 * PARITY


@pytest.mark.parametrize("kind", ["a few", "half", "most"])
def test_both_ways_to_condition_agree(kind):
    n, steps = 60, np.array([1, 2, 9])
    mask = gap_pattern(kind, n)
    covariances = np.stack([expert.covariances(n + 9, n + 1) for expert in FEW], axis=1)
    results = []
    for way in (
        ImputingWalk(solve_systems(covariances[: n + 1]), covariances, mask),
        ObservedSystem(covariances, mask),
    ):
        weights, variance = np.empty((n, len(FEW), 3)), np.empty((len(FEW), 3))
        way.advance(steps, weights, variance)
        results.append((weights, variance))
    (first, first_variance), (second, second_variance) = results
    np.testing.assert_allclose(first, second, rtol=0, atol=PARITY)
    np.testing.assert_allclose(first_variance, second_variance, rtol=PARITY)


def test_a_gap_at_the_start_is_a_shorter_lookback():
    mask = np.arange(50) >= 13
    whole = matrices_of(FEW).predictors(50, 8, mask=mask)
    short = matrices_of(FEW).predictors(37, 8)
    np.testing.assert_array_equal(whole.weights[13:], short.weights)
    np.testing.assert_array_equal(whole.variance, short.variance)


def test_a_gap_at_the_end_is_a_later_step():
    mask = np.arange(50) < 44
    whole = matrices_of(FEW).predictors(50, 8, mask=mask)
    late = matrices_of(FEW).predictors(44, 14, steps=range(7, 15))
    np.testing.assert_array_equal(whole.weights[:44], late.weights)
    np.testing.assert_array_equal(whole.variance, late.variance)


def test_a_mask_without_gaps_is_none():
    matrices = matrices_of(FEW)
    assert matrices.predictors(30, 4, mask=np.ones(30, dtype=bool)) is matrices.predictors(30, 4)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
@settings(max_examples=40, deadline=None)
def test_any_pattern_of_gaps(pattern):
    mask = np.array(pattern)
    bank = FEW[::4]
    predictors = BankMatrices(bank).predictors(len(mask), 5, mask=mask)
    np.testing.assert_allclose(predictors.weights.sum(axis=0), 1.0, atol=1e-10)
    assert (worst(predictors, bank, len(mask), mask=mask) < PARITY).all()


# ---------------------------------------------------------------------------------------------
# requests


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"lookback": 0}, "lookback must be a whole number of at least 1; got 0"),
        ({"lookback": 2.5}, "lookback must be a whole number"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1; got 0"),
        ({"horizon": True}, "horizon must be a whole number"),
        ({"steps": []}, "steps must be increasing whole numbers between 1 and the horizon of 5"),
        ({"steps": [0, 1]}, "steps must be increasing"),
        ({"steps": [1, 6]}, "steps must be increasing"),
        ({"steps": [2, 2]}, "steps must be increasing"),
        ({"steps": [1.0]}, "steps must be increasing"),
        ({"mask": np.ones(9, dtype=bool)}, r"mask must be a boolean array of shape \(10,\)"),
        ({"mask": np.ones(10)}, "got dtype float64"),
        ({"mask": np.zeros(10, dtype=bool)}, "mask must be True at least once"),
    ],
)
def test_requests_out_of_range_are_refused(request_, sentence):
    matrices = matrices_of(FEW)
    with pytest.raises(ValueError, match=sentence):
        matrices.predictors(**{"lookback": 10, "horizon": 5, **request_})
    if "steps" not in request_:
        with pytest.raises(ValueError, match=sentence):
            next(matrices.predictor_blocks(**{"lookback": 10, "horizon": 5, **request_}))


@pytest.mark.filterwarnings("error")
def test_an_expert_with_hardly_any_noise_is_refused_by_name():
    smooth = PriorExpert("too smooth", (Periodic(1.0, 24.0, 1.5, 1e15),), noise=1e-300)
    matrices = BankMatrices(FEW[:2] + Bank((smooth,)))
    sentence = "covariances of the expert 'too smooth' are too close to singular"
    with pytest.raises(ValueError, match=sentence):
        matrices.predictors(100, 4)
    with pytest.raises(ValueError, match=sentence):
        matrices.precision(0, 100)
    with pytest.raises(ValueError, match=sentence):
        matrices.whitening(100)
    with pytest.raises(ValueError, match=sentence):
        matrices.predictors(300, 4, mask=gap_pattern("most", 300))


def test_blocks_have_a_size():
    with pytest.raises(ValueError, match="size must be a whole number of at least 1; got 0"):
        next(matrices_of(FEW).predictor_blocks(10, 5, size=0))


# ---------------------------------------------------------------------------------------------
# what is kept


def test_predictors_are_made_once_by_any_number_of_threads():
    matrices = BankMatrices(FEW)
    start, found = threading.Barrier(6), []

    def ask():
        start.wait()
        found.append(matrices.predictors(200, 24))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(predictors) for predictors in found}) == 1
    assert matrices.predictors(200, 24) is found[0]
    assert matrices.predictors(200, 23) is not found[0]


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest():
    cache_ = MemoryCache(2000)
    for key in "ab":
        cache_.get(key, lambda: np.zeros(100))
    cache_.get("a", lambda: np.ones(100))
    cache_.get("c", lambda: np.zeros(100))
    assert cache_.keys() == ["a", "c"]
    assert cache_.get("a", lambda: np.ones(100))[0] == 0.0
    cache_.get("too large", lambda: np.zeros(1000))
    assert cache_.keys() == ["c", "a"]


def test_a_failure_is_not_kept():
    cache_ = MemoryCache(2000)

    def fail():
        raise RuntimeError("no")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            cache_.get("a", fail)
    assert cache_.get("a", lambda: np.ones(1))[0] == 1.0


def test_a_bound_on_memory_does_not_change_what_is_returned():
    small = BankMatrices(FEW, cache_bytes=0)
    first, second = small.predictors(30, 4), small.predictors(30, 4)
    assert first is not second
    np.testing.assert_array_equal(first.weights, second.weights)


def test_matrices_can_be_pickled():
    matrices = BankMatrices(FEW, n_jobs=1, cache_dir=None, cache_bytes=10**6)
    expected = matrices.predictors(30, 4)
    copy = pickle.loads(pickle.dumps(matrices))
    assert len(pickle.dumps(matrices)) < 10_000
    assert (copy.bank, copy.n_jobs, copy.cache_bytes) == (FEW, 1, 10**6)
    np.testing.assert_array_equal(copy.predictors(30, 4).weights, expected.weights)


def one_file(folder):
    (path,) = folder.iterdir()
    return path


def test_files_serve_other_processes(tmp_path, monkeypatch):
    mask = np.arange(30) % 7 != 3
    expected = BankMatrices(FEW, cache_dir=tmp_path).predictors(30, 4, mask=mask)
    path = one_file(tmp_path)
    monkeypatch.setattr(BankMatrices, "_made", None)  # nothing can be made any more
    again = BankMatrices(FEW, cache_dir=str(tmp_path)).predictors(30, 4, mask=mask)
    np.testing.assert_array_equal(again.weights, expected.weights)
    np.testing.assert_array_equal(again.variance, expected.variance)
    assert again.weights.flags.c_contiguous
    other_requests = [
        (FEW[:-1], 30, 4, mask),
        (FEW, 31, 4, None),
        (FEW, 30, 5, mask),
        (FEW, 30, 4, None),
    ]
    for bank, lookback, horizon, pattern in other_requests:
        with pytest.raises(TypeError):
            BankMatrices(bank, cache_dir=tmp_path).predictors(lookback, horizon, mask=pattern)
    assert one_file(tmp_path) == path


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "folder"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    expected = BankMatrices(FEW, cache_dir=tmp_path).predictors(30, 4)
    path = one_file(tmp_path)
    good = path.read_bytes()
    if damage == "cut":
        path.write_bytes(good[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        bad = bytearray(good)
        bad[-1000] ^= 1
        path.write_bytes(bytes(bad))
    elif damage == "foreign":
        save_file({"weights": np.zeros(3)}, path)
    else:
        path.unlink()
    again = BankMatrices(FEW, cache_dir=tmp_path).predictors(30, 4)
    np.testing.assert_array_equal(again.weights, expected.weights)
    assert one_file(tmp_path) == path
    shape = (len(FEW), 4)
    kept = read_arrays(path, {"weights": (30, *shape), "variance": shape})
    assert kept is not None
    np.testing.assert_array_equal(kept["weights"], expected.weights)


def test_a_folder_that_cannot_be_written_to_is_a_warning(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.warns(UserWarning, match="can't be kept in .*Name another folder as cache_dir"):
        predictors = BankMatrices(FEW, cache_dir=blocked / "below").predictors(30, 4)
    assert predictors.weights.shape == (30, len(FEW), 4)


def test_the_default_bank_is_made_in_no_time():
    # all matrices of a forecast from 1024 values, 96 steps ahead, scored on folds
    matrices = BankMatrices(default_bank())
    start = time.process_time()
    matrices.predictors(1024, 96)
    matrices.predictors(359, 96, steps=range(4, 97, 4))
    assert time.process_time() - start < 2.5
