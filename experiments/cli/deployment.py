"""``export``: controllers for where there is no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prunectl.experiments.cli.common import Checkpoint, Json, Task, Trust, check_output, emit, load_for_task, say


def export(
    checkpoint: Checkpoint,
    form: Annotated[Literal["onnx", "c"], typer.Option("--format", help="c: C99, with a header and a test.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="OUT.onnx, or OUT.c with OUT.h and OUT_test.c.")
    ],
    task: Task = None,
    int8: Annotated[bool, typer.Option("--int8", help="C with weights of eight bits.")] = False,
    planner: Annotated[
        bool, typer.Option("--planner", help="A world model's networks and a script that plans; OUT is a new folder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Write what acts, from an observation in the task's units to the action, as ONNX or as C."""
    from dataclasses import asdict

    from prunectl.agents import ControllerError
    from prunectl.agents.deployment.load import require_onnx
    from prunectl.experiments.deploying import export as exporting
    from prunectl.experiments.episodes.calibration import calibrate

    if form == "onnx":
        require_onnx()
    if int8 and form != "c":
        raise typer.BadParameter("--int8 is a form of C: add --format c")
    if planner:
        _export_planner(checkpoint, form, out, task, as_json, trust)
        return
    if out.suffix != f".{form}":
        raise ControllerError(f"{out}: name it so that it ends in .{form}")
    for name in exporting.names(out, form):
        check_output(out.with_name(name), force)
    loaded, today = load_for_task(checkpoint, task, trust)
    calibration = calibrate(loaded.controller, today)
    made = exporting.export(loaded, today, calibration, out, form, int8)
    exporting.write(made.files, out.parent)
    found, costs = made.difference, made.costs
    if made.still:
        numbers = ", ".join(map(str, made.still))
        say(f"observation {numbers} never moved in the calibration episodes: in eight bits it is a constant")
    if costs is not None and not made.compiled:
        say("there is no gcc here: the numbers were checked, the C was not compiled")
    if as_json:
        emit(
            {
                "checkpoint": checkpoint,
                "task": today,
                "format": form,
                "int8": int8,
                "files": [str(out.with_name(name)) for name in made.files],
                "observations": found.rows,
                "max_difference": found.largest,
                "mean_difference": found.mean,
                "still": list(made.still),
                **({} if costs is None else {"compiled": made.compiled, **asdict(costs)}),
            }
        )
        return
    print(f"{loaded.name} on {today}: {', '.join(made.files)}")
    print(
        f"actions over {found.rows:,} visited observations differ by {found.largest:.1e} at most, {found.mean:.1e} in "
        "the mean (in half action ranges; of indices: the share that differs)"
    )
    if costs is not None:
        print(f"{costs.flash:,} bytes of constants, {costs.ram:,} of stack, {costs.macs:,} multiply-accumulates")


def _export_planner(checkpoint: str, form: str, out: Path, task: str | None, as_json: bool, trust: bool) -> None:
    from prunectl.experiments.deploying import export as exporting
    from prunectl.experiments.episodes.calibration import calibrate

    if form != "onnx":
        raise typer.BadParameter("--planner goes with --format onnx")
    if out.exists():
        raise FileExistsError(17, "it is there already: a planner goes to a new folder", str(out))
    loaded, today = load_for_task(checkpoint, task, trust)
    made = exporting.export_planner(loaded, today, calibrate(loaded.controller, today), out)
    out.mkdir(parents=True)
    exporting.write(made.files, out)
    found = made.difference
    if as_json:
        emit(
            {
                "checkpoint": checkpoint,
                "task": today,
                "format": form,
                "files": [str(out / name) for name in made.files],
                "observations": found.rows,
                "max_difference": found.largest,
                "mean_difference": found.mean,
            }
        )
        return
    print(f"{loaded.name} on {today}: {', '.join(made.files)} in {out}")
    print(f"{found.rows} decisions differ by {found.largest:.1e} at most, {found.mean:.1e} in the mean")
