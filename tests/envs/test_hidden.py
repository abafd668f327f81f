"""Tasks without velocities: the same tasks, of which less is seen."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from prunectl import envs
from prunectl.experiments.episodes.evaluator import evaluate_random

HIDDEN = {
    "prunectl/CartPoleSwingUpNoVelocity-v0": ("prunectl/CartPoleSwingUp-v0", [0, 2, 3]),
    "prunectl/PendulumNoVelocity-v0": ("Pendulum-v1", [0, 1]),
}
EVERY = pytest.mark.parametrize(("task", "whole", "places"), [(task, *told) for task, told in HIDDEN.items()])


@EVERY
def test_positions_are_seen_and_nothing_else_is_changed(task: str, whole: str, places: list[int]) -> None:
    ours, full = envs.make(task), envs.make(whole)
    space: Any = full.observation_space
    assert ours.observation_space == gym.spaces.Box(space.low[places], space.high[places])
    assert ours.action_space == full.action_space
    seen, everything = ours.reset(seed=3)[0], full.reset(seed=3)[0]
    np.testing.assert_array_equal(seen, everything[places])
    ours.action_space.seed(0)
    over = False
    while not over:
        action = ours.action_space.sample()
        seen, reward, _, over, _ = ours.step(action)
        everything, expected, _, theirs_over, _ = full.step(action)
        np.testing.assert_array_equal(seen, everything[places])
        assert reward == expected
        assert over == theirs_over
        assert ours.observation_space.contains(seen)


@EVERY
def test_what_is_hidden_changes_while_what_is_seen_does_not(task: str, whole: str, places: list[int]) -> None:
    """What makes memory necessary: two states that look the same and go on differently."""
    env = envs.make(task)
    env.reset(seed=0)
    inner: Any = env.unwrapped
    still = np.zeros(1, np.float32)
    after = []
    for rate in (0.5, -0.5):
        inner.state = (0.0, 0.0, 1.0, rate) if "CartPole" in task else np.array([1.0, rate])
        after.append(env.step(still)[0])
    assert np.abs(after[0] - after[1]).max() > 0.005


@EVERY
def test_random_actions_get_what_they_get_with_everything_seen(task: str, whole: str, places: list[int]) -> None:
    ours, theirs = envs.TASKS[task], envs.TASKS[whole]
    assert (ours.random_return, ours.random_std, ours.horizon) == (
        theirs.random_return,
        theirs.random_std,
        theirs.horizon,
    )
    np.testing.assert_array_equal(evaluate_random(task, (0, 1)).returns, evaluate_random(whole, (0, 1)).returns)


def test_it_can_be_made_again_from_its_spec() -> None:
    env = gym.make("prunectl/PendulumNoVelocity-v0")
    assert env.spec is not None
    again = gym.make(pickle.loads(pickle.dumps(env.spec)))
    assert again.observation_space == env.observation_space
