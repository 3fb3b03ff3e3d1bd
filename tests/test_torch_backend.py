"""What only the engine on torch promises: gradients, exact repetition, devices, compilation."""

import copy
import dataclasses
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import mixlin
from mixlin import backends
from mixlin.backends import BackendMemoryError, BackendNotAvailableError, resolve
from mixlin.layers import Block, Layer
from mixlin.mixture import Mixture, compute, place, predict_windows
from mixlin.mixture.placement import PlacedBlock, PlacedEvidence, PlacedGate, PlacedLayer
from mixlin.mixture.rows import measure_rows
from mixlin.normalization import Normalization

from .engines import FLOAT32, FLOAT64, assert_close, assert_parity
from .mixture_cases import (
    CASES,
    REVIN,
    WindowRouter,
    build,
    draw,
    expected_of,
    make_gate,
    make_weights,
    make_windows,
)

torch = pytest.importorskip("torch", reason="torch is not installed")
torch_backend = pytest.importorskip("mixlin.backends.torch_backend")
torch_products = pytest.importorskip("mixlin.backends.torch_products")

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@pytest.fixture
def instances(monkeypatch):
    """Backends made in a test end with it."""
    monkeypatch.setattr(backends, "_INSTANCES", {})


# -- gradients ---------------------------------------------------------------------------------


def parameters_of(placed):
    """List the tensors of what was placed, in one order."""
    layers = [la for block in placed.pre + placed.post for la in block.layers]
    found = [placed.weights, placed.bias]
    if placed.gate is not None:
        layers += placed.gate.layers
        found += [e.weights for e in placed.gate.evidence]
    found += [tensor for la in layers for tensor in (la.weight, la.bias)]
    return [tensor for tensor in found if tensor is not None]


def with_parameters(placed, parameters):
    """Put other tensors in their places, as a trainer does."""
    own = {id(t): p for t, p in zip(parameters_of(placed), parameters, strict=True)}

    def of(tensor):
        return None if tensor is None else own[id(tensor)]

    def layers(chain):
        return tuple(PlacedLayer(of(w), of(b), act, axis) for w, b, act, axis in chain)

    def blocks(chain):
        return tuple(PlacedBlock(layers(block.layers), block.residual) for block in chain)

    gate = placed.gate
    if gate is not None:
        evidence = tuple(PlacedEvidence(e.kind, of(e.weights), *e[2:]) for e in gate.evidence)
        gate = PlacedGate(layers(gate.layers), evidence, *gate[2:])
    return dataclasses.replace(
        placed,
        weights=of(placed.weights),
        bias=of(placed.bias),
        gate=gate,
        pre=blocks(placed.pre),
        post=blocks(placed.post),
    )


def inputs_of(mixture, placed, backend, windows, extra=None, timestamps=None):
    rows = measure_rows(mixture, placed, backend, windows, extra, timestamps)
    uploaded = iter(backend.upload(*(a for a in rows.arrays if a is not None)))
    return [None if a is None else next(uploaded) for a in rows.arrays]


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_its_gradient_through_the_same_pass(name):
    mixture, windows, inputs = build(name)
    backend = resolve("torch:cpu:float64")
    placed = place(mixture, backend)
    given = inputs_of(mixture, placed, backend, windows, **inputs)
    parameters = [t.clone().requires_grad_() for t in parameters_of(placed)]

    def forecast(*values):
        return compute(with_parameters(placed, values), backend, *given).forecast

    assert (forecast(*parameters_of(placed)) == compute(placed, backend, *given).forecast).all()
    assert torch.autograd.gradcheck(forecast, parameters, fast_mode=True, atol=1e-6)
    gradients = torch.autograd.grad(forecast(*parameters).square().sum(), parameters)
    assert all(gradient.isfinite().all() for gradient in gradients)
    if mixture.gate is None or mixture.gate.top_k != 1:  # where a gate is 1, nothing moves it
        assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["step_gates", "gelu_divides_by_scale", "energy_gate"])
