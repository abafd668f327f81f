"""The planner of TD-MPC: against a plain reference, hand-worked selection, seeds, batches and warm starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.inference import function
from prunectl.agents.tdmpc.layers import mlp, q_function
from prunectl.agents.tdmpc.networks import WorldModel, build, with_targets
from prunectl.agents.tdmpc.planner import Noise, Planner, Planning, select_elites, weighted_moments

torch.set_num_threads(1)  # the networks are so small that threads only wait for each other

PLANNING = Planning(num_samples=32, num_elites=6, iterations=3, mixture_coef=0.1)


def model(seed: int = 0, actions: int = 2) -> WorldModel:
    """A random model with opinions: its rewards and values are not zero as those of a fresh one are."""
    torch.manual_seed(seed)
    online = build(3, actions, latent=8, encoder=16, hidden=24).online
    for network in (online.reward, online.critic_0, online.critic_1):
        last = network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight)
    return online


def uneven(seed: int = 0) -> WorldModel:
    """Every layer of another width, as pruning leaves them."""
    torch.manual_seed(seed)
    latent, actions = 7, 2
    actor = nn.Sequential(nn.Linear(latent, 9), nn.ELU(), nn.Linear(9, 6), nn.ELU(), nn.Linear(6, actions), nn.Tanh())
    dynamics = nn.Sequential(
        nn.Linear(latent + actions, 1), nn.ELU(), nn.Linear(1, 13), nn.ELU(), nn.Linear(13, latent)
    )
    return WorldModel(
        encoder=nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, latent)),
        dynamics=dynamics,
        reward=mlp(latent + actions, 11, 1),
        actor=actor,
        critic_0=q_function(latent + actions, 10),
        critic_1=q_function(latent + actions, 4),
    )


def controller(online: WorldModel, planning: Planning = PLANNING, repeat: int = 1) -> TDMPCController:
    low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
    return TDMPCController(
        networks=with_targets(online),
        planning=planning,
        action_repeat=repeat,
        reward_scale=1.0,
        observation_space=spaces.Box(-np.inf, np.inf, (3,)),
        action_space=spaces.Box(low[: online.actions], high[: online.actions]),
    )


def reference(online: WorldModel, planning: Planning, observation: Tensor, mean: Tensor, noise: Noise) -> list[Tensor]:
    """Algorithm 1 of the paper for one environment, a sequence at a time, with nothing but module calls."""

    def act(latent: Tensor, normal: Tensor) -> Tensor:
        action: Tensor = online.actor(latent) + (planning.min_std * normal).clamp(-0.3, 0.3)
        return action.clamp(-1, 1)

    def value_of(latent: Tensor, sequence: list[Tensor], last: Tensor) -> Tensor:
        total, discount = torch.zeros(1), 1.0
        for action in sequence:
            joint = torch.cat([latent, action])[None]
            total += discount * online.reward(joint)[0]
            latent, discount = online.dynamics(joint)[0], discount * planning.discount
        joint = torch.cat([latent, act(latent, last)])[None]
        return total + discount * torch.minimum(online.critic_0(joint), online.critic_1(joint))[0]

    start = online.encoder(observation[None])[0]
    prior, prior_values = [], []
    for k in range(planning.policy_samples):
        latent, sequence = start, []
        for step in range(planning.horizon):
            sequence.append(act(latent, noise.policy[step, 0, k]))
            latent = online.dynamics(torch.cat([latent, sequence[-1]])[None])[0]
        prior.append(torch.stack(sequence))
        prior_values.append(value_of(start, sequence, noise.policy[planning.horizon, 0, k]))
    std = torch.full_like(mean, 2.0)
    for i in range(planning.iterations):
        sampled = [(mean + std * noise.samples[i, :, 0, n]).clamp(-1, 1) for n in range(planning.num_samples)]
        values = [value_of(start, list(s), noise.last[i, 0, n]) for n, s in enumerate(sampled)]
        ranked = sorted(zip(values + prior_values, sampled + prior, strict=True), key=lambda pair: -float(pair[0]))
        best = torch.cat([value for value, _ in ranked[: planning.num_elites]])
        elites = torch.stack([sequence for _, sequence in ranked[: planning.num_elites]])
        score = torch.exp(planning.temperature * (best - best[0]))
        score = (score / score.sum())[:, None, None]
        new = (score * elites).sum(0)
        std = (score * (elites - new) ** 2).sum(0).sqrt().clamp(planning.min_std, 2.0)
        mean = planning.momentum * mean + (1 - planning.momentum) * new
    share = float(torch.special.ndtr(noise.choice[0]))
    chosen = int(np.searchsorted(score.flatten().cumsum(0).numpy(), share))
    return [elites[chosen, 0], mean, std[0]]


def noise_of(noise: Noise, row: int) -> Noise:
    """What of the noise of several decisions one of them has."""
    return Noise(
        noise.samples[:, :, row, None],
        noise.policy[:, row, None],
        noise.last[:, row, None],
        noise.choice[row, None],
        noise.critics[:, row, None],
    )


@pytest.mark.parametrize("online", [model(), model(1, actions=1), uneven()], ids=["even", "one action", "uneven"])
def test_plan_equals_the_reference(online: WorldModel) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    noise = Noise.draw(PLANNING, online.actions, generators)
    observations, start = torch.randn(2, 3), torch.randn(PLANNING.horizon, 2, online.actions) * 0.3
    plan = Planner(online, PLANNING)(observations, start, noise)
    for row in range(2):
        own = noise_of(noise, row)
        with torch.no_grad():
            action, mean, std = reference(online, PLANNING, observations[row], start[:, row], own)
        torch.testing.assert_close(plan.action[row], action, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plan.mean[:, row], mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plan.std[row], std, rtol=1e-4, atol=1e-4)


def test_elites_and_their_weights_by_hand() -> None:
    sequences = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 1, 4, 1)
    elites, weights = select_elites(sequences, torch.tensor([[1.0, 3.0, 2.0, 0.0]]), 2, temperature=float(np.log(2)))
    torch.testing.assert_close(elites.flatten(), torch.tensor([0.2, 0.3]))
    torch.testing.assert_close(weights, torch.tensor([[2 / 3, 1 / 3]]))
    mean, std = weighted_moments(elites, weights)
    assert mean.item() == pytest.approx(0.7 / 3)
    assert std.item() == pytest.approx(np.sqrt(2) / 30)  # distances 1/30 and 2/30


def test_a_higher_temperature_trusts_the_best_more() -> None:
    values = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    shares = [select_elites(torch.zeros(1, 1, 4, 1), values, 3, t)[1][0, 0].item() for t in (0.0, 0.5, 5.0)]
    assert shares[0] == pytest.approx(1 / 3)
    assert shares[0] < shares[1] < shares[2] < 1.0


def test_the_planner_finds_what_the_reward_wants() -> None:
    """With a reward that grows with the first action and falls with the second, the plan goes to that corner."""
    online = model()
    nn.init.zeros_(online.critic_0[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(online.critic_1[-1].weight)  # type: ignore[arg-type]
    online.reward = nn.Sequential(nn.Linear(10, 1))
    with torch.no_grad():
        next(online.reward.parameters()).copy_(torch.tensor([[0.0] * 8 + [10.0, -10.0]]))
    noise = Noise.draw(PLANNING, 2, [torch.Generator().manual_seed(0)])
    plan = Planner(online, PLANNING)(torch.zeros(1, 3), torch.zeros(3, 1, 2), noise)
    torch.testing.assert_close(plan.action, torch.tensor([[1.0, -1.0]]), atol=0.05, rtol=0)
    torch.testing.assert_close(plan.std, torch.full((1, 2), PLANNING.min_std), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_elites": 30}, "num_elites 30: must be between 1 and the 20 samples with the 1 of the policy"),
        ({"iterations": 0}, "iterations 0: both must be 1 or more"),
    ],
)
def test_settings_that_no_plan_can_be_made_with(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ControllerError, match=message):
        Planning(**{"num_samples": 20, "num_elites": 5} | changes)  # type: ignore[arg-type]


def test_std_has_the_given_lower_bound() -> None:
    noise = Noise.draw(PLANNING, 2, [torch.Generator().manual_seed(0)])
    plan = Planner(model(), PLANNING)(torch.zeros(1, 3), torch.zeros(3, 1, 2), noise, min_std=0.7)
    assert (plan.std >= 0.7).all()


def test_shifted_mean_is_one_step_on() -> None:
    noise = Noise.draw(PLANNING, 2, [torch.Generator().manual_seed(0)])
    plan = Planner(model(), PLANNING)(torch.zeros(1, 3), torch.zeros(3, 1, 2), noise)
    shifted = plan.shifted_mean()
    torch.testing.assert_close(shifted[:2], plan.mean[1:])
    assert (shifted[2] == 0).all()


def test_random_numbers_are_each_episodes_own() -> None:
    alone = Noise.draw(PLANNING, 2, [torch.Generator().manual_seed(7)])
    beside = Noise.draw(PLANNING, 2, [torch.Generator().manual_seed(seed) for seed in (1, 7, 2)])
    assert torch.equal(alone.samples[:, :, 0], beside.samples[:, :, 1])
    assert torch.equal(alone.policy[:, 0], beside.policy[:, 1])
    assert torch.equal(alone.last[:, 0], beside.last[:, 1])
    assert torch.equal(alone.choice[0], beside.choice[1])
    assert alone.samples.std().item() == pytest.approx(1.0, abs=0.1)


def test_policy_repeats_itself_by_seed_and_warm_starts() -> None:
    agent = controller(model())
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(6, 2, 3))
    episodes = np.arange(2)

    def drive(seeds: tuple[int, int]) -> np.ndarray:
        policy = agent.policy(seeds)
        return np.stack([policy(observations, episodes) for observations in seen])

    torch.manual_seed(99)  # the global generator plays no part
    first = drive((5, 6))
    torch.manual_seed(100)
    np.testing.assert_array_equal(first, drive((5, 6)))
    other = drive((5, 8))
    assert (first[:, 1] != other[:, 1]).any()
    np.testing.assert_allclose(first[:, 0], other[:, 0], atol=1e-4)

    cold = agent.policy((5, 6))
    cold(seen[0], episodes)
    cold.policy.mean.zero_()  # type: ignore[attr-defined]
    assert (cold(seen[1], episodes) != first[1]).any()


def test_one_episode_alone_acts_as_in_a_batch_up_to_rounding() -> None:
    """What is promised: the same random numbers and the same computation, apart from how matrix products round."""
    agent = controller(model())
    seen = np.random.default_rng(0).normal(size=(5, 3, 3))
    batch, alone = agent.policy((1, 2, 3)), agent.policy((2,))
    for step, observations in enumerate(seen):
        rows = np.arange(3) if step < 3 else np.array([1, 2])  # episode 0 ends after three steps
        together = batch(observations[rows], rows)
        single = alone(observations[1:2], np.array([0]))
        np.testing.assert_allclose(together[list(rows).index(1)], single[0], atol=1e-4)


def test_a_decision_is_held_and_stays_in_the_action_range() -> None:
    agent = controller(model(), repeat=3)
    policy = agent.policy((1,))
    seen = np.random.default_rng(0).normal(size=(9, 1, 3))
    actions = np.concatenate([policy(observations, np.array([0])) for observations in seen])
    changes = (np.diff(actions, axis=0) != 0).any(axis=1)
    assert not changes[[0, 1, 3, 4, 6, 7]].any()
    assert changes[[2, 5]].all()
    assert all(agent.action_space.contains(action) for action in actions)


def test_act_plans_each_row_afresh() -> None:
    agent = controller(uneven())
    seen = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    together = agent.act(seen)
    np.testing.assert_array_equal(together, agent.act(seen))
    np.testing.assert_allclose(together, np.concatenate([agent.act(row[None]) for row in seen]), atol=1e-4)
    more = replace(agent, planning=replace(PLANNING, mixture_coef=0.0))
    assert more.act(seen).shape == (4, 2)


@pytest.mark.parametrize("rows", [3, 5000])
def test_fast_networks_compute_what_the_modules_do(rows: int) -> None:
    for online in (model(), uneven()):
        for network in (online.encoder, online.dynamics, online.actor, online.critic_0):
            first = network[0]
            assert isinstance(first, nn.Linear)
            values = torch.randn(rows, first.in_features) * 3.0
            with torch.no_grad():
                torch.testing.assert_close(function(network)(values.clone()), network(values), atol=1e-5, rtol=1e-4)
