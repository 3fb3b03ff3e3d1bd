"""Fitting the layers of a gate by L-BFGS, given what every choice of gates costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ..layers import Layer

Float64Array = npt.NDArray[np.float64]
Objective = Callable[[Float64Array], tuple[float, Float64Array]]
"""From logits (E, R) to a loss and its gradient, both summed over rows."""


def standardized(
    features: Float64Array, weight: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Center and scale features over rows.

    Parameters
    ----------
    features : array of shape (R, F)
    weight : array of shape (R,)

    Returns
    -------
    rows : array of shape (R, F)
    mean, spread : array of shape (F,)
        A feature that never changes has a spread of one.
    """
    mean = np.average(features, axis=0, weights=weight)
    rows = features - mean
    spread = np.sqrt(np.average(rows * rows, axis=0, weights=weight))
    spread[spread <= 1e-9 * np.maximum(np.abs(mean), 1.0)] = 1.0
    return rows / spread, mean, spread


def cross_entropy(shares: Float64Array, weight: Float64Array, temperature: float) -> Objective:
    """Return the cost of gates that should be ``shares``.

    Parameters
    ----------
    shares : array of shape (R, E)
        Rows on the simplex.
    weight : array of shape (R,)
    temperature : float
    """
    wanted = np.ascontiguousarray((shares * weight[:, None]).T)  # experts first: long, fast sums

    def cost(logits: Float64Array) -> tuple[float, Float64Array]:
        scaled = (logits - logits.max(axis=0)) / temperature
        gates = np.exp(scaled)
        total = gates.sum(axis=0)
        loss = float(weight @ np.log(total)) - float(np.einsum("er,er->", wanted, scaled))
        gates *= weight / total
        return loss, (gates - wanted) / temperature

    return cost


def squared_error(
    linear: Float64Array, quadratic: Float64Array, weight: Float64Array, temperature: float
) -> Objective:
    """Return the cost ``g' Q g - 2 g' c`` of gates: the squared error of the mixture itself.

    Parameters
    ----------
    linear : array of shape (E, R)
        Products of every expert's correction with the residual.
    quadratic : array of shape (E, E, R)
        Products of the corrections with each other.
    weight : array of shape (R,)
    temperature : float
    """

    def cost(logits: Float64Array) -> tuple[float, Float64Array]:
        gates = np.exp((logits - logits.max(axis=0)) / temperature)
        gates /= gates.sum(axis=0)
        mixed = np.einsum("klr,lr->kr", quadratic, gates)
        loss = float(np.einsum("r,kr,kr->", weight, gates, mixed - 2 * linear))
        slope = 2 * weight * (mixed - linear)
        return loss, gates * (slope - np.einsum("kr,kr->r", gates, slope)) / temperature

    return cost


class GateNetwork:
    """Logits from features: one affine map, or two with a ReLU in between.

    Parameters
    ----------
    n_features, n_experts : int
    hidden : int or None
    random_state : numpy.random.RandomState
        Draws the first hidden layer; logits start at zero.
    """

    def __init__(
        self,
        n_features: int,
        n_experts: int,
        hidden: int | None,
        random_state: np.random.RandomState,
    ) -> None:
        widths = [n_features, n_experts] if hidden is None else [n_features, hidden, n_experts]
        self.arrays: list[Float64Array] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            last = i + 2 == len(widths)
            bound = 0.0 if last else np.sqrt(6.0 / max(1, inputs))
            self.arrays.append(random_state.uniform(-bound, bound, (inputs, outputs)))
            self.arrays.append(random_state.uniform(-bound / 4, bound / 4, outputs))

    def logits(self, rows: Float64Array) -> Float64Array:
        """Return the logits (R, E) of rows (R, F)."""
        return np.ascontiguousarray(self._run(rows.T)[0].T)

    def _run(self, columns: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return the logits (E, R) of columns (F, R), and what the last map saw."""
        seen = columns
        if len(self.arrays) == 4:
            seen = np.maximum(self.arrays[0].T @ columns + self.arrays[1][:, None], 0.0)
        return self.arrays[-2].T @ seen + self.arrays[-1][:, None], seen

    def fit(
        self, rows: Float64Array, objective: Objective, penalty: float, max_iter: int
    ) -> GateNetwork:
        """Minimize the mean cost plus a ridge penalty on the maps.

        Parameters
        ----------
        rows : array of shape (R, F)
            Standardized.
        objective : callable
        penalty : float
        max_iter : int
        """
        shapes = [a.shape for a in self.arrays]
        sizes = np.cumsum([0, *(a.size for a in self.arrays)])
        columns, n = np.ascontiguousarray(rows.T), len(rows)

        def unpack(flat: Float64Array) -> list[Float64Array]:
            return [flat[a:b].reshape(s) for (a, b), s in zip(pairwise(sizes), shapes, strict=True)]

        def cost(flat: Float64Array) -> tuple[float, Float64Array]:
            self.arrays = unpack(flat)
            logits, seen = self._run(columns)
            loss, slope = objective(logits)
            slope = slope / n
            grads = [seen @ slope.T, slope.sum(axis=1)]
            if len(self.arrays) == 4:
                back = (self.arrays[2] @ slope) * (seen > 0)
                grads = [columns @ back.T, back.sum(axis=1), *grads]
            loss /= n
            for i in range(0, len(self.arrays), 2):  # the maps, not their biases
                loss += 0.5 * penalty * float((self.arrays[i] ** 2).sum())
                grads[i] = grads[i] + penalty * self.arrays[i]
            return loss, np.concatenate([g.ravel() for g in grads])

        begin = np.concatenate([a.ravel() for a in self.arrays])
        found = minimize(cost, begin, jac=True, method="L-BFGS-B", options={"maxiter": max_iter})
        self.arrays = unpack(np.asarray(found.x))
        return self

    def layers(self) -> tuple[Layer, ...]:
        """Return the network as layers of a gate on standardized features."""
        first = Layer(self.arrays[0][None], self.arrays[1][None])
        if len(self.arrays) == 2:
            return (first,)
        second = Layer(self.arrays[2][None], self.arrays[3][None])
        return replace(first, activation="relu"), second


def stacked(every: list[tuple[Layer, ...]]) -> tuple[Layer, ...]:
    """Join the networks of channels, layer by layer, along the group axis.

    Parameters
    ----------
    every : list of tuple of Layer
        One group each, and alike but for their numbers.
    """
    return tuple(
        Layer(
            np.concatenate([layer.weight for layer in layers]),
            np.concatenate([np.asarray(layer.bias) for layer in layers]),
            activation=layers[0].activation,
        )
        for layers in zip(*every, strict=True)
    )
