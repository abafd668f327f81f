"""How far a sweep that recorded stability shows one may prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunectl.experiments.stability.bounds import Checks, Count, safe_sparsity
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.pruning import Method

#: Controller, task, what was pruned alone (None: everything), method.
Key = tuple[str, str, str | None, Method]


@dataclass(frozen=True)
class Walk:
    """One method on one controller, from the dense one on: deployed sparsities, rising, and of each whether its loops
    were shown to settle, and whether to settle and their V to fall. ``starts``: of each check."""

    starts: int
    sparsities: tuple[float, ...]
    settles: tuple[bool, ...]
    holds: tuple[bool, ...]

    @property
    def safe(self) -> float | None:
        """The highest sparsity up to which every loop was shown to hold; None: not even the dense one's."""
        return safe_sparsity(self.sparsities, self.holds)

    @property
    def settling(self) -> float | None:
        """The same, asking that episodes settle and no more."""
        return safe_sparsity(self.sparsities, self.settles)


#: Of a sweep that recorded nothing.
NO_WALKS: Mapping[Key, Walk] = {}


def walks(results: pd.DataFrame) -> dict[Key, Walk]:
    """Of every controller and method whose stability was recorded, the dense controller's included.

    A sparsity, the mean over its pruning seeds, holds only if all of them do, and takes part only if all were measured.
    From the first on at which a cell failed nothing is claimed: its actions may have been no numbers.

    Args:
        results: as `Store.results` gives them.
    """
    found: dict[Key, Walk] = {}
    recorded = results[results["stability_starts"].notna()]
    for (controller, task), rows in recorded.groupby(["controller", "task"], sort=False):
        dense = rows[rows["grouping"].isna() & (rows["status"] == "done")]
        pruned = rows[rows["grouping"].notna()]
        if dense.empty:
            continue
        for (only, *names), cells in pruned.groupby([pruned["only"].fillna(""), *METHOD], sort=False):
            key = str(controller), str(task), str(only) or None, Method.recorded(list(map(str, names)))
            found[key] = _walk(dense, cells)
    return found


def _walk(dense: pd.DataFrame, cells: pd.DataFrame) -> Walk:
    failed = cells.loc[cells["status"] == "failed", "sparsity_asked"]
    seeds = cells["seed"].nunique()
    steps = [(0.0, _checks(dense))]
    for asked, step in cells[cells["status"] == "done"].groupby("sparsity_asked"):
        if len(step) == seeds and not (failed <= asked).any():
            steps.append((float(step["sparsity_deployed"].astype(float).mean()), _checks(step)))
    steps.sort(key=lambda step: step[0])
    return Walk(
        int(dense["stability_starts"].iloc[0]),
        tuple(sparsity for sparsity, _ in steps),
        tuple(all(one.unstable.holds for one in checks) for _, checks in steps),
        tuple(all(one.holds for one in checks) for _, checks in steps),
    )


def _checks(rows: pd.DataFrame) -> Sequence[Checks]:
    return [
        Checks(Count(int(unstable), int(starts)), None if pd.isna(rising) else Count(int(rising), int(starts)))
        for starts, unstable, rising in rows[["stability_starts", "unstable", "rising"]].to_numpy()
    ]


def as_columns(walk: Walk | None) -> dict[str, object]:
    """How far it is safe, as a row of a table has it; empty where nothing was recorded.

    ``_open``: all that were measured hold, so that it is a lower bound. A sparsity without a number beside a number of
    starts: not even the dense controller's loop was shown to hold.
    """
    names = ("safe_deployed", "settling_deployed")
    if walk is None:
        return {"stability_starts": pd.NA} | {
            name + end: value for name in names for end, value in (("", np.nan), ("_open", False))
        }
    row: dict[str, object] = {"stability_starts": walk.starts}
    for name, sparsity, held in zip(names, (walk.safe, walk.settling), (walk.holds, walk.settles), strict=True):
        row |= {name: np.nan if sparsity is None else sparsity, f"{name}_open": all(held)}
    return row


def mean_of(values: Sequence[float | None]) -> float:
    """The mean over controllers; one whose dense loop was not shown to hold counts as 0."""
    return float(np.mean([value or 0.0 for value in values])) if values else float("nan")
