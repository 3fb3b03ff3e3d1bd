"""``mixlin fit``: from a dataset or a table to a saved model."""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

from ..backtesting.ltsf import as_protocol
from ..base import DEFAULT_LOOKBACK
from ..datasets import ltsf_split
from ..solvers.mixture_task import FitInterruptedWarning
from .arguments import add_data, add_model, lookbacks, make_model, refuse_validation, steps
from .model_files import reads_times
from .rows import DEFAULT_HORIZON, search_sizes, sizes, without_gaps
from .search_lines import search_lines
from .sources import (
    as_frame,
    check_pandas,
    check_paths,
    check_times,
    counted,
    read_data,
    show_notes,
)

_DESCRIPTION = """\
Fit a model on a benchmark dataset or on a table, in its units, and save it.

Of a dataset the training span of the benchmark is used, of a table the first 70 % of the rows;
mixtures and searches also get the validation span, the next 10 %, to choose on. So mixlin evaluate
scores the model on rows that it has not seen. For forecasts of what comes next, fit with
--rows all.
"""


def add_fit(commands: Any) -> None:
    """Add ``mixlin fit``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    parser = commands.add_parser(
        "fit",
        help="fit a model and save it",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data(parser)
    parser.add_argument(
        "--save", metavar="FILE", required=True, help="where the model goes (.safetensors)"
    )
    parser.add_argument(
        "--lookback",
        type=lookbacks,
        help=f"steps that a forecast reads (default: {DEFAULT_LOOKBACK}, less for few rows; auto "
        "tries several, also given as 336,720)",
    )
    parser.add_argument(
        "--horizon",
        type=steps,
        help=f"steps to forecast (default: {DEFAULT_HORIZON}, less for few rows)",
    )
    parser.add_argument(
        "--rows",
        choices=["train", "all"],
        default="train",
        help="rows to fit on: those before the test span, or all (default: train)",
    )
    add_model(parser, zero_shot=False)
    parser.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> None:
    name, model = make_model(options)
    if options.rows == "train":
        refuse_validation(options, "add --rows all, or leave it out")
    check_pandas("mixlin fit")
    check_paths([options.save], [options.dataset])
    notes: list[str] = []
    bunch = read_data(options, "mixlin fit", notes)
    check_times(reads_times(model), bunch, "choose a --router and a --solver that read none")
    frame = as_frame(bunch)
    borders = None if options.rows == "all" else ltsf_split(bunch)
    n_train = len(frame) if borders is None else borders.train_end
    if name == "auto":
        horizon, lookback = search_sizes(n_train, options.horizon, options.lookback)
        model.set_params(lookback=options.lookback, horizon=horizon)
    else:
        horizon, lookback = sizes(n_train, options.horizon, options.lookback)
        model.set_params(lookback=lookback, horizon=horizon)
    stop = n_train
    if borders is not None:
        model, stop = as_protocol(model, borders)
    rows = without_gaps(frame.iloc[:stop], lookback, horizon, notes)
    began = time.perf_counter()
    interrupted = fit_or_keep(model, rows)
    seconds = time.perf_counter() - began
    model.save(options.save)

    show_notes(notes)
    print(f"{bunch.name}: {len(frame)} rows, {counted(frame.shape[1], 'channel')}")
    where = "all rows" if borders is None else f"rows 1 to {n_train} (train)"
    if stop > n_train:
        where += f", choices made on rows {n_train + 1} to {stop} (validation)"
    print(f"fitted on {where}")
    print(f"{name}, lookback {model.lookback_}, horizon {horizon}, {seconds:.2f} seconds")
    for line in [*mixture_lines(model, interrupted=interrupted), *search_lines(model)]:
        print(line)
    print(f"written: {options.save}")
    if interrupted:
        raise KeyboardInterrupt(f"interrupted; {options.save} holds what had been found by then")


def fit_or_keep(model: Any, rows: Any) -> bool:
    """Fit a model; where its solver is interrupted and keeps what it has, keep that.

    Parameters
    ----------
    model : forecaster
    rows : DataFrame

    Returns
    -------
    bool
        Whether it was interrupted.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FitInterruptedWarning)
        model.fit(rows)
    others = [w for w in caught if not issubclass(w.category, FitInterruptedWarning)]
    for w in others:
        warnings.showwarning(w.message, w.category, w.filename, w.lineno)
    return len(others) < len(caught)


def mixture_lines(model: Any, *, interrupted: bool = False) -> list[str]:
    """Say how many experts a fitted mixture kept, and what its held-out rows said.

    Parameters
    ----------
    model : forecaster
    interrupted : bool
        Whether its fit was.

    Returns
    -------
    list of str
        Empty for other models.
    """
    if getattr(model, "n_experts", 1) == 1:
        return []
    lines = [f"experts: {model.n_experts_} of {model.n_experts} kept"]
    usage = getattr(model, "expert_usage_", None)
    if usage is not None and len(usage) > 1:
        lines[0] += f", usage {', '.join(f'{100 * share:.0f} %' for share in usage)}"
    losses = [entry["validation_loss"] for entry in model.history_]  # the single expert's first
    said = ""
    if model.n_experts_ == 1 and not interrupted:
        said = "too few rows to choose on; the single expert is kept"
    if losses:
        said = f"{losses[0]:.4f} of the single expert, {min(losses[1:]):.4f} of the best mixture"
        said += ", which is no clear gain" if model.n_experts_ == 1 else ""
    return [*lines, f"held-out error: {said}"] if said else lines
