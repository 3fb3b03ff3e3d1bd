"""The engine on the stand-in for ttnn: the order of its calls, traces, queues and memory.

These tests run on every Python. What they say about traces and queues was never run on a card.
"""

import copy
import dataclasses
import gc
import multiprocessing
import pickle

import numpy as np
import pytest

from mixlin.backends import BackendMemoryError, BackendNotAvailableError, resolve
from mixlin.backends.ttnn_backend import TtnnBackend, matrices, products
from mixlin.backends.ttnn_backend.tiles import BUCKETS, bucket
from mixlin.mixture import predict_windows
from tests.engines import assert_close
from tests.mixture_cases import CASES
from tests.mixture_cases import build as build_case
from tests.ttnn.fake_numbers import round_bfloat16
from tests.ttnn.fake_ttnn import FakeTtnn
from tests.ttnn.gates import GATES, build

TRACED = [("trace",), ("trace", "queues")]
LOOKBACK = 64


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def calls_of(backend, run):
    """Return the calls of a block as a record, and its result."""
    mark = len(backend._tt.calls)
    result = run()
    return backend._tt.calls[mark:], result


def model(gate="one layer", channels=7, horizon=24, n_experts=4, seed=0):
    return build(gate, channels, horizon, n_experts, LOOKBACK, seed)


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", TRACED)
@pytest.mark.parametrize("name", CASES)
def test_a_replayed_forecast_is_the_one_that_was_not_recorded(faked, name, options):
    mixture, X, inputs = build_case(name)
    plain, traced = faked("float32", on=FakeTtnn()), faked("float32", *options)

    def forecast(backend, rows):
        given = {key: value[rows] for key, value in inputs.items()}
        return predict_windows(mixture, X[rows], backend, **given)

    for rows in (slice(None), slice(1, 3), np.arange(80) % 5, slice(None), slice(4, None)):
        np.testing.assert_array_equal(forecast(traced, rows), forecast(plain, rows))


@pytest.mark.parametrize("options", TRACED)
@pytest.mark.parametrize("name", ["top_k", "backtest_of_far_steps", "channel_weights"])
def test_a_replay_with_scores_and_one_without_are_two(faked, name, options):
    mixture, X, _ = build_case(name)
    plain, traced = faked("float32", on=FakeTtnn()), faked("float32", *options)
    expected, scores = predict_windows(mixture, X, plain, scores=True)
    for rows in (slice(None), slice(1, 3), np.arange(80) % 5):
        found = predict_windows(mixture, X[rows], traced, scores=True)
        np.testing.assert_array_equal(found[0], expected[rows])
        np.testing.assert_array_equal(found[1], scores[rows])
        np.testing.assert_array_equal(predict_windows(mixture, X[rows], traced), expected[rows])


@pytest.mark.parametrize("options", TRACED)
def test_another_model_in_between_changes_nothing(faked, options):
    first, second = model(), model("per channel", seed=1)
    X, plain, traced = draw(9, 7, LOOKBACK), faked(on=FakeTtnn()), faked("bfloat16", *options)
    for mixture in (first, second, first, first, second):
        np.testing.assert_array_equal(
            predict_windows(mixture, X, traced), predict_windows(mixture, X, plain)
        )


@pytest.mark.parametrize("options", TRACED)
def test_blocks_in_flight_do_not_mix(faked, options):
    mixture, traced = model(channels=321), faked("bfloat16", *options)
    block = traced.rows_per_block(321, LOOKBACK)
    X = draw(4 * block + 3, 321, LOOKBACK)
    alone = faked(on=FakeTtnn())
    expected = [predict_windows(mixture, X[i : i + block], alone) for i in range(0, len(X), block)]
    np.testing.assert_array_equal(predict_windows(mixture, X, traced), np.concatenate(expected))


# -- traces ------------------------------------------------------------------------------------

SENT = ["copy_host_to_device_tensor", "execute_trace", "from_device", "record_event"]
READ = ["event_synchronize"]


def test_the_second_forecast_is_sent_run_and_read(faked):
    mixture, X, backend = model(), draw(9, 7, LOOKBACK), faked("bfloat16", "trace")
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    assert calls.names.count("begin_trace_capture") == 1
    assert calls.names.index("begin_trace_capture") > calls.names.index("softmax")
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    assert calls.names == SENT + READ
    run, read = calls[1].details, calls[2].details
    assert (run["blocking"], run["cq_id"]) == (False, 0)
    assert (read["blocking"], read["cq_id"]) == (False, 0)
    assert (len(calls.uploads), len(calls.downloads)) == (1, 1)


