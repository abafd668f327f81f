"""Tables as CSV for programs, as Markdown and in aligned columns for people, and numbers as they are shown in them.

pandas' `to_markdown` would pad every cell to its column's width: the tables that are committed would change in every
line and grow by half, for the same picture once rendered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prunectl.agents.files import replacing

#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = tuple("=+-@\t\r")
#: How numbers are shown where a table says nothing else.
_PLAIN: Mapping[str, str] = {}


def markdown(table: pd.DataFrame, formats: Mapping[str, str] = _PLAIN, right: Collection[str] = ()) -> str:
    """A Markdown table; ``formats`` has the format of a column's numbers (``",.0f"``), empty cells become a dash.

    Columns of numbers are aligned to the right, and those named in ``right``, whose texts begin with one.
    """
    header, *rows = ([in_markdown(cell) for cell in row] for row in texts(table, formats))
    lines = [header, ["---:" if number else "---" for number in _numeric(table, right)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def aligned(table: pd.DataFrame, formats: Mapping[str, str] = _PLAIN, right: Collection[str] = ()) -> str:
    """The same for a terminal: columns side by side, two spaces between them."""
    rows = texts(table, formats)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.rjust if number else str.ljust for number in _numeric(table, right)]
    return "\n".join(
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)) for row in rows
    )


def in_markdown(text: str) -> str:
    """A text that stays one cell of a Markdown table and one text: no bar, line, tag, entity or link of its own."""
    text = " ".join(text.splitlines()).replace("\\", r"\\").replace("|", r"\|")
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=[#A-Za-z])", "&amp;", text))
    return re.sub(r"\](?=[(\[:])", r"\]", text)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """A CSV with all digits. A text that a spreadsheet would take for a formula has an apostrophe in front."""
    texts = [name for name in table if pd.api.types.is_object_dtype(table[name]) or table[name].dtype == "string"]
    plain = {name: [_no_formula(value) for value in table[name]] for name in texts}
    table.assign(**{str(name): pd.Series(values, table.index, dtype=object) for name, values in plain.items()}).to_csv(
        path, index=False
    )


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def bounded(value: float, low: float = math.nan, high: float = math.nan, bound: bool = False) -> str:
    """``0.97 [0.91, 0.98]``: a number and, where there is one, its interval; a \u2265 in front of a lower bound."""
    text = ("\u2265 " if bound else "") + number(value)
    return text if math.isnan(low) else f"{text} [{number(low)}, {number(high)}]"


def number(value: float) -> str:
    """Two digits; depths below -10 (a normalised return, an R\u00b2) say no more than that, and nothing is a dash."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value >= -10 else "< -10"


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
    right: Collection[str] = (),
) -> list[Path]:
    """Write ``path.csv`` with all digits and ``path.md`` for reading, with a remark below; ``shown`` is what is read
    where that is another table, ``formats`` and ``right`` are as in `markdown`."""
    page = markdown(table if shown is None else shown, formats, right) + (f"\n{remark}\n" if remark else "")
    written = []
    for ending, write in (
        (".csv", lambda target: write_csv(table, target)),
        (".md", lambda target: target.write_text(page, encoding="utf-8")),
    ):
        written.append(write_file(path.with_name(path.name + ending), write))
    return written


def write_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        write(temporary)
    return path


def _numeric(table: pd.DataFrame, right: Collection[str]) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(table[name]) or name in right for name in table]


def _cell(value: Any, form: str) -> str:
    if pd.isna(value):
        return "-"
    return format(value, form) if form else str(value)
