"""Every family through the controller, its zip, and plain Stable-Baselines3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SaveTiny, untrained

from prunectl import agents
from prunectl.agents.sb3.architecture import pad_twins
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.pruning import Calibration, Method, prune

GSDE = {"use_sde": True}
FAMILIES: list[tuple[str, str, dict[str, Any]]] = [
    ("sac", "Pendulum-v1", {}),
    ("sac", "Pendulum-v1", GSDE),
    ("sac", "Pendulum-v1", {"encoder": (12, 10)}),
    ("sac", "Pendulum-v1", {"encoder": (12, 10), "policy_kwargs": {"share_features_extractor": False}}),
    ("td3", "Pendulum-v1", {}),
    ("td3", "Pendulum-v1", {"encoder": (12, 10)}),
    ("ddpg", "Pendulum-v1", {"policy_kwargs": {"n_critics": 1}}),
    ("tqc", "Pendulum-v1", GSDE),
    ("tqc", "Pendulum-v1", {"policy_kwargs": {"n_critics": 3, "n_quantiles": 7}}),
    ("crossq", "Pendulum-v1", {}),
    ("ppo", "Pendulum-v1", {"policy_kwargs": {"activation_fn": torch.nn.ELU}}),
    ("ppo", "Pendulum-v1", {**GSDE, "policy_kwargs": {"squash_output": True}}),
    ("ppo", "CartPole-v1", {"encoder": (12, 10)}),
    ("a2c", "CartPole-v1", {}),
    ("trpo", "Pendulum-v1", {}),
    ("dqn", "CartPole-v1", {}),
    ("dqn", "CartPole-v1", {"encoder": (12, 10)}),
    ("qrdqn", "CartPole-v1", {"policy_kwargs": {"n_quantiles": 7}}),
    ("ars", "Pendulum-v1", {}),
    ("ars", "Pendulum-v1", {"policy_kwargs": {"squash_output": False, "with_bias": False}}),
    ("ars", "CartPole-v1", {}),
]


def name_of(family: tuple[str, str, dict[str, Any]]) -> str:
    algorithm, task, settings = family
    return "-".join([algorithm, task, *settings, *settings.get("policy_kwargs", {})])


def observations(controller: agents.Controller, count: int = 20) -> np.ndarray:
    controller.observation_space.seed(5)
    return np.clip(np.stack([controller.observation_space.sample() for _ in range(count)]), -10, 10)


def calibration(controller: agents.Controller, count: int = 200) -> Calibration:
    seen = observations(controller, count)
    return Calibration(seen, controller.act(seen), seen[:50], controller.act(seen[:50]))


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
class TestEveryFamily:
    def test_acts_as_the_library_does(self, family: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
        controller = untrained(family[0], family[1], **family[2])
        controller.save(tmp_path / "c.zip", {})
        library = ALGORITHMS[family[0]].load(tmp_path / "c.zip")
        expected, _ = library.predict(observations(controller), deterministic=True)
        np.testing.assert_array_equal(controller.act(observations(controller)), expected)

    def test_loads_back_what_was_saved(
        self, family: tuple[str, str, dict[str, Any]], save_tiny: SaveTiny, tmp_path: Path
    ) -> None:
        controller = untrained(family[0], family[1], **family[2])
        controller.save(tmp_path / "c.zip", {"task": family[1], "training_seed": 3})
        loaded = agents.load(tmp_path / "c.zip")
        assert (loaded.task, loaded.training_seed) == (family[1], 3)
        assert loaded.controller.algorithm == family[0]
        assert list(loaded.controller.components) == list(controller.components)
        np.testing.assert_array_equal(
            loaded.controller.act(observations(controller)), controller.act(observations(controller))
        )
        for name, tensor in controller.networks.state_dict().items():
            assert torch.equal(tensor, loaded.controller.networks.state_dict()[name]), name

    def test_pruned_loads_in_the_library_with_the_same_actions(
        self, family: tuple[str, str, dict[str, Any]], tmp_path: Path
    ) -> None:
        controller = untrained(family[0], family[1], **family[2])
        small = prune(controller, Method(recovery="reconstruct"), 0.4, calibration(controller)).controller
        small.save(tmp_path / "s.zip", {})
        library = ALGORITHMS[family[0]].load(tmp_path / "s.zip")
        expected, _ = library.predict(observations(controller), deterministic=True)
        np.testing.assert_array_equal(small.act(observations(controller)), expected)
        again = agents.load(tmp_path / "s.zip").controller
        assert again.parameters() == small.parameters() < controller.parameters()
        np.testing.assert_array_equal(again.act(observations(controller)), expected)

    def test_components_own_every_parameter_once(self, family: tuple[str, str, dict[str, Any]]) -> None:
        controller = untrained(family[0], family[1], **family[2])
        targets = tuple(controller.mirrors.values())
        everything = {
            name: p.numel() for name, p in controller.networks.named_parameters() if not name.startswith(targets or "?")
        }
        assert controller.parameters() == sum(everything.values())


def test_a_pruned_zip_needs_no_prunectl(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1", use_sde=True, widths=(24, 20))
    small = prune(controller, Method(recovery="reconstruct"), 0.5, calibration(controller)).controller
    small.save(tmp_path / "small.zip", {"task": "Pendulum-v1"})
    seen = observations(controller)
    np.save(tmp_path / "observations.npy", seen)
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prunectl":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
import numpy, stable_baselines3
model = stable_baselines3.SAC.load("small.zip")
numpy.save("actions.npy", model.predict(numpy.load("observations.npy"), deterministic=True)[0])
assert "prunectl" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), small.act(seen))


def test_twins_of_different_widths_are_padded_without_changing_a_value(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 24), seed=1)
    # Torch-Pruning's global ranking knows no twins, so it leaves them different.
    pruned = prune(controller, Method("stock-global", "magnitude", "uniform", "none"), 0.5, calibration(controller))
    widths = {name: plan.widths_pruned for name, plan in pruned.plan.components.items()}
    assert widths["critic.0"] != widths["critic.1"], "the test needs uneven twins"
    remarks = pruned.controller.save(tmp_path / "p.zip", {})
    assert any("dead units" in remark for remark in remarks)
    library = ALGORITHMS["sac"].load(tmp_path / "p.zip")
    seen = torch.randn(30, 3)
    actions = torch.rand(30, 1) * 2 - 1
    ours = pruned.controller.dataflow()(seen, actions)
    theirs = library.critic(seen, actions)
    for index in range(2):
        torch.testing.assert_close(theirs[index], ours[f"critic.{index}"], rtol=1e-5, atol=1e-6)


def test_padding_counts_the_dead_units() -> None:
    state = {
        "critic.qf0.0.weight": torch.ones(3, 2),
        "critic.qf0.0.bias": torch.ones(3),
        "critic.qf0.2.weight": torch.ones(1, 3),
        "critic.qf1.0.weight": torch.ones(5, 2),
        "critic.qf1.0.bias": torch.ones(5),
        "critic.qf1.2.weight": torch.ones(1, 5),
    }
    padded, dead = pad_twins(state)
    assert dead == 2
    assert padded["critic.qf0.0.weight"].tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    assert padded["critic.qf0.2.weight"].tolist() == [[1, 1, 1, 0, 0]]
    assert torch.equal(padded["critic.qf1.0.weight"], state["critic.qf1.0.weight"])


def test_our_extractor_is_announced(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1", encoder=(8, 6))
    assert any("MlpExtractor" in remark for remark in controller.save(tmp_path / "e.zip", {}))


def test_a_saved_controller_keeps_its_hyperparameters_and_goes_on_learning(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1", gamma=0.9, batch_size=32, learning_starts=10, buffer_size=500)
    small = prune(controller, Method(recovery="reconstruct"), 0.5, calibration(controller)).controller
    small.save(tmp_path / "c.zip", {})
    from prunectl import envs

    model = ALGORITHMS["sac"].load(tmp_path / "c.zip", env=envs.make("Pendulum-v1"))
    assert (model.gamma, model.batch_size, model.buffer_size) == (0.9, 32, 500)
    before = [p.clone() for p in model.policy.actor.parameters()]
    model.learn(30)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.actor.parameters(), strict=True))
