"""Intervals and quantiles of forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import poch, stdtr, stdtrit
from scipy.stats import norm

FloatArray = npt.NDArray[np.float64]

_REACH = 16.0  # spreads from the mean that the tables of Student's t cover
_PER_UNIT = 64  # knots of the tables in one spread
_NORMAL_DEGREES = 1e9  # beyond, Student's t is the normal distribution in double precision
_LIGHT_TAILS = 30.0  # degrees from which nothing lies beyond the tables
_BLOCK_TERMS = 2**14  # values of single experts that are worked on at a time: they stay in cache
_NEGLIGIBLE = 1e-9  # share of the outermost quantile level below which a weight is left out
_SHARP = 1e-9  # share of the mixture's spread that no expert's spread falls below
_TOLERANCE = 1e-7  # error of a quantile, in spreads of the mixture
_MAX_STEPS = 100


def check_quantiles(quantiles: npt.ArrayLike) -> list[float]:
    """Return quantile levels as a list of floats.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)

    Returns
    -------
    list of float

    Raises
    ------
    ValueError
        If there is none, or one does not lie strictly between 0 and 1.
    """
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    except (ValueError, TypeError):
        levels = np.empty(0)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be numbers between 0 and 1; got {quantiles!r}.")
    return [float(q) for q in levels]


def residual_quantiles(
    forecast: FloatArray, variance: FloatArray, quantiles: list[float]
) -> FloatArray:
    """Return normal quantiles around a forecast.

    Parameters
    ----------
    forecast : array of shape (n_windows, n_channels, horizon)
    variance : array of shape (n_channels, horizon)
        Variance of the training residuals, squared data units.
    quantiles : list of float

    Returns
    -------
    array of shape (n_windows, n_channels, horizon, n_quantiles)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.intervals import residual_quantiles
    >>> residual_quantiles(np.zeros((1, 1, 1)), np.ones((1, 1)), [0.05, 0.95]).round(2).tolist()
    [[[[-1.64, 1.64]]]]
    """
    spread = np.sqrt(variance)[None, :, :, None] * norm.ppf(quantiles)
    return np.asarray(forecast[..., None] + spread)


def student_mixture_quantiles(
    mean: npt.ArrayLike,
    spread: npt.ArrayLike,
    weights: npt.ArrayLike,
    degrees: npt.ArrayLike,
    quantiles: npt.ArrayLike,
) -> FloatArray:
    """Return quantiles of mixtures of Student's t distributions.

    Parameters
    ----------
    mean : array-like of shape (n_windows, n_experts, horizon)
        The experts' forecasts.
    spread : array-like of shape (n_windows, n_experts, horizon)
        Scales of the distributions (the standard deviation of a normal one), at least 0.
    weights : array-like of shape (n_windows, n_experts)
        At least 0; they are divided by their sum. What an expert of weight 0 says is not read.
    degrees : float or array-like of shape (n_windows,), or what broadcasts to \
            (n_windows, n_experts)
        Degrees of freedom, positive; infinity for normal distributions.
    quantiles : array-like of shape (n_quantiles,)

    Returns
    -------
    array of shape (n_windows, horizon, n_quantiles)
        To 1e-7 of the spread of the mixture. The mean where the spread is 0. NaN where a mean, a
        spread or a weight that counts is NaN.

    Raises
    ------
    ValueError
        If the shapes disagree, or a weight, a spread or a number of degrees is negative.

    Notes
    -----
    Halley's iteration on the distribution function, kept between the lowest and the highest
    quantile of the single experts. The distribution function is a Taylor polynomial about the
    nearest knot of a table, of an error near 1e-13.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.intervals import student_mixture_quantiles
    >>> mean = np.array([[[0.0], [4.0]]])
    >>> student_mixture_quantiles(
    ...     mean, np.ones((1, 2, 1)), [[0.5, 0.5]], degrees=50, quantiles=[0.1, 0.5, 0.9]
    ... ).round(2).tolist()
    [[[-0.85, 2.0, 4.85]]]
    """
    levels = check_quantiles(quantiles)
    m, s, w, df = _check_mixture(mean, spread, weights, degrees)
    n_windows, _, horizon = m.shape
    result = np.empty((n_windows, horizon, len(levels)))
    kinds, kind = np.unique(df, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    least = _NEGLIGIBLE * min(min(levels), 1.0 - max(levels))
    for number, degrees_of_kind in enumerate(kinds):
        students = _students(degrees_of_kind)
        rows = np.flatnonzero(kind == number)
        size = max(1, _BLOCK_TERMS // max(1, m.shape[1] * horizon))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            result[block] = _block_quantiles(m[block], s[block], w[block], least, students, levels)
    return result


def _check_mixture(
    mean: npt.ArrayLike, spread: npt.ArrayLike, weights: npt.ArrayLike, degrees: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the arrays of a mixture; degrees of shape (n_windows, n_experts or 1)."""
    m, s, w, df = (
        np.asarray(array, dtype=np.float64) for array in (mean, spread, weights, degrees)
    )
    if m.ndim != 3 or s.shape != m.shape or w.shape != m.shape[:2]:
        raise ValueError(
            "mean and spread must have shape (n_windows, n_experts, horizon) and weights shape "
            f"(n_windows, n_experts); got {m.shape}, {s.shape} and {w.shape}."
        )
    if (s < 0).any() or (w < 0).any() or not (df > 0).all():
        raise ValueError(
            "spread and weights must not be negative, and degrees must be positive numbers; check "
            "their values."
        )
    try:
        columns = df[:, None] if df.ndim == 1 else df
        np.broadcast_to(columns, w.shape)
        df = np.broadcast_to(columns, (len(w), columns.shape[-1] if columns.ndim else 1))
    except ValueError:
        raise ValueError(
            f"degrees must be a number or have shape ({len(w)},), ({len(w)}, {w.shape[1]}) or "
            f"(1, {w.shape[1]}); got {df.shape}."
        ) from None
    return m, s, w, np.minimum(df, _NORMAL_DEGREES)


