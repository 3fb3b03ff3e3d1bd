"""The command line: ``mixlin`` or ``python -m mixlin``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..solvers.mixture_task import FitInterruptedWarning
from .evaluate import add_evaluate
from .fit import add_fit
from .forecast import add_forecast
from .reports import add_backends, add_models

__all__ = ["main"]

_DESCRIPTION = "Exact linear forecasters and mixtures of linear experts."
_EPILOG = """\
examples:
  mixlin forecast --demo --horizon 48 --interval 0.9 --plot forecast.png
  mixlin forecast load.csv --horizon 96 --output forecast.csv
  mixlin forecast load.csv --horizon 96 --model nlinear --output forecast.csv
  mixlin evaluate ETTh1 --model dlinear --lookback 336 --horizon 96
  mixlin fit load.csv --model mole --router calendar --save load.safetensors
  mixlin evaluate load.csv --model-file load.safetensors --plot experts.png
  mixlin forecast load.csv --model-file load.safetensors --output forecast.csv
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, like those of everything else."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {self.prog} --help shows what is accepted.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0, or, after one sentence on stderr, 2 for an error and 130 for Ctrl-C.

    Examples
    --------
    >>> from mixlin.cli import main
    >>> main(["evaluate", "seasonal", "--lookback", "0"])
    2
    """
    try:
        options = _parser().parse_args(argv)
        with warnings.catch_warnings():
            # what was asked for is not done; mixlin fit alone has a use for half of it
            warnings.simplefilter("error", FitInterruptedWarning)
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, FitInterruptedWarning) as stop:
        text = str(stop) if isinstance(stop, KeyboardInterrupt) else ""
        print(f"mixlin: {text or 'interrupted'}.", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"mixlin: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mixlin",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mixlin {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    add_forecast(commands)
    add_fit(commands)
    add_evaluate(commands)
    add_models(commands)
    add_backends(commands)
    return parser


def _sentence(error: Exception) -> str:
    """Return what went wrong on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    text = " ".join(str(error).split())
    return text or type(error).__name__