def test_rows_travel_on_the_second_queue_while_the_first_computes(faked):
    mixture, backend = model(channels=321), faked("bfloat16", "trace", "queues")
    block = backend.rows_per_block(321, LOOKBACK)
    X = draw(3 * block, 321, LOOKBACK)
    predict_windows(mixture, X, backend)
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    sent = [
        "wait_for_event",  # until the block before was taken out of the staging tensor
        "copy_host_to_device_tensor",
        "record_event",
        "wait_for_event",
        "copy",
        "record_event",
        "execute_trace",
        "from_device",
        "record_event",
    ]
    # two blocks are sent before the first one is read
    assert calls.names == [*sent, *sent, *READ, *sent, *READ, *READ]
    first = dict(zip(sent[:5], calls[:5], strict=False))
    assert first["copy_host_to_device_tensor"].details["cq_id"] == 1
    waits = [(c.details["cq_id"], c.details["of"]) for c in calls[:5] if c.name == "wait_for_event"]
    assert waits == [(1, 0), (0, 1)]
    assert [c.details["cq_id"] for c in calls if c.name == "execute_trace"] == [0, 0, 0]
    assert [c.details["blocking"] for c in calls.downloads] == [False, False, False]


@pytest.mark.parametrize("options", TRACED)
def test_a_trace_is_recorded_once_for_a_bucket_of_rows(faked, options):
    mixture, backend = model(), faked("bfloat16", *options)
    predict_windows(mixture, draw(5, 7, LOOKBACK), backend)
    for n in (6, 11, 18):  # 42 to 126 rows of one bucket
        calls, _ = calls_of(
            backend, lambda n=n: predict_windows(mixture, draw(n, 7, LOOKBACK), backend)
        )
        assert "begin_trace_capture" not in calls.names
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, draw(60, 7, LOOKBACK), backend))
    assert calls.names.count("begin_trace_capture") == 1


@pytest.mark.parametrize("options", TRACED)
def test_a_trace_is_released_before_anything_else_is_allocated(faked, options):
    """The stand-in refuses an allocation while a trace exists."""
    mixture, X, backend = model(), draw(9, 7, LOOKBACK), faked("bfloat16", *options)
    before = predict_windows(mixture, X, backend)
    device = backend._card.device
    assert len(device.traces) == 1

    def use_the_device():
        (x,) = backend.upload(draw(3, 2, 40))
        return backend.get(backend.linear(x, backend.put(draw(1, 40, 8))))

    calls, _ = calls_of(backend, use_the_device)
    assert calls.names.index("release_trace") < calls.names.index("linear")
    assert not device.traces
    calls, after = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    assert calls.names.count("begin_trace_capture") == 1
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("options", TRACED)
def test_an_untraced_spec_on_the_same_chip_releases_traces(faked, options):
    mixture, X = model(), draw(9, 7, LOOKBACK)
    traced = faked("bfloat16", *options)
    expected = predict_windows(mixture, X, traced)
    plain = faked()
    np.testing.assert_array_equal(predict_windows(mixture, X, plain), expected)
    assert not traced._card.device.traces
    np.testing.assert_array_equal(predict_windows(mixture, X, traced), expected)


def test_a_device_that_was_opened_without_room_for_traces_says_so(faked):
    faked().open()
    with pytest.raises(BackendNotAvailableError, match="without the trace region") as told:
        faked("bfloat16", "trace").open()
    assert ".close()" in str(told.value)


@pytest.mark.parametrize("options", TRACED)
def test_a_last_block_that_is_smaller_records_nothing_anew(faked, options):
    mixture, backend = model(channels=321), faked("bfloat16", *options)
    block = backend.rows_per_block(321, LOOKBACK)
    X = draw(2 * block + 1, 321, LOOKBACK)
    predict_windows(mixture, X, backend)
    calls, forecast = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    assert "begin_trace_capture" not in calls.names
    assert calls.names.count("execute_trace") == 3
    np.testing.assert_array_equal(
        forecast, predict_windows(mixture, X, faked("bfloat16", on=FakeTtnn()))
    )


