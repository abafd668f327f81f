"""Running a traced dataflow and looking at what its linear layers read and write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from pruning.graph import Axis
from pruning.trace import graph_module


@dataclass(frozen=True)
class Reading:
    """What one run saw: ``inputs[layer]`` and ``outputs[layer]`` ``(n, width)`` of each linear layer, by path, and the
    components' own outputs by name. A layer that is called several times has its rows stacked."""

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    results: dict[str, torch.Tensor]


def read(dataflow: nn.Module, inputs: Sequence[torch.Tensor]) -> Reading:
    """Run the dataflow once and keep what passes through its linear layers. Gradients flow if they are enabled."""
    seen_in: dict[str, list[torch.Tensor]] = {}
    seen_out: dict[str, list[torch.Tensor]] = {}
    results: dict[str, torch.Tensor] = {}
    for step in Steps(dataflow, inputs):
        value = step.run()
        if step.linear is not None:
            seen_in.setdefault(step.path, []).append(step.argument)
            seen_out.setdefault(step.path, []).append(value)
        if step.is_output:
            results = value
    return Reading(
        {path: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for path, tensors in seen_in.items()},
        {path: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for path, tensors in seen_out.items()},
        results,
    )


class Steps:
    """The calls of a dataflow one after another, so that two dataflows of one form can be walked in lockstep."""

    def __init__(self, dataflow: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        self.module = graph_module(dataflow)
        self.interpreter = fx.Interpreter(self.module)
        self.interpreter.args_iter = iter(inputs)

    def __iter__(self) -> Iterator[Step]:
        for node in self.module.graph.nodes:
            yield Step(self.interpreter, node)


class Step:
    """One call. `run` it exactly once; what came before has been run already."""

    def __init__(self, interpreter: fx.Interpreter, node: fx.Node) -> None:
        self.interpreter, self.node = interpreter, node
        self.path = str(node.target)
        self.is_output = node.op == "output"
        module = interpreter.fetch_attr(self.path) if node.op == "call_module" else None
        self.linear = module if isinstance(module, nn.Linear) else None

    @property
    def argument(self) -> torch.Tensor:
        """What the call's module is about to read."""
        value: torch.Tensor = self.interpreter.env[self.node.args[0]]
        return value

    def run(self) -> Any:
        """Carry the call out and give its value."""
        value = self.interpreter.run_node(self.node)
        self.interpreter.env[self.node] = value
        return value


def columns(axis: Axis, group: str) -> slice:
    """Where on an axis a group's units lie, everything dense."""
    start = 0
    for segment in axis:
        if segment.group == group:
            return slice(start, start + segment.units)
        start += segment.units
    raise KeyError(group)
