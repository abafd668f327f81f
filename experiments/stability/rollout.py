"""Trajectories of a controlled plant: the one evaluator, over environments that are set, changed and watched."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import Controller
from prunectl.envs import Env
from prunectl.envs.plants import Plant
from prunectl.experiments.episodes.evaluator import environments, run

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """What is wrong with the plant: observation noise as a multiple of the plant's own ``noise``, steps by which an
    action comes late, and what is scaled (``mass``, ``length``) by which factor."""

    noise: float = 0.0
    delay: int = 0
    changed: str | None = None
    factor: float = 1.0

    def __str__(self) -> str:
        if self.changed is not None:
            return f"{self.changed} {self.factor - 1:+.0%}"
        if self.delay:
            return f"delay {self.delay} step{'s' if self.delay > 1 else ''}"
        return f"noise x{self.noise:g}" if self.noise else "nominal"


NOMINAL = Condition()


@dataclass(frozen=True)
class Trajectories:
    """States ``(episodes, steps + 1, n)`` from the start on, NaN after an episode's end; ``returns`` and ``ended`` (cut
    short by the task itself) have one entry an episode."""

    states: Array
    returns: Array
    ended: NDArray[np.bool_]

    def stabilised(self, plant: Plant) -> NDArray[np.bool_]:
        """Which episodes end near the goal and stay: `Plant.near`, `Plant.hold`."""
        last = np.abs(self.states[:, -plant.hold :])
        return np.asarray(~self.ended & (last <= plant.near).all(axis=(1, 2)))  # NaN compares as False


def trajectories(
    controller: Controller,
    plant: Plant,
    seeds: Sequence[int],
    starts: Array | None = None,
    condition: Condition = NOMINAL,
    most_steps: int | None = None,
) -> Trajectories:
    """Run an episode a seed and keep the true states.

    Args:
        controller: what acts, deterministically.
        plant: of the task.
        seeds: of the environments' own starts, of the observation noise, and of a planner's randomness.
        starts: initial states ``(episodes, n)``; None for the task's own.
        condition: what is wrong with the plant.
        most_steps: break off after so many; None for whole episodes.

    Raises:
        ControllerError, TaskError: as `experiments.episodes.evaluator.evaluate`.
    """
    with environments(plant.task, len(seeds), controller) as made:
        if condition.changed is not None:
            for env in made:
                plant.change(env, condition.changed, condition.factor)
        watched = [Watched(env, plant, None if starts is None else starts[i]) for i, env in enumerate(made)]
        driven: list[Env] = [Delayed(env, condition.delay) for env in watched] if condition.delay else [*watched]
        if condition.noise:
            scale = condition.noise * np.asarray(plant.noise)
            driven = [Noisy(env, scale) for env in driven]
        episodes = run(controller.policy(seeds), driven, plant.task, seeds, most_steps=most_steps)
    states = np.full((len(seeds), int(episodes.lengths.max()) + 1, len(plant.state)), np.nan)
    for row, env in zip(states, watched, strict=True):
        row[: len(env.readings)] = env.readings
    return Trajectories(plant.wrapped(states), episodes.returns, np.array([env.ended for env in watched]))


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps what is read of the states of an episode, which begins where it is told to."""

    def __init__(self, env: Env, plant: Plant, start: Array | None) -> None:
        super().__init__(env)
        self.plant, self.start = plant, start
        self.readings: list[Array] = []
        self.ended = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        if self.start is not None:
            there = self.plant.put(self.env, self.start)
            # What a wrapper appends (the share of the episode that is left) is as it was.
            observation = np.concatenate([there, observation[len(there) :]]).astype(observation.dtype)
        self.readings, self.ended = [self.plant.reading(self.env)], False
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.readings.append(self.plant.reading(self.env))
        self.ended = bool(terminated)
        return observation, reward, terminated, truncated, info


class Delayed(gym.Wrapper[Any, Any, Any, Any]):
    """An action comes into force ``steps`` steps late; until the first one does, it is 0 (no force)."""

    def __init__(self, env: Env, steps: int) -> None:
        super().__init__(env)
        self.steps = steps
        self.waiting: deque[Any] = deque()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert self.action_space.shape is not None
        self.waiting = deque(np.zeros(self.action_space.shape, np.float32) for _ in range(self.steps))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.waiting.append(action)
        return self.env.step(self.waiting.popleft())


class Noisy(gym.Wrapper[Any, Any, Any, Any]):
    """Adds Gaussian noise to what is observed, seeded by the episode's seed; ``scale`` has its deviations."""

    def __init__(self, env: Env, scale: Array) -> None:
        super().__init__(env)
        self.scale = scale
        self.generator = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.generator = np.random.default_rng([seed, 0x0B5E])
        observation, info = self.env.reset(seed=seed, options=options)
        return self._noisy(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step(action)
        return self._noisy(observation), *rest

    def _noisy(self, observation: Any) -> Any:
        noisy = observation.astype(np.float64)
        noisy[: len(self.scale)] += self.scale * self.generator.standard_normal(len(self.scale))
        return noisy.astype(observation.dtype)
