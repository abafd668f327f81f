"""What a sweep leaves beside its results, and what it does not touch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from distributed import Client

from prunectl.errors import Error
from prunectl.experiments import provenance
from prunectl.experiments.api.sweeps import bar
from prunectl.experiments.cli.common import emit
from prunectl.experiments.episodes.evaluator import evaluate_random
from prunectl.experiments.episodes.seeds import CALIBRATION, calibration_seeds, reported_seeds
from prunectl.experiments.stability.measure import Effort, _random_return
from prunectl.experiments.suite.entry import Entry, read_entry, write_entry
from prunectl.experiments.suite.tiers import TIERS
from prunectl.experiments.sweeping import dispatch
from prunectl.experiments.sweeping.bundled import bundled_configs, name_of
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.config import ConfigError, SweepConfig, load_config
from prunectl.experiments.sweeping.run import completed
from prunectl.experiments.sweeping.store import Store
from tests.experiments.fakes import cell, subject
from tests.experiments.sweeping.test_sweep import config, silent


@contextmanager
def nobody() -> Iterator[Client]:
    raise ConfigError("no scheduler answers")
    yield


@contextmanager
def one_worker() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield client


def test_a_record_says_who_computed_what(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = {"python": "3", "torch": "1"}
    monkeypatch.setattr(provenance, "versions", lambda: dict(now))
    told: list[str] = []

    def swept(*sparsities: float) -> dict[str, object]:
        settings = config(balancer, sparsities=list(sparsities), episodes=1)
        with completed(settings, tmp_path, tmp_path, one_worker(), told.append, bar):
            pass
        found: dict[str, object] = json.loads((tmp_path / provenance.FILE).read_text())
        return found

    first = swept(0.3)
    assert (first["versions"], "earlier" in first) == (now, False)
    now["torch"] = "2"
    assert swept(0.3) == first  # nothing was computed
    assert not any("other versions" in line for line in told)
    second = swept(0.3, 0.4)
    assert (second["versions"], second["earlier"]) == (now, [first])
    assert any("other versions (torch 1, now 2)" in line for line in told)
    now["torch"] = "3"
    third = swept(0.3, 0.4, 0.5)
    second.pop("earlier")
    assert third["earlier"] == [first, second]


@pytest.mark.parametrize("text", ["", "[1]", '{"versions": 3}', '{"versions": {}, "earlier": 5}', "[" * 100_000])
def test_a_strangers_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / provenance.FILE).write_text(text)
    assert provenance.update(tmp_path, (), computing=False) is None
    assert json.loads((tmp_path / provenance.FILE).read_text())["versions"] == provenance.versions()


def test_a_config_that_is_no_record_stays(balancer: Path, tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text(f"# mine\ncontrollers: {balancer}\nmethods: {{recovery: none}}\nsparsities: 0.3\n")
    with (
        pytest.raises(ConfigError, match=r"config\.yaml: it is no sweep's record"),
        completed(load_config(own), tmp_path, tmp_path, nobody(), silent, bar),
    ):
        pass
    assert own.read_text().startswith("# mine")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_without_workers_a_store_stays_as_it_was(balancer: Path, tmp_path: Path) -> None:
    settings = config(balancer, sparsities=[0.3], episodes=1)
    with completed(settings, tmp_path, tmp_path, one_worker(), silent, bar) as (store, _, _):
        before = store.planned()
    with (
        pytest.raises(ConfigError, match="no scheduler"),
        completed(config(balancer, sparsities=[0.3, 0.4], episodes=1), tmp_path, tmp_path, nobody(), silent, bar),
    ):
        pass
    with Store.reading(tmp_path) as store:
        assert store.planned() == before
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["sparsities"] == [0.3]


def test_bundled_sweeps_have_folders_of_their_own(tmp_path: Path) -> None:
    names = [name_of(path) for path in bundled_configs().values()]
    assert len(set(names)) == len(names)
    assert {"demo", "paper/reference", "paper/quick/reference"} <= set(names)
    assert name_of(tmp_path / "mine.yaml") == "mine"


def test_reported_seeds_never_reach_those_of_calibration() -> None:
    assert max(reported_seeds(10, CALIBRATION - 10)) < min(calibration_seeds(1))
    with pytest.raises(Error, match="reach the seeds of calibration"):
        reported_seeds(11, CALIBRATION - 10)
    said = {"controllers": "ppo-cartpole-1", "methods": {"recovery": "none"}, "sparsities": 0.5}
    with pytest.raises(ValueError, match="reach the seeds of calibration"):
        SweepConfig.model_validate(said | {"episodes": 20_000, "episode_seed": CALIBRATION - 15_000})


def test_an_entry_that_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    for command, citation in (("prunectl " + "x" * 2_000, ""), ("prunectl", "two\nlines")):
        with pytest.raises(ConfigError, match=r"entry\.yaml: command and citation are a line"):
            write_entry(tmp_path / "mine", Entry(TIERS["quick"], (), command, citation))
    assert not (tmp_path / "mine").exists()
    write_entry(tmp_path / "mine", Entry(TIERS["quick"], (), "prunectl suite run", "A. Author"))
    assert read_entry(tmp_path / "mine").citation == "A. Author"


def test_what_could_not_be_measured_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"s95": float("nan"), "of": [1.5, float("inf")], "named": {"a": (float("-inf"), 2)}})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "s95": None,
        "of": [1.5, None],
        "named": {"a": [None, 2]},
    }


def test_who_joins_while_suspects_are_tried_alone_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []

    class Fake:
        def nthreads(self) -> dict[str, int]:
            return {"tcp://late": 1}

    monkeypatch.setattr(dispatch, "check_workers", lambda client, joined, plugins: checked.append(joined))
    owner = subject()
    work = Work({}, (cell(owner),), {})
    dispatch._Dispatch(work, Fake(), (), lambda cell, result: None, alone=True).run({})  # type: ignore[arg-type]
    assert checked == [{"tcp://late": 1}]


def test_random_actions_on_a_task_of_ones_own_are_measured() -> None:
    measured = _random_return("MountainCar-v0", Effort(starts=3), 5)
    assert measured == evaluate_random("MountainCar-v0", (5, 6, 7)).returns.mean()
    assert _random_return("Pendulum-v1", Effort(starts=3), 5) != measured
