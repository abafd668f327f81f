"""The report as one page that opens from disk: markup, style, script, plotly and the sweep's data in a single file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs, get_plotlyjs_version

#: Joined in this order; each uses what the ones before it define.
SCRIPTS = ("tables.js", "view.js", "chart.js", "cells.js", "page.js")


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its name, a PNG of 160 dots an inch, and what it shows, in words."""

    name: str
    png: bytes
    caption: str


def assemble(title: str, data: Mapping[str, Any], pictures: Sequence[Picture] = ()) -> str:
    """The page as text. ``data`` is what `experiments.report.page.data.page_data` gives: plain, without NaN.

    plotly comes gzipped, since as it is it would take most of what the file may weigh; the browser unpacks it. The
    page's policy lets its own script and plotly run, by their hashes, and nothing else, whatever the data hold.
    """
    # Inside a script element only "</" and "<!--" can end or change what is script.
    embedded = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    script, plotly = "\n".join(['\n"use strict";', *map(_read, SCRIPTS), ""]), get_plotlyjs()
    parts = {
        "allowed": " ".join(map(_allowed, (script, plotly))),
        "title": html.escape(title),
        "style": _read("page.css"),
        "data": embedded,
        "pictures": "\n".join(map(_figure, pictures)),
        "plotly": base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode(),
        "plotly_version": get_plotlyjs_version(),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def _allowed(script: str) -> str:
    """What a Content-Security-Policy calls an inline script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _figure(picture: Picture) -> str:
    """A figure, a quarter larger than on paper: a screen is further away."""
    inches = int.from_bytes(picture.png[16:20]) / 160  # its width, as the file's header has it
    source = base64.b64encode(picture.png).decode()
    name, caption = html.escape(picture.name), html.escape(picture.caption)
    return (
        f'<figure style="width:{1.25 * inches:.2f}in"><img alt="{name}" src="data:image/png;base64,{source}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
