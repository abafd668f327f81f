"""Observations of any space as rows of numbers, the form in which they are passed on, recorded and kept.

A row has an observation's numbers in the order of memory; those of a Dict its parts', in the order of the space; a
choice is one number, its index. What networks see of a row is made of it inside the controller (`boundary_layers`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


def parts_of(space: spaces.Space[Any]) -> Mapping[str, spaces.Space[Any]]:
    """The spaces that a row is made of one after another: a Dict's by key, else the space alone."""
    return space.spaces if isinstance(space, spaces.Dict) else {"": space}


def width(space: spaces.Space[Any]) -> int:
    """How many numbers a row of it has."""
    return sum(int(np.prod(part.shape or (1,))) for part in parts_of(space).values())


def row_space(space: spaces.Space[Any]) -> spaces.Box:
    """The space of the rows: the space itself where it is a vector of numbers.

    Rows have the type of a Box's numbers; of other spaces bytes where all parts are bytes, else float32, and float64
    where a part is.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space
    low, high = (np.concatenate(side) for side in zip(*map(_bounds, parts_of(space).values()), strict=True))
    kind = _type(space)
    return spaces.Box(low.astype(kind), high.astype(kind), dtype=kind)


def row_of(space: spaces.Space[Any], observation: Any) -> NDArray[Any]:
    """An observation of the space as a row ``(width,)``.

    Numbers are first cast to what the space says that they are, which is what its agents were shown.
    """
    if not isinstance(space, spaces.Dict):
        return np.asarray(observation, dtype=space.dtype).reshape(-1).astype(_type(space), copy=False)
    parts = [np.asarray(observation[key], dtype=part.dtype).reshape(-1) for key, part in space.spaces.items()]
    return np.concatenate(parts).astype(_type(space), copy=False)


def observations_of(space: spaces.Space[Any], rows: NDArray[Any]) -> Any:
    """The observations that rows ``(n, width)`` stand for, as one batch: an array ``(n, ...)``, of a Dict one a key.

    Their numbers are of the rows' type.
    """
    found, start = {}, 0
    for key, part in parts_of(space).items():
        columns = rows[:, start : start + width(part)]
        found[key] = columns.reshape(len(rows), *(part.shape or ()))
        start += width(part)
    return found if isinstance(space, spaces.Dict) else found[""]


def _type(space: spaces.Space[Any]) -> type[Any]:
    """The type of the numbers of rows."""
    if isinstance(space, spaces.Box):
        return space.dtype.type
    kinds = {np.dtype(part.dtype) for part in parts_of(space).values()}
    if kinds == {np.dtype(np.uint8)}:
        return np.uint8
    return np.float64 if np.dtype(np.float64) in kinds else np.float32


def _bounds(space: spaces.Space[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    match space:
        case spaces.Box():
            return space.low.reshape(-1), space.high.reshape(-1)
        case spaces.Discrete():
            return np.asarray([space.start]), np.asarray([space.start + space.n - 1])
        case spaces.MultiDiscrete():
            return space.start.reshape(-1), (space.start + space.nvec - 1).reshape(-1)
        case spaces.MultiBinary():
            return np.zeros(width(space)), np.ones(width(space))
    raise TypeError(f"observations {space} have no rows")


def form_as_json(space: spaces.Space[Any]) -> Any:
    """What rows are made of, as plain data: kinds, shapes and choices, and no bounds."""
    if isinstance(space, spaces.Dict):
        return [[name, form_as_json(part)] for name, part in space.spaces.items()]
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return {"choices": [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.tolist(),
                "alone": isinstance(space, spaces.Discrete)}  # fmt: skip
    if isinstance(space, spaces.MultiBinary):
        return {"switches": list(space.shape)}
    return {"shape": list(space.shape or ()), "type": str(space.dtype)}


def form_from_json(said: Any, numbers: int) -> spaces.Space[Any]:
    """What `form_as_json` wrote of a space whose rows have so many numbers, without bounds.

    Raises:
        KeyError, TypeError, ValueError, AssertionError: it is something else.
    """
    if (found := _width_said(said)) != numbers:  # before anything is made
        raise ValueError(f"observations of {found} numbers, and it says {numbers}")
    return _form_from_json(said)


def _width_said(said: Any) -> int:
    """How many numbers a row has, by what `form_as_json` wrote."""
    if isinstance(said, list):
        return sum(_width_said(part) for _, part in said)
    if "choices" in said:
        return len(said["choices"])
    sides = said["switches"] if "switches" in said else said["shape"]
    if not isinstance(sides, list) or len(sides) > 8 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"an array of shape {sides!s:.60}")
    return math.prod(sides)


def _form_from_json(said: Any) -> spaces.Space[Any]:
    if isinstance(said, list):
        return spaces.Dict([(str(name), _form_from_json(part)) for name, part in said])
    if "choices" in said:
        sizes = [int(size) for size in said["choices"]]
        return spaces.Discrete(sizes[0]) if said["alone"] else spaces.MultiDiscrete(sizes)
    if "switches" in said:
        sides = said["switches"]
        return spaces.MultiBinary(sides[0] if len(sides) == 1 else sides)  # 3 and [3] are not equal to it
    kind = np.dtype(str(said["type"])[:20])
    if kind.kind not in "fiu":
        raise ValueError("no array of numbers")
    low, high = (-np.inf, np.inf) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return spaces.Box(low, high, tuple(said["shape"]), kind.type)
