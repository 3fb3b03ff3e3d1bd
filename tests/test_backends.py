"""The backend protocol: its operations against naive loops, specs, configuration."""

import copy
import inspect
import pickle
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone

import mixlin
from mixlin import backends
from mixlin.backends import Backend, BackendNotAvailableError, resolve
from mixlin.backends.numpy_backend import NumpyBackend

from .engines import ENGINES, EXCLUSIONS, as_parameters, assert_close, assert_parity, excuse

N, C, E, L, H = 4, 3, 2, 9, 5


@pytest.fixture
def registry(monkeypatch):
    """Registrations of a test end with it."""
    monkeypatch.setattr(backends, "_REGISTRY", dict(backends._REGISTRY))
    monkeypatch.setattr(backends, "_INSTANCES", dict(backends._INSTANCES))


@pytest.fixture
def configuration():
    """A configuration set in a test ends with it."""
    before = mixlin.get_config()["backend"]
    yield
    mixlin.set_config(backend=before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# -- protocol ----------------------------------------------------------------------------------

OPERATIONS = sorted(Backend.__abstractmethods__)


def test_the_protocol_has_the_documented_operations():
    documented = (
        "put get reshape concat linear power gate penalize mix energy backtest compile close"
    )
    assert sorted(documented.split()) == OPERATIONS
    for name in OPERATIONS:
        assert inspect.getdoc(getattr(Backend, name))


@pytest.mark.parametrize("missing", OPERATIONS)
def test_a_backend_without_one_operation_cannot_be_made(missing):
    methods = {name: getattr(NumpyBackend, name) for name in OPERATIONS if name != missing}
    incomplete = type("Incomplete", (Backend,), {"name": "incomplete", **methods})
    with pytest.raises(TypeError, match=rf"Incomplete.*\b{missing}\b"):
        incomplete()
    complete = type("Complete", (incomplete,), {missing: getattr(NumpyBackend, missing)})
    assert complete().spec == "incomplete"


OVERRIDABLE = ["columns", "open", "rows_per_block", "upload"]


@pytest.mark.parametrize("name", OPERATIONS + OVERRIDABLE)
def test_an_engine_keeps_the_signatures_of_the_protocol(engine, name):
    protocol, own = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(Backend, name), getattr(type(engine.backend), name))
    )
    assert own == protocol


def test_what_an_engine_says_of_itself_is_of_the_documented_kind(engine):
    backend = engine.backend
    assert backend.name == engine.name
    assert np.dtype(backend.rows_dtype) in (np.float32, np.float64)
    assert isinstance(backend.spreads_missing, bool)
    assert isinstance(backend.folds_channels, bool)
    assert backend.blocks_in_flight >= 1
    for shape in ((1, 1), (7, 336), (321, 720), (10**6, 10**6)):
        rows = backend.rows_per_block(*shape)
        assert rows is None or (isinstance(rows, int) and rows >= 1)
    assert type(backend).why_unavailable() is None
    assert backends.available()[engine.name] is None


def test_the_strict_engine_catches_who_writes_and_only_then():
    engine = next(e for e in ENGINES if e.spec == "strict")
    mine = np.ones((2, 3))
    with engine.registered():
        backend = engine.backend
        placed = backend.put(mine)
        for tensor in (placed, *backend.upload(mine), backend.concat([placed, placed])):
            with pytest.raises(ValueError, match="read-only"):
                tensor += 1.0
        assert backend.get(placed).flags.writeable
    mine += 1.0
    assert mine.flags.writeable


def test_every_exclusion_names_an_engine_and_a_test_and_a_reason():
    tests = {
        name
        for path in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\([^)]*\bengine\b", path.read_text(), re.MULTILINE)
    }
    assert "test_an_engine_keeps_the_signatures_of_the_protocol" in tests
    labels = {param.id for param in as_parameters()}
    for test, parameters, why in EXCLUSIONS:
        assert test in tests
        assert any(parameters.startswith(label) for label in labels)
        assert len(why) > 20
    assert excuse("test_anything[numpy-1]") is None


# -- operations --------------------------------------------------------------------------------


