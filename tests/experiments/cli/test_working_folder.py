"""What lies where the user stands is imported when they name it, and for no other reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SaveTiny

from prunectl.envs import tasks
from prunectl.experiments.cli import main
from tests import hostile

#: Packages that some checkpoint, task or command may ask for; those that are installed are found where they are.
ASKED_FOR = ("dm_control", "shimmy", "gymnasium_robotics", "minigrid", "jax", "gym", "mujoco_py", "evil")

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command in a folder of a stranger's, with that folder first on the path, as Python has it."""
    monkeypatch.chdir(tmp_path)
    for name in ASKED_FOR:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)\n")
    plugin = tmp_path / "evil-1.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[prunectl.plugins]\nevil = evil\n")

    def begun(*arguments: str, first: str = "") -> int:
        monkeypatch.setattr(sys, "path", [first, *(path for path in sys.path if path)])
        monkeypatch.setattr(sys, "argv", ["prunectl", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return begun


@pytest.mark.parametrize(
    "task", ["dm_control/cartpole-swingup-v0", "MiniGrid-Empty-5x5-v0", "FetchReach-v4", "phys2d/CartPole-v1"]
)
def test_a_task_that_a_file_names_imports_nothing_from_there(
    save_tiny: SaveTiny, command: Command, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    path = save_tiny("ppo", "CartPole-v1")
    said = json.dumps({"task": task}).encode()
    path.write_bytes(hostile.with_entry(path.read_bytes(), "prunectl.json", lambda _: said))
    for first in ("", str(path.parent)):
        with hostile.nothing_runs_from(path.parent):
            assert command("inspect", str(path), first=first) == 0
            assert command("evaluate", str(path), "--episodes", "1", first=first) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_names_that_nobody_knows_look_for_no_plugins_there(tmp_path: Path, command: Command) -> None:
    with hostile.nothing_runs_from(tmp_path):
        assert command("prune", "ppo-cartpole", "--sparsity", "0.5", "--importance", "nobody", "-o", "small.zip") == 2


def test_what_the_user_names_is_imported_from_there(tmp_path: Path, command: Command) -> None:
    (tmp_path / "of_the_user.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('Mine-v0', entry_point='gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=5)\n"
    )
    try:
        assert command("evaluate", "random", "--task", "of_the_user:Mine-v0", "--episodes", "1") == 0
    finally:
        tasks.registry.pop("Mine-v0", None)
        sys.modules.pop("of_the_user", None)
