"""Controllers of anybody's own networks: what they compute, what is refused, and that a file gives back the same."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl import agents
from prunectl.agents import Controller, ControllerError
from prunectl.agents.deployment.program import program
from prunectl.agents.networks.controller import Networks
from prunectl.pruning import Method, plan_for, trace
from prunectl.pruning.surgery import apply

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
BOX = spaces.Box(-2.0, 2.0, (1,))
Parts = Mapping[str, Any]


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """As anybody writes one: layers by attribute, a head for exploration, a gain that is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.mean = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 1)
        self.spread = nn.Linear(12, 1)
        self.register_buffer("gain", torch.tensor([2.0]))

    def forward(self, latent: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.first(latent)))
        self.spread(hidden)
        return torch.tanh(self.mean(hidden)) * self.gain


def parts() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(*mlp(3, 10, 8), nn.ELU(0.5))
    return {"encoder": encoder, "actor": Actor(), "critic.0": mlp(9, 7, 1), "critic.1": mlp(9, 6, 1)}


def dataflow(c: Parts, x: Tensor, action: Tensor) -> dict[str, Tensor]:
    latent = c["encoder"](x)
    question = torch.cat([latent, action], 1)
    critics = {f"critic.{i}": c[f"critic.{i}"](question) for i in range(2)}
    return {"encoder": latent, "actor": c["actor"](latent), **critics}


def act(c: Parts, x: Tensor) -> Tensor:
    action: Tensor = c["actor"](c["encoder"](x))
    return action


def own(components: Parts | None = None, **changed: Any) -> Networks:
    given: dict[str, Any] = {"dataflow": dataflow, "act": act, "observation_space": 3, "action_space": BOX} | changed
    controller = Controller.of(components or parts(), **given)
    assert isinstance(controller, Networks)
    return controller


def cut(controller: Controller, sparsity: float = 0.4) -> Controller:
    inputs = controller.inputs(ROWS, controller.act(ROWS))
    graph = trace(controller)
    plan = plan_for(controller, graph, Method(importance="magnitude", recovery="none"), sparsity, inputs)
    return apply(plan, controller, graph)


def test_it_acts_as_its_networks_do_and_leaves_them_alone() -> None:
    given = parts()
    before = copy.deepcopy(given["actor"].state_dict())
    controller = own(given)
    with torch.no_grad():
        expected = act(given, torch.as_tensor(ROWS)).numpy()
    np.testing.assert_array_equal(controller.act(ROWS), expected)
    cut(controller)
    np.testing.assert_array_equal(controller.act(ROWS), expected)
    assert all(torch.equal(before[name], value) for name, value in given["actor"].state_dict().items())


def test_groups_and_roles_follow_from_the_functions() -> None:
    controller = own()
    assert {name for name, c in controller.components.items() if c.deployed} == {"encoder", "actor"}
    groups = {name: group.units for name, group in trace(controller).groups.items()}
    assert groups == {
        "encoder/0": 10, "encoder->critic.0,critic.1,actor": 8, "actor/0": 12, "critic.0/0": 7, "critic.1/0": 6,
    }  # fmt: skip
    assert trace(own({**parts(), "critic.1": mlp(9, 7, 1)}, ties=[("critic.0", "critic.1")])).ties == (
        ("critic.0/0", "critic.1/0"),
    )


def test_the_action_keeps_its_width_where_a_critic_reads_it() -> None:
    def judged(c: Parts, x: Tensor) -> dict[str, Tensor]:
        action = c["pilot"](x)
        return {"pilot": action, "judge": c["judge"](torch.cat([x, action], 1))}

    networks = {"pilot": mlp(3, 6, 4), "judge": mlp(7, 5, 1)}
    act: Callable[..., Any] = lambda c, x: c["pilot"](x)  # noqa: E731
    fixed = Controller.of(networks, judged, act, 3)
    assert list(trace(fixed).groups) == ["pilot/0", "judge/0"]
    assert fixed.action_space == spaces.Box(-np.inf, np.inf, (4,))
    latent = Controller.of(networks, judged, act, 3, fixed_outputs=())
    assert "pilot->judge" in trace(latent).groups


def test_observations_are_shown_as_asked_to_both_functions() -> None:
    mean, deviation = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0])
    shown = own(observe=lambda x: ((x - mean) / deviation).clamp(-1.0, 1.0))
    seen = np.clip((ROWS - mean.numpy()) / deviation.numpy(), -1, 1)
    np.testing.assert_array_equal(shown.inputs(ROWS, np.zeros((9, 1)))[0], seen)
    np.testing.assert_array_equal(shown.act(ROWS), own().act(seen))


