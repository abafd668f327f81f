"""The suite: what a tier is, that an entry holds or does not, and how entries meet."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from distributed import Client

from prunectl.experiments.cli import run as prunectl
from prunectl.experiments.suite import tiers
from prunectl.experiments.suite.board import write_board
from prunectl.experiments.suite.entry import Entry, read_entry, write_entry
from prunectl.experiments.suite.tiers import TIERS, Tier, method_names, settings_of, tier_of
from prunectl.experiments.suite.verify import verify
from prunectl.experiments.sweeping.config import ConfigError, SweepConfig, load_config
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.store import FILE, Store
from prunectl.names import NAMES
from prunectl.pruning import Method
from tests.experiments.sweeping.test_sweep import silent

LEVELS = [0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield client


@pytest.fixture(autouse=True)
def tiny(balancer: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Tier:
    """A tier of one small controller, beside those of the suite."""
    path = tmp_path_factory.mktemp("tier") / "tiny.yaml"
    methods = [{"grouping": ["component", "global"], "recovery": "reconstruct"}]
    said = {"controllers": [str(balancer)], "methods": methods, "sparsities": LEVELS, "episodes": 2}
    path.write_text(yaml.safe_dump(said))
    known = tiers.bundled_configs()
    monkeypatch.setattr(tiers, "bundled_configs", lambda: {**known, "suite/tiny": path})
    tier = Tier("tiny", "for tests")
    monkeypatch.setitem(TIERS, "tiny", tier)  # type: ignore[misc]
    monkeypatch.setitem(NAMES, "tier", (*NAMES["tier"], "tiny"))  # type: ignore[misc]
    return tier


def computed(folder: Path, client: Client, *methods: str) -> Path:
    names = tuple(method_names(said) for said in methods)
    write_entry(folder, Entry(TIERS["tiny"], names, "by hand", "A. Nobody, 2026"))
    work = load_work(settings_of(TIERS["tiny"], names), trust=False, remark=silent)
    with Store.writing(folder) as store:
        run(work, still_to_do(work, store), store, client, lambda cell: None)
    return folder


def altered(entry: Path, folder: Path, *statements: str) -> Path:
    """A copy of an entry with its store changed."""
    shutil.copytree(entry, folder)
    with closing(sqlite3.connect(folder / FILE)) as store, store:
        for statement in statements:
            assert store.execute(statement).rowcount > 0
    return folder


@pytest.fixture(scope="module")
def published(balancer: Path, tmp_path_factory: pytest.TempPathFactory, client: Client) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        tiny.__wrapped__(balancer, tmp_path_factory, patch)  # type: ignore[attr-defined]
        yield computed(tmp_path_factory.mktemp("entries") / "baselines", client)


def test_an_entry_holds_and_one_altered_cell_does_not(published: Path, tmp_path: Path, client: Client) -> None:
    found = verify(published, client, cells=4)
    assert (found.cells, found.computed, found.equal, found.wrong) == (11, 5, 5, ())
    assert "5 of 11 cells and every random reference computed anew, all equal to the last bit" in str(found)

    where = "grouping = 'global' AND sparsity_asked = 0.4"
    better = altered(
        published,
        tmp_path / "better",
        f"UPDATE episode SET return = return - 200 WHERE cell = (SELECT key FROM cell WHERE {where})",
        f"UPDATE cell SET mean_return = mean_return - 200 WHERE {where}",
    )
    (line,) = verify(better, client, cells=2).wrong  # two of ten cells are looked at, and it is one of them
    assert "global" in line
    assert "mean_return" in line

    hasty = altered(published, tmp_path / "hasty", f"UPDATE cell SET mean_return = mean_return + 1 WHERE {where}")
    assert any("not that of its episodes" in line for line in verify(hasty, client, cells=1).wrong)

    smaller = altered(
        published, tmp_path / "smaller", "UPDATE cell SET params_deployed = params_deployed - 1 WHERE grouping IS NULL"
    )
    (line,) = verify(smaller, client, cells=1).wrong
    assert line.endswith("(params_deployed)")


def test_a_random_reference_a_hidden_failure_and_a_missing_cell_are_found(
    published: Path, tmp_path: Path, client: Client
) -> None:
    lucky = altered(published, tmp_path / "lucky", "UPDATE random_episode SET return = return - 5")
    assert verify(lucky, client, cells=1).wrong == ("random actions on CartPole-v1: other returns than the entry's",)
    where = "sparsity_asked = 0.6 AND grouping = 'global'"
    failed = "UPDATE cell SET status = 'failed', mean_return = NULL, std_return = NULL WHERE "
    (line,) = verify(altered(published, tmp_path / "failed", failed + where), client, cells=1).wrong
    assert "mean_return" in line
    gone = altered(
        published, tmp_path / "gone", f"DELETE FROM planned WHERE key = (SELECT key FROM cell WHERE {where})"
    )
    (line,) = verify(gone, client, cells=1).wrong
    assert line.startswith("1 cells of the tier are not there")


def test_entries_meet_on_a_board_if_they_are_the_whole_tier(published: Path, tmp_path: Path, client: Client) -> None:
    mine = computed(tmp_path / "mine", client, "random,reconstruct")
    files, text = write_board(TIERS["tiny"], [published, mine], tmp_path / "board")
    assert {"leaderboard.md", "entries.md", "report.html"} <= {path.name for path in files}
    ranked = pd.read_csv(tmp_path / "board" / "leaderboard.csv")
    assert set(ranked["method"]) == {
        "component + surgeon + reconstruct",
        "global + surgeon + reconstruct",
        "component + random + reconstruct",
    }
    entries = pd.read_csv(tmp_path / "board" / "entries.csv").set_index("entry")
    assert entries["citation"].to_dict() == {"baselines": "A. Nobody, 2026", "mine": "A. Nobody, 2026"}
    assert entries["cells"].to_dict() == {"baselines": 10, "mine": 5}
    assert "random" in text

    part = altered(mine, tmp_path / "part", "DELETE FROM planned WHERE position = 3")
    with pytest.raises(
        ConfigError, match="component \\+ random \\+ reconstruct is not on the tier's cells: 1 are miss"
    ):
        write_board(TIERS["tiny"], [published, part], tmp_path / "other")
    with pytest.raises(ConfigError, match="an entry of the tier tiny, not of quick"):
        write_board(TIERS["quick"], [published], tmp_path / "other")


def test_stores_put_together_keep_what_was_there_first(published: Path, tmp_path: Path) -> None:
    other = altered(published, tmp_path / "other", "UPDATE episode SET return = 7", "UPDATE cell SET mean_return = 7")
    with Store.writing(tmp_path / "both") as both, Store.reading(published) as one, Store.reading(other) as two:
        both.take(one)
        before = both.results()
        both.take(two)
        pd.testing.assert_frame_equal(both.results(), before)
        assert both.planned() == len(before) == 11
        assert all((both.episode_returns()[key] == own).all() for key, own in one.episode_returns().items())


def test_an_entry_says_what_it_is(tmp_path: Path) -> None:
    entry = Entry(TIERS["quick"], ({"importance": "random"},), "prunectl suite run", "me")
    write_entry(tmp_path, entry)
    assert read_entry(tmp_path) == entry
    write_entry(tmp_path, Entry(TIERS["quick"], ({"importance": "random"},), "again", ""))
    assert read_entry(tmp_path).citation == "me"
    with pytest.raises(ConfigError, match="the entry of other methods"):
        write_entry(tmp_path, Entry(TIERS["quick"], ({"importance": "taylor"},), "again"))
    path = tmp_path / "entry.yaml"
    for said, complaint in (
        (path.read_text().replace("suite-1", "suite-0"), "an entry of suite-0; this is suite-1"),
        (path.read_text().replace("importance", "speed"), "a method is a mapping of"),
        (path.read_text().replace("quick", "quik"), "did you mean 'quick'"),
        ("[]", "does not say what an entry does"),
    ):
        path.write_text(said)
        with pytest.raises(ConfigError, match=complaint):
            read_entry(tmp_path)
        path.unlink()
        write_entry(tmp_path, entry)
    with pytest.raises(ConfigError, match="no entry of the suite"):
        read_entry(tmp_path / "nowhere")


def test_a_method_is_said_by_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suite_of_mine.py").write_text(
        "import numpy as np\nimport prunectl\n\n\n@prunectl.importance('Mine')\ndef mine(evidence, group):\n"
        "    return np.ones(group.units)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert method_names("suite_of_mine:Mine, reconstruct") == {
        "importance": "suite_of_mine:Mine",
        "recovery": "reconstruct",
    }
    settings = settings_of(TIERS["quick"], [method_names("suite_of_mine:Mine")], allow_plugins=True)
    assert settings.expanded_methods == (Method(importance="Mine"),)
    assert settings.modules == ("suite_of_mine",)
    with pytest.raises(ConfigError, match="name code to import, 'suite_of_mine'"):
        settings_of(TIERS["quick"], [{"importance": "suite_of_mine:Mine"}])
    assert method_names("importance=random") == method_names("random") == {"importance": "random"}
    for said, complaint in (
        ("randon", "did you mean 'random'"),
        ("random,magnitude", "two of one kind, importance random and magnitude"),
        ("speed=random", "'speed' is none of grouping"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            method_names(said)
    with pytest.raises(ConfigError, match="there are quick, standard, full"):
        tier_of("slow")


def test_the_tiers_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO", "zoo")
    quick, standard, full = (load_config(TIERS[name].config) for name in ("quick", "standard", "full"))
    for tier, last in ((quick, 1 / 64), (standard, 1 / 128)):
        left = 1 - np.asarray(tier.pruned_sparsities)
        np.testing.assert_allclose(left[:-1] / left[1:], 2, rtol=0.002)
        assert left[-1] == pytest.approx(last, rel=0.002)
    same = "sparsities", "seeds", "episodes", "recovery_budget", "methods"
    assert all(getattr(standard, name) == getattr(full, name) for name in same)
    assert all(entry in full.controllers for entry in standard.controllers)
    assert (len(standard.seeds), standard.episodes) == (3, 50)
    families = pd.Series([entry.controller.rpartition("-")[0] for entry in standard.controllers])
    assert set(families.value_counts()) == {3}


def test_a_budget_of_recoveries_is_of_those_that_run_the_task(balancer: Path) -> None:
    said = {"controllers": [str(balancer)], "methods": {"recovery": ["reconstruct", "distill"]}, "sparsities": 0.5}
    plain, brief = (
        load_work(SweepConfig.model_validate(said | more), trust=False, remark=silent).cells
        for more in ({}, {"recovery_budget": 40})
    )
    assert [cell.key for cell in plain[:2]] == [cell.key for cell in brief[:2]]
    assert plain[2].key != brief[2].key
    assert brief[2].variant is not None
    assert brief[2].variant.label == "component + surgeon + distill[budget 40]"


@pytest.mark.slow
def test_a_method_of_ones_own_from_the_command_line(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / "mine")
    assert prunectl(["suite", "run", "--tier", "tiny", "--method", "random,none", "-o", folder, "--workers", "1"]) == 0
    assert prunectl(["suite", "verify", folder, "--workers", "1", "--cells", "3"]) == 0
    assert "all equal to the last bit" in capsys.readouterr().out
    assert prunectl(["suite", "board", "--tier", "tiny", folder, str(published), "-o", str(tmp_path / "board")]) == 0
    assert "component + random" in capsys.readouterr().out
