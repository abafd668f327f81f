"""TD-MPC2: its heads, its planner against a plain reference, its files, and the state dicts of its authors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

from prunectl import agents
from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.checkpoint import load_checkpoint
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.planner import Noise
from prunectl.agents.tdmpc2.authors import planned
from prunectl.agents.tdmpc2.distributions import Bins, action, log_likelihood
from prunectl.agents.tdmpc2.networks import build
from tests.agents.test_tdmpc_planner import noise_of
from tests.conftest import untrained_planner2

NAMES = ["encoder", "dynamics", "reward", "actor", *(f"critic.{index}" for index in range(5))]


def seen(count: int = 6) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


# Heads


def test_numbers_are_shared_between_two_bins() -> None:
    # Bins of 21 lie 1 apart in symlog; e^1.25 - 1 has the symlog 1.25, between bins 11 and 12.
    found = Bins().two_hot(torch.tensor([np.expm1(1.25), -np.expm1(2.0), 1e9], dtype=torch.float32), 21)
    assert found[0].nonzero().flatten().tolist() == [11, 12]
    torch.testing.assert_close(found[0, 11:13], torch.tensor([0.75, 0.25]), rtol=1e-5, atol=1e-5)
    assert found[1].argmax() == 8
    assert found[2].argmax() == 20  # what is beyond the last bin counts as it
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_distributions_stand_for_their_numbers() -> None:
    values = torch.tensor([-40.0, -1.0, 0.0, 0.3, 250.0])
    bins = Bins()
    torch.testing.assert_close(bins((bins.two_hot(values, 101) + 1e-30).log())[:, 0], values, rtol=1e-3, atol=1e-4)
    told = nn.functional.one_hot(torch.tensor([50, 60]), 101).float() * 30.0
    costs = bins.cross_entropy(told, torch.tensor([0.0, 0.0]))
    assert costs[0] < 1e-6
    assert costs[1].item() == pytest.approx(30.0, rel=1e-4)


def test_the_policys_likelihood_is_that_of_a_squashed_normal() -> None:
    torch.manual_seed(0)
    output, noise = torch.randn(7, 4), torch.randn(7, 2)
    mean, raw = output.chunk(2, 1)
    deviation = torch.exp(-10.0 + 6.0 * (torch.tanh(raw) + 1.0))
    base = distributions.Normal(mean, deviation)
    squashed = distributions.TransformedDistribution(base, [distributions.TanhTransform(cache_size=1)])
    taken = torch.tanh(mean + deviation * noise)
    torch.testing.assert_close(action(output, noise), taken)
    moderate = (taken.abs() < 0.95).all(1)
    wanted = squashed.log_prob(taken).sum(1)
    assert moderate.sum() >= 2
    torch.testing.assert_close(log_likelihood(output, noise)[moderate], wanted[moderate], rtol=1e-3, atol=1e-3)


# As a controller


def test_components_hold_every_online_parameter_once() -> None:
    agent = untrained_planner2()
    assert list(agent.components) == NAMES
    assert agent.algorithm == "tdmpc2"
    owned = [id(p) for component in agent.components.values() for p in component.module.parameters()]
    assert sorted(owned) == sorted(id(p) for p in agent.networks.online.parameters())
    assert set(agent.mirrors) == {f"online.critic_{index}." for index in range(5)}


def plainly(agent: TDMPCController, observation: Tensor, noise: Noise) -> Tensor:
    """The decision of one environment, a sequence at a time, with nothing but module calls: the authors' planner."""
    model, planning = agent.networks.online, agent.planning
    bins = torch.linspace(-10.0, 10.0, 101)

    def number(logits: Tensor) -> Tensor:
        mean = (logits.softmax(-1) * bins).sum(-1)
        return mean.sign() * (mean.abs().exp() - 1.0)

    def act(latent: Tensor, normal: Tensor) -> Tensor:
        mean, raw = model.actor(latent).chunk(2)
        return torch.tanh(mean + normal * torch.exp(-10.0 + 6.0 * (torch.tanh(raw) + 1.0)))

    def worth(latent: Tensor, sequence: list[Tensor], last: Tensor, pair: list[int]) -> Tensor:
        total, discount = torch.zeros(()), 1.0
        for taken in sequence:
            joint = torch.cat([latent, taken])
            total = total + discount * number(model.reward[:-1](joint))
            latent, discount = model.dynamics(joint), discount * planning.discount
        joint = torch.cat([latent, act(latent, last)])
        return total + discount * sum(number(model.critics[index][:-1](joint)) for index in pair) / 2

    first = model.encoder(observation)
    pairs = [numbers[0].argsort(descending=True)[:2].tolist() for numbers in noise.critics]
    prior = []
    for index in range(planning.policy_samples):
        latent, sequence = first, []
        for step in range(planning.horizon):
            sequence.append(act(latent, noise.policy[step, 0, index]))
            latent = model.dynamics(torch.cat([latent, sequence[-1]]))
        prior.append((sequence, worth(first, sequence, noise.policy[-1, 0, index], pairs[0])))
    mean, std = torch.zeros(planning.horizon, 1), torch.full((planning.horizon, 1), 2.0)
    for iteration, samples in enumerate(noise.samples):
        tried = list(prior)
        for index in range(planning.num_samples):
            sequence = list((mean + std * samples[:, 0, index]).clamp(-1, 1))
            tried.append((sequence, worth(first, sequence, noise.last[iteration, 0, index], pairs[iteration + 1])))
        tried.sort(key=lambda pair: -float(pair[1]))
        elites = torch.stack([torch.stack(sequence) for sequence, _ in tried[: planning.num_elites]])
        values = torch.stack([value for _, value in tried[: planning.num_elites]])
        score = torch.exp(planning.temperature * (values - values[0]))
        score = (score / score.sum())[:, None, None]
        mean = (score * elites).sum(0)
        std = (score * (elites - mean) ** 2).sum(0).sqrt().clamp(planning.min_std, 2.0)
    chosen = int((score.flatten().cumsum(0) < torch.special.ndtr(noise.choice[0])).sum())
    return elites[chosen, 0]


