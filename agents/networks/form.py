"""The file of a controller of plain networks: safetensors with JSON in their header, and nothing that is run."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded, replacing
from prunectl.agents.networks.calls import Call, Calls, Value
from prunectl.agents.networks.layers import check_setting, described, loose
from prunectl.agents.networks.vocabulary import FUNCTIONS, METHODS
from prunectl.agents.supported import LARGEST_SPACE
from prunectl.agents.tensors import LARGEST_STRUCTURE, LARGEST_WEIGHTS
from prunectl.registry import one_line

FORMAT = "prunectl networks 1"
#: What the JSON is found by in the header, and the first part of the names of constants' tensors.
KEY, CONSTANT = "prunectl", "constant of "
#: Calls in one list, and pieces that one call may take a value apart into.
MOST_CALLS, MOST_PIECES = 4_000, 64
_DTYPES = ("float32", "float64", "uint8")


def write_file(
    path: Path, networks: nn.Module, lists: Mapping[str, Calls | None], said: Mapping[str, Any], where: str
) -> None:
    """Write networks, lists of calls over them by name, and more JSON.

    Raises:
        ControllerError: a layer that the form has no word for.
    """
    content = {
        "format": FORMAT,
        "layers": described(networks, where),
        "tensors": loose(networks),
        "calls": {name: None if calls is None else _calls_to_json(calls) for name, calls in lists.items()},
        **said,
    }
    tensors = {**dict(networks.named_parameters()), **dict(networks.named_buffers())}
    for name, calls in lists.items():
        constants = () if calls is None else calls.constants
        tensors |= {f"{CONSTANT}{name}.{number}": tensor for number, tensor in enumerate(constants)}
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(plain, {KEY: json.dumps(content)}))


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, and its JSON.

    Raises:
        ControllerError: no such file.
    """
    try:
        raw = read_bounded(path, LARGEST_WEIGHTS)
    except OSError as error:
        raise ControllerError(f"{path}: it cannot be read ({error.strerror or error})") from error
    try:
        (length,) = struct.unpack("<Q", raw[:8])
        if length > LARGEST_STRUCTURE:
            raise ControllerError(f"{path}: a header of {length} bytes")
        header = json.loads(raw[8 : 8 + length])
        said = json.loads(header["__metadata__"][KEY])
        if said["format"] != FORMAT:
            raise ControllerError(f"{path}: its format is '{str(said['format'])[:40]}', this version reads '{FORMAT}'")
        tensors = safetensors.torch.load(raw)
    except ControllerError:
        raise
    except (struct.error, KeyError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise ControllerError(
            f"{path}: no controller that prunectl has saved as safetensors ({one_line(error)})"
        ) from error
    return tensors, said


def calls_from_json(data: Any, name: str, tensors: Mapping[str, Tensor], layers: Any, free: Any) -> Calls:
    """A list of calls, as `write_file` wrote it.

    Args:
        data: the JSON.
        name: of the list.
        tensors: all tensors of the file.
        layers: paths of the layers that may be called.
        free: paths of the tensors that may be read.

    Raises:
        ControllerError: a call of something else, or of a value that is not there yet.
    """
    steps, inputs = data["steps"], data["inputs"]
    if type(inputs) is not int or inputs not in (1, 2) or not isinstance(steps, list) or len(steps) > MOST_CALLS:
        raise ControllerError(f"'{name}' has {str(inputs)[:20]} inputs, or over {MOST_CALLS} calls")
    prefix = f"{CONSTANT}{name}."
    constants = [tensors[key] for key in sorted((k for k in tensors if k.startswith(prefix)), key=_number)]
    known: Mapping[str, Container[str]] = {
        "layer": layers,
        "tensor": free,
        "constant": {str(number) for number in range(len(constants))},
        "function": FUNCTIONS,
        "method": METHODS,
    }
    calls: list[Call] = []
    for number, said in enumerate(steps, inputs):
        kind, what, arguments, named = said
        if not isinstance(what, str) or what not in known.get(kind, ()):
            raise ControllerError(f"'{name}' calls {str(kind)[:20]} {str(what)[:60]!r}, which is not known")
        where = f"'{name}', call of '{what[:60]}'"
        call = Call(kind, what, tuple(_from_json(a, number, where) for a in arguments), _named(named, number, where))
        if kind == "method" and not (call.arguments and isinstance(call.arguments[0], Value)):
            raise ControllerError(f"{where}: a method of no value")
        _check_pieces(call, where)
        calls.append(call)
    return Calls(inputs, tuple(calls), _from_json(data["result"], inputs + len(calls), f"'{name}'"), tuple(constants))


def space_to_json(space: spaces.Box | spaces.Discrete) -> dict[str, Any]:
    """A space as plain data."""
    if isinstance(space, spaces.Discrete):
        return {"n": int(space.n)}
    sides = {
        side: bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound.tolist()
        for side, bound in (("low", space.low), ("high", space.high))
    }
    return {**sides, "shape": list(space.shape), "dtype": str(space.dtype)}


def space_from_json(data: Any, most: int = LARGEST_SPACE) -> spaces.Box | spaces.Discrete:
    """What `space_to_json` wrote, of ``most`` numbers.

    Raises:
        ControllerError: it is none, or too large.
    """
    if "n" in data:
        if type(data["n"]) is not int or not 0 < data["n"] <= LARGEST_SPACE:
            raise ControllerError(f"a space of {str(data['n'])[:20]} choices")
        return spaces.Discrete(data["n"])
    shape, dtype = data["shape"], data["dtype"]
    sensible = isinstance(shape, list) and len(shape) <= 4 and all(type(n) is int and n > 0 for n in shape)
    if not sensible or math.prod(shape) > most or dtype not in _DTYPES:
        raise ControllerError(f"a space of shape {str(shape)[:40]} of {str(dtype)[:20]}")
    low, high = (np.broadcast_to(np.asarray(data[side], dtype=dtype), shape) for side in ("low", "high"))
    return spaces.Box(low, high, tuple(shape), dtype=np.dtype(dtype).type)


def _calls_to_json(calls: Calls) -> dict[str, Any]:
    steps = [
        [s.kind, s.name, [_to_json(a) for a in s.arguments], {name: _to_json(a) for name, a in s.named.items()}]
        for s in calls.steps
    ]
    return {"inputs": calls.inputs, "steps": steps, "result": _to_json(calls.result)}


def _to_json(argument: Any) -> Any:
    match argument:
        case Value():
            return {"value": argument.number}
        case tuple():
            return {"tuple": [_to_json(entry) for entry in argument]}
        case list():
            return [_to_json(entry) for entry in argument]
        case slice():
            return {"slice": [_to_json(bound) for bound in (argument.start, argument.stop, argument.step)]}
        case dict():
            return {"table": {name: _to_json(entry) for name, entry in argument.items()}}
    return argument


def _from_json(data: Any, before: int, where: str) -> Any:
    """An argument; the values that it may name are those ``before``."""
    if isinstance(data, list):
        return [_from_json(entry, before, where) for entry in data]
    if not isinstance(data, dict):
        check_setting(data, where)
        return data
    if len(data) != 1:
        raise ControllerError(f"{where}: an argument that is none")
    ((kind, said),) = data.items()
    if kind == "value" and type(said) is int and 0 <= said < before:
        return Value(said)
    if kind == "tuple" and isinstance(said, list):
        return tuple(_from_json(entry, before, where) for entry in said)
    if kind == "slice" and isinstance(said, list) and len(said) == 3:
        return slice(*(_from_json(bound, before, where) for bound in said))
    if kind == "table" and isinstance(said, dict):
        return {name: _from_json(entry, before, where) for name, entry in said.items()}
    raise ControllerError(f"{where}: an argument that is none: {str(data)[:60]}")


def _named(data: Any, before: int, where: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(name.isidentifier() and len(name) < 40 for name in data):
        raise ControllerError(f"{where}: arguments of no sensible names")
    return {name: _from_json(entry, before, where) for name, entry in data.items()}


def _check_pieces(call: Call, where: str) -> None:
    """Taking a value apart into ever so many pieces costs far more than the value."""
    if call.name not in ("chunk", "split"):
        return
    pieces = [*call.arguments[1:2], *(call.named[n] for n in ("chunks", "split_size_or_sections") if n in call.named)]
    few = [type(n) is int and 0 < n <= MOST_PIECES for n in pieces if call.name == "chunk"]
    few += [isinstance(n, list | tuple) and len(n) <= MOST_PIECES for n in pieces if call.name == "split"]
    if not few or not all(few):
        raise ControllerError(
            f"{where}: into pieces that are not {MOST_PIECES} at most, by their number or their sizes"
        )


def _number(key: str) -> int:
    number = key.rpartition(".")[2]
    if not number.isdecimal() or len(number) > 6:
        raise ControllerError(f"a constant of the name '{key[:60]}'")
    return int(number)
