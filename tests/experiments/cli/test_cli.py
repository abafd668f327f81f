"""The command line: what it prints where, its exit status, and one clear line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from prunectl.agents.deployment.targets import TARGETS
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.experiments.bench.benchmarks import CATALOGUE as BENCHMARKS
from prunectl.experiments.cli import run
from prunectl.experiments.paper.reproductions import CATALOGUE as REPRODUCTIONS
from prunectl.experiments.suite.tiers import TIERS
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.training.tdmpc import COLLECTING
from prunectl.names import METHOD, NAMES
from prunectl.pruning.method import TABLES
from tests.conftest import SaveTiny, untrained

#: ``arguments -> (exit status, standard output, standard error)``
Prunectl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prunectl(capsys: pytest.CaptureFixture[str]) -> Prunectl:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def json_of(result: tuple[int, str, str]) -> dict[str, Any]:
    status, out, err = result
    assert status == 0, err
    data = json.loads(out)
    assert isinstance(data, dict)
    return data


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = (
        "import sys\nfrom prunectl.experiments.cli import run\nrun(['--help'])\n"
        "heavy = {'torch', 'stable_baselines3', 'gymnasium', 'pandas', 'dask', 'matplotlib', 'pydantic', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("tasks", "agents", "inspect", "prune", "evaluate", "sweep", "report", "train", "stability"):
        assert command in done.stdout


def test_names_and_numbers_of_nothing_are_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("controllers: ppo-cartpole\nsparsities: 0.5\nmethods:\n- {}\n- {recovery: [none, dstill]}\n")
    prune = ["prune", "ppo-cartpole", "-o", "x.zip"]
    commands = [
        *(["inspect", "no"], ["evaluate", "no"], ["prune", "no", "--sparsity", "0.5", "-o", "x.zip"]),
        *(["export", "no", "--format", "c", "-o", "x.c"], ["watch", "ppo-cartpole", "no", "-o", "x.gif"]),
        *(["stability", "no"], ["report", "no"], ["compare", "no", "no"], ["sweep", "no.yaml"]),
        *([*prune, "--sparsity", "0.5", f"--{kind}", "no"] for kind in METHOD),
        *([*prune, *asked] for asked in (["--sparsity", "1.5"], ["--sparsity", "a=b"])),
        *([*prune, "--sparsity", "0.5", *asked] for asked in (["--budget", "0s"], ["--schedule", "no"])),
        *(["stability", "td3-pendulum", f"--{kind}", "no"] for kind in METHOD),
        *(["stability", "td3-pendulum", "--sparsities", "2"], ["bench", "no"], ["bench", "latency", "no"]),
        ["sweep", str(wrong)],
        [*prune, "--sparsity", "0.5", "--importance", "nowhere_at_all:mine"],
        *(["reproduce", "no"], ["suite", "run", "--tier", "no"], ["bench", "--target", "no"]),
        ["export", "td3-pendulum", "--format", "c", "--target", "no", "-o", "x.c"],
    ]
    train = ["--steps", "1", "-o", "x"]
    tasks = [
        *([*prune, "--sparsity", "0.5", "--task", "No-v1"], ["evaluate", "random", "--task", "No-v1"]),
        *(["inspect", "ppo-cartpole", "--task", "No-v1"], ["train", "sac", "--task", "No-v1", *train]),
        ["train", "no", "--task", "CartPole-v1", *train],
    ]
    code = (
        "import sys\nfrom prunectl.experiments.cli import run\n"
        f"assert [run(command) for command in {commands}] == [2] * {len(commands)}\n"
        "assert not {'torch', 'stable_baselines3', 'pandas', 'scipy', 'matplotlib', 'gymnasium'} & sys.modules.keys()\n"
        f"assert [run(command) for command in {tasks}] == [2] * {len(tasks)}\n"
        "assert not {'torch', 'stable_baselines3', 'pandas', 'matplotlib'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands) + len(tasks)
    (told,) = (line for line in lines if str(wrong) in line)
    assert "methods[1]: unknown recovery 'dstill': did you mean 'distill'" in told
    assert ["No-v1" in line for line in lines[len(commands) :]] == [True, True, True, True, False]


def test_the_names_that_are_known_before_their_tables_are_those_of_the_tables() -> None:
    tables: dict[str, set[str]] = {
        **{kind: set(table.builtin) for kind, table in TABLES.items()},
        "algorithm": {*COLLECTING, *ALGORITHMS},
        "benchmark": {entry.name for entry in BENCHMARKS},
        "reproduction": {*(entry.name for entry in REPRODUCTIONS), "all"},
        "tier": set(TIERS),
        "target": set(TARGETS),
    }
    assert {kind: set(names) for kind, names in NAMES.items()} == tables
    assert set(METHOD) == TABLES.keys()
    assert all(len(set(names)) == len(names) for names in NAMES.values())


def test_a_mistake_at_the_shell_is_one_line_and_status_2() -> None:
    code = "from prunectl.experiments.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "evaluate", "nowhere.zip"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "nowhere.zip" in done.stderr


def test_tasks(prunectl: Prunectl) -> None:
    _, out, _ = prunectl("tasks")
    assert "HalfCheetah-v5" in out
    tasks = {task["id"]: task for task in json_of(prunectl("tasks", "--json"))["tasks"]}
    assert tasks["Pendulum-v1"]["horizon"] == 200
    assert {"random_return", "success_return"} <= tasks["Pendulum-v1"].keys()


def test_agents_lists_bundled_and_found_checkpoints(
    prunectl: Prunectl, save_tiny: SaveTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("ppo", "CartPole-v1", name="here")
    (tmp_path / "not.zip").write_bytes(b"not a zip")
    monkeypatch.chdir(tmp_path)
    data = json_of(prunectl("agents", "--json"))
    assert data["found"] == ["here.zip"]
    assert isinstance(data["bundled"], list)
    status, out, _ = prunectl("agents")
    assert status == 0
    assert "here.zip" in out


def test_inspect(prunectl: Prunectl, save_tiny: SaveTiny) -> None:
    path = save_tiny("sac", "Pendulum-v1", encoder=(8,))
    data = json_of(prunectl("inspect", path, "--json"))
    assert data["components"].keys() == {"encoder", "actor", "critic.0", "critic.1"}
    assert data["components"]["actor"]["deployed"] is True
    assert data["components"]["critic.0"]["deployed"] is False
    assert data["params"] == sum(component["params"] for component in data["components"].values())
    coupling = [group for group in data["groups"] if group["kind"] == "inter"]
    assert [group["name"] for group in coupling] == data["flows"]
    assert {"encoder", "actor", "critic.0"} <= set(coupling[0]["components"])
    assert coupling[0]["units"] == 8
    keys = {"name", "kind", "components", "layers", "units", "params_per_unit"}
    assert all(group.keys() == keys for group in data["groups"])
    status, out, _ = prunectl("inspect", path)
    assert status == 0
    assert "critic.1" in out


def test_prune_then_evaluate(prunectl: Prunectl, balancer: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.zip"
    asked = ("--sparsity", 0.5, "--recovery", "reconstruct")
    data = json_of(prunectl("prune", balancer, *asked, "-o", out, "--json"))
    assert data["checkpoint"] == str(out)
    assert data["sparsity_asked"] == 0.5
    assert data["sparsity_total"] == pytest.approx(0.5, abs=0.05)
    assert data["sparsity_deployed"] == pytest.approx(0.5, abs=0.1)
    assert data["params_pruned"] == sum(c["params_pruned"] for c in data["components"].values()) < data["params_dense"]
    assert data["components"]["actor"]["widths_dense"] == [12, 12, 2]
    assert data["seconds"] == pytest.approx(sum(data["stages"].values()))
    assert data["stages"].keys() == {"calibration", "plan", "surgery", "recovery", "evaluation"}
    assert data["method"] == {
        "grouping": "component",
        "importance": "surgeon",
        "allocation": "uniform",
        "recovery": "reconstruct",
    }

    found = json_of(prunectl("evaluate", out, "--episodes", 3, "--seed", 5, "--json"))
    assert (found["task"], found["episodes"], found["seed"]) == ("CartPole-v1", 3, 5)
    assert found["mean_return"] == pytest.approx(np.mean(found["returns"]))
    assert found["std_return"] == pytest.approx(np.std(found["returns"]))
    assert len(found["lengths"]) == 3
    assert found["mean_return"] > 400

    width = PPO.load(out, device="cpu").policy.mlp_extractor.policy_net[0].out_features
    assert width == data["components"]["actor"]["widths_pruned"][0] < 12
    plan = json_of(prunectl("inspect", out, "--json"))["plan"]
    assert plan["sparsity_asked"] == 0.5

    dense = json_of(prunectl("evaluate", balancer, "--episodes", 3, "--seed", 5, "--json"))
    assert dense["mean_return"] == 500


def test_the_help_of_prune_names_every_method(prunectl: Prunectl) -> None:
    _, text, _ = prunectl("prune", "--help")
    assert set(re.findall(r"[\w-]+", text)) >= {name for kind in METHOD for name in NAMES[kind]}


def test_distilling_says_what_it_gained_on_validation_episodes(
    prunectl: Prunectl, balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["prunectl.pruning.recovery.distill"], "OFF_STAGE_BATCHES", 20)
    out = tmp_path / "small.zip"
    asked = ("prune", balancer, "--sparsity", 0.5, "--recovery", "distill", "--budget", 300, "-o", out)
    data = json_of(prunectl(*asked, "--json"))
    assert data["validation"]["after"] >= data["validation"]["before"]
    assert data["validation"]["after"] > 400
    status, text, _ = prunectl(*asked, "--force")
    assert status == 0
    assert (
        f"distill took the return from {data['validation']['before']:.1f} to {data['validation']['after']:.1f}" in text
    )
    assert "it keeps 100% of the dense return" in text
    assert json_of(prunectl("evaluate", out, "--episodes", 3, "--json"))["mean_return"] > 400


def test_prune_prints_its_plan_and_does_not_overwrite(prunectl: Prunectl, balancer: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.zip"
    arguments = ("prune", balancer, "--sparsity", 0.3, "--grouping", "global", "--recovery", "none", "-o", out)
    status, text, _ = prunectl(*arguments)
    assert status == 0
    assert "global + surgeon" in text
    assert "12-12-2 ->" in text
    before = out.read_bytes()
    status, _, err = prunectl(*arguments)
    assert status == 2
    assert "--force" in err
    assert out.read_bytes() == before
    assert prunectl(*arguments, "--force")[0] == 0


def test_evaluate_random_actions(prunectl: Prunectl) -> None:
    found = json_of(prunectl("evaluate", "random", "--task", "CartPole-v1", "--episodes", 4, "--json"))
    assert len(found["returns"]) == 4
    assert found["mean_return"] < 100
    status, out, _ = prunectl("evaluate", "random", "--task", "CartPole-v1", "--episodes", 4)
    assert status == 0
    assert f"{found['mean_return']:.1f}" in out


def test_an_old_task_version_is_kept_where_it_is_made_and_else_mapped_and_said(
    prunectl: Prunectl, balancer: Path
) -> None:
    for asked, used in (("CartPole-v0", "CartPole-v0"), ("CartPole-v2", "CartPole-v1")):
        status, out, err = prunectl("evaluate", balancer, "--task", asked, "--episodes", 1, "--json")
        assert status == 0
        assert json.loads(out)["task"] == used
        assert (f"using {used}" in err) == (asked != used)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "{folder}/nowhere.zip"], ["nowhere.zip"]),
        (["evaluate", "{folder}/truncated.zip"], ["truncated.zip"]),
        (["evaluate", "{folder}/nan.zip"], ["nan.zip"]),
        (["evaluate", "{ok}", "--task", "Pendulumm-v1"], ["Pendulumm-v1", "Pendulum-v1"]),
        (["evaluate", "{ok}", "--task", "Pendulum-v1"], ["Pendulum-v1", "--task"]),
        (["evaluate", "random"], ["--task"]),
        (["evaluate", "{ok}", "--episodes", "0"], ["--episodes", "1"]),
        (["prune", "{ok}", "--sparsity", "1.0", "-o", "{folder}/o.zip"], ["sparsity 1", "[0, 1)"]),
        (["prune", "{ok}", "--sparsity", "-0.1", "-o", "{folder}/o.zip"], ["sparsity -0.1", "[0, 1)"]),
        (["prune", "{ok}", "--sparsity", "nan", "-o", "{folder}/o.zip"], ["sparsity nan", "[0, 1)"]),
        (["prune", "{ok}", "--sparsity", "0.9999", "-o", "{folder}/o.zip"], ["0.9999"]),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--grouping", "componet", "-o", "{folder}/o.zip"],
            ["componet", "did you mean 'component'"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--recovery", "magic", "-o", "{folder}/o.zip"],
            ["recovery", "magic", "reconstruct"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--recovery", "distill", "--budget", "long", "-o", "{folder}/o.zip"],
            ["budget long", "24000", "60s"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--recovery", "distill", "--budget", "0s", "-o", "{folder}/o.zip"],
            ["budget 0s", "above 0"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--recovery", "finetune", "--budget", "9s", "-o", "{folder}/o.zip"],
            ["budget 9s", "environment steps"],
        ),
        (
            [
                *("prune", "{ok}", "--sparsity", "0.5", "--grouping", "unstructured"),
                *("--recovery", "distill", "-o", "{folder}/o.zip"),
            ],
            ["unstructured", "recovery 'none'"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.5", "--recovery", "none", "--budget", "60s", "-o", "{folder}/o.zip"],
            ["budget 60s", "recovery 'none'", "distill"],
        ),
        (
            ["prune", "{ok}", "--sparsity", "0.999", "--grouping", "stock-isomorphic", "-o", "{folder}/o.zip"],
            ["stock isomorphic pruning cannot reach sparsity 0.999", "the nearest it gives is 0."],
        ),
        (["prune", "{ok}", "--sparsity", "0.5", "-o", "{folder}/no/such/o.zip"], ["no/such", "folder"]),
        (["prune", "{ok}", "--sparsity", "0.5", "-o", "{folder}"], ["folder"]),
        (["prune", "{ok}", "-o", "o.zip"], ["--sparsity"]),
        (["sweep", "{folder}/nowhere.yaml"], ["nowhere.yaml"]),
        (["sweep", "{folder}/bad.yaml"], ["bad.yaml", "methods[0].groupng"]),
        (["sweep", "{folder}/good.yaml", "--out", "{folder}/truncated.zip"], ["truncated.zip"]),
        (["sweep", "{folder}/good.yaml", "--workers", "0"], ["--workers", "1"]),
        (["sweep", "{folder}/good.yaml", "--workers", "2", "--scheduler", "tcp://x:1"], ["--scheduler", "--workers"]),
        (["report", "{folder}/nowhere"], ["nowhere", "sweep.sqlite"]),
        (["train", "sacc", "--task", "Pendulum-v1", "--steps", "10", "-o", "{folder}/t"], ["sacc", "sac"]),
        (["train", "sac", "--task", "Pendulum-v1", "--steps", "10", "--set", "x", "-o", "{folder}/t"], ["KEY=VALUE"]),
        (["prun"], ["prun"]),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(
    prunectl: Prunectl, balancer: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "truncated.zip").write_bytes(balancer.read_bytes()[:2000])
    good = "controllers: [{}]\nmethods: [{{{}}}]\nsparsities: [0.5]\nepisodes: 1\n"
    (tmp_path / "good.yaml").write_text(good.format(balancer, ""))
    (tmp_path / "bad.yaml").write_text(good.format(balancer, "groupng: x"))
    if "{folder}/nan.zip" in arguments:
        broken = untrained("ppo", "CartPole-v1")
        with torch.no_grad():
            next(broken.components["actor"].module.parameters()).fill_(float("nan"))
        broken.save(tmp_path / "nan.zip", {"task": "CartPole-v1"})
    filled = [argument.format(folder=tmp_path, ok=balancer) for argument in arguments]
    status, out, err = prunectl(*filled)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert not (tmp_path / "o.zip").exists()


def test_an_error_of_ours_is_not_dressed_up_as_the_users(balancer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("prunectl.experiments.api.controllers.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(["evaluate", str(balancer)])


def test_a_sweep_from_dry_run_to_report(prunectl: Prunectl, balancer: Path, tmp_path: Path) -> None:
    config, folder = tmp_path / "mine.yaml", tmp_path / "out"
    config.write_text(
        f"controllers: [{balancer}]\nmethods: [{{recovery: [none, reconstruct]}}]\n"
        "sparsities: [0.4, 0.999]\nepisodes: 2\n"
    )
    command = ("sweep", config, "--out", folder, "--workers", 1)
    status, out, _ = prunectl(*command, "--dry-run")
    assert status == 0
    assert out.count("to do") == 6
    assert "5 cells, 5 to do: about" in out
    assert not folder.exists()

    status, out, err = prunectl(*command)
    assert status == 1
    assert out == ""
    assert err.count("failed: balancer on CartPole-v1, component + surgeon") == 2
    assert "2 of 5 cells failed" in err
    assert "distributed" not in err
    with Store.reading(folder) as store:
        assert store.results()["status"].tolist() == ["done", "done", "failed", "done", "failed"]
    record = json.loads((folder / "provenance.json").read_text())
    assert record.keys() == {"command", "versions"}
    assert "torch" in record["versions"]

    status, out, _ = prunectl(*command, "--dry-run")
    assert out.count("done   balancer") == 3

    config.write_text(config.read_text().replace(", 0.999", ""))
    status, out, err = prunectl(*command)
    assert status == 0
    assert out == f"{folder}/results.csv\n"
    assert "3 cells, 3 done already" in err

    status, out, _ = prunectl("report", folder)
    assert status == 0
    assert "s95 deployed" in out
    assert (folder / "report.html").is_file()


def test_a_sweep_joins_a_running_cluster(prunectl: Prunectl, balancer: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    config = tmp_path / "mine.yaml"
    config.write_text(f"controllers: [{balancer}]\nmethods: [{{}}]\nsparsities: [0.4]\nepisodes: 2\n")
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        status, _, err = prunectl("sweep", config, "--out", tmp_path / "out", "--scheduler", cluster.scheduler_address)
        assert status == 0, err
    with Store.reading(tmp_path / "out") as store:
        assert store.results()["status"].tolist() == ["done", "done"]


def test_a_scheduler_that_does_not_answer_is_the_users_mistake(
    prunectl: Prunectl, balancer: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"controllers: [{balancer}]\nmethods: [{{}}]\nsparsities: [0.4]\nepisodes: 2\n")
    status, _, err = prunectl("sweep", config, "--out", tmp_path / "out", "--scheduler", "nonsense")
    assert status == 2
    assert "no scheduler answers at 'nonsense'" in err.splitlines()[-1]


def test_training_options_reach_the_trainer(
    prunectl: Prunectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("prunectl.experiments.training.sb3.train", lambda training, *_: given.append(training))
    status, _, err = prunectl(
        *("train", "sac", "--task", "Pendulum-v1", "--steps", 10, "--seed", 4, "-o", tmp_path / "t"),
        *("--encoder", "8,4", "--set", "gamma=0.9", "--set", "policy_kwargs={net_arch: [8]}"),
        "--track-importance",
    )
    assert status == 0, err
    (training,) = given
    assert (training.algorithm, training.task, training.steps, training.seed) == ("sac", "Pendulum-v1", 10, 4)
    assert training.encoder == [8, 4]
    assert training.track_importance
    assert training.overrides == {"gamma": 0.9, "policy_kwargs": {"net_arch": [8]}}


def test_the_version(prunectl: Prunectl) -> None:
    from importlib import metadata

    assert prunectl("--version") == (0, f"prunectl {metadata.version('prunectl')}\n", "")


def test_bundled_sweeps_go_by_a_short_name(prunectl: Prunectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = prunectl("sweep", "--list")
    assert status == 0
    assert re.search(r"^demo  +The default, and what it is made of", out, re.M)
    assert "paper/reference" in out
    monkeypatch.chdir(tmp_path)
    status, out, _ = prunectl("sweep", "demo", "--dry-run")
    assert status == 0
    assert "ppo-cartpole-1 on CartPole-v1, dense" in out
    status, _, err = prunectl("sweep", "demmo")
    assert status == 2
    assert "demmo" in err
    assert not list(tmp_path.iterdir())


def test_bundled_controllers_are_listed_once_in_a_clone_too(
    prunectl: Prunectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balancer: Path
) -> None:
    from prunectl.references import ZOO

    shutil.copytree(ZOO / "sac-pendulum-1", tmp_path / "agents" / "zoo" / "sac-pendulum-1")
    shutil.copy(ZOO / "index.json", tmp_path / "agents" / "zoo")
    shutil.copy(balancer, tmp_path / "mine.zip")
    monkeypatch.chdir(tmp_path)
    assert json_of(prunectl("agents", "--json"))["found"] == ["mine.zip"]


def test_episodes_are_broken_off(prunectl: Prunectl, balancer: Path) -> None:
    data = json_of(prunectl("evaluate", balancer, "--episodes", 2, "--max-steps", 9, "--json"))
    assert data["lengths"] == [9, 9]
    data = json_of(prunectl("evaluate", "random", "--task", "Pendulum-v1", "--episodes", 1, "--max-steps", 3, "--json"))
    assert data["lengths"] == [3]


def test_a_pruned_controller_is_not_called_dense_in_silence(prunectl: Prunectl, balancer: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.zip"
    assert prunectl("prune", balancer, "--sparsity", 0.3, "--recovery", "none", "-o", small)[0] == 0
    config = tmp_path / "again.yaml"
    config.write_text(f"controllers: {small}\nmethods: {{recovery: none}}\nsparsities: 0.3\nepisodes: 1\n")
    status, _, err = prunectl("sweep", config, "--dry-run")
    assert status == 0
    assert "small is a pruned controller already" in err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda plan: plan.pop("kept"), "cannot be read"),
        (lambda plan: plan["kept"].update({"actor/0": [99]}), "units of 'actor/0' that are not there"),
        (lambda plan: plan["units"].pop("actor/0"), "do not agree"),
        (lambda plan: plan["components"].pop("value"), "not that of its networks"),
        (lambda plan: plan.update(components={}), "do not agree"),
    ],
)
def test_a_plan_that_is_none_is_one_line(
    prunectl: Prunectl, balancer: Path, tmp_path: Path, spoil: Callable[[Any], Any], says: str
) -> None:
    good, odd = tmp_path / "good.zip", tmp_path / "odd.zip"
    assert prunectl("prune", balancer, "--sparsity", 0.3, "--recovery", "none", "-o", good)[0] == 0
    with zipfile.ZipFile(good) as before, zipfile.ZipFile(odd, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "prunectl.json":
                said = json.loads(content)
                spoil(said["plan"])
                content = json.dumps(said).encode()
            after.writestr(name, content)
    status, _, err = prunectl("inspect", odd, "--figure", tmp_path / "graph")
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "graph.png").exists()


def test_a_controller_of_fewer_layers_is_drawn_beside_the_dense_one_and_pruned_on(
    prunectl: Prunectl, balancer: Path, tmp_path: Path
) -> None:
    short, shorter = tmp_path / "short.zip", tmp_path / "shorter.zip"
    cut = "--recovery", "reconstruct"
    assert prunectl("prune", balancer, "--sparsity", 0.5, "--grouping", "shallow", *cut, "-o", short)[0] == 0
    status, _, err = prunectl("inspect", short, "--figure", tmp_path / "graph")
    assert status == 0, err
    assert (tmp_path / "graph.png").exists()
    assert prunectl("prune", short, "--sparsity", 0.3, *cut, "-o", shorter)[0] == 0
    status, _, err = prunectl(
        "prune", short, "--sparsity", 0.3, "--grouping", "shallow", *cut, "-o", tmp_path / "x.zip"
    )
    assert status == 2
    assert "has two in a row" in err
    assert err.count("\n") == 1


def test_a_controller_that_reads_less_is_drawn_run_and_written_out(
    prunectl: Prunectl, balancer: Path, tmp_path: Path
) -> None:
    small, cut = tmp_path / "small.zip", ("--recovery", "reconstruct")
    status, out, err = prunectl("prune", balancer, "--sparsity", "0.5,observation=0.25", *cut, "-o", small)
    assert status == 0, err
    assert "observation->actor,value: 4 -> 3 units, couples actor, value" in out
    status, out, err = prunectl("inspect", small, "--figure", tmp_path / "graph")
    assert (status, (tmp_path / "graph.png").exists()) == (0, True), err
    assert "observation->actor,value" in out
    assert prunectl("evaluate", small, "--episodes", 2)[0] == 0
    assert prunectl("export", small, "--format", "onnx", "-o", tmp_path / "small.onnx")[0] == 0
    again = tmp_path / "again.zip"
    assert prunectl("prune", small, "--sparsity", 0.2, "--grouping", "inputs", *cut, "-o", again)[0] == 0
    for ask, says in (
        (("0.5,observation=0.9",), "with 1 of its 4 units left, flow 'observation->actor,value' reaches 0.75"),
        (("0.5", "--grouping", "input"), "did you mean 'inputs'?"),
        (("0.5,observations=0.5",), "unknown scope 'observations': did you mean 'observation'? there are actor, value"),
    ):
        status, _, err = prunectl("prune", balancer, "--sparsity", *ask, *cut, "-o", tmp_path / "x.zip")
        assert (status, err.count("\n")) == (2, 1)
        assert says in err
        assert not (tmp_path / "x.zip").exists()


def test_inspect_remarks_on_a_task_that_does_not_fit(prunectl: Prunectl, balancer: Path) -> None:
    status, out, err = prunectl("inspect", balancer, "--task", "Pendulum-v1")
    assert status == 0
    assert "actor/0" in out
    assert "name the task that it was trained on" in err
    assert prunectl("inspect", balancer, "--task", "Pendlum-v1")[0] == 2
