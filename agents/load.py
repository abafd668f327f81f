"""The one loader: from whatever names a checkpoint to a controller."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from prunectl.agents import extractors, hub, rl_zoo
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.deployment import load as exported
from prunectl.agents.files import digest_of
from prunectl.agents.loaders import further, plugged
from prunectl.agents.sb3 import archive as zips
from prunectl.agents.sb3.blueprint import Blueprint, build, of_model
from prunectl.agents.sb3.controller import Normalisation, RewardScale, SB3Controller
from prunectl.agents.sb3.families import ALGORITHMS, recognise
from prunectl.agents.sb3.statistics import read_statistics
from prunectl.agents.tdmpc.checkpoint import CONFIG, read_checkpoint
from prunectl.registry import Plugin

#: Where the bundled controllers lie.
ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Loaded:
    """A controller and what its files say of it.

    ``task`` is the environment's id as written there, perhaps an old version. ``digest`` is a SHA-256 over everything
    that decides what the controller does. ``plan`` is the provenance of a pruned checkpoint. ``loader`` is the plug-in
    that read it, if one did.
    """

    controller: Controller
    name: str
    task: str | None
    training_seed: int | None
    digest: str
    plan: Mapping[str, Any] | None
    loader: Plugin | None = None

    def task_to_run(self, asked: str | None, trust: bool = False) -> str | None:
        """The task that the user asks for, else the one that the files name.

        Raises:
            ControllerError: the files name one of a module (``module:Id``). Making it would import the module, and a
                file does not decide what is run here unless it is trusted.
        """
        if asked is None and self.task is not None and ":" in self.task and not trust:
            raise ControllerError(
                f"{self.name}: its file names the task '{self.task}', of a module to import: "
                f"repeat it with --task {self.task} if you trust that module"
            )
        return asked or self.task


def load(reference: str | Path, trust: bool = False) -> Loaded:
    """Load a checkpoint; nothing from the file is executed unless it is trusted.

    Args:
        reference: an SB3 ``.zip``, an rl-zoo run folder, a TD-MPC ``.pt`` or its folder, an exported ``.onnx`` or
            ``.c``, a bundled name such as ``sac-pendulum``, or ``hf://user/name``.
        trust: let Stable-Baselines3 unpickle the file, and exported C be compiled and run, on the user's word.

    Raises:
        ControllerError: nothing there, or nothing that can be rebuilt; the message says what to do.
    """
    try:
        return _load(str(reference), trust)
    except ControllerError:
        if not further():  # no installed package has a loader for it
            raise
        return _load(str(reference), trust)
    except Exception as error:  # a damaged file may fail in any way; whichever it is, it is the file
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise ControllerError(f"{reference}: it cannot be read ({reason}); is it damaged?") from error


def _load(text: str, trust: bool) -> Loaded:
    if text.startswith(hub.PREFIX):
        return _load_run(hub.download(text), text.removeprefix(hub.PREFIX), trust)
    path = Path(text)
    if text and path.exists():
        return _load_path(path, _short_name(path.resolve()), trust)
    entry = _bundled_entry(text)
    if entry is None:
        near = difflib.get_close_matches(text, [e["name"] for e in bundled()], n=3, cutoff=0.5)
        offer = f"; did you mean {', '.join(near)}?" if near else "; `prunectl agents` lists what is bundled"
        raise ControllerError(f"no checkpoint '{text}': neither a file, nor a folder, nor a bundled name{offer}")
    return _load_path(ZOO / entry["name"], entry["name"], trust)


@cache
def bundled() -> Sequence[Mapping[str, Any]]:
    """The index of the bundled controllers: name, algorithm, task, training seed, steps, dense return, command."""
    index = ZOO / "index.json"
    return tuple(json.loads(index.read_text())) if index.is_file() else ()


def _bundled_entry(name: str) -> Mapping[str, Any] | None:
    """By full name, or without the training seed for the first one."""
    return next((entry for entry in bundled() if entry["name"] in (name, f"{name}-1")), None)


def _load_path(path: Path, name: str, trust: bool) -> Loaded:
    """A TD-MPC checkpoint is a ``.pt`` or a folder with one, exports have endings of their own; all else is
    Stable-Baselines3's."""
    if (foreign := plugged(path)) is not None:
        controller, digest, loader = foreign
        return Loaded(controller, name, None, None, digest, None, loader)
    if exported.is_exported(path):
        return _load_exported(path, name, trust)
    tensors = [path] if path.suffix == ".pt" else sorted(path.glob("*.pt")) if path.is_dir() else []
    if not tensors:
        return _load_run(path, name, trust)
    if len(tensors) > 1:
        raise ControllerError(f"{path}: {len(tensors)} .pt files where a TD-MPC folder has one; name the file")
    controller, config = read_checkpoint(tensors[0])
    beside = [path for path in (tensors[0].with_name(CONFIG),) if path.is_file()]
    return Loaded(
        controller=controller,
        name=name,
        task=_task(config.get("task"), path),
        training_seed=_seed(config.get("training_seed", config.get("seed"))),
        digest=digest_of(tensors[0], *beside),
        plan=_plan(config.get("plan"), path),
    )


