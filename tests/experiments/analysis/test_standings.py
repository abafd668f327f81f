"""The ranking of methods over the controllers of a sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunectl.experiments.analysis.curves import panels
from prunectl.experiments.analysis.readings import read_panels
from prunectl.experiments.analysis.safe_sparsity import Walk
from prunectl.experiments.analysis.standings import Scores, leading, readable, scores_of, standings, telling
from prunectl.experiments.analysis.summary import summarise
from prunectl.experiments.drawing.style import look
from prunectl.experiments.report.figures import standings_figure
from prunectl.experiments.report.write import write_report
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import IMPORTANCES, Method
from tests.experiments.fakes import record_curves

STOCK = Method("stock-global", "magnitude", "uniform", "none")
FULL, ELSEWHERE = Method(recovery="reconstruct"), Method(recovery="none")
#: Normalised return by asked sparsity, for the first controller; the second keeps all of it. Deployed is 0.2 above.
CURVES = {
    STOCK: {0.25: 100.0, 0.5: 50.0, 0.75: 0.0},
    FULL: {0.25: 100.0, 0.5: 100.0, 0.75: 90.0},
}


@pytest.fixture
def ranked(tmp_path: Path) -> tuple[Scores, pd.DataFrame]:
    with Store.writing(tmp_path) as store:
        kept = {method: dict.fromkeys(curve, 100.0) for method, curve in CURVES.items()}
        record_curves(store, {"one": {**CURVES, ELSEWHERE: CURVES[FULL]}, "two": kept})
    with Store.reading(tmp_path) as store:
        scores = scores_of(read_panels(panels(store), 0))
        return scores, standings(scores, store.results())


def test_the_standings_are_worked_out_by_hand(ranked: tuple[Scores, pd.DataFrame]) -> None:
    _, table = ranked
    assert list(table["method"]) == [FULL.label, STOCK.label]  # what one controller lacks is not ranked
    assert list(table["rank"]) == [1, 2]
    # The first falls below 0.95 between 0.7 (1.0) and 0.95 (0.9): at 0.825; the second never does, up to 0.95.
    best, stock = table.to_dict("records")
    assert best["s95"] == pytest.approx((0.825 + 0.95) / 2)
    assert best["worst"] == pytest.approx(0.825)
    assert stock["s95"] == pytest.approx((0.475 + 0.95) / 2)
    assert stock["s95_median"] == pytest.approx((0.475 + 0.95) / 2)
    assert best["never_fell"] == stock["never_fell"] == 1
    steps = -np.diff(np.log([1, 0.55, 0.3, 0.05]))  # of what is left
    assert stock["log_area"] == pytest.approx((1 + steps @ [1, 0.75, 0.25] / steps.sum()) / 2)
    # Two episodes that differ by the same amount everywhere: resampling them moves nothing but the scale.
    assert stock["s95_low"] <= stock["s95"] <= stock["s95_high"]
    assert stock["sure"] == pytest.approx(stock["s95"])
    assert stock["surely_never"] == 1
    assert stock["over"] == "episodes"
    assert best["seconds"] == 0.5  # planning; evaluation does not count


def test_the_standings_have_the_safe_sparsity_where_stability_was_recorded(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        record_curves(store, {name: {FULL: CURVES[FULL], STOCK: CURVES[STOCK]} for name in ("one", "two", "three")})
        scores, results = scores_of(read_panels(panels(store), 0)), store.results()
    held, lost = Walk(59, (0.0, 0.7), (True, True), (True, True)), Walk(59, (0.0, 0.7), (True, True), (True, False))
    never = Walk(59, (0.0, 0.7), (False, True), (False, True))
    keys = {name: (name, "CartPole-v1", None) for name in ("one", "two")}
    stable = {(*keys["one"], FULL): held, (*keys["two"], FULL): lost, (*keys["one"], STOCK): never}
    table = standings(scores, results, stable).set_index("method")
    assert table.loc[FULL.label, ["safe", "safe_open", "safe_worst", "recorded"]].tolist() == [0.35, True, 0.0, 2]
    assert table.loc[STOCK.label, ["safe", "safe_open", "safe_worst", "recorded"]].tolist() == [0.0, False, 0.0, 1]
    shown = readable(table.reset_index())
    assert shown["safe, mean"].tolist() == ["≥ 0.35 of 2", "0.00 of 1"]
    assert "safe" not in standings(scores, results)
    assert not [name for name in readable(standings(scores, results)) if "safe" in name]


def test_figures_of_lines_show_the_best_of_each_grouping_and_recovery_once_there_are_too_many() -> None:
    every = [Method(importance=name, recovery=recovery) for name in IMPORTANCES for recovery in ("none", "distill")]
    table = pd.DataFrame({"method": [method.label for method in reversed(every)]})
    assert leading(table, every[:3]) == set(every[:3])
    assert leading(None, every) == set(every)
    assert leading(table, every) == {every[-1], every[-2]}


def test_the_default_the_best_of_another_grouping_and_the_baseline_are_told() -> None:
    rival, other = Method("global", recovery="distill"), Method("layer")
    ranked = [Method(importance="taylor"), other, Method(), rival, STOCK, ELSEWHERE]
    table = pd.DataFrame({"method": [method.label for method in ranked]})
    assert telling(table, ranked) == (Method(), other, STOCK)
    assert telling(table.iloc[[5, 1]], ranked) == (ELSEWHERE, other)
    assert telling(None, [FULL]) == (FULL,)


def test_one_line_a_method_is_shown_and_drawn(ranked: tuple[Scores, pd.DataFrame]) -> None:
    scores, table = ranked
    shown = readable(table)
    assert shown["s95, mean"][0].startswith("≥ 0.89 [")
    assert list(shown["never fell"]) == ["1 of 2", "1 of 2"]
    figure = standings_figure(scores, table)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == list(table["method"])
    means = [line for line in left.lines if line.get_markersize() == 4.5]
    assert [line.get_color() for line in means] == [look(method).colour for method in (FULL, STOCK)]
    assert [line.get_xdata()[0] for line in means] == pytest.approx(list(table["s95"]))  # type: ignore[index]
    assert right.get_xscale() == "log"
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the best on top


def test_one_controller_alone_is_ranked_too(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        record_curves(store, {"alone": {STOCK: {0.5: 40.0, 0.7: 20.0}, FULL: {0.5: 99.0, 0.7: 90.0}}})
    files, _ = write_report(tmp_path)
    assert tmp_path / "leaderboard.png" in files
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table[["rank", "method", "controllers"]].to_numpy().tolist() == [[1, FULL.label, 1], [2, STOCK.label, 1]]
    assert '"Leaderboard"' in (tmp_path / "report.html").read_text()


def test_a_controller_that_does_not_beat_random_actions_does_not_count(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        record_curves(store, {name: {STOCK: CURVES[STOCK], FULL: CURVES[FULL]} for name in ("one", "two", "weak")})
        dense = store.results().query("controller == 'weak' and grouping.isna()")["key"].item()
        store._connection.execute("UPDATE episode SET return = -50 WHERE cell = ?", (dense,))
        store._connection.commit()
        read = read_panels(panels(store), 0)
        table = standings(scores_of(read), store.results())
    assert table["method"].tolist() == [FULL.label, STOCK.label]
    assert table["controllers"].tolist() == [2, 2]
    assert table["s95"].tolist() == pytest.approx([0.825, 0.475])
    means = summarise(read).query("controller == 'mean of 2'").set_index("method")
    assert means.loc[FULL.label, "s95_deployed"] == pytest.approx(0.825)
