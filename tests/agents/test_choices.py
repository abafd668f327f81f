"""Actions that are choices: several at once and switches, from acting to exports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO

from prunectl.agents.boundary_layers import ArgmaxEach, Switches
from prunectl.agents.choices import Choice, options
from prunectl.agents.controller import ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.supported import check_spaces
from prunectl.experiments.api.controllers import evaluate, load, prune
from prunectl.experiments.api.exporting import export
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.pruning import Calibration, Method, trace
from prunectl.pruning import prune as smaller
from prunectl.pruning.recovery.pupil import Pupil, lesson

SEVERAL, SWITCHES = spaces.MultiDiscrete([3, 2, 4]), spaces.MultiBinary(3)


class Levers(gym.Env[Any, Any]):
    """Each lever is to be where its number of the observation says: above 0 or below; a reward for each that is."""

    observation_space = spaces.Box(-1.0, 1.0, (5,))

    def __init__(self, switches: bool = False) -> None:
        self.action_space = SWITCHES if switches else SEVERAL

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        reward = float(((np.asarray(action) > 0) == (self.seen[:3] > 0)).sum())
        return self._seen(), reward, False, False, {}

    def _seen(self) -> Any:
        self.seen = self.np_random.uniform(-1, 1, 5).astype(np.float32)
        return self.seen


gym.register("Levers-v0", Levers, max_episode_steps=20)
gym.register("Levers-v1", Levers, max_episode_steps=20, kwargs={"switches": True})
TASKS = ["Levers-v0", "Levers-v1"]


def model_of(task: str, family: Any = PPO) -> Any:
    settings = {"net_arch": [24, 16], "ortho_init": False}
    return family("MlpPolicy", gym.make(task), policy_kwargs=settings, seed=1, device="cpu")


def test_options_and_logits_of_each_kind() -> None:
    assert options(spaces.Discrete(3)) == (3,)
    assert options(SEVERAL) == (3, 2, 4)
    assert options(SWITCHES) == (2, 2, 2)
    assert options(spaces.Box(-1, 1, (2,))) == ()
    several = Choice(spaces.MultiDiscrete([2, 1])).logits(torch.tensor([[1.0, 2.0, 3.0]]))
    assert [part.tolist() for part in several] == [[[1, 2]], [[3]]]
    (switches,) = Choice(spaces.MultiBinary(2)).logits(torch.tensor([[1.0, -2.0]]))
    assert switches.tolist() == [[0, 1], [0, -2]]


def test_choices_are_the_highest_of_each_part_and_switches_are_on_above_zero() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 1.0, 2.0, -1.0]])
    assert ArgmaxEach([2, 2, 2])(logits).tolist() == [[1, 0, 0]]
    assert Switches()(logits - 1).tolist() == [[0, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", [PPO, A2C])
def test_acts_as_the_library_does_before_and_after_pruning(task: str, family: Any, tmp_path: Path) -> None:
    model = model_of(task, family)
    seen = np.random.default_rng(0).uniform(-1, 1, (50, 5)).astype(np.float32)
    controller = SB3Controller.of(family.__name__.lower(), model)
    np.testing.assert_array_equal(controller.act(seen), model.predict(seen, deterministic=True)[0])
    small = prune(model, 0.5, recovery="reconstruct")
    small.controller.save(tmp_path / "small.zip", {})
    again = load(tmp_path / "small.zip").controller
    assert again.action_space == controller.action_space
    np.testing.assert_array_equal(again.act(seen), small.controller.act(seen))
    stock = family.load(tmp_path / "small.zip", env=gym.make(task), device="cpu")
    np.testing.assert_array_equal(small.controller.act(seen), stock.predict(seen, deterministic=True)[0])
    assert small.controller.parameters() < controller.parameters()


@pytest.mark.parametrize("task", TASKS)
def test_distillation_teaches_every_choice(task: str) -> None:
    model = model_of(task)
    seen = np.random.default_rng(0).uniform(-1, 1, (400, 5)).astype(np.float32)
    wanted = model.predict(seen, deterministic=True)[0]
    dense = SB3Controller.of("ppo", model)
    data = Calibration(seen, wanted, seen[:50], wanted[:50])
    pruned, graph = smaller(dense, Method(recovery="none"), 0.7, data), trace(dense)
    agreed = (pruned.controller.act(seen) == wanted).mean(axis=0).min()
    questions = lesson(dense, graph, pruned.plan, dense.inputs(seen, wanted), ["actor"])
    pupil = Pupil(pruned.controller, ["actor"], 0)
    was = pupil.errors(questions)["actor"]
    pupil.learn(questions, 400, ["actor"])
    assert pupil.errors(questions)["actor"] < 0.1 * was
    assert (pruned.controller.act(seen) == wanted).mean(axis=0).min() > max(agreed, 0.9)


@pytest.mark.parametrize("task", TASKS)
def test_calibration_swaps_each_choice_for_a_random_one_now_and_then(task: str) -> None:
    controller = SB3Controller.of("ppo", model_of(task))
    data = calibrate(controller, task)
    among = options(controller.action_space)
    swapped = (data.actions != controller.act(data.observations)).mean(axis=0)
    # Noise of 0, 0.05, 0.1, 0.2 and 0.4 or so, of which one in so many options is what was chosen anyway.
    assert (swapped > 0.03).all()
    assert (swapped < 0.3).all()
    assert (data.actions.max(axis=0) == np.asarray(among) - 1).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", ["onnx", "c"])
def test_exports_make_the_same_choices(task: str, form: str, tmp_path: Path) -> None:
    if form == "c" and shutil.which("gcc") is None:
        pytest.skip("there is no gcc to compile the C with")
    model = model_of(task)
    export(model, tmp_path / f"levers.{form}")
    exported = load(tmp_path / f"levers.{form}", trust=form == "c")
    seen = np.random.default_rng(0).uniform(-1, 1, (100, 5)).astype(np.float32)
    np.testing.assert_array_equal(exported.controller.act(seen), model.predict(seen, deterministic=True)[0])
    assert evaluate(exported, task, episodes=2).returns.tolist() == evaluate(model, task, episodes=2).returns.tolist()


def test_what_stable_baselines_gives_otherwise_is_refused() -> None:
    seen = Levers.observation_space
    with pytest.raises(ControllerError, match="choices that count from"):
        check_spaces(seen, spaces.MultiDiscrete([2, 3], start=[0, 1]), "here")
    with pytest.raises(ControllerError, match="several switches"):
        check_spaces(seen, spaces.MultiBinary([2, 3]), "here")
