"""The whole way on controllers that nobody here trained, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunectl.experiments.cli import run

pytestmark = pytest.mark.slow


def mean_return(capsys: pytest.CaptureFixture[str], *arguments: object) -> float:
    assert run([*map(str, arguments), "--episodes", "20", "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["mean_return"])


@pytest.mark.parametrize(
    ("agent", "task", "sparsity"),
    [
        ("sac/HalfCheetah-v3_1", "HalfCheetah-v5", 0.7),
        ("sac/Swimmer-v3_1", "Swimmer-v5", 0.7),
        ("sac/Walker2d-v3_1", "Walker2d-v5", 0.5),
    ],
)
def test_the_default_method_keeps_nineteen_twentieths_of_the_return(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], agent: str, task: str, sparsity: float
) -> None:
    small = tmp_path / "small.zip"
    assert (
        run(["prune", str(zoo / agent), "--sparsity", str(sparsity), "--recovery", "reconstruct", "-o", str(small)])
        == 0
    )
    capsys.readouterr()
    dense = mean_return(capsys, "evaluate", zoo / agent)
    assert mean_return(capsys, "evaluate", small, "--task", task) >= 0.95 * dense


@pytest.mark.parametrize(
    ("agent", "stated"),
    [
        ("sac/Pendulum-v1_1", -135.4),
        ("sac/MountainCarContinuous-v0_1", 94.8),
        ("sac/HalfCheetah-v3_1", 9430),
        ("sac/Walker2d-v3_1", 3929),
        ("sac/Swimmer-v3_1", 336.0),
        ("tqc/Pendulum-v1_1", -130.8),
        ("ddpg/Pendulum-v1_1", -130.8),
        ("ppo/CartPole-v1_1", 500),
        ("ppo/LunarLanderContinuous-v2_1", 271.3),
        ("ppo/Hopper-v3_1", 2438.6),
        ("ppo/HalfCheetah-v3_1", 5885.9),
        ("ppo/BipedalWalker-v3_1", 211),
        ("a2c/HalfCheetah-v3_1", 3066.8),
        ("trpo/Hopper-v3_1", 3624.2),
    ],
)
def test_a_pretrained_controller_reaches_what_its_readme_says(zoo: Path, agent: str, stated: float) -> None:
    """Within three standard errors of twice ten episodes; the physics differ by a version."""
    from prunectl import agents, envs
    from prunectl.experiments.episodes.evaluator import evaluate
    from prunectl.experiments.episodes.seeds import reported_seeds

    loaded = agents.load(zoo / agent)
    assert loaded.task is not None
    found = evaluate(loaded.controller, envs.resolve(loaded.task)[0], reported_seeds(10))
    error = found.std_return * (2 / 10) ** 0.5
    assert abs(found.mean_return - stated) <= 3 * error + 0.01 * abs(stated)
