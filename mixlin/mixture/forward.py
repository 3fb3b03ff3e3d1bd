"""The one forward pass that every model runs, written over backend operations."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from ..backends import Backend, Tensor, resolve
from .placement import Placed, PlacedBlock, PlacedEvidence, PlacedGate, as_placed, place
from .record import Mixture
from .rows import Rows, measure_rows, new_columns

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
    logits : array of the shape of ``gates``
        What the gates are the softmax of: after the evidence, before the temperature and the choice
        of the largest. Zero for one expert.
    """

    forecast: FloatArray
    gates: FloatArray
    experts: FloatArray
    level: FloatArray
    scale: FloatArray | None
    evidence: tuple[FloatArray, ...]
    logits: FloatArray


class Computed(NamedTuple):
    """Tensors that :func:`compute` returns, measured from the level that the host adds.

    Attributes
    ----------
    forecast : tensor of shape (n, C, horizon)
    gates : tensor of shape (n, 1 or C, E), or (n, 1 or C, H, E) per step; None for one expert
    experts : tensor of shape (n, C, E * H); None unless asked for
    evidence : tuple of tensors of shape (n, C, E)
    logits : tensor of the shape of ``gates``, or None
        After the evidence, before the temperature.
    """

    forecast: Tensor
    gates: Tensor | None
    experts: Tensor | None
    evidence: tuple[Tensor, ...]
    logits: Tensor | None = None


def compute(
    placed: Placed,
    backend: Backend,
    columns: Tensor,
    scale: Tensor | None = None,
    features: Tensor | None = None,
    *,
    parts: bool = False,
) -> Computed:
    """Run the device's share of the forward pass: nothing here touches the host.

    Parameters
    ----------
    placed : Placed
    backend : Backend
    columns : tensor of shape (n, C, K)
        Windows measured from their level, then the side columns.
    scale : tensor of shape (n, C, 1), optional
        Where biases of layers ride on it.
    features : tensor of shape (n, 1 or C, F), or (n, 1 or C, H, F), optional
        What the gate looks at.
    parts : bool
        Return the experts' forecasts too.

    Returns
    -------
    Computed
    """
    window, inputs = columns, columns
    width = placed.lookback + placed.n_side_columns
    if placed.n_side_columns and (placed.pre or (placed.gate and placed.gate.evidence)):
        window = backend.columns(columns, 0, placed.lookback)
    if placed.pre:
        inputs = _run_blocks(backend, window, placed.pre, scale)
        if placed.n_side_columns:
            inputs = backend.concat([inputs, backend.columns(columns, placed.lookback, width)])
    gates, evidence, logits = None, (), None
    if placed.gate is not None:
        logits, evidence = _run_gate(backend, window, features, placed.gate)
        gates = backend.gate(logits, placed.gate.top_k, placed.gate.temperature)
        mixed = backend.mix(inputs, placed.weights, placed.bias, gates)
    else:
        mixed = backend.linear(inputs, placed.weights, placed.bias)
    experts = backend.linear(inputs, placed.weights, placed.bias) if parts else None
    forecast = _run_blocks(backend, mixed, placed.post, scale)
    return Computed(forecast, gates, experts, evidence, logits)


def _run_blocks(
    backend: Backend, x: Tensor, blocks: tuple[PlacedBlock, ...], scale: Tensor | None
) -> Tensor:
    """Run blocks; with ``scale`` of shape (n, C, 1) the biases ride on it."""
    for block in blocks:
        out = x
        for i, (w, b, activation, axis) in enumerate(block.layers):
            add = x if block.residual and i + 1 == len(block.layers) else None
            if scale is not None and b is not None:
                add, b = backend.linear(scale, b, None, add=add), None
            out = backend.linear(out, w, b, activation=activation, add=add, axis=axis)
        x = out
    return x


