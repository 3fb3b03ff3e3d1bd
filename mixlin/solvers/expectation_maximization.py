"""Gates from expectation and maximization: which expert explains a window, and what tells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax
from sklearn.cluster import KMeans

from ..routing import Gate, Router
from .corrections import CorrectionSpace, features_of
from .gate_fit import GateNetwork, cross_entropy, stacked, standardized
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_ROW_ELEMENTS = 2**24  # of inputs, residuals and features held in memory: 64 MiB of float32
_MOST_ROWS = 2**16  # neighbors differ by one step: more of them teach a gate nothing
_GATE_ROWS = 2**15  # rows, or steps of rows, that a gate is fitted on at a time
_GATE_ITERATIONS = 50
_FIRST_SHARE = 0.9  # of a window in the expert of its cluster, before the first iteration


class Rows(NamedTuple):
    """Windows of every channel in the coordinates of the corrections, held in memory.

    Attributes
    ----------
    inputs : array of shape (R, q)
    residuals : array of shape (R, H)
    features : array of shape (R, F), or (R, H, F) with a gate per step
        Standardized.
    mean, spread : array of shape (F,)
        What features were standardized with.
    weight : array of shape (R,)
    channel : array of shape (R,)
    """

    inputs: Float32Array
    residuals: Float32Array
    features: Float64Array
    mean: Float64Array
    spread: Float64Array
    weight: Float64Array
    channel: npt.NDArray[np.intp]


def gather(source: WindowSource, space: CorrectionSpace, router: Router) -> Rows:
    """Measure a bounded number of windows, evenly spread over the source.

    Parameters
    ----------
    source : WindowSource
    space : CorrectionSpace
    router : Router
    """
    probe = features_of(router, source.block(np.arange(1)), source.horizon)
    n_features = int(np.prod(probe.shape[2:]))
    each = source.n_channels * (space.n_coordinates + source.horizon + 2 * n_features)
    most = min(_ROW_ELEMENTS // each, _MOST_ROWS // source.n_channels)
    parts = []
    for block in source.thinned(max(1, most)).blocks():
        inputs, residuals = space.measure(block)
        features = features_of(router, block, source.horizon)
        n, n_channels, q = inputs.shape
        features = np.broadcast_to(features, (n, n_channels, *features.shape[2:]))
        weight = block.weight.ravel()
        seen = weight > 0
        parts.append(
            (
                inputs.reshape(-1, q)[seen],
                residuals.reshape(n * n_channels, -1)[seen],
                features.reshape(n * n_channels, *features.shape[2:])[seen],
                weight[seen],
                np.tile(np.arange(n_channels), n)[seen],
            )
        )
    inputs, residuals, features, weight, channel = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    flat = features.reshape(-1, features.shape[-1])
    repeated = np.repeat(weight, len(flat) // len(weight))
    flat, mean, spread = standardized(flat, repeated)
    return Rows(inputs, residuals, flat.reshape(features.shape), mean, spread, weight, channel)


class GateFit:
    """Gates that learn, and the experts they learn from.

    Parameters
    ----------
    rows : Rows
    router : Router
    n_experts : int
    penalty : float
        Ridge on the gate's maps.
    random_state : numpy.random.RandomState

    Attributes
    ----------
    shares : array of shape (R, E), or (R, H, E)
        How much of every row each expert answers for.
    """

    def __init__(
        self,
        rows: Rows,
        router: Router,
        n_experts: int,
        penalty: float,
        random_state: np.random.RandomState,
    ) -> None:
        self.rows, self.router, self.penalty = rows, router, penalty
        self.n_experts = n_experts
        self._per_step = rows.features.ndim == 3
        self._steps = rows.residuals.shape[1] if self._per_step else 1
        self._random_state = random_state
        owners = np.unique(rows.channel) if router.per_channel else [-1]
        n_features = rows.features.shape[-1]
        self._networks = {
            int(c): GateNetwork(n_features, n_experts, router.hidden, random_state) for c in owners
        }
        self._picked = {c: self._pick(c) for c in self._networks}
        self._error = float(
            np.average((rows.residuals.astype(np.float64) ** 2).mean(axis=1), weights=rows.weight)
        )
        self.shares = self._clustered()

    def _pick(self, channel: int) -> npt.NDArray[np.intp]:
        """Return the rows, or steps of rows, that a network is fitted on."""
        own = np.arange(len(self.rows.weight))
        if channel >= 0:
            own = np.flatnonzero(self.rows.channel == channel)
        places = (own[:, None] * self._steps + np.arange(self._steps)).ravel()
        if len(places) > _GATE_ROWS:
            places = np.sort(self._random_state.choice(places, _GATE_ROWS, replace=False))
        return places

    def _clustered(self) -> Float64Array:
        flat = self.rows.features.reshape(-1, self.rows.features.shape[-1])
        weight = np.repeat(self.rows.weight, self._steps)
        some = self._random_state.permutation(len(flat))[:_GATE_ROWS]
        if len(np.unique(flat[some], axis=0)) < self.n_experts:
            owner = self._random_state.randint(self.n_experts, size=len(flat))
        else:
            clusters = KMeans(self.n_experts, n_init=1, random_state=self._random_state)
            clusters.fit(flat[some], sample_weight=weight[some])
            owner = clusters.predict(flat)
        shares = np.full((len(flat), self.n_experts), (1 - _FIRST_SHARE) / self.n_experts)
        shares[np.arange(len(flat)), owner] += _FIRST_SHARE
        return self._by_row(shares)

    def _by_row(self, flat: Float64Array) -> Float64Array:
        shape = (len(self.rows.weight), *([self._steps] if self._per_step else []), -1)
        return flat.reshape(*shape)

    def logits(self) -> Float64Array:
        """Return the logits of all rows, (R, E) or (R, H, E)."""
        flat = self.rows.features.reshape(-1, self.rows.features.shape[-1])
        if -1 in self._networks:
            return self._by_row(self._networks[-1].logits(flat))
        out = np.empty((len(flat), self.n_experts))
        owner = np.repeat(self.rows.channel, self._steps)
        for channel, network in self._networks.items():
            own = owner == channel
            out[own] = network.logits(flat[own])
        return self._by_row(out)

    def gates(self) -> Float64Array:
        """Return the gates of all rows, (R, E) or (R, H, E)."""
        return np.asarray(softmax(self.logits() / self.router.temperature, axis=-1))

    def expect(self, strength: float, sharpness: float) -> None:
        """Fit every expert on its share, and share rows anew by gates and errors.

        Parameters
        ----------
        strength : float
            Of the experts' shrinkage.
        sharpness : float
            Of the likelihood: how many independent errors a row of steps is taken for. A gate per
            step takes each for one.
        """
        rows = self.rows
        n, H = rows.weight.sum(), rows.residuals.shape[1]
        error = np.empty(self.shares.shape)
        ridge = strength * n * np.eye(rows.inputs.shape[1])
        for k in range(self.n_experts):
            share = (self.shares[..., k].T * rows.weight).T.astype(np.float32)
            corrections = np.empty((rows.inputs.shape[1], H), dtype=np.float32)
            for step in range(self._steps):
                own = share[:, step] if self._per_step else share
                columns = slice(step, step + 1) if self._per_step else slice(0, H)
                left = rows.inputs * own[:, None]
                gram = (left.T @ rows.inputs).astype(np.float64) + ridge
                cross = (left.T @ rows.residuals[:, columns]).astype(np.float64)
                corrections[:, columns] = np.linalg.solve(gram, cross)
            off = rows.residuals - rows.inputs @ corrections
            error[..., k] = off**2 if self._per_step else np.einsum("rh,rh->r", off, off) / H
        evidence = -0.5 * (1.0 if self._per_step else sharpness) / max(self._error, 1e-300) * error
        prior = log_softmax(self.logits() / self.router.temperature, axis=-1)
        self.shares = np.asarray(softmax(prior + evidence, axis=-1))

    def maximize(self) -> None:
        """Fit the gate to the shares."""
        features = self.rows.features.reshape(-1, self.rows.features.shape[-1])
        shares = self.shares.reshape(-1, self.n_experts)
        weight = np.repeat(self.rows.weight, self._steps)
        for channel, network in self._networks.items():
            places = self._picked[channel]
            own = weight[places] / max(weight[places].mean(), np.finfo(np.float64).tiny)
            cost = cross_entropy(shares[places], own, self.router.temperature)
            network.fit(features[places], cost, self.penalty, _GATE_ITERATIONS)

    def gate(self, top_k: int | None, n_channels: int) -> Gate:
        """Return the gate as data.

        Parameters
        ----------
        top_k : int or None
        n_channels : int
        """
        made = {c: n.layers(self.rows.mean, self.rows.spread) for c, n in self._networks.items()}
        spare = next(iter(made.values()))  # of a channel without a window
        every = [spare] if -1 in made else [made.get(c, spare) for c in range(n_channels)]
        return Gate(self.router, stacked(every), top_k=top_k, temperature=self.router.temperature)
