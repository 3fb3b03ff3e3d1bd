"""The published Super-Linear model as a block of experts and a rollout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..layers import Layer
from ..mixture import Mixture, Rollout
from ..normalization import Normalization
from ..routing import (
    Gate,
    PeriodogramRouter,
    Router,
    ValuesRouter,
    long_spectral_weight,
    short_spectral_layer,
)
from .config import DEFAULTS, Settings, read_settings, tokens_of
from .files import as_arrays, find_files, read_config, read_weights, write_folder

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_PREFIX = "backbone."
_GATE = "moe.gating_network"
_BATCH_NORM = "moe.batch_norm"
_BATCH_NORM_EPS = 1e-5
_SCALE_EPS = 1e-5  # added by the published model to a window's standard deviation


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A block of experts with what it takes to forecast with it, and to write it again.

    Parameters
    ----------
    block : Mixture
    rollout : Rollout
    expert_names : tuple of str
        "mean", "naive", "period 24", ..., "complementary 1", ...
    config : dict
        What ``config.json`` holds.
    gate_tensors : dict of arrays
        The gate as files hold it: weights on the bins of the padded window, and what normalizes
        logits. The block's gate is made of them, and they can't be told from it.
    """

    block: Mixture
    rollout: Rollout
    expert_names: tuple[str, ...]
    config: dict[str, Any]
    gate_tensors: dict[str, Array]

    def __repr__(self) -> str:
        return f"Pretrained({self.block!r}, compat={self.rollout.compat!r})"


def _expert_key(expert: int, kind: str) -> str:
    return f"moe.experts.{expert}.Linear.{kind}"


