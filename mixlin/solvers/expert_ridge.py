"""Learning experts in closed form: every one on series brought to its period, near its prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ..experts import ExpertBank, detect_periods
from .gram import SeriesSums
from .window_source import WindowSource
from .window_sums import DenseSums

FloatArray = npt.NDArray[np.float64]

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, np.inf)
"""Of the pull to the prior, relative to what windows say; infinity keeps the prior."""

_SAME = 0.02  # share by which two periods of one season may differ
_SHRINK, _STRETCH = 0.125, 1.0  # factors beyond which a series shows nothing of another's
_SEGMENTS = 8  # of a series, in which its period is looked for
_SEGMENT_LENGTH = 1024
_FEWEST_WINDOWS = 32  # to learn from, and to choose on
_BLOCK_VALUES = 2**21  # of windows whose periods are looked for at a time


class Span(NamedTuple):
    """Which windows: those whose targets lie in a part of the rows of every series.

    Attributes
    ----------
    start, stop : float
        Shares of the rows, or of the windows where these came as arrays.
    context : bool
        Whether inputs may reach back before ``start``.
    """

    start: float = 0.0
    stop: float = 1.0
    context: bool = False


WHOLE = (Span(),)


class _Series(NamedTuple):
    """One channel of a series in units of its deviation, and what its windows weigh."""

    values: FloatArray
    weight: FloatArray | None
    period: float


class _Windows(NamedTuple):
    """One channel's windows in units of its deviation."""

    x: FloatArray
    y: FloatArray
    weight: FloatArray | None
    periods: FloatArray


class _Moments(NamedTuple):
    """Second moments of windows measured from the mean of their inputs."""

    gram: FloatArray
    cross: FloatArray
    target_square: FloatArray
    n: float


def dominant_period(values: FloatArray) -> float:
    """Return the period that most parts of a series show, 0 where none does.

    Parameters
    ----------
    values : array of shape (T,)
        NaN where a value is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.expert_ridge import dominant_period
    >>> dominant_period(np.sin(2 * np.pi * np.arange(3000) / 17))
    17.0
    """
    length = min(len(values), _SEGMENT_LENGTH)
    starts = np.unique(np.linspace(0, len(values) - length, _SEGMENTS).astype(int))
    found = detect_periods(np.stack([values[s : s + length] for s in starts]))
    return _most_common(found)


def _most_common(periods: FloatArray) -> float:
    period, votes = Counter(periods.tolist()).most_common(1)[0]
    return float(period) if 2 * votes >= len(periods) else 0.0


def resampled(values: FloatArray, factor: float) -> FloatArray:
    """Return a series with ``factor`` times as many values, which ends with the same one.

    Parameters
    ----------
    values : array of shape (T,)
        NaN where a value is missing, and between values of which one is.
    factor : float
        Straight lines lie between values where it is above one; below, values are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.expert_ridge import resampled
    >>> resampled(np.array([0.0, 1.0, 4.0]), 2.0).tolist()
    [0.0, 0.5, 1.0, 2.5, 4.0]
    """
    at = _places(len(values), factor)
    before = np.floor(at).astype(np.intp)
    after = np.minimum(before + 1, len(values) - 1)
    share = at - before
    moved = values[before] + share * (values[after] - values[before])
    return np.where(share > 0, moved, values[before])


def _places(length: int, factor: float) -> FloatArray:
    """Return where, among the values of a series, those of the resampled one lie."""
    n = int((length - 1) * factor) + 1
    return np.maximum(length - 1 - np.arange(n)[::-1] / factor, 0.0)


