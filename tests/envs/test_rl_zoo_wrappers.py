"""rl-zoo's own wrappers, put there again by the names that its configurations give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prunectl import envs
from prunectl.envs import TaskError

TASK = "Pendulum-v1"
ONE, TWO = np.array([1.0], np.float32), np.array([2.0], np.float32)


def made(name: str, **given: Any) -> envs.Env:
    env = envs.make(TASK, wrappings=[(f"rl_zoo3.wrappers.{name}", given)])
    env.reset(seed=0)
    return env


def plain() -> envs.Env:
    env = envs.make(TASK)
    env.reset(seed=0)
    return env


def test_an_action_is_held_and_rewards_add_up() -> None:
    env, other = made("FrameSkip", skip=3), plain()
    observation, reward, *_ = env.step(ONE)
    steps = [other.step(ONE) for _ in range(3)]
    np.testing.assert_array_equal(observation, steps[-1][0])
    assert reward == pytest.approx(sum(float(step[1]) for step in steps))
    over, count = False, 1
    while not over:
        over, count = env.step(ONE)[3], count + 1
    assert count == 67  # 200 steps are 66 of three and one of two


def test_actions_are_a_running_mean_that_begins_at_zero() -> None:
    env, other = made("ActionSmoothingWrapper", smoothing_coef=0.75), plain()
    for action, smoothed in ((ONE, 0.25), (TWO, 0.75 * 0.25 + 0.5), (ONE, 0.75 * 0.6875 + 0.25)):
        seen = env.step(action)[0]
        np.testing.assert_allclose(seen, other.step(np.array([smoothed], np.float32))[0], rtol=1e-6)
    env.reset(seed=0), other.reset(seed=0)
    np.testing.assert_allclose(env.step(ONE)[0], other.step(np.array([0.25], np.float32))[0], rtol=1e-6)


def test_rewards_come_late_and_none_is_lost() -> None:
    env, other = made("DelayedRewardWrapper", delay=3), plain()
    late, prompt = [], []
    for _ in range(200):
        late.append(float(env.step(ONE)[1]))
        prompt.append(float(other.step(ONE)[1]))
    assert late[:2] == [0.0, 0.0]
    assert late[2] == pytest.approx(sum(prompt[:3]))
    assert late[199] == pytest.approx(prompt[198] + prompt[199])  # 200 = 66 x 3 + 2
    assert sum(late) == pytest.approx(sum(prompt))


def test_a_history_of_observations_and_then_of_actions() -> None:
    env, other = made("HistoryWrapper", horizon=2), plain()
    first = other.reset(seed=0)[0]
    nothing = np.zeros(3, np.float32)
    np.testing.assert_array_equal(env.reset(seed=0)[0], [*nothing, *first, 0, 0])
    second = other.step(ONE)[0]
    np.testing.assert_array_equal(env.step(ONE)[0], [*first, *second, 0, 1])
    third = other.step(TWO)[0]
    np.testing.assert_array_equal(env.step(TWO)[0], [*second, *third, 1, 2])
    np.testing.assert_array_equal(env.reset(seed=0)[0], [*nothing, *first, 0, 0])
    space: Any = env.observation_space
    assert space.high.tolist() == [1, 1, 8, 1, 1, 8, 2, 2]
    assert env.step(ONE)[0].dtype == np.float32


def test_what_they_do_not_take_is_one_line() -> None:
    with pytest.raises(TaskError, match="HistoryWrapper cannot be put there with"):
        envs.make("CartPole-v1", wrappings=[("rl_zoo3.wrappers.HistoryWrapper", {})])
    with pytest.raises(TaskError, match=r"trained behind rl_zoo3\.wrappers\.ActionNoiseWrapper"):
        made("ActionNoiseWrapper")
