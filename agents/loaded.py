"""What loading a checkpoint gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.trusted import is_trusted, trust_task
from prunectl.registry import Plugin


@dataclass(frozen=True)
class Loaded:
    """A controller and what its files say of it.

    ``task`` is the environment's id as written there, perhaps an old version. ``digest`` is a SHA-256 over everything
    that decides what the controller does. ``plan`` is the provenance of a pruned checkpoint. ``remarks`` are what the
    user should know of how it was found and put together, a line each. ``folder`` is where the checkpoint lies.
    ``loader`` is the plug-in that read it, if one did.
    """

    controller: Controller
    name: str
    task: str | None
    training_seed: int | None
    digest: str
    plan: Mapping[str, Any] | None
    remarks: tuple[str, ...] = ()
    folder: Path | None = None
    loader: Plugin | None = None

    def task_to_run(self, asked: str | None, trust: bool = False) -> str | None:
        """The task that the user asks for, else the one that the files name.

        Raises:
            ControllerError: the files name one of a module (``module:Id``). Making it would import the module, and a
                file does not decide what is run here unless it is trusted, or the user has named this task for a
                checkpoint of this folder before (`remember_task`).
        """
        if asked is None and self.task is not None and ":" in self.task and not trust:
            if self.folder is not None and is_trusted(self.folder, self.task):
                return self.task
            raise ControllerError(
                f"{self.name}: its file names the task '{self.task}', of a module to import: "
                f"say --task {self.task} once if you trust that module"
            )
        return asked or self.task

    def remember_task(self, asked: str) -> None:
        """Take the user's word on a task of a module for all checkpoints of this one's folder from now on.

        Only what a person says counts: never what stands in a file, be it a sweep's configuration.
        """
        if ":" in asked and self.folder is not None:
            trust_task(self.folder, asked)


def task_named(said: Any, path: Path) -> str | None:
    """An environment's id, which is printed and looked up: one short line."""
    if said is None or (isinstance(said, str) and said.isprintable() and len(said) <= 200):
        return said
    raise ControllerError(f"{path}: the task it names is no environment's id: {str(said)[:60]!r}")


def seed_named(said: Any) -> int | None:
    """A seed that a store can hold, else none: nothing is computed from it."""
    return said if type(said) is int and 0 <= said < 2**63 else None


def plan_named(said: Any, path: Path) -> Mapping[str, Any] | None:
    """The plan of a pruned checkpoint: an object, or nothing."""
    if said is None or isinstance(said, Mapping):
        return said
    raise ControllerError(f"{path}: the plan in it is no JSON object")
