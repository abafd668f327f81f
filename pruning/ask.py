"""What is asked for: a share of all parameters, shares of components and flows besides, and in how many steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph

#: The key of a mapping under which the share of all parameters stands, and the name that means every flow.
OVERALL, FLOWS = "overall", "flow"


@dataclass(frozen=True)
class Ask:
    """Shares to remove, each in [0, 1).

    ``overall`` is of all parameters; without it nothing gives anything up but what is named. ``shares`` are those of
    components, of their own parameters, and of flows, of their units. A name is a component's, that of several
    (``critic`` for ``critic.0`` and ``critic.1``), a flow's, or ``flow`` for all flows; the more exact one holds.

    Raises:
        PruningError: a share outside [0, 1), a name twice, or nothing asked.
    """

    overall: float | None = None
    shares: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for _, share in (("", self.overall or 0.0), *self.shares):
            check_sparsity(share)
        names = [name for name, _ in self.shares]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise PruningError(f"the sparsity of '{twice}' is there twice: keep one")
        if self.overall is None and not names:
            raise PruningError("no sparsity is asked for: 0.9, or by component and flow as encoder=0.5,flow=0")

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
    def leaves_all(self) -> bool:
        """Whether nothing is to go."""
        return not self.overall and not any(share for _, share in self.shares)

    def by_scope(self, graph: ComponentGraph) -> dict[str, float]:
        """The shares by component and flow.

        Raises:
            PruningError: a name that means none of them, or shares that would set groups apart that must be equally
                wide.
        """
        names = [*graph.components, *graph.flows]
        meant: dict[str, tuple[int, float]] = {}
        for said, share in self.shares:
            found = _meant(said, graph)
            if not found and said != FLOWS:  # where nothing is coupled there is nothing to ask of it
                raise PruningError(f"unknown scope '{said}': there are {', '.join(names)}")
            for name in found:
                meant[name] = min(meant.get(name, (len(names) + 1, 0.0)), (len(found), share))
        shares = {name: meant[name][1] for name in names if name in meant}
        if self.overall is not None:
            for tie in graph.ties:
                tied = list(dict.fromkeys(component for name in tie for component in graph.groups[name].components))
                if len({shares.get(component) for component in tied}) > 1:
                    raise PruningError(f"{', '.join(tied)} must be equally wide: name all with one share, or none")
        return shares

    def relative(self, graph: ComponentGraph, now: ComponentGraph) -> Ask:
        """The same ask, made of what is left of ``graph`` by now."""

        def left(share: float, before: int, after: int) -> float:
            return max(1 - (1 - share) * before / max(after, 1), 0.0)

        def of(scope: str | None, share: float) -> float:
            if scope in graph.flows:
                return left(share, graph.dense[scope], now.dense[scope])
            return left(share, graph.parameters(graph.dense, scope), now.parameters(now.dense, scope))

        shares = tuple((name, of(name, share)) for name, share in self.by_scope(graph).items())
        return Ask(None if self.overall is None else of(None, self.overall), shares)

    def __str__(self) -> str:
        overall = "" if self.overall is None else f"{self.overall:g}"
        return ",".join(filter(None, (overall, shares_in_words(self.shares))))


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
        """What is asked for by the end of each step, the last one's being ``ask`` itself."""

        def at(share: float, done: float) -> float:
            return share * done if self.form == "linear" else 1 - (1 - share) ** done

        between = [number / self.steps for number in range(1, self.steps)]
        return [
            *(
                replace(
                    ask,
                    overall=None if ask.overall is None else at(ask.overall, done),
                    shares=tuple((name, at(share, done)) for name, share in ask.shares),
                )
                for done in between
            ),
            ask,
        ]


#: As most things are pruned.
ONCE = Schedule()
