"""``export``: controllers for where there is no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prunectl.experiments.cli.common import (
    Checkpoint,
    Inputs,
    Json,
    Normalisation,
    Task,
    TimeFeature,
    Trust,
    emit,
    known,
    listed,
    rows_of,
    say,
)

if TYPE_CHECKING:
    from prunectl.agents import Loaded
    from prunectl.experiments.deploying.few_bits import Bits


def export(
    checkpoint: Checkpoint,
    form: Annotated[
        Literal["onnx", "c", "arduino"],
        typer.Option("--format", help="c: C99, with a header and a test; arduino: a library, with sketches."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="OUT.onnx; OUT.c with OUT.h and OUT_test.c; OUT.elf with these and --target; a folder for Arduino.",
        ),
    ],
    task: Task = None,
    inputs: Inputs = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights of eight bits; in ONNX as QDQ.")] = False,
    int4: Annotated[bool, typer.Option("--int4", help="Weights of four bits, as distill-int4 taught; C only.")] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="NAME",
            callback=known("target"),
            help=f"The machine that C is for, to be measured on: {listed('target')}; the first three are emulated.",
        ),
    ] = None,
    planner: Annotated[
        bool, typer.Option("--planner", help="A world model's networks and a script that plans; OUT is a new folder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    normalisation: Normalisation = None,
    time_feature: TimeFeature = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Write what acts, from an observation in the task's units to the action, as ONNX, as C or for Arduino."""
    from dataclasses import asdict

    from prunectl.agents import ControllerError
    from prunectl.experiments.api.exporting import export_subject
    from prunectl.experiments.api.subject import subject_of
    from prunectl.experiments.deploying import on_target

    if target is not None and form == "onnx":
        raise typer.BadParameter("--target is a machine that C is compiled for: add --format c")
    if int8 and int4:
        raise typer.BadParameter("--int8 and --int4: a weight has eight bits or four, say one of them")
    bits: Bits | None = 8 if int8 else 4 if int4 else None
    if planner:
        _export_planner(checkpoint, form, out, task, bits, as_json, trust)
        return
    if form == "arduino" and out.suffix:
        raise ControllerError(f"{out}: a library is a folder: name it without an ending")
    if form != "arduino" and out.suffix not in {"onnx": [".onnx"], "c": [".c", ".elf"]}[form]:
        raise ControllerError(f"{out}: name it so that it ends in .{form}")
    subject = subject_of(checkpoint, task, trust, normalisation, time_feature)
    rows = rows_of(inputs)
    made = export_subject(subject, out, bits, force, rows, target).made
    loaded, today = subject.loaded, None if rows is not None else subject.task
    found, costs = made.difference, made.costs
    if made.still:
        numbers = ", ".join(map(str, made.still))
        say(f"observation {numbers} never moved in the calibration episodes: in {bits} bits it is a constant")
    if costs is not None and not made.compiled:
        say("there is no gcc here: the numbers were checked, the C was not compiled")
    if as_json:
        emit(
            {
                "checkpoint": checkpoint,
                "task": today,
                "format": form,
                "bits": bits,
                "files": [str(out.parent / name) for name in made.files],
                "observations": found.rows,
                "max_difference": found.largest,
                "mean_difference": found.mean,
                "still": list(made.still),
                **({} if costs is None else {"compiled": made.compiled, **asdict(costs)}),
                **({} if made.taken is None else {"on_target": on_target.as_json(made.taken)}),
            }
        )
        return
    print(f"{loaded.name} on {today or inputs}: {', '.join(made.files)}")
    print(
        f"compared with the controller's own actions over {found.rows:,} visited observations: they differ by "
        f"{found.largest:.1e} at most, {found.mean:.1e} in the mean "
        + ("(the share of choices that differ)" if _chooses(loaded) else "(1 would be half the range of an action)")
    )
    if costs is not None:
        print(f"{costs.flash:,} bytes of constants, {costs.ram:,} of stack, {costs.macs:,} multiply-accumulates")
    if made.taken is not None:
        print(on_target.in_words(made.taken))


def _export_planner(
    checkpoint: str, form: str, out: Path, task: str | None, bits: Bits | None, as_json: bool, trust: bool
) -> None:
    from prunectl.agents.deployment.load import require_onnx
    from prunectl.experiments.api.files import check_new_folder
    from prunectl.experiments.api.subject import subject_of
    from prunectl.experiments.deploying import export as exporting
    from prunectl.experiments.episodes.calibration import calibrate

    if form != "onnx" or bits is not None:
        raise typer.BadParameter("--planner goes with --format onnx, and without --int8 and --int4")
    check_new_folder(out, "a planner")
    require_onnx()
    subject = subject_of(checkpoint, task, trust)
    loaded, today = subject.loaded, subject.task
    made = exporting.export_planner(loaded, today, calibrate(loaded.controller, today), out)
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
    print(
        f"compared with the controller's own, {found.rows} decisions differ by {found.largest:.1e} at most, "
        f"{found.mean:.1e} in the mean (1 would be half the range of an action)"
    )


def _chooses(loaded: Loaded) -> bool:
    from gymnasium import spaces

    return not isinstance(loaded.controller.action_space, spaces.Box)
