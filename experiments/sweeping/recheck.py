"""Whether published results come out again: a sample of their cells, computed anew."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments.sweeping.agreement import MEASURED, Agreement, agreement
from prunectl.experiments.sweeping.cell import Cell, Work
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import still_to_do
from prunectl.experiments.sweeping.store import FILE, Store
from prunectl.pruning import Method

if TYPE_CHECKING:
    from distributed import Client

#: Where results are published: in the repository, not in what is installed from it.
RESULTS = Path(__file__).resolve().parents[2] / "results"
#: Cells of a sample.
CELLS = 24


@dataclass(frozen=True)
class Measured:
    """What a store has of its cells: a row each by key, and by key the returns of those that were computed; ``gaps``
    are how far the dense controller is ahead of random actions on the cell's task and episodes (NaN: not known)."""

    table: pd.DataFrame
    returns: Mapping[str, NDArray[np.float64]]
    gaps: Mapping[str, float]

    @classmethod
    def of(cls, store: Store) -> Self:
        """What the store holds now.

        Raises:
            StoreError: it cannot be read.
        """
        table = store.results().set_index("key")
        held = store.references(table)
        gaps = (held["dense"] - held["random"]).abs().where(table["status"] == "done")
        return cls(table, store.episode_returns(), dict(zip(map(str, table.index), gaps.tolist(), strict=True)))

    def numbers(self, key: str) -> Mapping[str, float]:
        """The columns of `MEASURED` of that cell; NaN: it failed."""
        row = self.table.loc[[key], [*MEASURED]].to_numpy(np.float64, na_value=np.nan)
        return dict(zip(MEASURED, row[0].tolist(), strict=True))

    @property
    def done(self) -> set[str]:
        """Keys of the cells that were computed."""
        return set(self.table.index[self.table["status"] == "done"])


def published(name: str) -> Measured:
    """The results of that name.

    Raises:
        ConfigError: none are published, or this is not the repository.
        StoreError: they cannot be read.
    """
    folder = RESULTS / name
    if not (folder / FILE).is_file():
        raise ConfigError(
            f"no cells of '{name}' are published that could be computed anew: they would lie in results/{name} of the "
            "repository"
        )
    with Store.reading(folder) as store:
        return Measured.of(store)


def sample(work: Work, results: Measured, cells: int = CELLS, seed: int = 0) -> Work:
    """Published cells of a sweep, drawn at random, methods in turn.

    Raises:
        ConfigError: none of the sweep's cells are published.
    """
    done = results.done
    there = [cell for cell in work.cells if cell.key in done]
    order = np.random.default_rng(seed).permutation(len(there)).tolist()
    by_method: dict[Method | None, list[Cell]] = {}
    for number in order:
        by_method.setdefault(there[number].method, []).append(there[number])
    turns = (cell for cell in chain.from_iterable(zip_longest(*by_method.values())) if cell is not None)
    drawn = set(islice(turns, cells))
    if not drawn:
        raise ConfigError("none of the sweep's cells are published: the code computes them otherwise now")
    return replace(work, cells=tuple(cell for cell in there if cell in drawn))


def compare(work: Work, results: Measured, client: Client) -> Sequence[tuple[Cell, Agreement]]:
    """Compute the cells anew, and how each agrees with what the results have of it."""
    with tempfile.TemporaryDirectory() as folder, Store.writing(Path(folder)) as store:
        run(work, still_to_do(work, store), store, client, lambda cell: None)
        found = Measured.of(store)
    compared = []
    for cell in work.cells:
        before, now = (one.returns.get(cell.key, np.empty(0)) for one in (results, found))
        was, is_now = (one.numbers(cell.key) for one in (results, found))
        compared.append((cell, agreement(was, is_now, before, now, results.gaps[cell.key], len(work.cells))))
    return compared
