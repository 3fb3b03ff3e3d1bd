"""Power transforms of series, one per channel, chosen on the training rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RULES = ("auto", "log", "box-cox")

_POWERS = np.linspace(-1.0, 2.0, 61)
_OFFSET = 0.3  # of the standard deviation, added before the logarithm
_LOG_BELOW = 0.5  # Guerrero's power under which "auto" takes the logarithm
_SHORTEST_BLOCK = 20  # rows
_CEILING = 10.0  # forecasts end at this multiple of the largest training value
_FLOOR = 1e-3  # standard deviations above the pole, which lower values are lifted to


@dataclass(frozen=True, eq=False)
class ChannelTransform:
    """Box-Cox transforms ``((x + offset) ** power - 1) / power``, the logarithm for power 0.

    Parameters
    ----------
    power : array of shape (C,)
        1 leaves a channel as it is.
    offset : array of shape (C,)
    lowest, highest : array of shape (C,)
        Values are lifted to the lowest before they are transformed, as there is nothing below the
        pole; forecasts end at the highest.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.transforms import ChannelTransform
    >>> growth = np.exp(np.linspace(0, 5, 200))[:, None]
    >>> made = ChannelTransform.fit([growth], "auto", period=1)
    >>> made.power.tolist()
    [0.0]
    >>> rows = growth.T[None]
    >>> bool(np.allclose(made.inverse(made.forward(rows)), rows))
    True
    """

    power: FloatArray
    offset: FloatArray
    lowest: FloatArray
    highest: FloatArray

    @classmethod
    def fit(
        cls, series: list[npt.NDArray[np.floating]], rule: str, period: int
    ) -> ChannelTransform:
        """Choose transforms.

        Parameters
        ----------
        series : list of array of shape (T, C)
            Training rows; NaN is passed over.
        rule : {"auto", "log", "box-cox"}
            "auto" takes the logarithm of channels whose Guerrero power [1]_ is below one half,
            "box-cox" that power itself. Channels that reach zero or below, or never change, stay as
            they are.
        period : int
            Rows of a season; Guerrero's blocks are that long, at least 20 rows.

        Returns
        -------
        ChannelTransform

        Raises
        ------
        ValueError
            If ``rule="log"`` meets values that are not positive.

        References
        ----------
        .. [1] V. M. Guerrero, "Time-series analysis supported by power transformations", Journal
           of Forecasting 12, 1993.
        """
        n_channels = series[0].shape[1]
        power, offset = np.ones(n_channels), np.zeros(n_channels)
        lowest, highest = np.full(n_channels, -np.inf), np.full(n_channels, np.inf)
        for c in range(n_channels):
            seen = [np.asarray(v[:, c], dtype=np.float64) for v in series]
            seen = [v[np.isfinite(v)] for v in seen]
            x = np.concatenate(seen)
            if rule == "log" and (not len(x) or x.min() <= 0):
                raise ValueError(
                    f"transform='log' needs positive values; channel {c} reaches "
                    f"{x.min() if len(x) else np.nan:g}. Shift the data, or pass transform='auto', "
                    "which leaves such channels as they are."
                )
            if not len(x) or x.min() <= 0 or np.ptp(x) <= 1e-9 * x.max():
                continue
            own = 0.0 if rule == "log" else guerrero(seen, max(period, _SHORTEST_BLOCK))
            if rule == "auto":
                own = 0.0 if own < _LOG_BELOW else 1.0
            if own == 1.0:
                continue
            spread = float(x.std())
            power[c], offset[c] = own, _OFFSET * spread
            lowest[c], highest[c] = _FLOOR * spread - offset[c], _CEILING * x.max()
        return cls(power, offset, lowest, highest)

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """Which channels are not left as they are."""
        return np.asarray(self.power != 1.0)

    def forward(self, values: npt.NDArray[np.floating], axis: int = 1) -> FloatArray:
        """Transform.

        Parameters
        ----------
        values : array
            In data units.
        axis : int, default=1
            Of the channels.

        Returns
        -------
        array of the same shape
        """
        out = np.array(values, dtype=np.float64)
        channels = np.moveaxis(out, axis, 0)
        for c in map(int, np.flatnonzero(self.changed)):
            x = np.maximum(channels[c], self.lowest[c]) + self.offset[c]  # NaN stays
            p = self.power[c]
            channels[c] = np.log(x) if p == 0.0 else (x**p - 1.0) / p
        return out

    def inverse(self, values: npt.NDArray[np.floating], axis: int = 1) -> FloatArray:
        """Undo :meth:`forward`; medians and quantiles stay what they are, means do not.

        Parameters
        ----------
        values : array
        axis : int, default=1

        Returns
        -------
        array of the same shape
            In data units, at most ``highest``.
        """
        out = np.array(values, dtype=np.float64)
        channels = np.moveaxis(out, axis, 0)
        for c in map(int, np.flatnonzero(self.changed)):
            p, top = self.power[c], self.highest[c] + self.offset[c]
            ceiling = np.log(top) if p == 0.0 else (top**p - 1.0) / p
            z = np.minimum(channels[c], ceiling)
            if p == 0.0:
                x = np.exp(z)
            else:
                x = np.maximum(p * z + 1.0, np.finfo(np.float64).tiny) ** (1.0 / p)
            channels[c] = np.minimum(x, top) - self.offset[c]
        return out


def guerrero(series: list[FloatArray], length: int) -> float:
    """Return the power that makes the spread of blocks most independent of their mean.

    Parameters
    ----------
    series : list of array of shape (T,)
        Positive.
    length : int
        Rows of a block.

    Returns
    -------
    float
        From -1 to 2; 1 if there are fewer than three blocks that vary.
    """
    blocks = np.concatenate([v[len(v) % length :].reshape(-1, length) for v in series])
    mean, spread = blocks.mean(axis=1), blocks.std(axis=1)
    keep = spread > 1e-9 * mean
    if keep.sum() < 3:
        return 1.0
    mean, spread = mean[keep] / mean[keep].mean(), spread[keep] / spread[keep].mean()
    ratio = spread / mean ** (1.0 - _POWERS[:, None])
    variation = ratio.std(axis=1) / ratio.mean(axis=1)
    return float(_POWERS[np.argmin(variation)])
