"""The backend protocol: its operations against naive loops, specs, configuration."""

import copy
import inspect
import pickle
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone

import mixlin
from mixlin import backends
from mixlin.backends import Backend, BackendNotAvailableError, resolve
from mixlin.backends.numpy_backend import NumpyBackend

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


def assert_close(actual, expected, tolerance=1e-13):
    assert np.shape(actual) == np.shape(expected)
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"off by {error:.3g}, allowed {tolerance}"


def assert_parity(actual, expected, tolerance=1e-13):
    """Compare, and show that ten tolerances would not pass."""
    assert_close(actual, expected, tolerance)
    moved = np.array(expected)
    moved.flat[moved.size // 2] += 10 * tolerance * np.abs(expected).max()
    with pytest.raises(AssertionError, match="off by"):
        assert_close(moved, expected, tolerance)


# -- protocol ----------------------------------------------------------------------------------

OPERATIONS = sorted(Backend.__abstractmethods__)


def test_the_protocol_has_the_documented_operations():
    documented = "put get reshape concat linear power gate mix energy backtest compile close"
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


@pytest.mark.parametrize("name", OPERATIONS)
def test_numpy_keeps_the_signatures_of_the_protocol(name):
    protocol, own = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(Backend, name), getattr(NumpyBackend, name))
    )
    assert own == protocol


# -- operations --------------------------------------------------------------------------------


def own(tensor, channel):
    return tensor[0] if len(tensor) == 1 else tensor[channel]


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("bias_groups", [None, 1, C])
@pytest.mark.parametrize("shared_rows", [False, True])
@pytest.mark.parametrize("steps", [(), (4,)])
def test_linear_maps_the_columns_of_every_channel(rng, groups, bias_groups, shared_rows, steps):
    x = rng.normal(size=(N, 1 if shared_rows else C, *steps, L))
    w = rng.normal(size=(groups, L, H))
    b = None if bias_groups is None else rng.normal(size=(bias_groups, H))
    channels = max(x.shape[1], groups, bias_groups or 1)
    expected = np.zeros((N, channels, *steps, H))
    for index in np.ndindex(expected.shape):
        i, c, *step, h = index
        row = x[(i, 0 if shared_rows else c, *step)]
        expected[index] = sum(row[k] * own(w, c)[k, h] for k in range(L))
        if b is not None:
            expected[index] += own(b, c)[h]
    before = x.copy()
    assert_parity(resolve().linear(x, w, b), expected)
    assert (x == before).all()


@pytest.mark.parametrize("bias", [False, True])
def test_linear_over_axis_minus_two_mixes_channels(rng, bias):
    x, w, b = rng.normal(size=(N, C, L)), rng.normal(size=(1, C, 6)), rng.normal(size=(1, 6))
    add = rng.normal(size=(N, 6, L))
    expected = add.copy()
    for i, d, t in np.ndindex(expected.shape):
        expected[i, d, t] += sum(x[i, c, t] * w[0, c, d] for c in range(C)) + bias * b[0, d]
    out = resolve().linear(x, w, b if bias else None, add=add, axis=-2)
    assert_parity(out, expected)


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
def test_activations_come_last(rng, activation, value_at):
    x, w, add = rng.normal(size=(N, C, L)), rng.normal(size=(1, L, H)), rng.normal(size=(N, C, H))
    kept = add.copy()
    expected = np.vectorize(value_at)(np.einsum("ncl,lh->nch", x, w[0]) + add)
    out = resolve().linear(x, w, None, activation=activation, add=add)
    assert_parity(out, expected, 1e-8 if activation == "gelu" else 1e-13)
    assert (add == kept).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", ["relu", "gelu", "elu", "tanh", "sigmoid"])
def test_activations_survive_extreme_values(activation):
    x = np.array([[[-1e4], [-40.0], [0.0], [40.0], [1e4]]])
    out = resolve().linear(x, np.ones((1, 1, 1)), activation=activation)[0, :, 0]
    assert np.isfinite(out).all()
    assert (np.diff(out) >= 0).all()
    assert out[-1] > out[0]


@pytest.mark.parametrize("length", [8, 9, 16])
@pytest.mark.parametrize("n_bins", [8, 11])
def test_power_is_the_normalized_periodogram(rng, length, n_bins):
    x = rng.normal(size=(N, C, length))
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
    out = resolve().power(x, n_bins)
    assert_parity(out, expected)
    assert_parity(out, by_fft)
    assert (out[1, 2] == 0).all()
    assert np.abs(np.delete(out.sum(axis=2).ravel(), 5) - 1).max() < 1e-14


