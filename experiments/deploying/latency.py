"""How long one decision takes: PyTorch, ONNX Runtime and compiled C, on visited observations, in turns."""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prunectl import agents, envs
from prunectl.agents import Controller, ControllerError, Loaded
from prunectl.agents.controller import Batch
from prunectl.agents.deployment.c_form import c_source
from prunectl.agents.deployment.c_run import FAST, PLAIN, compiled
from prunectl.agents.deployment.load import require_onnx
from prunectl.agents.deployment.program import Program, program
from prunectl.experiments.deploying.export import provenance
from prunectl.experiments.deploying.few_bits import in_few_bits
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import calibration_seeds

#: ``calls -> seconds of each``.
Timed = Callable[[int], NDArray[np.float64]]

#: Control rates, Hz, that a decision is held against.
RATES = (50, 100, 500, 1000)
#: The forms of a controller, and how often each is called in a round; ``plan`` is what a world model's planner takes,
#: the other forms of such a controller are its policy's.
CALLS = {
    "plan in torch": 3,
    "torch": 100,
    "onnxruntime": 100,
    "C -O2": 1_000,
    "C -O3 fast": 1_000,
    "int8 C -O2": 1_000,
    "int8 C -O3 fast": 1_000,
}
_EPISODES, _STEPS = 4, 250

_TIMER = """\
#define _POSIX_C_SOURCE 199309L
#include <time.h>

void x_act(const float *observation, void *action);

void timed(const float *observations, int width, int rows, int calls, double *seconds)
{
    float action[4096];
    struct timespec from, to;
    int call;
    for (call = 0; call < calls; call++) {
        clock_gettime(CLOCK_MONOTONIC, &from);
        x_act(observations + (call % rows) * width, action);
        clock_gettime(CLOCK_MONOTONIC, &to);
        seconds[call] = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    }
}
"""


@dataclass(frozen=True)
class Contender:
    """A controller, observations ``(n, obs)`` that it visits, and the share of its deployed parameters that is gone."""

    name: str
    controller: Controller
    observations: Batch
    sparsity: float


def with_task(reference: str) -> tuple[Loaded, str]:
    """A checkpoint and the task that exists today for the one that it names.

    Raises:
        ControllerError: no such checkpoint, or it names no task.
    """
    loaded = agents.load(reference)
    named = loaded.task_to_run(None)
    if named is None:
        raise ControllerError(f"{reference}: it does not name its task")
    return loaded, envs.resolve(named)[0]


def contender(loaded: Loaded, task: str) -> Contender:
    """A loaded controller with observations of its own calibration episodes."""
    seeds = calibration_seeds(_EPISODES)
    visited = evaluate(loaded.controller, task, seeds, record=True, most_steps=_STEPS).observations
    assert visited is not None
    return Contender(loaded.name, loaded.controller, visited, provenance(loaded, task, "")["sparsity_deployed"])


def decision_times(contenders: Sequence[Contender], rounds: int = 30) -> pd.DataFrame:
    """Time every form of every controller, all in turns in each of ``rounds`` rounds, after one to warm up.

    Returns:
        A row for each controller and form: ``controller``, ``sparsity`` and ``parameters`` (deployed), ``form``,
        ``median_us``, ``p99_us`` over all calls, ``times_faster`` than the first controller in the same form,
        ``rate_hz`` that the 99th percentile allows, and ``holds``, the highest of `RATES` below it (0: none).

    Raises:
        ControllerError: there is no gcc, or ONNX Runtime is missing.
    """
    require_onnx()
    sides = {(index, form): timed for index, one in enumerate(contenders) for form, timed in _forms(one).items()}
    taken: dict[tuple[int, str], list[NDArray[np.float64]]] = {key: [] for key in sides}
    for side in sides.values():
        side(3)
    for _ in range(rounds):
        for (index, form), side in sides.items():
            taken[index, form].append(side(CALLS[form]))
    rows: list[dict[str, Any]] = []
    reference: dict[str, float] = {}
    for (index, form), parts in taken.items():
        seconds = np.concatenate(parts)
        median, late = float(np.median(seconds)), float(np.percentile(seconds, 99))
        rows.append(
            {
                "controller": contenders[index].name,
                "sparsity": contenders[index].sparsity,
                "parameters": contenders[index].controller.parameters(deployed=True),
                "form": form,
                "median_us": 1e6 * median,
                "p99_us": 1e6 * late,
                "times_faster": reference.setdefault(form, median) / median,
                "rate_hz": 1 / late,
                "holds": max((rate for rate in RATES if rate <= 1 / late), default=0),
            }
        )
    return pd.DataFrame(rows)


def _forms(one: Contender) -> Mapping[str, Timed]:
    controller = one.controller
    rows = np.ascontiguousarray(one.observations, dtype=np.float32)
    steps = program(controller.deployed_path(), rows.shape[1])
    small = in_few_bits(steps, rows, 8)
    forms: dict[str, Timed] = {}
    if controller.plans:
        forms["plan in torch"] = _called(controller.act, one.observations)
        forms["torch"] = _called(_policy(controller), one.observations)
    else:
        forms["torch"] = _called(controller.act, one.observations)
    forms["onnxruntime"] = _called(_onnx(steps), rows)
    for word, made in (("", steps), ("int8 ", small)):
        forms[f"{word}C -O2"] = _c(made, rows, PLAIN)
        forms[f"{word}C -O3 fast"] = _c(made, rows, FAST)
    return forms


def _policy(controller: Controller) -> Callable[[Batch], Any]:
    layers = tuple(controller.deployed_path())

    def act(observations: Batch) -> Any:
        values = torch.as_tensor(observations, dtype=torch.float32)
        with torch.inference_mode():
            for layer in layers:
                values = layer(values)
            return values.numpy()

    return act


def _onnx(steps: Program) -> Callable[[Batch], Any]:
    from prunectl.agents.deployment.onnx_form import onnx_bytes
    from prunectl.agents.deployment.onnx_run import session

    running = session(onnx_bytes(steps, {}))
    name = running.get_inputs()[0].name
    return lambda rows: running.run(None, {name: rows})


def _called(act: Callable[[Batch], Any], rows: Batch) -> Timed:
    """One observation a call, as a loop in Python would."""
    singles = [rows[row : row + 1] for row in range(len(rows))]

    def timed(calls: int) -> NDArray[np.float64]:
        seconds = np.empty(calls)
        for call in range(calls):
            single = singles[call % len(singles)]
            started = time.perf_counter()
            act(single)
            seconds[call] = time.perf_counter() - started
        return seconds

    return timed


def _c(steps: Program, rows: NDArray[np.float32], flags: Sequence[str]) -> Timed:
    """One observation a call, timed in C: calling from Python would cost as much again."""
    source = c_source(steps, "x.c", {}, rows[:1], 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("x.c", source.code), ("x.h", source.header), ("timer.c", _TIMER)):
            Path(folder, name).write_text(text)
        library = compiled([Path(folder, "x.c"), Path(folder, "timer.c")], flags)

    def timed(calls: int) -> NDArray[np.float64]:
        seconds = np.empty(calls)
        pointers = ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(seconds.ctypes.data)
        library.timed(pointers[0], rows.shape[1], len(rows), calls, pointers[1])
        return seconds

    return timed
