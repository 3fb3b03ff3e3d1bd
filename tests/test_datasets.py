from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import gzip
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlin.datasets import (
    LTSFSplit,
    fetch_ett,
    fetch_exchange_rate,
    fetch_illness,
    files,
    get_data_home,
    ltsf_split,
    make_seasonal,
)

FETCHERS = {
    "ETTh1": lambda **kw: fetch_ett("ETTh1", **kw),
    "ETTh2": lambda **kw: fetch_ett("ETTh2", **kw),
    "ETTm1": lambda **kw: fetch_ett("ETTm1", **kw),
    "ETTm2": lambda **kw: fetch_ett("ETTm2", **kw),
    "exchange_rate": fetch_exchange_rate,
    "national_illness": fetch_illness,
}
DOWNLOADABLE = [name for name in FETCHERS if name != "national_illness"]


def needs(filename):
    """Mark a test that reads a published file, and skip it where the file is not."""
    home = Path(os.environ.get("MIXLIN_DATA_HOME") or "no folder")
    missing = not any((home / (filename + end)).is_file() for end in ("", ".gz"))
    skip = pytest.mark.skipif(missing, reason=f"MIXLIN_DATA_HOME names no folder with {filename}")

    def mark(test):
        return pytest.mark.data(filename)(skip(test))

    return mark


def fake_text(name):
    """A short file in the form of the published one."""
    if name == "exchange_rate":
        rows = ["0.785500,1.611000,0.861698,0.634196,0.211242,0.006838,0.593000,0.525486"]
        return "\n".join(rows * 6) + "\n"
    if name == "national_illness":
        head = "date,% WEIGHTED ILI,%UNWEIGHTED ILI,AGE 0-4,AGE 5-24,ILITOTAL,NUM. OF PROVIDERS,OT"
        first, step = dt.datetime(2002, 1, 1), dt.timedelta(days=7)
    else:
        head = "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"
        step = dt.timedelta(minutes=60 if "h" in name else 15)
        first = dt.datetime(2016, 7, 1)
    rng = np.random.RandomState(0)
    rows = [
        f"{first + i * step:%Y-%m-%d %H:%M:%S}," + ",".join(repr(float(v)) for v in values)
        for i, values in enumerate(rng.standard_normal((6, 7)) * 10)
    ]
    return "\n".join([head, *rows]) + "\n"


def git_blob_id(content):
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


@pytest.fixture
def fakes(monkeypatch):
    """The short files, accepted by the checksums that the real ones have (and only those)."""
    contents = {}
    for name, source in list(files._SOURCES.items()):
        content = contents[name] = fake_text(name).encode()
        known = {
            "sha256": source.sha256 and hashlib.sha256(content).hexdigest(),
            "git_blob": source.git_blob and git_blob_id(content),
        }
        monkeypatch.setitem(files._SOURCES, name, dataclasses.replace(source, **known))
    return contents


@pytest.fixture
def server(monkeypatch):
    """A local HTTP server in the place of the public addresses; `pages` maps path to answer."""
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = pages.get(self.path, (404, b"not here", None))
            if callable(answer):
                answer = answer()
            status, body, length = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages, httpd.asked = pages, asked
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = f"http://127.0.0.1:{httpd.server_address[1]}"
    for base in files._BASE_URLS:
        monkeypatch.setitem(files._BASE_URLS, base, f"{root}/{base}/")
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def remote_path(name):
    source = files._SOURCES[name]
    return f"/{source.base}/{source.remote}"


def publish(server, name, content):
    body = gzip.compress(content) if files._SOURCES[name].remote.endswith(".gz") else content
    server.pages[remote_path(name)] = (200, body, None)
    return body


# ---------------------------------------------------------------- where files are looked for


