"""How TD-MPC learns: losses against hand-worked numbers, replay, slow copies."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunectl.agents.tdmpc.learner import Learner, Learning, model_losses, policy, policy_loss, td_targets
from prunectl.agents.tdmpc.networks import TDMPCNetworks, WorldModel, build, with_targets
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc.products import QuickProducts
from prunectl.agents.tdmpc.replay import Replay, Sequences

torch.set_num_threads(1)  # the networks are so small that threads only wait for each other


def linear(weights: list[float], bias: float = 0.0) -> nn.Sequential:
    layer = nn.Linear(len(weights), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)
    return nn.Sequential(layer)


def by_hand() -> TDMPCNetworks:
    """h(s) = s, d(z, a) = z + a, R = 2 z, pi = z / 2, Q0 = z + a, Q1 = 3 a + 1; slow h' = 2 s, Q0' = z, Q1' = 10 a."""
    online = WorldModel(
        linear([1.0]),
        linear([1.0, 1.0]),
        linear([2.0, 0.0]),
        linear([0.5]),
        linear([1.0, 1.0]),
        linear([0.0, 3.0], 1.0),
    )
    networks = with_targets(online)
    networks.target.encoder, networks.target.critic_0 = linear([2.0]), linear([1.0, 0.0])
    networks.target.critic_1 = linear([0.0, 10.0])
    return networks


def batch() -> Sequences:
    """One sequence of two decisions: s = 1, a = 0.5, r = 1, s = 0.4, a = -1, r = 0, s = 0.2, which terminates."""
    return Sequences(
        observations=torch.tensor([1.0, 0.4, 0.2]).view(3, 1, 1),
        actions=torch.tensor([0.5, -1.0]).view(2, 1, 1),
        rewards=torch.tensor([[1.0], [0.0]]),
        terminated=torch.tensor([[0.0], [1.0]]),
        valid=torch.ones(2, 1),
        indices=torch.tensor([0]),
        weights=torch.ones(1),
    )


def test_td_targets_by_hand() -> None:
    targets = td_targets(by_hand(), batch(), Planning(discount=0.9), torch.zeros(2, 1, 1))
    # At s = 0.4: pi = 0.2, min(0.4, 2.0) = 0.4, so 1 + 0.9 x 0.4; the second decision terminated: its reward alone.
    torch.testing.assert_close(targets, torch.tensor([[1.36], [0.0]]))


def test_model_losses_by_hand() -> None:
    learning = Learning(rho=0.5, consistency_coef=2.0, reward_coef=0.5, value_coef=0.1)
    losses = model_losses(by_hand(), batch(), torch.tensor([[1.36], [0.0]]), learning)
    # Latents: 1, 1.5, 0.5; the slow encoder says 0.8 and 0.4.
    assert losses.consistency.item() == pytest.approx(0.7**2 + 0.5 * 0.1**2)
    # Predicted rewards 2 and 3, seen 1 and 0.
    assert losses.reward.item() == pytest.approx(1.0 + 0.5 * 9.0)
    # Q0: 1.5, 0.5; Q1: 2.5, -2; targets 1.36, 0.
    value = 0.14**2 + 1.14**2 + 0.5 * (0.5**2 + 2.0**2)
    assert losses.value.item() == pytest.approx(value, rel=1e-5)
    assert losses.priority.item() == pytest.approx(0.14 + 1.14 + 0.5 * 2.5, rel=1e-5)
    assert losses.total.item() == pytest.approx(2.0 * 0.495 + 0.5 * 5.5 + 0.1 * value, rel=1e-5)
    torch.testing.assert_close(losses.latents.flatten(), torch.tensor([1.0, 1.5, 0.5]))
    assert not losses.latents.requires_grad
    assert not losses.priority.requires_grad


