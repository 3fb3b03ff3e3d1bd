"""``mixlin models`` and ``mixlin backends``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..backends import available
from ..superlinear import SuperLinearForecaster
from .arguments import DEFAULT_MODEL, MODELS, ZERO_SHOT, ZERO_SHOT_PROMISE


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


def _models(options: argparse.Namespace) -> None:
    lines = [(ZERO_SHOT, SuperLinearForecaster.__name__, ZERO_SHOT_PROMISE)]
    lines += [(name, cls.__name__, promise) for name, (cls, promise) in MODELS.items()]
    for name, cls_name, promise in lines:
        print(f"{name:<11}  {cls_name:<21}  {promise}")
    print(f"default: {ZERO_SHOT} of mixlin forecast, {DEFAULT_MODEL} of mixlin fit and evaluate")


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
