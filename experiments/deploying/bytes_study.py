"""What a practitioner with so many bytes should do: the return of several ways at equal bytes, as a table and a figure.

    python -m prunectl.experiments.deploying.bytes_study FOLDER CKPT...

A checkpoint's rows are kept in FOLDER, from the first on; those that are there are not computed again.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunectl.agents import Controller, ControllerError
from prunectl.errors import Error
from prunectl.experiments.deploying.latency import with_task
from prunectl.experiments.deploying.rounding import rounded
from prunectl.experiments.drawing.canvas import COLUMN, save
from prunectl.experiments.drawing.style import BLUE, GREEN, LOOK, OLIVE, ORANGE, PURPLE, REFERENCE, SKY
from prunectl.experiments.drawing.tables import write_csv, write_file, write_table
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.experiments.statistics import kept
from prunectl.pruning import Method, Pruned, PruningError, prune
from prunectl.pruning.rounding import acting_bytes
from prunectl.pruning.storage import float_bytes, sparse_bytes

#: Episodes of a point, of a controller that plans, and the first of their seeds.
EPISODES, PLANNED, FIRST = 20, 10, 900_000
#: How far each way goes: shares of all parameters.
SPARSITIES = {
    "pruned": (0.9, 0.95, 0.98, 0.99),
    "taught in 8 bits": (0.9, 0.98),
    "taught in 4 bits": (0.9, 0.98),
    "scratch": (0.95, 0.99),
    "low rank": (0.8, 0.95),
    "sparse": (0.5, 0.8, 0.9, 0.95),
}
METHODS = {
    "pruned": Method(),
    "taught in 8 bits": Method(recovery="distill-int8"),
    "taught in 4 bits": Method(recovery="distill-int4"),
    "scratch": Method(recovery="scratch"),
    "low rank": Method.of("lowrank", "activation"),
    "sparse": Method.of("unstructured"),
}
#: To so many bits the weights of what is pruned, and of the dense controller, are rounded once they are taught.
BITS = (8, 4)
#: The ways in the order of the legend: colour, marker, and what they are called.
_LOOKS = {
    "pruned": (BLUE, "o", "pruned, distilled"),
    "rounded to 8 bits": (GREEN, "", "then rounded to 8 bits"),
    "rounded to 4 bits": (OLIVE, "", "then rounded to 4 bits"),
    "taught in 8 bits": (GREEN, "D", "pruned, distilled in 8 bits"),
    "taught in 4 bits": (OLIVE, "d", "pruned, distilled in 4 bits"),
    "scratch": (ORANGE, "^", "small from scratch"),
    "low rank": (PURPLE, "s", "low rank, distilled"),
    "sparse": (SKY, "X", "zeros, stored sparsely"),
}
#: How the lines are broken of what is rounded after it was taught, and how many panels are beside one another.
_AFTER, _ACROSS = (0, (3, 2)), 3
_FORMATS = {
    "sparsity": ".2f",
    "bytes": ",",
    "fewer": ".0f",
    "mean_return": ",.1f",
    "normalised_return": ".3f",
    "low": ".3f",
    "high": ".3f",
}
_COLUMNS = ["controller", "task", "way", *_FORMATS]
#: What a point must keep, at the lower end of its interval, to count as good.
KEPT = 0.95
#: The best way for each controller.
ANY = "the best of these"
#: Where the curves of returns end below at the latest.
_SHOWN = -0.05


def measured(reference: str, begun: Path) -> None:
    """Every way on one controller, a row a point.

    ``controller``, ``task``, ``way``, ``sparsity``, the ``bytes`` that act and how many times ``fewer`` they are than
    the dense floats, ``mean_return``, and the ``normalised_return`` with the ends ``low`` and ``high`` of its 95%
    interval, episodes redrawn as pairs.

    Args:
        reference: of its checkpoint.
        begun: where rows are written as they come; those that an earlier run left there are not computed again.

    Raises:
        ControllerError: no such checkpoint, or it names no task.
    """
    loaded, task = with_task(reference)
    dense = loaded.controller
    table = pd.read_csv(begun, float_precision="round_trip") if begun.exists() else pd.DataFrame(columns=_COLUMNS)
    known = set(zip(table["way"], table["sparsity"], strict=True))
    seeds = reported_seeds(PLANNED if dense.plans else EPISODES, FIRST)
    random, best = evaluate_random(task, seeds, dense).returns, evaluate(dense, task, seeds).returns
    full = float_bytes(dense.parameters(deployed=True))
    for way, sparsity, controller, size in _points(dense, task, loaded.name, known):
        if (way, sparsity) in known:
            continue
        returns = best if controller is dense else evaluate(controller, task, seeds).returns
        found = kept(returns, best, random)
        row = loaded.name, task, way, sparsity, size, full / size, returns.mean(), *found
        table = pd.DataFrame([*table.itertuples(index=False), row], columns=_COLUMNS)
        write_file(begun, partial(write_csv, table))
        print(*row, flush=True)


def _points(
    dense: Controller, task: str, name: str, known: Collection[tuple[str, float]]
) -> Iterator[tuple[str, float, Controller, int]]:
    """Way, sparsity, controller and its bytes, the dense one first; what is known need not be among them."""
    full = dense.parameters(deployed=True)
    calibration, loop = calibrate(dense, task), TaskLoop(task)
    seen = calibration.observations, calibration.actions
    yield "pruned", 0.0, dense, float_bytes(full)
    for bits in BITS:
        yield _rounded(bits), 0.0, *rounded(dense, bits, dense.inputs(*seen))
    for way, sparsities in SPARSITIES.items():
        ways = [way, *map(_rounded, BITS)] if way == "pruned" else [way]
        for sparsity in sparsities:
            if all((each, sparsity) in known for each in ways):
                continue
            try:
                found = prune(dense, METHODS[way], sparsity, calibration, loop=loop)
            except PruningError as error:  # rank one leaves too much
                print(f"{name}, {way} at {sparsity}: {error}", flush=True)
                continue
            yield way, sparsity, found.controller, _bytes(way, found, full)
            if way == "pruned":
                inputs = found.controller.inputs(*seen)
                for bits in BITS:
                    yield _rounded(bits), sparsity, *rounded(found.controller, bits, inputs)


def _rounded(bits: int) -> str:
    return f"rounded to {bits} bits"


def _bytes(way: str, found: Pruned[Controller], full: int) -> int:
    """What acts of a pruned controller, of which there were ``full`` parameters."""
    if (bits := METHODS[way].bits) is not None:
        return sum(acting_bytes(found.controller, bits).values())
    left = found.plan.params_deployed
    return sparse_bytes(left, full) if way == "sparse" else float_bytes(left)


def fewest(table: pd.DataFrame) -> pd.DataFrame:
    """A row a way, and one for `ANY`: for each controller, how many times fewer bytes than the dense floats were the
    fewest measured that surely kept `KEPT` of the return; none where no point did."""
    kept = table[table["low"] >= KEPT]
    found = kept.groupby(["way", "controller"], sort=False)["fewer"].max().unstack()
    ways = [way for way in _LOOKS if way in set(table["way"])]
    found = found.reindex(index=ways, columns=table["controller"].unique())
    found.loc[ANY] = found.max()
    return found


def figure(table: pd.DataFrame) -> Figure:
    """Normalised return against bytes, a panel a controller: a line a way, from the dense controller (hollow) on."""
    names = list(dict.fromkeys(table["controller"]))
    across, down = min(len(names), _ACROSS), -(-len(names) // _ACROSS)
    with rc_context(LOOK):
        drawn = Figure(figsize=(max(2.6 * across + 0.3, COLUMN), 2.1 * down + 0.9), layout="constrained")
        panels = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes in panels[len(names) :]:
            axes.remove()
        for number, (axes, name) in enumerate(zip(panels, names, strict=False)):
            here = table[table["controller"] == name]
            for way, (colour, marker, _) in _LOOKS.items():
                rows = here[here["way"] == way].sort_values("bytes")
                means = rows["normalised_return"]
                if not marker:
                    axes.plot(rows["bytes"], means, color=colour, linewidth=0.8, linestyle=_AFTER)
                    continue
                ends = np.stack([means - rows["low"], rows["high"] - means]).clip(0)
                axes.errorbar(rows["bytes"], means, yerr=ends, color=colour, linewidth=1, elinewidth=0.6, capsize=1.5)
                for size, mean, sparsity in zip(rows["bytes"], means, rows["sparsity"], strict=True):
                    face = colour if sparsity else "white"
                    axes.plot(size, mean, color=colour, marker=marker, markersize=4.5, markerfacecolor=face)
            axes.set(xscale="log", title=name)
            if number + across >= len(names):
                axes.set_xlabel("bytes that act")
            axes.axhline(1.0, color=REFERENCE, linewidth=0.8, zorder=1)
            axes.axhline(0.95, color=REFERENCE, linewidth=0.5, linestyle=(0, (2, 3)), zorder=1)
        panels[0].set_ylim(max(_SHOWN, table["low"].min() - 0.05), max(1.1, table["high"].max() + 0.02))
        for axes in panels[::across]:
            axes.set_ylabel("normalised return, 95% interval")
        ways = [way for way in _LOOKS if way in set(table["way"])]
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="-" if marker else _AFTER, label=label)
            for colour, marker, label in map(_LOOKS.__getitem__, ways)
        ]
        drawn.legend(handles=handles, loc="outside lower center", ncols=2 if len(names) == 1 else 4)
    return drawn


def written(folder: Path, references: Sequence[str]) -> pd.DataFrame:
    """The rows of every checkpoint, computed where the folder has none yet.

    Raises:
        ControllerError: two of them have one name, or one names no task.
    """
    names = [with_task(reference)[0].name.replace("/", "-") for reference in references]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ControllerError(f"two checkpoints are named '{twice[0]}': rename one of them")
    owns = [folder / f"{name}.csv" for name in names]
    folder.mkdir(parents=True, exist_ok=True)  # all are there to be measured
    for reference, own in zip(references, owns, strict=True):
        if not own.exists():
            begun = own.with_suffix(".begun")
            measured(reference, begun)
            begun.replace(own)
    return pd.concat(
        [pd.read_csv(path) for path in sorted(folder.glob("*.csv")) if path.stem not in ("bytes", "fewest")]
    )


def main() -> None:
    """Write ``bytes.*`` (table and figure) and ``fewest.*`` (table) of the checkpoints on the command line and of those
    before."""
    torch.set_num_threads(1)
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    try:
        table = written(folder, sys.argv[2:])
    except Error as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    remark = (
        f"Made by `{shlex.join(['python', '-m', 'prunectl.experiments.deploying.bytes_study', *sys.argv[1:]])}`. "
        "bytes: numbers that act at their width, observation statistics not counted; fewer: times fewer than the "
        "dense controller's floats; low and high: ends of the 95% interval over episodes."
    )
    write_table(table, folder / "bytes", _FORMATS, remark)
    best = fewest(table).rename(index={way: label for way, (_, _, label) in _LOOKS.items()}).rename_axis("way")
    write_table(
        best.reset_index(),
        folder / "fewest",
        dict.fromkeys(best.columns, ".0f"),
        f"How many times fewer bytes than the dense floats were the fewest measured that kept {KEPT} of the return at "
        "the lower end of the interval.",
    )
    save(figure(table), folder / "bytes")


if __name__ == "__main__":
    main()
