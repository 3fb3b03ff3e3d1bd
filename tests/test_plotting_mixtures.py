from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from mixlin import LinearForecaster, NLinearForecaster, RLinearForecaster
from mixlin.inspection import mixture_report
from mixlin.layers import Block, Layer
from mixlin.mixture import FixedPlan, Mixture, predict_windows
from mixlin.normalization import Normalization
from mixlin.plotting import RoutingDisplay, WeightsDisplay
from mixlin.routing import ConstantRouter, Gate

from .test_inspection import H, L, StandIn, hours, series

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402


@pytest.fixture(autouse=True)
def _no_windows():
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
        import matplotlib.pyplot as plt

        plt.close("all")


def overlaps(figure):
    """Return the pairs of texts of a drawn figure that cover each other."""
    figure.draw_without_rendering()
    found, boxes = [], []
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        texts = [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for side, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            ticks = [t for t in side.get_major_ticks() if min(limits) <= t.get_loc() <= max(limits)]
            texts += [tick.label1 for tick in ticks]
        boxes += [
            (text.get_text(), text.get_window_extent())
            for text in texts
            if text.get_text() and text.get_visible() and text.get_rotation() in (0, 90)
        ]
    for i, (name, box) in enumerate(boxes):
        for other, second in boxes[:i]:
            wide = min(box.x1, second.x1) - max(box.x0, second.x0)
            high = min(box.y1, second.y1) - max(box.y0, second.y0)
            if wide > 1 and high > 1:
                found.append((name, other))
    return found


# ---------------------------------------------------------------------------------------------
# who does the work


def test_usage_is_drawn_as_bars_that_name_the_experts():
    display = RoutingDisplay.from_estimator(StandIn(), series())
    assert display.plot(figure=Figure()) is display
    axis = display.axes_["usage"]
    np.testing.assert_array_equal([b.get_width() for b in axis.patches], display.report.usage)
    assert [t.get_text() for t in axis.get_yticklabels()] == display.report.expert_names
    written = [t.get_text() for t in axis.texts]
    assert written == [f"{100 * share:.0f} %" for share in display.report.usage]
    assert f"{display.report.n_effective:.1f} of 3" in axis.get_title(loc="left")
    top, bottom = axis.get_ylim()
    assert top > bottom  # the first expert on top


def test_usage_over_time_is_stacked_in_the_colors_of_the_experts():
    values = series()
    display = RoutingDisplay.from_estimator(StandIn(), values, timestamps=hours(200))
    display.plot(figure=Figure())
    assert list(display.axes_) == ["usage", "hour", "weekday", "month", "error", "distance"]
    colors = [b.get_facecolor() for b in display.axes_["usage"].patches]
    for unit, n_bins in (("hour", 24), ("weekday", 7), ("month", 12)):
        parts, bars = display.report.usage_by[unit], display.axes_[unit].patches
        assert len(bars) == 3 * n_bins
        for e in range(3):
            own = bars[e * n_bins : (e + 1) * n_bins]
            shares = np.nan_to_num(parts.usage)
            np.testing.assert_allclose([b.get_height() for b in own], shares[:, e])
            np.testing.assert_allclose([b.get_y() for b in own], shares[:, :e].sum(axis=1))
            assert {b.get_facecolor() for b in own} == {colors[e]}


def test_without_times_usage_is_drawn_by_the_statistics_of_windows():
    display = RoutingDisplay.from_estimator(StandIn(), series()).plot(figure=Figure())
    assert list(display.axes_) == ["usage", "level", "spread", "trend", "error", "distance"]
    labels = [t.get_text() for t in display.axes_["level"].get_xticklabels()]
    assert labels == ["lowest", "low", "middle", "high", "highest"]


def test_a_calendar_that_does_not_vary_is_left_out():
    daily = np.datetime64("2024-03-04", "D") + np.arange(26)
    report = mixture_report(StandIn(), series(26), timestamps=daily)
    assert RoutingDisplay.from_report(report)._by == ["weekday"]
    chosen = RoutingDisplay.from_report(report, by=["month", "trend"]).plot(figure=Figure())
    assert list(chosen.axes_) == ["usage", "month", "trend", "error", "distance"]
    assert RoutingDisplay(report, by="hour")._by == ["hour"]


def test_errors_are_bars_from_the_error_of_the_mixture():
    display = RoutingDisplay.from_estimator(StandIn(), series()).plot(figure=Figure())
    report, axis = display.report, display.axes_["error"]
    ends = np.array([b.get_x() + b.get_width() for b in axis.patches])
    np.testing.assert_allclose(ends[:3], report.solo_error / report.error)
    np.testing.assert_allclose(ends[3:], report.drop_one_error / report.error)
    assert {b.get_x() for b in axis.patches} == {1.0}
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["alone", "left out"]


def test_errors_far_from_that_of_the_mixture_are_drawn_by_their_logarithm():
    model = StandIn()
    report = mixture_report(model, series())
    assert RoutingDisplay(report).plot(figure=Figure()).axes_["error"].get_xscale() == "linear"
    report.solo_error = report.error * np.array([1.0, 0.5, 900.0])
    assert RoutingDisplay(report).plot(figure=Figure()).axes_["error"].get_xscale() == "log"
    report.error = 0.0  # a perfect mixture: nothing to compare with
    assert RoutingDisplay(report).plot(figure=Figure()).axes_["error"].get_xlabel() == "MSE"


def test_distances_are_written_into_their_fields():
    display = RoutingDisplay.from_estimator(StandIn(), series()).plot(figure=Figure())
    axis, distance = display.axes_["distance"], display.report.distance
    np.testing.assert_allclose(axis.images[0].get_array(), distance)
    written = np.array([float(t.get_text()) for t in axis.texts]).reshape(3, 3)
    np.testing.assert_allclose(written, distance, atol=0.006 * max(1.0, distance.max()))
    places = [t.get_position() for t in axis.texts]
    assert places == [(j, i) for i in range(3) for j in range(3)]


@pytest.mark.parametrize("size", [1e-6, 1e5])
def test_distances_out_of_the_usual_are_written_with_their_power_of_ten(size):
    report = mixture_report(StandIn(), series())
    report.distance = size * report.distance / report.distance.max()
    axis = RoutingDisplay(report).plot(figure=Figure()).axes_["distance"]
    power = float(axis.get_title(loc="left").rpartition(" ")[2])
    written = np.array([float(t.get_text()) for t in axis.texts]).reshape(3, 3)
    np.testing.assert_allclose(written * power, report.distance, atol=0.006 * size)


@pytest.mark.parametrize("n_experts", [1, 2, 3, 4, 5, 6, 7, 8, 20])
@pytest.mark.parametrize("with_times", [True, False])
def test_any_number_of_experts_is_readable(n_experts, with_times, tmp_path):
    model = StandIn(n_experts)
    stamps = hours(24 * 400) if with_times else None
    values = series(24 * 400 if with_times else 200)
    report = mixture_report(model, values, timestamps=stamps)
    display = RoutingDisplay.from_report(report).plot(figure=Figure())
    assert overlaps(display.figure_) == []
    display.figure_.savefig(tmp_path / "plot.png", dpi=50)
    expected = {"usage", "error"} if n_experts == 1 else {"usage", "error", "distance"}
    assert expected <= set(display.axes_)
    assert ("distance" in display.axes_) is (n_experts > 1)


def test_overlapping_texts_are_seen():
    figure = Figure()
    axis = figure.subplots()
    axis.text(0.5, 0.5, "one")
    axis.text(0.51, 0.5, "two")
    assert overlaps(figure) == [("two", "one")]


def test_one_expert_has_its_error_and_no_comparison():
    display = RoutingDisplay.from_estimator(StandIn(1), series(), timestamps=hours(200))
    display.plot(figure=Figure())
    assert list(display.axes_) == ["usage", "error"]
    bar = display.axes_["error"].patches[0]
    assert (bar.get_x(), bar.get_width()) == (0.0, display.report.error)


def test_windows_without_targets_are_drawn_without_errors():
    x = np.stack([series()[i : i + L] for i in range(50)])
    display = RoutingDisplay.from_estimator(StandIn(), x).plot(figure=Figure())
    assert "error" not in display.axes_


def test_what_usage_cannot_be_drawn_by_gets_a_sentence():
    report = mixture_report(StandIn(), series())
    with pytest.raises(ValueError, match=r"got 'hour'\. Pass timestamps"):
        RoutingDisplay(report, by="hour")
    with pytest.raises(ValueError, match="among 'level', 'spread', 'trend'; got 'colour'"):
        RoutingDisplay(report, by=["level", "colour"])


# ---------------------------------------------------------------------------------------------
# what the experts look at


class Planned(BaseEstimator):
    """A forecaster that is nothing but its mixture."""

    def __init__(self, n_experts=3, n_channels=2, groups=1, normalization=None, ridden=False):
        self.n_experts = n_experts
        self.n_channels = n_channels
        self.groups = groups
        self.normalization = normalization
        self.ridden = ridden
        rng = np.random.default_rng(4)
        self.mixture = Mixture(
            rng.normal(size=(groups, n_experts, L, H)),
            level_coef=rng.normal(size=(groups, n_experts, H)) if ridden else None,
            normalization=Normalization(normalization or "none"),
            gate=fixed_gate(n_experts),
        )
        self.plan_ = FixedPlan(L, H, n_channels, fixed=self.mixture)
        self.n_channels_in_ = n_channels

    def forecast(self, windows, expert):
        mixture = self.mixture
        one = slice(expert, expert + 1)
        own = Mixture(
            mixture.weights[:, one],
            level_coef=None if mixture.level_coef is None else mixture.level_coef[:, one],
            normalization=mixture.normalization,
        )
        return predict_windows(own, windows)


def fixed_gate(n_experts):
    if n_experts == 1:
        return None
    return Gate(ConstantRouter(), (Layer(np.zeros((1, 1, n_experts)), np.zeros((1, n_experts))),))


@pytest.mark.parametrize(
    ("normalization", "ridden"),
    [("none", False), ("last", False), ("mean", False), ("last", True), ("mean", True)],
)
@pytest.mark.parametrize(("groups", "channel"), [(1, 0), (2, 0), (2, 1), (2, -1)])
def test_the_matrices_are_what_the_experts_do_to_a_window(normalization, groups, channel, ridden):
    model = Planned(3, 2, groups, normalization, ridden)
    display = WeightsDisplay.from_estimator(model, channel=channel)
    units = np.repeat(np.eye(L)[:, None], 2, axis=1)
    for e in range(3):
        answer = model.forecast(units, e)[:, channel]  # (L, H): what every lag alone gives
        np.testing.assert_allclose(display.coefficients[e], answer.T, atol=1e-12)


@pytest.mark.parametrize(
    "model",
    [LinearForecaster(L, H), NLinearForecaster(L, H), RLinearForecaster(L, H, individual=True)],
)
def test_the_linear_forecasters_show_their_coef(model):
    model.fit(series())
    display = WeightsDisplay.from_estimator(model, channel=1).plot(figure=Figure())
    coef = model.coef_ if model.coef_.ndim == 2 else model.coef_[1]
    np.testing.assert_array_equal(display.coefficients[0], coef)
    assert display.axes_[0].get_title(loc="left") == type(model).__name__


def test_the_first_lag_is_on_the_right_and_the_first_step_on_top():
    model = Planned()
    display = WeightsDisplay.from_estimator(model).plot(figure=Figure())
    image = display.axes_[0].images[0]
    np.testing.assert_allclose(image.get_array(), display.coefficients[0])
    assert tuple(image.get_extent()) == (L + 0.5, 0.5, H + 0.5, 0.5)
    left, right = display.axes_[0].get_xlim()
    bottom, top = display.axes_[0].get_ylim()
    assert left > right
    assert bottom > top
    assert display.axes_[0].get_ylabel() == "step to forecast"


def test_colors_are_shared_and_symmetric_around_zero():
    display = WeightsDisplay.from_estimator(Planned()).plot(figure=Figure())
    limits = {axis.images[0].get_clim() for axis in display.axes_}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert 0 < high <= np.abs(display.coefficients).max()
    flat = WeightsDisplay(np.zeros((2, 3))).plot(figure=Figure())
    assert flat.axes_[0].images[0].get_clim() == (-1.0, 1.0)


def test_a_spike_does_not_bleach_the_rest():
    matrices = np.full((1, 24, 96), 0.1)
    matrices[0, 0, -1] = 50.0
    display = WeightsDisplay(matrices).plot(figure=Figure())
    assert display.axes_[0].images[0].get_clim() == (-0.1, 0.1)
    assert display.figure_.axes[-1]._colorbar.extend == "both"


def test_titles_tell_names_and_usage():
    model = Planned()
    model.expert_names_ = ["day", "week", "rest"]
    model.expert_usage_ = np.array([0.5, 0.375, 0.125])
    display = WeightsDisplay.from_estimator(model).plot(figure=Figure())
    titles = [axis.get_title(loc="left") for axis in display.axes_]
    assert titles == ["day (50 %)", "week (38 %)", "rest (12 %)"]


def test_of_many_experts_the_most_used_are_drawn():
    model = Planned(11)
    display = WeightsDisplay.from_estimator(model).plot(figure=Figure())
    assert display.figure_.get_suptitle() == "the 8 first of 11 experts"
    model.expert_usage_ = np.arange(11) / 55
    display = WeightsDisplay.from_estimator(model).plot(figure=Figure())
    assert display.figure_.get_suptitle() == "the 8 most used of 11 experts"
    shown = [axis.get_title(loc="left").split(" (")[0] for axis in display.axes_]
    assert shown == [f"expert {e}" for e in range(10, 2, -1)]
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), display.coefficients[10])


