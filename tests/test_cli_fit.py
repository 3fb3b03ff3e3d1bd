"""`mixlin fit`, and what evaluate and forecast make of saved models."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from sklearn.utils import Bunch

import mixlin
from mixlin.backtesting import evaluate_ltsf, score_ltsf
from mixlin.cli import main
from mixlin.datasets import ltsf_split, make_seasonal
from mixlin.solvers import GradientSolver, corrections

pd = pytest.importorskip("pandas")

SIZES = ["--lookback", "48", "--horizon", "12"]
MOLE = ["--model", "mole", "--n-experts", "3", "--router", "calendar"]
N = 24 * 80
TRAIN, TRAINED = int(0.7 * N), N - int(0.2 * N)
LOAD = make_seasonal(N, n_channels=2, as_frame=True, random_state=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables, and models fitted on them by the command."""
    folder = tmp_path_factory.mktemp("fit")
    LOAD.frame.to_csv(folder / "load.csv")
    LOAD.frame.reset_index(drop=True).to_csv(folder / "timeless.csv", index=False)
    LOAD.frame.iloc[:150].to_csv(folder / "short.csv")
    other = LOAD.frame.rename(columns={"load_2": "other"}).assign(third=LOAD.frame["load_1"])
    other.to_csv(folder / "other.csv")
    LOAD.frame[["load_2", "load_1"]].assign(x=1.0).to_csv(folder / "wide.csv")
    fit = ["fit", str(folder / "load.csv"), *SIZES, "--save"]
    assert main([*fit, str(folder / "mole.safetensors"), *MOLE]) == 0
    assert main([*fit, str(folder / "linear.safetensors"), "--model", "rlinear"]) == 0
    return folder


@pytest.fixture
def run(folder, tmp_path, capsys, monkeypatch):
    """Run a command beside the tables; return the lines that it prints."""
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        assert captured.err == ""
        return captured.out.splitlines()

    return run


