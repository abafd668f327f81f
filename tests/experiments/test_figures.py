"""Every figure there is can be saved, without a warning of any kind."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from prunectl.agents.controller import Controller
from prunectl.envs.plants import plant
from prunectl.experiments.analysis.curves import panels, pooled
from prunectl.experiments.analysis.findings import findings
from prunectl.experiments.analysis.readings import read_panels
from prunectl.experiments.deploying import bytes_study, study
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.component_graph import controller_figure
from prunectl.experiments.drawing.drift_figure import drift_figure
from prunectl.experiments.paper import components, cuts, layer_graph, reward_vs_sparsity
from prunectl.experiments.report.figures.sweep import sweep_figures
from prunectl.experiments.stability import family_figures
from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.stability.lyapunov import LinearModel, Lyapunov
from prunectl.experiments.stability.measure import Candidate, Decrease, Effort, Family, Stability
from prunectl.experiments.stability.robustness import Borne, conditions
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.training.importance_drift import drift_table
from prunectl.pruning import Method, trace
from prunectl.pruning.plan import uncut
from prunectl.pruning.stock import stock_groups
from tests.conftest import ROOT, untrained
from tests.experiments.fakes import cell, episodes, outcome, subject

FULL, STOCK = Method(recovery="reconstruct"), Method("stock-global", "magnitude", "uniform", "none")


def swept(folder: Path, only: tuple[str | None, ...] = (None,)) -> Path:
    """Two algorithms on two tasks, three methods; of one controller stability was recorded."""
    held = Checks(Count(0, 100), Count(0, 100))
    with Store.writing(folder) as store:
        cells = []
        for name, algorithm, task in (("one", "ppo", "CartPole-v1"), ("two", "tdmpc", "Pendulum-v1")):
            of, starts = replace(subject(name, task), algorithm=algorithm), 100 if name == "two" else None
            checks = held if starts else None
            cells.append(cell(of, stability=starts))
            store.record(cells[-1], outcome([90.0, 110.0], task=task, checks=checks))
            for method, mean in ((FULL, 95.0), (Method(recovery="none"), 50.0), (STOCK, -300.0)):
                for sparsity in (0.5, 0.98):
                    for scope in only:
                        cells.append(cell(of, method, sparsity, only=scope, stability=starts))
                        found = outcome([mean, mean + 20 * sparsity], sparsity, sparsity, task=task, checks=checks)
                        store.record(cells[-1], found)
        store.plan(cells)
        for task in ("CartPole-v1", "Pendulum-v1"):
            store.record_random(episodes([-10.0, 10.0], task))
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Figure]:
    """Those of a sweep's report."""
    with Store.reading(swept(tmp_path_factory.mktemp("swept"))) as store:
        return sweep_figures(findings(store))


@cache
def family() -> Family:
    """A dense loop that holds, and a pruned one that does not, made up."""
    on = plant("Pendulum-v1")
    size = len(on.near)
    lyapunov = Lyapunov(on, LinearModel(0.5 * np.eye(size), np.zeros(size), 1.0), np.eye(size), 2, 0.1, 1.0)
    members = []
    for sparsity, failures in ((0.0, 0), (0.9, 30)):
        count = Count(failures, 60)
        values = np.linspace(1.0, 0.0, 12).reshape(2, 6)
        members.append(
            Stability(
                Candidate("mine", untrained("sac", "Pendulum-v1"), sparsity, sparsity),
                *(-150.0 - 1000 * sparsity, 10.0, count, Decrease(count, 1.0, 0.5, values)),
                *(np.eye(3) > sparsity, tuple(Borne(condition, -200.0, 5.0, count) for condition in conditions(on))),
            )
        )
    return Family(on, lyapunov, None, tuple(members), np.array([1.0, 0.3]), Effort(60, 3, 60))


def latencies() -> pd.DataFrame:
    rows = [(sparsity, 100.0 - 90 * sparsity, 1 - 0.1 * sparsity) for sparsity in (0.0, 0.9)]
    table = pd.DataFrame(rows, columns=["sparsity", "median_us", "normalised_return"])
    return table.assign(dense="mine", form="C -O2", low=table["normalised_return"] - 0.1, high=1.05)


def at_equal_bytes() -> pd.DataFrame:
    rows = [("pruned", 0.0, 4_000, 1.0), ("pruned", 0.9, 400, 0.9), ("scratch", 0.9, 400, 0.5)]
    table = pd.DataFrame(rows, columns=["way", "sparsity", "bytes", "normalised_return"])
    return table.assign(controller="mine", low=table["normalised_return"] - 0.1, high=1.05)


def alone(folder: Path) -> Figure:
    with Store.reading(swept(folder, ("actor", "encoder->actor,critic"))) as store:
        together = read_panels(pooled(panels(store)), 0)
    return components.components_figure([read for read in together if read.panel.task == "Pendulum-v1"])


