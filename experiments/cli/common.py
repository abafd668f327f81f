"""What the commands share: options, and the two channels they speak on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from prunectl.experiments.episodes.seeds import MOST_SEED
from prunectl.names import NAMES, check_name
from prunectl.references import RANDOM, check_reference

#: Bytes of a file of rows: of all that are in it, 16,000 are looked at.
LARGEST_ROWS = 2**30


def there(named: str | list[str]) -> str | list[str]:
    """Refuse what names no checkpoint before anything heavy is imported."""
    for reference in [named] if isinstance(named, str) else named:
        check_reference(reference)
    return named


def there_or_random(named: str) -> str:
    """The same where random actions may stand in for a checkpoint."""
    if named != RANDOM:
        check_reference(named)
    return named


def known_task(named: str | None) -> str | None:
    """Refuse a task that cannot be."""
    if named is not None:
        from prunectl.envs import resolve

        resolve(named)
    return named


def known(kind: str) -> Callable[[str | None], str | None]:
    """Refuse a name that nothing of a kind goes by."""

    def check(named: str | None) -> str | None:
        if named is not None:
            check_name(kind, named)
        return named

    return check


def listed(kind: str) -> str:
    """The names of a kind."""
    return ", ".join(NAMES[kind])


Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CKPT",
        callback=there,
        help="An SB3 .zip, an rl-zoo run folder, a TD-MPC .pt, a .safetensors of own networks, a .cleanrl_model, a "
        "bundled name, or hf://user/name.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option("--task", metavar="ID", callback=known_task, help="The task; default: what the checkpoint names."),
]
Grouping = Annotated[
    str | None,
    typer.Option(
        "--grouping",
        callback=known("grouping"),
        help=f"{listed('grouping')}. Those that begin with stock are Torch-Pruning's.  (default: chosen: "
        "component, and where its students fall short coupled, inputs, shallow; component with another recovery)",
    ),
]
Importance = Annotated[
    str | None,
    typer.Option(
        "--importance",
        callback=known("importance"),
        help=f"{listed('importance')}.  (default: surgeon; for groupings with ways of their own magnitude: stock- "
        "takes taylor, hessian, lamp, fpgm, random too, lowrank activation)",
    ),
]
Allocation = Annotated[str, typer.Option("--allocation", callback=known("allocation"), help=f"{listed('allocation')}.")]
Recovery = Annotated[
    str | None,
    typer.Option(
        "--recovery",
        callback=known("recovery"),
        help=f"{listed('recovery')}.  (default: distill-restarts; lowrank: distill; unstructured: none)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Unpickle the checkpoint, run exported C or images: it can run any code.")
]
Normalisation = Annotated[
    Path | None,
    typer.Option(
        "--normalisation",
        metavar="FILE",
        help="The observation statistics that VecNormalize saved, where they do not lie beside CKPT.",
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(
        "--inputs", metavar="ROWS.npy", help="Observations (n, ...) in the place of a task: no episode is run."
    ),
]
TimeFeature = Annotated[
    bool, typer.Option("--time-feature", help="Its observation ends with the share of the episode that is left.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Worker processes; default: one a core.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Use the workers of a running dask cluster.")
]
Slurm = Annotated[
    int | None, typer.Option("--slurm", min=1, metavar="N", help="Start N workers as SLURM jobs (dask-jobqueue).")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, metavar="N")]


def say(line: str) -> None:
    """A remark on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that the function given moves to a share in [0, 1]; none where nobody looks."""
    from prunectl.experiments.api.calling import shown

    with shown(sys.stderr.isatty(), what) as told:
        yield told


def rows_of(path: Path | None) -> Any:
    """The array in an ``.npy``, None where no file was named.

    Raises:
        ControllerError: it holds no plain array.
        OSError: it cannot be read, or is too large.
    """
    if path is None:
        return None
    from prunectl.agents import ControllerError
    from prunectl.agents.npy import read_npy

    try:
        return read_npy(path, LARGEST_ROWS)
    except ValueError as error:
        raise ControllerError(f"{path}: it holds no array of numbers as numpy.save writes them ({error})") from error


def emit(data: Any) -> None:
    """One JSON object on standard output."""
    from prunectl.experiments.jsontext import json_text

    print(json_text(data))


def columns(rows: list[list[str]]) -> str:
    """Rows of text in aligned columns, a header first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
