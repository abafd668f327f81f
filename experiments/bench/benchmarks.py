"""The benchmarks by name, and what they found as files."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prunectl.agents.deployment.image import require
from prunectl.agents.deployment.targets import target_of
from prunectl.experiments.bench import (
    answers,
    cluster,
    cutting,
    decisions,
    memory,
    microcontrollers,
    planning,
    stepping,
    sweep_speed,
    teaching,
)
from prunectl.experiments.bench.timing import Section
from prunectl.experiments.drawing.tables import markdown, write_file
from prunectl.experiments.provenance import versions
from prunectl.experiments.sweeping.config import ConfigError
from prunectl.names import check_name


@dataclass(frozen=True)
class Benchmark:
    """``measure`` takes whether to be quick: fewer rounds and sizes, for trials."""

    name: str
    summary: str
    measure: Callable[[bool], list[Section]]


CATALOGUE = (
    Benchmark("evaluator", "environment steps against bare stepping and SB3's evaluate_policy", stepping.measure),
    Benchmark("surgery", "plan and surgery against Torch-Pruning, and as controllers grow wider", cutting.measure),
    Benchmark("planner", "TD-MPC's decisions, dense and pruned", planning.measure),
    Benchmark("latency", "a decision in PyTorch, ONNX Runtime and C, dense and pruned", decisions.measure),
    Benchmark("distill", "how long the default takes to recover agents of 256-256", teaching.measure),
    Benchmark("sweep", "cells on 1 and on 2 workers, overhead a cell, work that cells share", sweep_speed.measure),
    Benchmark("memory", "peak memory of a sweep as its cells grow in number", memory.measure),
    Benchmark("answers", "a mistake in a name, and the report of the reference study", answers.measure),
    Benchmark("cluster", "how a sweep grows to thousands of workers, simulated from measured costs", cluster.measure),
)


def chosen(names: Sequence[str], target: str | None = None) -> list[Benchmark]:
    """The benchmarks of these names, in the catalogue's order; no name means all of them. What follows the name
    ``latency`` in front are checkpoints to measure instead of the bundled ones; on a ``target`` instead of here.

    Raises:
        ConfigError: one that is not for a target.
        Error: there is no such benchmark or target, or a tool of the target's is absent.
    """
    if target is not None:
        if names[:1] != ["latency"] or not names[1:]:
            raise ConfigError("--target goes with latency and checkpoints: bench latency CKPT... --target NAME")
        machine = target_of(target)
        require(machine)
        summary = f"a decision in C on {machine.name}"
        return [Benchmark("latency", summary, partial(microcontrollers.of, names[1:], machine))]
    if names[:1] == ["latency"] and names[1:]:
        entry = next(entry for entry in CATALOGUE if entry.name == "latency")
        return [replace(entry, measure=partial(decisions.of, names[1:]))]
    for name in names:
        check_name("benchmark", name)
    return [entry for entry in CATALOGUE if entry.name in names or not names]


def machine() -> dict[str, Any]:
    """What the numbers were measured on: processor, cores, system, and the versions of what results depend on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = f"{platform.system()} {platform.release()}"
    return {"processor": model, "cores": os.cpu_count(), "system": system, "versions": versions()}


def write_results(path: Path, found: Mapping[str, Sequence[Section]], quick: bool) -> None:
    """Write what benchmarks found as JSON to ``path``, and as a page of tables beside it (``.md``)."""
    benchmarks = {
        name: [
            {
                "title": section.title,
                "rows": json.loads(section.table.to_json(orient="records", double_precision=15)),
                "remark": section.remark,
            }
            for section in sections
        ]
        for name, sections in found.items()
    }
    text = json.dumps({"machine": machine(), "quick": quick, "benchmarks": benchmarks}, indent=1) + "\n"
    write_file(path, lambda target: target.write_text(text, encoding="utf-8"))
    write_file(path.with_suffix(".md"), lambda target: target.write_text(_page(found), encoding="utf-8"))


def _page(found: Mapping[str, Sequence[Section]]) -> str:
    on = machine()
    made_with = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    parts = [f"{on['processor']}, {on['cores']} cores, {on['system']}; {made_with}.\n"]
    for sections in found.values():
        for section in sections:
            parts.append(f"## {section.title}\n\n{markdown(section.table, section.formats)}\n{section.remark}\n")
    return "\n".join(parts)