@dataclass(frozen=True, eq=False)
class _Students:
    """Student's t distributions of the experts of a mixture, tabulated.

    ``distribution`` holds the distribution function at the knots of every distinct number of
    degrees, one after another, ``density`` the first Taylor coefficients of the density there;
    ``first`` is where each expert's middle knot is, ``bend`` the largest second derivative of its
    density.
    """

    degrees: FloatArray  # (n_experts or 1, 1)
    first: npt.NDArray[np.intp]  # (n_experts or 1, 1)
    bend: FloatArray  # (n_experts or 1, 1)
    distribution: FloatArray  # (n_degrees * n_knots,)
    density: FloatArray  # (4, n_degrees * n_knots)


def _students(degrees: FloatArray) -> _Students:
    """Tabulate distributions of shape (n_experts or 1,)."""
    distinct, which = np.unique(degrees, return_inverse=True)
    v = distinct[:, None]
    half = int(_REACH * _PER_UNIT)
    knots = np.arange(-half, half + 1) / _PER_UNIT
    lower = stdtr(v, knots[: half + 1])
    distribution = np.concatenate([lower, 1.0 - lower[:, -2::-1]], axis=1)
    t = np.broadcast_to(knots, distribution.shape)
    p = [_density(t, v)]
    bend = 1.0 + t * t / v
    for k in range(3):  # from (v + t^2) p' = -(v + 1) t p, power by power
        older = (1.0 + k / v) * p[-2] if k else 0.0
        p.append(-((1.0 + (2 * k + 1) / v) * t * p[-1] + older) / (bend * (k + 1)))
    return _Students(
        degrees=degrees[:, None],
        first=(which * len(knots)).astype(np.intp).reshape(-1, 1) + half,
        distribution=distribution.ravel(),
        bend=np.abs(2.0 * p[2]).max(axis=1)[which].reshape(-1, 1),
        density=np.stack([coefficient.ravel() for coefficient in p]),
    )


