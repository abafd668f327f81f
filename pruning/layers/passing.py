"""Layers without a product of their own: what they do to units is to pass them on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.pruning.errors import PruningError
from prunectl.pruning.layers.base import Kind, Run, Value, fixed, only
from prunectl.pruning.spaces import Parts, width


class Passing(Kind):
    """Activations and the like: each number by itself."""

    def trace(
        self, run: Run, path: str, layer: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        return only(path, layer, arguments, named).axes


class ByChannel(Kind):
    """BatchNorm, InstanceNorm and PReLU: an entry a channel, which is the second axis."""

    def trace(
        self, run: Run, path: str, layer: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.numel() > 1:
                run.own(tensor, (value.axes[1],))
        return value.axes

    def restate(self, layer: Any) -> None:
        said = next((name for name in ("num_features", "num_parameters") if hasattr(layer, name)), None)
        if said is None:  # so it is with what holds whole networks, whose tensors need not be listed
            return
        own = next((t for t in [*layer.parameters(), *layer.buffers()] if t.dim() == 1), None)
        if own is not None:
            setattr(layer, said, len(own))


class LayerNorm(Kind):
    """An entry for each index of the last axes. The mean and the spread are taken over what is left of them."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        axes = value.axes[-len(layer.normalized_shape) :]
        own = list(layer.parameters())
        for tensor in own:
            run.own(tensor, axes)
        for axis in () if own else axes:  # it says its width in a number that no tensor can restate
            run.spaces.freeze(axis, path)
        return value.axes

    def restate(self, layer: Any) -> None:
        if layer.weight is not None:
            layer.normalized_shape = tuple(layer.weight.shape)


class GroupNorm(Kind):
    """Channels are normalised in groups, so a unit is a whole group of them."""

    def trace(
        self, run: Run, path: str, layer: nn.GroupNorm, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        value = only(path, layer, arguments, named)
        channels = value.axes[1]
        if layer.num_groups > 1:
            run.spaces.coarsen(channels, layer.num_channels // layer.num_groups, path)
        if not layer.affine:
            run.spaces.freeze(channels, path)
        for tensor in layer.parameters():
            run.own(tensor, (channels,))
        return value.axes

    def restate(self, layer: nn.GroupNorm) -> None:
        if layer.affine:
            left = len(layer.weight)
            if layer.num_groups > 1:
                layer.num_groups = layer.num_groups * left // layer.num_channels
            layer.num_channels = left


class Pooling(Kind):
    """Looks at each channel by itself, over places that no plan touches."""

    def trace(
        self, run: Run, path: str, layer: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        value = only(path, layer, arguments, named)
        return pooled(run, value, output, path)


class Flatten(Kind):
    """A channel becomes a run of the next layer's indices."""

    def trace(
        self, run: Run, path: str, layer: nn.Flatten, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        return tuple(run.spaces.reshape(value.axes, tuple(output.shape), path))


class Unflatten(Kind):
    """The other way round; a size that it says as a number stays."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        axes = run.spaces.reshape(value.axes, tuple(output.shape), path)
        begin = layer.dim % value.tensor.dim()
        for size, axis in zip(layer.unflattened_size, axes[begin:], strict=False):
            if size != -1 and run.spaces.free(axis):
                run.spaces.freeze(axis, path)
        return tuple(axes)


class Glu(Kind):
    """One half of an axis gates the other, unit by unit (Dauphin et al. 2017)."""

    def trace(
        self, run: Run, path: str, layer: nn.GLU, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        dim = layer.dim % value.tensor.dim()
        half, _ = run.spaces.chunks(value.axes[dim], 2, path)
        return (*value.axes[:dim], half, *value.axes[dim + 1 :])


class SimNorm(Kind):
    """A softmax over each run of as many indices as its attribute ``simplex`` says, which are one unit (Hansen et al.
    2024, section 3.1)."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        run.spaces.coarsen(value.axes[-1], int(layer.simplex), path)
        return value.axes


class Bins(Kind):
    """The number that logits of bins stand for, of a layer that has ``two_hot``, the way back. The bins lie evenly, so
    none may be missing between others."""

    def trace(
        self, run: Run, path: str, layer: Any, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> Any:
        value = only(path, layer, arguments, named)
        if run.spaces.free(value.axes[-1]):
            run.spaces.freeze(value.axes[-1], path)
        return (*value.axes[:-1], *fixed(1))


class Other(Kind):
    """A layer of somebody else's: an entry an index of the last axis, or without entries and judged by trying it."""

    def trace(
        self, run: Run, path: str, layer: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> Any:
        value = only(path, layer, arguments, named)
        own = [(n, t) for n, t in (*layer.named_parameters(), *layer.named_buffers()) if t.numel() > 1]
        name = type(layer).__name__
        shape = tuple(value.tensor.shape)
        if not isinstance(output, Tensor) or tuple(output.shape) != shape:
            made = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if own or any(map(run.spaces.free, value.axes[1:])) or not _row_by_row(layer, value.tensor, output):
                of = f"{shape[1]} units" if len(shape) == 2 else f"{shape[1:]}"
                raise PruningError(f"layer '{path}' ({name}) makes {made[1:]} of {of}")
            return (value.axes[0], *fixed(*made[1:]))
        for of, tensor in own:
            if tuple(tensor.shape) != (width(value.axes[-1]),) or value.tensor.dim() != 2:
                raise PruningError(f"layer '{path}' ({name}): its '{of}' does not go unit by unit")
            run.own(tensor, (value.axes[-1],))
        for dimension, axis in enumerate(value.axes) if not own else ():
            if dimension and run.spaces.free(axis) and not _treats_all_alike(layer, shape, dimension, path):
                run.spaces.freeze(axis, path)
        return value.axes

    def restate(self, layer: Any) -> None:
        ByChannel().restate(layer)


def pooled(run: Run, value: Value, output: Any, where: str) -> tuple[Parts, ...]:
    """The axes of what a pooling gives: the first two stay."""
    if not isinstance(output, Tensor) or output.dim() != value.tensor.dim() or output.dim() < 3:
        raise PruningError(f"'{where}' does not pool rows of channels to one value")
    for place in value.axes[2:]:
        run.spaces.freeze(place, where)
    return (*value.axes[:2], *fixed(*output.shape[2:]))


def _treats_all_alike(layer: nn.Module, shape: tuple[int, ...], dimension: int, path: str) -> bool:
    """Whether a layer without entries of its own does to every unit what it does to any other: permuting what it reads
    permutes what it gives."""
    alone = copy.deepcopy(layer).eval()
    values = torch.linspace(-1.7, 2.3, prod(shape)).reshape(shape)
    order = torch.randperm(shape[dimension], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            given, permuted = alone(values), alone(values.index_select(dimension, order))
        except Exception as error:  # whatever the layer's own code raises
            raise PruningError(
                f"layer '{path}' ({type(layer).__name__}) cannot be called with {shape[dimension]} units alone: "
                f"{error!s:.100}"
            ) from error
    return bool(torch.allclose(given.index_select(dimension, order), permuted, rtol=1e-4, atol=1e-5))


def _row_by_row(layer: nn.Module, given: Tensor, output: Any) -> bool:
    """Whether it turns rows into rows, each by itself."""
    if not isinstance(output, Tensor) or output.dim() < 1 or len(output) != len(given):
        return False
    with torch.no_grad():
        alone = copy.deepcopy(layer).eval()(given.flip(0))
    return bool(torch.allclose(alone, output.flip(0), rtol=1e-4, atol=1e-5))
