"""Folders of sweeps that anybody may have prepared: nothing beside a store is touched, and little memory is taken."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from prunectl.experiments.analysis.curves import MOST_POINTS, panels
from prunectl.experiments.analysis.findings import findings
from prunectl.experiments.cli import mistake, run
from prunectl.experiments.report.page.data import page_data
from prunectl.experiments.sweeping import store as module
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.experiments.sweeping.store import FILE, LOCK, Store, StoreError
from prunectl.pruning import Method
from tests import hostile
from tests.experiments.fakes import cell, outcome, record_curves
from tests.experiments.sweeping.test_hostile_files import store_with

MANY = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {})"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# What lies beside a store


def with_hot_journal(folder: Path, victim: Path) -> Path:
    """A store that was left in the middle of a transaction, whose journal names another file as its super-journal.

    SQLite rolls such a journal back when it opens the store, and then deletes what it takes for the super-journal.
    """
    path = store_with(folder) / FILE
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = DELETE", "cache_size = 1", "cache_spill = 1"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    connection.execute("UPDATE cell SET mean_return = 99")
    connection.execute(MANY.format(400) + "INSERT INTO random_episode SELECT 't', x, 0, 1 FROM n")
    journal, store = path.with_name(f"{FILE}-journal").read_bytes(), path.read_bytes()
    connection.execute("ROLLBACK")
    connection.close()
    path.write_bytes(store)
    name, page = str(victim).encode(), struct.pack(">I", 2**30 // 4096 + 1)
    end = page + name + struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    path.with_name(f"{FILE}-journal").write_bytes(journal + end)
    return folder


def test_sqlite_itself_would_delete_what_the_journal_names(tmp_path: Path) -> None:
    (victim := tmp_path / "diary.txt").write_text("dear diary")
    folder = with_hot_journal(tmp_path / "sweep", victim)
    with sqlite3.connect(folder / FILE) as connection:
        assert connection.execute("SELECT mean_return FROM cell").fetchall() == [(1.5,)]
    assert not victim.exists()


@pytest.mark.parametrize("log", [None, b"", b"x" * 100])
def test_a_journal_is_neither_rolled_back_nor_followed(tmp_path: Path, log: bytes | None) -> None:
    (victim := tmp_path / "diary.txt").write_text("dear diary")
    folder = with_hot_journal(tmp_path / "sweep", victim)
    if log is not None:
        (folder / f"{FILE}-wal").write_bytes(log)
    before = contents(folder)
    with Store.reading(folder) as store:
        assert len(store.results()) == 1
    with pytest.raises(StoreError, match="a journal, which no sweep leaves: move it away"), Store.writing(folder):
        pass
    assert victim.read_text() == "dear diary"
    assert contents(folder) == {**before, LOCK: contents(folder)[LOCK]}


def test_a_journal_of_the_moment_in_which_a_store_was_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    (tmp_path / f"{FILE}-journal").write_bytes(b"half")
    with Store.writing(tmp_path) as store:
        assert store.done() == set()
    assert not (tmp_path / f"{FILE}-journal").exists()


@pytest.mark.parametrize("name", [f"{FILE}-wal", f"{FILE}-journal", f"{FILE}-shm", LOCK])
def test_links_beside_a_store_are_not_followed(tmp_path: Path, name: str) -> None:
    (victim := tmp_path / "diary.txt").write_text("dear diary")
    folder = store_with(tmp_path / "sweep")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    with pytest.raises(StoreError, match="a link, which no sweep leaves"), Store.writing(folder) as store:
        store.plan([cell(), cell(seed=1)])
    with Store.reading(folder) as store:
        assert len(store.results()) == 1
    assert victim.read_text() == "dear diary"


def test_what_a_killed_sweep_left_in_the_log_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    with Store.writing(tmp_path / "sweep") as store:
        store.plan([cell()])
        store.record(cell(), outcome([1.0, 2.0]))
        shutil.copytree(tmp_path / "sweep", folder)
        with Store.reading(tmp_path / "sweep") as beside:  # while the sweep is writing
            assert len(beside.results()) == 1
    (folder / f"{FILE}-shm").unlink()
    assert (folder / f"{FILE}-wal").stat().st_size
    before = contents(folder)
    with Store.reading(folder) as store:
        assert store.results()["mean_return"].tolist() == [1.5]
    assert contents(folder) == before


# What is in a store


def read_all(folder: Path) -> None:
    with Store.reading(folder) as store:
        for read in (store.results, store.episode_returns, store.done, store.seconds_by_task, store.planned):
            read()


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE cell SET error = zeroblob(100000000)"], "too big"),
        (["UPDATE cell SET components = printf('%.*c', 2000000, '[')"], "too big"),
        (["UPDATE cell SET components = printf('%.*c', 900000, '[')"], "components that cannot be read"),
        (["UPDATE cell SET components = '{\"a\": {\"widths_dense\": [1e999]}}'"], "components that cannot be read"),
        (["UPDATE cell SET components = '[]'"], "components that cannot be read"),
        (["UPDATE cell SET components = NULL"], "does not say all of it"),
        (["UPDATE cell SET status = 'well'"], "without controller, task or status"),
        (["UPDATE cell SET controller = printf('%.*c', 2000, 'x')"], "a controller of over 1000 characters"),
        (["UPDATE cell SET grouping = 'global'"], "half a method"),
        (["UPDATE cell SET sparsity_asked = NULL"], "without sparsity"),
        (["DROP TABLE episode", "CREATE TABLE episode (cell, number, return)", "INSERT INTO episode SELECT key, 'x', "
          "'y' FROM planned"], "could not convert string to float"),
        pytest.param(
            [MANY.format(700_000) + "INSERT INTO cell (key, status) SELECT 'k' || x, 'failed' FROM n"],
            "its rows take over 512 MiB",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["PRAGMA writable_schema = ON", MANY.format(1_000_000) + "INSERT INTO sqlite_master SELECT 'table', "
             "'t' || x, 't' || x, 2, 'CREATE TABLE t' || x || '(a)' FROM n"],
            "takes for ever",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_stores_that_hold_what_no_sweep_does(tmp_path: Path, statements: list[str], says: str) -> None:
    folder = store_with(tmp_path, *statements)
    with hostile.watched(), pytest.raises(StoreError, match=says) as raised:
        read_all(folder)
    line = mistake(raised.value)
    assert line is not None
    assert len(line) < 1000


def test_a_query_without_end_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store_with(tmp_path, MANY.format(100_000) + "INSERT INTO cell (key) SELECT x FROM n")
    with Store.reading(folder) as store:
        assert len(store.done()) == 1
        monkeypatch.setattr(module, "MOST_STEPS", 100_000)
        with pytest.raises(StoreError, match="takes for ever"):
            store.done()


def test_curves_that_nobody_could_draw(tmp_path: Path) -> None:
    """Each cell with a seed and a sparsity of its own: the table of seeds by sparsities has the square of them."""
    folder = tmp_path / "sweep"
    with Store.writing(folder) as store:
        cells = [cell(), cell(method=Method(), sparsity=0.5)]
        store.plan(cells)
        for one in cells:
            store.record(one, outcome([1.0, 2.0]))
    count, key = 5_000, cells[1].key
    with sqlite3.connect(folder / FILE) as connection:
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(cell)")]
        own = {"key": "'k' || x", "seed": "x", "sparsity_asked": "x * 1e-4"}
        columns = ", ".join(own.get(name, name) for name in names)
        many = MANY.format(count)
        connection.execute(f"{many} INSERT INTO cell SELECT {columns} FROM cell, n WHERE key = ?", (key,))
        connection.execute(f"{many} INSERT INTO episode SELECT 'k' || x, number, seed, return, length FROM episode, n "
                           "WHERE cell = ?", (key,))  # fmt: skip
        connection.execute(f"{many} INSERT INTO planned SELECT 'k' || x, x + 2 FROM n")
    connection.close()
    assert count**2 > MOST_POINTS
    with hostile.watched(), Store.reading(folder) as store, pytest.raises(StoreError, match="points of curves"):
        panels(store)


# What lies beside a store to be reported


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of which one cell is missing."""
    with Store.writing(tmp_path) as store:
        record_curves(store, {"one": {Method(): {0.5: 90.0}}})
        store._connection.execute("INSERT INTO planned VALUES ('missing', 99)")
    return tmp_path


