"""A controller that sees less than the state, taught by one that sees all of it.

    python -m prunectl.experiments.training.state_imitation ALGO TASK --teacher NAME --seed N -o FOLDER

ALGO is ``ppo``, for pictures (a CNN under actor and value), or ``recurrent_ppo``, for tasks without velocities (an LSTM
under both). The policy is made with the values of `prunectl train`, and what comes out is an ordinary checkpoint of its
library. It is taught by DAgger (Ross, Gordon and Bagnell 2011, arXiv 1011.0686): from the second round on the pupil
acts, the teacher says what it would have done in the state that the pupil does not see, and the pupil is fitted to all
answers so far; its value network to the discounted returns that followed. No gradient of PPO's has a part in it, which
would be many times dearer, since pictures and hidden velocities make a reward tell little about an action.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from prunectl import agents, envs
from prunectl.agents.controller import Controller
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.envs.cartpole_swingup import CartPoleSwingUp, observe
from prunectl.envs.pixels import Pixels
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import STRIDE, TRAINING, validation_seeds
from prunectl.experiments.provenance import versions
from prunectl.experiments.training.begin import new_folder, seen_in_training
from prunectl.experiments.training.sb3 import Training, defaults, make_model

#: Episodes a round, side by side.
EPISODES = 16
#: Learning rates, at the beginning: they fall to 0 along a cosine.
RATES = {"ppo": 1e-3, "recurrent_ppo": 3e-3}
#: Decisions a gradient step: rows for a CNN, whole episodes for a memory.
BATCH = 256
#: Weight of the value's error, in units of the returns' spread, beside that of the action.
VALUE_WEIGHT = 0.1
#: The exploration that a policy is left with, should it be trained on: the logarithm of its standard deviation.
LOG_STD = -1.0


@dataclass(frozen=True)
class Lesson:
    """One round: what was seen ``(episodes, steps, ...)``, what the teacher would have done, and the returns to go."""

    seen: NDArray[Any]
    answers: NDArray[np.float32]
    returns: NDArray[np.float32]


class Pupil:
    """A policy of Stable-Baselines3's actor-critic kind, with or without a memory, and how it is fitted."""

    def __init__(self, model: BaseAlgorithm, rate: float, steps: int) -> None:
        self.policy: Any = model.policy
        self.recurrent = hasattr(self.policy, "lstm_actor")
        self.optimiser = torch.optim.Adam(self.policy.parameters(), rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)

    def answers(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and values for ``(episodes, steps, ...)``, from the episodes' beginnings."""
        rows = seen.reshape(-1, *seen.shape[2:])
        features = self.policy.extract_features(rows)
        if self.recurrent:
            features = features.reshape(*seen.shape[:2], -1).transpose(0, 1)
            features = self.policy.lstm_actor(features)[0].transpose(0, 1).reshape(len(rows), -1)
        actor, value = self.policy.mlp_extractor(features)
        return self.policy.action_net(actor), self.policy.value_net(value)[:, 0]

    def fit(self, lesson: Lesson, generator: np.random.Generator) -> float:
        """One gradient step on a batch of a lesson; the squared error of its actions."""
        episodes, steps = lesson.answers.shape[:2]
        if self.recurrent:
            chosen: Any = generator.choice(episodes, min(EPISODES, episodes), replace=False)
        else:
            chosen = np.unravel_index(generator.integers(episodes * steps, size=BATCH), (episodes, steps))
        seen, answers, returns = (array[chosen] for array in (lesson.seen, lesson.answers, lesson.returns))
        seen = seen if self.recurrent else seen[:, None]
        action, value = self.answers(torch.as_tensor(seen))
        wrong = action - torch.as_tensor(answers.reshape(len(action), -1))
        spread = float(lesson.returns.std()) + 1e-6
        off = (value - torch.as_tensor(returns.reshape(-1))) / spread
        loss = wrong.square().mean() + VALUE_WEIGHT * nn.functional.smooth_l1_loss(off, torch.zeros_like(off))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return wrong.square().mean().item()


def state_of(env: envs.Env) -> NDArray[Any]:
    """What the task shows where it shows everything."""
    inner: Any = env.unwrapped
    inner = inner.task if isinstance(inner, Pixels) else inner
    state: Any = inner.state
    shown: NDArray[Any] = observe(state) if isinstance(inner, CartPoleSwingUp) else inner._get_obs()
    return shown


def visit(task: str, teacher: Controller, model: BaseAlgorithm | None, first_seed: int, gamma: float) -> Lesson:
    """Whole episodes in which the model acts, or the teacher where there is none, answered by the teacher."""
    made = [seen_in_training(task) for _ in range(EPISODES)]
    current = np.stack([env.reset(seed=first_seed + index)[0] for index, env in enumerate(made)])
    memory, begins = None, np.ones(EPISODES, bool)
    seen, answers, rewards = [], [], []
    over = False
    while not over:
        answer = teacher.act(np.stack([state_of(env) for env in made])).astype(np.float32)
        taken = answer
        if model is not None:
            taken, memory = model.predict(current, memory, begins, deterministic=True)
            begins = np.zeros(EPISODES, bool)
        seen.append(current)
        answers.append(answer)
        after = [env.step(action) for env, action in zip(made, taken, strict=True)]
        current = np.stack([step[0] for step in after])
        rewards.append(np.array([float(step[1]) for step in after]))
        over = any(step[2] or step[3] for step in after)  # all of these tasks end by their time alone
    returns, ahead = np.zeros((EPISODES, len(rewards)), np.float32), np.zeros(EPISODES)
    for step in range(len(rewards) - 1, -1, -1):
        ahead = rewards[step] + gamma * ahead
        returns[:, step] = ahead
    return Lesson(np.stack(seen, axis=1), np.stack(answers, axis=1), returns)


def teach(training: Training, teacher: Controller, rounds: int, gradient_steps: int, out: Path) -> dict[str, Any]:
    """Teach, write ``out/controller.zip``, the best of all rounds on validation seeds, and ``out/curve.csv``.

    Returns:
        the hyperparameters and the step that was kept.
    """
    hyperparameters = {**defaults(training.algorithm, training.task), **training.overrides}
    model = make_model(training, training.task, hyperparameters)
    policy: Any = model.policy
    with torch.no_grad():
        policy.log_std.fill_(LOG_STD)
    pupil = Pupil(model, RATES[training.algorithm], rounds * gradient_steps)
    generator = np.random.default_rng([training.seed, 0xDA66E7])
    first_seed = TRAINING + training.seed * STRIDE
    lessons: list[Lesson] = []
    rows: list[dict[str, float]] = []
    best, kept, started = -np.inf, 0, time.perf_counter()
    for number in range(rounds):
        acting = model if number else None
        lessons.append(visit(training.task, teacher, acting, first_seed + number * EPISODES, float(model.gamma)))  # type: ignore[attr-defined]
        whole = Lesson(*(np.concatenate([getattr(one, name) for one in lessons]) for name in vars(lessons[0])))
        policy.set_training_mode(True)
        errors = [pupil.fit(whole, generator) for _ in range(gradient_steps)]
        policy.set_training_mode(False)
        controller = SB3Controller.of(training.algorithm, model)
        episodes = evaluate(controller, training.task, validation_seeds(10))
        step = sum(one.answers.shape[0] * one.answers.shape[1] for one in lessons)
        row = {"step": step, "mean_return": episodes.mean_return, "std_return": episodes.std_return}
        row |= {"action_error": float(np.mean(errors)), "seconds": time.perf_counter() - started}
        rows.append({key: value if key == "step" else round(value, 4) for key, value in row.items()})
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(out / "curve.csv", index=False)
        if episodes.mean_return >= best:
            best, kept = episodes.mean_return, step
            controller.save(out / "controller.zip", {"task": training.task, "training_seed": training.seed})
    return {"hyperparameters": hyperparameters, "steps": rows[-1]["step"], "kept_step": kept}


def main() -> None:
    """Teach, and write ``controller.zip``, ``curve.csv`` and ``training.json`` as `prunectl train` does."""
    parser = argparse.ArgumentParser(prog="python -m prunectl.experiments.training.state_imitation")
    parser.add_argument("algorithm", choices=("ppo", "recurrent_ppo"))
    parser.add_argument("task")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--gradient-steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    training = Training(given.algorithm, given.task, 0, given.seed, {})
    with new_folder(given.out):
        taught = teach(training, agents.load(given.teacher).controller, given.rounds, given.gradient_steps, given.out)
    asked = f"--teacher {given.teacher} --rounds {given.rounds} --gradient-steps {given.gradient_steps}"
    record = {
        "algorithm": given.algorithm,
        "task": given.task,
        "seed": given.seed,
        "steps": taught["steps"],
        "command": f"{parser.prog} {given.algorithm} {given.task} {asked} --seed {given.seed} -o {given.out}",
        "teacher": given.teacher,
        **taught,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
