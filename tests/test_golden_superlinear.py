"""The published Super-Linear model: stored outputs of it, and a transcription of it."""

import numpy as np
import pytest

from mixlin.mixture import rollout_forecast
from mixlin.pretrained import read_superlinear

from .superlinear_cases import (
    CASES,
    block_forecast,
    load_golden,
    logits_of,
    make_config,
    make_series,
    make_state,
    official_forecast,
    periodogram,
    softmax,
)

TOLERANCE = 1e-4  # float64 against the reference's float32
EXACT = 1e-8  # float64 against float64, after blocks that each take up what the last one left


def case(name):
    """Return contexts (n, C, T) and forecasts (n, C, H)."""
    arrays, _, _ = load_golden()
    x, y = arrays[f"{name}.x"].astype(np.float64), arrays[f"{name}.y"].astype(np.float64)
    return (x, y) if x.ndim == 3 else (x[:, None], y[:, None])


def forecast(state, config, x, horizon, compat="official"):
    model = read_superlinear(state, config, compat=compat)
    return rollout_forecast(model.block, model.rollout, x, horizon)


def relative_error(got, expected):
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def transcribed(state, config, x, horizon):
    """Return the transcription's forecasts (n, C, H); NaN where the reference has no last step."""
    state = {key: value.astype(np.float64) for key, value in state.items()}
    out = np.full((*x.shape[:2], horizon), np.nan)
    scale = np.empty(x.shape[:2])
    gates = np.empty((*x.shape[:2], len(state["moe.gating_network.bias"])))
    for at in np.ndindex(*x.shape[:2]):
        y, scale[at], gates[at] = official_forecast(state, config, x[at].tolist(), horizon)
        assert len(y) >= horizon - 1
        out[at][: len(y)] = y
    return out, scale, gates


# -- stored outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_forecasts_are_those_of_the_reference(name):
    _, config, state = load_golden()
    x, y = case(name)
    got = forecast(state, config, x, y.shape[2]).forecast
    assert relative_error(got, y) <= TOLERANCE
    assert relative_error(got, y) <= 5e-6  # what float32 leaves
    prefixed = {f"backbone.{key}": value for key, value in state.items()}
    assert np.array_equal(forecast(prefixed, config, x, y.shape[2]).forecast, got)


@pytest.mark.parametrize("name", CASES)
def test_the_transcription_forecasts_as_the_reference(name):
    _, config, state = load_golden()
    x, y = case(name)
    assert relative_error(transcribed(state, config, x[:2], y.shape[2])[0], y[:2]) <= TOLERANCE


def test_scales_are_those_of_the_reference():
    arrays, config, state = load_golden()
    scale = forecast(state, config, arrays["search.x"].astype(np.float64), 1).scale
    assert np.array_equal(scale.ravel(), arrays["search.scales"])
    assert len(np.unique(scale)) > 1
    free = forecast(state, {**config, "penalty_scale": 0}, arrays["search.x"].astype(float), 1)
    assert not np.array_equal(free.scale, scale)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("block", "constant")])
def test_the_gate_before_its_choice_is_that_of_the_reference(name):
    arrays, config, state = load_golden()
    x, y = case(name)
    config = {**config, "top_k_experts": 8}
    gates = forecast(state, config, x, y.shape[2]).gates
    assert np.abs(gates - arrays[f"{name}.prob"]).max() <= 1e-5


def test_the_periodogram_is_that_of_the_reference():
    arrays, config, _ = load_golden()
    for x, p in zip(arrays["block.x"], arrays["block.periodogram"], strict=True):
        found = periodogram(x.astype(np.float64).tolist(), config["fft_len"])
        assert np.abs(np.array(found) - p).max() <= 1e-6


# -- what must be noticed ------------------------------------------------------------------------


@pytest.mark.parametrize("key", load_golden()[2])
def test_weights_that_move_the_output_by_ten_tolerances_are_noticed(key):
    _, config, state = load_golden()
    x, y = case("plain")
    state = {name: value.astype(np.float64) for name, value in state.items()}
    before, gates, _ = forecast(state, config, x, 16)
    if "experts" in key and not gates[:, :, int(key.split(".")[2])].any():
        # the stored outputs can't tell: show it on all experts at once
        config = {**config, "top_k_experts": 8}
        before, y = (forecast(state, config, x, 16).forecast,) * 2
    step = np.random.default_rng(0).normal(size=state[key].shape) * 1e-6
    for _ in range(4):  # the output is not linear in all of them
        moved = {**state, key: state[key] + step}
        effect = np.abs(forecast(moved, config, x, 16).forecast - before).max()
        step *= 10 * TOLERANCE * np.abs(y).max() / effect
    got = forecast({**state, key: state[key] + step}, config, x, 16).forecast
    assert 5 * TOLERANCE < relative_error(got, y) < 15 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("plain", {"top_k_experts": 4}),
        ("plain", {"moe_temp": 1.1}),
        ("long_horizon", {"long_horizon_scaling": 0}),
        ("resampled", {"scale_list": "3,2"}),
        ("resampled", {"lookback_resampling": 0}),
        ("resampled", {"penalty_scale": 0.0}),
        ("resampled_long", {"threshold": 0.001}),
        ("resampled_long", {"freq_bound": 0.01}),
    ],
)
def test_other_settings_are_noticed(name, changes):
    _, config, state = load_golden()
    x, y = case(name)
    if name == "long_horizon":  # a block that spreads wider than its window
        state = {k: v * 3 if "Linear.weight" in k else v for k, v in state.items()}
        y = forecast(state, config, x, y.shape[2]).forecast
    got = forecast(state, {**config, **changes}, x, y.shape[2]).forecast
    assert relative_error(got, y) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["short_context", "resampled", "resampled_long"])
