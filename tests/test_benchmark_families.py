import zlib

import numpy as np
import pytest

from benchmarks.families import disjoint, training
from benchmarks.families.draws import Draws, constant
from benchmarks.zero_shot import (
    baseline,
    corruption_table,
    coverage_table,
    families_table,
    ltsf_table,
    setting,
)
from benchmarks.zero_shot_scores import (
    naive_quantiles,
    ratios,
    score_families,
    score_intervals,
    score_ltsf,
    seasonal_naive,
)
from benchmarks.zero_shot_windows import CORRUPTIONS, corrupt, windows

MODULES = pytest.mark.parametrize("module", [training, disjoint], ids=["training", "disjoint"])
EACH = pytest.mark.parametrize(
    ("module", "family"),
    [(module, family) for module in (training, disjoint) for family in module.FAMILIES],
)


@MODULES
def test_the_families_take_turns(module):
    names = list(module.FAMILIES)
    bunch = module.make_families(0, 2 * len(names) + 1, 300)
    assert bunch.data.shape == (2 * len(names) + 1, 300)
    assert bunch.family.tolist() == [*names, *names, names[0]]
    assert bunch.period.shape == bunch.family.shape


@EACH
@pytest.mark.parametrize("length", [152, 1120])
def test_every_series_is_finite_and_moves(module, family, length):
    bunch = module.make_families(3, 40, length, [family])
    assert set(bunch.family) == {family}
    assert np.isfinite(bunch.data).all()
    assert not constant(bunch.data).any()
    assert (bunch.period >= 1).all()
    assert len(np.unique(bunch.data.std(axis=1))) == 40


