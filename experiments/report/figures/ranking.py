"""The ranking of the methods on one page."""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments.analysis.standings import AXIS, Scores
from prunectl.experiments.drawing.canvas import plain
from prunectl.experiments.drawing.style import LOOK, look


def standings_figure(scores: Scores, table: pd.DataFrame) -> Figure:
    """The ranking from top to bottom. Left: s95, a dot a controller and the mean with its interval; right: seconds."""
    methods = {method.label: method for method in scores}
    with rc_context(LOOK):
        figure = Figure(figsize=(7.2, 0.24 * len(table) + 1.3), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        for place, row in enumerate(table.to_dict("records")):
            method = methods[str(row["method"])]
            points = look(method).points | {"markersize": 4.5, "linestyle": ""}
            for marker, open_ in (("o", False), (">", True)):
                kept = [own.kept[AXIS] for own in scores[method]]
                chosen = [one.s95 for one in kept if one.open is open_]
                left.plot(chosen, [place] * len(chosen), marker, color=points["color"], alpha=0.25, ms=3.5, mew=0)
            ends = [row["s95_low"], row["s95_high"]]
            left.plot(ends, [place, place], color=points["color"], linewidth=2.4, alpha=0.6)
            left.plot(row["s95"], place, **points)
            right.plot(max(float(row["seconds"]), 1e-2), place, **points)
        left.set_yticks(range(len(table)), [plain(str(label)) for label in table["method"]])
        left.invert_yaxis()
        count = table["controllers"][0]
        small = f"small: {count} controllers; " if count > 1 else ""
        left.set_xlabel(f"s95, {AXIS} sparsity\n{small}\u25b8 never fell, so at least that")
        left.set_xlim(-0.02, 1.0)
        right.set(xlabel="seconds (median)", xscale="log")
    return figure
