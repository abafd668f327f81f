"""What an error of the actor costs by the critics, and a student that errs where that is little."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import untrained
from gymnasium import spaces
from test_distill import FakeLoop
from test_plan import calibration
from torch import nn

from prunectl.agents import Controller
from prunectl.pruning import Method, PruningError, prune
from prunectl.pruning.recovery import Budget
from prunectl.pruning.recovery.critics import Critics
from prunectl.pruning.recovery.pupil import Lesson, Pupil, error_slopes


def quadratic(inputs: list[torch.Tensor]) -> torch.Tensor:
    curve = torch.tensor([10.0, 1.0, -5.0])
    return -0.5 * (curve * (inputs[-1] - 0.2).square()).sum(1)


def test_the_curvature_of_a_quadratic_value_is_its_own_and_what_rises_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    critics = Critics(flow=None, names=())  # type: ignore[arg-type]
    monkeypatch.setattr(Critics, "value", lambda self, inputs: quadratic(inputs))
    monkeypatch.setattr("prunectl.pruning.recovery.critics.PAIRS", 4_000)
    actions = torch.tensor([[0.2, 0.2, 0.2], [0.9, -0.9, 0.0]])
    found = critics.curvature([torch.zeros(2, 2), torch.zeros(2, 3)], actions)
    torch.testing.assert_close(found, torch.diag(torch.tensor([10.0, 1.0, 0.0])).expand(2, 3, 3), rtol=0.15, atol=0.6)


def test_a_cost_of_one_everywhere_is_the_plain_loss_and_a_dear_direction_counts_more() -> None:
    before = torch.tensor([[0.5, -0.2], [0.1, 0.4]])
    after, wanted, weight = torch.tanh(before), torch.zeros(2, 2), torch.tensor(3.0)
    plain = error_slopes(before, after, wanted, weight)
    same = error_slopes(before, after, wanted, weight, torch.eye(2).expand(2, 2, 2))
    for slope, expected in zip(same, plain, strict=True):
        torch.testing.assert_close(slope, expected)
    dear = torch.diag(torch.tensor([4.0, 0.0])).expand(2, 2, 2)
    matching, squared = error_slopes(before, after, wanted, weight, dear)
    # Means over four numbers: of 4 e^2 in the one direction, and a tenth of what pulls along 4 e.
    torch.testing.assert_close(squared[:, 0], 3 * 2 * 4 * after[:, 0] / 4)
    torch.testing.assert_close(matching[:, 0], 3 * 0.1 * 4 * after[:, 0] / 4)
    assert not squared[:, 1].any()
    assert not matching[:, 1].any()


def test_slopes_are_those_of_the_quadratic_form_whatever_its_axes() -> None:
    torch.manual_seed(0)
    before, wanted, root = torch.randn(6, 3), torch.randn(6, 3), torch.randn(6, 3, 3)
    after, cost = torch.tanh(before).requires_grad_(), root @ root.mT
    error = after - wanted
    (expected,) = torch.autograd.grad(0.7 * torch.einsum("ni,nij,nj->n", error, cost, error).sum() / 18, after)
    torch.testing.assert_close(error_slopes(before, after, wanted, torch.tensor(0.7), cost)[1], expected)


def test_a_student_that_cannot_answer_both_answers_where_an_error_costs() -> None:
    """One hidden unit cannot give two actions that have nothing to do with each other."""
    actor = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))
    controller = Controller.of(
        {"actor": actor},
        lambda of, x: {"actor": of["actor"](x)},
        lambda of, x: of["actor"](x),
        2,
        spaces.Box(-1, 1, (2,)),
    )
    torch.manual_seed(0)
    rows = torch.randn(600, 2)
    errors = []
    for dear in (0, 1):
        student = controller.with_networks(controller.networks)
        pupil = Pupil(student, ["actor"], 0)
        costs = torch.zeros(600, 2, 2)
        costs[:, dear, dear] = 1.0
        pupil.learn(Lesson((rows,), {"actor": rows.clone()}, costs=costs), 600, ["actor"])
        with torch.no_grad():
            errors.append((student.dataflow()(rows)["actor"] - rows).square().mean(0))
    assert errors[0][0] < 0.05 < 0.5 < errors[0][1]
    assert errors[1][1] < 0.05 < 0.5 < errors[1][0]


@pytest.mark.parametrize("algorithm", ["tqc", "td3"])
def test_critics_teach_an_actor_whose_actions_they_judge(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["prunectl.pruning.recovery.distill"]  # the package shows the function under its name
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 1)
    monkeypatch.setattr(module, "ENOUGH", 0.0)
    controller = untrained(algorithm, "Pendulum-v1", widths=(16, 16))
    data, given = calibration(controller, 300), []
    for recovery in ("distill", "distill-critic"):
        found = prune(controller, Method(recovery=recovery), 0.5, data, loop=FakeLoop(), budget=Budget(150))
        given.append(found.controller.act(data.observations))
        assert found.fidelity["actor"] > 0.8
    assert not np.array_equal(*given)


@pytest.mark.parametrize(("algorithm", "task"), [("ppo", "Pendulum-v1"), ("dqn", "CartPole-v1")])
def test_who_has_no_such_critics_is_told(algorithm: str, task: str) -> None:
    controller = untrained(algorithm, task, widths=(8, 8))
    with pytest.raises(PruningError, match=f"'{algorithm}' has none: take 'distill'"):
        prune(controller, Method(recovery="distill-critic"), 0.5, calibration(controller, 100), loop=FakeLoop())