def own(tensor, channel):
    return tensor[0] if len(tensor) == 1 else tensor[channel]


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("bias_groups", [None, 1, C])
@pytest.mark.parametrize("shared_rows", [False, True])
@pytest.mark.parametrize("steps", [(), (4,)])
def test_linear_maps_the_columns_of_every_channel(
    engine, rng, groups, bias_groups, shared_rows, steps
):
    x = engine.draw(rng, N, 1 if shared_rows else C, *steps, L)
    w = engine.draw(rng, groups, L, H)
    b = None if bias_groups is None else engine.draw(rng, bias_groups, H)
    channels = max(x.shape[1], groups, bias_groups or 1)
    expected = np.zeros((N, channels, *steps, H))
    for index in np.ndindex(expected.shape):
        i, c, *step, h = index
        row = x[(i, 0 if shared_rows else c, *step)]
        expected[index] = sum(row[k] * own(w, c)[k, h] for k in range(L))
        if b is not None:
            expected[index] += own(b, c)[h]
    before = x.copy()
    assert_parity(engine.run("linear", x, w, b), expected, engine.operation)
    assert (x == before).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_linear_over_axis_minus_two_mixes_channels(engine, rng, bias, added):
    x, w = engine.draw(rng, N, C, L), engine.draw(rng, 1, C, 6)
    b, add = engine.draw(rng, 1, 6), engine.draw(rng, N, 6, L) * added
    expected = add.copy()
    for i, d, t in np.ndindex(expected.shape):
        expected[i, d, t] += sum(x[i, c, t] * w[0, c, d] for c in range(C)) + bias * b[0, d]
    out = engine.run("linear", x, w, b if bias else None, add=add if added else None, axis=-2)
    assert_parity(out, expected, engine.operation)


@pytest.mark.parametrize(
    ("activation", "value_at"),
    [
        ("relu", lambda v: max(v, 0.0)),
        ("tanh", lambda v: (np.exp(2 * v) - 1) / (np.exp(2 * v) + 1)),
        ("sigmoid", lambda v: np.exp(v) / (1 + np.exp(v))),
        ("elu", lambda v: v if v > 0 else np.exp(v) - 1),
        # the integral of the normal density, by the midpoint rule
        (
            "gelu",
            lambda v: (
                v
                * (
                    0.5
                    + v
                    / np.sqrt(2 * np.pi)
                    * np.mean(np.exp(-0.5 * (v * (np.arange(20000) + 0.5) / 20000) ** 2))
                )
            ),
        ),
    ],
)
@pytest.mark.parametrize("axis", [-1, -2])
def test_activations_come_last(engine, rng, activation, value_at, axis):
    x = engine.draw(rng, N, C, L)
    w = engine.draw(rng, 1, *((L, H) if axis == -1 else (C, H)))
    product = np.einsum("ncl,lh->nch" if axis == -1 else "ncl,cd->ndl", x, w[0])
    add = engine.draw(rng, *product.shape)
    kept = add.copy()
    expected = np.vectorize(value_at)(product + add)
    out = engine.run("linear", x, w, None, activation=activation, add=add, axis=axis)
    assert_parity(out, expected, max(engine.operation, 1e-8 * (activation == "gelu")))
    assert (add == kept).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "tanh", "sigmoid"])
def test_activations_survive_extreme_values(engine, activation):
    x = np.array([[[-1e4], [-40.0], [0.0], [40.0], [1e4]]])
    out = engine.run("linear", x, np.ones((1, 1, 1)), activation=activation)[0, :, 0]
    assert np.isfinite(out).all()
    assert (np.diff(out) >= 0).all()
    assert out[-1] > out[0]


@pytest.mark.parametrize("length", [8, 9, 16])
@pytest.mark.parametrize("n_bins", [8, 11])
def test_power_is_the_normalized_periodogram(engine, rng, length, n_bins):
    x = engine.draw(rng, N, C, length)
    x[1, 2] = 0.0
    expected = np.zeros((N, C, n_bins))
    for i, c, k in np.ndindex(expected.shape):
        wave = np.exp(-2j * np.pi * k * np.arange(length) / (2 * n_bins))
        expected[i, c, k] = abs((x[i, c] * wave).sum()) ** 2
    for i, c in np.ndindex(N, C):
        if x[i, c].any():
            expected[i, c] /= expected[i, c].sum()
    padded = np.concatenate([x, np.zeros((N, C, 2 * n_bins - length))], axis=2)
    by_fft = np.abs(np.fft.fft(padded, axis=2)[:, :, :n_bins]) ** 2
    by_fft /= np.maximum(by_fft.sum(axis=2, keepdims=True), 1e-300)
    out = engine.run("power", x, n_bins)
    assert_parity(out, expected, engine.operation)
    assert_parity(out, by_fft, engine.operation)
    assert (out[1, 2] == 0).all()
    assert np.abs(np.delete(out.sum(axis=2).ravel(), 5) - 1).max() < engine.operation


def test_power_refuses_fewer_bins_than_half_the_rows(engine):
    with pytest.raises(ValueError, match=r"n_bins >= 5 .* length 9; got n_bins=4"):
        engine.run("power", np.ones((1, 1, 9)), 4)
    assert engine.run("power", np.ones((1, 1, 9)), 5).shape == (1, 1, 5)


LOGITS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 6)),
    # ties are common; closer than 1e-30 logits may count as equal
    elements=st.floats(-50, 50).map(lambda v: v if abs(v) > 1e-20 else 0.0)
    | st.sampled_from([0.0, 1.0]),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(logits=LOGITS, temperature=st.floats(0.1, 20), data=st.data())
