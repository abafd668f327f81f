"""Pickles read as plain data: an interpreter that knows only the opcodes and the names that our files need.

Python's own unpickler runs what a file says, and even a restricted one lets a file make it allocate, hash or wait
without bound. Here a pickle can build numbers, text, lists, tuples and dicts with text keys, and call what the caller
admits by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from prunectl.errors import Error
from prunectl.registry import one_line

#: A state dict takes about 30 operations a tensor.
MOST_OPERATIONS = 200_000

_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_VALUES = _NUMBERS | {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(Error):
    """A pickle that says more than plain data, or is damaged."""


class Held:
    """Stands for an object that is not admitted: it takes any state and does nothing."""

    state: Any = None

    def set_state(self, state: Any) -> None:
        """What the pickle would have restored the object from."""
        self.state = state


@dataclass(frozen=True)
class _Global:
    """A name that the pickle may call: nothing else is ever called."""

    function: Callable[..., Any]


def hold(*_: Any) -> Held:
    """Make the stand-in, whatever the arguments."""
    return Held()


def read_pickle(
    stream: IO[bytes],
    admit: Callable[[str, str], Callable[..., Any]],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The plain data of the pickle that starts here; the stream is left behind it.

    Args:
        stream: its bytes.
        admit: from a module and a name to what calling it does; raises for what is not admitted.
        persistent: from a persistent id to what it stands for.

    Raises:
        PickleError: an opcode or a name that plain data does not need, too many operations, or damage.
    """
    try:
        return _interpret(pickletools.genops(stream), admit, persistent)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise PickleError(one_line(error)) from error


def _interpret(
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]],
    admit: Callable[[str, str], Callable[..., Any]],
    persistent: Callable[[Any], Any] | None,
) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since(start: int) -> list[Any]:
        if not 0 <= start <= len(stack):
            raise PickleError("its stack runs empty")
        taken = stack[start:]
        del stack[start:]
        return taken

    for count, (operation, value, _) in enumerate(operations):
        if count > MOST_OPERATIONS:
            raise PickleError(f"over {MOST_OPERATIONS} operations")
        name = operation.name
        if name in _VALUES:
            stack.append(value)
        elif name == "BYTEARRAY8":  # protocol 5: the bytes of an array that may be written to
            stack.append(bytes(value))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if value is None else value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name in _TUPLES:
            stack.append(tuple(since(len(stack) - _TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(since(marks.pop())))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items = since(len(stack) - 1 if name == "APPEND" else marks.pop())
            if _takes(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = since(len(stack) - 2 if name == "SETITEM" else marks.pop())
            # Tuples that hold each other take exponential time to hash, and numbers can be made to collide.
            if not all(type(key) is str for key in items[::2]):
                raise PickleError("a key that is no text")
            if _takes(stack[-1], dict):
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            module, _, attribute = value.partition(" ")
            stack.append(_Global(admit(module, attribute)))
        elif name == "STACK_GLOBAL":
            module, attribute = since(len(stack) - 2)
            if not (type(module) is type(attribute) is str):  # the text of tuples in tuples would have no end
                raise PickleError("a name that is no text")
            stack.append(_Global(admit(module, attribute)))
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = since(len(stack) - 2)
            if not isinstance(called, _Global) or not isinstance(arguments, tuple):
                raise PickleError("it calls what is no name")
            stack.append(called.function(*arguments))
        elif name == "BUILD":
            (state,) = since(len(stack) - 1)
            if isinstance(stack[-1], Held):
                stack[-1].set_state(state)
            elif not isinstance(stack[-1], dict):  # a state dict's own attributes say nothing of its weights
                raise PickleError("it gives a state to what has none")
        elif name == "BINPERSID" and persistent is not None:
            stack.append(persistent(stack.pop()))
        elif name == "STOP":
            return stack.pop()
        else:
            raise PickleError(f"operation {name}, of which plain data has no need")
    raise PickleError("it is cut short")


def _takes(target: Any, kind: type) -> bool:
    """Whether items go into it; a stand-in that would have taken them does nothing."""
    if not isinstance(target, kind | Held):
        raise PickleError("it fills what is no container")
    return isinstance(target, kind)
