"""Reading and writing published models: what they may hold, and what is refused."""

import json
import os
import pickle
import sys
import types
from contextlib import suppress

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mixlin.layers import Layer
from mixlin.mixture import Mixture, Rollout, predict_windows, rollout_forecast
from mixlin.normalization import Normalization
from mixlin.pretrained import (
    as_pretrained,
    read_settings,
    read_superlinear,
    write_superlinear,
)
from mixlin.pretrained.superlinear import _expected
from mixlin.routing import Gate, PeriodogramRouter, StatisticsRouter, ValuesRouter

from .superlinear_cases import load_golden, make_config, make_series, make_state

CONFIGS = {
    "plain": {},
    "batch norm": {"moe_norm": True, "moe_temp": 1.3},
    "values": {"use_fft": False},
    "one complementary": {"comp_moe": 1, "scale_list": [2.5, 4]},
    "a list": {"freq_experts": ["naive", "1/7", "h"], "comp_moe": 0},
}


def write_files(folder, config, state, *, prefix="backbone."):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {f"{prefix}{key}": value for key, value in state.items()}, folder / "model.safetensors"
    )
    return folder


def write_bin(folder, config, state):
    torch = pytest.importorskip("torch")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {f"backbone.{key}": torch.from_numpy(np.array(v)) for key, v in state.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def same(one, other):
    """Whether two models hold the same numbers, to the last digit."""
    pairs = [
        (one.block.weights, other.block.weights),
        (one.block.scale_coef, other.block.scale_coef),
        (one.block.gate.layers[0].weight, other.block.gate.layers[0].weight),
        (one.block.gate.layers[0].bias, other.block.gate.layers[0].bias),
    ]
    settings = one.rollout == other.rollout and one.expert_names == other.expert_names
    gates = (one.block.gate.top_k, one.block.gate.temperature)
    return (
        settings
        and gates == (other.block.gate.top_k, other.block.gate.temperature)
        and all(np.array_equal(a, b) for a, b in pairs)
    )


# -- the published model -------------------------------------------------------------------------


def test_the_published_state_dict_has_a_hundred_tensors():
    settings = read_settings()
    shapes = _expected(settings)
    assert len(shapes) == 100
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 2_540_703
    assert shapes["moe.experts.2.Linear.weight"] == (96, 512)
    assert shapes["moe.gating_network.weight"] == (51, 2500)
    assert not [key for key in shapes if key.startswith(("moe.experts.0", "moe.experts.1."))]
    assert (settings.lookback, settings.horizon, settings.top_k) == (512, 96, 12)
    assert settings.rollout == Rollout("official")
    with_norm = _expected(read_settings({"moe_norm": True}))
    assert len(with_norm) == 105
    assert with_norm["moe.batch_norm.num_batches_tracked"] == ()


def test_the_published_experts_have_names():
    names = read_settings().names
    assert len(names) == 51
    assert names[:4] == ("mean", "naive", "period 4", "period 6")
    assert names[38:41] == ("period 3600", "complementary 1", "complementary 2")
    assert names[-1] == "complementary 12"
    assert len(set(names)) == 51


def test_a_random_state_dict_of_the_published_form_is_read():
    rng = np.random.default_rng(0)
    state = {
        f"backbone.{key}": rng.normal(size=shape).astype(np.float32)
        for key, shape in _expected(read_settings()).items()
    }
    model = read_superlinear(state)
    assert model.block.weights.shape == (1, 51, 512, 96)
    assert model.block.gate.layers[0].weight.shape == (1, 513, 51)
    assert predict_windows(model.block, rng.normal(size=(2, 3, 512))).shape == (2, 3, 96)
    assert "51 experts" in repr(model)


def test_names_of_other_experts():
    settings = read_settings({"freq_experts": ["Mean", "h", "1/5"], "comp_moe": 1})
    assert settings.names == ("mean", "h", "period 5", "complementary")
    assert settings.experts == ("Mean", "h", "1/5", "comp")
    assert [settings.is_constant(e) for e in range(4)] == [True, False, False, False]


# -- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_files_hold_what_a_state_dict_holds(name, tmp_path):
    config = make_config(**CONFIGS[name])
    state = make_state(config, dtype=np.float32)
    expected = read_superlinear(state, config)
    folder = write_files(tmp_path / "model", config, state)
    for source in (folder, str(folder), folder / "model.safetensors"):
        assert same(read_superlinear(source), expected)
    assert same(read_superlinear(write_files(folder, config, state, prefix="")), expected)
    assert same(read_superlinear(write_bin(tmp_path / "bin", config, state)), expected)
    other = {**config, "top_k_experts": 1}
    assert read_superlinear(folder, other).block.gate.top_k == 1


def test_safetensors_come_before_pickles(tmp_path):
    config = make_config()
    first, second = make_state(config), make_state(config, seed=1)
    write_bin(tmp_path, config, first)
    write_files(tmp_path, config, second)
    assert same(read_superlinear(tmp_path), read_superlinear(second, config))
    found = read_superlinear(tmp_path / "pytorch_model.bin")
    assert same(found, read_superlinear(first, config))


def test_state_dicts_of_torch_are_read():
    torch = pytest.importorskip("torch")
    config = make_config(moe_norm=True)
    state = make_state(config, dtype=np.float32)
    tensors = {
        key: torch.nn.Parameter(torch.from_numpy(v)) if v.dtype.kind == "f" else torch.tensor(7)
        for key, v in state.items()
    }
    assert same(read_superlinear(tensors, config), read_superlinear(state, config))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_read(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    config = make_config()
    state = make_state(config, dtype=np.float32)
    halves = {k: torch.from_numpy(v).to(getattr(torch, dtype)) for k, v in state.items()}
    expected = read_superlinear({k: v.float() for k, v in halves.items()}, config)
    assert same(read_superlinear(halves, config), expected)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_torch(halves, tmp_path / "model.safetensors")
    assert same(read_superlinear(tmp_path), expected)
    torch.save(halves, tmp_path / "pytorch_model.bin")
    assert same(read_superlinear(tmp_path / "pytorch_model.bin"), expected)


def test_the_way_it_is_rolled_out_is_chosen():
    config = make_config()
    state = make_state(config)
    assert read_superlinear(state, config).rollout.compat == "clean"
    official = read_superlinear(state, config, compat="official")
    assert official.rollout.official
    assert official.block.normalization.eps == 1e-5
    assert read_superlinear(state, config).block.normalization.eps == 0
    with pytest.raises(ValueError, match="compat must be one of"):
        read_superlinear(state, config, compat="exact")


def test_keys_that_a_file_leaves_out_are_those_of_the_published_model():
    config = make_config(threshold=0.2)
    state = make_state(config)
    short = {key: value for key, value in config.items() if key not in ("threshold", "moe_temp")}
    model = read_superlinear(state, {**short, "torch_dtype": "float32", "_comment": "anything"})
    assert same(model, read_superlinear(state, config))
    assert model.config["_comment"] == "anything"


def test_the_state_dict_is_left_as_it_is_and_shares_no_memory_with_the_model():
    config = make_config(moe_norm=True)
    state = make_state(config)
    kept = {key: value.copy() for key, value in state.items()}
    model = read_superlinear(state, config)
    x = make_series(2, 24)
    before = predict_windows(model.block, x)
    for value in state.values():
        value += 1
    assert np.array_equal(predict_windows(model.block, x), before)
    again = read_superlinear(kept, config)
    assert same(again, model)
    assert all(np.array_equal(model.gate_tensors[k], kept[k]) for k in model.gate_tensors)


# -- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_was_written_reads_back_the_same(name, dtype, tmp_path):
    config = make_config(**CONFIGS[name])
    state = make_state(config, dtype=dtype)
    model = read_superlinear(state, config)
    write_superlinear(tmp_path / "a" / "b", model)
    again = read_superlinear(tmp_path / "a" / "b")
    assert same(again, model)
    assert again.config == {**model.config, "torch_dtype": np.dtype(dtype).name}
    written = load_file(tmp_path / "a" / "b" / "model.safetensors")
    assert {key.removeprefix("backbone.") for key in written} == set(state)
    for key, value in state.items():
        assert np.array_equal(written[f"backbone.{key}"], value)
        assert written[f"backbone.{key}"].dtype == value.dtype
    for compat in ("clean", "official"):
        x = make_series(2, 130)
        one = read_superlinear(state, config, compat=compat)
        other = read_superlinear(tmp_path / "a" / "b", compat=compat)
        first = rollout_forecast(one.block, one.rollout, x, 14).forecast
        assert np.array_equal(rollout_forecast(other.block, other.rollout, x, 14).forecast, first)


def test_writing_replaces_older_files_whole(tmp_path):
    config = make_config()
    for seed in range(2):
        model = read_superlinear(make_state(config, seed), config)
        write_superlinear(tmp_path, model)
        assert same(read_superlinear(tmp_path), model)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_the_golden_model_is_written(tmp_path):
    _, config, state = load_golden()
    model = read_superlinear(state, config)
    write_superlinear(tmp_path, model)
    assert json.loads((tmp_path / "config.json").read_text()) == {**model.config}
    assert model.config == {**model.config, **config}
    assert same(read_superlinear(tmp_path), model)


def make_block(router=None, n_experts=3, lookback=24, horizon=6, seed=0):
    """Return a block as training leaves it."""
    rng = np.random.default_rng(seed)
    router = router or PeriodogramRouter(100)
    n_features = router.features(np.zeros((1, 1, lookback)), None, 1).shape[2]
    layer = Layer(rng.normal(size=(1, n_features, n_experts)) * 5, rng.normal(size=(1, n_experts)))
    weights = rng.normal(size=(1, n_experts, lookback, horizon)) / 5
    weights[0, 0] = 0.0
    weights[0, 0, -1] = 1.0
    bias = rng.normal(size=(1, n_experts, horizon)) / 5
    bias[0, 0] = 0.0
    return Mixture(
        weights,
        scale_coef=bias,
        normalization=Normalization("mean", scaled=True, eps=0.0, ddof=1, eps_inside=False),
        gate=Gate(router, (layer,), top_k=2, temperature=0.8),
    )


@pytest.mark.parametrize("router", [PeriodogramRouter(100), ValuesRouter()])
def test_blocks_of_one_s_own_are_written(router, tmp_path):
    block = make_block(router)
    rollout = Rollout(scales=(3, 2.5), padded_length=100, clamp=False, threshold=0.1)
    names = ("naive", "period 24", "complementary 1")
    model = as_pretrained(block, rollout, names)
    write_superlinear(tmp_path, model)
    again = read_superlinear(tmp_path)
    assert again.expert_names == ("naive", "period 24", "complementary")
    assert again.rollout == rollout
    assert again.block.gate.top_k == 2
    for length in (9, 24, 100):
        x = make_series(4, length)[1:]
        expected = rollout_forecast(block, rollout, x, 14)
        found = rollout_forecast(again.block, again.rollout, x, 14)
        unit = np.abs(expected.forecast).max()
        assert np.abs(found.forecast - expected.forecast).max() <= 1e-8 * unit
        assert np.abs(found.gates - expected.gates).max() <= 1e-8
    assert as_pretrained(block, rollout).expert_names == ("expert 0", "expert 1", "expert 2")


def test_blocks_that_the_published_form_has_no_place_for_get_a_sentence():
    from dataclasses import replace

    rollout = Rollout(padded_length=100)
    block = make_block()
    layer = block.gate.layers[0]
    others = [
        replace(block, normalization=replace(block.normalization, ddof=0)),
        replace(block, normalization=replace(block.normalization, level="last")),
        replace(block, bias=block.scale_coef),
        replace(block, reference=np.ones(1)),
        replace(block, gate=replace(block.gate, layers=(replace(layer, activation="relu"),))),
        replace(block, gate=replace(block.gate, center=np.ones(layer.weight.shape[1]))),
        replace(block, gate=Gate(StatisticsRouter(), (Layer(np.zeros((1, 8, 3))),))),
        replace(block, weights=block.weights[:, :1], scale_coef=None, gate=None),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the published form is one linear gate on"):
            as_pretrained(other, rollout)
    with pytest.raises(ValueError, match="share one padded_length; got 100 and 5000"):
        as_pretrained(block, Rollout())
    with pytest.raises(ValueError, match="3 experts need as many names; got 2"):
        as_pretrained(block, rollout, ("a", "b"))
    for names in (("a", "a", "b"), ("a_b", "c", "d"), ("complementary 1",) * 3, ("", "a", "b")):
        with pytest.raises(ValueError, match="names of experts must be different ones without"):
            as_pretrained(block, rollout, names)
    with pytest.raises(ValueError, match="expert 1 is named 'naive' and forecasts something else"):
        as_pretrained(block, rollout, ("a", "naive", "b"))
    with pytest.raises(ValueError, match="expert 0 is named 'mean' and forecasts something else"):
        as_pretrained(block, rollout, ("mean", "a", "b"))


# -- tensors that don't fit ----------------------------------------------------------------------


def keys_of(**changes):
    return list(make_state(make_config(**changes)))


@pytest.mark.parametrize("key", keys_of(moe_norm=True))
def test_a_missing_tensor_gets_a_sentence(key):
    config = make_config(moe_norm=True)
    state = make_state(config)
    del state[key]
    with pytest.raises(ValueError, match=f"it lacks '{key}' and has nothing beside. Pass the conf"):
        read_superlinear(state, config)


def test_tensors_of_no_use_get_a_sentence():
    config = make_config()
    state = make_state(config)
    with pytest.raises(ValueError, match=r"it lacks nothing and has 'head\.weight' beside"):
        read_superlinear({**state, "head.weight": np.zeros(3)}, config)
    with pytest.raises(ValueError, match=r"it lacks nothing and has 'moe\.batch_norm\.bias', "):
        read_superlinear(make_state(make_config(moe_norm=True)), config)
    half = {f"backbone.{k}" if "experts" in k else k: v for k, v in state.items()}
    with pytest.raises(ValueError, match=r"and has 'backbone\.moe\.experts"):
        read_superlinear(half, config)
    with pytest.raises(ValueError, match=r"\(51 experts, 512 -> 96 steps\): it lacks .* 86 more"):
        read_superlinear(state)
    with pytest.raises(ValueError, match="it lacks"):
        read_superlinear({}, config)


@pytest.mark.parametrize("key", keys_of(moe_norm=True))
def test_tensors_of_another_shape_or_kind_get_a_sentence(key):
    config = make_config(moe_norm=True)
    state = make_state(config)
    value = state[key]
    others = [value[None], value.astype(np.complex128), value.astype(str)]
    others += [value.astype(float)] if key.endswith("tracked") else [value.astype(int), value[:-1]]
    others += [value.T] if value.ndim == 2 else []
    for other in others:
        with pytest.raises(ValueError, match=f"'{key}' must be (floats|integers) of shape"):
            read_superlinear({**state, key: other}, config)
    for other in (value.tolist(), None, "weights"):
        with pytest.raises(ValueError, match=f"'{key}' of the state dict must be a dense tensor"):
            read_superlinear({**state, key: other}, config)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_get_a_sentence(bad):
    config = make_config(moe_norm=True)
    for key in keys_of(moe_norm=True)[:-1]:
        state = make_state(config)
        state[key].flat[-1] = bad
        with pytest.raises(ValueError, match=f"'{key}' holds values that are not finite"):
            read_superlinear(state, config)


def test_negative_variances_get_a_sentence():
    config = make_config(moe_norm=True)
    state = make_state(config)
    state["moe.batch_norm.running_var"][1] = -1.0
    with pytest.raises(ValueError, match="running_var' holds variances that are negative"):
        read_superlinear(state, config)


def test_sparse_tensors_get_a_sentence():
    torch = pytest.importorskip("torch")
    config = make_config()
    state = {key: torch.from_numpy(value) for key, value in make_state(config).items()}
    key = "moe.gating_network.weight"
    for other in (state[key].to_sparse(), state[key].to("meta")):
        with pytest.raises(ValueError, match=f"'{key}' of the state dict must be a dense tensor"):
            read_superlinear({**state, key: other}, config)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        *(("train_seq_len", bad) for bad in (1, 0, 2.5, "512", True, None)),
        *(("train_pred_len", bad) for bad in (0, -1, 9.0)),
        *(("top_k_experts", bad) for bad in (0, "all")),
        *(("moe_temp", bad) for bad in (0, -1.0, float("nan"), "1", True)),
        *(("moe_norm", bad) for bad in ("yes", 2, None, 0.0)),
        *(("comp_moe", bad) for bad in (-1, 1.5, 10**9)),
        *(("use_fft", bad) for bad in ("true", None)),
        *(("fft_len", bad) for bad in (3, 0, 5000.0)),
        *(("freq_experts", bad) for bad in ("", [], ["mean", 3], None, "mean__naive", {})),
        *(("scale_list", bad) for bad in ("2,x", "2,-1", [0], None, 4, ["a"], [float("inf")])),
        *(("threshold", bad) for bad in ("a", None, float("inf"))),
        *(("freq_bound", bad) for bad in (0, -0.25)),
        *(("penalty_scale", bad) for bad in ("2", None)),
        *(("long_horizon_scaling", bad) for bad in (2, "1")),
        *(("lookback_resampling", bad) for bad in (None, [])),
    ],
)
def test_settings_out_of_range_get_a_sentence(key, bad):
    with pytest.raises(ValueError, match=f"{key} of the configuration must be .*; got "):
        read_settings({key: bad})


def test_a_threshold_out_of_range_gets_a_sentence():
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        read_settings({"threshold": 1.5})


@pytest.mark.parametrize("bad", [[], "config", 3])
def test_a_configuration_that_is_none_gets_a_sentence(bad):
    with pytest.raises(ValueError, match="a configuration is a dict of names and values; got"):
        read_settings(bad)


def test_zeros_and_ones_are_flags():
    assert read_settings({"moe_norm": 1}).batch_norm
    assert not read_settings({"lookback_resampling": False}).rollout.resampling


def test_top_k_is_at_most_all():
    assert read_settings({"freq_experts": "mean_naive", "comp_moe": 0}).top_k == 2


# -- files that can't be read --------------------------------------------------------------------


def test_what_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .* Pass a folder with config\.json"):
        read_superlinear(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model"):
        read_superlinear(tmp_path)
    config = make_config()
    folder = write_files(tmp_path / "model", config, make_state(config))
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no config\.json beside .* Pass config"):
        read_superlinear(folder)
    assert read_superlinear(folder, config).block.n_experts == 6


@pytest.mark.parametrize("text", ["", "{", "nothing", "\xff", "[" * 100_000])
def test_a_configuration_that_is_no_json_gets_a_sentence(text, tmp_path):
    config = make_config()
    folder = write_files(tmp_path, config, make_state(config))
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json can't be read as JSON"):
        read_superlinear(folder)


def test_a_configuration_that_is_no_object_gets_a_sentence(tmp_path):
    config = make_config()
    folder = write_files(tmp_path, config, make_state(config))
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold a JSON object; got list"):
        read_superlinear(folder)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_truncated_files_get_a_sentence(form, tmp_path):
    config = make_config()
    write = write_files if form == "safetensors" else write_bin
    folder = write(tmp_path, config, make_state(config))
    (path,) = (p for p in folder.iterdir() if p.suffix != ".json")
    data = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is damaged or"):
            read_superlinear(folder)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_foreign_bytes_get_a_sentence(form, tmp_path):
    if form == "bin":
        pytest.importorskip("torch")
    (tmp_path / "config.json").write_text(json.dumps(make_config()))
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "pytorch_model.bin")
    rng = np.random.default_rng(0)
    for data in (b"PK\x03\x04", b"\x80\x02.", b"<html>", *(rng.bytes(n) for n in (10, 99, 3000))):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"is damaged or|must hold tensors by name"):
            read_superlinear(tmp_path)


