"""The fitted records, Plan and Mixture, and the one forward pass that every model runs.

On a window x with level l, scale s and reference level m the forecast is::

    y = base + sum_e g_e * ((x - l) W_e + (l - m) r_e + s c_e + d_e) + z V

with ``base = l`` where the experts are level-normalized (``level_coef is None``) and ``base = m``
otherwise. The level is taken off and the base added on the host in float64; ``x - l``, ``l - m``,
``s`` and ``z`` travel to the backend as the columns of one product.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .backends import Backend, Tensor
from .layers import Block, Layer
from .normalization import Normalization
from .routing import Gate

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Everything that one forward pass needs, as plain arrays.

    Every tensor has a leading group axis ``G``, 1 (shared by all channels) or the number of
    channels ``C``, each on its own.

    Parameters
    ----------
    weights : array of shape (G, E, K, H)
        ``K`` is the lookback, or the width that ``pre`` leaves.
    bias : array of shape (G, E, H), optional
        The plain bias ``d``, measured from ``reference``.
    scale_coef : array of shape (G, E, H), optional
        The bias ``c`` that rides on the window's scale.
    level_coef : array of shape (G, E, H), optional
        ``r``, for experts that are not level-normalized although a level is taken.
    extra_coef : array of shape (G, Z, H), optional
        ``V``, the coefficients of extra columns.
    normalization : Normalization
    reference : array of shape (1,) or (C,)
        The reference level ``m``.
    gate : Gate, optional
        Needed with more than one expert.
    pre, post : tuple of Block
        Before the experts, on ``x - l``; after the mixture, before the base is added. Where an
        activation is not positively homogeneous, or a layer maps channels, which have scales of
        their own, both see values divided by the window's scale; elsewhere their biases are
        multiplied by it.
    lookback : int, optional
        Found from the first layer over time, else from ``weights``.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import Mixture, predict_windows
    >>> from mixlin.normalization import Normalization
    >>> naive = Mixture(np.zeros((1, 1, 4, 2)), normalization=Normalization("last"))
    >>> predict_windows(naive, np.array([[[1.0, 2.0, 3.0, 5.0]]])).tolist()
    [[[5.0, 5.0]]]
    """

    weights: FloatArray
    bias: FloatArray | None = None
    scale_coef: FloatArray | None = None
    level_coef: FloatArray | None = None
    extra_coef: FloatArray | None = None
    normalization: Normalization = field(default_factory=Normalization)
    reference: FloatArray = field(default_factory=lambda: np.zeros(1))
    gate: Gate | None = None
    pre: tuple[Block, ...] = ()
    post: tuple[Block, ...] = ()
    lookback: int = 0

    def __post_init__(self) -> None:
        if self.weights.ndim != 4:
            raise ValueError(
                f"weights must be (groups, experts, lookback, horizon); got {self.weights.shape}."
            )
        shape = self.weights.shape
        for name in ("bias", "scale_coef", "level_coef"):
            value = getattr(self, name)
            if value is not None and value.shape[1:] != (shape[1], shape[3]):
                raise ValueError(
                    f"{name} must be (groups, {shape[1]}, {shape[3]}); got {value.shape}."
                )
        if self.extra_coef is not None and self.extra_coef.shape[2:] != shape[3:]:
            raise ValueError(
                f"extra_coef must be (groups, n_extra, {shape[3]}); got {self.extra_coef.shape}."
            )
        if self.gate is None and shape[1] != 1:
            raise ValueError(f"a mixture of {shape[1]} experts needs a gate.")
        if self.gate is not None and self.gate.n_experts != shape[1]:
            raise ValueError(f"the gate has {self.gate.n_experts} logits for {shape[1]} experts.")
        if self.level_coef is not None and self.normalization.level == "none":
            raise ValueError("level_coef needs a normalization that takes a level.")
        if self.scale_coef is not None and not self.normalization.scaled:
            raise ValueError("scale_coef needs a normalization that takes a scale.")
        over_time = [
            layer.weight.shape[1:]
            for block in self.pre
            for layer in block.layers
            if layer.axis == "time"
        ]
        widths = [self.lookback or (over_time[0][0] if over_time else shape[2])]
        for n_inputs, n_outputs in over_time:
            widths += [n_inputs, n_outputs]
        widths.append(shape[2])
        if widths[0::2] != widths[1::2]:
            raise ValueError(
                f"the lookback, the layers of pre and weights don't fit together; their widths "
                f"from one to the next are {widths}, which must be equal in pairs."
            )
        object.__setattr__(self, "lookback", widths[0])
        sizes = {1, *self._group_sizes()}
        if len(sizes) > 2:
            raise ValueError(
                f"groups must be 1 or the number of channels in every tensor; got {sorted(sizes)}."
            )

    def _group_sizes(self) -> list[int]:
        tensors = [self.weights, self.bias, self.scale_coef, self.level_coef, self.extra_coef]
        layers = [layer for block in self.pre + self.post for layer in block.layers]
        layers += () if self.gate is None else self.gate.layers
        tensors += [
            t for layer in layers if layer.axis == "time" for t in (layer.weight, layer.bias)
        ]
        return [len(t) for t in (*tensors, self.reference) if t is not None]

    @property
    def groups(self) -> int:
        """Number of channels that the tensors are made for; 1 if they serve any number."""
        return max(self._group_sizes())

    @property
    def n_side_columns(self) -> int:
        """Number of columns beside the window: level, scale, extra columns, and one."""
        columns = int(self.level_coef is not None) + int(self.scale_coef is not None)
        columns += int(self.bias is not None and self.divides_by_scale)
        return columns + (0 if self.extra_coef is None else int(self.extra_coef.shape[1]))

    @property
    def n_experts(self) -> int:
        """Number of experts."""
        return int(self.weights.shape[1])

    @property
    def horizon(self) -> int:
        """Number of steps that one forward pass returns."""
        horizon = int(self.weights.shape[3])
        for block in self.post:
            for layer in block.layers:
                horizon = int(layer.weight.shape[2]) if layer.axis == "time" else horizon
        return horizon

    @property
    def divides_by_scale(self) -> bool:
        """Whether columns are divided by the window's scale, and the result multiplied by it."""
        return self.normalization.scaled and not all(
            layer.homogeneous and layer.axis == "time"
            for block in self.pre + self.post
            for layer in block.layers
        )

    @property
    def packed(self) -> tuple[FloatArray, FloatArray | None]:
        """The one product: columns (G, K', E * H) and bias (G, E * H) or None.

        Rows of the columns: window, level (if ``level_coef``), scale (if ``scale_coef``), extra
        columns, and one for the bias where columns are divided by the scale.
        """
        _, n_experts, _, horizon = self.weights.shape
        parts = [self.weights.transpose(0, 2, 1, 3)]
        parts += [c[:, None] for c in (self.level_coef, self.scale_coef) if c is not None]
        if self.extra_coef is not None:  # gates sum to one, so every expert may carry V
            parts.append(np.repeat(self.extra_coef[:, :, None, :], n_experts, axis=2))
        bias = self.bias
        if bias is not None and self.divides_by_scale:
            parts.append(bias[:, None])
            bias = None
        groups = max(part.shape[0] for part in parts)
        columns = np.concatenate(
            [np.broadcast_to(part, (groups, *part.shape[1:])) for part in parts], axis=1
        )
        # one memory layout, so that a loaded mixture computes the same bits
        packed = np.ascontiguousarray(columns.reshape(groups, -1, n_experts * horizon))
        return packed, None if bias is None else bias.reshape(-1, n_experts * horizon)


