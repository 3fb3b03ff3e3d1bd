"""The one forward pass that every model runs, written over backend operations."""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Backend, Tensor, resolve
from ..layers import Block, Layer
from .record import Mixture

FloatArray = npt.NDArray[np.float64]


class Parts(NamedTuple):
    """What :func:`forward` returns with ``parts=True``.

    Attributes
    ----------
    forecast : array of shape (n_windows, n_channels, horizon)
    gates : array of shape (n_windows, 1 or n_channels, E), or (..., horizon, E) per step
    experts : array of shape (n_windows, n_channels, horizon, E)
        Forecast of every expert, base included; before ``post``.
    level, scale : array of shape (n_windows or 1, n_channels or 1), or None
    evidence : tuple of array of shape (n_windows, n_channels, E)
    """

    forecast: FloatArray
    gates: FloatArray
    experts: FloatArray
    level: FloatArray
    scale: FloatArray | None
    evidence: tuple[FloatArray, ...]


class Placed(NamedTuple):
    """A mixture's tensors on a backend."""

    weights: Tensor
    bias: Tensor | None
    gate: tuple[tuple[Tensor, Tensor | None], ...]
    evidence: tuple[Tensor, ...]
    pre: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...]
    post: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...]


_PLACED: weakref.WeakKeyDictionary[Mixture, weakref.WeakKeyDictionary[Backend, Placed]] = (
    weakref.WeakKeyDictionary()
)
_PLACING = threading.RLock()


def place(mixture: Mixture, backend: Backend) -> Placed:
    """Return the mixture's tensors on the backend, uploaded at the first call.

    Parameters
    ----------
    mixture : Mixture
    backend : Backend

    Returns
    -------
    Placed
        Kept until the mixture or the backend is gone; never part of an estimator or a pickle.
    """
    with _PLACING:
        table = _PLACED.setdefault(mixture, weakref.WeakKeyDictionary())
        placed = table.get(backend)
        if placed is None:
            placed = table[backend] = _upload(mixture, backend)
        return placed


def _upload(mixture: Mixture, backend: Backend) -> Placed:
    def tensor(array: FloatArray | None) -> Tensor | None:
        return None if array is None else backend.put(np.ascontiguousarray(array))

    def layers(chain: tuple[Layer, ...], riding: bool) -> tuple[tuple[Tensor, Tensor], ...]:
        # a bias that rides on the scale is the weight of a one-column product
        return tuple(
            (
                tensor(la.weight),
                tensor(la.bias[:, None] if riding and la.bias is not None else la.bias),
            )
            for la in chain
        )

    riding = mixture.normalization.scaled and not mixture.divides_by_scale
    weights, bias = mixture.packed
    gate = mixture.gate
    return Placed(
        backend.put(weights),
        tensor(bias),
        () if gate is None else layers(gate.layers, False),
        () if gate is None else tuple(tensor(e.weights) for e in gate.evidence),
        tuple(layers(block.layers, riding) for block in mixture.pre),
        tuple(layers(block.layers, riding) for block in mixture.post),
    )


def _blocks(
    backend: Backend,
    x: Tensor,
    blocks: tuple[Block, ...],
    placed: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...],
    scale: Tensor | None,
) -> Tensor:
    """Run blocks; with ``scale`` of shape (n, C, 1) the biases ride on it."""
    for block, tensors in zip(blocks, placed, strict=True):
        out = x
        for i, (layer, (w, b)) in enumerate(zip(block.layers, tensors, strict=True)):
            add = x if block.residual and i + 1 == len(tensors) else None
            if scale is not None and b is not None:
                add, b = backend.linear(scale, b, None, add=add), None
            out = backend.linear(
                out,
                w,
                b,
                activation=layer.activation,
                add=add,
                axis=-1 if layer.axis == "time" else -2,
            )
        x = out
    return x


