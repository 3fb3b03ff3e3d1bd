"""
A first forecast, with an interval
==================================

Two years of hourly electricity load, four days ahead. The fit is exact: there are no epochs, no
learning rate and no random seed, and it takes milliseconds.
"""

# %%
# The series
# ----------
# :func:`mixlin.datasets.make_seasonal` makes a load with daily, weekly and yearly cycles. A data
# frame keeps its time index all the way through; an array works as well. The last four weeks are
# held back.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import LinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.plotting import ForecastDisplay

load = make_seasonal(as_frame=True, random_state=0).frame
train, test = load.iloc[: -24 * 28], load.iloc[-24 * 28 :]
train.tail(3)

# %%
# Fit and forecast
# ----------------
# A forecast reads the last 336 rows (``lookback``, two weeks) and returns the next 96
# (``horizon``), here with the interval that should hold 90 % of the values.
model = LinearForecaster(lookback=336, horizon=96).fit(train)
forecast = model.predict()
interval = model.predict_interval(coverage=0.9)
forecast.head(3)

# %%
# The index of the forecast continues that of the training rows, and an interval has two columns
# per channel, named by their quantiles.
interval.head(3)

# %%
# A plot shows the forecast beside the rows that it continues, and here also what came in the end.
display = ForecastDisplay.from_estimator(model, coverage=0.9, actual=test.loc[forecast.index])
display.plot(n_history=24 * 6)
plt.show()

# %%
# How good is it?
# ---------------
# ``score`` walks over the four weeks that the model has not seen: every window counts, the training
# tail is the context of the first ones, and the result is the coefficient of determination.
print(f"R2 on the last four weeks: {model.score(test):.3f}")

# %%
# The interval can be checked the same way. Windows of the held-back rows are cut by
# :func:`mixlin.windows.make_windows`; every one of them gets its own interval.
from mixlin.metrics import coverage
from mixlin.windows import make_windows

rows = np.concatenate([model.context_, test.to_numpy()])
X, y = make_windows(rows, lookback=336, horizon=96)
held = coverage(y, model.predict_interval(X, coverage=0.9), axis=(0, 2))
print(f"the 90 % interval holds {100 * held.mean():.1f} % of {y.size} values")

# %%
# The interval widens with the step, as the variance of the residuals does, and the width belongs to
# the step: it is the same for a quiet night and a busy noon.
width = model.predict_interval(X[:1], coverage=0.9)[0, :, 0]

blue, ink = "#2f6f9f", "#333333"
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
axes[0].plot(np.arange(1, 97), width[:, 1] - width[:, 0], color=blue, lw=2)
axes[0].set(title="Width of the interval (MW)", xlabel="steps ahead", ylim=(0, None))
axes[1].plot(np.arange(1, 97), 100 * held, color=blue, lw=2)
axes[1].axhline(90, color=ink, lw=0.8, ls="--")
axes[1].set(title="Values inside (%)", xlabel="steps ahead", ylim=(70, 101))
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
