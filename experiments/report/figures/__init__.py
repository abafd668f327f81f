"""Figures: small functions from data and axes to what is drawn, and the figures that they make up."""

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
from prunectl.experiments.report.figures.returns import draw_returns, methods_of, return_figure
from prunectl.experiments.report.figures.safe_lines import stability_figure

__all__ = [
    "algorithms_figure",
    "cuts_figure",
    "draw_returns",
    "forest_figure",
    "improvement_figure",
    "methods_of",
    "overall_figure",
    "pareto_figure",
    "profile_figure",
    "return_figure",
    "stability_figure",
    "standings_figure",
]
