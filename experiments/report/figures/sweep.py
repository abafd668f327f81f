"""All figures of a sweep that are drawn from its store alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import (
    Runs,
    aggregate_table,
    improvements,
    kept_parameters,
    priced,
    runs_of,
)
from prunectl.experiments.analysis.curves import AXES, Panel
from prunectl.experiments.report.figures.cuts import cuts_figure
from prunectl.experiments.report.figures.overall import (
    algorithms_figure,
    improvement_figure,
    overall_figure,
    pareto_figure,
    profile_figure,
)
from prunectl.experiments.report.figures.returns import return_figure
from prunectl.pruning import Method

#: Sparsity at which methods are compared; the nearest one that the sweep has.
AT = 0.9


def sweep_figures(
    found: Sequence[Panel], results: pd.DataFrame, shown: Collection[Method], seed: int
) -> tuple[dict[str, Figure], pd.DataFrame]:
    """Every figure by name, and the aggregates that they show: an `aggregate_table` of all methods for each of `AXES`.

    Figures of lines show the methods ``shown``. What aggregates over controllers needs more than one, and what they all
    have.
    """
    panels = [replace(panel, curves=tuple(c for c in panel.curves if c.method in shown)) for panel in found]
    whole = [panel for panel in found if panel.only is None]
    runs = {axis: runs_of(whole, axis, np.random.default_rng(seed)) for axis in (*AXES, "asked")}
    few = {axis: {method: own for method, own in of.items() if method in shown} for axis, of in runs.items()}
    drawn: dict[str, Figure] = {}
    if len(whole) > 1:
        drawn |= {f"overall_{axis}": overall_figure(aggregate_table(few[axis]), axis) for axis in AXES if few[axis]}
        drawn |= _algorithms(whole, shown, seed)
        drawn |= _comparisons(runs[AXES[0]], shown)
        if few["asked"]:
            drawn["pareto"] = pareto_figure(priced(few["asked"], results, "params_deployed"), "deployed parameters")
    asked = [asked for panel in panels if panel.only is None for curve in panel.curves for asked in curve.asked]
    if asked:
        at = _nearest(asked)
        drawn["cuts"] = cuts_figure(kept_parameters(results, at, shown), at)
    for axis in AXES:
        drawn[f"return_{axis}"] = return_figure(panels, axis, np.random.default_rng(seed))
    parts = [aggregate_table(runs[axis]).assign(axis=axis) for axis in AXES if runs[axis]]
    aggregates = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method"])
    return drawn, aggregates.assign(method=[method.label for method in aggregates["method"]])


def _algorithms(whole: Sequence[Panel], shown: Collection[Method], seed: int) -> dict[str, Figure]:
    """The same a panel an algorithm, on each axis on which several have something to show."""
    drawn = {}
    for axis in AXES:
        tables = {}
        for algorithm in dict.fromkeys(panel.algorithm for panel in whole):
            own = [panel for panel in whole if panel.algorithm == algorithm]
            runs = runs_of(own, axis, np.random.default_rng(seed))
            if few := {method: found for method, found in runs.items() if method in shown}:
                tables[algorithm] = aggregate_table(few)
        if len(tables) > 1:
            drawn[f"algorithms_{axis}"] = algorithms_figure(tables, axis)
    return drawn


def _comparisons(runs: Mapping[Method, Runs], shown: Collection[Method]) -> dict[str, Figure]:
    """At one sparsity, of the methods that reach it: the performance profiles, and the default method (else the best)
    against each other."""
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
