"""The work of a sweep, function by function, as workers run it: each on one thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace

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
from prunectl.experiments.sweeping.cell import Cell, Outcome, Reference
from prunectl.pruning import Calibration, Damage, PruningPlan, Scores, bench, measure, prune, score, trace
from prunectl.pruning.plan import uncut
from prunectl.pruning.recovery import Budget
from prunectl.pruning.rounding import acting_bytes


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
        cell.ask,
        calibration,
        seed=cell.seed,
        min_width=cell.min_width,
        scores=scores,
        loop=TaskLoop(cell.subject.task, cell.seed),
        damage=damage,
        schedule=cell.schedule,
        budget=None if cell.recovery_budget is None else Budget(steps=cell.recovery_budget),
    )
    outcome = _measured(pruned.controller, pruned.plan, pruned.integrity, pruned.seconds, cell, lyapunov)
    if (bits := cell.method.bits) is None:
        return outcome
    return replace(outcome, rounded=acting_bytes(pruned.controller, bits))


def run_random(reference: Reference, controller: Controller | None = None) -> Episodes:
    """A random reference, on the seeds that its cells are measured on; ``controller`` is the one that it names."""
    return evaluate_random(reference.task, reported_seeds(reference.episodes, reference.episode_seed), controller)


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
