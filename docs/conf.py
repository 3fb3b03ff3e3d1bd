"""Configuration of the documentation: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mixlin

project = "mixlin"
author = "The mixlin developers"
project_copyright = "The mixlin developers, Apache License 2.0"
release = version = mixlin.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "guide/results.md",
    "guide/ltsf_table.md",
    "guide/zero_shot_table.md",
    "guide/engine_errors.md",
    "sg_execution_times.rst",
]
default_role = "py:obj"

# links into other projects need their indexes, and so the network
if os.environ.get("MIXLIN_DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# the pages of estimators show what mixlin adds, not what they inherit from scikit-learn: its
# docstrings hold references that resolve only in its own documentation
autosummary_context = {
    "inherited_from_sklearn": sorted(
        name
        for base in (BaseEstimator, RegressorMixin, TransformerMixin)
        for name in dir(base)
        if not name.startswith("_") and name not in {"fit", "predict", "transform", "score"}
    ),
}
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1000,
    "plot_gallery": "True",
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "reference_url": {"mixlin": None},
    "doc_module": ("mixlin",),
    "backreferences_dir": "gallery/backreferences",
    "image_srcset": ["2x"],
}

html_theme = "pydata_sphinx_theme"
html_title = "mixlin"
html_static_path = ["_static"]
html_css_files = ["mixlin.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
    "show_version_warning_banner": False,
}
html_sidebars = {"quickstart": [], "about/*": []}
html_context = {"default_mode": "auto"}


def _drop_last_blank_line(app: Any, name: str, source: list[str]) -> None:
    # doctest needs a blank line between the last output and the end of a block, a reader does not
    source[0] = re.sub(r"\n\n```(?=\n|$)", "\n```", source[0])


def setup(app: Any) -> None:
    """Register what the configuration adds to Sphinx."""
    app.connect("source-read", _drop_last_blank_line)
