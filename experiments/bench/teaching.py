"""How long the default takes to recover an agent of two layers of 256 units."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from prunectl import agents
from prunectl.experiments.bench.timing import Section, judged, undisturbed
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.pruning import Method, prune
from prunectl.pruning.recovery import Budget

#: Bundled agents with actors of 256-256, and their tasks.
AGENTS = {"sac-halfcheetah-1": "HalfCheetah-v5", "sac-reacher-1": "Reacher-v5", "td3-pendulum-1": "Pendulum-v1"}
SPARSITY = 0.95
#: Seconds that the median of them should take.
TARGET = 20.0


def measure(quick: bool) -> list[Section]:
    """A row an agent, and one for their median."""
    rows = [_recovered(name, task, Budget(steps=100) if quick else None) for name, task in AGENTS.items()]
    median = float(np.median([row["seconds"] for row in rows]))
    rows.append({"case": "median", "seconds": median, **judged(median, at_most=TARGET)})
    remark = (
        "Seconds of processor time of `distill`, plan, surgery, episodes and validation included, at sparsity "
        f"{SPARSITY:g}; returns are means over the validation episodes, before and after it."
    )
    return [Section("distill", pd.DataFrame(rows), {"seconds": ".1f", "before": ",.1f", "after": ",.1f"}, remark)]


def _recovered(name: str, task: str, budget: Budget | None) -> dict[str, object]:
    controller = agents.load(name).controller
    data, loop = calibrate(controller, task), TaskLoop(task)
    with undisturbed():
        started = time.process_time()
        found = prune(controller, Method(), SPARSITY, data, loop=loop, budget=budget)
        taken = time.process_time() - started
    assert found.returns is not None
    before, after = found.returns
    return {"case": name, "seconds": taken, "before": before, "after": after, **judged(taken)}
