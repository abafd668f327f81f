"""Tracing a controller's dataflow into its component graph.

An abstract run beside a real one on two rows: every value that passes through the dataflow has an axis a dimension, and
every axis is a run of parts of *spaces*, sets of units that leave together (`pruning.spaces`). A layer reads the spaces
it is given and writes one of its own (`pruning.layers`); whatever works index by index passes its spaces on; a layer
that is called twice, or a sum of two values, makes two spaces one (`pruning.operations`). What couples with what then
falls out, through any number of components, with nothing declared by hand but what may not be pruned at all: the inputs
that are no latents, and the outputs that leave the controller.

What cannot be followed is refused, never guessed: counts are held against the tensors themselves.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from prunectl.agents.controller import Controller, attribute_name
from prunectl.pruning.ask import OBSERVATION
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import Axis, ComponentGraph, Group, Segment, Tensor
from prunectl.pruning.layers import Value, is_layer, kind_of, stack_of
from prunectl.pruning.operations import rule_of, says_sizes
from prunectl.pruning.spaces import Part, Parts, Spaces, width
from prunectl.registry import one_line

#: Rows of the real run.
_ROWS = 2


class Tracer(fx.Tracer):
    """Every module that is one step is a leaf: those without children, normalisation layers of other libraries
    included, and attention."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_layer(m)


def calls(dataflow: nn.Module) -> fx.Graph:
    """The dataflow as a graph of calls on its leaf modules.

    Raises:
        PruningError: its control flow depends on values.
    """
    try:
        return Tracer().trace(dataflow)
    except (fx.proxy.TraceError, TypeError) as error:
        raise PruningError(f"the controller's dataflow cannot be traced: {one_line(error)}") from error


def trace(controller: Controller, observed: bool = False) -> ComponentGraph:
    """Find the groups of a controller, each with its component or flow.

    Args:
        controller: whose dataflow is followed.
        observed: the numbers of the observation are a flow too, from nobody to those that read them.

    Raises:
        PruningError: the dataflow holds an operation whose effect on units is not known, or none of the observation
            can be left out.
    """
    dataflow = controller.dataflow()
    run = _AbstractRun(controller, dataflow, observed)
    with torch.no_grad(), _evaluating(dataflow):
        run.walk(calls(dataflow))
    return run.graph()


