"""Reading ``vecnormalize.pkl`` without running anything that is in it."""

from __future__ import annotations

import io
from pathlib import Path

from prunectl.agents.arrays import admit_arrays, number, numbers
from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.pickles import PickleError, read_pickle
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.registry import one_line

#: The statistics of a vector observation take kilobytes.
LARGEST_FILE = 16 * 2**20


def read_statistics(path: Path) -> tuple[Normalisation | None, RewardScale | None]:
    """What a saved `VecNormalize` did to observations and to rewards; None for what it left alone.

    Raises:
        ControllerError: the file is not such a pickle.
        OSError: it is too large, or cannot be read.
    """
    raw = read_bounded(path, LARGEST_FILE)
    try:
        state = read_pickle(io.BytesIO(raw), admit_arrays).state
        parts = state["obs_rms"] if isinstance(state.get("obs_rms"), dict) else None
        epsilon = number(state["epsilon"])
        statistics, rewards = None, None
        if state.get("norm_obs", True) and parts is None:
            mean, var = (numbers(state["obs_rms"].state[name]) for name in ("mean", "var"))
            statistics = Normalisation(mean, var, number(state["clip_obs"]), epsilon)
        if state.get("norm_reward", False):
            spread = number(state["ret_rms"].state["var"])
            rewards = RewardScale(spread, number(state["clip_reward"]), epsilon)
    except (PickleError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ControllerError(f"{path}: no observation statistics can be read from it ({one_line(error)})") from error
    if parts is not None:
        keys = ", ".join(sorted(parts))[:100]
        raise ControllerError(f"{path}: of observations in several parts ({keys}); vectors of numbers are supported")
    return statistics, rewards
