"""The protocol that every compute engine implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Tensor = Any
"""What a backend computes on: an ndarray, a torch.Tensor, a tile tensor."""


class BackendNotAvailableError(ImportError):
    """The package or the device behind a backend is missing."""


class BackendMemoryError(MemoryError):
    """The memory of a backend's device is exhausted."""


def require_bins(length: int, n_bins: int) -> None:
    """Refuse fewer bins of :meth:`Backend.power` than rows of ``length`` values need."""
    if length > 2 * n_bins:
        raise ValueError(
            f"power needs n_bins >= {-(-length // 2)} for rows of length {length}; got "
            f"n_bins={n_bins}."
        )


def require_fold(length: int, lookback: int, horizon: int) -> None:
    """Refuse contexts of ``length`` values that hold no fold of :meth:`Backend.backtest`."""
    if length < lookback + horizon:
        raise ValueError(
            f"backtest needs contexts of at least lookback + horizon = {lookback + horizon} "
            f"values; got {length}. Use shorter experts or a longer context."
        )


def fold_steps(n_steps: int, ahead: Sequence[int] | None) -> tuple[int, ...]:
    """Return which steps of a fold's horizon :meth:`Backend.backtest` scores, all by default."""
    if ahead is None:
        return tuple(range(1, n_steps + 1))
    steps = tuple(map(int, ahead))
    if len(steps) != n_steps or any(later <= step for step, later in pairwise((0, *steps))):
        raise ValueError(
            f"ahead must be {n_steps} increasing step numbers of at least 1, one per column of an "
            f"expert; got {tuple(ahead)}."
        )
    return steps


