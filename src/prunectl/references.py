"""What names a checkpoint. Nothing heavy is imported here: a name that means nothing is refused at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prunectl.errors import ControllerError

#: Where the bundled controllers lie.
ZOO = Path(__file__).parent / "agents" / "zoo"
#: What a reference to the Hugging Face hub begins with.
HUB = "hf://"
#: The word that stands for uniformly random actions where `evaluate` takes a model.
RANDOM = "random"


@cache
def bundled() -> Sequence[Mapping[str, Any]]:
    """The index of the bundled controllers: name, algorithm, task, training seed, steps, dense return, command."""
    index = ZOO / "index.json"
    return tuple(json.loads(index.read_text())) if index.is_file() else ()


def bundled_entry(name: str) -> Mapping[str, Any] | None:
    """By full name, or without the training seed for the first one."""
    return next((entry for entry in bundled() if entry["name"] in (name, f"{name}-1")), None)


def check_reference(text: str) -> None:
    """Raise ControllerError where this is neither a file, nor a folder, nor a bundled name, nor one of the hub."""
    if text.startswith(HUB) or (text and Path(text).exists()) or bundled_entry(text) is not None:
        return
    near = difflib.get_close_matches(text, [entry["name"] for entry in bundled()], n=3, cutoff=0.5)
    offer = f"; did you mean {', '.join(near)}?" if near else "; `prunectl agents` lists what is bundled"
    raise ControllerError(f"no checkpoint '{text}': neither a file, nor a folder, nor a bundled name{offer}")
