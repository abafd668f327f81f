"""The board of a tier: the methods of all its entries beside each other, made from their stores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.report.write import draw_report
from prunectl.experiments.suite.entry import FILE, read_entry
from prunectl.experiments.suite.tiers import SUITE, Tier
from prunectl.experiments.sweeping.config import ConfigError, load_config
from prunectl.experiments.sweeping.connection import blaming
from prunectl.experiments.sweeping.expand import load_work
from prunectl.experiments.sweeping.recheck import RESULTS
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method

#: What a cell of a tier is, whatever the method.
_PLACE = ["digest", "task", "sparsity_asked", "seed", "episodes", "episode_seed", "min_width"]
_REMARK = (
    "An entry is a folder of the suite: its store, and what it says of itself. `prunectl suite verify FOLDER` computes "
    "a sample of its cells anew."
)


def published(tier: Tier) -> list[Path]:
    """The entries of a tier that the repository has; none where this is not the repository."""
    return sorted(path.parent for path in (RESULTS / "suite" / tier.name).glob(f"*/{FILE}"))


def write_board(tier: Tier, entries: Sequence[Path], out: Path) -> tuple[list[Path], str]:
    """Write the report of all entries together, and ``entries.md`` with who they are and how they were computed.

    Args:
        tier: which all of them have to be.
        entries: their folders, which are only read; of cells that two have, the first one's count.
        out: the folder that is written to.

    Returns:
        The files, and the summary as text for the terminal.

    Raises:
        ConfigError: no entry, or one that is not the whole tier.
        StoreError: a store cannot be read.
        OSError: a file cannot be written.
    """
    if not entries:
        raise ConfigError(f"{SUITE}, {tier.name}: no entry is published here and none is named")
    places = _places(tier)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder, Store.writing(Path(folder)) as store:
        for path in entries:
            with blaming(path), Store.reading(path) as own:
                rows.append(_row(path, tier, own.results(), places))
                store.take(own)
        written, text = draw_report(store, out)
    return [*written, *write_table(pd.DataFrame(rows), out / "entries", remark=_REMARK)], text


def _places(tier: Tier) -> set[tuple[Any, ...]]:
    """The cells that every method of a tier has."""
    work = load_work(load_config(tier.config), trust=False, remark=lambda line: None)
    return {
        (cell.subject.digest, cell.subject.task, cell.sparsity, cell.seed, cell.episodes, cell.episode_seed, 1)
        for cell in work.cells
        if cell.method is not None
    }


def _row(folder: Path, tier: Tier, table: pd.DataFrame, places: set[tuple[Any, ...]]) -> dict[str, Any]:
    entry = read_entry(folder)
    if entry.tier != tier:
        raise ConfigError(f"{folder}: an entry of the tier {entry.tier.name}, not of {tier.name}")
    pruned, labels = table[table["grouping"].notna()], list[str]()
    for names, cells in pruned.groupby(METHOD, sort=False):
        labels.append(Method.recorded(list(map(str, names))).label)
        there = set(cells[_PLACE].itertuples(index=False, name=None))
        if there != places or cells["only"].notna().any():
            missing, more = len(places - there), len(there - places)
            raise ConfigError(f"{folder}: {labels[-1]} is not on the tier's cells: {missing} are missing, {more} more")
    return {
        "entry": folder.resolve().name,
        "methods": "; ".join(labels),
        "cells": len(pruned),
        "failed": int((pruned["status"] == "failed").sum()),
        "command": entry.command,
        "citation": entry.citation,
    }
