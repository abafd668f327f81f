"""What a sweep says over all its tasks: runs on one grid, aggregates, comparisons, costs, and how they are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunectl.experiments.analysis.aggregates import (
    Runs,
    aggregate_table,
    improvements,
    kept_parameters,
    priced,
    readable,
    redrawn_tasks,
    runs_on,
)
from prunectl.experiments.analysis.curves import panels
from prunectl.experiments.analysis.findings import findings
from prunectl.experiments.drawing.style import look
from prunectl.experiments.report.figures import (
    cuts_figure,
    improvement_figure,
    overall_figure,
    pareto_figure,
    profile_figure,
)
from prunectl.experiments.report.figures.sweep import sweep_figures
from prunectl.experiments.sweeping.cell import Cell
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, subject

STOCK = Method("stock-global", "magnitude", "uniform", "none")
FULL, LESS = Method(recovery="reconstruct"), Method(recovery="none")
OTHER = "Pendulum-v1"
#: Normalised return in percent by controller, method and asked sparsity; two trainings on the first task, one on the
#: other.
RETURNS = {
    ("one", "CartPole-v1"): {FULL: {0.5: 100, 0.8: 100}, STOCK: {0.5: 80, 0.8: 40}, LESS: {0.5: 50}},
    ("two", "CartPole-v1"): {FULL: {0.5: 100, 0.8: 60}, STOCK: {0.5: 80, 0.8: -300}, LESS: {0.5: 50}},
    ("three", OTHER): {FULL: {0.5: 120, 0.8: 90}, STOCK: {0.5: 100, 0.8: 90}},
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Random is 0 and dense 100; stock pruning takes 0.1 less from what is deployed than was asked."""
    with Store.writing(tmp_path) as store:
        cells: list[Cell] = []
        for (name, task), methods in RETURNS.items():
            of = subject(name, task)
            cells.append(cell(of))
            store.record(cells[-1], outcome([90.0, 110.0], task=task))
            for method, curve in methods.items():
                for sparsity, mean in curve.items():
                    cells.append(cell(of, method, sparsity))
                    deployed = sparsity - 0.1 * (method == STOCK)
                    store.record(cells[-1], outcome([mean - 10, mean + 10], deployed, sparsity, task=task))
        store.plan(cells)
        for task in ("CartPole-v1", OTHER):
            store.record_random(episodes([-10.0, 10.0], task))
    return tmp_path


def runs(folder: Path, axis: str) -> dict[Method, Runs]:
    with Store.reading(folder) as store:
        return runs_on(redrawn_tasks(panels(store), np.random.default_rng(0)), axis)


def test_runs_are_read_on_one_grid_as_far_as_all_of_them_reach(store: Path) -> None:
    found = runs(store, "deployed")
    assert list(found) == [FULL, STOCK]  # one task lacks the third
    assert found[FULL].sparsity.tolist() == [0.5, 0.8]
    np.testing.assert_allclose(found[FULL].values[0], [[1.0, 1.0], [1.0, 0.6]])
    np.testing.assert_allclose(found[FULL].values[1], [[1.2, 0.9]])
    # Stock stands at 0.4 and 0.7: at 0.5 it is a third of the way, and 0.8 it never reached. Below random counts as 0.
    assert found[STOCK].sparsity.tolist() == [0.5]
    np.testing.assert_allclose(found[STOCK].values[0], [[0.8 - 0.4 / 3], [0.8 - 0.8 / 3]])
    np.testing.assert_allclose(found[STOCK].values[1], [[1.0 - 0.1 / 3]])
    on_asked = runs(store, "asked")[STOCK]
    np.testing.assert_allclose(on_asked.values[0], [[0.8, 0.4], [0.8, 0.0]])
    assert on_asked.draws[0].shape == (2_000, 2, 2)


def test_a_task_whose_dense_controller_is_no_better_than_random_does_not_count(store: Path) -> None:
    with Store.reading(store) as opened:
        found = panels(opened)
    found[2] = replace(found[2], random=np.array([200.0, 220.0]))
    (full, *_) = runs_on(redrawn_tasks(found, np.random.default_rng(0)), "total").values()
    assert len(full.values) == 1


def test_runs_are_held_against_their_own_training_though_methods_have_other_seeds(tmp_path: Path) -> None:
    """Two trainings, dense 100 and 200; one method has one and two pruning seeds, the other two and one."""
    seeds = {("one", FULL): 1, ("two", FULL): 2, ("one", LESS): 2, ("two", LESS): 1}
    with Store.writing(tmp_path) as store:
        cells: list[Cell] = []
        for name, top in (("one", 100.0), ("two", 200.0)):
            cells.append(cell(subject(name)))
            store.record(cells[-1], outcome([top, top]))
            for method in (FULL, LESS):
                for seed in range(seeds[name, method]):
                    cells.append(cell(subject(name), method, 0.5, seed))
                    store.record(cells[-1], outcome([top, top], 0.5, 0.5))
        store.plan(cells)
        store.record_random(episodes([0.0, 0.0]))
    for own in runs(tmp_path, "total").values():
        assert [task.tolist() for task in own.values] == [[[1.0]] * 3]
        np.testing.assert_array_equal(own.draws[0], 1.0)


