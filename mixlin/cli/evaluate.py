"""``mixlin evaluate``: scores by the benchmark protocol, of a new fit or of a saved model."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..backtesting import evaluate_ltsf, score_ltsf
from ..base import DEFAULT_LOOKBACK
from ..datasets import ltsf_split
from ..inspection import mixture_report, report_table
from ..plotting import RoutingDisplay, SearchDisplay, WeightsDisplay
from ..superlinear import LONGEST_CONTEXT
from ..windows import is_pandas
from .arguments import (
    ZERO_SHOT,
    add_data,
    add_model,
    lookbacks,
    make_model,
    refuse_beside_model_file,
    refuse_validation,
    steps,
)
from .fit import mixture_lines
from .model_files import matched, read_model, reads_times
from .rows import DEFAULT_HORIZON, search_sizes, sizes
from .search_lines import search_lines
from .sources import (
    check_paths,
    check_times,
    counted,
    is_dataset,
    new_figure,
    read_data,
    show_notes,
)

_HORIZONS = (96, 192, 336, 720)  # of the benchmark; illness, weekly, has its own
_ILLNESS_HORIZONS = (24, 36, 48, 60)

_DESCRIPTION = """\
Score a model by the protocol of the long-horizon benchmark: errors on every window of the test
span, in units of the standard deviation of the training rows.

