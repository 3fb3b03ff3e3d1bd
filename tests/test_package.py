"""The package as a whole: what importing it loads, who imports whom, versions and documentation."""

import ast
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixlin

PACKAGE = Path(mixlin.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in FILES
    if path.suffix == ".py"
}

# ---------------------------------------------------------------------------------------------
# what `import mixlin` loads

PROBE = "import sys\nfor module in sys.modules: print(module.partition('.')[0])"


def loaded(statement):
    """Return the top-level modules that a fresh interpreter holds after a statement."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{PROBE}"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return set(done.stdout.split())


def test_importing_mixlin_loads_no_optional_package():
    ours = loaded("import mixlin")
    assert "mixlin" in ours
    assert not ours & {"torch", "ttnn", "matplotlib", "tqdm", "polars", "transformers", "onnx"}
    # the newest scikit-learn imports pandas by itself where that is installed
    extra = ours - loaded("import sklearn.linear_model")
    assert "pandas" not in extra
    third_party = {name for name in extra if name not in sys.stdlib_module_names}
    assert {name for name in third_party if not name.startswith("_")} <= {"mixlin", "safetensors"}


def test_the_import_probe_sees_what_a_statement_loads():
    assert "sqlite3" not in loaded("import mixlin")
    assert "sqlite3" in loaded("import mixlin, sqlite3")


# ---------------------------------------------------------------------------------------------
# who may import whom

# From the bottom; a file imports from rows below its own, never from its own row.
ROWS = (
    ("backends",),
    (
        *("windows", "normalization", "decomposition", "timestamps", "metrics", "datasets"),
        *("layers", "calendar_features", "window_statistics", "threads"),
        *("transforms", "calendar_terms", "intervals", "regressors"),
    ),
    ("gates", "long_frames"),
    ("routers", "periodograms"),
    ("experts", "routing"),
    ("mixture",),
    ("persistence", "solvers"),
    ("base",),
    ("panels", "regressor_fits"),
    ("linear", "state_dicts", "pretrained"),
    ("linear_family",),
    ("mole", "superlinear_training", "auto_linear"),
    ("superlinear",),
    ("zero_shot", "streaming"),
    ("estimators",),
    ("inspection",),
    ("plotting", "backtesting"),
    ("cli",),
)
HEIGHT = {concept: height for height, row in enumerate(ROWS) for concept in row}
# Files that are parts of another file's concept.
PART_OF = {
    "moving_average": "decomposition",
    "holidays": "calendar_features",
    "__main__": "cli",
}
# Names of the package itself that everybody may read.
PACKAGE_NAMES = {"__version__"}
PUBLIC_API = "mixlin"  # what only the topmost two rows may import


def concept_of(module):
    """Return which entry of ROWS a dotted module below mixlin belongs to."""
    head = module.partition(".")[0]
    return PART_OF.get(head, head)


def runtime_nodes(tree):
    """Yield every node outside ``if TYPE_CHECKING:``."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def own_imports(path, source, modules):
    """Yield (line, module below mixlin or PUBLIC_API) for every import of mixlin in a file."""
    package = ["mixlin", *path.split("/")[:-1]]
    for node in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            targets = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] != "mixlin":
                continue
            if len(parts) == 1 or parts[1] not in modules:
                if parts[1:] and parts[1] in PACKAGE_NAMES:
                    continue
                yield node.lineno, PUBLIC_API
            else:
                yield node.lineno, parts[1]


def layering_violations(sources):
    """Return a sentence for every import that does not go downwards."""
    modules = {path.removesuffix(".py").split("/")[0] for path in sources} - {"__init__"}
    found = []
    for path, source in sources.items():
        if path == "__init__.py":
            continue
        own = concept_of(path.removesuffix(".py").replace("/", "."))
        if own not in HEIGHT:
            found.append(f"mixlin/{path} stands in no row of the layering")
            continue
        for line, module in own_imports(path, source, modules):
            if module == PUBLIC_API:
                if HEIGHT[own] < HEIGHT["plotting"]:
                    found.append(f"mixlin/{path}:{line} imports the package's public names")
                continue
            other = concept_of(module)
            if other != own and HEIGHT.get(other, len(ROWS)) >= HEIGHT[own]:
                found.append(f"mixlin/{path}:{line} imports {module}, which is not below it")
    return found


