"""Plug-ins: named from outside, found by name wherever a name is taken, checked in what they give."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from distributed import Client

import prunectl
from prunectl import agents, plugins, registry
from prunectl.agents import ControllerError
from prunectl.agents.sb3.save import SIDECAR
from prunectl.envs.plants import PLANTS, Plant, plant
from prunectl.experiments import cli
from prunectl.experiments.analysis.comparison import compare
from prunectl.experiments.drawing.style import look
from prunectl.experiments.report.write import write_report
from prunectl.experiments.sweeping import dispatch
from prunectl.experiments.sweeping.cell import Cell, Work
from prunectl.experiments.sweeping.config import ConfigError, config_of, load_config
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, still_to_do, write_record
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import local_workers, remote_workers
from prunectl.plugins import PluginError, import_plugins
from prunectl.pruning import IMPORTANCES, Calibration, Method, Pruned, PruningError, prune
from prunectl.pruning.allocation import Division
from prunectl.pruning.graph import ComponentGraph, Group
from prunectl.pruning.importance import Evidence
from prunectl.pruning.recovery import Budget, Cut, Loop, Recovered
from tests.conftest import ROOT, untrained
from tests.experiments.clusters import cluster

NAMES = ("importance", "allocation", "recovery", "grouping", "plant", "loader")

#: A package of somebody else's, with all that it takes.
PACKAGE = '''"""Methods of ours."""

import numpy as np

import prunectl


@prunectl.importance("spread")
def spread(evidence, group):
    """How much a unit varies, and how much listens to it."""
    return evidence.activations(group).std(axis=0) * np.abs(evidence.outgoing(group)).sum(axis=1)


@prunectl.recovery("half")
def half(cut):
    """Half of what reconstruction would change."""
    whole = cut.refitted()
    for own, other in zip(whole.networks.parameters(), cut.small.networks.parameters(), strict=True):
        own.data.add_(other.data).mul_(0.5)
    return whole
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a package ``our_methods`` that can be imported and is not yet."""
    folder = tmp_path / "elsewhere"
    (folder / "our_methods").mkdir(parents=True)
    path = folder / "our_methods" / "__init__.py"
    path.write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "our_methods", raising=False)
    return path


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    controller = untrained("ppo", "CartPole-v1")
    controller.observation_space.seed(1)
    seen = np.clip(np.stack([controller.observation_space.sample() for _ in range(80)]), -5, 5)
    actions = np.arange(80) % 2
    return Calibration(seen, actions, seen[:20], actions[:20])


def pruned(calibration: Calibration, sparsity: float = 0.8, loop: Loop | None = None, **names: str) -> Pruned[Any]:
    method = Method.of(**{"recovery": "none", **names})
    return prune(untrained("ppo", "CartPole-v1"), method, sparsity, calibration, loop=loop)


# What there is, by name


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name: str) -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(prunectl, name), name, globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_every_kind_is_used_by_its_name(calibration: Calibration) -> None:
    @plugins.importance("first")
    def first(evidence: Evidence, group: Group) -> np.ndarray:
        return np.arange(group.units)[::-1]

    @plugins.allocation("even")
    def even(division: Division) -> dict[str, int]:
        def path(share: float) -> dict[str, int]:
            return {name: max(round(share * k.units), 1) for k in division.knobs for name in k.groups}

        return division.met(path)

    @plugins.recovery("zeroed")
    def zeroed(cut: Cut[Any]) -> Any:
        small = cut.refitted()
        for parameter in small.networks.parameters():
            parameter.data.zero_()
        return Recovered(small, 1.0, 2.0)

    @plugins.grouping("whole")
    def whole(graph: ComponentGraph, group: Group) -> str:
        return "controller"

    made = pruned(calibration, importance="first", allocation="even", recovery="zeroed")
    assert made.plan.sparsity_total == pytest.approx(0.8, abs=0.02)
    assert all(kept == tuple(range(len(kept))) for kept in made.plan.kept.values())
    assert made.returns == (1.0, 2.0)
    assert not any(parameter.any() for parameter in made.controller.networks.parameters())
    one, other = (pruned(calibration, grouping=name, importance="first").plan for name in ("whole", "global"))
    assert one == other


