"""A sweep on one worker and on two, what it costs besides its cells, and that what cells share is computed once."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunectl.agents import Controller
from prunectl.experiments.bench.timing import Rates, Section, compared, comparison, interleaved, undisturbed
from prunectl.experiments.sweeping.cell import Calibrated, Cell, Damaged, Scored, Work, needs
from prunectl.experiments.sweeping.compute import run_dense
from prunectl.experiments.sweeping.config import SweepConfig
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import load_work, still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import local_workers

#: Several controllers, so that two workers can share out what comes before the cells, and methods that share all there
#: is to share.
CONTROLLERS = ("ppo-cartpole-1", "ppo-pendulum-1", "ppo-cartpole-2", "ppo-cartpole-3")
METHODS = (
    {"importance": ["magnitude", "surgeon"], "recovery": ["none", "reconstruct"]},
    {"importance": "surgeon", "allocation": "sensitivity", "recovery": "reconstruct"},
)
SPARSITIES, EPISODES = [0.2, 0.4, 0.6, 0.8], 50
#: How often a dense cell is run without a pause, so that starting does not count.
OFTEN = 4
#: What cells share, by the function that computes it.
SHARED = {
    "run_random": "random reference",
    "run_dense": "dense reference",
    "run_calibration": "calibration",
    "run_scores": "scores",
    "run_damage": "damage",
}
#: The function that computes a piece of shared work.
FUNCTIONS: Mapping[type, str] = {Calibrated: "run_calibration", Scored: "run_scores", Damaged: "run_damage"}


@dataclass(frozen=True)
class Swept:
    """One run of a sweep: ``cell_seconds`` that the cells say they took, ``tasks`` as (function, seconds)."""

    workers: int
    cells: int
    wall: float
    cell_seconds: tuple[float, ...]
    tasks: tuple[tuple[str, float], ...]

    @property
    def shared_seconds(self) -> float:
        """Time of the tasks that several cells share; dense cells count as cells."""
        return sum(seconds for name, seconds in self.tasks if name in SHARED and name != "run_dense")

    @property
    def overhead(self) -> float:
        """Seconds of a worker a cell, for everything but the stages, the evaluation and what is shared."""
        return (self.wall * self.workers - sum(self.cell_seconds) - self.shared_seconds) / self.cells

    @property
    def unoccupied(self) -> float:
        """The part of it that no task ran in: scheduling, the wire, the store, idling at the end."""
        return (self.wall * self.workers - sum(seconds for _, seconds in self.tasks)) / self.cells


def measure(quick: bool) -> list[Section]:
    """Throughput and overheads, and a row a kind of shared work."""
    work = load_work(config(quick), trust=False, remark=lambda line: None)
    rounds = [{count: sweep(work, count) for count in (1, 2)} for _ in range(1 if quick else 3)]
    ones, twos = ([swept[count] for swept in rounds] for count in (1, 2))
    rates = [np.asarray([swept.cells / swept.wall for swept in runs]) for runs in (ones, twos)]
    throughput = compared("2 workers", rates[1], "1 worker", rates[0], at_least=1.8)
    one, two = apart(work, 1 if quick else 3)
    bound = compared("2 processes, nothing shared", two, "1 process", one)
    overheads = pd.DataFrame(
        [
            {
                "workers": runs[0].workers,
                "cells": runs[0].cells,
                "seconds_a_cell": np.median([np.mean(swept.cell_seconds) for swept in runs]),
                "overhead": np.median([swept.overhead for swept in runs]),
                "unoccupied": np.median([swept.unoccupied for swept in runs]),
            }
            for runs in (ones, twos)
        ]
    )
    shared = pd.DataFrame(list(_shared(work, twos[0])))
    seconds = dict.fromkeys(("seconds_a_cell", "overhead", "unoccupied"), ",.3f")
    return [
        comparison(
            "sweep: throughput",
            [throughput, bound],
            ",.2f",
            "Cells a second, by the clock, workers started. Two processes that run dense cells and nothing else, each "
            "its own, show what this machine's second core brings: no sweep can gain more from it.",
        ),
        Section(
            "sweep: overhead a cell",
            overheads,
            seconds,
            "Seconds of a worker. `seconds_a_cell`: its stages and its evaluation. `overhead`: everything but these "
            "and what cells share, that is tracing and fidelity, scheduling, the wire, the store, idling at the end. "
            "`unoccupied`: the part of it in which the worker ran nothing.",
        ),
        Section(
            "sweep: shared work",
            shared,
            {"seconds": ",.2f"},
            "In the first run with 2 workers: how often each was computed, how many different ones there are, and how "
            "many cells stand on them.",
        ),
    ]


def config(quick: bool) -> SweepConfig:
    """The sweep that is measured."""
    return SweepConfig.model_validate(
        {
            "controllers": list(CONTROLLERS[:2] if quick else CONTROLLERS),
            "methods": list(METHODS),
            "sparsities": SPARSITIES[:1] if quick else SPARSITIES,
            "episodes": EPISODES // 5 if quick else EPISODES,
        }
    )


def apart(work: Work, rounds: int) -> tuple[Rates, Rates]:
    """Dense cells a second of one process, and of two at once that have nothing to do with one another, round by
    round."""
    cell = next(cell for cell in work.cells if cell.method is None)
    given = work.controllers[cell.subject.digest], cell
    with local_workers(2) as client:
        addresses = list(client.scheduler_info()["workers"])

        def rate(count: int) -> float:
            started = time.perf_counter()
            runs = [client.submit(_often, *given, workers=[to], pure=False) for to in addresses[:count]]
            client.gather(runs)
            return count * OFTEN / (time.perf_counter() - started)

        rates = interleaved({"one": lambda: rate(1), "two": lambda: rate(2)}, rounds)
    return rates["one"], rates["two"]


def _often(controller: Controller, cell: Cell) -> None:
    for _ in range(OFTEN):
        run_dense(controller, cell)


def sweep(work: Work, workers: int) -> Swept:
    """Run a sweep from the start, on workers that are there and have imported what they need."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.writing(Path(folder)) as store,
        local_workers(workers) as client,
    ):
        from distributed import get_task_stream  # not before the workers have set up dask

        client.run(imported)
        to_do = still_to_do(work, store)
        with undisturbed(), get_task_stream(client) as stream:
            started = time.perf_counter()
            failures = run(work, to_do, store, client, lambda cell: None)
            wall = time.perf_counter() - started
        assert not failures, failures
        table = store.results()
    stages = table[[name for name in table.columns if name.endswith("_seconds")]]
    return Swept(workers, len(table), wall, tuple(stages.sum(axis=1)), tuple(_tasks(stream.data)))


def _tasks(stream: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    from distributed.utils import key_split

    for task in stream:
        spans = (span["stop"] - span["start"] for span in task["startstops"] if span["action"] == "compute")
        yield key_split(task["key"]), sum(spans)


def _shared(work: Work, swept: Swept) -> Iterator[Mapping[str, Any]]:
    needed = _needs(work.cells)
    for function, name in SHARED.items():
        times = [seconds for task, seconds in swept.tasks if task == function]
        keys = needed[function]
        yield {
            "work": name,
            "computed": len(times),
            "different": len(set(keys)),
            "cells": len(keys),
            "seconds": sum(times),
        }


def _needs(cells: tuple[Cell, ...]) -> dict[str, list[Hashable]]:
    """For each kind of shared work what each cell needs of it: one entry a cell, equal ones where they share."""
    needed: defaultdict[str, list[Hashable]] = defaultdict(list)
    for cell in cells:
        needed["run_random"].append(cell.reference)
        needed["run_dense"].append((cell.subject.digest, cell.subject.task))
        for piece in needs(cell).pieces:
            if (function := FUNCTIONS.get(type(piece))) is not None:
                needed[function].append(piece)
    return needed


def imported() -> None:
    """Run on each worker, so that none of the imports of this module fall into what is timed."""