class ExpertLearner:
    """Ridge regressions of a bank's experts towards their prior matrices.

    Every expert learns from series that are resampled so that their dominant period becomes its
    own; experts without a season from all series as they are. Experts of one period share their
    moments. Windows that came as arrays are not resampled: they teach the experts of their own
    period.

    Parameters
    ----------
    source : WindowSource
    unit : array of shape (C,)
        What channels of windows are divided by; series are divided by their own deviations.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, seasonless_experts
    >>> from mixlin.solvers import WindowSource
    >>> from mixlin.solvers.expert_ridge import ExpertLearner
    >>> wave = np.sin(2 * np.pi * np.arange(300) / 17)[:, None]
    >>> learner = ExpertLearner(WindowSource.of_series(34, 2, [wave]), np.ones(1))
    >>> learner.new_periods(known=[7, 24], most=3)
    [17.0]
    >>> bank = seasonless_experts()
    >>> prior = BankMatrices(bank).predictors(34, 2).weights
    >>> weights = learner.solve(bank, prior, np.full(len(bank), 1e-6))
    >>> bool(np.allclose(np.einsum("th,teh->eh", wave[:34], weights), wave[34:36, 0], atol=1e-3))
    True
    """

    def __init__(self, source: WindowSource, unit: FloatArray) -> None:
        self.lookback, self.horizon = source.lookback, source.horizon
        self._series = list(_series_of(source))
        self._windows = list(_windows_of(source, unit))

    def new_periods(self, known: Sequence[float], most: int) -> list[float]:
        """Return periods of the data that a bank does not know, the most frequent first.

        Parameters
        ----------
        known : sequence of float
        most : int
        """
        found = [series.period for series in self._series]
        found += [_most_common(w.periods) for w in self._windows if len(w.periods)]
        strange = [p for p in found if p and not any(_is_same(p, k) for k in known)]
        return [period for period, _ in Counter(strange).most_common(most)]

    def choose(
        self,
        bank: ExpertBank,
        prior: FloatArray,
        steps: npt.NDArray[np.intp],
        validation: float,
        strengths: Sequence[float] = STRENGTHS,
    ) -> tuple[FloatArray, FloatArray]:
        """Choose how much every expert is pulled to its prior, on held-out rows.

        Parameters
        ----------
        bank : ExpertBank
        prior : array of shape (lookback, E, n_steps)
        steps : array of int of shape (n_steps,)
            Places in the horizon that errors are compared at.
        validation : float
            Share of the last rows.
        strengths : sequence of float

        Returns
        -------
        strengths : array of shape (E,)
            Infinite where there is too little to choose on.
        weights : array of shape (lookback, E, n_steps)
            Fitted without the held-out rows.
        """
        border = 1.0 - validation
        chosen = np.full(len(bank), np.inf)
        weights: FloatArray = prior.copy()
        for period, experts in _groups_of(bank):
            moments = self._moments(period, [Span(0.0, border)])
            held_out = self._moments(period, [Span(border, 1.0, context=True)])
            if min(moments.n, held_out.n) < _FEWEST_WINDOWS:
                continue
            own = weights[:, experts]
            best = np.full(len(experts), np.inf)
            for strength in strengths:
                tried = _solved(moments, own, steps, strength)
                errors = _errors(held_out, tried, steps)
                better = errors < best
                best[better], chosen[experts[better]] = errors[better], strength
                weights[:, experts[better]] = tried[:, better]
        return chosen, weights

    def solve(
        self,
        bank: ExpertBank,
        prior: FloatArray,
        strengths: FloatArray,
        steps: npt.NDArray[np.intp] | None = None,
        spans: Sequence[Span] = WHOLE,
    ) -> FloatArray:
        """Fit the experts.

        Parameters
        ----------
        bank : ExpertBank
        prior : array of shape (lookback, E, n_steps)
        strengths : array of shape (E,)
        steps : array of int of shape (n_steps,), optional
            Places in the horizon; all by default.
        spans : sequence of Span
            That windows are taken from.

        Returns
        -------
        array of shape (lookback, E, n_steps)
        """
        wanted = np.arange(self.horizon) if steps is None else steps
        weights: FloatArray = prior.copy()
        for period, experts in _groups_of(bank):
            if not np.isfinite(strengths[experts]).any():
                continue
            moments = self._moments(period, spans)
            for strength in np.unique(strengths[experts]):
                some = experts[strengths[experts] == strength]
                weights[:, some] = _solved(moments, weights[:, some], wanted, float(strength))
        return weights

    def _moments(self, period: float, spans: Sequence[Span]) -> _Moments:
        """Return the moments of what teaches the experts of a period (0 for none)."""
        L, H = self.lookback, self.horizon
        plain, weighted = SeriesSums(L, H, np.zeros(1)), DenseSums(L, H, np.zeros(1))
        for series, span in product(self._series, spans):
            _add_series(series, period, span, plain, weighted)
        for windows, span in product(self._windows, spans):
            teaches = np.ones(len(windows.x), dtype=bool)
            if period:
                teaches = np.array([_factor(p, period) == 1.0 for p in windows.periods], dtype=bool)
            some = np.flatnonzero(teaches)
            some = some[_part(len(some), span, H)]
            weight = None if windows.weight is None else windows.weight[some]
            weighted.add(windows.x[some, None], windows.y[some, None], weight)
        total, n = np.zeros((L + H, L + H)), 0.0
        for sums in (plain, weighted):
            if sums.n_windows.any():
                total += _from_mean(sums.moments(np.ones(1), np.zeros(1), np.array([0])), L)
                n += float(sums.n_windows[0])
        return _Moments(total[:L, :L], total[:L, L:], np.diagonal(total)[L:].copy(), n)