def test_steps_beyond_the_episode_cost_nothing() -> None:
    cut = replace(batch(), valid=torch.tensor([[1.0], [0.0]]))
    losses = model_losses(by_hand(), cut, torch.tensor([[1.36], [0.0]]), Learning())
    assert losses.consistency.item() == pytest.approx(0.49)
    assert losses.reward.item() == pytest.approx(1.0)
    assert losses.priority.item() == pytest.approx(1.28, rel=1e-5)


def test_policy_loss_by_hand() -> None:
    latents = torch.tensor([1.0, 1.5, 0.5]).view(3, 1, 1)
    nothing = torch.zeros(3, 1, 1)
    model = by_hand().online
    # min(Q0, Q1) at pi(z) = z / 2: min(1.5, 2.5), min(2.25, 3.25), min(0.75, 1.75).
    loss = policy_loss(model, latents, torch.ones(2, 1), 0.5, 0.05, nothing)
    assert loss.item() == pytest.approx(-(1.5 + 0.5 * 2.25 + 0.25 * 0.75))
    cut = policy_loss(model, latents, torch.tensor([[1.0], [0.0]]), 0.5, 0.05, nothing)
    assert cut.item() == pytest.approx(-(1.5 + 0.5 * 2.25))


def test_policy_noise_is_truncated_and_clipped_with_a_straight_gradient() -> None:
    latent = torch.tensor([[0.0], [1.9]])
    action = policy(by_hand().online, latent, 1.0, torch.tensor([[5.0], [5.0]]))
    torch.testing.assert_close(action.detach().flatten(), torch.tensor([0.3, 1.0]))
    actor = by_hand().online
    total = policy(actor, latent, 1.0, torch.ones(2, 1)).sum()
    _, bias = torch.autograd.grad(total, list(actor.actor.parameters()))
    assert bias.item() == 2.0


def learner(**changes: float) -> tuple[Learner, Replay]:
    torch.manual_seed(0)
    replay = Replay(200, 3, 1)
    generator = np.random.default_rng(0)
    for step in range(100):
        seen, action = generator.normal(size=3), generator.uniform(-1.0, 1.0, 1)
        replay.add(seen, action, float(seen[0]), 0.5 * seen + action, False, step)
    settings = replace(Learning(batch_size=32), **changes)  # type: ignore[arg-type]
    return Learner(build(3, 1, 6, 8, 12), Planning(), settings, seed=0), replay


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_learning_lowers_the_losses() -> None:
    teacher, replay = learner()
    generator = np.random.default_rng(0)
    history = [teacher.update(replay.sample(32, 3, generator))[0] for _ in range(60)]
    for name in ("reward", "consistency"):
        early = np.mean([losses[name] for losses in history[:10]])
        late = np.mean([losses[name] for losses in history[-10:]])
        assert late < 0.7 * early, name


def test_slow_copies_follow_every_second_update() -> None:
    teacher, replay = learner()
    generator = np.random.default_rng(0)
    before = state(teacher.networks.target)
    teacher.update(replay.sample(32, 3, generator))
    after_one = state(teacher.networks.target)
    assert all(torch.equal(before[name], after_one[name]) for name in before)
    teacher.update(replay.sample(32, 3, generator))
    online = state(teacher.networks.online)
    for name, tensor in state(teacher.networks.target).items():
        torch.testing.assert_close(tensor, 0.99 * before[name] + 0.01 * online[name])


def test_the_models_step_leaves_the_actor_and_the_policys_step_the_rest() -> None:
    teacher, replay = learner(lr=0.0)
    teacher.policy_optimiser.param_groups[0]["lr"] = 1e-2
    before = state(teacher.networks.online)
    teacher.update(replay.sample(32, 3, np.random.default_rng(0)))
    changed = {name for name, tensor in state(teacher.networks.online).items() if not torch.equal(tensor, before[name])}
    # Fresh critics are zero everywhere, so even the actor has no gradient yet; give them opinions.
    assert changed == set()
    nn.init.normal_(teacher.networks.online.critic_0[-1].weight)  # type: ignore[arg-type]
    nn.init.normal_(teacher.networks.online.critic_1[-1].weight)  # type: ignore[arg-type]
    before = state(teacher.networks.online)
    teacher.update(replay.sample(32, 3, np.random.default_rng(0)))
    changed = {name for name, tensor in state(teacher.networks.online).items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith("actor.")}


