"""
The best linear forecaster, found by itself
===========================================

Which lookback, which penalty, how much of the past, one matrix for all channels or one for each?
:class:`~mixlin.AutoLinearForecaster` tries them all on held-out rows, in closed form, and averages
what is best.
"""

# %%
# Three channels
# --------------
# Two loads with a daily and a weekly season, and a temperature that wanders around a daily cycle.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import AutoLinearForecaster, NLinearForecaster
from mixlin.backtesting import rolling_backtest
from mixlin.datasets import make_seasonal
from mixlin.plotting import SearchDisplay, WeightsDisplay

# sphinx_gallery_thumbnail_number = 1

n_rows = 24 * 120
frame = make_seasonal(n_rows, n_channels=2, random_state=0, as_frame=True).frame
rng = np.random.default_rng(0)
weather = np.empty(n_rows)
weather[0] = 0.0
for t in range(1, n_rows):
    weather[t] = 0.98 * weather[t - 1] + rng.normal(scale=0.4)
frame["temperature"] = 12 + 4 * np.sin(2 * np.pi * np.arange(n_rows) / 24) + weather
known, ahead = frame.iloc[:-48], frame.iloc[-48:]

model = AutoLinearForecaster(lookback=(48, 96, 168), horizon=48).fit(known)
SearchDisplay.from_estimator(model).plot()
plt.show()

# %%
# A cell is the held-out error of a lookback and a penalty, the best one framed; right of the white
# line channels have corrections of their own. No single group is taken: the better, the larger its
# share of the forecast.
best = model.best_params_
print(
    f"best of {len(model.cv_results_['alpha'])}: lookback {best['lookback']}, alpha {best['alpha']}"
)

# %%
# What the matrix is made of
# --------------------------
# The prior, averages over past cycles with a few fitted coefficients, is what the weights are
# shrunk towards; the data have to pay for everything else.
WeightsDisplay.from_estimator(model, channel=2, parts=True).plot()
plt.show()

# %%
# As in use
# ---------
# New rows come in every hour. The choices are kept, and the weights solved again; the error is
# that of forecasts made every fourth one of the last 100 hours, against a model without a search.
options = {"initial": n_rows - 147, "n_origins": 25, "step": 4}
rolled = {
    "search": rolling_backtest(model, frame, **options),
    "NLinear": rolling_backtest(NLinearForecaster(168, 48), frame, **options),
}
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for c, (ax, name) in enumerate(zip(axes, frame.columns, strict=True)):
    for (label, result), color in zip(rolled.items(), ("#2f6f9f", "#c8652a"), strict=True):
        errors = np.square(result.forecasts - result.targets)[:, :, c].mean(axis=0)
        ax.plot(np.arange(1, 49), np.sqrt(errors), color=color, label=label, lw=1.8)
    ax.set_title(name, loc="left", fontsize=10)
    ax.set_xlabel("hours ahead")
    ax.set_ylim(0)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("root mean squared error")
axes[0].legend(frameon=False)
plt.show()
