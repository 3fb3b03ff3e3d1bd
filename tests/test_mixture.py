"""The one forward pass against plain loops over the canonical form, on hand-made mixtures."""

import copy
import dataclasses
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from mixlin.backends import resolve
from mixlin.backends.numpy_backend import NumpyBackend
from mixlin.decomposition import fold_decomposition
from mixlin.layers import Block, Layer
from mixlin.mixture import FixedPlan, Mixture, Parts, forward, place, predict_windows
from mixlin.normalization import Normalization
from mixlin.routing import ConstantRouter, Evidence, Gate

from .engines import ENGINES, assert_close, assert_parity
from .mixture_cases import (
    CASES,
    REVIN,
    C,
    E,
    F,
    H,
    L,
    N,
    WindowRouter,
    Z,
    build,
    draw,
    expected_of,
    make_gate,
    make_stamps,
    make_weights,
    make_windows,
    own,
    reference_forward,
)

TOLERANCE = 1e-12  # of the reference engine


# -- parity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_forecasts_equal_plain_loops(engine, name):
    mixture, windows, inputs = build(name)
    expected = expected_of(name).forecast
    actual = forward(mixture, engine.backend, windows, **inputs)
    assert_parity(actual, expected, engine.forward)
    actual = predict_windows(mixture, windows, engine.backend, **inputs)
    assert_parity(actual, expected, engine.forward)


@pytest.mark.parametrize("name", CASES)
def test_parts_equal_plain_loops_and_add_up(engine, name):
    mixture, windows, inputs = build(name, seed=1)
    expected = expected_of(name, seed=1)
    parts = forward(mixture, engine.backend, windows, **inputs, parts=True)
    assert isinstance(parts, Parts)
    assert_parity(parts.forecast, expected.forecast, engine.forward)
    assert_parity(parts.experts, expected.experts, engine.forward)
    per_step = parts.gates if parts.gates.ndim == 4 else parts.gates[:, :, None, :]
    gates = np.broadcast_to(per_step, expected.gates.shape)
    assert_parity(gates, expected.gates, engine.forward)
    assert (gates >= 0).all()
    assert np.abs(gates.sum(axis=-1) - 1).max() < engine.forward
    if mixture.gate is not None and mixture.gate.top_k:
        assert ((gates > 0).sum(axis=-1) <= mixture.gate.top_k).all()
    level = np.broadcast_to(parts.level, (N, C))
    assert_parity(level, expected.level, TOLERANCE, unit=10.0)  # the host's, on every engine
    if mixture.normalization.scaled:
        assert_parity(parts.scale, expected.scale, TOLERANCE)
    else:
        assert parts.scale is None
    logits = parts.logits if parts.logits.ndim == 4 else parts.logits[:, :, None, :]
    assert parts.logits.shape == parts.gates.shape
    shift = 10 * sum(e.exponent for e in (mixture.gate.evidence if mixture.gate else ()))
    size = np.abs(expected.logits).max() + shift or 1.0  # what is subtracted may be all but equal
    assert_close(np.broadcast_to(logits, gates.shape), expected.logits, engine.forward, unit=size)
    assert len(parts.evidence) == len(expected.evidence)
    for loss, loop in zip(parts.evidence, expected.evidence, strict=True):
        assert_parity(loss, loop, engine.forward)
    if not mixture.post:
        assert_parity((gates * parts.experts).sum(axis=-1), parts.forecast, engine.forward)


PER_STEP = {name for name in CASES if expected_of(name).gates.std(axis=2).any()}


@pytest.mark.parametrize("name", CASES)
def test_scores_come_with_the_forecasts(engine, name):
    mixture, windows, inputs = build(name)
    backend = engine.backend
    if name in PER_STEP:
        with pytest.raises(ValueError, match="differs from step to step"):
            predict_windows(mixture, windows, backend, **inputs, scores=True)
        return
    expected = expected_of(name).logits[:, :, 0]
    forecast, scores = predict_windows(mixture, windows, backend, **inputs, scores=True)
    plain = predict_windows(mixture, windows, backend, **inputs)
    assert_parity(forecast, plain, engine.operation)
    assert scores.dtype == np.float64
    parts = forward(mixture, backend, windows, **inputs, parts=True)
    if mixture.gate is None:
        assert scores.shape == (N, C, 1)
        assert (scores == 0).all()
    else:
        assert_parity(scores, expected, engine.forward, unit=max(np.abs(expected).max(), 3.0))
        assert_close(scores, np.broadcast_to(parts.logits, scores.shape), engine.operation)