def _run_gate(
    backend: Backend, window: Tensor, features: Tensor, gate: PlacedGate
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return logits, and the losses that they were lowered by."""
    out = features
    for w, b, activation, _ in gate.layers:
        out = backend.linear(out, w, b, activation=activation)
    evidence = tuple(_run_evidence(backend, window, e) for e in gate.evidence)
    if evidence:
        exponents = (e.exponent for e in gate.evidence)
        out = backend.penalize(out, list(zip(evidence, exponents, strict=True)))
    return out, evidence


def _run_evidence(backend: Backend, window: Tensor, evidence: PlacedEvidence) -> Tensor:
    weights = evidence.weights
    if evidence.kind == "backtest":
        options = (evidence.ahead, evidence.floor, evidence.power)
        return backend.backtest(window, weights, evidence.step, *options)
    lookback, read = window.shape[2], weights.shape[1]
    newest = window if read == lookback else backend.columns(window, lookback - read, lookback)
    return backend.energy(newest, weights)


def _check_and_place(
    mixture: Mixture, backend: Backend, windows: npt.NDArray[np.floating]
) -> tuple[Mixture, Placed]:
    _, n_channels, lookback = windows.shape
    if lookback != mixture.lookback or mixture.groups not in (1, n_channels):
        raise ValueError(
            f"windows must be (n_windows, {'n_channels' if mixture.groups == 1 else mixture.groups}"
            f", {mixture.lookback}); got {windows.shape}."
        )
    mixture = as_placed(mixture, backend)
    return mixture, place(mixture, backend)


def _upload(backend: Backend, rows: Rows) -> list[Tensor | None]:
    """Upload columns, scale and features together; what a model has not stays None."""
    tensors = iter(backend.upload(*(a for a in rows.arrays if a is not None)))
    return [None if a is None else next(tensors) for a in rows.arrays]


def _forecast_program(
    placed: Placed, backend: Backend, tensors: list[Tensor | None], *, scores: bool = False
) -> Tensor:
    """Run the device's share in the form that the backend compiled it into.

    With ``scores`` the logits come as further columns of the result.
    """
    key = (scores, *(None if t is None else tuple(t.shape[1:]) for t in tensors))
    program = placed.programs.get(key)
    if program is None:
        # the table of placed weights must keep neither of them alive
        known, weights = weakref.proxy(backend), weakref.ref(placed)
        present = [t is not None for t in tensors]

        def device_share(*given: Tensor) -> Tensor:
            remaining = iter(given)
            every = [next(remaining) if here else None for here in present]
            own = weights()
            assert own is not None  # whoever calls a program holds what it is kept in
            computed = compute(own, known, *every)
            if not scores:
                return computed.forecast
            return known.concat([computed.forecast, computed.logits])

        program = placed.programs[key] = backend.compile(device_share, key)
    return program(*(t for t in tensors if t is not None))


def _finish(
    forecast: npt.NDArray[np.floating],
    rows: Rows,
    shape: tuple[int, ...],
    out: npt.NDArray[np.floating] | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> npt.NDArray[Any]:
    """Give the forecast its scale and level back.

    In float64, unless forecasts were computed and are wanted in float32: there a constant of
    float32 costs a unit in the last place and saves a pass.
    """
    forecast = forecast.reshape(shape)
    if rows.factor is not None:
        forecast = forecast * rows.factor
    if rows.bias is not None:
        bias = rows.bias.astype(forecast.dtype, copy=False)
        own = forecast.flags.writeable  # a result that was read back is nobody else's
        forecast = np.add(forecast, bias, out=forecast if own else None)
    single = dtype == forecast.dtype == np.float32
    constant = rows.constant.astype(np.float32) if single else rows.constant
    if single and out is None and forecast.flags.writeable:
        out = forecast
    forecast = np.add(forecast, constant, out=out, dtype=constant.dtype, casting="same_kind")
    return forecast.astype(dtype, copy=False) if out is None else out


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
    given = mixture
    mixture, placed = _check_and_place(mixture, backend, windows)
    rows = measure_rows(mixture, placed, backend, windows, extra, timestamps)
    tensors = _upload(backend, rows)
    n, n_channels, _ = windows.shape
    shape = (n, n_channels, mixture.horizon)
    if not parts:
        result = _forecast_program(placed, backend, tensors)
        return _finish(backend.get(result), rows, shape)
    computed = compute(placed, backend, *tensors, parts=True)
    forecast = _finish(backend.get(computed.forecast), rows, shape)

    def by_channel(tensor: Tensor, *shape: int) -> FloatArray:
        array = np.asarray(backend.get(tensor), dtype=np.float64)
        channels = 1 if n and array.shape[:2] == (n, 1) else n_channels
        return array.reshape(n, channels, *shape)

    n_experts, steps = mixture.n_experts, mixture.weights.shape[3]
    experts = by_channel(computed.experts, n_experts, steps)
    if rows.bias is not None:
        experts = experts + rows.bias[:, :, None]
    if rows.factor is not None:
        experts = experts * rows.factor[:, :, None]
    gates, logits = np.ones((n, 1, 1)), np.zeros((n, 1, 1))
    if computed.gates is not None:
        per_step = (steps,) if len(computed.gates.shape) == 4 else ()
        both = (by_channel(t, *per_step, n_experts) for t in (computed.gates, computed.logits))
        one = rows.shared_gate and _one_gate(mixture)
        gates, logits = ((g[:, :1] if one else g) for g in both)
    return Parts(
        forecast,
        gates,
        (experts + rows.constant[:, :, None]).transpose(0, 1, 3, 2),
        _level(given, windows, rows),
        rows.scale,
        tuple(by_channel(e, n_experts) for e in computed.evidence),
        logits,
    )


def _level(given: Mixture, windows: npt.NDArray[np.floating], rows: Rows) -> FloatArray:
    """Return the level that a mixture takes, whichever one it was placed with."""
    if given.normalization.level == "mean":
        return rows.level
    if given.normalization.level == "last":
        return windows[:, :, -1].astype(np.float64)
    return given.reference[None, :]


def _one_gate(mixture: Mixture) -> bool:
    """Whether the gate's layers make no difference between channels."""
    assert mixture.gate is not None
    tensors = [t for la in mixture.gate.layers for t in (la.weight, la.bias) if t is not None]
    return all(len(t) == 1 for t in tensors)


@overload
def predict_windows(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    backend: Backend | None = ...,
    *,
    extra: FloatArray | None = ...,
    timestamps: npt.NDArray[np.datetime64] | None = ...,
    dtype: npt.DTypeLike = ...,
    scores: Literal[False] = ...,
) -> npt.NDArray[Any]: ...


@overload
def predict_windows(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    backend: Backend | None = ...,
    *,
    extra: FloatArray | None = ...,
    timestamps: npt.NDArray[np.datetime64] | None = ...,
    dtype: npt.DTypeLike = ...,
    scores: Literal[True],
) -> tuple[npt.NDArray[Any], FloatArray]: ...


def predict_windows(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    backend: Backend | None = None,
    *,
    extra: FloatArray | None = None,
    timestamps: npt.NDArray[np.datetime64] | None = None,
    dtype: npt.DTypeLike = np.float64,
    scores: bool = False,
) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], FloatArray]:
    """Forecast windows, in blocks of rows of the backend's choice.

    Parameters
    ----------
    mixture : Mixture
    windows : array of shape (n_windows, n_channels, lookback)
        Any memory layout; float32 or float64.
    backend : Backend, optional
        The configured one by default.
    extra : array of shape (n_windows, 1 or n_channels, n_extra), optional
    timestamps : array of shape (n_windows, lookback + horizon), optional
    dtype : dtype, default=float64
        Of the forecasts. Levels are added in float64, but for results of float32 that are wanted
        in float32.
    scores : bool, default=False
        Return the gate's logits too, which travel back with the forecasts.

    Returns
    -------
    forecast : array of shape (n_windows, n_channels, horizon)
    logits : array of shape (n_windows, n_channels, E)
        Only with ``scores``: after the evidence, before the temperature and the choice of the
        largest. Zero for one expert.

    Raises
    ------
    ValueError
        If the windows or the extra columns don't fit to the mixture, or if ``scores`` is asked of a
        gate per step.
    """
    if backend is None:
        backend = resolve()
    mixture, placed = _check_and_place(mixture, backend, windows)
    n, n_channels, lookback = windows.shape
    block = backend.rows_per_block(n_channels, lookback) or max(1, n)
    gated = scores and mixture.gate is not None
    logits = np.zeros((n, n_channels, mixture.n_experts)) if scores else None
    if n == 0:
        none = np.empty((0, n_channels, mixture.horizon), dtype=dtype)
        return none if logits is None else (none, logits)
    # a single block keeps the array that was read back
    out = np.empty((n, n_channels, mixture.horizon), dtype=dtype) if block < n else None
    in_flight = backend.blocks_in_flight
    # as many scratch blocks as the device may still be reading from
    scratch = [new_columns(mixture, backend, windows[:block]) for _ in range(in_flight)]
    waiting: deque[tuple[slice, Tensor, Rows]] = deque()

    def read_back() -> None:
        nonlocal out
        done, result, rows = waiting.popleft()
        shape = (len(windows[done]), n_channels, mixture.horizon)
        into = None if out is None else out[done]
        columns = backend.get(result)
        if gated:
            assert logits is not None
            logits[done] = columns[..., mixture.horizon :].reshape(*shape[:2], -1)
            columns = columns[..., : mixture.horizon]
        forecast = _finish(columns, rows, shape, into, dtype)
        out = forecast if out is None else out

    for i, start in enumerate(range(0, n, block)):
        if backend.equal_blocks and start + block > n > block:
            start = n - block  # some rows are computed twice, with the same result
        some = slice(start, start + block)
        rows = measure_rows(
            mixture,
            placed,
            backend,
            windows[some],
            None if extra is None else extra[some],
            None if timestamps is None else timestamps[some],
            scratch[i % len(scratch)][: len(windows[some])],
        )
        if gated:
            rows = _one_gate_per_channel(rows, n_channels)
        result = _forecast_program(placed, backend, _upload(backend, rows), scores=gated)
        waiting.append((some, result, rows))
        if len(waiting) == in_flight:
            read_back()
    while waiting:
        read_back()
    assert out is not None
    return out if logits is None else (out, logits)


def _one_gate_per_channel(rows: Rows, n_channels: int) -> Rows:
    """Repeat features that channels share, so that forecasts and logits have the same channels."""
    columns, rides, features = rows.arrays
    assert columns is not None
    assert features is not None
    if features.ndim == 4:
        raise ValueError(
            "scores are asked of a gate that differs from step to step; forward(..., parts=True) "
            "returns the logits of such a gate."
        )
    if features.shape[1] < columns.shape[1]:
        shape = (len(features), n_channels, features.shape[2])
        rows = rows._replace(arrays=(columns, rides, np.broadcast_to(features, shape)))
    return rows
