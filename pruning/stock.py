"""Torch-Pruning's own pruners, the paper's baselines, and its importances. The one module that calls the library."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.ask import Ask, Part
from prunectl.pruning.dataflow_run import bounded
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Group, columns
from prunectl.pruning.grouping import GROUPINGS, Grouping
from prunectl.pruning.layers import stacks, writes
from prunectl.pruning.output_gradients import project, scales
from prunectl.pruning.plan import PruningPlan, describe
from prunectl.pruning.tracing import calls

Array = NDArray[np.float64]


#: Layers whose outputs are the library's units as they are ours.
_ROOTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
#: Rows that gradients are taken of, one by one: a second or less.
MOST_GRADIENT_ROWS = 256
#: The library's importances by the names that those of their kind go by here, made as it makes them. `magnitude`, over
#: all layers of a group, is what the library also calls group norm.
IMPORTANCES: Mapping[str, Callable[[], Any]] = {
    "magnitude": partial(torch_pruning.importance.MagnitudeImportance, p=2),
    "taylor": torch_pruning.importance.TaylorImportance,
    "hessian": torch_pruning.importance.HessianImportance,
    "lamp": torch_pruning.importance.LAMPImportance,
    "fpgm": torch_pruning.importance.FPGMImportance,
    "random": torch_pruning.importance.RandomImportance,
}
#: What the scores of a group are divided by, so that units of different groups may stand in one ranking: their mean,
#: as the library comes, or by the name that the ranking then goes by. `gaussian` is (score - mean) / deviation.
NORMALIZERS: Mapping[str, str | None] = {"max": "max", "sum": "sum", "gaussian": "gaussian", "raw": None}
#: Those that are for a normaliser to compare: `lamp` is one itself, and `random` knows none.
_NORMALIZED = ("magnitude", "taylor", "hessian")


@dataclass(frozen=True)
class StockGroup:
    """A group of the library's own dependency graph: its linear layers, as paths in the dataflow, how many units it
    has, and how many parameters leave with one of them."""

    layers: tuple[str, ...]
    units: int
    params_per_unit: int


def stock_groups(controller: Controller, graph: ComponentGraph) -> tuple[StockGroup, ...]:
    """What the library's dependency graph makes of a whole controller, its outputs fixed, in its own order.

    It follows what reaches an output, so a layer that shapes none (the exploration heads of SAC) is in no group.
    """
    dataflow = controller.dataflow()
    action = np.zeros((2, *(controller.action_space.shape or ())), dtype=controller.action_space.dtype)
    inputs = controller.inputs(np.zeros((2, *(controller.observation_space.shape or ())), dtype=np.float32), action)
    path_of = {id(module): path for path, module in dataflow.named_modules()}
    found = []
    for group in _groups(dataflow, graph, inputs):
        touched = {}
        for dependency, _ in group.items:
            if (path := path_of.get(id(dependency.target.module))) is not None:
                touched[path, dependency.handler.__name__ == "prune_in_channels"] = dependency.target.module
        layers = tuple(dict.fromkeys(path for path, _ in touched if path in graph.layer_axes))
        cost = sum(_entries(module, reads) for (_, reads), module in touched.items())
        found.append(StockGroup(layers, len(group[0].dep.target.module.weight), cost))
    return tuple(found)


class LibraryGroups:
    """The library's groups of a whole controller, by the names of ours, and its importances of their units, raw.

    A group that the library does not find, because it shapes no output, scores zeros. What the library counts singly
    and we as one unit, such as the numbers of a simplex, scores their mean.
    """

    def __init__(
        self,
        dataflow: nn.Module,
        graph: ComponentGraph,
        inputs: Sequence[torch.Tensor],
        generator: np.random.Generator,
    ) -> None:
        # A copy: the library keeps what it is told about gradients in the parameters themselves.
        self._dataflow = copy.deepcopy(dataflow).requires_grad_(True)
        self._inputs, self._generator = inputs, generator
        path_of = {id(module): path for path, module in self._dataflow.named_modules()}
        self._found: dict[str, tuple[Any, slice | NDArray[np.intp]]] = {}
        for group in _groups(self._dataflow, graph, tuple(tensor[:2] for tensor in inputs)):
            output = graph.layer_axes[path_of[id(group[0].dep.target.module)]][1]
            if len(output) == 1 and output[0].group is not None:
                name = str(output[0].group)
                self._found[name] = group, columns(output, name)

    def lamp(self, group: Group) -> Array:
        """`LAMPImportance`."""
        return self._call(torch_pruning.importance.LAMPImportance(), group)

    def fpgm(self, group: Group) -> Array:
        """`FPGMImportance`, not yet divided by the group's mean."""
        return self._call(torch_pruning.importance.FPGMImportance(normalizer=None), group)

    def hessian(self, group: Group) -> Array:
        """`GroupHessianImportance`, not yet divided by the group's mean."""
        return self._call(self._hessian, group)

    def _call(self, importance: Any, group: Group) -> Array:
        if group.name not in self._found:
            return np.zeros(group.units)
        theirs, where = self._found[group.name]
        scores = importance(theirs).detach().double().numpy()
        if not isinstance(where, slice):
            scores = scores[where].mean(axis=1)
        # LAMP divides zero by zero where all weights of a group are zero.
        return np.asarray(np.nan_to_num(scores, nan=0.0))

    @cached_property
    def _hessian(self) -> Any:
        importance = torch_pruning.importance.GroupHessianImportance(normalizer=None)
        _tell_gradients(self._dataflow, self._inputs, self._generator)
        importance.accumulate_grad(self._dataflow)
        return importance


