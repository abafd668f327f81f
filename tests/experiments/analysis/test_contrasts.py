"""What one choice buys by itself, worked out by hand from made-up cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import redrawn_tasks
from prunectl.experiments.analysis.contrasts import contrast_table, readable
from prunectl.experiments.analysis.curves import Panel, panels
from prunectl.experiments.drawing.style import BLUE, REFERENCE, VERMILLION
from prunectl.experiments.report.figures.forest import forest_figure
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, subject

STOCK, BARE = Method.of("stock-global", recovery="none"), Method(recovery="none")
OURS, FULL = Method(importance="magnitude", recovery="none"), Method(recovery="reconstruct")
KEPT = Method.recorded(["component[flow=0]", "surgeon", "uniform", "none"])
#: Normalised return in percent by controller, method and sparsity. Two trainings of PPO, one of SAC.
RETURNS: Mapping[str, Mapping[Method, Mapping[float, float]]] = {
    "ppo-1": {STOCK: {0.5: 40, 0.8: 20}, OURS: {0.5: 60, 0.8: -50}, BARE: {0.5: 50, 0.8: 50}, FULL: {0.5: 90}},
    "ppo-2": {STOCK: {0.5: 50, 0.8: 30}, OURS: {0.5: 70, 0.8: 60}, BARE: {0.5: 50, 0.8: 50}, FULL: {0.5: 90}},
    "sac-1": {STOCK: {0.5: 90, 0.8: 90}, OURS: {0.5: 70, 0.8: 70}, BARE: {0.5: 70, 0.8: 70}, KEPT: {0.5: 70}},
}


def contrasted(found: Sequence[Panel], results: pd.DataFrame) -> pd.DataFrame:
    return contrast_table(redrawn_tasks(found, np.random.default_rng(0)), found, results, 0)


def written(folder: Path) -> pd.DataFrame:
    with Store.writing(folder) as store:
        cells = []
        for name, methods in RETURNS.items():
            of = replace(subject(name), algorithm=name[:3])
            cells.append(cell(of))
            store.record(cells[-1], outcome([90.0, 110.0]))
            for method, curve in methods.items():
                for sparsity, mean in curve.items():
                    cells.append(cell(of, method, sparsity))
                    store.record(cells[-1], outcome([mean - 10, mean + 10], sparsity, sparsity))
        store.plan(cells)
        store.record_random(episodes([-10.0, 10.0]))
        return contrasted(panels(store), store.results())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return written(tmp_path_factory.mktemp("contrasts"))


def row(table: pd.DataFrame, *names: str) -> pd.Series:
    (one,) = table[(table[["kind", "ours", "theirs", "beside", "family"]] == list(names)).all(axis=1)].to_dict(
        "records"
    )
    return pd.Series(one)


def test_only_what_differs_in_one_choice_is_held_against_each_other(table: pd.DataFrame) -> None:
    assert set(table[["kind", "ours", "theirs", "beside"]].itertuples(index=False, name=None)) == {
        ("grouping", "component", "stock-global", "none"),  # by magnitude: not the surgeon's
        ("importance", "surgeon", "magnitude", "none"),
        ("recovery", "reconstruct", "none", ""),  # of the surgeon's cut
        ("shares", "", "flow=0", "none"),
    }


def test_differences_are_worked_out_by_hand(table: pd.DataFrame) -> None:
    ppo = row(table, "grouping", "component", "stock-global", "none", "ppo")
    # The first training keeps 0.6 and 0 (below random) against 0.4 and 0.2, the second 0.7 and 0.6 against 0.5 and 0.3.
    assert ppo["difference"] == pytest.approx((0.2 - 0.2 + 0.2 + 0.3) / 4)
    assert (ppo["low"], ppo["high"]) == pytest.approx((0.0, 0.25), abs=0.01)  # one training twice, or the other
    assert (ppo["tasks"], ppo["runs"], ppo["over"]) == (1, 2, "trainings and episodes")
    sac = row(table, "grouping", "component", "stock-global", "none", "sac")
    assert sac["difference"] == sac["low"] == sac["high"] == pytest.approx(-0.2)  # episodes differ alike: paired
    assert sac["detectable"] == pytest.approx(0.0, abs=1e-9)
    both = row(table, "grouping", "component", "stock-global", "none", "all")
    assert both["difference"] == pytest.approx((0.125 - 0.2) / 2)  # every task alike
    assert row(table, "recovery", "reconstruct", "none", "", "ppo")["difference"] == pytest.approx(0.4)  # at 0.5 alone
    assert "all" not in set(table[table["kind"] == "recovery"]["family"])


def test_p_values_are_corrected_for_the_rows_of_their_kind(table: pd.DataFrame) -> None:
    # Of the three rows of groupings SAC's is the surest: three times 2 / 2001.
    assert row(table, "grouping", "component", "stock-global", "none", "sac")["p"] == pytest.approx(6 / 2001)
    assert row(table, "shares", "", "flow=0", "none", "sac")["p"] == 1.0  # no difference at all


def test_other_components_are_another_family(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        cells = []
        for name in ("plain", "shared"):
            for method, mean in ((None, 100.0), (BARE, 50.0), (FULL, 90.0)):
                cells.append(cell(subject(name), method, 0.0 if method is None else 0.5))
                store.record(cells[-1], outcome([mean, mean], 0.5 * (method is not None)))
        store.plan(cells)
        store.record_random(episodes([0.0, 0.0]))
        results = store.results()
        shared = results["controller"] == "shared"
        results.loc[shared, "components"] = results.loc[shared, "components"].str.replace(
            '{"actor', '{"encoder": {}, "actor'
        )
        table = contrasted(panels(store), results)
    assert table["family"].tolist() == ["ppo", "ppo, encoder", "all"]


def test_the_forest_shows_what_the_table_says(table: pd.DataFrame) -> None:
    figure = forest_figure(table)
    shown = {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(shown) == [
        "component \N{MINUS SIGN} stock-global\nno recovery",
        "surgeon \N{MINUS SIGN} magnitude\nno recovery",
        "reconstruct \N{MINUS SIGN} none",
        "as the rest \N{MINUS SIGN} flow=0\nno recovery",
    ]
    axes = next(iter(shown.values()))
    points = [line for line in axes.lines if line.get_marker() in "oD"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([0.125, -0.2, -0.0375])  # type: ignore[index]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["PPO", "SAC", "all tasks"]
    colours = [to_hex(line.get_color()).upper() for line in points]
    assert colours[:2] == [REFERENCE, VERMILLION]  # of two trainings one shows nothing
    assert points[0].get_markerfacecolor() == "white"
    recovery = shown["reconstruct \N{MINUS SIGN} none"]
    assert to_hex(recovery.lines[0].get_color()).upper() == BLUE


def test_contrasts_are_read_in_a_table(table: pd.DataFrame) -> None:
    shown = readable(table)
    assert shown["difference"].iloc[1] == "-0.200 [-0.200, -0.200]"
    assert shown[shown["kind"] == "shares"]["ours"].tolist() == ["as the rest"]
    assert shown[shown["kind"] == "recovery"]["beside"].tolist() == ["-"]


def test_runs_that_failed_elsewhere_are_not_paired_with_each_other(tmp_path: Path) -> None:
    """Three trainings of two pruning seeds, on which one method keeps 5 more in every cell; each method lacks another
    run."""
    lacking = {FULL: ("ppo-1", 0), BARE: ("ppo-3", 0)}
    with Store.writing(tmp_path) as store:
        cells = []
        for number in (1, 2, 3):
            of = replace(subject(f"ppo-{number}"), algorithm="ppo")
            cells.append(cell(of))
            store.record(cells[-1], outcome([100.0, 100.0]))
            for method, more in ((FULL, 5), (BARE, 0)):
                for seed in (0, 1):
                    if lacking[method] != (of.controller, seed):
                        cells.append(cell(of, method, 0.5, seed))
                        store.record(cells[-1], outcome([30.0 * number + more] * 2, 0.5, 0.5))
        store.plan(cells)
        store.record_random(episodes([0.0, 0.0]))
        apart, whole = contrasted(panels(store), store.results()), store.results()
    assert len(whole) == 3 + 10
    assert apart.empty


def test_draws_that_say_nothing_are_no_evidence() -> None:
    nothing = np.full(200, np.nan)
    assert statistics.p_value(nothing) == 1.0
    assert np.isnan(statistics.detectable(nothing))
    some = np.concatenate([nothing, np.linspace(-1, 1, 100)])
    assert statistics.p_value(some) > 0.9
    assert statistics.detectable(some) == pytest.approx(2.8 * np.linspace(-1, 1, 100).std())
