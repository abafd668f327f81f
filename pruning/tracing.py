"""Tracing a controller's dataflow into its component graph.

An abstract run: every value that passes through the dataflow is a list of *spaces*, runs of indices on its last axis.
A linear layer reads the spaces it is given and writes a space of its own; whatever works index by index passes its
spaces on; concatenation joins lists; a layer that is called twice, or a sum of two values, makes two spaces one. What
couples with what then falls out, through any number of components, with nothing declared by hand but what may not be
pruned at all: the inputs that are no latents, and the outputs that leave the controller.

What cannot be followed is refused, never guessed: counts are held against the tensors themselves.
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from prunectl.agents.controller import Controller, attribute_name
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import Axis, ComponentGraph, Group, Segment, Tensor

#: Functions that treat every index of the last axis alike and so pass its spaces on.
_ELEMENTWISE: set[Any] = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg,
    torch.add, torch.sub, torch.mul, torch.tanh, torch.relu, torch.sigmoid, torch.clamp, torch.exp,
    nn.functional.relu, nn.functional.elu, nn.functional.mish, nn.functional.silu, nn.functional.gelu,
}  # fmt: skip
_ELEMENTWISE_METHODS = {"tanh", "relu", "sigmoid", "clamp", "exp", "add", "mul", "sub", "detach", "float"}


class Tracer(fx.Tracer):
    """Every module without children is a leaf, normalisation layers of other libraries included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children())


def calls(dataflow: nn.Module) -> fx.Graph:
    """The dataflow as a graph of calls on its leaf modules.

    Raises:
        PruningError: its control flow depends on values.
    """
    try:
        return Tracer().trace(dataflow)
    except (fx.proxy.TraceError, TypeError) as error:
        raise PruningError(f"the controller's dataflow cannot be traced: {' '.join(str(error).split())}") from error


def trace(controller: Controller) -> ComponentGraph:
    """Find the groups of a controller, each with its component or flow.

    Raises:
        PruningError: the dataflow holds an operation whose effect on units is not known.
    """
    dataflow = controller.dataflow()
    run = _AbstractRun(controller, dataflow)
    run.walk(calls(dataflow))
    return run.graph()


@dataclass
class _Space:
    """A run of indices. Merged spaces point to the one that stands for all of them."""

    units: int
    order: int
    merged: _Space | None = None
    producers: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)

    def root(self) -> _Space:
        return self if self.merged is None else self.merged.root()


_Value = tuple[_Space, ...]


