"""Timeouts: work that takes too long is broken off where it is, and nothing else is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from prunectl.experiments.sweeping import deadline as module
from prunectl.experiments.sweeping import dispatch
from prunectl.experiments.sweeping.cell import Cell, Outcome, Work
from prunectl.experiments.sweeping.compute import run_calibration
from prunectl.experiments.sweeping.deadline import CellTimeoutError, run_within
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, resolved, still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import local_workers
from tests.conftest import untrained_planner
from tests.experiments.fakes import cell, outcome, subject
from tests.experiments.sweeping.test_sweep import config, silent


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield client


def for_ever() -> None:
    while True:
        time.sleep(0.01)


def stubborn() -> None:
    while True:
        try:
            for_ever()
        except BaseException:
            if time.monotonic() > END[0]:
                raise


END = [0.0]


def test_work_is_broken_off_and_what_is_in_time_is_not() -> None:
    started = time.monotonic()
    with pytest.raises(CellTimeoutError, match=r"^it took longer than the 0\.2 s that `timeout` gives a cell$"):
        run_within(0.2, for_ever)
    assert 0.2 <= time.monotonic() - started < 2
    assert run_within(5.0, max, 3, 4) == 4
    with pytest.raises(ZeroDivisionError):
        run_within(5.0, divmod, 1, 0)


def test_what_ends_at_its_deadline_is_never_broken_off_afterwards() -> None:
    late = 0
    for _ in range(300):
        try:
            run_within(0.002, time.sleep, 0.0019)
        except CellTimeoutError:
            late += 1
        sum(range(2_000))  # what a broken-off exception would come up in
    assert 0 <= late <= 300
    time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if thread.name == "prunectl-deadline"]


def test_work_that_catches_everything_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.1)
    END[0] = time.monotonic() + 0.25
    with pytest.raises(CellTimeoutError):
        run_within(0.1, stubborn)


def test_a_cell_that_takes_too_long_fails_and_the_others_go_on(
    balancer: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_at_six_tenths(controller: Any, calibration: Any, scores: Any, cell: Cell, *others: Any) -> Outcome:
        if cell.sparsity == 0.6:
            for_ever()
        return outcome([1.0, 2.0])

    monkeypatch.setattr(dispatch, "run_pruned", slow_at_six_tenths)
    settings = config(balancer, timeout=20, methods=[{"recovery": "none"}])
    work = load_work(settings, trust=False, remark=silent)
    assert work.timeout == 20
    assert resolved(settings, work)["timeout"] == 20
    without = load_work(config(balancer, methods=[{"recovery": "none"}]), trust=False, remark=silent)
    assert [cell.key for cell in work.cells] == [cell.key for cell in without.cells]
    monkeypatch.setattr(module, "PAUSE", 0.5)
    work = Work(work.controllers, work.cells, work.resources, timeout=3.0)
    with Store.writing(tmp_path) as store:
        failures = run(work, still_to_do(work, store), store, client, lambda cell: None)
        table = store.results()
    assert [(failure.cell.sparsity, failure.error) for failure in failures] == [
        (0.6, "it took longer than the 3 s that `timeout` gives a cell")
    ]
    assert table["status"].tolist() == ["done", "done", "failed"]


def test_shared_work_that_takes_too_long_fails_its_cells(
    balancer: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Any:
        for_ever()
        return run_calibration(*arguments)

    monkeypatch.setattr(dispatch, "run_calibration", slow)
    whole = load_work(config(balancer, methods=[{"recovery": "none"}]), trust=False, remark=silent)
    work = Work(whole.controllers, whole.cells, whole.resources, timeout=3.0)
    with Store.writing(tmp_path) as store:
        failures = run(work, still_to_do(work, store), store, client, lambda cell: None)
    assert [failure.cell for failure in failures] == list(work.cells[1:])
    assert {failure.error for failure in failures} == {"it took longer than the 3 s that `timeout` gives a cell"}


def stuck_in_the_system(controller: Any, cell: Cell, lyapunov: Any) -> Outcome:
    module.PAUSE, module.ATTEMPTS = 0.2, 2
    if cell.seed == 1:
        time.sleep(600)  # one step of Python's, which nothing can break off
    return outcome([1.0, 2.0])


@pytest.mark.slow
def test_a_worker_that_is_stuck_for_good_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "run_dense", stuck_in_the_system)
    owner, started = subject(), time.monotonic()
    cells = tuple(cell(owner, seed=seed) for seed in range(3))
    work = Work({owner.digest: untrained_planner()}, cells, {}, timeout=8.0)
    with Store.writing(tmp_path) as store, local_workers(1) as client:
        pids = client.run(os.getpid)
        (failure,) = run(work, still_to_do(work, store), store, client, lambda cell: None)
        assert client.run(os.getpid) != pids
        assert len(store.done()) == 2
    assert failure.cell.seed == 1
    assert "it killed every worker process that computed it" in failure.error
    assert "stuck beyond its timeout" in failure.error
    assert time.monotonic() - started < 300
