"""Low rank: every linear layer as two thin ones, met in parameters, refitted and taught within its rank."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import untrained
from test_distill import FakeLoop
from test_plan import calibration
from torch import nn

from prunectl.agents import Controller
from prunectl.pruning import Ask, Method, PruningError, Schedule, prune, trace
from prunectl.pruning.layers.factored import Factored
from prunectl.pruning.lowrank import lowrank
from prunectl.pruning.recovery import Budget
from prunectl.pruning.recovery.reconstruct import of_rank, ridge


def chain(*widths: int) -> Controller:
    """Linear layers one after another, nothing between."""
    torch.manual_seed(0)
    layers = [nn.Linear(*pair) for pair in pairwise(widths)]
    actor = {"actor": nn.Sequential(*layers)}
    return Controller.of(actor, lambda of, x: {"actor": of["actor"](x)}, lambda of, x: of["actor"](x), widths[0])


def ranks(controller: Controller) -> list[int]:
    layers = [module for module in controller.components["actor"].module.modules() if isinstance(module, nn.Linear)]
    return [int(np.linalg.matrix_rank(layer.weight.detach().numpy(), tol=1e-5)) for layer in layers]


def test_a_case_worked_by_hand() -> None:
    """Of 8 x 6 weights rank r has 14 r, of 2 x 8 it has 10 r: of 48 + 8 + 16 + 2 = 74 parameters a half are 37, so 37
    have to go. Ranks 1 and 2 leave 14 + 16, which is 40 with the biases; nothing else but rank 1 of both is less."""
    controller = chain(6, 8, 2)
    first = controller.networks.get_submodule("actor.0")
    assert isinstance(first, nn.Linear)
    graph, data = trace(controller), calibration(controller)
    small, plan = lowrank(controller, graph, controller.inputs(data.observations, data.actions), Ask(0.45))
    (component,) = plan.components.values()
    assert (component.params_dense, component.params_pruned) == (74, 40)
    assert small.components["actor"].parameters == 40
    assert plan.macs_deployed == 14 + 16
    left, values, right = np.linalg.svd(first.weight.detach().numpy())
    weight = small.networks.get_submodule("actor.0").weight
    assert isinstance(weight, torch.Tensor)
    np.testing.assert_allclose(weight.detach(), values[0] * np.outer(left[:, 0], right[0]), atol=1e-5)
    assert type(small.networks.get_submodule("actor.1")) is nn.Linear  # its factors would be no fewer numbers
    with pytest.raises(PruningError, match=r"0\.9 cannot be met: every linear layer of rank 1, .* reaches 0\.5405 at"):
        prune(controller, Method.of("lowrank", recovery="none"), 0.9, data)


def test_the_least_energy_for_its_weights_goes_first() -> None:
    controller = chain(16, 16, 16, 1)
    with torch.no_grad():
        for name, falling in (("actor.0", 0.9), ("actor.1", 0.3)):
            values = torch.diag(falling ** torch.arange(16.0))
            controller.networks.get_submodule(name).weight.copy_(values)  # type: ignore[operator, union-attr]
    graph, data = trace(controller), calibration(controller)
    inputs = controller.inputs(data.observations, data.actions)
    small, _ = lowrank(controller, graph, inputs, Ask(0.4))
    found = [getattr(small.networks.get_submodule(f"actor.{place}"), "rank", None) for place in range(3)]
    assert found[1] is not None
    assert found[0] is None or found[0] > 2 * found[1]
    # On data that never leaves one direction no layer needs another, which the weights alone do not show.
    seen = inputs[0][:, :1] * torch.arange(1.0, 17.0)
    with torch.no_grad():
        wanted, by_data, by_weights = (
            one.dataflow()(seen)["actor"]
            for one in (
                controller,
                *(lowrank(controller, graph, (seen,), Ask(0.75), name)[0] for name in ("activation", "magnitude")),
            )
        )
    torch.testing.assert_close(by_data, wanted, atol=1e-3, rtol=1e-3)
    assert float((by_weights - wanted).abs().max()) > 0.1


def test_reduced_rank_regression_finds_what_was_there_and_beats_the_truncated_solution() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 12)) * np.geomspace(1, 0.01, 12)
    true = generator.normal(size=(12, 2)) @ generator.normal(size=(2, 9))
    rows = generator.uniform(0.5, 2, size=(400, 1))
    targets = inputs @ true + 3.0
    weight, bias = of_rank(2, *ridge(inputs, targets, rows, 1e-9), inputs)
    np.testing.assert_allclose(inputs @ weight + bias, targets, atol=1e-4)
    full = generator.normal(size=(12, 9))
    targets = inputs @ full - 1.0
    solution, offset = ridge(inputs, targets, rows, 1e-9)
    weight, bias = of_rank(3, solution, offset, inputs)
    assert np.linalg.matrix_rank(weight) == 3
    left, values, right = np.linalg.svd(solution, full_matrices=False)
    truncated = (left[:, :3] * values[:3]) @ right[:3]

    def error(of: np.ndarray) -> float:  # type: ignore[type-arg]
        missed = inputs @ (of - full)
        return float(((missed - missed.mean(axis=0)) ** 2).sum())

    assert error(weight) < 0.5 * error(truncated)


@pytest.mark.parametrize("family", [("sac", "Pendulum-v1"), ("td3", "Pendulum-v1"), ("ppo", "CartPole-v1")])
def test_it_is_a_method_like_any_other(family: tuple[str, str]) -> None:
    controller = untrained(*family, widths=(48, 48), **({} if family[0] == "ppo" else {"encoder": (24, 16)}))
    data = calibration(controller)
    bare, refitted = (
        prune(controller, Method("lowrank", "activation", recovery=name), {"deployed": 0.7}, data)
        for name in ("none", "reconstruct")
    )
    assert bare.plan.sparsity_deployed == refitted.plan.sparsity_deployed == pytest.approx(0.7, abs=0.04)
    assert refitted.fidelity["actor"] > max(bare.fidelity["actor"], 0.5)
    assert not any(isinstance(module, Factored) for module in refitted.controller.networks.modules())
    before, after = (one.networks.state_dict() for one in (controller, refitted.controller))
    assert {name: tensor.shape for name, tensor in before.items()} == {n: t.shape for n, t in after.items()}
    graph = trace(controller)
    for online, target in graph.mirrors.items():
        for name in after:
            if name.startswith(online) and (twin := target + name.removeprefix(online)) in after:
                assert torch.equal(after[name], after[twin])


def test_what_is_taught_keeps_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.distill"], "OFF_STAGE_BATCHES", 20)
    controller = untrained("sac", "Pendulum-v1", widths=(24, 24))
    data = calibration(controller)
    bare, taught = (
        prune(controller, Method.of("lowrank", recovery=name), 0.7, data, loop=FakeLoop(), budget=budget)
        for name, budget in (("reconstruct", None), ("distill", Budget(steps=300)))
    )
    assert ranks(taught.controller) == ranks(bare.controller)
    assert ranks(taught.controller)[1] < 12
    assert taught.fidelity["actor"] > max(bare.fidelity["actor"], 0.8)


def test_what_it_cannot_be_asked_is_one_line() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(16, 16), encoder=(8,))
    data, method = calibration(controller), Method.of("lowrank", recovery="none")
    assert Method.of("lowrank").label == "lowrank + distill"
    assert Method.of("lowrank", "activation", recovery="none").label == "lowrank + activation"
    with pytest.raises(PruningError, match="takes recovery 'none', 'reconstruct' or 'distill', not 'finetune'"):
        Method("lowrank", "magnitude", recovery="finetune")
    with pytest.raises(PruningError, match="takes importance 'magnitude' or 'activation' and allocation"):
        Method("lowrank", "surgeon")
    with pytest.raises(PruningError, match="removes no unit, so none of 'encoder->actor"):
        prune(controller, method, {"flow": 0.5}, data)
    with pytest.raises(PruningError, match="removes no unit, so 2 steps come to what one does"):
        prune(controller, method, 0.5, data, schedule=Schedule(2))
