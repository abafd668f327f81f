"""Reading ``vecnormalize.pkl`` without running anything that is in it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.pickles import Held, PickleError, hold, read_pickle
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale

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
        state = read_pickle(io.BytesIO(raw), _admit).state
        epsilon = _number(state["epsilon"])
        statistics, rewards = None, None
        if state.get("norm_obs", True):
            mean, var = (_numbers(state["obs_rms"].state[name]) for name in ("mean", "var"))
            statistics = Normalisation(mean, var, _number(state["clip_obs"]), epsilon)
        if state.get("norm_reward", False):
            spread = _number(state["ret_rms"].state["var"])
            rewards = RewardScale(spread, _number(state["clip_reward"]), epsilon)
    except (PickleError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise ControllerError(f"{path}: no observation statistics can be read from it ({reason})") from error
    return statistics, rewards


# NumPy's own constructors take any shape and any type from a file. These stand-ins take the bytes that are there.


class _Type(Held):
    """``numpy.dtype("f8", False, True)``; its state says the order of the bytes."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not isinstance(code, str):
            raise PickleError("a type that is no name")
        self.code = code

    def decode(self, content: Any) -> NDArray[np.float64]:
        order = self.state[1] if self.state is not None else "<"
        if self.code not in ("f8", "f4", "i8", "i4") or order not in ("<", ">") or type(content) is not bytes:
            raise PickleError(f"numbers of a type other than f8, f4, i8, i4 ({self.code:.20})")
        return np.frombuffer(content, order + self.code).astype(np.float64)


class _Array(Held):
    """An array that waits for its state: version, shape, type, whether columns come first, bytes."""

    def numbers(self) -> NDArray[np.float64]:
        _, shape, kind, _, content = self.state
        if len(shape) > 1:
            raise PickleError(f"an array of {len(shape)} axes")
        return np.asarray(kind.decode(content).reshape(shape))


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.set_state((1, shape, kind, order == "F", bytes(content) if isinstance(content, bytes) else content))
    return array


def _scalar(kind: Any, content: Any = None) -> Any:
    """A number; the generators that are pickled as well have none that matter, whatever their type."""
    array = _Array()
    array.set_state((1, (), kind, False, content))
    return array


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
}


def _admit(module: str, name: str) -> Callable[..., Any]:
    """Arrays and numbers of NumPy; the running statistics and all else become holders of their state."""
    return _ADMITTED.get((module.replace("numpy._core.", "numpy.core."), name), hold)


def _numbers(value: Any) -> NDArray[np.float64]:
    if isinstance(value, _Array):
        return value.numbers()
    raise PickleError(f"a {type(value).__name__} where an array belongs")


def _number(value: Any) -> float:
    number = value if isinstance(value, int | float) else _numbers(value).item()
    if math.isnan(number):
        raise PickleError("a setting that is NaN")
    return float(number)
