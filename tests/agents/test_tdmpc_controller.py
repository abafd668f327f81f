"""TD-MPC as a controller: its components and their flow, its checkpoints, and the authors' own agent."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prunectl import agents
from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.checkpoint import load_checkpoint
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.planner import Planning
from prunectl.experiments.episodes.evaluator import evaluate
from tests.conftest import untrained_planner

torch.set_num_threads(1)  # the networks are so small that threads only wait for each other

ZOO = Path(__file__).parents[3] / "shared" / "zoo" / "tdmpc" / "Pendulum-v1_1"
NAMES = ["encoder", "dynamics", "reward", "actor", "critic.0", "critic.1"]


def observations(count: int = 20) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def test_components_hold_every_online_parameter_once() -> None:
    agent = untrained_planner()
    assert list(agent.components) == NAMES
    assert all(component.deployed for component in agent.components.values())
    owned = [id(p) for component in agent.components.values() for p in component.module.parameters()]
    assert sorted(owned) == sorted(id(p) for p in agent.networks.online.parameters())
    assert agent.parameters() == agent.parameters(deployed=True) == len_of(agent.networks.online)


def len_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_mirrors_name_the_slow_copies() -> None:
    agent = untrained_planner()
    shapes = {name: tensor.shape for name, tensor in agent.networks.state_dict().items()}
    mirrored = 0
    for online, target in agent.mirrors.items():
        for name, shape in shapes.items():
            if name.startswith(online):
                assert shapes[target + name.removeprefix(online)] == shape
                mirrored += 1
    assert mirrored == sum(name.startswith("target.") for name in shapes)


def test_dataflow_gives_each_components_output() -> None:
    agent = untrained_planner()
    seen, latent, action = agent.inputs(observations(), np.linspace(-2, 2, 20)[:, None])
    with torch.no_grad():
        results = agent.dataflow()(seen, latent, action)
        joint = torch.cat([latent, action], 1)
        model = agent.networks.online
        expected = [model.encoder(seen), model.dynamics(joint), model.reward(joint), model.actor(latent)]
        expected += [model.critic_0(joint), model.critic_1(joint)]
    assert list(results) == NAMES
    for name, value in zip(NAMES, expected, strict=True):
        torch.testing.assert_close(results[name], value)


def test_inputs_are_encoded_and_imagined_latents() -> None:
    agent = untrained_planner()
    given = np.linspace(-2, 2, 20)[:, None]
    seen, latent, action = agent.inputs(observations(), given)
    again = agent.inputs(observations(), given)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip((seen, latent, action), again, strict=True))
    model = agent.networks.online
    with torch.no_grad():
        encoded = model.encoder(seen)
        torch.testing.assert_close(latent[::4], encoded[::4])  # depth 0
        one = encoded[1:2]  # depth 1 under the policy
        torch.testing.assert_close(latent[1:2], model.dynamics(torch.cat([one, model.actor(one)], 1)))
    assert ((latent - encoded).abs().amax(1)[[1, 2, 3, 5]] > 1e-6).all()
    policy_rows = (np.arange(20) // 4) % 2 == 0
    np.testing.assert_allclose(action.numpy()[policy_rows], given[policy_rows] / 2, atol=1e-6)
    assert (action.numpy()[~policy_rows] != given[~policy_rows] / 2).all()
    assert action.abs().max() <= 1.0


def test_with_networks_keeps_the_rest() -> None:
    agent, other = untrained_planner(), untrained_planner(1)
    changed = agent.with_networks(other.networks)
    np.testing.assert_array_equal(changed.act(observations()), other.act(observations()))
    assert (agent.act(observations()) != other.act(observations())).any()


def test_round_trip(tmp_path: Path) -> None:
    agent = untrained_planner()
    path = tmp_path / "agent.pt"
    random_state = torch.get_rng_state()
    assert agent.save(path, {"task": "Pendulum-v1"}) == ()
    loaded = load_checkpoint(path)
    assert torch.equal(random_state, torch.get_rng_state())
    assert str(loaded) == str(agent)
    assert (loaded.planning, loaded.action_repeat, loaded.reward_scale) == (agent.planning, 2, 0.1)
    assert (loaded.observation_space, loaded.action_space) == (agent.observation_space, agent.action_space)
    for name, tensor in agent.networks.state_dict().items():
        assert torch.equal(loaded.networks.state_dict()[name], tensor)
    np.testing.assert_array_equal(loaded.act(observations()), agent.act(observations()))
    ours, theirs = evaluate(agent, "Pendulum-v1", [1, 2]), evaluate(loaded, "Pendulum-v1", [1, 2])
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    assert json.loads(torch.load(path, weights_only=True)["config"])["task"] == "Pendulum-v1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.pt"]


def test_nan_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.pt"
    untrained_planner().save(path, {})
    content = torch.load(path, weights_only=True)
    content["networks"]["online.reward.2.weight"][0, 0] = float("nan")
    torch.save(content, path)
    with pytest.raises(ControllerError, match=r"'online.reward': weights '2.weight' hold NaN"):
        load_checkpoint(path)


def test_unknown_layers_cannot_be_saved(tmp_path: Path) -> None:
    agent = untrained_planner()
    agent.networks.online.reward.append(nn.Softplus())
    with pytest.raises(ControllerError, match="cannot hold a layer of type Softplus"):
        agent.save(tmp_path / "agent.pt", {})


def authors_file(folder: Path, **changes: Any) -> Path:
    """What the authors' code would save for this controller."""
    agent = untrained_planner()
    theirs = {"encoder": "_encoder", "dynamics": "_dynamics", "reward": "_reward", "actor": "_pi"}
    theirs |= {"critic_0": "_Q1", "critic_1": "_Q2"}
    state = OrderedDict()
    for name, tensor in agent.networks.online.state_dict().items():
        network, _, rest = name.partition(".")
        state[f"{theirs[network]}.{rest}"] = tensor
    torch.save({"model": state, "model_target": state}, folder / "agent.pt")
    config = {"action_repeat": 2, "action_scale": 2.0, "reward_scale": 0.1, "num_samples": 16, "num_elites": 4}
    (folder / "config.json").write_text(json.dumps(config | {"iterations": 2} | changes))
    return folder / "agent.pt"


