"""`prunectl train` for controllers with memory: what it writes is loaded, acts in the task and is what was measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prunectl import agents
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import validation_seeds
from prunectl.experiments.training import sb3


def test_a_memory_is_trained_on_a_task_that_needs_one(tmp_path: Path) -> None:
    settings = {
        "n_envs": 2,
        "n_steps": 20,
        "n_epochs": 1,
        "policy_kwargs": {"lstm_hidden_size": 4, "shared_lstm": True, "enable_critic_lstm": False, "net_arch": [4]},
    }
    training = sb3.Training("recurrent_ppo", "prunectl/PendulumNoVelocity-v0", 40, 0, settings)
    sb3.train(training, tmp_path / "out", "train", evaluations=1)
    loaded = agents.load(tmp_path / "out")
    assert list(loaded.controller.components) == ["memory", "actor", "value"]
    episodes = evaluate(loaded.controller, loaded.task or "", validation_seeds(10))
    assert episodes.mean_return == pytest.approx(pd.read_csv(tmp_path / "out" / "curve.csv").mean_return[0], abs=1e-3)
