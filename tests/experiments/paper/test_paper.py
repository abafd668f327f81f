"""The paper's reproductions: counts that can be checked by hand, one component alone, and a small one end to end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from distributed import Client

from prunectl import agents
from prunectl.agents.tdmpc import inference
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.networks import build
from prunectl.agents.tdmpc.planner import Planning
from prunectl.experiments.analysis.curves import panels, pooled, run_draws
from prunectl.experiments.analysis.readings import read_panels
from prunectl.experiments.cli import run
from prunectl.experiments.deploying import rates
from prunectl.experiments.deploying.rates import of_widths, widths_of
from prunectl.experiments.paper.budget import planner_macs
from prunectl.experiments.paper.components import sensitivities
from prunectl.experiments.paper.cuts import cuts_figure, write_cuts
from prunectl.experiments.paper.groups import Seen, groups_table, overview
from prunectl.experiments.paper.layer_graph import lay_out, pools_of
from prunectl.experiments.paper.reproductions import CATALOGUE, chosen, config_of, reproduce
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.config import ConfigError, SweepConfig, load_config
from prunectl.experiments.sweeping.dispatch import run as run_sweep
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.store import FILE, Store
from prunectl.pruning import ALLOCATIONS, Method, make_plan, score, trace
from prunectl.pruning.graph import axis_width
from prunectl.pruning.stock import stock_groups
from tests.agents.test_tdmpc_controller import observations
from tests.conftest import untrained, untrained_planner
from tests.experiments.fakes import cell, drop_columns, episodes, outcome, subject

LATENT = "encoder,dynamics->dynamics,reward,actor,critic.0,critic.1"


def tiny_tdmpc() -> TDMPCController:
    """For Pendulum, untrained: latent 6, encoder 8, hidden 12."""
    torch.manual_seed(0)
    networks = build(3, 1, latent=6, encoder=8, hidden=12)
    for network in (networks.online.reward, networks.online.critic_0, networks.online.critic_1):
        torch.nn.init.normal_(network[-1].weight)  # zero in fresh networks
    return replace(untrained_planner(), networks=networks)


def test_one_latent_unit_of_tdmpc_touches_all_six_components() -> None:
    agent = tiny_tdmpc()
    graph = trace(agent)
    seen = Seen("tiny", graph, stock_groups(agent, graph))
    table = groups_table([seen]).set_index(["graph", "group"])
    for key in (("stock", "encoder.2"), ("component", LATENT)):
        group = table.loc[key]
        assert (group["units"], group["components"], group["layers"]) == (6, 6, 7)
        # Rows of encoder (8 + bias) and dynamics (12 + bias); columns of dynamics, reward, actor and both critics.
        assert group["params_per_unit"] == 8 + 1 + 12 + 1 + 5 * 12
    # A normalised unit of a critic: latent + action + bias, two of the normalisation, a column of 12.
    assert table.loc[("stock", "critic_0.0"), "params_per_unit"] == 6 + 1 + 1 + 2 + 12
    assert table.loc[("component", "critic.0/0"), "params_per_unit"] == 6 + 1 + 1 + 2 + 12
    one, many = overview([seen]).set_index("graph").loc[["stock", "component"]].to_dict("records")
    assert (one["groups"], one["pools"], one["units_in_largest_pool"]) == (12, 1, 6 + 8 + 2 * 5 * 12)
    # Encoder, dynamics, reward, actor, the latent, and the twin critics as one.
    assert (many["groups"], many["pools"]) == (12, 6)
    assert many["coupled"] == 6 / one["units_in_largest_pool"]


def test_sac_couples_its_components_only_around_a_shared_encoder() -> None:
    plain, shared = (untrained("sac", "Pendulum-v1", widths=(8, 8), encoder=e) for e in ((), (10, 6)))
    seen = [Seen(n, trace(a), stock_groups(a, trace(a))) for n, a in (("plain", plain), ("shared", shared))]
    table = groups_table(seen)
    components = table.groupby(["controller", "graph"])["components"].max()
    assert components.to_dict() == {
        ("plain", "component"): 1,
        ("plain", "stock"): 1,
        ("shared", "component"): 4,
        ("shared", "stock"): 4,
    }
    # The exploration head shapes no output: Torch-Pruning does not see that it loses a column too.
    last = table[(table["controller"] == "plain") & table["group"].isin(["actor/1", "actor.trunk.2"])]
    assert dict(zip(last["graph"], last["layers"], strict=True)) == {"stock": 2, "component": 3}
    assert pools_of(seen[1].graph)["critic.0/0"] == "critic.0+critic.1"


def test_layers_are_drawn_apart_and_heads_side_by_side() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8, 8), encoder=(10, 6)))
    layout = lay_out(graph)
    assert set(layout.nodes) == set(graph.layer_axes)
    assert len(set(layout.nodes.values())) == len(layout.nodes)
    assert layout.nodes["actor.mean"][0] == layout.nodes["actor.spread"][0]
    assert layout.bus is not None
    assert layout.nodes["encoder.net.2"][0] < layout.bus < layout.nodes["actor.trunk.0"][0]


def test_a_component_alone_is_another_cell_and_whole_controllers_keep_their_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prunectl.pruning.method.VERSION", 1)  # keys change with the methods, and with nothing else
    whole = cell(method=Method(recovery="reconstruct"), sparsity=0.5)
    alone = replace(whole, only="actor")
    assert len({whole.key, alone.key, replace(whole, only="value").key}) == 3
    assert whole.key == "eb0df3abb722170e8b55fabbe2a9ef8d"
    assert str(alone) == "mine on CartPole-v1, component + surgeon + reconstruct at sparsity 0.5 of actor alone, seed 0"


def test_only_is_checked_before_anything_runs(balancer: Path) -> None:
    base = {"controllers": str(balancer), "methods": {"grouping": "component"}, "sparsities": [0, 0.5]}
    with pytest.raises(ConfigError, match=r"has no 'encoder'; it has actor, value, observation, deployed$"):
        load_work(SweepConfig.model_validate(base | {"only": ["actor", "encoder"]}), False, lambda line: None)
    only = ["actor", "value", "actor", "deployed"]
    work = load_work(SweepConfig.model_validate(base | {"only": only}), False, lambda line: None)
    assert [entry.only for entry in work.cells] == [None, "actor", "value", "deployed"]
    measured = [replace(entry, method=Method(allocation="searched")).measures for entry in work.cells]
    assert measured == [True, False, False, True]  # what acts is divided among its components


def test_a_store_of_the_form_before_gets_the_new_column(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        store.plan([cell()])
        store.record(cell(), outcome([1.0, 2.0]))
    with sqlite3.connect(tmp_path / FILE) as connection:
        drop_columns(connection, "only", "stability_starts", "unstable", "rising", "stability_seconds")
        connection.execute("PRAGMA user_version = 1")
    with Store.writing(tmp_path) as store:
        alone = replace(cell(method=Method(recovery="reconstruct"), sparsity=0.5), only="actor")
        store.plan([cell(), alone])
        store.record(alone, outcome([1.0, 2.0]))
        assert store.results()["only"].fillna("").tolist() == ["", "actor"]


def test_trainings_are_pooled_and_scopes_are_kept_apart(tmp_path: Path) -> None:
    with Store.writing(tmp_path) as store:
        cells = []
        for name, top in (("one", 100.0), ("two", 200.0)):
            of = subject(name)
            cells.append(cell(of))
            store.record(cells[-1], outcome([top - 10, top + 10]))
            for only, share in (("actor", 0.5), ("value", 1.0)):
                for sparsity in (0.5,) if name == "two" else (0.5, 0.9):
                    cells.append(replace(cell(of, Method(recovery="reconstruct"), sparsity), only=only))
                    store.record(cells[-1], outcome([share * top - 10, share * top + 10], sparsity, sparsity))
        store.plan(cells)
        store.record_random(episodes([0.0, 0.0]))
        found = panels(store)
    assert [(panel.controller, panel.only) for panel in found] == [
        ("one", "actor"), ("one", "value"), ("two", "actor"), ("two", "value"),
    ]  # fmt: skip
    together = pooled(found)
    assert [(panel.controller, panel.only) for panel in together] == [
        ("ppo, 2 trainings", s) for s in ("actor", "value")
    ]
    (curve,) = together[0].curves
    np.testing.assert_array_equal(curve.asked, [0.5])  # one of them lacks 0.9
    np.testing.assert_array_equal(curve.returns, [[[40, 60]], [[90, 110]]])
    np.testing.assert_array_equal(together[0].dense, [[90, 110], [190, 210]])
    drawn = run_draws(together[0], curve, np.random.default_rng(0), 50)
    assert drawn is not None
    assert drawn[0].ravel() == pytest.approx([0.5, 0.5])
    assert curve.over == "trainings and episodes"
    table = sensitivities(read_panels(together, 0)).set_index("scope")
    # From 1 at sparsity 0 to 0.5 at 0.5: it passes 0.95 at a tenth of the way.
    assert table.loc["actor", "s95"] == pytest.approx(0.05)
    assert table.loc["value", "s95"] == pytest.approx(0.5)
    assert table["never_fell"].to_dict() == {"actor": False, "value": True}


def test_widths_come_back_from_a_cells_components() -> None:
    agent = tiny_tdmpc()
    graph = trace(agent)
    seen = observations()
    inputs = agent.inputs(seen, np.zeros((len(seen), 1), dtype=np.float32))
    plan = make_plan(graph, score(agent, graph, "magnitude", inputs), "component", "uniform", 0.5)
    components = json.loads(json.dumps(plan.to_json()["components"]))
    assert widths_of(graph, components) == plan.widths
    assert of_widths(agent, graph, plan.widths).parameters() == plan.params_pruned


def test_a_plans_arithmetic_is_what_its_products_do(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = replace(
        tiny_tdmpc(), planning=Planning(num_samples=16, num_elites=4, iterations=2, mixture_coef=0.2, horizon=3)
    )
    done = []
    product = inference.linear

    def counted(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        done.append(values.shape[0] * weight.numel())
        return product(values, weight, bias)

    monkeypatch.setattr(inference, "linear", counted)
    agent.act(observations(1))
    graph = trace(agent)
    macs = dict.fromkeys(graph.components, 0)
    for layer, (inputs, outputs) in graph.layer_axes.items():
        macs[graph.layer_component[layer]] += axis_width(inputs, graph.dense) * axis_width(outputs, graph.dense)
    assert sum(done) == planner_macs(agent.planning, macs)


def test_configs_read_and_the_quick_ones_are_part_of_the_full_ones() -> None:
    for entry in CATALOGUE:
        full, quick = config_of(entry, False), config_of(entry, True)
        plain, shorter = (yaml.safe_load(path.read_text()) for path in (full, quick))
        if "sparsities" not in plain:
            assert set(shorter.pop("controllers")) <= set(plain.pop("controllers"))
            assert shorter == plain
            continue
        whole, part = load_config(full), load_config(quick)
        assert set(part.sparsities) <= set(whole.sparsities)
        assert {c.controller for c in part.controllers} < {c.controller for c in whole.controllers}
        assert (part.methods, part.only) == (whole.methods, whole.only)
        assert part.episodes < whole.episodes
        assert whole.episodes >= (6 if whole.only else 10)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A TD-MPC controller of a few units, untrained, on disk."""
    path = tmp_path / "agent"
    path.mkdir()
    tiny_tdmpc().save(path / "controller.pt", {"task": "Pendulum-v1", "training_seed": 1})
    return path / "controller.pt"


