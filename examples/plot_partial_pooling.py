"""
Many channels: shared, individual, or in between
================================================

Twelve regions, one model each or one model for all? ``individual`` answers with False (one matrix),
True (one per channel), or ``"partial"``: the shared matrix with per-channel corrections that the
data have to pay for.
"""

# %%
# Twelve channels that differ
# ---------------------------
# The channels differ in their customers and in how noisy they are, so that no one matrix is best
# for all of them.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import ExactSolver, LinearForecaster
from mixlin.datasets import make_seasonal

noise = np.geomspace(0.002, 0.25, 12)
series = np.column_stack(
    [
        make_seasonal(24 * 7 * 60, noise=float(level), random_state=i).data[:, 0]
        for i, level in enumerate(noise)
    ]
)
rows, test = series[: -24 * 7 * 8], series[-24 * 7 * 8 :]

# sphinx_gallery_thumbnail_number = 2

blue, orange, green, ink = "#2f6f9f", "#c8652a", "#3d8b5f", "#333333"
fig, axes = plt.subplots(3, 1, figsize=(9, 4), layout="constrained", sharex=True)
for ax, channel in zip(axes, (0, 6, 11), strict=True):
    ax.plot(np.arange(24 * 14) / 24, rows[: 24 * 14, channel], color=ink, lw=1)
    ax.set_title(f"channel {channel}, noise {100 * noise[channel]:.1f} %", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
axes[1].set_ylabel("load (MW)")
axes[-1].set_xlabel("day")
plt.show()

# %%
# Error against the length of the history
# ---------------------------------------
# With little history twelve separate matrices overfit; with much of it one matrix is too few. The
# corrections of ``"partial"`` are shrunk by a penalty of their own, ``ExactSolver(pooling=...)``.
# With one setting they are ahead of both where history is short, and near the better one where it
# is long.


def error(n_weeks, **params):
    """Share of the variance that the forecasts of the last eight weeks leave unexplained."""
    model = LinearForecaster(168, 24, normalization="mean", alpha=1e-3, **params)
    return 1 - model.fit(rows[-24 * 7 * n_weeks :]).score(test)


weeks = [6, 8, 10, 15, 20, 30, 50]
partly = {"individual": "partial", "solver": ExactSolver(pooling=0.3)}
curves = {
    "shared": (blue, [error(w, individual=False) for w in weeks]),
    "individual": (orange, [error(w, individual=True) for w in weeks]),
    "partial, pooling=0.3": (green, [error(w, **partly) for w in weeks]),
}
strengths = np.geomspace(1e-3, 1e2, 11)
by_strength = [
    error(10, individual="partial", solver=ExactSolver(pooling=float(s))) for s in strengths
]

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
for name, (color, values) in curves.items():
    axes[0].plot(weeks, values, "o-", color=color, label=name, ms=4, lw=1.8)
axes[0].set_xscale("log")
axes[0].set_xticks(weeks, weeks)
axes[0].minorticks_off()
axes[0].set(xlabel="weeks of history", ylabel="unexplained variance", title="Twelve channels")
axes[0].legend(frameon=False)
axes[1].semilogx(strengths, by_strength, "o-", color=green, ms=4, lw=1.8)
for name in ("shared", "individual"):
    color, values = curves[name]
    axes[1].axhline(values[weeks.index(10)], color=color, ls="--", lw=1.2, label=name)
axes[1].set(xlabel="pooling", title="Ten weeks: the strength of pooling")
axes[1].legend(frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# What the corrections do
# -----------------------
# The weights for twelve hours ahead, of the quietest and of the noisiest channel, from one fit.
# Both read the last hour, the same hour of the day before, and that of last week (at -157); the
# noisy channel trusts last week half as much and spreads its weight over neighboring hours.
model = LinearForecaster(168, 24, normalization="mean", alpha=1e-3, **partly).fit(rows)
lags = np.arange(-168, 0)
fig, axes = plt.subplots(2, 1, figsize=(9, 4), layout="constrained", sharex=True, sharey=True)
for ax, channel, color in zip(axes, (0, 11), (blue, orange), strict=True):
    ax.vlines(lags, 0, model.coef_[channel, 11], color=color, lw=1.8)
    ax.axhline(0, color=ink, lw=0.8)
    ax.set_title(f"channel {channel}, noise {100 * noise[channel]:.1f} %", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set(xlabel="hours before the forecast", xlim=(-169, 1))
axes[-1].set_xticks(np.arange(-168, 1, 24))
plt.show()
