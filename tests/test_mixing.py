"""Which products a mixture takes: the choice, and that it never changes a forecast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlin.backends import mixing, numpy_backend, resolve
from mixlin.backends.mixing import Folding, Selection, cheapest, most_selected
from mixlin.mixture import Mixture, predict_windows
from mixlin.normalization import Normalization

from .engines import assert_close, assert_parity
from .mixture_cases import draw, make_gate, make_weights, make_windows

OFFICIAL = (51, 512, 96)  # experts, columns, horizon of the published Super-Linear


def gates_of(rng, n, n_experts, top_k=None, n_distinct=None):
    raw = rng.uniform(0.1, 1.0, size=(n_distinct or n, n_experts))
    if top_k is not None:
        raw[rng.permuted(np.tile(np.arange(n_experts), (len(raw), 1)), axis=1) >= top_k] = 0.0
    return (raw / raw.sum(axis=1, keepdims=True))[np.arange(n) % len(raw)]


def name_of(form):
    if isinstance(form, Folding):
        return "folded"
    return "dense" if form is None else "selected"


# -- the choice --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "sizes", "top_k", "n_distinct", "expected"),
    [
        (1, OFFICIAL, 12, None, "selected"),
        (256, OFFICIAL, 12, None, "selected"),
        (2048, OFFICIAL, 12, None, "selected"),
        (2048, OFFICIAL, None, None, "dense"),
        (1, OFFICIAL, None, None, "dense"),
        (2048, OFFICIAL, 12, 3, "folded"),
        (2048, OFFICIAL, None, 1, "folded"),
        (1, (127, 1024, 96), 32, None, "selected"),
        (700, (4, 336, 96), None, 24, "folded"),
        (700, (4, 336, 96), None, None, "dense"),
        (5, (4, 96, 24), 2, None, "dense"),
        (0, OFFICIAL, None, None, "selected"),
    ],
)
def test_the_cheapest_form_is_chosen(n, sizes, top_k, n_distinct, expected):
    n_experts, n_columns, horizon = sizes
    gates = gates_of(np.random.default_rng(0), n, n_experts, top_k, n_distinct)
    assert name_of(cheapest(gates, n_columns, horizon)) == expected


def test_the_choice_of_a_row_does_not_count_other_rows():
    assert most_selected(512, 51, 96) >= 12
    assert most_selected(1024, 127, 96) >= 32
    assert most_selected(96, 4, 24) == 1
    assert most_selected(512, 51, 1) < 5  # rows are dearer to pick than to multiply


@pytest.mark.parametrize("n", [1, 3, 50])
def test_a_selection_holds_the_rows_that_give_weight(n):
    gates = gates_of(np.random.default_rng(n), n, 60, top_k=4)
    found = cheapest(gates, 300, 40)
    assert isinstance(found, Selection)
    rebuilt = np.zeros(gates.shape, dtype=bool)
    for expert, rows in zip(*found, strict=True):
        assert len(rows) > 0
        rebuilt[rows, expert] = True
    np.testing.assert_array_equal(rebuilt, gates != 0)


@given(
    n=st.integers(2, 200),
    n_experts=st.integers(1, 6),
    n_distinct=st.integers(1, 200),
    seed=st.integers(0, 2**16),
)
def test_rows_are_in_the_group_of_their_gates(n, n_experts, n_distinct, seed):
    rng = np.random.default_rng(seed)
    gates = gates_of(rng, n, n_experts, n_distinct=min(n, n_distinct))[rng.permutation(n)]
    found = mixing._distinct(gates)
    groups = len(np.unique(gates, axis=0))
    if found is None:  # few rows have a twin
        assert groups > 0.5 * min(n, mixing._SAMPLED)
        return
    firsts, which = found
    assert len(firsts) == groups
    np.testing.assert_array_equal(gates[firsts][which], gates)


def test_gates_that_only_look_alike_are_not_folded(monkeypatch):
    gates = np.repeat(np.array([[0.5, 0.5], [0.4, 0.6]]), 200, axis=0)
    assert name_of(cheapest(gates, 64, 64)) == "folded"
    sums = np.sqrt  # a probe that can't tell the two apart
    monkeypatch.setattr(np, "sqrt", lambda x: 0.0 * sums(x))
    assert mixing._distinct(gates) is None


# -- the result --------------------------------------------------------------------------------


def selected(gates, *sizes):
    active = np.flatnonzero(gates.any(axis=0))
    return Selection(tuple(active), tuple(np.flatnonzero(column) for column in gates.T[active]))


def folded(gates, *sizes):
    distinct, which = np.unique(gates, axis=0, return_inverse=True)
    rows = tuple(np.flatnonzero(which.reshape(-1) == i) for i in range(len(distinct)))
    return Folding(distinct, rows)


FORMS = {"dense": lambda *given: None, "selected": selected, "folded": folded}


@pytest.fixture(params=["numpy", "torch:cpu:float64"])
def choosing(request, monkeypatch):
    """Return a function that makes a backend take one form always, and the backend."""
    where = numpy_backend
    if request.param != "numpy":
        pytest.importorskip("torch", reason="torch is not installed")
        from mixlin.backends import torch_products as where
    backend = resolve(request.param)
    return lambda form: monkeypatch.setattr(where, "cheapest", FORMS[form]) or backend


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "n_distinct"), [(1, 1), (2, 2), (50, 50), (50, 4), (90, 1)])
@pytest.mark.parametrize("top_k", [None, 1, 3])
@pytest.mark.parametrize("horizon", [1, 7, 24])
def test_every_form_gives_the_same(choosing, form, n, n_distinct, top_k, horizon):
    rng = np.random.default_rng(n)
    x, w, b = draw(rng, n, 1, 30), draw(rng, 1, 30, 5 * horizon), draw(rng, 1, 5 * horizon)
    g = gates_of(rng, n, 5, top_k, n_distinct)[:, None]
    backend = choosing(form)
    out = backend.get(backend.mix(*map(backend.put, (x, w, b, g))))
    expected = np.einsum("nce,nceh->nch", g, (x @ w[0] + b).reshape(n, 1, 5, horizon))
    assert_parity(out, expected, 1e-13)
    wrong = backend.get(backend.mix(*map(backend.put, (x, w, b, np.roll(g, 1, axis=2)))))
    with pytest.raises(AssertionError, match="off by"):
        assert_close(wrong, expected, 1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_large_foldings_are_made_piece_by_piece(choosing, monkeypatch, form):
    monkeypatch.setattr(numpy_backend, "_RESULT_ELEMENTS", 3 * 20 * 4)
    rng = np.random.default_rng(0)
    x, w, g = draw(rng, 40, 1, 20), draw(rng, 1, 20, 3 * 4), gates_of(rng, 40, 3, n_distinct=8)
    backend = choosing(form)
    out = backend.get(backend.mix(backend.put(x), backend.put(w), None, backend.put(g[:, None])))
    expected = np.einsum("ne,neh->nh", g, (x[:, 0] @ w[0]).reshape(40, 3, 4))
    assert_parity(out[:, 0], expected, 1e-13)


@pytest.mark.parametrize("n", [1, 2, 63, 400])
@pytest.mark.parametrize("top_k", [None, 2])
def test_a_row_hardly_depends_on_its_neighbors(n, top_k):
    rng = np.random.default_rng(n)
    mixture = Mixture(
        make_weights(rng, n_experts=3, lookback=96, horizon=24),
        bias=draw(rng, 1, 3, 24),
        gate=make_gate(rng, top_k=top_k),
        normalization=Normalization("last"),
    )
    windows = make_windows(rng, n=400, channels=1, lookback=96)
    whole = predict_windows(mixture, windows)
    assert_close(predict_windows(mixture, windows[:n]), whole[:n], 1e-12)
    repeated = np.repeat(windows[:1], 400, axis=0)  # all share their gate
    repeated[7] = windows[7]
    assert_close(predict_windows(mixture, repeated)[[0, 7]], whole[[0, 7]], 1e-12)
