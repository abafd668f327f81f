"""A sweep curve by curve: how far one may prune each controller with each method."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from prunectl.experiments.analysis.curves import AXES, Panel
from prunectl.experiments.analysis.readings import NOTHING, PanelReading, Reading
from prunectl.experiments.analysis.safe_sparsity import NO_WALKS, Key, Walk, as_columns
from prunectl.experiments.drawing.tables import bounded, number

#: Sparsity at which integrity is quoted.
HALF = 0.5


def summarise(found: Sequence[PanelReading], stable: Mapping[Key, Walk] = NO_WALKS) -> pd.DataFrame:
    """A row a controller and method, then one a method with the means over its controllers ("mean of 15").

    Columns: controller, task, method; for both axes s95_AXIS with its 95% interval (``_low``, ``_high``), and
    s95_AXIS_sure, the highest sparsity that keeps 0.95 with 95% one-sided confidence; whether either is a lower bound
    since the curve never fell (``_open``; in the means, whether one of them is), and log_area_AXIS; integrity_half (in
    the means, values below 0 count as 0); and over, what the intervals are over. Where stability was recorded,
    ``stable``, also those of `as_columns`; where components were pruned alone, ``only``, each of them with means of its
    own.
    """
    panels = [reading.panel for reading in found]
    alone = ["only"] if any(panel.only is not None for panel in panels) else []
    table = pd.DataFrame(
        [
            _identity(read.panel, own, alone) | _row(own, _safety(read.panel, own, stable) if stable else {})
            for read in found
            for own in read.curves
        ]
    )
    if stable:
        table["stability_starts"] = table["stability_starts"].astype("Int64")
    if len({(panel.controller, panel.task) for panel in panels}) < 2:
        return table
    numbers = [
        name for name in map(str, table) if name.startswith(("s95_", "safe_", "settling_", "log_area_", "integr"))
    ]
    plain = [name for name in numbers if not name.endswith(("_low", "_high", "_open"))]
    floored = table.assign(integrity_half=table["integrity_half"].clip(lower=0.0))
    for name in (name for name in plain if name.startswith(("safe_", "settling_"))):
        floored[name] = floored[name].where(floored[name].notna() | floored["stability_starts"].isna(), 0.0)
    groups = floored.groupby([*alone, "method"], sort=False, dropna=False)
    means = groups[plain].mean().reset_index()
    for name in (name for name in numbers if name.endswith("_open")):  # the mean over lower bounds is one too
        means[name] = groups[name].any().to_numpy()
    # A controller that does not beat random actions keeps nothing that could be averaged.
    means.insert(0, "controller", [f"mean of {count}" for count in groups[f"s95_{AXES[0]}"].count()])
    return pd.concat([table, means], ignore_index=True)


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as texts, each number with its interval in one cell."""
    names = [name for name in ("controller", "only", "method") if name in summary]
    safe = ("safe", "settling") if "stability_starts" in summary else ()
    rows = []
    for record in summary.to_dict("records"):
        row = {name: "-" if pd.isna(record[name]) else str(record[name]) for name in names}
        for axis in AXES:
            row |= {
                f"s95 {axis}": _bounded(record, f"s95_{axis}"),
                f"sure {axis}": _bounded(record, f"s95_{axis}_sure"),
            }
            row[f"log area {axis}"] = number(record[f"log_area_{axis}"])
            row |= {f"{what} {axis}": _safe_text(record, f"{what}_{axis}") for what in safe if axis == AXES[0]}
        rows.append({**row, f"integrity at {HALF:g}": number(record["integrity_half"])})
    return pd.DataFrame(rows)


def numbers_of(shown: pd.DataFrame) -> list[str]:
    """The columns of a `readable` summary whose texts are numbers."""
    names = list(map(str, shown))
    return names[names.index("method") + 1 :]


def _identity(panel: Panel, own: Reading, alone: Sequence[str]) -> dict[str, object]:
    only = dict.fromkeys(alone, panel.only)
    return {"controller": panel.controller, "task": panel.task, **only, "method": own.curve.method.label}


def _safety(panel: Panel, own: Reading, stable: Mapping[Key, Walk]) -> dict[str, object]:
    return as_columns(stable.get((panel.controller, panel.task, panel.only, own.curve.method)))


def _row(own: Reading, safety: Mapping[str, object]) -> dict[str, object]:
    """``safety`` comes after the s95 of the axis that it is on, the first."""
    row: dict[str, object] = {}
    for axis in AXES:
        name, kept = f"s95_{axis}", own.kept.get(axis, NOTHING)
        row |= {name: kept.s95, f"{name}_low": kept.low, f"{name}_high": kept.high, f"{name}_open": kept.open}
        row |= {f"{name}_sure": kept.sure, f"{name}_sure_open": kept.sure_open, f"log_area_{axis}": kept.log_area}
        if axis == AXES[0]:
            row |= safety
    asked, integrity = own.curve.asked, own.curve.integrity
    row["integrity_half"] = float(np.interp(HALF, [0.0, *asked], [1.0, *integrity], right=np.nan))
    return row | {"over": own.curve.over}


def _safe_text(record: Mapping[Hashable, Any], name: str) -> str:
    none = pd.isna(record[name]) and pd.notna(record["stability_starts"])
    return "none" if none else _bounded(record, name)


def _bounded(record: Mapping[Hashable, Any], name: str) -> str:
    low, high = (record.get(f"{name}_{end}", np.nan) for end in ("low", "high"))
    return bounded(record[name], low, high, record[f"{name}_open"] is True)
