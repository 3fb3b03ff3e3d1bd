"""Contexts of any length as windows of one length, and forecasts back on the series' steps.

A coarse step is ``scale`` steps of the series: more than one where a long context is thinned out,
a fraction where a short one is stretched. ``official`` is how the published model does it; the
other way, coarse steps are counted from the last observed value, so that forecasts are on time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..backends import resolve
from ..periodograms import normalized_periodogram
from ..routing import Gate
from .record import Mixture

if TYPE_CHECKING:
    from .rollout import Rollout

FloatArray = npt.NDArray[np.float64]

_LOGARITHM = 1e-10  # added to probabilities whose logarithm is taken
_GATE_ROWS = 512  # at a time: features are as large as windows


def _interpolated(rows: FloatArray, at: npt.NDArray[np.floating]) -> FloatArray:
    """Return rows (N, T) between their values, at positions (M,) clipped to the ends."""
    positions = np.clip(at, 0.0, rows.shape[1] - 1.0)
    before = np.floor(positions).astype(np.intp)
    share = positions - before
    left = rows[:, before]
    if not share.any():
        return left
    right = rows[:, np.minimum(before + 1, rows.shape[1] - 1)]
    return np.asarray(left + share * (right - left))


# -- short contexts ----------------------------------------------------------------------------


def stretched(rows: FloatArray, lookback: int, *, official: bool) -> tuple[FloatArray, int]:
    """Stretch short contexts by the smallest whole factor that fills a window.

    Parameters
    ----------
    rows : array of shape (N, T)
        ``1 <= T < lookback``.
    lookback : int
    official : bool

    Returns
    -------
    windows : array of shape (N, lookback)
    factor : int
    """
    length = rows.shape[1]
    factor = -(-lookback // length)
    if official:  # every value becomes a run of the factor's length, centered on it
        positions = (np.arange(factor * length - lookback, factor * length) + 0.5) / factor - 0.5
    else:  # ends with the last value itself; what is missing at the start repeats the first
        positions = length - 1 - np.arange(lookback)[::-1] / factor
    return _interpolated(rows, positions), factor


def unstretched(forecast: FloatArray, horizon: int, factor: int, *, official: bool) -> FloatArray:
    """Return the forecasts of a stretched window on the series' own steps.

    Parameters
    ----------
    forecast : array of shape (N, M)
    horizon, factor : int
        ``M >= factor * horizon``.
    official : bool

    Returns
    -------
    array of shape (N, horizon)
    """
    if official:
        return _interpolated(forecast, (np.arange(horizon) + 0.5) * factor - 0.5)
    return forecast[:, factor - 1 : factor * horizon : factor]


# -- long contexts -----------------------------------------------------------------------------


def _thinned(rows: FloatArray, lookback: int, scale: float, rollout: Rollout) -> FloatArray | None:
    """Return the newest window (N, lookback) of every scale-th value; None if they are too few."""
    length = rows.shape[1]
    if rollout.official:  # from end to end, whatever the stride becomes
        n_left = math.floor(length * (1.0 / scale))
        if n_left < lookback:
            return None
        stride = (length - 1) / (n_left - 1) if n_left > 1 else 0.0
        return _interpolated(rows, np.arange(n_left - lookback, n_left) * stride)
    if length < scale * lookback:
        return None
    if rollout.anti_alias:
        newest = rows[:, length - round(scale) * lookback :]
        return np.asarray(newest.reshape(len(rows), lookback, -1).mean(axis=2))
    return _interpolated(rows, length - 1 - scale * np.arange(lookback)[::-1])


def choose_scales(
    block: Mixture, rollout: Rollout, rows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Choose how every long context is thinned out: so that the gate knows best what to do.

    Scored is the entropy of the gate, and the share of the spectrum that is lost. A scale is out
    of the question where most of the spectrum's power lies above ``freq_bound / scale``.

    Parameters
    ----------
    block : Mixture
    rollout : Rollout
    rows : array of shape (N, T)
        ``T > block.lookback``.

    Returns
    -------
    windows : array of shape (N, block.lookback)
    scales : array of shape (N,)
        1 where the newest values are the window.
    """
    lookback, n_bins = block.lookback, rollout.padded_length // 2
    windows = rows[:, -lookback:].copy()
    scales = np.ones(len(rows))
    candidates = [s for s in rollout.scales if s > 1 or rollout.official]
    if block.gate is None or not candidates:
        return windows, scales
    if rollout.official:
        frequencies = np.linspace(0.0, 0.5, n_bins)
        power = normalized_periodogram(rows, rollout.padded_length)
    else:
        frequencies = np.arange(n_bins) / rollout.padded_length
        power = normalized_periodogram(rows[:, -rollout.padded_length :], rollout.padded_length)
    largest = np.full(len(rows), np.inf)
    if rollout.threshold > 0:
        reached = np.cumsum(power, axis=1) > 1 - rollout.threshold
        edge = frequencies[reached.argmax(axis=1)]
        largest = np.floor(rollout.freq_bound / np.where(edge > 0, edge, rollout.freq_bound))
    best = _entropy(block.gate, windows)
    for scale in candidates:
        thinned = _thinned(rows, lookback, scale, rollout)
        if thinned is None:
            continue
        lost = power[:, frequencies > 0.5 / scale].sum(axis=1) if scale > 1 else 0.0
        score = _entropy(block.gate, thinned) + rollout.penalty_scale * lost
        better = (score < best) & (scale <= largest)
        windows[better], best[better], scales[better] = thinned[better], score[better], scale
    return windows, scales


