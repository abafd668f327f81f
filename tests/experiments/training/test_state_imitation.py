"""Teaching a controller that sees less: what is asked of the teacher, what is fitted, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from prunectl import agents, envs
from prunectl.experiments.training import state_imitation
from prunectl.experiments.training.begin import seen_in_training
from prunectl.experiments.training.sb3 import Training, make_model
from prunectl.experiments.training.state_imitation import Lesson, Pupil, state_of, visit

NO_VELOCITY = "prunectl/PendulumNoVelocity-v0"
TINY = {"lstm_hidden_size": 6, "shared_lstm": True, "enable_critic_lstm": False, "net_arch": [4]}


@pytest.mark.parametrize(
    ("task", "whole"),
    [
        ("prunectl/PendulumPixels-v0", "Pendulum-v1"),
        (NO_VELOCITY, "Pendulum-v1"),
        ("prunectl/CartPoleSwingUpPixels-v0", "prunectl/CartPoleSwingUp-v0"),
        ("prunectl/CartPoleSwingUpNoVelocity-v0", "prunectl/CartPoleSwingUp-v0"),
    ],
)
def test_the_teacher_sees_what_the_task_shows_where_it_shows_everything(task: str, whole: str) -> None:
    env, full = seen_in_training(task), envs.make(whole)
    env.reset(seed=3)
    np.testing.assert_array_equal(state_of(env), full.reset(seed=3)[0])


def test_a_memory_is_fitted_on_what_it_will_be_when_it_acts() -> None:
    """Answers to whole episodes equal those of `predict` one step after another, states carried."""
    model = make_model(Training("recurrent_ppo", NO_VELOCITY, 0, 0, {}), NO_VELOCITY, {"policy_kwargs": TINY})
    seen = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)
    with torch.no_grad():
        whole = Pupil(model, 1e-3, 1).answers(torch.as_tensor(seen))[0].reshape(3, 7).numpy()
    states, begins = None, np.ones(3, bool)
    for step in range(7):
        actions, states = model.predict(seen[:, step], states, begins, deterministic=True)
        begins = np.zeros(3, bool)
        np.testing.assert_allclose(whole[:, step], actions[:, 0], atol=1e-6)


def test_a_lesson_holds_the_teachers_answers_to_states_that_the_pupil_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_imitation, "EPISODES", 2)
    teacher = agents.load("sac-pendulum-1").controller
    lesson = visit(NO_VELOCITY, teacher, None, 11, gamma=0.5)
    assert lesson.seen.shape == (2, 200, 2)
    env = envs.make("Pendulum-v1")
    observation, _ = env.reset(seed=12)
    rewards = []
    for step in range(200):
        np.testing.assert_array_equal(lesson.seen[1, step], observation[:2])
        answer = teacher.act(observation[None])[0]
        np.testing.assert_allclose(lesson.answers[1, step], answer, atol=1e-6)
        observation, reward, *_ = env.step(lesson.answers[1, step])
        rewards.append(float(reward))
    assert lesson.returns[1, 199] == pytest.approx(rewards[199])
    assert lesson.returns[1, 197] == pytest.approx(rewards[197] + 0.5 * rewards[198] + 0.25 * rewards[199])


def test_fitting_lowers_the_errors_of_both_heads() -> None:
    model = make_model(Training("recurrent_ppo", NO_VELOCITY, 0, 0, {}), NO_VELOCITY, {"policy_kwargs": TINY})
    pupil, generator = Pupil(model, 1e-2, 200), np.random.default_rng(0)
    seen = generator.normal(size=(4, 10, 2)).astype(np.float32)
    before = np.concatenate((np.zeros((4, 1)), seen[:, :-1, 0]), axis=1)  # what was seen a step ago: only memory tells
    lesson = Lesson(seen, before[..., None].astype(np.float32), 3 * seen[..., 1])
    errors = [pupil.fit(lesson, generator) for _ in range(200)]
    assert np.mean(errors[-5:]) < 0.2 * errors[0]
    value = pupil.answers(torch.as_tensor(seen))[1].detach().numpy().reshape(4, 10)
    assert np.square(value - lesson.returns).mean() < 0.8 * lesson.returns.var()


def test_what_is_written_is_an_ordinary_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_imitation, "EPISODES", 2)
    out = tmp_path / "out"
    command = ["recurrent_ppo", NO_VELOCITY, "--teacher", "sac-pendulum-1", "--rounds", "2", "--gradient-steps", "2"]
    monkeypatch.setattr("sys.argv", ["state_imitation", *command, "--seed", "5", "-o", str(out)])
    state_imitation.main()
    loaded = agents.load(out)
    assert (loaded.task, loaded.training_seed) == (NO_VELOCITY, 5)
    assert pd.read_csv(out / "curve.csv").step.tolist() == [400, 800]
    record = json.loads((out / "training.json").read_text())
    assert record["teacher"] == "sac-pendulum-1"
    assert record["command"].endswith(f"{' '.join(command)} --seed 5 -o {out}")