def _tell_gradients(dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator) -> None:
    """Leave in each parameter the root mean square of its gradients, one a row: those of a random projection of the
    outputs (`project`), since the loss of a trained controller has none left.

    Not the gradient of their sum, in which rows cancel out. Nor a sample after another: in version 1.6.1 `hessian`
    forgets all but the last, because it looks for names among tensors.
    """
    parameters = list(dataflow.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    count = len(inputs[0])
    rows = range(0, count, -(-count // MOST_GRADIENT_ROWS))
    with torch.no_grad():
        scale = scales(dataflow(*inputs))
    for row in rows:
        with torch.enable_grad():
            results = dataflow(*(tensor[row : row + 1] for tensor in inputs))
            loss = project(results, scale, generator)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for sum_, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                sum_ += gradient.square()
    for parameter, squares in zip(parameters, total, strict=True):
        parameter.grad = (squares / len(rows)).sqrt()


def stock_plan(
    controller: Controller,
    graph: ComponentGraph,
    inputs: Sequence[torch.Tensor],
    ask: Ask,
    importance: str = "magnitude",
    seed: int = 0,
    *,
    global_pruning: bool,
    isomorphic: bool = False,
    **options: Any,
) -> PruningPlan:
    """What ``torch_pruning.BasePruner`` removes by one of its own importances, global or local.

    Its ratio counts channels, so it is driven by bisection until the asked share of parameters is gone: within
    tolerance, or as near as can be where that lies between two neighbouring steps, which take a unit from a layer
    (global), from every layer (local) or from a layer of every form (isomorphic). It knows no components, keeps no
    twins equally wide, and skips a layer that its threshold would empty altogether. Where shares are asked of
    components, of flows, or of what acts, it is told to ignore the layers of all else, one share after another.
    All units that score as the threshold does go together, as those that never fire by a gradient. A level on the way
    may lie within such a jump: then what comes before it is all that goes.

    With ``isomorphic`` (and ``global_pruning``, as its authors intend) units are ranked among the groups of the same
    form alone, and every form loses the same share of its units: Fang et al., "Isomorphic Pruning for Vision Models",
    ECCV 2024 (arXiv 2407.04616). Forms are told apart by the kinds of layers in a group, not by their component.

    ``options`` are the library's of its importance where it is not to be as it comes, as ``normalizer``: what the
    scores of a group are divided by, which changes no order within it.

    Raises:
        PruningError: no ratio comes that near to the asked sparsity, or an unknown name.
    """
    pruner = _Pruner.of(controller, graph, inputs, importance, seed, global_pruning, isomorphic, **options)
    kept = {name: tuple(range(units)) for name, units in graph.dense.items()}
    for part in ask.parts(graph):
        if part.share:
            kept |= pruner.met(part, kept, ask.within)
    return describe(graph, kept, ask.figure)


def cut_in_place(dataflow: nn.Module, graph: ComponentGraph, inputs: Sequence[torch.Tensor], ratio: float) -> None:
    """Let the library's own local pruner take one step on a dataflow, which it changes: this share of every layer's
    units goes, by magnitude. What a user of the library writes, to hold our time against."""
    _Pruner(dataflow, graph, tuple(tensor[:2] for tensor in inputs), IMPORTANCES["magnitude"]()).at(ratio).step()


@dataclass(frozen=True)
class _Pruner:
    """The library's pruner of a dataflow, at any ratio of channels. The dataflow itself is only looked at."""

    dataflow: nn.Module
    graph: ComponentGraph
    example: tuple[torch.Tensor, ...]
    importance: Any
    seed: int = 0
    global_pruning: bool = False
    isomorphic: bool = False

    @classmethod
    def of(
        cls,
        controller: Controller,
        graph: ComponentGraph,
        inputs: Sequence[torch.Tensor],
        importance: str,
        seed: int,
        global_pruning: bool,
        isomorphic: bool,
        **options: Any,
    ) -> _Pruner:
        """The pruner with an importance by name, which is told the gradients that it asks for."""
        dataflow, made = controller.dataflow(), IMPORTANCES[importance](**options)
        if importance in ("taylor", "hessian"):
            dataflow = copy.deepcopy(dataflow).requires_grad_(True)
            _tell_gradients(dataflow, bounded(inputs, graph), np.random.default_rng(seed))
        if importance == "hessian":
            made.accumulate_grad(dataflow)
        example = tuple(tensor[:2] for tensor in inputs)
        return cls(dataflow, graph, example, made, seed, global_pruning, isomorphic)

    def met(self, part: Part, before: Mapping[str, tuple[int, ...]], within: float) -> dict[str, tuple[int, ...]]:
        """What is kept of a part's groups once it has given up its share, ``before`` being what is kept until then.

        Where ``within`` is infinite the share need not be met: never more goes, and as much as can.

        Raises:
            PruningError: no ratio comes that near.
        """
        dense = part.size(self.graph, self.graph.dense)

        def step(ratio: float, kept: Mapping[str, tuple[int, ...]]) -> _Step:
            own = {name: kept[name] for name in part.groups}
            widths = {name: len(units) for name, units in {**before, **own}.items()}
            return _Step(ratio, own, 1 - part.size(self.graph, widths) / dense)

        whole = step(0.0, before)
        tried = _search(lambda ratio: step(ratio, self.kept(ratio, part.groups)), part.share, within)
        if math.isinf(within):
            below = [step for step in (whole, *tried) if step.achieved <= part.share]
            return max(below, key=lambda step: step.achieved).kept
        best = min(tried, key=lambda step: abs(step.achieved - part.share))
        if abs(best.achieved - part.share) > within and not _between_neighbours([whole, *tried], part.share):
            kind = "isomorphic" if self.isomorphic else "global" if self.global_pruning else "local"
            whose = f" of '{part.name}'" if part.name else ""
            raise PruningError(
                f"stock {kind} pruning cannot reach sparsity {part.share:g}{whose}: the nearest it gives is "
                f"{best.achieved:.3f}"
            )
        return best.kept

    def kept(self, ratio: float, groups: Collection[str]) -> dict[str, tuple[int, ...]]:
        """The units that one step of the library's pruner leaves where it may cut these groups."""
        path_of = {id(module): path for path, module in self.dataflow.named_modules()}
        kept = {name: set(range(group.units)) for name, group in self.graph.groups.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # the same random scores at every ratio
            found = list(self.at(ratio, groups).step(interactive=True))
        for group in found:
            path = path_of.get(id(group[0].dep.target.module), "")
            if path not in self.graph.layer_axes:
                continue
            _, output = self.graph.layer_axes[path]
            for name in {segment.group for segment in output} - {None}:
                where, gone = columns(output, str(name)), set(group[0].idxs)
                units = range(self.graph.groups[str(name)].units)
                indices = [[where.start + unit] for unit in units] if isinstance(where, slice) else where.tolist()
                kept[str(name)] -= {unit for unit in units if gone.issuperset(indices[unit])}
        return {name: tuple(sorted(units)) for name, units in kept.items()}

    def at(self, ratio: float, groups: Collection[str] | None = None) -> Any:
        """The library's own, which may cut these groups, or all."""
        _check(self.dataflow)
        others = [] if groups is None else [group for name, group in self.graph.groups.items() if name not in groups]
        ignored = [self.dataflow.get_submodule(layer) for group in others for layer in group.producers]
        with warnings.catch_warnings():
            # It warns of parameters that no layer owns (gSDE's): our own surgery cuts those.
            warnings.simplefilter("ignore")
            return torch_pruning.BasePruner(
                self.dataflow,
                self.example,
                importance=self.importance,
                global_pruning=self.global_pruning,
                isomorphic=self.isomorphic,
                pruning_ratio=ratio,
                ignored_layers=[*_outputs(self.dataflow, self.graph), *ignored],
                output_transform=lambda results: list(results.values()),
            )


def _check(dataflow: nn.Module) -> None:
    """Refuse layers whose units the library counts in another way than we do."""
    for path, layer in dataflow.named_modules():
        if writes(path, layer) and not isinstance(layer, _ROOTS):
            raise PruningError(
                "Torch-Pruning is asked about linear layers and convolutions alone, and "
                f"'{path}' is of {type(layer).__name__}"
            )
    for stack in stacks(dataflow, calls(dataflow)):
        raise PruningError(f"Torch-Pruning is asked about layers alone, and '{stack.path}' is a stack of matrices")


def _groups(dataflow: nn.Module, graph: ComponentGraph, example: Sequence[torch.Tensor]) -> list[Any]:
    """The groups of the library's own dependency graph, whole, the layers that write outputs fixed."""
    _check(dataflow)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dependencies = torch_pruning.DependencyGraph().build_dependency(
            dataflow, example_inputs=tuple(example), output_transform=lambda results: list(results.values())
        )
    fixed = _outputs(dataflow, graph)
    return list(dependencies.get_all_groups(ignored_layers=fixed, root_module_types=list(_ROOTS)))


@dataclass(frozen=True)
class _Step:
    """What the library leaves at a ratio, and the sparsity that this is."""

    ratio: float
    kept: dict[str, tuple[int, ...]]
    achieved: float


def _search(at: Callable[[float], _Step], sparsity: float, within: float) -> list[_Step]:
    """What is tried on the way to a sparsity: bisection, and a scan where it fails: a layer that the library skips
    makes the path jump back."""
    low, high = 0.0, 1.0
    tried = []
    for _ in range(12):
        middle = (low + high) / 2
        tried.append(at(middle))
        low, high = (middle, high) if tried[-1].achieved < sparsity else (low, middle)
    if min(abs(step.achieved - sparsity) for step in tried) > within:
        tried += [at(ratio) for ratio in np.linspace(0.02, 0.999, 60)]
    return tried


def _between_neighbours(tried: Sequence[_Step], sparsity: float) -> bool:
    """Whether a sparsity lies between two steps next to each other: no layer differs by more than a unit."""
    return any(
        below.achieved < sparsity <= above.achieved
        and all(0 <= len(units) - len(above.kept[name]) <= 1 for name, units in below.kept.items())
        for below, above in pairwise(sorted(tried, key=lambda step: step.ratio))
    )


def _outputs(dataflow: nn.Module, graph: ComponentGraph) -> list[nn.Module]:
    """The layers that write what leaves the components: they keep their units."""
    return [
        dataflow.get_submodule(layer)
        for layer, (_, output) in graph.layer_axes.items()
        if all(segment.group is None for segment in output)
    ]


def _entries(module: nn.Module, reads: bool) -> int:
    """Parameters that a layer loses with one unit that it reads, or with one that it writes or passes on."""
    if reads and isinstance(module, _ROOTS):
        return module.weight[:, 0].numel()
    return sum(parameter[0].numel() for parameter in module.parameters())


def _own(importances: Iterable[str] = IMPORTANCES, **ways: Any) -> Grouping:
    return Grouping(plan=partial(stock_plan, **ways), importances=tuple(importances))


GROUPINGS.bring("stock-global", _own(global_pruning=True))
GROUPINGS.bring("stock-local", _own(global_pruning=False))
GROUPINGS.bring("stock-isomorphic", _own(global_pruning=True, isomorphic=True))
for _name, _normalizer in NORMALIZERS.items():
    GROUPINGS.bring(f"stock-global-{_name}", _own(_NORMALIZED, global_pruning=True, normalizer=_normalizer))
