"""What the commands share: options, and the two channels they speak on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunectl.experiments.episodes.seeds import MOST_SEED

if TYPE_CHECKING:
    from prunectl.agents import Loaded

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CKPT", help="An SB3 .zip, an rl-zoo run folder, a TD-MPC .pt, a bundled name, or hf://user/name."
    ),
]
Task = Annotated[str | None, typer.Option("--task", metavar="ID", help="The task; default: what the checkpoint names.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Trust = Annotated[bool, typer.Option("--trust", help="Unpickle the checkpoint, run exported C: it can run any code.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, metavar="N")]


def say(line: str) -> None:
    """A remark on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that the function given moves to a share in [0, 1]; none where nobody looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=1.0, visible=False)
        yield lambda share: bar.update(task, completed=share, visible=True)


def emit(data: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(data))


def columns(rows: list[list[str]]) -> str:
    """Rows of text in aligned columns, a header first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def load(reference: str, task: str | None, trust: bool, needed: bool = False) -> tuple[Loaded, str | None]:
    """A checkpoint and the task that exists today for it, if either says one; remarks go to standard error.

    A task that its files name and that is unknown here is an error only where one is ``needed``.

    Raises:
        ControllerError: no such checkpoint, or one that does not fit the task.
        TaskError: no such task.
    """
    import torch
    from sb3_contrib.common.wrappers import TimeFeatureWrapper

    from prunectl import agents, envs
    from prunectl.experiments.episodes.evaluator import environments

    torch.set_num_threads(1)
    loaded = agents.load(reference, trust=trust)
    named = loaded.task_to_run(task, trust)
    if named is None:
        return loaded, None
    try:
        today, remark = envs.resolve(named)
    except envs.TaskError as error:
        if needed or task is not None:
            raise
        say(f"{loaded.name}: {error}")
        return loaded, None
    if remark:
        say(remark)
    with environments(today, 1, loaded.controller) as (env,):
        if isinstance(env, TimeFeatureWrapper):
            say(f"{loaded.name} observes one number more than {today} gives: the share of the episode that is left")
        return loaded, today


def load_for_task(reference: str, task: str | None, trust: bool) -> tuple[Loaded, str]:
    """The same where a task is needed.

    Raises:
        ControllerError: also when neither the user nor the checkpoint names one.
    """
    from prunectl.agents import ControllerError

    loaded, today = load(reference, task, trust, needed=True)
    if today is None:
        raise ControllerError(f"{reference}: it does not name its task: add --task ID (`prunectl tasks` lists them)")
    return loaded, today


def check_output(path: Path, force: bool) -> None:
    """Refuse an output that cannot be written or would be overwritten before hours are spent on it.

    Raises:
        OSError: there is no such folder, or the file is there already.
    """
    import os

    if not path.parent.is_dir():
        raise FileNotFoundError(2, "there is no such folder to write to", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(21, "it is a folder, a file is needed", str(path))
    if path.exists() and not force:
        raise FileExistsError(17, "it is there already: choose another name, or --force to replace it", str(path))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(13, "the folder cannot be written to", str(path.parent))
