"""Reading ``vecnormalize.pkl`` without running anything that is in it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl.agents.arrays import admit_arrays, number, numbers
from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.pickles import PickleError, read_pickle
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.supported import LARGEST_OBSERVATION
from prunectl.registry import one_line

#: The statistics of a vector observation take kilobytes.
LARGEST_FILE = 16 * 2**20


#: What Stable-Baselines3's HER of before 2021's end showed its networks of a goal's three parts, one after the other.
GOAL = ("observation", "desired_goal")
#: No array of statistics has more axes: an image has three.
_AXES = 8


@dataclass(frozen=True)
class Statistics:
    """Means and variances by the name of an observation's part, ``""`` where there is but one."""

    parts: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    clip: float
    epsilon: float

    def of(self, space: spaces.Space[Any]) -> Normalisation:
        """What they do to rows of this space.

        Raises:
            ControllerError: they are of observations of another form.
        """
        parts = self.parts
        if set(GOAL) < parts.keys() and not isinstance(space, spaces.Dict):
            mean, var = (np.concatenate(sides) for sides in zip(*(parts[key] for key in GOAL), strict=True))
            parts = {"": (mean, var)}
        return Normalisation.by_part(space, parts, self.clip, self.epsilon)


def read_statistics(path: Path) -> tuple[Statistics | None, RewardScale | None]:
    """What a saved `VecNormalize` did to observations and to rewards; None for what it left alone.

    Raises:
        ControllerError: the file is not such a pickle.
        OSError: it is too large, or cannot be read.
    """
    raw = read_bounded(path, LARGEST_FILE)
    try:
        state = read_pickle(io.BytesIO(raw), admit_arrays).state
        epsilon = number(state["epsilon"])
        statistics, rewards = None, None
        if state.get("norm_obs", True):
            running = state["obs_rms"]
            running = running if isinstance(running, dict) else {"": running}
            parts, left = {}, 2 * LARGEST_OBSERVATION  # one array in the file can stand under any number of names
            for key, one in running.items():
                parts[key] = numbers(one.state["mean"], _AXES), numbers(one.state["var"], _AXES)
                left -= sum(side.size for side in parts[key])
                if left < 0:
                    raise PickleError(f"statistics of over {LARGEST_OBSERVATION} numbers; no more are read")
            statistics = Statistics(parts, number(state["clip_obs"]), epsilon)
        if state.get("norm_reward", False):
            spread = number(state["ret_rms"].state["var"])
            rewards = RewardScale(spread, number(state["clip_reward"]), epsilon)
    except (PickleError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ControllerError(f"{path}: no observation statistics can be read from it ({one_line(error)})") from error
    return statistics, rewards
