"""Reference weights: stored outputs of the reference code, and plain transcriptions of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixlin import (
    DLinearForecaster,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-6  # float64 against the reference's float32
MODELS = {
    "linear": LinearForecaster,
    "nlinear": NLinearForecaster,
    "dlinear": DLinearForecaster,
}
L, H, C = 20, 6, 3


def load_golden(name):
    """Return windows, outputs and state dict of the reference run."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file}
    state = {key[3:]: value for key, value in arrays.items() if key.startswith("sd.")}
    return arrays["x"].astype(np.float64), arrays["y"].astype(np.float64), state


def relative_error(got, expected):
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def transcribed(name, state, x, kernel_size=25):
    """Forward pass of the reference on windows (n, L, C), loop by loop."""
    n, lookback, n_channels = x.shape

    def layer(prefix, c, v):
        key = prefix if f"{prefix}.weight" in state else f"{prefix}.{c}"
        return state[f"{key}.weight"] @ v + state[f"{key}.bias"]

    out = []
    for i in range(n):
        columns = []
        for c in range(n_channels):
            v = x[i, :, c].astype(np.float64)
            if name == "linear":
                columns.append(layer("Linear", c, v))
            elif name == "nlinear":
                columns.append(layer("Linear", c, v - v[-1]) + v[-1])
            else:
                half = kernel_size // 2
                padded = np.r_[np.full(half, v[0]), v, np.full(half, v[-1])]
                trend = np.array([padded[t : t + kernel_size].mean() for t in range(lookback)])
                columns.append(
                    layer("Linear_Seasonal", c, v - trend) + layer("Linear_Trend", c, trend)
                )
        out.append(np.stack(columns, axis=1))
    return np.array(out)


# -- parity with the reference code ----------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_those_of_the_reference(name):
    x, y, state = load_golden(name)
    model = MODELS[name].from_state_dict(state)
    assert relative_error(model.predict(x), y) <= TOLERANCE
    assert relative_error(model.predict(x.astype(np.float32)).astype(np.float64), y) <= TOLERANCE
    assert relative_error(transcribed(name, state, x), y) <= TOLERANCE
    by_hand = np.einsum("hl,nlc->nhc", model.coef_, x) + model.intercept_[:, None]
    assert relative_error(by_hand, y) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("linear", "Linear.weight"),
        ("linear", "Linear.bias"),
        ("nlinear", "Linear.weight"),
        ("nlinear", "Linear.bias"),
        ("dlinear", "Linear_Seasonal.weight"),
        ("dlinear", "Linear_Seasonal.bias"),
        ("dlinear", "Linear_Trend.weight"),
        ("dlinear", "Linear_Trend.bias"),
    ],
)
def test_weights_that_move_the_output_by_ten_tolerances_are_noticed(name, key):
    x, y, state = load_golden(name)
    moved = {k: v.astype(np.float64) for k, v in state.items()}
    step = np.ones_like(moved[key])
    effect = transcribed(name, {**moved, key: moved[key] + step}, x) - transcribed(name, moved, x)
    size = np.abs(effect).max() / np.abs(y).max()
    moved[key] = moved[key] + step * (10 * TOLERANCE / size)
    error = relative_error(MODELS[name].from_state_dict(moved).predict(x), y)
    assert 5 * TOLERANCE < error < 15 * TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_another_reading_of_the_weights_is_noticed(name):
    x, y, state = load_golden(name)
    flipped = {k: v[:, ::-1] if v.ndim == 2 else v for k, v in state.items()}
    assert relative_error(MODELS[name].from_state_dict(flipped).predict(x), y) > 1e-3
    other = {"linear": NLinearForecaster, "nlinear": LinearForecaster}.get(name)
    if other is not None:
        assert relative_error(other.from_state_dict(state).predict(x), y) > 1e-3
    else:
        narrow = DLinearForecaster.from_state_dict(state, kernel_size=23)
        assert relative_error(narrow.predict(x), y) > 1e-3


# -- one layer per channel -------------------------------------------------------------------


def individual_state(state, n_channels):
    """Return the layout of the reference's ``individual`` models, from one shared layer."""
    out = {}
    for key, value in state.items():
        layer, kind = key.rsplit(".", 1)
        for c in range(n_channels):
            out[f"{layer}.{c}.{kind}"] = value
    return out


@pytest.mark.parametrize("name", MODELS)
def test_one_layer_per_channel(name):
    x, y, state = load_golden(name)
    same = individual_state(state, x.shape[2])
    model = MODELS[name].from_state_dict(same)
    assert relative_error(model.predict(x), y) <= TOLERANCE
    assert model.coef_.shape == (x.shape[2], y.shape[1], x.shape[1])
    assert model.n_channels_in_ == x.shape[2]
    rng = np.random.default_rng(0)
    own = {k: v * rng.uniform(0.5, 2.0) for k, v in same.items()}
    got = MODELS[name].from_state_dict(own).predict(x)
    assert relative_error(got, transcribed(name, own, x)) <= 1e-12
    assert relative_error(got, y) > 1e-2
    with pytest.raises(ValueError, match="channels"):
        model.predict(x[:, :, :2])


