"""Reading ``vecnormalize.pkl`` without running anything that is in it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from agents.controller import ControllerError
from agents.sb3.controller import Normalisation, RewardScale

#: The statistics of a vector observation take kilobytes.
LARGEST_FILE = 64 * 2**20

_ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


class _Inert:
    """Stands for every class that is not admitted: it takes any state and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    # Pickle may fill a stand-in as if it were a list or a dict.
    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Statistics(pickle.Unpickler):
    """Admits numpy arrays; the running statistics and all else become inert holders of their state."""

    def find_class(self, module: str, name: str) -> Any:
        today = module.replace("numpy.core.", "numpy._core.")
        if (today, name) in _ADMITTED:
            return super().find_class(today, name)
        return type(name, (_Inert,), {})


def read_statistics(path: Path) -> tuple[Normalisation | None, RewardScale | None]:
    """What a saved `VecNormalize` did to observations and to rewards; None for what it left alone.

    Raises:
        ControllerError: the file is not such a pickle.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ControllerError(f"{path}: over {LARGEST_FILE // 2**20} MiB, no observation statistics are so large")
    try:
        holder = _Statistics(io.BytesIO(path.read_bytes())).load()
        state = holder.state
        epsilon = float(state["epsilon"])
        statistics, rewards = None, None
        if state.get("norm_obs", True):
            mean, var = (np.asarray(state["obs_rms"].state[name], dtype=np.float64) for name in ("mean", "var"))
            statistics = Normalisation(mean, var, float(state["clip_obs"]), epsilon)
        if state.get("norm_reward", False):
            rewards = RewardScale(float(state["ret_rms"].state["var"]), float(state["clip_reward"]), epsilon)
    except Exception as error:  # a pickle may fail in any way; none of them is ours
        raise ControllerError(f"{path}: no observation statistics can be read from it ({error!r:.120})") from error
    if statistics is not None and not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.var).all()):
        raise ControllerError(f"{path}: its observation statistics hold NaN or infinity")
    if rewards is not None and not (np.isfinite(rewards.var) and rewards.var >= 0):
        raise ControllerError(f"{path}: the spread of its rewards is {rewards.var}")
    return statistics, rewards
