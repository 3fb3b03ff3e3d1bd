"""Fitting a gate that is linear in its features to what every expert loses, by convex descent."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

FloatArray = npt.NDArray[np.float64]

_NEAR = 1e-5  # gradient from where Newton's method is faster than L-BFGS
_NEWTON_STEPS = 30
_CONJUGATE_STEPS = 200  # per step of Newton's method
_TINY = float(np.finfo(np.float64).tiny)


def soft_targets(losses: FloatArray, log_priors: FloatArray, exponent: float) -> FloatArray:
    """Return the gates that losses ask for: prior times ``loss ** -exponent``, summing to one.

    Parameters
    ----------
    losses : array of shape (N, E)
    log_priors : array of shape (E,)
    exponent : float

    Returns
    -------
    array of shape (N, E)

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers.spectral import soft_targets
    >>> soft_targets(np.array([[1.0, 2.0]]), np.zeros(2), 2.0).tolist()
    [[0.8, 0.2]]
    """
    logits = log_priors - exponent * np.log(np.maximum(losses, _TINY))
    return np.asarray(softmax(logits, axis=1))


def fit_spectral_layer(
    features: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    log_priors: npt.ArrayLike | None = None,
    exponent: float = 1.0,
    ridge: float = 1e-4,
    start: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    sample_weight: npt.ArrayLike | None = None,
    max_iter: int = 500,
    tolerance: float = 1e-11,
) -> tuple[FloatArray, FloatArray]:
    """Fit the layer from features to logits whose softmax follows what every expert loses.

    Minimized is the mean cross entropy between :func:`soft_targets` and the gates, plus
    ``ridge / 2`` times the squared distance of weight and bias from where they start. That is
    strictly convex: the solution does not depend on the way there.

    Parameters
    ----------
    features : array-like of shape (N, F)
    losses : array-like of shape (N, E)
        Of every expert on every row; not negative.
    log_priors : array-like of shape (E,), optional
        Zero by default.
    exponent : float, default=1.0
        How sharply losses are told apart.
    ridge : float, default=1e-4
        Positive.
    start : tuple of array-like of shape (F, E) and (E,), optional
        Weight and bias that the ridge pulls to: zero and the log priors by default.
    sample_weight : array-like of shape (N,), optional
    max_iter : int, default=500
        Steps of L-BFGS, which Newton's method follows.
    tolerance : float, default=1e-11
        Of the gradient's largest entry, in coordinates in which the curvature is about one.

    Returns
    -------
    weight : array of shape (F, E)
    bias : array of shape (E,)

    Raises
    ------
    ValueError
        If shapes don't fit together, a loss is negative or not finite, or the ridge not positive.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.solvers import fit_spectral_layer
    >>> features = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> losses = np.array([[1.0, 3.0], [2.0, 1.0]])
    >>> weight, bias = fit_spectral_layer(features, losses, ridge=1e-6)
    >>> odds = np.exp(features @ weight + bias)
    >>> (odds / odds.sum(axis=1, keepdims=True)).round(3).tolist()
    [[0.75, 0.25], [0.333, 0.667]]
    """
    p, loss, priors, weight = _checked(features, losses, log_priors, sample_weight)
    if not exponent >= 0 or not 0 < ridge < np.inf:
        raise ValueError(
            f"exponent must not be negative and ridge must be positive; got exponent={exponent!r} "
            f"and ridge={ridge!r}."
        )
    n_features, n_experts = p.shape[1], loss.shape[1]
    begin = np.concatenate([np.zeros((n_features, n_experts)), priors[None]])
    if start is not None:
        given = [np.asarray(part, dtype=np.float64) for part in start]
        if given[0].shape != (n_features, n_experts) or given[1].shape != (n_experts,):
            raise ValueError(
                f"start must be a weight of shape ({n_features}, {n_experts}) and a bias of shape "
                f"({n_experts},); got {given[0].shape} and {given[1].shape}."
            )
        begin = np.concatenate([given[0], given[1][None]])
    rows = np.concatenate([p, np.ones((len(p), 1))], axis=1)
    targets = soft_targets(loss, priors, exponent)
    fit = _Fit(rows, rows @ begin, targets, weight / weight.sum(), ridge)
    change = fit.change(max_iter, tolerance)
    return begin[:-1] + change[:-1], begin[-1] + change[-1]


def _checked(
    features: npt.ArrayLike,
    losses: npt.ArrayLike,
    log_priors: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    p, loss = np.asarray(features, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if p.ndim != 2 or loss.ndim != 2 or len(p) != len(loss) or not len(p):
        raise ValueError(
            "features must be (n_rows, n_features) and losses (n_rows, n_experts), of as many rows "
            f"and at least one; got {p.shape} and {loss.shape}."
        )
    if not np.isfinite(p).all() or not np.isfinite(loss).all() or (loss < 0).any():
        raise ValueError(
            "features and losses must be finite and losses not negative. Leave out rows that an "
            "expert has no loss on."
        )
    shapes = {"log_priors": (log_priors, loss.shape[1]), "sample_weight": (sample_weight, len(p))}
    found = []
    for name, (value, size) in shapes.items():
        neutral = 0.0 if name == "log_priors" else 1.0
        array = np.full(size, neutral) if value is None else np.asarray(value, dtype=np.float64)
        if array.shape != (size,) or not np.isfinite(array).all():
            raise ValueError(f"{name} must be {size} finite numbers; got shape {array.shape}.")
        found.append(array)
    if (found[1] < 0).any() or not found[1].any():
        raise ValueError("sample_weight must not be negative, and not zero everywhere.")
    return p, loss, found[0], found[1]


class _At(NamedTuple):
    """What is known at a point: the cost, its gradient, and the gates times the rows' weights."""

    cost: float
    slope: FloatArray
    gates: FloatArray