def test_a_grouping_s_scopes_give_up_the_same_share(calibration: Calibration) -> None:
    @plugins.grouping("role")
    def role(graph: ComponentGraph, group: Group) -> str:
        return "acting" if graph.deployed & set(group.components) else "training"

    ours, components = (
        pruned(calibration, grouping=name, importance="magnitude").plan for name in ("role", "component")
    )
    assert ours == components  # of PPO one component acts and one does not


def test_a_loader_reads_what_prunectl_does_not(
    tmp_path: Path, balancer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.agent"
    path.write_text("weights of another make")
    with pytest.raises(ControllerError):
        agents.load(path)

    def read(path: Path) -> Any:
        return agents.load(balancer).controller if path.suffix == ".agent" else None

    plugins.loader("mine", version="1")(read)
    loaded = agents.load(path)
    assert loaded.loader is not None
    assert loaded.loader.name == "mine"
    before = agents.load(balancer)
    assert before.loader is None
    for mine, own in zip(loaded.controller.networks.parameters(), before.controller.networks.parameters(), strict=True):
        assert torch.equal(mine, own)
    plugins.loader("mine", version="2")(read)
    assert agents.load(path).digest != loaded.digest
    call = ["evaluate", str(path), "--task", "CartPole-v1", "--episodes", "1", "--json"]
    assert cli.run(call) == 0
    (said,) = json.loads(capsys.readouterr().out)["plugins"]
    assert (said["kind"], said["name"], said["version"]) == ("loader", "mine", "2")
    assert cli.run(["evaluate", str(balancer), *call[2:]]) == 0
    assert "plugins" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda path: "a string", "loader 'bad' of .*test_plugins gave str, a Controller or None is needed"),
        (lambda path: 1 / 0, "loader 'bad' of .*test_plugins raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_loader_gives_is_checked(gives: Callable[[Path], Any], said: str, balancer: Path) -> None:
    plugins.loader("bad")(gives)
    with pytest.raises(ControllerError, match=said):
        agents.load(balancer)


def test_a_plant_is_one_of_its_task() -> None:
    own = replace(PLANTS["Pendulum-v1"], task="tests:Mine-v0")

    @plugins.plant("tests:Mine-v0")
    def mine() -> Plant:
        return own

    assert plant("tests:Mine-v0") is own
    with pytest.raises(PluginError, match=r"plant 'tests:Other-v0' of .*: it gave one of tests:Mine-v0"):
        plugins.plant("tests:Other-v0")(mine)
    with pytest.raises(PluginError, match="it gave int, a Plant of Mine-v1 is needed"):
        plugins.plant("Mine-v1")(lambda: 3)


def test_names_are_taken_once() -> None:
    def mine(evidence: Evidence, group: Group) -> np.ndarray:
        return np.ones(group.units)

    def other(evidence: Evidence, group: Group) -> np.ndarray:
        return np.ones(group.units)

    plugins.importance("mine")(mine)
    plugins.importance("mine")(mine)  # a notebook's cell that is run again
    with pytest.raises(PluginError, match=r"importance 'mine' of test_plugins: .*test_plugins has named one so"):
        plugins.importance("mine")(other)
    with pytest.raises(PluginError, match=r"importance 'surgeon' of .*: that name is one of prunectl's own: choose"):
        plugins.importance("surgeon")(mine)
    for name in ("a + b", "a:b", "", "a,b"):
        with pytest.raises(PluginError, match="a name is up to 60 characters without spaces, colons, commas"):
            plugins.importance(name)(mine)
    with pytest.raises(PluginError, match="importance 'seven': a function is needed, not int"):
        plugins.importance("seven")(7)  # type: ignore[type-var]


# What plug-ins give


def scores(give: Callable[[Group], Any], calibration: Calibration) -> Pruned[Any]:
    plugins.importance("bad")(lambda evidence, group: give(group))
    return pruned(calibration, importance="bad")


def test_an_importance_s_shares_are_taken_unless_they_compare(calibration: Calibration) -> None:
    def mine(evidence: Evidence, group: Group) -> list[float]:
        return [1000.0 * ("value" in group.name) + unit for unit in range(group.units)]

    plugins.importance("mine", comparable=True)(mine)
    as_they_are = pruned(calibration, grouping="global", importance="mine", sparsity=0.4).plan.widths
    plugins.importance("mine")(mine)
    shares = pruned(calibration, grouping="global", importance="mine", sparsity=0.4).plan.widths
    assert [as_they_are[name] for name in as_they_are if name.startswith("value")] == [16, 16]
    assert [shares[name] for name in shares if name.startswith("value")] != [16, 16]


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda group: [1.0, 2.0, 3.0], "it gave 3 scores, one for each of its 16 units is needed"),
        (lambda group: np.ones((2, 8)), r"it gave an array of shape \(2, 8\), one for each of its 16 units"),
        (lambda group: np.where(np.arange(16) == 5, np.nan, 1), "1 of its 16 scores are NaN, the first that of unit 5"),
        (lambda group: np.where(np.arange(16) > 5, np.inf, 1), "10 of its 16 scores are infinite, the first that of"),
        (lambda group: np.arange(16) - 2, "2 of its 16 scores are negative, the first that of unit 0: numbers of at"),
        (lambda group: torch.ones(16), r"it gave a torch tensor: return scores\.detach\(\)\.cpu\(\)\.numpy\(\)"),
        (lambda group: torch.ones(16, device="meta"), "it gave a torch tensor on meta: return scores"),
        (lambda group: "many", "it gave str .*, an array of numbers is needed"),
        (lambda group: np.ones(16) * 1j, "it gave ndarray .complex128., an array of numbers is needed"),
        (lambda group: None, "it gave NoneType .object., an array of numbers is needed"),
        (lambda group: 1 / 0, "it raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_an_importance_gives_is_checked(give: Callable[[Group], Any], said: str, calibration: Calibration) -> None:
    with pytest.raises(PruningError, match=rf"^importance 'bad' of test_plugins, group 'actor/0': {said}") as told:
        scores(give, calibration)
    assert "\n" not in str(told.value)


def test_a_plug_in_leaves_the_dense_controller_as_it_is(calibration: Calibration) -> None:
    dense = untrained("ppo", "CartPole-v1")
    before = {name: tensor.clone() for name, tensor in dense.networks.state_dict().items()}

    def spoil(evidence: Evidence, group: Group) -> np.ndarray:
        evidence.products[group.producers[0]].matrix().add_(1.0)
        return np.ones(group.units)

    plugins.importance("spoil")(spoil)
    with pytest.raises(PruningError, match=r"importance 'spoil' of .*: it changed the dense controller.s"):
        prune(dense, Method(importance="spoil", recovery="none"), 0.5, calibration)
    after = dense.networks.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda graph: [1, 2], "it gave list, a width by the name of each group is needed"),
        (lambda graph: {}, "group 'actor/0': it gave the width None, a whole number is needed"),
        (lambda graph: dict.fromkeys(graph.groups, 2.5), "group 'actor/0': it gave the width 2.5, a whole number"),
        (
            lambda graph: dict.fromkeys(graph.groups, 0),
            "group 'actor/0': it gave the width 0, which is not from",
        ),
        (lambda graph: {**graph.dense, "head": 3}, "there is no group 'head' that it gave a width of"),
        (lambda graph: graph.dense, "its widths reach sparsity 0.0000 where 0.8 was asked for: `Division.met`"),
        (lambda graph: 1 / 0, "it raised ZeroDivisionError"),
    ],
)
def test_what_an_allocation_gives_is_checked(
    give: Callable[[ComponentGraph], Any], said: str, calibration: Calibration
) -> None:
    plugins.allocation("bad")(lambda division: give(division.graph))
    with pytest.raises(PruningError, match=rf"^allocation 'bad' of test_plugins[,:] {re.escape(said)}"):
        pruned(calibration, allocation="bad")


