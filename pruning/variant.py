"""A method as it is asked for: with shares for single components and flows, and in several steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from itertools import product

from prunectl.pruning.ask import ONCE, Schedule, shares_in_words
from prunectl.pruning.method import Method


@dataclass(frozen=True)
class Variant:
    """A method with the shares that components and flows get besides, the steps in which it is pruned, and the steps
    that a recovery which looks at the task may take (`Budget`; None: as many as it takes by itself)."""

    method: Method
    budgets: tuple[tuple[str, float], ...] = ()
    schedule: Schedule = ONCE
    recovery_budget: int | None = None

    @property
    def label(self) -> str:
        """A short name, the same everywhere."""
        return Method.recorded(self.names).label

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The four names that results go by, those of the grouping and the recovery with what is set besides."""
        grouping, importance, allocation, recovery = astuple(self.method)
        steps = [f"{self.schedule.steps} {self.schedule.form} steps"] if self.schedule.steps > 1 else []
        budget = [] if self.recovery_budget is None else [f"budget {self.recovery_budget}"]
        settings = ", ".join(steps + budget)
        return _with(grouping, shares_in_words(self.budgets)), importance, allocation, _with(recovery, settings)


def _with(name: str, settings: str) -> str:
    return f"{name}[{settings}]" if settings else name


def variants(
    methods: Iterable[Method],
    budgets: Iterable[Mapping[str, float]],
    steps: Iterable[int],
    form: str,
    recovery_budget: int | None = None,
) -> tuple[Variant, ...]:
    """Every method with every budget in every number of steps, each once. Libraries' pruners know no components, what
    removes no unit has no steps, and recoveries that do not look at the task no budget: they stand beside as they
    come."""
    return tuple(
        dict.fromkeys(
            Variant(
                method,
                () if method.stock else tuple(shares.items()),
                Schedule(count, form) if method.removes_units else ONCE,
                recovery_budget if recovery_budget is not None and method.looks_at_task else None,
            )
            for method, shares, count in product(methods, budgets, steps)
        )
    )