class _AbstractRun:
    def __init__(self, controller: Controller, dataflow: nn.Module) -> None:
        self.controller, self.dataflow = controller, dataflow
        self.component_of_path = {attribute_name(name): name for name in controller.components}
        tensors = [*controller.networks.named_parameters(), *controller.networks.named_buffers()]
        self.name_of = {id(tensor): name for name, tensor in tensors}
        self.spaces: list[_Space] = []
        self.axes: dict[int, tuple[_Value, ...]] = {}
        self.layers: dict[str, tuple[_Value, _Value]] = {}
        owned = [component.module for component in controller.components.values()]
        self.owned = {id(t) for module in owned for t in (*module.parameters(), *module.buffers())}
        self.fixed: list[_Space] = []
        self.inputs: list[_Value] = []
        self.outputs: dict[str, _Value] = {}
        self.widths_of_inputs = [
            tensor.shape[-1]
            for tensor in controller.inputs(*_example(controller))
        ]  # fmt: skip

    # The run itself

    def walk(self, graph: fx.Graph) -> None:
        values: dict[fx.Node, Any] = {}
        placeholders = iter(enumerate(self.widths_of_inputs))
        for node in graph.nodes:
            match node.op:
                case "placeholder":
                    position, width = next(placeholders)
                    values[node] = self._new(width)
                    self.inputs.append(values[node])
                    if position not in self.controller.latent_inputs:
                        self.fixed += values[node]
                case "get_attr":
                    values[node] = _attribute(self.dataflow, str(node.target))
                case "call_module":
                    values[node] = self._call(str(node.target), self._argument(node, values))
                case "output":
                    results: Any = node.args[0]
                    self.outputs = {name: values[argument] for name, argument in results.items()}
                case _:
                    values[node] = self._function(node, values)

    def _call(self, path: str, value: _Value) -> _Value:
        layer = self.dataflow.get_submodule(path)
        if isinstance(layer, nn.Linear):
            return self._linear(path, layer, value)
        # Without children and not linear: an activation, or a normalisation with one entry an index.
        width = _width(value)
        own = [(n, t) for n, t in (*layer.named_parameters(), *layer.named_buffers()) if t.numel() > 1]
        for name, tensor in own:
            if tuple(tensor.shape) != (width,):
                raise PruningError(f"layer '{path}' ({type(layer).__name__}): its '{name}' does not go unit by unit")
            self.axes[id(tensor)] = (value,)
        if not own and not _treats_all_alike(layer, width, path):
            self.fixed += value
        return value

    def _argument(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> _Value:
        """What a module is called with: one value."""
        if len(node.args) != 1 or node.kwargs or not isinstance(value := values[node.args[0]], tuple):  # type: ignore[index]
            raise PruningError(f"layer '{node.target}' is not called with one value of the dataflow alone")
        return value

    def _linear(self, path: str, layer: nn.Linear, value: _Value) -> _Value:
        if _width(value) != layer.in_features:
            raise PruningError(f"layer '{path}' reads {layer.in_features} numbers and is given {_width(value)}")
        if path in self.layers:
            self._unify(self.layers[path][0], value, path)
            return self.layers[path][1]
        output = self._new(layer.out_features)
        self.layers[path] = (value, output)
        self.axes[id(layer.weight)] = (output, value)
        if layer.bias is not None:
            self.axes[id(layer.bias)] = (output,)
        output[0].producers.append(path)
        for space in value:
            space.root().consumers.append(path)
        return output

    def _function(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> _Value:
        given: Any = fx.node.map_arg((node.args, node.kwargs), lambda argument: values[argument])
        arguments, named = list(given[0]), dict(given[1])
        if node.target in (torch.cat, torch.concat):
            return self._joined(node, arguments, named)
        if node.target in (torch.matmul, operator.matmul) and isinstance(arguments[1], nn.Parameter) and not named:
            # A bare parameter with a row per unit of what it multiplies: gSDE's log_std.
            self._check_entries(arguments[1], (_width(arguments[0]), arguments[1].shape[-1]), node.name)
            output = self._new(arguments[1].shape[1])
            self.axes[id(arguments[1])] = (arguments[0], output)
            return output
        if node.target in _ELEMENTWISE or (node.op == "call_method" and node.target in _ELEMENTWISE_METHODS):
            everything = [*arguments, *named.values()]
            read = [value for value in everything if isinstance(value, tuple)]
            if not read:
                raise PruningError(f"operation '{node.target}' at '{node.name}' reads no value of the dataflow")
            first, *others = read
            for other in others:
                self._unify(first, other, node.name)
            for tensor in everything:
                if isinstance(tensor, torch.Tensor) and tensor.numel() > 1:  # a gain, an offset: an entry a unit
                    self._check_entries(tensor, (_width(first),), node.name)
                    self.axes[id(tensor)] = (first,)
            return first
        raise PruningError(f"operation '{node.target}' at '{node.name}': its effect on units is not known")

    def _joined(self, node: fx.Node, arguments: list[Any], named: dict[str, Any]) -> _Value:
        """Values side by side, which is along the last axis of two."""
        parts = named.pop("tensors", None) or arguments.pop(0)
        dim = named.pop("dim", arguments.pop(0) if arguments else 0)
        if dim not in (1, -1) or arguments or named or not all(isinstance(part, tuple) for part in parts):
            raise PruningError(
                f"operation 'cat' at '{node.name}' does not join values of the dataflow along their units"
            )
        return tuple(space for value in parts for space in value)

    def _check_entries(self, tensor: torch.Tensor, shape: tuple[int, ...], where: str) -> None:
        """Refuse a tensor that surgery would not cut along with the units, or could not."""
        if id(tensor) not in self.owned:
            raise PruningError(
                f"'{where}' uses a tensor of {tuple(tensor.shape)} that no component holds as a parameter or buffer"
            )
        if tuple(tensor.shape) != shape:
            raise PruningError(f"'{where}' uses a tensor of {tuple(tensor.shape)} where units ask for {shape}")

    def _new(self, units: int) -> _Value:
        space = _Space(units, len(self.spaces))
        self.spaces.append(space)
        return (space,)

    def _unify(self, one: _Value, two: _Value, where: str) -> None:
        if [s.root().units for s in one] != [s.root().units for s in two]:
            raise PruningError(f"'{where}' joins values whose units do not line up")
        for left, right in zip(one, two, strict=True):
            keep, gone = sorted((left.root(), right.root()), key=lambda space: space.order)
            if keep is not gone:
                gone.merged = keep
                keep.producers += [p for p in gone.producers if p not in keep.producers]
                keep.consumers += [c for c in gone.consumers if c not in keep.consumers]

    # What it found

    def graph(self) -> ComponentGraph:
        names, groups = self._groups()

        def axis(value: _Value) -> Axis:
            return tuple(Segment(names.get(space.root().order), space.root().units) for space in value)

        tensors = {}
        for component in self.controller.components.values():
            parameters = dict(component.module.named_parameters())
            for tensor in [*parameters.values(), *component.module.buffers()]:
                name = self.name_of[id(tensor)]
                fixed = tuple((Segment(None, size),) for size in tensor.shape)
                axes = tuple(map(axis, self.axes[id(tensor)])) if id(tensor) in self.axes else fixed
                if tuple(sum(segment.units for segment in one) for one in axes) != tuple(tensor.shape):
                    raise PruningError(f"parameter '{name}' of {tuple(tensor.shape)} is not what its layers make of it")
                tensors[name] = Tensor(name, component.name, axes, isinstance(tensor, nn.Parameter))
        return ComponentGraph(
            groups=groups,
            tensors=tensors,
            input_axes=tuple(map(axis, self.inputs)),
            layer_axes={path: (axis(i), axis(o)) for path, (i, o) in self.layers.items()},
            layer_component={path: self._component(path) for path in self.layers},
            components=tuple(self.controller.components),
            deployed=frozenset(c.name for c in self.controller.components.values() if c.deployed),
            ties=_ties(groups, self.controller.ties),
            mirrors=dict(self.controller.mirrors),
        )

    def _groups(self) -> tuple[dict[int, str], dict[str, Group]]:
        """Name the spaces that can be pruned: somebody writes them, somebody reads them, nobody outside sees them."""
        seen_outside = {space.root().order for space in self.fixed} | {
            space.root().order
            for name, value in self.outputs.items()
            for space in value
            if name in self.controller.fixed_outputs
            or all(self._component(reader) == name for reader in space.root().consumers)
        }
        names: dict[int, str] = {}
        groups: dict[str, Group] = {}
        count: dict[str, int] = defaultdict(int)
        for space in self.spaces:
            if space.merged or not space.producers or not space.consumers or space.order in seen_outside:
                continue
            writers = list(dict.fromkeys(map(self._component, space.producers)))
            readers = list(dict.fromkeys(map(self._component, space.consumers)))
            involved = tuple(dict.fromkeys(writers + readers))
            if len(involved) == 1:
                name = f"{involved[0]}/{count[involved[0]]}"
                count[involved[0]] += 1
            else:
                name = f"{','.join(writers)}->{','.join(readers)}"
                name += f"#{count[name]}" if count[name] else ""
                count[name] += 1
            names[space.order] = name
            kind = "intra" if len(involved) == 1 else "inter"
            groups[name] = Group(name, kind, involved, space.units, tuple(space.producers), tuple(space.consumers))
        return names, groups

    def _component(self, path: str) -> str:
        return self.component_of_path[path.split(".", 1)[0]]


def _example(controller: Controller) -> tuple[Any, Any]:
    """One observation and one action, for their widths alone."""
    return controller.observation_space.sample()[None], np.asarray(controller.action_space.sample())[None]


def _width(value: _Value) -> int:
    return sum(space.root().units for space in value)


def _treats_all_alike(layer: nn.Module, width: int, path: str) -> bool:
    """Whether a layer without entries of its own does to every unit what it does to any other: permuting what it reads
    permutes what it gives.

    Raises:
        PruningError: it does not give as many units as it reads.
    """
    alone = copy.deepcopy(layer).eval()
    values = torch.linspace(-1.7, 2.3, 2 * width).reshape(2, width)
    order = torch.randperm(width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            given, permuted = alone(values), alone(values[:, order])
        except Exception as error:  # whatever the layer's own code raises
            raise PruningError(
                f"layer '{path}' ({type(layer).__name__}) cannot be called with {width} units alone: {error!s:.100}"
            ) from error
    if given.shape != values.shape:
        raise PruningError(f"layer '{path}' ({type(layer).__name__}) makes {tuple(given.shape)[1:]} of {width} units")
    return bool(torch.allclose(given[:, order], permuted, rtol=1e-4, atol=1e-5))


def _attribute(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _ties(groups: Mapping[str, Group], components: Any) -> tuple[tuple[str, ...], ...]:
    """Groups of tied components, paired in order."""
    tied = []
    for names in components:
        own: Callable[[str], list[str]] = lambda name: [g.name for g in groups.values() if g.components == (name,)]  # noqa: E731
        tied += [tuple(paired) for paired in zip(*(own(name) for name in names), strict=True)]
    return tuple(tied)
