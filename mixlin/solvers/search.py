"""Losses on held-out windows of whole paths of penalties, from sums over windows alone.

One lookback and one rate of forgetting are a group. With the eigenvectors Q of a Gram matrix A of
the training windows, held-out loss of ``W0 + Q diag(1 / (lam + alpha)) Q'(B - A W0)`` is a
quadratic form in ``1 / (lam + alpha)``, O(lookback^2) for every penalty. What a channel has of its
own is a second such correction, in the basis of its own Gram matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from .exact import has_waves
from .gram import SeriesSums
from .ridge import pseudo_inverse, strength_of
from .seasonal_prior import PriorFeatures, prior_coefficients
from .window_sums import WindowSums

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_KEPT_BYTES = 2**29  # moments of channels that are kept between passes, else made again
_BLOCK_BYTES = 2**27


@dataclass(frozen=True)
class SearchGrid:
    """Penalties to try.

    Parameters
    ----------
    alphas : tuple of float
        Of what the shared matrix adds to the prior; infinity for nothing.
    betas : tuple of float
        Of channels' own corrections, empty for shared weights alone.
    kappas : tuple of float
        Of channels' own prior coefficients.
    corrected : tuple of int
        Which ``alphas`` are tried with corrections.
    """

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    kappas: tuple[float, ...]
    corrected: tuple[int, ...]


class GroupLosses(NamedTuple):
    """Mean squared errors on held-out windows, in scaled units.

    Attributes
    ----------
    shared : array of shape (n_kappas, n_alphas)
        Without corrections of channels.
    own : array of shape (n_kappas, n_corrected, n_betas)
    """

    shared: FloatArray
    own: FloatArray


class _Moments(NamedTuple):
    """Moments of windows measured from their level, per window: of some channels."""

    gram: FloatArray  # (k, L, L)
    cross: FloatArray  # (k, L, H)
    square: FloatArray  # (k,) sum over steps of the targets' squares


@dataclass(frozen=True, eq=False)
class GroupSearch:
    """The search of one group.

    Parameters
    ----------
    training, held_out : WindowSums
        Of the same lookback and horizon; no scale feature.
    scale : array of shape (C,)
        Channels are divided by it.
    functional : array of shape (lookback,)
        Weights of the window's level, which sum to one.
    features : PriorFeatures or None
        What weights are shrunk towards; zero if None.
    channels : array of int
        That change and have windows in both.
    n_jobs : int
        Threads.
    """

    training: WindowSums
    held_out: WindowSums
    scale: FloatArray
    functional: FloatArray
    features: PriorFeatures | None
    channels: IntArray
    n_jobs: int = 1

    def losses(self, grid: SearchGrid) -> GroupLosses:
        """Return the held-out losses of a grid.

        Parameters
        ----------
        grid : SearchGrid

        Returns
        -------
        GroupLosses
        """
        if not grid.betas and (self.features is None or all(map(np.isinf, grid.kappas))):
            return GroupLosses(self._pooled_losses(grid), np.empty((len(grid.kappas), 0, 0)))
        blocks = _Blocks(self)
        shared, deltas, coefs = self._shared(blocks, grid)
        own = np.zeros((len(grid.kappas), len(grid.corrected), len(grid.betas)))
        if grid.betas:
            weight = self._weights(self.held_out)
            for at, train, held in blocks.pairs():
                run = Parallel(n_jobs=self.n_jobs, prefer="threads")
                found = run(
                    delayed(self._own)(
                        train, held, i, coefs[:, at + i], deltas, grid, self._variance[at + i]
                    )
                    for i in range(len(train.square))
                )
                own += np.tensordot(weight[at : at + len(found)], np.array(found), 1)
        return GroupLosses(shared, own)

    def _weights(self, sums: WindowSums) -> FloatArray:
        n = sums.n_windows[self.channels]
        return np.asarray(n / n.sum())

    @cached_property
    def _variance(self) -> FloatArray:
        """Variance of the inputs of every channel, in scaled units, which penalties relate to."""
        variance = self.training.input_variance() / self.scale**2
        return np.asarray(variance[self.channels])

    def _penalties(self, alphas: tuple[float, ...]) -> FloatArray:
        unit = float(self._weights(self.training) @ self._variance)
        return np.array([strength_of(alpha, unit) for alpha in alphas])

    # -- shared weights --------------------------------------------------------------------

    def _pooled_losses(self, grid: SearchGrid) -> FloatArray:
        """Return the losses of shared weights under a shared prior: no channel by itself."""
        train, held = self._pooled(self.training), self._pooled(self.held_out)
        basis = _Basis.of(train.gram[0], held.gram[0])
        cross, held_cross = train.cross[0], held.cross[0]
        square = float(held.square[0])
        if self.features is not None:
            left, right = self.features.normal(train.gram[0], cross)
            coef = prior_coefficients(left[None], right[None], np.ones(1), np.inf)[0]
            w0 = self.features.matrix(coef)
            moved = held.gram[0] @ w0
            square += float((w0 * (moved - 2 * held_cross)).sum())
            cross, held_cross = cross - train.gram[0] @ w0, held_cross - moved
        alphas = self._penalties(grid.alphas)
        path = basis.path(basis.turned(cross), basis.turned(held_cross), square, alphas)
        return np.repeat(path[None] / cross.shape[1], len(grid.kappas), axis=0)

    def _pooled(self, sums: WindowSums) -> _Moments:
        """Return the moments of all channels together, per window."""
        channels = self.channels
        moments = sums.moments(self.scale[channels], np.zeros(len(channels)), channels)[None]
        if has_waves(self.training):
            for c in channels:
                moments[0] -= self._explained(sums, int(c))
        return self._measured(sums, moments, np.array([sums.n_windows[channels].sum()]))

    def _shared(
        self, blocks: _Blocks, grid: SearchGrid
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return losses of shared corrections, the corrections, and the prior's coefficients.

        Returns
        -------
        losses : array of shape (n_kappas, n_alphas)
        deltas : array of shape (n_kappas, n_corrected, lookback, horizon)
        coefs : array of shape (n_kappas, n_channels, n_features)
        """
        L, H = self.training.lookback, self.training.horizon
        C, features = len(self.channels), self.features
        w_train, w_held = self._weights(self.training), self._weights(self.held_out)
        gram, held_gram = np.zeros((L, L)), np.zeros((L, L))
        cross, held_cross, square = np.zeros((L, H)), np.zeros((L, H)), 0.0
        m = 0 if features is None else len(features.which)
        left, right = np.zeros((C, m, m)), np.zeros((C, m))
        for at, train, held in blocks.pairs():
            k = len(train.square)
            w, v = w_train[at : at + k], w_held[at : at + k]
            gram += np.tensordot(w, train.gram, 1)
            cross += np.tensordot(w, train.cross, 1)
            held_gram += np.tensordot(v, held.gram, 1)
            held_cross += np.tensordot(v, held.cross, 1)
            square += float(v @ held.square)
            if features is not None:
                for i in range(k):
                    left[at + i], right[at + i] = features.normal(train.gram[i], train.cross[i])
        basis = _Basis.of(gram, held_gram)
        coefs = np.zeros((len(grid.kappas), C, m))
        for k, kappa in enumerate(grid.kappas):
            coefs[k] = prior_coefficients(left, right, w_train, kappa)
        left_over = np.repeat(cross[None], len(grid.kappas), axis=0)
        held_over = np.repeat(held_cross[None], len(grid.kappas), axis=0)
        squares = np.full(len(grid.kappas), square)
        if features is not None:
            self._take_prior_off(blocks, coefs, left_over, held_over, squares)
        losses = np.zeros((len(grid.kappas), len(grid.alphas)))
        deltas = np.zeros((len(grid.kappas), len(grid.corrected), L, H))
        alphas = self._penalties(grid.alphas)
        for k in range(len(grid.kappas)):
            turned = basis.turned(left_over[k])
            path = basis.path(turned, basis.turned(held_over[k]), squares[k], alphas)
            losses[k] = path / H
            for j, a in enumerate(grid.corrected):
                if np.isfinite(grid.alphas[a]):
                    d = basis.inverse(alphas[a : a + 1])[0]
                    deltas[k, j] = basis.vectors @ (turned * d[:, None])
        return losses, deltas, coefs

    def _take_prior_off(
        self,
        blocks: _Blocks,
        coefs: FloatArray,
        left_over: FloatArray,
        held_over: FloatArray,
        squares: FloatArray,
    ) -> None:
        """Take what the channels' priors forecast off the pooled moments, in place."""
        features = self.features
        assert features is not None
        w_train, w_held = self._weights(self.training), self._weights(self.held_out)
        for at, train, held in blocks.pairs():
            for i in range(len(train.square)):
                known, held_known = (
                    train.gram[i] @ features.columns,
                    held.gram[i] @ features.columns,
                )
                for k, coef in enumerate(coefs[:, at + i]):
                    w0, moved = features.matrix(coef), features.combined(held_known, coef)
                    left_over[k] -= w_train[at + i] * features.combined(known, coef)
                    held_over[k] -= w_held[at + i] * moved
                    squares[k] += w_held[at + i] * float((w0 * (moved - 2 * held.cross[i])).sum())

    # -- channels' own corrections ---------------------------------------------------------

    def _own(
        self,
        train: _Moments,
        held: _Moments,
        i: int,
        coefs: FloatArray,
        deltas: FloatArray,
        grid: SearchGrid,
        variance: float,
    ) -> FloatArray:
        """Return the losses of one channel, (n_kappas, n_corrected, n_betas)."""
        H = train.cross.shape[2]
        basis = _Basis.of(train.gram[i], held.gram[i])
        cross, held_cross = basis.turned(train.cross[i]), basis.turned(held.cross[i])
        columns = moved_columns = None
        if self.features is not None:
            columns = basis.turned(self.features.columns)
            moved_columns = basis.held @ columns
        out = np.empty((len(coefs), len(grid.corrected), len(grid.betas)))
        for k, coef in enumerate(coefs):
            left, over, square = cross, held_cross, float(held.square[i])
            if columns is not None and moved_columns is not None and self.features is not None:
                w0 = self.features.combined(columns, coef)
                moved = self.features.combined(moved_columns, coef)
                square += float((w0 * (moved - 2 * held_cross)).sum())
                left, over = left - basis.values[:, None] * w0, over - moved
            for j, a in enumerate(grid.corrected):
                own_left, own_over, own_square = left, over, square
                if np.isfinite(grid.alphas[a]):
                    delta = basis.turned(deltas[k, j])
                    moved = basis.held @ delta
                    own_square += float((delta * (moved - 2 * over)).sum())
                    own_left = left - basis.values[:, None] * delta
                    own_over = over - moved
                path = basis.path(own_left, own_over, own_square, np.array(grid.betas) * variance)
                out[k, j] = path / H
        return out

    # -- moments ---------------------------------------------------------------------------

    def moments_of(self, channels: IntArray) -> tuple[_Moments, _Moments]:
        """Return the moments of channels, each by itself: of training and of held-out windows."""
        out = []
        for sums in (self.training, self.held_out):
            moments = sums.each_moments(self.scale[channels], np.zeros(len(channels)), channels)
            if has_waves(self.training):
                for i, c in enumerate(channels):
                    moments[i] -= self._explained(sums, int(c))
            out.append(self._measured(sums, moments, sums.n_windows[channels]))
        return out[0], out[1]

    def _explained(self, sums: WindowSums, c: int) -> FloatArray:
        """Return what calendar terms fitted to the training windows change in moments."""
        train = self.training
        assert isinstance(train, SeriesSums)
        assert isinstance(sums, SeriesSums)

        def scaled(cross: FloatArray) -> FloatArray:
            cross[:, :-1] /= self.scale[c]
            return cross

        cross, gram = train.waves(c)
        cross = scaled(cross)
        terms = pseudo_inverse(gram) @ cross
        if sums is train:
            return np.asarray(cross.T @ terms)
        held_cross, held_gram = sums.waves(c)
        product = terms.T @ scaled(held_cross)
        return np.asarray(product + product.T - terms.T @ held_gram @ terms)

    def _measured(self, sums: WindowSums, moments: FloatArray, n: FloatArray) -> _Moments:
        """Take the windows' level off, and divide by the number of windows."""
        L, M = sums.lookback, sums.lookback + sums.horizon
        gram = moments[:, :M, :M]
        g = gram[:, :, :L] @ self.functional
        inner = g[:, :L] @ self.functional
        gram -= g[:, None, :]
        gram -= g[:, :, None]
        gram += inner[:, None, None]
        gram /= n[:, None, None]
        square = np.einsum("kii->k", gram[:, L:, L:])
        return _Moments(gram[:, :L, :L], gram[:, :L, L:], square)


