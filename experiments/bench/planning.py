"""How many decisions a second TD-MPC's planner makes, dense and pruned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prunectl import agents
from prunectl.agents.controller import Controller
from prunectl.experiments.bench.timing import Section, compared, comparison, interleaved, per_second
from prunectl.experiments.bench.untrained import pruned

CONTROLLER, SPARSITY, BATCHES = "tdmpc-pendulum-1", 0.9, (1, 10)


def measure(quick: bool) -> list[Section]:
    """A row a batch size."""
    dense = agents.load(CONTROLLER).controller
    small = pruned(dense, SPARSITY)
    rounds, calls = (2, 3) if quick else (9, 20)
    rows = []
    for batch in BATCHES:
        sides = {"dense": _deciding(dense, batch, calls), "pruned": _deciding(small, batch, calls)}
        rates = interleaved(sides, rounds)
        rows.append(compared(f"{SPARSITY:g} pruned, batch {batch}", rates["pruned"], "dense", rates["dense"]))
    remark = (
        f"Decisions a second of processor time of {CONTROLLER}; a batch of 10 observations makes 10. Pruned: the "
        "widths that component-aware uniform pruning leaves."
    )
    return [comparison("planner", rows, ",.1f", remark)]


def _deciding(controller: Controller, batch: int, calls: int) -> Callable[[], float]:
    observations = np.zeros((batch, *(controller.observation_space.shape or ())), dtype=np.float32)

    def work() -> float:
        for _ in range(calls):
            controller.act(observations)
        return batch * calls

    return lambda: per_second(work)
