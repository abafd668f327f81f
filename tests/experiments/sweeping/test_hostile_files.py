"""Configs, stores and names that anybody may have written, and what the command line says of them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from conftest import SaveTiny
from hypothesis import given
from hypothesis import strategies as st

from prunectl.experiments.cli import mistake, printable, run
from prunectl.experiments.sweeping.config import MOST_CELLS, ConfigError, load_config
from prunectl.experiments.sweeping.store import FILE, LOCK, Store, StoreError
from tests import hostile
from tests.experiments.fakes import cell, outcome

GOOD = "controllers: [a.zip]\nmethods: [{}]\nsparsities: [0.5]\n"


def fuzz(depth: int, test: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    quiet = hypothesis.settings(max_examples=depth, deadline=None, derandomize=True, database=None)
    quiet(given(*strategies)(test))()


def refused(path: Path, text: str | bytes) -> str:
    """The one line that a config ends with, "" for one that is good."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with hostile.watched():
        try:
            load_config(path)
        except (ConfigError, OSError) as error:
            raised: Exception = error
        else:
            return ""
    assert not isinstance(raised.__cause__, MemoryError)
    line = mistake(raised)
    assert line is not None
    assert len(line) < 1000, line
    return line


# Configs


@pytest.mark.parametrize("text", [GOOD + "seeds: 1\nseeds: 2\n", "seeds: 1\n'seeds': 2\n" + GOOD])
def test_a_key_twice_is_told_with_its_lines(tmp_path: Path, text: str) -> None:
    lines = "lines 4 and 5" if text.startswith("controllers") else "lines 1 and 2"
    assert f"the key 'seeds' is there twice, in {lines}: keep one" in refused(tmp_path / "a.yaml", text)


def test_a_key_twice_inside_a_method(tmp_path: Path) -> None:
    text = GOOD.replace("{}", "{grouping: global, grouping: layer}")
    assert "'grouping' is there twice" in refused(tmp_path / "a.yaml", text)


def test_anchors_are_read(tmp_path: Path) -> None:
    assert not refused(tmp_path / "a.yaml", "controllers: [a.zip]\nmethods: [{}]\nsparsities: &s [0.5]\nseeds: [0]\n")