class _AbstractRun:
    def __init__(self, controller: Controller, dataflow: nn.Module, observed: bool) -> None:
        self.controller, self.dataflow, self.observed = controller, dataflow, observed
        self.component_of_path = {attribute_name(name): name for name in controller.components}
        tensors = [*controller.networks.named_parameters(), *controller.networks.named_buffers()]
        self.name_of = {id(tensor): name for name, tensor in tensors}
        self.spaces = Spaces()
        self.rows = self.spaces.new(_ROWS, fixed=False, batch=True)
        self.axes: dict[int, tuple[Parts, ...]] = {}
        self.layers: dict[str, tuple[Parts, Parts]] = {}
        self.taps: dict[str, int] = {}
        self.work: dict[str, int] = {}
        owned = [component.module for component in controller.components.values()]
        self.owned = {id(t) for module in owned for t in (*module.parameters(), *module.buffers())}
        self.singles: dict[str, tuple[int, Parts]] = {}
        self.inputs: list[Parts] = []
        self.outputs: dict[str, Value] = {}
        self.passed = 0

    # The run itself

    def walk(self, graph: fx.Graph) -> None:
        values: dict[fx.Node, Any] = {}
        # For plain numbers, the axes whose widths they were made of.
        sizes: dict[fx.Node, list[Parts]] = {}
        placeholders = iter(enumerate(self.controller.inputs(*_example(self.controller))))
        for node in graph.nodes:
            match node.op:
                case "placeholder":
                    values[node] = self._input(*next(placeholders))
                case "get_attr":
                    values[node] = self._constant(_attribute(self.dataflow, str(node.target)), str(node.target))
                case "output":
                    results: Any = node.args[0]
                    self.outputs = {name: values[argument] for name, argument in results.items()}
                case _:
                    arguments, named = fx.node.map_arg((node.args, node.kwargs), lambda argument: values[argument])
                    made_of = [axis for read in node.all_input_nodes for axis in sizes.get(read, ())]
                    values[node] = self._step(node, arguments, named, made_of)
                    if not _is_value(values[node]):
                        sizes[node] = made_of + _measured(node, arguments)
            self.passed += sum(value.tensor.numel() for value in _flat(values.get(node)))

    def _input(self, position: int, tensor: torch.Tensor) -> Value:
        """What the dataflow takes: all of it stays, but for latents, and for the observation where that is asked."""
        if position in self.controller.latent_inputs or (self.observed and position == 0):
            last = self.spaces.axis(tensor.shape[-1])
        else:
            last = (Part(self.spaces.new(tensor.shape[-1], fixed=True), tensor.shape[-1]),)
        self.inputs.append(last)
        between = tuple((Part(None, size),) for size in tensor.shape[1:-1])
        return Value(tensor, ((Part(self.rows, _ROWS),), *between, last))

    def _constant(self, tensor: Any, where: str) -> Any:
        """A parameter or buffer that the dataflow itself reads."""
        if not isinstance(tensor, torch.Tensor):
            return tensor
        if tensor.numel() > 1 and id(tensor) not in self.owned:
            raise PruningError(
                f"'{where}' is a tensor of {tuple(tensor.shape)} that no component holds as a parameter or buffer"
            )
        value = Value(tensor, self.axes.get(id(tensor)) or tuple(self.spaces.axis(size) for size in tensor.shape))
        if id(tensor) in self.owned:
            self.axes[id(tensor)] = value.axes
        return value

    def _step(self, node: fx.Node, arguments: Any, named: Any, made_of: list[Parts]) -> Any:
        """A call of a layer, a function or a method."""
        values = list(_flat([*arguments, *named.values()]))
        output = self._really(node, arguments, named)
        if node.op == "call_module":
            path = str(node.target)
            layer = self.dataflow.get_submodule(path)
            axes = kind_of(layer).trace(self, path, layer, arguments, named, output)
        elif not values or not list(_tensors(output)):
            # Numbers and tuples of them; a value taken out of several is one of them still.
            return output if not values or node.target is not _GETITEM else arguments[0][arguments[1]]
        elif node.target is _GETITEM and isinstance(arguments[0], tuple):
            return arguments[0][arguments[1]]
        elif (stack := stack_of(node, self.dataflow)) is not None:
            axes = stack.trace(self, arguments, output)
        else:
            rule = rule_of(node)
            if rule is None:
                name = getattr(node.target, "__name__", node.target)
                raise PruningError(f"operation '{name}' at '{node.name}': its effect on units is not known")
            axes = rule(self, node, arguments, named, output)
            for axis in () if says_sizes(node) else made_of:
                if self.spaces.free(axis) and not any(space.batch for space in self.spaces.spaces(axis)):
                    self.spaces.freeze(axis, node.name)
        return _paired(output, axes, node.name)

    def _really(self, node: fx.Node, arguments: Any, named: Any) -> Any:
        """The call carried out on the example."""
        args, kwargs = _plain(arguments), _plain(named)
        call: Any
        if node.op == "call_module":
            layer = self.dataflow.get_submodule(str(node.target))
            if isinstance(layer, nn.Linear) and args and isinstance(args[0], torch.Tensor):
                given = args[0].shape[-1] if args[0].dim() else 1
                if given != layer.in_features:
                    raise PruningError(f"layer '{node.target}' reads {layer.in_features} numbers and is given {given}")
            what, call = f"layer '{node.target}' ({type(layer).__name__})", layer
        else:
            name = getattr(node.target, "__name__", node.target)
            what = f"operation '{name}' at '{node.name}'"
            call = node.target if callable(node.target) else getattr(type(args[0]), str(node.target), None)
        try:
            return call(*args, **kwargs)
        except Exception as error:  # whatever the layer's own code raises
            raise PruningError(f"{what} cannot be called here: {one_line(error)}") from error

    # What layers say

    def own(self, tensor: torch.Tensor, axes: Sequence[Parts]) -> None:
        """These are a tensor's axes; a tensor with several uses loses the same in all."""
        name = self.name_of.get(id(tensor), "?")
        if tuple(map(width, axes)) != tuple(tensor.shape):
            raise PruningError(f"parameter '{name}' of {tuple(tensor.shape)} is not what its layers make of it")
        for known, axis in zip(self.axes.setdefault(id(tensor), tuple(axes)), axes, strict=True):
            if known is not axis:
                self.spaces.unify(known, axis, name)

    def product(self, name: str, inputs: Parts, outputs: Parts, output: torch.Tensor, taps: int = 1) -> Parts:
        if name in self.layers:
            known_inputs, known_outputs = self.layers[name]
            self.spaces.unify(known_inputs, inputs, name)
            self.spaces.unify(known_outputs, outputs, name)
            return known_outputs
        self.layers[name], self.taps[name] = (inputs, outputs), taps
        self.work[name] = output.shape[:-1].numel() // _ROWS
        for space in self.spaces.spaces(outputs):
            space.producers.append(name)
        for space in self.spaces.spaces(inputs):
            space.consumers.append(name)
        return outputs

    def alone(self, name: str, outputs: Parts, output: torch.Tensor, taps: int) -> None:
        self.singles[name] = output.numel() // (_ROWS * width(outputs)) * taps, outputs

    # What it found

    def graph(self) -> ComponentGraph:
        names, groups = self._groups()

        def axis(parts: Parts, taps: int = 1) -> Axis:
            return tuple(
                Segment(names[space.order], space.units, part.width * taps // space.units)
                if (space := part.space) is not None and space.order in names
                else Segment(None, part.width * taps)
                for part in self.spaces.resolve(parts)
            )

        tensors = {}
        for component in self.controller.components.values():
            parameters = dict(component.module.named_parameters())
            for tensor in [*parameters.values(), *component.module.buffers()]:
                name = self.name_of[id(tensor)]
                fixed = tuple((Segment(None, size),) for size in tensor.shape)
                axes = tuple(map(axis, self.axes[id(tensor)])) if id(tensor) in self.axes else fixed
                tensors[name] = Tensor(name, component.name, axes, isinstance(tensor, nn.Parameter))
        component_of = {path: self._component(path) for path in self.layers}
        layer_axes = {path: (axis(i, self.taps[path]), axis(o)) for path, (i, o) in self.layers.items()}
        work: dict[str, tuple[str, int, tuple[Axis, ...]]] = {
            path: (self._component(path), self.work[path], axes) for path, axes in layer_axes.items()
        }
        work |= {path: (self._component(path), times, (axis(o),)) for path, (times, o) in self.singles.items()}
        return ComponentGraph(
            groups=groups,
            tensors=tensors,
            input_axes=tuple(map(axis, self.inputs)),
            output_axes={name: tuple(map(axis, value.axes)) for name, value in self.outputs.items()},
            layer_axes=layer_axes,
            layer_component=component_of,
            work=work,
            numbers_a_row=self.passed // _ROWS if any(times > 1 for times in self.work.values()) else None,
            components=tuple(self.controller.components),
            deployed=frozenset(c.name for c in self.controller.components.values() if c.deployed),
            ties=_ties(groups, self.controller.ties, component_of),
            mirrors=dict(self.controller.mirrors),
        )

    def _groups(self) -> tuple[dict[int, str], dict[str, Group]]:
        """Name the spaces that can be pruned: somebody writes them, somebody reads them, nobody outside sees them."""
        seen_outside = {
            space.order
            for name, value in self.outputs.items()
            for axis in value.axes
            for space in self.spaces.spaces(axis)
            if name in self.controller.fixed_outputs or all(self._component(r) == name for r in space.consumers)
        }
        observation = [space.order for space in self.spaces.spaces(self.inputs[0])] if self.observed else []
        names: dict[int, str] = {}
        groups: dict[str, Group] = {}
        count: dict[str, int] = defaultdict(int)
        for space in self.spaces.all:
            if space.merged or space.children or space.fixed or space.batch or space.order in seen_outside:
                continue
            if not space.consumers or not (space.producers or space.order in observation):
                continue
            writers = list(dict.fromkeys(map(self._component, space.producers))) or [OBSERVATION]
            readers = list(dict.fromkeys(map(self._component, space.consumers)))
            involved = tuple(name for name in dict.fromkeys(writers + readers) if name != OBSERVATION)
            intra = len(involved) == 1 and bool(space.producers)
            if intra:
                name = f"{involved[0]}/{count[involved[0]]}"
                count[involved[0]] += 1
            else:
                name = f"{','.join(writers)}->{','.join(readers)}"
                name += f"#{count[name]}" if count[name] else ""
                count[name] += 1
            names[space.order] = name
            groups[name] = Group(
                name,
                "intra" if intra else "inter",
                involved,
                space.units,
                tuple(space.producers),
                tuple(space.consumers),
            )
        if self.observed and not (self.controller.selects and len(observation) == 1 and observation[0] in names):
            raise PruningError(
                f"no number of what this '{self.controller.algorithm}' controller sees can be left out: leave "
                f"'{OBSERVATION}' out of what is asked"
            )
        return names, groups

    def _component(self, path: str) -> str:
        return self.component_of_path[path.split(".", 1)[0]]


def _example(controller: Controller) -> tuple[Any, Any]:
    """Observations and actions, for their forms alone."""
    observation, action = controller.observation_space.sample(), np.asarray(controller.action_space.sample())
    return np.repeat(observation[None], _ROWS, axis=0), np.repeat(action[None], _ROWS, axis=0)


@contextmanager
def _evaluating(dataflow: nn.Module) -> Iterator[None]:
    """As when acting: running statistics are not touched."""
    training = [module for module in dataflow.modules() if module.training]
    for module in training:
        module.training = False
    yield
    for module in training:
        module.training = True


_GETITEM = operator.getitem


def _is_value(value: Any) -> bool:
    return any(True for _ in _flat(value))


def _flat(values: Any) -> Iterator[Value]:
    """The values in nested tuples and lists."""
    if isinstance(values, Value):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _flat(value)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _tensors(part)


def _plain(values: Any) -> Any:
    """The example tensors in the place of values."""
    return fx.node.map_aggregate(values, lambda value: value.tensor if isinstance(value, Value) else value)


def _paired(output: Any, axes: Any, where: str) -> Any:
    """Values of a call's results and their axes, nested alike."""
    if isinstance(output, torch.Tensor):
        if tuple(map(width, axes)) != tuple(output.shape):
            raise PruningError(f"'{where}' gives {tuple(output.shape)}, which is not what its units make of it")
        return Value(output, tuple(axes))
    if isinstance(output, tuple | list):
        return tuple(_paired(*pair, where) for pair in zip(output, axes, strict=True))
    return output


def _measured(node: fx.Node, arguments: Sequence[Any]) -> list[Parts]:
    """The axes whose widths a call reads as numbers."""
    value = arguments[0] if arguments and isinstance(arguments[0], Value) else None
    if value is None:
        return []
    if node.target == "size" and len(arguments) > 1:
        return [value.axes[arguments[1]]]
    return list(value.axes)


def _attribute(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _ties(
    groups: Mapping[str, Group], tied: Sequence[Sequence[str]], components: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """Groups of tied components, paired in order; of layers, by name, what each writes."""

    def own(name: str) -> list[str]:
        if name in components:
            return [group.name for group in groups.values() if name in group.producers]
        return [group.name for group in groups.values() if group.kind == "intra" and group.components == (name,)]

    return tuple(tuple(paired) for names in tied for paired in zip(*map(own, names), strict=True))
