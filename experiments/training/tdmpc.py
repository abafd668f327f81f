"""Training TD-MPC or TD-MPC2 from scratch: collect an episode, learn once a decision, evaluate now and then."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from gymnasium import spaces

from prunectl import envs
from prunectl.agents.controller import ControllerError
from prunectl.agents.files import replacing
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.learner import Learning
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc2.families import FAMILIES
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import STRIDE, TRAINING, validation_seeds
from prunectl.experiments.episodes.tdmpc_practice import Exploring, Practice
from prunectl.experiments.provenance import versions
from prunectl.experiments.training import importance_drift as drift
from prunectl.experiments.training.begin import check_task
from prunectl.experiments.training.sb3 import Training, defaults
from prunectl.registry import one_line

#: Where a training that was stopped goes on; gone once it is done.
RESUME = "resume.pt"


@dataclass(frozen=True)
class Collecting:
    """How experience is collected, and the widths of the networks.

    Attributes:
        action_repeat: environment steps that a decision holds.
        seed_decisions: decisions at random before learning starts, rounded up to whole episodes.
        std_start, std_decisions: the planner's lower bound of its standard deviation, its exploration, falls from
            ``std_start`` to the planner's ``min_std`` over this many decisions.
        latent_dim, enc_dim, mlp_dim: widths of the latent, the encoder's hidden layer and all other hidden layers.
    """

    action_repeat: int = 2
    seed_decisions: int = 500
    std_start: float = 0.5
    std_decisions: int = 5000
    latent_dim: int = 50
    enc_dim: int = 128
    mlp_dim: int = 256


T = TypeVar("T", Planning, Learning, Collecting)
Settings = tuple[Planning, Learning, Collecting]

#: How experience is collected, and the widths, by default. TD-MPC2 explores by its planner's and its policy's own
#: deviations, and its authors' networks are large: these are as small as the tasks here need.
COLLECTING: Mapping[str, Collecting] = {
    "tdmpc": Collecting(),
    "tdmpc2": Collecting(std_start=0.05, std_decisions=1, latent_dim=128, enc_dim=128, mlp_dim=96),
}


def train(training: Training, out: Path, command: str, evaluations: int = 20) -> Path:
    """Train and write ``out/controller.pt``, ``out/curve.csv`` and ``out/training.json``, and ``out/importance.*``
    (`drift`) if that is asked for.

    The checkpoint kept is the best of ``evaluations`` along the way, by 10 episodes on validation seeds. A training
    that was stopped goes on where it was last evaluated, to the same result, if started again with the same settings.

    Raises:
        ControllerError: an unknown hyperparameter, a task without bounded continuous actions, or other settings than
            those of the training that was stopped in ``out``.
        FileExistsError: ``out`` holds something else already.
    """
    task, _ = envs.resolve(training.task)
    check_task(task)
    hyperparameters = {**defaults(training.algorithm, task), **training.overrides}
    planning, learning, collecting = _settings(training.algorithm, hyperparameters)
    if out.exists() and not (out / RESUME).exists():
        raise FileExistsError(errno.EEXIST, "it is there already: choose another name", str(out))
    torch.set_num_threads(1)
    run = _Run(training, task, evaluations, (planning, learning, collecting), out)
    run.resume()
    while run.step < training.steps:
        run.episode()
        if run.step >= min((len(run.rows) + 1) * (training.steps / evaluations), training.steps):
            run.measure()
            run.save()
    if training.track_importance:
        drift.write(run.drift, out)
    record = {
        "algorithm": training.algorithm,
        "task": task,
        "seed": training.seed,
        "steps": training.steps,
        "command": command,
        "hyperparameters": {**asdict(planning), **asdict(learning), **asdict(collecting)},
        "kept_step": run.kept_step,
        "seconds": round(run.seconds(), 1),
        "versions": versions(),
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / RESUME).unlink(missing_ok=True)
    return out / "controller.pt"


def _settings(algorithm: str, hyperparameters: Mapping[str, Any]) -> Settings:
    family, collecting = FAMILIES[algorithm], COLLECTING[algorithm]
    known = {field.name for kind in (family.planning, family.learning, collecting) for field in fields(kind)}
    unknown = sorted(set(hyperparameters) - known)
    if unknown:
        raise ControllerError(
            f"{algorithm} has no hyperparameter {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )

    def told(default: T) -> T:
        own = {field.name for field in fields(default)}
        return replace(default, **{name: value for name, value in hyperparameters.items() if name in own})

    try:
        return told(family.planning), told(family.learning), told(collecting)
    except TypeError as error:
        raise ControllerError(f"{algorithm}: a hyperparameter is of the wrong kind ({one_line(error)})") from error


class _Run:
    """One training: everything that changes while it goes on."""

    def __init__(self, training: Training, task: str, evaluations: int, settings: Settings, out: Path) -> None:
        self.training, self.task, self.evaluations, self.out = training, task, evaluations, out
        self.planning, self.learning, self.collecting = planning, learning, collecting = settings
        env = envs.make(task)
        observations, actions = env.observation_space, env.action_space
        if not (isinstance(actions, spaces.Box) and len(actions.shape) == 1 and actions.is_bounded()):
            raise ControllerError(f"TD-MPC needs bounded continuous actions; {task} has {actions}")
        assert isinstance(observations, spaces.Box)
        torch.manual_seed(training.seed)
        size = observations.shape[0], actions.shape[0]
        family = FAMILIES[training.algorithm]
        networks = family.build(*size, collecting.latent_dim, collecting.enc_dim, collecting.mlp_dim)
        self.controller = TDMPCController(
            networks, planning, collecting.action_repeat, learning.reward_scale, observations, actions
        )
        exploring = Exploring(collecting.seed_decisions, True, collecting.std_start, collecting.std_decisions)
        first_seed = TRAINING + training.seed * STRIDE
        learner = family.learner(networks, planning, learning, training.seed)
        self.practice = Practice(self.controller, env, learner, exploring, training.seed, first_seed, training.steps)
        self.kept_step = 0
        self.best = -np.inf
        self.rows: list[dict[str, float]] = []
        self.drift: list[drift.Measurement] = []
        self.before, self.started = 0.0, time.perf_counter()
        out.mkdir(parents=True, exist_ok=True)
        self.board = _tensorboard(out)

    def seconds(self) -> float:
        """Time spent, before a stop included."""
        return self.before + time.perf_counter() - self.started

    @property
    def step(self) -> int:
        """Steps of the environment so far."""
        return self.practice.step

    def episode(self) -> None:
        """Collect one episode, then learn."""
        total, losses = self.practice.episode()
        self._say("collect", {"return": total})
        if losses:
            self._say("learn", losses)

    def measure(self) -> None:
        """Evaluate, add a row to the curve and keep the best."""
        track = self.training.track_importance
        episodes = evaluate(self.controller, self.task, validation_seeds(10), record=track)
        point = {"mean_return": round(episodes.mean_return, 3), "std_return": round(episodes.std_return, 3)}
        self.rows.append({"step": self.step, **point, "seconds": round(self.seconds(), 1)})
        pd.DataFrame(self.rows).to_csv(self.out / "curve.csv", index=False)
        if track:
            self.drift.append(drift.measure_importances(self.controller, self.step, episodes))
            drift.write_table(self.drift, self.out)
        if episodes.mean_return >= self.best:
            self.best, self.kept_step = episodes.mean_return, self.step
            provenance = {"task": self.task, "training_seed": self.training.seed}
            self.controller.save(self.out / "controller.pt", provenance)
        self._say("evaluate", point)

    def save(self) -> None:
        """Keep what it takes to go on from here."""
        with replacing(self.out / RESUME) as temporary:
            torch.save(self._state(), temporary)

    _PLAIN = ("kept_step", "best", "rows", "drift")

    def _state(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self._PLAIN}
        return {
            "settings": self._identity(),
            "plain": json.dumps({**plain, "before": self.seconds()}),
            "practice": self.practice.state_dict(),
        }

    def resume(self) -> None:
        """Go on from the last evaluation of a training that was stopped, if there was one.

        Raises:
            ControllerError: it had other settings.
        """
        if not (self.out / RESUME).exists():
            self.save()  # from now on the folder is known to hold a training
            return
        state = torch.load(self.out / RESUME, weights_only=True)
        if state["settings"] != self._identity():
            raise ControllerError(f"{self.out} holds a stopped training with other settings; give another folder")
        plain = json.loads(state["plain"])
        for name in self._PLAIN:
            setattr(self, name, plain[name])
        self.before = plain["before"]
        self.practice.load_state_dict(state["practice"])

    def _identity(self) -> str:
        settings = [asdict(self.planning), asdict(self.learning), asdict(self.collecting)]
        track = self.training.track_importance
        return json.dumps(
            [
                self.training.algorithm,
                self.task,
                self.training.seed,
                self.training.steps,
                self.evaluations,
                settings,
                track,
            ]
        )

    def _say(self, what: str, numbers: Mapping[str, float]) -> None:
        said = ", ".join(f"{name} {number:.4g}" for name, number in numbers.items())
        share = self.step / self.training.steps
        print(f"step {self.step} ({share:.0%}), {self.seconds():.0f} s, {what}: {said}", file=sys.stderr, flush=True)
        if self.board is not None:
            for name, number in numbers.items():
                self.board.add_scalar(f"{what}/{name}", number, self.step)


def _tensorboard(out: Path) -> Any:
    """A writer of TensorBoard's events, if that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(out / "tensorboard")
