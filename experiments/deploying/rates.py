"""How many decisions a second a controller makes, measured on one core, and controllers of given widths to measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from prunectl.agents.controller import Controller
from prunectl.pruning import apply
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.plan import describe

#: Processor time that one controller is measured for, and decisions that warm it up.
SECONDS, WARM_UP = 0.4, 3


def widths_of(graph: ComponentGraph, components: Mapping[str, Any]) -> dict[str, int]:
    """Width of each group, from the widths of the components' linear layers (a cell's ``components``)."""
    layers: dict[str, list[str]] = {}
    for path, component in graph.layer_component.items():
        layers.setdefault(component, []).append(path)
    widths = {}
    for group in graph.groups.values():
        component = graph.layer_component[group.producers[0]]
        place = layers[component].index(group.producers[0])
        widths[group.name] = int(components[component]["widths_pruned"][place])
    return widths


def of_widths(controller: Controller, graph: ComponentGraph, widths: Mapping[str, int]) -> Controller:
    """The controller with the first so many units of each group: as fast as any other of these widths."""
    return apply(describe(graph, {name: tuple(range(width)) for name, width in widths.items()}, 0.0), controller, graph)


def decisions_per_second(controller: Controller) -> float:
    """Decisions for one observation at a time, a second of processor time on one thread: the median decision counts.

    Processor time, so that what else the machine is doing matters little.
    """
    shape = controller.observation_space.shape
    assert shape is not None
    observation = np.zeros((1, *shape), dtype=np.float32)
    times: list[float] = []
    while sum(times[WARM_UP:]) < SECONDS:
        started = time.process_time()
        controller.act(observation)
        times.append(time.process_time() - started)
    return 1.0 / statistics.median(times[WARM_UP:])
