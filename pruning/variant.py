"""A method as it is asked for: with shares for single components and flows, and in several steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from itertools import product

from prunectl.pruning.ask import ONCE, Schedule, shares_in_words
from prunectl.pruning.method import Method


@dataclass(frozen=True)
class Variant:
    """A method with the shares that components and flows get besides, and the steps in which it is pruned."""

    method: Method
    budgets: tuple[tuple[str, float], ...] = ()
    schedule: Schedule = ONCE

    @property
    def label(self) -> str:
        """A short name, the same everywhere."""
        return Method.recorded(self.names).label

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four names that results go by, those of the grouping and the recovery with what is set besides."""
        grouping, importance, allocation, recovery = astuple(self.method)
        steps = f"{self.schedule.steps} {self.schedule.form} steps" if self.schedule.steps > 1 else ""
        return _with(grouping, shares_in_words(self.budgets)), importance, allocation, _with(recovery, steps)


def _with(name: str, settings: str) -> str:
    return f"{name}[{settings}]" if settings else name


def variants(
    methods: Iterable[Method], budgets: Iterable[Mapping[str, float]], steps: Iterable[int], form: str
) -> tuple[Variant, ...]:
    """Every method with every budget in every number of steps, each once. Libraries' pruners know no components, and
    what removes no unit has no steps: they stand beside as they come."""
    return tuple(
        dict.fromkeys(
            Variant(
                method,
                () if method.stock else tuple(shares.items()),
                Schedule(count, form) if method.removes_units else ONCE,
            )
            for method, shares, count in product(methods, budgets, steps)
        )
    )