def test_authors_state_dict(tmp_path: Path) -> None:
    path = authors_file(tmp_path)
    agent = untrained_planner()
    for place in (path, tmp_path):
        loaded = agents.load(place).controller
        np.testing.assert_array_equal(loaded.act(observations()), agent.act(observations()))
        assert loaded.action_space == agent.action_space


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    path = authors_file(tmp_path)
    (tmp_path / "other.pt").touch()
    with pytest.raises(ControllerError, match=r"2 \.pt files"):
        agents.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ControllerError, match=r"config.json: not the settings .*action_repeat"):
        load_checkpoint(path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ControllerError, match=r"needs its settings in config.json"):
        load_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ControllerError, match="not a TD-MPC checkpoint"):
        load_checkpoint(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(ControllerError, match="neither"):
        load_checkpoint(path)
    with pytest.raises(ControllerError, match=r"absent.pt: not a TD-MPC checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")


@pytest.mark.parametrize("scale", [0.0, -2.0, 1e-60, float("inf"), float("nan")])
def test_actions_without_a_range_are_refused(tmp_path: Path, scale: float) -> None:
    # A planner divides by the range; 1e-60 is 0 in the float32 of its space.
    with pytest.raises(ControllerError, match=f"(action_scale {scale}: a finite number above 0|no range)"):
        load_checkpoint(authors_file(tmp_path, action_scale=scale))


def test_damaged_weights_say_which_network(tmp_path: Path) -> None:
    path = tmp_path / "agent.pt"
    untrained_planner().save(path, {})
    content = torch.load(path, weights_only=True)
    content["networks"]["online.reward.2.weight"] = torch.zeros(3, 3)
    torch.save(content, path)
    with pytest.raises(ControllerError, match=r"'online.reward': weights and layers do not fit"):
        load_checkpoint(path)


@pytest.mark.skipif(not ZOO.exists(), reason="the pretrained controllers of ../shared/zoo are not here")
def test_the_authors_agent_loads() -> None:
    loaded = agents.load(ZOO)
    assert (loaded.name, loaded.task) == ("tdmpc/Pendulum-v1_1", "Pendulum-v1")
    agent = loaded.controller
    assert isinstance(agent, TDMPCController)
    assert agent.parameters() == 417_128
    assert (agent.planning, agent.action_repeat) == (Planning(), 2)
    assert agent.action_space.high.tolist() == [2.0]


@pytest.mark.slow
@pytest.mark.skipif(not ZOO.exists(), reason="the pretrained controllers of ../shared/zoo are not here")
def test_the_authors_agent_reaches_its_return() -> None:
    episodes = evaluate(agents.load(ZOO).controller, "Pendulum-v1", range(10))
    assert episodes.mean_return >= -141.0
