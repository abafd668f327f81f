"""The evaluator against a plain loop, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from prunectl import agents, envs
from prunectl.agents import ControllerError
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from tests.conftest import SaveTiny, untrained


def by_hand(controller: agents.Controller, task: str, seed: int) -> tuple[float, int]:
    env = envs.make(task)
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(controller.act(observation[None])[0])
        total, length, over = total + float(reward), length + 1, terminated or truncated
    env.close()
    return total, length


@pytest.mark.parametrize(("algorithm", "task"), [("sac", "Pendulum-v1"), ("ppo", "CartPole-v1")])
def test_episodes_equal_a_plain_loop_one_by_one(save_tiny: SaveTiny, algorithm: str, task: str) -> None:
    controller = agents.load(save_tiny(algorithm, task)).controller
    seeds = (5, 6, 7)
    found = evaluate(controller, task, seeds)
    expected = [by_hand(controller, task, seed) for seed in seeds]
    np.testing.assert_allclose(found.returns, [total for total, _ in expected], rtol=1e-4)
    assert found.lengths.tolist() == [length for _, length in expected]
    assert found.seeds == seeds


def test_the_same_seeds_give_the_same_bits(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("sac", "Pendulum-v1")).controller
    one, other = (evaluate(controller, "Pendulum-v1", (1, 2)) for _ in range(2))
    np.testing.assert_array_equal(one.returns, other.returns)


def test_recording_keeps_every_step(balancer: Path) -> None:
    controller = agents.load(balancer).controller
    found = evaluate(controller, "CartPole-v1", (0, 1), record=True)
    assert found.observations is not None
    assert found.actions is not None
    assert len(found.observations) == len(found.actions) == found.lengths.sum()
    np.testing.assert_array_equal(controller.act(found.observations), found.actions)


def test_random_actions_are_seeded() -> None:
    one, same, other = (evaluate_random("CartPole-v1", seeds).returns for seeds in ((0, 1), (0, 1), (2, 3)))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert 9 <= one.mean() < 80


def test_a_controller_of_another_task_is_refused(save_tiny: SaveTiny) -> None:
    pendulum = agents.load(save_tiny("sac", "Pendulum-v1")).controller
    with pytest.raises(ControllerError, match=r"CartPole-v1.*--task"):
        evaluate(pendulum, "CartPole-v1", (0,))
    with pytest.raises(ControllerError, match=r"observes 3 numbers, Reacher-v5 gives 10|actions are"):
        evaluate(pendulum, "Reacher-v5", (0,))


def test_an_action_that_is_not_a_number_is_an_error() -> None:
    controller = untrained("sac", "Pendulum-v1")
    next(controller.components["actor"].module.parameters()).data.fill_(float("nan"))
    with pytest.raises(ControllerError, match=r"not a number on Pendulum-v1"):
        evaluate(controller, "Pendulum-v1", (0,))


def test_no_seeds_is_an_error(balancer: Path) -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        evaluate(agents.load(balancer).controller, "CartPole-v1", ())


def test_logits_that_are_not_numbers_are_no_action(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("ppo", "CartPole-v1")).controller
    with torch.no_grad():
        for parameter in controller.networks.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(agents.ControllerError, match="not numbers"):
        evaluate(controller, "CartPole-v1", [0])