def with_rates(folder: Path) -> Figure:
    with Store.reading(swept(folder)) as store:
        together, rates = read_panels(pooled(panels(store)), 0), store.results()
    return reward_vs_sparsity.returns_figure(together, rates.assign(decisions_per_second=100.0))


@cache
def shared() -> Controller:
    """Its components share an encoder, so that there is a flow."""
    return untrained("sac", "Pendulum-v1", widths=(8, 8), encoder=(10, 6))


def graphs(make: str) -> Figure:
    graph = trace(shared())
    stock = stock_groups(shared(), graph)
    if make == "bars":
        return layer_graph.bars_figure([("mine", graph, stock)])
    if make == "layers":
        return layer_graph.graph_figure("mine", graph, stock)
    return controller_figure("mine", graph, uncut(graph), stock)


def bars() -> Figure:
    rows = [
        {"controller": "mine", "allocation": name, "component": part, "left": 0.2, "widths": "8-8", "error": 0.1}
        for name in ("uniform", "ranked")
        for part in ("actor", "flow of encoder")
    ]
    return cuts.cuts_figure(pd.DataFrame(rows), 0.8)


def drift() -> Figure:
    measured = [{"actor": {"actor/0": [1.0, step]}, "critic": {"critic/0": [step, 1.0]}} for step in (2.0, 3.0)]
    return drift_figure(drift_table([{"step": n, "scores": {"fisher": own}} for n, own in enumerate(measured)]))


#: What makes each figure, given the figures of a report and an empty folder.
FIGURES: Mapping[str, Callable[[Mapping[str, Figure], Path], Figure]] = {
    "report.figures.ranking.standings_figure": lambda drawn, _: drawn["leaderboard"],
    "report.figures.overall.overall_figure": lambda drawn, _: drawn["overall_deployed"],
    "report.figures.overall.algorithms_figure": lambda drawn, _: drawn["algorithms_deployed"],
    "report.figures.overall.profile_figure": lambda drawn, _: drawn["profile"],
    "report.figures.overall.improvement_figure": lambda drawn, _: drawn["improvement"],
    "report.figures.overall.pareto_figure": lambda drawn, _: drawn["pareto"],
    "report.figures.forest.forest_figure": lambda drawn, _: drawn["contrasts"],
    "report.figures.returns.return_figure": lambda drawn, _: drawn["return_total"],
    "report.figures.safe_lines.stability_figure": lambda drawn, _: drawn["stability"],
    "report.figures.cut_shares.cuts_figure": lambda drawn, _: drawn["cuts"],
    "deploying.bytes_study.figure": lambda *_: bytes_study.figure(at_equal_bytes()),
    "deploying.study.figure": lambda *_: study.figure(latencies()),
    "drawing.component_graph.controller_figure": lambda *_: graphs("components"),
    "drawing.drift_figure.drift_figure": lambda *_: drift(),
    "paper.components.components_figure": lambda _, folder: alone(folder),
    "paper.cuts.cuts_figure": lambda *_: bars(),
    "paper.layer_graph.graph_figure": lambda *_: graphs("layers"),
    "paper.layer_graph.bars_figure": lambda *_: graphs("bars"),
    "paper.reward_vs_sparsity.returns_figure": lambda _, folder: with_rates(folder),
    "stability.family_figures.safe_figure": lambda *_: family_figures.safe_figure(family()),
    "stability.family_figures.decrease_figure": lambda *_: family_figures.decrease_figure(family()),
    "stability.family_figures.attraction_figure": lambda *_: family_figures.attraction_figure(family()),
    "stability.family_figures.robustness_figure": lambda *_: family_figures.robustness_figure(family()),
}


def test_no_figure_is_forgotten_here() -> None:
    found = {
        ".".join((*path.relative_to(ROOT / "experiments").with_suffix("").parts, node.name))
        for path in (ROOT / "experiments").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.returns is not None and not node.name.startswith("_")
        if ast.unparse(node.returns) in ("Figure", "Figure | None")
    }
    assert found == FIGURES.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_saved_without_a_warning(drawn: Mapping[str, Figure], tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "store").mkdir()
        pdf, png = save(FIGURES[name](drawn, tmp_path / "store"), tmp_path / "figure")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_every_figure_of_a_report_is_among_them(drawn: Mapping[str, Figure], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in drawn.items():
            save(figure, tmp_path / name)
    assert {name.partition("_")[0] for name in drawn} == {
        *(
            "contrasts",
            "leaderboard",
            "overall",
            "algorithms",
            "profile",
            "improvement",
            "pareto",
            "cuts",
            "return",
            "stability",
        ),
    }
