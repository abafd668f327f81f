"""What a public function is given: a model in memory, a controller, or something that names a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stable_baselines3.common.base_class import BaseAlgorithm

from prunectl import agents, envs
from prunectl.agents import Controller, ControllerError, Loaded
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.live import algorithm_name
from prunectl.agents.sb3.own_layers import controller_of
from prunectl.agents.surroundings import PLAIN
from prunectl.experiments.api.calling import log
from prunectl.experiments.api.place import Env, Place, place_of, place_of_model
from prunectl.experiments.episodes.evaluator import task_for


@dataclass(frozen=True)
class Subject:
    """A controller, where it is run, and the live object that it was taken from, if any."""

    loaded: Loaded
    place: Place | None
    source: BaseAlgorithm | None = None

    @property
    def controller(self) -> Controller:
        return self.loaded.controller

    @property
    def task(self) -> str:
        """The task's id as it exists today.

        Raises:
            ControllerError: nobody named one.
        """
        if self.place is None:
            raise ControllerError(
                f"{self.loaded.name}: it does not name its task: say which with env=... (--task ID at the "
                "command line), or give prune and export observations with inputs=... (--inputs ROWS.npy)"
            )
        return self.place.task

    def stored_task(self) -> str | None:
        """The task's id where it means something outside this process."""
        return self.place.task if self.place is not None and self.place.known else None


@runtime_checkable
class Measured(Protocol):
    """What `prune` gave."""

    def as_subject(self) -> Subject: ...


#: A Stable-Baselines3 model in memory, a controller, what `load` or `prune` gave, a checkpoint's path or name, or what
#: is known of one of these already.
Model = BaseAlgorithm | Controller | Loaded | Measured | Subject | str | Path


def subject_of(
    model: Model,
    env: Env | None = None,
    trust: bool = False,
    normalisation: str | Path | None = None,
    time_feature: bool = False,
    needed: bool = True,
) -> Subject:
    """Find out what a user means. What they should know of it goes to `calling.log`.

    Args:
        model: what is to be pruned or run. It is copied and stays as it is.
        env: where it is run; by default where the model learns, or the task that the checkpoint names.
        trust: unpickle a checkpoint, and run exported C, on the user's word.
        normalisation: the file of a checkpoint's observation statistics, where they do not lie beside it.
        time_feature: a checkpoint's observation ends with the share of the episode that is left.
        needed: a task that a file names, and that is unknown here, is an error.

    Raises:
        ControllerError: no such checkpoint, a model of no known algorithm, or one that does not fit the environment.
        TaskError: no such task, or an environment that cannot be made again.
    """
    if isinstance(model, Subject):
        return model
    if isinstance(model, Measured):
        measured = model.as_subject()
        if env is None:
            return measured
        model = measured.loaded
    place = None if env is None else place_of(env)
    if isinstance(model, BaseAlgorithm):
        return _of_model(model, place)
    if isinstance(model, Controller):
        loaded = Loaded(model, model.algorithm, None, None, _digest(model), None)
    elif not isinstance(model, Loaded | str | Path):
        raise ControllerError(
            f"a {type(model).__name__} is no controller: pass a model of Stable-Baselines3, what "
            "`prunectl.Controller.of` makes of networks, what `prune` gave, or the path or the name of a checkpoint"
        )
    else:
        beside = None if normalisation is None else Path(normalisation)
        loaded = model if isinstance(model, Loaded) else agents.load(model, trust, beside, time_feature)
        for remark in loaded.remarks:
            log.warning(remark)
    if place is None:
        place = _named(loaded, trust, needed)
    if place is not None:
        if isinstance(loaded.controller, SB3Controller) and (place.normalisation or place.rewards):
            seen = replace(loaded.controller, normalisation=place.normalisation, rewards=place.rewards)
            loaded = replace(loaded, controller=seen)
        if isinstance(loaded.controller, SB3Controller) and not place.known:  # given whole, wrappers and all
            loaded = replace(loaded, controller=replace(loaded.controller, surroundings=PLAIN))
        place = _today(place, loaded.controller)
    if isinstance(env, str):
        loaded.remember_task(env)
    return Subject(loaded, place)


def _named(loaded: Loaded, trust: bool, needed: bool) -> Place | None:
    """Where the files say that a controller is run."""
    named = loaded.task_to_run(None, trust)
    if named is None:
        return None
    try:
        envs.resolve(named)
    except envs.TaskError as error:
        if needed:
            raise
        log.warning(f"{loaded.name}: {error}")
        return None
    return Place(named)


def _of_model(model: BaseAlgorithm, place: Place | None) -> Subject:
    own = place_of_model(model)
    place = place or own
    statistics = next((p for p in (place, own) if p is not None and (p.normalisation or p.rewards)), None)
    algorithm = algorithm_name(model)
    normalisation = None if statistics is None else statistics.normalisation
    controller = controller_of(algorithm, model, normalisation, algorithm)
    if statistics is not None and isinstance(controller, SB3Controller):
        controller = replace(controller, rewards=statistics.rewards)
    loaded = Loaded(controller, algorithm, None, model.seed, _digest(controller), None)
    return Subject(loaded, None if place is None else _today(place, controller), model)


def _today(place: Place, controller: Controller) -> Place:
    task, remark = task_for(controller, place.task)
    if remark:
        log.warning(remark)
    return place if task == place.task else replace(place, task=task)


def _digest(controller: Controller) -> str:
    """A hash of all that a controller in memory computes with."""
    found = hashlib.sha256(controller.algorithm.encode())
    tensors: dict[str, Any] = controller.networks.state_dict()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().numpy().tobytes())
    if isinstance(controller, SB3Controller) and controller.normalisation is not None:
        found.update(repr(controller.normalisation.as_json()).encode())
    return found.hexdigest()