@pytest.mark.parametrize("name", ["top_k", "gates_shared_by_channels", "backtest_of_far_steps"])
@pytest.mark.parametrize(("rows", "in_flight"), [(None, 1), (1, 1), (7, 2), (22, 3)])
def test_scores_do_not_depend_on_blocks(engine, name, rows, in_flight):
    mixture, windows, inputs = build_many(name, n=23)
    expected = predict_windows(mixture, windows, engine.backend, **inputs, scores=True)
    blocks = in_blocks(engine.backend, rows, in_flight)
    actual = predict_windows(mixture, windows, blocks, **inputs, scores=True)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, engine.operation)


@pytest.mark.parametrize("name", ["top_k", "gates_shared_by_channels", "channel_weights"])
def test_scores_take_no_transfer_of_their_own(name):
    class Counting(CountingBackend):
        gets = 0

        def get(self, tensor):
            self.gets += 1
            return super().get(tensor)

    mixture, windows, inputs = build(name)
    backend = Counting()
    forecast, scores = predict_windows(mixture, windows, backend, **inputs, scores=True)
    assert (backend.uploads, backend.gets) == (1, 1)
    assert (forecast.shape, scores.shape) == ((N, C, H), (N, C, E))
    single, _ = predict_windows(mixture, windows, backend, dtype=np.float32, scores=True)
    assert single.dtype == np.float32


GROUPS = st.sampled_from([1, C])
GROUPED = (
    *("weights", "bias", "scale_coef", "level_coef", "extra_coef", "extra", "reference"),
    *("gate", "gate_bias", "pre", "pre_bias", "post"),
)


@pytest.fixture
def engines():
    """Return every engine that is here, for tests whose expectation is dear."""
    with ExitStack() as stack:
        yield [stack.enter_context(e.registered()) for e in ENGINES if e.why_missing() is None]


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    groups=st.fixed_dictionaries(dict.fromkeys(GROUPED, GROUPS)),
    activation=st.sampled_from([None, "relu", "gelu"]),
    level=st.sampled_from(["mean", "last"]),
    scaled=st.booleans(),
    router=st.builds(WindowRouter, shared=st.booleans(), per_step=st.booleans()),
    seed=st.integers(0, 2**16),
)
def test_every_tensor_is_shared_or_per_channel_on_its_own(
    engines, groups, activation, level, scaled, router, seed
):
    rng = np.random.default_rng(seed)
    pre = Layer(draw(rng, groups["pre"], L, 5) / 3, draw(rng, groups["pre_bias"], 5), activation)
    post = Layer(draw(rng, groups["post"], H, H), draw(rng, 1, H))
    mixture = Mixture(
        make_weights(rng, groups["weights"], lookback=5),
        bias=draw(rng, groups["bias"], E, H),
        scale_coef=draw(rng, groups["scale_coef"], E, H) if scaled else None,
        level_coef=draw(rng, groups["level_coef"], E, H),
        extra_coef=draw(rng, groups["extra_coef"], Z, H),
        reference=draw(rng, groups["reference"]),
        normalization=Normalization(level, scaled=scaled),
        gate=Gate(
            router, (Layer(draw(rng, groups["gate"], F, E), draw(rng, groups["gate_bias"], E)),)
        ),
        pre=(Block((pre,)),),
        post=(Block((post,), residual=True),),
    )
    extra = draw(rng, 2, groups["extra"], Z)
    windows = make_windows(rng, n=2)
    expected = reference_forward(mixture, windows, extra).forecast
    for engine in engines:
        note(f"engine {engine.spec}")
        actual = predict_windows(mixture, windows, engine.backend, extra=extra)
        assert_parity(actual, expected, 10 * engine.forward)


def test_a_changed_weight_changes_the_comparison():
    mixture, windows, _ = build("window_gates")
    weights = mixture.weights.copy()
    weights[0, 1, 2, 3] += 1e-6
    other = Mixture(weights, bias=mixture.bias, gate=mixture.gate)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(predict_windows(other, windows), expected_of("window_gates").forecast, 1e-9)


