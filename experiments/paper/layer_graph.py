"""Pictures of graphs: layers as nodes inside their components, flows as coloured edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from prunectl.experiments.drawing.component_graph import draw_group_sizes, group_handles
from prunectl.experiments.drawing.style import FLOW, LOOK, component_colour
from prunectl.pruning.allocation import make_knobs
from prunectl.pruning.graph import ComponentGraph, axis_width
from prunectl.pruning.stock import StockGroup

GREY = "0.55"
#: A layer's box, the step from layer to layer, the height of a component's row, in drawing units.
WIDE, HIGH, STEP, ROW = 0.66, 0.36, 1.0, 1.25


@dataclass(frozen=True)
class Layout:
    """Where each linear layer lies, and the layers of each component; ``bus`` is where flows pass."""

    nodes: Mapping[str, tuple[float, float]]
    members: Mapping[str, tuple[str, ...]]
    bus: float | None
    size: tuple[float, float]


def graph_figure(name: str, graph: ComponentGraph, stock: Sequence[StockGroup]) -> Figure:
    """Both graphs of one controller side by side: one pool with its widest group marked, and clusters with flows."""
    layout = lay_out(graph)
    with rc_context(LOOK):
        figure = Figure(figsize=(8.6, 0.58 * layout.size[1] + 1.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        widest = max(stock, key=lambda group: (len(components_of(group, graph)), group.params_per_unit))
        touched = len(components_of(widest, graph))
        _draw_stock(left, graph, layout, widest)
        left.set_title(
            f"whole-controller graph: one pool of {sum(group.units for group in stock):,} units\n"
            f"one unit of the marked group: {len(widest.layers)} layers, {touched} component{'s' * (touched > 1)}"
        )
        _draw_clusters(right, graph, layout)
        pools = len(set(pools_of(graph).values()))
        right.set_title(
            f"component graph: {pools} pools, one for each component\n(twin critics share one) and each flow"
        )
        figure.suptitle(name, fontsize=10)
    return figure


def bars_figure(seen: Sequence[tuple[str, ComponentGraph, Sequence[StockGroup]]]) -> Figure:
    """A row a controller: the sizes of its groups."""
    heights = [len(graph.groups) for _, graph, _ in seen]
    with rc_context(LOOK):
        figure = Figure(figsize=(7.4, 0.19 * sum(heights) + 0.75 * len(seen) + 0.5), layout="constrained")
        grid = figure.subplots(len(seen), 2, squeeze=False, height_ratios=heights, width_ratios=(2, 3))
        for (left, right), (name, graph, stock) in zip(grid, seen, strict=True):
            draw_group_sizes(left, right, graph, stock)
            left.set_title(f"{name}\n{left.get_title()}")
        figure.legend(handles=group_handles(), loc="outside lower center", ncols=3)
    return figure


def pools_of(graph: ComponentGraph) -> dict[str, str]:
    """The scope of each group under the grouping ``component``; components tied to equal widths share one."""
    nothing = {name: np.zeros(units) for name, units in graph.dense.items()}
    return {name: knob.scope for knob in make_knobs(graph, nothing, "component") for name in knob.groups}


def components_of(group: StockGroup, graph: ComponentGraph) -> tuple[str, ...]:
    """The components that a group of the whole-controller graph touches."""
    return tuple(dict.fromkeys(graph.layer_component[layer] for layer in group.layers))


def lay_out(graph: ComponentGraph) -> Layout:
    """Components that only write flows on the left, the flows in the middle, all others stacked on the right."""
    members = {
        name: tuple(path for path, owner in graph.layer_component.items() if owner == name) for name in graph.components
    }
    members = {name: layers for name, layers in members.items() if layers}
    reading = {graph.layer_component[layer] for name in graph.flows for layer in graph.groups[name].consumers}
    left = [name for name in members if graph.flows and name not in reading]
    right = [name for name in members if name not in left]
    start = STEP * max((len(members[name]) for name in left), default=0)
    bus = start if graph.flows else None
    first = start + STEP if graph.flows else 0.0
    nodes: dict[str, tuple[float, float]] = {}
    rows = max(len(left), len(right))
    for column, x in ((left, 0.0), (right, first)):
        for row, name in enumerate(column):
            y = ROW * (row + (rows - len(column)) / 2)
            for place, layers in enumerate(_stages(graph, members[name])):
                for number, layer in enumerate(layers):
                    nodes[layer] = (x + STEP * place, y + 1.1 * HIGH * (number - (len(layers) - 1) / 2))
    width = STEP + max(x for x, _ in nodes.values())
    return Layout(nodes, members, bus, (width, ROW * rows))


def _stages(graph: ComponentGraph, layers: Sequence[str]) -> list[list[str]]:
    """A component's layers by how many of them come before: heads that read the same units stand side by side."""
    writers = {
        reader: [w for w in group.producers if w in layers and group.kind == "intra"]
        for group in graph.groups.values()
        for reader in group.consumers
        if group.kind == "intra"
    }

    def depth(layer: str) -> int:
        return max((1 + depth(writer) for writer in writers.get(layer, ())), default=0)

    stages: dict[int, list[str]] = {}
    for layer in layers:
        stages.setdefault(depth(layer), []).append(layer)
    return [stages[place] for place in sorted(stages)]


