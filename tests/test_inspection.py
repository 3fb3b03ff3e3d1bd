import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from mixlin import LinearForecaster
from mixlin.inspection import mixture_report, report_table
from mixlin.windows import make_windows

L, H = 6, 3


class StandIn(BaseEstimator):
    """A mixture with known experts, whose gate reads the window, and the time where it is known.

    ``reads="steps"`` has a gate per step, ``"window"`` one per window and channel, and an array
    is the gate of every window.
    """

    def __init__(self, n_experts=3, n_channels=2, reads="window", seed=0):
        self.n_experts = n_experts
        self.n_channels = n_channels
        self.reads = reads
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.lookback_, self.horizon_, self.n_channels_in_ = L, H, n_channels
        self.matrices = rng.normal(size=(n_experts, H, L))
        self.slopes = rng.normal(size=(2, n_experts))
        self.expert_names_ = [f"expert {e}" for e in range(n_experts)]
        self.expert_usage_ = np.full(n_experts, 1 / n_experts)

    def fit(self, X, y=None):
        return self

    def gate_weights(self, X=None, *, timestamps=None):
        shape = (len(X), self.n_channels, self.n_experts)
        if not isinstance(self.reads, str):
            return np.broadcast_to(self.reads, shape)
        logits = np.tanh(X.mean(axis=1))[..., None] * self.slopes[0]
        if timestamps is not None:
            assert timestamps.shape == (len(X), L + H)
            hours = timestamps[:, L:].astype("datetime64[h]").astype(int) % 24
            logits = logits + np.sin(hours[:, 0, None, None]) * self.slopes[1]
        if self.reads == "steps":
            steps = np.arange(H)[None, :, None, None]
            logits = logits[:, None] + steps * self.slopes[1]
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def expert_forecasts(self, X=None, *, timestamps=None):
        return np.einsum("ehl,nlc->nhce", self.matrices, X)


def series(n_rows=200, n_channels=2, seed=1):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(n_rows, n_channels)), axis=0) * [1.0, 30.0][:n_channels]


def hours(n_rows, start="2024-01-28T20"):
    return np.datetime64(start, "h") + np.arange(n_rows)


def windows_of(values):
    return make_windows(values, L, H)


RTOL = 1e-10


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=RTOL, atol=1e-12)


def pieces(model, values, stamps=None):
    """Return windows, targets, gates (n, H, C, E) and forecasts, without blocks."""
    x, y = windows_of(values)
    times = None
    if stamps is not None:
        times = np.stack([stamps[i : i + L + H] for i in range(len(x))])
    gates = model.gate_weights(x, timestamps=times)
    gates = gates if gates.ndim == 4 else np.repeat(gates[:, None], H, axis=1)
    return x, y, gates, model.expert_forecasts(x)


def plain_errors(gates, forecasts, y, scale):
    """Return errors of the mixture, of single experts, and without each, by their definitions."""
    n, _, C, E = forecasts.shape
    solo, without, mixed = np.zeros(E), np.zeros(E), 0.0
    for i in range(n):
        for h in range(H):
            for c in range(C):
                g, f, target = gates[i, h, c], forecasts[i, h, c], y[i, h, c]
                mixed += ((g @ f - target) / scale[c]) ** 2
                for e in range(E):
                    solo[e] += ((f[e] - target) / scale[c]) ** 2
                    others = [j for j in range(E) if j != e]
                    rest = g[others].sum()
                    weight = g[others] / rest if rest else np.full(E - 1, 1 / (E - 1))
                    without[e] += ((weight @ f[others] - target) / scale[c]) ** 2
    return [total / (n * H * C) for total in (mixed, solo, without)]


def plain_information(gates, bins, n_bins):
    """Return the mutual information of expert and bin from a table of joint weights."""
    joint = np.zeros((n_bins, gates.shape[-1]))
    for g, b in zip(gates.reshape(-1, gates.shape[-1]), np.ravel(bins), strict=True):
        joint[b] += g
    joint /= joint.sum()
    total = 0.0
    for b in range(n_bins):
        for e in range(joint.shape[1]):
            if joint[b, e]:
                total += joint[b, e] * np.log(joint[b, e] / joint[b].sum() / joint[:, e].sum())
    return total