def test_plans_equal_the_reference() -> None:
    agent = untrained_planner2()
    assert agent.planning.policy_samples == 2
    noise = agent.planner.draw([torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)])
    observations = torch.as_tensor(seen(2))
    found = agent.planner(observations, torch.zeros(3, 2, 1), noise).action
    for row in range(2):
        own = noise_of(noise, row)
        with torch.no_grad():
            torch.testing.assert_close(found[row], plainly(agent, observations[row], own), rtol=1e-4, atol=1e-4)


def test_the_policy_alone_is_the_mean_squashed_and_rescaled() -> None:
    agent = untrained_planner2()
    online, given = agent.networks.online, torch.as_tensor(seen())
    with torch.no_grad():
        mean = online.actor(online.encoder(given))[:, :1]
        torch.testing.assert_close(agent.deployed_path()(given), 2.0 * torch.tanh(mean))


def test_round_trip(tmp_path: Path) -> None:
    agent = untrained_planner2()
    agent.save(tmp_path / "agent.pt", {"task": "Pendulum-v1"})
    loaded = agents.load(tmp_path / "agent.pt")
    assert (loaded.task, loaded.controller.algorithm, str(loaded.controller)) == ("Pendulum-v1", "tdmpc2", str(agent))
    ours, theirs = agent.networks.state_dict(), loaded.controller.networks.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    np.testing.assert_array_equal(loaded.controller.act(seen()), agent.act(seen()))


def test_latents_are_whole_simplices() -> None:
    with pytest.raises(ControllerError, match=r"latent_dim 20: .* a multiple of it"):
        build(3, 1, latent=20)


# The authors' state dicts


def stacked(networks: nn.Module, critics: int = 5) -> dict[str, Tensor]:
    """Tensors of the Q-functions by layer and name, the critics one above another, as the authors keep them."""
    names = {"0": "0", "1": "0.ln", "3": "1", "4": "1.ln", "6": "2"}
    every = [getattr(networks, f"critic_{index}").state_dict() for index in range(critics)]
    return {
        f"{names[key.partition('.')[0]]}.{key.partition('.')[2]}": torch.stack([own[key] for own in every])
        for key in every[0]
    }


def authors_state(agent: TDMPCController, older: bool) -> dict[str, Any]:
    """What the authors' code would save for this controller, by the documented layout of either release."""
    online, state = agent.networks.online, dict[str, Any]()
    layers = {"_encoder.state": "encoder", "_dynamics": "dynamics", "_reward": "reward", "_pi": "actor"}
    for theirs, ours in layers.items():
        for key, tensor in getattr(online, ours).state_dict().items():
            index, _, rest = key.partition(".")
            normed = int(index) % 3 == 1
            state[f"{theirs}.{int(index) // 3}.{'ln.' if normed else ''}{rest}"] = tensor
    order = ("weight", "bias", "ln.weight", "ln.bias")
    for whole, networks in {"_Qs": online, "_target_Qs": agent.networks.target}.items():
        for key, tensor in stacked(networks).items():
            layer, _, rest = key.partition(".")
            if older:
                state[f"{whole}.params.{4 * int(layer) + order.index(rest)}"] = tensor
            else:
                prefix = "_Qs.params" if whole == "_Qs" else "_target_Qs_params"
                state[f"{prefix}.{key}"] = tensor
                state[f"_detach_Qs_params.{key}"] = tensor
    if not older:
        for prefix in ("_Qs.params", "_target_Qs_params"):
            state |= {f"{prefix}.__batch_size": torch.Size([5]), f"{prefix}.__device": torch.device("cpu")}
        state |= {"log_std_min": torch.tensor(-10.0), "log_std_dif": torch.tensor(12.0)}
    return state


