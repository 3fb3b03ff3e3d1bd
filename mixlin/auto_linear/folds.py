"""Which rows of series are fitted on and which are held out."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Fold:
    """Rows of every series: fitted on are those before ``stop``, held-out targets lie in the span.

    Parameters
    ----------
    stop : tuple of int
    first, last : tuple of int
        The span of the held-out targets, without ``last``.
    """

    stop: Lengths
    first: Lengths
    last: Lengths


def check_validation(value: Any) -> None:
    """Raise a ValueError unless a value says what to hold out.

    Parameters
    ----------
    value : object
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    whole = number and isinstance(value, Integral)
    if whole and value >= 1:
        return
    if number and not whole and 0 < value < 1:
        return
    if callable(getattr(value, "split", None)) and not isinstance(value, (str, np.ndarray)):
        return
    raise ValueError(
        "The 'validation' parameter of AutoLinearForecaster must be a number of rows (an integer "
        "of at least 1), a share of the rows between 0 and 1, or a splitter such as "
        f"sklearn.model_selection.TimeSeriesSplit. Got {value!r} instead."
    )


def make_folds(lengths: Lengths, validation: Any, horizon: int) -> list[Fold]:
    """Return what is held out.

    Parameters
    ----------
    lengths : tuple of int
        Rows of every series.
    validation : int, float or splitter
        Number or share of the last rows of every series, at least ``horizon`` of them for a share.
        A splitter gives one fold for each of its splits of the longest series, which must train on
        first rows and test on later ones; the other series end in step with it.
    horizon : int

    Returns
    -------
    list of Fold

    Raises
    ------
    ValueError
        If a fold holds no target window out, or leaves nothing to fit on.

    Examples
    --------
    >>> from mixlin.auto_linear.folds import make_folds
    >>> make_folds((100,), 0.2, 10)
    [Fold(stop=(80,), first=(80,), last=(100,))]
    """
    longest = max(lengths)
    if isinstance(validation, Real):
        if isinstance(validation, Integral):
            held = [int(validation)] * len(lengths)
        else:
            held = [max(int(float(validation) * n), horizon) for n in lengths]
        stops = tuple(max(0, n - k) for n, k in zip(lengths, held, strict=True))
        folds = [Fold(stops, stops, lengths)]
    else:
        folds = [
            _fold_of(np.asarray(train), np.asarray(test), lengths)
            for train, test in validation.split(np.zeros((longest, 1)))
        ]
    if not folds:
        raise ValueError(f"validation={validation!r} gave no split of {longest} rows.")
    for fold in folds:
        held_rows = max(b - a for a, b in zip(fold.first, fold.last, strict=True))
        if held_rows < horizon:
            raise ValueError(
                f"validation={validation!r} holds {held_rows} rows out, fewer than horizon="
                f"{horizon}, so that no window could be forecast. Hold more rows out, or shorten "
                "the horizon."
            )
        if max(fold.stop) <= horizon:
            raise ValueError(
                f"validation={validation!r} leaves {max(fold.stop)} of {longest} rows to fit on, "
                f"and horizon={horizon} needs more. Hold fewer rows out, or shorten the horizon."
            )
    return folds


def _fold_of(train: Any, test: Any, lengths: Lengths) -> Fold:
    rows = np.arange(len(train))
    first, last = (int(test[0]), int(test[-1]) + 1) if len(test) else (0, 0)
    in_order = (
        len(train)
        and len(test)
        and np.array_equal(train, rows)
        and np.array_equal(test, np.arange(first, last))
        and first >= len(train)
    )
    if not in_order:
        raise ValueError(
            "a splitter for validation must train on the first rows and test on consecutive later "
            "ones, as sklearn.model_selection.TimeSeriesSplit does; this one shuffles or cuts out."
        )
    longest = max(lengths)

    def moved(place: int) -> Lengths:  # places are counted from the end, which series share
        return tuple(max(0, n - (longest - place)) for n in lengths)

    return Fold(moved(len(train)), moved(first), moved(last))