@pytest.mark.slow
def test_a_small_reproduction_end_to_end_resumes_and_says_the_same_again(
    balancer: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.01)
    methods = [
        {"grouping": "component", "recovery": ["none", "reconstruct"]},
        {"grouping": "stock-global", "importance": "magnitude", "recovery": "none"},
    ]
    configs = {
        "reward-vs-sparsity": {"controllers": [str(balancer)], "methods": methods},
        "components": {"controllers": [str(balancer)], "methods": methods[:1], "only": ["actor", "value"]},
        "without-recovery": {"controllers": [str(saved)], "methods": methods[:1]},
        "budget": {"controllers": [str(saved)], "methods": {"grouping": "component", "recovery": "reconstruct"}},
    }
    computed: list[int] = []

    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:

        @contextmanager
        def compute(settings: SweepConfig, folder: Path) -> Iterator[tuple[Store, Work]]:
            with Store.writing(tmp_path / "out") as store:
                work = load_work(settings, False, lambda line: None)
                to_do = still_to_do(work, store)
                computed.append(len(to_do.cells))
                assert run_sweep(work, to_do, store, client, lambda cell: None) == []
                yield store, work

        def everything() -> list[bytes]:
            contents = []
            for name, changes in configs.items():
                config = tmp_path / f"{name}.yaml"
                config.write_text(yaml.safe_dump({"sparsities": [0, 0.3, 0.6], "episodes": 2} | changes))
                (entry,) = chosen([name])
                for path in reproduce(entry, config, tmp_path / "out" / name, compute):
                    assert path.stat().st_size > 0
                    # What a clock says differs from time to time, and so does the figure that shows it.
                    if path.stem not in ("rates", "budget", "reward-vs-sparsity"):
                        contents.append(path.read_bytes())
            return contents

        first = everything()
        # The dense balancer is there already the second time, and all of the budget.
        assert computed == [1 + 3 * 2, 2 * 2 * 2, 1 + 2 * 2, 0]
        assert everything() == first
        assert computed[4:] == [0, 0, 0, 0]
    table = pd.read_csv(tmp_path / "out" / "budget" / "budget.csv")
    assert table["method"].tolist() == ["dense", *["component + surgeon + reconstruct"] * 2]
    assert table["parameters"].is_monotonic_decreasing
    assert (table["bytes"] == 4 * table["parameters"]).all()
    assert table["speed_up"][0] == 1.0
    summary = pd.read_csv(tmp_path / "out" / "reward-vs-sparsity" / "summary.csv")
    assert summary["s95_deployed"].notna().all()
    about = (tmp_path / "out" / "components" / "about.md").read_text()
    assert about.startswith("# components\n")


