"""Running a traced dataflow and looking at what its matrix products read and write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.layers import Product, Watch, is_layer, kind_of, stack_of, stacks
from prunectl.pruning.tracing import calls

#: Numbers that one run may hold where layers are applied at many places (images, sequences): half a gigabyte.
MOST_NUMBERS = 2**27


@dataclass(frozen=True)
class Reading:
    """What one run saw: ``inputs[name]`` and ``outputs[name]`` hold a tensor ``(n, ..., width)`` for each call of a
    matrix product, ``results`` the components' own outputs by name."""

    inputs: dict[str, list[torch.Tensor]]
    outputs: dict[str, list[torch.Tensor]]
    results: dict[str, torch.Tensor]


def read(dataflow: nn.Module, inputs: Sequence[torch.Tensor]) -> Reading:
    """Run the dataflow once and keep what passes through its products. Gradients flow if they are enabled."""
    seen = Seen()
    results: dict[str, torch.Tensor] = {}
    for step in Steps(dataflow, inputs):
        value = step.run(seen)
        if step.is_output:
            results.update(value)
    return Reading(seen.inputs, seen.outputs, results)


class Seen(Watch):
    """Keeps what products read and write, by their names."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[torch.Tensor]] = {}
        self.outputs: dict[str, list[torch.Tensor]] = {}

    def after(self, product: Product, given: torch.Tensor, written: torch.Tensor) -> None:
        self.inputs.setdefault(product.name, []).append(given)
        self.outputs.setdefault(product.name, []).append(written)


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
        self.dataflow: nn.Module = interpreter.module
        self.is_output = node.op == "output"

    def run(self, watch: Watch) -> Any:
        """Carry the call out, ``watch`` looking on, and give its value."""
        if self.node.op == "call_module":
            path = str(self.node.target)
            layer: Any = self.interpreter.fetch_attr(path)
            arguments, named = self.interpreter.fetch_args_kwargs_from_env(self.node)
            if getattr(layer, "inplace", False):  # it would overwrite what the layer before was seen to write
                arguments = tuple(value.clone() for value in arguments)
            value = kind_of(layer).run(path, layer, arguments, named, watch)
        elif (stack := stack_of(self.node, self.dataflow)) is not None:
            value = stack.run(self.interpreter.fetch_args_kwargs_from_env(self.node)[0], watch)
        else:
            value = self.interpreter.run_node(self.node)
        self.interpreter.env[self.node] = value
        return value


def products_of(dataflow: nn.Module) -> Mapping[str, Product]:
    """All matrix products of a dataflow by name."""
    layers = ((path, module) for path, module in dataflow.named_modules(remove_duplicate=False) if is_layer(module))
    found = [product for path, module in layers for product in kind_of(module).products(path, module)]
    if any(parameter.dim() == 3 for parameter in dataflow.parameters()):
        # Only then may there be stacks, and finding them takes longer than all the rest of scoring by weights.
        found += [product for stack in stacks(dataflow, calls(dataflow)) for product in stack.products()]
    return {product.name: product for product in found}


def bounded(inputs: Sequence[torch.Tensor], graph: ComponentGraph) -> tuple[torch.Tensor, ...]:
    """The inputs, or as many of their rows, evenly spread, as one run may hold."""
    most = len(inputs[0]) if graph.numbers_a_row is None else max(MOST_NUMBERS // graph.numbers_a_row, 1)
    step = -(-len(inputs[0]) // most)
    return tuple(inputs) if step == 1 else tuple(tensor[::step] for tensor in inputs)
