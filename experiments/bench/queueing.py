"""How a sweep grows: a discrete-event simulation of its scheduler, its workers and its driver."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Seconds that one cell takes of each part, besides its own duration.

    ``scheduler``: to take in what a worker has finished and to hand it the next cell. ``worker``: to receive, unpack
    and answer. ``driver``: to submit it, to receive its outcome and to store it.
    """

    scheduler: float
    worker: float
    driver: float


@dataclass(frozen=True)
class Growth:
    """A simulated sweep: cells a second from its start until the last one is stored, and which share of that time the
    workers spent in cells proper (``efficiency``) and the two parts that there is one of were busy."""

    workers: int
    rate: float
    efficiency: float
    scheduler: float
    driver: float


def simulate(durations: Sequence[float], workers: int, costs: Costs) -> Growth:
    """Run cells of these durations, all above 0 s, in this order.

    The events are workers becoming free, in the order of time: idle ones at the start, then each as it ends a cell. An
    event passes the scheduler, first come first served: it takes in the cell that has ended, passes that on to the
    driver, and hands out the next one. The driver too takes one cell at a time, as they come.
    """
    free = [0.0] * workers  # when each worker is free again: a heap, as equal entries are
    scheduler = driver = 0.0  # when each has done what it was given so far
    for number, duration in enumerate(durations):
        scheduler = max(scheduler, free[0]) + costs.scheduler
        if number >= workers:  # before that, workers that had no cell yet
            driver = max(driver, scheduler) + costs.driver
        heapq.heapreplace(free, scheduler + costs.worker + duration)
    cells = len(durations)
    for ended in sorted(free)[-min(cells, workers) :]:
        driver = max(driver, scheduler, ended) + costs.driver
    return Growth(
        workers,
        rate=cells / driver,
        efficiency=sum(durations) / (workers * driver),
        scheduler=cells * costs.scheduler / driver,
        driver=cells * costs.driver / driver,
    )


def saturation(mean: float, costs: Costs, busy: float = 0.9) -> int:
    """The number of workers at which the busier of scheduler and driver is busy for this share of the time, where
    cells take ``mean`` seconds: W workers that never wait ask for W / (mean + worker + scheduler) cells a second, and
    the busier part does one in max(scheduler, driver) seconds."""
    return round(busy * (mean + costs.worker + costs.scheduler) / max(costs.scheduler, costs.driver))
