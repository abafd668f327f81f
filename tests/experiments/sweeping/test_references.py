"""What a controller's returns are held against: random actions in what it needs around it, on the task as it is."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunectl.agents.surroundings import STACK, TIME_FEATURE, Surroundings
from prunectl.experiments.analysis.curves import panels
from prunectl.experiments.episodes.evaluator import evaluate_random
from prunectl.experiments.sweeping.cell import Cell, Work
from prunectl.experiments.sweeping.config import config_of
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.conftest import untrained
from tests.experiments.fakes import subject
from tests.experiments.sweeping.test_records import one_worker
from tests.experiments.sweeping.test_sweep import silent

TASK = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Own(CartPoleEnv):
    pass

gym.register("OwnCartPole-v0", entry_point="own_cartpole:Own", max_episode_steps=20)
"""


def test_what_surrounds_a_controller_surrounds_its_random_actions(tmp_path: Path) -> None:
    plain, light = (untrained("sac", "Pendulum-v1", seed=seed) for seed in (0, 1))
    light = replace(light, surroundings=Surroundings({"g": 1.0}))
    subjects = [replace(subject(name), task="Pendulum-v1", digest=name) for name in ("plain", "light")]
    subjects[1] = replace(subjects[1], surrounded=True)
    cells = tuple(
        Cell(of, method, sparsity, 0, 3, 0, 1)
        for of in subjects
        for method, sparsity in ((None, 0.0), (Method(recovery="none"), 0.5))
    )
    work = Work({"plain": plain, "light": light}, cells, {})
    with one_worker() as client, Store.writing(tmp_path) as store:
        assert len(still_to_do(work, store).references) == 2
        assert run(work, still_to_do(work, store), store, client, lambda cell: None) == []
        assert not still_to_do(work, store)
        held = store.references(store.results())["random"].tolist()
        found = {panel.controller: panel.random for panel in panels(store)}
    wanted = [evaluate_random("Pendulum-v1", (0, 1, 2), of).returns for of in (plain, light)]
    assert held == pytest.approx([wanted[0].mean()] * 2 + [wanted[1].mean()] * 2)
    for name, returns in zip(("plain", "light"), wanted, strict=True):
        np.testing.assert_array_equal(found[name], returns)
    assert not np.array_equal(*wanted)


def test_what_only_shows_more_changes_no_returns() -> None:
    assert not Surroundings({}, ((TIME_FEATURE, {}), (STACK, {"n_stack": 2}))).changes_returns
    assert Surroundings({"g": 1.0}).changes_returns
    assert Surroundings({}, (("rl_zoo3.wrappers.FrameSkip", {"skip": 2}),)).changes_returns


def test_cells_of_a_task_that_was_edited_are_others(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_cartpole.py"

    def work_on(text: str, task: str = "own_cartpole:OwnCartPole-v0") -> Work:
        file.write_text(text)
        entry = {"controller": str(balancer), "task": task}
        said = {"controllers": [entry], "methods": {"recovery": "none"}, "sparsities": 0.3}
        return load_work(config_of(said, "config", allow_plugins=True), trust=False, remark=silent)

    try:
        first, again, edited = (work_on(text) for text in (TASK, TASK, f"{TASK}# another reward\n"))
    finally:
        sys.modules.pop("own_cartpole", None)
    assert [cell.key for cell in first.cells] == [cell.key for cell in again.cells]
    assert not {cell.key for cell in first.cells} & {cell.key for cell in edited.cells}
    assert first.references[0].digest != edited.references[0].digest
    library = work_on(TASK, "CartPole-v1")
    assert library.references[0].digest is None
    assert {cell.subject.digest for cell in library.cells}.isdisjoint({cell.subject.digest for cell in first.cells})
