"""Plots of a search, and of what its matrix is made of."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest

from mixlin import AutoLinearForecaster, NLinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.plotting import SearchDisplay, WeightsDisplay
from mixlin.solvers import ExactSearch

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from .test_plotting_mixtures import overlaps  # noqa: E402


@pytest.fixture(autouse=True)
def _no_windows():
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
        import matplotlib.pyplot as plt

        plt.close("all")


LOAD = make_seasonal(24 * 60, n_channels=3, random_state=0).data.copy()
LOAD[:, 1] = 50 + np.random.default_rng(0).normal(size=len(LOAD)).cumsum()  # needs its own weights
SEARCH = ExactSearch(
    alphas=(0.1, 1.0, 10.0),
    betas=(1.0,),
    corrected=(1.0,),
    kappas=(np.inf, 0.3),
    forgetting=(None, 0.3),
)


@pytest.fixture(scope="module")
def model():
    return AutoLinearForecaster((48, 72), 12, solver=SEARCH).fit(LOAD)


def by_hand(**columns):
    """Return results of four candidates, and their two groups."""
    results = {
        "lookback": np.array([24, 24, 48, 48]),
        "forgetting": np.full(4, np.nan),
        "normalization": np.array(["last"] * 4),
        "kappa": np.full(4, np.inf),
        "alpha": np.array([1.0, 10.0, 1.0, 10.0]),
        "beta": np.full(4, np.inf),
        "mean_validation_error": np.array([3.0, 2.5, 2.0, 2.2]),
    }
    groups = [
        {"lookback": 24, "forgetting": None, "normalization": "last", "validation_error": 2.5},
        {"lookback": 48, "forgetting": None, "normalization": "last", "validation_error": 2.0},
    ]
    return {**results, **columns}, groups


# -- errors ------------------------------------------------------------------------------------


def test_a_cell_is_the_best_of_its_lookback_and_penalty(model):
    display = SearchDisplay.from_estimator(model)
    r = model.cv_results_
    assert len(display.panels) == 4  # half-lives times kappas
    for panel, (forgetting, kappa) in zip(
        display.panels, [(None, np.inf), (None, 0.3), (0.3, np.inf), (0.3, 0.3)], strict=True
    ):
        half = np.isnan(r["forgetting"]) if forgetting is None else r["forgetting"] == forgetting
        assert ("30 % of the rows" in panel["title"]) == (forgetting is not None)
        assert ("per channel" in panel["title"]) == (kappa == 0.3)
        assert panel["lookbacks"] == [48, 72]
        assert panel["columns"] == [(False, 0.1), (False, 1.0), (False, 10.0), (True, 1.0)]
        for i, lookback in enumerate(panel["lookbacks"]):
            for j, (corrected, alpha) in enumerate(panel["columns"]):
                cell = half & (r["kappa"] == kappa) & (r["lookback"] == lookback)
                cell &= (r["alpha"] == alpha) & (np.isfinite(r["beta"]) == corrected)
                assert panel["error"][i, j] == r["mean_validation_error"][cell].min()


def test_the_best_cell_is_framed_and_errors_are_written_out(model):
    display = SearchDisplay.from_estimator(model)
    assert display.plot(figure=Figure()) is display
    framed = [(a, p) for a in display.axes_["errors"] for p in a.patches]
    assert len(framed) == 1
    axis, frame = framed[0]
    panel = display.panels[display.axes_["errors"].index(axis)]
    row, column = int(frame.get_y() + 0.5), int(frame.get_x() + 0.5)
    assert panel["error"][row, column] == pytest.approx(model.best_error_)
    assert panel["lookbacks"][row] == model.best_params_["lookback"]
    assert panel["columns"][column] == (
        bool(np.isfinite(model.best_params_["beta"])),
        model.best_params_["alpha"],
    )
    written = [t.get_text() for t in axis.texts]
    assert written == [f"{value:.3g}" for value in panel["error"].ravel()]
    images = [a.images[0] for a in display.axes_["errors"]]
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim()[0] == pytest.approx(model.best_error_)


def test_colors_end_where_penalties_are_hopeless():
    results, groups = by_hand(mean_validation_error=np.array([3.0, 250.0, 2.0, 2.2]))
    display = SearchDisplay(results, groups, [0.5, 0.5]).plot(figure=Figure())
    assert display.axes_["errors"][0].images[0].get_clim() == (2.0, 2.5)


def test_what_was_not_tried_is_left_white():
    results, groups = by_hand(
        lookback=np.array([24, 24, 48, 72]), alpha=np.array([1.0, 10.0, 1.0, np.inf])
    )
    display = SearchDisplay(results, groups, [0.5, 0.5]).plot(figure=Figure())
    np.testing.assert_array_equal(
        display.panels[0]["error"],
        [[3.0, 2.5, np.nan], [2.0, np.nan, np.nan], [np.nan, np.nan, 2.2]],
    )
    axis = display.axes_["errors"][0]
    assert [t.get_text() for t in axis.texts].count("-") == 5
    assert [t.get_text() for t in axis.get_xticklabels()] == ["1", "10", "inf"]
    assert axis.get_xlabel() == "alpha"  # nothing but shared weights


def test_levels_are_named_where_there_are_several():
    results, groups = by_hand(normalization=np.array(["last", "last", "mean", "mean"]))
    groups[1]["normalization"] = "mean"
    display = SearchDisplay(results, groups, [0.5, 0.5]).plot(figure=Figure())
    assert ["from the last" in p["title"] for p in display.panels] == [True, False]
    names = [t.get_text() for t in display.axes_["shares"].get_yticklabels()]
    assert names[1].endswith("from the mean")


def test_the_best_settings_are_drawn_of_many():
    n = 12
    results, groups = by_hand(
        lookback=np.full(n, 24),
        forgetting=np.arange(10.0, 10.0 + n),
        normalization=np.array(["last"] * n),
        kappa=np.full(n, np.inf),
        alpha=np.ones(n),
        beta=np.full(n, np.inf),
        mean_validation_error=np.arange(n, 0.0, -1.0),
    )
    display = SearchDisplay(results, groups, [0.5, 0.5]).plot(figure=Figure())
    titles = [a.get_title(loc="left") for a in display.axes_["errors"]]
    assert titles == [f"half-life {k} rows, one prior for all" for k in range(14, 22)]
    assert display.figure_._suptitle.get_text() == "the 8 best of 12 settings"


# -- shares ------------------------------------------------------------------------------------


def test_shares_are_bars_that_name_their_groups(model):
    display = SearchDisplay.from_estimator(model).plot(figure=Figure())
    axis = display.axes_["shares"]
    names = [t.get_text() for t in axis.get_yticklabels()]
    written = [t.get_text() for t in axis.texts]
    lengths = [b.get_width() for b in axis.patches]
    assert len(set(names)) == len(names) == len(lengths) == len(model.groups_)
    assert [int(name.split()[1].strip(",")) for name in names] == sorted(
        group["lookback"] for group in model.groups_
    )
    for share, group in zip(model.weights_of_groups_, model.groups_, strict=True):
        place = lengths.index(share)
        assert names[place].startswith(f"lookback {group['lookback']}, ")
        assert ("all rows count alike" in names[place]) == (group["forgetting"] is None)
        assert written[place] == f"{100 * share:.0f} %, error {group['validation_error']:.4g}"
    assert sum(model.weights_of_groups_) == pytest.approx(1.0)


def test_small_shares_of_many_groups_are_left_out():
    results, _ = by_hand()
    groups = [{"lookback": k, "forgetting": 100.0, "normalization": "last"} for k in range(1, 21)]
    shares = np.arange(1.0, 21.0) / 210
    display = SearchDisplay(results, groups, shares).plot(figure=Figure())
    axis = display.axes_["shares"]
    assert len(axis.patches) == 16
    assert axis.get_yticklabels()[0].get_text() == "lookback 5, half-life 100 rows"
    assert "4 groups with less are left out" in axis.get_xlabel()


# -- the figure --------------------------------------------------------------------------------


def test_texts_do_not_cover_each_other(model):
    figure = Figure()
    SearchDisplay.from_estimator(model).plot(figure=figure)
    assert overlaps(figure) == []
    default = AutoLinearForecaster(horizon=12).fit(LOAD)
    figure = Figure()
    SearchDisplay.from_estimator(default).plot(figure=figure)
    assert overlaps(figure) == []


def test_a_figure_of_pyplot_by_default(model):
    import matplotlib.pyplot as plt

    display = SearchDisplay.from_estimator(model).plot()
    assert display.figure_ in [plt.figure(k) for k in plt.get_fignums()]
    whole = Figure(layout="constrained")
    part = whole.subfigures(1, 2)[0]
    assert SearchDisplay.from_estimator(model).plot(figure=part).figure_ is part


def test_no_matplotlib(model, monkeypatch):
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    for name in [m for m in sys.modules if m.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'mixlin\[plot\]'"):
        SearchDisplay.from_estimator(model).plot()


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"got NLinearForecaster\. Call fit"):
        SearchDisplay.from_estimator(NLinearForecaster())
    with pytest.raises(TypeError, match="got AutoLinearForecaster"):
        SearchDisplay.from_estimator(AutoLinearForecaster())
    results, groups = by_hand()
    with pytest.raises(ValueError, match="results lack beta, kappa; pass the cv_results_"):
        SearchDisplay(
            {k: v for k, v in results.items() if k not in ("beta", "kappa")}, groups, [0.5, 0.5]
        )
    with pytest.raises(ValueError, match="columns of one length"):
        SearchDisplay({**results, "alpha": np.ones(3)}, groups, [0.5, 0.5])
    for shares in ([1.0], [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="2 groups need as many shares"):
            SearchDisplay(results, groups, shares)
    with pytest.raises(ValueError, match="0 groups"):
        SearchDisplay(results, [], [])


# -- parts of the matrix -----------------------------------------------------------------------


def test_the_parts_of_a_matrix_add_up(model):
    for channel in (0, 2, -1):
        display = WeightsDisplay.from_estimator(model, channel=channel, parts=True)
        *parts, whole = display.coefficients
        assert display.names[0] == "prior"
        assert display.names[-1] == "sum"
        np.testing.assert_allclose(np.sum(parts, axis=0), whole, atol=1e-12)
        np.testing.assert_allclose(whole, model.coef_[channel], atol=1e-12)
        np.testing.assert_allclose(parts[0].sum(axis=1), 1.0)  # a forecast by itself
        for part in parts[1:]:
            np.testing.assert_allclose(part.sum(axis=1), 0.0, atol=1e-9)


def test_parts_that_are_zero_are_left_out():
    shared = AutoLinearForecaster(48, 12, shared=True).fit(LOAD)
    display = WeightsDisplay.from_estimator(shared, channel=1, parts=True)
    assert display.names == ["prior", "what all channels add", "sum"]
    own = ExactSearch(alphas=(np.inf,), betas=(1.0,), corrected=(np.inf,), forgetting=(None,))
    apart = AutoLinearForecaster(48, 12, solver=own).fit(LOAD)
    names = WeightsDisplay.from_estimator(apart, parts=True).names
    if np.isfinite(apart.best_params_["beta"]):
        assert names == ["prior", "what the channel adds of its own", "sum"]


def test_parts_have_one_scale_of_colors_and_steps_can_be_picked(model):
    display = WeightsDisplay.from_estimator(model, parts=True, steps=[1, 12])
    display.plot(figure=Figure())
    limits = {axis.images[0].get_clim() for axis in display.axes_}
    assert len(limits) == 1
    assert [axis.get_title(loc="left") for axis in display.axes_] == display.names
    np.testing.assert_allclose(display.coefficients[-1], model.coef_[0][[0, 11]], atol=1e-12)
    assert overlaps(display.figure_) == []


def test_other_models_have_no_parts():
    fitted = NLinearForecaster(48, 12).fit(LOAD)
    with pytest.raises(ValueError, match="parts=True takes the matrix of an AutoLinear"):
        WeightsDisplay.from_estimator(fitted, parts=True)