def test_gates_lie_on_the_simplex_and_on_the_best_logits(engine, logits, temperature, data):
    logits = engine.holds(logits)
    n_experts = logits.shape[-1]
    top_k = data.draw(st.none() | st.integers(1, n_experts + 1))
    before = logits.copy()
    weights = engine.run("gate", logits, top_k, temperature)
    assert (logits == before).all()
    assert weights.shape == logits.shape
    assert (weights >= 0).all()
    # what is divided by the temperature was rounded before the exponential makes it relative
    tolerance = engine.operation * (1 + 100 / temperature / 50)
    assert np.abs(weights.sum(axis=-1) - 1).max() < tolerance
    for row, gates in zip(
        logits.reshape(-1, n_experts), weights.reshape(-1, n_experts), strict=True
    ):
        kept = sorted(range(n_experts), key=lambda e: (-row[e], e))[:top_k]
        dropped = sorted(set(range(n_experts)) - set(kept))
        assert (gates[dropped] == 0).all()
        raw = np.exp((row[kept] - row.max()) / temperature)
        assert np.abs(gates[kept] - raw / raw.sum()).max() < tolerance


def test_of_equal_logits_the_first_get_weight(engine):
    two = engine.run("gate", np.zeros((1, 1, 4)), top_k=2)
    assert_parity(two, [[[0.5, 0.5, 0.0, 0.0]]], engine.operation)
    assert np.flatnonzero(two).tolist() == [0, 1]
    tied = engine.run("gate", np.array([[[1.0, 2.0, 1.0, 2.0, 2.0]]]), top_k=2)
    assert_parity(tied, [[[0.0, 0.5, 0.0, 0.5, 0.0]]], engine.operation)
    assert np.flatnonzero(tied).tolist() == [1, 3]


def test_of_many_equal_logits_the_first_get_weight(engine):
    many = np.arange(300.0)[None, None] % 3  # long rows are sorted by other means
    kept = np.flatnonzero(engine.run("gate", many, top_k=60)[0, 0])
    assert kept.tolist() == list(range(2, 182, 3))


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_losses_lower_the_logits(engine, rng, per_step, shared):
    logits = engine.draw(rng, N, 1 if shared else C, *([H] if per_step else []), E)
    one, two = engine.holds(rng.uniform(0.1, 3, size=(2, N, C, E)))
    expected = np.zeros((N, C, H, E))
    for i, c, h in np.ndindex(N, C, H):
        row = logits[(i, 0 if shared else c, *([h] if per_step else []))] / 0.7
        raw = np.exp(row) * one[i, c] ** (-2.0 / 0.7) * two[i, c] ** (-0.5 / 0.7)
        expected[i, c, h] = raw / raw.sum()
    out = engine.run("gate", logits, None, 0.7, [(one, 2.0), (two, 0.5)])
    assert_parity(out, expected if per_step else expected[:, :, 0], engine.operation)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_logits_less_their_losses_are_what_a_gate_makes_weights_of(engine, rng, per_step, shared):
    logits = engine.draw(rng, N, 1 if shared else C, *([H] if per_step else []), E)
    one, two = engine.holds(rng.uniform(0.1, 3, size=(2, N, C, E)))
    lowered = 2.0 * np.log(one) + 0.5 * np.log(two)
    expected = logits - (lowered[:, :, None] if per_step else lowered)
    before = logits.copy()
    out = engine.run("penalize", logits, [(one, 2.0), (two, 0.5)])
    assert_parity(out, expected, engine.operation)
    assert (logits == before).all()
    assert_parity(engine.run("penalize", logits, []), logits, engine.operation)


def test_a_loss_of_zero_wins_and_stays_finite(engine):
    out = engine.run("gate", np.zeros((1, 1, 2)), scores=[(np.array([[[0.0, 1.0]]]), 1.0)])
    assert_parity(out, [[[1.0, 0.0]]], engine.operation)
    both = engine.run("gate", np.zeros((1, 1, 2)), scores=[(np.zeros((1, 1, 2)), 1.0)])
    assert_parity(both, [[[0.5, 0.5]]], engine.operation)


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("bias_groups", [None, 1, C])
@pytest.mark.parametrize("gate_channels", [1, C])
@pytest.mark.parametrize("per_step", [False, True])
def test_mix_weighs_the_experts(engine, rng, groups, bias_groups, gate_channels, per_step):
    x, w = engine.draw(rng, N, C, L), engine.draw(rng, groups, L, E * H)
    b = None if bias_groups is None else engine.draw(rng, bias_groups, E * H)
    g = engine.holds(rng.uniform(size=(N, gate_channels, *([H] if per_step else []), E)))
    expected = np.zeros((N, C, H))
    for i, c, h, e in np.ndindex(N, C, H, E):
        y = x[i, c] @ own(w, c)[:, e * H + h] + (0 if b is None else own(b, c)[e * H + h])
        gates = g[i, 0 if gate_channels == 1 else c]
        expected[i, c, h] += (gates[h, e] if per_step else gates[e]) * y
    assert_parity(engine.run("mix", x, w, b, g), expected, engine.operation)


