"""Comparison: cells paired by hand, what the intervals and the verdict say, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunectl.experiments.analysis import comparison
from prunectl.experiments.analysis.comparison import Comparison, ComparisonError, compare
from prunectl.experiments.sweeping.store import Store, StoreError
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, subject

MINE = Method.recorded(["component", "mine", "uniform", "none"])
PLAIN, STOCK = Method(recovery="none"), Method.of("stock-global", recovery="none")

#: Method -> (controller, sparsity, seed) -> returns of the episodes; random 0 on average, dense 100.
Sweep = Mapping[Method, Mapping[tuple[str, float, int], list[float]]]


def written(folder: Path, sweep: Sweep, dense: tuple[float, float] = (90.0, 110.0)) -> Path:
    with Store.writing(folder) as store:
        cells = []
        for name in dict.fromkeys(key[0] for curve in sweep.values() for key in curve):
            cells.append(cell(subject(name)))
            store.record(cells[-1], outcome(dense))
        for method, curve in sweep.items():
            for (name, sparsity, seed), returns in curve.items():
                cells.append(cell(subject(name), method, sparsity, seed))
                store.record(cells[-1], outcome(returns, sparsity, sparsity))
        store.plan(cells)
        store.record_random(episodes([-10.0, 10.0]))
    return folder


def row(found: Comparison, method: Method, against: Method) -> pd.Series:
    table = found.table
    (one,) = table[(table["method"] == method.label) & (table["against"] == against.label)].to_dict("records")
    return pd.Series(one)


def test_cells_that_both_have_are_paired_by_hand(tmp_path: Path) -> None:
    mine = written(
        tmp_path / "mine",
        {
            MINE: {
                ("a", 0.5, 0): [90.0, 110.0],
                ("a", 0.9, 0): [40.0, 40.0],
                ("b", 0.5, 0): [60.0, 60.0],
                ("a", 0.7, 0): [0.0, 0.0],
                ("c", 0.5, 0): [0.0, 0.0],
            }
        },
    )
    theirs = written(
        tmp_path / "theirs",
        {
            PLAIN: {
                ("a", 0.5, 0): [80.0, 80.0],
                ("a", 0.9, 0): [50.0, 50.0],
                ("b", 0.5, 0): [-900.0, -900.0],
                ("a", 0.8, 0): [99.0, 99.0],
                ("a", 0.5, 1): [99.0, 99.0],
            },
            STOCK: {("a", 0.5, 0): [90.0, 110.0]},
        },
    )
    found = compare(str(mine), str(theirs))
    plain, stock = row(found, MINE, PLAIN), row(found, MINE, STOCK)
    # Of a 0.2 more and 0.1 less, of b 0.6 more than what is no better than random: mean of the two means.
    assert plain["difference"] == pytest.approx(((0.2 - 0.1) / 2 + 0.6) / 2)
    assert (plain["controllers"], plain["cells"], plain["wins"], plain["losses"]) == (2, 3, 2, 1)
    assert (stock["controllers"], stock["cells"], stock["wins"], stock["losses"]) == (1, 1, 0, 0)
    # The same episodes make the same draws of both: what they add to both says nothing of the difference.
    assert stock["difference"] == stock["low"] == stock["high"] == 0.0
    assert plain["low"] < plain["difference"] < plain["high"]
    assert found.verdict == (
        "component + mine keeps more of the return than 1 of 2 methods, less than 0, and from 1 no difference is shown "
        "(95%, corrected for their number); its nearest rival is stock-global: +0.000 [+0.000, +0.000]"
    )
    assert str(found).endswith(f"Intervals are over episodes.\n{found.verdict}")
    assert "component + surgeon +0.325 [" in str(found)
    # Every draw of PLAIN lies above 0 and two methods are compared: twice 2 / (2,000 + 1). All of STOCK's are 0.
    assert (plain["p"], stock["p"]) == (pytest.approx(2 * 2 / 2001), 1.0)
    assert (plain["detectable"] > 0, stock["detectable"]) == (True, 0.0)


def test_intervals_are_those_of_drawn_episodes_and_seeds(tmp_path: Path) -> None:
    """Two seeds of one episode's difference each: draws take two of them."""
    level = {("a", 0.5, seed): [50.0, 50.0] for seed in (0, 1)}
    mine = written(
        tmp_path / "mine", {MINE: {("a", 0.5, 0): [50.0, 50.0], ("a", 0.5, 1): [70.0, 70.0]}}, (100.0, 100.0)
    )
    found = row(compare(mine, written(tmp_path / "theirs", {PLAIN: level}, (100.0, 100.0))), MINE, PLAIN)
    assert found["difference"] == pytest.approx(0.1)
    # Random actions return -10 and 10: with the same one drawn twice the gap is 90 or 110.
    assert found["low"] == pytest.approx(0.0)
    assert found["high"] == pytest.approx(20 / 90)
    # A quarter of the draws takes the seed without a difference twice: no sign of one, however the interval looks.
    assert found["p"] == pytest.approx(0.5, abs=0.06)