@pytest.mark.parametrize("reads", ["window", "steps"])
def test_usage_and_entropy_are_those_of_the_gates(reads):
    model, values = StandIn(reads=reads), series()
    report = mixture_report(model, values)
    _, _, gates, _ = pieces(model, values)
    close(report.usage, gates.mean(axis=(0, 1, 2)))
    close(report.entropy, -(gates * np.log(gates)).sum(axis=-1).mean())
    close(report.n_effective, np.exp(-(report.usage * np.log(report.usage)).sum()))
    assert report.n_windows == len(gates)
    assert report.per_step is (reads == "steps")
    assert report.expert_names == model.expert_names_


@pytest.mark.parametrize("reads", ["window", "steps"])
@pytest.mark.parametrize("scale", [True, False])
def test_errors_are_those_of_the_mixture_of_one_expert_and_without_one(reads, scale):
    model, values = StandIn(reads=reads), series(60)
    report = mixture_report(model, values, scale=scale)
    _, y, gates, forecasts = pieces(model, values)
    divisor = y.std(axis=(0, 1)) if scale else np.ones(2)
    error, solo, without = plain_errors(gates, forecasts, y, divisor)
    close(report.error, error)
    close(report.solo_error, solo)
    close(report.drop_one_error, without)
    close(report.channel_scale, divisor)


def test_the_comparison_sees_errors_that_are_off_by_ten_tolerances():
    model, values = StandIn(), series(60)
    report = mixture_report(model, values)
    _, y, gates, forecasts = pieces(model, values)
    error, solo, without = plain_errors(gates, forecasts, y, y.std(axis=(0, 1)))
    for ours, plain in (
        (report.error, error),
        (report.solo_error, solo),
        (report.drop_one_error, without),
    ):
        with pytest.raises(AssertionError):
            close(ours * (1 + 10 * RTOL), plain)


def test_without_the_expert_that_held_all_the_weight_the_others_share_equally():
    model, values = StandIn(reads=np.array([0.0, 1.0, 0.0])), series(40)
    with pytest.warns(UserWarning, match="a tenth of an even share"):
        report = mixture_report(model, values)
    _, y, gates, forecasts = pieces(model, values)
    _, _, without = plain_errors(gates, forecasts, y, y.std(axis=(0, 1)))
    close(report.drop_one_error, without)
    apart = (forecasts[..., [0, 2]].mean(axis=-1) - y) / y.std(axis=(0, 1))
    close(report.drop_one_error[1], (apart**2).mean())


def test_a_little_weight_is_renormalised_and_not_shared():
    held = np.array([1e-200, 1.0, 3e-200])
    model, values = StandIn(reads=held), series(40)
    with pytest.warns(UserWarning, match="a tenth of an even share"):
        report = mixture_report(model, values)
    _, y, _, forecasts = pieces(model, values)
    apart = (forecasts[..., [0, 2]] @ [0.25, 0.75] - y) / y.std(axis=(0, 1))
    close(report.drop_one_error[1], (apart**2).mean())


def test_distances_are_root_mean_squared_differences_of_forecasts():
    model, values = StandIn(), series(60)
    report = mixture_report(model, values)
    _, y, _, forecasts = pieces(model, values)
    scaled = forecasts / y.std(axis=(0, 1))[:, None]
    for i in range(3):
        for j in range(3):
            apart = scaled[..., i] - scaled[..., j]
            close(report.distance[i, j], np.sqrt((apart**2).mean()))


def test_distances_are_the_trace_over_the_second_moments_of_the_windows():
    model, values = StandIn(n_channels=1), series(90, 1)
    distance = mixture_report(model, values, scale=False).distance
    x = windows_of(values)[0][:, :, 0]
    moments = x.T @ x / len(x)
    for i in range(3):
        for j in range(3):
            apart = model.matrices[i] - model.matrices[j]
            close(distance[i, j] ** 2, np.trace(apart @ moments @ apart.T) / H)


def test_distances_of_near_experts_do_not_drown_in_the_level():
    model = StandIn()
    model.matrices[1] = model.matrices[0] + 1e-9 * model.matrices[1]
    model.matrices[2] = model.matrices[0]
    values = 1e6 + series(60)
    report = mixture_report(model, values, scale=False)
    forecasts = model.expert_forecasts(windows_of(values)[0])
    apart = np.sqrt(((forecasts[..., 0] - forecasts[..., 1]) ** 2).mean())
    np.testing.assert_allclose(report.distance[0, 1], apart, rtol=1e-5)
    assert report.distance[0, 2] < 1e-6 * apart


