"""What a result was made with."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from prunectl.agents import Loaded
from prunectl.pruning import PruningError, PruningPlan
from prunectl.registry import Plugin

PACKAGES = ("prunectl", "torch", "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch-pruning", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def parts_of(plugins: Iterable[Plugin]) -> dict[str, Any]:
    """A record's ``plugins``: which ones had a part in the result, in what version of which file; none, no entry."""
    said = ("kind", "name", "module", "version", "digest")
    entries = [{name: getattr(plugin, name) for name in said} for plugin in plugins]
    return {"plugins": entries} if entries else {}


def command_line() -> str:
    """The command as it was typed, without the folder that prunectl is installed in."""
    return shlex.join(["prunectl", *sys.argv[1:]])


def plan_of(loaded: Loaded) -> PruningPlan | None:
    """The plan that a checkpoint was pruned by; None for a dense one.

    Raises:
        PruningError: what it holds in that place is no plan.
    """
    if not loaded.plan:
        return None
    try:
        return PruningPlan.from_json(loaded.plan)
    except PruningError as error:
        raise PruningError(f"{loaded.name}: it holds {error}") from error
