"""The speed table: what it computes from what was measured, and what it writes. How fast anything is, no test says."""

from __future__ import annotations

import gc
import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client

from prunectl import agents
from prunectl.experiments.bench import answers, simulated, teaching
from prunectl.experiments.bench.benchmarks import CATALOGUE, machine, write_results
from prunectl.experiments.bench.queueing import Costs, saturation, simulate
from prunectl.experiments.bench.stepping import _actions_taken, stepped
from prunectl.experiments.bench.sweep_speed import SHARED, Swept, _needs
from prunectl.experiments.bench.timing import Section, compared, interleaved, judged, per_second
from prunectl.experiments.cli import run
from prunectl.experiments.episodes.evaluator import environments
from prunectl.experiments.episodes.evaluator import run as run_episodes
from prunectl.experiments.sweeping import dispatch
from prunectl.experiments.sweeping.compute import run_pruned
from prunectl.experiments.sweeping.expand import still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.conftest import SaveTiny
from tests.experiments.fakes import cell, subject

FREE = Costs(0.0, 0.0, 0.0)


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_rounds() -> None:
    row = compared("mine", np.asarray([1.0, 2.0, 900.0]), "rival", np.asarray([4.0, 1.0, 3.0]), at_least=0.7)
    assert (row["ours"], row["theirs"]) == (2.0, 3.0)
    assert row["ratio"] == pytest.approx(2 / 3)
    assert (row["lowest"], row["highest"]) == (0.25, 300.0)
    assert (row["target"], row["held"]) == (">= 0.7", "no")


def test_a_target_is_held_at_its_very_value_and_absent_where_there_is_none() -> None:
    assert judged(0.85, at_least=0.85)["held"] == "yes"
    assert judged(1.1, at_most=1.1) == {"target": "<= 1.1", "held": "yes"}
    assert judged(1.2, at_most=1.1)["held"] == "no"
    assert judged(1.0) == {"target": None, "held": None}


