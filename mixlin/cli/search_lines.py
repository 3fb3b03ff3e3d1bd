"""What a search chose, for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from .sources import counted

_MOST_ROWS = 12  # groups that are listed
_LEAST_SHARE = 0.005  # groups with less are left out


def search_lines(model: Any) -> list[str]:
    """Say what a fitted search tried, and which groups share the forecast.

    Parameters
    ----------
    model : forecaster

    Returns
    -------
    list of str
        Empty for other models.
    """
    if not hasattr(model, "cv_results_") or not hasattr(model, "groups_"):
        return []
    n_tried, n_groups = len(model.cv_results_["alpha"]), len(model.groups_)
    seasons = [f"{period} rows" for period in model.periods_]
    said = f"season of {' and '.join(seasons)}" if seasons else "no season"
    lines = [f"searched: {n_tried} candidates in {counted(n_groups, 'group')}, {said}"]
    plan = model.plan_
    if plan.transform is not None:
        changed = int(plan.transform.changed.sum())
        lines[0] += f", {counted(changed, 'channel')} transformed"
    if plan.calendar is not None:
        lines[0] += ", with calendar terms"
    shares = np.asarray(model.weights_of_groups_)
    order = [g for g in np.argsort(-shares, kind="stable") if shares[g] >= _LEAST_SHARE]
    several = len({group["normalization"] for group in model.groups_}) > 1
    table = [["share", "error", "lookback", "half-life", "alpha", "beta", "kappa"]]
    if several:
        table[0].append("level")
    for g in order[:_MOST_ROWS]:
        group = model.groups_[g]
        row = [
            f"{100 * shares[g]:.0f} %",
            f"{group['validation_error']:.4f}",
            str(group["lookback"]),
            _half_life(group["forgetting"]),
            _penalty(group["alpha"]),
            _penalty(group["beta"]),
            _penalty(group["kappa"]),
        ]
        table.append([*row, group["normalization"]] if several else row)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        lines.append(
            "  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        )
    rest = n_groups - min(len(order), _MOST_ROWS)
    if rest:
        lines.append(f"({counted(rest, 'group')} with less are left out)")
    return lines


def _half_life(forgetting: float | None) -> str:
    if forgetting is None or np.isinf(forgetting):
        return "none"
    return f"{100 * forgetting:.3g} %" if forgetting < 1 else f"{forgetting:.6g}"


def _penalty(value: float) -> str:
    return "inf" if np.isinf(value) else f"{value:g}"