def config(**changes: object) -> str:
    names = ("grouping", "importance", "allocation", "recovery")
    methods = [dict(zip(names, ("component", "surgeon", "uniform", "distill"), strict=True))]
    plain = {"controllers": [{"controller": "a.zip", "name": "one", "task": "CartPole-v1"}], "methods": methods}
    return yaml.safe_dump({**plain, "sparsities": [0.5, 0.9], "seeds": [0], "only": [], **changes})


def reported(folder: Path, name: str, text: str) -> object:
    (folder / name).write_text(text)
    with Store.reading(folder) as store:
        found = findings(store)
    with hostile.watched():
        return page_data(found, [], folder)["missing"]


def test_the_missing_cell_is_named(sweep: Path) -> None:
    assert reported(sweep, "config.yaml", config()) == [
        ["one", "CartPole-v1", "component + surgeon + distill", None, 0.9, 0]
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": list(range(3_000)), "sparsities": [number / 4_000 for number in range(3_000)]},
        {"only": ["x"] * 3_000, "seeds": list(range(3_000))},
    ],
    ids=["seeds", "scopes"],
)
def test_a_config_that_asks_for_millions_of_cells_says_nothing_of_three(sweep: Path, change: dict[str, object]) -> None:
    assert reported(sweep, "config.yaml", config(**change)) is None


def laughs(end: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    return "\n".join([*lines, end])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.yaml", "x" * 2**21, "over 1 MiB"),
        ("config.yaml", "[" * 5_000, "not YAML"),
        ("config.yaml", "[]", "no record of a sweep"),
        ("config.yaml", "a: !!python/object/apply:os.system [touch /tmp/prunectl-ran]", "not YAML"),
        ("provenance.json", " " * 2**21, "over 1 MiB"),
        ("provenance.json", "[" * 50_000, "no record of a sweep"),
        ("provenance.json", "[1]", "no record of a sweep"),
    ],
)
def test_records_that_are_none(sweep: Path, name: str, text: str, says: str) -> None:
    with pytest.raises((StoreError, ConfigError, OSError), match=says) as raised:
        reported(sweep, name, text)
    assert mistake(raised.value) is not None
    assert not Path("/tmp/prunectl-ran").exists()


def test_laughter_beside_a_store(sweep: Path) -> None:
    end = "controllers: *a39\nmethods: *a39\nsparsities: [0.5]\nseeds: *a39\nonly: *a39"
    assert reported(sweep, "config.yaml", laughs(end)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda: "UPDATE cell SET episode_seed = 4611686018427387904, episodes = 9223372036854775807",
        lambda: "UPDATE cell SET episodes = 5",
        lambda: "UPDATE cell SET mean_return = 9e999",
        lambda: "UPDATE episode SET return = 9e999",
        lambda: "UPDATE cell SET seed = 0, sparsity_asked = 0.5",
        lambda: "UPDATE cell SET sparsity_deployed = -1e308",
    ],
)
def test_values_that_do_not_fit_together_are_one_line(
    sweep: Path, change: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(sweep / FILE) as connection:
        connection.execute(change())
    connection.close()
    assert run(["report", str(sweep)]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