@pytest.fixture
def refused(run, tmp_path, capsys):
    """Run a command that can't be run; return the sentence."""

    def refused(*arguments):
        before = sorted(tmp_path.iterdir())
        capsys.readouterr()
        assert main(list(arguments)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("mixlin: ")
        assert captured.err.count("\n") == 1
        assert sorted(tmp_path.iterdir()) == before
        return captured.err

    return refused


def by_hand(rows, **params):
    model = mixlin.MoLEForecaster(48, 12, n_experts=3, router="calendar", random_state=0, **params)
    return model.with_validation(TRAINED - TRAIN).fit(rows)


# -- fit ---------------------------------------------------------------------------------------


def test_fit_says_what_it_was_fitted_on_and_what_it_kept(run):
    out = run("fit", "load.csv", *SIZES, *MOLE, "--save", "m.safetensors")
    model = mixlin.load("m.safetensors")
    history = [entry["validation_loss"] for entry in model.history_]
    usage = ", ".join(f"{100 * share:.0f} %" for share in model.expert_usage_)
    assert out[:2] == [
        f"load.csv: {N} rows, 2 channels",
        f"fitted on rows 1 to {TRAIN} (train), choices made on rows {TRAIN + 1} to {TRAINED} "
        "(validation)",
    ]
    assert re.fullmatch(r"mole, lookback 48, horizon 12, \d+\.\d\d seconds", out[2])
    assert out[3:] == [
        f"experts: {model.n_experts_} of 3 kept, usage {usage}",
        f"held-out error: {history[0]:.4f} of the single expert, {min(history[1:]):.4f} of the "
        "best mixture",
        "written: m.safetensors",
    ]


def test_a_saved_mixture_is_that_of_the_estimator_and_forecasts_data_as_they_are(run):
    model = mixlin.load("mole.safetensors")
    expected = by_hand(LOAD.frame.iloc[:TRAINED])
    assert model.n_experts_ == expected.n_experts_ > 1
    context = LOAD.frame.iloc[:1000]
    np.testing.assert_allclose(model.predict(context), expected.predict(context), rtol=1e-9)
    actual = LOAD.frame.iloc[1000:1012]
    assert (model.predict(context) / actual - 1).abs().to_numpy().mean() < 0.1
    assert list(model.feature_names_in_) == ["load_1", "load_2"]


@pytest.mark.parametrize("name", ["linear", "nlinear", "dlinear", "rlinear"])
def test_other_models_are_fitted_on_the_training_rows_alone(run, name):
    out = run("fit", "load.csv", *SIZES, "--model", name, "--alpha", "1e-4", "--save", "m")
    assert out[1] == f"fitted on rows 1 to {TRAIN} (train)"
    assert len(out) == 4
    cls = mixlin.cli.arguments.MODELS[name][0]
    expected = cls(48, 12, alpha=1e-4).fit(LOAD.frame.iloc[:TRAIN]).predict()
    found = mixlin.load("m").predict()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert list(found.index) == list(expected.index)


def test_all_rows_are_used_where_that_is_asked_for(run):
    out = run("fit", "load.csv", *SIZES, *MOLE, "--rows", "all", "--save", "m")
    assert out[1] == "fitted on all rows"
    model = mixlin.load("m")
    assert model.solver == "alternating"
    assert model.cutoff_ == LOAD.frame.index[-1]


def test_a_dataset_is_fitted_on_the_rows_of_its_protocol(run):
    out = run("fit", "seasonal", "--lookback", "24", "--horizon", "6", "--save", "m")
    assert out[:2] == ["seasonal: 17520 rows, 1 channel", "fitted on rows 1 to 12264 (train)"]
    model = mixlin.load("m")
    seasonal = make_seasonal(random_state=0, as_frame=True).frame
    expected = mixlin.NLinearForecaster(24, 6).fit(seasonal.iloc[:12264])
    pd.testing.assert_frame_equal(model.predict(), expected.predict())


@pytest.mark.data("ETTh1.csv")
def test_a_benchmark_file_is_fitted_with_its_borders(run):
    out = run("fit", "ETTh1", *SIZES, "--column", "OT", *MOLE, "--save", "m")
    assert out[0] == "ETTh1: 17420 rows, 1 channel"
    assert out[1].endswith(
        "rows 1 to 8640 (train), choices made on rows 8641 to 11520 (validation)"
    )
    assert list(mixlin.load("m").feature_names_in_) == ["OT"]


def test_options_of_mixtures_reach_the_estimator(run):
    run(
        "fit", "load.csv", *SIZES, "--model", "mole", "--n-experts", "2", "--router", "spectral",
        "--base", "linear", "--top-k", "1", "--seed", "3", "--alpha", "1e-3", "--rows", "all",
        "--save", "m",
    )  # fmt: skip
    params = mixlin.load("m").get_params(deep=False)
    expected = {
        "n_experts": 2, "router": "spectral", "base": "linear", "top_k": 1, "random_state": 3,
        "alpha": 1e-3, "lookback": 48, "horizon": 12,
    }  # fmt: skip
    assert {name: params[name] for name in expected} == expected


def test_training_by_gradient_descent_shows_its_epochs(run):
    pytest.importorskip("torch")
    arguments = ["--model", "mole", "--solver", "gradient", "--max-epochs", "2", "--rows", "all"]
    out = run("fit", "load.csv", *SIZES, *arguments, "--save", "m")
    assert re.match(
        r"held-out error: \d\.\d{4} of the single expert, \d\.\d{4} of the best mixture", out[-2]
    )
    solver = mixlin.load("m").solver
    assert solver.get_params() == GradientSolver(max_epochs=2).get_params()


def test_one_expert_kept_is_said_with_the_reason(run):
    constant = ["--model", "mole", "--router", "constant"]
    out = run("fit", "load.csv", *SIZES, *constant, "--save", "m")
    assert out[3] == "experts: 1 of 4 kept"
    assert out[4].endswith("of the best mixture, which is no clear gain")
    out = run("fit", "short.csv", "--model", "mole", "--save", "m")
    assert out[3:5] == [
        "experts: 1 of 4 kept",
        "held-out error: too few rows to choose on; the single expert is kept",
    ]
    out = run("fit", "load.csv", *SIZES, "--model", "mole", "--n-experts", "1", "--save", "m")
    assert out[1] == f"fitted on rows 1 to {TRAIN} (train)"
    assert len(out) == 4


def test_columns_are_chosen_also_of_a_dataset(run):
    run("fit", "load.csv", *SIZES, "--column", "load_2", "--save", "m")
    assert list(mixlin.load("m").feature_names_in_) == ["load_2"]
    run("fit", "seasonal", *SIZES, "--column", "load", "--save", "m")
    assert list(mixlin.load("m").feature_names_in_) == ["load"]


def test_short_tables_get_a_short_lookback_and_notes_go_to_stderr(run, tmp_path, capsys):
    frame = LOAD.frame.iloc[:200].drop(LOAD.frame.index[[50, 51]])
    frame.iloc[::-1].to_csv("untidy.csv")
    assert main(["fit", "untidy.csv", "--save", "m"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[:2] == [
        "note: rows were not in order of time and have been sorted",
        "note: 2 rows missing in between",
    ]
    assert "nlinear, lookback 46, horizon 35" in captured.out


# -- evaluate ----------------------------------------------------------------------------------


def test_a_saved_model_is_scored_on_the_rows_it_has_not_seen(run):
    out = run("evaluate", "load.csv", "--model-file", "linear.safetensors")
    bunch = Bunch(name="load.csv", data=LOAD.frame)
    result = score_ltsf(mixlin.load("linear.safetensors"), bunch)
    assert out[0] == (
        "load.csv, 2 channels, linear.safetensors (RLinearForecaster), lookback 48, every test "
        "window, standardized"
    )
    assert out[1] == f"rows 1 to {TRAIN} train, to {TRAINED} validation, to {N} test"
    assert out[2].split() == ["horizon", "MSE", "MAE", "windows", "seconds"]
    figures = ["12", f"{result.mse:.4f}", f"{result.mae:.4f}", str(N - TRAINED - 11)]
    assert out[3].split()[:4] == figures
    assert len(out) == 4
    again = run("evaluate", "load.csv", "--model", "rlinear", *SIZES)
    assert again[3].split()[:4] == figures  # fitted on the same rows


def test_a_mixture_is_scored_and_reported_alike_fitted_or_saved(run):
    saved = run("evaluate", "load.csv", "--model-file", "mole.safetensors")
    again = run("evaluate", "load.csv", *MOLE, *SIZES)
    assert again[0].startswith("load.csv, 2 channels, mole, lookback 48, every test window")
    assert saved[3].split()[:4] == again[3].split()[:4]
    assert saved[4:] == again[4:]
    assert saved[4] == ""
    assert saved[5].startswith("experts: ")
    assert saved[6].startswith("held-out error: ")
    assert re.match(rf"{N - TRAINED - 11} windows, \d experts, ", saved[7])
    assert saved[8].split() == ["expert", "usage", "alone", "left", "out"]
    # the report's error is that of the score, in the same units
    mixture = next(line for line in saved if line.startswith("mixture"))
    assert float(mixture.split()[1]) == pytest.approx(float(saved[3].split()[1]), abs=6e-5)
    assert "information in nats: hour " in saved[-1]


def test_the_validation_span_and_other_horizons_are_scored(run):
    out = run(
        "evaluate", "load.csv", *MOLE, "--lookback", "24", "--horizon", "6", "--horizon", "12",
        "--split", "validation",
    )  # fmt: skip
    assert "every validation window" in out[0]
    assert [line.split()[0] for line in out[3:5]] == ["6", "12"]
    assert [line.split(":")[0] for line in out if line.startswith("horizon ")][1:] == [
        "horizon 6",
        "horizon 12",
    ]
    expected = evaluate_ltsf(
        mixlin.MoLEForecaster(n_experts=3, router="calendar", random_state=0),
        Bunch(name="load.csv", data=LOAD.frame),
        24,
        6,
        split="validation",
    )
    assert out[3].split()[1] == f"{expected.mse:.4f}"


def test_a_dataset_is_scored_with_a_saved_model(run):
    run("fit", "seasonal", *SIZES, "--save", "m")
    out = run("evaluate", "seasonal", "--model-file", "m")
    expected = evaluate_ltsf(mixlin.NLinearForecaster(), "seasonal", 48, 12)
    assert out[2].split()[1:4] == [f"{expected.mse:.4f}", f"{expected.mae:.4f}", "3493"]
    assert out[0].startswith("seasonal, 1 channel, m (NLinearForecaster)")


def test_a_mixture_on_a_dataset_is_reported_by_the_calendar(run):
    out = run("fit", "seasonal", *SIZES, *MOLE, "--save", "m")
    assert out[3].startswith("experts: 3 of 3 kept")
    saved = run("evaluate", "seasonal", "--model-file", "m")
    fitted = run("evaluate", "seasonal", *SIZES, *MOLE)
    assert saved[3:] == fitted[3:]
    assert saved[-1].startswith("information in nats: hour ")


def test_channels_are_put_in_the_order_of_the_model(run):
    picked = ["--column", "load_2", "--column", "load_1"]
    out = run("evaluate", "wide.csv", "--model-file", "mole.safetensors", *picked)
    expected = run("evaluate", "load.csv", "--model-file", "mole.safetensors")
    assert out[3].split()[:4] == expected[3].split()[:4]


@pytest.mark.parametrize(
    ("arguments", "axes"),
    [
        (["--model-file", "mole.safetensors"], 5),
        (["--model-file", "linear.safetensors"], 2),
        ([*MOLE, *SIZES], 5),
        (["--model", "mole", "--router", "constant", *SIZES], 2),
    ],
    ids=["saved mixture", "saved linear model", "mixture", "single expert"],
)
def test_plots_show_the_routing_of_a_mixture_and_the_weights_of_others(
    run, tmp_path, monkeypatch, arguments, axes
):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    real = Figure.savefig

    def savefig(figure, *args, **kwargs):
        drawn.append(len([axis for axis in figure.axes if axis.get_visible()]))
        real(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    out = run("evaluate", "load.csv", *arguments, "--plot", "plot.png")
    assert out[-1] == "written: plot.png"
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert drawn == [axes]


def test_rows_with_gaps_are_scored_where_windows_are_whole(run):
    holes = LOAD.frame.drop(LOAD.frame.index[[N - 100]])
    holes.to_csv("holes.csv")
    assert main(["evaluate", "holes.csv", "--model-file", "mole.safetensors"]) == 0
    frame = LOAD.frame.copy()
    frame.iloc[N - 100] = np.nan
    bunch = Bunch(name="holes", data=frame)
    assert score_ltsf(mixlin.load("mole.safetensors"), bunch).n_windows == N - TRAINED - 11 - 60


# -- forecast ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mole.safetensors", "linear.safetensors"])
def test_a_saved_model_forecasts_what_comes_next(run, name):
    out = run("forecast", "load.csv", "--model-file", name, "--output", "out.csv")
    assert out[0] == f"load.csv: {N} rows, 2 channels; {name}, lookback 48, horizon 12"
    written = pd.read_csv("out.csv", index_col="date", parse_dates=True)
    expected = mixlin.load(name).predict(LOAD.frame)
    np.testing.assert_allclose(written, expected, rtol=1e-9)
    assert list(written.index) == list(expected.index)


def test_a_saved_model_forecasts_fewer_steps_and_intervals(run):
    file = ["--model-file", "mole.safetensors", "--interval", "0.9", "--output", "out.csv"]
    run("forecast", "load.csv", *file, "--horizon", "3")
    written = pd.read_csv("out.csv")
    names = [f"load_{i}{end}" for i in (1, 2) for end in ("", "_lower", "_upper")]
    assert list(written.columns) == ["date", *names]
    assert len(written) == 3


def test_mixtures_forecast_a_table(run):
    run("forecast", "load.csv", *MOLE, *SIZES, "--output", "out.csv")
    model = mixlin.MoLEForecaster(48, 12, n_experts=3, router="calendar", random_state=0)
    expected = model.fit(LOAD.frame).predict()
    written = pd.read_csv("out.csv", index_col="date")
    np.testing.assert_allclose(written, expected, rtol=1e-6)


def test_a_model_without_calendar_forecasts_a_table_without_times(run):
    out = run("forecast", "timeless.csv", "--model-file", "linear.safetensors", "--horizon", "2")
    assert [line.split()[0] for line in out[1:]] == ["step", "1", "2"]


def test_a_saved_model_without_training_forecasts_gaps_and_any_horizon(run, tmp_path, capsys):
    model = mixlin.SuperLinearForecaster(lookback=96, horizon=6).fit(LOAD.frame)
    model.save("kept")
    holed = LOAD.frame.copy()
    holed.iloc[-3, 0] = np.nan
    holed.to_csv("holed.csv")
    command = ["forecast", "holed.csv", "--model-file", "kept", "--output", "out.csv"]
    assert main([*command, "--horizon", "20"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"holed.csv: {N} rows, 2 channels; kept, reads 96 rows, ")
    assert (
        captured.err
        == "note: 1 missing value stays missing: the forecast follows from the others\n"
    )
    written = pd.read_csv("out.csv", index_col="date")
    np.testing.assert_allclose(written, model.predict(holed, horizon=20), rtol=1e-6)
    assert main([*command, "--interval", "0.8"]) == 0
    written = pd.read_csv("out.csv", index_col="date")
    assert written.shape == (6, 6)
    limits = model.predict_interval(holed, 0.8)
    np.testing.assert_allclose(written.iloc[:, [1, 2, 4, 5]], limits, rtol=1e-6)


# -- what is refused ---------------------------------------------------------------------------

FILE = ["--model-file", "mole.safetensors"]
SAVE = ["--save", "m"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "nothing.csv", *SAVE], "nothing.csv: No such file or directory."),
        (["fit", "nothing", *SAVE], "or the file of a table; got 'nothing'"),
        (["fit", "load.csv"], "the following arguments are required: --save"),
        (["fit", "load.csv", "--save", "no/m"], "no/m can't be written: there is no folder no."),
        (["fit", "load.csv", "--save", "load.csv"], "load.csv is the input"),
        (["fit", "load.csv", "--save", "."], ".: Is a directory."),
        (["fit", "short.csv", "--lookback", "336", *SAVE], "the series has 105"),
        (["fit", "short.csv", "--horizon", "336", *SAVE], "105 rows are too few to forecast 336"),
        (["fit", "short.csv", "--model", "mole", "--lookback", "100", *SAVE], "the series has 105"),
        (["fit", "load.csv", "--router", "calendar", *SAVE],
         "--router is for mixtures, and nlinear is none; add --model mole"),
        (["fit", "load.csv", "--model", "dlinear", "--seed", "1", *SAVE], "--seed is for mixtures"),
        (["fit", "load.csv", *MOLE, "--top-k", "4", *SAVE],
         "--top-k 4 is more than the 3 experts there are"),
        (["fit", "load.csv", *MOLE, "--max-epochs", "4", *SAVE], "has no epochs"),
        (["fit", "load.csv", *MOLE, "--solver", "fixed-gates", *SAVE], "leave --router out"),
        (["fit", "load.csv", *MOLE, "--base", "rmlp", *SAVE], "base='rmlp' has a layer"),
        (["fit", "load.csv", *MOLE, "--seed", "-1", *SAVE], "at least 0, got '-1'"),
        (["fit", "load.csv", "--column", "x", *SAVE], "there is no column 'x'"),
        (["fit", "seasonal", "--column", "x", *SAVE],
         "there is no column 'x'; the columns are 'load'"),
        (["fit", "seasonal", "--time-column", "date", *SAVE], "--time-column is for tables"),
        (["fit", "timeless.csv", *MOLE, *SAVE], "name their column with --time-column, or choose"),
        (["fit", "timeless.csv", "--model", "mole", "--solver", "fixed-gates", *SAVE],
         "timeless.csv has no times, which a model routed by the calendar reads"),
        (["fit", "load.csv", "--model", "superlinear", *SAVE], "invalid choice: 'superlinear'"),
        (["evaluate", "load.csv", "--model", "superlinear", "--alpha", "1"],
         "--alpha is for models that are fitted, and superlinear is not; add --model nlinear"),
        (["evaluate", *FILE], "the following arguments are required: DATASET|FILE"),
        (["evaluate", "load.csv", "--model-file", "none"], "none: No such file or directory."),
        (["evaluate", "load.csv", "--model-file", "load.csv"], "load.csv is not a mixlin model"),
        (["evaluate", "load.csv", *FILE, "--model", "mole"], "--model is settled by --model-file"),
        (["evaluate", "load.csv", *FILE, "--horizon", "6"], "--horizon is settled by --model-file"),
        (["evaluate", "load.csv", *FILE, "--plot", "mole.safetensors"], "is the input"),
        (["evaluate", "load.csv", *FILE, "--plot", "no/p.png"], "there is no folder no"),
        (["evaluate", "seasonal", "--plot", "p.png"], "--plot draws one model"),
        (["evaluate", "other.csv", *FILE],
         "mole.safetensors was fitted on 'load_1', 'load_2', but other.csv has no 'load_2' and "
         "also has 'other', 'third'; pick its channels with --column"),
        (["evaluate", "wide.csv", *FILE], "but wide.csv also has 'x'; pick"),
        (["evaluate", "timeless.csv", *FILE], "timeless.csv has no times"),
        (["evaluate", "short.csv", "--horizon", "31"], "longer than the test span of short.csv"),
        (["forecast", "other.csv", *FILE], "other.csv has no 'load_2'"),
        (["forecast", "timeless.csv", *FILE], "or use another model"),
        (["forecast", "timeless.csv", *MOLE], "or choose a --router and a --solver"),
        (["forecast", "load.csv", *FILE, "--lookback", "6"], "--lookback is settled by"),
        (["forecast", "load.csv", *FILE, "--horizon", "13"], "horizon must be an integer from 1"),
        (["forecast", "load.csv", *FILE, "--output", "mole.safetensors"], "is the input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_commands_that_can_not_be_run_get_one_sentence(refused, arguments, words):
    assert words in refused(*arguments)


def test_a_table_shorter_than_the_lookback_of_a_saved_model_gets_one_sentence(run, refused):
    LOAD.frame.iloc[:40].to_csv("tiny.csv")
    said = refused("forecast", "tiny.csv", *FILE)
    assert "tiny.csv has 40 rows, but a forecast of mole.safetensors reads 48" in said
    said = refused("evaluate", "tiny.csv", *FILE)
    assert "longer than the test span of tiny.csv" in said


def test_models_of_windows_and_of_nameless_channels_get_one_sentence(run, refused):
    data = LOAD.frame.to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(data[:, 0], 60)
    mixlin.LinearForecaster().fit(windows[:, :48], windows[:, 48:]).save("windows")
    mixlin.LinearForecaster(48, 12).fit(data[:, :1]).save("nameless")
    assert "fitted on windows cut by hand" in refused(
        "forecast", "load.csv", "--model-file", "windows"
    )
    said = refused("forecast", "load.csv", "--model-file", "nameless")
    assert "nameless was fitted on 1 channel, but load.csv has 2: 'load_1', 'load_2'" in said


def test_the_borders_of_a_table_are_those_of_the_library(run):
    out = run("evaluate", "short.csv", "--lookback", "10", "--horizon", "5")
    borders = ltsf_split("short.csv", 150)
    words = "rows 1 to {} train, to {} validation, to {} test"
    assert out[1] == words.format(*borders)


# -- Ctrl-C --------------------------------------------------------------------------------------


def interrupt(monkeypatch, owner, name, at=1):
    """Let the ``at``-th call of a function end as Ctrl-C would."""
    plain, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


def test_an_interrupted_fit_saves_what_it_has_and_says_so(run, monkeypatch, tmp_path, capsys):
    with monkeypatch.context() as patch:
        interrupt(patch, corrections.ShrinkagePath, "losses", 3)
        assert main(["fit", "load.csv", *SIZES, *MOLE, "--save", "half.safetensors"]) == 130
    captured = capsys.readouterr()
    assert captured.err == (
        "mixlin: interrupted; half.safetensors holds what had been found by then.\n"
    )
    assert "experts: 3 of 3 kept" in captured.out
    assert mixlin.load(tmp_path / "half.safetensors").n_experts_ == 3
    assert "experts: 3 of 3 kept" in "\n".join(
        run("evaluate", "load.csv", "--model-file", "half.safetensors")
    )


@pytest.mark.parametrize("solver", ["alternating", "fixed-gates"])
def test_a_fit_that_is_interrupted_early_saves_the_single_expert(
    run, monkeypatch, tmp_path, capsys, solver
):
    monkeypatch.setattr(corrections.CorrectionSpace, "of", classmethod(lambda *_, **__: _raise()))
    model = ["--model", "mole", "--n-experts", "3", "--solver", solver]
    command = ["fit", "load.csv", *SIZES, *model, "--save", "half.safetensors"]
    assert main(command) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("mixlin: interrupted; half.safetensors holds")
    assert captured.err.count("\n") == 1
    assert "experts: 1 of 3 kept" in captured.out
    assert "too few" not in captured.out
    assert mixlin.load(tmp_path / "half.safetensors").n_experts_ == 1


def _raise():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "load.csv", *SIZES, "--save", "new.safetensors"],
        ["fit", "load.csv", *SIZES, *MOLE, "--save", "new.safetensors"],
        ["evaluate", "load.csv", *SIZES, "--model", "dlinear"],
    ],
)
def test_other_interrupts_end_with_one_word_and_leave_nothing(
    run, monkeypatch, tmp_path, capsys, command
):
    interrupt(monkeypatch, mixlin.linear, "solve_linear")
    before = sorted(tmp_path.iterdir())
    assert main(command) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "mixlin: interrupted.\n")
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupted_evaluation_does_not_go_on_with_half_a_fit(run, monkeypatch, capsys):
    interrupt(monkeypatch, corrections.ShrinkagePath, "losses", 3)
    assert main(["evaluate", "load.csv", *SIZES, *MOLE]) == 130
    assert capsys.readouterr().err == "mixlin: interrupted.\n"
