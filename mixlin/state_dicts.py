"""Reading the weights of public reference implementations."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from .decomposition import fold_decomposition
from .layers import Block, Layer
from .mixture import Mixture
from .normalization import REVIN_EPS, Normalization
from .routing import Gate, Router

Float64Array = npt.NDArray[np.float64]

_MOLE = {  # layers of the reference's models, without the router's
    "MoLE_DLinear": ("Linear_Seasonal", "Linear_Trend"),
    "MoLE_RLinear": ("Linear",),
    "MoLE_RMLP": ("Linear", "temporal.0", "temporal.2"),
}
_MOLE_ROUTER = ("Linear_Temporal.0", "Linear_Temporal.2")
_AFFINE = ("rev.affine_weight", "rev.affine_bias")


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
            f"layer {name!r} must have weights of one shape (n_outputs, n_inputs) and biases "
            f"(n_outputs,); got {sorted(shapes)} and {sorted({b.shape for b in biases})}."
        )
    return np.array(weights).transpose(0, 2, 1).copy(), np.array(biases)


def read_mole(
    state_dict: Mapping[str, Any],
    router: Router,
    *,
    kernel_size: int = 25,
    n_experts: int | None = None,
    n_channels: int | None = None,
    horizon: int | None = None,
    revin: bool = True,
) -> Mixture:
    """Return the mixture of one of the reference's MoLE models [1]_, known by its keys.

    ``MoLE_DLinear`` has ``Linear_Seasonal`` and ``Linear_Trend``, ``MoLE_RLinear`` has
    ``Linear``, ``MoLE_RMLP`` has ``Linear``, ``temporal.0`` and ``temporal.2``, each with
    ``.weight`` and ``.bias``; all have the router's ``Linear_Temporal.0`` and
    ``Linear_Temporal.2``, the last two may have ``rev.affine_weight`` and ``rev.affine_bias``.

    The layers tell ``n_experts * horizon`` and ``n_experts * n_channels`` only. The length of the
    affine parameters settles the rest; without them one of ``n_experts``, ``n_channels`` and
    ``horizon`` has to be given, unless one expert is all that fits.

    Parameters
    ----------
    state_dict : mapping
        Numpy arrays or torch tensors.
    router : Router
        Computes the calendar features that the reference was trained on, in its order,
        (n_windows, 1, n_features).
    kernel_size : int, default=25
        Odd width of the moving average of ``MoLE_DLinear``, in steps; the reference's is 25.
    n_experts, n_channels, horizon : int, optional
        Whatever is given must agree with the layers.
    revin : bool, default=True
        ``MoLE_RLinear`` and ``MoLE_RMLP`` without affine parameters: whether windows are
        normalized all the same, which the state dict doesn't tell.

    Returns
    -------
    Mixture
        For ``n_channels`` channels; for any number, which then share their gates, where that
        is 1.

    Raises
    ------
    TypeError
        If ``router`` is no :class:`~mixlin.routing.Router`.
    ValueError
        If the keys are not those of one model, a tensor has another shape or is not finite, or
        the number of experts is not determined.

    References
    ----------
    .. [1] R. Ni et al., "Mixture-of-linear-experts for long-term time series forecasting",
       AISTATS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.mixture import predict_windows
    >>> from mixlin.routing import ConstantRouter
    >>> from mixlin.state_dicts import read_mole
    >>> state = {
    ...     "Linear.weight": np.zeros((4, 3)),  # two experts, two steps
    ...     "Linear.bias": np.array([1.0, -1.0, 2.0, 0.0]),
    ...     "Linear_Temporal.0.weight": np.zeros((2, 1)),
    ...     "Linear_Temporal.0.bias": np.zeros(2),
    ...     "Linear_Temporal.2.weight": np.zeros((2, 2)),
    ...     "Linear_Temporal.2.bias": np.log([0.75, 0.25]),
    ... }
    >>> mixture = read_mole(state, ConstantRouter(), n_channels=1, revin=False)
    >>> predict_windows(mixture, np.ones((1, 1, 3))).round(3).tolist()
    [[[0.5, 1.5]]]
    """
    if not isinstance(router, Router):
        raise TypeError(
            "router must be an instance of a Router, which computes the features that the "
            f"gates look at; got {router!r}."
        )
    model = _recognize_mole(state_dict)
    layers = {name: read_layer(state_dict, name) for name in (*_MOLE[model], *_MOLE_ROUTER)}
    _check_mole_shapes(model, {name: weight.shape[1:] for name, (weight, _) in layers.items()})
    counts = {"n_experts": n_experts, "n_channels": n_channels, "horizon": horizon}
    affine = np.ones(1), np.zeros(1), np.ones(1)
    if _AFFINE[0] in state_dict:
        if not revin:
            raise ValueError(
                "revin=False is for state dicts without affine parameters; this one has "
                "'rev.affine_weight'. Leave revin out."
            )
        affine = _read_affine(state_dict)
        counts["the length of rev.affine_weight"] = len(affine[0])

    wide, wide_bias = layers[_MOLE[model][0]]
    if model == "MoLE_DLinear":
        trend, trend_bias = layers["Linear_Trend"]
        folded = fold_decomposition(wide[0].T, trend[0].T, kernel_size)
        wide, wide_bias = folded.T[None], wide_bias + trend_bias
    (w, b), (w_out, b_out) = (layers[name] for name in _MOLE_ROUTER)
    n_logits = w_out.shape[2]
    k = _count_experts(wide.shape[2], n_logits, counts)
    # output h * K + k is step h of expert k
    weights = wide[0].reshape(wide.shape[1], -1, k).transpose(2, 0, 1)[None].copy()
    bias = wide_bias.reshape(1, -1, k).transpose(0, 2, 1).copy()
    if model == "MoLE_DLinear":  # logit c * K + k
        by_channel = w_out[0].reshape(n_logits, -1, k).transpose(1, 0, 2).copy()
        bias_by_channel = b_out.reshape(-1, k)
    else:  # logit k * C + c
        by_channel = w_out[0].reshape(n_logits, k, -1).transpose(2, 0, 1).copy()
        bias_by_channel = b_out.reshape(k, -1).T.copy()
    gate = Gate(router, (Layer(w, b, "relu"), Layer(by_channel, bias_by_channel)))
    pre: tuple[Block, ...] = ()
    if model == "MoLE_RMLP":
        inner, outer = layers["temporal.0"], layers["temporal.2"]
        pre = (Block((Layer(*inner, "relu"), Layer(*outer)), residual=True),)
    if model == "MoLE_DLinear" or not revin:
        return Mixture(weights, bias=bias, gate=gate, pre=pre)
    return _under_revin(Mixture(weights, bias=bias, gate=gate, pre=pre), *affine)


def _under_revin(
    plain: Mixture, gain: Float64Array, offset: Float64Array, divisor: Float64Array
) -> Mixture:
    """Return a mixture on windows that are normalized, and then multiplied and moved.

    Parameters
    ----------
    plain : Mixture
        With weights, a bias, and at most one residual block before them.
    gain, offset, divisor : array of shape (C,)
        ``z * gain + offset`` is what ``plain`` forecasts from, and ``(y - offset) / divisor`` what
        becomes of its forecast, both in units of the window's scale.

    Returns
    -------
    Mixture
    """
    weights, bias, pre = plain.weights, plain.bias, plain.pre
    assert bias is not None
    ratio = gain / divisor
    gain, offset = gain[:, None], offset[:, None]
    moved = bias - offset[:, :, None]
    if not pre:
        moved = moved + offset[:, :, None] * weights.sum(axis=2)
    elif (gain > REVIN_EPS).all():
        # the activation commutes with the gain, so that layers stay shared in multiples of it;
        # of a gain near zero the multiples would be huge
        inner, outer = pre[0].layers
        assert inner.bias is not None
        assert outer.bias is not None
        inner_bias = (inner.bias + offset * inner.weight.sum(axis=1)) / gain
        outer_bias = (outer.bias + offset) / gain
        inner = Layer(inner.weight, _shared(inner_bias), inner.activation)
        pre = (Block((inner, Layer(outer.weight, _shared(outer_bias))), residual=True),)
    else:
        unit = np.eye(plain.lookback)
        affine = Layer(gain[:, :, None] * unit, np.repeat(offset, len(unit), axis=1))
        pre, ratio = (Block((affine,)), *pre), 1.0 / divisor
    if np.ptp(ratio) <= 2e-10 * np.abs(ratio).max():  # one is within 1e-10 of every channel's
        ratio = (ratio.min(keepdims=True) + ratio.max(keepdims=True)) / 2
    weights = weights * ratio[:, None, None, None]
    return Mixture(
        weights,
        scale_coef=_shared(moved / divisor[:, None, None]),
        normalization=Normalization("mean", scaled=True, eps=REVIN_EPS),
        gate=plain.gate,
        pre=pre,
    )


def _shared(tensor: Float64Array) -> Float64Array:
    """Return one group where all groups of a tensor are the same."""
    return tensor[:1].copy() if (tensor == tensor[:1]).all() else tensor


def _recognize_mole(state: Mapping[str, Any]) -> str:
    """Return the name of the model whose keys these are, all and no other."""
    candidates = []
    for name, layers in _MOLE.items():
        keys = {f"{layer}.{kind}" for layer in layers + _MOLE_ROUTER for kind in ("weight", "bias")}
        if name != "MoLE_DLinear":
            candidates.append((name, keys | set(_AFFINE)))
        candidates.append((name, keys))
    name, keys = min(candidates, key=lambda candidate: len(candidate[1] ^ set(state)))
    if keys != set(state):
        lacks = ", ".join(map(repr, sorted(keys - set(state)))) or "nothing"
        unknown = ", ".join(map(repr, sorted(set(state) - keys, key=str)[:8])) or "nothing"
        raise ValueError(
            f"the state dict is of no MoLE model: for {name}, the closest one, it lacks {lacks} "
            f"and has {unknown} beside. Accepted are {', '.join(_MOLE)} with exactly the keys of "
            "the reference, layers shared by all channels."
        )
    return name


def _check_mole_shapes(model: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that layers fit to each other; shapes are (n_inputs, n_outputs)."""
    first, last = (shapes[name] for name in _MOLE_ROUTER)
    wide = shapes[_MOLE[model][0]]
    wanted: dict[str, tuple[int, ...]]
    wanted = {"Linear_Temporal.0": (first[0], last[1]), "Linear_Temporal.2": (last[1], last[1])}
    if model == "MoLE_DLinear":
        wanted["Linear_Trend"] = wide
    if model == "MoLE_RMLP":
        hidden = shapes["temporal.0"][1]
        wanted |= {"temporal.0": (wide[0], hidden), "temporal.2": (hidden, wide[0])}
    for name, shape in shapes.items():
        expected = wanted.get(name, shape)
        if shape != expected or 0 in shape:
            raise ValueError(
                f"the layers of {model} don't fit together: '{name}.weight' has shape "
                f"{shape[::-1]} (n_outputs, n_inputs), "
                + (f"expected {expected[::-1]}." if shape != expected else "which holds nothing.")
            )


