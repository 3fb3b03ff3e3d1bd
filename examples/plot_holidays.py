"""
Holidays and other things known ahead
=====================================

On holidays people sleep in: a model that only sees the past forecasts a working day, and for days
after takes the holiday for the new level. Columns that are known ahead, ``exog`` and
``exog_future``, are solved jointly with the weights.
"""

# %%
# Eight years of daily load, with holidays
# ----------------------------------------
# ``holiday_columns`` marks the rows of a list of dates; with a dict from dates to names, such as an
# object of the ``holidays`` package, every name has a column of its own.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import NLinearForecaster
from mixlin.calendar_features import holiday_columns
from mixlin.datasets import make_seasonal

load = make_seasonal(365 * 8, freq="D", noise=0.01, random_state=0)
series, days = load.data[:, 0], load.index
columns, names = holiday_columns(days, load.holidays)
train, test = slice(0, 365 * 6), slice(365 * 6, None)
print(names, int(columns.sum()), "holidays")

# %%
# With and without
# ----------------
# Both models read six weeks and forecast two. Scores count all days; the difference lies in the
# holidays and in the days that follow them.
plain = NLinearForecaster(42, 14).fit(series[train], timestamps=days[train])
aware = NLinearForecaster(42, 14).fit(series[train], timestamps=days[train], exog=columns[train])
for name, model, known in (("without", plain, {}), ("with", aware, {"exog": columns[test]})):
    left = 1 - model.score(series[test], timestamps=days[test], **known)
    print(f"{name:>8} holidays: {100 * left:.1f} % of the variance is left")

# %%
# What a holiday costs
# --------------------
# ``exog_coef_`` is the effect of a column at the step that is forecast, here in megawatts; the
# forecast starts six days before a holiday.

# sphinx_gallery_thumbnail_number = 1

at = int(np.flatnonzero(columns[test, 0])[5]) + test.start - 6
past, ahead = slice(at - 42, at), slice(at, at + 14)
forecast = aware.predict(
    series[past], timestamps=days[past], exog=columns[past], exog_future=columns[ahead]
)
blind = plain.predict(series[past], timestamps=days[past])

blue, orange, ink = "#2f6f9f", "#c8652a", "#333333"
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=(2, 1))
axes[0].plot(days[at - 14 : at + 14], series[at - 14 : at + 14], color=ink, lw=1.2, label="load")
axes[0].plot(days[ahead], blind, color=orange, label="without holidays")
axes[0].plot(days[ahead], forecast, color=blue, label="with holidays")
for day in np.flatnonzero(columns[ahead, 0]):
    axes[0].axvspan(days[at + day] - np.timedelta64(12, "h"), days[at + day] +
                    np.timedelta64(12, "h"), color="#dddddd", lw=0)  # fmt: skip
axes[0].set_ylabel("load (MW)")
axes[0].tick_params(axis="x", rotation=30)
axes[0].legend(frameon=False, fontsize=9)
axes[1].bar(np.arange(1, 15), aware.exog_coef_[0, 0], color=blue)
axes[1].set_xlabel("step")
axes[1].set_title("effect of a holiday (MW)", loc="left", fontsize=10)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
