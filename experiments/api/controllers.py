"""`load`, `inspect`, `evaluate`, `prune` and its stages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from prunectl import agents, envs
from prunectl.agents import Controller, Loaded
from prunectl.experiments.api.calling import Progress, log, on_one_thread, shown
from prunectl.experiments.api.place import Env, place_of
from prunectl.experiments.api.small import Small
from prunectl.experiments.api.subject import Model, Subject, subject_of
from prunectl.experiments.episodes.against_random import no_better_than_random
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import Episodes, evaluate_random
from prunectl.experiments.episodes.evaluator import evaluate as run
from prunectl.experiments.episodes.rows import Rows
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.pruning import (
    Ask,
    Calibration,
    ComponentGraph,
    Method,
    Pruned,
    PruningError,
    PruningPlan,
    Schedule,
    Sparsity,
    Variant,
    check_ask,
    check_budget,
    graph_of,
    plan_for,
)
from prunectl.pruning import apply as carry_out
from prunectl.pruning import prune as prune_controller
from prunectl.pruning import trace as find_groups
from prunectl.pruning.observation import still_remark
from prunectl.pruning.recovery import Budget, Loop
from prunectl.references import RANDOM

#: Episodes that a pruning is judged by.
JUDGED = 10


def load(
    source: str | Path, trust: bool = False, normalisation: str | Path | None = None, time_feature: bool = False
) -> Loaded:
    """Load a checkpoint; nothing from the file is executed unless it is trusted.

    Args:
        source: a ``.zip`` of Stable-Baselines3, an rl-zoo run folder, a TD-MPC ``.pt``, a ``.safetensors`` of own
            networks, a ``.cleanrl_model``, an exported ``.onnx``, ``.c`` or ``.elf``, a bundled name, or ``hf://user/name``.
        trust: unpickle it, and compile and run exported C, on your word.
        normalisation: the file with the observation statistics (what `VecNormalize.save` writes), where they are
            neither in the checkpoint nor beside it.
        time_feature: the observation ends with the share of the episode that is left, though no file says so.

    Returns:
        The controller with its name, its task, its training seed, a digest, its plan where it is a pruned one, and
        remarks on how it was put together.

    Raises:
        Error: nothing there, or nothing that can be rebuilt.

    Example:
        >>> import prunectl
        >>> loaded = prunectl.load("sac-pendulum")
        >>> loaded.task, loaded.controller.algorithm, loaded.controller.parameters()
        ('Pendulum-v1', 'sac', 201988)
    """
    beside = None if normalisation is None else Path(normalisation)
    return agents.load(source, trust, beside, time_feature)


@on_one_thread
def trace(model: Model, trust: bool = False, observed: bool = False) -> ComponentGraph:
    """Find a controller's components, the flows between them, and the groups of units that must go together.

    Args:
        model: a Stable-Baselines3 model, a `Controller`, what `load` or `prune` gave, or a checkpoint's path or name.
        trust: see `load`.
        observed: the numbers of its observation are a flow too.

    Raises:
        Error: its networks cannot be followed.

    Example:
        >>> import prunectl
        >>> graph = prunectl.trace("ppo-cartpole")
        >>> graph.components, list(graph.groups)[0]
        (('actor', 'value'), 'actor/0')
    """
    return find_groups(subject_of(model, trust=trust, needed=False).controller, observed)


def inspect(model: Model, trust: bool = False) -> ComponentGraph:
    """The graph of a controller, to be printed: see `trace`.

    Example:
        >>> import prunectl
        >>> print(prunectl.inspect("ppo-cartpole"))  # doctest: +ELLIPSIS
        2 components, 4 groups, ... parameters
        ...
    """
    return trace(model, trust)


@on_one_thread
def evaluate(
    model: Model | Literal["random"],
    env: Env | None = None,
    episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    trust: bool = False,
) -> Episodes:
    """Run seeded episodes with deterministic actions.

    Args:
        model: see `trace`; ``"random"`` for uniformly random actions.
        env: a task id, an environment (it is copied, not stepped), a `VecEnv` (the statistics of its `VecNormalize` are
            taken) or a function that makes one. By default where the model learns, or what the checkpoint names.
        episodes: how many.
        seed: environment seed of the first episode; the others follow.
        max_steps: break every episode off after so many steps; by default where the task does.
        trust: see `load`.

    Returns:
        ``returns`` and ``lengths`` ``(episodes,)``, ``mean_return``, ``std_return``.

    Raises:
        Error: no such checkpoint or task, or the two do not fit.

    Example:
        >>> import prunectl
        >>> prunectl.evaluate("ppo-cartpole", episodes=3).returns.tolist()
        [500.0, 500.0, 500.0]
    """
    seeds = reported_seeds(episodes, seed)
    if isinstance(model, str) and model == RANDOM:
        if env is None:
            raise agents.ControllerError("random actions belong to no task: say which with env=... (--task ID)")
        place = place_of(env)
        task, remark = envs.resolve(place.task)
        if remark:
            log.warning(remark)
        return evaluate_random(task, seeds, most_steps=max_steps)
    subject = subject_of(model, env, trust)
    return run(subject.controller, subject.task, seeds, most_steps=max_steps)


@on_one_thread
def prune(
    model: Model,
    sparsity: Sparsity,
    *,
    env: Env | None = None,
    inputs: ArrayLike | None = None,
    grouping: str | None = None,
    importance: str | None = None,
    allocation: str = "uniform",
    recovery: str | None = None,
    budget: str | int | None = None,
    steps: int = 1,
    schedule: str = "geometric",
    seed: int = 0,
    min_width: int = 1,
    trust: bool = False,
    progress: Progress = False,
) -> Small:
    """Make a controller smaller and measure what that costs. The model given stays as it is.

    Args:
        model: a Stable-Baselines3 model, a `Controller`, what `load` or `prune` gave, or a checkpoint's path or name.
        sparsity: share of all parameters to remove, in [0, 1). A mapping has shares of their own for components and
            flows: ``{"overall": 0.9, "critic": 0.5, "flow": 0}`` (`prunectl.pruning.Ask`); without ``overall`` what is
            not named stays whole.
        env: see `evaluate`.
        inputs: observations ``(n, ...)`` in the place of a task: nothing is run, and what it costs is said by the
            fidelity of each component's output on rows held back.
        grouping: how units are pooled to be ranked: ``component``, ``layer``, ``global``, or a library's pruner. By
            default ``chosen``: ``component``, and where its students fall short ``coupled``, ``inputs`` and ``shallow``
            beside it; ``component`` where another recovery is named.
        importance: how a unit is scored; by default ``surgeon``.
        allocation: how the sparsity is divided over the pools.
        recovery: what is done for the smaller controller; by default ``distill-restarts``.
        budget: how long a recovery may go on: ``"60s"``, or steps as ``24000`` (distill: batches; finetune, polish: of
            the environment). With steps, the same seed gives the same controller. All steps of a schedule share it;
            where none is given, each takes what it would take alone.
        steps: in how many steps to prune, each with scores and a recovery of its own.
        schedule: how the sparsity rises from step to step: ``geometric`` or ``linear``.
        seed: of calibration and recovery.
        min_width: no layer falls below so many units.
        trust: see `load`.
        progress: ``True`` for a bar, or a function that is told the share done.

    Returns:
        The smaller controller and its record; ``.model`` is a Stable-Baselines3 model again.

    Raises:
        Error: an unknown name, a sparsity that cannot be met, networks that cannot be followed, or a model that does
            not fit its environment.

    Example:
        >>> import prunectl
        >>> small = prunectl.prune("ppo-cartpole", 0.5, recovery="reconstruct")
        >>> round(small.plan.sparsity_total, 2), small.pruned.mean_return
        (0.5, 500.0)
    """
    ask, variant, allowed = check_method(sparsity, grouping, importance, allocation, recovery, budget, steps, schedule)
    method = variant.method
    subject = subject_of(model, env, trust)
    controller = subject.controller
    method.check(controller)

    def smaller(calibration: Calibration, loop: Loop) -> Pruned[Controller]:
        with shown(progress, method.recovery) as told:
            outcome = prune_controller(
                controller,
                method,
                ask,
                calibration,
                seed=seed,
                min_width=min_width,
                loop=loop,
                budget=allowed,
                told=told,
                schedule=variant.schedule,
            )
        remarks = [outcome.plan.remark]
        if controller.selects and not (outcome.plan.observed or ask.leaves_all):
            remarks.append(still_remark(controller.inputs(calibration.observations, calibration.actions)[0]))
        for remark in filter(None, remarks):
            log.warning(f"{subject.loaded.name}: {remark}")
        return outcome

    started = time.perf_counter()
    if inputs is not None:
        rows = _rows(subject, env, inputs, seed, method)
        calibrated = time.perf_counter() - started
        outcome = smaller(rows.calibration, rows)
        return Small(subject, outcome, variant, seed, None, None, None, {"calibration": calibrated, **outcome.seconds})
    task, seeds = subject.task, reported_seeds(JUDGED)
    random, dense = evaluate_random(task, seeds, controller), run(controller, task, seeds)
    if remark := no_better_than_random(dense, random):
        log.warning(f"{subject.loaded.name}: {remark}")
    judged = time.perf_counter()
    calibration = calibrate(controller, task, seed)
    calibrated = time.perf_counter()
    outcome = smaller(calibration, TaskLoop(task, seed))
    pruned_at = time.perf_counter()
    pruned = run(outcome.controller, task, seeds)
    seconds = {
        "calibration": calibrated - judged,
        **outcome.seconds,
        "evaluation": judged - started + time.perf_counter() - pruned_at,
    }
    return Small(subject, outcome, variant, seed, dense, pruned, random, seconds)


def _rows(subject: Subject, env: Env | None, inputs: ArrayLike, seed: int, method: Method | None = None) -> Rows:
    """The rows that a user gives in the place of a task."""
    if env is not None:
        raise PruningError("a task and inputs are given: what acts on a task is judged there; leave one of them out")
    if method is not None and method.recovery in ("finetune", "polish"):
        raise PruningError(f"recovery '{method.recovery}' goes by rewards, so it needs a task, not inputs")
    return Rows.of(subject.controller, inputs, seed)


@on_one_thread
def plan(
    model: Model,
    sparsity: Sparsity,
    *,
    env: Env | None = None,
    inputs: ArrayLike | None = None,
    grouping: str = "component",
    importance: str | None = None,
    allocation: str = "uniform",
    seed: int = 0,
    min_width: int = 1,
    trust: bool = False,
) -> PruningPlan:
    """What `prune` would remove, and nothing done yet: plain data, printable, JSON both ways.

    Args:
        model, sparsity, env, inputs, grouping, importance, allocation, seed, min_width, trust: see `prune`.

    Raises:
        Error: as `prune`.

    Example:
        >>> import prunectl
        >>> plan = prunectl.plan("ppo-cartpole", 0.5, importance="magnitude")
        >>> plan.components["actor"].widths_pruned
        (44, 44, 2)
    """
    method = Method.of(grouping, importance, allocation)
    if not method.plans:
        raise PruningError(f"grouping '{grouping}' has no plan ahead: what it cuts shows once it is cut; `prune` does")
    ask = Ask.of(sparsity)
    subject = subject_of(model, env, trust)
    controller = subject.controller
    loop: Loop
    if inputs is not None:
        loop = rows = _rows(subject, env, inputs, seed)
        calibration = rows.calibration
    else:
        loop, calibration = TaskLoop(subject.task, seed), calibrate(controller, subject.task, seed)
    seen = controller.inputs(calibration.observations, calibration.actions)
    graph = graph_of(controller, method, ask)
    return plan_for(controller, graph, method, ask, seen, seed, min_width, loop=loop)


@on_one_thread
def apply(plan: PruningPlan, model: Model, trust: bool = False) -> Controller:
    """Carry a plan out: a new, smaller controller, not refitted. The one given stays as it is.

    Args:
        plan: what `plan` gave for this controller.
        model, trust: see `trace`.

    Example:
        >>> import prunectl
        >>> small = prunectl.apply(prunectl.plan("ppo-cartpole", 0.5, importance="magnitude"), "ppo-cartpole")
        >>> small.parameters() < prunectl.load("ppo-cartpole").controller.parameters()
        True
    """
    controller = subject_of(model, trust=trust, needed=False).controller
    return carry_out(plan, controller, find_groups(controller, plan.observed))


def check_method(
    sparsity: Sparsity,
    grouping: str | None = None,
    importance: str | None = None,
    allocation: str = "uniform",
    recovery: str | None = None,
    budget: str | int | None = None,
    steps: int = 1,
    schedule: str = "geometric",
) -> tuple[Ask, Variant, Budget | None]:
    """What these names and numbers mean, refused before anything is loaded where they mean nothing.

    Raises:
        PruningError: an unknown name, a sparsity outside [0, 1), or a budget that the recovery cannot go by.
    """
    ask = Ask.of(sparsity)
    variant = Variant(Method.asked(grouping, importance, allocation, recovery), ask.shares, Schedule(steps, schedule))
    check_ask(variant.method, ask, 1, variant.schedule)
    allowed = None if budget is None else Budget.of(budget)
    try:
        check_budget(variant.method, allowed)
    except PruningError as error:
        raise PruningError(f"budget {budget}: {error}") from error
    return ask, variant, allowed
