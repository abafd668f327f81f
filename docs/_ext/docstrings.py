"""Our docstrings as napoleon reads them, but that it takes what stands before a property's colon for its type."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def begin_with_an_empty_line(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """It looks at the first line alone."""
    if what in ("property", "attribute") and lines:
        lines.insert(0, "")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx; napoleon listens at 500."""
    app.connect("autodoc-process-docstring", begin_with_an_empty_line, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