def test_data_home_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MIXLIN_DATA_HOME", str(tmp_path / "env"))
    assert get_data_home(tmp_path / "arg") == tmp_path / "arg"
    assert get_data_home() == tmp_path / "env"
    monkeypatch.setenv("MIXLIN_DATA_HOME", "")
    assert get_data_home() == tmp_path / "xdg" / "mixlin"
    monkeypatch.delenv("MIXLIN_DATA_HOME")
    assert get_data_home() == tmp_path / "xdg" / "mixlin"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert get_data_home() == Path.home() / ".cache" / "mixlin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert get_data_home() == Path.home() / ".cache" / "mixlin"
    assert get_data_home("~/series") == Path.home() / "series"
    assert list(tmp_path.iterdir()) == []  # asking creates nothing


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("how", ["argument", "variable", "cache"])
@pytest.mark.parametrize("name", FETCHERS)
def test_file_is_found_plain_or_compressed(name, how, compressed, fakes, monkeypatch, tmp_path):
    home = {"argument": tmp_path / "a", "variable": tmp_path / "v", "cache": tmp_path / "mixlin"}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MIXLIN_DATA_HOME", raising=False)
    if how != "cache":
        monkeypatch.setenv("MIXLIN_DATA_HOME", str(home["variable"]))
    folder = home[how]
    folder.mkdir()
    filename = files._SOURCES[name].filename
    if compressed:
        (folder / f"{filename}.gz").write_bytes(gzip.compress(fakes[name]))
    else:
        (folder / filename).write_bytes(fakes[name])
    options = {"data_home": folder} if how == "argument" else {}
    bunch = FETCHERS[name](download_if_missing=False, **options)
    assert bunch.name == name
    assert bunch.data.dtype == np.float64

    rows = list(csv.reader(io.StringIO(fakes[name].decode())))
    if name == "exchange_rate":
        assert bunch.data.tolist() == [[float(v) for v in row] for row in rows]
        assert bunch.index is None
        assert bunch.freq is None
        assert bunch.period is None
    else:
        assert bunch.data.tolist() == [[float(v) for v in row[1:]] for row in rows[1:]]
        assert bunch.feature_names == rows[0][1:]
        assert bunch.index.dtype == np.dtype("datetime64[ns]")
        assert [str(t)[:19].replace("T", " ") for t in bunch.index] == [r[0] for r in rows[1:]]
        expected = {"ETTh": ("h", 24), "ETTm": ("15min", 96), "nati": ("W-TUE", 52)}[name[:4]]
        assert (bunch.freq, bunch.period) == expected
    assert len(bunch.feature_names) == bunch.data.shape[1]
    assert bunch.frame is None
    assert bunch.DESCR.startswith(name)


