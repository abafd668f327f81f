"""One point of a sweep: what it is, what decides its outcome, and the work itself."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from prunectl.agents.controller import Controller
from prunectl.envs.plants import plant
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import Episodes, evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.experiments.stability import measure as stability
from prunectl.experiments.stability.bounds import Checks
from prunectl.experiments.stability.lyapunov import Lyapunov, LyapunovError
from prunectl.pruning import Calibration, Damage, Method, PruningPlan, Scores, bench, measure, prune, score, trace
from prunectl.pruning.plan import uncut

#: Part of every cell's key. Raise it when calibration or evaluation change, so that old cells are computed anew
#: (`stability.VERSION` is that of stability).
VERSION = 1

#: A piece of shared work, see `pieces`.
Piece = tuple[Any, ...]


@dataclass(frozen=True)
class Subject:
    """A controller on a task. ``digest`` stands for everything that decides what the controller does."""

    controller: str
    digest: str
    algorithm: str
    task: str
    training_seed: int | None


@dataclass(frozen=True)
class Cell:
    """A controller, a method, a sparsity and a seed. The dense controller is the cell without a method.

    ``seed`` drives the pruning, ``episode_seed`` is the first of ``episodes`` environment seeds. With ``only``, one
    component or flow is pruned, and ``sparsity`` is its own. ``stability`` are the independent starts of each check of
    the loop's stability, None where that is not recorded; ``seed`` then decides the function that must fall as well.
    """

    subject: Subject
    method: Method | None
    sparsity: float
    seed: int
    episodes: int
    episode_seed: int
    min_width: int
    only: str | None = None
    stability: int | None = None

    @property
    def measures(self) -> bool:
        """Whether its allocation looks at damage."""
        return self.method is not None and self.method.measures and self.only is None

    @cached_property
    def key(self) -> str:
        """A hash of everything that decides the outcome, 32 hexadecimal digits."""
        method = self.method
        decisive = {
            "version": VERSION,
            "controller": self.subject.digest,
            "task": self.subject.task,
            "method": None if method is None else [*_names(method), method.version],
            "sparsity": self.sparsity,
            "seed": self.seed,
            "episodes": self.episodes,
            "episode_seed": self.episode_seed,
            "min_width": self.min_width,
        }
        if self.only is not None:  # left out otherwise: cells of whole controllers keep the keys they always had
            decisive["only"] = self.only
        if self.stability is not None:  # likewise
            decisive["stability"] = [self.stability, stability.VERSION]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]

    def __str__(self) -> str:
        where = f"{self.subject.controller} on {self.subject.task}"
        if self.method is None:
            return f"{where}, dense"
        alone = "" if self.only is None else f" of {self.only} alone"
        return f"{where}, {self.method.label} at sparsity {self.sparsity:g}{alone}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a cell gives. ``seconds`` has the time of each stage, ``checks`` the stability where it is recorded."""

    plan: PruningPlan
    integrity: float
    episodes: Episodes
    seconds: Mapping[str, float]
    checks: Checks | None = None


def pieces(cell: Cell) -> list[Piece]:
    """The shared work that a cell needs, each piece after those that it needs itself.

    A piece is its kind (``controller``, ``calibration``, ``scores``, ``damage`` or ``lyapunov``), the controller's
    digest, and what else decides it."""
    subject, method = cell.subject, cell.method
    needed: list[Piece] = [("controller", subject.digest)]
    data = (subject.digest, subject.task, cell.seed)
    if method is not None:
        needed.append(("calibration", *data))
        if not method.stock:
            needed.append(("scores", *data, method.importance))
        if cell.measures:
            needed.append(("damage", *data, method.importance))
    if cell.stability is not None:
        needed.append(("lyapunov", *data))
    return needed


def run_calibration(controller: Controller, task: str, seed: int) -> Calibration:
    """What all cells of one controller and seed share, on one thread."""
    torch.set_num_threads(1)
    return calibrate(controller, task, seed)


def run_lyapunov(controller: Controller, task: str, seed: int) -> Lyapunov | None:
    """The function that must fall along the loops of all cells of one controller and seed, on one thread; None where
    the dense loop has none."""
    torch.set_num_threads(1)
    try:
        return stability.fitted(controller, plant(task), seed)
    except LyapunovError:
        return None


