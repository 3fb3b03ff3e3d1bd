"""Mixtures whose gates are fixed and smooth in the time of day or week: one linear solve.

With a gate that is a trigonometric polynomial of degree J in a phase that grows evenly, all
moments follow from the 2 J + 1 complex Gram matrices ``S_m = sum_t exp(i m t) z_t z_t'``. Each
obeys ``S[i + 1, j + 1] = exp(-i m w) (S[i, j] - e_0 z[i] z[j] + e_N z[N + i] z[N + j])``, with w
the phase of a step, and so costs no more than a first row and a recursion, however long the series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import fft, ifft, next_fast_len

from ..layers import Layer
from ..mixture import Mixture
from ..routing import Gate, PeriodicRouter, Router
from .alternating import STRENGTHS, CorrectionSolver
from .corrections import CorrectionSpace, Moments, moments_of, most_coordinates
from .mixture_task import MixtureTask
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

_MOST_STRETCHES = 64  # per channel; where gaps cut a series into more, windows are cut out of it
_EVEN = 1e-6  # radians by which the phase of a step may differ from that of others


class FixedGatesSolver(CorrectionSolver):
    """Experts for fixed gates, smooth and evenly spaced over the day, the week or the year.

    The estimator's ``router`` is not used: gates are those of
    :class:`~mixlin.routing.PeriodicRouter`. All corrections are solved at once, from Gram matrices
    whose cost does not depend on the length of the series; the strength of their shrinkage, and
    whether they pay at all, is chosen on held-out windows.

    Parameters
    ----------
    period : {"day", "week", "year"}, default="day"
    n_harmonics : int, optional
        Harmonics of the gates, fewer than experts; ``(n_experts - 1) // 2`` by default, at least
        one.
    strength : float or sequence of float, default=(0.001, 0.003, ..., 10)
        Ridge penalty on the corrections, relative to the number of windows and the variance of
        the channels; several are chosen from on held-out windows.
    fewer_experts : bool, default=True
        Whether the single expert may be chosen instead.
    min_gain : float, default=0.01
        Share of the single expert's held-out error by which the mixture must be better to be
        chosen; it must also exceed its standard error over spans of ``lookback + horizon``
        windows. With fewer than three such spans held out no mixture is chosen.
    validation : float or int, default=0.2
        Share, or number, of the last rows of every series (of the last windows, for arrays) that
        are held out to choose on.
    refit : bool, default=True
        Whether experts are solved again on all data after the choice.
    n_coordinates : int, default=64
        Principal directions of the windows that corrections live in, at most.

    Notes
    -----
    On an interrupt (Ctrl-C) the search stops with a warning. The best mixture so far is kept if it
    would have been chosen, else the exact single expert.

    Examples
    --------
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.datasets import make_seasonal
    >>> from mixlin.solvers import FixedGatesSolver
    >>> load = make_seasonal(24 * 200, as_frame=True, random_state=0).frame
    >>> solver = FixedGatesSolver(strength=0.1, fewer_experts=False)
    >>> model = MoLEForecaster(48, 24, n_experts=3, solver=solver).fit(load)
    >>> model.expert_usage_.round(3).tolist()
    [0.333, 0.333, 0.333]
    """

    def __init__(
        self,
        period: str = "day",
        n_harmonics: int | None = None,
        *,
        strength: float | Sequence[float] = STRENGTHS,
        fewer_experts: bool = True,
        min_gain: float = 0.01,
        validation: float | int = 0.2,
        refit: bool = True,
        n_coordinates: int = 64,
    ) -> None:
        self.period = period
        self.n_harmonics = n_harmonics
        self.strength = strength
        self.fewer_experts = fewer_experts
        self.min_gain = min_gain
        self.validation = validation
        self.refit = refit
        self.n_coordinates = n_coordinates

    def check(self) -> None:
        super().check()
        PeriodicRouter((self.n_harmonics or 1) + 1, self.period, self.n_harmonics).check()

    def router_for(self, router: Router, n_experts: int) -> Router:
        return PeriodicRouter(n_experts, self.period, self.n_harmonics)

    def _gates(
        self, task: MixtureTask, training: WindowSource, start: Mixture, numbers: list[int]
    ) -> tuple[CorrectionSpace, dict[str, Gate]]:
        if task.top_k is not None and task.top_k < task.n_experts:
            raise ValueError(
                f"top_k={task.top_k} would cut the smooth gates of FixedGatesSolver. Leave top_k "
                "at None, or use solver='alternating'."
            )
        space = CorrectionSpace.of(
            start,
            task.scale,
            training,
            fit_intercept=task.fit_intercept,
            most=most_coordinates(task.n_experts, 1, self.n_coordinates),
        )
        gate = Gate(task.router, (Layer(np.eye(task.n_experts)[None]),))
        return space, {f"{task.n_experts} experts, fixed": gate}

    def _moments(
        self, source: WindowSource, space: CorrectionSpace, gates: list[Gate]
    ) -> list[Moments]:
        if not _even_weights(source):
            return moments_of(source, space, gates)
        found = []
        for gate in gates:
            router = gate.router
            assert isinstance(router, PeriodicRouter)
            stretches = list(even_stretches(source, router))
            if len(stretches) > _MOST_STRETCHES * source.n_channels:
                return moments_of(source, space, gates)
            found.append(harmonic_moments(source, space, router, stretches))
        return found


class Stretch(NamedTuple):
    """Consecutive windows of a channel whose phase grows evenly."""

    channel: int
    values: Float64Array  # all that the windows read
    first: float  # phase of the first window
    step: float
    weight: float


def _even_weights(source: WindowSource) -> bool:
    """Whether windows come from series, each with one weight."""
    if source.windows is not None:
        return False
    weight = source.weight
    return weight is None or all(not len(w) or np.ptp(w) == 0 for w in weight)


def even_stretches(source: WindowSource, router: PeriodicRouter) -> Iterator[Stretch]:
    """Cut series into stretches without gaps whose phase grows evenly.

    Parameters
    ----------
    source : WindowSource
        Of series.
    router : PeriodicRouter
    """
    if source.windows is not None:
        return
    L, length = source.lookback, source.lookback + source.horizon
    for i in np.unique(source.places[:, 0]):
        starts = source.places[source.places[:, 0] == i, 1]
        values = source.series[i]
        missing = np.isnan(values)
        weight = 1.0 if source.weight is None else float(source.weight[i][0])
        phase = router.phases(source.stamps[i][starts + L])
        steps = np.angle(np.exp(1j * np.diff(phase)))
        usual = float(np.median(steps)) if len(steps) else 0.0
        joined = (np.diff(starts) == 1) & (np.abs(steps - usual) < _EVEN)
        for c in range(values.shape[1]):
            before = np.concatenate([[0], np.cumsum(missing[:, c])])
            free = before[starts + length] == before[starts]
            follows = joined & free[1:] & free[:-1]
            edges = np.flatnonzero(~np.concatenate([[False], follows, [False]]))
            for begin, end in pairwise(edges):
                if free[begin]:
                    rows = slice(starts[begin], starts[end - 1] + length)
                    own = np.asarray(values[rows, c], dtype=np.float64)
                    yield Stretch(c, own, float(phase[begin]), usual, weight)


def harmonic_moments(
    source: WindowSource,
    space: CorrectionSpace,
    router: PeriodicRouter,
    stretches: list[Stretch],
) -> Moments:
    """Return the moments of all windows for fixed gates, without cutting windows.

    Parameters
    ----------
    source : WindowSource
    space : CorrectionSpace
    router : PeriodicRouter
    stretches : list of Stretch

    Returns
    -------
    Moments
    """
    L, H = source.lookback, source.horizon
    J, K, q = router.degree, router.n_experts, space.n_coordinates
    gram = np.zeros((2 * J + 1, q, q), dtype=np.complex128)
    cross = np.zeros((J + 1, q, H), dtype=np.complex128)
    square, n = 0.0, 0.0
    for alike in _alike(space, source, stretches):
        inputs, outputs = _maps(space, alike[0].channel, H)
        both = np.concatenate([inputs, outputs], axis=1)
        measured = [_measured(space, s, L, H) for s in alike]
        bias = np.array([_bias(space, s.channel, H) for s in alike])  # channels have their own
        for m in range(2 * J + 1):
            sums, lines = _wave_sums(alike, measured, m, L + H)
            product = sums @ both
            gram[m] += inputs.T @ product[:, :q]
            if m <= J:
                cross[m] += inputs.T @ (product[:, q:] - lines.T @ bias)
            if m == 0:
                square += float(np.einsum("ah,ah->", outputs, product[:, q:].real))
                square -= 2 * float(np.einsum("sh,sh->", bias, lines.real @ outputs))
                square += float(lines[:, -1].real @ (bias * bias).sum(axis=1))
                n += float(sums[-1, -1].real)
    # products of gates are trigonometric polynomials of twice the degree
    a = router.amplitudes()
    joint = np.zeros((K, q, K, q))
    for k in range(K):
        for other in range(k, K):
            product = np.convolve(a[k], a[other])[2 * J :]  # degrees 0 ... 2 J
            product[1:] *= 2
            block = np.tensordot(product, gram, axes=1).real
            joint[k, :, other], joint[other, :, k] = block, block.T
    linear = a[:, J:].copy()
    linear[:, 1:] *= 2
    both = np.tensordot(linear, cross, axes=1).real
    return Moments(joint.reshape(1, K * q, K * q), both.reshape(1, K * q, H), square, n)


def _alike(
    space: CorrectionSpace, source: WindowSource, stretches: list[Stretch]
) -> Iterator[list[Stretch]]:
    """Yield stretches whose sums may be added: of one step, of channels that share their maps."""
    start = space.start
    shared = len(start.weights) == 1
    if start.scale_coef is not None:
        shared = shared and len(start.scale_coef) == 1
    found: dict[tuple[int, float], list[Stretch]] = {}
    for s in stretches:
        if source.active is None or source.active[s.channel]:
            found.setdefault((0 if shared else s.channel, s.step), []).append(s)
    yield from found.values()


def _measured(
    space: CorrectionSpace, stretch: Stretch, lookback: int, horizon: int
) -> tuple[Float64Array, Float64Array | None]:
    """Return a stretch in units of its channel, and the scale of its windows if there is one."""
    start, c = space.start, stretch.channel
    reference = start.reference[min(c, len(start.reference) - 1)]
    v = (stretch.values - reference) / space.scale[c]
    if start.scale_coef is None:
        return v, None
    eps = np.broadcast_to(start.normalization.eps, (len(space.scale),))[c]
    return v, _window_scale(v, lookback, horizon, eps / space.scale[c] ** 2)


def _maps(space: CorrectionSpace, channel: int, horizon: int) -> tuple[Float64Array, Float64Array]:
    """Return what turns the coordinates (x, y, scale, 1) into inputs and residuals with bias."""
    start, L = space.start, space.start.lookback
    level = start.normalization.functional(L)
    normalized = np.eye(L) - level[:, None]
    q = space.basis.shape[1]
    inputs = np.zeros((L + horizon + 2, space.n_coordinates))
    inputs[:L, :q] = normalized @ space.basis / space.unit
    outputs = np.zeros((L + horizon + 2, horizon))
    outputs[:L] = -normalized @ start.weights[min(channel, len(start.weights) - 1), 0]
    outputs[:L] -= level[:, None]
    outputs[L : L + horizon] = np.eye(horizon)
    if start.scale_coef is not None:
        inputs[-2, q] = 1.0 / space.unit
        outputs[-2] = -start.scale_coef[min(channel, len(start.scale_coef) - 1), 0]
    if space.fit_intercept:
        inputs[-1, -1] = 1.0
    return inputs, outputs


def _bias(space: CorrectionSpace, channel: int, horizon: int) -> Float64Array:
    """Return the constant of a channel in its units, which residuals are measured without."""
    bias = space.start.bias
    if bias is None:
        return np.zeros(horizon)
    return np.asarray(bias[min(channel, len(bias) - 1), 0] / space.scale[channel])


def _window_scale(v: Float64Array, lookback: int, horizon: int, eps: float) -> Float64Array:
    """Return the scale of every window of a stretch, shape (N,)."""
    seen = np.lib.stride_tricks.sliding_window_view(v[: len(v) - horizon], lookback)
    size = max(1, 2**22 // lookback)
    parts = [seen[at : at + size].var(axis=1) for at in range(0, len(seen), size)]
    return np.asarray(np.sqrt(np.concatenate(parts) + eps))


def _wave_sums(
    stretches: list[Stretch],
    measured: list[tuple[Float64Array, Float64Array | None]],
    m: int,
    length: int,
) -> tuple[ComplexArray, ComplexArray]:
    """Return the sum over windows of ``exp(i m phase) z z'``, with ``z = (x, y, scale, 1)``.

    Parameters
    ----------
    stretches : list of Stretch
        Of one step.
    measured : list of (array of shape (N + M - 1,), array of shape (N,) or None)
        N windows of M values, and their scales.
    m : int
    length : int
        M.

    Returns
    -------
    sums : array of shape (M + 2, M + 2)
    lines : array of shape (n_stretches, M + 2)
        The last row of the sums of every stretch.
    """
    M = length
    lines = np.zeros((len(stretches), M + 2), dtype=np.complex128)
    out = np.zeros((M + 2, M + 2), dtype=np.complex128)
    gram, step = out[:M, :M], np.exp(1j * m * stretches[0].step)
    powers = step ** np.arange(M)
    ends = np.zeros((M - 1, M - 1), dtype=np.complex128)
    for own, stretch, (v, scale) in zip(lines, stretches, measured, strict=True):
        N = len(v) - M + 1
        wave = np.exp(1j * m * (stretch.first + stretch.step * np.arange(N + 1)))
        wave *= stretch.weight
        head, tail = v[: M - 1], v[N:]
        ends += np.outer(wave[N] * tail, tail) - np.outer(wave[0] * head, head)
        gram[0] += _correlated(wave[:N] * v[:N], v, M)
        unwound = powers[:-1] * (wave[N] * tail - wave[0] * head)
        line = np.concatenate([[0.0], np.cumsum(unwound)]) + wave[:N] @ v[:N]
        own[:M] = line * np.conj(powers)
        own[-1] = wave[:N].sum()
        if scale is not None:
            out[-2, :M] += _correlated(wave[:N] * scale, v, M)
            out[-2, -2] += wave[:N] @ scale**2
            own[-2] = wave[:N] @ scale
    turn = np.conj(step)
    for i in range(M - 1):
        np.add(gram[i, i:-1], ends[i, i:], out=gram[i + 1, i + 1 :])
        gram[i + 1, i + 1 :] *= turn
    lower = np.tril_indices(M, -1)
    gram[lower] = gram.T[lower]
    out[:M, -2] = out[-2, :M]
    out[-1] = out[:, -1] = lines.sum(axis=0)
    return out, lines


def _correlated(rows: ComplexArray, v: Float64Array, length: int) -> ComplexArray:
    """Return ``sum_t rows_t v_(t + j)`` for j = 0 ... length - 1."""
    n_fft = next_fast_len(len(v))
    found: ComplexArray = ifft(np.conj(fft(np.conj(rows), n_fft)) * fft(v, n_fft))[:length]
    return found
