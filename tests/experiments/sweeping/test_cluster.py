"""Sweeps on a running cluster, and on workers that die: the same numbers, and nothing lost but time."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
import yaml
from distributed import Client

from prunectl.envs import TaskError
from prunectl.experiments.sweeping import dispatch as module
from prunectl.experiments.sweeping.cell import Cell, Outcome, Work
from prunectl.experiments.sweeping.compute import run_pruned
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.experiments.sweeping.dispatch import IN_FLIGHT, LOOKAHEAD, run
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import local_workers, remote_workers, slurm_workers
from tests.conftest import SaveTiny, untrained_planner
from tests.experiments.clusters import COMMAND, cluster, worker
from tests.experiments.fakes import cell, outcome, subject
from tests.experiments.sweeping.test_sweep import config, silent, without_times

FAMILIES = ("sac", "td3", "ddpg", "tqc", "crossq", "ppo", "a2c", "trpo")


@pytest.fixture
def families(save_tiny: SaveTiny, tmp_path: Path) -> Work:
    """A cell of every family of controllers, TD-MPC and discrete actions among them; of one also its stability."""
    paths = [save_tiny(name, "Pendulum-v1", name=name) for name in FAMILIES]
    paths += [save_tiny("ppo", "CartPole-v1", name="discrete"), save_tiny("sac", "Pendulum-v1", "shared", encoder=(8,))]
    paths.append(tmp_path / "planner.pt")
    untrained_planner().save(paths[-1], {"task": "Pendulum-v1", "training_seed": 1})
    methods = [{"grouping": "component", "importance": "taylor", "recovery": "reconstruct"}]
    work = load_work(config(*paths, methods=methods, sparsities=[0.4]), trust=False, remark=silent)
    settings = config(Path("lqr-linear-pendulum-1"), methods=methods, sparsities=[0.9], stability=59)
    stable = load_work(settings, trust=False, remark=silent)
    few = tuple(replace(cell, stability=8) for cell in stable.cells)
    return Work({**work.controllers, **stable.controllers}, work.cells + few, {})


def table_of(work: Work, folder: Path, client: Client) -> pd.DataFrame:
    with Store.writing(folder) as store:
        assert run(work, still_to_do(work, store), store, client, lambda cell: None) == []
        return without_times(store.results())


@pytest.mark.slow
def test_every_family_gives_the_same_bits_on_one_worker_here_and_on_two_of_a_joined_cluster(
    families: Work, tmp_path: Path
) -> None:
    with local_workers(1) as client:
        one = table_of(families, tmp_path / "one", client)
    with cluster(tmp_path, 2) as there, remote_workers(there.address) as client:
        joined = table_of(families, tmp_path / "joined", client)
    assert len(one) == 2 * (len(FAMILIES) + 4)
    assert one["rising"].notna().sum() == 2
    assert one["mean_return"].notna().all()
    pd.testing.assert_frame_equal(one, joined, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("recovery", ["distill", "scratch"])
def test_the_same_holds_for_what_is_learned_and_for_two_workers_here(
    save_tiny: SaveTiny, tmp_path: Path, recovery: str
) -> None:
    paths = [save_tiny("sac", "Pendulum-v1", "sac"), save_tiny("ppo", "CartPole-v1", "ppo"), tmp_path / "planner.pt"]
    untrained_planner().save(paths[-1], {"task": "Pendulum-v1"})
    methods = [{"importance": ["surgeon", "gradient"], "recovery": recovery}]
    work = load_work(config(*paths, methods=methods, sparsities=[0.4]), trust=False, remark=silent)
    with local_workers(1) as client:
        one = table_of(work, tmp_path / "one", client)
    with local_workers(2) as client:
        two = table_of(work, tmp_path / "two", client)
    with cluster(tmp_path, 2) as there, remote_workers(there.address) as client:
        joined = table_of(work, tmp_path / "joined", client)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    pd.testing.assert_frame_equal(one, joined, check_exact=True)


SLOW = {
    "methods": [{"grouping": ["global", "component"], "importance": ["surgeon", "random"], "recovery": "reconstruct"}],
    "sparsities": [0.2, 0.3, 0.4, 0.5],
    "episodes": 10,
}


@pytest.mark.slow
def test_a_lost_scheduler_and_a_killed_driver_cost_nothing_but_time(balancer: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "slow.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump({"controllers": [str(balancer)], **SLOW}))
    total = 1 + 4 * 4

    def start(address: str) -> subprocess.Popen[str]:
        command = [*COMMAND, "sweep", str(path), "--scheduler", address, "--out", str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    with cluster(tmp_path, 1) as there:
        driver = start(there.address)
        wait_until(lambda: done(out) >= 2, driver)
        os.kill(there.scheduler.pid, signal.SIGKILL)
        _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "the scheduler is gone" in said
    assert "Traceback" not in said
    first = done(out)
    assert 2 <= first < total

    with cluster(tmp_path, 1) as there:
        driver = start(there.address)
        wait_until(lambda: done(out) >= first + 2, driver)
        driver.kill()
        driver.communicate()
        second = done(out)
        assert second < total
        driver = start(there.address)
        _, said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    assert f"{total} cells, {second} done already" in said
    with local_workers(1) as client:
        work = load_work(config(balancer, **SLOW), trust=False, remark=silent)
        whole = table_of(work, tmp_path / "whole", client)
    resumed = without_times(pd.read_parquet(out / "results.parquet"))
    pd.testing.assert_frame_equal(resumed, without_times(pd.read_parquet(export(tmp_path / "whole"))), check_exact=True)
    assert len(whole) == total


def export(folder: Path) -> Path:
    with Store.reading(folder) as store:
        return store.export()[1]


def done(folder: Path) -> int:
    if not (folder / "sweep.sqlite").is_file():
        return 0
    with Store.reading(folder) as store:
        return len(store.done())


def wait_until(reached: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert driver.poll() is None, "the sweep ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def deadly_at_six_tenths(*arguments: Any) -> Outcome:
    (cell,) = (argument for argument in arguments if isinstance(argument, Cell))
    if cell.sparsity == 0.6:
        with open(os.environ["DEATHS"], "a") as stream:
            stream.write(f"{cell.seed}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_pruned(*arguments)


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_fails_alone_and_is_not_tried_for_ever(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    spawned = {"distributed.worker.multiprocessing-method": "spawn"}  # forked ones would have an older environment
    monkeypatch.setattr(module, "run_pruned", deadly_at_six_tenths)
    methods = [{"grouping": ["component", "global"], "importance": "magnitude", "recovery": "none"}]
    work = load_work(config(balancer, methods=methods, sparsities=[0.3, 0.5, 0.6]), trust=False, remark=silent)
    with dask.config.set(spawned), Store.writing(tmp_path) as store, local_workers(2) as client:
        failures = run(work, still_to_do(work, store), store, client, lambda cell: None)
        table = store.results()
    assert {failure.cell.sparsity for failure in failures} == {0.6}
    assert len(failures) == 2
    assert "killed every worker process" in failures[0].error
    assert (table["status"] == "done").sum() == 1 + 2 * 2
    # Twice beside others, twice alone, for each of the two.
    assert len((tmp_path / "deaths").read_text().split()) <= 2 * 2 * 2


def test_few_cells_are_in_flight_however_large_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = subject()
    cells = tuple(cell(owner, seed=number) for number in range(300))
    work = Work({owner.digest: untrained_planner()}, cells, {})
    monkeypatch.setattr(module, "run_dense", lambda controller, cell, lyapunov: outcome([1.0, 2.0]))
    in_flight: list[int] = []
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:

        def count(cell: Cell) -> None:
            in_flight.append(len(client.futures))

        with Store.writing(tmp_path) as store:
            run(work, still_to_do(work, store), store, client, count)
            assert len(store.done()) == 300
    # The controller and a random reference besides.
    assert max(in_flight) <= IN_FLIGHT + 2 + LOOKAHEAD


@pytest.mark.slow
def test_a_worker_that_dies_with_results_nobody_has_fetched_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, processes = [0], str(tmp_path / "processes")

    def tell(controller: Any, cell: Cell, lyapunov: Any) -> Outcome:
        with open(processes, "a") as stream:
            stream.write(f"{os.getpid()}\n")
        return outcome([1.0, 2.0])

    def slow_then_deadly(cell: Cell) -> None:
        told[0] += 1
        if told[0] == 1:
            time.sleep(1)  # a slow disk: the next cells have ended meanwhile
            os.kill(int(Path(processes).read_text().split()[-1]), signal.SIGKILL)
            time.sleep(0.5)

    monkeypatch.setattr(module, "run_dense", tell)
    owner = subject()
    cells = tuple(cell(owner, seed=number) for number in range(8))
    work = Work({owner.digest: untrained_planner()}, cells, {})
    with Store.writing(tmp_path) as store, local_workers(1) as client:
        assert run(work, still_to_do(work, store), store, client, slow_then_deadly) == []
        assert len(store.done()) == 8


def test_a_reference_that_cannot_be_measured_is_told_when_all_else_is_done(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(module, "run_random", broken)
    work = load_work(config(balancer, sparsities=[0.3]), trust=False, remark=silent)
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        Store.writing(tmp_path) as store,
    ):
        with pytest.raises(TaskError, match="random actions on CartPole-v1 cannot be measured: KeyError"):
            run(work, still_to_do(work, store), store, client, lambda cell: None)
        assert len(store.done()) == len(work.cells)


@pytest.mark.slow
def test_a_crowded_worker_that_joins_later_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(controller: Any, cell: Cell, lyapunov: Any) -> Outcome:
        time.sleep(0.5)
        return outcome([1.0, 2.0])

    monkeypatch.setattr(module, "run_dense", slow)
    owner = subject()
    cells = tuple(cell(owner, seed=number) for number in range(60))
    work = Work({owner.digest: untrained_planner()}, cells, {})
    with (
        cluster(tmp_path, 1) as there,
        remote_workers(there.address) as client,
        Store.writing(tmp_path / "out") as store,
        worker(there.address, "--nthreads", "2"),
        pytest.raises(ConfigError, match="several cells in one process"),
    ):
        run(work, still_to_do(work, store), store, client, lambda cell: None)


@pytest.mark.slow
def test_cells_go_only_where_their_resources_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = str(tmp_path / "processes")

    def tell(controller: Any, cell: Cell, lyapunov: Any) -> Outcome:
        with open(told, "a") as stream:
            stream.write(f"{os.getpid()}\n")
        return outcome([1.0, 2.0])

    monkeypatch.setattr(module, "run_dense", tell)
    owner = subject()
    cells = tuple(cell(owner, seed=number) for number in range(8))
    work = Work({owner.digest: untrained_planner()}, cells, {owner.digest: {"GPU": 1}})
    with (
        cluster(tmp_path, 1) as there,
        worker(there.address, "--resources", "GPU=1"),
        remote_workers(there.address) as client,
        Store.writing(tmp_path / "out") as store,
    ):
        client.wait_for_workers(2)
        offered = client.run(lambda dask_worker: (os.getpid(), dask_worker.state.total_resources))
        assert run(work, still_to_do(work, store), store, client, lambda cell: None) == []
    computed = {int(line) for line in (tmp_path / "processes").read_text().split()}
    assert computed == {pid for pid, resources in offered.values() if resources == {"GPU": 1}}


@pytest.mark.slow
def test_workers_that_would_give_other_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no scheduler answers"), remote_workers("tcp://127.0.0.1:1"):
        pass
    with cluster(tmp_path, 1, "--nthreads", "2") as there, Client(there.address) as waiting:
        waiting.wait_for_workers(1)
        crowded = pytest.raises(ConfigError, match=r"several cells in one process.*--nthreads 1")
        with crowded, remote_workers(there.address):
            pass
    with cluster(tmp_path, 1) as there, Client(there.address) as waiting:
        waiting.wait_for_workers(1)
        monkeypatch.setattr(
            "prunectl.experiments.sweeping.workers.versions", lambda: {"torch": f"of process {os.getpid()}"}
        )
        with pytest.raises(ConfigError, match="this process"), remote_workers(there.address):
            pass
        here = os.getpid()

        def elsewhere_not_installed() -> dict[str, str]:
            if os.getpid() != here:
                raise ModuleNotFoundError("No module named 'experiments'")
            return {}

        monkeypatch.setattr("prunectl.experiments.sweeping.workers.versions", elsewhere_not_installed)
        with pytest.raises(ConfigError, match="cannot import prunectl"), remote_workers(there.address):
            pass


SBATCH = """#!/bin/sh
for script; do :; done
echo "$script" >> {log}
cp "$script" {folder}/job.sh
setsid sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -- -$job 2>/dev/null; done
exit 0
"""


@pytest.mark.slow
def test_slurm_jobs_are_submitted_and_their_workers_compute(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "submitted"
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = tmp_path / name
        script.write_text(text.format(log=log, folder=tmp_path) if name == "sbatch" else text)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    import dask

    local = {"interface": None, "scheduler-options": {"host": "127.0.0.1", "dashboard_address": None}}
    work = load_work(config(balancer, sparsities=[0.3]), trust=False, remark=silent)
    with (
        dask.config.set({f"jobqueue.slurm.{key}": value for key, value in local.items()}),
        Store.writing(tmp_path / "out") as store,
        slurm_workers(1) as client,
    ):
        assert run(work, still_to_do(work, store), store, client, lambda cell: None) == []
        assert len(store.done()) == len(work.cells)
    assert len(log.read_text().splitlines()) == 1


def test_slurm_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no sbatch"), slurm_workers(1):
        pass