def test_imports_go_downwards_only():
    assert len(SOURCES) > 15
    assert layering_violations(SOURCES) == []


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("windows.py", "from .mixture import Mixture"),
        ("windows.py", "from mixlin.base import BaseForecaster"),
        ("windows.py", "import mixlin.estimators"),
        ("windows.py", "from . import normalization"),
        ("windows.py", "def later():\n    from .solvers import ExactSolver"),
        ("windows.py", "from mixlin import LinearForecaster"),
        ("windows.py", "import mixlin"),
        ("solvers/exact.py", "from ..persistence import read_record"),
        ("solvers/exact.py", "from .. import base"),
        ("backends/numpy_backend.py", "from ..windows import make_windows"),
        ("datasets/files.py", "from mixlin.metrics import mse"),
        ("estimators.py", "from .cli import main"),
        ("helpers.py", ""),
    ],
)
def test_a_planted_import_is_found(path, planted):
    before = SOURCES.get(path, "")
    found = layering_violations({**SOURCES, path: f"{before}\n{planted}\n"})
    new = set(found) - set(layering_violations(SOURCES))
    assert len(new) == 1
    assert new.pop().startswith(f"mixlin/{path}")


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("windows.py", "from .backends import resolve"),
        ("windows.py", "if TYPE_CHECKING:\n    from .base import BaseForecaster"),
        ("solvers/exact.py", "from .gram import SeriesSums"),
        ("decomposition.py", "from .moving_average import moving_average"),
        ("estimators.py", "from . import __version__"),
        ("backtesting.py", "from mixlin import LinearForecaster"),
    ],
)
def test_a_planted_downward_import_is_no_violation(path, planted):
    before = SOURCES.get(path, "")
    found = layering_violations({**SOURCES, path: f"{before}\n{planted}\n"})
    assert set(found) <= set(layering_violations(SOURCES))


# ---------------------------------------------------------------------------------------------
# third-party imports

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CORE_BLOCK = re.search(r"^dependencies = \[(.*?)^\]", PROJECT, flags=re.MULTILINE | re.DOTALL)[1]
CORE = {"mixlin"} | {
    {"scikit-learn": "sklearn"}.get(name, name) for name in re.findall(r'"([\w-]+)', CORE_BLOCK)
}
TORCH_FILES = {
    "backends/torch_backend.py",
    "backends/torch_products.py",
    "solvers/gradient.py",
    "solvers/gradient_batches.py",
}
DEFERRED_TORCH_FILES = {"pretrained/files.py"}  # which read other files without it
TTNN_FILES = {"backends/ttnn_backend/engine.py"}


def foreign_imports(source, *, deferred):
    """Return the top-level packages a source imports (without its functions unless deferred)."""
    found = set()
    pending = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not deferred:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
    return found - sys.stdlib_module_names


def test_torch_and_ttnn_are_imported_only_by_their_own_files():
    torch_files = TORCH_FILES | DEFERRED_TORCH_FILES
    for package, allowed in (("torch", torch_files), ("ttnn", TTNN_FILES)):
        users = {p for p, s in SOURCES.items() if package in foreign_imports(s, deferred=True)}
        assert users <= allowed


def test_modules_import_only_core_dependencies_when_they_load():
    assert {"numpy", "scipy", "sklearn", "mixlin"} < CORE
    allowed = dict.fromkeys(SOURCES, CORE)
    allowed |= {path: CORE | {"torch"} for path in TORCH_FILES}
    allowed |= {path: CORE | {"ttnn", "torch"} for path in TTNN_FILES}
    beyond = {p: foreign_imports(s, deferred=False) - allowed[p] for p, s in SOURCES.items()}
    assert {path: names for path, names in beyond.items() if names} == {}


def test_the_walk_over_third_party_imports_finds_them():
    source = "import torch.nn\nclass A:\n    def f(self):\n        from pandas import Series\n"
    assert foreign_imports(source, deferred=False) == {"torch"}
    assert foreign_imports(source, deferred=True) == {"torch", "pandas"}
    hidden = "if TYPE_CHECKING:\n    import pandas\n"
    assert foreign_imports(hidden, deferred=True) == set()


# ---------------------------------------------------------------------------------------------
# version, typing, contents


def test_the_version_is_the_one_of_the_project_file():
    assert re.findall(r'^version = "(.+)"$', PROJECT, flags=re.MULTILINE) == [mixlin.__version__]


def test_the_version_is_the_one_of_the_installed_metadata():
    try:
        installed = importlib.metadata.version("mixlin")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mixlin is not installed here")
    assert installed == mixlin.__version__


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_package_holds_code_only():
    strangers = [p for p in FILES if p.suffix != ".py" and p.name != "py.typed"]
    assert [p.name for p in strangers] == ["spectral_gate.safetensors"]
    assert strangers[0].stat().st_size < 1_000_000
    # benchmark data pasted into a module would show as a large one
    modules = [p for p in FILES if p not in strangers]
    assert [p for p in modules if p.stat().st_size > 100_000] == []


