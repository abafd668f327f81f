"""Gradient, Fisher and uncertainty against sums by hand, and Torch-Pruning's importances against their formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_importance import Linear2, inputs_for
from test_trace import Fake, WorldModel
from torch import nn

from prunectl.pruning import IMPORTANCES, score, trace
from prunectl.pruning.graph import columns
from prunectl.pruning.output_gradients import fisher_information, gradient_steps


class One(nn.Module):
    """One output, so that the signs of its projection cannot matter: 3 -> 4 -> 1."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 4), between or nn.Identity(), nn.Linear(4, 1))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor(observation)}


class Looped(nn.Module):
    """One output of a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, observation: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.out(torch.tanh(self.core(torch.tanh(self.core(observation)))))}


def gradients(networks: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, list[np.ndarray]]:
    """For each linear layer, row after row, the gradient ``(out, in + 1)`` of the only output over its deviation."""
    output = networks(*inputs)["actor"]
    scaled = output[:, 0] / output.detach().std(correction=0)
    layers = {name: module for name, module in networks.named_modules() if isinstance(module, nn.Linear)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    for row in scaled:
        for name, layer in layers.items():
            weight, bias = torch.autograd.grad(row, [layer.weight, layer.bias], retain_graph=True)
            found[name].append(torch.cat([weight, bias[:, None]], dim=1).double().numpy())
    return found


def parameters(layer: nn.Linear) -> np.ndarray:
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().double().numpy()


def shares(raw: np.ndarray) -> np.ndarray:
    return raw / raw.sum()


@pytest.fixture
def one() -> One:
    torch.manual_seed(3)
    return One(nn.Tanh())


def test_fisher_information_is_the_mean_square_of_every_rows_gradient() -> None:
    torch.manual_seed(0)
    networks, inputs = Looped(), (torch.randn(20, 3),)
    found = fisher_information(networks, inputs, np.random.default_rng(0))
    for layer, rows in gradients(networks, inputs).items():
        # The calls of `core` add up before they are squared.
        np.testing.assert_allclose(found[layer], np.square(rows).mean(axis=0), rtol=1e-4, atol=1e-9)


def test_fisher_information_sums_over_the_outputs() -> None:
    torch.manual_seed(0)
    networks, inputs = Linear2(), inputs_for(4000)
    found = fisher_information(networks, inputs, np.random.default_rng(0))
    with torch.no_grad():
        deviation = networks(*inputs)["actor"].std(dim=0, correction=0)
        moved = (networks.actor[2].weight / deviation[:, None]).square().sum(dim=0)
        expected = moved[:, None] * inputs[0].square().mean(dim=0)
    np.testing.assert_allclose(found["actor.0"][:, :3], expected.numpy(), rtol=0.1)
    np.testing.assert_allclose(found["actor.0"][:, 3], moved.numpy(), rtol=0.1)


def test_an_output_that_never_moves_counts_nothing() -> None:
    torch.manual_seed(0)
    networks, inputs = Linear2(), inputs_for(40)
    with torch.no_grad():
        networks.actor[2].weight[1] = 0
    found = fisher_information(networks, inputs, np.random.default_rng(0))
    assert (found["actor.2"][1] == 0).all()
    assert (found["actor.2"][0] > 0).all()


def test_a_step_is_the_gradient_over_every_so_manieth_row() -> None:
    torch.manual_seed(0)
    networks, inputs = Looped(), (torch.randn(7, 3),)
    found = gradient_steps(networks, inputs, np.random.default_rng(5), steps=3)
    signs = np.random.default_rng(5).choice([-1.0, 1.0], size=(7, 1))[:, 0]
    for layer, rows in gradients(networks, inputs).items():
        steps = [sum(signs[row] * rows[row] for row in range(start, 7, 3)) for start in range(3)]
        np.testing.assert_allclose(found[layer].rows, [(g**2).sum(axis=1) for g in steps], rtol=1e-4)
        np.testing.assert_allclose(found[layer].columns, [(g[:, :-1] ** 2).sum(axis=0) for g in steps], rtol=1e-4)


def test_gradient_fisher_and_uncertainty_by_hand(one: One) -> None:
    inputs = inputs_for(5)
    controller = Fake(one)
    first, last = one.actor[0], one.actor[2]
    into, out = gradients(one, inputs)["actor.0"], gradients(one, inputs)["actor.2"]

    accumulated = sum(np.sqrt((i**2).sum(axis=1) + o[0, :4] ** 2) for i, o in zip(into, out, strict=True))
    found = {name: score(controller, trace(controller), name, inputs) for name in ("gradient", "fisher", "uncertainty")}
    np.testing.assert_allclose(found["gradient"]["actor/0"], shares(accumulated), rtol=1e-4)

    information = [np.square(rows).mean(axis=0) for rows in (into, out)]
    weights = [parameters(first), parameters(last)]
    saliency = [f * w**2 for f, w in zip(information, weights, strict=True)]
    expected = saliency[0].sum(axis=1) + saliency[1][0, :4]
    np.testing.assert_allclose(found["fisher"]["actor/0"], shares(expected), rtol=1e-4)

    signal = [np.abs(w) * np.sqrt(5 * f + 1 / (w**2).mean()) for f, w in zip(information, weights, strict=True)]
    expected = signal[0].sum(axis=1) + signal[1][0, :4]
    np.testing.assert_allclose(found["uncertainty"]["actor/0"], shares(expected), rtol=1e-4)


def test_fisher_does_not_ask_how_a_relu_unit_is_scaled() -> None:
    torch.manual_seed(0)
    networks = One(nn.ReLU())
    doubled = copy.deepcopy(networks)
    with torch.no_grad():
        doubled.actor[0].weight[1] *= 2
        doubled.actor[0].bias[1] *= 2
        doubled.actor[2].weight[:, 1] /= 2
    before, after = (
        {name: score(Fake(n), trace(Fake(n)), name, inputs_for(100))["actor/0"] for name in ("fisher", "gradient")}
        for n in (networks, doubled)
    )
    np.testing.assert_allclose(after["fisher"], before["fisher"], rtol=1e-4)
    assert not np.allclose(after["gradient"], before["gradient"], rtol=1e-2)


def test_a_unit_that_nothing_reads_scores_nothing_but_its_prior(one: One) -> None:
    with torch.no_grad():
        one.actor[2].weight[0, 2] = 0
        one.actor[0].weight[2] = 0  # and writes a constant
        one.actor[0].bias[2] = 0
    controller, inputs = Fake(one), inputs_for(50)
    for name in ("fisher", "uncertainty", "lamp", "hessian"):
        scores = score(controller, trace(controller), name, inputs)["actor/0"]
        assert scores[2] == 0
        assert (np.delete(scores, 2) > 0).all()
    with torch.no_grad():
        one.actor[0].weight[2] = 1.0  # no data can tell of it, its prior can
    assert score(controller, trace(controller), "fisher", inputs)["actor/0"][2] == 0
    assert score(controller, trace(controller), "uncertainty", inputs)["actor/0"][2] > 0


def test_lamp_and_fpgm_by_hand() -> None:
    networks = One()
    with torch.no_grad():
        networks.actor[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 2], [0, 0, 0]]))
        networks.actor[2].weight.copy_(torch.tensor([[3.0, 2, 1, 0]]))
    controller, inputs = Fake(networks), inputs_for(5)
    # Squared norms 10, 8, 5 and 0: each over the sum of those not smaller; biases do not count.
    lamp = score(controller, trace(controller), "lamp", inputs)["actor/0"]
    np.testing.assert_allclose(lamp, [1, 8 / 18, 5 / 23, 0], rtol=1e-6)
    # Summed distances among the rows of squares (1, 0, 0), (0, 4, 0), (0, 0, 4), 0, and among 9, 4, 1, 0.
    into = [17**0.5 * 2 + 1, 17**0.5 + 32**0.5 + 4, 17**0.5 + 32**0.5 + 4, 1 + 4 + 4]
    out = [5 + 8 + 9, 5 + 3 + 4, 8 + 3 + 1, 9 + 4 + 1]
    fpgm = score(controller, trace(controller), "fpgm", inputs)["actor/0"]
    np.testing.assert_allclose(fpgm, shares(np.add(into, out)), rtol=1e-5)


def test_the_librarys_hessian_sees_every_row(one: One) -> None:
    controller, inputs = Fake(one), inputs_for(6)
    rows = gradients(one, inputs)
    into = (np.square(rows["actor.0"]).mean(axis=0) * parameters(one.actor[0]) ** 2)[:, :3].sum(axis=1)
    out = (np.square(rows["actor.2"]).mean(axis=0) * parameters(one.actor[2]) ** 2)[0, :4]
    np.testing.assert_allclose(
        score(controller, trace(controller), "hessian", inputs)["actor/0"], shares(into + out), rtol=1e-4
    )
    assert all(parameter.grad is None for parameter in one.parameters())


@pytest.mark.parametrize("importance", [name for name in IMPORTANCES if name != "random"])
def test_scores_belong_to_their_units_whatever_their_order(importance: str) -> None:
    torch.manual_seed(0)
    networks = WorldModel()
    graph = trace(Fake(networks))
    (latent,) = graph.flows
    inputs = inputs_for(60)
    # Latent units are outputs too, whose random signs would not be shuffled with them.
    random_signs = ("taylor", "gradient", "fisher", "uncertainty", "hessian")
    for name in ("dynamics/0", "reward/0") if importance in random_signs else ("dynamics/0", latent):
        group, order = graph.groups[name], torch.randperm(graph.dense[name])
        shuffled = copy.deepcopy(networks)
        with torch.no_grad():
            for layer in group.producers:
                module = shuffled.get_submodule(layer)
                module.weight.copy_(module.weight[order].clone())
                module.bias.copy_(module.bias[order].clone())
            for layer in group.consumers:
                read = columns(graph.layer_axes[layer][0], name)
                weight = shuffled.get_submodule(layer).weight
                weight[:, read] = weight[:, read][:, order].clone()
        before, after = (score(Fake(n), graph, importance, inputs)[name] for n in (networks, shuffled))
        np.testing.assert_allclose(after, before[order.numpy()], rtol=1e-3, atol=1e-9)


class Aside(One):
    """Beside the actor, two layers whose result nothing uses, as exploration heads are."""

    def __init__(self) -> None:
        super().__init__(nn.Tanh())
        self.spread = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        self.spread(observation)
        return {"actor": self.actor(observation)}


@pytest.mark.parametrize("importance", ["lamp", "fpgm", "hessian", "gradient", "fisher"])
def test_units_that_shape_no_output_break_nothing(importance: str) -> None:
    torch.manual_seed(0)
    controller = Fake(Aside())
    scores = score(controller, trace(controller), importance, inputs_for(20))
    assert len(set(scores["spread/0"])) == 1
    assert len(set(scores["actor/0"])) == 4
