"""Where a sweep keeps what it has computed: one SQLite file a folder, a cell there whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.agents.files import replacing
from prunectl.experiments.drawing.tables import write_csv
from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.statistics import normalised
from prunectl.experiments.sweeping.cell import Cell, Outcome, Reference
from prunectl.experiments.sweeping.connection import (
    AWAY,
    FILE,
    LOCK,
    MOST_FIRST_STEPS,
    MOST_STEPS,
    StoreError,
    check_there,
    counted,
    explained,
    fetched,
    locked,
    patient,
    read_only,
    writing,
)
from prunectl.experiments.sweeping.schema import (
    APPLICATION_ID,
    COLUMNS,
    FOREIGN,
    FORM,
    TABLES,
    UPGRADES,
    check_cells,
    columns_of,
    deployed_bytes,
    kept_as,
    row_of,
)
from prunectl.registry import one_line

#: The types of columns, by those that SQLite has.
_TYPES = {"TEXT": "string", "INTEGER": "Int64", "REAL": "Float64"}
__all__ = ["FILE", "LOCK", "Store", "StoreError"]


class Store:
    """The store of one sweep folder. Open it with `writing` or `reading`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, read_only: bool) -> None:
        self.folder = folder
        self.path = folder / FILE
        self._connection = connection
        self._patience = patient(connection)
        with self._explained():
            self._patience.renew(MOST_FIRST_STEPS)
            self._prepare(read_only)

    @classmethod
    @contextmanager
    def writing(cls, folder: Path) -> Iterator[Self]:
        """The store for the one sweep that may write there; the folder and the file are made if they are missing.

        Raises:
            StoreError: another sweep is writing there, the file is damaged or not ours, or it cannot be written.
            OSError: the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, os.getpid()), writing(folder / FILE) as connection:
            yield cls(folder, connection, read_only=False)

    @classmethod
    @contextmanager
    def reading(cls, folder: Path) -> Iterator[Self]:
        """The store as it stands, also while a sweep is writing. Nothing is written, so that the folder need not allow
        it, and nothing beside it is touched: a store of an older form is read as one of today's.

        Raises:
            StoreError: there is none, or the file is damaged or not ours.
        """
        check_there(folder)
        with read_only(folder / FILE) as connection:
            yield cls(folder, connection, read_only=True)

    def plan(self, cells: Sequence[Cell]) -> None:
        """State the cells of the sweep: results hold these and no others that an earlier sweep left here."""
        names = [(cell.subject.controller, cell.key) for cell in cells]
        with self._transaction() as connection:
            connection.execute("DELETE FROM planned")
            connection.executemany(
                "INSERT INTO planned VALUES (?, ?)", ((key, position) for position, (_, key) in enumerate(names))
            )
            connection.executemany("UPDATE cell SET controller = ? WHERE key = ?", names)

    def done(self) -> set[str]:
        """Keys of the cells that need not be computed any more."""
        with self._explained():
            return {key for (key,) in fetched(self._connection, "SELECT key FROM cell WHERE status = 'done'")}

    def planned(self) -> int:
        """How many cells the sweep has, computed or not."""
        with self._explained():
            return len(fetched(self._connection, "SELECT key FROM planned"))

    def record(self, cell: Cell, outcome: Outcome) -> None:
        """Keep a cell and its episodes, in one transaction."""
        with self._transaction() as connection:
            _insert(connection, row_of(cell) | columns_of(outcome))
            connection.executemany(
                "INSERT INTO episode VALUES (?, ?, ?, ?, ?)",
                ((cell.key, number, *entry) for number, entry in enumerate(_entries(outcome.episodes))),
            )

    def record_failure(self, cell: Cell, error: str) -> None:
        """Keep why a cell failed. The next sweep tries it again."""
        with self._transaction() as connection:
            _insert(connection, row_of(cell) | {"status": "failed", "error": error})

    def record_random(self, episodes: Episodes, digest: str | None = None) -> None:
        """Keep the random reference of a task, or of what one controller has around it there."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO random_episode VALUES (?, ?, ?, ?)",
                ((kept_as(episodes.task, digest), *entry) for entry in _entries(episodes)),
            )

    def returns_of(self, reference: Reference) -> NDArray[np.float64] | None:
        """Returns ``(episodes,)`` of a random reference, or None if one of them is missing."""
        seeds = reported_seeds(reference.episodes, reference.episode_seed)
        return self.random_returns(reference.task, seeds, reference.digest)

    def random_beside(self, task: str, digest: str, seeds: Sequence[int]) -> NDArray[np.float64] | None:
        """The random reference that a controller's returns are held against: its own, where it has one."""
        own = self.random_returns(task, seeds, digest)
        return self.random_returns(task, seeds) if own is None else own

    def random_returns(self, task: str, seeds: Sequence[int], digest: str | None = None) -> NDArray[np.float64] | None:
        """Returns ``(seeds,)`` of a random reference on these rising seeds, or None if one of them is missing."""
        if not seeds or not seeds[-1] < 2**63:
            return None
        with self._explained():
            found = dict(
                fetched(
                    self._connection,
                    "SELECT seed, return FROM random_episode WHERE task = ? AND seed BETWEEN ? AND ?",
                    (kept_as(task, digest), seeds[0], seeds[-1]),
                )
            )
        if len(found) < len(seeds):  # a file may ask for any number of them
            return None
        return np.asarray([found[seed] for seed in seeds]) if found.keys() >= set(seeds) else None

    def take(self, other: Self) -> None:
        """Plan and keep what another store's sweep has planned and computed, behind what is here, which stays.

        Raises:
            StoreError: one of them cannot be read, or this one not written.
        """
        names = ", ".join(("key", *COLUMNS))
        with other._explained():
            planned = fetched(other._connection, "SELECT key FROM planned ORDER BY position")
            cells = fetched(other._connection, f"SELECT {names} FROM cell JOIN planned USING (key)")
            episodes = fetched(other._connection, "SELECT e.* FROM episode e JOIN planned ON planned.key = e.cell")
            random = fetched(other._connection, "SELECT * FROM random_episode")
        with self._transaction() as connection:
            (first,) = connection.execute("SELECT coalesce(max(position), -1) + 1 FROM planned").fetchone()
            here = {key for (key,) in connection.execute("SELECT key FROM cell")}
            for table, rows in (
                ("planned", [(key, first + number) for number, (key,) in enumerate(planned)]),
                (f"cell ({names})", [row for row in cells if row[0] not in here]),
                ("episode", [row for row in episodes if row[0] not in here]),
                ("random_episode", random),
            ):
                if rows:
                    places = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", rows)

    def results(self) -> pd.DataFrame:
        """The planned cells that were computed or failed, a row each, in the order of the config.

        ``normalised_return`` is NaN while a reference is missing, and where the dense controller does not beat random
        actions. ``bytes_deployed`` are those of the numbers that act, as floats; of zeros wherever they are
        (``unstructured``), with the places of the others (`pruning.storage`). ``key`` identifies the cell.
        """
        with self._explained():
            keys = fetched(self._connection, "SELECT key, position FROM planned")
            cursor = self._connection.execute("SELECT * FROM cell")
            names = [name for name, *_ in cursor.description]
            by_key = {row[names.index("key")]: row for row in counted(cursor)}
        columns = [*COLUMNS]
        after = columns.index("std_return") + 1
        try:
            rows = [by_key[key] for key, _ in sorted(keys, key=itemgetter(1)) if key in by_key]
            table = pd.DataFrame.from_records(rows, columns=names, coerce_float=True)
            table = table.astype({name: _TYPES[kind] for name, kind in COLUMNS.items()})
            check_cells(table)
            held = self.references(table)
            values = normalised(table["mean_return"].to_numpy(np.float64, na_value=np.nan), *held.to_numpy().T)
            table["normalised_return"] = pd.Series(values, table.index, dtype="Float64")
            table["bytes_deployed"] = deployed_bytes(table)
        except (ValueError, TypeError, OverflowError) as error:  # SQLite keeps a value of any type in any column
            raise StoreError(f"{self.path}: {one_line(error)}: {AWAY}") from error
        return table[[*columns[:after], "normalised_return", "bytes_deployed", *columns[after:], "key"]]

    def episode_returns(self) -> dict[str, NDArray[np.float64]]:
        """Returns ``(episodes,)`` of every planned cell that was computed, by key, in the order of the seeds."""
        with self._explained():
            planned = {key for (key,) in fetched(self._connection, "SELECT key FROM planned")}
            rows = fetched(self._connection, "SELECT cell, number, return FROM episode")
        grouped: dict[str, list[float]] = {}
        try:
            for key, _, value in sorted(row for row in rows if row[0] in planned):
                grouped.setdefault(key, []).append(value)
            return {key: np.asarray(values, dtype=np.float64) for key, values in grouped.items()}
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.path}: {one_line(error)}: {AWAY}") from error

    def seconds_by_task(self) -> dict[str, float]:
        """Mean seconds of a computed cell, by task, over everything that was ever computed here."""
        stages = ", ".join(f"coalesce({name}, 0)" for name in COLUMNS if name.endswith("_seconds"))
        with self._explained():
            rows = fetched(self._connection, f"SELECT task, {stages} FROM cell WHERE status = 'done'")
        taken: dict[str, list[float]] = {}
        for task, *seconds in rows:
            taken.setdefault(task, []).append(sum(seconds))
        return {task: sum(seconds) / len(seconds) for task, seconds in taken.items()}

    def export(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Write ``results.csv`` and ``results.parquet`` to a folder, by default beside the store.

        Raises:
            StoreError: they cannot be written.
        """
        table = self.results()
        folder = folder or self.folder
        paths = folder / "results.csv", folder / "results.parquet"
        try:
            with replacing(paths[0]) as temporary:
                write_csv(table, temporary)
            with replacing(paths[1]) as temporary:
                table.to_parquet(temporary, index=False)
        except OSError as error:
            raise StoreError(f"{folder}: the results cannot be exported: {error.strerror or error}") from error
        return paths

    def references(self, table: pd.DataFrame) -> pd.DataFrame:
        """What rows of the results are held against: columns ``dense`` and ``random``, the mean returns of the dense
        controller and of random actions on the row's episodes; NaN where one is not known."""
        rows = table.to_dict("records")
        dense = {(row["digest"], row["task"]): row["mean_return"] for row in rows if row["sparsity_asked"] == 0}

        @cache
        def random(task: str, digest: str, first: int, count: int) -> float:
            found = self.random_beside(task, digest, range(first, first + count))
            return np.nan if found is None else float(found.mean())

        found = [
            (
                dense.get((row["digest"], row["task"])),
                random(row["task"], row["digest"], row["episode_seed"], row["episodes"]),
            )
            for row in rows
        ]
        return pd.DataFrame(found, table.index, ["dense", "random"], dtype="Float64").astype(np.float64)

    def _prepare(self, read_only: bool) -> None:
        connection = self._connection
        # In one statement: a sweep may be making the store at this moment.
        (application, form, tables) = connection.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
            "FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        self._patience.renew(MOST_STEPS)
        if (application, form, tables) == (0, 0, 0):
            if read_only:
                connection.close()
                self._connection = sqlite3.connect(":memory:", isolation_level=None)
            else:
                connection.execute("PRAGMA journal_mode = WAL")
            self._create()
        elif application != APPLICATION_ID:
            raise StoreError(f"{self.path}: a SQLite file, but not the store of a sweep: choose another folder")
        elif connection.execute(FOREIGN).fetchone() != (0,):
            raise StoreError(f"{self.path}: it holds more than the tables of a sweep: {AWAY}")
        elif form in UPGRADES and read_only:
            self._read_as_today()
        elif form in UPGRADES:
            self._upgrade()
        elif form != FORM:
            raise StoreError(
                f"{self.path}: written by another version of prunectl (form {form}, this one reads {FORM}): "
                "choose another folder"
            )
        if not read_only:
            connection.execute("PRAGMA foreign_keys = ON")
            # In WAL mode nothing can be damaged so, and a killed process loses nothing; only a power cut may take the
            # last cells, which are computed again.
            connection.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        with self._transaction() as connection:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:  # another process may have been quicker
                for statement in TABLES.split(";"):
                    connection.execute(statement)

    def _read_as_today(self) -> None:
        """Let the table of an older form have the columns that came later, empty, as long as this connection lasts."""
        there = {name for (name,) in self._connection.execute("SELECT name FROM pragma_table_info('cell')")}
        later = "".join(f", NULL AS {name}" for name in COLUMNS if name not in there)
        self._connection.execute(f"CREATE TEMP VIEW cell AS SELECT *{later} FROM main.cell")

    def _upgrade(self) -> None:
        with self._transaction() as connection:
            (form,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have been quicker
            for older in range(form, FORM):
                for statement in UPGRADES[older].split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORM}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one line that says which file and what to do."""
        self._patience.renew(MOST_STEPS)
        with explained(self.path):
            yield


def _insert(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    connection.execute("DELETE FROM cell WHERE key = ?", (row["key"],))
    connection.execute(f"INSERT INTO cell ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def _entries(episodes: Episodes) -> Iterator[tuple[int, float, int]]:
    """Seed, return and length of each episode."""
    returns, lengths = episodes.returns.tolist(), episodes.lengths.tolist()
    return zip(episodes.seeds, returns, lengths, strict=True)
