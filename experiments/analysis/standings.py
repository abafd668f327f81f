"""Which pruning method keeps most over all controllers of a sweep, be it one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import AXES
from prunectl.experiments.analysis.readings import PanelReading, Reading
from prunectl.experiments.analysis.safe_sparsity import NO_WALKS, Key, Walk, mean_of
from prunectl.experiments.drawing.tables import bounded
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.pruning import Method

#: What acts is what has to fit the small machine.
AXIS = AXES[0]
#: What a cell takes besides its evaluation.
STAGES = ["plan_seconds", "surgery_seconds", "recovery_seconds"]

#: Most methods that lines in one figure are told apart of.
MOST = 10

#: A method's curves, one a controller.
Scores = Mapping[Method, Sequence[Reading]]


def scores_of(found: Sequence[PanelReading]) -> Scores:
    """The curves of every method that all controllers have, with what they keep; none without a controller.

    A controller that does not beat random actions has nothing to keep, so that it does not count.
    """
    there = [[own for own in read.curves if own.kept] for read in found]
    curves = [
        {own.curve.method: own for own in read}
        for read in there
        if not any(np.isnan(own.kept[AXIS].s95) for own in read)
    ]
    return {
        method: [own[method] for own in curves]
        for method in (curves[0] if curves else ())
        if all(method in own for own in curves)
    }


def standings(scores: Scores, results: pd.DataFrame, stable: Mapping[Key, Walk] = NO_WALKS) -> pd.DataFrame:
    """A row a method, the highest mean s95 first.

    Columns: rank, method, controllers, then ``s95`` (mean over the controllers), ``s95_median`` and ``log_area``, each
    with the ends of its 95% bootstrap interval (``_low``, ``_high``), ``sure`` (the mean of each controller's own),
    ``worst`` (the lowest s95 of any controller), ``never_fell`` and ``surely_never`` (controllers whose curve stays
    above 0.95 to the last sparsity, so that s95, or the sure one, is a lower bound), ``cells`` (that could be computed)
    and ``seconds`` (median time of plan, surgery and recovery over the pruned cells). ``over`` says what the intervals
    are over; the controllers are taken as given. Where stability was recorded, ``stable``, also ``safe``, the mean safe
    sparsity over the ``recorded`` controllers that have one (``_open``: one of them is a lower bound; a dense loop not
    shown to hold counts as 0), and ``safe_worst``, the lowest of any.
    """
    seconds = _seconds(results)
    rows = []
    for method, own in scores.items():
        kept = [reading.kept[AXIS] for reading in own]
        draws = [reading.draws for reading in own if reading.draws is not None]
        s95, areas = np.asarray([one.s95 for one in kept]), np.asarray([one.log_area for one in kept])
        s95_draws = np.asarray([drawn.s95 for drawn in draws])
        row: dict[str, object] = {"method": method.label, "controllers": len(own)}
        for name, value, drawn in (
            ("s95", s95.mean(), s95_draws.mean(axis=0)),
            ("s95_median", np.median(s95), np.median(s95_draws, axis=0)),
            ("log_area", areas.mean(), np.mean([one.log_area for one in draws], axis=0)),
        ):
            low, high = statistics.interval(drawn)
            row |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
        never, surely = sum(one.open for one in kept), sum(one.sure_open for one in kept)
        row |= {"sure": np.mean([one.sure for one in kept]), "worst": s95.min()}
        row |= {"never_fell": never, "surely_never": surely}
        cells = sum(len(reading.curve.asked) for reading in own)
        over = max((reading.curve.over for reading in own), key=len)
        if stable:
            row |= _safe([walk for key, walk in stable.items() if key[2:] == (None, method)])
        rows.append({**row, "cells": cells, "seconds": seconds[method], "over": over})
    table = pd.DataFrame(rows).sort_values(["s95", "log_area"], ascending=False, ignore_index=True)
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


def telling(table: pd.DataFrame | None, methods: Iterable[Method]) -> tuple[Method, ...]:
    """The three methods that say most beside each other: the default, else the highest; the highest with another
    grouping; and the baseline, Torch-Pruning's global pruner as it comes, else the lowest. Fewer where these are the
    same, the first three where there are no standings."""
    known = {method.label: method for method in methods}
    if table is None:
        return tuple(known.values())[:3]
    ranked = [known[str(label)] for label in table["method"]]
    first = Method() if Method() in ranked else ranked[0]
    baseline = Method.of("stock-global", recovery="none")
    last = baseline if baseline in ranked else ranked[-1]
    rivals = [method for method in ranked if method.grouping != first.grouping and method != last]
    return tuple(dict.fromkeys((first, *rivals[:1], last)))


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
            "sure": [
                bounded(value, bound=bool(count))
                for value, count in zip(table["sure"], table["surely_never"], strict=True)
            ],
            "log area": joined("log_area"),
            "worst s95": [f"{value:.2f}" for value in table["worst"]],
            "never fell": [f"{n} of {all_}" for n, all_ in table[["never_fell", "controllers"]].to_numpy()],
            "surely": [f"{n} of {all_}" for n, all_ in table[["surely_never", "controllers"]].to_numpy()],
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
