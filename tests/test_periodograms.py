"""The router on whole periodograms: the same gate in fewer bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlin.layers import Layer
from mixlin.mixture import Mixture, predict_windows
from mixlin.normalization import Normalization
from mixlin.periodograms import normalized_periodogram
from mixlin.routing import (
    Gate,
    PeriodogramRouter,
    ValuesRouter,
    long_spectral_weight,
    router_from_config,
    short_spectral_layer,
)

from .superlinear_cases import periodogram

FORMS = [
    (512, 5000),
    (64, 500),
    (33, 101),
    (7, 5000),
    (2, 4),
    (512, 1024),
    (512, 1023),
    (512, 1200),
]
CUT = [(32, 40), (50, 30), (50, 31), (1, 8)]  # no room for all lags


def make_windows(lookback, n=6, seed=0):
    rng = np.random.default_rng(seed)
    season = np.sin(rng.uniform(0.01, 3, (n, 2, 1)) * np.arange(lookback))
    windows = season + rng.normal(size=(n, 2, lookback)) * rng.uniform(0, 0.3, (n, 2, 1))
    return (windows + 50 * rng.normal(size=(n, 2, 1))) * 10.0 ** rng.integers(-6, 7, (n, 2, 1))


def long_form(windows, n):
    """Return normalized periodograms by whole complex transforms."""
    z = windows - windows.mean(axis=-1, keepdims=True)
    power = np.abs(np.fft.fft(z, n, axis=-1)[..., : n // 2]) ** 2 / n
    total = power.sum(axis=-1, keepdims=True)
    return power / np.where(total > 0, total, 1.0)


@pytest.mark.parametrize(("lookback", "padded"), FORMS + CUT)
def test_logits_are_those_of_the_long_form(lookback, padded):
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(5, padded // 2)), rng.normal(size=5)
    windows = make_windows(lookback)
    layer = short_spectral_layer(weight, bias, lookback, padded)
    features = PeriodogramRouter(padded).features(windows, None, 4)
    assert features.shape == (6, 2, layer.weight.shape[1])
    got = features @ layer.weight[0] + layer.bias[0]
    expected = long_form(windows, padded) @ weight.T + bias
    assert np.abs(got - expected).max() <= 1e-12
    moved = short_spectral_layer(np.roll(weight, 1, axis=1), bias, lookback, padded)
    if lookback > 2:
        assert np.abs(features @ moved.weight[0] + moved.bias[0] - expected).max() > 1e-3


@pytest.mark.parametrize(("lookback", "padded"), FORMS)
def test_features_are_a_fraction_of_the_bins(lookback, padded):
    n_features = PeriodogramRouter(padded).features(make_windows(lookback), None, 1).shape[2]
    assert n_features <= min(padded // 2, 1.2 * lookback + 4)


@pytest.mark.parametrize(("lookback", "padded"), FORMS + CUT)
def test_features_sum_to_one_over_the_padded_bins(lookback, padded):
    ones = short_spectral_layer(np.ones((1, padded // 2)), np.zeros(1), lookback, padded)
    features = PeriodogramRouter(padded).features(make_windows(lookback), None, 1)
    total = (features @ ones.weight[0])[..., 0]
    assert np.abs(total - (lookback > 1)).max() <= 1e-12


@pytest.mark.parametrize("level", [0.0, 1.0, 0.1, -1e9, 1e90])
def test_a_constant_window_has_zeros_for_features(level):
    windows = np.full((2, 1, 60), level)
    assert not PeriodogramRouter(500).features(windows, None, 1).any()
    assert not normalized_periodogram(windows[:, 0], 500).any()


def test_a_window_that_hardly_moves_is_none_of_the_constant_ones():
    windows = 1e6 + 1e-3 * np.sin(np.arange(60.0))[None, None]
    moved = PeriodogramRouter(500).features(windows, None, 1)
    expected = PeriodogramRouter(500).features(np.sin(np.arange(60.0))[None, None], None, 1)
    assert np.abs(moved - expected).max() <= 1e-5 * expected.max()


def test_features_do_not_depend_on_other_windows():
    windows = make_windows(64, n=200)
    router = PeriodogramRouter(500)
    together = router.features(windows, None, 1)
    for i in (0, 63, 64, 130, 199):
        alone = router.features(windows[i : i + 1], None, 1)[0]
        assert np.abs(alone - together[i]).max() <= 1e-14 * together[i].max()
    assert router.features(windows[:0], None, 1).shape == (0, 2, together.shape[2])


@given(
    shift=st.floats(-1e3, 1e3),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
)
def test_features_do_not_depend_on_level_and_unit(shift, scale, seed):
    windows = np.random.default_rng(seed).normal(size=(2, 1, 30))
    router = PeriodogramRouter(200)
    moved = router.features(windows * scale + shift * scale, None, 1)
    assert np.abs(moved - router.features(windows, None, 1)).max() <= 1e-9


def test_the_normalized_periodogram_is_the_transcription_s():
    for length, padded in ((12, 50), (50, 20), (51, 21)):
        rows = make_windows(length, n=4)[:, 0]
        got = normalized_periodogram(rows, padded)
        assert got.shape == (4, padded // 2)
        for row, found in zip(rows, got, strict=True):
            assert np.abs(found - periodogram(row.tolist(), padded)).max() <= 1e-12


@pytest.mark.parametrize(("lookback", "padded"), FORMS + CUT)
def test_a_layer_has_a_weight_on_the_padded_bins_that_gives_it_back(lookback, padded):
    rng = np.random.default_rng(2)
    n_features = PeriodogramRouter(padded).features(make_windows(lookback), None, 1).shape[2]
    # a layer that no padded weight need have made, as training leaves it
    layer = Layer(rng.normal(size=(1, n_features, 3)), rng.normal(size=(1, 3)))
    weight = long_spectral_weight(layer, lookback, padded)
    assert weight.shape == (3, padded // 2)
    windows = make_windows(lookback)
    features = PeriodogramRouter(padded).features(windows, None, 1)
    again = short_spectral_layer(weight, layer.bias[0], lookback, padded)
    assert np.abs(features @ again.weight - features @ layer.weight).max() <= 1e-10
    assert np.abs(long_form(windows, padded) @ weight.T - features @ layer.weight[0]).max() <= 1e-10


def test_weights_of_another_number_of_bins_get_a_sentence():
    with pytest.raises(ValueError, match=r"must be \(n_experts, 50\), one column per bin"):
        short_spectral_layer(np.zeros((3, 49)), np.zeros(3), 20, 100)
    with pytest.raises(ValueError, match="must be"):
        short_spectral_layer(np.zeros(50), np.zeros(3), 20, 100)


@pytest.mark.parametrize("bad", [1, 0, -5, 2.5, True, None])
def test_a_padded_length_out_of_range_gets_a_sentence(bad):
    with pytest.raises(ValueError, match="padded_length of PeriodogramRouter must be an integer"):
        PeriodogramRouter(bad).check()
    PeriodogramRouter(2).check()


def test_routers_are_known_by_name():
    made = router_from_config("PeriodogramRouter", PeriodogramRouter(300, hidden=3).config())
    assert (made.padded_length, made.hidden) == (300, 3)
    assert isinstance(router_from_config("ValuesRouter", {}), ValuesRouter)


@pytest.mark.parametrize("router", [PeriodogramRouter(120), ValuesRouter()])
def test_a_mixture_is_gated_on_every_engine(engine, router):
    rng = np.random.default_rng(3)
    lookback, n_experts = 24, 4
    windows = engine.holds(rng.normal(size=(7, 2, lookback)))
    n_features = router.features(windows, None, 1).shape[2]
    layer = Layer(rng.normal(size=(1, n_features, n_experts)), rng.normal(size=(1, n_experts)))
    mixture = Mixture(
        engine.holds(rng.normal(size=(1, n_experts, lookback, 5)) / 5),
        normalization=Normalization("mean"),
        gate=Gate(router, (layer,)),
    )
    expected = predict_windows(mixture, windows)
    got = predict_windows(mixture, windows, engine.backend)
    assert np.abs(got - expected).max() <= engine.forward * np.abs(expected).max()
