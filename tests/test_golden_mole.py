"""Reference weights of mixtures: stored outputs of the reference, and a transcription of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mixlin.backends import resolve
from mixlin.mixture import forward, predict_windows
from mixlin.routing import Router
from mixlin.state_dicts import read_mole

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5  # float64 against the reference's float32
EXACT = 1e-10  # float64 against float64
MODELS = ("mole_dlinear", "mole_rlinear", "mole_rmlp")
UNDER_REVIN = MODELS[1:]


@dataclass(frozen=True)
class FirstStampMarks(Router):
    """Hour, weekday, day of month and day of year of a window's first step, in [-1/2, 1/2]."""

    def features(self, windows, timestamps, horizon):
        return marks_of(timestamps[:, 0])[:, None]


def marks_of(stamps):
    day = stamps.astype("datetime64[D]")
    hour = (stamps - day) / np.timedelta64(1, "h")
    weekday = (day.astype(int) + 3) % 7  # the epoch began on a Thursday
    of_month = (day - stamps.astype("datetime64[M]")).astype(int)
    of_year = (day - stamps.astype("datetime64[Y]")).astype(int)
    parts = hour / 23, weekday / 6, of_month / 30, of_year / 365
    return np.stack(parts, axis=-1) - 0.5


def hourly(first, length):
    """Return stamps (n, length) from the first of every window."""
    stamps = first.astype("datetime64[ns]")[:, None]
    return stamps + np.arange(length) * np.timedelta64(1, "h")


