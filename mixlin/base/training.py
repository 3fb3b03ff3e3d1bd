"""Training data: validated windows and series, and what the estimator remembers of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..timestamps import TimeIndex
from ..windows import Container, is_many, refuse_text, too_short
from .fingerprint import EMPTY, fingerprint
from .series import FloatArray, Series, read_series, row_weights
from .stamps import check_neighbors, missing_stamps, read_window_stamps, series_stamps

DEFAULT_LOOKBACK = 336


@dataclass(frozen=True, eq=False)
class Training:
    """Validated training data, series or windows.

    Parameters
    ----------
    lookback, horizon : int
    series : list of array of shape (T, C), or None
    windows : tuple of arrays of shape (n, C, lookback) and (n, C, horizon), or None
    weight : list of array of shape (T,), array of shape (n,), or None
    continues : bool
        Whether the (one) series follows directly on what was learnt before.
    indexes : list of TimeIndex or None, one per series
    window_stamps : array of shape (n, lookback + horizon), or None
        Of windows, for models that read them.
    panel : PanelRows, optional
        Where every series is a channel of its own: those of a long frame.
    exog : list of array of shape (T, K), or None
        Regressors of every series.

    Examples
    --------
    >>> import numpy as np
    >>> from mixlin.base import Training
    >>> Training(4, 2, series=[np.zeros((20, 1))]).continues
    False
    """

    lookback: int
    horizon: int
    series: list[FloatArray] | None = None
    windows: tuple[FloatArray, FloatArray] | None = None
    weight: Any = None
    continues: bool = False
    indexes: list[TimeIndex | None] = field(default_factory=list)
    window_stamps: npt.NDArray[np.datetime64] | None = None
    panel: Any = None
    exog: list[npt.NDArray[np.float64]] | None = None

    def without_end(self, held_out: float | int) -> Training:
        """Return the data without what is held out at the end.

        Parameters
        ----------
        held_out : float or int
            Share or number of rows of every series, of windows for arrays; 0 for none. As in
            :meth:`mixlin.solvers.WindowSource.split`.

        Returns
        -------
        Training
            Without times, and without series that are too short for a window then.
        """
        if not held_out:
            return self
        if self.series is not None:
            stops = [
                max(0, len(v) - (int(held_out) if held_out >= 1 else int(held_out * len(v))))
                for v in self.series
            ]
            long = [i for i, n in enumerate(stops) if n >= self.lookback + self.horizon]
            weight = self.weight and [self.weight[i][: stops[i]] for i in long]
            series = [self.series[i][: stops[i]] for i in long]
            return replace(self, series=series, weight=weight, indexes=[])
        assert self.windows is not None
        x, y = self.windows
        held = min(len(x), int(held_out) if held_out >= 1 else int(held_out * len(x)))
        stop = len(x) - held - min(self.horizon - 1, (len(x) - held) // 4)
        weight = None if self.weight is None else self.weight[:stop]
        return replace(self, windows=(x[:stop], y[:stop]), weight=weight, window_stamps=None)

    def stamps(self) -> Any:
        """Return a list of stamps (T,) for series, stamps (n, lookback + horizon) for windows.

        Raises
        ------
        ValueError
            If the data came without times.
        """
        if self.series is None:
            if self.window_stamps is None:
                raise missing_stamps("the windows have")
            return self.window_stamps
        many = len(self.series) > 1
        return [
            series_stamps(index, len(values), 0, f"series {i}" if many else "the series")
            for i, (index, values) in enumerate(zip(self.indexes, self.series, strict=True))
        ]


def read_training(
    probe: Any,
    X: Any,
    y: Any,
    sample_weight: npt.ArrayLike | None,
    timestamps: Any,
    *,
    update: bool,
    new_series: bool,
) -> tuple[Training, dict[str, Any]]:
    """Validate what ``fit`` and ``partial_fit`` get.

    Parameters
    ----------
    probe : estimator
        A stand-in with the estimator's parameters and fitted attributes, which is written to.
    X, y, sample_weight, timestamps
        As in ``fit``; ``y`` decides between windows and series.
    update : bool
        Whether the data add to what was learnt before, and so must fit to it.
    new_series : bool
        Whether they start another series.

    Returns
    -------
    training : Training
    state : dict
        Fitted attributes that follow from the data alone.

    Raises
    ------
    ValueError
        If the data can't be used.
    """
    mode = "windows" if y is not None else "series"
    if update and mode != probe.mode_:
        raise ValueError(
            f"this {type(probe).__name__} was fitted on {probe.mode_}; partial_fit got {mode}. "
            "Call fit to start anew."
        )
    if mode == "windows":
        training, state = _read_windows(probe, X, y, sample_weight, timestamps, update)
    else:
        training, state = _read_training_series(
            probe, X, sample_weight, timestamps, update, new_series
        )
    names = getattr(probe, "feature_names_in_", None)
    state = {
        **state,
        "lookback_": training.lookback,
        "horizon_": training.horizon,
        "mode_": mode,
        "n_features_in_": probe.n_features_in_,
    }
    return training, state if names is None else {**state, "feature_names_in_": names}


def _read_windows(
    probe: Any, X: Any, y: Any, sample_weight: Any, timestamps: Any, update: bool
) -> tuple[Training, dict[str, Any]]:
    accept = {"dtype": [np.float64, np.float32], "allow_nd": True, "ensure_min_samples": 2}
    target = {"dtype": [np.float64, np.float32], "ensure_2d": False, "allow_nd": True}
    refuse_text(X, "X")
    refuse_text(y, "y")
    X, y = validate_data(probe, X, y, reset=not update, validate_separately=(accept, target))
    check_consistent_length(X, y)
    if X.ndim > 3 or (X.ndim == 3 and y.ndim != 3) or (X.ndim == 2 and y.ndim > 2):
        raise ValueError(
            f"windows (n_windows, lookback) take y of shape (n_windows,) or (n_windows, "
            f"horizon), windows (n_windows, lookback, n_channels) take y of shape "
            f"(n_windows, horizon, n_channels); got X {X.shape} and y {y.shape}."
        )
    if X.ndim == 3 and X.shape[2] != y.shape[2]:
        raise ValueError(
            f"X and y must have the same channels; got {X.shape[2]} in X {X.shape} and "
            f"{y.shape[2]} in y {y.shape}."
        )
    n, length = X.shape[:2]
    lookback = length if probe.lookback is None else probe._lookbacks_read([length])[0]
    if lookback > length:
        raise ValueError(
            f"lookback={lookback} is longer than the windows, which have {length} columns. "
            "Shorten lookback, or pass longer windows."
        )
    horizon = 1 if y.ndim == 1 else y.shape[1]
    if probe.horizon is not None and probe.horizon != horizon:
        raise ValueError(
            f"horizon={probe.horizon}, but y has {horizon} step{'s' if horizon > 1 else ''}. "
            "Leave horizon out when fitting on windows."
        )
    stamps, step = None, None
    if probe._wants_timestamps and timestamps is not None:
        known = probe._window_step if update else None
        stamps, step = read_window_stamps(timestamps, n, lookback, horizon, known)
        if known is None and np.ndim(timestamps) == 1:
            check_neighbors(X, stamps[:, 0], step)
    elif timestamps is not None and len(timestamps) != n:
        raise ValueError(f"timestamps must have one entry per window, {n}; got {len(timestamps)}.")
    weight = None
    if sample_weight is not None:
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight is zero everywhere; nothing to learn from.")
    three = X if X.ndim == 3 else X[:, :, None]
    targets = y.reshape(n, horizon, -1)
    if update:
        _check_same(probe, lookback, horizon, three.shape[2], y.ndim)
    training = Training(
        lookback,
        horizon,
        windows=(three[:, length - lookback :].transpose(0, 2, 1), targets.transpose(0, 2, 1)),
        weight=weight,
        window_stamps=stamps,
    )
    state = {"n_channels_in_": three.shape[2], "_target_ndim": y.ndim}
    return training, state if stamps is None else {**state, "_window_step": step}


def _read_training_series(
    probe: Any, X: Any, sample_weight: Any, timestamps: Any, update: bool, new_series: bool
) -> tuple[Training, dict[str, Any]]:
    horizon = probe.horizon
    if horizon is None:
        raise ValueError(
            f"{type(probe).__name__} requires y to be passed, but the target y is None: pass y "
            "to fit on windows, or set horizon=... to fit on a series."
        )
    many = is_many(X)
    like = trained_index(probe) if update else None
    series = read_series(probe, X, timestamps, reset=not update, like=like)
    weights = None if sample_weight is None else row_weights(sample_weight, series, many)
    n_channels = series[0].values.shape[1]
    if update:
        lookback = probe.lookback_ if probe.lookback is None else probe.lookback
        needed = lookback
        _check_same(probe, lookback, horizon, n_channels, None)
    else:
        lookback, needed = probe._lookbacks_read([len(s.values) for s in series])
    any_length = probe._longest_context is not None
    if not (update or any_length) and all(len(s.values) < needed + horizon for s in series):
        raise too_short(needed, horizon, max(len(s.values) for s in series))
    continues = update and not many and not new_series
    if continues:
        _check_continues(probe, series[0])
    training = Training(
        lookback,
        horizon,
        series=[s.values for s in series],
        weight=weights,
        continues=continues,
        indexes=[s.index for s in series],
    )

    tails = [s.values[-lookback:] for s in series]
    known = probe._known if update else EMPTY
    for s in series:
        known = fingerprint(s.values, known, continues=continues)
    if continues:
        tails = [np.concatenate([probe._tails[-1], tails[0]])[-lookback:]]
    contexts = [np.array(t, dtype=np.float64) for t in tails]  # copies: the series is not kept
    indexes = [s.index for s in series]
    last = [None if i is None else i.last for i in indexes]
    freq = [None if i is None else i.freq for i in indexes]
    return training, {
        "n_channels_in_": n_channels,
        "context_": contexts if many else contexts[0],
        "cutoff_": last if many else last[0],
        "freq_": freq if many else freq[0],
        "_tails": contexts,
        "_indexes": indexes,
        "_containers": [
            Container(s.container.kind, s.container.ndim, s.container.columns) for s in series
        ],
        "_dtypes": [s.values.dtype.name for s in series],
        "_known": known,
    }


def _check_same(probe: Any, lookback: int, horizon: int, n_channels: int, ndim: int | None) -> None:
    now = (lookback, horizon, n_channels)
    before = (probe.lookback_, probe.horizon_, getattr(probe, "n_channels_in_", n_channels))
    if now != before:
        raise ValueError(
            f"partial_fit got lookback, horizon and channels {now}; learnt before with {before}. "
            "Call fit to start anew."
        )
    if ndim is not None and ndim != probe._target_ndim:
        raise ValueError(
            f"partial_fit got y of {ndim} dimension{'s' if ndim > 1 else ''}; learnt before with "
            f"{probe._target_ndim}. Call fit to start anew."
        )


def trained_index(estimator: Any) -> TimeIndex | None:
    """Return the index of the (first) training series that had one.

    Parameters
    ----------
    estimator : estimator

    Returns
    -------
    TimeIndex or None
    """
    return next((i for i in getattr(estimator, "_indexes", []) if i is not None), None)


def _check_continues(probe: Any, series: Series) -> None:
    if len(probe._indexes) > 1:
        raise ValueError(
            f"{len(probe._indexes)} series were learnt, so that it is not clear which one the rows "
            "continue. Pass new_series=True to start another one."
        )
    index = probe._indexes[-1]
    if index is None and series.index is None:
        return
    if index is None or series.index is None:
        learnt, got = ("no index", "one") if index is None else ("an index", "none")
        raise ValueError(
            f"the series learnt before has {learnt}, the rows that continue it have {got}. Pass "
            "rows of the same kind, or new_series=True."
        )
    if not index.continues_as(series.index, series.first):
        raise ValueError(
            f"the rows start at {series.first}, but the series learnt before ends at {index.last} "
            f"and continues at {index.first_after()}. Pass the rows in between, or "
            "new_series=True."
        )
