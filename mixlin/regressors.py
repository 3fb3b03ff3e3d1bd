"""Known-future regressors: what holidays, promotions or weather forecasts add to a forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def past_columns(lookback: int, horizon: int, period: int | None) -> tuple[FloatArray, IntArray]:
    """Return how a regressor's past enters: its last value, and its mean at the target's phase.

    Parameters
    ----------
    lookback, horizon : int
    period : int or None
        Rows of a season, at most the lookback; the mean is that of the window without one.

    Returns
    -------
    columns : array of shape (lookback, D)
        Weights of the window's rows, distinct columns.
    which : array of shape (2, horizon)
        The column of the last value and of the mean, for every step.

    Examples
    --------
    >>> from mixlin.regressors import past_columns
    >>> columns, which = past_columns(4, 3, 2)
    >>> columns.T.tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5]]
    >>> which.tolist()
    [[0, 0, 0], [1, 2, 1]]
    """
    last = np.zeros((lookback, 1))
    last[-1] = 1.0
    steps = np.arange(horizon)
    if period is None:
        means, phase = np.full((lookback, 1), 1.0 / lookback), 0 * steps
    else:
        phase, cycles = steps % period, lookback // period
        means = np.zeros((lookback, min(period, horizon)))
        for p in range(means.shape[1]):
            means[lookback - cycles * period + p :: period, p] = 1.0 / cycles
    return np.concatenate([last, means], axis=1), np.stack([0 * steps, 1 + phase])


@dataclass(frozen=True, eq=False)
class Regressors:
    """What regressors add to the forecasts of every channel and step.

    Parameters
    ----------
    future : array of shape (C, K, horizon)
        Coefficients of a regressor at the step that is forecast.
    past : array of shape (J, C, K, horizon)
        Coefficients of what :attr:`columns` make of its rows in the window: past effects that are
        taken back.
    columns : array of shape (J, lookback, horizon)
    center : array of shape (K,)
        Where regressors are measured from.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.regressors import Regressors
    >>> made = Regressors(
    ...     np.full((1, 1, 2), 3.0), np.full((1, 1, 1, 2), -1.0), np.ones((1, 1, 2)), np.zeros(1)
    ... )
    >>> made.values(np.array([[[1.0, 0.0, 1.0]]])).tolist()  # one row of the window, two steps
    [[[-1.0, 2.0]]]
    """

    future: FloatArray
    past: FloatArray
    columns: FloatArray
    center: FloatArray

    def values(self, exog: npt.NDArray[np.floating]) -> FloatArray:
        """Return what is added to forecasts.

        Parameters
        ----------
        exog : array of shape (n_windows, K, lookback + n_steps)
            Regressors in the rows of every window, and in the ``n_steps`` that are forecast.

        Returns
        -------
        array of shape (n_windows, C, n_steps)
        """
        u = np.asarray(exog, dtype=np.float64) - self.center[:, None]
        L = self.columns.shape[1]
        n = u.shape[2] - L
        out = np.einsum("nkh,ckh->nch", u[:, :, L:], self.future[:, :, :n], optimize=True)
        for coef, columns in zip(self.past, self.columns, strict=True):
            seen = u[:, :, :L] @ columns[:, :n]
            out += np.einsum("nkh,ckh->nch", seen, coef[:, :, :n], optimize=True)
        return np.asarray(out)

    def on_window(self, channel: int) -> FloatArray:
        """Return a channel's coefficients on the rows of the window and the steps.

        Parameters
        ----------
        channel : int

        Returns
        -------
        array of shape (K, lookback + horizon, horizon)
        """
        _, L, H = self.columns.shape
        out = np.zeros((self.future.shape[1], L + H, H))
        for coef, columns in zip(self.past, self.columns, strict=True):
            out[:, :L] += columns * coef[channel, :, None]
        steps = np.arange(H)
        out[:, L + steps, steps] = self.future[channel]
        return out

    @classmethod
    def averaged(cls, parts: list[Regressors], shares: npt.NDArray[Any]) -> Regressors:
        """Average over models of different lookbacks.

        Parameters
        ----------
        parts : list of Regressors
            With the same regressors and centers.
        shares : array of shape (n_parts,)

        Returns
        -------
        Regressors
            Of the longest lookback.
        """
        longest = max(part.columns.shape[1] for part in parts)
        kept = [(part, share) for part, share in zip(parts, shares, strict=True) if share > 0]
        padded = [
            np.pad(part.columns, ((0, 0), (longest - part.columns.shape[1], 0), (0, 0)))
            for part, _ in kept
        ]
        return cls(
            np.asarray(sum(share * part.future for part, share in kept)),
            np.concatenate([share * part.past for part, share in kept]),
            np.concatenate(padded),
            parts[0].center,
        )