def load_golden(name):
    """Return windows (n, C, L), first stamps, outputs (n, C, H), and state dict."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file}
    state = {key[3:]: value.astype(np.float64) for key, value in arrays.items() if key[:3] == "sd."}
    x, y = (arrays[key].astype(np.float64).transpose(0, 2, 1) for key in "xy")
    return x, arrays["first_stamp"].astype("datetime64[s]"), y, state


def read(state, k):
    return read_mole(state, FirstStampMarks(), n_experts=k)


def forecast(mixture, x, first):
    return predict_windows(mixture, x, timestamps=hourly(first, x.shape[2] + mixture.horizon))


def relative_error(got, expected):
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def transcribed(state, x, first, k, revin=True):
    """Forward pass of the reference on windows (n, C, L), window by window and loop by loop."""
    dlinear = "Linear_Trend.weight" in state
    n, channels, lookback = x.shape

    def layer(name, v):
        return state[f"{name}.weight"] @ v + state[f"{name}.bias"]

    out = []
    for i in range(n):
        hidden = np.maximum(layer("Linear_Temporal.0", marks_of(first[i : i + 1])[0]), 0)
        router = layer("Linear_Temporal.2", hidden)
        for c in range(channels):
            at = [c * k + e if dlinear else e * channels + c for e in range(k)]
            raw = np.exp(router[at] - router[at].max())
            gates = raw / raw.sum()
            v = x[i, c]
            gamma = state.get("rev.affine_weight", np.ones(channels))[c]
            beta = state.get("rev.affine_bias", np.zeros(channels))[c]
            if dlinear:
                padded = np.r_[np.full(12, v[0]), v, np.full(12, v[-1])]
                trend = np.array([padded[t : t + 25].sum() / 25 for t in range(lookback)])
                wide = layer("Linear_Seasonal", v - trend) + layer("Linear_Trend", trend)
            else:
                if revin:
                    mean = v.sum() / lookback
                    spread = np.sqrt(((v - mean) ** 2).sum() / lookback + 1e-5)
                    v = (v - mean) / spread * gamma + beta
                if "temporal.0.weight" in state:
                    v = v + layer("temporal.2", np.maximum(layer("temporal.0", v), 0))
                wide = layer("Linear", v)
            horizon = len(wide) // k
            y = np.array(
                [sum(gates[e] * wide[h * k + e] for e in range(k)) for h in range(horizon)]
            )
            if not dlinear and revin:
                divisor = gamma + 1e-10 if "rev.affine_weight" in state else 1.0
                y = (y - beta) / divisor * spread + mean
            out.append(y)
    return np.array(out).reshape(n, channels, -1)


def random_case(name, k=2, channels=3, lookback=13, horizon=4, seed=0, affine=True, signs=False):
    """Return state dict, windows and first stamps of random values."""
    rng = np.random.default_rng(seed)
    width = k * channels
    shapes = {"Linear_Temporal.0": (width, 4), "Linear_Temporal.2": (width, width)}
    if name == "mole_dlinear":
        shapes |= dict.fromkeys(("Linear_Seasonal", "Linear_Trend"), (k * horizon, lookback))
    else:
        shapes["Linear"] = (k * horizon, lookback)
    if name == "mole_rmlp":
        shapes |= {"temporal.0": (7, lookback), "temporal.2": (lookback, 7)}
    state = {}
    for layer, shape in shapes.items():
        state[f"{layer}.weight"] = rng.normal(size=shape) / np.sqrt(shape[1])
        state[f"{layer}.bias"] = rng.normal(size=shape[0])
    state["Linear_Temporal.0.weight"] *= 4  # gates that differ from window to window
    if affine and name != "mole_dlinear":
        state["rev.affine_weight"] = rng.uniform(0.5, 2.0, channels)
        if signs:
            state["rev.affine_weight"][::2] *= -1
        state["rev.affine_bias"] = rng.normal(size=channels)
    x = rng.normal(size=(8, channels, lookback)) * 10.0 ** rng.uniform(-1, 1, (channels, 1))
    x += rng.normal(size=(channels, 1)) * 3
    x[3] = x[3, :, :1]  # a constant window: only epsilon keeps its scale positive
    first = np.datetime64("2023-12-30T05") + rng.integers(0, 2000, 8) * np.timedelta64(1, "h")
    return state, x, first


# -- parity with the reference code ----------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_those_of_the_reference(name):
    x, first, y, state = load_golden(name)
    assert relative_error(forecast(read(state, 4), x, first), y) <= TOLERANCE
    assert relative_error(transcribed(state, x, first, 4), y) <= TOLERANCE
    singles = {key: value.astype(np.float32) for key, value in state.items()}
    got = forecast(read(singles, 4), x.astype(np.float32), first)
    assert relative_error(got, y) <= TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_the_marks_of_the_first_stamp_are_the_reference_s(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        first, mark = file["first_stamp"].astype("datetime64[s]"), file["mark"]
    assert np.abs(marks_of(first) - mark[:, 0]).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in MODELS for key in load_golden(name)[3]]
)
def test_weights_that_move_the_output_by_ten_tolerances_are_noticed(name, key):
    x, first, y, state = load_golden(name)
    before = transcribed(state, x, first, 4)
    step = np.random.default_rng(0).normal(size=state[key].shape)
    for _ in range(3):  # the output is not linear in all of them
        effect = np.abs(transcribed({**state, key: state[key] + step}, x, first, 4) - before).max()
        step *= 10 * TOLERANCE * np.abs(y).max() / effect
    moved = read({**state, key: state[key] + step}, 4)
    assert 5 * TOLERANCE < relative_error(forecast(moved, x, first), y) < 15 * TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_another_order_of_experts_and_channels_is_noticed(name):
    x, first, y, state = load_golden(name)
    swapped = dict(state)
    for kind in ("weight", "bias"):
        value = state[f"Linear_Temporal.2.{kind}"]
        order = np.arange(12).reshape((3, 4) if name == "mole_dlinear" else (4, 3)).T.ravel()
        swapped[f"Linear_Temporal.2.{kind}"] = value[order]
    assert relative_error(forecast(read(swapped, 4), x, first), y) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_another_order_of_experts_and_steps_is_noticed(name):
    x, first, y, state = load_golden(name)
    swapped = {
        key: value[np.arange(48).reshape(12, 4).T.ravel()]
        if key.split(".")[0] in ("Linear", "Linear_Seasonal", "Linear_Trend")
        else value
        for key, value in state.items()
    }
    assert relative_error(forecast(read(swapped, 4), x, first), y) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_stamps_of_another_hour_are_noticed(name):
    x, first, y, state = load_golden(name)
    late = forecast(read(state, 4), x, first + np.timedelta64(3, "h"))
    assert relative_error(late, y) > 10 * TOLERANCE


def test_another_moving_average_is_noticed():
    x, first, y, state = load_golden("mole_dlinear")
    narrow = read_mole(state, FirstStampMarks(), n_experts=4, kernel_size=23)
    assert relative_error(forecast(narrow, x, first), y) > 10 * TOLERANCE


# -- any state dict --------------------------------------------------------------------------


@pytest.mark.parametrize("lookback", [13, 30])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_those_of_the_transcription(name, k, channels, lookback):
    for seed in range(3):
        state, x, first = random_case(name, k, channels, lookback, seed=seed)
        expected = transcribed(state, x, first, k)
        assert relative_error(forecast(read(state, k), x, first), expected) <= EXACT


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", UNDER_REVIN)
def test_negative_gains(name, channels, k):
    for seed in range(3):
        state, x, first = random_case(name, k, channels, seed=seed, signs=True)
        assert (state["rev.affine_weight"] < 0).any()
        expected = transcribed(state, x, first, k)
        assert relative_error(forecast(read(state, k), x, first), expected) <= EXACT


@pytest.mark.parametrize("gain", [1e-3, -1e-3, 1e-6, -1e-6, 1e-9, 3e-10, 0.0])
@pytest.mark.parametrize("name", UNDER_REVIN)
def test_small_gains(name, gain):
    state, x, first = random_case(name)
    state["rev.affine_weight"][1] = gain
    got, expected = forecast(read(state, 2), x, first), transcribed(state, x, first, 2)
    for c in range(3):
        assert relative_error(got[:, c], expected[:, c]) <= 1e-8


@pytest.mark.parametrize("revin", [True, False])
@pytest.mark.parametrize("name", UNDER_REVIN)
def test_models_without_affine_parameters(name, revin):
    state, x, first = random_case(name, affine=False)
    mixture = read_mole(state, FirstStampMarks(), n_channels=3, revin=revin)
    expected = transcribed(state, x, first, 2, revin)
    assert relative_error(forecast(mixture, x, first), expected) <= EXACT
    other = transcribed(state, x, first, 2, not revin)
    assert relative_error(forecast(mixture, x, first), other) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_do_not_depend_on_the_order_of_experts(name):
    k, channels, horizon = 5, 3, 4
    state, x, first = random_case(name, k, channels, horizon=horizon)
    order = np.array([3, 0, 4, 2, 1])
    outputs = np.arange(horizon * k).reshape(horizon, k)[:, order].ravel()
    if name == "mole_dlinear":
        logits = np.arange(channels * k).reshape(channels, k)[:, order].ravel()
    else:
        logits = np.arange(channels * k).reshape(k, channels)[order].ravel()
    permuted = dict(state)
    for key, value in state.items():
        if key.startswith("Linear_Temporal.2"):
            permuted[key] = value[logits]
        elif key.split(".")[0] in ("Linear", "Linear_Seasonal", "Linear_Trend"):
            permuted[key] = value[outputs]
    expected = forecast(read(state, k), x, first)
    assert relative_error(forecast(read(permuted, k), x, first), expected) <= 1e-12
    half = {key: permuted[key] if "Temporal" in key else state[key] for key in state}
    assert relative_error(forecast(read(half, k), x, first), expected) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_every_channel_has_its_own_gates_and_experts_mix_to_the_forecast(name):
    state, x, first = random_case(name)
    parts = forward(
        read(state, 2),
        resolve("numpy"),
        x,
        timestamps=hourly(first, x.shape[2] + 4),
        parts=True,
    )
    assert parts.gates.shape == (len(x), 3, 2)
    assert np.ptp(parts.gates, axis=(0, 1)).min() > 1e-2
    mixed = np.einsum("nce,nche->nch", parts.gates, parts.experts)
    assert relative_error(mixed, parts.forecast) <= 1e-12


# -- what the mixture holds ------------------------------------------------------------------


def groups_of(mixture):
    layers = [layer for block in mixture.pre for layer in block.layers]
    tensors = [mixture.weights, mixture.bias, mixture.scale_coef]
    tensors += [t for layer in layers for t in (layer.weight, layer.bias)]
    return {len(t) for t in tensors if t is not None}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_channels_share_all_but_their_gates_where_normalization_is_the_same(name, affine):
    state, *_ = random_case(name)
    if name != "mole_dlinear":
        state["rev.affine_weight"][:] = 1.0
        state["rev.affine_bias"][:] = 0.0
    if not affine:
        state = {key: value for key, value in state.items() if "rev" not in key}
    mixture = read(state, 2)
    assert groups_of(mixture) == {1}
    first, last = mixture.gate.layers
    assert (first.weight.shape, last.weight.shape) == ((1, 4, 6), (3, 6, 2))


def test_small_gains_of_several_sizes_give_every_channel_weights_of_its_own():
    for name in UNDER_REVIN:
        state, *_ = random_case(name)
        assert len(read(state, 2).weights) == 1  # gains around one: not told apart at 1e-10
        state["rev.affine_weight"][:] = 0.1, 0.2, 1.0
        assert len(read(state, 2).weights) == 3
        state["rev.affine_weight"][:] = 0.1
        assert len(read(state, 2).weights) == 1


@pytest.mark.parametrize("signs", [False, True])
def test_biases_of_the_block_ride_on_the_scale(signs):
    state, *_ = random_case("mole_rmlp", signs=signs)
    mixture = read(state, 2)
    assert not mixture.divides_by_scale
    assert len(mixture.pre) == (2 if signs else 1)
    inner, outer = mixture.pre[-1].layers
    assert len(inner.weight) == len(outer.weight) == 1
    assert len(mixture.weights) == (3 if signs else 1)


# -- the number of experts -------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_one_of_the_numbers_settles_the_others(name):
    state, x, first = random_case(name, 2, 4, horizon=6, affine=False)
    expected = transcribed(state, x, first, 2)
    for given in ({"n_experts": 2}, {"n_channels": 4}, {"horizon": 6}, {"n_experts": np.int64(2)}):
        mixture = read_mole(state, FirstStampMarks(), **given)
        assert relative_error(forecast(mixture, x, first), expected) <= EXACT
    everything = {"n_experts": 2, "n_channels": 4, "horizon": 6}
    assert read_mole(state, FirstStampMarks(), **everything).weights.shape == (1, 2, 13, 6)


@pytest.mark.parametrize("name", UNDER_REVIN)
def test_affine_parameters_settle_all_numbers(name):
    state, x, first = random_case(name, 4, 2, horizon=6)
    got = forecast(read_mole(state, FirstStampMarks()), x, first)
    assert relative_error(got, transcribed(state, x, first, 4)) <= EXACT


def test_one_expert_is_found_where_no_other_number_fits():
    state, x, first = random_case("mole_dlinear", 1, 3, horizon=4)
    got = forecast(read_mole(state, FirstStampMarks()), x, first)
    assert relative_error(got, transcribed(state, x, first, 1)) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_numbers_that_are_not_determined_get_a_sentence(name):
    state, *_ = random_case(name, 2, 4, horizon=6, affine=False)
    with pytest.raises(ValueError, match=r"12 outputs .* 8 logits .* fit 1, 2, 4 experts. Pass"):
        read_mole(state, FirstStampMarks())


@pytest.mark.parametrize(
    "given",
    [
        {"n_experts": 3},
        {"n_channels": 3},
        {"horizon": 5},
        {"n_experts": 2, "n_channels": 2},
        {"n_experts": 4, "horizon": 6},
    ],
)
def test_numbers_that_do_not_agree_get_a_sentence(given):
    state, *_ = random_case("mole_dlinear", 2, 4, horizon=6)
    with pytest.raises(ValueError, match=f"no number of experts fits with {next(iter(given))}="):
        read_mole(state, FirstStampMarks(), **given)


@pytest.mark.parametrize("name", UNDER_REVIN)
def test_numbers_that_contradict_the_affine_parameters_get_a_sentence(name):
    state, *_ = random_case(name, 2, 4, horizon=6)
    with pytest.raises(ValueError, match="no number of experts fits with n_experts=4, the length"):
        read_mole(state, FirstStampMarks(), n_experts=4)


@pytest.mark.parametrize("name", ["n_experts", "n_channels", "horizon"])
@pytest.mark.parametrize("value", [0, -2, 2.0, "2"])
def test_numbers_that_are_none_get_a_sentence(name, value):
    state, *_ = random_case("mole_dlinear")
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got"):
        read_mole(state, FirstStampMarks(), **{name: value})


# -- what a state dict may hold --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in MODELS for key in random_case(name)[0]]
)
def test_a_missing_tensor_gets_a_sentence(name, key):
    state, *_ = random_case(name)
    del state[key]
    with pytest.raises(ValueError, match=f"of no MoLE model: .* it lacks '{key}' and has nothing"):
        read(state, 2)


@pytest.mark.parametrize("name", MODELS)
def test_keys_that_no_model_has_get_a_sentence(name):
    state, *_ = random_case(name)
    with pytest.raises(ValueError, match=r"it lacks nothing and has 'head\.weight' beside"):
        read({**state, "head.weight": np.zeros((2, 2))}, 2)
    with pytest.raises(ValueError, match="Accepted are MoLE_DLinear, MoLE_RLinear, MoLE_RMLP"):
        read({f"module.{key}": value for key, value in state.items()}, 2)
    with pytest.raises(ValueError, match="of no MoLE model"):
        read({}, 2)
    other = random_case("mole_rlinear" if name == "mole_dlinear" else "mole_dlinear")[0]
    with pytest.raises(ValueError, match="of no MoLE model"):
        read({**state, **other}, 2)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in MODELS for key in random_case(name)[0]]
)
def test_tensors_of_other_shapes_get_a_sentence(name, key):
    state, *_ = random_case(name)
    sentence = "must have|don't fit together"
    with pytest.raises(ValueError, match=sentence):
        read({**state, key: state[key][None]}, 2)
    if key.startswith("rev") or key.endswith("bias"):
        with pytest.raises(ValueError, match=sentence):
            read({**state, key: state[key][:-1]}, 2)
    elif key not in ("Linear.weight", "Linear_Temporal.0.weight"):  # which say what else must fit
        with pytest.raises(ValueError, match=sentence):
            read({**state, key: state[key][:, :-1]}, 2)
    if key.endswith("weight") and not key.startswith("rev"):
        with pytest.raises(ValueError, match=r"which holds nothing|don't fit"):
            read({**state, key: state[key][:, :0]}, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", MODELS)
def test_values_that_are_not_finite_get_a_sentence(name, bad):
    for key in random_case(name)[0]:
        state, *_ = random_case(name)
        state[key].flat[-1] = bad
        with pytest.raises(ValueError, match=f"'{key}' holds values that are not finite"):
            read(state, 2)


@pytest.mark.parametrize("name", UNDER_REVIN)
def test_a_gain_that_makes_the_reference_divide_by_zero_is_refused(name):
    state, *_ = random_case(name)
    state["rev.affine_weight"][1] = -(1e-5**2)
    with pytest.raises(ValueError, match="holds -1e-10, which makes the reference divide by zero"):
        read(state, 2)


def test_affine_parameters_and_no_normalization_get_a_sentence():
    state, *_ = random_case("mole_rlinear")
    with pytest.raises(ValueError, match="revin=False is for state dicts without affine"):
        read_mole(state, FirstStampMarks(), revin=False)


@pytest.mark.parametrize("router", ["calendar", None, FirstStampMarks])
def test_what_is_no_router_gets_a_sentence(router):
    with pytest.raises(TypeError, match="router must be an instance of a Router"):
        read_mole(random_case("mole_rlinear")[0], router)


def test_windows_of_another_form_get_a_sentence():
    state, x, first = random_case("mole_dlinear")
    mixture = read(state, 2)
    with pytest.raises(ValueError, match="windows must be"):
        forecast(mixture, x[:, :2], first)
    with pytest.raises(ValueError, match="windows must be"):
        forecast(mixture, x[:, :, 1:], first)


def test_the_state_dict_is_left_as_it_is_and_shares_no_memory_with_the_mixture():
    for name in MODELS:
        state, x, first = random_case(name)
        kept = {key: value.copy() for key, value in state.items()}
        mixture = read(state, 2)
        before = forecast(mixture, x, first)
        assert all(np.array_equal(state[key], kept[key]) for key in kept)
        for value in state.values():
            value += 1.0
        fresh = type(mixture)(
            mixture.weights,
            bias=mixture.bias,
            scale_coef=mixture.scale_coef,
            normalization=mixture.normalization,
            gate=mixture.gate,
            pre=mixture.pre,
        )
        assert np.array_equal(forecast(fresh, x, first), before)
