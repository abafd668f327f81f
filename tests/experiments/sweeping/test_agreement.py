"""What rounding explains of a cell that comes out otherwise, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from prunectl.experiments.sweeping.agreement import MEASURED, Agreement, agreement, leaning

Array = NDArray[np.float64]
GAP = 100.0


def row(returns: Array, **changed: float) -> dict[str, float]:
    sizes = {"sparsity_total": 0.5, "sparsity_deployed": 0.6, "params_total": 50, "params_deployed": 40}
    told = {"mean_return": returns.mean(), "std_return": returns.std(), **sizes, "macs_deployed": 30, "integrity": 0.9}
    assert set(told) == set(MEASURED)
    return {**told, **changed}


def held(before: Array, now: Array, gap: float = GAP, cells: int = 24, **changed: float) -> Agreement:
    return agreement(row(before), row(now, **changed), before, now, gap, cells)


def episodes(mean: float = 90.0, count: int = 50) -> Array:
    return mean + np.random.default_rng(0).normal(0, 5, count)


def test_the_last_bits_and_an_episode_that_went_another_way_agree() -> None:
    before = episodes()
    same = held(before, before.copy())
    assert (same.verdict, same.differing, same.difference) == ("equal", (), 0.0)
    bits = held(before, np.nextafter(before, 0), integrity=np.nextafter(0.9, 0))
    assert bits.verdict == "agrees, other bits"
    assert "mean_return" in bits.differing
    caught = before.copy()
    caught[7] -= 400  # eight hundredths of the mean, by one episode in fifty
    found = held(before, caught)
    assert found.difference == pytest.approx(0.08)
    assert found.contradicted == ()


def test_a_difference_over_the_same_episodes_that_is_shown_contradicts() -> None:
    before = episodes()
    assert held(before, before + 3).contradicted == ("mean_return",)
    assert held(before, before + 1.9).contradicted == ()  # every episode, but nearer than any finding goes
    assert held(before, before + 1.9, gap=np.nan).contradicted == ("mean_return",)
    # The scatter between episodes does not hide what happens to each of them, and a mean is not taken on trust.
    wide = 90 + np.linspace(-500, 500, 50)
    assert held(wide, wide + 3).contradicted == ("mean_return",)
    lied = agreement(row(before, mean_return=before.mean() + 3), row(before), before, before, GAP, 24)
    assert lied.contradicted == ("mean_return",)
    # What chance may do to one of a thousand cells is more than what it may do to the only one.
    apart = before.copy()
    apart[::2] += 16 * np.random.default_rng(1).random(25)
    assert held(before, apart, cells=1).contradicted == ("mean_return",)
    assert held(before, apart, cells=10**6).contradicted == ()


def test_other_sizes_another_integrity_and_a_failure_contradict() -> None:
    before = episodes()
    assert held(before, before, params_deployed=39).contradicted == ("params_deployed",)
    assert held(before, before, integrity=0.87).contradicted == ("integrity",)
    failed = row(before, **dict.fromkeys(MEASURED, np.nan))
    for one, other, own, its in ((row(before), failed, before, []), (failed, row(before), [], before)):
        found = agreement(one, other, np.asarray(own), np.asarray(its), GAP, 24)
        assert found.contradicted[0] == "mean_return"
    assert agreement(failed, failed, np.empty(0), np.empty(0), GAP, 24).verdict == "equal"


def test_little_by_little_in_every_cell_is_seen_and_chance_both_ways_is_not() -> None:
    def cells(differences: Array) -> list[Agreement]:
        return [Agreement(90.0, 90.0, difference, ("mean_return",), ()) for difference in differences]

    chance = np.random.default_rng(0).normal(0, 0.01, 24)
    assert leaning(cells(chance)) == 0
    assert leaning(cells(chance + 0.015)) == pytest.approx(0.015, abs=0.004)
    assert leaning(cells(np.full(24, 1e-9))) == 0  # all the same way, and nothing
    assert leaning(cells(np.asarray([np.nan, 0.3]))) == 0  # one cell is not a leaning; it is looked at by itself
