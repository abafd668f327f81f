"""The bundled controllers are what their index says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from prunectl import agents, envs
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.references import ZOO

#: What RL Baselines3 Zoo reports in its benchmark, over 750 and 300 episodes: mean and standard deviation.
RL_ZOO = {
    ("sac", "Pendulum-v1"): (-156.995, 88.714, 750),
    ("td3", "Pendulum-v1"): (-151.855, 90.227, 750),
    ("ppo", "Pendulum-v1"): (-172.225, 104.159, 750),
    ("ppo", "CartPole-v1"): (500.0, 0.0, 300),
}

#: Tasks of which less is shown, and the same with everything shown.
SEES_LESS_THAN = {
    "prunectl/PendulumPixels-v0": "Pendulum-v1",
    "prunectl/PendulumNoVelocity-v0": "Pendulum-v1",
    "prunectl/CartPoleSwingUpPixels-v0": "prunectl/CartPoleSwingUp-v0",
}

ENTRIES = pytest.mark.parametrize("entry", agents.bundled(), ids=lambda entry: entry["name"])


@ENTRIES
def test_the_index_says_how_each_was_made(entry: Mapping[str, Any]) -> None:
    folder = ZOO / entry["name"]
    record = json.loads((folder / "training.json").read_text())
    assert entry["command"] == record["command"]
    assert f"-o agents/zoo/{entry['name']}" in entry["command"]
    assert (record["algorithm"], record["task"], record["seed"]) == (
        entry["algorithm"],
        entry["task"],
        entry["training_seed"],
    )
    curve = pd.read_csv(folder / "curve.csv")
    assert curve["step"].iloc[-1] >= entry["steps"] * 0.95
    (checkpoint,) = folder.glob("controller.*")
    assert checkpoint.stat().st_size < 3e6


@ENTRIES
def test_it_loads_for_its_task(entry: Mapping[str, Any]) -> None:
    loaded = agents.load(entry["name"])
    assert (loaded.task, loaded.training_seed) == (entry["task"], entry["training_seed"])
    assert loaded.controller.parameters() == entry["parameters"]


@ENTRIES
def test_none_is_clearly_below_what_rl_zoo_reports(entry: Mapping[str, Any]) -> None:
    if (entry["algorithm"], entry["task"]) not in RL_ZOO:
        pytest.skip("RL Baselines3 Zoo reports nothing for this pair")
    mean, std, episodes = RL_ZOO[entry["algorithm"], entry["task"]]
    error = math.hypot(std / math.sqrt(episodes), entry["std_return"] / math.sqrt(entry["episodes"]))
    assert entry["mean_return"] >= mean - 2 * error


@ENTRIES
def test_those_that_see_less_do_what_those_that_see_all_do(entry: Mapping[str, Any]) -> None:
    """At least 0.9 of the way from random actions to the mean of what the bundled ones get with the state shown."""
    whole = SEES_LESS_THAN.get(entry["task"])
    if whole is None:
        pytest.skip("it sees all of its state")
    full = [other["mean_return"] for other in agents.bundled() if other["task"] == whole]
    random = envs.TASKS[entry["task"]].random_return
    assert random is not None
    assert (entry["mean_return"] - random) / (sum(full) / len(full) - random) >= 0.9


@pytest.mark.parametrize("name", ["sac-pendulum-1", "ppo-cartpole-1", "sac-shared-pendulum-1"])
def test_it_returns_what_the_index_says(name: str) -> None:
    entry = next(entry for entry in agents.bundled() if entry["name"] == name)
    episodes = evaluate(agents.load(name).controller, entry["task"], reported_seeds(entry["episodes"]))
    assert episodes.mean_return == pytest.approx(entry["mean_return"], abs=0.5)


def test_a_name_without_its_seed_is_the_first() -> None:
    assert agents.load("sac-pendulum").digest == agents.load("sac-pendulum-1").digest


def test_several_training_seeds_for_two_tasks() -> None:
    seeds = pd.DataFrame(agents.bundled()).groupby(["algorithm", "task"])["training_seed"].nunique()
    assert (seeds >= 3).sum() >= 2