def run_dense(controller: Controller, cell: Cell, lyapunov: Lyapunov | None = None) -> Outcome:
    """Measure the dense controller, on one thread.

    Raises:
        ControllerError: it does not fit the task, or its actions are not numbers.
    """
    torch.set_num_threads(1)
    return _measured(controller, uncut(trace(controller)), 1.0, {}, cell, lyapunov)


def run_scores(controller: Controller, calibration: Calibration, importance: str, seed: int) -> Scores:
    """The scores that all cells of one controller, importance and seed share, on one thread."""
    torch.set_num_threads(1)
    calibration = _aligned(calibration)
    inputs = controller.inputs(calibration.observations, calibration.actions)
    return score(controller, trace(controller), importance, inputs, seed)


def run_damage(controller: Controller, calibration: Calibration, scores: Scores, seed: int) -> Damage:
    """The damage that all cells of one controller, importance and seed share, on one thread."""
    torch.set_num_threads(1)
    calibration = _aligned(calibration)
    inputs = controller.inputs(calibration.observations, calibration.actions)
    return measure(bench(controller, trace(controller), scores, inputs, seed))


def run_pruned(
    controller: Controller,
    calibration: Calibration,
    scores: Scores | None,
    cell: Cell,
    damage: Damage | None = None,
    lyapunov: Lyapunov | None = None,
) -> Outcome:
    """Prune and measure, on one thread. Stock methods take no scores, and only `Method.measures` asks for damage.

    Raises:
        PruningError: the sparsity cannot be met.
        ControllerError: the pruned controller's actions are not numbers.
    """
    torch.set_num_threads(1)
    assert cell.method is not None
    calibration = _aligned(calibration)
    pruned = prune(
        controller,
        cell.method,
        cell.sparsity,
        calibration,
        seed=cell.seed,
        min_width=cell.min_width,
        scores=scores,
        only=cell.only,
        loop=TaskLoop(cell.subject.task, cell.seed),
        damage=damage,
    )
    return _measured(pruned.controller, pruned.plan, pruned.integrity, pruned.seconds, cell, lyapunov)


def run_random(task: str, episodes: int, episode_seed: int) -> Episodes:
    """The random reference of a task, on the seeds that its cells are measured on."""
    return evaluate_random(task, reported_seeds(episodes, episode_seed))


def _measured(
    controller: Controller,
    plan: PruningPlan,
    integrity: float,
    seconds: Mapping[str, float],
    cell: Cell,
    lyapunov: Lyapunov | None,
) -> Outcome:
    started = time.perf_counter()
    episodes = evaluate(controller, cell.subject.task, reported_seeds(cell.episodes, cell.episode_seed))
    seconds = {**seconds, "evaluate": time.perf_counter() - started}
    if cell.stability is None:
        return Outcome(plan, integrity, episodes, seconds)
    started = time.perf_counter()
    checks = _checks(controller, cell, cell.stability, lyapunov)
    return Outcome(plan, integrity, episodes, {**seconds, "stability": time.perf_counter() - started}, checks)


def _checks(controller: Controller, cell: Cell, starts: int, lyapunov: Lyapunov | None) -> Checks:
    """Both checks of `prunectl stability` from the cell's own reported seeds on; without a function, settling alone."""
    if lyapunov is not None:  # as in `_aligned`, and of one layout
        a, rest, p = (np.array(x, order="C") for x in (lyapunov.model.a, lyapunov.model.rest, lyapunov.p))
        lyapunov = replace(lyapunov, model=replace(lyapunov.model, a=a, rest=rest), p=p)
    subject = stability.Candidate(cell.subject.controller, controller)
    effort = stability.Effort(starts, grid=0, robust=0)
    return stability.measure_loop(subject, plant(cell.subject.task), lyapunov, effort, cell.episode_seed).checks


def _aligned(calibration: Calibration) -> Calibration:
    """Fresh copies: an array that came from another worker may start at any byte, and the last bit of a product
    depends on where."""
    return Calibration(*(np.array(getattr(calibration, field.name)) for field in fields(calibration)))


def _names(method: Method) -> list[str]:
    return [method.grouping, method.importance, method.allocation, method.recovery]
