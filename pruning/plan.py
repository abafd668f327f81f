"""A plan: which units each group keeps. Plain data, printable, JSON both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from prunectl.pruning.allocation import Damage, Widths, allocate
from prunectl.pruning.ask import OBSERVATION, Ask, Sparsity
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Scores
from prunectl.registry import one_line


@dataclass(frozen=True)
class ComponentPlan:
    """What a plan does to one component. Widths are those of its linear layers, in order."""

    params_dense: int
    params_pruned: int
    widths_dense: tuple[int, ...]
    widths_pruned: tuple[int, ...]
    deployed: bool


@dataclass(frozen=True)
class PruningPlan:
    """``kept[group]`` are the indices that stay, ascending; the rest says what comes of it.

    ``sparsity_asked`` is what was asked overall, or where nothing was, the highest share that a component or a flow was
    asked for. ``couples`` names the components of the groups that touch several. Sparsities are shares of parameters:
    total over all components, deployed over those that `act` runs. ``macs_deployed`` counts one pass through their
    linear layers.
    """

    sparsity_asked: float
    kept: Mapping[str, tuple[int, ...]]
    units: Mapping[str, int]
    couples: Mapping[str, tuple[str, ...]]
    components: Mapping[str, ComponentPlan]
    macs_deployed: int

    @property
    def widths(self) -> Widths:
        """Width of each group once the plan is carried out."""
        return {name: len(indices) for name, indices in self.kept.items()}

    @property
    def observed(self) -> bool:
        """Whether it says which numbers of the observation are read."""
        return any(name.startswith(f"{OBSERVATION}->") for name in self.kept)

    @property
    def of_what_is_left(self) -> Self:
        """The same without the groups of layers that are gone whole."""
        kept = {name: indices for name, indices in self.kept.items() if indices}
        return replace(self, kept=kept, units={name: self.units[name] for name in kept})

    @property
    def params_dense(self) -> int:
        return sum(c.params_dense for c in self.components.values())

    @property
    def params_pruned(self) -> int:
        return sum(c.params_pruned for c in self.components.values())

    @property
    def params_deployed(self) -> int:
        """Parameters left in the deployed components."""
        return sum(c.params_pruned for c in self.components.values() if c.deployed)

    @property
    def sparsity_total(self) -> float:
        return 1 - self.params_pruned / self.params_dense

    @property
    def sparsity_deployed(self) -> float:
        return 1 - self.params_deployed / sum(c.params_dense for c in self.components.values() if c.deployed)

    @property
    def remark(self) -> str | None:
        """Where parameters go, and none of what acts, a line that says so; None otherwise."""
        gone = [name for name, c in self.components.items() if c.params_pruned < c.params_dense]
        if not gone or any(self.components[name].deployed for name in gone):
            return None
        return (
            f"nothing of what acts is cut: all that goes is of {', '.join(gone)}, which training alone needs, so what "
            "is deployed gets no smaller and no faster"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into the same plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The plan that `to_json` wrote, also after a round through a JSON file.

        Raises:
            PruningError: it is something else.
        """
        try:
            plan = cls(
                sparsity_asked=float(data["sparsity_asked"]),
                kept={name: tuple(map(int, indices)) for name, indices in data["kept"].items()},
                units={name: int(units) for name, units in data["units"].items()},
                couples={name: tuple(names) for name, names in data["couples"].items()},
                components={name: _component(entry) for name, entry in data["components"].items()},
                macs_deployed=int(data["macs_deployed"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PruningError(f"a pruning plan that cannot be read ({one_line(error)})") from error
        if plan.kept.keys() != plan.units.keys() or not plan.couples.keys() <= plan.units.keys() or not plan.components:
            raise PruningError("a pruning plan whose groups do not agree with each other")
        for name, kept in plan.kept.items():
            if list(kept) != sorted(set(kept)) or not all(0 <= index < plan.units[name] for index in kept):
                raise PruningError(f"a pruning plan that keeps units of '{name}' that are not there: {kept!s:.60}")
        acting = sum(component.params_dense for component in plan.components.values() if component.deployed)
        if not 0 < plan.params_pruned <= plan.params_dense or acting < 1:
            raise PruningError("a pruning plan that leaves no parameters, or more than there were")
        return plan

    def __str__(self) -> str:
        lines = [
            f"sparsity {self.sparsity_total:.3f} total, {self.sparsity_deployed:.3f} deployed "
            f"(asked {self.sparsity_asked:g}): {self.params_dense:,} -> {self.params_pruned:,} parameters"
        ]
        for name, c in self.components.items():
            role = "deployed" if c.deployed else "training only"
            before, after = ("-".join(map(str, widths)) for widths in (c.widths_dense, c.widths_pruned))
            gone = 1 - c.params_pruned / c.params_dense if c.params_dense else 0.0
            params = f"{c.params_dense:>10,} -> {c.params_pruned:<9,} (-{gone:.1%})"
            lines.append(f"  {name:<12} {params}  {before} -> {after}  {role}")
        for name, components in self.couples.items():
            units = f"{self.units[name]} -> {len(self.kept[name])} units"
            lines.append(f"  {name}: {units}, couples {', '.join(components)}")
        if self.remark is not None:
            lines.append(self.remark)
        return "\n".join(lines)


def _component(entry: Mapping[str, Any]) -> ComponentPlan:
    return ComponentPlan(
        params_dense=int(entry["params_dense"]),
        params_pruned=int(entry["params_pruned"]),
        widths_dense=tuple(map(int, entry["widths_dense"])),
        widths_pruned=tuple(map(int, entry["widths_pruned"])),
        deployed=bool(entry["deployed"]),
    )


def make_plan(
    graph: ComponentGraph,
    scores: Scores,
    grouping: str = "component",
    allocation: str = "uniform",
    sparsity: Sparsity = 0.5,
    min_width: int = 1,
    damage: Damage | None = None,
    error: Callable[[Widths], float] | None = None,
) -> PruningPlan:
    """Keep the best-scored units of each group, as many as the allocation leaves it (see `allocate`)."""
    widths = allocate(graph, scores, grouping, allocation, sparsity, min_width, damage, error)
    return describe(graph, keep_best(scores, widths), Ask.of(sparsity).figure)


def uncut(graph: ComponentGraph, sparsity_asked: float = 0.0) -> PruningPlan:
    """The plan that keeps every unit."""
    return describe(graph, {name: tuple(range(units)) for name, units in graph.dense.items()}, sparsity_asked)


def keep_best(scores: Scores, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The indices of the best-scored units of each group, as many as its width, ascending."""
    kept = {}
    for name, width in widths.items():
        best_first = np.argsort(-scores[name], kind="stable")
        kept[name] = tuple(sorted(int(index) for index in best_first[:width]))
    return kept


def composed(graph: ComponentGraph, first: PruningPlan, then: PruningPlan, sparsity_asked: float) -> PruningPlan:
    """One plan for two that follow each other, the second one's indices being among what the first one kept."""
    kept = {name: tuple(first.kept[name][index] for index in indices) for name, indices in then.kept.items()}
    return describe(graph, kept, sparsity_asked)


def describe(graph: ComponentGraph, kept: Mapping[str, tuple[int, ...]], sparsity_asked: float) -> PruningPlan:
    """The plan that keeps these units."""
    widths = {name: len(kept[name]) for name in graph.groups}
    components = {
        name: ComponentPlan(
            params_dense=graph.parameters(graph.dense, name),
            params_pruned=graph.parameters(widths, name),
            widths_dense=tuple(graph.hidden_widths(name, graph.dense)),
            widths_pruned=tuple(graph.hidden_widths(name, widths)),
            deployed=name in graph.deployed,
        )
        for name in graph.components
    }
    return PruningPlan(
        sparsity_asked=sparsity_asked,
        kept={name: kept[name] for name in graph.groups},
        units=dict(graph.dense),
        couples={name: graph.groups[name].components for name in graph.flows},
        components=components,
        macs_deployed=graph.deployed_macs(widths),
    )
