"""A sweep: every controller by every method by every sparsity by every seed, over worker processes, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import agents
import envs
from agents.controller import Controller, ControllerError
from agents.files import replacing
from experiments.cell import (
    Cell,
    Subject,
    run_calibration,
    run_damage,
    run_dense,
    run_pruned,
    run_random,
    run_scores,
)
from experiments.config import ConfigError, ControllerEntry, SweepConfig
from experiments.evaluator import environments
from experiments.provenance import command_line, versions
from experiments.seeds import reported_seeds
from experiments.store import Store
from pruning import PruningError, trace

if TYPE_CHECKING:
    from distributed import Client, Future

#: For the estimate of a sweep that has measured nothing yet: environment steps a second on one core, and what a cell
#: takes besides.
STEPS_PER_SECOND, PRUNE_SECONDS = 12_000, 0.5


@dataclass(frozen=True)
class Work:
    """A sweep with its controllers loaded: ``controllers`` by digest, ``cells`` in the order of the config."""

    controllers: Mapping[str, Controller]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ToDo:
    """What of a sweep is missing: cells, and random references as (task, episodes, first seed)."""

    cells: tuple[Cell, ...]
    references: tuple[tuple[str, int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.cells or self.references)


@dataclass(frozen=True)
class Failure:
    """A cell that failed, and why in one line."""

    cell: Cell
    error: str


def load_work(config: SweepConfig, trust: bool, remark: Callable[[str], None]) -> Work:
    """Load every controller of a sweep, check that it fits its task, and list the cells.

    Args:
        config: what to compute.
        trust: unpickle what the checkpoints hold, on the user's word.
        remark: told what the user should know, a line at a time.

    Raises:
        ConfigError: a controller without a task, without a component to prune alone, or two that are the same or have
            one name.
        ControllerError: a checkpoint that cannot be loaded or does not fit its task.
        TaskError: a task that does not exist.
        OSError: a checkpoint that is not there.
    """
    controllers: dict[str, Controller] = {}
    subjects: list[Subject] = []
    for entry in config.controllers:
        controller, subject = _load(entry, trust, remark)
        for other in subjects:
            if (other.digest, other.task) == (subject.digest, subject.task):
                raise ConfigError(f"controllers: {entry.controller} is the same as {other.controller}: remove one")
            if (other.controller, other.task) == (subject.controller, subject.task):
                raise ConfigError(f"controllers: two are called {other.controller}: give one a 'name: ...'")
        _check_scopes(config.only, controller, subject)
        controllers[subject.digest] = controller
        subjects.append(subject)
    return Work(controllers, tuple(cell for subject in subjects for cell in _cells(config, subject)))


def still_to_do(work: Work, store: Store) -> ToDo:
    """What the store does not hold yet. From here on it shows the cells of this sweep and no others."""
    store.plan(work.cells)
    done = store.done()
    tasks = dict.fromkeys((cell.subject.task, cell.episodes, cell.episode_seed) for cell in work.cells)
    return ToDo(
        tuple(cell for cell in work.cells if cell.key not in done),
        tuple(entry for entry in tasks if store.random_returns(entry[0], reported_seeds(*entry[1:])) is None),
    )


def run(work: Work, to_do: ToDo, store: Store, client: Client, told: Callable[[Cell], None]) -> list[Failure]:
    """Compute what is to do, and keep each cell as soon as it is there.

    Only this process writes to the store. Work that cells share (calibration, scores, damage, the random reference of
    a task) is a task of its own, done once and kept by the workers.

    Args:
        work: the sweep.
        to_do: what of it the store does not hold yet.
        store: where results go.
        client: the workers.
        told: called with every cell that has come to an end.

    Returns:
        The cells that failed; the store keeps their errors.

    Raises:
        StoreError: the store cannot be written any more.
        TaskError: a random reference cannot be measured.
    """
    from distributed import as_completed

    futures: dict[Future, Cell | str] = {
        client.submit(run_random, *entry, pure=False): entry[0] for entry in to_do.references
    }
    futures |= _submit_cells(work, to_do.cells, client)
    failures: list[Failure] = []
    for future in as_completed(list(futures)):
        subject = futures.pop(future)
        error = None if future.status == "finished" else _one_line(future)
        if isinstance(subject, str):
            if error is not None:
                raise envs.TaskError(f"random actions on {subject} cannot be measured: {error}")
            store.record_random(future.result())
            continue
        if error is None:
            store.record(subject, future.result())
        else:
            store.record_failure(subject, error)
            failures.append(Failure(subject, error))
        told(subject)
    return failures


def estimate(cells: Sequence[Cell], measured: Mapping[str, float], workers: int) -> float:
    """Seconds that these cells should take. ``measured`` has the mean seconds of a cell by task, where it is known."""
    total = 0.0
    for cell in cells:
        steps = cell.episodes * envs.lookup(cell.subject.task).horizon
        total += measured.get(cell.subject.task, PRUNE_SECONDS + steps / STEPS_PER_SECOND)
    return total / workers


def _load(entry: ControllerEntry, trust: bool, remark: Callable[[str], None]) -> tuple[Controller, Subject]:
    loaded = agents.load(entry.reference, trust=trust)
    named = loaded.task_to_run(entry.task, trust)
    if named is None:
        raise ConfigError(
            f"controllers: {entry.controller} does not name its task: write {{controller: ..., task: ID}}"
        )
    task, changed = envs.resolve(named)
    if changed:
        remark(f"{loaded.name}: {changed}")
    try:
        with environments(task, 1, loaded.controller):
            pass
    except ControllerError as error:
        raise ControllerError(f"{entry.controller}: {error}") from error
    name = entry.name or loaded.name
    return loaded.controller, Subject(name, loaded.digest, loaded.controller.algorithm, task, loaded.training_seed)


def _check_scopes(only: Sequence[str], controller: Controller, subject: Subject) -> None:
    if not only:
        return
    graph = trace(controller)
    scopes = [*graph.components, *graph.flows]
    for name in only:
        if name not in scopes:
            raise ConfigError(f"only: {subject.controller} has no '{name}'; it has {', '.join(scopes)}")


def _cells(config: SweepConfig, subject: Subject) -> Iterator[Cell]:
    """The dense controller first: everything is held against it."""
    yield Cell(subject, None, 0.0, 0, config.episodes, config.episode_seed, 1)
    alone = tuple(dict.fromkeys(config.only)) or (None,)
    seeds = dict.fromkeys(config.seeds)
    for only, method, sparsity, seed in product(alone, config.expanded_methods, config.pruned_sparsities, seeds):
        yield Cell(subject, method, sparsity, seed, config.episodes, config.episode_seed, config.min_width, only)


def _submit_cells(work: Work, cells: Sequence[Cell], client: Client) -> dict[Future, Cell | str]:
    shared: dict[tuple[Any, ...], Future] = {}

    def once(key: tuple[Any, ...], function: Callable[..., Any], *arguments: Any) -> Future:
        if key not in shared:
            shared[key] = client.submit(function, *arguments, pure=False)
        return shared[key]

    futures: dict[Future, Cell | str] = {}
    for cell in cells:
        subject, method, seed = cell.subject, cell.method, cell.seed
        controller = once((subject.digest,), _same, work.controllers[subject.digest])
        if method is None:
            futures[client.submit(run_dense, controller, cell, pure=False)] = cell
            continue
        data = (subject.digest, subject.task, seed)
        calibration = once(data, run_calibration, controller, subject.task, seed)
        scores = damage = None
        if not method.stock:
            scores = once((*data, method.importance), run_scores, controller, calibration, method.importance, seed)
        if cell.measures:
            damage = once((*data, method.importance, "damage"), run_damage, controller, calibration, scores, seed)
        futures[client.submit(run_pruned, controller, calibration, scores, cell, damage, pure=False)] = cell
    return futures


def _same(controller: Controller) -> Controller:
    """A controller as a task, so that the workers hold it once and a new one gets it again if one of them dies."""
    return controller


def _one_line(future: Future) -> str:
    """Why a task failed: our own errors speak for themselves, others name their type."""
    error = future.exception()
    text = " ".join(str(error).split())
    if isinstance(error, PruningError | ControllerError | envs.TaskError):
        return text
    return f"{type(error).__name__}: {text}"


def resolved(config: SweepConfig, work: Work) -> dict[str, Any]:
    """The config as plain data that reads back the same: tasks, names and defaults filled in, methods one by one."""
    subjects = dict.fromkeys(cell.subject for cell in work.cells)
    entries = zip(config.controllers, subjects, strict=True)
    return {
        "controllers": [
            {"controller": entry.controller, "task": subject.task, "name": subject.controller}
            for entry, subject in entries
        ],
        "methods": [asdict(method) for method in config.expanded_methods],
        **config.model_dump(mode="json", exclude={"controllers", "methods"}),
    }


def write_record(folder: Path, config: SweepConfig, work: Work) -> None:
    """Leave what made the results beside them: ``config.yaml``, and ``provenance.json`` with command and versions."""
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(resolved(config, work), sort_keys=False, width=110), encoding="utf-8")
    record = {"command": command_line(), "versions": versions()}
    with replacing(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
