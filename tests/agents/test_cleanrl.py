"""Checkpoints of CleanRL, made here from the documented layout of its scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl import agents
from prunectl.agents import ControllerError
from prunectl.agents.networks.cleanrl import REMARK
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.pruning import trace

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


def mlp(inputs: int, widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers[:-1])


class QNetwork(nn.Module):
    """Of dqn."""

    def __init__(self, seen: int, choices: int) -> None:
        super().__init__()
        self.network = mlp(seen, (12, 8, choices), nn.ReLU)


class Agent(nn.Module):
    """Of ppo_continuous_action."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor_mean = mlp(3, (6, 6, 1), nn.Tanh), mlp(3, (6, 6, 2), nn.Tanh)
        self.actor_logstd = nn.Parameter(torch.zeros(1, 2))


class Judge(nn.Module):
    """Of td3, ddpg and sac, each with two actions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(torch.cat([x, action], 1)))))
        return self.fc3(hidden)  # type: ignore[no-any-return]


class Pilot(nn.Module):
    """The actor of td3 and ddpg, or of sac."""

    def __init__(self, *heads: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(3, 8), nn.Linear(8, 6), heads[0]
        for head in heads:
            self.add_module(head, nn.Linear(6, 2))
        self.register_buffer("action_scale", torch.tensor([2.0, 0.5]))
        self.register_buffer("action_bias", torch.tensor([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        return torch.tanh(self.get_submodule(self.head)(hidden)) * self.action_scale + self.action_bias


def written(folder: Path, content: Any, run: str = "Thing-v1__script__1__1690000000") -> Path:
    path = folder / run / "script.cleanrl_model"
    path.parent.mkdir()
    torch.save(content, path)
    return path


def test_dqn_chooses_by_its_highest_value(tmp_path: Path) -> None:
    model = QNetwork(3, 4)
    controller = agents.load(written(tmp_path, model.state_dict())).controller
    with torch.no_grad():
        expected = model.network(torch.as_tensor(ROWS)).argmax(1).numpy()
    np.testing.assert_array_equal(controller.act(ROWS), expected)
    assert controller.action_space == spaces.Discrete(4)
    assert {name: group.units for name, group in trace(controller).groups.items()} == {"q/0": 12, "q/1": 8}


@pytest.mark.parametrize(
    ("heads", "critics", "algorithm"),
    [
        (("fc_mu",), 2, "cleanrl-td3"),
        (("fc_mu",), 1, "cleanrl-ddpg"),
        (("fc_mean", "fc_logstd"), 2, "cleanrl-sac"),
        (("fc_mean", "fc_logstd"), 0, "cleanrl-sac"),
    ],
)
def test_actors_with_critics(tmp_path: Path, heads: tuple[str, ...], critics: int, algorithm: str) -> None:
    actor, judges = Pilot(*heads), [Judge() for _ in range(critics)]
    content: Any = tuple(model.state_dict() for model in (actor, *judges)) if critics else actor.state_dict()
    controller = agents.load(written(tmp_path, content)).controller
    assert controller.algorithm == algorithm
    assert controller.action_space == spaces.Box(np.float32([-2.0, 0.5]), np.float32([2.0, 1.5]))
    actions = np.random.default_rng(1).uniform(-1, 1, (9, 2)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_array_equal(controller.act(ROWS), actor(torch.as_tensor(ROWS)).numpy())
        outputs = controller.dataflow()(*controller.inputs(ROWS, actions))
        for number, judge in enumerate(judges):
            values = judge(torch.as_tensor(ROWS), torch.as_tensor(actions))
            assert torch.equal(outputs[f"critic.{number}"], values)
    # Whoever reads a unit loses it: the exploration's head as well.
    assert set(trace(controller).groups["actor/1"].consumers) == {f"actor.{head}" for head in heads}


def test_ppo_acts_by_its_mean_and_says_what_its_file_does_not_hold(tmp_path: Path) -> None:
    model = Agent()
    path = written(tmp_path, model.state_dict())
    loaded = agents.load(path)
    with torch.no_grad():
        expected = model.actor_mean(torch.as_tensor(ROWS)).numpy()
    np.testing.assert_array_equal(loaded.controller.act(ROWS), expected)
    assert "running statistics that its file does not hold" in loaded.remarks[0]
    assert "--normalisation" in loaded.remarks[0]


def test_ppo_normalises_by_the_statistics_that_it_is_given(tmp_path: Path) -> None:
    model, mean, var = Agent(), np.array([1.0, 0.0, -2.0]), np.array([4.0, 1.0, 1e-6])
    np.savez(tmp_path / "statistics.npz", mean=mean, var=var)
    loaded = agents.load(written(tmp_path, model.state_dict()), normalisation=tmp_path / "statistics.npz")
    assert not loaded.remarks
    shown = np.clip((ROWS - mean) / np.sqrt(var + 1e-8), -10, 10)  # as gymnasium's wrapper, and the clip behind it
    with torch.no_grad():
        expected = model.actor_mean(torch.as_tensor(shown, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(loaded.controller.act(ROWS), expected, rtol=1e-5, atol=1e-6)
    np.savez(tmp_path / "other.npz", mean=mean[:2], var=var[:2])
    with pytest.raises(ControllerError, match="the networks read 3 numbers"):
        agents.load(tmp_path / "Thing-v1__script__1__1690000000", normalisation=tmp_path / "other.npz")


def test_ppo_runs_where_its_actions_are_clipped(tmp_path: Path) -> None:
    model = Agent()
    model.actor_mean = mlp(3, (6, 6, 1), nn.Tanh)
    model.actor_logstd = nn.Parameter(torch.zeros(1, 1))
    model.actor_mean[-1].bias.data.fill_(100.0)  # far outside Pendulum's [-2, 2]
    controller = agents.load(written(tmp_path, model.state_dict())).controller
    beyond = evaluate(controller, "Pendulum-v1", [0], record=True, most_steps=5)
    assert beyond.actions is not None
    assert (beyond.actions > 50).all()
    assert beyond.mean_return > -5 * 17  # Pendulum's cost of an action is 0.001 a^2: of 100, 10 a step more


@pytest.mark.parametrize(
    ("folder", "task", "seed"),
    [
        ("Hopper-v4__td3_continuous_action__3__1690000000", "Hopper-v4", 3),
        ("Hopper-v4-td3_continuous_action-seed2", "Hopper-v4", 2),
        ("mine", None, None),
    ],
)
def test_the_folder_names_task_and_seed(tmp_path: Path, folder: str, task: str | None, seed: int | None) -> None:
    path = written(tmp_path, QNetwork(3, 4).state_dict(), folder)
    for reference in (path, path.parent):
        loaded = agents.load(reference)
        assert (loaded.task, loaded.training_seed) == (task, seed)


def test_it_is_saved_as_ours_and_says_so(tmp_path: Path) -> None:
    controller = agents.load(written(tmp_path, QNetwork(3, 4).state_dict())).controller
    assert controller.save(tmp_path / "q.safetensors", {}) == (REMARK,)
    again = agents.load(tmp_path / "q.safetensors").controller
    np.testing.assert_array_equal(again.act(ROWS), controller.act(ROWS))
    names = {name.removeprefix("q.") for name in again.networks.state_dict()}
    assert names == set(QNetwork(3, 4).state_dict())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"actor.0.weight": torch.zeros(2, 2)}, "a layout of CleanRL's that is not known"),
        ({"network.0.weight": torch.zeros(2, 2, 8, 8)}, r"'network.0.weight' of \(2, 2, 8, 8\) is no linear layer's"),
        ({"network.0.weight": torch.full((2, 2), torch.nan)}, "hold NaN"),
        (3, "it holds no state dicts"),
        ([], "it holds no state dicts"),
        ({**Pilot("fc_mu").state_dict(), "action_scale": torch.zeros(2)}, "its actions have no range"),
        ({k: v for k, v in Pilot("fc_mu").state_dict().items() if k != "fc_mu.weight"}, "fc_mu"),
        ({**QNetwork(3, 4).state_dict(), "network.2.weight": torch.zeros(8, 5)}, "dataflow|act"),
    ],
)
def test_what_is_something_else_is_named(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ControllerError, match=said) as raised:
        agents.load(written(tmp_path, content))
    assert "fault of prunectl" not in str(raised.value)


def test_the_hub_through_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    path = written(tmp_path, QNetwork(3, 4).state_dict(), "0123abcd")
    names = ["README.md", path.name, "replay.mp4", "script.py"]
    fetched: list[str] = []

    def fetch(repository: str, name: str) -> str:
        fetched.append(name)
        return str(path.with_name(name))

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repository: names)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    loaded = agents.load("hf://cleanrl/Thing-v1-dqn-seed3")
    assert fetched == [path.name]
    assert (loaded.name, loaded.task, loaded.training_seed) == ("cleanrl/Thing-v1-dqn-seed3", "Thing-v1", 3)
    assert loaded.controller.algorithm == "cleanrl-dqn"
