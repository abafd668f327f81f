"""Run folders as rl-zoo writes them: ``Env-v3_1/Env-v3.zip`` beside ``Env-v3_1/Env-v3/args.yml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded

#: A YAML that says which environment and wrappers a run had is a page long.
LARGEST_YAML = 2**15
#: rl-zoo's name for the observation statistics, and the hub's.
_STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run. ``environment`` is the id it was trained on, as written then."""

    checkpoint: Path
    environment: str | None
    statistics: Path | None


def open_run(path: Path) -> RunFolder:
    """Find a run's checkpoint and what its configuration says, given its folder or the checkpoint in it.

    rl-zoo keeps the configuration in a folder named like the checkpoint, the hub beside it. A zip with neither is a run
    that says nothing of itself.

    Raises:
        ControllerError: no checkpoint in the folder, or several.
    """
    if path.is_dir():
        zips = sorted(path.glob("*.zip"))
        final = [candidate for candidate in zips if candidate.stem != "best_model"] or zips
        if len(final) != 1:
            more = f", and {len(final) - 5} more" if len(final) > 5 else ""
            found = (", ".join(candidate.name for candidate in final[:5]) or "none") + more
            raise ControllerError(f"{path}: expected one checkpoint (.zip) in the folder, found {found}")
        path = final[0]
    for folder in (path.with_suffix(""), path.parent):
        if (folder / "args.yml").is_file():
            statistics = [folder / name for name in _STATISTICS if (folder / name).is_file()]
            if not statistics and _normalised(folder / "config.yml"):
                raise ControllerError(
                    f"{folder}: config.yml says that observations were normalised, and {_STATISTICS[0]} is not there"
                )
            return RunFolder(path, _environment(folder / "args.yml"), statistics[0] if statistics else None)
    return RunFolder(path, None, None)


def _environment(path: Path) -> str | None:
    """The environment's id in ``args.yml``."""
    name = _settings(path).get("env")
    return name if isinstance(name, str) else None


def _normalised(path: Path) -> bool:
    """Whether ``config.yml`` says that the networks saw normalised observations: ``true``, or keyword arguments."""
    said = _settings(path).get("normalize", "false") if path.is_file() else "false"
    if isinstance(said, dict):
        return str(said.get("norm_obs")).lower() != "false"
    # Anything else would be a structure that no run writes: its text might be endless.
    text = said if isinstance(said, str) else "true"
    return (
        text.lower() not in ("false", "no", "off", "none", "null", "~", "")
        and "'norm_obs': False" not in text
        and "norm_obs=False" not in text
    )


def _settings(path: Path) -> dict[str, Any]:
    """A run's YAML as a mapping: rl-zoo writes an ordered dict as a list of pairs, or a plain mapping.

    Every scalar stays text and every tag is read as the data under it (`BaseLoader`): nothing is constructed.
    """
    try:
        data = yaml.load(read_bounded(path, LARGEST_YAML).decode(), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ControllerError(f"{path}: not readable YAML ({' '.join(str(error).split())[:120]})") from error
    if isinstance(data, list) and len(data) == 1:  # an OrderedDict's arguments: one, the list of pairs
        data = data[0]
    pairs = data.items() if isinstance(data, dict) else data if isinstance(data, list) else []
    pairs = [tuple(pair) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    return {key: value for key, value in pairs if isinstance(key, str)}