def test_gates_and_experts_are_differentiable_too(name):
    mixture, windows, inputs = build(name)
    backend = resolve("torch:cpu:float64")
    placed = place(mixture, backend)
    given = inputs_of(mixture, placed, backend, windows, **inputs)
    parameters = [t.clone().requires_grad_() for t in parameters_of(placed)]

    def everything(*values):
        computed = compute(with_parameters(placed, values), backend, *given, parts=True)
        return (*computed[:3], *computed.evidence)

    assert len(everything(*parameters)) == 3 + len(mixture.gate.evidence)
    assert torch.autograd.gradcheck(everything, parameters, fast_mode=True, atol=1e-6)


def test_gradients_descend_to_the_weights_that_made_the_data():
    mixture, windows, _ = build("window_gates")
    backend = resolve("torch:cpu:float64")
    placed = place(mixture, backend)
    given = inputs_of(mixture, placed, backend, windows)
    target = compute(placed, backend, *given).forecast
    start = torch.zeros_like(placed.weights, requires_grad=True)
    optimizer = torch.optim.LBFGS([start], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        moved = dataclasses.replace(placed, weights=start, programs={})
        value = (compute(moved, backend, *given).forecast - target).square().mean()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(loss)
    assert loss().item() < 1e-6 * before


def test_forecasting_builds_no_graph_and_needs_no_mode_of_torch():
    mixture, windows, inputs = build("gelu_divides_by_scale")
    for spec in ("torch", "torch:cpu:float64"):
        backend = resolve(spec)
        placed = place(mixture, backend)
        assert not any(tensor.requires_grad for tensor in parameters_of(placed))
        result = compute(placed, backend, *inputs_of(mixture, placed, backend, windows, **inputs))
        assert result.forecast.grad_fn is None
        expected = predict_windows(mixture, windows, backend, **inputs)
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                assert (predict_windows(mixture, windows, backend, **inputs) == expected).all()
    with torch.inference_mode():  # tensors placed here must serve outside, and the reverse
        fresh, _, _ = build("gelu_divides_by_scale")
        predict_windows(fresh, windows, resolve("torch"), **inputs)
    again = predict_windows(fresh, windows, resolve("torch"), **inputs)
    assert (again == predict_windows(mixture, windows, resolve("torch"), **inputs)).all()


def test_what_has_a_graph_can_be_read_back():
    backend = resolve("torch")
    leaf = torch.ones(1, 1, 2, requires_grad=True)
    assert backend.get(2 * leaf).tolist() == [[[2.0, 2.0]]]


# -- a row is a row ----------------------------------------------------------------------------


def wide(kind, lookback, horizon, channels):
    """Return a mixture of realistic widths."""
    rng = np.random.default_rng(lookback + horizon)
    groups = channels if "per_channel" in kind else 1
    weights = make_weights(rng, groups, 3, lookback, horizon)
    bias = draw(rng, groups, 3, horizon)
    if "expert" in kind:
        return Mixture(weights[:, :1], bias=bias[:, :1], normalization=REVIN)
    router = WindowRouter(shared="shared" in kind, per_step="step" in kind)
    gate = make_gate(rng, router, groups)
    block = Block((Layer(draw(rng, groups, lookback, lookback) / lookback, None, "relu"),))
    pre = (block,) if "deep" in kind else ()
    return Mixture(weights, bias=bias, gate=gate, pre=pre, normalization=Normalization("last"))


@pytest.mark.parametrize(
    "kind",
    ["expert", "expert_per_channel", "gates", "step_gates_per_channel", "shared_gates", "deep"],
)
@pytest.mark.parametrize(
    ("lookback", "horizon", "channels"), [(96, 24, 1), (97, 7, 3), (336, 96, 2), (13, 1, 7)]
)
def test_a_row_does_not_depend_on_the_size_or_order_of_its_batch(kind, lookback, horizon, channels):
    mixture, backend = wide(kind, lookback, horizon, channels), resolve("torch")
    windows = make_windows(np.random.default_rng(0), 100, channels, lookback)
    whole = predict_windows(mixture, windows, backend)
    for n in (*range(1, 12), 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 96, 99):
        assert (predict_windows(mixture, windows[:n], backend) == whole[:n]).all()
        assert (predict_windows(mixture, windows[-n:], backend) == whole[-n:]).all()
    order = np.random.default_rng(1).permutation(100)
    assert (predict_windows(mixture, windows[order], backend) == whole[order]).all()
    others = 1e3 * windows[::-1]
    others[41] = windows[41]
    assert (predict_windows(mixture, others, backend)[41] == whole[41]).all()


def sparse(horizon, n_experts=20, top_k=3, lookback=72):
    """Return a mixture whose rows each read a few of many experts."""
    rng = np.random.default_rng(horizon)
    gate = make_gate(rng, top_k=None)
    weight, bias = draw(rng, 1, 3, n_experts), draw(rng, 1, n_experts)
    gate = dataclasses.replace(gate, layers=(Layer(weight, bias),), top_k=top_k)
    weights = make_weights(rng, 1, n_experts, lookback, horizon)
    bias = draw(rng, 1, n_experts, horizon)
    return Mixture(weights, bias=bias, gate=gate, normalization=Normalization("last"))


@pytest.mark.parametrize("horizon", [1, 13, 24])
def test_a_row_that_reads_few_experts_does_not_depend_on_its_batch(horizon):
    mixture, backend = sparse(horizon), resolve("torch")
    windows = make_windows(np.random.default_rng(0), 150, 1, 72)
    whole = predict_windows(mixture, windows, backend)
    assert_close(whole, predict_windows(mixture, windows), FLOAT32.forward)
    for n in (1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 149):
        assert (predict_windows(mixture, windows[:n], backend) == whole[:n]).all()
        assert (predict_windows(mixture, windows[-n:], backend) == whole[-n:]).all()
    order = np.random.default_rng(1).permutation(150)
    assert (predict_windows(mixture, windows[order], backend) == whole[order]).all()


def test_rows_that_read_few_and_rows_that_read_all_do_not_mind_each_other(monkeypatch):
    backend, rng = resolve("torch"), np.random.default_rng(0)
    x, w, b = (backend.put(draw(rng, *s)) for s in ((90, 1, 72), (1, 72, 20 * 24), (1, 20 * 24)))
    g = rng.dirichlet(np.ones(20), size=(90, 1))
    g[::2] *= rng.permuted(np.tile(np.arange(20), (45, 1, 1)), axis=2) < 3
    g = backend.put(g)
    calls = []
    for form in ("_selected", "_dense"):
        run = getattr(torch_products, form)
        monkeypatch.setattr(
            torch_products, form, lambda x, *rest, run=run: calls.append(len(x)) or run(x, *rest)
        )
    whole = backend.mix(x, w, b, g)
    assert calls == [45, 45]
    for some in (slice(0, 1), slice(1, 2), slice(0, None, 2), slice(1, None, 2), slice(30, 47)):
        assert (backend.mix(x[some], w, b, g[some]) == whole[some]).all()


def test_experts_are_left_out_where_nothing_is_differentiated(monkeypatch):
    mixture, backend = sparse(24), resolve("torch")
    placed = place(mixture, backend)
    windows = make_windows(np.random.default_rng(0), 20, 1, 72)
    given = inputs_of(mixture, placed, backend, windows)
    expected = compute(placed, backend, *given).forecast
    used = []
    run = torch_products._selected
    monkeypatch.setattr(torch_products, "_selected", lambda *args: used.append(1) or run(*args))
    assert (compute(placed, backend, *given).forecast == expected).all()
    assert used
    parameters = [t.clone().requires_grad_() for t in parameters_of(placed)]
    used.clear()
    found = compute(with_parameters(placed, parameters), backend, *given).forecast
    assert not used
    assert found.requires_grad
    assert_close(backend.get(found), backend.get(expected), FLOAT32.operation)


@pytest.mark.parametrize("n", [1, 2, 7, 40, 101])
def test_a_backtest_does_not_depend_on_the_batch(n, monkeypatch):
    backend, rng = resolve("torch"), np.random.default_rng(0)
    x, w = backend.put(draw(rng, 101, 1, 130)), backend.put(draw(rng, 11, 40, 5))
    options = (7, (1, 2, 5, 9, 20), 1e-3, 0.5)
    whole = backend.backtest(x, w, *options)
    assert (backend.backtest(x[:n], w, *options) == whole[:n]).all()
    assert (backend.backtest(x[-n:], w, *options) == whole[-n:]).all()
    monkeypatch.setattr(torch_backend, "_FOLD_ELEMENTS", 2000)  # rows come in several blocks
    assert (backend.backtest(x, w, *options) == whole).all()


@pytest.mark.parametrize("name", CASES)
def test_every_form_of_mixture_forecasts_a_row_alone_as_among_others(name):
    mixture, windows, inputs = build(name)
    backend = resolve("torch")
    whole = predict_windows(mixture, windows, backend, **inputs)
    for i in range(len(windows)):
        one = {key: value[i : i + 1] for key, value in inputs.items()}
        assert (predict_windows(mixture, windows[i : i + 1], backend, **one) == whole[i]).all()


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "tanh", "sigmoid"])
@pytest.mark.parametrize("groups", [1, 3])
def test_an_activation_is_the_same_wherever_its_value_stands(activation, groups):
    """Vectorized functions may end in a scalar remainder that rounds otherwise."""
    backend, rng = resolve("torch"), np.random.default_rng(0)
    w, x = backend.put(draw(rng, groups, 5, 7)), draw(rng, 70, 3, 5)
    whole = backend.get(backend.linear(backend.put(x), w, activation=activation))
    for n in range(1, 70):
        part = backend.get(backend.linear(backend.put(x[-n:]), w, activation=activation))
        assert (part == whole[-n:]).all()


