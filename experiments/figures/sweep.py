"""All figures of a sweep that are drawn from its store alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import statistics
from experiments.aggregates import Runs, aggregate_table, improvements, kept_parameters, priced, runs_of
from experiments.curves import AXES, Panel
from experiments.figures.cuts import cuts_figure
from experiments.figures.overall import improvement_figure, overall_figure, pareto_figure, profile_figure
from experiments.figures.returns import return_figure
from pruning import Method

#: Sparsity at which methods are compared; the nearest one that the sweep has.
AT = 0.9


def sweep_figures(
    found: Sequence[Panel], results: pd.DataFrame, shown: Collection[Method], seed: int
) -> tuple[dict[str, Figure], pd.DataFrame]:
    """Every figure by name, and the aggregates that they show: an `aggregate_table` of all methods for each of `AXES`.

    Figures of lines show the methods ``shown``; what aggregates over controllers needs more than one.
    """
    whole = [panel for panel in found if panel.only is None]
    runs = {axis: runs_of(whole, axis, np.random.default_rng(seed)) for axis in (*AXES, "asked")}
    tables = {axis: aggregate_table(of) for axis, of in runs.items() if of}
    drawn: dict[str, Figure] = {}
    if len(whole) > 1 and tables:
        for axis in AXES:
            drawn[f"overall_{axis}"] = overall_figure(tables[axis][tables[axis]["method"].isin(shown)], axis)
        drawn |= _comparisons(runs[AXES[0]], shown)
        few = {method: own for method, own in runs["asked"].items() if method in shown}
        drawn["pareto"] = pareto_figure(priced(few, results, "params_deployed"), "deployed parameters")
    if whole:
        asked = _nearest([asked for panel in whole for curve in panel.curves for asked in curve.asked])
        drawn["cuts"] = cuts_figure(kept_parameters(results, asked, shown), asked)
    for axis in AXES:
        panels = [replace(panel, curves=tuple(c for c in panel.curves if c.method in shown)) for panel in found]
        drawn[f"return_{axis}"] = return_figure(panels, axis, np.random.default_rng(seed))
    parts = [tables[axis].assign(axis=axis) for axis in AXES if axis in tables]
    aggregates = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method"])
    return drawn, aggregates.assign(method=[method.label for method in aggregates["method"]])


def _comparisons(runs: Mapping[Method, Runs], shown: Collection[Method]) -> dict[str, Figure]:
    """At one sparsity: the performance profiles, and the default method (else the best) against each other."""
    at = _nearest([sparsity for own in runs.values() for sparsity in own.sparsity])
    there = {method: own for method, own in runs.items() if at in own.sparsity}
    drawn = {"profile": profile_figure({m: own for m, own in there.items() if m in shown}, at, AXES[0])}
    ours = Method() if Method() in there else max(there, key=lambda m: float(statistics.iqm(there[m].at(at).values)[0]))
    if len(there) > 1:
        drawn["improvement"] = improvement_figure(improvements(there, ours, at), ours, at, AXES[0])
    return drawn


def _nearest(sparsities: Sequence[float]) -> float:
    return min(sparsities, key=lambda sparsity: abs(sparsity - AT))
