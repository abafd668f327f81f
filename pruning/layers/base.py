"""What a kind of layer has to say: how units pass through it, which matrix products it is made of, how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prunectl.pruning.errors import PruningError
from prunectl.pruning.spaces import Part, Parts, Spaces

#: Rows that a product with several positions a row (pixels, steps of a sequence) is looked at on, drawn from all.
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Value:
    """What passes through a dataflow: an example of it, and an axis a dimension."""

    tensor: Tensor
    axes: tuple[Parts, ...]


class Run(Protocol):
    """What tracing offers a layer."""

    spaces: Spaces

    def own(self, tensor: Tensor, axes: Sequence[Parts]) -> None:
        """These are the axes of a parameter or buffer."""

    def product(self, name: str, inputs: Parts, outputs: Parts, output: Tensor, taps: int = 1) -> Parts:
        """A matrix product reads the one axis and writes the other: the axis that it has written since its first call.
        ``output`` is what it gave, ``taps`` how many columns it has for each index that it reads."""

    def alone(self, name: str, outputs: Parts, output: Tensor, taps: int) -> None:
        """A layer makes each index of an axis of the same index that it reads, by so many multiplications a place."""


@dataclass(frozen=True)
class Product:
    """A matrix product inside a layer: ``rows @ matrix.T + bias``.

    ``weights`` lie side by side along their second dimension, all others after it flattened into it; ``biases`` are
    added up. ``patches`` makes rows of what a convolution reads.
    """

    name: str
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    patches: Callable[[Tensor, Tensor], Tensor] | None = None
    transposed: bool = False

    @property
    def rank(self) -> int | None:
        """The rank that its matrix is limited to; None where it is not."""
        return None

    def matrix(self) -> Tensor:
        """``(out, columns)``."""
        if self.transposed:
            return self.weights[0].detach().T
        if len(self.weights) == 1:
            return self.weights[0].detach().flatten(1)
        return torch.cat([weight.detach().flatten(1) for weight in self.weights], dim=1)

    def bias(self) -> Tensor | None:
        """``(out,)``, None if there is none."""
        if not self.biases:
            return None
        first, *others = (bias.detach() for bias in self.biases)
        return first if not others else first + torch.stack(others).sum(dim=0)

    def write(self, matrix: Tensor, bias: Tensor) -> None:
        """Set the weights and, where there are any, the biases."""
        assert not self.transposed
        with torch.no_grad():
            start = 0
            for weight in self.weights:
                columns = weight[0].numel()
                weight.copy_(matrix[:, start : start + columns].reshape(weight.shape))
                start += columns
            for number, own in enumerate(self.biases):
                own.copy_(bias) if number == 0 else own.zero_()

    def positions(self, written: Tensor, count: int) -> Tensor | None:
        """Which positions of each of ``count`` rows are looked at, ``(count, drawn)``; None where there is but one."""
        each = written.shape[:-1].numel() // count
        if each == 1:
            return None
        drawn = min(each, max(MOST_ROWS // count, 1))
        generator = torch.Generator().manual_seed(0)
        if drawn == each:
            return torch.arange(each).expand(count, each)
        return torch.randint(each, (count, drawn), generator=generator)

    def rows(self, given: Tensor, positions: Tensor | None) -> Tensor:
        """``(rows, columns)`` of what it read."""
        if self.patches is not None:
            where = torch.zeros(len(given), 1, dtype=torch.long) if positions is None else positions
            return self.patches(given, where).flatten(0, 1)
        return at(given, positions)


def at(values: Tensor, positions: Tensor | None) -> Tensor:
    """``(rows, width)``: what lies at these positions of each row of values ``(rows, ..., width)``."""
    if positions is None:
        return values if values.dim() == 2 else values.reshape(-1, values.shape[-1])
    count = len(positions)
    spread = values.reshape(count, -1, values.shape[-1])
    return spread[torch.arange(count)[:, None], positions].flatten(0, 1)


class Watch:
    """What looks on while layers are run. This one does not."""

    def before(self, product: Product, given: Tensor) -> None:
        """A product is about to read; here its weights may be set."""

    def after(self, product: Product, given: Tensor, written: Tensor) -> None:
        """A product has written."""

    def states(self, product: Product) -> Tensor | None:
        """What a recurrent product is to take for its own states before each step, ``(n, steps, units)``; None for
        those that it comes to itself."""
        return None


class Kind:
    """A kind of layer. Most have no product and are run as they are."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        """The axes of ``output``, a tuple of them for each tensor in it."""
        raise NotImplementedError

    def products(self, path: str, layer: Any) -> tuple[Product, ...]:
        """The layer's matrix products in the order of computation."""
        return ()

    def run(self, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch) -> Any:
        """Call the layer, ``watch`` looking on."""
        return layer(*arguments, **named)

    def restate(self, layer: Any) -> None:
        """Let the layer's own numbers say what its tensors say."""


def only(path: str, layer: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any]) -> Value:
    """The one value that a layer is called with."""
    if len(arguments) != 1 or named or not isinstance(arguments[0], Value):
        raise PruningError(f"layer '{path}' is not called with one value of the dataflow alone")
    return arguments[0]


def fixed(*sizes: int) -> tuple[Parts, ...]:
    """Axes that no plan touches."""
    return tuple((Part(None, size),) for size in sizes)
