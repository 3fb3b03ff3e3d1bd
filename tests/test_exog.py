"""Known-future regressors against joint least squares on windows that exist."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose
from sklearn.base import clone

import mixlin
from mixlin import (
    AutoLinearForecaster,
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin.regressors import Regressors, past_columns
from mixlin.solvers import ExactSearch, RegressorSums
from mixlin.solvers.regressors import RIDGE

L, H, C, PERIOD = 12, 8, 3, 6
LINEAR = [LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster]
START = np.datetime64("2024-01-01T00")


def make_data(n_rows=300, seed=0):
    """Return a seasonal series (T, C) moved by a promotion and a price, and these (T, 2)."""
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)
    promotion = (rng.random(n_rows) < 0.2).astype(float)
    price = 4.0 + 0.3 * np.sin(steps / 9.0) + 0.1 * rng.normal(size=n_rows)
    base = 2 * np.sin(2 * np.pi * steps[:, None] / PERIOD + np.arange(C)) + 10.0
    base = base + 0.3 * rng.normal(size=(n_rows, C)) + 0.05 * rng.normal(size=(n_rows, C)).cumsum(0)
    effect = np.outer(promotion, [4.0, 2.0, -3.0]) + np.outer(price, [1.0, -2.0, 0.0])
    return base + effect, np.stack([promotion, price], axis=1)


def stamps_of(n_rows, first=0):
    return START + 4 * (first + np.arange(n_rows)).astype("timedelta64[h]")  # six a day


# -- a plain reference -----------------------------------------------------------------------


class JointLeastSquares:
    """One large ridge problem per step: weights, intercept, calendar terms and regressors."""

    def __init__(self, values, exog, model, first, penalties):
        solver = model.solver or ExactSolver()
        self.level = np.nanmean(values, axis=0)
        self.scale = np.nanstd(values, axis=0)
        self.last = isinstance(model, NLinearForecaster)
        self.revin = isinstance(model, RLinearForecaster)
        self.eps = 1e-5 * self.scale**2
        self.intercept = model.fit_intercept
        seen = exog[np.isfinite(exog).all(axis=1)]
        self.center = np.where((seen == 0).mean(axis=0) >= 0.5, 0.0, seen.mean(axis=0))
        self.columns, self.which = past_columns(L, H, PERIOD)
        self.frequencies = np.array([2 * np.pi / PERIOD] if solver.calendar else [])
        decay = 1.0 if solver.forgetting is None else 0.5 ** (1.0 / solver.forgetting)
        windows = sliding_window_view(values, L + H, axis=0)
        beside = sliding_window_view(exog, L + H, axis=0)
        ages = np.arange(len(windows))[::-1]
        self.parts, weights = [], []
        for c in range(C):
            known = np.isfinite(windows[:, c]).all(axis=1) & np.isfinite(beside).all(axis=(1, 2))
            at = first + L - 1 + np.flatnonzero(known)
            z = windows[known, c]
            self.parts.append((z, beside[known], at, decay ** ages[known]))
            weights.append(self.parts[-1][3].sum())
        v = [
            np.average((z[:, :L] - np.average(z[:, :L].mean(1), weights=w)) ** 2 / s**2,
                       axis=0, weights=w).mean()
            for (z, _, _, w), s in zip(self.parts, self.scale, strict=True)
        ]  # fmt: skip
        n, v = np.array(weights), np.array(v)
        pooled, own, prior = penalties(n, v)
        self.found = np.zeros((C, H), dtype=object)
        for h in range(H):
            if model.individual is True:
                for c in range(C):
                    w0 = None if prior is None else prior[c, h]
                    self.found[c, h] = self.solve([c], h, own[c], self.intercept, w0)[0]
                continue
            w0 = None if prior is None else prior[0, h]
            shared = self.solve(range(C), h, pooled, self.intercept, w0)
            for c in range(C):
                self.found[c, h] = shared[c]
                if model.individual == "partial":
                    correction = self.solve([c], h, own[c], False, None, start=shared[c])[0]
                    self.found[c, h] = [
                        shared[c][0] + correction[0], shared[c][1], correction[2]
                    ]  # fmt: skip

    def features(self, c, z):
        x = (z[:, :L] - self.level[c]) / self.scale[c]
        inside = x - self.offset(x)[:, None]
        if self.revin:
            spread = np.sqrt(z[:, :L].var(axis=1) + self.eps[c])[:, None] / self.scale[c]
            inside = np.concatenate([inside, spread], axis=1)
        return inside, self.offset(x)

    def offset(self, x):
        if self.revin:
            return x.mean(axis=1)
        return x[:, -1] if self.last else np.zeros(len(x))

    def beside(self, h, exog, at):
        """Return the columns (n, 3 K + 2 F) of a step, the regressors' first."""
        u = exog - self.center[:, None]
        now, last = u[:, :, L + h], u[:, :, L - 1]
        mean = u[:, :, :L] @ self.columns[:, self.which[1, h]]
        angle = np.outer(at, self.frequencies)
        regressors = np.stack([now, last, mean], axis=2).reshape(len(u), -1)
        return np.concatenate([regressors, np.cos(angle), np.sin(angle)], axis=1)

    def solve(self, channels, h, penalty, intercept, prior, start=None):
        first, offset = self.features(channels[0], self.parts[channels[0]][0])
        p, q = first.shape[1], self.beside(h, *self.parts[0][1:3]).shape[1]
        size = p + 1 + len(channels) * q
        gram, right = np.zeros((size, size)), np.zeros(size)
        for i, c in enumerate(channels):
            z, exog, at, w = self.parts[c]
            x, offset = self.features(c, z)
            own = slice(p + 1 + i * q, p + 1 + (i + 1) * q)
            design = np.zeros((len(z), size))
            design[:, :p], design[:, own] = x, self.beside(h, exog, at)
            design[:, p] = float(intercept)
            target = (z[:, L + h] - self.level[c]) / self.scale[c] - offset
            if start is not None:
                target = target - x @ start[0] - start[1]
            gram += design.T @ (w[:, None] * design)
            right += design.T @ (w * target)
            u = exog - self.center[:, None]
            energy = np.einsum("t,tkj->k", w, u * u) / (L + H)
            k = own.start + np.arange(3 * len(energy))
            gram[k, k] += np.repeat(RIDGE * energy, 3)
        gram[np.arange(p), np.arange(p)] += penalty
        if prior is not None:
            right[:L] += penalty * prior
        if not intercept:
            gram[p, p] = 1.0
        found = np.linalg.solve(gram, right)
        return [
            [found[:p], found[p], found[p + 1 + i * q : p + 1 + (i + 1) * q]]
            for i in range(len(channels))
        ]

    def predict(self, windows, exog, at):
        out = np.empty((len(windows), C, H))
        for c in range(C):
            x, offset = self.features(c, windows[:, c])
            for h in range(H):
                weights, bias, own = self.found[c, h]
                made = x @ weights + bias + self.beside(h, exog, at) @ own + offset
                out[:, c, h] = made * self.scale[c] + self.level[c]
        return out

    def effects(self):
        K = len(self.center)
        return np.array(
            [
                [[self.found[c, h][2][3 * k] * self.scale[c] for h in range(H)] for k in range(K)]
                for c in range(C)
            ]
        )


