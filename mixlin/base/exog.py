"""Known-future regressors: read beside series, contexts and windows, and put on their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..mixture import KnownInputs
from ..timestamps import TimeIndex, fill_gaps, read_index, read_timestamps
from ..windows import is_many, is_pandas, read_values, refuse_text
from .series import Float64Array, FloatArray, Series
from .training import Training, trained_index

if TYPE_CHECKING:
    from .contexts import Request


def read_training_exog(
    probe: Any, training: Training, X: Any, exog: Any, timestamps: Any, *, update: bool
) -> tuple[Training, dict[str, Any]]:
    """Put regressors beside training series.

    Parameters
    ----------
    probe : estimator
    training : Training
        Read from X.
    X, exog, timestamps
        As in ``fit``.
    update : bool
        Whether the rows add to what was learnt before.

    Returns
    -------
    training : Training
        With ``exog``; where a regressor is missing, so is the series.
    state : dict
        Fitted attributes that follow.

    Raises
    ------
    ValueError
        If the regressors can't be read, or do not fit to the rows or to what was learnt before.
    """
    names: list[str] | None = getattr(probe, "exog_names_", None) if update else None
    if exog is None:
        if names is not None:
            raise ValueError(
                f"this {type(probe).__name__} was fitted with the regressors {names}; partial_fit "
                "got no exog. Pass those of the new rows, or call fit to start anew."
            )
        return training, {}
    if update and names is None:
        raise ValueError(
            f"this {type(probe).__name__} was fitted without exog, and partial_fit got some. Leave "
            "it out, or call fit with all rows and their regressors."
        )
    if training.windows is not None or training.panel is not None:
        what = "windows (y given)" if training.windows is not None else "a long frame"
        raise ValueError(
            f"exog needs a series or a list of them; got {what}. Fit on the series itself, or "
            "leave exog out."
        )
    assert training.series is not None
    many = is_many(X)
    stamps = _each(timestamps, many, len(training.series))
    like = trained_index(probe) if update else None
    out, labels = [], names
    for i, (item, own) in enumerate(zip(_items(exog, X, many, "exog"), stamps, strict=True)):
        name = f"exog[{i}]" if many else "exog"
        values, labels = read_beside(item, X[i] if many else X, name, labels)
        out.append(_on_grid(values, X[i] if many else X, own, like))
    if all(np.isnan(own).any(axis=1).all() for own in out):
        raise ValueError(
            "exog has a missing value in every row, so that there is no window to learn from. Fill "
            "it, or leave the regressors out that are never known."
        )
    series: list[FloatArray] = []
    for i, rows in enumerate(training.series):
        absent = np.isnan(rows).all(axis=1, keepdims=True)  # what is known there teaches nothing
        own = out[i] = np.where(absent, np.nan, out[i]) if absent.any() else out[i]
        unknown = np.asarray(np.isnan(own).any(axis=1))
        series.append(np.where(unknown[:, None], np.nan, rows) if unknown.any() else rows)
    tails = [own[-training.lookback :].copy() for own in out]
    if training.continues:
        tails = [np.concatenate([probe._exog_tails[-1], tails[0]])[-training.lookback :]]
    return replace(training, series=series, exog=out), {
        "exog_names_": labels,
        "_exog_tails": tails,
    }


def read_beside(
    item: Any, X: Any, name: str, names: list[str] | None
) -> tuple[Float64Array, list[str]]:
    """Read the regressors of the rows of X.

    Parameters
    ----------
    item : array-like of shape (n_rows,) or (n_rows, K), Series or DataFrame
    X : array-like, Series or DataFrame
        With n_rows rows; where both have an index, rows are found by their labels.
    name : str
        What errors call it.
    names : list of str, optional
        Of the regressors, where they are known.

    Returns
    -------
    values : array of shape (n_rows, K)
    names : list of str

    Raises
    ------
    ValueError
        If rows or regressors are missing, or values are no numbers.
    """
    values, found = _read(item, name, names)
    if is_pandas(item) and is_pandas(X):
        return values[_places(item.index, X.index, name, "of X")], found
    n_rows = len(X)
    if len(values) != n_rows:
        raise ValueError(
            f"{name} must have one row for every row of X, {n_rows}; got {len(values)}. Rows that "
            "lie in the future belong into exog_future of predict."
        )
    return values, found


def _read(item: Any, name: str, names: list[str] | None) -> tuple[Float64Array, list[str]]:
    """Return regressors (n_rows, K) and their names, compared with those of the fit."""
    if is_pandas(item) and item.ndim == 2:
        columns = [str(c) for c in item.columns]
        if len(set(columns)) < len(columns):
            raise ValueError(f"{name} has two columns of one name: {columns}. Rename one of them.")
        if names is not None and sorted(columns) == sorted(names):
            item = item.iloc[:, [columns.index(c) for c in names]]
        elif names is not None:
            raise ValueError(
                f"{name} must have the regressors of the fit, {names}; got {columns}. Rename or "
                "select the columns."
            )
    values, container = read_values(item, name=name)
    K = values.shape[1]
    if names is not None and len(names) != K:
        raise ValueError(
            f"{name} must have the {len(names)} regressor{'s' if len(names) > 1 else ''} of the "
            f"fit, {names}; got {K}."
        )
    if names is None:
        if container.kind == "frame":
            names = [str(c) for c in container.columns]
        elif container.kind == "series" and container.columns is not None:
            names = [str(container.columns)]
        else:
            names = [f"x{k}" for k in range(K)]
    return values.astype(np.float64), names


def _places(index: Any, labels: Any, name: str, what: str) -> npt.NDArray[np.intp]:
    """Return the places of labels in an index."""
    if not index.is_unique:
        raise ValueError(
            f"the index of {name} holds duplicate labels, such as "
            f"{index[index.duplicated()][0]}; every time must occur once."
        )
    places = np.asarray(index.get_indexer(labels), dtype=np.intp)
    missing = np.flatnonzero(places < 0)
    if len(missing):
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(
            f"{name} has no row for the label {labels[missing[0]]}{more} {what}. Its index must "
            "hold the same labels (and time zone); fill it with exog.reindex(...), or pass an "
            "array in the order of the rows."
        )
    return places


def _on_grid(values: Float64Array, X: Any, stamps: Any, like: TimeIndex | None) -> Float64Array:
    """Put regressors on the regular grid of the rows of X, NaN where those are missing."""
    if is_pandas(X):
        _, rows = read_index(X.index, like=like)
    elif stamps is not None:
        _, rows = read_timestamps(stamps, len(values), like=like)
    else:
        return values
    return np.asarray(fill_gaps(values, rows), dtype=np.float64)


def _items(exog: Any, X: Any, many: bool, name: str) -> Sequence[Any]:
    """Return one item of exog for every series."""
    if not many:
        return [exog]
    if not isinstance(exog, (list, tuple)) or len(exog) != len(X):
        got = f"{len(exog)}" if isinstance(exog, (list, tuple)) else type(exog).__name__
        raise ValueError(
            f"{name} must be a list with the regressors of each of the {len(X)} series; got {got}."
        )
    return exog


def _each(timestamps: Any, many: bool, n: int) -> list[Any]:
    if timestamps is None:
        return [None] * n
    return list(timestamps) if many else [timestamps]


def add_exog(
    estimator: Any,
    request: Request,
    X: Any,
    timestamps: Any,
    exog: Any,
    exog_future: Any,
    horizon: int | None,
) -> Request:
    """Return a request together with the regressors of its windows.

    Parameters
    ----------
    estimator : BaseForecaster
    request : Request
        Read from X and timestamps.
    X, timestamps, exog, exog_future, horizon
        As in ``predict``.

    Returns
    -------
    Request

    Raises
    ------
    ValueError
        If regressors are missing, or there are some and the model reads none.
    """
    name = type(estimator).__name__
    if not estimator.plan_.needs_exog:
        refuse_exog(estimator, exog=exog, exog_future=exog_future)
        return request
    names, n_steps = estimator.exog_names_, estimator._checked_horizon(horizon)
    L = estimator.lookback_
    if exog_future is None:
        raise ValueError(
            f"this {name} was fitted with the regressors {names}, whose values in the {n_steps} "
            f"steps to forecast are needed. Pass exog_future of shape ({n_steps}, {len(names)})."
        )
    if X is None and exog is not None:
        raise ValueError(
            "exog are the regressors of a context's rows; without X the training series is "
            "continued, whose regressors are known from fit. Pass exog_future alone."
        )
    if X is not None and exog is None:
        raise ValueError(
            f"this {name} was fitted with the regressors {names}: a context needs those of its own "
            "rows, too. Pass exog with one row for every row of X."
        )
    if request.contexts is None:
        both = _beside_windows(estimator, X, exog, exog_future, n_steps)
    else:
        many = request.many
        stamps = _each(timestamps, many, len(request.contexts))
        if X is None:
            past = list(estimator._exog_tails)
        else:
            past = [
                _past_of(estimator, X[i] if many else X, item, own, i if many else None)
                for i, (item, own) in enumerate(
                    zip(_items(exog, X, many, "exog"), stamps, strict=True)
                )
            ]
        ahead = _items(exog_future, request.contexts, many, "exog_future")
        both = np.stack(
            [
                np.concatenate(
                    [before[-L:], _future_of(item, context, names, n_steps, i if many else None)]
                )
                for i, (before, item, context) in enumerate(
                    zip(past, ahead, request.contexts, strict=True)
                )
            ]
        )
    unknown = np.isnan(both)
    if unknown[:, :L].any():
        raise ValueError(
            f"exog has {int(unknown[:, :L].sum())} missing values in the last {L} rows before the "
            "forecast. Fill them: the effects in these rows are needed."
        )
    if unknown.any():
        raise ValueError(
            f"exog_future has {int(unknown.sum())} missing values in the {n_steps} steps to "
            "forecast. Fill them: every one is needed."
        )
    known = request.known or KnownInputs()
    return replace(request, known=known._replace(exog=both.transpose(0, 2, 1)))


def _past_of(estimator: Any, X: Any, item: Any, stamps: Any, which: int | None) -> Float64Array:
    name = "exog" if which is None else f"exog[{which}]"
    values, _ = read_beside(item, X, name, estimator.exog_names_)
    return _on_grid(values, X, stamps, trained_index(estimator))


def _future_of(
    item: Any, context: Series, names: list[str], n_steps: int, which: int | None
) -> Float64Array:
    """Return the regressors (n_steps, K) of the steps that follow on a context."""
    name = "exog_future" if which is None else f"exog_future[{which}]"
    values, _ = _read(item, name, names)
    if is_pandas(item) and context.index is not None:
        labels = context.index.continued(n_steps)
        return values[_places(item.index, labels, name, "to forecast")]
    if len(values) < n_steps:
        raise ValueError(
            f"{name} must have a row for every step to forecast, {n_steps}; got {len(values)}. "
            "Pass further rows, or a shorter horizon=."
        )
    return values[:n_steps]


def _beside_windows(
    estimator: Any, X: Any, exog: Any, exog_future: Any, n_steps: int
) -> Float64Array:
    """Return the regressors (n_windows, lookback + n_steps, K) of windows."""
    n, length = np.shape(X)[:2]
    names, L = estimator.exog_names_, estimator.lookback_
    parts = []
    for name, given, least in (("exog", exog, length), ("exog_future", exog_future, n_steps)):
        refuse_text(given, name)
        values = np.asarray(given, dtype=np.float64)
        fits = values.ndim == 3 and values.shape[::2] == (n, len(names))
        rows = values.shape[1] if fits else 0
        if not fits or rows < least or (name == "exog" and rows > least):
            raise ValueError(
                f"{name} of windows must have shape (n_windows, n_steps, n_regressors), "
                f"{(n, least, len(names))}; got {values.shape}."
            )
        if np.isinf(values).any():
            raise ValueError(f"{name} holds infinite values; every one must be finite.")
        parts.append(values[:, length - L :] if name == "exog" else values[:, :n_steps])
    return np.concatenate(parts, axis=1)


def refuse_exog(estimator: Any, **given: Any) -> None:
    """Raise a ValueError if there are regressors and the model was fitted without.

    Parameters
    ----------
    estimator : BaseForecaster
    **given
        By the name of their parameter.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"this {type(estimator).__name__} was fitted without regressors, and got {name}. "
                f"Leave it out, or call fit with exog."
            )


def read_scored_exog(
    estimator: Any, X: Any, timestamps: Any, exog: Any, n_series: int
) -> list[Float64Array] | None:
    """Read the regressors of series to score.

    Parameters
    ----------
    estimator : BaseForecaster
    X, timestamps, exog
        As in ``score``.
    n_series : int

    Returns
    -------
    list of array of shape (T, K), on the grid of the series; None where the model reads none

    Raises
    ------
    ValueError
        If they are missing, or there are some and the model reads none.
    """
    if not estimator.plan_.needs_exog:
        refuse_exog(estimator, exog=exog)
        return None
    if exog is None:
        raise ValueError(
            f"this {type(estimator).__name__} was fitted with the regressors "
            f"{estimator.exog_names_}, which score needs, too. Pass exog with one row for every "
            "row of X."
        )
    many = is_many(X)
    stamps = _each(timestamps, many, n_series)
    return [
        _past_of(estimator, X[i] if many else X, item, own, i if many else None)
        for i, (item, own) in enumerate(zip(_items(exog, X, many, "exog"), stamps, strict=True))
    ]
