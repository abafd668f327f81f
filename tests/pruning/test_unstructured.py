"""The unstructured reference: exactly the smallest weights become zero, everywhere at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import untrained
from test_plan import calibration
from torch import nn

from prunectl.agents.controller import Component
from prunectl.pruning import Ask, Method, PruningError, PruningPlan, plan_for, prune, trace
from prunectl.pruning.unstructured import unstructured


def matrices(component: Component) -> list[torch.Tensor]:
    return [module.weight for module in component.module.modules() if isinstance(module, nn.Linear)]


def test_a_case_worked_by_hand() -> None:
    # Actor 3-2-1 and two critics 4-2-1: 8 + 10 + 10 weights and 9 biases, 37 parameters.
    controller = untrained("td3", "Pendulum-v1", widths=(2,))
    magnitudes = torch.randperm(28, generator=torch.Generator().manual_seed(0)) + 1.0
    drawn = iter(magnitudes * torch.where(torch.arange(28) % 2 == 0, 1.0, -1.0))
    with torch.no_grad():
        for component in controller.components.values():
            for weight in matrices(component):
                weight.copy_(torch.tensor([next(drawn) for _ in range(weight.numel())]).view(weight.shape))
        for parameter in controller.networks.actor_target.parameters():  # type: ignore[union-attr]
            parameter.fill_(100.0)
    before = {name: tensor.clone() for name, tensor in controller.networks.state_dict().items()}
    small, plan = unstructured(controller, trace(controller), (), Ask(10 / 37))
    for name, component in small.components.items():
        lost = 0
        for dense, left in zip(matrices(controller.components[name]), matrices(component), strict=True):
            assert torch.equal(left, torch.where(dense.abs() <= 10, 0.0, dense))
            lost += int((left == 0).sum())
        assert plan.components[name].params_pruned == plan.components[name].params_dense - lost
    assert plan.params_pruned == 27
    # The target network loses the same weights, and keeps its own values elsewhere.
    after = small.networks.state_dict()
    for name in [name for name in after if name.startswith("actor.")]:
        wanted = torch.where(after[name] == 0, 0.0, 100.0) if name.endswith("weight") else torch.tensor(100.0)
        assert torch.equal(after[name.replace("actor.", "actor_target.")], wanted.expand(after[name].shape))
    # The dense controller is untouched.
    assert all(torch.equal(before[name], tensor) for name, tensor in controller.networks.state_dict().items())


@pytest.mark.parametrize(
    ("algorithm", "task", "settings"),
    [
        ("sac", "Pendulum-v1", {"use_sde": True}),
        ("crossq", "Pendulum-v1", {}),
        ("sac", "Pendulum-v1", {"encoder": (12, 12)}),
        ("ppo", "CartPole-v1", {}),
    ],
)
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.75])
def test_the_sparsity_is_met_exactly(algorithm: str, task: str, settings: dict, sparsity: float) -> None:  # type: ignore[type-arg]
    controller = untrained(algorithm, task, widths=(24, 24), **settings)
    graph = trace(controller)
    small, plan = unstructured(controller, graph, (), Ask(sparsity))
    assert plan.params_dense - plan.params_pruned == round(sparsity * plan.params_dense)
    assert plan.macs_deployed == graph.deployed_macs(graph.dense)
    assert plan.widths == graph.dense
    assert PruningPlan.from_json(plan.to_json()) == plan
    zeros = sum(int((w == 0).sum()) for component in small.components.values() for w in matrices(component))
    assert zeros == round(sparsity * plan.params_dense)
    assert set(small.networks.state_dict()) == set(controller.networks.state_dict())
    assert all(parameter.is_leaf for parameter in small.networks.parameters())


def test_more_zeros_than_weights_are_refused() -> None:
    controller = untrained("td3", "Pendulum-v1", widths=(2,))
    with pytest.raises(PruningError, match=r"biases apart, reach 0\.7567 at most"):
        unstructured(controller, trace(controller), (), Ask(0.8))


def test_it_is_a_method_like_any_other_but_takes_no_recovery() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(16, 16))
    data, method = calibration(controller), Method("unstructured", "magnitude", "uniform", "none")
    pruned = prune(controller, method, 0.5, data)
    assert pruned.plan.sparsity_total == pytest.approx(0.5, abs=1e-3)
    assert pruned.plan.widths == trace(controller).dense
    assert not np.array_equal(pruned.controller.act(data.observations), controller.act(data.observations))
    assert method.label == "unstructured"
    with pytest.raises(PruningError, match="removes no unit, so none of 'encoder->actor"):
        prune(untrained("sac", "Pendulum-v1", widths=(16, 16), encoder=(8,)), method, {"flow": 0.5}, data)
    with pytest.raises(PruningError, match="takes recovery 'none'"):
        Method("unstructured", "magnitude", "uniform", "reconstruct")
    with pytest.raises(PruningError, match="removes no unit"):
        plan_for(controller, trace(controller), method, 0.5, controller.inputs(data.observations, data.actions))
