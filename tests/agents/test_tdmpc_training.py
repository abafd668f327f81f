"""Training TD-MPC: what it writes, how it goes on after a stop, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.checkpoint import load_checkpoint
from prunectl.agents.tdmpc.layers import width
from prunectl.agents.tdmpc.replay import Replay
from prunectl.experiments.episodes import tdmpc_practice
from prunectl.experiments.training import tdmpc as tdmpc_training
from prunectl.experiments.training.sb3 import Training
from prunectl.experiments.training.tdmpc import RESUME, train

torch.set_num_threads(1)  # the networks are so small that threads only wait for each other

SMALL = {
    "batch_size": 16, "latent_dim": 6, "enc_dim": 8, "mlp_dim": 12, "num_samples": 16, "num_elites": 4,
    "iterations": 2, "action_repeat": 10, "seed_decisions": 20, "std_decisions": 40,
}  # fmt: skip


def training(task: str = "Pendulum-v1", steps: int = 800, **changes: Any) -> Training:
    return Training("tdmpc", task, steps, 3, SMALL | changes)


def test_writes_the_best_controller_its_curve_and_its_record(tmp_path: Path) -> None:
    out = tmp_path / "run"
    path = train(training(), out, "prunectl train tdmpc", evaluations=2)
    agent = load_checkpoint(path)
    assert (agent.action_repeat, width(agent.networks.online.encoder)) == (10, 6)
    assert agent.action_space.high.tolist() == [2.0]
    record = json.loads((out / "training.json").read_text())
    assert (record["task"], record["seed"], record["steps"]) == ("Pendulum-v1", 3, 800)
    assert record["hyperparameters"]["mlp_dim"] == 12
    curve = pd.read_csv(out / "curve.csv")
    assert curve["step"].tolist() == [400, 800]
    assert record["kept_step"] == curve["step"].iloc[int(curve["mean_return"].argmax())]
    assert sorted(entry.name for entry in out.iterdir()) == ["controller.pt", "curve.csv", "training.json"]
    with pytest.raises(FileExistsError, match="is there already"):
        train(training(), out, "prunectl train tdmpc")


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    tracked = replace(training(), track_importance=True)
    train(tracked, straight, "", evaluations=4)

    def stop(run: Any) -> None:
        if run.step >= 600:
            raise KeyboardInterrupt
        collect(run)

    with monkeypatch.context() as patch:
        collect = tdmpc_training._Run.episode
        patch.setattr(tdmpc_training._Run, "episode", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tracked, stopped, "", evaluations=4)
    assert (stopped / RESUME).exists()
    with pytest.raises(ControllerError, match="other settings"):
        train(training(steps=900), stopped, "")
    train(tracked, stopped, "", evaluations=4)
    ours, theirs = load_checkpoint(stopped / "controller.pt"), load_checkpoint(straight / "controller.pt")
    for name, tensor in theirs.networks.state_dict().items():
        assert torch.equal(ours.networks.state_dict()[name], tensor), name
    one, other = (pd.read_csv(out / "curve.csv").drop(columns="seconds") for out in (stopped, straight))
    pd.testing.assert_frame_equal(one, other)
    one, other = (pd.read_csv(out / "importance.csv") for out in (stopped, straight))
    pd.testing.assert_frame_equal(one, other)
    assert sorted(one["step"].unique()) == [200, 400, 600, 800]
    assert one["component"].str.startswith("encoder,dynamics->").any()  # the latent, beside the components


def test_terminations_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []

    class Spied(Replay):
        def add(self, *given: Any) -> None:
            kept.append(given[4])
            super().add(*given)

    monkeypatch.setattr(tdmpc_practice, "Replay", Spied)
    out = tmp_path / "run"
    train(training("MountainCarContinuous-v0", steps=999, seed_decisions=5000), out, "", evaluations=1)
    assert kept.count(True) == 0  # truncated after 999 steps: not a termination
    kept.clear()
    train(training("BipedalWalker-v3", steps=300, seed_decisions=5000), tmp_path / "walker", "", evaluations=1)
    assert kept.count(True) > 0
    assert kept[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1.0}, "no hyperparameter learning_rate; it has action_repeat,"),
        ({"task": "CartPole-v1"}, "TD-MPC needs bounded continuous actions; CartPole-v1 has Discrete"),
    ],
)
def test_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ControllerError, match=message):
        train(training(**changes), tmp_path / "run", "")
    assert not (tmp_path / "run").exists()


def test_same_seed_same_training(tmp_path: Path) -> None:
    agents = [load_checkpoint(train(training(steps=400), tmp_path / name, "", 1)) for name in ("a", "b")]
    seen = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(agents[0].act(seen), agents[1].act(seen))
