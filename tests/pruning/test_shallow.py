"""What acts without its last hidden layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import untrained, untrained_planner, untrained_planner2
from test_distill import FakeLoop
from test_plan import calibration
from torch import nn

import prunectl
from prunectl import agents
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.pruning import Method, PruningError, PruningPlan, apply, prune, trace
from prunectl.pruning.ask import Ask, Schedule
from prunectl.pruning.recovery import Budget
from prunectl.pruning.shallow import shortened

NONE = Method("shallow", recovery="none")


def layers_of(controller: SB3Controller, component: str) -> list[tuple[int, ...]]:
    module = controller.components[component].module
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_widths_and_parameters_by_hand() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(8, 6))
    found = prune(controller, NONE, 0.5, calibration(controller, 100))
    # Of the actor's 40 + 54 + 14 parameters half is 54: with one layer of w units it has 5 w + 2 w + 2, 51 at 7.
    assert layers_of(found.controller, "actor") == [(7, 4), (2, 7)]
    assert found.controller.parameters(deployed=True) == 51
    # The value does not act: it keeps both layers. Of 40 + 54 + 7 = 101 half is left.
    assert len(layers_of(found.controller, "value")) == 3
    actor = found.plan.components["actor"]
    assert (actor.params_dense, actor.params_pruned) == (108, 51)
    assert (actor.widths_dense, actor.widths_pruned) == ((8, 6, 2), (7, 2))
    assert found.plan.sparsity_asked == 0.5
    assert found.plan.params_pruned == found.controller.parameters()
    kept = {name: len(units) for name, units in found.plan.kept.items() if name.startswith("actor")}
    assert sorted(kept.values()) == [0, 7]


def test_what_cannot_be_met_is_said_of_what_was_asked() -> None:
    """Of the actor's 108 parameters 5.4 would be left; without the layer it has 58, and with one unit 9 of them."""
    controller = untrained("ppo", "CartPole-v1", widths=(8, 6))
    said = r"^sparsity actor=0\.95, shares of what is left by then: .* 0\.906897 cannot be met: .* 0\.8448 at most$"
    with pytest.raises(PruningError, match=said):
        prune(controller, NONE, {"actor": 0.95}, calibration(controller, 50))


def test_nothing_asked_leaves_the_controller_as_it_is() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(8, 8))
    data = calibration(controller, 50)
    found = prune(controller, NONE, 0.0, data)
    np.testing.assert_array_equal(found.controller.act(data.observations), controller.act(data.observations))
    assert found.plan.widths == found.plan.units


