"""What a result was made with."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from prunectl.agents import Loaded
from prunectl.agents.files import read_bounded, replacing
from prunectl.pruning import PruningError, PruningPlan
from prunectl.registry import Plugin

#: Beside results, and how large it may be, as the config that lies there too: a line a controller.
FILE, LARGEST = "provenance.json", 2**20
PACKAGES = ("prunectl", "torch", "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch-pruning", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def parts_of(plugins: Iterable[Plugin]) -> dict[str, Any]:
    """A record's ``plugins``: which ones had a part in the result, in what version of which file; none, no entry."""
    said = ("kind", "name", "module", "version", "digest")
    entries = [{name: getattr(plugin, name) for name in said} for plugin in plugins]
    return {"plugins": entries} if entries else {}


def record(plugins: Iterable[Plugin] = ()) -> dict[str, Any]:
    """What is made now is made with: ``command``, ``versions`` and what `parts_of` gives."""
    return {"command": command_line(), "versions": versions(), **parts_of(plugins)}


def write(folder: Path, data: Mapping[str, Any]) -> Path:
    """Leave a record in a folder."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return folder / FILE


def update(folder: Path, plugins: Iterable[Plugin], computing: bool) -> str | None:
    """Leave a record where results are added to. One that is there stays if nothing is ``computing``; what was computed
    with other versions before stays in it, as ``earlier``.

    Returns:
        What the user should know of other versions, a line; None: there are none.
    """
    before = _there(folder / FILE)
    if before is not None and not computing:
        return None
    now = record(plugins)
    earlier = [] if before is None else list(before.pop("earlier", []))
    apart = {} if before is None else {n: v for n, v in now["versions"].items() if before["versions"].get(n) != v}
    if before is not None and apart:
        earlier.append(before)
    path = write(folder, now | ({"earlier": earlier} if earlier else {}))
    if before is None or not apart:
        return None
    others = ", ".join(f"{name} {before['versions'].get(name)}, now {version}" for name, version in apart.items())
    return f"what is there already was computed with other versions ({others}): {path} keeps both"


def _there(path: Path) -> dict[str, Any] | None:
    """A record that was left; None where there is none, or something else."""
    try:
        found = json.loads(read_bounded(path, LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and isinstance(found.get("versions"), dict)
    return found if ours and isinstance(found.get("earlier", []), list) else None


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
