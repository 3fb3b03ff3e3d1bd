"""``mixlin forecast``: from a table to a table."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..base import DEFAULT_LOOKBACK
from ..datasets import make_seasonal
from ..plotting import ForecastDisplay
from ..superlinear import LONGEST_CONTEXT
from ..zero_shot import context_length
from ..zero_shot import forecast as forecast_series
from .arguments import (
    ZERO_SHOT,
    add_model,
    add_table,
    coverage,
    lookbacks,
    make_model,
    refuse_beside_model_file,
    steps,
)
from .model_files import forecasts_anything, matched, read_model, reads_times
from .rows import DEFAULT_HORIZON, context_of, search_sizes, sizes, with_values, without_gaps
from .search_lines import search_lines
from .sources import (
    check_pandas,
    check_paths,
    check_times,
    counted,
    new_figure,
    read_file,
    show_notes,
)
from .tables import numeric_columns

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it

_TABLE_ROWS = 12  # printed
_TABLE_COLUMNS = 12  # printed at most; fewer where the terminal is narrow

_DESCRIPTION = """\
Forecast every column of numbers of a table, one row per time step.

Separator, header, decimal sign and the time column are found out. Rows are sorted by time, and
rows with the same time averaged. Notes on stderr say what was done.

Where no model is named, nothing is trained: every column is forecast from its own newest rows,
and gaps stay missing. With --model the one named is fitted on the table, or with --model-file read
from a file that mixlin fit wrote. Windows that touch a gap are left out of that fit; where this
leaves too few, and in the rows that the forecast starts from, gaps are filled on straight lines.
"""


def add_forecast(commands: Any) -> None:
    """Add ``mixlin forecast``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    parser = commands.add_parser(
        "forecast",
        help="forecast the columns of a CSV file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="CSV, TSV or other text table, also .gz; - is stdin"
    )
    parser.add_argument("--demo", action="store_true", help="use a made-up load instead of a file")
    parser.add_argument(
        "--horizon",
        type=steps,
        help=f"steps to forecast (default: {DEFAULT_HORIZON}, or a quarter of the rows if that is "
        "less)",
    )
    parser.add_argument(
        "--lookback",
        type=lookbacks,
        help=f"rows that a forecast reads (default: up to {LONGEST_CONTEXT}; for models that are "
        f"fitted {DEFAULT_LOOKBACK}, less for short files; auto tries several, also given as "
        "336,720)",
    )
    parser.add_argument("--model-file", metavar="FILE", help="forecast with a saved model")
    add_table(parser)
    parser.add_argument(
        "--interval",
        type=coverage,
        metavar="COVERAGE",
        help="add lower and upper limits that are meant to hold this share of values, such as 0.9",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the forecast as CSV; - is stdout (default: a table)"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the forecast (.png, .pdf, .svg)")
    add_model(parser, ZERO_SHOT)
    parser.set_defaults(run=_forecast)


def _forecast(options: argparse.Namespace) -> None:
    if options.demo == (options.file is not None):
        raise ValueError(
            "a FILE and --demo exclude each other; give one of them."
            if options.demo
            else "no table given; pass a FILE, or --demo for a made-up one."
        )
    check_pandas("mixlin forecast")
    output = None if options.output == "-" else options.output
    check_paths([options.plot, output], [options.file, options.model_file])
    figure = None if options.plot is None else new_figure()
    notes: list[str] = []
    if options.model_file is None:
        name, model = make_model(options, ZERO_SHOT)
        frame = _read(options, notes)
    else:
        refuse_beside_model_file(options, "lookback")
        name, model = options.model_file, read_model(options.model_file)
        frame = _matched(options, model, _read(options, notes))
    if forecasts_anything(model):
        frame, forecast, interval, how = _without_fit(options, model, frame, notes)
    else:
        training = frame if options.model_file else _fit(options, model, frame, notes)
        forecast, interval, how = _with_fit(options, model, training, notes)
    if figure is not None:
        ForecastDisplay(frame, forecast, interval=interval).plot(figure=figure)
        figure.savefig(options.plot, dpi=150)
    table = _table(forecast, interval)
    if options.output is not None:
        target: Any = sys.stdout if options.output == "-" else options.output
        table.to_csv(target, float_format="%.12g")
    show_notes(notes)
    search = search_lines(model) if options.model_file is None else []
    _report(options, frame, table, f"{name}, {how}, horizon {len(forecast)}", search)


def _read(options: argparse.Namespace, notes: list[str]) -> Frame:
    """Return the channels on their grid."""
    if options.demo:
        frame = make_seasonal(n_channels=2, as_frame=True, random_state=0).frame
        wanted = options.column or list(frame.columns)
        return numeric_columns(frame, wanted, ".", notes).asfreq(frame.index.freq)
    return read_file(options.file, options.column, options.time_column, notes)


def _fit(options: argparse.Namespace, model: Any, frame: Frame, notes: list[str]) -> Frame:
    """Fit a model; return what it was fitted on, gaps filled if need be."""
    check_times(
        reads_times(model),
        _bunch(options, frame),
        "choose a --router and a --solver that read none",
    )
    if options.model == "auto":
        horizon, most = search_sizes(len(frame), options.horizon, options.lookback)
        model.set_params(lookback=options.lookback, horizon=horizon)
    else:
        horizon, most = sizes(len(frame), options.horizon, options.lookback)
        model.set_params(lookback=most, horizon=horizon)
    training = without_gaps(frame, most, horizon, notes)
    model.fit(training)
    return training