def _gates(
    mixture: Mixture, backend: Backend, placed: Placed, x: Tensor, features: FloatArray
) -> tuple[Tensor, tuple[Tensor, ...]]:
    gate = mixture.gate
    assert gate is not None
    out = backend.put(features)
    for layer, (w, b) in zip(gate.layers, placed.gate, strict=True):
        out = backend.linear(out, w, b, activation=layer.activation)
    evidence = tuple(
        backend.energy(x, w) if e.kind == "energy" else backend.backtest(x, w, e.step)
        for e, w in zip(gate.evidence, placed.evidence, strict=True)
    )
    scores = [(s, e.exponent) for s, e in zip(evidence, gate.evidence, strict=True)]
    return backend.gate(out, gate.top_k, gate.temperature, scores), evidence


def forward(
    mixture: Mixture,
    backend: Backend,
    windows: npt.NDArray[np.floating],
    *,
    extra: FloatArray | None = None,
    timestamps: npt.NDArray[np.datetime64] | None = None,
    parts: bool = False,
) -> FloatArray | Parts:
    """Run one forward pass over a block of windows.

    Parameters
    ----------
    mixture : Mixture
    backend : Backend
    windows : array of shape (n_windows, n_channels, lookback)
    extra : array of shape (n_windows, 1 or n_channels, n_extra), optional
        The columns ``z`` of ``mixture.extra_coef``.
    timestamps : array of shape (n_windows, lookback + horizon), optional
        For routers that read the calendar.
    parts : bool
        Return everything that intervals, plots and router training read.

    Returns
    -------
    array of shape (n_windows, n_channels, horizon), or Parts

    Raises
    ------
    ValueError
        If the windows or the extra columns don't fit to the mixture.
    """
    placed = _check_and_place(mixture, backend, windows)
    return _run(mixture, backend, placed, windows, extra, timestamps, parts=parts)


def _check_and_place(
    mixture: Mixture, backend: Backend, windows: npt.NDArray[np.floating]
) -> Placed:
    _, n_channels, lookback = windows.shape
    if lookback != mixture.lookback or mixture.groups not in (1, n_channels):
        raise ValueError(
            f"windows must be (n_windows, {'n_channels' if mixture.groups == 1 else mixture.groups}"
            f", {mixture.lookback}); got {windows.shape}."
        )
    return place(mixture, backend)


def _columns_shape(mixture: Mixture, windows: npt.NDArray[np.floating]) -> tuple[int, int, int]:
    n, n_channels, lookback = windows.shape
    return n, n_channels, lookback + mixture.n_side_columns


