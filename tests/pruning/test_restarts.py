"""Distillation that begins again where it falls short."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from conftest import untrained
from test_distill import FakeLoop
from test_plan import calibration

from prunectl.agents import Controller
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import validation_seeds
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.pruning import Method, prune
from prunectl.pruning.recovery import Budget, Recovered
from prunectl.pruning.recovery.distill import Taught

AGAIN = Method(recovery="distill-restarts")


@dataclass
class Scaled(FakeLoop):
    """Of which 100 is dense and 20 random."""

    asked: int = 0

    def references(self, dense: Controller) -> tuple[float, float]:
        self.asked += 1
        return 100.0, 20.0


@dataclass
class Teaching:
    """`taught`, whose students return what is written down; what it was called with, and which of them were
    completed."""

    afters: list[float]
    seeds: list[int] = field(default_factory=list)
    told_by_critics: list[bool] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)

    def __call__(self, cut: Any, small: Any, critics: Any) -> Taught[Any]:
        self.seeds.append(cut.seed)
        self.told_by_critics.append(critics is not None)
        cut.told(1.0)
        networks = copy.deepcopy(small.networks)
        networks.number = len(self.seeds)
        student = small.with_networks(networks)
        return Counted(cut, small, student, 0.0, self.afters[len(self.seeds) - 1], (), None, self)


@dataclass(frozen=True)
class Counted(Taught[Any]):
    by: Teaching

    def completed(self) -> Recovered[Any]:
        self.by.completed.append(self.student.networks.number)
        return super().completed()


@pytest.mark.parametrize(
    ("afters", "starts", "best"),
    [
        ([97.7, 0, 0, 0], 1, 1),  # 0.97 of the way from 20 to 100 is 97.6
        ([97.5, 97.6, 0, 0], 2, 2),
        ([50.0, 90.0, 80.0, 70.0], 4, 2),
        ([10.0, 5.0, 10.0, 0.0], 4, 1),
    ],
)
@pytest.mark.parametrize("algorithm", ["td3", "ppo"])
def test_it_begins_again_until_one_student_is_good_enough_and_hands_back_the_best(
    afters: list[float], starts: int, best: int, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, loop, shares = Teaching(afters), Scaled(), list[float]()
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.restarts"], "taught", taught)
    controller = untrained(algorithm, "Pendulum-v1", widths=(8, 8))
    found = prune(controller, AGAIN, 0.5, calibration(controller, 100), seed=3, loop=loop, told=shares.append)
    assert len(taught.seeds) == len(set(taught.seeds)) == starts
    assert taught.seeds[0] == 3
    assert taught.told_by_critics == [algorithm == "td3" and start % 2 == 0 for start in range(starts)]
    assert found.returns == (0.0, afters[best - 1])
    assert found.controller.networks.number == best
    assert taught.completed == [best]  # what does not act learns once
    assert loop.asked == 1
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(("algorithm", "alone"), [("ppo", "distill"), ("td3", "distill-critic")])
def test_with_a_budget_there_is_one_student_that_of_its_first_start(algorithm: str, alone: str) -> None:
    controller = untrained(algorithm, "Pendulum-v1", widths=(8, 8))
    data, budget = calibration(controller, 200), Budget(steps=50)
    one, other = (
        prune(controller, Method(recovery=name), 0.5, data, loop=FakeLoop(), budget=budget)
        for name in (AGAIN.recovery, alone)
    )
    np.testing.assert_array_equal(one.controller.act(data.observations), other.controller.act(data.observations))


def test_references_are_of_the_validation_episodes() -> None:
    dense = untrained("ppo", "CartPole-v1", widths=(8, 8))
    seeds = validation_seeds(30, 2)
    wanted = evaluate(dense, "CartPole-v1", seeds).mean_return, evaluate_random("CartPole-v1", seeds, dense).mean_return
    assert TaskLoop("CartPole-v1", 2).references(dense) == wanted


def test_who_names_no_recovery_begins_again_where_the_grouping_lets_him() -> None:
    low, zeros = ("lowrank", "activation"), ("unstructured",)
    assert Method.asked("component") == AGAIN
    assert Method.asked("stock-global").recovery == AGAIN.recovery
    assert [Method.asked(*names) for names in (low, zeros)] == [Method.of(*names) for names in (low, zeros)]
    assert Method.asked("component", recovery="distill") == Method()
