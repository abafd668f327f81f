"""Sweep configs: what they expand to, and that every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.experiments.sweeping.config import ConfigError, SweepConfig, load_config
from prunectl.pruning import ALLOCATIONS, GROUPINGS, IMPORTANCES, Method
from prunectl.pruning.stock import NORMALIZERS

CONFIGS = Path(__file__).parents[3] / "experiments" / "configs"
GOOD = "controllers: [a.zip]\nmethods: [{}]\nsparsities: [0.5]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_lists_make_a_full_factorial_in_order_without_duplicates(tmp_path: Path) -> None:
    config = load_config(
        written(
            tmp_path,
            "controllers: a.zip\nsparsities: [0.5, 0, 0.2, 0.5]\nmethods:\n"
            "  - {grouping: [global, component], recovery: [none, reconstruct]}\n"
            "  - {grouping: stock-global, importance: magnitude, recovery: none}\n"
            "  - {grouping: component, recovery: reconstruct}\n",
        )
    )
    assert config.expanded_methods == (
        Method("global", "surgeon", "uniform", "none"),
        Method("global", "surgeon", "uniform", "reconstruct"),
        Method("component", "surgeon", "uniform", "none"),
        Method("component", "surgeon", "uniform", "reconstruct"),
        Method("stock-global", "magnitude", "uniform", "none"),
    )
    assert config.pruned_sparsities == (0.2, 0.5)
    assert config.controllers[0].reference == "a.zip"
    assert config.seeds == (0,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("controllers: [a]\nmethods: [{}]\nsparsitys: [0.5]", ["sparsitys", "did you mean 'sparsities'", "episodes"]),
        ("controllers: [a]\nmethods: [{}]", ["sparsities", "missing"]),
        ("controllers: [a]\nmethods: [{gruping: x}]\nsparsities: [0.5]", ["methods[0].gruping", "grouping"]),
        (
            "controllers: [a]\nmethods: [{grouping: componnent}]\nsparsities: [0.5]",
            ["methods[0]", "componnent", "did you mean 'component'", "stock-local"],
        ),
        (
            "controllers: [a]\nmethods: [{}, {grouping: stock-global, importance: surgeon}]\nsparsities: [0.5]",
            ["methods[1]", "stock-global", "magnitude"],
        ),
        ("controllers: [a]\nmethods: [{}]\nsparsities: [0.5, 1.0]", ["sparsities[1]", "[0, 1)", "1.0"]),
        ("controllers: [a]\nmethods: [{}]\nsparsities: [-0.1]", ["sparsities[0]", "[0, 1)", "-0.1"]),
        ("controllers: [a]\nmethods: [{}]\nsparsities: [much]", ["sparsities[0]", "number", "'much'"]),
        ("controllers: [a]\nmethods: []\nsparsities: [0.5]", ["methods", "at least 1"]),
        ("controllers: [{path: a}]\nmethods: [{}]\nsparsities: [0.5]", ["controllers[0]"]),
        (GOOD + "timeout: 0", ["timeout", "greater than 0", "0"]),
        (GOOD + "timeout: soon", ["timeout", "number", "'soon'"]),
        (GOOD + "plugins: [3]", ["plugins[0]", "string", "3"]),
        (GOOD + "stability: 58", ["stability", "58 starts", "5%", "95%", "59 or more"]),
        (GOOD + "stability: -3", ["stability", "greater than or equal to 1", "-3"]),
        (GOOD + "stability: 1000000", ["stability", "less than or equal to 10000"]),
        (GOOD + "stability: often", ["stability", "integer", "'often'"]),
        (GOOD + "episodes: 0", ["episodes", "greater than or equal to 1", "0"]),
        (GOOD + "seeds: [0, -1]", ["seeds[1]", "-1"]),
        ("- just\n- a list", ["controllers", "methods", "sparsities"]),
        ("controllers: [", ["not YAML"]),
        ("controllers: ['${NOT_SET_ANYWHERE}/a']\nmethods: [{}]\nsparsities: [0.5]", ["NOT_SET_ANYWHERE", "not set"]),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    for word in ["mine.yaml", *words]:
        assert word in message


def test_a_missing_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_variables_are_filled_in_where_they_are_used_and_stay_out_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "/somewhere")
    text = "controllers: [{controller: '${PLACE}/a', task: T}]\nmethods: [{}]\nsparsities: [0.5]"
    entry = load_config(written(tmp_path, text)).controllers[0]
    assert entry.reference == "/somewhere/a"
    assert "/somewhere" not in entry.model_dump_json()


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.episodes = 3


@pytest.mark.parametrize(
    ("name", "sparsities", "default"),
    [
        ("demo.yaml", 5, Method()),
        ("zoo.yaml", 8, Method(recovery="reconstruct")),
        ("methods.yaml", 7, Method()),
        ("methods-tdmpc.yaml", 2, Method()),
        ("headline.yaml", 7, Method()),
        ("inherit.yaml", 2, Method()),
        ("stability.yaml", 12, Method()),
        ("couplings.yaml", 6, Method(recovery="reconstruct")),
        ("expert.yaml", 2, Method(recovery="reconstruct")),
        ("expert-tdmpc.yaml", 2, Method(recovery="reconstruct")),
        ("searched.yaml", 2, Method(recovery="reconstruct")),
    ],
)
def test_the_committed_sweeps_are_valid(
    name: str, sparsities: int, default: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO", "zoo")
    config = load_config(CONFIGS / name)
    assert isinstance(config, SweepConfig)
    assert len(config.pruned_sparsities) >= sparsities
    assert default in config.expanded_methods


def test_the_leaderboard_runs_without_the_zoo_and_has_every_importance_and_allocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ZOO", raising=False)
    config = load_config(CONFIGS / "methods.yaml")
    assert all("$" not in entry.reference for entry in config.controllers)
    methods = config.expanded_methods
    assert {method.importance for method in methods} == set(IMPORTANCES)
    # The search by return is in `searched`, low rank in `expert`.
    assert {method.allocation for method in methods} == {*ALLOCATIONS} - {"searched-return"}
    # results/expert has these, and results/default those of fewer inputs and layers
    others = {
        "layer",
        "coupled",
        "bounded",
        "chosen",
        "lowrank",
        "inputs",
        "shallow",
        *(f"stock-global-{name}" for name in NORMALIZERS),
    }
    assert {method.grouping for method in methods} == {*GROUPINGS} - others


def test_the_demo_needs_nothing_but_what_is_bundled() -> None:
    from prunectl import agents

    names = {entry["name"] for entry in agents.bundled()}
    config = load_config(CONFIGS / "demo.yaml")
    assert {entry.controller for entry in config.controllers} <= names


def test_stability_is_recorded_only_where_it_is_asked_for(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, GOOD)).stability is None
    assert load_config(written(tmp_path, GOOD + "stability: 59")).stability == 59


def test_the_stability_sweep_has_every_bundled_controller_with_a_plant_that_does_not_plan() -> None:
    from prunectl import agents
    from prunectl.envs.plants import PLANTS

    config = load_config(CONFIGS / "stability.yaml")
    names = {e["name"] for e in agents.bundled() if e["task"] in PLANTS and not e["algorithm"].startswith("tdmpc")}
    assert {entry.controller for entry in config.controllers} == names
    assert config.stability == 100


def test_optional_controllers_take_part_where_their_variables_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace("[a.zip]", "[{controller: '${PRUNECTL_TEST}/x.zip', optional: true}, a.zip]")
    path = written(tmp_path, text)
    monkeypatch.delenv("PRUNECTL_TEST", raising=False)
    without = load_config(path)
    monkeypatch.setenv("PRUNECTL_TEST", "there")
    assert load_config(path).controllers[0].reference == "there/x.zip"
    assert load_config(path).controllers[1:] == without.controllers
    monkeypatch.delenv("PRUNECTL_TEST")
    nobody = "controllers: {controller: '${PRUNECTL_TEST}', optional: true}\nmethods: {}\nsparsities: 0.5\n"
    with pytest.raises(ConfigError, match="none are set"):
        load_config(written(tmp_path, nobody))


def test_what_is_not_named_is_what_prune_takes(tmp_path: Path) -> None:
    text = "controllers: a.zip\nsparsities: 0.5\nmethods:\n  - {}\n  - {grouping: [layer, stock-local, unstructured]}\n"
    assert load_config(written(tmp_path, text)).expanded_methods == (
        Method("component", "surgeon", "uniform", "distill"),
        Method("layer", "surgeon", "uniform", "distill"),
        Method("stock-local", "magnitude", "uniform", "distill"),
        Method("unstructured", "magnitude", "uniform", "none"),
    )
