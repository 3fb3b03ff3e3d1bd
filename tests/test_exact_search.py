"""Losses of whole paths of penalties, against solutions and forecasts one by one."""

import itertools

import numpy as np
import pytest

from mixlin.auto_linear.groups import Choice, Group, SearchSeries, features_of, scaled, solve_group
from mixlin.auto_linear.search import soft_shares
from mixlin.calendar_terms import wave_frequencies
from mixlin.solvers import SeasonalPrior
from mixlin.solvers import search as search_module
from mixlin.solvers.exact_search import ExactSearch, default_lookbacks
from mixlin.solvers.search import GroupSearch, SearchGrid

L, H = 30, 8
INF = np.inf
GRID = SearchGrid(
    alphas=(0.01, 1.0, 100.0, INF), betas=(0.1, 10.0), kappas=(INF, 0.3), corrected=(1, 3)
)


def made(gaps=False, waves=True, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(500)[:, None]
    series = np.sin(2 * np.pi * t / 12 + np.arange(3)) * [1, 2, 0.5] + [3.0, -5.0, 100.0]
    series = series + 0.2 * rng.standard_normal((500, 3)).cumsum(axis=0) * [1, 3, 0.2]
    if gaps:
        series[100:104, 0] = series[440, 1] = np.nan
    frequencies = wave_frequencies((12.0,), 2) if waves else np.empty(0)
    return SearchSeries([series], None, [7.0] if waves else None, frequencies, (12,), H)


def parts(data, group, stop=380):
    statistics = data.statistics([stop])
    training = data.sums(group, statistics.mean, [0], [stop])
    plain = Group(group.lookback, None, group.normalization)
    held = data.sums(plain, statistics.mean, [stop - group.lookback], [500])
    return training, held, *scaled(statistics)


def brute_force(data, group, choice, features, stop=380):
    """Fit one candidate and forecast every held-out window."""
    training, _, scale, active = parts(data, group, stop)
    found = solve_group(group, [choice], training, scale, active, features)[0]
    series = data.series[0][stop - group.lookback :]
    z = np.lib.stride_tricks.sliding_window_view(series, group.lookback + H, axis=0)
    level = z[:, :, : group.lookback] @ group.functional()
    total, count = 0.0, 0
    for c in range(3):
        keep = np.isfinite(z[:, c]).all(axis=1)
        x = z[keep, c, : group.lookback] - level[keep, c, None]
        forecast = x @ found.weights[min(c, len(found.weights) - 1)]
        if found.calendar is not None:
            last = 7.0 + stop - group.lookback + np.flatnonzero(keep) + group.lookback - 1
            angle = np.outer(last, data.frequencies)
            phi = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
            forecast = forecast + phi @ found.calendar[c]
        error = (z[keep, c, group.lookback :] - level[keep, c, None] - forecast) / scale[c]
        total, count = total + (error**2).sum(), count + error.size
    return total / count


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("forgetting", [None, 0.4])
@pytest.mark.parametrize("level", ["last", "mean"])
@pytest.mark.parametrize("prior", [None, SeasonalPrior(12)])
def test_losses_are_those_of_forecasts(gaps, forgetting, level, prior):
    data, group = made(gaps), Group(L, forgetting, level)
    training, held, scale, active = parts(data, group)
    features = features_of(group, prior, data.periods, H)
    kappas = (INF,) if prior is None else GRID.kappas
    grid = SearchGrid(GRID.alphas, GRID.betas, kappas, GRID.corrected)
    found = GroupSearch(
        training, held, scale, group.functional(), features, np.flatnonzero(active)
    ).losses(grid)
    for (k, kappa), (a, alpha) in itertools.product(enumerate(grid.kappas), enumerate(grid.alphas)):
        expected = brute_force(data, group, Choice(kappa, alpha, INF, 0.0), features)
        assert found.shared[k, a] == pytest.approx(expected, rel=1e-8)
        for (j, i), (b, beta) in itertools.product(
            enumerate(grid.corrected), enumerate(grid.betas)
        ):
            if i != a:
                continue
            expected = brute_force(data, group, Choice(kappa, alpha, beta, 0.0), features)
            assert found.own[k, j, b] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("waves", [False, True])
def test_shared_weights_need_no_channel_by_itself(waves, monkeypatch):
    data, group = made(waves=waves), Group(L, None, "last")
    training, held, scale, _ = parts(data, group)
    features = features_of(group, SeasonalPrior(12), data.periods, H)
    search = GroupSearch(training, held, scale, group.functional(), features, np.arange(3))
    by_channel = search.losses(GRID).shared[0]
    grid = SearchGrid(GRID.alphas, (), (INF,), ())
    monkeypatch.setattr(GroupSearch, "moments_of", None)
    assert search.losses(grid).shared[0] == pytest.approx(by_channel, rel=1e-9)


def test_blocks_of_channels_and_threads_change_nothing(monkeypatch):
    data, group = made(), Group(L, 0.4, "last")
    training, held, scale, _ = parts(data, group)
    features = features_of(group, SeasonalPrior(12), data.periods, H)
    arguments = (training, held, scale, group.functional(), features, np.arange(3))
    whole = GroupSearch(*arguments).losses(GRID)
    monkeypatch.setattr(search_module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(search_module, "_KEPT_BYTES", 0)
    blocks = GroupSearch(*arguments, n_jobs=2).losses(GRID)
    assert blocks.shared == pytest.approx(whole.shared, rel=1e-12)
    assert blocks.own == pytest.approx(whole.own, rel=1e-12)


def test_an_unweighted_path_takes_the_solution_of_least_norm():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 30))
    y = rng.standard_normal((10, 2))
    basis = search_module._Basis.of(x.T @ x / 10, x.T @ x / 10)
    cross = basis.turned(x.T @ y / 10)
    loss = basis.path(cross, cross, (y**2).sum() / 10, np.array([0.0]))
    assert abs(loss[0]) < 1e-9


def test_shares_follow_the_losses():
    shares = soft_shares(np.array([1.0, 1.02, 2.0]), 0.02)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > shares[1] > shares[2]
    assert shares[0] / shares[1] == pytest.approx(1.02**50)
    assert soft_shares(np.array([2.0, 1.0]), 0.0).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"alphas": ()}, "alphas"),
        ({"alphas": (-1.0,)}, "alphas"),
        ({"betas": "all"}, "betas"),
        ({"kappas": (True,)}, "kappas"),
        ({"forgetting": (0.0,)}, "forgetting"),
        ({"forgetting": ()}, "forgetting"),
        ({"forgetting": None}, "forgetting"),
        ({"alphas": 1.0}, "alphas"),
        ({"kappas": 1.0}, "kappas"),
        ({"calendar": -1}, "calendar"),
        ({"calendar": 1.5}, "calendar"),
        ({"transform": "square"}, "transform"),
        ({"normalization": ("none",)}, "normalization"),
        ({"temperature": -0.1}, "temperature"),
    ],
)
def test_bad_options_are_refused_by_name(bad, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of ExactSearch"):
        ExactSearch(**bad).check()


def test_lookbacks_follow_rows_and_seasons():
    assert default_lookbacks(100, 10, (12,))[-1] <= 20
    for n, periods in itertools.product((30, 300, 3000, 30_000), ((), (24,), (96,))):
        found = default_lookbacks(n, 5, periods)
        assert found == tuple(sorted(set(found)))
        assert 1 <= found[0] <= found[-1] <= max(1, n // 5)