def _laughs(end: str) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*lines, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)), end])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_laughs("controllers: *a39\nmethods: *a39\nsparsities: *a39"), "unknown key"),
        ("a: &a {b: 1}\nc: {<<: [*a, *a]}\n", "`<<` is not read"),
        ("[" * 50_000, "RecursionError"),
        ("&a {controllers: *a, methods: *a, sparsities: *a}", "unknown key"),
        ("a: &a [*a]", "unknown key"),
        (GOOD + "seeds: 2001-99-99", "month must be in"),
        (GOOD + f"seeds: 0x{'f' * 2999}", "a value of 3001 characters"),
        (GOOD + f"seeds: 0x{'f' * 2990}", "less than or equal"),
        (GOOD + f"seeds: {'1:' * 1400}1", "less than or equal"),
        (GOOD + "seeds: !!int abc", "invalid literal"),
        (GOOD + "seeds: !!bool abc", "KeyError"),
        (GOOD + "seeds: !!timestamp abc", "AttributeError"),
        (
            GOOD + "seeds: !!python/object/apply:os.system [touch /tmp/prunectl-ran]",
            "not determine a constructor",
        ),
        (GOOD + "1: 2", "keys should be strings"),
        (GOOD + "~: 2", "keys should be strings"),
        (GOOD + "? [a]\n: 2", "unhashable"),
        (GOOD + "episodes: 1000000000000", "less than or equal"),
        ("x" * 2**19, "over 256 KiB"),
        ("\0", "unacceptable character"),
        (b"\xff\xfe", "UnicodeDecodeError"),
    ],
)
def test_configs_that_ask_for_trouble(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refused(tmp_path / "a.yaml", text)


def test_names_repeated_a_thousandfold_are_one_method(tmp_path: Path) -> None:
    many = ", ".join(["random"] * 5000)
    entry = f"{{importance: [{many}], recovery: [{many.replace('random', 'none')}], grouping: [global, global]}}"
    assert not refused(tmp_path / "a.yaml", GOOD.replace("{}", entry))
    assert len(load_config(tmp_path / "a.yaml").expanded_methods) == 1


def test_a_sweep_that_nobody_could_list(tmp_path: Path) -> None:
    sparsities = ", ".join(f"0.{number:05d}" for number in range(1, 20_001))
    text = GOOD.replace("0.5", sparsities) + f"seeds: [{', '.join(map(str, range(600)))}]\n"
    assert f"12000001 cells; a sweep has {MOST_CELLS} at most" in refused(tmp_path / "a.yaml", text)


@pytest.mark.parametrize("depth", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["demo.yaml", "headline.yaml"])
def test_spoilt_configs(tmp_path: Path, name: str, depth: int) -> None:
    good = (hostile.ROOT / "experiments" / "configs" / name).read_bytes()

    def spoilt(spoil: Callable[[bytes], bytes]) -> None:
        refused(tmp_path / "a.yaml", spoil(good))

    fuzz(depth, spoilt, hostile.byte_edits)


@pytest.mark.parametrize("depth", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_odd_values_in_a_config(tmp_path: Path, depth: int) -> None:
    text = "controllers: [a.zip, {controller: b, task: T}]\nmethods: [{grouping: [global, layer]}]\n"
    good = yaml.safe_load(text + "sparsities: [0.5, 0.9]\nseeds: [0, 1]\nepisodes: 3\nmin_width: 2\n")

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        refused(tmp_path / "a.yaml", yaml.safe_dump(spoil(good)))

    fuzz(depth, spoilt, hostile.json_edits)


def test_a_task_of_a_module_is_imported_on_the_users_word_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_task.py").write_text("raise SystemExit(99)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = GOOD.replace("a.zip", "{controller: ppo-cartpole, task: 'evil_task:CartPole-v1'}")
    assert "it names code to import, 'evil_task'" in refused(tmp_path / "a.yaml", text)
    assert load_config(tmp_path / "a.yaml", allow_plugins=True).controllers[0].task == "evil_task:CartPole-v1"


def test_what_the_environment_holds_is_sent_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    line = refused(tmp_path / "a.yaml", GOOD.replace("a.zip", '"hf://someone/${SECRET}"'))
    assert "is sent to no other machine" in line
    assert "s3cret" not in line


# Stores


def store_with(folder: Path, *statements: str) -> Path:
    """A store of one cell, changed by somebody."""
    with Store.writing(folder) as store:
        store.plan([cell()])
        store.record(cell(), outcome([1.0, 2.0]))
    with sqlite3.connect(folder / FILE) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return folder


_FOREVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS key, x AS position FROM n"


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["DROP TABLE planned", f"CREATE VIEW planned AS {_FOREVER}"], "more than the tables of a sweep"),
        (["CREATE TRIGGER t AFTER DELETE ON planned BEGIN DELETE FROM cell; END"], "more than the tables of a sweep"),
        (["ALTER TABLE planned ADD COLUMN x AS (zeroblob(1000000000))"], "more than the tables of a sweep"),
        (["DROP TABLE planned"], "no such table: planned"),
        (["DROP TABLE episode", "CREATE TABLE episode (x)"], "no such column"),
        (["UPDATE cell SET seed = 'many'"], "move it away"),
        (["UPDATE cell SET mean_return = x'00ff'"], "move it away"),
        (["UPDATE cell SET status = x'00ff'"], "move it away"),
        (["UPDATE cell SET episode_seed = NULL"], "move it away"),
    ],
)
def test_stores_that_somebody_changed(tmp_path: Path, statements: list[str], says: str) -> None:
    folder = store_with(tmp_path, *statements)
    with hostile.watched(), pytest.raises(StoreError, match=says), Store.reading(folder) as store:
        assert store.results().empty or store.episode_returns()


