"""From an SB3 zip, or the folder of its run, to a controller."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from prunectl.agents import extractors, rl_zoo
from prunectl.agents.controller import ControllerError
from prunectl.agents.files import digest_of
from prunectl.agents.loaded import Loaded, plan_named, seed_named, task_named
from prunectl.agents.networks.controller import Networks
from prunectl.agents.rows import row_space
from prunectl.agents.sb3 import archive as zips
from prunectl.agents.sb3.beside import statistics_beside
from prunectl.agents.sb3.blueprint import Blueprint, build
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.families import ALGORITHMS, NotRebuiltError, recognise
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.sb3.own_layers import controller_of
from prunectl.agents.sb3.statistics import read_statistics
from prunectl.agents.surroundings import GOAL_WRAPPER, PLAIN, TIME_FEATURE, Surroundings
from prunectl.registry import one_line, search_working_folder


def load_run(path: Path, name: str, trust: bool, normalisation: Path | None, time_feature: bool) -> Loaded:
    """Load a zip, or the checkpoint of a run's folder.

    Args:
        path: the zip or the folder.
        name: what it is called from now on.
        trust: let Stable-Baselines3 unpickle it.
        normalisation: the file with its observation statistics, whatever lies beside it.
        time_feature: its observation ends with the share of the episode that is left, whatever its files say.

    Raises:
        ControllerError: it cannot be rebuilt, or what belongs to it cannot be found or told apart.
        OSError: a file cannot be read.
    """
    run = rl_zoo.open_run(path)
    archive = zips.read_archive(run.checkpoint, trust)
    where = str(run.checkpoint)
    if trust:
        stock = _unpickled(run.checkpoint, archive)
        observed = stock.observation_space
    else:
        blueprint, state = zips.blueprint(archive, where)
        observed = blueprint.observation_space
    held, ours = _held_statistics(archive.sidecar, where), bool(archive.sidecar)
    beside = normalisation or (None if held[0] else statistics_beside(run, observed, ours))
    statistics, rewards = held if beside is None else _read(beside, observed, where)
    _check_statistics(statistics, rewards, row_space(observed), where)
    surroundings, said_beside = _surroundings(archive, run, where), not archive.sidecar
    if time_feature:
        surroundings = (surroundings or PLAIN).with_time_feature()
    controller: SB3Controller | Networks
    if trust:
        controller = controller_of(recognise(archive.data, where, trusted=True), stock, statistics, where)
        controller = replace(controller, surroundings=surroundings)
        if isinstance(controller, SB3Controller):
            controller = replace(controller, rewards=rewards)
    else:
        controller = SB3Controller(blueprint, _policy(blueprint, state, where), statistics, rewards, surroundings)
    return Loaded(
        controller=controller,
        name=name,
        task=task_named(archive.sidecar.get("task") or run.environment, path),
        training_seed=seed_named(archive.sidecar.get("training_seed", archive.data.get("seed"))),
        digest=_digest([run.checkpoint, *([] if beside is None else [beside])], surroundings if said_beside else PLAIN),
        plan=plan_named(archive.sidecar.get("plan"), path),
        remarks=(*run.remarks, *_remarks(surroundings or PLAIN, name, None if statistics is None else beside, run)),
    )


def _policy(blueprint: Blueprint, state: Mapping[str, Tensor], where: str) -> BasePolicy:
    try:
        return build(blueprint, state).policy
    except NotRebuiltError as error:
        raise ControllerError(f"{where}: {error}; if it has layers of its own, --trust reads those too") from error
    except ControllerError as error:
        raise ControllerError(f"{where}: {error}") from error


def _read(path: Path, observed: spaces.Space[Any], where: str) -> tuple[Normalisation | None, RewardScale | None]:
    """What a file of statistics did to observations of this space, and to rewards."""
    found, rewards = read_statistics(path)
    try:
        return None if found is None else found.of(observed), rewards
    except ControllerError as error:
        raise ControllerError(f"{where}: {path}: {error}") from error


def _held_statistics(sidecar: Mapping[str, Any], where: str) -> tuple[Normalisation | None, RewardScale | None]:
    """What observations and rewards were normalised by, as our own sidecar says."""
    said = sidecar.get("normalisation")
    scale = sidecar.get("rewards")
    try:
        normalisation = Normalisation.from_json(said) if said else None
        rewards = RewardScale(*(float(scale[name]) for name in ("var", "clip", "epsilon"))) if scale else None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ControllerError(f"{where}: the statistics in it cannot be read ({one_line(error)})") from error
    return normalisation, rewards


def _surroundings(archive: zips.Archive, run: rl_zoo.Run, where: str) -> Surroundings | None:
    """What our own sidecar says, else the run's configuration; None where neither does (`Controller.surroundings`)."""
    sidecar = archive.sidecar
    if "surroundings" in sidecar:
        try:
            return Surroundings.from_json(sidecar["surroundings"])
        except ValueError as error:
            raise ControllerError(f"{where}: what it says of its environment cannot be read ({error})") from error
    if "plan" in sidecar:
        return None
    surroundings = run.surroundings()
    if zips.sees_goals(archive):
        return replace(surroundings, wrappers=(*surroundings.wrappers, (GOAL_WRAPPER, {})))
    return surroundings


