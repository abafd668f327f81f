"""Methods of one sweep beside those of another, on the cells that both have computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.errors import Error
from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import check_size
from prunectl.experiments.sweeping.connection import blaming
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: What two cells have to agree in, and what that is called.
SAME = {
    "digest": "controller",
    "task": "task",
    "episodes": "number of episodes",
    "episode_seed": "episode seed",
    "sparsity_asked": "sparsity",
    "seed": "seed",
    "min_width": "least width",
    "only": "scope",
}
#: What the cells of one controller agree in.
_CONTROLLER = ["digest", "task", "episodes", "episode_seed"]
RESAMPLES, SEED = 2_000, 0
#: A difference counts as shown where its corrected p value is below this.
LEVEL = 0.05


class ComparisonError(Error):
    """Two sweeps that cannot be compared; the message says what they do not have in common."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    ``table`` has a row for each method of ``folder`` and each other method of ``against`` that it meets: ``method``,
    ``against``, the mean ``difference`` of the normalised returns (positive: ``method`` keeps more) with the ends of
    its 95% interval, ``low`` and ``high``; ``p``, corrected for the number of methods that ``method`` is held against
    (Holm); ``detectable``, the least difference that these cells would show with 80% probability; the ``controllers``
    and ``cells`` that both have, in how many of those ``method`` returns more (``wins``) and less (``losses``);
    ``deployed``, how much more of what acts it removes; and what the interval is ``over``. ``by_controller`` has the
    same pairs on each controller alone: ``method``, ``against``, ``controller``, ``difference``, ``low`` and ``high``.
    """

    folder: Path
    against: Path
    table: pd.DataFrame
    by_controller: pd.DataFrame

    @property
    def verdict(self) -> str:
        """How the method does that keeps most beside its nearest rival, and on which controllers it keeps more and less
        than that one, in one line."""
        nearest = self.table.sort_values("difference").drop_duplicates("method").iloc[-1]
        own = self.table[self.table["method"] == nearest["method"]]
        shown = own["p"] < LEVEL
        better, worse = int((shown & (own["difference"] > 0)).sum()), int((shown & (own["difference"] < 0)).sum())
        return (
            f"{nearest['method']} keeps more of the return than {better} of {len(own)} methods, less than {worse}, and "
            f"from {len(own) - better - worse} no difference is shown (95%, corrected for their number); its "
            f"nearest rival is {nearest['against']}: {_interval(nearest)}{self._where(nearest)}"
        )

    def _where(self, pair: pd.Series[Any]) -> str:
        """The controllers on which one of a pair keeps more, shown by the interval on that controller alone."""
        rows = self.by_controller
        rows = rows[(rows["method"] == pair["method"]) & (rows["against"] == pair["against"])]
        if len(rows) < 2:
            return ""
        more, less = rows.loc[rows["low"] > 0, "controller"], rows.loc[rows["high"] < 0, "controller"]
        said = [f"{word} on {', '.join(names)}" for word, names in (("more", more), ("less", less)) if len(names)]
        return "".join(f"; {part}" for part in said) or "; on no controller alone is a difference shown"

    def __str__(self) -> str:
        shown = self.table[["method", "against"]].copy()
        shown["difference"] = [_interval(row) for row in self.table.to_dict("records")]
        shown["p"] = [f"{value:.3f}" for value in self.table["p"]]
        shown["detectable"] = [f"{value:.3f}" for value in self.table["detectable"]]
        shown[["controllers", "cells", "wins", "losses"]] = self.table[["controllers", "cells", "wins", "losses"]]
        shown["deployed"] = [f"{value:+.3f}" for value in self.table["deployed"]]
        over = " or ".join(sorted(set(self.table["over"])))
        return f"{shown.to_string(index=False)}\nIntervals are over {over}.\n{self.verdict}"


def compare(folder: str | Path, against: str | Path) -> Comparison:
    """Hold the methods of a sweep against those of another, cell by cell.

    Cells are paired by controller (its digest), task, sparsity, seed and episodes. Returns are normalised by each
    store's own dense and random references, values below 0 counting as 0. A difference is the mean over the controllers
    of the means over their cells; its interval is a bootstrap over episodes and pruning seeds, the same draws for both
    methods, the controllers taken as given. Methods that ``against`` has as well are left out of ``folder``'s, unless
    it has all of them. Neither store is written to.

    Args:
        folder: of the sweep whose methods are asked about.
        against: of the sweep that they are held against.

    Raises:
        StoreError: one of them has no store that can be read.
        ComparisonError: they have no cell in common, or no method to compare.
    """
    with blaming(Path(against)):
        return _compared(Path(folder), Path(against))


def _compared(folder: Path, against: Path) -> Comparison:
    with Store.reading(folder) as own, Store.reading(against) as other:
        mine, theirs = _Side.of(own), _Side.of(other)
    for side, where in ((mine, folder), (theirs, against)):
        if not len(side.cells):
            raise ComparisonError(f"{where}: no pruned controller has been measured yet that could be compared")
    known = set(theirs.cells["method"])
    methods = [m for m in mine.cells["method"].unique() if m not in known] or list(mine.cells["method"].unique())
    rows, alone = [], []
    for method in methods:
        for rival in theirs.cells["method"].unique():
            joined = _joined(mine, theirs, method, rival)
            if method != rival and len(joined):
                pair = {"method": method, "against": rival}
                row, on_each = _row(joined, mine, theirs)
                rows.append({**pair, **row})
                alone += [{**pair, **each} for each in on_each]
    if not rows:
        raise ComparisonError(f"{folder} and {against} {_apart(mine.cells, theirs.cells)}")
    table = pd.DataFrame(rows)
    table["p"] = table.groupby("method")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    table = table.sort_values(["method", "difference"], kind="stable", ignore_index=True)
    return Comparison(folder, against, table, pd.DataFrame(alone))


@dataclass(frozen=True)
class _Side:
    """The pruned cells of a store that have references, a row each, and returns ``(episodes,)``: ``returns`` by cell,
    ``references`` (dense and random) by controller, task and episodes."""

    cells: pd.DataFrame
    returns: Mapping[str, Array]
    references: Mapping[tuple[Any, ...], tuple[Array, Array]]

    @property
    def names(self) -> Mapping[tuple[Any, ...], str]:
        """What each controller is called here."""
        rows = self.cells[[*_CONTROLLER, "controller"]].itertuples(index=False, name=None)
        return {tuple(row[:-1]): row[-1] for row in rows}

    @classmethod
    def of(cls, store: Store) -> _Side:
        table = store.results()
        done, returns = table[table["status"] == "done"], store.episode_returns()
        check_size(done, returns, str(store.path))
        references = {}
        for row in done[done["grouping"].isna()].to_dict("records"):
            seeds = range(row["episode_seed"], row["episode_seed"] + row["episodes"])
            random = store.random_beside(row["task"], row["digest"], seeds)
            dense = returns[row["key"]]
            if random is not None and dense.mean() > random.mean():
                references[tuple(row[name] for name in _CONTROLLER)] = dense, random
        pruned = done[done["grouping"].notna()]
        labels = [Method.recorded(list(map(str, names))).label for names in pruned[METHOD].to_numpy()]
        cells = pruned.assign(method=labels, only=pruned["only"].fillna(""))
        there = [key in references for key in cells[_CONTROLLER].itertuples(index=False, name=None)]
        return cls(cells[there], returns, references)

    def normalised(self, controller: tuple[Any, ...], keys: pd.Series[str], weights: Array) -> Array:
        """Normalised returns ``(resamples, cells)`` of cells of one controller, its episodes weighted ``(resamples,
        episodes)``."""
        dense, random = (reference @ weights.T for reference in self.references[controller])
        means = np.stack([self.returns[key] for key in keys]) @ weights.T
        return np.maximum(statistics.normalised(means, dense, random), 0.0).T


def _joined(mine: _Side, theirs: _Side, method: str, rival: str) -> pd.DataFrame:
    """The cells that both have, a row a pair."""
    columns = [*SAME, "key", "sparsity_deployed"]
    one, other = (
        side.cells.loc[side.cells["method"] == name, columns] for side, name in ((mine, method), (theirs, rival))
    )
    return one.merge(other, on=list(SAME), suffixes=("", "_rival"))


def _row(joined: pd.DataFrame, mine: _Side, theirs: _Side) -> tuple[dict[str, object], list[dict[str, object]]]:
    """What a pair comes to over all controllers, and on each alone."""
    found, draws, apart, alone = [], [], [], []
    for number, (controller, cells) in enumerate(joined.groupby(_CONTROLLER, sort=True)):
        generator, episodes = np.random.default_rng([SEED, number]), int(cells["episodes"].iloc[0])
        even = np.full(episodes, 1 / episodes)
        weights = np.vstack([even, generator.multinomial(episodes, even, size=RESAMPLES) / episodes])
        sides = (mine, cells["key"]), (theirs, cells["key_rival"])
        one, other = (side.normalised(controller, keys, weights) for side, keys in sides)
        seeds, of = np.unique(cells["seed"].to_numpy(dtype=np.int64), return_inverse=True)
        drawn = generator.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=RESAMPLES)
        counts = np.vstack([np.ones(len(seeds)), drawn])[:, of]
        means = ((one - other) * counts).sum(axis=1) / counts.sum(axis=1)
        found.append(means[0])
        draws.append(means[1:])
        apart.append(one[0] - other[0])
        low, high = statistics.interval(means[1:])
        name = str(mine.names[controller])
        alone.append({"controller": name, "difference": float(means[0]), "low": float(low), "high": float(high)})
    differing = np.mean(draws, axis=0)
    low, high = statistics.interval(differing)
    differences = np.concatenate(apart)
    row: dict[str, object] = {
        "difference": float(np.mean(found)),
        "low": float(low),
        "high": float(high),
        "p": statistics.p_value(differing),
        "detectable": statistics.detectable(differing),
        "controllers": len(found),
        "cells": len(joined),
        "wins": int((differences > 0).sum()),
        "losses": int((differences < 0).sum()),
        "deployed": float((joined["sparsity_deployed"] - joined["sparsity_deployed_rival"]).mean()),
        "over": statistics.sources(1, int(joined.groupby(_CONTROLLER)["seed"].nunique().max())),
    }
    return row, alone


def _apart(mine: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Why no two cells meet."""
    if set(mine["method"]) == set(theirs["method"]) and mine["method"].nunique() == 1:
        return f"hold one method, and it is the same: {mine['method'].iloc[0]}"
    for column, name in SAME.items():
        if not set(mine[column]) & set(theirs[column]):
            shown = "controller" if column == "digest" else column
            here, there = (", ".join(map(str, sorted(set(of[shown]))[:5])) for of in (mine, theirs))
            return f"have no {name} in common: {here} in the first, {there} in the second"
    return f"have no cell in common: the same {', '.join(SAME.values())} all at once"


def _interval(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
