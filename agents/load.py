"""The one loader: from whatever names a checkpoint to a controller."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from prunectl.agents import hub
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment import load as exported
from prunectl.agents.files import digest_of, is_whole_zip
from prunectl.agents.loaded import Loaded, plan_named, seed_named, task_named
from prunectl.agents.loaders import further, plugged
from prunectl.agents.networks import cleanrl
from prunectl.agents.networks.checkpoint import read_networks
from prunectl.agents.networks.controller import Networks
from prunectl.agents.rl_zoo import ARGUMENTS
from prunectl.agents.sb3.archive import is_archive
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.agents.sb3.load import load_run
from prunectl.agents.tdmpc.checkpoint import CONFIG, read_checkpoint
from prunectl.errors import DEBUG
from prunectl.references import HUB, ZOO, bundled_entry, check_reference
from prunectl.registry import one_line


def load(
    reference: str | Path, trust: bool = False, normalisation: Path | None = None, time_feature: bool = False
) -> Loaded:
    """Load a checkpoint; nothing from the file is executed unless it is trusted.

    Args:
        reference: an SB3 ``.zip``, an rl-zoo run folder, a TD-MPC ``.pt`` or its folder, a ``.safetensors`` of own
            networks, a ``.cleanrl_model`` or its folder, an exported ``.onnx``, ``.c`` or ``.elf``, a bundled name
            such as ``sac-pendulum``, or ``hf://user/name``.
        trust: let Stable-Baselines3 unpickle the file, and exported C be compiled and run, on the user's word.
        normalisation: the file with the statistics that observations are normalised by (what `VecNormalize` saves);
            by default those that the checkpoint holds or that lie beside it.
        time_feature: the observation ends with the share of the episode that is left, though no file says so.

    Raises:
        ControllerError: nothing there, or nothing that can be rebuilt; the message says what to do.
    """
    try:
        return _load(str(reference), _Word(trust, normalisation, time_feature))
    except ControllerError:
        if not further():  # no installed package has a loader for it
            raise
        return _load(str(reference), _Word(trust, normalisation, time_feature))
    except Exception as error:  # a damaged file may fail in any way, and so may a fault of ours
        if (isinstance(error, OSError) and error.filename is not None) or os.environ.get(DEBUG):
            raise
        reason = one_line(error)
        blame = f"please report it with what {DEBUG}=1 shows"
        whole = is_whole_zip(Path(reference))
        asked = (
            f"the file is whole, so this is a fault of prunectl: {blame}"
            if whole
            else f"is it damaged? If not, {blame}"
        )
        raise ControllerError(f"{reference}: it cannot be read ({reason}); {asked}") from error


@dataclass(frozen=True)
class _Word:
    """What the user says of a checkpoint."""

    trust: bool
    normalisation: Path | None
    time_feature: bool


def _load(text: str, word: _Word) -> Loaded:
    if text.startswith(HUB):
        folder, repository = hub.download(text), text.removeprefix(HUB)
        if (theirs := cleanrl.file_in(folder)) is not None:
            return _load_cleanrl(theirs, repository, repository.rpartition("/")[2], word)
        return load_run(folder, repository, **vars(word))
    path = Path(text)
    if text and path.exists():
        found = _load_path(path, _short_name(path.resolve()), word)
        return replace(found, folder=path if path.is_dir() else path.parent)
    check_reference(text)
    entry = bundled_entry(text)
    assert entry is not None
    return _load_path(ZOO / entry["name"], entry["name"], word)


def _load_path(path: Path, name: str, word: _Word) -> Loaded:
    """A TD-MPC checkpoint is a ``.pt`` or a folder with one; exports, own networks and CleanRL's have endings of their
    own; all else is Stable-Baselines3's."""
    if (foreign := plugged(path)) is not None:
        controller, digest, loader = foreign
        return Loaded(controller, name, None, None, digest, None, loader=loader)
    if exported.is_exported(path):
        _only_for_zips(path, word)
        return _load_exported(path, name, word.trust)
    if path.suffix == Networks.suffix:
        _only_for_zips(path, word)
        return _load_networks(path, name)
    if (theirs := cleanrl.file_in(path)) is not None:
        return _load_cleanrl(theirs, name, theirs.resolve().parent.name, word)
    tensors = sorted(path.glob("*.pt")) if path.is_dir() else [path] if path.suffix == ".pt" else []
    if tensors == [path] and is_archive(path):
        tensors = []
    if not tensors:
        return load_run(path, name, **vars(word))
    _only_for_zips(path, word)
    if len(tensors) > 1:
        raise ControllerError(f"{path}: {len(tensors)} .pt files where a TD-MPC folder has one; name the file")
    controller, config = read_checkpoint(tensors[0])
    beside = [path for path in (tensors[0].with_name(CONFIG),) if path.is_file()]
    return Loaded(
        controller=controller,
        name=name,
        task=task_named(config.get("task"), path),
        training_seed=seed_named(config.get("training_seed", config.get("seed"))),
        digest=digest_of(tensors[0], *beside),
        plan=plan_named(config.get("plan"), path),
    )


def _only_for_zips(path: Path, word: _Word) -> None:
    if word.normalisation is not None or word.time_feature:
        raise ControllerError(f"{path}: statistics and a time feature are given to Stable-Baselines3's zips alone")


def _load_networks(path: Path, name: str) -> Loaded:
    controller, said = read_networks(path)
    return Loaded(
        controller=controller,
        name=name,
        task=task_named(said.get("task"), path),
        training_seed=seed_named(said.get("training_seed")),
        digest=digest_of(path),
        plan=plan_named(said.get("plan"), path),
    )


def _load_cleanrl(path: Path, name: str, run: str, word: _Word) -> Loaded:
    controller, remarks = cleanrl.read_cleanrl(path, word.normalisation)
    task, seed = cleanrl.run_of(run)
    files = [path, *([] if word.normalisation is None else [word.normalisation])]
    return Loaded(controller, name, task_named(task, path), seed_named(seed), digest_of(*files), None, remarks)


def _load_exported(path: Path, name: str, trust: bool) -> Loaded:
    controller, said = exported.load_exported(path, trust)
    files = sorted(path.iterdir()) if path.is_dir() else [path, path.with_suffix(".h")]
    return Loaded(
        controller=controller,
        name=name,
        task=task_named(said.get("task"), path),
        training_seed=seed_named(said.get("training_seed")),
        digest=digest_of(*(file for file in files if file.is_file())),
        plan=plan_named(said.get("plan"), path),
    )


def _short_name(path: Path) -> str:
    """``sac/HalfCheetah-v3_1`` for a run folder under its algorithm's, else the file's or folder's own name.

    It is printed and stored: what a terminal would obey becomes a question mark.
    """
    folder = path if path.is_dir() else path.parent
    in_run = path.is_dir() or (path.with_suffix("") / ARGUMENTS).is_file() or (folder / CONFIG).is_file()
    name = folder.name if path.is_dir() or path.stem == "controller" else path.stem
    if folder.parent.name in (*ALGORITHMS, "tdmpc", "tdmpc2") and in_run:
        name = f"{folder.parent.name}/{folder.name}"
    return "".join(character if character.isprintable() else "?" for character in name)
