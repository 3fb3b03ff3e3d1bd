"""
A mixture of experts, and what each of them does
================================================

Electricity load follows one law on working days and another one on weekends. One linear model must
be both; a mixture may have an expert for each, and a gate that reads the calendar.
"""

# %%
# One expert, or four
# -------------------
# The single expert is solved exactly. The mixture starts from it: its experts are corrections of
# that solution, and it is kept only if held-out rows ask for it.
import matplotlib.pyplot as plt

from mixlin import DLinearForecaster, MoLEForecaster
from mixlin.datasets import make_seasonal
from mixlin.metrics import mse
from mixlin.plotting import RoutingDisplay, WeightsDisplay

load = make_seasonal(24 * 7 * 52, n_channels=2, as_frame=True, random_state=0).frame
train, test = load[: -24 * 7 * 8], load[-24 * 7 * 8 :]

single = DLinearForecaster(lookback=48, horizon=24).fit(train)
mixture = MoLEForecaster(
    lookback=48, horizon=24, n_experts=4, router="calendar", random_state=0
).fit(train)
print(f"R2 of the single expert: {single.score(test):.3f}")
print(f"R2 of the mixture of {mixture.n_experts_}: {mixture.score(test):.3f}")

# %%
# Who works when
# --------------
# Usage over the hours and the days of the week, what every expert is worth, and how far their
# forecasts lie apart.
RoutingDisplay.from_estimator(mixture, test).plot()
plt.show()

# %%
# What they have learnt
# ---------------------
# Every expert is a matrix from the window to the steps to forecast.
WeightsDisplay.from_estimator(mixture).plot()
plt.show()

# %%
# Before a weekend
# ----------------
# A forecast for a Saturday, from the Thursday and the Friday before it.
midnight = test.index.get_loc(test.index[test.index.dayofweek == 5][0])
context, actual = test.iloc[midnight - 48 : midnight], test.iloc[midnight : midnight + 24]
fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
context.iloc[:, 0].plot(ax=ax, color="#333333", lw=1, label="window")
actual.iloc[:, 0].plot(ax=ax, color="#333333", lw=1, ls=":", label="actual")
single.predict(context).iloc[:, 0].plot(ax=ax, color="#c8652a", label="single expert")
mixture.predict(context).iloc[:, 0].plot(ax=ax, color="#2f6f9f", label="mixture")
fig.legend(frameon=False, ncols=4, loc="outside upper right")
ax.set_ylabel("load (MW)")
plt.show()
print(f"MSE of the single expert: {mse(actual, single.predict(context)):.0f}")
print(f"MSE of the mixture: {mse(actual, mixture.predict(context)):.0f}")
