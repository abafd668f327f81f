"""Run folders as rl-zoo writes them: ``Env-v3_1/Env-v3.zip`` beside ``Env-v3_1/Env-v3/args.yml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.surroundings import STACK, TIME_FEATURE, Surroundings, plain_settings
from prunectl.registry import one_line

#: A YAML that says which environment and wrappers a run had is a page long.
LARGEST_YAML = 2**15
ARGUMENTS = "args.yml"
#: Checkpoints of a run that are not its last: the best one so far, and those of every so many steps.
BEST = "best_model"
STEPS = re.compile(r"(?P<prefix>.*)_(?P<steps>\d+)_steps")
#: The training curves, which the hub has as a zip as well.
CURVES = "train_eval_metrics.zip"


@dataclass(frozen=True)
class Run:
    """A checkpoint, the folder of the ``args.yml`` that speaks of it, and what that says, if there is one."""

    checkpoint: Path
    settings: Path | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def environment(self) -> str | None:
        """The id of the environment that it was trained on, as written then."""
        name = self.said.get("env")
        return name if isinstance(name, str) else None

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that registered environments."""
        names = self.said.get("gym_packages")
        return tuple(name[:60] for name in names[:10] if isinstance(name, str)) if isinstance(names, list) else ()

    @property
    def normalised(self) -> bool:
        """Whether the networks saw normalised observations: ``true``, or keyword arguments."""
        said = self.said.get("normalize", "false")
        if isinstance(said, dict):
            return str(said.get("norm_obs")).lower() != "false"
        # Anything else would be a structure that no run writes: its text might be endless.
        text = said if isinstance(said, str) else "true"
        return (
            text.lower() not in ("false", "no", "off", "none", "null", "~", "")
            and "'norm_obs': False" not in text
            and "norm_obs=False" not in text
        )

    def surroundings(self) -> Surroundings:
        """The keyword arguments, wrappers and stacked observations that the environment had.

        Raises:
            ControllerError: some of it cannot be put there again.
        """
        settings = _typed(self.said.get("env_kwargs", {}))
        wrappers = [_wrapper(entry) for entry in _listed(self.said.get("env_wrapper", []))]
        lost = [_shown(entry) for entry in _listed(self.said.get("vec_env_wrapper", []))]
        if not plain_settings(settings):
            lost.append(f"env_kwargs {_shown(settings)}")
        lost += [f"{name} ({_shown(given)})" for name, given in wrappers if not plain_settings(given)]
        stacked = _typed(self.said.get("frame_stack", 1))
        if not isinstance(stacked, int) or (self.normalised and stacked != 1):
            lost.append("frame_stack of normalised observations")
        elif stacked != 1:
            wrappers.append((STACK, {"n_stack": stacked}))
        if lost:
            raise ControllerError(
                f"{self.settings}: its environment was made with {'; '.join(lost)}, which prunectl cannot make again: "
                "register a task that has it built in (--task module:Id), and move the checkpoint away from its "
                f"{ARGUMENTS}"
            )
        return Surroundings(settings, tuple(wrappers))


def open_run(path: Path) -> Run:
    """Find a run's checkpoint and what its configuration says, given its folder or a checkpoint in it.

    rl-zoo keeps the configuration in a folder named like the checkpoint, the hub beside it. A zip with neither is a run
    that says nothing of itself.

    Raises:
        ControllerError: no checkpoint in the folder, or several; or a configuration that cannot be read.
    """
    remarks: tuple[str, ...] = ()
    if path.is_dir():
        path, remarks = _checkpoint(path)
    settings = settings_folder(path)
    said: dict[str, Any] = {}
    if settings is not None:
        for name in ("config.yml", ARGUMENTS):  # what both say counts as it was asked for
            if (settings / name).is_file():
                said |= {key: value for key, value in _settings(settings / name).items() if _some(value)}
        if (settings / "env_kwargs.yml").is_file():  # the hub has them in a file of their own
            said = {"env_kwargs": _settings(settings / "env_kwargs.yml"), **said}
    return Run(path, settings, said, remarks)


