"""The evaluator against a plain loop, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from prunectl import agents, envs
from prunectl.agents import ControllerError
from prunectl.experiments.episodes.evaluator import environments, evaluate, evaluate_random, run, task_for
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


def test_the_seed_of_the_action_that_is_not_a_number_is_named() -> None:
    def policy(observations: Any, episodes: Any) -> Any:
        return np.where(episodes == 2, np.nan, 0.0)[:, None]

    with environments("Pendulum-v1", 4) as made, pytest.raises(ControllerError, match=r"\(seed 12\)"):
        run(policy, made, "Pendulum-v1", (10, 11, 12, 13))


class Whole(gym.Env[Any, Any]):
    """Begins at whole numbers, of the type of whole numbers, and goes on between them."""

    observation_space = gym.spaces.Box(-10, 10, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = np.array([1.0, 0.0])
        return self.x.astype(int), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x = self.x + 0.3
        return self.x.astype(np.float32), 0.0, False, False, {}


def test_observations_are_of_the_type_of_their_space() -> None:
    """A first observation of whole numbers once made whole numbers of all."""
    env = gym.wrappers.TimeLimit(Whole(), 4)
    shown = []

    def policy(observations: Any, episodes: Any) -> Any:
        shown.append(observations.copy())
        return np.zeros((1, 1), np.float32)

    run(policy, [env], "Whole-v0", (0,))
    assert {seen.dtype for seen in shown} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(shown), [[1, 0], [1.3, 0.3], [1.6, 0.6], [1.9, 0.9]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 2), (2, 1), (1, 2), ()])
def test_actions_that_are_no_vectors_are_refused_and_random_ones_are_not(shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(-1, 1, shape)

    class Shaped(Whole):
        action_space = space

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            assert np.shape(action) == shape
            return np.zeros(2, np.float32), float(np.sum(action)), False, False, {}

    gym.register("Shaped-v0", Shaped, max_episode_steps=3)
    try:
        found = evaluate_random("Shaped-v0", (0, 1))  # as many episodes as rows: once added up by broadcasting
        assert found.returns.shape == (2,)
        controller = untrained("ppo", "Pendulum-v1")
        odd = replace(controller, blueprint=replace(controller.blueprint, action_space=space))
        with pytest.raises(ControllerError, match="vectors of numbers"):
            evaluate(odd, "Shaped-v0", (0, 1))
    finally:
        del gym.registry["Shaped-v0"]


@pytest.mark.parametrize(
    ("asked", "task"),
    [("Humanoid-v3", "Humanoid-v4"), ("HumanoidStandup-v2", "HumanoidStandup-v5"), ("Ant-v4", "Ant-v4")],
)
def test_an_old_task_is_stood_for_by_the_version_that_fits(asked: str, task: str) -> None:
    sees = "Humanoid-v4" if asked == "Humanoid-v3" else task
    found, remark = task_for(untrained("ppo", sees, widths=(4,)), asked)
    assert found == task
    assert remark == (None if asked == task else f"task {asked} cannot be made here: using {task}")


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


class Single(gym.Env[Any, Any]):
    """A device: there is one, and it cannot be opened twice. What an episode gives depends on its seed and actions."""

    observation_space = gym.spaces.Box(-10, 10, (3,))
    action_space = gym.spaces.Box(-2.0, 2.0, (1,))
    opened = 0

    def __init__(self) -> None:
        if Single.opened:
            raise RuntimeError("port 5005 is already in use")
        Single.opened += 1

    def close(self) -> None:
        Single.opened = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.left = self.np_random.normal(size=3), 3 + int(self.np_random.integers(5))
        return self.x.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x, self.left = self.x + 0.1 * float(action[0]), self.left - 1
        return self.x.astype(np.float32), float(self.x.sum()), self.left == 0, False, {}


class Many(Single):
    """The same, as often as one likes."""

    def __init__(self) -> None:
        pass


def test_where_there_is_one_environment_it_is_used_in_turn() -> None:
    for kind in (Single, Many):
        gym.register(f"{kind.__name__}-v0", kind, max_episode_steps=20)
    try:
        controller = untrained("sac", "Pendulum-v1")
        for by in (controller, None):
            one, many = (
                evaluate_random(task, range(5)) if by is None else evaluate(by, task, range(5))
                for task in ("Single-v0", "Many-v0")
            )
            assert one.lengths.tolist() == many.lengths.tolist()
            assert len(set(one.lengths.tolist())) > 1
            np.testing.assert_allclose(one.returns, many.returns, rtol=1e-5)
        found = evaluate(controller, "Single-v0", range(5), record=True)
        assert found.observations is not None
        assert len(found.observations) == found.lengths.sum()
        assert Single.opened == 0
    finally:
        del gym.registry["Single-v0"], gym.registry["Many-v0"]


@pytest.mark.parametrize("bound", [float(np.finfo(np.float32).max), np.inf])
def test_noise_where_the_bounds_are_no_scale(bound: float) -> None:
    class Loose(Many):
        action_space = gym.spaces.Box(-bound, bound, (1,))

    gym.register("Loose-v0", Loose, max_episode_steps=20)
    try:
        controller = untrained("ppo", "Pendulum-v1")
        loose = replace(controller, blueprint=replace(controller.blueprint, action_space=Loose.action_space))
        disturb = np.asarray([0.0, 0.4])
        plain = evaluate(loose, "Loose-v0", (1, 1), record=True).actions
        noisy = evaluate(loose, "Loose-v0", (1, 1), record=True, disturb=disturb).actions
        assert plain is not None
        assert noisy is not None
        np.testing.assert_allclose(noisy[0], plain[0], rtol=1e-6)
        assert 0 < np.abs(noisy[1] - plain[1]).max() < 3 * np.abs(plain).max()
    finally:
        del gym.registry["Loose-v0"]
