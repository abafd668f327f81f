"""Whether an entry holds: it is its tier's, its cells agree with their own episodes, and a sample comes out again (to
the last bit, or so far as another processor's rounding goes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from prunectl.experiments.suite.entry import read_entry
from prunectl.experiments.suite.tiers import settings_of
from prunectl.experiments.sweeping.agreement import leaning
from prunectl.experiments.sweeping.cell import Cell, Work
from prunectl.experiments.sweeping.compute import run_random
from prunectl.experiments.sweeping.expand import load_work
from prunectl.experiments.sweeping.recheck import Measured, compare
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.experiments.sweeping.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

#: Pruned cells that are computed anew, besides every dense one.
CELLS = 24
#: What a cell says of its own parameters is held to this, and means of returns to this share of themselves.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: ``wrong``, a line each, and how many of the entry's ``cells`` were ``computed`` anew and how
    many of those are ``equal`` to the last bit."""

    cells: int
    computed: int
    equal: int
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        if self.wrong:
            return "\n".join((*self.wrong, f"{len(self.wrong)} found: the entry does not hold"))
        left = self.cells - self.computed
        rest = f"; {left} were not computed, their episodes agree with what they say (--all computes them)"
        bits = (
            "all equal to the last bit"
            if self.equal == self.computed
            else f"{self.equal} equal to the last bit, and the others show no difference, as on another processor"
        )
        said = f"{self.computed} of {self.cells} cells and every random reference computed anew, {bits}"
        return said + (rest if left else "")


def verify(
    folder: Path,
    client: Client,
    cells: int | None = CELLS,
    seed: int = 0,
    allow_plugins: bool = False,
    remark: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """Check an entry of the suite against the code that is here.

    Every dense cell, every one that is said to have failed, every random reference and a sample of the pruned cells are
    computed anew: half of them those that
    stand out most from their neighbours along the sparsities, where a single altered cell is found, half at random.

    Args:
        folder: the entry; it is only read.
        client: where cells are computed.
        cells: pruned cells of the sample; None: all.
        seed: of the half that is drawn at random; nobody should know it before the entry is there.
        allow_plugins: import the modules that the entry names, on the user's word.
        remark: told what the user should know, a line at a time.

    Raises:
        ConfigError: no entry, one of another version, or modules to import that nobody allowed.
        StoreError: its store cannot be read.
    """
    entry = read_entry(folder)
    work = load_work(settings_of(entry.tier, entry.methods, allow_plugins), trust=False, remark=remark)
    with Store.reading(folder) as store:
        results = Measured.of(store)
        table = results.table
        references = {one: store.returns_of(one) for one in work.references}
    wrong = [*_amiss(work, table), *_disagreeing(results)]
    for one, random in references.items():
        if random is None or not np.array_equal(random, run_random(one, work.whose(one)).returns):
            wrong.append(f"random actions on {one.task}: other returns than the entry's")
    chosen = _chosen(work.cells, table, cells, seed)
    remark(f"{len(chosen)} of {len(work.cells)} cells are computed anew")
    compared = compare(replace(work, cells=chosen), results, client)
    for cell, found in compared:
        said = f"{cell}: mean return {found.published:.6g} in the entry, {found.found:.6g} computed"
        if found.contradicted:
            wrong.append(f"{said} ({', '.join(found.contradicted)})")
        elif found.differing:
            remark(f"{said}: no difference is shown, but other bits ({', '.join(found.differing)})")
    ahead = leaning(found for _, found in compared)
    if ahead:
        wrong.append(
            f"in the mean of those cells the entry's normalised return is {ahead:+.3f} beside what was computed"
        )
    equal = sum(not found.differing for _, found in compared)
    return Verdict(len(work.cells), len(chosen), equal, tuple(wrong))


def _amiss(work: Work, table: pd.DataFrame) -> list[str]:
    """What of the tier the entry lacks, and what it has besides."""
    asked = {cell.key: cell for cell in work.cells}
    lacking, more = [cell for key, cell in asked.items() if key not in table.index], set(table.index) - set(asked)
    found = []
    if lacking:
        found.append(f"{len(lacking)} cells of the tier are not there, or of other code: {lacking[0]}")
    if more:
        found.append(f"{len(more)} cells are none of the tier's and its methods'")
    return found


def _disagreeing(results: Measured) -> list[str]:
    """Cells whose numbers are not those of their own episodes and components."""
    found, table = [], results.table
    for key, row in table[table["status"] == "done"].iterrows():
        own = results.returns.get(str(key), np.empty(0))
        right = len(own) == row["episodes"] and np.isclose(own.mean(), row["mean_return"], ROUNDING, ROUNDING)
        if not right or not np.isclose(own.std(), row["std_return"], 1e-6, 1e-6):
            names = [str(row[name]) for name in METHOD if not pd.isna(row[name])]
            where = f"{row['controller']}, {' + '.join(names) or 'dense'} at sparsity {row['sparsity_asked']:g}"
            found.append(f"{where}: its mean return is not that of its episodes")
    return found


def _chosen(cells: Sequence[Cell], table: pd.DataFrame, count: int | None, seed: int) -> tuple[Cell, ...]:
    """The dense cells, those that are said to have failed, and the sample of the pruned ones that are done."""
    done, said = set(table.index[table["status"] == "done"]), set(table.index)
    there = [cell for cell in cells if cell.key in said]
    pruned = [cell for cell in there if cell.method is not None and cell.key in done]
    if count is None or count >= len(pruned):
        return tuple(there)
    apart = _apart(pruned, table)
    first = sorted(pruned, key=lambda cell: -apart[cell.key])[: (count + 1) // 2]
    others = [cell for cell in pruned if cell not in first]
    drawn = np.random.default_rng(seed).choice(len(others), count - len(first), replace=False).tolist()
    sample = {*first, *(others[index] for index in drawn)}
    return tuple(cell for cell in there if cell.method is None or cell.key not in done or cell in sample)


def _apart(cells: Sequence[Cell], table: pd.DataFrame) -> dict[str, float]:
    """How far each cell lies from the mean of its neighbours along the sparsities, with all else equal."""
    height = {str(key): float(value) for key, value in table["normalised_return"].dropna().items()}
    curves: dict[object, list[Cell]] = {}
    for cell in cells:
        curves.setdefault((cell.subject, cell.variant, cell.seed), []).append(cell)
    apart = {}
    for curve in curves.values():
        curve.sort(key=lambda cell: cell.sparsity)
        # The dense controller is 1 by definition; nothing is known beyond the last sparsity but that it falls.
        heights = [height.get(cell.key, 0.0) for cell in curve]
        values = [1.0, *heights, heights[-1]]
        for place, cell in enumerate(curve, 1):
            apart[cell.key] = abs(values[place] - (values[place - 1] + values[place + 1]) / 2)
    return apart
