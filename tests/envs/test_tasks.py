"""Task ids, versions, and environments of one's own as CONTRIBUTING shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from prunectl import envs
from prunectl.envs import TASKS, TaskError, lookup, make, resolve
from prunectl.experiments.episodes.evaluator import evaluate_random

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_specs_say_what_gymnasium_says(task: envs.Task) -> None:
    env = make(task.id)
    assert env.spec is not None
    assert env.spec.max_episode_steps == task.horizon
    assert env.observation_space.shape is not None
    assert len(env.observation_space.shape) == 1
    assert task.random_return is not None
    env.close()


@pytest.mark.parametrize(
    ("asked", "today"),
    [
        ("HalfCheetah-v3", "HalfCheetah-v5"),
        ("Walker2d-v2", "Walker2d-v5"),
        ("LunarLanderContinuous-v2", "LunarLanderContinuous-v3"),
        ("Pendulum-v0", "Pendulum-v1"),
    ],
)
def test_old_versions_stand_for_todays_and_say_so(asked: str, today: str) -> None:
    found, remark = resolve(asked)
    assert found == today
    assert remark is not None
    assert today in remark


@pytest.mark.parametrize("asked", ["Humanoid-v4", "Ant-v4", "InvertedDoublePendulum-v4", "CartPole-v0", "Hopper-v4"])
def test_an_old_version_that_can_be_made_is_kept(asked: str, recwarn: pytest.WarningsRecorder) -> None:
    assert resolve(asked) == (asked, None)
    env = make(asked)
    assert not [warning for warning in recwarn if "out of date" in str(warning.message)]
    assert env.observation_space == gym.make(asked).observation_space
    assert lookup(asked).id == asked
    env.close()


def test_what_cannot_be_made_has_those_that_can_in_its_place() -> None:
    assert envs.stand_ins("Humanoid-v3") == ("Humanoid-v5", "Humanoid-v4", "prunectl/Humanoid376-v4")
    assert envs.stand_ins("Pusher-v2") == ("Pusher-v5",)  # v4 is registered, and needs an older MuJoCo


class Endless(gym.Env[Any, Any]):
    """Nothing ever ends."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 1.0, False, False, {}


@pytest.fixture
def endless() -> Iterator[str]:
    gym.register("Endless-v0", Endless)
    yield "Endless-v0"
    del gym.registry["Endless-v0"]


def test_a_task_without_an_end_has_one_here(endless: str) -> None:
    task, remark = resolve(endless)
    assert task == endless
    assert remark is not None
    assert "broken off after 10,000 steps" in remark
    assert lookup(endless).horizon == 10_000
    found = evaluate_random(endless, (0, 1))
    assert found.lengths.tolist() == found.returns.tolist() == [10_000, 10_000]
    assert evaluate_random(endless, (0,), most_steps=7).lengths.tolist() == [7]


def test_an_id_without_a_version() -> None:
    gym.register("Versionless", Endless, max_episode_steps=3)
    try:
        assert resolve("Versionless") == ("Versionless", None)
    finally:
        del gym.registry["Versionless"]


def test_the_time_left_runs_out_as_it_did_in_training(endless: str) -> None:
    """Stable-Baselines3's wrapper takes 1,000 steps where it finds no limit; ours comes behind it."""
    env = make(endless, wrappings=[("sb3_contrib.common.wrappers.TimeFeatureWrapper", {})])
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0][-1] == pytest.approx(0.999)


def test_todays_versions_stand_for_themselves() -> None:
    assert all(resolve(name) == (name, None) for name in TASKS)


def test_an_unknown_id_offers_the_nearest() -> None:
    with pytest.raises(TaskError, match="did you mean Pendulum-v1"):
        resolve("Pendlum-v1")
    with pytest.raises(TaskError, match=r"module 'no_such_module' cannot be imported.*PYTHONPATH; on every worker"):
        resolve("no_such_module:Thing-v0")


def test_a_module_that_misses_another_is_not_to_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_tasks.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match="No module named 'no_such_module_at_all'") as raised:
        resolve("needy_tasks:Thing-v0")
    assert "PYTHONPATH" not in str(raised.value)


def test_any_gymnasium_id_has_a_spec() -> None:
    task = lookup("MountainCar-v0")
    assert (task.horizon, task.random_return) == (200, None)


def test_the_time_feature_counts_down() -> None:
    env = make("Swimmer-v5", wrappings=[("sb3_contrib.common.wrappers.TimeFeatureWrapper", {})])
    first, _ = env.reset(seed=0)
    second, *_ = env.step(env.action_space.sample())
    assert first.shape == (9,)
    assert (first[-1], second[-1]) == (1.0, pytest.approx(0.999))
    env.close()


def test_observations_without_a_flat_form_are_refused() -> None:
    env = make("Blackjack-v1")  # a tuple of numbers: flattened
    assert env.observation_space.shape is not None
    assert len(env.observation_space.shape) == 1
    env.close()


def test_mujoco_leaves_no_log_behind(tmp_path: Path) -> None:
    script = "from prunectl import envs; envs.make('HalfCheetah-v5').reset(seed=0)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "settotalmass" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_environment_of_ones_own_as_contributing_shows_it(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "integrator.py").write_text(code)
    commands = [line.strip() for line in text.splitlines() if "integrator:DoubleIntegrator-v0" in line]
    assert len(commands) == 3
    done = None
    for command in commands:
        shorter = command.replace("--steps 5000", "--steps 200").removeprefix("prunectl ").split()
        extra = ["--json"] if not command.startswith("prunectl train") else []
        extra += ["--recovery", "reconstruct"] if command.startswith("prunectl prune") else []  # quicker
        done = subprocess.run(
            [str(Path(sys.executable).parent / "prunectl"), *shorter, *extra],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert done is not None
    assert np.isclose(json.loads(done.stdout)["sparsity_total"], 0.8, atol=0.005)
