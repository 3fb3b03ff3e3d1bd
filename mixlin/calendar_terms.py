"""Additive calendar terms: waves of known periods with coefficients for every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def wave_frequencies(periods: tuple[float, ...], n_harmonics: int) -> FloatArray:
    """Return the frequencies of the harmonics of periods, without repetitions.

    Parameters
    ----------
    periods : tuple of float
        In rows, longer than 1.
    n_harmonics : int
        Of every period; those faster than two rows are left out.

    Returns
    -------
    array of shape (F,)
        Radians per row.

    Examples
    --------
    >>> from mixlin.calendar_terms import wave_frequencies
    >>> (wave_frequencies((4, 2), 2) / 3.141592653589793).round(3).tolist()
    [0.5, 1.0]
    """
    found: list[float] = []
    for period in periods:
        for j in range(1, n_harmonics + 1):
            w = 2 * np.pi * j / period
            if w <= np.pi * (1 + 1e-12) and all(abs(w - other) > 1e-9 for other in found):
                found.append(w)
    return np.array(found)


@dataclass(frozen=True, eq=False)
class CalendarTerms:
    """What the phase of a window's last input adds to every step of its forecast.

    Parameters
    ----------
    frequencies : array of shape (F,)
        Radians per row.
    coef : array of shape (1 or C, 2 F, horizon)
        Of ``cos(w t)``, all frequencies, then of ``sin(w t)``; t is the ordinal of the last input
        row, counted as in :meth:`mixlin.timestamps.TimeIndex.ordinal`.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.calendar_terms import CalendarTerms
    >>> terms = CalendarTerms(np.array([np.pi / 2]), np.ones((1, 2, 1)))
    >>> terms.values(np.array([0.0, 1.0, 2.0])).round(6).ravel().tolist()
    [1.0, 1.0, -1.0]
    """

    frequencies: FloatArray
    coef: FloatArray

    def values(self, ordinals: FloatArray) -> FloatArray:
        """Return the terms of windows.

        Parameters
        ----------
        ordinals : array of shape (n_windows,)

        Returns
        -------
        array of shape (n_windows, 1 or C, horizon)
        """
        angle = np.outer(ordinals, self.frequencies)
        columns = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(np.einsum("nz,gzh->ngh", columns, self.coef, optimize=True))