def test_the_clean_way_is_another_where_the_reference_is_off(name):
    _, config, state = load_golden()
    x, y = case(name)
    got = forecast(state, config, x, y.shape[2], compat="clean").forecast
    assert relative_error(got, y) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["plain", "one_step", "long_horizon", "block"])
def test_the_clean_way_is_the_same_elsewhere(name):
    _, config, state = load_golden()
    x, y = case(name)
    got = forecast(state, config, x, y.shape[2], compat="clean").forecast
    assert relative_error(got, y) <= TOLERANCE


def test_channels_for_time_are_noticed():
    _, config, state = load_golden()
    x, y = case("plain")
    got = forecast(state, config, x[:, ::-1].copy(), 16).forecast
    assert relative_error(got, y) > 10 * TOLERANCE
    assert relative_error(got[:, ::-1], y) <= TOLERANCE


# -- any state dict ------------------------------------------------------------------------------

CONFIGS = {
    "as published": {},
    "one expert": {"freq_experts": "1/4", "comp_moe": 0, "top_k_experts": 12},
    "no constant ones": {"freq_experts": ["1/4", "1/6", "h"], "comp_moe": 1},
    "another order": {"freq_experts": "1/4_Naive_1/4_1/7_MEAN", "comp_moe": 3, "top_k_experts": 2},
    "top one": {"top_k_experts": 1},
    "cold": {"moe_temp": 0.3},
    "batch norm": {"moe_norm": True, "moe_temp": 1.7},
    "odd padding": {"fft_len": 101},
    "little padding": {"fft_len": 40},
    "no padding": {"fft_len": 20},
    "gate on values": {"use_fft": False},
    "other scales": {"scale_list": [1.5, 3, 2.5], "freq_bound": 0.5},
    "finer scales": {"scale_list": "0.5,1,2", "threshold": 0.0},
    "free scales": {"threshold": 0.0, "penalty_scale": 0.3},
    "no resampling": {"lookback_resampling": 0},
    "no clamp": {"long_horizon_scaling": 0},
    "one step": {"train_pred_len": 1},
    "longer than the window": {"train_seq_len": 5, "train_pred_len": 9, "fft_len": 12},
}


@pytest.mark.parametrize("horizon", [1, 20])
@pytest.mark.parametrize("length", [1, 7, 24, 25, 130])
@pytest.mark.parametrize("name", CONFIGS)
def test_forecasts_are_those_of_the_transcription(name, length, horizon):
    config = make_config(**CONFIGS[name])
    state = make_state(config, seed=length)
    x = make_series(2, length, seed=horizon)
    expected, scale, gates = transcribed(state, config, x, horizon)
    got = forecast(state, config, x, horizon)
    assert got.forecast.shape == expected.shape
    assert np.isfinite(got.forecast).all()
    there = ~np.isnan(expected)
    unit = np.abs(x).max(axis=2, keepdims=True)
    assert np.abs((got.forecast - expected) / unit)[there].max(initial=0.0) <= EXACT
    assert np.array_equal(got.scale, scale)
    assert np.abs(got.gates - gates).max() <= EXACT


def test_the_transcription_is_tried_where_scales_differ():
    config = make_config(**CONFIGS["free scales"])
    state = make_state(config, seed=130)
    scale = forecast(state, config, make_series(12, 130), 6).scale
    assert set(np.unique(scale)) == {1.0, 2.0, 4.0}


def test_contexts_longer_than_the_padding_use_their_oldest_values_where_the_reference_does():
    config = make_config(**CONFIGS["free scales"], freq_bound=0.1)
    config |= {"threshold": 0.3, "fft_len": 60}
    state = make_state(config)
    x = make_series(12, 200)
    expected, scale, _ = transcribed(state, config, x, 9)
    got = forecast(state, config, x, 9)
    assert np.array_equal(got.scale, scale)
    assert relative_error(got.forecast, expected) <= EXACT
    clean = forecast(state, config, x, 9, compat="clean")
    assert not np.array_equal(clean.scale, scale)


def test_the_step_that_the_reference_loses_is_there():
    config = make_config(train_seq_len=49, train_pred_len=6, fft_len=100)
    state = make_state(config)
    x = make_series(3, 1)
    expected, _, _ = transcribed(state, config, x, 4)
    assert np.isnan(expected[:, :, -1]).all()
    assert not np.isnan(expected[:, :, :-1]).any()
    got = forecast(state, config, x, 4).forecast
    assert relative_error(got[:, :, :-1], expected[:, :, :-1]) <= EXACT
    assert np.isfinite(got).all()


def test_interpolation_is_that_of_torch():
    torch = pytest.importorskip("torch")
    from .superlinear_cases import end_to_end, half_pixel

    x = np.random.default_rng(0).normal(size=17)
    tensor = torch.from_numpy(x)[None, None]
    for factor in (3, 4, 1 / 2, 1 / 3, 1 / 5, 2.5):
        for mine, corners in ((half_pixel, False), (end_to_end, True)):
            if corners and factor == 1 / 5:
                continue
            other = torch.nn.functional.interpolate(
                tensor, scale_factor=factor, mode="linear", align_corners=corners
            )
            assert np.abs(np.array(mine(x.tolist(), factor)) - other[0, 0].numpy()).max() < 1e-12


def test_the_transcription_weighs_experts_by_its_logits():
    config = make_config(top_k_experts=6)
    state = make_state(config)
    x = make_series(1, 24)[0, 0].tolist()
    _, gates = block_forecast(state, config, x)
    assert np.allclose(gates, softmax(logits_of(state, config, x)))
