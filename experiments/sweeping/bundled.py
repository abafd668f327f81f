"""The sweeps that come with prunectl, and finding one by name. Imports nothing heavy: a wrong name is told at once."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path


def bundled_configs() -> dict[str, Path]:
    """The sweeps that come with prunectl, by short name."""
    folder = Path(str(resources.files("prunectl.experiments") / "configs"))
    found = sorted(path for path in folder.rglob("*.yaml") if path.name != "training.yaml")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def config_path(named: str | Path) -> Path:
    """A file's path, or the path of the bundled config of that short name.

    Raises:
        OSError: there is neither.
    """
    path, bundled = Path(named), bundled_configs()
    if path.exists():
        return path
    if (found := bundled.get(str(named))) is not None:
        return found
    near = difflib.get_close_matches(str(named), bundled, n=1, cutoff=0.6)
    offer = f"did you mean '{near[0]}'?" if near else "`prunectl sweep --list` shows those that come with prunectl"
    raise FileNotFoundError(2, f"there is no such sweep, neither a file nor a bundled one; {offer}", str(named))
