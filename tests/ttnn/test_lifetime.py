"""A chip belongs to one process: opening, closing, workers, threads, and what is refused."""

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest

import mixlin
from mixlin import backends
from mixlin.backends import BackendNotAvailableError
from mixlin.backends.ttnn_backend import TtnnBackend
from mixlin.mixture import predict_windows
from tests.mixture_cases import build as build_case
from tests.ttnn.gates import build
from tests.ttnn.make_models import FILES, FOLDER, windows
from tests.ttnn.watched import why_missing

LIMIT = 120  # seconds that a child process may take


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run_child(code, environment, *arguments):
    """Run a script in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# -- opening and closing -----------------------------------------------------------------------


@pytest.fixture
def named(ttnn):
    """Return the backend of the spec "ttnn", as users get it."""
    backend = backends.resolve("ttnn")
    yield backend
    backend.close()


def test_the_device_is_opened_by_the_first_forecast(named):
    mixture, X, inputs = build_case("window_gates")
    assert named._card.device is None
    predict_windows(mixture, X, named, **inputs)
    assert named._card.device is not None


def test_a_with_block_opens_and_closes(named):
    with backends.open("ttnn:0") as backend:
        assert backend is named
        assert named._card.device is not None
    assert named._card.device is None


def test_specs_on_one_chip_share_its_device(named, ttnn, monkeypatch):
    opened = []
    original = ttnn.open_device
    monkeypatch.setattr(
        ttnn, "open_device", lambda **options: opened.append(options) or original(**options)
    )
    mixture, X, inputs = build_case("window_gates")
    for spec in ("ttnn", "ttnn:0", "ttnn:0:float32", "ttnn:0:bfloat8_b", "ttnn:0:bfloat16:dram"):
        predict_windows(mixture, X, backends.resolve(spec), **inputs)
    assert len(opened) == 1


def test_a_reopened_device_gets_its_weights_again(computed):
    mixture, X, inputs = build_case("both_evidences_with_everything")
    backend = computed()
    first = predict_windows(mixture, X, backend, **inputs)
    backend.close()
    backend.close()  # nothing happens
    with backend._tt.record() as events:
        again = predict_windows(mixture, X, backend, **inputs)
    assert [event.name for event in events].count("open_device") == 1
    assert sum(event.kind == "up" for event in events) > 1
    np.testing.assert_array_equal(first, again)


def test_a_tensor_of_a_closed_device_is_refused(planned):
    backend = planned()
    w = backend.put(draw(1, 4, 4))
    (x,) = backend.upload(draw(3, 2, 4))
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.linear(x, w)
    with pytest.raises(RuntimeError, match="closed"):
        backend.get(x)
    backend.open()
    with pytest.raises(RuntimeError, match="before device ttnn:0 was closed; upload it again"):
        backend.linear(x, w)
    # weights come along by themselves
    (x,) = backend.upload(draw(3, 2, 4))
    assert backend.get(backend.linear(x, w)).shape == (3, 2, 4)


def test_an_open_device_is_closed_at_exit(child_environment):
    told = run_child(
        """
        import atexit
        import numpy as np
        import mixlin

        X = np.random.default_rng(0).normal(size=(50, 24))
        model = mixlin.LinearForecaster(backend="ttnn").fit(X[:, :16], X[:, 16:])
        card = mixlin.backends.resolve("ttnn")._card
        # what is registered first runs last
        atexit.unregister(card.close)
        atexit.register(lambda: print("open at the end:", card.device is not None))
        model.predict(X[:, :16])
        print("open after the forecast:", card.device is not None)
        """,
        child_environment,
    )
    assert "open after the forecast: True" in told
    assert "open at the end: False" in told


def test_backends_are_known_by_their_spec(named):
    assert pickle.loads(pickle.dumps(named)) is named
    assert copy.deepcopy(named) is named
    model = mixlin.load(FOLDER / "dlinear.safetensors").set_params(backend=named)
    assert pickle.loads(pickle.dumps(model)).backend is named


# -- what is refused ---------------------------------------------------------------------------


def test_a_chip_that_is_not_there_is_named(ttnn):
    backend = TtnnBackend("7", module=ttnn)
    with pytest.raises(BackendNotAvailableError, match=r"'ttnn:7' could not open .*chip 7") as told:
        backend.open()
    assert "backend='numpy'" in str(told.value)
    assert "backtrace" not in str(told.value)
    # chip 0 is as usable as before
    with TtnnBackend(module=ttnn) as other:
        (x,) = other.upload(draw(3, 2, 4))
        assert other.get(x).shape == (3, 2, 4)


@pytest.mark.mock_only("a card records traces")
@pytest.mark.parametrize("options", [("trace",), ("trace", "queues")])
def test_traces_are_refused_on_a_mock_card(planned, options):
    backend = planned("bfloat16", *options)
    with pytest.raises(BackendNotAvailableError, match="traces crash on a mock card"):
        backend.open()


def test_rows_of_another_type_are_refused(planned, ttnn):
    ours, theirs = planned(), planned("float32")
    (x,), (y,) = ours.upload(draw(3, 2, 4)), theirs.upload(draw(3, 2, 4))
    # ttnn itself takes them, and rounds to the type of the left one
    assert ttnn.add(x.source.tensor, y.source.tensor).dtype == ttnn.bfloat16
    with pytest.raises(ValueError, match=r"rows in .*'float32'.* on a backend of bfloat16"):
        ours.linear(x, ours.put(draw(1, 4, 4)), add=y)


def test_columns_that_are_padding_are_refused(planned, ttnn):
    backend = planned()
    x, _ = backend.upload(draw(3, 2, 20), draw(3, 2, 3))
    width = x.source.tensor.padded_shape[-1]
    # ttnn itself reads the padding
    assert ttnn.slice(x.source.tensor, [0, 0, 0], [2, 3, width]).shape[-1] == width
    with pytest.raises(ValueError, match="ttnn would read the padding"):
        backend.columns(x, 10, 21)
    with pytest.raises(ValueError, match="rows of 20 columns meet weights"):
        backend.linear(x, backend.put(draw(1, 23, 4)))


def test_no_card_is_named(child_environment):
    if why_missing():
        pytest.skip(why_missing())
    hidden = ("TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_METAL_SIMULATOR")
    environment = {k: v for k, v in child_environment.items() if k not in hidden}
    told = run_child(
        """
        import mixlin
        from mixlin import backends

        reason = backends.available()["ttnn"]
        print("reason:", reason)
        try:
            with backends.open("ttnn"):
                print("there is a card")
        except backends.BackendNotAvailableError as error:
            print("refused:", error)
        """,
        environment,
    )
    if "there is a card" in told:
        assert "reason: None" in told
        pytest.skip("this machine has a card")
    assert "reason: ttnn is installed, but no Tenstorrent card was found" in told
    assert "refused: backend 'ttnn' could not open its device" in told.replace("'ttnn:0'", "'ttnn'")
    assert "No chips detected" in told


NO_PACKAGE = """
import importlib.util
import sys