@pytest.mark.parametrize("name", MODELS)
def test_shared_layers_serve_any_number_of_channels(name):
    x, y, state = load_golden(name)
    model = MODELS[name].from_state_dict(state)
    assert np.array_equal(model.predict(x[:, :, :1]), model.predict(x)[:, :, :1])
    many = np.concatenate([x, x, x], axis=2)
    assert relative_error(model.predict(many), np.concatenate([y, y, y], axis=2)) <= TOLERANCE


# -- RLinear ---------------------------------------------------------------------------------


def random_rlinear(affine=True, individual=False, seed=0):
    rng = np.random.default_rng(seed)
    state = {}
    for name in [f"Linear.{c}" for c in range(C)] if individual else ["Linear"]:
        state[f"{name}.weight"] = rng.normal(size=(H, L)) / np.sqrt(L)
        state[f"{name}.bias"] = rng.normal(size=H)
    if affine:
        state["rev.affine_weight"] = rng.uniform(0.5, 2.0, C)
        state["rev.affine_bias"] = rng.normal(size=C)
    return state


def rlinear_by_hand(state, x):
    """Reversible normalization, linear layer, and back, on windows (n, L, C)."""
    mean = x.mean(axis=1, keepdims=True)
    spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    z = (x - mean) / spread
    gamma = state.get("rev.affine_weight", np.ones(x.shape[2]))
    beta = state.get("rev.affine_bias", np.zeros(x.shape[2]))
    affine = "rev.affine_weight" in state
    if affine:
        z = z * gamma + beta
    out = np.empty((len(x), H, x.shape[2]))
    for c in range(x.shape[2]):
        key = "Linear" if "Linear.weight" in state else f"Linear.{c}"
        out[:, :, c] = z[:, :, c] @ state[f"{key}.weight"].T + state[f"{key}.bias"]
    if affine:
        out = (out - beta) / (gamma + 1e-10)
    return out * spread + mean


def windows(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(9, L, C)) * [1.0, 10.0, 0.1] + [0.0, 100.0, -3.0]


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("individual", [False, True])
def test_rlinear_is_the_transcription(affine, individual):
    x = windows()
    x[3] = x[3, :1]  # a constant window: only epsilon keeps its scale positive
    for seed in range(5):
        state = random_rlinear(affine, individual, seed)
        got = RLinearForecaster.from_state_dict(state).predict(x)
        for c in range(C):
            expected = rlinear_by_hand(state, x)[:, :, c]
            assert relative_error(got[:, :, c], expected) <= 1e-10


@pytest.mark.parametrize("gamma", [-1.3, -1e-3, 1e-3, 1e-6, 1e-9, -1e-9, 3e-10])
def test_rlinear_with_small_and_negative_gains(gamma):
    x, state = windows(), random_rlinear()
    state["rev.affine_weight"][1] = gamma
    got = RLinearForecaster.from_state_dict(state).predict(x)
    expected = rlinear_by_hand(state, x)
    for c in range(C):
        assert relative_error(got[:, :, c], expected[:, :, c]) <= 1e-6


@pytest.mark.parametrize("key", list(random_rlinear()))
def test_rlinear_weights_that_move_the_output_by_ten_tolerances_are_noticed(key):
    x, state = windows(), random_rlinear()
    expected = rlinear_by_hand(state, x)
    step = np.zeros_like(state[key])
    step.flat[-1] = 1e-3
    effect = rlinear_by_hand({**state, key: state[key] + step}, x) - expected
    step *= 10 * TOLERANCE * np.abs(expected).max() / np.abs(effect).max()
    got = RLinearForecaster.from_state_dict({**state, key: state[key] + step}).predict(x)
    assert 5 * TOLERANCE < relative_error(got, expected) < 15 * TOLERANCE


def test_a_gain_that_makes_the_reference_divide_by_zero_is_refused():
    state = random_rlinear()
    state["rev.affine_weight"][0] = -(1e-5**2)  # the reference adds the square of its epsilon
    with pytest.raises(ValueError, match="divide by zero"):
        RLinearForecaster.from_state_dict(state)


def test_affine_parameters_of_one_layer_make_a_model_of_that_many_channels():
    model = RLinearForecaster.from_state_dict(random_rlinear())
    assert model.n_channels_in_ == C
    with pytest.raises(ValueError, match="channels"):
        model.predict(windows()[:, :, :2])