@pytest.mark.parametrize("name", FETCHERS)
def test_missing_file_without_download_names_the_folder_and_what_to_do(name, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        FETCHERS[name](data_home=tmp_path, download_if_missing=False)
    sentence = str(caught.value)
    assert str(tmp_path / files._SOURCES[name].filename) in sentence
    assert "place it yourself" in sentence
    assert "MIXLIN_DATA_HOME" in sentence
    assert list(tmp_path.iterdir()) == []


def test_illness_asks_to_be_placed_and_is_never_downloaded(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no stable public address.*place it yourself"):
        fetch_illness(data_home=tmp_path)
    assert server.asked == []


# ---------------------------------------------------------------- checksums


def test_git_blob_id_is_git_s(monkeypatch, tmp_path):
    # `echo hello | git hash-object --stdin`
    source = files._Source("a.txt", git_blob="ce013625030ba8dba906f756967f9e9ca394464a")
    monkeypatch.setitem(files._SOURCES, "a", source)
    (tmp_path / "a.txt").write_bytes(b"hello\n")
    assert files.read_verified("a", tmp_path, False) == b"hello\n"
    (tmp_path / "a.txt").write_bytes(b"hello")
    with pytest.raises(ValueError, match="git blob id"):
        files.read_verified("a", tmp_path, False)


def test_every_source_has_a_checksum():
    for name, source in files._SOURCES.items():
        assert source.sha256 or source.git_blob, name
        assert (source.base in files._BASE_URLS) == (name != "national_illness")
    assert all(url.startswith("https://") for url in files._BASE_URLS.values())


@pytest.mark.parametrize("field", ["sha256", "git_blob"])
def test_every_known_checksum_is_compared(field, fakes, monkeypatch, tmp_path):
    source = files._SOURCES["ETTh1"]
    (tmp_path / source.filename).write_bytes(fakes["ETTh1"])
    digest = getattr(source, field)
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    monkeypatch.setitem(files._SOURCES, "ETTh1", dataclasses.replace(source, **{field: other}))
    with pytest.raises(ValueError, match=other):
        fetch_ett("ETTh1", data_home=tmp_path)


@pytest.mark.parametrize("name", FETCHERS)
def test_altered_file_is_refused_and_left_alone(name, fakes, tmp_path):
    path = tmp_path / files._SOURCES[name].filename
    altered = fakes[name].replace(b"5", b"6", 1)
    assert altered != fakes[name]
    path.write_bytes(altered)
    with pytest.raises(ValueError, match=r"is not the published .* Delete it") as caught:
        FETCHERS[name](data_home=tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == altered
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip", "empty"])
def test_damaged_gzip_is_refused(damage, fakes, tmp_path):
    packed = gzip.compress(fakes["ETTh1"])
    middle = len(packed) // 2
    flipped = packed[:middle] + bytes([packed[middle] ^ 255]) + packed[middle + 1 :]
    damaged = {"cut": packed[:-20], "flipped": flipped, "not gzip": b"a,b\n1,2\n", "empty": b""}
    (tmp_path / "ETTh1.csv.gz").write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="Delete it"):
        fetch_ett("ETTh1", data_home=tmp_path)


# ---------------------------------------------------------------- download


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_download_is_verified_kept_and_not_repeated(name, fakes, server, tmp_path):
    body = publish(server, name, fakes[name])
    home = tmp_path / "new" / "folder"
    first = FETCHERS[name](data_home=home)
    assert [path.name for path in home.iterdir()] == [files._SOURCES[name].remote]
    assert (home / files._SOURCES[name].remote).read_bytes() == body
    again = FETCHERS[name](data_home=home, download_if_missing=False)
    assert server.asked == [remote_path(name)]
    assert first.data.tolist() == again.data.tolist()
    assert first.data.shape[0] == 6


def test_download_goes_to_the_folder_of_the_environment(fakes, server, monkeypatch, tmp_path):
    publish(server, "ETTh1", fakes["ETTh1"])
    monkeypatch.setenv("MIXLIN_DATA_HOME", str(tmp_path))
    fetch_ett("ETTh1")
    assert (tmp_path / "ETTh1.csv").read_bytes() == fakes["ETTh1"]


def test_download_is_readable_like_any_new_file(fakes, server, tmp_path):
    publish(server, "ETTh1", fakes["ETTh1"])
    fetch_ett("ETTh1", data_home=tmp_path)
    (tmp_path / "plain").write_bytes(b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("ETTh1.csv", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("name", DOWNLOADABLE)
@pytest.mark.parametrize("fault", ["404", "500", "truncated"])
def test_failed_download_says_what_to_do_and_writes_nothing(name, fault, fakes, server, tmp_path):
    body = publish(server, name, fakes[name])
    answers = {
        "404": (404, b"", None),
        "500": (500, b"", None),
        "truncated": (200, body[:-50], len(body)),
    }
    server.pages[remote_path(name)] = answers[fault]
    home = tmp_path / "home"
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        FETCHERS[name](data_home=home)
    sentence = str(caught.value)
    assert remote_path(name) in sentence
    assert "place it yourself" in sentence
    assert str(home / files._SOURCES[name].filename) in sentence
    if fault != "truncated":
        assert fault in sentence
    assert not home.exists()


@pytest.mark.parametrize("name", DOWNLOADABLE)
@pytest.mark.parametrize("fault", ["altered", "shortened", "a page"])
def test_download_with_a_wrong_checksum_is_refused_and_writes_nothing(
    name, fault, fakes, server, tmp_path
):
    body = publish(server, name, fakes[name])
    served = {
        "altered": body[:-30] + bytes([body[-30] ^ 1]) + body[-29:],
        "shortened": body[:-50],  # the server does not say that more was meant
        "a page": b"<html>Please log in to this network</html>",
    }
    server.pages[remote_path(name)] = (200, served[fault], None)
    home = tmp_path / "home"
    with pytest.raises(ValueError, match="Nothing was written") as caught:
        FETCHERS[name](data_home=home)
    assert "place it yourself" in str(caught.value)
    assert not home.exists()


def test_offline_says_what_to_do(monkeypatch, tmp_path):
    with socket.socket() as listener:  # a port that was free a moment ago refuses connections
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(files._BASE_URLS, "ett", f"http://127.0.0.1:{port}/")
    with pytest.raises(OSError, match=r"network connection.*place it yourself as .*ETTh2\.csv"):
        fetch_ett("ETTh2", data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_given_up(server, monkeypatch, tmp_path):
    released = threading.Event()

    def late():
        released.wait(20)
        return 404, b"", None

    server.pages[remote_path("ETTh1")] = late
    monkeypatch.setattr(files, "_TIMEOUT", 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(OSError, match="timed out"):
            fetch_ett("ETTh1", data_home=tmp_path)
    finally:
        released.set()
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_to_gets_its_sentence(fakes, server, tmp_path):
    publish(server, "ETTh1", fakes["ETTh1"])
    blocked = tmp_path / "file"
    blocked.write_bytes(b"not a folder")
    with pytest.raises(OSError, match=r"could not be written to .*data_home="):
        fetch_ett("ETTh1", data_home=blocked)
    assert blocked.read_bytes() == b"not a folder"


def test_failed_write_leaves_nothing_behind(fakes, server, monkeypatch, tmp_path):
    publish(server, "ETTh1", fakes["ETTh1"])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        fetch_ett("ETTh1", data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- parameters and frames


def test_fetchers_refuse_wrong_parameters(tmp_path):
    with pytest.raises(ValueError, match=r"'name' parameter of fetch_ett.*Got 'etth1'"):
        fetch_ett("etth1", data_home=tmp_path)
    with pytest.raises(ValueError, match="'as_frame' parameter of fetch_illness"):
        fetch_illness(as_frame="yes")
    with pytest.raises(ValueError, match="'data_home' parameter of fetch_exchange_rate"):
        fetch_exchange_rate(data_home=3)
    with pytest.raises(ValueError, match="'download_if_missing' parameter of fetch_ett"):
        fetch_ett(download_if_missing=None)


@pytest.mark.parametrize("name", FETCHERS)
def test_frame_holds_the_array_and_the_time(name, fakes, tmp_path):
    pd = pytest.importorskip("pandas")
    (tmp_path / files._SOURCES[name].filename).write_bytes(fakes[name])
    array = FETCHERS[name](data_home=tmp_path)
    bunch = FETCHERS[name](data_home=tmp_path, as_frame=True)
    assert bunch.data is bunch.frame
    assert isinstance(bunch.frame, pd.DataFrame)
    assert bunch.frame.to_numpy().tolist() == array.data.tolist()
    assert list(bunch.frame.columns) == bunch.feature_names
    if array.index is None:
        assert bunch.index is None
        assert list(bunch.frame.index) == list(range(6))
    else:
        assert bunch.frame.index.tolist() == pd.DatetimeIndex(array.index).tolist()
        assert bunch.frame.index.freq == pd.tseries.frequencies.to_offset(bunch.freq)
        assert bunch.index.tolist() == array.index.tolist()


@pytest.mark.parametrize("make", [*FETCHERS.values(), make_seasonal])
def test_frame_without_pandas_says_so_before_any_download(make, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"as_frame=True needs pandas.*as_frame=False"):
        make(as_frame=True)
    assert server.asked == []


def test_array_needs_no_pandas(fakes, monkeypatch, tmp_path):
    (tmp_path / "ETTh1.csv").write_bytes(fakes["ETTh1"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert fetch_ett(data_home=tmp_path).data.shape == (6, 7)
    assert make_seasonal(5, random_state=0).data.shape == (5, 1)


def test_import_loads_no_heavy_package_that_scikit_learn_does_not():
    code = (
        "import sys, sklearn.linear_model; before = set(sys.modules); import mixlin.datasets\n"
        "heavy = {'pandas', 'matplotlib', 'torch', 'urllib.request', 'http.client'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------- the published files


@needs("ETTh1.csv")
def test_etth1_is_the_published_series():
    bunch = fetch_ett("ETTh1", download_if_missing=False)
    assert bunch.data.shape == (17420, 7)
    assert bunch.feature_names == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    assert bunch.data[0, -1] == 30.5310001373291
    assert bunch.data[-1, -1] == 9.56700038909912
    assert np.unique(np.diff(bunch.index)).tolist() == [3_600_000_000_000]
    assert str(bunch.index[0])[:16] == "2016-07-01T00:00"
    assert "17420 rows" in bunch.DESCR


@needs("ETTm1.csv")
def test_ettm1_is_the_published_series():
    bunch = fetch_ett("ETTm1", download_if_missing=False)
    assert bunch.data.shape == (69680, 7)
    assert bunch.data[-1, -1] == 9.777999877929688
    assert np.unique(np.diff(bunch.index)).tolist() == [900_000_000_000]


@needs("exchange_rate.txt")
def test_exchange_rate_is_the_published_series():
    bunch = fetch_exchange_rate(download_if_missing=False)
    assert bunch.data.shape == (7588, 8)
    assert dict(zip(bunch.feature_names, bunch.data[0], strict=True))["GBP"] == 1.611
    assert bunch.data[-1, -1] == 0.690942


@needs("national_illness.csv")
def test_illness_is_the_published_series():
    bunch = fetch_illness(download_if_missing=False)
    assert bunch.data.shape == (966, 7)
    assert bunch.feature_names[0] == "% WEIGHTED ILI"
    assert bunch.data[-2:, -1].tolist() == [1542813.0, 1509928.0]
    days = bunch.index.astype("datetime64[D]").astype(int)
    assert np.unique(np.diff(days)).tolist() == [7]
    assert np.unique((days + 3) % 7).tolist() == [1]  # Tuesdays


@needs("ETTh1.csv")
def test_published_file_survives_a_download(server, tmp_path):
    home = get_data_home()
    plain = home / "ETTh1.csv"
    content = (
        plain.read_bytes()
        if plain.is_file()
        else gzip.decompress((home / "ETTh1.csv.gz").read_bytes())
    )
    publish(server, "ETTh1", content)
    assert fetch_ett("ETTh1", data_home=tmp_path).data.shape == (17420, 7)
    server.pages[remote_path("ETTh1")] = (200, content.replace(b"30.531", b"30.532", 1), None)
    with pytest.raises(ValueError, match="Nothing was written"):
        fetch_ett("ETTh1", data_home=tmp_path / "other")


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("name", "borders"),
    [
        ("ETTh1", (8640, 11520, 14400)),
        ("ETTh2", (8640, 11520, 14400)),
        ("ETTm1", (34560, 46080, 57600)),
        ("ETTm2", (34560, 46080, 57600)),
        ("exchange_rate", (5311, 6071, 7588)),
        ("national_illness", (676, 773, 966)),
    ],
)
def test_benchmark_borders(name, borders):
    split = ltsf_split(name)
    assert split == borders
    assert (split.train_end, split.val_end, split.test_end) == borders
    assert ltsf_split(name.lower(), n_rows=70_000)[0] == (
        borders[0] if name.startswith("ETT") else 49_000
    )


@pytest.mark.parametrize("lookback", [0, 96, 336, 720])
def test_test_windows_do_not_depend_on_the_lookback(lookback):
    rows = ltsf_split("ETTh1").context("test", lookback)
    counts = [rows.stop - rows.start - lookback - h + 1 for h in (96, 192, 336, 720)]
    assert counts == [2785, 2689, 2545, 2161]


@settings(deadline=None, max_examples=100)
@given(st.integers(5, 100_000))
def test_spans_of_any_series_are_consecutive_and_complete(n_rows):
    split = ltsf_split("anything", n_rows)
    rows = np.arange(n_rows)
    parts = [rows[split.train], rows[split.validation], rows[split.test]]
    assert all(part.size for part in parts)
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert split.train_end == int(0.7 * n_rows)
    assert n_rows - split.val_end == int(0.2 * n_rows)


def test_split_is_frozen_and_named():
    split = ltsf_split("x", 100)
    assert split == LTSFSplit(train_end=70, val_end=80, test_end=100)
    with pytest.raises(AttributeError):
        split.train_end = 1
    assert split.context("train", 50) == slice(0, 70)
    assert split.context("validation", 10) == slice(60, 80)
    assert split.context("test", 80) == slice(0, 100)


def test_split_of_a_bunch_uses_its_name_and_rows():
    bunch = make_seasonal(200, random_state=0)
    assert ltsf_split(bunch) == ltsf_split("seasonal", 200) == (140, 160, 200)
    assert ltsf_split(bunch, n_rows=200) == (140, 160, 200)
    bunch.name, bunch.data = "ETTh1", np.zeros((17420, 7))
    assert ltsf_split(bunch) == (8640, 11520, 14400)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: ltsf_split("mine"), ValueError, "'mine' is not a benchmark.*pass n_rows"),
        (lambda: ltsf_split("ETTh1", 14399), ValueError, "at least 14400 rows.*got 14399"),
        (lambda: ltsf_split("mine", 4), ValueError, "4 rows are too few"),
        (lambda: ltsf_split("mine", -10), ValueError, "-10 rows are too few"),
        (lambda: ltsf_split("mine", 10.0), TypeError, "n_rows=10.0 must be an integer"),
        (lambda: ltsf_split("mine", True), TypeError, "n_rows=True must be an integer"),
        (lambda: ltsf_split(np.zeros(9)), TypeError, "got ndarray"),
        (lambda: ltsf_split(make_seasonal(50), 51), ValueError, "contradicts.*50 rows"),
        (lambda: ltsf_split("m", 50).context("val", 3), ValueError, "part='val'"),
        (lambda: ltsf_split("m", 50).context("test", 41), ValueError, "the 40 rows"),
        (lambda: ltsf_split("m", 50).context("test", -1), ValueError, "lookback=-1"),
    ],
)
def test_split_refuses_with_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_seasonal_is_a_bunch_like_the_fetchers_make(fakes, tmp_path):
    (tmp_path / "ETTh1.csv").write_bytes(fakes["ETTh1"])
    fetched = fetch_ett(data_home=tmp_path)
    bunch = make_seasonal(random_state=0)
    assert set(fetched) <= set(bunch)
    assert bunch.data.shape == (17520, 1)
    assert bunch.data.dtype == np.float64
    assert bunch.index.dtype == np.dtype("datetime64[ns]")
    assert (bunch.name, bunch.freq, bunch.period, bunch.frame) == ("seasonal", "h", 24, None)
    assert bunch.feature_names == ["load"]
    assert "2020-01-01T00:00 to 2021-12-30T23:00" in bunch.DESCR