def test_power_refuses_fewer_bins_than_half_the_rows():
    with pytest.raises(ValueError, match=r"n_bins >= 5 .* length 9; got n_bins=4"):
        resolve().power(np.ones((1, 1, 9)), 4)
    assert resolve().power(np.ones((1, 1, 9)), 5).shape == (1, 1, 5)


LOGITS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 6)),
    elements=st.floats(-50, 50) | st.sampled_from([0.0, 1.0]),  # ties are common
)


@settings(max_examples=150, deadline=None)
@given(logits=LOGITS, temperature=st.floats(0.1, 20), data=st.data())
def test_gates_lie_on_the_simplex_and_on_the_best_logits(logits, temperature, data):
    n_experts = logits.shape[-1]
    top_k = data.draw(st.none() | st.integers(1, n_experts + 1))
    before = logits.copy()
    weights = resolve().gate(logits, top_k, temperature)
    assert (logits == before).all()
    assert weights.shape == logits.shape
    assert (weights >= 0).all()
    assert np.abs(weights.sum(axis=-1) - 1).max() < 1e-14
    for row, gates in zip(
        logits.reshape(-1, n_experts), weights.reshape(-1, n_experts), strict=True
    ):
        kept = sorted(range(n_experts), key=lambda e: (-row[e], e))[:top_k]
        dropped = sorted(set(range(n_experts)) - set(kept))
        assert (gates[dropped] == 0).all()
        raw = np.exp((row[kept] - row.max()) / temperature)
        assert np.abs(gates[kept] - raw / raw.sum()).max() < 1e-13


def test_of_equal_logits_the_first_get_weight():
    assert resolve().gate(np.zeros((1, 1, 4)), top_k=2).tolist() == [[[0.5, 0.5, 0.0, 0.0]]]
    tied = np.array([[[1.0, 2.0, 1.0, 2.0, 2.0]]])
    assert resolve().gate(tied, top_k=2).tolist() == [[[0.0, 0.5, 0.0, 0.5, 0.0]]]
    many = np.arange(300.0)[None, None] % 3  # long rows are sorted by other means
    kept = np.flatnonzero(resolve().gate(many, top_k=60)[0, 0])
    assert kept.tolist() == list(range(2, 182, 3))


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_losses_lower_the_logits(rng, per_step, shared):
    logits = rng.normal(size=(N, 1 if shared else C, *([H] if per_step else []), E))
    one, two = rng.uniform(0.1, 3, size=(2, N, C, E))
    expected = np.zeros((N, C, H, E))
    for i, c, h in np.ndindex(N, C, H):
        row = logits[(i, 0 if shared else c, *([h] if per_step else []))] / 0.7
        raw = np.exp(row) * one[i, c] ** (-2.0 / 0.7) * two[i, c] ** (-0.5 / 0.7)
        expected[i, c, h] = raw / raw.sum()
    out = resolve().gate(logits, None, 0.7, [(one, 2.0), (two, 0.5)])
    assert_parity(out, expected if per_step else expected[:, :, 0])


def test_a_loss_of_zero_wins_and_stays_finite():
    out = resolve().gate(np.zeros((1, 1, 2)), scores=[(np.array([[[0.0, 1.0]]]), 1.0)])
    assert out.round(300).tolist() == [[[1.0, 0.0]]]
    both = resolve().gate(np.zeros((1, 1, 2)), scores=[(np.zeros((1, 1, 2)), 1.0)])
    assert both.tolist() == [[[0.5, 0.5]]]


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("bias_groups", [None, 1, C])
@pytest.mark.parametrize("gate_channels", [1, C])
@pytest.mark.parametrize("per_step", [False, True])
def test_mix_weighs_the_experts(rng, groups, bias_groups, gate_channels, per_step):
    x = rng.normal(size=(N, C, L))
    w = rng.normal(size=(groups, L, E * H))
    b = None if bias_groups is None else rng.normal(size=(bias_groups, E * H))
    g = rng.uniform(size=(N, gate_channels, *([H] if per_step else []), E))
    expected = np.zeros((N, C, H))
    for i, c, h, e in np.ndindex(N, C, H, E):
        y = x[i, c] @ own(w, c)[:, e * H + h] + (0 if b is None else own(b, c)[e * H + h])
        gates = g[i, 0 if gate_channels == 1 else c]
        expected[i, c, h] += (gates[h, e] if per_step else gates[e]) * y
    assert_parity(resolve().mix(x, w, b, g), expected)


