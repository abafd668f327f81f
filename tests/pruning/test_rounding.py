"""Weights of few bits: the grid, what it takes, and students that are taught on it."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import untrained
from test_distill import FakeLoop
from test_plan import calibration
from torch import nn

from prunectl.pruning import Method, prune
from prunectl.pruning.recovery import Budget
from prunectl.pruning.rounding import Rounded, nearest, rounded_bytes, scales


def test_eight_bits_reach_the_largest_weight_and_rounding_twice_changes_nothing() -> None:
    weight = torch.tensor([[1.27, 0.004, -0.6], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(nearest(weight, 8), torch.tensor([[1.27, 0.0, -0.60], [0.0, 0.0, 0.0]]))
    drawn = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    for bits in (8, 4, 3):
        once = nearest(drawn, bits)
        torch.testing.assert_close(nearest(once, bits), once)
        assert all(len(row.unique()) <= 2**bits - 1 for row in once)


def test_four_bits_clip_one_large_weight_where_the_others_gain_more() -> None:
    many = torch.linspace(-1, 1, 200)
    lone = torch.cat([many, torch.tensor([1.6])])[None]
    assert float(scales(lone, 4)) < 1.6 / 7
    assert float(scales(lone, 8)) == pytest.approx(1.6 / 127)
    plain = (lone / (1.6 / 7)).round() * (1.6 / 7)
    assert (nearest(lone, 4) - lone).square().sum() < (plain - lone).square().sum()


def test_bytes_are_those_of_codes_scales_and_float_biases() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 1, bias=False))
    # 20 weights and 6 outputs' scales; a bias of 5 and the norm's 10.
    assert rounded_bytes(module, 8) == 20 + 4 * 6 + 4 * 15
    assert rounded_bytes(module, 4) == (8 + 3) + 4 * 6 + 4 * 15  # 15 half bytes take 8, 5 take 3


def test_steps_too_small_for_the_grid_add_up_behind_it() -> None:
    weight = nn.Parameter(torch.tensor([[7.0, 2.0]]))
    rounded = Rounded([weight], 4)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    seen = []
    for _ in range(4):
        weight.grad = torch.tensor([[0.0, -0.2]])
        rounded.step(optimiser)
        seen.append(weight.tolist()[0])
    assert seen == [[7.0, 2.0], [7.0, 2.0], [7.0, 3.0], [7.0, 3.0]]


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_what_acts_comes_back_on_the_grid_and_near_the_dense_one(
    algorithm: str, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["prunectl.pruning.recovery.distill"]  # the package shows the function under its name
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 20)
    controller = untrained(algorithm, "Pendulum-v1", widths=(16, 16))
    before = controller.networks.state_dict()
    data = calibration(controller, 300)
    found = prune(
        controller, Method(recovery="distill-int4"), sparsity, data, loop=FakeLoop(), budget=Budget(steps=600)
    )
    for component in found.controller.components.values():
        for parameter in component.module.parameters():
            if parameter.dim() > 1:
                levels = max(len(row.unique()) for row in parameter.flatten(1))
                assert (levels <= 15) == (component.deployed or parameter.shape[1] <= 15)
    assert found.fidelity["actor"] > 0.9
    assert all(torch.equal(before[name], value) for name, value in controller.networks.state_dict().items())


def test_a_plan_that_cuts_nothing_is_left_alone_but_for_rounding() -> None:
    controller = untrained("td3", "Pendulum-v1", widths=(8, 8))
    data = calibration(controller, 100)
    for recovery, same in (("distill", True), ("distill-int8", False)):
        given = {"loop": FakeLoop(), "budget": Budget(steps=10)}
        found = prune(controller, Method(recovery=recovery), 0.0, data, **given)  # type: ignore[arg-type]
        actions = (one.act(data.observations) for one in (controller, found.controller))
        assert torch.equal(*map(torch.as_tensor, actions)) == same