def penalties_of(model, prior):
    pooling = (model.solver or ExactSolver()).pooling

    def penalties(n, v):
        pooled = model.alpha * n.sum() * np.average(v, weights=n)
        own = (pooling if model.individual == "partial" else model.alpha) * n * v
        return pooled, own, prior

    return penalties


CASES = {
    "shared": NLinearForecaster(alpha=0.1),
    "shared, an intercept alone": LinearForecaster(alpha=0.1),
    "without intercept": LinearForecaster(alpha=0.1, fit_intercept=False),
    "individual": NLinearForecaster(alpha=0.1, individual=True),
    "partial": NLinearForecaster(
        alpha=0.1, individual="partial", solver=ExactSolver(pooling=0.5)
    ),
    "calendar": NLinearForecaster(alpha=0.1, solver=ExactSolver(calendar=1)),
    "calendar, individual": LinearForecaster(
        alpha=0.1, individual=True, solver=ExactSolver(calendar=1)
    ),
    "calendar, partial": NLinearForecaster(
        alpha=0.1, individual="partial", solver=ExactSolver(pooling=0.5, calendar=1, forgetting=60)
    ),
    "forgetting": LinearForecaster(alpha=0.1, solver=ExactSolver(forgetting=50)),
    "scale feature": RLinearForecaster(alpha=0.1),
    "prior": NLinearForecaster(alpha=3.0),
    "prior, individual": NLinearForecaster(alpha=3.0, individual=True),
}  # fmt: skip


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_equals_joint_least_squares(case, gaps):
    model = CASES[case]
    values, exog = make_data()
    if gaps:
        values[100, 0] = values[150:153, 2] = np.nan
        exog[[40, 200], [1, 0]] = np.nan
    prior = None
    if "prior" in case:
        shape = (C, H, L) if model.individual else (H, L)
        prior = 0.1 * np.random.default_rng(1).normal(size=shape)
        model = model.set_params(prior=prior)
        prior = prior.reshape(-1, H, L)
    model.set_params(lookback=L, horizon=H)
    rows, train = 280, slice(0, 280)
    stamps = stamps_of(300)
    model.fit(values[train], timestamps=stamps[train], exog=exog[train])
    assert model._seasons.periods == (PERIOD,)
    first = (stamps[0] - np.datetime64("1970-01-01T00")).astype(int) / 4
    masked = np.where(np.isnan(exog[train]).any(axis=1, keepdims=True), np.nan, values[train])
    reference = JointLeastSquares(
        masked, exog[train], model, first, penalties_of(model, prior)
    )  # fmt: skip
    assert_allclose(model.exog_coef_, reference.effects(), rtol=1e-8, atol=1e-8)
    expected = reference.predict(
        values[None, rows - L : rows].transpose(0, 2, 1),
        exog[None, rows - L : rows + H].transpose(0, 2, 1),
        np.array([first + rows - 1]),
    )
    found = model.predict(exog_future=exog[rows:])
    assert_allclose(found, expected[0].T, rtol=1e-8)
    context = slice(rows - L - 3, rows)
    again = model.predict(
        values[context], timestamps=stamps[context], exog=exog[context], exog_future=exog[rows:]
    )
    assert_allclose(again, found, rtol=1e-12)


