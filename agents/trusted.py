"""Which tasks of modules the user has named for which folder: kept in a file of the user's own, in no checkpoint."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from prunectl.agents.files import read_bounded, replacing

LARGEST = 2**20


def trusted_tasks_file() -> Path:
    """``prunectl/trusted-tasks.json`` where the user's settings are: a table from folder to tasks."""
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "prunectl" / "trusted-tasks.json"


def is_trusted(folder: Path, task: str) -> bool:
    """Whether the user has once named this task for a checkpoint in this folder."""
    return task in _read().get(str(folder.resolve()), [])


def trust_task(folder: Path, task: str) -> None:
    """Remember that the user named this task for a checkpoint in this folder; where nothing can be written, nothing is
    remembered."""
    known = _read()
    tasks = known.setdefault(str(folder.resolve()), [])
    if task in tasks:
        return
    tasks.append(task)
    path = trusted_tasks_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n")


def _read() -> dict[str, list[str]]:
    try:
        known = json.loads(read_bounded(trusted_tasks_file(), LARGEST))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(tasks, list) for tasks in known.values()) else {}
