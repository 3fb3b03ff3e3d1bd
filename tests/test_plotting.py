from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest

from mixlin import NLinearForecaster
from mixlin.plotting import ForecastDisplay, plot_forecast

matplotlib = pytest.importorskip("matplotlib")
pd = pytest.importorskip("pandas")

from matplotlib.dates import date2num  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


@pytest.fixture(autouse=True)
def _no_windows():
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
        import matplotlib.pyplot as plt

        plt.close("all")


def series(n_rows=300, n_channels=2):
    steps = np.arange(n_rows)[:, None]
    return np.sin(2 * np.pi * steps / 24) + 10 * np.arange(n_channels)


def frame(n_rows=300, n_channels=2, **index):
    index = {"start": "2024-01-01", "periods": n_rows, "freq": "h", **index}
    names = [f"c{i}" for i in range(n_channels)]
    return pd.DataFrame(series(n_rows, n_channels), pd.date_range(**index), names)


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_history_forecast_interval_and_outcome_are_drawn_where_they_belong():
    data = frame()
    model = NLinearForecaster(48, 24).fit(data[:-24])
    display = ForecastDisplay.from_estimator(model, data[:-24], coverage=0.8, actual=data[-24:])
    assert display.plot() is display
    assert len(display.axes_) == 2
    for c, axis in enumerate(display.axes_):
        drawn = lines(axis)
        np.testing.assert_array_equal(drawn["history"].get_ydata(), data.iloc[-120:-24, c])
        np.testing.assert_allclose(drawn["forecast"].get_ydata(), model.predict().iloc[:, c])
        np.testing.assert_array_equal(drawn["actual"].get_ydata(), data.iloc[-24:, c])
        np.testing.assert_allclose(
            date2num(drawn["forecast"].get_xdata()), date2num(data.index[-24:])
        )
        band = axis.collections[0]
        assert band.get_label() == "80 % interval"
        limits = model.predict_interval(coverage=0.8).to_numpy().reshape(24, 2, 2)[:, c]
        low, high = band.get_datalim(axis.transData).intervaly
        assert low == pytest.approx(limits[:, 0].min())
        assert high == pytest.approx(limits[:, 1].max())
        assert axis.get_title(loc="left") == f"c{c}"


def test_one_legend_names_everything_in_order():
    data = series(n_channels=1)[:, 0]
    model = NLinearForecaster(48, 24).fit(data)
    display = plot_forecast(data, model.predict(), interval=model.predict_interval())
    names = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert names == ["history", "forecast", "interval"]


def test_arrays_are_drawn_over_steps():
    display = plot_forecast(np.arange(100.0), np.arange(100.0, 110.0))
    drawn = lines(display.axes_[0])
    np.testing.assert_array_equal(drawn["forecast"].get_xdata(), np.arange(100, 110))
    np.testing.assert_array_equal(drawn["history"].get_xdata(), np.arange(52, 100))
    assert display.axes_[0].get_xlabel() == "step"


def test_the_training_tail_stands_in_for_a_missing_context():
    data = frame()
    display = ForecastDisplay.from_estimator(NLinearForecaster(48, 24).fit(data)).plot()
    drawn = lines(display.axes_[1])["history"]
    np.testing.assert_array_equal(drawn.get_ydata(), data.iloc[-48:, 1])
    np.testing.assert_allclose(date2num(drawn.get_xdata()), date2num(data.index[-48:]))


@pytest.mark.parametrize(
    "index",
    [
        pd.period_range("2020-01", periods=120, freq="M"),
        pd.RangeIndex(5, 605, 5),
        pd.timedelta_range("0h", periods=120, freq="h"),
        pd.date_range("2024-03-20", periods=120, freq="h", tz="Europe/Berlin"),
    ],
    ids=["periods", "integers", "time deltas", "zone"],
)
def test_every_kind_of_index_can_be_drawn(index):
    data = pd.Series(series(120, 1)[:, 0], index=index, name="load")
    display = ForecastDisplay.from_estimator(NLinearForecaster(24, 12).fit(data)).plot()
    drawn = lines(display.axes_[0])
    assert len(drawn["history"].get_ydata()) == 24
    assert len(drawn["forecast"].get_ydata()) == 12
    places = [date2num(drawn[name].get_xdata()).astype(float) for name in ("history", "forecast")]
    assert places[1][0] > places[0][-1]
    assert display.axes_[0].get_title(loc="left") == "load"


def test_channels_are_chosen_by_name_and_place():
    data = frame(n_channels=4)
    model = NLinearForecaster(48, 24).fit(data)
    display = ForecastDisplay.from_estimator(model, channels=["c2", 0]).plot()
    assert [axis.get_title(loc="left") for axis in display.axes_] == ["c2", "c0"]


def test_many_channels_are_cut_and_said():
    data = frame(n_channels=11)
    display = ForecastDisplay.from_estimator(NLinearForecaster(24, 12).fit(data)).plot()
    assert len(display.axes_) == 8
    assert display.figure_.get_suptitle() == "the first 8 of 11 channels"


def test_given_axes_and_figures_are_used():
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(2)
    display = plot_forecast(series(), series(24), ax=axes)
    assert display.axes_[0] is axes[0]
    assert axes[0].get_legend() is not None
    _, ax = plt.subplots()
    assert plot_forecast(series(), series(24), channels=[1], ax=ax).axes_[0] is ax
    with pytest.raises(ValueError, match="2 channels need 2 axes; got 1"):
        plot_forecast(series(), series(24), ax=ax)

    figure = Figure()
    n_open = len(plt.get_fignums())
    assert ForecastDisplay(series(), series(24)).plot(figure=figure).figure_ is figure
    assert len(plt.get_fignums()) == n_open


@pytest.mark.parametrize("horizon", [1, 2])
def test_short_horizons_and_gaps_are_drawn(horizon, tmp_path):
    data = frame()
    data.iloc[-5] = np.nan
    model = NLinearForecaster(3, horizon).fit(data)
    display = ForecastDisplay.from_estimator(model, data, coverage=0.5).plot(n_history=10)
    assert len(lines(display.axes_[0])["history"].get_ydata()) == 10
    display.figure_.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ForecastDisplay(series(), series(24, 3)), "history has 2 channels, forecast 3"),
        (lambda: ForecastDisplay(series(), series(24), actual=series(24, 1)), "actual has 1"),
        (lambda: ForecastDisplay(series(), series(24), interval=series(24)), "interval must hold"),
        (lambda: ForecastDisplay(np.zeros((3, 4, 5)), series(24)), "history must hold rows"),
        (lambda: ForecastDisplay(series(), series(24), channels=["x"]), "channel 'x' is not there"),
        (lambda: ForecastDisplay(series(), series(24), channels=[2]), "channel 2 is not there"),
        (lambda: ForecastDisplay(series(), series(24), channels=[]), "at least one channel"),
    ],
)
def test_what_does_not_fit_together_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_many_series_get_a_sentence():
    model = NLinearForecaster(24, 12).fit([series(), series()])
    with pytest.raises(ValueError, match="a plot shows one series"):
        ForecastDisplay.from_estimator(model)
    assert ForecastDisplay.from_estimator(model, series()).forecast.shape == (12, 2)


def test_without_matplotlib_there_is_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    display = ForecastDisplay(series(), series(24))
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'mixlin\[plot\]'"):
        display.plot()
    monkeypatch.undo()