# -- precision ---------------------------------------------------------------------------------

EXTENDED = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@pytest.mark.skipif(not EXTENDED, reason="this platform has no extended precision")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("window_gates", {}),
        ("step_gates", {}),
        ("channel_weights", {}),
        ("scale_coef_around_the_reference", {}),
        ("unnormalized_experts_in_a_normalized_mixture", {}),
        ("scale_of_super_linear", {}),
        ("relu_residual_block_rides_on_scale", {}),
    ],
)
@pytest.mark.parametrize("reference", [[1e6], [1e6, 1e6 + 2.0, 1e6 - 1.0]])
def test_nothing_is_lost_at_level_1e6(engine, name, changes, reference):
    mixture, windows, inputs = build(name, seed=2, reference=np.array(reference))
    windows = windows + 1e6
    expected = reference_forward(mixture, windows, **inputs, real=np.longdouble).forecast
    spread = float(np.std(windows - windows.mean(axis=2, keepdims=True)))
    assert spread < 10
    actual = predict_windows(mixture, windows, engine.backend, **inputs)
    assert_parity(actual, expected, max(1e-9, 10 * engine.forward), unit=spread)


def test_the_reference_level_is_what_keeps_precision():
    """The same model written in raw coordinates is off by more than the bound above."""
    rng = np.random.default_rng(3)
    weights = draw(rng, 1, 1, 336, H)
    windows = 1e6 + draw(rng, 200, 1, 336)
    measured = Mixture(weights, reference=np.array([1e6]))
    raw = Mixture(weights, bias=1e6 * (1 - weights.sum(axis=2)))
    off = np.abs(predict_windows(measured, windows) - predict_windows(raw, windows)).max()
    assert 1e-9 < off < 1e-5


# -- inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error")
def test_inputs_are_left_alone_and_may_be_read_only(engine, name):
    mixture, windows, inputs = build(name)
    before = windows.copy()
    for array in [windows, *inputs.values()]:
        array.flags.writeable = False
    kept = {k: np.array(v) for k, v in vars(mixture).items() if isinstance(v, np.ndarray)}
    for array in (v for v in vars(mixture).values() if isinstance(v, np.ndarray)):
        array.flags.writeable = False
    first = predict_windows(mixture, windows, engine.backend, **inputs)
    parts = forward(mixture, engine.backend, windows, **inputs, parts=True)
    assert (windows == before).all()
    assert all((getattr(mixture, k) == v).all() for k, v in kept.items())
    assert_close(parts.forecast, first, engine.forward)


@pytest.mark.parametrize("name", ["window_gates", "gelu_divides_by_scale", "energy_gate"])
def test_float32_windows_are_measured_in_float64(engine, name):
    mixture, windows, inputs = build(name)
    windows = windows.astype(np.float32)
    out = predict_windows(mixture, windows, engine.backend, **inputs)
    assert out.dtype == np.float64
    expected = reference_forward(mixture, windows.astype(np.float64), **inputs).forecast
    assert_parity(out, expected, engine.forward)


@pytest.mark.parametrize("name", ["relu_layer_before", "energy_gate", "post_block_over_time"])
def test_levels_are_taken_and_added_in_float64(engine, name):
    mixture, windows, inputs = build(name)
    windows = (1e5 + windows).astype(np.float32)
    expected = reference_forward(mixture, windows.astype(np.float64), **inputs).forecast
    out = predict_windows(mixture, windows, engine.backend, **inputs)
    spread = float(np.std(windows - windows.mean(axis=2, keepdims=True)))
    assert_parity(out, expected, max(1e-9, 10 * engine.forward), unit=spread)
    single = predict_windows(mixture, windows, engine.backend, **inputs, dtype=np.float32)
    assert single.dtype == np.float32
    assert np.abs(single - out).max() <= np.spacing(np.float32(out.max()))


