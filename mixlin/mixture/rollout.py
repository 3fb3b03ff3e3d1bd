"""Forecasts from contexts of any length for any horizon, with a mixture of one length each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Backend, resolve
from .forward import predict_windows
from .record import Mixture
from .resampling import choose_scales, refined, steps_thinned, stretched, unstretched

FloatArray = npt.NDArray[np.float64]

COMPATIBILITIES = ("clean", "official")
_BLOCK_ELEMENTS = 2**22  # of rows at a time: 32 MiB, and a few times that in between
_SMALLEST_SPREAD = 1e-8  # added by the published model to the spread that it divides by


@dataclass(frozen=True)
class Rollout:
    """How contexts of any length are forecast for any horizon [1]_, as plain data.

    A context shorter than the window is stretched by a whole factor. A longer one may be thinned
    out, to the scale at which the gate's entropy is lowest. A horizon longer than the block's is
    forecast block by block, each from what was forecast before.

    Parameters
    ----------
    compat : {"clean", "official"}, default="clean"
        "official" reproduces the published model. "clean" puts forecasts of stretched and thinned
        contexts on time, computes only the coarse steps that are needed, takes the spectrum of
        the newest values, and thins out without a shift between the context and its end.
    resampling : bool, default=True
        Whether long contexts are thinned out; else their newest values are the window.
    scales : tuple of float, default=(2, 4, 6)
        Candidates, in the order in which they are tried.
    threshold : float, default=0.2
        Share of the spectrum's power that may lie above the edge; 0 lifts the bound on scales.
    freq_bound : float, default=0.25
        Cycles per step: a scale is allowed up to this over the edge's frequency.
    penalty_scale : float, default=2.0
        What the share of the power that is lost costs, in units of entropy.
    padded_length : int, default=5000
        Samples of the spectrum.
    clamp : bool, default=True
        Whether a block after the first spreads no wider than the window it is forecast from.
    anti_alias : bool, default=False
        "clean" only: thin out to means of as many values, for scales that are whole numbers.

    References
    ----------
    .. [1] L. Nochumsohn et al., "Super-Linear: a lightweight pretrained mixture of linear experts
       for time series forecasting", TMLR 2026.

    Examples
    --------
    >>> from mixlin.mixture import Rollout
    >>> Rollout(scales=(2, 3)).official
    False
    """

    compat: str = "clean"
    resampling: bool = True
    scales: tuple[float, ...] = (2.0, 4.0, 6.0)
    threshold: float = 0.2
    freq_bound: float = 0.25
    penalty_scale: float = 2.0
    padded_length: int = 5000
    clamp: bool = True
    anti_alias: bool = False

    def __post_init__(self) -> None:
        if self.compat not in COMPATIBILITIES:
            raise ValueError(f"compat must be one of {COMPATIBILITIES}; got {self.compat!r}.")
        if not all(np.isfinite(s) and s > 0 for s in self.scales):
            raise ValueError(f"scales must be positive numbers; got {self.scales}.")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and less than 1; got {self.threshold}.")
        if not (np.isfinite(self.freq_bound) and self.freq_bound > 0):
            raise ValueError(f"freq_bound must be a positive number; got {self.freq_bound}.")
        if not np.isfinite(self.penalty_scale):
            raise ValueError(f"penalty_scale must be a finite number; got {self.penalty_scale}.")
        if self.padded_length < 4:
            raise ValueError(f"padded_length must be at least 4; got {self.padded_length}.")
        if self.anti_alias and (self.official or any(s != round(s) for s in self.scales)):
            raise ValueError(
                "anti_alias takes means of as many values as the scale says: it needs "
                f"compat='clean' and whole scales; got compat={self.compat!r}, scales="
                f"{self.scales}."
            )

    @property
    def official(self) -> bool:
        """Whether the published model is reproduced."""
        return self.compat == "official"

    def most_read(self, lookback: int) -> int | None:
        """Return how many of a context's newest values forecasts depend on; None for all.

        Parameters
        ----------
        lookback : int
            Of the block.
        """
        if not self.resampling:
            return lookback
        if self.official:
            return None
        widest = max((scale for scale in self.scales if scale > 1), default=1.0)
        return lookback if widest == 1 else max(math.ceil(widest * lookback), self.padded_length)


class RolloutForecast(NamedTuple):
    """What :func:`rollout_forecast` returns.

    Attributes
    ----------
    forecast : array of shape (n_windows, n_channels, horizon)
    gates : array of shape (n_windows, n_channels, n_experts), or None
        Weights of the experts in the first block. They sum to one.
    scale : array of shape (n_windows, n_channels)
        Steps of the series in a step of the block; less than one for a short context.
    """

    forecast: FloatArray
    gates: FloatArray | None
    scale: FloatArray


def rollout_forecast(
    block: Mixture,
    rollout: Rollout,
    windows: npt.NDArray[np.floating],
    horizon: int,
    backend: Backend | None = None,
    *,
    gates: bool = True,
) -> RolloutForecast:
    """Forecast contexts of any length for any horizon.

    Every channel of every window is a series of its own, scale included.

    Parameters
    ----------
    block : Mixture
        Shared by all channels, with a gate on the window alone.
    rollout : Rollout
    windows : array of shape (n_windows, n_channels, n_steps)
        Of one length, 1 or more; without missing values.
    horizon : int
    backend : Backend, optional
        The configured one by default. Scales are chosen on the host, alike for all engines.
    gates : bool, default=True
        Whether the gates are returned.

    Returns
    -------
    RolloutForecast

    Raises
    ------
    ValueError
        If the windows or the horizon are empty, or the block is none that can go on by itself.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import Mixture, Rollout, rollout_forecast
    >>> from mixlin.normalization import Normalization
    >>> weights = np.array([0.0, -1.0, 1.0])[:, None] * [1.0, 2.0]  # goes on as the last step went
    >>> last = np.array([0.0, 0.0, 1.0])[:, None]
    >>> block = Mixture((weights + last)[None, None], normalization=Normalization("mean"))
    >>> ramp = np.array([[[1.0, 2.0]]])
    >>> rollout_forecast(block, Rollout(clamp=False), ramp, 5).forecast.tolist()
    [[[3.0, 4.0, 5.0, 6.0, 7.0]]]
    """
    if windows.ndim != 3 or 0 in windows.shape[1:]:
        raise ValueError(
            "windows must be (n_windows, n_channels, n_steps) with at least one channel and one "
            f"step; got {windows.shape}."
        )
    if not isinstance(horizon, Integral) or isinstance(horizon, bool) or horizon < 1:
        raise ValueError(f"horizon must be an integer of at least 1; got {horizon!r}.")
    _check_block(block)
    backend = resolve() if backend is None else backend
    n, n_channels, length = windows.shape
    lookback, horizon = block.lookback, int(horizon)
    if length > lookback and not rollout.resampling:
        windows, length = windows[:, :, -lookback:], lookback
    if length == lookback and horizon <= block.horizon:
        forecast, weights = _forecast_block(block, windows, backend, gates)
        return RolloutForecast(forecast[:, :, :horizon], weights, np.ones((n, n_channels)))
    rows = windows.reshape(n * n_channels, length)
    forecast = np.empty((len(rows), horizon))
    weights = np.empty((len(rows), block.n_experts)) if gates else None
    scale = np.empty(len(rows))
    widest = max(length, horizon, lookback, rollout.padded_length if length > lookback else 0)
    size = max(1, _BLOCK_ELEMENTS // widest)
    for start in range(0, len(rows), size):
        some = slice(start, start + size)
        part = np.asarray(rows[some], dtype=np.float64)
        into = None if weights is None else weights[some]
        forecast[some], scale[some] = _roll_out(block, rollout, part, horizon, backend, into)
    return RolloutForecast(
        forecast.reshape(n, n_channels, horizon),
        None if weights is None else weights.reshape(n, n_channels, block.n_experts),
        scale.reshape(n, n_channels),
    )


def _check_block(block: Mixture) -> None:
    gate = block.gate
    if block.groups != 1 or block.extra_coef is not None:
        raise ValueError(
            "a block that is rolled out serves any channel and reads nothing but the window; this "
            f"one has {block.groups} groups, and "
            f"{'no' if block.extra_coef is None else block.extra_coef.shape[1]} extra columns."
        )
    if gate is not None and (gate.router.needs_timestamps or gate.evidence):
        raise ValueError(
            "the gate of a block that is rolled out reads the window alone; this one has "
            f"{gate.router!r} and {len(gate.evidence)} kinds of evidence."
        )


def _roll_out(
    block: Mixture,
    rollout: Rollout,
    rows: FloatArray,
    horizon: int,
    backend: Backend,
    gates: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Return forecasts (N, horizon) and scales (N,); gates (N, E) are written where asked for."""
    length, lookback = rows.shape[1], block.lookback
    windows, scales = rows, np.ones(len(rows))
    if length < lookback:
        windows, factor = stretched(rows, lookback, official=rollout.official)
        coarse, weights = _continued(
            block, rollout, windows, factor * horizon, backend, gates is not None
        )
        if gates is not None:
            gates[:] = weights
        return unstretched(coarse, horizon, factor, official=rollout.official), scales / factor
    if length > lookback:
        windows, scales = choose_scales(block, rollout, rows)
    forecast = np.empty((len(rows), horizon))
    for scale in np.unique(scales):
        some = scales == scale
        n_steps = steps_thinned(horizon, float(scale), rollout)
        coarse, weights = _continued(
            block, rollout, windows[some], n_steps, backend, gates is not None
        )
        forecast[some] = refined(coarse, rows[some, -1], horizon, float(scale), rollout)
        if gates is not None:
            gates[some] = weights
    return forecast, scales


