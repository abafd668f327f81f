"""Today's tasks as agents of earlier versions of them observe them.

Ant and Humanoid of v2 to v4 observed 111 and 376 numbers, their v5 leaves out what never changes: the entries of the
world, which is the first of the bodies, and of the six joint directions of the root that no motor drives (notes of
version in Gymnasium's `AntEnv` and `HumanoidEnv`). With zeros in those places v5's are the old ones, number by number.

Contact forces are a case of their own. The Ant of v2 and v3 saw 84 of them, and with the MuJoCo of its time (2.0 on)
they were all 0, as the statistics of agents show that were trained on it; those of v4 saw them, clipped to [-1, 1], if
they asked for ``use_contact_forces``, and saw 27 numbers if not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

Vector = NDArray[Any]


class ZerosBetween(gym.ObservationWrapper[Vector, Vector, Vector], RecordConstructorArgs):
    """Puts zeros into observations ``(n,)``: a pair of ``runs`` is a place there and how many stand before it."""

    def __init__(self, env: gym.Env[Vector, Vector], runs: Sequence[Sequence[int]]) -> None:
        RecordConstructorArgs.__init__(self, runs=runs)
        super().__init__(env)
        given = env.observation_space
        assert isinstance(given, spaces.Box)
        self.places = np.repeat([place for place, _ in runs], [count for _, count in runs])
        low, high = np.insert(given.low, self.places, 0.0), np.insert(given.high, self.places, 0.0)
        self.observation_space = spaces.Box(low, high, dtype=given.low.dtype.type)

    def observation(self, observation: Vector) -> Vector:
        return np.insert(observation, self.places, 0.0)


@dataclass(frozen=True)
class Earlier:
    """An earlier task made of one of today: whom it stands for, today's settings, where zeros are missing."""

    id: str
    entry_point: str
    stands_for: tuple[str, ...]
    zeros: tuple[tuple[int, int], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Ant: 13 positions, 14 velocities, six forces on each of 14 bodies. Humanoid: 22 positions, 23 velocities, ten numbers
#: of inertia and six velocities of each of 14 bodies, 23 forces of the joint directions, six forces on each body.
EARLIER = (
    Earlier(
        "prunectl/Ant111-v3",
        "gymnasium.envs.mujoco.ant_v5:AntEnv",
        ("Ant-v2", "Ant-v3"),
        ((27, 84),),
        {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0},
    ),
    Earlier("prunectl/Ant111-v4", "gymnasium.envs.mujoco.ant_v5:AntEnv", ("Ant-v2", "Ant-v3", "Ant-v4"), ((27, 6),)),
    Earlier(
        "prunectl/Humanoid376-v4",
        "gymnasium.envs.mujoco.humanoid_v5:HumanoidEnv",
        ("Humanoid-v2", "Humanoid-v3", "Humanoid-v4"),
        ((45, 10), (175, 6), (253, 6), (270, 6)),
    ),
)


def register() -> None:
    """Make them known to Gymnasium."""
    for task in EARLIER:
        gym.register(
            task.id,
            entry_point=task.entry_point,
            max_episode_steps=1000,
            kwargs=dict(task.settings),
            additional_wrappers=(ZerosBetween.wrapper_spec(runs=task.zeros),),
        )


def stands_for(name: str) -> tuple[str, ...]:
    """The tasks of ours that give what an old task gave, the likeliest first."""
    return tuple(task.id for task in EARLIER if name in task.stands_for)
