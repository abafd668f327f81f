"""Which pruning method keeps most over all controllers of a sweep, be it one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import Panel, Score, normalised_draws, score_on
from prunectl.experiments.analysis.safe_sparsity import NO_WALKS, Key, Walk, mean_of
from prunectl.experiments.drawing.tables import bounded
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.pruning import Method

#: What acts is what has to fit the small machine.
AXIS = "deployed"
#: What a cell takes besides its evaluation.
STAGES = ["plan_seconds", "surgery_seconds", "recovery_seconds"]

#: Most methods that lines in one figure are told apart of.
MOST = 10

#: A method's scores, one a controller.
Scores = Mapping[Method, Sequence[Score]]


def scores_of(found: Sequence[Panel], seed: int) -> Scores:
    """The scores of every method that all controllers have, on the deployed axis; none without a controller.

    The methods of one controller are resampled alike, so that what an episode adds to all of them does not blur their
    difference.
    """
    curves = [{curve.method: curve for curve in panel.curves} for panel in found]
    scores: dict[Method, list[Score]] = {}
    for method in curves[0] if curves else ():
        drawn = [
            normalised_draws(panel, own[method], np.random.default_rng([seed, number]))
            for number, (panel, own) in enumerate(zip(found, curves, strict=True))
            if method in own
        ]
        whole = [values for values in drawn if values is not None]
        if len(whole) == len(found):
            scores[method] = [score_on(own[method], AXIS, *values) for own, values in zip(curves, whole, strict=True)]
    return scores


def standings(scores: Scores, results: pd.DataFrame, stable: Mapping[Key, Walk] = NO_WALKS) -> pd.DataFrame:
    """A row a method, the highest mean s95 first.

    Columns: rank, method, controllers, then ``s95`` (mean over the controllers), ``s95_median`` and ``area``, each with
    the ends of its 95% bootstrap interval (``_low``, ``_high``), ``worst`` (the lowest s95 of any controller),
    ``never_fell`` (controllers whose curve stays above 0.95 to the last sparsity: s95 is a lower bound), ``cells``
    (that could be computed) and ``seconds`` (median time of plan, surgery and recovery over the pruned cells).
    Intervals are over episodes and pruning seeds; the controllers are taken as given. Where stability was recorded,
    ``stable``, also ``safe``, the mean safe sparsity over the ``recorded`` controllers that have one (``_open``: one of
    them is a lower bound; a dense loop not shown to hold counts as 0), and ``safe_worst``, the lowest of any.
    """
    seconds = _seconds(results)
    rows = []
    for method, own in scores.items():
        s95, areas = np.asarray([score.s95 for score in own]), np.asarray([score.area for score in own])
        s95_draws = np.asarray([score.s95_draws for score in own])
        row: dict[str, object] = {"method": method.label, "controllers": len(own)}
        for name, value, draws in (
            ("s95", s95.mean(), s95_draws.mean(axis=0)),
            ("s95_median", np.median(s95), np.median(s95_draws, axis=0)),
            ("area", areas.mean(), np.mean([score.area_draws for score in own], axis=0)),
        ):
            low, high = statistics.interval(draws)
            row |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
        never = sum(score.open for score in own)
        cells = sum(score.points for score in own)
        row |= {"worst": s95.min(), "never_fell": never}
        if stable:
            row |= _safe([walk for key, walk in stable.items() if key[2:] == (None, method)])
        rows.append({**row, "cells": cells, "seconds": seconds[method]})
    table = pd.DataFrame(rows).sort_values(["s95", "area"], ascending=False, ignore_index=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    return table


def _safe(own: Sequence[Walk]) -> dict[str, object]:
    safe = [walk.safe for walk in own]
    worst = min((sparsity or 0.0 for sparsity in safe), default=float("nan"))
    bounds = any(all(walk.holds) for walk in own)
    return {"safe": mean_of(safe), "safe_open": bounds, "safe_worst": worst, "recorded": len(own)}


def leading(table: pd.DataFrame | None, methods: Iterable[Method]) -> set[Method]:
    """Those of the methods that a figure of lines has room for: all, or where there are standings, the highest of each
    grouping and recovery."""
    known = {method.label: method for method in methods}
    if table is None or len(known) <= MOST:
        return set(known.values())
    first: dict[tuple[str, str], Method] = {}
    for label in table["method"]:
        method = known[str(label)]
        first.setdefault((method.grouping, method.recovery), method)
    return set(first.values())


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The standings with each number and its interval in one cell."""

    def joined(name: str, opened: Sequence[bool] = ()) -> list[str]:
        columns = (table[column] for column in (name, f"{name}_low", f"{name}_high"))
        return [bounded(*row) for row in zip(*columns, opened or [False] * len(table), strict=True)]

    shown = pd.DataFrame(
        {
            "rank": table["rank"],
            "method": table["method"],
            "s95, mean": joined("s95", [bool(count) for count in table["never_fell"]]),
            "s95, median": joined("s95_median"),
            "area": joined("area"),
            "worst s95": [f"{value:.2f}" for value in table["worst"]],
            "never fell": [f"{n} of {all_}" for n, all_ in table[["never_fell", "controllers"]].to_numpy()],
            "cells": [f"{n} of {table['cells'].max()}" for n in table["cells"]],
            "seconds": [f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in table["seconds"]],
        }
    )
    if "safe" in table:
        worst = [f"{value:.2f}" for value in table["safe_worst"]]
        shown.insert(3, "worst safe", ["-" if text == "nan" else text for text in worst])
        shown.insert(3, "safe, mean", [_mean_safe(*row) for row in table[["safe", "safe_open", "recorded"]].to_numpy()])
    return shown


def _mean_safe(value: float, bound: bool, of: int) -> str:
    return f"{bounded(value, bound=bound)} of {of}" if of else "-"


def _seconds(results: pd.DataFrame) -> dict[Method, float]:
    pruned = results[(results["status"] == "done") & results["grouping"].notna()]
    groups = pruned.groupby(METHOD, sort=False)
    return {Method.recorded(list(map(str, names))): float(rows[STAGES].sum(axis=1).median()) for names, rows in groups}