@pytest.mark.parametrize("episodes", [10**18, 0, -1])
def test_a_store_that_asks_for_episodes_without_end(tmp_path: Path, episodes: int) -> None:
    folder = store_with(tmp_path, f"UPDATE cell SET episodes = {episodes}")
    with hostile.watched(), Store.reading(folder) as store:
        assert store.results()["normalised_return"].isna().all()


@pytest.mark.parametrize("depth", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_spoilt_stores(tmp_path: Path, depth: int) -> None:
    good = (store_with(tmp_path / "good") / FILE).read_bytes()
    folder = tmp_path / "bad"
    folder.mkdir()

    def spoilt(spoil: Callable[[bytes], bytes]) -> None:
        for left in folder.iterdir():
            left.unlink()
        (folder / FILE).write_bytes(spoil(good))
        with hostile.watched(), contextlib.suppress(StoreError), Store.reading(folder) as store:
            for read in (store.results, store.episode_returns, store.done, store.seconds_by_task):
                read()

    fuzz(depth, spoilt, hostile.byte_edits)


def test_pipes_in_the_folder_of_a_sweep(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(StoreError), Store.reading(tmp_path):
        pass
    with pytest.raises(StoreError), Store.writing(tmp_path):
        pass
    (tmp_path / FILE).unlink()
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises((StoreError, OSError)) as raised, Store.writing(tmp_path):
        pass
    assert mistake(raised.value) is not None


# The command line


def ends(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """A command that ends as the user's mistake: its one line."""
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("\n")
    line = printed.err[:-1]
    assert line.isprintable(), line
    assert "Traceback" not in line
    return line


def test_names_of_files_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[2J\n\x07b\u202e.zip"
    (tmp_path / name).write_bytes(b"PK")
    for reference in (tmp_path / name, tmp_path / ("no" + name)):
        assert "\\x1b[2J" in ends(["inspect", str(reference)], capsys)
    (tmp_path / "run").mkdir()
    for number in range(2):
        (tmp_path / "run" / f"{number}{name}").touch()
    assert "\\x1b[2J" in ends(["inspect", str(tmp_path / "run")], capsys)
    (tmp_path / f"{name}.yaml").mkdir()
    assert "\\x1b[2J" in ends(["sweep", str(tmp_path / f"{name}.yaml")], capsys)
    assert "\\x1b[2J" in ends(["report", str(tmp_path / f"{name}.yaml")], capsys)


def test_what_is_printable_stays_as_it_is() -> None:
    assert printable("größer als 0.5: 'größe'") == "größer als 0.5: 'größe'"
    assert printable("a\tb\x9b\u202e") == "a\\tb\\x9b\\u202e"


def test_a_broken_checkpoint_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.zip").touch()
    (tmp_path / "fifo.yaml").symlink_to(tmp_path / "pipe.zip")
    for name in ("pipe.zip", "text.zip", "text.pt", "empty.zip"):
        assert name in ends(["evaluate", str(tmp_path / name)], capsys)
    assert "fifo.yaml" in ends(["sweep", str(tmp_path / "fifo.yaml")], capsys)


def test_a_task_that_nobody_knows_hinders_no_look(
    save_tiny: SaveTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_tiny("ppo", "CartPole-v1", name="Nowhere-v7")
    changed = hostile.with_entry(path.read_bytes(), "prunectl.json", lambda _: b"{}")
    path.write_bytes(changed)
    (tmp_path / "args.yml").write_text("env: Nowhere-v7\n")
    assert run(["inspect", str(path)]) == 0
    printed = capsys.readouterr()
    assert "task unknown" in printed.out
    assert "unknown task 'Nowhere-v7'" in printed.err
    assert "unknown task 'Nowhere-v7'" in ends(["evaluate", str(path)], capsys)
    assert "unknown task 'Nowhere-v7'" in ends(["inspect", str(path), "--task", "Nowhere-v7"], capsys)
