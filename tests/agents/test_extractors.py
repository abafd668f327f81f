"""Features extractors and policies of a user's own: the same under another name, or refused; never passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn

from prunectl import agents, envs
from prunectl.agents import ControllerError
from prunectl.agents.extractors import CnnExtractor
from prunectl.agents.sb3.controller import SB3Controller

FAMILIES: dict[str, Any] = {"ppo": PPO, "sac": SAC}


class Scaled(BaseFeaturesExtractor):
    """Has no parameters, and scales."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, space.shape[0])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations * 0.1


class ScaledFlat(FlattenExtractor):
    """The same, as a kind of what is known."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations) * 0.1


class Residual(BaseFeaturesExtractor):
    """Not one layer after another."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 8)
        self.a, self.b = nn.Linear(space.shape[0], 8), nn.Linear(8, 8)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.a(observations))
        return hidden + self.b(hidden)


class Mlp(BaseFeaturesExtractor):
    """A plain one: what prunectl's own is, under other names."""

    def __init__(self, space: spaces.Box, width: int = 12) -> None:
        super().__init__(space, 10)
        first, second = nn.Linear(space.shape[0], width), nn.Linear(width, 10)
        self.stack = nn.Sequential(nn.Flatten(), first, nn.Tanh(), second, nn.Tanh())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.stack(observations)
        return found


class Doubling(Mlp):
    """Its layers are plain, and it does something else besides."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(observations)


class Opposite(ActorCriticPolicy):
    """Does the opposite of what its networks say."""

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return -super()._predict(observation, deterministic)


def model(family: str, extractor: type[BaseFeaturesExtractor], policy: Any = "MlpPolicy") -> BaseAlgorithm:
    settings: dict[str, Any] = {"buffer_size": 10} if family == "sac" else {"n_steps": 8, "batch_size": 8}
    kwargs = {"net_arch": [6], "features_extractor_class": extractor}
    found: BaseAlgorithm = FAMILIES[family](
        policy, envs.make("Pendulum-v1"), policy_kwargs=kwargs, seed=0, device="cpu", **settings
    )
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("extractor", [Scaled, ScaledFlat, Residual])
def test_an_extractor_that_is_not_known_is_not_read_from_text(
    tmp_path: Path, family: str, extractor: type[BaseFeaturesExtractor]
) -> None:
    live = model(family, extractor)
    with pytest.raises(ControllerError, match=f"features extractor {extractor.__name__}"):
        SB3Controller.of(family, live)
    live.save(tmp_path / "own.zip")
    with pytest.raises(ControllerError, match=f"{extractor.__name__}.*--trust"):
        agents.load(tmp_path / "own.zip")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_one_is_rebuilt_under_its_own_name(tmp_path: Path, family: str) -> None:
    live = model(family, Mlp)
    live.save(tmp_path / "own.zip")
    seen = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    expected = live.predict(seen, deterministic=True)[0]
    for controller in (SB3Controller.of(family, live), agents.load(tmp_path / "own.zip", trust=True).controller):
        np.testing.assert_allclose(controller.act(seen), expected, rtol=1e-5)
        assert any("12-10" in line for line in str(controller).splitlines() if "encoder" in line)
        controller.save(tmp_path / "again.zip", {})
        np.testing.assert_allclose(agents.load(tmp_path / "again.zip").controller.act(seen), expected, rtol=1e-5)


@pytest.mark.parametrize(("extractor", "policy"), [(Doubling, "MlpPolicy"), (FlattenExtractor, Opposite)])
def test_what_acts_otherwise_than_its_networks_is_refused(extractor: type[BaseFeaturesExtractor], policy: Any) -> None:
    with pytest.raises(ControllerError, match="do not act as Stable-Baselines3's predict does"):
        SB3Controller.of("ppo", model("ppo", extractor, policy))


def test_looking_changes_nothing() -> None:
    live = model("ppo", FlattenExtractor)
    live.policy.set_training_mode(True)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]  # noqa: NPY002
    SB3Controller.of("ppo", live)
    assert live.policy.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index,union-attr]  # noqa: NPY002


def test_a_module_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_layers.py").write_text(
        "from stable_baselines3.common.torch_layers import FlattenExtractor\nclass Mine(FlattenExtractor): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lab_layers  # type: ignore[import-not-found]

    model("ppo", lab_layers.Mine).save(tmp_path / "own.zip")
    monkeypatch.undo()
    monkeypatch.delitem(__import__("sys").modules, "lab_layers")
    with pytest.raises(ControllerError, match=r"needs the module 'lab_layers'.*PYTHONPATH"):
        agents.load(tmp_path / "own.zip", trust=True)


def test_a_cnn_of_ones_own_widths_is_saved_and_loaded_by_stable_baselines(tmp_path: Path) -> None:
    """Every width is an argument: a zip of a smaller one is loaded, acts as before and is trained on."""
    task = "prunectl/CartPoleSwingUpPixels-v0"
    widths = {"channels": [3, 5], "kernels": [4, 3], "strides": [4, 2], "features_dim": 7}
    kwargs = {"features_extractor_class": CnnExtractor, "features_extractor_kwargs": widths, "net_arch": [6]}
    model = PPO("CnnPolicy", gym.make(task), n_steps=16, batch_size=16, policy_kwargs=kwargs, device="cpu", seed=0)
    shapes = [tuple(p.shape) for p in model.policy.features_extractor.parameters()]
    # 36 pixels -> (36 - 4) / 4 + 1 = 9 -> (9 - 3) / 2 + 1 = 4: 5 channels of 4 x 4 are 80 numbers.
    assert shapes == [(3, 3, 4, 4), (3,), (5, 3, 3, 3), (5,), (7, 80), (7,)]
    model.save(tmp_path / "small.zip")
    again = PPO.load(tmp_path / "small.zip", env=gym.make(task), device="cpu")
    seen = np.random.default_rng(0).integers(0, 256, (4, 3, 36, 36), dtype=np.uint8)
    before, after = (either.predict(seen, deterministic=True)[0] for either in (model, again))
    np.testing.assert_array_equal(after, before)
    again.learn(16)


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ({"channels": [3, 5], "kernels": [4]}, "shorter"),
        ({"channels": []}, "at least one convolution"),
        ({"channels": [3, 3, 3], "kernels": [8, 4, 4], "strides": [4, 2, 1]}, "a kernel of 4 pixels on 3"),
    ],
)
def test_a_cnn_that_cannot_be_says_why(widths: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CnnExtractor(spaces.Box(0, 1, (3, 36, 36)), **widths)
