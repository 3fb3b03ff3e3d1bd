"""Long frames that can't be used: one sentence each, and nothing changes."""

from __future__ import annotations

import types

import numpy as np
import pytest

import mixlin
from mixlin import ExactSolver, LinearForecaster, MoLEForecaster, SuperLinearForecaster
from mixlin.long_frames import read_long_frame

pd = pytest.importorskip("pandas")

L, H = 6, 2


def long_frame(lengths=(30, 25, 7), ids="abc", start="2024-01-01", freq="D", seed=0):
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "unique_id": key,
                    "ds": pd.date_range(start, periods=n, freq=freq),
                    "y": rng.standard_normal(n),
                }
            )
            for key, n in zip(ids, lengths, strict=False)
        ],
        ignore_index=True,
    )


def fitted(**params):
    return LinearForecaster(L, H, **params).fit(long_frame())


def repeated(frame):
    return pd.concat([frame, frame.iloc[3:5]])


def mixed(frame):
    return pd.concat([frame, long_frame((20,), "d", freq="12h")])


def gappy(frame):
    return pd.concat([frame, long_frame((20,), "d", freq="2D")])


def changed(**columns):
    return lambda frame: frame.assign(**columns)


BAD_FRAMES = {
    "duplicates": (
        repeated,
        r"2 rows repeat 'unique_id' and 'ds'.* of series 'a'.*drop_duplicates",
    ),
    "mixed": (mixed, r"one frequency: series 'd' steps from .* and others from .*Resample"),
    "gappy": (gappy, r"one frequency: series 'd' steps.*add the rows that are missing"),
    "empty": (lambda f: f.iloc[:0], "the long frame has no rows"),
    "no ids": (changed(unique_id=[None] * 62), "'unique_id' is empty in 62 rows"),
    "float ids": (
        lambda f: f.assign(unique_id=f["unique_id"].map(ord) / 2),
        r"'unique_id' must hold text or whole numbers.*float",
    ),
    "bool ids": (
        lambda f: f[:55].assign(unique_id=f["unique_id"] == "a"),
        r"must hold text or whole numbers.*bool",
    ),
    "tuple ids": (
        lambda f: f.assign(unique_id=[("x", i) for i in f["unique_id"]]),
        r"must hold text or whole numbers.*tuple.*astype\(str\)",
    ),
    "mixed ids": (
        lambda f: f.assign(unique_id=[1 if i == "a" else i for i in f["unique_id"]]),
        "one kind of them; got int, str",
    ),
    "no times": (lambda f: f.assign(ds=f["ds"].where(f.index > 3)), "'ds' is empty in 4 rows"),
    "text times": (changed(ds="soon"), "holds no times that are safe to read"),
    "text targets": (changed(y="1"), "'y' of dtype .* holds no numbers"),
    "infinite": (lambda f: f.assign(y=f["y"].where(f.index != 2, np.inf)), "'y' is infinite in 1"),
    "missing": (lambda f: f.assign(y=f["y"].where(f["unique_id"] != "b")), "'b' has no value in"),
    "irregular": (
        lambda f: f.assign(ds=f["ds"] + pd.to_timedelta(np.arange(len(f)) ** 2, unit="s")),
        "irregular",
    ),
    "no ds": (lambda f: f.drop(columns="ds"), "no 'ds'; its columns are 'unique_id', 'y'"),
    "no y": (lambda f: f.drop(columns="y"), "no 'y'"),
    "too short": (lambda f: f[f["unique_id"] == "c"], r"needs at least 8 rows.*the series has 7"),
    "all gaps": (
        lambda f: f.assign(y=f["y"].where(np.arange(len(f)) % 5 > 0)),
        "no series has lookback . horizon = 8 consecutive rows",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_frames_that_can_not_be_fitted_get_one_sentence(case):
    change, words = BAD_FRAMES[case]
    model = fitted()
    before = dict(vars(model))
    with pytest.raises(ValueError, match=f"(?s){words}"):
        model.fit(change(long_frame()))
    assert vars(model) == before
    with pytest.raises(ValueError, match=f"(?s){words}"):
        LinearForecaster(L, H).fit(change(long_frame()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: f,
            "rows of series 'a' do not continue .* ends at 2024-01-30.*3 series are like",
        ),
        (lambda f: f.iloc[10:20], "do not continue what was learnt before"),
        (lambda f: f.assign(ds=f["ds"] + pd.Timedelta(hours=720 + 5)), "do not continue"),
        (mixed, "does not step as the series of the fit do"),
        (changed(ds=np.arange(62)), "dtype int64, those of the fit are of dtype datetime64"),
        (lambda f: f.assign(ds=f["ds"].dt.tz_localize("UTC")), "those of the fit are of dtype"),
        (
            lambda f: f[:9].assign(unique_id=1),
            "holds whole numbers, such as 1.*held text, such as a",
        ),
        (
            lambda f: f[f["unique_id"] == "a"].drop(columns="unique_id"),
            "have ids and the rows have",
        ),
        (repeated, "2 rows repeat"),
    ],
)
def test_rows_that_continue_nothing_are_refused(change, words):
    model = fitted()
    before, forecast = dict(vars(model)), model.predict()
    with pytest.raises(ValueError, match=f"(?s){words}"):
        model.partial_fit(change(long_frame()))
    assert vars(model) == before
    pd.testing.assert_frame_equal(model.predict(), forecast)
    good = long_frame((4,), "a", start="2024-01-31")
    wanted = fitted().partial_fit(good).predict()
    pd.testing.assert_frame_equal(model.partial_fit(good).predict(), wanted)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros(20), r"fitted on a long frame. predict takes nothing.*got ndarray of shape \(20"),
        (np.zeros((20, 1)), r"predict takes nothing.*windows of shape \(n_windows, 6, 1\)"),
        (np.zeros((4, 5, 1)), r"windows of shape \(n_windows, 6, 1\); got"),
        (np.zeros((4, 6, 2)), r"got ndarray of shape \(4, 6, 2\)"),
        (np.full((4, 6, 1), np.nan), "contains NaN"),
        ([np.zeros(20)], "got list"),
        (pd.DataFrame({"a": np.zeros(20)}), r"got DataFrame of shape \(20, 1\)"),
        (long_frame((5,), "z"), r"'z' has fewer rows than the lookback of 6.*\(series 'z': 5\)"),
        (long_frame((9, 9), "az").assign(y=[1.0] * 17 + [np.nan]), "'z' has 1 missing value in"),
        (long_frame((20,), "a", freq="h"), "does not step as the series of the fit do"),
        (long_frame()[:9].assign(unique_id=7), "holds whole numbers, such as 7"),
        (repeated(long_frame()), "2 rows repeat"),
        (long_frame().iloc[:0], "no rows"),
    ],
)
def test_what_can_not_be_forecast_is_refused(X, words):
    model = fitted()
    with pytest.raises(ValueError, match=f"(?s){words}"):
        model.predict(X)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        model.predict_interval(X)