@pytest.mark.parametrize("options", TRACED)
def test_a_released_trace_holds_no_memory(faked, options):
    backend = faked("bfloat16", *options)
    for channels in (1, 7, 21, 321):
        predict_windows(model(channels=channels), draw(9, channels, LOOKBACK), backend)
    card = backend._card
    alone = card.l1_in_use
    card.release_traces()
    gc.collect()
    assert card.l1_in_use == 0 < alone <= card.bytes_per_bank((1, 4096, 512), "bfloat16")


@pytest.mark.parametrize("options", TRACED)
def test_dram_holds_for_recorded_rows_as_well(faked, options):
    backend = faked("bfloat16", "dram", *options)
    predict_windows(model(), draw(9, 7, LOOKBACK), backend)
    assert backend._card.l1_peak == 0


def test_a_release_that_fails_does_not_keep_the_device_open(faked, monkeypatch):
    mixture, X, backend = model(), draw(9, 7, LOOKBACK), faked("bfloat16", "trace")
    expected = predict_windows(mixture, X, backend)

    def fail(*args):
        raise RuntimeError("no release today")

    with monkeypatch.context() as patched:
        patched.setattr(backend._tt, "release_trace", fail, raising=False)
        with pytest.raises(RuntimeError, match="no release today"):
            backend.close()
    assert backend._card.device is None
    np.testing.assert_array_equal(predict_windows(mixture, X, backend), expected)


def in_a_worker(answers):
    backend = TtnnBackend(module=FakeTtnn())
    try:
        backend.put(np.ones((1, 2, 2)))
    except BackendNotAvailableError as error:
        answers.put(str(error))
    backend.open()
    answers.put(backend.get(backend.put(np.ones((1, 2, 2)))).tolist())


def test_a_worker_opens_the_device_only_on_demand():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    worker = context.Process(target=in_a_worker, args=(answers,))
    worker.start()
    refusal, opened = answers.get(timeout=60), answers.get(timeout=60)
    worker.join(timeout=60)
    assert "worker process" in refusal
    assert "mixlin.backends.open('ttnn:0')" in refusal
    assert opened == [[[1.0, 1.0], [1.0, 1.0]]]


def test_copies_are_the_engine_itself(faked):
    backend = faked("bfloat16")
    assert copy.deepcopy(backend) is copy.copy(backend) is backend


def test_a_module_of_its_own_is_not_pickled_as_the_real_one():
    backend = TtnnBackend(module=FakeTtnn())
    with pytest.raises(TypeError, match="module of its own can't be pickled"):
        pickle.dumps(backend)


@pytest.mark.parametrize("options", TRACED)
def test_closing_releases_traces_first(faked, options):
    mixture, X, backend = model(), draw(9, 7, LOOKBACK), faked("bfloat16", *options)
    expected = predict_windows(mixture, X, backend)
    calls, _ = calls_of(backend, backend.close)
    assert calls.names == ["release_trace", "close_device"]
    np.testing.assert_array_equal(predict_windows(mixture, X, backend), expected)


def test_a_failure_while_recording_leaves_no_trace(faked, monkeypatch):
    mixture, X, backend = model(), draw(9, 7, LOOKBACK), faked("bfloat16", "trace")
    tt = backend._tt

    def fail(*args, **kwargs):
        if backend._card.device.capturing is not None:
            raise RuntimeError("TT_FATAL: Out of Memory: Not enough space in the trace region")
        return FakeTtnn.softmax(tt, *args, **kwargs)

    monkeypatch.setattr(tt, "softmax", fail, raising=False)
    with pytest.raises(BackendMemoryError):
        predict_windows(mixture, X, backend)
    monkeypatch.delattr(tt, "softmax")
    expected = predict_windows(mixture, X, faked(on=FakeTtnn()))
    np.testing.assert_array_equal(predict_windows(mixture, X, backend), expected)


# -- transfers and memory ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_one_upload_and_one_download_per_block(faked, name):
    mixture, X, inputs = build_case(name)
    backend = faked()
    predict_windows(mixture, X, backend, **inputs)
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, X, backend, **inputs))
    kinds = [c.details["kind"] for c in calls if c.details["kind"] not in ("other", "alias")]
    assert kinds == ["upload", *["op"] * (len(kinds) - 2), "download"]


def test_a_tensor_is_as_wide_as_its_rows_are_in_tiles(faked):
    mixture, backend = build("one layer", 7, 24, 4, lookback=49), faked()
    calls, _ = calls_of(backend, lambda: predict_windows(mixture, draw(9, 7, 49), backend))
    # 63 rows are padded to 128; 49 lags, four features in parts and a column of ones are 64
    assert calls.uploads[0].details["bytes"] == 4 * 2 * 2048