def _with_fit(
    options: argparse.Namespace, model: Any, training: Frame, notes: list[str]
) -> tuple[Frame, Frame | None, str]:
    """Return forecast and limits of a fitted model, and how it was made."""
    context = context_of(training, model.lookback_, notes)
    horizon = model.horizon_ if options.horizon is None else options.horizon
    interval = None
    if options.interval is not None:
        interval = model.predict_interval(context, options.interval, horizon=horizon)
    return model.predict(context, horizon=horizon), interval, f"lookback {model.lookback_}"


def _without_fit(
    options: argparse.Namespace, model: Any, frame: Frame, notes: list[str]
) -> tuple[Frame, Frame, Frame | None, str]:
    """Return the columns that are forecast, forecast and limits, and how they were made."""
    import pandas as pd

    if options.lookback is not None:
        model.set_params(lookback=options.lookback)
    reads = context_length(model)
    if options.model is None and options.model_file is None:
        notes.append(
            f"no model named: nothing is trained, and a forecast reads up to {reads} rows of its "
            "column"
        )
    horizon = options.horizon or getattr(model, "horizon_", None)
    if len(frame) < 2:
        raise ValueError(
            f"1 row is too few to forecast {counted(horizon or 1, 'step')}; at least 2 are needed."
        )
    horizon = horizon or max(1, min(DEFAULT_HORIZON, len(frame) // 4))
    frame = with_values(frame, reads, options.column, notes)
    numbered = frame.set_axis(range(frame.shape[1]), axis=1)  # no name makes it a long frame
    made = forecast_series(numbered, horizon, interval=options.interval, model=model)
    how = f"reads {counted(min(reads, len(frame)), 'row')}"
    coverage = options.interval
    if coverage is None:
        return frame, made.set_axis(frame.columns, axis=1), None, how
    levels = [round((1 - coverage) / 2, 12), round((1 + coverage) / 2, 12)]
    both = pd.MultiIndex.from_product([frame.columns, levels], names=["channel", "quantile"])
    limits = made.drop(columns="forecast", level=1).set_axis(both, axis=1)
    return frame, made.iloc[:, ::3].set_axis(frame.columns, axis=1), limits, how


def _matched(options: argparse.Namespace, model: Any, frame: Frame) -> Frame:
    """Return the channels of a saved model in its order."""
    bunch = _bunch(options, frame)
    check_times(reads_times(model), bunch, "use another model")
    if len(frame) < model.lookback_ and not forecasts_anything(model):
        raise ValueError(
            f"{bunch.name} has {len(frame)} row{'s' if len(frame) > 1 else ''}, but a forecast of "
            f"{options.model_file} reads {model.lookback_}; pass more rows, or fit a model with a "
            "shorter --lookback."
        )
    return matched(model, bunch, options.model_file).data


def _bunch(options: argparse.Namespace, frame: Frame) -> Bunch:
    return Bunch(name=options.file or "the demo", data=frame, feature_names=list(frame.columns))


def _table(forecast: Frame, interval: Frame | None) -> Frame:
    """Put forecasts and limits side by side, under the times."""
    import pandas as pd

    parts, names = [], []
    for i, name in enumerate(forecast.columns):
        parts.append(forecast.iloc[:, i])
        names.append(str(name))
        if interval is not None:
            parts += [interval.iloc[:, 2 * i], interval.iloc[:, 2 * i + 1]]
            names += [f"{name}_lower", f"{name}_upper"]
    table = pd.concat(parts, axis=1).set_axis(names, axis=1)
    if table.index.name is None:  # rows without times; the demo and time columns have a name
        table.index = pd.RangeIndex(1, len(table) + 1, name="step")
    while table.index.name in names:
        table.index.name = f"{table.index.name}_"
    return table


def _readable(table: Frame) -> str:
    """Return the table for a terminal, with five digits of every column's largest number."""
    largest = np.maximum(table.abs().max().to_numpy(), 1e-300)
    digits = np.clip(4 - np.floor(np.log10(largest)), 0, 12).astype(int)
    shown = table.reset_index()
    formats = {name: f"{{:.{d}f}}".format for name, d in zip(table.columns, digits, strict=True)}
    width = max(80, shutil.get_terminal_size().columns)
    text = ""
    for n_columns in range(min(len(shown.columns), _TABLE_COLUMNS), 1, -1):
        text = shown.to_string(
            index=False, max_rows=_TABLE_ROWS, max_cols=n_columns, formatters=formats
        )
        if len(text.partition("\n")[0]) <= width:
            break
    return text


def _report(
    options: argparse.Namespace, frame: Frame, table: Frame, how: str, search: list[str]
) -> None:
    title = (
        f"{'demo' if options.demo else options.file}: {len(frame)} rows, "
        f"{counted(frame.shape[1], 'channel')}; {how}"
    )
    if options.output == "-":
        print(title, file=sys.stderr)
        return
    print(title)
    for line in search:
        print(line)
    if options.output is None:
        print(_readable(table))
    for path in (options.output, options.plot):
        if path is not None:
            print(f"written: {path}")
