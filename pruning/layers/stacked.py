"""Stacks of matrices ``(members, in, out)``, one a network of an ensemble, that a dataflow multiplies rows with itself.

Each member is a matrix product of its own. All read and write the same units, since their matrices are one tensor; the
axis of members is one that no plan touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunectl.pruning.layers.base import Product, Run, Watch

#: How `torch.einsum` may be asked for it, by letters of their own: with rows for each member, or the same for all.
_EQUATIONS = ("bni,bio->bno", "ni,bio->bno")


@dataclass(frozen=True)
class Stack:
    """A call that multiplies rows with each matrix of a parameter.

    ``path`` is the parameter's, ``weight`` itself, ``bias`` ``(members, 1, out)`` where the call adds one; ``places``
    says which of the call's arguments are the rows, the weight and the bias.
    """

    path: str
    weight: Tensor
    bias: Tensor | None
    places: tuple[int, int, int | None]

    def products(self) -> tuple[Product, ...]:
        """One a member; their weights are views, so what is written to them is the stack's."""
        biases = [()] * len(self.weight) if self.bias is None else [(bias[0],) for bias in self.bias]
        return tuple(
            Product(f"{self.path}.{number}", (matrix.T,), bias)
            for number, (matrix, bias) in enumerate(zip(self.weight, biases, strict=True))
        )

    def trace(self, run: Run, arguments: Sequence[Any], output: Tensor) -> Any:
        """The axes of what it gives."""
        rows, weight = arguments[self.places[0]], arguments[self.places[1]]
        members, reads, writes = weight.axes
        inputs, around = rows.axes[-1], rows.axes[:-2]
        for number in range(len(self.weight)):
            run.product(f"{self.path}.{number}", inputs, writes, output[number])
        run.spaces.unify(reads, inputs, self.path)
        run.spaces.freeze(members, self.path)
        for axis in around:
            run.spaces.freeze(axis, self.path)
        if self.places[2] is not None:
            run.spaces.unify(arguments[self.places[2]].axes[-1], writes, self.path)
        return members, rows.axes[-2], writes

    def run(self, arguments: Sequence[Any], watch: Watch) -> Tensor:
        """Member by member, ``watch`` looking on."""
        rows: Tensor = arguments[self.places[0]]
        written = []
        for product, given in zip(self.products(), rows.expand(len(self.weight), *rows.shape[-2:]), strict=True):
            watch.before(product, given)
            made = given @ product.weights[0].T
            for bias in product.biases:
                made = made + bias
            watch.after(product, given, made)
            written.append(made)
        return torch.stack(written)


def stack_of(node: fx.Node, dataflow: nn.Module) -> Stack | None:
    """What a call multiplies, None for one of another kind."""
    name = str(getattr(node.target, "__name__", node.target))
    operands = list(node.args)
    if node.op not in ("call_function", "call_method") or node.kwargs:
        return None
    if name in ("matmul", "bmm") and len(operands) == 2:
        places: tuple[int, int, int | None] = (0, 1, None)
    elif name == "baddbmm" and len(operands) == 3:
        places = (1, 2, 0)
    elif name == "einsum" and len(operands) == 3 and _canonical(str(operands[0])) in _EQUATIONS:
        places = (1, 2, None)
    else:
        return None
    weight = _parameter(operands[places[1]], dataflow)
    bias = None if places[2] is None else _parameter(operands[places[2]], dataflow)
    if weight is None or weight.dim() != 3 or _parameter(operands[places[0]], dataflow) is not None:
        return None
    if places[2] is not None and (bias is None or bias.shape != (len(weight), 1, weight.shape[2])):
        return None
    return Stack(str(operands[places[1]].target), weight, bias, places)  # type: ignore[union-attr]


def stacks(dataflow: nn.Module, graph: fx.Graph) -> list[Stack]:
    """Those that a dataflow multiplies, in order."""
    found = (stack_of(node, dataflow) for node in graph.nodes)
    return [stack for stack in found if stack is not None]


def _parameter(node: Any, dataflow: nn.Module) -> nn.Parameter | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(dataflow.get_submodule(owner), name, None)
    return value if isinstance(value, nn.Parameter) else None


def _canonical(equation: str) -> str:
    """The equation with the letters of `_EQUATIONS`, as far as its own say which is which."""
    rows, _, rest = equation.replace(" ", "").partition(",")
    weight, _, result = rest.partition("->")
    if len(weight) != 3 or len(result) != 3 or len(rows) not in (2, 3):
        return equation
    letters = {weight[0]: "b", weight[1]: "i", weight[2]: "o"}
    letters |= {letter: "n" for letter in rows if letter not in letters}
    return "".join(letters.get(letter, letter) for letter in f"{rows},{weight}->{result}")
