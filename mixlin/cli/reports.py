"""``mixlin models``, ``mixlin backends`` and ``mixlin evaluate``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..backends import available
from ..backtesting import evaluate_ltsf
from .arguments import DEFAULT_MODEL, MODELS, add_model, steps

_HORIZONS = (96, 192, 336, 720)  # of the benchmark; illness, weekly, has its own
_ILLNESS_HORIZONS = (24, 36, 48, 60)


def add_models(commands: Any) -> None:
    """Add ``mixlin models``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    text = "list the models and what they promise"
    parser = commands.add_parser("models", help=text, description=text)
    parser.set_defaults(run=_models)


def add_backends(commands: Any) -> None:
    """Add ``mixlin backends``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    text = "list the compute engines and whether they can be used here"
    parser = commands.add_parser("backends", help=text, description=text)
    parser.set_defaults(run=_backends)


def add_evaluate(commands: Any) -> None:
    """Add ``mixlin evaluate``.

    Parameters
    ----------
    commands : action of ``ArgumentParser.add_subparsers``
    """
    text = "score a model by the protocol of the long-horizon benchmark"
    parser = commands.add_parser("evaluate", help=text, description=text)
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="ETTh1, ETTh2, ETTm1, ETTm2, exchange_rate, national_illness, or seasonal (made up)",
    )
    add_model(parser)
    parser.add_argument(
        "--lookback", type=steps, default=336, help="steps that a forecast reads (default: 336)"
    )
    parser.add_argument(
        "--horizon",
        type=steps,
        action="append",
        help="steps to forecast; may be repeated (default: the benchmark's four)",
    )
    parser.add_argument("--alpha", type=float, help="relative ridge penalty (default: the model's)")
    parser.add_argument(
        "--split",
        choices=["test", "validation"],
        default="test",
        help="rows to score; choose settings on validation (default: test)",
    )
    parser.add_argument("--data-home", metavar="DIR", help="folder of the benchmark files")
    parser.set_defaults(run=_evaluate)


def _models(options: argparse.Namespace) -> None:
    for name, (cls, promise) in MODELS.items():
        default = " (default)" if name == DEFAULT_MODEL else ""
        print(f"{name:<8}  {cls.__name__:<18}  {promise}{default}")


def _backends(options: argparse.Namespace) -> None:
    with _silence():
        reasons = available()
    width = max(map(len, reasons))
    for name, reason in reasons.items():
        state = "available" if reason is None else f"not available: {' '.join(reason.split())}"
        print(f"{name:<{width}}  {state}")


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what libraries print, which the table would drown in.

    On the file descriptors, because ttnn also logs from C++.
    """
    kept = []
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            kept.append((os.dup(descriptor), descriptor))
            os.dup2(nowhere, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, descriptor in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


def _evaluate(options: argparse.Namespace) -> None:
    cls, _ = MODELS[options.model]
    estimator = cls() if options.alpha is None else cls(alpha=options.alpha)
    weekly = options.dataset.lower() == "national_illness"
    horizons = options.horizon or (_ILLNESS_HORIZONS if weekly else _HORIZONS)
    for i, horizon in enumerate(horizons):
        result = evaluate_ltsf(
            estimator,
            options.dataset,
            options.lookback,
            horizon,
            split=options.split,
            data_home=options.data_home,
        )
        if i == 0:  # after the first result: a bad dataset leaves stdout empty
            n_channels = len(result.feature_names)
            print(
                f"{result.dataset}, {n_channels} channel{'s' if n_channels > 1 else ''}, "
                f"{options.model}, lookback {options.lookback}, every {options.split} window, "
                "standardized"
            )
            print("horizon      MSE      MAE  windows  seconds")
        seconds = result.fit_seconds + result.predict_seconds
        print(
            f"{horizon:7d}  {result.mse:7.4f}  {result.mae:7.4f}  {result.n_windows:7d}"
            f"  {seconds:7.2f}",
            flush=True,
        )
