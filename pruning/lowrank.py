"""Low rank: every linear layer as the product of two thin ones, in the place of leaving units out; the reference that
structured methods are asked about at equal parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.ask import Ask, Part
from prunectl.pruning.dataflow_run import bounded
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS, Grouping
from prunectl.pruning.importance.evidence import Array, Evidence
from prunectl.pruning.layers.factored import Factored, FactoredProduct
from prunectl.pruning.plan import PruningPlan, uncut
from prunectl.pruning.recovery.pupil import outputs_of, products_called
from prunectl.pruning.surgery import everywhere

C = TypeVar("C", bound=Controller)

#: Its name among the groupings. It leaves no unit out, so it has no plan of them.
LOWRANK = "lowrank"


def lowrank(
    controller: C,
    graph: ComponentGraph,
    inputs: Sequence[torch.Tensor],
    ask: Ask,
    importance: str = "magnitude",
    seed: int = 0,
) -> tuple[C, PruningPlan]:
    """Give every linear layer that shapes an output two factors, of the ranks at which what is asked is met.

    A layer ``(out, in)`` of rank r has r (out + in) weights besides its biases, and stays as it is where that saves
    nothing. By ``magnitude`` the factors are the truncated singular value decomposition of its weights, by
    ``activation`` its weights on the main directions of what it gives over the calibration data: until a recovery fits
    them to the dense activations (`reconstruct`: reduced-rank regression on what the layers before, already refitted,
    give) or to the dense answers (`distill`).

    The ranks are chosen as Zhang, Zou, He and Sun do (TPAMI 2016, section 3.3): from full ranks on, the direction goes
    whose share of its layer's energy, the squared singular value, is smallest for the weights that it frees.

    Args:
        controller: the dense one; it stays as it is.
        graph: its groups.
        inputs: what its dataflow takes, ``(n, ...)`` each.
        ask: the shares of parameters that go.
        importance: ``magnitude`` or ``activation``.
        seed: none of it is random.

    Returns:
        The controller with `Factored` layers, and a plan that keeps every unit, with the parameters and the
        multiply-accumulates of the factors.

    Raises:
        PruningError: more is asked for than rank one leaves, or of a flow, which has no layer of its own.
    """
    dataflow = controller.dataflow()
    evidence = Evidence(graph, dataflow, bounded(inputs, graph), np.random.default_rng(seed))
    layers = _layers(controller, dataflow, graph, evidence, importance)
    ranks: dict[str, int] = {}
    for part in ask.parts(graph):
        if not part.components and part.share:
            raise PruningError(f"grouping '{LOWRANK}' removes no unit, so none of '{part.name}'")
        own = {path: layer for path, layer in layers.items() if graph.layer_component[path] in part.components}
        ranks |= _ranks(own, part, graph)
    freed = {path: layers[path].full - layers[path].weights(rank) for path, rank in ranks.items()}
    plan = uncut(graph, ask.figure)
    gone = {
        name: sum(n for path, n in freed.items() if graph.layer_component[path] == name) for name in plan.components
    }
    spared = sum(graph.work[path][1] * n for path, n in freed.items() if graph.layer_component[path] in graph.deployed)
    plan = replace(
        plan,
        components={name: replace(c, params_pruned=c.params_dense - gone[name]) for name, c in plan.components.items()},
        macs_deployed=plan.macs_deployed - spared,
    )
    chosen = {path: rank for path, rank in ranks.items() if freed[path]}
    return _factored(controller, graph, layers, chosen), plan


def written_out(controller: C) -> C:
    """The controller with plain layers in the place of factored ones, if it has any: their products, which do the same.
    No library's checkpoint has a place for the factors."""
    layers = {id(m): m.whole() for m in controller.networks.modules() if isinstance(m, Factored)}
    return controller.with_networks(copy.deepcopy(controller.networks, layers)) if layers else controller


