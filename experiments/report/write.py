"""What a sweep found, for people: figures, a summary table and a page, made from the store alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunectl.agents.files import replacing
from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import readable as read_aggregates
from prunectl.experiments.analysis.curves import AXES, Curve, Panel, normalised_draws, panels, score_on
from prunectl.experiments.analysis.safe_sparsity import NO_WALKS, Key, Walk, as_columns, walks
from prunectl.experiments.analysis.standings import leading, readable, scores_of, standings, standings_figure
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.report import figures
from prunectl.experiments.report.figures.sweep import sweep_figures
from prunectl.experiments.report.page import Picture, assemble
from prunectl.experiments.report.page.data import Table, page_data
from prunectl.experiments.stability.bounds import CONFIDENCE, TOLERATED
from prunectl.experiments.sweeping.store import Store, StoreError

#: Sparsity at which integrity is quoted.
HALF = 0.5
#: Seed of the bootstrap, so that the same store gives the same report.
SEED = 0

_LEGEND = (
    "s95 is the highest sparsity up to which the normalised return stays at or above 0.95, with its 95% bootstrap "
    "interval; \u2265 marks a curve that never fell. Area is the mean height of the normalised curve. Integrity is the "
    "lowest R\u00b2 among the components' outputs at half of all parameters; in means, values below 0 count as 0."
)

_SAFE = (
    " Safe is the highest deployed sparsity up to which every loop, the dense controller's first and those of all "
    f"pruning seeds, was shown at {CONFIDENCE:.0%} confidence to fail from under {TOLERATED:.0%} of starts in either "
    "check of `prunectl stability`: to settle, and its V to fall; settling asks for the first alone. \u2265 marks that "
    "all that were measured hold, none that not even the dense loop was shown to, which counts as 0 in means, - that "
    "stability was not recorded, which no mean counts. Measured, not proven."
)

_STANDINGS = (
    "Ranked by the mean s95 over all controllers, on the deployed axis; intervals are 95% bootstrap over episodes and "
    "pruning seeds, the controllers taken as given. Worst: the lowest s95 of any controller. Never fell: controllers "
    "whose curve stays above 0.95 to the last sparsity, so that their s95 is a lower bound. Cells: those that could be "
    "computed; a method that cannot reach a sparsity is judged on those that it can. Seconds: median of plan, surgery "
    "and recovery over all pruned cells, as measured beside other workers; calibration, scores and damage, which cells "
    "share, and evaluation are not counted."
)

_AGGREGATES = (
    "Normalised returns over all tasks at each sparsity that every run reaches, values below 0 counting as 0, with 95% "
    "stratified bootstrap intervals over runs and episodes (Agarwal et al., NeurIPS 2021), the tasks taken as given. A "
    "task is an algorithm on an environment, a run one training pruned with one seed. iqm: inter-quartile mean, of all "
    "runs but the best and the worst quarter. median, mean: of the tasks' means. gap: optimality gap, how far runs stay"
    " below the dense controller on average."
)

#: What the page shows of the figures, those that its own curves do not show, and what they say.
_PICTURES = {
    "leaderboard": "The leaderboard drawn. Left: s95 on the deployed axis, a dot a controller, and the mean with its "
    "95% interval. Right: seconds of plan, surgery and recovery, the median over the cells.",
    "profile": "Performance profile: the share of runs whose normalised return is above what the horizontal axis says, "
    "with 95% intervals. The dotted line is at 0.95.",
    "improvement": "How likely a run of one method beats a run of each other method on the same task, with 95% "
    "intervals. The dashed line marks even chances.",
    "pareto": "What a controller costs and what it returns: the inter-quartile mean with its 95% interval at each "
    "sparsity, and behind it in grey the best for every cost.",
    "stability": "Normalised return and stability: a line is broad up to the safe sparsity, the highest up to which "
    "every loop was shown to settle and its V to fall.",
    "cuts": "Where the cuts went: the share of the dense controller's parameters that each component keeps.",
}


def write_report(folder: Path) -> tuple[list[Path], str]:
    """Write figures, tables and ``report.html`` into a sweep's folder.

    Returns:
        The files, and the summary as text for the terminal.

    Raises:
        StoreError: there is no store, or nothing in it to report.
        OSError: a file cannot be written.
    """
    with Store.reading(folder) as store:
        return draw_report(store, folder)


def draw_report(store: Store, folder: Path) -> tuple[list[Path], str]:
    """The same into any folder, where the record of the sweep lies; see `write_report`."""
    found = panels(store)
    results, returns, planned = store.results(), store.episode_returns(), store.planned()
    if not any(panel.curves for panel in found):
        raise StoreError(f"{folder}: no pruned controller has been measured yet: run the sweep to its end first")
    failed = results[results["status"] == "failed"]
    stable = walks(results)
    summary = summarise(found, stable)
    legend = _LEGEND + (_SAFE if stable else "")
    written: list[Path] = []
    tables = []
    whole = [panel for panel in found if panel.only is None]
    scores = scores_of(whole, SEED)
    ranked = standings(scores, results, stable) if len(scores) > 1 else None
    few = leading(ranked, figures.methods_of(found))
    drawn, aggregates = sweep_figures(found, results, few, SEED)
    if ranked is not None:
        drawn = {"leaderboard": standings_figure(scores, ranked), **drawn}
        remark = _STANDINGS + (_SAFE if stable else "")
        written += write_table(ranked, folder / "leaderboard", shown=readable(ranked), remark=remark)
        tables.append(Table("leaderboard", "Leaderboard", ranked, remark))
    shown = [replace(panel, curves=tuple(c for c in panel.curves if c.method in few)) for panel in found]
    if (figure := figures.stability_figure(shown, stable, _generator())) is not None:
        drawn["stability"] = figure
    for name, figure in drawn.items():
        written += figures.save(figure, folder / name)
    if len(aggregates):
        read = read_aggregates(aggregates)
        written += write_table(aggregates, folder / "aggregate", shown=read, remark=_AGGREGATES)
        tables.append(Table("aggregate", "All controllers together", aggregates, _AGGREGATES))
    tables.append(Table("summary", "Summary", summary, legend, chosen=True))
    pictures = [
        Picture(name, (folder / f"{name}.png").read_bytes(), caption)
        for name, caption in _PICTURES.items()
        if name in drawn
    ]
    missing = _missing(planned, len(results), len(failed))
    with replacing(folder / "summary.csv") as temporary:
        summary.to_csv(temporary, index=False)
    with replacing(folder / "summary.md") as temporary:
        temporary.write_text(f"{as_markdown(summary)}\n\n{missing}{legend}\n", encoding="utf-8")
    title = folder.resolve().name
    data = page_data(results, returns, planned, found, tables, folder, SEED)
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(assemble(title, data, pictures), encoding="utf-8")
    text = "\n".join(line for line in (as_text(summary), missing.strip()) if line)
    return [*written, *(folder / name for name in ("summary.csv", "summary.md", "report.html"))], text


def summarise(found: Sequence[Panel], stable: Mapping[Key, Walk] = NO_WALKS) -> pd.DataFrame:
    """A row a controller and method, then one a method with the means over its controllers ("mean of 15").

    Columns: controller, task, method, s95_AXIS with its 95% interval (``_low``, ``_high``) and whether the curve never
    fell (``_open``; in the means, whether one of them did not), area_AXIS, for both axes, and integrity_half (in the
    means, values below 0 count as 0). Where stability was recorded, ``stable``, also those of `as_columns`; where
    components were pruned alone, ``only``, each of them with means of its own.
    """
    generator = _generator()
    alone = ["only"] if any(panel.only is not None for panel in found) else []
    rows = [(panel, curve) for panel in found for curve in panel.curves]
    table = pd.DataFrame(
        [
            _identity(panel, curve, alone)
            | _row(panel, curve, generator, _safety(panel, curve, stable) if stable else {})
            for panel, curve in rows
        ]
    )
    if stable:
        table["stability_starts"] = table["stability_starts"].astype("Int64")
    if len({(panel.controller, panel.task) for panel in found}) < 2:
        return table
    numbers = [name for name in map(str, table) if name.startswith(("s95_", "safe_", "settling_", "area_", "integr"))]
    plain = [name for name in numbers if not name.endswith(("_low", "_high", "_open"))]
    floored = table.assign(integrity_half=table["integrity_half"].clip(lower=0.0))
    for name in (name for name in plain if name.startswith(("safe_", "settling_"))):
        floored[name] = floored[name].where(floored[name].notna() | floored["stability_starts"].isna(), 0.0)
    groups = floored.groupby([*alone, "method"], sort=False, dropna=False)
    means = groups[plain].mean().reset_index()
    for name in (name for name in numbers if name.endswith("_open")):  # the mean over lower bounds is one too
        means[name] = groups[name].any().to_numpy()
    means.insert(0, "controller", [f"mean of {count}" for count in groups.size()])
    return pd.concat([table, means], ignore_index=True)


def as_text(summary: pd.DataFrame) -> str:
    """The summary in aligned columns."""
    rows = _rows(summary)
    texts = rows[0].index("method") + 1
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:texts], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[texts:], widths[texts:], strict=True)]
        lines.append("  ".join([*left, *right]))
    return "\n".join(lines)


def as_markdown(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    header, *rows = _rows(summary)
    texts = header.index("method") + 1
    lines = [header, ["---"] * texts + ["---:"] * (len(header) - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _identity(panel: Panel, curve: Curve, alone: Sequence[str]) -> dict[str, object]:
    only = dict.fromkeys(alone, panel.only)
    return {"controller": panel.controller, "task": panel.task, **only, "method": curve.method.label}


def _safety(panel: Panel, curve: Curve, stable: Mapping[Key, Walk]) -> dict[str, object]:
    return as_columns(stable.get((panel.controller, panel.task, panel.only, curve.method)))


def _row(panel: Panel, curve: Curve, generator: np.random.Generator, safety: Mapping[str, object]) -> dict[str, object]:
    """``safety`` comes after the s95 of the axis that it is on, the first."""
    row: dict[str, object] = {}
    normalised = normalised_draws(panel, curve, generator)
    for axis in AXES:
        names = [f"s95_{axis}", f"s95_{axis}_low", f"s95_{axis}_high"]
        if normalised is None:
            row |= dict.fromkeys([*names, f"area_{axis}"], np.nan) | {f"s95_{axis}_open": False}
        else:
            score = score_on(curve, axis, *normalised)
            low, high = statistics.interval(score.s95_draws)
            row |= dict(zip(names, (score.s95, float(low), float(high)), strict=True))
            row[f"s95_{axis}_open"] = score.open
            row[f"area_{axis}"] = score.area
        if axis == AXES[0]:
            row |= safety
    row["integrity_half"] = float(np.interp(HALF, [0.0, *curve.asked], [1.0, *curve.integrity], right=np.nan))
    return row


def _rows(summary: pd.DataFrame) -> list[list[str]]:
    """Header and rows as text, for every form of the table."""
    texts = [name for name in ("controller", "only", "method") if name in summary]
    safe = ["safe", "settling"] if "stability_starts" in summary else []
    header = [*texts]
    for axis in AXES:
        header += [f"s95 {axis}", f"area {axis}", *(f"{what} {axis}" for what in safe if axis == AXES[0])]
    header += [f"integrity at {HALF:g}"]
    rows = [header]
    for record in summary.to_dict("records"):
        cells = ["-" if pd.isna(record[name]) else str(record[name]) for name in texts]
        for axis in AXES:
            cells += [_bounded(record, f"s95_{axis}"), _number(record[f"area_{axis}"])]
            cells += [_safe_text(record, f"{what}_{axis}") for what in safe if axis == AXES[0]]
        rows.append([*cells, _number(record["integrity_half"])])
    return rows


def _safe_text(record: Mapping[Hashable, Any], name: str) -> str:
    none = pd.isna(record[name]) and pd.notna(record["stability_starts"])
    return "none" if none else _bounded(record, name)


def _bounded(record: Mapping[Hashable, Any], name: str) -> str:
    text = ("\u2265 " if record[f"{name}_open"] is True else "") + _number(record[name])
    if pd.isna(record.get(f"{name}_low")):
        return text
    return f"{text} [{_number(record[f'{name}_low'])}, {_number(record[f'{name}_high'])}]"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value >= -10 else "< -10"


def _missing(planned: int, known: int, failed: int) -> str:
    """What a sweep that is not whole lacks, as a line of its own; nothing for a whole one."""
    left = planned - known
    if not left and not failed:
        return ""
    return (
        f"Of {planned:,} cells {failed:,} failed and {left:,} have not been computed: means are over what is there.\n\n"
    )


def _generator() -> np.random.Generator:
    return np.random.default_rng(SEED)
