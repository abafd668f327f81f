"""All figures of a sweep that are drawn from its store alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from matplotlib.figure import Figure

from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import improvements, kept_parameters, priced
from prunectl.experiments.analysis.curves import AXES
from prunectl.experiments.analysis.findings import Findings
from prunectl.experiments.report.figures.cut_shares import cuts_figure
from prunectl.experiments.report.figures.forest import forest_figure
from prunectl.experiments.report.figures.overall import (
    algorithms_figure,
    improvement_figure,
    overall_figure,
    pareto_figure,
    profile_figure,
)
from prunectl.experiments.report.figures.ranking import standings_figure
from prunectl.experiments.report.figures.returns import return_figure
from prunectl.experiments.report.figures.safe_lines import stability_figure
from prunectl.pruning import Method

#: Sparsity at which methods are compared; the nearest one that the sweep has.
AT = 0.9


def sweep_figures(found: Findings) -> dict[str, Figure]:
    """Every figure by name.

    Figures of lines show the methods `Findings.shown`. What aggregates over controllers needs more than one, and what
    they all have.
    """
    panels = [
        replace(read, curves=tuple(own for own in read.curves if own.curve.method in found.shown))
        for read in found.panels
    ]
    few = {axis: table for axis, all_ in found.aggregates.items() if len(table := found.shown_in(all_))}
    drawn: dict[str, Figure] = {}
    if len(found.contrasts):
        drawn["contrasts"] = forest_figure(found.contrasts)
    if found.standings is not None:
        drawn["leaderboard"] = standings_figure(found.scores, found.standings)
    if len(found.whole) > 1:
        drawn |= {f"overall_{axis}": overall_figure(few[axis], axis) for axis in AXES if axis in few}
        drawn |= _algorithms(found)
        drawn |= _comparisons(found)
        if "asked" in few:
            drawn["pareto"] = pareto_figure(
                priced(few["asked"], found.results, "params_deployed"), "deployed parameters"
            )
    asked = [asked for read in panels if read.panel.only is None for own in read.curves for asked in own.curve.asked]
    if asked:
        at = _nearest(asked)
        drawn["cuts"] = cuts_figure(kept_parameters(found.results, at, found.shown), at)
    drawn |= {f"return_{axis}": return_figure(panels, axis) for axis in AXES}
    if (figure := stability_figure(panels, found.stable)) is not None:
        drawn["stability"] = figure
    return drawn


def _algorithms(found: Findings) -> dict[str, Figure]:
    """The same a panel an algorithm, on each axis on which several have something to show."""
    drawn = {}
    for axis in AXES:
        of_algorithm = {name: tables[axis] for name, tables in found.by_algorithm.items() if axis in tables}
        few = {name: table for name, all_ in of_algorithm.items() if len(table := found.shown_in(all_))}
        if len(few) > 1:
            drawn[f"algorithms_{axis}"] = algorithms_figure(few, axis, found.telling)
    return drawn


def _comparisons(found: Findings) -> dict[str, Figure]:
    """At one sparsity, of the methods that reach it: the performance profiles, and the default method (else the best)
    against each other."""
    runs, shown = found.runs[AXES[0]], found.shown
    reached = Counter(sparsity for own in runs.values() for sparsity in own.sparsity)
    compared = {s for method, own in runs.items() if method in shown for s in own.sparsity if reached[s] > 1}
    if not compared:
        return {}
    at = _nearest(compared)
    there = {method: own for method, own in runs.items() if at in own.sparsity}
    drawn = {"profile": profile_figure({m: own for m, own in there.items() if m in shown}, at, AXES[0])}
    ours = Method() if Method() in there else max(there, key=lambda m: float(statistics.iqm(there[m].at(at).values)[0]))
    return drawn | {"improvement": improvement_figure(improvements(there, ours, at), ours, at, AXES[0])}


def _nearest(sparsities: Collection[float]) -> float:
    return min(sparsities, key=lambda sparsity: abs(sparsity - AT))
