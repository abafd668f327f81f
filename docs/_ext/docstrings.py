"""Our docstrings as napoleon reads them, but that it takes what stands before a property's colon for its type."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def begin_with_a_comment(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """It looks at the first line alone: one that shows nothing."""
    if what in ("property", "attribute") and lines:
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx; napoleon listens at 500."""
    app.connect("autodoc-process-docstring", begin_with_a_comment, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