class Parts(NamedTuple):
    """What :func:`forward` returns with ``parts=True``.

    Attributes
    ----------
    forecast : array of shape (n_windows, n_channels, horizon)
    gates : array of shape (n_windows, 1 or n_channels, E), or (..., horizon, E) per step
    experts : array of shape (n_windows, n_channels, horizon, E)
        Forecast of every expert, base included; before ``post``.
    level, scale : array of shape (n_windows or 1, n_channels or 1), or None
    evidence : tuple of array of shape (n_windows, n_channels, E)
    """

    forecast: FloatArray
    gates: FloatArray
    experts: FloatArray
    level: FloatArray
    scale: FloatArray | None
    evidence: tuple[FloatArray, ...]


class Placed(NamedTuple):
    """A mixture's tensors on a backend."""

    weights: Tensor
    bias: Tensor | None
    gate: tuple[tuple[Tensor, Tensor | None], ...]
    evidence: tuple[Tensor, ...]
    pre: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...]
    post: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...]


_PLACED: weakref.WeakKeyDictionary[Mixture, weakref.WeakKeyDictionary[Backend, Placed]] = (
    weakref.WeakKeyDictionary()
)
_PLACING = threading.RLock()


def place(mixture: Mixture, backend: Backend) -> Placed:
    """Return the mixture's tensors on the backend, uploaded at the first call.

    Parameters
    ----------
    mixture : Mixture
    backend : Backend

    Returns
    -------
    Placed
        Kept until the mixture or the backend is gone; never part of an estimator or a pickle.
    """
    with _PLACING:
        table = _PLACED.setdefault(mixture, weakref.WeakKeyDictionary())
        placed = table.get(backend)
        if placed is None:
            placed = table[backend] = _upload(mixture, backend)
        return placed


