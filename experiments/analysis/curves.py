"""The results of a store as curves: what figures are drawn from and summaries are worked out of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.sweeping.connection import AWAY
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.experiments.sweeping.store import Store, StoreError
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: The two sparsities, the one that return sees first.
AXES = ("deployed", "total")

#: What one report may show; each point is drawn two thousand times.
MOST_PANELS, MOST_METHODS, MOST_POINTS, MOST_EPISODES = 600, 500, 100_000, 10_000


@dataclass(frozen=True)
class Curve:
    """One method on one controller, over the asked sparsities ``asked`` ``(sparsity,)`` that every seed has.

    ``returns`` is ``(runs, sparsity, episodes)``, ``dense`` what the dense controller of each of these runs returns on
    the same episodes ``(runs, episodes)`` (None: not there yet); ``sparsity`` gives the achieved one by axis
    (and, on the axis ``asked``, the asked one) and ``integrity`` the lowest fidelity, ``(sparsity,)`` each and means
    over the runs. A run is one of the pruning ``seeds`` ``(runs,)`` on one of the ``trainings`` ``(runs,)``, which are
    numbered.
    """

    method: Method
    asked: Array
    sparsity: Mapping[str, Array]
    integrity: Array
    returns: Array
    dense: Array | None
    trainings: NDArray[np.intp]
    seeds: NDArray[np.int64]

    def pairs_with(self, other: Curve) -> bool:
        """Whether both have the same runs, so that these can be held against each other place by place."""
        return np.array_equal(self.trainings, other.trainings) and np.array_equal(self.seeds, other.seeds)

    @property
    def over(self) -> str:
        """What its intervals are over, by name."""
        _, seeds = np.unique(self.trainings, return_counts=True)
        return statistics.sources(len(seeds), int(seeds.max()))


@dataclass(frozen=True)
class Panel:
    """All methods on one controller, with its references ``(episodes,)`` on the same episodes (None: not there yet).

    With ``only``, one component or flow was pruned alone. Where several trainings are `pooled`, ``dense`` is
    ``(trainings, episodes)``.
    """

    controller: str
    algorithm: str
    task: str
    dense: Array | None
    random: Array | None
    curves: tuple[Curve, ...]
    only: str | None = None


def panels(store: Store) -> list[Panel]:
    """Everything the store's sweep has computed, in the order of its config. Failed cells are left out.

    Raises:
        StoreError: it cannot be read, or nobody could draw it.
    """
    table = store.results()
    returns = store.episode_returns()
    table = table[table["status"] == "done"]
    check_size(table, returns, str(store.path))
    found = []
    for (controller, task), rows in table.groupby(["controller", "task"], sort=False):
        first = rows.iloc[0]
        dense = next((returns[key] for key in rows.loc[rows["grouping"].isna(), "key"]), None)
        pruned = rows[rows["grouping"].notna()]
        seeds = range(int(first["episode_seed"]), int(first["episode_seed"] + first["episodes"]))
        for only, part in list(pruned.groupby(pruned["only"].fillna(""), sort=False)) or [("", pruned)]:
            curves = (_curve(list(names), cells, returns, dense) for names, cells in part.groupby(METHOD, sort=False))
            found.append(
                Panel(
                    str(controller),
                    str(first["algorithm"]),
                    str(task),
                    dense,
                    store.random_beside(str(task), str(first["digest"]), seeds),
                    tuple(curve for curve in curves if curve is not None),
                    str(only) or None,
                )
            )
    return found


def check_size(done: pd.DataFrame, returns: Mapping[str, Array], where: str) -> None:
    """Raise StoreError for what would take memory without end: a table of seeds by sparsities, draws of each point."""
    scopes = done.groupby(["controller", "task", done["only"].fillna("")])
    curves = done.groupby(["controller", "task", done["only"].fillna(""), *METHOD])
    sizes = curves["seed"].nunique() * curves["sparsity_asked"].nunique()
    longest = max(map(len, returns.values()), default=0)
    for what, count, most in (
        ("controllers and scopes", scopes.ngroups, MOST_PANELS),
        ("methods", done.groupby(METHOD).ngroups, MOST_METHODS),
        ("points of curves", int(sizes.sum()), MOST_POINTS),
        ("episodes of one cell", longest, MOST_EPISODES),
    ):
        if count > most:
            raise StoreError(f"{where}: {count:,} {what}; a report has room for {most:,}")
    if (done["episodes"] != [len(returns.get(key, ())) for key in done["key"]]).any():
        raise StoreError(f"{where}: a cell has other episodes than it says: {AWAY}")


def pooled(found: Sequence[Panel]) -> list[Panel]:
    """Panels of one algorithm, task and scope made one: the trainings follow each other on the curves' axis of runs.

    A method that one of them lacks is left out, and so is a sparsity; panels without both references do not count.
    """
    together: dict[tuple[str, str, str | None], list[Panel]] = {}
    for panel in found:
        if panel.dense is not None and panel.random is not None and panel.curves:
            together.setdefault((panel.algorithm, panel.task, panel.only), []).append(panel)
    return [_pool(members) for members in together.values()]


def mean_draws(
    panel: Panel, curve: Curve, generator: np.random.Generator, resamples: int = 2_000
) -> tuple[Array, Array]:
    """Each run's mean returns ``(runs, 2 + sparsity)``: of its dense controller, of random actions (NaN: not there
    yet) and at each sparsity; and bootstrap draws of them ``(resamples, runs, 2 + sparsity)``, all redrawn alike."""
    shape = curve.returns[:, 0].shape
    references = [np.broadcast_to(np.nan if of is None else of, shape) for of in (curve.dense, panel.random)]
    together = np.concatenate([np.stack(references, axis=1), curve.returns], axis=1)
    return together.mean(axis=2), statistics.redrawn(together, generator, resamples, curve.trainings)


def against_references(means: Array) -> Array:
    """Normalised returns ``(..., sparsity)`` of what `mean_draws` gives."""
    return statistics.normalised(means[..., 2:], means[..., :1], means[..., 1:2])


def run_draws(
    panel: Panel, curve: Curve, generator: np.random.Generator, resamples: int = 2_000
) -> tuple[Array, Array] | None:
    """Each run's own normalised return ``(runs, sparsity)``, and bootstrap draws of them
    ``(resamples, runs, sparsity)``, if references exist."""
    if curve.dense is None or panel.random is None:
        return None
    means, draws = mean_draws(panel, curve, generator, resamples)
    return against_references(means), against_references(draws)


def _curve(
    names: Sequence[object], cells: pd.DataFrame, returns: Mapping[str, Array], dense: Array | None
) -> Curve | None:
    """The cells of one method, at the asked sparsities that every one of its seeds has."""
    method = Method.recorded(list(map(str, names)))
    seeds, row = np.unique(cells["seed"].to_numpy(np.int64), return_inverse=True)
    asked, column = np.unique(cells["sparsity_asked"].to_numpy(np.float64), return_inverse=True)
    places = np.full((len(seeds), len(asked)), -1)
    places[row, column] = np.arange(len(cells))
    if (places >= 0).sum() < len(cells):
        raise StoreError(f"a cell of {method.label} is there twice: {AWAY}")
    whole = (places >= 0).all(axis=0)
    asked, places = asked[whole], places[:, whole]
    if not len(asked):
        return None
    keys = cells["key"].to_numpy()[places]

    def mean(column: str) -> Array:
        values = cells[column].to_numpy(np.float64, na_value=np.nan)[places]
        there = ~np.isnan(values)
        return np.asarray(
            np.where(there, values, 0.0).sum(axis=0) / np.where(there.any(axis=0), there.sum(axis=0), np.nan)
        )

    return Curve(
        method,
        asked=asked,
        sparsity={axis: mean(f"sparsity_{axis}") for axis in AXES} | {"asked": asked},
        integrity=mean("integrity"),
        returns=np.asarray([[returns[key] for key in of_seed] for of_seed in keys]),
        dense=None if dense is None else np.broadcast_to(dense, (len(keys), len(dense))),
        trainings=np.zeros(len(keys), np.intp),
        seeds=seeds,
    )


def _pool(members: Sequence[Panel]) -> Panel:
    first = members[0]
    curves = []
    for curve in first.curves:
        same = [c for panel in members for c in panel.curves if c.method == curve.method]
        asked = reduce(np.intersect1d, [c.asked for c in same])
        if len(same) < len(members) or not len(asked):
            continue
        at = [np.isin(c.asked, asked) for c in same]
        sizes = [len(c.returns) for c in same]

        def mean(values: Sequence[Array], sizes: Sequence[int] = sizes) -> Array:
            return np.average(values, axis=0, weights=sizes)

        curves.append(
            Curve(
                curve.method,
                asked,
                {axis: mean([c.sparsity[axis][a] for c, a in zip(same, at, strict=True)]) for axis in AXES}
                | {"asked": asked},
                mean([c.integrity[a] for c, a in zip(same, at, strict=True)]),
                np.concatenate([c.returns[:, a] for c, a in zip(same, at, strict=True)]),
                np.concatenate([np.asarray(c.dense) for c in same]),
                np.repeat(np.arange(len(same)), sizes),
                np.concatenate([c.seeds for c in same]),
            )
        )
    dense = np.stack([np.asarray(panel.dense) for panel in members])
    count = f"{len(members)} training{'s' if len(members) > 1 else ''}"
    return replace(first, controller=f"{first.algorithm}, {count}", dense=dense, curves=tuple(curves))
