"""The host's share of the forward pass: windows become the columns of one product, in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Backend
from .placement import Placed
from .record import Mixture

FloatArray = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """A row block, ready for upload, and what the host adds to the result.

    Attributes
    ----------
    arrays : tuple of (columns, scale, features)
        Columns (n, C, K): the window measured from its level, then the side columns. Scale
        (n, C, 1) where biases of layers ride on it, else None. Features (n, 1 or C, F), or
        (n, 1 or C, H, F) with a gate per step, else None. Folded channels are rows.
    constant : array of shape (n or 1, C or 1, 1 or H)
        Added to the forecast last.
    bias : array of shape (1, C or 1, H), or None
        Added before, where it is not part of the constant.
    factor : array of shape (n, C, 1), or None
        The forecast is multiplied by it, before the constant is added.
    level, scale : array of shape (n or 1, C or 1), or None
    shared_gate : bool
        Whether all channels of a window have one gate.
    """

    arrays: tuple[npt.NDArray[np.floating] | None, ...]
    constant: FloatArray
    bias: FloatArray | None
    factor: FloatArray | None
    level: FloatArray
    scale: FloatArray | None
    shared_gate: bool


def new_columns(
    mixture: Mixture, backend: Backend, windows: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Return where the columns of the one product are written.

    Float64, but for float32 windows measured from their last value on an engine of float32: the
    difference of two values is rounded once there, as it would be on the way to the engine.
    """
    n, n_channels, lookback = windows.shape
    exact = mixture.normalization.level == "last" and not mixture.normalization.scaled
    single = exact and not mixture.n_side_columns and windows.dtype == np.float32
    dtype = np.float32 if single and backend.rows_dtype == np.float32 else np.float64
    return np.empty((n, n_channels, lookback + mixture.n_side_columns), dtype=dtype)


def measure_rows(
    mixture: Mixture,
    placed: Placed,
    backend: Backend,
    windows: npt.NDArray[np.floating],
    extra: FloatArray | None,
    timestamps: npt.NDArray[np.datetime64] | None,
    buffer: npt.NDArray[np.floating] | None = None,
) -> Rows:
    """Measure a block of windows that were checked.

    Parameters
    ----------
    mixture : Mixture
    placed : Placed
    backend : Backend
    windows : array of shape (n, C, lookback)
    extra : array of shape (n, 1 or C, n_extra), optional
    timestamps : array of shape (n, lookback + horizon), optional
    buffer : array of shape (n, C, K), optional
        Where columns are written; saves the allocation.

    Returns
    -------
    Rows
    """
    _, n_channels, lookback = windows.shape
    reference = mixture.reference[None, :]
    columns: npt.NDArray[np.floating]
    # windows that nothing is taken from go as they are, in a dtype that needs no more rounding
    as_they_are = windows.dtype in (np.float64, backend.rows_dtype) and windows.flags.c_contiguous
    if mixture.takes_windows and as_they_are:
        columns, level, scale = windows, reference, None
    else:
        columns = buffer if buffer is not None else new_columns(mixture, backend, windows)
        _, level, scale = mixture.normalization.measure(
            windows, mixture.reference, out=columns[:, :, :lookback]
        )
        side = _side_columns(mixture, windows, level, scale, extra)
        if side:
            np.concatenate(side, axis=2, out=columns[:, :, lookback:])
        if mixture.divides_by_scale:
            assert scale is not None
            columns /= scale[:, :, None]

    riding = bool(mixture.pre or mixture.post) and not mixture.divides_by_scale
    rides = scale[:, :, None] if riding and scale is not None else None
    features = None
    if mixture.gate is not None:
        plain = np.asarray(windows, dtype=np.float64)
        steps = mixture.weights.shape[3]  # that gates weigh; post may change their number
        features = mixture.gate.router.features(plain, timestamps, steps)
        features = mixture.gate.standardized(features)
    constant = (level if mixture.adds_level else reference)[:, :, None]
    bias = None
    if mixture.host_bias is not None:
        bias = mixture.host_bias.transpose(1, 0, 2)
        if mixture.normalization.level == "none":  # the same for all windows
            constant, bias = constant + bias, None
    factor = scale[:, :, None] if mixture.divides_by_scale and scale is not None else None
    shared = features is None or (features.shape[1] == 1 and not mixture.gate.evidence)  # type: ignore[union-attr]

    arrays: tuple[npt.NDArray[np.floating] | None, ...] = (columns, rides, features)
    per_step_of_all = features is not None and features.ndim == 4 and features.shape[1] == 1
    if backend.folds_channels and placed.foldable and not per_step_of_all:
        arrays = tuple(None if a is None else _fold(a, n_channels) for a in arrays)
    return Rows(arrays, constant, bias, factor, level, scale, shared)


def _side_columns(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    level: FloatArray,
    scale: FloatArray | None,
    extra: FloatArray | None,
) -> list[FloatArray]:
    """Return what stands beside the window, in the order of ``Mixture.packed``."""
    n, n_channels, _ = windows.shape
    side: list[FloatArray] = []
    if mixture.level_coef is not None:
        from_reference = (level - mixture.reference[None, :])[:, :, None]
        side.append(np.broadcast_to(from_reference, (n, n_channels, 1)))
    if mixture.scale_coef is not None:
        assert scale is not None
        side.append((scale - mixture.scale_reference)[:, :, None])
    if mixture.channel_column is not None:
        column = mixture.channel_column[0][None, :, None]
        side.append(np.broadcast_to(column, (n, n_channels, 1)))
    if mixture.extra_coef is not None:
        if extra is None or extra.shape[2] != mixture.extra_coef.shape[1]:
            got = "none" if extra is None else f"{extra.shape[2]}"
            raise ValueError(
                f"this model needs {mixture.extra_coef.shape[1]} extra columns; got {got}."
            )
        side.append(np.broadcast_to(extra, (n, n_channels, extra.shape[2])))
    if mixture.bias is not None and mixture.divides_by_scale:
        side.append(np.ones((n, n_channels, 1)))
    return side


def _fold(array: npt.NDArray[np.floating], n_channels: int) -> npt.NDArray[np.floating]:
    """Turn (n, 1 or C, ...) into (n * C, 1, ...)."""
    whole = np.broadcast_to(array, (len(array), n_channels, *array.shape[2:]))
    return whole.reshape(len(array) * n_channels, 1, *array.shape[2:])
