"""What the whole-controller graph and the component graph make of a controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from prunectl import agents
from prunectl.experiments import provenance
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.tables import write_file, write_table
from prunectl.experiments.paper.layer_graph import bars_figure, graph_figure, pools_of
from prunectl.pruning import trace
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.stock import StockGroup, stock_groups

STOCK, OURS = "stock", "component"
REMARK = (
    "`pool`: what a unit is ranked against. In Torch-Pruning's graph that is every unit of the controller; in the "
    "component graph it is its own component (twin critics share one), or its own flow."
)


@dataclass(frozen=True)
class Seen:
    """A controller's name, its component graph, and the groups of Torch-Pruning's graph."""

    name: str
    graph: ComponentGraph
    stock: tuple[StockGroup, ...]


def write_groups(config: Path, folder: Path) -> list[Path]:
    """Write the groups one by one, what they come to, the graphs and the bars; ``config`` lists the controllers."""
    seen = [look(name) for name in yaml.safe_load(config.read_text(encoding="utf-8"))["controllers"]]
    written = write_table(groups_table(seen), folder / "groups", {"params_per_unit": ",d"}, REMARK)
    written += write_table(overview(seen), folder / "overview", {"mean_params_per_unit": ",.0f", "coupled": ".3f"})
    for entry in seen:
        written += save(graph_figure(entry.name, entry.graph, entry.stock), folder / f"graph-{entry.name}")
    bars = [(entry.name, entry.graph, entry.stock) for entry in seen]
    written += save(bars_figure(bars), folder / "group-sizes")
    written.append(provenance.write(folder, provenance.record()))
    return [*written, write_file(folder / "config.yaml", lambda path: path.write_text(config.read_text()))]


def look(reference: str) -> Seen:
    """Load a controller and trace it both ways."""
    loaded = agents.load(reference)
    graph = trace(loaded.controller)
    return Seen(loaded.name, graph, stock_groups(loaded.controller, graph))


def groups_table(seen: Sequence[Seen]) -> pd.DataFrame:
    """A row a controller, graph and group: what leaves with one unit of it."""
    rows: list[dict[str, object]] = []
    for entry in seen:
        graph = entry.graph
        for stock in entry.stock:
            components = {graph.layer_component[layer] for layer in stock.layers}
            rows.append(
                _row(entry.name, STOCK, stock.layers[0], "controller", stock.units, stock.layers, len(components))
            )
            rows[-1]["params_per_unit"] = stock.params_per_unit
        pools = pools_of(graph)
        for group in graph.groups.values():
            rows.append(
                _row(entry.name, OURS, group.name, pools[group.name], group.units, group.layers, len(group.components))
            )
            rows[-1]["params_per_unit"] = graph.params_per_unit(group.name)
    return pd.DataFrame(rows)


def overview(seen: Sequence[Seen]) -> pd.DataFrame:
    """A row a controller and graph. ``coupled`` is the share of units that touch several components."""
    table = groups_table(seen)
    rows = []
    for (controller, graph), groups in table.groupby(["controller", "graph"], sort=False):
        units = groups["units"]
        pools = groups.groupby("pool")["units"].sum()
        rows.append(
            {
                "controller": controller,
                "graph": graph,
                "groups": len(groups),
                "most_components_a_unit": groups["components"].max(),
                "most_layers_a_unit": groups["layers"].max(),
                "most_params_a_unit": groups["params_per_unit"].max(),
                "mean_params_per_unit": (groups["params_per_unit"] * units).sum() / units.sum(),
                "coupled": units[groups["components"] > 1].sum() / units.sum(),
                "pools": len(pools),
                "units_in_largest_pool": pools.max(),
            }
        )
    return pd.DataFrame(rows)


def _row(
    controller: str, graph: str, group: str, pool: str, units: int, layers: Sequence[str], components: int
) -> dict[str, object]:
    return {
        "controller": controller,
        "graph": graph,
        "group": group,
        "pool": pool,
        "units": units,
        "components": components,
        "layers": len(layers),
    }
