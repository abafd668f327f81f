"""The algebra of units during tracing: which indices of which axes belong to one another.

Every axis of a value is a run of parts. A part stands for some units of a *space*, each of which takes the same number
of consecutive indices there: a channel is one index of a convolution's output and a run of height x width indices once
that is flattened. Joining two parts makes their spaces one, with units as coarse as both need; a reshape makes units
coarser; a space that is taken apart has children. What cannot keep its units is frozen: it is never pruned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import gcd, prod

from prunectl.pruning.errors import PruningError


@dataclass(eq=False)
class Space:
    """Units that leave together or not at all. Merged spaces point to the one that stands for all of them."""

    units: int
    order: int
    fixed: bool = False
    #: The rows of a batch, which nothing may mix.
    batch: bool = False
    merged: Space | None = None
    #: What it was taken apart into, and how many of its units each had then.
    children: tuple[tuple[Space, int], ...] = ()
    producers: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)

    def root(self) -> Space:
        """The space that stands for it."""
        return self if self.merged is None else self.merged.root()


@dataclass(frozen=True)
class Part:
    """``width`` consecutive indices: the units of a space, ``width / units`` indices each; fixed if it is None."""

    space: Space | None
    width: int


#: One axis of a value.
Parts = tuple[Part, ...]


class Spaces:
    """All spaces of one tracing, and what may be done to them."""

    def __init__(self) -> None:
        self.all: list[Space] = []

    def new(self, units: int, fixed: bool = False, batch: bool = False) -> Space:
        """A space of its own."""
        self.all.append(Space(units, len(self.all), fixed, batch))
        return self.all[-1]

    def axis(self, units: int) -> Parts:
        """An axis that is a space of its own."""
        return (Part(self.new(units), units),)

    @staticmethod
    def resolve(parts: Iterable[Part]) -> list[Part]:
        """The parts by the spaces that stand for them now, fixed neighbours joined."""
        found: list[Part] = []
        for part in parts:
            space = None if part.space is None else part.space.root()
            if space is not None and space.children:
                total = sum(units for _, units in space.children)
                found += Spaces.resolve(Part(child, part.width * units // total) for child, units in space.children)
            elif space is None and found and found[-1].space is None:
                found[-1] = Part(None, found[-1].width + part.width)
            elif part.width:
                found.append(Part(space, part.width))
        return found

    def spaces(self, parts: Iterable[Part]) -> list[Space]:
        """The spaces on an axis, each once."""
        return list(dict.fromkeys(part.space for part in self.resolve(parts) if part.space is not None))

    def free(self, parts: Iterable[Part]) -> bool:
        """Whether an axis holds units that might still be pruned, or the rows of a batch."""
        return any(not space.fixed for space in self.spaces(parts))

    def freeze(self, parts: Iterable[Part], where: str) -> None:
        """None of these units is ever pruned."""
        for space in self.spaces(parts):
            if space.batch:
                raise PruningError(f"'{where}' mixes the rows of a batch")
            space.fixed = True

    def coarsen(self, parts: Iterable[Part], block: int, where: str) -> None:
        """Units become whole runs of ``block`` indices, counted from the axis' begin; frozen where that cannot be."""
        start = 0
        for part in self.resolve(parts):
            if part.space is not None:
                if start % block or part.width % block:
                    self.freeze([part], where)
                else:
                    self._regroup(part.space, gcd(part.space.units, part.width // block), where)
            start += part.width

    def unify(self, one: Parts, two: Parts, where: str) -> None:
        """The two axes, as wide as each other, lose the same indices."""
        if width(one) != width(two):
            raise PruningError(f"'{where}' joins values whose units do not line up: {width(one)} and {width(two)}")
        # Cutting a space apart may cut others that it stands for, so both are looked at anew until nothing changes.
        while (cuts := _edges(self.resolve(one)) ^ _edges(self.resolve(two))) and self._cut(one, two, cuts, where):
            pass
        left, right = self.resolve(one), self.resolve(two)
        while left and right:
            a, b = left.pop(0), right.pop(0)
            if a.width == b.width:
                self._merge(a, b, where)
            else:  # something fixed runs on beside units, or something that could not be taken apart
                self.freeze([a, b], where)
                shorter = min(a.width, b.width)
                rest, queue = (a, left) if a.width > b.width else (b, right)
                queue.insert(0, Part(None, rest.width - shorter))

    def slice(self, parts: Parts, start: int, stop: int) -> Parts:
        """So much of an axis, its units frozen before."""
        found, position = [], 0
        for part in self.resolve(parts):
            taken = min(stop, position + part.width) - max(start, position)
            if taken == part.width:
                found.append(part)
            elif taken > 0:
                found.append(Part(None, taken))
            position += part.width
        return tuple(found)

    def chunks(self, parts: Parts, count: int, where: str) -> list[Parts]:
        """As many equal runs of an axis, which lose the same units, so that they stay equal."""
        size = -(-width(parts) // count)
        if width(parts) % count:
            self.freeze(parts, where)
        edges = {size * number for number in range(1, count)}
        while (missing := edges - _edges(self.resolve(parts))) and self._cut(parts, (), missing, where):
            pass
        total = width(parts)
        runs = [self.slice(parts, start, min(start + size, total)) for start in range(0, total, size)]
        for run in runs[1:] if total % count == 0 else ():
            self.unify(runs[0], run, where)
        return runs

    def reshape(self, axes: Sequence[Parts], shape: Sequence[int], where: str) -> list[Parts]:
        """The axes of a value that is read in the same order as another shape."""
        found: list[Parts] = []
        given = list(axes)
        wanted = list(shape)
        while given or wanted:
            taken, made = [given.pop(0)] if given else [], [wanted.pop(0)] if wanted else []
            while (have := prod(map(width, taken))) != (ask := prod(made)):
                if have < ask:
                    taken.append(given.pop(0))
                else:
                    made.append(wanted.pop(0))
            whole = taken[0] if taken else (Part(None, 1),)
            for axis in taken[1:]:
                whole = self._product(whole, axis, where)
            for number, size in enumerate(made[:-1]):
                first, whole = self._factors(whole, size, prod(made[number + 1 :]), where)
                found.append(first)
            found += [whole] if made else []
        return found

    # Steps of the above

    def _product(self, outer: Parts, inner: Parts, where: str) -> Parts:
        """Two axes read as one, the last running fastest."""
        if width(outer) == 1:
            return inner
        if not self.free(inner):
            return tuple(Part(part.space, part.width * width(inner)) for part in self.resolve(outer))
        if not self.free(outer):
            return tuple(self.resolve(inner * width(outer)))
        self.freeze(inner, where)
        return self._product(outer, (Part(None, width(inner)),), where)

    def _factors(self, parts: Parts, outer: int, inner: int, where: str) -> tuple[Parts, Parts]:
        """One axis read as two. Units go to the outer one, as whole runs of the inner, but where the axis repeats."""
        if inner == 1:
            return parts, (Part(None, 1),)
        if outer == 1:
            return (Part(None, 1),), parts
        resolved = self.resolve(parts)
        period, rest = divmod(len(resolved), outer)
        if not rest and len(resolved) > 1 and resolved == resolved[:period] * outer:
            return (Part(None, outer),), tuple(resolved[:period])
        self.coarsen(parts, inner, where)
        resolved = self.resolve(parts)
        if any(part.width % inner for part in resolved):
            self.freeze(parts, where)
            return (Part(None, outer),), (Part(None, inner),)
        return tuple(Part(part.space, part.width // inner) for part in resolved), (Part(None, inner),)

    def _regroup(self, space: Space, units: int, where: str) -> None:
        if units != space.units and space.batch:
            raise PruningError(f"'{where}' mixes the rows of a batch")
        space.units = units

    def _merge(self, left: Part, right: Part, where: str) -> None:
        if left.space is None or right.space is None:
            self.freeze([left, right], where)
            return
        if left.space.batch != right.space.batch:
            raise PruningError(f"'{where}' mixes the rows of a batch")
        keep, gone = sorted((left.space.root(), right.space.root()), key=lambda space: space.order)
        self._regroup(keep, gcd(keep.units, gone.units), where)
        if keep is not gone:
            gone.merged = keep
            keep.fixed = keep.fixed or gone.fixed
            keep.producers += [p for p in gone.producers if p not in keep.producers]
            keep.consumers += [c for c in gone.consumers if c not in keep.consumers]

    def _cut(self, one: Parts, two: Parts, cuts: set[int], where: str) -> bool:
        """Take apart one space that a cut runs through; False if none could be, what is in the way frozen."""
        for parts in (one, two):
            start = 0
            for part in self.resolve(parts):
                inside = sorted(cut - start for cut in cuts if start < cut < start + part.width)
                if inside and part.space is not None:
                    size = part.width // part.space.units
                    if any(cut % size for cut in inside) or part.space.batch:
                        self.freeze([part], where)
                    elif not part.space.fixed:
                        self._split(part.space, [cut // size for cut in inside])
                        return True
                start += part.width
        return False

    def _split(self, space: Space, at: list[int]) -> None:
        bounds = [0, *at, space.units]
        children = []
        for start, stop in itertools.pairwise(bounds):
            child = self.new(stop - start, space.fixed)
            child.producers, child.consumers = list(space.producers), list(space.consumers)
            children.append((child, stop - start))
        space.children = tuple(children)


def width(parts: Iterable[Part]) -> int:
    """Number of indices of an axis."""
    return sum(part.width for part in parts)


def _edges(parts: Sequence[Part]) -> set[int]:
    edges, position = set(), 0
    for part in parts[:-1]:
        position += part.width
        edges.add(position)
    return edges
