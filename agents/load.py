"""The one loader: from whatever names a checkpoint to a controller."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agents import hub, rl_zoo
from agents.controller import Controller, ControllerError
from agents.deployment import load as exported
from agents.sb3 import archive as zips
from agents.sb3.blueprint import Blueprint, build, of_model
from agents.sb3.controller import Normalisation, RewardScale, SB3Controller
from agents.sb3.families import ALGORITHMS, recognise
from agents.sb3.statistics import read_statistics
from agents.tdmpc.checkpoint import CONFIG, read_checkpoint

#: Where the bundled controllers lie.
ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Loaded:
    """A controller and what its files say of it.

    ``task`` is the environment's id as written there, perhaps an old version. ``digest`` is a SHA-256 over everything
    that decides what the controller does. ``plan`` is the provenance of a pruned checkpoint.
    """

    controller: Controller
    name: str
    task: str | None
    training_seed: int | None
    digest: str
    plan: Mapping[str, Any] | None

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
    except (ControllerError, OSError):
        raise
    except Exception as error:  # a damaged file may fail in any way; whichever it is, it is the file
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
    if exported.is_exported(path):
        return _load_exported(path, name, trust)
    tensors = [path] if path.suffix == ".pt" else sorted(path.glob("*.pt")) if path.is_dir() else []
    if not tensors:
        return _load_run(path, name, trust)
    if len(tensors) > 1:
        raise ControllerError(f"{path}: {len(tensors)} .pt files where a TD-MPC folder has one; name the file")
    controller, config = read_checkpoint(tensors[0])
    seed = config.get("training_seed", config.get("seed"))
    digest = hashlib.sha256(tensors[0].read_bytes())
    if (beside := tensors[0].with_name(CONFIG)).is_file():
        digest.update(beside.read_bytes())
    return Loaded(
        controller=controller,
        name=name,
        task=config.get("task"),
        training_seed=seed if isinstance(seed, int) else None,
        digest=digest.hexdigest(),
        plan=config.get("plan"),
    )


def _load_exported(path: Path, name: str, trust: bool) -> Loaded:
    controller, said = exported.load_exported(path, trust)
    task, seed = said.get("task"), said.get("training_seed")
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else (path, path.with_suffix(".h")):
        digest.update(file.read_bytes() if file.is_file() else b"")
    return Loaded(
        controller=controller,
        name=name,
        task=task if isinstance(task, str) else None,
        training_seed=seed if isinstance(seed, int) else None,
        digest=digest.hexdigest(),
        plan=None,
    )


def _load_run(path: Path, name: str, trust: bool) -> Loaded:
    run = rl_zoo.open_run(path)
    archive = zips.read_archive(run.checkpoint)
    where = str(run.checkpoint)
    normalisation, rewards = _statistics(archive.sidecar, run.statistics)
    blueprint = _unpickled(run.checkpoint, archive) if trust else zips.blueprint(archive, where)
    try:
        model = build(blueprint, archive.state)
    except ControllerError as error:
        raise ControllerError(f"{where}: {error}") from error
    controller = SB3Controller(blueprint, model.policy, normalisation, rewards)
    _check_statistics(controller, where)
    seed = archive.sidecar.get("training_seed", archive.data.get("seed"))
    digest = hashlib.sha256(run.checkpoint.read_bytes())
    if run.statistics is not None:
        digest.update(run.statistics.read_bytes())
    return Loaded(
        controller=controller,
        name=name,
        task=archive.sidecar.get("task") or run.environment,
        training_seed=seed if isinstance(seed, int) else None,
        digest=digest.hexdigest(),
        plan=archive.sidecar.get("plan"),
    )


def _statistics(sidecar: Mapping[str, Any], beside: Path | None) -> tuple[Normalisation | None, RewardScale | None]:
    """What observations and rewards were normalised by: as our own sidecar says, else as the run's folder does."""
    said = sidecar.get("normalisation")
    scale = sidecar.get("rewards")
    normalisation = Normalisation.from_json(said) if said else None
    rewards = RewardScale(**scale) if scale else None
    if normalisation is None and beside is not None:
        return read_statistics(beside)
    return normalisation, rewards


def _unpickled(path: Path, archive: zips.Archive) -> Blueprint:
    """What Stable-Baselines3 makes of the file when it may run what is in it."""
    algorithm = recognise(archive.data, str(path))
    try:
        return of_model(algorithm, ALGORITHMS[algorithm].load(path, device="cpu"))
    except Exception as error:  # unpickling may fail in any way
        raise ControllerError(f"{path}: Stable-Baselines3 cannot unpickle it ({error!r:.200})") from error


def _check_statistics(controller: SB3Controller, where: str) -> None:
    statistics = controller.normalisation
    shape = controller.observation_space.shape
    if statistics is not None and not statistics.mean.shape == statistics.var.shape == shape:
        raise ControllerError(
            f"{where}: its observation statistics have shape {statistics.mean.shape}, "
            f"its observations {controller.observation_space.shape}"
        )


def _short_name(path: Path) -> str:
    """``sac/HalfCheetah-v3_1`` for a run folder under its algorithm's, else the file's or folder's own name."""
    folder = path if path.is_dir() else path.parent
    in_run = path.is_dir() or (path.with_suffix("") / "args.yml").is_file() or (folder / CONFIG).is_file()
    if folder.parent.name in (*ALGORITHMS, "tdmpc") and in_run:
        return f"{folder.parent.name}/{folder.name}"
    return folder.name if path.is_dir() or path.stem == "controller" else path.stem