def test_border_and_stepwise_solutions_are_the_same(monkeypatch):
    from mixlin.solvers import regressors

    values, exog = make_data()
    for individual in (False, True, "partial"):
        model = LinearForecaster(L, H, individual=individual, alpha=0.05)
        plain = model.fit(values, exog=exog).predict(exog_future=exog[:H])
        way = {}
        for name in ("_bordered", "_stepwise"):
            original = getattr(regressors._Ridge, name)
            with monkeypatch.context() as patch:
                patch.setattr(
                    regressors._Ridge,
                    "solve",
                    lambda self, penalty, metric=None, prior=None, use=original: use(
                        self, penalty, metric, prior
                    ),
                )
                way[name] = model.fit(values, exog=exog).predict(exog_future=exog[:H])
        assert_allclose(way["_bordered"], way["_stepwise"], rtol=1e-9)
        assert_allclose(plain, way["_stepwise"], rtol=1e-9)


@pytest.mark.parametrize("cls", LINEAR)
def test_a_metric_and_a_fitted_prior_are_kept(cls):
    values, exog = make_data()
    quiet = np.zeros_like(exog)  # nothing to be told apart: the model without regressors
    params = {"lookback": L, "horizon": H, "prior": "seasonal", "alpha": 0.3}
    plain, beside = cls(**params).fit(values), cls(**params).fit(values, exog=quiet)
    assert_allclose(beside.coef_, plain.coef_, rtol=1e-8, atol=1e-9)
    assert_allclose(beside.predict(exog_future=quiet[:H]), plain.predict(), rtol=1e-9)
    assert not beside.exog_coef_.any()