The model is fitted on the training rows, mixtures and searches choose on the validation rows; or it
is read from a file that mixlin fit wrote. A table is cut at 70 %, 10 % and 20 % of its rows.
"""


def add_evaluate(commands: Any) -> None:
    """Add ``mixlin evaluate``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    parser = commands.add_parser(
        "evaluate",
        help="score a model by the protocol of the long-horizon benchmark",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data(parser)
    parser.add_argument(
        "--model-file", metavar="FILE", help="score a saved model instead of fitting one"
    )
    parser.add_argument(
        "--lookback",
        type=lookbacks,
        help=f"steps that a forecast reads (default: {DEFAULT_LOOKBACK}, of {ZERO_SHOT} "
        f"{LONGEST_CONTEXT}, less for short tables; auto tries several, also given as 336,720)",
    )
    parser.add_argument(
        "--horizon",
        type=steps,
        action="append",
        help="steps to forecast; may be repeated (default: the benchmark's four; 96 for tables)",
    )
    parser.add_argument(
        "--split",
        choices=["test", "validation"],
        default="test",
        help="rows to score; choose settings on validation (default: test)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw what the experts of a mixture do, what a search tried, or the weights of "
        "another model",
    )
    add_model(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    if options.model_file is None:
        name, model = make_model(options)
        if options.split == "test":
            refuse_validation(options, "leave it out, or add --split validation")
    else:
        refuse_beside_model_file(options, "lookback", "horizon")
        model = read_model(options.model_file)
        name = f"{options.model_file} ({type(model).__name__})"
    check_paths([options.plot], [options.dataset, options.model_file])
    figure = None if options.plot is None else new_figure()
    notes: list[str] = []
    bunch = read_data(options, "mixlin evaluate", notes)
    if options.model_file is None:
        check_times(reads_times(model), bunch, "choose a --router and a --solver that read none")
        horizons, lookback = _windows(options, bunch)
        if lookback is None:
            model.set_params(lookback=options.lookback)
    else:
        bunch = matched(model, bunch, options.model_file)
        check_times(reads_times(model), bunch, "use another model")
        horizons, lookback = (model.horizon_,), model.lookback_
    if figure is not None and len(horizons) > 1:
        raise ValueError("--plot draws one model; give one --horizon.")

    looks = []
    for i, horizon in enumerate(horizons):
        if options.model_file is None:
            result = evaluate_ltsf(model, bunch, lookback, horizon, split=options.split)
        else:
            result = score_ltsf(model, bunch, split=options.split)
        report = _report(result, bunch, standardized=options.model_file is None)
        if i == 0:  # after the first result: a bad dataset leaves stdout empty
            show_notes(notes)
            print(
                f"{result.dataset}, {counted(len(result.feature_names), 'channel')}, {name}, "
                f"lookback {_read_by(result.estimator, lookback)}, every {options.split} window, "
                "standardized"
            )
            if not is_dataset(options.dataset):
                borders = ltsf_split(bunch)
                print(
                    f"rows 1 to {borders.train_end} train, to {borders.val_end} validation, "
                    f"to {borders.test_end} test"
                )
            print("horizon      MSE      MAE  windows  seconds")
        seconds = result.get("fit_seconds", 0.0) + result.predict_seconds
        print(
            f"{horizon:7d}  {result.mse:7.4f}  {result.mae:7.4f}  {result.n_windows:7d}"
            f"  {seconds:7.2f}",
            flush=True,
        )
        looks.append((horizon, result.estimator, report))
    for horizon, fitted, report in looks:
        prefix = f"horizon {horizon}: " if len(looks) > 1 else ""
        _print_mixture(fitted, report, prefix)
        if lines := search_lines(fitted):
            print("\n".join(["", f"{prefix}{lines[0]}", *lines[1:]]))
    if figure is not None:
        _, fitted, report = looks[-1]
        display: Any
        if report is not None:
            display = RoutingDisplay.from_report(report)
        elif hasattr(fitted, "cv_results_"):
            display = SearchDisplay.from_estimator(fitted)
        else:
            display = WeightsDisplay.from_estimator(fitted)
        display.plot(figure=figure)
        figure.savefig(options.plot, dpi=150)
        print(f"written: {options.plot}")


def _read_by(model: Any, lookback: int | None) -> str:
    """Return the lookback, or those that a search has tried."""
    if lookback is not None:
        return str(lookback)
    return ", ".join(str(k) for k in np.unique(model.cv_results_["lookback"]))


def _windows(options: argparse.Namespace, bunch: Bunch) -> tuple[tuple[int, ...], int | None]:
    """Return horizons and lookback of a model that is to be fitted, None for a search."""
    given, is_table = options.horizon, not is_dataset(options.dataset)
    weekly = options.dataset.lower() == "national_illness"
    horizons = given or (_ILLNESS_HORIZONS if weekly else _HORIZONS)
    if options.model == ZERO_SHOT:  # which any number of training rows will do for
        borders = ltsf_split(bunch)
        span = borders.test if options.split == "test" else borders.validation
        if is_table:
            horizons = given or (min(DEFAULT_HORIZON, span.stop - span.start),)
        return tuple(horizons), options.lookback or min(LONGEST_CONTEXT, span.start)
    if options.model == "auto":
        if is_table:
            n_train = ltsf_split(bunch).train_end
            longest, _ = search_sizes(n_train, max(given) if given else None, options.lookback)
            horizons = given or (longest,)
        return tuple(horizons), None
    if is_table:
        n_train = ltsf_split(bunch).train_end
        longest, lookback = sizes(n_train, max(given) if given else None, options.lookback)
        return tuple(given or [longest]), lookback
    return tuple(horizons), options.lookback or DEFAULT_LOOKBACK


def _report(result: Bunch, bunch: Bunch, *, standardized: bool) -> Bunch | None:
    """Return who did what on the scored windows; None but for several experts."""
    model = result.estimator
    if getattr(model, "n_experts_", 1) == 1:
        return None
    rows = ltsf_split(bunch).context(result.split, result.lookback)
    span: Any = np.asarray(bunch.data, dtype=np.float64)[rows]
    scale: Any = result.channel_scale
    if standardized:
        span, scale = (span - result.channel_mean) / scale, False
    stamps = None
    if is_pandas(bunch.data):
        span = type(bunch.data)(span, bunch.data.index[rows], bunch.data.columns)
    elif bunch.get("index") is not None:
        stamps = bunch.index[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of dead experts, which the table names
        return mixture_report(model, span, timestamps=stamps, scale=scale)


def _print_mixture(model: Any, report: Bunch | None, prefix: str) -> None:
    lines = mixture_lines(model)
    if lines:
        print()
        print("\n".join([f"{prefix}{lines[0]}", *lines[1:]]))
    if report is not None:
        print(report_table(report))