SPARSE = {  # (E, K, H) and how many experts of a row have weight
    "all forms by turns": (12, 40, 16, 3),
    "a horizon that is no multiple of eight": (9, 80, 13, 1),
    "the last expert at the edge": (3, 64, 5, 1),
    "one step": (40, 30, 1, 2),
}


@pytest.mark.parametrize("n", [1, 3, 40, 150])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias_groups", [None, 1, C])
@pytest.mark.parametrize("name", SPARSE)
def test_mix_may_leave_out_experts_without_weight(engine, rng, name, n, shared, bias_groups):
    n_experts, n_columns, horizon, top_k = SPARSE[name]
    x = engine.draw(rng, n, C, n_columns)
    w = engine.holds(engine.draw(rng, 1, n_columns, n_experts * horizon) / np.sqrt(n_columns))
    b = None if bias_groups is None else engine.draw(rng, bias_groups, n_experts * horizon)
    g = rng.uniform(0.2, 1, size=(n, 1 if shared else C, n_experts))
    order = rng.permuted(np.broadcast_to(np.arange(n_experts), g.shape), axis=2)
    kept = order < top_k
    kept[::7] = True  # some rows weigh all
    g = engine.holds(np.where(kept, g / kept.sum(axis=2, keepdims=True), 0.0))
    y = x @ w[0]
    y = y if b is None else y + (b if len(b) == 1 else b[None])
    expected = (g[..., None] * y.reshape(n, C, n_experts, horizon)).sum(axis=2)
    assert_parity(engine.run("mix", x, w, b, g), expected, engine.operation)


@pytest.mark.parametrize("n_gates", [1, 2, 5])
@pytest.mark.parametrize("n", [2, 60, 300])
def test_rows_that_share_their_gates_are_mixed_as_others(engine, rng, n, n_gates):
    x, w = engine.draw(rng, n, 1, 60), engine.draw(rng, 1, 60, 6 * 20)
    gates = engine.holds(rng.dirichlet(np.ones(6), size=n_gates))
    g = gates[np.arange(n) % n_gates][:, None]
    expected = np.einsum("nce,nceh->nch", g, (x @ w[0]).reshape(n, 1, 6, 20))
    assert_parity(engine.run("mix", x, w, None, g), expected, engine.operation)


def test_a_missing_value_stays_in_its_row(engine, rng):
    if not engine.backend.spreads_missing:
        pytest.skip("a product of this engine needn't show what is missing")
    x, w = engine.draw(rng, 40, 1, 64), engine.draw(rng, 1, 64, 12 * 16)
    g = np.where(rng.permuted(np.tile(np.arange(12), (40, 1, 1)), axis=2) < 2, 0.5, 0.0)
    whole = engine.run("mix", x, w, None, g)
    x[3, 0, 5] = np.nan
    out = engine.run("mix", x, w, None, g)
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()
    assert_close(np.delete(out, 3, axis=0), np.delete(whole, 3, axis=0), engine.operation)


def test_energy_is_a_sum_of_squares(engine, rng):
    x, u = engine.draw(rng, N, C, L), engine.draw(rng, E, L, 4)
    expected = np.zeros((N, C, E))
    for i, c, e in np.ndindex(expected.shape):
        expected[i, c, e] = sum((x[i, c] @ u[e, :, r]) ** 2 for r in range(4))
    assert_parity(engine.run("energy", x, u), expected, engine.operation)


@pytest.mark.parametrize(("lookback", "horizon", "length"), [(3, 2, 5), (3, 2, 17), (1, 1, 9)])
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_backtest_averages_over_folds_from_the_end(engine, rng, lookback, horizon, length, step):
    x, w = engine.draw(rng, N, C, length), engine.draw(rng, E, lookback, horizon)
    expected = np.zeros((N, C, E))
    for i, c, e in np.ndindex(expected.shape):
        errors = []
        for end in range(length, lookback + horizon - 1, -step):
            start = end - lookback - horizon
            seen, future = x[i, c, start : end - horizon], x[i, c, end - horizon : end]
            errors += [abs(seen @ w[e, :, h] - future[h]) for h in range(horizon)]
        expected[i, c, e] = np.mean(errors)
    assert_parity(engine.run("backtest", x, w, step), expected, engine.operation)


def backtested(x, w, step, ahead, floor=0.0, power=1.0):
    """Back-test as the definition says, one window, expert and fold after the other."""
    n, channels, length = x.shape
    lookback = w.shape[1]
    out = np.zeros((n, channels, len(w)))
    for i, c, e in np.ndindex(out.shape):
        losses, sizes = [], []
        for end in range(length, lookback + ahead[-1] - 1, -step):
            start = end - lookback - ahead[-1]
            seen = x[i, c, start : start + lookback]
            future = np.array([x[i, c, start + lookback - 1 + step] for step in ahead])
            losses.append(np.abs(seen @ w[e] - future).mean() ** power)
            sizes.append(np.abs(future).mean())
        out[i, c, e] = np.mean(losses) ** (1 / power) + floor * np.mean(sizes)
    return out