def settings_folder(checkpoint: Path) -> Path | None:
    """The folder whose ``args.yml`` speaks of a checkpoint: the one named like it, its own, or the only one in its own
    that could (a run's best or periodic checkpoint lies beside the folder of its final one)."""
    for folder in (checkpoint.with_suffix(""), checkpoint.parent):
        if (folder / ARGUMENTS).is_file():
            return folder
    inside = run_folders_beside(checkpoint)
    return inside[0] if len(inside) == 1 else None


def run_folders_beside(checkpoint: Path) -> list[Path]:
    """Folders beside a checkpoint that hold the configuration of its run, for all that can be known by name."""
    intermediate = checkpoint.stem == BEST or STEPS.fullmatch(checkpoint.stem) is not None
    found = sorted(arguments.parent for arguments in checkpoint.parent.glob(f"*/{ARGUMENTS}"))
    # A folder with a checkpoint of its own is another run's; so is one named like another checkpoint, for a final one.
    return [
        folder
        for folder in found
        if not any(folder.glob("*.zip")) and (intermediate or not folder.with_name(f"{folder.name}.zip").is_file())
    ]


def _checkpoint(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The final checkpoint of a run's folder, and a remark where there are others."""
    zips = sorted(path for path in folder.glob("*.zip") if path.name != CURVES)
    final = [path for path in zips if path.stem != BEST and not STEPS.fullmatch(path.stem)] or zips
    if len(final) != 1:
        raise ControllerError(f"{folder}: expected one checkpoint (.zip) in the folder, found {_names(final)}")
    others = [path for path in zips if path != final[0]]
    if not others:
        return final[0], ()
    return final[0], (f"{folder}: this is {final[0].name}; there are also {_names(others)}: name one to use it",)


def _names(paths: list[Path]) -> str:
    more = f", and {len(paths) - 5} more" if len(paths) > 5 else ""
    return (", ".join(path.name for path in paths[:5]) or "none") + more


# What the configuration says. Aliases can make a small YAML endless: nothing is walked deeper than it may reach.


def _wrapper(entry: Any) -> tuple[str, Any]:
    """A wrapper's name and its keyword arguments, from a name or a table of one."""
    name, given = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, {})
    if not isinstance(name, str) or not re.fullmatch(r"[\w.]{1,200}", name):
        return _shown(name), None
    return TIME_FEATURE if name.endswith(".TimeFeatureWrapper") else name, _typed(given) if _some(given) else {}


def _shown(value: Any) -> str:
    """A few words for a value of any shape."""
    if isinstance(value, dict):
        return ", ".join(str(key)[:40] for key in list(value)[:10])
    return value[:80] if isinstance(value, str) else f"a {type(value).__name__}"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _some(value: Any) -> bool:
    """Whether a value says anything: rl-zoo writes what was not asked for as null or as an empty list."""
    return value not in ("null", "~", "", "None", [], {})


def _typed(value: Any, depth: int = 2) -> Any:
    """Numbers, booleans and nothing out of the text that YAML's scalars are read as; what lies deeper stays."""
    if isinstance(value, dict) and depth:
        return {key: _typed(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list) and depth:
        return [_typed(item, depth - 1) for item in value]
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "null": None, "~": None, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _settings(path: Path) -> dict[str, Any]:
    """A run's YAML as a mapping: rl-zoo writes an ordered dict as a list of pairs, or a plain mapping.

    Every scalar stays text and every tag is read as the data under it (`BaseLoader`): nothing is constructed.
    """
    try:
        data = yaml.load(read_bounded(path, LARGEST_YAML).decode(), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ControllerError(f"{path}: not readable YAML ({one_line(error)})") from error
    if isinstance(data, list) and len(data) == 1:  # an OrderedDict's arguments: one, the list of pairs
        data = data[0]
    pairs = data.items() if isinstance(data, dict) else data if isinstance(data, list) else []
    pairs = [tuple(pair) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    return {key: value for key, value in pairs if isinstance(key, str)}
