"""The level and scale of windows against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.normalization import LEVELS, NORMALIZATIONS, Normalization, named_normalization

N, C, L = 6, 3, 11
EXTENDED = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


def make_windows(seed=0, level=0.0):
    rng = np.random.default_rng(seed)
    return level + rng.normal(size=(N, C, 1)) + np.cumsum(rng.normal(size=(N, C, L)), axis=2)


def definition(rule, windows, reference):
    """Compute level, measured windows and scale in extended precision, one window at a time."""
    x = windows.astype(np.longdouble)
    level, scale = np.zeros((2, len(x), x.shape[1]), dtype=np.longdouble)
    for i, c in np.ndindex(level.shape):
        row, m = x[i, c], np.longdouble(reference[c if len(reference) > 1 else 0])
        level[i, c] = {"none": m, "last": row[-1], "mean": row.mean()}[rule.level]
        variance = ((row - row.mean()) ** 2).sum() / max(1, len(row) - rule.ddof)
        eps = rule.eps if np.ndim(rule.eps) == 0 else rule.eps[c]
        inside = np.sqrt(variance + np.longdouble(eps))
        scale[i, c] = inside if rule.eps_inside else np.sqrt(variance) + np.longdouble(eps)
    return x - level[:, :, None], level, scale if rule.scaled else None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("eps", [1e-5, np.array([0.0, 1e-3, 2.0])], ids=["one", "per channel"])
@pytest.mark.parametrize("eps_inside", [True, False])
@pytest.mark.parametrize("reference", [np.array([0.5]), np.array([0.0, 1.0, -2.0])])
def test_level_and_scale_are_what_they_are_called(level, ddof, eps, eps_inside, reference):
    rule = Normalization(level, scaled=True, eps=eps, ddof=ddof, eps_inside=eps_inside)
    windows = make_windows()
    centered, taken, scale = rule.measure(windows, reference)
    expected = definition(rule, windows, reference)
    assert np.abs(centered - expected[0]).max() < 1e-14
    assert np.abs(np.broadcast_to(taken, (N, C)) - expected[1]).max() < 1e-14
    assert np.abs(scale / expected[2] - 1).max() < 1e-14


def test_eps_and_ddof_matter():
    windows = make_windows()
    kinds = [
        Normalization("mean", scaled=True, eps=1e-2, ddof=ddof, eps_inside=inside)
        for ddof in (0, 1)
        for inside in (True, False)
    ]
    scales = [kind.measure(windows, np.zeros(1))[2] for kind in kinds]
    for i, one in enumerate(scales):
        for other in scales[:i]:
            assert np.abs(one - other).min() > 1e-4


@pytest.mark.skipif(not EXTENDED, reason="this platform has no extended precision")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("reference", [0.0, 1e6])
def test_nothing_is_lost_far_from_zero(level, reference):
    """Even where the reference, as for imported weights, says nothing about the level."""
    rule = Normalization(level, scaled=True)
    windows = make_windows(level=1e6)
    centered, taken, scale = rule.measure(windows, np.array([reference]))
    expected = definition(rule, windows, np.array([reference]))
    unit = 1.0 if level != "none" or reference else 1e6
    assert np.abs(centered - expected[0]).max() <= 1e-9 * unit
    # level and centered may share a rounding, but must add up to the window
    back = centered.astype(np.longdouble) + np.broadcast_to(taken, (N, C))[:, :, None]
    assert np.abs(back - windows).max() <= 2e-10
    assert np.abs(scale / expected[2] - 1).max() < 1e-9


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e6 / 3])
def test_constant_windows_have_a_scale_of_eps(level, value):
    windows = np.full((2, 1, 7), value)
    for inside, expected in ((True, np.sqrt(1e-5)), (False, 1e-5)):
        rule = Normalization(level, scaled=True, eps_inside=inside)
        centered, _, scale = rule.measure(windows, np.array([value]))
        assert np.abs(centered).max() <= 1e-15 * abs(value)
        assert np.abs(scale / expected - 1).max() < 1e-4
        assert (scale > 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_windows_of_one_step_have_a_scale(level):
    rule = Normalization(level, scaled=True, ddof=1)
    _, _, scale = rule.measure(np.array([[[3.0]]]), np.array([3.0]))
    assert scale.tolist() == [[np.sqrt(1e-5)]]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_are_left_alone_and_measured_in_float64(level, dtype):
    windows = make_windows(level=1000.0).astype(dtype)
    before = windows.copy()
    windows.flags.writeable = False
    rule = Normalization(level, scaled=True)
    outs = rule.measure(windows, np.zeros(1))
    assert all(out.dtype == np.float64 for out in outs)
    expected = rule.measure(before.astype(np.float64), np.zeros(1))
    for out, exact in zip(outs, expected, strict=True):
        assert (out == exact).all()
    assert not np.shares_memory(outs[0], windows)
    outs[0][:] = 0.0  # the caller owns it
    assert (windows == before).all()


@pytest.mark.parametrize("level", LEVELS)
def test_memory_layout_does_not_matter(level):
    rule, windows = Normalization(level, scaled=True), make_windows()
    expected = rule.measure(windows, np.zeros(1))
    moved = np.ascontiguousarray(windows.transpose(0, 2, 1)).transpose(0, 2, 1)
    for out, exact in zip(rule.measure(moved, np.zeros(1)), expected, strict=True):
        assert np.abs(out - exact).max() < 1e-14


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NORMALIZATIONS[1:]),
    shift=st.floats(-1e3, 1e3),
    factor=st.floats(1e-2, 1e2),
    seed=st.integers(0, 1000),
)
def test_level_follows_shifts_and_scale_follows_units(name, shift, factor, seed):
    rule, windows = named_normalization(name, eps=0.0), make_windows(seed)
    centered, level, scale = rule.measure(windows, np.zeros(1))
    moved, moved_level, moved_scale = rule.measure(factor * windows + shift, np.zeros(1))
    tolerance = 1e-12 * (abs(shift) + factor * np.abs(windows).max())
    assert np.abs(moved - factor * centered).max() <= tolerance
    assert np.abs(moved_level - (factor * level + shift)).max() <= tolerance
    if name == "revin":
        assert np.abs(moved_scale - factor * scale).max() <= tolerance
    else:
        assert moved_scale is None


@pytest.mark.parametrize("level", LEVELS)
def test_the_functional_is_the_level(level):
    rule, windows = Normalization(level), make_windows()
    weights = rule.functional(L)
    assert weights.shape == (L,)
    _, taken, _ = rule.measure(windows, np.zeros(1))
    assert np.abs(windows @ weights - taken).max() < 1e-14
    assert weights.sum() == pytest.approx(0.0 if level == "none" else 1.0)


@pytest.mark.parametrize(
    ("name", "level", "scaled"),
    [
        (None, "none", False),
        ("last", "last", False),
        ("mean", "mean", False),
        ("revin", "mean", True),
    ],
)
def test_names_stand_for_normalizations(name, level, scaled):
    rule = named_normalization(name, eps=3.0)
    assert (rule.level, rule.scaled, rule.ddof, rule.eps_inside) == (level, scaled, 0, True)
    assert (rule.eps == 3.0) == scaled


def test_unknown_levels_are_refused():
    with pytest.raises(ValueError, match=r"level must be one of .*'last'.*; got 'first'"):
        Normalization("first")
