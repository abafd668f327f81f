"""How the site is built: Sphinx, the furo theme, Markdown pages, and nothing that is fetched from elsewhere."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "prunectl"
author = "the prunectl authors"
project_copyright = "2026, the prunectl authors"
release = version = importlib.metadata.version("prunectl")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "docstrings",
    "notebooks",
]
exclude_patterns = ["_build", "README.md"]
nitpicky = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "code"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"prunectl {release}"
html_static_path = ["_static"]
html_css_files = ["prunectl.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
templates_path: list[str] = []
