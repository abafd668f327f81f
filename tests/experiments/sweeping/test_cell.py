"""Cells: what decides their identity, and that their work is what the packages do by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prunectl import agents
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.sweeping import cell as cells
from prunectl.experiments.sweeping.cell import Cell, Reference, Subject
from prunectl.experiments.sweeping.compute import (
    run_calibration,
    run_damage,
    run_dense,
    run_lyapunov,
    run_pruned,
    run_random,
    run_scores,
)
from prunectl.experiments.sweeping.config import load_config
from prunectl.experiments.sweeping.expand import load_work
from prunectl.pruning import GROUPINGS, RECOVERIES, Method, prune
from tests.conftest import ROOT, SaveTiny

REFERENCE = ROOT / "results" / "reference"
SUBJECT = Subject("mine", "digest", "ppo", "CartPole-v1", 3)
CELL = Cell(SUBJECT, Method(recovery="reconstruct"), 0.5, seed=0, episodes=4, episode_seed=0, min_width=1)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": replace(SUBJECT, digest="other")},
        {"subject": replace(SUBJECT, task="Pendulum-v1")},
        {"method": Method("global")},
        {"method": Method(importance="activation")},
        {"method": Method(allocation="ranked")},
        {"method": Method(recovery="none")},
        {"method": None},
        {"sparsity": 0.6},
        {"seed": 1},
        {"episodes": 5},
        {"episode_seed": 1},
        {"min_width": 2},
        {"stability": 59},
    ],
)
def test_everything_that_decides_the_outcome_decides_the_key(change: dict[str, Any]) -> None:
    assert replace(CELL, **change).key != CELL.key


def test_names_do_not_decide_the_key() -> None:
    assert replace(CELL, subject=replace(SUBJECT, controller="renamed", training_seed=None)).key == CELL.key


def test_code_versions_decide_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CELL.key
    monkeypatch.setattr(Method, "version", "another")
    after = replace(CELL).key
    assert after != before
    monkeypatch.setattr(cells, "VERSION", cells.VERSION + 1)
    assert replace(CELL).key not in (before, after)
    without, recording = replace(CELL).key, replace(CELL, stability=59).key
    assert recording not in (without, replace(CELL, stability=60).key)
    monkeypatch.setattr(cells.stability, "VERSION", cells.stability.VERSION + 1)
    assert replace(CELL).key == without
    assert replace(CELL, stability=59).key != recording


@pytest.mark.parametrize("recovery", RECOVERIES.builtin)
def test_a_raised_version_is_every_methods(recovery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, other = Method(recovery=recovery), Method("global", recovery=recovery)
    before, own = method.version, RECOVERIES[recovery]
    assert before == ("3" if recovery in ("distill", "scratch") else "2")  # what published cells were made with
    monkeypatch.setattr("prunectl.pruning.method.VERSION", 3)
    raised = method.version
    monkeypatch.setitem(RECOVERIES._entries, recovery, replace(own, version=own.version + 1))
    both = method.version
    monkeypatch.setitem(GROUPINGS._entries, "component", replace(GROUPINGS["component"], version=1))
    assert len({before, raised, both, method.version}) == 4
    assert other.version == both


def test_a_dense_cell_is_the_plain_evaluation(balancer: Path) -> None:
    controller = agents.load(balancer).controller
    outcome = run_dense(controller, replace(CELL, method=None, sparsity=0.0))
    by_hand = evaluate(controller, "CartPole-v1", reported_seeds(4))
    np.testing.assert_array_equal(outcome.episodes.returns, by_hand.returns)
    assert outcome.plan.sparsity_total == outcome.plan.sparsity_deployed == 0.0
    assert outcome.plan.params_pruned == controller.parameters()
    assert outcome.plan.params_deployed == controller.parameters(deployed=True)
    assert outcome.integrity == 1.0
    assert outcome.plan.macs_deployed == 4 * 12 + 12 * 12 + 12 * 2


@pytest.mark.parametrize(
    "method",
    [
        Method(recovery="reconstruct"),
        Method(allocation="sensitivity", recovery="reconstruct"),
        Method("stock-global", "magnitude", "uniform", "none"),
    ],
)
def test_a_pruned_cell_is_calibrate_prune_evaluate(balancer: Path, method: Method) -> None:
    controller = agents.load(balancer).controller
    cell = replace(CELL, method=method, seed=2)
    calibration = run_calibration(controller, "CartPole-v1", 2)
    scores = None if method.stock else run_scores(controller, calibration, method.importance, 2)
    damage = run_damage(controller, calibration, scores, 2) if scores and cell.measures else None
    outcome = run_pruned(controller, calibration, scores, cell, damage)

    by_hand = prune(controller, method, 0.5, calibrate(controller, "CartPole-v1", 2), seed=2)
    episodes = evaluate(by_hand.controller, "CartPole-v1", reported_seeds(4))
    assert outcome.plan == by_hand.plan
    assert outcome.integrity == by_hand.integrity
    np.testing.assert_array_equal(outcome.episodes.returns, episodes.returns)
    assert {"plan", "surgery", "recovery", "evaluate"} <= outcome.seconds.keys()


def test_a_loop_without_a_function_records_settling_alone(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("ppo", "Pendulum-v1")).controller
    assert run_lyapunov(controller, "Pendulum-v1", 0) is None
    subject = replace(SUBJECT, task="Pendulum-v1")
    dense = replace(CELL, subject=subject, method=None, sparsity=0.0, episodes=1)
    assert run_dense(controller, dense).checks is None
    outcome = run_dense(controller, replace(dense, stability=59), None)
    assert outcome.checks is not None
    assert outcome.checks.unstable.trials == 59
    assert outcome.checks.rising is None
    assert not outcome.checks.holds
    assert outcome.seconds["stability"] > 0


def test_where_an_array_lies_in_memory_does_not_show(balancer: Path) -> None:
    """Workers receive arrays at any byte, and matrix products round differently there."""
    controller = agents.load(balancer).controller
    calibration = run_calibration(controller, "CartPole-v1", 0)
    shifted = replace(calibration, observations=_at_odd_byte(calibration.observations))
    cell = replace(CELL, sparsity=0.7)
    one, other = (run_pruned(controller, data, None, cell) for data in (calibration, shifted))
    assert one.integrity == other.integrity
    np.testing.assert_array_equal(one.episodes.returns, other.episodes.returns)


def test_the_random_reference_is_on_the_same_seeds() -> None:
    by_hand = evaluate_random("CartPole-v1", reported_seeds(5, 3))
    found = run_random(Reference("CartPole-v1", 5, 3))
    assert found.seeds == (3, 4, 5, 6, 7)
    np.testing.assert_array_equal(found.returns, by_hand.returns)


def _at_odd_byte(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    buffer = np.empty(array.nbytes + 64, dtype=np.uint8)
    start = -buffer.ctypes.data % 64 + 4
    moved = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def test_every_published_cell_of_the_reference_keeps_its_key() -> None:
    work = load_work(load_config(REFERENCE / "config.yaml"), trust=False, remark=lambda line: None)
    published = pd.read_parquet(REFERENCE / "results.parquet")["key"]
    assert [cell.key for cell in work.cells] == published.tolist()