def _draw_stock(axes: Axes, graph: ComponentGraph, layout: Layout, widest: StockGroup) -> None:
    """Every layer grey in one box, the layers of the widest group marked."""
    width, height = layout.size
    axes.add_patch(_box(-0.75, -0.75, width + 0.35, height + 0.3, "black"))
    for start, end, flow in _edges(graph):
        _edge(axes, layout, start, end, FLOW if flow and start in widest.layers else GREY, flow is not None)
    for layer in layout.nodes:
        _node(axes, graph, layout, layer, FLOW if layer in widest.layers else GREY)
    _finish(axes, layout)


def _draw_clusters(axes: Axes, graph: ComponentGraph, layout: Layout) -> None:
    """A box a component in its colour, flows in theirs."""
    for name, layers in layout.members.items():
        colour = component_colour(name)
        (x, y), last = layout.nodes[layers[0]], max(layout.nodes[layer][0] for layer in layers)
        axes.add_patch(_box(x - 0.45, y - 0.56, last - x + 0.9, 1.0, colour))
        role = "" if name in graph.deployed else " (training only)"
        axes.text(x - 0.38, y - 0.53, f"{name}{role}", fontsize=6.5, color=colour, va="top")
        for layer in layers:
            _node(axes, graph, layout, layer, colour)
    for start, end, flow in _edges(graph):
        colour = FLOW if flow else GREY
        _edge(axes, layout, start, end, colour, flow is not None)
    if layout.bus is not None:
        units = ", ".join(f"{graph.groups[name].units} units" for name in graph.flows)
        axes.text(layout.bus - 0.1, -0.6, f"flow: {units}", fontsize=6.5, color=FLOW, ha="right", va="top")
    _finish(axes, layout)


def _edges(graph: ComponentGraph) -> Iterator[tuple[str, str, str | None]]:
    """Writer, reader and the flow's name (None inside a component)."""
    for group in graph.groups.values():
        for writer in group.producers:
            for reader in group.consumers:
                yield writer, reader, group.name if group.kind == "inter" else None


def _edge(axes: Axes, layout: Layout, start: str, end: str, colour: str, flow: bool) -> None:
    (x0, y0), (x1, y1) = layout.nodes[start], layout.nodes[end]
    half = WIDE / 2
    if not flow or layout.bus is None:
        axes.annotate("", (x1 - half, y1), (x0 + half, y0), arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 0.8})
        return
    bus = layout.bus
    if x0 > bus:  # written to the right of the bus: over the top of its row and back
        top = y0 - ROW / 2 - 0.02
        axes.plot([x0 + half, x0 + half + 0.2, x0 + half + 0.2, bus], [y0, y0, top, top], color=colour, lw=1.2)
        axes.plot([bus, bus], [top, y1], color=colour, lw=1.8)
    else:
        axes.plot([x0 + half, bus, bus], [y0, y0, y1], color=colour, lw=1.8)
    axes.annotate(
        "", (x1 - half, y1), (bus, y1), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0}
    )


def _node(axes: Axes, graph: ComponentGraph, layout: Layout, layer: str, colour: str) -> None:
    x, y = layout.nodes[layer]
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x - WIDE / 2, y - HIGH / 2), WIDE, HIGH, boxstyle=style, color=colour, zorder=3, lw=0)
    )
    inputs, outputs = (axis_width(axis, graph.dense) for axis in graph.layer_axes[layer])
    axes.text(x, y, f"{inputs}\u2192{outputs}", fontsize=5.6, color="white", ha="center", va="center", zorder=4)


def _box(x: float, y: float, width: float, height: float, colour: str) -> FancyBboxPatch:
    style = "round,pad=0,rounding_size=0.15"
    return FancyBboxPatch((x, y), width, height, boxstyle=style, fill=False, edgecolor=colour, lw=1.0)


def _finish(axes: Axes, layout: Layout) -> None:
    width, height = layout.size
    axes.set(xlim=(-0.85, width - 0.3), ylim=(height - 0.35, -0.85))
    axes.set_axis_off()