@pytest.mark.parametrize("name", ["window_gates", "backtest_gate", "layer_over_channels"])
@pytest.mark.filterwarnings("error")
def test_memory_layout_does_not_matter(engine, name):
    mixture, windows, inputs = build(name)
    backend, expected = engine.backend, expected_of(name).forecast
    channels_last = np.ascontiguousarray(windows.transpose(0, 2, 1)).transpose(0, 2, 1)
    backwards = windows[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    strided = np.zeros((N, C, 2 * L))
    strided[:, :, ::2] = windows
    series = np.cumsum(draw(np.random.default_rng(5), C, N + L - 1), axis=1)
    rolling = np.lib.stride_tricks.sliding_window_view(series, L, axis=1).transpose(1, 0, 2)
    for view in (channels_last, backwards, strided[:, :, ::2]):
        actual = predict_windows(mixture, view, backend, **inputs)
        assert_parity(actual, expected, engine.forward)
    expected = reference_forward(mixture, rolling.copy(), **inputs).forecast
    assert_parity(predict_windows(mixture, rolling, backend, **inputs), expected, engine.forward)


def in_blocks(backend, rows, in_flight=1):
    """Return a backend like another one that takes some rows at a time."""

    class InBlocks(type(backend)):
        blocks_in_flight = in_flight

        def rows_per_block(self, n_channels, n_columns):
            return rows

    return InBlocks(backend.device, backend.dtype, backend.options)


def build_many(name, n=41):
    mixture, _, _ = build(name)
    rng = np.random.default_rng(4)
    windows = make_windows(rng, n=n)
    inputs = {"extra": draw(rng, n, C, Z)} if mixture.extra_coef is not None else {}
    if "calendar" in name:
        inputs["timestamps"] = make_stamps(n)
    return mixture, windows, inputs


@pytest.mark.parametrize("name", CASES)
def test_forecasts_do_not_depend_on_the_batch(engine, name):
    mixture, windows, inputs = build_many(name, n=23)
    backend = engine.backend
    whole = predict_windows(mixture, windows, in_blocks(backend, None), **inputs)
    assert_parity(whole, predict_windows(mixture, windows, **inputs), engine.forward)
    for rows, in_flight in ((1, 1), (7, 1), (22, 1), (7, 2), (3, 5)):
        blocks = in_blocks(backend, rows, in_flight)
        assert_parity(predict_windows(mixture, windows, blocks, **inputs), whole, engine.forward)
    one = {k: v[6:7] for k, v in inputs.items()}
    alone = predict_windows(mixture, windows[6:7], backend, **one)
    assert_parity(alone, whole[6:7], engine.forward)


def test_no_windows_give_no_forecasts(engine):
    mixture, windows, _ = build("window_gates")
    out = predict_windows(mixture, windows[:0], engine.backend, dtype=np.float32)
    assert out.shape == (0, C, H)
    assert out.dtype == np.float32
    assert forward(mixture, engine.backend, windows[:0]).shape == (0, C, H)
    parts = forward(mixture, engine.backend, windows[:0], parts=True)
    assert parts.experts.shape == (0, C, H, E)
    out, scores = predict_windows(mixture, windows[:0], engine.backend, scores=True)
    assert (out.shape, scores.shape) == ((0, C, H), (0, C, E))


class LateBackend(NumpyBackend):
    """A backend like a far device: it reads what was uploaded when its result is asked for."""

    def __init__(self, rows, blocks_in_flight, late=0):
        super().__init__()
        self.rows, self.blocks_in_flight, self.late = rows, blocks_in_flight, late
        self.queue, self.most = [], 0

    def rows_per_block(self, n_channels, n_columns):
        return self.rows

    def compile(self, fn, key):
        def enqueue(*tensors):
            self.queue.append((fn, tensors))
            self.most = max(self.most, len(self.queue))
            return len(self.queue)

        return enqueue

    def get(self, tensor):
        fn, tensors = self.queue.pop(self.late if len(self.queue) > self.late else 0)
        return fn(*tensors)


@pytest.mark.parametrize("blocks_in_flight", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_blocks_in_flight_keep_their_rows(name, blocks_in_flight):
    mixture, windows, inputs = build_many(name)
    expected = predict_windows(mixture, windows, in_blocks(resolve(), 7), **inputs)
    backend = LateBackend(7, blocks_in_flight)
    assert (predict_windows(mixture, windows, backend, **inputs) == expected).all()
    assert backend.most == blocks_in_flight
    assert not backend.queue


def test_more_blocks_in_flight_than_announced_would_show():
    class Greedy(LateBackend):
        """Computes a block only when the next one has been uploaded, against what it says."""

        last = None

        def get(self, tensor):
            before, self.last = self.last, self.queue.pop()
            fn, tensors = before or self.last
            return fn(*tensors)

    mixture, windows, _ = build_many("relu_layer_before", n=21)
    expected = predict_windows(mixture, windows)
    out = predict_windows(mixture, windows, Greedy(7, 1))
    assert_close(out[:7], expected[:7], TOLERANCE)
    with pytest.raises(AssertionError, match="off by"):  # the first block's rows are gone
        assert_close(out[7:14], expected[:7], TOLERANCE)


class FoldingBackend(NumpyBackend):
    """A backend that wants channels that share their weights as rows."""

    folds_channels = True

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def upload(self, *arrays):
        self.shapes |= {array.shape[:2] for array in arrays}
        return super().upload(*arrays)


@pytest.mark.parametrize("n", [1, 2, N])
@pytest.mark.parametrize("name", CASES)
def test_channels_may_be_forecast_as_rows(name, n):
    mixture, windows, inputs = build(name)
    windows, inputs = windows[:n], {k: v[:n] for k, v in inputs.items()}
    expected = forward(mixture, resolve(), windows, **inputs, parts=True)
    backend = FoldingBackend()
    folded = predict_windows(mixture, windows, backend, **inputs)
    assert_parity(folded, expected.forecast, TOLERANCE)
    parts = forward(mixture, backend, windows, **inputs, parts=True)
    for actual, wanted in zip(parts, expected, strict=True):
        if isinstance(wanted, np.ndarray):
            assert_parity(actual, wanted, TOLERANCE, unit=np.abs(wanted).max() or 1.0)
    assert len(parts.evidence) == len(expected.evidence)
    for actual, wanted in zip(parts.evidence, expected.evidence, strict=True):
        assert_parity(actual, wanted, TOLERANCE)


@pytest.mark.parametrize(
    ("name", "folds"),
    [
        ("one_expert", True),
        ("window_gates", True),
        ("gates_shared_by_channels", True),
        ("calendar_gates", True),
        ("step_gates", True),
        ("energy_gate", True),
        ("extra_columns", True),
        ("calendar_step_gates", False),  # one gate per step for all channels is shorter as it is
        ("channel_weights", False),
        ("channel_biases_on_shared_weights", False),
        ("gate_groups_on_shared_features", False),
        ("relu_residual_block_rides_on_scale", False),
        ("layer_over_channels", False),
        ("layer_over_channels_has_their_scales", False),
    ],
)
def test_channels_become_rows_only_where_they_share_everything(name, folds):
    mixture, windows, inputs = build(name)
    backend = FoldingBackend()
    predict_windows(mixture, windows, backend, **inputs)
    assert ((N * C, 1) in backend.shapes) == folds
    assert len(backend.shapes) == 1 or not folds


# -- folding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("kernel_size", [3, 5, 25])
def test_hand_made_dlinear_equals_its_fold(engine, groups, kernel_size):
    rng = np.random.default_rng(kernel_size)
    seasonal, trend = draw(rng, groups, H, L), draw(rng, groups, H, L)
    bias = draw(rng, groups, H)
    windows = make_windows(rng)
    folded = fold_decomposition(seasonal, trend, kernel_size)
    mixture = Mixture(folded.transpose(0, 2, 1)[:, None].copy(), bias=bias[:, None])
    expected = np.zeros((N, C, H))
    half = kernel_size // 2
    for i in range(N):
        for c in range(C):
            x = windows[i, c]
            for t in range(L):
                around = [x[min(max(s, 0), L - 1)] for s in range(t - half, t + half + 1)]
                mean = sum(around) / kernel_size
                for h in range(H):
                    s, w = own(seasonal, c)[h, t], own(trend, c)[h, t]
                    expected[i, c, h] += s * (x[t] - mean) + w * mean
            expected[i, c] += own(bias, c)
    actual = predict_windows(mixture, windows, engine.backend)
    assert_parity(actual, expected, engine.forward)


# -- placed weights ----------------------------------------------------------------------------


class CountingBackend(NumpyBackend):
    """A backend that counts what is put on it."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.puts = self.uploads = 0

    def put(self, array):
        with self.lock:
            self.puts += 1
        return super().put(array)

    def upload(self, *arrays):
        with self.lock:
            self.uploads += 1
        return super().upload(*arrays)


def n_tensors(mixture):
    layers = [la for block in mixture.pre + mixture.post for la in block.layers]
    if mixture.gate is not None:
        layers += mixture.gate.layers
    biases = sum(la.bias is not None for la in layers)
    elsewhere = mixture.bias_on_host or mixture.divides_by_scale
    packed_bias = mixture.bias is not None and not elsewhere
    evidence = 0 if mixture.gate is None else len(mixture.gate.evidence)
    return 1 + packed_bias + len(layers) + biases + evidence


@pytest.mark.parametrize("name", CASES)
def test_weights_are_uploaded_once(name):
    mixture, windows, inputs = build(name)
    backend = CountingBackend()
    forward(mixture, backend, windows, **inputs)
    first, backend.puts = backend.puts, 0
    forward(mixture, backend, windows, **inputs)
    second, backend.puts = backend.puts, 0
    assert backend.uploads == 2
    assert first - second == n_tensors(mixture)
    for _ in range(3):
        forward(mixture, backend, windows, **inputs)
    assert backend.puts == 3 * second
    assert backend.uploads == 5
    assert second <= 3  # the columns, the scale, the gate's features


def packed_weights(rng, n_experts=E, lookback=L, horizon=H):
    """Return weights in the memory order of the one product."""
    return np.ascontiguousarray(make_weights(rng, 1, n_experts, lookback, horizon).swapaxes(1, 2))


@pytest.mark.parametrize("spec", ["numpy", "torch:cpu:float64"])
def test_weights_in_the_order_of_the_product_are_not_copied(spec):
    if spec != "numpy":
        pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(0)
    packed, tests = packed_weights(rng), draw(rng, 4, E, 2)
    evidence = Evidence("backtest", tests.swapaxes(0, 1), 1.0)
    mixture = Mixture(packed.swapaxes(1, 2), gate=make_gate(rng, evidence=(evidence,)))
    placed, backend = place(mixture, resolve(spec)), resolve(spec)
    assert np.shares_memory(backend.get(placed.weights), packed)
    assert np.shares_memory(backend.get(placed.gate.evidence[0].weights), tests)
    other = Mixture(make_weights(rng), gate=make_gate(rng))  # in another order: one copy
    weights = backend.get(place(other, backend).weights)
    assert not np.shares_memory(weights, other.weights)


def test_the_order_of_weights_in_memory_changes_no_bit():
    rng = np.random.default_rng(0)
    packed, tests = packed_weights(rng), draw(rng, 4, E, 2)
    gate = make_gate(rng)
    windows = make_windows(rng)
    found = []
    for order in (np.asarray, np.ascontiguousarray, np.asfortranarray):
        evidence = Evidence("backtest", order(tests.swapaxes(0, 1)), 1.0)
        mixture = Mixture(
            order(packed.swapaxes(1, 2)), gate=dataclasses.replace(gate, evidence=(evidence,))
        )
        found.append(predict_windows(mixture, windows))
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_a_single_expert_uploads_one_array_a_call():
    mixture, windows, _ = build("one_expert")
    backend = CountingBackend()
    place(mixture, backend)
    backend.puts = 0
    forward(mixture, backend, windows)
    assert backend.puts == 1


def test_placed_weights_are_never_stale():
    backend = CountingBackend()
    rng = np.random.default_rng(6)
    windows = make_windows(rng)
    for _ in range(50):  # new mixtures reuse the addresses of old ones
        mixture = Mixture(make_weights(rng, n_experts=1))
        expected = np.einsum("ncl,lh->nch", windows, mixture.weights[0, 0])
        assert_close(predict_windows(mixture, windows, backend), expected, TOLERANCE)
        del mixture


def test_placed_weights_go_with_the_mixture():
    mixture, windows, _ = build("window_gates")
    backend = CountingBackend()
    predict_windows(mixture, windows, backend)
    held = weakref.ref(place(mixture, backend).weights)
    gc.collect()
    assert held() is not None
    del mixture
    gc.collect()
    assert held() is None


def test_placed_weights_wait_for_no_collector():
    mixture, windows, _ = build("window_gates")
    backend = CountingBackend()
    predict_windows(mixture, windows, backend)
    held = weakref.ref(place(mixture, backend).weights)
    gc.collect()
    gc.disable()  # memory of a device is no reason for Python to look for cycles
    try:
        del mixture
        assert held() is None
    finally:
        gc.enable()


def test_placed_weights_go_with_the_backend():
    mixture, windows, _ = build("window_gates")
    backend = CountingBackend()
    predict_windows(mixture, windows, backend)
    held = weakref.ref(place(mixture, backend).weights)
    del backend
    gc.collect()
    assert held() is None
    assert_parity(
        predict_windows(mixture, windows), expected_of("window_gates").forecast, TOLERANCE
    )


def test_two_backends_hold_their_own_weights():
    mixture, _, _ = build("window_gates")
    one, two = CountingBackend(), CountingBackend()
    assert place(mixture, one) is not place(mixture, two)
    assert place(mixture, one) is place(mixture, one)


@pytest.mark.parametrize("name", CASES)
def test_pickles_hold_no_placed_weights(name):
    mixture, windows, inputs = build(name)
    plan = FixedPlan(L, mixture.horizon, C, fixed=mixture)
    before, names = pickle.dumps(plan), set(vars(mixture))
    expected = predict_windows(plan.mixture(), windows, **inputs)
    assert set(vars(mixture)) == names
    assert pickle.dumps(plan) == before
    for again in (pickle.loads(before), copy.deepcopy(plan)):
        assert again.mixture() is not mixture
        assert (predict_windows(again.mixture(), windows, **inputs) == expected).all()


def test_threads_share_one_upload_and_agree():
    mixture, windows, inputs = build("both_evidences_with_everything")
    expected = predict_windows(mixture, windows, **inputs)
    backend = CountingBackend()
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [predict_windows(mixture, windows, backend, **inputs) for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        results = [out for outs in pool.map(work, range(8)) for out in outs]
    assert len(results) == 80
    assert all((out == expected).all() for out in results)
    once, backend.puts = backend.puts, 0
    predict_windows(mixture, windows, backend, **inputs)
    assert once == 80 * backend.puts + n_tensors(mixture)


# -- plans and refusals ------------------------------------------------------------------------


def test_a_fixed_plan_always_returns_its_mixture():
    mixture, _, _ = build("window_gates")
    plan = FixedPlan(L, H, fixed=mixture)
    assert plan.mixture() is mixture
    assert plan.mixture(L, 2) is mixture
    assert plan.mixture(mask=np.ones(L, dtype=bool)) is mixture
    with pytest.raises(ValueError, match="missing values"):
        plan.mixture(mask=np.arange(L) > 0)
    with pytest.raises(ValueError, match="holds a mixture"):
        FixedPlan(L, H)


def test_the_residual_variance_is_computed_once_when_asked_for():
    asked = []

    def residual():
        asked.append(1)
        return np.ones((C, H))

    plan = FixedPlan(L, H, C, residual=residual, fixed=build("window_gates")[0])
    assert not asked
    assert (plan.residual_variance == 1).all()
    assert plan.residual_variance is plan.residual_variance
    assert len(asked) == 1


def test_lookback_and_horizon_follow_the_layers():
    assert build("relu_layer_before")[0].lookback == L
    assert build("relu_layer_before")[0].weights.shape[2] == 7
    assert build("post_block_over_time")[0].horizon == 6
    assert build("window_gates")[0].groups == 1
    assert build("channel_weights")[0].groups == C


RNG = np.random.default_rng(7)
THREE = make_weights(RNG)
ONE = make_weights(RNG, n_experts=1)
BAD_MIXTURES = [
    ({"weights": np.zeros((1, L, H))}, "weights must be"),
    ({"weights": THREE}, "needs a gate"),
    ({"weights": ONE, "bias": np.zeros((1, 2, H))}, "bias must be"),
    ({"weights": ONE, "scale_coef": np.zeros((1, 1, H + 1)), "normalization": REVIN}, "scale_coef"),
    ({"weights": ONE, "scale_coef": np.zeros((1, 1, H))}, "takes a scale"),
    ({"weights": ONE, "level_coef": np.zeros((1, 1, H))}, "takes a level"),
    ({"weights": ONE, "extra_coef": np.zeros((1, Z, H + 1))}, "extra_coef must be"),
    ({"weights": ONE, "gate": make_gate(RNG)}, "3 logits for 1 experts"),
    ({"weights": make_weights(RNG, 3, 1), "bias": np.zeros((2, 1, H))}, "groups must be 1"),
    ({"weights": ONE, "lookback": L + 1}, "equal in pairs"),
    ({"weights": ONE, "pre": (Block((Layer(np.zeros((1, L, 5))),)),)}, "equal in pairs"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD_MIXTURES, ids=[s for _, s in BAD_MIXTURES])
def test_tensors_that_do_not_fit_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Mixture(**fields)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Layer(np.zeros((3, 2))), "groups, in, out"),
        (lambda: Layer(np.zeros((1, 3, 2)), np.zeros((1, 3))), "bias must be"),
        (lambda: Layer(np.zeros((1, 3, 2)), activation="swish"), "'swish'"),
        (lambda: Layer(np.zeros((1, 3, 2)), axis="width"), "'width'"),
        (lambda: Layer(np.zeros((2, 3, 2)), axis="channel"), "one group"),
        (lambda: Block(()), "at least one layer"),
        (
            lambda: Block((Layer(np.zeros((1, 3, 3)), activation="relu"),), residual=True),
            "last layer",
        ),
        (lambda: Gate(ConstantRouter(), ()), "at least one layer"),
        (lambda: make_gate(RNG, top_k=4), r"1 \.\.\. 3; got 4"),
        (lambda: make_gate(RNG, top_k=0), r"1 \.\.\. 3; got 0"),
        (lambda: make_gate(RNG, temperature=0.0), "temperature must be positive"),
        (
            lambda: Gate(ConstantRouter(), (Layer(np.zeros((1, 1, 1)), axis="channel"),)),
            "axis='time'",
        ),
        (lambda: Evidence("guess", np.zeros((1, 2, 1)), 1.0), "'guess'"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, step=0), "at least 1; got 0"),
        *(
            (
                lambda ahead=ahead: Evidence("backtest", np.zeros((1, 2, 2)), 1.0, ahead=ahead),
                r"ahead must be 2 increasing step numbers of at least 1.*got \(",
            )
            for ahead in ((1,), (2, 1), (0, 1), (3, 3), (1, 2, 3), ())
        ),
        (lambda: Evidence("energy", np.zeros((1, 2, 2)), 1.0, ahead=(1, 2)), "'backtest'; leave"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, floor=-1.0), "0; got -1.0"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, floor=np.inf), "finite .* inf"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, power=0.0), "above 0; got 0.0"),
        (lambda: Evidence("backtest", np.zeros((1, 2, 1)), 1.0, power=np.nan), "0; got nan"),
    ],
)
def test_layers_and_gates_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_windows_that_do_not_fit_are_refused():
    mixture, windows, _ = build("channel_weights")
    with pytest.raises(ValueError, match=r"\(n_windows, 3, 12\); got \(5, 2, 12\)"):
        predict_windows(mixture, windows[:, :2])
    with pytest.raises(ValueError, match=r"\(n_windows, 3, 12\); got \(5, 1, 12\)"):
        predict_windows(mixture, windows[:, :1])
    with pytest.raises(ValueError, match=r"got \(5, 3, 11\)"):
        predict_windows(mixture, windows[:, :, 1:])


def test_extra_columns_that_do_not_fit_are_refused():
    mixture, windows, inputs = build("extra_columns")
    with pytest.raises(ValueError, match="needs 2 extra columns; got none"):
        predict_windows(mixture, windows)
    with pytest.raises(ValueError, match="needs 2 extra columns; got 1"):
        predict_windows(mixture, windows, extra=inputs["extra"][:, :, :1])


def test_a_backtest_longer_than_the_context_is_refused():
    evidence = (Evidence("backtest", np.zeros((E, L, 1)), exponent=1.0),)
    rng = np.random.default_rng(8)
    mixture = Mixture(make_weights(rng), gate=make_gate(rng, evidence=evidence))
    with pytest.raises(ValueError, match=r"at least lookback \+ horizon = 13 values; got 12"):
        predict_windows(mixture, make_windows(rng))
