"""Distillation that begins again where it falls short."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untrained
from test_distill import FakeLoop
from test_plan import calibration

from prunectl.agents import Controller
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import validation_seeds
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.pruning import Method, PruningError, Schedule, prune
from prunectl.pruning.recovery import Budget, Recovered
from prunectl.pruning.recovery.distill import Taught

AGAIN = Method(recovery="distill-restarts")
CHOSEN = Method("chosen", recovery="distill-restarts")


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
    cuts: list[str] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)

    def __call__(self, cut: Any, small: Any, critics: Any) -> Taught[Any]:
        self.seeds.append(cut.seed)
        self.told_by_critics.append(critics is not None)
        self.cuts.append(cut.grouping)
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


#: Of 17 numbers that Reacher's 11 are followed by here, nothing reads the last six.
def _blind() -> Controller:
    controller = untrained("ppo", "Reacher-v5", widths=(8, 8))
    networks = copy.deepcopy(controller.networks)
    with torch.no_grad():
        for network in (networks.mlp_extractor.policy_net, networks.mlp_extractor.value_net):
            network[0].weight[:, 6:] = 0
    return controller.with_networks(networks)


@pytest.mark.parametrize(
    ("afters", "cuts", "grouping"),
    [
        ([97.6], ["component"], "component"),
        ([0, 97.6], ["component"] * 2, "component"),
        ([0, 1, 97.6], ["component"] * 2 + ["inputs"], "inputs"),
        ([0, 1, 2, 97.6], ["component"] * 2 + ["inputs", "shallow"], "shallow"),
        ([0, 1, 5, 2, 4, 3], ["component"] * 2 + ["inputs", "shallow", "inputs", "inputs"], "inputs"),
        ([5, 1, 2, 3, 4, 0], ["component"] * 2 + ["inputs", "shallow"] + ["component"] * 2, "component"),
        ([0, 1, 2, 3, 4, 5], ["component"] * 2 + ["inputs", "shallow", "shallow", "shallow"], "shallow"),
    ],
)
def test_where_two_students_fall_short_other_cuts_are_tried_and_the_best_goes_on(
    afters: list[float], cuts: list[str], grouping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, shares = Teaching(afters), list[float]()
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.restarts"], "taught", taught)
    dense = _blind()
    data = calibration(dense, 100)
    found = prune(dense, CHOSEN, 0.5, data, seed=3, loop=Scaled(), told=shares.append)
    assert taught.cuts == cuts
    assert len(set(taught.seeds)) == len(afters)
    assert (found.grouping, found.returns) == (grouping, (0.0, max(afters)))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # The plan is that of the cut handed back, as if it alone had been asked for.
    alone = Method(grouping, recovery="none")
    assert found.plan == prune(dense, alone, 0.5, data, seed=3).plan
    assert found.plan.params_pruned == found.controller.parameters()
    assert found.controller.act(data.observations).shape == (100, 2)


def test_what_one_cut_cannot_reach_another_may(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = _blind()
    data, taught = calibration(dense, 100), Teaching([1, 2, 4, 3, 0, 7, 7])
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.restarts"], "taught", taught)
    with pytest.raises(PruningError, match="cannot be met") as refused:
        prune(dense, AGAIN, 0.9, data, loop=Scaled())
    found = prune(dense, CHOSEN, 0.9, data, seed=3, loop=Scaled())
    assert taught.cuts == ["inputs", "inputs", "shallow", "shallow", "shallow"]
    assert (found.grouping, found.returns) == ("shallow", (0.0, 4))
    assert found.plan == prune(dense, Method("shallow", recovery="none"), 0.9, data, seed=3).plan
    # With a budget there is one student, of the first cut that reaches it; and what none reaches is refused as it was.
    within = prune(dense, CHOSEN, 0.9, data, loop=FakeLoop(), budget=Budget(steps=50))
    assert within.grouping == "inputs"
    with pytest.raises(PruningError) as none:
        prune(dense, CHOSEN, 0.99, data, loop=Scaled())
    assert str(none.value) == str(refused.value).replace("0.9 ", "0.99 ")
    with pytest.raises(PruningError, match="cannot be met"):  # several steps are of the one cut
        prune(dense, CHOSEN, 0.9, data, loop=Scaled(), budget=Budget(steps=50), schedule=Schedule(2, "linear"))


def test_where_components_are_coupled_one_ranking_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = untrained("sac", "Pendulum-v1", widths=(16,), encoder=(12,))
    taught, data = Teaching([1, 2, 97.6]), calibration(dense, 100)
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.restarts"], "taught", taught)
    found = prune(dense, CHOSEN, 0.5, data, loop=Scaled())
    assert taught.cuts == ["component", "component", "coupled"]
    assert found.grouping == "coupled"
    assert found.plan == prune(dense, Method("global", recovery="none"), 0.5, data).plan


def test_what_no_other_cut_is_for_gets_the_students_that_it_would_get_without(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = untrained("ppo", "Pendulum-v1", widths=(8,))  # it needs all of its inputs and has one layer
    data, students = calibration(dense, 100), list[list[int]]()
    for method in (AGAIN, CHOSEN):
        taught = Teaching([1, 2, 3, 4])
        monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.restarts"], "taught", taught)
        found = prune(dense, method, 0.5, data, loop=Scaled())
        assert found.grouping == "component"
        students.append(taught.seeds)
    assert students[0] == students[1]


@pytest.mark.parametrize("more", [{"budget": Budget(steps=50)}, {"schedule": Schedule(2, "linear")}])
def test_a_budget_or_several_steps_leave_it_at_the_one_cut(more: dict[str, Any]) -> None:
    dense = _blind()
    data = calibration(dense, 100)
    if "schedule" in more:
        more = {**more, "budget": Budget(steps=50)}
    one, other = (prune(dense, method, 0.5, data, loop=FakeLoop(), **more) for method in (AGAIN, CHOSEN))
    assert one.plan == other.plan
    np.testing.assert_array_equal(one.controller.act(data.observations), other.controller.act(data.observations))


def test_what_is_chosen_among_students_takes_no_other_recovery() -> None:
    with pytest.raises(PruningError, match="'chosen' chooses among students: it takes recovery 'distill-restarts'"):
        Method("chosen", recovery="reconstruct")


def test_references_are_of_the_validation_episodes() -> None:
    dense = untrained("ppo", "CartPole-v1", widths=(8, 8))
    seeds = validation_seeds(30, 2)
    wanted = evaluate(dense, "CartPole-v1", seeds).mean_return, evaluate_random("CartPole-v1", seeds, dense).mean_return
    assert TaskLoop("CartPole-v1", 2).references(dense) == wanted


def test_who_names_nothing_begins_again_with_other_cuts_where_the_grouping_lets_him() -> None:
    low, zeros = ("lowrank", "activation"), ("unstructured",)
    assert Method.asked() == Method.asked(recovery=AGAIN.recovery) == CHOSEN
    assert Method.asked(recovery="reconstruct") == Method(recovery="reconstruct")
    assert Method.asked("component") == AGAIN
    assert Method.asked("stock-global").recovery == AGAIN.recovery
    assert [Method.asked(*names) for names in (low, zeros)] == [Method.of(*names) for names in (low, zeros)]
    assert Method.asked("component", recovery="distill") == Method()
