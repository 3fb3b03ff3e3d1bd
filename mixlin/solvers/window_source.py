"""Training windows by number: nothing is cut out of a series before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]
StampArray = npt.NDArray[np.datetime64]

_GOLDEN = (5**0.5 - 1) / 2
_BLOCK_ELEMENTS = 2**22  # values of windows and targets that are cut at a time


class WindowBlock(NamedTuple):
    """Some windows.

    Attributes
    ----------
    x : array of shape (n, C, lookback)
    y : array of shape (n, C, horizon)
    stamps : array of shape (n, lookback + horizon), or None
    weight : array of shape (n, C)
        Zero where a channel's window misses a value; the values there are those of ``fill``.
    """

    x: Float64Array
    y: Float64Array
    stamps: StampArray | None
    weight: Float64Array


@dataclass(frozen=True, eq=False)
class WindowSource:
    """Windows of series or of arrays, addressed by their number.

    Parameters
    ----------
    lookback, horizon : int
    series : list of array of shape (T, C)
        Windows that miss a value in every channel are left out. For windows that came as arrays,
        one series per window of ``lookback + horizon`` rows would be wasteful: see ``windows``.
    windows : tuple of arrays of shape (n, C, lookback) and (n, C, horizon), optional
        Instead of series.
    stamps : list of array of shape (T,), array of shape (n, lookback + horizon), or None
    weight : list of array of shape (T - lookback - horizon + 1,), array of shape (n,), or None
        Of every window.
    places : array of shape (n, 2)
        Series and first row of every window; ``(0, i)`` for the i-th of ``windows``.
    fill : array of shape (C,)
        What missing values are replaced by.
    active : bool array of shape (C,), optional
        False for channels that never change: they teach nothing, and their windows weigh zero.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import WindowSource
    >>> source = WindowSource.of_series(2, 1, [np.arange(6.0)[:, None]])
    >>> source.n_windows, source.block(np.array([0, 3])).x[:, 0].tolist()
    (4, [[0.0, 1.0], [3.0, 4.0]])
    """

    lookback: int
    horizon: int
    series: list[FloatArray]
    windows: tuple[FloatArray, FloatArray] | None
    stamps: Any
    weight: Any
    places: npt.NDArray[np.intp]
    fill: Float64Array
    active: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of_series(
        cls,
        lookback: int,
        horizon: int,
        series: list[FloatArray],
        *,
        stamps: list[StampArray] | None = None,
        weight: list[Float64Array] | None = None,
        fill: Float64Array | None = None,
    ) -> WindowSource:
        """Address every window of series that is free of gaps in some channel."""
        length, places = lookback + horizon, []
        for i, values in enumerate(series):
            n = len(values) - length + 1
            if n < 1:
                continue
            missing = np.isnan(values)
            starts = np.arange(n)
            if missing.any():
                before = np.zeros((len(values) + 1, values.shape[1]), dtype=np.intp)
                np.cumsum(missing, axis=0, out=before[1:])
                starts = starts[(before[length:] == before[:-length]).any(axis=1)]
            places.append(np.column_stack([np.full(len(starts), i), starts]))
        n_channels = series[0].shape[1]
        return cls(
            lookback,
            horizon,
            series,
            None,
            stamps,
            weight,
            np.concatenate(places) if places else np.empty((0, 2), dtype=np.intp),
            np.zeros(n_channels) if fill is None else fill,
        )

    @classmethod
    def of_windows(
        cls,
        x: FloatArray,
        y: FloatArray,
        *,
        stamps: StampArray | None = None,
        weight: Float64Array | None = None,
    ) -> WindowSource:
        """Address windows that exist as arrays, without missing values."""
        places = np.column_stack([np.zeros(len(x), dtype=np.intp), np.arange(len(x))])
        fill = np.zeros(x.shape[1])
        return cls(x.shape[2], y.shape[2], [], (x, y), stamps, weight, places, fill)

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return len(self.places)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.fill)

    @property
    def n_weighted(self) -> int:
        """Number of windows whose weight is not zero."""
        if self.weight is None:
            return self.n_windows
        if self.windows is not None:
            return int(np.count_nonzero(self.weight[self.places[:, 1]]))
        counted = [self.weight[i][t] > 0 for i, t in self.places]
        return int(np.count_nonzero(counted))

    def subset(self, numbers: npt.NDArray[np.intp] | slice) -> WindowSource:
        """Return some of the windows, in the order of ``numbers``."""
        return replace(self, places=self.places[numbers])

    def thinned(self, most: int) -> WindowSource:
        """Return at most ``most`` windows, evenly spread, the newest among them.

        One of every stratum, at places that follow the golden ratio: an even step would see the
        same hours of every day.
        """
        if self.n_windows <= most:
            return self
        edges = np.linspace(0, self.n_windows, most + 1).astype(np.intp)
        within = np.diff(edges) * (np.arange(most) * _GOLDEN % 1)
        places = edges[:-1] + within.astype(np.intp)
        places[-1] = self.n_windows - 1
        return self.subset(places)

    def split(self, validation: float | int) -> tuple[WindowSource, WindowSource]:
        """Hold windows out at the end.

        Parameters
        ----------
        validation : float or int
            Share or number of the last rows of every series (of the last windows, for arrays).
            Targets of held-out windows lie in these rows, and no training window reaches into
            them.

        Returns
        -------
        training, held_out : WindowSource
        """
        if self.windows is not None:
            n = self.n_windows
            held = min(n, int(validation) if validation >= 1 else int(validation * n))
            # neighbors may share targets; how far they overlap can't be told from arrays
            gap = min(self.horizon - 1, (n - held) // 4)
            return self.subset(slice(0, n - held - gap)), self.subset(slice(n - held, n))
        lengths = np.array([len(values) for values in self.series])
        held_rows = validation if validation >= 1 else (validation * lengths).astype(np.intp)
        border = (lengths - held_rows)[self.places[:, 0]]
        start = self.places[:, 1]
        before = start + self.lookback + self.horizon <= border
        after = start + self.lookback >= border
        return self.subset(np.flatnonzero(before)), self.subset(np.flatnonzero(after))

    def blocks(self, n_extra: int = 0) -> Iterator[WindowBlock]:
        """Cut all windows, a bounded number at a time.

        Parameters
        ----------
        n_extra : int
            Further values per channel and window that the caller holds for a block.
        """
        each = self.n_channels * (self.lookback + self.horizon + n_extra)
        size = max(1, _BLOCK_ELEMENTS // each)
        for at in range(0, self.n_windows, size):
            yield self.block(np.arange(at, min(at + size, self.n_windows)))

    def block(self, numbers: npt.NDArray[np.intp]) -> WindowBlock:
        """Cut some windows."""
        L, length = self.lookback, self.lookback + self.horizon
        which, start = self.places[numbers].T
        weight = np.ones((len(numbers), self.n_channels))
        if self.active is not None:
            weight *= self.active
        stamps = None
        if self.windows is not None:
            x, y = (np.asarray(part[start], dtype=np.float64) for part in self.windows)
            if self.stamps is not None:
                stamps = self.stamps[start]
            if self.weight is not None:
                weight *= self.weight[start][:, None]
            return WindowBlock(x, y, stamps, weight)
        z = np.empty((len(numbers), self.n_channels, length))
        if self.stamps is not None:
            stamps = np.empty((len(numbers), length), dtype="datetime64[ns]")
        for i in np.unique(which):
            own = which == i
            cut = np.lib.stride_tricks.sliding_window_view(self.series[i], length, axis=0)
            z[own] = cut[start[own]]
            if stamps is not None:
                dated = np.lib.stride_tricks.sliding_window_view(self.stamps[i], length)
                stamps[own] = dated[start[own]]
            if self.weight is not None:
                weight[own] *= self.weight[i][start[own]][:, None]
        missing = np.asarray(np.isnan(z).any(axis=2))
        if missing.any():
            weight[missing] = 0.0
            z = np.where(missing[:, :, None], self.fill[:, None], z)
        return WindowBlock(z[:, :, :L], z[:, :, L:], stamps, weight)
