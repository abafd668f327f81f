"""Importances: from a group and the calibration data to one score a unit.

All are at least zero and higher means keep. Raw scores of different layers are not comparable, so each comes
normalised: as a unit's share of its layer's total, as damage relative to the variance of what it feeds (`surgeon`), or
by its own rule (`lamp`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from prunectl.agents.controller import Controller
from prunectl.pruning.graph import ComponentGraph, Scores
from prunectl.pruning.importance.evidence import Evidence, Importance, share
from prunectl.pruning.importance.library import fpgm, hessian, lamp
from prunectl.pruning.importance.units import activation, magnitude, random, surgeon, taylor
from prunectl.pruning.importance.weights import fisher, gradient, uncertainty

__all__ = ["IMPORTANCES", "RAW", "Evidence", "Scores", "score", "share"]

#: Those whose sums compare across a whole controller before a layer's share is taken.
RAW: Mapping[str, Importance] = {"gradient": gradient, "fisher": fisher, "uncertainty": uncertainty}


def _shared(raw: Importance) -> Importance:
    return lambda evidence, group: share(raw(evidence, group))


IMPORTANCES: dict[str, Importance] = {
    "magnitude": magnitude,
    "random": random,
    "taylor": taylor,
    "activation": activation,
    "surgeon": surgeon,
    **{name: _shared(raw) for name, raw in RAW.items()},
    "lamp": lamp,
    "fpgm": fpgm,
    "hessian": hessian,
}


def score(
    controller: Controller,
    graph: ComponentGraph,
    importance: str,
    inputs: Sequence[torch.Tensor],
    seed: int = 0,
) -> Scores:
    """Score every unit of every group.

    Args:
        controller: the dense controller.
        graph: its component graph.
        importance: a name in `IMPORTANCES`.
        inputs: what the dataflow takes, ``(n, ...)`` each (`Controller.inputs` of calibration data).
        seed: for importances that draw random numbers.
    """
    evidence = Evidence(graph, controller.dataflow(), inputs, np.random.default_rng(seed))
    return {name: IMPORTANCES[importance](evidence, group) for name, group in graph.groups.items()}
