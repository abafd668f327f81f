"""Distillation of controllers with a memory: along episodes, from the states that the student brings itself to."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from conftest import untrained
from torch import Tensor, fx, nn

from prunectl.agents.sb3.controller import SB3Controller
from prunectl.pruning import Calibration, Method, prune
from prunectl.pruning.layers import carried_along
from prunectl.pruning.plan import PruningPlan, uncut
from prunectl.pruning.recovery import Budget, Visit
from prunectl.pruning.recovery import sequences as module
from prunectl.pruning.recovery.pupil import Lesson, Pupil, lesson, outputs_of
from prunectl.pruning.recovery.sequences import Memories, Windows
from prunectl.pruning.tracing import calls, trace


class Steps(nn.Module):
    """One step of an LSTM a row."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, rows: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, (hidden, cell) = self.lstm(rows.unsqueeze(0), (hidden.transpose(0, 1), cell.transpose(0, 1)))
        return output.squeeze(0), hidden.transpose(0, 1), cell.transpose(0, 1)


@pytest.mark.parametrize(("layers", "bias"), [(1, True), (2, False)])
def test_states_carried_along_are_those_of_step_by_step_and_so_are_their_gradients(layers: int, bias: bool) -> None:
    torch.manual_seed(0)
    steps = Steps(nn.LSTM(3, 5, layers, bias))
    flow = fx.GraphModule(steps, calls(steps))
    rows, begin = torch.randn(4, 2, 3), (torch.randn(2, layers, 5), torch.randn(2, layers, 5))
    taken = []
    for number in range(4):
        taken.append(steps(rows[number], *(taken[-1][1:] if taken else begin)))
    one = [torch.cat(parts) for parts in zip(*taken, strict=True)]
    other = carried_along(flow, 4)(rows.flatten(0, 1), *begin)
    gradients = []
    for results in (one, other):
        total = sum((result * torch.arange(result.numel()).view_as(result)).sum() for result in results)
        gradients.append(torch.autograd.grad(total, list(steps.parameters())))  # type: ignore[arg-type]
    torch.testing.assert_close(list(one), list(other))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-3)


def recurrent(seed: int = 0) -> SB3Controller:
    return untrained("recurrent_ppo", "Pendulum-v1", widths=(6,), seed=seed, policy_kwargs={"lstm_hidden_size": 8})


def lived(controller: SB3Controller, lengths: tuple[int, ...]) -> Visit:
    """Episodes at random of these lengths, with the controller's own memory."""
    generator = np.random.default_rng(0)
    rows, actions = [], []
    for length in lengths:
        policy, only = controller.policy((0,)), np.zeros(1, dtype=np.intp)
        for seen in generator.normal(size=(length, 1, 3)).astype(np.float32):
            rows.append(np.concatenate([seen, policy.remembered(only)], axis=1))  # type: ignore[attr-defined]
            actions.append(policy(seen, only))
    first = np.isin(np.arange(sum(lengths)), np.cumsum([0, *lengths]))
    return Visit(np.concatenate(rows), np.concatenate(actions), 0.0, first)


def memories_of(controller: SB3Controller) -> tuple[fx.GraphModule, Memories]:
    flow = outputs_of(controller.dataflow(), ["memory_actor", "actor"])
    carried = {"memory_actor": controller.memories["memory_actor"]}
    return flow, Memories(outputs_of(controller.dataflow(), carried), carried)


def test_a_replay_has_the_states_of_the_episodes_as_they_were() -> None:
    controller = recurrent()
    visit = lived(controller, (1, 7, 3))
    inputs = controller.inputs(visit.observations, visit.actions)
    _, memories = memories_of(controller)
    assert visit.first is not None
    begun = tuple(tensor if place == 0 else torch.full_like(tensor, 9.0) for place, tensor in enumerate(inputs))
    found = memories.replayed(begun, torch.as_tensor(visit.first))
    for place in controller.memories["memory_actor"]:
        torch.testing.assert_close(found[place], inputs[place])
    assert (found[3] == 9).all()  # another memory is not its business


def test_windows_stay_inside_of_episodes_and_come_to_where_these_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAUGHT", 4)
    monkeypatch.setattr(module, "BURN_IN", 3)
    monkeypatch.setattr(module, "ANCHORED", 0)
    controller = recurrent()
    visit = lived(controller, (2, 30, 3, 9))
    assert visit.first is not None
    inputs = controller.inputs(visit.observations, visit.actions)
    flow, memories = memories_of(controller)
    with torch.no_grad():
        wanted = flow(*inputs)["actor"][1]
    windows = Windows(flow, memories, inputs, torch.as_tensor(visit.first))
    seen, generator = set[int](), torch.Generator().manual_seed(0)
    for _ in range(30):
        rows, results = windows.draw(generator)
        torch.testing.assert_close(results["actor"][1].detach(), wanted[rows])
        seen.update(rows.tolist())
    assert seen == set(range(44))


def test_single_steps_are_asked_about_from_the_states_that_are_given() -> None:
    controller = recurrent()
    visit = lived(controller, (20,))
    assert visit.first is not None
    inputs = list(controller.inputs(visit.observations, visit.actions))
    for place in controller.memories["memory_actor"]:
        inputs[place] = torch.randn_like(inputs[place])  # states that no episode came to
    flow, memories = memories_of(controller)
    rows, results = Windows(flow, memories, inputs, torch.as_tensor(visit.first)).draw(torch.Generator())
    with torch.no_grad():
        wanted = flow(*inputs)["memory_actor"][1][rows]
    alike = (results["memory_actor"][1] - wanted).abs().flatten(1).amax(dim=1) < 1e-5
    assert alike[-module.ANCHORED :].all()
    assert not alike[: -module.ANCHORED].any()


def along(teacher: SB3Controller, plan: PruningPlan, visit: Visit) -> Lesson:
    names, inputs = ["memory_actor", "actor"], teacher.inputs(visit.observations, visit.actions)
    answered = lesson(teacher, trace(teacher), plan, inputs, names)
    return dataclasses.replace(answered, first=torch.as_tensor(visit.first))


def test_a_student_learns_along_episodes_from_its_own_states() -> None:
    teacher, student = recurrent(), recurrent(seed=1)
    taught = along(teacher, uncut(trace(teacher)), lived(teacher, (40,) * 8))
    pupil = Pupil(student, list(taught.answers), 0)
    before = pupil.errors(taught)["actor"]
    pupil.learn(taught, 150, list(taught.answers))
    assert pupil.errors(taught)["actor"] < 0.1 * before


def test_distillation_asks_the_loop_for_episodes_and_answers_along_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.distill"], "OFF_STAGE_BATCHES", 40)
    controller = recurrent()
    visit = lived(controller, (40,) * 8)
    data = Calibration(visit.observations, visit.actions, visit.observations[1::4], visit.actions[1::4])

    class Lived:
        visited = 0

        def visit(self, student: SB3Controller, number: int, beside: SB3Controller | None = None) -> Visit:
            assert beside is controller
            self.visited += 1
            return visit

        def validate(self, student: SB3Controller) -> float:
            self.visited += 1
            return float(self.visited)

    cut, taught = (
        prune(controller, Method(recovery=recovery), 0.5, data, loop=Lived(), budget=budget)  # type: ignore[arg-type]
        for recovery, budget in (("none", None), ("distill", Budget(steps=100)))
    )
    wanted = along(controller, taught.plan, visit)
    errors = [Pupil(pruned.controller, list(wanted.answers), 0).errors(wanted)["actor"] for pruned in (cut, taught)]
    assert errors[1] < 0.1 * errors[0]
