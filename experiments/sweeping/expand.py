"""A sweep: every controller by every method by every sparsity by every seed, and what of it is still to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from prunectl import agents, envs
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.files import replacing
from prunectl.envs.plants import PLANTS
from prunectl.experiments import provenance
from prunectl.experiments.episodes.evaluator import environments, task_for
from prunectl.experiments.stability.lyapunov import STEPS
from prunectl.experiments.sweeping.cell import Cell, Subject, ToDo, Work
from prunectl.experiments.sweeping.config import ConfigError, ControllerEntry, SweepConfig
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Ask, PruningError, trace
from prunectl.pruning.ask import DEPLOYED, OBSERVATION
from prunectl.registry import Plugin, PluginError

#: For the estimate of a sweep that has measured nothing yet: environment steps a second on one core, and what a cell
#: takes besides.
STEPS_PER_SECOND, PRUNE_SECONDS = 12_000, 0.5


def load_work(config: SweepConfig, trust: bool, remark: Callable[[str], None]) -> Work:
    """Load every controller of a sweep, check that it fits its task, and list the cells.

    Args:
        config: what to compute.
        trust: unpickle what the checkpoints hold, on the user's word.
        remark: told what the user should know, a line at a time.

    Raises:
        PluginError: one whose source cannot be read.
        ConfigError: a controller without a task, without a component to prune alone, or two that are the same or have
            one name; none on a task whose stability can be recorded, where that is asked for.
        ControllerError: a checkpoint that cannot be loaded or does not fit its task.
        TaskError: a task that does not exist.
        OSError: a checkpoint that is not there.
    """
    controllers: dict[str, Controller] = {}
    subjects: list[Subject] = []
    resources: dict[str, Mapping[str, float]] = {}
    loaders: dict[Plugin, None] = {}
    for entry in config.controllers:
        controller, subject, loader = _load(entry, trust, remark)
        for other in subjects:
            if (other.digest, other.task) == (subject.digest, subject.task):
                raise ConfigError(f"controllers: {entry.controller} is the same as {other.controller}: remove one")
            if (other.controller, other.task) == (subject.controller, subject.task):
                raise ConfigError(f"controllers: two are called {other.controller}: give one a 'name: ...'")
        _check_scopes(config, controller, subject)
        controllers[subject.digest] = controller
        if entry.resources:
            resources[subject.digest] = entry.resources
        if loader is not None:
            loaders[loader] = None
        subjects.append(subject)
    if config.stability is not None:
        _check_plants([subject.task for subject in subjects], remark)
    cells = tuple(cell for subject in subjects for cell in _cells(config, subject))
    work = Work(controllers, cells, resources, tuple(loaders), config.timeout)
    for plugin in work.plugins:
        if not plugin.digest:
            raise PluginError(f"{plugin}: its source cannot be read, so nobody could tell when it changes: use a file")
    return work


def still_to_do(work: Work, store: Store) -> ToDo:
    """What the store does not hold yet. From here on it shows the cells of this sweep and no others."""
    store.plan(work.cells)
    return lacking(work, store)


def lacking(work: Work, store: Store) -> ToDo:
    """What of a sweep the store, which stays as it is, does not hold yet."""
    done = store.done()
    return ToDo(
        tuple(cell for cell in work.cells if cell.key not in done),
        tuple(one for one in work.references if store.returns_of(one) is None),
    )


def estimate(cells: Sequence[Cell], measured: Mapping[str, float], workers: int) -> float:
    """Seconds that these cells should take. ``measured`` has the mean seconds of a cell by task, where it is known."""
    total = 0.0
    for cell in cells:
        horizon = envs.lookup(cell.subject.task).horizon
        steps = cell.episodes * horizon + (cell.stability or 0) * (horizon + STEPS)
        total += measured.get(cell.subject.task, PRUNE_SECONDS + steps / STEPS_PER_SECOND)
    return total / workers


def _load(
    entry: ControllerEntry, trust: bool, remark: Callable[[str], None]
) -> tuple[Controller, Subject, Plugin | None]:
    loaded = agents.load(entry.reference, trust=trust)
    loaded.controller.dataflow()  # one that cannot be pruned says so here, and not in every cell
    named = loaded.task_to_run(entry.task, trust)
    if named is None:
        raise ConfigError(
            f"controllers: {entry.controller} does not name its task: write {{controller: ..., task: ID}}"
        )
    task, changed = task_for(loaded.controller, named)
    for said in (*loaded.remarks, *([f"{loaded.name}: {changed}"] if changed else [])):
        remark(said)
    try:
        with environments(task, 1, loaded.controller):
            pass
    except ControllerError as error:
        raise ControllerError(f"{entry.controller}: {error}") from error
    if loaded.plan is not None:
        remark(f"{loaded.name} is a pruned controller already: here 'dense' means as it is, and sparsities are of that")
    name = entry.name or loaded.name
    around, source = loaded.controller.surroundings, envs.source_of(task)
    digest = loaded.digest if source is None else hashlib.sha256(f"{loaded.digest} {source}".encode()).hexdigest()
    # Where a task's own file is part of the digest, random actions are those of that file too.
    surrounded = source is not None or loaded.controller.masked or (around is not None and around.changes_returns)
    subject = Subject(name, digest, loaded.controller.algorithm, task, loaded.training_seed, surrounded)
    return loaded.controller, subject, loaded.loader


def _check_scopes(config: SweepConfig, controller: Controller, subject: Subject) -> None:
    if not config.only and not any(config.budgets):
        return
    graph = trace(controller)
    scopes = [*graph.components, *graph.flows, *([OBSERVATION] if controller.selects else []), DEPLOYED]
    for name in config.only:
        if name not in scopes:
            raise ConfigError(f"only: {subject.controller} has no '{name}'; it has {', '.join(scopes)}")
    for shares in filter(None, config.budgets):
        asked = Ask(0.0, tuple(shares.items()))
        try:
            asked.by_scope(trace(controller, asked.observed))
        except PruningError as error:
            raise ConfigError(f"budgets: {subject.controller}: {error}") from error


def _check_plants(tasks: Sequence[str], remark: Callable[[str], None]) -> None:
    without = [task for task in dict.fromkeys(tasks) if not PLANTS.offers(task)]
    if len(without) == len(set(tasks)):
        raise ConfigError(
            "stability: no controller is on a task that has a goal to come to rest at; those that have: "
            + ", ".join(PLANTS.names())
        )
    if without:
        remark(f"stability is not recorded on {', '.join(without)}: there is no goal to come to rest at")


def _cells(config: SweepConfig, subject: Subject) -> Iterator[Cell]:
    """The dense controller first: everything is held against it. Its stability is that of the first seed's function."""
    stable = config.stability is not None and PLANTS.offers(subject.task)
    starts = config.stability if stable else None
    first = 0 if starts is None else config.seeds[0]
    yield Cell(subject, None, 0.0, first, config.episodes, config.episode_seed, 1, stability=starts)
    alone = tuple(dict.fromkeys(config.only)) or (None,)
    seeds = dict.fromkeys(config.seeds)
    shared = (config.episodes, config.episode_seed, config.min_width)
    sparsities = config.pruned_sparsities
    for only, variant, sparsity, seed in product(alone, config.variants, sparsities, seeds):
        how = variant.budgets, variant.schedule, variant.recovery_budget
        yield Cell(subject, variant.method, sparsity, seed, *shared, only, starts, *how)


def resolved(config: SweepConfig, work: Work) -> dict[str, Any]:
    """The config as plain data that reads back the same: tasks, names and defaults filled in, methods one by one."""
    subjects = dict.fromkeys(cell.subject for cell in work.cells)
    entries = zip(config.controllers, subjects, strict=True)
    fields = SweepConfig.model_fields
    unasked = {n for n in ("budgets", "steps", "schedule") if getattr(config, n) == fields[n].default}
    return {
        "controllers": [
            {"controller": entry.controller, "task": subject.task, "name": subject.controller}
            | ({"resources": dict(entry.resources)} if entry.resources else {})
            for entry, subject in entries
        ],
        "methods": [asdict(method) for method in config.expanded_methods],
        **({"plugins": list(config.modules)} if config.modules else {}),
        **config.model_dump(mode="json", exclude={"plugins", "controllers", "methods", *unasked}, exclude_none=True),
    }


def write_record(folder: Path, config: SweepConfig, work: Work, computing: bool = True) -> str | None:
    """Leave what made the results beside them: ``config.yaml``, and ``provenance.json`` (`provenance.update`)."""
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(resolved(config, work), sort_keys=False, width=110), encoding="utf-8")
    return provenance.update(folder, work.plugins, computing)
