"""One controller: its components and the flows between them, before and after pruning, and its groups' sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from prunectl.experiments.drawing.canvas import PAGE, plain
from prunectl.experiments.drawing.style import FLOW, LOOK, component_colour
from prunectl.pruning.graph import ComponentGraph, Group
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.stock import StockGroup

#: A component's box, the room for its row, and the room beside the boxes for the flows, in drawing units.
WIDE, HIGH, ROW, BETWEEN = 3.6, 0.9, 1.25, 1.9
#: How far a component's way back into a flow lies off its middle.
LANE = 0.18
#: Width in points of the arrows of the widest flow.
THICK = 5.0


def controller_figure(name: str, graph: ComponentGraph, plan: PruningPlan, stock: Sequence[StockGroup]) -> Figure:
    """The component graph, dense beside pruned where ``plan`` says what was pruned, above the sizes of the groups.

    ``graph`` is the controller's as it is, ``stock`` its groups in Torch-Pruning's graph.
    """
    pruned = plan.params_pruned < plan.params_dense
    rows = len(_right(plan))
    heights = (0.55 * rows + 0.5, 0.19 * len(graph.groups) + 0.7)
    with rc_context(LOOK):
        figure = Figure(figsize=(PAGE, sum(heights) + 0.5), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).ravel()
        panels = top.subplots(1, 2)
        draw_components(panels[0], plan, after=False)
        panels[1].set_axis_off()
        if pruned:
            draw_components(panels[1], plan, after=True)
        left, right = bottom.subplots(1, 2, width_ratios=(2, 3))
        draw_group_sizes(left, right, graph, stock)
        training = Patch(fill=False, linestyle="--", label="only for training")
        figure.legend(handles=[training, *group_handles()], loc="outside lower center", ncols=2)
        figure.suptitle(plain(name), fontsize=10)
    return figure


def draw_components(axes: Axes, plan: PruningPlan, after: bool) -> None:
    """A box a component with its parameters and widths, dashed where it only serves training; arrows are the flows,
    as thick as they are wide, from their writers to their readers. ``after``: as the plan leaves it, the share that is
    left filled."""
    right = _right(plan)
    outside = [writer for flow in plan.couples for writer in _ends(flow)[0] if writer not in plan.components]
    left = [*outside, *(name for name in plan.components if name not in right)]
    start = WIDE + BETWEEN if plan.couples else 0.0
    if not plan.couples:
        axes.text(WIDE + 0.3, 0, "no flow between them\nthat pruning could narrow", fontsize=7, va="center")
    corners: dict[str, tuple[float, float]] = {}
    for column, x in ((left, 0.0), (right, start)):
        for row, name in enumerate(column):
            corners[name] = (x, ROW * (row + (len(right) - len(column)) / 2))
            if name in outside:
                _outside(axes, name, corners[name])
            else:
                _box(axes, plan, name, corners[name], after)
    widest = max((plan.units[flow] for flow in plan.couples), default=1)
    for number, flow in enumerate(plan.couples):
        whole = plan.units[flow]
        units = len(plan.kept[flow]) if after else whole
        text = f"{units} of {whole} units" if after else f"{units} units"
        bus = WIDE + BETWEEN * (number + 1) / (len(plan.couples) + 1)
        _flow(axes, flow, corners, bus, max(THICK * units / widest, 0.6), text)
    total = plan.params_pruned if after else plan.params_dense
    sparsity = f", sparsity {plan.sparsity_total:.3f}" if after else ""
    axes.set_title(f"{'pruned' if after else 'dense'}: {total:,} parameters{sparsity}")
    axes.set(xlim=(-0.1, 2 * WIDE + BETWEEN + 0.1), ylim=(ROW * len(right) - 0.2, -0.5))
    axes.set_axis_off()


def draw_group_sizes(left: Axes, right: Axes, graph: ComponentGraph, stock: Sequence[StockGroup]) -> None:
    """A bar a group: layers and parameters that leave with one unit; a ring is Torch-Pruning's count for the group of
    the same layers."""
    groups = list(graph.groups.values())
    colours = [group_colour(group) for group in groups]
    theirs = {place: own for place, group in enumerate(groups) for own in stock if set(own.layers) <= set(group.layers)}
    places = range(len(groups))
    sizes = [graph.params_per_unit(group.name) for group in groups]
    layers = [len(group.layers) for group in groups]
    for axes, values, rings, title in (
        (left, layers, {place: len(own.layers) for place, own in theirs.items()}, "layers that one unit touches"),
        (
            right,
            sizes,
            {place: own.params_per_unit for place, own in theirs.items()},
            "parameters that leave with one unit",
        ),
    ):
        axes.barh(places, values, color=colours)
        axes.plot([*rings.values()], [*rings], "o", color="black", markerfacecolor="none", clip_on=False)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
        axes.set_title(title)
    left.set_yticks(places, [f"{_short(group)} ({group.units})" for group in groups], fontsize=7)
    right.set_yticks(places, [])


def group_handles() -> list[Patch | Line2D]:
    """What the colours and rings of `draw_group_sizes` mean."""
    return [
        Patch(color=FLOW, label="a flow: several components"),
        Patch(color=component_colour("actor"), label="inside one component (a colour each)"),
        Line2D([], [], color="black", marker="o", markerfacecolor="none", lw=0, label="Torch-Pruning's own count"),
    ]


def group_colour(group: Group) -> str:
    return FLOW if group.kind == "inter" else component_colour(group.components[0])


def _short(group: Group) -> str:
    writers, arrow, readers = group.name.partition("->")
    return f"{writers} \u2192 {readers.count(',') + 1} readers" if arrow else group.name


def _right(plan: PruningPlan) -> list[str]:
    """The components of the right column: all but those that only write flows."""
    reading = {reader for flow in plan.couples for reader in _ends(flow)[1]}
    writing = {writer for flow in plan.couples for writer in _ends(flow)[0]}
    return [name for name in plan.components if name in reading or name not in writing]


def _ends(flow: str) -> tuple[list[str], list[str]]:
    """Writers and readers, which a flow is named by."""
    writers, _, readers = flow.partition("->")
    return writers.split(","), readers.split(",")


def _box(axes: Axes, plan: PruningPlan, name: str, corner: tuple[float, float], after: bool) -> None:
    x, y = corner
    own, colour = plan.components[name], component_colour(name)
    params, widths = (own.params_pruned, own.widths_pruned) if after else (own.params_dense, own.widths_dense)
    share = params / max(own.params_dense, 1)
    axes.add_patch(Rectangle((x, y - HIGH / 2), WIDE * share, HIGH, color=colour, alpha=0.25, linewidth=0))
    style = "-" if own.deployed else "--"
    edge = FancyBboxPatch((x, y - HIGH / 2), WIDE, HIGH, boxstyle="square,pad=0", fill=False, ec=colour, ls=style)
    axes.add_patch(edge)
    axes.text(x + 0.1, y - 0.2, name, fontsize=7, fontweight="bold", va="center")
    axes.text(x + WIDE - 0.1, y - 0.2, f"{params:,}", fontsize=7, va="center", ha="right")
    axes.text(x + 0.1, y + 0.2, "-".join(map(str, widths)), fontsize=6.5, va="center")


def _outside(axes: Axes, name: str, corner: tuple[float, float]) -> None:
    """What writes a flow and is no component: the observation."""
    axes.text(corner[0] + WIDE - 0.1, corner[1], name, fontsize=7, fontweight="bold", va="center", ha="right")


def _flow(
    axes: Axes, flow: str, corners: Mapping[str, tuple[float, float]], bus: float, thick: float, text: str
) -> None:
    writers, readers = _ends(flow)
    ends = []
    for writer in writers:
        x, y = corners[writer]
        ends.append(y + LANE * (writer in readers))
        if x == 0.0:
            axes.plot([x + WIDE, bus], [ends[-1]] * 2, color=FLOW, linewidth=thick, solid_capstyle="butt")
        else:  # it reads the flow too: its way back below its way in
            _arrow(axes, (x, ends[-1]), (bus, ends[-1]), thick)
    for reader in readers:
        x, y = corners[reader]
        ends.append(y - LANE * (reader in writers))
        _arrow(axes, (bus, ends[-1]), (x, ends[-1]), thick)
    axes.plot([bus, bus], [min(ends), max(ends)], color=FLOW, linewidth=thick, solid_capstyle="round")
    axes.text(bus, min(ends) - 0.2, text, fontsize=7, color=FLOW, ha="center", va="bottom")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], thick: float) -> None:
    shape = {"arrowstyle": "-|>", "color": FLOW, "lw": min(thick, 2.5), "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=shape)
