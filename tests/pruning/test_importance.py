"""Scores against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import untrained, untrained_planner2
from test_trace import Fake, WorldModel
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning import IMPORTANCES, score, trace
from prunectl.pruning.surgeon import eliminate
from tests.experiments.paper.test_paper import tiny_tdmpc


def refit_error(activations: np.ndarray, weights: np.ndarray, kept: list[int]) -> float:
    """Mean squared error of the consumers when only ``kept`` units and a constant may be used, by least squares."""
    target = activations @ weights
    design = np.concatenate([activations[:, kept], np.ones((len(activations), 1))], axis=1)
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    return float(((design @ solution - target) ** 2).sum() / len(target))


def test_the_surgeon_removes_what_brute_force_would() -> None:
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(200, 5)) @ generator.normal(size=(5, 5)) + generator.normal(size=5)
    weights = generator.normal(size=(5, 3))
    order, damage = eliminate([(activations, weights)], ridge=1e-12)
    variance = (activations @ weights).var(axis=0).sum()
    left = list(range(5))
    for step in range(5):
        errors = {unit: refit_error(activations, weights, [u for u in left if u != unit]) for unit in left}
        cheapest = min(errors, key=lambda unit: errors[unit])
        assert order[step] == cheapest
        assert damage[step] * variance == pytest.approx(errors[cheapest], rel=1e-4)
        left.remove(cheapest)


def test_a_unit_that_others_can_stand_in_for_costs_nothing() -> None:
    generator = np.random.default_rng(1)
    activations = generator.normal(size=(300, 4))
    activations[:, 2] = 2 * activations[:, 0] - activations[:, 1] + 5  # large weights, and redundant
    weights = np.array([[1.0], [1.0], [10.0], [0.5]])
    order, damage = eliminate([(activations, weights)], ridge=1e-9)
    assert order[0] in (0, 1, 2)
    assert damage[0] == pytest.approx(0, abs=1e-5)
    assert (np.diff(damage) >= 0).all()
    assert damage[-1] == pytest.approx(1, rel=1e-3)  # with all gone, the mean alone is left


def inputs_for(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, generator=generator), torch.randn(count, 2, generator=generator)


class Linear2(nn.Module):
    """A linear network of one hidden layer: first-order changes are exact in it."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor(observation)}


def test_taylor_is_the_change_of_the_outputs_when_a_unit_is_zeroed() -> None:
    torch.manual_seed(0)
    networks = Linear2()
    controller, inputs = Fake(networks), inputs_for(4000)
    scores = score(controller, trace(controller), "taylor", inputs)["actor/0"]
    with torch.no_grad():
        hidden = networks.actor[0](inputs[0])
        outputs = networks.actor[2](hidden)
        change = hidden[:, :, None] * networks.actor[2].weight.T[None] / outputs.std(dim=0, correction=0)
        expected = change.square().sum(dim=2).mean(dim=0).sqrt()
    np.testing.assert_allclose(scores, (expected / expected.sum()).numpy(), rtol=0.05)


def test_magnitude_and_activation_by_hand() -> None:
    networks = Linear2()
    with torch.no_grad():
        networks.actor[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 2], [0, 0, 0]]))
        networks.actor[0].bias.copy_(torch.tensor([0.0, 1, 0, 3]))
        networks.actor[2].weight.copy_(torch.tensor([[3.0, 0, 1, 0], [4, 2, 0, 0]]))
    controller = Fake(networks)
    graph = trace(controller)
    observations = torch.tensor([[1.0, 1, 1], [-1, -1, -1]])
    inputs = (observations, torch.zeros(2, 2))
    magnitude = score(controller, graph, "magnitude", inputs)["actor/0"]
    expected = np.sqrt([1 + 25, 4 + 1 + 4, 4 + 1, 9])
    np.testing.assert_allclose(magnitude, expected / expected.sum(), rtol=1e-6)
    activation = score(controller, graph, "activation", inputs)["actor/0"]
    expected = np.array([1 * 5, 2 * 2, 2 * 1, 0.0])  # spread of the unit times the norm of what it feeds
    np.testing.assert_allclose(activation, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize(
    "controller",
    [
        Fake(WorldModel()),
        untrained("sac", "Pendulum-v1", encoder=(6, 5)),
        untrained("ppo", "CartPole-v1"),
        untrained("crossq", "Pendulum-v1"),
        tiny_tdmpc(),
        untrained_planner2(),
    ],
    ids=["world model", "shared encoder", "discrete", "normalised", "tdmpc", "tdmpc2"],
)
def test_every_importance_scores_every_unit_and_repeats_itself(importance: str, controller: Controller) -> None:
    graph = trace(controller)
    seen = np.random.default_rng(0).normal(size=(64, *controller.observation_space.shape)).astype(np.float32)
    actions = np.random.default_rng(1).uniform(-1, 1, size=(64, *controller.action_space.shape)).astype(np.float32)
    inputs = controller.inputs(seen, actions)
    weights = {name: tensor.clone() for name, tensor in controller.networks.state_dict().items()}
    first, second = (score(controller, graph, importance, inputs, seed=3) for _ in range(2))
    assert list(first) == list(graph.groups)
    for name, values in first.items():
        assert values.shape == (graph.dense[name],)
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, second[name])
    for name, tensor in controller.networks.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert all(parameter.grad is None for parameter in controller.networks.parameters())


def test_random_scores_follow_their_seed() -> None:
    controller = Fake(Linear2())
    inputs = inputs_for(10)
    one, other = (score(controller, trace(controller), "random", inputs, seed)["actor/0"] for seed in (1, 2))
    assert not np.allclose(one, other)