@pytest.mark.parametrize("reads", ["window", "steps"])
def test_usage_by_the_calendar_counts_every_gate_at_its_time(reads):
    values, stamps = series(), hours(200)
    model = StandIn(reads=reads)
    report = mixture_report(model, values, timestamps=stamps)
    _, _, gates, _ = pieces(model, values, stamps)
    steps = H if reads == "steps" else 1
    gates = gates[:, :steps]
    ahead = np.stack([stamps[i + L : i + L + steps] for i in range(len(gates))])
    dates = ahead.astype(object)
    fields = {
        "hour": np.vectorize(lambda d: d.hour)(dates),
        "weekday": np.vectorize(lambda d: d.weekday())(dates),
        "month": np.vectorize(lambda d: d.month - 1)(dates),
    }
    assert set(report.usage_by) == {*fields, "level", "spread", "trend"}
    for unit, bins in fields.items():
        parts = report.usage_by[unit]
        n_bins = {"hour": 24, "weekday": 7, "month": 12}[unit]
        assert len(parts.labels) == len(parts.count) == n_bins
        for b in range(n_bins):
            inside = gates[bins == b]
            assert parts.count[b] == 2 * len(inside)
            if len(inside):
                close(parts.usage[b], inside.mean(axis=(0, 1)))
            else:
                assert np.isnan(parts.usage[b]).all()
        wide = np.broadcast_to(bins[..., None], gates.shape[:3])
        close(report.information[unit], plain_information(gates, wide, n_bins))
    assert report.usage_by["month"].labels[0] == "Jan"
    assert report.usage_by["weekday"].labels[0] == "Mon"
    assert report.usage_by["month"].count.sum() == gates[..., 0].size


@pytest.mark.parametrize("reads", ["window", "steps"])
def test_usage_by_statistics_is_by_fifths_of_standardised_windows(reads):
    model, values = StandIn(reads=reads), series(204)
    report = mixture_report(model, values)
    x, _, gates, _ = pieces(model, values)
    time = np.arange(L)
    found = {name: np.empty((len(x), 2)) for name in ("level", "spread", "trend")}
    for i in range(len(x)):
        for c in range(2):
            found["level"][i, c] = x[i, :, c].mean()
            found["spread"][i, c] = np.log(x[i, :, c].std())
            found["trend"][i, c] = np.corrcoef(time, x[i, :, c])[0, 1]
    assert set(report.usage_by) == set(found)
    for name, values_of in found.items():
        z = (values_of - values_of.mean(axis=0)) / values_of.std(axis=0)
        bins = (z[..., None] > np.quantile(z, [0.2, 0.4, 0.6, 0.8])).sum(axis=-1)
        parts = report.usage_by[name]
        for b in range(5):
            inside = np.moveaxis(gates, 1, 2)[bins == b]
            close(parts.usage[b], inside.mean(axis=(0, 1)))
        wide = np.broadcast_to(bins[:, None], gates.shape[:3])
        close(report.information[name], plain_information(gates, wide, 5))
        assert np.ptp(parts.count) <= 2 * H


def test_a_gate_that_is_told_by_the_weekday_has_all_the_information_there():
    class ByWeekday(StandIn):
        def gate_weights(self, X=None, *, timestamps=None):
            days = (timestamps[:, L].astype("datetime64[D]").astype(int) + 3) % 7
            return np.repeat(np.eye(2)[(days >= 5).astype(int)][:, None], 2, axis=1)

    values = series(24 * 7 * 4 + L + H - 1)
    report = mixture_report(ByWeekday(2), values, timestamps=hours(len(values)))
    share = np.array([5, 2]) / 7
    close(report.information["weekday"], -(share * np.log(share)).sum())
    assert report.information["hour"] < 1e-10
    close(report.usage_by["weekday"].usage[:, 1], [0, 0, 0, 0, 0, 1, 1])
    assert report.entropy == 0


