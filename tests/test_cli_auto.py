"""`--model auto` of every command."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import mixlin
from mixlin.backtesting import evaluate_ltsf
from mixlin.cli import main
from mixlin.cli.search_lines import search_lines
from mixlin.datasets import make_seasonal
from mixlin.solvers import ExactSearch, SeasonalPrior

pd = pytest.importorskip("pandas")

N = 24 * 60
LOAD = make_seasonal(N, n_channels=2, as_frame=True, random_state=0)
SIZES = ["--lookback", "24,48", "--horizon", "12"]
AUTO = ["--model", "auto"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    LOAD.frame.to_csv(folder / "load.csv")
    LOAD.frame.reset_index(drop=True).to_csv(folder / "timeless.csv", index=False)
    messy = LOAD.frame.rename_axis("when").assign(note="ok").drop(LOAD.frame.index[300:310])
    messy = messy.sample(frac=1.0, random_state=0).reset_index()
    messy["when"] = messy["when"].dt.strftime("%d.%m.%Y %H:%M")
    messy.to_csv(folder / "messy.csv", index=False, sep=";", decimal=",")
    fit = ["fit", str(folder / "load.csv"), *SIZES, *AUTO]
    assert main([*fit, "--save", str(folder / "auto.safetensors")]) == 0
    return folder


@pytest.fixture
def run(folder, tmp_path, capsys, monkeypatch):
    """Run a command beside the tables; return the lines of stdout and what stderr said."""
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out.splitlines(), captured.err

    return run


@pytest.fixture
def refused(run, capsys):
    """Run a command that can't be run; return the sentence."""

    def refused(*arguments):
        capsys.readouterr()
        assert main(list(arguments)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("mixlin: ") == 1
        return captured.err

    return refused


def expected(rows=LOAD.frame, **params):
    return mixlin.AutoLinearForecaster((24, 48), 12, **params).fit(rows)


# -- forecast ----------------------------------------------------------------------------------


def test_forecasts_are_those_of_the_estimator(run):
    out, err = run("forecast", "load.csv", *SIZES, *AUTO, "--output", "out.csv")
    model = expected()
    written = pd.read_csv("out.csv", index_col=0)
    np.testing.assert_allclose(written, model.predict(), rtol=1e-9)
    assert out[0] == f"load.csv: {N} rows, 2 channels; auto, lookback 48, horizon 12"
    assert out[1:-1] == search_lines(model)
    assert err == ""


def test_options_of_the_search(run):
    out, _ = run(
        *("forecast", "timeless.csv", *AUTO, "--lookback", "30", "--horizon", "6", "--shared"),
        *("--period", "24", "--period", "12", "--validation", "200", "--output", "out.csv"),
    )
    model = mixlin.AutoLinearForecaster(
        30, 6, shared=True, prior=SeasonalPrior([24, 12]), validation=200
    ).fit(LOAD.frame.reset_index(drop=True))
    np.testing.assert_allclose(pd.read_csv("out.csv", index_col=0), model.predict(), rtol=1e-9)
    assert out[1] == search_lines(model)[0]
    assert "season of 12 rows and 24 rows" in out[1]
    beta = [line.split()[-2] for line in out[3:] if line.split()[1] == "%"]
    assert set(beta) == {"inf"}


def test_a_share_may_be_held_out_and_the_lookbacks_be_left_to_the_search(run):
    run("forecast", "load.csv", *AUTO, "--horizon", "6", "--validation", "0.3", "--output", "o.csv")
    model = mixlin.AutoLinearForecaster(None, 6, validation=0.3).fit(LOAD.frame)
    np.testing.assert_allclose(pd.read_csv("o.csv", index_col=0), model.predict(), rtol=1e-9)


def test_a_messy_table_with_limits_and_a_plot(run):
    pytest.importorskip("matplotlib")
    out, err = run(
        *("forecast", "messy.csv", *AUTO, "--horizon", "24", "--interval", "0.8"),
        *("--plot", "plot.png", "--output", "out.csv"),
    )
    assert "left out, no numbers: 'note'" in err
    assert "sorted" in err
    assert "10 rows missing in between" in err
    written = pd.read_csv("out.csv", index_col=0)
    assert (written["load_1_lower"] < written["load_1"]).all()
    ahead = make_seasonal(N + 24, n_channels=2, as_frame=True, random_state=0).frame.iloc[N:]
    assert str(pd.to_datetime(written.index[0])) == str(ahead.index[0])
    assert out[-1] == "written: plot.png"
    with open("plot.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


def test_standard_output_holds_the_table_alone(run):
    out, err = run("forecast", "load.csv", *SIZES, *AUTO, "--output", "-")
    assert out[0] == "date,load_1,load_2"
    assert len(out) == 13
    assert "auto, lookback 48" in err


def test_few_rows(run):
    LOAD.frame.iloc[:40].to_csv("short.csv")
    out, _ = run("forecast", "short.csv", *AUTO)
    assert "horizon 10" in out[0]


# -- fit and evaluate --------------------------------------------------------------------------


def test_fit_chooses_on_the_validation_rows(run):
    out, _ = run("fit", "load.csv", *SIZES, *AUTO, "--save", "m.safetensors")
    train, last = int(0.7 * N), N - int(0.2 * N)
    by_hand = mixlin.AutoLinearForecaster((24, 48), 12).with_validation(last - train)
    by_hand.fit(LOAD.frame.iloc[:last])
    assert out[1] == (
        f"fitted on rows 1 to {train} (train), choices made on rows {train + 1} to {last} "
        "(validation)"
    )
    assert out[2].startswith("auto, lookback 48, horizon 12, ")
    assert out[3:-1] == search_lines(by_hand)
    saved = mixlin.load("m.safetensors")
    context = LOAD.frame.iloc[:500]
    np.testing.assert_allclose(saved.predict(context), by_hand.predict(context), rtol=1e-9)
    assert search_lines(saved) == search_lines(by_hand)


def test_fit_on_all_rows(run):
    out, _ = run(
        *("fit", "load.csv", *SIZES, *AUTO, "--rows", "all", "--validation", "300"),
        *("--save", "m.safetensors"),
    )
    assert out[1] == "fitted on all rows"
    model = expected(validation=300)
    np.testing.assert_allclose(mixlin.load("m.safetensors").predict(), model.predict(), rtol=1e-9)


def test_scores_are_those_of_the_protocol(run):
    out, _ = run("evaluate", "load.csv", *SIZES, *AUTO)
    bunch = type(LOAD)(name="load.csv", data=LOAD.frame)
    model = mixlin.AutoLinearForecaster((24, 48))
    result = evaluate_ltsf(model, bunch, None, 12)
    assert "auto, lookback 24, 48, every test window" in out[0]
    assert out[3].split()[:4] == ["12", f"{result.mse:.4f}", f"{result.mae:.4f}", "277"]
    assert out[4] == ""
    assert out[5:] == search_lines(result.estimator)


def test_a_saved_search_is_scored_with_the_times_that_it_reads(run):
    model = mixlin.AutoLinearForecaster((24, 48), 12, validation=100).fit(LOAD.frame.iloc[:1400])
    assert model.plan_.needs_ordinals
    model.save("calendar.safetensors")
    out, _ = run("evaluate", "load.csv", "--model-file", "calendar.safetensors")
    assert float(out[3].split()[1]) < 0.5
    assert out[5] == search_lines(model)[0]
    run("forecast", "load.csv", "--model-file", "calendar.safetensors")


def test_a_search_is_drawn(run):
    pytest.importorskip("matplotlib")
    out, _ = run(
        *("evaluate", "load.csv", *SIZES, *AUTO, "--split", "validation", "--validation", "0.3"),
        *("--plot", "search.png"),
    )
    assert "every validation window" in out[0]
    assert out[-1] == "written: search.png"


def test_several_horizons_name_their_searches(run):
    out, _ = run("evaluate", "load.csv", *AUTO, "--horizon", "6", "--horizon", "12")
    assert sum(line.startswith("horizon 6: searched: ") for line in out) == 1
    assert sum(line.startswith("horizon 12: searched: ") for line in out) == 1


def test_models_names_it(run):
    out, _ = run("models")
    assert any(line.startswith("auto         AutoLinearForecaster") for line in out)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "auto", "--alpha", "1"], "--alpha is what --model auto searches for"),
        (["--model", "auto", "--n-experts", "2"], "--n-experts is for mixtures, and auto is none"),
        (["--model", "nlinear", "--shared"], "--shared is for a search, and nlinear is none"),
        (["--period", "24"], "--period is for a search, and superlinear is none"),
        (["--validation", "24"], "--validation is for a search"),
        (
            ["--model", "dlinear", "--lookback", "24,48"],
            "--lookback 24,48 are several, and dlinear",
        ),
        (["--model", "auto", "--lookback", "24,x"], "several with commas between them, got '24,x'"),
        (["--model", "auto", "--lookback", "0"], "a whole number of at least 1, got '0'"),
        (["--model", "auto", "--validation", "1.5"], "or a share of them such as 0.2, got '1.5'"),
        (["--model", "auto", "--validation", "0"], "got '0'"),
        (["--model", "auto", "--validation", "9999"], "validation=9999 leaves 0 of"),
        (["--model", "auto", "--period", "9999"], "period=9999 of the seasonal prior is longer"),
        (["--model-file", "auto.safetensors", "--shared"], "--shared is settled by --model-file"),
    ],
)
def test_options_that_exclude_each_other(refused, arguments, words):
    assert words in refused("forecast", "load.csv", "--horizon", "12", *arguments)


