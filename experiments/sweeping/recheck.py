"""Whether published results come out again: a sample of their cells, computed anew."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prunectl.experiments.sweeping.cell import Cell, Work
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method

if TYPE_CHECKING:
    from distributed import Client

#: Where results are published: in the repository, not in what is installed from it.
RESULTS = Path(__file__).resolve().parents[2] / "results"
#: Cells of a sample.
CELLS = 24
#: Columns that come out again to the last bit, the return first.
MEASURED = (
    "mean_return",
    "std_return",
    "sparsity_total",
    "sparsity_deployed",
    "params_total",
    "params_deployed",
    "macs_deployed",
    "integrity",
)


def published(name: str) -> pd.DataFrame:
    """The results of that name that were computed, a row a cell, by key.

    Raises:
        ConfigError: none are published, or this is not the repository.
    """
    path = RESULTS / name / "results.parquet"
    if not path.is_file():
        raise ConfigError(f"no results of '{name}' are published: they would lie in results/{name} of the repository")
    table = pd.read_parquet(path)
    return table[table["status"] == "done"].set_index("key")


def sample(work: Work, results: pd.DataFrame, cells: int = CELLS, seed: int = 0) -> Work:
    """Published cells of a sweep, drawn at random, methods in turn.

    Raises:
        ConfigError: none of the sweep's cells are published.
    """
    there = [cell for cell in work.cells if cell.key in results.index]
    order = np.random.default_rng(seed).permutation(len(there)).tolist()
    by_method: dict[Method | None, list[Cell]] = {}
    for number in order:
        by_method.setdefault(there[number].method, []).append(there[number])
    turns = (cell for cell in chain.from_iterable(zip_longest(*by_method.values())) if cell is not None)
    drawn = set(islice(turns, cells))
    if not drawn:
        raise ConfigError("none of the sweep's cells are published: the code computes them otherwise now")
    return replace(work, cells=tuple(cell for cell in there if cell in drawn))


def compare(work: Work, results: pd.DataFrame, client: Client) -> list[Mapping[str, Any]]:
    """Compute the cells anew: ``cell``, its mean return as ``published`` and as ``found`` (NaN where it failed), and
    the columns of `MEASURED` that are ``differing``."""
    with tempfile.TemporaryDirectory() as folder, Store.writing(Path(folder)) as store:
        run(work, still_to_do(work, store), store, client, lambda cell: None)
        found = store.results().set_index("key")
    keys = [cell.key for cell in work.cells]
    before, now = (table.loc[keys, [*MEASURED]].to_numpy(np.float64, na_value=np.nan) for table in (results, found))
    same = (before == now) | (np.isnan(before) & np.isnan(now))
    return [
        {
            "cell": cell,
            "published": before[number, 0],
            "found": now[number, 0],
            "differing": [name for name, equal in zip(MEASURED, same[number], strict=True) if not equal],
        }
        for number, cell in enumerate(work.cells)
    ]