def _upload(mixture: Mixture, backend: Backend) -> Placed:
    def tensor(array: FloatArray | None) -> Tensor | None:
        return None if array is None else backend.put(np.ascontiguousarray(array))

    def layers(chain: tuple[Layer, ...], riding: bool) -> tuple[tuple[Tensor, Tensor], ...]:
        # a bias that rides on the scale is the weight of a one-column product
        return tuple(
            (
                tensor(la.weight),
                tensor(la.bias[:, None] if riding and la.bias is not None else la.bias),
            )
            for la in chain
        )

    riding = mixture.normalization.scaled and not mixture.divides_by_scale
    weights, bias = mixture.packed
    gate = mixture.gate
    return Placed(
        backend.put(weights),
        tensor(bias),
        () if gate is None else layers(gate.layers, False),
        () if gate is None else tuple(tensor(e.weights) for e in gate.evidence),
        tuple(layers(block.layers, riding) for block in mixture.pre),
        tuple(layers(block.layers, riding) for block in mixture.post),
    )


def _blocks(
    backend: Backend,
    x: Tensor,
    blocks: tuple[Block, ...],
    placed: tuple[tuple[tuple[Tensor, Tensor | None], ...], ...],
    scale: Tensor | None,
) -> Tensor:
    """Run blocks; with ``scale`` of shape (n, C, 1) the biases ride on it."""
    for block, tensors in zip(blocks, placed, strict=True):
        out = x
        for i, (layer, (w, b)) in enumerate(zip(block.layers, tensors, strict=True)):
            add = x if block.residual and i + 1 == len(tensors) else None
            if scale is not None and b is not None:
                add, b = backend.linear(scale, b, None, add=add), None
            out = backend.linear(
                out,
                w,
                b,
                activation=layer.activation,
                add=add,
                axis=-1 if layer.axis == "time" else -2,
            )
        x = out
    return x


def _gates(
    mixture: Mixture, backend: Backend, placed: Placed, x: Tensor, features: FloatArray
) -> tuple[Tensor, tuple[Tensor, ...]]:
    gate = mixture.gate
    assert gate is not None
    out = backend.put(features)
    for layer, (w, b) in zip(gate.layers, placed.gate, strict=True):
        out = backend.linear(out, w, b, activation=layer.activation)
    evidence = tuple(
        backend.energy(x, w) if e.kind == "energy" else backend.backtest(x, w, e.step)
        for e, w in zip(gate.evidence, placed.evidence, strict=True)
    )
    scores = [(s, e.exponent) for s, e in zip(evidence, gate.evidence, strict=True)]
    return backend.gate(out, gate.top_k, gate.temperature, scores), evidence