def test_damaged_bytes_are_refused_or_read_as_other_numbers(tmp_path):
    config = make_config()
    folder = write_files(tmp_path, config, make_state(config, dtype=np.float32))
    path = folder / "model.safetensors"
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        at = int(rng.integers(0, 2000))
        path.write_bytes(data[:at] + rng.bytes(1) + data[at + 1 :])
        with suppress(ValueError):  # and no other kind of error
            read_superlinear(folder)


class Evil:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(whole, tmp_path):
    torch = pytest.importorskip("torch")
    mark = str(tmp_path / "mark")
    config = make_config()
    evil = Evil(mark) if whole else {**make_state(config), "moe.gating_network.bias": Evil(mark)}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(evil, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="would run code of its own; that is refused"):
        read_superlinear(folder)
    assert not os.path.exists(mark)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match=r"that is refused|is damaged"):
        read_superlinear(folder)
    assert not os.path.exists(mark)
    pickle.loads(pickle.dumps(Evil(mark)))  # the twin: it would have
    assert os.path.exists(mark)


@pytest.mark.parametrize("content", [[1, 2], 3, {"a": 1}, {1: 2}, "text"])
def test_a_pickle_of_other_things_gets_a_sentence(content, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "config.json").write_text(json.dumps(make_config()))
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"must hold tensors by name|must be a dense tensor"):
        read_superlinear(tmp_path)


