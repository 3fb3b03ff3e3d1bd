"""
One model, several engines
==========================

A fitted forecaster runs on any engine that is installed: numpy, torch, a Tenstorrent card. Low
precision is safe there, because the level of a window never reaches the engine.
"""

# %%
# What can be used here
# ---------------------
import matplotlib.pyplot as plt
import numpy as np

from mixlin import NLinearForecaster, backends
from mixlin.datasets import make_seasonal

for name, reason in backends.available().items():
    print(f"{name}: {reason or 'available'}")

# %%
# The same model everywhere
# -------------------------
# Fitting is the host's business, always. Afterwards the engine is a parameter like any other.
load = make_seasonal(random_state=0).data
load = (load - load.mean(axis=0)) / load.std(axis=0)
model = NLinearForecaster(lookback=168, horizon=24).fit(load[: -24 * 60])
windows = np.lib.stride_tricks.sliding_window_view(load[-24 * 60 :, 0], 168)[::24, :, None]
expected = model.predict(windows)

specs = {"torch": ["torch", "torch:cpu:float64"], "ttnn": ["ttnn"]}
usable = [name for name, reason in backends.available().items() if reason is None]
engines = [spec for name in usable for spec in specs.get(name, [name])]
for spec in engines:
    error = np.abs(model.set_params(backend=spec).predict(windows) - expected).max()
    print(f"{spec:>18}: largest difference to numpy {error / expected.std():.1e}")

# %%
# Far from zero
# -------------
# Lift the series by a thousand or a million times its spread. Float32 has seven digits, so a plain
# product of windows and weights loses the series in its level. A forecaster takes the level off on
# the host, in float64, and gives it back there.
levels = 10.0 ** np.arange(7)
weights, bias = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
curves = {"plain float32 product": [], **{spec: [] for spec in engines}}
for level in levels:
    plain = (windows[:, :, 0] + level).astype(np.float32) @ weights + bias
    curves["plain float32 product"].append(np.abs(plain - level - expected[:, :, 0]).max())
    for spec in engines:
        forecast = model.set_params(backend=spec).predict(windows + level)
        curves[spec].append(np.abs(forecast - level - expected).max())

fig, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
colors = ["#c8652a", "#2f6f9f", "#3d8b5f", "#7a5195", "#333333"]
for (name, errors), color in zip(curves.items(), colors, strict=False):
    ax.loglog(levels, np.maximum(errors, 1e-17), "o-", color=color, lw=1.8, ms=4, label=name)
ax.set(xlabel="level of the series / its spread", ylabel="largest error / spread")
ax.set_title("What a level costs")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
