"""Layers that are one matrix product: linear layers, convolutions, embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunectl.pruning.errors import PruningError
from prunectl.pruning.layers.base import Kind, Product, Run, Value, Watch, fixed, only
from prunectl.pruning.layers.factored import Factored, FactoredProduct
from prunectl.pruning.spaces import Part, Parts


class Linear(Kind):
    """Reads the last axis and writes one of its own."""

    def trace(
        self, run: Run, path: str, layer: nn.Linear, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        inputs = value.axes[-1]
        outputs = run.product(path, inputs, run.spaces.axis(layer.out_features), output)
        run.own(layer.weight, (outputs, inputs))
        # Typed as always there, which it is not.
        bias: Tensor | None = layer.bias
        if bias is not None:
            run.own(bias, (outputs,))
        return (*value.axes[:-1], outputs)

    def products(self, path: str, layer: nn.Linear) -> tuple[Product, ...]:
        if isinstance(layer, Factored):
            return (FactoredProduct.of(path, layer),)
        return (Product(path, (layer.weight,), () if layer.bias is None else (layer.bias,)),)

    def run(self, path: str, layer: nn.Linear, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch) -> Any:
        (product,) = self.products(path, layer)
        watch.before(product, arguments[0])
        written = layer(arguments[0])
        watch.after(product, arguments[0], written)
        return written

    def restate(self, layer: nn.Linear) -> None:
        layer.out_features, layer.in_features = layer.weight.shape


class Convolution(Kind):
    """Reads the channels, of which each is a run of kernel entries in a row of the product (im2col)."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        kernel = tuple(layer.kernel_size)
        rows, inputs = _rows_of_channels(run, path, layer, only(path, layer, arguments, named), len(kernel))
        around = fixed(*output.shape[2:])
        if 1 < layer.groups == layer.in_channels:  # depthwise: a channel goes on by itself
            each = layer.out_channels // layer.in_channels
            outputs = tuple(Part(part.space, part.width * each) for part in run.spaces.resolve(inputs))
            run.own(layer.weight, (outputs, *fixed(1, *kernel)))
            run.alone(path, outputs, output, prod(kernel))
        elif layer.groups > 1:  # channels that leave in one group only would break the others
            run.spaces.freeze(inputs, path)
            (outputs,) = fixed(layer.out_channels)
            run.own(layer.weight, fixed(*layer.weight.shape))
            run.alone(path, outputs, output, layer.weight[0].numel())
        else:
            outputs = run.product(
                path, inputs, run.spaces.axis(layer.out_channels), output.movedim(1, -1), prod(kernel)
            )
            run.own(layer.weight, (outputs, inputs, *fixed(*kernel)))
        if layer.bias is not None:
            run.own(layer.bias, (outputs,))
        return (rows, outputs, *around)

    def products(self, path: str, layer: Any) -> tuple[Product, ...]:
        if layer.groups > 1:
            return ()

        def patches(given: Tensor, positions: Tensor) -> Tensor:
            return patches_of(layer, given, positions)

        return (Product(path, (layer.weight,), () if layer.bias is None else (layer.bias,), patches),)

    def run(self, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch) -> Any:
        if layer.groups > 1:
            return layer(arguments[0])
        (product,) = self.products(path, layer)
        given = arguments[0].movedim(1, -1)
        watch.before(product, given)
        written = layer(given.movedim(-1, 1)).movedim(1, -1)
        watch.after(product, given, written)
        return written.movedim(-1, 1)

    def restate(self, layer: Any) -> None:
        if 1 < layer.groups == layer.in_channels:
            each = layer.out_channels // layer.in_channels
            layer.out_channels = layer.weight.shape[0]
            layer.in_channels = layer.groups = layer.out_channels // each
        elif layer.groups == 1:
            layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def patches_of(layer: Any, given: Tensor, positions: Tensor) -> Tensor:
    """``(n, positions, channels x kernel)``: what a convolution reads for some of the places that it writes.

    Args:
        layer: the convolution.
        given: what it reads, channels last, ``(n, ..., channels)``.
        positions: which of its output's places, counted row by row, ``(n, positions)``.
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(given.movedim(-1, 1), tuple(layer._reversed_padding_repeated_twice), mode=mode)
    return _windows(padded, layer.kernel_size, layer.stride, layer.dilation, positions).flatten(2)


def patches_of_transposed(layer: Any, given: Tensor, positions: Tensor) -> Tensor:
    """The same of a transposed convolution: of each entry of its kernel, what it is multiplied with for a place."""
    values, around = given.movedim(-1, 1), list[int]()
    for dimension, stride in enumerate(layer.stride, start=2):  # zeros between what it reads
        spread = values.new_zeros([*values.shape[:dimension], (values.shape[dimension] - 1) * stride + 1,
                                   *values.shape[dimension + 1 :]])  # fmt: skip
        spread[(slice(None),) * dimension + (slice(None, None, stride),)] = values
        values = spread
    for size, dilation, padding, more in zip(
        layer.kernel_size, layer.dilation, layer.padding, layer.output_padding, strict=True
    ):
        reach = (size - 1) * dilation - padding
        around = [reach, reach + more, *around]  # as `pad` takes it, the last dimension first
    padded = functional.pad(values, around)
    ones = (1,) * len(layer.kernel_size)
    windows = _windows(padded, layer.kernel_size, ones, layer.dilation, positions)
    return windows.flip(list(range(3, windows.dim()))).flatten(2)


def _windows(
    values: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], positions: Tensor
) -> Tensor:
    """``(n, positions, channels, *kernel)`` of values ``(n, channels, ...)``: what lies below the kernel at these
    places, counted row by row."""
    windows = values  # (n, channels, places..., kernel...), a view: nothing is copied but what is asked for
    for dimension, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        windows = windows.unfold(2 + dimension, (size - 1) * dilation + 1, stride)[..., ::dilation]
    places = windows.shape[2 : 2 + len(kernel)]
    index: list[Any] = [torch.arange(len(values))[:, None], slice(None)]
    for stride in [prod(places[number + 1 :]) for number in range(len(places))]:
        index.append(positions // stride)
        positions = positions % stride
    return windows[tuple(index)]


def _rows_of_channels(run: Run, path: str, layer: Any, value: Value, places: int) -> tuple[Parts, Parts]:
    """The axes of the rows and of the channels that a convolution reads; its places stay as they are.

    Raises:
        PruningError: it is given something else.
    """
    if value.tensor.dim() != 2 + places:
        raise PruningError(f"layer '{path}' ({type(layer).__name__}) is not given rows of channels")
    rows, inputs, *others = value.axes
    for place in others:
        run.spaces.freeze(place, path)
    return rows, inputs


class TransposedConvolution(Convolution):
    """A convolution of its input with zeros put between, by the kernel turned round; the weight has inputs first."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        kernel = tuple(layer.kernel_size)
        rows, inputs = _rows_of_channels(run, path, layer, only(path, layer, arguments, named), len(kernel))
        if layer.groups > 1:
            run.spaces.freeze(inputs, path)
            (outputs,) = fixed(layer.out_channels)
            run.own(layer.weight, fixed(*layer.weight.shape))
            run.alone(path, outputs, output, layer.weight[:, 0].numel() // layer.groups)
        else:
            outputs = run.product(
                path, inputs, run.spaces.axis(layer.out_channels), output.movedim(1, -1), prod(kernel)
            )
            run.own(layer.weight, (inputs, outputs, *fixed(*kernel)))
        if layer.bias is not None:
            run.own(layer.bias, (outputs,))
        return (rows, outputs, *fixed(*output.shape[2:]))

    def products(self, path: str, layer: Any) -> tuple[Product, ...]:
        if layer.groups > 1:
            return ()

        def patches(given: Tensor, positions: Tensor) -> Tensor:
            return patches_of_transposed(layer, given, positions)

        weight = layer.weight.transpose(0, 1)  # a view: what is written to it is the layer's
        return (Product(path, (weight,), () if layer.bias is None else (layer.bias,), patches),)

    def restate(self, layer: Any) -> None:
        if layer.groups == 1:
            layer.in_channels, layer.out_channels = layer.weight.shape[:2]


class Embedding(Kind):
    """A table whose rows are looked up: a product with what is one-hot."""

    def trace(
        self, run: Run, path: str, layer: nn.Embedding, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        value = only(path, layer, arguments, named)
        (entries,) = fixed(layer.num_embeddings)
        outputs = run.product(path, entries, run.spaces.axis(layer.embedding_dim), output)
        run.own(layer.weight, (entries, outputs))
        return (*value.axes, outputs)

    def products(self, path: str, layer: nn.Embedding) -> tuple[Product, ...]:
        return (Product(path, (layer.weight,), (), transposed=True),)

    def run(
        self, path: str, layer: nn.Embedding, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch
    ) -> Any:
        (product,) = self.products(path, layer)
        written = layer(arguments[0])
        watch.after(product, functional.one_hot(arguments[0], layer.num_embeddings).to(written.dtype), written)
        return written

    def restate(self, layer: nn.Embedding) -> None:
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
