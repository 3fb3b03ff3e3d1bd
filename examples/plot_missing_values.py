"""
Missing values and gaps
=======================

Meters fail. A series may hold NaN, or lack rows altogether: ``fit`` leaves out exactly the windows
that touch a gap and uses all the others, so nothing has to be invented.
"""

# %%
# Two years with outages
# ----------------------
# Outages of half a day to three days remove a fifth of the rows.
import matplotlib.pyplot as plt
import numpy as np

from mixlin import LinearForecaster
from mixlin.datasets import make_seasonal
from mixlin.windows import interpolate

load = make_seasonal(as_frame=True, random_state=0).frame
train, test = load.iloc[: -24 * 60], load.iloc[-24 * 60 :]

# sphinx_gallery_thumbnail_number = 2


def with_outages(frame, share, seed=0):
    """Blank outages until the given share of the rows is missing."""
    rng = np.random.default_rng(seed)
    damaged = frame.copy()
    while damaged["load"].isna().mean() < share:
        start = rng.integers(0, len(damaged) - 72)
        damaged.iloc[start : start + rng.integers(12, 72)] = np.nan
    return damaged


damaged = with_outages(train, 0.2)
print(f"missing: {damaged['load'].isna().mean():.0%}")

# %%
blue, orange, green, ink = "#2f6f9f", "#c8652a", "#3d8b5f", "#333333"
shown = damaged["load"].iloc[: 24 * 42]
filled = shown.interpolate()
fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
ax.plot(filled.index, filled, color=orange, lw=1.2, label="straight lines across the gaps")
ax.plot(shown.index, shown, color=ink, lw=1.2, label="observed")
ax.set(ylabel="load (MW)", title="Six weeks of the damaged series")
ax.legend(frameon=False, ncols=2, loc="upper right")
ax.set_ylim(top=1.15 * shown.max())
ax.spines[["top", "right"]].set_visible(False)
plt.show()


# %%
# Three things one might do
# -------------------------
# Leave the gaps to ``fit``; draw straight lines across them; or, worst, drop the missing rows and
# glue the rest together. Dropping rows is harmless only where an index still says when each row
# was: a frame without its missing rows is the same series with gaps, and fits the same.
def leave(frame):
    return LinearForecaster(168, 24).fit(frame.to_numpy())


def draw_lines(frame):
    return LinearForecaster(168, 24).fit(interpolate(frame))


def glue(frame):
    return LinearForecaster(168, 24).fit(frame.dropna().to_numpy())


model = LinearForecaster(168, 24).fit(damaged)
same = np.allclose(model.coef_, LinearForecaster(168, 24).fit(damaged.dropna()).coef_)
print("NaN and absent rows give the same model:", same)

shares = [0.0, 0.1, 0.2, 0.3, 0.4]
held_back = test.to_numpy()
scores = {
    method.__name__: [1 - method(with_outages(train, s)).score(held_back) for s in shares]
    for method in (leave, draw_lines, glue)
}

fig, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
names = {"leave": "gaps left out", "draw_lines": "straight lines", "glue": "rows glued together"}
for (method, values), color in zip(scores.items(), (blue, orange, green), strict=True):
    ax.plot(100 * np.array(shares), values, "o-", color=color, lw=1.8, ms=4, label=names[method])
ax.set(xlabel="missing rows (%)", ylabel="unexplained variance", ylim=(0, None))
ax.set_title("Forecast error on the last 60 days, which are complete")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# At 40 % missing rows few windows of 168 + 24 steps are whole, yet the matrix that they give is
# still the better one.
#
# When the gap is at the end
# --------------------------
# A forecast reads the last ``lookback`` rows, and those have to be there. A forecaster does not
# guess: it says which rows are missing, and leaves the choice of a remedy to you.
context = test.iloc[: 24 * 10].copy()
context.iloc[-30:-24] = np.nan
try:
    model.predict(context)
except ValueError as error:
    print(error)

# %%
# Six hours of the day before are missing; a straight line will do here.
patched = context.copy()
patched["load"] = interpolate(context["load"])
forecast = model.predict(patched)
forecast.head(3)
