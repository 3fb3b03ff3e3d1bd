"""Long frames as training data: every series a channel with a level and a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..long_frames import Clock, LongFrame, Steps, long_columns, read_long_frame
from ..mixture import PanelPlan, StandardizedPlan
from ..persistence import register_record
from ..timestamps import TimeIndex, read_index
from ..windows import too_short
from .training import Training

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LABELS = 10  # enough to tell business days from days

register_record(PanelPlan)
register_record(StandardizedPlan)


@register_record
@dataclass(frozen=True, eq=False)
class Panel:
    """What is remembered of the series of a long frame, beside their last rows.

    Parameters
    ----------
    ids : array of shape (n_series,), or None
        Of integers, or of str; None where no column named the one series.
    dtype : str
        Of the targets.
    times : str
        Data type of the times.
    per_day : int
        As in :class:`mixlin.long_frames.Clock`.
    kind, last, step, rest : arrays of integers of shape (n_series,)
        As in :class:`mixlin.long_frames.Steps`.
    length : array of shape (n_series,)
        Rows seen of every series, missing ones included.
    """

    ids: Any
    dtype: str
    times: str
    per_day: int
    kind: IntArray
    last: IntArray
    step: IntArray
    rest: IntArray
    length: IntArray

    @classmethod
    def of(cls, ids: Any, dtype: str, steps: Steps, length: IntArray) -> Panel:
        """Make the record of series on their grids."""
        clock, four = steps.clock, (steps.kind, steps.last, steps.step, steps.rest)
        return cls(ids, dtype, str(clock.dtype), clock.per_day, *four, length)

    @property
    def n_series(self) -> int:
        """Number of series."""
        return len(self.length)

    @property
    def steps(self) -> Steps:
        """Their steps, without places of rows."""
        import pandas as pd

        clock = Clock(pd.api.types.pandas_dtype(self.times), self.per_day)
        return Steps(clock, self.kind, self.last, self.step, self.rest, {})

    def index(self) -> pd.Index[Any] | None:
        """Return the ids as pandas has them."""
        import pandas as pd

        return None if self.ids is None else pd.Index(self.ids, name="unique_id")

    def find(self, ids: Any) -> npt.NDArray[np.intp]:
        """Return which series have ids, -1 for those that are not known.

        Parameters
        ----------
        ids : pandas.Index of shape (n,), or None
            None for one series without an id.

        Raises
        ------
        ValueError
            If ids are text and those of the fit are numbers, or the reverse.
        """
        import pandas as pd

        own = self.index()
        if own is None or ids is None:
            same = own is None and ids is None
            return np.full(1 if ids is None else len(ids), 0 if same else -1)
        read = read_ids(ids)
        if (read.dtype.kind == "i") != (self.ids.dtype.kind == "i"):
            what = ("text", "whole numbers")
            new = read.dtype.kind == "i"
            raise ValueError(
                f"column 'unique_id' holds {what[new]}, such as {read[0]}, where that of the fit "
                f"held {what[not new]}, such as {self.ids[0]}: no series would be known. Convert "
                "it first (frame['unique_id'].astype(...))."
            )
        return np.asarray(own.get_indexer(pd.Index(read)))

    def names(self, series: npt.NDArray[np.intp]) -> str:
        """Return what errors call some of the series: at most three names."""
        return listed_ids(self.ids, series)


@dataclass(frozen=True, eq=False)
class PanelRows:
    """Which series the rows of a fit are of.

    Parameters
    ----------
    channels : array of shape (n_given,)
        Number of every series that was given.
    gaps : array of shape (n_given,)
        Rows that are missing between those known before and these; -1 for new series.
    panel : Panel
        Of all series then.
    """

    channels: npt.NDArray[np.intp]
    gaps: IntArray
    panel: Panel


def read_ids(ids: Any) -> npt.NDArray[Any]:
    """Return ids as an array of int64 or of str.

    Parameters
    ----------
    ids : pandas.Index

    Raises
    ------
    ValueError
        If they are of another type, or of several.
    """
    array = np.asarray(ids)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind in "OUT" and all(isinstance(each, str) for each in array):
        return np.array([str(each) for each in array], dtype=object)
    kinds = sorted({type(each).__name__ for each in array[:1000]})
    raise ValueError(
        f"column 'unique_id' must hold text or whole numbers, one kind of them; got "
        f"{', '.join(kinds)}. Convert it first: frame['unique_id'].astype(str)."
    )


def listed_ids(ids: Any, series: npt.NDArray[np.intp]) -> str:
    """Return what errors call some of many series.

    Parameters
    ----------
    ids : array of shape (n_series,), or None
    series : array of shape (n,)
    """
    if ids is None:
        return "the series"
    shown = ", ".join(repr(str(ids[i])) for i in series[:3])
    more = f" and {len(series) - 3} more" if len(series) > 3 else ""
    return f"series {shown}{more}"


def read_frame(X: Any, timestamps: Any, like: Steps | None) -> tuple[LongFrame, str]:
    """Read a long frame, and the dtype of its targets.

    Parameters
    ----------
    X : DataFrame
    timestamps
        Refused.
    like : Steps, optional
        Those of the fit.

    Raises
    ------
    ValueError
        If it can't be read.
    """
    if timestamps is not None:
        raise ValueError(
            "the column 'ds' of a long frame tells the time; timestamps= is for arrays. Leave "
            "timestamps out."
        )
    frame, id_column = long_columns(X)
    read = read_long_frame(frame, id_column, "ds", "y", one_frequency=True, like=like)
    single = getattr(frame["y"].dtype, "name", "").lower() == "float32"
    return read, "float32" if single else "float64"


def read_panel_training(
    probe: Any,
    X: Any,
    y: None,
    sample_weight: Any,
    timestamps: Any,
    *,
    update: bool,
    new_series: bool,
) -> tuple[Training, dict[str, Any]]:
    """Read the long frame that ``fit`` or ``partial_fit`` gets.

    Parameters
    ----------
    probe, X, y, sample_weight, timestamps, update, new_series
        As in :func:`mixlin.base.training.read_training`.

    Returns
    -------
    training : Training
    state : dict

    Raises
    ------
    ValueError
        If the frame can't be read or does not continue what was learnt before.
    """
    if not probe._reads_panels:
        raise ValueError(
            f"{type(probe).__name__} does not fit long frames (unique_id, ds, y). Pass a list of "
            "series, one frame for each id, or a wide frame with one column for each id."
        )
    if update and probe.mode_ != "panel":
        raise ValueError(
            f"this {type(probe).__name__} was fitted on {probe.mode_}; partial_fit got a long "
            "frame. Call fit to start anew."
        )
    if probe.horizon is None:
        raise ValueError("horizon is needed to fit on a long frame: set horizon=...")
    if new_series:
        raise ValueError(
            "the ids of a long frame tell which rows start another series. Leave new_series out."
        )
    before: Panel | None = probe._panel if update else None
    read, dtype = read_frame(X, timestamps, None if before is None else before.steps)
    ids = None if read.ids is None else read_ids(read.ids)
    weights = None if sample_weight is None else _series_weights(sample_weight, X, read)
    counts = np.array([len(values) for values in read.values])
    if before is None:
        channels = np.arange(len(counts))
        gaps, steps, length = np.full(len(counts), -1), read.steps, counts
        panel = Panel.of(ids, dtype, steps, length)
    else:
        channels, gaps, panel = _continued(before, ids, read, counts)
    if update:
        lookback = probe.lookback_ if probe.lookback is None else probe.lookback
        needed = lookback
    else:
        lookback, needed = probe._lookbacks_read(counts.tolist())
    horizon = probe.horizon
    if update and (lookback, horizon) != (probe.lookback_, probe.horizon_):
        raise ValueError(
            f"partial_fit got lookback and horizon {(lookback, horizon)}; learnt before with "
            f"{(probe.lookback_, probe.horizon_)}. Call fit to start anew."
        )
    if not update and counts.max() < needed + horizon:
        raise too_short(needed, horizon, int(counts.max()))
    kept_rows = lookback if lookback == needed else needed  # else told by the fit
    context = np.full((kept_rows, panel.n_series), np.nan)
    if before is not None:
        context[:, : before.n_series] = probe.context_
    for values, c, gap in zip(read.values, channels.tolist(), gaps.tolist(), strict=True):
        tail = values[-kept_rows:]
        if gap >= 0:
            kept = max(0, kept_rows - len(tail) - gap)
            context[:kept, c] = context[kept_rows - kept :, c].copy()
            context[kept:, c] = np.nan
        context[kept_rows - len(tail) :, c] = tail
    index = _common_index(panel.steps)
    training = Training(
        lookback,
        horizon,
        series=[values[:, None] for values in read.values],
        weight=weights,
        indexes=[index],
        panel=PanelRows(channels, gaps, panel),
    )
    return training, {
        "lookback_": lookback,
        "horizon_": horizon,
        "mode_": "panel",
        "n_features_in_": 1,
        "feature_names_in_": np.array(["y"], dtype=object),
        "n_channels_in_": 1,
        "series_ids_": panel.ids,
        "context_": context,
        "cutoff_": panel.steps.labels(),
        "freq_": None if index is None else index.freq,
        "_panel": panel,
    }


def _common_index(steps: Steps) -> TimeIndex | None:
    """Return the index of a series that steps as most do, None where pandas has no name for it."""
    usual = steps.usual(steps.frequencies()[0])
    try:
        return read_index(steps.taking(np.array([usual])).continued(_LABELS))[0]
    except (ValueError, OverflowError):
        return None


def _series_weights(sample_weight: Any, X: Any, read: LongFrame) -> list[float]:
    """Return the weight of every series from those of its rows."""
    import pandas as pd

    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (len(X),):
        raise ValueError(
            f"sample_weight must have one weight per row of the long frame, ({len(X)},); got shape "
            f"{weight.shape}."
        )
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must be finite, not negative, and not all zero.")
    codes = np.zeros(len(X), dtype=np.intp)
    if read.ids is not None:
        codes = pd.factorize(long_columns(X)[0]["unique_id"])[0]
    first = np.full(len(read.values), np.nan)
    first[codes[::-1]] = weight[::-1]
    if (first[codes] != weight).any():
        i = int(codes[np.argmax(first[codes] != weight)])
        raise ValueError(
            f"{read.name(i)} has rows of different weight; in a long frame all rows of a series "
            "must weigh the same. Leave sample_weight out, or fit a list of series."
        )
    return [float(each) for each in first]


def _continued(
    before: Panel, ids: Any, read: LongFrame, counts: IntArray
) -> tuple[npt.NDArray[np.intp], IntArray, Panel]:
    """Return which series rows are of, how many are missing before them, and all series then."""
    found = before.find(read.ids)
    if (ids is None) != (before.ids is None):
        raise ValueError(
            "the series learnt before have ids and the rows have none, or the reverse. Pass rows "
            "with the same columns, or call fit to start anew."
        )
    known = np.flatnonzero(found >= 0)
    gaps = np.full(len(found), -1)
    gaps[known] = before.steps.follows(found[known], read.steps.taking(known), counts[known])
    bad = known[gaps[known] < 0]
    if len(bad):
        i = int(bad[0])
        last = before.steps.taking(found[i : i + 1])
        others = f" ({len(bad)} series are like that)" if len(bad) > 1 else ""
        raise ValueError(
            f"the rows of {read.name(i)} do not continue what was learnt before, which ends at "
            f"{last.labels()[0]} and goes on at {last.continued(1)[0]}{others}. Pass later rows "
            "only, or call fit to start anew."
        )
    channels = found.copy()
    new = np.flatnonzero(found < 0)
    channels[new] = before.n_series + np.arange(len(new))
    length = np.concatenate([before.length, counts[new]])
    length[found[known]] += gaps[known] + counts[known]
    steps = before.steps.extended(found, gaps, read.steps, counts)
    every = None if before.ids is None else np.concatenate([before.ids, ids[new]])
    return channels, gaps, Panel.of(every, before.dtype, steps, length)