def test_series_that_share_nothing_forecast_no_others():
    frame = long_frame((30, 25))
    model = LinearForecaster(L, H, individual=True).fit(frame)
    new = long_frame((20, 20), "ax")
    with pytest.raises(ValueError, match=r"series 'x', not seen in the fit, can't be forecast"):
        model.predict(new)
    with pytest.raises(ValueError, match="not seen in the fit"):
        model.score(new)
    with pytest.raises(ValueError, match="windows can't be forecast"):
        model.predict(np.zeros((2, L, 1)))
    with pytest.raises(ValueError, match=r"series 'c' has no window of lookback \+ horizon = 8"):
        LinearForecaster(L, H, individual=True).fit(long_frame())


def test_options_that_do_not_go_with_long_frames():
    frame = long_frame()
    with pytest.raises(ValueError, match="Leave timestamps out"):
        fitted().fit(frame, timestamps=frame["ds"])
    with pytest.raises(ValueError, match="Leave timestamps out"):
        fitted().predict(timestamps=frame["ds"])
    with pytest.raises(ValueError, match="Leave new_series out"):
        fitted().partial_fit(frame, new_series=True)
    with pytest.raises(ValueError, match="must weigh the same"):
        fitted().fit(frame, sample_weight=np.arange(len(frame)))
    with pytest.raises(ValueError, match=r"one weight per row of the long frame, \(62,\)"):
        fitted().fit(frame, sample_weight=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite, not negative, and not all zero"):
        fitted().fit(frame, sample_weight=np.zeros(len(frame)))
    for options in ({"calendar": 1}, {"transform": "auto"}):
        with pytest.raises(ValueError, match=r"is not supported on long frames"):
            LinearForecaster(L, H, solver=ExactSolver(**options)).fit(frame)
    with pytest.raises(ValueError, match="set horizon"):
        LinearForecaster(L).fit(frame)
    with pytest.raises(ValueError, match="score takes no y"):
        fitted().score(frame, frame["y"])
    with pytest.raises(ValueError, match="sample_weight is not supported"):
        fitted().score(frame, sample_weight=frame["y"])
    with pytest.raises(ValueError, match="score takes another one"):
        fitted().score(np.zeros(30))
    with pytest.raises(ValueError, match="nothing to score"):
        fitted().score(long_frame((7,), "x"))


def test_kinds_of_data_do_not_mix():
    frame, series = long_frame(), np.sin(np.arange(50.0))
    with pytest.raises(ValueError, match="fitted on series; partial_fit got a long frame"):
        LinearForecaster(L, H).fit(series).partial_fit(frame)
    with pytest.raises(ValueError, match="fitted on panel; partial_fit got series"):
        fitted().partial_fit(series)
    with pytest.raises(ValueError, match=r"X is a long frame .* fitted on something else"):
        LinearForecaster(L, H).fit(series).predict(frame)
    with pytest.raises(ValueError, match="does not fit long frames"):
        MoLEForecaster(L, H).fit(frame)
    with pytest.raises(ValueError, match="does not fit long frames"):
        SuperLinearForecaster().fit(frame)


def test_frames_of_polars_are_to_be_converted():
    module = types.ModuleType("polars.dataframe")
    frame = type(
        "DataFrame", (), {"columns": ["unique_id", "ds", "y"], "__module__": module.__name__}
    )
    with pytest.raises(ValueError, match=r"Pass frame.to_pandas\(\)"):
        LinearForecaster(L, H).fit(frame())


def test_a_loaded_model_says_that_it_can_not_learn_on(tmp_path):
    model = fitted()
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds no sums to add to"):
        mixlin.load(tmp_path / "model.safetensors").partial_fit(long_frame(start="2024-03-01"))


# ---------------------------------------------------------------------------------------------
# one frequency


def read(frame, **options):
    return read_long_frame(frame, "unique_id", "ds", "y", one_frequency=True, **options)


def test_short_series_read_as_days_are_business_days_among_others():
    frame = pd.concat([long_frame((40, 30), freq="B"), long_frame((4,), "d", freq="B")])
    found = read(frame)
    assert found.steps.continued(1)[-1] == pd.Timestamp("2024-01-05")
    found = read(pd.concat([long_frame((40,), freq="B"), long_frame((5,), "d", freq="B")]))
    assert found.steps.continued(1)[-1] == pd.Timestamp("2024-01-08")  # not the Saturday


def test_starts_and_ends_of_months_are_one_frequency():
    frame = pd.concat([long_frame((30, 20), freq="MS"), long_frame((12,), "d", freq="ME")])
    assert read(frame).steps.continued(1)[-1] == pd.Timestamp("2025-01-31")
    model = LinearForecaster(L, H).fit(frame)
    model.partial_fit(
        pd.DataFrame({"unique_id": "d", "ds": [pd.Timestamp("2025-01-31")], "y": 1.0})
    )
    model.partial_fit(
        pd.DataFrame({"unique_id": "d", "ds": [pd.Timestamp("2025-02-28")], "y": 1.0})
    )
    assert model.cutoff_[2] == pd.Timestamp("2025-02-28")
    assert model.predict().query("unique_id == 'd'")["ds"].to_list()[0] == pd.Timestamp(
        "2025-03-31"
    )


def test_other_units_and_text_are_read_as_the_times_of_the_fit():
    frame = long_frame()
    model = LinearForecaster(L, H).fit(frame)
    wanted = model.predict(frame)
    for times in (frame["ds"].astype("datetime64[s]"), frame["ds"].dt.strftime("%Y-%m-%d")):
        pd.testing.assert_frame_equal(model.predict(frame.assign(ds=times)), wanted)
    one = pd.DataFrame({"unique_id": ["a"], "ds": ["2024-01-31"], "y": [0.5]})
    assert model.partial_fit(one).cutoff_[0] == pd.Timestamp("2024-01-31")


def test_the_command_line_says_that_it_forecasts_no_long_frames(tmp_path):
    from mixlin.cli.model_files import read_model

    path = tmp_path / "model.safetensors"
    fitted().save(path)
    with pytest.raises(ValueError, match="fitted on a long frame; the command line forecasts"):
        read_model(str(path))
