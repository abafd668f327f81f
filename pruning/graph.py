"""The component graph: which units a controller has, which layers must lose them together, and in whose component.

Every parameter is described by one `Axis` a dimension, and an axis is a run of segments, each either fixed or belonging
to a group. From these alone follow the parameter counts of any plan and the whole of surgery: no layer type is known
anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segment:
    """A run of a tensor's axis: ``units`` units of ``group``, each of ``size`` consecutive indices; or fixed if it is
    None. A group may lie on an axis several times, as a hidden unit of an LSTM does on that of its gates."""

    group: str | None
    units: int
    size: int = 1


Axis = tuple[Segment, ...]
#: Group name -> one score a unit.
Scores = Mapping[str, NDArray[np.float64]]
#: The axes of a tensor as numbers: for each, its fixed part and the groups whose widths add to it, so often each.
_Axes = tuple[tuple[int, tuple[tuple[str, int], ...]], ...]


@dataclass(frozen=True)
class Group:
    """The layers that must lose a unit together.

    ``kind`` is ``intra`` (all in one component) or ``inter`` (a flow couples several). ``producers`` and ``consumers``
    are the matrix products (`pruning.layers`) that write and that read the units, as paths in the dataflow.
    """

    name: str
    kind: str
    components: tuple[str, ...]
    units: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that lose something with a unit."""
        return tuple(dict.fromkeys(self.producers + self.consumers))


@dataclass(frozen=True)
class Tensor:
    """One parameter or buffer: its name in the controller's networks, its component, its axes."""

    name: str
    component: str
    axes: tuple[Axis, ...]
    trainable: bool

    def size(self, widths: Mapping[str, int]) -> int:
        """Number of entries when each group has the given width."""
        return prod(axis_width(axis, widths) for axis in self.axes)


def axis_width(axis: Axis, widths: Mapping[str, int]) -> int:
    """Width of an axis when each group has the given width."""
    return sum((segment.units if segment.group is None else widths[segment.group]) * segment.size for segment in axis)


def columns(axis: Axis, group: str) -> slice | NDArray[np.intp]:
    """Where on an axis a group's units lie, everything dense: a slice where each is one index of one run, else the
    indices ``(units, each)``.

    Raises:
        KeyError: nowhere.
    """
    runs, start = [], 0
    for segment in axis:
        if segment.group == group:
            runs.append((start, segment))
        start += segment.units * segment.size
    if not runs:
        raise KeyError(group)
    if len(runs) == 1 and runs[0][1].size == 1:
        return slice(runs[0][0], runs[0][0] + runs[0][1].units)
    return np.concatenate(
        [start + np.arange(s.units * s.size).reshape(s.units, s.size) for start, s in runs], axis=1, dtype=np.intp
    )