class Backend(ABC):
    """Operations of the forward pass, coarse enough to fuse, none a whole model.

    A tensor of rows has shape ``(n, C, K)``: windows, channels, columns. A weight has shape
    ``(G, K, M)`` where the group axis ``G`` is 1 (shared by all channels) or ``C`` and
    broadcasts against the channel axis. Opening a device belongs into the first operation, never
    into the constructor; an instance pickles and clones as its spec.

    Parameters
    ----------
    device : str or None
        The device part of the spec ``"name[:device[:dtype[:options]]]"``.
    dtype : str or None
        The dtype part of the spec.
    options : sequence of str
        Switches of the engine, the last part of the spec, joined there by commas.

    Attributes
    ----------
    dtypes, switches : tuple of str
        What the dtype and the options of a spec may be; any dtype where none is named.
    spreads_missing : bool
        Whether one NaN or infinity among a product's inputs shows in its output.
    folds_channels : bool
        Whether rows of channels that share their weights arrive as ``(n * C, 1, K)``.
    coarse : bool
        Whether rounding is so coarse that windows arrive measured from their own mean, with the
        distance to the reference level as one more column, where the model measures them from
        a fixed level.
    rows_dtype : dtype
        The dtype in which :meth:`upload` takes rows without a copy.
    equal_blocks : bool
        Whether the last block of rows should be as large as the others.
    blocks_in_flight : int
        How many row blocks may be uploaded before the first one is read back.
    """

    name: str = ""
    dtypes: ClassVar[tuple[str, ...]] = ()
    switches: ClassVar[tuple[str, ...]] = ()
    spreads_missing: bool = False
    folds_channels: bool = False
    coarse: bool = False
    rows_dtype: npt.DTypeLike = np.float64
    equal_blocks: bool = False
    blocks_in_flight: int = 1

    def __init__(
        self, device: str | None = None, dtype: str | None = None, options: Sequence[str] = ()
    ) -> None:
        if dtype is not None and self.dtypes and dtype not in self.dtypes:
            raise ValueError(
                f"backend {self.name!r} computes in {' or '.join(self.dtypes)}; got "
                f"dtype={dtype!r}."
            )
        unknown = [option for option in options if option not in self.switches]
        if unknown:
            raise ValueError(
                f"backend {self.name!r} has no option {unknown[0]!r}; accepted: "
                f"{', '.join(self.switches) or 'none'}."
            )
        self.device = device
        self.dtype = dtype
        self.options = tuple(sorted(set(options)))

    @property
    def spec(self) -> str:
        """The string that :func:`mixlin.backends.resolve` turns back into this backend."""
        parts = [self.device or "", self.dtype or "", ",".join(self.options)]
        return ":".join([self.name, *parts]).rstrip(":")

    def __repr__(self) -> str:
        return f"<mixlin backend {self.spec!r}>"

    def __reduce__(self) -> tuple[Callable[[str], Backend], tuple[str]]:
        from . import resolve

        return resolve, (self.spec,)

    def __sklearn_clone__(self) -> Backend:
        return self

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __enter__(self) -> Backend:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def why_unavailable(cls) -> str | None:
        """Return why this engine can't be used here, in a sentence; ``None`` if it can.

        A class whose module imports everything it needs has nothing to add.
        """
        return None

    def open(self) -> None:
        """Open the device now instead of at the first operation."""
        return

    def rows_per_block(self, n_channels: int, n_columns: int) -> int | None:
        """Return how many windows one forward pass takes; ``None`` for all at once."""
        return None

    def upload(self, *arrays: FloatArray) -> tuple[Tensor, ...]:
        """Place the arrays of one row block.

        Parameters
        ----------
        *arrays : arrays of shape (n, 1 or C, K) or (n, 1 or C, S, K)
            An engine that is far from the host sends all of them in one transfer.

        Returns
        -------
        tuple of tensors
        """
        return tuple(self.put(array) for array in arrays)

    def columns(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Return columns ``start ... stop - 1`` of rows."""
        return x[..., start:stop]

    def rounded(self, array: FloatArray) -> FloatArray:
        """Return what an array of weights becomes on the device, as a host array.

        Asked of coarse engines only, whose weights are rounded so that errors of neighboring
        lags cancel. An engine that can't tell returns the array itself.
        """
        return array

    @abstractmethod
    def put(self, array: FloatArray) -> Tensor:
        """Place a float64 host array on the device, in the dtype of the backend."""

    @abstractmethod
    def get(self, tensor: Tensor) -> FloatArray:
        """Bring a tensor back as a host array, float32 or float64."""

    @abstractmethod
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Give ``x`` another shape with the same elements in the same order."""

    @abstractmethod
    def concat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join tensors along their last axis."""

    @abstractmethod
    def linear(
        self,
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        *,
        activation: str | None = None,
        add: Tensor | None = None,
        axis: int = -1,
    ) -> Tensor:
        """Return ``activation(x @ w + b + add)``.

        Parameters
        ----------
        x : tensor of shape (n, C, K) or (n, C, S, K)
            Rows that all channels share have ``C = 1`` and become as many as ``w`` or ``b`` has
            groups.
        w : tensor of shape (G, K, M)
        b : tensor of shape (G, M), optional
        activation : {"relu", "gelu", "elu", "tanh", "sigmoid"}, optional
        add : tensor of the output's shape, optional
        axis : {-1, -2}
            -1 maps the columns of every channel. -2 mixes channels: ``x`` is ``(n, C, K)``,
            ``w`` is ``(1, C, D)``, ``b`` is ``(1, D)`` and the result ``(n, D, K)``.

        Returns
        -------
        tensor of shape (n, C, M), (n, C, S, M) or (n, D, K)
        """

    @abstractmethod
    def power(self, x: Tensor, n_bins: int) -> Tensor:
        """Return the normalized periodogram of every row.

        Parameters
        ----------
        x : tensor of shape (n, C, L)
            Rows whose level was removed; zero-padded to ``2 * n_bins`` samples.
        n_bins : int, at least ``L / 2``
            Bins ``0 ... n_bins - 1`` of a transform of length ``2 * n_bins`` are kept.

        Returns
        -------
        tensor of shape (n, C, n_bins)
            Sums to one over the bins; a row of zeros stays zero.
        """

    @abstractmethod
    def gate(
        self,
        logits: Tensor,
        top_k: int | None = None,
        temperature: float = 1.0,
        scores: Sequence[tuple[Tensor, float]] = (),
    ) -> Tensor:
        """Turn logits into weights on the simplex.

        Parameters
        ----------
        logits : tensor of shape (..., E)
        top_k : int, optional
            Only the ``top_k`` largest logits get weight; of equal ones, those that come first.
        temperature : float
            Logits are divided by it.
        scores : sequence of (tensor of shape (n, C, E), float)
            As of :meth:`penalize`, which is applied first.

        Returns
        -------
        tensor of the broadcast shape, non-negative, summing to one over the last axis
        """

    @abstractmethod
    def penalize(self, logits: Tensor, scores: Sequence[tuple[Tensor, float]]) -> Tensor:
        """Lower the logits of experts by what they lose on the window itself.

        Parameters
        ----------
        logits : tensor of shape (n, 1 or C, E) or (n, 1 or C, H, E)
        scores : sequence of (tensor of shape (n, C, E), float)
            Positive losses (:meth:`energy`, :meth:`backtest`) and their exponents;
            ``exponent * log(score)`` is subtracted.

        Returns
        -------
        tensor of the broadcast shape
        """

    @abstractmethod
    def mix(self, x: Tensor, w: Tensor, b: Tensor | None, g: Tensor) -> Tensor:
        """Return the gate-weighted sum of the experts' outputs.

        Experts whose gate is zero may be left out.

        Parameters
        ----------
        x : tensor of shape (n, C, K)
        w : tensor of shape (G, K, E * H)
            Expert ``e`` owns columns ``e * H ... (e + 1) * H - 1``.
        b : tensor of shape (G, E * H), optional
        g : tensor of shape (n, 1 or C, E), or (n, 1 or C, H, E) with a gate per step

        Returns
        -------
        tensor of shape (n, C, H)
        """

    @abstractmethod
    def energy(self, x: Tensor, u: Tensor) -> Tensor:
        """Return ``sum((x @ u[e]) ** 2)`` of every row and expert.

        Parameters
        ----------
        x : tensor of shape (n, C, L)
        u : tensor of shape (E, L, R)

        Returns
        -------
        tensor of shape (n, C, E)
        """

    @abstractmethod
    def backtest(
        self,
        x: Tensor,
        w: Tensor,
        step: int,
        ahead: Sequence[int] | None = None,
        floor: float = 0.0,
        power: float = 1.0,
    ) -> Tensor:
        """Score experts on folds inside the context.

        A fold is ``L + ahead[-1]`` consecutive values: the expert sees the first ``L`` and is held
        against those that are ``ahead`` steps behind them. The newest fold ends with the context,
        each further one ``step`` values earlier, as many as fit.

        Parameters
        ----------
        x : tensor of shape (n, C, T)
            Contexts measured from their level, ``T >= L + ahead[-1]``.
        w : tensor of shape (E, L, M)
            Fastest where the memory of the host array that was placed is in the order (L, E, M).
        step : int
            Distance between folds.
        ahead : sequence of M int, optional
            Increasing step numbers from 1 that columns of ``w`` forecast; ``1 ... M`` by default.
        floor : float
            Share of the mean absolute target, over the same folds and steps, that joins every
            score: an expert without errors is not infinitely better than others.
        power : float, positive
            Of the power mean over folds.

        Returns
        -------
        tensor of shape (n, C, E)
            ``mean(error ** power) ** (1 / power) + floor * mean(abs(target))``, the first mean over
            the folds, with ``error`` the mean absolute error of a fold over its steps.
        """

    @abstractmethod
    def compile(self, fn: Callable[..., Tensor], key: object) -> Callable[..., Tensor]:
        """Return a version of ``fn`` that may be recorded or fused.

        Parameters
        ----------
        fn : callable
            From uploaded tensors to the tensor that is read back; pure.
        key : hashable
            The shapes of the tensors without their number of rows, which changes from call to
            call. One ``fn`` is compiled once per key.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the device. The next operation opens it again."""
