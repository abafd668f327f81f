"""The sweeps that come with prunectl, and finding one by name. Imports nothing heavy: a wrong name is told at once."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from prunectl.errors import Error
from prunectl.names import METHOD, check_name

#: A config of thousands of controllers takes so much; PyYAML reads some 100 KiB a second.
LARGEST_CONFIG = 2**18


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


def name_of(path: Path) -> str:
    """What a config is called: a bundled one by its short name, a file by its own without the ending."""
    return next((name for name, bundled in bundled_configs().items() if bundled == path), path.stem)


def check_names(path: Path) -> None:
    """Refuse the name of a method that nothing goes by; what else may be wrong is told where a config is read.

    Raises:
        Error: there is one, and no plug-in is named that could bring it.
    """
    for place, entry in enumerate(_methods(path)):
        for kind in METHOD:
            for name in listed(entry.get(kind, [])):
                try:
                    check_name(kind, str(name))
                except Error as error:
                    raise Error(f"{path}: methods[{place}]: {error}") from error


def _methods(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        if not path.is_file() or path.stat().st_size > LARGEST_CONFIG:
            return []  # a pipe would be waited for
        data = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)  # texts, lists and mappings alone
    except Exception:  # told in its own words by the one that reads it in earnest
        return []
    if not isinstance(data, dict) or "plugins" in data:
        return []
    return [entry for entry in listed(data.get("methods", [])) if isinstance(entry, dict)]


def listed(value: Any) -> Any:
    """A list as it is, and one of anything else."""
    return value if isinstance(value, list) else [value]
