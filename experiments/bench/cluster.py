"""How a sweep grows past this machine: what a cell costs each part, measured, and a simulation of many workers."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments.bench.queueing import Costs, saturation, simulate
from prunectl.experiments.bench.simulated import made_up_cells, made_up_outcome, made_up_work
from prunectl.experiments.bench.timing import Section, judged, undisturbed
from prunectl.experiments.sweeping.cell import Cell, Outcome, ToDo
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import set_up_dask

if TYPE_CHECKING:
    from distributed import Client

CELLS = 1_000_000
#: Cells before a trial's clock starts.
WARM_UP = 20
WORKERS = (1, 2, 10, 50, 100, 200, 500, 1_000, 2_000)
#: Seconds of the cells that the simulation is checked by: they sleep, so that two cores are enough for everything.
CHECKED = (0.02, 0.1)
#: Mean and standard deviation of the logarithm of a cell's seconds over the 4,006 cells of results/leaderboard: half of
#: them are below 0.3 s, and their mean is 1.5 s.
LEADERBOARD = (-0.87, 1.38)
#: Fixed durations of a cell, seconds.
FIXED = (0.1, 1.0, 10.0, 60.0)
#: Workers that a sweep should not saturate below.
ENOUGH = 200


@dataclass(frozen=True)
class Trial:
    """A sweep of made-up cells: cells a second by the clock, and what a cell cost each part."""

    rate: float
    costs: Costs
    store: float


def measure(quick: bool) -> list[Section]:
    """Costs a cell, the check of the simulation, and the simulation."""
    cells, rounds = (100, 1) if quick else (1_000, 3)
    trials = [_trial(cells, 0.0, workers=2) for _ in range(rounds)]
    costs = Costs(
        *(float(np.median([getattr(trial.costs, part) for trial in trials])) for part in vars(trials[0].costs))
    )
    cell = made_up_work(1).cells[0]
    overview = {
        "scheduler": 1e3 * costs.scheduler,
        "worker": 1e3 * costs.worker,
        "driver": 1e3 * costs.driver,
        "store": 1e3 * float(np.median([trial.store for trial in trials])),
        "bytes": len(pickle.dumps(made_up_outcome(cell))),
        "cells_per_second": float(np.median([trial.rate for trial in trials])),
    }
    drawn = _durations(quick)
    growth = [
        (name, durations, simulate(durations, workers, costs)) for name, durations in drawn for workers in WORKERS
    ]
    parts = dict.fromkeys(("scheduler", "worker", "driver", "store"), ",.2f")
    shares = dict.fromkeys(("efficiency", "scheduler", "driver"), ".1%")
    return [
        Section(
            "cluster: what a cell costs",
            pd.DataFrame([overview]),
            parts | {"bytes": ",", "cells_per_second": ",.0f"},
            "Milliseconds a cell, measured with made-up cells that take no time, the scheduler in a process of its own "
            "and 2 workers: processor time of scheduler, workers and driver; the driver's includes the time by the "
            "clock that writing to the store takes (`store`). `bytes`: an outcome on the wire. `cells_per_second`: "
            "everything together on this machine.",
        ),
        Section(
            "cluster: simulation against reality",
            pd.DataFrame(list(_checks(costs, quick, rounds))),
            {"measured": ",.1f", "simulated": ",.1f", "ratio": ".2f"},
            "Cells a second, of cells that sleep for so many seconds.",
        ),
        Section(
            f"cluster: {len(drawn[0][1]):,} cells, simulated",
            pd.DataFrame([{"cells": name} | vars(simulated) for name, _, simulated in growth]),
            {"workers": ",", "rate": ",.1f"} | shares,
            "`rate`: cells a second. `efficiency`: share of the workers' time spent in cells. `scheduler`, `driver`: "
            "how busy they are. The costs were measured with 2 workers: what a scheduler does for each worker and not "
            "for each cell (heartbeats, choosing among many) is not in it.",
        ),
        Section(
            "cluster: where it saturates",
            pd.DataFrame([_saturation(name, durations, costs) for name, durations in drawn]),
            {"seconds": ",.2f", "workers": ",", "rate": ",.1f"},
            "Workers at which the busier of scheduler and driver is busy for 90% of the time, and cells a second then.",
        ),
    ]


def _trial(cells: int, seconds: float, workers: int) -> Trial:
    """Run so many made-up cells, with the scheduler in a process of its own as on a cluster."""
    work = made_up_work(cells + WARM_UP)
    with (
        tempfile.TemporaryDirectory() as folder,
        _TimedStore.writing(Path(folder)) as store,
        _processes(workers) as client,
        made_up_cells(seconds),
    ):
        first = still_to_do(work, store)  # to warm up: scheduler and workers import what they unpack
        run(work, ToDo(first.cells[:WARM_UP], first.references), store, client, _untold)
        to_do = still_to_do(work, store)
        store.wall = store.processor = 0.0
        with undisturbed():
            before = _processor_times(client)
            started = time.perf_counter()
            run(work, to_do, store, client, _untold)
            wall = time.perf_counter() - started
            scheduler, worker, driver = (_processor_times(client) - before) / cells
    driver += (store.wall - store.processor) / cells
    return Trial(cells / wall, Costs(scheduler, worker, driver), store.wall / cells)


def _untold(cell: Cell) -> None:
    pass


class _TimedStore(Store):
    """A store that adds up how long its cells take to write, by the clock and in processor time."""

    wall = processor = 0.0

    def record(self, cell: Cell, outcome: Outcome) -> None:
        started, begun = time.perf_counter(), time.thread_time()
        super().record(cell, outcome)
        self.wall += time.perf_counter() - started
        self.processor += time.thread_time() - begun


@contextmanager
def _processes(workers: int) -> Iterator[Client]:
    """Scheduler and workers as processes of their own."""
    set_up_dask()
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    with (
        SubprocessCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
            worker_kwargs={"memory_limit": 0},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client


def _processor_times(client: Client) -> NDArray[np.float64]:
    """Seconds of scheduler, workers together, and this process so far."""
    scheduler = client.run_on_scheduler(time.process_time)
    return np.asarray([scheduler, sum(client.run(time.process_time).values()), time.process_time()])


def _checks(costs: Costs, quick: bool, rounds: int) -> Iterator[dict[str, object]]:
    for seconds in CHECKED[:1] if quick else CHECKED:
        for workers in (1, 2):
            cells = round((1 if quick else 5) * workers / seconds)
            measured = float(np.median([_trial(cells, seconds, workers).rate for _ in range(rounds)]))
            simulated = simulate([seconds] * cells, workers, costs).rate
            yield {
                "seconds": seconds,
                "workers": workers,
                "measured": measured,
                "simulated": simulated,
                "ratio": measured / simulated,
            }


def _durations(quick: bool) -> list[tuple[str, Sequence[float]]]:
    """Cells as the leaderboard has them, and cells that all take the same time."""
    cells = CELLS // 100 if quick else CELLS
    lognormal = np.random.default_rng(0).lognormal(*LEADERBOARD, cells).tolist()
    return [
        ("lognormal, as the leaderboard's", lognormal),
        *((f"{seconds:g} s each", [seconds] * cells) for seconds in FIXED),
    ]


def _saturation(name: str, durations: Sequence[float], costs: Costs) -> dict[str, object]:
    mean = float(np.mean(durations))
    workers = saturation(mean, costs)
    part = "scheduler" if costs.scheduler >= costs.driver else "driver"
    rate = 0.9 / max(costs.scheduler, costs.driver)
    return {
        "cells": name,
        "seconds": mean,
        "workers": workers,
        "busiest": part,
        "rate": rate,
        **judged(workers, ENOUGH),
    }
