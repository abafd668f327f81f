"""Evolution strategies: the direction by hand, candidates that act as themselves, and never something worse."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

import prunectl
from prunectl.experiments.episodes import evolution
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.evolution import EPISODES, _Candidates, _step, evolve
from prunectl.pruning import Method, PruningError
from prunectl.pruning.recovery import Budget
from tests.conftest import untrained


def test_the_direction_is_that_of_higher_ranks_and_as_long_as_a_perturbation() -> None:
    noise = {"w": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])}
    # Positive signs returned 5, 1 and 3, negative ones 0, 4 and 2: ranks 5, 1, 3 against 0, 4, 2.
    found = _step(noise, np.array([50.0, 1.0, 3.0, -7.0, 4.0, 2.0]))["w"]
    expected = 5 * noise["w"][0] - 3 * noise["w"][1] + 1 * noise["w"][2]
    torch.testing.assert_close(found, expected * (math.sqrt(2) / expected.norm()))


@pytest.mark.parametrize("family", [("sac", "Pendulum-v1"), ("ppo", "CartPole-v1"), ("dqn", "CartPole-v1")])
def test_each_candidate_acts_as_a_controller_of_its_parameters_would(family: tuple[str, str]) -> None:
    controllers = [untrained(*family, seed=seed) for seed in range(3)]
    path = controllers[0].deployed_path().eval()
    own = [dict(controller.deployed_path().named_parameters()) for controller in controllers]
    stacked = {name: torch.stack([parameters[name].detach() for parameters in own]) for name in own[0]}
    policy = _Candidates(path, stacked, controllers[0].action_space.shape or ())
    space = controllers[0].observation_space
    rows = np.random.default_rng(0).normal(size=(3 * EPISODES, *(space.shape or ()))).astype(np.float32)
    for episodes in (np.arange(3 * EPISODES), np.array([0, 3, 5]), np.array([1, 2, 4])):
        found = policy(rows[episodes], episodes)
        expected = [controllers[episode // EPISODES].act(rows[episode : episode + 1])[0] for episode in episodes]
        np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)


def test_an_actor_learns_to_balance_and_nothing_else_is_touched() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(4, 4), seed=3)
    before = copy.deepcopy(controller.networks.state_dict())
    shares: list[float] = []
    found = evolve(controller, "CartPole-v1", Budget(steps=60_000), 0, shares.append)
    assert found.after > 2 * found.before
    assert evaluate(found.controller, "CartPole-v1", range(20)).mean_return > 2 * found.before
    assert shares == sorted(shares)
    assert shares[-1] == 1
    after = found.controller.networks.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    acting = {
        name
        for name, p in controller.networks.named_parameters()
        if any(p is own for own in controller.components["actor"].module.parameters())
    }
    assert changed == acting
    assert all(torch.equal(before[name], value) for name, value in controller.networks.state_dict().items())
    again = evolve(controller, "CartPole-v1", Budget(steps=60_000), 0)
    assert all(torch.equal(value, again.controller.networks.state_dict()[name]) for name, value in after.items())


def test_what_goes_astray_is_not_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "PACE", -2.0)  # away from higher returns
    controller = prunectl.load("ppo-cartpole-1").controller
    found = evolve(controller, "CartPole-v1", Budget(steps=1), 0)
    assert found.controller is controller
    assert found.after == found.before


def test_what_decides_by_more_than_an_observation_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    remembers, plans = (prunectl.load(name).controller for name in ("recurrent-pendulum-1", "tdmpc-pendulum-1"))
    for controller, says in ((remembers, "with a memory"), (plans, "a tdmpc controller plans")):
        with pytest.raises(PruningError, match=f"polish' is for what decides by an observation alone: .*{says}"):
            Method(recovery="polish").check(controller)
    monkeypatch.setattr("prunectl.experiments.api.controllers.evaluate_random", None)  # no episode is run
    with pytest.raises(PruningError, match="plans"):
        prunectl.prune("tdmpc-pendulum-1", 0.5, recovery="polish")
