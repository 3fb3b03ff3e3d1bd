"""Checks of what a measure is given, and the average that it returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Axis = int | tuple[int, ...] | None
Figure = float | npt.NDArray[np.float64]


def average(errors: npt.NDArray[np.float64], sample_weight: Any, axis: Axis) -> Figure:
    """Average over the axes, weighted along the first one."""
    if sample_weight is None:
        return plain(np.mean(errors, axis=axis))
    weight = check_numbers(sample_weight, "sample_weight")
    if errors.ndim == 0 or weight.shape != errors.shape[:1]:
        raise ValueError(
            f"sample_weight has shape {weight.shape}; it must hold one weight per entry of the "
            f"first axis of the forecasts, which have shape {errors.shape}."
        )
    if (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must not be negative, and not all zero.")
    axes = (axis,) if isinstance(axis, (int, np.integer)) else axis
    if axes is not None and 0 not in axes and -errors.ndim not in axes:
        raise ValueError(
            f"sample_weight weighs axis 0, which axis={axis} keeps; average over axis 0 too."
        )
    return plain(
        np.average(
            errors,
            axis=axis,
            weights=np.broadcast_to(weight.reshape(-1, *[1] * (errors.ndim - 1)), errors.shape),
        )
    )


def plain(value: Any) -> Figure:
    """Turn a zero-dimensional result into a float."""
    return float(value) if np.ndim(value) == 0 else value


def check_pair(
    y_true: Any, y_pred: Any, name: str = "y_pred"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return targets and forecasts as float64 arrays of one shape."""
    target, forecast = check_numbers(y_true, "y_true"), check_numbers(y_pred, name)
    if target.shape != forecast.shape:
        raise ValueError(
            f"y_true has shape {target.shape} and {name} {forecast.shape}; they must be the same."
        )
    _check_labels(y_true, y_pred, name)
    return target, forecast


def check_stacked(
    y_true: Any,
    target: npt.NDArray[np.float64],
    stacked: Any,
    name: str,
    size: int,
    *,
    allow_infinite: bool = False,
) -> npt.NDArray[np.float64]:
    """Return forecasts with one more axis than the targets, of the given size."""
    values = check_numbers(stacked, name, allow_infinite=allow_infinite)
    expected = (*target.shape, size)
    if getattr(getattr(stacked, "columns", None), "nlevels", 1) == 2 and values.size == np.prod(
        expected
    ):
        # A frame lays (channel, quantile) side by side in its columns.
        values = values.reshape(expected)
    if values.shape != expected:
        raise ValueError(
            f"{name} has shape {values.shape}; with y_true of shape {target.shape} it must be "
            f"{expected}."
        )
    _check_labels(y_true, stacked, name)
    return values


def _check_labels(y_true: Any, y_pred: Any, name: str) -> None:
    """Refuse two frames whose rows or columns mean different things: values go by position."""
    for labels in ("index", "columns"):
        ours, theirs = getattr(y_true, labels, None), getattr(y_pred, labels, None)
        if ours is None or theirs is None or callable(ours) or callable(theirs):
            continue  # not both are frames; a list has a method called index
        if labels == "columns" and getattr(theirs, "nlevels", 1) == 2:
            theirs = list(dict.fromkeys(channel for channel, _ in theirs))
        if not np.array_equal(np.asarray(ours), np.asarray(theirs)):
            raise ValueError(
                f"y_true and {name} have different {labels}, which begin with {list(ours[:2])} and "
                f"{list(theirs[:2])}. Values are compared by position: align them, or pass arrays."
            )


def check_numbers(
    y: Any, name: str, *, allow_missing: bool = False, allow_infinite: bool = False
) -> npt.NDArray[np.float64]:
    """Return a non-empty float64 array, or say in a sentence why y is none."""
    try:
        values = np.asarray(y)
        if values.dtype.kind == "O":
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be an array of real numbers without missing values or ragged rows; "
            f"{error}."
        ) from error
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; got dtype {values.dtype}.")
    if values.size == 0:
        raise ValueError(f"{name} is empty (shape {values.shape}); pass at least one value.")
    values = values.astype(np.float64, copy=False)
    if not allow_missing and np.isnan(values).any():
        raise ValueError(
            f"{name} contains NaN, first at index {first_index(np.isnan(values))}. Leave those "
            "windows out before measuring."
        )
    if not allow_infinite and np.isinf(values).any():
        raise ValueError(
            f"{name} contains infinity, first at index {first_index(np.isinf(values))}; values "
            "must be finite."
        )
    return values


def first_index(mask: npt.NDArray[np.bool_]) -> Any:
    """Index of the first True: an int for one axis, a tuple for several."""
    index = tuple(int(i) for i in np.argwhere(mask)[0])
    return index[0] if len(index) == 1 else index
