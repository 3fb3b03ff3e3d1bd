"""The level and scale of a window, taken on the host in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LEVELS = ("none", "last", "mean")
NORMALIZATIONS = (None, "last", "mean", "revin")
REVIN_EPS = 1e-5

_FAR = 1e3  # scales from zero at which the rounding of a mean begins to show


@dataclass(frozen=True, eq=False)
class Normalization:
    """How a window's level and scale are measured.

    Parameters
    ----------
    level : {"none", "last", "mean"}
        "none" measures every window from the fixed reference level of its channel.
    scaled : bool
        Whether the window's standard deviation is used.
    eps : float or array of shape (C,)
        Keeps the scale of a constant window positive. In squared data units under the root, in
        data units outside of it.
    ddof : {0, 1}
        Divisor ``L - ddof`` of the variance.
    eps_inside : bool
        ``sqrt(var + eps)`` (RevIN) or ``sqrt(var) + eps`` (Super-Linear).

    References
    ----------
    .. [1] T. Kim et al., "Reversible instance normalization for accurate time-series
       forecasting against distribution shift", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.normalization import Normalization
    >>> windows = np.array([[[1.0, 2.0, 6.0]]])
    >>> centered, level, _ = Normalization("mean").measure(windows, np.zeros(1))
    >>> level.tolist(), centered.tolist()
    ([[3.0]], [[[-2.0, -1.0, 3.0]]])
    """

    level: str = "none"
    scaled: bool = False
    eps: float | FloatArray = REVIN_EPS
    ddof: int = 0
    eps_inside: bool = True

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {LEVELS}; got {self.level!r}.")

    def measure(
        self,
        windows: npt.NDArray[np.floating],
        reference: FloatArray,
        out: npt.NDArray[Any] | None = None,
    ) -> tuple[npt.NDArray[Any], FloatArray, FloatArray | None]:
        """Measure windows from their level.

        Parameters
        ----------
        windows : array of shape (n_windows, n_channels, lookback)
        reference : array of shape (1,) or (n_channels,)
            The level of every window where ``level="none"``.
        out : array of shape (n_windows, n_channels, lookback), optional
            Where ``centered`` is written.

        Returns
        -------
        centered : array of shape (n_windows, n_channels, lookback)
            ``out`` or a new array of float64. Float32 windows may be measured from their last
            value into ``out`` of float32.
        level : array of shape (n_windows or 1, n_channels or 1)
        scale : array of shape (n_windows, n_channels), or None
        """
        if self.level == "none":
            level = reference[None, :]
        elif self.level == "last":
            level = windows[:, :, -1].astype(np.float64)
        else:
            windows = np.ascontiguousarray(windows, dtype=np.float64)  # one layout, one rounding
            averaging = np.full(windows.shape[2], 1.0 / windows.shape[2])
            level = windows @ averaging
        single = out is not None and out.dtype == windows.dtype == np.float32
        if single and self.level == "last" and not self.scaled:  # exact but for one rounding
            return np.subtract(windows, windows[:, :, -1:], out=out), level, None
        centered = np.subtract(windows, level[:, :, None], out=out, dtype=np.float64)
        scale = self.scale_of(centered) if self.scaled else None
        far = True if scale is None else np.abs(level) > _FAR * scale
        if self.level == "mean" and np.any(far):
            # what the rounding of the mean left over; of each window by itself
            rest = np.where(far, centered @ averaging, 0.0)
            level = level + rest
            centered -= rest[:, :, None]
        return centered, level, scale

    def scale_of(self, centered: FloatArray) -> FloatArray:
        """Return the scale of windows already measured from some level.

        Parameters
        ----------
        centered : array of shape (n_windows, n_channels, lookback)

        Returns
        -------
        array of shape (n_windows, n_channels)
        """
        length = centered.shape[2]
        if self.level != "mean":  # two passes: the level may lie far from the mean
            centered = centered - centered.mean(axis=2, keepdims=True)
        squares = np.matmul(centered[:, :, None, :], centered[:, :, :, None])[:, :, 0, 0]
        variance = squares / max(1, length - self.ddof)
        if self.eps_inside:
            return np.asarray(np.sqrt(variance + self.eps))
        return np.asarray(np.sqrt(variance) + self.eps)

    def functional(self, lookback: int) -> FloatArray:
        """Return the weights r of the level ``r @ window``; zeros where ``level="none"``.

        Parameters
        ----------
        lookback : int

        Returns
        -------
        array of shape (lookback,)
        """
        weights = np.zeros(lookback)
        if self.level == "last":
            weights[-1] = 1.0
        elif self.level == "mean":
            weights[:] = 1.0 / lookback
        return weights


def named_normalization(name: str | None, eps: float | FloatArray = REVIN_EPS) -> Normalization:
    """Return the normalization of an estimator's parameter.

    Parameters
    ----------
    name : {None, "last", "mean", "revin"}
    eps : float or array of shape (C,)
        Used by "revin" only.

    Returns
    -------
    Normalization
    """
    if name == "revin":
        return Normalization("mean", scaled=True, eps=eps)
    return Normalization(name or "none")
