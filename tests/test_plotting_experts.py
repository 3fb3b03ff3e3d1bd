from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import Bunch

from mixlin import NLinearForecaster, SuperLinearForecaster
from mixlin.experts import default_bank
from mixlin.plotting import ExpertsDisplay

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from .test_plotting_mixtures import overlaps  # noqa: E402


@pytest.fixture(autouse=True)
def _no_windows():
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
        import matplotlib.pyplot as plt

        plt.close("all")


class StandIn:
    """A model whose experts are weighed by hand, in three windows of two channels."""

    names = ["period 24", "period 7", "no period", "found period"]

    def expert_weights(self, X=None, *, by="period", timestamps=None):
        self.asked = (X, by, timestamps)
        weights = np.empty((3, 2, 4))
        weights[:, 0] = [[0.1, 0.5, 0.4, 0.0], [0.1, 0.3, 0.6, 0.0], [0.1, 0.1, 0.8, 0.0]]
        weights[:, 1] = [0.0, 0.25, 0.0, 0.75]
        return Bunch(weights=weights, names=list(self.names))


def bars(display):
    """Return what is drawn from top to bottom: names and lengths."""
    names = [label.get_text().replace("\n", " ") for label in display.ax_.get_yticklabels()]
    top, bottom = sorted(display.ax_.get_ylim(), reverse=True)
    assert display.ax_.get_ylim() == (top, bottom)  # the first on top
    places = [bar.get_y() + bar.get_height() / 2 for bar in display.ax_.patches]
    np.testing.assert_allclose(places, np.arange(len(places)), atol=1e-12)
    return names, [bar.get_width() for bar in display.ax_.patches]


def test_means_over_windows_are_bars_with_the_largest_on_top():
    display = ExpertsDisplay.from_estimator(StandIn())
    assert display.plot(figure=Figure()) is display
    names, lengths = bars(display)
    assert names == ["no period", "period 7", "period 24"]
    np.testing.assert_allclose(lengths, [0.6, 0.3, 0.1])
    assert [t.get_text() for t in display.ax_.texts] == ["60 %", "30 %", "10 %"]
    assert display.ax_.get_xlabel() == "share of the weight, mean of 3 windows"
    np.testing.assert_allclose(display.weights, [0.1, 0.3, 0.6, 0.0])
    assert display.names == StandIn.names


def test_another_channel_has_bars_of_its_own():
    for channel in (1, -1):
        display = ExpertsDisplay.from_estimator(StandIn(), channel=channel).plot(figure=Figure())
        assert bars(display) == (["found period", "period 7"], [0.75, 0.25])


def test_what_the_model_is_asked_is_passed_on():
    model = StandIn()
    ExpertsDisplay.from_estimator(model, "windows", by="expert", timestamps="times")
    assert model.asked == ("windows", "expert", "times")


def test_the_rest_is_one_bar_and_bars_sum_to_one():
    weights = np.array([0.05, 0.4, 0.1, 0.25, 0.2, 0.0])
    display = ExpertsDisplay(weights, list("abcdef"), n_names=2).plot(figure=Figure())
    names, lengths = bars(display)
    assert names == ["b", "d", "others (3)"]  # those that have weight
    np.testing.assert_allclose(lengths, [0.4, 0.25, 0.35])
    colors = [bar.get_facecolor() for bar in display.ax_.patches]
    assert colors[0] == colors[1] != colors[2]
    assert display.ax_.get_xlabel() == "share of the weight"


def test_a_single_other_keeps_its_name():
    display = ExpertsDisplay([0.5, 0.2, 0.3], list("abc"), n_names=2).plot(figure=Figure())
    assert bars(display) == (["a", "c", "b"], [0.5, 0.3, 0.2])


def test_what_cannot_be_seen_is_left_out():
    display = ExpertsDisplay([0.9955, 0.004, 0.0005], list("abc")).plot(figure=Figure())
    assert bars(display) == (["a"], [0.9955])
    # many small ones together can be
    many = np.concatenate([[0.8], np.full(100, 0.002)])
    display = ExpertsDisplay(many, [f"e{i}" for i in range(101)]).plot(figure=Figure())
    names, lengths = bars(display)
    assert names == ["e0", "others (100)"]
    np.testing.assert_allclose(lengths, [0.8, 0.2])


