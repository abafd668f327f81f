"""What a loop bears: observation noise, late actions, another mass, another length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunectl.agents.controller import Controller
from prunectl.envs.plants import Plant
from prunectl.experiments.stability.bounds import Count
from prunectl.experiments.stability.rollout import NOMINAL, Condition, trajectories


@dataclass(frozen=True)
class Borne:
    """Returns of whole episodes from the task's own starts under a condition, and how many were not stabilised."""

    condition: Condition
    mean_return: float
    std_return: float
    unstable: Count


def conditions(plant: Plant) -> list[Condition]:
    """Nominal; the plant's observation noise; an action one and two steps late; mass and length a fifth off."""
    found = [NOMINAL, Condition(noise=1.0), Condition(delay=1), Condition(delay=2)]
    return found + [Condition(changed=what, factor=f) for what, (_, factors) in plant.changes.items() for f in factors]


def bear(controller: Controller, plant: Plant, seeds: Sequence[int], condition: Condition) -> Borne:
    """Run an episode a seed under the condition."""
    found = trajectories(controller, plant, seeds, condition=condition)
    failures = int((~found.stabilised(plant)).sum())
    return Borne(condition, float(found.returns.mean()), float(found.returns.std()), Count(failures, len(seeds)))
