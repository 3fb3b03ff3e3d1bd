"""The matrices of a bank of prior experts: for any lookback, horizon and pattern of gaps."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from ..gates import is_count
from ..threads import single_threaded
from .bank import ExpertBank
from .gaps import BoolArray, ImputingWalk, ObservedSystem, SingularError, Steps, observed_span
from .kernels import FloatArray
from .matrix_cache import MemoryCache, file_name, read_arrays, write_arrays
from .precision import Precision
from .recursion import IntArray, LevelSystem, Walk, solve_systems
from .whitening import Whitening, whiten

_T = TypeVar("_T")

_CHUNK = 32  # experts that share a pass: their rows of the recursion stay in the processor's cache
_WORTH_THREADS = 10_000_000  # numbers a pass goes through from where a second thread pays
_FORMAT = 1  # of files of matrices


@dataclass(frozen=True, eq=False)
class Predictors:
    """The linear forecasts of every expert of a bank, and their variances.

    Parameters
    ----------
    weights : array of shape (n, E, M)
        Weights of the n values of a window, oldest first, for each of the M steps; zero where a
        value is missing. They sum to one over the values. ``weights.reshape(1, n, E * M)`` is
        no copy.
    variance : array of shape (E, M)
        Of the forecast's error, as a multiple of the scale that the expert finds in a series.
    steps : array of shape (M,)
        How many steps ahead, from 1.
    """

    weights: FloatArray
    variance: FloatArray
    steps: IntArray

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return int(self.weights.nbytes + self.variance.nbytes + self.steps.nbytes)


class BankMatrices:
    """What a bank of experts computes with: made when it is asked for, and kept.

    All results are shared with later calls: do not write to them.

    Parameters
    ----------
    bank : ExpertBank
    n_jobs : int, default=2
        Threads that share the experts.
    cache_dir : str or path, optional
        Folder in which predictors are kept for other processes. Pays for lookbacks of several
        thousands and for gaps; others are made as fast as they are read.
    cache_bytes : int, default=2**30
        Memory for what was used last. The predictors of E experts take ``8 * lookback * E *
        steps`` bytes: 100 MB for 1024 values, 127 experts and 96 steps.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.experts import BankMatrices, default_bank
    >>> matrices = BankMatrices(default_bank()[:2])
    >>> predictors = matrices.predictors(lookback=48, horizon=3)
    >>> predictors.weights.shape
    (48, 2, 3)
    >>> square = np.tile([0.0, 0.0, 1.0, 1.0], 12)
    >>> np.einsum("t,teh->eh", square, predictors.weights).round(1).tolist()
    [[0.0, 0.0, 1.0], [0.1, 0.1, 1.0]]
    """

    def __init__(
        self,
        bank: ExpertBank,
        *,
        n_jobs: int = 2,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int = 2**30,
    ) -> None:
        self.bank = bank
        self.n_jobs = n_jobs
        self.cache_dir = cache_dir
        self.cache_bytes = cache_bytes
        self._cache = MemoryCache(cache_bytes)

    def __reduce__(self) -> Any:
        # a copy starts with nothing made
        return _remade, (self.bank, self.n_jobs, self.cache_dir, self.cache_bytes)

    # -----------------------------------------------------------------------------------------
    # forecasts

    def predictors(
        self,
        lookback: int,
        horizon: int,
        *,
        steps: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
    ) -> Predictors:
        """Return the forecasts of every expert as matrices.

        Parameters
        ----------
        lookback : int
            Number of values of a window, at least 1.
        horizon : int
            Number of steps to forecast, at least 1. For thousands of steps at once see
            :meth:`predictor_blocks`.
        steps : array of int of shape (M,), optional
            Which steps of the horizon, increasing, from 1; all of them by default. Time goes with
            the last one, memory with their number.
        mask : array of bool of shape (lookback,), optional
            True where a value was observed; all of them by default. The forecast conditions on
            exactly these.

        Returns
        -------
        Predictors

        Raises
        ------
        ValueError
            If a number, the steps or the mask is out of range, or nothing was observed; or if an
            expert's covariances are not those of a process to working precision.
        """
        wanted = _checked_steps(lookback, horizon, steps)
        seen = _checked_mask(mask, lookback)
        key = ("predictors", lookback, wanted.tobytes(), b"" if seen is None else seen.tobytes())
        return self._cache.get(key, lambda: self._from_file(lookback, wanted, seen))

    def predictor_blocks(
        self,
        lookback: int,
        horizon: int,
        *,
        size: int = 96,
        mask: npt.ArrayLike | None = None,
    ) -> Iterator[Predictors]:
        """Yield the forecasts of a long horizon a few steps at a time; none are kept.

        Parameters
        ----------
        lookback, horizon, mask
            See :meth:`predictors`.
        size : int, default=96
            Steps of a block; its weights take ``8 * lookback * E * size`` bytes.

        Yields
        ------
        Predictors
            Of steps 1 ... size, size + 1 ... 2 size, and so on.
        """
        wanted = _checked_steps(lookback, horizon, None)
        _check_count("size", size)
        seen = _checked_mask(mask, lookback)
        works = self._share(
            _passes(self.bank, lookback, horizon),
            [delayed(self._steps)(part, lookback, horizon, seen) for part in self._parts],
        )
        for begin in range(0, horizon, size):
            block = wanted[begin : begin + size]
            yield self._advance(works.__getitem__, lookback, block, seen)

    def _from_file(self, lookback: int, steps: IntArray, mask: BoolArray | None) -> Predictors:
        if self.cache_dir is None:
            return self._made(lookback, steps, mask)
        seen = None if mask is None else mask.tobytes()
        experts = [(expert.terms, expert.noise) for expert in self.bank]
        name = file_name(_FORMAT, experts, lookback, steps.tolist(), seen)
        path = Path(self.cache_dir) / name
        shape = (len(self.bank), len(steps))
        arrays = read_arrays(path, {"weights": (lookback, *shape), "variance": shape})
        if arrays is None:
            made = self._made(lookback, steps, mask)
            write_arrays(path, {"weights": made.weights, "variance": made.variance})
            return made
        return Predictors(arrays["weights"], arrays["variance"], steps)

    def _made(self, lookback: int, steps: IntArray, mask: BoolArray | None) -> Predictors:
        def work(i: int) -> Steps:
            return self._steps(self._parts[i], lookback, int(steps[-1]), mask)

        return self._advance(work, lookback, steps, mask)

    def _steps(self, part: slice, lookback: int, last: int, mask: BoolArray | None) -> Steps:
        """Return what writes the predictors of a few experts, for the observed span."""
        span = observed_span(mask, lookback)
        n = span.stop - span.start
        k = self._covariances(part, n, lookback - span.start + last)
        seen = None if mask is None or mask[span].all() else mask[span]
        if seen is None:
            return Walk(self._system(part, n), k)
        try:
            if 2 * seen.sum() < n:
                return ObservedSystem(k, seen)
            return ImputingWalk(self._system(part, n), k, seen)
        except SingularError as error:
            raise self._degenerate(part.start + error.expert) from error

    def _advance(
        self,
        work: Callable[[int], Steps],
        lookback: int,
        steps: IntArray,
        mask: BoolArray | None,
    ) -> Predictors:
        span = observed_span(mask, lookback)
        weights = np.empty((lookback, len(self.bank), len(steps)))
        variance = np.empty((len(self.bank), len(steps)))
        weights[: span.start] = 0.0
        weights[span.stop :] = 0.0
        # values missing at the end are steps of the horizon that nobody asks for
        ahead = steps + (lookback - span.stop)

        def fill(i: int) -> None:
            part = self._parts[i]
            work(i).advance(ahead, weights[span, part], variance[part])

        passes = _passes(self.bank, lookback, int(steps[-1]))
        self._share(passes, [delayed(fill)(i) for i in range(len(self._parts))])
        return Predictors(weights, variance, steps)

    # -----------------------------------------------------------------------------------------
    # windows

    def precision(self, expert: int, lookback: int) -> Precision:
        """Return what an expert says about the values of a window.

        Parameters
        ----------
        expert : int
            Its place in the bank.
        lookback : int
            Number of values, at least 1.

        Returns
        -------
        Precision

        Raises
        ------
        ValueError
            If there is no such expert, or the lookback is out of range; see also
            :meth:`predictors`.
        """
        if not 0 <= expert < len(self.bank):
            raise ValueError(
                f"expert must be a place in a bank of {len(self.bank)}, from 0; got {expert!r}."
            )
        _check_count("lookback", lookback)
        part = self._parts[expert // _CHUNK]

        def make() -> Precision:
            return Precision.of_system(self._system(part, lookback), expert - part.start)

        return self._cache.get(("precision", int(expert), int(lookback)), make)

    def whitening(self, lookback: int) -> Whitening:
        """Return what turns windows into one-step forecast errors, for the evidence.

        Parameters
        ----------
        lookback : int
            Number of values, at least 2.

        Returns
        -------
        Whitening
            Takes ``8 * E * lookback ** 2`` bytes: 266 MB for 512 values and 127 experts.

        Raises
        ------
        ValueError
            If the lookback is shorter than 2; see also :meth:`predictors`.
        """
        _check_count("lookback", lookback, least=2)

        def make() -> Whitening:
            n_experts = len(self.bank)
            weights = np.empty((n_experts, lookback, lookback - 1))

            def fill(part: slice) -> FloatArray:
                with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                    return whiten(self._covariances(part, lookback, lookback), weights[part])

            passes = _passes(self.bank, lookback, lookback)
            constants = self._share(passes, [delayed(fill)(part) for part in self._parts])
            made = Whitening(weights, np.concatenate(constants))
            if not np.isfinite(made.constants).all():
                raise self._degenerate(int(np.isfinite(made.constants).argmin()))
            return made

        return self._cache.get(("whitening", int(lookback)), make)

    def kept(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what was made for a key, made if it is not there.

        Parameters
        ----------
        key : hashable
        make : callable
            Takes nothing and returns something with ``nbytes``.
        """
        return self._cache.get(key, make)

    # -----------------------------------------------------------------------------------------
    # parts of the bank

    @property
    def _parts(self) -> list[slice]:
        n_experts = len(self.bank)
        return [slice(i, min(i + _CHUNK, n_experts)) for i in range(0, n_experts, _CHUNK)]

    def _covariances(self, part: slice, lookback: int, n: int) -> FloatArray:
        # what grows has the constant of this lookback: the horizon must not move a digit
        return np.stack([x.covariances(n, lookback + 1) for x in self.bank[part]], axis=1)

    def _system(self, part: slice, lookback: int) -> LevelSystem:
        def make() -> LevelSystem:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                system = solve_systems(self._covariances(part, lookback, lookback + 1))
            sound = np.isfinite(system.log_determinant) & (system.energy > 0)
            if not sound.all():
                raise self._degenerate(part.start + int(sound.argmin()))
            return system

        return self._cache.get(("system", part.start, int(lookback)), make)

    def _degenerate(self, expert: int) -> ValueError:
        return ValueError(
            f"the covariances of the expert {self.bank[expert].name!r} are too close to singular "
            "for float64: its noise is too small beside its other terms. Give it more, for "
            "example a millionth of their variance."
        )

    def _share(self, passes: int, jobs: list[Any]) -> list[Any]:
        """Run jobs on several threads where there is enough to do."""
        with single_threaded():
            if len(jobs) == 1 or passes < _WORTH_THREADS:
                return [function(*args, **kwargs) for function, args, kwargs in jobs]
            done: list[Any] = Parallel(n_jobs=self.n_jobs, backend="threading")(jobs)
        return done


