"""Importances: from a group and the calibration data to one score a unit.

All are at least zero and higher means keep. Raw scores of different layers are not comparable, so each comes
normalised: as a unit's share of its layer's total, as damage relative to the variance of what it feeds (`surgeon`), or
by its own rule (`lamp`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prunectl.agents.controller import Controller
from prunectl.pruning.dataflow_run import bounded
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Group, Scores
from prunectl.pruning.importance.evidence import Array, Evidence, Scorer, share
from prunectl.pruning.importance.library import fpgm, hessian, lamp
from prunectl.pruning.importance.units import activation, magnitude, random, surgeon, taylor
from prunectl.pruning.importance.weights import fisher, gradient, uncertainty
from prunectl.pruning.plugged import explained, untouched
from prunectl.registry import Plugin, Registry

__all__ = ["IMPORTANCES", "RAW", "Evidence", "Importance", "Scores", "score", "share"]


@dataclass(frozen=True)
class Importance:
    """A way of scoring the units of a group.

    ``raw`` says that sums of what ``scorer`` gives compare across a whole controller, or that nobody knows; each unit's
    share of its layer's total is taken of it. ``version`` goes up when the name begins to mean another computation.
    """

    scorer: Scorer
    raw: bool = False
    version: int = 0


IMPORTANCES = Registry(
    "importance",
    {
        "magnitude": Importance(magnitude),
        "random": Importance(random),
        "taylor": Importance(taylor),
        "activation": Importance(activation),
        "surgeon": Importance(surgeon),
        "gradient": Importance(gradient, raw=True),
        "fisher": Importance(fisher, raw=True),
        "uncertainty": Importance(uncertainty, raw=True),
        "lamp": Importance(lamp),
        "fpgm": Importance(fpgm),
        "hessian": Importance(hessian),
    },
    PruningError,
)

#: Those whose sums compare across a whole controller before a layer's share is taken.
RAW: Mapping[str, Scorer] = {name: entry.scorer for name, entry in IMPORTANCES.items() if entry.raw}


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

    Raises:
        PruningError: no such importance, or a plug-in's that fails or gives something else than a score a unit.
    """
    entry, plugin = IMPORTANCES.find(importance), IMPORTANCES.plugin(importance)
    evidence = Evidence(graph, controller.dataflow(), bounded(inputs, graph), np.random.default_rng(seed))
    if plugin is None:
        found = {name: entry.scorer(evidence, group) for name, group in graph.groups.items()}
    else:
        with untouched(controller, str(plugin)):
            found = {name: _plugged(entry, plugin, evidence, group) for name, group in graph.groups.items()}
    return {name: share(scores) for name, scores in found.items()} if entry.raw else found


def _plugged(entry: Importance, plugin: Plugin, evidence: Evidence, group: Group) -> Array:
    what = f"{plugin}, group '{group.name}'"
    with explained(what):
        found: Any = entry.scorer(evidence, group)
    if isinstance(found, torch.Tensor):
        where = "" if found.device.type == "cpu" else f" on {found.device}"
        raise PruningError(f"{what}: it gave a torch tensor{where}: return scores.detach().cpu().numpy()")
    with explained(what):
        scores = np.asarray(found)
    if scores.dtype.kind not in "biuf":
        raise PruningError(f"{what}: it gave {type(found).__name__} ({scores.dtype}), an array of numbers is needed")
    if scores.shape != (group.units,):
        gave = f"{len(scores)} scores" if scores.ndim == 1 else f"an array of shape {scores.shape}"
        raise PruningError(f"{what}: it gave {gave}, one for each of its {group.units} units is needed")
    scores = scores.astype(np.float64)
    for wrong, name in ((np.isnan(scores), "NaN"), (np.isinf(scores), "infinite"), (scores < 0, "negative")):
        if wrong.any():
            raise PruningError(
                f"{what}: {wrong.sum()} of its {group.units} scores are {name}, the first that of unit "
                f"{int(wrong.argmax())}: numbers of at least 0 are needed, higher means keep"
            )
    return scores
