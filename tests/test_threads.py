"""The number of BLAS threads is put back, however blocks overlap."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from mixlin import LinearForecaster
from mixlin.solvers import single_threaded

np.zeros((2, 2)) @ np.zeros((2, 2))  # the library is loaded


def counts() -> list[int]:
    return [
        lib["num_threads"] for lib in ThreadpoolController().info() if lib["user_api"] == "blas"
    ]


@pytest.fixture(autouse=True)
def two_threads():
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        if set(counts()) != {2}:
            pytest.skip("this BLAS has one thread")
        yield


def test_one_thread_inside_and_the_old_number_after():
    with single_threaded():
        assert set(counts()) == {1}
        with single_threaded():
            assert set(counts()) == {1}
        assert set(counts()) == {1}
    assert set(counts()) == {2}


def test_blocks_that_overlap_between_threads_restore_the_number():
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with single_threaded():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with single_threaded():
        thread.start()
        assert entered.wait(10)
    assert set(counts()) == {2}  # the first block set the number, so it restores it
    leave.set()
    thread.join()
    assert set(counts()) == {2}


def test_an_error_inside_restores_the_number():
    with pytest.raises(RuntimeError), single_threaded():
        raise RuntimeError
    assert set(counts()) == {2}


def test_fits_in_threads_agree_and_restore_the_number():
    series = np.random.default_rng(0).normal(size=(400, 2)).cumsum(axis=0)
    expected = LinearForecaster(24, 6).fit(series).predict()
    found = [None] * 6

    def fit(i: int) -> None:
        found[i] = LinearForecaster(24, 6).fit(series).predict()

    threads = [threading.Thread(target=fit, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        np.testing.assert_array_equal(each, expected)
    assert set(counts()) == {2}
