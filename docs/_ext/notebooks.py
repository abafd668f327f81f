"""The tutorial as a notebook beside its page: the same text, made by jupytext as the site is built."""

from __future__ import annotations

from pathlib import Path

import jupytext
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

#: Pages whose code is Python alone.
PAGES = ("tutorial",)


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Write them into the site once it is there."""
    if error is not None or app.builder.format != "html":
        return
    for page in PAGES:
        notebook = jupytext.read(Path(app.srcdir) / f"{page}.md")
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        jupytext.write(notebook, Path(app.outdir) / f"{page}.ipynb", fmt="ipynb")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("build-finished", write_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
