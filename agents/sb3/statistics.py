"""Reading ``vecnormalize.pkl`` without running anything that is in it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from agents.controller import ControllerError
from agents.sb3.controller import Normalisation

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


def read_statistics(path: Path) -> Normalisation | None:
    """The observation statistics of a saved `VecNormalize`; None where it normalised rewards alone.

    Raises:
        ControllerError: the file is not such a pickle.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ControllerError(f"{path}: over {LARGEST_FILE // 2**20} MiB, no observation statistics are so large")
    try:
        holder = _Statistics(io.BytesIO(path.read_bytes())).load()
        state = holder.state
        if not state.get("norm_obs", True):
            return None
        running = state["obs_rms"].state
        statistics = Normalisation(
            np.asarray(running["mean"], dtype=np.float64),
            np.asarray(running["var"], dtype=np.float64),
            float(state["clip_obs"]),
            float(state["epsilon"]),
        )
    except Exception as error:  # a pickle may fail in any way; none of them is ours
        raise ControllerError(f"{path}: no observation statistics can be read from it ({error!r:.120})") from error
    if not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.var).all()):
        raise ControllerError(f"{path}: its observation statistics hold NaN or infinity")
    return statistics
