"""The stand-in for ttnn keeps what the backend's tests build on."""

import gc
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.ttnn import fake_numbers as numbers
from tests.ttnn.fake_ttnn import FakeTtnn


@pytest.fixture
def tt():
    return FakeTtnn()


@pytest.fixture
def device(tt):
    return tt.open_device(device_id=0, trace_region_size=1 << 20, num_command_queues=2)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def upload(tt, device, values, dtype=None, memory_config=None):
    values = np.array(values, np.float32)
    return tt.Tensor(values, dtype or tt.bfloat16, device, tt.TILE_LAYOUT, memory_config)


def read(tt, tensor):
    return tt.to_dtype(tt.from_device(tensor), tt.float32).to_numpy()


def stage(tt, values):
    return tt.Tensor(values, tt.bfloat16, None, tt.TILE_LAYOUT)


def test_this_folder_does_not_pass_for_the_package_ttnn():
    spec = importlib.util.find_spec("ttnn")
    here = Path(__file__).resolve().parent
    assert spec is None or (spec.origin and Path(spec.origin).resolve().parent != here)


# numbers


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1.0, 1.0),
        (1 + 2**-8, 1.0),  # a tie goes to the even neighbor, here down
        (1 + 3 * 2**-8, 1 + 2**-6),  # and here up
        (1 + 2**-8 + 2**-20, 1 + 2**-7),  # anything over the tie goes up
        (-(1 + 3 * 2**-8), -(1 + 2**-6)),
        (3.14159265, 3.140625),
        (0.1, 0.10009765625),
        (3.4e38, np.inf),  # rounds beyond the largest number
        (-np.inf, -np.inf),
        (0.0, 0.0),
    ],
)
def test_bfloat16_rounds_to_nearest_with_ties_to_even(value, kept):
    assert numbers.round_bfloat16(np.array([value]))[0] == kept


def test_bfloat16_keeps_not_a_number_whatever_its_bits():
    values = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(numbers.round_bfloat16(values)).all()


def test_bfloat8_b_shares_an_exponent_among_sixteen_neighbors():
    values = np.zeros((1, 20))
    values[0, 0], values[0, 1], values[0, 2], values[0, 3] = 1.0, 1 / 64, 0.007, 3 / 128
    values[0, 16] = 0.007
    kept = numbers.round_bfloat8_b(values)[0]
    # steps of 1/64 next to a 1.0; ties to even; below half a step nothing is left
    assert kept[:4].tolist() == [1.0, 1 / 64, 0.0, 2 / 64]
    # the next sixteen have an exponent of their own
    assert kept[16] == pytest.approx(0.007, rel=2**-7)


def test_bfloat8_b_keeps_seven_bits_and_is_idempotent():
    values = draw(5, 70)
    kept = numbers.round_bfloat8_b(values)
    np.testing.assert_array_equal(numbers.round_bfloat8_b(kept), kept)
    blocks = np.pad(np.abs(values), ((0, 0), (0, 10))).reshape(5, 5, 16).max(-1)
    limit = np.repeat(blocks, 16, axis=1)[:, :70] / 64
    assert (np.abs(kept - values) <= limit).all()
    assert (kept != values).any()


def test_float32_is_kept_as_it_is(tt, device):
    values = draw(3, 5)
    np.testing.assert_array_equal(read(tt, upload(tt, device, values, tt.float32)), values)


def test_operations_compute_finely_and_round_their_result(tt, device):
    x, w, b = draw(40, 70), draw(70, 9, seed=1), draw(1, 9, seed=2)
    tensors = [upload(tt, device, values) for values in (x, w, b)]
    found = tt.linear(*tensors[:2], bias=tensors[2], activation="relu", core_grid=device.core_grid)
    x, w, b = (numbers.round_bfloat16(values).astype(np.float64) for values in (x, w, b))
    exact = np.maximum(x @ w + b, 0)
    np.testing.assert_array_equal(read(tt, found), numbers.round_bfloat16(exact))
    # the twin: without rounding the numbers are others
    assert (read(tt, found) != exact.astype(np.float32)).any()


def test_products_of_batches_match_numpy(tt, device):
    x, w = draw(3, 5, 7), draw(3, 7, 4, seed=1)
    a, b = (upload(tt, device, values, tt.float32) for values in (x, w))
    np.testing.assert_allclose(read(tt, tt.matmul(a, b)), x @ w, rtol=1e-5, atol=1e-6)
    one = upload(tt, device, x[:1], tt.float32)
    np.testing.assert_allclose(read(tt, tt.matmul(one, b)), x[:1] @ w, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="front dimensions"):
        tt.matmul(upload(tt, device, x[0]), b)


