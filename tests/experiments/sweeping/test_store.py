"""The store: a cell whole or not at all, one writer, clear errors, exports."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.sweeping.connection import LOCK
from prunectl.experiments.sweeping.store import FILE, Store, StoreError
from prunectl.pruning import Method
from tests.experiments.fakes import cell, drop_columns, episodes, outcome, record_curves, subject

DENSE = cell()
PRUNED = cell(method=Method(recovery="reconstruct"), sparsity=0.5)

SECTION_6 = [
    "controller",
    "algorithm",
    "task",
    "training_seed",
    "grouping",
    "importance",
    "allocation",
    "recovery",
    "sparsity_asked",
    "sparsity_total",
    "sparsity_deployed",
    "params_total",
    "params_deployed",
    "macs_deployed",
    "integrity",
    "episode_seed",
    "episodes",
    "mean_return",
    "std_return",
    "normalised_return",
    "status",
    "error",
]


def test_results_hold_what_was_recorded_in_the_planned_order(tmp_path: Path) -> None:
    with Store.writing(tmp_path / "deep" / "down") as store:
        store.plan([DENSE, PRUNED])
        store.record(PRUNED, outcome([60.0, 80.0], deployed=0.4, total=0.5, integrity=0.75))
        store.record(DENSE, outcome([100.0, 120.0]))
        store.record_random(episodes([10.0, 10.0]))
        table = store.results()
    assert [name for name in table if name in SECTION_6] == SECTION_6
    assert table["key"].tolist() == [DENSE.key, PRUNED.key]
    dense, pruned = table.to_dict("records")
    assert pruned["sparsity_deployed"] == pytest.approx(0.4)
    assert (pruned["params_total"], pruned["params_deployed"], pruned["macs_deployed"]) == (1000, 600, 600)
    assert (pruned["mean_return"], pruned["std_return"], pruned["integrity"]) == (70.0, 10.0, 0.75)
    assert (pruned["plan_seconds"], pruned["evaluate_seconds"]) == (0.5, 1.5)
    # (70 - 10) / (110 - 10)
    assert pruned["normalised_return"] == pytest.approx(0.6)
    assert dense["normalised_return"] == 1.0
    assert pd.isna(dense["grouping"])
    assert pruned["grouping"] == "component"


def test_bytes_that_act_are_those_of_floats_of_zeros_stored_sparsely_and_of_few_bits(tmp_path: Path) -> None:
    scattered, failed = cell(method=Method.of("unstructured"), sparsity=0.5), cell(method=Method(), sparsity=0.6)
    coarse = cell(method=Method(recovery="distill-int4"), sparsity=0.5)
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED, scattered, coarse, failed])
        store.record(DENSE, outcome([100.0, 120.0]))
        store.record(PRUNED, outcome([60.0, 80.0], deployed=0.4))
        store.record(scattered, outcome([60.0, 80.0], deployed=0.4))
        store.record(coarse, replace(outcome([60.0, 80.0], deployed=0.4), rounded={"actor": 450}))
        store.record_failure(failed, "no scope can meet it")
        dense, pruned, sparse, rounded, none = store.results()["bytes_deployed"]
    assert (dense, pruned, sparse, rounded) == (4_000, 2_400, 3_600, 450)
    assert none is pd.NA


def test_normalised_return_waits_for_its_references_and_needs_a_dense_controller_that_beats_random(
    tmp_path: Path,
) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED])
        store.record(PRUNED, outcome([60.0, 80.0]))
        assert store.results()["normalised_return"].isna().all()
        store.record(DENSE, outcome([100.0, 100.0]))
        assert store.results()["normalised_return"].isna().all()
        store.record_random(episodes([100.0, 100.0]))
        assert store.results()["normalised_return"].isna().all()


def test_a_cell_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    broken = outcome([1.0, 2.0])
    broken = replace(broken, episodes=replace(broken.episodes, seeds=(0, 0, 0)))
    with Store.writing(tmp_path) as store:
        store.plan([PRUNED])
        with pytest.raises(ValueError, match="zip"):
            store.record(PRUNED, broken)
        assert store.done() == set()
        assert store.results().empty
        assert store.episode_returns() == {}
        store.record(PRUNED, outcome([1.0, 2.0]))
        assert store.done() == {PRUNED.key}


def test_a_failed_cell_keeps_its_error_and_is_not_done(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([PRUNED])
        store.record_failure(PRUNED, "no scope can meet it")
        assert store.done() == set()
        row = store.results().iloc[0]
        assert (row["status"], row["error"]) == ("failed", "no scope can meet it")
        assert row["mean_return"] is pd.NA
        store.record(PRUNED, outcome([1.0, 2.0]))
        row = store.results().iloc[0]
        assert (row["status"], row["error"], row["mean_return"]) == ("done", pd.NA, 1.5)


def test_another_sweep_in_the_folder_hides_cells_without_losing_them(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED])
        store.record(DENSE, outcome([1.0, 2.0]))
        store.record(PRUNED, outcome([1.0, 2.0]))
        store.plan([DENSE])
        assert store.results()["key"].tolist() == [DENSE.key]
        assert store.done() == {DENSE.key, PRUNED.key}
        renamed = replace(PRUNED, subject=replace(subject(), controller="renamed"))
        store.plan([renamed])
        assert store.results()["controller"].tolist() == ["renamed"]


def test_random_returns_are_kept_by_task_and_seed(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.record_random(episodes([3.0, 4.0, 5.0]))
        np.testing.assert_array_equal(store.random_returns("CartPole-v1", [1, 2]), [4.0, 5.0])
        assert store.random_returns("CartPole-v1", [2, 3]) is None
        assert store.random_returns("Pendulum-v1", [1]) is None


def test_what_was_recorded_survives_closing(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([PRUNED])
        store.record(PRUNED, outcome([0.1, 1 / 3]))
    with Store.reading(tmp_path) as store:
        np.testing.assert_array_equal(store.episode_returns()[PRUNED.key], [0.1, 1 / 3])
        assert store.seconds_by_task() == {"CartPole-v1": 2.0}


def test_exports_are_the_results_and_leave_nothing_else_behind(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED])
        store.record(DENSE, outcome([1.0, 2.0]))
        store.record_failure(PRUNED, "why, 'not'")
        csv, parquet = store.export()
        table = store.results()
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), table, check_dtype=False)
    read = pd.read_csv(csv)
    assert read.columns.tolist() == table.columns.tolist()
    assert read["mean_return"].tolist()[0] == 1.5
    assert read["error"].tolist()[1] == "why, 'not'"
    assert {path.name for path in tmp_path.iterdir()} == {FILE, "sweep.lock", csv.name, parquet.name}


def test_an_export_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE])
        store.export()
        before = (tmp_path / "results.csv").read_bytes()
        store.record(DENSE, outcome([1.0, 2.0]))

        def full(self: pd.DataFrame, path: Path, **_: object) -> None:
            Path(path).write_text("half a")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(StoreError, match="No space left"):
            store.export()
    assert (tmp_path / "results.csv").read_bytes() == before


def test_a_second_sweep_on_the_folder_is_refused_until_the_first_is_gone_even_by_sigkill(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom prunectl.experiments.sweeping.store import Store\n"
        "with Store.writing(Path(sys.argv[1])):\n    print('open', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"another sweep.*process {holder.pid}"), Store.writing(tmp_path):
            pass
        with Store.reading(tmp_path) as store:
            assert store.done() == set()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with Store.writing(tmp_path) as store:
        store.plan([DENSE])


def test_a_missing_a_damaged_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no sweep\.sqlite"), Store.reading(tmp_path):
        pass
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(StoreError, match="not a database: move it away"), Store.writing(tmp_path):
        pass
    (tmp_path / FILE).unlink()
    foreign = sqlite3.connect(tmp_path / FILE)
    foreign.execute("CREATE TABLE holidays (day TEXT)")
    foreign.close()
    with pytest.raises(StoreError, match="not the store of a sweep"), Store.writing(tmp_path):
        pass


def test_a_store_of_another_form_is_refused(tmp_path: Path) -> None:
    with Store.writing(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="another version"), Store.reading(tmp_path):
        pass


def test_stability_is_kept_as_failures_of_the_starts_asked_for(tmp_path: Path) -> None:
    both = cell(method=Method(), sparsity=0.5, stability=100)
    settling, failed = replace(both, sparsity=0.8), replace(both, sparsity=0.9)
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, both, settling, failed])
        store.record(DENSE, outcome([1.0, 2.0]))
        store.record(both, outcome([1.0, 2.0], checks=Checks(Count(3, 100), Count(7, 100))))
        store.record(settling, outcome([1.0, 2.0], checks=Checks(Count(0, 100), None)))
        store.record_failure(failed, "why")
        table = store.results()
    assert table["stability_starts"].tolist() == [pd.NA, 100, 100, 100]
    assert table["unstable"].tolist() == [pd.NA, 3, 0, pd.NA]
    assert table["rising"].tolist() == [pd.NA, 7, pd.NA, pd.NA]


def test_a_store_from_before_stability_was_recorded_opens(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE])
        store.record(DENSE, outcome([1.0, 2.0]))
        names = store.results().columns.tolist()
    with sqlite3.connect(tmp_path / FILE) as connection:
        drop_columns(connection, "stability_starts", "unstable", "rising", "stability_seconds")
        connection.execute("PRAGMA user_version = 2")
    recording = cell(stability=59)
    with Store.writing(tmp_path) as store:
        assert store.done() == {DENSE.key}
        store.plan([DENSE, recording])
        store.record(recording, outcome([1.0, 2.0], checks=Checks(Count(0, 59), Count(1, 59))))
        table = store.results()
    assert table.columns.tolist() == names
    assert table["mean_return"].tolist() == [1.5, 1.5]
    assert table["rising"].tolist() == [pd.NA, 1]


def test_reading_writes_nothing_whatever_the_form(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED])
        store.record(DENSE, outcome([1.0, 2.0]))
        store.record(PRUNED, outcome([1.0, 1.5]))
        now = store.results()
    for form in (3, 2, 1):
        with sqlite3.connect(tmp_path / FILE) as connection:
            if form == 2:
                drop_columns(connection, "stability_starts", "unstable", "rising", "stability_seconds")
            if form == 1:
                drop_columns(connection, "only")
            connection.execute(f"PRAGMA user_version = {form}")
        connection.close()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with Store.reading(tmp_path) as store:
            pd.testing.assert_frame_equal(store.results(), now)
            assert store.seconds_by_task() == {"CartPole-v1": 2.0}
            with pytest.raises(StoreError, match=r"readonly|is a view"):
                store.record_failure(PRUNED, "why")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_store_that_is_being_made_has_nothing_in_it_yet(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with Store.reading(tmp_path) as store:
        assert store.done() == set()
        assert store.planned() == 0
    assert (tmp_path / FILE).read_bytes() == b""


def test_a_store_damaged_in_the_middle_is_a_clear_error(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        cells = [cell(method=Method(recovery="reconstruct"), sparsity=i / 100) for i in range(1, 60)]
        store.plan(cells)
        for entry in cells:
            store.record(entry, outcome([1.0, 2.0]))
    content = bytearray((tmp_path / FILE).read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match=FILE), Store.reading(tmp_path) as store:
        store.results()


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([DENSE, PRUNED])
        store.record(DENSE, outcome([1.0, 2.0]))
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        large = outcome(list(range(5000)))
        with pytest.raises(StoreError, match=r"sweep\.sqlite: database or disk is full"):
            store.record(PRUNED, large)
        assert store.done() == {DENSE.key}


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), Store.writing(tmp_path / "file" / "below"):
        pass


def test_a_sweep_that_begins_while_a_store_is_read_is_told(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        record_curves(store, {"one": {Method(recovery="none"): {0.5: 40.0}}})

    def read_while_a_sweep_begins() -> None:
        with Store.reading(tmp_path) as reading:
            assert len(reading.results()) == 2
            with Store.writing(tmp_path) as store:
                record_curves(store, {f"c{number}": {Method(recovery="none"): {0.5: 40.0}} for number in range(40)})

    with pytest.raises(StoreError, match=r"sweep\.sqlite: a sweep has begun to write here while it was read: read it"):
        read_while_a_sweep_begins()
    with Store.reading(tmp_path) as reading:
        assert len(reading.results()) == 80


def test_a_reader_that_asks_for_a_moment_stops_no_sweep(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        timer = threading.Timer(0.2, lambda: fcntl.flock(asking, fcntl.LOCK_UN))
        timer.start()
        with Store.writing(tmp_path) as store:
            assert store.planned() == 0
        timer.join()
