"""A report on a mixture: usage, errors without and with single experts, distances."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import entr
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..calendar_features import calendar_bins
from .windows import STATISTICS, ReportWindows, read_report_windows, statistic_bins

Float64Array = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.datetime64]

_DEAD_SHARE = 0.1  # of an even share: below, an expert is as good as not there
_CALENDAR = {
    "hour": [str(hour) for hour in range(24)],
    "weekday": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
    "month": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
}
_FIFTHS = ["lowest", "low", "middle", "high", "highest"]


def mixture_report(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    timestamps: Any = None,
    scale: bool | npt.ArrayLike = True,
) -> Bunch:
    r"""Report which experts a mixture uses, when, and what each of them is worth.

    The gates :math:`g` and the experts' forecasts :math:`f_e` of every window are summed up in
    blocks, so that a long series needs little memory beyond its own: what is kept of a window are
    three numbers per channel.

    Parameters
    ----------
    model : forecaster
        Fitted, with ``gate_weights`` and ``expert_forecasts``.
    X : array-like
        Windows of shape (n_windows, lookback, n_channels), or (n_windows, lookback) for one
        channel. Or a series of shape (n_rows, n_channels) or (n_rows,), a pandas Series or
        DataFrame: every window of it that is free of missing values counts. A two-dimensional
        array without ``y`` is a series, unless it fits only as windows.
    y : array-like of shape (n_windows, horizon, n_channels), optional
        What followed each window; (n_windows, horizon) for one channel. Without it, windows give
        no errors. A series brings its own.
    timestamps : array-like of datetime64, optional
        For a series the times of its rows, shape (n_rows,); a frame has them in its index. For
        windows the time of each window's first step, shape (n_windows,), of all its steps,
        (n_windows, lookback), or those to forecast too, (n_windows, lookback + horizon).
    scale : bool or array-like of shape (n_channels,), default=True
        Divide every channel by the standard deviation of its ``y`` (of its windows without
        ``y``) before errors and distances are averaged over channels, so that none outweighs the
        others; or by numbers of your own, such as deviations of the training rows. False keeps
        the units of the data.

    Returns
    -------
    report : Bunch
        expert_names : list of str
            Those of the model.
        usage : array of shape (n_experts,)
            Mean gate.
        entropy : float
            Mean entropy of a gate, in nats: 0 if one expert does all, log(n_experts) if all share.
        n_effective : float
            exp of the entropy of ``usage``: how many experts are used over all windows.
        usage_by : dict of Bunch(labels, usage, count)
            By bins "hour", "weekday" and "month" of the forecast time where times are known, and
            by fifths of the windows' "level" (mean), "spread" (log of the standard deviation) and
            "trend" (correlation with time), each standardised per channel. ``usage`` of shape
            (n_bins, n_experts) is the mean gate in the bin, NaN where nothing fell into it;
            ``count`` of shape (n_bins,) the number of gates. A window's time is that of the
            first step to forecast; with a gate per step every step counts at its own.
        information : dict of float
            Mutual information between expert and bin, in nats, for every key of ``usage_by``.
        error : float or None
            Mean squared error of the mixture.
        solo_error : array of shape (n_experts,) or None
            That of every expert alone.
        drop_one_error : array of shape (n_experts,) or None
            That of the mixture without the expert; the others' gates are renormalised, and
            share equally where they had none. NaN for a single expert.
        distance : array of shape (n_experts, n_experts)
            Root mean squared difference of the experts' forecasts. For experts
            :math:`M_i x` and windows with second moments :math:`S` this is
            :math:`\sqrt{\mathrm{tr}((M_i - M_j) S (M_i - M_j)^T) / H}`.
        dead : list of int
            Experts with a usage below 0.1 / n_experts.
        channel_scale : array of shape (n_channels,)
            What channels were divided by.
        n_windows : int
            How many windows counted.
        per_step : bool
            Whether every step has a gate.

    Raises
    ------
    TypeError
        If the model is no mixture of experts.
    ValueError
        If shapes do not agree, or no window is free of missing values.

    Warns
    -----
    UserWarning
        If an expert is dead.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin import MoLEForecaster
    >>> from mixlin.inspection import mixture_report, report_table
    >>> series = np.sin(2 * np.pi * np.arange(600) / 24)
    >>> model = MoLEForecaster(48, 12, n_experts=2, random_state=0).fit(series)
    >>> report = mixture_report(model, series)
    >>> report.n_windows, round(float(report.usage.sum()), 6)
    (541, 1.0)
    """
    _check_model(model)
    windows = read_report_windows(model, X, y, timestamps)
    if not isinstance(scale, (bool, np.bool_)):
        per_channel = np.asarray(scale, dtype=np.float64)
        if per_channel.shape != (windows.n_channels,) or not (per_channel > 0).all():
            raise ValueError(
                f"scale must be True, False, or {windows.n_channels} positive numbers, one per "
                f"channel; got {scale!r}."
            )
    names = [str(name) for name in model.expert_names_]
    bins = statistic_bins(windows)
    scaler, sums = StandardScaler(), _Sums(len(names), windows)
    for rows, x, target, stamps in windows.blocks(len(names)):
        gates, experts = _parts(model, x, stamps, windows.horizon, len(names))
        sums.add(gates, experts, target)
        for name, bin_of in bins.items():
            sums.add_bins(name, gates, bin_of[rows][:, None])
        if stamps is not None:
            ahead = stamps[:, model.lookback_ :][:, : gates.shape[1], None]
            for unit in _CALENDAR:
                sums.add_bins(unit, gates, calendar_bins(ahead, unit) - (unit == "month"))
        scaler.partial_fit((x if target is None else target).reshape(-1, x.shape[2]))
    if isinstance(scale, (bool, np.bool_)):
        per_channel = np.asarray(scaler.scale_) if scale else np.ones(windows.n_channels)
    report = sums.report(names, per_channel)
    if report.dead:
        listed = ", ".join(names[e] for e in report.dead)
        one = len(report.dead) == 1
        warnings.warn(
            f"{listed} {'has' if one else 'have'} less than a tenth of an even share of the "
            f"weight ({_DEAD_SHARE / len(names):.2g}): fit with fewer experts, or with a "
            "stronger pull towards balance.",
            UserWarning,
            stacklevel=2,
        )
    return report


def report_table(report: Bunch) -> str:
    """Write a report as a table in plain text.

    Parameters
    ----------
    report : Bunch
        From :func:`mixture_report`.

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.inspection import report_table
    >>> from sklearn.utils import Bunch
    >>> report = Bunch(
    ...     expert_names=["expert 0", "expert 1"], usage=np.array([0.75, 0.25]), entropy=0.3,
    ...     n_effective=1.75, information={"hour": 0.2, "level": 0.05}, error=0.5,
    ...     solo_error=np.array([0.6, 0.9]), drop_one_error=np.array([0.9, 0.6]), dead=[],
    ...     n_windows=100,
    ... )
    >>> print(report_table(report))
    100 windows, 2 experts, 1.8 of them in effect; entropy of a gate 0.30 nats
    expert      usage       alone   left out
    expert 0   75.0 %         0.6        0.9
    expert 1   25.0 %         0.9        0.6
    mixture                   0.5
    information in nats: hour 0.200, level 0.050
    """
    n_experts = len(report.usage)
    plural = "s" if n_experts > 1 else ""
    lines = [
        f"{report.n_windows} windows, {n_experts} expert{plural}, {report.n_effective:.1f} of them "
        f"in effect; entropy of a gate {report.entropy:.2f} nats"
    ]
    has_errors = report.error is not None
    width = max(len("mixture"), *map(len, report.expert_names))
    lines.append(f"{'expert':{width}}  {'usage':>7}" + " {:>11}{:>11}".format("alone", "left out"))
    if not has_errors:
        lines[-1] = f"{'expert':{width}}  {'usage':>7}"
    for e, name in enumerate(report.expert_names):
        row = f"{name:{width}}  {100 * report.usage[e]:5.1f} %"
        if has_errors:
            left_out = report.drop_one_error[e]
            shown = "" if np.isnan(left_out) else f"{left_out:.4g}"
            row += f" {report.solo_error[e]:>11.4g}{shown:>11}"
        lines.append(row.rstrip() + ("  (dead)" if e in report.dead else ""))
    if has_errors:
        lines.append(f"{'mixture':{width}}  {'':7} {report.error:>11.4g}")
    told = ", ".join(f"{name} {value:.3f}" for name, value in report.information.items())
    return "\n".join([*lines, f"information in nats: {told}"])


def _check_model(model: Any) -> None:
    if not (hasattr(model, "gate_weights") and hasattr(model, "expert_forecasts")):
        raise TypeError(
            "a mixture report needs a mixture of experts, with gate_weights and expert_forecasts, "
            f"such as MoLEForecaster; got {type(model).__name__}."
        )
    check_is_fitted(model, "lookback_")


def _parts(
    model: Any, x: Float64Array, stamps: Stamps | None, horizon: int, n_experts: int
) -> tuple[Float64Array, Float64Array]:
    """Return gates (n, 1 or H, C, E) and forecasts (n, H, C, E) of a block."""
    gates = np.asarray(model.gate_weights(x, timestamps=stamps), dtype=np.float64)
    experts = np.asarray(model.expert_forecasts(x, timestamps=stamps), dtype=np.float64)
    shape = (len(x), horizon, x.shape[2], n_experts)
    gates = gates[:, None] if gates.ndim == 3 else gates
    fits = gates.ndim == 4 and all(
        got in (1, want) for got, want in zip(gates.shape[1:3], shape[1:3], strict=True)
    )
    if experts.shape != shape or not fits or gates.shape[::3] != shape[::3]:
        raise ValueError(
            f"expert_forecasts must return (n, horizon, n_channels, n_experts) = {shape} and "
            f"gate_weights (n, n_channels, n_experts) or that; got {experts.shape} and "
            f"{gates.shape} from {type(model).__name__}."
        )
    return np.broadcast_to(gates, (*gates.shape[:2], *shape[2:])), experts


class _Sums:
    """What is summed over windows; the report are means of it."""

    def __init__(self, n_experts: int, windows: ReportWindows) -> None:
        C, E = windows.n_channels, n_experts
        self.n_windows, self.horizon = len(windows.counted), windows.horizon
        self.has_errors = windows.y is not None
        self.gates, self.n_gates, self.entropy = np.zeros(E), 0, 0.0
        self.mixed, self.solo, self.without = np.zeros(C), np.zeros((C, E)), np.zeros((C, E))
        self.moments = np.zeros((C, E, E))  # of the forecasts, about their mean over experts
        calendar = {} if windows.stamps is None else _CALENDAR
        self.labels = {**calendar, **dict.fromkeys(STATISTICS, _FIFTHS)}
        self.by = {unit: np.zeros((len(bins), E)) for unit, bins in self.labels.items()}
        self.count = {u: np.zeros(len(bins), dtype=np.int64) for u, bins in self.labels.items()}
        self.per_step = False

    def add(self, gates: Float64Array, experts: Float64Array, y: Float64Array | None) -> None:
        E = gates.shape[-1]
        self.per_step = self.per_step or gates.shape[1] > 1
        self.gates += gates.sum(axis=(0, 1, 2))
        self.n_gates += gates.size // E
        self.entropy += float(entr(gates).sum())
        apart = (experts - experts.mean(axis=-1, keepdims=True)).transpose(2, 3, 0, 1)
        apart = apart.reshape(*apart.shape[:2], -1)
        self.moments += apart @ apart.transpose(0, 2, 1)
        if y is None:
            return
        error = experts - y[..., None]
        weighted = gates * error
        self.mixed += (weighted.sum(axis=-1) ** 2).sum(axis=(0, 1))
        self.solo += (error**2).sum(axis=(0, 1))
        if E > 1:
            rest = _sum_of_others(gates)
            held = rest > 0  # what others have, if only a little, is renormalised
            even = _sum_of_others(error) / (E - 1)
            mixed = _sum_of_others(weighted) / np.where(held, rest, 1.0)
            self.without += (np.where(held, mixed, even) ** 2).sum(axis=(0, 1))

    def add_bins(self, unit: str, gates: Float64Array, bins: npt.NDArray[Any]) -> None:
        """Add gates (n, 1 or H, C, E) to the bins of one unit, (n, 1 or H, 1 or C)."""
        total, count = self.by[unit], self.count[unit]
        place = np.broadcast_to(bins, gates.shape[:3]).ravel()
        count += np.bincount(place, minlength=len(count))
        for e in range(gates.shape[-1]):
            total[:, e] += np.bincount(place, gates[..., e].ravel(), minlength=len(total))

    def report(self, names: list[str], scale: Float64Array) -> Bunch:
        E, n = len(names), self.n_windows * self.horizon
        usage = self.gates / self.n_gates
        usage_by, information = {}, {}
        for unit, total in self.by.items():
            count = self.count[unit]
            share = np.where(count[:, None] > 0, total, np.nan)
            share = share / np.maximum(count, 1)[:, None]
            usage_by[unit] = Bunch(labels=list(self.labels[unit]), usage=share, count=count)
            joint = total / self.n_gates
            # entropies of both sides less the joint one; rounding may leave it below zero
            known = entr(joint.sum(axis=1)).sum() + entr(joint.sum(axis=0)).sum()
            information[unit] = max(0.0, float(known - entr(joint).sum()))
        squared = scale * scale
        gram = (self.moments / squared[:, None, None]).mean(axis=0) / n
        own = np.diag(gram)
        distance = np.sqrt(np.maximum(own[:, None] + own - 2 * gram, 0.0))
        np.fill_diagonal(distance, 0.0)
        error: Any = [None, None, None]
        if self.has_errors:
            by_channel = (self.mixed[:, None], self.solo, self.without)
            error = [(e / squared[:, None]).mean(axis=0) / n for e in by_channel]
            error[0] = float(error[0][0])
            error[2] = error[2] if E > 1 else np.full(1, np.nan)
        return Bunch(
            expert_names=names,
            usage=usage,
            entropy=self.entropy / self.n_gates,
            n_effective=float(np.exp(entr(usage).sum())),
            usage_by=usage_by,
            information=information,
            error=error[0],
            solo_error=error[1],
            drop_one_error=error[2],
            distance=distance,
            dead=[e for e in range(E) if usage[e] < _DEAD_SHARE / E],
            channel_scale=scale,
            n_windows=self.n_windows,
            per_step=self.per_step,
        )


def _sum_of_others(values: Float64Array) -> Float64Array:
    """Return for every entry of the last axis the sum of all others, without subtracting."""
    out = np.zeros_like(values)
    np.cumsum(values[..., :-1], axis=-1, out=out[..., 1:])
    out[..., :-1] += np.cumsum(values[..., :0:-1], axis=-1)[..., ::-1]
    return out
