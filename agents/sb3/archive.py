"""Reading a Stable-Baselines3 zip without running anything that is in it.

The zip's JSON repeats every pickled object's attributes as text beside the pickle; the text and the shapes of the
weights are enough. Of pickles only spaces are read, as plain data; weights come through `read_tensors`.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from torch import Tensor, nn

from prunectl.agents.choices import options
from prunectl.agents.controller import ControllerError
from prunectl.agents.extractors import MlpExtractor
from prunectl.agents.files import LARGEST_JSON, check_regular, open_zip, read_entry
from prunectl.agents.pickles import PickleError, hold, read_pickle
from prunectl.agents.rows import width
from prunectl.agents.sb3.blueprint import EXTRACTOR_WIDTHS, WIDTHS, Blueprint, constructor_settings
from prunectl.agents.sb3.extractor import DEFAULTS, OURS, known_class
from prunectl.agents.sb3.families import recognise
from prunectl.agents.sb3.save import SIDECAR
from prunectl.agents.sb3.saved_spaces import read_space
from prunectl.agents.supported import LARGEST_SPACE, check_spaces
from prunectl.agents.tensors import LARGEST_WEIGHTS, check_finite, read_tensors
from prunectl.registry import one_line

#: Numbers that the observations of a rollout may hold, with their masks; setting up an algorithm on policy makes room.
LARGEST_ROLLOUT = 2**28


@dataclass(frozen=True)
class Archive:
    """What a zip holds, as plain data: its JSON, its weights by name, and our own sidecar if it has one."""

    data: Mapping[str, Any]
    state: Mapping[str, Tensor]
    variables: Mapping[str, Tensor]
    sidecar: Mapping[str, Any]


def read_archive(path: Path, trusted: bool = False) -> Archive:
    """Open a zip and read its JSON and tensors. ``trusted`` may have a policy of a user's own class.

    Raises:
        ControllerError: not a zip, cut short, not of Stable-Baselines3, or weights that are no plain tensors.
    """
    check_regular(path)
    try:
        with path.open("rb") as stream, open_zip(stream) as archive:
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
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error, NotImplementedError, RuntimeError) as error:  # type: ignore[attr-defined]
        raise ControllerError(f"{path}: not a readable zip ({one_line(error)}); was it cut short?") from error
    check_finite(state, str(path))
    if recognise(data, str(path), trusted) == "ars":  # sb3-contrib before 1.7 numbered no layer of the linear policy
        state = {
            re.sub(r"^action_net\.(weight|bias)$", r"action_net.0.\1", key): tensor for key, tensor in state.items()
        }
    return Archive(data, state, variables, sidecar)


def is_archive(path: Path) -> bool:
    """Whether a file is what Stable-Baselines3 saves, by what is in it."""
    try:
        check_regular(path)
        with path.open("rb") as stream, open_zip(stream) as archive:
            return "policy.pth" in archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def sees_goals(archive: Archive) -> bool:
    """Whether it is an agent of HER as it was before it took observations by name: their vector is made of them."""
    return "model_class" in archive.data and "n_sampled_goal" in archive.data


def blueprint(archive: Archive, where: str) -> tuple[Blueprint, Mapping[str, Tensor]]:
    """Everything but the weights, from the readable entries alone; and the weights as `build` takes them.

    Raises:
        ControllerError: something needed is readable nowhere; never a guess.
    """
    algorithm = recognise(archive.data, where)
    action_space = read_space(archive.data, "action_space", where)
    observation_space = read_space(archive.data, "observation_space", where)
    check_spaces(observation_space, action_space, where)
    settings = constructor_settings(algorithm, {**archive.data, "train_freq": _frequency(archive.data)})
    rollout = settings.get("n_steps", 1)
    kept = width(observation_space) + (sum(options(action_space)) if algorithm == "maskable_ppo" else 0)
    if not (isinstance(rollout, int) and 1 <= rollout <= LARGEST_ROLLOUT // kept):
        raise ControllerError(f"{where}: its rollouts are said to have {str(rollout)[:20]} steps")
    policy = _policy(archive.data)
    arguments = _policy_kwargs(archive.data, where)
    if algorithm == "ars":
        # Its two policies differ in what they do unasked; the linear one takes no widths.
        linear = "net_arch" not in (archive.data.get("policy_kwargs") or {}) and len(archive.state) <= 2
        arguments = {"squash_output": not linear, **arguments}
    known = known_class(arguments.get("features_extractor_class", DEFAULTS[policy]), archive.state)
    return Blueprint(
        algorithm,
        observation_space,
        action_space,
        settings,
        {**arguments, **known.arguments},
        archive.variables,
        policy,
    ), known.renamed(archive.state)


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    content = read_entry(archive, name, LARGEST_JSON)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ControllerError(f"{path}: its '{name}' is not readable JSON ({one_line(error)})") from error
    if not isinstance(data, dict):
        raise ControllerError(f"{path}: its '{name}' is not a JSON object")
    return data


def _tensors(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Tensor]:
    content = read_entry(archive, name, LARGEST_WEIGHTS)
    try:
        loaded = read_tensors(content)
    except ControllerError as error:
        raise ControllerError(f"{path}: its '{name}' holds no plain tensors and is not opened ({error})") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, Mapping):
        raise ControllerError(f"{path}: its '{name}' is no table of tensors")
    return {key: value for key, value in loaded.items() if isinstance(value, Tensor)}


def _frequency(data: Mapping[str, Any]) -> tuple[int, str] | None:
    """How often it learns, in steps or episodes: of that there is a pickle alone. None where it is no plain data."""

    def admit(module: str, name: str) -> Callable[..., Any]:
        return {"TrainFreq": lambda *parts: parts, "TrainFrequencyUnit": lambda unit: unit}.get(name, hold)

    try:
        raw = base64.b64decode(data["train_freq"][":serialized:"], validate=True)
        every, unit = read_pickle(io.BytesIO(raw), admit)
    except (PickleError, KeyError, TypeError, ValueError):
        return None
    known = isinstance(every, int) and 0 < every <= LARGEST_ROLLOUT and unit in ("step", "episode")
    return (every, unit) if known else None


# Policy arguments


def _policy(data: Mapping[str, Any]) -> str:
    """What kind of policy it is, which says what extractor it has by default: Mlp, Cnn or MultiInput."""
    entry = data.get("policy_class")
    # The class itself is in the pickle alone; its constructor is printed, and so is its name where that is plain text.
    said = " ".join(str(entry.get(key, "")) for key in ("__init__", "__name__")) if isinstance(entry, Mapping) else ""
    named = re.search(r"(MultiInput|Cnn)\w*Policy", said[:1000])
    return named[1] if named else "Mlp"


def _policy_kwargs(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    entries = data.get("policy_kwargs") or {}
    if not isinstance(entries, Mapping):
        raise ControllerError(f"{where}: its policy arguments are unreadable; --trust unpickles them, on your word")
    known: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(
            ("use_sde", "full_std", "use_expln", "squash_output", "ortho_init", "normalize_images"), _plain
        ),
        **dict.fromkeys(("share_features_extractor", "batch_norm", "shared_lstm", "enable_critic_lstm"), _plain),
        **dict.fromkeys(("log_std_init", "clip_mean", "batch_norm_momentum", "batch_norm_eps"), _plain),
        "renorm_warmup_steps": _plain,
        "activation_fn": _activation,
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


def _named(module: Any, pattern: str, kind: type, value: Any) -> Any:
    """The class of ``module`` that the text names; of ``kind``, for a file may name anything there."""
    match = re.search(pattern, str(value))
    found = getattr(module, match[1], None) if match else None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(value)
    return found


def _activation(value: Any) -> Any:
    if "torch.nn.modules.linear.Identity" in str(value):
        return nn.Identity
    return _named(nn.modules.activation, r"torch\.nn\.modules\.activation\.(\w+)", nn.Module, value)


def _optimizer(value: Any) -> Any:
    if "rmsprop_tf_like.RMSpropTFLike" in str(value):
        return RMSpropTFLike
    return _named(torch.optim, r"torch\.optim\.\w+\.(\w+)", torch.optim.Optimizer, value)


#: Features extractors by the name of their class; None for what is there without being named.
_EXTRACTORS: dict[str, type[BaseFeaturesExtractor] | None] = {
    "stable_baselines3.common.torch_layers.FlattenExtractor": None,
    "stable_baselines3.common.torch_layers.NatureCNN": NatureCNN,
    "stable_baselines3.common.torch_layers.CombinedExtractor": CombinedExtractor,
    **{f"prunectl.agents.extractors.{kind.__name__}": kind for kind in OURS},
    "agents.extractors.MlpExtractor": MlpExtractor,  # its name in zips from before everything was `prunectl.`
}


def _extractor(value: Any) -> Any:
    named = re.search(r"<class '([\w.]+)'>", str(value))
    if named is None or named[1] not in _EXTRACTORS:
        raise ValueError(value)
    return _EXTRACTORS[named[1]]


def _extractor_arguments(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):  # a dict that holds a class is printed as Python does
        if not set(re.findall(r"'(\w+)':", value)) <= {"activation_fn", "widths"}:
            raise ValueError(value)
        value = {"activation_fn": value} if "activation_fn" in value else {}
    found: dict[str, Any] = {}
    for key, item in dict(value).items():
        if key == "activation_fn":
            found[key] = _activation(item)
        elif key == "strides":
            found[key] = _small_numbers(item)
        elif key == "inputs":
            found[key] = _indices(item)
        elif key == "normalized_image":
            found[key] = bool(_plain(item))
        elif key == "cnns":
            found[key] = {str(part): {"strides": _small_numbers(given["strides"])} for part, given in item.items()}
        elif key not in (":type:", ":serialized:", *EXTRACTOR_WIDTHS):
            raise ValueError(value)
    return found or None


def _indices(value: Any) -> list[int]:
    """Which numbers of an observation are read; the extractor holds them against how many there are."""
    if not (isinstance(value, list) and len(value) <= LARGEST_SPACE and all(type(one) is int for one in value)):
        raise ValueError(str(value)[:60])
    return list(value)


def _small_numbers(value: Any) -> list[int]:
    """Steps of convolutions."""
    if not (
        isinstance(value, list) and len(value) <= 100 and all(type(one) is int and 0 < one < 1000 for one in value)
    ):
        raise ValueError(value)
    return list(value)
