"""Dense layers as data: what runs before or after the experts, and inside a router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ACTIVATIONS = ("relu", "gelu", "elu", "tanh", "sigmoid")
_HOMOGENEOUS = (None, "relu")


@dataclass(frozen=True, eq=False)
class Layer:
    """One affine map with an activation.

    Parameters
    ----------
    weight : array of shape (G, n_inputs, n_outputs)
        ``G`` is 1 or the number of channels.
    bias : array of shape (G, n_outputs), optional
    activation : {"relu", "gelu", "elu", "tanh", "sigmoid"}, optional
    axis : {"time", "channel"}
        What the layer maps; a layer over channels has ``G = 1``.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.layers import Layer
    >>> Layer(np.ones((1, 4, 2)), activation="relu").homogeneous
    True
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64] | None = None
    activation: str | None = None
    axis: str = "time"

    def __post_init__(self) -> None:
        if self.weight.ndim != 3:
            raise ValueError(f"weight must be (groups, in, out); got shape {self.weight.shape}.")
        if self.bias is not None and self.bias.shape[1:] != self.weight.shape[2:]:
            raise ValueError(
                f"bias must be (groups, {self.weight.shape[2]}); got shape {self.bias.shape}."
            )
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be None or one of {ACTIVATIONS}; got {self.activation!r}."
            )
        if self.axis not in ("time", "channel"):
            raise ValueError(f"axis must be 'time' or 'channel'; got {self.axis!r}.")
        if self.axis == "channel" and self.weight.shape[0] != 1:
            raise ValueError("a layer over channels has one group.")

    @property
    def homogeneous(self) -> bool:
        """Whether scaling the input and the bias by s > 0 scales the output by s."""
        return self.activation in _HOMOGENEOUS


@dataclass(frozen=True, eq=False)
class Block:
    """Layers in sequence, optionally around a residual connection.

    Parameters
    ----------
    layers : tuple of Layer
    residual : bool
        Add the block's input to its output.
    """

    layers: tuple[Layer, ...]
    residual: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a block has at least one layer.")
        if self.residual and self.layers[-1].activation is not None:
            raise ValueError("the last layer of a residual block has no activation.")