def _expected(settings: Settings) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors by name."""
    L, H, n_experts = settings.lookback, settings.horizon, len(settings.experts)
    shapes: dict[str, tuple[int, ...]] = {}
    for e in range(n_experts):
        if not settings.is_constant(e):
            shapes[_expert_key(e, "weight")] = (H, L)
            shapes[_expert_key(e, "bias")] = (H,)
    shapes[f"{_GATE}.weight"] = (n_experts, settings.padded_length // 2 if settings.spectral else L)
    shapes[f"{_GATE}.bias"] = (n_experts,)
    if settings.batch_norm:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{_BATCH_NORM}.{kind}"] = (n_experts,)
        shapes[f"{_BATCH_NORM}.num_batches_tracked"] = ()
    return shapes


def _checked(state: Mapping[str, Array], settings: Settings) -> dict[str, Array]:
    """Return the tensors without their prefix; there are those of the configuration alone."""
    if state and all(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): value for key, value in state.items()}
    expected = _expected(settings)
    lacks, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if lacks or unknown:
        raise ValueError(
            f"the state dict is not that of the configuration ({len(settings.experts)} experts, "
            f"{settings.lookback} -> {settings.horizon} steps): it lacks {_some(lacks)} and has "
            f"{_some(unknown)} beside. Pass the config.json that belongs to it."
        )
    for key, shape in expected.items():
        value = state[key]
        whole = key.endswith("num_batches_tracked")
        if value.shape != shape or value.dtype.kind not in ("iu" if whole else "f"):
            raise ValueError(
                f"{key!r} must be {'integers' if whole else 'floats'} of shape {shape}; got "
                f"{value.dtype} of shape {value.shape}."
            )
        if not whole and not np.isfinite(value).all():
            raise ValueError(f"{key!r} holds values that are not finite.")
    if settings.batch_norm and (state[f"{_BATCH_NORM}.running_var"] < 0).any():
        raise ValueError(f"'{_BATCH_NORM}.running_var' holds variances that are negative.")
    return {key: state[key] for key in expected}


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(map(repr, keys[:4])) or "nothing"
    return shown if len(keys) <= 4 else f"{shown} and {len(keys) - 4} more"


def _gate(tensors: Mapping[str, Array], settings: Settings) -> Gate:
    weight = tensors[f"{_GATE}.weight"].astype(np.float64)
    bias = tensors[f"{_GATE}.bias"].astype(np.float64)
    if settings.batch_norm:
        norm = {
            kind: tensors[f"{_BATCH_NORM}.{kind}"].astype(np.float64)
            for kind in ("weight", "bias", "running_mean", "running_var")
        }
        gain = norm["weight"] / np.sqrt(norm["running_var"] + _BATCH_NORM_EPS)
        weight = weight * gain[:, None]
        bias = (bias - norm["running_mean"]) * gain + norm["bias"]
    if settings.spectral:
        layer = short_spectral_layer(weight, bias, settings.lookback, settings.padded_length)
        router: Router = PeriodogramRouter(settings.padded_length)
    else:
        layer, router = Layer(np.ascontiguousarray(weight.T)[None], bias[None]), ValuesRouter()
    return Gate(router, (layer,), settings.top_k, settings.temperature)


def _block(tensors: Mapping[str, Array], settings: Settings, *, official: bool) -> Mixture:
    L, H, n_experts = settings.lookback, settings.horizon, len(settings.experts)
    weights, on_scale = np.zeros((1, n_experts, L, H)), np.zeros((1, n_experts, H))
    for e, token in enumerate(settings.experts):
        if not settings.is_constant(e):
            weights[0, e] = tensors[_expert_key(e, "weight")].T
            on_scale[0, e] = tensors[_expert_key(e, "bias")]
        elif token.lower() == "naive":
            weights[0, e, -1] = 1.0
    eps = _SCALE_EPS if official else 0.0
    return Mixture(
        weights,
        scale_coef=on_scale,
        normalization=Normalization("mean", scaled=True, eps=eps, ddof=1, eps_inside=False),
        gate=_gate(tensors, settings),
    )


def read_superlinear(
    source: str | os.PathLike[str] | Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    compat: str = "clean",
    revision: str | None = None,
) -> Pretrained:
    """Read the published Super-Linear model [1]_, or another of its kind.

    Parameters
    ----------
    source : str, path-like or mapping
        A folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, one of
        these files, the name of a model at the hub (``"SequentialLearning/SuperLinear"``), or a
        state dict of numpy arrays or torch tensors.
    config : mapping, optional
        What ``config.json`` would hold; that of the folder by default, and for a state dict that
        of the published model.
    compat : {"clean", "official"}, default="clean"
        See :class:`~mixlin.mixture.Rollout`. "clean" is also without the constant that is added to
        a window's standard deviation, so that forecasts scale with the series.
    revision : str, optional
        Branch, tag or commit at the hub.

    Returns
    -------
    Pretrained

    Raises
    ------
    ValueError
        If a file is damaged, a setting out of range, or the tensors are not those of the
        configuration: by name, shape, dtype, and finite.
    OSError
        If there is no such file or model.
    ImportError
        If huggingface_hub is missing, or torch where weights are a ``.bin`` file.

    Notes
    -----
    Nothing in a file is executed. A ``.bin`` file is read by torch with ``weights_only=True``.

    References
    ----------
    .. [1] L. Nochumsohn et al., "Super-Linear: a lightweight pretrained mixture of linear experts
       for time series forecasting", TMLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.pretrained import read_superlinear
    >>> state = {
    ...     "moe.experts.1.Linear.weight": np.zeros((2, 4)),
    ...     "moe.experts.1.Linear.bias": np.zeros(2),
    ...     "moe.gating_network.weight": np.zeros((2, 5)),
    ...     "moe.gating_network.bias": np.zeros(2),
    ... }
    >>> config = {"train_seq_len": 4, "train_pred_len": 2, "fft_len": 10, "comp_moe": 0}
    >>> read_superlinear(state, {**config, "freq_experts": "naive_1/4"}).expert_names
    ('naive', 'period 4')
    """
    if isinstance(source, Mapping):
        arrays = as_arrays(source, "the state dict")
    else:
        weights, beside = find_files(source, revision)
        if config is None:
            if beside is None:
                raise FileNotFoundError(
                    f"there is no config.json beside {weights}. Pass config=, which tells the "
                    "experts apart."
                )
            config = read_config(beside)
        arrays = read_weights(weights)
    settings = read_settings(config)
    tensors = _checked(arrays, settings)
    rollout = replace(settings.rollout, compat=compat)
    return Pretrained(
        block=_block(tensors, settings, official=rollout.official),
        rollout=rollout,
        expert_names=settings.names,
        config={**DEFAULTS, **(config or {})},
        gate_tensors={
            key: np.array(tensors[key]) for key in tensors if key.startswith((_GATE, _BATCH_NORM))
        },
    )


def as_pretrained(
    block: Mixture, rollout: Rollout, expert_names: Sequence[str] | None = None
) -> Pretrained:
    """Describe a block of one's own as the published model would be.

    Parameters
    ----------
    block : Mixture
        Level "mean", with a scale, shared by all channels; its gate one layer on features of
        :class:`~mixlin.routing.PeriodogramRouter` or :class:`~mixlin.routing.ValuesRouter`.
    rollout : Rollout
    expert_names : sequence of str, optional
        "expert 0", ... by default. An expert named "mean" or "naive" has to be that.

    Returns
    -------
    Pretrained

    Raises
    ------
    ValueError
        If the published form has no place for something that the block holds.
    """
    gate, n_experts = block.gate, block.n_experts
    names = tuple(expert_names or (f"expert {e}" for e in range(n_experts)))
    if len(names) != n_experts:
        raise ValueError(f"{n_experts} experts need as many names; got {len(names)}.")
    router = None if gate is None else gate.router
    fits = (
        gate is not None
        and isinstance(router, (PeriodogramRouter, ValuesRouter))
        and len(gate.layers) == 1
        and gate.layers[0].activation is None
        and gate.center is gate.spread is None
        and not gate.evidence
        and block.groups == 1
        and not block.reference.any()
        and block.normalization.level == "mean"
        and block.bias is block.level_coef is block.extra_coef is None
        and not (block.pre or block.post)
        and (block.scale_coef is None or _measures_alike(block.normalization))
    )
    if not fits:
        raise ValueError(
            "the published form is one linear gate on PeriodogramRouter or ValuesRouter, and "
            "experts, shared by all channels, on windows measured from their mean with biases in "
            f"units of their scale; this is {block!r} with {gate!r}."
        )
    assert gate is not None
    tokens, n_complementary = tokens_of(names)
    for e, name in enumerate(names):
        if name.lower() in ("mean", "naive"):
            _check_constant(block, e, name.lower())
    layer = gate.layers[0]
    padded_length = rollout.padded_length
    spectral = isinstance(router, PeriodogramRouter)
    if isinstance(router, PeriodogramRouter):
        if router.padded_length != padded_length:
            raise ValueError(
                "the gate and the rollout share one padded_length; got "
                f"{router.padded_length} and {padded_length}."
            )
        weight = long_spectral_weight(layer, block.lookback, padded_length)
    else:
        weight = layer.weight[0].T
    bias = np.zeros(n_experts) if layer.bias is None else layer.bias[0]
    config = {
        "model_type": "super_linear",
        "train_seq_len": block.lookback,
        "train_pred_len": block.horizon,
        "top_k_experts": gate.top_k or n_experts,
        "moe_temp": gate.temperature,
        "moe_norm": False,
        "comp_moe": n_complementary,
        "use_fft": spectral,
        "fft_len": padded_length,
        "freq_experts": "_".join(tokens),
        "long_horizon_scaling": int(rollout.clamp),
        "lookback_resampling": int(rollout.resampling),
        "scale_list": [int(s) if s == round(s) else s for s in rollout.scales],
        "threshold": rollout.threshold,
        "freq_bound": rollout.freq_bound,
        "penalty_scale": rollout.penalty_scale,
    }
    tensors = {f"{_GATE}.weight": np.array(weight), f"{_GATE}.bias": np.array(bias)}
    return Pretrained(block, rollout, names, config, tensors)


def _measures_alike(normalization: Normalization) -> bool:
    """Whether scales are those of the published form, but for what is added to them."""
    return normalization.ddof == 1 and not normalization.eps_inside


def _check_constant(block: Mixture, expert: int, name: str) -> None:
    wanted = np.zeros(block.weights.shape[2:])
    wanted[-1] = name == "naive"
    bias = block.scale_coef is not None and block.scale_coef[0, expert].any()
    if bias or not np.array_equal(block.weights[0, expert], wanted):
        raise ValueError(
            f"expert {expert} is named {name!r} and forecasts something else. Name it otherwise."
        )


def write_superlinear(folder: str | os.PathLike[str], model: Pretrained) -> None:
    """Write a model in the published form: ``config.json`` and ``model.safetensors``.

    Parameters
    ----------
    folder : str or path-like
        Made if it is not there; files of these names in it are replaced.
    model : Pretrained

    Notes
    -----
    Read again, the model is the same to the last digit: tensors are written in float32 where all
    of them fit into it, else in float64.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mixlin.pretrained import read_superlinear, write_superlinear
    >>> state = {
    ...     "moe.experts.0.Linear.weight": np.ones((2, 4)),
    ...     "moe.experts.0.Linear.bias": np.zeros(2),
    ...     "moe.gating_network.weight": np.zeros((1, 5)),
    ...     "moe.gating_network.bias": np.zeros(1),
    ... }
    >>> config = {"train_seq_len": 4, "train_pred_len": 2, "fft_len": 10, "comp_moe": 0}
    >>> model = read_superlinear(state, {**config, "freq_experts": "1/4"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_superlinear(folder, model)
    ...     again = read_superlinear(folder)
    >>> bool((again.block.weights == model.block.weights).all())
    True
    """
    settings = read_settings(model.config)
    block = model.block
    tensors: dict[str, Array] = {}
    for e in range(block.n_experts):
        if not settings.is_constant(e):
            tensors[_expert_key(e, "weight")] = block.weights[0, e].T
            zero = np.zeros(block.horizon)
            bias = zero if block.scale_coef is None else block.scale_coef[0, e]
            tensors[_expert_key(e, "bias")] = bias
    tensors |= model.gate_tensors
    tensors = _checked(tensors, settings)
    floats = [array for array in tensors.values() if array.dtype.kind == "f"]
    with np.errstate(over="ignore"):
        single = all((array.astype(np.float32) == array).all() for array in floats)
    dtype = np.dtype(np.float32 if single else np.float64)
    written = {
        f"{_PREFIX}{key}": array.astype(dtype) if array.dtype.kind == "f" else array
        for key, array in tensors.items()
    }
    write_folder(folder, {**model.config, "torch_dtype": dtype.name}, written)
