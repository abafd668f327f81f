"""Tasks of other packages: registered by their names where they are installed, and what is missing where not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prunectl import envs
from prunectl.envs import TaskError, packages
from prunectl.experiments.episodes.evaluator import evaluate_random

INSTALL = {
    "FetchReach-v4": ("gymnasium_robotics", r"needs gymnasium_robotics: pip install 'gymnasium-robotics'"),
    "MiniGrid-Empty-5x5-v0": ("minigrid", r"needs minigrid: pip install 'minigrid'"),
    "dm_control/cartpole-swingup-v0": ("dm_control", r"needs dm_control: pip install 'shimmy\[dm-control\]'"),
}


def installed(task: str) -> None:
    if importlib.util.find_spec(INSTALL[task][0]) is None:
        pytest.skip(f"{INSTALL[task][0]} is not installed")


@pytest.mark.parametrize("task", INSTALL)
def test_what_is_missing_is_named(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, said = INSTALL[task]
    if importlib.util.find_spec(module) is not None:
        for name in [name for name in envs.tasks.registry if name.startswith(task[:5])]:
            monkeypatch.delitem(envs.tasks.registry, name)
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    with pytest.raises(TaskError, match=said):
        envs.resolve(task)


def test_the_readme_of_extras_names_what_messages_say() -> None:
    """Every package has an extra of its own in pyproject.toml, with the requirement that the message names."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = [one.split(">")[0] for extra in project["optional-dependencies"].values() for one in extra]
    assert all(package.install in required for package in packages.PACKAGES)


def test_fetch_is_made_under_todays_mujoco_and_old_versions_run_on_it() -> None:
    installed("FetchReach-v4")
    assert envs.resolve("FetchReach-v1") == (
        "FetchReach-v4",
        "task FetchReach-v1 cannot be made here: using FetchReach-v4",
    )
    env = envs.make("FetchReach-v4")
    observation, _ = env.reset(seed=0)
    # achieved_goal, desired_goal and observation in a row; the gripper is where its part of the observation says.
    assert observation.shape == (3 + 3 + 10,)
    np.testing.assert_array_equal(observation[:3], observation[6:9])
    found = evaluate_random("FetchReach-v4", (0, 1))
    assert found.lengths.tolist() == [50, 50]
    assert (found.returns == np.round(found.returns)).all()  # -1 a step away from the goal


def test_minigrid_is_seen_as_pictures_unless_a_wrapper_of_its_own_says_otherwise() -> None:
    installed("MiniGrid-Empty-5x5-v0")
    for name, shape in ((None, (147,)), ("minigrid", (2835,)), ("gym_minigrid", (2835,))):
        wrappings = [] if name is None else [(f"{name}.wrappers.FlatObsWrapper", {})]
        env = envs.make("MiniGrid-Empty-5x5-v0", wrappings=wrappings)
        observation, _ = env.reset(seed=0)
        assert (observation.shape, observation.dtype) == (shape, np.uint8)
    assert evaluate_random("MiniGrid-Empty-5x5-v0", (0, 1)).returns.max() <= 1.0


def test_dm_control_is_a_vector_of_all_that_is_observed() -> None:
    installed("dm_control/cartpole-swingup-v0")
    env = envs.make("dm_control/cartpole-swingup-v0")
    assert env.reset(seed=0)[0].shape == (5,)
    env.close()


@pytest.mark.slow
def test_nothing_is_said_while_they_are_imported(tmp_path: Path) -> None:
    installed("FetchReach-v4")
    script = "from prunectl import envs; envs.make('FetchReach-v4')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