def _continued(
    block: Mixture,
    rollout: Rollout,
    windows: FloatArray,
    n_steps: int,
    backend: Backend,
    gates: bool,
) -> tuple[FloatArray, FloatArray | None]:
    """Forecast windows (N, lookback) block by block; at least one block, and else ``n_steps``."""
    lookback = block.lookback
    first, weights = _forecast_block(block, windows[:, None], backend, gates)
    if weights is not None:
        weights = weights[:, 0]
    blocks = [first[:, 0]]
    for _ in range(1, -(-n_steps // block.horizon)):
        windows = np.concatenate([windows, blocks[-1]], axis=1)[:, -lookback:]
        after = predict_windows(block, windows[:, None], backend)[:, 0]
        blocks.append(clamped(after, windows, rollout) if rollout.clamp else after)
    if len(blocks) == 1:
        return blocks[0], weights
    return np.concatenate(blocks, axis=1)[:, :n_steps], weights


def _forecast_block(
    block: Mixture, windows: npt.NDArray[np.floating], backend: Backend, gates: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Return forecasts of windows (n, C, lookback), and how the experts were weighed."""
    if not gates:
        return predict_windows(block, windows, backend), None
    forecast, logits = predict_windows(block, windows, backend, scores=True)
    if block.gate is None:
        return forecast, np.ones_like(logits)
    host = resolve("numpy")
    return forecast, host.gate(logits, block.gate.top_k, block.gate.temperature)


def clamped(forecast: FloatArray, windows: FloatArray, rollout: Rollout) -> FloatArray:
    """Draw forecasts together to the spread of the windows they were made from.

    Parameters
    ----------
    forecast : array of shape (N, horizon)
    windows : array of shape (N, lookback)
    rollout : Rollout

    Returns
    -------
    array of shape (N, horizon)
        With their mean, and no larger standard deviation than the windows'.
    """
    if forecast.shape[1] < 2 or windows.shape[1] < 2:
        return forecast
    mean = forecast.mean(axis=1, keepdims=True)
    new = forecast.std(axis=1, ddof=1, keepdims=True)
    old = windows.std(axis=1, ddof=1, keepdims=True)
    wide = new > old
    divisor = new + _SMALLEST_SPREAD if rollout.official else new
    factor = np.divide(old, divisor, out=np.ones_like(old), where=wide)
    return np.where(wide, mean + (forecast - mean) * factor, forecast)
