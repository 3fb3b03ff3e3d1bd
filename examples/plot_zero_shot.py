"""
Forecasts without training
==========================

A series is forecast from its own newest values. Nothing is fitted and nothing downloaded: experts
for periods and levels are linear forecasts in closed form, and those that would have forecast well
inside the window get the weight.
"""

# %%
# A forecast and its interval
# ---------------------------
# One call, on six weeks of hourly load. The frame's index is carried on.
import matplotlib.pyplot as plt
import numpy as np

import mixlin
from mixlin import SuperLinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.experts import detect_periods
from mixlin.metrics import mae
from mixlin.plotting import ExpertsDisplay, ForecastDisplay, plot_forecast

load = make_seasonal(24 * 7 * 7, as_frame=True, random_state=0).frame
known, later = load[: -24 * 7], load[-24 * 7 :]

result = mixlin.forecast(known, horizon=24 * 7, interval=0.9)["load"]
plot_forecast(
    known["load"],
    result["forecast"].rename("load"),
    interval=result[["lower", "upper"]],
    actual=later["load"],
    n_history=24 * 14,
)
plt.show()
inside = (later["load"] >= result["lower"]) & (later["load"] <= result["upper"])
print(f"{inside.mean():.0%} of the values inside the interval")

# %%
# Whom it listens to
# ------------------
# :class:`~mixlin.SuperLinearForecaster` is the model behind the call. Its weights tell which
# periods it found in the window, here the day and the week, and what it takes the level to be.
model = SuperLinearForecaster(horizon=24 * 7).fit(known)
ExpertsDisplay.from_estimator(model, by="expert", n_names=6).plot()
plt.show()

# %%
# A period that no expert knows
# -----------------------------
# The power that a machine takes: one cycle is 37 readings, on a level that wanders. The bank has no
# such period. It is found in the window, and experts are made for it.
rng = np.random.default_rng(0)
phase = np.arange(1000) / 37 % 1
cycle = np.exp(-(((phase - 0.4) / 0.15) ** 2)) + 0.4 * np.exp(-(((phase - 0.7) / 0.08) ** 2))
level = 0.01 * rng.standard_normal(1000).cumsum()
power = cycle + level + 0.08 * rng.standard_normal(1000)
known, later = power[:-120], power[-120:]
print(f"period found: {detect_periods(known[None])[0]:g}")

machine = SuperLinearForecaster(horizon=120).fit(known)
ForecastDisplay.from_estimator(machine, coverage=0.9, actual=later).plot(n_history=240)
plt.show()

without = SuperLinearForecaster(horizon=120, auto_period=False).fit(known)
print(f"mean absolute error: {mae(later, machine.predict()):.2f}")
print(f"without the period found: {mae(later, without.predict()):.2f}")

# %%
# Where the period is not looked for, the weight goes to experts that are all a little wrong.
fig, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
for ax, shown, title in zip(axes, (machine, without), ("found", "not looked for"), strict=True):
    ExpertsDisplay.from_estimator(shown, n_names=5, ax=ax)
    ax.set_title(title, loc="left", fontsize="medium")
plt.show()