def forward(
    mixture: Mixture,
    backend: Backend,
    windows: npt.NDArray[np.floating],
    *,
    extra: FloatArray | None = None,
    timestamps: npt.NDArray[np.datetime64] | None = None,
    parts: bool = False,
) -> FloatArray | Parts:
    """Run one forward pass over a block of windows.

    Parameters
    ----------
    mixture : Mixture
    backend : Backend
    windows : array of shape (n_windows, n_channels, lookback)
    extra : array of shape (n_windows, 1 or n_channels, n_extra), optional
        The columns ``z`` of ``mixture.extra_coef``.
    timestamps : array of shape (n_windows, lookback + horizon), optional
        For routers that read the calendar.
    parts : bool
        Return everything that intervals, plots and router training read.

    Returns
    -------
    array of shape (n_windows, n_channels, horizon), or Parts

    Raises
    ------
    ValueError
        If the windows or the extra columns don't fit to the mixture.
    """
    n, n_channels, lookback = windows.shape
    if lookback != mixture.lookback or mixture.groups not in (1, n_channels):
        raise ValueError(
            f"windows must be (n_windows, {'n_channels' if mixture.groups == 1 else mixture.groups}"
            f", {mixture.lookback}); got {windows.shape}."
        )
    placed = place(mixture, backend)
    # windows are measured straight into the columns of the one product
    buffer = np.empty((n, n_channels, lookback + mixture.n_side_columns))
    centered, level, scale = mixture.normalization.measure(
        windows, mixture.reference, out=buffer[:, :, :lookback]
    )
    reference = mixture.reference[None, :]
    base = level if mixture.level_coef is None else reference

    side: list[FloatArray] = []
    if mixture.level_coef is not None:
        side.append(np.broadcast_to((level - reference)[:, :, None], (n, n_channels, 1)))
    if mixture.scale_coef is not None:
        assert scale is not None
        side.append(scale[:, :, None])
    if mixture.extra_coef is not None:
        if extra is None or extra.shape[2] != mixture.extra_coef.shape[1]:
            got = "none" if extra is None else f"{extra.shape[2]}"
            raise ValueError(
                f"this model needs {mixture.extra_coef.shape[1]} extra columns; got {got}."
            )
        side.append(np.broadcast_to(extra, (n, n_channels, extra.shape[2])))
    if mixture.bias is not None and mixture.divides_by_scale:
        side.append(np.ones((n, n_channels, 1)))

    if side:
        np.concatenate(side, axis=2, out=buffer[:, :, lookback:])
    if mixture.divides_by_scale:
        assert scale is not None
        buffer /= scale[:, :, None]
    riding = bool(mixture.pre or mixture.post) and not mixture.divides_by_scale
    rides = backend.put(scale[:, :, None]) if riding and scale is not None else None

    window = None
    if mixture.pre:
        window = backend.put(centered)
        columns = _blocks(backend, window, mixture.pre, placed.pre, rides)
        if side:
            columns = backend.concat([columns, backend.put(buffer[:, :, lookback:])])
    else:
        columns = backend.put(buffer)
        window = columns if not side else None

    gates: Tensor = None
    evidence: tuple[Tensor, ...] = ()
    if mixture.gate is not None:
        if mixture.gate.evidence and window is None:
            window = backend.put(centered)
        router_windows = np.asarray(windows, dtype=np.float64)
        steps = mixture.weights.shape[3]  # that gates weigh; post may change their number
        features = mixture.gate.router.features(router_windows, timestamps, steps)
        gates, evidence = _gates(mixture, backend, placed, window, features)

    experts: Tensor = None
    if mixture.gate is None:
        mixed = backend.linear(columns, placed.weights, placed.bias)
        experts = mixed
    else:
        mixed = backend.mix(columns, placed.weights, placed.bias, gates)
        if parts:
            experts = backend.linear(columns, placed.weights, placed.bias)
    out = _blocks(backend, mixed, mixture.post, placed.post, rides)

    forecast = backend.get(out)
    if mixture.divides_by_scale:
        assert scale is not None
        forecast = forecast * scale[:, :, None]
    forecast = forecast + base[:, :, None]
    if not parts:
        return forecast
    each = backend.get(experts).reshape(n, n_channels, mixture.n_experts, -1)
    if mixture.divides_by_scale:
        each = each * scale[:, :, None, None]  # type: ignore[index]
    ones = np.ones((n, 1, 1))
    return Parts(
        forecast,
        ones if gates is None else backend.get(gates),
        (each + base[:, :, None, None]).transpose(0, 1, 3, 2),
        level,
        scale,
        tuple(backend.get(e) for e in evidence),
    )