def _read_affine(state: Mapping[str, Any]) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return gain, offset and divisor of an affine normalization, each (n_channels,)."""
    gain, offset = (read_tensor(state, key) for key in _AFFINE)
    if gain.ndim != 1 or gain.shape != offset.shape or not len(gain):
        raise ValueError(
            "'rev.affine_weight' and 'rev.affine_bias' must have one shape (n_channels,); got "
            f"{gain.shape} and {offset.shape}."
        )
    divisor = gain + REVIN_EPS**2  # the reference divides by this
    if (divisor == 0).any():
        raise ValueError(
            f"'rev.affine_weight' holds {-(REVIN_EPS**2):.3g}, which makes the reference divide by "
            "zero."
        )
    return gain, offset, divisor


def _count_experts(n_outputs: int, n_logits: int, counts: Mapping[str, int | None]) -> int:
    """Return the number of experts that the layers and all that is known agree on."""
    layers = (
        f"the layers have {n_outputs} outputs (n_experts * horizon) and {n_logits} logits "
        "(n_experts * n_channels)"
    )
    most = gcd(n_outputs, n_logits)
    fitting = [k for k in range(1, most + 1) if most % k == 0]
    known = {name: value for name, value in counts.items() if value is not None}
    for name, value in known.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
        fitting = [
            k
            for k in fitting
            if value == {"n_experts": k, "horizon": n_outputs // k}.get(name, n_logits // k)
        ]
    if len(fitting) == 1:
        return fitting[0]
    given = ", ".join(f"{name}={value}" for name, value in known.items())
    if not fitting:
        raise ValueError(f"{layers}, which no number of experts fits with {given}.")
    raise ValueError(
        f"{layers}, which fit {', '.join(map(str, fitting))} experts. Pass one of n_experts, "
        "n_channels and horizon."
    )
