"""Where activations live follows a rule, and a card that is too small says so."""

import re

import numpy as np
import pytest

from mixlin.backends import BackendMemoryError
from mixlin.mixture import predict_windows
from tests.ttnn.gates import build
from tests.ttnn.watched import TABLES, capture

LOOKBACK = 336
# batch, channels, horizon, experts
SHAPES = [
    (1, 7, 96, 1),
    (8, 7, 96, 4),
    (8, 21, 192, 4),
    (8, 321, 96, 4),
    (8, 321, 720, 4),
    (32, 321, 720, 8),
]
# tensors that do not find room in L1 beside the others, of all that are made; per gate and chip
IN_DRAM = {
    ("one layer", "WORMHOLE_B0"): [0, 0, 0, 0, 0, 5],
    ("one layer", "BLACKHOLE"): [0, 0, 0, 0, 0, 2],
    ("per channel", "WORMHOLE_B0"): [0, 0, 0, 0, 3, 6],
    ("per channel", "BLACKHOLE"): [0, 0, 0, 0, 1, 5],
}


def model(shape, gate):
    batch, channels, horizon, n_experts = shape
    X = np.random.default_rng(1).normal(size=(batch, channels, LOOKBACK))
    return build(gate if n_experts > 1 else None, channels, horizon, n_experts), X


def bank_bytes(shape, n_banks):
    """Return what a bfloat16 tensor takes in the fullest bank, from the format of tiles alone."""
    *batch, rows, columns = shape
    n_tiles = int(np.prod(batch)) * -(-rows // 32) * -(-columns // 32)
    return -(-n_tiles // n_banks) * 32 * 32 * 2


@pytest.mark.parametrize("gate", ["one layer", "per channel"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activations_take_the_room_that_the_rule_says(planned, shape, gate):
    (mixture, X), backend = model(shape, gate), planned()
    found = capture(lambda: predict_windows(mixture, X, backend))
    card = backend._card
    half = card.l1_bytes_per_bank / 2
    assert 0 < found.l1_peak == card.l1_peak <= half
    with backend._tt.record() as events:
        predict_windows(mixture, X, backend)
    made = [event for event in events if event.kind in ("up", "op")]
    large = [bank_bytes(event.shape, card.l1_banks) for event in made if event.memory == "DRAM"]
    TABLES["memory"].add(
        shape, gate if shape[3] > 1 else "none", found.l1_peak // 1024, int(half) // 1024,
        f"{len(large)} of {len(made)}",
    )  # fmt: skip
    expected = IN_DRAM[gate, card.device.arch().name][SHAPES.index(shape)]
    assert len(large) == expected
    # what is in DRAM would not have fitted beside the live rest, which the peak bounds
    assert all(size + found.l1_peak > half for size in large)


def test_the_peak_of_one_product_is_its_input_and_its_output(planned):
    (mixture, X), backend = model(SHAPES[0], None), planned()
    found = capture(lambda: predict_windows(mixture, X, backend))
    # 7 rows, one tile of them: 336 columns and one for the bias in, 96 columns out
    assert found.l1_peak == sum(
        bank_bytes((1, 7, columns), backend._card.l1_banks) for columns in (337, 96)
    )


@pytest.mark.parametrize("memory", ["l1", "dram"])
def test_the_rule_can_be_overridden(planned, memory):
    (mixture, X), backend = model((8, 21, 192, 4), "one layer"), planned("bfloat16", memory)
    predict_windows(mixture, X, backend)
    with backend._tt.record() as events:
        predict_windows(mixture, X, backend)
    places = {event.memory for event in events if event.kind in ("up", "op")}
    assert places == {memory.upper()}
    assert (backend._card.l1_peak > 0) == (memory == "l1")


def test_weights_live_in_dram_whatever_is_asked_for(planned):
    (mixture, X), backend = model((8, 7, 96, 4), "one layer"), planned("bfloat16", "l1")
    with backend._tt.record() as events:
        predict_windows(mixture, X, backend)
    rows, *weights = (event.memory for event in events if event.kind == "up")
    assert rows == "L1"
    assert set(weights) == {"DRAM"}


def test_l1_is_free_again_after_a_forecast(planned):
    (mixture, X), backend = model((8, 321, 96, 4), "per channel"), planned()
    predict_windows(mixture, X, backend)
    assert backend._card.l1_in_use == 0
    view = backend._tt.get_memory_view(backend._card.device, backend._tt.BufferType.L1)
    assert view.total_bytes_allocated_per_bank == 0


def test_an_l1_that_is_too_small_says_what_to_do(planned):
    (mixture, X), backend = model((25, 321, 720, 16), "one layer"), planned("bfloat16", "l1")
    with pytest.raises(BackendMemoryError) as caught:
        predict_windows(mixture, X, backend)
    text = str(caught.value)
    for part in ("ttnn:0", "out of memory", "Forecast fewer windows", "dram", "bfloat8_b"):
        assert part in text
    assert "backtrace" not in text
    assert re.search(r"Out of Memory|clash with L1", text)
    # the device remains usable, and nothing is held
    del caught
    smaller, X = model((8, 7, 96, 4), "one layer")
    assert predict_windows(smaller, X, backend).shape == (8, 7, 96)


def fill_dram(tt, device):
    """Return tensors that leave room for less than a row of tiles."""
    kept, rows = [], 2**20
    while rows >= 32:
        try:
            kept.append(
                tt.allocate_tensor_on_device(
                    tt.Shape([rows, 1024]),
                    tt.bfloat16,
                    tt.TILE_LAYOUT,
                    device,
                    tt.DRAM_MEMORY_CONFIG,
                )
            )
        except RuntimeError:
            rows //= 2
    return kept


def test_a_dram_that_is_too_small_says_what_to_do(planned, ttnn):
    (mixture, X), backend = model((8, 321, 720, 4), "per channel"), planned()
    backend.open()
    kept = fill_dram(ttnn, backend._card.device)
    assert len(kept) > 1
    with pytest.raises(BackendMemoryError, match=r"out of memory in .* DRAM buffer") as caught:
        predict_windows(mixture, X, backend)
    assert "close other models" in str(caught.value)
    del caught
    kept.clear()
    assert predict_windows(mixture, X, backend).shape == (8, 321, 720)