def _add_series(
    series: _Series, period: float, span: Span, plain: SeriesSums, weighted: DenseSums
) -> None:
    """Add the windows of a series, resampled, to one of two sums."""
    L, length = plain.lookback, plain.lookback + plain.horizon
    factor = _factor(series.period, period)
    if factor is None:
        return
    start, stop = (round(share * len(series.values)) for share in (span.start, span.stop))
    first = max(0, start - int(np.ceil(L / factor))) if span.context else start
    values = series.values[first:stop]
    if len(values) < 2 or int((len(values) - 1) * factor) + 1 < length:
        return
    moved = values if factor == 1.0 else resampled(values, factor)
    if series.weight is None:
        plain.add(moved[:, None])
        return
    at = np.rint(_places(len(values), factor)[: len(moved) - length + 1]).astype(np.intp)
    last = len(series.weight) - 1
    weighted.add_series(moved[:, None], series.weight[np.minimum(first + at, last)])


def _groups_of(bank: ExpertBank) -> list[tuple[float, npt.NDArray[np.intp]]]:
    """Return the first periods of experts, 0 for none, and who has them."""
    first = [expert.periods[0] if expert.periods else 0.0 for expert in bank]
    return [(period, np.flatnonzero([p == period for p in first])) for period in sorted({*first})]


def _series_of(source: WindowSource) -> Iterator[_Series]:
    if source.windows is not None:
        return
    for i, rows in enumerate(source.series):
        weight = None if source.weight is None else np.asarray(source.weight[i], dtype=np.float64)
        for channel in np.asarray(rows, dtype=np.float64).T:
            seen = channel[~np.isnan(channel)]
            deviation = seen.std() if len(seen) else 0.0
            if deviation > 0:
                values = (channel - seen.mean()) / deviation
                yield _Series(values, weight, dominant_period(values))


def _windows_of(source: WindowSource, unit: FloatArray) -> Iterator[_Windows]:
    if source.windows is None:
        return
    x, y = (np.asarray(part, dtype=np.float64)[source.places[:, 1]] for part in source.windows)
    weight = None
    if source.weight is not None:
        weight = np.asarray(source.weight, dtype=np.float64)[source.places[:, 1]]
    for c, one in enumerate(unit):
        inputs, targets = x[:, c] / one, y[:, c] / one
        level = inputs.mean(axis=1, keepdims=True)
        inputs, targets = inputs - level, targets - level
        whole = np.concatenate([inputs, targets], axis=1)
        size = max(1, _BLOCK_VALUES // whole.shape[1])
        found = [detect_periods(whole[i : i + size]) for i in range(0, len(whole), size)]
        yield _Windows(inputs, targets, weight, np.concatenate([np.empty(0), *found]))


def _part(n: int, span: Span, horizon: int) -> slice:
    """Return which of n windows in order a span means; neighbors share targets."""
    start, stop = round(span.start * n), round(span.stop * n)
    gap = min(horizon - 1, (stop - start) // 4)
    return slice(
        start + (gap if start and not span.context else 0), stop - (gap if stop < n else 0)
    )


def _is_same(period: float, other: float) -> bool:
    return abs(period - other) <= _SAME * other


def _factor(period: float, wanted: float) -> float | None:
    """Return how a series of a period is resampled for an expert's, None where it teaches none."""
    if not wanted:
        return 1.0
    if not period:
        return None
    if _is_same(period, wanted):
        return 1.0
    factor = wanted / period
    return factor if _SHRINK <= factor <= _STRETCH else None


def _from_mean(moments: FloatArray, lookback: int) -> FloatArray:
    """Return the moments of (x, y) measured from the mean of x, from those of (x, y, 1)."""
    plain = moments[:-1, :-1]
    with_mean = plain[:, :lookback].mean(axis=1)
    square = with_mean[:lookback].mean()
    return np.asarray(plain - with_mean - with_mean[:, None] + square)


def _solved(
    moments: _Moments, prior: FloatArray, steps: npt.NDArray[np.intp], strength: float
) -> FloatArray:
    """Return the ridge solutions (L, E, n_steps) near priors of that shape."""
    L, n_experts, n_steps = prior.shape
    size = float(np.trace(moments.gram)) / L
    if not np.isfinite(strength) or not size > 0:
        return prior
    penalty = strength * size
    system = moments.gram.copy()
    system[np.diag_indices(L)] += penalty
    factor = linalg.cho_factor(system, overwrite_a=True)
    right = moments.cross[:, None, steps] + penalty * prior
    solved = linalg.cho_solve(factor, right.reshape(L, -1), overwrite_b=True)
    return np.asarray(solved).reshape(L, n_experts, n_steps)


def _errors(moments: _Moments, weights: FloatArray, steps: npt.NDArray[np.intp]) -> FloatArray:
    """Return the squared errors (E,) of experts' matrices (L, E, n_steps), summed."""
    L = len(weights)
    moved = (moments.gram @ weights.reshape(L, -1)).reshape(weights.shape)
    moved -= 2.0 * moments.cross[:, None, steps]
    return np.asarray(np.einsum("leh,leh->e", weights, moved) + moments.target_square[steps].sum())
