"""The published model's ``config.json``: what it may say, and what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..mixture import Rollout

_PERIODS = (
    *(4, 6, 7, 8, 12, 14, 16, 21, 24, 28, 30, 32, 36, 42, 48, 52, 56, 60, 72, 84, 90, 96, 120, 144),
    *(168, 180, 224, 252, 288, 336, 365, 504, 672, 1008, 1440, 2016, 3600),
)
DEFAULTS: dict[str, Any] = {
    "train_seq_len": 512,
    "train_pred_len": 96,
    "top_k_experts": 12,
    "moe_temp": 1.0,
    "moe_norm": False,
    "comp_moe": 12,
    "use_fft": True,
    "fft_len": 5000,
    "freq_experts": "_".join(["mean", "naive", *(f"1/{period}" for period in _PERIODS)]),
    "long_horizon_scaling": 1,
    "lookback_resampling": 1,
    "scale_list": [2, 4, 6],
    "threshold": 0.2,
    "freq_bound": 0.25,
    "penalty_scale": 2.0,
}
"""What a key that a file leaves out means."""

_MOST_EXPERTS = 10_000


@dataclass(frozen=True)
class Settings:
    """What a ``config.json`` says, checked.

    Parameters
    ----------
    lookback, horizon : int
        Steps that a block reads and forecasts.
    experts : tuple of str
        As the file writes them: "mean", "naive", "1/24", ..., "comp_0", ...
    top_k : int
        At most the number of experts.
    temperature : float
    batch_norm : bool
        Whether logits are normalized by statistics of the training.
    padded_length : int
    spectral : bool
        Whether the gate reads the periodogram, else the window as it is.
    rollout : Rollout
        With ``compat="official"``.
    """

    lookback: int
    horizon: int
    experts: tuple[str, ...]
    top_k: int
    temperature: float
    batch_norm: bool
    padded_length: int
    spectral: bool
    rollout: Rollout

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the experts: "mean", "naive", "period 24", ..., "complementary 1", ..."""
        return tuple(_name_of(token) for token in self.experts)

    def is_constant(self, expert: int) -> bool:
        """Whether an expert repeats the mean or the last value, and so has no weights."""
        return self.experts[expert].lower() in ("mean", "naive")


def _name_of(token: str) -> str:
    period, complement = re.fullmatch(r"1/(\d+)", token), re.fullmatch(r"comp_(\d+)", token)
    if period:
        return f"period {period[1]}"
    if complement:
        return f"complementary {int(complement[1]) + 1}"
    lower = token.lower()
    return lower if lower in ("mean", "naive") else token.replace("comp", "complementary", 1)


def tokens_of(names: Sequence[str]) -> tuple[list[str], int]:
    """Return how a file writes experts: those of ``freq_experts``, and the number of ``comp_moe``.

    Parameters
    ----------
    names : sequence of str
        As in :attr:`Settings.names`; others are written as they are.

    Returns
    -------
    tokens : list of str
    n_complementary : int

    Raises
    ------
    ValueError
        If a name can't be written, or stands twice.
    """
    kept = list(names)
    n_complementary = 0
    while kept and re.fullmatch(r"complementary( \d+)?", kept[-1]):
        kept.pop()
        n_complementary += 1
    tokens = [re.sub(r"^period (\d+)$", r"1/\1", name) for name in kept]
    refused = [t for t in tokens if "_" in t or not t]
    if refused or len(set(tokens)) < len(tokens) or not tokens:
        raise ValueError(
            "names of experts must be different ones without '_', complementary ones last, and at "
            f"least one other; got {list(names)}."
        )
    return tokens, n_complementary


def read_settings(config: Mapping[str, Any] | None = None) -> Settings:
    """Check a configuration.

    Parameters
    ----------
    config : mapping, optional
        What ``config.json`` holds. Keys that it leaves out are those of the published model; keys
        that change no forecast are not looked at.

    Returns
    -------
    Settings

    Raises
    ------
    ValueError
        If a value is of another kind or out of range.

    Examples
    --------
    >>> from mixlin.pretrained import read_settings
    >>> settings = read_settings({"train_seq_len": 64, "freq_experts": "mean_1/24", "comp_moe": 1})
    >>> settings.lookback, settings.names
    (64, ('mean', 'period 24', 'complementary'))
    """
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(
            f"a configuration is a dict of names and values; got {type(config).__name__}."
        )
    values = {**DEFAULTS, **(config or {})}
    experts = _read_experts(values)
    return Settings(
        lookback=_count(values, "train_seq_len", 2),
        horizon=_count(values, "train_pred_len"),
        experts=experts,
        top_k=min(_count(values, "top_k_experts"), len(experts)),
        temperature=_number(values, "moe_temp", positive=True),
        batch_norm=_flag(values, "moe_norm"),
        padded_length=_count(values, "fft_len", 4),
        spectral=_flag(values, "use_fft"),
        rollout=Rollout(
            compat="official",
            resampling=_flag(values, "lookback_resampling"),
            scales=_read_scales(values["scale_list"]),
            threshold=_number(values, "threshold"),
            freq_bound=_number(values, "freq_bound", positive=True),
            penalty_scale=_number(values, "penalty_scale"),
            padded_length=_count(values, "fft_len", 4),
            clamp=_flag(values, "long_horizon_scaling"),
        ),
    )


def _refuse(key: str, accepted: str, value: Any) -> ValueError:
    return ValueError(f"{key} of the configuration must be {accepted}; got {value!r}.")


def _count(values: Mapping[str, Any], key: str, least: int = 1) -> int:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise _refuse(key, f"an integer of at least {least}", value)
    return int(value)


def _number(values: Mapping[str, Any], key: str, *, positive: bool = False) -> float:
    value = values[key]
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not np.isfinite(float(value))
        or (positive and not float(value) > 0)
    ):
        raise _refuse(key, "a positive number" if positive else "a number", value)
    return float(value)


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = values[key]
    if not isinstance(value, (bool, Integral)) or value not in (0, 1):
        raise _refuse(key, "true, false, 1 or 0", value)
    return bool(value)


def _read_experts(values: Mapping[str, Any]) -> tuple[str, ...]:
    given = values["freq_experts"]
    tokens = given.split("_") if isinstance(given, str) else given
    if (
        not isinstance(tokens, (list, tuple))
        or not tokens
        or not all(isinstance(token, str) and token for token in tokens)
    ):
        raise _refuse("freq_experts", "names such as 'mean_naive_1/24', or a list of them", given)
    n_complementary = _count(values, "comp_moe", 0)
    if len(tokens) + n_complementary > _MOST_EXPERTS:
        raise _refuse("comp_moe", f"such that there are at most {_MOST_EXPERTS} experts", given)
    extra = ["comp"] if n_complementary == 1 else [f"comp_{i}" for i in range(n_complementary)]
    return tuple(dict.fromkeys([*tokens, *extra]))  # the reference keeps one of equal names


def _read_scales(given: Any) -> tuple[float, ...]:
    try:
        items = given.split(",") if isinstance(given, str) else list(given)
        scales = tuple(float(item) for item in items)
        if all(np.isfinite(scale) and scale > 0 for scale in scales):
            return scales
    except (TypeError, ValueError):
        pass
    raise _refuse("scale_list", "positive numbers such as '2,4,6', or a list of them", given)
