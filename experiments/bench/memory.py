"""Peak memory of a sweep as its cells grow in number."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from prunectl.experiments.bench.simulated import made_up_cells, made_up_work
from prunectl.experiments.bench.timing import Section, judged
from prunectl.experiments.sweeping.dispatch import run
from prunectl.experiments.sweeping.expand import still_to_do
from prunectl.experiments.sweeping.store import Store
from prunectl.experiments.sweeping.workers import local_workers

SIZES, WORKERS = (100, 1_000, 10_000), 2
#: What "flat" means: so many times the smallest sweep's memory.
FLAT = 1.1


def measure(quick: bool) -> list[Section]:
    """A row a size, each in a process of its own: a peak never goes down again."""
    measured = []
    for cells in (50, 200) if quick else SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            measured.append((cells, *fresh.submit(_peaks, cells).result()))
    first = sum(measured[0][1:3])
    rows = []
    for cells, driver, workers, seconds in measured:
        ratio = (driver + workers) / first
        target = {"at_most": FLAT} if cells > measured[0][0] else {}
        rows.append(
            {"cells": cells, "driver": driver, "workers": workers, "ratio": ratio, "cells_per_second": cells / seconds}
            | judged(ratio, **target)
        )
    remark = (
        f"Peak resident memory in MB of the driver (scheduler included) and of {WORKERS} workers together, in sweeps of"
        " made-up cells that take no time; their calibrations, one for every 100 cells, and their outcomes are as "
        "large as those of SAC 256-256 on HalfCheetah-v5. `ratio` is to the smallest sweep."
    )
    formats = {"cells": ",", "driver": ",.0f", "workers": ",.0f", "ratio": ".3f", "cells_per_second": ",.0f"}
    return [Section("memory", pd.DataFrame(rows), formats, remark)]


def _peaks(cells: int) -> tuple[float, float, float]:
    """Megabytes of the driver, of the workers, and the seconds that the sweep took."""
    work = made_up_work(cells)
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.writing(Path(folder)) as store,
        local_workers(WORKERS) as client,
        made_up_cells(),
    ):
        started = time.perf_counter()
        run(work, still_to_do(work, store), store, client, lambda cell: None)
        seconds = time.perf_counter() - started
        return peak_megabytes(), sum(client.run(peak_megabytes).values()), seconds


def peak_megabytes() -> float:
    """The most resident memory that this process ever had. (`getrusage` would count its parent's at the fork.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