def test_the_variance_of_the_residuals_accounts_for_the_terms():
    values, exog = make_data(4000)
    stamps = stamps_of(4000)
    model = NLinearForecaster(L, H, solver=ExactSolver(calendar=1)).fit(
        values[:2000], timestamps=stamps[:2000], exog=exog[:2000]
    )
    y, forecast = model._forecasts_for_scoring(
        values[2000:], timestamps=stamps[2000:], exog=exog[2000:]
    )
    assert_allclose(np.square(y - forecast).mean(axis=0).T / model.plan_.residual_variance, 1, 0.2)
    low, high = model.predict_interval(exog_future=exog[2000:])[0].T
    width = model.plan_.residual_variance[:, 0] ** 0.5 * 2 * 1.6448536269514722
    assert_allclose(high - low, width)


# -- what it is good for ---------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*LINEAR, AutoLinearForecaster])
def test_a_known_effect_is_found_and_helps(cls):
    values, exog = make_data(1500)
    train, test = slice(0, 1200), slice(1200, None)
    stamps = stamps_of(1500)
    searched = {"solver": ExactSearch(transform=None)}
    params = searched if cls is AutoLinearForecaster else {"individual": "partial"}
    with_exog = cls(L, H, **params).fit(values[train], timestamps=stamps[train], exog=exog[train])
    plain = cls(L, H, **params).fit(values[train], timestamps=stamps[train])
    assert_allclose(with_exog.exog_coef_[:, 0].mean(axis=1), [4.0, 2.0, -3.0], atol=0.3)
    scores = [
        1 - m.score(values[test], timestamps=stamps[test], **k)
        for m, k in ((with_exog, {"exog": exog[test]}), (plain, {}))
    ]
    assert scores[0] < 0.3 * scores[1]
    ratio = with_exog.plan_.residual_variance / plain.plan_.residual_variance
    assert ratio.max() < 0.5


def test_an_effect_inside_the_window_is_taken_back():
    # a level that jumps in every promotion, once: the last value is no guide after one
    rng = np.random.default_rng(0)
    promotion = (rng.random(2000) < 0.3).astype(float)
    series = 10 + 5 * promotion + 0.01 * rng.normal(size=2000)
    model = NLinearForecaster(4, 3).fit(series[:1000], exog=promotion[:1000])
    assert 1 - model.score(series[1000:], exog=promotion[1000:]) < 1e-4


def test_holidays_never_seen_and_constant_columns_have_no_effect():
    values, exog = make_data()
    never, always = np.zeros(len(values)), np.full(len(values), 7.3)
    more = np.column_stack([exog, never, always])
    model = LinearForecaster(L, H).fit(values, exog=more)
    few = LinearForecaster(L, H).fit(values, exog=exog)
    assert not model.exog_coef_[:, 2:].any()
    future = np.column_stack([exog[:H], np.ones(H), np.full(H, 9.0)])
    assert_allclose(model.predict(exog_future=future), few.predict(exog_future=exog[:H]), rtol=1e-9)


# -- chunks, containers, files, engines ------------------------------------------------------


@pytest.mark.parametrize("individual", [False, True, "partial"])
@pytest.mark.parametrize("options", [{}, {"calendar": 1}, {"forgetting": 80}])
def test_partial_fit_equals_fit(individual, options):
    values, exog = make_data()
    exog[170, 1] = values[60, 1] = np.nan
    stamps = stamps_of(len(values))
    params = {"individual": individual, "alpha": 0.01, "solver": ExactSolver(**options)}
    whole = NLinearForecaster(L, H, **params).fit(values, timestamps=stamps, exog=exog)
    chunked = NLinearForecaster(L, H, **params)
    for begin, stop in ((0, 120), (120, 125), (125, 171), (171, 300)):
        part = slice(begin, stop)
        chunked.partial_fit(values[part], timestamps=stamps[part], exog=exog[part])
    future = exog[5 : 5 + H]
    assert_allclose(
        chunked.predict(exog_future=future), whole.predict(exog_future=future), rtol=1e-9
    )
    assert_allclose(chunked.exog_coef_, whole.exog_coef_, rtol=1e-7, atol=1e-9)
    assert_allclose(chunked.plan_.residual_variance, whole.plan_.residual_variance, rtol=1e-8)
    updated = NLinearForecaster(L, H, **params)
    updated.fit(values[:200], timestamps=stamps[:200], exog=exog[:200])
    if "forgetting" not in options:
        updated.update(values[200:], timestamps=stamps[200:], exog=exog[200:])
        assert_allclose(
            updated.predict(exog_future=future), whole.predict(exog_future=future), rtol=1e-9
        )