def test_quick_products_give_the_gradients_of_the_plain_ones() -> None:
    network = nn.Sequential(nn.Linear(5, 7), nn.ELU(), nn.Linear(7, 1))
    values = torch.randn(11, 5, requires_grad=True)
    inputs = [values, *network.parameters()]
    plain = torch.autograd.grad(network(values).square().sum(), inputs)
    with QuickProducts():
        quick = torch.autograd.grad(network(values).square().sum(), inputs)
    for ours, theirs in zip(quick, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_learner_goes_on_from_its_state() -> None:
    straight, replay = learner()
    generator = np.random.default_rng(0)
    batches = [replay.sample(32, 3, generator) for _ in range(4)]
    for given in batches[:2]:
        straight.update(given)
    kept = copy.deepcopy(straight.state_dict())
    for given in batches[2:]:
        straight.update(given)
    resumed, _ = learner()
    resumed.load_state_dict(kept)
    for given in batches[2:]:
        resumed.update(given)
    ours, theirs = state(resumed.networks), state(straight.networks)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def filled(lengths: list[int], capacity: int = 20) -> Replay:
    """Episodes of these lengths; observation, action and reward of a transition are its number."""
    replay, number = Replay(capacity, 1, 1), 0
    for episode, length in enumerate(lengths):
        for step in range(length):
            last = step == length - 1
            replay.add(np.array([number]), np.array([number]), number, np.array([number + 0.5]), last, episode)
            number += 1
    return replay


def test_sequences_stop_at_the_end_of_their_episode() -> None:
    drawn = filled([4, 3]).sample(200, 3, np.random.default_rng(0))
    for column, start in enumerate(drawn.indices.tolist()):
        end = 4 if start < 4 else 7
        valid = [float(start + step < end) for step in range(3)]
        assert drawn.valid[:, column].tolist() == valid
        assert drawn.observations[0, column].item() == start
        for step in range(int(sum(valid))):
            assert drawn.rewards[step, column].item() == start + step
            assert drawn.observations[step + 1, column].item() == start + step + 0.5
            assert drawn.terminated[step, column].item() == float(start + step == end - 1)
    assert set(drawn.indices.tolist()) == set(range(7))


def test_a_full_ring_forgets_the_oldest() -> None:
    replay = filled([8, 8], capacity=10)
    assert len(replay) == 10
    drawn = replay.sample(200, 3, np.random.default_rng(0))
    starts = drawn.rewards[0].tolist()
    assert set(starts) == set(map(float, range(6, 16)))
    for column, start in enumerate(starts):
        assert drawn.valid[:, column].tolist() == [float(start + k < (8 if start < 8 else 16)) for k in range(3)]


def test_priorities_set_the_odds_and_the_weights() -> None:
    replay = filled([4])
    replay.update_priorities(torch.arange(4), torch.tensor([0.0, 1.0, 1.0, 2.0]))
    drawn = replay.sample(20_000, 1, np.random.default_rng(0), alpha=1.0, beta=1.0)
    shares = np.bincount(drawn.indices.numpy(), minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.0, 0.25, 0.25, 0.5], atol=0.02)
    for index, weight in zip(drawn.indices.tolist()[:50], drawn.weights.tolist()[:50], strict=True):
        assert weight == pytest.approx({1: 1.0, 2: 1.0, 3: 0.5}[index], rel=1e-4)


def test_new_transitions_get_the_highest_priority() -> None:
    replay = filled([3])
    replay.update_priorities(torch.tensor([1]), torch.tensor([7.0]))
    replay.add(np.zeros(1), np.zeros(1), 0.0, np.zeros(1), False, 1)
    assert replay.priorities[3].item() == pytest.approx(7.0)