@pytest.mark.parametrize("n", [1, 31, 32, 33, 128, 129, 5000, 8192, 8193, 20000])
def test_rows_are_padded_to_a_bucket(n):
    found = bucket(n)
    assert found >= n
    assert found % 32 == 0
    if n <= BUCKETS[-1]:
        assert found in BUCKETS
        assert all(size < n for size in BUCKETS if size < found)


@pytest.mark.parametrize(
    ("room", "kind"), [({"l1_bytes": 64 * 4096}, "L1"), ({"dram_bytes": 12 * 2**15}, "DRAM")]
)
def test_memory_that_is_exhausted_says_what_to_do(faked, room, kind):
    mixture, X = model("per channel", channels=64, horizon=96), draw(8, 64, LOOKBACK)
    backend = faked("bfloat16", *(["l1"] if kind == "L1" else []), on=FakeTtnn(**room))
    with pytest.raises(BackendMemoryError, match=f"out of memory in .*{kind} buffer") as caught:
        predict_windows(mixture, X, backend)
    for remedy in ("Forecast fewer windows", "ttnn:0:bfloat16:dram", "bfloat8_b"):
        assert remedy in str(caught.value)
    assert isinstance(caught.value, MemoryError)


def test_activations_go_to_dram_where_l1_is_small(faked):
    mixture, X = model(), draw(9, 7, LOOKBACK)
    small, large = faked(on=FakeTtnn(l1_bytes=64 * 8192)), faked(on=FakeTtnn())
    expected = predict_windows(mixture, X, large)
    np.testing.assert_array_equal(predict_windows(mixture, X, small), expected)

    def places(backend):
        ops = backend._tt.calls.of_kind("op")
        return {call.details["memory"] for call in ops}

    assert places(large) == {"L1"}
    assert places(small) == {"L1", "DRAM"}
    assert small._card.l1_peak <= small._card.l1_bytes_per_bank / 2


@pytest.mark.parametrize("gate", GATES)
def test_nothing_stays_in_l1_after_a_forecast(faked, gate):
    mixture, backend = build(gate, 7, 96, 4, LOOKBACK), faked()
    predict_windows(mixture, draw(9, 7, LOOKBACK), backend)
    gc.collect()
    tt = backend._tt
    view = tt.get_memory_view(backend._card.device, tt.BufferType.L1)
    assert view.total_bytes_allocated_per_bank == 0


def test_a_model_that_is_gone_leaves_the_device(faked):
    backend = faked()
    predict_windows(model(), draw(9, 7, LOOKBACK), backend)
    tt, kept = backend._tt, model("one layer", seed=1)
    predict_windows(kept, draw(9, 7, LOOKBACK), backend)
    gc.collect()
    view = tt.get_memory_view(backend._card.device, tt.BufferType.DRAM)
    two = view.total_bytes_allocated_per_bank
    del kept
    gc.collect()
    view = tt.get_memory_view(backend._card.device, tt.BufferType.DRAM)
    assert view.total_bytes_allocated_per_bank < two


# -- operations --------------------------------------------------------------------------------


def run_gate(backend, logits, **options):
    (x,) = backend.upload(logits)
    return np.asarray(backend.get(backend.gate(x, **options)), dtype=np.float64)


@pytest.mark.parametrize(
    ("n_experts", "top_k"), [(2, 1), (5, 1), (5, 2), (32, 7), (33, 7), (64, 1), (100, 2)]
)
def test_the_largest_logits_get_weight(faked, n_experts, top_k):
    logits = draw(6, 3, n_experts)
    found = run_gate(faked(), logits, top_k=top_k)
    assert ((found > 0).sum(axis=-1) == top_k).all()
    expected = run_gate(resolve("numpy"), round_bfloat16(logits).astype(np.float64), top_k=top_k)
    assert_close(found, expected, 0.02)


@pytest.mark.parametrize("n_experts", [4, 32, 40])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_of_equal_logits_the_first_ones_get_weight(faked, n_experts, dtype):
    logits = np.zeros((4, 1, n_experts))
    logits[1, :, 1:] = 1.0
    logits[2] = 1e4
    logits[3, :, -1] = 5.0
    found = run_gate(faked(dtype), logits, top_k=2)
    expected = run_gate(resolve("numpy"), logits, top_k=2)
    np.testing.assert_array_equal(found > 0, expected > 0)
    assert_close(found, expected, 0.01)


