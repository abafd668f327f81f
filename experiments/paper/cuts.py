"""Where each allocation puts its cuts: what is left of every component at one sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import yaml
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunectl import agents, envs
from prunectl.experiments import provenance
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.style import LOOK, look
from prunectl.experiments.drawing.tables import write_file, write_table
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.pruning import ALLOCATIONS, Method, bench, make_plan, measure, score, trace

REMARK = (
    "`left`: share of the component's parameters that stays, of the latent's units for a flow. `error`: that of the "
    "whole controller once refitted, on rows that it was not refitted on: 1 - R2 of the outputs, the mean over the "
    "deployed components plus the mean over the others."
)
#: Room for a group of bars, of which they fill this share.
FILLED = 0.86
#: Behind the widths, so that the line at the asked share does not strike them through.
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}


def write_cuts(config: Path, folder: Path) -> list[Path]:
    """Write the cuts as a table and as bars; ``config`` lists the controllers and has the sparsity and the seed."""
    text = config.read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    sparsity, seed = float(settings["sparsity"]), int(settings["seed"])
    table = pd.DataFrame([row for name in settings["controllers"] for row in cuts(name, sparsity, seed)])
    written = write_table(table, folder / "cuts", {"parameters": ",d", "left": ".3f", "error": ".2g"}, REMARK)
    written += save(cuts_figure(table, sparsity), folder / "cuts")
    written.append(provenance.write(folder, provenance.record()))
    return [*written, write_file(folder / "config.yaml", lambda path: path.write_text(text))]


def cuts(reference: str, sparsity: float, seed: int) -> list[dict[str, object]]:
    """A row an allocation and component or flow of the controller, pruned component by component by `surgeon`."""
    loaded = agents.load(reference)
    torch.set_num_threads(1)
    controller, graph = loaded.controller, trace(loaded.controller)
    data = calibrate(controller, envs.resolve(str(loaded.task))[0], seed)
    inputs = controller.inputs(data.observations, data.actions)
    scores = score(controller, graph, "surgeon", inputs, seed)
    trials = bench(controller, graph, scores, inputs, seed)
    damage = measure(trials)
    rows: list[dict[str, object]] = []
    for allocation in ALLOCATIONS.builtin:
        plan = make_plan(graph, scores, "component", allocation, sparsity, damage=damage, error=trials.error)
        common = {"controller": loaded.name, "allocation": allocation}
        error = trials.error(plan.widths)
        for name, part in plan.components.items():
            inner = [plan.widths[group.name] for group in graph.groups.values() if group.components == (name,)]
            own = {
                "parameters": part.params_pruned,
                "left": part.params_pruned / part.params_dense,
                "widths": "-".join(map(str, inner)),
            }
            rows.append({**common, "component": name, **own, "error": error})
        for flow in graph.flows:
            units = plan.widths[flow]
            own = {"parameters": 0, "left": units / graph.dense[flow], "widths": str(units)}
            rows.append(
                {**common, "component": f"flow of {flow.partition('->')[0].replace(',', ', ')}", **own, "error": error}
            )
    return rows


def cuts_figure(table: pd.DataFrame, sparsity: float) -> Figure:
    """A panel a controller, a group of bars a component, a colour an allocation."""
    names = list(dict.fromkeys(table["controller"]))
    with rc_context(LOOK | {"axes.grid.axis": "y"}):
        figure = Figure(figsize=(7.4, 2.5 * len(names) + 0.4), layout="constrained")
        for axes, name in zip(figure.subplots(len(names), 1, squeeze=False).ravel(), names, strict=True):
            _draw(axes, table[table["controller"] == name], sparsity)
            axes.set_title(f"{name} at sparsity {sparsity:g}")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, sparsity: float) -> None:
    components = list(dict.fromkeys(table["component"]))
    allocations: Sequence[str] = list(dict.fromkeys(table["allocation"]))
    width, top = FILLED / len(allocations), 1.25 * float(table["left"].max()) + 0.05
    for number, allocation in enumerate(allocations):
        own = table[table["allocation"] == allocation].set_index("component").loc[components]
        places = [place + (number + 0.5) * width - FILLED / 2 for place in range(len(components))]
        axes.bar(places, own["left"], 0.92 * width, color=look(Method(allocation=allocation)).colour, label=allocation)
        for place, left, widths in zip(places, own["left"], own["widths"], strict=True):
            axes.text(
                place, left + 0.015 * top, f"{widths}", rotation=90, fontsize=5.5, ha="center", va="bottom", bbox=PLATE
            )
    axes.axhline(1 - sparsity, color="0.3", linewidth=0.8, linestyle=":", zorder=0.5)
    axes.set_xticks(range(len(components)), [name.replace("flow of ", "latent units of\n") for name in components])
    axes.set(ylabel="share left", ylim=(0, top))
    axes.grid(visible=False, axis="x")
