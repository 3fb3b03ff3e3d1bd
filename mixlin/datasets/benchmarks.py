"""Fetchers of the public benchmark series."""

from __future__ import annotations

import io
import os

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints

from mixlin.datasets.bunch import check_pandas, series_bunch
from mixlin.datasets.files import read_verified

__all__ = ["fetch_ett", "fetch_exchange_rate", "fetch_illness"]

_ETT_FREQ = {"ETTh1": "h", "ETTh2": "h", "ETTm1": "15min", "ETTm2": "15min"}
_ETT_PERIOD = {"h": 24, "15min": 96}
# The file has no header; the source lists the countries in this order, and the first row agrees
# with the rates of January 1990 (US dollars for one unit).
_CURRENCIES = ["AUD", "GBP", "CAD", "CHF", "CNY", "JPY", "NZD", "SGD"]

_ETT_DESCR = """\
{name}: electricity transformer temperature
------------------------------------------
{rows} rows, 7 channels, one row {step}, from 2016-07-01 00:00, without gaps.
Oil temperature (OT, degrees Celsius) of an electricity transformer in China, station {station},
and six load features: high, middle and low useful load (HUFL, MUFL, LUFL) and useless load
(HULL, MULL, LULL).
Source: the ETDataset repository of H. Zhou et al., folder ETT-small; license CC BY-ND 4.0.
Reference: H. Zhou, S. Zhang, J. Peng, S. Zhang, J. Li, H. Xiong and W. Zhang (2021).
"Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting". AAAI.
"""
_EXCHANGE_DESCR = """\
exchange_rate: daily exchange rates
-----------------------------------
{rows} rows, 8 channels, one row per day, 1990 to 2016; the file has neither dates nor a header.
US dollars for one unit of the currencies of Australia, the United Kingdom, Canada, Switzerland,
China, Japan, New Zealand and Singapore; the names are ours, in the order that the source gives.
Source: the multivariate-time-series-data repository of G. Lai.
Reference: G. Lai, W.-C. Chang, Y. Yang and H. Liu (2018). "Modeling Long- and Short-Term Temporal
Patterns with Deep Neural Networks". SIGIR.
"""
_ILLNESS_DESCR = """\
national_illness: influenza-like illness in the United States
-------------------------------------------------------------
{rows} rows, 7 channels, one row per week (Tuesdays), 2002-01-01 to 2020-06-30, without gaps.
Share of patients with influenza-like illness (weighted by state population and unweighted, in
per cent), cases of two age groups and in total, number of reporting providers, and number of
patients seen (OT).
Source: ILINet of the Centers for Disease Control and Prevention (US government work), in the
columns that the Autoformer benchmark uses.
Reference: H. Wu, J. Xu, J. Wang and M. Long (2021). "Autoformer: Decomposition Transformers with
Auto-Correlation for Long-Term Series Forecasting". NeurIPS.
"""


def fetch_ett(
    name: str = "ETTh1",
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: bool = False,
) -> Bunch:
    """Load a series of the electricity transformer temperature (ETT) benchmark.

    The file is looked for in :func:`get_data_home`, plain or compressed (``.gz``), and downloaded
    there if it is missing. Its bytes are always compared with the published checksum.

    Parameters
    ----------
    name : {"ETTh1", "ETTh2", "ETTm1", "ETTm2"}, default="ETTh1"
        Station 1 or 2, hourly (17420 rows) or every 15 minutes (69680 rows).
    data_home : str or path-like, default=None
        Folder of the file; by default the one that ``MIXLIN_DATA_HOME`` names, else the cache.
    download_if_missing : bool, default=True
        Whether to download a missing file; if False, it raises.
    as_frame : bool, default=False
        Whether `data` is a DataFrame with the time as its index (needs pandas).

    Returns
    -------
    dataset : Bunch
        data : array or DataFrame of shape (n_rows, 7)
            The series in float64.
        frame : DataFrame of shape (n_rows, 7) or None
            The same DataFrame with ``as_frame=True``, otherwise None.
        index : array of shape (n_rows,)
            Time of each row, datetime64[ns].
        feature_names : list of str
            Names of the channels; "OT", the oil temperature, is the last one.
        name, freq, period : str, str, int
            The dataset's name, its step as pandas writes it, and the steps of a day.
        DESCR : str
            Description, source, license and reference.

    Raises
    ------
    ValueError
        If `name` is not one of the four, or the file is not the published one.
    FileNotFoundError
        If the file is missing and ``download_if_missing=False``.
    OSError
        If the download fails.
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    References
    ----------
    .. [1] Zhou, H., Zhang, S., Peng, J., Zhang, S., Li, J., Xiong, H. and Zhang, W. (2021).
       "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting". AAAI.

    Examples
    --------
    >>> from mixlin.datasets import fetch_ett
    >>> ett = fetch_ett("ETTh1")  # doctest: +SKIP
    >>> ett.data.shape, ett.feature_names[-1], ett.freq  # doctest: +SKIP
    ((17420, 7), 'OT', 'h')
    """
    validate_parameter_constraints(
        {"name": [StrOptions(set(_ETT_FREQ))]}, {"name": name}, caller_name="fetch_ett"
    )
    text = _read("fetch_ett", name, data_home, download_if_missing, as_frame)
    index, data, feature_names = _parse_dated(text)
    freq = _ETT_FREQ[name]
    descr = _ETT_DESCR.format(
        name=name,
        rows=len(data),
        step="per hour" if freq == "h" else "every 15 minutes",
        station=name[-1],
    )
    return series_bunch(
        data, index, feature_names, name, freq, _ETT_PERIOD[freq], descr, as_frame=as_frame
    )