def test_softmax_and_topk_of_an_odd_width(tt, device):
    logits = upload(tt, device, draw(6, 5), tt.float32)
    gates = read(tt, tt.softmax(logits, dim=-1))
    np.testing.assert_allclose(gates.sum(-1), 1.0, rtol=1e-6)
    values, index = tt.topk(logits, k=2, dim=-1)
    assert (index.dtype, values.shape) == (tt.uint32, (6, 2))
    np.testing.assert_array_equal(
        np.take_along_axis(logits.values, index.values.astype(int), -1), values.values
    )


def test_a_row_does_not_depend_on_its_neighbors(tt, device):
    x, w = draw(33, 96), upload(tt, device, draw(96, 40, seed=1), tt.float32)
    together = read(tt, tt.linear(upload(tt, device, x, tt.float32), w))
    alone = read(tt, tt.linear(upload(tt, device, x[7:8], tt.float32), w))
    np.testing.assert_array_equal(together[7:8], alone)


# what the real one lets pass, and what it does not


def test_a_slice_into_the_padding_is_accepted_and_holds_garbage(tt, device):
    values = draw(33, 100)
    cut = read(tt, tt.slice(upload(tt, device, values), [0, 0], [33, 128]))
    np.testing.assert_array_equal(cut[:, :100], numbers.round_bfloat16(values))
    assert np.isfinite(cut).all()
    assert np.abs(cut[:, 100:]).min() > 1e4
    with pytest.raises(RuntimeError, match="Ends 129"):
        tt.slice(upload(tt, device, values), [0, 0], [33, 129])


def test_mixed_types_are_accepted_and_the_left_one_wins(tt, device):
    a, b = upload(tt, device, draw(4, 4)), upload(tt, device, draw(4, 4), tt.float32)
    assert tt.add(a, b).dtype is tt.bfloat16
    assert tt.add(b, a).dtype is tt.float32
    assert tt.add(a, b, dtype=tt.float32).dtype is tt.float32
    with pytest.raises(RuntimeError, match="same dtypes"):
        tt.concat([a, b], dim=-1)


def test_what_aborts_the_real_one_is_an_assertion(tt, device):
    with pytest.raises(AssertionError, match="aborts"):
        tt.Tensor(np.zeros((2, 2)))
    with pytest.raises(AssertionError, match="crash"):
        tt.exp(stage(tt, draw(2, 2)))
    tensor = upload(tt, device, draw(2, 2))
    with pytest.raises(AssertionError, match="opened twice"):
        tt.open_device(device_id=0)
    tt.deallocate(tensor)
    with pytest.raises(AssertionError, match="deallocated"):
        tt.from_device(tensor)


def test_what_raises_in_the_real_one_raises(tt, device):
    with pytest.raises(RuntimeError, match="ndarray_import failed"):
        tt.Tensor(np.zeros((2, 2)), tt.bfloat16, device, tt.TILE_LAYOUT)
    frozen = draw(2, 2)
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        stage(tt, frozen)
    host = stage(tt, draw(2, 2))
    with pytest.raises(RuntimeError, match="on device"):
        tt.matmul(host, host)
    with pytest.raises(RuntimeError, match="No chips detected"):
        FakeTtnn(n_devices=0).open_device(device_id=0)
    with pytest.raises(AttributeError, match="'conv1d'"):
        tt.conv1d(host)
    with pytest.raises(TypeError, match="vector_mode"):
        tt.relu(host, vector_mode=4)


def test_a_tensor_of_a_closed_device_is_dead(tt, device):
    tensor = upload(tt, device, draw(2, 2))
    tt.close_device(device)
    tt.open_device(device_id=0)
    with pytest.raises(RuntimeError, match="SubDeviceManagerTracker"):
        tt.add(tensor, tensor)
    with pytest.raises(RuntimeError, match="out of range"):
        tt.from_device(tensor)


# memory


def test_tiles_are_spread_over_banks_and_come_back_with_the_last_reference(tt, device):
    def held():
        return tt.get_memory_view(device, tt.BufferType.L1).total_bytes_allocated_per_bank

    # 65 tiles on 64 banks: one bank holds two, and room is counted for the fullest
    tensor = upload(tt, device, np.zeros((65 * 32, 5)), memory_config=tt.L1_MEMORY_CONFIG)
    assert held() == 2 * 2048
    alias = tt.reshape(tensor, (1, 65 * 32, 5))
    del tensor
    gc.collect()
    assert held() == 2 * 2048
    tt.deallocate(alias)
    assert held() == 0
    assert not alias.is_allocated()