def _remade(
    bank: ExpertBank, n_jobs: int, cache_dir: str | os.PathLike[str] | None, cache_bytes: int
) -> BankMatrices:
    return BankMatrices(bank, n_jobs=n_jobs, cache_dir=cache_dir, cache_bytes=cache_bytes)


def _passes(bank: ExpertBank, lookback: int, steps: int) -> int:
    return lookback * len(bank) * (lookback + steps)


def _check_count(name: str, value: Any, least: int = 1) -> None:
    if not is_count(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")


def _checked_steps(lookback: int, horizon: int, steps: npt.ArrayLike | None) -> IntArray:
    _check_count("lookback", lookback)
    _check_count("horizon", horizon)
    if steps is None:
        return np.arange(1, horizon + 1, dtype=np.int64)
    given = np.asarray(steps)
    is_whole = given.ndim == 1 and given.size and given.dtype.kind in "iu"
    if not is_whole or given[0] < 1 or given[-1] > horizon or (np.diff(given) <= 0).any():
        raise ValueError(
            f"steps must be increasing whole numbers between 1 and the horizon of {horizon}; got "
            f"{steps!r}. Leave them out for all steps."
        )
    return given.astype(np.int64)


def _checked_mask(mask: npt.ArrayLike | None, lookback: int) -> BoolArray | None:
    if mask is None:
        return None
    given = np.asarray(mask)
    if given.dtype != np.bool_ or given.shape != (lookback,):
        raise ValueError(
            f"mask must be a boolean array of shape ({lookback},), True where a value was "
            f"observed; got dtype {given.dtype} and shape {given.shape}."
        )
    if not given.any():
        raise ValueError(
            "mask must be True at least once: without any observed value an expert has no level "
            "to forecast from."
        )
    return None if given.all() else given