def test_what_comes_before_the_first_sparsity_lies_between_it_and_the_dense_controller(store: Path) -> None:
    with Store.reading(store) as opened:
        found = panels(opened)
        curves = tuple(
            replace(curve, asked=np.array([0.2, 0.8])) if curve.method == STOCK else curve for curve in found[2].curves
        )
    tasks = redrawn_tasks([replace(found[2], curves=curves)], np.random.default_rng(0))
    alone = runs_on(tasks, "deployed")[STOCK]
    np.testing.assert_allclose(alone.sparsity, [0.2, 0.5])
    np.testing.assert_allclose(alone.values[0], [[1.0, 1.0 - 0.1 / 3]])


def test_aggregates_are_worked_out_by_hand(store: Path) -> None:
    table = aggregate_table(runs(store, "asked"))
    row = table[(table["method"] == STOCK) & (table["sparsity"] == 0.8)].iloc[0]
    assert (row["tasks"], row["runs"]) == (2, 3)
    assert row["mean"] == row["median"] == pytest.approx((0.2 + 0.9) / 2)
    assert row["iqm"] == pytest.approx(1.3 / 3)  # three runs: no whole quarter goes
    assert row["gap"] == pytest.approx(1 - 0.55)
    assert (row["mean_low"], row["mean_high"]) == pytest.approx((0.45, 0.65), abs=0.02)  # 0, 0.2, 0.4 of the first task
    shown = readable(table.assign(axis="asked"))
    assert shown["gap"].iloc[3].startswith("0.45 [")


def test_improvements_compare_at_one_sparsity_those_that_reach_it(store: Path) -> None:
    table = improvements(runs(store, "asked"), FULL, 0.8)
    assert list(table["method"]) == [STOCK]
    assert table["probability"][0] == pytest.approx((1.0 + 0.5) / 2)  # won on the first task, a draw on the other
    assert improvements(runs(store, "deployed"), FULL, 0.8).empty


def test_methods_are_redrawn_alike(store: Path) -> None:
    found = runs(store, "asked")
    for full, stock in zip(found[FULL].draws, found[STOCK].draws, strict=True):
        # Where the second training was drawn for one method, it was for the other.
        np.testing.assert_array_equal(full[..., 1] < 0.8, (stock[..., 1] < 0.2) & (len(full[0]) == 2))


def test_costs_are_shares_of_the_dense_controllers(store: Path) -> None:
    with Store.reading(store) as opened:
        table = priced(aggregate_table(runs(store, "asked")), opened.results(), "params_deployed")
    assert table[table["method"] == FULL]["cost"].tolist() == pytest.approx([0.5, 0.2])
    assert table[table["method"] == STOCK]["cost"].tolist() == pytest.approx([0.6, 0.3])


def test_the_cuts_are_where_the_store_says(store: Path) -> None:
    with Store.reading(store) as opened:
        table = kept_parameters(opened.results(), 0.8, [FULL, STOCK])
    kept = table.set_index(["cut", "component"])["kept"]
    assert kept["component + surgeon", "actor"] == pytest.approx(0.1)
    assert (kept["stock-global", "actor"], kept["stock-global", "value"]) == pytest.approx((0.15, 0.05))
    assert set(table["controllers"]) == {3}
    figure = cuts_figure(table, 0.8)
    (axes,) = figure.axes
    widths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    # A bar a cut, actor then value, then the dense controller scaled to what is left.
    assert widths == pytest.approx([0.1, 0.1, 0.15, 0.05, 0.1, 0.1])


def test_figures_say_what_the_tables_say(store: Path) -> None:
    asked = runs(store, "asked")
    table = aggregate_table(asked)
    figure = overall_figure(table, "total")
    top, bottom = figure.axes
    for axes, name in ((top, "iqm"), (bottom, "mean")):
        for method in asked:
            own = table[table["method"] == method]
            (line,) = [
                line
                for line in axes.lines
                if line.get_color() == look(method).colour and line.get_marker() == look(method).marker
            ]
            assert list(line.get_xdata()) == [0.5, 0.8]
            assert list(line.get_ydata()) == pytest.approx(list(own[name]))
    assert top.get_title() == "3 runs on 2 tasks"
    profile = profile_figure(asked, 0.8, "total").axes[0].lines[0]
    share = dict(zip(np.round(profile.get_xdata(), 3), profile.get_ydata(), strict=True))
    assert [share[at] for at in (0.5, 0.7, 0.95, 1.05)] == pytest.approx([1.0, 0.75, 0.25, 0.0])
    forest = improvement_figure(improvements(asked, FULL, 0.8), FULL, 0.8, "total").axes[0]
    assert [label.get_text() for label in forest.get_yticklabels()] == [STOCK.label]
    assert forest.lines[1].get_xdata()[0] == pytest.approx(0.75)  # type: ignore[index]