MACHINE_PATH = re.compile(
    r"(?<![\w.:/}>*])/(?:home|root|Users|work|tmp|var|opt|mnt|srv|media|private)/\w"
    r"|\b[A-Z]:\\\\?\w"
)


def test_no_source_names_a_path_of_a_machine():
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, source in SOURCES.items()
        for number, line in enumerate(source.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ('open("/home/somebody/data.csv")', True),
        (r'open("C:\\Users\\somebody")', True),
        ('"/tmp/model"', True),
        ("https://example.org/home/page", False),
        ("numbers / root / other", False),
        ("~/.cache/mixlin", False),
    ],
)
def test_a_path_of_a_machine_is_recognised(line, is_one):
    assert bool(MACHINE_PATH.search(line)) is is_one


# ---------------------------------------------------------------------------------------------
# public names and their documentation


# Modules that users call by name: every function and class of their __all__ has parameters
# documented and a runnable example. Elsewhere below the public names a docstring is enough.
USED_BY_NAME = {"mixlin"} | {
    f"mixlin.{name}"
    for name in ("backends", "backtesting", "datasets", "decomposition", "metrics", "windows")
}


def public_objects():
    """Return the functions and classes of every ``__all__``: of mixlin, then of its modules."""
    names = {f"mixlin.{name}": getattr(mixlin, name) for name in mixlin.__all__}
    for info in pkgutil.iter_modules(mixlin.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"mixlin.{info.name}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            is_new = not any(value is known for known in names.values())
            if is_new and (getattr(value, "__module__", None) or "").startswith("mixlin."):
                names[f"mixlin.{info.name}.{name}"] = value
    return names


PUBLIC = public_objects()


def sections(text):
    """Return the numpydoc sections of a docstring: title -> body."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameter_names(body):
    """Return the names that a Parameters section documents."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)\s*(?::|$)", body, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def undocumented(value):
    """Return what the docstring of a public object lacks."""
    text = inspect.getdoc(value) or ""
    if not text or not value.__doc__:
        return ["docstring"]
    if inspect.isclass(value) and issubclass(value, Exception):
        return []
    found = sections(text)
    lacks = []
    own_init = not inspect.isclass(value) or "__init__" in vars(value) or issubclass(value, tuple)
    if own_init and not inspect.isabstract(value):
        documented = parameter_names(found.get("Parameters", "") + found.get("Attributes", ""))
        for name in inspect.signature(value).parameters:
            if name not in documented and name not in ("args", "kwargs"):
                lacks.append(f"parameter {name}")
    if not inspect.isabstract(value) and ">>>" not in found.get("Examples", ""):
        lacks.append("Examples")
    return lacks


def test_all_names_the_public_ones_in_order():
    assert mixlin.__all__ == sorted(mixlin.__all__)
    assert len(set(mixlin.__all__)) == len(mixlin.__all__) >= 12
    for name in mixlin.__all__:
        assert getattr(mixlin, name) is not None
    scope = {}
    exec("from mixlin import *", scope)
    assert set(mixlin.__all__) <= set(scope)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name):
    assert inspect.getdoc(PUBLIC[name])
    if name.rpartition(".")[0] in USED_BY_NAME:
        assert undocumented(PUBLIC[name]) == []


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if inspect.isclass(v) and n.count(".") == 1]
)
def test_the_public_methods_of_a_public_class_are_documented(name):
    methods = [
        (attribute, value)
        for attribute, value in inspect.getmembers(PUBLIC[name], callable)
        if not attribute.startswith("_")
        and getattr(value, "__module__", "").startswith("mixlin")
        and not inspect.isclass(value)
    ]
    lacking = [attribute for attribute, value in methods if not inspect.getdoc(value)]
    assert lacking == []


def test_a_lacking_docstring_is_found():
    def bare(x):
        return x

    def half(x, y):
        """Add.

        Parameters
        ----------
        x : int
            A number of steps.
        """

    def whole(x, *, y):
        """Add.

        Parameters
        ----------
        x, y : int
            Numbers of steps.

        Examples
        --------
        >>> 1 + 1
        2
        """

    assert undocumented(bare) == ["docstring"]
    assert undocumented(half) == ["parameter y", "Examples"]
    assert undocumented(whole) == []