def _load_exported(path: Path, name: str, trust: bool) -> Loaded:
    controller, said = exported.load_exported(path, trust)
    files = sorted(path.iterdir()) if path.is_dir() else [path, path.with_suffix(".h")]
    return Loaded(
        controller=controller,
        name=name,
        task=_task(said.get("task"), path),
        training_seed=_seed(said.get("training_seed")),
        digest=digest_of(*(file for file in files if file.is_file())),
        plan=_plan(said.get("plan"), path),
    )


def _load_run(path: Path, name: str, trust: bool) -> Loaded:
    run = rl_zoo.open_run(path)
    archive = zips.read_archive(run.checkpoint)
    where = str(run.checkpoint)
    normalisation, rewards = _statistics(archive.sidecar, run.statistics, where)
    blueprint = _unpickled(run.checkpoint, archive) if trust else zips.blueprint(archive, where)
    try:
        model = build(blueprint, archive.state)
    except ControllerError as error:
        raise ControllerError(f"{where}: {error}") from error
    controller = SB3Controller(blueprint, model.policy, normalisation, rewards)
    _check_statistics(controller, where)
    return Loaded(
        controller=controller,
        name=name,
        task=_task(archive.sidecar.get("task") or run.environment, path),
        training_seed=_seed(archive.sidecar.get("training_seed", archive.data.get("seed"))),
        digest=digest_of(run.checkpoint, *([] if run.statistics is None else [run.statistics])),
        plan=_plan(archive.sidecar.get("plan"), path),
    )


def _task(said: Any, path: Path) -> str | None:
    """An environment's id, which is printed and looked up: one short line."""
    if said is None or (isinstance(said, str) and said.isprintable() and len(said) <= 200):
        return said
    raise ControllerError(f"{path}: the task it names is no environment's id: {str(said)[:60]!r}")


def _seed(said: Any) -> int | None:
    """A seed that a store can hold, else none: nothing is computed from it."""
    return said if type(said) is int and 0 <= said < 2**63 else None


def _plan(said: Any, path: Path) -> Mapping[str, Any] | None:
    if said is None or isinstance(said, Mapping):
        return said
    raise ControllerError(f"{path}: the plan in it is no JSON object")


def _statistics(
    sidecar: Mapping[str, Any], beside: Path | None, where: str
) -> tuple[Normalisation | None, RewardScale | None]:
    """What observations and rewards were normalised by: as our own sidecar says, else as the run's folder does."""
    said = sidecar.get("normalisation")
    scale = sidecar.get("rewards")
    try:
        normalisation = Normalisation.from_json(said) if said else None
        rewards = RewardScale(*(float(scale[name]) for name in ("var", "clip", "epsilon"))) if scale else None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise ControllerError(f"{where}: the statistics in it cannot be read ({reason})") from error
    if normalisation is None and beside is not None:
        return read_statistics(beside)
    return normalisation, rewards


def _unpickled(path: Path, archive: zips.Archive) -> Blueprint:
    """What Stable-Baselines3 makes of the file when it may run what is in it."""
    algorithm = recognise(archive.data, str(path))
    try:
        with _old_names():
            return of_model(algorithm, ALGORITHMS[algorithm].load(path, device="cpu"))
    except Exception as error:  # unpickling may fail in any way
        raise ControllerError(f"{path}: Stable-Baselines3 cannot unpickle it ({error!r:.200})") from error


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


def _check_statistics(controller: SB3Controller, where: str) -> None:
    statistics = controller.normalisation
    shape = controller.observation_space.shape
    if statistics is not None and not statistics.mean.shape == statistics.var.shape == shape:
        raise ControllerError(
            f"{where}: its observation statistics have shape {statistics.mean.shape}, "
            f"its observations {controller.observation_space.shape}"
        )
    if statistics is not None:
        numbers = [*statistics.mean, *statistics.var, statistics.epsilon]
        if not (np.isfinite(numbers).all() and (statistics.var + statistics.epsilon > 0).all() and statistics.clip > 0):
            raise ControllerError(f"{where}: its observation statistics are no finite means and positive spreads")
    rewards = controller.rewards
    if rewards is not None and not (np.isfinite([rewards.var, rewards.epsilon]).all() and rewards.var >= 0):
        raise ControllerError(f"{where}: the spread of its rewards is {rewards.var}")


def _short_name(path: Path) -> str:
    """``sac/HalfCheetah-v3_1`` for a run folder under its algorithm's, else the file's or folder's own name.

    It is printed and stored: what a terminal would obey becomes a question mark.
    """
    folder = path if path.is_dir() else path.parent
    in_run = path.is_dir() or (path.with_suffix("") / "args.yml").is_file() or (folder / CONFIG).is_file()
    name = folder.name if path.is_dir() or path.stem == "controller" else path.stem
    if folder.parent.name in (*ALGORITHMS, "tdmpc") and in_run:
        name = f"{folder.parent.name}/{folder.name}"
    return "".join(character if character.isprintable() else "?" for character in name)
