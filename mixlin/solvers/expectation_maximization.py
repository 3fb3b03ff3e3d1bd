"""Gates from expectation and maximization: which expert explains a window, and what tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax
from sklearn.cluster import KMeans

from ..routing import Gate, Router
from .corrections import CorrectionSpace, ShrinkagePath, features_of, joint_moments
from .gate_fit import GateNetwork, Objective, cross_entropy, squared_error, stacked, standardized
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_ROW_ELEMENTS = 2**24  # of inputs, residuals and features held in memory: 64 MiB of float32
_MOST_ROWS = 2**16  # neighbors differ by one step: more of them teach a gate nothing
_GATE_ROWS = 2**15  # rows, or steps of rows, that a gate is fitted on at a time
_GATE_ITERATIONS = 50
_STEP_SHARPNESS = 2.0  # of one step, which windows near and far tell about
_CLUSTERED_ROWS = 2**13
_INTERACTION_ROWS = 2**14
_INTERACTION_STEPS = 8  # with a gate per step
_INTERACTION_STRENGTH = 0.1
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
    time : array of shape (R, H), or None
        With a gate per step that is read off the calendar: numbers of the times of the steps.
    """

    inputs: Float32Array
    residuals: Float32Array
    features: Float64Array
    mean: Float64Array
    spread: Float64Array
    weight: Float64Array
    channel: npt.NDArray[np.intp]
    time: npt.NDArray[np.intp] | None


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
    parts, times = [], []
    for block in source.thinned(max(1, most)).blocks():
        inputs, residuals = space.measure(block)
        features = features_of(router, block, source.horizon)
        n, n_channels, q = inputs.shape
        features = np.broadcast_to(features, (n, n_channels, *features.shape[2:]))
        weight = block.weight.ravel()
        seen = weight > 0
        if block.stamps is not None:
            steps = block.stamps[:, source.lookback :]
            times.append(np.repeat(steps, n_channels, axis=0)[seen])
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
    time = None
    if times and features.ndim == 3:
        joined = np.concatenate(times)
        time = np.unique(joined, return_inverse=True)[1].reshape(joined.shape)
    return Rows(
        inputs, residuals, flat.reshape(features.shape), mean, spread, weight, channel, time
    )


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
    by_laws : bool
        Whether rows are first shared along the features on which the best linear map depends, and
        not by clusters of all features.

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
        *,
        by_laws: bool,
    ) -> None:
        self._by_laws = by_laws
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
        """Share rows by clusters of the features along which the best linear map changes most."""
        flat = self.rows.features.reshape(-1, self.rows.features.shape[-1])
        places = flat @ self._telling_directions() if self._by_laws else flat
        weight = np.repeat(self.rows.weight, self._steps)
        some = self._random_state.permutation(len(flat))[:_CLUSTERED_ROWS]
        if len(np.unique(places[some], axis=0)) < self.n_experts:
            owner = self._random_state.randint(self.n_experts, size=len(flat))
        else:
            clusters = KMeans(self.n_experts, n_init=3, random_state=self._random_state)
            clusters.fit(places[some], sample_weight=weight[some])
            owner = clusters.predict(places)
        shares = np.full((len(flat), self.n_experts), (1 - _FIRST_SHARE) / self.n_experts)
        shares[np.arange(len(flat)), owner] += _FIRST_SHARE
        return self._by_row(shares)

    def _telling_directions(self) -> Float64Array:
        """Return combinations of features (F, r), longer where the linear map changes more.

        Residuals are regressed on products of features and inputs; the singular vectors of the
        coefficients, in units of the inputs, are the directions.
        """
        rows = self.rows
        step = -(-len(rows.weight) // _INTERACTION_ROWS)
        inputs, residuals = rows.inputs[::step], rows.residuals[::step]
        features, weight = rows.features[::step], rows.weight[::step]
        if self._per_step:
            columns = np.unique(np.linspace(0, self._steps - 1, _INTERACTION_STEPS, dtype=int))
            residuals, features = residuals[:, columns], features[:, columns]
        F = features.shape[-1]
        moments = joint_moments(inputs, residuals, features, weight)
        coef = ShrinkagePath(moments).corrections(_INTERACTION_STRENGTH, F)
        size = np.sqrt(np.average(inputs.astype(np.float64) ** 2, axis=0, weights=weight))
        left, length, _ = np.linalg.svd((coef * size[:, None]).reshape(F, -1), full_matrices=False)
        return np.asarray((left * length)[:, : max(1, self.n_experts - 1)])

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
            Of the likelihood: how many independent errors the steps of a window are taken for.
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
        explained = (self.shares * error).sum(axis=-1)
        variance = np.average(explained, axis=0, weights=rows.weight)  # of every step by itself
        tiny = np.finfo(np.float64).tiny
        sharpness = _STEP_SHARPNESS if self._per_step else sharpness
        evidence = -0.5 * sharpness * error / np.maximum(variance, tiny)[..., None]
        if rows.time is not None:  # windows that reach one time, near or far, tell the same
            places = rows.time.ravel()
            weight = np.repeat(rows.weight, H)
            total = np.maximum(np.bincount(places, weights=weight), tiny)
            for k in range(self.n_experts):
                of_time = np.bincount(places, weights=weight * evidence[..., k].ravel()) / total
                evidence[..., k] = of_time[rows.time]
        prior = log_softmax(self.logits() / self.router.temperature, axis=-1)
        self.shares = np.asarray(softmax(prior + evidence, axis=-1))

    def maximize(self) -> None:
        """Fit the gate to the shares."""
        shares = self.shares.reshape(-1, self.n_experts)
        self._fit(lambda places, w: cross_entropy(shares[places], w, self.router.temperature))

    def polish(self, strength: float) -> None:
        """Fit all experts together for the gates, then the gate to the mixture's own error.

        Parameters
        ----------
        strength : float
            Of the experts' shrinkage.
        """
        rows, H = self.rows, self.rows.residuals.shape[1]
        moments = joint_moments(rows.inputs, rows.residuals, self.gates(), rows.weight)
        path = ShrinkagePath(moments)
        corrections = path.corrections(strength, self.n_experts).astype(np.float32)
        unit = max(moments.square / (moments.n * H), np.finfo(np.float64).tiny)

        def objective(places: npt.NDArray[np.intp], weight: Float64Array) -> Objective:
            at, step = np.divmod(places, self._steps)
            inputs, residuals = rows.inputs[at], rows.residuals[at]
            if self._per_step:
                columns = corrections.transpose(0, 2, 1)  # (E, H, q)
                out = np.stack([np.einsum("nq,nq->n", inputs, d[step]) for d in columns])
                out, residuals = out[:, :, None], residuals[np.arange(len(at)), step, None]
            else:
                out = np.stack([inputs @ d for d in corrections])  # (E, n, H)
            unit_of_row = unit * out.shape[2]
            linear = np.einsum("knh,nh->kn", out, residuals) / unit_of_row
            quadratic = np.einsum("knh,lnh->kln", out, out) / unit_of_row
            return squared_error(
                linear.astype(np.float64),
                quadratic.astype(np.float64),
                weight,
                self.router.temperature,
            )

        self._fit(objective)

    def _fit(self, objective: Callable[[npt.NDArray[np.intp], Float64Array], Objective]) -> None:
        features = self.rows.features.reshape(-1, self.rows.features.shape[-1])
        weight = np.repeat(self.rows.weight, self._steps)
        for channel, network in self._networks.items():
            places = self._picked[channel]
            own = weight[places] / max(weight[places].mean(), np.finfo(np.float64).tiny)
            network.fit(features[places], objective(places, own), self.penalty, _GATE_ITERATIONS)

    def gate(self, top_k: int | None, n_channels: int) -> Gate:
        """Return the gate as data.

        Parameters
        ----------
        top_k : int or None
        n_channels : int
        """
        made = {channel: network.layers() for channel, network in self._networks.items()}
        spare = next(iter(made.values()))  # of a channel without a window
        every = [spare] if -1 in made else [made.get(c, spare) for c in range(n_channels)]
        return Gate(
            self.router,
            stacked(every),
            top_k=top_k,
            temperature=self.router.temperature,
            center=self.rows.mean,
            spread=self.rows.spread,
        )
