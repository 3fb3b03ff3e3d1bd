from __future__ import annotations

import builtins
import gzip
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mixlin
from mixlin.cli import main

pd = pytest.importorskip("pandas")

ROOT = Path(mixlin.__file__).parents[1]
N = 300
STEPS = np.arange(N)
LOAD = 10 + 3 * np.sin(2 * np.pi * STEPS / 24) + 0.2 * np.random.default_rng(0).standard_normal(N)
HOURS = pd.date_range("2024-01-29", periods=N, freq="h")
ISO = list(HOURS.strftime("%Y-%m-%d %H:%M"))
NEXT = HOURS[-1] + pd.Timedelta(hours=1)
NOT_TRAINED = "no model named: nothing is trained, and a forecast reads up to {} rows of its column"


def table(stamps=ISO, *columns, sep=",", header="date,a", form="{:.4f}".format):
    columns = columns or (LOAD,)
    rows = [
        sep.join([str(stamp), *map(form, values)])
        for stamp, *values in zip(stamps, *columns, strict=True)
    ]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


@pytest.fixture
def forecast(tmp_path, capsys):
    """Run `mixlin forecast` on a text; return what was written and what stderr said."""

    def run(text, *arguments, horizon="6", name="in.csv", time="date", model="nlinear"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        out = tmp_path / "out.csv"
        command = ["forecast", str(path), "--horizon", horizon, "--output", str(out)]
        code = main([*command, *(["--model", model] if model else []), *arguments])
        err = capsys.readouterr().err
        assert code == 0, err
        written = pd.read_csv(out)
        assert written.columns[0] == time
        if time not in ("step", "row", "year", "timestamp"):
            written[time] = pd.to_datetime(written[time])
        return written.set_index(time), err

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """Run `mixlin forecast` on a text that can't be used; return the sentence."""

    def run(text, *arguments, name="in.csv", horizon="6", model="nlinear"):
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        command = ["forecast", str(path), "--horizon", horizon]
        return sentence(capsys, *command, *(["--model", model] if model else []), *arguments)

    return run


def sentence(capsys, *arguments):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mixlin: ")
    assert captured.err.count("\n") == 1
    return captured.err


def expected(values=LOAD, horizon=6, lookback=100):
    data = np.asarray(values)
    return mixlin.NLinearForecaster(lookback, horizon).fit(data).predict()


def mixlin_process(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mixlin", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        **options,
    )


# -- as processes ------------------------------------------------------------------------------


def test_version_is_that_of_the_package():
    done = mixlin_process("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"mixlin {mixlin.__version__}")


def test_a_process_forecasts_and_plots_without_a_display(tmp_path):
    done = mixlin_process(
        "forecast", "--demo", "--horizon", "24", "--interval", "0.9", "--plot", "plot.png",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"note: {NOT_TRAINED.format(2048)}\n"
    assert "load_1_lower" in done.stdout
    assert "written: plot.png" in done.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_process_fails_with_one_sentence_and_code_2(tmp_path):
    done = mixlin_process("forecast", "nothing.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mixlin: nothing.csv: No such file or directory.\n"


def test_a_process_reads_standard_input_and_writes_standard_output(tmp_path):
    done = mixlin_process(
        "forecast", "-", "--horizon", "3", "--output", "-", input=table(), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    written = pd.read_csv(io.StringIO(done.stdout))
    assert list(written.columns) == ["date", "a"]
    assert len(written) == 3


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    command = (
        f"{sys.executable} -m mixlin forecast --demo --horizon 2000 --model nlinear --output -"
    )
    done = subprocess.run(
        ["sh", "-c", f"{command} | head -n 1"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout == "date,load_1,load_2\n"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


# -- the forecast ------------------------------------------------------------------------------


def test_output_is_the_forecast_of_the_estimator_at_the_times_that_follow(forecast):
    written, err = forecast(table())
    assert err == ""
    np.testing.assert_allclose(written["a"], expected(np.round(LOAD, 4)), rtol=1e-8, atol=0)
    assert list(written.index) == list(pd.date_range(NEXT, periods=6, freq="h"))


def test_intervals_stand_beside_their_channel(forecast):
    written, _ = forecast(table(), "--interval", "0.8", "--model", "rlinear", "--lookback", "48")
    assert list(written.columns) == ["a", "a_lower", "a_upper"]
    model = mixlin.RLinearForecaster(48, 6).fit(np.round(LOAD, 4))
    limits = model.predict_interval(coverage=0.8)
    np.testing.assert_allclose(written[["a_lower", "a_upper"]], limits, rtol=1e-8)


@pytest.mark.parametrize("model", ["linear", "nlinear", "dlinear", "rlinear"])
def test_every_model_forecasts(forecast, model):
    written, _ = forecast(table(), "--model", model)
    wave = 10 + 3 * np.sin(2 * np.pi * np.arange(N, N + 6) / 24)
    np.testing.assert_allclose(written["a"], wave, atol=1.0)


def test_columns_are_chosen_and_fitted_alone(forecast):
    text = table(ISO, LOAD, LOAD[::-1] * 7, LOAD + STEPS, header="date,a,b,c")
    written, _ = forecast(text, "--column", "c", "--column", "a")
    assert list(written.columns) == ["c", "a"]
    alone, _ = forecast(text, "--column", "a")
    np.testing.assert_allclose(alone["a"], expected(np.round(LOAD, 4)), rtol=1e-8)


def test_without_output_a_short_table_is_printed(tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_text(table())
    assert main(["forecast", str(path), "--model", "nlinear"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "300 rows, 1 channel; nlinear, lookback 100, horizon 75" in out[0]
    assert out[1].split() == ["date", "a"]
    assert out[2].split()[:2] == [str(NEXT.date()), NEXT.strftime("%H:%M:%S")]
    assert re.fullmatch(r"\d+\.\d{3}", out[2].split()[2])
    assert len(out) < 20


def test_wide_tables_are_cut_to_the_terminal(capsys, monkeypatch):
    for width in (80, 130):
        monkeypatch.setenv("COLUMNS", str(width))
        command = ["forecast", "--demo", "--model", "nlinear", "--horizon", "30"]
        assert main([*command, "--interval", "0.9"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert ("..." in lines[1]) == (width == 80)


def test_compressed_output_and_other_plots_follow_their_suffix(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(table())
    files = [str(tmp_path / name) for name in ("out.csv.gz", "plot.svg")]
    command = ["forecast", str(path), "--model", "nlinear"]
    assert main([*command, "--output", files[0], "--plot", files[1]]) == 0
    assert len(gzip.decompress(Path(files[0]).read_bytes()).splitlines()) == 1 + 75
    assert "<svg" in Path(files[1]).read_text()[:1000]


def test_numbers_keep_their_digits_at_a_high_level(forecast):
    written, _ = forecast(table(ISO, 1e6 + LOAD, form="{:.6f}".format))
    np.testing.assert_allclose(written["a"] - 1e6, expected(np.round(LOAD, 6)), atol=1e-5)


def test_the_demo_needs_no_file(capsys):
    command = ["forecast", "--demo", "--model", "nlinear", "--horizon", "3"]
    assert main([*command, "--column", "load_2"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "2022-01-01" not in captured.out
    assert len(captured.out.splitlines()) == 5


# -- the forecast without training ---------------------------------------------------------------


class RepeatsLast:
    """Stands for the model without training: what came last goes on, plus and minus one."""

    def __init__(self):
        self.lookback = None
        self.seen = []

    def set_params(self, lookback):
        self.lookback = lookback
        return self

    def forecast_arrays(self, series, horizon, quantiles=None, *, progress=None):
        self.seen = [np.array(values) for values in series]
        last = np.array([values[~np.isnan(values)][-1] for values in series])
        points = np.repeat(last[:, None], horizon, axis=1)
        if quantiles is None:
            return points
        assert quantiles[0] + quantiles[1] == pytest.approx(1)
        return points, points[:, :, None] + np.array([-1.0, 1.0])


@pytest.fixture
def untrained(monkeypatch):
    model = RepeatsLast()
    monkeypatch.setattr(mixlin.cli.arguments, "default_model", lambda: model)
    return model


def test_without_a_model_nothing_is_trained_and_that_is_said(forecast, untrained):
    text = table(ISO, LOAD, -LOAD, header="date,a,b")
    written, err = forecast(text, "--interval", "0.8", model=None)
    assert err == f"note: {NOT_TRAINED.format(2048)}\n"
    assert list(written.columns) == ["a", "a_lower", "a_upper", "b", "b_lower", "b_upper"]
    last = round(LOAD[-1], 4)
    assert written.iloc[-1].to_list() == [last, last - 1, last + 1, -last, -last - 1, -last + 1]
    assert list(written.index) == list(pd.date_range(NEXT, periods=6, freq="h"))
    assert [len(values) for values in untrained.seen] == [N, N]


def test_the_model_without_training_can_be_named(forecast, untrained):
    named, err = forecast(table(), model="superlinear")
    assert err == ""
    meant, _ = forecast(table(), model=None)
    pd.testing.assert_frame_equal(named, meant)


def test_the_forecast_without_training_is_that_of_the_function(forecast):
    written, _ = forecast(table(), "--interval", "0.9", model=None, horizon="4")
    expected = mixlin.forecast(np.round(LOAD, 4), 4, interval=0.9)
    np.testing.assert_allclose(written, expected, rtol=1e-9)
    wave = 10 + 3 * np.sin(2 * np.pi * np.arange(N, N + 4) / 24)
    np.testing.assert_allclose(written["a"], wave, atol=0.6)


def test_gaps_stay_missing_where_nothing_is_trained(forecast, untrained):
    keep = [i for i in range(N) if i not in (10, 11, N - 3)]
    _, err = forecast(table(np.array(ISO)[keep], LOAD[keep]), "--lookback", "24", model=None)
    assert err.splitlines() == [
        "note: 3 rows missing in between",
        f"note: {NOT_TRAINED.format(24)}",
        "note: 1 missing value stays missing: the forecast follows from the others",
    ]
    expected = np.round(LOAD, 4)
    expected[[10, 11, N - 3]] = np.nan
    np.testing.assert_array_equal(untrained.seen[0], expected)
    assert untrained.lookback == 24


def test_columns_that_ended_long_ago_are_left_out_and_said(forecast, untrained, refused):
    text = table(ISO, LOAD, [*LOAD[:100], *[np.nan] * (N - 100)], header="date,a,b")
    written, err = forecast(text, "--lookback", "100", model=None)
    assert list(written.columns) == ["a"]
    assert "note: left out, no value in the last 100 rows: 'b'\n" in err
    said = refused(text, "--lookback", "100", "--column", "a", "--column", "b", model=None)
    assert "column 'b' has no value in the last 100 rows" in said


def test_names_of_columns_do_not_matter_where_nothing_is_trained(forecast, untrained):
    text = table(range(N), LOAD, LOAD + 1, header="year,unique_id,y")
    written, _ = forecast(text, model=None, time="year")
    assert list(written.columns) == ["unique_id", "y"]


def test_short_tables_and_long_horizons_are_forecast_without_training(forecast, untrained):
    written, _ = forecast(table(ISO[:2], LOAD[:2]), horizon="1000", model=None)
    assert len(written) == 1000


def test_without_training_a_report_says_what_is_read(tmp_path, capsys, untrained):
    path = tmp_path / "in.csv"
    path.write_text(table())
    assert main(["forecast", str(path), "--plot", str(tmp_path / "plot.png")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "300 rows, 1 channel; superlinear, reads 300 rows, horizon 75" in out[0]
    assert out[-1] == f"written: {tmp_path / 'plot.png'}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha", "1"], "--alpha is for models that are fitted, and superlinear is not"),
        (["--router", "calendar"], "--router is for mixtures, and superlinear is none"),
        (["--seed", "1"], "--seed is for mixtures, and superlinear is none; add --model mole"),
    ],
)
def test_options_of_models_that_are_fitted_need_one(refused, untrained, arguments, words):
    assert words in refused(table(), *arguments, model=None)


def test_one_row_is_too_few_also_without_training(refused, untrained):
    said = refused("date,a\n2024-01-01,1\n", model=None)
    assert "1 row is too few to forecast 6 steps; at least 2 are needed" in said


# -- tables of all kinds -----------------------------------------------------------------------


def same(written, reference):
    np.testing.assert_allclose(written, reference, rtol=1e-8)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (table(sep="\t", header="date\ta"), "date"),
        (table(sep=";", header="date;a"), "date"),
        (table(sep="|", header="date|a"), "date"),
        (table(sep=" , ", header="date , a"), "date"),
        (table(header='"date","a"'), "date"),
        (table().replace("\n", "\r\n"), "date"),
        (table() + "\n\n  \n", "date"),
        (table() + ",\n,\n", "date"),
        (table().replace("\n", ",\n"), "date"),
        (table().replace("\n", ",\n").replace("date,a,", "date,a"), "date"),
        ("sep=,\n" + table(), "date"),
        ("# from a logger\n\n" + table(), "date"),
        (table(header=None), "time"),
        (table([s.replace(" ", "T") for s in ISO]), "date"),
        (table(HOURS.strftime("%d/%m/%Y %H:%M")), "date"),
        (table(HOURS.strftime("%m/%d/%Y %H:%M")), "date"),
        (table(HOURS.strftime("%d.%m.%Y %H:%M"), header="Datum,a"), "Datum"),
        (table([str(s.date()) if s.hour == 0 else str(s) for s in HOURS]), "date"),
        (table(HOURS.strftime("%Y-%m-%d %H:%M:%S"), sep=" ", header=None), "time"),
        ("\ufeff" + table(), "date"),
        (table().encode("utf-16"), "date"),
        (gzip.compress(table().encode()), "date"),
    ],
    ids=[
        "tabs", "semicolons", "bars", "spaces around commas", "quoted header", "windows lines",
        "empty lines at the end", "empty rows at the end", "separator at the end",
        "separator at the end of rows only", "sep= line", "comments", "no header", "ISO T",
        "day first", "month first", "dotted", "midnights without clock", "spaces, date and clock",
        "byte order mark", "utf-16", "gzip",
    ],
)  # fmt: skip
def test_layouts_are_found_out(forecast, text, time):
    written, _ = forecast(text, time=time)
    same(written.iloc[:, 0], expected(np.round(LOAD, 4)))
    assert written.index[0] == NEXT


@pytest.mark.parametrize(
    ("sep", "form"),
    [
        (";", lambda v: f"{v:.4f}".replace(".", ",")),
        ("\t", lambda v: f"{v:.4f}".replace(".", ",")),
        (",", lambda v: '"' + f"{v:.4f}".replace(".", ",") + '"'),
    ],
)
def test_decimal_commas_are_read(forecast, sep, form):
    written, _ = forecast(table(sep=sep, header=f"date{sep}a", form=form))
    same(written["a"], expected(np.round(LOAD, 4)))


@pytest.mark.parametrize(
    ("sep", "form"),
    [
        (",", lambda v: f'"{1000 * v:,.2f}"'),
        (";", lambda v: f"{1000 * v:,.2f}".translate({44: ".", 46: ","})),
    ],
)
def test_thousands_are_read(forecast, sep, form):
    values = np.where(STEPS % 50, LOAD, 0.5)  # some numbers below a thousand
    written, err = forecast(table(ISO, values, sep=sep, header=f"date{sep}a", form=form))
    assert err == ""
    same(written["a"], expected(np.round(1000 * values, 2)))


def test_days_before_months_are_told_by_the_grid_that_they_make(forecast):
    months = [f"01/{m:02d}/{y}" for y in range(2000, 2025) for m in range(1, 13)]
    written, err = forecast(table(months))
    assert "read with the day before the month" in err
    assert list(written.index[:2]) == [pd.Timestamp("2025-01-01"), pd.Timestamp("2025-02-01")]


def test_latin_1_and_quotes_in_names_survive(forecast):
    text = table(ISO, LOAD, LOAD + 1, header='date,"Größe, MW","b ""x"""').encode("latin-1")
    written, _ = forecast(text)
    assert list(written.columns) == ["Größe, MW", 'b "x"']


def test_one_column_without_header(forecast):
    written, _ = forecast("".join(f"{v:.4f}\n" for v in LOAD), time="step")
    same(written["column_1"], expected(np.round(LOAD, 4)))
    assert list(written.index) == [1, 2, 3, 4, 5, 6]


def test_an_empty_line_of_one_column_is_a_missing_value(forecast):
    lines = [f"{v:.4f}" for v in LOAD]
    lines[30] = ""
    data = np.round(LOAD, 4)
    data[30] = np.nan
    written, _ = forecast("a\n" + "\n".join(lines), "--lookback", "48", time="step")
    same(written["a"], mixlin.NLinearForecaster(48, 6).fit(data).predict())


@pytest.mark.parametrize(
    ("stamps", "header", "time", "first", "step"),
    [
        (range(N), ",a", "row", N, 1),
        (range(1, N + 1), "a", "row", N + 1, 1),
        (range(1700, 1700 + N), "year,a", "year", 1700 + N, 1),
        (range(1700000000, 1700000000 + 3600 * N, 3600), "timestamp,a", "timestamp",
         1700000000 + 3600 * N, 3600),
    ],
    ids=["row numbers of pandas", "row names of R", "years", "unix time"],
)  # fmt: skip
def test_counts_are_continued(forecast, stamps, header, time, first, step):
    written, _ = forecast(table(stamps, header=header), time=time)
    assert list(written.index) == list(range(first, first + 6 * step, step))


@pytest.mark.parametrize("step", ["D", "B", "W-TUE", "MS", "ME", "QS", "YS"])
def test_calendar_steps_are_continued_also_over_gaps(forecast, step):
    n = N if step != "YS" else 100
    stamps = pd.date_range("1900-01-31", periods=n + 6, freq=step)
    keep = [i for i in range(n) if i not in (20, n - 40)]
    values = pd.Series(LOAD[:n])
    written, err = forecast(
        table(stamps[keep].strftime("%Y-%m-%d"), values[keep]), "--lookback", "12"
    )
    assert "2 rows missing in between" in err
    assert list(written.index) == list(stamps[n:])


@pytest.mark.parametrize("form", ["%Y%m%d", "%d-%m-%Y"])
def test_dates_without_clock_are_read(forecast, form):
    days = pd.date_range("2023-01-01", periods=N)
    written, _ = forecast(table(days.strftime(form)))
    assert written.index[0] == days[-1] + pd.Timedelta(days=1)


def test_offsets_of_a_zone_with_daylight_saving_are_read(forecast):
    stamps = pd.date_range("2024-03-28", periods=N, freq="h", tz="Europe/Berlin")
    written, _ = forecast(table([s.isoformat() for s in stamps], header="time,a"), time="time")
    assert written.index[0] == stamps[-1] + pd.Timedelta(hours=1)


# -- untidy tables -----------------------------------------------------------------------------


def test_unsorted_rows_are_sorted_and_said(forecast):
    order = np.random.default_rng(1).permutation(N)
    for places in (order, np.arange(N)[::-1]):
        written, err = forecast(table(np.array(ISO)[places], LOAD[places]))
        assert err == "note: rows were not in order of time and have been sorted\n"
        same(written["a"], expected(np.round(LOAD, 4)))


def test_repeated_times_are_averaged_and_said(forecast):
    stamps = [*ISO[:200], ISO[199], *ISO[200:]]
    values = [*LOAD[:200], LOAD[199] + 2, *LOAD[200:]]
    written, err = forecast(table(stamps, values))
    assert err == "note: 1 row with a repeated time; the mean is taken\n"
    averaged = np.round(LOAD, 4)
    averaged[199] += 1
    same(written["a"], expected(averaged))


def test_gaps_are_left_out_of_the_fit_and_filled_before_the_forecast(forecast):
    keep = [i for i in range(N) if i not in (10, 11, N - 3)]
    written, err = forecast(table(np.array(ISO)[keep], LOAD[keep]), "--lookback", "24")
    assert err.splitlines() == [
        "note: 3 rows missing in between",
        "note: 1 missing value in the last 24 rows filled on straight lines",
    ]
    data = np.round(LOAD, 4)
    data[[10, 11, N - 3]] = np.nan
    model = mixlin.NLinearForecaster(24, 6).fit(data)
    context = data[-24:].copy()
    context[-3] = (context[-4] + context[-2]) / 2
    same(written["a"], model.predict(context))


def test_many_gaps_are_filled_also_for_the_fit_and_said(forecast):
    keep = STEPS % 10 != 5
    written, err = forecast(table(np.array(ISO)[keep], LOAD[keep]))
    assert "gaps filled on straight lines, also for the fit: they touch 100 %" in err
    data = np.round(LOAD, 4)
    data[~keep] = np.nan
    same(written["a"], expected(mixlin.windows.interpolate(data)))


@pytest.mark.parametrize("missing", ["", "NA", "n/a", "null", "-", "NaN", "?", "None", "--"])
def test_missing_values_have_many_names(forecast, missing):
    text = table().splitlines()
    text[40] = f"{ISO[39]},{missing}"
    written, err = forecast("\n".join(text), "--lookback", "24")
    assert err == ""
    data = np.round(LOAD, 4)
    data[39] = np.nan
    same(written["a"], mixlin.NLinearForecaster(24, 6).fit(data).predict())


def test_entries_that_are_no_numbers_are_missing_and_said(forecast):
    text = table().splitlines()
    text[40], text[80] = f"{ISO[39]},offline", f"{ISO[79]},inf"
    _, err = forecast("\n".join(text), "--lookback", "24")
    assert "1 entry of 'a' without a number set to missing (such as 'offline')" in err
    assert "1 infinite value of 'a' set to missing" in err


def test_rows_for_a_future_without_values_are_cut_off(forecast):
    future = "".join(f"{s},\n" for s in pd.date_range(NEXT, periods=3, freq="h"))
    written, err = forecast(table() + future)
    assert err == "note: 3 rows without any value cut off at the end\n"
    assert written.index[0] == NEXT


def test_a_last_row_that_is_no_time_is_left_out(forecast):
    written, err = forecast(table() + "Total,3000\n")
    assert err == "note: 1 row left out: the time can't be read\n"
    assert written.index[0] == NEXT


def test_uneven_times_are_moved_to_the_grid(forecast):
    shift = np.random.default_rng(0).integers(-100, 100, N)
    stamps = HOURS + pd.to_timedelta(shift, unit="s")
    written, err = forecast(table(stamps))
    assert err == "note: times are uneven; rows were moved to the nearest hour\n"
    assert written.index[0] == NEXT


def test_columns_without_numbers_are_left_out_and_said(forecast):
    text = table(ISO, LOAD, STEPS % 3, STEPS % 2, form=str, header="date,a,name,flag")
    rows = [line.split(",") for line in text.splitlines()]
    text = "\n".join(
        ",".join([d, a, f"n{n}" if d != "date" else n, {"0": "True", "1": "False"}.get(f, f)])
        for d, a, n, f in rows
    )
    written, err = forecast(text)
    assert list(written.columns) == ["a"]
    assert err == "note: left out, no numbers: 'name', 'flag'\n"


def test_constant_columns_stay_constant(forecast):
    written, err = forecast(table(ISO, np.full(N, 7.0)))
    assert err == ""
    np.testing.assert_allclose(written["a"], 7.0, atol=1e-9)


def test_names_that_repeat_are_told_apart(forecast):
    written, _ = forecast(table(ISO, LOAD, LOAD + 1, LOAD + 2, header="date,a,a,"))
    assert list(written.columns) == ["a", "a.1", "column_4"]


def test_short_tables_get_a_short_lookback(forecast):
    written, _ = forecast(table(ISO[:20], LOAD[:20]))
    assert len(written) == 6


def test_a_hundred_thousand_rows_are_read(forecast):
    n = 100_000
    stamps = pd.date_range("2020-01-01", periods=n, freq="15min")
    values = np.random.default_rng(0).standard_normal((n, 3)).cumsum(axis=0)
    text = pd.DataFrame(values, stamps.strftime("%d/%m/%Y %H:%M"), list("abc")).to_csv(
        index_label="date"
    )
    written, _ = forecast(text)
    assert written.index[0] == stamps[-1] + pd.Timedelta(minutes=15)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory"),
        ("", "is empty"),
        ("\n \n\n", "is empty"),
        ("date,a\n", "a header and no rows"),
        ("x,y\nfoo,bar\nfoo,bar\n", "there is no column of numbers among 'x', 'y'"),
        ("date,a\n2024-01-01,1\n", "1 row is too few to forecast 6 steps"),
        (bytes(range(256)) * 20, "is a binary file"),
        (bytes(range(1, 256)) * 20, "is a binary file"),
        (b"PK\x03\x04" + bytes(50), "a zip archive or an Excel workbook"),
        (gzip.compress(table().encode())[:-40], "a damaged gzip file"),
        (table() + "2024-03-03,1,2,3,4\n", "is no table: Expected 2 fields in line 302, saw 5"),
        (table([*ISO[:150], *ISO[:150]]), "several series one under another"),
        (table(HOURS + pd.to_timedelta(STEPS**2 * 7, unit="s")), "times of 'date' are irregular"),
    ],
    ids=["missing", "empty", "blank", "header only", "only text", "one row", "binary",
         "binary without zeros", "excel", "damaged gzip", "ragged", "long format", "irregular"],
)  # fmt: skip
def test_files_that_can_not_be_used_get_one_sentence(refused, text, words):
    assert words in refused(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--column", "b"], "there is no column 'b'; the columns are 'a'"),
        (["--time-column", "b"], "there is no column 'b' to take as time"),
        (["--time-column", "a"], "column 'a' can't be read as times"),
        (["--lookback", "299"], "Shorten lookback"),
        (["--output", "no/such/folder.csv"], "there is no folder no/such"),
        (["--plot", "no/such/folder.png"], "there is no folder no/such"),
        (["--model", "best"], "invalid choice: 'best'"),
        (["--interval", "90"], "between 0 and 1, such as 0.9, got '90'"),
        (["--interval", "x"], "between 0 and 1, such as 0.9, got 'x'"),
        (["--horizon", "0"], "a whole number of at least 1, got '0'"),
        (["--horizon", "1.5"], "a whole number of at least 1, got '1.5'"),
        (["--horizon", "299"], "300 rows are too few to forecast 299 steps"),
        (["--demo"], "exclude each other"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_requests_that_can_not_be_met_get_one_sentence(refused, arguments, words):
    assert words in refused(table(), *arguments)


def test_text_asked_for_by_name_is_refused(refused):
    text = "date,a,b,c\n" + "".join(f"{s},{v},foo,\n" for s, v in zip(ISO, LOAD, strict=True))
    assert "column 'b' is no column of numbers" in refused(text, "--column", "b")
    assert "column 'c' has no value" in refused(text, "--column", "c")


def test_input_is_never_overwritten(refused, tmp_path):
    assert "is the input" in refused(table(), "--output", str(tmp_path / "in.csv"))
    assert (tmp_path / "in.csv").read_text() == table()


def test_folders_and_unknown_plot_formats_are_refused(refused, tmp_path, capsys):
    assert "Is a directory" in sentence(capsys, "forecast", str(tmp_path))
    assert "Is a directory" in refused(table(), "--output", str(tmp_path))
    assert "not supported" in refused(table(), "--plot", str(tmp_path / "plot.xyz"))


def test_times_can_be_left_aside(forecast):
    stamps = HOURS + pd.to_timedelta(STEPS**2 * 7, unit="s")
    written, err = forecast(table(stamps), "--time-column", "none", time="step")
    assert "left out, no numbers: 'date'" in err
    same(written["a"], expected(np.round(LOAD, 4)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["foo"], "invalid choice: 'foo'"),
        (["forecast"], "no table given"),
        (["evaluate"], "the following arguments are required: DATASET"),
        (["evaluate", "ETTh9"], "dataset must be one of ETTh1"),
        (["evaluate", "no/such.csv"], "no/such.csv: No such file or directory."),
        (["evaluate", "seasonal", "--horizon", "9999"], "longer than the test span"),
        (["evaluate", "seasonal", "--alpha", "-1"], "'alpha' parameter"),
    ],
)
def test_commands_that_can_not_be_run_get_one_sentence(capsys, arguments, words):
    assert words in sentence(capsys, *arguments)


@pytest.mark.parametrize(
    ("package", "arguments"), [("pandas", []), ("matplotlib", ["--plot", "plot.png"])]
)
def test_missing_packages_get_one_sentence(monkeypatch, refused, package, arguments):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    text = table()
    monkeypatch.setattr(builtins, "__import__", without)
    said = refused(text, *arguments)
    monkeypatch.undo()
    assert f"needs {package}, which is not installed: pip install 'mixlin[cli]'" in said


# -- reports -----------------------------------------------------------------------------------


def test_models_are_listed_with_the_defaults(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["superlinear", "linear", "nlinear", "dlinear", "rlinear", "auto", "mole"]
    assert [line.split()[0] for line in lines[:-1]] == names
    assert all(line.split()[1] in mixlin.__all__ and len(line) < 100 for line in lines[:-1])
    assert (
        lines[-1] == "default: superlinear of mixlin forecast, nlinear of mixlin fit and evaluate"
    )


def test_backends_are_listed_with_the_reason_why_one_is_missing(capsys, monkeypatch):
    from mixlin import backends

    monkeypatch.setitem(backends._REGISTRY, "nowhere", "no_such_module_here:Backend")
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "numpy    available" in lines
    assert "nowhere  not available: No module named 'no_such_module_here'" in lines


def test_what_a_library_prints_while_it_looks_for_a_device_stays_out_of_the_table(
    capfd, monkeypatch
):
    from mixlin import backends
    from mixlin.backends.numpy_backend import NumpyBackend

    def chatty():
        for descriptor in (1, 2):  # as a library in C++ does
            os.write(descriptor, b"driver: looking for chips\n")
        return "there is\nno card"

    monkeypatch.setattr(NumpyBackend, "why_unavailable", chatty)
    monkeypatch.setattr(
        backends, "_REGISTRY", {"card": "mixlin.backends.numpy_backend:NumpyBackend"}
    )
    assert main(["backends"]) == 0
    captured = capfd.readouterr()
    assert captured.out == "card  not available: there is no card\n"
    assert captured.err == ""
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"  # and only then


def test_evaluate_prints_one_row_per_horizon(capsys):
    arguments = ["--model", "dlinear", "--lookback", "48", "--horizon", "12", "--horizon", "24"]
    assert main(["evaluate", "seasonal", *arguments]) == 0
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("seasonal, 1 channel, dlinear, lookback 48, every test window")
    result = mixlin.backtesting.evaluate_ltsf(mixlin.DLinearForecaster(), "seasonal", 48, 24)
    assert [row.split()[0] for row in rows] == ["12", "24"]
    assert rows[1].split()[1:4] == [f"{result.mse:.4f}", f"{result.mae:.4f}", "3481"]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_model_without_training_is_scored_on_what_it_reads(capsys, tmp_path, split):
    path = tmp_path / "in.csv"
    path.write_text(table())
    command = ["evaluate", str(path), "--model", "superlinear", "--split", split]
    assert main(command) == 0
    title, _, _, row = capsys.readouterr().out.splitlines()
    before, horizon = (240, 60) if split == "test" else (210, 30)
    assert f"superlinear, lookback {before}, every {split} window" in title
    assert row.split()[0] == str(horizon)
    assert main([*command, "--horizon", "6", "--lookback", "96"]) == 0
    title, _, _, row = capsys.readouterr().out.splitlines()
    assert "lookback 96" in title
    assert float(row.split()[1]) < 0.05  # of a variance near one


def test_evaluate_names_the_missing_file(tmp_path, capsys):
    said = sentence(capsys, "evaluate", "national_illness", "--data-home", str(tmp_path))
    assert "national_illness.csv" in said
