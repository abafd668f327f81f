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
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from prunectl import agents
from prunectl.agents import ControllerError
from prunectl.agents.rows import observations_of, row_of
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.pruning import Calibration, Method, prune
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
        (spaces.Box(-1, 1, ()), spaces.Discrete(3), "MlpPolicy", "single numbers without an axis"),
        (
            spaces.Dict(a=box(3), b=spaces.Box(-1, 1, ())),
            box(2),
            "MultiInputPolicy",
            "observations 'b' are single numbers",
        ),
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


IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
KINDS = {
    "matrix": (box(5, 4), "MlpPolicy"),
    "choice": (spaces.Discrete(7), "MlpPolicy"),
    "choices": (spaces.MultiDiscrete([3, 2, 5]), "MlpPolicy"),
    "switches": (spaces.MultiBinary(4), "MlpPolicy"),
    "image, flattened": (IMAGE, "MlpPolicy"),
    "image": (IMAGE, "CnnPolicy"),
    "by name": (spaces.Dict(b=box(2, dtype=np.float64), a=spaces.Discrete(3), c=box(2, 3)), "MultiInputPolicy"),
    "image by name": (spaces.Dict(a=box(3), eye=IMAGE, z=spaces.MultiDiscrete([2, 3])), "MultiInputPolicy"),
}


def rows_of(space: spaces.Space[Any], count: int = 6) -> Any:
    space.seed(3)
    return np.stack([row_of(space, space.sample()) for _ in range(count)])


@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=["ppo", "sac"])
@pytest.mark.parametrize("kind", KINDS)
def test_observations_of_every_kind_are_seen_as_the_library_sees_them(
    tmp_path: Path, kind: str, algorithm: type[BaseAlgorithm]
) -> None:
    observed, policy = KINDS[kind]
    sizes: dict[str, Any] = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"buffer_size": 10}
    model = algorithm(policy, Still(observed, box(2)), seed=0, device="cpu", **sizes)  # type: ignore[call-arg]
    model.save(tmp_path / "model.zip")
    loaded = agents.load(tmp_path / "model.zip").controller
    rows = rows_of(loaded.observed)
    expected, _ = model.predict(observations_of(loaded.observed, rows), deterministic=True)
    for controller in (loaded, SB3Controller.of(model.__class__.__name__.lower(), model)):
        np.testing.assert_array_equal(controller.act(rows), expected)
    # The dataflow sees what acting sees, whatever form that has.
    actor = loaded.dataflow()(*loaded.inputs(rows, expected))["actor"].detach().numpy()
    np.testing.assert_allclose(actor, expected, atol=1e-5)
    loaded.save(tmp_path / "again.zip", {})
    again, _ = algorithm.load(tmp_path / "again.zip").predict(
        observations_of(loaded.observed, rows), deterministic=True
    )
    np.testing.assert_array_equal(again, expected)


def test_a_cnn_is_saved_as_the_librarys_own_until_its_widths_are_others(tmp_path: Path) -> None:
    observed, policy = KINDS["image by name"]
    model = PPO(policy, Still(observed, box(2)), n_steps=8, batch_size=8, seed=0, device="cpu")
    controller = SB3Controller.of("ppo", model)
    assert not controller.save(tmp_path / "dense.zip", {})
    assert type(PPO.load(tmp_path / "dense.zip").policy.features_extractor) is CombinedExtractor
    rows = rows_of(controller.observed, 60)
    seen = Calibration(rows, controller.act(rows), rows[:9], controller.act(rows[:9]))
    small = prune(controller, Method(recovery="reconstruct"), 0.5, seen).controller
    assert any("PartsExtractor" in remark for remark in small.save(tmp_path / "small.zip", {}))
    stock = PPO.load(tmp_path / "small.zip")
    expected, _ = stock.predict(observations_of(controller.observed, rows), deterministic=True)
    np.testing.assert_array_equal(small.act(rows), expected)
    np.testing.assert_array_equal(agents.load(tmp_path / "small.zip").controller.act(rows), expected)
    assert small.parameters() < 0.51 * controller.parameters()
    stock.set_env(DummyVecEnv([lambda: Still(observed, box(2))]))
    stock.learn(8)
