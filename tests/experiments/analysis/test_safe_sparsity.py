"""How far a sweep's cells show one may prune: worked out by hand from made-up counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from prunectl.experiments.analysis.safe_sparsity import Walk, walks
from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.sweeping.cell import Cell
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.experiments.fakes import cell, outcome, subject

STOCK = Method("stock-global", "magnitude", "uniform", "none")
FULL = Method(recovery="reconstruct")
KEY = ("mine", "CartPole-v1", None, FULL)


def checks(unstable: int, rising: int | None) -> Checks:
    return Checks(Count(unstable, 100), None if rising is None else Count(rising, 100))


def walked(folder: Path, cells: Mapping[Cell, Checks | None]) -> dict[tuple[str, str, str | None, Method], Walk]:
    """Of cells whose deployed sparsity is half the asked one; None: it failed."""
    with Store.writing(folder) as store:
        store.plan(list(cells))
        for entry, found in cells.items():
            if found is None:
                store.record_failure(entry, "why")
            else:
                store.record(entry, outcome([1.0, 2.0], entry.sparsity / 2, entry.sparsity, checks=found))
        return walks(store.results())


def test_the_walk_ends_at_the_first_that_does_not_hold(tmp_path: Path) -> None:
    found = walked(
        tmp_path,
        {
            cell(stability=100): checks(0, 0),
            cell(method=FULL, sparsity=0.9, stability=100): checks(0, 0),  # in whatever order
            cell(method=FULL, sparsity=0.2, stability=100): checks(1, 0),
            cell(method=FULL, sparsity=0.5, stability=100): checks(1, 4),
            cell(method=STOCK, sparsity=0.2, stability=100): checks(0, None),
        },
    )
    assert found[KEY].sparsities == pytest.approx((0, 0.1, 0.25, 0.45))
    assert found[KEY].holds == (True, True, False, True)
    assert (found[KEY].safe, found[KEY].settling) == pytest.approx((0.1, 0.45))
    assert found[KEY].starts == 100
    stock = found["mine", "CartPole-v1", None, STOCK]
    assert (stock.safe, stock.settling) == pytest.approx((0.0, 0.1))


def test_nothing_is_safe_where_not_even_the_dense_loop_holds(tmp_path: Path) -> None:
    sparsity = cell(method=FULL, sparsity=0.5, stability=100)
    found = walked(tmp_path, {cell(stability=100): checks(9, 0), sparsity: checks(0, 0)})
    assert (found[KEY].safe, found[KEY].settling) == (None, None)
    assert found[KEY].holds == (False, True)


def test_a_sparsity_holds_only_if_all_pruning_seeds_do(tmp_path: Path) -> None:
    both = {0.2: (0, 0), 0.4: (0, 5), 0.6: (0, 0)}
    cells = {
        cell(method=FULL, sparsity=sparsity, seed=seed, stability=100): checks(0, rising)
        for sparsity, counts in both.items()
        for seed, rising in enumerate(counts)
    }
    lacking = cell(method=FULL, sparsity=0.3, seed=0, stability=100)  # of the other seed not yet computed
    found = walked(tmp_path, {cell(stability=100): checks(0, 0), **cells, lacking: checks(0, 0)})
    assert found[KEY].sparsities == pytest.approx((0, 0.1, 0.2, 0.3))
    assert found[KEY].holds == (True, True, False, True)
    assert found[KEY].safe == pytest.approx(0.1)


def test_nothing_is_claimed_from_a_cell_that_failed_on(tmp_path: Path) -> None:
    found = walked(
        tmp_path,
        {
            cell(stability=100): checks(0, 0),
            cell(method=FULL, sparsity=0.2, stability=100): checks(0, 0),
            cell(method=FULL, sparsity=0.4, stability=100): None,
            cell(method=FULL, sparsity=0.6, stability=100): checks(0, 0),
        },
    )
    assert found[KEY].safe == pytest.approx(0.1)


def test_what_recorded_nothing_is_not_there(tmp_path: Path) -> None:
    with_plant, without = subject("with"), subject("without")
    cells: dict[Cell, Checks | None] = {cell(of=with_plant, stability=100): checks(0, 0)}
    cells |= {cell(of=with_plant, method=FULL, sparsity=0.2, only="actor", stability=100): checks(0, 0)}
    with Store.writing(tmp_path) as store:
        plain = [cell(of=without), cell(of=without, method=FULL, sparsity=0.2)]
        for entry in plain:
            store.record(entry, outcome([1.0, 2.0]))
        store.plan([*cells, *plain])
        for entry, found in cells.items():
            store.record(entry, outcome([1.0, 2.0], checks=found))
        assert list(walks(store.results())) == [("with", "CartPole-v1", "actor", FULL)]
