"""The evaluator against bare stepping and against Stable-Baselines3's `evaluate_policy`, in environment steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from prunectl import agents, envs
from prunectl.agents.controller import Batch, Controller
from prunectl.experiments.bench.timing import Rates, Section, compared, comparison, interleaved, per_second
from prunectl.experiments.bench.untrained import untrained_sac
from prunectl.experiments.episodes.evaluator import environments, run
from prunectl.experiments.episodes.seeds import validation_seeds

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Pendulum-v1")
EPISODES = 10
#: What ours is held against, and the targets on HalfCheetah-v5.
RANDOM, SAME, ONE, TEN = "bare, random actions", "bare, the same actions", "SB3, 1 environment", "SB3, 10 environments"
TARGETS = {RANDOM: 0.85, SAME: 0.9, ONE: 5.0}


def measure(quick: bool) -> list[Section]:
    """A row a task and rival."""
    rows = []
    for task in TASKS[1:] if quick else TASKS:
        rates = _rates(task, steps=1_000 if quick else 5_000, rounds=2 if quick else 5)
        for rival in (RANDOM, SAME, ONE, TEN):
            target = {"at_least": TARGETS[rival]} if task == TASKS[0] and rival in TARGETS else {}
            rows.append(compared(task, rates["ours"], rival, rates[rival], **target))
    remark = (
        f"Environment steps a second of processor time, of whole episodes, {EPISODES} in a batch, by an untrained SAC "
        "256-256; only steps of the episodes that were asked for count, and environments are made beforehand. Bare "
        "stepping calls the same environments in turn with actions drawn beforehand: random ones, or those that the "
        "controller takes, which makes the very same episodes."
    )
    return [comparison("evaluator", rows, ",.0f", remark)]


def _rates(task: str, steps: int, rounds: int) -> dict[str, Rates]:
    """Each side runs whole batches of episodes until it has so many steps."""
    seeds = validation_seeds(EPISODES)
    model = untrained_sac(task)
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder) / "sac.zip")
        controller = agents.load(path).controller

    def batches(batch: Callable[[], int]) -> Callable[[], float]:
        def work() -> float:
            counted = 0
            while counted < steps:
                counted += batch()
            return counted

        return lambda: per_second(work)

    def theirs(count: int) -> Callable[[], float]:
        vector = make_vec_env(lambda: envs.make(task), n_envs=count, seed=seeds[0])

        def batch() -> int:
            _, lengths = evaluate_policy(model, vector, n_eval_episodes=EPISODES, return_episode_rewards=True)
            assert isinstance(lengths, list)
            return sum(lengths)

        return batches(batch)

    with environments(task, EPISODES, controller) as made:
        random, taken = _random_actions(made, task), _actions_taken(controller, made, task, seeds)
        return interleaved(
            {
                "ours": batches(lambda: int(run(controller.policy(seeds), made, task, seeds).lengths.sum())),
                RANDOM: batches(lambda: stepped(made, seeds, random)),
                SAME: batches(lambda: stepped(made, seeds, taken)),
                ONE: theirs(1),
                TEN: theirs(EPISODES),
            },
            rounds,
        )


def stepped(made: Sequence[envs.Env], seeds: Sequence[int], actions: Sequence[Sequence[Any]]) -> int:
    """Step the environments in turn, each with its own actions until its episode ends: nothing but the stepping.

    Returns:
        Steps taken.
    """
    for env, seed in zip(made, seeds, strict=True):
        env.reset(seed=seed)
    running, step, counted = list(range(len(made))), 0, 0
    while running:
        alive = []
        for episode in running:
            _, _, terminated, truncated, _ = made[episode].step(actions[episode][step])
            if not (terminated or truncated):
                alive.append(episode)
        counted += len(running)
        step += 1
        running = alive
    return counted


def _random_actions(made: Sequence[envs.Env], task: str) -> list[list[Any]]:
    horizon = envs.lookup(task).horizon
    return [[env.action_space.sample() for _ in range(horizon)] for env in made]


def _actions_taken(
    controller: Controller, made: Sequence[envs.Env], task: str, seeds: Sequence[int]
) -> list[list[NDArray[Any]]]:
    taken: list[list[NDArray[Any]]] = [[] for _ in seeds]
    policy = controller.policy(seeds)

    def recorded(observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        actions = policy(observations, episodes)
        for episode, action in zip(episodes.tolist(), actions, strict=True):
            taken[episode].append(action)
        return actions

    run(recorded, made, task, seeds)
    return taken