def test_validation_rows_are_those_of_the_protocol(refused):
    said = refused("fit", "load.csv", *AUTO, "--validation", "99", "--save", "x")
    assert "--validation is settled" in said
    assert "add --rows all" in said
    said = refused("evaluate", "load.csv", *AUTO, "--validation", "99")
    assert "add --split validation" in said


# -- the table ---------------------------------------------------------------------------------


def test_the_table_lists_the_groups_with_the_largest_shares():
    model = expected()
    lines = search_lines(model)
    n_tried = len(model.cv_results_["alpha"])
    assert lines[0].startswith(
        f"searched: {n_tried} candidates in {len(model.groups_)} groups, season"
    )
    assert lines[1].split() == ["share", "error", "lookback", "half-life", "alpha", "beta", "kappa"]
    assert len({len(line) for line in lines[1:] if not line.startswith("(")}) == 1
    best = int(np.argmax(model.weights_of_groups_))
    group = model.groups_[best]
    first = lines[2].split()
    assert first[:2] == [f"{100 * model.weights_of_groups_[best]:.0f}", "%"]
    assert first[2:4] == [f"{group['validation_error']:.4f}", str(group["lookback"])]
    shown = sum(line.split()[1] == "%" for line in lines[2:])
    small = int((model.weights_of_groups_ < 0.005).sum())
    assert shown == min(12, len(model.groups_) - small)
    assert search_lines(mixlin.NLinearForecaster(24, 12).fit(LOAD.frame)) == []


def test_levels_and_transforms_are_named():
    solver = ExactSearch(normalization=("last", "mean"), transform="log", forgetting=(100.0,))
    model = mixlin.AutoLinearForecaster(48, 12, solver=solver).fit(LOAD.frame)
    lines = search_lines(model)
    assert "2 channels transformed" in lines[0]
    assert lines[1].split()[-1] == "level"
    assert " 100 " in lines[2]
    assert lines[2].split()[-1] in ("last", "mean")