def test_energy_is_a_sum_of_squares(rng):
    x, u = rng.normal(size=(N, C, L)), rng.normal(size=(E, L, 4))
    expected = np.zeros((N, C, E))
    for i, c, e in np.ndindex(expected.shape):
        expected[i, c, e] = sum((x[i, c] @ u[e, :, r]) ** 2 for r in range(4))
    assert_parity(resolve().energy(x, u), expected)


@pytest.mark.parametrize(("lookback", "horizon", "length"), [(3, 2, 5), (3, 2, 17), (1, 1, 9)])
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_backtest_averages_over_folds_from_the_end(rng, lookback, horizon, length, step):
    x, w = rng.normal(size=(N, C, length)), rng.normal(size=(E, lookback, horizon))
    expected = np.zeros((N, C, E))
    for i, c, e in np.ndindex(expected.shape):
        errors = []
        for end in range(length, lookback + horizon - 1, -step):
            start = end - lookback - horizon
            seen, future = x[i, c, start : end - horizon], x[i, c, end - horizon : end]
            errors += [abs(seen @ w[e, :, h] - future[h]) for h in range(horizon)]
        expected[i, c, e] = np.mean(errors)
    assert_parity(resolve().backtest(x, w, step), expected)


def test_backtest_finds_the_expert_that_is_right():
    x = np.tile(np.arange(12.0), (1, 1, 1))
    naive, drift = np.array([[0.0], [1.0]]), np.array([[-1.0], [2.0]])
    assert resolve().backtest(x, np.stack([naive, drift]), 1).tolist() == [[[1.0, 0.0]]]


def test_backtest_refuses_contexts_shorter_than_a_fold():
    with pytest.raises(ValueError, match=r"at least lookback \+ horizon = 5 values; got 4"):
        resolve().backtest(np.zeros((1, 1, 4)), np.zeros((2, 3, 2)), 1)


def test_concat_joins_the_last_axis_and_reshape_keeps_the_order(rng):
    a, b = rng.normal(size=(N, C, 2)), rng.normal(size=(N, C, 3))
    joined = resolve().concat([a, b])
    assert joined.shape == (N, C, 5)
    assert (joined[..., :2] == a).all()
    assert (joined[..., 2:] == b).all()
    flat = resolve().reshape(joined, (N, C * 5))
    assert flat.shape == (N, C * 5)
    assert flat.ravel().tolist() == joined.ravel().tolist()


def test_put_and_get_are_float64_and_lose_nothing(rng):
    backend = resolve("numpy")
    for array in (rng.normal(size=(2, 3)), np.arange(4, dtype=np.float32), np.arange(3)):
        back = backend.get(backend.put(array))
        assert back.dtype == np.float64
        assert (back == array).all()


def test_compiled_functions_compute_the_same_and_closing_is_harmless():
    backend = NumpyBackend()
    double = backend.compile(lambda x: backend.concat([x, x]), key=("double", 2))
    assert double(np.ones((1, 1, 2))).shape == (1, 1, 4)
    backend.close()
    assert double(np.ones((1, 1, 2))).shape == (1, 1, 4)


# -- specs -------------------------------------------------------------------------------------


class SpecBackend(NumpyBackend):
    """A backend that takes any device and dtype."""

    name = "spec_test"
    made = 0

    def __init__(self, device=None, dtype=None):
        Backend.__init__(self, device, dtype)
        type(self).made += 1


@pytest.fixture
def spec_backend(registry):
    backends.register("spec_test", f"{__name__}:SpecBackend")
    SpecBackend.made = 0


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


@pytest.mark.parametrize("spec", ["numpy:cuda", "numpy:cpu:float32", "numpy:cpu:float64:x"])
def test_numpy_refuses_devices_and_dtypes_it_has_not(spec):
    with pytest.raises(ValueError, match="computes on the CPU in float64; got"):
        resolve(spec)


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
    sentence = r"'absent' is not available here: .*a_package_that_is_absent.*pip install.*'numpy'"
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
