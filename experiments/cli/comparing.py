"""``compare``: methods of one's own beside published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunectl.experiments.cli.common import Json, emit


def compare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The sweep whose methods are asked about.")],
    against: Annotated[
        Path, typer.Argument(metavar="AGAINST", help="The one to hold them against: results/reference.")
    ],
    as_json: Json = False,
) -> None:
    """Hold the methods of a sweep against those of another, on the cells that both have. Neither is written to."""
    from prunectl.experiments.sweeping.connection import check_there

    for one in (folder, against):
        check_there(one)  # before anything heavy is imported

    from prunectl.experiments.analysis.comparison import compare as compared

    found = compared(folder, against)
    if as_json:
        methods, alone = (table.to_dict("records") for table in (found.table, found.by_controller))
        emit({"verdict": found.verdict, "methods": methods, "by_controller": alone})
        return
    print(found)
