"""Gates on the periodogram of a window, padded as long as one likes and computed in few bins.

A gate that is linear in the normalized periodogram of a window padded to ``n`` samples,
``I_k / sum(I)`` for ``k = 0 ... n / 2 - 1``, sees the window's autocorrelation ``r`` alone::

    I_k = r_0 + 2 sum_t r_t cos(2 pi k t / n)

Lags reach to the window's length L, and any transform of at least ``2 L - 1`` samples holds them.
Its bins serve the same gate, with weights and a sum that were carried over: the logits are the
same numbers, from a transform and a product a few times smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import next_fast_len
from scipy.linalg import cho_factor, cho_solve

from .gates import FloatArray, Router, StampArray, is_count
from .layers import Layer

PADDED_LENGTH = 5000
_ROWS = 128  # of windows at a time: as many as stay in the cache
_CONSTANT = 1e-12  # share of the mean that values of a constant window may be off by


def _transform_length(lookback: int, padded_length: int) -> int:
    """Return how many samples are transformed: as few as hold every lag, at most all."""
    short: int = next_fast_len(2 * min(lookback, padded_length) - 1, real=True)
    return min(short, padded_length)


def _multiplicity(n_bins: int, length: int) -> FloatArray:
    """Return how often the bins of a real transform stand in the whole one."""
    times = np.full(n_bins, 2.0)
    times[0] = 1.0
    if length % 2 == 0 and n_bins == length // 2 + 1:
        times[-1] = 1.0
    return times


def _by_lag(long: FloatArray, n_lags: int, padded_length: int) -> FloatArray:
    """Turn weights (E, n / 2) of long bins into those (E, n_lags) of the autocorrelation."""
    waves = np.fft.fft(long, padded_length, axis=1).real[:, :n_lags]
    return np.asarray(waves * _multiplicity(n_lags, 0))


def _shortened(long: FloatArray, lookback: int, padded_length: int) -> FloatArray:
    """Turn weights (E, n / 2) of long bins into those (E, n_bins) of short ones."""
    length = _transform_length(lookback, padded_length)
    if length == padded_length:
        return long
    by_lag = _by_lag(long, min(lookback, padded_length), padded_length)
    n_bins = length // 2 + 1
    waves = np.fft.fft(by_lag, length, axis=1).real[:, :n_bins]
    return np.asarray(waves * _multiplicity(n_bins, length) / length)


@lru_cache(maxsize=16)
def _summing(lookback: int, padded_length: int) -> FloatArray:
    """Return the weights of short bins whose sum is that of the long ones, shape (n_bins,)."""
    ones = np.ones((1, padded_length // 2))
    weights: FloatArray = _shortened(ones, lookback, padded_length)[0]
    weights.flags.writeable = False
    return weights


@dataclass(eq=False, repr=False)
class PeriodogramRouter(Router):
    """The window's whole periodogram, divided by its sum over the bins of a padded window [1]_.

    Every channel has a gate of its own from parameters that all share. What the layers read are
    the bins of a transform just long enough, see :func:`short_spectral_layer`. A window that is
    constant has zeros for features.

    Parameters
    ----------
    padded_length : int, default=5000
        Samples that windows are padded to with zeros. The bins below half of it are summed, which
        is the unit of the features. Of longer windows the first ``padded_length`` values count.
    hidden, per_channel, temperature, noise, head_dropout
        As for every :class:`Router`.

    References
    ----------
    .. [1] L. Nochumsohn et al., "Super-Linear: a lightweight pretrained mixture of linear experts
       for time series forecasting", TMLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import PeriodogramRouter
    >>> wave = np.sin(np.pi * np.arange(32) / 2)[None, None]  # a quarter of a cycle a step
    >>> features = PeriodogramRouter(1000).features(wave, None, 1)
    >>> features.shape, int(features.argmax())
    ((1, 1, 33), 16)
    """

    padded_length: int = PADDED_LENGTH
    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0

    def check(self) -> None:
        super().check()
        if not is_count(self.padded_length) or self.padded_length < 2:
            raise ValueError(
                "padded_length of PeriodogramRouter must be an integer of at least 2; got "
                f"{self.padded_length!r}."
            )

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        n, n_channels, lookback = windows.shape
        summing = _summing(lookback, self.padded_length)
        length = _transform_length(lookback, self.padded_length)
        rows = windows.reshape(n * n_channels, lookback)
        out = np.empty((len(rows), len(summing)))
        for start in range(0, len(rows), _ROWS):
            some = slice(start, start + _ROWS)
            out[some] = _periodogram(rows[some], length, self.padded_length, summing)
        return out.reshape(n, n_channels, len(summing))


def _periodogram(
    rows: FloatArray, length: int, padded_length: int, summing: FloatArray
) -> FloatArray:
    """Return bins of a transform, divided by their weighed sum; zeros for rows (n, L) constant."""
    mean = rows.mean(axis=1, keepdims=True)
    centered = (rows - mean)[:, :padded_length]
    spectrum = np.fft.rfft(centered, length, axis=1)[:, : len(summing)]
    power = spectrum.real**2 + spectrum.imag**2
    total = (power @ summing)[:, None]
    rounding = (_CONSTANT * np.abs(mean)) ** 2 * rows.shape[1] * padded_length / 2
    power /= np.where(total > rounding, total, np.inf)
    return np.asarray(power)


def short_spectral_layer(
    weight: FloatArray, bias: FloatArray, lookback: int, padded_length: int = PADDED_LENGTH
) -> Layer:
    """Return the layer on features of :class:`PeriodogramRouter` for a gate on long bins.

    Parameters
    ----------
    weight : array of shape (E, padded_length // 2)
        Of the normalized periodogram of windows padded to ``padded_length``.
    bias : array of shape (E,)
    lookback : int
    padded_length : int, default=5000

    Returns
    -------
    Layer
        From (n_features,) to (E,): the same logits.

    Raises
    ------
    ValueError
        If the weight has another number of bins.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import PeriodogramRouter, short_spectral_layer
    >>> layer = short_spectral_layer(np.ones((3, 500)), np.zeros(3), 32, 1000)
    >>> features = PeriodogramRouter(1000).features(np.arange(32.0)[None, None], None, 1)
    >>> (features @ layer.weight).round(12).tolist()  # a normalized periodogram sums to one
    [[[1.0, 1.0, 1.0]]]
    """
    if weight.ndim != 2 or weight.shape[1] != padded_length // 2:
        raise ValueError(
            f"the weight must be (n_experts, {padded_length // 2}), one column per bin below half "
            f"of padded_length={padded_length}; got {weight.shape}."
        )
    short = _shortened(np.asarray(weight, dtype=np.float64), lookback, padded_length)
    return Layer(np.ascontiguousarray(short.T)[None], np.array(bias, dtype=np.float64)[None])


def long_spectral_weight(
    layer: Layer, lookback: int, padded_length: int = PADDED_LENGTH
) -> FloatArray:
    """Return the smallest weight on long bins that gives the logits of a layer on short ones.

    Parameters
    ----------
    layer : Layer
        On features of :class:`PeriodogramRouter`, shared by all channels.
    lookback : int
    padded_length : int, default=5000

    Returns
    -------
    array of shape (E, padded_length // 2)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import long_spectral_weight, short_spectral_layer
    >>> layer = short_spectral_layer(np.ones((1, 500)), np.zeros(1), 32, 1000)
    >>> long = long_spectral_weight(layer, 32, 1000)
    >>> again = short_spectral_layer(long, np.zeros(1), 32, 1000)
    >>> bool(np.allclose(again.weight, layer.weight))
    True
    """
    short = layer.weight[0].T
    length = _transform_length(lookback, padded_length)
    if length == padded_length:
        return np.ascontiguousarray(short)
    n_lags = min(lookback, padded_length)
    # a bin of the short transform is the autocorrelation's wave of that frequency
    wanted = np.fft.fft(short, length, axis=1).real[:, :n_lags] * _multiplicity(n_lags, 0)
    angles = np.outer(np.arange(padded_length // 2), np.arange(n_lags)) % padded_length
    waves = np.cos(2 * np.pi / padded_length * angles) * _multiplicity(n_lags, 0)
    gram = cho_factor(waves.T @ waves)
    return np.asarray((waves @ cho_solve(gram, wanted.T)).T)


@dataclass(eq=False, repr=False)
class ValuesRouter(Router):
    """The window's values as they are; scale channels alike before.

    Every channel has a gate of its own from parameters that all share.

    Parameters
    ----------
    hidden, per_channel, temperature, noise, head_dropout
        As for every :class:`Router`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.routing import ValuesRouter
    >>> ValuesRouter().features(np.ones((2, 3, 8)), None, 4).shape
    (2, 3, 8)
    """

    hidden: int | None = None
    per_channel: bool = False
    temperature: float = 1.0
    noise: float = 0.0
    head_dropout: float = 0.0

    def features(
        self, windows: FloatArray, timestamps: StampArray | None, horizon: int
    ) -> FloatArray:
        return windows


def normalized_periodogram(rows: FloatArray, padded_length: int = PADDED_LENGTH) -> FloatArray:
    """Return the periodogram of rows without their mean, padded, divided by its sum.

    Parameters
    ----------
    rows : array of shape (n, length)
        Of longer rows the first ``padded_length`` values count.
    padded_length : int, default=5000

    Returns
    -------
    array of shape (n, padded_length // 2)
        Zeros for a row that is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.periodograms import normalized_periodogram
    >>> normalized_periodogram(np.array([[1.0, -1.0, 1.0, -1.0]]), 8).round(3).tolist()
    [[0.0, 0.146, 0.0, 0.854]]
    """
    return _periodogram(rows, padded_length, padded_length, np.ones(padded_length // 2))
