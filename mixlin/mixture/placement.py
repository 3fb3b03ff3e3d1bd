"""A mixture's tensors on a backend: uploaded once, kept outside of estimators and pickles."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Backend, Tensor
from ..layers import Block, Layer
from ..routing import Evidence, Gate
from .record import Mixture

FloatArray = npt.NDArray[np.float64]


class PlacedLayer(NamedTuple):
    """One affine map; a bias that rides on the scale is the weight of a one-column product."""

    weight: Tensor
    bias: Tensor | None
    activation: str | None
    axis: int


class PlacedBlock(NamedTuple):
    """Layers in sequence, optionally around a residual connection."""

    layers: tuple[PlacedLayer, ...]
    residual: bool


class PlacedEvidence(NamedTuple):
    """A loss of every expert on the window itself."""

    kind: str
    weights: Tensor
    exponent: float
    step: int
    ahead: tuple[int, ...] | None
    floor: float
    power: float


class PlacedGate(NamedTuple):
    """From features to weights of the experts."""

    layers: tuple[PlacedLayer, ...]
    evidence: tuple[PlacedEvidence, ...]
    top_k: int | None
    temperature: float


@dataclass(frozen=True, eq=False)
class Placed:
    """What the forward pass computes with, on one backend.

    Attributes
    ----------
    weights, bias : tensor of shape (G, K, E * H) and (G, E * H)
        The one product; ``K`` counts the window's and the side columns.
    lookback, n_side_columns : int
    gate : PlacedGate or None
    pre, post : tuple of PlacedBlock
    foldable : bool
        Whether channels may be forecast as rows of one channel: all of them share every tensor,
        and no layer mixes them.
    programs : dict
        Compiled forward passes by the shapes that they take, and whether logits come with them.
    """

    weights: Tensor
    bias: Tensor | None
    lookback: int
    n_side_columns: int
    gate: PlacedGate | None
    pre: tuple[PlacedBlock, ...]
    post: tuple[PlacedBlock, ...]
    foldable: bool
    programs: dict[tuple[object, ...], Callable[..., Tensor]] = field(default_factory=dict)


_PLACED: weakref.WeakKeyDictionary[Mixture, weakref.WeakKeyDictionary[Backend, Placed]] = (
    weakref.WeakKeyDictionary()
)
_RECENTERED: weakref.WeakKeyDictionary[Mixture, dict[tuple[bool, bool], Mixture | None]] = (
    weakref.WeakKeyDictionary()
)
_PLACING = threading.RLock()
_ONE_RANK = 1e-12  # share of the largest bias that a product of two vectors may miss
_FOLLOWING = 0.7  # weight of the last value at which forecasts are as near to it as to the mean


@dataclass(frozen=True, eq=False, repr=False)
class _Recentered(Mixture):
    """A mixture in other coordinates: see :func:`as_placed`."""

    level_on_host: bool = False
    scale_origin: FloatArray = field(default_factory=lambda: np.zeros(1))
    common_bias: FloatArray | None = None
    channels: tuple[FloatArray, FloatArray] | None = None

    @property
    def adds_level(self) -> bool:
        return self.level_on_host

    @property
    def scale_reference(self) -> FloatArray:
        return self.scale_origin

    @property
    def host_bias(self) -> FloatArray | None:
        return self.common_bias if self.bias is None else super().host_bias

    @property
    def channel_column(self) -> tuple[FloatArray, FloatArray] | None:
        return self.channels


def as_placed(mixture: Mixture, backend: Backend) -> Mixture:
    """Return the mixture in the coordinates that the backend computes in.

    Where channels are folded, a bias of channels' own under a gate that they share would be all
    that keeps them apart. It is the sum of one that experts have in common, which the host adds
    since gates sum to one, and of a product ``u_c d_k``, if it is that of units ``u_c`` of the
    channels: they are one more column.

    Where rounding is coarse, what is large and the same in all columns is added on the host:

    - with a fixed level m, ``m + (x - m) W = l + (x - l) W + (l - m) (1'W - 1)`` for any l, and l
      is the window's mean;
    - with the last value ``x_L``, ``x_L + (x - x_L) W = l + (x - l) (W + e_L (1 - 1'W))``, where
      forecasts follow it so little that they are nearer to the mean;
    - a bias that cancels the scale, ``s c + d = (s - t) c + (d + t c)``, and t makes the new bias
      small.

    Parameters
    ----------
    mixture : Mixture
    backend : Backend

    Returns
    -------
    Mixture
        The same function of the window, and the same object from call to call.
    """
    if mixture.pre or mixture.post or not (backend.coarse or backend.folds_channels):
        return mixture
    with _PLACING:
        table = _RECENTERED.setdefault(mixture, {})
        key = (backend.coarse, backend.folds_channels)
        if key not in table:
            changes = _one_for_all_channels(mixture) if backend.folds_channels else {}
            found = _recentered(mixture, changes, backend.coarse)
            table[key] = None if found is mixture else found
        return table[key] or mixture  # a table must not hold its own keys


def _one_for_all_channels(mixture: Mixture) -> dict[str, Any]:
    """Return what makes a mixture shared whose biases alone are those of channels."""
    bias, gate = mixture.bias, mixture.gate
    if bias is None or len(bias) == 1 or gate is None or mixture.scale_coef is not None:
        return {}
    shared = [mixture.weights, mixture.level_coef, mixture.extra_coef]
    shared += [t for layer in gate.layers for t in (layer.weight, layer.bias)]
    if any(t is not None and len(t) > 1 for t in shared):
        return {}
    common = bias.mean(axis=1, keepdims=True)
    apart = (bias - common).reshape(len(bias), -1)
    left, size, right = np.linalg.svd(apart, full_matrices=False)
    unit, coef = left[:, 0], size[0] * right[0]
    if np.abs(apart - np.outer(unit, coef)).max() > _ONE_RANK * np.abs(bias).max():
        return {}
    coef = coef.reshape(1, *bias.shape[1:])
    return {"bias": None, "common_bias": common, "channels": (unit, coef)}


def _recentered(mixture: Mixture, changes: dict[str, Any], coarse: bool) -> Mixture:
    if coarse:
        changes = {**changes, **_about_the_mean(mixture)}
    if not changes:
        return mixture
    known = {f.name: getattr(mixture, f.name) for f in fields(mixture)}
    on_host = mixture.adds_level or "level_coef" in changes
    return _Recentered(**{**known, **changes}, level_on_host=on_host)


def _about_the_mean(mixture: Mixture) -> dict[str, Any]:
    """Return what makes columns and weights small."""
    changes: dict[str, Any] = {}
    about_the_mean = replace(mixture.normalization, level="mean")
    scored = mixture.gate is not None and mixture.gate.evidence
    if mixture.normalization.level == "none" and not scored:
        changes["normalization"] = about_the_mean
        changes["level_coef"] = mixture.weights.sum(axis=2) - 1.0
    elif mixture.normalization.level == "last" and mixture.adds_level and not scored:
        follows = 1.0 - mixture.weights[:, :, :-1].sum(axis=2)
        if np.abs(follows).mean() < _FOLLOWING:
            changes["normalization"] = about_the_mean
            changes["weights"] = np.concatenate(
                [mixture.weights[:, :, :-1], follows[:, :, None]], axis=2
            )
    if mixture.scale_coef is not None and mixture.bias is not None:
        c, d = np.broadcast_arrays(mixture.scale_coef, mixture.bias)
        size = np.maximum((c * c).sum(axis=(1, 2)), np.finfo(np.float64).tiny)
        changes["scale_origin"] = np.maximum(-(c * d).sum(axis=(1, 2)) / size, 0.0)
        changes["bias"] = d + changes["scale_origin"][:, None, None] * c
    return changes


def _rounded_along_lags(weights: FloatArray, lookback: int, backend: Backend) -> FloatArray:
    """Round weights (G, K, M) from the newest lag on, carrying each error to the next older lag.

    Windows change little from a lag to the next, so the errors of neighbors all but cancel.
    """
    out = np.array(weights)
    carried = np.zeros_like(weights[:, 0])
    for lag in range(lookback - 1, -1, -1):
        wanted = weights[:, lag] + carried
        out[:, lag] = backend.rounded(wanted)
        carried = wanted - out[:, lag]
    return out


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
    groups = {1}

    def tensor(array: FloatArray | None) -> Tensor | None:
        if array is None:
            return None
        groups.add(len(array))
        return backend.put(np.ascontiguousarray(array))

    def layer(la: Layer, riding: bool) -> PlacedLayer:
        bias = la.bias[:, None] if riding and la.bias is not None else la.bias
        axis = -1 if la.axis == "time" else -2
        return PlacedLayer(tensor(la.weight), tensor(bias), la.activation, axis)

    def blocks(chain: tuple[Block, ...]) -> tuple[PlacedBlock, ...]:
        riding = mixture.normalization.scaled and not mixture.divides_by_scale
        return tuple(
            PlacedBlock(tuple(layer(la, riding) for la in block.layers), block.residual)
            for block in chain
        )

    def evidence(e: Evidence) -> Tensor:
        # one memory layout, so that a loaded mixture computes the same bits
        if e.kind != "backtest":
            return backend.put(np.ascontiguousarray(e.weights))
        packed = np.ascontiguousarray(e.weights.transpose(1, 0, 2))
        return backend.put(packed.transpose(1, 0, 2))

    def gate_of(gate: Gate) -> PlacedGate:
        return PlacedGate(
            tuple(layer(la, False) for la in gate.layers),
            tuple(
                PlacedEvidence(e.kind, evidence(e), e.exponent, e.step, e.ahead, e.floor, e.power)
                for e in gate.evidence
            ),
            gate.top_k,
            gate.temperature,
        )

    columns, packed_bias = mixture.packed
    if backend.coarse and not mixture.pre:
        columns = _rounded_along_lags(columns, mixture.lookback, backend)
    weights, bias = tensor(columns), tensor(packed_bias)
    gate = None if mixture.gate is None else gate_of(mixture.gate)
    pre, post = blocks(mixture.pre), blocks(mixture.post)
    over_channels = any(la.axis == -2 for block in pre + post for la in block.layers)
    return Placed(
        weights=weights,
        bias=bias,
        lookback=mixture.lookback,
        n_side_columns=mixture.n_side_columns,
        gate=gate,
        pre=pre,
        post=post,
        foldable=groups == {1} and not over_channels,
    )
