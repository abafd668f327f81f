"""How TD-MPC and TD-MPC2 practise: collect an episode, then learn once for each of its decisions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prunectl import envs
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.learner import Learner
from prunectl.agents.tdmpc.planner import Planner
from prunectl.agents.tdmpc.replay import Replay


@dataclass(frozen=True)
class Exploring:
    """How experience is collected.

    Attributes:
        seed_decisions: decisions before learning starts, rounded up to whole episodes.
        at_random: whether those are random; else the controller plans them.
        std_start, std_decisions: the planner's lower bound of its standard deviation falls from ``std_start`` to the
            planner's ``min_std`` over this many decisions.
    """

    seed_decisions: int
    at_random: bool
    std_start: float
    std_decisions: int


class Practice:
    """A controller that learns in place, and everything that changes while it does.

    Args:
        controller: it plans with its networks, which the learner learns in place.
        env: fits it.
        learner: of the controller's networks.
        exploring: how experience is collected.
        seed: of all random numbers but the environment's.
        first_seed: the environment's in the first episode; the others follow.
        steps: of the environment that will be taken.
    """

    def __init__(
        self,
        controller: TDMPCController,
        env: envs.Env,
        learner: Learner,
        exploring: Exploring,
        seed: int,
        first_seed: int,
        steps: int,
    ) -> None:
        self.controller, self.env, self.learner, self.exploring = controller, env, learner, exploring
        self.planning, self.first_seed = controller.planning, first_seed
        self.planner = Planner(controller.networks.online, controller.planning)
        observations = int(np.prod(controller.observation_space.shape))
        # Nothing is forgotten: room for all steps and a last episode that goes beyond them.
        self.replay = Replay(steps // controller.action_repeat + 10_000, observations, self.planner.actions)
        self.generator = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.episodes = self.step = self.decisions = 0

    def episode(self) -> tuple[float, dict[str, float]]:
        """Collect one episode, then learn. Returns its return, and the mean losses where it learned."""
        observation, _ = self.env.reset(seed=self.first_seed + self.episodes)
        mean = torch.zeros(self.planning.horizon, 1, self.planner.actions)
        total, first, over = 0.0, self.decisions, False
        while not over:
            decision, mean = self._decide(observation, mean)
            action = self.controller.as_actions(decision)
            before, reward = observation, 0.0
            for _ in range(self.controller.action_repeat):
                observation, gained, terminated, truncated, _ = self.env.step(action)
                reward, self.step, over = reward + float(gained), self.step + 1, terminated or truncated
                if over:
                    break
            scaled = reward * self.learner.learning.reward_scale
            self.replay.add(before, decision, scaled, observation, terminated, self.episodes)
            self.decisions, total = self.decisions + 1, total + reward
        self.episodes += 1
        if self.decisions < self.exploring.seed_decisions:
            return total, {}
        return total, self._learn(self.decisions - first if self.learner.updates else self.decisions)

    def _decide(self, observation: Any, mean: torch.Tensor) -> tuple[np.ndarray[Any, Any], torch.Tensor]:
        exploring = self.exploring
        if exploring.at_random and not self.learner.updates:
            return self.generator.uniform(-1.0, 1.0, self.planner.actions).astype(np.float32), mean
        mix = min(self.decisions / exploring.std_decisions, 1.0)
        floor = (1.0 - mix) * exploring.std_start + mix * self.planning.min_std
        noise = self.planner.draw([self.noise])
        seen = torch.as_tensor(observation, dtype=torch.float32)[None]
        plan = self.planner(seen, mean, noise, floor)
        spread = plan.std * torch.randn(plan.std.shape, generator=self.noise)
        return (plan.action + spread).clamp_(-1.0, 1.0)[0].numpy(), plan.shifted_mean()

    def _learn(self, updates: int) -> dict[str, float]:
        settings, totals = self.learner.learning, dict[str, float]()
        for _ in range(updates):
            batch = self.replay.sample(
                settings.batch_size, self.planning.horizon, self.generator, settings.per_alpha, settings.per_beta
            )
            losses, priorities = self.learner.update(batch)
            self.replay.update_priorities(batch.indices, priorities)
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss / updates
        return totals

    _COUNTERS = ("episodes", "step", "decisions")

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, in plain data and tensors."""
        return {
            "counters": {name: getattr(self, name) for name in self._COUNTERS},
            "generator": json.dumps(self.generator.bit_generator.state),
            "noise": self.noise.get_state(),
            "learner": self.learner.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back to where `state_dict` was taken."""
        for name in self._COUNTERS:
            setattr(self, name, state["counters"][name])
        self.generator.bit_generator.state = json.loads(state["generator"])
        self.noise.set_state(state["noise"])
        self.learner.load_state_dict(state["learner"])
        self.replay.load_state_dict(state["replay"])