def test_each_store_is_normalised_by_its_own_references(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine", {MINE: {("a", 0.5, 0): [50.0, 50.0]}})
    theirs = written(tmp_path / "theirs", {PLAIN: {("a", 0.5, 0): [50.0, 50.0]}}, (190.0, 210.0))
    assert row(compare(mine, theirs), MINE, PLAIN)["difference"] == pytest.approx(0.5 - 0.25)


def test_one_s_own_methods_are_those_that_the_other_has_not(tmp_path: Path) -> None:
    both = {("a", 0.5, 0): [50.0, 60.0]}
    mine = written(tmp_path / "mine", {MINE: both, PLAIN: both})
    theirs = written(tmp_path / "theirs", {PLAIN: both, STOCK: both})
    assert compare(mine, theirs).table["method"].unique().tolist() == [MINE.label]
    again = compare(theirs, theirs).table
    assert set(zip(again["method"], again["against"], strict=True)) == {
        (PLAIN.label, STOCK.label),
        (STOCK.label, PLAIN.label),
    }


def test_stores_are_only_read(tmp_path: Path) -> None:
    folders = [
        written(tmp_path / name, {method: {("a", 0.5, 0): [50.0, 60.0]}})
        for name, method in (("m", MINE), ("t", PLAIN))
    ]
    before = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    compare(*folders)
    assert {path: path.read_bytes() for folder in folders for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        ({MINE: {("a", 0.5, 0): [1.0, 2.0]}}, {PLAIN: {("b", 0.5, 0): [1.0, 2.0]}},
         "have no controller in common: a in the first, b in the second"),
        ({MINE: {("a", 0.5, 0): [1.0, 2.0]}}, {PLAIN: {("a", 0.6, 0): [1.0, 2.0]}},
         "have no sparsity in common: 0.5 in the first, 0.6 in the second"),
        ({MINE: {("a", 0.5, 0): [1.0, 2.0]}}, {PLAIN: {("a", 0.5, 3): [1.0, 2.0]}},
         "have no seed in common: 0 in the first, 3 in the second"),
        ({MINE: {("a", 0.5, 0): [1.0, 2.0], ("a", 0.6, 1): [1.0, 2.0]}},
         {PLAIN: {("a", 0.5, 1): [1.0, 2.0], ("a", 0.6, 0): [1.0, 2.0]}}, "have no cell in common: the same"),
        ({PLAIN: {("a", 0.5, 0): [1.0, 2.0]}}, {PLAIN: {("a", 0.5, 0): [1.0, 2.0]}},
         "hold one method, and it is the same: component [+] surgeon"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(mine: Sweep, theirs: Sweep, said: str, tmp_path: Path) -> None:
    folders = written(tmp_path / "mine", mine), written(tmp_path / "theirs", theirs)
    with pytest.raises(ComparisonError, match=f"mine and .*theirs {said}"):
        compare(*folders)


def test_stores_without_results_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", {PLAIN: {("a", 0.5, 0): [1.0, 2.0]}})
    with pytest.raises(StoreError, match=r"nowhere: there is no sweep\.sqlite"):
        compare(tmp_path / "nowhere", whole)
    # Where the dense controller is no better than random actions, there is no return to keep.
    bad = written(tmp_path / "bad", {MINE: {("a", 0.5, 0): [1.0, 2.0]}}, dense=(-10.0, 5.0))
    with pytest.raises(ComparisonError, match="bad: no pruned controller has been measured yet that could be compared"):
        compare(bad, whole)


def test_draws_do_not_depend_on_what_else_is_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curve = {("a", s, 0): list(rng.normal(50, 20, 2)) for s in (0.5, 0.9)}
    other = {key: list(rng.normal(60, 20, 2)) for key in curve}
    mine = written(tmp_path / "mine", {MINE: curve})
    alone = compare(mine, written(tmp_path / "alone", {PLAIN: other}))
    more = compare(mine, written(tmp_path / "more", {STOCK: curve, PLAIN: other}))
    one, of_two = row(alone, MINE, PLAIN), row(more, MINE, PLAIN)
    pd.testing.assert_series_equal(one.drop("p"), of_two.drop("p"))
    assert of_two["p"] == pytest.approx(2 * one["p"])
    assert comparison.RESAMPLES == 2_000
