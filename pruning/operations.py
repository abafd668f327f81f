"""Functions and methods between layers: what each does to the axes of what it reads.

What is not here is refused by name. A size that a dataflow says as a number cannot follow its units, so these stay.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunectl.pruning.errors import PruningError
from prunectl.pruning.layers.base import Run, Value, fixed
from prunectl.pruning.layers.passing import pooled
from prunectl.pruning.spaces import Parts, width

#: ``(run, node, arguments, named, output) -> axes``.
Rule = Callable[[Run, fx.Node, Sequence[Any], Mapping[str, Any], Any], Any]

_ELEMENTWISE = [
    "add",
    "sub",
    "mul",
    "truediv",
    "div",
    "neg",
    "pow",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "abs",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tanh",
    "relu",
    "relu6",
    "sigmoid",
    "clamp",
    "clip",
    "maximum",
    "minimum",
    "where",
    "lerp",
    "elu",
    "selu",
    "celu",
    "mish",
    "silu",
    "gelu",
    "leaky_relu",
    "softplus",
    "softsign",
    "hardtanh",
    "hardswish",
    "logsigmoid",
    "sign",
    "erf",
    "dropout",
    "addcmul",
    "detach",
    "float",
    "double",
    "long",
    "int",
    "bool",
    "to",
    "type_as",
    "clone",
    "contiguous",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "nan_to_num",
    "tanhshrink",
    "softshrink",
    "hardsigmoid",
]
_REDUCING = ["sum", "mean", "amax", "amin", "prod", "var", "std", "norm", "logsumexp", "all", "any", "argmax", "argmin"]
_WEIGHING = ["softmax", "log_softmax"]
_SIZED = ["view", "reshape", "expand", "unflatten"]
_SPACES = (torch, nn.functional, operator)


def rule_of(node: fx.Node) -> Rule | None:
    """The rule of a call, None where there is none."""
    return _METHODS.get(str(node.target)) if node.op == "call_method" else _FUNCTIONS.get(node.target)


def says_sizes(node: fx.Node) -> bool:
    """Whether the numbers that a call is given are sizes of its result."""
    return str(getattr(node.target, "__name__", node.target)) in _SIZED


def _elementwise(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    values = _values([*arguments, *named.values()])
    return _aligned(run, values, output.dim(), node.name)


def _aligned(run: Run, values: Sequence[Value], dims: int, where: str) -> tuple[Parts, ...]:
    """Values side by side as they are broadcast: what lines up loses the same units."""
    axes: list[Parts] = []
    for dimension in range(-dims, 0):
        own = [value.axes[dimension] for value in values if value.tensor.dim() >= -dimension]
        wide = [axis for axis in own if width(axis) != 1] or own[:1]
        for axis in own:
            if width(axis) == 1 and width(wide[0]) != 1 and run.spaces.free(axis):
                run.spaces.freeze(axis, where)
        for other in wide[1:]:
            run.spaces.unify(wide[0], other, where)
        axes.append(wide[0])
    return tuple(axes)


def _reduced(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
) -> tuple[Parts, ...]:
    value = arguments[0]
    dims = _dims(named.get("dim", arguments[1] if len(arguments) > 1 else None), value, node)
    for dim in dims:
        run.spaces.freeze(value.axes[dim], node.name)
    if not isinstance(output, Tensor):
        raise _unknown(node)
    if output.dim() == value.tensor.dim():
        return tuple(fixed(1)[0] if dim in dims else axis for dim, axis in enumerate(value.axes))
    return tuple(axis for dim, axis in enumerate(value.axes) if dim not in dims)


def _weighed(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
) -> tuple[Parts, ...]:
    value = arguments[0]
    for dim in _dims(named.get("dim", arguments[1] if len(arguments) > 1 else None), value, node):
        run.spaces.freeze(value.axes[dim], node.name)
    axes: tuple[Parts, ...] = value.axes
    return axes


def _joined(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any
) -> tuple[Parts, ...]:
    """Values one after another along an axis; their other axes line up."""
    parts, dim = _parts(node, arguments, named)
    dim %= parts[0].tensor.dim()
    if any(space.batch for part in parts for space in run.spaces.spaces(part.axes[dim])):
        raise PruningError(f"operation 'cat' at '{node.name}' does not join values of the dataflow along their units")
    axes = list(parts[0].axes)
    for other in parts[1:]:
        for number, axis in enumerate(other.axes):
            if number != dim:
                run.spaces.unify(axes[number], axis, node.name)
    axes[dim] = tuple(part for value in parts for part in value.axes[dim])
    return tuple(axes)


def _stacked(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    parts, dim = _parts(node, arguments, named)
    axes = list(_aligned(run, parts, parts[0].tensor.dim(), node.name))
    axes.insert(dim % output.dim(), fixed(len(parts))[0])
    return tuple(axes)


def _split(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    """Runs of given sizes: sizes are numbers, so units stay."""
    value = arguments[0]
    dim = named.get("dim", arguments[2] if len(arguments) > 2 else 0) % value.tensor.dim()
    if run.spaces.free(value.axes[dim]):
        run.spaces.freeze(value.axes[dim], node.name)
    return tuple(_with(value.axes, dim, fixed(part.shape[dim])[0]) for part in output)


def _chunked(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    value = arguments[0]
    count = named.get("chunks", arguments[1] if len(arguments) > 1 else None)
    dim = named.get("dim", arguments[2] if len(arguments) > 2 else 0) % value.tensor.dim()
    return tuple(_with(value.axes, dim, run_) for run_ in run.spaces.chunks(value.axes[dim], count, node.name))


def _halved(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    value = arguments[0]
    dim = named.get("dim", arguments[1] if len(arguments) > 1 else -1) % value.tensor.dim()
    return _with(value.axes, dim, run.spaces.chunks(value.axes[dim], 2, node.name)[0])


def _unbound(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    value = arguments[0]
    dim = named.get("dim", arguments[1] if len(arguments) > 1 else 0) % value.tensor.dim()
    run.spaces.freeze(value.axes[dim], node.name)
    return tuple(tuple(axis for number, axis in enumerate(value.axes) if number != dim) for _ in output)


def _taken(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    """Indices and slices. Units that they choose among stay."""
    value, index = arguments
    index = list(index) if isinstance(index, tuple) else [index]
    if not all(isinstance(entry, int | slice | None | type(...)) for entry in index):
        raise _unknown(node)
    missing = value.tensor.dim() - sum(isinstance(entry, int | slice) for entry in index)
    if ... in index:
        place = index.index(...)
        index[place : place + 1] = [slice(None)] * missing
    else:
        index += [slice(None)] * missing
    axes, dimension = [], 0
    for entry in index:
        if entry is None:
            axes.append(fixed(1)[0])
            continue
        axis = value.axes[dimension]
        dimension += 1
        if entry == slice(None):
            axes.append(axis)
            continue
        run.spaces.freeze(axis, node.name)
        if isinstance(entry, slice):
            axes.append(fixed(len(range(*entry.indices(width(axis)))))[0])
    return tuple(axes)


def _reshaped(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    return tuple(run.spaces.reshape(arguments[0].axes, tuple(output.shape), node.name))


def _sized(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    """A reshape to sizes, or an expansion. A size given as a number would not follow its units."""
    if says := named.keys() - {"size", "shape", "dim", "sizes"}:
        raise PruningError(f"operation '{node.target}' at '{node.name}' is given {', '.join(says)}")
    name = str(getattr(node.target, "__name__", node.target))
    sizes: Any = [*node.args[1:], *node.kwargs.values()]
    first = 0
    if name == "unflatten":
        first, *sizes = sizes
        first %= arguments[0].tensor.dim()
    sizes = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    if name == "expand":
        axes = [
            old if width(old) == new else fixed(new)[0]
            for old, new in zip((*fixed(*[1] * (output.dim() - len(arguments[0].axes))), *arguments[0].axes),
                                output.shape, strict=True)
        ]  # fmt: skip
    else:
        axes = run.spaces.reshape(arguments[0].axes, tuple(output.shape), node.name)
    for size, axis in zip(sizes, axes[first:], strict=False):
        batch = any(space.batch for space in run.spaces.spaces(axis))
        if isinstance(size, int) and size != -1 and not batch and run.spaces.free(axis):
            run.spaces.freeze(axis, node.name)
    return tuple(axes)


def _permuted(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    """The axes in another order, found by trying it on a tensor of as many."""
    value, *rest = arguments
    name = str(getattr(node.target, "__name__", node.target))
    marks = torch.empty([2 + number for number in range(value.tensor.dim())], device="meta")
    order = [size - 2 for size in getattr(marks, name)(*rest, **named).shape]
    return tuple(value.axes[number] for number in order)


def _multiplied(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    """A matrix product of two values: the inner axes lose the same units."""
    one, two = _values(arguments)
    if named or one.tensor.dim() < 1 or two.tensor.dim() < 1:
        raise _unknown(node)
    run.spaces.unify(one.axes[-1], two.axes[-2 if two.tensor.dim() > 1 else -1], node.name)
    left = one.axes[-2:-1] if one.tensor.dim() > 1 else ()
    right = two.axes[-1:] if two.tensor.dim() > 1 else ()
    outer = [Value(value.tensor[..., 0, 0], value.axes[:-2]) for value in (one, two) if value.tensor.dim() > 2]
    around = _aligned(run, outer, max(len(value.axes) for value in outer), node.name) if outer else ()
    return (*around, *left, *right)


def _linear(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    """`torch.nn.functional.linear` with a weight ``(out, in)`` of the dataflow's own."""
    value, weight, *bias = [*arguments, *named.values()]
    run.spaces.unify(value.axes[-1], weight.axes[1], node.name)
    for own in bias if bias and bias[0] is not None else ():
        run.spaces.unify(weight.axes[0], own.axes[0], node.name)
    return (*value.axes[:-1], weight.axes[0])


