"""Tables as CSV for programs and as Markdown for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prunectl.agents.files import replacing

#: How numbers are shown where a table says nothing else.
_PLAIN: Mapping[str, str] = {}


def markdown(table: pd.DataFrame, formats: Mapping[str, str] = _PLAIN) -> str:
    """A Markdown table; ``formats`` has the format of a column's numbers (``",.0f"``), empty cells become a dash."""
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    header, *rows = texts(table, formats)
    lines = [header, ["---:" if number else "---" for number in numeric], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def texts(table: pd.DataFrame, formats: Mapping[str, str] = _PLAIN) -> list[list[str]]:
    """The names of the columns, then every row, as they are shown."""
    shown = [[_cell(value, formats.get(str(name), "")) for value in table[name]] for name in table]
    return [list(map(str, table.columns)), *(list(row) for row in zip(*shown, strict=True))]


def write_table(
    table: pd.DataFrame,
    path: Path,
    formats: Mapping[str, str] = _PLAIN,
    remark: str = "",
    shown: pd.DataFrame | None = None,
) -> list[Path]:
    """Write ``path.csv`` with all digits and ``path.md`` for reading, with a remark below; ``shown`` is what is read
    where that is another table."""
    page = _page(table if shown is None else shown, formats, remark)
    written = []
    for ending, write in (
        (".csv", lambda target: table.to_csv(target, index=False)),
        (".md", lambda target: target.write_text(page, encoding="utf-8")),
    ):
        written.append(write_file(path.with_name(path.name + ending), write))
    return written


def write_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        write(temporary)
    return path


def _page(table: pd.DataFrame, formats: Mapping[str, str], remark: str) -> str:
    return markdown(table, formats) + (f"\n{remark}\n" if remark else "")


def _cell(value: Any, form: str) -> str:
    if pd.isna(value):
        return "-"
    return format(value, form) if form else str(value)
