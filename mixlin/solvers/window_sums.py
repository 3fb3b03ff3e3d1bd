"""Sums over windows that exist as arrays, and what every kind of sums answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BLOCK_ELEMENTS = 2**20  # rows of dense windows are gathered up to this many values


class WindowSums(ABC):
    """Sums over windows ``(x, y)`` of length ``lookback + horizon``, additive.

    Parameters
    ----------
    lookback, horizon : int
    level : array of shape (C,)
        Every value is measured from the level of its channel.
    eps : array of shape (C,), optional
        Where given, the window's scale ``sqrt(var(x) + eps)`` is a further coordinate.

    Attributes
    ----------
    n_windows : array of shape (C,)
        Sum of the windows' weights.
    frequencies : array of shape (F,)
        Radians per row, of waves whose products with the windows are kept.
    """

    frequencies: FloatArray = np.empty(0)

    def __init__(
        self, lookback: int, horizon: int, level: FloatArray, eps: FloatArray | None = None
    ) -> None:
        self.lookback = lookback
        self.horizon = horizon
        self.level = level
        self.eps = eps
        self.n_windows = np.zeros(len(level))

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.level)

    @property
    def width(self) -> int:
        """Coordinates of :meth:`moments`."""
        return self.lookback + self.horizon + (self.eps is not None) + 1

    @abstractmethod
    def moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        """Return the pooled second moments of the coordinates ``(x, y[, s], 1)``.

        Parameters
        ----------
        scale : array of shape (n_selected,)
            All coordinates but the last are divided by it, channel by channel.
        shift : array of shape (n_selected,)
            Taken off x and y before, on top of the level.
        channels : array of shape (n_selected,)

        Returns
        -------
        array of shape (width, width)
        """

    def each_moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        """Return the second moments of every channel by itself.

        Parameters
        ----------
        scale, shift, channels
            As in :meth:`moments`.

        Returns
        -------
        array of shape (n_selected, width, width)
        """
        one = [slice(i, i + 1) for i in range(len(channels))]
        return np.array([self.moments(scale[i], shift[i], channels[i]) for i in one])

    def waves(self, c: int) -> tuple[FloatArray, FloatArray]:
        """Return the products of the waves with a channel's windows and with each other.

        Parameters
        ----------
        c : int

        Returns
        -------
        cross : array of shape (2 F, width)
            Sum over windows of ``cos(w t)`` and of ``sin(w t)`` times (x, y[, s], 1) in data units,
            x and y measured from the level; t is the ordinal of the window's last input.
        gram : array of shape (2 F, 2 F)
            Sum over windows of the waves' products.
        """
        return np.empty((0, self.width)), np.empty((0, 0))

    @abstractmethod
    def quadratic(self, coef: FloatArray, constant: FloatArray) -> FloatArray:
        """Return the sum over windows of ``(coef' (x, y[, s]) + constant) ** 2``, per channel.

        Parameters
        ----------
        coef : array of shape (1 or C, width - 1, k)
        constant : array of shape (C, k)

        Returns
        -------
        array of shape (C, k)
        """

    @abstractmethod
    def input_variance(self) -> FloatArray:
        """Return the variance of the inputs over windows and lags, per channel.

        Returns
        -------
        array of shape (C,)
        """


class DenseSums(WindowSums):
    """Sums over windows that exist as arrays, or that carry weights of their own.

    Memory is ``8 * C * width**2`` bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import DenseSums
    >>> sums = DenseSums(2, 1, np.zeros(1))
    >>> sums.add(np.array([[[1.0, 2.0]], [[0.0, 1.0]]]), np.array([[[3.0]], [[1.0]]]))
    >>> sums.moments(np.ones(1), np.zeros(1), np.array([0]))[:2, 2].tolist()
    [3.0, 7.0]
    """

    def __init__(
        self, lookback: int, horizon: int, level: FloatArray, eps: FloatArray | None = None
    ) -> None:
        super().__init__(lookback, horizon, level, eps)
        self._sums = np.zeros((len(level), self.width, self.width))

    def add(
        self,
        x: npt.NDArray[np.floating],
        y: npt.NDArray[np.floating],
        weight: FloatArray | None = None,
    ) -> None:
        """Add windows.

        Parameters
        ----------
        x : array of shape (n_windows, C, lookback)
        y : array of shape (n_windows, C, horizon)
        weight : array of shape (n_windows,) or (n_windows, C), optional
        """
        L, H = self.lookback, self.horizon
        block = max(1, _BLOCK_ELEMENTS // self.width)
        for start in range(0, len(x), block):
            rows = slice(start, start + block)
            z = np.ones((len(x[rows]), self.width))
            for c in range(self.n_channels):
                np.subtract(x[rows, c], self.level[c], out=z[:, :L], dtype=np.float64)
                np.subtract(y[rows, c], self.level[c], out=z[:, L : L + H], dtype=np.float64)
                if self.eps is not None:
                    z[:, L + H] = np.sqrt(z[:, :L].var(axis=1) + self.eps[c])
                if weight is None:
                    self._sums[c] += z.T @ z
                    continue
                w = weight[rows] if weight.ndim == 1 else weight[rows, c]
                root = z * np.sqrt(w)[:, None]
                self._sums[c] += root.T @ root
        self.n_windows = self._sums[:, -1, -1].copy()

    def fade(self, factor: float) -> None:
        """Multiply everything that was learnt by a factor.

        Parameters
        ----------
        factor : float
        """
        self._sums *= factor
        self.n_windows = self._sums[:, -1, -1].copy()

    def add_series(self, values: npt.NDArray[np.floating], weight: FloatArray) -> None:
        """Add every window of a series whose windows carry weights.

        Parameters
        ----------
        values : array of shape (T, C)
            Windows that hold NaN are left out.
        weight : array of shape (T - lookback - horizon + 1,)
        """
        M = self.lookback + self.horizon
        windows = np.lib.stride_tricks.sliding_window_view(values, M, axis=0)
        block = max(1, _BLOCK_ELEMENTS // (M * self.n_channels))
        for start in range(0, len(windows), block):
            z = windows[start : start + block]
            observed = np.asarray(np.isfinite(z).all(axis=2))
            z = np.where(observed[:, :, None], z, self.level[None, :, None])
            w = weight[start : start + block, None] * observed
            self.add(z[:, :, : self.lookback], z[:, :, self.lookback :], w)

    def moments(
        self, scale: FloatArray, shift: FloatArray, channels: npt.NDArray[np.intp]
    ) -> FloatArray:
        out = np.zeros((self.width, self.width))
        moved = np.zeros(self.width)
        moved[: self.lookback + self.horizon] = 1.0
        for s, delta, c in zip(scale, shift, channels, strict=True):
            d = np.full(self.width, 1.0 / s)
            d[-1] = 1.0
            own = self._sums[c]
            if delta:
                cross = np.outer(delta * moved, own[-1])
                own = own - cross - cross.T + delta * delta * own[-1, -1] * np.outer(moved, moved)
            out += own * d[:, None] * d
        return out

    def quadratic(self, coef: FloatArray, constant: FloatArray) -> FloatArray:
        return np.array(
            [
                dense_quadratic(s, coef[min(c, len(coef) - 1)], constant[c])
                for c, s in enumerate(self._sums)
            ]
        )

    def input_variance(self) -> FloatArray:
        n = np.maximum(self.n_windows, np.finfo(np.float64).tiny)
        x = slice(0, self.lookback)
        square = np.array([np.diag(s)[x].mean() for s in self._sums]) / n
        mean = self._sums[:, -1, x].mean(axis=1) / n
        return np.asarray(np.maximum(square - mean**2, 0.0))


def dense_quadratic(moments: FloatArray, coef: FloatArray, constant: FloatArray) -> FloatArray:
    """Return ``(coef, constant)' moments (coef, constant)`` for every column.

    Parameters
    ----------
    moments : array of shape (width, width)
    coef : array of shape (width - 1, k)
    constant : array of shape (k,)

    Returns
    -------
    array of shape (k,)
    """
    coef = np.concatenate([coef, constant[None]])
    return np.asarray(np.maximum(np.einsum("pk,pk->k", coef, moments @ coef), 0.0))
