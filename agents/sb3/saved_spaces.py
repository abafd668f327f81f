"""The spaces in a Stable-Baselines3 zip, of a text and a pickle that is read as plain data.

The pickle of a space has its bounds in full, the text beside it as they were printed: rounded as the user liked, and
with dots in the place of most of a thousand numbers. Of a space of several parts only the pickle says all.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl.agents.arrays import admit_arrays, number, numbers
from prunectl.agents.controller import ControllerError
from prunectl.agents.pickles import Held, PickleError, read_pickle
from prunectl.agents.rows import width
from prunectl.agents.supported import LARGEST_OBSERVATION, LARGEST_SPACE

#: Axes of an array of bounds, parts of an observation and choices at once, and letters of a part's name that are read.
_AXES, _PARTS, _LETTERS = 8, 1000, 200


def read_space(data: Mapping[str, Any], key: str, where: str) -> Any:
    """The space that a zip's JSON has under this key.

    Raises:
        ControllerError: it cannot be read, or is larger than any that is.
    """
    entry = data.get(key)
    if not isinstance(entry, Mapping):
        raise ControllerError(f"{where}: it does not say its {key}")
    where = f"{where}: its {key}"
    kind = str(entry.get(":type:", ""))
    if "discrete.Discrete" in kind and "n" in entry:
        return _discrete(int(entry["n"]), int(entry.get("start", 0)), where)
    if "box.Box" in kind:
        said = str(entry.get("_shape", entry.get("shape", "")))
        shape, dtype = _form(re.findall(r"\d+", said[:1000]), str(entry.get("dtype", "float32")), where)
        low, high = _pickled_bounds(_pickled(entry), shape, dtype) or _printed_bounds(entry, shape, dtype)
        if low is None or high is None:
            if key == "action_space":
                raise ControllerError(f"{where}: the bounds of its actions cannot be read")
            low, high = _widest(dtype)  # nothing depends on them
        return spaces.Box(low, high, shape, dtype.type)
    named = re.search(r"(\w+)'>$", kind)
    try:
        return _of_pickle(_pickled(entry), where)
    except ControllerError:
        raise
    except (PickleError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        found = f"a {named[1]}" if named else kind[:60] or "unreadable"
        raise ControllerError(f"{where} is {found}, and cannot be read ({str(error)[:60]})") from error


class _Space(Held):
    """Stands for a space of some kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def _admit(module: str, name: str) -> Callable[..., Any]:
    """Spaces of Gym and of Gymnasium, in ordered dicts, and their arrays."""
    if module.split(".")[:2] in (["gym", "spaces"], ["gymnasium", "spaces"]):
        return lambda *_: _Space(name)
    return dict if (module, name) == ("collections", "OrderedDict") else admit_arrays(module, name)


def _pickled(entry: Mapping[str, Any]) -> Any:
    """What the pickle of a space has for it; None where it is more than plain data."""
    try:
        return read_pickle(io.BytesIO(base64.b64decode(entry[":serialized:"], validate=True)), _admit)
    except (PickleError, KeyError, TypeError, ValueError):
        return None


def _of_pickle(found: Any, where: str, inside: bool = False) -> spaces.Space[Any]:
    """The space that a pickle holds, of several parts perhaps."""
    if not isinstance(found, _Space):
        raise PickleError("its pickle is more than plain data")
    state = found.state
    match found.kind:
        case "Discrete":
            return _discrete(int(number(state["n"])), int(number(state.get("start", 0))), where)
        case "MultiDiscrete":
            sizes = [int(size) for size in numbers(state["nvec"])[: _PARTS + 1]]
            starts = [int(start) for start in numbers(state["start"])[: _PARTS + 1]] if "start" in state else None
            if not (0 < len(sizes) <= _PARTS and all(0 < size <= LARGEST_SPACE for size in sizes)):
                raise ControllerError(
                    f"{where} has choices among {str(sizes)[:60]}; 1 to {LARGEST_SPACE} each are read"
                )
            return spaces.MultiDiscrete(sizes, start=starts)
        case "MultiBinary":
            shape, _ = _form(state["_shape"] if "_shape" in state else state["shape"], "int8", where)
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))
        case "Box":
            code = state["dtype"].code
            shape, dtype = _form(state["_shape"] if "_shape" in state else state["shape"], code, where)
            low, high = _pickled_bounds(found, shape, dtype) or _widest(dtype)
            return spaces.Box(low, high, shape, dtype.type)
        case "Dict" if not inside:
            parts = state["spaces"]
            names = all(len(name) <= _LETTERS and name.isprintable() for name in parts)
            if not (0 < len(parts) <= _PARTS and names):
                raise ControllerError(f"{where} has {len(parts)} parts; 1 to {_PARTS} with readable names are read")
            made: list[tuple[str, spaces.Space[Any]]] = []
            left = LARGEST_OBSERVATION  # one part in the file can stand for a thousand
            for name, part in parts.items():
                made.append((name, _of_pickle(part, f"{where}, '{name}',", True)))
                left -= width(made[-1][1])
                if left < 0:
                    raise ControllerError(f"{where} is too large: at most {LARGEST_OBSERVATION} numbers are read")
            # A mapping of parts would be sorted; these are in the order of the networks' inputs.
            return spaces.Dict(made)
    raise ControllerError(f"{where} is a {found.kind[:40]}{' within another' if inside else ''}, which is not read")


def _discrete(count: int, start: int, where: str) -> spaces.Discrete:
    if not 0 < count <= LARGEST_SPACE:
        raise ControllerError(f"{where} is Discrete({count}); at most {LARGEST_SPACE} choices are read")
    return spaces.Discrete(count, start=start)


def _form(sides: Any, kind: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, of no more numbers than are read."""
    shape = tuple(int(side) for side in sides[: _AXES + 1])
    if len(shape) > _AXES or math.prod(shape) > LARGEST_OBSERVATION:
        said = str(list(shape))[:60]
        raise ControllerError(f"{where} has the shape {said}; at most {LARGEST_OBSERVATION} numbers are read")
    dtype = np.dtype(kind[:20])
    if dtype.kind not in "fiub":
        raise ControllerError(f"{where} is of type {dtype}; numbers are supported")
    return shape, dtype


def _pickled_bounds(found: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, Any] | None:
    """Lower and upper bounds out of a pickle; None where they are not in it."""
    try:
        low, high = (numbers(found.state[side], _AXES) for side in ("low", "high"))
    except (PickleError, KeyError, TypeError, ValueError, AttributeError):
        return None
    if not low.shape == high.shape == shape or np.isnan([low, high]).any():
        return None
    return low.astype(dtype), high.astype(dtype)


def _printed_bounds(
    entry: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """The same out of the text; None for a bound that is not there in full."""
    size = math.prod(shape)
    found = []
    for side in ("low", "high"):
        text = str(entry.get(side, ""))
        words = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?)", text)
        words = words * size if len(words) == 1 else words
        whole = len(words) == size and "..." not in text
        found.append(np.asarray([float(word) for word in words], dtype=dtype).reshape(shape) if whole else None)
    return found[0], found[1]


def _widest(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The bounds of numbers of this type that are not bounded."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