find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ttnn" else find(name, *rest)
import mixlin
from mixlin import backends

print("reason:", backends.available()["ttnn"])
try:
    backends.resolve("ttnn")
except backends.BackendNotAvailableError as error:
    print("refused:", error)
assert "ttnn" not in sys.modules
"""


def test_a_missing_package_is_named(tmp_path):
    told = run_child(NO_PACKAGE, None)
    for sentence in told.splitlines()[:2]:
        assert "needs the package ttnn" in sentence
        assert "pip install 'mixlin[ttnn]'" in sentence


def test_a_folder_named_ttnn_is_not_the_package(tmp_path):
    (tmp_path / "ttnn").mkdir()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + NO_PACKAGE.replace(
        'None if name == "ttnn" else', 'find_in_folder() if name == "ttnn" else'
    ).replace(
        "import mixlin\n",
        "from importlib.machinery import PathFinder\n"
        f"find_in_folder = lambda: PathFinder.find_spec('ttnn', [{str(tmp_path)!r}])\n"
        "assert find_in_folder() is not None\n"
        "import mixlin\n",
        1,
    )
    assert "needs the package ttnn" in run_child(code, None)


# -- processes and threads ---------------------------------------------------------------------

WORKERS = """
import multiprocessing
import os
import sys

import joblib
import numpy as np

import mixlin
from mixlin.backends import BackendNotAvailableError


def forecast(model, X):
    try:
        return model.predict(X).shape
    except BackendNotAvailableError as error:
        return str(error)


def main(how):
    X = np.random.default_rng(0).normal(size=(50, 24))
    model = mixlin.LinearForecaster(backend="ttnn").fit(X[:, :16], X[:, 16:])
    print("main process:", forecast(model, X[:, :16]))
    if how == "loky":
        jobs = [joblib.delayed(forecast)(model, X[:, :16])] * 2
        answers = joblib.Parallel(n_jobs=2)(jobs)
    else:
        with multiprocessing.get_context(how).Pool(1) as pool:
            answers = [pool.apply(forecast, (model, X[:, :16]))]
    for answer in answers:
        print("worker:", answer)
    print("afterwards:", forecast(model, X[:, :16]))


if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.parametrize("how", ["loky", "spawn", "fork"])
def test_a_worker_process_is_refused(child_environment, tmp_path, how):
    script = tmp_path / "workers.py"  # spawned processes import it
    script.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, str(script), how],
        env=child_environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith(("main", "work", "after"))]
    assert told[0] == "main process: (50, 8)"
    assert told[-1] == "afterwards: (50, 8)"
    workers = told[1:-1]
    assert len(workers) == (2 if how == "loky" else 1)
    for sentence in workers:
        assert "a device that one process owns, and this is a worker process" in sentence
        assert "n_jobs=1 or joblib's threading" in sentence


def test_eight_threads_forecast_alike(computed):
    model = mixlin.load(FOLDER / "rlinear.safetensors")
    backend = computed()
    X = windows(FILES["rlinear"][2], 96)
    model.set_params(backend=backend)
    alone = [model.predict(X[i : i + 3]) for i in range(0, 9, 3)]
    start = threading.Barrier(8)

    def forecast(number):
        start.wait(LIMIT)
        return [model.predict(X[i : i + 3]) for i in range(0, 9, 3)]

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(forecast, range(8)):
            np.testing.assert_array_equal(answers, alone)


def test_eight_threads_place_and_plan_at_once(planned):
    backend = planned()
    start = threading.Barrier(8)

    def forecast(number):
        mixture = build("per channel" if number % 2 else "one layer", 7, 24, 4, 64, seed=number)
        start.wait(LIMIT)
        return predict_windows(mixture, draw(5 + 30 * number, 7, 64), backend).shape

    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(forecast, range(8)))
    assert shapes == [(5 + 30 * number, 7, 24) for number in range(8)]


def test_joblib_threads_share_the_device(named):
    model = mixlin.load(FOLDER / "linear.safetensors").set_params(backend="ttnn")
    X = windows(0.0, 96)
    with joblib.parallel_config("threading", n_jobs=2):
        shapes = joblib.Parallel()(joblib.delayed(model.predict)(X) for _ in range(4))
    assert {shape.shape for shape in shapes} == {(len(X), 96, X.shape[2])}