FAR = [(2,), (1, 3), (3, 7), (1, 2, 4), (2, 5, 9)]


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(("floor", "power"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.5), (0.2, 0.7)])
@pytest.mark.parametrize("ahead", FAR)
def test_backtest_scores_chosen_steps(engine, rng, ahead, floor, power, step):
    x, w = engine.draw(rng, N, C, 17), engine.draw(rng, E, 3, len(ahead))
    before = x.copy()
    out = engine.run("backtest", x, w, step, ahead, floor, power)
    assert_parity(out, backtested(x, w, step, ahead, floor, power), engine.operation)
    assert (x == before).all()


@pytest.mark.parametrize("options", [{"ahead": (1, 2, 5)}, {"floor": 0.5}, {"power": 0.5}])
def test_every_option_of_backtest_is_seen(engine, rng, options):
    x, w = engine.draw(rng, N, C, 17), engine.draw(rng, E, 3, 3)
    plain = backtested(x, w, 2, (1, 2, 3))
    with pytest.raises(AssertionError, match="off by"):
        assert_close(engine.run("backtest", x, w, 2, **options), plain, 2 * engine.operation)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_backtest_of_many_experts_in_any_memory_order(engine, rng, n):
    x, w = engine.draw(rng, n, 2, 90), engine.draw(rng, 40, 30, 8)
    x, w = x / 4, w / 4
    ahead = (1, 2, 4, 7, 11, 16, 20, 24)
    packed = np.ascontiguousarray(w.transpose(1, 0, 2)).transpose(1, 0, 2)
    expected = backtested(x, w, 3, ahead, 0.1, 0.5)
    for weights in (w, packed):
        out = engine.run("backtest", x, weights, 3, ahead, 0.1, 0.5)
        assert_parity(out, expected, 2 * engine.operation)


def test_backtest_finds_the_expert_that_is_right(engine):
    x = np.tile(np.arange(12.0), (1, 1, 1))
    naive, drift = np.array([[0.0], [1.0]]), np.array([[-1.0], [2.0]])
    scores = engine.run("backtest", x, np.stack([naive, drift]), 1)
    assert_parity(scores, [[[1.0, 0.0]]], engine.operation)


def test_backtest_refuses_contexts_shorter_than_a_fold(engine):
    with pytest.raises(ValueError, match=r"at least lookback \+ horizon = 5 values; got 4"):
        engine.run("backtest", np.zeros((1, 1, 4)), np.zeros((2, 3, 2)), 1)
    with pytest.raises(ValueError, match=r"at least lookback \+ horizon = 9 values; got 8"):
        engine.run("backtest", np.zeros((1, 1, 8)), np.zeros((2, 3, 2)), 1, (1, 6))


def test_concat_joins_the_last_axis_and_reshape_keeps_the_order(engine, rng):
    a, b = engine.draw(rng, N, C, 2), engine.draw(rng, N, C, 3)
    joined = engine.run("concat", [a, b])
    assert joined.shape == (N, C, 5)
    assert (joined[..., :2] == a).all()
    assert (joined[..., 2:] == b).all()
    for shape in ((N, 1, C * 5), (N * C, 1, 5), (N, C, 5, 1), (1, 1, N * C * 5)):
        again = engine.run("reshape", joined, shape)
        assert again.shape == shape
        assert again.ravel().tolist() == joined.ravel().tolist()


@pytest.mark.parametrize(("start", "stop"), [(0, L), (0, 4), (3, 7), (L - 1, L)])
def test_columns_are_cut_out_of_rows(engine, rng, start, stop):
    x = engine.draw(rng, N, C, L)
    assert (engine.run("columns", x, start, stop) == x[:, :, start:stop]).all()


def test_what_is_put_is_got_back(engine, rng):
    backend = engine.backend
    for array in (rng.normal(size=(2, 3)), rng.normal(size=(3, 4, 5)).astype(np.float32)):
        back = backend.get(backend.put(array))
        assert back.dtype in (np.float32, np.float64)
        assert (back == engine.holds(array)).all()


