"""A function of components as the list of calls that it makes: plain data, which is run without any code of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunectl.agents.controller import ControllerError, attribute_name
from prunectl.agents.networks.vocabulary import FUNCTIONS, METHODS, function_name, layer_name
from prunectl.registry import one_line


@dataclass(frozen=True)
class Value:
    """What an earlier call gave, by its number: the inputs come first."""

    number: int


@dataclass(frozen=True)
class Call:
    """One call. ``kind`` says what ``name`` is: the path of a ``layer`` or of a ``tensor`` (a parameter, a buffer), a
    ``function`` or ``method`` of the vocabulary, or the number of a ``constant``.

    Arguments are numbers, words, None, `Value`, and lists, tuples, slices and tables of these.
    """

    kind: str
    name: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Calls:
    """``inputs`` values that come in, calls in their order, and what is given back: a `Value`, or a table of them."""

    inputs: int
    steps: tuple[Call, ...]
    result: Any
    constants: tuple[Tensor, ...] = ()

    @property
    def layers(self) -> frozenset[str]:
        """Paths of all that is called or read of the networks."""
        return frozenset(step.name for step in self.steps if step.kind in ("layer", "tensor"))

    def picking(self, columns: Sequence[int]) -> Calls:
        """The same calls, and of the value that they give these columns alone."""
        index, number = torch.as_tensor(list(columns), dtype=torch.long), self.inputs + len(self.steps)
        steps = (
            Call("constant", str(len(self.constants))),
            Call("function", "index_select", (self.result, 1, Value(number))),
        )
        return Calls(self.inputs, (*self.steps, *steps), Value(number + 1), (*self.constants, index))

    def run(self, networks: nn.Module, *inputs: Any, told: Callable[[Call, Any], None] | None = None) -> Any:
        """Make the calls, with tensors or with what `torch.fx` traces; ``told`` of each, and of what it gave."""
        values: list[Any] = list(inputs)

        def given(argument: Any) -> Any:
            return values[argument.number]

        for step in self.steps:
            arguments = replaced(step.arguments, given)
            named = {name: replaced(argument, given) for name, argument in step.named.items()}
            match step.kind:
                case "layer":
                    value = networks.get_submodule(step.name)(*arguments, **named)
                case "tensor":
                    value = read_tensor(networks, step.name)
                case "constant":
                    value = self.constants[int(step.name)]
                case "function":
                    value = FUNCTIONS[step.name](*arguments, **named)
                case _:
                    value = getattr(arguments[0], step.name)(*arguments[1:], **named)
            if told is not None:
                told(step, value)
            values.append(value)
        return replaced(self.result, given)


def read_tensor(networks: nn.Module, path: str) -> Any:
    """A parameter or buffer by its path."""
    owner, _, name = path.rpartition(".")
    return getattr(networks.get_submodule(owner), name)


def replaced(argument: Any, given: Callable[[Value], Any]) -> Any:
    """An argument with another thing in the place of each `Value` in it."""
    match argument:
        case Value():
            return given(argument)
        case list() | tuple():
            return type(argument)(replaced(entry, given) for entry in argument)
        case dict():
            return {name: replaced(entry, given) for name, entry in argument.items()}
        case slice():
            return slice(*(replaced(bound, given) for bound in (argument.start, argument.stop, argument.step)))
    return argument


class Flow(nn.Module):
    """Calls over the components, which are its children under their `attribute_name`. Tracing it gives the calls.

    PyTorch's tracer reads the number of inputs off a signature, so there is a class for each.
    """

    def __init__(self, calls: Calls, components: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.calls = calls
        for name, module in components.items():
            self.add_module(attribute_name(name), module)

    @staticmethod
    def of(calls: Calls, components: Mapping[str, nn.Module]) -> Flow:
        """The flow with as many inputs as the calls have."""
        return (ObservationFlow, ActionFlow)[calls.inputs - 1](calls, components).eval()


class ObservationFlow(Flow):
    """What is a function of observations alone."""

    def forward(self, observation: Tensor) -> Any:
        return self.calls.run(self, observation)


class ActionFlow(Flow):
    """What is a function of observations and actions."""

    def forward(self, observation: Tensor, action: Tensor) -> Any:
        return self.calls.run(self, observation, action)


def follow(
    function: Callable[..., Any], components: Mapping[str, nn.Module], inputs: int, what: str, bare: bool = False
) -> Calls:
    """The calls that ``function(components, *inputs)`` makes, found by `torch.fx`; ``bare`` ones take the inputs alone.

    Modules of the user's own are followed into; those of the vocabulary are layers.

    Raises:
        ControllerError: its control flow depends on values, or it does what no file can say; ``what`` names it.
    """
    tracer = _Tracer()
    root = (_OfOne, _OfTwo)[inputs - 1](function, components, bare)
    try:
        graph = tracer.trace(root)
    except (fx.proxy.TraceError, TypeError, NameError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise ControllerError(f"{what}: PyTorch's tracer cannot follow it ({one_line(error)})") from error
    return _Reader(root, what).read(graph)


class _Traced(nn.Module):
    """What the tracer calls: the user's function over components that it finds by their attribute."""

    def __init__(self, function: Callable[..., Any], components: Mapping[str, nn.Module], bare: bool) -> None:
        super().__init__()
        self.function, self.bare = function, bare
        self.named = dict(components)
        for name, module in components.items():
            self.add_module(attribute_name(name), module)

    def call(self, *inputs: Any) -> Any:
        return self.function(*inputs) if self.bare else self.function(self.named, *inputs)