def steps_thinned(horizon: int, scale: float, rollout: Rollout) -> int:
    """Return how many coarse steps answer a horizon.

    Parameters
    ----------
    horizon : int
    scale : float
    rollout : Rollout
    """
    if rollout.official or scale <= 1:
        return horizon
    if rollout.anti_alias:
        return max(0, math.ceil((horizon - (scale + 1) / 2) / scale)) + 1
    return math.ceil(horizon / scale)


def refined(
    forecast: FloatArray, last: FloatArray, horizon: int, scale: float, rollout: Rollout
) -> FloatArray:
    """Return forecasts of coarse steps on the series' own steps.

    Parameters
    ----------
    forecast : array of shape (N, M)
    last : array of shape (N,)
        The last observed values, where forecasts set out from.
    horizon : int
    scale : float
    rollout : Rollout

    Returns
    -------
    array of shape (N, horizon)
    """
    if scale <= 1:
        return forecast[:, :horizon]
    n_steps = forecast.shape[1]
    if rollout.official:  # from end to end, the first coarse step on the first fine one
        n_fine = math.floor(n_steps * scale)
        return _interpolated(forecast, np.arange(horizon) * ((n_steps - 1) / (n_fine - 1)))
    ahead = scale * np.arange(1, n_steps + 1)
    if rollout.anti_alias:  # a mean belongs to the middle of what it is taken of
        ahead -= (scale - 1) / 2
    times = np.concatenate([[0.0], ahead])
    nodes = np.concatenate([last[:, None], forecast], axis=1)
    positions = np.interp(np.arange(1, horizon + 1), times, np.arange(len(times)))
    return _interpolated(nodes, positions)


# -- the gate on the host ----------------------------------------------------------------------


def gate_logits(gate: Gate, windows: FloatArray) -> FloatArray:
    """Return a gate's logits in float64, whatever engine forecasts.

    Parameters
    ----------
    gate : Gate
        One for all channels and steps, without evidence.
    windows : array of shape (N, lookback)

    Returns
    -------
    array of shape (N, n_experts)
        Before the temperature.
    """
    host = resolve("numpy")
    logits = np.empty((len(windows), gate.n_experts))
    for start in range(0, len(windows), _GATE_ROWS):
        some = slice(start, start + _GATE_ROWS)
        out = gate.standardized(gate.router.features(windows[some, None], None, 1))
        for layer in gate.layers:
            out = host.linear(out, layer.weight, layer.bias, activation=layer.activation)
        logits[some] = out[:, 0]
    return logits


def _entropy(gate: Gate, windows: FloatArray) -> FloatArray:
    """Return the entropy of a gate that lets all experts through, shape (N,)."""
    shares = resolve("numpy").gate(gate_logits(gate, windows), None, gate.temperature)
    return np.asarray(-(shares * np.log(shares + _LOGARITHM)).sum(axis=1))
