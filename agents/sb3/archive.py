"""Reading a Stable-Baselines3 zip without running anything that is in it.

The zip's JSON repeats every pickled object's attributes as text beside the pickle; the text and the shapes of the
weights are enough. Pickles are never opened, weights come through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn

from agents.controller import ControllerError
from agents.extractors import MlpExtractor
from agents.sb3.blueprint import WIDTHS, Blueprint, constructor_settings
from agents.sb3.families import recognise
from agents.sb3.save import SIDECAR
from agents.tensors import check_finite

#: No entry that we read may unpack to more; a controller's weights are far smaller, a zip bomb is not.
LARGEST_ENTRY = 512 * 2**20


@dataclass(frozen=True)
class Archive:
    """What a zip holds, as plain data: its JSON, its weights by name, and our own sidecar if it has one."""

    data: Mapping[str, Any]
    state: Mapping[str, Tensor]
    variables: Mapping[str, Tensor]
    sidecar: Mapping[str, Any]


def read_archive(path: Path) -> Archive:
    """Open a zip and read its JSON and tensors.

    Raises:
        ControllerError: not a zip, cut short, not of Stable-Baselines3, or weights that are no plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            missing = {"data", "policy.pth"} - names
            if missing:
                # A zip cut short ends inside its weights, which are a zip themselves: then that one is what opens.
                raise ControllerError(
                    f"{path}: no Stable-Baselines3 checkpoint, or one cut short: it has no '{sorted(missing)[0]}'"
                )
            data = _json(archive, "data", path)
            state = _tensors(archive, "policy.pth", path)
            variables = _tensors(archive, "pytorch_variables.pth", path) if "pytorch_variables.pth" in names else {}
            sidecar = _json(archive, SIDECAR, path) if SIDECAR in names else {}
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error, NotImplementedError) as error:  # type: ignore[attr-defined]
        raise ControllerError(f"{path}: not a readable zip ({error}); was it cut short?") from error
    check_finite(state, str(path))
    return Archive(data, state, variables, sidecar)


def blueprint(archive: Archive, where: str) -> Blueprint:
    """Everything but the weights, from the readable entries alone.

    Raises:
        ControllerError: something needed is readable nowhere; never a guess.
    """
    algorithm = recognise(archive.data, where)
    action_space = _space(archive.data, "action_space", where)
    observation_space = _space(archive.data, "observation_space", where)
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        raise ControllerError(f"{where}: observations {observation_space}; only vectors of numbers are supported")
    return Blueprint(
        algorithm,
        observation_space,
        action_space,
        constructor_settings(algorithm, archive.data),
        _policy_kwargs(archive.data, where),
        archive.variables,
    )


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_entry(archive, name, path))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ControllerError(f"{path}: its '{name}' is not readable JSON ({error})") from error
    if not isinstance(data, dict):
        raise ControllerError(f"{path}: its '{name}' is not a JSON object")
    return data


def _tensors(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Tensor]:
    raw = io.BytesIO(_entry(archive, name, path))
    try:
        loaded = torch.load(raw, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ControllerError(f"{path}: its '{name}' holds no plain tensors and is not opened ({reason})") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, Mapping):
        raise ControllerError(f"{path}: its '{name}' is no table of tensors")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_ENTRY:
        raise ControllerError(f"{path}: its '{name}' would unpack to over {LARGEST_ENTRY // 2**20} MiB")
    with archive.open(name) as stream:
        content = stream.read(LARGEST_ENTRY + 1)
    if len(content) > LARGEST_ENTRY:
        raise ControllerError(f"{path}: its '{name}' unpacks to more than it says")
    return content


# Spaces, from the text that SB3 writes beside the pickle


def _space(data: Mapping[str, Any], key: str, where: str) -> Any:
    entry = data.get(key)
    if not isinstance(entry, Mapping):
        raise ControllerError(f"{where}: it does not say its {key}")
    kind = str(entry.get(":type:", ""))
    if "discrete.Discrete" in kind and "n" in entry:
        return spaces.Discrete(int(entry["n"]), start=int(entry.get("start", 0)))
    if "box.Box" not in kind:
        raise ControllerError(f"{where}: its {key} is {kind or 'unreadable'}; vectors and Discrete are supported")
    shape = tuple(int(number) for number in re.findall(r"\d+", str(entry.get("_shape", entry.get("shape", "")))))
    dtype = np.dtype(str(entry.get("dtype", "float32")))
    bounds = [_bound(entry, side, shape, dtype, f"{where}: its {key}") for side in ("low", "high")]
    return spaces.Box(bounds[0], bounds[1], shape, dtype.type)


def _bound(
    entry: Mapping[str, Any], side: str, shape: tuple[int, ...], dtype: np.dtype[Any], where: str
) -> NDArray[Any]:
    numbers = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?)", str(entry.get(side, "")))
    size = int(np.prod(shape))
    if len(numbers) == 1:
        numbers = numbers * size
    if len(numbers) != size:
        raise ControllerError(f"{where}: its {side} bound does not fit its shape {shape}")
    return np.asarray([float(number) for number in numbers], dtype=dtype).reshape(shape)


# Policy arguments


def _policy_kwargs(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    entries = data.get("policy_kwargs") or {}
    if not isinstance(entries, Mapping):
        raise ControllerError(f"{where}: its policy arguments are unreadable; --trust unpickles them, on your word")
    known: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(
            ("use_sde", "full_std", "use_expln", "squash_output", "ortho_init", "normalize_images"), _plain
        ),
        **dict.fromkeys(("share_features_extractor", "batch_norm"), _plain),
        **dict.fromkeys(("log_std_init", "clip_mean", "batch_norm_momentum", "batch_norm_eps"), _plain),
        "renorm_warmup_steps": _plain,
        "activation_fn": _class_of(nn, r"torch\.nn\.modules\.activation\.(\w+)"),
        "optimizer_class": _optimizer,
        "optimizer_kwargs": dict,
        "features_extractor_class": _extractor,
        "features_extractor_kwargs": _extractor_arguments,
    }
    ignored = {":type:", ":serialized:", "device", *WIDTHS}
    found = {}
    for key, value in entries.items():
        if key in ignored:
            continue
        try:
            found[key] = known[key](value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ControllerError(
                f"{where}: policy argument '{key}' = {str(value)[:60]!r} cannot be rebuilt from its text; "
                "--trust unpickles it, on your word"
            ) from error
    return {key: value for key, value in found.items() if value is not None}


def _plain(value: Any) -> bool | int | float:
    if isinstance(value, bool | int | float):
        return value
    words = {"True": True, "False": False}
    return words[value] if value in words else float(value)


def _class_of(module: Any, pattern: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        match = re.search(pattern, str(value))
        if match is None:
            raise ValueError(value)
        return getattr(module, match[1])

    return convert


def _optimizer(value: Any) -> Any:
    if "rmsprop_tf_like.RMSpropTFLike" in str(value):
        return RMSpropTFLike
    return _class_of(torch.optim, r"torch\.optim\.\w+\.(\w+)")(value)


def _extractor(value: Any) -> Any:
    if "FlattenExtractor" in str(value):
        return None
    if "agents.extractors.MlpExtractor" not in str(value):
        raise ValueError(value)
    return MlpExtractor


def _extractor_arguments(value: Any) -> dict[str, Any] | None:
    entries = {key: item for key, item in dict(value).items() if key not in (":type:", ":serialized:", "widths")}
    if "activation_fn" in entries:
        entries["activation_fn"] = _class_of(nn, r"torch\.nn\.modules\.activation\.(\w+)")(entries["activation_fn"])
    return entries or None