def test_sides_take_turns_and_the_first_turn_does_not_count() -> None:
    turns: list[str] = []

    def side(name: str) -> Callable[[], float]:
        def measured() -> float:
            turns.append(name)
            return float(len(turns))

        return measured

    rates = interleaved({"a": side("a"), "b": side("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert rates["a"].tolist() == [3.0, 5.0]
    assert rates["b"].tolist() == [4.0, 6.0]


def test_no_garbage_is_collected_while_the_clock_runs() -> None:
    seen: list[bool] = []

    def work() -> float:
        seen.append(gc.isenabled())
        return sum(range(100_000))

    assert per_second(work) > 0
    assert seen == [False]
    assert gc.isenabled()


def test_bare_stepping_of_the_same_actions_makes_the_same_steps(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("ppo", "CartPole-v1")).controller
    seeds = (5, 6, 7)
    with environments("CartPole-v1", 3, controller) as made:
        lengths = run_episodes(controller.policy(seeds), made, "CartPole-v1", seeds).lengths
        actions = _actions_taken(controller, made, "CartPole-v1", seeds)
        assert [len(taken) for taken in actions] == lengths.tolist()
        assert stepped(made, seeds, actions) == lengths.sum()


# The simulation


def test_workers_without_overhead_share_the_cells() -> None:
    grown = simulate([2.0] * 12, 4, FREE)
    assert grown.rate == 12 / 6
    assert grown.efficiency == 1.0
    # 3 on one worker; 1 and 1, one after the other, on the other.
    grown = simulate([3.0, 1.0, 1.0], 2, FREE)
    assert grown.rate == 3 / 3
    assert grown.efficiency == pytest.approx(5 / 6)


def test_one_worker_waits_for_the_scheduler_and_not_for_the_driver() -> None:
    grown = simulate([5.0] * 10, 1, Costs(scheduler=1.0, worker=2.0, driver=4.0))
    last = 10 * (1 + 2 + 5) + 4
    assert grown.rate == pytest.approx(10 / last)
    assert grown.efficiency == pytest.approx(50 / last)
    assert grown.scheduler == pytest.approx(10 / last)
    assert grown.driver == pytest.approx(40 / last)


def test_a_slow_driver_never_idles_after_the_first_cell() -> None:
    grown = simulate([5.0] * 100, 10, Costs(scheduler=0.0, worker=1.0, driver=2.0))
    assert grown.rate == pytest.approx(100 / (6 + 100 * 2))
    assert grown.driver == pytest.approx(200 / 206)


def test_a_slow_scheduler_hands_out_one_cell_after_another() -> None:
    grown = simulate([5.0] * 1000, 10, Costs(scheduler=1.0, worker=0.0, driver=0.25))
    assert grown.rate == pytest.approx(1000 / (1000 * 1 + 5 + 0.25))
    assert grown.scheduler == pytest.approx(1000 / 1005.25)


def test_more_workers_than_cells_idle() -> None:
    assert simulate([1.0, 4.0], 5, FREE).efficiency == pytest.approx(5 / (5 * 4))


def test_a_sweep_saturates_where_the_simulation_says_so() -> None:
    for costs in (Costs(0.002, 0.01, 0.005), Costs(0.008, 0.01, 0.005)):
        workers = saturation(1.0, costs)
        grown = simulate([1.0] * 100 * workers, workers, costs)
        assert max(grown.scheduler, grown.driver) == pytest.approx(0.9, abs=0.02)
    assert saturation(1.0, Costs(0.002, 0.01, 0.005)) == round(0.9 * 1.012 / 0.005)


# Sweeps


def test_overhead_is_what_neither_cells_nor_shared_tasks_take() -> None:
    tasks = (("run_pruned", 3.0), ("run_pruned", 4.0), ("run_dense", 1.0), ("run_calibration", 2.0))
    swept = Swept(workers=2, cells=3, wall=7.0, cell_seconds=(2.5, 3.5, 1.0), tasks=tasks)
    assert swept.overhead == pytest.approx((14 - 7 - 2) / 3)
    assert swept.unoccupied == pytest.approx((14 - 10) / 3)


def test_what_cells_share_is_counted_by_what_decides_it() -> None:
    one, other = subject("one"), subject("other")
    magnitude, stock = Method.of("component", "magnitude", recovery="none"), Method.of("stock-local", recovery="none")
    sensitive = Method.of("component", "magnitude", "sensitivity", "none")
    cells = (
        cell(one),
        cell(one, magnitude, 0.5),
        cell(one, stock, 0.5),
        cell(one, sensitive, 0.5),
        cell(other, stock, 0.5),
    )
    needed = _needs(cells)
    needs = {name: (len(needed[name]), len(set(needed[name]))) for name in SHARED}
    assert needs == {
        "run_random": (5, 1),
        "run_dense": (5, 2),
        "run_calibration": (4, 2),
        "run_scores": (2, 1),
        "run_damage": (1, 1),
    }


def test_made_up_cells_pass_through_the_real_sweep(tmp_path: Path) -> None:
    work = simulated.made_up_work(102)
    assert len({cell.key for cell in work.cells}) == 102
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        Store.writing(tmp_path) as store,
        simulated.made_up_cells(),
    ):
        assert dispatch.run(work, still_to_do(work, store), store, client, lambda cell: None) == []
        assert not still_to_do(work, store)
        table = store.results()
    assert table["mean_return"].tolist() == [0.5] * 102
    assert dispatch.run_pruned is run_pruned


# The command


def test_an_unknown_benchmark_is_one_line_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "evalautor"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "did you mean 'evaluator'" in err


def test_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    run(["bench", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(entry.name for entry in CATALOGUE) in shown


@pytest.mark.parametrize("there", ["table.json", "table.md"])
def test_what_is_there_is_not_overwritten(there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / there).write_text("mine")
    assert run(["bench", "planner", "--quick", "-o", str(tmp_path / "table.json")]) == 2
    assert there in capsys.readouterr().err
    assert (tmp_path / there).read_text() == "mine"


def test_what_was_found_reads_back_with_the_machine_and_without_its_name(tmp_path: Path) -> None:
    table = pd.DataFrame(
        [{"case": "one", "ratio": 1 / 3, **judged(0.5)}, {"case": "two", "ratio": 2.0, **judged(2, 1)}]
    )
    path = tmp_path / "table.json"
    write_results(path, {"mine": [Section("mine: speed", table, {"ratio": ".2f"}, "Times as fast.")]}, quick=True)
    data = json.loads(path.read_text())
    assert data["quick"] is True
    assert data["machine"] == machine()
    assert {"processor", "cores", "system", "versions"} <= machine().keys()
    (section,) = data["benchmarks"]["mine"]
    assert section["title"] == "mine: speed"
    assert [row["ratio"] for row in section["rows"]] == pytest.approx([1 / 3, 2.0], rel=1e-12)
    assert [row["held"] for row in section["rows"]] == [None, "yes"]
    page = path.with_suffix(".md").read_text()
    assert "| two | 2.00 | >= 1 | yes |" in page
    assert "Times as fast." in page
    for text in (page, path.read_text()):
        assert socket.gethostname() not in text
        assert str(Path.cwd()) not in text


@pytest.mark.slow
def test_a_quick_run_prints_and_writes_the_same_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    assert run(["bench", "planner", "surgery", "--quick", "-o", str(path)]) == 0
    printed = capsys.readouterr().out
    benchmarks = json.loads(path.read_text())["benchmarks"]
    assert list(benchmarks) == ["surgery", "planner"]
    for (section,) in benchmarks.values():
        for row in section["rows"]:
            assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
            assert row["lowest"] <= row["highest"]
            assert f"{row['ratio']:.2f}" in printed


@pytest.mark.slow
def test_sweeps_of_a_quick_run_share_their_work_and_are_simulated(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    assert run(["bench", "sweep", "memory", "cluster", "--quick", "-o", str(path)]) == 0
    found = json.loads(path.read_text())["benchmarks"]
    throughput, _, shared = found["sweep"]
    assert throughput["rows"][0]["target"] == ">= 1.8"
    assert [row["computed"] for row in shared["rows"]] == [row["different"] for row in shared["rows"]]
    assert [row["work"] for row in shared["rows"] if row["computed"] == 0] == []
    assert [row["cells"] for row in found["memory"][0]["rows"]] == [50, 200]
    costs, checks, growth, saturated = (section["rows"] for section in found["cluster"])
    assert all(costs[0][part] > 0 for part in ("scheduler", "worker", "driver", "store", "bytes"))
    assert costs[0]["driver"] > costs[0]["store"]
    assert [row["workers"] for row in checks] == [1, 2]
    assert max(row["workers"] for row in growth) == 2_000
    assert all(0 < row["efficiency"] <= 1 for row in growth)
    assert all(row["busiest"] in ("scheduler", "driver") for row in saturated)


@pytest.mark.slow
def test_a_refusal_is_an_answer_in_time() -> None:
    (section,) = answers.measure(quick=True)
    commands = [*(" ".join(command) for command in answers.REFUSED), "sweep wrong.yaml"]
    assert section.table["case"].tolist() == [f"prunectl {command}" for command in commands]
    assert (section.table["seconds"] > 0).all()
    assert set(section.table["held"]) == {"yes"}


@pytest.mark.slow
def test_what_a_recovery_takes_is_timed_an_agent() -> None:
    (section,) = teaching.measure(quick=True)
    table = section.table.set_index("case")
    assert list(table.index) == [*teaching.AGENTS, "median"]
    assert (table["seconds"] > 0).all()
    assert table.loc["median", "seconds"] == sorted(table["seconds"][:3])[1]
    assert (table["after"][:3] >= table["before"][:3]).all()