def test_steps_are_chosen_and_named():
    model = Planned()
    whole = WeightsDisplay.from_estimator(model).coefficients
    display = WeightsDisplay.from_estimator(model, steps=[3, 1]).plot(figure=Figure())
    np.testing.assert_array_equal(display.coefficients, whole[:, [2, 0]])
    assert [t.get_text() for t in display.axes_[0].get_yticklabels()] == ["3", "1"]
    one = WeightsDisplay.from_estimator(model, steps=2)
    np.testing.assert_array_equal(one.coefficients, whole[:, [1]])


@pytest.mark.parametrize("n_experts", range(1, 9))
def test_any_number_of_matrices_is_readable(n_experts, tmp_path):
    display = WeightsDisplay.from_estimator(Planned(n_experts)).plot(figure=Figure())
    assert len(display.axes_) == n_experts
    assert overlaps(display.figure_) == []
    display.figure_.savefig(tmp_path / "plot.png", dpi=50)
    with_label = [axis for axis in display.axes_ if axis.get_xlabel()]
    assert len(with_label) == min(2, n_experts)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: WeightsDisplay.from_estimator(Planned(), channel=2), "channel 2 is not there"),
        (lambda: WeightsDisplay.from_estimator(Planned(), channel="a"), "channel 'a' is not"),
        (lambda: WeightsDisplay.from_estimator(Planned(), steps=0), "to 3; got 0"),
        (lambda: WeightsDisplay.from_estimator(Planned(), steps=[1, 4]), "to 3; got 4"),
        (lambda: WeightsDisplay.from_estimator(Planned(), steps=[]), "to 3; got none"),
        (lambda: WeightsDisplay(np.zeros(4)), "coefficients must have shape"),
        (lambda: WeightsDisplay(np.zeros((2, 3, 4)), names=["a"]), "2 experts and 3 steps"),
        (lambda: WeightsDisplay(np.zeros((2, 3, 4)), usage=[1.0]), r"usage must have shape \(2,\)"),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_models_without_matrices_get_a_sentence():
    with pytest.raises(TypeError, match="Call fit first"):
        WeightsDisplay.from_estimator(NLinearForecaster(L, H))
    model = Planned()
    block = Block((Layer(np.eye(L)[None], None),))
    mixture = Mixture(model.mixture.weights, gate=model.mixture.gate, pre=(block,))
    model.plan_ = FixedPlan(L, H, 2, fixed=mixture)
    with pytest.raises(ValueError, match="layers before or after its experts"):
        WeightsDisplay.from_estimator(model)


# ---------------------------------------------------------------------------------------------
# figures, and matplotlib as an extra

DISPLAYS = {
    "routing": lambda: RoutingDisplay.from_estimator(StandIn(), series()),
    "weights": lambda: WeightsDisplay.from_estimator(Planned()),
}


@pytest.mark.parametrize("which", DISPLAYS)
def test_a_figure_of_ones_own_needs_no_pyplot(which):
    import matplotlib.pyplot as plt

    n_open, figure = len(plt.get_fignums()), Figure()
    assert DISPLAYS[which]().plot(figure=figure).figure_ is figure
    assert len(plt.get_fignums()) == n_open
    left, _ = Figure(figsize=(12, 5)).subfigures(1, 2)
    assert DISPLAYS[which]().plot(figure=left).figure_ is left
    DISPLAYS[which]().plot()
    assert len(plt.get_fignums()) == n_open + 1


@pytest.mark.parametrize("which", DISPLAYS)
def test_without_matplotlib_there_is_a_sentence(which, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    display = DISPLAYS[which]()
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'mixlin\[plot\]'"):
        display.plot()
    monkeypatch.undo()


def test_importing_the_displays_loads_no_matplotlib():
    probe = "import sys, mixlin.plotting, mixlin.inspection; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "False"