def _attended(
    run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Tensor
) -> tuple[Parts, ...]:
    """Scaled dot products: heads are outer axes; inside a head the scale depends on its width, which stays."""
    query, key, value, *rest = [*arguments, *named.values()]
    if any(isinstance(other, Value) for other in rest):
        raise _unknown(node)
    for side in (query, key):
        if run.spaces.free(side.axes[-1]):
            run.spaces.freeze(side.axes[-1], node.name)
    outer = [Value(side.tensor[..., 0, 0], side.axes[:-2]) for side in (query, key, value)]
    around = _aligned(run, outer, len(query.axes) - 2, node.name)
    return (*around, query.axes[-2], value.axes[-1])


def _pooled(run: Run, node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any], output: Any) -> Any:
    return pooled(run, arguments[0], output, node.name)


def _values(arguments: Iterable[Any]) -> list[Value]:
    return [value for value in arguments if isinstance(value, Value)]


def _with(axes: tuple[Parts, ...], dim: int, axis: Parts) -> tuple[Parts, ...]:
    return (*axes[:dim], axis, *axes[dim + 1 :])


def _dims(dim: Any, value: Value, node: fx.Node) -> tuple[int, ...]:
    """The dimensions that a call names; all where it names none."""
    if dim is None:
        return tuple(range(value.tensor.dim()))
    given = dim if isinstance(dim, tuple | list) else (dim,)
    if not all(isinstance(entry, int) for entry in given):
        raise _unknown(node)
    return tuple(entry % value.tensor.dim() for entry in given)