def test_what_is_uploaded_together_stays_apart(engine, rng):
    arrays = [
        engine.draw(rng, N, C, L),
        engine.draw(rng, N, C, 1),
        engine.draw(rng, N, 1, 3),
        engine.draw(rng, N, 1, H, 3),
    ]
    tensors = engine.backend.upload(*arrays)
    assert len(tensors) == len(arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tuple(tensor.shape) == array.shape
        assert (engine.backend.get(tensor) == array).all()


@pytest.mark.filterwarnings("error")
def test_uploads_take_rows_in_any_memory_layout(engine, rng):
    x = engine.draw(rng, N, C, 2 * L)
    frozen = x.copy()
    frozen.flags.writeable = False
    for view in (x[:, :, ::2], x[::-1], x.transpose(1, 0, 2)[:, ::-1], frozen, x.astype("f4")):
        (tensor,) = engine.backend.upload(view)
        assert (engine.backend.get(tensor) == engine.holds(view)).all()


def test_numpy_puts_and_gets_float64_and_loses_nothing(rng):
    backend = resolve("numpy")
    for array in (rng.normal(size=(2, 3)), np.arange(4, dtype=np.float32), np.arange(3)):
        back = backend.get(backend.put(array))
        assert back.dtype == np.float64
        assert (back == array).all()


def test_compiled_functions_compute_the_same_and_closing_is_harmless(engine):
    backend = engine.backend
    double = backend.compile(lambda x: backend.concat([x, x]), key=((1, 2),))

    def doubled():
        return backend.get(double(*backend.upload(np.array([[[1.0, 2.0]]])))).tolist()

    assert doubled() == [[[1.0, 2.0, 1.0, 2.0]]]
    backend.close()
    backend.close()
    assert doubled() == [[[1.0, 2.0, 1.0, 2.0]]]
    with backends.open(engine.spec) as same:
        assert same is backend
        assert doubled() == [[[1.0, 2.0, 1.0, 2.0]]]
    assert doubled() == [[[1.0, 2.0, 1.0, 2.0]]]


# -- specs -------------------------------------------------------------------------------------


class SpecBackend(NumpyBackend):
    """A backend that takes any device and dtype."""

    name = "spec_test"
    dtypes = ()
    made = 0

    def __init__(self, device=None, dtype=None):
        Backend.__init__(self, device, dtype)
        type(self).made += 1


@pytest.fixture
def spec_backend(registry):
    backends.register("spec_test", f"{__name__}:SpecBackend")
    SpecBackend.made = 0


def hide(monkeypatch, package, *modules):
    """Make a package impossible to import, and forget the modules that did."""
    monkeypatch.setitem(sys.modules, package, None)
    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)


def test_torch_is_reported_where_it_is_not_installed(registry, monkeypatch):
    backends._INSTANCES.clear()
    hide(monkeypatch, "torch", "mixlin.backends.torch_backend")
    assert "torch" in backends.available()["torch"]
    assert backends.available()["numpy"] is None
    sentence = (
        r"'torch' is not available here: .*torch.*pip install 'mixlin\[torch\]'.*available\(\)"
    )
    for spec in ("torch", "torch:cuda:0", "torch:cpu:float64"):
        with pytest.raises(BackendNotAvailableError, match=sentence):
            resolve(spec)
    model = mixlin.LinearForecaster(4, 2, backend="torch")
    with pytest.raises(BackendNotAvailableError, match=sentence):
        model.fit(np.sin(np.arange(40.0)))
    with pytest.raises(BackendNotAvailableError, match=sentence):
        mixlin.set_config(backend="torch")
    assert mixlin.get_config() == {"backend": None}


def test_an_engine_that_says_why_it_can_not_be_used_is_reported(registry):
    class Missing(NumpyBackend):
        @classmethod
        def why_unavailable(cls):
            return "there is no card here."

    globals()["Missing"] = Missing
    try:
        backends.register("missing_test", f"{__name__}:Missing")
        assert backends.available()["missing_test"] == "there is no card here."
    finally:
        del globals()["Missing"]


@pytest.mark.parametrize(
    ("spec", "device", "dtype", "canonical"),
    [
        ("spec_test", None, None, "spec_test"),
        ("spec_test:cuda", "cuda", None, "spec_test:cuda"),
        ("spec_test:cuda:float32", "cuda", "float32", "spec_test:cuda:float32"),
        ("spec_test::bfloat16", None, "bfloat16", "spec_test::bfloat16"),
        ("spec_test:", None, None, "spec_test"),
        ("spec_test::", None, None, "spec_test"),
    ],
)
def test_specs_are_name_device_dtype(spec_backend, spec, device, dtype, canonical):
    backend = resolve(spec)
    assert (backend.device, backend.dtype, backend.spec) == (device, dtype, canonical)
    assert resolve(canonical) is backend
    assert repr(backend) == f"<mixlin backend {canonical!r}>"


def test_one_instance_per_spec(spec_backend):
    first = resolve("spec_test:a")
    assert all(resolve("spec_test:a") is first for _ in range(3))
    assert SpecBackend.made == 1
    assert resolve("spec_test:b") is not first
    assert resolve(first) is first


def test_one_instance_per_engine_of_numpy():
    specs = ("numpy", "numpy:", "numpy:cpu", "numpy::float64", "numpy:cpu:float64")
    assert {id(resolve(spec)) for spec in specs} == {id(resolve())}


