"""A planner outside of PyTorch: the same decisions from the same random numbers, and a folder that stands alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from prunectl import agents
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.planner_folder import decisions, planner_files
from prunectl.agents.deployment.planner_script import Planner, differences
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.networks import build
from prunectl.agents.tdmpc.planner import Planning
from tests.conftest import untrained, untrained_planner2


@pytest.fixture(scope="module", params=["tdmpc", "tdmpc2"])
def controller(request: pytest.FixtureRequest) -> TDMPCController:
    if request.param == "tdmpc2":
        return untrained_planner2(2)
    torch.manual_seed(2)
    networks = build(3, 1, latent=6, encoder=10, hidden=12)
    with torch.no_grad():  # fresh rewards and values are all zero, which would leave nothing to choose
        for network in (networks.online.reward, networks.online.critic_0, networks.online.critic_1):
            network[-1].weight.normal_()
    like = untrained("sac", "Pendulum-v1")
    planning = Planning(horizon=3, iterations=2, num_samples=40, num_elites=8, mixture_coef=0.1)
    return TDMPCController(networks, planning, 2, 1.0, like.observation_space, like.action_space)


@pytest.fixture
def folder(controller: TDMPCController, tmp_path: Path) -> Path:
    seen = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    said = Interface.of(controller).as_json({"task": "Pendulum-v1", "training_seed": 1})
    for name, content in planner_files(controller, said, decisions(controller, seen)).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_decides_as_the_controller_does(controller: TDMPCController, folder: Path) -> None:
    assert np.median(differences(Planner(folder), np.load(folder / "example.npz"))) < 1e-5


def test_the_next_search_starts_where_the_controllers_would(controller: TDMPCController, folder: Path) -> None:
    noise = controller.planner.draw([torch.Generator().manual_seed(4)])
    start = torch.full((3, 1, 1), 0.3)
    seen = torch.tensor([[0.5, -0.5, 1.0]])
    expected = controller.planner(seen, start, noise)
    numbers = {
        "samples": noise.samples[:, :, 0].numpy(),
        "last": noise.last[:, 0].numpy(),
        "policy": noise.policy[:, 0].numpy(),
        "choice": float(torch.special.ndtr(noise.choice)),
        **({"critics": noise.critics[:, 0].numpy()} if controller.algorithm == "tdmpc2" else {}),
    }
    action, mean = Planner(folder).decide(seen[0].numpy(), start[:, 0].numpy(), numbers)
    np.testing.assert_allclose(action, expected.action[0], atol=1e-5)
    np.testing.assert_allclose(mean, expected.shifted_mean()[:, 0], atol=1e-5)


def test_the_folder_needs_neither_pytorch_nor_prunectl(folder: Path) -> None:
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "prunectl"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
import runpy
runpy.run_path("plan.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "20 decisions within 1e-4" in done.stdout


def test_the_script_says_when_a_network_is_another(controller: TDMPCController, folder: Path) -> None:
    for value in folder.glob("value_*.onnx"):
        value.write_bytes((folder / "reward.onnx").read_bytes())
    done = subprocess.run([sys.executable, str(folder / "plan.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1


def test_drives_each_episode_as_the_script_would_alone(folder: Path) -> None:
    loaded = agents.load(folder)
    assert (loaded.task, loaded.training_seed) == ("Pendulum-v1", 1)
    drive = loaded.controller.policy([5, 6])
    seen = np.random.default_rng(2).normal(size=(5, 2, 3)).astype(np.float32)
    together = [drive(rows, np.array([0, 1])) for rows in seen]
    for episode, seed in enumerate((5, 6)):
        alone = Planner(folder)
        alone.reset(seed)
        for step, rows in enumerate(seen):
            np.testing.assert_array_equal(together[step][episode], alone.act(rows[episode]))
    assert together[0].shape == (2, 1)
    np.testing.assert_array_equal(together[0], together[1])  # held for two steps
    assert not np.array_equal(together[1], together[2])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "dynamics.onnx").unlink(), "dynamics.onnx"),
        (lambda folder: (folder / "reward.onnx").write_bytes(b"x"), "reward.onnx: not a readable ONNX model"),
        (lambda folder: rewrite(folder, planning={"horizon": "far"}), "settings cannot be read"),
        (lambda folder: rewrite(folder, planning={"horizon": 0}), "horizon 0"),
        (lambda folder: rewrite(folder, format="?"), "this version reads"),
        (lambda folder: rewrite(folder, algorithm="tdmpc2", bins={"reward": "wide"}), "it cannot plan"),
        (lambda folder: rewrite(folder, critics=10**9), "1000000000 critics: 2 to 16 can be"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(folder: Path, damage: object, says: str) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises((ControllerError, OSError), match=says):
        agents.load(folder)


def rewrite(folder: Path, **changes: object) -> None:
    said = json.loads((folder / "planning.json").read_text())
    (folder / "planning.json").write_text(json.dumps({**said, **changes}))


def test_a_pruned_world_model_exports_as_well(controller: TDMPCController, tmp_path: Path) -> None:
    from prunectl.pruning import Calibration, Method, prune

    seen = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    calibration = Calibration(seen, controller.act(seen), seen[:20], controller.act(seen[:20]))
    small = prune(controller, Method(recovery="reconstruct"), 0.5, calibration).controller
    expected = decisions(small, seen[:9])
    for name, content in planner_files(small, Interface.of(small).as_json({}), expected).items():
        (tmp_path / name).write_bytes(content)
    assert np.median(differences(Planner(tmp_path), expected)) < 1e-5
