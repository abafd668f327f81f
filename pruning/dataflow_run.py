"""Running a traced dataflow and looking at what its linear layers read and write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from prunectl.pruning.graph import Axis
from prunectl.pruning.tracing import calls


@dataclass(frozen=True)
class Reading:
    """What one run saw: ``inputs[layer]`` and ``outputs[layer]`` hold a tensor ``(n, width)`` for each call of a linear
    layer, by path; ``results`` the components' own outputs by name."""

    inputs: dict[str, list[torch.Tensor]]
    outputs: dict[str, list[torch.Tensor]]
    results: dict[str, torch.Tensor]


def read(dataflow: nn.Module, inputs: Sequence[torch.Tensor]) -> Reading:
    """Run the dataflow once and keep what passes through its linear layers. Gradients flow if they are enabled."""
    reading = Reading({}, {}, {})
    for step in Steps(dataflow, inputs):
        value = step.run()
        if step.linear is not None:
            reading.inputs.setdefault(step.path, []).append(step.argument)
            reading.outputs.setdefault(step.path, []).append(value)
        if step.is_output:
            reading.results.update(value)
    return reading


class Steps:
    """The calls of a dataflow one after another, so that two dataflows of one form can be walked in lockstep."""

    def __init__(self, dataflow: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        self.graph = calls(dataflow)
        self.interpreter = fx.Interpreter(dataflow, graph=self.graph)
        self.interpreter.args_iter = iter(inputs)

    def __iter__(self) -> Iterator[Step]:
        for node in self.graph.nodes:
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
        read = self.node.args[0]
        assert isinstance(read, fx.Node)
        value: torch.Tensor = self.interpreter.env[read]
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
