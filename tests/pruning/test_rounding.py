"""Weights of few bits: the grid, what it takes, and students that are taught on it."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import untrained, untrained_planner
from test_distill import FakeLoop
from test_plan import calibration
from torch import nn

from prunectl.agents.sb3.controller import SB3Controller
from prunectl.pruning import RECOVERIES, Method, Pruned, prune, trace
from prunectl.pruning.plan import uncut
from prunectl.pruning.recovery import Budget
from prunectl.pruning.recovery.pupil import Pupil, lesson
from prunectl.pruning.recovery.recover import _in_bits
from prunectl.pruning.rounding import Rounded, nearest, rounded_bytes, scales, weights_of


def test_a_weight_is_a_whole_number_of_its_outputs_scale_times_its_inputs() -> None:
    # Inputs' scales are 2 and 0.02; in them rows are up to 1 and 0.5, so steps are 1/127 and 0.5/127 of those.
    weight = torch.tensor([[2.0, 0.0101], [0.1, 0.01], [0.0, 0.0], [0.3, 0.02]])
    step = torch.tensor([[1.0], [0.5], [1.0], [1.0]]) / 127 * torch.tensor([[2.0, 0.02]])
    torch.testing.assert_close(scales(weight, 8), step)
    codes = torch.tensor([[127.0, 64.0], [13.0, 127.0], [0.0, 0.0], [19.0, 127.0]])
    torch.testing.assert_close(nearest(weight, 8), codes * step)
    assert (nearest(torch.zeros(2, 3), 4) == 0).all()


def test_what_varies_little_keeps_its_weights_beside_what_varies_much() -> None:
    drawn = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    spread = torch.tensor([100.0, 100.0, 1.0, 1.0, 0.01, 0.01])
    # Weights of each magnitude are as exact as if they had been drawn alike.
    torch.testing.assert_close(nearest(drawn * spread, 4) / spread, nearest(drawn, 4))


def test_four_bits_clip_one_large_weight_where_the_others_gain_more() -> None:
    lone = torch.ones(2, 200)
    lone[0] = torch.cat([torch.linspace(-0.6, 0.6, 199), torch.tensor([1.0])])
    assert float(scales(lone, 4)[0, 0]) < 1 / 7
    assert float(scales(lone, 8)[0, 0]) == pytest.approx(1 / 127)
    plain = (lone / (1 / 7)).round() * (1 / 7)
    assert (nearest(lone, 4) - lone).square().sum() < (plain - lone).square().sum()


def test_bytes_are_those_of_codes_scales_and_float_biases() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 1, bias=False))
    # 20 weights, scales of 6 outputs and of 3 inputs, a single output's have none; a bias of 5 and the norm's 10.
    assert rounded_bytes(module, 8) == 20 + 4 * 9 + 4 * 15
    assert rounded_bytes(module, 4) == (8 + 3) + 4 * 9 + 4 * 15  # 15 half bytes take 8, 5 take 3


def test_steps_too_small_for_the_grid_add_up_behind_it() -> None:
    weight = nn.Parameter(torch.tensor([[7.0, 2.0], [1.0, 7.0]]))
    rounded = Rounded([weight], 4)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    seen = []
    for _ in range(4):
        weight.grad = torch.tensor([[0.0, -0.2], [0.0, 0.0]])
        rounded.step(optimiser.step)
        seen.append(weight.tolist()[0])
    assert seen == [[7.0, 2.0], [7.0, 2.0], [7.0, 3.0], [7.0, 3.0]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["prunectl.pruning.recovery.distill"]  # the package shows the function under its name
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 20)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_what_acts_comes_back_on_the_grid_and_near_the_dense_one(
    algorithm: str, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the coarsest grid, of -1, 0 and 1, magnitudes are those of an outer product of scales."""
    controller = untrained(algorithm, "Pendulum-v1", widths=(16, 16))
    before = controller.networks.state_dict()
    data = calibration(controller, 300)

    def taught(bits: int, batches: int) -> Pruned[SB3Controller]:
        monkeypatch.setitem(RECOVERIES._entries, "distill-int4", _in_bits(bits))
        method = Method(recovery="distill-int4")
        return prune(controller, method, sparsity, data, loop=FakeLoop(), budget=Budget(steps=batches))

    for component in taught(2, 20).controller.components.values():
        layers = [weights.detach().abs().double() for weights in weights_of(component.module) if len(weights) > 1]
        assert all(map(_outer_product, layers)) == component.deployed
    assert taught(4, 600).fidelity["actor"] > 0.9
    assert all(torch.equal(before[name], value) for name, value in controller.networks.state_dict().items())


def _outer_product(magnitudes: torch.Tensor) -> bool:
    """Whether those that are not zero are: every cross ratio is 1."""
    there = (magnitudes > 0).double()
    logs = torch.where(there > 0, magnitudes, 1.0).log()
    crossed = logs[:, None, :, None] + logs[None, :, None, :] - logs[:, None, None, :] - logs[None, :, :, None]
    full = there[:, None, :, None] * there[None, :, None, :] * there[:, None, None, :] * there[None, :, :, None]
    return bool((crossed * full).abs().max() < 1e-4)


def test_a_plan_that_cuts_nothing_is_left_alone_but_for_rounding() -> None:
    controller = untrained("td3", "Pendulum-v1", widths=(8, 8))
    data = calibration(controller, 100)
    for recovery, same in (("distill", True), ("distill-int8", False)):
        given = {"loop": FakeLoop(), "budget": Budget(steps=10)}
        found = prune(controller, Method(recovery=recovery), 0.0, data, **given)  # type: ignore[arg-type]
        actions = (one.act(data.observations) for one in (controller, found.controller))
        assert torch.equal(*map(torch.as_tensor, actions)) == same


def test_what_is_not_taught_is_not_rounded_again() -> None:
    """With two scales the nearest weights of few bits have nearest weights of their own."""
    controller = untrained_planner()
    graph, data = trace(controller), calibration(controller, 200)
    acting = [name for name in graph.components if name in graph.deployed]
    taught = ["encoder", "reward"]
    questions = lesson(controller, graph, uncut(graph), controller.inputs(data.observations, data.actions), acting)
    pupil = Pupil(controller, acting, 0, bits=3)
    before = {name: controller.components[name].module.state_dict() for name in acting}
    before = {name: {key: value.clone() for key, value in own.items()} for name, own in before.items()}
    for _ in range(3):
        pupil.learn(questions, 2, taught)
    for name in acting:
        own = controller.components[name].module.state_dict()
        assert all(torch.equal(before[name][key], value) for key, value in own.items()) == (name not in taught)
