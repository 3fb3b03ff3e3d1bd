"""Reading tables of unknown origin: separator, header, decimal sign and encoding are found out.

Numbers that can't be read become missing, and every guess that changes data leaves a note.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import warnings
import zlib
from typing import Any, NamedTuple

Frame = Any  # pandas.DataFrame; pandas is imported where a command needs it

_SAMPLE_CHARACTERS = 2**17
_SAMPLE_ROWS = 60
_READABLE = 0.5  # share of a column's entries that must be numbers for it to be a channel
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?%?")
_DATE = re.compile(r"\d{1,4}([-/.]\d{1,2}){1,2}([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?")
_THOUSANDS = {
    ".": re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?"),
    ",": re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d+)?"),
}
_MISSING = ["", "-", "--", "?", ".", "*", "na", "n/a", "nan", "null", "none", "nil", "missing"]
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
}


class Layout(NamedTuple):
    """How a text becomes a table.

    Parameters
    ----------
    separator : str
    names : list of str
        One per column; empty where the header has none.
    header : bool
        Whether the first row holds the names.
    skip : int
        Lines before the first row.
    decimal : {".", ","}
    """

    separator: str
    names: list[str]
    header: bool
    skip: int
    decimal: str


def read_table(path: str) -> tuple[Frame, str]:
    """Read a text file as a table.

    Parameters
    ----------
    path : str
        Plain or compressed with gzip; ``"-"`` is standard input.

    Returns
    -------
    table : DataFrame of shape (n_rows, n_columns)
        Numbers where a whole column is made of them, text elsewhere.
    decimal : {".", ","}

    Raises
    ------
    ValueError
        If the file is empty, no text, or no table.
    OSError
        If it can't be read.
    """
    import pandas as pd

    text = _decode(_read_bytes(path), path).rstrip("\r\n ")
    layout = find_layout(text)
    if layout is None:
        raise ValueError(f"{path} is empty; a table with at least one column is needed.")
    try:
        with warnings.catch_warnings():
            # a row that is longer than the others is cut with a warning only
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text),
                sep=layout.separator,
                names=layout.names,
                header=0 if layout.header else None,
                skiprows=layout.skip,
                decimal="." if layout.separator == "," else layout.decimal,
                index_col=False,
                skip_blank_lines=len(layout.names) > 1,  # in one column they are missing values
                skipinitialspace=True,
                low_memory=False,
                na_values=[m for m in _MISSING if m],
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        if isinstance(error, pd.errors.ParserWarning):
            reason = f"a row has more than the {len(layout.names)} fields of the first ones"
        raise ValueError(f"{path} is no table: {reason}.") from None
    if not len(table):
        raise ValueError(f"{path} has a header and no rows; there is nothing to forecast from.")
    return table, layout.decimal


def _read_bytes(path: str) -> bytes:
    if path == "-":
        raw = sys.stdin.buffer.read()
    else:
        with open(path, "rb") as file:
            raw = file.read()
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        raise ValueError(f"{path} is a damaged gzip file.") from None


def _decode(raw: bytes, path: str) -> str:
    for start, what in _OTHER_FORMATS.items():
        if raw.startswith(start):
            raise ValueError(f"{path} is {what}, not a text table; export it as CSV.")
    try:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return raw.decode("utf-16")
        if b"\0" in raw:
            raise ValueError(f"{path} is a binary file, not a text table.")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # exports of spreadsheets; every byte is a character
    control = sum(not (c.isprintable() or c.isspace()) for c in text[:4096])
    if control > 0.02 * min(len(text), 4096):
        raise ValueError(f"{path} is a binary file, not a text table.")
    return text


def find_layout(text: str) -> Layout | None:
    r"""Find out how a text is to be read as a table.

    Parameters
    ----------
    text : str

    Returns
    -------
    Layout, or None if there is nothing but blank lines and comments

    Examples
    --------
    >>> from mixlin.cli.tables import find_layout
    >>> layout = find_layout("day;load\n01.02.2024;1,5\n02.02.2024;1,7\n")
    >>> layout.separator, layout.names, layout.header, layout.decimal
    (';', ['day', 'load'], True, ',')
    >>> find_layout("1.5\n1.7\n").names
    ['column_1']
    """
    sample = text[:_SAMPLE_CHARACTERS]
    lines = sample.splitlines()
    if len(sample) < len(text):
        lines = lines[:-1] or lines  # the last one may be cut
    skip = 0
    while skip < len(lines) and _is_preamble(lines[skip]):
        skip += 1
    lines = [line for line in lines[skip:] if line.strip()][:_SAMPLE_ROWS]
    if not lines:
        return None
    separator, rows = _separate(lines)
    header = _has_header(rows)
    body = rows[1:] if header else rows
    counts = [len(row) for row in body] or [len(rows[0])]
    width = max(set(counts), key=counts.count)
    names = [name.strip() for name in rows[0]] if header else []
    if header and width == len(names) + 1:
        # R writes row names without a title; other programs end rows with a separator
        trailing = all(row[-1].strip() == "" for row in body if len(row) == width)
        names = [*names, ""] if trailing else ["", *names]
    elif not header:
        names = [f"column_{i + 1}" for i in range(width)]
    return Layout(separator, _distinct(names), header, skip, _decimal_sign(body, separator))


def _is_preamble(line: str) -> bool:
    return not line.strip() or line.startswith("#") or line.lower().startswith("sep=")


def _separate(lines: list[str]) -> tuple[str, list[list[str]]]:
    """Return the separator that cuts the lines most evenly, and the cut lines."""
    for separator in ("\t", ";", "|", ","):
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        counts = [len(row) for row in rows]
        usual = max(set(counts), key=counts.count)
        # the header may miss a field; one or two odd rows are an error to be reported later
        if usual > 1 and counts.count(usual) >= min(len(rows) - 1, 0.9 * len(rows)):
            return separator, rows
    rows = [line.split() for line in lines]
    if len(rows[-1]) > 1 and len({len(row) for row in rows[1:]}) == 1:
        return r"\s+", rows
    return ",", [list(row) for row in csv.reader(lines)]


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: text above numbers, or nothing but text."""
    first = [field.strip() for field in rows[0]]
    value = [_is_value(field) for field in first]
    if not any(v for v, field in zip(value, first, strict=True) if field):
        return True
    for later in rows[1:4]:
        for is_value, mine, theirs in zip(value, first, later, strict=False):
            if mine and not is_value and (_is_value(theirs.strip()) or not theirs.strip()):
                return True
    return False


