"""A series of two kinds of days whose best forecast is known, and what it costs to miss it.

A few values of every evening go on from those of the evening before, ``s' = STAY s + noise``,
whatever the day. All other hours are ``law s + noise`` with ``s`` the evening before, by one law on
weekdays and another at weekends. An evening is all that can be known of the days to come, so that
the best forecast of the j-th day (0, 1, ...) is ``law (STAY ** j s)``, by the law of its own kind
of day, then ``STAY ** (j + 1) s``. It is linear in any window that ends at midnight, step by step,
and a gate that knows the kind of day is all that a mixture of two linear experts needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DAY, EVENING, STAY = 24, 6, 0.95
MORNING = DAY - EVENING  # hours that the laws are about


class Days(NamedTuple):
    """Windows that end at midnight and the days that follow.

    Attributes
    ----------
    X : array of shape (n, lookback, 1)
    y : array of shape (n, horizon, 1)
    stamps : array of shape (n, lookback)
        Of the windows' steps.
    weekend : bool array of shape (n, horizon)
        Which law every step to forecast obeys.
    oracle : array of shape (n, horizon, 1)
        The forecasts of one who knows the laws and the days.
    """

    X: np.ndarray
    y: np.ndarray
    stamps: np.ndarray
    weekend: np.ndarray
    oracle: np.ndarray


def two_regimes(n_days, lookback=DAY, horizon=DAY, *, seed=0, noise=0.3):
    """Draw consecutive days, beginning with a Monday."""
    rng = np.random.default_rng(seed)
    laws = rng.normal(size=(2, MORNING, EVENING)) / np.sqrt(EVENING)
    is_weekend = np.arange(n_days) % 7 >= 5
    values = np.empty((n_days, DAY))
    evening = rng.normal(size=EVENING)
    for day in range(n_days):
        law = laws[int(is_weekend[day])]
        values[day, :MORNING] = law @ evening + noise * rng.normal(size=MORNING)
        evening = STAY * evening + np.sqrt(1 - STAY**2) * rng.normal(size=EVENING)
        values[day, MORNING:] = evening
    flat = values.ravel()
    stamps = np.datetime64("2010-01-04T00", "h") + np.arange(len(flat))
    ends = np.arange(-(-lookback // DAY) * DAY, len(flat) - horizon + 1, DAY)
    X, times = (np.stack([row[t - lookback : t] for t in ends]) for row in (flat, stamps))
    y = np.stack([flat[t : t + horizon] for t in ends])
    weekend = np.stack([np.repeat(is_weekend, DAY)[t : t + horizon] for t in ends])
    oracle, state = [], X[:, -EVENING:]
    for day in range(horizon // DAY):
        own = laws[weekend[:, DAY * day].astype(int)]
        oracle.append(np.einsum("nhe,ne->nh", own, state))
        state = STAY * state
        oracle.append(state)
    return Days(X[:, :, None], y[:, :, None], times, weekend, np.concatenate(oracle, 1)[:, :, None])


def split(days, n_test):
    """Return the days before the last ones, without windows that reach into them, and the last."""
    n_between = days.y.shape[1] // DAY
    past = Days(*(part[: -n_test - n_between] for part in days))
    return past, Days(*(part[-n_test:] for part in days))


def error(forecast, days):
    """Return the mean squared error."""
    return float(((forecast - days.y) ** 2).mean())


def right_gates(model, days):
    """Return the weight of the experts of the right law, shape (n, horizon).

    Experts are matched to the kind of day that they are used on most, relative to its share.
    """
    gates = model.gate_weights(days.X, timestamps=days.stamps)
    gates = gates[:, None] if gates.ndim == 3 else gates
    flat = np.broadcast_to(gates[:, :, 0], (*days.weekend.shape, gates.shape[-1]))
    at_weekends, on_weekdays = (flat[kind].mean(axis=0) for kind in (days.weekend, ~days.weekend))
    owner = at_weekends > on_weekdays
    return np.where(days.weekend, flat[..., owner].sum(-1), flat[..., ~owner].sum(-1))
