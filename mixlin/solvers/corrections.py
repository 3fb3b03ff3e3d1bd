"""Mixtures as corrections of one exact solution: coordinates, moments, and the shrinkage path.

An expert is ``W + D_k``: the shared exact solution and a correction. Corrections are estimated
from what the shared solution leaves over, in the leading principal coordinates of the windows,
and shrunk by a ridge penalty; with an infinite one the mixture is the single expert again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import resolve
from ..mixture import Mixture
from ..routing import Gate, Router
from .window_source import WindowBlock, WindowSource

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_SMALLEST_SHARE = 1e-3  # principal directions of less variance than this are shrunk away anyway
_MOMENT_BYTES = 2**28  # of the normal equations of all steps together
_SAMPLE = 2**14  # windows of channels that principal directions are found from


@dataclass(frozen=True, eq=False)
class CorrectionSpace:
    """Where corrections live: windows measured from their level, in units of their channel.

    Parameters
    ----------
    start : Mixture
        The single expert that is corrected, of channels that are measured from their means where
        windows have no level of their own.
    scale : array of shape (C,)
        Channels are divided by it.
    basis : array of shape (lookback, q)
        Orthonormal directions of the windows.
    fit_intercept : bool
        Whether corrections have a constant.
    unit : float
        Root mean square of windows measured from their level, in units of their channel: less
        than one where the level wanders.
    active : bool array of shape (C,), optional
        False for channels that never change, which keep what the single expert forecasts.

    Notes
    -----
    The coordinates of a window are ``(x - l) basis / scale / unit``, then its scale where the model
    has one, in the same units, then one where there is a constant.
    """

    start: Mixture
    scale: Float64Array
    basis: Float64Array
    fit_intercept: bool
    unit: float = 1.0
    active: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        start: Mixture,
        scale: Float64Array,
        source: WindowSource,
        *,
        fit_intercept: bool,
        most: int,
    ) -> CorrectionSpace:
        """Find the principal directions of windows.

        Parameters
        ----------
        start : Mixture
        scale : array of shape (C,)
        source : WindowSource
        fit_intercept : bool
        most : int
            Directions at most.
        """
        L = source.lookback
        gram, n = np.zeros((L, L)), 0.0
        for block in source.thinned(max(64, _SAMPLE // source.n_channels)).blocks():
            centered, _, _ = start.normalization.measure(block.x, start.reference)
            root = np.sqrt(block.weight) / scale
            flat = (centered * root[:, :, None]).reshape(-1, L).astype(np.float32)
            gram += flat.T @ flat
            n += float(block.weight.sum())
        values, vectors = np.linalg.eigh(gram / max(n, 1.0))
        unit = float(values.mean())
        unit = unit if unit > np.finfo(np.float32).tiny else 1.0  # windows that never vary
        keep = max(1, min(most, int((values > _SMALLEST_SHARE * unit).sum())))
        basis = np.ascontiguousarray(vectors[:, L - keep :])
        return cls(start, scale, basis, fit_intercept, float(np.sqrt(unit)), source.active)

    @property
    def n_coordinates(self) -> int:
        """Coordinates of a window."""
        return int(self.basis.shape[1]) + int(self._scaled) + int(self.fit_intercept)

    @property
    def _scaled(self) -> bool:
        return self.start.scale_coef is not None

    def measure(self, block: WindowBlock) -> tuple[Float32Array, Float32Array]:
        """Return the coordinates of windows and what the single expert leaves over.

        Parameters
        ----------
        block : WindowBlock

        Returns
        -------
        inputs : array of shape (n, C, n_coordinates)
        residuals : array of shape (n, C, horizon)
            In units of the channel.
        """
        start, L = self.start, self.start.lookback
        n, n_channels, _ = block.x.shape
        centered, level, scale = start.normalization.measure(block.x, start.reference)
        base = level if start.adds_level else np.broadcast_to(start.reference[None], level.shape)
        inputs = np.ones((n, n_channels, self.n_coordinates), dtype=np.float32)
        residuals = np.empty((n, n_channels, block.y.shape[2]), dtype=np.float32)
        q = self.basis.shape[1]
        for c in range(n_channels):
            unit = self.scale[c]
            rows = np.asarray(centered[:, c] / unit, dtype=np.float32)
            weights = start.weights[min(c, len(start.weights) - 1), 0]
            maps = np.concatenate([weights, self.basis / self.unit], axis=1)
            both = rows @ maps.astype(np.float32)
            target = (block.y[:, c] - base[:, min(c, base.shape[1] - 1), None]) / unit
            if start.bias is not None:
                target = target - start.bias[min(c, len(start.bias) - 1), 0] / unit
            if scale is not None and start.scale_coef is not None:
                relative = scale[:, c] / unit
                coef = start.scale_coef[min(c, len(start.scale_coef) - 1), 0]
                target = target - np.outer(relative, coef)
                inputs[:, c, q] = relative / self.unit
            residuals[:, c] = target - both[:, : weights.shape[1]]
            inputs[:, c, :q] = both[:, weights.shape[1] :]
        assert block.x.shape[2] == L
        return inputs, residuals

    def mixture(self, corrections: Float64Array, gate: Gate) -> Mixture:
        """Return the mixture of the corrected experts.

        Parameters
        ----------
        corrections : array of shape (E, n_coordinates, horizon)
        gate : Gate

        Returns
        -------
        Mixture
        """
        start, q = self.start, self.basis.shape[1]
        weights = start.weights + (self.basis / self.unit @ corrections[:, :q])[None]
        scale_coef, bias = start.scale_coef, start.bias
        if scale_coef is not None:
            scale_coef = scale_coef + corrections[None, :, q] / self.unit
        if self.fit_intercept:
            units = self.scale if self.active is None else self.scale * self.active
            moved = units[:, None, None] * corrections[None, :, -1]
            if not np.ptp(units):
                moved = moved[:1]
            bias = moved if bias is None else bias + moved
        elif bias is not None:
            bias = np.repeat(bias, len(corrections), axis=1)
        return Mixture(
            weights,
            bias=bias,
            scale_coef=scale_coef,
            normalization=start.normalization,
            reference=start.reference,
            gate=gate,
        )


class Moments(NamedTuple):
    """Normal equations of all experts' corrections, given gates.

    Attributes
    ----------
    gram : array of shape (B, E * q, E * q)
        One block for all steps, or one per step where gates differ between steps.
    cross : array of shape (B, E * q, horizon / B)
    square : float
        Sum of the squared residuals.
    n : float
        Sum of weights of windows and channels.
    """

    gram: Float64Array
    cross: Float64Array
    square: float
    n: float

    def plus(self, other: Moments) -> Moments:
        """Return the moments of both sets of windows together."""
        return Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.square + other.square,
            self.n + other.n,
        )


def run_gate(gate: Gate, features: Float64Array) -> Float64Array:
    """Return the gates of features, on the reference engine.

    Parameters
    ----------
    gate : Gate
    features : array of shape (n, 1 or C, F) or (n, 1 or C, H, F)
        As the router gives them.

    Returns
    -------
    array of shape (n, 1 or C, E) or (n, 1 or C, H, E)
    """
    numpy = resolve("numpy")
    out = gate.standardized(features)
    for layer in gate.layers:
        out = numpy.linear(out, layer.weight, layer.bias, activation=layer.activation)
    return np.asarray(numpy.gate(out, gate.top_k, gate.temperature))


def joint_moments(
    inputs: Float32Array, residuals: Float32Array, gates: FloatArray, weight: Float64Array
) -> Moments:
    """Return the moments of rows.

    Parameters
    ----------
    inputs : array of shape (R, q)
    residuals : array of shape (R, H)
    gates : array of shape (R, E) or (R, H, E)
    weight : array of shape (R,)
    """
    R, q = inputs.shape
    E = gates.shape[-1]
    root = np.sqrt(weight).astype(np.float32)
    even = bool((weight == 1.0).all())
    rows = inputs if even else inputs * root[:, None]
    targets = residuals if even else residuals * root[:, None]
    by_step = [gates] if gates.ndim == 2 else list(gates.transpose(1, 0, 2))
    gram = np.empty((len(by_step), E * q, E * q))
    cross = np.empty((len(by_step), E * q, targets.shape[1] // len(by_step)))
    for b, g in enumerate(by_step):
        joint = (g.astype(np.float32)[:, :, None] * rows[:, None, :]).reshape(R, E * q)
        gram[b] = joint.T @ joint
        cross[b] = joint.T @ (targets if gates.ndim == 2 else targets[:, b : b + 1])
    square = float(np.einsum("rh,rh->", targets, targets, dtype=np.float64))
    return Moments(gram, cross, square, float(weight.sum()))


def moments_of(source: WindowSource, space: CorrectionSpace, gates: list[Gate]) -> list[Moments]:
    """Return the moments of all windows of a source, block by block, for every gate.

    Parameters
    ----------
    source : WindowSource
    space : CorrectionSpace
    gates : list of Gate
        On the features of one router.

    Returns
    -------
    list of Moments
    """
    totals: list[Moments] = []
    for block in source.blocks(max(gate.n_experts for gate in gates) * space.n_coordinates):
        inputs, residuals = space.measure(block)
        features = features_of(gates[0].router, block, source.horizon)
        some = [
            _of_block(inputs, residuals, run_gate(gate, features), block.weight) for gate in gates
        ]
        totals = [a.plus(b) for a, b in zip(totals, some, strict=True)] if totals else some
    return totals


def _of_block(
    inputs: Float32Array, residuals: Float32Array, gates: FloatArray, weight: Float64Array
) -> Moments:
    n, n_channels, q = inputs.shape
    whole = np.broadcast_to(gates, (n, n_channels, *gates.shape[2:]))
    return joint_moments(
        inputs.reshape(-1, q),
        residuals.reshape(n * n_channels, -1),
        whole.reshape(n * n_channels, *gates.shape[2:]),
        weight.ravel(),
    )


def most_coordinates(n_experts: int, n_blocks: int, wanted: int, n_gates: int = 1) -> int:
    """Return how many coordinates the normal equations may have within their memory.

    Parameters
    ----------
    n_experts : int
    n_blocks : int
        One, or the horizon with a gate per step.
    wanted : int
    n_gates : int
        Gates whose equations are held at a time, those of held-out windows beside them.
    """
    affordable = int((_MOMENT_BYTES / (16 * n_blocks * n_gates)) ** 0.5 / n_experts)
    return max(4, min(wanted, affordable))


class ShrinkagePath:
    """Corrections at every strength from one eigendecomposition.

    Parameters
    ----------
    moments : Moments
        Of training windows.
    """

    def __init__(self, moments: Moments) -> None:
        n = max(moments.n, np.finfo(np.float64).tiny)
        self._parts = [np.linalg.eigh(gram / n) for gram in moments.gram]
        self._cross = [
            vectors.T @ (cross / n)
            for (_, vectors), cross in zip(self._parts, moments.cross, strict=True)
        ]

    def corrections(self, strength: float, n_experts: int) -> Float64Array:
        """Return the corrections (E, q, horizon) at a strength."""
        columns = []
        for (values, vectors), cross in zip(self._parts, self._cross, strict=True):
            shrunk = cross / (np.maximum(values, 0.0) + strength)[:, None]
            columns.append(vectors @ shrunk)
        joint = np.concatenate(columns, axis=1)
        return np.ascontiguousarray(joint.reshape(n_experts, -1, joint.shape[1]))

    def losses(self, strengths: Sequence[float], held_out: Moments) -> Float64Array:
        """Return the mean squared residual on held-out windows at every strength.

        Parameters
        ----------
        strengths : sequence of float
            Relative to the number of windows, in units of the channels' variance.
        held_out : Moments

        Returns
        -------
        array of shape (n_strengths,)
            Squared, in units of the channel, averaged over steps.
        """
        horizon = sum(cross.shape[1] for cross in self._cross)
        out = np.full(len(strengths), held_out.square)
        for b, ((values, vectors), cross) in enumerate(zip(self._parts, self._cross, strict=True)):
            linear = np.einsum("ph,ph->p", cross, vectors.T @ held_out.cross[b])
            square = (vectors.T @ held_out.gram[b] @ vectors) * (cross @ cross.T)
            for i, strength in enumerate(strengths):
                d = 1.0 / (np.maximum(values, 0.0) + strength)
                out[i] += d @ square @ d - 2 * d @ linear
        return np.asarray(out / (max(held_out.n, 1.0) * horizon))


def features_of(router: Router, block: WindowBlock, horizon: int) -> Float64Array:
    """Return the features of a block, and refuse a router that breaks its promise."""
    found = np.asarray(router.features(block.x, block.stamps, horizon), dtype=np.float64)
    n, n_channels, _ = block.x.shape
    right = found.ndim in (3, 4) and len(found) == n and found.shape[1] in (1, n_channels)
    if not right or (found.ndim == 4 and found.shape[2] != horizon):
        raise ValueError(
            f"{type(router).__name__}.features must return (n_windows, 1 or n_channels, "
            f"n_features) or (n_windows, 1 or n_channels, {horizon}, n_features) for windows of "
            f"shape {block.x.shape}; got {found.shape}."
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{type(router).__name__}.features returned values that are not finite.")
    return found
