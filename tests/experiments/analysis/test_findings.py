"""What a store says is worked out once: how often its runs are redrawn, and that its parts agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunectl.experiments import statistics
from prunectl.experiments.analysis.findings import Findings, findings
from prunectl.experiments.report.write import write_report
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.experiments.fakes import cell, episodes, outcome, subject

FULL, STOCK = Method(recovery="reconstruct"), Method("stock-global", "magnitude", "uniform", "none")
#: Mean return by controller; random is 0. Two trainings of PPO on the first task.
CONTROLLERS = {
    ("one", "ppo", "CartPole-v1"): 100.0,
    ("two", "ppo", "CartPole-v1"): 90.0,
    ("three", "sac", "CartPole-v1"): 100.0,
    ("four", "sac", "Pendulum-v1"): 80.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    with Store.writing(tmp_path) as store:
        cells = []
        for (name, algorithm, task), top in CONTROLLERS.items():
            of = replace(subject(name, task), algorithm=algorithm)
            cells.append(cell(of, episodes=4))
            store.record(cells[-1], outcome([100.0] * 4, task=task))
            for method, share in ((FULL, 1.0), (STOCK, 0.5)):
                for sparsity in (0.5, 0.8):
                    cells.append(cell(of, method, sparsity, episodes=4))
                    returns = (top * share + generator.normal(0, 5, 4)).tolist()
                    store.record(cells[-1], outcome(returns, sparsity, sparsity, task=task))
        store.plan(cells)
        for task in ("CartPole-v1", "Pendulum-v1"):
            store.record_random(episodes([0.0] * 4, task))
    return tmp_path


def worked_out(folder: Path) -> Findings:
    with Store.reading(folder) as store:
        return findings(store)


def test_a_report_redraws_each_curve_once_and_once_with_its_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redrawn, drawn = statistics.redrawn, Counter[int]()

    def counted(returns: statistics.Array, *rest: Any) -> statistics.Array:
        drawn[len(returns)] += 1
        return redrawn(returns, *rest)

    monkeypatch.setattr(statistics, "redrawn", counted)
    write_report(folder)
    # Eight curves of one run; of the three pairs of algorithm and task one has two trainings, each two methods.
    assert drawn == {1: 8 + 2 * 2, 2: 2}


def test_all_parts_are_said_of_the_same_curves(folder: Path) -> None:
    found = worked_out(folder)
    for read in found.panels:
        for own in read.curves:
            rows = found.summary[
                (found.summary["controller"] == read.panel.controller)
                & (found.summary["method"] == own.curve.method.label)
            ]
            assert rows["s95_deployed"].tolist() == [own.kept["deployed"].s95]
            assert rows["s95_deployed_low"].tolist() == [own.kept["deployed"].low]
            assert own.normalised is not None
            np.testing.assert_allclose(own.normalised.mean, own.returns.mean / 100)  # dense 100, random 0
            np.testing.assert_allclose(own.normalised.low, own.returns.low / 100)
    assert found.standings is not None
    best = found.standings.iloc[0]
    means = found.summary[found.summary["controller"] == "mean of 4"].set_index("method")
    assert best["s95"] == pytest.approx(means.loc[best["method"], "s95_deployed"])


def test_algorithms_and_tasks_are_parts_of_the_whole(folder: Path) -> None:
    found = worked_out(folder)
    assert found.by_algorithm.keys() == {"ppo", "sac"}
    assert found.by_task.keys() == {"CartPole-v1"}  # the other has a single controller
    whole, ppo, sac = (tables["deployed"] for tables in (found.aggregates, *found.by_algorithm.values()))
    assert (ppo["tasks"].max(), sac["tasks"].max(), whole["tasks"].max()) == (1, 2, 3)
    np.testing.assert_allclose(whole["mean"], (ppo["mean"] + 2 * sac["mean"]) / 3)
    assert found.by_task["CartPole-v1"]["deployed"]["runs"].tolist() == [3] * 4
    # What PPO's one task says has the interval that it has in the whole: the same draws.
    (alone,) = (task for task in found.runs["deployed"][FULL].draws if task.shape[1] == 2)
    low, _ = statistics.interval(statistics.mean([alone]))
    assert ppo.loc[ppo["method"] == FULL, "mean_low"].tolist() == low.tolist()


def test_curves_without_references_have_returns_and_nothing_else(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        pruned = cell(method=FULL, sparsity=0.5)
        store.plan([cell(), pruned])
        store.record(pruned, outcome([1.0, 3.0], 0.5, 0.5))
    ((own,),) = (read.curves for read in worked_out(tmp_path).panels)
    assert own.returns.mean.tolist() == [2.0]
    assert 1.0 <= own.returns.low[0] < 2.0 < own.returns.high[0] <= 3.0
    assert (own.dense, own.normalised, own.kept) == (None, None, {})
    assert own.along("deployed")[0].tolist() == [0.5]
    assert worked_out(tmp_path).summary["s95_total"].isna().all()
