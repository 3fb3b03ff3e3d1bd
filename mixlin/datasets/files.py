"""Where the benchmark files lie, and how they are found, verified and downloaded.

Nothing is trusted by its name: the decompressed bytes of every file, found or downloaded, are
compared with published checksums before they are parsed, and a download is verified before it
appears under its final name.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["get_data_home", "read_verified"]

_TIMEOUT = 30.0  # seconds without an answer or without new bytes

# Kept apart from the sources, and looked up at every call, so that a mirror can take their place.
_BASE_URLS = {
    "ett": "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/",
    "exchange_rate": (
        "https://raw.githubusercontent.com/laiguokun/multivariate-time-series-data/"
        "master/exchange_rate/"
    ),
}


@dataclass(frozen=True)
class _Source:
    """One benchmark file: its plain name, its address, and the checksums of its plain bytes."""

    filename: str
    base: str | None = None  # key of _BASE_URLS; None: there is no stable public address
    remote: str = ""  # name at that address; .gz when it is published compressed
    sha256: str | None = None
    git_blob: str | None = None


_SOURCES = {
    "ETTh1": _Source(
        "ETTh1.csv",
        "ett",
        "ETTh1.csv",
        sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        git_blob="a52c4925778c07c1ef1a2cf6fd01594919717d9e",
    ),
    "ETTh2": _Source(
        "ETTh2.csv",
        "ett",
        "ETTh2.csv",
        git_blob="6e3760778598fdee5208213d3fce122637307eec",
    ),
    "ETTm1": _Source(
        "ETTm1.csv",
        "ett",
        "ETTm1.csv",
        sha256="6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e",
        git_blob="62c9f979e2dc5b05d9cc5b38891e60e6baf77417",
    ),
    "ETTm2": _Source(
        "ETTm2.csv",
        "ett",
        "ETTm2.csv",
        git_blob="f9d46027c987d442d2d8f81308d1d8c4d1d35db8",
    ),
    "exchange_rate": _Source(
        "exchange_rate.txt",
        "exchange_rate",
        "exchange_rate.txt.gz",
        sha256="0127465b51e3cd3c360f8eb2be30cfd294689a2a55903eb8245aafc396626c7f",
    ),
    "national_illness": _Source(
        "national_illness.csv",
        sha256="8594cecb98c6f2f9dc014eca11c4d5d1e38ad5ce6ed0592d4abe65b146fce395",
    ),
}


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder in which the benchmark files are looked for and downloaded to.

    The folder is `data_home` if given, else the one named by the environment variable
    ``MIXLIN_DATA_HOME``, else ``mixlin`` in the user's cache (``$XDG_CACHE_HOME``, or
    ``~/.cache``). It is not created here.

    Parameters
    ----------
    data_home : str or path-like, default=None
        A folder that takes precedence over the environment; ``~`` is expanded.

    Returns
    -------
    pathlib.Path
        The folder, which need not exist yet.

    Examples
    --------
    >>> from mixlin.datasets import get_data_home
    >>> get_data_home("benchmarks").name
    'benchmarks'
    """
    # An empty variable counts as unset: an empty path would mean the current folder.
    chosen = data_home if data_home is not None else os.environ.get("MIXLIN_DATA_HOME") or None
    if chosen is not None:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells to ignore relative paths.
    root = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return root / "mixlin"


def read_verified(
    name: str, data_home: str | os.PathLike[str] | None, download_if_missing: bool
) -> bytes:
    """Return the decompressed bytes of a benchmark file, verified, downloading it if allowed.

    Parameters
    ----------
    name : str
        Key of the source table, such as ``"ETTh1"``.
    data_home : str, path-like or None
        As in :func:`get_data_home`.
    download_if_missing : bool
        Whether a file that is not there may be downloaded.

    Returns
    -------
    bytes
        The whole file.

    Raises
    ------
    ValueError
        If the file, found or downloaded, is not the published one.
    FileNotFoundError
        If it is not there and may not, or cannot, be downloaded.
    OSError
        If the download fails, or its result cannot be written.
    """
    source = _SOURCES[name]
    home = get_data_home(data_home)
    for path in (home / source.filename, home / f"{source.filename}.gz"):
        if path.is_file():
            content = path.read_bytes()
            advice = "Delete it, or replace it by the published file"
            return _verified(content, path.suffix == ".gz", source, str(path), advice)

    here = (
        f"place it yourself as {home / source.filename} (or the same name with .gz), "
        "or name the folder that has it with data_home= or MIXLIN_DATA_HOME"
    )
    if source.base is None:
        raise FileNotFoundError(
            f"{source.filename} is not in {home}, and it has no stable public address to "
            f"download it from: {here}."
        )
    if not download_if_missing:
        raise FileNotFoundError(
            f"{source.filename} is not in {home}, and download_if_missing=False: allow the "
            f"download, or {here}."
        )
    url = _BASE_URLS[source.base] + source.remote
    raw = _download(url, source, here)
    advice = f"Nothing was written; try again later, or {here}"
    content = _verified(raw, source.remote.endswith(".gz"), source, url, advice)
    _write_atomically(raw, home / source.remote)
    return content


def _verified(raw: bytes, compressed: bool, source: _Source, origin: str, advice: str) -> bytes:
    """Decompress and compare with every checksum that is known."""
    content = raw
    if compressed:
        try:
            content = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as exc:
            raise ValueError(f"{origin} is not a complete gzip file ({exc}). {advice}.") from exc
    if source.sha256 is not None:
        got = hashlib.sha256(content).hexdigest()
        if got != source.sha256:
            raise ValueError(
                f"{origin} is not the published {source.filename}: its sha256 is {got}, "
                f"{source.sha256} was expected ({len(content)} bytes). {advice}."
            )
    if source.git_blob is not None:
        got = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if got != source.git_blob:
            raise ValueError(
                f"{origin} is not the published {source.filename}: its git blob id is {got}, "
                f"{source.git_blob} was expected ({len(content)} bytes). {advice}."
            )
    return content


def _download(url: str, source: _Source, here: str) -> bytes:
    """Return what `url` serves, or raise one sentence that says what to do."""
    # Imported here: together they would be a good part of the time of `import mixlin`.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_TIMEOUT) as response:
            body: bytes = response.read()
    except (OSError, HTTPException) as exc:
        if isinstance(exc, HTTPError):
            exc.close()
        reason = str(exc) or type(exc).__name__
        raise OSError(
            f"{source.filename} could not be downloaded from {url}: {reason}. "
            f"Check the network connection and try again, or {here}."
        ) from exc
    return body


def _write_atomically(raw: bytes, target: Path) -> None:
    """Write beside `target` and rename, so that no reader ever meets half a file."""
    # Not tempfile: its files are private to the user, and a data folder may be shared.
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(raw)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise OSError(
            f"{target.name} was downloaded but could not be written to {target.parent}: {exc}. "
            "Name a folder that can be written to with data_home= or MIXLIN_DATA_HOME."
        ) from exc