def test_a_measured_allocation_is_given_the_damage(calibration: Calibration) -> None:
    seen: list[float] = []

    @plugins.allocation("mine", measured=True)
    def mine(division: Division) -> dict[str, int]:
        assert division.damage is not None
        assert division.error is not None
        seen.append(division.error(division.graph.dense))
        return division.met(lambda share: {g: max(round(share * n), 1) for g, n in division.graph.dense.items()})

    pruned(calibration, allocation="mine", sparsity=0.5)
    assert seen == [pytest.approx(0.0, abs=1e-6)]


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda graph, group: 7, "group 'actor/0': it gave 7, the name of a scope is needed"),
        (lambda graph, group: "", "group 'actor/0': it gave '', the name of a scope is needed"),
        (lambda graph, group: group.nonsense, "group 'actor/0': it raised AttributeError: 'Group' object has no"),
    ],
)
def test_what_a_grouping_gives_is_checked(give: Any, said: str, calibration: Calibration) -> None:
    plugins.grouping("bad")(give)
    with pytest.raises(PruningError, match=rf"^grouping 'bad' of test_plugins, {re.escape(said)}"):
        pruned(calibration, grouping="bad")


def _filled(cut: Cut[Any], value: float) -> Any:
    small = cut.refitted()
    next(small.networks.parameters()).data.fill_(value)
    return small


