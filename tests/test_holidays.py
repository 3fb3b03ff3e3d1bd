"""Holidays as columns."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from mixlin.calendar_features import holiday_columns

DAYS = np.arange("2024-12-24", "2025-01-03", dtype="datetime64[D]")
NAMED = {
    datetime.date(2024, 12, 25): "Christmas",
    "2024-12-26": "Second Day",
    np.datetime64("2025-01-01"): "New Year",
}


class Lazy(dict):
    """A mapping that fills in a year when it is asked for a day of it, as ``holidays`` does."""

    def get(self, key, default=None):
        self[datetime.date(key.year, 1, 1)] = "New Year"
        return super().get(key, default)


def marked(columns):
    return [np.flatnonzero(column).tolist() for column in np.transpose(columns)]


def test_every_name_of_a_dict_has_a_column():
    columns, names = holiday_columns(DAYS, NAMED)
    assert names == ["Christmas", "New Year", "Second Day"]
    assert marked(columns) == [[1], [8], [2]]
    assert columns.dtype == np.float64
    chosen, names = holiday_columns(DAYS, NAMED, names=["New Year", "Easter"])
    assert names == ["New Year", "Easter"]
    assert marked(chosen) == [[8], []]


def test_a_list_or_one_name_makes_one_column():
    columns, names = holiday_columns(DAYS, list(NAMED))
    assert names == ["holiday"]
    assert marked(columns) == [[1, 2, 8]]
    same, names = holiday_columns(DAYS, NAMED, names="off")
    assert names == ["off"]
    assert np.array_equal(same, columns)
    assert holiday_columns(DAYS, list(NAMED), names=["off"])[1] == ["off"]
    assert not holiday_columns(DAYS, [])[0].any()


def test_all_rows_of_a_day_are_marked():
    hours = np.arange("2024-12-25T22", "2024-12-26T02", dtype="datetime64[h]").astype("M8[ns]")
    columns, _ = holiday_columns(hours, [datetime.datetime(2024, 12, 26, 15, 30)])
    assert columns[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_lazy_mappings_and_joined_names():
    columns, names = holiday_columns(DAYS, Lazy())
    assert (names, marked(columns)) == (["New Year"], [[8]])
    columns, names = holiday_columns(DAYS, {"2025-01-01": "New Year; Day of Rest"})
    assert (names, marked(columns)) == (["Day of Rest", "New Year"], [[8], [8]])


def test_pandas_indexes_give_frames():
    pd = pytest.importorskip("pandas")
    index = pd.date_range("2024-12-24", periods=48, freq="h", tz="Europe/Berlin")
    frame = holiday_columns(index, NAMED)
    assert frame.index.equals(index)
    assert list(frame.columns) == ["Christmas", "New Year", "Second Day"]
    assert frame["Christmas"].tolist() == [0.0] * 24 + [1.0] * 24  # by the clock on the wall
    periods = pd.period_range("2024-12-24", periods=3, freq="D")
    found = holiday_columns(periods, {pd.Timestamp("2024-12-25"): "Christmas"})
    assert found["Christmas"].tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"Pass frame\.index"):
        holiday_columns(frame, NAMED)


@pytest.mark.parametrize(
    ("index", "holidays", "names", "match"),
    [
        (np.arange(4), NAMED, None, "must hold a datetime64 for every row"),
        (DAYS[:, None], NAMED, None, r"shape \(10, 1\)"),
        (np.array(["NaT", "2024-01-01"], dtype="M8[D]"), NAMED, None, "none missing"),
        (DAYS, ["Christmas"], None, "'Christmas' is no date of a holiday"),
        (DAYS, [np.datetime64("NaT")], None, "is no date of a holiday"),
        (DAYS, [20241225], None, "20241225 is no date"),
        (DAYS, "2024-12-25", None, "must be a dict from dates to names or a list"),
        (DAYS, None, None, "must be a dict from dates to names or a list"),
        (DAYS, ["2024-12-25"], ["a", "b"], "a list of dates makes one column"),
    ],
)
def test_what_can_not_be_read_is_refused(index, holidays, names, match):
    with pytest.raises(ValueError, match=match):
        holiday_columns(index, holidays, names=names)
