"""A TD-MPC or TD-MPC2 agent as a `Controller`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from prunectl.agents.boundary_layers import Rescale, flat
from prunectl.agents.controller import Batch, Component, Controller, HeldPolicy, Policy
from prunectl.agents.tdmpc.dataflow import LatentFlow
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc.planner import Planner, Planning
from prunectl.agents.tdmpc.save import save_checkpoint
from prunectl.agents.tdmpc2.narrowed import narrowed


@dataclass(frozen=True)
class TDMPCController(Controller):
    """A world model, the settings of its planner, and how its decisions become the environment's actions.

    Attributes:
        networks: the online networks and their slow copies.
        planning: the planner's settings.
        action_repeat: environment steps that a decision holds.
        reward_scale: what rewards were multiplied by in training (one decision's rewards summed first).
        observation_space: flat.
        action_space: bounded; decisions in [-1, 1] are stretched to it.
    """

    suffix: ClassVar[str] = ".pt"  # type: ignore[misc]
    networks: TDMPCNetworks
    planning: Planning
    action_repeat: int
    reward_scale: float
    observation_space: spaces.Box
    action_space: spaces.Box
    algorithm: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", self.networks.online.algorithm)
        self.networks.eval()

    def __getstate__(self) -> dict[str, Any]:
        # The planner holds compiled closures, which do not travel; it is made again where it is needed.
        return {name: value for name, value in vars(self).items() if name != "planner"}

    @cached_property
    def components(self) -> Mapping[str, Component]:
        online = self.networks.online
        return {
            name: Component(name, getattr(online, attribute), True) for name, attribute in online.components.items()
        }

    @property
    def ties(self) -> Sequence[Sequence[str]]:
        # A convention, not a need: planner and checkpoint take critics of different widths.
        return [tuple(name for name in self.components if name.startswith("critic."))]

    @property
    def mirrors(self) -> Mapping[str, str]:
        return {f"online.{name}.": f"target.{name}." for name in self.networks.online.slow}

    @cached_property
    def planner(self) -> Planner:
        """The planner over these networks."""
        return Planner(self.networks.online, self.planning)

    def dataflow(self) -> nn.Module:
        return LatentFlow(self.networks.online).eval()

    @property
    def latent_inputs(self) -> frozenset[int]:
        return frozenset({1})

    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[Tensor, ...]:
        """Observations, latents and actions in [-1, 1], ``(n, ...)`` each.

        Latents are imagined as the planner imagines them: row i starts at its own observation and takes i mod (H + 1)
        steps of the dynamics. Blocks of H + 1 rows take turns: one follows the policy and asks about the given action,
        the next follows random actions and asks about a random one. The same rows always give the same inputs.
        """
        model, horizon = self.networks.online, self.planning.horizon
        seen, given = _tensor(observations), _tensor(self._as_decisions(actions))
        generator = torch.Generator().manual_seed(0)
        row = torch.arange(len(seen))
        depth, random = row % (horizon + 1), (row // (horizon + 1)) % 2 == 1
        follow = model.policy
        with torch.no_grad():
            latent = model.encoder(seen)
            for step in range(horizon):
                drawn = torch.rand(given.shape, generator=generator) * 2.0 - 1.0
                action = torch.where(random[:, None], drawn, follow(latent))
                imagined = model.dynamics(torch.cat([latent, action], 1))
                latent = torch.where((depth > step)[:, None], imagined, latent)
            drawn = torch.rand(given.shape, generator=generator) * 2.0 - 1.0
            return seen, latent, torch.where(random[:, None], drawn, given)

    def act(self, observations: Batch) -> NDArray[Any]:
        """A fresh plan for each row, all with the same random numbers, so that rows do not depend on each other."""
        generator = torch.Generator().manual_seed(0)
        noise = self.planner.draw([generator]).repeated(len(observations))
        start = torch.zeros(self.planning.horizon, len(observations), self.planner.actions)
        return self.as_actions(self.planner(_tensor(observations), start, noise).action.numpy())

    def deployed_path(self) -> nn.Sequential:
        """The encoder and the policy, without planning."""
        online = self.networks.online
        return flat(online.encoder, online.policy, Rescale(self.action_space))

    @property
    def held_steps(self) -> int:
        return self.action_repeat

    @property
    def plans(self) -> bool:
        return True

    def policy(self, seeds: Sequence[int]) -> Policy:
        """Warm-started planning, every decision held for ``action_repeat`` steps; random numbers from the seeds."""
        return HeldPolicy(_Episodes(self, seeds), self.action_repeat, len(seeds))

    def with_networks(self, networks: nn.Module) -> Self:
        assert isinstance(networks, TDMPCNetworks)
        return replace(self, networks=networks)

    def narrowed(self, inputs: Sequence[Tensor], components: Collection[str]) -> Self:
        _, latent, action = inputs
        networks = narrowed(self.networks, torch.cat([latent, action], 1), components)
        return self if networks is self.networks else self.with_networks(networks)

    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        save_checkpoint(
            path,
            self.networks,
            self.planning,
            self.action_repeat,
            self.reward_scale,
            self.observation_space,
            self.action_space,
            provenance,
        )
        return ()

    def as_actions(self, decisions: NDArray[Any]) -> NDArray[np.float32]:
        """Decisions in [-1, 1] stretched to the environment's action range."""
        low, high = self.action_space.low, self.action_space.high
        return np.asarray(low + 0.5 * (decisions + 1.0) * (high - low), dtype=np.float32)

    def _as_decisions(self, actions: NDArray[Any]) -> NDArray[Any]:
        low, high = self.action_space.low, self.action_space.high
        return np.clip(2.0 * (np.asarray(actions) - low) / (high - low) - 1.0, -1.0, 1.0)


class _Episodes:
    """What decides in a batch of episodes: each has its own generator and warm start."""

    def __init__(self, controller: TDMPCController, seeds: Sequence[int]) -> None:
        self.controller, planner = controller, controller.planner
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.mean = torch.zeros(controller.planning.horizon, len(seeds), planner.actions)

    def __call__(self, observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        planner = self.controller.planner
        generators = [self.generators[episode] for episode in episodes]
        plan = planner(_tensor(observations), self.mean[:, episodes], planner.draw(generators))
        self.mean[:, episodes] = plan.shifted_mean()
        return self.controller.as_actions(plan.action.numpy())


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.as_tensor(np.asarray(values).reshape(len(values), -1), dtype=torch.float32)
