"""Contexts of any length for any horizon: on time, as many blocks as needed, and no more."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixlin.mixture.rollout as rollout_module
from mixlin.backends import resolve
from mixlin.layers import Layer
from mixlin.mixture import Mixture, Rollout, forward, predict_windows, rollout_forecast
from mixlin.normalization import Normalization
from mixlin.pretrained import read_superlinear
from mixlin.routing import CalendarRouter, Evidence, Gate, PeriodogramRouter

from .superlinear_cases import make_config, make_series, make_state

L, H, PADDED = 24, 6, 100
FREE = {"threshold": 0.0, "padded_length": PADDED}  # of all scales, the one that is best
CLEAN, OFFICIAL = Rollout(**FREE), Rollout("official", **FREE)
BOTH = pytest.mark.parametrize("rollout", [CLEAN, OFFICIAL], ids=["clean", "official"])


def make_model(compat="clean", seed=0, **changes):
    config = make_config(threshold=0.0, penalty_scale=0.3, **changes)
    return read_superlinear(make_state(config, seed), config, compat=compat)


def trend_block(lookback=L, horizon=H):
    """Return a block that goes on as its last two values went, whatever its gate says."""
    weights = np.zeros((1, 2, lookback, horizon))
    weights[:, :, -1] = 1.0
    weights[:, :, -1] += np.arange(1, horizon + 1)
    weights[:, :, -2] = -np.arange(1.0, horizon + 1)
    rng = np.random.default_rng(0)
    layer = Layer(rng.normal(size=(1, n_bins(lookback), 2)))
    return Mixture(
        weights,
        normalization=Normalization("mean"),
        gate=Gate(PeriodogramRouter(PADDED), (layer,)),
    )


def n_bins(lookback):
    return PeriodogramRouter(PADDED).features(np.zeros((1, 1, lookback)), None, 1).shape[2]


def always(scale, **changes):
    """Return a rollout that takes a scale wherever the context is long enough."""
    known = {"scales": (scale,), "threshold": 0.0, "penalty_scale": -1e9, "padded_length": PADDED}
    return Rollout(**{**known, **changes})


def ramp(length):
    return np.arange(1.0, length + 1)[None, None]


# -- on time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 5, 8, 11, 12, 13, 17, 23, 24])
@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_a_ramp_in_a_short_context_goes_on(length, horizon):
    rollout = dataclasses.replace(CLEAN, clamp=False)
    found = rollout_forecast(trend_block(), rollout, ramp(length), horizon)
    assert np.abs(found.forecast[0, 0] - length - np.arange(1, horizon + 1)).max() < 1e-9
    assert found.scale[0, 0] == pytest.approx(1 / -(-L // length))


def test_the_published_way_does_not_continue_it_from_an_even_stretch():
    rollout = dataclasses.replace(OFFICIAL, clamp=False)
    found = rollout_forecast(trend_block(), rollout, ramp(12), 5).forecast
    assert np.abs(found[0, 0] - 12 - np.arange(1, 6)).max() > 0.2


@pytest.mark.parametrize("anti_alias", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4, 6])
@pytest.mark.parametrize("length", [144, 150, 201])
@pytest.mark.parametrize("horizon", [1, 3, 17, 60])
def test_a_ramp_in_a_thinned_context_comes_back_on_time(scale, length, horizon, anti_alias):
    rollout = always(scale, clamp=False, anti_alias=anti_alias)
    found = rollout_forecast(trend_block(), rollout, ramp(length), horizon)
    assert found.scale[0, 0] == scale
    assert np.abs(found.forecast[0, 0] - length - np.arange(1, horizon + 1)).max() < 1e-8


def test_a_scale_that_is_no_whole_number_is_on_time():
    found = rollout_forecast(trend_block(), always(2.5, clamp=False), ramp(100), 11)
    assert found.scale[0, 0] == 2.5
    assert np.abs(found.forecast[0, 0] - 100 - np.arange(1, 12)).max() < 1e-9


@pytest.mark.parametrize("scale", [2, 4])
def test_the_published_way_leads_by_a_step_less_than_the_scale(scale):
    rollout = always(scale, compat="official", clamp=False)
    found = rollout_forecast(trend_block(), rollout, ramp(144), 30).forecast[0, 0]
    ahead = found - 144 - np.arange(1, 31)
    assert ahead[0] == pytest.approx(scale - 1, abs=0.1)
    assert (ahead > 0.3 * (scale - 1)).all()


def test_the_mean_of_what_is_thinned_out_is_kept_with_anti_alias():
    noise = np.random.default_rng(0).normal(size=(500, 1, 120))
    block, found = trend_block(), {}
    for anti_alias in (False, True):
        rollout = always(4, anti_alias=anti_alias, clamp=False)
        found[anti_alias] = rollout_forecast(block, rollout, noise, 24).forecast
    assert found[True][:, :, -1].std() == pytest.approx(found[False][:, :, -1].std() / 2, rel=0.2)


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compat", ["clean", "official"])
def test_every_short_length_gives_every_step(compat):
    config = make_config(train_seq_len=64, train_pred_len=16, fft_len=500)
    model = read_superlinear(make_state(config), config, compat=compat)
    for length in range(4, 65):
        x = make_series(2, length, seed=length)
        for horizon in (1, 16, 23):
            found = rollout_forecast(model.block, model.rollout, x, horizon)
            assert found.forecast.shape == (2, 2, horizon)
            assert found.gates.shape == (2, 2, 6)
            assert found.scale.shape == (2, 2)
            assert np.isfinite(found.forecast).all()


@pytest.mark.parametrize("length", [49, 98, 103, 107, 161, 187])
def test_lengths_at_which_the_published_way_loses_a_step(length):
    block = trend_block(lookback=length)
    found = rollout_forecast(block, OFFICIAL, np.ones((1, 1, 1)), 1)
    assert found.forecast.tolist() == [[[1.0]]]


def test_a_context_of_one_value_is_a_constant():
    model = make_model()
    for rollout in (CLEAN, OFFICIAL):
        found = rollout_forecast(model.block, rollout, np.full((1, 1, 1), 4.0), 9).forecast
        assert np.abs(found - 4.0).max() < 1e-9


@BOTH
def test_no_windows_give_no_forecasts(rollout):
    block = make_model().block
    for length in (5, L, 100):
        found = rollout_forecast(block, rollout, np.empty((0, 3, length)), 9)
        assert found.forecast.shape == (0, 3, 9)
        assert found.gates.shape == (0, 3, 6)
        assert found.scale.shape == (0, 3)


@BOTH
def test_a_long_horizon_stays_finite(rollout):
    found = rollout_forecast(make_model().block, rollout, make_series(2, 30), 3000).forecast
    assert found.shape == (2, 2, 3000)
    assert np.isfinite(found).all()


# -- how much is computed ------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch):
    """Count windows times blocks that are forecast."""
    sizes = []

    def counting(block, windows, *args, **kwargs):
        sizes.append(len(windows))
        return predict_windows(block, windows, *args, **kwargs)

    monkeypatch.setattr(rollout_module, "predict_windows", counting)
    return sizes


@BOTH
@pytest.mark.parametrize(
    ("horizon", "blocks"), [(1, 1), (6, 1), (7, 2), (12, 2), (13, 3), (60, 10)]
)
def test_no_block_is_computed_for_nothing(rollout, horizon, blocks, computed):
    rollout_forecast(make_model().block, rollout, make_series(2, L), horizon)
    assert len(computed) == blocks


@BOTH
def test_short_contexts_need_as_many_blocks_as_they_are_stretched(rollout, computed):
    rollout_forecast(make_model().block, rollout, make_series(2, 8), 6)
    assert len(computed) == 3


@pytest.mark.parametrize(("scale", "blocks"), [(2, 5), (4, 3), (6, 2)])
def test_thinned_contexts_need_fewer(scale, blocks, computed):
    x = make_series(3, 200)[1:]
    rollout_forecast(trend_block(), always(scale), x, 60)
    assert len(computed) == blocks
    computed.clear()
    rollout_forecast(trend_block(), always(scale, compat="official"), x, 60)
    assert len(computed) == 10


def test_every_scale_computes_its_own_number_of_blocks(computed):
    model = make_model()
    scale = rollout_forecast(model.block, model.rollout, make_series(20, 130), 24).scale
    assert set(np.unique(scale)) == {1.0, 2.0, 4.0}
    assert sum(computed) == sum(-(-24 // (H * int(s))) for s in scale.ravel())


# -- which values count --------------------------------------------------------------------------


def with_other_past(x, kept):
    """Replace all but the newest values."""
    other = x.copy()
    other[:, :, :-kept] = np.random.default_rng(9).normal(size=other[:, :, :-kept].shape) * 7
    return other


@BOTH
def test_without_resampling_the_newest_window_is_all_that_counts(rollout):
    rollout = dataclasses.replace(rollout, resampling=False)
    block, x = make_model().block, make_series(4, 130)
    found = rollout_forecast(block, rollout, x, 20)
    assert np.array_equal(
        rollout_forecast(block, rollout, x[:, :, -L:], 20).forecast, found.forecast
    )
    older = rollout_forecast(block, rollout, with_other_past(x, L), 20)
    assert np.array_equal(older.forecast, found.forecast)
    assert (found.scale == 1).all()


def test_long_contexts_use_the_newest_values():
    model = make_model(seed=1)
    x = make_series(20, 400)
    found = rollout_forecast(model.block, CLEAN, x, 20)
    other = with_other_past(x, 6 * L)
    assert np.array_equal(rollout_forecast(model.block, CLEAN, other, 20).forecast, found.forecast)
    assert len(np.unique(found.scale)) > 1
    before = rollout_forecast(model.block, OFFICIAL, x, 20)
    after = rollout_forecast(model.block, OFFICIAL, other, 20)
    assert not np.array_equal(after.scale, before.scale)


@pytest.mark.parametrize(
    ("rollout", "most"),
    [
        (CLEAN, 6 * L),
        (dataclasses.replace(CLEAN, scales=(1.5,)), PADDED),
        (dataclasses.replace(CLEAN, scales=(0.5, 1.0)), L),
        (dataclasses.replace(CLEAN, resampling=False), L),
        (dataclasses.replace(OFFICIAL, resampling=False), L),
        (OFFICIAL, None),
    ],
)
def test_a_rollout_knows_how_much_it_reads(rollout, most):
    assert rollout.most_read(L) == most
    model, x = make_model(seed=1), make_series(20, 400)
    found = rollout_forecast(model.block, rollout, x, 20)
    if most is not None:
        shorter = rollout_forecast(model.block, rollout, x[:, :, -most:], 20)
        assert np.array_equal(shorter.forecast, found.forecast)
    for fewer in (399,) if most is None else (L - 1,):
        shorter = rollout_forecast(model.block, rollout, x[:, :, -fewer:], 20)
        assert not np.array_equal(shorter.forecast, found.forecast)


def test_a_scale_needs_a_whole_window():
    for length, taken in ((4 * L - 1, 1.0), (4 * L, 4.0)):
        for compat in ("clean", "official"):
            rollout = always(4, compat=compat)
            assert rollout_forecast(trend_block(), rollout, ramp(length), 5).scale[0, 0] == taken


def test_scales_stay_below_the_frequencies_that_matter():
    t = np.arange(200)
    for period, most in ((4, 1), (10, 2), (20, 4), (60, 6)):
        x = np.sin(2 * np.pi * t / period)[None, None]
        rollout = always(6, scales=(2, 3, 4, 5, 6), threshold=0.2, padded_length=1000)
        assert rollout_forecast(trend_block(), rollout, x, 5).scale[0, 0] <= most


# -- units ---------------------------------------------------------------------------------------


@given(
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-100.0, 100.0),
    length=st.sampled_from([1, 2, 7, 23, 24, 25, 60, 130]),
    horizon=st.sampled_from([1, 6, 14]),
    seed=st.integers(0, 20),
)
def test_forecasts_move_and_scale_with_the_series(scale, shift, length, horizon, seed):
    x = np.random.default_rng(seed).normal(size=(2, 1, length)).cumsum(axis=2)
    model = make_model()
    found = rollout_forecast(model.block, model.rollout, x, horizon)
    moved = rollout_forecast(model.block, model.rollout, scale * (x + shift), horizon)
    assert np.array_equal(moved.scale, found.scale)
    unit = scale * (np.abs(x).max() + abs(shift) + 1)
    error = np.abs(moved.forecast - scale * (found.forecast + shift)).max()
    assert error <= 1e-8 * unit


def test_the_published_way_does_not_scale_with_a_series_of_small_values():
    model, x = make_model("official"), make_series(2, L)[1:] * 1e-5
    found = rollout_forecast(model.block, model.rollout, x, 6).forecast
    moved = rollout_forecast(model.block, model.rollout, 1e6 * x, 6).forecast
    assert np.abs(moved - 1e6 * found).max() > 1e-3 * np.abs(moved).max()


def test_a_constant_is_forecast_as_it_is():
    for length in (1, 5, L, 130):
        x = np.full((2, 1, length), -7.25)
        found = rollout_forecast(make_model().block, CLEAN, x, 20)
        assert np.abs(found.forecast + 7.25).max() < 1e-9
        assert (found.scale == min(1, length / L)).all() or length == 5


# -- the clamp -----------------------------------------------------------------------------------


@BOTH
def test_blocks_after_the_first_spread_no_wider_than_their_window(rollout):
    wide = make_model(seed=3).block
    wide = dataclasses.replace(wide, weights=6 * wide.weights)
    x = make_series(6, L, seed=1)[1:]
    clamped = rollout_forecast(wide, rollout, x, 10 * H).forecast
    free = rollout_forecast(wide, dataclasses.replace(rollout, clamp=False), x, 10 * H).forecast
    assert np.array_equal(free[:, :, :H], clamped[:, :, :H])
    path = np.concatenate([x, clamped], axis=2)
    for start in range(H, 10 * H, H):
        spread = path[:, :, L + start : L + start + H].std(axis=2, ddof=1)
        before = path[:, :, start : start + L].std(axis=2, ddof=1)
        assert (spread <= before * (1 + 1e-9)).all()
    assert np.abs(free[:, :, -H:]).max() > 10 * np.abs(clamped[:, :, -H:]).max()


def test_a_block_of_one_step_has_no_spread():
    model = make_model(train_pred_len=1)
    assert np.isfinite(rollout_forecast(model.block, CLEAN, make_series(2, L), 9).forecast).all()


# -- what else is returned -----------------------------------------------------------------------


def test_gates_are_those_of_the_first_block():
    model = make_model()
    x = make_series(5, L)
    parts = forward(model.block, resolve("numpy"), x, parts=True)
    found = rollout_forecast(model.block, CLEAN, x, 20)
    assert np.abs(found.gates - parts.gates).max() < 1e-12
    assert np.abs(found.gates.sum(axis=2) - 1).max() < 1e-12
    assert ((found.gates > 0).sum(axis=2) == 3).all()
    assert np.abs(found.forecast[:, :, :H] - parts.forecast).max() < 1e-9
    for length in (7, 130):
        gates = rollout_forecast(model.block, CLEAN, make_series(5, length), 3).gates
        assert np.abs(gates.sum(axis=2) - 1).max() < 1e-12
        assert ((gates > 0).sum(axis=2) <= 3).all()


@BOTH
def test_gates_are_left_out_where_nobody_asks(rollout):
    model = make_model()
    for length in (7, L, 130):
        x = make_series(3, length)
        found = rollout_forecast(model.block, rollout, x, 9, gates=False)
        assert found.gates is None
        with_gates = rollout_forecast(model.block, rollout, x, 9)
        assert np.array_equal(found.forecast, with_gates.forecast)


def test_a_block_of_one_expert_needs_no_gate():
    weights = trend_block().weights[:, :1]
    block = Mixture(weights, normalization=Normalization("mean"))
    found = rollout_forecast(block, CLEAN, ramp(130), 9)
    assert found.gates.tolist() == [[[1.0]]]
    assert found.scale[0, 0] == 1
    assert np.abs(found.forecast[0, 0] - 130 - np.arange(1, 10)).max() < 1e-9


# -- rows ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("length", [7, L, 130])
def test_forecasts_do_not_depend_on_other_windows(rollout, length, monkeypatch):
    block, x = make_model().block, make_series(9, length)
    together = rollout_forecast(block, rollout, x, 20)
    for i in (0, 4, 8):
        alone = rollout_forecast(block, rollout, x[i : i + 1], 20)
        assert np.array_equal(alone.scale, together.scale[i : i + 1])
        unit = np.abs(together.forecast[i]).max()
        assert np.abs(alone.forecast[0] - together.forecast[i]).max() <= 1e-9 * unit
        assert np.abs(alone.gates[0] - together.gates[i]).max() <= 1e-12
    monkeypatch.setattr(rollout_module, "_BLOCK_ELEMENTS", 500)
    in_blocks = rollout_forecast(block, rollout, x, 20)
    unit = np.abs(together.forecast).max()
    assert np.abs(in_blocks.forecast - together.forecast).max() <= 1e-9 * unit


@BOTH
def test_windows_of_any_layout_are_left_as_they_are(rollout):
    block = make_model().block
    for length in (7, L, 130):
        x = make_series(3, length)
        expected = rollout_forecast(block, rollout, x, 20).forecast
        for given_ in (x.transpose(2, 1, 0).copy().transpose(2, 1, 0), x.astype(np.float32)):
            given_.flags.writeable = False
            found = rollout_forecast(block, rollout, given_, 20).forecast
            if given_.dtype == np.float64:
                assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
            assert found.dtype == np.float64


@BOTH
@pytest.mark.parametrize(("length", "horizon"), [(7, 3), (L, 6), (L, 14), (130, 9)])
def test_contexts_are_rolled_out_on_every_engine(engine, rollout, length, horizon):
    model = make_model(seed=2, top_k_experts=6)  # all: engines may differ in who comes last
    x = engine.holds(make_series(3, length)[1:])
    expected = rollout_forecast(model.block, rollout, x, horizon)
    found = rollout_forecast(model.block, rollout, x, horizon, engine.backend)
    assert np.array_equal(found.scale, expected.scale)
    assert np.abs(found.gates - expected.gates).max() <= 10 * engine.forward
    spread = x.std(axis=2, keepdims=True).max(axis=1, keepdims=True)
    assert (np.abs(found.forecast - expected.forecast) / spread).max() <= 4 * engine.forward


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 24), (24,), (2, 0, 24), (2, 1, 0), (1, 1, 1, 24)])
def test_windows_of_another_form_get_a_sentence(shape):
    with pytest.raises(ValueError, match=r"windows must be \(n_windows, n_channels, n_steps\)"):
        rollout_forecast(make_model().block, CLEAN, np.zeros(shape), 3)


@pytest.mark.parametrize("horizon", [0, -1, 2.0, "3", True, None])
def test_a_horizon_that_is_none_gets_a_sentence(horizon):
    with pytest.raises(ValueError, match="horizon must be an integer of at least 1; got"):
        rollout_forecast(make_model().block, CLEAN, np.zeros((1, 1, L)), horizon)


def test_blocks_that_read_more_than_the_window_get_a_sentence():
    block = trend_block()
    groups = dataclasses.replace(block, weights=np.repeat(block.weights, 2, axis=0))
    extra = dataclasses.replace(block, extra_coef=np.zeros((1, 1, H)))
    for other in (groups, extra):
        with pytest.raises(ValueError, match="serves any channel and reads nothing but the window"):
            rollout_forecast(other, CLEAN, np.zeros((1, 2, L)), 3)
    evidence = (Evidence("energy", np.zeros((2, L, 3)), 1.0),)
    gates = [Gate(CalendarRouter(), block.gate.layers)]
    gates += [dataclasses.replace(block.gate, evidence=evidence)]
    for gate in gates:
        with pytest.raises(ValueError, match="gate of a block that is rolled out reads the window"):
            rollout_forecast(dataclasses.replace(block, gate=gate), CLEAN, np.zeros((1, 2, L)), 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compat": "exact"}, r"compat must be one of \('clean', 'official'\); got 'exact'"),
        ({"scales": (2, 0)}, "scales must be positive"),
        ({"scales": (2, np.inf)}, "scales must be positive"),
        ({"threshold": 1.0}, "threshold must be at least 0 and less than 1; got 1.0"),
        ({"threshold": -0.1}, "threshold must be"),
        ({"freq_bound": 0.0}, "freq_bound must be a positive number"),
        ({"penalty_scale": np.nan}, "penalty_scale must be a finite number"),
        ({"padded_length": 3}, "padded_length must be at least 4"),
        ({"anti_alias": True, "compat": "official"}, "anti_alias takes means"),
        ({"anti_alias": True, "scales": (2.5,)}, "anti_alias takes means"),
    ],
)
def test_settings_out_of_range_get_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Rollout(**changes)
