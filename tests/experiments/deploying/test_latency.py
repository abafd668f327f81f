"""Timing decisions: every form is there, and what the table says follows from the times."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prunectl import agents
from prunectl.experiments.bench.benchmarks import chosen
from prunectl.experiments.deploying import latency
from prunectl.experiments.deploying import study as deployment
from prunectl.experiments.deploying.latency import Contender, contender, decision_times
from prunectl.experiments.deploying.study import deployed, figure
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.pruning import trace
from prunectl.pruning.plan import uncut
from tests.conftest import SaveTiny, needs_arm, untrained

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the C with")


@pytest.fixture
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "CALLS", dict.fromkeys(latency.CALLS, 5))


def test_the_table_follows_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = untrained("sac", "Pendulum-v1")
    order: list[str] = []

    def forms(one: Contender) -> dict[str, Callable[[int], NDArray[np.float64]]]:
        milliseconds = {"dense": 4.0, "small": 0.5}[one.name]

        def timed(calls: int) -> NDArray[np.float64]:
            order.append(one.name)
            return np.full(calls, 1e-3 * milliseconds) if calls != 3 else np.full(calls, 9.0)  # warming up is slow

        return {"C -O2": timed}

    monkeypatch.setattr(latency, "_forms", forms)
    seen = np.zeros((4, 3))
    table = decision_times(
        [Contender("dense", controller, seen, 0.0), Contender("small", controller, seen, 0.9)], rounds=2
    )
    assert order == ["dense", "small"] * 3  # in turns
    assert table["median_us"].tolist() == pytest.approx([4000, 500])
    assert table["p99_us"].tolist() == pytest.approx([4000, 500])
    assert table["times_faster"].tolist() == pytest.approx([1, 8])
    assert table["rate_hz"].tolist() == pytest.approx([250, 2000])
    assert table["holds"].tolist() == [100, 1000]
    assert table["parameters"].tolist() == [controller.parameters(deployed=True)] * 2


@needs_gcc
@pytest.mark.usefixtures("_few_calls")
def test_every_form_of_a_controller_is_timed(save_tiny: SaveTiny) -> None:
    loaded = agents.load(save_tiny("ppo", "CartPole-v1"))
    one = contender(loaded, "CartPole-v1")
    assert (one.name, one.sparsity) == ("tiny", 0.0)
    table = decision_times([one], rounds=2)
    assert table["form"].tolist() == [form for form in latency.CALLS if form != "plan in torch"]
    assert (table["median_us"] > 0).all()
    assert (table["p99_us"] >= table["median_us"]).all()


@needs_gcc
@pytest.mark.usefixtures("_few_calls")
def test_the_planner_is_a_form_of_its_own() -> None:
    loaded = agents.load("tdmpc-pendulum")
    seen = np.zeros((2, 3), np.float32)
    table = decision_times([Contender("tdmpc", loaded.controller, seen, 0.0)], rounds=1).set_index("form")
    assert table.index.tolist() == list(latency.CALLS)
    assert table.loc["plan in torch", "median_us"] > table.loc["torch", "median_us"]


@needs_gcc
@pytest.mark.usefixtures("_few_calls")
def test_return_and_latency_of_every_form(balancer: Path, save_tiny: SaveTiny, tmp_path: Path) -> None:
    loaded = agents.load(balancer)
    plan = uncut(trace(loaded.controller)).to_json()
    small = tmp_path / "small.zip"
    untrained("ppo", "CartPole-v1").save(small, {"task": "CartPole-v1", "plan": plan})
    table = deployed([str(balancer), str(small), str(save_tiny("ppo", "CartPole-v1"))], episodes=2)
    assert set(table["task"]) == {"CartPole-v1"}
    # What is pruned belongs to the dense controller before it, another dense one opens a group of its own.
    named = table[["dense", "controller"]].drop_duplicates().to_numpy().tolist()
    assert named == [["balancer", "balancer"], ["balancer", "small"], ["tiny", "tiny"]]
    measured = table[table["mean_return"].notna()]
    assert set(measured["form"]) == {"torch", "onnxruntime", "C -O2", "int8 C -O2"}
    ours = measured[measured["controller"] == "balancer"]
    assert ours["mean_return"].tolist() == [500] * 4
    assert ours["normalised_return"].tolist() == [1] * 4
    small_c, small_int8 = (measured[measured["form"] == form].iloc[0] for form in ("C -O2", "int8 C -O2"))
    assert small_int8["flash"] < small_c["flash"]
    assert measured[measured["form"] == "torch"]["flash"].isna().all()
    worse = measured[(measured["controller"] == "small") & (measured["form"] != "int8 C -O2")]
    assert worse["normalised_return"].nunique() == 1
    assert worse["normalised_return"].iloc[0] < 0.2
    drawn = figure(table)
    assert [axes.get_title() for axes in drawn.axes] == ["balancer", "tiny"]
    deployment.save(drawn, tmp_path / "deployment")


def test_two_controllers_of_one_name_are_not_mixed_up(balancer: Path, tmp_path: Path) -> None:
    loaded = agents.load(balancer)
    same = tmp_path / "balancer.zip"
    loaded.controller.save(same, {"task": "CartPole-v1", "plan": uncut(trace(loaded.controller)).to_json()})
    with pytest.raises(agents.ControllerError, match="rename one of them"):
        deployed([str(balancer), str(same)])


@needs_gcc
@pytest.mark.usefixtures("_few_calls")
def test_what_follows_latency_are_checkpoints(balancer: Path, save_tiny: SaveTiny) -> None:
    (entry,) = chosen(["latency", str(balancer), str(save_tiny("ppo", "CartPole-v1"))])
    (section,) = entry.measure(True)
    assert list(dict.fromkeys(section.table["controller"])) == ["balancer", "tiny"]
    (entry,) = chosen(["latency", "nowhere.zip"])
    with pytest.raises(agents.ControllerError, match=r"no checkpoint 'nowhere\.zip'"):
        entry.measure(True)
    assert [one.name for one in chosen(["latency"])] == ["latency"]


@needs_arm
def test_latency_on_a_target_is_counted(save_tiny: SaveTiny) -> None:
    wide, thin = save_tiny("sac", "Pendulum-v1", "wide", widths=(64, 64)), save_tiny("sac", "Pendulum-v1", "thin")
    (entry,) = chosen(["latency", str(wide), str(thin)], "cortex-m4")
    told, boards = entry.measure(True)
    assert told.table["form"].tolist() == ["float", "int8", "int4"] * 2
    wide_float, wide_int8, wide_int4, thin_float, *_ = told.table.to_dict("records")
    assert wide_int8["flash"] < wide_float["flash"] / 2
    assert wide_int8["flash"] - wide_int4["flash"] > 64 * 64 / 2 - 500  # half of the weights, and some more code
    assert thin_float["times_fewer"] == wide_float["instructions"] / thin_float["instructions"] > 4
    assert thin_float["rate_80mhz"] == pytest.approx(80e6 / thin_float["instructions"])
    row = boards.table.set_index("board").loc["Nucleo-L476RG"]
    assert row["thin, float"] == f"{thin_float['rate_80mhz']:,.0f}"


def test_a_target_goes_with_checkpoints() -> None:
    with pytest.raises(ConfigError, match="bench latency CKPT"):
        chosen(["latency"], "cortex-m4")
