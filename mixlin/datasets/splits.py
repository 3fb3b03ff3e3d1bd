"""Borders of the long-horizon benchmark ("LTSF"): train, validation, test as row counts."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["LTSFSplit", "ltsf_split"]

# 12, 4 and 4 months of 30 days, counted in rows; the rest of the file is not used.
_ETT_BORDERS = {
    "etth1": (8640, 11520, 14400),
    "etth2": (8640, 11520, 14400),
    "ettm1": (34560, 46080, 57600),
    "ettm2": (34560, 46080, 57600),
}
_KNOWN_ROWS = {"exchange_rate": 7588, "national_illness": 966}
_PARTS = ("train", "validation", "test")


class LTSFSplit(NamedTuple):
    """Three consecutive spans of a series, given by where each one ends.

    The forecasts of a validation or test window lie inside its span, but its context may reach
    back over the border: :meth:`context` gives the rows to cut windows from. The number of windows
    of a span is therefore ``rows - horizon + 1``, whatever the lookback.

    Attributes
    ----------
    train_end : int
        Number of rows of the training span, which begins at row 0.
    val_end : int
        Row after the validation span.
    test_end : int
        Row after the test span; rows from here on are not used.

    Examples
    --------
    >>> from mixlin.datasets import ltsf_split
    >>> split = ltsf_split("ETTh1")
    >>> split.test
    slice(11520, 14400, None)
    >>> rows = split.context("test", lookback=336)
    >>> rows
    slice(11184, 14400, None)
    >>> rows.stop - rows.start - 336 - 96 + 1  # test windows at horizon 96
    2785
    """

    train_end: int
    val_end: int
    test_end: int

    @property
    def train(self) -> slice:
        """Rows of the training span."""
        return slice(0, self.train_end)

    @property
    def validation(self) -> slice:
        """Rows of the validation span, without context."""
        return slice(self.train_end, self.val_end)

    @property
    def test(self) -> slice:
        """Rows of the test span, without context."""
        return slice(self.val_end, self.test_end)

    def context(self, part: str, lookback: int) -> slice:
        """Return the rows of a span together with the context of its first window.

        Parameters
        ----------
        part : {"train", "validation", "test"}
            The span. Training windows have nothing to reach back to: their context lies inside.
        lookback : int
            Context of a window, in steps.

        Returns
        -------
        slice
            Rows ``start - lookback`` to ``end`` of the span; for ``"train"`` the span itself.

        Raises
        ------
        ValueError
            If `part` is not a span, or `lookback` reaches back beyond the first row.
        """
        if part not in _PARTS:
            raise ValueError(f"part={part!r} is not a span of the split; use one of {_PARTS}.")
        if part == "train":
            return self.train
        span: slice = self.validation if part == "validation" else self.test
        if not 0 <= lookback <= span.start:
            raise ValueError(
                f"lookback={lookback} must lie between 0 and the {span.start} rows that precede "
                f"the {part} span."
            )
        return slice(span.start - lookback, span.stop)


def ltsf_split(dataset: Any, n_rows: int | None = None) -> LTSFSplit:
    """Return the train, validation and test borders of the long-horizon benchmark.

    The ETT series have fixed borders: 12, 4 and 4 months of 30 days. Everything else is cut at
    70 %, 10 % and 20 % of its rows, ``int(0.7 * n)`` and ``n - int(0.2 * n)``.

    Parameters
    ----------
    dataset : str or Bunch
        Name of a dataset, in any case, or what a fetcher or :func:`make_seasonal` returned (its
        ``name`` and the rows of its ``data`` are read). A name that is not a benchmark's needs
        `n_rows`.
    n_rows : int, default=None
        Rows of the series; by default those of the published file or of the Bunch.

    Returns
    -------
    LTSFSplit
        Named tuple ``(train_end, val_end, test_end)`` with the spans as slices.

    Raises
    ------
    TypeError
        If `dataset` is neither a name nor a Bunch, or `n_rows` is not an integer.
    ValueError
        If the number of rows is unknown, contradictory, or too small for the borders.

    References
    ----------
    .. [1] Zhou, H., Zhang, S., Peng, J., Zhang, S., Li, J., Xiong, H. and Zhang, W. (2021).
       "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting". AAAI.
    .. [2] Zeng, A., Chen, M., Zhang, L. and Xu, Q. (2023). "Are Transformers Effective for Time
       Series Forecasting?". AAAI.

    Examples
    --------
    >>> from mixlin.datasets import ltsf_split
    >>> ltsf_split("ETTm1")
    LTSFSplit(train_end=34560, val_end=46080, test_end=57600)
    >>> ltsf_split("my series", n_rows=1000)
    LTSFSplit(train_end=700, val_end=800, test_end=1000)
    """
    if n_rows is not None and (isinstance(n_rows, bool) or not hasattr(n_rows, "__index__")):
        raise TypeError(f"n_rows={n_rows!r} must be an integer, the number of rows, or None.")
    rows = None if n_rows is None else n_rows.__index__()

    if isinstance(dataset, str):
        name = dataset
    elif hasattr(dataset, "name") and hasattr(dataset, "data"):
        name = str(dataset.name)
        held = len(dataset.data)
        if rows is not None and rows != held:
            raise ValueError(
                f"n_rows={rows} contradicts the dataset {name!r}, which has {held} rows; "
                "pass the dataset alone, or its name with n_rows."
            )
        rows = held
    else:
        raise TypeError(
            "dataset must be a name or the Bunch of a fetcher (with name and data); "
            f"got {type(dataset).__name__}."
        )

    # Any case: "etth1" with n_rows must not silently get the borders of an unknown series.
    key = name.lower()
    if key in _ETT_BORDERS:
        split = LTSFSplit(*_ETT_BORDERS[key])
        if rows is not None and rows < split.test_end:
            raise ValueError(
                f"{name} needs at least {split.test_end} rows for the benchmark's borders; "
                f"got {rows}. Pass the whole file, or split your own part of it by hand."
            )
        return split
    if rows is None:
        rows = _KNOWN_ROWS.get(key)
    if rows is None:
        known = ["ETTh1", "ETTh2", "ETTm1", "ETTm2", *_KNOWN_ROWS]
        raise ValueError(
            f"{name!r} is not a benchmark whose number of rows is known ({', '.join(known)}); "
            "pass n_rows as well to cut it at 70 %, 10 % and 20 %."
        )
    split = LTSFSplit(int(0.7 * rows), rows - int(0.2 * rows), rows)
    if not 0 < split.train_end < split.val_end < split.test_end:
        raise ValueError(
            f"{rows} rows are too few to cut at 70 %, 10 % and 20 %; at least 5 are needed."
        )
    return split