# -- what a state dict may hold --------------------------------------------------------------


class Tensor:
    """What a tensor of a deep-learning library looks like from outside."""

    def __init__(self, values):
        self._values = values

    def detach(self):
        return _Detached(self._values)

    def __array__(self, *args, **kwargs):
        raise RuntimeError("can't convert a tensor that requires grad")


class _Detached:
    def __init__(self, values):
        self._values = values

    def cpu(self):
        return _OnHost(self._values)

    def __array__(self, *args, **kwargs):
        raise TypeError("can't convert a device tensor")


class _OnHost:
    def __init__(self, values):
        self._values = values

    def numpy(self):
        return self._values


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_read_like_arrays(name):
    x, _, state = load_golden(name)
    tensors = {key: Tensor(value) for key, value in state.items()}
    expected = MODELS[name].from_state_dict(state).predict(x)
    assert np.array_equal(MODELS[name].from_state_dict(tensors).predict(x), expected)


def test_tensors_of_rlinear_are_read_like_arrays():
    state = random_rlinear()
    tensors = {key: Tensor(value) for key, value in state.items()}
    expected = RLinearForecaster.from_state_dict(state).predict(windows())
    assert np.array_equal(RLinearForecaster.from_state_dict(tensors).predict(windows()), expected)


ALL = {**MODELS, "rlinear": RLinearForecaster}


def some_state(name):
    return random_rlinear() if name == "rlinear" else load_golden(name)[2]


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in ALL for key in some_state(name) if key.endswith("weight")],
)
def test_a_missing_weight_gets_a_sentence(name, key):
    state = some_state(name)
    del state[key]
    if key == "rev.affine_weight":
        key = "affine"
    with pytest.raises(ValueError, match=key.removesuffix(".weight")):
        ALL[name].from_state_dict(state)


def test_a_missing_affine_bias_gets_a_sentence():
    state = random_rlinear()
    del state["rev.affine_bias"]
    with pytest.raises(ValueError, match="affine"):
        RLinearForecaster.from_state_dict(state)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_state_dict_gets_a_sentence(name):
    with pytest.raises(ValueError, match=r"the state dict has neither .* It holds nothing\."):
        ALL[name].from_state_dict({})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("change", ["bias", "flat", "cube", "layers"])
def test_tensors_of_other_shapes_get_a_sentence(name, change):
    state = some_state(name)
    weight = next(key for key in state if key.endswith("weight"))
    layer = weight.removesuffix(".weight")
    if change == "bias":
        state[f"{layer}.bias"] = state[f"{layer}.bias"][:-1]
    elif change == "flat":
        state[weight] = state[weight][0]
    elif change == "cube":
        state[weight] = state[weight][None]
    else:
        state = individual_state({k: v for k, v in state.items() if "rev" not in k}, 2)
        state[f"{layer}.1.weight"] = state[f"{layer}.1.weight"][:, 1:]
    with pytest.raises(ValueError, match="must have"):
        ALL[name].from_state_dict(state)


def test_branches_of_two_shapes_get_a_sentence():
    state = dict(load_golden("dlinear")[2])
    state["Linear_Trend.weight"] = state["Linear_Trend.weight"][:, 1:]
    with pytest.raises(ValueError, match="one shape"):
        DLinearForecaster.from_state_dict(state)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_get_a_sentence(name, bad):
    for key in some_state(name):
        state = {k: np.array(v, dtype=np.float64) for k, v in some_state(name).items()}
        state[key].flat[0] = bad
        with pytest.raises(ValueError, match="not finite"):
            ALL[name].from_state_dict(state)


@pytest.mark.parametrize("shapes", [(C, C - 1), (C + 1, C), (C - 1, C - 1)])
def test_affine_parameters_of_other_lengths_get_a_sentence(shapes):
    state = random_rlinear(individual=True)
    state["rev.affine_weight"] = np.ones(shapes[0])
    state["rev.affine_bias"] = np.ones(shapes[1])
    with pytest.raises(ValueError, match="affine"):
        RLinearForecaster.from_state_dict(state)


@pytest.mark.parametrize("name", ALL)
def test_imported_models_have_no_intervals_and_say_so(name):
    model = ALL[name].from_state_dict(some_state(name))
    x = np.zeros((2, model.lookback_, C))
    with pytest.raises(ValueError, match="no training residuals"):
        model.predict_interval(x)
    with pytest.raises(ValueError, match="no sums to add to"):
        model.partial_fit(np.random.default_rng(0).normal(size=(200, C)))
    context = np.random.default_rng(0).normal(size=(model.lookback_ + 5, C))
    assert model.predict(context).shape == (model.horizon_, C)
    assert (
        relative_error(
            model.predict(context)[None], model.predict(context[None, -model.lookback_ :])
        )
        <= 1e-12
    )