def _is_value(field: str) -> bool:
    return (
        field.lower() in _MISSING
        or _NUMBER.fullmatch(field) is not None
        or _DATE.fullmatch(field) is not None
    )


def _distinct(names: list[str]) -> list[str]:
    """Tell columns of the same name apart, and name the nameless."""
    out: list[str] = []
    for i, name in enumerate(names):
        base = name or f"column_{i + 1}"
        new, n = base, 1
        while new in out or (new != base and new in names):
            new, n = f"{base}.{n}", n + 1
        out.append(new)
    return out


def _decimal_sign(rows: list[list[str]], separator: str) -> str:
    fields = [field.strip() for row in rows for field in row]
    # where the comma separates, "1,234" in quotes is a thousand, and only "1,5" a decimal
    pattern = r"[-+]?[\d.]*\d,(\d{1,2}|\d{4,})" if separator == "," else r"[-+]?[\d.]*\d,\d+"
    commas = sum(bool(re.fullmatch(pattern, field)) for field in fields)
    points = sum(bool(re.fullmatch(r"[-+]?\d*\.\d+", field)) for field in fields)
    return "," if commas > points else "."


def numeric_columns(
    table: Frame, wanted: list[str] | None, decimal: str, notes: list[str]
) -> Frame:
    """Return the channels of a table.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)
        Without its time column.
    wanted : list of str, optional
        Names of the channels; all columns of numbers by default.
    decimal : {".", ","}
    notes : list of str
        Gets a sentence for whatever was left out.

    Returns
    -------
    DataFrame of shape (n_rows, n_channels)
        Float64, NaN where a value is missing.

    Raises
    ------
    ValueError
        If a wanted column is not there or no column of numbers, or if there is none at all.
    """
    import numpy as np
    import pandas as pd

    names = [str(c) for c in table.columns]
    for name in wanted or []:
        if name not in names:
            raise ValueError(f"there is no column {name!r}; the columns are {listed(names)}.")
    channels: dict[str, Any] = {}
    text, empty = [], []
    for name in names if wanted is None else dict.fromkeys(wanted):
        values, odd = _to_numbers(table[name], decimal)
        infinite = np.isinf(values)
        if infinite.any():
            values = np.where(infinite, np.nan, values)
            n = int(infinite.sum())
            notes.append(f"{n} infinite value{'s' if n > 1 else ''} of {name!r} set to missing")
        n_known = int(np.isfinite(values).sum())
        if n_known < _READABLE * (n_known + len(odd)):
            text.append(name)
        elif n_known == 0:
            empty.append(name)
        else:
            channels[name] = values
            if len(odd):
                notes.append(
                    f"{len(odd)} entr{'ies' if len(odd) > 1 else 'y'} of {name!r} without a number "
                    f"set to missing (such as {odd[0]!r})"
                )
    if wanted is not None and (text or empty):
        name = (text + empty)[0]
        why = "is no column of numbers" if text else "has no value"
        raise ValueError(f"column {name!r} {why}; choose another one with --column.")
    if not channels:
        raise ValueError(f"there is no column of numbers among {listed(names)}.")
    if text:
        notes.append(f"left out, no numbers: {listed(text)}")
    named = [name for name in empty if not re.fullmatch(r"column_\d+", name)]
    if named:
        notes.append(f"left out, no values: {listed(named)}")
    return pd.DataFrame(channels, index=table.index, dtype=np.float64)


def _to_numbers(column: Any, decimal: str) -> tuple[Any, list[str]]:
    """Return a column as numbers, and the entries that are none."""
    import numpy as np
    import pandas as pd

    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64), []
    if column.dtype.kind == "b":
        return np.full(len(column), np.nan), ["True"] * len(column)
    entries = column.astype("str").str.strip()
    missing = column.isna() | entries.str.lower().isin(_MISSING)
    group = "," if decimal == "." else "."
    grouped = entries.str.fullmatch(_THOUSANDS[decimal])
    plain = entries.where(~grouped, entries.str.replace(group, "", regex=False))
    if decimal == ",":
        plain = plain.str.replace(",", ".", regex=False)
    values = pd.to_numeric(plain.where(~missing), errors="coerce")
    odd = entries[~missing & values.isna()]
    return values.to_numpy(dtype=np.float64), list(odd)


def listed(names: list[str]) -> str:
    """Return names for an error or a note, the first eight of them.

    Parameters
    ----------
    names : list of str

    Returns
    -------
    str

    Examples
    --------
    >>> from mixlin.cli.tables import listed
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown
