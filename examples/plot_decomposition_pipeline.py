"""
Decomposition as a transformer in a Pipeline
============================================

DLinear is a moving average followed by a linear model. Said in scikit-learn's words, it is
``make_pipeline(SeriesDecomposer(25), LinearForecaster())`` on windows, and the two agree to the
last digits.
"""

# %%
# A whole series first
# --------------------
# :func:`mixlin.decompose` works along time: ``axis=0`` for a series, ``axis=1`` (the default)
# for windows. Edges are replicated, so the parts are as long as the data, and they add up to it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from mixlin import DLinearForecaster, LinearForecaster, SeriesDecomposer, decompose
from mixlin.datasets import make_seasonal
from mixlin.windows import make_windows

series = make_seasonal(24 * 7 * 26, random_state=0).data[:, 0]
trend, seasonal = decompose(series, kernel_size=25, axis=0)

days = np.arange(24 * 28) / 24
blue, orange, ink = "#2f6f9f", "#c8652a", "#333333"
fig, axes = plt.subplots(2, 1, figsize=(9, 4.2), layout="constrained", sharex=True)
axes[0].plot(days, series[: len(days)], color=ink, lw=0.9, alpha=0.55, label="load")
axes[0].plot(days, trend[: len(days)], color=orange, lw=2.2, label="trend, 25 hours wide")
axes[1].plot(days, seasonal[: len(days)], color=blue, lw=1.1, label="seasonal part")
axes[1].set(xlabel="day", xlim=(0, 28))
for ax in axes:
    ax.set_ylabel("MW")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper right", ncols=2)
axes[0].set_ylim(top=1.14 * series[: len(days)].max())
axes[1].set_ylim(top=1.6 * seasonal[: len(days)].max())
plt.show()

# %%
# Windows and a Pipeline
# ----------------------
# Pipelines are for windows: rows are windows, columns are lags. The transformer puts the seasonal
# part and the trend of every window side by side.
X, y = make_windows(series, lookback=96, horizon=24)
n_train = len(X) - 24 * 28
X_train, y_train = X[:n_train], y[:n_train]
X_test, y_test = X[n_train + 23 :], y[n_train + 23 :]  # targets must not overlap

pipeline = make_pipeline(SeriesDecomposer(kernel_size=25), LinearForecaster(alpha=1e-4))
pipeline.fit(X_train, y_train)
print(pipeline[0].transform(X_test).shape)

# %%
# The same model in one step. ``alpha`` is relative to the variance of a forecaster's inputs, which
# in the pipeline are the parts; the ratio of the two variances translates it.
parts = pipeline[0].transform(X_train)


def variance(columns):
    return columns.var(axis=0).mean() + columns.mean(axis=0).var()


dlinear = DLinearForecaster(kernel_size=25, alpha=1e-4 * variance(parts) / variance(X_train))
dlinear.fit(X_train, y_train)

difference = np.abs(pipeline.predict(X_test) - dlinear.predict(X_test)).max()
print(f"R2 {pipeline.score(X_test, y_test):.4f} and {dlinear.score(X_test, y_test):.4f}")
print(f"largest difference of two forecasts: {difference:.1e} MW")

# %%
# Other estimators, other widths
# ------------------------------
# The transformer goes with any estimator of scikit-learn. And the width of the moving average
# hardly matters: two maps on two parts of a window are one map on the window, whatever the parts.
# Only the penalty sees the split, so the width shows where the penalty is large.
ridge = make_pipeline(SeriesDecomposer(kernel_size=25), Ridge(alpha=1.0)).fit(X_train, y_train)
print(f"with Ridge: R2 {ridge.score(X_test, y_test):.4f}")

widths = [3, 13, 25, 49, 73]
penalties = [1e-4, 1e-2, 1e-1]
fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for penalty, color in zip(penalties, (blue, "#3d8b5f", orange), strict=True):
    scores = [
        DLinearForecaster(kernel_size=k, alpha=penalty).fit(X_train, y_train).score(X_test, y_test)
        for k in widths
    ]
    ax.plot(widths, scores, "o-", color=color, lw=1.8, ms=4, label=f"alpha={penalty:g}")
ax.set_xticks(widths)
ax.set(xlabel="kernel_size (steps)", ylabel="R2 on the last four weeks", title="Width and penalty")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
