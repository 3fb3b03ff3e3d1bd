"""What every test run shares: benchmark files, missing extras, hypothesis and plots."""

import doctest
import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest

from .engines import as_parameters, excuse

# before anything imports matplotlib: no test may open a window
os.environ["MPLBACKEND"] = "Agg"

# a slow machine is no failure; CI draws the same examples every time
hypothesis.settings.register_profile("mixlin", deadline=None)
hypothesis.settings.register_profile("mixlin-ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("mixlin-ci" if os.environ.get("CI") else "mixlin")

NO_DATA = "needs benchmark data: "
EXTRAS = ("pandas", "polars", "matplotlib", "tqdm")


def find_data(name):
    """Return where MIXLIN_DATA_HOME holds a benchmark file, plain or .gz, or None."""
    home = os.environ.get("MIXLIN_DATA_HOME")
    if not home:
        return None
    candidates = (Path(home, name), Path(home, f"{name}.gz"))
    return next((path for path in candidates if path.is_file()), None)


def missing_data(name):
    """Return the reason why a benchmark file can't be used, or None."""
    if find_data(name) is not None:
        return None
    home = os.environ.get("MIXLIN_DATA_HOME")
    if not home:
        return f"{NO_DATA}{name} (MIXLIN_DATA_HOME is not set)"
    return f"{NO_DATA}{name} (neither it nor {name}.gz is in MIXLIN_DATA_HOME={home})"


@pytest.fixture
def data_home():
    """Return the folder of the benchmark files; skip where there is none."""
    home = os.environ.get("MIXLIN_DATA_HOME")
    if not home or not Path(home).is_dir():
        pytest.skip(f"{NO_DATA}a folder of benchmark files (MIXLIN_DATA_HOME={home!r})")
    return Path(home)


@pytest.fixture(params=as_parameters())
def engine(request):
    """Run a test on every engine of :mod:`tests.engines`, on each by a name it is known by."""
    chosen = request.param
    reason = chosen.why_missing()
    if reason is not None:
        pytest.skip(reason)
    excused = excuse(request.node.name)
    if excused is not None:
        request.applymarker(
            pytest.mark.xfail(raises=AssertionError, reason=excused.why, strict=True)
        )
    with chosen.registered():
        yield chosen


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in item.iter_markers("data"):
            if not mark.args or not all(isinstance(name, str) for name in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: mark.data takes names of files")
            for name in mark.args:
                reason = missing_data(name)
                if reason is not None:
                    item.add_marker(pytest.mark.skip(reason=reason))


def missing_extra(error):
    """Return which optional package an error is about, or None.

    Only a package that really can't be found counts, so that nothing is skipped in an environment
    that holds the extras.
    """
    while error is not None:
        if isinstance(error, ImportError):
            name = (error.name or "").partition(".")[0]
            if name in EXTRAS and importlib.util.find_spec(name) is None:
                return name
        error = error.__cause__
    return None


TORCH_MODULES = {
    "torch_backend.py",
    "torch_products.py",
    "gradient.py",
    "gradient_batches.py",
}


class DoctestsWithoutExtras:
    """Skip a doctest whose first failure is that an extra is not installed.

    Doctests show pandas and matplotlib as users write them and can't call ``importorskip``.
    """

    def pytest_ignore_collect(self, collection_path):
        # the modules that need their extra as a whole
        torch_only = collection_path.name in TORCH_MODULES
        return True if torch_only and importlib.util.find_spec("torch") is None else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        try:
            return (yield)
        except Exception as error:
            if not isinstance(item, pytest.DoctestItem):
                raise
            first = getattr(error, "failures", [error])[0]
            if isinstance(first, doctest.UnexpectedException):
                name = missing_extra(first.exc_info[1])
                if name is not None:
                    pytest.skip(f"the example needs {name}")
            raise


def pytest_configure(config):
    # as a plugin of its own: hooks of this file see the items of this folder only
    config.pluginmanager.register(DoctestsWithoutExtras(), "mixlin-doctests-without-extras")


def pytest_terminal_summary(terminalreporter):
    skipped = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr)
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        if "data" in getattr(report, "keywords", {}) or reason.startswith(NO_DATA):
            skipped[report.nodeid] = reason
    if skipped:
        terminalreporter.section("tests of benchmark data that did not run", sep="!", bold=True)
        for nodeid, reason in sorted(skipped.items()):
            terminalreporter.line(f"NOT RUN: {nodeid}: {reason}")
        terminalreporter.line(
            f"NOT RUN: {len(skipped)} tests in all. Set MIXLIN_DATA_HOME to a folder that holds "
            "the files."
        )
