"""Checkpoints from the Hugging Face hub: ``hf://user/name``."""

from __future__ import annotations

from pathlib import Path

from prunectl.agents.controller import ControllerError
from prunectl.agents.rl_zoo import CURVES
from prunectl.references import HUB
from prunectl.registry import one_line

#: What a checkpoint ends in, rl-zoo's or CleanRL's.
_CHECKPOINTS = (".zip", ".cleanrl_model")
#: What an upload of theirs holds and we read; everything else stays on the hub.
_WANTED = (
    *(f"*{suffix}" for suffix in _CHECKPOINTS),
    "args.yml",
    "config.yml",
    "env_kwargs.yml",
    "*vec_norm*.pkl",
    "*vecnorm*.pkl",
)


def download(reference: str) -> Path:
    """Fetch a repository's checkpoint and configuration; the folder where they lie.

    Raises:
        ControllerError: no such repository, no network, or huggingface_hub is not installed.
    """
    repository = reference.removeprefix(HUB)
    if repository.count("/") != 1:
        raise ControllerError(f"'{reference}': expected hf://user/name")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ControllerError(f"'{reference}' needs huggingface_hub: pip install huggingface_hub") from error
    try:
        names = huggingface_hub.list_repo_files(repository)
        wanted = [n for n in names if n != CURVES and any(Path(n).match(pattern) for pattern in _WANTED)]
        paths = [Path(huggingface_hub.hf_hub_download(repository, name)) for name in wanted]
    except Exception as error:  # no such repository, no network, and each HTTP library its own errors for it
        raise ControllerError(f"'{reference}' cannot be fetched: {one_line(error)}") from error
    checkpoints = [path for path in paths if path.suffix in _CHECKPOINTS]
    if not checkpoints:
        raise ControllerError(f"'{reference}': the repository holds no checkpoint ({', '.join(_CHECKPOINTS)})")
    return checkpoints[0].parent
