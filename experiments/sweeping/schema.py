"""The tables of a sweep's store, and what of a cell goes into which column."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from prunectl.experiments.sweeping.cell import Cell, Outcome
from prunectl.pruning.storage import float_bytes, sparse_bytes
from prunectl.pruning.unstructured import UNSTRUCTURED
from prunectl.registry import one_line

#: Marks the file as ours; the second number goes up with the form of the tables.
APPLICATION_ID, FORM = 0x7072756E, 3

#: Columns of a cell's row, in the order of the exports. ``normalised_return`` and ``bytes_deployed`` are worked out
#: when results are read.
#: ``stability_starts`` are the starts asked for, empty where stability is not recorded; of so many, ``unstable``
#: episodes did not settle, and along ``rising`` trajectories V did not fall (empty: there is no V).
COLUMNS = {
    "controller": "TEXT",
    "algorithm": "TEXT",
    "task": "TEXT",
    "training_seed": "INTEGER",
    "grouping": "TEXT",
    "importance": "TEXT",
    "allocation": "TEXT",
    "recovery": "TEXT",
    "only": "TEXT",
    "sparsity_asked": "REAL",
    "sparsity_total": "REAL",
    "sparsity_deployed": "REAL",
    "params_total": "INTEGER",
    "params_deployed": "INTEGER",
    "macs_deployed": "INTEGER",
    "integrity": "REAL",
    "seed": "INTEGER",
    "episode_seed": "INTEGER",
    "episodes": "INTEGER",
    "mean_return": "REAL",
    "std_return": "REAL",
    "stability_starts": "INTEGER",
    "unstable": "INTEGER",
    "rising": "INTEGER",
    "status": "TEXT",
    "error": "TEXT",
    "components": "TEXT",
    "digest": "TEXT",
    "min_width": "INTEGER",
    "plan_seconds": "REAL",
    "surgery_seconds": "REAL",
    "recovery_seconds": "REAL",
    "evaluate_seconds": "REAL",
    "stability_seconds": "REAL",
}

#: Names of controllers, tasks and methods are no longer: they are drawn into figures.
LONGEST_NAME = 1000
#: Components of one controller.
MOST_COMPONENTS = 200
#: Numbers that every cell has which is done.
_TOLD = (
    *("sparsity_total", "sparsity_deployed", "params_total", "params_deployed", "macs_deployed"),
    *("episode_seed", "episodes"),
)
#: Those that say which method a cell is of; all empty: of the dense controller.
METHOD = ["grouping", "importance", "allocation", "recovery"]

TABLES = f"""
CREATE TABLE cell (key TEXT PRIMARY KEY, {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}) WITHOUT ROWID;
CREATE TABLE episode (
    cell TEXT NOT NULL REFERENCES cell(key) ON DELETE CASCADE, number INTEGER NOT NULL,
    seed INTEGER NOT NULL, return REAL NOT NULL, length INTEGER NOT NULL, PRIMARY KEY (cell, number)
) WITHOUT ROWID;
CREATE TABLE random_episode (
    task TEXT NOT NULL, seed INTEGER NOT NULL, return REAL NOT NULL, length INTEGER NOT NULL, PRIMARY KEY (task, seed)
) WITHOUT ROWID;
CREATE TABLE planned (key TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORM};
"""

#: Counts what no store of ours holds and a hostile one may: views, triggers, generated columns and virtual tables run
#: as they are read or written, for ever if they like.
FOREIGN = """
SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger') OR sql LIKE '%VIRTUAL%'
OR EXISTS (SELECT * FROM pragma_table_xinfo(sqlite_master.name) WHERE hidden > 0)
"""

#: What turns a store of an older form into one of the next.
UPGRADES = {
    1: "ALTER TABLE cell ADD COLUMN only TEXT",
    2: """
        ALTER TABLE cell ADD COLUMN stability_starts INTEGER;
        ALTER TABLE cell ADD COLUMN unstable INTEGER;
        ALTER TABLE cell ADD COLUMN rising INTEGER;
        ALTER TABLE cell ADD COLUMN stability_seconds REAL
    """,
}


def kept_as(task: str, digest: str | None) -> str:
    """What a random reference is kept as: the task's own, or that of what one controller has around it."""
    return task if digest is None else f"{task} as {digest}"


