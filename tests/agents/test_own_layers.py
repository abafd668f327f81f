"""Policies with layers of a user's own: traced, pruned and saved as plain networks, or refused by what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.sac.policies import Actor, SACPolicy
from test_extractors import Doubling, Residual, Scaled, ScaledFlat
from torch import nn

import prunectl
from prunectl.agents import ControllerError
from prunectl.agents.networks.controller import Networks
from prunectl.agents.rows import observations_of, row_space
from prunectl.agents.sb3.own_layers import controller_of
from prunectl.experiments.api.subject import subject_of

SETTINGS: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 8, "batch_size": 8}, "sac": {}, "dqn": {}}


class Normed(BaseFeaturesExtractor):
    """A norm, a gate and a way past both."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 12)
        self.first, self.norm = nn.Linear(space.shape[0], 16), nn.LayerNorm(16)
        self.second, self.past = nn.Linear(16, 12), nn.Linear(space.shape[0], 12)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.silu(self.norm(self.first(observations)))
        return torch.tanh(self.second(hidden) + self.past(observations))


class Branching(Normed):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations if observations.sum() > 0 else -observations)


class Accumulating(Normed):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(super().forward(observations), dim=1)


class Views(BaseFeaturesExtractor):
    """A picture and numbers by name, each through layers of its own."""

    def __init__(self, space: spaces.Dict) -> None:
        super().__init__(space, 20)
        seen, felt = space["seen"], space["felt"]
        assert seen.shape is not None
        assert felt.shape is not None
        self.looking = nn.Sequential(nn.Conv2d(seen.shape[0], 6, 5, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
        self.feeling = nn.Sequential(nn.Linear(felt.shape[0], 8), nn.GELU())
        self.both = nn.Linear(6 * 11 * 11 + 8, 20)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = [self.looking(observations["seen"]), self.feeling(observations["felt"])]
        return torch.relu(self.both(torch.cat(parts, dim=1)))


class NormedActor(Actor):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        wide, widths = named["features_dim"], named["net_arch"]
        self.latent_pi = nn.Sequential(*create_mlp(wide, -1, widths, nn.ReLU, post_linear_modules=[nn.LayerNorm]))


class NormedCritic(ContinuousCritic):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        wide, widths = named["features_dim"] + named["action_space"].shape[0], named["net_arch"]
        for number in range(len(self.q_networks)):
            layers = create_mlp(wide, 1, widths, nn.ReLU, post_linear_modules=[nn.LayerNorm])
            self.q_networks[number] = nn.Sequential(*layers)
            setattr(self, f"qf{number}", self.q_networks[number])


class NormedPolicy(SACPolicy):
    """As it is done where critics and actors are to have norms: both made anew with `create_mlp`."""

    def make_actor(self, features_extractor: Any = None) -> Actor:
        return NormedActor(**self._update_features_extractor(self.actor_kwargs, features_extractor))

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        return NormedCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor))


class Looking(gym.Env[Any, Any]):
    observation_space = spaces.Dict(
        {"felt": spaces.Box(-1.0, 1.0, (3,)), "seen": spaces.Box(0, 255, (36, 36, 1), np.uint8)}
    )
    action_space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), float(-np.abs(action).sum()), False, False, {}

    def _seen(self) -> Any:
        seen = self.np_random.integers(0, 256, (36, 36, 1), np.uint8)
        return {"felt": self.np_random.uniform(-1, 1, 3).astype(np.float32), "seen": seen}


class Pushing(Looking):
    """With numbers alone, and a range of its own for each of two actions."""

    observation_space: Any = Looking.observation_space["felt"]

    def _seen(self) -> Any:
        return super()._seen()["felt"]


gym.register("Pushing-v0", Pushing, max_episode_steps=8)
gym.register("Looking-v0", Looking, max_episode_steps=8)


def model_of(family: str, policy: Any = "MlpPolicy", task: Any = None, **arguments: Any) -> Any:
    task = task or ("CartPole-v1" if family == "dqn" else "Pendulum-v1")
    kind: Any = {"ppo": PPO, "sac": SAC, "dqn": DQN}[family]
    given = {"net_arch": [10, 9], **arguments}
    return kind(policy, task, policy_kwargs=given, seed=0, device="cpu", **SETTINGS[family])


def asked(model: Any) -> tuple[Any, Any]:
    """Rows about what a model may see, and its own actions there."""
    rows = np.stack([row_space(model.observation_space).sample() for _ in range(30)]).clip(-3, 255)
    return rows, model.predict(observations_of(model.observation_space, rows), deterministic=True)[0]


