"""What a sweep found, for people: figures, a summary table and a page, made from the store alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from prunectl.experiments.analysis import aggregates, contrasts, standings, summary
from prunectl.experiments.analysis.curves import AXES
from prunectl.experiments.analysis.findings import Findings, findings
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.tables import aligned, write_file, write_table
from prunectl.experiments.report.figures.sweep import sweep_figures
from prunectl.experiments.report.page import Picture, assemble
from prunectl.experiments.report.page.data import Table, page_data
from prunectl.experiments.stability.bounds import CONFIDENCE, TOLERATED
from prunectl.experiments.sweeping.connection import StoreError, blaming
from prunectl.experiments.sweeping.store import Store

_LEGEND = (
    "s95 is the highest sparsity at which the normalised return, along the curve made monotone (isotonic regression), "
    "is at least 0.95, with its 95% bootstrap interval; sure the highest at which it is with 95% one-sided "
    "confidence; \u2265 marks a curve that never fell. Log area is the mean height of the curve over the logarithm of "
    "what is left. Integrity is the lowest R\u00b2 among the components' outputs at half of all parameters; in means, "
    "values below 0 count as 0."
)

_SAFE = (
    " Safe is the highest deployed sparsity up to which every loop, the dense controller's first and those of all "
    f"pruning seeds, was shown at {CONFIDENCE:.0%} confidence to fail from under {TOLERATED:.0%} of starts in either "
    "check of `prunectl stability`: to settle, and its V to fall; settling asks for the first alone. \u2265 marks that "
    "all that were measured hold, none that not even the dense loop was shown to, which counts as 0 in means, - that "
    "stability was not recorded, which no mean counts. Measured, not proven."
)

_STANDINGS = (
    "Ranked by the mean s95 over all controllers, on the deployed axis; the controllers are taken as given. Sure: the "
    "mean of what each controller keeps 0.95 to with 95% one-sided confidence. Worst: the lowest s95 of any "
    "controller. Never fell, surely: controllers whose curve stays above 0.95 to the last sparsity, and surely so: "
    "their s95, or the sure one, is a lower bound. Log area: over the logarithm of what is left. Cells: those that "
    "could be computed; a method that cannot reach a sparsity is judged on those that it can. Seconds: median of "
    "plan, surgery and recovery over all pruned cells, as measured beside other workers; calibration, scores and "
    "damage, which cells share, and evaluation are not counted."
)

_AGGREGATES = (
    "Normalised returns over all tasks at each sparsity that every run reaches, values below 0 counting as 0, with "
    "95% bootstrap intervals, each task redrawn on its own (after Agarwal et al., NeurIPS 2021): its trainings, their "
    "pruning seeds, and the episodes, as far as there are several; the tasks are taken as given. A task is an "
    "algorithm on an environment, a run one training pruned with one seed. iqm: inter-quartile mean, of all runs but "
    "the best and the worst quarter. median, mean: of the tasks' means. gap: optimality gap, how far runs stay below "
    "the dense controller on average."
)

_CONTRASTS = (
    "One choice held against another, all else the same: the mean difference of the normalised returns (positive: the "
    "first keeps more; values below 0 count as 0) over the tasks of a family and the asked sparsities (of all "
    "parameters) of both, paired by training, pruning seed and episode, with its 95% bootstrap interval over what the "
    "last column says. Shares: of single components and flows, beside the overall one. p is corrected for the rows of "
    "its kind (Holm). Detectable: the least difference that these cells would show with 80% probability, uncorrected."
)

#: What the page shows of the figures, those that its own curves do not show, and what they say.
_PICTURES = {
    "leaderboard": "The leaderboard drawn. Left: s95 on the deployed axis, a dot a controller, and the mean with its "
    "95% interval. Right: seconds of plan, surgery and recovery, the median over the cells.",
    "profile": "Performance profile: the share of runs whose normalised return is above what the horizontal axis says, "
    "with 95% intervals. The dotted line is at 0.95.",
    "contrasts": "What one choice buys by itself: the difference of the normalised return with its 95% interval, by "
    "family, all else the same. Blue: the first keeps more; vermilion: less; hollow: no difference is shown, p "
    "corrected for the number of rows (Holm).",
    "improvement": "How likely a run of one method beats a run of each other method on the same task, with 95% "
    "intervals. The dashed line marks even chances.",
    "pareto": "What a controller costs and what it returns: the inter-quartile mean with its 95% interval at each "
    "sparsity, and behind it in grey the best for every cost.",
    "stability": "Normalised return and stability: a line is broad up to the safe sparsity, the highest up to which "
    "every loop was shown to settle and its V to fall.",
    "cuts": "Where the cuts went: the share of the dense controller's parameters that each component keeps.",
}


#: What a report has only where there is enough to show: what an earlier one left of it says nothing of this store.
_SOMETIMES = (
    *("aggregate", "contrasts", "cuts", "improvement", "leaderboard", "pareto", "profile"),
    *(f"{what}_{axis}" for what in ("algorithms", "overall") for axis in AXES),
)


def write_report(folder: Path) -> tuple[list[Path], str]:
    """Write figures, tables and ``report.html`` into a sweep's folder.

    Returns:
        The files, and the summary as text for the terminal.

    Raises:
        StoreError: there is no store, or nothing in it to report.
        OSError: a file cannot be written.
    """
    with blaming(folder), Store.reading(folder) as store:
        return draw_report(store, folder)


def draw_report(store: Store, folder: Path) -> tuple[list[Path], str]:
    """The same into any folder, where the record of the sweep lies; see `write_report`."""
    found = findings(store)
    if not any(read.curves for read in found.panels):
        raise StoreError(f"{folder}: no pruned controller has been measured yet: run the sweep to its end first")
    drawn = sweep_figures(found)
    written = [path for name, figure in drawn.items() for path in save(figure, folder / name)]
    safe = _SAFE if found.stable else ""
    tables = []
    if found.standings is not None:
        remark = f"{_over(found.standings)} {_STANDINGS}{safe}"
        shown = standings.readable(found.standings)
        written += write_table(found.standings, folder / "leaderboard", shown=shown, remark=remark)
        marked = found.standings.assign(s95_open=found.standings["never_fell"] > 0)  # the page's word for a lower bound
        tables.append(Table("leaderboard", "Leaderboard", marked, remark))
    parts = [table.assign(axis=axis) for axis, table in found.aggregates.items() if axis in AXES]
    if parts:
        table = pd.concat(parts, ignore_index=True)
        table["method"] = [method.label for method in table["method"]]
        written += write_table(table, folder / "aggregate", shown=aggregates.readable(table), remark=_AGGREGATES)
        tables.append(Table("aggregate", "All controllers together", table, _AGGREGATES))
    if len(found.contrasts):
        shown = contrasts.readable(found.contrasts)
        written += write_table(found.contrasts, folder / "contrasts", shown=shown, remark=_CONTRASTS)
        tables.append(Table("contrasts", "One choice alone", found.contrasts, _CONTRASTS))
    missing, shown = _missing(found), summary.readable(found.summary)
    right, remark = summary.numbers_of(shown), f"{missing}\n\n" if missing else ""
    legend = f"{_over(found.summary)} {_LEGEND}{safe}"
    written += write_table(found.summary, folder / "summary", remark=remark + legend, shown=shown, right=right)
    tables.append(Table("summary", "Summary", found.summary, legend, chosen=True))
    pictures = [
        Picture(name, (folder / f"{name}.png").read_bytes(), caption)
        for name, caption in _PICTURES.items()
        if name in drawn
    ]
    page = assemble(folder.resolve().name, page_data(found, tables, folder), pictures)
    written.append(write_file(folder / "report.html", lambda path: path.write_text(page, encoding="utf-8")))
    for name in _SOMETIMES:
        for ending in ("csv", "md", "pdf", "png"):
            if (path := folder / f"{name}.{ending}") not in written:
                path.unlink(missing_ok=True)
    return written, "\n".join(line for line in (aligned(shown, right=right), missing) if line)


def _over(table: pd.DataFrame) -> str:
    """What the intervals of a table are over, in a sentence."""
    return f"Intervals are over {' or '.join(sorted(set(table['over'].dropna())))}."


def _missing(found: Findings) -> str:
    """What a sweep that is not whole lacks, in a sentence; nothing for a whole one."""
    failed, left = int((found.results["status"] == "failed").sum()), found.planned - len(found.results)
    if not left and not failed:
        return ""
    said = f"Of {found.planned:,} cells {failed:,} failed and {left:,} have not been computed"
    return f"{said}: means are over what is there."
