"""What is asked for: a share of all parameters or of what acts, shares of components and flows besides, and in how
many steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.registry import unknown

#: The key of a mapping under which the share of all parameters stands, the name that means every flow, and the one
#: that means what acts.
OVERALL, FLOWS, DEPLOYED = "overall", "flow", "deployed"
#: The flow that has no writer: what the controller sees. Its numbers may go only where a share of them is asked.
OBSERVATION = "observation"
#: How near a plan comes to a share that is asked for, as a share of the same.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Ask:
    """Shares to remove, each in [0, 1).

    ``overall`` is of all parameters; without it nothing gives anything up but what is named. ``shares`` are those of
    components, of their own parameters, and of flows, of their units. A name is a component's, that of several
    (``critic`` for ``critic.0`` and ``critic.1``), a flow's, or ``flow`` for all flows; the more exact one holds.
    ``deployed`` stands for all that acts: a share of its parameters, as ``overall`` is one of all, while the hidden
    layers of everything else stay whole. ``within`` is how near a plan has to come; infinite where a level is only on
    the way, and may be passed over.

    Raises:
        PruningError: a share outside [0, 1), a name twice, nothing asked, or shares of all and of what acts at once.
    """

    overall: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    within: float = TOLERANCE

    def __post_init__(self) -> None:
        for _, share in (("", self.overall or 0.0), *self.shares):
            check_sparsity(share)
        names = [name for name, _ in self.shares]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise PruningError(f"the sparsity of '{twice}' is there twice: keep one")
        if self.overall is None and not names:
            raise PruningError("no sparsity is asked for: 0.9, or by component and flow as encoder=0.5,flow=0")
        if self.overall is not None and self.deployed is not None:
            raise PruningError(
                f"{self.overall:g} is asked of all parameters and {self.deployed:g} of what acts: leave one of them out"
            )

    @classmethod
    def of(cls, said: Sparsity) -> Ask:
        """What a number or a mapping says."""
        if isinstance(said, Ask):
            return said
        if not isinstance(said, Mapping):
            return cls(float(said))
        shares = {str(name): float(share) for name, share in said.items()}
        return cls(shares.pop(OVERALL, None), tuple(shares.items()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``0.9``, ``encoder=0.5,flow=0`` or ``0.9,critic=0.5`` says.

        Raises:
            PruningError: something else.
        """
        overall: float | None = None
        shares = []
        for part in text.split(","):
            name, equals, number = part.rpartition("=")
            try:
                share: float | None = float(number)
            except ValueError:
                share = None
            if share is None or bool(equals) != bool(name.strip()) or (not equals and overall is not None):
                raise PruningError(
                    f"sparsity '{text:.60}': write 0.9, or by component and flow encoder=0.5,flow=0, or both: "
                    "0.9,encoder=0.5"
                )
            if equals:
                shares.append((name.strip(), share))
            else:
                overall = share
        return cls(overall, tuple(shares))

    @property
    def figure(self) -> float:
        """One number for it: the overall share, or where there is none, the highest of the others."""
        return max(share for _, share in self.shares) if self.overall is None else self.overall

    @property
    def deployed(self) -> float | None:
        """The share of what acts, if one is asked."""
        return dict(self.shares).get(DEPLOYED)

    @property
    def observed(self) -> bool:
        """Whether numbers of the observation are to go."""
        return OBSERVATION in dict(self.shares)

    @property
    def divides(self) -> bool:
        """Whether there is a share of several components to be divided among them."""
        return self.overall is not None or self.deployed is not None

    @property
    def leaves_a_rest(self) -> bool:
        """Whether some parts have shares of their own, and others share what is left."""
        return self.divides and len(self.shares) > (self.deployed is not None)

    @property
    def leaves_all(self) -> bool:
        """Whether nothing is to go."""
        return not self.overall and not any(share for _, share in self.shares)

    def by_scope(self, graph: ComponentGraph) -> dict[str, float]:
        """The shares by component and flow, that of what acts apart.

        Raises:
            PruningError: a name that means none of them, or shares that would set groups apart that must be equally
                wide.
        """
        names = [*graph.components, *graph.flows]
        meant: dict[str, tuple[int, float]] = {}
        for said, share in self.shares:
            if said == DEPLOYED:
                continue
            found = _meant(said, graph)
            if not found and said != FLOWS:  # where nothing is coupled there is nothing to ask of it
                raise PruningError(unknown("scope", said, (*names, FLOWS, DEPLOYED, OBSERVATION)))
            for name in found:
                meant[name] = min(meant.get(name, (len(names) + 1, 0.0)), (len(found), share))
        shares = {name: meant[name][1] for name in names if name in meant}
        if self.divides:
            for tie in graph.ties:
                tied = list(dict.fromkeys(component for name in tie for component in graph.groups[name].components))
                if len({shares.get(component) for component in tied}) > 1:
                    raise PruningError(f"{', '.join(tied)} must be equally wide: name all with one share, or none")
        return shares

    def reached(self, graph: ComponentGraph) -> list[str]:
        """The components that anything is asked of."""
        return [name for name, share in self.spread(graph).shares if name in graph.components and share > 0]

    def parts(self, graph: ComponentGraph) -> list[Part]:
        """What is asked of whom, one by one, flows first, where it leaves no rest to be divided.

        Raises:
            PruningError: a name that means nothing.
        """
        if self.overall is not None:
            return [Part("", self.overall, graph.components, tuple(graph.groups))]
        if self.deployed is not None:
            touching = (name for name, group in graph.groups.items() if graph.deployed.intersection(group.components))
            return [Part(DEPLOYED, self.deployed, graph.acting, tuple(touching))]
        shares = self.by_scope(graph)
        return [
            *(Part(name, shares[name], (), (name,)) for name in graph.flows if name in shares),
            *(Part(name, shares[name], (name,), graph.own(name)) for name in graph.components if name in shares),
        ]

    def spread(self, graph: ComponentGraph) -> Ask:
        """Shares of every component and flow: where one has none of its own, that of all or, of what acts, of those."""
        shares = self.by_scope(graph)
        if self.overall is not None:
            shares = dict.fromkeys((*graph.components, *graph.flows), self.overall) | shares
        if self.deployed is not None:
            flows = [name for name in graph.flows if graph.deployed.intersection(graph.groups[name].components)]
            shares = dict.fromkeys((*graph.acting, *flows), self.deployed) | shares
        return Ask(None, tuple(shares.items()), self.within)

    def relative(self, graph: ComponentGraph, now: ComponentGraph) -> Ask:
        """The same ask, made of what is left of ``graph`` by now; as near to it as before, in parameters."""
        times = []

        def left(share: float, before: int, after: int) -> float:
            times.append(before / max(after, 1))
            return max(1 - (1 - share) * times[-1], 0.0)

        def of(scope: str | None, share: float) -> float:
            if scope in graph.flows:
                return left(share, graph.dense[scope], now.dense[scope])
            return left(share, graph.parameters(graph.dense, scope), now.parameters(now.dense, scope))

        shares = [(name, of(name, share)) for name, share in self.by_scope(graph).items()]
        if self.deployed is not None:
            acting = [one.deployed_parameters(one.dense) for one in (graph, now)]
            shares.append((DEPLOYED, left(self.deployed, *acting)))
        overall = None if self.overall is None else of(None, self.overall)
        return Ask(overall, tuple(shares), self.within * min(times, default=1.0))

    def met(self, ask: Ask, graph: ComponentGraph) -> bool:
        """Whether a share of an ask about this graph is met by now: this, `relative` to what is left, says 0 there."""
        before = {name: share for name, share in ask.by_scope(graph).items() if share > 0}
        asked = [ask.overall, *before.values(), ask.deployed]
        left = [self.overall, *map(dict(self.shares).get, before), self.deployed]
        return any(share and not now for share, now in zip(asked, left, strict=True))

    def __str__(self) -> str:
        overall = "" if self.overall is None else f"{self.overall:g}"
        return ",".join(filter(None, (overall, shares_in_words(self.shares))))