def test_update_of_a_search_equals_its_choice_on_all_rows():
    values, exog = make_data(600)
    stamps = stamps_of(600)
    model = AutoLinearForecaster(L, H, solver=ExactSearch(forgetting=(None,), transform=None))
    made = clone(model).fit(values[:500], timestamps=stamps[:500], exog=exog[:500])
    before = made.exog_coef_.copy()
    made.update(values[500:], timestamps=stamps[500:], exog=exog[500:])
    assert abs(made.exog_coef_ - before).max() > 1e-6
    groups = made._groups
    joined = clone(model).fit(values, timestamps=stamps, exog=exog)
    kept = {name: groups[name] for name in ("groups", "chosen", "shares", "scale", "residual")}
    found = joined._solved({**joined._groups, **kept})
    assert_allclose(found["plan_"].regressors.future, made.exog_coef_, rtol=1e-6, atol=1e-8)


def test_sums_that_were_folded_and_split_by_gaps():
    rng = np.random.default_rng(0)
    values, exog = rng.normal(size=(900, 2)), rng.normal(size=(900, 2))
    values[::7, 0] = np.nan
    exog[::61, 1] = np.nan
    sums = RegressorSums(3, 2, np.zeros(2), np.array([0.5, 0.0]), decay=0.999)
    masked = np.where(np.isnan(exog).any(axis=1, keepdims=True), np.nan, values)
    for begin in range(0, 900, 90):
        part = slice(begin, begin + 90)
        sums.add(masked[part], exog[part], 2.0, continues=begin > 0)
    for c in range(2):
        joint, place = sums.of_channel(c)
        assert joint._folded_products is not None
        a = sliding_window_view(masked[:, c], 5)
        b = sliding_window_view(exog, 5, axis=0) - np.array([0.5, 0.0])[:, None]
        keep = np.isfinite(a).all(axis=1)
        w = 2.0 * 0.999 ** np.arange(len(a))[::-1][keep]
        expected = np.einsum("t,ti,tkj->kij", w, a[keep], b[keep])
        assert_allclose(joint.products(place), expected, atol=1e-10)
        among = np.einsum("t,ti,tj->ij", w, b[keep, 0], b[keep, 1])
        assert_allclose(joint.regressor_products(0, 1), among, atol=1e-10)


def test_lists_of_series():
    parts = [make_data(n, seed) for seed, n in enumerate((200, 150, 90))]
    series, exog = [values for values, _ in parts], [u for _, u in parts]
    model = NLinearForecaster(L, H).fit(series, exog=exog)
    futures = [u[:H] for u in exog]
    found = model.predict(exog_future=futures)
    assert [f.shape for f in found] == [(H, C)] * 3
    again = model.predict(series, exog=exog, exog_future=futures)
    assert_allclose(again, found, rtol=1e-12)
    one = NLinearForecaster(L, H).partial_fit(series[0], exog=exog[0])
    for values, u in zip(series[1:], exog[1:], strict=True):
        one.partial_fit(values, exog=u, new_series=True)
    assert_allclose(one.predict(exog_future=futures[2]), found[2], rtol=1e-8)
    assert model.score(series, exog=exog) > 0.9