class _Blocks:
    """Moments of channels, some at a time; kept between passes where memory allows."""

    def __init__(self, search: GroupSearch) -> None:
        self._search = search
        each = 16 * search.training.width**2
        self._size = max(1, _BLOCK_BYTES // each)
        self._kept: list[tuple[int, _Moments, _Moments]] | None = None
        self._keeps = each * len(search.channels) <= _KEPT_BYTES

    def pairs(self) -> Iterator[tuple[int, _Moments, _Moments]]:
        """Yield the place of the first channel, its training and its held-out moments."""
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for at in range(0, len(self._search.channels), self._size):
            found = (at, *self._search.moments_of(self._search.channels[at : at + self._size]))
            if self._keeps:
                kept.append(found)
            yield found
        if self._keeps:
            self._kept = kept


class _Basis(NamedTuple):
    """Eigenvectors of a Gram matrix, and held-out moments in their coordinates."""

    values: FloatArray
    vectors: FloatArray
    held: FloatArray

    @classmethod
    def of(cls, gram: FloatArray, held: FloatArray) -> _Basis:
        values, vectors = np.linalg.eigh(gram)  # unlike scipy's, beside other threads
        return cls(np.maximum(values, 0.0), vectors, vectors.T @ held @ vectors)

    def turned(self, matrix: FloatArray) -> FloatArray:
        return np.asarray(self.vectors.T @ matrix)

    def inverse(self, penalties: FloatArray) -> FloatArray:
        """Return ``1 / (values + penalty)``, for the solution of least norm without a penalty."""
        with np.errstate(divide="ignore"):
            d = 1.0 / (self.values + penalties[:, None])
        floor = len(self.values) * np.finfo(np.float64).eps * self.values[-1]
        return np.where((penalties[:, None] == 0) & (self.values <= floor), 0.0, d)

    def path(
        self, cross: FloatArray, held: FloatArray, square: float, penalties: FloatArray
    ) -> FloatArray:
        """Return squared errors, summed over steps, of ridge solutions.

        Parameters
        ----------
        cross, held : array of shape (lookback, horizon)
            What is left to explain, of training and of held-out windows, turned.
        square : float
            Held-out error of no correction.
        penalties : array of shape (n_penalties,)
        """
        inner = self.held * (cross @ cross.T)
        line = (cross * held).sum(axis=1)
        d = self.inverse(penalties)
        return np.asarray(square - 2 * d @ line + np.einsum("ai,ai->a", d @ inner, d))