@dataclass(frozen=True)
class Part:
    """A part of a controller that gives up a share: the components whose parameters are counted, none for a flow, whose
    units are; and the groups that may be cut for it."""

    name: str
    share: float
    components: tuple[str, ...]
    groups: tuple[str, ...]

    def size(self, graph: ComponentGraph, widths: Mapping[str, int]) -> int:
        """What its share is of, when each group has the given width."""
        if not self.components:
            return widths[self.name]
        return sum(graph.parameters(widths, name) for name in self.components)


#: As a user says it: a share of all parameters, or shares by name.
Sparsity: TypeAlias = float | Mapping[str, float] | Ask


def shares_in_words(shares: Iterable[tuple[str, float]]) -> str:
    """Shares by name as `Ask.parse` reads them: ``encoder=0.5,flow=0``."""
    return ",".join(f"{name}={share:g}" for name, share in shares)


def _meant(said: str, graph: ComponentGraph) -> list[str]:
    if said in graph.components or said in graph.flows:
        return [said]
    if said == FLOWS:
        return list(graph.flows)
    if said == OBSERVATION:
        return [] if graph.observation is None else [graph.observation]
    return [name for name in graph.components if name.startswith(f"{said}.")]


def check_sparsity(sparsity: float) -> None:
    """Raise PruningError unless the sparsity lies in [0, 1)."""
    if not 0 <= sparsity < 1:
        raise PruningError(f"sparsity {sparsity:g} is outside [0, 1): it is the share of parameters to remove")


#: How the shares rise from step to step.
SCHEDULES = ("geometric", "linear")


@dataclass(frozen=True)
class Schedule:
    """In how many steps something is pruned, each with scores, a cut and a recovery of its own.

    Of a share s, k of n steps remove 1 - (1 - s)^(k/n) (``geometric``: each step removes the same share of what the one
    before left) or s k / n (``linear``).

    Raises:
        PruningError: fewer than one step, or an unknown form.
    """

    steps: int = 1
    form: str = SCHEDULES[0]

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PruningError(f"{self.steps} steps: it takes one at least")
        if self.form not in SCHEDULES:
            raise PruningError(f"unknown schedule '{self.form}'; there are {', '.join(SCHEDULES)}")

    def levels(self, ask: Ask) -> list[Ask]:
        """What is asked for by the end of each step, the last one's being ``ask`` itself. The others are on the way."""

        def at(share: float, done: float) -> float:
            return share * done if self.form == "linear" else 1 - (1 - share) ** done

        between = [number / self.steps for number in range(1, self.steps)]
        return [
            *(
                replace(
                    ask,
                    overall=None if ask.overall is None else at(ask.overall, done),
                    shares=tuple((name, at(share, done)) for name, share in ask.shares),
                    within=math.inf,
                )
                for done in between
            ),
            ask,
        ]


#: As most things are pruned.
ONCE = Schedule()