@pytest.mark.parametrize("cls", [NLinearForecaster, AutoLinearForecaster])
def test_windows_are_forecast_with_theirs(cls):
    values, exog = make_data()
    model = cls(L, H).fit(values, exog=exog)
    both, beside = (
        sliding_window_view(part, L + H, axis=0).transpose(0, 2, 1) for part in (values, exog)
    )
    found = model.predict(both[:5, :L], exog=beside[:5, :L], exog_future=beside[:5, L:])
    assert found.shape == (5, H, C)
    for i in range(5):
        rows = slice(i, i + L)
        alone = model.predict(values[rows], exog=exog[rows], exog_future=exog[i + L : i + L + H])
        assert_allclose(found[i], alone, rtol=1e-12)


def test_a_longer_future_is_cut_and_a_shorter_horizon_needs_less():
    values, exog = make_data()
    model = NLinearForecaster(L, H).fit(values[:200], exog=exog[:200])
    whole = model.predict(exog_future=exog[200:])
    assert_allclose(model.predict(exog_future=exog[200 : 200 + H]), whole, rtol=0)
    short = model.predict(horizon=2, exog_future=exog[200:202])
    assert_allclose(short, whole[:2], rtol=1e-13)
    quantiles = model.predict_quantiles(quantiles=[0.5], exog_future=exog[200:])
    assert_allclose(quantiles[..., 0], whole, rtol=1e-12)


@pytest.mark.parametrize("cls", [RLinearForecaster, AutoLinearForecaster])
def test_files_keep_the_regressors(cls, tmp_path):
    values, exog = make_data()
    model = cls(L, H).fit(values, exog=exog)
    model.save(tmp_path / "model.safetensors")
    loaded = mixlin.load(tmp_path / "model.safetensors")
    future = exog[:H]
    assert_allclose(
        loaded.predict(exog_future=future), model.predict(exog_future=future), rtol=1e-13
    )
    assert loaded.exog_names_ == ["x0", "x1"]
    assert_allclose(loaded.exog_coef_, model.exog_coef_, rtol=0)
    with pytest.raises(ValueError, match="loaded from a file"):
        loaded.update(values, exog=exog)


def test_engines_agree(engine):
    values, exog = make_data()
    model = NLinearForecaster(L, H, individual="partial").fit(values[:280], exog=exog[:280])
    reference = model.predict(exog_future=exog[280:])
    found = model.set_params(backend=engine.spec).predict(exog_future=exog[280:])
    assert_allclose(found, reference, rtol=0, atol=engine.forward * np.abs(reference).max())


def test_a_refit_without_regressors_forgets_them():
    values, exog = make_data()
    model = NLinearForecaster(L, H).fit(values, exog=exog).fit(values)
    assert not hasattr(model, "exog_coef_")
    assert not hasattr(model, "exog_names_")
    assert_allclose(model.predict(), NLinearForecaster(L, H).fit(values).predict(), rtol=0)


def test_the_average_of_models_pads_shorter_lookbacks():
    rng = np.random.default_rng(0)
    parts, exog = [], rng.normal(size=(3, 2, 9))
    for lookback in (4, 6):
        columns = rng.normal(size=(2, lookback, 3))
        past = rng.normal(size=(2, 1, 2, 3))
        parts.append(Regressors(rng.normal(size=(1, 2, 3)), past, columns, np.ones(2)))
    mean = Regressors.averaged(parts, np.array([0.25, 0.75]))
    expected = 0.25 * parts[0].values(exog[:, :, 2:]) + 0.75 * parts[1].values(exog)
    assert_allclose(mean.values(exog), expected, rtol=1e-12)
    u = exog - 1.0
    dense = np.einsum("nkm,kmh->nh", u, mean.on_window(0))
    assert_allclose(mean.values(exog)[:, 0], dense, rtol=1e-12)


def test_metadata_routing_slices_the_regressors():
    from sklearn import config_context
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

    values, exog = make_data()
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            NLinearForecaster(L, H), {"alpha": [1e-3, 1e3]}, cv=TimeSeriesSplit(3)
        )
        search.fit(values, exog=exog)
        assert search.best_params_ == {"alpha": 1e-3}
        assert search.best_score_ > 0.9
    assert search.best_estimator_.predict(exog_future=exog[:H]).shape == (H, C)