@dataclass(frozen=True)
class ComponentGraph:
    """What `trace` finds in a controller.

    ``input_axes`` are the last axes of what the dataflow takes: a latent among them loses units as its flow does.
    ``output_axes`` are those of each component's output. ``layer_axes`` gives, for each matrix product in the order of
    computation, the axis of its columns and that of its rows: a linear layer is one, so is a convolution, whose columns
    are kernel entries of channels, and a layer of an LSTM, with its gates' rows and columns of input and state.
    ``work`` has each layer's component, how often it is applied in one pass, and the axes whose widths multiply to one
    application's multiply-accumulates. ``numbers_a_row`` is how many numbers pass through the dataflow for each row,
    where there are layers that are applied several times. ``ties`` are groups that must keep equal widths. ``mirrors``
    are name prefixes of networks with the same shapes.
    """

    groups: Mapping[str, Group]
    tensors: Mapping[str, Tensor]
    input_axes: tuple[Axis, ...]
    output_axes: Mapping[str, tuple[Axis, ...]]
    layer_axes: Mapping[str, tuple[Axis, Axis]]
    layer_component: Mapping[str, str]
    work: Mapping[str, tuple[str, int, tuple[Axis, ...]]]
    numbers_a_row: int | None
    components: tuple[str, ...]
    deployed: frozenset[str]
    ties: tuple[tuple[str, ...], ...]
    mirrors: Mapping[str, str]

    @cached_property
    def dense(self) -> dict[str, int]:
        """Width of each group before anything is pruned."""
        return {name: group.units for name, group in self.groups.items()}

    @property
    def flows(self) -> tuple[str, ...]:
        """Names of the groups that couple components."""
        return tuple(name for name, group in self.groups.items() if group.kind == "inter")

    @property
    def observation(self) -> str | None:
        """The flow that the numbers of the observation are, where it was looked for."""
        return next((name for name in self.flows if not self.groups[name].producers), None)

    def own(self, component: str) -> tuple[str, ...]:
        """Names of the groups that are this component's alone."""
        own = (group for group in self.groups.values() if group.kind == "intra" and group.components == (component,))
        return tuple(group.name for group in own)

    @property
    def acting(self) -> tuple[str, ...]:
        """Names of the components that `act` runs."""
        return tuple(name for name in self.components if name in self.deployed)

    def parameters(self, widths: Mapping[str, int], component: str | None = None) -> int:
        """Number of parameters, of one component or of all, when each group has the given width."""
        return self.parameters_of(self.components if component is None else (component,), widths)

    def parameters_of(self, components: Iterable[str], widths: Mapping[str, int]) -> int:
        """Number of parameters of these components together."""
        # Allocations ask hundreds of times: loops, and nothing called.
        total, counts = 0, self._counts
        for component in components:
            fixed, variable = counts[component]
            total += fixed
            for axes in variable:
                size = 1
                for constant, groups in axes:
                    for group, each in groups:
                        constant += widths[group] * each
                    size *= constant
                total += size
        return total

    def deployed_parameters(self, widths: Mapping[str, int]) -> int:
        """Number of parameters of the components that `act` runs."""
        return sum(self.parameters(widths, name) for name in self.acting)

    def deployed_macs(self, widths: Mapping[str, int]) -> int:
        """Multiply-accumulates of one pass through every layer of the deployed components."""
        return sum(
            times * prod(axis_width(axis, widths) for axis in axes)
            for component, times, axes in self.work.values()
            if component in self.deployed
        )

    def with_fixed(self, widths: Mapping[str, int], components: tuple[str, ...]) -> ComponentGraph:
        """What is left to decide of these components once some groups have their widths: those groups are gone, and
        their segments are fixed."""

        def segment(of: Segment) -> Segment:
            return of if of.group is None or of.group not in widths else Segment(None, widths[of.group] * of.size)

        def axis(of: Axis) -> Axis:
            return tuple(map(segment, of))

        def several(of: tuple[Axis, ...]) -> tuple[Axis, ...]:
            return tuple(map(axis, of))

        ties = (tuple(name for name in tie if name not in widths) for tie in self.ties)
        tensors = {name: replace(t, axes=several(t.axes)) for name, t in self.tensors.items()}
        return replace(
            self,
            groups={name: group for name, group in self.groups.items() if name not in widths},
            tensors={name: tensor for name, tensor in tensors.items() if tensor.component in components},
            input_axes=several(self.input_axes),
            output_axes={name: several(axes) for name, axes in self.output_axes.items()},
            layer_axes={name: (axis(read), axis(written)) for name, (read, written) in self.layer_axes.items()},
            work={name: (where, often, several(axes)) for name, (where, often, axes) in self.work.items()},
            components=components,
            ties=tuple(tie for tie in ties if len(tie) > 1),
        )

    def params_per_unit(self, group: str) -> int:
        """How many parameters leave with one unit of a group, everything else dense."""
        return self.parameters(self.dense) - self.parameters({**self.dense, group: self.dense[group] - 1})

    def hidden_widths(self, component: str, widths: Mapping[str, int]) -> list[int]:
        """Output widths of a component's layers, in order; of a recurrent one its units, not their gates."""
        return [
            axis_width(outputs[:1] if len(set(outputs)) == 1 else outputs, widths)
            for layer, (_, outputs) in self.layer_axes.items()
            if self.layer_component[layer] == component
        ]

    @cached_property
    def _counts(self) -> dict[str, tuple[int, list[_Axes]]]:
        """Per component: the parameters no plan changes, and the others as (fixed part, groups) an axis.

        Allocations count parameters hundreds of times, so this is worked out once.
        """
        fixed = dict.fromkeys(self.components, 0)
        variable: dict[str, list[_Axes]] = {name: [] for name in self.components}
        for tensor in self.tensors.values():
            if not tensor.trainable:
                continue
            axes = tuple(
                (
                    sum(s.units * s.size for s in axis if s.group is None),
                    tuple((s.group, s.size) for s in axis if s.group is not None),
                )
                for axis in tensor.axes
            )
            if any(groups for _, groups in axes):
                variable[tensor.component].append(axes)
            else:
                fixed[tensor.component] += prod(width for width, _ in axes)
        return {name: (fixed[name], variable[name]) for name in self.components}

    def __str__(self) -> str:
        total = self.parameters(self.dense)
        lines = [f"{len(self.components)} components, {len(self.groups)} groups, {total:,} parameters"]
        for component in self.components:
            role = "deployed" if component in self.deployed else "training only"
            lines.append(f"  {component:<12} {self.parameters(self.dense, component):>10,} parameters  {role}")
        lines.append("groups (units x parameters a unit):")
        width = max((len(name) for name in self.groups), default=0)
        for name, group in self.groups.items():
            coupled = (
                f"couples {', '.join(group.components)}" if group.kind == "inter" else f"inside {group.components[0]}"
            )
            tied = next((tie for tie in self.ties if name in tie), ())
            note = f"; as wide as {', '.join(other for other in tied if other != name)}" if tied else ""
            lines.append(f"  {name:<{width}} {group.units:>5} x {self.params_per_unit(name):<6,} {coupled}{note}")
        return "\n".join(lines)
