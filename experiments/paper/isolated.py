"""What it would buy if each reader of a latent dropped the units that it does not need, on its own.

A flow may be *coupled* (its width shrinks for everyone at once) or *isolated* (each reader keeps a selection of its
own, and a unit goes at its writers once no reader uses it). Both are held to the same damage here: the share of a
reader's variance that is lost, after a refit, by the reader that loses most.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from prunectl import agents, envs
from prunectl.experiments import provenance
from prunectl.experiments.drawing.tables import write_file, write_table
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.pruning import trace
from prunectl.pruning.graph import ComponentGraph, Group, axis_width, columns
from prunectl.pruning.importance import Evidence
from prunectl.pruning.surgeon import eliminate

Array = NDArray[np.float64]

#: Damages at which both are compared.
DAMAGES = (0.03, 0.01, 0.003, 0.001)
#: Rows of calibration data: enough for fifty units many times over.
ROWS = 4_000
REMARK = (
    "`coupled_width`: units that all readers share at this damage; `isolated_widths`: units that each reader needs if "
    "it may choose its own, `isolated_union` how many the writers must then still make. `*_params`: weights of the "
    "layers that write and read the latent, all other widths dense."
)


def write_isolated(config: Path, folder: Path) -> list[Path]:
    """Write the comparison as a table; ``config`` lists the controllers and names the seed of the calibration."""
    text = config.read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    rows = [row for name in settings["controllers"] for row in compare(name, int(settings["seed"]))]
    written = write_table(pd.DataFrame(rows), folder / "isolated", {"damage": "g", "ratio": ".2f"}, REMARK)
    written.append(provenance.write(folder, provenance.record()))
    return [*written, write_file(folder / "config.yaml", lambda path: path.write_text(text))]


def compare(name: str, seed: int) -> list[dict[str, object]]:
    """A row a flow of the controller and damage."""
    loaded = agents.load(name)
    torch.set_num_threads(1)
    controller, graph = loaded.controller, trace(loaded.controller)
    data = calibrate(controller, envs.resolve(str(loaded.task))[0], seed)
    keep = np.random.default_rng(seed).permutation(len(data.observations))[:ROWS]
    inputs = controller.inputs(data.observations[keep], data.actions[keep])
    evidence = Evidence(graph, controller.dataflow(), inputs, np.random.default_rng(seed))
    rows: list[dict[str, object]] = []
    for flow in graph.flows:
        group = graph.groups[flow]
        own = {layer: reader_curve(evidence, group, layer) for layer in group.consumers}
        shared_order, _ = eliminate(evidence.readings(group, scaled=True))
        worst = shared_curve(evidence, group, shared_order)
        for damage in DAMAGES:
            width = narrowest(worst, damage)
            chosen = {layer: order[-narrowest(curve, damage) :] for layer, (order, curve) in own.items()}
            union = len(set().union(*(set(units.tolist()) for units in chosen.values())))
            coupled = flow_parameters(graph, group, dict.fromkeys(group.consumers, width), width)
            isolated = flow_parameters(graph, group, {layer: len(units) for layer, units in chosen.items()}, union)
            rows.append(
                {
                    "controller": loaded.name,
                    "damage": damage,
                    "coupled_width": width,
                    "isolated_widths": ", ".join(f"{layer} {len(units)}" for layer, units in chosen.items()),
                    "isolated_union": union,
                    "coupled_params": coupled,
                    "isolated_params": isolated,
                    "ratio": isolated / coupled,
                }
            )
    return rows


def reader_curve(evidence: Evidence, group: Group, layer: str) -> tuple[NDArray[np.intp], Array]:
    """The order in which one reader alone would let units go, and its damage by units kept, ``(units + 1,)``."""
    order, damage = eliminate([(evidence.activations(group), _read_by(evidence, group, layer))])
    return order, np.concatenate([damage[::-1], [0.0]])


def shared_curve(evidence: Evidence, group: Group, order: NDArray[np.intp]) -> Array:
    """By units kept, ``(units + 1,)``: the damage of the reader that loses most when all keep the same ones."""
    values = evidence.activations(group)
    centred = values - values.mean(axis=0)
    worst = np.zeros(group.units + 1)
    targets = [centred @ _read_by(evidence, group, layer) for layer in group.consumers]
    for kept in range(group.units):
        design = centred[:, order[group.units - kept :]]
        for target in targets:
            left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
            worst[kept] = max(worst[kept], float((left**2).sum() / (target**2).sum()))
    return worst


def narrowest(curve: Array, damage: float) -> int:
    """The fewest units, at least one, with no more than this damage."""
    return max(int(np.argmax(curve <= damage)), 1)


def flow_parameters(graph: ComponentGraph, group: Group, read: Mapping[str, int], written: int) -> int:
    """Weights and biases of the layers around a flow, when each reader reads so many units of those written."""
    total = sum(axis_width(graph.layer_axes[layer][1], graph.dense) * width for layer, width in read.items())
    return total + sum((axis_width(graph.layer_axes[layer][0], graph.dense) + 1) * written for layer in group.producers)


def _read_by(evidence: Evidence, group: Group, layer: str) -> Array:
    """``(units, outputs)``: one reader's weights, each output scaled by the norm of what it feeds."""
    where = columns(evidence.graph.layer_axes[layer][0], group.name)
    return np.asarray((evidence.weight(layer)[:, where] * evidence.fed(layer)[:, None]).T)
