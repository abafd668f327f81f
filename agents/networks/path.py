"""What acts as a sequence of layers, for export."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.agents.boundary_layers import Argmax, Elementwise, Inputs, flat
from prunectl.agents.controller import ControllerError
from prunectl.agents.networks.calls import Call, Calls, Value, read_tensor, values_in

#: Functions and methods that are a layer, and those that leave a vector as it is.
_LAYERS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU, "detach": nn.Identity, "float": nn.Identity,
}  # fmt: skip


class NoSequence(ControllerError):
    """What acts is no sequence of layers; the message says why."""


class Whole(nn.Module):
    """Lists of calls, each on what the one before gave, from rows ``(n, numbers)`` of observations of a shape."""

    def __init__(self, shape: Sequence[int], lists: Sequence[Calls], networks: nn.Module) -> None:
        super().__init__()
        self.shape, self.lists, self.networks = tuple(shape), tuple(lists), networks

    def forward(self, observations: Tensor) -> Any:
        observations = observations.reshape(-1, *self.shape)
        for calls in self.lists:
            observations = calls.run(self.networks, observations)
        return observations


def path_of(lists: Sequence[Calls], networks: nn.Module) -> nn.Sequential:
    """The layers of lists of calls, one list after another.

    Raises:
        NoSequence: they are none: a value that is read twice, or an operation that no layer does.
    """
    return flat(*(layer for calls in lists for layer in _layers(calls, networks)))


def _layers(calls: Calls, networks: nn.Module) -> list[nn.Module]:
    known: dict[int, Tensor] = {}
    found, current = [], 0
    for number, step in enumerate(calls.steps, calls.inputs):
        if step.kind in ("tensor", "constant"):
            own = calls.constants[int(step.name)] if step.kind == "constant" else read_tensor(networks, step.name)
            known[number] = own.detach()
            continue
        reads = [value.number for value in values_in([step.arguments, dict(step.named)]) if value.number not in known]
        if reads != [current]:
            raise NoSequence(
                f"what acts is no sequence of layers: '{step.name}' reads {len(reads)} values, or one of before"
            )
        found.append(_layer(step, current, known, networks))
        current = number
    if calls.result != Value(current):
        raise NoSequence("what acts is no sequence of layers: it gives another value than the last")
    return found


def _layer(step: Call, current: int, known: Mapping[int, Tensor], networks: nn.Module) -> nn.Module:
    if step.kind == "layer" and len(step.arguments) == 1 and not step.named:
        return networks.get_submodule(step.name)
    name = step.name.rpartition(".")[2]
    others = [known[a.number] if isinstance(a, Value) else a for a in step.arguments if a != Value(current)]
    if name in _LAYERS and not others and not step.named:
        return _LAYERS[name]()
    if name == "argmax" and [*others, *step.named.values()] in ([1], [-1]):
        return Argmax()
    if name == "flatten" and [*others, *step.named.values()] == [1]:
        return nn.Identity()
    if name == "clamp":
        low, high = _bounds(others, step.named)
        return nn.Hardtanh(low, high)
    first = step.arguments[0] == Value(current)
    if name == "index_select" and first and others[:1] == [1] and isinstance(others[-1], Tensor):
        return Inputs(others[-1].tolist())
    if len(others) == 1 and not step.named and isinstance(others[0], int | float | Tensor):
        number = torch.as_tensor(others[0], dtype=torch.float64)
        nothing, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        match name, first:
            case "add", _:
                return Elementwise(nothing, one, number)
            case "sub", True:
                return Elementwise(number, one, nothing)
            case "sub", False:
                return Elementwise(nothing, -one, number)
            case "mul", _:
                return Elementwise(nothing, number, nothing)
            case (("truediv" | "div"), True):
                return Elementwise(nothing, 1 / number, nothing)
    if name == "neg" and not others:
        return Elementwise(torch.zeros(()), -torch.ones(()), torch.zeros(()))
    raise NoSequence(f"what acts calls '{step.name}', which cannot be exported as a layer")


def _bounds(others: Sequence[Any], named: Mapping[str, Any]) -> tuple[float, float]:
    given = dict(zip(("min", "max"), others, strict=False)) | dict(named)
    low, high = (given.get(name) for name in ("min", "max"))
    if any(isinstance(bound, Tensor) for bound in (low, high)):
        raise NoSequence("what acts clamps between tensors, which cannot be exported as a layer")
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))
