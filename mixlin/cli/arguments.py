"""Arguments that several commands share, and the model that they describe."""

from __future__ import annotations

import argparse
from typing import Any

from .. import (
    AutoLinearForecaster,
    DLinearForecaster,
    LinearForecaster,
    MoLEForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from ..mole import BASES, SOLVERS
from ..routing import NAMED_ROUTERS
from ..solvers import GradientSolver, SeasonalPrior
from ..zero_shot import default_model

MODELS: dict[str, tuple[type[Any], str]] = {
    "linear": (LinearForecaster, "exact least squares from the window to every step"),
    "nlinear": (
        NLinearForecaster,
        "the same, from the last value on: follows wandering levels",
    ),
    "dlinear": (DLinearForecaster, "exact least squares on trend and season of the window"),
    "rlinear": (RLinearForecaster, "exact least squares, free of the window's mean and scale"),
    "auto": (
        AutoLinearForecaster,
        "tries lookbacks, penalties and priors, and averages the best",
    ),
    "mole": (MoLEForecaster, "a gate mixes linear experts, one alone where that is no worse"),
}
"""Class and promise of every model that is fitted, by the name that the command line uses."""

ZERO_SHOT = "superlinear"
"""The model that nothing is fitted of, and what ``mixlin forecast`` takes where none is named."""

ZERO_SHOT_PROMISE = "needs no training: many experts, weighed on the series itself"

# On the validation spans of ETTh1, ETTm1, exchange_rate, national_illness and a synthetic load,
# nlinear was never more than 3 % from the best of the four and up to a quarter better than linear
# and dlinear where the level wanders.
DEFAULT_MODEL = "nlinear"

_REASONS = {
    DEFAULT_MODEL: "was never far from the best on validation data",
    ZERO_SHOT: "needs no training; the others are fitted on the table",
}
_MIXTURE_OPTIONS = ("n_experts", "router", "base", "solver", "top_k", "max_epochs", "seed")
_SEARCH_OPTIONS = ("shared", "period", "validation")
_MODEL_OPTIONS = ("model", *_MIXTURE_OPTIONS, *_SEARCH_OPTIONS, "alpha")


def steps(text: str) -> int:
    """Read a number of steps.

    Parameters
    ----------
    text : str

    Returns
    -------
    int

    Raises
    ------
    argparse.ArgumentTypeError
        If it is not a whole number of at least 1.

    Examples
    --------
    >>> from mixlin.cli.arguments import steps
    >>> steps("96")
    96
    """
    return _whole(text, 1)


def lookbacks(text: str) -> int | tuple[int, ...]:
    """Read a number of steps, or several with commas between them.

    Parameters
    ----------
    text : str

    Returns
    -------
    int or tuple of int

    Raises
    ------
    argparse.ArgumentTypeError
        If one is not a whole number of at least 1.

    Examples
    --------
    >>> from mixlin.cli.arguments import lookbacks
    >>> lookbacks("336"), lookbacks("336,512")
    (336, (336, 512))
    """
    parts = text.split(",")
    if len(parts) == 1:
        return steps(text)
    try:
        return tuple(steps(part.strip()) for part in parts)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            "must be a whole number of at least 1, or several with commas between them, got "
            f"{text!r}"
        ) from None


def _held_out(text: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    whole = value >= 1 and value == int(value)
    if not whole and not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of rows, or a share of them such as 0.2, got {text!r}"
        )
    return int(value) if whole else value


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {least}, got {text!r}"
        )
    return value