@EACH
def test_a_series_depends_on_its_seed_and_number_alone(module, family):
    few = module.make_families(7, 3, 200, [family])
    many = module.make_families(7, 12, 200, [family])
    np.testing.assert_allclose(few.data, many.data[:3], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(few.period, many.period[:3])
    others = [name for name in module.FAMILIES if name != family][:1]
    beside = module.make_families(7, 6, 200, [*others, family])
    np.testing.assert_allclose(few.data, beside.data[1::2], rtol=1e-9, atol=1e-9)
    assert not np.allclose(few.data, module.make_families(8, 3, 200, [family]).data)


@pytest.mark.parametrize(
    ("module", "family"),
    [
        (training, "hourly"),
        (training, "daily"),
        (disjoint, "tides"),
        (disjoint, "duty cycle"),
        (disjoint, "irradiance"),
        (disjoint, "calendar holidays"),
    ],
)
def test_the_period_is_the_true_one(module, family):
    bunch = module.make_families(1, 60, 1120, [family])
    names = np.rint(bunch.period).astype(int)
    with_season, without = [], []
    for series, period in zip(bunch.data, names, strict=True):
        for lag, errors in ((period, with_season), (period // 2 + period, without)):
            errors.append(np.abs(series[lag:] - series[:-lag]).mean())
    assert np.median(np.divide(with_season, without)) < 0.9


def test_the_two_modules_share_no_family():
    assert not set(training.FAMILIES) & set(disjoint.FAMILIES)
    makers = {getattr(maker, "func", maker) for maker in training.FAMILIES.values()}
    assert not makers & set(disjoint.FAMILIES.values())
    assert len(
        {zlib.crc32(name.encode()) for name in [*training.FAMILIES, *disjoint.FAMILIES]}
    ) == (len(training.FAMILIES) + len(disjoint.FAMILIES))


@MODULES
def test_unknown_families_and_sizes_are_refused(module):
    with pytest.raises(ValueError, match="unknown families"):
        module.make_families(0, 3, 200, ["sunspots"])
    with pytest.raises(ValueError, match="at least one series"):
        module.make_families(0, 0, 200)
    with pytest.raises(ValueError, match="at least one series"):
        module.make_families(0, 3, 15)


def test_draws_follow_their_distributions():
    draws = Draws("any", 0, range(2000))
    np.testing.assert_allclose(draws.normal((50,)).std(), 1.0, atol=0.02)
    np.testing.assert_allclose(draws.student(6, (50,)).var(), 6 / 4, rtol=0.05)
    np.testing.assert_allclose(draws.student(5, (50,)).var(), 5 / 3, rtol=0.1)
    for rate in (0.05, 0.7, 30.0):
        counts = draws.poisson(np.full((2000, 50), rate))
        assert (counts == np.rint(counts)).all()
        assert counts.min() >= 0
        np.testing.assert_allclose([counts.mean(), counts.var()], rate, rtol=0.05)
        np.testing.assert_allclose((counts == 0).mean(), np.exp(-rate), atol=0.01)
    np.testing.assert_allclose(draws.gamma(np.full((2000, 50), 3.0)).mean(), 3.0, rtol=0.02)
    assert np.unique(draws.choice((1.0, 4.0), (9,))).tolist() == [1.0, 4.0]


def test_draws_stay_what_they_were_when_the_tables_were_made():
    first = Draws("any", 0, [0]).uniform(size=(3,))[0]
    np.testing.assert_allclose(first, FROZEN_DRAWS, rtol=1e-14)
    sums = [
        np.abs(module.make_families(5, len(module.FAMILIES), 64).data).mean()
        for module in (training, disjoint)
    ]
    np.testing.assert_allclose(sums, FROZEN_MEANS, rtol=1e-6)


FROZEN_DRAWS = [0.25820223395258696, 0.4242933300065221, 0.8000466399146253]
FROZEN_MEANS = [6.4367111868605, 88.74830419588297]


# ---------------------------------------------------------------------------- the scores


def test_the_seasonal_naive_forecast_repeats_the_last_season():
    contexts = [np.arange(10.0), np.arange(4.0)]
    forecast = seasonal_naive(contexts, np.array([2.6, 1.0]), 5)
    assert forecast.tolist() == [[7.0, 8.0, 9.0, 7.0, 8.0], [3.0] * 5]
    # a period longer than the context repeats the context
    assert seasonal_naive([np.arange(3.0)], np.array([7.0]), 4).tolist() == [[0.0, 1.0, 2.0, 0.0]]


def test_naive_intervals_cover_a_random_walk_and_a_season_with_noise():
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.standard_normal((400, 1048)), axis=1)
    noise = np.tile(10 * rng.standard_normal(12), 88)[:1048] + rng.standard_normal((400, 1048))
    for data, period in ((walks, 1.0), (noise, 12.0)):
        quantiles = naive_quantiles(data[:, :1024], np.full(400, period), 24, (0.1, 0.9))
        target = data[:, 1024:, None]
        inside = (quantiles[..., :1] <= target) & (target <= quantiles[..., 1:])
        assert 0.77 < inside.mean() < 0.83


def test_small_errors_count_as_the_floor():
    relative, n_floored = ratios(np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert relative.tolist() == [1.0, 2.0]
    assert n_floored == 1


@MODULES
def test_a_forecast_is_scored_against_the_season(module):
    last = score_families(baseline(1), module, 128, 24, per_family=3)
    assert set(last.families) == set(module.FAMILIES)
    for family, ratio in last.families.items():
        flat = family in (
            "random walk",
            "threshold autoregression",
            "intermittent demand",
            "regime switching",
            "volatile walk",
            "delayed feedback",
        )
        assert (ratio == 1.0) == flat
    assert last.total > 1.2


def test_intervals_of_the_naive_forecast_are_those_it_is_compared_with():
    bunch = training.make_families(0, 9, 152, ["monthly"])
    result = score_intervals(baseline(12), bunch.data[:, :128], bunch.data[:, 128:], bunch.period)
    assert result.crps == pytest.approx(1.0)
    assert result.width == pytest.approx((1.0, 1.0))
    np.testing.assert_allclose(result.covered.mean(axis=1), result.naive_covered)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_leave_their_arguments_alone(kind):
    bunch = training.make_families(0, 9, 1120)
    contexts, targets = bunch.data[:, :1024], bunch.data[:, 1024:]
    before = bunch.data.copy()
    damaged, followed = corrupt(kind, contexts, targets, np.zeros(9))
    np.testing.assert_array_equal(bunch.data, before)
    changed = (damaged != contexts).mean()
    assert (changed == 0) == (kind == "none")
    assert changed < 0.11
    assert (followed == targets).all() == (not kind.startswith("shift"))
    with pytest.raises(ValueError, match="unknown corruption"):
        corrupt("rust", contexts, targets, np.zeros(9))


# ---------------------------------------------------------------------------- the benchmark files


@pytest.mark.data("ETTh1.csv")
def test_every_window_of_the_benchmark_is_scored_as_published():
    result = score_ltsf(baseline(1), "ETTh1", 96)
    assert result.n_windows == 2785
    assert round(result.mse, 3) == round(result.last_mse, 3) == 1.294
    assert score_ltsf(baseline(24), "ETTh1", 96).mse < 0.6


@pytest.mark.data("national_illness.csv")
def test_contexts_are_all_there_is_where_that_is_less():
    cut = windows("national_illness", 24)
    contexts, targets = next(cut.blocks())
    assert len(cut.starts) == 170
    assert [len(contexts[0]), len(contexts[-1])] == [773, 942]
    np.testing.assert_array_equal(contexts[7][-1], targets[0, 0])
    result = score_ltsf(baseline(1), "national_illness", 24)
    assert round(result.mse, 3) == 6.213


@pytest.mark.data("ETTh1.csv")
@pytest.mark.data("national_illness.csv")
def test_spans_keep_targets_inside():
    train = windows("ETTh1", 96, "train")
    assert [train.starts[0], train.starts[-1]] == [2048, 8640 - 96]
    some = windows("ETTh1", 96, "validation", 10)
    assert [len(some.starts), some.starts[0], some.starts[-1]] == [10, 8640, 11520 - 96]
    assert sum(len(targets) for _, targets in some.blocks(15)) == some.n_series == 70


def test_the_families_table_lists_every_family():
    lines = list(families_table(baseline(1), quick=True))
    for family in [*training.FAMILIES, *disjoint.FAMILIES]:
        assert any(f" {family} |" in row for row in lines)


@pytest.mark.slow
@pytest.mark.data("ETTh1.csv")
@pytest.mark.data("ETTm1.csv")
@pytest.mark.data("exchange_rate.txt")
@pytest.mark.data("national_illness.csv")
@pytest.mark.parametrize("table", [ltsf_table, coverage_table, corruption_table])
def test_tables_are_whole(table):
    head, rule, *rows = table(baseline(1), quick=True)
    assert {row.count("|") for row in rows} == {head.count("|")} == {rule.count("|")}


def test_settings_are_read_as_python():
    assert setting("clean=False") == ("clean", False)
    assert setting("gate=spectral") == ("gate", "spectral")