def test_threads_resolve_to_one_instance(spec_backend):
    found, barrier = [], threading.Barrier(8)

    def work():
        barrier.wait()
        found.append(resolve("spec_test:many"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("spec", ["tensorflow", "", "Numpy", "numpyx:cpu", ":cpu"])
def test_unknown_backends_are_refused_with_the_accepted_ones(spec):
    with pytest.raises(ValueError, match=r"unknown backend .*Accepted: 'numpy'"):
        resolve(spec)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("numpy:cuda", "'numpy' computes on the CPU in float64; got device='cuda'"),
        ("numpy:cuda:0", "'numpy' computes on the CPU in float64; got device='cuda:0'"),
        ("numpy:cpu:float32", "'numpy' computes in float64; got dtype='float32'"),
        ("numpy::float16", "'numpy' computes in float64; got dtype='float16'"),
        ("numpy:cpu:float64:x", "'numpy' has no option 'x'; accepted: none"),
        ("numpy:cpu:float64:x:y", "'numpy:cpu:float64:x:y' has too many parts; accepted: 'name"),
        ("numpy:cuda:0:float64:x:y", "has too many parts"),
    ],
)
def test_numpy_refuses_devices_dtypes_and_options_it_has_not(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolve(spec)
    assert spec not in backends._INSTANCES


class OptionBackend(NumpyBackend):
    """A backend with everything that a spec can name."""

    name = "option_test"
    dtypes = ("float32", "bfloat16")
    switches = ("dram", "trace")

    def __init__(self, device=None, dtype=None, options=()):
        Backend.__init__(self, device, dtype, options)


@pytest.mark.parametrize(
    ("spec", "device", "dtype", "options", "canonical"),
    [
        ("option_test", None, None, (), "option_test"),
        ("option_test:1", "1", None, (), "option_test:1"),
        ("option_test:cuda:1", "cuda:1", None, (), "option_test:cuda:1"),
        ("option_test:cuda:1:float32", "cuda:1", "float32", (), "option_test:cuda:1:float32"),
        ("option_test:1:bfloat16", "1", "bfloat16", (), "option_test:1:bfloat16"),
        ("option_test:::trace", None, None, ("trace",), "option_test:::trace"),
        ("option_test:cuda:1::trace", "cuda:1", None, ("trace",), "option_test:cuda:1::trace"),
        (
            "option_test:1:bfloat16:trace,dram,trace,",
            "1",
            "bfloat16",
            ("dram", "trace"),
            "option_test:1:bfloat16:dram,trace",
        ),
        ("option_test::float32:", None, "float32", (), "option_test::float32"),
    ],
)
def test_specs_carry_options(registry, spec, device, dtype, options, canonical):
    backends.register("option_test", f"{__name__}:OptionBackend")
    backend = resolve(spec)
    assert (backend.device, backend.dtype, backend.options) == (device, dtype, options)
    assert backend.spec == canonical
    assert resolve(canonical) is backend
    assert pickle.loads(pickle.dumps(backend)) is backend
    assert clone(backend) is backend


def test_options_and_dtypes_of_an_engine_are_checked(registry):
    backends.register("option_test", f"{__name__}:OptionBackend")
    with pytest.raises(ValueError, match="no option 'fast'; accepted: dram, trace"):
        resolve("option_test:1:bfloat16:trace,fast")
    with pytest.raises(ValueError, match="in float32 or bfloat16; got dtype='float64'"):
        resolve("option_test:1:float64")
    assert not [spec for spec in backends._INSTANCES if spec.startswith("option_test")]


def test_a_backend_written_for_device_and_dtype_alone_still_works(spec_backend):
    backend = resolve("spec_test:a:float32")
    assert backend.options == ()
    model = mixlin.LinearForecaster(4, 2, backend=backend).fit(np.sin(np.arange(40.0)))
    expected = model.predict()
    assert (model.set_params(backend="numpy").predict() == expected).all()


def test_open_opens_at_once_and_closes_at_the_end(registry):
    happened = []

    class Device(NumpyBackend):
        name = "device_test"

        def open(self):
            happened.append("open")

        def close(self):
            happened.append("close")

    backends._INSTANCES["device_test"] = device = Device()

    def fail(backend):
        assert backend is device
        assert happened
        assert "close" not in happened
        raise KeyError

    with pytest.raises(KeyError), backends.open("device_test") as backend:
        fail(backend)
    assert happened[-1] == "close"
    del happened[:]
    assert backends.open(device) is device
    assert happened == ["open"]
    assert backends.open() is resolve("numpy")


@pytest.mark.parametrize("spec", [3, b"numpy", ["numpy"], NumpyBackend])
def test_specs_of_other_types_are_refused(spec):
    with pytest.raises(TypeError, match="must be a str, a Backend or None"):
        resolve(spec)


def test_a_backend_whose_package_is_missing_says_so(registry, tmp_path, monkeypatch):
    (tmp_path / "needs_absent.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    backends.register("absent", "needs_absent:Anything")
    assert "a_package_that_is_absent" in backends.available()["absent"]
    assert backends.available()["numpy"] is None
    sentence = (
        r"'absent' is not available here: .*a_package_that_is_absent.*pip install.*available\(\)"
    )
    with pytest.raises(BackendNotAvailableError, match=sentence):
        resolve("absent")
    with pytest.raises(ImportError):
        resolve("absent:device:dtype")
    assert issubclass(BackendNotAvailableError, ImportError)
    assert mixlin.BackendNotAvailableError is BackendNotAvailableError


def test_registering_imports_nothing(registry, tmp_path, monkeypatch):
    (tmp_path / "lazy_engine.py").write_text(
        "from mixlin.backends.numpy_backend import NumpyBackend\n"
        "class Lazy(NumpyBackend):\n    name = 'lazy'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    backends.register("lazy", "lazy_engine:Lazy")
    assert "lazy_engine" not in sys.modules
    assert resolve("lazy").name == "lazy"
    monkeypatch.delitem(sys.modules, "lazy_engine")


@pytest.mark.parametrize("target", ["math:pi", "mixlin:LinearForecaster", "math:absent"])
def test_what_is_no_backend_class_is_refused(registry, target):
    backends.register("odd", target)
    with pytest.raises(TypeError, match=f"{target} is not a mixlin Backend class"):
        resolve("odd")


@pytest.mark.parametrize(
    ("name", "target"), [("a b", "m:C"), ("", "m:C"), ("a", "m"), ("a", ":C"), ("a", "m:")]
)
def test_registrations_need_a_name_and_a_target(registry, name, target):
    with pytest.raises(ValueError, match="register takes an identifier and 'module:Class'"):
        backends.register(name, target)


def test_registering_anew_replaces_the_instance(spec_backend):
    before = resolve("spec_test:a")
    backends.register("spec_test", f"{__name__}:SpecBackend")
    assert resolve("spec_test:a") is not before


def test_instances_pickle_copy_and_clone_as_their_spec(spec_backend):
    for backend in (resolve("numpy"), resolve("spec_test:cuda:float32")):
        assert pickle.loads(pickle.dumps(backend)) is backend
        assert copy.deepcopy(backend) is backend
        assert copy.copy(backend) is backend
        assert clone(backend) is backend
        model = mixlin.LinearForecaster(4, 2, backend=backend)
        assert clone(model).backend is backend
        assert pickle.loads(pickle.dumps(model)).backend is backend
    assert len(pickle.dumps(resolve("numpy"))) < 200


# -- configuration -----------------------------------------------------------------------------


def test_the_configured_backend_is_the_default(spec_backend, configuration):
    assert resolve(None) is resolve("numpy")
    mixlin.set_config(backend="spec_test:a")
    assert mixlin.get_config() == {"backend": "spec_test:a"}
    assert resolve(None) is resolve("spec_test:a")
    mixlin.set_config(backend=None)
    assert resolve(None) is resolve("numpy")


def test_unknown_backends_are_refused_when_configured(configuration):
    with pytest.raises(ValueError, match="unknown backend 'nothing'"):
        mixlin.set_config(backend="nothing")
    with (
        pytest.raises(ValueError, match="unknown backend 'nothing'"),
        mixlin.config_context(backend="nothing"),
    ):
        pytest.fail("the block must not run")
    assert mixlin.get_config() == {"backend": None}


def test_the_returned_configuration_is_a_copy():
    mixlin.get_config()["backend"] = "nothing"
    assert mixlin.get_config() == {"backend": None}


def test_contexts_nest_and_end_with_errors(spec_backend, configuration):
    mixlin.set_config(backend="spec_test:a")
    with mixlin.config_context(backend="spec_test:b"):
        assert resolve().spec == "spec_test:b"
        with mixlin.config_context(backend=None):
            assert resolve().spec == "numpy"
        assert resolve().spec == "spec_test:b"
        with pytest.raises(KeyError), mixlin.config_context(backend="spec_test:c"):
            raise KeyError
        assert resolve().spec == "spec_test:b"
    assert resolve().spec == "spec_test:a"


def test_contexts_hold_for_their_own_thread(spec_backend, configuration):
    inside, done, seen = threading.Event(), threading.Event(), []

    def other():
        inside.wait(10)
        seen.append(resolve().spec)
        with mixlin.config_context(backend="spec_test:other"):
            seen.append(resolve().spec)
        seen.append(resolve().spec)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mixlin.config_context(backend="spec_test:mine"):
        inside.set()
        assert done.wait(10)
        assert resolve().spec == "spec_test:mine"
    thread.join()
    assert seen == ["numpy", "spec_test:other", "numpy"]


def test_estimators_use_their_own_backend_before_the_configured_one(spec_backend, configuration):
    series = np.sin(np.arange(60.0))
    model = mixlin.LinearForecaster(6, 2, backend="numpy").fit(series)
    expected = model.predict()
    used = []

    class Recording(SpecBackend):
        def linear(self, *args, **kwargs):
            used.append(self.spec)
            return super().linear(*args, **kwargs)

    backends._INSTANCES["spec_test:seen"] = Recording("seen")
    with mixlin.config_context(backend="spec_test:seen"):
        assert (model.predict() == expected).all()
        assert not used
        model.set_params(backend=None)
        assert (model.predict() == expected).all()
    assert used == ["spec_test:seen"]