def _density(t: FloatArray, degrees: FloatArray) -> FloatArray:
    """Return the density of Student's t."""
    height = poch(degrees / 2.0, 0.5) / np.sqrt(np.pi * degrees)
    return np.asarray(height * np.exp(-0.5 * (degrees + 1.0) * np.log1p(t * t / degrees)))


def _block_quantiles(
    mean: FloatArray,
    spread: FloatArray,
    weights: FloatArray,
    least: float,
    students: _Students,
    levels: list[float],
) -> FloatArray:
    """Return quantiles of shape (n_windows, horizon, n_quantiles) of windows of equal degrees.

    Parameters
    ----------
    mean, spread : arrays of shape (n_windows, n_experts, horizon)
    weights : array of shape (n_windows, n_experts)
    least : float
        Weights of a smaller share do not count.
    """
    n_windows, n_experts, horizon = mean.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)
    weights = np.where(weights < least, 0.0, weights)
    n_counting = int((weights != 0.0).sum(axis=1).max())
    if len(students.degrees) == 1 and n_counting < n_experts:
        best = np.argsort(-weights, axis=1, kind="stable")[:, :n_counting]
        weights = np.take_along_axis(weights, best, axis=1)
        mean = np.take_along_axis(mean, best[:, :, None], axis=1)
        spread = np.take_along_axis(spread, best[:, :, None], axis=1)
    # one column for every window and step, one row for every expert
    w = np.repeat(weights.T, horizon, axis=1)
    m = np.ascontiguousarray(mean.transpose(1, 0, 2)).reshape(len(w), -1)
    s = np.ascontiguousarray(spread.transpose(1, 0, 2)).reshape(len(w), -1)
    w /= w.sum(axis=0)
    idle = w == 0.0
    if idle.any():
        m, s = np.where(idle, 0.0, m), np.where(idle, 0.0, s)
    center = np.einsum("ea,ea->a", w, m)
    offset = np.where(idle, 0.0, m - center)
    size = np.sqrt(np.einsum("ea,ea,ea->a", w, offset, offset) + np.einsum("ea,ea,ea->a", w, s, s))
    result = np.repeat(center[:, None], len(levels), axis=1)
    result[~np.isfinite(size)] = np.nan
    columns = np.flatnonzero(np.isfinite(size) & (size > 0.0))
    if len(columns):
        if len(columns) < len(size):
            w, offset, s = w[:, columns], offset[:, columns], s[:, columns]
        unit = size[columns]
        offset /= unit
        s = np.maximum(s / unit, _SHARP)
        for number, level in enumerate(levels):
            found = _roots(offset, s, w, level, students)
            result[columns, number] = center[columns] + unit * found
    return result.reshape(n_windows, horizon, len(levels))


def _roots(
    mean: FloatArray, spread: FloatArray, weights: FloatArray, level: float, students: _Students
) -> FloatArray:
    """Return one quantile of mixtures of mean 0 and spread about 1.

    Parameters
    ----------
    mean, spread, weights : arrays of shape (n_experts, n_mixtures)

    Returns
    -------
    array of shape (n_mixtures,)
    """
    quantile = stdtrit(students.degrees, level)
    single = mean + spread * quantile
    counts = weights > 0.0
    low = np.where(counts, single, np.inf).min(axis=0)
    high = np.where(counts, single, -np.inf).max(axis=0)
    x = np.clip(_first_guess(mean, spread, weights, float(np.median(quantile))), low, high)
    result = np.empty_like(x)
    active = np.arange(len(x))
    inverse = 1.0 / spread
    bound = np.einsum("ea,ea->a", weights, students.bend * inverse**3) / 6.0
    for number in range(_MAX_STEPS):
        below, density, slope = _evaluate(x, mean, inverse, weights, students)
        excess = below - level
        low, high = np.where(excess <= 0.0, x, low), np.where(excess >= 0.0, x, high)
        with np.errstate(all="ignore"):
            newton = excess / density
            curve = 0.5 * slope / density * newton
            following = x - newton / np.clip(1.0 - curve, 0.5, 2.0)
            # what the step leaves of the second order, and at most of the third
            error = 2.0 * curve * curve * np.abs(newton) + bound / density * np.abs(newton) ** 3
        inside = (following >= low) & (following <= high)
        done = (inside & (error < _TOLERANCE) & (np.abs(curve) < 0.25)) | (high - low < _TOLERANCE)
        halved = ~inside | ((number % 3 == 2) & ~done)  # a step may go to and fro for ever
        x = np.where(halved, 0.5 * (low + high), following)
        result[active[done]] = x[done]
        if done.all():
            return result
        if done.any():
            left = ~done
            active, x, low, high = active[left], x[left], low[left], high[left]
            bound = bound[left]
            mean, inverse, weights = mean[:, left], inverse[:, left], weights[:, left]
    result[active] = x
    return result


