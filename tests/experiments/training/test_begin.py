"""What a training asks before anything is made, and what it says while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from prunectl import agents
from prunectl.agents import ControllerError
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.training import begin, sb3, tdmpc
from prunectl.pruning import Method, prune
from tests.agents.test_spaces import Still, box

SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "Image": (spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(3)),
    "Dict": (spaces.Dict(a=box(3), b=box(2)), box(2)),
    "Matrix": (box(5, 5), box(2)),
    "Switches": (box(3), spaces.MultiBinary(2)),
    "Switchboard": (box(3), spaces.MultiBinary([2, 3])),
    "ActionMatrix": (box(3), box(2, 2)),
    "FromOne": (box(3), spaces.Discrete(3, start=1)),
}


@pytest.fixture
def odd(request: pytest.FixtureRequest) -> Iterator[str]:
    observed, done = SPACES[request.param]
    gym.register(f"{request.param}-v0", Still, max_episode_steps=5, kwargs={"observed": observed, "done": done})
    yield f"{request.param}-v0"
    del gym.registry[f"{request.param}-v0"]


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "tdmpc", "tdmpc2"])
@pytest.mark.parametrize("odd", ["Switchboard", "ActionMatrix", "FromOne"], indirect=True)
def test_what_prune_cannot_read_is_not_begun(tmp_path: Path, odd: str, algorithm: str) -> None:
    train = tdmpc.train if algorithm.startswith("tdmpc") else sb3.train
    with pytest.raises(
        ControllerError, match=rf"training on {odd}: actions are (.* supported|choices that count from 1)"
    ):
        train(sb3.Training(algorithm, odd, 100, 0, {}), tmp_path / "deep" / "out", "train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", ["Image", "Dict", "Matrix", "Switches"], indirect=True)
def test_what_is_begun_can_be_pruned(tmp_path: Path, odd: str) -> None:
    settings = {"n_envs": 1, "n_steps": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [6]}}
    made = sb3.train(sb3.Training("ppo", odd, 8, 0, settings), tmp_path / "out", "train", evaluations=1)
    controller = agents.load(made).controller
    seen = calibrate(controller, odd)
    small = prune(controller, Method.of(recovery="reconstruct"), 0.5, seen).controller
    assert small.parameters() < controller.parameters()
    assert evaluate(small, odd, [1, 2]).returns.tolist() == [0.0, 0.0]


def test_a_training_that_fails_leaves_no_empty_folder(tmp_path: Path) -> None:
    class Falling(Still):
        def step(self, action: Any) -> Any:
            raise RuntimeError("the motor is off")

    gym.register("Falling-v0", Falling, max_episode_steps=5, kwargs={"observed": box(3), "done": box(2)})
    try:
        with pytest.raises(RuntimeError, match="motor"):
            sb3.train(sb3.Training("ppo", "Falling-v0", 100, 0, {}), tmp_path / "deep" / "out", "train")
    finally:
        del gym.registry["Falling-v0"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    def stopped() -> None:
        with begin.new_folder(tmp_path / "out"):
            (tmp_path / "out" / "curve.csv").touch()
            raise ControllerError("stopped")

    with pytest.raises(ControllerError):
        stopped()
    assert (tmp_path / "out" / "curve.csv").exists()


def test_it_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(begin, "PAUSE", 0.0)
    settings = {"n_envs": 1, "n_steps": 20, "batch_size": 20, "policy_kwargs": {"net_arch": [4]}}
    sb3.train(sb3.Training("ppo", "CartPole-v1", 40, 0, settings), tmp_path / "out", "train", evaluations=2)
    said = capsys.readouterr().err.splitlines()
    curve = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    assert said[0] == "step 1 of 40 (2%), not evaluated yet"
    assert said[-1].startswith(f"step 40 of 40 (100%), last mean return {float(curve[-1].split(',')[1]):.1f}")
    assert len(said) == 40
    assert agents.load(tmp_path / "out").task == "CartPole-v1"