def check(model: Any, family: str, path: Path, sparsity: float = 0.4, task: str | None = None) -> Networks:
    """It acts as the model does from memory and from a trusted zip, and half of it acts as it does when it is saved."""
    rows, wanted = asked(model)
    model.save(path / "own.zip")
    with pytest.raises(ControllerError, match="--trust"):
        prunectl.load(path / "own.zip")
    for controller in (
        controller_of(family, model, None, "here"),
        prunectl.load(path / "own.zip", trust=True).controller,
    ):
        assert isinstance(controller, Networks)
        np.testing.assert_allclose(controller.act(rows), wanted, rtol=1e-4, atol=1e-5)
    small = prunectl.prune(model, sparsity, recovery="reconstruct", env=task)
    assert small.plan.sparsity_total == pytest.approx(sparsity, abs=0.05)
    small.save(path / "small.safetensors")
    again = prunectl.load(path / "small.safetensors").controller
    np.testing.assert_array_equal(again.act(rows), small.controller.act(rows))
    assert again.observed.shape == controller.observed.shape
    assert isinstance(again, Networks)
    return again


@pytest.mark.parametrize(
    ("family", "extractor"),
    [(family, Normed) for family in SETTINGS]
    + [("ppo", Scaled), ("sac", ScaledFlat), ("ppo", Residual), ("dqn", Doubling)],
)
def test_an_extractor_of_ones_own_is_traced(family: str, extractor: Any, tmp_path: Path) -> None:
    small = check(model_of(family, features_extractor_class=extractor), family, tmp_path)
    if extractor in (Normed, Residual):
        encoder = next(component for name, component in small.components.items() if name.startswith("encoder"))
        assert encoder.deployed
        assert encoder.parameters > 0


def test_norms_in_actor_and_critics_are_traced(tmp_path: Path) -> None:
    model = model_of("sac", NormedPolicy, "Pushing-v0")
    rows, actions = asked(model)
    traced = controller_of("sac", model, None, "here")
    judged = traced.dataflow()(*traced.inputs(rows, actions))
    scaled = torch.as_tensor(model.policy.scale_action(actions))
    for number, wanted in enumerate(model.critic(torch.as_tensor(rows), scaled)):
        torch.testing.assert_close(judged[f"critic.{number}"], wanted)
    small = check(model, "sac", tmp_path, task="Pushing-v0")
    assert list(small.components) == ["actor", "critic.0", "critic.1"]
    for component in small.components.values():
        norms = [layer for layer in component.module.modules() if isinstance(layer, nn.LayerNorm)]
        assert [layer.normalized_shape[0] < wide for layer, wide in zip(norms, (10, 9), strict=True)] == [True, True]


def test_observations_by_name_are_traced_with_their_images(tmp_path: Path) -> None:
    model = model_of("ppo", "MultiInputPolicy", "Looking-v0", features_extractor_class=Views)
    model.policy.features_extractor.looking[1].running_mean += 0.3
    small = check(model, "ppo", tmp_path, task="Looking-v0")
    assert prunectl.evaluate(small, "Looking-v0", episodes=2).returns.shape == (2,)


def test_statistics_are_part_of_what_is_seen() -> None:
    vector = VecNormalize(DummyVecEnv([lambda: gym.make("Looking-v0")]), norm_obs_keys=["felt"])
    statistics: Any = vector.obs_rms
    statistics["felt"].mean += 0.5
    statistics["felt"].var *= 4.0
    model = model_of("ppo", "MultiInputPolicy", vector, features_extractor_class=Views)
    found = subject_of(model).controller
    assert isinstance(found, Networks)
    env = model.get_env()
    rows = np.concatenate([np.full((5, 3), 0.7), np.arange(5 * 36 * 36).reshape(5, -1) % 256], axis=1)
    felt = vector.normalize_obs({"felt": rows[:, :3], "seen": rows[:, 3:]})["felt"]
    shown = {"felt": felt, "seen": rows[:, 3:].reshape(5, *env.observation_space["seen"].shape)}
    np.testing.assert_allclose(found.act(rows), model.predict(shown, deterministic=True)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("extractor", "said"),
    [(Branching, "tracer cannot follow it"), (Accumulating, "'cumsum' at 'cumsum' is no operation")],
)
def test_what_cannot_be_followed_is_named(extractor: Any, said: str) -> None:
    with pytest.raises(ControllerError, match=f"^here: .*{said}"):
        controller_of("ppo", model_of("ppo", features_extractor_class=extractor), None, "here")


@pytest.mark.parametrize(
    ("family", "policy"), [(MaskablePPO, "MlpPolicy"), (RecurrentPPO, "MlpLstmPolicy"), (CrossQ, "MlpPolicy")]
)
def test_what_plain_networks_cannot_do_is_not_left_out(family: Any, policy: str) -> None:
    task = "CartPole-v1" if family is MaskablePPO else "Pendulum-v1"
    model = family(policy, task, policy_kwargs={"features_extractor_class": Normed}, device="cpu")
    with pytest.raises(ControllerError, match="without a memory, masks or CrossQ's norms"):
        subject_of(model)
