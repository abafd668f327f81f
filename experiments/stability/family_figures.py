"""Pictures of a family's stability: does V fall, what comes to rest from where, what is borne, how far one may go."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from prunectl.experiments.drawing.canvas import plain, save
from prunectl.experiments.drawing.style import BLUE, GREEN, LOOK, REFERENCE, VERMILLION
from prunectl.experiments.stability import attraction
from prunectl.experiments.stability.bounds import CONFIDENCE, TOLERATED
from prunectl.experiments.stability.lyapunov import Lyapunov
from prunectl.experiments.stability.measure import Family, Stability

#: Of an initial state, in the order of 2 * dense + pruned.
REGIONS = ("neither", "pruned only", "dense only (lost)", "both")
REGION_COLOURS = ("#E8E8E8", GREEN, VERMILLION, "#9ECAE1")
COLUMNS = 4


def draw(family: Family, folder: Path) -> list[Path]:
    """Write the figures that there is data for, as PNG and PDF."""
    figures: dict[str, Callable[[Family], Figure]] = {"safe": safe_figure}
    if family.lyapunov is not None:
        figures["decrease"] = decrease_figure
    if family.effort.grid:
        figures["attraction"] = attraction_figure
    if family.effort.robust:
        figures["robustness"] = robustness_figure
    written: list[Path] = []
    for name, make in figures.items():
        with rc_context(LOOK):
            figure = make(family)
        written += save(figure, folder / name)
    return written


def decrease_figure(family: Family) -> Figure:
    """V / level over time along the trajectories from independent starts, a panel a controller."""
    lyapunov = family.lyapunov
    assert lyapunov is not None
    figure, panels = _panels(family, 1.7)
    for axes, member in zip(panels, family.members, strict=False):
        assert member.decrease is not None
        values = np.maximum(member.decrease.values, 1e-6)
        time = np.arange(values.shape[1]) * family.plant.step
        colour = GREEN if member.decrease.rising.holds else VERMILLION
        axes.plot(time, values.T, color=colour, linewidth=0.4, alpha=0.35, rasterized=True)
        axes.axhline(lyapunov.inner / lyapunov.level, color=REFERENCE, linestyle="--", linewidth=0.9)
        axes.axhline(1.0, color=REFERENCE, linewidth=0.9)
        axes.set_yscale("log")
        axes.set_ylim(1e-6, 30)
        axes.set_title(f"{_label(member)}\nrising {member.decrease.rising}")
    _name_axes(panels, len(family.members), "time (s)", "V / level")
    asked = f"within {lyapunov.window} steps" if lyapunov.window > 1 else "at every step"
    figure.suptitle(
        f"{family.plant.task}: V must fall {asked} above the dashed line.\nGreen: shown to, vermillion: not shown to"
    )
    return figure


def attraction_figure(family: Family) -> Figure:
    """The grid of initial states, dense against pruned, with the slice of ``{V <= level}``."""
    figure, panels = _panels(family, 1.9)
    dense = family.members[0].attraction
    assert dense is not None
    values = attraction.axes(family.plant, family.effort.grid)
    for axes, member in zip(panels, family.members, strict=False):
        assert member.attraction is not None
        shown = 2 * dense.astype(int) + member.attraction
        colours = ListedColormap(list(REGION_COLOURS))
        axes.pcolormesh(*values, shown.T, cmap=colours, vmin=-0.5, vmax=3.5, shading="nearest", rasterized=True)
        if family.lyapunov is not None:
            axes.plot(*_slice(family.lyapunov), color="black", linewidth=0.9)
        axes.set_xlim(values[0][0], values[0][-1])
        axes.set_ylim(values[1][0], values[1][-1])
        axes.grid(False)
        share = family.kept(member)
        kept = "" if share is None or member is family.members[0] else f"\nkeeps {share:.1%}"
        axes.set_title(f"{_label(member)}{kept}")
    names = [family.plant.state[axis] for axis in family.plant.axes]
    _name_axes(panels, len(family.members), *(f"initial {name}" for name in names))
    handles: list[Any] = [Patch(color=colour, label=name) for name, colour in zip(REGIONS, REGION_COLOURS, strict=True)]
    if family.lyapunov is not None:
        handles.append(Patch(fill=False, edgecolor="black", label="V = level"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    figure.suptitle(
        f"{family.plant.task}: initial states stabilised by the end\nof an episode, other entries of the state 0"
    )
    return figure


def robustness_figure(family: Family) -> Figure:
    """Share of the episodes stabilised and normalised return, a row a controller, a column a condition."""
    members = family.members
    names = [str(borne.condition) for borne in members[0].borne]
    settled = np.array([[1 - b.unstable.failures / b.unstable.trials for b in m.borne] for m in members])
    returns = np.array([[b.mean_return for b in m.borne] for m in members])
    figure = Figure(figsize=(1.4 + 0.95 * len(names), 1.5 + 0.32 * len(members)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(settled, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(settled):
        colour = "white" if share < 0.6 else "black"
        text = f"{share:.0%}\n{returns[row, column]:,.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set_yticks(range(len(members)), [_label(member) for member in members])
    axes.grid(False)
    axes.set_title(
        f"{family.plant.task}: share of {family.effort.robust} episodes stabilised; below it the mean return"
    )
    figure.colorbar(image, ax=axes, label="stabilised", format=lambda share, _: f"{share:.0%}")
    return figure


def safe_figure(family: Family) -> Figure:
    """Above, the bounds on failure; below, the normalised return; against deployed sparsity."""
    figure = Figure(figsize=(5.2, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    x = family.sparsities
    _bounds(above, x, [m.unstable for m in family.members], BLUE, "o", "does not settle from the task's own starts")
    if family.lyapunov is not None:
        rising = [m.decrease.rising for m in family.members if m.decrease is not None]
        _bounds(above, x, rising, VERMILLION, "s", "V does not fall from starts within its level")
    above.axhline(TOLERATED, color=REFERENCE, linestyle="--")
    above.text(0.01, TOLERATED, f"{TOLERATED:.0%}", fontsize=7, va="bottom", color=REFERENCE)
    above.set_yscale("symlog", linthresh=0.1, linscale=1.0)
    above.set_yticks([0, 0.05, 0.1, 0.3, 1.0], ["0", "0.05", "0.1", "0.3", "1"])
    above.set_ylim(-0.005, 1.15)
    above.set_ylabel("probability of failure")
    title = f"open: seen, filled: {CONFIDENCE:.0%} upper bound"
    figure.legend(loc="outside lower center", title=title, title_fontsize=7)
    below.plot(x, family.normalised, color="black", marker="D")
    below.axhline(0.95, color=REFERENCE, linestyle="--")
    below.set_ylabel("normalised return")
    below.set_xlabel("deployed sparsity")
    for axes in (above, below):
        if family.safe is not None:
            axes.axvline(family.safe, color=GREEN, linewidth=1.2)
        axes.axvline(family.s95, color=REFERENCE, linestyle=":", linewidth=1.2)
    safe = "none" if family.safe is None else f"{family.safe:.3f}"
    above.set_title(f"{family.plant.task}: safe sparsity {safe} (green line), s95 {family.s95:.3f} (dotted)")
    return figure


def _bounds(axes: Axes, x: list[float], counts: list[Any], colour: str, marker: str, label: str) -> None:
    axes.plot(x, [count.bound for count in counts], color=colour, marker=marker, label=label)
    seen = [count.failures / count.trials for count in counts]
    axes.plot(x, seen, color=colour, marker=marker, markerfacecolor="white", linestyle=":", linewidth=0.8)


def _slice(lyapunov: Lyapunov) -> tuple[Any, Any]:
    """Where V = level in the plane of the grid, all other entries of the state at 0; nothing where they do not meet."""
    i, j = lyapunov.plant.axes
    pair, rest, near = [i, j], lyapunov.model.rest, np.asarray(lyapunov.plant.near)
    others = [k for k in range(len(rest)) if k not in pair]
    # z = (u, w) with w = -rest fixed: V = (u - m)'A(u - m) + what is left over for w.
    block = lyapunov.p[np.ix_(pair, pair)]
    across = lyapunov.p[np.ix_(pair, others)] @ -rest[others]
    middle = -np.linalg.solve(block, across)
    left = lyapunov.level - float(rest[others] @ lyapunov.p[np.ix_(others, others)] @ rest[others])
    left += float(middle @ block @ middle)
    if left <= 0:
        return [], []
    angle = np.linspace(0, 2 * np.pi, 181)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    u = middle[:, None] + math.sqrt(left) * np.linalg.cholesky(np.linalg.inv(block)) @ circle
    points = (u + rest[pair][:, None]) * near[pair][:, None]
    return points[0], points[1]


def _panels(family: Family, height: float) -> tuple[Figure, list[Axes]]:
    count = len(family.members)
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(2.0 * columns, 5.0) + 0.4, height * rows + 1.0), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels


def _name_axes(panels: list[Axes], count: int, across: str, up: str) -> None:
    """Label the left panels, and those that have none below them."""
    columns = min(count, COLUMNS)
    for i, axes in enumerate(panels[:count]):
        if i % columns == 0:
            axes.set_ylabel(up)
        if i + columns >= count:
            axes.set_xlabel(across)
            axes.tick_params(labelbottom=True)


def _label(member: Stability) -> str:
    subject = member.candidate
    if subject.sparsity_total == 0:
        return "dense"
    return plain(f"{subject.name} (deployed {subject.sparsity_deployed:.3f})")
