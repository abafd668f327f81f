"""Fine-tuning hands back the best of what it saw, and never something worse than what it was given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untrained, untrained_planner2
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl import envs
from prunectl.agents.controller import ControllerError
from prunectl.agents.load import load
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.networks import build
from prunectl.agents.tdmpc.planner import Planning
from prunectl.experiments.episodes import choice, finetuning
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.finetuning import finetune
from prunectl.experiments.episodes.seeds import finetuning_seed, reported_seeds
from prunectl.pruning import Method, prune
from prunectl.pruning.recovery import Recovered


def weights(controller: Any) -> list[torch.Tensor]:
    return list(controller.networks.state_dict().values())


def planning(seed: int = 0) -> TDMPCController:
    torch.manual_seed(seed)
    env = envs.make("Pendulum-v1")
    networks = build(3, 1, latent=6, encoder=8, hidden=12)
    quick = Planning(num_samples=16, num_elites=4, iterations=2)
    return TDMPCController(networks, quick, 4, 0.1, env.observation_space, env.action_space)  # type: ignore[arg-type]


class Fake:
    """A controller whose returns are known: on the choosing episodes, and on two kinds of confirming ones."""

    def __init__(self, choosing: float, *confirming: float) -> None:
        self.choosing, self.confirming = choosing, confirming

    def evaluated(self, task: str, seeds: Sequence[int]) -> Any:
        if np.isnan(self.choosing):
            raise ControllerError("its action is not a number")
        returns = [self.choosing] if len(seeds) == choice.CHOOSING else self.confirming
        return SimpleNamespace(returns=np.resize(returns, len(seeds)))


def chosen(what_was_given: Fake, candidates: Sequence[Fake]) -> tuple[Fake, float, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "evaluate", Fake.evaluated)
        found: Any = choice.Choice(what_was_given, "any", 0)  # type: ignore[type-var]
        for candidate in candidates:
            found.consider(candidate)
        found = found.confirmed()
        return found.controller, found.before, found.after


RETURNS = st.floats(-9, 9)
FAKES = st.builds(Fake, RETURNS, RETURNS, RETURNS)


@settings(deadline=None)
@given(FAKES, st.lists(st.one_of(FAKES, st.just(Fake(float("nan")))), max_size=5))
def test_never_worse_than_what_was_given(what_was_given: Fake, candidates: list[Fake]) -> None:
    kept, before, after = chosen(what_was_given, candidates)
    assert before == pytest.approx(np.mean(what_was_given.confirming))
    assert after == pytest.approx(np.mean(kept.confirming))
    assert after >= before
    # Only the best on the choosing episodes may take its place.
    assert kept is what_was_given or kept.choosing == max(c.choosing for c in candidates if not np.isnan(c.choosing))


def test_a_choice_must_hold_by_more_than_luck() -> None:
    what_was_given = Fake(1.0, 1.0, 1.0)
    better, lucky, same = Fake(2.0, 1.5, 1.4), Fake(3.0, 4.0, -1.5), Fake(1.0, 9.0, 9.0)
    assert chosen(what_was_given, [better]) == (better, 1.0, pytest.approx(1.45))
    # 30 episodes gain 3.0 and -2.5 in turn: 0.25 on the mean, within its standard error of 0.51.
    assert chosen(what_was_given, [better, lucky]) == (what_was_given, 1.0, 1.0)
    assert chosen(what_was_given, [same]) == (what_was_given, 1.0, 1.0)


@pytest.mark.parametrize("family", ["sac", "ppo", "tdmpc", pytest.param("tdmpc2", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_controller(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CHOOSING", 1)
    monkeypatch.setattr(choice, "CONFIRMING", 2)
    # Whatever comes of it is handed back, or two failures would look the same.
    monkeypatch.setattr(choice.Choice, "confirmed", lambda choice: Recovered(shown[-1], 0.0, 0.0))
    shown: list[Any] = []
    monkeypatch.setattr(choice.Choice, "consider", lambda choice, candidate: shown.append(candidate))
    quick = {"batch_size": 16} | ({"n_steps": 32} if family == "ppo" else {})
    planners = {"tdmpc": planning, "tdmpc2": untrained_planner2}
    controller: Any = planners[family]() if family in planners else untrained(family, "Pendulum-v1", **quick)
    before = [tensor.clone() for tensor in weights(controller)]
    steps = 200 if family in planners else 128
    one, again = (finetune(controller, "Pendulum-v1", steps, 5) for _ in range(2))
    other = finetune(controller, "Pendulum-v1", steps, 6)
    assert all(map(torch.equal, weights(one.controller), weights(again.controller)))
    assert not all(map(torch.equal, weights(one.controller), weights(other.controller)))
    assert all(map(torch.equal, weights(controller), before))
    assert type(one.controller) is type(controller)


def test_the_world_model_is_practised_with_its_own_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "CHOOSING", 1)
    monkeypatch.setattr(choice, "CONFIRMING", 2)
    practices: list[Any] = []
    practice = finetuning.Practice
    monkeypatch.setattr(finetuning, "Practice", lambda *given: practices.append(practice(*given)) or practices[-1])
    told: list[float] = []
    controller = planning()
    tuned = finetune(controller, "Pendulum-v1", 400, 0, told.append)
    (own,) = practices
    assert own.learner.learning.reward_scale == controller.reward_scale
    assert own.decisions == own.learner.updates == 400 // controller.action_repeat
    assert own.first_seed == finetuning_seed(0)
    assert told[-1] == 1.0
    assert {name: t.shape for name, t in tuned.controller.networks.state_dict().items()} == {
        name: t.shape for name, t in controller.networks.state_dict().items()
    }


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(ControllerError, match="for 0 steps: give at least one"):
        finetune(untrained("sac", "Pendulum-v1"), "Pendulum-v1", 0, 0)
    with pytest.raises(ControllerError, match="ppo learns after 2 at least"):
        finetune(untrained("ppo", "Pendulum-v1"), "Pendulum-v1", 1, 0)
    with pytest.raises(ControllerError, match="name the task that it was trained on"):
        finetune(untrained("sac", "Pendulum-v1"), "MountainCarContinuous-v0", 100, 0)


STOCK = """
import sys
sys.modules.update(dict.fromkeys(("agents", "envs", "experiments", "pruning")))  # importing ours would fail
import stable_baselines3, gymnasium
model = stable_baselines3.SAC.load(sys.argv[1], env=gymnasium.make("HalfCheetah-v5"), device="cpu")
model.learning_starts = 100
model.learn(500)
"""


@pytest.mark.slow
def test_a_pruned_zoo_agent_does_not_lose_by_it(zoo: Path, tmp_path: Path) -> None:
    dense = load(zoo / "sac" / "HalfCheetah-v3_1").controller
    small = prune(dense, Method(recovery="reconstruct"), 0.9, calibrate(dense, "HalfCheetah-v5")).controller
    tuned = finetune(small, "HalfCheetah-v5", 20_000, 0)
    assert tuned.after >= tuned.before
    reached = [evaluate(c, "HalfCheetah-v5", reported_seeds(20)) for c in (small, tuned.controller)]
    error = np.hypot(*(episodes.std_return / np.sqrt(20) for episodes in reached))
    assert reached[1].mean_return >= reached[0].mean_return - 2 * error
    tuned.controller.save(tmp_path / "tuned.zip", {})
    stock = [sys.executable, "-c", STOCK, str(tmp_path / "tuned.zip")]
    subprocess.run(stock, check=True, cwd=tmp_path)