@pytest.mark.parametrize("per_step", [False, True])
def test_more_than_32_experts_take_topk(faked, per_step):
    mixture = build("top 1 per step" if per_step else "top 2", 3, 24, 40, LOOKBACK)
    backend, X = faked("float32"), draw(5, 3, LOOKBACK)
    calls, found = calls_of(backend, lambda: predict_windows(mixture, X, backend))
    assert {"topk", "scatter"} <= set(calls.names)
    assert_close(found, predict_windows(mixture, X), 1e-5)


@pytest.mark.parametrize("gate", ["one layer", "two layers", "per channel", "top 2", "energy"])
@pytest.mark.parametrize("channels", [1, 5])
def test_weighing_inputs_or_outputs_gives_the_same_forecasts(faked, monkeypatch, gate, channels):
    mixture, X = build(gate, channels, 96, 4, LOOKBACK), draw(6, channels, LOOKBACK)
    found = {}
    for weigh_inputs in (True, False):
        monkeypatch.setattr(products, "_weigh_inputs", lambda *sizes, is_so=weigh_inputs: is_so)
        backend = faked("float32", on=FakeTtnn())
        found[weigh_inputs] = predict_windows(mixture, X, backend)
        assert ("concat" in backend._tt.calls.names) == weigh_inputs
    assert_close(found[True], found[False], 1e-5)
    assert_close(found[True], predict_windows(mixture, X), 1e-5)


def test_a_long_horizon_has_its_inputs_weighed(faked):
    names = {}
    for horizon in (24, 720):
        backend = faked(on=FakeTtnn())
        mixture = build("one layer", 7, horizon, 4, lookback=96)
        calls, _ = calls_of(
            backend, lambda m=mixture, b=backend: predict_windows(m, draw(4, 7, 96), b)
        )
        names[horizon] = calls.names
    assert "concat" in names[720]
    assert "concat" not in names[24]


@pytest.mark.parametrize("options", [{}, {"floor": 0.2}, {"power": 0.5}, {"power": 0.7}])
def test_folds_of_many_products_are_scored_as_those_of_one(faked, monkeypatch, options):
    x, w, ahead = draw(5, 2, 80), draw(6, 20, 4) / 4, (1, 2, 5, 9)
    expected = resolve("numpy").backtest(x, w, 3, ahead, **options)
    for most in (8192, 60, 1):
        monkeypatch.setattr(matrices, "_FOLD_COLUMNS", most)
        backend = faked("float32", on=FakeTtnn())
        (rows,) = backend.upload(x)
        calls, tile = calls_of(
            backend,
            lambda b=backend, r=rows: b.backtest(r, b.put(w), 3, ahead, **options),
        )
        assert_close(backend.get(tile), expected, 1e-5)
        assert (calls.names.count("abs") == 1) == (most == 8192)


@pytest.mark.parametrize("gate", ["per step", "top 1 per step"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_gates_per_step_equal_those_of_numpy(faked, gate, n):
    mixture, X = build(gate, 3, 24, 4, LOOKBACK), draw(n, 3, LOOKBACK)
    found = predict_windows(mixture, X, faked("float32"))
    assert_close(found, predict_windows(mixture, X), 1e-5)
    other = dataclasses.replace(mixture, weights=mixture.weights[:, ::-1])
    with pytest.raises(AssertionError, match="off by"):
        assert_close(found, predict_windows(other, X), 1e-5)


@pytest.mark.parametrize("channels", [1, 3, 321])
@pytest.mark.parametrize("n", [1, 33])
def test_any_number_of_rows_gives_the_same_rows(faked, channels, n):
    mixture, X = model(channels=channels), draw(33, channels, LOOKBACK)
    backend = faked()
    np.testing.assert_array_equal(
        predict_windows(mixture, X[:n], backend), predict_windows(mixture, X, backend)[:n]
    )


@pytest.mark.parametrize("arch", ["wormhole_b0", "blackhole"])
def test_sums_are_as_fine_as_the_chip_adds_right(faked, arch):
    backend = faked(on=FakeTtnn(arch=arch))
    backend.open()
    found = backend._calls.precision()
    # the two together give wrong sums on Wormhole
    fidelity = "HiFi3" if arch == "wormhole_b0" else "HiFi4"
    assert (found.math_fidelity.name, found.fp32_dest_acc_en) == (fidelity, True)
    assert (found.math_approx_mode, found.packer_l1_acc) == (False, True)