def coverage(text: str) -> float:
    """Read the coverage of an interval.

    Parameters
    ----------
    text : str

    Returns
    -------
    float

    Raises
    ------
    argparse.ArgumentTypeError
        If it does not lie between 0 and 1.

    Examples
    --------
    >>> from mixlin.cli.arguments import coverage
    >>> coverage("0.9")
    0.9
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"must be a number between 0 and 1, such as 0.9, got {text!r}"
        )
    return value


def add_model(
    parser: argparse.ArgumentParser, default: str = DEFAULT_MODEL, *, zero_shot: bool = True
) -> None:
    """Add ``--model`` and what there is to choose about a model.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    default : str
        The model that is meant where none is named.
    zero_shot : bool
        Whether the model without training is among the choices.

    Examples
    --------
    >>> import argparse
    >>> from mixlin.cli.arguments import add_model, make_model
    >>> parser = argparse.ArgumentParser()
    >>> add_model(parser)
    >>> make_model(parser.parse_args(["--model", "mole", "--n-experts", "2"]))
    ('mole', MoLEForecaster(n_experts=2, random_state=0))
    """
    parser.add_argument(
        "--model",
        choices=[ZERO_SHOT, *MODELS] if zero_shot else list(MODELS),
        help=f"default: {default}, which {_REASONS[default]}",
    )
    parser.add_argument("--alpha", type=float, help="relative ridge penalty (default: the model's)")
    group = parser.add_argument_group("search", "for --model auto alone")
    group.add_argument(
        "--shared",
        action="store_const",
        const=True,
        help="the same weights for all columns, in half the time",
    )
    group.add_argument(
        "--period",
        type=steps,
        action="append",
        help="rows of a season; may be repeated (default: found)",
    )
    group.add_argument(
        "--validation",
        type=_held_out,
        metavar="ROWS",
        help="rows at the end to choose on, or a share of them (default: 0.2)",
    )
    group = parser.add_argument_group("mixtures", "for --model mole alone")
    group.add_argument("--n-experts", type=steps, help="experts at most (default: 4)")
    group.add_argument(
        "--router",
        choices=list(NAMED_ROUTERS),
        help="what the gate looks at (default: statistics, of the window)",
    )
    group.add_argument("--base", choices=list(BASES), help="what an expert is (default: dlinear)")
    group.add_argument(
        "--solver",
        choices=list(SOLVERS),
        help="how experts and gate are found (default: alternating; gradient needs torch)",
    )
    group.add_argument("--top-k", type=steps, help="experts with weight in a window (default: all)")
    group.add_argument("--max-epochs", type=steps, help="of --solver gradient (default: 20)")
    group.add_argument("--seed", type=_seed, help="of the gate's beginnings (default: 0)")


def make_model(options: argparse.Namespace, default: str = DEFAULT_MODEL) -> tuple[str, Any]:
    """Make the model that the arguments describe.

    Parameters
    ----------
    options : argparse.Namespace
        With what :func:`add_model` adds.
    default : str
        The model that is meant where none is named.

    Returns
    -------
    name : str
    estimator : forecaster
        Not fitted, without lookback and horizon.

    Raises
    ------
    ValueError
        If options exclude each other.
    """
    name = options.model or default
    params = {} if options.alpha is None else {"alpha": options.alpha}
    given = [option for option in _MIXTURE_OPTIONS if getattr(options, option) is not None]
    if name != "mole" and given:
        raise ValueError(
            f"{flag(given[0])} is for mixtures, and {name} is none; add --model mole, or leave "
            f"{flag(given[0])} out."
        )
    searched = [option for option in _SEARCH_OPTIONS if getattr(options, option) is not None]
    if name != "auto" and searched:
        raise ValueError(
            f"{flag(searched[0])} is for a search, and {name} is none; add --model auto, or leave "
            f"{flag(searched[0])} out."
        )
    if isinstance(options.__dict__.get("lookback"), tuple) and name != "auto":
        raise ValueError(
            f"--lookback {','.join(map(str, options.lookback))} are several, and {name} reads one; "
            "give one, or add --model auto, which tries them."
        )
    if name == ZERO_SHOT:
        if params:
            raise ValueError(
                f"--alpha is for models that are fitted, and {name} is not; add --model "
                f"{DEFAULT_MODEL}, or leave --alpha out."
            )
        return name, default_model()
    cls, _ = MODELS[name]
    if name == "auto":
        return name, _search(options)
    if name != "mole":
        return name, cls(**params)
    for option in ("n_experts", "router", "base", "solver", "top_k"):
        if option in given:
            params[option] = getattr(options, option)
    solver = params.get("solver", "alternating")
    if "max_epochs" in given:
        if solver != "gradient":
            raise ValueError(
                f"--solver {solver} has no epochs; leave --max-epochs out, or add --solver "
                "gradient."
            )
        params["solver"] = GradientSolver(max_epochs=options.max_epochs)
    if solver == "fixed-gates" and "router" in given:
        raise ValueError(
            "--solver fixed-gates brings gates of its own, smooth in the time of day; leave "
            "--router out, or choose another --solver."
        )
    model = MoLEForecaster(**params, random_state=options.seed or 0)
    if model.top_k is not None and model.top_k > model.n_experts:
        raise ValueError(
            f"--top-k {model.top_k} is more than the {model.n_experts} experts there are; lower "
            "it, or raise --n-experts."
        )
    return name, model


def _search(options: argparse.Namespace) -> AutoLinearForecaster:
    if options.alpha is not None:
        raise ValueError(
            "--alpha is what --model auto searches for; leave it out, or choose another --model."
        )
    params: dict[str, Any] = {}
    if options.shared:
        params["shared"] = True
    if options.period is not None:
        params["prior"] = SeasonalPrior(options.period)
    if options.validation is not None:
        params["validation"] = options.validation
    return AutoLinearForecaster(**params)


def refuse_validation(options: argparse.Namespace, instead: str) -> None:
    """Refuse rows to choose on where a protocol says which ones these are.

    Parameters
    ----------
    options : argparse.Namespace
    instead : str
        What to do.

    Raises
    ------
    ValueError
        If ``--validation`` is given.
    """
    if options.validation is not None:
        raise ValueError(
            f"--validation is settled: choices are made on the validation span; {instead}."
        )


def refuse_beside_model_file(options: argparse.Namespace, *others: str) -> None:
    """Refuse to choose what a model file has settled.

    Parameters
    ----------
    options : argparse.Namespace
    *others : str
        Names of further options, beside those of :func:`add_model`.

    Raises
    ------
    ValueError
        If one of them is given.
    """
    for option in (*_MODEL_OPTIONS, *others):
        if getattr(options, option) is not None:
            raise ValueError(
                f"{flag(option)} is settled by --model-file; leave one of the two out."
            )


def flag(option: str) -> str:
    """Return how an option is written on the command line.

    Parameters
    ----------
    option : str

    Returns
    -------
    str

    Examples
    --------
    >>> from mixlin.cli.arguments import flag
    >>> flag("top_k")
    '--top-k'
    """
    return f"--{option.replace('_', '-')}"


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add what says how a table is read.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
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


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add a benchmark dataset or a table.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument(
        "dataset",
        metavar="DATASET|FILE",
        help="ETTh1, ETTh2, ETTm1, ETTm2, exchange_rate, national_illness, seasonal (made up), or "
        "a table as in mixlin forecast",
    )
    add_table(parser)
    parser.add_argument("--data-home", metavar="DIR", help="folder of the benchmark files")