def _run(
    mixture: Mixture,
    backend: Backend,
    placed: Placed,
    windows: npt.NDArray[np.floating],
    extra: FloatArray | None,
    timestamps: npt.NDArray[np.datetime64] | None,
    *,
    parts: bool = False,
    columns: FloatArray | None = None,
    out: FloatArray | None = None,
) -> FloatArray | Parts:
    """Run a block of windows that were checked; ``columns`` and ``out`` save allocations."""
    n, n_channels, lookback = windows.shape
    if mixture.takes_windows and windows.dtype == np.float64 and windows.flags.c_contiguous:
        buffer = np.asarray(windows, dtype=np.float64)
        centered, level, scale = buffer, mixture.reference[None, :], None
    else:  # windows are measured straight into the columns of the one product
        buffer = columns if columns is not None else np.empty(_columns_shape(mixture, windows))
        centered, level, scale = mixture.normalization.measure(
            windows, mixture.reference, out=buffer[:, :, :lookback]
        )
    reference = mixture.reference[None, :]
    base = level if mixture.level_coef is None else reference

    side: list[FloatArray] = []
    if mixture.level_coef is not None:
        side.append(np.broadcast_to((level - reference)[:, :, None], (n, n_channels, 1)))
    if mixture.scale_coef is not None:
        assert scale is not None
        side.append(scale[:, :, None])
    if mixture.extra_coef is not None:
        if extra is None or extra.shape[2] != mixture.extra_coef.shape[1]:
            got = "none" if extra is None else f"{extra.shape[2]}"
            raise ValueError(
                f"this model needs {mixture.extra_coef.shape[1]} extra columns; got {got}."
            )
        side.append(np.broadcast_to(extra, (n, n_channels, extra.shape[2])))
    if mixture.bias is not None and mixture.divides_by_scale:
        side.append(np.ones((n, n_channels, 1)))

    if side:
        np.concatenate(side, axis=2, out=buffer[:, :, lookback:])
    if mixture.divides_by_scale:
        assert scale is not None
        buffer /= scale[:, :, None]
    riding = bool(mixture.pre or mixture.post) and not mixture.divides_by_scale
    rides = backend.put(scale[:, :, None]) if riding and scale is not None else None

    window = None
    if mixture.pre:
        window = backend.put(centered)
        inputs = _blocks(backend, window, mixture.pre, placed.pre, rides)
        if side:
            inputs = backend.concat([inputs, backend.put(buffer[:, :, lookback:])])
    else:
        inputs = backend.put(buffer)
        window = inputs if not side else None

    gates: Tensor = None
    evidence: tuple[Tensor, ...] = ()
    if mixture.gate is not None:
        if mixture.gate.evidence and window is None:
            window = backend.put(centered)
        router_windows = np.asarray(windows, dtype=np.float64)
        steps = mixture.weights.shape[3]  # that gates weigh; post may change their number
        features = mixture.gate.router.features(router_windows, timestamps, steps)
        gates, evidence = _gates(mixture, backend, placed, window, features)

    experts: Tensor = None
    if mixture.gate is None:
        mixed = backend.linear(inputs, placed.weights, placed.bias)
        experts = mixed
    else:
        mixed = backend.mix(inputs, placed.weights, placed.bias, gates)
        if parts:
            experts = backend.linear(inputs, placed.weights, placed.bias)
    result = _blocks(backend, mixed, mixture.post, placed.post, rides)

    forecast = backend.get(result)
    if mixture.divides_by_scale:
        assert scale is not None
        forecast = forecast * scale[:, :, None]
    constant = base[:, :, None]
    if mixture.bias_on_host:
        assert mixture.bias is not None
        constant = constant + mixture.bias.transpose(1, 0, 2)
    forecast = np.add(forecast, constant, out=out)
    if not parts:
        return forecast
    each = backend.get(experts).reshape(n, n_channels, mixture.n_experts, -1)
    if mixture.divides_by_scale:
        each = each * scale[:, :, None, None]  # type: ignore[index]
    ones = np.ones((n, 1, 1))
    return Parts(
        forecast,
        ones if gates is None else backend.get(gates),
        (each + constant[:, :, None]).transpose(0, 1, 3, 2),
        level,
        scale,
        tuple(backend.get(e) for e in evidence),
    )


def predict_windows(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    backend: Backend | None = None,
    *,
    extra: FloatArray | None = None,
    timestamps: npt.NDArray[np.datetime64] | None = None,
) -> FloatArray:
    """Forecast windows, in blocks of rows of the backend's choice.

    Parameters
    ----------
    mixture : Mixture
    windows : array of shape (n_windows, n_channels, lookback)
        Any memory layout; float32 or float64.
    backend : Backend, optional
        numpy by default.
    extra : array of shape (n_windows, 1 or n_channels, n_extra), optional
    timestamps : array of shape (n_windows, lookback + horizon), optional

    Returns
    -------
    array of shape (n_windows, n_channels, horizon)
        Float64.
    """
    if backend is None:
        backend = resolve()
    n, n_channels, lookback = windows.shape
    block = backend.rows_per_block(n_channels, lookback) or max(1, n)
    out = np.empty((n, n_channels, mixture.horizon))
    columns = np.empty(_columns_shape(mixture, windows[:block]))
    placed = _check_and_place(mixture, backend, windows)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        _run(
            mixture,
            backend,
            placed,
            windows[rows],
            None if extra is None else extra[rows],
            None if timestamps is None else timestamps[rows],
            columns=columns[: len(windows[rows])],
            out=out[rows],
        )
    return out