class _Fit:
    """The cost of a change of the layer, in coordinates in which its curvature is about one.

    Were rows and targets independent, the curvature would be the product of two: that of the rows'
    second moments, and that of the targets as shares, ``E[diag(t) - t t']``. A change is
    ``Q (d * v) U'``, with the principal directions of the two.

    Parameters
    ----------
    rows : array of shape (N, F)
    base : array of shape (N, E)
        Logits before any change.
    targets : array of shape (N, E)
    weight : array of shape (N,)
        Summing to one.
    ridge : float
    """

    def __init__(
        self,
        rows: FloatArray,
        base: FloatArray,
        targets: FloatArray,
        weight: FloatArray,
        ridge: float,
    ) -> None:
        self._base, self._weight = base, weight[:, None]
        self._targets = targets * self._weight
        moments, self._directions = np.linalg.eigh((rows * self._weight).T @ rows)
        shares = np.diag(self._targets.sum(axis=0)) - targets.T @ self._targets
        curvature, self._contrasts = np.linalg.eigh(shares)
        self._rows = rows @ self._directions
        data = np.maximum(moments, 0.0)[:, None] * np.maximum(curvature, 0.0)
        self._unit = 1.0 / np.sqrt(data + ridge)
        self._pull = ridge * self._unit**2

    def change(self, max_iter: int, tolerance: float) -> FloatArray:
        """Return the best change (F, E)."""
        shape = self._unit.shape

        def cost(flat: FloatArray) -> tuple[float, FloatArray]:
            found = self._at(flat.reshape(shape))
            return found.cost, found.slope.ravel()

        enough = max(tolerance, _NEAR)
        options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": enough, "ftol": 0.0}
        begin = np.zeros(self._unit.size)
        done = minimize(cost, begin, jac=True, method="L-BFGS-B", options=options)
        v = np.asarray(done.x).reshape(shape)
        # the cost is known to 16 digits, which settles v to 8; its gradient settles the others
        here = self._at(v)
        for _ in range(_NEWTON_STEPS):
            if np.abs(here.slope).max() <= tolerance:
                break
            step, length = self._solved(here), 1.0
            there = self._at(v - step)
            while np.linalg.norm(there.slope) >= np.linalg.norm(here.slope) and length > 1e-3:
                length /= 2
                there = self._at(v - length * step)
            v, here = v - length * step, there
        if np.abs(here.slope).max() > tolerance:
            warnings.warn(
                f"the gate was fitted to a gradient of {np.abs(here.slope).max():.1e} instead of "
                f"{tolerance:.1e}. Raise max_iter, ridge or tolerance.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return np.asarray(self._directions @ (self._unit * v) @ self._contrasts.T)

    def _logits(self, v: FloatArray) -> FloatArray:
        """Return what v adds to logits (N, E)."""
        return np.asarray(self._rows @ ((self._unit * v) @ self._contrasts.T))

    def _backwards(self, slope: FloatArray) -> FloatArray:
        """Return the derivative by v from that by logits."""
        return np.asarray(self._unit * ((self._rows.T @ slope) @ self._contrasts))

    def _at(self, v: FloatArray) -> _At:
        logits = self._base + self._logits(v)
        logits -= logits.max(axis=1, keepdims=True)
        gates = np.exp(logits)
        total = gates.sum(axis=1, keepdims=True)
        cost = float((self._weight * np.log(total)).sum() - (self._targets * logits).sum())
        gates *= self._weight / total
        slope = self._backwards(gates - self._targets) + self._pull * v
        return _At(cost + 0.5 * float((self._pull * v * v).sum()), slope, gates)

    def _curved(self, here: _At, v: FloatArray) -> FloatArray:
        """Return the product of the second derivative with v."""
        moved = self._logits(v)
        mean = (here.gates * moved).sum(axis=1, keepdims=True) / np.maximum(self._weight, _TINY)
        return np.asarray(self._backwards(here.gates * (moved - mean)) + self._pull * v)

    def _solved(self, here: _At) -> FloatArray:
        """Return the step of Newton's method, by conjugate gradients."""
        step = np.zeros_like(here.slope)
        left, toward = here.slope.copy(), here.slope.copy()
        square = float((left * left).sum())
        enough = 1e-8 * square
        for _ in range(_CONJUGATE_STEPS):
            curved = self._curved(here, toward)
            length = square / float((toward * curved).sum())
            step += length * toward
            left -= length * curved
            before, square = square, float((left * left).sum())
            if square <= enough:
                break
            toward = left + square / before * toward
        return step