def _first_guess(
    mean: FloatArray, spread: FloatArray, weights: FloatArray, quantile: float
) -> FloatArray:
    """Return the quantiles of mixtures of mean 0 from their moments (Cornish and Fisher)."""
    square = mean * mean
    variance = spread * spread
    moment2 = np.einsum("ea,ea->a", weights, square + variance)
    scale = np.sqrt(moment2)
    skew = np.einsum("ea,ea,ea->a", weights, mean, square + 3.0 * variance) / (moment2 * scale)
    fourth = square * square + 6.0 * square * variance + 3.0 * variance * variance
    tails = np.einsum("ea,ea->a", weights, fourth) / (moment2 * moment2) - 3.0
    skew, tails = np.clip(skew, -1.0, 1.0), np.clip(tails, -1.0, 2.0)
    z = float(np.clip(quantile, -4.0, 4.0))
    bend = (z * z - 1.0) * skew / 6.0 + (z**3 - 3.0 * z) * tails / 24.0
    bend -= (2.0 * z**3 - 5.0 * z) * skew * skew / 36.0
    return np.asarray(scale * (quantile + bend))


def _evaluate(
    x: FloatArray, mean: FloatArray, inverse: FloatArray, weights: FloatArray, students: _Students
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distribution function of mixtures at x, the density and its slope.

    Parameters
    ----------
    x : array of shape (n_mixtures,)
    mean, inverse, weights : arrays of shape (n_experts, n_mixtures)
        ``inverse`` holds 1 / spread.
    """
    t = x - mean
    t *= inverse
    near = np.clip(t, -_REACH, _REACH)
    step = near * _PER_UNIT
    np.rint(step, out=step)
    knot = step.astype(np.intp)
    knot += students.first
    step *= 1.0 / _PER_UNIT
    np.subtract(near, step, out=step)
    p0, p1, p2, p3 = (np.take(coefficient, knot, mode="clip") for coefficient in students.density)
    below = np.take(students.distribution, knot, mode="clip")
    # the integral of the polynomial, the polynomial, and its derivative
    below += step * (p0 + step * (0.5 * p1 + step * ((1.0 / 3.0) * p2 + step * (0.25 * p3))))
    slope = p1 + step * (2.0 * p2 + step * (3.0 * p3))
    density = p0 + step * (p1 + step * (p2 + step * p3))
    if (students.degrees < _LIGHT_TAILS).any():
        far = np.flatnonzero(np.abs(t).ravel() > _REACH)
        if len(far):
            degrees = np.broadcast_to(students.degrees, t.shape).ravel()[far]
            there = t.ravel()[far]
            below.ravel()[far] = stdtr(degrees, there)
            density.ravel()[far] = p = _density(there, degrees)
            slope.ravel()[far] = -(degrees + 1.0) * there / (degrees + there * there) * p
    scaled = weights * inverse
    slope *= inverse
    return (
        np.einsum("ea,ea->a", weights, below),
        np.einsum("ea,ea->a", scaled, density),
        np.einsum("ea,ea->a", scaled, slope),
    )