def _spoiled(cut: Cut[Any]) -> Any:
    next(cut.dense.networks.parameters()).data.fill_(3.0)
    return cut.small


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda cut: None, "it gave NoneType, a SB3Controller is needed, as it is or in a `Recovered`"),
        (lambda cut: cut.dense, r"\S+ is of shape \(16, 4\); the plan says \(\d+, 4\)"),
        (lambda cut: _filled(cut, float("nan")), r"numbers in \S+ are NaN or infinite"),
        (
            lambda cut: cut.small.with_networks(cut.refitted().networks.double()),
            r"\S+ is torch.float64 on cpu, ",
        ),
        (_spoiled, r"it changed the dense controller's \S+: work on a copy"),
        (lambda cut: 1 / 0, "it raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_recovery_gives_is_checked(give: Any, said: str, calibration: Calibration) -> None:
    plugins.recovery("bad")(give)
    with pytest.raises(PruningError, match=rf"^recovery 'bad' of test_plugins: {said}"):
        pruned(calibration, recovery="bad")


def test_a_recovery_that_looks_at_the_task_is_given_it_and_a_budget(calibration: Calibration) -> None:
    @plugins.recovery("mine", looks_at_task=True)
    def mine(cut: Cut[Any]) -> Any:
        assert cut.budget is not None
        return Recovered(cut.small, 0.0, float(cut.budget.steps or 0))

    with pytest.raises(PruningError, match="recovery 'mine' needs the control task"):
        pruned(calibration, recovery="mine")
    controller, loop = untrained("ppo", "CartPole-v1"), object()
    method = Method.of(recovery="mine")
    assert method.looks_at_task
    made = prune(controller, method, 0.5, calibration, loop=loop, budget=Budget(steps=7))  # type: ignore[arg-type]
    assert made.returns == (0.0, 7.0)
    plugins.recovery("blind")(lambda cut: cut.small)
    with pytest.raises(PruningError, match="recovery 'blind' takes no budget"):
        prune(controller, Method(recovery="blind"), 0.5, calibration, budget=Budget(steps=7))


# Where names come from


def test_a_module_named_with_a_name_is_imported(package: Path) -> None:
    with pytest.raises(PruningError, match=r"unknown importance 'spread': .*there are magnitude, random"):
        Method.of(importance="spread")
    assert Method.of(importance="our_methods:spread").importance == "spread"
    assert Method.of(importance="spread", recovery="half").label == "component + spread + half"
    with pytest.raises(PluginError, match="module 'our_methods' names no importance 'spred': it names spread"):
        Method.of(importance="our_methods:spred")
    with pytest.raises(PluginError, match="module 'our_methods' names no grouping 'spread': it names no grouping"):
        Method.of("our_methods:spread")
    with pytest.raises(PluginError, match="names no importance 'surgeon'"):
        Method.of(importance="our_methods:surgeon")


def test_modules_that_cannot_be_imported_say_what_to_do(package: Path) -> None:
    with pytest.raises(PluginError, match="there is no module 'my_own': run prunectl in its folder"):
        import_plugins(["my_own"])
    package.write_text("import nothing_of_that_name")
    with pytest.raises(PluginError, match=r"module 'our_methods' cannot be imported \(ModuleNotFoundError: No module"):
        import_plugins(["our_methods"])
    package.write_text("import sys; sys.exit(3)")
    with pytest.raises(PluginError, match=r"module 'our_methods' cannot be imported \(SystemExit: 3\)"):
        import_plugins(["our_methods"])


def installed(package: Path, *modules: str) -> None:
    """Leave what pip would leave of a package that has these modules as entry points."""
    record = package.parents[1] / "theirs-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "".join(f"{module} = {module}\n" for module in modules)
    (record / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}")
    importlib.invalidate_caches()


def test_installed_packages_are_asked_when_a_name_is_unknown(package: Path) -> None:
    installed(package, "our_methods")
    assert Method.of(importance="surgeon").importance == "surgeon"
    assert "our_methods" not in sys.modules
    assert Method.of(recovery="half").recovery == "half"
    assert "spread" in registry.REGISTRIES["importance"].names()


def test_a_broken_installed_package_is_named_where_it_might_have_helped(package: Path) -> None:
    installed(package, "gone_away", "our_methods")
    assert Method.of(recovery="half").recovery == "half"
    with pytest.raises(PruningError, match=r"unknown recovery 'hlf': did you mean 'half'\?.*'gone_away' .* is broken"):
        Method.of(recovery="hlf")


def test_the_help_answers_without_importing_any_plug_in() -> None:
    code = (
        "import sys; from prunectl.experiments.cli import run; run(['--help'])\n"
        "heavy = {'torch', 'pandas', 'prunectl.plugins', 'prunectl.pruning'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_command_line_takes_plug_ins_by_name(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, folder, path = tmp_path / "small.zip", tmp_path / "out", tmp_path / "mine.yaml"
    names = ["--importance", "our_methods:spread", "--recovery", "half"]
    assert cli.run(["prune", "ppo-cartpole-1", "--sparsity", "0.5", "-o", str(small), *names]) == 0
    assert "component + spread + half" in capsys.readouterr().out
    with zipfile.ZipFile(small) as archive:
        recorded = json.loads(archive.read(SIDECAR))["plugins"]
    assert [(p["kind"], p["name"], p["module"]) for p in recorded] == [
        ("importance", "spread", "our_methods"),
        ("recovery", "half", "our_methods"),
    ]
    assert {p["digest"] for p in recorded} == {IMPORTANCES.plugin("spread").digest}  # type: ignore[union-attr]
    data = asked("ppo-cartpole-1", importance="our_methods:spread", recovery="none")
    path.write_text(yaml.safe_dump(data | {"sparsities": [0.5], "episodes": 20}))
    assert cli.run(["sweep", str(path), "--out", str(folder)]) == 2
    assert "methods[0]: it names code to import, 'our_methods'" in capsys.readouterr().err
    assert cli.run(["sweep", str(path), "--out", str(folder), "--workers", "1", "--allow-plugins"]) == 0
    assert cli.run(["compare", str(folder), str(ROOT / "results" / "reference")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("component + spread keeps more of the return than ")


# Cells


def cell(method: Method, stability: int | None = None, task: str = "CartPole-v1") -> Cell:
    from tests.experiments.fakes import subject

    return Cell(subject(task=task), method, 0.5, 0, 2, 0, 1, None, stability)


def reloaded(name: str) -> None:
    importlib.invalidate_caches()
    importlib.reload(sys.modules[name])


def test_a_plug_in_s_version_and_file_are_part_of_the_key(package: Path) -> None:
    own = cell(Method()).key
    method = Method.of(importance="our_methods:spread", recovery="reconstruct")
    first = cell(method).key
    package.write_text(PACKAGE.replace(".std(axis=0)", ".var(axis=0)  # "))
    reloaded("our_methods")
    edited = cell(method).key
    package.write_text(PACKAGE.replace('"spread"', '"spread", version="2"'))
    reloaded("our_methods")
    raised = cell(method).key
    package.write_text(PACKAGE)
    reloaded("our_methods")
    assert len({first, edited, raised}) == 3
    assert cell(method).key == first
    assert cell(Method()).key == own


def test_a_plant_s_plug_in_is_part_of_the_key_where_stability_is_recorded() -> None:
    def mine() -> Plant:
        return replace(PLANTS["Pendulum-v1"], task="Mine-v0")

    def keys() -> list[str]:
        return [cell(Method(), stability, "Mine-v0").key for stability in (None, 59)]

    plugins.plant("Mine-v0")(mine)
    without, recorded = keys()
    plugins.plant("Mine-v0", version="2")(mine)
    assert keys()[0] == without
    assert keys()[1] != recorded


def test_a_plug_in_whose_source_cannot_be_read_is_not_swept(balancer: Path) -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("def mine(evidence, group): return [1.0] * group.units", space)
    plugins.importance("mine")(space["mine"])
    settings = config_of(asked(balancer, importance="mine", recovery="none"), "config")
    with pytest.raises(PluginError, match="importance 'mine' of nowhere: its source cannot be read"):
        load_work(settings, trust=False, remark=silent)


# Sweeps


def silent(line: str) -> None:
    pass


def asked(controller: Path | str, plugins: Sequence[str] = (), **names: Any) -> dict[str, Any]:
    return {
        "controllers": [str(controller)],
        "methods": [names],
        "sparsities": [0.35, 0.6],
        "episodes": 2,
        **({"plugins": list(plugins)} if plugins else {}),
    }


def computed(work: Work, folder: Path, client: Client) -> pd.DataFrame:
    with Store.writing(folder) as store:
        assert run(work, still_to_do(work, store), store, client, lambda cell: None) == []
        return store.results()


@pytest.mark.parametrize("form", [{"plugins": ["our_methods"]}, {"importance": "our_methods:spread"}])
def test_a_config_imports_nothing_unless_it_is_allowed(
    form: dict[str, Any], package: Path, balancer: Path, tmp_path: Path
) -> None:
    data = asked(balancer, **{"importance": "spread", "recovery": "none", **form})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    where = "plugins" if "plugins" in form else r"methods\[0\]"
    said = rf"{where}: it names code to import, 'our_methods': if you trust that, add --allow-plugins"
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {said}"):
        load_config(path)
    with pytest.raises(ConfigError, match=said):
        config_of(data, "config")
    assert "our_methods" not in sys.modules
    settings = load_config(path, allow_plugins=True)
    assert [method.importance for method in settings.expanded_methods] == ["spread"]
    assert settings == config_of(data, "config", allow_plugins=True)


def test_a_config_s_plug_ins_that_are_not_there_are_told_in_a_line(package: Path, balancer: Path) -> None:
    with pytest.raises(ConfigError, match="plugins: there is no module 'my_own': run prunectl in its folder"):
        config_of(asked(balancer, plugins=["my_own"]), "config", allow_plugins=True)
    with pytest.raises(ConfigError, match=r"methods\[0\]: module 'our_methods' names no importance 'x'"):
        config_of(asked(balancer, importance="our_methods:x"), "config", allow_plugins=True)


def test_a_package_of_thirty_lines_is_swept_on_two_workers_and_stands_beside_the_published_methods(
    package: Path, tmp_path: Path
) -> None:
    assert len(PACKAGE.splitlines()) <= 30
    data = asked("ppo-cartpole-1", importance="our_methods:spread", recovery=["none", "half"])
    data |= {"sparsities": [0.5, 0.9], "episodes": 20}
    out = tmp_path / "mine"
    settings = config_of(data, "config", allow_plugins=True)
    work = load_work(settings, trust=False, remark=silent)
    assert {(plugin.kind, plugin.name, plugin.module) for plugin in work.plugins} == {
        ("importance", "spread", "our_methods"),
        ("recovery", "half", "our_methods"),
    }
    with local_workers(2) as client:
        table = computed(work, out, client)
    assert set(table["importance"].dropna()) == {"spread"}
    write_record(out, settings, work)
    again = load_config(out / "config.yaml", allow_plugins=True)
    assert [cell.key for cell in load_work(again, trust=False, remark=silent).cells] == table["key"].tolist()
    assert work.plugins[0].digest in (out / "provenance.json").read_text()

    found = compare(out, ROOT / "results" / "reference")
    methods = ["component + spread", "component + spread + half"]
    assert sorted(found.table["method"].unique()) == methods
    assert "component + surgeon + distill" in set(found.table["against"])
    assert (found.table["cells"] == 2).all()
    # Elsewhere, where nobody has the package, the report still reads.
    registry.REGISTRIES["importance"]._entries.pop("spread")
    registry.REGISTRIES["recovery"]._entries.pop("half")
    write_report(out)
    assert all(method in (out / "leaderboard.md").read_text() for method in methods)


@pytest.mark.slow
def test_workers_elsewhere_import_what_they_can_and_say_what_they_cannot(
    package: Path, balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config_of(
        asked(balancer, importance="our_methods:spread", recovery="none"), "config", allow_plugins=True
    )
    work = load_work(settings, trust=False, remark=silent)
    refused = r"worker tcp://\S+: importance 'spread' of our_methods: there is no module 'our_methods'"
    with cluster(tmp_path, 1) as there, remote_workers(there.address) as client:
        client.wait_for_workers(1)
        with pytest.raises(ConfigError, match=refused):
            computed(work, tmp_path / "without", client)
    monkeypatch.setenv("PYTHONPATH", f"{package.parents[1]}:{ROOT / 'src'}:{ROOT}")
    with cluster(tmp_path, 1) as there, remote_workers(there.address) as client:
        client.wait_for_workers(1)
        assert (computed(work, tmp_path / "with", client)["status"] == "done").all()
        package.write_text(PACKAGE + "\n# another version\n")
        reloaded("our_methods")
        work = load_work(settings, trust=False, remark=silent)
        with pytest.raises(ConfigError, match="importance 'spread' of our_methods is another version there: give it"):
            computed(work, tmp_path / "other", client)


def test_what_a_notebook_defines_cannot_be_sent_to_other_processes() -> None:
    here = registry.Plugin("importance", "mine", "json", "1", "digest", "file", "mine")
    assert plugins.complaint([here]) == (
        "importance 'mine' of json is not in the module of that name there: write it into a file of its own, "
        "not a notebook"
    )


def test_a_plug_in_s_mistake_fails_its_cells_in_one_line(balancer: Path, tmp_path: Path) -> None:
    plugins.importance("bad")(lambda evidence, group: [1.0, 2.0, 3.0])
    work = load_work(
        config_of(asked(balancer, importance="bad", recovery="none"), "config"), trust=False, remark=silent
    )
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
        Store.writing(tmp_path) as store,
    ):
        failures = dispatch.run(work, still_to_do(work, store), store, client, lambda cell: None)
    assert [failure.error for failure in failures] == [
        "importance 'bad' of test_plugins, group 'actor/0': it gave 3 scores, one for each of its 12 units is needed"
    ] * 2


def test_a_plug_in_s_look_is_always_the_same() -> None:
    strange = Method.recorded(["component", "mine", "uniform", "careful"])
    assert look(strange) == look(Method.recorded(["component", "mine", "uniform", "careful"]))
    assert look(strange).dash != look(Method()).dash
    others = {look(Method.recorded(["component", f"mine{n}", "uniform", "none"])) for n in range(30)}
    assert len(others) > 20