def test_names_are_listed_and_an_unknown_one_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = [line.split()[0] for line in lines]
    assert known == [entry.name for entry in CATALOGUE]
    assert {"groups", "reward-vs-sparsity", "components", "budget"} <= set(known)
    assert run(["reproduce", "groups", "component"]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"prunectl: unknown reproduction 'component': did you mean 'components'? there are {', '.join(known)}, all\n"
    )


def test_cuts_have_a_row_an_allocation_and_component_and_a_bar_each(balancer: Path, tmp_path: Path) -> None:
    config = tmp_path / "cuts.yaml"
    config.write_text(yaml.safe_dump({"controllers": [str(balancer)], "sparsity": 0.5, "seed": 0}))
    written = write_cuts(config, tmp_path)
    assert all(path.stat().st_size > 0 for path in written)
    table = pd.read_csv(tmp_path / "cuts.csv")
    assert table["allocation"].tolist() == [name for name in ALLOCATIONS for _ in ("actor", "value")]
    dense = agents.load(balancer).controller.parameters()
    for _, own in table.groupby("allocation"):
        assert own["parameters"].sum() / dense == pytest.approx(0.5, abs=0.05)
        assert own["error"].nunique() == 1
    (axes,) = cuts_figure(table, 0.5).axes
    assert sorted(bar.get_height() for bar in axes.patches) == pytest.approx(sorted(table["left"]))
    shown = {text.get_text() for text in axes.texts}
    assert shown == set(table["widths"])
