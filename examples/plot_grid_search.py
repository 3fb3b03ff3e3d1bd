"""
Choosing lookback and penalty with GridSearchCV
===============================================

Forecasters are scikit-learn estimators, so its model selection works on a series as it is: no
windows to cut, no special splitter, no leak to guard against by hand.
"""

# %%
# A grid over time
# ----------------
# ``TimeSeriesSplit`` trains on a first part of the rows and validates on the block that follows.
# ``score`` of a fold sees that the block continues the training rows, and takes the lookback it
# needs from their tail. ``forecast_scorer`` does the same with other measures; here the mean
# absolute error, negated, as larger is better.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from mixlin import NLinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.metrics import forecast_scorer

load = make_seasonal(24 * 7 * 30, noise=0.05, as_frame=True, random_state=0).frame
train, test = load.iloc[: -24 * 28], load.iloc[-24 * 28 :]

grid = {
    "lookback": [24, 48, 96, 168, 336, 504],
    "alpha": [1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
}
search = GridSearchCV(
    NLinearForecaster(horizon=48),
    grid,
    cv=TimeSeriesSplit(n_splits=4, test_size=24 * 14),
    scoring=forecast_scorer("mae"),
)
search.fit(train)
print(search.best_params_)

# %%
# 36 settings on 4 folds and the final fit are 145 exact fits. They took:
print(f"{np.sum(search.cv_results_['mean_fit_time']) * search.n_splits_:.1f} s of fitting")

# %%
# The surface
# -----------
# The penalty is relative to the variance of the inputs and to the number of windows, so one grid
# serves every lookback, every fold and every unit of measurement.
error = -search.cv_results_["mean_test_score"].reshape(len(grid["alpha"]), len(grid["lookback"]))

fig, ax = plt.subplots(figsize=(7.2, 4), layout="constrained")
image = ax.imshow(error, cmap="viridis_r", aspect="auto")
for (i, j), value in np.ndenumerate(error):
    dark = value > (error.min() + error.max()) / 2
    ax.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if dark else "black")
i, j = np.unravel_index(error.argmin(), error.shape)
ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="#c8352a", lw=2.5))
ax.set_xticks(range(len(grid["lookback"])), grid["lookback"])
ax.set_yticks(range(len(grid["alpha"])), [f"{a:g}" for a in grid["alpha"]])
ax.set(xlabel="lookback (steps)", ylabel="alpha", title="Validation error (MW), chosen one framed")
fig.colorbar(image, ax=ax)
plt.show()

# %%
# On rows that the search never saw
# ---------------------------------
# ``best_estimator_`` was fitted on all training rows. It is held against repeating the same hour of
# the day before.
mae = -forecast_scorer("mae")(search.best_estimator_, test)

values = load["load"].to_numpy()
ahead = np.arange(len(train), len(load) - 47)[:, None] + np.arange(48)
yesterday = values[ahead - np.where(np.arange(48) < 24, 24, 48)]
naive = abs(values[ahead] - yesterday).mean()
print(f"forecaster {mae:.1f} MW, same hour of the day before {naive:.1f} MW")