def test_the_number_of_threads_of_torch_does_not_matter():
    mixture, backend = wide("gates", 336, 96, 7), resolve("torch")
    windows = make_windows(np.random.default_rng(0), 70, 7, 336)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(predict_windows(mixture, windows, backend))
    finally:
        torch.set_num_threads(before)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_many_blocks_forecast_as_one(monkeypatch):
    mixture, backend = wide("gates", 96, 24, 3), resolve("torch")
    windows = make_windows(np.random.default_rng(0), 150, 3, 96)
    whole = predict_windows(mixture, windows, backend)
    monkeypatch.setattr("mixlin.backends.torch_backend._BLOCK_ELEMENTS", 64 * 3 * 96)
    assert backend.rows_per_block(3, 96) == 64
    assert (predict_windows(mixture, windows, backend) == whole).all()
    single = predict_windows(mixture, windows.astype(np.float32), backend, dtype=np.float32)
    assert single.dtype == np.float32
    assert_close(single, whole, FLOAT32.forward)


# -- specs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canonical", "specs"),
    [
        ("torch", ["torch", "torch:", "torch:cpu", "torch::float32", "torch:cpu:float32"]),
        ("torch:cpu:float64", ["torch:cpu:float64", "torch::float64", "torch::float64:"]),
        ("torch:cuda:0", ["torch:cuda:0", "torch:cuda:0:float32"]),
        ("torch:cuda:0:float64", ["torch:cuda:0:float64"]),
        (
            "torch:cpu:float32:compile",
            ["torch:::compile", "torch:cpu:float32:compile", "torch::float32:compile,compile"],
        ),
        ("torch:cpu:float64:compile", ["torch::float64:compile"]),
    ],
)
def test_one_engine_has_one_spec_and_one_instance(instances, canonical, specs):
    found = {id(resolve(spec)) for spec in [*specs, canonical]}
    assert len(found) == 1
    backend = resolve(canonical)
    assert backend.spec == canonical
    assert repr(backend) == f"<mixlin backend {canonical!r}>"
    assert pickle.loads(pickle.dumps(backend)) is backend
    assert copy.deepcopy(backend) is backend
    assert clone(backend) is backend
    assert len(pickle.dumps(backend)) < 200


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "torch:gpu",
            r"no device 'gpu'; accepted: 'cpu', 'cuda', 'cuda:0' and further numbers, 'mps'",
        ),
        ("torch:cpu:float16", r"in float32 or float64; got dtype='float16'"),
        ("torch:cuda:0:bfloat16", r"in float32 or float64; got dtype='bfloat16'"),
        ("torch:float64", r"no device 'float64'"),
        ("torch:cpu:float32:fast", r"no option 'fast'; accepted: compile"),
        ("torch:mps:float64", r"no float64; use 'torch:mps:float32'"),
        ("torch:cpu:float32:compile:x", "too many parts"),
    ],
)
def test_what_torch_has_not_is_refused(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolve(spec)
    with pytest.raises(ValueError, match=sentence):
        mixlin.LinearForecaster(4, 2, backend=spec).fit(np.sin(np.arange(40.0)))
    with pytest.raises(ValueError, match=sentence):
        mixlin.set_config(backend=spec)


@NO_CUDA
@pytest.mark.parametrize("spec", ["torch:cuda", "torch:cuda:0", "torch:cuda:0:float64"])
def test_a_device_that_is_not_here_is_named(instances, spec):
    backend = resolve(spec)  # a spec may travel through a machine that could not run it
    sentence = (
        rf"backend '{backend.spec}' needs a CUDA device.*is_available\(\) is False.*backend='torch'"
    )
    assert pickle.loads(pickle.dumps(backend)) is backend
    model = mixlin.LinearForecaster(4, 2, backend=spec).fit(np.sin(np.arange(40.0)))
    for use in (model.predict, backend.open, lambda: backends.open(spec)):
        with pytest.raises(BackendNotAvailableError, match=sentence):
            use()
    assert np.isfinite(model.set_params(backend="torch").predict()).all()


def test_exhausted_memory_says_what_to_do():
    def exhausted(*tensors):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    program = resolve("torch").compile(exhausted, key="any")
    with pytest.raises(BackendMemoryError, match=r"backend 'torch': no memory left.*fewer windows"):
        program(torch.ones(2))


def test_the_first_device_has_one_spec():
    assert resolve("torch:cuda") is resolve("torch:cuda:0")
    assert resolve("torch:cpu:0") is resolve("torch")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has Apple's Metal")
def test_metal_that_is_not_here_is_named():
    with pytest.raises(BackendNotAvailableError, match="'torch:mps' needs Apple's Metal"):
        backends.open("torch:mps")


def test_importing_mixlin_imports_no_torch():
    code = (
        "import sys, mixlin; from mixlin import backends; mixlin.LinearForecaster(4, 2);"
        "assert 'torch' not in sys.modules; backends.resolve('torch');"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# -- compiled ----------------------------------------------------------------------------------

COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++", "cl"))), None)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: torch.compile needs one on CPUs")
@pytest.mark.slow
def test_a_compiled_pass_gives_the_same_numbers():
    mixture, windows, inputs = build("one_expert")
    backend = resolve("torch:cpu:float64:compile")
    for n in (len(windows), 3):
        out = predict_windows(mixture, windows[:n], backend, **inputs)
        assert_parity(out, expected_of("one_expert").forecast[:n], FLOAT64.forward)
    (program,) = place(mixture, backend).programs.values()
    assert hasattr(program.__wrapped__, "_torchdynamo_orig_callable")
    plain = resolve("torch:cpu:float64")
    predict_windows(mixture, windows, plain, **inputs)
    (program,) = place(mixture, plain).programs.values()
    assert not hasattr(program.__wrapped__, "_torchdynamo_orig_callable")


# -- workers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    daily = np.sin(2 * np.pi * np.arange(500) / 24)
    return daily[:, None] * [1.0, 2.0] + 0.1 * rng.normal(size=(500, 2))


def test_threads_agree_with_serial_forecasts(series):
    model = mixlin.RLinearForecaster(48, 24, individual=True, backend="torch").fit(series)
    X = np.lib.stride_tricks.sliding_window_view(series, 48, axis=0).transpose(0, 2, 1)
    expected = model.predict(X)
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [model.predict(X[i * 10 : i * 10 + 40]) for i in range(10)]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            for i, forecasts in enumerate(found):
                assert (forecasts == expected[i * 10 : i * 10 + 40]).all()


def test_a_search_in_processes_finds_what_one_process_finds(series):
    windows = np.lib.stride_tricks.sliding_window_view(series[:, 0], 60)
    X, y = windows[:, :48], windows[:, 48:]
    best = []
    for backend, n_jobs in (("torch", 2), (resolve("torch"), 1), ("numpy", 1)):
        model = mixlin.LinearForecaster(backend=backend)
        search = GridSearchCV(model, {"alpha": [1e-6, 1.0, 100.0]}, cv=3, n_jobs=n_jobs)
        search.fit(X, y)
        best.append(search.cv_results_["mean_test_score"])
        assert clone(search.best_estimator_).backend == backend
    assert (best[0] == best[1]).all()
    assert_close(best[0], best[2], FLOAT32.fitted)