def predict_windows(
    mixture: Mixture,
    windows: npt.NDArray[np.floating],
    backend: Backend | None = None,
    *,
    extra: FloatArray | None = None,
    timestamps: npt.NDArray[np.datetime64] | None = None,
) -> FloatArray:
    """Forecast windows, in blocks of rows of the backend's choice.

    Parameters
    ----------
    mixture : Mixture
    windows : array of shape (n_windows, n_channels, lookback)
        Any memory layout; float32 or float64.
    backend : Backend, optional
        numpy by default.
    extra : array of shape (n_windows, 1 or n_channels, n_extra), optional
    timestamps : array of shape (n_windows, lookback + horizon), optional

    Returns
    -------
    array of shape (n_windows, n_channels, horizon)
        Float64.
    """
    if backend is None:
        from .backends import resolve

        backend = resolve()
    n, n_channels, lookback = windows.shape
    block = backend.rows_per_block(n_channels, lookback) or max(1, n)
    out = np.empty((n, n_channels, mixture.horizon))

    def run(start: int) -> None:
        rows = slice(start, start + block)
        out[rows] = forward(
            mixture,
            backend,
            windows[rows],
            extra=None if extra is None else extra[rows],
            timestamps=None if timestamps is None else timestamps[rows],
        )

    place(mixture, backend)
    backend.run_blocks(run, range(0, n, block))
    return out


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A fitted model as data: what ``fit`` produces and everything else reads.

    Parameters
    ----------
    lookback, horizon : int
        Steps read and steps forecast.
    n_channels : int or None
        None for weights that serve any number of channels.
    rollout : {"direct"}
        How a request is answered: every step at once.
    residual : array of shape (C, horizon) or a callable that returns it, optional
        Variance of the training residuals in squared data units; a callable is asked once, when
        :attr:`residual_variance` is first read.
    """

    lookback: int
    horizon: int
    n_channels: int | None = None
    rollout: str = "direct"
    residual: FloatArray | Callable[[], FloatArray] | None = None

    @cached_property
    def residual_variance(self) -> FloatArray | None:
        """Variance of the training residuals, shape (C, horizon), in squared data units."""
        return self.residual() if callable(self.residual) else self.residual

    @abstractmethod
    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        """Return the mixture for a request, cached.

        Parameters
        ----------
        lookback, horizon : int, optional
            Those of the plan by default.
        mask : array of shape (lookback,), optional
            True where a value was observed.

        Returns
        -------
        Mixture
        """


@dataclass(frozen=True, eq=False)
class FixedPlan(Plan):
    """A plan whose mixture does not depend on the request.

    Parameters
    ----------
    fixed : Mixture

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import FixedPlan, Mixture
    >>> plan = FixedPlan(4, 2, fixed=Mixture(np.zeros((1, 1, 4, 2))))
    >>> plan.mixture() is plan.mixture(horizon=2)
    True
    """

    fixed: Mixture | None = None

    def __post_init__(self) -> None:
        if self.fixed is None:
            raise ValueError("a FixedPlan holds a mixture.")

    def mixture(
        self,
        lookback: int | None = None,
        horizon: int | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> Mixture:
        assert self.fixed is not None
        if mask is not None and not np.all(mask):
            raise ValueError("this model has no forecast for windows with missing values.")
        return self.fixed
