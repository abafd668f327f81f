"""Published results held against the same cells computed anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client

from prunectl.experiments.cli import run as prunectl
from prunectl.experiments.sweeping import recheck as check
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.recheck import compare, published, sample
from prunectl.experiments.sweeping.store import Store
from tests.experiments.sweeping.test_sweep import config, silent


def test_a_sample_has_every_method_comes_out_again_and_shows_what_was_changed(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = load_work(config(balancer, sparsities=[0.2, 0.3, 0.4]), trust=False, remark=silent)
    monkeypatch.setattr(check, "RESULTS", tmp_path)
    folder = tmp_path / "mine"
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        with Store.writing(folder) as store:
            run(work, still_to_do(work, store), store, client, lambda cell: None)
        results = published("mine")
        assert results.done == {cell.key for cell in work.cells}
        drawn = sample(work, results, cells=4)
        assert drawn.cells == sample(work, results, cells=4).cells
        assert {cell.method for cell in drawn.cells} == {cell.method for cell in work.cells}
        first, second = [cell.key for cell in drawn.cells if cell.method is not None][:2]
        results.table.loc[first, "mean_return"] += 1e-9
        results.table.loc[second, "params_total"] += 1
        compared = compare(drawn, results, client)
    assert [cell for cell, _ in compared] == list(drawn.cells)
    assert all(gap > 0 for gap in results.gaps.values())
    assert {cell.key: found.verdict for cell, found in compared if found.differing} == {
        first: "agrees, other bits",
        second: "differs",
    }


def test_what_is_not_published_is_one_line(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "RESULTS", tmp_path)
    assert prunectl(["reproduce", "reference", "--check"]) == 2
    assert capsys.readouterr().err.startswith("prunectl: no cells of 'reference' are published")
    work = load_work(config(balancer), trust=False, remark=silent)
    with Store.writing(tmp_path / "empty") as store:
        store.plan(work.cells)
    with pytest.raises(ConfigError, match="none of the sweep's cells"):
        sample(work, published("empty"))
