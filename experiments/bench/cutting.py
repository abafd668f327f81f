"""Plan and surgery against Torch-Pruning's own pruner on the same controller, and how both grow with its width."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from prunectl import agents
from prunectl.agents.controller import Controller
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.experiments.bench.timing import Rates, Section, compared, comparison, interleaved, per_second
from prunectl.experiments.bench.untrained import untrained_sac
from prunectl.pruning import apply, make_plan, score, trace
from prunectl.pruning.stock import cut_in_place

#: The spaces of the SAC controllers, and the widths of their two hidden layers.
TASK, WIDTHS = "HalfCheetah-v5", (64, 128, 256, 512, 1024, 2048, 4096)
#: Share of the units that goes.
RATIO = 0.5
COPY, WHOLE, IN_PLACE = (f"Torch-Pruning, {how}" for how in ("on a copy", "on a copy with targets", "in place"))


def measure(quick: bool) -> list[Section]:
    """Three rows a controller: Torch-Pruning with the dense one kept, as ours keeps it, and in place."""
    rounds = 2 if quick else 9
    rows = []
    for name, controller in (("SAC 256-256", _sac(256)), ("TD-MPC", agents.load("tdmpc-pendulum-1").controller)):
        rates = _rates(controller, rounds)
        rows.append(_row(name, controller, rates, COPY, at_least=1.0))
        rows += [_row(name, controller, rates, rival) for rival in (WHOLE, IN_PLACE)]
    for width in WIDTHS[:3] if quick else WIDTHS:
        rates = _rates(controller := _sac(width), min(rounds, 5))
        rows.append(_row(f"SAC {width}-{width}", controller, rates, COPY, at_least=1.0))
    remark = (
        f"Prunings a second of processor time: {RATIO:.0%} of all units go, by magnitude, every layer alike. Ours: "
        "trace, scores, plan, and a new controller, target networks included, beside the dense one. Theirs: "
        "Torch-Pruning's `BasePruner` built and one `step` of it, which changes the networks it is given and knows no "
        "targets; the dense controller stays if a copy is made first, which then counts: of what it prunes, or with "
        "the target networks, which ours prunes too."
    )
    return [comparison("surgery", rows, ",.2f", remark)]


def _row(
    name: str, controller: Controller, rates: Mapping[str, Rates], rival: str, **target: float
) -> dict[str, object]:
    return {"parameters": controller.parameters(), **compared(name, rates["ours"], rival, rates[rival], **target)}


def _sac(width: int) -> Controller:
    return SB3Controller.of("sac", untrained_sac(TASK, width))


def _rates(controller: Controller, rounds: int) -> dict[str, Rates]:
    graph, inputs = trace(controller), _inputs(controller)
    halves = {name: units - round(RATIO * units) for name, units in graph.dense.items()}
    sparsity = 1 - graph.parameters(halves) / graph.parameters(graph.dense)

    def ours() -> None:
        traced = trace(controller)
        plan = make_plan(traced, score(controller, traced, "magnitude", inputs, 0), sparsity=sparsity)
        apply(plan, controller, traced)

    def copied() -> nn.Module:
        return copy.deepcopy(controller.dataflow())

    def whole() -> nn.Module:
        return controller.with_networks(copy.deepcopy(controller.networks)).dataflow()

    def in_place() -> float:
        copies = iter([copied() for _ in range(repeats)])
        return per_second(_repeated(lambda: cut_in_place(next(copies), graph, inputs, RATIO), repeats))

    # A pruning takes milliseconds up to a thousand units, and the first after a pause longer than the next.
    repeats = max(2**20 // controller.parameters(), 1)
    sides = {
        "ours": lambda: per_second(_repeated(ours, repeats)),
        COPY: lambda: per_second(_repeated(lambda: cut_in_place(copied(), graph, inputs, RATIO), repeats)),
        WHOLE: lambda: per_second(_repeated(lambda: cut_in_place(whole(), graph, inputs, RATIO), repeats)),
        IN_PLACE: in_place,
    }
    return interleaved(sides, rounds)


def _repeated(work: Callable[[], None], count: int) -> Callable[[], float]:
    def repeated() -> float:
        for _ in range(count):
            work()
        return count

    return repeated


def _inputs(controller: Controller) -> Sequence[torch.Tensor]:
    """Two rows, to show the networks by."""
    action, shape = controller.action_space, controller.observation_space.shape or ()
    actions = np.zeros((2, *(action.shape or ())), dtype=action.dtype)
    return controller.inputs(np.zeros((2, *shape), dtype=np.float32), actions)