def _digest(files: list[Path], surroundings: Surroundings | None) -> str:
    """Over the files, and over what else stands beside them and decides what the controller does. The time left is no
    choice: a controller fits its task with it or without it."""
    content = digest_of(*files)
    told = None if surroundings is None else surroundings.as_json()
    if told is not None:
        told["wrappers"] = [entry for entry in told["wrappers"] if entry != [TIME_FEATURE, {}]]
    if told is None or not (told["settings"] or told["wrappers"]):
        return content
    return hashlib.sha256((content + json.dumps(told, sort_keys=True)).encode()).hexdigest()


def _remarks(surroundings: Surroundings, name: str, statistics: Path | None, run: rl_zoo.Run) -> Iterator[str]:
    """What was found beside the checkpoint."""
    if statistics is not None:
        yield f"{name}: its observations are normalised by {statistics}"
    if surroundings.time_feature:
        yield f"{name}: its observation ends with the share of the episode that is left (TimeFeatureWrapper)"
    if surroundings.settings:
        given = ", ".join(f"{key}={value}" for key, value in surroundings.settings.items())
        yield f"{name}: its environment is made with {given}"
    others = [f"{wrapper.split('.')[-1]}" for wrapper, _ in surroundings.wrappers if wrapper != TIME_FEATURE]
    if others:
        yield f"{name}: its environment stands behind {', '.join(others)}"
    if run.packages:
        yield f"{name}: tasks come from {', '.join(run.packages)}: --task {run.packages[0]}:ID, if ID is unknown here"


def _unpickled(path: Path, archive: zips.Archive) -> BaseAlgorithm:
    """What Stable-Baselines3 makes of the file when it may run what is in it."""
    algorithm = recognise(archive.data, str(path), trusted=True)
    search_working_folder()
    try:
        with _old_names():
            return ALGORITHMS[algorithm].load(path, device="cpu")
    except ModuleNotFoundError as error:
        raise ControllerError(
            f"{path}: it needs the module '{error.name}': run this beside it, or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # unpickling may fail in any way
        raise ControllerError(f"{path}: Stable-Baselines3 cannot unpickle it ({one_line(error)})") from error


@contextmanager
def _old_names() -> Iterator[None]:
    """Pickles from before everything was ``prunectl.`` name our features extractor in a package ``agents``."""
    before = {name: sys.modules.get(name) for name in ("agents", "agents.extractors")}
    sys.modules.update({"agents": sys.modules["prunectl.agents"], "agents.extractors": extractors})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _check_statistics(
    statistics: Normalisation | None, rewards: RewardScale | None, rows: spaces.Box, where: str
) -> None:
    shape = rows.shape
    if statistics is not None and not statistics.mean.shape == statistics.var.shape == shape:
        raise ControllerError(
            f"{where}: its observation statistics have shape {statistics.mean.shape}, its observations {shape}"
        )
    if statistics is not None:
        numbers = [*statistics.mean, *statistics.var, statistics.epsilon]
        if not (np.isfinite(numbers).all() and (statistics.var + statistics.epsilon > 0).all() and statistics.clip > 0):
            raise ControllerError(f"{where}: its observation statistics are no finite means and positive spreads")
    if rewards is not None and not (np.isfinite([rewards.var, rewards.epsilon]).all() and rewards.var >= 0):
        raise ControllerError(f"{where}: the spread of its rewards is {rewards.var}")