def _parts(node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Value], int]:
    """The values that a call joins, and along which dimension."""
    rest = list(arguments)
    parts = named.get("tensors") or rest.pop(0)
    dim = named.get("dim", rest.pop(0) if rest else 0)
    if rest or set(named) - {"tensors", "dim"} or not all(isinstance(part, Value) for part in parts):
        raise PruningError(f"operation '{node.target}' at '{node.name}' does not join values of the dataflow alone")
    return list(parts), dim


def _unknown(node: fx.Node) -> PruningError:
    name = getattr(node.target, "__name__", node.target)
    return PruningError(f"operation '{name}' at '{node.name}': its effect on units is not known")


_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCING, _reduced),
    **dict.fromkeys(_WEIGHING, _weighed),
    **dict.fromkeys(("cat", "concat"), _joined),
    **dict.fromkeys(("view", "reshape", "expand", "unflatten"), _sized),
    **dict.fromkeys(("flatten", "squeeze", "unsqueeze"), _reshaped),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "movedim", "t"), _permuted),
    **dict.fromkeys(("matmul", "bmm", "mm"), _multiplied),
    **dict.fromkeys(
        (
            "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
            "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate",
        ),
        _pooled,
    ),
    "stack": _stacked,
    "split": _split,
    "chunk": _chunked,
    "unbind": _unbound,
    "glu": _halved,
    "linear": _linear,
    "scaled_dot_product_attention": _attended,
}  # fmt: skip
_METHODS = {name: rule for name, rule in _RULES.items() if hasattr(Tensor, name)}
_FUNCTIONS: dict[Any, Rule] = {
    function: rule
    for name, rule in _RULES.items()
    for space in _SPACES
    if callable(function := getattr(space, name, None))
} | {operator.getitem: _taken, operator.matmul: _multiplied}
