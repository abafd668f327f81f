"""How long one decision takes in every form of a controller, dense and pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from prunectl.experiments.bench.timing import Section, judged
from prunectl.experiments.bench.untrained import pruned
from prunectl.experiments.deploying.latency import RATES, Contender, contender, decision_times, with_task

CONTROLLERS, SPARSITY = ("sac-reacher-1", "tdmpc-pendulum-1"), 0.9
#: A pruned 256-256 actor at `SPARSITY` against the dense one, in C as most would compile it.
AT_LEAST, IN = 4.0, ("sac-reacher-1", "C -O2")
_FORMATS = {
    "sparsity": ".3f",
    "parameters": ",",
    "median_us": ",.2f",
    "p99_us": ",.2f",
    "times_faster": ".2f",
    "rate_hz": ",.0f",
}
_REMARK = (
    "Microseconds of wall clock at batch 1, over observations that the controller visits, in turns; C is timed in C "
    "(fast: -march=native -ffast-math). times_faster: than the first controller in the same form. rate_hz: what the "
    f"99th percentile allows; holds: the highest of {', '.join(map(str, RATES))} Hz below it. For a world model, plan "
    "is its planner, and the other forms are its policy alone."
)


def measure(quick: bool) -> list[Section]:
    """A table a bundled controller, dense and of the widths that pruning leaves."""
    sections = []
    for name in CONTROLLERS:
        dense = contender(*with_task(name))
        controller = pruned(dense.controller, SPARSITY)
        left = controller.parameters(deployed=True) / dense.controller.parameters(deployed=True)
        small = replace(dense, name=f"{name}, pruned", controller=controller, sparsity=1 - left)
        table = _timed([dense, small], quick)
        held = [
            judged(faster, AT_LEAST if (one, form) == (f"{IN[0]}, pruned", IN[1]) else None)
            for one, form, faster in zip(table["controller"], table["form"], table["times_faster"], strict=True)
        ]
        sections.append(_section(name, table.assign(**pd.DataFrame(held))))
    return sections


def of(references: Sequence[str], quick: bool) -> list[Section]:
    """One table of these checkpoints, each against the first.

    Raises:
        ControllerError: no such checkpoint, one that names no task, or no gcc or ONNX Runtime here.
    """
    return [_section("latency", _timed([contender(*with_task(reference)) for reference in references], quick))]


def _timed(contenders: Sequence[Contender], quick: bool) -> pd.DataFrame:
    return decision_times(contenders, rounds=3 if quick else 30)


def _section(title: str, table: pd.DataFrame) -> Section:
    return Section(title, table, _FORMATS, _REMARK)
