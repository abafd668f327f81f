"""Run folders as rl-zoo writes them: ``Env-v3_1/Env-v3.zip`` beside ``Env-v3_1/Env-v3/args.yml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agents.controller import ControllerError

#: A YAML that says which environment and wrappers a run had is a page long.
LARGEST_YAML = 2**20
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
            found = ", ".join(candidate.name for candidate in final) or "none"
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


class _PlainLoader(yaml.SafeLoader):
    """Constructs nothing but plain data: a ``!!python`` tag is read as the data under it."""


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def _environment(path: Path) -> str | None:
    """The environment's id in ``args.yml``."""
    name = _settings(path).get("env")
    return name if isinstance(name, str) else None


def _normalised(path: Path) -> bool:
    """Whether ``config.yml`` says that the networks saw normalised observations: ``true``, or keyword arguments."""
    said = str(_settings(path).get("normalize", False) if path.is_file() else False)
    return said not in ("False", "None") and "'norm_obs': False" not in said and "norm_obs=False" not in said


def _settings(path: Path) -> dict[str, Any]:
    """A run's YAML as a mapping: rl-zoo writes an ordered dict as a list of pairs, or a plain mapping."""
    if path.stat().st_size > LARGEST_YAML:
        raise ControllerError(f"{path}: over {LARGEST_YAML // 2**20} MiB, no run's arguments are so long")
    try:
        data = yaml.load(path.read_text(), Loader=_PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ControllerError(f"{path}: not readable YAML ({' '.join(str(error).split())[:120]})") from error
    if isinstance(data, list) and len(data) == 1:  # an OrderedDict's arguments: one, the list of pairs
        data = data[0]
    pairs = data.items() if isinstance(data, dict) else data if isinstance(data, list) else []
    return {str(pair[0]): pair[1] for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2}