def test_where_the_layer_does_nothing_nothing_is_lost() -> None:
    """A layer that passes on what comes in, ReLU behind ReLU, is made up for by what read it."""
    controller = untrained("td3", "Pendulum-v1", widths=(8, 8))
    linear = [layer for layer in controller.components["actor"].module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        linear[1].weight.copy_(torch.eye(8))
        linear[1].bias.zero_()
    data = calibration(controller, 300)
    before = torch.get_rng_state()
    short = shortened(controller, trace(controller), controller.inputs(data.observations, data.actions))
    assert torch.equal(before, torch.get_rng_state())
    assert layers_of(short, "actor") == [(8, 3), (1, 8)]
    np.testing.assert_allclose(short.act(data.observations), controller.act(data.observations), atol=5e-3)
    assert [tuple(p.shape) for p in short.networks.get_submodule("actor_target").parameters()] == [
        tuple(p.shape) for p in short.networks.get_submodule("actor").parameters()
    ]


@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        ("ppo", "CartPole-v1"),
        ("a2c", "Pendulum-v1"),
        ("sac", "Pendulum-v1"),
        ("td3", "Pendulum-v1"),
        ("tqc", "Pendulum-v1"),
        ("dqn", "CartPole-v1"),
        ("qrdqn", "CartPole-v1"),
    ],
)
def test_saved_and_loaded_it_acts_the_same(algorithm: str, task: str, tmp_path: Path) -> None:
    controller = untrained(algorithm, task, widths=(16, 16))
    before = {name: value.clone() for name, value in controller.networks.state_dict().items()}
    data = calibration(controller, 200)
    found = prune(controller, Method("shallow", recovery="reconstruct"), 0.6, data)
    found.controller.save(tmp_path / "short.zip", {"task": task, "plan": found.plan.to_json()})
    loaded = agents.load(tmp_path / "short.zip")
    expected = found.controller.act(data.observations)
    np.testing.assert_array_equal(loaded.controller.act(data.observations), expected)
    assert loaded.controller.parameters() == found.plan.params_pruned
    assert PruningPlan.from_json(json.loads(json.dumps(loaded.plan))) == found.plan
    assert all(torch.equal(value, controller.networks.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_it_is_taught_what_the_whole_controller_answers(algorithm: str) -> None:
    """Not what the one without the layer does, with which the student begins."""
    controller = untrained(algorithm, "Pendulum-v1", widths=(24, 24))
    data = calibration(controller, 400)
    given = {"loop": FakeLoop(), "budget": Budget(steps=600)}
    none = prune(controller, NONE, 0.9, data)
    found = prune(controller, Method("shallow"), 0.9, data, **given)  # type: ignore[arg-type]
    assert found.fidelity["actor"] > max(0.95, none.fidelity["actor"])
    assert layers_of(found.controller, "actor")[0][1] == 3


def test_it_goes_on_in_steps() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(16, 16))
    found = prune(controller, NONE, 0.7, calibration(controller, 100), schedule=Schedule(2))
    assert len(layers_of(found.controller, "actor")) == 2
    assert found.plan.params_pruned == found.controller.parameters()
    assert found.plan.sparsity_total == pytest.approx(0.7, abs=0.05)


def test_what_has_one_hidden_layer_or_a_norm_behind_it_is_refused() -> None:
    for controller in (
        untrained("ppo", "CartPole-v1", widths=(8,)),
        untrained("crossq", "Pendulum-v1", widths=(8, 8)),
        untrained_planner2(),
    ):
        with pytest.raises(PruningError, match="has two in a row; take 'component'"):
            prune(controller, NONE, 0.5, calibration(controller, 50))


def test_every_network_of_a_world_model_loses_one(tmp_path: Path) -> None:
    planner = untrained_planner()
    data = calibration(planner, 60)
    found = prune(planner, NONE, 0.5, data)
    assert found.plan.components["dynamics"].widths_pruned == (12, 3)
    assert found.plan.params_pruned == found.controller.parameters()
    found.controller.save(tmp_path / "short.pt", {})
    loaded = agents.load(tmp_path / "short.pt").controller
    np.testing.assert_array_equal(loaded.act(data.observations[:3]), found.controller.act(data.observations[:3]))


def test_such_a_plan_is_for_prune_alone() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(8, 8))
    found = prune(controller, NONE, 0.5, calibration(controller, 50))
    with pytest.raises(PruningError, match="a whole layer: `prune` alone drops layers"):
        apply(found.plan, controller, trace(controller))
    with pytest.raises(PruningError, match="has no plan ahead"):
        prunectl.plan("ppo-cartpole", 0.5, grouping="shallow")


def test_there_is_nothing_to_divide() -> None:
    with pytest.raises(PruningError, match="it takes allocation 'uniform', not 'ranked'"):
        Method("shallow", allocation="ranked")


def test_shares_are_spread_over_components_and_flows() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8, 8)))
    names = ("actor", "critic.0", "critic.1")
    assert dict(Ask.of(0.8).spread(graph).shares) == dict.fromkeys(names, 0.8)
    assert dict(Ask.parse("0.8,critic=0.5").spread(graph).shares) == {"actor": 0.8, "critic.0": 0.5, "critic.1": 0.5}
    assert dict(Ask.parse("deployed=0.7").spread(graph).shares) == {"actor": 0.7}
    assert dict(Ask.parse("critic.0=0.4").spread(graph).shares) == {"critic.0": 0.4}
