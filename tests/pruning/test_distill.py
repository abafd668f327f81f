"""Distillation: the loss, the lessons, who is kept, and what else changes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from conftest import untrained
from gymnasium import spaces
from test_plan import calibration
from test_trace import Fake, WorldModel

from prunectl.agents.choices import Choice
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.pruning import Calibration, Method, Pruned, PruningError, PruningPlan, apply, prune, trace
from prunectl.pruning.fidelity import fidelities
from prunectl.pruning.plan import describe, uncut
from prunectl.pruning.recovery import Budget, Progress, Recovered, Visit, distill, redrawn
from prunectl.pruning.recovery.contract import Cut
from prunectl.pruning.recovery.pupil import (
    Lesson,
    Pupil,
    choice_loss,
    error_slopes,
    lesson,
    outputs_of,
    products_called,
    temperature,
)

C = TypeVar("C", bound=Controller)

#: The package shows the function under the module's name.
module = sys.modules["prunectl.pruning.recovery.distill"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 400)
    monkeypatch.setattr(module, "ENOUGH", 0.0)


@dataclass
class FakeLoop:
    """A loop without a task: observations at random, each visit returns more, validation prefers one or the other."""

    given: float = -1.0
    visited: list[int] = field(default_factory=list)
    validated: int = 0
    tuned: list[tuple[Any, Budget | None]] = field(default_factory=list)

    def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
        self.visited.append(number)
        data = calibration(controller, 200)
        return Visit(data.observations, data.actions, float(number))

    def validate(self, controller: Controller) -> float:
        self.validated += 1
        return self.given if self.validated == 1 else 1.0

    def finetune(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        self.tuned.append((controller, budget))
        return Recovered(controller, 1.0, 2.0)


def cut_of(
    small: Controller, dense: Controller, plan: PruningPlan, data: Calibration, budget: Budget
) -> Cut[Controller]:
    inputs = dense.inputs(data.observations, data.actions)
    seen = data.observations, data.actions
    return Cut(
        small, dense, dense, trace(dense), plan, inputs, *seen, 0, FakeLoop(), budget, lambda share: None, "component"
    )


def halved(controller: SB3Controller, **options: object) -> tuple[Pruned[SB3Controller], FakeLoop]:
    loop = FakeLoop(**options)  # type: ignore[arg-type]
    method = Method(recovery="distill")
    data = calibration(controller, 300)
    return prune(controller, method, 0.5, data, loop=loop, budget=Budget(steps=300)), loop


def test_the_loss_pulls_a_row_back_from_beyond_a_bound_and_asks_nothing_of_one_that_belongs_there() -> None:
    before = torch.tensor([[3.0], [3.0], [0.25]], requires_grad=True)
    after = before.clamp(-1, 1)
    wanted = torch.tensor([[0.5], [1.0], [0.25]])
    slopes = error_slopes(before, after, wanted, torch.tensor(1.0))
    (slope,) = torch.autograd.grad([before, after], before, slopes)
    # Beyond the bound the squared error has no gradient; a tenth of the error, over three rows, is the matching loss's.
    np.testing.assert_allclose(slope.squeeze(), [0.1 * 0.5 / 3, 0.0, 0.0], atol=1e-7)


def test_the_loss_of_a_choice_is_least_where_the_chances_are_the_same() -> None:
    wanted = torch.tensor([[2.0, 0.0, -1.0]])
    shifted = (wanted + 5).requires_grad_()
    choice_loss(shifted, wanted).backward()  # type: ignore[no-untyped-call]
    assert shifted.grad is not None
    np.testing.assert_allclose(shifted.grad, 0, atol=1e-6)
    assert choice_loss(torch.zeros(1, 3), wanted) > choice_loss(wanted, wanted)


def test_a_lesson_holds_the_dense_answers_of_the_units_that_are_left() -> None:
    teacher = Fake(WorldModel())
    graph = trace(teacher)
    (flow,) = graph.flows
    kept = {name: tuple(range(1, units)) for name, units in graph.dense.items()}
    plan = describe(graph, kept, 0.1)
    data = calibration(teacher, 20)
    inputs = teacher.inputs(data.observations, data.actions)
    taught = lesson(teacher, graph, plan, inputs, list(graph.components))
    dense = teacher.dataflow()(*inputs)
    for name, answer in taught.answers.items():
        writes_flow = any(graph.layer_component[layer] == name for layer in graph.groups[flow].producers)
        torch.testing.assert_close(answer, dense[name][:, 1:] if writes_flow else dense[name])
    student = apply(plan, teacher, graph)
    results = outputs_of(student.dataflow(), list(graph.components))(*taught.inputs)
    assert {name: after.shape for name, (_, after) in results.items()} == {
        name: answer.shape for name, answer in taught.answers.items()
    }
    assert len(taught.inputs[0]) * 2 == len((taught + taught).inputs[0])


def test_only_what_an_output_is_made_of_is_computed_and_its_value_before_the_squashing_is_given() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(8, 8))
    flow = outputs_of(controller.dataflow(), ["actor"])
    assert all(path.startswith("actor") for path in products_called(flow))
    assert not any("spread" in path for path in products_called(flow))  # the exploration head shapes no output
    data = calibration(controller, 10)
    before, after = flow(*controller.inputs(data.observations, data.actions))["actor"]
    torch.testing.assert_close(torch.tanh(before), after)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "ppo", "crossq"])
def test_a_student_answers_as_its_teacher_does_in_every_component(algorithm: str) -> None:
    controller = untrained(algorithm, "Pendulum-v1", widths=(24, 24))
    before = {name: value.clone() for name, value in controller.networks.state_dict().items()}
    graph, data = trace(controller), calibration(controller, 300)
    inputs = controller.inputs(data.observations, data.actions)
    given = prune(controller, Method(recovery="none"), 0.8, data)
    copy = {name: value.clone() for name, value in given.controller.networks.state_dict().items()}
    recovered = distill(cut_of(given.controller, controller, given.plan, data, Budget(400)), given.controller)
    was, now = (fidelities(c, controller, graph, given.plan, inputs) for c in (given.controller, recovered.controller))
    for name in was:
        assert now[name] > max(0.9, was[name]), name
    for network, state in ((controller.networks, before), (given.controller.networks, copy)):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    trainable = [parameter.requires_grad for parameter in recovered.controller.networks.parameters()]
    assert trainable == [parameter.requires_grad for parameter in given.controller.networks.parameters()]


def test_only_components_that_answer_otherwise_are_taught_and_what_they_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    teacher = Fake(WorldModel())
    graph, data = trace(teacher), calibration(teacher, 300)
    small = apply(uncut(graph), teacher, graph)
    with torch.no_grad():
        small.components["actor"].module[2].weight.mul_(0.5)
        small.components["reward"].module[3].weight.mul_(0.999)  # not as it was, and nearly enough
    given = {name: value.clone() for name, value in small.networks.state_dict().items()}
    monkeypatch.setattr(module, "ENOUGH", 1e-3)
    monkeypatch.setattr(module, "BATCHES", 200)
    taught = distill(cut_of(small, teacher, uncut(graph), data, Budget(200)), small).controller
    changed = {name.split(".")[0] for name, v in taught.networks.state_dict().items() if not v.equal(given[name])}
    assert changed == {"encoder", "actor"}


def test_a_choice_is_learned_from_the_dense_controllers_chances() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(24, 24))
    data = calibration(controller, 400)
    none = prune(controller, Method(recovery="none"), 0.8, data)
    distilled = prune(controller, Method(recovery="distill"), 0.8, data, loop=FakeLoop(), budget=Budget(600))
    wanted = controller.act(data.observations)
    agree = [(pruned.controller.act(data.observations) == wanted).mean() for pruned in (none, distilled)]
    assert agree[1] > max(agree[0], 0.9)


def test_values_are_learned_and_so_is_which_of_them_is_greedy() -> None:
    controller = untrained("qrdqn", "CartPole-v1", widths=(16, 16), policy_kwargs={"n_quantiles": 5})
    data = calibration(controller, 300)
    none = prune(controller, Method(recovery="none"), 0.6, data)
    distilled = prune(controller, Method(recovery="distill"), 0.6, data, loop=FakeLoop(), budget=Budget(300))
    wanted = controller.act(data.observations)
    assert 0.1 < wanted.mean() < 0.9
    agree = [(pruned.controller.act(data.observations) == wanted).mean() for pruned in (none, distilled)]
    assert agree[1] > max(agree[0], 0.95)
    assert distilled.fidelity["q"] > max(none.fidelity["q"], 0.8)


def test_values_are_compared_at_a_tenth_of_their_usual_spread_between_options() -> None:
    choice = Choice(spaces.Discrete(2), valued=True)
    # Two estimates of two values: (1, 5) and (3, 5) are (2, 5), (0, 4) and (0, 0) are (0, 2): 1.5 and 1 about the mean.
    estimates = torch.tensor([[1.0, 5.0, 3.0, 5.0], [0.0, 4.0, 0.0, 0.0]])
    (values,) = choice.logits(estimates)
    assert values.tolist() == [[2, 5], [0, 2]]
    assert temperature(choice, estimates) == pytest.approx(0.1 * 1.25)
    assert temperature(Choice(spaces.Discrete(4)), estimates) == 1


def test_what_validates_worse_is_not_handed_back() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(16, 16))
    data = calibration(controller, 300)
    reconstructed = prune(controller, Method(recovery="reconstruct"), 0.5, data).controller
    kept, loop = halved(controller, given=2.0)
    assert kept.returns == (2.0, 2.0)
    np.testing.assert_array_equal(kept.controller.act(data.observations), reconstructed.act(data.observations))
    taken, _ = halved(controller, given=0.5)
    assert taken.returns == (0.5, 1.0)
    assert not np.array_equal(taken.controller.act(data.observations), reconstructed.act(data.observations))
    assert loop.validated == 2  # the one given and the one student of a single round


def test_the_exploration_head_is_refitted_to_the_new_units() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 24))
    data = calibration(controller, 300)

    def spread(c: SB3Controller) -> torch.Tensor:
        actor = c.policy_networks.actor
        assert isinstance(actor, torch.nn.Module)
        seen = c.inputs(data.observations, data.actions)[0]
        with torch.no_grad():
            return actor.log_std(actor.latent_pi(seen))  # type: ignore[operator,no-any-return]

    pruned, _ = halved(controller)
    wanted = spread(controller)
    assert (spread(pruned.controller) - wanted).square().mean() < 0.05 * wanted.var()


def test_the_same_seed_gives_the_same_student_and_the_budget_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(12, 12))
    data = calibration(controller, 200)
    monkeypatch.setattr(module, "BATCHES", 40)
    batches: list[int] = []
    learn = Pupil.learn

    def counted(self: Pupil, taught: Lesson, count: int, names: Collection[str]) -> None:
        batches.append(count)
        learn(self, taught, count, names)

    monkeypatch.setattr(Pupil, "learn", counted)

    def student(seed: int, budget: Budget) -> tuple[np.ndarray, FakeLoop]:
        loop = FakeLoop()
        told: list[float] = []
        method = Method(recovery="distill")
        pruned = prune(controller, method, 0.5, data, seed=seed, loop=loop, budget=budget, told=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
        return pruned.controller.act(data.observations), loop

    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 1)
    one, loop = student(0, Budget(steps=100))
    assert batches == [40, 40, 20, 1]
    assert loop.visited == [0, 1, 2, 3]
    assert loop.validated == 4  # three finalists and the one given
    same, _ = student(0, Budget(steps=100))
    other, _ = student(1, Budget(steps=100))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    _, loop = student(0, Budget(seconds=1e-6))
    assert loop.visited == [0, 1]
    batches.clear()
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 50)
    student(0, Budget(steps=30))
    student(0, Budget(steps=60))
    assert batches == [30, 30, 40, 20, 50]  # what does not act takes no more than what acts may


def test_a_student_that_answers_as_its_teacher_wherever_it_goes_is_taught_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(16, 16))
    _, loop = halved(controller)
    assert loop.visited == [0, 1]
    monkeypatch.setattr(module, "ENOUGH", 1.0)
    pruned, loop = halved(controller)
    assert (loop.visited, loop.validated) == ([0], 1)
    data = calibration(controller)
    reconstructed = prune(controller, Method(recovery="reconstruct"), 0.5, calibration(controller, 300)).controller
    np.testing.assert_array_equal(pruned.controller.act(data.observations), reconstructed.act(data.observations))


def test_critics_are_asked_about_visited_perturbed_and_random_actions() -> None:
    space = spaces.Box(-2, 2, (1,))
    taken = np.full((3_000, 1), 0.5, dtype=np.float32)
    asked = module._asked(taken, space, np.random.default_rng(0))
    as_taken = (asked == taken).mean()
    assert 0.3 < as_taken < 0.37
    assert space.low.min() <= asked.min() < -1.8
    moved = np.abs(asked[asked != taken] - 0.5)
    assert 0.4 < np.median(moved) < 1.2  # noise of 0.6 for one half, anything for the other
    assert asked.dtype == taken.dtype
    np.testing.assert_array_equal(module._asked(np.ones(5), spaces.Discrete(2), np.random.default_rng(0)), np.ones(5))


def test_a_student_that_learns_itself_to_pieces_is_dropped() -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(12, 12))
    data = calibration(controller, 200)

    class Failing(FakeLoop):
        def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
            if number == 2:
                raise ControllerError("the controller's action is not a number")
            return super().visit(controller, number)

    loop = Failing()
    pruned = prune(controller, Method(recovery="distill"), 0.5, data, loop=loop, budget=Budget(10**6))
    assert loop.visited == [0, 1]
    assert loop.validated == 2  # what was given, and the one student that drove
    assert pruned.returns == (-1.0, 1.0)


def test_scratch_inherits_the_widths_and_nothing_else() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(16, 16))
    data = calibration(controller, 200)
    drawn, again, other = (redrawn(controller, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(drawn.act(data.observations), again.act(data.observations), rtol=0, atol=0)
    assert not np.allclose(drawn.act(data.observations), other.act(data.observations))
    for name, value in drawn.networks.state_dict().items():
        if name.startswith("actor."):
            assert not torch.equal(value, controller.networks.state_dict()[name]), name
    scratch = prune(controller, Method(recovery="scratch"), 0.5, data, loop=FakeLoop(), budget=Budget(300))
    inherited = prune(controller, Method(recovery="reconstruct"), 0.5, data)
    assert scratch.plan == inherited.plan
    assert scratch.fidelity["actor"] > 0.9


def test_fine_tuning_begins_with_what_is_reconstructed() -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(16, 16))
    data, loop = calibration(controller), FakeLoop()
    pruned = prune(controller, Method(recovery="finetune"), 0.5, data, loop=loop, budget=Budget(7))
    ((given, budget),) = loop.tuned
    reconstructed = prune(controller, Method(recovery="reconstruct"), 0.5, data).controller
    np.testing.assert_array_equal(given.act(data.observations), reconstructed.act(data.observations))
    assert budget == Budget(7)
    assert pruned.returns == (1.0, 2.0)


@pytest.mark.parametrize("limits", [{}, {"steps": 0}, {"seconds": float("inf")}, {"seconds": -1.0}])
def test_a_budget_has_an_end(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Budget(**limits)


@pytest.mark.parametrize(
    ("parameters", "components", "batches"),
    [(500, 1, 24_000), (10_000, 1, 24_000), (40_000, 1, 12_000), (40_000, 4, 6_000), (10**9, 1, 2_000)],
)
def test_students_that_are_wide_or_of_many_components_are_taught_for_less(
    parameters: int, components: int, batches: int
) -> None:
    assert module._batches(parameters, components) == batches


def test_a_recovery_that_looks_at_the_task_needs_one() -> None:
    controller = untrained("ppo", "Pendulum-v1")
    with pytest.raises(PruningError, match="needs the control task"):
        prune(controller, Method(recovery="distill"), 0.5, calibration(controller))


class Scripted(FakeLoop):
    """Visits return what they are told to, and who was visited and who was validated is kept."""

    def __init__(self, returns: list[float]) -> None:
        super().__init__()
        self.returns = returns
        self.seen: list[torch.Tensor] = []
        self.finalists: list[torch.Tensor] = []

    def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
        self.seen.append(weights_of(controller))
        return dataclasses.replace(super().visit(controller, number), mean_return=self.returns[number])

    def validate(self, controller: Controller) -> float:
        self.finalists.append(weights_of(controller))
        return super().validate(controller)


def weights_of(controller: Controller) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in controller.components["actor"].module.parameters()]).clone()


def test_the_students_that_returned_most_are_the_finalists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCHES", 5)
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 1)
    controller = untrained("ppo", "Pendulum-v1", widths=(12, 12))
    data = calibration(controller, 100)
    # The first visit is of what was given, which takes part anyway.
    loop = Scripted([99.0, 1.0, 9.0, 3.0, 8.0, 2.0, 7.0])
    prune(controller, Method(recovery="distill"), 0.5, data, loop=loop, budget=Budget(steps=30))
    assert len(loop.seen) == 7
    given, *chosen = loop.finalists
    torch.testing.assert_close(given, loop.seen[0], rtol=0, atol=0)
    assert len(chosen) == 3
    for state, visit in zip(chosen, (2, 4, 6), strict=True):
        torch.testing.assert_close(state, loop.seen[visit], rtol=0, atol=0)


class Effort(torch.nn.Module):
    """A cost that is known: a formula of the action."""

    def forward(self, action: torch.Tensor) -> torch.Tensor:
        return action.square().sum(1, keepdim=True)


@pytest.mark.parametrize("recovery", ["reconstruct", "distill", "distill-int8"])
def test_a_component_that_is_a_formula_has_nothing_to_learn(recovery: str) -> None:
    torch.manual_seed(0)
    actor = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

    def flow(of: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
        action = of["actor"](x)
        return {"actor": action, "cost": of["cost"](action)}

    components = {"actor": actor, "cost": Effort()}
    controller = Controller.of(components, flow, lambda of, x: of["actor"](x), 3, spaces.Box(-1, 1, (2,)))
    data = calibration(controller, 300)
    given = {"loop": FakeLoop(), "budget": Budget(steps=200)} if recovery != "reconstruct" else {}
    found = prune(controller, Method(recovery=recovery), 0.5, data, **given)  # type: ignore[arg-type]
    assert min(found.fidelity.values()) > 0.9