def test_choices_are_indices_and_their_actions_one_hot() -> None:
    def model(c: Parts, x: Tensor, action: Tensor) -> dict[str, Tensor]:
        return {"policy": c["policy"](x), "model": c["model"](torch.cat([x, action], 1))}

    networks = {"policy": mlp(3, 6, 4), "model": mlp(7, 5, 3)}
    controller = Controller.of(networks, model, lambda c, x: c["policy"](x).argmax(1), 3, spaces.Discrete(4))
    with torch.no_grad():
        expected = networks["policy"](torch.as_tensor(ROWS)).argmax(1).numpy()
    np.testing.assert_array_equal(controller.act(ROWS), expected)
    np.testing.assert_array_equal(controller.inputs(ROWS[:2], np.array([3, 0]))[1], [[0, 0, 0, 1], [1, 0, 0, 0]])


def test_a_choice_of_what_is_no_number_is_none() -> None:
    network = mlp(3, 4, 2)
    controller = Controller.of(
        {"q": network}, lambda c, x: {"q": c["q"](x)}, lambda c, x: c["q"](x).argmax(dim=1), 3, spaces.Discrete(2)
    )
    with pytest.raises(ControllerError, match="logits are not numbers"):
        controller.act(np.full((1, 3), np.nan))
    assert controller.act(ROWS).shape == (9,)


def test_a_pruned_one_is_the_same_controller_after_saving_and_loading(tmp_path: Path) -> None:
    offset = torch.tensor([0.5, -1.0, 2.0])
    small = cut(own(observe=lambda x: x + offset))
    path = tmp_path / "small.safetensors"
    small.save(path, {"task": "Pendulum-v1", "training_seed": 4, "plan": {"a": 1}})
    loaded = agents.load(path)
    assert (loaded.task, loaded.training_seed, loaded.plan) == ("Pendulum-v1", 4, {"a": 1})
    found = loaded.controller
    assert found.parameters() == small.parameters()
    np.testing.assert_array_equal(found.act(ROWS), small.act(ROWS))
    assert str(trace(found)) == str(trace(small))
    assert found.action_space == small.action_space
    assert found.fixed_outputs == small.fixed_outputs
    ours, theirs = small.dataflow(), found.dataflow()
    for name, output in ours(*small.inputs(ROWS, np.zeros((9, 1)))).items():
        assert torch.equal(output, theirs(*found.inputs(ROWS, np.zeros((9, 1))))[name])
    found.save(tmp_path / "again.safetensors", {"task": "Pendulum-v1", "training_seed": 4, "plan": {"a": 1}})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_pictures_as_large_as_observations_may_be_come_back(tmp_path: Path) -> None:
    seeing = nn.Sequential(nn.AvgPool2d(30), nn.Flatten(), nn.Linear(3 * 7 * 6, 1))
    act: Callable[..., Any] = lambda c, x: c["actor"](x)  # noqa: E731
    controller = Controller.of({"actor": seeing}, lambda c, x: {"actor": c["actor"](x)}, act, (3, 210, 180))
    controller.save(tmp_path / "large.safetensors", {})
    seen = np.random.default_rng(0).normal(size=(2, 3, 210, 180)).astype(np.float32)
    again = agents.load(tmp_path / "large.safetensors").controller
    np.testing.assert_array_equal(again.act(seen), controller.act(seen))


def test_the_deployed_path_is_what_acts() -> None:
    mean = torch.tensor([1.0, 2.0, 3.0])

    def bounded(c: Parts, x: Tensor) -> Tensor:
        return (1.0 - act(c, x)).clamp(max=0.5) / 2.0

    controller = own(act=bounded, action_space=None, observe=lambda x: (x - mean) / 4.0)
    steps = program(controller.deployed_path(), 3)
    np.testing.assert_allclose(steps(ROWS), controller.act(ROWS), rtol=1e-5, atol=1e-6)


def test_what_is_no_sequence_is_one_module() -> None:
    def twice(c: Parts, x: Tensor) -> Tensor:
        latent = c["encoder"](x)
        return c["actor"](latent) + latent.mean(1, keepdim=True)

    controller = own(act=twice, observe=lambda x: x - 1.0)
    path = controller.deployed_path()
    with torch.no_grad():
        np.testing.assert_array_equal(path(torch.as_tensor(ROWS)).numpy(), controller.act(ROWS))
    with pytest.raises(ControllerError, match="type Whole cannot be exported"):
        program(path, 3)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.shape[1]


class Wider(nn.Linear):
    """A class of its own, whatever it is derived from: its `forward` may be anything."""


def branching(c: Parts, x: Tensor) -> Tensor:
    return act(c, x) if x.sum() > 0 else act(c, -x)


