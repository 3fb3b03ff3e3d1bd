"""Mixture: everything that one forward pass needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..layers import Block
from ..normalization import Normalization
from ..routing import Gate

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """Everything that one forward pass needs, as plain arrays.

    Every tensor has a leading group axis ``G``, 1 (shared by all channels) or the number of
    channels ``C``, each on its own.

    Parameters
    ----------
    weights : array of shape (G, E, K, H)
        ``K`` is the lookback, or the width that ``pre`` leaves. Engines compute in the memory order
        (G, K, E, H): large weights are best given as ``packed.transpose(0, 2, 1, 3)`` of such an
        array, of which the engines of this process then hold no second copy.
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
    def spreads_missing(self) -> bool:
        """Whether a window that is not finite always gives a forecast that is not finite."""
        if self.gate is not None or self.pre or self.post:
            return False
        level = self.normalization.functional(self.lookback)[:, None] != 0
        return bool(((self.weights != 0) | level).all())

    @property
    def takes_windows(self) -> bool:
        """Whether the columns of the product are the windows as they are."""
        plain = self.normalization.level == "none" and not self.normalization.scaled
        return plain and self.n_side_columns == 0 and not self.reference.any()

    @property
    def adds_level(self) -> bool:
        """Whether the host adds the window's level to the forecast, or the reference level."""
        return self.level_coef is None

    @property
    def scale_reference(self) -> FloatArray:
        """What the column of the window's scale is measured from, shape (1,) or (C,)."""
        return np.zeros(1)

    @property
    def bias_on_host(self) -> bool:
        """Whether the bias is added on the host, which keeps channels' own out of the product."""
        plain = self.gate is None and not self.post and not self.divides_by_scale
        return plain and self.bias is not None

    @property
    def host_bias(self) -> FloatArray | None:
        """What the host adds to the forecast beside a level, (1 or C, 1, H)."""
        return self.bias if self.bias_on_host else None

    @property
    def channel_column(self) -> tuple[FloatArray, FloatArray] | None:
        """A column that tells channels apart, (C,), and its coefficients (G, E, H)."""
        return None

    @property
    def n_side_columns(self) -> int:
        """Number of columns beside the window: level, scale, channel, extra columns, and one."""
        columns = int(self.level_coef is not None) + int(self.scale_coef is not None)
        columns += int(self.channel_column is not None)
        columns += int(self.bias is not None and self.divides_by_scale)
        return columns + (0 if self.extra_coef is None else int(self.extra_coef.shape[1]))

    def __repr__(self) -> str:
        return (
            f"Mixture({self.n_experts} expert{'s' if self.n_experts > 1 else ''}, "
            f"{self.groups} group{'s' if self.groups > 1 else ''}, "
            f"{self.lookback} -> {self.horizon} steps, level {self.normalization.level!r})"
        )

    @property
    def nbytes(self) -> int:
        """Memory of the experts' weights."""
        return int(self.weights.nbytes)

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

        Rows of the columns: window, level (if ``level_coef``), scale (if ``scale_coef``), what
        tells channels apart, extra columns, and one for the bias where columns are divided by the
        scale.
        """
        _, n_experts, _, horizon = self.weights.shape
        parts = [self.weights.transpose(0, 2, 1, 3)]
        parts += [c[:, None] for c in (self.level_coef, self.scale_coef) if c is not None]
        parts += [] if self.channel_column is None else [self.channel_column[1][:, None]]
        if self.extra_coef is not None:  # gates sum to one, so every expert may carry V
            parts.append(np.repeat(self.extra_coef[:, :, None, :], n_experts, axis=2))
        bias = None if self.bias_on_host else self.bias
        if bias is not None and self.divides_by_scale:
            parts.append(bias[:, None])
            bias = None
        columns = parts[0]
        if len(parts) > 1:
            groups = max(part.shape[0] for part in parts)
            columns = np.concatenate(
                [np.broadcast_to(part, (groups, *part.shape[1:])) for part in parts], axis=1
            )
        # one memory layout, so that a loaded mixture computes the same bits; no copy of weights
        # that are in it
        columns = columns.reshape(len(columns), -1, n_experts * horizon)
        packed = np.ascontiguousarray(columns)
        return packed, None if bias is None else bias.reshape(-1, n_experts * horizon)