def test_small_shares_are_written_as_such():
    flat = np.full(200, 1 / 200)
    display = ExpertsDisplay(flat, [f"e{i}" for i in range(200)], n_names=3).plot(figure=Figure())
    assert bars(display)[0] == ["e0", "e1", "e2", "others (197)"]
    assert [t.get_text() for t in display.ax_.texts] == ["< 1 %"] * 3 + ["98 %"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda w: sum(w) > 0.01),
    st.integers(1, 12),
)
def test_no_weight_is_lost_that_could_be_seen(weights, n_names):
    weights = np.array(weights) / sum(weights)
    display = ExpertsDisplay(weights, [f"e{i}" for i in range(len(weights))], n_names=n_names)
    names, shares, n_others = display._bars()
    own = shares[: len(shares) - (n_others > 0)]
    assert (np.diff(own) <= 0).all()
    assert len(own) <= n_names + 1
    assert 1 - shares.sum() < 0.01 * weights.max() + 1e-12
    drawn = [weights[int(name[1:])] for name in names[: len(own)]]
    np.testing.assert_array_equal(own, drawn)


def test_all_weights_zero_are_drawn_without_a_warning():
    display = ExpertsDisplay([0.0, 0.0], ["a", "b"]).plot(figure=Figure())
    assert bars(display) == (["a"], [0.0])


def test_long_names_are_wrapped_and_readable(tmp_path):
    names = default_bank().names
    weights = np.linspace(1, 2, len(names))
    display = ExpertsDisplay(weights / weights.sum(), names).plot(figure=Figure())
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert max(len(line) for label in labels for line in label.splitlines()) <= 44
    assert overlaps(display.figure_) == []
    display.figure_.savefig(tmp_path / "plot.png", dpi=50)
    figure = display.figure_
    for label in display.ax_.get_yticklabels():  # inside the figure
        assert label.get_window_extent().x0 >= 0
    assert figure.get_size_inches()[1] < 8


def test_a_forecaster_is_drawn_by_period_and_by_expert():
    week = np.array([5.0, 5.0, 6.0, 5.0, 7.0, 2.0, 1.0])
    model = SuperLinearForecaster(horizon=7).fit(np.tile(week, 30))
    display = ExpertsDisplay.from_estimator(model).plot(figure=Figure())
    names, lengths = bars(display)
    assert names[0] == "period 7"
    assert 0.98 < sum(lengths) <= 1 + 1e-12
    expected = model.expert_weights(by="expert")
    each = ExpertsDisplay.from_estimator(model, by="expert")
    np.testing.assert_allclose(each.weights, expected.weights[0, 0])
    assert each.names == model.expert_names_


def test_axes_of_ones_own_are_drawn_on():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    display = ExpertsDisplay.from_estimator(StandIn(), ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert display.plot(ax=left).ax_ is left
    assert len(left.patches) == len(right.patches) == 3
    assert not hasattr(ExpertsDisplay.from_estimator(StandIn()), "ax_")


def test_a_figure_of_ones_own_needs_no_pyplot():
    import matplotlib.pyplot as plt

    n_open, figure = len(plt.get_fignums()), Figure()
    display = ExpertsDisplay.from_estimator(StandIn())
    assert display.plot(figure=figure).figure_ is figure
    left, _ = Figure(figsize=(12, 5)).subfigures(1, 2)
    assert display.plot(figure=left).figure_ is left
    assert len(plt.get_fignums()) == n_open
    display.plot()
    assert len(plt.get_fignums()) == n_open + 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ExpertsDisplay([0.5, 0.5], ["a"]), r"shape \(n_windows, 1\).*got \(2,\)"),
        (lambda: ExpertsDisplay(np.ones((1, 1, 2)), ["a", "b"]), r"got \(1, 1, 2\)"),
        (lambda: ExpertsDisplay(np.ones((0, 2)), ["a", "b"]), r"got \(0, 2\)"),
        (lambda: ExpertsDisplay([1.5, -0.5], ["a", "b"]), "at least 0"),
        (lambda: ExpertsDisplay([np.nan, 0.5], ["a", "b"]), "not finite"),
        (lambda: ExpertsDisplay([np.inf, 0.5], ["a", "b"]), "not finite"),
        (lambda: ExpertsDisplay([1.0], ["a"], n_names=0), "n_names .* got 0"),
        (lambda: ExpertsDisplay([1.0], ["a"], n_names=2.5), "n_names .* got 2.5"),
        (lambda: ExpertsDisplay.from_estimator(StandIn(), channel=2), "channel 2 is not there"),
        (lambda: ExpertsDisplay.from_estimator(StandIn(), channel="a"), "channel 'a' is not"),
        (lambda: ExpertsDisplay.from_estimator(StandIn(), channel=True), "channel True is not"),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_other_models_get_a_sentence():
    with pytest.raises(TypeError, match=r"got NLinearForecaster\. RoutingDisplay draws"):
        ExpertsDisplay.from_estimator(NLinearForecaster(8, 4))


def test_without_matplotlib_there_is_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    display = ExpertsDisplay.from_estimator(StandIn())
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'mixlin\[plot\]'"):
        display.plot()
    monkeypatch.undo()