class _OfOne(_Traced):
    def forward(self, observation: Any) -> Any:
        return self.call(observation)


class _OfTwo(_Traced):
    def forward(self, observation: Any, action: Any) -> Any:
        return self.call(observation, action)


class _Tracer(fx.Tracer):
    #: Buffers are read when the calls are made, not when they are found.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return layer_name(m) is not None


class _Reader:
    """From a graph of `torch.fx` to `Calls`."""

    def __init__(self, root: nn.Module, what: str) -> None:
        self.root, self.what = root, what
        self.numbers: dict[fx.Node, int] = {}
        self.constants: list[Tensor] = []

    def read(self, graph: fx.Graph) -> Calls:
        steps: list[Call] = []
        result: Any = None
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        for node in graph.nodes:
            if node.op == "output":
                result = self._argument(node.args[0], node)
                continue
            if node.op != "placeholder":
                steps.append(self._step(node))
            self.numbers[node] = len(self.numbers)
        return Calls(len(inputs), tuple(steps), result, tuple(self.constants))

    def _step(self, node: fx.Node) -> Call:
        arguments = tuple(self._argument(argument, node) for argument in node.args)
        named = {name: self._argument(argument, node) for name, argument in node.kwargs.items()}
        target: Any = node.target
        if node.op == "call_module":
            return Call("layer", target, arguments, named)
        if node.op == "get_attr":
            value = read_tensor(self.root, target)
            owner, _, attribute = target.rpartition(".")
            held = self.root.get_submodule(owner)
            # A tensor that is neither of these is in no state dict: it is a number that the function was given.
            if owner and (attribute in held._parameters or attribute in held._buffers):
                return Call("tensor", target)
            self.constants.append(value.detach().clone())
            return Call("constant", str(len(self.constants) - 1))
        if node.op == "call_method" and target in METHODS:
            return Call("method", target, arguments, named)
        if node.op == "call_function" and (name := function_name(target)) is not None:
            return Call("function", name, arguments, named)
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        raise ControllerError(
            f"{self.what}: '{name}' at '{node.name}' is no operation that a saved controller can hold"
        )

    def _argument(self, argument: Any, node: fx.Node) -> Any:
        match argument:
            case fx.Node():
                return Value(self.numbers[argument])
            case None | bool() | int() | float() | str():
                return argument
            case slice():
                bounds = (argument.start, argument.stop, argument.step)
                return slice(*(self._argument(bound, node) for bound in bounds))
            case tuple():
                return tuple(self._argument(entry, node) for entry in argument)
            case list():
                return [self._argument(entry, node) for entry in argument]
            case Mapping():
                return {str(name): self._argument(entry, node) for name, entry in argument.items()}
        kind = type(argument).__name__
        raise ControllerError(f"{self.what}: '{node.name}' is given a {kind}, which no saved controller can hold")


def values_in(argument: Any) -> Iterator[Value]:
    """Every `Value` in an argument."""
    found: list[Value] = []
    replaced(argument, found.append)
    yield from found


def live(calls: Calls) -> Calls:
    """The calls without those whose values nobody reads."""
    needed = {value.number for value in values_in(calls.result)}
    for number, step in reversed(list(enumerate(calls.steps, calls.inputs))):
        if number in needed:
            needed |= {value.number for value in values_in([step.arguments, dict(step.named)])}
    numbers = dict.fromkeys(range(calls.inputs), 0) | {n: 0 for n in sorted(needed) if n >= calls.inputs}
    numbers = {number: place for place, number in enumerate(numbers)}

    def renumbered(argument: Any) -> Any:
        return replaced(argument, lambda value: Value(numbers[value.number]))

    steps = [
        Call(step.kind, step.name, renumbered(step.arguments), renumbered(dict(step.named)))
        for number, step in enumerate(calls.steps, calls.inputs)
        if number in needed
    ]
    return Calls(calls.inputs, tuple(steps), renumbered(calls.result), calls.constants)


def sources(calls: Calls, component_of: Callable[[str], str]) -> Mapping[int, frozenset[str]]:
    """For each value, the components whose layers or tensors stand last on any way to it."""
    found: dict[int, frozenset[str]] = {number: frozenset() for number in range(calls.inputs)}
    for number, step in enumerate(calls.steps, calls.inputs):
        if step.kind in ("layer", "tensor"):
            found[number] = frozenset([component_of(step.name)])
        else:
            read = values_in([step.arguments, dict(step.named)])
            found[number] = frozenset().union(*(found[value.number] for value in read))
    return found