def written(folder: Path, state: dict[str, Any], **config: Any) -> Path:
    torch.save({"model": state}, folder / "agent.pt")
    settings = {"action_repeat": 2, "action_scale": 2.0, "num_samples": 18, "num_pi_trajs": 2, "num_elites": 4}
    settings |= {"iterations": 2, "reward_scale": 0.1, "task": "Pendulum-v1"}
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder / "agent.pt"


@pytest.mark.parametrize("older", [True, False], ids=["older", "newer"])
def test_authors_state_dict(tmp_path: Path, older: bool) -> None:
    agent = untrained_planner2()
    for network in agent.networks.target.children():
        for parameter in network.parameters():
            parameter.mul_(0.5)
    loaded = agents.load(written(tmp_path, authors_state(agent, older))).controller
    assert isinstance(loaded, TDMPCController)
    ours, theirs = agent.networks.state_dict(), loaded.networks.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert str(loaded) == str(agent)
    np.testing.assert_array_equal(loaded.act(seen()), agent.act(seen()))


def test_their_settings_are_followed() -> None:
    plan = planned({}, actions=6)
    assert (plan.num_samples, plan.policy_samples, plan.num_elites, plan.iterations) == (488, 24, 64, 6)
    assert (plan.momentum, plan.discount) == (0.0, 0.99)
    assert planned({"episode_length": 50}, actions=21).discount == 0.95  # (10 - 1) / 10, at least 0.95
    assert planned({"episode_length": 200}, actions=21).discount == 0.975
    assert planned({}, actions=21).iterations == 8
    for policy, samples in ((7, 100), (3, 32), (49, 98), (0, 5)):
        assert planned({"num_pi_trajs": policy, "num_samples": samples, "num_elites": 2}, 1).policy_samples == policy


def test_their_bins_lie_where_they_say(tmp_path: Path) -> None:
    agent = untrained_planner2()
    near = agents.load(written(tmp_path, authors_state(agent, older=False), vmin=-1, vmax=1.5)).controller
    assert isinstance(near, TDMPCController)
    assert {repr(network[-1]) for network in (near.networks.online.reward, *near.networks.target.critics)} == {
        "Bins(-1.0 1.5)"
    }
    joint = torch.randn(4, 17)
    with torch.no_grad():
        shares = agent.networks.online.reward[:-1](joint).softmax(1)
        mean = shares @ torch.linspace(-1.0, 1.5, 101)
        torch.testing.assert_close(near.networks.online.reward(joint)[:, 0], mean.sign() * mean.abs().expm1())


def test_other_agents_of_theirs_are_refused_in_a_line(tmp_path: Path) -> None:
    good = authors_state(untrained_planner2(), older=False)

    def refusal(**config: Any) -> str:
        with pytest.raises(ControllerError) as caught:
            load_checkpoint(written(tmp_path, state, **config))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    state = {**good, "_task_emb.weight": torch.zeros(30, 96)}
    assert "an agent of several tasks" in refusal()
    state = {name.replace("_encoder.state", "_encoder.rgb"): tensor for name, tensor in good.items()}
    assert "an agent that sees pixels" in refusal()
    state = {**good, "_termination.0.weight": torch.zeros(2, 2)}
    assert "'_termination.0.weight', which no TD-MPC2 agent of one task has" in refusal()
    state = {**good, "log_std_dif": torch.tensor(5.0)}
    assert "log_std_dif 5" in refusal()
    state = {**good, "_reward.5.weight": torch.zeros(2, 2)}
    assert "layers of odd names" in refusal()
    state = {**good, "_Qs.params.2.weight": good["_Qs.params.2.weight"][:3]}
    assert "weights and layers do not fit" in refusal()
    state = {**good, "_Qs.params.2.weight": torch.zeros(10**6, 1)}
    assert "a stack of 2 to 16 tensors is needed" in refusal()
    state = good
    assert "max_std 3: TD-MPC2 is read with 2 alone" in refusal(max_std=3)
    assert "101 bins from -10 to -20" in refusal(vmax=-20)
    assert "not the settings" in refusal(vmin="low")
    assert "num_pi_trajs 18 of num_samples 18" in refusal(num_pi_trajs=18)
    assert "do not fit" in refusal(simnorm_dim=5)
    assert "not the settings" in refusal(action_repeat="often")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ControllerError, match=r"needs its settings in config.json"):
        load_checkpoint(tmp_path / "agent.pt")
