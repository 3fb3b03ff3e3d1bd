"""One card per run: a mock one that plans every call, or a real one (or its simulator)."""

from __future__ import annotations

import os
import sys

import pytest

from mixlin.backends.ttnn_backend import TtnnBackend
from tests.ttnn.fake_ttnn import FakeTtnn
from tests.ttnn.mock_card import prepare
from tests.ttnn.watched import Watched, why_missing, write_tables

DEVICES = {"mock-wormhole": "wormhole_b0", "mock-blackhole": "blackhole", "real": None}


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=DEVICES,
        default=None,
        help="what ttnn opens; by default mock-wormhole, skipped where ttnn is not installed",
    )
    parser.addoption("--tables", default=None, help="folder that the tables are written to")


def device_of(config):
    return config.getoption("--device", None) or "mock-wormhole"


def pytest_configure(config):
    for where in ("mock_only", "card_only"):
        config.addinivalue_line("markers", f"{where}(reason): a test that --device decides on")


def pytest_collection_modifyitems(config, items):
    unfit = "mock_only" if device_of(config) == "real" else "card_only"
    for item in items:
        for mark in item.iter_markers(unfit):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


def pytest_terminal_summary(terminalreporter, config):
    text = write_tables(config.getoption("--tables", None))
    if text:
        terminalreporter.section(f"ttnn on {device_of(config)}")
        terminalreporter.line(text)


@pytest.fixture(scope="session")
def device(request):
    """Return the name of what is opened."""
    return device_of(request.config)


@pytest.fixture(scope="session")
def card_variables(request, device, tmp_path_factory):
    """Return the variables that let ttnn find the card, for child processes."""
    reason = why_missing()
    if reason is not None:
        # asked for by name it has to be there
        (pytest.fail if request.config.getoption("--device", None) else pytest.skip)(reason)
    if device == "real":
        return {}
    if "ttnn" in sys.modules:
        pytest.skip("ttnn was imported before its mock card was made; run tests/ttnn on its own")
    # pytest's own folder holds the user's name, which may hold what ttnn can't pass on
    return prepare(tmp_path_factory.mktemp("card"), DEVICES[device])


@pytest.fixture(scope="session")
def ttnn(card_variables):
    """Return the real module, in mock mode unless a card is asked for."""
    import ttnn

    return ttnn


@pytest.fixture
def planned(ttnn):
    """Return a function from options to a backend on the real ttnn, every call written down."""
    yield from opened(Watched(ttnn))


@pytest.fixture
def computed(ttnn, device):
    """Return a function from options to a backend whose numbers mean something.

    A mock card computes nothing: there the stand-in gives the numbers of every call that the real
    ttnn plans, and both must agree on shapes and types.
    """
    if device == "real":
        module = Watched(ttnn)
    else:
        from tests.ttnn.shadow import Shadow

        module = Watched(Shadow(ttnn))
    yield from opened(module)


@pytest.fixture
def faked(monkeypatch):
    """Return a function from options to a backend on the stand-in alone."""
    # the stand-in records traces where the mock card, which may be in use as well, can't
    monkeypatch.delenv("TT_METAL_MOCK_CLUSTER_DESC_PATH", raising=False)
    yield from opened(FakeTtnn())


def opened(module):
    made = []

    def make(dtype=None, *options, device="0", on=None):
        made.append(TtnnBackend(device, dtype, options, module=module if on is None else on))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(scope="session")
def child_environment(card_variables):
    """Return the environment of a child process that shall see the same card."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **card_variables, "PYTHONPATH": path}
