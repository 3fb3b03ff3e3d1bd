"""Fitting a spectral gate to what experts lose on the targets of training windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ..backends import resolve
from ..experts.spectral_gate import SpectralWeights, gate_frequencies, spectral_features
from .spectral import fit_spectral_layer
from .window_source import WindowSource

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
_Layer = tuple[FloatArray, FloatArray]

RIDGES = (1e-2, 1e-4)
EXPONENTS = (2.0, 17.0)
POLISHING = (1e-2, 1e-3)
"""Ridges of the second fit, to the errors of the mixture itself."""

_FLOOR = 1e-3  # share of the mean absolute target that joins every loss
_STILL = 1e-9  # share of a window's values below which it does not move
_BLOCK_FORECASTS = 2**22  # of single experts that are held at a time
_ENOUGH, _EXACT = 1e-4, 1e-9  # gradients: of candidates, and of the gate that is kept
_MIXED_ROWS = 512  # at a time
_ROUND = 0.05  # of the absolute error near zero, in deviations of a window
_POLISHING_STEPS = 60


class RouterRows(NamedTuple):
    """Windows of single channels, and what every expert makes of them.

    Attributes
    ----------
    spectra : array of shape (N, K)
    losses : array of shape (N, E)
        Mean absolute errors as shares of the window's deviation.
    weight : array of shape (N,)
    forecasts : array of shape (N, E, n_steps)
        In units of the window's deviation from its level.
    targets : array of shape (N, n_steps)
    """

    spectra: FloatArray
    losses: FloatArray
    weight: FloatArray
    forecasts: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.losses)

    @staticmethod
    def joined(parts: Sequence[RouterRows]) -> RouterRows:
        """Return the rows of all parts."""
        return RouterRows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def router_rows(source: WindowSource, weights: FloatArray, steps: IntArray) -> RouterRows:
    """Score experts on windows.

    Parameters
    ----------
    source : WindowSource
    weights : array of shape (lookback, E, n_steps)
        On windows measured from their mean.
    steps : array of int of shape (n_steps,)
        Places in the horizon.

    Returns
    -------
    RouterRows
        Of windows that move.
    """
    L, n_experts, n_steps = weights.shape
    packed = weights.reshape(L, -1)
    frequencies = gate_frequencies()
    size = max(1, _BLOCK_FORECASTS // (source.n_channels * n_experts * n_steps))
    parts = []
    for at in range(0, source.n_windows, size):
        block = source.block(np.arange(at, min(at + size, source.n_windows)))
        x, y = block.x.reshape(-1, L), block.y.reshape(-1, source.horizon)[:, steps]
        level = x.mean(axis=1, keepdims=True)
        deviation = x.std(axis=1)
        weight = block.weight.reshape(-1)
        moves = deviation > _STILL * np.abs(x).max(axis=1, initial=1e-300)
        some = np.flatnonzero(moves & (weight > 0))
        unit = deviation[some, None]
        inputs, targets = (x[some] - level[some]) / unit, (y[some] - level[some]) / unit
        forecasts = (inputs @ packed).reshape(-1, n_experts, n_steps)
        errors = np.abs(forecasts - targets[:, None]).mean(axis=2)
        losses = errors + _FLOOR * np.abs(targets).mean(axis=1, keepdims=True)
        parts.append(
            RouterRows(
                spectral_features(inputs, frequencies),
                losses,
                weight[some],
                forecasts.astype(np.float32),
                targets.astype(np.float32),
            )
        )
    if not parts:
        shape = (0, n_experts, n_steps)
        empty = np.empty((0, len(frequencies))), np.empty((0, n_experts)), np.empty(0)
        return RouterRows(*empty, np.empty(shape, np.float32), np.empty((0, n_steps), np.float32))
    return RouterRows.joined(parts)


class ChosenRouter(NamedTuple):
    """A fitted gate, and what was tried.

    Attributes
    ----------
    weights : SpectralWeights
    history : list of dict
        ``validation_loss``: mean absolute error of the mixture on rows that the gate was not
        fitted to, as a share of their deviation.
    """

    weights: SpectralWeights
    history: list[dict[str, Any]]


def choose_router(
    folds: Sequence[RouterRows],
    start: SpectralWeights,
    *,
    log_priors: FloatArray,
    top_k: int | None,
    ridges: Sequence[float] = RIDGES,
    exponents: Sequence[float] = EXPONENTS,
    polishing: Sequence[float] = POLISHING,
) -> ChosenRouter:
    """Fit gates in several ways, choose by cross-validation, fit on all rows.

    A gate is fitted to shares that fall with an expert's loss, which is convex, and then perhaps
    to the errors of the mixture itself, from there.

    Parameters
    ----------
    folds : sequence of RouterRows
        Two at least; each is left out in turn.
    start : SpectralWeights
        What the ridge pulls to, and the first candidate.
    log_priors : array of shape (E,)
    top_k : int or None
    ridges, exponents, polishing : sequence of float
        What is tried.

    Returns
    -------
    ChosenRouter
    """
    others = [
        RouterRows.joined([fold for j, fold in enumerate(folds) if j != i])
        for i in range(len(folds))
    ]
    sizes = [float(fold.weight.sum()) for fold in folds]
    begin = start.weight.T, start.bias

    def shares(rows: RouterRows, exponent: float, ridge: float, tolerance: float) -> _Layer:
        return fit_spectral_layer(
            rows.spectra,
            rows.losses,
            log_priors=log_priors,
            exponent=exponent,
            ridge=ridge,
            start=begin,
            sample_weight=rows.weight,
            tolerance=tolerance,
        )

    def loss_of(layers: Sequence[_Layer]) -> float:
        losses = [mixture_loss(f, *la, top_k) for f, la in zip(folds, layers, strict=True)]
        return float(np.average(losses, weights=sizes))

    layers: list[_Layer] = [begin] * len(folds)
    best = loss_of(layers)
    history: list[dict[str, Any]] = [{"gate": "start", "validation_loss": best}]
    chosen: tuple[float, float] | None = None
    for exponent, ridge in product(exponents, ridges):
        tried = [shares(rows, exponent, ridge, _ENOUGH) for rows in others]
        loss = loss_of(tried)
        history.append(
            {"gate": "shares", "exponent": exponent, "ridge": ridge, "validation_loss": loss}
        )
        if loss < best:
            best, chosen, layers = loss, (exponent, ridge), tried
    polish: float | None = None
    for ridge in polishing:
        loss = loss_of(
            [polished(rows, *la, ridge) for rows, la in zip(others, layers, strict=True)]
        )
        history.append({"gate": "mixture", "ridge": ridge, "validation_loss": loss})
        if loss < best:
            best, polish = loss, ridge
    everything = RouterRows.joined(folds)
    weight, bias = begin if chosen is None else shares(everything, *chosen, _EXACT)
    if polish is not None:
        weight, bias = polished(everything, weight, bias, polish)
    found = SpectralWeights(np.ascontiguousarray(weight.T), bias, start.names, start.frequencies)
    return ChosenRouter(found, history)


def polished(
    rows: RouterRows, weight: FloatArray, bias: FloatArray, ridge: float
) -> tuple[FloatArray, FloatArray]:
    """Fit a gate further, to the absolute errors of the mixture.

    Parameters
    ----------
    rows : RouterRows
    weight : array of shape (K, E)
    bias : array of shape (E,)
    ridge : float
        On the change, in coordinates in which the rows vary alike.

    Returns
    -------
    weight : array of shape (K, E)
    bias : array of shape (E,)
    """
    share = rows.weight / rows.weight.sum()
    features = np.concatenate([rows.spectra, np.ones((rows.n_rows, 1))], axis=1)
    moments, directions = np.linalg.eigh((features * share[:, None]).T @ features)
    unit = 1.0 / np.sqrt(np.maximum(moments, 0.0) + ridge)[:, None]
    turned = features @ directions
    base = rows.spectra @ weight + bias
    shape = (len(moments), len(bias))

    def cost(flat: FloatArray) -> tuple[float, FloatArray]:
        v = flat.reshape(shape)
        gates = router_gates(base + turned @ (unit * v), None)
        slope = np.empty_like(gates)
        total = 0.0
        for at in range(0, rows.n_rows, _MIXED_ROWS):
            some = slice(at, at + _MIXED_ROWS)
            forecasts = rows.forecasts[some]
            mixed = np.matmul(gates[some, None].astype(np.float32), forecasts)[:, 0]
            error = (mixed - rows.targets[some]).astype(np.float64)
            size = np.sqrt(error**2 + _ROUND**2)
            total += float(share[some] @ size.mean(axis=1))
            pull = (share[some, None] * error / size / error.shape[1]).astype(np.float32)
            slope[some] = np.matmul(forecasts, pull[:, :, None])[:, :, 0]
        slope = gates * (slope - (gates * slope).sum(axis=1, keepdims=True))
        gradient = unit * (turned.T @ slope) + ridge * v
        return total + 0.5 * ridge * float((v * v).sum()), gradient.ravel()

    options = {"maxiter": _POLISHING_STEPS}
    begin = np.zeros(shape[0] * shape[1])
    found = minimize(cost, begin, jac=True, method="L-BFGS-B", options=options)
    change = directions @ (unit * np.asarray(found.x).reshape(shape))
    return weight + change[:-1], bias + change[-1]


def mixture_loss(
    rows: RouterRows, weight: FloatArray, bias: FloatArray, top_k: int | None
) -> float:
    """Return the mean absolute error of the mixture under a gate, as a share of deviations.

    Parameters
    ----------
    rows : RouterRows
        With forecasts.
    weight : array of shape (K, E)
    bias : array of shape (E,)
    top_k : int or None
    """
    gates = router_gates(rows.spectra @ weight + bias, top_k).astype(np.float32)
    errors = np.empty(rows.n_rows)
    for at in range(0, rows.n_rows, _MIXED_ROWS):
        some = slice(at, at + _MIXED_ROWS)
        mixed = np.matmul(gates[some, None], rows.forecasts[some])[:, 0]
        errors[some] = np.abs(mixed - rows.targets[some]).mean(axis=1)
    return float(np.average(errors, weights=rows.weight))


def router_gates(logits: FloatArray, top_k: int | None) -> FloatArray:
    """Return how logits (N, E) weigh the experts."""
    k = None if top_k is None or top_k >= logits.shape[1] else top_k
    return np.asarray(resolve("numpy").gate(logits[:, None], k, 1.0)[:, 0])
