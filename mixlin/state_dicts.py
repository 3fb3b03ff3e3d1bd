"""Reading the weights of public reference implementations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]


def read_tensor(state: Mapping[str, Any], key: str) -> Float64Array:
    """Return one array of a state dict of numpy arrays or torch tensors."""
    if key not in state:
        raise ValueError(
            f"the state dict has no {key!r}. It holds "
            f"{', '.join(map(repr, list(state)[:8])) or 'nothing'}."
        )
    value = state[key]
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"state dict entry {key!r} holds values that are not finite.")
    return array


def read_layer(state: Mapping[str, Any], name: str) -> tuple[Float64Array, Float64Array]:
    """Return weight (G, L, H) and bias (G, H) of a layer, shared or one per channel."""
    if f"{name}.weight" in state:
        keys = [name]
    else:
        keys = []
        while f"{name}.{len(keys)}.weight" in state:
            keys.append(f"{name}.{len(keys)}")
        if not keys:
            raise ValueError(
                f"the state dict has neither '{name}.weight' nor '{name}.0.weight'. It holds "
                f"{', '.join(map(repr, list(state)[:8])) or 'nothing'}."
            )
    weights = [read_tensor(state, f"{key}.weight") for key in keys]
    biases = [
        read_tensor(state, f"{key}.bias") if f"{key}.bias" in state else np.zeros(len(w))
        for key, w in zip(keys, weights, strict=True)
    ]
    shapes = {w.shape for w in weights}
    if (
        len(shapes) != 1
        or weights[0].ndim != 2
        or {b.shape for b in biases} != {weights[0].shape[:1]}
    ):
        raise ValueError(
            f"layer {name!r} must have weights of one shape (horizon, lookback) and biases "
            f"(horizon,); got {sorted(shapes)} and {sorted({b.shape for b in biases})}."
        )
    return np.array(weights).transpose(0, 2, 1).copy(), np.array(biases)
