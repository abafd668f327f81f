"""``watch``: controllers at work, as a moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunectl.experiments.cli.common import Json, Task, Trust, emit, progress, there
from prunectl.experiments.episodes.seeds import MOST_EPISODE_SEED


def watch(
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CKPT...", callback=there, help="Checkpoints as elsewhere; several play side by side."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A .gif or a .mp4.")],
    task: Task = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_EPISODE_SEED, metavar="N", help="Environment seed.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many steps; default: the whole episode.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Film an episode, the same one for every controller, each under its sparsity and its return so far."""
    from prunectl.agents import ControllerError
    from prunectl.agents.files import replacing
    from prunectl.experiments.api.files import check_output
    from prunectl.experiments.api.subject import subject_of
    from prunectl.experiments.episodes import film as films

    _check_format(out)
    check_output(out, force)
    named = [subject_of(checkpoint, task, trust) for checkpoint in checkpoints]
    tasks = {subject.task: checkpoint for checkpoint, subject in zip(checkpoints, named, strict=True)}
    if len(tasks) > 1:
        said = ", ".join(f"{today} ({checkpoint})" for today, checkpoint in tasks.items())
        raise ControllerError(f"side by side they need one task, but they name {said}: choose one with --task ID")
    (today,) = tasks
    takes = []
    with progress("filming") as told:
        for number, subject in enumerate(named, start=1):
            takes.append(films.film(subject.loaded, today, seed, steps))
            told(number / len(named))
        with replacing(out) as temporary:
            films.WRITERS[out.suffix](takes, temporary)
    if not as_json:
        for take in takes:
            sparsity = f"sparsity {take.sparsity:.3f}" if take.sparsity else "dense"
            played = take.episodes
            print(f"{take.name}, {sparsity}: return {played.returns[0]:.1f} after {played.lengths[0]} steps")
        print(f"{today}, seed {seed}, written to {out}")
        return
    emit(
        {
            "film": str(out),
            "task": today,
            "seed": seed,
            "takes": [
                {
                    "checkpoint": checkpoint,
                    "sparsity_deployed": take.sparsity,
                    "return": float(take.episodes.returns[0]),
                    "length": int(take.episodes.lengths[0]),
                    "over": take.over,
                }
                for checkpoint, take in zip(checkpoints, takes, strict=True)
            ],
        }
    )


def _check_format(path: Path) -> None:
    """Refuse what cannot be written before anything is filmed."""
    from importlib.util import find_spec

    from prunectl.experiments.episodes.film import WRITERS

    if path.suffix not in WRITERS:
        raise typer.BadParameter(f"-o {path}: films are written as {' or '.join(WRITERS)}: name it so")
    if path.suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise typer.BadParameter(f"-o {path}: an .mp4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or name a .gif")
