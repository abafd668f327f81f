"""Fewer bins for rewards and values: which go, what is left of the distributions, files and exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prunectl import agents
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.planner_folder import decisions, planner_files
from prunectl.agents.deployment.planner_script import Planner, differences
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc2.distributions import Bins
from prunectl.agents.tdmpc2.narrowed import narrowed
from tests.agents.test_tdmpc2_learning import by_hand, judge
from tests.conftest import untrained_planner, untrained_planner2

#: A latent and an action: below 0, above 0.
TWO = torch.tensor([[0.0, -1.0], [0.0, 1.0]])


def between(reward: nn.Sequential, *critics: nn.Sequential) -> TDMPCNetworks:
    """The networks made by hand, whose reward and critics are these, and whose slow critics are sure of bin 5."""
    networks = by_hand((5, 5))
    networks.online.reward = reward
    networks.online.critic_0, networks.online.critic_1 = critics
    return networks


def leaning(*bins: int) -> nn.Sequential:
    """Says one bin or another, as the action is below or above 0: both of 21, 1 apart in symlog."""
    network = judge(0)
    with torch.no_grad():
        low, high = bins
        network[0].bias.fill_(-50.0)
        network[0].bias[[low, high]] = 0.0
        network[0].weight[low, 1], network[0].weight[high, 1] = -50.0, 50.0
    return network


def test_the_bins_between_which_all_numbers_lie_are_left_alike_for_all_critics() -> None:
    networks = between(leaning(10, 13), leaning(9, 11), leaning(12, 14))
    fewer = narrowed(networks, TWO, networks.online.components)
    assert [fewer.online.reward[0].out_features, repr(fewer.online.reward[-1])] == [4, "Bins(0.0 3.0)"]
    for network in (*fewer.online.critics, *fewer.target.critics):
        assert [network[0].out_features, repr(network[-1])] == [6, "Bins(-1.0 4.0)"]
    for own, other in (
        (networks.online.reward, fewer.online.reward),
        *zip(networks.online.critics, fewer.online.critics, strict=True),
    ):
        torch.testing.assert_close(other(TWO), own(TWO))
    # Bin 5 is not among 9 to 14, so the slow critics have nothing but what they all gave alike.
    assert torch.equal(fewer.target.critics[0][0].bias, networks.target.critics[0][0].bias[9:15])
    assert networks.online.reward[0].out_features == 21
    alone = narrowed(networks, TWO, ["reward", "critic.0"])  # critics go together
    assert [network[0].out_features for network in (alone.online.reward, *alone.online.critics)] == [4, 21, 21]
    assert not any(p.requires_grad for p in fewer.target.parameters())
    assert all(p.requires_grad for p in fewer.online.parameters())


def test_as_many_more_are_left_as_the_numbers_need() -> None:
    # Half on bin 4 and half on bin 12 is the number of bin 8, which bins around 8 alone would give as well; what moves
    # with the action is all on 4, 8 and 12, and needs them all.
    network = judge(0)
    with torch.no_grad():
        network[0].bias.fill_(-50.0)
        network[0].bias[[4, 12]] = 0.0
        network[0].weight[4, 1] = 1.0
    joint = torch.linspace(-2.0, 2.0, 50)[:, None] * torch.tensor([0.0, 1.0])
    networks = between(network, judge(10), judge(10))
    fewer = narrowed(networks, joint, networks.online.components)
    assert repr(fewer.online.reward[-1]) == "Bins(-6.0 2.0)"
    torch.testing.assert_close(fewer.online.reward(joint), network(joint), rtol=1e-4, atol=1e-4)
    assert fewer.online.critic_0[0].out_features == 2  # a distribution has two at least


def test_what_needs_all_of_its_bins_is_given_back() -> None:
    networks = between(leaning(0, 20), leaning(0, 20), leaning(5, 6))
    assert narrowed(networks, TWO, networks.online.components) is networks
    assert narrowed(networks, TWO * float("nan"), networks.online.components) is networks
    one_wide = between(leaning(0, 20), leaning(5, 6), nn.Sequential(nn.Linear(2, 21), Bins(-5.0, 5.0)))
    assert narrowed(one_wide, TWO, one_wide.online.components) is one_wide  # critics with bins of their own
    agent = untrained_planner()
    assert agent.narrowed(agent.inputs(np.zeros((5, 3)), np.zeros((5, 1))), agent.components) is agent


def fewer_bins() -> TDMPCController:
    """An untrained planner whose rewards and values lie on a third of its bins, without the others."""
    agent = untrained_planner2(2)
    online = agent.networks.online
    with torch.no_grad():
        for network in (online.reward, *online.critics):
            network[-2].bias[:40], network[-2].bias[70:] = -60.0, -60.0
    seen = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    found = agent.narrowed(agent.inputs(seen, agent.act(seen)), agent.components)
    assert found.parameters() < agent.parameters()
    assert np.median(np.abs(found.act(seen) - agent.act(seen))) < 0.05
    return found


def test_files_keep_the_bins(tmp_path: Path) -> None:
    agent = fewer_bins()
    agent.save(tmp_path / "agent.pt", {"task": "Pendulum-v1"})
    loaded = agents.load(tmp_path / "agent.pt").controller
    seen = np.random.default_rng(3).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.act(seen), agent.act(seen))


def test_files_from_before_have_the_authors_bins(tmp_path: Path) -> None:
    agent = untrained_planner2()
    agent.save(tmp_path / "agent.pt", {"task": "Pendulum-v1"})
    content = torch.load(tmp_path / "agent.pt", weights_only=True)
    assert content["config"].count(', "bins -10.0 10.0"') == 6
    content["config"] = content["config"].replace(', "bins -10.0 10.0"', "")
    torch.save(content, tmp_path / "before.pt")
    seen = np.random.default_rng(3).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(agents.load(tmp_path / "before.pt").controller.act(seen), agent.act(seen))


@pytest.mark.parametrize("said", ["bins 1 0", "bins", "bins 0", "bins 0 1 2", "bins nan 1", "bins 0 1e9", "bins a b"])
def test_odd_bins_in_a_file_are_one_clear_line(tmp_path: Path, said: str) -> None:
    untrained_planner2().save(tmp_path / "agent.pt", {"task": "Pendulum-v1"})
    content = torch.load(tmp_path / "agent.pt", weights_only=True)
    content["config"] = content["config"].replace("bins -10.0 10.0", said, 1)
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(ControllerError, match=r"odd.pt, 'online.reward': ") as caught:
        agents.load(tmp_path / "odd.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_plans_with_the_bins(tmp_path: Path) -> None:
    agent = fewer_bins()
    seen = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    said = Interface.of(agent).as_json({"task": "Pendulum-v1", "training_seed": 1})
    for name, content in planner_files(agent, said, decisions(agent, seen)).items():
        (tmp_path / name).write_bytes(content)
    assert np.median(differences(Planner(tmp_path), np.load(tmp_path / "example.npz"))) < 1e-5
    assert '"reward": [' in (tmp_path / "planning.json").read_text()
