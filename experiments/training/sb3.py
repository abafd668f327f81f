"""Training a controller from scratch: SB3's own ``learn``, with a validation curve and the best checkpoint kept."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv

from prunectl import envs
from prunectl.agents.controller import ControllerError
from prunectl.agents.extractors import CnnExtractor, MlpExtractor
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.agents.sb3.resume import learn
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import validation_seeds
from prunectl.experiments.provenance import versions
from prunectl.experiments.training import importance_drift as drift
from prunectl.experiments.training.begin import Told, check_task, new_folder, seen_in_training
from prunectl.registry import one_line, unknown


@dataclass(frozen=True)
class Training:
    """What to train. ``overrides`` are constructor arguments; ``encoder`` the widths of a shared encoder, if any;
    ``track_importance`` whether the drift of the importances is recorded."""

    algorithm: str
    task: str
    steps: int
    seed: int
    overrides: Mapping[str, Any]
    encoder: Sequence[int] = ()
    track_importance: bool = False


def train(training: Training, out: Path, command: str, evaluations: int = 20) -> Path:
    """Train and write ``out/controller.zip``, ``out/curve.csv`` and ``out/training.json``, and ``out/importance.*``
    (`drift`) if that is asked for.

    The checkpoint kept is the best of ``evaluations`` along the way, by 10 episodes on validation seeds, which no
    reported result uses.

    Raises:
        ControllerError: an unknown algorithm or hyperparameter, or a task of which `prune` could not read the result.
        FileExistsError: ``out`` is there already.
    """
    if training.algorithm not in ALGORITHMS:
        raise ControllerError(unknown("algorithm", training.algorithm, ALGORITHMS))
    task, _ = envs.resolve(training.task)
    check_task(task)
    hyperparameters = {**defaults(training.algorithm, task), **training.overrides}
    model = make_model(training, task, hyperparameters)
    if out.exists():
        raise FileExistsError(errno.EEXIST, "it is there already: choose another name", str(out))
    # Without a logger of its own SB3 leaves a folder of logs behind in the system's temporary one.
    model.set_logger(Logger(folder=None, output_formats=[]))
    callback = _Curve(training, task, out, evaluations)
    started = time.perf_counter()
    with new_folder(out):
        learn(model, training.steps, callback)
    if training.track_importance:
        drift.write(callback.drift, out)
    record = {
        "algorithm": training.algorithm,
        "task": task,
        "seed": training.seed,
        "steps": training.steps,
        "command": command,
        "hyperparameters": hyperparameters,
        "encoder": list(training.encoder),
        "kept_step": callback.kept_step,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return out / "controller.zip"


def defaults(algorithm: str, task: str) -> dict[str, Any]:
    """The tuned hyperparameters that we know for this pair, if any."""
    text = (resources.files("prunectl.experiments") / "configs" / "training.yaml").read_text()
    return dict(yaml.safe_load(text).get(algorithm, {}).get(task, {}))


def make_model(training: Training, task: str, hyperparameters: Mapping[str, Any]) -> BaseAlgorithm:
    """The algorithm object on so many environments as the hyperparameters say, nothing learnt yet.

    Raises:
        ControllerError: hyperparameters that it does not take.
    """
    torch.set_num_threads(1)
    try:
        return _made(training, task, {key: _schedule(value) for key, value in hyperparameters.items()})
    except (TypeError, AssertionError, ValueError) as error:
        raise ControllerError(f"{training.algorithm} on {task}: {one_line(error)}") from error


def _made(training: Training, task: str, arguments: dict[str, Any]) -> BaseAlgorithm:
    vector = DummyVecEnv([lambda: seen_in_training(task)] * int(arguments.pop("n_envs", 1)))
    noise = arguments.pop("action_noise", None)
    if noise is not None:
        shape = vector.action_space.shape
        assert shape is not None
        arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, float(noise)))
    policy_kwargs = dict(arguments.pop("policy_kwargs", {}))
    if training.encoder:
        policy_kwargs |= {
            "features_extractor_class": MlpExtractor,
            "features_extractor_kwargs": {"widths": list(training.encoder)},
            "share_features_extractor": True,
        }
    images = is_image_space(vector.observation_space)
    if images:
        policy_kwargs = {"features_extractor_class": CnnExtractor, **policy_kwargs}
    algorithm: Any = ALGORITHMS[training.algorithm]
    policy = ("Cnn" if images else "Mlp") + ("LstmPolicy" if algorithm is RecurrentPPO else "Policy")
    model: BaseAlgorithm = algorithm(
        policy, vector, seed=training.seed, policy_kwargs=policy_kwargs, device="cpu", **arguments
    )
    return model


def _schedule(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"linear"}:
        start = float(value["linear"])
        return lambda left: left * start
    return value


class _Curve(BaseCallback):
    """Evaluate along the way, write the curve after each point, keep the best checkpoint."""

    def __init__(self, training: Training, task: str, out: Path, evaluations: int) -> None:
        super().__init__()
        self.training, self.task, self.out = training, task, out
        self.every = max(training.steps // evaluations, 1)
        self.rows: list[dict[str, float]] = []
        self.drift: list[drift.Measurement] = []
        self.best, self.kept_step = -np.inf, 0
        self.started = time.perf_counter()
        self.told = Told(training.steps)

    def _on_step(self) -> bool:
        if self.num_timesteps >= (len(self.rows) + 1) * self.every:
            self._measure()
        self.told.say(self.num_timesteps, self.rows[-1]["mean_return"] if self.rows else None)
        return True

    def _measure(self) -> None:
        controller = SB3Controller.of(self.training.algorithm, self.model)
        episodes = evaluate(controller, self.task, validation_seeds(10), record=self.training.track_importance)
        elapsed = round(time.perf_counter() - self.started, 1)
        self.rows.append(
            {
                "step": self.num_timesteps,
                "mean_return": round(episodes.mean_return, 3),
                "std_return": round(episodes.std_return, 3),
                "seconds": elapsed,
            }
        )
        pd.DataFrame(self.rows).to_csv(self.out / "curve.csv", index=False)
        if self.training.track_importance:
            self.drift.append(drift.measure_importances(controller, self.num_timesteps, episodes))
            drift.write_table(self.drift, self.out)
        if episodes.mean_return >= self.best:
            self.best, self.kept_step = episodes.mean_return, self.num_timesteps
            controller.save(self.out / "controller.zip", {"task": self.task, "training_seed": self.training.seed})
