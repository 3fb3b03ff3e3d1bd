"""Dask collections on a cluster of processes, one of which is killed during the fit."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from mixlin import LinearForecaster, RLinearForecaster
from mixlin.streaming import fit_stream

from .test_streaming import C, H, L, T, assert_same, frame, series

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")


@pytest.fixture
def model():
    return LinearForecaster(lookback=L, horizon=H)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start two worker processes that are replaced when they die."""
    settings = {
        "distributed.scheduler.allowed-failures": 3,
        "distributed.worker.daemon": True,
        "distributed.admin.log-format": "%(message)s",
        "temporary-directory": str(tmp_path_factory.mktemp("dask")),
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as made,
    ):
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2, timeout=60)
        yield made


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
def test_a_dask_array(model, rows):
    values = series()
    collection = da.from_array(values, chunks=(max(rows, 10), 2))
    with dask.config.set(scheduler="synchronous"):
        assert_same(fit_stream(model, collection), model.fit(values))
        revin = RLinearForecaster(lookback=L, horizon=H)
        assert_same(fit_stream(revin, collection), revin.fit(values))
        one = fit_stream(model, collection[:, 0])
    assert_same(one, LinearForecaster(lookback=L, horizon=H).fit(values[:, 0]))


def test_a_dask_frame_with_empty_partitions(model):
    dd = pytest.importorskip("dask.dataframe")
    made = frame()
    parts = [made.iloc[a:b] for a, b in ((0, 0), (0, 300), (300, 300), (300, 301), (301, 868))]
    collection = dd.from_delayed(
        [dask.delayed(part) for part in parts], meta=made.iloc[:0], verify_meta=False
    )
    with dask.config.set(scheduler="synchronous"):
        assert_same(fit_stream(model, collection), model.fit(made))
        column = fit_stream(model, collection["b"])
        assert_same(column, LinearForecaster(lookback=L, horizon=H).fit(made["b"]))
        swapped = dd.from_delayed([dask.delayed(parts[4]), dask.delayed(parts[1])], meta=made[:0])
        with pytest.raises(ValueError, match=r"not sorted|not in the order of time"):
            fit_stream(model, swapped)
        nothing = dd.from_delayed([dask.delayed(parts[0])] * 2, meta=made[:0])
        with pytest.raises(ValueError, match="the source holds no rows"):
            fit_stream(model, nothing)


def test_bad_dask_input(model):
    with pytest.raises(ValueError, match="a Dask array must have the shape"):
        fit_stream(model, da.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="computed by its own scheduler"):
        fit_stream(model, da.from_array(series(), chunks=(100, C)), n_jobs=2)


def test_a_worker_that_dies_again_and_again_is_told_in_a_sentence(model, monkeypatch):
    class KilledWorker(Exception):
        pass

    def lose(*tasks):
        raise KilledWorker

    monkeypatch.setattr(dask, "compute", lose)
    with pytest.raises(RuntimeError, match="a worker process died"):
        fit_stream(model, da.from_array(series(), chunks=(100, C)))


def load_slowly(values, part, folder):
    """Return a partition, leaving a note of which process read it."""
    Path(folder, f"{part:03d}-{os.getpid()}-{time.time_ns()}").touch()
    time.sleep(0.1)
    return values


def kill_one(folder, driver, killed):
    """Kill the first worker that has read three partitions."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        readers = [int(note.name.split("-")[1]) for note in Path(folder).iterdir()]
        busy = [pid for pid in set(readers) if readers.count(pid) >= 3 and pid != driver]
        if busy:
            killed.append(busy[0])
            os.kill(busy[0], signal.SIGKILL)
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_killed_during_the_fit_changes_nothing(client, model, tmp_path):
    n_parts, rows = 30, T // 30
    values = series(gaps=False)
    parts = [
        dask.delayed(load_slowly)(values[i * rows : (i + 1) * rows], i, str(tmp_path))
        for i in range(n_parts)
    ]
    collection = da.concatenate(
        [da.from_delayed(part, (rows, C), dtype=float) for part in parts], axis=0
    )
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path, os.getpid(), killed))
    killer.start()
    found = fit_stream(model, collection)
    killer.join()
    assert len(killed) == 1
    readers = {int(note.name.split("-")[1]) for note in tmp_path.iterdir()}
    assert killed[0] in readers
    assert os.getpid() not in readers
    assert_same(found, model.fit(values))


@pytest.mark.slow
def test_joblibs_dask_backend(client, model, tmp_path):
    np.save(tmp_path / "rows.npy", series())
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    whole = LinearForecaster(lookback=L, horizon=H).fit(series())
    with joblib.parallel_config(backend="dask"):
        for source in (mapped, series()):
            assert_same(fit_stream(model, source, n_jobs=2, block_rows=50), whole)


def test_a_summary_is_small_whatever_the_partition():
    from mixlin.solvers import SeriesSums
    from mixlin.streaming import StreamPlan
    from mixlin.streaming.chunks import read_chunk

    values = np.random.default_rng(0).normal(size=(400_000, 2))
    plan = StreamPlan(SeriesSums(L, H, np.zeros(2)), read_chunk(values[:9], "rows").empty())
    sizes = [len(pickle.dumps(plan.summarize([values[:n]]))) for n in (200_000, 400_000)]
    assert max(sizes) < 2**17
    assert sizes[1] < sizes[0] + 100