def test_each_algorithm_has_a_panel_of_its_own_tasks_and_methods(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as opened:
        cells = []
        for algorithm, methods in {"ppo": {FULL: 90, STOCK: 50}, "sac": {FULL: 70}, "td3": {LESS: 60}}.items():
            of = replace(subject(algorithm), algorithm=algorithm)
            cells.append(cell(of))
            opened.record(cells[-1], outcome([100.0, 100.0]))
            for method, mean in methods.items():
                cells.append(cell(of, method, 0.5))
                opened.record(cells[-1], outcome([mean, mean], 0.5, 0.5))
        opened.plan(cells)
        opened.record_random(episodes([0.0, 0.0]))
        found = findings(opened)
    figure = sweep_figures(found)["algorithms_deployed"]
    assert "algorithms_total" not in sweep_figures(replace(found, shown=frozenset([STOCK])))  # one alone has it
    shown = {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(shown) == ["PPO: 1 run on 1 task", "SAC: 1 run on 1 task", "TD3: 1 run on 1 task"]
    heights = {title[:3]: [line.get_ydata()[-1] for line in axes.lines[:-2:2]] for title, axes in shown.items()}  # type: ignore[index]
    # What is named stands where its line ends, from the highest down.
    assert [text.get_text() for text in shown["PPO: 1 run on 1 task"].texts] == [
        "component\n+ surgeon + reconstruct",
        "stock-global",
    ]
    assert heights == {"PPO": pytest.approx([0.9, 0.5]), "SAC": pytest.approx([0.7]), "TD3": pytest.approx([0.6])}
    places = [axes.transData.transform((x, 0))[0] for axes in shown.values() for x in (0.0, 0.5, 0.75, 0.875)]
    assert np.diff(places[:4]) == pytest.approx([places[1] - places[0]] * 3)  # equal steps halve what is left
    assert all(axes.get_xlim() == figure.axes[0].get_xlim() for axes in shown.values())


def test_the_best_for_every_cost_is_a_staircase() -> None:
    rows = {"cost": [0.1, 0.2, 0.3, 0.4], "iqm": [0.5, 0.9, 0.7, 1.0], "tasks": 1, "runs": 1, "method": FULL}
    table = pd.DataFrame(rows).assign(iqm_low=0.0, iqm_high=1.0)
    (axes,) = pareto_figure(table, "parameters").axes
    front = axes.lines[-1]
    assert list(front.get_xdata()) == [0.1, 0.2, 0.4, 1.0]
    assert list(front.get_ydata()) == [0.5, 0.9, 1.0, 1.0]


def drawn(store: Path, *shown: Method) -> set[str]:
    with Store.reading(store) as opened:
        figures = sweep_figures(replace(findings(opened), shown=frozenset(shown)))
    return {name.partition("_")[0] for name in figures}


def test_a_sweep_draws_what_its_store_allows(store: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    everything = {"contrasts", "leaderboard", "overall", "profile", "improvement", "pareto", "cuts", "return"}
    assert drawn(store, FULL, STOCK) == everything
    assert drawn(store, FULL) == everything  # shown alone, compared with all
    assert drawn(store, LESS) == {"contrasts", "leaderboard", "cuts", "return"}  # one task lacks it
    halfway = tmp_path_factory.mktemp("halfway")
    with Store.writing(halfway) as opened:
        cells = [cell(subject("one")), cell(subject("two")), cell(subject("one"), STOCK, 0.9)]
        opened.plan(cells)
        opened.record(cells[2], outcome([50.0, 60.0], 0.5, 0.9))
        assert sweep_figures(findings(opened)).keys() == {"cuts", "return_deployed", "return_total"}
        opened.record(cells[0], outcome([90.0, 110.0]))
        opened.record(cells[1], outcome([90.0, 110.0]))
        opened.record_random(episodes([0.0, 0.0]))
        found = findings(opened)
    # Nobody reaches 0.9 of what is deployed; the second controller, with no cell yet, is no task yet.
    assert found.aggregates.keys() == {"total", "asked"}
    assert drawn(halfway, STOCK) == {"overall", "pareto", "cuts", "return"}
