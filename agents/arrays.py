"""NumPy's arrays in pickles, as plain data.

NumPy's own constructors take any shape and any type from a file. These stand-ins take the bytes that are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.pickles import Held, PickleError, hold

#: The types of numbers that are read.
_CODES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1")


class _Type(Held):
    """``numpy.dtype("f8", False, True)``; its state says the order of the bytes."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not isinstance(code, str):
            raise PickleError("a type that is no name")
        self.code = code

    def decode(self, content: Any) -> NDArray[np.float64]:
        order = self.state[1] if self.state is not None else "<"
        if self.code not in _CODES or order not in ("<", ">", "|") or type(content) is not bytes:
            raise PickleError(f"numbers of a type other than {', '.join(_CODES)} ({self.code:.20})")
        return np.frombuffer(content, self.code if order == "|" else order + self.code).astype(np.float64)


class _Array(Held):
    """An array that waits for its state: version, shape, type, whether columns come first, bytes."""

    def numbers(self, axes: int) -> NDArray[np.float64]:
        _, shape, kind, columns_first, content = self.state
        if len(shape) > axes:
            raise PickleError(f"an array of {len(shape)} axes")
        return np.asarray(kind.decode(content).reshape(shape, order="F" if columns_first else "C"))


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


def admit_arrays(module: str, name: str) -> Callable[..., Any]:
    """Arrays and numbers of NumPy; the running statistics and all else become holders of their state."""
    return _ADMITTED.get((module.replace("numpy._core.", "numpy.core."), name), hold)


def numbers(value: Any, axes: int = 1) -> NDArray[np.float64]:
    """The numbers of a vector that `read_pickle` found, or of an array of up to so many axes.

    Raises:
        PickleError: it is something else.
    """
    if isinstance(value, _Array):
        return value.numbers(axes)
    raise PickleError(f"a {type(value).__name__} where an array belongs")


def number(value: Any) -> float:
    """A single number, of Python's or of NumPy's; raises PickleError where it is something else, or NaN."""
    number = value if isinstance(value, int | float) else numbers(value).item()
    if math.isnan(number):
        raise PickleError("a setting that is NaN")
    return float(number)