def half(c: Parts, x: Tensor, action: Tensor) -> dict[str, Tensor]:
    return {name: output for name, output in dataflow(c, x, action).items() if name != "critic.1"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"act": branching}, "act: PyTorch's tracer cannot follow it"),
        ({"act": lambda c, x: torch.cumsum(act(c, x), 1)}, "act: 'cumsum' at 'cumsum' is no operation"),
        ({"act": lambda c, x: act(c, x).double()}, "act: 'double' at 'double' is no operation"),
        ({"act": lambda c, x: act(c, x).squeeze(1)}, r"needs numbers of shape \(2, 1\)"),
        ({"act": lambda c, x: c["decoder"](x)}, "tracer cannot follow it .KeyError: 'decoder'"),
        ({"action_space": spaces.Discrete(3)}, r"needs an index each: end it with .argmax\(1\)"),
        ({"act": lambda c, x: (act(c, x), x)}, "act: it gives several things"),
        ({"act": lambda c, x: 3}, "act: it gives several things, or none"),
        ({"act": lambda c, x: c.actor(x)}, "AttributeError: 'dict' object has no attribute 'actor'"),
        ({"observation_space": spaces.Discrete(3)}, r"observation_space: Discrete\(3\): a Box or the shape"),
        ({"observation_space": (3, 0)}, r"observation_space: \(3, 0\): a Box or the shape"),
        ({"observation_space": 5}, "act: it fails .*mat1 and mat2"),
        ({"dataflow": half}, "dataflow gives encoder, actor, critic.0; a table with the output of each"),
        ({"dataflow": lambda c: {}}, "dataflow: it takes 1 arguments"),
        ({"ties": [("critic.0", "critic.2")]}, "there is no component 'critic.2'"),
        ({"components": {**parts(), "critic.1": nn.Sequential(nn.Linear(9, 1), nn.Threshold(0, 1))}}, "a Threshold"),
        ({"components": {**parts(), "critic.1": nn.Sequential(Odd(), nn.Linear(9, 1))}}, "'getattr' at 'getattr_1'"),
        ({"components": {**parts(), "critic.1": Wider(9, 1)}}, "'linear' at 'linear' is no operation"),
        ({"components": {**parts(), "a b": mlp(3, 1)}}, "'a b' is no name of a component"),
        ({"components": {**parts(), "critic.1": 3}}, "'critic.1' is a int, an nn.Module is needed"),
        ({"components": {**parts(), "critic_1": mlp(9, 2, 1)}}, "names of their own"),
    ],
)
def test_what_it_cannot_be_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ControllerError, match=said) as raised:
        own(**changed)
    assert "\n" not in str(raised.value)


def test_weights_of_two_components_are_refused() -> None:
    shared = parts()
    shared["critic.1"] = nn.Sequential(shared["critic.0"][0], nn.ReLU(), nn.Linear(7, 1))  # type: ignore[index]
    with pytest.raises(ControllerError, match=re.escape("'critic.0' and 'critic.1' share weights: name what they")):
        own(shared)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(3, 8), nn.MultiheadAttention(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(x)
        return torch.relu(self.attention(stream, stream, stream, need_weights=False)[0].mean(1))


class Remembering(nn.Module):
    def __init__(self, layer: type[nn.LSTM | nn.GRU], layers: int) -> None:
        super().__init__()
        self.memory: Any = layer(3, 8, num_layers=layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.memory(x)[0][:, -1]
        return last


def seeing() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.GELU("tanh"),
    )


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (seeing, (2, 14, 14)),
        (lambda: Remembering(nn.LSTM, 2), (5, 3)),
        (lambda: Remembering(nn.GRU, 1), (5, 3)),
        (Attending, (5, 3)),
        (
            lambda: nn.Sequential(
                nn.Conv1d(3, 8, 2), nn.GroupNorm(4, 8), nn.ELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
            ),
            (3, 5),
        ),
    ],
    ids=["convolutions", "lstm", "gru", "attention", "groups"],
)
def test_other_layers_are_cut_and_saved_too(
    tmp_path: Path, encoder: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    networks = {"encoder": encoder(), "actor": mlp(8, 6, 2)}

    def passing(c: Parts, x: Tensor) -> dict[str, Tensor]:
        latent = c["encoder"](x)
        return {"encoder": latent, "actor": c["actor"](latent)}

    controller = Controller.of(networks, passing, act, shape, observe=lambda x: x / 2.0)
    rows = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = act({name: module.eval() for name, module in networks.items()}, torch.as_tensor(rows) / 2.0)
    np.testing.assert_allclose(controller.act(rows), expected.numpy(), rtol=1e-5, atol=1e-6)
    graph = trace(controller)
    seen = controller.inputs(rows, controller.act(rows))
    plan = plan_for(controller, graph, Method(importance="magnitude", recovery="none"), 0.4, seen)
    small = apply(plan, controller, graph)
    assert small.parameters() == plan.params_pruned < controller.parameters()
    small.save(tmp_path / "small.safetensors", {})
    found = agents.load(tmp_path / "small.safetensors").controller
    np.testing.assert_array_equal(found.act(rows), small.act(rows))
    assert str(trace(found)) == str(trace(small))
