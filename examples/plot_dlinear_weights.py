"""
Reading DLinear's weights as pictures
=====================================

A linear forecaster can be looked at whole: one row of numbers per step ahead, one column per lag.
DLinear splits each window into a trend and a seasonal part and gives each its own map; both are
solved as one, and both can be shown.
"""

# %%
# Fit
# ---
# Hourly load; the window is eight days long, the moving average a day and an hour wide.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import DLinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.decomposition import decompose

series = make_seasonal(random_state=0).data
lookback, horizon = 192, 48
model = DLinearForecaster(lookback=lookback, horizon=horizon, kernel_size=25, alpha=1e-3)
model.fit(series)

# sphinx_gallery_thumbnail_number = 2

# %%
# What the two maps see
# ---------------------
window = series[-lookback:, 0]
trend, seasonal = decompose(window, kernel_size=25)

hours = np.arange(-lookback, 0)
blue, orange, ink = "#2f6f9f", "#c8652a", "#333333"
fig, axes = plt.subplots(2, 1, figsize=(9, 4), layout="constrained", sharex=True)
axes[0].plot(hours, window, color=ink, lw=1, alpha=0.5, label="window")
axes[0].plot(hours, trend, color=orange, lw=2, label="trend")
axes[1].plot(hours, seasonal, color=blue, lw=1.4, label="seasonal part")
axes[1].set(xlabel="hours before the forecast", xlim=(-lookback, 0))
for ax in axes:
    ax.set_ylabel("MW")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper right", frameon=False, ncols=2)
axes[0].set_ylim(top=1.15 * window.max())
axes[1].set_ylim(top=1.4 * seasonal.max())
plt.show()

# %%
# The two maps
# ------------
# The row is the step that is forecast, the column the hour that it reads. Diagonals are memory of
# the same hour on earlier days: the strong one is the same day of last week, with fainter ones
# a day before and after it, and yesterday at the right. The trend map reads the level of that
# day of last week, and the level of the last hours.
pictures = {
    "Seasonal map": model.seasonal_coef_,
    "Trend map": model.trend_coef_,
    "What is applied: both folded into one matrix": model.coef_,
}
fig, axes = plt.subplots(3, 1, figsize=(9, 7), layout="constrained", sharex=True)
for ax, (title, coef) in zip(axes, pictures.items(), strict=True):
    limit = np.quantile(np.abs(coef), 0.99)
    image = ax.imshow(
        coef,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        extent=(-lookback - 0.5, -0.5, horizon + 0.5, 0.5),
        interpolation="nearest",
    )
    ax.set(title=title, ylabel="steps ahead")
    fig.colorbar(image, ax=ax, pad=0.01, shrink=0.9)
axes[-1].set_xlabel("hours before the forecast")
axes[-1].set_xticks(np.arange(-lookback, 1, 24))
plt.show()

# %%
# One row of the folded matrix, the forecast 24 hours ahead, says it plainly: the same hour of last
# week (at -144) and its neighbors, the day after that, and the last hour, which is the same hour of
# the day before.
row = model.coef_[23]
fig, ax = plt.subplots(figsize=(9, 2.8), layout="constrained")
ax.vlines(hours, 0, row, color=np.where(row > 0, orange, blue), lw=1.8)
ax.axhline(0, color=ink, lw=0.8)
ax.set(xlabel="hours before the forecast", title="Weights for 24 hours ahead", xlim=(-lookback, 0))
ax.set_xticks(np.arange(-lookback, 1, 24))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The identities
# --------------
# The pictures are not an interpretation, they are the model: the forecast of a window is the
# product with the folded matrix, and equally the sum of the products of the parts.
folded = model.coef_ @ window + model.intercept_
parts = model.seasonal_coef_ @ seasonal + model.trend_coef_ @ trend + model.intercept_
forecast = model.predict()[:, 0]
largest = abs(folded - forecast).max(), abs(parts - forecast).max()
print(f"largest differences: {largest[0]:.1e} and {largest[1]:.1e} MW")