def test_one_expert_does_everything():
    model, values = StandIn(1), series()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = mixture_report(model, values, timestamps=hours(200))
    assert report.usage.tolist() == [1.0]
    assert report.n_effective == 1
    assert report.entropy == 0
    assert report.distance.tolist() == [[0.0]]
    assert report.error == report.solo_error[0]
    assert np.isnan(report.drop_one_error).all()
    assert report.dead == []
    assert set(report.information.values()) == {0.0}
    assert "1 expert," in report_table(report)


def test_experts_without_weight_are_named_in_a_warning():
    model = StandIn(4, reads=np.array([0.5, 0.024, 0.476, 0.0]))
    with pytest.warns(UserWarning, match="expert 1, expert 3 have less than a tenth") as caught:
        report = mixture_report(model, series())
    assert caught[0].filename == __file__
    assert report.dead == [1, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture_report(StandIn(4, reads=np.array([0.5, 0.026, 0.224, 0.25])), series())


def test_blocks_make_no_difference(monkeypatch):
    values, stamps = series(), hours(200)
    model = StandIn(reads="steps")
    whole = mixture_report(model, values, timestamps=stamps)
    monkeypatch.setattr("mixlin.inspection.windows._BLOCK_ELEMENTS", 7 * 2 * H * 3)
    parted = mixture_report(model, values, timestamps=stamps)
    for name in ("usage", "error", "solo_error", "drop_one_error", "distance", "entropy"):
        close(parted[name], whole[name])
    for unit in whole.usage_by:
        close(parted.usage_by[unit].usage, whole.usage_by[unit].usage)


def test_a_long_series_is_never_cut_into_all_its_windows():
    model, values = StandIn(4, 1), series(60_000, 1)
    model.lookback_ = 96
    model.matrices = np.zeros((4, H, 96))
    tracemalloc.start()
    mixture_report(model, values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(values) * 96  # what the windows alone would take
    assert peak < 128 * 2**20


def test_windows_give_the_report_of_their_series():
    values, stamps = series(), hours(200)
    model = StandIn()
    expected = mixture_report(model, values, timestamps=stamps)
    x, y = windows_of(values)
    times = np.stack([stamps[i : i + L + H] for i in range(len(x))])
    report = mixture_report(model, x, y, timestamps=times)
    for name in ("usage", "error", "solo_error", "drop_one_error", "distance", "channel_scale"):
        close(report[name], expected[name])
    close(report.information["hour"], expected.information["hour"])


@pytest.mark.parametrize("given", [0, L])
def test_the_times_of_windows_are_continued_to_the_steps_ahead(given):
    values, stamps = series(120), hours(120)
    x, y = windows_of(values)
    times = np.stack([stamps[i : i + L + H] for i in range(len(x))])
    model = StandIn(reads="steps")
    expected = mixture_report(model, x, y, timestamps=times)
    report = mixture_report(model, x, y, timestamps=times[:, :given] if given else times[:, 0])
    for unit in ("hour", "weekday", "month"):
        np.testing.assert_array_equal(report.usage_by[unit].count, expected.usage_by[unit].count)
        close(report.information[unit], expected.information[unit])


def test_windows_without_targets_give_no_errors():
    x, _ = windows_of(series())
    report = mixture_report(StandIn(), x)
    assert report.error is report.solo_error is report.drop_one_error is None
    close(report.channel_scale, x.std(axis=(0, 1)))
    assert "alone" not in report_table(report)


def test_one_channel_needs_no_channel_axis():
    model, values = StandIn(n_channels=1), series(100, 1)
    x, y = windows_of(values)
    expected = mixture_report(model, x, y)
    close(mixture_report(model, values[:, 0]).error, expected.error)
    close(mixture_report(model, values).error, expected.error)
    close(mixture_report(model, x[:, :, 0], y[:, :, 0]).error, expected.error)
    assert mixture_report(model, x[:, :, 0]).n_windows == len(x)


def test_gates_shared_by_the_channels_may_have_one():
    class Shared(StandIn):
        def gate_weights(self, X=None, *, timestamps=None):
            return super().gate_weights(X[:, :, :1]).mean(axis=1, keepdims=True)

    class Repeated(Shared):
        def gate_weights(self, X=None, *, timestamps=None):
            return np.repeat(super().gate_weights(X), 2, axis=1)

    values = series()
    one, both = mixture_report(Shared(), values), mixture_report(Repeated(), values)
    for name in ("usage", "error", "drop_one_error", "entropy"):
        close(one[name], both[name])


def test_a_frame_brings_its_times_and_its_gaps():
    pd = pytest.importorskip("pandas")
    values, stamps = series(), hours(200)
    model = StandIn()
    frame = pd.DataFrame(values, pd.DatetimeIndex(stamps.astype("datetime64[ns]")), ["a", "b"])
    expected = mixture_report(model, values, timestamps=stamps)
    close(mixture_report(model, frame).information["hour"], expected.information["hour"])
    zone = frame.tz_localize("Asia/Tokyo")
    close(mixture_report(model, zone).information["hour"], expected.information["hour"])

    holed = values.copy()
    holed[[50, 120]] = np.nan
    report = mixture_report(model, holed, timestamps=stamps)
    assert report.n_windows == 200 - (L + H) + 1 - 2 * (L + H)
    missing = mixture_report(model, frame.drop(frame.index[[50, 120]]))
    close(missing.error, report.error)
    close(missing.information["hour"], report.information["hour"])
    numbered = mixture_report(model, frame.reset_index(drop=True))
    assert set(numbered.usage_by) == {"level", "spread", "trend"}


def test_constant_windows_and_channels_are_no_trouble():
    values = series()
    values[:, 1] = 5.0
    values[40:80, 0] = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = mixture_report(StandIn(), values)
    assert report.channel_scale[1] == 1
    assert np.isfinite(report.error)
    assert report.usage_by["spread"].count.sum() == 2 * report.n_windows


def test_the_table_tells_every_number():
    with pytest.warns(UserWarning, match="a tenth of an even share"):
        report = mixture_report(StandIn(reads=np.array([0.7, 0.3, 0.0])), series())
    lines = report_table(report).splitlines()
    assert lines[0].startswith("192 windows, 3 experts, 1.8 of them in effect")
    for e in range(3):
        name, usage, alone, left_out = lines[2 + e].replace(" %", "").split()[1:5]
        assert name == str(e)
        assert float(usage) == pytest.approx(100 * report.usage[e], abs=0.05)
        assert float(alone) == pytest.approx(report.solo_error[e], rel=1e-3)
        assert float(left_out) == pytest.approx(report.drop_one_error[e], rel=1e-3)
    assert lines[4].endswith("(dead)")
    assert float(lines[5].split()[1]) == pytest.approx(report.error, rel=1e-3)
    assert "level" in lines[6]


X, Y = windows_of(series())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mixture_report(StandIn(), [series(), series()]), "one series at a time"),
        (lambda: mixture_report(StandIn(), series(n_channels=1)), "X has 1 channels, but StandIn"),
        (lambda: mixture_report(StandIn(), series(8)), "lookback=6 needs at least 9 rows"),
        (lambda: mixture_report(StandIn(), np.full((20, 2), np.nan)), "touches a missing value"),
        (lambda: mixture_report(StandIn(), X[:, 1:], Y), r"\(n_windows, 6, n_channels\)"),
        (lambda: mixture_report(StandIn(), X[:, :, :1], Y), "X has 1 channels"),
        (lambda: mixture_report(StandIn(), X, Y[1:]), "y must have one target per window"),
        (lambda: mixture_report(StandIn(), X, Y[:, :2]), "y must have one target per window"),
        (lambda: mixture_report(StandIn(), X[:0], Y[:0]), "minimum of 1"),
        (
            lambda: mixture_report(StandIn(), X, Y, timestamps=hours(5)),
            "timestamps of windows must have one of",
        ),
        (
            lambda: mixture_report(StandIn(), X[:1], Y[:1], timestamps=hours(1)),
            "the step between the rows can't be told",
        ),
        (lambda: mixture_report(StandIn(), series(), timestamps=hours(5)), "one stamp per row"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_model_without_experts_gets_a_sentence():
    with pytest.raises(TypeError, match="such as MoLEForecaster; got LinearForecaster"):
        mixture_report(LinearForecaster(L, H), series())
    model = StandIn()
    del model.lookback_
    with pytest.raises(NotFittedError, match="StandIn"):
        mixture_report(model, series())


def test_parts_of_another_shape_get_a_sentence():
    model = StandIn()
    model.expert_names_ = ["one", "two"]
    with pytest.raises(ValueError, match="expert_forecasts must return"):
        mixture_report(model, series())