def test_without_torch_a_bin_file_gets_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(make_config()))
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"reading pytorch_model.bin needs torch \(pip install"):
        read_superlinear(tmp_path)


def test_tensors_of_unknown_kinds_get_a_sentence(tmp_path):
    config = make_config()
    folder = write_files(tmp_path, config, make_state(config, dtype=np.float32))
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"U32"', 1))
    with pytest.raises(ValueError, match=r"is damaged or .* which is none of F64"):
        read_superlinear(folder)


# -- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Stand in for huggingface_hub; calls are kept, and ``answer`` decides what comes back."""
    module = types.ModuleType("huggingface_hub")
    module.calls = []

    def snapshot_download(name, *, revision=None, allow_patterns=None):
        module.calls.append((name, revision, allow_patterns))
        if isinstance(module.answer, Exception):
            raise module.answer
        return str(module.answer)

    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_a_model_is_fetched_from_the_hub(hub, tmp_path, monkeypatch):
    config = make_config()
    state = make_state(config)
    hub.answer = write_files(tmp_path / "snapshot", config, state)
    monkeypatch.chdir(tmp_path)
    found = read_superlinear("SequentialLearning/SuperLinear", revision="v1")
    assert same(found, read_superlinear(state, config))
    patterns = ["config.json", "model.safetensors", "pytorch_model.bin"]
    assert hub.calls == [("SequentialLearning/SuperLinear", "v1", patterns)]
    write_files(tmp_path / "SequentialLearning" / "SuperLinear", config, state)
    read_superlinear("SequentialLearning/SuperLinear")
    assert len(hub.calls) == 1  # a folder of that name comes first


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("no such name")])
def test_what_the_hub_refuses_gets_a_sentence(hub, error, tmp_path, monkeypatch):
    hub.answer = error
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=f"the hub gave no model 'a/b' at 'x': {error}"):
        read_superlinear("a/b", revision="x")


def test_without_the_hub_s_package_a_name_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match=r"no folder 'a/b' here, .* \(pip install 'mixlin\[hub\]'"
    ):
        read_superlinear("a/b")


@pytest.mark.parametrize("name", ["nothing", "./a/b", "a/b/c", "~/a", "/a/b", "a b/c"])
def test_paths_are_not_looked_for_at_the_hub(hub, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="Pass a folder"):
        read_superlinear(name)
    assert hub.calls == []