@dataclass(frozen=True)
class _Layer:
    """A linear layer ``(out, in)``: the directions of its output ``(out, k)``, their energies ``(k,)``, the largest
    first, and the mean of what it reads ``(in,)``."""

    module: nn.Linear
    directions: Array
    energies: Array
    mean: Array

    @property
    def full(self) -> int:
        return self.module.weight.numel()

    @property
    def each(self) -> int:
        """Weights for each rank."""
        return self.module.out_features + self.module.in_features

    def weights(self, rank: int) -> int:
        """How many are left at this rank."""
        return min(rank * self.each, self.full)

    def factored(self, rank: int) -> Factored:
        """The layer on its main directions; what it gives keeps its mean."""
        small = Factored(self.module, rank)
        main, weight = (torch.as_tensor(values) for values in (self.directions[:, :rank], self.module.weight.detach()))
        limited = main @ (main.T @ weight.double())
        shift = (weight - limited) @ torch.as_tensor(self.mean)
        bias = shift if small.bias is None else shift + small.bias.detach()
        FactoredProduct.of("", small).write(limited.to(weight.dtype), bias.to(weight.dtype))
        return small


def _layers(
    controller: Controller, dataflow: nn.Module, graph: ComponentGraph, evidence: Evidence, importance: str
) -> dict[str, _Layer]:
    """The linear layers that shape an output, by their paths."""
    owned = {id(module) for module in controller.networks.modules()}
    shaping = products_called(outputs_of(dataflow, graph.components))
    modules = dict(dataflow.named_modules(remove_duplicate=False))
    found = {}
    for path in graph.layer_axes:
        module = modules.get(path)
        if type(module) is nn.Linear and id(module) in owned and path in shaping:
            matrix, mean = evidence.weight(path), np.zeros(module.in_features)
            if importance == "activation":
                rows = evidence.rows(path).double().numpy()
                mean = rows.mean(axis=0)
                # What it gives has the left singular vectors of W R', R'R the second moments of what it reads.
                matrix = matrix @ np.asarray(np.linalg.qr(rows - mean, mode="r")).T
            directions, values, _ = np.linalg.svd(matrix, full_matrices=False)
            found[path] = _Layer(module, directions, values**2, mean)
    return found


def _ranks(layers: Mapping[str, _Layer], part: Part, graph: ComponentGraph) -> dict[str, int]:
    """The rank of each layer at which a part has given up its share."""
    total = part.size(graph, graph.dense)
    over = part.share * total
    most = sum(layer.full - layer.weights(1) for layer in layers.values())
    if over > most:
        raise PruningError(
            f"sparsity {part.share:g} cannot be met: every linear layer of rank 1, {part.name or 'the controller'} "
            f"reaches {most / total:.4g} at most"
        )
    ranks = {path: len(layer.energies) for path, layer in layers.items()}
    left = {path: layer.energies.sum() for path, layer in layers.items()}
    while over > 0:
        cost = {
            path: layers[path].energies[rank - 1] / max(left[path], 1e-300) / layers[path].each
            for path, rank in ranks.items()
            if rank > 1
        }
        path = min(cost, key=lambda path: cost[path])
        before = layers[path].weights(ranks[path])
        left[path] -= layers[path].energies[ranks[path] - 1]
        ranks[path] -= 1
        over -= before - layers[path].weights(ranks[path])
    return ranks


def _factored(controller: C, graph: ComponentGraph, layers: Mapping[str, _Layer], ranks: Mapping[str, int]) -> C:
    """The controller with these layers factored, target networks as their twins."""
    networks = controller.networks
    replaced: dict[int, nn.Module] = {}
    for path, rank in ranks.items():
        small = layers[path].factored(rank)
        for module in everywhere(networks, graph.mirrors, layers[path].module):
            replaced[id(module)] = copy.deepcopy(small)
    return controller.with_networks(copy.deepcopy(networks, replaced))


GROUPINGS.bring(
    LOWRANK,
    Grouping(cut=lowrank, importances=("magnitude", "activation"), recoveries=("none", "reconstruct", "distill")),
)
