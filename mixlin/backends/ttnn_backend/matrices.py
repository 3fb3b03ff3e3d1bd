"""Weights in the forms of products, and matrices that turn sums, copies and comparisons into them.

All are host arrays; the 0/1 matrices are exact in every dtype.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_FOLD_COLUMNS = 8192  # of one product of a back-test; bounds the memory of its errors


def bfloat16(array: npt.NDArray[np.floating]) -> FloatArray:
    """Round to the nearest value with eight significant bits, ties to even."""
    bits = np.asarray(array, dtype=np.float32).view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & 0xFFFF0000
    rounded: FloatArray = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    return rounded


def embedded(
    w: FloatArray,
    start: int,
    total: int,
    ones: int | None = None,
    bias: FloatArray | None = None,
    *,
    n_by_step: int = 0,
    hands_on: bool = False,
) -> FloatArray:
    """Place weights at the rows of their columns, zeros elsewhere, biases at the column of ones.

    Parameters
    ----------
    w : array of shape (G, K, M)
    start, total : int
        Row of the first column, and how many columns there are.
    ones : int, optional
    bias : array of shape (G, M), optional
    n_by_step : int
        With experts, columns change from expert-major to step-major order.
    hands_on : bool
        Whether a last column copies the column of ones.

    Returns
    -------
    array of shape (total, M), or (G, total, M) for several groups
    """
    groups = max(len(w), 1 if bias is None else len(bias))
    width = w.shape[2]
    out = np.zeros((groups, total, width + hands_on))
    out[:, start : start + w.shape[1], :width] = w
    if bias is not None:
        out[:, ones, :width] = bias
    if hands_on:
        out[:, ones, width] = 1.0
    if n_by_step:
        out = by_step(out, n_by_step)
    return out[0] if groups == 1 else out


def n_in_parts(n_columns: int) -> int:
    """Return how many columns :func:`columns_in_parts` makes of some."""
    return 3 * n_columns + 2


def columns_in_parts(x: npt.NDArray[np.floating]) -> FloatArray:
    """Return columns that bfloat16 holds to 16 bits, (..., K) to (..., 3 K + 2).

    They are the rounded columns, what rounding took away, the rounded columns, and two ones.
    """
    high = bfloat16(x)
    ones = np.ones((*x.shape[:-1], 2))
    return np.concatenate([high, x - high, high, ones], axis=-1)


def weights_in_parts(
    w: FloatArray, start: int, total: int, bias: FloatArray | None, *, hands_on: bool = False
) -> FloatArray:
    """Place weights for :func:`columns_in_parts`; only the product of both low parts is missing.

    Parameters
    ----------
    w : array of shape (G, K, M)
    start, total : int
        Row of the first column, and how many columns there are.
    bias : array of shape (G, M), optional
    hands_on : bool
        Whether a last column is one.

    Returns
    -------
    array of shape (total, M), or (G, total, M) for several groups
    """
    groups = max(len(w), 1 if bias is None else len(bias))
    n, width = w.shape[1:]
    out = np.zeros((groups, total, width + hands_on))
    rows, low, again, ones = out[:, start:, :width], n, 2 * n, 3 * n
    rows[:, :low] = rows[:, low:again] = bfloat16(w)
    rows[:, again:ones] = w - bfloat16(w)
    if bias is not None:
        rows[:, ones] = bfloat16(bias)
        rows[:, ones + 1] = bias - bfloat16(bias)
    if hands_on:
        out[:, start + ones, width] = 1.0
    return out[0] if groups == 1 else out


def by_step(columns: FloatArray, n_experts: int) -> FloatArray:
    """Reorder columns (..., E * H) to (..., H * E)."""
    split = columns.reshape(*columns.shape[:-1], n_experts, -1)
    ordered: FloatArray = np.swapaxes(split, -1, -2).reshape(columns.shape)
    return ordered


def stacked(w: FloatArray, n_experts: int) -> FloatArray:
    """Stack packed experts: (..., K, E * H) to (..., E * K, H)."""
    *front, n_columns, width = w.shape
    split = w.reshape(*front, n_columns, n_experts, width // n_experts)
    stacks: FloatArray = np.swapaxes(split, -2, -3).reshape(*front, n_experts * n_columns, -1)
    return stacks


def packed(u: FloatArray) -> FloatArray:
    """Lay matrices (E, L, R) side by side, (L, E * R)."""
    side_by_side: FloatArray = u.transpose(1, 0, 2).reshape(u.shape[1], -1)
    return side_by_side


def spread(n: int, width: int) -> FloatArray:
    """Copy each of ``n`` columns ``width`` times: (n, n * width)."""
    return np.repeat(np.eye(n), width, axis=1)


def sums(n: int, width: int, behind: int = 0, share: float = 0.0, own: float = 1.0) -> FloatArray:
    """Sum ``n`` groups of ``width`` columns each: (n * width + behind, n).

    Columns ``behind`` them join every sum with a share of theirs, a group's own ones with another.
    """
    return np.concatenate([own * spread(n, width).T, np.full((behind, n), share)])


def collapse(n_experts: int, horizon: int) -> FloatArray:
    """Sum experts: (E * H, H)."""
    return np.tile(np.eye(horizon), (n_experts, 1))


def pairs(n: int) -> FloatArray:
    """Return differences of all pairs: column ``e * n + f`` is logit f minus logit e."""
    eye = np.eye(n)
    return (eye[:, None, :] - eye[:, :, None]).reshape(n, n * n)


def ties(n: int, tiny: float) -> FloatArray:
    """Return what makes the first of equal logits the larger one, shape (1, n * n)."""
    return np.tril(np.full((n, n), tiny), -1).reshape(1, n * n)


def dft(length: int, n_bins: int, kind: str) -> FloatArray:
    """Return cosines or sines of a transform of ``2 * n_bins`` samples, (length, n_bins)."""
    phases = np.outer(np.arange(length), np.arange(n_bins)) % (2 * n_bins)
    function = np.cos if kind == "cosine" else np.sin
    return np.asarray(function(np.pi / n_bins * phases))


def fold_chunks(length: int, reach: int, step: int, width: int) -> list[tuple[int, ...]]:
    """Return the first values of all folds inside a context, in chunks of one product each.

    Parameters
    ----------
    length : int
        Of the context.
    reach : int
        Values of a fold; the newest fold ends with the context.
    step : int
        Distance of folds.
    width : int
        Columns that a fold takes in the product.
    """
    starts = range(length - reach, -1, -step)
    size = max(1, _FOLD_COLUMNS // width)
    return [tuple(starts[i : i + size]) for i in range(0, len(starts), size)]


def fold_errors(
    w: FloatArray, length: int, starts: tuple[int, ...], steps: tuple[int, ...], *, targets: bool
) -> FloatArray:
    """Return the matrix from a context to forecast minus target of every expert and fold.

    Parameters
    ----------
    w : array of shape (E, L, M)
    length : int
    starts : tuple of int
    steps : tuple of M int
        Steps ahead that are held against the forecasts.
    targets : bool
        Whether an expert whose forecasts are zero, which leaves the targets, stands last.

    Returns
    -------
    array of shape (length, (E or E + 1) * n_folds * M)
    """
    n_experts, lookback, n_steps = w.shape
    out = np.zeros((length, n_experts + targets, len(starts), n_steps))
    for i, start in enumerate(starts):
        out[start : start + lookback, :n_experts, i] = w.transpose(1, 0, 2)
        target = start + lookback - 1 + np.array(steps)
        out[target, :, i, np.arange(n_steps)] = -1.0
    return out.reshape(length, -1)
