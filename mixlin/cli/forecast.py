"""``mixlin forecast``: from a table to a table."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

import numpy as np

from ..base import DEFAULT_LOOKBACK
from ..datasets import make_seasonal
from ..plotting import ForecastDisplay
from ..windows import interpolate
from .arguments import MODELS, add_model, coverage, steps
from .tables import numeric_columns, read_table
from .times import place_rows, take_time

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it

_HORIZON = 96
_TABLE_ROWS = 12  # printed
_TABLE_COLUMNS = 12  # printed at most; fewer where the terminal is narrow
_ENOUGH = 0.5  # share of windows free of gaps; with fewer, gaps are filled

_DESCRIPTION = """\
Forecast every column of numbers of a table, one row per time step.

Separator, header, decimal sign and the time column are found out. Rows are sorted by time, rows
with the same time averaged, and windows that touch a gap are left out of the fit; where that
leaves too few, and in the rows that the forecast starts from, gaps are filled on straight lines.
Notes on stderr say what was done.
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
        help=f"steps to forecast (default: {_HORIZON}, or a quarter of the rows if that is less)",
    )
    parser.add_argument(
        "--lookback",
        type=steps,
        help=f"steps that a forecast reads (default: {DEFAULT_LOOKBACK}, less for short files)",
    )
    add_model(parser)
    parser.add_argument(
        "--column",
        action="append",
        metavar="NAME",
        help="column to forecast; may be repeated (default: all columns of numbers)",
    )
    parser.add_argument(
        "--time-column",
        metavar="NAME",
        help="column with the times, or none to take rows as evenly spaced (default: found)",
    )
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
    parser.set_defaults(run=_forecast)


def _forecast(options: argparse.Namespace) -> None:
    if options.demo == (options.file is not None):
        raise ValueError(
            "a FILE and --demo exclude each other; give one of them."
            if options.demo
            else "no table given; pass a FILE, or --demo for a made-up one."
        )
    _check_pandas()
    _check_paths(options)
    notes: list[str] = []
    frame = _read(options, notes)
    horizon, lookback = _sizes(len(frame), options.horizon, options.lookback)
    training = _without_gaps(frame, lookback, horizon, notes)
    cls, _ = MODELS[options.model]
    model = cls(lookback, horizon).fit(training)
    context = _context(training, lookback, notes)
    forecast = model.predict(context)
    interval = None
    if options.interval is not None:
        interval = model.predict_interval(context, options.interval)
    if options.plot is not None:
        _plot(frame, forecast, interval, options.plot)
    table = _table(forecast, interval)
    if options.output is not None:
        target: Any = sys.stdout if options.output == "-" else options.output
        table.to_csv(target, float_format="%.12g")
    _report(options, notes, frame, table, lookback, horizon)


def _check_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "mixlin forecast needs pandas, which is not installed: pip install 'mixlin[cli]'."
        ) from error


def _check_paths(options: argparse.Namespace) -> None:
    """Refuse what can't be written before anything is computed."""
    written = [options.plot, None if options.output == "-" else options.output]
    for path in filter(None, written):
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise ValueError(f"{path} can't be written: there is no folder {folder}.")
        there = bool(options.file) and os.path.exists(options.file) and os.path.exists(path)
        if there and os.path.samefile(path, options.file):
            raise ValueError(f"{path} is the input; write to another file.")


def _read(options: argparse.Namespace, notes: list[str]) -> Frame:
    """Return the channels on their grid."""
    if options.demo:
        frame = make_seasonal(n_channels=2, as_frame=True, random_state=0).frame
        wanted = options.column or list(frame.columns)
        return numeric_columns(frame, wanted, ".", notes).asfreq(frame.index.freq)
    table, decimal = read_table(options.file)
    table, times = take_time(table, options.time_column, notes)
    frame = numeric_columns(table, options.column, decimal, notes)
    return place_rows(frame, times, notes)


def _sizes(n_rows: int, horizon: int | None, lookback: int | None) -> tuple[int, int]:
    """Return horizon and lookback, shortened for short files unless they were given."""
    if horizon is None:
        horizon = max(1, min(_HORIZON, n_rows // 4))
    if lookback is None:
        if n_rows < horizon + 2:
            raise ValueError(
                f"{n_rows} row{'s are' if n_rows > 1 else ' is'} too few to forecast {horizon} "
                f"step{'s' if horizon > 1 else ''}; at least {horizon + 2} are needed. Pass more "
                "rows, or a shorter --horizon."
            )
        lookback = max(1, min(DEFAULT_LOOKBACK, n_rows // 3, (n_rows - horizon) // 2))
    return horizon, lookback


def _without_gaps(frame: Frame, lookback: int, horizon: int, notes: list[str]) -> Frame:
    """Return what to fit on: the frame itself unless gaps leave too few windows."""
    length = lookback + horizon
    missing = frame.isna().to_numpy()
    if not missing.any() or len(frame) < length:
        return frame
    # a window counts for a channel where that channel has no gap
    before = np.concatenate([np.zeros((1, missing.shape[1]), int), missing.cumsum(axis=0)])
    free = (before[length:] == before[:-length]).mean(axis=0)
    if free.min() >= _ENOUGH:
        return frame
    worst = str(frame.columns[int(free.argmin())])
    notes.append(
        f"gaps filled on straight lines, also for the fit: they touch {100 - 100 * free.min():.0f} "
        f"% of the windows of {worst!r}"
    )
    return _filled(frame)


def _context(frame: Frame, lookback: int, notes: list[str]) -> Frame:
    """Return the rows that the forecast starts from, without gaps."""
    missing = int(frame.iloc[-lookback:].isna().to_numpy().sum())
    if not missing:
        return frame.iloc[-lookback:]
    notes.append(
        f"{missing} missing value{'s' if missing > 1 else ''} in the last {lookback} rows filled "
        "on straight lines"
    )
    return _filled(frame).iloc[-lookback:]


def _filled(frame: Frame) -> Frame:
    filled = frame.copy()
    filled.loc[:, :] = interpolate(frame.to_numpy())
    return filled


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


def _plot(frame: Frame, forecast: Frame, interval: Frame | None, path: str) -> None:
    display = ForecastDisplay(frame, forecast, interval=interval)
    display.plot(figure=_figure())
    display.figure_.savefig(path, dpi=150)


def _figure() -> Any:
    """Return a figure that no window belongs to."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "--plot needs matplotlib, which is not installed: pip install 'mixlin[cli]'."
        ) from error
    return Figure(layout="constrained")


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
    options: argparse.Namespace,
    notes: list[str],
    frame: Frame,
    table: Frame,
    lookback: int,
    horizon: int,
) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    n_channels = frame.shape[1]
    title = (
        f"{'demo' if options.demo else options.file}: {len(frame)} rows, {n_channels} "
        f"channel{'s' if n_channels > 1 else ''}; {options.model}, lookback {lookback}, "
        f"horizon {horizon}"
    )
    if options.output == "-":
        print(title, file=sys.stderr)
        return
    print(title)
    if options.output is None:
        print(_readable(table))
    for path in (options.output, options.plot):
        if path is not None:
            print(f"written: {path}")
