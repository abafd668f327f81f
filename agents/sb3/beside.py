"""Which observation statistics belong to a checkpoint that does not hold them: they lie somewhere beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gymnasium import spaces

from prunectl.agents.controller import ControllerError
from prunectl.agents.rl_zoo import STEPS, Run, run_folders_beside
from prunectl.agents.sb3.statistics import read_statistics

#: The names by which rl-zoo and the hub have them.
NAMES = ("vecnormalize.pkl", "vec_normalize.pkl")
#: What any file of them is called, the name of its checkpoint before or behind: Stable-Baselines3's own callback puts
#: ``PREFIX_vecnormalize_N_steps.pkl`` beside ``PREFIX_N_steps.zip``.
_CALLED = re.compile(r"(?P<before>.*?)[_.-]?vec_?norm(?:aliz(?:e|ed|er|ation))?[_.-]?(?P<behind>.*)", re.IGNORECASE)
_ENDINGS = (".pkl", ".pickle")


def statistics_beside(run: Run, space: spaces.Space[Any], own: bool) -> Path | None:
    """The file whose statistics the networks saw their observations by, if there is one.

    It lies in the folder with the run's ``args.yml``; or beside the checkpoint, named after it or after none; or in the
    only folder there that may be its run's.

    Args:
        run: the checkpoint and its configuration.
        space: of the observations; statistics of another shape are another agent's.
        own: the checkpoint is of prunectl's own making and would hold them: only the folder of its run is looked at.

    Raises:
        ControllerError: which of several it is cannot be known, or none is where there must be one.
    """
    checkpoint = run.checkpoint
    if run.settings is not None and run.settings == checkpoint.with_suffix(""):
        found = [run.settings / name for name in NAMES if (run.settings / name).is_file()]
        if found:
            return found[0]
    places = [] if own and run.settings != checkpoint.parent else [_named_after(checkpoint), _beside(checkpoint)]
    places += [] if own else [_in_run_folders(checkpoint)]
    for found in places:
        fitting = [path for path in found if _fits(path, space)]
        if len(fitting) == 1 and (_named(fitting[0]) == checkpoint.stem or not STEPS.fullmatch(_named(fitting[0]))):
            return fitting[0]
        if fitting:
            raise ControllerError(
                f"{checkpoint}: which observation statistics are its own? There are "
                f"{', '.join(str(path.relative_to(checkpoint.parent)) for path in fitting[:5])}"
                f"{', ...' if len(fitting) > 5 else ''}: say which with --normalisation FILE"
            )
    if run.normalised:
        raise ControllerError(
            f"{run.settings}: config.yml says that observations were normalised, and {NAMES[0]} is not there: "
            "say where it is with --normalisation FILE"
        )
    return None


def _named_after(checkpoint: Path) -> list[Path]:
    """Those beside a checkpoint that are named after it."""
    return [path for path in _files(checkpoint.parent) if _named(path) == checkpoint.stem]


def _beside(checkpoint: Path) -> list[Path]:
    """Those beside a checkpoint that are named after none; or, if there are only such, after some number of steps."""
    found = [path for path in _files(checkpoint.parent) if not path.with_name(f"{_named(path)}.zip").is_file()]
    of_no_steps = [path for path in found if not STEPS.fullmatch(_named(path))]
    if of_no_steps:
        return of_no_steps
    return [path for path in _files(checkpoint.parent) if STEPS.fullmatch(_named(path))]


def _in_run_folders(checkpoint: Path) -> list[Path]:
    return [path for folder in run_folders_beside(checkpoint) for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix in _ENDINGS and _CALLED.fullmatch(path.stem) and path.is_file()
    )


def _named(path: Path) -> str:
    """The name of the checkpoint that a file of statistics is named after; empty where it is named after none."""
    parts = _CALLED.fullmatch(path.stem)
    assert parts is not None
    return "_".join(part for part in (parts["before"], parts["behind"]) if part)


def _fits(path: Path, space: spaces.Space[Any]) -> bool:
    """Whether statistics may be of observations of this space; what cannot be read is not passed over."""
    try:
        statistics, _ = read_statistics(path)
    except ControllerError:
        return True
    try:
        return statistics is None or statistics.of(space) is not None
    except ControllerError:
        return False
