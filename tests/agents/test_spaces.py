"""Which spaces are read, and that their bounds are the real ones however a zip prints them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from prunectl import agents
from prunectl.agents import ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from tests.agents.test_loading import data_of, rewrite


class Still(gym.Env[Any, Any]):
    """Nothing happens, in these spaces."""

    def __init__(self, observed: spaces.Space[Any], done: spaces.Space[Any], **_: Any) -> None:
        self.observation_space, self.action_space = observed, done

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def box(*shape: int, bound: Any = 1.0, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.full(shape, -bound), np.full(shape, bound), shape, dtype)


def saved(path: Path, observed: spaces.Space[Any], done: spaces.Space[Any], policy: str = "MlpPolicy") -> Path:
    PPO(policy, Still(observed, done), n_steps=8, batch_size=8, seed=0, device="cpu").save(path)
    return path


@pytest.fixture
def printing() -> Iterator[None]:
    before = np.get_printoptions()
    yield
    np.set_printoptions(**before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"precision": 2, "suppress": True}, {"formatter": {"float": lambda v: f"{v:7.1f}"}}, {"threshold": 3}],
    ids=["rounded", "formatted", "elided"],
)
@pytest.mark.usefixtures("printing")
def test_bounds_are_those_of_the_space_however_it_was_printed(tmp_path: Path, options: Any) -> None:
    high = np.float32([0.38752, 0.76, 0.125, 1, 2, 3, 4])
    env = Still(box(3), spaces.Box(-high, high))
    model = SAC("MlpPolicy", env, seed=0, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [4]})
    np.set_printoptions(**options)
    model.save(tmp_path / "odd.zip")
    controller = agents.load(tmp_path / "odd.zip").controller
    assert isinstance(controller.action_space, spaces.Box)
    np.testing.assert_array_equal(controller.action_space.high, high)
    seen = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    np.testing.assert_allclose(controller.act(seen), model.predict(seen, deterministic=True)[0], rtol=1e-5)


def test_a_lidar_of_many_beams(tmp_path: Path) -> None:
    controller = agents.load(saved(tmp_path / "lidar.zip", box(1081, bound=30.0), box(2))).controller
    assert controller.observation_space == box(1081, bound=30.0)


def test_where_the_pickle_cannot_be_read_the_text_can(tmp_path: Path) -> None:
    path = saved(tmp_path / "old.zip", box(1081), box(2, bound=0.25))
    data = data_of(path)
    for key in ("observation_space", "action_space"):
        data[key][":serialized:"] = "gAN9cQAu"  # an empty dict
    controller = agents.load(rewrite(path, {"data": json.dumps(data).encode()})).controller
    assert isinstance(controller.action_space, spaces.Box)
    np.testing.assert_array_equal(controller.action_space.high, [0.25, 0.25])
    assert not controller.observation_space.is_bounded()  # a thousand numbers are elided, and hardly needed
    data["action_space"]["high"] = "[0.25 ... 0.25]"
    with pytest.raises(ControllerError, match="bounds of its actions"):
        agents.load(rewrite(path, {"data": json.dumps(data).encode()}))


@pytest.mark.parametrize(
    ("observed", "done", "policy", "said"),
    [
        (spaces.Dict(a=box(3), b=box(2)), box(2), "MultiInputPolicy", "a Dict"),
        (box(3), spaces.MultiDiscrete([3, 2]), "MlpPolicy", "a MultiDiscrete"),
        (box(3), spaces.MultiBinary(3), "MlpPolicy", "a MultiBinary"),
        (box(5, 4), spaces.Discrete(3), "MlpPolicy", "arrays of 5 x 4 numbers"),
        (spaces.Box(-1, 1, ()), spaces.Discrete(3), "MlpPolicy", "single numbers without an axis"),
        (spaces.Discrete(16), spaces.Discrete(4), "MlpPolicy", "one choice of several"),
        (spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(3), "CnnPolicy", r"images \(3 x 36 x 36\)"),
        (box(3), box(2, 2), "MlpPolicy", "actions are arrays of 2 x 2 numbers"),
        (box(3), box(2, 1), "MlpPolicy", "actions are arrays of 2 x 1 numbers"),
        (box(3), spaces.Box(-1, 1, ()), "MlpPolicy", "actions are single numbers"),
        (box(3), spaces.Discrete(3, start=1), "MlpPolicy", "count from 1"),
    ],
)
def test_other_spaces_are_named_and_refused(
    tmp_path: Path, observed: spaces.Space[Any], done: spaces.Space[Any], policy: str, said: str
) -> None:
    with pytest.raises(ControllerError, match=said):
        agents.load(saved(tmp_path / "odd.zip", observed, done, policy))


def test_a_controller_with_such_actions_in_memory_is_refused_too(tmp_path: Path) -> None:
    model: BaseAlgorithm = PPO("MlpPolicy", Still(box(3), box(2, 2)), n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(ControllerError, match="2 x 2"):
        SB3Controller.of("ppo", model)


def test_statistics_of_several_parts_are_named(zoo: Path) -> None:
    with pytest.raises(ControllerError, match=r"several parts \(achieved_goal, desired_goal, observation\)"):
        agents.load(zoo / "her" / "FetchReach-v1_1")
