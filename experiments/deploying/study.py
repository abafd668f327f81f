"""What controllers are worth where they are deployed: return and latency of every form, as a table and a figure.

    python -m prunectl.experiments.deploying.study FOLDER CKPT...

A checkpoint that is not pruned opens a group; the pruned ones that follow it are compared with it.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunectl import agents
from prunectl.agents import ControllerError, Loaded
from prunectl.agents.deployment.c_texts import Costs
from prunectl.errors import Error
from prunectl.experiments.deploying import export as exporting
from prunectl.experiments.deploying.few_bits import Bits
from prunectl.experiments.deploying.latency import contender, decision_times, with_task
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.style import BLUE, GREEN, LOOK, ORANGE, PURPLE, REFERENCE, VERMILLION
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.statistics import Array, kept

EPISODES = 20
#: Forms that are drawn, in this order: colour and marker.
_LOOKS = {
    "plan in torch": (PURPLE, "P"),
    "torch": (VERMILLION, "s"),
    "onnxruntime": (ORANGE, "^"),
    "int8 C -O2": (GREEN, "D"),
    "C -O2": (BLUE, "o"),
}
_FORMATS = {
    "sparsity": ".3f",
    "parameters": ",",
    "median_us": ",.2f",
    "p99_us": ",.2f",
    "times_faster": ".1f",
    "rate_hz": ",.0f",
    "mean_return": ",.1f",
    "normalised_return": ".3f",
    "low": ".3f",
    "high": ".3f",
    "flash": ",.0f",
    "ram": ",.0f",
}


def deployed(references: Sequence[str], episodes: int = EPISODES) -> pd.DataFrame:
    """What `latency.decision_times` finds for these checkpoints, group by group, and what each form returns.

    Returns:
        Its rows with ``task`` and ``dense``, the group's first controller, in front, and behind it ``mean_return`` over
        the reported seeds and the ``normalised_return`` (1: the first controller in PyTorch; 0: random actions) with
        the ends ``low`` and ``high`` of its 95% interval, episodes redrawn as pairs; ``flash`` and ``ram`` in bytes for
        C. NaN for the forms whose return is not measured: C under other compiler flags, and a world model's policy in
        PyTorch, which is ONNX Runtime's.

    Raises:
        ControllerError: a checkpoint names no task, two of a group have one name, or what `prunectl export` refuses.
    """
    groups: list[tuple[str, list[Loaded]]] = []
    for reference in references:
        loaded, task = with_task(reference)
        if loaded.plan is None or not groups or groups[-1][0] != task:
            groups.append((task, []))
        members = groups[-1][1]
        if any(loaded.name == other.name for other in members):
            raise ControllerError(f"{reference}: another checkpoint is named '{loaded.name}' too: rename one of them")
        members.append(loaded)
    return pd.concat([_group(task, members, episodes) for task, members in groups], ignore_index=True)


def _group(task: str, members: Sequence[Loaded], episodes: int) -> pd.DataFrame:
    table = decision_times([contender(loaded, task) for loaded in members])
    found = {(one.name, form): part for one in members for form, part in _deployed(one, task, episodes).items()}
    random = evaluate_random(task, reported_seeds(episodes), members[0].controller).returns
    dense = next(iter(found.values())).returns
    keys = list(zip(table["controller"], table["form"], strict=True))
    table[["mean_return", "normalised_return", "low", "high"]] = [
        (found[key].returns.mean(), *kept(found[key].returns, dense, random)) if key in found else (np.nan,) * 4
        for key in keys
    ]
    costs = [found[key].costs if key in found else None for key in keys]
    table["flash"] = [np.nan if one is None else one.flash for one in costs]
    table["ram"] = [np.nan if one is None else one.ram for one in costs]
    table.insert(0, "task", task)
    table.insert(1, "dense", members[0].name)
    return table


def figure(table: pd.DataFrame) -> Figure:
    """Normalised return against latency, a panel a group: a line a form, from the dense controller (hollow) on."""
    groups = list(dict.fromkeys(table["dense"]))
    across = min(len(groups), 3)
    down = -(-len(groups) // across)
    with rc_context(LOOK):
        drawn = Figure(figsize=(2.6 * across + 0.3, 2.1 * down + 0.5), layout="constrained")
        panels = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes in panels[len(groups) :]:
            axes.remove()
        for axes, group in zip(panels, groups, strict=False):
            here = table[(table["dense"] == group) & table["normalised_return"].notna()]
            for form, (colour, marker) in _LOOKS.items():
                rows = here[here["form"] == form].sort_values("sparsity")
                times, means = rows["median_us"], rows["normalised_return"]
                ends = np.stack([means - rows["low"], rows["high"] - means])
                axes.errorbar(times, means, yerr=ends, color=colour, linewidth=1, elinewidth=0.7, capsize=2)
                for time, mean, sparsity in zip(times, means, rows["sparsity"], strict=True):
                    face = colour if sparsity else "white"
                    axes.plot(time, mean, color=colour, marker=marker, markersize=4.5, markerfacecolor=face)
            cuts = ", ".join(f"{sparsity:.2f}" for sparsity in sorted(set(here["sparsity"])) if sparsity)
            axes.set(xscale="log", title=f"{group}, pruned by {cuts}" if cuts else group)
            axes.set_xlabel("median time of a decision, µs")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.axhline(1.0, color=REFERENCE, linewidth=0.8, zorder=1)
        shown = min(0.85, table["low"].min() - 0.02), max(1.05, table["high"].max() + 0.02)
        panels[0].set_ylim(shown)
        drawn.supylabel("normalised return, 95% interval", fontsize=8)
        forms = [form for form in _LOOKS if form in set(table["form"])]
        handles = [Line2D([], [], color=_LOOKS[form][0], marker=_LOOKS[form][1], label=form) for form in forms]
        handles.append(
            Line2D([], [], color=REFERENCE, marker="o", markerfacecolor="white", linestyle="", label="dense")
        )
        drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawn


@dataclass(frozen=True)
class _Deployed:
    """Returns ``(episodes,)`` of one form, and what C costs."""

    returns: Array
    costs: Costs | None


def _deployed(loaded: Loaded, task: str, episodes: int) -> dict[str, _Deployed]:
    seeds = reported_seeds(episodes)
    calibration = calibrate(loaded.controller, task)
    own = "plan in torch" if loaded.controller.plans else "torch"
    found = {own: _Deployed(evaluate(loaded.controller, task, seeds).returns, None)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms: tuple[tuple[str, Path, Bits | None], ...] = (
            ("onnxruntime", folder / "x.onnx", None),
            ("C -O2", folder / "float.c", None),
            ("int8 C -O2", folder / "int8.c", 8),
        )
        for form, out, bits in forms:
            kind: exporting.Form = "onnx" if out.suffix == ".onnx" else "c"
            made = exporting.export(loaded, task, calibration, out, kind, bits)
            exporting.write(made.files, folder)
            exported = agents.load(out, trust=True).controller
            found[form] = _Deployed(evaluate(exported, task, seeds).returns, made.costs)
    return found


def main() -> None:
    """Write ``deployment.csv``, ``.md``, ``.png`` and ``.pdf`` for the checkpoints on the command line."""
    torch.set_num_threads(1)
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, references = Path(sys.argv[1]), sys.argv[2:]
    try:
        table = deployed(references)
    except Error as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    remark = (
        f"Made by `{shlex.join(['python', '-m', 'prunectl.experiments.deploying.study', *sys.argv[1:]])}`. "
        "A decision at batch 1 on visited observations; times_faster than the dense controller in the same form; "
        "rate_hz is what the 99th percentile allows, holds the highest of 50, 100, 500 and 1000 Hz below it. C is "
        "timed in C. flash: bytes of constants; ram: bytes of stack."
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / "deployment", _FORMATS, remark)
    save(figure(table), folder / "deployment")


if __name__ == "__main__":
    main()