def fetch_exchange_rate(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: bool = False,
) -> Bunch:
    """Load the daily exchange rates of eight currencies against the US dollar.

    The file is looked for in :func:`get_data_home`, plain or compressed (``.gz``), and downloaded
    there if it is missing. Its bytes are always compared with a known checksum.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the file; by default the one that ``MIXLIN_DATA_HOME`` names, else the cache.
    download_if_missing : bool, default=True
        Whether to download a missing file; if False, it raises.
    as_frame : bool, default=False
        Whether `data` is a DataFrame (needs pandas); its index counts the rows.

    Returns
    -------
    dataset : Bunch
        data : array or DataFrame of shape (7588, 8)
            The series in float64.
        frame : DataFrame of shape (7588, 8) or None
            The same DataFrame with ``as_frame=True``, otherwise None.
        feature_names : list of str
            Currency codes.
        name : str
            ``"exchange_rate"``.
        index, freq, period : None
            The file has no dates, and the series no natural period.
        DESCR : str
            Description, source and reference.

    Raises
    ------
    ValueError
        If the file is not the published one.
    FileNotFoundError
        If the file is missing and ``download_if_missing=False``.
    OSError
        If the download fails.
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    References
    ----------
    .. [1] Lai, G., Chang, W.-C., Yang, Y. and Liu, H. (2018). "Modeling Long- and Short-Term
       Temporal Patterns with Deep Neural Networks". SIGIR.

    Examples
    --------
    >>> from mixlin.datasets import fetch_exchange_rate
    >>> fetch_exchange_rate().data.shape  # doctest: +SKIP
    (7588, 8)
    """
    text = _read("fetch_exchange_rate", "exchange_rate", data_home, download_if_missing, as_frame)
    data = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2)
    return series_bunch(
        data,
        None,
        list(_CURRENCIES),
        "exchange_rate",
        None,
        None,
        _EXCHANGE_DESCR.format(rows=len(data)),
        as_frame=as_frame,
    )


def fetch_illness(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    as_frame: bool = False,
) -> Bunch:
    """Load the weekly influenza-like illness series of the United States.

    This file has no stable public address: place ``national_illness.csv`` (plain or ``.gz``) in
    :func:`get_data_home` yourself. Its bytes are always compared with a known checksum.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the file; by default the one that ``MIXLIN_DATA_HOME`` names, else the cache.
    download_if_missing : bool, default=True
        Accepted for uniformity; there is nowhere to download the file from, so it raises when
        the file is missing.
    as_frame : bool, default=False
        Whether `data` is a DataFrame with the time as its index (needs pandas).

    Returns
    -------
    dataset : Bunch
        data : array or DataFrame of shape (966, 7)
            The series in float64.
        frame : DataFrame of shape (966, 7) or None
            The same DataFrame with ``as_frame=True``, otherwise None.
        index : array of shape (966,)
            Time of each row, datetime64[ns].
        feature_names : list of str
            Names of the channels as the file writes them.
        name, freq, period : str, str, int
            ``"national_illness"``, ``"W-TUE"`` and 52.
        DESCR : str
            Description, source and reference.

    Raises
    ------
    ValueError
        If the file is not the one of the benchmark.
    FileNotFoundError
        If the file is missing.
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    References
    ----------
    .. [1] Wu, H., Xu, J., Wang, J. and Long, M. (2021). "Autoformer: Decomposition Transformers
       with Auto-Correlation for Long-Term Series Forecasting". NeurIPS.

    Examples
    --------
    >>> from mixlin.datasets import fetch_illness
    >>> illness = fetch_illness()  # doctest: +SKIP
    >>> illness.data.shape, illness.freq  # doctest: +SKIP
    ((966, 7), 'W-TUE')
    """
    text = _read("fetch_illness", "national_illness", data_home, download_if_missing, as_frame)
    index, data, feature_names = _parse_dated(text)
    return series_bunch(
        data,
        index,
        feature_names,
        "national_illness",
        "W-TUE",
        52,
        _ILLNESS_DESCR.format(rows=len(data)),
        as_frame=as_frame,
    )


def _read(
    caller: str,
    name: str,
    data_home: str | os.PathLike[str] | None,
    download_if_missing: bool,
    as_frame: bool,
) -> str:
    """Check the parameters that all fetchers share, then return the text of the file."""
    validate_parameter_constraints(
        {
            "data_home": [str, os.PathLike, None],
            "download_if_missing": ["boolean"],
            "as_frame": ["boolean"],
        },
        {
            "data_home": data_home,
            "download_if_missing": download_if_missing,
            "as_frame": as_frame,
        },
        caller_name=caller,
    )
    if as_frame:
        check_pandas(caller)  # before a download, not after it
    return read_verified(name, data_home, download_if_missing).decode("ascii")


def _parse_dated(
    text: str,
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.float64], list[str]]:
    """Split a CSV text with a header and ``YYYY-MM-DD HH:MM:SS`` first into time and channels."""
    header, *rows = text.splitlines()
    names = header.split(",")
    # The stamps have one width, and cutting them off is much quicker than a column of strings.
    index = np.array([row[:19] for row in rows], dtype="datetime64[s]").astype("datetime64[ns]")
    columns = range(1, len(names))
    data = np.loadtxt(rows, delimiter=",", comments=None, usecols=columns, ndmin=2)
    return index, data, names[1:]