def test_memory_ends_with_the_words_of_the_real_one():
    tt = FakeTtnn(l1_bytes=64 * 2048)
    device = tt.open_device(device_id=0)
    kept = upload(tt, device, np.zeros((64 * 32, 32)), memory_config=tt.L1_MEMORY_CONFIG)
    sentence = "Out of Memory: Not enough space to allocate 2048 B L1 buffer across 64 banks"
    with pytest.raises(RuntimeError, match=sentence):
        upload(tt, device, np.zeros((1, 1)), memory_config=tt.L1_MEMORY_CONFIG)
    upload(tt, device, np.zeros((1, 1)))  # memory of the other kind is not touched
    del kept
    gc.collect()
    upload(tt, device, np.zeros((1, 1)), memory_config=tt.L1_MEMORY_CONFIG)


def test_a_program_is_cached_once_per_shape_and_argument(tt, device):
    x = upload(tt, device, draw(4, 4))
    for _ in range(2):
        tt.multiply(x, x)
    assert device.num_program_cache_entries() == 1
    tt.multiply(x, x, memory_config=tt.L1_MEMORY_CONFIG)
    tt.multiply(x, upload(tt, device, draw(1, 4)))
    assert device.num_program_cache_entries() == 3


# traces, queues, record


def capture(tt, device, run):
    run()
    number = tt.begin_trace_capture(device, cq_id=0)
    output = run()
    tt.end_trace_capture(device, number, cq_id=0)
    return number, output


def test_a_trace_runs_again_on_what_its_input_holds_now(tt, device):
    x = upload(tt, device, np.ones((2, 3)))
    number, y = capture(tt, device, lambda: tt.add(tt.multiply(x, 2.0), 1.0))
    tt.copy_host_to_device_tensor(stage(tt, np.full((2, 3), 5, np.float32)), x)
    assert (read(tt, y) == 3).all()
    tt.execute_trace(device, number, cq_id=0, blocking=False)
    assert (read(tt, y) == 11).all()


def test_nothing_is_allocated_while_a_trace_exists(tt, device):
    x = upload(tt, device, np.ones((2, 3)))
    number, _ = capture(tt, device, lambda: tt.multiply(x, 2.0))
    with pytest.raises(AssertionError, match="while a trace exists"):
        tt.multiply(x, 2.0)
    tt.release_trace(device, number)
    tt.multiply(x, 2.0)
    with pytest.raises(RuntimeError, match="must exist"):
        tt.execute_trace(device, number)


def test_a_capture_takes_no_transfer_and_nothing_that_never_ran(tt, device):
    x = upload(tt, device, np.ones((2, 3)))
    tt.begin_trace_capture(device)
    with pytest.raises(RuntimeError, match="during trace capture"):
        tt.from_device(x)
    with pytest.raises(AssertionError, match="run it once before"):
        tt.multiply(x, 2.0)


def test_a_trace_refuses_an_input_that_was_freed(tt, device):
    held = [upload(tt, device, np.ones((2, 3)))]
    number, _ = capture(tt, device, lambda: tt.multiply(held[0], 2.0))
    held.clear()
    gc.collect()
    with pytest.raises(AssertionError, match="was freed"):
        tt.execute_trace(device, number)


def test_two_queues_need_an_event_between_them(tt, device):
    x = upload(tt, device, np.ones((2, 3)))
    host = stage(tt, np.full((2, 3), 5, np.float32))
    tt.synchronize_device(device)
    tt.copy_host_to_device_tensor(host, x, cq_id=1)
    with pytest.raises(AssertionError, match="race"):
        tt.multiply(x, 2.0)
    tt.wait_for_event(0, tt.record_event(device, 1))
    y = tt.multiply(x, 2.0)
    with pytest.raises(AssertionError, match="still read"):
        tt.copy_host_to_device_tensor(host, x, cq_id=1)
    tt.wait_for_event(1, tt.record_event(device, 0))
    tt.copy_host_to_device_tensor(host, x, cq_id=1)
    late = tt.from_device(y, blocking=False)
    with pytest.raises(AssertionError, match="did not block"):
        tt.to_dtype(late, tt.float32)
    tt.synchronize_device(device)
    assert (tt.to_dtype(late, tt.float32).to_numpy() == 10).all()


def test_the_record_tells_transfers_from_operations(tt, device):
    w = upload(tt, device, draw(8, 4))
    mark = len(tt.calls)
    x = tt.to_device(stage(tt, draw(2, 8)), device, memory_config=tt.L1_MEMORY_CONFIG, cq_id=0)
    y = tt.reshape(tt.relu(tt.matmul(x, w)), (1, 2, 4))
    read(tt, y)
    calls = tt.calls[mark:]
    assert calls.names == ["to_device", "matmul", "relu", "reshape", "from_device"]
    assert calls.device_ops == ["matmul", "relu"]
    assert (len(calls.uploads), len(calls.downloads)) == (1, 1)
    assert calls.uploads[0].details["memory"] == "L1"
    # whole tiles travel
    assert (calls.uploaded_bytes, calls.downloaded_bytes) == (2048, 2048)