def row_of(cell: Cell) -> dict[str, Any]:
    """The columns that say which cell it is."""
    subject, method = cell.subject, cell.method
    names = (None,) * 4 if cell.variant is None else cell.variant.names
    return {
        "key": cell.key,
        "controller": subject.controller,
        "algorithm": subject.algorithm,
        "task": subject.task,
        "training_seed": subject.training_seed,
        **dict(zip(("grouping", "importance", "allocation", "recovery"), names, strict=True)),
        "only": cell.only,
        "sparsity_asked": cell.sparsity,
        "seed": None if method is None else cell.seed,
        "episode_seed": cell.episode_seed,
        "episodes": cell.episodes,
        "digest": subject.digest,
        "min_width": cell.min_width,
        "stability_starts": cell.stability,
    }


def columns_of(outcome: Outcome) -> dict[str, Any]:
    """The columns that a computed cell fills besides."""
    plan, episodes, checks = outcome.plan, outcome.episodes, outcome.checks
    sizes = {name: {"bytes": size} for name, size in (outcome.rounded or {}).items()}
    return {
        "status": "done",
        "sparsity_total": plan.sparsity_total,
        "sparsity_deployed": plan.sparsity_deployed,
        "params_total": plan.params_pruned,
        "params_deployed": plan.params_deployed,
        "macs_deployed": plan.macs_deployed,
        "integrity": outcome.integrity,
        "mean_return": episodes.mean_return,
        "std_return": episodes.std_return,
        "unstable": None if checks is None else checks.unstable.failures,
        "rising": None if checks is None or checks.rising is None else checks.rising.failures,
        "components": json.dumps({name: vars(part) | sizes.get(name, {}) for name, part in plan.components.items()}),
        **{f"{stage}_seconds": seconds for stage, seconds in outcome.seconds.items()},
    }


def check_cells(table: pd.DataFrame) -> None:
    """Raise ValueError unless the cells say what those of a sweep do, so that all else may rely on it."""
    for name in ("controller", "algorithm", "task", *METHOD, "only"):
        if not all(text.isprintable() and len(text) <= LONGEST_NAME for text in table[name].dropna().unique()):
            raise ValueError(f"a {name} of over {LONGEST_NAME} characters, or of such as no terminal should be shown")
    if not table["status"].isin(["done", "failed"]).all() or table[["controller", "task"]].isna().any(axis=None):
        raise ValueError("a cell without controller, task or status")
    if table["sparsity_asked"].isna().any() or (table[METHOD].isna().sum(axis=1) % len(METHOD)).any():
        raise ValueError("a cell without sparsity, or with half a method")
    done = table[table["status"] == "done"]
    if done[["algorithm", "digest", "components", *_TOLD]].isna().any(axis=None):
        raise ValueError("a cell that is done, and does not say all of it")
    for text in done["components"].unique():
        _check_components(text)


def deployed_bytes(table: pd.DataFrame) -> pd.Series[int]:
    """The bytes that act, by cell; none where it failed. The parameters of each component tell, or its bytes where
    weights are rounded, so nothing is computed anew."""
    found: list[int | None] = []
    for grouping, left, text in zip(table["grouping"], table["params_deployed"], table["components"], strict=True):
        if pd.isna(left) or pd.isna(text):
            found.append(None)
            continue
        acting = [part for part in json.loads(text).values() if part["deployed"]]
        if acting and all("bytes" in part for part in acting):
            found.append(sum(part["bytes"] for part in acting))
        elif pd.notna(grouping) and grouping == UNSTRUCTURED:
            found.append(sparse_bytes(int(left), sum(part["params_dense"] for part in acting)))
        else:
            found.append(float_bytes(int(left)))
    return pd.Series(found, index=table.index, dtype="Int64")


def _check_components(text: str) -> None:
    """Raise ValueError unless a cell's components are what `schema.columns_of` writes of them."""
    try:
        components = json.loads(text)
        if len(components) > MOST_COMPONENTS:
            raise ValueError(f"{len(components)} components")
        for part in components.values():
            widths = [*part["widths_dense"], *part["widths_pruned"]]
            whole = [*widths, part["params_dense"], part["params_pruned"], part.get("bytes", 0)]
            if not (isinstance(part["deployed"], bool) and all(type(n) is int and abs(n) < 2**53 for n in whole)):
                raise ValueError("components of no sensible widths")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"components that cannot be read ({one_line(error)})") from error
